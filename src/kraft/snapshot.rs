//! Snapshots of the metadata log: their names, and their bytes.
//!
//! A snapshot is a file of batches: a control batch with a header (and the voters), the image's
//! records, a control batch with a footer. Offsets in it count from 0.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::kraft::batch::{Batch, Body};
use crate::kraft::control::{ControlRecord, KRaftVersion, SnapshotFooter, SnapshotHeader, Voters};
use crate::metadata::Record;

/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 10_000;

const SUFFIX: &str = ".checkpoint";

/// What a snapshot holds: everything below an offset, written in epochs up to this one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SnapshotId {
    /// The first offset that is not in it.
    pub end: Offset,
    /// Epoch of the last record in it.
    pub epoch: LeaderEpoch,
}

impl SnapshotId {
    /// The snapshot that formatting writes: voters, but no records.
    pub const FORMATTED: Self = Self { end: Offset::ZERO, epoch: LeaderEpoch::ZERO };

    /// Reads a file's name; `None` when it is no snapshot's (or one that is being written or
    /// deleted).
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (end, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let digits = |text: &str, count| {
            text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(end, 20) || !digits(epoch, 10) {
            return None;
        }
        let end = Offset::from_wire(end.parse().ok()?)?;
        let epoch = LeaderEpoch::from_wire(epoch.parse().ok()?)?;
        Some(Self { end, epoch })
    }
}

/// The file's name.
impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:010}{SUFFIX}", self.end.get(), self.epoch.to_wire())
    }
}

/// What a snapshot is made of.
pub struct Contents<'a> {
    /// What it holds.
    pub id: SnapshotId,
    /// When the last record in it was appended.
    pub last_contained: Timestamp,
    /// The quorum's voters; `None` writes neither them nor `kraft.version`.
    pub voters: Option<&'a Voters>,
    /// The `metadata.version` level the records are written for.
    pub level: i16,
    /// The image's records.
    pub records: &'a [Record],
    /// The time of writing.
    pub now: Timestamp,
}

impl Contents<'_> {
    /// The snapshot's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut next = Offset::ZERO;
        let mut put = |body: Body| {
            let batch = Batch { base: next, epoch: self.id.epoch, timestamp: self.now, body };
            next = batch.end();
            out.extend_from_slice(&batch.encode(self.level));
        };
        let mut head = vec![ControlRecord::SnapshotHeader(SnapshotHeader {
            version: 0,
            last_contained_log_timestamp: self.last_contained.to_wire(),
        })];
        if let Some(voters) = self.voters {
            head.push(ControlRecord::KRaftVersion(KRaftVersion { version: 0, level: 1 }));
            head.push(ControlRecord::Voters(voters.clone()));
        }
        put(Body::Control(head));
        for records in self.records.chunks(BATCH_RECORDS_MAX) {
            put(Body::Data(records.to_vec()));
        }
        put(Body::Control(vec![ControlRecord::SnapshotFooter(SnapshotFooter { version: 0 })]));
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_known_by_its_name() {
        let id = SnapshotId { end: Offset::new(4181), epoch: LeaderEpoch::new(6) };
        let name = "00000000000000004181-0000000006.checkpoint";
        assert_eq!(id.to_string(), name);
        assert_eq!(SnapshotId::from_file_name(name), Some(id));
        for other in [
            "00000000000000004181-0000000006.checkpoint.part",
            "00000000000000004181-0000000006.checkpoint.deleted",
            "00000000000000004181.log",
            "bootstrap.checkpoint",
            "99999999999999999999-0000000006.checkpoint",
            "+0000000000000004181-0000000006.checkpoint",
        ] {
            assert_eq!(SnapshotId::from_file_name(other), None, "{other}");
        }
    }
}
