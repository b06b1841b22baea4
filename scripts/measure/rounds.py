"""One round of one broker: from its start, through the loads that are wanted, to its stop.

How the figures are kept honest:
- one broker alive at a time, fresh data each;
- memory that lies free is kept with a virtual machine (see `machine.memory_kept`);
- the JVM is warmed up before it is measured, and each load gets a topic of its own, whose files
  are gone before the next one, so that nobody pays for writing the last one's pages back;
- what other processes used meanwhile is recorded, and a disturbed load is repeated;
- latency is measured at a fixed rate, the same for both, and counts from when a request was due;
- the bare loops run right after Corelog's loads, so that they meet the same machine.
"""

import shutil
import time
from functools import partial
from pathlib import Path

from harness import broker, protocol

from . import clients, floors, heavy, loads, machine, others, scale, turns

REPEATS_MAX = 6
# What the host may take away before a load begins, in cores, and the work by which that is told:
# a CPU that sleeps misses nothing.
STOLEN_CORES = 0.1
PROBE = ["paced", 0.4, 2, 200, 64, 2000]
PROBE_PAUSE_SECONDS = 1
EXISTS = 36
QUIET_SECONDS = 3
# A record of the end to end load, about.
SMALL_BYTES = 100
# A start or stop with very many partitions.
LONG_SECONDS_MAX = 240
# Both delete a topic's files this long after the topic.
DELETE_MS = 1000
DELETE_SECONDS_MAX = 10
LEADERS_SECONDS_MAX = 60
# A median above this is a queue that grows.
QUEUE_US_MAX = 100_000
PROPERTIES = {"log.segment.delete.delay.ms": DELETE_MS}
WARM = loads.PRODUCE[1].run
WARM_SMALL = loads.ONE_RECORD[1].run


