"""Power loss: block writes are recorded under a file system, and images of many moments started.

A recording: ext4 on a loop device over a file that `recorder.py` serves; on it a broker that has
each append on disk before it answers, under load; topics are made meanwhile, and by chance it is
killed once. An image: the recording up to a random entry, without some of what no flush covered
(see `block_log`). The kernel mounts it, the broker is started on it and must come up alone: all
that was acknowledged or read before that entry is there, topics and commits too, and nothing twice
from an idempotent producer; and it takes new records.
"""

import subprocess
import sys
import time
from pathlib import Path

from harness import protocol

from . import disks, history
from .block_log import Replay, survivors
from .crew import Crew, create_topic
from .drill import FAULTS, PARTITIONS, Drill
from .styles import SLOT, STYLES
from .subject import Subject

MIB = 1 << 20
IMAGE_BYTES = 768 * MIB
FSCK_EVERY = 5
# How appends come to be on disk, a recording each.
WAYS = [
    {"log.flush.interval.messages": 1, "corelog.journal.bytes": 8 * MIB},
    {"corelog.durability": "sync", "corelog.journal.bytes": 8 * MIB},
    {"log.flush.interval.messages": 1, "corelog.journal.bytes": 0},
    {"log.flush.interval.messages": 1},
]
STYLES_USED = ["full", "quick", "packed", "acks1"]


class Recording:
    """A broker's life on a recorded disk."""

    def __init__(self, drill, number, properties):
        self.drill, self.number, self.properties = drill, number, properties
        self.directory = drill.directory / f"recording-{number}"
        self.directory.mkdir()
        self.base, self.log = self.directory / "base.img", self.directory / "writes"
        self.position = self.directory / "position"
        self.position.write_bytes(bytes(SLOT.size))
        self.served = self.directory / "served"
        self.served.mkdir()
        self.crew, self.made = None, {}
        self.begin = self.end = 0

    def at(self):
        """How many entries there are."""
        return SLOT.unpack(self.position.read_bytes())[0]

    def make(self, seconds):
        """Records; afterwards nothing runs, and nothing is mounted."""
        live = self.directory / "live.img"
        disks.make_ext4(self.base, IMAGE_BYTES)
        disks.run("cp", "--sparse=always", self.base, live)
        program = Path(__file__).with_name("recorder.py")
        words = [sys.executable, program, live, self.served, self.log, self.position]
        recorder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        disk = disks.Mounted(self.served / "disk", self.directory / "disk")
        subject = Subject(data=disk.path / "data", properties=self.properties)
        try:
            if recorder.stdout.readline().strip() != "ready":
                raise disks.NoRights("the recorder of block writes does not start")
            disk.mount()
            subject.start()
            self._live(subject, seconds)
        finally:
            if self.crew:
                self.crew.kill()
            subject.kill()
            disk.close()
            disks.unmount(self.served)
            try:
                recorder.wait(20)
            except subprocess.TimeoutExpired:
                recorder.kill()
            recorder.stdout.close()
        live.unlink()

    def _live(self, subject, seconds):
        """Load, topics, and perhaps a kill."""
        drill, source = self.drill, self.drill.source
        topic = f"power-{self.number}"
        create_topic(subject.bootstrap, topic, PARTITIONS)
        self.begin = self.at()
        words = {"marks": self.position, "styles": STYLES_USED, "rate": drill.args.rate and 1000}
        self.crew = Crew(subject.bootstrap, topic, PARTITIONS, self.directory, **words).start()
        self.crew.wait_all_go_on(subject.watch)
        kill_at = source.choice([None, source.uniform(0.3, 0.7) * seconds])
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            if kill_at is not None and now > kill_at:
                kill_at = None
                subject.kill_and_start()
                self.crew.wait_all_go_on(subject.watch)
            name = f"made-{len(self.made)}"
            with protocol.Connection(subject.bootstrap, timeout=30) as connection:
                if protocol.create_topic(connection, name, wait=False) == 0:
                    self.made[name] = self.at()
            time.sleep(0.3)
        findings = history.check(self.crew.stop(drill.problems))
        self.end = self.at()
        drill.problems += findings.words
        drill.say(f"recording {self.number}: {self.end} entries, {findings.summary()}")


