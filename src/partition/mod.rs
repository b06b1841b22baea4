//! One replica of a partition: its log, its leadership, its producers, and who waits on it.
//!
//! [`Leader`] decides (pure): the in-sync set, the high watermark, which appends are acknowledged.
//! [`Producers`](producers) decides (pure): sequences, duplicates, fencing. [`Partition`] carries
//! out: it queues appends, writes them to the log in groups, reads, and wakes waiting fetches.
//!
//! Not here: which core owns the partition (`metadata::placement`), the wire (`protocol`,
//! `handlers`), bytes and files (`log`).

pub mod leader;
pub mod message;
pub mod produced;
pub mod producers;
mod read;
pub mod replica;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

pub use leader::Leader;
pub use message::{
    Append, AppendFailure, AppendOutcome, Appended, EpochEnd, FetchError, FetchFrom, Fetched,
    Isolation, OffsetFound, OffsetQuery, PartitionSettings, RequiredAcks, TimestampQuery,
};
pub use replica::{Leadership, OpenPartition, Partition};
