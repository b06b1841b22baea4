"""What a history of sends and polls says: the anomalies of Jepsen's Kafka workload, by name.

A record is a number: its producer and its count, one after the other per producer; the partition
is `count % partitions`. A history holds for each producer what was acknowledged, for each reader
what it polled, and a last reading of everything. Of groups it holds the polls, assignments and
acknowledged commits of their members. `check` compares them; it reads no clock and no file.

lost-write            acknowledged or polled, and not there although later offsets are
unseen                acknowledged or due, and nothing at or behind that offset was ever read
duplicate             a record of an idempotent producer at two offsets
inconsistent-offsets  two records at one offset, or a record elsewhere than was acknowledged
poll-skip             a reader went over offsets that hold records
nonmonotonic-poll     a reader went back without being told to
nonmonotonic-send     what was sent later by an idempotent producer lies, or was told, before
hole                  an idempotent producer's record lacks although a later one is there
phantom               a record that nobody sent
corrupt               a record with other bytes than were sent
lost-commit           a group went on below an acknowledged commit
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field

COUNT_BITS = 40
COUNT_MASK = (1 << COUNT_BITS) - 1
# What a reader writes for a record whose bytes are wrong; and a place where nothing was read.
CORRUPT = -2
NOTHING = -1
WORDS_MAX = 10
GAP_MAX = 1 << 20
ASSIGN, POLL, COMMIT = range(3)


def record_id(producer, count):
    """The number of a producer's record."""
    return producer << COUNT_BITS | count


def told(record):
    """A record in words."""
    return f"{record >> COUNT_BITS}:{record & COUNT_MASK}" if record >= 0 else "nothing"


@dataclass
class Sends:
    """What one producer did: counts below `sent` were sent, of `acks` it was told."""

    idempotent: bool
    sent: int
    # (count, partition, offset), in the order in which they were told; -1 is no offset.
    acks: object
    # Some sends were given up: then a later record may be there without an earlier one.
    gave_up: bool = False


@dataclass
class Group:
    """What a group did."""

    # {member: [(ASSIGN | POLL | COMMIT, time, partition, offset, record), ...]}
    members: dict
    # {partition: offset}, what the coordinator says at the end.
    committed: dict


@dataclass
class History:
    """Everything that is known of one topic."""

    partitions: int
    # {number: Sends}
    producers: dict
    # (partition, offset, record) in the order of reading; everything, from the beginning.
    final: object
    # {name: rows as in `final`}, of readers that were told to read to the end.
    readers: dict = field(default_factory=dict)
    # {name: Group}
    groups: dict = field(default_factory=dict)
    # Readers were cut off at a moment: they need not have seen the end.
    cut: bool = False


class Findings:
    """Anomalies by name: how many, and some of them in words."""

    def __init__(self):
        self.counts, self.words = Counter(), []
        self.acknowledged = self.there = self.repeated = 0

    def add(self, name, words):
        """Notes an anomaly."""
        self.counts[name] += 1
        if self.counts[name] <= WORDS_MAX:
            self.words.append(f"{name}: {words}")

    def summary(self):
        """One line with all counts."""
        anomalies = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        repeated = f", {self.repeated} repeated where that is allowed" if self.repeated else ""
        return (
            f"{self.acknowledged} acknowledged, {self.there} there{repeated},"
            f" anomalies: {anomalies or 'none'}"
        )


def check(history):
    """All anomalies of a history, as `Findings`."""
    findings = Findings()
    log = _final_log(history, findings)
    # How far anybody has read: what lies below and is not there now is lost.
    reach = [len(rows) for rows in log]
    for name, rows in history.readers.items():
        _check_reader(name, rows, log, reach, history.cut, findings)
    for name, group in history.groups.items():
        _check_group(name, group, log, reach, history.cut, findings)
    seen = _check_log(history, log, findings)
    for number, sends in history.producers.items():
        _check_acks(number, sends, log, reach, seen[number], history.partitions, findings)
    findings.there = sum(map(len, log))
    return findings


def _final_log(history, findings):
    """The records of each partition by offset, as the last reading has them."""
    log = [array("q") for _ in range(history.partitions)]
    for partition, offset, record in history.final:
        rows = log[partition]
        if offset != len(rows):
            words = f"last reading, partition {partition}: {offset} where {len(rows)} is due"
            if offset < len(rows):
                findings.add("nonmonotonic-poll", words)
                continue
            findings.add("poll-skip", words)
            if offset - len(rows) > GAP_MAX:
                continue
            rows.extend([NOTHING] * (offset - len(rows)))
        if record == CORRUPT:
            findings.add("corrupt", f"partition {partition} at {offset}")
        rows.append(record)
    return log


def _compare(name, place, record, log, reach, findings):
    """One polled record beside the last reading."""
    partition, offset = place
    reach[partition] = max(reach[partition], offset + 1)
    rows = log[partition]
    if record == CORRUPT:
        findings.add("corrupt", f"{name}, partition {partition} at {offset}")
    elif offset >= len(rows) or rows[offset] == NOTHING:
        findings.add("lost-write", f"{name} read {told(record)} at {place}, nothing is there now")
    elif rows[offset] != record:
        words = f"{name} read {told(record)} at {place}, there is {told(rows[offset])} now"
        findings.add("inconsistent-offsets", words)


