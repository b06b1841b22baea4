"""The long sets that write much: synced topics, a backlog read beside a live load, a soak.

Each takes the round it is of, whose broker serves it alone.
"""

import os
import time
from functools import partial

from . import clients, loads, machine, shape, turns
from .own import Own

GIB = 1 << 30
MIB = 1 << 20
RATE_WARM_UP = 2.0
# Below this share of a rate a note says so.
KEPT_SHARE = 0.95
FILLS_MAX = 6
READ_SECONDS_MAX = 1200
CHUNKS_MAX = 120
MINUTE = 60
# Of each minute of a soak: connecting, and not measured.
SOAK_WARM_UP = 1.0
# A soak's retention sets in by then, as a share of its length.
SOAK_SHARE = 0.1
# Kafka takes no smaller segments.
SEGMENT_BYTES_MIN = MIB


# ---- durable ------------------------------------------------------------------------------------


def durable(this):
    """One record a request, synced before it is answered; and Kafka's latency without that."""
    this.warm_up()
    for load in loads.DURABLE:
        partitions, key = load.partitions, loads.durable_key(load.partitions)
        found = {}
        with this.topic("durable", partitions, loads.FLUSH) as topic:
            report = this.load(load, topic)
            if report and this.kind == "kafka":
                reached = report["requests_per_second"]
                this.shared.setdefault(key, reached * loads.DURABLE_SHARE)
            rates = {f"{loads.DURABLE_RATE:,} a second": loads.DURABLE_RATE}
            if key in this.shared:
                rates = {loads.DURABLE_SHARE_WORDS: this.shared[key], **rates}
            for words, rate in rates.items():
                name = loads.durable_rate(partitions, words)
                found[name] = _p99_at(this, f"{name}, both with flush", topic, partitions, rate)
        if this.kind != "kafka":
            for name, p99 in found.items():
                if p99 is not None:
                    this.put(f"{name}, {loads.BESIDE_PLAIN}: p99, us", p99)
            continue
        with this.topic("plain", partitions) as topic:
            for words, rate in rates.items():
                name = f"{loads.durable_rate(partitions, words)}, {loads.BESIDE_PLAIN}"
                _p99_at(this, name, topic, partitions, rate)


def _p99_at(this, name, topic, partitions, rate):
    """The p99 at a rate, kept under a name; `None` where the load failed."""
    words, seconds = loads.durable(partitions, rate), this.args.seconds
    # What the load before has left to the kernel is not this one's; the faster broker left more.
    os.sync()
    run = partial(this.bench, words, topic, seconds, RATE_WARM_UP)
    found = this.attempt(name, lambda: this.measured(name, run))
    if found is None:
        return None
    report, _took = found
    reached = report["requests_per_second"]
    if reached < KEPT_SHARE * rate:
        this.notes.append(f"{this.kind}: {name}: only {reached:,.0f} of {rate:,.0f} a second")
    p99 = report["latency_us"]["p99"]
    this.put(f"{name}: p99, us", p99)
    return p99


# ---- backfill -----------------------------------------------------------------------------------


def backfill(this):
    """A live load alone, and beside a consumer that reads a backlog that no cache holds."""
    this.warm_up()
    if not this.know_rate():
        this.notes.append("backfill needs Kafka's highest rate: measure both, or give --rate")
        return
    rate = this.shared["rate"] / loads.HIGHEST_SHARE * loads.BACKFILL_SHARE
    words = loads.BACKFILL_LIVE.format(rate=rate)
    seconds = 2 * this.args.seconds
    with this.topic("backlog", 16) as backlog, this.topic("live", 16) as live:
        held = _fill(this, backlog)
        turns.say(f"{this.kind}: backlog of {held / GIB:.1f} GiB; live {rate:,.0f} requests/s")

        def chunk():
            return this.bench(words, live, seconds, 1.0)

        alone, _took = this.measured("backfill, alone", lambda: [chunk(), chunk()])
        this.put("backfill, live load alone: p99, us", quiet := shape.pooled(alone, 0.99))
        dropped = machine.drop_cached(_segments(this, backlog))
        turns.say(f"{this.kind}: {dropped}")
        # The client's own program comes back into memory.
        this.bench(words, live, 1.0)
        bootstrap, pinned = this.broker.bootstrap, this.args.pinned
        with clients.Backlog(bootstrap, backlog, READ_SECONDS_MAX, pinned=pinned) as reader:
            beside = while_it(reader.reads, chunk)
            read = reader.report()
    if read["bytes"] < 0.9 * held:
        raise clients.LoadFailed(f"{read['bytes']:,} bytes were read of {held:,}")
    if len(beside) == 1 and read["seconds"] < seconds:
        this.notes.append(
            f"{this.kind}: the backlog was read in {read['seconds']:.1f} s, before the live load "
            f"of {seconds:.0f} s ended: take a larger one"
        )
    loud = shape.pooled(beside, 0.99)
    this.put("backfill, live load beside the reader: p99, us", loud)
    this.put("backfill: live p99 growth", loud / quiet)
    this.put("backfill: reading, MB/s", read["bytes"] / 1e6 / read["seconds"])
    this.series["backfill"] = {
        "bytes": held,
        "cache": dropped,
        "alone_p99_us": [one["latency_us"]["p99"] for one in alone],
        "beside_p99_us": [one["latency_us"]["p99"] for one in beside],
    }


