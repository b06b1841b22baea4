"""What must hold of the events of a group's members, whichever clients they are.

Events are dicts as group_member.py tells; the runner adds `killed` for a member whose process it
ended. Every check returns a list of sentences, each naming the events that contradict.
"""

from collections import defaultdict

# Clocks of different programs are read to a millisecond.
CLOCK_SECONDS = 0.005


def _show(event):
    rest = {k: v for k, v in event.items() if k not in ("at", "member", "event", "id")}
    return f"{event['at']:.3f} {event['member']} {event['event']} {rest}"


def ownership(events):
    """{partition: [[member, begin, end, first event, last event]]}; an open interval ends never.

    A member owns from `assigned` to `revoked`, `lost`, `stopping` or `killed`. One that pauses can
    not know what it lost: it owns again when it reads a record of the partition.
    """
    spans = defaultdict(list)
    open_spans, suspended = {}, set()

    def close(member, partition, event):
        suspended.discard((member, partition))
        span = open_spans.pop((member, partition), None)
        if span is not None:
            span[2], span[4] = event["at"], event

    def begin(member, partition, event):
        close(member, partition, event)
        span = [member, event["at"], float("inf"), event, None]
        open_spans[member, partition] = span
        spans[partition].append(span)

    for event in events:
        member, kind = event["member"], event["event"]
        if kind == "assigned":
            for partition in event["partitions"]:
                begin(member, partition, event)
        elif kind in ("revoked", "lost"):
            for partition in event["partitions"]:
                close(member, partition, event)
        elif kind in ("stopping", "killed", "pausing"):
            held = [p for m, p in open_spans if m == member]
            for partition in held:
                close(member, partition, event)
            if kind == "pausing":
                suspended.update((member, partition) for partition in held)
            else:
                suspended -= {row for row in suspended if row[0] == member}
        elif kind == "records" and (member, event["partition"]) in suspended:
            begin(member, event["partition"], event)
    return spans


def one_owner(events):
    """No partition is owned by two members at a time."""
    wrong = []
    for partition, spans in ownership(events).items():
        spans.sort(key=lambda span: span[1])
        for before, after in zip(spans, spans[1:]):
            if before[0] != after[0] and after[1] < before[2] - CLOCK_SECONDS:
                until = _show(before[4]) if before[4] else "(never given up)"
                wrong.append(
                    f"{partition} has two owners:\n      {_show(before[3])}\n"
                    f"      {_show(after[3])}\n      {until}"
                )
    return wrong


def one_owner_per_generation(events):
    """Where clients show the generation: no partition is assigned to two members in one."""
    claims, owned, wrong = {}, defaultdict(set), []
    for event in events:
        member, kind = event["member"], event["event"]
        if kind in ("revoked", "lost"):
            owned[member] -= set(event["partitions"])
        elif kind in ("stopping", "killed"):
            owned[member].clear()
        elif kind == "assigned":
            owned[member] |= set(event["partitions"])
            generation = event.get("generation")
            if generation is None or generation < 0:
                continue
            for partition in owned[member]:
                other = claims.setdefault((generation, partition), event)
                if other["member"] != member:
                    wrong.append(
                        f"{partition} has two owners in generation {generation}:\n"
                        f"      {_show(other)}\n      {_show(event)}"
                    )
    return wrong


def reads_only_what_it_owns(events):
    """A member reads a partition between its assignment and its revocation only."""
    owned, wrong = defaultdict(set), []
    for event in events:
        member, kind = event["member"], event["event"]
        if kind == "assigned":
            owned[member] |= set(event["partitions"])
        elif kind in ("revoked", "lost"):
            owned[member] -= set(event["partitions"])
        elif kind in ("stopped", "killed"):
            owned[member].clear()
        elif kind == "records" and event["partition"] not in owned[member]:
            wrong.append(f"read without owning: {_show(event)}")
    return wrong


def nothing_skipped_nor_lost(events):
    """Readers go on where the committed offset is: nothing skipped, nothing committed read again.

    The first record after an assignment lies between the last offset whose commit was
    acknowledged before that assignment and the first offset nobody has read; later ones follow
    without a gap. A commit that was acknowledged later than it was answered for may lie higher.
    """
    wrong, committed, read_to = [], defaultdict(int), defaultdict(int)
    position, floor = {}, {}
    for event in events:
        member, kind = event["member"], event["event"]
        if kind == "assigned":
            for partition in event["partitions"]:
                position.pop((member, partition), None)
                floor[member, partition] = committed[partition]
        elif kind == "committed":
            for partition, offset in event["offsets"].items():
                committed[partition] = max(committed[partition], offset)
        elif kind == "records":
            partition, first = event["partition"], event["first"]
            due = position.get((member, partition))
            low = floor.get((member, partition), 0) if due is None else due
            high = read_to[partition] if due is None else due
            if first < low:
                wrong.append(f"read again though {low} was committed: {_show(event)}")
            if first > high:
                wrong.append(f"skipped records from {high}: {_show(event)}")
            position[member, partition] = event["last"] + 1
            read_to[partition] = max(read_to[partition], event["last"] + 1)
    return wrong


