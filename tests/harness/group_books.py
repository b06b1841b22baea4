"""The books of a test with groups: commits that may be read, and what members may own."""

import struct
import threading
import time

from . import schema

LOADING, NO_COORDINATOR, NOT_COORDINATOR = 14, 15, 16
NOT_YET = {LOADING, NO_COORDINATOR, NOT_COORDINATOR}


class NotYet(Exception):
    """The coordinator is loading, or is not known yet: ask again."""


def subscription(topic):
    """A consumer's metadata in JoinGroup, for one topic."""
    values = {"Topics": [topic], "UserData": None, "OwnedPartitions": []}
    return struct.pack(">h", 1) + schema.encode("ConsumerProtocolSubscription", 1, values)


def assignment(topic, partitions):
    """A consumer's assignment in SyncGroup."""
    rows = [{"Topic": topic, "Partitions": list(partitions)}] if partitions else []
    values = {"AssignedPartitions": rows, "UserData": None}
    return struct.pack(">h", 1) + schema.encode("ConsumerProtocolAssignment", 1, values)


def assigned(raw):
    """The partitions in the bytes of an assignment."""
    if not raw:
        return []
    (version,) = struct.unpack_from(">h", raw)
    rows = schema.decode("ConsumerProtocolAssignment", min(version, 3), raw[2:])
    return sorted(index for row in rows["AssignedPartitions"] for index in row["Partitions"])


def fetch_committed(connection, topic, groups, partitions):
    """{(group, partition): (offset, metadata)} by OffsetFetch v8; -1 where nothing is committed."""
    rows = [{"Name": topic, "PartitionIndexes": list(range(partitions))}]
    rows = [{"GroupId": group, "Topics": rows} for group in groups]
    answer = schema.call(connection, "OffsetFetch", 8, {"Groups": rows, "RequireStable": True})
    found = {}
    for group in answer["Groups"]:
        if group["ErrorCode"] in NOT_YET:
            raise NotYet
        if group["ErrorCode"]:
            raise ValueError(f"OffsetFetch of {group['GroupId']} answered {group['ErrorCode']}")
        for row in group["Topics"][0]["Partitions"]:
            if row["ErrorCode"] in NOT_YET:
                raise NotYet
            if row["ErrorCode"]:
                raise ValueError(f"OffsetFetch of {group['GroupId']}: {row}")
            key = (group["GroupId"], row["PartitionIndex"])
            found[key] = (row["CommittedOffset"], row["Metadata"])
    return found


