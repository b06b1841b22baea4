//! Somebody who makes, grows, empties and deletes topics and changes settings while others work.

use std::collections::{BTreeMap, BTreeSet};

use corelog::protocol::metadata::{MetadataRequest, MetadataResponse};
use corelog::protocol::{ApiKey, ErrorCode, Str, cold};
use corelog::runtime::Runtime;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};
use kafka_protocol::protocol::{Encodable, Request};

use crate::check::Shared;
use crate::client::Connection;
use crate::topic::TOPIC;

/// Every topic of these begins like this.
const STEM: &str = "other-";

/// Topics of these at most.
const TOPICS: u64 = 6;

/// Resource type of a topic's settings.
const TOPIC_RESOURCE: i8 = 2;

/// Settings of the topic that all write and read, none of which may change what they see.
const SETTINGS: [(&str, &[&str]); 5] = [
    ("segment.index.bytes", &["24", "100", "4096"]),
    ("segment.ms", &["5", "50"]),
    ("index.interval.bytes", &["0", "100"]),
    ("compression.type", &["producer", "gzip", "lz4", "uncompressed"]),
    ("message.timestamp.type", &["CreateTime", "LogAppendTime"]),
];

/// What was acknowledged of other topics.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// How many partitions each has; none where it is gone.
    partitions: BTreeMap<String, Option<i32>>,
    /// Of these a request was not answered: it may be carried out whenever the broker gets to it,
    /// even after one that another connection sent later.
    doubtful: BTreeSet<String>,
}

impl Known {
    fn of(&self, name: &str) -> Option<Option<i32>> {
        self.partitions.get(name).copied()
    }

    /// Notes what is known of a topic from now on; nothing while a request is under way.
    fn note(&mut self, name: &str, known: Option<Option<i32>>) {
        match known {
            Some(known) if !self.doubtful.contains(name) => {
                self.partitions.insert(name.to_owned(), known);
            }
            Some(_) | None => drop(self.partitions.remove(name)),
        }
    }

    fn doubt(&mut self, name: String) {
        self.partitions.remove(&name);
        self.doubtful.insert(name);
    }
}

/// Does so many things, one after the other.
pub async fn meddle(runtime: Runtime, count: u64, seen: Shared) {
    let mut connection = Connection::open(&runtime).await;
    for _ in 0..count {
        let pause_us = runtime.random() % 20_000;
        runtime.sleep(std::time::Duration::from_micros(pause_us)).await;
        let name = format!("{STEM}{}", runtime.random() % TOPICS);
        if act(&runtime, &mut connection, &seen, &name).await.is_none() {
            seen.borrow_mut().topics.doubt(name);
            connection = Connection::open(&runtime).await;
        }
    }
    seen.borrow_mut().meddled = true;
}

fn one<T: Copy>(runtime: &Runtime, of: &[T]) -> T {
    of[(runtime.random() % of.len() as u64) as usize]
}

fn text(of: &str) -> Str {
    Str::from_string(of.to_owned())
}

/// Asks, and waits for the answer; `None` when the connection was lost.
async fn ask<Q: Request + Encodable>(
    connection: &mut Connection,
    key: ApiKey,
    version: i16,
    question: &Q,
) -> Option<Q::Response> {
    let header = connection.send_cold(key, version, question).await?;
    let body = connection.receive_body(&header).await?;
    Some(cold::decode_response::<Q>(version, body).expect("an answer that decodes"))
}

fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a known code")
}

/// The request that makes a topic.
fn creation(topic: TopicName, count: i32) -> CreateTopicsRequest {
    let row = CreatableTopic::default().with_name(topic).with_num_partitions(count);
    let row = row.with_replication_factor(1);
    CreateTopicsRequest::default().with_topics(vec![row]).with_timeout_ms(5000)
}

