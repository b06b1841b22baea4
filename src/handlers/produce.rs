//! Produce: checks on the connection's core, appends on the owners'.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Instant, PartitionKey, ShardId, Uuid};
use crate::handlers::call::{OFFSETS, scatter};
use crate::handlers::{Client, Lender, Response, answer};
use crate::mesh::shard::Asked;
use crate::mesh::{Answer, Ask, Direct, Shard};
use crate::metadata::{Image, Topic};
use crate::partition::produced::{Place, Produced, fill, refusal};
use crate::partition::{AppendOutcome, Isolation, OffsetQuery, RequiredAcks, TimestampQuery};
use crate::protocol::frame::RequestHeader;
use crate::protocol::produce::{
    CurrentLeader, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
    ProduceTopicResponse, RecordError,
};
use crate::protocol::validate::{self, Refused, Spent, Validated};
use crate::protocol::{ErrorCode, Malformed, Message, Str};
use crate::runtime::local::{first, next_ready};
use crate::runtime::{Chunk, Recall};

/// Client id of the admin client, which may write to internal topics (`AdminUtils`).
const ADMIN_CLIENT: &str = "__admin_client";

/// What an append may take at least, however short the request's timeout is: in Apache Kafka that
/// bounds the wait for other replicas only, and 0 is a good one.
const APPEND_TIME_MIN: Duration = Duration::from_secs(1);

/// The batches for one owner core, and where their answers go.
struct Share {
    owner: ShardId,
    places: Vec<Place>,
    batches: Vec<(PartitionKey, Validated)>,
}

pub(super) async fn produce(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
    lender: Option<Rc<Lender>>,
) -> Result<Response, Malformed> {
    let request = ProduceRequest::decode(header.version, body)?;
    let Some(acks) = required_acks(request.acks) else {
        return Ok(refuse_all(header, &request, ErrorCode::InvalidRequiredAcks));
    };
    if request.transactional_id.is_none() && has_transactional_records(&request) {
        let code = ErrorCode::TransactionalIdAuthorizationFailed;
        return Ok(refuse_all(header, &request, code));
    }
    let (mut response, mut shares, starts) = split(shard, header, &request);
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = shard.runtime.now() + timeout.max(APPEND_TIME_MIN);
    // Whether one other core has all of it to append.
    let elsewhere = match shares.as_slice() {
        [share] => share.owner != shard.id() && share.places.len() == partition_count(&request),
        _ => false,
    };
    match lender.filter(|_| elsewhere && acks != RequiredAcks::None) {
        Some(lender) => {
            let share = shares.swap_remove(0);
            let produced = Produced {
                version: header.version,
                correlation_id: header.correlation_id,
                places: share.places,
                response,
            };
            let (loan, recall) = lender.lend();
            let direct = Some(Box::new(Direct { loan, produced }));
            let ask = Ask::Append { acks, batches: share.batches, direct };
            let asked = shard.ask(share.owner, ask);
            match answered(shard, asked, recall, deadline).await {
                Ok(response) => return Ok(response),
                Err(outcomes) => {
                    response = refused(&request, ErrorCode::RequestTimedOut);
                    fill(&places(&request), outcomes, &mut response);
                }
            }
        }
        None => {
            let mut asked: Vec<(Vec<Place>, Asked)> = Vec::with_capacity(shares.len());
            for share in shares {
                let ask = Ask::Append { acks, batches: share.batches, direct: None };
                asked.push((share.places, shard.ask(share.owner, ask)));
            }
            join(shard, asked, deadline, &mut response).await;
        }
    }
    add_log_starts(shard, starts, &mut response).await;
    add_leaders(shard, client, header, &mut response);
    if acks == RequiredAcks::None {
        let failed = all(&response).any(|partition| partition.error != ErrorCode::None);
        return Ok(if failed { Response::Close } else { Response::Nothing });
    }
    Ok(answer(header, &response))
}

fn required_acks(raw: i16) -> Option<RequiredAcks> {
    match raw {
        0 => Some(RequiredAcks::None),
        1 => Some(RequiredAcks::Leader),
        -1 => Some(RequiredAcks::All),
        _ => None,
    }
}

fn all(response: &ProduceResponse) -> impl Iterator<Item = &ProducePartitionResponse> {
    response.topics.iter().flat_map(|topic| &topic.partitions)
}

fn partition_count(request: &ProduceRequest) -> usize {
    request.topics.iter().map(|topic| topic.partitions.len()).sum()
}

