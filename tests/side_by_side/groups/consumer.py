"""Cases of the consumer protocol (KIP-848): heartbeats, reconciliation, fencing, migration."""

import time

from harness import schema
from harness.schema import Raw

from .classic import leave
from .session import NOW, assignment, case, protocols, subscription

ALICE, BOB, CAROL, DAVE = ("a" * 22, "b" * 22, "c" * 22, "d" * 22)


def held(s, *rows):
    """TopicPartitions: rows are (topic, partitions)."""
    return [{"TopicId": s.topic(name)["TopicId"], "Partitions": list(rest)} for name, rest in rows]


def describe(s, version=1):
    return s.call("ConsumerGroupDescribe", version, GroupIds=[s.group])


def owned(found):
    """What an answer assigns, as TopicPartitions of the next heartbeat."""
    return (found.get("Assignment") or {}).get("TopicPartitions", [])


def until_assigned(s, member, done=owned, **fields):
    """Heartbeats until an answer carries an assignment of at least one partition."""

    def ask():
        epoch = s.epoch(member, NOW)
        values = {"GroupId": s.group, "MemberId": member, "MemberEpoch": epoch, **fields}
        found = s.raw_call("ConsumerGroupHeartbeat", 1, **values)
        s.told(found)
        return found

    return s.until(f"heartbeat of {member[:1]}", ask, lambda f: isinstance(f, dict) and done(f))


# ---- good sequences -----------------------------------------------------------------------------


def life(s, version):
    """One member: joins, owns, subscribes to more, leaves."""
    member = ALICE
    if version == 0:
        member = s.heartbeat(0, version, MemberId="").get("MemberId") or ALICE
    else:
        s.heartbeat(0, version, MemberId=member)
    describe(s, version)
    s.heartbeat(NOW, version, MemberId=member, TopicPartitions=held(s, ("t1", [0, 1, 2])))
    s.heartbeat(NOW, version, MemberId=member)
    s.commit(9, member, NOW)
    s.commit(10, member, NOW)
    s.fetch(9, member=member, epoch=NOW)
    s.fetch(10, member=member, epoch=NOW)
    s.call("DescribeGroups", 5, Groups=[s.group])
    describe(s, version)
    s.heartbeat(NOW, version, MemberId=member, SubscribedTopicNames=["t1", "t2"])
    rows = held(s, ("t1", [0, 1, 2]), ("t2", [0, 1]))
    s.heartbeat(NOW, version, MemberId=member, TopicPartitions=rows)
    s.heartbeat(NOW, version, MemberId=member, SubscribedTopicNames=["t2"])
    s.heartbeat(NOW, version, MemberId=member, TopicPartitions=held(s, ("t2", [0, 1])))
    s.heartbeat(NOW, version, MemberId=member, SubscribedTopicNames=[])
    s.heartbeat(NOW, version, MemberId=member, TopicPartitions=[])
    describe(s, version)
    s.heartbeat(-1, version, MemberId=member)
    describe(s, version)
    s.heartbeat(NOW, version, MemberId=member)
    s.commit(9, member, NOW)
    s.call("DeleteGroups", 2, GroupsNames=[s.group])


for number in (0, 1):
    case(f"consumer protocol: one member, v{number}", life, version=number)


def two(s, assignor):
    """A second member joins and gets what the first gives up; then the first leaves."""
    fields = {} if assignor is None else {"ServerAssignor": assignor}
    first = s.heartbeat(0, MemberId=ALICE, **fields)
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(first))
    s.heartbeat(0, on="two", MemberId=BOB, **fields)
    describe(s)
    revoke = s.heartbeat(NOW, MemberId=ALICE)
    s.heartbeat(NOW, on="two", MemberId=BOB, TopicPartitions=[])
    describe(s)
    kept = s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(revoke))
    describe(s)
    other = s.heartbeat(NOW, on="two", MemberId=BOB, TopicPartitions=[])
    s.heartbeat(NOW, on="two", MemberId=BOB, TopicPartitions=owned(other))
    assert kept is not None
    describe(s)
    s.heartbeat(-1, MemberId=ALICE)
    more = s.heartbeat(NOW, on="two", MemberId=BOB)
    s.heartbeat(NOW, on="two", MemberId=BOB, TopicPartitions=owned(more))
    describe(s)


for name in (None, "uniform", "range"):
    case(f"consumer protocol: two members, assignor {name}", two, assignor=name)


