"""The rows of the group tests: which client with which settings goes through which stages."""

import re
import time
from dataclasses import dataclass, field
from typing import Callable

import elect_world
from group_world import MAX_POLL_MS, SESSION_MS, SLACK, STATIC_SESSION_MS, Failed, Group

STATIC_MEMBERS = 3


@dataclass
class Stage:
    """One step of a row; its body gets the group and the row, and returns a remark."""

    name: str
    body: Callable


@dataclass
class Row:
    """A group and what happens to it."""

    name: str
    client: str = ""
    settings: dict = field(default_factory=dict)
    stages: list = field(default_factory=list)
    unsupported: dict = field(default_factory=dict)
    ci: bool = True
    make: Callable = Group
    last: Stage = None

    def add(self, group, count=1, **more):
        """Members of this row's kind."""
        return group.add(self.client, count, **{**self.settings, **more})


def leave(group, members):
    for member in members:
        member.stop()
    for member in members:
        member.join()


def join(group, row):
    row.add(group, 2)
    group.settle()


def steady(group, _row):
    group.calm(3)


def scale(group, row):
    """8 to 1 leaves the one that was there first, 1 to 8 is all seven at once."""
    leave(group, group.living()[1:])
    group.settle()
    row.add(group, 7)
    up = group.settle()
    leave(group, group.living()[1:])
    down = group.settle()
    return f"up {up:.1f} s, down {down:.1f} s"


def crash(group, row):
    """kill -9 of a member's process: the others have all within the session timeout."""
    (victim,) = row.add(group, alone=True)
    row.add(group)
    group.settle()
    victim.kill()
    taken = group.settle(seconds=SESSION_MS / 1000)
    return f"taken over after {taken:.1f} s"


def pause(group, _row):
    """A member that does not poll loses its partitions to the other, and comes back."""
    sleeper, *others = group.living()
    pause_ms = MAX_POLL_MS + 6000
    with group.lock:
        known = len(group.events)
    sleeper.pause(pause_ms)
    end = time.monotonic() + pause_ms / 1000 + SLACK

    def told(event):
        with group.lock:
            rows = group.events[known:]
        return any(e["event"] == event and e["member"] == sleeper.name for e in rows)

    while group.why_unsettled(others, balanced=True):
        if told("resumed"):
            raise Failed(f"it slept {pause_ms} ms and lost nothing: {group.state()}")
        if time.monotonic() > end:
            raise Failed(f"the others did not take over: {group.state()}")
        time.sleep(0.05)
    while not told("resumed"):
        if time.monotonic() > end:
            raise Failed("it did not wake up")
        time.sleep(0.05)
    # What it held when it fell asleep is not its own any more, but it hears of that only now.
    while not (told("lost") or told("revoked")):
        if time.monotonic() > end:
            raise Failed("it was not told that its partitions are lost")
        time.sleep(0.05)
    group.settle()


def static_join(group, row):
    for number in range(STATIC_MEMBERS):
        row.add(group, instance=f"s{number + 1}")
    group.settle()


def static_roll(group, row):
    """Each static member is restarted; the others notice nothing, it gets the same back."""
    for index in range(STATIC_MEMBERS):
        old = next(m for m in group.living() if m.name == f"s{index + 1}")
        others = [member for member in group.living() if member is not old]
        before = {member: (member.rebalances, member.generation) for member in others}
        owned, generation = set(old.owned), old.generation
        leave(group, [old])
        (new,) = row.add(group, instance=old.name)
        group.settle()
        time.sleep(1.5)
        if new.owned != owned:
            raise Failed(f"{new.name} had {sorted(owned)} and now has {sorted(new.owned)}")
        if row.settings.get("protocol") != "consumer" and new.generation != generation:
            raise Failed(f"{new.name} had generation {generation}, now {new.generation}")
        for member, state in before.items():
            if (member.rebalances, member.generation) != state:
                raise Failed(f"{member.name} rebalanced: {group.events_of(member)[-5:]}")


def static_crash(group, row):
    """A static member that is killed and comes back within its session: again no rebalance.

    In the classic protocol only: in the other an instance that did not say that it goes is not
    given to anybody else before its session ends (UNRELEASED_INSTANCE_ID).
    """
    victim, *others = sorted(group.living(), key=lambda member: member.name)
    leave(group, [victim])
    (victim,) = row.add(group, instance=victim.name, alone=True)
    group.settle()
    before = [member.rebalances for member in others]
    owned = set(victim.owned)
    victim.kill()
    (new,) = row.add(group, instance=victim.name)
    group.settle()
    time.sleep(1.5)
    if new.owned != owned or [member.rebalances for member in others] != before:
        raise Failed(f"the group rebalanced: {group.state()}")


def finish(group, _row):
    return group.finish()


def new_topic(group, row):
    """A second topic that matches the pattern is found and shared out."""
    group.add_topic(f"{group.name}-more")
    taken = group.settle(seconds=30)
    return f"found after {taken:.1f} s"


def regex_join(group, row):
    row.settings["pattern"] = f"{re.escape(group.name)}(-more)?"
    join(group, row)


def mixed_join(group, row):
    """One group with members of three clients."""
    for client in ("java", "librdkafka", "franz", "kafka-python"):
        group.add(client, 1, **row.settings)
    group.settle()


def mixed_scale(group, row):
    for client in ("franz", "librdkafka"):
        group.add(client, 1, **row.settings)
    up = group.settle()
    leave(group, group.living()[:2])
    down = group.settle()
    return f"up {up:.1f} s, down {down:.1f} s"


