"""The loads, as tables: what runs, which figures it gives, and what is wanted of their ratios.

Wanted ratios are of Corelog to Apache Kafka (`figures`) and of Corelog to the bare loop that does
the same work (`floor`): "<=0.30" is at most, ">=1.8" at least, "" nothing said.
"""

from dataclasses import dataclass, field

MIB = 1 << 20


@dataclass(frozen=True)
class Floor:
    """The bare loop beside a load: which of its figures stands beside which of the load's."""

    kind: str
    figure: str
    aim: str = ""


@dataclass(frozen=True)
class Load:
    """One run of `corelog bench`."""

    name: str
    # Words after `corelog bench`; {rate} is 60 % of Kafka's highest rate.
    run: str
    figures: dict = field(default_factory=dict)
    floor: Floor | None = None
    # Seconds that are run but not measured: latencies are taken without the first connections.
    warm_up: float = 0.0

    def option(self, flag, default):
        """The number behind an option of the words."""
        words = self.run.split()
        return int(words[words.index(flag) + 1]) if flag in words else default

    def due(self, rate):
        """Requests a second that are due, `rate` being what {rate} stands for."""
        words = self.run.format(rate=rate).split()
        flag = next(flag for flag in ("--rate", "-r") if flag in words)
        return float(words[words.index(flag) + 1])

    @property
    def partitions(self):
        """Partitions of the topic it runs on."""
        return self.option("-p", 16)

    @property
    def connections(self):
        """Connections of the client."""
        return self.option("-c", 1)

    @property
    def batch_bytes(self):
        """Bytes of the values in a batch."""
        return self.option("-s", 1024) * self.option("--batch-records", 16)


def _produce(partitions, records, size=1024, connections=1, in_flight=5):
    words = f"produce -p {partitions} -s {size} --batch-records {records}"
    return f"{words} -c {connections} -i {in_flight}"


def _count(count, noun):
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


PRODUCE = [
    Load(
        f"produce, 16 KiB batches, {_count(partitions, 'partition')}",
        _produce(partitions, 16),
        {"CPU us/request": "<=0.30", "CPU s/GB": "", "MB/s": ""},
    )
    for partitions in (1, 16)
]

LARGE = [
    Load(
        f"produce, 256 KiB batches, {_count(partitions, 'partition')}",
        _produce(partitions, 256),
        {"CPU s/GB": "<=0.70", "MB/s": ""},
        Floor("receive", "CPU s/GB", "<=1.25"),
    )
    for partitions in (1, 16)
]

ONE_RECORD = [
    Load(
        f"produce, 1 record a request, {_count(connections, 'connection')}",
        _produce(16, 1, size=100, connections=connections, in_flight=1),
        {"CPU us/request": "<=0.50", "requests/s": ">=1.8"},
        Floor("echo", "CPU us/request"),
    )
    for connections in (1, 16, 64, 1000)
]

# Corelog's CPU per request is put beside two bare echoes: one by epoll, above, and one on Corelog's
# own runtime.
OWN_RUNTIME = "beside an echo on its own runtime"

# What is read, about 1 GB, written at a rate that every broker keeps up with.
CONSUME_FILL = "produce -p {partitions} -s 1024 --batch-records 64 -c 1 --rate 4000"
CONSUME_FILL_SECONDS = 4
CONSUME_PARTITIONS = (1, 16)


def consume(partitions):
    """The loads that read a topic of so many partitions."""
    topic = _count(partitions, "partition")
    return [
        Load(
            f"consume, {topic}, {_count(consumers, 'consumer')}",
            f"consume -c {consumers}",
            {"CPU s/GB": "<=0.75", "MB/s": ""},
            Floor("sendfile", "CPU s/GB", "<=1.3"),
        )
        for consumers in (1, 10)
    ]


TAIL_RATE = 2000
TAIL = Load(
    f"{TAIL_RATE:,} small requests a second",
    f"produce -p 16 -s 100 --batch-records 1 -c 4 --rate {TAIL_RATE}",
)
TAIL_FIGURES = {
    f"{TAIL.name}, nobody reads: CPU us/request": "",
    f"{TAIL.name}, a consumer at the tail: CPU us/request": "",
    f"{TAIL.name}, a consumer at the tail: CPU us/fetch": "<=0.30",
    f"{TAIL.name}, a consumer at the tail: fetches/s": "",
}

