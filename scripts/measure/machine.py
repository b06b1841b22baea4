"""What the machine does beside a measurement: memory, other processes, stolen time."""

import bisect
import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

from . import turns

KEEP_HELP = "keep free memory with a virtual machine: takes a minute or two"
# What other processes may use during a measurement, in cores, before it is repeated.
DISTURBED_CORES = 0.15
# How often the broker's CPU is looked at during a measurement.
SAMPLE_SECONDS = 0.02
# Files that 10,000 partitions and 5,000 connections need, with room.
FILES_WANTED = 65_536
# What the page cache may keep of files it is told to forget.
HELD_SHARE = 0.01
GIB = 1 << 30
# The parent of all kernel threads.
KTHREADD = "2"
TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def memory_kept(wanted=True):
    """Keeps free memory with a virtual machine for the length of a block (measure/keeper.py).

    Takes a minute or two on a large machine; does nothing on one that is not virtual.
    """
    if not wanted or "hypervisor" not in Path("/proc/cpuinfo").read_text():
        yield
        return
    command = [sys.executable, str(Path(__file__).with_name("keeper.py"))]
    keeper = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        turns.say(keeper.stdout.readline().strip() or "free memory could not be kept here")
        yield
        if keeper.poll() is not None:
            turns.say("the process that kept free memory here ended early: do not trust figures")
    finally:
        keeper.stdin.close()
        try:
            keeper.wait(10)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait(10)


def machine_seconds():
    """(CPU seconds all processes and the kernel have used, seconds the host took away)."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields[:8])
    return (user + nice + system + irq + soft) / TICKS, steal / TICKS


def kernel_seconds():
    """CPU seconds of the kernel's own threads: writing pages back, mostly the broker's."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[1] == KTHREADD:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def own_seconds():
    """CPU seconds of this process and of those it has started and waited for."""
    rows = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in rows)


def threads(pid):
    """[(name, CPU seconds)] of the living threads of a process; several may have one name."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            found.append((name, int((task / "schedstat").read_text().split()[0]) / 1e9))
        except OSError:
            continue
    return found


def task_seconds(pid):
    """CPU seconds of the living threads of a process, to the nanosecond: for idle processes."""
    return sum(seconds for _, seconds in threads(pid))


def raise_files(wanted=FILES_WANTED):
    """Lets this process and those it starts open as many files as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, wanted), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (ValueError, OSError):
            continue
    return soft


def drop_cached(paths):
    """Has the page cache forget files; in words, what worked and how much of them it still holds.

    Each file is synced first: pages that are not yet written stay. The whole cache, with the
    programs that measure in it, is dropped only when that did not do.
    """
    paths = list(paths)
    whole = sum(os.stat(path).st_size for path in paths)
    before = cached_bytes(paths)
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    words, after = f"posix_fadvise of {len(paths)} files", cached_bytes(paths)
    if after is None or after > HELD_SHARE * whole:
        try:
            Path("/proc/sys/vm/drop_caches").write_text("1\n")
            words += " and drop_caches"
        except OSError as error:
            words += f" but not drop_caches ({error.strerror})"
        after = cached_bytes(paths)
    sizes = ("unknown" if size is None else f"{size / GIB:.2f}" for size in (before, after))
    return f"{words}: {' to '.join(sizes)} of {whole / GIB:.2f} GiB in the page cache"


def cached_bytes(paths):
    """Bytes of files that the page cache holds, by `fincore` of util-linux; `None` without it."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", *map(str, paths)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return sum(map(int, done.stdout.split()))


class Measured:
    """CPU of the broker and of others over a block.

    Afterwards: `wall` seconds, `cpu` seconds of the broker, and in cores `others` (all that was
    neither the broker, nor a client of ours, nor the kernel's own threads; time the host took is
    part of it), `steal` of that, and `kernel` for the kernel's threads.
    """

    def __init__(self, under_test):
        self.under_test = under_test
        self.samples = []
        self.ended = threading.Event()

    def __enter__(self):
        self.before = self._now()
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()
        return self

    def _now(self):
        now = time.monotonic()
        busy, steal = machine_seconds()
        return now, self.under_test.cpu_seconds(), own_seconds(), busy, steal, kernel_seconds()

    def _sample(self):
        while not self.ended.wait(SAMPLE_SECONDS):
            try:
                self.samples.append((time.monotonic(), self.under_test.cpu_seconds()))
            except OSError:
                return

    def __exit__(self, *_):
        self.ended.set()
        self.sampler.join()
        after = self._now()
        self.samples = [self.before[:2], *self.samples, after[:2]]
        rows = (b - a for a, b in zip(self.before, after, strict=True))
        self.wall, self.cpu, own, busy, steal, kernel = rows
        self.steal = steal / self.wall
        # Threads of the kernel come and go, and take their time with them.
        self.kernel = max(0.0, kernel) / self.wall
        self.others = max(0.0, (busy + steal - self.cpu - own) / self.wall - self.kernel)

    def cpu_between(self, begin, end):
        """CPU seconds of the broker between two moments of the block (`time.monotonic()`)."""
        return cpu_at(self.samples, end) - cpu_at(self.samples, begin)


def cpu_at(samples, moment):
    """CPU seconds at a moment, between the samples before and behind it: (moment, CPU seconds)."""
    at = bisect.bisect_left(samples, (moment, 0.0))
    if at == 0:
        return samples[0][1]
    if at == len(samples):
        return samples[-1][1]
    (left, low), (right, high) = samples[at - 1], samples[at]
    return low + (high - low) * (moment - left) / (right - left)


def description():
    """One line on the machine: what a reader needs to place the figures."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GiB, Linux {os.uname().release}"
