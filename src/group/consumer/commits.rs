//! Who may commit and fetch offsets of a consumer group.

use crate::base::Uuid;
use crate::group::consumer::Consumer;
use crate::group::message::{Commit, CommitTopic, Fetch};
use crate::metadata::Image;
use crate::protocol::{ErrorCode, Str};

/// The version of OffsetCommit that members of the consumer protocol use.
const VERSION_EPOCHS: i16 = 9;

impl Consumer {
    /// Whether a member, or a client that is none, may commit these offsets
    /// (`ConsumerGroup.validateOffsetCommit`).
    ///
    /// A member that has not heard of its latest epoch yet may, for partitions it had before
    /// (KIP-1251).
    pub(in crate::group) fn check_commit(
        &self,
        commit: &Commit,
        image: &Image,
    ) -> Result<(), ErrorCode> {
        if commit.generation.is_none_or(|epoch| epoch < 0) && self.members.is_empty() {
            return Ok(());
        }
        let id = commit.member.clone().unwrap_or_default();
        let member = self.members.get(&id).ok_or(ErrorCode::UnknownMemberId)?;
        let stale = if member.is_classic() {
            ErrorCode::IllegalGeneration
        } else if commit.version < VERSION_EPOCHS {
            return Err(ErrorCode::UnsupportedVersion);
        } else {
            ErrorCode::StaleMemberEpoch
        };
        let epoch = commit.generation.unwrap_or(-1);
        if epoch == member.current.epoch {
            return Ok(());
        }
        if epoch > member.current.epoch {
            return Err(stale);
        }
        let id_of = |topic: &CommitTopic| -> Option<Uuid> {
            topic.id.or_else(|| image.topic_named(&topic.name).map(|topic| topic.id))
        };
        for topic in &commit.topics {
            let topic_id = id_of(topic);
            let since = |at: i32| member.current.assigned_at(topic_id?, at);
            if topic.partitions.iter().any(|at| since(at.partition).is_none_or(|at| epoch < at)) {
                return Err(stale);
            }
        }
        Ok(())
    }

    /// Whether a member, or a client that is none, may fetch offsets
    /// (`ConsumerGroup.validateOffsetFetch`).
    pub(in crate::group) fn check_fetch(&self, fetch: &Fetch) -> Result<(), ErrorCode> {
        if fetch.member.is_none() && fetch.member_epoch.is_none() {
            return Ok(());
        }
        let id: Str = fetch.member.clone().unwrap_or_default();
        let member = self.members.get(&id).ok_or(ErrorCode::UnknownMemberId)?;
        if fetch.member_epoch == Some(member.current.epoch) {
            Ok(())
        } else if member.is_classic() {
            Err(ErrorCode::IllegalGeneration)
        } else {
            Err(ErrorCode::StaleMemberEpoch)
        }
    }
}
