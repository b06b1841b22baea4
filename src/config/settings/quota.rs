//! Quotas.

use crate::config::setting::{Setting, class, int, long, null, number};

/// Broker settings that can be set dynamically only, sorted by name.
pub const DYNAMIC_ONLY: &[Setting] = &[
    long("follower.replication.throttled.rate", number(i64::MAX))
        .at_least(0)
        .cluster_wide()
        .no_effect("Most bytes a second that followers may fetch for throttled partitions."),
    long("leader.replication.throttled.rate", number(i64::MAX))
        .at_least(0)
        .cluster_wide()
        .no_effect("Most bytes a second that leaders may send for throttled partitions."),
    long("replica.alter.log.dirs.io.max.bytes.per.second", number(i64::MAX))
        .at_least(0)
        .cluster_wide()
        .no_effect("Most bytes a second moved between log directories."),
];

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    int("alter.log.dirs.replication.quota.window.num", number(11))
        .at_least(1)
        .low()
        .no_effect("Number of samples kept to measure moves between log directories."),
    int("alter.log.dirs.replication.quota.window.size.seconds", number(1))
        .at_least(1)
        .low()
        .no_effect("Length of one such sample, in seconds."),
    class("client.quota.callback.class", null())
        .low()
        .no_effect("Java class that computes client quotas."),
    int("controller.quota.window.num", number(11))
        .at_least(1)
        .low()
        .no_effect("Number of samples kept for the quota on topic changes."),
    int("controller.quota.window.size.seconds", number(1))
        .at_least(1)
        .low()
        .no_effect("Length of one such sample, in seconds."),
    int("quota.window.num", number(11))
        .at_least(1)
        .low()
        .no_effect("Number of samples kept to measure client quotas."),
    int("quota.window.size.seconds", number(1))
        .at_least(1)
        .low()
        .no_effect("Length of one such sample, in seconds."),
    int("replication.quota.window.num", number(11))
        .at_least(1)
        .low()
        .no_effect("Number of samples kept to measure throttled replication."),
    int("replication.quota.window.size.seconds", number(1))
        .at_least(1)
        .low()
        .no_effect("Length of one such sample, in seconds."),
];
