#!/usr/bin/env python3
"""A group of your own: workers elect a leader, which shares out jobs that are no partitions.

    examples/elect.py --bootstrap 127.0.0.1:9092 --group nightly --name w1 --jobs mail,bills,backup

Start it several times with other names; end one with ctrl-c, or kill it. Each prints a line of
JSON whenever what it has to do changes. There is no client library here, and no dependency: five
requests of Kafka's protocol are all it takes. What a broker does for the group:

  FindCoordinator  says which broker keeps this group.
  JoinGroup        waits until all members are here, picks one leader, begins a new generation.
                   The leader's answer lists all members with the metadata each one sent.
  SyncGroup        the leader sends an assignment for each member; each member gets its own.
  Heartbeat        says "still here". The answer says when the group forms anew.
  LeaveGroup       says "gone", so that nobody has to wait for the session to end.

Metadata and assignments are bytes that the broker carries and does not read: here JSON. Members
of one group must send the same protocol type (here "elect", consumers send "consumer") and have a
protocol name in common; a new way to share out would get a new name, listed beside the old one
until every member knows it.

The rule that keeps two workers off one job: before a worker asks to join again, it stops working;
and a worker that could not send heartbeats for a session stops as well, for then others have its
jobs.
"""

import argparse
import json
import signal
import socket
import struct
import sys
import time

PROTOCOL_TYPE = "elect"
PROTOCOL_NAME = "even-shares"

# Error codes of Kafka's protocol that a member meets in its normal life.
COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 22, 25, 27, 79
MOVED = (COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR)


# ---- bytes: big-endian numbers, strings and byte arrays with their length before them ------------


