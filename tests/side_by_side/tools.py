#!/usr/bin/env python3
"""Apache's command line tools print against Corelog what they print against a real Apache Kafka.

    tests/side_by_side/tools.py                          (starts both)
    tests/side_by_side/tools.py --left kafka --right HOST:PORT

The same calls run against both brokers, in one JVM; what must differ (ports, topic ids, paths,
cluster ids) is replaced by a word before the outputs are compared. Ends with `N passed, N failed`
and prints a diff for every call whose output differs.
"""

import argparse
import difflib
import json
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import broker, protocol
from harness.tools import Tools

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
CALL_SECONDS_MAX = 90

# Settings of a broker that follow from its address or directory, or say how the two were started.
ADDRESS_SETTINGS = {
    "listeners",
    "advertised.listeners",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "log.dir",
    "log.dirs",
    "metadata.log.dir",
    "early.start.listeners",
}


def scenario(directory):
    """The calls, in order: (words for a person, tool, arguments, what to do before it)."""
    first = directory / "delete.json"
    first.write_text(
        json.dumps(
            {
                "partitions": [
                    {"topic": "data", "partition": 0, "offset": 3},
                    {"topic": "data", "partition": 1, "offset": -1},
                ],
                "version": 1,
            }
        )
    )
    wrong = directory / "wrong.json"
    wrong.write_text(
        json.dumps({"partitions": [{"topic": "data", "partition": 0, "offset": 999}], "version": 1})
    )
    topic = ["--entity-type", "topics", "--entity-name"]
    one = ["--entity-type", "brokers", "--entity-name", str(broker.NODE_ID)]
    default = ["--entity-type", "brokers", "--entity-default"]
    calls = [
        ("no topics", TOPICS, ["--list"]),
        ("describe nothing", TOPICS, ["--describe"]),
        ("create", TOPICS, "--create --topic plain".split()),
        (
            "create with partitions, replicas and configs",
            TOPICS,
            "--create --topic data --partitions 3 --replication-factor 1"
            " --config retention.ms=-1 --config segment.bytes=1048576".split(),
        ),
        ("create one that exists", TOPICS, "--create --topic plain".split()),
        ("create if it does not exist", TOPICS, "--create --topic plain --if-not-exists".split()),
        ("create with a dot", TOPICS, "--create --topic with.dot".split()),
        ("create one that collides", TOPICS, "--create --topic with_dot".split()),
        ("create with a bad name", TOPICS, ["--create", "--topic", "bad name"]),
        ("create with a bad config", TOPICS, "--create --topic x --config no.such=1".split()),
        (
            "create with a bad value",
            TOPICS,
            "--create --topic x --config retention.ms=often".split(),
        ),
        (
            "create with a value out of bounds",
            TOPICS,
            "--create --topic x --config segment.bytes=1".split(),
        ),
        (
            "create with too many replicas",
            TOPICS,
            "--create --topic x --partitions 1 --replication-factor 3".split(),
        ),
        ("create with no partitions", TOPICS, "--create --topic x --partitions 0".split()),
        (
            "create with an assignment",
            TOPICS,
            "--create --topic assigned --replica-assignment 1,1".split(),
        ),
        (
            "create with an unknown broker",
            TOPICS,
            "--create --topic x --replica-assignment 7".split(),
        ),
        ("list", TOPICS, ["--list"]),
        ("list by pattern", TOPICS, ["--list", "--topic", "p.*"]),
        ("list without internal", TOPICS, ["--list", "--exclude-internal"]),
        ("describe all", TOPICS, ["--describe"]),
        ("describe one", TOPICS, "--describe --topic data".split()),
        ("describe an unknown one", TOPICS, "--describe --topic absent".split()),
        ("describe if it exists", TOPICS, "--describe --topic absent --if-exists".split()),
        ("describe with overrides", TOPICS, "--describe --topics-with-overrides".split()),
        ("describe unavailable", TOPICS, "--describe --unavailable-partitions".split()),
        ("describe under-replicated", TOPICS, "--describe --under-replicated-partitions".split()),
        ("describe under min isr", TOPICS, "--describe --under-min-isr-partitions".split()),
        ("describe at min isr", TOPICS, "--describe --at-min-isr-partitions".split()),
        ("add partitions", TOPICS, "--alter --topic plain --partitions 4".split()),
        ("remove partitions", TOPICS, "--alter --topic plain --partitions 2".split()),
        ("as many partitions", TOPICS, "--alter --topic plain --partitions 4".split()),
        ("alter an unknown one", TOPICS, "--alter --topic absent --partitions 4".split()),
        ("describe after alter", TOPICS, "--describe --topic plain".split()),
        ("topic configs", CONFIGS, ["--describe", *topic, "data"]),
        ("topic configs without overrides", CONFIGS, ["--describe", *topic, "plain"]),
        ("all topic configs", CONFIGS, ["--describe", "--all", *topic, "data"]),
        ("configs of every topic", CONFIGS, ["--describe", "--entity-type", "topics"]),
        ("configs of an unknown topic", CONFIGS, ["--describe", *topic, "absent"]),
        (
            "set topic configs",
            CONFIGS,
            ["--alter", *topic, "data", "--add-config", "max.message.bytes=2000000,flush.ms=1000"],
        ),
        (
            "set a list",
            CONFIGS,
            ["--alter", *topic, "data", "--add-config", "cleanup.policy=[compact,delete]"],
        ),
        ("see them", CONFIGS, ["--describe", *topic, "data"]),
        (
            "unset",
            CONFIGS,
            ["--alter", *topic, "data", "--delete-config", "flush.ms,cleanup.policy"],
        ),
        (
            "unset what is not set",
            CONFIGS,
            ["--alter", *topic, "data", "--delete-config", "flush.ms"],
        ),
        (
            "set an unknown config",
            CONFIGS,
            ["--alter", *topic, "data", "--add-config", "no.such=1"],
        ),
        (
            "set a bad value",
            CONFIGS,
            ["--alter", *topic, "data", "--add-config", "cleanup.policy=burn"],
        ),
        (
            "set for an unknown topic",
            CONFIGS,
            ["--alter", *topic, "absent", "--add-config", "flush.ms=1"],
        ),
        ("see what is left", CONFIGS, ["--describe", *topic, "data"]),
        ("broker configs", CONFIGS, ["--describe", *one]),
        ("all broker configs", CONFIGS, ["--describe", "--all", *one]),
        ("default broker configs", CONFIGS, ["--describe", *default]),
        (
            "set for one broker",
            CONFIGS,
            ["--alter", *one, "--add-config", "log.retention.ms=7200000"],
        ),
        (
            "set for all brokers",
            CONFIGS,
            ["--alter", *default, "--add-config", "log.segment.bytes=2097152"],
        ),
        ("see one broker's", CONFIGS, ["--describe", *one]),
        ("see all brokers'", CONFIGS, ["--describe", *default]),
        ("synonyms of a topic", CONFIGS, ["--describe", "--all", *topic, "plain"]),
        ("set a read only one", CONFIGS, ["--alter", *one, "--add-config", "log.dirs=/x"]),
        ("set an unknown one", CONFIGS, ["--alter", *one, "--add-config", "no.such=1"]),
        ("unset for one broker", CONFIGS, ["--alter", *one, "--delete-config", "log.retention.ms"]),
        (
            "unset for all brokers",
            CONFIGS,
            ["--alter", *default, "--delete-config", "log.segment.bytes"],
        ),
        ("see that it is gone", CONFIGS, ["--describe", *one]),
        ("configs of an unknown broker", CONFIGS, "--describe --entity-type brokers --entity-name 9"),
        ("offsets of all", OFFSETS, []),
        ("offsets of one topic", OFFSETS, "--topic data"),
        ("offsets of some partitions", OFFSETS, "--topic data --partitions 0,2"),
        ("offsets by topic and partition", OFFSETS, "--topic-partitions data:1-2,plain:0"),
        ("offsets without internal", OFFSETS, "--exclude-internal-topics"),
        ("offsets of an unknown topic", OFFSETS, "--topic absent"),
    ]
    for when in ("-1", "latest", "-2", "earliest", "-3", "max-timestamp", "-4", "earliest-local"):
        calls.append((f"offsets, --time {when}", OFFSETS, f"--topic data --time {when}"))
    for when in ("-5", "latest-tiered", "-6", "earliest-pending-upload"):
        calls.append((f"offsets, --time {when}", OFFSETS, f"--topic data --time {when}"))
    for when in ("0", "1700000000003", "1700000000004", "1800000000000", "never"):
        calls.append((f"offsets, --time {when}", OFFSETS, f"--topic data --time {when}"))
    calls += [
        ("delete records", DELETE_RECORDS, ["--offset-json-file", first]),
        ("offsets after that", OFFSETS, "--topic data --time earliest"),
        ("delete records past the end", DELETE_RECORDS, ["--offset-json-file", wrong]),
        ("log dirs", LOG_DIRS, "--describe"),
        ("log dirs of one topic", LOG_DIRS, "--describe --topic-list data"),
        ("log dirs of one broker", LOG_DIRS, "--describe --broker-list 1 --topic-list plain"),
        ("log dirs of an unknown broker", LOG_DIRS, "--describe --broker-list 9"),
        ("delete", TOPICS, "--delete --topic plain"),
        ("delete an unknown one", TOPICS, "--delete --topic plain"),
        ("delete if it exists", TOPICS, "--delete --topic plain --if-exists"),
        ("delete by pattern", TOPICS, ["--delete", "--topic", "with.*"]),
        ("list in the end", TOPICS, "--list"),
    ]
    return [
        (name, tool, arguments.split() if isinstance(arguments, str) else arguments)
        for name, tool, arguments in calls
    ]


