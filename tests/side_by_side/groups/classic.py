"""Cases of the classic protocol: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup."""

from harness import schema
from harness.schema import Raw

from .session import LAST, assignment, case, protocols, subscription

UNKNOWN = "nobody"
LONG = "n" * 32000
NULL_STRING = Raw(b"\xff\xff")
NULL_COMPACT = Raw(b"\0")


def null_in(api, version):
    """A null where the version allows none."""
    return NULL_COMPACT if schema.flexible(api + "Request", version) else NULL_STRING


# ---- FindCoordinator ----------------------------------------------------------------------------


def find(s, version):
    for kind in (0, 1, 2, 3, -1, 127):
        keys = ["", "g", "g:" + "A" * 22 + ":0", "é", "with space"] if kind < 3 else ["g"]
        for key in keys if version >= 1 else keys[:2]:
            if version >= 4:
                s.call("FindCoordinator", version, KeyType=kind, CoordinatorKeys=[key])
            elif version >= 1:
                s.call("FindCoordinator", version, KeyType=kind, Key=key)
            elif kind == 0:
                s.call("FindCoordinator", version, Key=key)
    if version >= 4:
        for keys in ([], ["a", "", "b"], ["a", "a"], [f"g{n}" for n in range(200)]):
            s.call("FindCoordinator", version, KeyType=0, CoordinatorKeys=keys)
        s.call("FindCoordinator", version, KeyType=0, CoordinatorKeys=Raw(b"\0"))
    else:
        s.call("FindCoordinator", version, Key=null_in("FindCoordinator", version))


def find_groups(s, version):
    """Group keys alone, so that what needs transactions and share groups is told apart."""
    for key in ("", "g", "é", "with space", "x" * 3000):
        fields = {"CoordinatorKeys": [key]} if version >= 4 else {"Key": key}
        s.call("FindCoordinator", version, **fields)
    if version >= 4:
        s.call("FindCoordinator", version, CoordinatorKeys=["a", "", "b", "a"])


for number in schema.versions("FindCoordinator"):
    case(f"find coordinators of groups, v{number}", find_groups, version=number)
    case(f"find coordinators of every type, v{number}", find, version=number)


# ---- good sequences -----------------------------------------------------------------------------


def life(s, version):
    """One member from its first JoinGroup to its last LeaveGroup."""
    v = {name: min(version, LAST[name]) for name in LAST}
    joined = s.join(version)
    member, generation = joined["MemberId"], joined["GenerationId"]
    s.call("DescribeGroups", v["DescribeGroups"], Groups=[s.group])
    s.call("Heartbeat", version, GroupId=s.group, GenerationId=generation, MemberId=member)
    s.sync(version, member, generation, shares={member: assignment([("t1", [0, 1, 2])])})
    s.call("Heartbeat", version, GroupId=s.group, GenerationId=generation, MemberId=member)
    s.call("DescribeGroups", v["DescribeGroups"], Groups=[s.group])
    s.commit(max(2, version + 1), member, generation)
    s.fetch(max(1, version))
    # The same again: the same answer, and no new generation for a sync.
    s.sync(version, member, generation)
    # A leader that joins again starts a rebalance.
    again = s.join(version, MemberId=member)
    s.sync(version, member, again["GenerationId"], shares={member: b""})
    leave(s, version, member)
    s.call("DescribeGroups", v["DescribeGroups"], Groups=[s.group])
    s.call("Heartbeat", version, GroupId=s.group, GenerationId=generation, MemberId=member)
    s.call("DeleteGroups", version, GroupsNames=[s.group])


def leave(s, version, member, instance=None, **fields):
    if version >= 3:
        row = {"MemberId": member, "GroupInstanceId": instance, "Reason": "done"}
        return s.call("LeaveGroup", version, **{"GroupId": s.group, "Members": [row], **fields})
    return s.call("LeaveGroup", version, **{"GroupId": s.group, "MemberId": member, **fields})


for number in range(10):
    case(f"one member, v{number}", life, version=number)


