//! DeleteTopics, ElectLeaders, ListPartitionReassignments, producer ids.
//!
//! Source: Kafka's `ControllerApis`, `ReplicationControlManager`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    DeleteTopicsRequest, DeleteTopicsResponse, ElectLeadersRequest, ElectLeadersResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use crate::base::Uuid;
use crate::controller::configs::{PRODUCER_ID_BLOCK, allocate_producer_ids_records};
use crate::controller::decision::{Context, Decision, Refusal};
use crate::controller::topics::delete_topic_records;
use crate::metadata::{NAME_LENGTH_MAX, Record};
use crate::protocol::{ErrorCode, Str};

/// What a request to delete names, once each.
#[derive(Default)]
struct Named {
    names: BTreeSet<String>,
    names_twice: BTreeSet<String>,
    ids: BTreeSet<Uuid>,
    ids_twice: BTreeSet<Uuid>,
}

impl Named {
    fn add_name(&mut self, name: &str) {
        if !self.names.insert(name.to_owned()) {
            self.names_twice.insert(name.to_owned());
        }
    }

    fn add_id(&mut self, id: Uuid) {
        if !self.ids.insert(id) {
            self.ids_twice.insert(id);
        }
    }
}

fn deleted(
    name: Option<&str>,
    id: Option<Uuid>,
    refusal: Option<&Refusal>,
) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name.map(|name| Str::from_string(name.to_owned()).into()))
        .with_topic_id(uuid::Uuid::from_bytes(id.map_or([0; 16], Uuid::to_wire)))
        .with_error_code(refusal.map_or(0, |refusal| refusal.code.code()))
        .with_error_message(refusal.and_then(Refusal::text))
}

/// Answers DeleteTopics.
pub fn delete_topics(
    ctx: &mut Context<'_>,
    request: DeleteTopicsRequest,
    version: i16,
) -> Decision<DeleteTopicsResponse> {
    let mut results = Vec::new();
    let mut named = Named::default();
    for name in &request.topic_names {
        named.add_name(name);
    }
    let invalid = |why: &str| Refusal::new(ErrorCode::InvalidRequest, why);
    for topic in &request.topics {
        let id = Uuid::from_wire(*topic.topic_id.as_bytes());
        match (&topic.name, id) {
            (None, None) => {
                let refusal = invalid("Neither topic name nor id were specified.");
                results.push(deleted(None, None, Some(&refusal)));
            }
            (None, Some(id)) => named.add_id(id),
            (Some(name), None) => named.add_name(name),
            (Some(name), Some(id)) => {
                let refusal = invalid("You may not specify both topic name and topic id.");
                results.push(deleted(Some(name.as_str()), Some(id), Some(&refusal)));
            }
        }
    }
    if !ctx.config.deletes_topics {
        return deletion_disabled(&named, version);
    }
    for name in &named.names_twice {
        results.push(deleted(Some(name), None, Some(&invalid("Duplicate topic name."))));
    }
    for id in &named.ids_twice {
        results.push(deleted(None, Some(*id), Some(&invalid("Duplicate topic id."))));
    }
    let going = resolve(ctx, &named, &mut results);
    let mut records = Vec::new();
    for (id, name) in going {
        if let Ok(more) = delete_topic_records(ctx.image, id) {
            records.extend(more);
        }
        results.push(deleted(Some(&name), Some(id), None));
    }
    let response = DeleteTopicsResponse::default().with_responses(results);
    Decision { records, response }
}

