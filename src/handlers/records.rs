//! DeleteRecords.

use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::base::PartitionKey;
use crate::handlers::call::{Kind, scatter};
use crate::handlers::{Response, answer_cold};
use crate::mesh::{Answer, Ask, Shard};
use crate::partition::replica::DeleteRecordsError;
use crate::protocol::frame::RequestHeader;
use crate::protocol::{ErrorCode, Malformed, cold};

pub(super) async fn delete_records(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request: DeleteRecordsRequest = cold::decode(header.version, body)?;
    let image = shard.image();
    let mut response = DeleteRecordsResponse::default();
    let mut orders = Vec::new();
    let mut places = Vec::new();
    for asked in &request.topics {
        let topic = image.topic_named(&asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let index = partition.partition_index;
            let known = topic.filter(|topic| topic.partition(index).is_some());
            let error = match known {
                None => ErrorCode::UnknownTopicOrPartition,
                Some(topic) if topic.is_internal() => ErrorCode::InvalidTopicException,
                Some(topic) => {
                    let key = PartitionKey { topic: topic.id, partition: index };
                    orders.push((key, partition.offset));
                    places.push((response.topics.len(), partitions.len()));
                    ErrorCode::None
                }
            };
            partitions.push(
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(index)
                    .with_low_watermark(-1)
                    .with_error_code(error.code()),
            );
        }
        let result = DeleteRecordsTopicResult::default()
            .with_name(asked.name.clone())
            .with_partitions(partitions);
        response.topics.push(result);
    }
    let kind = Kind {
        ask: Ask::DeleteRecords,
        answers: |answer| match answer {
            Answer::DeleteRecords(done) => Some(done),
            _ => None,
        },
    };
    let done = scatter(shard, orders, kind).await;
    for ((topic, partition), done) in places.into_iter().zip(done) {
        let place = &mut response.topics[topic].partitions[partition];
        match done {
            None => place.error_code = ErrorCode::RequestTimedOut.code(),
            Some(Ok(low)) => place.low_watermark = low.to_wire(),
            Some(Err(error)) => {
                let error = match error {
                    DeleteRecordsError::Policy => ErrorCode::PolicyViolation,
                    DeleteRecordsError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
                    DeleteRecordsError::NotLeader => ErrorCode::NotLeaderOrFollower,
                    DeleteRecordsError::Storage => ErrorCode::KafkaStorageError,
                };
                place.error_code = error.code();
            }
        }
    }
    Ok(answer_cold(header, &response))
}
