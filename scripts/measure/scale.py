"""The long sets that ask how work spreads, and what very many partitions and connections cost.

Each takes the round it is of, whose broker serves it alone.
"""

import time
from collections import Counter
from contextlib import ExitStack
from functools import partial

from harness import protocol

from . import clients, loads, machine, shape, turns
from .own import Own

KIB, MIB = 1 << 10, 1 << 20
# Requests by which it is told on which core a connection lives.
KNOCKS = 150
API_VERSIONS = 18
CREATE_SECONDS_MAX = 300
ANSWER_SECONDS_MAX = 120
SETTLE_SECONDS_MAX = 60


# ---- skew ---------------------------------------------------------------------------------------


def skew(this):
    """One hot partition beside sixteen, and where connections go that come at once."""
    this.warm_up()
    for load in loads.SKEW:
        this.attempt(load.name, partial(_skewed, this, load))
    unit = "requests/s"
    hot, spread = (this.figures.get(f"{load.name}: {unit}") for load in loads.SKEW)
    if hot and spread:
        this.put(f"{loads.SKEW_HOT}: requests/s beside 16 partitions", hot / spread)
    if this.kind == "corelog":
        this.attempt("connections at once", partial(_placed, this))


def _skewed(this, load):
    with this.topic("skew", load.partitions) as topic:
        before, whole = shape.cores(machine.threads(this.broker.pid)), this.broker.cpu_seconds()
        report = this.load(load, topic)
        after = shape.cores(machine.threads(this.broker.pid))
        whole = this.broker.cpu_seconds() - whole
    if report is None or this.kind != "corelog":
        return
    used = shape.grown(before, after)
    name, share = shape.busiest(used)
    if name is None or not whole:
        raise clients.LoadFailed("no thread of a core did anything")
    each = this.figures[f"{load.name}: CPU us/request"]
    this.put(f"{load.name}: share of the busiest core", share)
    this.put(f"{load.name}: busiest core's CPU us/request", each * used[name] / whole)


def _placed(this):
    """Opens connections without a pause, then asks on one after the other: whose core works?"""
    places = Counter()
    with ExitStack() as open_ones:
        connections = open_many(this.broker.bootstrap, loads.SKEW_CONNECTIONS, open_ones)
        for connection in connections:
            before = shape.cores(machine.threads(this.broker.pid))
            for _ in range(KNOCKS):
                connection.call(API_VERSIONS, 0, b"")
            after = shape.cores(machine.threads(this.broker.pid))
            places[shape.busiest(shape.grown(before, after))[0]] += 1
    this.series["connections by core"] = dict(places)
    name = f"{loads.SKEW_CONNECTIONS} connections opened at once: most on one core"
    this.put(name, max(places.values()))


def open_many(bootstrap, count, open_ones):
    """So many connections, opened without a pause, closed with the stack `open_ones`."""
    found = []
    for _ in range(count):
        found.append(protocol.Connection(bootstrap, timeout=30))
        open_ones.callback(found[-1].close)
    return found


# ---- scale --------------------------------------------------------------------------------------


def scale(this):
    """Ten thousand partitions: idle, some of them active, started again; five thousand clients."""
    topics = [(f"many-{index}", count) for index, count in enumerate(loads.MANY_TOPICS)]
    began = time.monotonic()
    _create(this, topics)
    this.put(f"{loads.MANY}: creating them, s", time.monotonic() - began)
    turns.say(f"{this.kind}: {loads.MANY} created in {time.monotonic() - began:.1f} s")
    _idle(this, loads.MANY_STATES[0])
    this.warm_up()
    for load in loads.MANY_ACTIVE:
        this.load(load, topics[0][0])
    this.put(f"{loads.MANY}: clean stop, ms", this.broker.stop() * 1000)
    began = time.monotonic()
    this.broker.start()
    this.put(f"{loads.MANY}: start to first answer, ms", this.broker.start_seconds * 1000)
    _all_answer(this, topics)
    this.put(f"{loads.MANY}: start until all topics answer, ms", (time.monotonic() - began) * 1000)
    _idle(this, loads.MANY_STATES[1])
    this.attempt("idle connections", partial(_connections, this))


def _create(this, topics):
    with protocol.Connection(this.broker.bootstrap, timeout=120) as connection:
        end = time.monotonic() + CREATE_SECONDS_MAX
        for name, count in topics:
            if code := protocol.create_topic(connection, name, count, wait=False):
                raise clients.LoadFailed(f"CreateTopics {name} answered {code}")
            protocol.wait_topic(connection, name, count, max(1.0, end - time.monotonic()))


def _all_answer(this, topics):
    """Waits until the last partition of every topic says where it ends."""
    end = time.monotonic() + ANSWER_SECONDS_MAX
    with protocol.Connection(this.broker.bootstrap, timeout=60) as connection:
        for name, count in topics:
            while error := protocol.list_offsets(connection, name, count - 1, -1)[0]:
                if time.monotonic() > end:
                    raise clients.LoadFailed(f"{name} answers {error} after the start")
                time.sleep(0.005)


def _settled(this):
    """Waits until the broker has nothing left to do, or a minute."""
    end = time.monotonic() + SETTLE_SECONDS_MAX
    before = this.broker.cpu_seconds()
    while time.monotonic() < end:
        time.sleep(2)
        after = this.broker.cpu_seconds()
        if after - before < 0.1:
            return
        before = after


def _idle(this, state):
    _settled(this)
    this.put(f"{state}: RSS, MiB", this.broker.resident_bytes() / MIB)
    this.put(f"{state}: idle CPU, % of a core", this.idle_cpu())


def _connections(this):
    """Connections that asked one thing and then nothing."""
    count = loads.MANY_CONNECTIONS
    before = this.broker.resident_bytes()
    with ExitStack() as open_ones:
        for connection in open_many(this.broker.bootstrap, count, open_ones):
            protocol.api_versions(connection)
        _settled(this)
        each = (this.broker.resident_bytes() - before) / count / KIB
        this.put(f"{count:,} idle connections: KiB each", each)
        this.put(f"{count:,} idle connections: idle CPU, % of a core", this.idle_cpu())


SKEW = Own(skew)
SCALE = Own(scale)