/// Does one thing; `None` when the connection was lost.
async fn act(
    runtime: &Runtime,
    connection: &mut Connection,
    seen: &Shared,
    name: &str,
) -> Option<()> {
    let topic = TopicName(text(name));
    let before = seen.borrow().topics.of(name);
    let note = |known: Option<Option<i32>>| seen.borrow_mut().topics.note(name, known);
    match runtime.random() % 5 {
        0 => {
            let count = 1 + (runtime.random() % 3) as i32;
            note(None);
            let answer = ask(connection, ApiKey::CreateTopics, 5, &creation(topic, count)).await?;
            match error(answer.topics[0].error_code) {
                ErrorCode::None => note(Some(Some(count))),
                ErrorCode::TopicAlreadyExists => {
                    assert_ne!(before, Some(None), "{name}: was deleted, is there");
                    note(before);
                }
                _ => {}
            }
        }
        1 => {
            let request = DeleteTopicsRequest::default().with_topic_names(vec![topic]);
            note(None);
            let request = request.with_timeout_ms(5000);
            let answer = ask(connection, ApiKey::DeleteTopics, 4, &request).await?;
            match error(answer.responses[0].error_code) {
                ErrorCode::None => note(Some(None)),
                ErrorCode::UnknownTopicOrPartition => {
                    let was_there = matches!(before, Some(Some(_)));
                    assert!(!was_there, "{name}: was created, is not there");
                    note(Some(None));
                }
                _ => {}
            }
        }
        2 => {
            let count = before.flatten().unwrap_or(1) + 1;
            let row = CreatePartitionsTopic::default().with_name(topic).with_count(count);
            let row = row.with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![row]);
            note(None);
            let request = request.with_timeout_ms(5000);
            let answer = ask(connection, ApiKey::CreatePartitions, 2, &request).await?;
            match error(answer.results[0].error_code) {
                ErrorCode::None => note(Some(Some(count))),
                ErrorCode::UnknownTopicOrPartition => note(Some(None)),
                _ => {}
            }
        }
        3 => {
            let row = DeleteRecordsPartition::default().with_partition_index(0).with_offset(-1);
            let row = DeleteRecordsTopic::default().with_name(topic).with_partitions(vec![row]);
            let request = DeleteRecordsRequest::default().with_topics(vec![row]);
            let request = request.with_timeout_ms(5000);
            ask(connection, ApiKey::DeleteRecords, 2, &request).await?;
        }
        _ => {
            let (setting, values) = one(runtime, &SETTINGS);
            let config = AlterableConfig::default().with_name(text(setting));
            let config = if runtime.random().is_multiple_of(4) {
                config.with_config_operation(1).with_value(None)
            } else {
                config.with_config_operation(0).with_value(Some(text(one(runtime, values))))
            };
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC_RESOURCE)
                .with_resource_name(text(TOPIC))
                .with_configs(vec![config]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            ask(connection, ApiKey::IncrementalAlterConfigs, 1, &request).await?;
        }
    }
    Some(())
}

/// Asks for a topic with one partition: what is answered.
pub async fn create(runtime: Runtime, name: &'static str) -> ErrorCode {
    let request = creation(TopicName(text(name)), 1);
    let mut connection = Connection::open(&runtime).await;
    let answer = ask(&mut connection, ApiKey::CreateTopics, 5, &request).await;
    error(answer.expect("no connection is lost").topics[0].error_code)
}

/// The topics of these that there are, and how many partitions each has.
async fn look(runtime: &Runtime) -> BTreeMap<String, i32> {
    let request = MetadataRequest {
        topics: None,
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let mut connection = Connection::open(runtime).await;
    let answer: MetadataResponse = connection.ask(12, &request).await.expect("no fault any more");
    let topics = answer.topics.into_iter().filter_map(|topic| {
        let name = topic.name?.to_string();
        assert_eq!(topic.error, ErrorCode::None, "{name}");
        let count = topic.partitions.len() as i32;
        name.starts_with(STEM).then_some((name, count))
    });
    topics.collect()
}

/// Checks the topics there are against what was acknowledged.
pub async fn check_topics(runtime: Runtime, known: Known) {
    let there = look(&runtime).await;
    for (name, partitions) in known.partitions {
        let found = there.get(&name).copied();
        assert_eq!(found, partitions, "{name}: an acknowledged change was lost");
    }
}
