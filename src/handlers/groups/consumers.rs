//! ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848).

use std::rc::Rc;

use bytes::Bytes;

use crate::base::Uuid;
use crate::group::message::{ConsumerDescribed, ConsumerHeartbeat, Refusal, TopicPartitions};
use crate::group::{Answer, Request};
use crate::handlers::cluster::GROUP_VERSION;
use crate::handlers::groups::admin::GROUP_OPERATIONS;
use crate::handlers::groups::{Named, ask, ask_many, host};
use crate::handlers::{Client, Response, answer};
use crate::mesh::Shard;
use crate::protocol::consumer_group::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatAssignment, OwnedTopic,
};
use crate::protocol::frame::RequestHeader;
use crate::protocol::group_admin::{
    ConsumerAssignment, ConsumerAssignmentTopic, ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse, DescribedConsumer, DescribedConsumerGroup,
};
use crate::protocol::{ErrorCode, Malformed, Message, Str};

/// `member_type` of members that speak the classic protocol (KIP-1099).
const MEMBER_CLASSIC: i8 = 0;
/// `member_type` of members that speak the consumer protocol.
const MEMBER_CONSUMER: i8 = 1;

pub(in crate::handlers) async fn consumer_heartbeat(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = ConsumerGroupHeartbeatRequest::decode(header.version, body)?;
    if !is_on(shard) {
        let error = ErrorCode::UnsupportedVersion;
        let response = ConsumerGroupHeartbeatResponse {
            error,
            error_message: words(error.into()),
            ..ConsumerGroupHeartbeatResponse::default()
        };
        return Ok(answer(header, &response));
    }
    let owned = |topics: &Vec<OwnedTopic>| -> Vec<(Uuid, Vec<i32>)> {
        let named = topics.iter().filter_map(|t| Some((t.topic_id?, t.partitions.clone())));
        named.collect()
    };
    let make = || {
        Request::ConsumerHeartbeat(ConsumerHeartbeat {
            version: header.version,
            group: request.group.clone(),
            member: request.member.clone(),
            epoch: request.member_epoch,
            instance: request.instance.clone(),
            rack: request.rack.clone(),
            rebalance_timeout_ms: (request.rebalance_timeout_ms != -1)
                .then_some(request.rebalance_timeout_ms),
            topics: request.topics.clone(),
            expression: request.regex.clone(),
            assignor: request.assignor.clone(),
            owned: request.owned.as_ref().map(owned),
            client_id: header.client_id.clone().unwrap_or_default(),
            client_host: host(client),
            random: shard.runtime.random_uuid().to_wire(),
        })
    };
    let Answer::ConsumerHeartbeat(result) = ask(shard, client, &request.group, make).await else {
        return Ok(Response::Close);
    };
    let response = match result {
        Err(refusal) => ConsumerGroupHeartbeatResponse {
            error: refusal.error,
            error_message: words(refusal),
            ..ConsumerGroupHeartbeatResponse::default()
        },
        Ok(beat) => ConsumerGroupHeartbeatResponse {
            member: Some(beat.member),
            member_epoch: beat.epoch,
            heartbeat_interval_ms: beat.heartbeat_interval_ms,
            assignment: beat.assignment.map(|topics| {
                let topic = |(id, partitions)| OwnedTopic { topic_id: Some(id), partitions };
                HeartbeatAssignment { topics: topics.into_iter().map(topic).collect() }
            }),
            ..ConsumerGroupHeartbeatResponse::default()
        },
    };
    Ok(answer(header, &response))
}

/// Whether the consumer protocol is switched on, by the cluster's features and by
/// `group.coordinator.rebalance.protocols`.
fn is_on(shard: &Shard) -> bool {
    shard.config().groups.has_consumer_protocol && shard.image().feature(GROUP_VERSION) > 0
}

/// A refusal's sentence, or the error's own.
fn words(refusal: Refusal) -> Option<Str> {
    let own = || Str::from_static_str(refusal.error.message());
    Some(refusal.message.map_or_else(own, Str::from_string))
}

pub(in crate::handlers) async fn consumer_describe(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = ConsumerGroupDescribeRequest::decode(header.version, body)?;
    let mut response = ConsumerGroupDescribeResponse::default();
    let mut questions = Vec::new();
    let is_on = is_on(shard);
    let mut named = Named::default();
    for group in request.groups.iter().filter(|group| named.admits(group.as_str())) {
        if !is_on {
            let (group, error) = (group.clone(), ErrorCode::UnsupportedVersion);
            response.groups.push(DescribedConsumerGroup {
                group,
                error,
                ..DescribedConsumerGroup::default()
            });
        } else if group.is_empty() {
            let error = ErrorCode::InvalidGroupId;
            response
                .groups
                .push(DescribedConsumerGroup { error, ..DescribedConsumerGroup::default() });
        } else {
            questions.push((group.clone(), Request::ConsumerDescribe(vec![group.clone()])));
        }
    }
    for answer in ask_many(shard, questions).await {
        let Answer::ConsumerDescribe(groups) = answer else { return Ok(Response::Close) };
        for (group, result) in groups {
            response.groups.push(match result {
                Ok(found) => described(group, found, request.include_authorized_operations),
                Err(refusal) => DescribedConsumerGroup {
                    group,
                    error: refusal.error,
                    error_message: refusal.message.map(Str::from_string),
                    ..DescribedConsumerGroup::default()
                },
            });
        }
    }
    Ok(answer(header, &response))
}

fn described(
    group: Str,
    found: ConsumerDescribed,
    tell_operations: bool,
) -> DescribedConsumerGroup {
    let members = found.members.into_iter().map(|member| DescribedConsumer {
        member: member.id,
        instance: member.instance,
        rack: member.rack,
        member_epoch: member.epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        topics: member.topics,
        regex: Some(member.expression),
        assignment: assignment(member.assignment),
        target: assignment(member.target),
        kind: if member.is_classic { MEMBER_CLASSIC } else { MEMBER_CONSUMER },
    });
    let mut described = DescribedConsumerGroup {
        group,
        state: Str::from_static_str(found.state),
        group_epoch: found.epoch,
        assignment_epoch: found.assignment_epoch,
        assignor: found.assignor,
        members: members.collect(),
        ..DescribedConsumerGroup::default()
    };
    if tell_operations {
        described.authorized_operations = GROUP_OPERATIONS;
    }
    described
}

fn assignment(topics: Vec<TopicPartitions>) -> ConsumerAssignment {
    let topic = |topic: TopicPartitions| ConsumerAssignmentTopic {
        topic_id: Some(topic.id),
        name: topic.name,
        partitions: topic.partitions,
    };
    ConsumerAssignment { topics: topics.into_iter().map(topic).collect() }
}
