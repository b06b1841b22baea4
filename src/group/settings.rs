//! What coordinators can be told: for all groups, and for one.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::protocol::Str;

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
    /// `max.message.bytes` of `__consumer_offsets`: what the records of one step may come to.
    pub batch_bytes_max: usize,
    /// `offsets.retention.minutes`: how long offsets that nobody uses are kept.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`: time between two looks for such offsets.
    pub retention_check_interval: Duration,
    /// `group.consumer.*`: groups of the consumer protocol.
    pub consumer: ConsumerSettings,
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
            batch_bytes_max: 1_048_588,
            offsets_retention: Duration::from_secs(10_080 * 60),
            retention_check_interval: Duration::from_secs(600),
            consumer: ConsumerSettings::default(),
        }
    }
}

/// The settings of consumer groups, `group.consumer.*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerSettings {
    /// `max.size`: most members of a group.
    pub size_max: usize,
    /// `session.timeout.ms`: how long a member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// `min.session.timeout.ms`, `max.session.timeout.ms`: what a group may set, in milliseconds.
    pub session_timeout_ms_limits: RangeInclusive<i32>,
    /// `heartbeat.interval.ms`: time between two heartbeats, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// `min.heartbeat.interval.ms` and `max.heartbeat.interval.ms`, in milliseconds.
    pub heartbeat_interval_ms_limits: RangeInclusive<i32>,
    /// `assignment.interval.ms`: least time between two assignments of a group, in milliseconds.
    pub assignment_interval_ms: i32,
    /// `min.assignment.interval.ms` and `max.assignment.interval.ms`, in milliseconds.
    pub assignment_interval_ms_limits: RangeInclusive<i32>,
    /// `assignors`: those members may ask for, the default first. Only `uniform` and `range` exist.
    pub assignors: Vec<Str>,
    /// `migration.policy`: which moves between the protocols groups may make.
    pub migration: Migration,
    /// `regex.refresh.interval.ms`: time after which regular expressions are matched again.
    pub regex_refresh_interval: Duration,
}

impl Default for ConsumerSettings {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            size_max: i32::MAX as usize,
            session_timeout_ms: 45_000,
            session_timeout_ms_limits: 45_000..=60_000,
            heartbeat_interval_ms: 5000,
            heartbeat_interval_ms_limits: 5000..=15_000,
            assignment_interval_ms: 1000,
            assignment_interval_ms_limits: 0..=15_000,
            assignors: vec![Str::from_static_str("uniform"), Str::from_static_str("range")],
            migration: Migration::Bidirectional,
            regex_refresh_interval: Duration::from_secs(600),
        }
    }
}

/// Which moves between the classic and the consumer protocol a group with members may make
/// (`ConsumerGroupMigrationPolicy`). Empty groups may always move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Migration {
    /// None; members of the classic protocol can not join consumer groups.
    Disabled,
    /// To the consumer protocol.
    Upgrade,
    /// To the classic protocol.
    Downgrade,
    /// Both.
    Bidirectional,
}

impl Migration {
    /// The policy of this name, in any case of letters; others are none, as in Kafka.
    pub fn named(name: &str) -> Self {
        if name.eq_ignore_ascii_case("upgrade") {
            Self::Upgrade
        } else if name.eq_ignore_ascii_case("downgrade") {
            Self::Downgrade
        } else if name.eq_ignore_ascii_case("bidirectional") {
            Self::Bidirectional
        } else {
            Self::Disabled
        }
    }

    /// Whether classic groups may become consumer groups.
    pub fn may_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether consumer groups may become classic groups.
    pub fn may_downgrade(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

/// What was set on one group (`GroupConfig`, resources of type GROUP); the rest is as for all.
///
/// Values outside the limits of [`ConsumerSettings`] count as the nearest limit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GroupConfig {
    /// `consumer.session.timeout.ms`, in milliseconds.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`, in milliseconds.
    pub heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`, in milliseconds.
    pub assignment_interval_ms: Option<i32>,
}

/// What groups have set for themselves, by their ids. Clones share what they hold.
pub type GroupConfigs = imbl::OrdMap<Str, GroupConfig>;

impl GroupConfig {
    /// How long a member may be silent.
    pub fn session_timeout(&self, settings: &Settings) -> Duration {
        let consumer = &settings.consumer;
        let limits = &consumer.session_timeout_ms_limits;
        let timeout_ms = within(self.session_timeout_ms, limits, consumer.session_timeout_ms);
        Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default())
    }

    /// The time between two heartbeats, in milliseconds.
    pub fn heartbeat_interval_ms(&self, settings: &Settings) -> i32 {
        let consumer = &settings.consumer;
        let limits = &consumer.heartbeat_interval_ms_limits;
        within(self.heartbeat_interval_ms, limits, consumer.heartbeat_interval_ms)
    }

    /// The least time between two assignments, in milliseconds.
    pub fn assignment_interval_ms(&self, settings: &Settings) -> i32 {
        let consumer = &settings.consumer;
        let limits = &consumer.assignment_interval_ms_limits;
        within(self.assignment_interval_ms, limits, consumer.assignment_interval_ms)
    }
}

fn within(own: Option<i32>, limits: &RangeInclusive<i32>, default: i32) -> i32 {
    // Not `clamp`, which panics when the limits are the wrong way round.
    own.map_or(default, |own| own.min(*limits.end()).max(*limits.start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_sets_counts_within_the_limits() {
        let settings = Settings::default();
        let set = |own| GroupConfig { session_timeout_ms: own, ..GroupConfig::default() };
        let cases =
            [(None, 45_000), (Some(50_000), 50_000), (Some(1), 45_000), (Some(90_000), 60_000)];
        for (own, timeout_ms) in cases {
            let found = set(own).session_timeout(&settings);
            assert_eq!(found, Duration::from_millis(timeout_ms), "{own:?}");
        }
    }

    #[test]
    fn policies_are_named_in_any_case_and_unknown_ones_forbid_everything() {
        let cases = [
            ("DISABLED", false, false),
            ("Upgrade", true, false),
            ("downgrade", false, true),
            ("BIDIRECTIONAL", true, true),
            ("both", false, false),
        ];
        for (name, up, down) in cases {
            let policy = Migration::named(name);
            assert_eq!((policy.may_upgrade(), policy.may_downgrade()), (up, down), "{name}");
        }
    }
}
