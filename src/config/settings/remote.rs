//! Remote storage (tiered storage, KIP-405).

use crate::config::setting::{
    Rule, Setting, boolean, double, flag, float, int, long, null, number, string, text,
};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    boolean("follower.fetch.last.tiered.offset.enable", flag(false))
        .cluster_wide()
        .no_effect(
            "Whether a new replica starts at the last offset that is in remote storage.",
        ),
    long("log.local.retention.bytes", number(-2))
        .at_least(-2)
        .cluster_wide()
        .no_effect("Bytes kept locally of partitions in remote storage."),
    long("log.local.retention.ms", number(-2))
        .at_least(-2)
        .cluster_wide()
        .no_effect(
            "Time for which data of partitions in remote storage is kept locally, in \
             milliseconds.",
        ),
    int("remote.fetch.max.wait.ms", number(500))
        .at_least(1)
        .cluster_wide()
        .no_effect("Longest wait for a read from remote storage, in milliseconds."),
    long("remote.list.offsets.request.timeout.ms", number(30_000))
        .at_least(1)
        .cluster_wide()
        .no_effect("Longest wait for an offset lookup in remote storage, in milliseconds."),
    long("remote.log.index.file.cache.total.size.bytes", number(1_073_741_824))
        .at_least(1)
        .low()
        .cluster_wide()
        .no_effect("Disk space for indexes fetched from remote storage, in bytes."),
    long("remote.log.index.file.cache.ttl.ms", number(900_000))
        .at_least(-1)
        .low()
        .internal()
        .no_effect("Time such an index is kept, in milliseconds."),
    int("remote.log.manager.copier.thread.pool.size", number(10))
        .at_least(1)
        .cluster_wide()
        .no_effect("Threads that copy segments to remote storage."),
    long("remote.log.manager.copy.max.bytes.per.second", number(i64::MAX))
        .at_least(1)
        .cluster_wide()
        .no_effect("Most bytes a second copied to remote storage."),
    int("remote.log.manager.copy.quota.window.num", number(11))
        .at_least(1)
        .no_effect("Number of samples kept to measure copies to remote storage."),
    int("remote.log.manager.copy.quota.window.size.seconds", number(1))
        .at_least(1)
        .no_effect("Length of one such sample, in seconds."),
    int("remote.log.manager.expiration.thread.pool.size", number(10))
        .at_least(1)
        .cluster_wide()
        .no_effect("Threads that delete expired segments from remote storage."),
    long("remote.log.manager.fetch.max.bytes.per.second", number(i64::MAX))
        .at_least(1)
        .cluster_wide()
        .no_effect("Most bytes a second read from remote storage."),
    int("remote.log.manager.fetch.quota.window.num", number(11))
        .at_least(1)
        .no_effect("Number of samples kept to measure reads from remote storage."),
    int("remote.log.manager.fetch.quota.window.size.seconds", number(1))
        .at_least(1)
        .no_effect("Length of one such sample, in seconds."),
    int("remote.log.manager.follower.thread.pool.size", number(2))
        .at_least(1)
        .cluster_wide()
        .no_effect("Threads that follow remote storage on followers."),
    long("remote.log.manager.task.interval.ms", number(30_000))
        .at_least(1)
        .low()
        .no_effect("Time between two runs of remote storage tasks, in milliseconds."),
    long("remote.log.manager.task.retry.backoff.max.ms", number(30_000))
        .at_least(1)
        .low()
        .internal()
        .no_effect(
            "Longest wait before a remote storage task is tried again, in milliseconds.",
        ),
    long("remote.log.manager.task.retry.backoff.ms", number(500))
        .at_least(1)
        .low()
        .internal()
        .no_effect("First wait before a remote storage task is tried again, in milliseconds."),
    double("remote.log.manager.task.retry.jitter", float(0.2))
        .range_float(0.0, 0.5)
        .low()
        .internal()
        .no_effect("Randomness of that wait, from 0 to 0.5."),
    int("remote.log.manager.thread.pool.size", number(2))
        .at_least(1)
        .no_effect("Older setting for the threads of remote storage."),
    int("remote.log.metadata.custom.metadata.max.bytes", number(128))
        .at_least(0)
        .low()
        .no_effect("Largest note of a storage plug-in on a segment, in bytes."),
    string("remote.log.metadata.manager.class.name", text(
            "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager"
        ))
        .rule(Rule::NonEmpty)
        .no_effect("Java class that keeps the metadata of remote segments."),
    string("remote.log.metadata.manager.class.path", null())
        .no_effect("Where that class is found."),
    string("remote.log.metadata.manager.impl.prefix", text("rlmm.config."))
        .rule(Rule::NonEmpty)
        .no_effect("Prefix of the settings handed to it."),
    string("remote.log.metadata.manager.listener.name", null())
        .rule(Rule::NonEmpty)
        .no_effect("Listener it connects to."),
    int("remote.log.reader.max.pending.tasks", number(100))
        .at_least(1)
        .no_effect("Reads from remote storage that may wait."),
    int("remote.log.reader.threads", number(10))
        .at_least(1)
        .cluster_wide()
        .no_effect("Threads that read from remote storage."),
    string("remote.log.storage.manager.class.name", null())
        .rule(Rule::NonEmpty)
        .no_effect("Java class that stores remote segments."),
    string("remote.log.storage.manager.class.path", null())
        .no_effect("Where that class is found."),
    string("remote.log.storage.manager.impl.prefix", text("rsm.config."))
        .rule(Rule::NonEmpty)
        .no_effect("Prefix of the settings handed to it."),
    boolean("remote.log.storage.system.enable", flag(false))
        .no_effect("Whether segments may be kept in remote storage."),
];
