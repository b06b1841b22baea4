//! Compaction.

use crate::config::setting::{Setting, boolean, double, flag, float, int, long, number};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    long("log.cleaner.backoff.ms", number(15_000))
        .at_least(0)
        .cluster_wide()
        .no_effect("Time the compactor sleeps when there is nothing to compact, in milliseconds."),
    long("log.cleaner.dedupe.buffer.size", number(134_217_728))
        .cluster_wide()
        .no_effect("Memory for compaction, over all its threads, in bytes."),
    long("log.cleaner.delete.retention.ms", number(86_400_000))
        .at_least(0)
        .cluster_wide()
        .no_effect(
            "Time delete markers are kept in compacted topics, in milliseconds. The default of \
             topics' `delete.retention.ms`.",
        ),
    boolean("log.cleaner.enable", flag(true)).no_effect("Whether compaction runs."),
    double("log.cleaner.io.buffer.load.factor", float(0.9))
        .cluster_wide()
        .no_effect("How full the compactor's table may get, from 0 to 1."),
    int("log.cleaner.io.buffer.size", number(524_288))
        .at_least(0)
        .cluster_wide()
        .no_effect("Memory of the compactor's read and write buffers, in bytes."),
    double("log.cleaner.io.max.bytes.per.second", float(f64::MAX))
        .cluster_wide()
        .no_effect("Most bytes a second that compaction reads and writes."),
    long("log.cleaner.max.compaction.lag.ms", number(i64::MAX))
        .at_least(1)
        .cluster_wide()
        .no_effect(
            "Longest time a record may stay uncompacted, in milliseconds. The default of \
             topics' `max.compaction.lag.ms`.",
        ),
    double("log.cleaner.min.cleanable.ratio", float(0.5))
        .range_float(0.0, 1.0)
        .cluster_wide()
        .no_effect(
            "Share of a log that must be dirty before it is compacted. The default of topics' \
             `min.cleanable.dirty.ratio`.",
        ),
    long("log.cleaner.min.compaction.lag.ms", number(0)).at_least(0).cluster_wide().no_effect(
        "Shortest time a record stays uncompacted, in milliseconds. The default of topics' \
             `min.compaction.lag.ms`.",
    ),
    int("log.cleaner.threads", number(1))
        .at_least(0)
        .cluster_wide()
        .no_effect("Threads of the compactor."),
];
