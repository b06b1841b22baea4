//! A small client of the protocol, on the simulated network.

use std::time::Duration;

use bytes::Bytes;
use corelog::base::Uuid;
use corelog::protocol::frame::RequestHeader;
use corelog::protocol::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::protocol::{ErrorCode, Message, Str};
use corelog::runtime::{Chunk, Runtime, StreamReader, StreamWriter};

/// The topic that all write and read.
pub const TOPIC: &str = "numbers";

/// How long a client waits before it asks again.
pub const PAUSE: Duration = Duration::from_millis(5);

/// The topic's name, for requests.
pub const fn topic_name() -> Str {
    Str::from_static_str(TOPIC)
}

/// A connection to the broker.
pub struct Connection {
    reader: StreamReader,
    writer: StreamWriter,
    correlation_id: i32,
}

impl Connection {
    /// Connects, trying until the broker listens.
    pub async fn open(runtime: &Runtime) -> Self {
        loop {
            if let Ok((reader, writer)) = runtime.connect("broker:9092").await {
                return Self { reader, writer, correlation_id: 0 };
            }
            runtime.sleep(PAUSE).await;
        }
    }

    /// Sends a question: its header, to receive the answer with. `None` when the connection was
    /// lost.
    pub async fn send<Q: Message>(&mut self, version: i16, question: &Q) -> Option<RequestHeader> {
        self.correlation_id += 1;
        let header = RequestHeader {
            key: Q::KEY,
            version,
            correlation_id: self.correlation_id,
            client_id: None,
        };
        let frame = header.request(question);
        self.writer.send(&[Chunk::Bytes(frame)]).await.ok()?;
        Some(header)
    }

    /// The answer to the oldest question that has none yet; `None` when the connection was lost.
    pub async fn receive<A: Message>(&mut self, header: &RequestHeader) -> Option<A> {
        let mut length = [0; 4];
        self.fill(&mut length).await?;
        let mut body = vec![0; i32::from_be_bytes(length) as usize];
        self.fill(&mut body).await?;
        let parsed = header.parse_response(Bytes::from(body));
        let (correlation_id, body) = parsed.expect("an answer with a header");
        assert_eq!(correlation_id, header.correlation_id, "answers come in order");
        Some(A::decode(header.version, body).expect("an answer that decodes"))
    }

    /// Asks, and waits for the answer; `None` when the connection was lost.
    pub async fn ask<Q: Message, A: Message>(&mut self, version: i16, question: &Q) -> Option<A> {
        let header = self.send(version, question).await?;
        self.receive(&header).await
    }

    async fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => filled += count,
            }
        }
        Some(())
    }
}

/// Waits until the topic is there, creating it by asking: its id.
pub async fn find_topic(runtime: &Runtime, partitions: i32) -> Uuid {
    let topic = MetadataRequestTopic { name: Some(topic_name()), topic_id: None };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    let mut connection = Connection::open(runtime).await;
    loop {
        match connection.ask::<_, MetadataResponse>(12, &request).await {
            Some(answer) if answer.topics[0].error == ErrorCode::None => {
                let topic = &answer.topics[0];
                assert_eq!(topic.partitions.len(), partitions as usize);
                return topic.topic_id.expect("a topic has an id");
            }
            Some(_) => runtime.sleep(PAUSE).await,
            None => connection = Connection::open(runtime).await,
        }
    }
}
