"""A Kafka Streams application of two instances, at least once: repartitioned, counted, restored.

First a clean run, whose counts must be exact; then one instance is killed while words come in, and
the other restores its state from the changelog and goes on.
"""

import random
import subprocess
import time
from collections import Counter

from harness import broker, protocol
from harness.jvm import Jvm, wait_until

PARTITIONS = 4
# Two sub-topologies: before and after the repartition topic.
TASKS = 2 * PARTITIONS
SESSION_MS = 6000
TAKEOVER_SECONDS_MAX = 25
WORDS = [f"word{index}" for index in range(300)]
LINES = 4000


class Words:
    """The application, its topics, and what it was given to count."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.directory = broker.scratch("streams")
        self.stamp = format(time.time_ns() // 1_000_000, "x")
        self.input, self.output = f"text-{self.stamp}", f"counts-{self.stamp}"
        self.application = f"words-{self.stamp}"
        self.expected = Counter()
        self.random = random.Random(11)
        self.instances = {}
        with protocol.Connection(bootstrap) as connection:
            for topic in (self.input, self.output):
                protocol.create_topic(connection, topic, PARTITIONS)

    def start(self, name):
        """Starts an instance with no state of its own."""
        settings = {
            "application.id": self.application,
            "bootstrap.servers": self.bootstrap,
            "client.id": name,
            "state.dir": self.directory / f"state-{name}",
            "replication.factor": 1,
            "processing.guarantee": "at_least_once",
            "group.protocol": "classic",
            "num.stream.threads": 2,
            "commit.interval.ms": 500,
            "default.key.serde": "org.apache.kafka.common.serialization.Serdes$StringSerde",
            "default.value.serde": "org.apache.kafka.common.serialization.Serdes$StringSerde",
            "consumer.session.timeout.ms": SESSION_MS,
            "consumer.heartbeat.interval.ms": 1000,
            "consumer.auto.offset.reset": "earliest",
            "acceptable.recovery.lag": 0,
            "probing.rebalance.interval.ms": 60000,
        }
        path = self.directory / f"{name}.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        arguments = (path, self.input, self.output)
        self.instances[name] = Jvm(name, self.directory, "WordCount", *arguments, level="WARN")

    def wait(self, what, seconds, probe):
        try:
            return wait_until(what, seconds, probe, self.instances.values())
        except RuntimeError as error:
            for jvm in self.instances.values():
                error.add_note("\n".join(jvm.log.read_text(errors="replace").splitlines()[-15:]))
            raise

    def tasks(self):
        """{instance: its active tasks}."""
        shown = {name: jvm.lines("#tasks ") for name, jvm in self.instances.items()}
        return {name: set(filter(None, (rows or [""])[-1].split(","))) for name, rows in shown.items()}

    def shared(self):
        """All tasks run, each on one instance, and every instance has some."""
        owned = list(self.tasks().values())
        return all(owned) and sum(map(len, owned)) == TASKS == len(set().union(*owned))

    def write(self, count):
        """Writes lines of random words."""
        lines = [" ".join(self.random.choices(WORDS, k=5)) for _ in range(count)]
        for line in lines:
            self.expected.update(line.split())
        command = ["kcat", "-P", "-b", self.bootstrap, "-t", self.input, "-X", "acks=all"]
        command += ["-X", "sticky.partitioning.linger.ms=0"]
        text = "".join(f"{line}\n" for line in lines)
        subprocess.run(command, input=text, text=True, timeout=60, check=True)

    def counted(self):
        """The last count of each word in the output topic."""
        command = ["kcat", "-C", "-b", self.bootstrap, "-t", self.output, "-e", "-q"]
        command += ["-o", "beginning", "-f", "%k %s\n"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        rows = (line.split(" ") for line in done.stdout.splitlines())
        return Counter({word: int(count) for word, count in rows})

    def counts_all(self):
        """Every word was counted as often as it was written, or more often."""
        found = self.counted()
        return found >= self.expected and set(found) == set(self.expected)

    def kill(self, name):
        self.instances.pop(name).kill()

    def stop(self):
        while self.instances:
            self.instances.popitem()[1].stop()


def tests(bootstrap, test):
    """Runs the tests by `test(name, body)`."""
    words = Words(bootstrap)

    def share():
        words.write(LINES)
        words.start("one")
        words.start("two")
        words.wait("tasks on both instances", 60, words.shared)

    def exact():
        words.write(LINES)
        words.wait("everything is counted", 60, words.counts_all)
        words.stop()
        if (found := words.counted()) != words.expected:
            wrong = sum((found - words.expected).values())
            raise RuntimeError(f"counted {wrong} words too many after a clean run")

    def internal():
        with protocol.Connection(bootstrap) as connection:
            for name in ("by-word-repartition", "counts-changelog"):
                topic = f"{words.application}-{name}"
                found = protocol.metadata(connection, [topic])["topics"][0]
                if found["error"] or len(found["partitions"]) != PARTITIONS:
                    raise RuntimeError(f"{topic}: {found}")

    def takeover():
        words.start("three")
        words.start("four")
        words.wait("tasks on both instances", 60, words.shared)
        words.write(LINES)
        # In the middle of it.
        words.kill("three")
        began = time.monotonic()
        restored = len(words.instances["four"].lines("#restored "))
        words.write(LINES)
        words.wait("all tasks on the other instance", TAKEOVER_SECONDS_MAX, words.shared)
        print(f"     tasks moved in {time.monotonic() - began:.1f} s", flush=True)
        words.wait("everything is counted", 60, words.counts_all)
        rows = [row.split() for row in words.instances["four"].lines("#restored ")[restored:]]
        records = sum(int(count) for _, count in rows)
        if records == 0:
            raise RuntimeError(f"nothing was restored from the changelog: {rows}")
        twice = sum((words.counted() - words.expected).values())
        print(f"     {records} records restored, {twice} words counted twice", flush=True)
        words.stop()

    test("Streams: two instances share the tasks", share)
    test("Streams: counts are exact after a clean run", exact)
    test("Streams: repartition and changelog topics are there", internal)
    test("Streams: an instance restores and goes on where a killed one was", takeover)
