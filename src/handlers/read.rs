//! Reading for one fetch, on the cores that own its partitions.
//!
//! One owner: a single question, answered when there is enough to read or the wait is over.
//!
//! Several owners and any record will do (`fetch.min.bytes=1`): each is asked to wait, and the
//! first that has something ends the fetch. What the others could say is not needed when the client
//! has a session, which names only what changed: they wait on, and the session's next fetch, which
//! mostly asks them the same again, takes their reads over (see [`Standing`]). So a record wakes
//! the core it came to and that of the consumer's connection, however many cores are watched.
//! Without a session, and where records were there from the beginning, the others answer, too.
//!
//! Several owners and more bytes are wanted: each is asked for what it has; if that is too little
//! together, each waits for its part of what is missing.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::base::{LeaderEpoch, PartitionKey, ShardId};
use crate::handlers::Leaving;
use crate::handlers::session::{PartitionRef, Wanted};
use crate::mesh::message::ReadAsk;
use crate::mesh::shard::Asked;
use crate::mesh::{Answer, Ask, Shard};
use crate::partition::{FetchError, FetchFrom, Fetched, Isolation};
use crate::protocol::ErrorCode;
use crate::runtime::local::{first, next_ready};

/// One partition of the fetch, from question to answer.
pub(super) struct Item {
    pub(super) asked: PartitionRef,
    pub(super) wanted: Wanted,
    /// The partition, or why it can not be read.
    pub(super) target: Result<PartitionKey, ErrorCode>,
    /// What was read; `None` when nothing has changed since the session's last fetch.
    pub(super) result: Option<Result<Fetched, FetchError>>,
}

impl Item {
    /// Bytes of its records.
    pub(super) fn length(&self) -> u64 {
        let fetched = self.result.as_ref().and_then(|result| result.as_ref().ok());
        let slice = fetched.and_then(|fetched| fetched.slice.as_ref());
        slice.map_or(0, |slice| u64::from(slice.length))
    }

    /// Whether the fetch waits no longer, whatever others have: an error, or a parted history.
    fn ends_wait(&self) -> bool {
        self.target.is_ok()
            && match &self.result {
                Some(Ok(fetched)) => fetched.diverging.is_some(),
                Some(Err(_)) => true,
                None => false,
            }
    }
}

/// How often an answer is wished for again: where a lane is full the wish is lost.
const HURRIED_EVERY: Duration = Duration::from_millis(100);

/// Limits of the whole request.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes_max: u32,
    pub(super) bytes_min: u32,
    pub(super) wait: Duration,
    pub(super) isolation: Isolation,
}

/// Reads that wait on behind an answered fetch, of one session, one a core at most.
///
/// One that was answered meanwhile is not used: there may be more to read by now.
#[derive(Default)]
pub struct Standing(RefCell<Vec<StandingRead>>);

struct StandingRead {
    session: i32,
    core: ShardId,
    partitions: Vec<(PartitionKey, FetchFrom)>,
    bytes_max: u32,
    asked: Asked,
}

impl Standing {
    /// Ends them all: the connection is gone, or asks for something else.
    pub fn end(&self, shard: &Rc<Shard>) {
        end(shard, self.take_waiting());
    }

    /// Those that have no answer yet.
    fn take_waiting(&self) -> Vec<StandingRead> {
        let mut reads = self.0.take();
        reads.retain_mut(|read| next_ready(&mut read.asked).is_none());
        reads
    }

    fn keep(&self, shard: &Rc<Shard>, read: StandingRead) {
        let (mut kept, replaced): (Vec<_>, Vec<_>) = self
            .take_waiting()
            .into_iter()
            .partition(|other| other.session == read.session && other.core != read.core);
        end(shard, replaced);
        kept.push(read);
        *self.0.borrow_mut() = kept;
    }
}

fn end(shard: &Rc<Shard>, reads: Vec<StandingRead>) {
    for read in reads {
        shard.hurry(&read.asked);
    }
}

/// One core's part of a fetch.
struct Owner {
    core: ShardId,
    /// Its items, in the order of the request.
    list: Vec<usize>,
    /// With fewer bytes than this, it waits.
    bytes_min: u32,
}

impl Owner {
    /// The bytes it had for its items.
    fn bytes_found(&self, items: &[Item]) -> u64 {
        self.list.iter().map(|index| items[*index].length()).sum()
    }
}

