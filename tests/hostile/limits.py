"""Settings that bound what peers may take: each is tried at its bound and one beyond.

Every check is a function of no arguments that starts a broker of its own and returns words on what
it saw; a wrong outcome is an AssertionError.
"""

import contextlib
import socket
import time
from pathlib import Path

from confluent_kafka import Consumer
from harness import broker, protocol
from harness.protocol import Closed, Connection, int32

from . import requests

CHECKS = []
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "configuration.md"
COORDINATOR_NOT_AVAILABLE = 15
MEMBER_SECONDS = 10
SILENCE_SECONDS = 0.5
ANSWER_SECONDS_MAX = 10


def works(setting):
    """Whether the reference says that the setting has an effect."""
    return f"\n### `{setting.split(',')[0]}`\n" in REFERENCE.read_text()


def check(setting):
    """Adds a function to `CHECKS`."""

    def add(function):
        CHECKS.append((setting, function))
        return function

    return add


@contextlib.contextmanager
def running(**properties):
    """A broker with these settings; it has to end well, too."""
    found = broker.Corelog(properties={k.replace("_", "."): v for k, v in properties.items()})
    try:
        yield found.start()
        found.stop()
        assert found.exit_code == 0, f"the broker ended with {found.exit_code}"
    finally:
        found.kill()


def state(connection, seconds):
    """What a connection gets within that time: "answered", "silent" or "closed"."""
    connection.socket.settimeout(seconds)
    try:
        connection.answer()
        return "answered"
    except TimeoutError:
        return "silent"
    except (Closed, OSError):
        return "closed"


def opened(found, stack, raw=None):
    """A connection that is closed with the stack, having sent `raw` (or asked for versions)."""
    connection = stack.enter_context(Connection(found.bootstrap, timeout=ANSWER_SECONDS_MAX))
    connection.send(requests.api_versions() if raw is None else raw)
    return connection


def states(connections, seconds):
    """How many of them are in which state, after so long at most."""
    until = time.monotonic() + seconds
    rows = [state(row, max(0.01, until - time.monotonic())) for row in connections]
    return {name: rows.count(name) for name in sorted(set(rows))}


@check("max.connections")
def max_connections():
    """Those beyond wait in the kernel, and are served once others are gone."""
    bound, more = 40, 10
    with running(max_connections=bound) as found, contextlib.ExitStack() as stack:
        time.sleep(0.3)
        first = [opened(found, stack) for _ in range(bound)]
        seen = states(first, ANSWER_SECONDS_MAX)
        assert seen == {"answered": bound}, f"of the first {bound}: {seen}"
        behind = [opened(found, stack) for _ in range(more)]
        seen = states(behind, SILENCE_SECONDS)
        assert seen == {"silent": more}, f"of {more} beyond {bound}: {seen}"
        for row in first[:3]:
            row.close()
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        served = set()
        while len(served) < 3 and time.monotonic() < deadline:
            late = (row for row in behind if row not in served)
            served |= {row for row in late if state(row, 0.05) == "answered"}
        time.sleep(SILENCE_SECONDS)
        late = [row for row in behind if row not in served]
        seen = states(late, SILENCE_SECONDS)
        assert len(served) == 3, f"3 went, and {len(served)} were served"
        assert seen == {"silent": more - 3}, f"of those that still wait: {seen}"
        return f"{bound} are served, {more} wait, 3 go and 3 are served"


@check("max.connections, all at once")
def max_connections_at_once():
    """The bound holds too when all cores accept at the same time."""
    bound, rounds = 20, 5
    with running(max_connections=bound) as found:
        for _ in range(rounds):
            time.sleep(0.3)
            with contextlib.ExitStack() as stack:
                rows = []
                for _ in range(4 * bound):
                    row = stack.enter_context(socket.socket())
                    row.setblocking(False)
                    row.connect_ex(("127.0.0.1", found.port))
                    rows.append(row)
                time.sleep(0.3)
                for row in rows:
                    with contextlib.suppress(OSError):
                        row.send(requests.api_versions())
                time.sleep(1)
                count = 0
                for row in rows:
                    with contextlib.suppress(BlockingIOError):
                        count += bool(row.recv(4))
                assert count == bound, f"{count} of {4 * bound} are served, {bound} may be"
        return f"{rounds} times {4 * bound} connections at once, {bound} served each time"


