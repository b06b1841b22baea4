"""The Kafka protocol by hand: frames, the few requests the tests need, and record batches.

Only what a test needs to say exactly which bytes it sends; no client library and no dependencies.
"""

import socket
import struct
import time
from dataclasses import dataclass, field

# First flexible version of the APIs that are sent here (request header v2 from there on).
FLEXIBLE = {0: 9, 1: 12, 2: 6, 3: 9, 18: 3, 19: 5, 20: 4, 21: 2, 22: 2, 23: 4, 32: 4, 35: 2, 37: 2}


class Closed(Exception):
    """The broker closed the connection."""


def int8(value):
    return struct.pack(">b", value)


def int16(value):
    return struct.pack(">h", value)


def int32(value):
    return struct.pack(">i", value)


def int64(value):
    return struct.pack(">q", value)


def uvarint(value):
    out = bytearray()
    while value >= 128:
        out.append((value & 127) | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value):
    return uvarint(((value << 1) ^ (value >> 63)) & 0xFFFFFFFFFFFFFFFF)


def string(text):
    if text is None:
        return int16(-1)
    raw = text if isinstance(text, bytes) else text.encode()
    return int16(len(raw)) + raw


def compact_string(text):
    if text is None:
        return b"\0"
    raw = text if isinstance(text, bytes) else text.encode()
    return uvarint(len(raw) + 1) + raw


def byte_string(raw):
    return int32(-1) if raw is None else int32(len(raw)) + raw


def compact_bytes(raw):
    return b"\0" if raw is None else uvarint(len(raw) + 1) + raw


def array(items):
    return int32(len(items)) + b"".join(items)


def compact_array(items):
    return uvarint(len(items) + 1) + b"".join(items)


