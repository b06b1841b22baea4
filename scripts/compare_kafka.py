"""Measures Apache Kafka and Corelog in turn; see compare-kafka.sh.

How the figures are kept honest:
- rounds are interleaved (Kafka, Corelog, Kafka, ...), one broker alive at a time, fresh data each;
- memory that lies free is touched before each load, for on virtual machines it may have been handed
  back to the host and costs thirty times as much the first time;
- the JVM is warmed up before it is measured, and each load gets a topic of its own;
- what other processes used meanwhile is recorded, and a disturbed measurement is repeated;
- the main figures are broker CPU seconds per GB and per request, which a busy machine moves least;
- latency of producing is measured at a fixed rate, the same for both, and counts from when a
  request was due: at full speed the faster broker would be given more to do.
"""

import argparse
import json
import mmap
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness import broker, protocol

KIB = 1024
# What other processes may use during a measurement, in cores, before it is repeated.
DISTURBED_CORES = 0.15
REPEATS_MAX = 2
# What one measurement may use of memory that lay free.
TOUCHED_BYTES = 2 << 30
# name, arguments of `corelog bench`
LOADS = [
    (
        "produce, 16 KiB batches, 16 partitions",
        "produce -p 16 -s 1024 --batch-records 16 -c 1 -i 5",
    ),
    (
        "produce, 256 KiB batches, 16 partitions",
        "produce -p 16 -s 1024 --batch-records 256 -c 1 -i 5",
    ),
    ("produce, 16 KiB batches, 1 partition", "produce -p 1 -s 1024 --batch-records 16 -c 1 -i 5"),
    (
        "produce, 1 record a request, 16 connections",
        "produce -p 16 -s 100 --batch-records 1 -c 16 -i 1",
    ),
    (
        "produce, 16 KiB batches, 3,000 a second",
        "produce -p 16 -s 1024 --batch-records 16 -c 4 --rate 3000",
    ),
    (
        "produce, 256 KiB batches, 600 a second",
        "produce -p 16 -s 1024 --batch-records 256 -c 4 --rate 600",
    ),
    (
        "produce, 1 record a request, 5,000 a second",
        "produce -p 16 -s 100 --batch-records 1 -c 4 --rate 5000",
    ),
    ("consume, 16 partitions", "consume -c 4"),
]
EXISTS = 36
WITNESS_RECORDS = 300_000


def touch(count):
    """Touches and frees `count` bytes of memory, in the small pages the page cache takes first."""
    chunk = b"\1" * (1 << 20)
    with mmap.mmap(-1, count) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, count, len(chunk)):
            memory[at : at + len(chunk)] = chunk


