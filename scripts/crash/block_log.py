"""A recording of block writes, and the images a power loss at some point of it may leave.

A recording is a file of entries: a write (where, and its bytes), or a barrier: a flush that ended,
so that every write before it is on the disk for good. An image for a cut after `count` entries has
all writes before the last barrier, and of those after it what chance keeps: whole writes, single
pages of them, none or all; the last one is torn at a sector.

The entry of a flush is written when its answer is sent, all earlier writes were answered before;
so a position that is read after an acknowledgement arrived lies behind all that it promised.
"""

import os
import struct

ENTRY = struct.Struct("=BQI")
WRITE, BARRIER = 1, 2
SECTOR = 512
PAGE = 4096
# A superblock that is torn within itself needs a repair on any ext4: disks write 4 KiB at once.
WHOLE_END = PAGE


def entries(file, start=0, count=None):
    """(kind, offset, bytes) of the entries from byte `start` of the recording on."""
    file.seek(start)
    while count is None or count > 0:
        head = file.read(ENTRY.size)
        if len(head) < ENTRY.size:
            return
        kind, offset, size = ENTRY.unpack(head)
        yield kind, offset, file.read(size)
        count = None if count is None else count - 1


class Replay:
    """Images of growing prefixes of one recording; `base` holds what is on the disk for good."""

    def __init__(self, recording, base):
        self.file, self.base = open(recording, "rb"), os.open(base, os.O_RDWR)
        # Entries, and bytes of the recording, that are in the base.
        self.count = self.at = 0

    def advance(self, count):
        """Takes the base on to the last barrier within `count` entries; the writes behind it."""
        pending, at = [], self.at
        for kind, offset, raw in entries(self.file, self.at, count - self.count):
            at += ENTRY.size + len(raw)
            if kind == WRITE:
                pending.append((offset, raw))
                continue
            for place, part in pending:
                os.pwrite(self.base, part, place)
            self.count += len(pending) + 1
            self.at, pending = at, []
        return pending

    def close(self):
        self.file.close()
        os.close(self.base)


def survivors(source, pending):
    """What a power loss leaves of writes that no barrier covers: (offset, bytes) in their order."""
    way = source.choice(["all", "none", "writes", "pages", "writes", "pages"])
    share = source.random()
    last = len(pending) - 1
    for index, (offset, raw) in enumerate(pending):
        if way == "none" or (way == "writes" and source.random() > share):
            continue
        if index == last and offset >= WHOLE_END:
            raw = raw[: source.randrange(0, len(raw) + 1, SECTOR)]
        if way != "pages":
            if raw:
                yield offset, raw
            continue
        for start in range(0, len(raw), PAGE):
            if source.random() <= share:
                yield offset + start, raw[start : start + PAGE]