class Ledger:
    """The commits of some keys, each with the time of its question and of its end.

    A commit is written at some moment between the two, or never if it was not acknowledged. So
    what is read must be a commit that no acknowledged one followed entirely.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.rows = {}
        self.acknowledged = 0
        self.checked = 0

    def begin(self, keys, offset):
        """Notes a commit about to be sent; returns a list of what `end` takes, one for each key."""
        entries = [
            {"key": key, "begun": time.monotonic(), "ended": None, "offset": offset, "sure": False}
            for key in keys
        ]
        with self.lock:
            for entry in entries:
                self.rows.setdefault(entry["key"], []).append(entry)
        return entries

    def end(self, entry, how):
        """`how`: "yes" for acknowledged, "no" for refused, "unknown" for one without an answer."""
        with self.lock:
            if how == "no":
                self.rows[entry["key"]].remove(entry)
                return
            entry["ended"], entry["sure"] = time.monotonic(), how == "yes"
            self.acknowledged += how == "yes"

    def check(self, asked, found):
        """Compares `found` {key: offset}, read by a question sent at `asked`; returns problems."""
        problems = []
        with self.lock:
            for key, rows in self.rows.items():
                sure = [row for row in rows if row["sure"] and row["ended"] < asked]
                if not sure:
                    continue
                self.checked += 1
                newest = max(row["begun"] for row in sure)
                due = [row for row in rows if row["ended"] is None or row["ended"] >= newest]
                offset = found.get(key, -1)
                same = [row for row in due if row["offset"] == offset]
                if same:
                    # What was read once may not be gone later.
                    same[0]["sure"] = True
                    same[0]["ended"] = same[0]["ended"] or time.monotonic()
                else:
                    offsets = sorted(row["offset"] for row in due)[:6]
                    problems.append(f"{key}: committed offset is {offset}, due one of {offsets}")
                self.rows[key] = due
        return problems


class Board:
    """What the members of one group know together, and every promise that was broken to them."""

    def __init__(self, group, topic, partitions, topic_id=None):
        self.group, self.topic, self.partitions = group, topic, partitions
        self.topic_id = topic_id
        self.lock = threading.RLock()
        self.ledger = Ledger()
        self.problems = []
        self.odd = {}
        self.cut_off = {}
        self.rebalances = 0
        # Generations: who the leader was told is in it, and what it handed out.
        self.told, self.handed_out, self.synced = {}, {}, set()
        self.joined_max = self.synced_max = -1
        self.reused = 0
        self.owners = {}
        self.epoch_max = 0
        self.next_offset = 1

    def problem(self, words):
        with self.lock:
            self.problems.append(f"{self.group}: {words}")

    def strange(self, words):
        """Counts an answer that is not an error, but is told of at the end."""
        with self.lock:
            self.odd[words] = self.odd.get(words, 0) + 1

    def cut(self, name):
        """Counts a request that the broker died over."""
        with self.lock:
            self.cut_off[name] = self.cut_off.get(name, 0) + 1

    def offset(self):
        """The next offset to commit, larger than all before."""
        with self.lock:
            self.next_offset += 1
            return self.next_offset

    # ---- classic

    def generation_joined(self, generation, members):
        """A JoinGroup answer; `members` is what the leader was told, None for others.

        Like Apache's, the coordinator writes a generation down when its leader hands out the work.
        One that only JoinGroup told of may come again after a crash, and is counted.
        """
        with self.lock:
            if generation < self.synced_max:
                self.problem(f"generation {generation} after {self.synced_max} was handed out")
            if generation < self.joined_max:
                self.reused += 1
            self.joined_max = max(self.joined_max, generation)
            if members is None:
                return
            names = sorted(members)
            if generation in self.synced and self.told.get(generation) != names:
                self.problem(f"generation {generation} is there twice with different members")
            self.told[generation] = names
            self.rebalances += 1

    def generation_offered(self, generation, work):
        """The leader is about to hand out `work` {member: partitions}."""
        with self.lock:
            self.handed_out.setdefault(generation, []).append(work)

    def generation_synced(self, generation, member, got):
        """A SyncGroup answer."""
        with self.lock:
            self.synced_max = max(self.synced_max, generation)
            self.synced.add(generation)
            offers = [work.get(member) for work in self.handed_out.get(generation, [])]
            if got not in offers:
                self.problem(f"{member} got {got} in generation {generation}, due one of {offers}")

    # ---- consumer

    def release(self, member, kept=()):
        """`member` owns no more than `kept`."""
        with self.lock:
            for index in [index for index, row in self.owners.items() if row[0] == member]:
                if index not in kept:
                    del self.owners[index]

    def take(self, member, partitions, valid_seconds):
        """`member` owns `partitions` until it releases them, or for so long after its last beat."""
        now = time.monotonic()
        with self.lock:
            for index in partitions:
                other, until = self.owners.get(index, (member, 0))
                if other != member and until > now:
                    self.problem(f"partition {index} given to {member} while {other} owns it")
            for index in partitions:
                self.owners[index] = (member, now + valid_seconds)

    def epoch(self, epoch):
        """A member's epoch or the group's, as an answer tells it. Only rises in the group."""
        with self.lock:
            if epoch > self.epoch_max:
                self.epoch_max = epoch
                self.rebalances += 1
