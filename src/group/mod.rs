//! Group coordinators: who is in a group, who has which part, and how far each partition is read.
//!
//! ```text
//! request -> coordinator -> records to append to a partition of `__consumer_offsets`
//!                        -> answers; one that depends on records waits until they are committed
//! loading -> coordinator.replay(record), then coordinator.loaded(now)
//! ```
//!
//! Pure: time and inputs are arguments. Whoever owns the partition appends the records, reports
//! `committed` or `failed`, wakes the coordinator at its `next_deadline`, and sends the answers.
//!
//! - [`record`]: the bytes of `__consumer_offsets`, and which partition a group belongs to
//! - [`message`]: requests and answers as plain values
//! - [`classic`]: one group of the classic protocol
//! - [`consumer`]: one group of the consumer protocol of Kafka 4 (KIP-848)
//! - [`offsets`]: committed offsets, and when they expire
//! - [`coordinator`]: the groups of one partition
//! - [`settings`]: what coordinators can be told

pub mod classic;
pub mod consumer;
pub mod coordinator;
pub mod message;
pub mod offsets;
pub mod record;
pub mod settings;
mod size;
#[cfg(test)]
mod tests;

use crate::base::{Instant, Timestamp};

pub use coordinator::{Coordinator, Effect, WriteId};
pub use message::{Answer, Request, Ticket};
pub use record::{Record, partition_of};
pub use settings::{ConsumerSettings, GroupConfig, GroupConfigs, Migration, Settings};

/// The moment something happens, by both clocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For what is written.
    pub wall: Timestamp,
}
