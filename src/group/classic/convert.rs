//! Classic groups as others see them that take their members over, or hand theirs to them.

use bytes::Bytes;

use crate::base::Timestamp;
use crate::group::classic::member::Member;
use crate::group::classic::{CONSUMER, Classic, Out, State, Step};
use crate::group::message::{Answer, Joined, Synced};
use crate::group::record::GroupValue;
use crate::protocol::{ErrorCode, Str};

/// A member on its way from or to a classic group.
#[derive(Clone, Debug)]
pub(in crate::group) struct Part {
    pub(in crate::group) id: Str,
    pub(in crate::group) instance: Option<Str>,
    pub(in crate::group) client_id: Str,
    pub(in crate::group) client_host: Str,
    pub(in crate::group) rebalance_timeout_ms: i32,
    pub(in crate::group) session_timeout_ms: i32,
    /// What it speaks, the best first.
    pub(in crate::group) protocols: Vec<(Str, Bytes)>,
    /// What it said for the protocol in use; not given to a classic group.
    pub(in crate::group) metadata: Bytes,
    /// What it has; not given to a classic group.
    pub(in crate::group) assignment: Bytes,
}

impl Classic {
    pub(in crate::group) fn generation(&self) -> i32 {
        self.generation
    }

    /// The members, for a group that takes them over.
    pub(in crate::group) fn parts(&self) -> Vec<Part> {
        // One that was never through with a rebalance has not chosen yet.
        let protocol = self.protocol.clone().or_else(|| self.vote());
        let part = |(id, member): (&Str, &Member)| Part {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
            metadata: member.metadata(protocol.as_ref()),
            assignment: member.assignment.clone(),
        };
        self.members.iter().map(part).collect()
    }

    /// A stable group of consumers; `assignment` tells what each has, by its id and metadata.
    pub(in crate::group) fn from_parts(
        generation: i32,
        wall: Timestamp,
        parts: Vec<Part>,
        assignment: impl Fn(&Str, &Bytes) -> Bytes,
    ) -> Self {
        let mut group = Self::new(wall);
        group.state = State::Stable;
        group.generation = generation;
        group.protocol_type = Some(Str::from_static_str(CONSUMER));
        for part in parts {
            group.add(part.id.clone(), Member::from_part(part));
        }
        group.protocol = group.vote();
        group.subscribed = group.subscribed_topics();
        let protocol = group.protocol.clone();
        for (id, member) in &mut group.members {
            member.assignment = assignment(id, &member.metadata(protocol.as_ref()));
            group.size_bytes += member.assignment.len();
        }
        group
    }

    /// The group as its record has it.
    pub(in crate::group) fn value(&self) -> GroupValue {
        self.record(|_, member| member.assignment.clone())
    }

    /// The same for a group that is to rebalance. A rebalance leaves no other trace until it ends:
    /// whoever loads the group sees by its missing leader that it is still due.
    pub(in crate::group) fn value_unassigned(&self) -> GroupValue {
        GroupValue { leader: None, ..self.value() }
    }

    /// Its members are to join again.
    pub(in crate::group) fn rebalance(&mut self, step: &mut Step<'_>) {
        self.prepare_rebalance(step);
    }

    /// Another group takes its members over: whoever waits joins that.
    pub(in crate::group) fn disband(&mut self, out: &mut Out) {
        let error = ErrorCode::RebalanceInProgress;
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.joining.take() {
                out.answers.push((ticket, Answer::Join(Joined::refused(error, id.clone()))));
            }
            if let Some(ticket) = member.syncing.take() {
                out.answers.push((ticket, Answer::Sync(Synced::refused(error))));
            }
        }
        self.joining_count = 0;
    }
}