class Reader:
    """Reads an answer from its beginning."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.raw):
            raise ValueError(f"answer ends at {len(self.raw)}, wanted {count} bytes at {self.at}")
        self.at += count
        return self.raw[self.at - count : self.at]

    def int8(self):
        return struct.unpack(">b", self.take(1))[0]

    def int16(self):
        return struct.unpack(">h", self.take(2))[0]

    def int32(self):
        return struct.unpack(">i", self.take(4))[0]

    def int64(self):
        return struct.unpack(">q", self.take(8))[0]

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def varint(self):
        raw = self.uvarint()
        return (raw >> 1) ^ -(raw & 1)

    def string(self):
        size = self.int16()
        return None if size < 0 else self.take(size).decode(errors="replace")

    def compact_string(self):
        size = self.uvarint()
        return None if size == 0 else self.take(size - 1).decode(errors="replace")

    def byte_string(self):
        size = self.int32()
        return None if size < 0 else self.take(size)

    def compact_bytes(self):
        size = self.uvarint()
        return None if size == 0 else self.take(size - 1)

    def array(self, one):
        return [one() for _ in range(max(0, self.int32()))]

    def compact_array(self, one):
        return [one() for _ in range(max(0, self.uvarint() - 1))]

    def tags(self):
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())


def header(key, version, correlation, client="wire"):
    """A request header, v1 or v2 by API and version."""
    flexible = version >= FLEXIBLE.get(key, 1 << 15)
    return (
        int16(key)
        + int16(version)
        + int32(correlation)
        + string(client)
        + (b"\0" if flexible else b"")
    )


def frame(payload):
    return int32(len(payload)) + payload


class Connection:
    """One socket; answers are read in the order of the questions."""

    def __init__(self, bootstrap, timeout=10.0):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def send(self, raw):
        try:
            self.socket.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def read(self, count):
        parts = []
        while count:
            try:
                part = self.socket.recv(min(count, 1 << 20))
            except ConnectionResetError:
                raise Closed from None
            if not part:
                raise Closed
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def answer(self):
        """The next frame, without its length."""
        (size,) = struct.unpack(">i", self.read(4))
        return self.read(size)

    def ask(self, key, version, body, client="wire"):
        """Sends a request without waiting; returns its correlation id."""
        self.correlation += 1
        self.send(frame(header(key, version, self.correlation, client) + body))
        return self.correlation

    def call(self, key, version, body, client="wire"):
        """Sends a request and returns the body of its answer as a `Reader`."""
        asked = self.ask(key, version, body, client)
        reader = Reader(self.answer())
        got = reader.int32()
        if got != asked:
            raise ValueError(f"correlation id {got} where {asked} was asked")
        # Answers of flexible versions have header v1, those of ApiVersions never.
        if version >= FLEXIBLE.get(key, 1 << 15) and key != 18:
            reader.tags()
        return reader

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- requests -----------------------------------------------------------------------------------


def api_versions(connection):
    """{key: (lowest, highest)} by ApiVersions v0."""
    reader = connection.call(18, 0, b"")
    if error := reader.int16():
        raise ValueError(f"ApiVersions answered {error}")
    rows = reader.array(lambda: (reader.int16(), reader.int16(), reader.int16()))
    return {key: (low, high) for key, low, high in rows}


def metadata(connection, topics):
    """Metadata v12; `topics` is a list of names, or None for all."""
    zero = bytes(16)
    rows = None
    if topics is not None:
        rows = compact_array([zero + compact_string(name) + b"\0" for name in topics])
    reader = connection.call(3, 12, (rows if rows is not None else b"\0") + b"\0\0\0")
    reader.int32()
    brokers = reader.compact_array(
        lambda: (
            reader.int32(),
            reader.compact_string(),
            reader.int32(),
            reader.compact_string(),
            reader.tags(),
        )[:3]
    )
    cluster = reader.compact_string()
    controller = reader.int32()

    def partition():
        row = {"error": reader.int16(), "index": reader.int32(), "leader": reader.int32()}
        row["leader_epoch"] = reader.int32()
        row["replicas"] = reader.compact_array(reader.int32)
        row["in_sync"] = reader.compact_array(reader.int32)
        row["offline"] = reader.compact_array(reader.int32)
        reader.tags()
        return row

    def topic():
        row = {"error": reader.int16(), "name": reader.compact_string(), "id": reader.take(16)}
        row["internal"] = reader.int8()
        row["partitions"] = reader.compact_array(partition)
        reader.int32()
        reader.tags()
        return row

    found = reader.compact_array(topic)
    return {"brokers": brokers, "cluster": cluster, "controller": controller, "topics": found}


def create_topic(connection, name, partitions=1, configs=None, wait=True):
    """CreateTopics v4; returns the error code. With `wait`, until leaders are known."""
    rows = [string(key) + string(str(value)) for key, value in (configs or {}).items()]
    topic = string(name) + int32(partitions) + int16(1) + array([]) + array(rows)
    reader = connection.call(19, 4, array([topic]) + int32(30000) + int8(0))
    reader.int32()
    errors = reader.array(lambda: (reader.string(), reader.int16(), reader.string()))
    code = errors[0][1]
    if wait and code == 0:
        wait_topic(connection, name, partitions)
    return code


def wait_topic(connection, name, partitions, seconds=10):
    """Waits until every partition of the topic has a leader."""
    end = time.monotonic() + seconds
    led = set()
    while time.monotonic() < end:
        topic = metadata(connection, [name])["topics"][0]
        if topic["error"] == 0 and len(topic["partitions"]) == partitions:
            indexes = {row["index"] for row in topic["partitions"] if row["error"] == 0}
            # The controller may know the leader before the leader knows itself.
            for index in sorted(indexes - led):
                if list_offsets(connection, name, index, -1)[0]:
                    break
                led.add(index)
            if len(led) == partitions:
                return topic
        time.sleep(0.02)
    raise ValueError(f"topic {name} has no leaders after {seconds} s")


def delete_topic(connection, name):
    """DeleteTopics v1; returns the error code."""
    reader = connection.call(20, 1, array([string(name)]) + int32(30000))
    reader.int32()
    rows = reader.array(lambda: (reader.string(), reader.int16()))
    return rows[0][1] if rows else None


def produce_body(topic, partition, records, acks=-1, transactional=None, timeout_ms=10000):
    """Body of Produce v3..v8."""
    part = int32(partition) + byte_string(records)
    return (
        string(transactional)
        + int16(acks)
        + int32(timeout_ms)
        + array([string(topic) + array([part])])
    )


def produce(connection, topic, partition, records, acks=-1, version=8):
    """Produce; returns the one partition's answer as a dict."""
    reader = connection.call(0, version, produce_body(topic, partition, records, acks))
    return read_produce(reader, version)


def read_produce(reader, version=8):
    """Answer of Produce v3..v8 with one partition."""
    reader.int32()
    reader.string()
    reader.int32()
    row = {"partition": reader.int32(), "error": reader.int16(), "base": reader.int64()}
    row["append_time"] = reader.int64()
    if version >= 5:
        row["log_start"] = reader.int64()
    if version >= 8:
        row["records"] = reader.array(lambda: (reader.int32(), reader.string()))
        row["message"] = reader.string()
    return row


def list_offsets(connection, topic, partition, timestamp, version=5, epoch=-1, replica=-1):
    """ListOffsets v4..v5 (and by hand up to 5); returns (error, timestamp, offset, leader epoch)."""
    row = int32(partition) + int32(epoch) + int64(timestamp)
    body = int32(replica) + int8(0) + array([string(topic) + array([row])])
    reader = connection.call(2, version, body)
    reader.int32()
    reader.int32()
    reader.string()
    reader.int32()
    reader.int32()
    return reader.int16(), reader.int64(), reader.int64(), reader.int32()