def fill(bootstrap):
    """Ten records, one per batch and millisecond, to each partition of `data`."""
    with protocol.Connection(bootstrap) as connection:
        protocol.wait_topic(connection, "data", 3)
        for partition in range(3):
            for index in range(10):
                batch = protocol.Batch(
                    values=[b"value-%d" % index], timestamp=1_700_000_000_000 + index
                )
                answer = protocol.produce(connection, "data", partition, batch.encode())
                if answer["error"] != 0:
                    raise SystemExit(f"{bootstrap}: Produce answered {answer}")


def settle(bootstrap):
    """Waits until the topics that Metadata shows stay the same and have leaders."""
    before = None
    for _ in range(50):
        with protocol.Connection(bootstrap) as connection:
            topics = protocol.metadata(connection, None)["topics"]
        shape = sorted((t["name"], len(t["partitions"])) for t in topics)
        ready = all(p["error"] == 0 for t in topics for p in t["partitions"])
        if ready and shape == before:
            return
        before = shape
        time.sleep(0.03)


# Defaults that are not Apache Kafka's (docs/differences.md): name, its value, ours.
OWN_DEFAULTS = [
    ("socket.receive.buffer.bytes", "102400", "-1"),
    ("socket.send.buffer.bytes", "102400", "307200"),
]


