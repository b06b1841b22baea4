//! Consumer groups and their offsets.

use crate::config::setting::{Items, Rule, Setting, int, list, long, number, short, string, text};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    int("group.consumer.assignment.interval.ms", number(1000))
        .at_least(0)
        .cluster_wide()
        .works("Least time between two assignments of a consumer group, in milliseconds."),
    list("group.consumer.assignors", text("uniform,range"))
        .items(Items::FILLED, &[])
        .works("Assignors of the consumer group protocol, the default first."),
    int("group.consumer.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .works("Time between two heartbeats of a member of a consumer group, in milliseconds."),
    int("group.consumer.max.assignment.interval.ms", number(15_000))
        .at_least(0)
        .works("Longest assignment interval a consumer group may set, in milliseconds."),
    int("group.consumer.max.heartbeat.interval.ms", number(15_000))
        .at_least(1)
        .works("Longest heartbeat interval a consumer group may set, in milliseconds."),
    int("group.consumer.max.session.timeout.ms", number(60_000))
        .at_least(1)
        .works("Longest session timeout a consumer group may set, in milliseconds."),
    int("group.consumer.max.size", number(i32::MAX as i64))
        .at_least(1)
        .works("Most members of a consumer group."),
    string("group.consumer.migration.policy", text("bidirectional"))
        .rule(Rule::OneOfAnyCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]))
        .works("Which moves between classic and consumer protocol a group may make."),
    int("group.consumer.min.assignment.interval.ms", number(0))
        .at_least(0)
        .works("Shortest assignment interval a consumer group may set, in milliseconds."),
    int("group.consumer.min.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .works("Shortest heartbeat interval a consumer group may set, in milliseconds."),
    int("group.consumer.min.session.timeout.ms", number(45_000))
        .at_least(1)
        .works("Shortest session timeout a consumer group may set, in milliseconds."),
    int("group.consumer.regex.refresh.interval.ms", number(600_000))
        .at_least(10_000)
        .internal()
        .works(
            "Time after which topic patterns of consumer groups are matched again, in \
             milliseconds.",
        ),
    int("group.consumer.session.timeout.ms", number(45_000)).at_least(1).works(
        "Time without a heartbeat after which a member of a consumer group is removed, in \
             milliseconds.",
    ),
    int("group.coordinator.append.linger.ms", number(-1)).at_least(-1).no_effect(
        "Time the coordinator gathers records before it writes them, in milliseconds; -1 \
             adapts.",
    ),
    int("group.coordinator.background.threads", number(2))
        .at_least(1)
        .high()
        .no_effect("Threads for slow coordinator work; Corelog's run on the cores."),
    int("group.coordinator.cached.buffer.max.bytes", number(1_048_588))
        .at_least(524_288)
        .cluster_wide()
        .no_effect("Largest buffer a coordinator keeps for reuse, in bytes."),
    list("group.coordinator.rebalance.protocols", text("classic,consumer,streams"))
        .items(Items::FILLED, &["consumer", "classic", "share", "streams"])
        .works(
            "Group protocols that are switched on; classic always is, streams is not there yet.",
        ),
    int("group.coordinator.threads", number(4))
        .at_least(1)
        .high()
        .no_effect("Threads of the group coordinator; Corelog's run on the cores."),
    int("group.initial.rebalance.delay.ms", number(3000)).works(
        "Time a new group waits for more members before its first rebalance, in \
             milliseconds.",
    ),
    int("group.max.session.timeout.ms", number(1_800_000))
        .works("Longest session timeout a member of a classic group may ask for, in milliseconds."),
    int("group.max.size", number(i32::MAX as i64))
        .at_least(1)
        .works("Most members of a classic group."),
    int("group.min.session.timeout.ms", number(6000)).works(
        "Shortest session timeout a member of a classic group may ask for, in milliseconds.",
    ),
    int("group.streams.assignment.interval.ms", number(1000))
        .at_least(0)
        .cluster_wide()
        .no_effect("Least time between two assignments of a streams group, in milliseconds."),
    int("group.streams.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .no_effect("Time between two heartbeats of a member of a streams group, in milliseconds."),
    int("group.streams.initial.rebalance.delay.ms", number(3000))
        .at_least(0)
        .no_effect("Time a new streams group waits for more members, in milliseconds."),
    int("group.streams.max.assignment.interval.ms", number(15_000))
        .at_least(0)
        .no_effect("Longest assignment interval a streams group may set, in milliseconds."),
    int("group.streams.max.heartbeat.interval.ms", number(15_000))
        .at_least(1)
        .no_effect("Longest heartbeat interval a streams group may set, in milliseconds."),
    int("group.streams.max.session.timeout.ms", number(60_000))
        .at_least(1)
        .no_effect("Longest session timeout a streams group may set, in milliseconds."),
    int("group.streams.max.size", number(i32::MAX as i64))
        .at_least(1)
        .no_effect("Most members of a streams group."),
    int("group.streams.max.standby.replicas", number(2))
        .at_least(0)
        .no_effect("Most standby replicas a streams group may set."),
    int("group.streams.min.assignment.interval.ms", number(0))
        .at_least(0)
        .no_effect("Shortest assignment interval a streams group may set, in milliseconds."),
    int("group.streams.min.heartbeat.interval.ms", number(5000))
        .at_least(1)
        .no_effect("Shortest heartbeat interval a streams group may set, in milliseconds."),
    int("group.streams.min.session.timeout.ms", number(45_000))
        .at_least(1)
        .no_effect("Shortest session timeout a streams group may set, in milliseconds."),
    int("group.streams.num.standby.replicas", number(0))
        .at_least(0)
        .no_effect("Standby replicas of each task of a streams group."),
    int("group.streams.session.timeout.ms", number(45_000)).at_least(1).no_effect(
        "Time without a heartbeat after which a member of a streams group is removed, in \
             milliseconds.",
    ),
    int("offset.metadata.max.bytes", number(4096))
        .high()
        .works("Largest note a consumer may store with a committed offset, in bytes."),
    int("offsets.commit.timeout.ms", number(5000))
        .at_least(1)
        .high()
        .no_effect("Time an offset commit may wait for its replicas, in milliseconds."),
    int("offsets.load.buffer.size", number(5_242_880))
        .at_least(1)
        .high()
        .no_effect("Size of reads while the offsets topic is loaded, in bytes."),
    long("offsets.retention.check.interval.ms", number(600_000))
        .at_least(1)
        .high()
        .works("Time between two looks for expired offsets, in milliseconds."),
    int("offsets.retention.minutes", number(10_080))
        .at_least(1)
        .high()
        .works("Minutes the offsets of an empty group are kept."),
    int("offsets.topic.compression.codec", number(0))
        .high()
        .works("Compression of the offsets topic, by number."),
    int("offsets.topic.num.partitions", number(50))
        .at_least(1)
        .high()
        .works("Partitions of `__consumer_offsets`; must not be changed once it exists."),
    short("offsets.topic.replication.factor", number(3)).at_least(1).high().works(
        "Replicas of `__consumer_offsets`, or as many as there are brokers when it is created.",
    ),
    int("offsets.topic.segment.bytes", number(104_857_600))
        .at_least(1)
        .high()
        .works("Segment size of `__consumer_offsets`, in bytes."),
];
