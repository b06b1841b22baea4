#!/usr/bin/env python3
"""Apache's group tools print against Corelog what they print against a real Apache Kafka.

    tests/side_by_side/group_tools.py                      (starts both)
    tests/side_by_side/group_tools.py --right kafka        (shows that the comparison holds)
    tests/side_by_side/group_tools.py --only reset --show

kafka-consumer-groups, kafka-groups and kafka-configs of groups, with running members of both
protocols, a foreign protocol type, offsets without members, and an empty group. Generated ids and
ports are replaced by a word. Ends with `N of N calls are equal`.
"""

import argparse
import difflib
import re
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from groups.session import Session, assignment, protocols
from harness import broker, protocol, schema
from harness.members import Members
from harness.tools import Tools

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
ALL_GROUPS = "org.apache.kafka.tools.GroupsCommand"
CONFIGS = "kafka.admin.ConfigCommand"
CALL_SECONDS_MAX = 60
TOPICS = {"t1": 3, "t2": 2}
STAMP = 1_700_000_000_000
RECORD_COUNT = 10


def scenario(directory):
    """The calls, in order: (words for a person, tool, arguments)."""
    file = directory / "offsets.csv"
    file.write_text('"t1",0,4\n"t1",2,7\n')
    two = directory / "two-groups.csv"
    two.write_text('"simple","t1",0,4\n"empty","t1",1,7\n')
    broken = directory / "broken.csv"
    broken.write_text("t1,0\n")
    calls = []

    def add(words, arguments, tool=GROUPS):
        rows = arguments.split() if isinstance(arguments, str) else arguments
        calls.append((words, tool, rows))

    for kind in ("", " --state", " --type", " --state Stable", " --state stable,empty"):
        add(f"list{kind}", f"--list{kind}")
    for kind in ("classic", "consumer", "Classic", "share", "nonsense"):
        add(f"list of type {kind}", f"--list --type {kind}")
    add("list of state nonsense", "--list --state nonsense")
    add("list of state and type", "--list --state Stable --type consumer")
    for name in ("classic", "modern", "foreign", "simple", "empty", "absent"):
        for view in ("", "--offsets", "--members", "--members --verbose", "--state"):
            add(f"describe {name} {view}", f"--describe --group {name} {view}")
        add(f"describe {name} verbose", f"--describe --group {name} --verbose --offsets")
        add(f"describe {name} state verbose", f"--describe --group {name} --verbose --state")
    for view in ("", "--members", "--state", "--offsets"):
        add(f"describe all {view}", f"--describe --all-groups {view}")
    add("describe two", "--describe --group simple --group empty")
    add("describe nothing", "--describe")
    modes = ["--to-earliest", "--to-latest", "--to-current", "--to-offset 3", "--to-offset 99"]
    modes += ["--to-offset -1", "--shift-by 2", "--shift-by -2", "--shift-by 100", "--shift-by -100"]
    modes += ["--to-datetime 2023-11-14T22:13:20.003", "--to-datetime 2030-01-01T00:00:00.000"]
    modes += ["--to-datetime 2001-01-01T00:00:00.000Z", "--to-datetime never", "--by-duration PT1S"]
    modes += ["--by-duration P9999D", "--by-duration never", f"--from-file {file}", ""]
    modes += [f"--from-file {two}", f"--from-file {broken}", "--from-file /absent"]
    for mode in modes:
        add(f"reset {mode}", f"--reset-offsets --group simple --topic t1 {mode} --dry-run")
    for scope in ("--topic t1:0,1", "--topic t1:0 --topic t2", "--all-topics", "--topic absent"):
        add(f"reset scope {scope}", f"--reset-offsets --group simple {scope} --to-earliest --dry-run")
    add("reset without scope", "--reset-offsets --group simple --to-earliest --dry-run")
    add("reset neither dry nor executed", "--reset-offsets --group simple --topic t1 --to-latest")
    add("reset both", "--reset-offsets --group simple --topic t1 --to-latest --dry-run --execute")
    add("reset, partition 9", "--reset-offsets --group simple --topic t1:9 --to-latest --dry-run")
    for scope in ("--topic t1", "--topic t1:0,1", "--all-topics"):
        words = f"--reset-offsets --group simple {scope} --to-current --export"
        add(f"export {scope}", words)
        add(f"export and dry {scope}", words + " --dry-run")
    export = "--reset-offsets --group simple --group empty --topic t1 --to-current --export --dry-run"
    add("export of two groups", export)
    for mode in ("--to-earliest", "--to-latest", "--to-offset 5", "--shift-by -2", "--shift-by 1"):
        add(f"execute {mode}", f"--reset-offsets --group simple --topic t1 {mode} --execute")
        add(f"after {mode}", "--describe --group simple")
    add("execute one partition", "--reset-offsets --group simple --topic t1:2 --to-offset 1 --execute")
    add("execute from a file", f"--reset-offsets --group simple --from-file {file} --execute")
    add("execute from a file for two", f"--reset-offsets --group simple --group empty --from-file {two} --execute")
    add("execute current", "--reset-offsets --group simple --all-topics --to-current --execute")
    add("after all these", "--describe --group simple --group empty")
    for name in ("classic", "modern", "foreign", "absent", "empty"):
        words = f"--reset-offsets --group {name} --topic t1 --to-earliest --execute"
        add(f"reset of {name}", words)
    add("reset made a group", "--describe --group absent")
    add("reset of all", "--reset-offsets --all-groups --topic t1 --to-latest --dry-run")
    for name in ("classic", "modern", "foreign", "simple", "nobody"):
        add(f"delete offsets of {name}", f"--delete-offsets --group {name} --topic t1:0")
        add(f"delete more offsets of {name}", f"--delete-offsets --group {name} --topic t2 --topic nothing")
    add("after the deletion", "--describe --group simple")
    for name in ("classic", "modern", "foreign", "nobody"):
        add(f"delete {name}", f"--delete --group {name}")
    add("delete two", "--delete --group simple --group nobody")
    add("delete an empty one", "--delete --group empty")
    add("delete one again", "--delete --group empty")
    add("list after deletions", "--list --state")
    add("timeout option", "--list --timeout 4000")
    add("validate regex", "--validate-regex --regex x")
    add("groups", "--list", ALL_GROUPS)
    for kind in ("classic", "consumer", "share", "streams", "Consumer", "nonsense"):
        add(f"groups of type {kind}", f"--list --group-type {kind}", ALL_GROUPS)
    for kind in ("consumer", "elect", "absent", ""):
        add(f"groups of protocol {kind}", ["--list", "--protocol", kind], ALL_GROUPS)
    for words in ("--consumer", "--share", "--streams", "--consumer --share"):
        add(f"groups {words}", f"--list {words}", ALL_GROUPS)
    add("groups by both", "--list --group-type classic --protocol consumer", ALL_GROUPS)
    group = ["--entity-type", "groups", "--entity-name"]
    add("settings of a group", ["--describe", *group, "modern"], CONFIGS)
    add("all settings of a group", ["--describe", "--all", *group, "modern"], CONFIGS)
    for pair in ("consumer.session.timeout.ms=50000", "consumer.heartbeat.interval.ms=6000"):
        add(f"set {pair}", ["--alter", *group, "modern", "--add-config", pair], CONFIGS)
        add(f"see {pair}", ["--describe", *group, "modern"], CONFIGS)
    for pair in ("consumer.session.timeout.ms=1", "no.such=1", "consumer.session.timeout.ms=often"):
        add(f"set {pair}", ["--alter", *group, "modern", "--add-config", pair], CONFIGS)
    add("settings of all groups", ["--describe", "--entity-type", "groups"], CONFIGS)
    add("set for a group that is not there", ["--alter", *group, "later", "--add-config", "consumer.session.timeout.ms=46000"], CONFIGS)
    add("settings of two groups", ["--describe", "--entity-type", "groups"], CONFIGS)
    key = "consumer.session.timeout.ms"
    add("unset", ["--alter", *group, "modern", "--delete-config", key], CONFIGS)
    add("unset again", ["--alter", *group, "modern", "--delete-config", key], CONFIGS)
    add("unset an unknown one", ["--alter", *group, "modern", "--delete-config", "no.such"], CONFIGS)
    add("what is left", ["--describe", "--all", *group, "modern"], CONFIGS)
    return calls