def two(s, version):
    """A second member joins, both get shares, the first leaves, the second goes on."""
    first, generation = s.stable(version)
    mine, other = s.second(version, first, generation)
    second, generation = other["MemberId"], mine["GenerationId"]
    # The follower's sync waits for the leader's.
    fields = {"GroupId": s.group, "GenerationId": generation, "MemberId": second}
    fields |= {"ProtocolType": "consumer", "ProtocolName": "range"}
    s.ask("SyncGroup", min(version, 5), "two", **fields)
    shares = {first: assignment([("t1", [0])]), second: assignment([("t1", [1, 2])])}
    s.sync(version, first, generation, shares={**shares, "stranger": b"x"})
    s.take("SyncGroup", version, "two")
    s.call("DescribeGroups", version, Groups=[s.group])
    leave(s, version, first)
    s.call("Heartbeat", version, "two", GroupId=s.group, GenerationId=generation, MemberId=second)
    again = s.join(version, "two", MemberId=second)
    s.sync(version, second, again["GenerationId"], "two", {second: b"all"})
    s.call("DescribeGroups", version, Groups=[s.group])


for number in (0, 2, 3, 4, 5, 7, 9):
    case(f"two members, v{number}", two, version=number)


@case("the vote for a protocol")
def vote(s):
    first = s.join(5, Protocols=protocols(("a", b"1a"), ("b", b"1b"), ("c", b"1c")))
    member = first["MemberId"]
    s.sync(4, member, first["GenerationId"], shares={member: b"x"}, ProtocolName="a")
    rows = protocols(("c", b"2c"), ("b", b"2b"))
    found = s.call("JoinGroup", 5, "two", **s.join_fields(Protocols=rows))
    values = s.join_fields(Protocols=rows, MemberId=found["MemberId"])
    s.ask("JoinGroup", 5, "two", **values)
    s.until_state("PreparingRebalance")
    rows = protocols(("a", b"1a"), ("b", b"1b"), ("c", b"1c"))
    s.join(5, MemberId=member, Protocols=rows)
    s.take("JoinGroup", 5, "two")
    for number in range(7):
        s.call("DescribeGroups", number, Groups=[s.group])


@case("a third member settles the vote")
def vote_of_three(s):
    rows = {
        "main": protocols(("a", b"a"), ("b", b"b")),
        "two": protocols(("b", b"b"), ("a", b"a")),
        "three": protocols(("b", b"b"), ("a", b"a")),
    }
    first = s.join(3, Protocols=rows["main"])
    s.sync(3, first["MemberId"], first["GenerationId"], shares={first["MemberId"]: b""})
    s.ask("JoinGroup", 3, "two", **s.join_fields(Protocols=rows["two"]))
    s.until_state("PreparingRebalance")
    s.ask("JoinGroup", 3, "three", **s.join_fields(Protocols=rows["three"]))
    s.until_members(3)
    s.join(3, MemberId=first["MemberId"], Protocols=rows["main"])
    s.take("JoinGroup", 3, "two")
    s.take("JoinGroup", 3, "three")


def foreign(s, version):
    """A group of somebody else's protocol type: everything is opaque."""
    joined = s.join(version, ProtocolType="elect", Protocols=protocols(("v1", b"\0\1me")))
    member, generation = joined["MemberId"], joined["GenerationId"]
    fields = {"ProtocolType": "elect", "ProtocolName": "v1"}
    s.sync(version, member, generation, shares={member: b"\xff\xfework"}, **fields)
    s.call("DescribeGroups", version, Groups=[s.group])
    s.listed(5, TypesFilter=["classic"])
    # A consumer does not fit in, nor one of its type without a protocol in common.
    s.join(version, "two")
    s.join(version, "two", ProtocolType="elect", Protocols=protocols(("v2", b"")))
    s.commit(8, member, generation)
    s.call("OffsetDelete", 0, GroupId=s.group, Topics=[{"Name": "t1", "Partitions": [{"PartitionIndex": 0}]}])
    leave(s, version, member)
    # An empty group takes whoever comes.
    s.join(version, "two")
    s.call("DescribeGroups", version, Groups=[s.group])


