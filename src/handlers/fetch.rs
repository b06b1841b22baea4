//! Fetch: sessions and limits on the connection's core, reading on the owners' (see `read`).

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, PartitionKey};
use crate::handlers::read::{Item, Limits, Reading};
use crate::handlers::session::{
    Answered, Context, PartitionRef, SessionAsk, SessionError, TopicRef, Wanted,
};
use crate::handlers::{Client, Response, answer, answer_with};
use crate::mesh::Shard;
use crate::metadata::{Image, Topic};
use crate::partition::{FetchError, Fetched, Isolation};
use crate::protocol::fetch::{
    AbortedTransaction, EpochEnd, FetchPartitionResponse, FetchRequest, FetchResponse,
    FetchTopicResponse,
};
use crate::protocol::frame::RequestHeader;
use crate::protocol::produce::CurrentLeader;
use crate::protocol::wire::Records;
use crate::protocol::{ErrorCode, Malformed, Message, Str};
use crate::runtime::FileSlice;

pub(super) async fn fetch(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = FetchRequest::decode(header.version, body)?;
    let by_topic_id = header.version >= 13;
    let (wanted, forgotten) = partitions_of(&request, by_topic_id);
    let ask = SessionAsk { id: request.session_id, epoch: request.session_epoch, by_topic_id };
    let now = shard.runtime.now();
    let begun = client.sessions.borrow_mut().begin(now, ask, &wanted, &forgotten);
    let context = match begun {
        Ok(context) => context,
        Err(error) => return Ok(answer(header, &session_error(error))),
    };
    let list = match &context {
        Context::Incremental { partitions, .. } => partitions.clone(),
        Context::Full | Context::Sessionless => wanted,
    };
    let mut items = resolve(&shard.image(), list);
    if request.fetching_replica().is_some() {
        for item in &mut items {
            // No other broker replicates from this one.
            item.target = item.target.and(Err(ErrorCode::NotLeaderOrFollower));
        }
    }
    let limits = limits(shard, &request);
    let session = match &context {
        Context::Incremental { id, .. } => Some(*id),
        Context::Full | Context::Sessionless => None,
    };
    let (standing, leaving) = (&client.standing, &client.leaving);
    let reading = Reading { shard, standing, leaving, session, limits };
    reading.read(&mut items).await;
    trim(&mut items, limits.bytes_max);
    Ok(respond(shard, client, header, &context, items))
}

fn partitions_of(
    request: &FetchRequest,
    by_topic_id: bool,
) -> (Vec<(PartitionRef, Wanted)>, Vec<PartitionRef>) {
    let topic = |name: &Str, id| match by_topic_id {
        true => TopicRef::Id(id),
        false => TopicRef::Name(name.as_str().into()),
    };
    let mut wanted = Vec::new();
    for asked in &request.topics {
        let topic = topic(&asked.name, asked.topic_id);
        for partition in &asked.partitions {
            let place = PartitionRef { topic: topic.clone(), partition: partition.index };
            wanted.push((
                place,
                Wanted {
                    offset: partition.fetch_offset.map_or(-1, Offset::to_wire),
                    bytes_max: partition.max_bytes,
                    current_leader_epoch: epoch_to_wire(partition.current_leader_epoch),
                    last_fetched_epoch: epoch_to_wire(partition.last_fetched_epoch),
                },
            ));
        }
    }
    let mut forgotten = Vec::new();
    for asked in &request.forgotten {
        let topic = topic(&asked.name, asked.topic_id);
        let numbers = asked.partitions.iter();
        forgotten.extend(
            numbers.map(|number| PartitionRef { topic: topic.clone(), partition: *number }),
        );
    }
    (wanted, forgotten)
}

fn epoch_to_wire(epoch: Option<LeaderEpoch>) -> i32 {
    epoch.map_or(-1, LeaderEpoch::to_wire)
}

fn session_error(error: SessionError) -> FetchResponse {
    let error = match error {
        SessionError::IdNotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicId => ErrorCode::FetchSessionTopicIdError,
    };
    FetchResponse { error, ..FetchResponse::default() }
}

fn isolation(request: &FetchRequest) -> Isolation {
    match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}

fn limits(shard: &Shard, request: &FetchRequest) -> Limits {
    let bytes_max = u32::try_from(request.max_bytes).unwrap_or(0);
    let bytes_max = bytes_max.min(shard.config().fetch_bytes_max);
    let bytes_min = u32::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    Limits { bytes_max, bytes_min, wait, isolation: isolation(request) }
}

fn find<'a>(image: &'a Image, topic: &TopicRef) -> Result<&'a Topic, ErrorCode> {
    match topic {
        TopicRef::Id(id) => {
            let topic = id.and_then(|id| image.topic(id));
            topic.map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicId)
        }
        TopicRef::Name(name) => {
            let topic = image.topic_named(name);
            topic.map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicOrPartition)
        }
    }
}

fn resolve(image: &Image, list: Vec<(PartitionRef, Wanted)>) -> Vec<Item> {
    list.into_iter()
        .map(|(asked, wanted)| {
            let target = find(image, &asked.topic).and_then(|topic| {
                if wanted.bytes_max < 0 {
                    return Err(ErrorCode::UnknownServerError);
                }
                let known = topic.partition(asked.partition).is_some();
                let key = PartitionKey { topic: topic.id, partition: asked.partition };
                known.then_some(key).ok_or(ErrorCode::UnknownTopicOrPartition)
            });
            Item { asked, wanted, target, result: Some(Err(FetchError::NotLeader)) }
        })
        .collect()
}

