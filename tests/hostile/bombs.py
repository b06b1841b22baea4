"""Record batches that unpack to very much more than they are, one for each codec.

The records are sound: one record whose value is all zeros. Streams are written by hand where Python
has no codec, so that the tests need no packages.
"""

import struct
import zlib

from harness.protocol import Batch, int8, uvarint, varint

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
NAMES = {"gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
LZ4_BLOCK_BYTES = 4 << 20
ZSTD_BLOCK_BYTES = 128 << 10


def record_parts(value_bytes):
    """What stands before the zeros of the one record; one zero more, for no headers, ends it."""
    head = int8(0) + varint(0) + varint(0) + varint(-1) + varint(value_bytes)
    return varint(len(head) + value_bytes + 1) + head, value_bytes + 1


def gzipped(head, zeros):
    """RFC 1952."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = [packer.compress(head)]
    piece = bytes(1 << 20)
    for _ in range(zeros >> 20):
        out.append(packer.compress(piece))
    out.append(packer.compress(bytes(zeros & ((1 << 20) - 1))))
    return b"".join(out) + packer.flush()


def snapped(head, zeros):
    """A bare snappy block: literals, then copies of the byte before."""
    literal = head + b"\0"
    out = [uvarint(len(head) + zeros), bytes([(len(literal) - 1) << 2]), literal]
    left = zeros - 1
    copy = bytes([(63 << 2) | 2]) + struct.pack("<H", 1)
    out.append(copy * (left // 64))
    if left % 64:
        out.append(bytes([((left % 64 - 1) << 2) | 2]) + struct.pack("<H", 1))
    return b"".join(out)


def xxhash32_of_few(raw):
    """xxHash32 with seed 0 of less than four bytes: what an LZ4 frame's header is checked by."""
    mask = 0xFFFFFFFF
    value = (374761393 + len(raw)) & mask
    for byte in raw:
        value = (value + byte * 374761393) & mask
        value = (((value << 11) | (value >> 21)) * 2654435761) & mask
    value = ((value ^ (value >> 15)) * 2246822519) & mask
    value = ((value ^ (value >> 13)) * 3266489917) & mask
    return value ^ (value >> 16)


def lz4_block(literal, zeros):
    """Literals, copies of the last one, and five literals, as every block has to end."""

    def more(length):
        return b"\xff" * (length // 255) + bytes([length % 255])

    matched = zeros - 5 - 4
    token = (min(len(literal), 15) << 4) | 15
    first = more(len(literal) - 15) if len(literal) >= 15 else b""
    out = bytes([token]) + first + literal + struct.pack("<H", 1) + more(matched - 15)
    return out + bytes([5 << 4]) + bytes(5)


def lz4ed(head, zeros):
    """An LZ4 frame of independent blocks."""
    descriptor = bytes([0x60, 0x70])
    check = (xxhash32_of_few(descriptor) >> 8) & 255
    out = [struct.pack("<I", 0x184D2204), descriptor, bytes([check])]
    literal, left = head + b"\0", zeros - 1
    while left:
        step = min(left, LZ4_BLOCK_BYTES - len(literal))
        if step < 64:
            # Too few for a copy: a block that is not packed.
            block = literal + bytes(step)
            out.append(struct.pack("<I", len(block) | 0x80000000) + block)
        else:
            block = lz4_block(literal, step)
            out.append(struct.pack("<I", len(block)) + block)
        left -= step
        if left:
            literal, left = b"\0", left - 1
            if not left:
                out.append(struct.pack("<I", 1 | 0x80000000) + b"\0")
    return b"".join(out) + bytes(4)


def zstded(head, zeros):
    """A zstd frame: one block as it is, then blocks of one byte that is repeated."""

    def block_header(size, kind, is_last):
        return struct.pack("<I", (size << 3) | (kind << 1) | is_last)[:3]

    # No content size, a window of 2 MiB.
    out = [struct.pack("<I", 0xFD2FB528), bytes([0, 11 << 3])]
    out.append(block_header(len(head), 0, 0) + head)
    left = zeros
    while left:
        step = min(left, ZSTD_BLOCK_BYTES)
        left -= step
        out.append(block_header(step, 1, 1 if left == 0 else 0) + b"\0")
    return b"".join(out)


PACKERS = {GZIP: gzipped, SNAPPY: snapped, LZ4: lz4ed, ZSTD: zstded}


def bomb(codec, value_bytes, timestamp=1_700_000_000_000):
    """A batch of one record with so many zeros, packed."""
    head, zeros = record_parts(value_bytes)
    packed = PACKERS[codec](head, zeros)
    return Batch(values=[b""], attributes=codec, raw_records=packed, timestamp=timestamp).encode()
