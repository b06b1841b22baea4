"""The records that every test client writes and reads back: each follows from a seed and its index.

The same rules stand in RecordsClient.java and franz/main.go, so that what one client wrote can be
checked by any other; the digest they print is over the same bytes in the same order.
"""

import hashlib
import struct
from collections import namedtuple

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
MASK = (1 << 64) - 1
FIRST_TIMESTAMP_MS = 1_700_000_000_000

Record = namedtuple("Record", "key value timestamp headers")


def mix(seed):
    """splitmix64."""
    z = (seed + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def record(seed, index):
    """Record number `index`: null and empty keys and values, bytes of all kinds, header keys twice.

    kafka-python refuses to write null header values, and records with neither key nor value: even
    seeds have neither.
    """
    h = mix((seed + index) & MASK)
    raw = struct.pack("<Q", h)
    if h & 7 == 0:
        key = None
    elif h & 7 == 1:
        key = b""
    else:
        key = b"key-%d" % index
    kind = (h >> 3) & 15
    if kind == 0:
        value = None if seed % 2 or key is not None else b""
    elif kind == 1:
        value = b""
    else:
        size = (h >> 8) % 200
        value = b"value-%d-" % index + (raw * (size // 8 + 1))[:size]
    nil = ("nil", None if seed % 2 else b"")
    headers = [("trace", b"%d" % index), ("trace", raw[:4]), nil][: (h >> 40) % 4]
    return Record(key, value, FIRST_TIMESTAMP_MS + (h >> 20) % 1_000_000, headers)


def text_record(seed, index):
    """A record for clients that take one line of text: no empty fields, never key and value null."""
    h = mix((seed + index) & MASK)
    key = None if h & 7 == 0 else b"key-%d" % index
    size = (h >> 8) % 200
    value = b"value-%d-" % index + ((b"%016x" % h) * (size // 16 + 1))[:size]
    if key is not None and (h >> 3) & 15 == 0:
        value = None
    headers = [("trace", b"%d" % index), ("trace", b"%016x" % h)][: (h >> 40) % 3]
    return Record(key, value, None, headers)


class Checker:
    """Compares the records of one topic, as they are read, with what was to be written.

    Record `i` belongs to partition `i % partitions`, at offset `i // partitions`.
    """

    def __init__(self, expected, partitions):
        self.expected, self.partitions = expected, partitions
        self.next = [0] * partitions
        self.digests = [hashlib.sha256() for _ in range(partitions)]
        self.left = len(expected)

    def see(self, partition, offset, key, value, timestamp, headers):
        """One record was read."""
        at = self.next[partition]
        if offset != at:
            raise SystemExit(f"partition {partition}: offset {offset} where {at} was due")
        index = at * self.partitions + partition
        if index >= len(self.expected):
            raise SystemExit(f"partition {partition}: one record too many at {offset}")
        want, got = self.expected[index], (key, value, timestamp, headers)
        if want != got:
            raise SystemExit(f"partition {partition} offset {offset}: read {got}, wrote {want}")
        self.next[partition] = at + 1
        self.left -= 1
        self.digests[partition].update(digest_bytes(want))

    def digest(self):
        """One digest over all partitions."""
        if self.left:
            raise SystemExit(f"{self.left} records are missing")
        return hashlib.sha256(b"".join(d.digest() for d in self.digests)).hexdigest()[:16]


def digest_bytes(record):
    """What goes into the digest for one record: sizes (-1 for null) and bytes of every field."""
    parts = []
    for field in (record.key, record.value):
        parts.append(struct.pack(">i", -1 if field is None else len(field)))
        parts.append(field or b"")
    parts.append(struct.pack(">qi", record.timestamp, len(record.headers)))
    for name, content in record.headers:
        parts.append(struct.pack(">i", len(name)) + name.encode())
        parts.append(struct.pack(">i", -1 if content is None else len(content)))
        parts.append(content or b"")
    return b"".join(parts)


def arguments(description):
    """The command line that all Python clients share."""
    import argparse

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bootstrap", required=True, help="HOST:PORT")
    parser.add_argument("--prefix", required=True, help="topics are PREFIX-CODEC")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--mode", default="write,read")
    return parser.parse_args()
