//! Assignments, heartbeats and leaving.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::group::classic::{After, Assigned, Classic, State, Step};
use crate::group::message::{Answer, Heartbeat, Leave, Leaving, Sync, Synced, Ticket};
use crate::group::record::kept;
use crate::protocol::{ErrorCode, Str};

impl Classic {
    /// A Sync: a follower waits for the leader's, which is written first.
    pub(in crate::group) fn sync(&mut self, step: &mut Step<'_>, ticket: Ticket, sync: &Sync) {
        if let Err(error) = self.check_sync(sync) {
            return step.out.answers.push((ticket, Answer::Sync(Synced::refused(error))));
        }
        let Some(member) = self.members.get_mut(&sync.member) else { return };
        self.pending_syncs.remove(&sync.member);
        if self.state == State::Stable {
            let assignment = member.assignment.clone();
            return step.out.answers.push((ticket, Answer::Sync(self.synced(assignment))));
        }
        if let Some(before) = member.syncing.replace(ticket) {
            // Its earlier Sync, whose answer nobody can use; it must not block the connection.
            let refused = Synced::refused(ErrorCode::RebalanceInProgress);
            step.out.answers.push((before, Answer::Sync(refused)));
        }
        if self.leader.as_ref() == Some(&sync.member) && !self.assigning {
            self.assigning = true;
            let assignments: BTreeMap<Str, Bytes> = sync
                .assignments
                .iter()
                .filter(|(id, _)| self.members.contains_key(id))
                .map(|(id, assignment)| (kept(id), Bytes::copy_from_slice(assignment)))
                .collect();
            let value = self.record(|id, _| assignments.get(id).cloned().unwrap_or_default());
            let assigned = Assigned { generation: self.generation, assignments };
            step.out.writes.push((value, After::Assigned(assigned)));
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        let differ = |theirs: &Option<Str>, ours: &Option<Str>| {
            theirs.is_some() && ours.is_some() && theirs != ours
        };
        if self.state == State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(&sync.member, sync.instance.as_ref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differ(&sync.protocol_type, &self.protocol_type)
            || differ(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }

    /// The leader's assignment is on record, or could not be written.
    pub(in crate::group) fn assigned(
        &mut self,
        step: &mut Step<'_>,
        mut assigned: Assigned,
        result: Result<(), ErrorCode>,
    ) {
        let is_current = self.assigning
            && self.state == State::CompletingRebalance
            && self.generation == assigned.generation;
        if !is_current {
            return;
        }
        if let Err(error) = result {
            self.refuse_syncs(step, error);
            return self.prepare_rebalance(step);
        }
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            let assignment = assigned.assignments.remove(&id).unwrap_or_default();
            let Some(member) = self.assign(&id, assignment.clone()) else { continue };
            if let Some(ticket) = member.syncing.take() {
                step.out.answers.push((ticket, Answer::Sync(self.synced(assignment))));
                self.renew_session(&id, step);
            }
        }
        // The moment of the record stays the group's: loading it again must give the same.
        let since = self.state_since;
        self.enter(State::Stable, step);
        self.state_since = since;
    }

    /// A heartbeat: the member is alive, and hears whether it has to join again.
    pub(in crate::group) fn heartbeat(
        &mut self,
        step: &mut Step<'_>,
        heartbeat: &Heartbeat,
    ) -> ErrorCode {
        if let Err(error) = self.check_member(&heartbeat.member, heartbeat.instance.as_ref()) {
            return error;
        }
        if heartbeat.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        match self.state {
            State::Empty => ErrorCode::UnknownMemberId,
            State::PreparingRebalance => {
                self.renew_session(&heartbeat.member, step);
                ErrorCode::RebalanceInProgress
            }
            State::CompletingRebalance | State::Stable => {
                self.renew_session(&heartbeat.member, step);
                ErrorCode::None
            }
        }
    }

    /// A commit counts as a heartbeat.
    pub(in crate::group) fn committed(&mut self, step: &mut Step<'_>, member: Option<&Str>) {
        if let (State::Stable | State::PreparingRebalance, Some(member)) = (self.state, member) {
            self.renew_session(member, step);
        }
    }

    /// Members leave; what became of each, in the order of the request.
    pub(in crate::group) fn leave(
        &mut self,
        step: &mut Step<'_>,
        leave: &Leave,
    ) -> Vec<(Leaving, ErrorCode)> {
        let mut results = Vec::new();
        for leaving in &leave.members {
            let error = match self.find_leaving(leaving) {
                Ok(id) => {
                    self.remove(&id, &mut step.out);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            results.push((leaving.clone(), error));
        }
        if results.iter().any(|(_, error)| !error.is_error()) {
            self.after_removal(step);
        }
        results
    }

    fn find_leaving(&self, leaving: &Leaving) -> Result<Str, ErrorCode> {
        let Some(id) = &leaving.member else {
            let known = leaving.instance.as_ref().and_then(|instance| self.statics.get(instance));
            return known.cloned().ok_or(ErrorCode::UnknownMemberId);
        };
        if !self.pending_joins.contains_key(id) {
            self.check_member(id, leaving.instance.as_ref())?;
        }
        Ok(id.clone())
    }
}