@check("max.connections.per.ip")
def max_connections_per_ip():
    """Those beyond are closed at once, of that address alone."""
    bound, more = 10, 5
    with running(max_connections_per_ip=bound) as found, contextlib.ExitStack() as stack:
        time.sleep(0.3)
        first = [opened(found, stack) for _ in range(bound)]
        seen = states(first, ANSWER_SECONDS_MAX)
        assert seen == {"answered": bound}, f"of the first {bound}: {seen}"
        behind = [opened(found, stack) for _ in range(more)]
        seen = states(behind, SILENCE_SECONDS)
        assert seen == {"closed": more}, f"of {more} beyond {bound}: {seen}"
        other = stack.enter_context(socket.create_connection(
            ("127.0.0.1", found.port), ANSWER_SECONDS_MAX, ("127.0.0.2", 0)
        ))
        other.sendall(requests.api_versions())
        assert other.recv(4), "another address is not served"
        first[0].close()
        time.sleep(SILENCE_SECONDS)
        seen = states([opened(found, stack)], ANSWER_SECONDS_MAX)
        assert seen == {"answered": 1}, f"once one had gone: {seen}"
        return f"{bound} are served, {more} are closed, another address is served"


@check("connections.max.idle.ms")
def connections_max_idle():
    """Silent and slow ones are closed in time; busy ones and those that wait for data are not."""
    idle, late = 2.0, 1.5
    with (
        running(connections_max_idle_ms=int(idle * 1000)) as found,
        contextlib.ExitStack() as stack,
    ):
        with Connection(found.bootstrap) as admin:
            broker.protocol.create_topic(admin, "quiet")
        began = time.monotonic()
        raw = requests.api_versions()
        rows = {
            "silent": opened(found, stack, b""),
            "asked once": opened(found, stack),
            "a part": opened(found, stack, raw[:10]),
            "announced": opened(found, stack, int32(1 << 20)),
            "drip": opened(found, stack, b""),
        }
        busy = opened(found, stack)
        poll_ms = int((idle + 3) * 1000)
        waits = opened(found, stack, requests.long_poll("quiet", 0, 0, poll_ms))
        assert state(rows["asked once"], ANSWER_SECONDS_MAX) == "answered"
        assert state(busy, ANSWER_SECONDS_MAX) == "answered"
        lived, sent = {}, 0
        slow = requests.request(3, 12, b"\0\0\0\0")
        while len(lived) < len(rows) and time.monotonic() < began + idle + late + 1:
            busy.send(raw)
            assert state(busy, ANSWER_SECONDS_MAX) == "answered", "a busy one was closed"
            if "drip" not in lived:
                with contextlib.suppress(Closed):
                    rows["drip"].send(slow[sent : sent + 1])
                sent = min(sent + 1, len(slow) - 2)
            for name, row in rows.items():
                if name not in lived and state(row, 0.02) == "closed":
                    lived[name] = time.monotonic() - began
        missing = sorted(set(rows) - set(lived))
        assert not missing, f"still open after {idle + late + 1} s: {missing}"
        early = {name: at for name, at in lived.items() if at < idle - 0.05}
        tardy = {name: at for name, at in lived.items() if at > idle + late}
        assert not early and not tardy, f"closed too early {early}, too late {tardy}"
        seen = state(waits, ANSWER_SECONDS_MAX)
        assert seen == "answered", f"a long poll of {poll_ms} ms: {seen}"
        words = ", ".join(f"{name} {at:.1f}" for name, at in sorted(lived.items()))
        return f"closed after {words} s of {idle}; busy and waiting ones stay"


@check("socket.request.max.bytes")
def socket_request_max():
    """A request of so many bytes is answered; one byte more closes, at its announcement."""
    bound = 20_000
    with running(socket_request_max_bytes=bound) as found, contextlib.ExitStack() as stack:
        exact = requests.padded_api_versions(bound)
        assert len(exact) == 4 + bound
        assert state(opened(found, stack, exact), ANSWER_SECONDS_MAX) == "answered"
        more = requests.padded_api_versions(bound + 1)
        seen = state(opened(found, stack, more), ANSWER_SECONDS_MAX)
        assert seen == "closed", f"{bound + 1} bytes: {seen}"
        for size in (bound + 1, 2**31 - 1, -1, -(2**31)):
            seen = state(opened(found, stack, int32(size)), ANSWER_SECONDS_MAX)
            assert seen == "closed", f"{size} bytes announced: {seen}"
        seen = state(opened(found, stack, int32(bound)), SILENCE_SECONDS)
        assert seen == "silent", f"{bound} bytes announced: {seen}"
        return f"{bound} bytes are answered, {bound + 1} and less than none are closed"