/// How one fetch reads.
pub(super) struct Reading<'a> {
    pub(super) shard: &'a Rc<Shard>,
    pub(super) standing: &'a Standing,
    pub(super) leaving: &'a Leaving,
    /// The session that the client goes on with.
    pub(super) session: Option<i32>,
    pub(super) limits: Limits,
}

impl Reading<'_> {
    /// Reads all items, waiting for enough bytes as long as the request allows.
    pub(super) async fn read(&self, items: &mut [Item]) {
        let mut owners = self.by_owner(items);
        let any_will_do = self.limits.bytes_min <= 1 && !self.limits.wait.is_zero();
        if owners.len() > 1 && any_will_do {
            return self.read_any(items, &owners).await;
        }
        self.standing.end(self.shard);
        if let [owner] = owners.as_slice() {
            let mut asked = self.ask(items, owner, self.limits.wait);
            let answer = match self.unless_over(&mut asked).await {
                Some(answer) => answer,
                None => self.hurried(asked).await,
            };
            fill(items, owner, answer);
        } else if !owners.is_empty() {
            self.read_enough(items, &mut owners).await;
        }
    }

    fn by_owner(&self, items: &[Item]) -> Vec<Owner> {
        let mut owners: Vec<Owner> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Ok(key) = item.target else { continue };
            let core = self.shard.owner(key);
            match owners.iter_mut().find(|known| known.core == core) {
                Some(known) => known.list.push(index),
                None => {
                    let bytes_min = self.limits.bytes_min;
                    owners.push(Owner { core, list: vec![index], bytes_min });
                }
            }
        }
        owners
    }

    fn partitions_of(&self, items: &[Item], owner: &Owner) -> Vec<(PartitionKey, FetchFrom)> {
        let partitions = owner.list.iter().filter_map(|index| {
            let item = &items[*index];
            let from = FetchFrom {
                offset: item.wanted.offset,
                bytes_max: u32::try_from(item.wanted.bytes_max).unwrap_or(0),
                current_leader_epoch: LeaderEpoch::from_wire(item.wanted.current_leader_epoch),
                last_fetched_epoch: LeaderEpoch::from_wire(item.wanted.last_fetched_epoch),
                isolation: self.limits.isolation,
            };
            item.target.ok().map(|key| (key, from))
        });
        partitions.collect()
    }

    fn ask(&self, items: &[Item], owner: &Owner, wait: Duration) -> Asked {
        self.ask_for(self.partitions_of(items, owner), owner, wait)
    }

    fn ask_for(
        &self,
        partitions: Vec<(PartitionKey, FetchFrom)>,
        owner: &Owner,
        wait: Duration,
    ) -> Asked {
        let ask = ReadAsk {
            partitions,
            bytes_max: self.limits.bytes_max,
            bytes_min: owner.bytes_min,
            wait: (!wait.is_zero()).then_some(wait),
        };
        self.shard.ask(owner.core, Ask::Read(ask))
    }

    /// The output of `hearing`; `None` when the client leaves before, or others need the memory
    /// that its request holds.
    async fn unless_over<T>(&self, hearing: impl Future<Output = T>) -> Option<T> {
        first(async { Some(hearing.await) }, async {
            first(self.leaving.left(), self.shard.memory.pressed()).await;
            None
        })
        .await
    }

    /// Waits until any owner has something.
    async fn read_any(&self, items: &mut [Item], owners: &[Owner]) {
        let deadline = self.shard.runtime.now() + self.limits.wait;
        let mut asked = self.take_over_or_ask(items, owners);
        let has_waited = loop {
            let heard = self.unless_over(first_of(&mut asked)).await;
            let Some((place, answer)) = heard else { break false };
            let owner = &owners[place];
            let Some(has_waited) = fill(items, owner, answer) else { break false };
            let is_enough = owner.bytes_found(items) >= u64::from(owner.bytes_min);
            if is_enough || owner.list.iter().any(|index| items[*index].ends_wait()) {
                break has_waited;
            }
            let left = deadline.since(self.shard.runtime.now());
            if left.is_zero() {
                break false;
            }
            // A read taken over was asked for earlier, and is over earlier.
            asked.push((place, self.ask(items, owner, left)));
        };
        match self.session.filter(|_| has_waited) {
            Some(session) => self.leave(items, owners, asked, session),
            None => self.hear_all(items, owners, asked).await,
        }
    }

    /// Takes the standing reads over that still wait for just what this fetch wants, and asks the
    /// other owners.
    fn take_over_or_ask(&self, items: &[Item], owners: &[Owner]) -> Vec<(usize, Asked)> {
        let mut standing = self.standing.take_waiting();
        let mut asked = Vec::with_capacity(owners.len());
        for (place, owner) in owners.iter().enumerate() {
            let partitions = self.partitions_of(items, owner);
            let same = standing.iter().position(|read| {
                Some(read.session) == self.session
                    && read.core == owner.core
                    && read.bytes_max == self.limits.bytes_max
                    && read.partitions == partitions
            });
            asked.push(match same {
                Some(at) => (place, standing.swap_remove(at).asked),
                None => (place, self.ask_for(partitions, owner, self.limits.wait)),
            });
        }
        end(self.shard, standing);
        asked
    }

    /// Takes what has come, and leaves the rest to the session's next fetch.
    fn leave(
        &self,
        items: &mut [Item],
        owners: &[Owner],
        asked: Vec<(usize, Asked)>,
        session: i32,
    ) {
        for (place, mut asked) in asked {
            let owner = &owners[place];
            if let Some(answer) = next_ready(&mut asked) {
                fill(items, owner, answer);
                continue;
            }
            for index in &owner.list {
                items[*index].result = None;
            }
            let partitions = self.partitions_of(items, owner);
            let (core, bytes_max) = (owner.core, self.limits.bytes_max);
            let read = StandingRead { session, core, partitions, bytes_max, asked };
            self.standing.keep(self.shard, read);
        }
    }

    /// Has everybody answer now.
    async fn hear_all(&self, items: &mut [Item], owners: &[Owner], asked: Vec<(usize, Asked)>) {
        for (_, asked) in &asked {
            self.shard.hurry(asked);
        }
        for (place, asked) in asked {
            fill(items, &owners[place], asked.await);
        }
    }

    /// The answer of a parked read, now.
    async fn hurried(&self, mut asked: Asked) -> Option<Answer> {
        loop {
            self.shard.hurry(&asked);
            let answer = self.shard.runtime.timeout(HURRIED_EVERY, &mut asked).await;
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Waits until all owners together have enough.
    async fn read_enough(&self, items: &mut [Item], owners: &mut [Owner]) {
        let deadline = self.shard.runtime.now() + self.limits.wait;
        let asked = owners.iter().map(|owner| self.ask(items, owner, Duration::ZERO));
        let asked: Vec<(usize, Asked)> = asked.enumerate().collect();
        for (place, asked) in asked {
            fill(items, &owners[place], asked.await);
        }
        loop {
            let found: u64 = items.iter().map(Item::length).sum();
            let left = deadline.since(self.shard.runtime.now());
            let ends = items.iter().any(Item::ends_wait);
            if found >= u64::from(self.limits.bytes_min) || left.is_zero() || ends {
                return;
            }
            // Once the missing bytes are there, at least one owner has its part of them beyond what
            // it had: asked for less, it would answer at once, again and again.
            let missing = u64::from(self.limits.bytes_min) - found;
            let part = missing.div_ceil(owners.len() as u64);
            for owner in &mut *owners {
                let wanted = owner.bytes_found(items) + part;
                owner.bytes_min = u32::try_from(wanted).unwrap_or(u32::MAX);
            }
            let asked = owners.iter().map(|owner| self.ask(items, owner, left));
            let mut asked: Vec<(usize, Asked)> = asked.enumerate().collect();
            let heard = self.unless_over(first_of(&mut asked)).await;
            let answered = heard.and_then(|(place, answer)| fill(items, &owners[place], answer));
            self.hear_all(items, owners, asked).await;
            if answered.is_none() {
                // No room for a question, or no time for it: what there is has to do.
                return;
            }
        }
    }
}

/// Takes an owner's answer. Whether it had to be waited for; `None` when there is no answer.
fn fill(items: &mut [Item], owner: &Owner, answer: Option<Answer>) -> Option<bool> {
    let Some(Answer::Read { results, has_waited }) = answer else { return None };
    for (index, result) in owner.list.iter().zip(results) {
        items[*index].result = Some(result);
    }
    Some(has_waited)
}

/// The first question that is answered, which is taken out: its place, and the answer.
async fn first_of(asked: &mut Vec<(usize, Asked)>) -> (usize, Option<Answer>) {
    let (at, answer) = std::future::poll_fn(|cx| {
        for (at, (_, question)) in asked.iter_mut().enumerate() {
            if let Poll::Ready(answer) = std::pin::Pin::new(question).poll(cx) {
                return Poll::Ready((at, answer));
            }
        }
        Poll::Pending
    })
    .await;
    (asked.swap_remove(at).0, answer)
}
