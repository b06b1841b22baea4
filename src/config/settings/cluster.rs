//! Identity, the controller quorum and the metadata log.

use crate::config::setting::{
    Items, Rule, Setting, boolean, flag, int, list, long, null, number, required, string, text,
};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    int("broker.id", number(-1))
        .high()
        .works("Older name of `node.id`; when both are set they must be equal."),
    string("broker.rack", null()).works(
        "Where this node stands, for placement of replicas and for clients that prefer a \
             near one.",
    ),
    list("controller.listener.names", required()).items(Items::FILLED, &[]).high().works(
        "Names of the listeners of the controller. They are accepted and not opened: the \
             embedded controller needs no port.",
    ),
    long("controller.performance.always.log.threshold.ms", number(2000))
        .at_least(0)
        .internal()
        .no_effect("Controller events slower than this are logged, in milliseconds."),
    long("controller.performance.sample.period.ms", number(60_000))
        .at_least(100)
        .internal()
        .no_effect("Period of the controller's performance log, in milliseconds."),
    int("controller.quorum.append.linger.ms", number(25)).at_least(0).no_effect(
        "Time the leader of the metadata log gathers records before it writes them, in \
             milliseconds.",
    ),
    boolean("controller.quorum.auto.join.enable", flag(false))
        .low()
        .no_effect("Whether a new controller adds itself to the quorum."),
    list("controller.quorum.bootstrap.servers", text("")).rule(Rule::Addresses).high().works(
        "Where the controller quorum is found. Accepted; a standalone node is its own \
             quorum and does not connect.",
    ),
    int("controller.quorum.election.backoff.max.ms", number(1000))
        .at_least(0)
        .high()
        .no_effect("Longest wait before a new election, in milliseconds."),
    int("controller.quorum.election.timeout.ms", number(1000))
        .at_least(0)
        .high()
        .no_effect("Time to wait for votes, in milliseconds."),
    int("controller.quorum.fetch.max.bytes", number(1_048_576))
        .at_least(1)
        .low()
        .no_effect("Largest fetch of the metadata log, in bytes."),
    int("controller.quorum.fetch.snapshot.max.bytes", number(1_048_576))
        .at_least(1)
        .low()
        .no_effect("Largest fetch of a metadata snapshot, in bytes."),
    int("controller.quorum.fetch.timeout.ms", number(2000)).at_least(0).high().no_effect(
        "Time without a successful fetch after which a voter becomes a candidate, in \
             milliseconds.",
    ),
    int("controller.quorum.request.timeout.ms", number(2000))
        .at_least(0)
        .no_effect("Time to wait for an answer of the quorum, in milliseconds."),
    int("controller.quorum.retry.backoff.ms", number(20))
        .at_least(0)
        .low()
        .no_effect("Wait before a request to the quorum is repeated, in milliseconds."),
    list("controller.quorum.voters", text("")).rule(Rule::Voters).high().works(
        "The voters as id@host:port. Accepted; a standalone node is its own quorum and does \
             not connect.",
    ),
    int("controller.socket.timeout.ms", number(30_000))
        .no_effect("Socket timeout of connections to the controller, in milliseconds."),
    long("internal.metadata.delete.delay.millis", number(60_000))
        .low()
        .internal()
        .no_effect("Time before deleted metadata segments are removed, in milliseconds."),
    int("internal.metadata.log.segment.bytes", null())
        .low()
        .internal()
        .no_effect("Segment size of the metadata log in tests, in bytes."),
    int("internal.metadata.max.batch.size.in.bytes", number(8_388_608))
        .low()
        .internal()
        .no_effect("Largest batch of the metadata log in tests, in bytes."),
    string("metadata.log.dir", null())
        .high()
        .works("Directory of the metadata log; by default the data directory."),
    long("metadata.log.max.record.bytes.between.snapshots", number(20_971_520))
        .at_least(1)
        .high()
        .works("Bytes of metadata records after which a new snapshot is written."),
    long("metadata.log.max.snapshot.interval.ms", number(3_600_000)).at_least(0).high().works(
        "Longest time between two metadata snapshots when something changed, in \
             milliseconds; 0 for none.",
    ),
    int("metadata.log.segment.bytes", number(1_073_741_824))
        .at_least(8_388_608)
        .high()
        .no_effect("Size at which a segment of the metadata log is closed, in bytes."),
    long("metadata.log.segment.ms", number(604_800_000))
        .high()
        .no_effect("Time after which a segment of the metadata log is closed, in milliseconds."),
    int("metadata.max.idle.interval.ms", number(500))
        .at_least(0)
        .low()
        .no_effect("Time after which the controller writes an empty record, in milliseconds."),
    long("metadata.max.retention.bytes", number(104_857_600)).high().no_effect(
        "Size of metadata log and snapshots above which old ones are deleted, in bytes.",
    ),
    long("metadata.max.retention.ms", number(604_800_000))
        .high()
        .no_effect("Time old metadata log and snapshots are kept, in milliseconds."),
    int("node.id", required())
        .at_least(0)
        .high()
        .works("Number of this node in its cluster; 0 or more, and different on every node."),
    list("process.roles", required())
        .items(Items::FILLED, &["broker", "controller"])
        .high()
        .works("What this node is: `broker,controller` for a standalone node."),
    long("server.max.startup.time.ms", number(i64::MAX))
        .at_least(0)
        .internal()
        .no_effect("Longest time a start may take, in milliseconds."),
    boolean("unstable.api.versions.enable", flag(false))
        .high()
        .internal()
        .no_effect("Whether unfinished versions of requests are offered."),
    boolean("unstable.feature.versions.enable", flag(false))
        .high()
        .internal()
        .no_effect("Whether unfinished features may be switched on."),
];
