//! Consumer groups and other groups: requests go to the core that owns the group's partition of
//! `__consumer_offsets`, whose coordinator decides.

mod admin;
mod consumers;
mod coordinators;
mod membership;
mod offsets;

pub(super) use admin::{delete, describe, list};
pub(super) use consumers::{consumer_describe, consumer_heartbeat};
pub(super) use coordinators::find;
pub(super) use membership::{heartbeat, join, leave, sync};
pub(super) use offsets::{commit, delete_offsets, fetch};

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use crate::base::PartitionKey;
use crate::group::{self, Request, partition_of};
use crate::handlers::Client;
use crate::handlers::call::{Kind, scatter};
use crate::mesh::{Answer, Ask, Shard};
use crate::metadata::OFFSETS_TOPIC;
use crate::protocol::{ErrorCode, Str};

/// The partition that a group belongs to; `None` while `__consumer_offsets` does not exist.
fn place(shard: &Shard, group: &str) -> Option<PartitionKey> {
    let image = shard.image();
    let topic = image.topic_named(OFFSETS_TOPIC)?;
    let count = u32::try_from(topic.partitions.len()).ok()?;
    let partition = i32::try_from(partition_of(group, count)).ok()?;
    Some(PartitionKey { topic: topic.id, partition })
}

/// How often a request is answered for groups that it has named before: a small one must not be
/// answered with a large group a million times.
const REPEATS_MAX: usize = 64;

/// The groups that a request has named.
#[derive(Default)]
struct Named<'a> {
    seen: BTreeSet<&'a str>,
    repeats: usize,
}

impl<'a> Named<'a> {
    /// Whether the next group it names is answered for.
    fn admits(&mut self, group: &'a str) -> bool {
        if self.seen.insert(group) {
            return true;
        }
        self.repeats += 1;
        self.repeats <= REPEATS_MAX
    }
}

/// Whether a record about a member with texts and bytes of these lengths is larger than
/// `__consumer_offsets` takes: then the member can not be kept, and is refused at once.
fn is_too_large(shard: &Shard, lengths: impl IntoIterator<Item = usize>) -> bool {
    let image = shard.image();
    let Some(topic) = image.topic_named(OFFSETS_TOPIC) else { return false };
    let bytes_max = shard.topic_settings(topic).rules(0).batch_bytes_max as usize;
    // What surrounds them is not counted: what is a little too large fails when it is written.
    lengths.into_iter().sum::<usize>() > bytes_max
}

/// Asks a group's coordinator. What can not be asked is refused as the coordinator would refuse it.
async fn ask(
    shard: &Rc<Shard>,
    client: &Client,
    group: &str,
    make: impl Fn() -> Request,
) -> group::Answer {
    let Some(key) = place(shard, group) else {
        return make().refusal(ErrorCode::NotCoordinator);
    };
    let owner = shard.owner(key);
    client.home.asked(owner);
    let asked = shard.ask(owner, Ask::Groups(vec![(key.partition, make())]));
    let answer = match asked.await {
        Some(Answer::Groups(mut answers)) => answers.pop(),
        _ => None,
    };
    answer.unwrap_or_else(|| make().refusal(ErrorCode::CoordinatorNotAvailable))
}

/// Asks the coordinators of many groups; the answers are in the order of the requests.
async fn ask_many(shard: &Rc<Shard>, requests: Vec<(Str, Request)>) -> Vec<group::Answer> {
    let mut answers: Vec<Option<group::Answer>> = requests.iter().map(|_| None).collect();
    let mut places = Vec::new();
    let mut questions = Vec::new();
    let mut kept = Vec::new();
    for (index, (group, request)) in requests.into_iter().enumerate() {
        match place(shard, &group) {
            None => answers[index] = Some(request.refusal(ErrorCode::NotCoordinator)),
            Some(key) => {
                places.push(index);
                kept.push(request.clone());
                questions.push((key, request));
            }
        }
    }
    let kind = Kind {
        ask: |share: Vec<(PartitionKey, Request)>| {
            Ask::Groups(share.into_iter().map(|(key, request)| (key.partition, request)).collect())
        },
        answers: |answer| match answer {
            Answer::Groups(answers) => Some(answers),
            _ => None,
        },
    };
    let found = scatter(shard, questions, kind).await;
    for ((index, request), answer) in places.into_iter().zip(kept).zip(found) {
        let lost = || request.refusal(ErrorCode::CoordinatorNotAvailable);
        answers[index] = Some(answer.unwrap_or_else(lost));
    }
    answers.into_iter().flatten().collect()
}

/// A text of the wire that may stand for nothing.
fn filled(text: &Str) -> Option<Str> {
    (!text.is_empty()).then(|| text.clone())
}

/// The client's address as Java prints it.
fn host(client: &Client) -> Str {
    let text = match client.peer.ip().to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let parts: Vec<String> =
                address.segments().iter().map(|part| format!("{part:x}")).collect();
            format!("/{}", parts.join(":"))
        }
    };
    Str::from_string(text)
}
