"""The clients that load a broker: `corelog bench`, Apache's tools, librdkafka, the raw tail reader.

Each runs in a process of its own and returns what it reports. Pinned, they run on core 0.
"""

import json
import re
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from harness import broker

from . import floors

# What the start scripts of Apache's tools give their JVMs.
JAVA_FLAGS = ["-Xmx512M", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
JAVA_FLAGS += ["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]
JAVA_FLAGS += ["-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"]
SECONDS_MAX = 120


class LoadFailed(Exception):
    """A client ended with an error; the message has what it said."""


def pinned_command(command, pinned):
    """The command, on core 0 when pinned."""
    return ["taskset", "-c", "0", *command] if pinned else command


def finished(command, seconds=SECONDS_MAX):
    """Runs a command to its end; what it printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"not done in {seconds:.0f} s: {' '.join(command)}") from None
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise LoadFailed(f"{' '.join(command)}\n{said}")
    return done.stdout


@cache
def benches():
    """The subcommands of `corelog bench` in the build under test."""
    done = subprocess.run(
        [str(broker.CORELOG), "bench", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return set(re.findall(r"^  ([a-z-]+)(?:  |$)", done.stdout, re.MULTILINE))


def bench(bootstrap, words, topic, seconds, warm_up=0.0, pinned=False):
    """Runs `corelog bench`; its report.

    `ended` in it is the moment (`time.monotonic()`) of the report: what was measured lies in the
    `seconds` before. Before that it connects and warms up, which costs the broker CPU as well.
    """
    command = [str(broker.CORELOG), "bench", *words.split(), "-b", bootstrap]
    command += ["-t", topic, "-d", str(seconds), "-w", str(warm_up), "--json"]
    process = subprocess.Popen(
        pinned_command(command, pinned), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    guard = threading.Timer(seconds + warm_up + SECONDS_MAX, process.kill)
    guard.start()
    line, ended = "", time.monotonic()
    for said in process.stdout:
        line, ended = said, time.monotonic()
    words_said = process.stderr.read()
    code = process.wait()
    guard.cancel()
    if code:
        raise LoadFailed(f"ended with {code}: {' '.join(command)}\n{line}{words_said}")
    report = {**json.loads(line), "ended": ended}
    if not report["requests"]:
        raise LoadFailed(f"nothing was answered in {report['seconds']:.1f} s: {' '.join(command)}")
    return report


def measured_cpu(report, took):
    """CPU seconds of the broker while `corelog bench` measured."""
    return took.cpu_between(report["ended"] - report["seconds"], report["ended"])


# ---- the raw tail reader ------------------------------------------------------------------------


class Tail:
    """A consumer that keeps up, beside something else."""

    def __init__(self, port, topic, partitions, seconds, pinned=False):
        command = [floors.program("tail"), str(port), topic, str(partitions), str(seconds)]
        self.process = subprocess.Popen(
            pinned_command(command, pinned),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def report(self):
        """Waits for its end; what it read."""
        out, err = self.process.communicate(timeout=SECONDS_MAX)
        if self.process.returncode:
            raise LoadFailed(err)
        return json.loads(out)


# ---- a reader of everything, once ---------------------------------------------------------------


class Backlog:
    """A consumer that reads a topic from its first record to its end, once, beside something."""

    def __init__(self, bootstrap, topic, seconds_max, connections=4, pinned=False):
        command = [str(broker.CORELOG), "bench", "consume", "--once", "--json", "-w", "0"]
        command += ["-b", bootstrap, "-t", topic, "-c", str(connections), "-d", str(seconds_max)]
        self.end = time.monotonic() + seconds_max + SECONDS_MAX
        self.process = subprocess.Popen(
            pinned_command(command, pinned),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def reads(self):
        """Whether it has not come to its end."""
        return self.process.poll() is None and time.monotonic() < self.end

    def report(self):
        """Waits for its end; what it read."""
        try:
            out, _ = self.process.communicate(timeout=max(1.0, self.end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise LoadFailed("the consumer of the backlog did not come to its end") from None
        if self.process.returncode:
            raise LoadFailed(f"the consumer of the backlog ended with {self.process.returncode}")
        return json.loads(out.splitlines()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


# ---- Apache's tools -----------------------------------------------------------------------------


def apache(name, *arguments, directory, pinned=False):
    """Runs one of Apache's tools in a JVM of its own; what it printed."""
    logging = Path(directory) / "tools-log4j2.properties"
    logging.write_text("rootLogger.level = OFF\n")
    command = ["java", *JAVA_FLAGS, f"-Dlog4j2.configurationFile={logging}"]
    command += ["-cp", f"{broker.KAFKA_JARS}/*", f"org.apache.kafka.tools.{name}"]
    return finished(pinned_command([*command, *map(str, arguments)], pinned))


PRODUCED = re.compile(
    r"(?P<records>\d+) records sent, (?P<rate>[\d.]+) records/sec \((?P<mib>[\d.]+) MB/sec\), "
    r"(?P<mean>[\d.]+) ms avg latency, (?P<max>[\d.]+) ms max latency, (?P<p50>\d+) ms 50th, "
    r"(?P<p95>\d+) ms 95th, (?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99.9th"
)


def produced(out):
    """The summary of ProducerPerformance, numbers by name; its MB are MiB."""
    found = PRODUCED.findall(out)
    if not found:
        raise LoadFailed(f"ProducerPerformance printed no summary:\n{out[-2000:]}")
    return dict(zip(PRODUCED.groupindex, map(float, found[-1]), strict=True))


def consumed(out):
    """The row of ConsumerPerformance by the names of its columns; dates are left out."""
    lines = [line.split(", ") for line in out.splitlines() if line.count(", ") >= 9]
    if len(lines) < 2:
        raise LoadFailed(f"ConsumerPerformance printed no figures:\n{out[-2000:]}")
    return {name: float(cell) for name, cell in zip(lines[0][2:], lines[-1][2:], strict=True)}


def end_to_end_mean(out):
    """Milliseconds, from what EndToEndLatency printed."""
    found = re.search(r"Avg latency: ([\d.]+) ms", out)
    if not found:
        raise LoadFailed(f"EndToEndLatency printed no mean:\n{out[-2000:]}")
    return float(found[1])


# ---- librdkafka ---------------------------------------------------------------------------------


def librdkafka(verb, bootstrap, topic, records, pinned=False):
    """Has librdkafka "produce" or "consume" so many records; the seconds it took."""
    python = str(broker.CACHE / "venv" / "bin" / "python")
    program = str(Path(__file__).with_name("rdkafka.py"))
    command = [python, program, verb, bootstrap, topic, str(records)]
    return json.loads(finished(pinned_command(command, pinned)))["seconds"]