def mixed_crash(group, row):
    victim = next(member for member in group.living() if member.client == "franz")
    victim.kill()
    taken = group.settle(seconds=SESSION_MS / 1000)
    return f"taken over after {taken:.1f} s"


def migrate(protocol, assignor):
    """Members are replaced one by one by members of the other protocol."""

    def body(group, row):
        for old in list(group.living()):
            leave(group, [old])
            group.add(row.client, 1, protocol=protocol, assignor=assignor)
            group.settle()
        group.calm(2)

    return body


JOIN, STEADY, SCALE = Stage("join", join), Stage("steady", steady), Stage("1-8-1", scale)
CRASH, PAUSE = Stage("crash", crash), Stage("pause", pause)
FINISH = Stage("every record", finish)
DYNAMIC = [JOIN, STEADY, SCALE, CRASH, PAUSE]
ROLL = Stage("static restarts", static_roll)
STATIC = [Stage("join", static_join), STEADY, ROLL, Stage("static crash", static_crash)]
MIGRATE = [
    JOIN,
    Stage("to consumer", migrate("consumer", "uniform")),
    Stage("to classic", migrate("classic", "range")),
]
MIXED = [
    Stage("join", mixed_join),
    STEADY,
    Stage("1-8-1", mixed_scale),
    Stage("crash", mixed_crash),
]
ELECT = [
    Stage("join", elect_world.join),
    Stage("steady", elect_world.steady),
    Stage("crash", elect_world.crash),
    Stage("leave", elect_world.leave),
]
ORDER = [
    "join",
    "steady",
    "1-8-1",
    "crash",
    "pause",
    "static restarts",
    "static crash",
    "new topic",
    "to consumer",
    "to classic",
    "leave",
    "every record",
    "every job once",
]

CONSUMER = {"protocol": "consumer"}
UNIFORM = {**CONSUMER, "assignor": "uniform"}
COOPERATIVE = {"assignor": "cooperative-sticky"}
# librdkafka wants the poll interval to be the longer one.
LONG = {"session_ms": STATIC_SESSION_MS, "max_poll_ms": STATIC_SESSION_MS}
NO_PAUSE = {"pause": "franz-go has no max.poll.interval.ms"}
KEEPS = {"pause": "librdkafka 2.16 in the consumer protocol keeps its partitions until it polls"}
# Apache Kafka answers "InstanceId can't be null".
NAMELESS = {"static restarts": "franz-go 1.22 sends no instance id when it leaves for a while"}
CLASSIC_ONLY = {"join": "it knows the classic protocol only"}


def row(name, client, settings, stages, **more):
    return Row(name, client, dict(settings), stages, last=FINISH, **more)


ROWS = [
    row("java range", "java", {}, DYNAMIC),
    row("librdkafka range", "librdkafka", {}, DYNAMIC),
    row(
        "kafkajs",
        "kafkajs",
        {},
        DYNAMIC,
        unsupported={
            "static restarts": "kafkajs 2.2 has no static members",
            "static crash": "kafkajs 2.2 has no static members",
        },
    ),
    row("java cooperative", "java", COOPERATIVE, DYNAMIC),
    row("franz range", "franz", {}, DYNAMIC[:4], unsupported=NO_PAUSE),
    row("librdkafka cooperative", "librdkafka", COOPERATIVE, DYNAMIC),
    row("java consumer", "java", UNIFORM, DYNAMIC),
    row("franz cooperative", "franz", COOPERATIVE, DYNAMIC[:4], unsupported=NO_PAUSE),
    row("librdkafka consumer", "librdkafka", UNIFORM, DYNAMIC[:4], unsupported=KEEPS),
    row("java static", "java", LONG, STATIC),
    row("franz consumer", "franz", UNIFORM, DYNAMIC[:4], unsupported={**NO_PAUSE, **NAMELESS}),
    row("librdkafka static", "librdkafka", LONG, STATIC),
    row("java consumer static", "java", UNIFORM, STATIC[:3]),
    row("franz static", "franz", LONG, STATIC),
    row(
        "mixed range",
        "",
        {},
        MIXED,
    ),
    row("java migration", "java", {}, MIGRATE),
    Row(
        "elect",
        stages=ELECT,
        make=elect_world.Election,
        last=Stage("every job once", elect_world.finish),
    ),
    Row("kafkajs cooperative", unsupported={"join": "kafkajs 2.2 has no cooperative assignor"}),
    Row("kafkajs consumer", unsupported=CLASSIC_ONLY),
    Row("kafka-python consumer", unsupported=CLASSIC_ONLY),
    row(
        "java consumer range",
        "java",
        {**CONSUMER, "assignor": "range"},
        DYNAMIC[:4],
        ci=False,
    ),
    row(
        "java consumer regex",
        "java",
        UNIFORM,
        [Stage("join", regex_join), STEADY, Stage("new topic", new_topic), CRASH],
        ci=False,
    ),
    row("java cooperative static", "java", {**COOPERATIVE, **LONG}, STATIC, ci=False),
    row("librdkafka consumer static", "librdkafka", UNIFORM, STATIC[:3], ci=False),
    row("kafka-python range", "kafka-python", {}, DYNAMIC, ci=False),
    row("kafka-python cooperative", "kafka-python", COOPERATIVE, DYNAMIC, ci=False),
    row("kafka-python static", "kafka-python", LONG, STATIC, ci=False),
    row("librdkafka migration", "librdkafka", {}, MIGRATE, ci=False),
]