@case("consumer protocol: range of two topics and three members")
def three_range(s):
    fields = {"ServerAssignor": "range", "SubscribedTopicNames": ["t1", "t2", "regex-b"]}
    for member in (ALICE, BOB, CAROL):
        s.heartbeat(0, MemberId=member, **fields)
    describe(s)


@case("consumer protocol: uniform of members with different topics")
def three_uniform(s):
    for member, topics in [(ALICE, ["t1"]), (BOB, ["t1", "t2"]), (CAROL, ["t2", "regex-b"])]:
        s.heartbeat(0, MemberId=member, SubscribedTopicNames=topics, ServerAssignor="uniform")
    describe(s)


@case("consumer protocol: the vote for an assignor")
def vote(s):
    s.heartbeat(0, MemberId=ALICE, ServerAssignor="range")
    describe(s)
    s.heartbeat(0, MemberId=BOB, ServerAssignor="uniform")
    s.heartbeat(0, MemberId=CAROL, ServerAssignor="uniform")
    describe(s)
    s.heartbeat(-1, MemberId=BOB)
    s.heartbeat(NOW, MemberId=CAROL, ServerAssignor="range")
    describe(s)


@case("consumer protocol: too many members")
def too_many(s):
    for member in (ALICE, BOB, CAROL, DAVE):
        s.heartbeat(0, MemberId=member)
    s.heartbeat(0, MemberId=ALICE)
    s.heartbeat(-1, MemberId=ALICE)
    s.heartbeat(0, MemberId=DAVE)


@case("consumer protocol: subscriptions to what is not there")
def absent(s):
    s.heartbeat(0, MemberId=ALICE, SubscribedTopicNames=["absent"])
    s.heartbeat(NOW, MemberId=ALICE, SubscribedTopicNames=["absent", "t1", "t1"])
    s.heartbeat(NOW, MemberId=ALICE, SubscribedTopicNames=["", "bad name", "t2"])
    s.heartbeat(NOW, MemberId=ALICE, SubscribedTopicNames=["__consumer_offsets"])
    describe(s)


@case("consumer protocol: a topic appears, grows and goes")
def topic_changes(s):
    name = "grows-" + s.group[-8:]
    s.heartbeat(0, MemberId=ALICE, SubscribedTopicNames=[name])
    topic = {"Name": name, "NumPartitions": 1, "ReplicationFactor": 1}
    found = s.raw_call("CreateTopics", 7, Topics=[topic], timeoutMs=10000)
    if isinstance(found, dict):
        s.names[found["Topics"][0]["TopicId"]] = "the new topic"
    one = until_assigned(s, ALICE)
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(one))
    rows = [{"Name": name, "Count": 3, "Assignments": None}]
    s.call("CreatePartitions", 3, Topics=rows, TimeoutMs=10000)
    two_more = until_assigned(s, ALICE)
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(two_more))
    s.raw_call("DeleteTopics", 6, Topics=[{"Name": name}], TimeoutMs=10000)
    until_assigned(s, ALICE, lambda found: found["Assignment"] is not None)
    describe(s)


@case("consumer protocol: regular expressions")
def regex(s):
    fields = {"SubscribedTopicNames": None}
    s.heartbeat(0, MemberId=ALICE, SubscribedTopicRegex="regex-.*", **fields)
    found = until_assigned(s, ALICE)
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(found))
    describe(s)
    s.heartbeat(NOW, MemberId=ALICE, SubscribedTopicRegex="")
    time.sleep(0.3)
    describe(s)


@case("consumer protocol: regular expressions that are none")
def bad_regex(s):
    table = ["(", "[a", "*", "a{2,1}", "(?<=x)y", "a(?=b)", "\\1", "(?P<x>a)", "a{1001}", "\\"]
    table += ["", "a|b", "\\d+", "(?i)T1", "\u00e9", "x" * 5000, "(?<n>a)", "[[:alpha:]]", "\\pL"]
    for number, text in enumerate(table):
        group = f"{s.group}.{number}"
        fields = {"GroupId": group, "SubscribedTopicNames": None, "SubscribedTopicRegex": text}
        s.heartbeat(0, MemberId=ALICE, **fields)


@case("consumer protocol: names and a regular expression")
def both(s):
    s.heartbeat(0, MemberId=ALICE, SubscribedTopicRegex="regex-b")
    found = until_assigned(s, ALICE, TopicPartitions=held(s, ("t1", [0, 1, 2])))
    s.note("topics", {}, sorted(len(row["Partitions"]) for row in owned(found)))


@case("consumer protocol: regular expression in version 0")
def regex_v0(s):
    s.heartbeat(0, 0, MemberId=ALICE, SubscribedTopicNames=None)
    s.heartbeat(0, 0, MemberId=ALICE)


