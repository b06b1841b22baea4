//! Settings of topics.

use crate::config::setting::{
    Items, Rule, Setting, boolean, double, flag, float, int, list, long, null, number, string, text,
};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    list("cleanup.policy", text("delete"))
        .items(Items::NOT_NULL, &["compact", "delete"])
        .from_broker(&[("log.cleanup.policy", 1)])
        .works(
            "What happens to old data: `delete` removes whole segments, and an empty list keeps \
             everything. `compact` keeps everything as well: compaction is not built yet.",
        ),
    int("compression.gzip.level", number(-1))
        .rule(Rule::GzipLevel)
        .from_broker(&[("compression.gzip.level", 1)])
        .works(
            "Level used when the broker compresses this topic with gzip; -1 is the library's \
             default.",
        ),
    int("compression.lz4.level", number(9))
        .between(1, 17)
        .from_broker(&[("compression.lz4.level", 1)])
        .works("Level used when the broker compresses this topic with lz4."),
    string("compression.type", text("producer"))
        .rule(Rule::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]))
        .from_broker(&[("compression.type", 1)])
        .works(
            "How batches are stored: `producer` keeps them as they came, any other value makes \
             the broker recompress batches that differ.",
        ),
    int("compression.zstd.level", number(3))
        .between(-131_072, 22)
        .from_broker(&[("compression.zstd.level", 1)])
        .works("Level used when the broker compresses this topic with zstd."),
    long("delete.retention.ms", number(86_400_000))
        .at_least(0)
        .from_broker(&[("log.cleaner.delete.retention.ms", 1)])
        .no_effect("Time delete markers stay readable in a compacted topic, in milliseconds."),
    long("file.delete.delay.ms", number(60_000))
        .at_least(0)
        .from_broker(&[("log.segment.delete.delay.ms", 1)])
        .works(
            "Time between the deletion of a segment and the removal of its files, in \
             milliseconds.",
        ),
    long("flush.messages", number(i64::MAX))
        .at_least(1)
        .from_broker(&[("log.flush.interval.messages", 1)])
        .works(
            "Records after which the partition is synced to disk. With 1, no record is \
             acknowledged before it is on disk; waiting requests share one sync.",
        ),
    long("flush.ms", number(i64::MAX))
        .at_least(0)
        .from_broker(&[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)])
        .works("Longest time a record stays un-synced, in milliseconds."),
    list("follower.replication.throttled.replicas", text(""))
        .rule(Rule::ThrottledReplicas)
        .no_effect("Replicas whose fetching is throttled, as partition:broker, or `*` for all."),
    int("index.interval.bytes", number(4096))
        .at_least(0)
        .from_broker(&[("log.index.interval.bytes", 1)])
        .works(
            "Bytes of log between two index entries. Fewer bytes mean shorter scans and larger \
             indexes.",
        ),
    int("internal.segment.bytes", null()).internal().works(
        "Segment size that may lie below the bound of `segment.bytes`, in bytes; for tests.",
    ),
    list("leader.replication.throttled.replicas", text(""))
        .rule(Rule::ThrottledReplicas)
        .no_effect(
            "Replicas whose leaders throttle what they send, as partition:broker, or `*` for \
             all.",
        ),
    long("local.retention.bytes", number(-2))
        .at_least(-2)
        .from_broker(&[("log.local.retention.bytes", 1)])
        .no_effect(
            "Bytes kept locally when the topic is in remote storage; -2 means \
             `retention.bytes`.",
        ),
    long("local.retention.ms", number(-2))
        .at_least(-2)
        .from_broker(&[("log.local.retention.ms", 1)])
        .no_effect(
            "Time data is kept locally when the topic is in remote storage, in milliseconds; -2 \
             means `retention.ms`.",
        ),
    long("max.compaction.lag.ms", number(i64::MAX))
        .at_least(1)
        .from_broker(&[("log.cleaner.max.compaction.lag.ms", 1)])
        .no_effect("Longest time a record may stay uncompacted, in milliseconds."),
    int("max.message.bytes", number(1_048_588))
        .at_least(0)
        .from_broker(&[("message.max.bytes", 1)])
        .works("Largest record batch accepted, in bytes, after compression."),
    long("message.timestamp.after.max.ms", number(3_600_000))
        .at_least(0)
        .from_broker(&[("log.message.timestamp.after.max.ms", 1)])
        .works(
            "How far in the future a record's timestamp may lie, in milliseconds; later ones \
             are refused.",
        ),
    long("message.timestamp.before.max.ms", number(i64::MAX))
        .at_least(0)
        .from_broker(&[("log.message.timestamp.before.max.ms", 1)])
        .works(
            "How far in the past a record's timestamp may lie, in milliseconds; earlier ones \
             are refused.",
        ),
    string("message.timestamp.type", text("CreateTime"))
        .rule(Rule::OneOf(&["CreateTime", "LogAppendTime"]))
        .from_broker(&[("log.message.timestamp.type", 1)])
        .works(
            "`CreateTime` keeps the producer's timestamps, `LogAppendTime` stamps each batch \
             when it is written.",
        ),
    double("min.cleanable.dirty.ratio", float(0.5))
        .range_float(0.0, 1.0)
        .from_broker(&[("log.cleaner.min.cleanable.ratio", 1)])
        .no_effect("Share of the log that must be dirty before it is compacted, from 0 to 1."),
    long("min.compaction.lag.ms", number(0))
        .at_least(0)
        .from_broker(&[("log.cleaner.min.compaction.lag.ms", 1)])
        .no_effect("Shortest time a record stays uncompacted, in milliseconds."),
    int("min.insync.replicas", number(1))
        .at_least(1)
        .from_broker(&[("min.insync.replicas", 1)])
        .works(
            "In-sync replicas that must hold a record before an acks=all request is answered; \
             with fewer, it is refused.",
        ),
    boolean("preallocate", flag(false))
        .from_broker(&[("log.preallocate", 1)])
        .works("Whether a new segment gets its full size on disk at once."),
    boolean("remote.log.copy.disable", flag(false))
        .no_effect("Whether the topic stops copying segments to remote storage."),
    boolean("remote.log.delete.on.disable", flag(false)).no_effect(
        "Whether remote data is deleted when remote storage is switched off for the topic.",
    ),
    boolean("remote.storage.enable", flag(false))
        .no_effect("Whether the topic's closed segments are kept in remote storage."),
    long("retention.bytes", number(-1)).from_broker(&[("log.retention.bytes", 1)]).works(
        "Size above which the oldest segments of a partition are deleted, in bytes; -1 for \
             no bound.",
    ),
    long("retention.ms", number(604_800_000))
        .at_least(-1)
        .from_broker(&[
            ("log.retention.ms", 1),
            ("log.retention.minutes", 60_000),
            ("log.retention.hours", 3_600_000),
        ])
        .works(
            "Time data is kept, in milliseconds, measured from a segment's newest record; -1 \
             for ever.",
        ),
    int("segment.bytes", number(1_073_741_824))
        .at_least(1_048_576)
        .from_broker(&[("log.segment.bytes", 1)])
        .works("Size at which a segment is closed and the next one opened, in bytes."),
    int("segment.index.bytes", number(10_485_760))
        .at_least(4)
        .from_broker(&[("log.index.size.max.bytes", 1)])
        .works("Largest size of an offset index, in bytes; a full one closes its segment."),
    long("segment.jitter.ms", number(0))
        .at_least(0)
        .from_broker(&[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)])
        .works(
            "Most milliseconds by which closing a segment is randomly brought forward, so that \
             many do not close at once.",
        ),
    long("segment.ms", number(604_800_000))
        .at_least(1)
        .from_broker(&[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)])
        .works("Time after which a segment is closed even when it is not full, in milliseconds."),
    boolean("unclean.leader.election.enable", flag(false))
        .from_broker(&[("unclean.leader.election.enable", 1)])
        .works(
            "Whether a replica that is not in sync may lead when no other is left, at the price \
             of lost records.",
        ),
];
