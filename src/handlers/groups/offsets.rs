//! OffsetCommit, OffsetFetch, OffsetDelete.
//!
//! Which topics and partitions exist is decided here, by the metadata, as in Kafka's `KafkaApis`.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::Uuid;
use crate::group::message::{
    Commit, CommitPartition, CommitTopic, DeleteOffsets, Fetch, FetchTopic, Fetched, FetchedTopic,
};
use crate::group::{Answer, Request};
use crate::handlers::groups::{Named, ask, ask_many, filled};
use crate::handlers::{Client, Response, answer};
use crate::mesh::Shard;
use crate::metadata::Image;
use crate::protocol::frame::RequestHeader;
use crate::protocol::group_offsets::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic, OffsetCommitTopicResponse,
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopicResponse, OffsetFetchGroup,
    OffsetFetchGroupResponse, OffsetFetchPartitionResponse, OffsetFetchRequest,
    OffsetFetchResponse, OffsetFetchTopic, OffsetFetchTopicResponse, PartitionError,
};
use crate::protocol::{ErrorCode, Malformed, Message, Str};

/// The version of both requests from which topics have ids in place of names.
const VERSION_TOPIC_IDS: i16 = 10;

/// The version of OffsetFetch from which it asks for many groups (KIP-709).
const FETCH_VERSION_MANY: i16 = 8;

/// The version of OffsetFetch from which the answer has one error for all.
const FETCH_VERSION_ERROR: i16 = 2;

pub(in crate::handlers) async fn commit(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = OffsetCommitRequest::decode(header.version, body)?;
    let image = shard.image();
    let (topics, mut places) = sort_commit(&image, header.version, &request);
    if topics.is_empty() {
        return Ok(answer(header, &places.response));
    }
    let make = || {
        Request::Commit(Commit {
            version: header.version,
            group: request.group.clone(),
            member: filled(&request.member),
            instance: request.instance.clone(),
            generation: (request.generation != -1).then_some(request.generation),
            retention_ms: (request.retention_ms >= 0).then_some(request.retention_ms),
            topics: topics.clone(),
        })
    };
    let Answer::Commit(results) = ask(shard, client, &request.group, make).await else {
        return Ok(Response::Close);
    };
    // When nothing was refused here, each row of the request has a row of its own in the answer.
    let has_own_rows = places.response.topics.is_empty();
    for (asked, (name, partitions)) in topics.iter().zip(results) {
        let outcomes = partitions.into_iter().map(|(index, error)| PartitionError { index, error });
        let place = match has_own_rows {
            true => places.own(name, asked.id),
            false => places.of_topic(name, asked.id),
        };
        place.partitions.extend(outcomes);
    }
    Ok(answer(header, &places.response))
}

/// What the coordinator is asked to keep, and the answer for what does not exist.
fn sort_commit(
    image: &Image,
    version: i16,
    request: &OffsetCommitRequest,
) -> (Vec<CommitTopic>, Places) {
    let mut places = Places::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    let by_id = version >= VERSION_TOPIC_IDS;
    for asked in &request.topics {
        let known = match by_id {
            true => asked.topic_id.and_then(|id| image.topic(id)),
            false => image.topic_named(&asked.name),
        };
        let Some(known) = known else {
            let error = match by_id {
                true => ErrorCode::UnknownTopicId,
                false => ErrorCode::UnknownTopicOrPartition,
            };
            let place = places.of_topic(asked.name.clone(), asked.topic_id);
            place.partitions.extend(
                asked.partitions.iter().map(|at| PartitionError { index: at.index, error }),
            );
            continue;
        };
        let name = name_of(asked, known, by_id);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for at in &asked.partitions {
            if known.partition(at.index).is_none() {
                let error = ErrorCode::UnknownTopicOrPartition;
                let place = places.of_topic(name.clone(), Some(known.id));
                place.partitions.push(PartitionError { index: at.index, error });
                continue;
            }
            partitions.push(CommitPartition {
                partition: at.index,
                offset: at.offset,
                leader_epoch: at.leader_epoch,
                metadata: at.metadata.clone(),
            });
        }
        if !partitions.is_empty() {
            topics.push(CommitTopic { name, id: Some(known.id), partitions });
        }
    }
    (topics, places)
}

