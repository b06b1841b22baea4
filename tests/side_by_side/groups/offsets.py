"""Cases of OffsetCommit, OffsetFetch and OffsetDelete."""

from harness import schema
from harness.schema import Raw

from .classic import leave
from .session import case

UNKNOWN_ID = "ab" * 16
ROWS_OF_ALL_KINDS = [
    ("t1", 0, 5),
    ("t1", 1, 0, "a note", 0),
    ("t1", 2, 2**62, "é", 7),
    ("t1", 0, -1),
    ("t1", 0, -2),
    ("t1", 1, 9, None),
    ("t1", 1, 9, "m" * 4096),
    ("t1", 1, 9, "m" * 4097),
    ("t1", 1, 9, "é" * 2048),
    ("t1", 1, 9, "é" * 4000),
    ("t1", 3, 5),
    ("t1", -1, 5),
    ("t1", 2**31 - 1, 5),
    ("absent", 0, 5),
    ("", 0, 5),
    ("bad name", 0, 5),
    ("t1", 1, 5, "", -1),
    ("t1", 1, 6, "", -2),
    ("t1", 1, 3, "", 99),
]


def commits(s, version):
    """A simple consumer: no members, generation -1."""
    for row in ROWS_OF_ALL_KINDS:
        s.commit(version, rows=[row])
    several = [ROWS_OF_ALL_KINDS[index] for index in (0, 1, 2, 7, 10, 13)]
    s.commit(version, rows=several)
    s.commit(version, rows=[])
    s.commit(version, Topics=[{**s.topic("t1"), "Partitions": []}])
    s.commit(version, Topics=[{"Name": "t1", "TopicId": "0" * 32, "Partitions": []}])
    part = {"PartitionIndex": 0, "CommittedOffset": 4, "CommittedMetadata": ""}
    s.commit(version, Topics=[{"Name": "t1", "TopicId": "0" * 32, "Partitions": [part]}])
    s.commit(version, Topics=[{**s.topic("t1"), "Partitions": [part, part]}] * 2)
    if 2 <= version <= 4:
        for time in (0, 1, 3_600_000, -1, -5):
            s.commit(version, RetentionTimeMs=time, rows=[("t2", 0, 8)])
    for who, when in [("nobody", -1), ("nobody", 0), ("nobody", 3), ("", 0), ("", 3), ("", -2)]:
        s.commit(version, who, when)
    if version >= 7:
        s.commit(version, GroupInstanceId="i")
        s.commit(version, GroupInstanceId="")
    s.commit(version, GroupId="")
    s.fetch(9, rows=None)
    s.call("DescribeGroups", 6, Groups=[s.group])


def commits_of_members(s, version):
    """Committing to a group with a member."""
    for who, when in [("nobody", 3), ("nobody", -1)]:
        s.commit(version, who, when)
    member, generation = s.stable()
    for who, when in [
        (member, generation),
        (member, generation + 1),
        (member, generation - 1),
        (member, -1),
        ("nobody", generation),
        ("", generation),
        ("", -1),
    ]:
        s.commit(version, who, when)
    if version >= 7:
        s.commit(version, member, generation, GroupInstanceId="i")
        s.commit(version, "", -1, GroupInstanceId="i")
    leave(s, 5, member)
    s.commit(version, member, generation)
    s.commit(version, "", -1, [("t1", 2, 77)])
    s.fetch(9, rows=None)


for number in schema.versions("OffsetCommit"):
    case(f"simple commits, v{number}", commits, version=number)
    case(f"commits to a group with members, v{number}", commits_of_members, version=number)


@case("a commit of 3000 partitions' worth of rows")
def many_rows(s):
    part = {"PartitionIndex": 0, "CommittedOffset": 4, "CommittedMetadata": "x" * 50}
    rows = [{**part, "PartitionIndex": n} for n in range(3000)]
    s.call("OffsetCommit", 8, GroupId=s.group, Topics=[{"Name": "t1", "Partitions": rows}])
    s.fetch(8, rows=None)


# ---- OffsetFetch --------------------------------------------------------------------------------


