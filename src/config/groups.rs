//! The settings of group coordinators in force.

use std::time::Duration;

use super::broker::Reader;

/// What coordinators act on, and how `__consumer_offsets` is created.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoordinatorConfig {
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
    /// `corelog.memory.group.bytes`, over all cores.
    pub memory_bytes: u64,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// Whether `group.coordinator.rebalance.protocols` has the consumer protocol.
    pub has_consumer_protocol: bool,
    /// `group.consumer.*`.
    pub consumer: ConsumerGroupConfig,
    /// `offsets.topic.num.partitions`.
    pub topic_partition_count: u32,
    /// `offsets.topic.replication.factor`.
    pub topic_replication_factor: u16,
    /// `offsets.topic.compression.codec`, by number.
    pub topic_compression: u8,
    /// `corelog.offsets.rewrite.bytes`.
    pub rewrite_bytes: u64,
    /// `offsets.topic.segment.bytes`.
    pub topic_segment_bytes: u32,
}

impl CoordinatorConfig {
    pub(super) fn read(read: &Reader<'_>) -> Self {
        Self {
            size_max: read.u32("group.max.size"),
            initial_rebalance_delay: read.millis("group.initial.rebalance.delay.ms"),
            session_timeout_ms_min: read.u32("group.min.session.timeout.ms"),
            session_timeout_ms_max: read.u32("group.max.session.timeout.ms"),
            metadata_length_max: read.u32("offset.metadata.max.bytes"),
            memory_bytes: read.u64("corelog.memory.group.bytes"),
            offsets_retention: Duration::from_secs(60 * read.u64("offsets.retention.minutes")),
            retention_check_interval: read.millis("offsets.retention.check.interval.ms"),
            has_consumer_protocol: read
                .list("group.coordinator.rebalance.protocols")
                .is_none_or(|names| names.iter().any(|name| name == "consumer")),
            consumer: ConsumerGroupConfig::read(read),
            topic_partition_count: read.u32("offsets.topic.num.partitions"),
            topic_replication_factor: read.u16("offsets.topic.replication.factor"),
            topic_compression: u8::try_from(read.u16("offsets.topic.compression.codec"))
                .unwrap_or_default(),
            rewrite_bytes: read.u64("corelog.offsets.rewrite.bytes"),
            topic_segment_bytes: read.u32("offsets.topic.segment.bytes"),
        }
    }
}

/// The settings of groups of the consumer protocol, `group.consumer.*`. Times are in milliseconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerGroupConfig {
    /// `max.size`.
    pub size_max: u32,
    /// `session.timeout.ms`, and what a group may set it to.
    pub session_timeout_ms: Bounded,
    /// `heartbeat.interval.ms`, and what a group may set it to.
    pub heartbeat_interval_ms: Bounded,
    /// `assignment.interval.ms`, and what a group may set it to.
    pub assignment_interval_ms: Bounded,
    /// `assignors`: names or Java classes, the default first.
    pub assignors: Vec<String>,
    /// `migration.policy`.
    pub migration_policy: String,
    /// `regex.refresh.interval.ms`.
    pub regex_refresh_interval: Duration,
}

/// A number, and the least and the most that a group may set it to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounded {
    /// What counts for groups that set nothing.
    pub default: u32,
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
}

impl ConsumerGroupConfig {
    fn read(read: &Reader<'_>) -> Self {
        let bounded = |name: &str| Bounded {
            default: read.u32(&format!("group.consumer.{name}")),
            min: read.u32(&format!("group.consumer.min.{name}")),
            max: read.u32(&format!("group.consumer.max.{name}")),
        };
        Self {
            size_max: read.u32("group.consumer.max.size"),
            session_timeout_ms: bounded("session.timeout.ms"),
            heartbeat_interval_ms: bounded("heartbeat.interval.ms"),
            assignment_interval_ms: bounded("assignment.interval.ms"),
            assignors: read.list("group.consumer.assignors").unwrap_or_default(),
            migration_policy: read.text("group.consumer.migration.policy").unwrap_or_default(),
            regex_refresh_interval: read.millis("group.consumer.regex.refresh.interval.ms"),
        }
    }
}