/// The places of all partitions of a request.
fn places(request: &ProduceRequest) -> Vec<Place> {
    let topics = request.topics.iter().enumerate();
    topics.flat_map(|(at, topic)| (0..topic.partitions.len()).map(move |of| (at, of))).collect()
}

/// Waits until the only owner has answered the client, or has told why it did not: how the appends
/// ended, nothing when they have not by the deadline.
async fn answered(
    shard: &Rc<Shard>,
    mut asked: Asked,
    recall: Recall,
    deadline: Instant,
) -> Result<Response, Vec<AppendOutcome>> {
    let ended = first(async { Some((&mut asked).await) }, async {
        shard.deadline(deadline).await;
        None
    });
    let answer = match ended.await {
        Some(answer) => answer,
        None if recall.recall() => None,
        None => {
            // The owner is sending it, and no clock wakes this core any more.
            let _attentive = shard.attentive();
            asked.await
        }
    };
    match answer {
        Some(Answer::Answered) => Ok(Response::Answered),
        Some(Answer::Unsent(rest)) => Ok(Response::Send(vec![Chunk::Bytes(rest)])),
        Some(Answer::Append(outcomes)) => Err(outcomes),
        _ => Err(Vec::new()),
    }
}

fn refuse_all(header: &RequestHeader, request: &ProduceRequest, error: ErrorCode) -> Response {
    let response = refused(request, error);
    if request.acks == 0 { Response::Close } else { answer(header, &response) }
}

/// An answer that tells of the same error for every partition.
fn refused(request: &ProduceRequest, error: ErrorCode) -> ProduceResponse {
    let topics = request.topics.iter().map(|topic| ProduceTopicResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|p| refusal(p.index, error)).collect(),
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }
}

/// Whether any batch has the transactional bit, as far as its header can be read.
fn has_transactional_records(request: &ProduceRequest) -> bool {
    request
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .any(|partition| validate::claims_transaction(&partition.records))
}

/// Checks every batch, and sorts those that pass by the core that owns their partition.
fn split(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    request: &ProduceRequest,
) -> (ProduceResponse, Vec<Share>, Vec<(Place, PartitionKey)>) {
    let image = shard.image();
    let mut starts = Vec::new();
    let mut response = ProduceResponse::default();
    let mut shares: Vec<Share> = Vec::new();
    let mut spent = Spent::default();
    for (topic_place, asked) in request.topics.iter().enumerate() {
        let known = find_topic(&image, asked);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for (partition_place, partition) in asked.partitions.iter().enumerate() {
            let index = partition.index;
            let checked = match known {
                Ok(topic) => check(shard, header, topic, index, &partition.records, &mut spent),
                Err(error) => Err(NotTaken::plain(index, error)),
            };
            match checked {
                Err(refused) => {
                    starts.extend(
                        refused.log_start_of.map(|key| ((topic_place, partition_place), key)),
                    );
                    partitions.push(refused.response);
                }
                Ok((key, batch)) => {
                    partitions.push(refusal(index, ErrorCode::RequestTimedOut));
                    let owner = shard.owner(key);
                    let at = shares.iter().position(|share| share.owner == owner);
                    let at = at.unwrap_or_else(|| {
                        shares.push(Share { owner, places: Vec::new(), batches: Vec::new() });
                        shares.len() - 1
                    });
                    shares[at].places.push((topic_place, partition_place));
                    shares[at].batches.push((key, batch));
                }
            }
        }
        let name = asked.name.clone();
        let topic_id = asked.topic_id;
        response.topics.push(ProduceTopicResponse { name, topic_id, partitions });
    }
    (response, shares, starts)
}

fn find_topic<'a>(image: &'a Image, asked: &ProduceTopic) -> Result<&'a Topic, ErrorCode> {
    match asked.topic_id {
        Some(id) => image.topic(id).map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicId),
        None if asked.name.is_empty() => Err(ErrorCode::UnknownTopicId),
        None => {
            let topic = image.topic_named(&asked.name);
            topic.map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicOrPartition)
        }
    }
}

/// A batch that was not taken.
struct NotTaken {
    response: ProducePartitionResponse,
    /// Whose log start the answer tells, as Kafka does for what it finds while appending.
    log_start_of: Option<PartitionKey>,
}

impl NotTaken {
    fn plain(index: i32, error: ErrorCode) -> Box<Self> {
        Box::new(Self { response: refusal(index, error), log_start_of: None })
    }
}