class Round:
    """One broker, from start to stop. `shared` outlives the round."""

    def __init__(self, kind, args, shared):
        self.kind, self.args, self.shared = kind, args, shared
        self.figures, self.floors = {}, {}
        self.disturbed, self.notes, self.latencies = [], [], {}
        self.others, self.steal, self.kernel = [], [], []
        # Seconds left for waiting and for repeating.
        self.patience = args.patience
        # What is kept of each minute.
        self.series = {}

    def run(self):
        """Measures; what was found is in the attributes."""
        self.calibration = floors.calibrate()
        if set(self.args.only) & set(loads.SETS):
            self.usual()
        for name in loads.HEAVY:
            if name in self.args.only:
                self.own(name)

    def serve(self, properties):
        """Starts the broker of this round."""
        cpu = 1 if self.args.pinned else None
        self.broker = broker.make(self.kind, cpu=cpu, properties=PROPERTIES | properties)
        self.broker.prepare()
        self.broker.start()

    def own(self, name):
        """A set with a broker and a directory of its own, which are gone afterwards."""
        set_of = LONG[name]
        try:
            self.serve(set_of.properties(self.args))
            self.broker.start_seconds_max = self.broker.stop_seconds_max = LONG_SECONDS_MAX
            self.attempt(name, partial(set_of.run, self))
            self.broker.stop()
        except broker.BrokerFailed as error:
            self.notes.append(f"{self.kind}: {name}: {error}")
            turns.say(f"{self.kind}: {name}: {error}")
        finally:
            self.broker.kill()
            shutil.rmtree(self.broker.directory, ignore_errors=True)

    def usual(self):
        """The sets that share one broker."""
        self.serve({})
        if "start" in self.args.only:
            self.start()
        if set(self.args.only) & set(RUN):
            self.warm_up()
        for name in loads.SETS:
            if name in self.args.only and name in RUN:
                self.attempt(name, partial(RUN[name], self))
        took = self.broker.stop()
        if "start" in self.args.only:
            self.put("stop, ms", took * 1000)

    def put(self, name, figure):
        """Keeps a figure."""
        self.figures[name] = figure

    def start(self):
        """What it takes to be there."""
        self.put("start to first answer, ms", self.broker.start_seconds * 1000)
        time.sleep(QUIET_SECONDS)
        self.put("idle memory, MiB", self.broker.resident_bytes() / (1 << 20))
        self.put("idle CPU, % of a core", self.idle_cpu())

    def idle_cpu(self):
        """What the broker uses while nothing is asked of it, % of a core."""
        began, before = time.monotonic(), machine.task_seconds(self.broker.pid)
        time.sleep(2 * self.args.seconds)
        used = machine.task_seconds(self.broker.pid) - before
        return 100 * used / (time.monotonic() - began)

    def warm_up(self):
        """Lets a JVM compile; Corelog gets as much of it as fills its buffers."""
        seconds = self.args.warm if self.kind == "kafka" else min(2, self.args.warm)
        with self.topic("warm", 16) as topic:
            self.bench(WARM, topic, seconds / 2)
            self.bench(WARM_SMALL, topic, seconds / 4)
            self.bench("consume -c 4", topic, seconds / 4)

    def bench(self, words, topic, seconds, warm_up=0.0):
        """One run of `corelog bench`."""
        bootstrap = self.broker.bootstrap
        return clients.bench(bootstrap, words, topic, seconds, warm_up, self.args.pinned)

    def topic(self, name, partitions, configs=None):
        """A topic for the length of a block."""
        return Topic(self.broker, name, partitions, configs)

    def measured(self, name, run):
        """Calls `run`, again when it was disturbed; (its report, what was measured)."""
        for attempt in range(REPEATS_MAX + 1):
            self.wait_quiet()
            began = time.monotonic()
            with machine.Measured(self.broker) as took:
                report = run()
            if took.others < self.args.disturbed or attempt == REPEATS_MAX or self.patience <= 0:
                break
            self.disturbed.append((name, round(took.others, 2)))
            self.patience -= time.monotonic() - began
        self.others.append(took.others)
        self.steal.append(took.steal)
        self.kernel.append(took.kernel)
        return report, took

    def wait_quiet(self):
        """Waits until the host leaves us our CPUs, as long as the round's patience lasts."""
        while self.patience > 0:
            began, before = time.monotonic(), machine.machine_seconds()[1]
            floors.run(PROBE)
            took = time.monotonic() - began
            if machine.machine_seconds()[1] - before < STOLEN_CORES * took:
                return
            time.sleep(PROBE_PAUSE_SECONDS)
            self.patience -= time.monotonic() - began

    def attempt(self, name, run):
        """Calls `run`; a client that fails costs this round's figures, not the whole comparison."""
        try:
            return run()
        except (clients.LoadFailed, RuntimeError, OSError, protocol.Closed, ValueError) as error:
            if self.broker.process is None or self.broker.process.poll() is not None:
                raise SystemExit(f"{self.kind} ended: {error}\n{self.broker.tail()}") from error
            self.notes.append(f"{self.kind}: {name}: {error}")
            turns.say(f"{self.kind}: {name}: left out: {error}")
            return None

    def load(self, load, topic):
        """Runs a load on a topic that is there, and keeps its figures."""
        words = load.run.format(rate=f"{self.shared.get('rate', 0):.0f}")

        def run():
            return self.bench(words, topic, self.args.seconds, load.warm_up)

        found = self.attempt(load.name, lambda: self.measured(load.name, run))
        if found is None:
            return None
        report, took = found
        cpu = clients.measured_cpu(report, took)
        for unit in load.figures:
            if (figure := loaded(unit, report, cpu)) is not None:
                self.put(f"{load.name}: {unit}", figure)
        if "p50, us" in load.figures:
            self.latencies[load.name] = report["latency_us"]
        return report

    def bare(self, name, run):
        """The report of a bare loop, in Corelog's half of the round; `None` of one that failed."""
        if self.kind != "corelog" or not self.args.floors:
            return None
        found = self.attempt(name, lambda: self.measured(f"{name}, bare loop", run))
        return found and found[0]

    def floor(self, load, words):
        """Runs the bare loop beside a load."""
        report = self.bare(load.name, lambda: floors.run(words, self.args.pinned))
        if report is None:
            return
        key = {"CPU s/GB": "cpu_seconds_per_gb", "CPU us/request": "cpu_us_per_request"}
        figure = load.floor.figure
        self.floors[f"{load.name}: {figure}"] = report[key[figure]]
        speed = {"sendfile": "MB/s", "receive": "MB/s", "echo": "requests/s"}[load.floor.kind]
        key = {"MB/s": "megabytes_per_second", "requests/s": "requests_per_second"}
        self.floors[f"{load.name}: {speed}"] = report[key[speed]]

    def runtime_floor(self, load, size):
        """Corelog's figure once more, beside an echo on its own runtime."""
        if self.kind == "corelog" and self.args.floors and not floors.ECHO.exists():
            note = f"no echo on our own runtime: {floors.ECHO} was not built"
            self.notes = [*(known for known in self.notes if known != note), note]
            return
        seconds, pinned = self.floor_seconds, self.args.pinned
        report = self.bare(
            load.name, lambda: floors.runtime_echo(seconds, load.connections, size, pinned)
        )
        if report is None:
            return
        name = loads.beside_own_runtime(load)
        self.put(name, self.figures[f"{load.name}: CPU us/request"])
        self.floors[name] = report["cpu_us_per_request"]

    def paced_floor(self, load):
        """The latency of a bare echo at the rate of a load."""
        size = load.batch_bytes if load.run.startswith("produce") else SMALL_BYTES
        rate = load.due(self.shared.get("rate", 0))
        words = floors.paced(self.args.seconds, load.connections, size, rate)
        report = self.bare(load.name, lambda: floors.run(words, self.args.pinned))
        for unit in set(load.figures) & set(loads.PACED) if report else ():
            self.floors[f"{load.name}: {unit}"] = report[loads.PACED[unit]]

    # ---- the sets -------------------------------------------------------------------------------

    def produce(self):
        """16 KiB batches."""
        for load in loads.PRODUCE:
            with self.topic("produce", load.partitions) as topic:
                self.load(load, topic)

    def large(self):
        """256 KiB batches, and the loop that only receives and writes."""
        for load in loads.LARGE:
            with self.topic("large", load.partitions) as topic:
                self.load(load, topic)
            directory = str(self.broker.directory)
            size, files = load.batch_bytes, load.partitions
            self.floor(load, floors.receive(self.floor_seconds, size, files, directory))

    def one_record(self):
        """One record a request, and the loop that only answers."""
        for load in loads.ONE_RECORD:
            with self.topic("one-record", load.partitions) as topic:
                report = self.load(load, topic)
            if report:
                size = report["bytes"] // max(1, report["requests"])
                self.floor(load, floors.echo(self.floor_seconds, load.connections, size))
                self.runtime_floor(load, size)

    def consume(self):
        """From the page cache, and the loop that only sends the same files."""
        for partitions in loads.CONSUME_PARTITIONS:
            with self.topic("consume", partitions) as topic:
                self.attempt("consume", partial(self.consume_topic, topic, partitions))

    def consume_topic(self, topic, partitions):
        """Fills one topic and reads it."""
        fill = loads.CONSUME_FILL.format(partitions=partitions)
        self.bench(fill, topic, loads.CONSUME_FILL_SECONDS)
        paths = sorted(map(str, Path(self.broker.data).glob(f"{topic}-*/*.log")))
        for load in loads.consume(partitions):
            self.load(load, topic)
            self.floor(load, floors.sendfile(self.floor_seconds, paths))

    def latency(self):
        """Fixed rates. The first round of Kafka finds out what its highest is."""
        for load in loads.LATENCY:
            command = load.run.split()[0]
            if command not in clients.benches():
                self.notes.append(f"{load.name}: this build has no `corelog bench {command}`")
                continue
            if "{rate}" in load.run and not self.know_rate():
                continue
            with self.topic("latency", 16) as topic:
                self.load(load, topic)
            self.paced_floor(load)

    def know_rate(self):
        """Whether it is known what 60 % of Kafka's highest rate is; finds out on Kafka itself."""
        if "rate" not in self.shared and self.kind == "kafka":
            highest = self.attempt("the highest rate", self.highest_rate)
            if highest:
                self.shared["rate"] = highest * loads.HIGHEST_SHARE
        return "rate" in self.shared

    def highest_rate(self):
        """The highest rate, in requests a second, that the broker keeps up with."""
        seconds = loads.HIGHEST_SECONDS
        with self.topic("highest", 16) as topic:
            high = self.bench(loads.HIGHEST, topic, seconds)["requests_per_second"]
        low = 0.0
        rate = high
        for _ in range(loads.HIGHEST_STEPS):
            with self.topic("highest", 16) as topic:
                report = self.bench(f"{loads.HIGHEST} --rate {rate:.0f}", topic, seconds, 1)
            keeps_up = keeps(report, rate)
            turns.say(f"{self.kind}: {rate:,.0f} requests a second: {'yes' if keeps_up else 'no'}")
            if keeps_up:
                low = rate
                if rate == high:
                    break
            else:
                high = rate
            rate = (low + high) / 2
        return low or high / 2

    @property
    def floor_seconds(self):
        """The bare loops need less time to settle."""
        return min(3.0, self.args.seconds)


