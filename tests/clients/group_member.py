"""What the Python members of the group tests share: commands on stdin, events on stdout, the loop.

Every member program speaks the same lines of JSON. In: `start` with the settings (`name`,
`bootstrap`, `group`, `topics` or `pattern`, `protocol`, `assignor`, `instance`, `session_ms`,
`heartbeat_ms`, `max_poll_ms`), then `pause` for `ms` without polling, and `stop`. Out: `assigned`,
`revoked`, `lost` (partitions as "topic:number", with the generation where the client shows it),
`records` (partition, first and last offset of one poll), `committed`, `commit_failed`, `pausing`,
`resumed`, `stopping`, `stopped`, `error`. `assigned` adds to what is owned, `revoked` and `lost`
take from it. What was read is committed after every poll and before partitions are given up.
"""

import json
import queue
import sys
import threading
import time
import traceback

POLL_SECONDS = 0.1


class Member:
    """One member of a group; a client library fills in the methods that raise."""

    def __init__(self, settings):
        self.settings = settings
        self.commands = queue.Queue()
        self.uncommitted = {}

    def open(self):
        """Makes the consumer and subscribes."""
        raise NotImplementedError

    def poll(self):
        """Polls once: a list of (partition, offset, value) in the order they were read."""
        raise NotImplementedError

    def commit_offsets(self, offsets):
        """Commits {partition: next offset} and waits for the answer."""
        raise NotImplementedError

    def close(self):
        """Leaves the group as the library does it."""
        raise NotImplementedError

    def say(self, event, **fields):
        """Writes one event."""
        line = {"at": time.time(), "member": self.settings["name"], "event": event, **fields}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def commit(self, partitions=None):
        """Commits what was read and not yet committed, of all or of some partitions."""
        wanted = self.uncommitted if partitions is None else partitions
        offsets = {p: self.uncommitted[p] for p in wanted if p in self.uncommitted}
        if not offsets:
            return
        try:
            self.commit_offsets(offsets)
        except Exception as error:
            self.say("commit_failed", offsets=offsets, error=repr(error))
            return
        self.say("committed", offsets=offsets)
        for partition in offsets:
            del self.uncommitted[partition]

    def given_up(self, event, partitions):
        """Partitions are no longer this member's."""
        if event == "revoked":
            self.commit(partitions)
        for partition in partitions:
            self.uncommitted.pop(partition, None)
        self.say(event, partitions=sorted(partitions))

    def read(self, rows):
        """Notes the records of one poll: each value is its offset, each partition has no gap."""
        ranges = {}
        for partition, offset, value in rows:
            first, last = ranges.get(partition, (offset, offset - 1))
            if offset != last + 1 or value != b"%d" % offset:
                self.say("error", text=f"{partition}: {value} at {offset} after {last}", fatal=True)
            ranges[partition] = (first, offset)
        for partition, (first, last) in ranges.items():
            self.say("records", partition=partition, first=first, last=last)
            self.uncommitted[partition] = last + 1
        self.commit()

    def run(self):
        """Polls until it is told to stop."""
        self.open()
        while True:
            try:
                command = self.commands.get_nowait()
            except queue.Empty:
                self.read(self.poll())
                continue
            if command["do"] == "stop":
                break
            if command["do"] == "pause":
                self.say("pausing")
                time.sleep(command["ms"] / 1000)
                self.say("resumed")
        self.commit()
        self.say("stopping")
        self.close()
        self.say("stopped")


def main(make):
    """Runs the one member of this process; `make` is the class of a client library."""
    member = make(json.loads(sys.stdin.readline()))

    def listen():
        for line in sys.stdin:
            member.commands.put(json.loads(line))
        member.commands.put({"do": "stop"})

    threading.Thread(target=listen, daemon=True).start()
    try:
        member.run()
    except Exception:
        member.say("error", text=traceback.format_exc(), fatal=True)
        raise
