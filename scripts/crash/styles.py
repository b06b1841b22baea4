"""How the clients write, and the layouts of what they report; for both sides of the reports."""

import random
import struct
from dataclasses import dataclass

# A value: its producer, its count, and bytes that follow from the count.
VALUE = struct.Struct(">iq")
# An acknowledgement: count, partition, offset, mark.
ACK = struct.Struct(">qiqq")
# A polled record: partition, offset, record, mark.
READ = struct.Struct(">iqqq")
# What a member of a group did: kind, time, partition, offset, record, mark.
STEP = struct.Struct(">bqiqqq")
# A client's progress, and the recorder's position, in a shared file.
SLOT = struct.Struct("=q")

PADDING_MAX = 4096
POOL = random.Random(20).randbytes(1 << 17)


@dataclass(frozen=True)
class Style:
    """One way of writing."""

    idempotent: bool
    linger_ms: int
    codec: str
    bytes_min: int
    bytes_max: int
    # Records per second; 0 is as many as go.
    rate: int

    def settings(self):
        """What librdkafka is told."""
        return {
            "enable.idempotence": self.idempotent,
            "acks": "all" if self.idempotent else "1",
            "linger.ms": self.linger_ms,
            "compression.type": self.codec,
        }


STYLES = {
    "full": Style(True, 2, "none", 500, 1500, 0),
    "quick": Style(True, 0, "none", 20, 200, 1000),
    "packed": Style(True, 20, "lz4", 100, 3000, 1000),
    "acks1": Style(False, 5, "none", 100, 600, 1000),
}


def padding(count, size):
    """`size` bytes that follow from the count."""
    start = count * 7919 % (len(POOL) - PADDING_MAX)
    return POOL[start : start + size]


def value(style, producer, count):
    """A record's value."""
    size = style.bytes_min + count * 104_729 % (style.bytes_max - style.bytes_min)
    return VALUE.pack(producer, count) + padding(count, size)


def read_value(raw):
    """(producer, count) of a value, or None if its bytes are not what was sent."""
    if len(raw) < VALUE.size:
        return None
    producer, count = VALUE.unpack_from(raw)
    if count < 0 or producer < 0 or raw[VALUE.size :] != padding(count, len(raw) - VALUE.size):
        return None
    return producer, count
