"""One broker's run of one case: asks, writes down what came back, and names what was generated.

A case is a function of a `Session`. Everything asked through it is written down with its answer;
at the end come the records that the case's groups left in `__consumer_offsets`. Ids that a broker
or a script generates get a number in the order in which they appear, so that equal behaviour
leaves equal histories.
"""

import re
import struct
import time
from itertools import groupby

from harness import protocol, schema
from harness.protocol import Closed

ANSWER_SECONDS_MAX = 4
POLL_SECONDS_MAX = 6
OFFSETS_TOPIC = "__consumer_offsets"
CASES = []
MEMBERS_RECORDS = ("record ConsumerGroupTargetAssignmentMember", "record ConsumerGroupCurrent")
# Stands for a member's epoch as it was last told; NOW - 1 is the one before.
NOW = 1000
LAST = {name: schema.versions(name)[-1] for name in schema.apis().values() if schema.versions(name)}
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A member id that a server makes for KIP-848 members, a topic id as it is printed.
SHORT_UUID = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])")
CLOCK_FIELDS = {"CommitTimestamp", "ExpireTimestamp", "CurrentStateTimestamp", "AssignmentTimestamp"}
CLOCK_FIELDS |= {"Timestamp"}
# A hash over topic ids, and the offset of the metadata log that a regular expression was seen at.
OWN_NUMBERS = {"MetadataHash", "Version"}
# Lists that come in the order of somebody's hash map.
UNORDERED = {"Members", "members", "Topics", "TopicPartitions", "AssignedPartitions", "ApiKeys"}
UNORDERED |= {"PartitionsPendingRevocation", "Configs"}
# Kafka answers for groups of several partitions in the order of a hash map of those.
UNORDERED |= {"Groups", "Results", "Partitions"}


def case(words, function=None, **arguments):
    """Adds a case: `function(session, **arguments)`; also a decorator."""
    if function is None:
        return lambda found: case(words, found) and found
    CASES.append((words, lambda session: function(session, **arguments)))
    return True


def subscription(topics, version=1, user_data=None, owned=(), generation=-1):
    """A Java consumer's subscription, as its metadata in JoinGroup."""
    rows = [{"Topic": topic, "Partitions": list(found)} for topic, found in owned]
    values = {"Topics": list(topics), "UserData": user_data, "OwnedPartitions": rows}
    values["GenerationId"] = generation
    return struct.pack(">h", version) + schema.encode("ConsumerProtocolSubscription", version, values)


def assignment(rows, version=1, user_data=None):
    """A Java consumer's assignment: rows are (topic, partitions)."""
    found = [{"Topic": topic, "Partitions": list(partitions)} for topic, partitions in rows]
    values = {"AssignedPartitions": found, "UserData": user_data}
    return struct.pack(">h", version) + schema.encode("ConsumerProtocolAssignment", version, values)


def protocols(*rows):
    """JoinGroup's protocols: (name, metadata) or a name alone."""
    rows = [row if isinstance(row, tuple) else (row, subscription(["t1"])) for row in rows]
    return [{"Name": name, "Metadata": metadata} for name, metadata in rows]


def partition_of(group, count):
    """The partition of `__consumer_offsets` that a group lives in."""
    code = 0
    units = group.encode("utf-16-be")
    for at in range(0, len(units), 2):
        code = (code * 31 + struct.unpack_from(">H", units, at)[0]) & 0xFFFFFFFF
    return (code & 0x7FFFFFFF) % count


