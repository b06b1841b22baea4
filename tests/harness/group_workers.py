"""Processes full of group members that a test steers by words on their standard input.

    python -m harness.group_workers KIND BOOTSTRAP GROUP TOPIC PARTITIONS MEMBERS

KIND is `committer`, `raw-classic`, `raw-consumer`, or a kind of librdkafka's, see `SETTINGS`.
Every line in is a word, every line out its answer as JSON: `hold` makes every slot join and stay,
`churn` lets them come and go, `state` tells what there is, `check` compares the commits with what
the coordinator has, `end` leaves and ends. The parent's end is the end of the worker, too.
"""

import faulthandler
import json
import os
import random
import signal
import struct
import sys
import threading
import time
from collections import deque

from . import protocol, schema
from .group_books import NOT_YET, Board, NotYet, fetch_committed
from .group_members import ClassicSlot, ConsumerSlot

CHECK_SECONDS_MAX = 20
COMMITS_IN_FLIGHT = 8
CLASSIC = {
    "session.timeout.ms": 3000,
    "heartbeat.interval.ms": 300,
    "max.poll.interval.ms": 6000,
}
SETTINGS = {
    "eager": CLASSIC | {"partition.assignment.strategy": "range"},
    "cooperative": CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"},
    "static": CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer", "max.poll.interval.ms": 6000},
    "consumer-static": {"group.protocol": "consumer", "max.poll.interval.ms": 6000},
}


def ask_until(seconds, question):
    """`question(connection)`, asked again over new connections until it is answered."""
    end = time.monotonic() + seconds
    while True:
        try:
            with protocol.Connection(question.bootstrap) as connection:
                return question(connection)
        except (NotYet, OSError, protocol.Closed) as fault:
            if time.monotonic() > end:
                raise TimeoutError(f"no answer in {seconds} s: {fault!r}") from None
            time.sleep(0.1)


class Crew:
    """Members of one group in one process."""

    def __init__(self, bootstrap, group, topic, partitions):
        self.bootstrap = bootstrap
        with protocol.Connection(bootstrap) as connection:
            row = protocol.metadata(connection, [topic])["topics"][0]
        self.board = Board(group, topic, partitions, row["id"].hex())
        self.find_coordinator()
        self.hold, self.ended = threading.Event(), threading.Event()
        self.slots = []

    def find_coordinator(self):
        """Asked for once: the first question makes the offsets topic."""

        def question(connection):
            values = {"KeyType": 0, "CoordinatorKeys": [self.board.group]}
            answer = schema.call(connection, "FindCoordinator", 4, values)
            if answer["Coordinators"][0]["ErrorCode"]:
                raise NotYet

        question.bootstrap = self.bootstrap
        ask_until(CHECK_SECONDS_MAX, question)

    def start(self):
        for slot in self.slots:
            slot.start()

    def state(self):
        """What the test looks at while it waits for the group to form."""
        board = self.board
        return {
            "held": {slot.name: slot.held for slot in self.slots},
            "problems": board.problems,
            "odd": board.odd,
            "cut_off": board.cut_off,
            "acknowledged": board.ledger.acknowledged,
            "checked": board.ledger.checked,
            "rebalances": board.rebalances,
            "reused": board.reused,
            "epoch": board.epoch_max,
        }

    def check(self):
        """Compares the group's commits with what the coordinator has."""
        board = self.board

        def question(connection):
            asked = time.monotonic()
            found = fetch_committed(connection, board.topic, [board.group], board.partitions)
            return asked, {key: offset for key, (offset, _) in found.items()}

        question.bootstrap = self.bootstrap
        try:
            for words in board.ledger.check(*ask_until(CHECK_SECONDS_MAX, question)):
                board.problem(words)
        except (TimeoutError, ValueError) as fault:
            board.problem(f"OffsetFetch: {fault}")
        return self.state()

    def end(self):
        self.ended.set()
        self.hold.clear()
        for slot in self.slots:
            slot.join(20)
            if slot.is_alive():
                self.board.problem(f"{slot.name} does not end")
        return self.state()


class RawCrew(Crew):
    """Members by raw frames."""

    def __init__(self, kind, bootstrap, group, topic, partitions, members):
        super().__init__(bootstrap, group, topic, partitions)
        slot = {"raw-classic": ClassicSlot, "raw-consumer": ConsumerSlot}[kind]
        self.slots = [
            slot(bootstrap, self.board, number, self.hold, self.ended) for number in range(members)
        ]


# Longer than any group takes to form.
IDLE_SECONDS_MAX = 10