class Side:
    """A broker with its groups."""

    def __init__(self, name):
        settings = {} if ":" in name else {"properties": {"group.initial.rebalance.delay.ms": 0}}
        self.name, self.broker = name, broker.make(name, **settings)
        self.topic_names, self.results = {}, []
        self.bootstrap, self.port = self.broker.bootstrap, self.broker.port

    def fill(self):
        """Topics with records of known times; waits until groups have coordinators."""
        with protocol.Connection(self.bootstrap, 30) as connection:
            for topic, partitions in TOPICS.items():
                protocol.create_topic(connection, topic, partitions, {"retention.ms": -1})
                for partition in range(partitions):
                    for index in range(RECORD_COUNT):
                        batch = protocol.Batch(values=[b"x"], timestamp=STAMP + index)
                        protocol.produce(connection, topic, partition, batch.encode())
            end = time.monotonic() + 30
            for number in range(400):
                while time.monotonic() < end:
                    asked = {"CoordinatorKeys": [f"x{number}"]}
                    schema.call(connection, "FindCoordinator", 5, asked)
                    found = schema.call(connection, "Heartbeat", 4, {"GroupId": f"x{number}"})
                    if found["ErrorCode"] == 25:
                        break
                    time.sleep(0.05)

    def form(self, members):
        """The groups that the calls look at; returns the session that keeps one of them."""
        reset = {"auto_offset_reset": "earliest"}
        for name, topics in [("c1", "t1"), ("c2", "t1,t2")]:
            members.start(f"{self.name}-{name}", self.bootstrap, "classic", topics, **reset)
        for name in ("m1", "m2"):
            # The range assignor takes static members in the order of their names.
            kind = {"group_protocol": "consumer", "group_instance_id": "static-" + name}
            kind["group_remote_assignor"] = "range"
            members.start(f"{self.name}-{name}", self.bootstrap, "modern", "t1,t2", **kind)
        for group, names in {"classic": ("c1", "c2"), "modern": ("m1", "m2")}.items():
            names = [f"{self.name}-{name}" for name in names]

            def complete(names=names):
                found = [members.assigned(name) for name in names]
                return all(found) and sum(map(len, found)) == 5

            members.until(f"assignment of {group}", complete)
        session = Session(self, "foreign")
        rows = protocols(("v1", b"me"))
        joined = session.join(9, ProtocolType="elect", Protocols=rows, SessionTimeoutMs=1800000)
        fields = {"ProtocolType": "elect", "ProtocolName": "v1"}
        fields["shares"] = {joined["MemberId"]: b"work"}
        session.sync(5, joined["MemberId"], joined["GenerationId"], **fields)
        session.commit(8, joined["MemberId"], joined["GenerationId"], [("t1", 0, 3, "note")])
        for row in [("t1", 0, 5), ("t1", 1, 6, "note"), ("t1", 2, 0), ("t2", 1, 10)]:
            session.commit(8, GroupId="simple", rows=[row])
        joined = session.join(9, "empty", GroupId="empty")
        member, generation = joined["MemberId"], joined["GenerationId"]
        shares = {member: assignment([("t1", [0])])}
        session.sync(5, member, generation, "empty", shares, GroupId="empty")
        session.commit(8, member, generation, [("t1", 0, 2)], GroupId="empty")
        session.call("LeaveGroup", 5, GroupId="empty", Members=[{"MemberId": member}])
        return session

    def settled(self, members):
        """Waits until both live groups have committed everything that there is."""
        with protocol.Connection(self.bootstrap, 30) as connection:
            for group in ("classic", "modern"):

                def complete(group=group):
                    asked = {"Groups": [{"GroupId": group, "Topics": None}]}
                    found = schema.call(connection, "OffsetFetch", 9, asked)["Groups"][0]["Topics"]
                    parts = [part for row in found for part in row["Partitions"]]
                    return sum(part["CommittedOffset"] == RECORD_COUNT for part in parts) == 5

                members.until(f"commits of {group}", complete)