def fetch_body(rows, max_wait_ms=500, min_bytes=1, max_bytes=1 << 26, session=(0, -1)):
    """Body of Fetch v11; rows are (topic, partition, leader epoch, offset, partition bytes)."""
    topics = [
        string(topic)
        + array([int32(index) + int32(epoch) + int64(offset) + int64(-1) + int32(size)])
        for topic, index, epoch, offset, size in rows
    ]
    return (
        int32(-1)
        + int32(max_wait_ms)
        + int32(min_bytes)
        + int32(max_bytes)
        + int8(0)
        + int32(session[0])
        + int32(session[1])
        + array(topics)
        + array([])
        + string("")
    )


def read_fetch(reader):
    """Answer of Fetch v11."""
    reader.int32()
    out = {"error": reader.int16(), "session": reader.int32(), "partitions": []}

    def partition(topic):
        row = {"topic": topic, "partition": reader.int32(), "error": reader.int16()}
        row["high_watermark"] = reader.int64()
        row["last_stable"] = reader.int64()
        row["log_start"] = reader.int64()
        reader.array(lambda: (reader.int64(), reader.int64()))
        reader.int32()
        row["records"] = reader.byte_string() or b""
        return row

    def topic():
        name = reader.string()
        out["partitions"] += reader.array(lambda: partition(name))

    reader.array(topic)
    return out


def fetch(connection, topic, partition, offset, epoch=-1, size=1 << 20, max_wait_ms=500):
    """Fetch v11 of one partition, without a session; returns that partition's answer."""
    body = fetch_body([(topic, partition, epoch, offset, size)], max_wait_ms)
    answer = read_fetch(connection.call(1, 11, body))
    return answer["partitions"][0]


# ---- record batches -----------------------------------------------------------------------------


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def crc32c(raw):
    """CRC-32C, the checksum of record batches."""
    crc = 0xFFFFFFFF
    table = _CRC
    for byte in raw:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def record(index, key=None, value=b"v", timestamp_delta=0, headers=()):
    """One record of a batch, with its length."""
    body = int8(0) + varint(timestamp_delta) + varint(index)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name
        body += varint(-1) if content is None else varint(len(content)) + content
    return varint(len(body)) + body


@dataclass
class Batch:
    """A record batch of which every field can be set wrong."""

    values: list = field(default_factory=lambda: [b"v"])
    base_offset: int = 0
    leader_epoch: int = -1
    magic: int = 2
    attributes: int = 0
    timestamp: int = 1_700_000_000_000
    max_timestamp: int = None
    producer_id: int = -1
    producer_epoch: int = -1
    sequence: int = -1
    last_offset_delta: int = None
    count: int = None
    crc: int = None
    length_added: int = 0
    keys: list = None
    raw_records: bytes = None

    def encode(self):
        """The batch's bytes."""
        keys = self.keys or [None] * len(self.values)
        records = self.raw_records
        if records is None:
            pairs = enumerate(zip(keys, self.values, strict=True))
            records = b"".join(record(index, key, value) for index, (key, value) in pairs)
        count = len(self.values) if self.count is None else self.count
        last = len(self.values) - 1 if self.last_offset_delta is None else self.last_offset_delta
        newest = self.timestamp if self.max_timestamp is None else self.max_timestamp
        checked = (
            int16(self.attributes)
            + int32(last)
            + int64(self.timestamp)
            + int64(newest)
            + int64(self.producer_id)
            + int16(self.producer_epoch)
            + int32(self.sequence)
            + int32(count)
            + records
        )
        crc = crc32c(checked) if self.crc is None else self.crc
        tail = int32(self.leader_epoch) + int8(self.magic) + struct.pack(">I", crc) + checked
        return int64(self.base_offset) + int32(len(tail) + self.length_added) + tail


def batches(raw):
    """The headers of the whole batches in `raw`: dicts with base, last, count, producer, ..."""
    at = 0
    while at + 61 <= len(raw):
        base, size = struct.unpack_from(">qi", raw, at)
        if at + 12 + size > len(raw):
            return
        epoch, magic, crc, attributes, last = struct.unpack_from(">ibIhi", raw, at + 12)
        first_ts, newest, producer, producer_epoch, sequence, count = struct.unpack_from(
            ">qqqhii", raw, at + 27
        )
        yield {
            "base": base,
            "last": base + last,
            "leader_epoch": epoch,
            "magic": magic,
            "crc": crc,
            "attributes": attributes,
            "first_timestamp": first_ts,
            "max_timestamp": newest,
            "producer": producer,
            "producer_epoch": producer_epoch,
            "sequence": sequence,
            "count": count,
            "raw": raw[at : at + 12 + size],
        }
        at += 12 + size
