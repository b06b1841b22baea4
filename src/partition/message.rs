//! What is asked of a partition, and what it answers.

use std::time::Duration;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::LogConfig;
use crate::partition::producers::SequenceError;
use crate::protocol::validate::Validated;
use crate::runtime::FileSlice;

/// The settings of a topic that its partitions act on.
#[derive(Clone, Debug)]
pub struct PartitionSettings {
    /// What the log acts on: segments, indexes, retention.
    pub log: LogConfig,
    /// `min.insync.replicas`.
    pub in_sync_count_min: u32,
    /// `flush.messages`: an append that makes this many records unsynced is synced before its
    /// acknowledgement. 1 with `corelog.durability=sync`.
    pub flush_record_count: u64,
    /// `corelog.flush.unsynced.bytes.max`: with more bytes unsynced than these, the log is synced
    /// in the background.
    pub unsynced_bytes_max: u64,
    /// `flush.ms`: no record stays unsynced longer; `None` leaves it to the kernel.
    pub flush_interval: Option<Duration>,
    /// `producer.id.expiration.ms`: how long an idle producer's sequences are remembered.
    pub producer_expiration: Duration,
}

/// The `acks` field of a produce request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequiredAcks {
    /// 0: no answer is sent.
    None,
    /// 1: the leader's write completed.
    Leader,
    /// -1: the high watermark passed.
    All,
}

/// One validated batch to append.
#[derive(Clone, Debug)]
pub struct Append {
    /// The batch, as `protocol::validate` let it pass.
    pub batch: Validated,
    /// When it counts as done.
    pub acks: RequiredAcks,
}

/// An append that was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// The broker's time, if the topic's timestamps are the broker's (or for a duplicate, the
    /// stored batch's).
    pub append_time: Option<Timestamp>,
    /// Where the log starts.
    pub log_start: Offset,
}

/// Why an append was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AppendFailure {
    /// This core does not hold the partition, or no longer.
    NotLeader,
    /// `acks=all` with too few replicas in sync. Nothing was written.
    NotEnoughReplicas {
        /// Where the log starts.
        log_start: Offset,
    },
    /// The in-sync set shrank after the batch was written.
    NotEnoughReplicasAfterAppend,
    /// The producer's epoch or sequence does not fit. Nothing was written.
    Sequence {
        /// How it does not fit.
        error: SequenceError,
        /// Where the log starts.
        log_start: Offset,
    },
    /// The disk refused. Nothing of the batch is visible.
    Storage,
}

/// How an append ended.
pub type AppendOutcome = Result<Appended, AppendFailure>;

/// What a reader may see.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Isolation {
    /// Everything replicated: up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// One partition of a fetch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FetchFrom {
    /// The offset asked for, as on the wire.
    pub offset: i64,
    /// `partition_max_bytes`, already lowered to the request's limit.
    pub bytes_max: u32,
    /// The leader epoch the client believes in.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// The epoch of the last record the client has.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// What the client may see.
    pub isolation: Isolation,
}

/// What a fetch found in one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The bytes; `None` when there are none to read.
    pub slice: Option<FileSlice>,
    /// Size of the first batch in `slice`: a caller who trims must keep that many or none.
    pub first_batch_bytes: u32,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable: Offset,
    /// Where the log starts.
    pub log_start: Offset,
    /// Set when the client's history parted from ours: where (KIP-595).
    pub diverging: Option<EpochEnd>,
    /// Aborted transactions overlapping the bytes, with `read_committed`: producer id and first
    /// offset.
    pub aborted: Option<Vec<(i64, Offset)>>,
}

/// Why a partition can not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FetchError {
    /// This core does not hold the partition.
    NotLeader,
    /// The offset lies below the log start or above the log end.
    OffsetOutOfRange,
    /// The client believes in an older leader epoch.
    FencedLeaderEpoch,
    /// The client believes in a newer leader epoch.
    UnknownLeaderEpoch,
    /// The disk refused.
    Storage,
}

/// The end of a leader epoch in this log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEnd {
    /// The largest epoch not above the one asked for.
    pub epoch: LeaderEpoch,
    /// The first offset behind it.
    pub end: Offset,
}

/// What a ListOffsets query looks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimestampQuery {
    /// -1: the end a reader may see.
    Latest,
    /// -2 and, without tiering, -4: the log start.
    Earliest,
    /// -3: the record with the largest timestamp.
    MaxTimestamp,
    /// -5 and -6: what lies on tiered storage; nothing here.
    Tiered,
    /// The first record at or after a time.
    At(Timestamp),
}

/// One partition of a ListOffsets request.
#[derive(Clone, Copy, Debug)]
pub struct OffsetQuery {
    /// What is looked for.
    pub query: TimestampQuery,
    /// The leader epoch the client believes in.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// What the client may see.
    pub isolation: Isolation,
}

/// What a ListOffsets query found; nothing at all is a default value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OffsetFound {
    /// The offset.
    pub offset: Option<Offset>,
    /// The record's timestamp, where a record was looked for.
    pub timestamp: Option<Timestamp>,
    /// The record's leader epoch.
    pub epoch: Option<LeaderEpoch>,
}