def normal(text, side):
    """The output with everything that must differ between two brokers replaced."""
    text = text.replace(str(side.broker.directory), "DIR")
    text = text.replace(side.bootstrap, "HOST:PORT").replace(f"{side.name}-", "side-")
    # Sets of options are printed in the order of a hash map.
    options = r"\[*\[[a-z-]+\](?:, \[[a-z-]+\])+\]*"
    text = re.sub(options, lambda m: str(sorted(re.findall(r"[a-z-]+", m[0]))), text)
    text = re.sub(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"(?<![\w-])[\w-]{22}(?![\w-])", "MEMBER", text)
    text = re.sub(r"\b\d{13}\b", "TIME", text)
    text = re.sub(r"(Valid \w+ are: )(.*)", lambda m: m[1] + str(sorted(m[2].split(", "))), text)
    lines = []
    for line in text.splitlines():
        if not line.startswith("\tat "):
            # Columns are as wide as their widest word.
            lines.append(re.sub(r"[ \t]+", " ", line).rstrip())
    return lines


def run_side(side, calls, only):
    """Forms the groups and runs the calls."""
    began = time.monotonic()
    limits = side.broker.directory / "client.properties"
    limits.write_text("default.api.timeout.ms=8000\nrequest.timeout.ms=5000\n")
    with Tools() as jvm, Members() as members:
        side.fill()
        session = side.form(members)
        side.settled(members)
        for name, tool, arguments in calls:
            if not re.search(only, name):
                continue
            words = ["--bootstrap-server", side.bootstrap, "--command-config", limits, *arguments]
            result = jvm.run(tool, *words, seconds=CALL_SECONDS_MAX)
            if tool == CONFIGS:
                # The broker sees a setting a moment after the controller has it.
                time.sleep(0.3)
            shown = sorted(normal(result.out, side)) + ["-- stderr"] + normal(result.err, side)
            side.results.append((name, [f"exit code {result.code}", *shown], words))
        session.close()
    print(f"{side.name}: {len(side.results)} calls in {time.monotonic() - began:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--left", default="kafka", help="kafka, corelog or HOST:PORT")
    parser.add_argument("--right", default="corelog", help="kafka, corelog or HOST:PORT")
    parser.add_argument("--only", default="", help="only calls whose words match this pattern")
    parser.add_argument("--show", action="store_true", help="print what the left one answered")
    args = parser.parse_args()
    calls = scenario(broker.scratch("group-tools"))
    sides = [Side(args.left), Side(args.right)]
    # One after the other: two brokers and four JVMs at once are too much for a small machine.
    for side in sides:
        side.broker.start()
        thread = threading.Thread(target=run_side, args=(side, calls, args.only))
        thread.start()
        thread.join()
        side.broker.stop()
    equal = 0
    left, right = (side.results for side in sides)
    for index, (name, shown, words) in enumerate(left):
        other = right[index][1] if index < len(right) else ["nothing"]
        if args.show:
            print(f"---- {name}\n" + "\n".join("     " + row for row in shown))
        if shown == other:
            equal += 1
            continue
        print(f"DIFF {name}: {' '.join(map(str, words[4:]))}")
        rows = difflib.unified_diff(shown, other, args.left, args.right, "", "", 0, "")
        print("\n".join("     " + row for row in rows if not row.startswith("@@")))
    print(f"{equal} of {max(len(left), len(right))} calls are equal")
    return 0 if left and equal == len(left) == len(right) else 1


if __name__ == "__main__":
    sys.exit(main())