def all_read(events, ends):
    """Every record up to the end of each partition was read; `ends` is {partition: offset}."""
    seen = {partition: bytearray(end) for partition, end in ends.items()}
    for event in events:
        if event["event"] == "records":
            first, next_offset = event["first"], event["last"] + 1
            seen[event["partition"]][first:next_offset] = b"\1" * (next_offset - first)
    missing = []
    for partition, marks in seen.items():
        if 0 in marks:
            missing.append(f"{partition}: {marks.count(0)} not read, the first {marks.index(0)}")
    return missing


def no_errors(events):
    """No member reported a failure of its own."""
    return [_show(event) for event in events if event["event"] == "error" and event.get("fatal")]


def reread(events):
    """How many records were read more than once."""
    total, seen = 0, defaultdict(set)
    for event in events:
        if event["event"] == "records":
            offsets = set(range(event["first"], event["last"] + 1))
            total += len(offsets & seen[event["partition"]])
            seen[event["partition"]] |= offsets
    return total


CHECKS = [
    no_errors,
    one_owner,
    one_owner_per_generation,
    reads_only_what_it_owns,
    nothing_skipped_nor_lost,
]


def all_wrong(events, ends):
    """Everything that does not hold."""
    events = sorted(events, key=lambda event: event["at"])
    return [line for check in CHECKS for line in check(events)] + all_read(events, ends)


def _self_test():
    """Each check finds the fault that it is for."""

    def told(*rows):
        keys = ("at", "member", "event")
        return [dict(zip(keys, row[:3]), **row[3]) for row in rows]

    sound = told(
        (1.0, "a", "assigned", {"partitions": ["t:0"], "generation": 1}),
        (1.1, "a", "records", {"partition": "t:0", "first": 0, "last": 4}),
        (1.2, "a", "committed", {"offsets": {"t:0": 5}}),
        (2.0, "a", "revoked", {"partitions": ["t:0"]}),
        (2.1, "b", "assigned", {"partitions": ["t:0"], "generation": 2}),
        (2.2, "b", "records", {"partition": "t:0", "first": 5, "last": 9}),
    )
    assert all_wrong(sound, {"t:0": 10}) == []
    assert all_read(sound, {"t:0": 11}), "a record that nobody read"
    late = [dict(e, at=2.5) if e["event"] == "revoked" else e for e in sound]
    assert one_owner(sorted(late, key=lambda e: e["at"])), "two owners at a time"
    never = [e for e in sound if e["event"] != "revoked"]
    assert one_owner(never), "an owner that never gave up"
    killed = [dict(e, event="killed") if e["event"] == "revoked" else e for e in sound]
    assert not one_owner(killed), "a killed member owns nothing"
    same = [dict(e, generation=1) if e["event"] == "assigned" else e for e in sound]
    assert one_owner_per_generation(same), "two owners in a generation"
    again = [dict(e, first=4) if e.get("first") == 5 else e for e in sound]
    assert nothing_skipped_nor_lost(again), "a committed record read again"
    skipped = [dict(e, first=6) if e.get("first") == 5 else e for e in sound]
    assert nothing_skipped_nor_lost(skipped), "a record skipped"
    stray = [*sound, *told((3.0, "a", "records", {"partition": "t:0", "first": 5, "last": 9}))]
    assert reads_only_what_it_owns(stray), "a record read after the partition was given up"
    paused = told(
        (1.0, "a", "assigned", {"partitions": ["t:0"]}),
        (1.2, "a", "pausing", {}),
        (5.0, "b", "assigned", {"partitions": ["t:0"]}),
        (6.0, "a", "resumed", {}),
        (6.1, "a", "lost", {"partitions": ["t:0"]}),
    )
    assert not one_owner(paused), "a member that sleeps owns nothing"
    zombie = told((6.05, "a", "records", {"partition": "t:0", "first": 0, "last": 0}))
    assert one_owner(sorted(paused + zombie, key=lambda e: e["at"])), "it woke and read on"


_self_test()