# ---- invalid heartbeats --------------------------------------------------------------------------


def invalid(s, version):
    table = [
        {"GroupId": ""},
        {"MemberId": ""},
        {"MemberId": "short"},
        {"MemberId": "m" * 3000},
        {"InstanceId": ""},
        {"RackId": ""},
        {"RebalanceTimeoutMs": -1},
        {"RebalanceTimeoutMs": -2},
        {"RebalanceTimeoutMs": 0},
        {"TopicPartitions": None},
        {"TopicPartitions": held(s, ("t1", [0]))},
        {"SubscribedTopicNames": None},
        {"SubscribedTopicNames": []},
        {"ServerAssignor": "sticky"},
        {"ServerAssignor": ""},
        {"ServerAssignor": "Range"},
        {"InstanceId": "i" * 300},
        {"InstanceId": "a b"},
        {"RackId": "r"},
    ]
    for number, row in enumerate(table):
        group = f"{s.group}.{number}"
        s.groups.add(group)
        s.heartbeat(0, version, **{"GroupId": group, "MemberId": ALICE, **row})
    later = [
        (1, {"MemberId": ALICE}),
        (1, {"MemberId": ""}),
        (1, {"MemberId": ALICE, "ServerAssignor": "sticky"}),
        (1, {"MemberId": ALICE, "GroupId": ""}),
        (-1, {"MemberId": ALICE}),
        (-1, {"MemberId": ""}),
        (-2, {"MemberId": ALICE}),
        (-2, {"MemberId": ALICE, "InstanceId": "i"}),
        (-3, {"MemberId": ALICE}),
        (-(2**31), {"MemberId": ALICE}),
        (2**31 - 1, {"MemberId": ALICE}),
    ]
    for epoch, row in later:
        s.heartbeat(epoch, version, **row)
    s.heartbeat(0, version, MemberId=ALICE, GroupId=Raw(b"\0"))
    s.heartbeat(0, version, MemberId=Raw(b"\0"))


for number in (0, 1):
    case(f"consumer protocol: invalid heartbeats, v{number}", invalid, version=number)


@case("consumer protocol: epochs old and new")
def epochs(s):
    first = s.heartbeat(0, MemberId=ALICE)
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(first))
    for epoch in (NOW - 1, NOW + 1, NOW + 90, 2**31 - 1):
        s.heartbeat(epoch, MemberId=ALICE)
    s.heartbeat(NOW, MemberId=BOB)
    s.heartbeat(NOW, MemberId=ALICE, SubscribedTopicNames=["t1", "t2"])
    # One epoch back is forgiven when what is owned is a part of what was assigned.
    s.heartbeat(NOW - 1, MemberId=ALICE, TopicPartitions=held(s, ("t1", [0, 1, 2])))
    s.heartbeat(NOW - 1, MemberId=ALICE, TopicPartitions=held(s, ("t2", [7])))
    s.heartbeat(NOW - 1, MemberId=ALICE)
    s.heartbeat(0, MemberId=ALICE)
    describe(s)


@case("consumer protocol: owning what was not assigned")
def wrong_owned(s):
    s.heartbeat(0, MemberId=ALICE, SubscribedTopicNames=["t1"])
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=held(s, ("t2", [0])))
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=held(s, ("t1", [0, 99, -1])))
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=held(s, ("absent", [0])))
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=held(s, ("t1", [0]), ("t1", [0])))
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=[])
    describe(s)


@case("consumer protocol: a huge subscription")
def huge(s):
    names = [f"topic-{number}-" + "x" * 200 for number in range(4000)]
    s.heartbeat(0, MemberId=ALICE, SubscribedTopicNames=names)
    s.heartbeat(NOW, MemberId=ALICE, SubscribedTopicNames=names + names)
    s.heartbeat(-1, MemberId=ALICE)


# ---- static members -----------------------------------------------------------------------------


