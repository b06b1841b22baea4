"""The broker under test as a supervisor has it: killed, stopped, started again when it ended."""

import os
import random
import signal
import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from harness import broker

PROPERTIES = {
    # Small, so that segments roll, producers' snapshots are written, commits are rewritten.
    "log.segment.bytes": 16 << 20,
    "log.segment.delete.delay.ms": 0,
    "corelog.offsets.rewrite.bytes": 1 << 18,
    "offsets.topic.num.partitions": 4,
    "group.initial.rebalance.delay.ms": 0,
    "corelog.cores": 2,
}
RESTART_SECONDS = 0.3


class Ended(Exception):
    """The broker ended where it must not."""


def own_port():
    """A free port that no other test takes while the broker is down between two lives."""
    for port in random.sample(range(11_000, 21_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise broker.BrokerFailed("no free port between 11000 and 21000")


def holders(port):
    """The kernel's rows of sockets bound to a port, for a start that finds it taken."""
    rows = Path("/proc/net/tcp").read_text().splitlines()
    held = [row[:110] for row in rows if f":{port:04X} " in row.split(":", 1)[-1][:16]]
    return "\n".join(held[:5])


class Subject(broker.Corelog):
    """A broker whose ends are counted."""

    def __init__(self, data=None, properties=None, prefix=()):
        super().__init__(port=own_port(), properties=PROPERTIES | (properties or {}))
        self.data = data or self.data
        self.prefix = list(prefix)
        self.counts, self.codes, self.slowest = Counter(), Counter(), 0.0
        self._again_at = 0.0

    def command(self):
        return self.prefix + super().command()

    @property
    def proc(self):
        """Its directory below /proc."""
        return Path(f"/proc/{self.pid}")

    def start_again(self):
        """Starts, and waits for the first answer."""
        try:
            self.start()
        except broker.BrokerFailed as fault:
            raise broker.BrokerFailed(f"{fault}\nport:\n{holders(self.port)}") from None
        self.slowest = max(self.slowest, self.start_seconds)

    def kill_and_start(self):
        """kill -9 and a start at once."""
        self.counts["killed"] += 1
        self.kill()
        self.start_again()

    def tend(self):
        """What a supervisor does: a broker that ended by itself is started again, soon."""
        if self.process is not None and self.process.poll() is not None:
            self.counts["ended by itself"] += 1
            self.codes[self.process.returncode] += 1
            self.kill()
            self._again_at = time.monotonic() + RESTART_SECONDS
        if self.process is None and time.monotonic() >= self._again_at:
            self.start(wait=False)

    def rest(self, seconds):
        """Lets time pass under a supervisor's eyes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.tend()
            time.sleep(min(left, 0.02))

    def pause(self, seconds):
        """SIGSTOP, SIGCONT."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def summary(self):
        """What happened to it, in words."""
        told = [f"{count} times {word}" for word, count in sorted(self.counts.items())]
        if self.codes:
            told.append(f"exit codes {dict(self.codes)}")
        if self.slowest:
            told.append(f"slowest start {self.slowest * 1000:.0f} ms")
        return ", ".join(told) or "nothing happened to the broker"

    def fatal_lines(self):
        """What it printed that no fault of the world excuses."""
        text = (self.directory / "output.log").read_text(errors="replace")
        return [line[:300] for line in text.splitlines() if "panicked" in line][:5]

    def watch(self):
        """For faults that no broker may end of."""
        if self.process is None or self.process.poll() is not None:
            code = self.process.returncode if self.process else None
            raise Ended(f"the broker ended by itself with {code}\n{self.tail()}")
