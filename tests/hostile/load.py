"""The well-behaved: producers at full rate, a steady rate whose latency counts, real applications.

`run` has all of them at work for some seconds and returns their figures. A refused or lost request
is an error in them.
"""

import json
import subprocess
import time
from pathlib import Path

from harness import broker

FULL, STEADY, REAL = "full-rate", "steady-rate", "applications"
WARM_UP_SECONDS = 1.0
# Clients that are not served in time are ended, and have failed.
PATIENCE_SECONDS = 60
APPLICATIONS = 2
QUANTILES = ("p50", "p99", "p99_9", "max")


class Figures:
    """What one turn of all loads came to."""

    def __init__(self):
        self.latency_ms = {}
        self.megabytes_per_second = 0.0
        self.requests = 0
        self.applications = []
        self.errors = []

    def words(self):
        """One line for people."""
        known = [name for name in QUANTILES if name in self.latency_ms]
        rows = [f"{name.replace('_', '.')} {self.latency_ms[name]:.2f}" for name in known]
        latency = ", ".join(rows) or "no latency"
        ends = [row["p99_ms"] for row in self.applications if row.get("p99_ms") is not None]
        end = f", librdkafka end to end p99 {max(ends):.0f} ms" if ends else ""
        return f"{latency} ms; full rate {self.megabytes_per_second:.0f} MB/s{end}"


def _bench(bootstrap, seconds, *words):
    """A bench of producing, as a process."""
    command = [str(broker.CORELOG), "bench", "produce", "-b", bootstrap, "--json"]
    command += ["-d", str(seconds), "-w", str(WARM_UP_SECONDS), *words]
    return _process(command)


def _process(command):
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _collect(name, process, deadline, errors):
    """The JSON that a process printed; None, and an error, when it has failed."""
    try:
        out, said = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        errors.append(f"{name}: not done after {PATIENCE_SECONDS} s more than it should take")
        return None
    if process.returncode:
        errors.append(f"{name}: ended with {process.returncode}: {said.strip()[-300:]}")
        return None
    try:
        return json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        errors.append(f"{name}: printed no JSON: {out[-200:]!r}")
        return None


def applications(bootstrap, seconds, turn):
    """Real producers and consumers, where the clients' Python is installed."""
    python = broker.CACHE / "venv" / "bin" / "python"
    if not python.exists():
        return []
    script = Path(__file__).with_name("steady_client.py")
    rows = []
    for number in range(APPLICATIONS):
        words = ["--bootstrap", bootstrap, "--topic", f"app-{turn}-{number}"]
        words += ["--group", f"app-{turn}-{number}", "--seconds", str(seconds)]
        rows.append(_process([str(python), str(script), *words]))
    return rows


def run(bootstrap, seconds, turn, rate):
    """All loads for so long; `turn` names topics and groups of their own."""
    figures = Figures()
    deadline = time.monotonic() + seconds + WARM_UP_SECONDS + PATIENCE_SECONDS
    full = _bench(bootstrap, seconds, "-t", "full", "-c", "2", "--batch-records", "64")
    steady = _bench(
        bootstrap, seconds, "-t", "steady", "-c", "4", "--batch-records", "1", "-r", str(rate)
    )
    real = applications(bootstrap, seconds, turn)
    try:
        report = _collect(STEADY, steady, deadline, figures.errors)
        if report:
            latency = report["latency_us"]
            figures.latency_ms = {name: latency[name] / 1000 for name in QUANTILES}
            figures.requests = report["requests"]
            if report["unanswered"]:
                figures.errors.append(f"{STEADY}: {report['unanswered']} requests not answered")
        report = _collect(FULL, full, deadline, figures.errors)
        if report:
            figures.megabytes_per_second = report["megabytes_per_second"]
        for number, process in enumerate(real):
            row = _collect(f"{REAL} {number}", process, deadline, figures.errors)
            if row is None:
                continue
            figures.applications.append(row)
            wrong = {
                name: row[name] for name in ("failed", "lost", "twice", "unordered") if row[name]
            }
            if wrong or row["acknowledged"] != row["sent"]:
                figures.errors.append(f"{REAL} {number}: {row}")
    finally:
        for process in [full, steady, *real]:
            if process.poll() is None:
                process.kill()
                process.wait()
    return figures