for number in (0, 5, 9):
    case(f"a foreign protocol type, v{number}", foreign, version=number)


# ---- JoinGroup: bad ones ------------------------------------------------------------------------


def bad_joins(s, version):
    values = s.join_fields
    table = [
        {"SessionTimeoutMs": 5999},
        {"SessionTimeoutMs": 1800001},
        {"SessionTimeoutMs": 0},
        {"SessionTimeoutMs": -1},
        {"MemberId": UNKNOWN},
        {"MemberId": LONG},
        {"GroupId": ""},
        {"ProtocolType": ""},
        {"Protocols": []},
        {"Protocols": [], "ProtocolType": ""},
        {"GroupId": null_in("JoinGroup", version)},
        {"MemberId": null_in("JoinGroup", version)},
        {"ProtocolType": null_in("JoinGroup", version)},
    ]
    if version >= 5:
        table += [
            {"GroupInstanceId": name, "GroupId": f"{s.group}.i{index}"}
            for index, name in enumerate(["", ".", "..", "a b", "a/b", "é", "x" * 249, "x" * 250])
        ]
        table += [{"GroupInstanceId": "i", "MemberId": UNKNOWN}]
    for row in table:
        s.groups |= {name for name in [row.get("GroupId")] if name and isinstance(name, str)}
        s.call("JoinGroup", version, **values(**row))
    s.call("DescribeGroups", 6, Groups=[s.group])


for number in schema.versions("JoinGroup"):
    case(f"bad joins, v{number}", bad_joins, version=number)


def odd_joins(s, version):
    """What looks odd and is taken, each in a group of its own."""
    table = [
        {"SessionTimeoutMs": 6000},
        {"SessionTimeoutMs": 1800000},
        {"RebalanceTimeoutMs": 2**31 - 1},
        {"Protocols": protocols(("range", b""))},
        {"Protocols": protocols(("range", b"\xff\xff\xff"))},
        {"Protocols": protocols(("range", subscription([])))},
        {"Protocols": protocols(("range", subscription(["t1"], 1, b"x" * 400_000)))},
        {"Protocols": protocols(*[(f"p{n}", b"x") for n in range(300)])},
        {"ProtocolType": "é"},
        {"ProtocolType": "t" * 5000},
        {"Reason": "because"},
        {"Reason": "r" * 300},
    ]
    for index, row in enumerate(table):
        if "Reason" in row and version < 8:
            continue
        group = f"{s.group}.{index}"
        s.groups.add(group)
        joined = s.join(version, **{"GroupId": group, **row})
        member = joined.get("MemberId", "")
        fields = {"GroupId": group, "ProtocolType": joined.get("ProtocolType") or "consumer"}
        fields["ProtocolName"] = joined.get("ProtocolName") or "range"
        fields["shares"] = {member: b"\0"}
        s.sync(version, member, joined.get("GenerationId", -1), **fields)
        s.call("DescribeGroups", version, Groups=[group])


for number in (0, 1, 4, 6, 9):
    case(f"odd joins, v{number}", odd_joins, version=number)

ODD_IDS = ("g" * 5000, "a b", "é\u4e2d", "a\nb", "../x", ".", "a:b", "\0", " ", "\U0001f600")


def odd_groups(s):
    """Groups of every name are groups."""
    for index, name in enumerate(ODD_IDS):
        s.groups.add(name)
        joined = s.join(9, GroupId=name)
        member = joined.get("MemberId", "")
        fields = {"GroupId": name, "shares": {member: b""}}
        s.sync(5, member, joined.get("GenerationId", -1), **fields)
        s.call("DescribeGroups", 6, Groups=[name])
        leave(s, 5, member, GroupId=name)
        s.commit(8, GroupId=name, rows=[("t1", 0, index)])
        s.fetch(9, group=name)
        s.call("DeleteGroups", 2, GroupsNames=[name])


case("groups with odd names", odd_groups)


