//! One group of the classic protocol: members join, the leader assigns, everybody syncs.
//!
//! ```text
//!           first join            the join phase ends         the assignment is written
//!   Empty ------------> Preparing -----------------> Completing -----------------> Stable
//!     ^                 Rebalance <----------------- Rebalance                       |
//!     |                  |     ^    join, leave, expiry                              |
//!     +------------------+     +------------------------------------------------------+
//!        nobody is left                      join, leave, expiry
//! ```
//!
//! A group that is deleted leaves the coordinator at once, so there is no state Dead here; it is
//! only a name in answers. Protocol type, metadata and assignments are opaque.
//!
//! Invariants: the generation never goes back; a member waits with one Join and one Sync at most;
//! `wake` is never later than the earliest deadline.
//! Elsewhere: joining (`join`), rebalances and time (`rebalance`), assignments, heartbeats and
//! leaving (`sync`), moves from and to the consumer protocol (`convert`).

pub(super) mod convert;
pub(super) mod join;
mod member;
mod rebalance;
pub mod subscription;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Instant, Timestamp};
use crate::group::message::{Answer, Described, Join, Joined, JoinedMember, Synced, Ticket};
use crate::group::record::GroupValue;
use crate::group::size::PENDING_BYTES;
use crate::group::{Now, Settings};
use crate::protocol::{ErrorCode, Str};

use join::Replaced;
use member::Member;

/// The protocol type of consumers (KIP-429): the only one whose metadata is looked into.
pub const CONSUMER: &str = "consumer";

/// Where a group stands (`ClassicGroupState`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It has no members, maybe offsets.
    Empty,
    /// Members are to join; everybody else is told to come.
    PreparingRebalance,
    /// All joined, the leader has not assigned yet.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
}

impl State {
    /// The name that tools print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One step of a group: when it happens, under which settings, and what follows from it.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a Settings,
    pub(super) out: Out,
}

/// What follows from a step.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Requests that have their answer now.
    pub(super) answers: Vec<(Ticket, Answer)>,
    /// The group, to be written, and what is to happen once it is.
    pub(super) writes: Vec<(GroupValue, After)>,
}

/// What a written record of a group brings about.
#[derive(Debug)]
pub(super) enum After {
    /// Nothing.
    Nothing,
    /// The group is new; if it can not be written, the Join that made it fails.
    Created(Ticket),
    /// The leader's assignment counts.
    Assigned(Assigned),
    /// A static member has come back under another id.
    Replaced(Box<Replaced>),
}

/// An assignment of the leader's that is being written.
#[derive(Debug)]
pub(super) struct Assigned {
    generation: i32,
    assignments: BTreeMap<Str, Bytes>,
}

/// When the phase of joining ends by itself.
#[derive(Clone, Copy, Debug)]
enum JoinTimer {
    /// A rebalance waits for members that have not come back.
    Rebalance { at: Instant },
    /// A new group waits for more members: at `at`, unless some came within the last `delay`; then
    /// it waits again, `left` in all.
    Initial { at: Instant, delay: Duration, left: Duration },
}

impl JoinTimer {
    fn at(self) -> Instant {
        match self {
            Self::Rebalance { at } | Self::Initial { at, .. } => at,
        }
    }
}

/// A classic group. See the module's header.
#[derive(Debug)]
pub(super) struct Classic {
    state: State,
    state_since: Option<Timestamp>,
    protocol_type: Option<Str>,
    protocol: Option<Str>,
    generation: i32,
    leader: Option<Str>,
    members: BTreeMap<Str, Member>,
    /// Member ids by the instance ids of static members.
    statics: BTreeMap<Str, Str>,
    /// Ids that were given out and have not joined yet, with the time they lapse.
    pending_joins: BTreeMap<Str, Instant>,
    /// Members of this generation that have not synced.
    pending_syncs: BTreeSet<Str>,
    /// How many members speak each protocol.
    speakers: BTreeMap<Str, usize>,
    /// How many members wait with a Join.
    joining_count: usize,
    /// What members and ids that were given out take up.
    size_bytes: usize,
    /// Topics the members subscribe to; `None` when unknown.
    subscribed: Option<BTreeSet<Str>>,
    /// Whether a member came during the initial delay.
    new_member_came: bool,
    /// Whether the leader's assignment is being written.
    assigning: bool,
    join_timer: Option<JoinTimer>,
    sync_timer: Option<Instant>,
    wake: Option<Instant>,
}

impl Classic {
    pub(super) fn new(wall: Timestamp) -> Self {
        Self {
            state: State::Empty,
            state_since: Some(wall),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            speakers: BTreeMap::new(),
            joining_count: 0,
            size_bytes: 0,
            subscribed: None,
            new_member_came: false,
            assigning: false,
            join_timer: None,
            sync_timer: None,
            wake: None,
        }
    }

