//! ListOffsets and OffsetForLeaderEpoch.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::base::{LeaderEpoch, Offset, PartitionKey, Timestamp};
use crate::handlers::call::{Kind, OFFSETS, scatter};
use crate::handlers::{Response, answer, answer_cold};
use crate::mesh::{Answer, Ask, Shard};
use crate::partition::{EpochEnd, FetchError, Isolation, OffsetFound, OffsetQuery, TimestampQuery};
use crate::protocol::frame::RequestHeader;
use crate::protocol::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_PENDING_UPLOAD_TIMESTAMP, EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};
use crate::protocol::{ErrorCode, Malformed, Message, cold};

pub(super) fn code_of(error: FetchError) -> ErrorCode {
    match error {
        FetchError::NotLeader => ErrorCode::NotLeaderOrFollower,
        FetchError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        FetchError::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
        FetchError::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
        FetchError::Storage => ErrorCode::KafkaStorageError,
    }
}

/// The query of a wire timestamp; `None` when version `version` does not know it.
fn query_of(timestamp: i64, version: i16) -> Option<TimestampQuery> {
    let (query, since) = match timestamp {
        LATEST_TIMESTAMP => (TimestampQuery::Latest, 1),
        EARLIEST_TIMESTAMP => (TimestampQuery::Earliest, 1),
        MAX_TIMESTAMP => (TimestampQuery::MaxTimestamp, 7),
        EARLIEST_LOCAL_TIMESTAMP => (TimestampQuery::Earliest, 8),
        LATEST_TIERED_TIMESTAMP => (TimestampQuery::Tiered, 9),
        EARLIEST_PENDING_UPLOAD_TIMESTAMP => (TimestampQuery::Tiered, 11),
        time => (TimestampQuery::At(Timestamp::from_wire(time)?), 1),
    };
    (version >= since).then_some(query)
}

pub(super) async fn list_offsets(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = ListOffsetsRequest::decode(header.version, body)?;
    let image = shard.image();
    let isolation = match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let twice = named_twice(&request);
    let mut response = ListOffsetsResponse::default();
    let mut questions = Vec::new();
    let mut places = Vec::new();
    for asked in &request.topics {
        let topic = image.topic_named(&asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = partition.index;
            let query = query_of(partition.timestamp, header.version);
            let known = topic.filter(|topic| topic.partition(index).is_some());
            let error = match (query, known) {
                _ if twice.get(asked.name.as_str()).is_some_and(|set| set.contains(&index)) => {
                    ErrorCode::InvalidRequest
                }
                (None, _) => ErrorCode::UnsupportedVersion,
                (Some(_), None) => ErrorCode::UnknownTopicOrPartition,
                (Some(query), Some(topic)) => {
                    let key = PartitionKey { topic: topic.id, partition: index };
                    let current_leader_epoch = partition.current_leader_epoch;
                    questions.push((key, OffsetQuery { query, current_leader_epoch, isolation }));
                    places.push((response.topics.len(), partitions.len()));
                    ErrorCode::None
                }
            };
            partitions.push(not_found(index, error));
        }
        let name = asked.name.clone();
        response.topics.push(ListOffsetsTopicResponse { name, partitions });
    }
    let found = scatter(shard, questions, OFFSETS).await;
    for ((topic, partition), found) in places.into_iter().zip(found) {
        let place = &mut response.topics[topic].partitions[partition];
        *place = found_response(place.index, found);
    }
    Ok(answer(header, &response))
}

/// The partitions that are named more than once, by topic.
fn named_twice(request: &ListOffsetsRequest) -> BTreeMap<&str, BTreeSet<i32>> {
    let mut seen: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    let mut twice: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for topic in &request.topics {
        let seen = seen.entry(topic.name.as_str()).or_default();
        let numbers = topic.partitions.iter().map(|partition| partition.index);
        let again: BTreeSet<i32> = numbers.filter(|number| !seen.insert(*number)).collect();
        if !again.is_empty() {
            twice.entry(topic.name.as_str()).or_default().extend(again);
        }
    }
    twice
}

fn not_found(index: i32, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse { index, error, ..ListOffsetsPartitionResponse::default() }
}

fn found_response(
    index: i32,
    found: Option<Result<OffsetFound, FetchError>>,
) -> ListOffsetsPartitionResponse {
    match found {
        None => not_found(index, ErrorCode::RequestTimedOut),
        Some(Err(error)) => not_found(index, code_of(error)),
        Some(Ok(found)) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: found.epoch,
            ..not_found(index, ErrorCode::None)
        },
    }
}

pub(super) async fn epoch_ends(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request: OffsetForLeaderEpochRequest = cold::decode(header.version, body)?;
    let image = shard.image();
    let mut response = OffsetForLeaderEpochResponse::default();
    let mut questions = Vec::new();
    let mut places = Vec::new();
    for asked in &request.topics {
        let topic = image.topic_named(&asked.topic);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = partition.partition;
            let known = topic.filter(|topic| topic.partition(index).is_some());
            let mut end = EpochEndOffset::default()
                .with_partition(index)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            match (known, LeaderEpoch::from_wire(partition.leader_epoch)) {
                (None, _) => end.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                // "No epoch" has no end.
                (Some(_), None) => {}
                (Some(topic), Some(epoch)) => {
                    let key = PartitionKey { topic: topic.id, partition: index };
                    let current = LeaderEpoch::from_wire(partition.current_leader_epoch);
                    questions.push((key, (current, epoch)));
                    places.push((response.topics.len(), partitions.len()));
                }
            }
            partitions.push(end);
        }
        let result = OffsetForLeaderTopicResult::default()
            .with_topic(asked.topic.clone())
            .with_partitions(partitions);
        response.topics.push(result);
    }
    let kind = Kind {
        ask: |share: Vec<(PartitionKey, (Option<LeaderEpoch>, LeaderEpoch))>| {
            Ask::EpochEnds(share.into_iter().map(|(key, (now, asked))| (key, now, asked)).collect())
        },
        answers: |answer| match answer {
            Answer::EpochEnds(ends) => Some(ends),
            _ => None,
        },
    };
    let ends = scatter(shard, questions, kind).await;
    for ((topic, partition), end) in places.into_iter().zip(ends) {
        fill_end(&mut response.topics[topic].partitions[partition], end);
    }
    Ok(answer_cold(header, &response))
}

fn fill_end(place: &mut EpochEndOffset, end: Option<Result<Option<EpochEnd>, FetchError>>) {
    match end {
        None => place.error_code = ErrorCode::RequestTimedOut.code(),
        Some(Err(error)) => place.error_code = code_of(error).code(),
        Some(Ok(None)) => {}
        Some(Ok(Some(EpochEnd { epoch, end }))) => {
            place.leader_epoch = epoch.to_wire();
            place.end_offset = Offset::to_wire(end);
        }
    }
}