def mismatches(s, version):
    """Members that do not fit a stable group, then its answers to its own."""
    member, generation = s.stable(version)
    s.join(version, "two", ProtocolType="connect")
    s.join(version, "two", Protocols=protocols("sticky"))
    s.join(version, "two", Protocols=[])
    s.join(version, "two", ProtocolType="")
    s.call("JoinGroup", version, "two", **s.join_fields(MemberId=UNKNOWN))
    s.call("JoinGroup", version, **s.join_fields(MemberId=member, ProtocolType="connect"))
    s.call("JoinGroup", version, **s.join_fields(MemberId=member, Protocols=protocols("sticky")))
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=generation, MemberId=member)


for number in (0, 4, 9):
    case(f"members that do not fit, v{number}", mismatches, version=number)


def too_many(s, version):
    """group.max.size is 3."""
    first, _ = s.stable(version)
    for count, name in enumerate(("two", "three"), 2):
        s.ask("JoinGroup", 3, name, **s.join_fields())
        s.until_members(count)
    s.join(version, MemberId=first)
    members = [s.take("JoinGroup", 3, name) for name in ("two", "three")]
    s.call("JoinGroup", version, "five", **s.join_fields())
    s.call("JoinGroup", 3, "five", **s.join_fields())
    s.call("JoinGroup", 3, "five", **s.join_fields(MemberId="nobody"))
    s.call("DescribeGroups", 5, Groups=[s.group])
    for row in members:
        leave(s, 2, row.get("MemberId", ""))


for number in (0, 9):
    case(f"too many members, v{number}", too_many, version=number)


def many_pending(s):
    """Ids that were handed out and never used count, too."""
    for _ in range(5):
        s.call("JoinGroup", 9, **s.join_fields())
    s.call("DescribeGroups", 6, Groups=[s.group])
    s.call("DeleteGroups", 2, GroupsNames=[s.group])


case("ids that nobody uses", many_pending)


@case("a pending member syncs, beats and leaves")
def pending(s):
    found = s.call("JoinGroup", 9, **s.join_fields())
    member = found["MemberId"]
    s.sync(5, member, 0)
    s.sync(5, member, -1)
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=0, MemberId=member)
    s.commit(8, member, 0)
    leave(s, 5, member)
    s.call("JoinGroup", 9, **s.join_fields(MemberId=member))


# ---- SyncGroup, Heartbeat, LeaveGroup: bad ones --------------------------------------------------


def bad_syncs(s, version):
    s.sync(version, UNKNOWN, 1)
    s.sync(version, "", -1)
    member, generation = s.stable()
    for who, when in [(UNKNOWN, generation), (member, 0), (member, 5), (member, -1), ("", 1)]:
        s.sync(version, who, when)
    s.sync(version, member, generation, GroupId="")
    s.sync(version, member, generation, GroupId="absent")
    s.sync(version, member, generation, GroupId=null_in("SyncGroup", version))
    if version >= 3:
        s.sync(version, member, generation, GroupInstanceId="unknown")
        s.sync(version, member, generation, GroupInstanceId="")
    for kind, name in [("connect", "range"), ("consumer", "sticky"), ("", ""), (None, None)]:
        if version >= 5:
            s.sync(version, member, generation, ProtocolType=kind, ProtocolName=name)
    again = s.join(9, MemberId=member)
    generation = again["GenerationId"]
    shares = {member: b"\xff" * 10, "stranger": b"x", "": b"y"}
    s.sync(version, member, generation, shares=shares)
    s.sync(version, member, generation)
    s.call("DescribeGroups", 5, Groups=[s.group])
    # A share of a megabyte, and none at all.
    again = s.join(9, MemberId=member)
    s.sync(version, member, again["GenerationId"], shares={member: b"z" * 500_000})
    again = s.join(9, MemberId=member)
    s.sync(version, member, again["GenerationId"])
    s.call("DescribeGroups", 5, Groups=[s.group])


for number in schema.versions("SyncGroup"):
    case(f"bad syncs, v{number}", bad_syncs, version=number)


