"""A Java program that runs beside the test: started, watched by what it prints, stopped or killed."""

import atexit
import os
import signal
import subprocess
import time
from pathlib import Path

from .broker import KAFKA_JARS
from .tools import JAVA_CLASSES

STOP_SECONDS_MAX = 30

_alive = []


class Jvm:
    """One JVM with a small heap. What it prints goes to `<directory>/<name>.log`."""

    def __init__(self, name, directory, main, *arguments, heap="256m", level="INFO"):
        self.name, self.log = name, Path(directory) / f"{name}.log"
        logging = Path(directory) / f"log4j2-{level}.properties"
        logging.write_text(
            f"rootLogger.level = {level}\n"
            "rootLogger.appenderRef.out.ref = out\n"
            "appender.out.type = Console\n"
            "appender.out.name = out\n"
            "appender.out.target = SYSTEM_ERR\n"
            "appender.out.layout.type = PatternLayout\n"
            "appender.out.layout.pattern = [%d] %p %m (%c)%n\n"
        )
        command = ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += [f"-Dlog4j2.configurationFile={logging}", "-cp"]
        command += [f"{JAVA_CLASSES}:{KAFKA_JARS}/*", main, *map(str, arguments)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=directory,
            )
        _alive.append(self)

    def lines(self, start):
        """What it printed so far, of the lines that begin with `start`, without that start."""
        text = self.log.read_text(errors="replace")
        return [line[len(start) :] for line in text.splitlines() if line.startswith(start)]

    def check(self):
        """Raises with the end of what it printed when it has ended."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}\n{tail}")

    def kill(self):
        """kill -9."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._ended()

    def stop(self):
        """Clean stop by SIGTERM; returns the seconds it took. One that hangs is an error."""
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not stop in {STOP_SECONDS_MAX} s") from None
        self._ended()
        return time.monotonic() - began

    def _ended(self):
        if self in _alive:
            _alive.remove(self)


def wait_until(what, seconds, probe, watched=()):
    """Polls `probe` until it returns something true, and returns that; checks that JVMs live."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for jvm in watched:
            jvm.check()
        if found := probe():
            return found
        time.sleep(0.1)
    raise RuntimeError(f"not in {seconds} s: {what}")


@atexit.register
def _kill_all():
    for jvm in list(_alive):
        jvm.kill()
