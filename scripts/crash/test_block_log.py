"""Images of a recording hold what barriers promise, and of the rest only what was written.

python3 -m unittest discover -s scripts
"""

import random
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash.block_log import BARRIER, ENTRY, PAGE, SECTOR, WRITE, Replay, survivors

SIZE = 64 * PAGE


def recording_of(rows):
    """The bytes of a recording."""
    return b"".join(ENTRY.pack(kind, at, len(raw)) + raw for kind, at, raw in rows)


def history(source, count):
    """Writes of a page or more, a barrier now and then."""
    for number in range(count):
        if source.random() < 0.15:
            yield BARRIER, 0, b""
            continue
        size = source.choice([SECTOR, PAGE, 3 * PAGE])
        at = source.randrange(0, SIZE - size, SECTOR)
        yield WRITE, at, number.to_bytes(4, "big") * (size // 4)


def after(rows):
    """A disk that has all of the writes."""
    disk = bytearray(SIZE)
    for kind, at, raw in rows:
        if kind == WRITE:
            disk[at : at + len(raw)] = raw
    return bytes(disk)


class Images(unittest.TestCase):
    def test_the_base_is_what_the_last_barrier_promised(self):
        for seed in range(20):
            source = random.Random(seed)
            rows = list(history(source, 80))
            with tempfile.TemporaryDirectory() as name:
                log, base = Path(name) / "log", Path(name) / "base"
                log.write_bytes(recording_of(rows))
                base.write_bytes(bytes(SIZE))
                replay = Replay(log, base)
                for cut in sorted(source.randint(0, len(rows)) for _ in range(10)):
                    pending = replay.advance(cut)
                    barriers = [i for i in range(cut) if rows[i][0] == BARRIER]
                    last = barriers[-1] + 1 if barriers else 0
                    self.assertEqual(base.read_bytes(), after(rows[:last]), f"seed {seed}")
                    due = [(at, raw) for _, at, raw in rows[last:cut]]
                    self.assertEqual(pending, due, f"seed {seed}, cut {cut}")
                replay.close()

    def test_survivors_are_parts_of_the_writes_in_their_order_torn_at_sectors(self):
        ways = set()
        for seed in range(300):
            source = random.Random(seed)
            pending = [(PAGE * (5 + 4 * i), bytes([i]) * 3 * PAGE) for i in range(6)]
            kept = list(survivors(source, pending))
            places = [at for at, _ in kept]
            self.assertEqual(places, sorted(places), f"seed {seed}")
            for at, raw in kept:
                at_write, whole = next(row for row in reversed(pending) if row[0] <= at)
                start = at - at_write
                self.assertEqual(raw, whole[start : start + len(raw)], f"seed {seed}")
                self.assertEqual(len(raw) % SECTOR, 0)
                torn = len(raw) % PAGE != 0
                self.assertFalse(torn and at_write != pending[-1][0], f"seed {seed}")
            ways.add(len(kept))
        self.assertIn(0, ways)
        self.assertIn(6, ways)

    def test_a_superblock_is_never_torn(self):
        for seed in range(100):
            for at, raw in survivors(random.Random(seed), [(0, bytes(PAGE))]):
                self.assertEqual((at, len(raw)), (0, PAGE))


if __name__ == "__main__":
    unittest.main()