@case("a share too large for a record")
def huge_share(s):
    joined = s.join(9)
    member = joined["MemberId"]
    s.sync(5, member, joined["GenerationId"], shares={member: b"z" * 2_000_000})
    s.call("DescribeGroups", 5, Groups=[s.group])
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=1, MemberId=member)


def never_answered(s, rows):
    """A join that Apache Kafka never answers: what Corelog does is free, if it goes on."""
    s.join(0, Protocols=rows)


for words, rows in [
    ("a subscription of 2 MB", protocols(("range", b"x" * 2_000_000))),
    ("a subscription of many x", protocols(("range", b"x" * 10_000))),
    ("a protocol without a name", protocols(("", b"empty name"))),
    ("a protocol twice", protocols(("range", b"1"), ("range", b"2"))),
]:
    case(f"never answered: {words}", never_answered, rows=rows)


def bad_beats(s, version):
    def beat(**fields):
        s.call("Heartbeat", version, **{"GroupId": s.group, **fields})

    beat(GenerationId=1, MemberId=UNKNOWN)
    beat(GenerationId=-1, MemberId="")
    member, generation = s.stable()
    for who, when in [(UNKNOWN, generation), (member, 0), (member, 9), (member, -1), ("", 1)]:
        beat(GenerationId=when, MemberId=who)
    beat(GenerationId=generation, MemberId=member, GroupId="")
    beat(GenerationId=generation, MemberId=member, GroupId="absent")
    beat(GenerationId=generation, MemberId=member, GroupId=null_in("Heartbeat", version))
    if version >= 3:
        beat(GenerationId=generation, MemberId=member, GroupInstanceId="unknown")
    beat(GenerationId=generation, MemberId=member)


for number in schema.versions("Heartbeat"):
    case(f"bad heartbeats, v{number}", bad_beats, version=number)


def bad_leaves(s, version):
    leave(s, version, UNKNOWN)
    member, _ = s.stable()
    leave(s, version, UNKNOWN)
    leave(s, version, "")
    leave(s, version, member, GroupId="")
    leave(s, version, member, GroupId="absent")
    if version >= 3:
        leave(s, version, member, "unknown")
        leave(s, version, "", "unknown")
        s.call("LeaveGroup", version, GroupId=s.group, Members=[])
        rows = [{"MemberId": name} for name in (UNKNOWN, member, member, "", LONG[:300])]
        s.call("LeaveGroup", version, GroupId=s.group, Members=rows)
        s.call("LeaveGroup", version, GroupId="", Members=rows)
        s.call("LeaveGroup", version, GroupId="absent", Members=rows)
    leave(s, version, member)
    leave(s, version, member)
    s.call("DescribeGroups", 6, Groups=[s.group])


for number in schema.versions("LeaveGroup"):
    case(f"bad leaves, v{number}", bad_leaves, version=number)


@case("requests while a group rebalances")
def rebalancing(s):
    first, generation = s.stable()
    s.ask("JoinGroup", 3, "two", **s.join_fields())
    s.until_state("PreparingRebalance")
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=generation, MemberId=first)
    s.sync(5, first, generation)
    s.commit(8, first, generation)
    s.commit(8, first, generation + 1)
    s.call("DescribeGroups", 5, Groups=[s.group])
    s.call("DeleteGroups", 2, GroupsNames=[s.group])
    found = s.join(9, MemberId=first)
    s.take("JoinGroup", 3, "two")
    # Everybody joined, nobody synced.
    s.call("DescribeGroups", 5, Groups=[s.group])
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=found["GenerationId"], MemberId=first)
    s.commit(8, first, found["GenerationId"])
    s.fetch(9)
    leave(s, 5, first)
    s.call("DescribeGroups", 5, Groups=[s.group])


@case("a rebalance ends without those that do not come")
def rebalance_timeout(s):
    fields = {"RebalanceTimeoutMs": 1000, "SessionTimeoutMs": 6000}
    first = s.join(3, **fields)
    member = first["MemberId"]
    s.sync(3, member, first["GenerationId"], shares={member: b""})
    s.ask("JoinGroup", 3, "two", **s.join_fields(**fields))
    second = s.take("JoinGroup", 3, "two")
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=1, MemberId=member)
    s.sync(3, second["MemberId"], second["GenerationId"], "two", {second["MemberId"]: b""})
    s.call("DescribeGroups", 5, Groups=[s.group])