class Replayed:
    """The images of one recording, one by one."""

    def __init__(self, recording, subject, disk):
        self.recording, self.subject, self.disk = recording, subject, disk
        self.drill = recording.drill
        self.replay = Replay(recording.log, recording.base)
        self.acknowledged = 0

    def image(self, cut, index):
        """Makes the image of a cut, starts the broker on it, and checks."""
        source, problems = self.drill.source, []
        pending = self.replay.advance(cut)
        disks.run("cp", "--sparse=always", self.recording.base, self.disk.image)
        with open(self.disk.image, "r+b") as file:
            for offset, raw in survivors(source, pending):
                file.seek(offset)
                file.write(raw)
        try:
            self._mount()
            self.subject.start_again()
            self._check(cut, index, problems)
            if source.random() < 0.3 and not problems:
                self.subject.stop()
        except FAULTS as fault:
            problems.append(str(fault))
        finally:
            self.subject.kill()
            self.disk.unmount()
        if index % FSCK_EVERY == 0 or problems:
            done = disks.run("e2fsck", "-f", "-n", self.disk.image, check=False)
            if done.returncode:
                problems.append(f"the file system is not sound: {done.stdout[-300:]}")
        self.drill.problems += [f"recording {self.recording.number}, {cut}: {p}" for p in problems]

    def _mount(self):
        try:
            self.disk.mount()
        except OSError:
            self.subject.counts["repaired"] += 1
            self.disk.unmount()
            self.disk.repair()
            self.disk.mount()

    def _check(self, cut, index, problems):
        """Everything promised before the cut is there, and new records are taken."""
        recording, live = self.recording, self.recording.crew
        crew = Crew(
            self.subject.bootstrap, live.topic, PARTITIONS, recording.directory, name=f"cut-{index}"
        )
        try:
            final, committed = crew.read_all(problems)
            writers = {
                number: history.Sends(
                    STYLES[live.styles[number]].idempotent, live.sent[number], live.acks(each, cut)
                )
                for number, each in enumerate(live.all)
                if each.role == "writer"
            }
            readers = {
                each.name: live.polls(each, cut) for each in live.all if each.name == "reader"
            }
            groups = {live.group: history.Group(live.steps(cut), committed)}
            what = history.History(PARTITIONS, writers, final, readers, groups, cut=True)
            findings = history.check(what)
        finally:
            crew.kill()
        problems += findings.words
        self.acknowledged += findings.acknowledged
        with protocol.Connection(self.subject.bootstrap, timeout=30) as connection:
            rows = protocol.metadata(connection, None)["topics"]
            there = {row["name"] for row in rows}
            due = {name for name, mark in recording.made.items() if mark <= cut}
            if due - there:
                problems.append(f"topics are gone: {sorted(due - there)[:5]}")
            _write_each(connection, live.topic, problems)


def _write_each(connection, topic, problems):
    """A record to each partition."""
    now = int(time.time() * 1000)
    batch = protocol.Batch(values=[b"after"], timestamp=now).encode()
    for partition in range(PARTITIONS):
        row = protocol.produce(connection, topic, partition, batch)
        if row["error"]:
            problems.append(f"partition {partition} takes nothing new: {row['error']}")


def power(args):
    """The power is lost at a random moment of a recording of all block writes."""
    if not Path("/dev/fuse").exists():
        raise disks.NoRights("no /dev/fuse")
    drill = Drill("power", args)
    disks.need_loop(drill.directory)
    source, number, entries, subject = drill.source, 0, 0, None
    while drill.rounds < drill.times and not drill.problems:
        recording = Recording(drill, number, WAYS[number % len(WAYS)])
        try:
            recording.make(args.record_seconds)
        except FAULTS as fault:
            drill.problems.append(f"recording {number}: {fault}")
            break
        entries += recording.end
        count = min(args.images, drill.times - drill.rounds)
        cuts = sorted(source.randint(recording.begin, recording.end) for _ in range(count))
        image = recording.directory / "image"
        disk = disks.Mounted(image, recording.directory / "disk")
        subject = _after(recording, disk, subject)
        replayed = Replayed(recording, subject, disk)
        began = time.monotonic()
        for index, cut in enumerate(cuts):
            replayed.image(cut, index)
            drill.rounds += 1
            if drill.problems:
                break
        replayed.replay.close()
        disk.close()
        drill.acknowledged += replayed.acknowledged
        seconds = time.monotonic() - began
        drill.say(f"{drill.rounds} of {drill.times} images, {seconds:.0f} s for {count}")
        if not drill.problems:
            disks.run("rm", "-rf", recording.directory)
        number += 1
    if subject and (lines := subject.fatal_lines()):
        drill.problems += [f"the broker printed: {line}" for line in lines]
    return drill.report(subject, f"{number} recordings, {entries} block writes and flushes")


def _after(recording, disk, before):
    """The broker for a recording's images; what was counted before goes on."""
    subject = Subject(data=disk.path / "data", properties=recording.properties)
    if before:
        subject.counts, subject.codes = before.counts, before.codes
        subject.slowest = before.slowest
    return subject
