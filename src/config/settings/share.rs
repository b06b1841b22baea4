//! Share groups (KIP-932).

use crate::config::setting::{Items, Setting, int, list, number, short, string, text};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    int("group.share.assignment.interval.ms", number(1000))
        .at_least(0)
        .cluster_wide()
        .no_effect("Least time between two assignments of a share group, in milliseconds."),
    list("group.share.assignors", text("simple"))
        .items(Items::FILLED, &[])
        .no_effect("Assignors of share groups."),
    int("group.share.delivery.count.limit", number(5))
        .between(2, 10)
        .no_effect("How often a record is delivered to a share group before it is given up."),
    int("group.share.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .no_effect("Time between two heartbeats of a member of a share group, in milliseconds."),
    int("group.share.initialize.retry.interval.ms", number(30_000))
        .at_least(1)
        .low()
        .internal()
        .no_effect("Wait before the state of a share group is initialised again, in milliseconds."),
    int("group.share.max.assignment.interval.ms", number(15_000))
        .at_least(0)
        .no_effect("Longest assignment interval a share group may set, in milliseconds."),
    int("group.share.max.delivery.count.limit", number(10))
        .between(5, 25)
        .no_effect("Largest delivery limit a share group may set."),
    int("group.share.max.heartbeat.interval.ms", number(15_000))
        .at_least(1)
        .no_effect("Longest heartbeat interval a share group may set, in milliseconds."),
    int("group.share.max.partition.max.record.locks", number(4000))
        .between(2000, 10_000)
        .no_effect("Largest number of locked records per partition a share group may set."),
    int("group.share.max.record.lock.duration.ms", number(60_000))
        .between(30_000, 3_600_000)
        .no_effect("Longest record lock a share group may set, in milliseconds."),
    int("group.share.max.session.timeout.ms", number(60_000))
        .at_least(1)
        .no_effect("Longest session timeout a share group may set, in milliseconds."),
    int("group.share.max.share.sessions", number(2000))
        .at_least(1)
        .no_effect("Most share sessions of one broker."),
    int("group.share.max.size", number(200))
        .between(1, 1000)
        .no_effect("Most members of a share group."),
    int("group.share.min.assignment.interval.ms", number(0))
        .at_least(0)
        .no_effect("Shortest assignment interval a share group may set, in milliseconds."),
    int("group.share.min.delivery.count.limit", number(2))
        .between(2, 5)
        .no_effect("Smallest delivery limit a share group may set."),
    int("group.share.min.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .no_effect("Shortest heartbeat interval a share group may set, in milliseconds."),
    int("group.share.min.partition.max.record.locks", number(100))
        .between(100, 2000)
        .no_effect("Smallest number of locked records per partition a share group may set."),
    int("group.share.min.record.lock.duration.ms", number(15_000))
        .between(1000, 30_000)
        .no_effect("Shortest record lock a share group may set, in milliseconds."),
    int("group.share.min.session.timeout.ms", number(45_000))
        .at_least(1)
        .no_effect("Shortest session timeout a share group may set, in milliseconds."),
    int("group.share.partition.max.record.locks", number(2000))
        .between(100, 10_000)
        .no_effect("Most records of one partition that a share group may hold locked."),
    string(
        "group.share.persister.class.name",
        text("org.apache.kafka.server.share.persister.DefaultStatePersister"),
    )
    .internal()
    .no_effect("Java class that stores the state of share groups."),
    int("group.share.record.lock.duration.ms", number(30_000))
        .between(1000, 3_600_000)
        .no_effect("Time a consumer of a share group holds a record, in milliseconds."),
    int("group.share.session.timeout.ms", number(45_000)).at_least(1).no_effect(
        "Time without a heartbeat after which a member of a share group is removed, in \
             milliseconds.",
    ),
    int("share.coordinator.append.linger.ms", number(-1)).at_least(-1).no_effect(
        "Time the share coordinator gathers records before it writes them, in milliseconds.",
    ),
    int("share.coordinator.cached.buffer.max.bytes", number(1_048_588))
        .at_least(524_288)
        .cluster_wide()
        .no_effect("Largest buffer the share coordinator keeps for reuse, in bytes."),
    int("share.coordinator.cold.partition.snapshot.interval.ms", number(300_000))
        .at_least(1)
        .low()
        .internal()
        .no_effect("Time between snapshots of idle share partitions, in milliseconds."),
    int("share.coordinator.load.buffer.size", number(5_242_880))
        .at_least(1)
        .high()
        .no_effect("Size of reads while share state is loaded, in bytes."),
    int("share.coordinator.snapshot.update.records.per.snapshot", number(500))
        .between(0, 500)
        .no_effect("Updates between two snapshots of share state."),
    int("share.coordinator.state.topic.compression.codec", number(0))
        .high()
        .no_effect("Compression of the share state topic, by number."),
    short("share.coordinator.state.topic.min.isr", number(2))
        .at_least(1)
        .high()
        .no_effect("Least in-sync replicas of the share state topic."),
    int("share.coordinator.state.topic.num.partitions", number(50))
        .at_least(1)
        .high()
        .no_effect("Partitions of the share state topic."),
    int("share.coordinator.state.topic.prune.interval.ms", number(300_000))
        .at_least(1)
        .low()
        .internal()
        .no_effect("Time between two removals of old share state, in milliseconds."),
    short("share.coordinator.state.topic.replication.factor", number(3))
        .at_least(1)
        .high()
        .no_effect("Replicas of the share state topic."),
    int("share.coordinator.state.topic.segment.bytes", number(104_857_600))
        .at_least(1)
        .high()
        .no_effect("Segment size of the share state topic, in bytes."),
    int("share.coordinator.threads", number(1))
        .at_least(1)
        .no_effect("Threads of the share coordinator."),
    int("share.coordinator.write.timeout.ms", number(5000))
        .at_least(1)
        .high()
        .no_effect("Time a write of share state may take, in milliseconds."),
    int("share.fetch.purgatory.purge.interval.requests", number(1000))
        .no_effect("Bookkeeping of waiting requests that Corelog does without."),
];
