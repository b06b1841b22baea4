//! One group of the consumer protocol of Kafka 4 (KIP-848): members send heartbeats, the
//! coordinator assigns.
//!
//! ```text
//! a subscription, a topic or a member changes   -> the group's epoch grows
//! the next heartbeat, an interval later at most -> a target assignment of that epoch
//! each member's heartbeats                      -> gives back, then takes, up to that epoch
//! ```
//!
//! What lasts changes by records alone: a step writes a record and applies it at once, by the same
//! function that replays it. So a group is what its records say, timers apart. A step that comes to
//! more than can be written is taken back. Once its records are handed out there is no way back:
//! when they can not be written the coordinator is loaded anew.
//!
//! Invariants: a partition is owned by one member at most, as `owners` says; the group's epoch and
//! a member's epochs never go back; `wake` is never later than the earliest deadline.
//! Elsewhere: records (`apply`), heartbeats (`heartbeat`), what a member is told to have
//! (`reconcile`), the target (`target`), members of the classic protocol (`classic`), moves between
//! the protocols (`convert`), deadlines (`timers`), commits (`commits`), what admins see (`admin`),
//! steps that are taken back (`undo`).
//! Parts that know no groups: assignors ([`assignor`]), hashes of metadata ([`hash`]), regular
//! expressions ([`regex`]).

mod admin;
mod apply;
pub mod assignor;
mod classic;
mod commits;
pub(super) mod convert;
pub mod hash;
mod heartbeat;
mod member;
mod re2;
mod reconcile;
pub mod regex;
mod target;
mod timers;
mod undo;

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use crate::base::{Instant, Uuid};
use crate::group::classic::Classic;
use crate::group::message::Refusal;
use crate::group::record::{GroupValue, MemberKey, Record};
use crate::group::{GroupConfig, Now, Settings, size};
use crate::metadata::Image;
use crate::protocol::{ErrorCode, Str};

use assignor::Assignment;
use member::{Member, Said};
pub(super) use target::{TopicHashes, version_of};
use timers::Timers;

/// The epoch of a group without a member's subscription.
const EPOCH_FIRST: i32 = 1;

/// The epoch of a target assignment that was never made.
const EPOCH_NONE: i32 = -1;

/// A version of the metadata before any other.
const VERSION_NONE: i64 = i64::MIN;

/// Where a group stands (`ConsumerGroupState`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It has no members, maybe offsets.
    Empty,
    /// A new target assignment is due.
    Assigning,
    /// Members go towards the target.
    Reconciling,
    /// Everybody has what it is to have.
    Stable,
}

impl State {
    /// The name that tools print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// One step of a group: when it happens, under which settings, and what follows from it.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a Settings,
    pub(super) config: &'a GroupConfig,
    pub(super) image: &'a Image,
    pub(super) hashes: &'a mut TopicHashes,
    /// The metadata version that brought the latest new topics.
    pub(super) topics_version: i64,
    /// The group's id.
    pub(super) id: Str,
    /// What is to be written, and was applied.
    pub(super) records: Vec<Record>,
    /// What takes that back, the last one first.
    pub(super) undo: Vec<Record>,
    /// Whether the group is to go over to the classic protocol.
    pub(super) downgrade: Option<Downgrade>,
}

/// A group's way back to the classic protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Downgrade {
    /// Its assignment stays.
    Keep,
    /// Its members are to rebalance.
    Rebalance,
}

impl Downgrade {
    /// What is written of the classic group that takes the members over.
    pub(super) fn value(self, classic: &Classic) -> GroupValue {
        match self {
            Self::Keep => classic.value(),
            Self::Rebalance => classic.value_unassigned(),
        }
    }
}

impl Step<'_> {
    fn member_key(&self, member: &Str) -> MemberKey {
        MemberKey { group: self.id.clone(), member: member.clone() }
    }
}

/// How many members subscribe to a topic by its name, and how many expressions match it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Subscribers {
    by_name: usize,
    by_expression: usize,
}

/// The topics that match an expression.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Resolved {
    topics: BTreeSet<Str>,
    version: i64,
    resolved_at_ms: i64,
}

/// When the topics of an expression were last looked up, if no record says so: they were the same,
/// or could not be written.
#[derive(Clone, Copy, Debug)]
struct Look {
    at_ms: i64,
    /// The metadata they were found in; [`VERSION_NONE`] when they could not be written.
    version: i64,
}

