"""examples/elect.py under test: several processes elect a leader and share out jobs."""

import json
import subprocess
import sys
import threading
import time

from group_world import SLACK, Failed
from harness import broker

EXAMPLE = broker.ROOT / "examples" / "elect.py"
SESSION_SECONDS = 6
JOBS = [f"job-{number}" for number in range(10)]


class Worker:
    """One process of the example, as its lines tell it."""

    def __init__(self, election, name):
        self.name, self.election = name, election
        self.leads, self.generation, self.jobs = False, -1, set()
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(EXAMPLE),
                *("--bootstrap", election.bootstrap, "--group", election.name, "--name", name),
                *("--jobs", ",".join(JOBS), "--session-seconds", str(SESSION_SECONDS)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"at": time.time(), "event": "error", "text": line}
            with self.election.lock:
                event["member"] = self.name
                if event["event"] == "working":
                    self.jobs = set(event["jobs"])
                    self.leads, self.generation = event["leads"], event["generation"]
                elif event["event"] == "idle":
                    self.jobs = set()
                self.election.events.append(event)

    def end(self):
        """It is told to leave (SIGTERM), and does."""
        self.process.terminate()
        self.process.wait(SLACK)
        self.gone("stopped")

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.gone("killed")

    def gone(self, event):
        with self.election.lock:
            self.election.workers.remove(self)
            self.election.events.append({"at": time.time(), "member": self.name, "event": event})


class Election:
    """All workers and what they told."""

    def __init__(self, bootstrap, name):
        self.bootstrap, self.name = bootstrap, name
        self.lock = threading.Lock()
        self.events, self.workers = [], []

    def add(self, name):
        self.workers.append(Worker(self, name))

    def unsettled(self):
        """What is missing until one leads and every job has one worker, or None."""
        with self.lock:
            workers = list(self.workers)
            if len({worker.generation for worker in workers}) != 1:
                return "not of one generation"
            if sum(worker.leads for worker in workers) != 1:
                return "not exactly one leads"
            if sorted(job for worker in workers for job in worker.jobs) != sorted(JOBS):
                return "not every job is with exactly one"
            sizes = [len(worker.jobs) for worker in workers]
            return None if max(sizes) - min(sizes) <= 1 else f"not even: {sizes}"

    def settle(self, seconds=0):
        """Waits until that holds; returns the seconds."""
        began = time.monotonic()
        while why := self.unsettled():
            if time.monotonic() - began > seconds + SLACK:
                raise Failed(f"{why}: {self.events[-8:]}")
            time.sleep(0.05)
        return time.monotonic() - began

    def leader(self):
        with self.lock:
            return next(worker for worker in self.workers if worker.leads)

    def give_up(self):
        for worker in list(self.workers):
            worker.kill()


def join(election, _row):
    for number in range(4):
        election.add(f"w{number + 1}")
    election.settle()


def steady(election, _row):
    with election.lock:
        before = len(election.events)
    time.sleep(3)
    with election.lock:
        more = election.events[before:]
    if more:
        raise Failed(f"it did not stay as it was: {more}")


def crash(election, _row):
    """The leader is killed: another one leads, all jobs are shared out again."""
    old = election.leader()
    old.kill()
    taken = election.settle(SESSION_SECONDS)
    return f"{election.leader().name} leads after {taken:.1f} s"


def leave(election, _row):
    """The leader leaves: at once another one leads."""
    election.leader().end()
    taken = election.settle()
    return f"{election.leader().name} leads after {taken:.1f} s"


def two_workers(events):
    """Jobs that two worked on at a time: each begins after all others idle, left or were killed."""
    wrong, holds = [], {}
    for event in sorted(events, key=lambda e: e["at"]):
        member, kind = event["member"], event["event"]
        if kind in ("idle", "stopped", "killed"):
            holds.pop(member, None)
        elif kind == "working":
            for other, (jobs, since) in holds.items():
                if other != member and jobs & set(event["jobs"]):
                    wrong.append(f"{sorted(jobs & set(event['jobs']))}: {since} and {event}")
            holds[member] = (set(event["jobs"]), event)
        elif kind == "error":
            wrong.append(str(event))
    return wrong


def finish(election, _row):
    wrong = two_workers(election.events)
    for worker in list(election.workers):
        worker.end()
    if wrong:
        raise Failed("\n    ".join(wrong[:10]))
    rounds = {e["generation"] for e in election.events if e["event"] == "working"}
    return f"{len(rounds)} generations"


def _self_test():
    begin = {"at": 1.0, "member": "a", "event": "working", "jobs": ["x"]}
    other = {"at": 2.0, "member": "b", "event": "working", "jobs": ["x"]}
    idle = {"at": 1.5, "member": "a", "event": "idle"}
    assert two_workers([begin, other])
    assert not two_workers([begin, idle, other])


_self_test()