class Session:
    """A case's connections to one broker and its history."""

    def __init__(self, side, slug):
        self.side, self.group = side, slug
        self.groups = {slug}
        self.rows = []
        self.names = dict(side.topic_names)
        self.connections = {}
        self.epochs = {}

    # ---- asking

    def connection(self, name="main"):
        """The connection of this name; members have one each, for JoinGroup may wait."""
        if name not in self.connections:
            self.connections[name] = protocol.Connection(self.side.bootstrap, ANSWER_SECONDS_MAX)
        return self.connections[name]

    def drop(self, name):
        """Closes a connection."""
        if name in self.connections:
            self.connections.pop(name).close()

    def raw_call(self, api, version, on="main", **fields):
        """Asks; the answer's fields, or "closed" or "silent"."""
        self.ask(api, version, on, **fields)
        return self.answer(api, version, on)

    def ask(self, api, version, on="main", **fields):
        """Asks without waiting for the answer."""
        found = self.connection(on)
        found.correlation += 1
        try:
            found.send(schema.request(api, version, found.correlation, fields, "cli-" + on))
        except Closed:
            pass

    def answer(self, api, version, on="main"):
        """The answer to the oldest question on this connection."""
        try:
            return schema.answer(api, version, self.connection(on).answer())[1]
        except Closed:
            self.drop(on)
            return "closed"
        except TimeoutError:
            self.drop(on)
            return "silent"

    def call(self, api, version=None, on="main", **fields):
        """Asks and writes down question and answer."""
        version = LAST[api] if version is None else min(version, LAST[api])
        found = self.raw_call(api, version, on, **fields)
        self.note(f"{api} v{version}", fields, found)
        return found if isinstance(found, dict) else {}

    def take(self, api, version, on):
        """Reads the answer to a question asked by `ask`, and writes it down."""
        version = min(version, LAST[api])
        found = self.answer(api, version, on)
        self.note(f"{api} v{version} of {on}", {}, found)
        return found if isinstance(found, dict) else {}

    def listed(self, version, **fields):
        """ListGroups, the groups of this case alone and in order."""
        found = self.raw_call("ListGroups", version, **fields)
        if isinstance(found, dict):
            found["Groups"] = [row for row in found["Groups"] if row["GroupId"].startswith(self.group)]
        self.note(f"ListGroups v{version}", fields, found)

    def note(self, words, asked, found):
        """Writes something down."""
        self.rows.append((words, asked, found))

    def until(self, words, ask, done):
        """Asks again and again until `done(answer)`; only the last answer is written down."""
        end = time.monotonic() + POLL_SECONDS_MAX
        while True:
            found = ask()
            if done(found) or time.monotonic() > end:
                break
            time.sleep(0.02)
        self.note(f"{words}", {}, found)
        return found

    def until_state(self, state, group=None):
        """Waits until DescribeGroups shows this state."""
        group = group or self.group

        def ask():
            found = self.raw_call("DescribeGroups", 5, "watch", Groups=[group])
            return found if found in ("closed", "silent") else found["Groups"][0]["GroupState"]

        return self.until(f"state of {group}", ask, lambda found: found == state)

    def until_members(self, count, group=None):
        """Waits until DescribeGroups shows this many members."""
        group = group or self.group

        def ask():
            found = self.raw_call("DescribeGroups", 5, "watch", Groups=[group])
            return found if isinstance(found, str) else len(found["Groups"][0]["Members"])

        return self.until(f"members of {group}", ask, lambda found: found == count)

    # ---- members

    def join(self, version, on="main", **fields):
        """JoinGroup with defaults; asks again with the id it is given (KIP-394)."""
        values = self.join_fields(**fields)
        first = self.call("JoinGroup", version, on, **values)
        if first.get("ErrorCode") == 79:
            values["MemberId"] = first["MemberId"]
            return self.call("JoinGroup", version, on, **values)
        return first

    def join_fields(self, **fields):
        """JoinGroup's fields: a Java consumer of topic t1, unless told otherwise."""
        return {
            "GroupId": self.group,
            "SessionTimeoutMs": 30000,
            "RebalanceTimeoutMs": 60000,
            "MemberId": "",
            "ProtocolType": "consumer",
            "Protocols": protocols("range"),
            **fields,
        }

    def sync(self, version, member, generation, on="main", shares=None, **fields):
        """SyncGroup; `shares` is {member: assignment bytes}."""
        rows = [{"MemberId": key, "Assignment": raw} for key, raw in (shares or {}).items()]
        values = {
            "GroupId": self.group,
            "GenerationId": generation,
            "MemberId": member,
            "ProtocolType": "consumer",
            "ProtocolName": "range",
            "Assignments": rows,
        }
        return self.call("SyncGroup", version, on, **{**values, **fields})

    def stable(self, version=LAST["JoinGroup"], on="main", **fields):
        """A group of one stable member; returns (member id, generation)."""
        joined = self.join(version, on, **fields)
        member, generation = joined.get("MemberId", ""), joined.get("GenerationId", -1)
        self.sync(5, member, generation, on, {member: assignment([("t1", [0, 1, 2])])})
        return member, generation

    def second(self, version, first, generation, **fields):
        """Lets a second member join a stable group; returns both JoinGroup answers.

        The first rejoins; it keeps its id and stays the leader.
        """
        values = self.join_fields(**fields)
        if version >= 4 and not values.get("GroupInstanceId"):
            found = self.call("JoinGroup", version, "two", **values)
            values["MemberId"] = found.get("MemberId", "")
        self.ask("JoinGroup", version, "two", **values)
        self.until_state("PreparingRebalance")
        self.call("Heartbeat", 3, GroupId=self.group, GenerationId=generation, MemberId=first)
        mine = self.call("JoinGroup", version, **self.join_fields(MemberId=first, **fields))
        return mine, self.take("JoinGroup", version, "two")

    def heartbeat(self, epoch=0, version=1, on="main", **fields):
        """ConsumerGroupHeartbeat with a joining member's defaults."""
        values = {"GroupId": self.group, "MemberEpoch": epoch}
        if epoch == 0:
            values |= {"RebalanceTimeoutMs": 60000, "SubscribedTopicNames": ["t1"]}
            values |= {"TopicPartitions": []}
        values |= fields
        member = values.get("MemberId")
        values["MemberEpoch"] = self.epoch(member, epoch)
        found = self.call("ConsumerGroupHeartbeat", version, on, **values)
        self.told(found)
        return found

    def epoch(self, member, number):
        """The number, or what it stands for when it is near `NOW`."""
        return number + self.epochs.get(member, 0) - NOW if abs(number - NOW) < 100 else number

    def told(self, found):
        """Remembers the epoch that an answer told a member."""
        if isinstance(found, dict) and found.get("ErrorCode") == 0:
            self.epochs[found["MemberId"]] = found["MemberEpoch"]

    def commit(self, version=9, member="", generation=-1, rows=(("t1", 0, 5),), **fields):
        """OffsetCommit; rows are (topic, partition, offset), and maybe metadata and epoch."""
        topics = []
        for topic, partition, offset, *rest in rows:
            part = {"PartitionIndex": partition, "CommittedOffset": offset}
            part["CommittedMetadata"] = rest[0] if rest else ""
            part["CommittedLeaderEpoch"] = rest[1] if rest[1:] else -1
            topics.append({**self.topic(topic), "Partitions": [part]})
        generation = self.epoch(member, generation)
        values = {"GroupId": self.group, "GenerationIdOrMemberEpoch": generation}
        values |= {"MemberId": member, "Topics": topics}
        return self.call("OffsetCommit", version, **{**values, **fields})

    def topic(self, name):
        """Name and id of a topic; one that does not exist has an id that nobody has."""
        ids = {found: key for key, found in self.side.topic_names.items()}
        return {"Name": name, "TopicId": ids.get(name, "ab" * 16)}

    def fetch(self, version=9, rows=(("t1", [0, 1]),), group=None, member=None, epoch=-1, **fields):
        """OffsetFetch of one group, in the shape that the version has."""
        group = self.group if group is None else group
        epoch, topics = self.epoch(member, epoch), None
        if rows is not None:
            topics = [{**self.topic(name), "PartitionIndexes": list(found)} for name, found in rows]
        if version < 8:
            topics = topics and [{k: v for k, v in row.items() if k != "TopicId"} for row in topics]
            values = {"GroupId": group, "Topics": topics}
        else:
            one = {"GroupId": group, "MemberId": member, "MemberEpoch": epoch, "Topics": topics}
            values = {"Groups": [one]}
        return self.call("OffsetFetch", version, **{**values, **fields})

    # ---- the end of a case

    def records(self):
        """What the case's groups left in `__consumer_offsets`, decoded."""
        rows = []
        for group in sorted(self.groups, key=lambda name: name.encode()):
            part = partition_of(group, self.side.offsets_partitions)
            for key, value in self.side.log(part):
                kind, fields = schema.group_key(key)
                if fields.get("Group", fields.get("GroupId")) == group:
                    found = schema.group_value(kind, value)
                    rows.append((f"record {kind} of {group}", fields, found))
        return rows

    def history(self, with_records):
        """Everything written down, normalised."""
        rows = self.rows + (self.records() if with_records else [])
        rows = [
            (words, *Normal(self).both(asked, found)) for words, asked, found in self.named(rows)
        ]
        # Records of one kind in a row are those of several members, in the order of a hash map.
        return [
            row
            for words, run in groupby(rows, key=lambda row: row[0])
            for row in (sorted(run, key=repr) if words.startswith(MEMBERS_RECORDS) else run)
        ]

    def named(self, rows):
        """Gives numbers to generated ids, in the order of their appearance."""
        # What stands in lists without an order comes last.
        for unordered in (set(), UNORDERED):
            for row in rows:
                self.learn(row, UNORDERED - unordered)
        return rows

    def learn(self, value, skipped):
        """Numbers the generated ids inside `value`, but for fields to be skipped."""
        if isinstance(value, dict):
            for key, found in value.items():
                if key not in skipped:
                    self.learn(found, skipped)
        elif isinstance(value, (list, tuple)):
            for found in value:
                self.learn(found, skipped)
        elif isinstance(value, str):
            for found in UUID.findall(value) + SHORT_UUID.findall(value):
                self.names.setdefault(found, f"<id {len(self.names) - len(self.side.topic_names)}>")

    def close(self):
        """Closes all connections."""
        for name in list(self.connections):
            self.drop(name)


