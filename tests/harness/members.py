"""Members of groups by Apache's Java client, many in one JVM."""

import re
import subprocess
import threading
import time

from .broker import CACHE, KAFKA_JARS
from .tools import JAVA_CLASSES


class Members:
    """One JVM of group members; see SideMembers.java. Use as a context manager."""

    def __init__(self, heap="384M"):
        self.process = subprocess.Popen(
            [
                "java",
                f"-Xmx{heap}",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                f"-Dlog4j2.configurationFile={CACHE / 'tools-log4j2.properties'}",
                "-cp",
                f"{JAVA_CLASSES}:{KAFKA_JARS}/*",
                "SideMembers",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def _say(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def start(self, name, bootstrap, group, topics, **settings):
        """Starts a member; `group_protocol="consumer"` is the setting group.protocol."""
        rows = " ".join(f"{key.replace('_', '.')}={value}" for key, value in settings.items())
        self._say(f"start {name} {bootstrap} {group} {topics} {rows}".rstrip())

    def stop(self, name):
        """Closes a member; waits for its end."""
        self._say(f"stop {name}")
        self.wait(rf"^{name} stopped")

    def leave(self, name):
        """Closes a member without waiting for its end."""
        self._say(f"stop {name}")

    def said(self, pattern, since=0):
        """The lines so far, from number `since` on, that match."""
        return [line for _, line in list(self.lines)[since:] if re.search(pattern, line)]

    def assigned(self, name):
        """The partitions that a member had when it last said it."""
        rows = self.said(rf"^{name} assigned ")
        words = rows[-1].split(" ")[2] if rows else "-"
        return set() if words == "-" else set(words.split(","))

    def read(self, *names):
        """[(partition, offset)] that these members read, in order."""
        rows = [line.split(" ") for line in self.said(rf"^({'|'.join(names)}) read ")]
        return [(row[2], int(row[3])) for row in rows]

    def wait(self, pattern, count=1, since=0, seconds=40):
        """Waits until this many lines match."""
        self.until(pattern, lambda: len(self.said(pattern, since)) >= count, seconds)

    def until(self, words, done, seconds=40):
        """Waits until `done()`."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                tail = "\n".join(line for _, line in self.lines[-8:])
                raise TimeoutError(f"no {words!r} after {seconds} s; last:\n{tail}")
            time.sleep(0.02)

    def close(self):
        """Ends the JVM and its members."""
        if self.process.poll() is None:
            self._say("end")
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