/// The topics to delete, by id; what can not be found is answered.
fn resolve(
    ctx: &Context<'_>,
    named: &Named,
    results: &mut Vec<DeletableTopicResult>,
) -> BTreeMap<Uuid, String> {
    let mut going = BTreeMap::new();
    for id in named.ids.difference(&named.ids_twice) {
        match ctx.image.topic(*id) {
            Some(topic) => {
                going.insert(*id, topic.name.to_string());
            }
            None => {
                let refusal = Refusal::plain(ErrorCode::UnknownTopicId);
                results.push(deleted(None, Some(*id), Some(&refusal)));
            }
        }
    }
    for name in named.names.difference(&named.names_twice) {
        let Some(topic) = ctx.image.topic_named(name) else {
            let refusal = Refusal::plain(ErrorCode::UnknownTopicOrPartition);
            results.push(deleted(Some(name), None, Some(&refusal)));
            continue;
        };
        let twice = named.ids_twice.contains(&topic.id);
        if twice || going.insert(topic.id, name.clone()).is_some() {
            going.remove(&topic.id);
            let why = "The provided topic name maps to an ID that was already supplied.";
            let refusal = Refusal::new(ErrorCode::InvalidRequest, why);
            results.push(deleted(Some(name), Some(topic.id), Some(&refusal)));
        }
    }
    going
}

fn deletion_disabled(named: &Named, version: i16) -> Decision<DeleteTopicsResponse> {
    let refusal = if version < 3 {
        let why = "This version does not support topic deletion.";
        Refusal::new(ErrorCode::InvalidRequest, why)
    } else {
        Refusal::plain(ErrorCode::TopicDeletionDisabled)
    };
    let names = named.names.iter().map(|name| deleted(Some(name), None, Some(&refusal)));
    let ids = named.ids.iter().map(|id| deleted(None, Some(*id), Some(&refusal)));
    let response = DeleteTopicsResponse::default().with_responses(names.chain(ids).collect());
    Decision { records: Vec::new(), response }
}

/// Answers ElectLeaders. Every partition has one replica, which leads: there is nothing to elect.
pub fn elect_leaders(
    ctx: &mut Context<'_>,
    request: ElectLeadersRequest,
) -> Decision<ElectLeadersResponse> {
    let mut response = ElectLeadersResponse::default();
    match &request.topic_partitions {
        // Partitions that have the leader they should have are left out of this answer.
        None => {
            let topics = ctx.image.topics().map(|topic| {
                let name = Str::from_string(topic.name.to_string());
                ReplicaElectionResult::default().with_topic(name.into())
            });
            response.replica_election_results = topics.collect();
        }
        Some(topics) => {
            for asked in topics {
                let known = ctx.image.topic_named(&asked.topic);
                // Of what can be no topic's name the beginning is enough, for each partition.
                let name: String = asked.topic.chars().take(NAME_LENGTH_MAX).collect();
                let results = asked.partitions.iter().map(|number| {
                    let refusal = match known {
                        None => Refusal::new(
                            ErrorCode::UnknownTopicOrPartition,
                            format!("No such topic as {name}"),
                        ),
                        Some(topic) if topic.partition(*number).is_none() => Refusal::new(
                            ErrorCode::UnknownTopicOrPartition,
                            format!("No such partition as {name}-{number}"),
                        ),
                        Some(_) => Refusal::plain(ErrorCode::ElectionNotNeeded),
                    };
                    PartitionResult::default()
                        .with_partition_id(*number)
                        .with_error_code(refusal.code.code())
                        .with_error_message(refusal.text())
                });
                response.replica_election_results.push(
                    ReplicaElectionResult::default()
                        .with_topic(asked.topic.clone())
                        .with_partition_result(results.collect()),
                );
            }
        }
    }
    Decision { records: Vec::new(), response }
}

/// Answers ListPartitionReassignments: with one node nothing ever moves.
pub fn list_partition_reassignments(
    _ctx: &mut Context<'_>,
    _request: ListPartitionReassignmentsRequest,
) -> Decision<ListPartitionReassignmentsResponse> {
    Decision { records: Vec::new(), response: ListPartitionReassignmentsResponse::default() }
}

/// A block of producer ids that nobody else gets; empty when there are none left.
pub fn allocate_producer_ids(ctx: &mut Context<'_>) -> (Vec<Record>, Range<i64>) {
    match allocate_producer_ids_records(ctx.image, ctx.node) {
        Some((block, records)) => {
            let first = block.first;
            (records, first..first + PRODUCER_ID_BLOCK)
        }
        None => (Vec::new(), 0..0),
    }
}
