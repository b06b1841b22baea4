"""One client process of scripts/crash-test, by librdkafka: a producer, a reader, a group's member.

Each writes what happened to a report as rows (see `styles`), and how far it came to its slot in a
shared file, so that others see who goes on. A mark is the position of the recorder of block writes
at the moment an answer arrived, 0 without one. The last line on standard output is JSON.
"""

import argparse
import json
import mmap
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from crash.history import ASSIGN, COMMIT, CORRUPT, POLL, record_id
from crash.styles import ACK, READ, SLOT, STEP, STYLES, VALUE, read_value, value

CHUNK = 100
POLLS_MAX = 1000
COMMIT_SECONDS = 0.2
END_SECONDS_MAX = 90
# Lost connections are what this is about: they are not logged.
QUIET = {
    "log_level": 2,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 200,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 100,
    "enable.sparse.connections": False,
    "topic.metadata.refresh.fast.interval.ms": 20,
    "topic.metadata.refresh.interval.ms": 2000,
}


class Shared:
    """Slots of eight bytes in a file."""

    def __init__(self, path):
        self.slots = None
        if path:
            with open(path, "r+b") as file:
                self.slots = mmap.mmap(file.fileno(), 0)

    def put(self, index, number):
        SLOT.pack_into(self.slots, index * SLOT.size, number)

    def get(self, index=0):
        return SLOT.unpack_from(self.slots, index * SLOT.size)[0] if self.slots else 0


class Client:
    """What all clients have."""

    def __init__(self, args):
        self.args = args
        self.progress, self.position = Shared(args.progress), Shared(args.marks)
        self.report = open(args.report, "wb", buffering=1 << 18)
        self.done, self.errors = 0, {}

    def mark(self):
        return self.position.get()

    def advance(self, count):
        self.done += count
        self.progress.put(self.args.slot, self.done)

    def error(self, error):
        name = error.name()
        self.errors[name] = self.errors.get(name, 0) + 1

    def stopping(self):
        return os.path.exists(self.args.stop)

    def end(self, **words):
        self.report.close()
        print(json.dumps({"done": self.done, "errors": self.errors, **words}))


# ---- producers ----------------------------------------------------------------------------------


class Writer(Client):
    """Writes until it is told to stop, then waits until everything is acknowledged."""

    def __init__(self, args):
        super().__init__(args)
        self.style, self.failed = STYLES[args.style], []
        # Bursts as fast as they go: half a second's records in the full style, else a few.
        self.rate, part = (args.rate, 2) if args.style == "full" else (self.style.rate, 20)
        self.burst = self.rate // part + 1
        settings = {
            "bootstrap.servers": args.bootstrap,
            "batch.size": 65536,
            "delivery.timeout.ms": 290_000,
            "request.timeout.ms": 10_000,
            "queue.buffering.max.messages": 5000,
            "error_cb": self.error,
        }
        self.producer = Producer(QUIET | settings | self.style.settings())

    def delivered(self, error, message):
        if error is not None:
            self.failed.append(str(error))
            return
        count = VALUE.unpack_from(message.value())[1]
        self.report.write(ACK.pack(count, message.partition(), message.offset(), self.mark()))
        self.advance(1)

    def run(self):
        count, began, sent_max = 0, time.monotonic(), self.args.records
        while count < sent_max and not self.stopping():
            due = int((time.monotonic() - began) * self.rate) if self.rate else count + CHUNK
            if self.rate and due - count < self.burst:
                self.producer.poll(0.01)
                continue
            # What could not be written while nobody answered is not made up for.
            if self.rate and due - count > self.rate:
                began += (due - count - self.rate) / self.rate
            until = min(due, count + 2 * self.burst if self.rate else due, sent_max)
            while count < until and self.send(count):
                count += 1
                if count % CHUNK == 0:
                    self.producer.poll(0)
        left = self.producer.flush(END_SECONDS_MAX)
        self.end(sent=count, left=left, failed=len(self.failed), first=self.failed[:2])

    def send(self, count):
        """False if there was no room until it was time to stop."""
        raw = value(self.style, self.args.number, count)
        partition = count % self.args.partitions
        while not self.stopping():
            try:
                self.producer.produce(
                    self.args.topic, value=raw, partition=partition, on_delivery=self.delivered
                )
                return True
            except BufferError:
                self.producer.poll(0.05)
        return False


# ---- readers ------------------------------------------------------------------------------------


def consumer_of(args, client, **settings):
    """A consumer that says what went wrong."""
    base = {
        "bootstrap.servers": args.bootstrap,
        "group.id": args.group or "not-used",
        "enable.auto.commit": False,
        "check.crcs": True,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 20,
        "queued.max.messages.kbytes": 16384,
        "error_cb": client.error,
    }
    return Consumer(QUIET | base | settings)


