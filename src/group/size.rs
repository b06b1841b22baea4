//! What groups take up in memory, about: enough to know when it is too much.
//!
//! Texts and bytes count as they are, and what holds them with the figures below. Allocators,
//! shared texts and the nodes of maps make the truth half or twice as much.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::Uuid;
use crate::group::message::{Commit, ConsumerHeartbeat};
use crate::protocol::Str;

/// A group without members and offsets.
pub(super) const GROUP_BYTES: usize = 1024;
/// A member, beside what it said and has.
pub(super) const MEMBER_BYTES: usize = 768;
/// An id that was given out, and has not joined yet.
pub(super) const PENDING_BYTES: usize = 128;
/// A committed offset, beside its note.
pub(super) const OFFSET_BYTES: usize = 128;
/// An element of a map, beside its texts.
pub(super) const ELEMENT_BYTES: usize = 64;
/// A partition in a target.
const TARGET_BYTES: usize = 8;
/// A partition that a member has, with its owner.
const OWNED_BYTES: usize = 64;

/// Of texts, each an element of something.
pub(super) fn of_texts<'a>(texts: impl IntoIterator<Item = &'a Str>) -> usize {
    texts.into_iter().map(|text| ELEMENT_BYTES + text.len()).sum()
}

/// Of protocols a member of the classic protocol speaks, with what it says for each.
pub(super) fn of_protocols<'a>(protocols: impl Iterator<Item = (&'a Str, &'a Bytes)>) -> usize {
    protocols.map(|(name, metadata)| ELEMENT_BYTES + name.len() + metadata.len()).sum()
}

/// Of what a heartbeat says about its member.
pub(super) fn of_heartbeat(heartbeat: &ConsumerHeartbeat) -> usize {
    let texts = [&heartbeat.rack, &heartbeat.expression, &heartbeat.assignor];
    of_texts(texts.into_iter().flatten().chain(heartbeat.topics.iter().flatten()))
}

/// Of the offsets that a commit brings.
pub(super) fn of_commit(commit: &Commit) -> usize {
    let partitions = commit.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|at| OFFSET_BYTES + at.metadata.as_ref().map_or(0, |note| note.len())).sum()
}

/// Of partitions by topic that are one member's target.
pub(super) fn of_target(topics: &BTreeMap<Uuid, Vec<i32>>) -> usize {
    topics.values().map(|partitions| ELEMENT_BYTES + TARGET_BYTES * partitions.len()).sum()
}

/// Of partitions by topic that a member has.
pub(super) fn of_owned(topics: &BTreeMap<Uuid, BTreeMap<i32, i32>>) -> usize {
    topics.values().map(|partitions| ELEMENT_BYTES + OWNED_BYTES * partitions.len()).sum()
}
