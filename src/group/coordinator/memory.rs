//! What the groups of a coordinator take up in memory, and what they may.
//!
//! Who asks for more than there is finds no coordinator for the time being, and tries again. Large
//! members and commits may fill one half, so that a few of them leave the others room. New ones of
//! any size are refused before the memory is used up, so that the groups that are there can still
//! rebalance: their leaders' assignments are refused last. What members do otherwise is never
//! refused.
//!
//! Apache Kafka has no such bound; its process ends.

use crate::group::coordinator::{Coordinator, Group, Kind};
use crate::group::message::{Commit, Request};
use crate::group::size;
use crate::protocol::{ErrorCode, Str};

/// The part of the memory that is kept for groups that are there.
const KEPT_PART: usize = 8;

/// What adds more than this part of the memory is large, if it is more than this many bytes.
const LARGE_PART: usize = 1024;
const LARGE_BYTES_MIN: usize = 1024;

/// What is taken up, in bytes, about.
#[derive(Debug)]
pub(super) struct Memory {
    /// By groups and their members.
    pub(super) groups_bytes: usize,
    /// By records on their way.
    pub(super) writes_bytes: usize,
    /// How much groups, offsets and records may take up.
    room_bytes: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { groups_bytes: 0, writes_bytes: 0, room_bytes: usize::MAX }
    }
}

impl Memory {
    /// Everything is gone.
    pub(super) fn forget(&mut self) {
        (self.groups_bytes, self.writes_bytes) = (0, 0);
    }
}

impl Coordinator {
    /// What its groups take up in memory, in bytes, about.
    pub fn size_bytes(&self) -> usize {
        self.memory.groups_bytes + self.memory.writes_bytes + self.offsets.size_bytes()
    }

    /// How much they may take up, in bytes; nobody is sent away when it gets less.
    pub fn set_room(&mut self, room_bytes: usize) {
        self.memory.room_bytes = room_bytes;
    }

    /// Whether not all new members and offsets are taken.
    pub fn is_short(&self) -> bool {
        self.size_bytes() >= self.memory.room_bytes / 2
    }

    /// Whether something new of so many bytes is taken.
    fn takes(&self, bytes: usize) -> bool {
        let room_bytes = self.memory.room_bytes;
        let is_large = bytes > (room_bytes / LARGE_PART).max(LARGE_BYTES_MIN);
        self.size_bytes()
            < if is_large { room_bytes / 2 } else { room_bytes - room_bytes / KEPT_PART }
    }

    /// Whether there is room for what a request would add.
    pub(super) fn check_memory(&self, request: &Request) -> Result<(), ErrorCode> {
        if !self.is_short() {
            return Ok(());
        }
        let is_refused = match request {
            Request::Join(join) => {
                let protocols = join.protocols.iter().map(|(name, metadata)| (name, metadata));
                let bytes = size::of_protocols(protocols);
                let (id, instance) = (join.member.as_ref(), join.instance.as_ref());
                !self.takes(bytes) && !self.has_said(&join.group, id, instance, bytes)
            }
            Request::ConsumerHeartbeat(beat) => {
                let bytes = size::of_heartbeat(beat);
                let instance = beat.instance.as_ref();
                let adds = beat.joins() || (bytes > 0 && !beat.leaves());
                adds && !self.takes(bytes)
                    && !self.has_said(&beat.group, Some(&beat.member), instance, bytes)
            }
            Request::Commit(commit) => !self.takes(size::of_commit(commit)) && self.grows(commit),
            Request::Sync(sync) => {
                !sync.assignments.is_empty() && self.size_bytes() >= self.memory.room_bytes
            }
            Request::Heartbeat(_)
            | Request::Leave(_)
            | Request::Fetch(_)
            | Request::DeleteOffsets(_)
            | Request::List(_)
            | Request::Describe(_)
            | Request::Delete(_)
            | Request::ConsumerDescribe(_) => false,
        };
        if is_refused { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(()) }
    }

    /// Whether a member is there that has said at least so many bytes.
    fn has_said(
        &self,
        id: &Str,
        member: Option<&Str>,
        instance: Option<&Str>,
        bytes: usize,
    ) -> bool {
        let said = match self.groups.get(id) {
            Some(Group { kind: Kind::Classic(classic), .. }) => {
                classic.said_bytes(member, instance)
            }
            Some(Group { kind: Kind::Consumer(consumer), .. }) => {
                consumer.said_bytes(member, instance)
            }
            None => None,
        };
        said.is_some_and(|said| said >= bytes)
    }

    /// Whether a commit brings offsets of partitions that had none, or longer notes.
    fn grows(&self, commit: &Commit) -> bool {
        commit.topics.iter().any(|topic| {
            topic.partitions.iter().any(|at| {
                let note_bytes = at.metadata.as_ref().map_or(0, |note| note.len());
                let (group, name) = (&commit.group, &topic.name);
                !self.offsets.has_as_long(group, name, at.partition, note_bytes)
            })
        })
    }
}
