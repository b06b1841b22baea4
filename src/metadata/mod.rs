//! The cluster's metadata as a stream of records, and the image they build.
//!
//! [`Record`]s come from the metadata log; [`Replay`] applies them and publishes an [`Image`];
//! [`Delta::between`] two images says what to act on. [`placement`] maps partitions to cores.
//!
//! Not here: the log and its control records (`kraft`), which records to write (`controller`).

mod apply;
pub mod codec;
mod delta;
mod image;
pub mod placement;
pub mod record;
mod replay;
mod snapshot;
#[cfg(test)]
mod tests;
mod topic_name;

pub use apply::ApplyError;
pub use codec::DecodeError;
pub use delta::Delta;
pub use image::{
    ConfigResource, Image, OFFSETS_TOPIC, Partition, Position, ResourceKind, Settings, Topic,
};
pub use record::Record;
pub use replay::Replay;
pub use snapshot::METADATA_VERSION;
pub use topic_name::{NAME_LENGTH_MAX, NameError, check_name, folded};
