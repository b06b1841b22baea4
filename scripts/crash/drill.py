"""One kind of trouble from its first to its last round: chapters of a topic and its clients each.

A chapter is a new topic with new clients on the same directory; at its end everything is read and
checked, and the topic is deleted, so that disk and checker have an end.
"""

import random
import time

from harness import broker, protocol

from . import history
from .crew import Crew, Stuck, create_topic, delete_topic
from .subject import Ended

PARTITIONS = 4
PROBLEMS_MAX = 20
FAULTS = (Stuck, Ended, broker.BrokerFailed, protocol.Closed, OSError, ValueError)


class Drill:
    """What a kind is run with, and what it found."""

    def __init__(self, kind, args):
        self.kind, self.args = kind, args
        self.times = args.times
        # Moments and sizes follow from the seed alone; where the broker is then does not.
        self.source = random.Random(f"{args.seed}-{kind}")
        self.directory = broker.scratch(f"crash-{kind}")
        self.problems, self.waits, self.notes = [], [], []
        self.acknowledged, self.rounds = 0, 0

    def say(self, words):
        """A line of progress."""
        if not self.args.short:
            print(f"  {self.kind}: {words}", flush=True)

    def went_on(self, seconds):
        """Notes how long it took until all clients went on."""
        self.waits.append(seconds)

    def run(self, subject, act, per_chapter, **options):
        """`act(crew)` as often as asked, in chapters; the broker runs before and after."""
        chapter = 0
        # Those faults that a broker may end of are seen to by whoever calls `tend`.
        tend = options.pop("tend", subject.watch)
        while self.rounds < self.times and not self.problems:
            count = min(per_chapter, self.times - self.rounds)
            self._chapter(subject, act, chapter, count, tend, dict(options))
            chapter += 1
        if lines := subject.fatal_lines():
            self.problems += [f"the broker printed: {line}" for line in lines]

    def _chapter(self, subject, act, chapter, count, tend, options):
        topic = f"{self.kind}-{chapter}"
        partitions = options.pop("partitions", PARTITIONS)
        options.setdefault("protocol", ("classic", "consumer")[chapter % 2])
        options.setdefault("rate", self.args.rate)
        crew = Crew(subject.bootstrap, topic, partitions, self.directory, **options)
        began = time.monotonic()
        try:
            create_topic(subject.bootstrap, topic, partitions)
            crew.start().wait_all_go_on(tend)
            for _ in range(count):
                act(crew)
                self.rounds += 1
            crew.wait_all_go_on(tend)
            acted = time.monotonic() - began
            findings = history.check(crew.stop(self.problems))
            delete_topic(subject.bootstrap, topic)
        except FAULTS as fault:
            self.problems.append(f"round {self.rounds + 1}: {fault}")
            return
        finally:
            crew.kill()
        self.problems += findings.words
        self.acknowledged += findings.acknowledged
        checked = time.monotonic() - began - acted
        self.say(
            f"{self.rounds} of {self.times} rounds, {acted:.0f} s and {checked:.0f} s to check:"
            f" {findings.summary()}"
        )
        for process in crew.all:
            process.report.unlink(missing_ok=True)

    def report(self, subject, words=""):
        """The line at the end; whether everything was right."""
        for problem in self.problems[:PROBLEMS_MAX]:
            print(f"FAIL {self.kind}: {problem}")
        waits = sorted(self.waits)
        told = [f"{self.rounds} rounds", f"{self.acknowledged} acknowledged"]
        if waits:
            middle, worst = waits[len(waits) // 2], waits[-1]
            told.append(f"all clients went on after {middle:.2f} s (middle), {worst:.2f} s (most)")
        if subject:
            told.append(subject.summary())
        told += [part for part in (words, *self.notes) if part]
        if self.problems:
            print(f"again: scripts/crash-test {self.kind} --seed {self.args.seed}")
        print(f"{'FAIL' if self.problems else 'ok  '} {self.kind}: {'; '.join(told)}", flush=True)
        return not self.problems
