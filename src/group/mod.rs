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
//! - [`consumer`]: parts of groups of the consumer protocol
//! - [`offsets`]: committed offsets, and when they expire
//! - [`coordinator`]: the groups of one partition

pub mod classic;
pub mod consumer;
pub mod coordinator;
pub mod message;
pub mod offsets;
pub mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::base::{Instant, Timestamp};

pub use coordinator::{Coordinator, Effect, WriteId};
pub use message::{Answer, Request, Ticket};
pub use record::{Record, partition_of};

/// The moment something happens, by both clocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For what is written.
    pub wall: Timestamp,
}

/// The settings of a coordinator, named as in `config`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// `group.max.size`: most members of a group.
    pub size_max: usize,
    /// `group.initial.rebalance.delay.ms`: how long a new group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`, in milliseconds.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`, in milliseconds.
    pub session_timeout_ms_max: i32,
    /// `offset.metadata.max.bytes`: the longest note with an offset; in UTF-16 units, as in Java.
    pub metadata_length_max: usize,
    /// `offsets.retention.minutes`: how long offsets that nobody uses are kept.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`: time between two looks for such offsets.
    pub retention_check_interval: Duration,
}

impl Default for Settings {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            size_max: i32::MAX as usize,
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_ms_min: 6000,
            session_timeout_ms_max: 1_800_000,
            metadata_length_max: 4096,
            offsets_retention: Duration::from_secs(10_080 * 60),
            retention_check_interval: Duration::from_secs(600),
        }
    }
}
