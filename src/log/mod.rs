//! One partition's log, in Apache Kafka's own files.
//!
//! ```text
//! <topic>-<partition>/
//!   00000000000000000000.log        batches, exactly as on the wire     segment
//!   00000000000000000000.index      offset -> position                  index
//!   00000000000000000000.timeindex  largest timestamp -> offset         index
//!   00000000000000000000.txnindex   aborted transactions                aborted
//!   00000000000000000000.snapshot   producers' state at that offset     snapshots
//!   leader-epoch-checkpoint         where leader epochs began           epochs
//!   partition.metadata              the topic's id                      partition_metadata
//! ```
//!
//! [`Log`] is one writer's and many readers' view of it: `log` appends, rolls and syncs, `reading`
//! reads, `retention` deletes at the start, `truncation` cuts the end. Opening after a clean stop
//! reads a few KiB of the last segment; after a crash what lies behind the recovery point is
//! checked (`recovery`, `scan`), and cut where it is damaged.
//!
//! Beside these directories a core may keep a [`journal`], which makes appends to many logs durable
//! with one sync.
//!
//! Invariants: offsets only grow; bytes once readable never change in place; an index never points
//! behind the end of its segment; an epoch is in its file before the recovery point passes its
//! first batch.

mod aborted;
pub mod checkpoint;
pub mod clean_shutdown;
pub mod epochs;
mod home;
mod index;
pub mod journal;
mod leftovers;
#[expect(clippy::module_inception, reason = "the log is this room's main type")]
mod log;
mod message;
pub mod names;
pub mod partition_metadata;
mod reading;
mod recovery;
mod retention;
mod scan;
mod segment;
mod snapshots;
mod truncation;
mod walk;
mod windows;

pub use log::Log;
pub use message::{
    AbortedTransaction, AppendBatch, AtLeast, BatchMeta, Found, LogConfig, LogRead, OpenError,
    Opened, ReadError, Setup,
};

#[cfg(test)]
mod histories;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
