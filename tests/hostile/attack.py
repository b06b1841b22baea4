#!/usr/bin/env python3
"""One process of an attack: hostile peers of some kinds against a running broker.

    tests/hostile/attack.py --bootstrap HOST:PORT --world FILE --kinds drip=100,idle=5 --seconds 10

Prints `up` once every peer has tried to connect, and at the end (after --seconds, or by SIGTERM)
one line of JSON: what became of the peers of each kind. Started by scripts/hostile-test.
"""

import argparse
import json
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hostile.engine import Loop
from hostile.kinds import KINDS, Storm, World

RAMP_SECONDS = 2.0


def read_kinds(text):
    """{name: count} of NAME=COUNT,NAME=COUNT."""
    rows = (row.split("=") for row in text.split(",") if row)
    return {name: int(count) for name, count in rows}


def begin(loop, world, kinds):
    """Sets the peers up; they connect spread over the ramp, in a drawn order."""
    peers = []
    for name, count in kinds.items():
        found = KINDS[name]
        if issubclass(found, Storm):
            found(loop, world, count).tick()
        else:
            if prepare := getattr(found, "prepare", None):
                prepare(world)
            peers += [found(loop, name, world) for _ in range(count)]
    loop.source.shuffle(peers)
    for index, peer in enumerate(peers):
        loop.after(RAMP_SECONDS * index / max(1, len(peers)), peer.connect)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--world", required=True, help="JSON of what the peers know")
    parser.add_argument("--kinds", required=True, help="NAME=COUNT,...; storms: by second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    host, port = args.bootstrap.rsplit(":", 1)
    source = random.Random(args.seed)
    loop = Loop((host, int(port)), source)
    world = World(json.loads(Path(args.world).read_text()), source)
    begin(loop, world, read_kinds(args.kinds))
    loop.after(RAMP_SECONDS + 0.5, lambda: print("up", flush=True))
    try:
        loop.run(time.monotonic() + args.seconds, lambda: bool(ended))
    finally:
        loop.close()
    print(json.dumps({name: book.report() for name, book in loop.books.items()}), flush=True)


if __name__ == "__main__":
    main()
