"""Cases of ListGroups, DescribeGroups, DeleteGroups, and of the settings of groups."""

from harness import schema

from .session import NOW, assignment, case, protocols

GROUP = 32


@case("versions of the group APIs")
def advertised(s):
    found = s.raw_call("ApiVersions", 3)
    keys = {8, 9, 10, 11, 12, 13, 14, 15, 16, 42, 47, 68, 69, 32, 33, 44}
    rows = {row["ApiKey"]: row for row in found["ApiKeys"] if row["ApiKey"] in keys}
    s.note("versions", {}, {schema.apis()[key]: rows.get(key) for key in sorted(keys)})


@case("the feature of the consumer protocol")
def feature(s):
    found = s.raw_call("ApiVersions", 3)
    rows = [row for row in found["FinalizedFeatures"] if row["Name"] == "group.version"]
    rows += [row for row in found["SupportedFeatures"] if row["Name"] == "group.version"]
    s.note("group.version", {}, rows)


def groups_of_all_states(s):
    """Groups named after their state."""
    group = s.group
    names = {state: f"{group}.{state}" for state in ("stable", "empty", "simple", "syncing", "new")}
    s.groups |= set(names.values())
    for state in ("stable", "empty"):
        joined = s.join(9, state, GroupId=names[state])
        member = joined["MemberId"]
        shares = {member: assignment([("t1", [0])])}
        s.sync(5, member, joined["GenerationId"], state, shares, GroupId=names[state])
        if state == "empty":
            s.call("LeaveGroup", 5, GroupId=names[state], Members=[{"MemberId": member}])
    s.commit(8, GroupId=names["simple"])
    s.join(9, "syncing", GroupId=names["syncing"], ProtocolType="elect", Protocols=protocols(("x", b"")))
    s.heartbeat(0, on="new", GroupId=names["new"], MemberId="a" * 22)
    return names


def lists(s, version):
    names = groups_of_all_states(s)
    s.listed(version)
    states = ["Stable", "stable", "EMPTY", "PreparingRebalance", "CompletingRebalance", "Dead"]
    states += ["Assigning", "Reconciling", "Assigned", "nonsense", "", "Preparing-Rebalance"]
    if version >= 4:
        for state in states:
            s.listed(version, StatesFilter=[state])
        s.listed(version, StatesFilter=["Empty", "Stable"])
        s.listed(version, StatesFilter=["Empty", "Empty", "x"])
    if version >= 5:
        for kind in ("classic", "consumer", "Consumer", "share", "streams", "unknown", "", "x"):
            s.listed(version, TypesFilter=[kind])
        s.listed(version, TypesFilter=["classic", "consumer"])
        s.listed(version, TypesFilter=["classic"], StatesFilter=["Empty"])
        s.listed(version, TypesFilter=["consumer"], StatesFilter=["Empty"])
    for name in names.values():
        s.call("DescribeGroups", min(version, 6), Groups=[name])


for number in schema.versions("ListGroups"):
    case(f"lists of groups, v{number}", lists, version=number)


def describes(s, version):
    names = list(groups_of_all_states(s).values())
    s.call("DescribeGroups", version, Groups=names)
    s.call("DescribeGroups", version, Groups=[])
    s.call("DescribeGroups", version, Groups=["absent", "", "é", names[0], names[0]])
    if version >= 3:
        s.call("DescribeGroups", version, Groups=[names[0], "absent"], IncludeAuthorizedOperations=True)


for number in schema.versions("DescribeGroups"):
    case(f"descriptions of groups, v{number}", describes, version=number)


def consumer_describes(s, version):
    names = list(groups_of_all_states(s).values())
    s.call("ConsumerGroupDescribe", version, GroupIds=names)
    s.call("ConsumerGroupDescribe", version, GroupIds=[])
    s.call("ConsumerGroupDescribe", version, GroupIds=["absent", "", names[4], names[4]])
    s.call("ConsumerGroupDescribe", version, GroupIds=names[4:], IncludeAuthorizedOperations=True)


for number in schema.versions("ConsumerGroupDescribe"):
    case(f"descriptions of consumer groups, v{number}", consumer_describes, version=number)


def deletions(s, version):
    names = list(groups_of_all_states(s).values())
    s.call("DeleteGroups", version, GroupsNames=["absent"])
    s.call("DeleteGroups", version, GroupsNames=[])
    s.call("DeleteGroups", version, GroupsNames=[""])
    for name in names:
        s.call("DeleteGroups", version, GroupsNames=[name])
    s.call("DeleteGroups", version, GroupsNames=[names[1], names[2]])
    s.commit(8, GroupId=names[1])
    s.commit(8, GroupId=names[2])
    # Kafka answers in no order when groups live in several partitions: one name at a time, and one
    # name twice.
    s.call("DeleteGroups", version, GroupsNames=[names[1], names[1]])
    s.fetch(9, group=names[1], rows=None)
    s.listed(5)


for number in schema.versions("DeleteGroups"):
    case(f"deletions of groups, v{number}", deletions, version=number)


# ---- settings -----------------------------------------------------------------------------------


def alter(s, name, rows, version=1, validate=False):
    """IncrementalAlterConfigs; rows are (setting, operation, value)."""
    found = [{"Name": key, "ConfigOperation": how, "Value": value} for key, how, value in rows]
    resource = {"ResourceType": GROUP, "ResourceName": name, "Configs": found}
    fields = {"Resources": [resource], "ValidateOnly": validate}
    return s.call("IncrementalAlterConfigs", version, **fields)


