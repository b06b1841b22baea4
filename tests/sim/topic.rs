//! The topic that all producers write and all consumers read.

use corelog::base::Uuid;
use corelog::protocol::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::protocol::{ErrorCode, Message, Str};
use corelog::runtime::Runtime;

use crate::client::{Connection, PAUSE};

/// The topic that all write and read.
pub const TOPIC: &str = "numbers";

/// The topic's name, for requests.
pub const fn topic_name() -> Str {
    Str::from_static_str(TOPIC)
}

impl Connection {
    /// Asks, and waits for the answer; `None` when the connection was lost.
    pub async fn ask<Q: Message, A: Message>(&mut self, version: i16, question: &Q) -> Option<A> {
        let header = self.send(version, question).await?;
        self.receive(&header).await
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