/// A consumer group. See the module's header.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    epoch: i32,
    metadata_hash: i64,
    members: BTreeMap<Str, Member>,
    /// Member ids by the instance ids of static members.
    statics: BTreeMap<Str, Str>,
    target: BTreeMap<Str, Assignment>,
    target_epoch: i32,
    target_at_ms: i64,
    /// The member epoch under which each partition is owned, or still to be given back.
    owners: FxHashMap<(Uuid, i32), i32>,
    topics: BTreeMap<Str, Subscribers>,
    /// How many members subscribe to each expression.
    expressions: BTreeMap<Str, usize>,
    resolved: BTreeMap<Str, Resolved>,
    looks: BTreeMap<Str, Look>,
    /// How many members ask for each assignor.
    assignors: BTreeMap<Str, usize>,
    /// Members of the classic protocol, and how many of them speak each of its protocols.
    classic_count: usize,
    classic_protocols: BTreeMap<Str, usize>,
    /// Whether there is a record of its topics from before version 4.1, to be deleted.
    has_old_topics: bool,
    timers: BTreeMap<Str, Timers>,
    wake: Option<Instant>,
    /// When its topics' metadata is looked at again; `None` at once.
    refresh_at: Option<Instant>,
    /// When a target is made again, after one that could not be written.
    assign_at: Option<Instant>,
    /// Topics it began to subscribe to, and those it ended with, since it was last asked.
    subscription_changes: Vec<(Str, Subscribing)>,
    /// What members said and have, their target, and the topics of expressions take up.
    contents_bytes: usize,
}

/// What a group did about a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Subscribing {
    /// Its first member subscribed to it.
    Begins,
    /// Its last member does not subscribe to it any more.
    Ends,
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            epoch: EPOCH_FIRST,
            metadata_hash: 0,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            target: BTreeMap::new(),
            target_epoch: EPOCH_NONE,
            target_at_ms: 0,
            owners: FxHashMap::default(),
            topics: BTreeMap::new(),
            expressions: BTreeMap::new(),
            resolved: BTreeMap::new(),
            looks: BTreeMap::new(),
            assignors: BTreeMap::new(),
            classic_count: 0,
            classic_protocols: BTreeMap::new(),
            has_old_topics: false,
            timers: BTreeMap::new(),
            wake: None,
            refresh_at: None,
            assign_at: None,
            subscription_changes: Vec::new(),
            contents_bytes: 0,
        }
    }
}

impl Consumer {
    pub(super) fn state(&self) -> State {
        if self.members.is_empty() {
            State::Empty
        } else if self.epoch > self.target_epoch {
            State::Assigning
        } else if self.members.values().all(|one| one.current.is_reconciled_to(self.target_epoch)) {
            State::Stable
        } else {
            State::Reconciling
        }
    }