    /// A group as its record has it; its members' sessions begin with [`Classic::loaded`], and so
    /// does its rebalance when it has members that nobody leads ([`Classic::value_unassigned`]).
    pub(super) fn from_record(value: GroupValue) -> Self {
        let mut group = Self::new(Timestamp::default());
        group.state = match (value.members.is_empty(), &value.leader) {
            (true, _) => State::Empty,
            (false, Some(_)) => State::Stable,
            (false, None) => State::PreparingRebalance,
        };
        group.state_since = value.state_since;
        group.generation = value.generation;
        group.protocol_type = value.protocol_type;
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in value.members {
            let id = member.id.clone();
            group.add(id, Member::from_record(member, &protocol));
        }
        group.protocol = value.protocol;
        // A leader that is no member would never come back.
        let leader = value.leader.filter(|leader| group.members.contains_key(leader));
        group.leader = leader.or(group.leader.take());
        group.subscribed = group.subscribed_topics();
        group
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn state_since(&self) -> Option<Timestamp> {
        self.state_since
    }

    pub(super) fn protocol_type(&self) -> Option<&Str> {
        self.protocol_type.as_ref()
    }

    pub(super) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// What it takes up in memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// What a member, named by its id or its instance's, has said, in bytes; `None` when there is
    /// none.
    pub(super) fn said_bytes(&self, id: Option<&Str>, instance: Option<&Str>) -> Option<usize> {
        let id = id.or_else(|| self.statics.get(instance?))?;
        self.members.get(id).map(Member::said_bytes)
    }

    /// Whether nobody is in it or about to be.
    pub(super) fn is_deserted(&self) -> bool {
        self.state == State::Empty && self.pending_joins.is_empty()
    }

    /// Whether no trace of it would be missed: it never had members and was never written.
    pub(super) fn is_blank(&self) -> bool {
        self.is_deserted() && self.protocol_type.is_none() && self.generation == 0
    }

    /// Whether its members consume `topic`, as far as is known.
    pub(super) fn subscribes(&self, topic: &Str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    /// Whether it is known which topics its members consume.
    pub(super) fn subscription_known(&self) -> bool {
        self.subscribed.is_some()
    }

    /// When it wants to be woken; maybe earlier than needed.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// The group in detail.
    pub(super) fn describe(&self, id: &Str) -> Described {
        let protocol = self.protocol.as_ref().filter(|_| self.state == State::Stable);
        let members = self.members.iter();
        Described {
            error: ErrorCode::None,
            message: None,
            group: id.clone(),
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.cloned().unwrap_or_default(),
            members: members.map(|(id, member)| member.described(id, protocol)).collect(),
        }
    }

    /// The group as it is written; a member's assignment is what `assignment` says.
    fn record(&self, assignment: impl Fn(&Str, &Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_ref();
        let members = self.members.iter();
        GroupValue {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since: self.state_since,
            members: members
                .map(|(id, member)| member.record(id, protocol, assignment(id, member)))
                .collect(),
        }
    }

    /// Whether a member of this kind, speaking these protocols, fits in.
    fn supports(&self, join: &Join) -> bool {
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let count = |name| self.speakers.get(name).copied().unwrap_or_default();
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| count(name) == self.members.len())
    }

    /// Whether the member is the one it says it is, and in the group.
    fn check_member(&self, id: &Str, instance: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member, or a client that is none, may commit offsets now.
    pub(super) fn check_commit(
        &self,
        member: Option<&Str>,
        instance: Option<&Str>,
        generation: Option<i32>,
    ) -> Result<(), ErrorCode> {
        let is_outside = generation.is_none_or(|generation| generation < 0);
        if is_outside && self.state == State::Empty {
            return Ok(());
        }
        if is_outside && member.is_none() && instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(&member.cloned().unwrap_or_default(), instance)?;
        if generation != Some(self.generation) {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::PreparingRebalance | State::Stable => Ok(()),
        }
    }

    fn add(&mut self, id: Str, member: Member) {
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.forget_pending(&id);
        self.count_in(&member);
        let before = self.members.insert(id, member);
        debug_assert!(before.is_none(), "a member is added once");
    }

    /// Takes a member out; whatever it still waited for is refused.
    fn remove(&mut self, id: &Str, out: &mut Out) {
        if let Some(mut member) = self.members.remove(id) {
            self.count_out(&member);
            if let Some(ticket) = member.joining.take() {
                let refused = Joined::refused(ErrorCode::UnknownMemberId, Str::default());
                out.answers.push((ticket, Answer::Join(refused)));
            }
            if let Some(ticket) = member.syncing.take() {
                let refused = Synced::refused(ErrorCode::UnknownMemberId);
                out.answers.push((ticket, Answer::Sync(refused)));
            }
            if let Some(instance) = &member.instance {
                self.statics.remove(instance);
            }
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.forget_pending(id);
        self.pending_syncs.remove(id);
    }

    /// An id that was given out is not waited for any more.
    fn forget_pending(&mut self, id: &Str) {
        if self.pending_joins.remove(id).is_some() {
            self.size_bytes -= PENDING_BYTES + id.len();
        }
    }

    /// Gives a member its assignment.
    fn assign(&mut self, id: &Str, assignment: Bytes) -> Option<&mut Member> {
        let member = self.members.get_mut(id)?;
        self.size_bytes = self.size_bytes + assignment.len() - member.assignment.len();
        member.assignment = assignment;
        Some(member)
    }

    /// Counts a member's protocols, its Join, and what it takes up.
    fn count_in(&mut self, member: &Member) {
        for (name, _) in &member.protocols {
            *self.speakers.entry(name.clone()).or_default() += 1;
        }
        self.joining_count += usize::from(member.joining.is_some());
        self.size_bytes += member.size_bytes();
    }

    fn count_out(&mut self, member: &Member) {
        for (name, _) in &member.protocols {
            if let Some(count) = self.speakers.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.speakers.remove(name);
                }
            }
        }
        self.joining_count -= usize::from(member.joining.is_some());
        self.size_bytes -= member.size_bytes();
    }

    /// Changes a member; what is counted about it is kept right. `None` when there is none.
    fn change<T>(&mut self, id: &Str, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let mut member = self.members.remove(id)?;
        self.count_out(&member);
        let result = change(&mut member);
        self.count_in(&member);
        self.members.insert(id.clone(), member);
        Some(result)
    }

    /// Takes the ticket of a member's Join, which is to be answered.
    fn take_joining(&mut self, id: &Str) -> Option<Ticket> {
        let ticket = self.members.get_mut(id)?.joining.take()?;
        self.joining_count -= 1;
        Some(ticket)
    }

    fn all_joined(&self) -> bool {
        self.members.len() == self.joining_count && self.pending_joins.is_empty()
    }

    fn enter(&mut self, state: State, step: &Step<'_>) {
        self.state = state;
        self.state_since = Some(step.now.wall);
        self.assigning = false;
    }

    /// The protocol with the most votes of those that all members speak; ties go to the first in
    /// the order of names.
    fn vote(&self) -> Option<Str> {
        let spoken_by_all = |name: &Str| self.speakers.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice =
                member.protocols.iter().map(|(name, _)| name).find(|name| spoken_by_all(name));
            if let Some(name) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).clone())
    }

