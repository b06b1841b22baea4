"""Rounds in turn: both brokers in each, and which one goes first alternates."""

import json
import os
import sys
import time
from pathlib import Path

KINDS = ("kafka", "corelog")


def order(number):
    """Who is measured in round `number` (from 0), first to last."""
    return KINDS if number % 2 == 0 else KINDS[::-1]


def say(words):
    """One line of progress."""
    print(words, file=sys.stderr, flush=True)


def in_turn(count, measure, keep=None, kinds=KINDS, earlier=None):
    """Calls `measure(number, kind)` in turn for those of `kinds`; {kind: [figures of each round]}.

    `keep` is called with what there is after each whole round, so that a run that is broken off
    has not been for nothing. `earlier` are the rounds of a run that this one goes on with.
    """
    rounds = {kind: list((earlier or {}).get(kind, [])) for kind in KINDS}
    first = max(map(len, rounds.values()))
    for number in range(first, first + count):
        for kind in (kind for kind in order(number) if kind in kinds):
            began = time.monotonic()
            rounds[kind].append(measure(number, kind))
            took = time.monotonic() - began
            say(f"round {number + 1} of {first + count}, {kind}: {took:.0f} s")
        if keep:
            keep(rounds)
    return rounds


def write_json(path, found):
    """Everything measured, to a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cpus": os.cpu_count(), **found}, indent=1) + "\n")


def read_json(path):
    """What `write_json` wrote."""
    return json.loads(Path(path).read_text())
