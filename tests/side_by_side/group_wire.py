#!/usr/bin/env python3
"""The group APIs answer as Apache Kafka's, good requests and bad ones, in every version.

    tests/side_by_side/group_wire.py                            (starts both)
    tests/side_by_side/group_wire.py --right kafka              (shows that the comparison holds)
    tests/side_by_side/group_wire.py --left kafka --right HOST:PORT --only 'static|fence'

Every case runs the same script against both brokers, on groups of its own. Compared are all
fields of all answers, and the records that the groups leave in `__consumer_offsets`, whose bytes
must be those that their fields encode to. Generated ids are replaced by numbers, times by a word;
texts for people count with --strict alone.
Ends with `N of N cases are equal`.
"""

import argparse
import re
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from groups import admin, classic, consumer, offsets
from groups.session import CASES, OFFSETS_TOPIC, Session
from harness import broker, protocol, schema

GROUP_SETTINGS = {
    "group.initial.rebalance.delay.ms": 0,
    "group.max.size": 3,
    "group.consumer.max.size": 3,
    "group.consumer.assignment.interval.ms": 0,
    "group.consumer.assignor.offload.enable": "false",
}
TOPICS = {"t1": 3, "t2": 2, "regex-a": 1, "regex-b": 2}
MODULES = (classic, offsets, consumer, admin)
ROW_WIDTH_MAX = 1500
# Texts are each broker's own; what the tools print of them is compared by group_tools.py.
WORDS_FOR_PEOPLE = {"ErrorMessage", "Documentation"}
# Coordinators of transactions and of share groups.
NOT_SERVED_YET = {("FindCoordinator", 1), ("FindCoordinator", 2)}
BROKEN = ("the script ends", "the history cannot be read")


class Side:
    """A broker with the topics that the cases use, and what is read of its offsets' topic."""

    def __init__(self, name):
        groups = {} if ":" in name else {"properties": GROUP_SETTINGS}
        self.name, self.broker = name, broker.make(name, **groups)
        self.topic_names, self.logs = {}, {}
        self.offsets_partitions = 50

    @property
    def bootstrap(self):
        return self.broker.bootstrap

    @property
    def port(self):
        return self.broker.port

    def prepare(self):
        """Creates the topics; waits until groups have coordinators; returns what was seen first."""
        with protocol.Connection(self.bootstrap, 30) as connection:
            for topic, partitions in TOPICS.items():
                protocol.create_topic(connection, topic, partitions)
            seen, end = [], time.monotonic() + 30
            while time.monotonic() < end and 0 not in seen:
                asked = {"CoordinatorKeys": ["first"], "Key": "first"}
                asked.pop("Key")
                found = schema.call(connection, "FindCoordinator", 5, asked)
                code = found["Coordinators"][0]["ErrorCode"]
                if code not in seen:
                    seen.append(code)
                time.sleep(0.05)
            topics = protocol.metadata(connection, None)["topics"]
            for row in topics:
                self.topic_names[row["id"].hex()] = row["name"]
                if row["name"] == OFFSETS_TOPIC:
                    self.offsets_partitions = len(row["partitions"])
            # Every partition of the offsets' topic has loaded once each answers.
            for number in range(400):
                while time.monotonic() < end:
                    found = schema.call(connection, "Heartbeat", 4, {"GroupId": f"x{number}"})
                    if found["ErrorCode"] == 25:
                        break
                    time.sleep(0.05)
        # Kafka says "not available" until it has created the topic; waiting for that is as good.
        return seen[-1], self.offsets_partitions

    def log(self, partition):
        """All (key, value) of a partition of the offsets' topic; read further with every call."""
        at, rows = self.logs.get(partition, (0, []))
        with protocol.Connection(self.bootstrap, 20) as connection:
            while True:
                row = protocol.fetch(connection, OFFSETS_TOPIC, partition, at, size=1 << 25, max_wait_ms=0)
                if row["error"]:
                    raise ValueError(f"Fetch of {OFFSETS_TOPIC}-{partition}: {row['error']}")
                for found in protocol.batches(row["records"]):
                    rows += records_of(found)
                    at = found["last"] + 1
                if at >= row["high_watermark"]:
                    break
        self.logs[partition] = at, rows
        return rows


def records_of(batch):
    """(key, value) of an uncompressed batch."""
    reader = protocol.Reader(batch["raw"])
    reader.take(61)
    for _ in range(batch["count"]):
        reader.varint()
        reader.int8()
        reader.varint()
        reader.varint()
        size = reader.varint()
        key = reader.take(size) if size >= 0 else None
        size = reader.varint()
        value = reader.take(size) if size >= 0 else None
        for _ in range(reader.varint()):
            reader.take(reader.varint())
            reader.take(max(0, reader.varint()))
        yield key, value


def slug_of(words):
    """A group's name for a case, shorter than what Kafka's uuids look like in pieces."""
    return "g." + re.sub(r"[^a-z0-9]+", ".", words.lower()).strip(".")[:60]