    /// What a Join is answered when the member is in; only the leader is told who else is.
    fn joined(&self, id: &Str) -> Joined {
        let is_leader = self.leader.as_ref() == Some(id);
        Joined {
            error: ErrorCode::None,
            member: id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: if is_leader { self.joined_members() } else { Vec::new() },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let members = self.members.iter();
        members.map(|(id, member)| member.joined(id, self.protocol.as_ref())).collect()
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<Str>> {
        if !self.is_consumer() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        self.protocol.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_ref());
            topics.extend(subscription::topics(metadata).ok()?);
        }
        Some(topics)
    }

    fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        millis(longest.unwrap_or_default())
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn set_join_timer(&mut self, timer: JoinTimer) {
        self.join_timer = Some(timer);
        self.wake_by(timer.at());
    }

    /// The member was heard of, or waits no longer: its session begins anew.
    fn renew_session(&mut self, id: &Str, step: &Step<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let expires = step.now.instant + millis(member.session_timeout_ms);
        member.expires = Some(expires);
        self.wake_by(expires);
    }

    #[cfg(test)]
    pub(super) fn snapshot(&self) -> GroupValue {
        // A group of offsets alone has no moment of its own.
        let state_since = self.state_since.filter(|_| !self.is_blank());
        GroupValue { state_since, ..self.record(|_, member| member.assignment.clone()) }
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let joining = self.members.values().filter(|member| member.joining.is_some()).count();
        assert_eq!(self.joining_count, joining, "joins are counted");
        let members = self.members.values().map(Member::size_bytes).sum::<usize>();
        let pending = self.pending_joins.keys().map(|id| PENDING_BYTES + id.len()).sum::<usize>();
        assert_eq!(self.size_bytes, members + pending, "memory is counted");
        for (name, count) in &self.speakers {
            let speaks = |member: &&Member| member.protocols.iter().any(|(own, _)| own == name);
            assert_eq!(self.members.values().filter(speaks).count(), *count, "{name} is counted");
        }
        assert_eq!(
            self.state == State::Empty,
            self.members.is_empty() && self.state == State::Empty
        );
        assert!(self.leader.as_ref().is_none_or(|leader| self.members.contains_key(leader)));
        assert!(self.pending_syncs.iter().all(|id| self.members.contains_key(id)));
        let deadlines = self.deadlines().min();
        assert!(deadlines.is_none_or(|at| self.wake.is_some_and(|wake| wake <= at)), "wakes late");
    }
}

/// A duration of the wire; negative ones are none.
fn millis(raw: i32) -> Duration {
    Duration::from_millis(u64::try_from(raw).unwrap_or_default())
}
