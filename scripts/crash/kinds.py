"""The kinds of trouble that need no recording of block writes."""

import resource
import socket
import struct
import time
from contextlib import suppress

from harness import protocol

from . import disks
from .crew import Stuck
from .drill import Drill
from .subject import Subject

MIB = 1 << 20


def kill(args):
    """kill -9 at a random moment and a start at once; sometimes again within the start."""
    drill, subject = Drill("kill", args), Subject().start()
    source = drill.source

    def act(crew):
        time.sleep(source.uniform(0.05, args.seconds))
        if source.random() < 0.2:
            subject.counts["killed"] += 1
            subject.kill()
            subject.start(wait=False)
            time.sleep(source.uniform(0, 0.3))
        subject.kill_and_start()
        # Groups need not form between any two kills, but often enough to be disturbed again.
        every = drill.rounds % 5 == 0
        drill.went_on(crew.wait_all_go_on(subject.watch, groups=every))

    drill.run(subject, act, per_chapter=50)
    return _end(drill, subject)


def stop(args):
    """SIGSTOP for a while, SIGCONT."""
    drill, subject = Drill("stop", args), Subject().start()
    source, paused = drill.source, [0.0]

    def act(crew):
        time.sleep(source.uniform(0.05, 0.5))
        # As many short ones as long ones.
        seconds = min(args.pause, 0.05 * (120 ** source.random()))
        paused[0] += seconds
        subject.pause(seconds)
        drill.went_on(crew.wait_all_go_on(subject.watch))

    drill.run(subject, act, per_chapter=25)
    return _end(drill, subject, f"stood still for {paused[0]:.0f} s in all")


def disk_full(args):
    """The log directory's file system runs full, by load or by a file beside it, and is freed."""
    drill = Drill("disk-full", args)
    disk = disks.limited(drill.directory, 1536 * MIB)
    ballast = disks.Ballast(disk.path)
    subject = Subject(data=disk.path / "data")
    source, full = drill.source, [0]
    usual = 96 * MIB

    def act(crew):
        ballast.leave(source.choice([0, 0, disks.BLOCK * source.randint(1, 20), 4 * MIB, 12 * MIB]))
        until = time.monotonic() + 15
        while ballast.free() > 256 << 10 and time.monotonic() < until:
            subject.rest(0.05)
        full[0] += ballast.free() <= 256 << 10
        subject.rest(source.uniform(0.2, 2.0))
        if source.random() < 0.3:
            subject.counts["killed while full"] += 1
            subject.kill()
            subject.rest(source.uniform(0.1, 2.0))
        if source.random() < 0.3:
            # The last blocks are taken again while the broker makes do without.
            ballast.leave(0)
            subject.rest(source.uniform(0.1, 1.0))
        ballast.leave(usual)
        drill.went_on(crew.wait_all_go_on(subject.tend))

    try:
        ballast.leave(usual)
        subject.start()
        drill.run(subject, act, per_chapter=10, tend=subject.tend)
        return _end(drill, subject, f"full {full[0]} times on {type(disk).__name__}")
    finally:
        subject.kill()
        disk.close()


def readonly(args):
    """The file system becomes read-only, is repaired as at a boot, and the broker started again."""
    drill = Drill("readonly", args)
    disks.need_loop(drill.directory)
    image = drill.directory / "disk.img"
    disks.make_ext4(image, 1024 * MIB)
    disk = disks.Mounted(image, drill.directory / "disk")
    # What was not synced is gone with the journal of the file system: everything is synced.
    properties = {"log.flush.interval.messages": 1, "corelog.journal.bytes": 16 * MIB}
    subject = Subject(data=disk.path / "data", properties=properties)
    source = drill.source

    def act(crew):
        subject.rest(source.uniform(0.2, 1.0))
        if source.random() < 0.3:
            # Nothing is written behind the broker's back: it is killed, and started there.
            subject.kill()
            disks.run("mount", "-o", "remount,ro", disk.path)
            subject.counts["started there"] += 1
            subject.rest(source.uniform(0.5, 2.0))
        else:
            disks.run("mount", "-o", "remount,abort", disk.path)
            subject.rest(source.uniform(0.3, 3.0))
        if subject.process and source.random() < 0.5:
            subject.counts["stopped cleanly"] += 1
            subject.stop()
        subject.kill()
        disk.unmount()
        subject.counts["repaired"] += disk.repair()
        disk.mount()
        subject.start_again()
        drill.went_on(crew.wait_all_go_on(subject.tend))

    try:
        disk.mount()
        subject.start()
        drill.run(subject, act, per_chapter=10, tend=subject.tend, rate=args.rate and 1000)
        return _end(drill, subject)
    finally:
        subject.kill()
        disk.close()