def describe(s, name, keys=None, version=4, synonyms=True, documentation=False):
    resource = {"ResourceType": GROUP, "ResourceName": name, "ConfigurationKeys": keys}
    fields = {"Resources": [resource]}
    if version >= 1:
        fields["IncludeSynonyms"] = synonyms
    if version >= 3:
        fields["IncludeDocumentation"] = documentation
    return s.call("DescribeConfigs", version, **fields)


SET, DELETE, APPEND, SUBTRACT = range(4)
BAD_SETTINGS = [
    ("consumer.session.timeout.ms", SET, "44999"),
    ("consumer.session.timeout.ms", SET, "60001"),
    ("consumer.session.timeout.ms", SET, "0"),
    ("consumer.session.timeout.ms", SET, "-1"),
    ("consumer.session.timeout.ms", SET, "often"),
    ("consumer.session.timeout.ms", SET, ""),
    ("consumer.session.timeout.ms", SET, None),
    ("consumer.session.timeout.ms", SET, "99999999999"),
    ("consumer.heartbeat.interval.ms", SET, "4999"),
    ("consumer.heartbeat.interval.ms", SET, "15001"),
    ("consumer.assignment.interval.ms", SET, "15001"),
    ("consumer.assignment.interval.ms", SET, "-1"),
    ("consumer.session.timeout.ms", APPEND, "50000"),
    ("consumer.session.timeout.ms", SUBTRACT, "50000"),
    ("consumer.session.timeout.ms", 9, "50000"),
    ("share.auto.offset.reset", SET, "never"),
    ("share.isolation.level", SET, "x"),
    ("no.such", SET, "1"),
    ("no.such", DELETE, None),
    ("", SET, "1"),
    ("retention.ms", SET, "1"),
    ("group.consumer.session.timeout.ms", SET, "45000"),
]
GOOD_SETTINGS = [
    ("consumer.session.timeout.ms", SET, "50000"),
    ("consumer.heartbeat.interval.ms", SET, "6000"),
    ("consumer.assignment.interval.ms", SET, "0"),
    ("consumer.assignor.offload.enable", SET, "true"),
    ("share.auto.offset.reset", SET, "earliest"),
    ("streams.num.standby.replicas", SET, "1"),
]


@case("settings of groups")
def settings(s):
    name = s.group + ".settings"
    for version in schema.versions("DescribeConfigs"):
        describe(s, name, version=version)
    describe(s, name, documentation=True)
    describe(s, "")
    describe(s, name, ["consumer.session.timeout.ms"])
    describe(s, name, ["consumer.session.timeout.ms", "no.such"])
    describe(s, name, [])
    for row in BAD_SETTINGS:
        alter(s, name, [row])
    for row in GOOD_SETTINGS:
        alter(s, name, [row], validate=True)
        alter(s, name, [row])
        visible(s, name, row[0], row[2])
    alter(s, name, [GOOD_SETTINGS[0], GOOD_SETTINGS[0]])
    alter(s, name, [GOOD_SETTINGS[0], BAD_SETTINGS[0]])
    alter(s, name, [GOOD_SETTINGS[1], ("consumer.heartbeat.interval.ms", SET, "4999")])
    alter(s, name, [])
    alter(s, "", [GOOD_SETTINGS[0]])
    describe(s, name)
    describe(s, name, synonyms=False)
    alter(s, name, [("consumer.session.timeout.ms", DELETE, None)])
    alter(s, name, [("consumer.session.timeout.ms", DELETE, None)])
    visible(s, name, "consumer.session.timeout.ms", "45000")
    s.call("ListConfigResources", 1, ResourceTypes=[GROUP])
    for key, _, _ in GOOD_SETTINGS[1:]:
        alter(s, name, [(key, DELETE, None)])
    visible(s, name, GOOD_SETTINGS[-1][0], "0")
    describe(s, name)


def visible(s, name, key, value):
    """Waits until the broker itself has seen a setting."""

    def ask():
        resource = {"ResourceType": GROUP, "ResourceName": name, "ConfigurationKeys": [key]}
        found = s.raw_call("DescribeConfigs", 4, "watch", Resources=[resource])
        if isinstance(found, str):
            return found
        return [row["Value"] for row in found["Results"][0]["Configs"]]

    s.until(f"{key} of {name}", ask, lambda found: found == [value])


@case("a group follows its settings")
def followed(s):
    alter(s, s.group, [("consumer.heartbeat.interval.ms", SET, "7000")])
    visible(s, s.group, "consumer.heartbeat.interval.ms", "7000")
    s.heartbeat(0, MemberId="b" * 22)
    alter(s, s.group, [("consumer.heartbeat.interval.ms", DELETE, None)])
    visible(s, s.group, "consumer.heartbeat.interval.ms", "5000")
    s.heartbeat(NOW, MemberId="b" * 22)


@case("AlterConfigs of a group")
def old_alter(s):
    for version in schema.versions("AlterConfigs"):
        rows = [{"Name": "consumer.session.timeout.ms", "Value": "50000"}]
        resource = {"ResourceType": GROUP, "ResourceName": s.group, "Configs": rows}
        s.call("AlterConfigs", version, Resources=[resource], ValidateOnly=False)