def machine_cpu_seconds():
    """CPU seconds all processes and the kernel have used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields[:8])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def children_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Measured:
    """CPU of the broker and of others over a block."""

    def __init__(self, under_test):
        self.under_test = under_test

    def __enter__(self):
        self.before = self.now()
        return self

    def now(self):
        own = resource.getrusage(resource.RUSAGE_SELF)
        clients = children_cpu_seconds() + own.ru_utime + own.ru_stime
        return time.monotonic(), self.under_test.cpu_seconds(), machine_cpu_seconds(), clients

    def __exit__(self, *_):
        after = self.now()
        wall, self.cpu, machine, clients = (b - a for a, b in zip(self.before, after, strict=True))
        self.wall = wall
        self.others = max(0.0, machine - self.cpu - clients) / wall


class Round:
    """One broker, from start to stop."""

    def __init__(self, kind, args):
        self.kind, self.args = kind, args
        self.figures = {}
        self.disturbed = []

    def put(self, name, figure):
        self.figures[name] = figure

    def run(self):
        touch(TOUCHED_BYTES)
        self.broker = broker.make(self.kind, cpu=1 if self.args.pinned else None)
        self.broker.prepare()
        self.broker.start()
        self.put("start to first answer, ms", self.broker.start_seconds * 1000)
        time.sleep(3)
        self.put("resident after start, MB", self.broker.resident_bytes() / 1e6)
        with Measured(self.broker) as idle:
            time.sleep(self.args.seconds)
        self.put("idle CPU, % of a core", 100 * idle.cpu / idle.wall)
        warm = self.args.warm if self.kind == "kafka" else 3
        self.bench("warm", LOADS[0][1], warm)
        self.bench("warm-small", LOADS[3][1], warm / 2)
        for index, (name, words) in enumerate(LOADS):
            self.load(name, words, f"load-{index}")
        self.put("resident after load, MB", self.broker.resident_bytes() / 1e6)
        self.witness()
        self.put("stop, ms", self.broker.stop() * 1000)
        return self.figures

    def bench(self, topic, words, seconds):
        """Runs `corelog bench` and returns its report."""
        partitions = 1 if "-p 1 " in words else 16
        with protocol.Connection(self.broker.bootstrap, timeout=30) as connection:
            code = protocol.create_topic(connection, topic, partitions)
        if code not in (0, EXISTS):
            raise SystemExit(f"CreateTopics {topic} answered {code}")
        command = [str(broker.CORELOG), "bench", *words.split(), "-b", self.broker.bootstrap]
        command += ["-t", topic, "-d", str(seconds), "-w", "0", "--json"]
        if self.args.pinned:
            command = ["taskset", "-c", "0", *command]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 90, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}{self.broker.tail()}")
        return json.loads(done.stdout.splitlines()[-1])

    def delete(self, topic):
        with protocol.Connection(self.broker.bootstrap, timeout=30) as connection:
            protocol.delete_topic(connection, topic)

    def load(self, name, words, topic):
        for attempt in range(REPEATS_MAX + 1):
            touch(TOUCHED_BYTES)
            if words.startswith("consume"):
                # About a GB to read, from the page cache.
                self.bench(topic, "produce -p 16 -s 1024 --batch-records 64 --rate 8000", 2)
            with Measured(self.broker) as took:
                report = self.bench(topic, words, self.args.seconds)
            self.delete(topic)
            if took.others < DISTURBED_CORES or attempt == REPEATS_MAX:
                break
            self.disturbed.append((name, round(took.others, 2)))
            time.sleep(2)
        gigabytes = report["bytes"] / 1e9
        if "--rate" not in words:
            self.put(f"{name}: MB/s", report["megabytes_per_second"])
            if "1 record" in name:
                self.put(f"{name}: requests/s", report["requests_per_second"])
                del self.figures[f"{name}: MB/s"]
            else:
                self.put(f"{name}: CPU s/GB", took.cpu / gigabytes)
        if words.startswith("produce"):
            self.put(f"{name}: CPU us/request", took.cpu / report["requests"] * 1e6)
        if words.startswith("produce") and "--rate" not in words:
            # What a request takes at full speed is the queue of the load, not the broker.
            return
        for quantile in ("p50", "p99", "p99_9"):
            self.put(f"{name}: {quantile.replace('_', '.')}, us", report["latency_us"][quantile])

    def witness(self):
        """librdkafka as a second client: its own batching, another code base."""
        python = str(broker.CACHE / "venv" / "bin" / "python")
        with protocol.Connection(self.broker.bootstrap, timeout=30) as connection:
            protocol.create_topic(connection, "witness", 16)
        touch(TOUCHED_BYTES)
        command = [python, __file__, "--witness", self.broker.bootstrap]
        if self.args.pinned:
            command = ["taskset", "-c", "0", *command]
        with Measured(self.broker) as took:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        self.delete("witness")
        seconds = json.loads(done.stdout)["seconds"]
        gigabytes = WITNESS_RECORDS * KIB / 1e9
        self.put("librdkafka produces 1 KiB records: MB/s", gigabytes * 1000 / seconds)
        self.put("librdkafka produces 1 KiB records: CPU s/GB", took.cpu / gigabytes)


def witness_main(bootstrap):
    """The librdkafka producer, in a process of its own."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 65536,
            "queue.buffering.max.messages": 100_000,
        }
    )
    value = os.urandom(KIB)
    began = time.monotonic()
    for index in range(WITNESS_RECORDS):
        while True:
            try:
                producer.produce("witness", value=value, partition=index % 16)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(90):
        raise SystemExit("not everything was delivered")
    print(json.dumps({"seconds": time.monotonic() - began}))


def print_table(rounds):
    """Medians of both, and Corelog as a share of Kafka."""
    medians = {
        kind: {name: statistics.median(r[name] for r in rows) for name in rows[0]}
        for kind, rows in rounds.items()
    }
    print("| | Apache Kafka | Corelog | Corelog / Kafka |\n|--|--:|--:|--:|")
    for name, kafka in medians["kafka"].items():
        corelog = medians["corelog"][name]
        ratio = f"{corelog / kafka:.2f}" if kafka else "-"
        print(f"| {name} | {kafka:,.{digits(kafka)}f} | {corelog:,.{digits(corelog)}f} | {ratio} |")
    return medians


def digits(figure):
    """Decimals worth printing."""
    return 0 if figure >= 100 else 1 if figure >= 10 else 2


def main():
    parser = argparse.ArgumentParser(description="Apache Kafka and Corelog side by side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement")
    parser.add_argument("--warm", type=float, default=20, help="seconds to warm the JVM up")
    parser.add_argument("--pinned", action="store_true", help="broker on core 1, client on core 0")
    parser.add_argument("--json", default=str(ROOT / "target" / "compare-kafka.json"))
    args = parser.parse_args()
    rounds, disturbed = {"kafka": [], "corelog": []}, []
    for number in range(args.rounds):
        for kind in rounds:
            began = time.monotonic()
            one = Round(kind, args)
            rounds[kind].append(one.run())
            disturbed += [(number, kind, *row) for row in one.disturbed]
            words = f"round {number + 1} of {args.rounds}, {kind}: {time.monotonic() - began:.0f} s"
            print(words, file=sys.stderr, flush=True)
    medians = print_table(rounds)
    Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    found = {"arguments": vars(args), "cpus": os.cpu_count(), "medians": medians}
    found |= {"rounds": rounds, "repeated": disturbed}
    Path(args.json).write_text(json.dumps(found, indent=1))
    if disturbed:
        print(f"{len(disturbed)} measurements were disturbed and repeated", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--witness"]:
        witness_main(sys.argv[2])
    else:
        main()