@case("consumer protocol: a static member")
def static(s):
    first = s.heartbeat(0, MemberId=ALICE, InstanceId="i1")
    s.heartbeat(NOW, MemberId=ALICE, InstanceId="i1", TopicPartitions=owned(first))
    s.heartbeat(0, MemberId=BOB, InstanceId="i1")
    s.heartbeat(NOW, MemberId=BOB, InstanceId="i1")
    s.heartbeat(NOW, MemberId=ALICE, InstanceId="i2")
    s.heartbeat(-2, MemberId=BOB, InstanceId="i1")
    s.heartbeat(-2, MemberId=ALICE, InstanceId="i1")
    describe(s)
    s.heartbeat(NOW, MemberId=ALICE, InstanceId="i1")
    s.commit(9, ALICE, NOW)
    s.commit(9, ALICE, -2)
    s.heartbeat(0, MemberId=BOB, InstanceId="i1")
    describe(s)
    s.heartbeat(NOW, MemberId=ALICE, InstanceId="i1")
    s.heartbeat(-1, MemberId=ALICE, InstanceId="i1")
    s.heartbeat(-1, MemberId=BOB, InstanceId="i1")
    describe(s)
    s.heartbeat(-2, MemberId=BOB, InstanceId="i1")


@case("consumer protocol: a static member comes back with other topics")
def static_changes(s):
    first = s.heartbeat(0, MemberId=ALICE, InstanceId="i1")
    s.heartbeat(NOW, MemberId=ALICE, InstanceId="i1", TopicPartitions=owned(first))
    s.heartbeat(-2, MemberId=ALICE, InstanceId="i1")
    s.heartbeat(0, MemberId=BOB, InstanceId="i1", SubscribedTopicNames=["t1", "t2"])
    describe(s)
    leave(s, 5, BOB, "i1")
    leave(s, 5, "", "i1")
    describe(s)


# ---- commits and fetches with epochs -------------------------------------------------------------


@case("consumer protocol: commits with epochs")
def commits(s):
    first = s.heartbeat(0, MemberId=ALICE)
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(first))
    for version in schema.versions("OffsetCommit"):
        s.commit(version, ALICE, NOW)
    for version in (8, 9, 10):
        for who, epoch in [(ALICE, NOW - 1), (ALICE, NOW + 1), (ALICE, 0), (ALICE, -1), (BOB, 1), ("", -1), ("", 1)]:
            s.commit(version, who, epoch)
    for who, epoch in [(ALICE, NOW), (ALICE, NOW - 1), (ALICE, 9), (BOB, 1), (None, -1), ("", -1), (None, 1)]:
        for version in (9, 10):
            s.fetch(version, member=who, epoch=epoch)
            s.fetch(version, member=who, epoch=epoch, rows=None)
    topics = [{"Name": name, "Partitions": [{"PartitionIndex": 0}]} for name in ("t1", "t2")]
    s.call("OffsetDelete", 0, GroupId=s.group, Topics=topics)
    s.call("DeleteGroups", 2, GroupsNames=[s.group])
    s.heartbeat(-1, MemberId=ALICE)
    s.commit(9)
    s.call("OffsetDelete", 0, GroupId=s.group, Topics=topics)
    s.call("DeleteGroups", 2, GroupsNames=[s.group])
    describe(s)


# ---- both protocols in one group -----------------------------------------------------------------


@case("migration: classic requests to a consumer group by its members")
def classic_calls(s):
    s.heartbeat(0, MemberId=ALICE)
    s.sync(5, ALICE, s.epoch(ALICE, NOW))
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=s.epoch(ALICE, NOW), MemberId=ALICE)
    s.call("JoinGroup", 9, **s.join_fields(MemberId=ALICE))
    s.call("JoinGroup", 9, **s.join_fields(MemberId="nobody"))
    leave(s, 5, "nobody")
    leave(s, 5, ALICE)
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=1, MemberId="nobody")
    s.sync(5, "nobody", 1)
    describe(s)


@case("migration: a consumer-protocol member comes to an empty classic group")
def to_empty(s):
    member, generation = s.stable()
    s.commit(8, member, generation)
    leave(s, 5, member)
    s.heartbeat(0, MemberId=ALICE)
    describe(s)
    s.fetch(9, rows=None)


@case("migration: a consumer-protocol member comes to a classic group")
def upgrade(s):
    member, generation = s.stable()
    s.commit(8, member, generation)
    first = s.heartbeat(0, on="two", MemberId=ALICE)
    describe(s)
    s.call("DescribeGroups", 5, Groups=[s.group])
    beat = {"GroupId": s.group, "MemberId": member}
    s.call("Heartbeat", 4, GenerationId=generation, **beat)
    fields = {"Protocols": protocols(("range", subscription(["t1"], 1, None, [("t1", [0, 1, 2])], 1)))}
    again = s.join(9, MemberId=member, **fields)
    s.sync(5, member, again.get("GenerationId", -1))
    s.call("Heartbeat", 4, GenerationId=again.get("GenerationId", -1), **beat)
    second = s.heartbeat(NOW, on="two", MemberId=ALICE, TopicPartitions=[])
    fields = {"Protocols": protocols(("range", subscription(["t1"], 1, None, [("t1", [0])], 2)))}
    again = s.join(9, MemberId=member, **fields)
    s.sync(5, member, again.get("GenerationId", -1))
    s.call("Heartbeat", 4, GenerationId=again.get("GenerationId", -1), **beat)
    s.heartbeat(NOW, on="two", MemberId=ALICE, TopicPartitions=[])
    describe(s)
    s.commit(8, member, again.get("GenerationId", -1), [("t1", 0, 9)])
    s.commit(8, member, 77, [("t1", 0, 9)])
    # The new member leaves: what is left is a classic group again.
    s.heartbeat(-1, on="two", MemberId=ALICE)
    describe(s)
    s.call("DescribeGroups", 5, Groups=[s.group])


