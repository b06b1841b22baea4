"""Members of groups by raw frames: a thread is one slot that joins, works, leaves, comes back."""

import random
import threading
import time
import uuid

from . import protocol, schema
from .group_books import NOT_YET, NotYet, assigned, assignment, subscription

SESSION_MS = 2000
REBALANCE_MS = 4000
ANSWER_SECONDS_MAX = 15
BEAT_SECONDS = 0.15

ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING = 22, 25, 27
MEMBER_ID_REQUIRED, FENCED_EPOCH, STALE_EPOCH = 79, 110, 113
# A commit that is told one of these was not written.
REFUSED = NOT_YET | {ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, FENCED_EPOCH, STALE_EPOCH}


class Lost(Exception):
    """The member is not one any more: it joins again."""


class Slot(threading.Thread):
    """What members of both protocols share: the life of a slot, its connection, its commits."""

    def __init__(self, bootstrap, board, number, hold, ended):
        super().__init__(name=f"{board.group}-{number}", daemon=True)
        self.bootstrap, self.board, self.hold, self.ended = bootstrap, board, hold, ended
        self.source = random.Random(f"{board.group}-{number}")
        self.connection = None
        self.member = ""
        self.held = None
        self.asking = None

    def run(self):
        while not self.ended.is_set():
            try:
                self.live()
            except Exception as fault:  # a fault of the test itself, told instead of hung up on
                self.board.problem(f"{self.name} broke: {type(fault).__name__} {fault}")
                time.sleep(0.2)
            if not self.hold.is_set():
                time.sleep(self.source.uniform(0, 0.3))

    def live(self):
        """One life, from joining to leaving or breaking off."""
        self.member, self.held = self.first_id(), None
        until = time.monotonic() + self.source.uniform(0.2, 2.5)
        while not self.ended.is_set() and (self.hold.is_set() or time.monotonic() < until):
            try:
                self.once()
            except Lost:
                self.lost()
            except NotYet:
                time.sleep(0.1)
            except TimeoutError:
                self.board.problem(f"no answer to {self.asking} in {ANSWER_SECONDS_MAX} s")
                self.drop()
            except (OSError, protocol.Closed):
                if self.asking:
                    self.board.cut(self.asking)
                self.drop()
                self.disconnected()
                time.sleep(0.02)
        if self.source.random() < 0.7 or self.ended.is_set():
            try:
                self.leave()
            except (OSError, protocol.Closed):
                pass
        self.held = None
        self.gone()
        self.drop()

    def call(self, name, version, values):
        """Asks, over a new connection where there is none."""
        if self.connection is None:
            self.asking = None
            self.connection = protocol.Connection(self.bootstrap, ANSWER_SECONDS_MAX)
        self.asking = name
        answer = schema.call(self.connection, name, version, values)
        self.asking = None
        return answer

    def drop(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def commit(self, epoch, partitions):
        """Commits a new offset for some of `partitions`."""
        chosen = [index for index in partitions if self.source.random() < 0.5]
        if not chosen:
            return
        board, offset = self.board, self.board.offset()
        entries = board.ledger.begin([(board.group, index) for index in chosen], offset)
        rows = [
            {"PartitionIndex": index, "CommittedOffset": offset, "CommittedMetadata": str(offset)}
            for index in chosen
        ]
        values = {"GroupId": board.group, "GenerationIdOrMemberEpoch": epoch}
        values |= {"MemberId": self.member, "Topics": [{"Name": board.topic, "Partitions": rows}]}
        try:
            answer = self.call("OffsetCommit", 9, values)
        except BaseException:
            for entry in entries:
                board.ledger.end(entry, "unknown")
            raise
        for entry, row in zip(entries, answer["Topics"][0]["Partitions"], strict=True):
            error = row["ErrorCode"]
            board.ledger.end(entry, "yes" if error == 0 else "no")
            if error and error not in REFUSED:
                board.strange(f"OffsetCommit answered {error}")

    def first_id(self):
        return ""

    def lost(self):
        self.held = None

    def disconnected(self):
        """The connection is gone; the membership may well go on."""

    def gone(self):
        """The life has ended."""


class ClassicSlot(Slot):
    """A member of a classic group."""

    generation = -1

    def once(self):
        if self.held is None:
            self.enter()
        values = {"GroupId": self.board.group, "GenerationId": self.generation}
        error = self.call("Heartbeat", 4, values | {"MemberId": self.member})["ErrorCode"]
        if error == REBALANCING:
            self.held = None
        elif error in NOT_YET:
            raise NotYet
        elif error in (UNKNOWN_MEMBER, ILLEGAL_GENERATION):
            self.forget(error)
        elif error:
            self.board.problem(f"Heartbeat answered {error}")
            raise Lost
        else:
            self.commit(self.generation, self.held)
            time.sleep(BEAT_SECONDS)

    def forget(self, error):
        if error == UNKNOWN_MEMBER:
            self.member = ""
        raise Lost

    def enter(self):
        """JoinGroup and SyncGroup."""
        board = self.board
        values = {"GroupId": board.group, "SessionTimeoutMs": SESSION_MS}
        values |= {"RebalanceTimeoutMs": REBALANCE_MS, "ProtocolType": "consumer"}
        values["Protocols"] = [{"Name": "range", "Metadata": subscription(board.topic)}]
        answer = self.call("JoinGroup", 9, values | {"MemberId": self.member})
        if answer["ErrorCode"] == MEMBER_ID_REQUIRED:
            self.member = answer["MemberId"]
            answer = self.call("JoinGroup", 9, values | {"MemberId": self.member})
        self.expect("JoinGroup", answer["ErrorCode"])
        self.member, self.generation = answer["MemberId"], answer["GenerationId"]
        leads = answer["Leader"] == self.member
        members = [row["MemberId"] for row in answer["Members"]]
        board.generation_joined(self.generation, members if leads else None)
        work = {}
        if leads:
            members.sort()
            for place, name in enumerate(members):
                work[name] = list(range(place, board.partitions, len(members)))
            board.generation_offered(self.generation, work)
        rows = [
            {"MemberId": name, "Assignment": assignment(board.topic, partitions)}
            for name, partitions in work.items()
        ]
        values = {"GroupId": board.group, "GenerationId": self.generation, "Assignments": rows}
        values |= {"ProtocolType": "consumer", "ProtocolName": "range", "MemberId": self.member}
        answer = self.call("SyncGroup", 5, values)
        self.expect("SyncGroup", answer["ErrorCode"])
        got = assigned(answer["Assignment"])
        board.generation_synced(self.generation, self.member, got)
        self.held = got

    def expect(self, name, error):
        if error in NOT_YET:
            raise NotYet
        if error in (UNKNOWN_MEMBER, ILLEGAL_GENERATION):
            self.forget(error)
        if error == REBALANCING:
            raise Lost
        if error:
            self.board.problem(f"{name} answered {error}")
            raise Lost

    def leave(self):
        if self.member:
            rows = [{"MemberId": self.member, "GroupInstanceId": None}]
            self.call("LeaveGroup", 5, {"GroupId": self.board.group, "Members": rows})


class ConsumerSlot(Slot):
    """A member of a group of the consumer protocol."""

    epoch = 0
    whole = True

    def first_id(self):
        self.epoch, self.whole = 0, True
        return str(uuid.uuid4())

    def lost(self):
        self.board.release(self.member)
        self.epoch, self.whole, self.held = 0, True, None

    def disconnected(self):
        self.whole = True

    def gone(self):
        self.board.release(self.member)

    def once(self):
        board = self.board
        due = self.epoch or board.epoch_max
        values = {"GroupId": board.group, "MemberId": self.member, "MemberEpoch": self.epoch}
        values |= {"TopicPartitions": None, "SubscribedTopicNames": None, "ServerAssignor": None}
        if self.whole:
            owned = [{"TopicId": board.topic_id, "Partitions": self.held}] if self.held else []
            values |= {"RebalanceTimeoutMs": REBALANCE_MS, "TopicPartitions": owned}
            values |= {"SubscribedTopicNames": [board.topic], "ServerAssignor": "uniform"}
        answer = self.call("ConsumerGroupHeartbeat", 1, values)
        error = answer["ErrorCode"]
        if error in NOT_YET:
            raise NotYet
        if error in (FENCED_EPOCH, UNKNOWN_MEMBER):
            raise Lost
        if error:
            board.problem(f"ConsumerGroupHeartbeat: {error} {answer['ErrorMessage']}")
            raise Lost
        self.whole = False
        if answer["MemberEpoch"] < due:
            board.problem(f"{self.member} got epoch {answer['MemberEpoch']} after {due}")
        self.epoch = answer["MemberEpoch"]
        board.epoch(self.epoch)
        self.reconcile(answer["Assignment"])
        if not self.whole:
            self.commit(self.epoch, self.held or [])
            time.sleep(BEAT_SECONDS)

    def reconcile(self, told):
        """Gives up first what is not assigned any more, then takes what is."""
        board = self.board
        if told is None:
            board.take(self.member, self.held or [], SESSION_MS / 1000)
            return
        target = sorted(index for row in told["TopicPartitions"] for index in row["Partitions"])
        board.release(self.member, target)
        board.take(self.member, target, SESSION_MS / 1000)
        self.whole = target != self.held
        self.held = target

    def leave(self):
        self.board.release(self.member)
        values = {"GroupId": self.board.group, "MemberId": self.member, "MemberEpoch": -1}
        self.call("ConsumerGroupHeartbeat", 1, values)
