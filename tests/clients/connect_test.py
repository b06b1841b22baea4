"""Kafka Connect in distributed mode: two real workers carry lines from files to files.

Two sources and two sinks, six tasks; one worker is killed while lines are written, and starts
again. At least once: every line arrives, whole, maybe more than once.
"""

import json
import threading
import time
import urllib.error
import urllib.request

from harness import broker, protocol
from harness.jvm import Jvm, wait_until

SESSION_MS = 6000
DELAY_MS = 2000
# From the kill: the session runs out, the delay for a worker to come back, two rebalances.
MOVE_SECONDS_MAX = 25
LINES_PER_SECOND = 200
STREAMS = ("a", "b")
SINK_TASKS = 2
TASKS = len(STREAMS) * (1 + SINK_TASKS)
PARTITIONS = 4
INTERNAL = {"configs": 1, "offsets": 5, "status": 3}


class Writer(threading.Thread):
    """Appends numbered lines to the source files until it is told to stop."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.files = {name: open(directory / f"{name}.in", "a", buffering=1) for name in STREAMS}
        self.count = 0
        self.running = True

    def run(self):
        while self.running:
            for name, file in self.files.items():
                file.write(f"{name}-line-{self.count:07d}\n")
            self.count += 1
            time.sleep(1 / LINES_PER_SECOND)

    def end(self):
        self.running = False
        self.join()
        for file in self.files.values():
            file.close()


class Connect:
    """The cluster of workers, and its REST interface."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.directory = broker.scratch("connect")
        self.stamp = format(time.time_ns() // 1_000_000, "x")
        self.workers = {}

    def settings(self, port):
        names = {"config": "configs", "offset": "offsets", "status": "status"}
        settings = {
            "bootstrap.servers": self.bootstrap,
            "group.id": f"connect-{self.stamp}",
            "listeners": f"http://127.0.0.1:{port}",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "plugin.discovery": "service_load",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 1000,
            "rebalance.timeout.ms": 10000,
            "scheduled.rebalance.max.delay.ms": DELAY_MS,
            "offset.flush.interval.ms": 1000,
            "consumer.session.timeout.ms": SESSION_MS,
            "consumer.heartbeat.interval.ms": 1000,
        }
        for kind, name in names.items():
            settings[f"{kind}.storage.topic"] = self.internal(name)
            settings[f"{kind}.storage.replication.factor"] = 1
            if kind != "config":
                settings[f"{kind}.storage.partitions"] = INTERNAL[name]
        return settings

    def internal(self, name):
        return f"connect-{self.stamp}-{name}"

    def start(self, port):
        path = self.directory / f"worker-{port}.properties"
        path.write_text("".join(f"{k}={v}\n" for k, v in self.settings(port).items()))
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        self.workers[port] = Jvm(f"worker-{port}", self.directory, main, path)

    def ask(self, path, body=None, method=None, port=None):
        """The REST interface of one worker; None while it does not answer, or not with success."""
        port = port or next(iter(self.workers))
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
                return json.loads(text) if text else {}
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def wait(self, what, seconds, probe):
        try:
            return wait_until(what, seconds, probe, self.workers.values())
        except RuntimeError as error:
            for jvm in self.workers.values():
                error.add_note("\n".join(jvm.log.read_text(errors="replace").splitlines()[-15:]))
            raise

    def owners(self):
        """{task: port of its worker} of the tasks that run."""
        status = self.ask("/connectors?expand=status") or {}
        running = {}
        for name, row in status.items():
            for task in row["status"]["tasks"]:
                if task["state"] == "RUNNING":
                    port = int(task["worker_id"].rsplit(":", 1)[1])
                    running[f"{name}-{task['id']}"] = port
        return running

    def all_run_on(self, ports):
        """Tells the tasks' owners once all run, on all of these workers and no others."""
        owners = self.owners()
        return owners if len(owners) == TASKS and set(owners.values()) == set(ports) else None

    def create(self):
        file = "org.apache.kafka.connect.file.FileStream"
        for name in STREAMS:
            topic = f"lines-{self.stamp}-{name}"
            with protocol.Connection(self.bootstrap) as connection:
                protocol.create_topic(connection, topic, PARTITIONS)
            source = {"connector.class": f"{file}SourceConnector", "tasks.max": "1"}
            source |= {"file": str(self.directory / f"{name}.in"), "topic": topic}
            sink = {"connector.class": f"{file}SinkConnector", "tasks.max": str(SINK_TASKS)}
            sink |= {"file": str(self.directory / f"{name}.out"), "topics": topic}
            # Lines have no key: a small batch makes the producer change partition often.
            source["producer.override.batch.size"] = "256"
            for kind, config in (("source", source), ("sink", sink)):
                path = f"/connectors/{name}-{kind}/config"
                self.wait(
                    f"{path} is accepted", 30, lambda p=path, c=config: self.ask(p, c, "PUT")
                )

    def arrived(self, name):
        try:
            return (self.directory / f"{name}.out").read_text().splitlines()
        except FileNotFoundError:
            return []

    def missing(self, count):
        """Lines of the first `count` that have not arrived."""
        lines = 0
        for name in STREAMS:
            expected = {f"{name}-line-{index:07d}" for index in range(count)}
            lines += len(expected - set(self.arrived(name)))
        return lines


def cleanup_policy(bootstrap, topic):
    """A topic's number of partitions and its cleanup.policy, by DescribeConfigs v1."""
    with protocol.Connection(bootstrap) as connection:
        count = len(protocol.metadata(connection, [topic])["topics"][0]["partitions"])
        names = protocol.array([protocol.string("cleanup.policy")])
        resource = protocol.int8(2) + protocol.string(topic) + names
        body = protocol.array([resource]) + protocol.int8(0)
        reader = connection.call(32, 1, body)
        reader.int32()
        reader.int32()
        code, message = reader.int16(), reader.string()
        if code:
            raise RuntimeError(f"DescribeConfigs {topic} answered {code} {message}")
        reader.int8()
        reader.string()
        reader.int32()
        reader.string()
        return count, reader.string()


def tests(bootstrap, test):
    """Runs the tests by `test(name, body)`."""
    connect = Connect(bootstrap)
    ports = [broker.free_port(), broker.free_port()]
    writer = Writer(connect.directory)

    def form():
        for port in ports:
            connect.start(port)
        for port in ports:
            connect.wait(
                f"worker {port} answers", 60, lambda p=port: connect.ask("/connectors", port=p) == []
            )

    def compact():
        for name, partitions in INTERNAL.items():
            found = cleanup_policy(bootstrap, connect.internal(name))
            if found != (partitions, "compact"):
                raise RuntimeError(f"{name}: {found}")

    def share():
        writer.start()
        connect.create()
        connect.wait("tasks on both workers", 60, lambda: connect.all_run_on(ports))
        connect.wait("lines arrive", 30, lambda: connect.missing(100) == 0)

    def kill():
        victim = ports[0]
        connect.workers.pop(victim).kill()
        began = time.monotonic()
        owners = connect.wait(
            "all tasks on the other worker", MOVE_SECONDS_MAX, lambda: connect.all_run_on(ports[1:])
        )
        print(f"     {len(owners)} tasks moved in {time.monotonic() - began:.1f} s", flush=True)
        count = writer.count
        connect.wait("lines arrive again", 30, lambda: connect.missing(count) == 0)

    def back():
        connect.start(ports[0])
        connect.wait("tasks on both workers", 60, lambda: connect.all_run_on(ports))

    def lines():
        writer.end()
        connect.wait("every line arrived", 30, lambda: connect.missing(writer.count) == 0)
        for name in STREAMS:
            known = {f"{name}-line-{index:07d}" for index in range(writer.count)}
            got = connect.arrived(name)
            if strange := [line for line in got if line not in known]:
                raise RuntimeError(f"{name}: {len(strange)} lines nobody wrote: {strange[:3]}")
            print(f"     {name}: {writer.count} lines, {len(got) - writer.count} twice", flush=True)

    def stop():
        for worker in connect.workers.values():
            worker.stop()

    test("Connect: two workers form a cluster", form)
    test("Connect: its topics are compacted topics", compact)
    test("Connect: six tasks run on both workers", share)
    test("Connect: tasks of a killed worker move to the other", kill)
    test("Connect: tasks move back to a worker that returns", back)
    test("Connect: every line arrived at least once", lines)
    test("Connect: workers stop cleanly", stop)
