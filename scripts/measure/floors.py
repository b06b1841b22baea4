"""The bare loops of scripts/floor: compiled when needed, run, and read."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from harness import broker

SOURCES = ROOT / "scripts" / "floor"
BUILT = ROOT / "target" / "floor"
# The example `echo`, built beside the broker; can be set to try another build.
ECHO = Path(os.environ.get("ECHO_UNDER_TEST", broker.CORELOG.parent / "examples" / "echo"))
# What a consumer asks for at a time.
SENDFILE_BYTES = 1 << 20
# An answer to a Produce request of one partition, about.
ANSWER_BYTES = 64
# What a Produce request has beside its batch, about.
REQUEST_BYTES = 80


def program(name):
    """Path of a compiled program, "floor" or "tail"."""
    source = SOURCES / f"{name}.c"
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    path = BUILT / f"{name}-{key}"
    if not path.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-O2", "-pthread", "-o", str(path), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return str(path)


def run(words, pinned=False):
    """Runs `floor` with these words; its report."""
    pins = {"FLOOR_CPU": "1", "CLIENT_CPU": "0"} if pinned else {}
    command = [program("floor"), *map(str, words)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **pins},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def runtime_echo(seconds, connections, batch_bytes, pinned=False):
    """The echo server on Corelog's own runtime: {"cpu_us_per_request", "requests_per_second"}.

    It must have been built (`cargo build --profile dist --example echo`).
    """
    sizes = [str(batch_bytes + REQUEST_BYTES), str(ANSWER_BYTES)]
    port = str(broker.free_port())
    pin = ["taskset", "-c", "1"] if pinned else []
    server = subprocess.Popen([*pin, str(ECHO), port, *sizes], stdin=subprocess.DEVNULL)
    try:
        _wait_listening(server, int(port))
        before = broker.process_cpu_seconds(server.pid)
        report = run(["client", seconds, connections, *sizes, port], pinned)
        used = broker.process_cpu_seconds(server.pid) - before
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)
    report["cpu_us_per_request"] = used / max(1, report["requests"]) * 1e6
    return report


def _wait_listening(server, port):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"{ECHO} ended with {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{ECHO} does not listen")


def calibrate():
    """A fixed piece of work: {"arithmetic_ms": ..., "copy_ms": ..., "wake_us": ...}."""
    report = run(["calibrate"])
    del report["what"]
    return report


def receive(seconds, size, files, directory):
    """Words of the loop that receives requests and writes them."""
    return ["receive", seconds, size, files, directory]


def sendfile(seconds, paths):
    """Words of the loop that sends files."""
    return ["sendfile", seconds, SENDFILE_BYTES, *paths]


def echo(seconds, connections, batch_bytes):
    """Words of the loop that answers small requests."""
    return ["echo", seconds, connections, batch_bytes + REQUEST_BYTES, ANSWER_BYTES]


def paced(seconds, connections, batch_bytes, rate):
    """Words of the loop that answers at once what comes at a fixed rate, so many a second."""
    request = batch_bytes + REQUEST_BYTES
    return ["paced", seconds, connections, request, ANSWER_BYTES, f"{rate:.0f}"]