QUANTILES = {"p50, us": "<=0.7", "p99, us": "<=0.5", "p99.9, us": "<=0.25"}
WORST = {"worst, us": "", "worst second's p99, us": ""}
LATENCY_WARM_UP = 2.0
LATENCY = [
    Load(
        "latency, 5,000 requests of 1 record a second",
        "produce -p 16 -s 1024 --batch-records 1 -c 4 --rate 5000",
        QUANTILES | WORST,
        warm_up=LATENCY_WARM_UP,
    ),
    Load(
        "latency, 1,000 requests of 50 records a second",
        "produce -p 16 -s 1024 --batch-records 50 -c 4 --rate 1000",
        QUANTILES | WORST,
        warm_up=LATENCY_WARM_UP,
    ),
    Load(
        "latency, 16 KiB batches at 60 % of Kafka's highest rate",
        "produce -p 16 -s 1024 --batch-records 16 -c 4 --rate {rate}",
        {"p50, us": "", "p99, us": "<=0.4", "p99.9, us": "<=0.25"} | WORST,
        warm_up=LATENCY_WARM_UP,
    ),
    Load(
        "idle end to end, 100 records a second",
        "end-to-end -r 100",
        {"p50, us": "<=0.7", "p99, us": "<=0.5", "worst, us": ""},
        warm_up=LATENCY_WARM_UP,
    ),
]
# Which figures of the bare echo at the same rate stand beside those of a latency load: what this
# machine takes for being woken three times, the client's timer among them.
PACED = {"p50, us": "p50_us", "p99, us": "p99_us", "p99.9, us": "p99_9_us", "worst, us": "max_us"}
# How the highest rate is looked for: without a rate first, then by halving, with this load.
HIGHEST = "produce -p 16 -s 1024 --batch-records 16 -c 4"
HIGHEST_SHARE = 0.6
HIGHEST_STEPS = 4
HIGHEST_SECONDS = 3

START_FIGURES = {
    "start to first answer, ms": "",
    "idle memory, MiB": "",
    "idle CPU, % of a core": "",
    "stop, ms": "",
}

APACHE_RECORDS = 500_000
APACHE_LATENCY_RECORDS = 3_000
APACHE_RATE = 5_000
APACHE_FIGURES = {
    "ProducerPerformance, 1 KiB records: CPU s/GB": "",
    "ProducerPerformance, 1 KiB records: MB/s": "",
    f"ProducerPerformance, {APACHE_RATE:,} records a second: mean, ms": "",
    f"ProducerPerformance, {APACHE_RATE:,} records a second: p99, ms": "",
    f"ProducerPerformance, {APACHE_RATE:,} records a second: p99.9, ms": "",
    "ConsumerPerformance: CPU s/GB": "",
    "ConsumerPerformance: MB/s": "",
    "EndToEndLatency: mean, us": "",
    "EndToEndLatency: CPU us/record": "",
}

LIBRDKAFKA_RECORDS = 300_000
LIBRDKAFKA_FIGURES = {
    f"librdkafka {verb} 1 KiB records: {unit}": ""
    for verb in ("produces", "consumes")
    for unit in ("CPU s/GB", "MB/s")
}


def _named(loads):
    return {f"{load.name}: {unit}": aim for load in loads for unit, aim in load.figures.items()}


CONSUME = [load for partitions in CONSUME_PARTITIONS for load in consume(partitions)]
# Sets by name, in the order in which they run: what it is, the figures it gives.
SETS = {
    "start": ("start to first answer, idle memory and CPU, stop", START_FIGURES),
    "produce": ("16 KiB batches, 1 and 16 partitions", _named(PRODUCE)),
    "large": ("256 KiB batches, and a bare receive-and-write loop", _named(LARGE)),
    "one-record": ("1 to 1,000 connections, and a bare echo", _named(ONE_RECORD)),
    "consume": ("from the page cache, and a bare sendfile loop", _named(CONSUME)),
    "tail": ("a consumer that keeps up with a producer of small requests", TAIL_FIGURES),
    "latency": ("at fixed rates, open loop", _named(LATENCY)),
    "apache": ("Apache's own performance tools", APACHE_FIGURES),
    "librdkafka": ("producing and consuming", LIBRDKAFKA_FIGURES),
}
# ---- the long sets: each has a broker of its own, and runs when it is named ---------------------