def keeps(report, rate):
    """Whether a run kept up with its rate: as many answers as were due, and no growing queue."""
    return (
        report["requests_per_second"] >= 0.97 * rate and report["latency_us"]["p50"] < QUEUE_US_MAX
    )


def loaded(unit, report, cpu):
    """A figure of a run of `corelog bench` that took the broker so many CPU seconds.

    `None` when this build does not tell it.
    """
    latency = report["latency_us"]
    match unit:
        case "CPU us/request":
            return cpu / max(1, report["requests"]) * 1e6
        case "CPU s/GB":
            return cpu / (max(1, report["bytes"]) / 1e9)
        case "MB/s":
            return report["megabytes_per_second"]
        case "requests/s":
            return report["requests_per_second"]
        case "worst, us":
            return latency["max"]
        case "worst second's p99, us":
            return worst_second(report)
    return latency[unit.removesuffix(", us").replace(".", "_")]


def worst_second(report):
    """The highest p99 of a second of the run; `None` where the build does not tell seconds."""
    return (report.get("worst_second") or {}).get("p99_us")


class Topic:
    """A topic for the length of a block; its files are gone at the end of it."""

    turn = 0

    def __init__(self, under_test, name, partitions, configs=None):
        Topic.turn += 1
        self.broker, self.partitions, self.configs = under_test, partitions, configs
        self.name = f"{name}-{Topic.turn}"

    def __enter__(self):
        with protocol.Connection(self.broker.bootstrap, timeout=30) as connection:
            code = protocol.create_topic(
                connection, self.name, self.partitions, self.configs, wait=False
            )
            if code not in (0, EXISTS):
                raise clients.LoadFailed(f"CreateTopics {self.name} answered {code}")
            protocol.wait_topic(connection, self.name, self.partitions, LEADERS_SECONDS_MAX)
        return self.name

    def __exit__(self, *_):
        if self.broker.process is None or self.broker.process.poll() is not None:
            return
        with protocol.Connection(self.broker.bootstrap, timeout=30) as connection:
            protocol.delete_topic(connection, self.name)
        end = time.monotonic() + DELETE_SECONDS_MAX
        while time.monotonic() < end and any(self.broker.data.glob(f"{self.name}-*")):
            time.sleep(0.05)


RUN = {
    "produce": Round.produce,
    "large": Round.large,
    "one-record": Round.one_record,
    "consume": Round.consume,
    "tail": others.tail,
    "latency": Round.latency,
    "apache": others.apache,
    "librdkafka": others.librdkafka,
}
LONG = {
    "durable": heavy.DURABLE,
    "backfill": heavy.BACKFILL,
    "skew": scale.SKEW,
    "scale": scale.SCALE,
    "retention": heavy.RETENTION,
    "soak": heavy.SOAK,
}
