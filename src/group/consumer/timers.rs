//! Deadlines of a consumer group's members.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::Instant;
use crate::group::consumer::member::MemberState;
use crate::group::consumer::{Consumer, Step};
use crate::group::record::tombstone_bytes_bound;
use crate::protocol::Str;

/// How many records there are of a member.
const RECORDS_OF_MEMBER: usize = 3;

/// What a member has to do until when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    /// Be heard of.
    pub(super) session: Option<Instant>,
    /// Give back what it has to, in this epoch.
    pub(super) rebalance: Option<(Instant, i32)>,
    /// Join again; for members of the classic protocol.
    pub(super) join: Option<Instant>,
    /// Ask for its assignment; for members of the classic protocol.
    pub(super) sync: Option<Instant>,
}

impl Timers {
    fn all(&self) -> impl Iterator<Item = Instant> + use<> {
        let rebalance = self.rebalance.map(|(at, _)| at);
        self.session.into_iter().chain(rebalance).chain(self.join).chain(self.sync)
    }
}

/// A duration of the wire; negative ones are none.
fn millis(raw: i32) -> Duration {
    Duration::from_millis(u64::try_from(raw).unwrap_or_default())
}

impl Consumer {
    /// Every deadline there is.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> + '_ {
        self.timers.values().flat_map(Timers::all)
    }

    /// When it wants to be woken; maybe earlier than needed.
    pub(in crate::group) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    fn set_timer(&mut self, id: &Str, at: Instant, set: impl FnOnce(&mut Timers)) {
        if self.members.contains_key(id) {
            set(self.timers.entry(id.clone()).or_default());
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
    }

    /// The member was heard of: its session begins anew.
    pub(super) fn renew_session(&mut self, step: &Step<'_>, id: &Str) {
        let classic = self.members.get(id).and_then(|member| member.said.classic.as_ref());
        let timeout = match classic {
            Some(classic) => millis(classic.session_timeout_ms),
            None => step.config.session_timeout(step.settings),
        };
        self.begin_session(step, id, timeout);
    }

    fn begin_session(&mut self, step: &Step<'_>, id: &Str, timeout: Duration) {
        let at = step.now.instant + timeout;
        self.set_timer(id, at, |timers| timers.session = Some(at));
    }

    /// Begins or ends the time a member has to give partitions back.
    pub(super) fn time_rebalance(&mut self, step: &Step<'_>, id: &Str) {
        let Some(member) = self.members.get(id).filter(|member| !member.is_classic()) else {
            return;
        };
        let epoch = member.current.epoch;
        if member.current.state == MemberState::Unrevoked {
            let at = step.now.instant + millis(member.said.rebalance_timeout_ms);
            self.set_timer(id, at, |timers| timers.rebalance = Some((at, epoch)));
        } else if let Some(timers) = self.timers.get_mut(id) {
            timers.rebalance = None;
        }
    }

    /// A member of the classic protocol is told to join again: it has as long as it said.
    pub(super) fn time_join(&mut self, step: &Step<'_>, id: &Str) {
        if self.timers.get(id).is_some_and(|timers| timers.join.is_some()) {
            return;
        }
        let Some(member) = self.members.get(id) else { return };
        let at = step.now.instant + millis(member.said.rebalance_timeout_ms);
        self.set_timer(id, at, |timers| timers.join = Some(at));
    }

    /// A member of the classic protocol joined: it has to ask for its assignment.
    pub(super) fn time_sync(&mut self, step: &Step<'_>, id: &Str, timeout_ms: i32) {
        let at = step.now.instant + millis(timeout_ms);
        self.set_timer(id, at, |timers| {
            timers.join = None;
            timers.sync = Some(at);
        });
    }

    /// A member of the classic protocol asked for its assignment.
    pub(super) fn end_sync(&mut self, id: &Str) {
        if let Some(timers) = self.timers.get_mut(id) {
            timers.sync = None;
        }
    }

    /// The group was loaded: its members' sessions begin.
    pub(in crate::group) fn loaded(&mut self, step: &mut Step<'_>) {
        let timeout = step.config.session_timeout(step.settings);
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            self.begin_session(step, &id, timeout);
            self.time_rebalance(step, &id);
        }
    }

    /// Does what is due, and finds out when to wake next.
    pub(in crate::group) fn tick(&mut self, step: &mut Step<'_>) {
        let now = step.now.instant;
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        let is_late = |id: &Str, timers: &Timers| {
            let others = timers.session.into_iter().chain(timers.join).chain(timers.sync);
            let epoch = self.members.get(id).map(|member| member.current.epoch);
            let revokes = timers.rebalance.filter(|(_, since)| Some(*since) == epoch);
            others.chain(revokes.map(|(at, _)| at)).any(|at| at <= now)
        };
        let late = self.timers.iter().filter(|(id, timers)| is_late(id, timers));
        let late: Vec<&Str> = late.map(|(id, _)| id).collect();
        // Those that are left are fenced next: it wants to be woken for them at once. With a
        // classic group their time would begin anew.
        let together = self.fenced_together(step, &late);
        let are_all = together.len() == late.len();
        self.fence(step, &together, are_all);
        for (id, timers) in &mut self.timers {
            let epoch = self.members.get(id).map(|member| member.current.epoch);
            let counts = |at: Instant, since: i32| at > now || Some(since) == epoch;
            timers.rebalance = timers.rebalance.filter(|(at, since)| counts(*at, *since));
        }
        self.wake = self.deadlines().min();
    }

    /// The first of these members, as many as one batch holds when they are fenced; one at least.
    fn fenced_together(&self, step: &Step<'_>, members: &[&Str]) -> BTreeSet<Str> {
        // The other half is for what follows from it.
        let mut left = step.settings.batch_bytes_max / 2;
        let mut together = BTreeSet::new();
        for &id in members {
            let said = self.members.get(id).map(|member| &member.said);
            let expression = said.and_then(|said| said.expression.as_ref());
            let bytes = RECORDS_OF_MEMBER * tombstone_bytes_bound(&step.id, id)
                + expression.map_or(0, |one| tombstone_bytes_bound(&step.id, one));
            if bytes > left && !together.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes);
            together.insert(id.clone());
        }
        together
    }
}