def normal(text, side):
    """The output with everything that must differ between two brokers replaced."""
    text = text.replace(side.bootstrap, "HOST:PORT")
    text = text.replace(f"PLAINTEXT://127.0.0.1:{side.port}", "PLAINTEXT://HOST:PORT")
    for path in (str(side.data), str(side.directory)):
        text = text.replace(path, "DATA")
    for name, theirs, ours in OWN_DEFAULTS:
        value = ours if isinstance(side, broker.Corelog) else theirs
        shown = f"{name}={value} sensitive=false synonyms={{DEFAULT_CONFIG:{name}={value}}}"
        text = text.replace(shown, f"{name} has its own default")
    text = re.sub(r"TopicId: \S{22}", "TopicId: ID", text)
    text = re.sub(r"\(id: (\d+) rack: null isFenced: \w+\)", r"(id: \1)", text)
    lines = []
    for line in text.splitlines():
        # Where in a tool an error was printed says nothing of the broker.
        if line.startswith("\tat "):
            continue
        name = line.strip().split("=", 1)[0]
        if name in ADDRESS_SETTINGS:
            line = f"  {name}=..."
        # Kafka lists a topic's settings in the order of its hash map.
        if "Configs: " in line:
            head, settings = line.split("Configs: ", 1)
            line = head + "Configs: " + ",".join(sorted(settings.split(",")))
        lines.append(log_dirs(line) if line.startswith('{"') else line)
    return lines


