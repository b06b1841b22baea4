//! The consensus replica of the metadata log, so far of a quorum of one.
//!
//! [`Loaded`] reads a log back: snapshot, then batches. [`Standalone`] takes the lead over it and
//! turns records into bytes; what is on disk is committed. [`mod@format`] makes a new directory,
//! [`clean`] says what to delete.
//!
//! Not here: files (`broker::metadata_log`), what records mean (`metadata`).

pub mod batch;
pub mod clean;
pub mod control;
pub mod format;
mod load;
mod quorum_state;
mod snapshot;
mod standalone;

#[cfg(test)]
mod tests;

pub use load::{LoadError, Loaded};
pub use quorum_state::{QUORUM_STATE_FILE, QuorumState, QuorumStateError};
pub use snapshot::{BATCH_RECORDS_MAX, Contents, SnapshotId};
pub use standalone::{
    AppendError, Identity, METADATA_LEVEL_MAX, METADATA_LEVEL_MIN, Pending, SnapshotRules,
    Standalone, StartError,
};
