"""Requests, answers and group records as dicts, by the message definitions inside Apache's jars.

The definitions are read from the jars that the tests run anyway, so every version of every field
can be sent and every answer compared field by field. Fields that a caller leaves out get their
default; a `Raw` value stands for bytes that are sent in place of a field, however wrong.
"""

import json
import re
import struct
import zipfile
from functools import lru_cache

from . import protocol
from .broker import KAFKA_JARS

_NUMBERS = {
    "int8": ">b",
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "float64": ">d",
}
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*')
NO_ID = "0" * 32


class Raw(bytes):
    """Bytes that are sent as they are in place of a field."""


@lru_cache(None)
def _definitions():
    """{message name: its definition}, of all jars that carry some."""
    found = {}
    for pattern in ("kafka-clients-*.jar", "kafka-group-coordinator-[0-9]*.jar"):
        for path in KAFKA_JARS.glob(pattern):
            with zipfile.ZipFile(path) as jar:
                for name in jar.namelist():
                    if name.startswith("common/message/") and name.endswith(".json"):
                        text = _COMMENT.sub(lambda m: m[1] or "", jar.read(name).decode())
                        row = json.loads(text)
                        found[row["name"]] = row
    return found


@lru_cache(None)
def apis():
    """{api key: name without Request}, of everything that clients ask."""
    rows = (row for row in _definitions().values() if row["type"] == "request")
    return {row["apiKey"]: row["name"].removesuffix("Request") for row in rows}


@lru_cache(None)
def key_of(name):
    """The API key of `name`, "JoinGroup" for instance."""
    return next(key for key, found in apis().items() if found == name)


@lru_cache(None)
def _span(text):
    """(lowest, highest) of "3", "1+", "0-4" and "none"."""
    if text == "none":
        return 1, 0
    if text.endswith("+"):
        return int(text[:-1]), 1 << 15
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _within(text, version):
    low, high = _span(text)
    return low <= version <= high


def versions(name):
    """The versions of API `name` that are released, as a range."""
    low, high = _span(_definitions()[name + "Request"]["validVersions"])
    return range(low, high + 1)


def flexible(message, version):
    """Whether `message` has compact lengths and tags in this version."""
    return _within(_definitions()[message].get("flexibleVersions", "none"), version)


class _Codec:
    """One message in one version."""

    def __init__(self, message, version):
        self.row, self.version = _definitions()[message], version
        self.compact = flexible(message, version)
        self.structs = {row["name"]: row["fields"] for row in self.row.get("commonStructs", [])}

    def fields_of(self, field, kind):
        return field.get("fields") or self.structs[kind]

    def nullable(self, field):
        return _within(field.get("nullableVersions", "none"), self.version)

    def default(self, field):
        kind, value = field["type"], field.get("default")
        if value == "null":
            return None
        if kind.startswith("[]"):
            return []
        if kind in _NUMBERS:
            return int(str(value or 0), 0) if kind != "float64" else float(value or 0)
        if kind == "bool":
            return value in (True, "true")
        return {"string": value or "", "bytes": b"", "records": b"", "uuid": NO_ID}.get(kind, {})

    # ---- encoding

    def length(self, count, wide):
        if self.compact:
            return protocol.uvarint(0 if count is None else count + 1)
        return (protocol.int32 if wide else protocol.int16)(-1 if count is None else count)

    def encode_struct(self, fields, values):
        known = {field["name"] for field in fields}
        if unknown := set(values) - known:
            raise KeyError(f"{self.row['name']} has no {sorted(unknown)}")
        out, tagged = b"", []
        for field in fields:
            name = field["name"]
            if not _within(field["versions"], self.version):
                continue
            value = values.get(name, self.default(field))
            if "tag" in field and _within(field.get("taggedVersions", "none"), self.version):
                if value != self.default(field):
                    tagged.append((field["tag"], self.encode_tagged(field, value)))
                continue
            out += self.encode_value(field, field["type"], value)
        if self.compact:
            out += protocol.uvarint(len(tagged))
            for tag, raw in sorted(tagged):
                out += protocol.uvarint(tag) + protocol.uvarint(len(raw)) + raw
        return out

    def tagged_struct(self, field):
        """Whether a tagged field says by a number of its own that it is null."""
        kind = field["type"]
        return self.nullable(field) and ("fields" in field or kind in self.structs) and kind[0] != "["

    def encode_tagged(self, field, value):
        if not self.tagged_struct(field):
            return self.encode_value(field, field["type"], value)
        if value is None:
            return b"\0"
        return b"\1" + self.encode_struct(self.fields_of(field, field["type"]), value)

    def encode_value(self, field, kind, value):
        if isinstance(value, Raw):
            return bytes(value)
        if kind in _NUMBERS:
            return struct.pack(_NUMBERS[kind], value)
        if kind == "bool":
            return b"\1" if value else b"\0"
        if kind == "uuid":
            return bytes.fromhex(value)
        if kind == "string":
            raw = value.encode() if isinstance(value, str) else value
            return self.length(None if raw is None else len(raw), False) + (raw or b"")
        if kind in ("bytes", "records"):
            return self.length(None if value is None else len(value), True) + (value or b"")
        if kind.startswith("[]"):
            if value is None:
                return self.length(None, True)
            inner = kind[2:]
            rows = [self.encode_value(field, inner, row) for row in value]
            return self.length(len(rows), True) + b"".join(rows)
        if self.nullable(field) and not field["type"].startswith("[]"):
            if value is None:
                return b"\xff"
            return b"\1" + self.encode_struct(self.fields_of(field, kind), value)
        return self.encode_struct(self.fields_of(field, kind), value)

    # ---- decoding

    def read_length(self, reader, wide):
        if self.compact:
            return reader.uvarint() - 1
        return reader.int32() if wide else reader.int16()

    def decode_struct(self, fields, reader):
        values, tagged = {}, {}
        for field in fields:
            if not _within(field["versions"], self.version):
                continue
            if "tag" in field and _within(field.get("taggedVersions", "none"), self.version):
                tagged[field["tag"]] = field
                values[field["name"]] = self.default(field)
                continue
            values[field["name"]] = self.decode_value(field, field["type"], reader)
        if self.compact:
            for _ in range(reader.uvarint()):
                tag, size = reader.uvarint(), reader.uvarint()
                raw = reader.take(size)
                if tag in tagged:
                    field = tagged[tag]
                    inner = protocol.Reader(raw)
                    values[field["name"]] = self.decode_tagged(field, inner)
                else:
                    values[f"tag {tag}"] = raw
        return values

    def decode_tagged(self, field, reader):
        if not self.tagged_struct(field):
            return self.decode_value(field, field["type"], reader)
        if reader.uvarint() == 0:
            return None
        return self.decode_struct(self.fields_of(field, field["type"]), reader)

    def decode_value(self, field, kind, reader):
        if kind in _NUMBERS:
            size = struct.calcsize(_NUMBERS[kind])
            return struct.unpack(_NUMBERS[kind], reader.take(size))[0]
        if kind == "bool":
            return reader.int8() != 0
        if kind == "uuid":
            return reader.take(16).hex()
        if kind == "string":
            size = self.read_length(reader, False)
            return None if size < 0 else reader.take(size).decode(errors="replace")
        if kind in ("bytes", "records"):
            size = self.read_length(reader, True)
            return None if size < 0 else reader.take(size)
        if kind.startswith("[]"):
            size = self.read_length(reader, True)
            if size < 0:
                return None
            return [self.decode_value(field, kind[2:], reader) for _ in range(size)]
        single = not field["type"].startswith("[]")
        if single and self.nullable(field) and reader.int8() < 0:
            return None
        return self.decode_struct(self.fields_of(field, kind), reader)