def _check_reader(name, rows, log, reach, cut, findings):
    """A reader of all partitions from the beginning."""
    due = [0] * len(log)
    for partition, offset, record in rows:
        if offset != due[partition]:
            kind = "poll-skip" if offset > due[partition] else "nonmonotonic-poll"
            findings.add(kind, f"{name}, partition {partition}: {offset}, due {due[partition]}")
        due[partition] = offset + 1
        _compare(name, (partition, offset), record, log, reach, findings)
    for partition, rows_there in enumerate(log):
        if not cut and due[partition] < len(rows_there):
            words = f"{name}, partition {partition}: ends at {due[partition]} of {len(rows_there)}"
            findings.add("unseen", words)


def _check_group(name, group, log, reach, cut, findings):
    """Members one by one, then all of them together."""
    read = [bytearray(len(rows)) for rows in log]
    commits, starts = [], []
    for member, rows in group.members.items():
        due, assigned = {}, {}
        for kind, at, partition, offset, record in rows:
            if kind == ASSIGN:
                due.pop(partition, None)
                assigned[partition] = at
            elif kind == COMMIT:
                commits.append((at, partition, offset))
            else:
                before = due.get(partition)
                if before is None:
                    starts.append((assigned.get(partition, 0), partition, offset, member))
                elif offset != before:
                    word = "poll-skip" if offset > before else "nonmonotonic-poll"
                    findings.add(word, f"{member}, partition {partition}: {offset}, due {before}")
                due[partition] = offset + 1
                _compare(member, (partition, offset), record, log, reach, findings)
                if offset < len(read[partition]):
                    read[partition][offset] = 1
    _check_commits(name, group, commits, starts, cut, findings)
    for partition, marks in enumerate(read):
        missing = marks.count(0)
        if missing and not cut:
            words = f"{name}, partition {partition}: {missing} unread, at {marks.find(0)} first"
            findings.add("poll-skip", words)


def _check_commits(name, group, commits, starts, cut, findings):
    """No assignment begins, and no group ends, below what was acknowledged before."""
    newest = {}
    # At the same time the assignment came first: it may be older than the commit.
    events = [(at, 1, partition, offset, "") for at, partition, offset in commits]
    events += [(at, 0, partition, offset, member) for at, partition, offset, member in starts]
    for _, is_commit, partition, offset, member in sorted(events):
        if is_commit:
            newest[partition] = max(newest.get(partition, 0), offset)
        elif offset < newest.get(partition, 0):
            words = f"{member} began at {offset} of partition {partition}"
            findings.add("lost-commit", f"{words}, {newest[partition]} was committed")
    for partition, offset in newest.items():
        found = group.committed.get(partition, -1)
        if found < offset:
            words = f"{name}, partition {partition}: {found} at the end"
            findings.add("lost-commit", f"{words}, {offset} was committed")


def _check_log(history, log, findings):
    """Order, repetitions and strangers in the log; {producer: which counts are there}."""
    producers, partitions = history.producers, history.partitions
    seen = {number: bytearray(sends.sent) for number, sends in producers.items()}
    for partition, rows in enumerate(log):
        newest = {}
        for offset, record in enumerate(rows):
            if record < 0:
                continue
            number, count = record >> COUNT_BITS, record & COUNT_MASK
            sends = producers.get(number)
            if sends is None or count >= sends.sent or count % partitions != partition:
                findings.add("phantom", f"{told(record)} at {(partition, offset)}")
                continue
            before = newest.get(number, partition - partitions)
            repeated = seen[number][count]
            seen[number][count] = 1
            newest[number] = max(count, before)
            if not sends.idempotent:
                findings.repeated += repeated
            elif repeated:
                findings.add("duplicate", f"{told(record)} again at {(partition, offset)}")
            elif count < before:
                words = f"{told(record)} at {(partition, offset)} behind {before}"
                findings.add("nonmonotonic-send", words)
            elif count != before + partitions and not sends.gave_up:
                words = f"{told(record)} at {(partition, offset)} follows {before}"
                findings.add("hole", words)
    return seen


def _check_acks(number, sends, log, reach, seen, partitions, findings):
    """What one producer was told, beside the log."""
    newest = {}
    for count, partition, offset in sends.acks:
        findings.acknowledged += 1
        record = record_id(number, count)
        if count >= sends.sent or count % partitions != partition:
            findings.add("phantom", f"acknowledged {told(record)}, which was not sent there")
            continue
        rows = log[partition]
        if offset < 0:
            if not seen[count]:
                findings.add("lost-write", f"{told(record)} of partition {partition}")
            continue
        if offset >= len(rows) or rows[offset] != record:
            words = f"{told(record)} acknowledged at {(partition, offset)}"
            if seen[count]:
                findings.add("inconsistent-offsets", f"{words} is elsewhere")
            else:
                findings.add("lost-write" if offset < reach[partition] else "unseen", words)
        before = newest.get(partition)
        if before and sends.idempotent and (count > before[0]) != (offset > before[1]):
            words = f"{told(record)} at {offset} of {partition}, {before[0]} at {before[1]}"
            findings.add("nonmonotonic-send", words)
        newest[partition] = count, offset
