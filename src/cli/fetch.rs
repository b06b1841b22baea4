//! Fetching, for `corelog consume` and the benchmark: one request at a time to each leader.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::{NodeId, Offset};
use crate::protocol::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
};
use crate::protocol::{ErrorCode, Str};

use super::client::{ClientError, Connection, Outcome};
use super::target::Target;

/// How much is asked for at a time.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Most bytes of an answer.
    pub bytes_max: i32,
    /// Most bytes of each partition in it.
    pub partition_bytes_max: i32,
    /// Least bytes the broker waits for.
    pub bytes_min: i32,
    /// How long it waits for them, in milliseconds.
    pub wait_ms: i32,
    /// 0 for all records, 1 for those of committed transactions.
    pub isolation: i8,
}

/// What one partition's part of an answer holds.
pub struct Fetched {
    /// The partition.
    pub partition: i32,
    /// Whole batches, and perhaps the beginning of one more.
    pub records: Bytes,
    /// The end of what consumers may read.
    pub high_watermark: u64,
    /// Transactions in it that were aborted: producer and first offset.
    pub aborted: Vec<(i64, u64)>,
}

/// Fetches from the partitions that `node` leads, each from its offset on.
pub async fn fetch(
    connection: &Connection,
    target: &Target,
    node: NodeId,
    from: &BTreeMap<i32, u64>,
    amounts: Amounts,
) -> Outcome<Vec<Fetched>> {
    let led = from.iter().filter(|(index, _)| target.leaders.get(*index) == Some(&node));
    let partitions = led.map(|(index, offset)| FetchPartition {
        index: *index,
        fetch_offset: Offset::from_wire(i64::try_from(*offset).unwrap_or(i64::MAX)),
        max_bytes: amounts.partition_bytes_max,
        ..FetchPartition::default()
    });
    let request = FetchRequest {
        max_wait_ms: amounts.wait_ms,
        min_bytes: amounts.bytes_min,
        max_bytes: amounts.bytes_max,
        isolation_level: amounts.isolation,
        topics: vec![FetchTopic {
            name: Str::from_string(target.name.clone()),
            topic_id: target.id,
            partitions: partitions.collect(),
        }],
        ..FetchRequest::default()
    };
    let answer: FetchResponse = connection.call(&request).await?;
    if answer.error != ErrorCode::None {
        return Err(ClientError::refused("fetch", answer.error, None));
    }
    let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    partitions.map(|partition| fetched(target, partition)).collect()
}

fn fetched(target: &Target, partition: FetchPartitionResponse) -> Outcome<Fetched> {
    if partition.error != ErrorCode::None {
        let what = format!("partition {}-{}", target.name, partition.index);
        return Err(ClientError::refused(what, partition.error, None));
    }
    let aborted = partition.aborted_transactions.unwrap_or_default();
    let aborted = aborted.iter();
    Ok(Fetched {
        partition: partition.index,
        records: partition.records.in_memory().cloned().unwrap_or_default(),
        high_watermark: partition.high_watermark.map_or(0, Offset::get),
        aborted: aborted
            .map(|it| (it.producer_id, it.first_offset.map_or(0, Offset::get)))
            .collect(),
    })
}