def encode(message, version, values):
    """The bytes of `message` ("JoinGroupRequest", "OffsetCommitValue") in this version."""
    codec = _Codec(message, version)
    return codec.encode_struct(codec.row["fields"], values)


def decode(message, version, raw):
    """The fields of `raw`; bytes that are left over are an error."""
    codec, reader = _Codec(message, version), protocol.Reader(raw)
    values = codec.decode_struct(codec.row["fields"], reader)
    if reader.at != len(raw):
        raise ValueError(f"{message} v{version}: {len(raw) - reader.at} bytes left over")
    return values


def request(name, version, correlation, values, client="wire"):
    """A whole request frame."""
    head = struct.pack(">hhi", key_of(name), version, correlation) + protocol.string(client)
    head += b"\0" if flexible(name + "Request", version) else b""
    return protocol.frame(head + encode(name + "Request", version, values))


def answer(name, version, raw):
    """(correlation id, fields) of an answer's frame without its length."""
    (correlation,) = struct.unpack_from(">i", raw)
    reader = protocol.Reader(raw[4:])
    if flexible(name + "Response", version) and name != "ApiVersions":
        reader.tags()
    return correlation, decode(name + "Response", version, raw[4 + reader.at :])


def call(connection, name, version, values, client="wire"):
    """Asks and returns the fields of the answer."""
    connection.correlation += 1
    connection.send(request(name, version, connection.correlation, values, client))
    got, fields = answer(name, version, connection.answer())
    if got != connection.correlation:
        raise ValueError(f"correlation id {got} where {connection.correlation} was asked")
    return fields


# ---- records of __consumer_offsets --------------------------------------------------------------


@lru_cache(None)
def _record_kinds():
    """{number at the beginning of a key: name without Key}."""
    rows = _definitions().values()
    return {
        row["apiKey"]: row["name"].removesuffix("Key")
        for row in rows
        if row["type"] == "coordinator-key"
    }


def group_key(key):
    """(kind, fields) of a record's key."""
    (number,) = struct.unpack_from(">h", key)
    kind = _record_kinds()[number]
    return kind, decode(kind + "Key", 0, key[2:])


def group_value(kind, value):
    """(version, fields) of a record's value; Nones for a tombstone.

    A value whose bytes are not those that its fields encode to is an error.
    """
    if value is None:
        return None, None
    (version,) = struct.unpack_from(">h", value)
    values = decode(kind + "Value", version, value[2:])
    if encode(kind + "Value", version, values) != value[2:]:
        raise ValueError(f"{kind} v{version}: {value!r} is not what its fields encode to")
    return version, values
