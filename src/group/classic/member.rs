//! A member of a classic group.

use bytes::Bytes;

use crate::base::Instant;
use crate::group::classic::convert::Part;
use crate::group::message::{DescribedMember, Join, JoinedMember, Ticket};
use crate::group::record::{MemberValue, kept};
use crate::group::size;
use crate::protocol::Str;

/// A member (`ClassicGroupMember`).
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// What it speaks, the best first.
    pub(super) protocols: Vec<(Str, Bytes)>,
    pub(super) assignment: Bytes,
    /// The Join that waits for the rebalance to end.
    pub(super) joining: Option<Ticket>,
    /// The Sync that waits for the leader's assignment.
    pub(super) syncing: Option<Ticket>,
    /// Whether it never saw a rebalance to its end: it can not send heartbeats yet.
    pub(super) is_new: bool,
    /// When it is dropped unless it is heard of; `None` while it waits for us.
    pub(super) expires: Option<Instant>,
}

impl Member {
    pub(super) fn from_join(join: &Join) -> Self {
        Self {
            instance: join.instance.as_ref().map(kept),
            client_id: kept(&join.client_id),
            client_host: kept(&join.client_host),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.kept_protocols().collect(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
            expires: None,
        }
    }

    pub(super) fn from_record(value: MemberValue, protocol: &Str) -> Self {
        Self {
            instance: value.instance,
            client_id: value.client_id,
            client_host: value.client_host,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: vec![(protocol.clone(), value.subscription)],
            assignment: value.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            expires: None,
        }
    }

    /// A member that a group of the other protocol had.
    pub(super) fn from_part(part: Part) -> Self {
        Self {
            instance: part.instance,
            client_id: part.client_id,
            client_host: part.client_host,
            rebalance_timeout_ms: part.rebalance_timeout_ms,
            session_timeout_ms: part.session_timeout_ms,
            protocols: part.protocols,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: false,
            expires: None,
        }
    }

    /// What it has said, in bytes.
    pub(super) fn said_bytes(&self) -> usize {
        size::of_protocols(self.protocols.iter().map(|(name, metadata)| (name, metadata)))
    }

    /// What it takes up in memory, about; its id begins with its instance's or its client's.
    pub(super) fn size_bytes(&self) -> usize {
        let names = size::of_texts([&self.client_id, &self.client_host]);
        let names = names + size::of_texts(&self.instance);
        size::MEMBER_BYTES + 2 * names + self.said_bytes() + self.assignment.len()
    }

    /// Whether a Join names the same protocols in the same order with the same metadata.
    pub(super) fn matches(&self, join: &Join) -> bool {
        self.protocols == join.protocols
    }

    /// What it said for `protocol`; empty when it does not speak it.
    pub(super) fn metadata(&self, protocol: Option<&Str>) -> Bytes {
        let spoken = self.protocols.iter().find(|(name, _)| Some(name) == protocol);
        spoken.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether it waits for an answer of ours, and so needs no heartbeat.
    pub(super) fn waits(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(super) fn record(
        &self,
        id: &Str,
        protocol: Option<&Str>,
        assignment: Bytes,
    ) -> MemberValue {
        MemberValue {
            id: id.clone(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    pub(super) fn joined(&self, id: &Str, protocol: Option<&Str>) -> JoinedMember {
        JoinedMember {
            id: id.clone(),
            instance: self.instance.clone(),
            metadata: self.metadata(protocol),
        }
    }

    /// As shown to admins; without a `protocol`, without metadata.
    pub(super) fn described(&self, id: &Str, protocol: Option<&Str>) -> DescribedMember {
        DescribedMember {
            id: id.clone(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}
