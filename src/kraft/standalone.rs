//! The replica of a quorum of one: it leads from the moment it starts.
//!
//! A start takes a new epoch, writes it to `quorum-state`, and begins the epoch with a control
//! batch. An append becomes bytes; once they are on disk, it is committed: the high watermark is
//! this replica's own flushed end.
//!
//! Not here: files (`broker::metadata_log`), which records to write (`controller`).

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::base::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use crate::kraft::batch::{BATCH_BYTES_MAX, Batch, Body};
use crate::kraft::control::{
    ControlRecord, KRaftVersion, LeaderChangeMessage, LeaderVoter, Voter, VoterEndpoint,
    VoterRange, Voters,
};
use crate::kraft::load::Loaded;
use crate::kraft::quorum_state::QuorumState;
use crate::kraft::snapshot::{BATCH_RECORDS_MAX, Contents, SnapshotId};
use crate::metadata::record::{
    AbortTransaction, BeginTransaction, EndTransaction, LEVEL_TRANSACTIONS,
};
use crate::metadata::{ApplyError, Delta, Image, METADATA_VERSION, Position, Record, Replay};

/// Who this replica is.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Its node id.
    pub node: NodeId,
    /// Id of the directory that holds the metadata log.
    pub directory: Uuid,
    /// Where its controller is, or would be, reached: what Apache Kafka expects in the voters.
    pub endpoint: VoterEndpoint,
}

impl Identity {
    /// The voters of a quorum of this node alone.
    pub fn voters(&self) -> Voters {
        let voter = Voter {
            node: self.node,
            directory: Some(self.directory),
            endpoints: vec![self.endpoint.clone()],
            kraft_version: VoterRange { min: 0, max: 1 },
        };
        Voters { version: 0, voters: vec![voter] }
    }
}

/// Why a metadata log can not be led by this node alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StartError {
    /// Its quorum is not exactly this node (with this directory).
    OtherVoters(Vec<NodeId>),
    /// It was written at a `metadata.version` this program does not support.
    MetadataVersion(i16),
    /// There is no epoch left.
    EpochsExhausted,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherVoters(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
                write!(
                    f,
                    "the metadata log belongs to a quorum of the controllers [{}], not to this \
                     node and directory alone: set node.id and log.dirs to those of that \
                     controller, or use an empty directory",
                    nodes.join(", ")
                )
            }
            Self::MetadataVersion(level) => write!(
                f,
                "the metadata log was written at metadata.version level {level}; this release \
                 supports {METADATA_LEVEL_MIN} to {METADATA_LEVEL_MAX}: use a release that \
                 supports it, or change the level with kafka-features first"
            ),
            Self::EpochsExhausted => f.write_str("the metadata log has no epoch left"),
        }
    }
}

impl std::error::Error for StartError {}

/// Lowest `metadata.version` level that can be read, 3.3-IV3.
pub const METADATA_LEVEL_MIN: i16 = 7;
/// Highest `metadata.version` level that can be read, and the one written, 4.3-IV0.
pub const METADATA_LEVEL_MAX: i16 = 30;

/// Why records were not appended. Nothing was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AppendError {
    /// There are none.
    Empty,
    /// They do not fit the state they are applied to.
    Apply(ApplyError),
    /// They make a batch larger than any reader accepts.
    BatchTooLarge {
        /// Size of the batch, in bytes.
        size_bytes: usize,
    },
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no records to append"),
            Self::Apply(error) => error.fmt(f),
            Self::BatchTooLarge { size_bytes } => {
                write!(f, "a batch of {size_bytes} bytes; {BATCH_BYTES_MAX} are allowed")
            }
        }
    }
}

impl std::error::Error for AppendError {}

impl From<ApplyError> for AppendError {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

/// Batches that are to be written; [`Standalone::commit`] them once they are on disk.
#[must_use]
#[derive(Debug)]
pub struct Pending {
    /// The offset the bytes are to be written at: the log's end.
    pub base: Offset,
    /// One or more batches.
    pub bytes: Bytes,
    end: Offset,
    replay: Replay,
    timestamp: Timestamp,
}

/// When to take a snapshot; `metadata.log.max.record.bytes.between.snapshots` and
/// `metadata.log.max.snapshot.interval.ms`.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotRules {
    /// After so many bytes of new records.
    pub new_bytes_max: u64,
    /// After so long, if there are new records; zero is never.
    pub interval: Duration,
}

impl Default for SnapshotRules {
    fn default() -> Self {
        Self { new_bytes_max: 20 << 20, interval: Duration::from_secs(3600) }
    }
}

/// The only voter of its quorum.
#[derive(Debug)]
pub struct Standalone {
    identity: Identity,
    epoch: LeaderEpoch,
    replay: Replay,
    /// `None` while `kraft.version` is 0: the voters are in configuration files then.
    voters: Option<Voters>,
    end: Offset,
    last_timestamp: Timestamp,
    last_snapshot: Option<SnapshotId>,
    last_snapshot_at: Timestamp,
    bytes_since_snapshot: u64,
}