    /// What it takes up in memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        size::MEMBER_BYTES * self.members.len() + self.contents_bytes
    }

    /// What a member, named by its id or its instance's, has said, in bytes; `None` when there is
    /// none.
    pub(super) fn said_bytes(&self, id: Option<&Str>, instance: Option<&Str>) -> Option<usize> {
        let by_id = id.and_then(|id| self.members.get(id));
        let by_instance = || self.members.get(self.statics.get(instance?)?);
        by_id.or_else(by_instance).map(|member| member.said.size_bytes())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether its members consume `topic`.
    pub(super) fn subscribes(&self, topic: &Str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Its topics changed: the next heartbeat looks at them.
    pub(super) fn request_refresh(&mut self) {
        self.refresh_at = None;
    }

    /// Topics it began to subscribe to or ended with since this was last called.
    pub(super) fn take_subscription_changes(&mut self) -> Vec<(Str, Subscribing)> {
        std::mem::take(&mut self.subscription_changes)
    }

    /// Topics it subscribes to.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Str> {
        self.topics.keys()
    }

    /// Writes a record and applies it.
    fn write(&mut self, step: &mut Step<'_>, record: Record) {
        step.undo.extend(self.inverse(&record));
        self.apply(&record);
        step.records.push(record);
    }

    fn write_said(&mut self, step: &mut Step<'_>, id: &Str, said: &Said) {
        let record = Record::ConsumerMember(step.member_key(id), Some(said.to_value()));
        self.write(step, record);
    }

    /// Deletes what is on record about a member.
    fn remove_member(&mut self, step: &mut Step<'_>, id: &Str) {
        let key = step.member_key(id);
        self.write(step, Record::CurrentMember(key.clone(), None));
        self.write(step, Record::TargetMember(key.clone(), None));
        self.write(step, Record::ConsumerMember(key, None));
    }

    /// Members that are silent, leave or are too slow are out; the group's epoch grows.
    ///
    /// When only members of the classic protocol are left, the group may go over to it, unless one
    /// record can not hold it then, or more are about to be fenced.
    fn fence(&mut self, step: &mut Step<'_>, ids: &BTreeSet<Str>, are_all: bool) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.remove_member(step, id);
        }
        if are_all && self.may_downgrade(step) {
            step.downgrade = Some(Downgrade::Rebalance);
            if self.fits(step) {
                return;
            }
            step.downgrade = None;
        }
        self.drop_unused_expressions(step);
        let hash = self.hash_topics(step);
        self.bump(step, hash);
    }

    /// Raises the group's epoch.
    fn bump(&mut self, step: &mut Step<'_>, metadata_hash: i64) {
        let epoch = self.epoch.saturating_add(1);
        self.write_epoch(step, epoch, metadata_hash);
    }

    fn find_member(&self, id: &Str, group: &Str) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| {
            let text = format!("Member {id} is not a member of group {group}.");
            Refusal::new(ErrorCode::UnknownMemberId, text)
        })
    }

    /// Whether somebody owns a partition.
    fn is_owned(&self, topic: Uuid, partition: i32) -> bool {
        self.owners.contains_key(&(topic, partition))
    }
}

#[cfg(test)]
impl Consumer {
    /// The group as it would be written, to compare coordinators.
    pub(super) fn snapshot(&self, id: &Str) -> Vec<Record> {
        let mut records = Vec::new();
        self.push_records(id, &mut records);
        records
    }

    /// Each member's epoch, and what it has.
    pub(super) fn owned(&self) -> impl Iterator<Item = (Str, i32, Vec<(Uuid, i32)>)> + '_ {
        self.members.iter().map(|(id, member)| {
            (id.clone(), member.current.epoch, member.current.partitions().collect())
        })
    }

    pub(super) fn epochs(&self) -> (i32, i32) {
        (self.epoch, self.target_epoch)
    }

    pub(super) fn check_invariants(&self) {
        let mut owners = BTreeMap::new();
        for (id, member) in &self.members {
            for at in member.current.partitions() {
                assert_eq!(owners.insert(at, id), None, "{at:?} has one owner");
                assert_eq!(self.owners.get(&at), Some(&member.current.epoch), "{at:?} is known");
            }
            if let Some(instance) = &member.said.instance {
                assert_eq!(self.statics.get(instance), Some(id));
            }
        }
        assert_eq!(owners.len(), self.owners.len(), "nothing is owned by nobody");
        assert!(self.timers.keys().all(|id| self.members.contains_key(id)));
        assert!(self.target.keys().all(|id| self.members.contains_key(id)));
        let members = self.members.values();
        let members = members.map(|one| one.said.size_bytes() + one.current.size_bytes());
        let target = self.target.values().map(size::of_target).sum::<usize>();
        let resolved = self.resolved.values().map(|one| size::of_texts(&one.topics)).sum::<usize>();
        let contents_bytes = members.sum::<usize>() + target + resolved;
        assert_eq!(self.contents_bytes, contents_bytes, "memory is counted");
        let classic = self.members.values().filter(|member| member.is_classic()).count();
        assert_eq!(classic, self.classic_count);
        for (topic, count) in &self.topics {
            let by_name = self.members.values().filter(|one| one.said.topics.contains(topic));
            let by_expression = self.resolved.values().filter(|one| one.topics.contains(topic));
            let counts = (by_name.count(), by_expression.count());
            assert_eq!(counts, (count.by_name, count.by_expression), "{topic} is counted");
        }
        let deadlines = self.deadlines().min();
        assert!(deadlines.is_none_or(|at| self.wake.is_some_and(|wake| wake <= at)), "wakes late");
    }
}