@case("a member that is silent is gone after its session")
def session_timeout(s):
    first = s.join(3, SessionTimeoutMs=6000)
    member = first["MemberId"]
    s.sync(3, member, first["GenerationId"], shares={member: b""})
    s.until_state("Empty")
    s.until_state("Empty")
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=1, MemberId=member)
    s.call("DescribeGroups", 6, Groups=[s.group])


# ---- static members -----------------------------------------------------------------------------


def static(s, version):
    """A static member's restart, its fencing, its leaving."""
    member, generation = s.stable(version, GroupInstanceId="i1")
    s.call("DescribeGroups", 5, Groups=[s.group])
    again = s.join(version, "two", GroupInstanceId="i1")
    new = again["MemberId"]
    beat = {"GroupId": s.group, "GenerationId": again["GenerationId"], "GroupInstanceId": "i1"}
    s.call("Heartbeat", 4, MemberId=member, **beat)
    s.call("Heartbeat", 4, MemberId=new, **beat)
    s.call("Heartbeat", 4, MemberId=UNKNOWN, **beat)
    s.sync(5, member, generation, GroupInstanceId="i1")
    s.sync(5, new, again["GenerationId"], "two", GroupInstanceId="i1")
    s.commit(8, member, generation, GroupInstanceId="i1")
    s.commit(8, new, again["GenerationId"], GroupInstanceId="i1")
    s.commit(8, new, again["GenerationId"], GroupInstanceId="i2")
    s.call("JoinGroup", version, **s.join_fields(MemberId=member, GroupInstanceId="i1"))
    s.call("JoinGroup", version, **s.join_fields(MemberId=new, GroupInstanceId="i2"))
    leave(s, 5, member, "i1")
    # The same with another subscription: that is a rebalance.
    rows = protocols(("range", subscription(["t2"])))
    changed = s.join(version, "two", GroupInstanceId="i1", Protocols=rows)
    newest = changed["MemberId"]
    fields = {"GroupInstanceId": "i1", "shares": {newest: b"n"}}
    s.sync(5, newest, changed["GenerationId"], "two", **fields)
    s.call("DescribeGroups", 5, Groups=[s.group])
    leave(s, 5, "", "i1")
    leave(s, 5, "", "i1")
    s.call("DescribeGroups", 6, Groups=[s.group])


for number in (5, 6, 7, 8, 9):
    case(f"a static member, v{number}", static, version=number)


@case("two static members, one restarts")
def two_static(s):
    first, generation = s.stable(5, GroupInstanceId="i1")
    s.ask("JoinGroup", 5, "two", **s.join_fields(GroupInstanceId="i2"))
    s.until_state("PreparingRebalance")
    mine = s.join(5, MemberId=first, GroupInstanceId="i1")
    other = s.take("JoinGroup", 5, "two")
    second, generation = other["MemberId"], mine["GenerationId"]
    shares = {first: b"one", second: b"two"}
    s.sync(5, first, generation, shares=shares, GroupInstanceId="i1")
    s.sync(5, second, generation, "two", GroupInstanceId="i2")
    # The follower restarts, then the leader.
    again = s.join(9, "two", GroupInstanceId="i2")
    s.sync(5, again["MemberId"], again["GenerationId"], "two", GroupInstanceId="i2")
    again = s.join(9, GroupInstanceId="i1")
    s.sync(5, again["MemberId"], again["GenerationId"], GroupInstanceId="i1")
    s.call("Heartbeat", 4, GroupId=s.group, GenerationId=2, MemberId=again["MemberId"])
    rows = [{"GroupInstanceId": "i2", "MemberId": ""}, {"GroupInstanceId": "i1", "MemberId": second}]
    s.call("LeaveGroup", 5, GroupId=s.group, Members=rows)
    s.call("DescribeGroups", 5, Groups=[s.group])
