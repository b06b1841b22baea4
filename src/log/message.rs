//! What the log is told and what it tells.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::runtime::FileSlice;

/// The settings a log acts on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it grows larger.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is closed when a record comes that is this much younger than its
    /// first.
    pub segment_ms: u64,
    /// `segment.jitter.ms`: at most this much is taken off `segment.ms`, at random.
    pub segment_jitter_ms: u64,
    /// `index.interval.bytes`: how many bytes of batches lie between two index entries at least.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: size of an index at which its segment is closed.
    pub index_bytes_max: u32,
    /// `preallocate`: whether a new segment's room is reserved at once.
    pub preallocate: bool,
    /// `retention.ms`: segments older than this go; `None` for never.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`: the oldest segments go while the log keeps this size without them;
    /// `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// `file.delete.delay.ms`: how long a deleted file stays under its `.deleted` name.
    pub file_delete_delay_ms: u64,
    /// Whether `cleanup.policy` has `delete`.
    pub delete_policy: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub compact_policy: bool,
}

impl Default for LogConfig {
    /// Kafka's defaults of these settings.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            index_bytes_max: 10 << 20,
            preallocate: false,
            retention_ms: Some(604_800_000),
            retention_bytes: None,
            file_delete_delay_ms: 60_000,
            delete_policy: true,
            compact_policy: false,
        }
    }
}

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The partition's directory; made when it is missing.
    pub directory: PathBuf,
    /// The settings.
    pub config: LogConfig,
    /// Everything below was made durable; 0 when nobody knows.
    pub recovery_point: Offset,
    /// Where the log starts, as the checkpoint file says; 0 when it does not.
    pub log_start: Offset,
    /// Whether the process that last wrote the log closed it (`.kafka_cleanshutdown`).
    pub clean: bool,
    /// Where the batches begin that the journal has of this log, ascending: if one of them is not
    /// in the files, nothing behind it counts ([`journal`](super::journal)).
    pub journaled: Vec<Offset>,
}

/// What opening a log took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Opened {
    /// Bytes of batches that were checked.
    pub scanned_bytes: u64,
    /// Bytes that were no whole, intact batches, and were cut off.
    pub truncated_bytes: u64,
    /// Segments behind a damaged one, which went with it.
    pub removed_segment_count: usize,
    /// Segments whose indexes were missing or damaged, and were made anew.
    pub rebuilt_index_count: usize,
}

/// Why a log can not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The disk refused.
    Io(io::Error),
    /// A file is damaged that can not be made anew.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What the log has to know of a batch it appends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchMeta {
    /// Offset of the first record; not below the log's end.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The largest timestamp, in milliseconds; -1 when the records have none.
    pub max_timestamp: i64,
    /// Offset of the first record with the largest timestamp.
    pub max_timestamp_offset: Offset,
    /// Size of the batch, header included.
    pub size_bytes: u32,
    /// Epoch of the leader that appends it; assigned before
    /// ([`Log::begin_epoch`](super::Log::begin_epoch)).
    pub leader_epoch: LeaderEpoch,
}

/// A batch to append, offset and epoch stamped into it.
#[derive(Clone, Debug)]
pub struct AppendBatch {
    /// What the log has to know of it.
    pub meta: BatchMeta,
    /// Its bytes, one part behind the other.
    pub parts: [Bytes; 2],
}

/// Whether a read returns a first batch that is larger than its limit (KIP-74).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AtLeast {
    /// Yes, so that a reader always gets on.
    OneBatch,
    /// No: another partition of the same fetch had its batch already.
    Nothing,
}

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct LogRead {
    /// The bytes; `None` when there are none to read. The last batch may be cut off.
    pub slice: Option<FileSlice>,
    /// Size of the first batch: who shortens the slice keeps that much or nothing.
    pub first_batch_bytes: u32,
}

/// Why nothing was read.
#[derive(Debug)]
pub enum ReadError {
    /// The offset lies below the log's start or above its end.
    OutOfRange,
    /// The disk refused.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A record that was found by its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The epoch of the leader that appended it.
    pub epoch: Option<LeaderEpoch>,
}

/// An aborted transaction, as the transaction index has it (`AbortedTxn`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of the marker that ended it.
    pub last_offset: Offset,
    /// The last stable offset once it had ended.
    pub last_stable: Offset,
}
