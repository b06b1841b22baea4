"""The bare loops of scripts/floor: compiled when needed, run, and read."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "scripts" / "floor"
BUILT = ROOT / "target" / "floor"
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
