//! Replication and the broker's place in the cluster.

use crate::config::setting::{Setting, boolean, flag, int, long, null, number, string};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    boolean("auto.leader.rebalance.enable", flag(true))
        .high()
        .no_effect("Whether leadership is moved back to preferred replicas in the background."),
    int("broker.heartbeat.interval.ms", number(2000))
        .no_effect("Time between two heartbeats of a broker to the controller, in milliseconds."),
    int("broker.session.timeout.ms", number(9000))
        .no_effect("Time after which a broker without heartbeats is fenced, in milliseconds."),
    boolean("controlled.shutdown.enable", flag(true))
        .no_effect("Whether leadership is handed over before a stop."),
    int("initial.broker.registration.timeout.ms", number(60_000)).no_effect(
        "Time a starting broker tries to register with the controller, in milliseconds.",
    ),
    string("inter.broker.listener.name", null())
        .works("The listener other brokers use. It must be one of the advertised ones."),
    long("leader.imbalance.check.interval.seconds", number(300))
        .at_least(1)
        .high()
        .no_effect("Time between two checks of leader balance, in seconds."),
    int("num.replica.alter.log.dirs.threads", null())
        .high()
        .no_effect("Threads that move partitions between log directories."),
    int("num.replica.fetchers", number(1))
        .at_least(1)
        .high()
        .cluster_wide()
        .no_effect("Threads that fetch from each leader."),
    int("replica.fetch.backoff.ms", number(1000))
        .at_least(0)
        .no_effect("Time a follower waits after a failed fetch, in milliseconds."),
    int("replica.fetch.max.bytes", number(1_048_576))
        .at_least(0)
        .no_effect("Bytes of one partition a follower asks for."),
    int("replica.fetch.min.bytes", number(1))
        .high()
        .no_effect("Bytes a follower's fetch waits for."),
    int("replica.fetch.response.max.bytes", number(10_485_760))
        .at_least(0)
        .no_effect("Bytes a follower's fetch is answered with at most."),
    int("replica.fetch.wait.max.ms", number(500))
        .high()
        .no_effect("Longest time a follower's fetch waits, in milliseconds."),
    long("replica.high.watermark.checkpoint.interval.ms", number(5000)).high().works(
        "Time between two writes of the high watermark checkpoint, in milliseconds; see \
             `log.flush.offset.checkpoint.interval.ms`.",
    ),
    long("replica.lag.time.max.ms", number(30_000))
        .high()
        .no_effect("Time a follower may lag before it leaves the in-sync set, in milliseconds."),
    string("replica.selector.class", null())
        .no_effect("Java class that picks a replica to read from."),
    int("replica.socket.receive.buffer.bytes", number(65_536))
        .high()
        .no_effect("Receive buffer of a follower's socket, in bytes."),
    int("replica.socket.timeout.ms", number(30_000))
        .high()
        .no_effect("Socket timeout of a follower, in milliseconds."),
    int("request.timeout.ms", number(30_000))
        .high()
        .no_effect("Time this broker waits for answers to its own requests, in milliseconds."),
];
