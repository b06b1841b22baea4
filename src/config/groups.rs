//! The settings of group coordinators in force.

use std::time::Duration;

use super::broker::Reader;

/// What coordinators act on, and how `__consumer_offsets` is created.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupConfig {
    /// `group.max.size`.
    pub size_max: u32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`, in milliseconds.
    pub session_timeout_ms_min: u32,
    /// `group.max.session.timeout.ms`, in milliseconds.
    pub session_timeout_ms_max: u32,
    /// `offset.metadata.max.bytes`.
    pub metadata_length_max: u32,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `offsets.topic.num.partitions`.
    pub topic_partition_count: u32,
    /// `offsets.topic.replication.factor`.
    pub topic_replication_factor: u16,
    /// `offsets.topic.compression.codec`, by number.
    pub topic_compression: u8,
    /// `offsets.topic.segment.bytes`.
    pub topic_segment_bytes: u32,
}

impl GroupConfig {
    pub(super) fn read(read: &Reader<'_>) -> Self {
        Self {
            size_max: read.u32("group.max.size"),
            initial_rebalance_delay: read.millis("group.initial.rebalance.delay.ms"),
            session_timeout_ms_min: read.u32("group.min.session.timeout.ms"),
            session_timeout_ms_max: read.u32("group.max.session.timeout.ms"),
            metadata_length_max: read.u32("offset.metadata.max.bytes"),
            offsets_retention: Duration::from_secs(60 * read.u64("offsets.retention.minutes")),
            retention_check_interval: read.millis("offsets.retention.check.interval.ms"),
            topic_partition_count: read.u32("offsets.topic.num.partitions"),
            topic_replication_factor: read.u16("offsets.topic.replication.factor"),
            topic_compression: u8::try_from(read.u16("offsets.topic.compression.codec"))
                .unwrap_or_default(),
            topic_segment_bytes: read.u32("offsets.topic.segment.bytes"),
        }
    }
}