/// Checks one partition's batch in the order Apache Kafka does.
fn check(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    topic: &Topic,
    index: i32,
    records: &Bytes,
    spent: &mut Spent,
) -> Result<(PartitionKey, Validated), Box<NotTaken>> {
    if topic.partition(index).is_none() {
        return Err(NotTaken::plain(index, ErrorCode::UnknownTopicOrPartition));
    }
    let is_admin = header.client_id.as_deref() == Some(ADMIN_CLIENT);
    if topic.is_internal() && !is_admin {
        return Err(NotTaken::plain(index, ErrorCode::InvalidTopicException));
    }
    let key = PartitionKey { topic: topic.id, partition: index };
    let settings = shard.topic_settings(topic);
    let now = shard.runtime.wall_clock();
    let rules = settings.rules(header.version);
    match validate::producer_batches(records, &rules, now, spent) {
        Ok(validated) if validated.header.is_transactional() => {
            // Transactions are not served: no coordinator can have begun one.
            Err(NotTaken::plain(index, ErrorCode::InvalidTxnState))
        }
        Ok(validated) => Ok((key, validated)),
        Err(refused) => Err(Box::new(NotTaken {
            log_start_of: refused.names_log_start.then_some(key),
            response: refused_batch(index, refused),
        })),
    }
}

fn refused_batch(index: i32, refused: Refused) -> ProducePartitionResponse {
    ProducePartitionResponse {
        record_errors: refused
            .record_errors
            .into_iter()
            .map(|error| RecordError {
                batch_index: error.batch_index,
                message: error.message.map(Str::from_string),
            })
            .collect(),
        error_message: refused.message.map(Str::from_string),
        ..refusal(index, ErrorCode::from(refused.reason))
    }
}

/// Adds the log starts that answers to refused batches tell.
async fn add_log_starts(
    shard: &Rc<Shard>,
    starts: Vec<(Place, PartitionKey)>,
    response: &mut ProduceResponse,
) {
    let query = OffsetQuery {
        query: TimestampQuery::Earliest,
        current_leader_epoch: None,
        isolation: Isolation::ReadUncommitted,
    };
    let (places, keys): (Vec<Place>, Vec<PartitionKey>) = starts.into_iter().unzip();
    let questions = keys.into_iter().map(|key| (key, query)).collect();
    let found = scatter(shard, questions, OFFSETS).await;
    for ((topic, partition), found) in places.into_iter().zip(found) {
        if let Some(Ok(found)) = found {
            response.topics[topic].partitions[partition].log_start_offset = found.offset;
        }
    }
}

/// Waits for the owners' answers until the deadline; what is missing then timed out.
async fn join(
    shard: &Rc<Shard>,
    mut asked: Vec<(Vec<Place>, Asked)>,
    deadline: Instant,
    response: &mut ProduceResponse,
) {
    // Owners that answered at once need no timer.
    asked.retain_mut(|(places, asked)| match next_ready(asked) {
        Some(answer) => {
            fill_from(places, answer, response);
            false
        }
        None => true,
    });
    if asked.is_empty() {
        return;
    }
    let waiting = async {
        for (places, asked) in asked {
            let answer = asked.await;
            fill_from(&places, answer, response);
        }
    };
    // Partitions without an answer keep the `RequestTimedOut` they began with.
    first(waiting, shard.deadline(deadline)).await;
}

fn fill_from(places: &[Place], answer: Option<Answer>, response: &mut ProduceResponse) {
    if let Some(Answer::Append(outcomes)) = answer {
        fill(places, outcomes, response);
    }
}

/// Names the current leader where this broker is not it (KIP-951).
fn add_leaders(
    shard: &Rc<Shard>,
    client: &Client,
    header: &RequestHeader,
    response: &mut ProduceResponse,
) {
    let wrong = all(response).any(|p| p.error == ErrorCode::NotLeaderOrFollower);
    if header.version < 10 || !wrong {
        return;
    }
    let image = shard.image();
    let find = |name: &str, id: Option<Uuid>| match id {
        Some(id) => image.topic(id),
        None => image.topic_named(name),
    };
    let mut nodes = std::collections::BTreeSet::new();
    for topic in &mut response.topics {
        let Some(known) = find(&topic.name, topic.topic_id) else { continue };
        for place in &mut topic.partitions {
            let Some(state) = known.partition(place.index) else { continue };
            if place.error == ErrorCode::NotLeaderOrFollower {
                nodes.extend(state.leader);
                place.current_leader =
                    Some(CurrentLeader { leader: state.leader, epoch: Some(state.leader_epoch) });
            }
        }
    }
    response.node_endpoints = super::cluster::endpoints(shard, client, nodes);
}
