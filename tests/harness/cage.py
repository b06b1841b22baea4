"""A memory cgroup for one process: what it is given, what it used, what it was refused.

Version 1 and version 2 of the kernel's control groups. Where none can be made (no rights, another
system), `Cage.enforces` is False and the limit is only compared with: see `words`. An address space
limit is no substitute, for allocators and rings reserve far more of it than they touch.
"""

import os
import time
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
REMOVE_TRIES = 50


def _number(path):
    """The number in a file of the cgroup; 0 where the kernel has no such file or number."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _rows(path):
    """{name: number} of a file of such lines."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in lines if len(row) == 2 and row[1].isdigit()}


class Cage:
    """A cgroup of its own with a limit of memory; use as a context manager."""

    def __init__(self, name, limit_bytes):
        self.limit_bytes = limit_bytes
        self.path, self.version = None, 0
        self.counts_sockets = False
        name = f"corelog-{name}-{os.getpid()}"
        if (V1 / "memory.limit_in_bytes").exists():
            self._make(V1 / name, 1, "memory.limit_in_bytes")
        elif "memory" in self._controllers():
            self._make(V2 / name, 2, "memory.max")

    @staticmethod
    def _controllers():
        try:
            return (V2 / "cgroup.subtree_control").read_text().split()
        except OSError:
            return []

    def _make(self, path, version, limit):
        try:
            path.mkdir()
        except OSError:
            return
        self.path, self.version = path, version
        try:
            (path / limit).write_text(f"{self.limit_bytes}\n")
        except OSError:
            self.close()
            return
        self.counts_sockets = version == 2
        if version == 1:
            try:
                # Buffers of sockets are counted beside the rest, and only once they have a limit.
                (path / "memory.kmem.tcp.limit_in_bytes").write_text(f"{self.limit_bytes}\n")
                self.counts_sockets = True
            except OSError:
                pass

    @property
    def enforces(self):
        """Whether the kernel holds the process to the limit."""
        return self.path is not None

    def words(self):
        """What the cage is, for people."""
        limit = f"{self.limit_bytes >> 20} MiB"
        if not self.enforces:
            return f"no memory cgroup can be made here: {limit} are compared with, not enforced"
        sockets = {
            (1, True): "buffers of sockets have as much of their own",
            (1, False): "buffers of sockets are not counted",
        }.get((self.version, self.counts_sockets), "buffers of sockets are in it")
        return f"memory cgroup v{self.version} of {limit}, page cache in it; {sockets}"

    def command(self, command):
        """The words that run `command` inside, with the process id it would have had."""
        if not self.enforces:
            return command
        enter = f'echo $$ > {self.path}/cgroup.procs && exec "$@"'
        return ["sh", "-c", enter, "sh", *command]

    def figures(self):
        """Bytes by what they are, now: anonymous, file, kernel, sockets; and how often it hit."""
        if self.version == 1:
            stat = _rows(self.path / "memory.stat")
            events = _rows(self.path / "memory.oom_control")
            return {
                "anonymous": stat.get("total_rss", 0),
                "file": stat.get("total_cache", 0),
                "kernel": _number(self.path / "memory.kmem.usage_in_bytes"),
                "sockets": _number(self.path / "memory.kmem.tcp.usage_in_bytes"),
                "used_max": _number(self.path / "memory.max_usage_in_bytes"),
                "hits": _number(self.path / "memory.failcnt"),
                "kills": events.get("oom_kill", 0),
            }
        if self.version == 2:
            stat = _rows(self.path / "memory.stat")
            events = _rows(self.path / "memory.events")
            return {
                "anonymous": stat.get("anon", 0),
                "file": stat.get("file", 0),
                "kernel": stat.get("kernel", 0),
                "sockets": stat.get("sock", 0),
                "used_max": _number(self.path / "memory.peak"),
                "hits": events.get("max", 0),
                "kills": events.get("oom_kill", 0),
            }
        return {}

    def close(self):
        """Removes the cgroup; what runs in it has to have ended."""
        if self.path is None:
            return
        for _ in range(REMOVE_TRIES):
            try:
                self.path.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.1)
        self.path = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
