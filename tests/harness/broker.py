"""Starts and stops the broker under test: Corelog, or a real Apache Kafka beside it.

Every broker gets a data directory and free ports of its own, its process id is written to
`<directory>/broker.pid`, every wait has an end, and whatever still runs is stopped when the
program ends (also by SIGTERM or ctrl-c).
"""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import protocol

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
# Both can be set to try another build, or jars that lie elsewhere.
CORELOG = Path(os.environ.get("BIN_UNDER_TEST", ROOT / "target" / "release" / "corelog"))
KAFKA_JARS = Path(os.environ.get("KAFKA_JARS", CACHE / "kafka"))
START_SECONDS_MAX = float(os.environ.get("BROKER_START_SECONDS", "60"))
STOP_SECONDS_MAX = 40
NODE_ID = 1

_alive = []
_scratch = []


class BrokerFailed(Exception):
    """The broker did not start or stop; the message has the tail of what it printed."""


_given_ports = set()


def free_port():
    """A TCP port nobody listens on, outside of the range the kernel gives to clients.

    None is given twice: brokers take theirs later.
    """
    for _ in range(1000):
        port = random.randrange(21000, 31000)
        if port in _given_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                _given_ports.add(port)
                return port
            except OSError:
                continue
    raise BrokerFailed("no free port between 21000 and 31000")


def scratch(name):
    """A fresh directory, removed when the program ends (kept with KEEP=1 in the environment)."""
    path = Path(tempfile.mkdtemp(prefix=f"corelog-{name}-"))
    if os.environ.get("KEEP"):
        print(f"keeping {path}", file=sys.stderr)
    else:
        _scratch.append(path)
    return path


def process_cpu_seconds(pid):
    """User and system time of a whole process so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Broker:
    """One broker process; `kind` is "corelog" or "kafka"."""

    kind = ""
    # How long a start and a clean stop may take; more for a broker that holds very much.
    start_seconds_max = START_SECONDS_MAX
    stop_seconds_max = STOP_SECONDS_MAX

    def __init__(self, directory=None, port=None, properties=None, cpu=None):
        self.directory = Path(directory) if directory else scratch(self.kind)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / "data"
        self.port = port or free_port()
        self.controller_port = free_port()
        self.properties = dict(properties or {})
        self.cpu = cpu
        self.process = None
        self.start_seconds = None

    @property
    def bootstrap(self):
        """HOST:PORT for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        """Process id of the running broker."""
        return self.process.pid

    def settings(self):
        """The server.properties this broker starts with."""
        settings = {
            "node.id": NODE_ID,
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self.data,
            "num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
        }
        settings.update(self.properties)
        return settings

    def write_settings(self):
        """Writes server.properties and returns its path."""
        path = self.directory / "server.properties"
        lines = [f"{name}={value}\n" for name, value in self.settings().items()]
        path.write_text("".join(lines))
        return path

    def command(self):
        """What is run, as a list of words."""
        raise NotImplementedError

    def prepare(self):
        """Makes a new data directory ready, where the broker does not do that itself."""

    def start(self, wait=True):
        """Starts the process; returns when it answers ApiVersions and knows itself by Metadata."""
        self.prepare()
        command = self.command()
        if self.cpu is not None:
            command = ["taskset", "-c", str(self.cpu)] + command
        log = open(self.directory / "output.log", "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.directory,
        )
        log.close()
        (self.directory / "broker.pid").write_text(f"{self.process.pid}\n")
        _alive.append(self)
        if wait:
            self.wait_ready(began)
        return self

    def wait_ready(self, began):
        """Waits for the first ApiVersions answer (its time is kept) and then for Metadata."""
        end = began + self.start_seconds_max
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise BrokerFailed(f"{self.kind} ended with {self.process.returncode}\n{self.tail()}")
            try:
                with protocol.Connection(self.bootstrap, timeout=5) as connection:
                    connection.call(18, 0, b"")
                    self.start_seconds = self.start_seconds or time.monotonic() - began
                    if protocol.metadata(connection, [])["brokers"]:
                        self.start_seconds_metadata = time.monotonic() - began
                        return
            except (OSError, protocol.Closed):
                pass
            time.sleep(0.002)
        limit = self.start_seconds_max
        raise BrokerFailed(f"{self.kind} did not answer in {limit} s\n{self.tail()}")

    def stop(self):
        """Clean stop by SIGTERM. Returns the seconds it took; a broker that hangs is an error."""
        if self.process is None:
            return 0.0
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(self.stop_seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()
            limit = self.stop_seconds_max
            raise BrokerFailed(f"{self.kind} did not stop in {limit} s") from None
        self._ended()
        return time.monotonic() - began

    def kill(self):
        """kill -9."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(10)
        self._ended()

    def _ended(self):
        self.exit_code = self.process.returncode
        self.process = None
        self.start_seconds = None
        (self.directory / "broker.pid").unlink(missing_ok=True)
        if self in _alive:
            _alive.remove(self)

    def tail(self, lines=20):
        """The end of what the broker printed."""
        try:
            text = (self.directory / "output.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def cpu_seconds(self):
        """User and system time of the whole process so far, seconds."""
        return process_cpu_seconds(self.pid)

    def resident_bytes(self):
        """Resident memory, bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BrokerFailed("no resident size: the process ends")

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, *_):
        if self.process:
            self.stop()