# A topic that is synced before each answer.
FLUSH = {"flush.messages": 1}
DURABLE_PARTITIONS = (16, 1000)
DURABLE_RATE = 2000
# Of the highest rate that Kafka reaches with such a topic.
DURABLE_SHARE = 0.6
DURABLE_SHARE_WORDS = "60 % of Kafka's durable rate"
BESIDE_PLAIN = "Kafka without flush"


def durable(partitions, rate=None):
    """Words of one record a request from 64 producers, as fast as they can or at a rate."""
    words = _produce(partitions, 1, connections=64, in_flight=1)
    return words if rate is None else f"{words} --rate {rate:.0f}"


def durable_key(partitions):
    """Under which name the rounds share the rate for so many partitions."""
    return f"durable rate, {partitions:,} partitions"


def durable_rate(partitions, words):
    """The name of the loads at a rate."""
    return f"durable, {partitions:,} partitions, {words}"


DURABLE = [
    Load(
        f"durable, {partitions:,} partitions, 64 producers",
        durable(partitions),
        {"requests/s": ">=5", "p99, us": "", "CPU us/request": ""},
    )
    for partitions in DURABLE_PARTITIONS
]
DURABLE_FIGURES = {
    f"{durable_rate(partitions, words)}, {sides}: p99, us": aim
    for partitions in DURABLE_PARTITIONS
    for words in (DURABLE_SHARE_WORDS, f"{DURABLE_RATE:,} a second")
    for sides, aim in (("both with flush", ""), (BESIDE_PLAIN, "<=1.0"))
}

# What is read, and the load that lives beside it: 30 % of Kafka's highest rate, half of {rate}.
BACKLOG_RATE = 2000
BACKLOG_BATCH = 64
BACKLOG_FILL = f"produce -p 16 -s 1024 --batch-records {BACKLOG_BATCH} -c 2 --rate {BACKLOG_RATE}"
BACKFILL_LIVE = f"{HIGHEST} --rate {{rate:.0f}}"
BACKFILL_SHARE = 0.3
BACKFILL_FIGURES = {
    "backfill, live load alone: p99, us": "",
    "backfill, live load beside the reader: p99, us": "",
    "backfill: live p99 growth": "",
    "backfill: reading, MB/s": "",
}

SKEW_CONNECTIONS = 64
SKEW_HOT = "one hot partition"
SKEW = [
    Load(
        f"{where}, {SKEW_CONNECTIONS} connections",
        _produce(partitions, 1, size=100, connections=SKEW_CONNECTIONS, in_flight=1),
        {"CPU us/request": "", "requests/s": ""},
    )
    for where, partitions in ((SKEW_HOT, 1), ("16 partitions", 16))
]
SKEW_FIGURES = {
    f"{SKEW_HOT}: requests/s beside 16 partitions": "",
    f"{SKEW[0].name}: share of the busiest core": "",
    f"{SKEW[1].name}: share of the busiest core": "",
    f"{SKEW[0].name}: busiest core's CPU us/request": "",
    f"{SKEW[1].name}: busiest core's CPU us/request": "",
    f"{SKEW_CONNECTIONS} connections opened at once: most on one core": "",
}