def fetches(s, version):
    s.fetch(version)
    s.fetch(version, rows=[])
    if version >= 2:
        s.fetch(version, rows=None)
    s.commit(8, rows=[("t1", 0, 5, "note", 3), ("t1", 1, 6), ("t2", 1, 7, None)])
    asked = [
        [("t1", [0, 1, 2])],
        [("t1", [])],
        [("t1", [-1, 9, 2**31 - 1])],
        [("t1", [0, 0])],
        [("t1", [0]), ("t1", [1])],
        [("absent", [0])],
        [("", [0])],
        [("bad name", [0])],
        [("t2", [1, 0]), ("t1", [0]), ("absent", [1])],
        [],
    ]
    for rows in asked:
        s.fetch(version, rows=rows)
    s.fetch(version, group="")
    s.fetch(version, group="absent")
    if version >= 2:
        s.fetch(version, rows=None)
        s.fetch(version, rows=None, group="absent")
        s.fetch(version, rows=None, group="")
    else:
        s.fetch(version, rows=None)
    if version >= 7:
        s.fetch(version, RequireStable=True)
        s.fetch(version, RequireStable=True, rows=None)
    if version >= 8:
        batched(s, version)
    if version >= 10:
        rows = [{"TopicId": found, "PartitionIndexes": [0]} for found in ("0" * 32, UNKNOWN_ID)]
        s.call("OffsetFetch", version, Groups=[{"GroupId": s.group, "Topics": rows}])


def batched(s, version):
    """Several groups in one request."""
    other = s.group + ".other"
    s.groups.add(other)
    s.commit(8, GroupId=other, rows=[("t2", 0, 1)])
    one = {"GroupId": s.group, "Topics": [{**s.topic("t1"), "PartitionIndexes": [0, 1]}]}
    two = {"GroupId": other, "Topics": None}
    for groups in (
        [one, two],
        [two, one, two],
        [],
        [{"GroupId": "absent", "Topics": None}, one],
        [{"GroupId": "", "Topics": None}, one],
        [{"GroupId": "absent", "Topics": one["Topics"]}, {"GroupId": other, "Topics": []}],
    ):
        s.call("OffsetFetch", version, Groups=groups)
    s.call("OffsetFetch", version, Groups=Raw(b"\0"))
    for member, epoch in [("nobody", 0), ("nobody", 5), (None, 5), ("", -1), ("", 0)]:
        if version >= 9:
            s.fetch(version, member=member, epoch=epoch)


for number in schema.versions("OffsetFetch"):
    case(f"fetches of offsets, v{number}", fetches, version=number)


def member_fetches(s, version):
    """A classic group is asked with member and epoch."""
    member, generation = s.stable()
    s.commit(8, member, generation)
    for who, epoch in [(member, generation), (member, 99), ("nobody", 1), (None, -1), ("", -1)]:
        s.fetch(version, member=who, epoch=epoch)
        s.fetch(version, member=who, epoch=epoch, rows=None)


for number in (9, 10):
    case(f"fetches by members of a classic group, v{number}", member_fetches, version=number)


# ---- OffsetDelete -------------------------------------------------------------------------------


def deletion(s, rows, **fields):
    topics = [
        {"Name": name, "Partitions": [{"PartitionIndex": index} for index in parts]}
        for name, parts in rows
    ]
    return s.call("OffsetDelete", 0, **{"GroupId": s.group, "Topics": topics, **fields})


@case("deletes of offsets")
def deletes(s):
    deletion(s, [("t1", [0])])
    s.commit(8, rows=[("t1", 0, 5), ("t1", 1, 6), ("t2", 0, 7)])
    deletion(s, [])
    deletion(s, [("t1", [])])
    deletion(s, [("t1", [0, 9, -1]), ("absent", [0]), ("bad name", [0]), ("", [0])])
    deletion(s, [("t1", [0])], GroupId="")
    deletion(s, [("t1", [0])], GroupId="absent")
    deletion(s, [("t1", [0, 1, 1]), ("t2", [0])])
    s.fetch(9, rows=None)
    s.call("DescribeGroups", 6, Groups=[s.group])
    s.listed(5)


@case("deletes of offsets in use")
def deletes_in_use(s):
    member, generation = s.stable()
    s.commit(8, member, generation, [("t1", 0, 5), ("t2", 0, 6)])
    deletion(s, [("t1", [0, 1]), ("t2", [0, 1])])
    s.fetch(9, rows=None)
    s.ask("JoinGroup", 3, "two", **s.join_fields())
    s.until_state("PreparingRebalance")
    deletion(s, [("t1", [0]), ("t2", [0])])
    leave(s, 5, member)
    found = s.take("JoinGroup", 3, "two")
    leave(s, 5, found["MemberId"])
    deletion(s, [("t1", [0]), ("t2", [0])])
    s.fetch(9, rows=None)
    s.call("DescribeGroups", 6, Groups=[s.group])


@case("deletes of offsets of a group with broken subscriptions")
def deletes_broken(s):
    joined = s.join(9, Protocols=[{"Name": "range", "Metadata": b"\0"}])
    member = joined["MemberId"]
    s.sync(5, member, joined["GenerationId"], shares={member: b""})
    s.commit(8, member, joined["GenerationId"], [("t1", 0, 5)])
    deletion(s, [("t1", [0])])
    s.fetch(9, rows=None)
