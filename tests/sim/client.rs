//! A small client of the protocol, on the simulated network.

use std::time::Duration;

use bytes::Bytes;
use corelog::protocol::cold;
use corelog::protocol::frame::{RequestHeader, finish};
use corelog::protocol::{ApiKey, Message};
use corelog::runtime::{Chunk, Runtime, StreamReader, StreamWriter};
use kafka_protocol::protocol::Encodable;

/// How long a client waits before it asks again.
pub const PAUSE: Duration = Duration::from_millis(5);

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
        let header = self.header(Q::KEY, version);
        let frame = header.request(question);
        self.send_frame(frame).await?;
        Some(header)
    }

    /// The same for APIs whose messages are another crate's.
    pub async fn send_cold<Q: Encodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        question: &Q,
    ) -> Option<RequestHeader> {
        let header = self.header(key, version);
        let mut writer = header.start();
        cold::encode_into(version, question, &mut writer).expect("a good request");
        self.send_frame(finish(writer).into_bytes()).await?;
        Some(header)
    }

    /// The header of the next question.
    pub fn header(&mut self, key: ApiKey, version: i16) -> RequestHeader {
        self.correlation_id += 1;
        let correlation_id = self.correlation_id;
        RequestHeader { key, version, correlation_id, client_id: None }
    }

    /// Sends a whole frame; `None` when the connection was lost.
    pub async fn send_frame(&mut self, frame: Bytes) -> Option<()> {
        self.writer.send(&[Chunk::Bytes(frame)]).await.ok()
    }

    /// The answer to the oldest question that has none yet; `None` when the connection was lost.
    pub async fn receive<A: Message>(&mut self, header: &RequestHeader) -> Option<A> {
        let body = self.receive_body(header).await?;
        Some(A::decode(header.version, body).expect("an answer that decodes"))
    }

    /// The same, not decoded.
    pub async fn receive_body(&mut self, header: &RequestHeader) -> Option<Bytes> {
        let mut length = [0; 4];
        self.fill(&mut length).await?;
        let mut body = vec![0; i32::from_be_bytes(length) as usize];
        self.fill(&mut body).await?;
        let parsed = header.parse_response(Bytes::from(body));
        let (correlation_id, body) = parsed.expect("an answer with a header");
        assert_eq!(correlation_id, header.correlation_id, "answers come in order");
        Some(body)
    }

    /// Says that no more questions will come; whether an answer comes then.
    pub async fn leave(self) -> bool {
        let Self { mut reader, writer, .. } = self;
        drop(writer);
        matches!(reader.read(&mut [0; 4]).await, Ok(1..))
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
