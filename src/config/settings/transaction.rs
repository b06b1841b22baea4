//! Transactions.

use crate::config::setting::{Setting, boolean, flag, int, number, short};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    int("add.partitions.to.txn.retry.backoff.max.ms", number(100)).at_least(0).high().no_effect(
        "Longest time the broker may keep retrying to add partitions to a transaction on \
             behalf of a producer, in milliseconds.",
    ),
    int("add.partitions.to.txn.retry.backoff.ms", number(20)).at_least(1).high().no_effect(
        "Wait between two tries of the broker to add partitions to a transaction, in \
             milliseconds.",
    ),
    int("transaction.abort.timed.out.transaction.cleanup.interval.ms", number(10_000))
        .at_least(1)
        .low()
        .no_effect(
            "Time between two looks for transactions that ran out of time, in milliseconds.",
        ),
    int("transaction.max.timeout.ms", number(900_000))
        .at_least(1)
        .high()
        .no_effect("Longest transaction timeout a producer may ask for, in milliseconds."),
    boolean("transaction.partition.verification.enable", flag(true))
        .low()
        .cluster_wide()
        .no_effect("Whether a transactional write is checked with the coordinator first."),
    int("transaction.remove.expired.transaction.cleanup.interval.ms", number(3_600_000))
        .at_least(1)
        .low()
        .no_effect("Time between two removals of expired transactional ids, in milliseconds."),
    int("transaction.state.log.load.buffer.size", number(5_242_880))
        .at_least(1)
        .high()
        .no_effect("Size of reads while transactions are loaded, in bytes."),
    int("transaction.state.log.min.isr", number(2))
        .at_least(1)
        .high()
        .no_effect("Least in-sync replicas of `__transaction_state`."),
    int("transaction.state.log.num.partitions", number(50))
        .at_least(1)
        .high()
        .no_effect("Partitions of `__transaction_state`."),
    short("transaction.state.log.replication.factor", number(3))
        .at_least(1)
        .high()
        .no_effect("Replicas of `__transaction_state`."),
    int("transaction.state.log.segment.bytes", number(104_857_600))
        .at_least(1)
        .high()
        .no_effect("Segment size of `__transaction_state`, in bytes."),
    boolean("transaction.two.phase.commit.enable", flag(false))
        .low()
        .no_effect("Whether producers may take part in two-phase commit."),
    int("transactional.id.expiration.ms", number(604_800_000)).at_least(1).high().no_effect(
        "Time without use after which a transactional id is forgotten, in milliseconds.",
    ),
];
