//! One partition's log, in Apache Kafka's own files.
//!
//! ```text
//! <topic>-<partition>/
//!   00000000000000000000.log        batches, exactly as on the wire     segment
//!   00000000000000000000.index      offset -> position                  index
//!   00000000000000000000.timeindex  largest timestamp -> offset         index
//!   00000000000000000000.snapshot   producers' state at that offset     (partition::producers)
//!   leader-epoch-checkpoint         where leader epochs began           epochs
//!   partition.metadata              the topic's id                      partition_metadata
//! ```
//!
//! [`Log`] is one writer's and many readers' view of it. Opening after a clean stop reads a few KiB
//! of the last segment; after a crash what lies behind the recovery point is checked, batch by
//! batch, and cut where it is damaged.
//!
//! Invariants: offsets only grow; bytes once readable never change in place; an index never points
//! behind the end of its segment.

pub mod checkpoint;
pub mod clean_shutdown;
pub mod epochs;
mod index;
#[expect(clippy::module_inception, reason = "the log is this room's main type")]
mod log;
pub mod names;
pub mod partition_metadata;
mod reading;
mod recovery;
mod retention;
mod segment;

pub use log::{
    AppendBatch, BatchMeta, Log, LogConfig, OpenError, Opened, Setup,
};
pub use reading::{AtLeast, Found, LogRead, ReadError};