class RdkafkaSlot(threading.Thread):
    """One slot of members of librdkafka."""

    def __init__(self, crew, number):
        super().__init__(name=f"{crew.board.group}-{number}", daemon=True)
        self.crew, self.number, self.held = crew, number, None
        self.source = random.Random(self.name)

    def run(self):
        from confluent_kafka import KafkaError, KafkaException

        crew = self.crew
        while not crew.ended.is_set():
            try:
                self.live(KafkaError)
            except (KafkaException, RuntimeError) as fault:
                crew.board.problem(f"{self.name} broke: {fault}")
                time.sleep(0.2)
            if not crew.hold.is_set():
                time.sleep(self.source.uniform(0, 0.3))

    def live(self, kafka_error):
        """One life, from joining to closing."""
        from confluent_kafka import Consumer

        crew = self.crew
        broken = []
        settings = crew.settings | {"client.id": self.name}
        fatal = kafka_error._FATAL
        settings["error_cb"] = lambda error: error.code() == fatal and broken.append(error.name())
        if "static" in crew.kind:
            settings["group.instance.id"] = self.name
        consumer = Consumer(settings)
        # Without a callback: the assignment that one makes while its consumer closes can wait for
        # ever in librdkafka (its issue 4884), here with Python's lock held.
        consumer.subscribe([crew.board.topic])
        until = time.monotonic() + self.source.uniform(0.5, 4)
        positions, commit_at = {}, 0
        idle_since = time.monotonic()
        while not crew.ended.is_set() and (crew.hold.is_set() or time.monotonic() < until):
            if broken:
                # A static member that comes back before its leaving was heard, for instance.
                crew.board.strange(f"librdkafka gave up: {broken[0]}")
                break
            for message in consumer.consume(200, 0.1):
                error = message.error()
                if error is None:
                    positions[message.partition()] = message.offset() + 1
                    crew.consumed(message.partition(), message.offset())
                elif error.fatal():
                    broken.append(error.name())
                elif error.code() == kafka_error._AUTO_OFFSET_RESET:
                    crew.board.problem(f"{self.name}: {error}")
                elif error.code() >= 0:
                    crew.board.strange(f"librdkafka told {error.name()}")
            held = sorted(row.partition for row in consumer.assignment())
            if held and held != self.held:
                crew.assigned()
            self.held = held
            if self.held or not crew.hold.is_set():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_SECONDS_MAX:
                # librdkafka 2.16 can wait for ever (in its state wait-metadata) for an answer that
                # died with the broker. Its log was read; members of raw frames are never let off.
                crew.board.strange("librdkafka waits for lost metadata, started again")
                break
            if not self.held:
                self.probe(consumer, broken)
            positions = {key: value for key, value in positions.items() if key in self.held}
            if positions and time.monotonic() > commit_at:
                self.commit(consumer, positions)
                positions, commit_at = {}, time.monotonic() + 0.2
        self.held = None
        consumer.close()

    def probe(self, consumer, broken):
        """Finds out whether librdkafka has given up, which batch reading does not tell.

        A static member of a consumer group does when it comes back before its session has ended
        and its leaving was not heard, as Apache's protocol has it.
        """
        from confluent_kafka import KafkaException

        if self.crew.kind == "consumer-static":
            try:
                consumer.subscribe([self.crew.board.topic])
            except KafkaException as fault:
                broken.append(fault.args[0].name())

    def commit(self, consumer, positions):
        """Commits and waits for the answer."""
        from confluent_kafka import KafkaException, TopicPartition

        board = self.crew.board
        rows = [TopicPartition(board.topic, *row) for row in positions.items()]
        entries = {
            row.partition: board.ledger.begin([(board.group, row.partition)], row.offset)[0]
            for row in rows
        }
        try:
            done = consumer.commit(offsets=rows, asynchronous=False)
            answered = {row.partition: row.error for row in done}
        except KafkaException as fault:
            # It may have been written by a first attempt that the broker died over.
            answered = {}
            board.cut("OffsetCommit")
            if fault.args[0].code() == 3:
                board.strange(f"librdkafka's commit: {fault.args[0].name()}")
        for index, entry in entries.items():
            sure = index in answered and answered[index] is None
            board.ledger.end(entry, "yes" if sure else "unknown")


class RdkafkaCrew(Crew):
    """Members of librdkafka, which read the topic."""

    def __init__(self, kind, bootstrap, group, topic, partitions, members):
        super().__init__(bootstrap, group, topic, partitions)
        self.kind, self.seen = kind, {}
        self.settings = SETTINGS[kind] | {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # Lost connections are what this is about.
            "log_level": 2,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 200,
            "retry.backoff.ms": 20,
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
        }
        if os.environ.get("GROUPS_DEBUG"):
            self.settings |= {"debug": "cgrp,consumer", "log_level": 7}
        self.slots = [RdkafkaSlot(self, number) for number in range(members)]

    def assigned(self):
        """Counts an assignment that differs from the one before."""
        with self.board.lock:
            self.board.rebalances += 1

    def consumed(self, partition, offset):
        """Every record is there for the group, in order, whoever reads it."""
        with self.board.lock:
            last = self.seen.get(partition, -1)
            if offset > last + 1:
                self.board.problem(f"partition {partition}: read {offset} after {last}")
            self.seen[partition] = max(last, offset)

    def state(self):
        return super().state() | {"seen": self.seen}


