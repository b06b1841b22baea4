//! Joining a classic group: who may, under which id, and what it sets off.

use bytes::Bytes;

use crate::base::Instant;
use crate::group::classic::member::Member;
use crate::group::classic::{After, Classic, State, Step, millis};
use crate::group::message::{Answer, Join, Joined, Synced, Ticket};
use crate::group::record::{GroupValue, kept};
use crate::group::size::PENDING_BYTES;
use crate::protocol::{ErrorCode, Str};

/// Versions of JoinGroup from which a member must come with its id, and may skip assigning.
const VERSION_ID_REQUIRED: i16 = 4;
const VERSION_SKIP_ASSIGNMENT: i16 = 9;

/// How long a member whose first Join is parked is kept without a heartbeat, in milliseconds.
const NEW_MEMBER_TIMEOUT_MS: i32 = 5 * 60 * 1000;

/// How many ids that were given out a group waits for.
const PENDING_MAX: usize = if cfg!(test) { 100 } else { 10_000 };

/// A static member's return under a new id that is being written (KIP-345).
#[derive(Debug)]
pub(in crate::group) struct Replaced {
    version: i16,
    ticket: Ticket,
    old: Str,
    new: Str,
    leader_before: Option<Str>,
    said: Said,
}

/// What a member had said about itself before it came back.
#[derive(Debug)]
struct Said {
    protocols: Vec<(Str, Bytes)>,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
}

impl Classic {
    /// A Join. `is_created` says whether the group was made for it.
    pub(in crate::group) fn join(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        join: &Join,
        origin: Origin,
    ) {
        let refuse = |error, member: Str| (ticket, Answer::Join(Joined::refused(error, member)));
        let writes_before = step.out.writes.len();
        if !self.has_room_for(join.member.as_ref(), step) {
            if let Some(id) = &join.member {
                self.remove(id, &mut step.out);
            }
            step.out.answers.push(refuse(ErrorCode::GroupMaxSizeReached, Str::default()));
        } else if !self.supports(join) {
            let id = join.member.clone().unwrap_or_default();
            step.out.answers.push(refuse(ErrorCode::InconsistentGroupProtocol, id));
        } else {
            match &join.member {
                None => self.join_new(step, ticket, join),
                Some(id) => self.join_known(step, ticket, join, id),
            }
        }
        if origin == Origin::Created && step.out.writes.len() == writes_before {
            // A group is on record from its first Join on.
            let value = GroupValue { state_since: self.state_since, ..GroupValue::default() };
            step.out.writes.push((value, After::Created(ticket)));
        }
    }