class Normal:
    """Replaces what must differ between two brokers."""

    def __init__(self, session):
        self.session, self.side = session, session.side

    def both(self, asked, found):
        return self.value(asked), self.value(found)

    def value(self, value, key=""):
        if isinstance(value, dict):
            return {name: self.value(found, name) for name, found in value.items()}
        if isinstance(value, (list, tuple)):
            rows = [self.value(found, key) for found in value]
            return sorted(rows, key=repr) if key in UNORDERED else rows
        if key in CLOCK_FIELDS and isinstance(value, int):
            return "never" if value < 0 else "a time"
        if key in OWN_NUMBERS and value:
            return "a number of its own"
        if key == "Port" and value == self.side.port:
            return "PORT"
        if isinstance(value, bytes):
            return value if len(value) < 300 else f"{len(value)} bytes"
        if isinstance(value, str):
            return self.text(value)
        return value

    def text(self, text):
        for pattern in (UUID, SHORT_UUID):
            text = pattern.sub(lambda m: self.session.names.get(m[0], m[0]), text)
        if len(text) == 32 and text in self.session.names:
            return self.session.names[text]
        text = text.replace(str(self.side.port), "PORT") if self.side.port else text
        return text if len(text) < 600 else f"{text[:60]}... {len(text)} characters"
