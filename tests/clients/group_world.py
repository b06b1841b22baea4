"""A group under test: its topic and what is written to it, its members, and what they tell."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import group_checks
from harness import broker, protocol, tools

HERE = Path(__file__).resolve().parent
SESSION_MS = 6000
HEARTBEAT_MS = 1000
MAX_POLL_MS = 8000
STATIC_SESSION_MS = 30_000
WRITE_SECONDS = 0.25
PYTHON = str(broker.CACHE / "venv" / "bin" / "python")
# A machine that is busy with other things needs patience; nothing waits longer than it has to.
SLACK = float(os.environ.get("GROUPS_SLACK_SECONDS", "30"))


class Failed(Exception):
    """Something did not happen, or what must not happen did."""


def java_command(heap="384M"):
    """A JVM with GroupMembers in it."""
    settings = broker.CACHE / "tools-log4j2.properties"
    if not settings.exists():
        settings.write_text("rootLogger.level = OFF\n")
    return [
        "java",
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
        f"-Dlog4j2.configurationFile={settings}",
        "-cp",
        f"{tools.JAVA_CLASSES}:{broker.KAFKA_JARS}/*",
        "GroupMembers",
    ]


COMMANDS = {
    "java": java_command,
    "librdkafka": lambda: [PYTHON, HERE / "librdkafka_member.py"],
    "kafka-python": lambda: [PYTHON, HERE / "kafka_python_member.py"],
    "franz": lambda: [broker.CACHE / "bin" / "franz-member"],
    "kafkajs": lambda: ["node", HERE / "kafkajs" / "member.js"],
}


class Program:
    """A process with one member, or with many (Java); its events go to their members."""

    _all = []
    _java = None
    _java_lock = threading.Lock()

    def __init__(self, client):
        self.members = {}
        self.errors = broker.scratch("member") / "stderr"
        environment = dict(os.environ, NODE_PATH=str(broker.CACHE / "kafkajs" / "node_modules"))
        self.process = subprocess.Popen(
            COMMANDS[client](),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(self.errors, "w"),
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.sending = threading.Lock()
        Program._all.append(self)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    @classmethod
    def shared_java(cls):
        """The JVM that all Java members share, but those that are killed."""
        with cls._java_lock:
            if cls._java is None or cls._java.process.poll() is not None:
                cls._java = cls("java")
            return cls._java

    @classmethod
    def end_all(cls):
        """Kills what still runs."""
        for program in cls._all:
            if program.process.poll() is None:
                program.process.kill()
                program.process.wait(10)

    def listen(self):
        """Hands every event to its member."""
        for line in self.process.stdout:
            try:
                event = json.loads(line)
                self.members[event["member"]].heard(event)
            except (ValueError, KeyError, TypeError):
                with open(self.errors, "a", encoding="utf-8") as file:
                    file.write(line)

    def send(self, command):
        """Sends one command."""
        with self.sending:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()


class Member:
    """One member, as its events tell it."""

    def __init__(self, group, name, client, **settings):
        self.group, self.name, self.client, self.settings = group, name, client, settings
        self.owned, self.generation, self.rebalances = set(), None, 0
        self.live, self.stopped = True, threading.Event()
        alone = settings.pop("alone", False)
        is_shared = client == "java" and not alone
        self.program = Program.shared_java() if is_shared else Program(client)
        self.program.members[self.full_name] = self
        self.program.send(
            {
                "do": "start",
                "name": self.full_name,
                "bootstrap": group.bootstrap,
                "group": group.name,
                "topics": [group.topics[0]],
                "protocol": "classic",
                "assignor": "range",
                "session_ms": SESSION_MS,
                "heartbeat_ms": HEARTBEAT_MS,
                "max_poll_ms": MAX_POLL_MS,
                **settings,
            }
        )

    @property
    def full_name(self):
        return f"{self.group.name}/{self.name}"

    def heard(self, event):
        """Takes in one event."""
        event["member"] = self.name
        kind = event["event"]
        with self.group.lock:
            if not self.live and kind not in ("stopped", "error"):
                return
            if kind == "assigned":
                self.owned |= set(event["partitions"])
            elif kind in ("revoked", "lost"):
                self.owned -= set(event["partitions"])
            elif kind == "stopped":
                self.owned.clear()
                self.stopped.set()
            if kind in ("assigned", "revoked", "lost"):
                self.generation = event.get("generation", self.generation)
                # Some clients report rebalances that change nothing of theirs.
                if event["partitions"] or kind == "assigned":
                    self.rebalances += 1
            elif kind == "generation":
                self.generation = event["generation"]
            elif kind == "records":
                partition, reached = event["partition"], self.group.reached
                reached[partition] = max(reached.get(partition, 0), event["last"] + 1)
            self.group.events.append(event)

    def pause(self, milliseconds):
        self.program.send({"do": "pause", "name": self.full_name, "ms": milliseconds})

    def stop(self):
        """Tells it to leave; `join` waits for that."""
        self.program.send({"do": "stop", "name": self.full_name})

    def join(self):
        """Waits until it has left."""
        if not self.stopped.wait(SLACK):
            raise Failed(f"{self.name} did not stop in {SLACK:.0f} s{self.complaint()}")
        with self.group.lock:
            self.live = False
        if self.program is not Program._java:
            self.program.process.stdin.close()
            self.program.process.wait(SLACK)

    def kill(self):
        """kill -9 of its process."""
        self.program.process.kill()
        self.program.process.wait(10)
        # What it told before it died counts: it may have committed that.
        self.program.listener.join(10)
        with self.group.lock:
            self.live = False
            self.owned.clear()
            at = {"at": time.time(), "member": self.name, "event": "killed"}
            self.group.events.append(at)

    def complaint(self):
        """The end of what its program wrote to standard error."""
        try:
            text = self.program.errors.read_text()
        except OSError:
            return ""
        return "\n" + text[-600:] if text else ""


class Group:
    """A group, its topics, its members, the writer, and all events."""

    def __init__(self, bootstrap, name, partitions=12):
        self.bootstrap, self.name, self.count = bootstrap, name, partitions
        self.lock = threading.Lock()
        self.events, self.members, self.topics, self.ends = [], [], [], {}
        # The offset after the last that anybody read, by partition.
        self.reached = {}
        self.writing, self.failure = True, None
        self.add_topic(name)
        self.writer = threading.Thread(target=self.write, daemon=True)
        self.writer.start()

    def add_topic(self, name):
        """Creates a topic that is written to from now on."""
        with protocol.Connection(self.bootstrap, 30) as connection:
            if code := protocol.create_topic(connection, name, self.count):
                raise Failed(f"CreateTopics {name} answered {code}")
        self.ends.update({f"{name}:{number}": 0 for number in range(self.count)})
        self.topics.append(name)

    def write(self):
        """Writes to every partition by turns; the value of a record is its offset."""
        try:
            with protocol.Connection(self.bootstrap, 30) as connection:
                while self.writing:
                    began = time.monotonic()
                    for partition in list(self.ends):
                        self.write_some(connection, partition)
                    time.sleep(max(0.0, WRITE_SECONDS - (time.monotonic() - began)))
        except Exception as error:
            self.failure = error

    def write_some(self, connection, partition):
        end = self.ends[partition]
        count = 1 + end % 3
        values = [b"%d" % (end + index) for index in range(count)]
        topic, number = partition.rsplit(":", 1)
        # Records of long ago would be deleted under the readers.
        raw = protocol.Batch(values=values, timestamp=time.time_ns() // 1_000_000).encode()
        answer = protocol.produce(connection, topic, int(number), raw)
        if answer["error"] or answer["base"] != end:
            raise Failed(f"Produce to {partition} at {end} answered {answer}")
        self.ends[partition] = end + count

    def add(self, client, count=1, **settings):
        """Starts members; returns them."""
        added = []
        for _ in range(count):
            name = settings.get("instance") or f"m{len(self.members) + 1}"
            added.append(Member(self, name, client, **settings))
            self.members.append(added[-1])
        return added

    def living(self):
        return [member for member in self.members if member.live]

    def unread(self, target):
        """The partitions of which nobody has read up to the offset in `target`."""
        with self.lock:
            return [p for p, offset in target.items() if self.reached.get(p, 0) < offset]

    def state(self):
        """Who owns what, in words."""
        rows = [f"{member.name}: {sorted(member.owned)}" for member in self.living()]
        return "; ".join(rows)

    def why_unsettled(self, members, balanced):
        """What is missing until exactly these members own everything, or None."""
        with self.lock:
            if wrong := group_checks.no_errors(self.events):
                raise Failed(f"a member failed: {wrong[0]}")
            counts = [len(member.owned) for member in members]
            union = set().union(*(member.owned for member in members))
        if self.failure:
            raise Failed(f"the writer failed: {self.failure}")
        for member in members:
            if member.program.process.poll() is not None:
                raise Failed(f"{member.name} ended by itself{member.complaint()}")
        if len(union) < len(self.ends) or sum(counts) > len(union):
            return f"{len(union)} of {len(self.ends)} partitions owned, counts {counts}"
        if balanced and max(counts) - min(counts) > len(self.topics):
            return f"not balanced: {counts}"
        return None

    def settle(self, members=None, seconds=0.0, balanced=True):
        """Waits until the members own all, evenly, and read on everywhere; returns the seconds."""
        members = self.living() if members is None else members
        began = time.monotonic()
        end = began + seconds + SLACK
        while why := self.why_unsettled(members, balanced):
            if time.monotonic() > end:
                raise Failed(f"after {time.monotonic() - began:.0f} s {why} ({self.state()})")
            time.sleep(0.05)
        taken = time.monotonic() - began
        target = dict(self.ends)
        while unread := self.unread(target):
            if time.monotonic() > end:
                raise Failed(f"assigned after {taken:.0f} s, but {unread} are not read")
            time.sleep(0.1)
        return taken

    def calm(self, seconds, members=None):
        """Fails when any member sees a rebalance within the time."""
        members = self.living() if members is None else members
        before = {member: member.rebalances for member in members}
        with self.lock:
            due = {p: self.reached.get(p, 0) + 1 for p in self.ends}
        time.sleep(seconds)
        for member, count in before.items():
            if member.rebalances != count:
                last = self.events_of(member)[-6:]
                raise Failed(f"{member.name} rebalanced while nothing changed: {last}")
        if still := self.unread(due):
            raise Failed(f"nothing was read in {seconds} s from {still}")

    def events_of(self, member):
        kinds = ("assigned", "revoked", "lost", "pausing", "resumed", "error")
        with self.lock:
            return [e for e in self.events if e["member"] == member.name and e["event"] in kinds]

    def committed(self):
        """The group's committed offsets, by OffsetFetch v5: {partition: offset}."""
        rows = [
            protocol.string(topic) + protocol.array([protocol.int32(n) for n in range(self.count)])
            for topic in self.topics
        ]
        body = protocol.string(self.name) + protocol.array(rows)
        with protocol.Connection(self.bootstrap) as connection:
            reader = connection.call(9, 5, body)
        out = {}
        reader.int32()

        def partition(topic):
            number, offset = reader.int32(), reader.int64()
            reader.int32()
            reader.string()
            if error := reader.int16():
                raise Failed(f"OffsetFetch {topic}:{number} answered {error}")
            out[f"{topic}:{number}"] = offset

        def topic_rows():
            topic = reader.string()
            reader.array(lambda: partition(topic))

        reader.array(topic_rows)
        if error := reader.int16():
            raise Failed(f"OffsetFetch answered {error}")
        return out

    def finish(self):
        """Stops writing, lets the members read to the end and leave, and checks everything."""
        self.writing = False
        self.writer.join(SLACK)
        self.settle(balanced=False)
        end = time.monotonic() + SLACK
        while (committed := self.committed()) != self.ends and time.monotonic() < end:
            time.sleep(0.1)
        for member in self.living():
            member.stop()
        for member in self.living():
            member.join()
        self.keep_events()
        wrong = group_checks.all_wrong(self.events, self.ends)
        committed = self.committed()
        for partition, offset in self.ends.items():
            if committed[partition] != offset:
                wrong.append(f"{partition}: {committed[partition]} committed, the end is {offset}")
        if wrong:
            raise Failed(f"{len(wrong)} contradictions:\n    " + "\n    ".join(wrong[:10]))
        return f"{sum(self.ends.values())} records, {group_checks.reread(self.events)} read again"

    def keep_events(self):
        """Writes all events to the directory GROUPS_EVENTS, if that is set."""
        if directory := os.environ.get("GROUPS_EVENTS"):
            with self.lock:
                lines = [json.dumps(event) + "\n" for event in self.events]
            (Path(directory) / f"{self.name}.events").write_text("".join(lines))

    def give_up(self):
        """After a failure: nothing of this group goes on."""
        self.writing = False
        self.keep_events()
        for member in self.living():
            try:
                if member.program is Program._java:
                    member.stop()
                else:
                    member.program.process.kill()
            except OSError:
                pass