/// Applies the request's limit across the owners, in the order of the request (KIP-74): the first
/// partition with records gives at least its first batch; later ones keep what fits.
fn trim(items: &mut [Item], bytes_max: u32) {
    let mut left = bytes_max;
    let mut first = true;
    for item in items {
        let Some(Ok(fetched)) = &mut item.result else { continue };
        let Some(slice) = &mut fetched.slice else { continue };
        let least = if first { fetched.first_batch_bytes } else { 0 };
        let length = slice.length.min(left.max(least));
        if length < fetched.first_batch_bytes {
            // A client can do nothing with a part of the first batch.
            fetched.slice = None;
            continue;
        }
        slice.length = length;
        left = left.saturating_sub(length);
        first = false;
    }
}

fn respond(
    shard: &Rc<Shard>,
    client: &Client,
    header: &RequestHeader,
    context: &Context,
    items: Vec<Item>,
) -> Response {
    let image = shard.image();
    let mut response = FetchResponse::default();
    let mut slices: Vec<FileSlice> = Vec::new();
    let mut leaders = std::collections::BTreeSet::new();
    let mut remembered = Vec::new();
    let mut sessions = client.sessions.borrow_mut();
    for item in items {
        let Some(result) = &item.result else { continue };
        let mut partition = partition_response(&item, result);
        let answered = answered_of(&partition, &item);
        match context {
            Context::Incremental { id, .. } => {
                if !sessions.must_answer(*id, &item.asked, answered) {
                    continue;
                }
            }
            Context::Full => remembered.push((item.asked.clone(), item.wanted, answered)),
            Context::Sessionless => {}
        }
        if let Some(Ok(Fetched { slice: Some(slice), .. })) = item.result {
            let token = slices.len() as u32;
            partition.records = Records::Elsewhere { token, size_bytes: slice.length };
            slices.push(slice);
        }
        let wrong = matches!(
            partition.error,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        );
        if header.version >= 16 && wrong {
            let topic = find(&image, &item.asked.topic).ok();
            if let Some(state) = topic.and_then(|topic| topic.partition(partition.index)) {
                leaders.extend(state.leader);
                let epoch = Some(state.leader_epoch);
                partition.current_leader = Some(CurrentLeader { leader: state.leader, epoch });
            }
        }
        if partition.error == ErrorCode::KafkaStorageError && header.version <= 5 {
            partition.error = ErrorCode::NotLeaderOrFollower;
        }
        put(&mut response, &item.asked.topic, partition);
    }
    response.session_id = match context {
        Context::Incremental { id, .. } => *id,
        Context::Sessionless => 0,
        Context::Full => {
            let now = shard.runtime.now();
            sessions.create(now, header.version >= 13, remembered, shard.runtime.random())
        }
    };
    response.node_endpoints = super::cluster::endpoints(shard, client, leaders);
    shard.counters.fetch_bytes_total.add(slices.iter().map(|s| u64::from(s.length)).sum());
    answer_with(header, header.version, &response, &slices)
}

/// Appends a partition's answer, below its topic when that was the last one.
fn put(response: &mut FetchResponse, topic: &TopicRef, partition: FetchPartitionResponse) {
    let same = response.topics.last().is_some_and(|last| match topic {
        TopicRef::Name(name) => *last.name == **name,
        TopicRef::Id(id) => last.topic_id == *id,
    });
    if !same {
        let (name, topic_id) = match topic {
            TopicRef::Name(name) => (Str::from_string(name.to_string()), None),
            TopicRef::Id(id) => (Str::default(), *id),
        };
        response.topics.push(FetchTopicResponse { name, topic_id, partitions: Vec::new() });
    }
    if let Some(last) = response.topics.last_mut() {
        last.partitions.push(partition);
    }
}

fn answered_of(partition: &FetchPartitionResponse, item: &Item) -> Answered {
    Answered {
        records_bytes: item.length(),
        high_watermark: partition.high_watermark.map_or(-1, Offset::to_wire),
        log_start: partition.log_start_offset.map_or(-1, Offset::to_wire),
        error_code: partition.error.code(),
        redirects: partition.diverging_epoch.is_some(),
    }
}

fn partition_response(item: &Item, result: &Result<Fetched, FetchError>) -> FetchPartitionResponse {
    let index = item.asked.partition;
    let mut partition = FetchPartitionResponse { index, ..FetchPartitionResponse::default() };
    if let Err(error) = item.target {
        partition.error = error;
        partition.aborted_transactions = Some(Vec::new());
        return partition;
    }
    let fetched = match result {
        Ok(fetched) => fetched,
        Err(error) => {
            partition.error = match error {
                FetchError::NotLeader => ErrorCode::NotLeaderOrFollower,
                FetchError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
                FetchError::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
                FetchError::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
                FetchError::Storage => ErrorCode::KafkaStorageError,
            };
            return partition;
        }
    };
    partition.high_watermark = Some(fetched.high_watermark);
    partition.last_stable_offset = Some(fetched.last_stable);
    partition.log_start_offset = Some(fetched.log_start);
    partition.diverging_epoch = fetched
        .diverging
        .map(|found| EpochEnd { epoch: Some(found.epoch), end_offset: Some(found.end) });
    partition.aborted_transactions = fetched.aborted.as_ref().map(|aborted| {
        let aborted = aborted.iter().map(|(producer_id, first)| AbortedTransaction {
            producer_id: *producer_id,
            first_offset: Some(*first),
        });
        aborted.collect()
    });
    partition
}
