//! The topics of a run: made, grown, deleted, and looked up.

use std::collections::BTreeMap;

use corelog::base::Uuid;
use corelog::protocol::metadata::{MetadataRequest, MetadataResponse};
use corelog::protocol::{ApiKey, ErrorCode, Str};
use corelog::runtime::Runtime;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, TopicName,
};

use crate::client::PAUSE;
use crate::link::Link;
use crate::seen::Shared;

/// Every topic's name begins like this.
const STEM: &str = "topic-";

/// A pattern that all topics match.
pub const PATTERN_ALL: &str = "topic-.*";

/// The name of the topic of this number.
pub fn name_of(number: usize) -> String {
    format!("{STEM}{number}")
}

/// The topics there are, by name: how many partitions each has.
pub type Counts = BTreeMap<String, i32>;

/// Looks at all topics; `None` when the connection was lost.
pub async fn look(link: &mut Link, seen: &Shared) -> Option<Counts> {
    let request = MetadataRequest {
        topics: None,
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let answer: MetadataResponse = link.ask(12, &request).await?;
    let mut counts = Counts::new();
    for topic in answer.topics {
        let (Some(name), Some(id)) = (topic.name, topic.topic_id) else { continue };
        if name.starts_with(STEM) && topic.error == ErrorCode::None {
            seen.borrow_mut().names.insert(id, name.to_string());
            counts.insert(name.to_string(), topic.partitions.len() as i32);
        }
    }
    Some(counts)
}

/// The name of a topic, asking for it if need be; `None` for one that is gone.
pub async fn name(link: &mut Link, seen: &Shared, id: Uuid) -> Option<String> {
    for _ in 0..3 {
        if let Some(name) = seen.borrow().names.get(&id) {
            return Some(name.clone());
        }
        look(link, seen).await;
    }
    None
}

/// The id of a topic that was seen.
pub fn id(seen: &Shared, name: &str) -> Option<Uuid> {
    let seen = seen.borrow();
    seen.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
}

/// Looks at all topics until it succeeds.
pub async fn counts(runtime: &Runtime, link: &mut Link, seen: &Shared) -> Counts {
    loop {
        if let Some(counts) = look(link, seen).await {
            return counts;
        }
        runtime.sleep(PAUSE).await;
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(Str::from_string(name.to_owned()))
}

/// Creates a topic, and waits until it is there.
pub async fn create(runtime: &Runtime, link: &mut Link, seen: &Shared, name: &str, count: i32) {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(count)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    while !counts(runtime, link, seen).await.contains_key(name) {
        link.ask_cold(ApiKey::CreateTopics, 5, &request).await;
        runtime.sleep(PAUSE).await;
    }
}

/// Deletes a topic, and waits until it is gone.
pub async fn delete(runtime: &Runtime, link: &mut Link, seen: &Shared, name: &str) {
    let names = vec![topic_name(name)];
    let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(5000);
    while counts(runtime, link, seen).await.contains_key(name) {
        link.ask_cold(ApiKey::DeleteTopics, 4, &request).await;
        runtime.sleep(PAUSE).await;
    }
}

/// Adds partitions to a topic, and waits until they are there.
pub async fn grow(runtime: &Runtime, link: &mut Link, seen: &Shared, name: &str, count: i32) {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(name))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    while counts(runtime, link, seen).await.get(name).is_some_and(|now| *now < count) {
        link.ask_cold(ApiKey::CreatePartitions, 2, &request).await;
        runtime.sleep(PAUSE).await;
    }
}