def run_case(side, words, function, with_records):
    """The history of one case on one broker."""
    session = Session(side, slug_of(words))
    try:
        function(session)
    except Exception as error:
        session.note(BROKEN[0], {}, f"{type(error).__name__}: {error}")
    try:
        return session.history(with_records)
    except Exception as error:
        return [(BROKEN[1], {}, f"{type(error).__name__}: {error}")]
    finally:
        session.close()


def run_side(side, cases, with_records, results):
    """Runs all cases against one broker."""
    began = time.monotonic()
    for words, function in cases:
        started = time.monotonic()
        results[words] = run_case(side, words, function, with_records)
        if (seconds := time.monotonic() - started) > 4:
            print(f"slow: {side.name}: {words} took {seconds:.1f} s", flush=True)
    print(f"{side.name}: {len(cases)} cases in {time.monotonic() - began:.0f} s", flush=True)


def paths(left, right, at=""):
    """The differences of two answers: (path, left, right)."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in {**left, **right}:
            yield from paths(left.get(key, "absent"), right.get(key, "absent"), f"{at}.{key}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, pair in enumerate(zip(left, right, strict=True)):
            yield from paths(*pair, f"{at}[{index}]")
    elif left != right:
        yield at, left, right


# Cases that differ, and why that is meant (docs/differences.md).
MEANT = {
    "consumer protocol: regular expressions": "patterns are matched at once",
    "consumer protocol: regular expressions that are none": "patterns are matched at once",
    "consumer protocol: names and a regular expression": "patterns are matched at once",
    "migration: classic requests to a consumer group by its members": "order of a hash table",
    "migration: assignment of no bytes": "order of a hash table",
}


def intended(words, path, left):
    """Whether a difference is none of ours: see `WORDS_FOR_PEOPLE` and what follows."""
    field = path.rsplit(".", 1)[-1]
    # Kafka's answer to what it did not expect; any other says more.
    unexpected = field == "ErrorCode" and left == -1
    return field in WORDS_FOR_PEOPLE or unexpected or words in NOT_SERVED_YET


def differences(left, right, strict):
    """Lines that say where two histories differ."""
    lines = []
    for index in range(max(len(left), len(right))):
        absent = ("nothing", {}, "nothing")
        mine = left[index] if index < len(left) else absent
        other = right[index] if index < len(right) else absent
        if (mine[0], mine[2]) == (other[0], other[2]):
            continue
        words = mine[0] if mine[0] == other[0] else f"{mine[0]} / {other[0]}"
        found = [
            row
            for row in paths(mine[2], other[2])
            if strict or not intended((words[:-3], mine[1].get("KeyType")), *row[:2])
        ]
        if not found and mine[0] == other[0]:
            continue
        lines.append(f"  {index}. {words} {short(mine[1])}")
        for path, one, two in found:
            lines.append(f"       {path.lstrip('.') or 'answer'}: {short(one)} | {short(two)}")
    return lines


def short(value):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= ROW_WIDTH_MAX else text[:ROW_WIDTH_MAX] + "..."


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--left", default="kafka", help="kafka, corelog or HOST:PORT")
    parser.add_argument("--right", default="corelog", help="kafka, corelog or HOST:PORT")
    parser.add_argument("--only", default="", help="only cases whose words match this pattern")
    parser.add_argument("--show", action="store_true", help="print every history of the left one")
    parser.add_argument("--strict", action="store_true", help="also words for people and the like")
    parser.add_argument("--no-records", action="store_true", help="compare answers alone")
    args = parser.parse_args()
    sides = [Side(args.left), Side(args.right)]
    results = [{}, {}]
    for side in sides:
        side.broker.start()
    first = [side.prepare() for side in sides]
    cases = [row for row in CASES if re.search(args.only, row[0])]
    for module in MODULES:
        assert module
    threads = [
        threading.Thread(target=run_side, args=(side, cases, not args.no_records, found))
        for side, found in zip(sides, results, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for side in sides:
        side.broker.stop()
    equal, total = int(first[0] == first[1]), 1 + len(cases)
    if first[0] != first[1]:
        print(f"DIFF first FindCoordinator, partitions: {first[0]} | {first[1]}")
    for words, _ in cases:
        left, right = (found[words] for found in results)
        lines = differences(left, right, args.strict)
        # What Kafka leaves without an answer forever says nothing; all others must be sound.
        if words.startswith("never answered"):
            lines = []
        elif broken := [row for row in left if row[2] == "silent" or row[0] in BROKEN]:
            lines.append(f"  the case is not sound: {broken[0][0]}: {broken[0][2]}")
        if lines and words in MEANT and not args.strict:
            print(f"meant: {words}: {MEANT[words]}")
            lines = []
        equal += not lines
        if args.show:
            print(f"---- {words}")
            for row in left:
                print(f"     {row[0]} {short(row[1])}\n       -> {short(row[2])}")
        if lines:
            print(f"DIFF {words}   ({args.left} | {args.right})")
            print("\n".join(lines))
    print(f"{equal} of {total} cases are equal")
    return 0 if equal == total else 1


if __name__ == "__main__":
    sys.exit(main())
