//! Reading the metadata log back: the newest snapshot first, then the batches behind it.

use std::fmt;

use crate::base::{LeaderEpoch, NodeId, Offset, Timestamp};
use crate::kraft::batch::{Batch, BatchError, Body, decode_all};
use crate::kraft::control::{ControlRecord, Voters};
use crate::kraft::snapshot::SnapshotId;
use crate::metadata::{ApplyError, Position, Record, Replay};

/// Why a metadata log or a snapshot can not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LoadError {
    /// A batch is damaged.
    Batch(BatchError),
    /// A record contradicts those before it.
    Apply {
        /// Offset of the batch that holds the record.
        base: Offset,
        /// What is wrong.
        error: ApplyError,
    },
    /// Records are missing between the end of what was read and the next batch.
    Gap {
        /// The offset that should come next.
        expected: Offset,
        /// The offset that came.
        found: Offset,
    },
    /// A snapshot without its header or footer: it was not written to its end.
    IncompleteSnapshot,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(error) => error.fmt(f),
            Self::Apply { base, error } => write!(f, "in the batch at offset {base}: {error}"),
            Self::Gap { expected, found } => {
                write!(f, "offset {expected} is missing; the next batch begins at {found}")
            }
            Self::IncompleteSnapshot => f.write_str("the snapshot has no footer"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<BatchError> for LoadError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

/// All that a metadata log says.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub(super) replay: Replay,
    /// The last voters record, and whether the log (not only a formatted snapshot) has it.
    pub(super) voters: Option<Voters>,
    pub(super) voters_in_log: bool,
    pub(super) kraft_version: i16,
    /// Who may vote, by the last leader's word.
    pub(super) leader_voters: Vec<NodeId>,
    pub(super) last_epoch: LeaderEpoch,
    pub(super) last_timestamp: Timestamp,
    pub(super) end: Offset,
    pub(super) snapshot: Option<SnapshotId>,
}

impl Loaded {
    /// Begins with a snapshot's bytes.
    pub fn from_snapshot(id: SnapshotId, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut loaded = Self { snapshot: Some(id), ..Self::default() };
        let (mut begun, mut ended) = (false, false);
        for batch in decode_all(bytes) {
            let batch = batch?;
            match &batch.body {
                Body::Control(records) => {
                    for record in records {
                        begun |= matches!(record, ControlRecord::SnapshotHeader(_));
                        ended |= matches!(record, ControlRecord::SnapshotFooter(_));
                        loaded.control(record, id.end > Offset::ZERO);
                    }
                }
                Body::Data(records) => loaded.data(batch.base, id.epoch, records)?,
            }
        }
        if !begun || !ended {
            return Err(LoadError::IncompleteSnapshot);
        }
        loaded.last_epoch = id.epoch;
        loaded.end = id.end;
        if id.end > Offset::ZERO {
            loaded.replay.advance(Position { offset: id.end - 1, epoch: id.epoch });
        }
        Ok(loaded)
    }

    /// Reads the next batch of the log. Batches that the snapshot holds are skipped.
    pub fn read(&mut self, batch: &Batch) -> Result<(), LoadError> {
        if batch.end() <= self.end {
            return Ok(());
        }
        if batch.base != self.end {
            return Err(LoadError::Gap { expected: self.end, found: batch.base });
        }
        match &batch.body {
            Body::Control(records) => {
                records.iter().for_each(|record| self.control(record, true));
                let offset = batch.end() - 1;
                self.replay.advance(Position { offset, epoch: batch.epoch });
            }
            Body::Data(records) => self.data(batch.base, batch.epoch, records)?,
        }
        self.end = batch.end();
        self.last_epoch = self.last_epoch.max(batch.epoch);
        self.last_timestamp = self.last_timestamp.max(batch.timestamp);
        Ok(())
    }

    /// The offset behind the last record that was read.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The newest snapshot, when there is one.
    pub fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshot
    }

    /// The cluster's state by what was read.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    fn data(
        &mut self,
        base: Offset,
        epoch: LeaderEpoch,
        records: &[Record],
    ) -> Result<(), LoadError> {
        let applied = self.replay.apply_batch(base, epoch, records);
        applied.map_err(|error| LoadError::Apply { base, error })
    }

    fn control(&mut self, record: &ControlRecord, in_log: bool) {
        match record {
            ControlRecord::LeaderChange(message) => {
                self.leader_voters = message.voters.iter().map(|voter| voter.node).collect();
            }
            ControlRecord::KRaftVersion(message) => self.kraft_version = message.level,
            ControlRecord::Voters(message) => {
                self.voters = Some(message.clone());
                self.voters_in_log = in_log;
            }
            ControlRecord::SnapshotHeader(header) => {
                let millis = header.last_contained_log_timestamp;
                self.last_timestamp = Timestamp::from_millis(millis);
            }
            ControlRecord::SnapshotFooter(_) | ControlRecord::Unknown(_) => {}
        }
    }
}