impl Standalone {
    /// Takes the lead over what was loaded, in a new epoch.
    ///
    /// Write the [`QuorumState`] first, then append what is [`Pending`] and commit it: the epoch's
    /// first batch, and what puts a half-made start in order: the abortion of a transaction that
    /// was left open, and `bootstrap` when the log has no `metadata.version` yet.
    pub fn start(
        identity: Identity,
        loaded: Loaded,
        recorded: Option<QuorumState>,
        bootstrap: &[Record],
        now: Timestamp,
    ) -> Result<(Self, QuorumState, Pending), StartError> {
        check_voters(&identity, &loaded)?;
        let level = loaded.replay.image().feature(METADATA_VERSION);
        if level != 0 && !(METADATA_LEVEL_MIN..=METADATA_LEVEL_MAX).contains(&level) {
            return Err(StartError::MetadataVersion(level));
        }
        let last = recorded.map_or(loaded.last_epoch, |state| state.epoch.max(loaded.last_epoch));
        let epoch = LeaderEpoch::from_wire(last.to_wire().wrapping_add(1))
            .ok_or(StartError::EpochsExhausted)?;
        let state = QuorumState { epoch, leader: Some(identity.node), voted: None };
        let mut control = vec![leader_change(identity.node)];
        let mut voters = loaded.voters.clone().filter(|_| loaded.kraft_version > 0);
        if loaded.kraft_version > 0 && !loaded.voters_in_log {
            // As in Apache Kafka: what formatting put into a file goes into the log once.
            let written = voters.get_or_insert_with(|| identity.voters());
            control.push(ControlRecord::KRaftVersion(KRaftVersion { version: 0, level: 1 }));
            control.push(ControlRecord::Voters(written.clone()));
        }
        let mut standalone = Self {
            identity,
            epoch,
            voters,
            end: loaded.end,
            last_timestamp: loaded.last_timestamp,
            last_snapshot: loaded.snapshot,
            last_snapshot_at: now,
            bytes_since_snapshot: 0,
            replay: loaded.replay,
        };
        let pending = standalone.first_batches(control, bootstrap, now);
        Ok((standalone, state, pending))
    }

    fn first_batches(
        &mut self,
        control: Vec<ControlRecord>,
        bootstrap: &[Record],
        now: Timestamp,
    ) -> Pending {
        let control_end = self.end + control.len() as u64;
        let mut replay = self.replay.clone();
        replay.advance(Position { offset: control_end - 1, epoch: self.epoch });
        let mut records = Vec::new();
        if replay.in_transaction() {
            let reason = Some("the previous leader left it open".to_owned());
            records.push(AbortTransaction { reason }.into());
        }
        if replay.image().feature(METADATA_VERSION) == 0 {
            // One batch: it is whole or not there, whether the level knows transactions or not.
            records.extend(bootstrap_batch(bootstrap));
        }
        let mut bytes = BytesMut::new();
        let control = self.batch(self.end, now, Body::Control(control));
        bytes.extend_from_slice(&control.encode(METADATA_LEVEL_MAX));
        let mut end = control_end;
        if !records.is_empty() {
            let applied = replay.apply_batch(control_end, self.epoch, &records);
            applied.expect("bootstrap records set features and settings only");
            end = control_end + records.len() as u64;
            let level = replay.image().feature(METADATA_VERSION);
            let batch = self.batch(control_end, now, Body::Data(records));
            bytes.extend_from_slice(&batch.encode(level));
        }
        Pending { base: self.end, bytes: bytes.freeze(), end, replay, timestamp: now }
    }

    /// Turns records into batches. They take effect together or not at all: more than
    /// [`BATCH_RECORDS_MAX`] are put into a metadata transaction.
    pub fn append(&self, records: Vec<Record>, now: Timestamp) -> Result<Pending, AppendError> {
        if records.is_empty() {
            return Err(AppendError::Empty);
        }
        let level = self.image().feature(METADATA_VERSION);
        let (records, batch_records_max) = match records.len() {
            // Below this level there are no transactions: one batch, if it is not too large.
            _ if level < LEVEL_TRANSACTIONS => (records, usize::MAX),
            ..=BATCH_RECORDS_MAX => (records, BATCH_RECORDS_MAX),
            _ => (transaction("large batch", records), BATCH_RECORDS_MAX),
        };
        let mut replay = self.replay.clone();
        let mut bytes = BytesMut::new();
        let mut end = self.end;
        for records in records.chunks(batch_records_max) {
            replay.apply_batch(end, self.epoch, records)?;
            let batch = self.batch(end, now, Body::Data(records.to_vec()));
            let encoded = batch.encode(level);
            if encoded.len() > BATCH_BYTES_MAX {
                return Err(AppendError::BatchTooLarge { size_bytes: encoded.len() });
            }
            end = batch.end();
            bytes.extend_from_slice(&encoded);
        }
        Ok(Pending { base: self.end, bytes: bytes.freeze(), end, replay, timestamp: now })
    }

