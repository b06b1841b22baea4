"""A ladder of loads against one running broker; see load-test.sh."""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from harness import broker, protocol
from measure import clients, floors, machine, table, turns

PARTITIONS = 16
# name, words of `corelog bench produce`, the lowest rate in requests a second.
PRODUCED = {
    "1 record of 100 bytes a request": ("-s 100 --batch-records 1 -c 16", 1000),
    "16 KiB a request": ("-s 1024 --batch-records 16 -c 4", 500),
    "256 KiB a request": ("-s 1024 --batch-records 256 -c 4", 50),
}
CONNECTIONS = (1, 4, 16, 64, 256, 1000)
CONSUMERS = (1, 4, 16)
FILL = "produce -s 1024 --batch-records 64 --rate 4000"
FILL_SECONDS = 4
# A step is the last one of its ladder when less than this share of its rate was reached.
REACHED = 0.95
STEPS_MAX = 12
COLUMNS = [
    ("step", "load"),
    ("wanted", "wanted/s"),
    ("requests_per_second", "requests/s"),
    ("megabytes_per_second", "MB/s"),
    ("p50", "p50, us"),
    ("p99", "p99, us"),
    ("p99_9", "p99.9, us"),
    ("max", "worst, us"),
]
PROCESS_COLUMNS = [
    ("broker_cores", "broker, cores"),
    ("cpu_us_per_request", "CPU us/request"),
    ("cpu_s_per_gb", "CPU s/GB"),
    ("resident_mib", "resident, MiB"),
]


class Running(broker.Remote):
    """A broker that somebody else runs; with its process id, its CPU and memory are known."""

    def __init__(self, address, pid):
        super().__init__(address)
        self.known_pid = pid

    @property
    def pid(self):
        """The process id that was told."""
        return self.known_pid

    def cpu_seconds(self):
        """0 without a process id."""
        return super().cpu_seconds() if self.known_pid else 0.0


class LoadTest:
    """The ladders, and what came of each step."""

    def __init__(self, args):
        self.args = args
        self.broker = Running(args.bootstrap, args.pid)
        self.topic = f"load-test-{int(time.time())}"
        self.steps = []

    def run(self):
        """Every ladder in turn, on a topic that is there for as long."""
        with protocol.Connection(self.args.bootstrap, timeout=30) as connection:
            code = protocol.create_topic(connection, self.topic, PARTITIONS)
        if code:
            raise SystemExit(f"CreateTopics {self.topic} answered {code}")
        try:
            if "rates" in self.args.only:
                for name, (words, rate) in PRODUCED.items():
                    self.rates(name, words, rate)
            if "connections" in self.args.only:
                self.connections()
            if "consume" in self.args.only:
                self.consume()
        finally:
            with protocol.Connection(self.args.bootstrap, timeout=30) as connection:
                protocol.delete_topic(connection, self.topic)

    def rates(self, name, words, rate):
        """Twice the rate in each step until the broker, or the client, does not keep up."""
        for _ in range(STEPS_MAX):
            row = self.step(f"produce, {name}", f"produce {words} --rate {rate}", rate)
            if row is None or row["requests_per_second"] < REACHED * rate:
                break
            rate *= 2
        self.step(f"produce, {name}, as fast as possible", f"produce {words} -i 5")

    def connections(self):
        """More and more connections, each with one request in flight."""
        for count in CONNECTIONS:
            words = f"produce -s 100 --batch-records 1 -i 1 -c {count}"
            self.step(f"produce, 1 record a request, connections: {count:,}", words)

    def consume(self):
        """More and more consumers of the same topic."""
        clients.bench(self.args.bootstrap, FILL, self.topic, FILL_SECONDS)
        for count in CONSUMERS:
            self.step(f"consume, connections: {count}", f"consume -c {count}")

    def step(self, name, words, wanted=None):
        """One load; what it was like, or `None` when the client gave up."""
        try:
            with machine.Measured(self.broker) as took:
                report = clients.bench(self.args.bootstrap, words, self.topic, self.args.seconds)
        except clients.LoadFailed as error:
            turns.say(f"{name}: {error}")
            self.steps.append({"step": name, "wanted": wanted, "error": str(error)})
            return None
        row = {"step": name, "wanted": wanted, "words": words, "others_cores": took.others}
        row |= {key: value for key, value in report.items() if key != "latency_us"}
        row |= report["latency_us"]
        if self.args.pid:
            cpu = clients.measured_cpu(report, took)
            row["broker_cores"] = cpu / report["seconds"]
            row["cpu_us_per_request"] = cpu / max(1, report["requests"]) * 1e6
            row["cpu_s_per_gb"] = cpu / (max(1, report["bytes"]) / 1e9)
            row["resident_mib"] = self.broker.resident_bytes() / (1 << 20)
        self.steps.append(row)
        turns.say(f"{name}: {row['requests_per_second']:,.0f} requests/s, p99 {row['p99']:,.0f} us")
        return row

    def report(self):
        """Everything as Markdown."""
        noise = floors.calibrate()
        columns = COLUMNS + (PROCESS_COLUMNS if self.args.pid else [])
        lines = [f"# Load test of {self.args.bootstrap}", ""]
        lines.append(f"{machine.description()}; {self.args.seconds:g} s a step; {PARTITIONS} ")
        lines[-1] += "partitions, acks=all. Latency at a rate counts from when a request was due;"
        lines[-1] += " without a rate it is the queue of the load."
        lines += ["", _line(head for _key, head in columns)]
        lines.append(_line(["--", *["--:"] * (len(columns) - 1)]))
        for row in self.steps:
            if "error" in row:
                cells = [row["step"], "failed", *["-"] * (len(columns) - 2)]
            else:
                cells = [_cell(row.get(key)) for key, _head in columns]
            lines.append(_line(cells))
        fixed = ", ".join(f"{key} {value:g}" for key, value in noise.items())
        lines += ["", f"Fixed work on this machine: {fixed}."]
        return "\n".join(lines) + "\n"


def _cell(value):
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.{table.digits(value)}f}"


def _line(cells):
    return f"| {' | '.join(cells)} |"


def main():
    """Runs what the command line says."""
    ladders = ("rates", "connections", "consume")
    parser = argparse.ArgumentParser(description="A ladder of loads against a running broker")
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--pid", type=int, help="the broker's process, when it runs here")
    parser.add_argument("--seconds", type=float, default=5, help="of each step")
    parser.add_argument("--keep-memory", action="store_true", help=machine.KEEP_HELP)
    parser.add_argument("--only", default=",".join(ladders), help="ladders, with commas")
    parser.add_argument("--out", default=str(ROOT / "target" / "load-test"), help="without .md")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(ladders):
        parser.error(f"no such ladder: {', '.join(sorted(unknown))}")
    test = LoadTest(args)
    with machine.memory_kept(args.keep_memory):
        test.run()
    report = test.report()
    found = {"arguments": vars(args), "machine": machine.description(), "steps": test.steps}
    turns.write_json(f"{args.out}.json", found)
    Path(f"{args.out}.md").write_text(report)
    print(report)
    if any("error" in row for row in test.steps):
        raise SystemExit("some steps failed")


if __name__ == "__main__":
    main()
