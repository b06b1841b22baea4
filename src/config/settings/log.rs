//! Logs: segments, flushing, retention; topic creation.

use crate::config::setting::{
    Items, Rule, Setting, boolean, class, flag, int, list, long, null, number, string, text,
};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    class("alter.config.policy.class.name", null()).low().no_effect(
        "Java class that may veto configuration changes. Corelog loads no Java classes.",
    ),
    boolean("auto.create.topics.enable", flag(true)).high().works(
        "Whether a produce or metadata request for a topic that does not exist creates it, \
             with `num.partitions` partitions and `default.replication.factor` replicas.",
    ),
    int("compression.gzip.level", number(-1)).rule(Rule::GzipLevel).cluster_wide().works(
        "Level used when the broker compresses batches with gzip; -1 is the library's \
             default.",
    ),
    int("compression.lz4.level", number(9))
        .between(1, 17)
        .cluster_wide()
        .works("Level used when the broker compresses batches with lz4."),
    string("compression.type", text("producer"))
        .rule(Rule::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]))
        .high()
        .cluster_wide()
        .works(
            "How batches are stored: `producer` keeps them as they came, any other value makes \
             the broker recompress batches that differ.",
        ),
    int("compression.zstd.level", number(3))
        .between(-131_072, 22)
        .cluster_wide()
        .works("Level used when the broker compresses batches with zstd."),
    list("cordoned.log.dirs", text(""))
        .items(Items::ANY, &[])
        .per_broker()
        .no_effect("Log directories that get no new partitions."),
    class("create.topic.policy.class.name", null())
        .low()
        .no_effect("Java class that may veto new topics. Corelog loads no Java classes."),
    int("default.replication.factor", number(1))
        .works("Replicas of a topic that is created without saying how many."),
    boolean("delete.topic.enable", flag(true))
        .high()
        .works("Whether topics can be deleted; when false, a deletion is refused."),
    list("log.cleanup.policy", text("delete"))
        .items(Items::NOT_NULL, &["compact", "delete"])
        .cluster_wide()
        .works(
            "What happens to old data: `delete`, `compact`, both, or nothing when empty. The \
             default of topics' `cleanup.policy`.",
        ),
    list("log.dir", text("/tmp/kafka-logs"))
        .items(Items::FILLED, &[])
        .high()
        .works("The data directory when `log.dirs` is not set."),
    long("log.dir.failure.timeout.ms", number(30_000)).at_least(1).low().no_effect(
        "Time after which a broker stops when it can not report a failed directory, in \
             milliseconds.",
    ),
    list("log.dirs", null()).items(Items::NOT_EMPTY, &[]).high().works(
        "The data directory. Corelog keeps all its partitions in one directory for now; a \
             list of several is refused.",
    ),
    long("log.flush.interval.messages", number(i64::MAX)).at_least(1).high().cluster_wide().works(
        "Records after which a partition is synced to disk; 1 syncs before every \
             acknowledgement. The default of topics' `flush.messages`.",
    ),
    long("log.flush.interval.ms", null()).high().cluster_wide().works(
        "Longest time a record stays un-synced, in milliseconds. The default of topics' \
             `flush.ms`.",
    ),
    int("log.flush.offset.checkpoint.interval.ms", number(60_000)).at_least(0).high().works(
        "Time between two writes of the recovery point checkpoint, in milliseconds. The \
             checkpoint files are written together, at the shortest of their three intervals.",
    ),
    long("log.flush.scheduler.interval.ms", number(i64::MAX))
        .high()
        .works("Time between two looks for partitions that are due to be synced, in milliseconds."),
    int("log.flush.start.offset.checkpoint.interval.ms", number(60_000)).at_least(0).high().works(
        "Time between two writes of the log start checkpoint, in milliseconds; see \
             `log.flush.offset.checkpoint.interval.ms`.",
    ),
    int("log.index.interval.bytes", number(4096)).at_least(0).cluster_wide().works(
        "Bytes of log between two index entries. The default of topics' \
             `index.interval.bytes`.",
    ),
    int("log.index.size.max.bytes", number(10_485_760)).at_least(4).cluster_wide().works(
        "Largest size of an offset index, in bytes; a full one closes its segment. The \
             default of topics' `segment.index.bytes`.",
    ),
    long("log.initial.task.delay.ms", number(30_000))
        .at_least(0)
        .low()
        .internal()
        .works("Time after the start before retention begins, in milliseconds."),
    long("log.message.timestamp.after.max.ms", number(3_600_000)).at_least(0).cluster_wide().works(
        "How far in the future a record's timestamp may lie, in milliseconds. The default \
             of topics' `message.timestamp.after.max.ms`.",
    ),
    long("log.message.timestamp.before.max.ms", number(i64::MAX)).at_least(0).cluster_wide().works(
        "How far in the past a record's timestamp may lie, in milliseconds. The default of \
             topics' `message.timestamp.before.max.ms`.",
    ),
    string("log.message.timestamp.type", text("CreateTime"))
        .rule(Rule::OneOf(&["CreateTime", "LogAppendTime"]))
        .cluster_wide()
        .works(
            "Whether records keep the producer's time or get the broker's. The default of \
             topics' `message.timestamp.type`.",
        ),
    boolean("log.preallocate", flag(false)).cluster_wide().works(
        "Whether a new segment gets its full size on disk at once. The default of topics' \
             `preallocate`.",
    ),
    long("log.retention.bytes", number(-1)).high().cluster_wide().works(
        "Size above which the oldest segments of a partition are deleted; -1 for no bound. \
             The default of topics' `retention.bytes`.",
    ),
    long("log.retention.check.interval.ms", number(300_000))
        .at_least(1)
        .works("Time between two looks for segments to delete, in milliseconds."),
    int("log.retention.hours", number(168))
        .high()
        .works("Hours data is kept, unless `log.retention.minutes` or `log.retention.ms` is set."),
    int("log.retention.minutes", null())
        .high()
        .works("Minutes data is kept, unless `log.retention.ms` is set."),
    long("log.retention.ms", null())
        .high()
        .cluster_wide()
        .works("Milliseconds data is kept; -1 for ever. The default of topics' `retention.ms`."),
    int("log.roll.hours", number(168))
        .at_least(1)
        .high()
        .works("Hours after which a segment is closed, unless `log.roll.ms` is set."),
    int("log.roll.jitter.hours", number(0)).at_least(0).high().works(
        "Most hours by which closing a segment is randomly brought forward, unless \
             `log.roll.jitter.ms` is set.",
    ),
    long("log.roll.jitter.ms", null()).high().cluster_wide().works(
        "Most milliseconds by which closing a segment is randomly brought forward. The \
             default of topics' `segment.jitter.ms`.",
    ),
    long("log.roll.ms", null()).high().cluster_wide().works(
        "Milliseconds after which a segment is closed. The default of topics' `segment.ms`.",
    ),
    int("log.segment.bytes", number(1_073_741_824))
        .at_least(1_048_576)
        .high()
        .cluster_wide()
        .works(
            "Size at which a segment is closed and the next one opened, in bytes. Larger \
             segments mean fewer files; smaller ones let retention delete sooner.",
        ),
    long("log.segment.delete.delay.ms", number(60_000)).at_least(0).high().cluster_wide().works(
        "Time between the deletion of a segment and the removal of its files, in \
             milliseconds.",
    ),
    int("message.max.bytes", number(1_048_588)).at_least(0).high().cluster_wide().works(
        "Largest record batch accepted, in bytes, after compression. The default of topics' \
             `max.message.bytes`.",
    ),
    int("min.insync.replicas", number(1)).at_least(1).high().cluster_wide().works(
        "In-sync replicas that must hold a record before an acks=all request is answered; \
             with fewer, it is refused.",
    ),
    int("num.partitions", number(1))
        .at_least(1)
        .works("Partitions of a topic that is created without saying how many."),
    int("num.recovery.threads.per.data.dir", number(2))
        .at_least(1)
        .high()
        .cluster_wide()
        .no_effect("Recovery threads of Apache Kafka. Corelog recovers on every core at once."),
    int("producer.id.expiration.check.interval.ms", number(600_000))
        .at_least(1)
        .low()
        .internal()
        .works("Time between two looks for producers to forget, in milliseconds."),
    int("producer.id.expiration.ms", number(86_400_000)).at_least(1).low().cluster_wide().works(
        "Time without a record after which a partition forgets a producer, in milliseconds.",
    ),
    boolean("unclean.leader.election.enable", flag(false)).high().cluster_wide().works(
        "Whether a replica that is not in sync may lead when no other is left, at the price \
             of lost records.",
    ),
    long("unclean.leader.election.interval.ms", number(300_000))
        .at_least(1)
        .internal()
        .no_effect("Time between two unclean elections, in milliseconds."),
];