    fn has_room_for(&self, id: Option<&Str>, step: &Step<'_>) -> bool {
        let member = id.and_then(|id| self.members.get(id));
        let size_max = step.settings.size_max;
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.joining.is_some())
                    || self.joining_count < size_max
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < size_max
            }
        }
    }

    fn join_new(&mut self, step: &mut Step<'_>, ticket: Ticket, join: &Join) {
        let id = new_member_id(join);
        let Some(instance) = &join.instance else {
            if join.version < VERSION_ID_REQUIRED {
                return self.admit(step, ticket, join, id);
            }
            // It gets its id first, so that one that never comes back leaves no member behind.
            let lapses = step.now.instant + millis(join.session_timeout_ms);
            self.wait_for(&id, lapses);
            let refused = Joined::refused(ErrorCode::MemberIdRequired, id);
            return step.out.answers.push((ticket, Answer::Join(refused)));
        };
        match self.statics.get(instance).cloned() {
            Some(old) => self.replace_static(step, ticket, join, old, id),
            None => self.admit(step, ticket, join, id),
        }
    }

    /// Waits for the Join with an id that was given out.
    fn wait_for(&mut self, id: &Str, lapses: Instant) {
        if self.pending_joins.len() >= PENDING_MAX {
            // Its member will be told that it is not known, and ask for another.
            let first = self.pending_joins.iter().min_by_key(|(_, lapses)| **lapses);
            if let Some(first) = first.map(|(id, _)| id.clone()) {
                self.forget_pending(&first);
            }
        }
        if self.pending_joins.insert(id.clone(), lapses).is_none() {
            self.size_bytes += PENDING_BYTES + id.len();
        }
        self.wake_by(lapses);
    }

    fn join_known(&mut self, step: &mut Step<'_>, ticket: Ticket, join: &Join, id: &Str) {
        if self.pending_joins.contains_key(id) && join.instance.is_none() {
            return self.admit(step, ticket, join, kept(id));
        }
        if let Err(error) = self.check_member(id, join.instance.as_ref()) {
            let refused = Joined::refused(error, id.clone());
            return step.out.answers.push((ticket, Answer::Join(refused)));
        }
        let is_leader = self.leader.as_ref() == Some(id);
        let unchanged = self.members.get(id).is_some_and(|member| member.matches(join));
        match self.state {
            State::PreparingRebalance => self.update(step, ticket, join, id),
            // It missed the answer: it gets the same again.
            State::CompletingRebalance if unchanged => {
                step.out.answers.push((ticket, Answer::Join(self.joined(id))));
            }
            // A follower that lost its way; a leader's Join is how it asks for a rebalance.
            State::Stable if unchanged && !is_leader => {
                step.out.answers.push((ticket, Answer::Join(self.joined(id))));
            }
            State::CompletingRebalance | State::Stable => self.update(step, ticket, join, id),
            State::Empty => {
                let refused = Joined::refused(ErrorCode::UnknownMemberId, id.clone());
                step.out.answers.push((ticket, Answer::Join(refused)));
            }
        }
    }

    /// Adds a member that was none.
    fn admit(&mut self, step: &mut Step<'_>, ticket: Ticket, join: &Join, id: Str) {
        if self.members.is_empty() {
            self.protocol_type = Some(kept(&join.protocol_type));
        }
        if self.is_in_initial_delay() {
            self.new_member_came = true;
        }
        let mut member = Member::from_join(join);
        member.joining = Some(ticket);
        // It can send no heartbeats while its first Join is parked.
        let expires = step.now.instant + millis(NEW_MEMBER_TIMEOUT_MS);
        member.expires = Some(expires);
        self.add(id, member);
        self.wake_by(expires);
        self.rebalance_or_complete(step);
    }

    /// A member rejoins, with what it says now.
    fn update(&mut self, step: &mut Step<'_>, ticket: Ticket, join: &Join, id: &Str) {
        self.restate(step, ticket, join, id);
        self.rebalance_or_complete(step);
    }

    fn restate(&mut self, step: &mut Step<'_>, ticket: Ticket, join: &Join, id: &Str) {
        let before = self.change(id, |member| {
            member.protocols = join.kept_protocols().collect();
            member.rebalance_timeout_ms = join.rebalance_timeout_ms;
            member.session_timeout_ms = join.session_timeout_ms;
            member.joining.replace(ticket)
        });
        if let Some(Some(before)) = before {
            // Its earlier Join, whose answer nobody can use; it must not block the connection.
            let refused = Joined::refused(ErrorCode::RebalanceInProgress, id.clone());
            step.out.answers.push((before, Answer::Join(refused)));
        }
    }

    /// A static member came back without its id: it takes its own place, and the old id is fenced.
    fn replace_static(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        join: &Join,
        old: Str,
        new: Str,
    ) {
        let leader_before = self.leader.clone();
        let Some(said) = self.rename_static(step, &old, &new) else { return };
        self.renew_session(&new, step);
        self.restate(step, ticket, join, &new);
        match self.state {
            State::Stable if self.vote() == self.protocol => {
                let value = self.record(|_, member| member.assignment.clone());
                let replaced =
                    Replaced { version: join.version, ticket, old, new, leader_before, said };
                step.out.writes.push((value, After::Replaced(Box::new(replaced))));
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(step),
            State::PreparingRebalance | State::Empty => self.complete_if_all_joined(step),
        }
    }

    /// Gives a static member another id; what waits under the old one is fenced.
    fn rename_static(&mut self, step: &mut Step<'_>, old: &Str, new: &Str) -> Option<Said> {
        let mut member = self.members.remove(old)?;
        self.count_out(&member);
        if let Some(ticket) = member.joining.take() {
            let refused = Joined::refused(ErrorCode::FencedInstanceId, old.clone());
            step.out.answers.push((ticket, Answer::Join(refused)));
        }
        if let Some(ticket) = member.syncing.take() {
            let refused = Synced::refused(ErrorCode::FencedInstanceId);
            step.out.answers.push((ticket, Answer::Sync(refused)));
        }
        member.is_new = false;
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), new.clone());
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.clone());
        }
        let said = Said {
            protocols: member.protocols.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
        };
        self.count_in(&member);
        self.members.insert(new.clone(), member);
        Some(said)
    }

    /// A static member's return is on record, or could not be written.
    pub(in crate::group) fn replaced(
        &mut self,
        step: &mut Step<'_>,
        replaced: Replaced,
        result: Result<(), ErrorCode>,
    ) {
        let Replaced { ticket, old, new, .. } = replaced;
        let parked = self.members.get(&new).and_then(|member| member.joining);
        if parked != Some(ticket) {
            return;
        }
        if let Err(error) = result {
            self.take_joining(&new);
            let refused = Joined::refused(error, Str::default());
            step.out.answers.push((ticket, Answer::Join(refused)));
            self.change(&new, |member| {
                member.protocols = replaced.said.protocols;
                member.rebalance_timeout_ms = replaced.said.rebalance_timeout_ms;
                member.session_timeout_ms = replaced.said.session_timeout_ms;
            });
            self.rename_static(step, &new, &old);
            self.renew_session(&old, step);
            return;
        }
        if self.state != State::Stable {
            // Meanwhile a rebalance began, which this Join is part of.
            return;
        }
        self.take_joining(&new);
        self.renew_session(&new, step);
        let mut joined = self.joined(&new);
        if replaced.version >= VERSION_SKIP_ASSIGNMENT {
            joined.skip_assignment = self.leader.as_ref() == Some(&new);
        } else {
            // An old client must not think that it leads, or it would assign.
            joined.leader = replaced.leader_before.unwrap_or_default();
            joined.members = Vec::new();
        }
        step.out.answers.push((ticket, Answer::Join(joined)));
    }

    /// The group could not be written when it was made: who made it has to try again.
    pub(in crate::group) fn creation_failed(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        error: ErrorCode,
    ) {
        let waits = |member: &Member| member.joining == Some(ticket);
        let id = self.members.iter().find(|(_, member)| waits(member)).map(|(id, _)| id.clone());
        if let Some(id) = id {
            self.take_joining(&id);
            let refused = Joined::refused(error, Str::default());
            step.out.answers.push((ticket, Answer::Join(refused)));
            self.remove(&id, &mut step.out);
            self.after_removal(step);
        }
    }
}

/// Whether a group was there before the Join that is handled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::group) enum Origin {
    /// It was made for this Join.
    Created,
    /// It was there.
    Known,
}

/// The id of a new member: its instance's or client's id, and a random one.
fn new_member_id(join: &Join) -> Str {
    let random = uuid::Builder::from_random_bytes(join.random).into_uuid();
    let stem = join.instance.as_ref().unwrap_or(&join.client_id);
    Str::from_string(format!("{stem}-{random}"))
}