fn name_of(asked: &OffsetCommitTopic, known: &crate::metadata::Topic, by_id: bool) -> Str {
    if by_id { Str::from_string(known.name.to_string()) } else { asked.name.clone() }
}

/// An answer to OffsetCommit, and where in it which topic is.
#[derive(Default)]
struct Places {
    response: OffsetCommitResponse,
    /// Topics without a name are told by their ids.
    of: BTreeMap<(Str, Option<Uuid>), usize>,
}

impl Places {
    /// The topic's place in the answer.
    fn of_topic(&mut self, name: Str, id: Option<Uuid>) -> &mut OffsetCommitTopicResponse {
        let key = (name.clone(), id.filter(|_| name.is_empty()));
        match self.of.get(&key) {
            Some(at) => &mut self.response.topics[*at],
            None => {
                self.of.insert(key, self.response.topics.len());
                self.own(name, id)
            }
        }
    }

    /// A new place for a topic in the answer.
    fn own(&mut self, name: Str, topic_id: Option<Uuid>) -> &mut OffsetCommitTopicResponse {
        let at = self.response.topics.len();
        let topic = OffsetCommitTopicResponse { name, topic_id, partitions: Vec::new() };
        self.response.topics.push(topic);
        &mut self.response.topics[at]
    }
}

pub(in crate::handlers) async fn fetch(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = OffsetFetchRequest::decode(header.version, body)?;
    let image = shard.image();
    let mut named = Named::default();
    let admitted = request.groups.iter().filter(|asked| named.admits(asked.group.as_str()));
    let groups: Vec<OffsetFetchGroup> = match header.version >= FETCH_VERSION_MANY {
        true => admitted.cloned().collect(),
        false => vec![OffsetFetchGroup {
            group: request.group.clone(),
            topics: request.topics.clone(),
            ..OffsetFetchGroup::default()
        }],
    };
    let mut unknown = Vec::with_capacity(groups.len());
    let mut questions = Vec::with_capacity(groups.len());
    for asked in &groups {
        let (topics, refused) = sort_fetch(&image, header.version, asked);
        unknown.push(refused);
        let question = Request::Fetch(Fetch {
            group: asked.group.clone(),
            member: asked.member.clone(),
            member_epoch: (asked.member_epoch >= 0).then_some(asked.member_epoch),
            topics,
            require_stable: request.require_stable,
        });
        questions.push((asked.group.clone(), question));
    }
    let answers = ask_many(shard, questions).await;
    let mut found = Vec::with_capacity(groups.len());
    for (answer, refused) in answers.into_iter().zip(unknown) {
        let Answer::Fetch(fetched) = answer else { return Ok(Response::Close) };
        let mut group = fetched_group(&image, header.version, fetched);
        if !group.error.is_error() {
            group.topics.extend(refused);
        }
        found.push(group);
    }
    let mut response = OffsetFetchResponse::default();
    if header.version >= FETCH_VERSION_MANY {
        response.groups = found;
    } else if let (Some(group), Some(asked)) = (found.pop(), groups.first()) {
        response.error = group.error;
        response.topics = match group.error.is_error() && header.version < FETCH_VERSION_ERROR {
            // This version has no other place for the error.
            true => asked.topics.iter().flatten().map(|t| refused_topic(t, group.error)).collect(),
            false => group.topics,
        };
    }
    Ok(answer(header, &response))
}

