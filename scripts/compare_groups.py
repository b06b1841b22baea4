"""Measures groups on Apache Kafka and Corelog in turn; see compare-groups.sh.

How the figures are kept honest:
- rounds are interleaved (Kafka, Corelog, Kafka, ...), one broker alive at a time, fresh data each;
- both brokers have the same group settings, and members of both the same intervals and timeouts;
- the JVM is warmed up with the same load before it is measured;
- a phase begins at the same moment of the heartbeat interval, and members are spread over it in
  the same way, for the interval is most of the time that a rebalance takes;
- the time of the dead member's session is not counted in `since the session ended`;
- CPU is that of the broker's process, from the phase's beginning to its end.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from harness import broker

from measure import clients, floors, machine, noise, table, turns
from measure.machine import DISTURBED_CORES, Measured

SESSION_MS = 6000
HEARTBEAT_MS = 2000
PARTITIONS = 1000
PROPERTIES = {
    "group.initial.rebalance.delay.ms": 500,
    "group.min.session.timeout.ms": SESSION_MS,
    "group.consumer.min.session.timeout.ms": SESSION_MS,
    "group.consumer.session.timeout.ms": SESSION_MS,
    "group.consumer.min.heartbeat.interval.ms": 1000,
    "group.consumer.heartbeat.interval.ms": HEARTBEAT_MS,
}
COMMITS_PER_SECOND = 10_000
COMMITS = f"commits --rate {COMMITS_PER_SECOND} -c 100 -k 5 -p 100 -t commits"
RUN_SECONDS_MAX = 600


class Round:
    """One broker, from start to stop."""

    def __init__(self, kind, args):
        self.kind, self.args = kind, args
        self.figures = {}
        self.disturbed = []
        self.others, self.steal, self.kernel = [], [], []

    def run(self):
        self.calibration = floors.calibrate()
        cpu = 1 if self.args.pinned else None
        self.broker = broker.make(self.kind, cpu=cpu, properties=PROPERTIES)
        self.broker.start()
        warm = self.args.warm if self.kind == "kafka" else 3
        self.bench(f"{COMMITS} -d {warm / 2} -w 0")
        for protocol in self.args.protocols:
            if self.kind == "kafka":
                self.groups(protocol, 50, rounds=1, partitions=100)
        if self.kind == "kafka":
            self.bench(f"{COMMITS} -d {warm / 2} -w 0")
        for protocol in self.args.protocols:
            for members in self.args.members:
                self.measure_groups(protocol, members)
        if not self.args.no_commits:
            self.measure_commits()
        self.broker.stop()
        return self.figures

    def command(self, words):
        command = [str(broker.CORELOG), "bench", *words.split(), "-b", self.broker.bootstrap]
        command.append("--json")
        return clients.pinned_command(command, self.args.pinned)

    def bench(self, words):
        """Runs `corelog bench` and returns its report."""
        done = subprocess.run(
            self.command(words),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{words}\n{done.stdout}{done.stderr}{self.broker.tail()}")
        return json.loads(done.stdout.splitlines()[-1])

    def groups(self, protocol, members, rounds, partitions):
        """Runs `corelog bench groups`; {phase: [(seconds, since expiry, CPU seconds)]}."""
        words = f"groups --protocol {protocol} -m {members} -p {partitions} -t groups-{partitions}"
        words += f" --session-ms {SESSION_MS} --heartbeat-ms {HEARTBEAT_MS} --rounds {rounds}"
        words += f" --steady {self.args.steady}"
        run = subprocess.Popen(
            self.command(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        found, before, overlaps = defaultdict(list), 0.0, None
        for line in run.stdout:
            now = self.broker.cpu_seconds()
            event = json.loads(line)
            if event["event"] == "begin":
                before = now
            elif event["event"] == "end":
                row = (event["seconds"], event.get("since_expiry"), now - before)
                found[event["phase"]].append(row)
            else:
                overlaps = event["overlaps"]
        words_said = run.stderr.read()
        if run.wait(30) or overlaps:
            said = f"{overlaps} overlaps, {words_said}"
            raise SystemExit(f"{self.kind}: {words}: {said}{self.broker.tail()}")
        return found

    def note(self, name, took):
        """Keeps what others used meanwhile."""
        self.others.append(took.others)
        self.steal.append(took.steal)
        self.kernel.append(took.kernel)
        if took.others > DISTURBED_CORES:
            self.disturbed.append((name, round(took.others, 2)))

    def measure_groups(self, protocol, members):
        name = f"{protocol}, {members:,} members"
        with Measured(self.broker) as took:
            found = self.groups(protocol, members, self.args.repeats, PARTITIONS)
        self.note(name, took)
        middle = statistics.median
        for phase in ("form", "arrive", "leave"):
            self.figures[f"{name}: {phase}, s"] = middle(row[0] for row in found[phase])
        self.figures[f"{name}: die, since the session ended, s"] = middle(
            row[1] for row in found["die"]
        )
        for phase in ("form", "arrive", "leave", "die"):
            self.figures[f"{name}: {phase}, CPU ms"] = 1000 * middle(row[2] for row in found[phase])
        steady = found["steady"][0]
        self.figures[f"{name}: heartbeats, CPU ms/s"] = 1000 * steady[2] / steady[0]
        self.figures[f"{name}: all of it, CPU s"] = took.cpu

    def measure_commits(self):
        name = f"{COMMITS_PER_SECOND:,} commits a second"
        with Measured(self.broker) as took:
            report = self.bench(f"{COMMITS} -d {self.args.seconds} -w 2")
        self.note(name, took)
        self.figures[f"{name}: reached"] = report["requests_per_second"]
        for quantile in ("p50", "p99", "p99_9", "max"):
            words = f"{name}: {quantile.replace('_', '.')}, us"
            self.figures[words] = report["latency_us"][quantile]
        self.figures[f"{name}: CPU s"] = took.cpu


def main():
    parser = argparse.ArgumentParser(description="Groups on Apache Kafka and Corelog side by side")
    parser.add_argument("--rounds", type=int, default=3, help="of starting each broker")
    parser.add_argument("--repeats", type=int, default=2, help="of each phase on a started broker")
    parser.add_argument("--members", default="1,100,1000")
    parser.add_argument("--protocols", default="classic,consumer")
    parser.add_argument("--seconds", type=float, default=10, help="of committing")
    parser.add_argument("--steady", type=float, default=5, help="seconds of heartbeats alone")
    parser.add_argument("--warm", type=float, default=20, help="seconds to warm the JVM up")
    parser.add_argument("--no-commits", action="store_true")
    parser.add_argument("--pinned", action="store_true", help="broker on core 1, members on core 0")
    parser.add_argument("--json", default=str(ROOT / "target" / "compare-groups.json"))
    args = parser.parse_args()
    args.members = [int(count) for count in args.members.split(",")]
    args.protocols = args.protocols.split(",")
    found = {"arguments": vars(args), "properties": PROPERTIES, "machine": machine.description()}
    found |= {"rounds": {}, "noise": [], "repeated": [], "disturbed": []}

    def measure(number, kind):
        one = Round(kind, args)
        figures = one.run()
        found["disturbed"] += [(number + 1, kind, *row) for row in one.disturbed]
        found["noise"].append(noise.of(number + 1, one))
        return figures

    def keep(rounds):
        found["rounds"] = rounds
        turns.write_json(args.json, found)

    rounds = turns.in_turn(args.rounds, measure, keep)
    print(table.markdown(table.rows(rounds)))
    for line in ["", *(f"- {line}" for line in noise.lines(found))]:
        print(line)
    if found["disturbed"]:
        turns.say(f"disturbed by others: {found['disturbed']}")


if __name__ == "__main__":
    main()