def while_it(lasts, chunk):
    """The reports of `chunk()`, over and over, that lie within the time in which `lasts()`.

    The one during which it ended does not count, unless it is the only one.
    """
    found = [chunk()]
    while lasts() and len(found) < CHUNKS_MAX:
        one = chunk()
        if lasts():
            found.append(one)
    return found


def _segments(this, topic):
    return sorted(this.broker.data.glob(f"{topic}-*/*.log"))


def _held(this, topic):
    return sum(path.stat().st_size for path in _segments(this, topic))


def _fill(this, topic):
    """Writes the backlog; its bytes."""
    wanted = this.args.backfill_gib * GIB
    each = loads.BACKLOG_RATE * loads.BACKLOG_BATCH * 1024
    for _ in range(FILLS_MAX):
        missing = wanted - _held(this, topic)
        if missing <= 0.02 * wanted:
            break
        this.bench(loads.BACKLOG_FILL, topic, max(1.0, missing / each))
    return _held(this, topic)


# ---- retention ----------------------------------------------------------------------------------

RETENTION_PROPERTIES = {
    "log.retention.check.interval.ms": 20_000,
    "log.initial.task.delay.ms": 20_000,
}


def retention(this):
    """A fixed rate on a topic whose segments roll and are deleted all the time."""
    this.warm_up()
    with this.topic("retention", 16, loads.RETENTION_CONFIGS) as topic:
        # Until segments were deleted for the first time.
        run = partial(this.bench, loads.SOAK, topic, loads.RETENTION_SECONDS, 30.0)
        report, _took = this.measured(loads.RETENTION_NAME, run)
    latency = report["latency_us"]
    for name, key in {"p50": "p50", "p99": "p99", "p99.9": "p99_9", "worst": "max"}.items():
        this.put(f"{loads.RETENTION_NAME}: {name}, us", latency[key])


# ---- soak ---------------------------------------------------------------------------------------


def soak_limits(minutes):
    """(retention.bytes, segment.bytes) of each of 16 partitions, so that retention sets in early.

    They keep what is written in half of the share of the run by which it is to set in.
    """
    written = minutes * MINUTE * loads.SOAK_RATE * loads.SOAK_BATCH * 1024 / 16
    retained = max(4 * SEGMENT_BYTES_MIN, int(written * SOAK_SHARE / 2))
    return retained, max(SEGMENT_BYTES_MIN, retained // 8)


def soak_properties(args):
    """Retention is looked after ten times within the first tenth of the run."""
    every = max(1000, int(args.soak_minutes * MINUTE * 1000 * SOAK_SHARE / 10))
    return {"log.retention.check.interval.ms": every, "log.initial.task.delay.ms": every}


def soak(this):
    """A fixed rate for long, on a topic that forgets its oldest records all the time."""
    this.warm_up()
    retained, segment = soak_limits(this.args.soak_minutes)
    configs = {"retention.bytes": retained, "segment.bytes": segment, "file.delete.delay.ms": 1000}
    minutes = max(1, round(this.args.soak_minutes))
    length = max(2.0, MINUTE * this.args.soak_minutes / minutes)
    series, written = [], 0
    with this.topic("soak", 16, configs) as topic:
        began = time.monotonic()
        for number in range(minutes):
            report = this.bench(loads.SOAK, topic, length - SOAK_WARM_UP, SOAK_WARM_UP)
            written += report["bytes"] * length / report["seconds"]
            series.append(_minute(this, topic, report, time.monotonic() - began, written))
            one = series[-1]
            turns.say(
                f"{this.kind}: soak, minute {number + 1} of {minutes}: p99 {one['p99_us']:,.0f} us,"
                f" {one['resident_mib']:,.0f} MiB resident, kept {one['kept'] / MIB:,.0f} of"
                f" {written / MIB:,.0f} MiB"
            )
    this.series["soak"] = series
    soaked(this, series)


def _minute(this, topic, report, moment, written):
    latency = report["latency_us"]
    return {
        "at": moment,
        "requests_per_second": report["requests_per_second"],
        "resident_mib": this.broker.resident_bytes() / MIB,
        "written": written,
        "kept": _held(this, topic),
        **{f"{name}_us": latency[name] for name in ("p50", "p99", "p99_9", "max")},
    }


def soaked(this, series):
    """The figures of a soak's minutes; the first tenth, without retention, is not among them."""
    late = shape.steady(series, SOAK_SHARE)
    points = [(one["at"] / 3600, one["p99_us"]) for one in late]
    mean = sum(p99 for _at, p99 in points) / len(points)
    rise = shape.slope(points)
    this.put("soak: p99 of a minute, us", mean)
    this.put("soak: highest p99 of a minute, us", max(p99 for _at, p99 in points))
    this.put("soak: slope of the p99, us an hour", rise)
    this.put("soak: slope of the p99, % of its mean an hour", 100 * rise / mean)
    this.put("soak: RSS at the end, MiB", series[-1]["resident_mib"])
    this.put("soak: bytes kept of those written, %", 100 * series[-1]["kept"] / late[-1]["written"])


DURABLE = Own(durable)
BACKFILL = Own(backfill)
RETENTION = Own(retention, lambda _args: RETENTION_PROPERTIES)
SOAK = Own(soak, soak_properties)