def string(text):
    if text is None:
        return struct.pack(">h", -1)
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def blob(raw):
    return struct.pack(">i", len(raw)) + raw


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Answer:
    """Reads an answer field by field."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def number(self, form):
        (value,) = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return value

    def int16(self):
        return self.number(">h")

    def int32(self):
        return self.number(">i")

    def take(self, size):
        self.at += size
        return self.raw[self.at - size : self.at]

    def string(self):
        size = self.int16()
        return None if size < 0 else self.take(size).decode()

    def blob(self):
        return self.take(max(0, self.int32()))


class Connection:
    """One connection to one broker."""

    def __init__(self, host, port, client_id):
        self.socket = socket.create_connection((host, port), 10)
        self.client_id, self.asked = client_id, 0

    def read(self, size):
        raw = b""
        while len(raw) < size:
            part = self.socket.recv(size - len(raw))
            if not part:
                raise ConnectionError("the broker closed the connection")
            raw += part
        return raw

    def call(self, key, version, body, seconds=10):
        """Sends a request, returns its answer. `key` says which request it is."""
        self.asked += 1
        head = struct.pack(">hhi", key, version, self.asked) + string(self.client_id)
        self.socket.settimeout(seconds)
        self.socket.sendall(blob(head + body))
        answer = Answer(self.read(struct.unpack(">i", self.read(4))[0]))
        if answer.int32() != self.asked:
            raise ConnectionError("the answer to another question")
        return answer

    def close(self):
        self.socket.close()


# ---- the member ---------------------------------------------------------------------------------


class Rejoin(Exception):
    """The group forms anew, or does not know this member any more."""


class Moved(Exception):
    """Another broker keeps the group, or none does at the moment."""


class Worker:
    """One member of the group."""

    def __init__(self, args):
        self.args = args
        self.session_ms = int(args.session_seconds * 1000)
        self.connection = None
        # Both are given by the coordinator; they are what it knows this member by.
        self.member_id, self.generation = "", -1
        self.jobs, self.is_leader = [], False
        self.joining, self.leaving = False, False

    def say(self, event, **fields):
        print(json.dumps({"at": time.time(), "event": event, **fields}), flush=True)

    def stop_working(self):
        """Puts all jobs down. Where a job takes long, this is where to wait for its end."""
        if self.jobs:
            self.say("idle")
        self.jobs = []

    def connect(self):
        """FindCoordinator v1, at any broker; then a connection to the one that it names."""
        if self.connection:
            self.connection.close()
        host, port = self.args.bootstrap.rsplit(":", 1)
        asked = Connection(host, int(port), self.args.name)
        # Key type 0 is a group, 1 would be a transactional id.
        answer = asked.call(10, 1, string(self.args.group) + b"\0")
        asked.close()
        answer.int32()
        error, _message = answer.int16(), answer.string()
        if error:
            raise Moved(f"FindCoordinator answered {error}")
        _node, host, port = answer.int32(), answer.string(), answer.int32()
        self.connection = Connection(host, port, self.args.name)

    def judge(self, error, what):
        """What an error code asks for."""
        if error == 0:
            return
        if error in MOVED:
            raise Moved(f"{what} answered {error}")
        if error in (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS):
            if error == UNKNOWN_MEMBER_ID:
                self.member_id = ""
            raise Rejoin
        sys.exit(f"{what} answered {error}")

    def join(self):
        """JoinGroup v5: waits for the others; returns the members that a leader shares out to."""
        metadata = json.dumps({"name": self.args.name}).encode()
        rebalance_ms = self.session_ms
        while True:
            body = string(self.args.group)
            body += struct.pack(">ii", self.session_ms, rebalance_ms)
            body += string(self.member_id)
            body += string(None)  # no static member
            body += string(PROTOCOL_TYPE) + array([string(PROTOCOL_NAME) + blob(metadata)])
            # It is answered when everybody has joined, or the rebalance timeout is over; the
            # first generation of a group waits for more members to come.
            answer = self.connection.call(11, 5, body, seconds=rebalance_ms / 1000 + 30)
            answer.int32()
            error = answer.int16()
            self.generation = answer.int32()
            _chosen, leader, member_id = answer.string(), answer.string(), answer.string()
            if error == MEMBER_ID_REQUIRED:
                # The first time it only gives out an id, so that a lost answer leaves no ghost.
                self.member_id = member_id
                continue
            self.judge(error, "JoinGroup")
            break
        self.member_id, self.is_leader = member_id, leader == member_id
        members = []
        for _ in range(answer.int32()):
            one, _instance, told = answer.string(), answer.string(), answer.blob()
            members.append((one, json.loads(told)["name"]))
        return members

    def share_out(self, members):
        """The leader's decision: each job to one member, evenly. Any rule will do here."""
        members = sorted(members, key=lambda member: member[1])
        return [
            string(member_id)
            + blob(json.dumps(self.args.jobs[index :: len(members)]).encode())
            for index, (member_id, _name) in enumerate(members)
        ]

    def sync(self, members):
        """SyncGroup v3: the leader hands in the shares, everybody gets its own."""
        shares = self.share_out(members) if self.is_leader else []
        body = string(self.args.group) + struct.pack(">i", self.generation)
        body += string(self.member_id) + string(None) + array(shares)
        answer = self.connection.call(14, 3, body, seconds=self.session_ms / 1000 + 30)
        answer.int32()
        self.judge(answer.int16(), "SyncGroup")
        return json.loads(answer.blob())

    def heartbeat(self):
        """Heartbeat v3."""
        body = string(self.args.group) + struct.pack(">i", self.generation)
        body += string(self.member_id) + string(None)
        # No answer within this time is an error (`run` puts the jobs down): so a worker always
        # stops before its session ends and others are given its jobs.
        answer = self.connection.call(12, 3, body, seconds=self.session_ms / 1000 / 3)
        answer.int32()
        self.judge(answer.int16(), "Heartbeat")

    def leave(self):
        """LeaveGroup v1: the others need not wait until the session ends."""
        if self.member_id and self.connection:
            body = string(self.args.group) + string(self.member_id)
            self.connection.call(13, 1, body, seconds=2)

    def one_generation(self):
        """Joins, and works until the group forms anew."""
        self.joining = True
        self.jobs = self.sync(self.join())
        self.joining = False
        leads, generation = self.is_leader, self.generation
        self.say("working", jobs=self.jobs, leads=leads, generation=generation)
        while not self.leaving:
            # The work would be done here, in slices shorter than a third of the session.
            time.sleep(self.session_ms / 1000 / 12)
            self.heartbeat()

    def run(self):
        """Lives through generations, errors of the network and brokers that come and go."""
        while not self.leaving:
            try:
                if self.connection is None:
                    self.connect()
                self.one_generation()
            except Rejoin:
                self.stop_working()
            except (OSError, Moved):
                # Putting the jobs down is always safe. A worker that would rather go on while a
                # broker restarts may, until its session is over by its own clock.
                self.stop_working()
                self.connection = None
                time.sleep(0.2)
        self.stop_working()
        try:
            self.leave()
        except OSError:
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", help="HOST:PORT of any broker")
    parser.add_argument("--group", required=True)
    parser.add_argument("--name", required=True, help="a name for this worker")
    parser.add_argument("--jobs", required=True, type=lambda text: text.split(","))
    parser.add_argument("--session-seconds", type=float, default=10.0)
    worker = Worker(parser.parse_args())

    def end(_number, _frame):
        # The answer to a join may take long: then, or when asked twice, it ends without a word.
        if worker.leaving or worker.joining:
            sys.exit(0)
        worker.leaving = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    worker.run()


if __name__ == "__main__":
    main()