class Corelog(Broker):
    """Corelog from this checkout."""

    kind = "corelog"

    def settings(self):
        settings = super().settings()
        settings["listeners"] = settings["advertised.listeners"] = (
            f"PLAINTEXT://127.0.0.1:{self.port}"
        )
        for name in (
            "controller.quorum.bootstrap.servers",
            "controller.listener.names",
            "inter.broker.listener.name",
            "listener.security.protocol.map",
        ):
            settings.pop(name)
        settings.update(self.properties)
        return settings

    def command(self):
        return [str(CORELOG), "serve", "--config", str(self.write_settings())]


class Kafka(Broker):
    """A real Apache Kafka: broker and controller in one JVM, with its own start script's flags."""

    kind = "kafka"
    heap = ["-Xmx1G", "-Xms1G"]

    def command(self):
        return (
            ["java"]
            + self.heap
            + [
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:+ExplicitGCInvokesConcurrent",
                "-XX:MaxInlineLevel=15",
                "-Djava.awt.headless=true",
                f"-Dlog4j2.configurationFile={self.log_settings()}",
                "-cp",
                f"{KAFKA_JARS}/*",
                "kafka.Kafka",
                str(self.write_settings()),
            ]
        )

    def log_settings(self):
        """Kafka's server log goes to its output at INFO."""
        path = self.directory / "log4j2.properties"
        path.write_text(
            "rootLogger.level = INFO\n"
            "rootLogger.appenderRef.out.ref = out\n"
            "appender.out.type = Console\n"
            "appender.out.name = out\n"
            "appender.out.layout.type = PatternLayout\n"
            "appender.out.layout.pattern = [%d] %p %m (%c)%n\n"
        )
        return path

    def prepare(self):
        if (self.data / "meta.properties").exists():
            return
        self.format()

    def format(self, cluster_id="Y29yZWxvZy10ZXN0cy0xMQ"):
        """Formats the data directory as a new cluster of one node."""
        done = subprocess.run(
            [
                "java",
                "-XX:TieredStopAtLevel=1",
                "-Xmx256M",
                f"-Dlog4j2.configurationFile={self.log_settings()}",
                "-cp",
                f"{KAFKA_JARS}/*",
                "kafka.tools.StorageTool",
                "format",
                "--standalone",
                "-t",
                cluster_id,
                "-c",
                str(self.write_settings()),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise BrokerFailed(f"format failed\n{done.stdout}{done.stderr}")


class Remote(Broker):
    """A broker that somebody else started, known by its address."""

    kind = "remote"

    def __init__(self, address):
        super().__init__(directory=None, port=int(address.rsplit(":", 1)[1]))
        self.address = address

    @property
    def bootstrap(self):
        return self.address

    def start(self, wait=True):
        return self

    def stop(self):
        return 0.0


def make(name, **arguments):
    """A broker by the words of the command line: corelog, kafka, or HOST:PORT of a running one."""
    if ":" in name:
        return Remote(name)
    return {"corelog": Corelog, "kafka": Kafka}[name](**arguments)


@atexit.register
def _stop_all():
    for broker in list(_alive):
        broker.kill()
    for path in _scratch:
        shutil.rmtree(path, ignore_errors=True)


def _on_signal(number, _frame):
    sys.exit(128 + number)


signal.signal(signal.SIGTERM, _on_signal)
