//! Listeners, connections, requests.

use crate::config::setting::{Items, Setting, int, list, long, null, number, string, text};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    list("advertised.listeners", null()).items(Items::NOT_EMPTY, &[]).high().works(
        "The addresses clients are told to connect to, as NAME://host:port. Set it when \
             clients reach this node under another name than the one it binds; without it \
             `listeners` is advertised.",
    ),
    int("background.threads", number(10))
        .at_least(1)
        .high()
        .cluster_wide()
        .no_effect("Size of a thread pool that Corelog does not have; work runs on the cores."),
    long("connections.max.idle.ms", number(600_000)).works(
        "A connection on which no request came for this long is closed, in milliseconds; -1 \
             keeps it for ever.",
    ),
    int("delete.records.purgatory.purge.interval.requests", number(1))
        .no_effect("Bookkeeping of waiting requests that Corelog does without."),
    list("early.start.listeners", null())
        .items(Items::ANY, &[])
        .high()
        .no_effect("Listeners that open before the broker has finished starting."),
    int("fetch.max.bytes", number(57_671_680)).at_least(1024).works(
        "Most bytes one fetch is answered with, whatever the client asks for. A single \
             larger batch is still returned whole.",
    ),
    int("fetch.purgatory.purge.interval.requests", number(1000))
        .no_effect("Bookkeeping of waiting requests that Corelog does without."),
    string(
        "listener.security.protocol.map",
        text("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"),
    )
    .low()
    .per_broker()
    .works(
        "Which security protocol each listener name stands for, as NAME:PROTOCOL. Corelog \
             opens PLAINTEXT listeners.",
    ),
    list("listeners", text("PLAINTEXT://:9092"))
        .items(Items::FILLED, &[])
        .high()
        .per_broker()
        .works(
            "The addresses to listen on, as NAME://host:port, separated by commas. An empty \
             host stands for every interface, port 0 for a free port.",
        ),
    int("max.connection.creation.rate", number(i32::MAX as i64))
        .at_least(0)
        .cluster_wide()
        .no_effect("Most new connections a second."),
    int("max.connections", number(i32::MAX as i64))
        .at_least(0)
        .cluster_wide()
        .works("Most connections at a time; further ones wait to be accepted."),
    int("max.connections.per.ip", number(i32::MAX as i64))
        .at_least(0)
        .cluster_wide()
        .no_effect("Most connections from one address."),
    string("max.connections.per.ip.overrides", text(""))
        .cluster_wide()
        .no_effect("Exceptions to that bound, as address:count."),
    int("max.incremental.fetch.session.cache.slots", number(1000))
        .at_least(0)
        .works("Most fetch sessions kept (KIP-227); the cores share the number evenly."),
    int("max.request.partition.size.limit", number(2000)).at_least(1).works(
        "Most partitions in one answer to DescribeTopicPartitions; the client asks for the \
             rest with a cursor.",
    ),
    int("num.io.threads", number(8)).at_least(1).high().cluster_wide().no_effect(
        "Request threads of Apache Kafka. Corelog has one thread per core: see \
             `corelog.cores`.",
    ),
    int("num.network.threads", number(3)).at_least(1).high().cluster_wide().no_effect(
        "Network threads of Apache Kafka. Corelog has one thread per core: see \
             `corelog.cores`.",
    ),
    int("producer.purgatory.purge.interval.requests", number(1000))
        .no_effect("Bookkeeping of waiting requests that Corelog does without."),
    long("queued.max.request.bytes", number(-1)).works(
        "Apache Kafka's name for `corelog.memory.request.bytes`; above 0 it is taken instead of \
             that, and is counted in the same way.",
    ),
    int("queued.max.requests", number(500)).at_least(1).high().no_effect(
        "Requests that may wait in memory. Corelog counts bytes: \
             `corelog.memory.request.bytes`.",
    ),
    long("socket.connection.setup.timeout.max.ms", number(30_000))
        .no_effect("Longest time to connect to another node, in milliseconds."),
    long("socket.connection.setup.timeout.ms", number(10_000))
        .no_effect("First time allowed to connect to another node, in milliseconds."),
    int("socket.listen.backlog.size", number(50))
        .at_least(1)
        .no_effect("Connections that may wait to be accepted. Corelog uses 1024."),
    // Apache Kafka has 102400 for both: see docs/decisions/socket-buffers.md.
    int("socket.receive.buffer.bytes", number(-1))
        .high()
        .works("Receive buffer of a connection's socket, in bytes; -1 leaves it to the system."),
    int("socket.request.max.bytes", number(104_857_600)).at_least(1).high().works(
        "Largest request accepted, in bytes. A connection that announces a larger one is \
             closed.",
    ),
    int("socket.send.buffer.bytes", number(307_200))
        .high()
        .works("Send buffer of a connection's socket, in bytes; -1 leaves it to the system."),
];
