"""Apache's command line tools (and our Java programs), many calls in one JVM."""

import base64
import os
import subprocess
import threading
from dataclasses import dataclass

from .broker import CACHE, KAFKA_JARS

JAVA_CLASSES = os.environ.get("TEST_CLASSES", CACHE / "java")


@dataclass
class Result:
    """What one call of a tool left behind."""

    code: int
    out: str
    err: str

    def check(self):
        """The result itself, or an error with everything the tool said."""
        if self.code != 0:
            raise RuntimeError(f"tool ended with {self.code}\n{self.out}{self.err}")
        return self


def _encode(word):
    return base64.b64encode(str(word).encode()).decode()


class Tools:
    """One JVM that runs main methods in turn. Use as a context manager."""

    def __init__(self, heap="512M"):
        settings = CACHE / "tools-log4j2.properties"
        if not settings.exists():
            settings.parent.mkdir(exist_ok=True)
            settings.write_text("rootLogger.level = OFF\n")
        self.process = subprocess.Popen(
            [
                "java",
                f"-Xmx{heap}",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Xshare:auto",
                f"-Dlog4j2.configurationFile={settings}",
                "-cp",
                f"{JAVA_CLASSES}:{KAFKA_JARS}/*",
                "ToolDriver",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def run(self, name, *arguments, stdin="", seconds=60):
        """Runs the main method of class `name`; returns its exit code and output."""
        words = [name, seconds, stdin, *arguments]
        # The driver ends a call that takes too long; should it hang itself, this ends the driver.
        guard = threading.Timer(seconds + 20, self.process.kill)
        guard.start()
        try:
            self.process.stdin.write(" ".join(map(_encode, words)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        finally:
            guard.cancel()
        if not answer:
            raise RuntimeError(f"the tools' JVM ended during {name}")
        code, out, err = answer.rstrip("\n").split(" ")
        return Result(int(code), _decode(out), _decode(err))

    def close(self):
        """Ends the JVM."""
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _decode(text):
    return base64.b64decode(text).decode(errors="replace")