@case("migration: a foreign protocol type is not taken over")
def not_upgraded(s):
    joined = s.join(9, ProtocolType="elect", Protocols=protocols(("x", b"")))
    member = joined["MemberId"]
    fields = {"ProtocolType": "elect", "ProtocolName": "x", "shares": {member: b""}}
    s.sync(5, member, joined["GenerationId"], **fields)
    s.heartbeat(0, on="two", MemberId=ALICE)
    s.call("DescribeGroups", 5, Groups=[s.group])


def broken(s, metadata, share):
    """A classic group whose bytes are no consumer's."""
    joined = s.join(9, Protocols=protocols(("range", metadata)))
    member = joined["MemberId"]
    s.sync(5, member, joined["GenerationId"], shares={member: share})
    s.heartbeat(0, on="two", MemberId=ALICE, SubscribedTopicNames=["t2"])
    s.call("DescribeGroups", 5, Groups=[s.group])


GOOD = subscription(["t2"])
for words, metadata, share in [
    ("subscription of no bytes", b"", assignment([])),
    ("broken subscription", b"\0\1\xff", assignment([])),
    ("assignment of no bytes", GOOD, b""),
    ("broken assignment", GOOD, b"\0\1\0\0\0\5"),
    ("user data", subscription(["t2"], 1, b"mine"), assignment([("t2", [0, 1])], 1, b"yours")),
    ("user data of no bytes", subscription(["t2"], 1, b""), assignment([("t2", [0, 1])], 1, b"")),
    ("subscription of version 3", subscription(["t2"], 3), assignment([("t2", [0, 1])], 3)),
    ("subscription of version 0", subscription(["t2"], 0), assignment([("t2", [0, 1])], 0)),
    ("unknown topics", subscription(["absent"]), assignment([("absent", [0])])),
]:
    case(f"migration: {words}", broken, metadata=metadata, share=share)


@case("migration: classic members come to a consumer group")
def classic_into_consumer(s):
    first = s.heartbeat(0, MemberId=ALICE)
    s.heartbeat(NOW, MemberId=ALICE, TopicPartitions=owned(first))
    s.join(9, "two", ProtocolType="elect", Protocols=protocols(("x", b"")))
    s.join(9, "two", Protocols=[])
    s.join(9, "two", Protocols=protocols(("range", b"\0")))
    joined = s.join(9, "two")
    member = joined["MemberId"]
    beat = {"GroupId": s.group, "MemberId": member, "GenerationId": joined["GenerationId"]}
    s.sync(5, member, joined["GenerationId"], "two")
    s.sync(5, member, joined["GenerationId"], "two", ProtocolName="sticky")
    s.sync(5, member, joined["GenerationId"], "two", ProtocolType="connect")
    s.sync(5, member, 99, "two")
    s.call("Heartbeat", 4, "two", **beat)
    s.call("Heartbeat", 4, "two", **{**beat, "GenerationId": 99})
    s.call("Heartbeat", 4, "two", GroupInstanceId="i", **beat)
    s.heartbeat(joined["GenerationId"], on="two", MemberId=member)
    s.commit(8, member, joined["GenerationId"])
    s.commit(9, member, joined["GenerationId"])
    describe(s, 0)
    describe(s)
    leave(s, 5, member)
    describe(s)


@case("migration: a static classic member and its successor")
def static_migration(s):
    member, generation = s.stable(GroupInstanceId="i1")
    s.heartbeat(0, on="two", MemberId=ALICE, InstanceId="i1")
    describe(s)
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=generation, MemberId=member, GroupInstanceId="i1")
    s.join(9, GroupInstanceId="i1")
    describe(s)
    s.call("DescribeGroups", 5, Groups=[s.group])