    /// Takes over what is on disk now: the high watermark moves to its end.
    ///
    /// Panics when it is not the append that follows the log's end: appends go one at a time.
    pub fn commit(&mut self, pending: Pending) -> Delta {
        assert_eq!(pending.base, self.end, "appends are committed in order");
        let delta = Delta::between(self.replay.image(), pending.replay.image());
        self.bytes_since_snapshot += pending.bytes.len() as u64;
        self.last_timestamp = pending.timestamp;
        self.end = pending.end;
        self.replay = pending.replay;
        delta
    }

    /// The cluster's state at the high watermark.
    pub fn image(&self) -> &Image {
        self.replay.image()
    }

    /// This leader's epoch.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The offset behind the last committed record.
    pub fn high_watermark(&self) -> Offset {
        self.end
    }

    /// Who this replica is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The voters, when the log holds them.
    pub fn voters(&self) -> Option<&Voters> {
        self.voters.as_ref()
    }

    /// The newest snapshot.
    pub fn last_snapshot(&self) -> Option<SnapshotId> {
        self.last_snapshot
    }

    /// Whether it is time for a snapshot.
    pub fn is_snapshot_due(&self, rules: SnapshotRules, now: Timestamp) -> bool {
        let age_ms = now.to_wire().saturating_sub(self.last_snapshot_at.to_wire());
        let interval_ms = i64::try_from(rules.interval.as_millis()).unwrap_or(i64::MAX);
        let old = interval_ms > 0 && age_ms >= interval_ms && self.bytes_since_snapshot > 0;
        old || self.bytes_since_snapshot >= rules.new_bytes_max
    }

    /// Puts what was loaded towards the next snapshot: bytes of the log behind the last one.
    pub fn count_bytes(&mut self, bytes: u64) {
        self.bytes_since_snapshot += bytes;
    }

    /// A snapshot of all that is committed. Once it is on disk, report [`Self::snapshot_taken`].
    pub fn snapshot(&self, now: Timestamp) -> (SnapshotId, Bytes) {
        let id = SnapshotId { end: self.end, epoch: self.epoch };
        let contents = Contents {
            id,
            last_contained: self.last_timestamp,
            voters: self.voters.as_ref(),
            level: self.image().feature(METADATA_VERSION),
            records: &self.image().records(),
            now,
        };
        (id, contents.encode())
    }

    /// A snapshot is on disk.
    pub fn snapshot_taken(&mut self, id: SnapshotId, now: Timestamp) {
        self.last_snapshot = Some(id);
        self.last_snapshot_at = now;
        self.bytes_since_snapshot = 0;
    }

    fn batch(&self, base: Offset, timestamp: Timestamp, body: Body) -> Batch {
        Batch { base, epoch: self.epoch, timestamp, body }
    }
}

fn leader_change(node: NodeId) -> ControlRecord {
    let voters = vec![LeaderVoter { node, directory: None }];
    ControlRecord::LeaderChange(LeaderChangeMessage {
        version: 0,
        leader: node,
        granting_voters: voters.clone(),
        voters,
    })
}

fn transaction(name: &str, records: Vec<Record>) -> Vec<Record> {
    let mut all = Vec::with_capacity(records.len() + 2);
    all.push(BeginTransaction { name: Some(name.to_owned()) }.into());
    all.extend(records);
    all.push(EndTransaction {}.into());
    all
}

/// The first records of a cluster: in a transaction, if their level has them, as Apache Kafka does.
fn bootstrap_batch(records: &[Record]) -> Vec<Record> {
    let has_transactions = records.iter().any(|record| {
        matches!(record, Record::FeatureLevel(feature)
            if feature.name == METADATA_VERSION && feature.level >= LEVEL_TRANSACTIONS)
    });
    if has_transactions {
        transaction("Bootstrap records", records.to_vec())
    } else {
        records.to_vec()
    }
}

/// Whether the quorum is this node alone, by the voters in the log or by the last leader's word.
fn check_voters(identity: &Identity, loaded: &Loaded) -> Result<(), StartError> {
    if let Some(voters) = &loaded.voters {
        let alone = |voter: &Voter| {
            voter.node == identity.node
                && voter.directory.is_none_or(|directory| directory == identity.directory)
        };
        if voters.voters.len() == 1 && voters.voters.iter().all(alone) {
            return Ok(());
        }
        return Err(StartError::OtherVoters(voters.voters.iter().map(|v| v.node).collect()));
    }
    if loaded.leader_voters.iter().all(|node| *node == identity.node) {
        return Ok(());
    }
    Err(StartError::OtherVoters(loaded.leader_voters.clone()))
}
