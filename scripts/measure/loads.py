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
AIMS = {name: aim for _words, figures in SETS.values() for name, aim in figures.items()}
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
}