class Committer(Crew):
    """Commits without membership, as fast as answers come, to the groups GROUP-0, GROUP-1, ...

    Offsets of a key only rise. Whenever the connection was lost, everything that was acknowledged
    is looked for before the next commit.
    """

    def __init__(self, _kind, bootstrap, group, topic, partitions, members):
        super().__init__(bootstrap, group, topic, partitions)
        self.groups = [f"{group}-{number}" for number in range(members)]
        keys = [(name, index) for name in self.groups for index in range(partitions)]
        self.sent, self.sure = dict.fromkeys(keys, -1), dict.fromkeys(keys, -1)
        self.count = self.checked = self.checks = 0
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.look = threading.Event()

    def start(self):
        self.thread.start()

    def work(self):
        source = random.Random(self.board.group)
        while not self.ended.is_set():
            try:
                self.compare()
                with protocol.Connection(self.bootstrap, CHECK_SECONDS_MAX) as connection:
                    self.commit_on(connection, source)
            except TimeoutError as fault:
                self.board.problem(f"no answer: {fault}")
            except (OSError, protocol.Closed):
                self.board.cut("OffsetCommit")
            except Exception as fault:  # told instead of hung up on
                self.board.problem(f"broke: {type(fault).__name__} {fault}")
                time.sleep(0.2)

    def commit_on(self, connection, source):
        """Commits until the connection ends, or somebody wants a comparison."""
        flight, serial = deque(), 0
        while not self.ended.is_set() and not self.look.is_set():
            if self.hold.is_set():
                # Full rate belongs before a kill. Else the log grows and loading is all there is.
                time.sleep(0.05)
            while len(flight) < COMMITS_IN_FLIGHT:
                serial += 1
                group = source.choice(self.groups)
                chosen = source.sample(range(self.board.partitions), 3)
                offset = max(self.sent[group, index] for index in chosen) + 1
                connection.ask(8, 7, self.body(group, chosen, offset))
                flight.append((group, chosen, offset))
                for index in chosen:
                    self.sent[group, index] = offset
            self.answered(connection, *flight.popleft())
        while flight:
            self.answered(connection, *flight.popleft())

    def body(self, group, chosen, offset):
        rows = [
            struct.pack(">iqi", index, offset, 7) + protocol.string(str(offset)) for index in chosen
        ]
        topic = protocol.string(self.board.topic) + protocol.array(rows)
        head = protocol.string(group) + protocol.int32(-1) + protocol.string("")
        return head + protocol.string(None) + protocol.array([topic])

    def answered(self, connection, group, chosen, offset):
        """Reads one answer."""
        reader = protocol.Reader(connection.answer())
        reader.take(8)

        def topic():
            reader.string()
            reader.array(lambda: self.row(reader, group, offset))

        reader.array(topic)

    def row(self, reader, group, offset):
        index, error = reader.int32(), reader.int16()
        if error == 0:
            self.count += 1
            self.sure[group, index] = offset
        elif error not in NOT_YET:
            self.board.strange(f"OffsetCommit answered {error}")

    def compare(self):
        """Every acknowledged commit is there, or one that was sent later."""

        def question(connection):
            return fetch_committed(
                connection, self.board.topic, self.groups, self.board.partitions
            )

        question.bootstrap = self.bootstrap
        for key, (offset, metadata) in ask_until(CHECK_SECONDS_MAX, question).items():
            self.checked += self.sure[key] >= 0
            if not self.sure[key] <= offset <= self.sent[key]:
                due = f"{self.sure[key]} to {self.sent[key]}"
                self.board.problem(f"{key}: committed offset is {offset}, due {due}")
            if offset >= 0 and metadata != str(offset):
                self.board.problem(f"{key}: offset {offset} with metadata {metadata!r}")
            # What was read once may not be gone later.
            self.sure[key] = max(self.sure[key], offset)
        self.checks += 1

    def check(self):
        """Waits for a comparison that began after now."""
        due, end = self.checks + 2, time.monotonic() + 2 * CHECK_SECONDS_MAX
        while self.checks < due and time.monotonic() < end:
            self.look.set()
            time.sleep(0.02)
            self.look.clear()
            time.sleep(0.02)
        if self.checks < due:
            self.board.problem("comparing did not end")
        return self.state()

    def state(self):
        return super().state() | {"acknowledged": self.count, "checked": self.checked}

    def end(self):
        self.ended.set()
        self.thread.join(20)
        return self.state()


def main():
    # Tells where the threads are, whoever holds Python's lock.
    faulthandler.register(signal.SIGUSR1)
    kind, bootstrap, group, topic, partitions, members = sys.argv[1:]
    crews = {"committer": Committer, "raw-classic": RawCrew, "raw-consumer": RawCrew}
    crew = crews.get(kind, RdkafkaCrew)(
        kind, bootstrap, group, topic, int(partitions), int(members)
    )
    # Read once, before a dozen threads would.
    schema.apis()
    crew.start()
    # A line at a time: what is read ahead of an answer would be waited for in vain.
    while word := sys.stdin.readline().strip():
        if word == "hold":
            crew.hold.set()
        elif word == "churn":
            crew.hold.clear()
        answer = getattr(crew, word)() if word in ("state", "check", "end") else {}
        print(json.dumps(answer), flush=True)
        if word == "end":
            break
    os._exit(0)


if __name__ == "__main__":
    main()