# Partitions by topic: 10,000 of them.
MANY_TOPICS = [1000] * 5 + [100] * 50
MANY = f"{sum(MANY_TOPICS):,} partitions"
MANY_CONNECTIONS = 5000
MANY_ACTIVE = [
    Load(
        f"{MANY}, 1,000 active, {_count(connections, 'producer')}",
        _produce(1000, 1, size=100, connections=connections, in_flight=1),
        {"requests/s": "", "CPU us/request": "", "p99, us": ""},
    )
    for connections in (64, 1000)
]
MANY_IDLE = {"RSS, MiB": 200, "idle CPU, % of a core": 1}
MANY_STATES = (f"{MANY}, created", f"{MANY}, started again")
MANY_FIGURES = {
    f"{MANY}: creating them, s": "",
    **{f"{MANY_STATES[0]}: {figure}": "" for figure in MANY_IDLE},
    **_named(MANY_ACTIVE),
    f"{MANY}: clean stop, ms": "",
    f"{MANY}: start to first answer, ms": "",
    f"{MANY}: start until all topics answer, ms": "",
    **{f"{MANY_STATES[1]}: {figure}": "" for figure in MANY_IDLE},
    f"{MANY_CONNECTIONS:,} idle connections: KiB each": "",
    f"{MANY_CONNECTIONS:,} idle connections: idle CPU, % of a core": "",
}

SOAK_RATE = 1000
SOAK_BATCH = 16
SOAK = f"produce -p 16 -s 1024 --batch-records {SOAK_BATCH} -c 4 --rate {SOAK_RATE}"
SOAK_FIGURES = {
    "soak: p99 of a minute, us": "",
    "soak: highest p99 of a minute, us": "",
    "soak: slope of the p99, us an hour": "",
    "soak: slope of the p99, % of its mean an hour": "",
    "soak: RSS at the end, MiB": "",
    "soak: bytes kept of those written, %": "",
}

# Segments roll every eight seconds and go after some twenty.
RETENTION_SECONDS = 45
RETENTION_CONFIGS = {
    "retention.bytes": 24 << 20,
    "segment.bytes": 8 << 20,
    "file.delete.delay.ms": 1000,
}
RETENTION_NAME = "latency with retention, 1,000 requests of 16 records a second"
RETENTION_FIGURES = {f"{RETENTION_NAME}: {at}, us": "" for at in ("p50", "p99", "p99.9", "worst")}

HEAVY = {
    "durable": ("flush.messages=1, 16 and 1,000 partitions", _named(DURABLE) | DURABLE_FIGURES),
    "backfill": ("a backlog is read beside a live load (--backfill-gib)", BACKFILL_FIGURES),
    "skew": ("one hot partition; where connections go", _named(SKEW) | SKEW_FIGURES),
    "scale": (f"{MANY}, {MANY_CONNECTIONS:,} connections, 1,000 producers", MANY_FIGURES),
    "retention": ("a fixed rate while segments roll and are deleted", RETENTION_FIGURES),
    "soak": ("far past the retention limit (--soak-minutes)", SOAK_FIGURES),
}
HEAVY_LIMITS = {
    "backfill: live p99 growth": 1.5,
    **{f"{state}: {figure}": most for state in MANY_STATES for figure, most in MANY_IDLE.items()},
    f"{MANY}: start to first answer, ms": 2000,
    f"{MANY_CONNECTIONS:,} idle connections: KiB each": 16,
}
EVERY = SETS | HEAVY
AIMS = {name: aim for _words, figures in EVERY.values() for name, aim in figures.items()}
FLOOR_AIMS = {
    f"{load.name}: {load.floor.figure}": load.floor.aim
    for load in [*LARGE, *ONE_RECORD, *CONSUME]
    if load.floor
}


def beside_own_runtime(load):
    """The name under which a load's CPU per request stands beside an echo on the same runtime."""
    return f"{load.name}, {OWN_RUNTIME}: CPU us/request"


FLOOR_AIMS |= {beside_own_runtime(load): "<=1.6" for load in ONE_RECORD[1:]}


def _ordered():
    """All figures in the order of the table."""
    beside = {f"{load.name}: CPU us/request": beside_own_runtime(load) for load in ONE_RECORD}
    return [it for name in AIMS for it in (name, beside.get(name)) if it]


ORDER = {name: place for place, name in enumerate(_ordered())}
# What is wanted of Corelog alone.
LIMITS = {
    "start to first answer, ms": 100,
    "idle memory, MiB": 32,
    "idle CPU, % of a core": 0.5,
} | HEAVY_LIMITS
