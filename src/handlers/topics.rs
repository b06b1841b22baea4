//! DescribeTopicPartitions and DescribeLogDirs.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};

use crate::base::{NodeId, PartitionKey, ShardId};
use crate::handlers::cluster::TOPIC_OPERATIONS;
use crate::handlers::{Response, answer, answer_cold};
use crate::mesh::{Answer, Ask, Shard};
use crate::metadata::check_name;
use crate::metadata::{Image, Partition, Topic};
use crate::protocol::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, LogDir, LogDirPartition, LogDirTopic,
};
use crate::protocol::frame::RequestHeader;
use crate::protocol::{ErrorCode, Malformed, Message, Str, cold};

pub(super) fn describe_partitions(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request: DescribeTopicPartitionsRequest = cold::decode(header.version, body)?;
    let image = shard.image();
    let wants_all = request.topics.is_empty();
    let from = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name.as_str());
    let from_partition = request.cursor.as_ref().map_or(0, |cursor| cursor.partition_index);
    let names: BTreeSet<String> = if wants_all {
        image.topics().map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    let cursor_fits = wants_all || request.cursor.is_none() || names.contains(from);
    if !cursor_fits || from_partition < 0 {
        // The schema has no place for an error of the whole request but each topic's.
        let topics = names.iter().map(|name| failed_topic(name, ErrorCode::InvalidRequest));
        let response = DescribeTopicPartitionsResponse::default().with_topics(topics.collect());
        return Ok(answer_cold(header, &response));
    }
    let limit = u32::try_from(request.response_partition_limit).unwrap_or(0);
    let limit = limit.min(shard.config().described_partitions_max);
    let mut left = (limit as usize).max(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.iter().filter(|name| name.as_str() >= from) {
        if left == 0 {
            response.next_cursor = Some(cursor_at(name, 0));
            break;
        }
        let first = if name == from { from_partition } else { 0 };
        let Some(topic) = image.topic_named(name) else {
            if !wants_all {
                response.topics.push(unknown_topic(name));
            }
            continue;
        };
        let mut rest = topic.partitions.range(first..);
        let page: Vec<_> = rest.by_ref().take(left).map(|(n, p)| described(*n, p)).collect();
        left -= page.len();
        response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(topic_name(name)))
                .with_topic_id(uuid::Uuid::from_bytes(topic.id.to_wire()))
                .with_is_internal(topic.is_internal())
                .with_partitions(page)
                .with_topic_authorized_operations(TOPIC_OPERATIONS),
        );
        if let Some((next, _)) = rest.next() {
            response.next_cursor = Some(cursor_at(name, *next));
            break;
        }
    }
    Ok(answer_cold(header, &response))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(Str::from_string(name.to_owned()))
}

fn cursor_at(name: &str, partition: i32) -> Cursor {
    Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition)
}

fn unknown_topic(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match check_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    failed_topic(name, error)
}

fn failed_topic(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(topic_name(name)))
        .with_is_internal(Topic::is_internal_name(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn ids(nodes: &[NodeId]) -> Vec<BrokerId> {
    nodes.iter().map(|node| BrokerId(node.0)).collect()
}

fn described(number: i32, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let error = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(error.code())
        .with_partition_index(number)
        .with_leader_id(BrokerId(partition.leader.map_or(-1, |node| node.0)))
        .with_leader_epoch(partition.leader_epoch.to_wire())
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&partition.isr))
        .with_eligible_leader_replicas(Some(ids(&partition.elr)))
        .with_last_known_elr(Some(ids(&partition.last_known_elr)))
}

/// Asks every core for the sizes of its partitions.
async fn sizes(shard: &Rc<Shard>) -> BTreeMap<PartitionKey, u64> {
    let shards = (0..shard.runtime.shard_count()).map(ShardId);
    let asked: Vec<_> = shards.map(|core| shard.ask(core, Ask::Sizes)).collect();
    let mut sizes = BTreeMap::new();
    for asked in asked {
        if let Some(Answer::Sizes(found)) = asked.await {
            sizes.extend(found);
        }
    }
    sizes
}

pub(super) async fn describe_log_dirs(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = DescribeLogDirsRequest::decode(header.version, body)?;
    let sizes = sizes(shard).await;
    let image = shard.image();
    let wanted = request.topics.as_ref().map(|topics| {
        let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        for topic in topics {
            wanted.entry(topic.name.as_str()).or_default().extend(&topic.partitions);
        }
        wanted
    });
    let directory = shard.config().log_dir.clone();
    let space = shard.runtime.disk().space(&directory).await;
    let (error, total, usable) = match space {
        Ok(space) => (ErrorCode::None, space.total_bytes, space.usable_bytes),
        Err(_) => (ErrorCode::KafkaStorageError, 0, 0),
    };
    let log_dir = LogDir {
        error,
        path: Str::from_string(directory.display().to_string()),
        topics: log_dir_topics(&image, &sizes, wanted.as_ref()),
        total_bytes: i64::try_from(total).unwrap_or(i64::MAX),
        usable_bytes: i64::try_from(usable).unwrap_or(i64::MAX),
        is_cordoned: false,
    };
    let response =
        DescribeLogDirsResponse { results: vec![log_dir], ..DescribeLogDirsResponse::default() };
    Ok(answer(header, &response))
}

fn log_dir_topics(
    image: &Image,
    sizes: &BTreeMap<PartitionKey, u64>,
    wanted: Option<&BTreeMap<&str, BTreeSet<i32>>>,
) -> Vec<LogDirTopic> {
    let mut topics = Vec::new();
    for topic in image.topics() {
        let numbers = wanted.map(|wanted| wanted.get(&*topic.name));
        let partitions: Vec<_> = topic
            .partitions
            .keys()
            .filter(|n| numbers.is_none_or(|set| set.is_some_and(|set| set.contains(*n))))
            .filter_map(|number| {
                let key = PartitionKey { topic: topic.id, partition: *number };
                Some(LogDirPartition {
                    index: *number,
                    size_bytes: i64::try_from(*sizes.get(&key)?).unwrap_or(i64::MAX),
                    offset_lag: 0,
                    is_future: false,
                })
            })
            .collect();
        if !partitions.is_empty() {
            let name = Str::from_string(topic.name.to_string());
            topics.push(LogDirTopic { name, partitions });
        }
    }
    topics
}
