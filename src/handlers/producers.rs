//! InitProducerId (idempotent producers) and DescribeProducers.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use crate::base::{PartitionKey, ShardId};
use crate::handlers::call::{Kind, scatter};
use crate::handlers::offsets::code_of;
use crate::handlers::{Response, answer, answer_cold};
use crate::mesh::{Answer, Ask, ControlAnswer, ControlAsk, Shard};
use crate::metadata::check_name;
use crate::protocol::frame::RequestHeader;
use crate::protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::{ErrorCode, Malformed, Message, Str, cold};

pub(super) async fn init_producer_id(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = InitProducerIdRequest::decode(header.version, body)?;
    let refused = |error| InitProducerIdResponse {
        error,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    let response = match request.transactional_id.as_deref() {
        Some("") => refused(ErrorCode::InvalidRequest),
        // There is no transaction coordinator; this is what a client sees while there is none.
        Some(_) => refused(ErrorCode::CoordinatorNotAvailable),
        // An id goes with its epoch (`KafkaApis.handleInitProducerIdRequest`).
        None if (request.producer_id == -1) != (request.producer_epoch == -1) => {
            refused(ErrorCode::InvalidRequest)
        }
        None => match next_producer_id(shard).await {
            Some(producer_id) => {
                let response = InitProducerIdResponse::default();
                InitProducerIdResponse { producer_id, producer_epoch: 0, ..response }
            }
            None => refused(ErrorCode::CoordinatorLoadInProgress),
        },
    };
    Ok(answer(header, &response))
}

/// An id nobody else has: from this core's block, or from a new block.
async fn next_producer_id(shard: &Rc<Shard>) -> Option<i64> {
    loop {
        let next = shard.producer_ids.borrow_mut().next();
        if next.is_some() {
            return next;
        }
        let ask = Ask::Control(ControlAsk::AllocateProducerIds);
        match shard.ask(ShardId(0), ask).await {
            Some(Answer::Control(ControlAnswer::ProducerIds(Some(block)))) => {
                // Another request may have fetched a block meanwhile; the later one is kept, the
                // rest of the earlier one is never handed out.
                *shard.producer_ids.borrow_mut() = block;
            }
            _ => return None,
        }
    }
}

pub(super) async fn describe(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request: DescribeProducersRequest = cold::decode(header.version, body)?;
    let image = shard.image();
    let mut response = DescribeProducersResponse::default();
    let mut questions = Vec::new();
    let mut places = Vec::new();
    // A partition may have ten thousand producers: a small request must not list them often.
    let mut seen = BTreeSet::new();
    for asked in &request.topics {
        let topic = image.topic_named(&asked.name);
        let is_a_name = check_name(&asked.name).is_ok();
        let mut partitions = Vec::with_capacity(asked.partition_indexes.len());
        for index in &asked.partition_indexes {
            let known = topic.filter(|topic| topic.partition(*index).is_some());
            let error = match known {
                Some(topic) if !seen.insert((topic.id, *index)) => ErrorCode::InvalidRequest,
                Some(topic) => {
                    let key = PartitionKey { topic: topic.id, partition: *index };
                    questions.push((key, ()));
                    places.push((response.topics.len(), partitions.len()));
                    ErrorCode::None
                }
                None if !is_a_name => ErrorCode::InvalidTopicException,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            partitions.push(
                PartitionResponse::default()
                    .with_partition_index(*index)
                    .with_error_code(error.code())
                    .with_error_message(message_of(error)),
            );
        }
        let result =
            TopicResponse::default().with_name(asked.name.clone()).with_partitions(partitions);
        response.topics.push(result);
    }
    let kind = Kind {
        ask: |share: Vec<(PartitionKey, ())>| {
            Ask::Producers(share.into_iter().map(|(key, ())| key).collect())
        },
        answers: |answer| match answer {
            Answer::Producers(lists) => Some(lists),
            _ => None,
        },
    };
    let lists = scatter(shard, questions, kind).await;
    for ((topic, partition), list) in places.into_iter().zip(lists) {
        let place = &mut response.topics[topic].partitions[partition];
        let error = match list {
            Some(Ok(active)) => {
                place.active_producers = active;
                continue;
            }
            Some(Err(error)) => code_of(error),
            None => ErrorCode::RequestTimedOut,
        };
        place.error_code = error.code();
        place.error_message = message_of(error);
    }
    Ok(answer_cold(header, &response))
}

fn message_of(error: ErrorCode) -> Option<Str> {
    (error != ErrorCode::None).then(|| Str::from_static_str(error.message()))
}