def ends_of(consumer, args, seconds=END_SECONDS_MAX):
    """{partition: where its log ends}; asked until all answer."""
    ends, until = {}, time.monotonic() + seconds
    while len(ends) < args.partitions and time.monotonic() < until:
        for partition in set(range(args.partitions)) - set(ends):
            try:
                place = TopicPartition(args.topic, partition)
                ends[partition] = consumer.get_watermark_offsets(place, timeout=5)[1]
            except KafkaException:
                time.sleep(0.02)
    return ends


def committed_by(consumer, args):
    """{partition: offset} of the group, as its coordinator says; None if nobody does."""
    places = [TopicPartition(args.topic, index) for index in range(args.partitions)]
    until = time.monotonic() + END_SECONDS_MAX
    while time.monotonic() < until:
        try:
            found = consumer.committed(places, timeout=5)
            return {place.partition: place.offset for place in found}
        except KafkaException:
            time.sleep(0.05)
    return None


def record_of(message):
    """The record a message is, by its value."""
    found = read_value(message.value() or b"")
    return record_id(*found) if found else CORRUPT


class Reader(Client):
    """Reads all partitions from the beginning; when it is told to stop, to their ends."""

    def run(self):
        args, due = self.args, {}
        consumer = consumer_of(args, self, **{"auto.offset.reset": "error"})
        consumer.assign([TopicPartition(args.topic, index, 0) for index in range(args.partitions)])
        ends, until, lost = None, None, []
        while True:
            messages = consumer.consume(2000, 0.1)
            mark = self.mark()
            for message in messages:
                if error := message.error():
                    self.error(error)
                    if error.code() == KafkaError._AUTO_OFFSET_RESET:
                        lost.append(f"{message.partition()} at {due.get(message.partition(), 0)}")
                    continue
                partition, offset = message.partition(), message.offset()
                self.report.write(READ.pack(partition, offset, record_of(message), mark))
                due[partition] = offset + 1
            self.advance(len(messages))
            if ends is None and self.stopping():
                ends, until = ends_of(consumer, args), time.monotonic() + END_SECONDS_MAX
            if ends is not None:
                late = {key: end for key, end in ends.items() if due.get(key, 0) < end}
                if not late or lost or time.monotonic() > until:
                    break
        committed = committed_by(consumer, args) if args.group else None
        consumer.close()
        self.end(ends=ends, late=late, lost=lost, committed=committed)


class Member(Client):
    """Reads and commits as a member of a group, at the end up to the logs' ends."""

    def run(self):
        args = self.args
        settings = {"auto.offset.reset": "earliest", "on_commit": self.committed}
        if args.protocol == "consumer":
            settings["group.protocol"] = "consumer"
        else:
            settings |= {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 500}
        consumer = consumer_of(args, self, **settings)
        consumer.subscribe([args.topic], on_assign=self.assigned)
        committed, ends, until = time.monotonic(), None, None
        while True:
            self.poll_some(consumer)
            if time.monotonic() - committed > COMMIT_SECONDS:
                committed = time.monotonic()
                self.commit(consumer)
            if ends is None and self.stopping():
                ends, until = ends_of(consumer, args), time.monotonic() + END_SECONDS_MAX
            if ends is not None and (self.is_done(consumer, ends) or time.monotonic() > until):
                break
        late = not self.is_done(consumer, ends)
        consumer.close()
        self.end(late=late)

    def poll_some(self, consumer):
        """One by one: what came before a new assignment is told before it."""
        count, message = 0, consumer.poll(0.1)
        while message is not None:
            if error := message.error():
                self.error(error)
            else:
                self.step(POLL, message.partition(), message.offset(), record_of(message))
                count += 1
            message = consumer.poll(0) if count < POLLS_MAX else None
        self.advance(count)

    def is_done(self, consumer, ends):
        """The group has committed everything."""
        places = [TopicPartition(self.args.topic, index) for index in range(self.args.partitions)]
        try:
            found = consumer.committed(places, timeout=5)
        except KafkaException:
            return False
        return all(place.offset >= ends[place.partition] or not ends[place.partition]
                   for place in found)

    def commit(self, consumer):
        try:
            consumer.commit(asynchronous=True)
        except KafkaException as fault:
            self.error(fault.args[0])

    def assigned(self, _consumer, places):
        for place in places:
            self.step(ASSIGN, place.partition, -1, -1)

    def committed(self, error, places):
        if error is not None:
            return
        for place in places:
            if place.error is None and place.offset >= 0:
                self.step(COMMIT, place.partition, place.offset, -1)

    def step(self, kind, partition, offset, record):
        now = time.monotonic_ns()
        self.report.write(STEP.pack(kind, now, partition, offset, record, self.mark()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", choices=["writer", "reader", "member"])
    for name in ("bootstrap", "topic", "report", "stop", "progress"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--marks", default="")
    parser.add_argument("--group", default="")
    parser.add_argument("--protocol", default="classic")
    parser.add_argument("--style", default="full")
    for name in ("partitions", "slot", "number", "rate"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--records", type=int, default=1 << 40)
    args = parser.parse_args()
    roles = {"writer": Writer, "reader": Reader, "member": Member}
    roles[args.role](args).run()


if __name__ == "__main__":
    main()