def files(args):
    """No descriptors left: connections wait or are refused, those there are served."""
    drill = Drill("files", args)
    subject = Subject(properties={"log.segment.bytes": MIB}).start()
    source, stood, refused = drill.source, [0], [0]

    def limit(count):
        # The hard limit stays: without a capability it can not be raised again.
        with suppress(OSError):
            hard = resource.prlimit(subject.pid, resource.RLIMIT_NOFILE)[1]
            soft = hard if count is None else count
            resource.prlimit(subject.pid, resource.RLIMIT_NOFILE, (soft, hard))

    def act(crew):
        count = _open_files(subject) + source.randint(4, 60)
        limit(count)
        with _Crowd(subject.port) as crowd:
            crowd.grow(count)
            refused[0] += crowd.unanswered()
            try:
                crew.wait_all_go_on(subject.tend, seconds=10, groups=False)
            except Stuck:
                # A segment that is full wants a descriptor, too.
                stood[0] += 1
            if source.random() < 0.3:
                subject.kill()
                subject.prefix = ["prlimit", f"--nofile={count}:{count}"]
                subject.counts["killed meanwhile"] += 1
                subject.rest(source.uniform(0.5, 2.0))
                # It has raised its limit as far as it could: the next life has more.
                subject.prefix = []
                subject.kill()
        subject.rest(0.2)
        if subject.process:
            limit(None)
        drill.went_on(crew.wait_all_go_on(subject.tend))

    drill.run(subject, act, per_chapter=10, tend=subject.tend, partitions=16)
    words = f"{refused[0]} connections were not answered, clients stood still {stood[0]} times"
    return _end(drill, subject, words)


def _open_files(subject):
    with suppress(OSError):
        return len(list((subject.proc / "fd").iterdir()))
    return 0


class _Crowd:
    """Idle connections, more than the broker has descriptors for."""

    ASK = protocol.frame(protocol.header(18, 0, 1))

    def __init__(self, port):
        self.port, self.sockets = port, []

    def grow(self, count):
        for _ in range(count):
            each = socket.socket()
            each.settimeout(1)
            with suppress(OSError):
                each.connect(("127.0.0.1", self.port))
                each.sendall(self.ASK)
            self.sockets.append(each)

    def unanswered(self, seconds=2):
        """How many get no answer in that time."""
        time.sleep(seconds)
        missing = 0
        for each in self.sockets:
            each.setblocking(False)
            try:
                missing += not each.recv(4)
            except OSError:
                missing += 1
        return missing

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self.sockets:
            each.close()


def memory(args):
    """The broker in a control group of little memory, under full load and half-sent requests."""
    drill = Drill("memory", args)
    group = disks.Memory(args.mib * MIB)
    subject = Subject(prefix=group.prefix())
    source = drill.source

    def act(crew):
        with _Hoard(subject.port) as hoard:
            if drill.rounds % 2:
                hoard.grow(source.randint(5, 25), source.randint(1, 8) * MIB)
            subject.rest(source.uniform(1, 3))
            if source.random() < 0.3:
                subject.counts["killed"] += 1
                subject.kill()
        drill.went_on(crew.wait_all_go_on(subject.tend))

    try:
        subject.start()
        drill.run(subject, act, per_chapter=10, tend=subject.tend, styles=["full", "full", "acks1"])
        most = group.read("max_usage_in_bytes") // MIB
        words = f"{args.mib} MiB, {most} used, killed by the kernel {group.kills()} times"
        return _end(drill, subject, words)
    finally:
        subject.kill()
        group.close()


class _Hoard:
    """Connections that send nearly all of a large request, and wait."""

    def __init__(self, port):
        self.port, self.sockets = port, []

    def grow(self, count, size_bytes):
        head = protocol.header(0, 8, 1)
        for _ in range(count):
            each = socket.socket()
            each.settimeout(0.2)
            with suppress(OSError):
                each.connect(("127.0.0.1", self.port))
                each.sendall(struct.pack(">i", size_bytes) + head)
                each.sendall(bytes(size_bytes - len(head) - 100))
            self.sockets.append(each)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self.sockets:
            each.close()


def _end(drill, subject, words=""):
    """A clean stop, and the line that says how it was."""
    if subject.process and not drill.problems:
        subject.stop()
    subject.kill()
    return drill.report(subject, words)
