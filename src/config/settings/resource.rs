//! Settings of groups and of client metrics subscriptions.

use crate::config::setting::{
    Items, Rule, Setting, boolean, flag, int, list, number, string, text,
};

/// Settings of a client metrics subscription, sorted by name.
pub const CLIENT_METRICS: &[Setting] = &[
    int("interval.ms", number(300_000))
        .no_effect("Time between two pushes of a client, in milliseconds."),
    list("match", text(""))
        .items(Items::NOT_NULL, &[])
        .no_effect("Which clients the subscription is for, as key=pattern."),
    list("metrics", text(""))
        .items(Items::NOT_NULL, &[])
        .no_effect("Prefixes of the metrics asked for."),
];

/// Settings of a group, sorted by name.
pub const GROUP: &[Setting] = &[
    int("consumer.assignment.interval.ms", number(1000))
        .at_least(0)
        .from_broker(&[("group.consumer.assignment.interval.ms", 1)])
        .works("Least time between two assignments of this consumer group, in milliseconds."),
    int("consumer.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .from_broker(&[("group.consumer.heartbeat.interval.ms", 1)])
        .works("Time between two heartbeats of a member, in milliseconds."),
    int("consumer.session.timeout.ms", number(45_000))
        .at_least(1)
        .from_broker(&[("group.consumer.session.timeout.ms", 1)])
        .works("Time without a heartbeat after which a member is removed, in milliseconds."),
    int("share.assignment.interval.ms", number(1000))
        .at_least(0)
        .from_broker(&[("group.share.assignment.interval.ms", 1)])
        .no_effect("Least time between two assignments of this share group, in milliseconds."),
    string("share.auto.offset.reset", text("latest")).rule(Rule::OffsetReset).no_effect(
        "Where a share group starts: `latest`, `earliest`, or `by_duration:` and an ISO \
             8601 duration back in time.",
    ),
    int("share.delivery.count.limit", number(5))
        .at_least(2)
        .from_broker(&[("group.share.delivery.count.limit", 1)])
        .no_effect("How often a record is delivered before it is given up."),
    int("share.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .from_broker(&[("group.share.heartbeat.interval.ms", 1)])
        .no_effect("Time between two heartbeats of a member, in milliseconds."),
    string("share.isolation.level", text("read_uncommitted"))
        .rule(Rule::OneOf(&["read_committed", "read_uncommitted"]))
        .no_effect("Whether records of open transactions are delivered."),
    int("share.partition.max.record.locks", number(2000))
        .at_least(100)
        .from_broker(&[("group.share.partition.max.record.locks", 1)])
        .no_effect("Most records of one partition the group may hold locked."),
    int("share.record.lock.duration.ms", number(30_000))
        .at_least(1000)
        .from_broker(&[("group.share.record.lock.duration.ms", 1)])
        .no_effect("Time a consumer holds a record, in milliseconds."),
    boolean("share.renew.acknowledge.enable", flag(true))
        .no_effect("Whether a consumer may prolong its lock on a record."),
    int("share.session.timeout.ms", number(45_000))
        .at_least(1)
        .from_broker(&[("group.share.session.timeout.ms", 1)])
        .no_effect("Time without a heartbeat after which a member is removed, in milliseconds."),
    int("streams.assignment.interval.ms", number(1000))
        .at_least(0)
        .from_broker(&[("group.streams.assignment.interval.ms", 1)])
        .no_effect("Least time between two assignments of this streams group, in milliseconds."),
    int("streams.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .from_broker(&[("group.streams.heartbeat.interval.ms", 1)])
        .no_effect("Time between two heartbeats of a member, in milliseconds."),
    int("streams.initial.rebalance.delay.ms", number(3000))
        .at_least(0)
        .from_broker(&[("group.streams.initial.rebalance.delay.ms", 1)])
        .no_effect("Time a new group waits for more members, in milliseconds."),
    int("streams.num.standby.replicas", number(0))
        .at_least(0)
        .from_broker(&[("group.streams.num.standby.replicas", 1)])
        .no_effect("Standby replicas of each task."),
    int("streams.session.timeout.ms", number(45_000))
        .at_least(1)
        .from_broker(&[("group.streams.session.timeout.ms", 1)])
        .no_effect("Time without a heartbeat after which a member is removed, in milliseconds."),
];
