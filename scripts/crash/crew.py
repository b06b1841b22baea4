"""The clients of one topic: starts them, sees who goes on, stops them, gathers their history."""

import json
import os
import subprocess
import time
from itertools import takewhile
from pathlib import Path

from harness import broker, protocol

from . import history
from .styles import ACK, READ, SLOT, STEP, STYLES

PYTHON = broker.CACHE / "venv" / "bin" / "python"
PROGRAM = Path(__file__).with_name("clients.py")
SLOT_COUNT = 32
END_SECONDS_MAX = 150
GO_ON_SECONDS_MAX = 60
MARK_MAX = 1 << 62


class Stuck(Exception):
    """Clients that do not go on, or do not end."""


def rows_of(path, layout):
    """The rows of a report; a last one that was cut off is left out."""
    with open(path, "rb") as file:
        while chunk := file.read(layout.size << 12):
            yield from layout.iter_unpack(chunk[: len(chunk) // layout.size * layout.size])


class Process:
    """One client process."""

    def __init__(self, crew, role, name, **words):
        self.name, self.role = name, role
        self.report = crew.directory / f"{name}.rows"
        self.slot = len(crew.all)
        given = {
            "bootstrap": crew.bootstrap,
            "topic": crew.topic,
            "partitions": crew.partitions,
            "report": self.report,
            "progress": crew.progress,
            "slot": self.slot,
            "stop": crew.stop_file(role),
            "marks": crew.marks or "",
            **words,
        }
        command = [str(PYTHON), str(PROGRAM), role]
        for key, word in given.items():
            command += [f"--{key}", str(word)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def words(self, seconds):
        """What it said at its end."""
        try:
            out = self.process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            raise Stuck(f"{self.name} does not end within {seconds} s") from None
        lines = out.strip().splitlines()
        if self.process.returncode or not lines:
            raise Stuck(f"{self.name} ended with {self.process.returncode}")
        return json.loads(lines[-1])

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class Crew:
    """Producers, readers and two members of a group, each a process of its own."""

    def __init__(self, bootstrap, topic, partitions, directory, **options):
        self.bootstrap, self.topic, self.partitions = bootstrap, topic, partitions
        self.directory = directory / options.get("name", topic)
        self.directory.mkdir()
        self.marks = options.get("marks")
        self.protocol = options.get("protocol", "classic")
        self.rate = options.get("rate", 0)
        self.styles = options.get("styles", list(STYLES))
        self.progress = self.directory / "progress"
        self.progress.write_bytes(bytes(SLOT.size * SLOT_COUNT))
        self.all, self.sent = [], {}

    def stop_file(self, role):
        """Whose presence tells clients of a role to stop."""
        return self.directory / f"stop-{'writers' if role == 'writer' else 'readers'}"

    @property
    def group(self):
        return f"group-{self.topic}"

    def start(self):
        """Starts all clients."""
        for number, style in enumerate(self.styles):
            words = {"number": number, "style": style, "rate": self.rate}
            self.add("writer", f"writer-{number}-{style}", **words)
        self.add("reader", "reader")
        for name in ("member-a", "member-b"):
            self.add("member", name, group=self.group, protocol=self.protocol)
        return self

    def add(self, role, name, **words):
        process = Process(self, role, name, **words)
        self.all.append(process)
        return process

    def slots(self):
        """How far each client is."""
        raw = self.progress.read_bytes()
        return [number for (number,) in SLOT.iter_unpack(raw)][: len(self.all)]

    def wait_all_go_on(self, tend=None, seconds=GO_ON_SECONDS_MAX, groups=True):
        """Waits until every client came further than now (of a group, one member); seconds."""
        began, before = time.monotonic(), self.slots()
        while True:
            if tend:
                tend()
            now = self.slots()
            late = {
                "group" if each.role == "member" else each.name
                for each in self.all
                if now[each.slot] == before[each.slot]
            }
            pair = [each for each in self.all if each.role == "member"]
            if not groups or any(now[each.slot] != before[each.slot] for each in pair):
                late.discard("group")
            if not late:
                return time.monotonic() - began
            if gone := [each.name for each in self.all if each.process.poll() is not None]:
                raise Stuck(f"clients ended: {gone}")
            if time.monotonic() - began > seconds:
                raise Stuck(f"{sorted(late)} do not go on within {seconds} s")
            time.sleep(0.01)

    def stop(self, problems):
        """Ends all clients in order, reads everything once more; the history."""
        words = self._end("writer")
        producers = {}
        for number, (process, said) in enumerate(words):
            if said["left"] or said["failed"]:
                told = f"{said['left']} left, {said['failed']} failed: {said['first']}"
                problems.append(f"{process.name} gave up on records: {told}")
            gave_up = bool(said["left"] or said["failed"])
            idempotent = STYLES[self.styles[number]].idempotent
            acks = self.acks(process)
            producers[number] = history.Sends(idempotent, said["sent"], acks, gave_up)
            self.sent[number] = said["sent"]
        readers = self._end("reader")
        for process, said in readers + self._end("member"):
            if said["late"] or said.get("lost"):
                problems.append(f"{process.name} is not at the end: {said}")
        rows = {each.name: self.polls(each) for each, _ in readers}
        final, committed = self.read_all(problems)
        groups = {self.group: history.Group(self.steps(), committed)}
        return history.History(self.partitions, producers, final, rows, groups)

    def polls(self, process, mark_max=MARK_MAX):
        """What a reader polled, up to a mark."""
        rows = takewhile(lambda row: row[3] <= mark_max, rows_of(process.report, READ))
        return (row[:3] for row in rows)

    def acks(self, process, mark_max=MARK_MAX):
        """What a producer was told, up to a mark."""
        rows = takewhile(lambda row: row[3] <= mark_max, rows_of(process.report, ACK))
        return (row[:3] for row in rows)

    def steps(self, mark_max=MARK_MAX):
        """{member: what it did}, up to a mark."""
        return {
            each.name: (
                row[:5]
                for row in takewhile(lambda row: row[5] <= mark_max, rows_of(each.report, STEP))
            )
            for each in self.all
            if each.role == "member"
        }

    def read_all(self, problems):
        """Reads everything by a client of its own: (rows, {partition: committed offset})."""
        final = self.add("reader", "final", group=self.group)
        self.stop_file("reader").touch()
        said = final.words(END_SECONDS_MAX)
        if said["late"] or said["lost"] or len(said["ends"]) < self.partitions:
            problems.append(f"the last reading is not whole: {said}")
        if said["committed"] is None:
            problems.append(f"nobody says what {self.group} has committed")
        committed = {int(key): offset for key, offset in (said["committed"] or {}).items()}
        return (row[:3] for row in rows_of(final.report, READ)), committed

    def _end(self, role):
        """Tells the clients of a role to end; [(process, what it said)]."""
        self.stop_file(role).touch()
        ended = []
        for process in self.all:
            if process.role == role:
                said = process.words(END_SECONDS_MAX)
                ended.append((process, said))
                if said["errors"] and os.environ.get("SHOW_ERRORS"):
                    print(f"  {process.name}: {said['errors']}", flush=True)
        return ended

    def kill(self):
        """Ends what still runs."""
        for process in self.all:
            process.kill()


def create_topic(bootstrap, topic, partitions, configs=None):
    """Makes a topic, or says why not."""
    with protocol.Connection(bootstrap, timeout=30) as connection:
        if code := protocol.create_topic(connection, topic, partitions, configs):
            raise Stuck(f"CreateTopics of {topic} answered {code}")


def delete_topic(bootstrap, topic):
    """Deletes a topic, or says why not."""
    with protocol.Connection(bootstrap, timeout=30) as connection:
        if code := protocol.delete_topic(connection, topic):
            raise Stuck(f"DeleteTopics of {topic} answered {code}")
