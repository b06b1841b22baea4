"""kcat and Apache's console producer and consumer: clients that take and give lines of text.

Both write the text records of records.py. Which partition a record goes to is the client's choice,
so what is checked is that every record comes back once, equal, and in the order it was written.
"""

import subprocess
import time

from records import text_record

# Fields of a line apart from each other; no record has these bytes.
TAB = b"\t"
KCAT_HEADERS = [("trace", b"kcat"), ("trace", b"again")]


class Failed(Exception):
    """What was read is not what was written."""


def index_of(key, value):
    """The number of a record, from its value, or its key when the value is null."""
    return int((value or key).split(b"-")[1])


def check_lines(rows, lines, headers_of):
    """Checks (partition, offset, key, value, headers) of every line, in the order they were read."""
    last, ends, seen = {}, {}, set()
    for partition, offset, key, value, headers in lines:
        index = index_of(key, value)
        want = rows[index]
        if (want.key, want.value, headers_of(want)) != (key, value, headers):
            raise Failed(f"{partition}@{offset}: read {key, value, headers}, wrote {want}")
        if last.get(partition, -1) >= index:
            raise Failed(f"{partition}@{offset}: record {index} comes after {last[partition]}")
        if ends.get(partition, 0) != offset:
            raise Failed(f"partition {partition}: offset {offset}, due was {ends[partition]}")
        last[partition], ends[partition] = index, offset + 1
        seen.add(index)
    if len(seen) != len(rows):
        raise Failed(f"{len(rows) - len(seen)} of {len(rows)} records are missing")


def kcat(bootstrap, topic, codec, count, directory, seed=1):
    """Writes with one kcat and reads with another; returns the seconds of both."""
    rows = [text_record(seed, index) for index in range(count)]
    source = directory / "kcat.txt"
    if not source.exists():
        lines = ((row.key or b"") + TAB + (row.value or b"") for row in rows)
        source.write_bytes(b"\n".join(lines) + b"\n")
    began = time.monotonic()
    headers = [word for name, text in KCAT_HEADERS for word in ("-H", f"{name}={text.decode()}")]
    with open(source, "rb") as lines:
        subprocess.run(
            ["kcat", "-P", "-q", "-b", bootstrap, "-t", topic, "-K", "\t", "-Z", "-z", codec]
            + ["-X", "enable.idempotence=true", "-X", "linger.ms=5", *headers],
            stdin=lines,
            timeout=60,
            check=True,
        )
    written = time.monotonic()
    done = subprocess.run(
        ["kcat", "-C", "-q", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e"]
        + ["-X", "check.crcs=true", "-f", "%p\t%o\t%K\t%S\t%h\t%k\t%s\n"],
        capture_output=True,
        timeout=60,
        check=True,
    )

    def parse(line):
        partition, offset, key_size, value_size, headers, key, value = line.split(TAB, 6)
        pairs = [pair.split(b"=", 1) for pair in headers.split(b",")]
        return (
            int(partition),
            int(offset),
            None if key_size == b"-1" else key,
            None if value_size == b"-1" else value,
            [(name.decode(), text) for name, text in pairs],
        )

    lines = map(parse, done.stdout.splitlines())
    check_lines(rows, lines, lambda _: KCAT_HEADERS)
    return written - began, time.monotonic() - written


def console(tools, bootstrap, topic, codec, count, partitions, directory, seed=1):
    """Writes with ConsoleProducer and reads each partition with ConsoleConsumer."""
    rows = [text_record(seed, index) for index in range(count)]
    source = directory / "console.txt"
    if not source.exists():
        with open(source, "wb") as out:
            for row in rows:
                headers = b",".join(name.encode() + b":" + text for name, text in row.headers)
                fields = [headers or b"NULL", row.key or b"NULL", row.value or b"NULL"]
                out.write(TAB.join(fields) + b"\n")
    began = time.monotonic()
    words = ["--bootstrap-server", bootstrap, "--topic", topic, "--compression-codec", codec]
    for setting in ("parse.key=true", "parse.headers=true", "null.marker=NULL"):
        words += ["--reader-property", setting]
    tools.run("org.apache.kafka.tools.ConsoleProducer", *words, stdin=source).check()
    written = time.monotonic()
    lines = []
    for partition, end in enumerate(ends_of(bootstrap, topic, partitions)):
        if end == 0:
            continue
        words = ["--bootstrap-server", bootstrap, "--topic", topic]
        words += ["--partition", partition, "--offset", "earliest", "--max-messages", end]
        words += ["--timeout-ms", 20000]
        for field in ("partition", "offset", "headers", "key"):
            words += ["--formatter-property", f"print.{field}=true"]
        words += ["--formatter-property", "null.literal=NULL"]
        result = tools.run("org.apache.kafka.tools.consumer.ConsoleConsumer", *words).check()
        lines += result.out.encode().splitlines()

    def parse(line):
        partition, offset, headers, key, value = line.split(TAB)
        pairs = []
        if headers != b"NO_HEADERS":
            pairs = [pair.split(b":", 1) for pair in headers.split(b",")]
        return (
            int(partition.split(b":")[1]),
            int(offset.split(b":")[1]),
            None if key == b"NULL" else key,
            None if value == b"NULL" else value,
            [(name.decode(), text) for name, text in pairs],
        )

    check_lines(rows, map(parse, lines), lambda row: row.headers)
    return written - began, time.monotonic() - written


def ends_of(bootstrap, topic, partitions):
    """The log end of every partition."""
    from harness import protocol

    with protocol.Connection(bootstrap) as connection:
        return [protocol.list_offsets(connection, topic, p, -1)[2] for p in range(partitions)]
