//! Rebalances of a classic group, and what time does to it.

use std::time::Duration;

use bytes::Bytes;

use crate::base::Instant;
use crate::group::classic::{After, Classic, JoinTimer, Out, State, Step};
use crate::group::message::{Answer, Joined, Synced, Ticket};
use crate::protocol::{ErrorCode, Str};

/// How long a rebalance that nobody came to waits at least before it looks again.
const ABSENT_WAIT_MIN: Duration = Duration::from_secs(1);

impl Classic {
    pub(super) fn is_in_initial_delay(&self) -> bool {
        matches!(self.join_timer, Some(JoinTimer::Initial { .. }))
    }

    /// Something about the members changed: a rebalance begins, or the one under way may end.
    pub(super) fn rebalance_or_complete(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(step);
            }
            State::PreparingRebalance => self.complete_if_all_joined(step),
        }
    }

    /// A member was taken out: the others share its part, or need not wait for it any more.
    pub(super) fn after_removal(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::CompletingRebalance | State::Stable => self.prepare_rebalance(step),
            State::PreparingRebalance => self.complete_if_all_joined(step),
            State::Empty => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_>) {
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(step, ErrorCode::RebalanceInProgress);
        }
        self.pending_syncs.clear();
        self.sync_timer = None;
        let is_first = self.state == State::Empty;
        self.enter(State::PreparingRebalance, step);
        if is_first {
            // A group that starts up gets its members one after the other: wait for some.
            let delay = step.settings.initial_rebalance_delay;
            let left = self.rebalance_timeout().saturating_sub(delay);
            self.new_member_came = false;
            self.set_join_timer(JoinTimer::Initial { at: step.now.instant + delay, delay, left });
        } else if self.all_joined() {
            self.complete_join(step);
        } else {
            let at = step.now.instant + self.rebalance_timeout();
            self.set_join_timer(JoinTimer::Rebalance { at });
        }
    }

    /// Ends the phase of joining when nobody is missing; a new group waits all the same.
    pub(super) fn complete_if_all_joined(&mut self, step: &mut Step<'_>) {
        let is_joining = self.state == State::PreparingRebalance && !self.is_in_initial_delay();
        if is_joining && self.all_joined() {
            self.complete_join(step);
        }
    }

    /// Ends the phase of joining: who is missing is out, unless it is static.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        self.join_timer = None;
        let missing: Vec<Str> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in &missing {
            self.remove(id, &mut step.out);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left, and none came: they may yet.
            let at = step.now.instant + self.rebalance_timeout().max(ABSENT_WAIT_MIN);
            return self.set_join_timer(JoinTimer::Rebalance { at });
        }
        // The numbers wrap around as in Java, but never to the wire's -1.
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_syncs.clear();
        self.protocol = self.vote();
        self.subscribed = self.subscribed_topics();
        if self.members.is_empty() {
            self.enter(State::Empty, step);
            let value = self.record(|_, member| member.assignment.clone());
            return step.out.writes.push((value, After::Nothing));
        }
        self.enter(State::CompletingRebalance, step);
        self.answer_joins(step);
        let at = step.now.instant + self.rebalance_timeout();
        self.sync_timer = Some(at);
        self.wake_by(at);
    }

    /// Makes sure that the leader is one of those that joined; `false` when nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &Str| self.members.get(id).is_some_and(|one| one.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.joining.is_some());
        match joined.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Tells everybody the new generation; static members that are away are part of it as well.
    fn answer_joins(&mut self, step: &mut Step<'_>) {
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(ticket) = self.take_joining(&id) {
                step.out.answers.push((ticket, Answer::Join(self.joined(&id))));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.renew_session(&id, step);
            self.pending_syncs.insert(id);
        }
    }

    /// Refuses every parked Sync; assignments of the generation that ends are void.
    pub(super) fn refuse_syncs(&mut self, step: &mut Step<'_>, error: ErrorCode) {
        let mut waited = Vec::new();
        for (id, member) in &mut self.members {
            self.size_bytes -= member.assignment.len();
            member.assignment = Bytes::new();
            if let Some(ticket) = member.syncing.take() {
                step.out.answers.push((ticket, Answer::Sync(Synced::refused(error))));
                waited.push(id.clone());
            }
        }
        for id in waited {
            self.renew_session(&id, step);
        }
    }

    /// Every deadline there is.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> + '_ {
        let sessions = self.members.values().filter_map(|member| member.expires);
        let pending = self.pending_joins.values().copied();
        let timers = self.join_timer.map(JoinTimer::at).into_iter().chain(self.sync_timer);
        sessions.chain(pending).chain(timers)
    }

    /// Does what is due, and finds out when to wake next.
    pub(in crate::group) fn tick(&mut self, step: &mut Step<'_>) {
        if self.wake.is_none_or(|wake| wake > step.now.instant) {
            return;
        }
        self.wake = None;
        self.expire_members(step);
        self.expire_join(step);
        self.expire_sync(step);
        self.wake = self.deadlines().min();
    }

    fn expire_members(&mut self, step: &mut Step<'_>) {
        let now = step.now.instant;
        let lapsed = self.pending_joins.iter().filter(|(_, at)| **at <= now);
        let lapsed: Vec<Str> = lapsed.map(|(id, _)| id.clone()).collect();
        for id in lapsed {
            self.forget_pending(&id);
            self.complete_if_all_joined(step);
        }
        let silent = self
            .members
            .iter()
            .filter(|(_, member)| member.expires.is_some_and(|expires| expires <= now));
        let silent: Vec<Str> = silent.map(|(id, _)| id.clone()).collect();
        for id in silent {
            // An earlier one's removal may have renewed or removed it.
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.expires.is_none_or(|expires| expires > now) {
                continue;
            }
            if member.waits() {
                // It waits for us; its session begins anew with the answer.
                member.expires = None;
                continue;
            }
            self.remove(&id, &mut step.out);
            self.after_removal(step);
        }
    }

    fn expire_join(&mut self, step: &mut Step<'_>) {
        let now = step.now.instant;
        match self.join_timer {
            Some(JoinTimer::Initial { at, delay, left }) if at <= now => {
                if self.new_member_came && !left.is_zero() {
                    self.new_member_came = false;
                    let next = step.settings.initial_rebalance_delay.min(left);
                    let left = left.saturating_sub(delay);
                    self.set_join_timer(JoinTimer::Initial { at: now + next, delay: next, left });
                } else {
                    self.complete_join(step);
                }
            }
            Some(JoinTimer::Rebalance { at }) if at <= now => self.complete_join(step),
            Some(_) | None => {}
        }
    }

    fn expire_sync(&mut self, step: &mut Step<'_>) {
        if self.sync_timer.is_none_or(|at| at > step.now.instant) {
            return;
        }
        self.sync_timer = None;
        if self.pending_syncs.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_syncs) {
            self.remove(&id, &mut step.out);
        }
        self.prepare_rebalance(step);
    }

    /// The group was loaded: its members' sessions begin. One that is too large rebalances, and one
    /// whose rebalance had not ended when it was written.
    pub(in crate::group) fn loaded(&mut self, step: &mut Step<'_>) {
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            self.renew_session(&id, step);
        }
        let is_due = self.state == State::PreparingRebalance;
        if is_due || self.members.len() > step.settings.size_max {
            self.prepare_rebalance(step);
        }
    }

    /// Tickets still waiting, each with the answer that there is no coordinator here any more.
    pub(in crate::group) fn abandon(&mut self, out: &mut Out) {
        for (id, member) in &mut self.members {
            let refuse = |ticket: Ticket| {
                let refused = Joined::refused(ErrorCode::NotCoordinator, id.clone());
                (ticket, Answer::Join(refused))
            };
            out.answers.extend(member.joining.take().map(refuse));
            let refused = Synced::refused(ErrorCode::NotCoordinator);
            out.answers.extend(member.syncing.take().map(|ticket| (ticket, Answer::Sync(refused))));
        }
        self.joining_count = 0;
    }
}