def log_dirs(line):
    """The log directories' JSON, one partition a line and in order.

    Sizes on disk count: the same records make the same bytes. The size of Kafka's metadata log
    does not, for its records depend on how long the broker has run.
    """
    rows = []
    found = json.loads(line)
    for node in found.get("brokers", []):
        for directory in node.get("logDirs", []):
            for row in directory.pop("partitions", []):
                rows.append(json.dumps(row, sort_keys=True))
    return "\n".join([json.dumps(found, sort_keys=True), *sorted(rows)])


def run_all(jvm, side, calls):
    """Runs the calls against one broker; returns their results, normalised."""
    results = []
    # A call that one broker never answers fails in seconds, not after the client's minute.
    limits = side.directory / "client.properties"
    limits.write_text("default.api.timeout.ms=8000\nrequest.timeout.ms=5000\n")
    for name, tool, arguments in calls:
        if name == "offsets of all":
            fill(side.bootstrap)
        words = ["--bootstrap-server", side.bootstrap, "--command-config", limits, *arguments]
        began = time.monotonic()
        result = jvm.run(tool, *words, seconds=CALL_SECONDS_MAX)
        settle(side.bootstrap)
        shown = normal(result.out, side) + ["-- stderr"] + normal(result.err, side)
        # Lines of one listing come in no order (topics of `describe`, partitions of offsets).
        if (seconds := time.monotonic() - began) > 3:
            print(f"slow: {name} took {seconds:.1f} s", flush=True)
        results.append((f"exit code {result.code}", sorted("\n".join(shown).splitlines())))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--left", default="kafka", help="kafka, corelog or HOST:PORT")
    parser.add_argument("--right", default="corelog", help="kafka, corelog or HOST:PORT")
    parser.add_argument("--only", default="", help="only calls whose words match this pattern")
    parser.add_argument("--show", action="store_true", help="print what the left one answered")
    args = parser.parse_args()
    calls = scenario(broker.scratch("tools"))
    results = []
    with Tools() as jvm:
        for name in (args.left, args.right):
            side = broker.make(name).start()
            began = time.monotonic()
            results.append(run_all(jvm, side, calls))
            print(f"{name}: {len(calls)} calls in {time.monotonic() - began:.0f} s", flush=True)
            side.stop()
    passed = failed = 0
    for (name, tool, arguments), left, right in zip(calls, *results, strict=True):
        if args.only and not re.search(args.only, name):
            continue
        if args.show:
            print(f"---- {name}: {left[0]}\n" + "\n".join(left[1]))
        if left == right:
            passed += 1
            continue
        failed += 1
        print(f"FAIL {name}: {tool.rsplit('.', 1)[1]} {' '.join(map(str, arguments))}")
        rows = difflib.unified_diff(
            [left[0], *left[1]], [right[0], *right[1]], args.left, args.right, "", "", 0, ""
        )
        print("\n".join("     " + row for row in rows if not row.startswith("@@")))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