def request_bytes(setting):
    """Unfinished requests fill the memory for requests: who waits, who goes, who is served."""
    bound, size = 4 << 20, 1 << 20
    # Large requests share one half.
    held = bound // size // 2
    properties = {setting: bound, "corelog_cores": 1, "socket_request_max_bytes": size}
    with running(**properties) as found, contextlib.ExitStack() as stack:
        head, missing = requests.giant_produce(size)
        rows = [opened(found, stack, head + bytes(missing - 100)) for _ in range(held)]
        seen = states(rows, 2.5)
        assert seen == {"silent": held}, f"{held} that nobody waits for: {seen}"
        # Announced ones that do not begin take nothing.
        rows += [opened(found, stack, int32(size)) for _ in range(20)]
        small = states([opened(found, stack)], SILENCE_SECONDS)
        assert small == {"answered": 1}, f"a small request: {small}"
        seen = states(rows, SILENCE_SECONDS)
        assert seen == {"silent": held + 20}, f"with 20 announced: {seen}"
        # One more that is whole needs the room of one that is not.
        began = time.monotonic()
        whole = opened(found, stack, head + bytes(missing))
        seen = state(whole, ANSWER_SECONDS_MAX)
        took = time.monotonic() - began
        assert seen == "answered", f"a whole request of {size} bytes: {seen}"
        seen = states(rows, SILENCE_SECONDS)
        wanted = {"closed": 1, "silent": held + 19}
        assert seen == wanted, f"of those that hold everything: {seen}"
        return f"{held} of {size} bytes fill the half of {bound}; {took:.2f} s later one goes"


@check("queued.max.request.bytes")
def queued_max_request_bytes():
    """Kafka's name for the bound."""
    return request_bytes("queued_max_request_bytes")


@check("corelog.memory.request.bytes")
def corelog_memory_request_bytes():
    """Our own name for the bound."""
    return request_bytes("corelog_memory_request_bytes")


@check("corelog.memory.group.bytes")
def corelog_memory_group_bytes():
    """Members beyond it are told to try again; a client does, and gets in once others are gone."""
    bound, size = 2 << 20, 100_000
    properties = {"corelog_memory_group_bytes": bound, "corelog_cores": 1}
    properties |= {"offsets_topic_num_partitions": 1, "group_initial_rebalance_delay_ms": 0}
    with running(**properties) as found, contextlib.ExitStack() as stack:
        connection = stack.enter_context(Connection(found.bootstrap, timeout=60))
        assert protocol.create_topic(connection, "t", 1) == 0
        connection.call(10, 1, protocol.string("any") + protocol.int8(0))
        errors = [join_error(connection, f"heavy-{number}", size) for number in range(30)]
        began = time.monotonic()
        taken = errors.index(COORDINATOR_NOT_AVAILABLE)
        assert set(errors[:taken]) == {0}, f"those within it: {errors}"
        assert set(errors[taken:]) == {COORDINATOR_NOT_AVAILABLE}, f"those beyond: {errors}"
        assert bound // 2 < taken * size < bound, f"{taken} of {size} bytes"
        late = Consumer({"bootstrap.servers": found.bootstrap, "group.id": "late"})
        stack.callback(late.close)
        late.subscribe(["t"])
        while not late.assignment() and time.monotonic() - began < 6 * MEMBER_SECONDS:
            late.poll(0.1)
        took = time.monotonic() - began
        assert late.assignment(), f"a consumer has no partition after {took:.1f} s"
        assert took > MEMBER_SECONDS / 2, f"a consumer got in after {took:.1f} s"
        return f"{taken} members of {size} bytes fill {bound}; a consumer got in {took:.1f} s later"


def join_error(connection, group, size):
    """The error of a new member's JoinGroup with so many bytes of metadata."""
    for _ in range(100):
        connection.send(requests.join_group(group, bytes(size)))
        reader = protocol.Reader(connection.answer())
        reader.int32()
        reader.int32()
        error = reader.int16()
        # The coordinator may still be loading.
        if error not in (14, 16):
            return error
        time.sleep(0.1)
    return error