/// What the coordinator is asked for, and the answers for ids that no topic has.
fn sort_fetch(
    image: &Image,
    version: i16,
    asked: &OffsetFetchGroup,
) -> (Option<Vec<FetchTopic>>, Vec<OffsetFetchTopicResponse>) {
    let Some(topics) = &asked.topics else { return (None, Vec::new()) };
    let mut known = Vec::with_capacity(topics.len());
    let mut refused = Vec::new();
    for topic in topics {
        let name = match version >= VERSION_TOPIC_IDS {
            false => Some(topic.name.clone()),
            true => topic
                .topic_id
                .and_then(|id| image.topic(id))
                .map(|topic| Str::from_string(topic.name.to_string())),
        };
        match name {
            Some(name) => known.push(FetchTopic {
                name,
                id: topic.topic_id,
                partitions: topic.partitions.clone(),
            }),
            None => refused.push(refused_topic(topic, ErrorCode::UnknownTopicId)),
        }
    }
    (Some(known), refused)
}

fn refused_topic(topic: &OffsetFetchTopic, error: ErrorCode) -> OffsetFetchTopicResponse {
    let partition = |index: &i32| OffsetFetchPartitionResponse {
        index: *index,
        offset: -1,
        leader_epoch: None,
        metadata: Some(Str::default()),
        error,
    };
    OffsetFetchTopicResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(partition).collect(),
    }
}

fn fetched_group(image: &Image, version: i16, fetched: Fetched) -> OffsetFetchGroupResponse {
    let topic = |topic: FetchedTopic| {
        let id = topic.id.or_else(|| image.topic_named(&topic.name).map(|known| known.id));
        if version >= VERSION_TOPIC_IDS && id.is_none() {
            // It can not be named in this version.
            return None;
        }
        let partitions = topic.partitions.into_iter().map(|at| OffsetFetchPartitionResponse {
            index: at.partition,
            offset: at.offset.unwrap_or(-1),
            leader_epoch: at.leader_epoch,
            metadata: Some(at.metadata),
            error: at.error,
        });
        let partitions = partitions.collect();
        Some(OffsetFetchTopicResponse { name: topic.name, topic_id: id, partitions })
    };
    OffsetFetchGroupResponse {
        group: fetched.group,
        topics: fetched.topics.into_iter().filter_map(topic).collect(),
        error: fetched.error,
    }
}

pub(in crate::handlers) async fn delete_offsets(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = OffsetDeleteRequest::decode(header.version, body)?;
    let image = shard.image();
    let mut response = OffsetDeleteResponse::default();
    let mut topics: Vec<(Str, Vec<i32>)> = Vec::new();
    for asked in &request.topics {
        let known = image.topic_named(&asked.name);
        let exists = |index: &&i32| known.is_some_and(|known| known.partition(**index).is_some());
        let (good, bad): (Vec<&i32>, Vec<&i32>) = asked.partitions.iter().partition(exists);
        if !good.is_empty() {
            topics.push((asked.name.clone(), good.into_iter().copied().collect()));
        }
        if !bad.is_empty() {
            let error = ErrorCode::UnknownTopicOrPartition;
            let outcome = |index: &i32| PartitionError { index: *index, error };
            response.topics.push(OffsetDeleteTopicResponse {
                name: asked.name.clone(),
                partitions: bad.into_iter().map(outcome).collect(),
            });
        }
    }
    let make = || {
        let topics = topics.clone();
        Request::DeleteOffsets(DeleteOffsets { group: request.group.clone(), topics })
    };
    let Answer::DeleteOffsets(error, results) = ask(shard, client, &request.group, make).await
    else {
        return Ok(Response::Close);
    };
    if error.is_error() {
        response = OffsetDeleteResponse { error, ..OffsetDeleteResponse::default() };
        return Ok(answer(header, &response));
    }
    let mut places: BTreeMap<Str, usize> = BTreeMap::new();
    for (at, topic) in response.topics.iter().enumerate() {
        places.entry(topic.name.clone()).or_insert(at);
    }
    for (name, partitions) in results {
        let outcomes = partitions.into_iter().map(|(index, error)| PartitionError { index, error });
        let at = *places.entry(name.clone()).or_insert(response.topics.len());
        if at == response.topics.len() {
            response.topics.push(OffsetDeleteTopicResponse { name, partitions: Vec::new() });
        }
        response.topics[at].partitions.extend(outcomes);
    }
    Ok(answer(header, &response))
}
