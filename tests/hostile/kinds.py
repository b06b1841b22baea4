"""The kinds of hostile and slow peers. Each has a name, a share of the connections, and a rule.

`KINDS` maps a name to its class. A class says with `closed_within` how long the broker may let a
connection of its kind live (as a function of connections.max.idle.ms), with `answers` that it has
to be answered, and with `weight` its share of the connections of a whole attack.
"""

import itertools

from . import bombs, requests
from .engine import Peer

SMALL_BUFFER_BYTES = 4096
DRIP_SECONDS = 1.0
GIANT_PIECE_BYTES = 16 << 10
ASK_AGAIN_SECONDS = 0.25
STORM_TICK_SECONDS = 0.01
STORM_OUTSTANDING_MAX = 400
PIPELINED_BYTES_MAX = 8 << 20
FAT_BYTES = 60 << 10
JOIN_BYTES = 256 << 10
SNAPPY_BOMB_BYTES_MAX = 16 << 20
# The broker looks at a connection's age every so often, and a busy machine is late.
LATE_SECONDS = 4.0

KINDS = {}


def kind(name, weight):
    """Adds a class to `KINDS`."""

    def add(found):
        found.weight = weight
        KINDS[name] = found
        return found

    return add


class World:
    """What the peers know of the broker they attack."""

    def __init__(self, words, source):
        self.source = source
        self.wide = words["wide"]
        self.wide_partitions = words["wide_partitions"]
        self.big = words["big"]
        self.big_partitions = words["big_partitions"]
        self.quiet = words["quiet"]
        self.committed = words["committed"]
        self.bombed = words["bombed"]
        self.frame_bytes_max = words["frame_bytes_max"]
        self.bomb_bytes = words["bomb_bytes"]
        self.numbers = itertools.count()
        self._made = {}

    def once(self, name, make):
        """Large requests are made once."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def wide_all(self):
        """Every partition of the wide topics."""
        return [(topic, index) for topic in self.wide for index in range(self.wide_partitions)]

    def big_all(self):
        """Every partition of the topic with much in it."""
        return [(self.big, index) for index in range(self.big_partitions)]


def at_idle(idle_seconds):
    """Closed once it was idle."""
    return idle_seconds + LATE_SECONDS


def twice_idle(idle_seconds):
    """An answer is sent in parts, each of which may take as long as a connection may be idle."""
    return 2 * idle_seconds + LATE_SECONDS


def at_once(_idle_seconds):
    """Closed as soon as its bytes are seen."""
    return LATE_SECONDS


class Quiet(Peer):
    """Base of kinds whose rule is nothing but that the broker lives."""

    weight = 0
    answers = False
    # Large requests wait for memory that others hold: they have to be answered without those only.
    answers_alone = False
    closed_within = None


@kind("idle", 300)
class Idle(Quiet):
    """Connects and says nothing."""

    closed_within = staticmethod(at_idle)


@kind("drip", 500)
class Drip(Quiet):
    """A valid request, a byte a second: it takes longer than a connection may be idle."""

    closed_within = staticmethod(at_idle)

    def connected(self):
        self.rest = memoryview(requests.api_versions() * 1000)
        self.drip()

    def drip(self):
        self.send(self.rest[:1])
        self.rest = self.rest[1:]
        if self.socket is not None:
            self.later(DRIP_SECONDS, self.drip)


@kind("announce", 500)
class Announce(Quiet):
    """Announces the largest request there may be, and is silent."""

    closed_within = staticmethod(at_idle)

    def connected(self):
        self.send(self.world.frame_bytes_max.to_bytes(4, "big"))


@kind("announce-more", 20)
class AnnounceMore(Quiet):
    """Announces a request that is larger than any may be, or of less than no bytes."""

    closed_within = staticmethod(at_once)

    def connected(self):
        sizes = [self.world.frame_bytes_max + 1, 2**31 - 1, 2**31, 2**32 - 1]
        self.send(self.world.source.choice(sizes).to_bytes(4, "big"))


@kind("giant-slow", 300)
class GiantSlow(Quiet):
    """The largest request there may be, 16 KiB a second."""

    closed_within = staticmethod(at_idle)

    def connected(self):
        head, self.missing = requests.giant_produce(self.world.frame_bytes_max)
        self.send(head)
        self.piece()

    def piece(self):
        if self.socket is None:
            return
        # What the broker does not read stays with us.
        if len(self.out) < GIANT_PIECE_BYTES:
            self.send(bytes(GIANT_PIECE_BYTES))
        if self.socket is not None:
            self.later(1.0, self.piece)


@kind("giant-half", 100)
class GiantHalf(Quiet):
    """Half of the largest request there may be at once, and then nothing."""

    closed_within = staticmethod(twice_idle)

    def connected(self):
        head, missing = requests.giant_produce(self.world.frame_bytes_max)
        self.send(head + bytes(missing // 2))


@kind("fat-idle", 300)
class FatIdle(Quiet):
    """Has a request of 60 KiB answered, and says nothing more: buffers must not stay as large."""

    answers = True
    closed_within = staticmethod(at_idle)

    def connected(self):
        head, missing = requests.giant_produce(FAT_BYTES)
        self.send(head + bytes(missing))


@kind("giant", 4)
class Giant(Quiet):
    """The largest request there may be, as fast as it goes, over and over."""

    answers, answers_alone = False, True

    def connected(self):
        head, missing = requests.giant_produce(self.world.frame_bytes_max)
        self.send(head + bytes(missing))

    def answered(self):
        self.later(ASK_AGAIN_SECONDS, self.connected)


@kind("never-reads", 400)
class NeverReads(Quiet):
    """Asks for all there is, and reads nothing."""

    reads = False
    receive_buffer_bytes = SMALL_BUFFER_BYTES
    closed_within = staticmethod(twice_idle)

    def connected(self):
        world = self.world
        raw = world.once("big", lambda: requests.fetch_all(world.big_all()))
        self.send(raw * 8)


@kind("never-reads-small", 100)
class NeverReadsSmall(NeverReads):
    """Asks for a little of every partition, which is copied, and reads nothing."""

    def connected(self):
        world = self.world
        self.send(world.once("wide", lambda: requests.fetch_all(world.wide_all())) * 4)


@kind("pipeline", 300)
class Pipeline(Quiet):
    """Sends requests for large answers for as long as the broker takes them, and reads nothing."""

    reads = False
    receive_buffer_bytes = SMALL_BUFFER_BYTES
    closed_within = staticmethod(twice_idle)

    def connected(self):
        self.left = PIPELINED_BYTES_MAX
        self.more()

    def more(self):
        if not self.out and self.left > 0:
            raw = requests.metadata_of_all() * 200
            self.left -= len(raw)
            self.send(raw)
        if self.socket is not None:
            self.later(0.5, self.more)


@kind("half-closed", 100)
class HalfClosed(Quiet):
    """Ends its direction behind a request, and waits for the answer."""

    answers = True
    closed_within = staticmethod(at_once)

    def connected(self):
        self.send(requests.api_versions())
        self.half_close()


@kind("half-cut", 100)
class HalfCut(Quiet):
    """Ends its direction within a request."""

    closed_within = staticmethod(at_once)

    def connected(self):
        raw = requests.metadata_of_all()
        self.send(raw[: self.world.source.randrange(1, len(raw))])
        self.half_close()


class Passing(Peer):
    """One of a storm: connects, perhaps asks something, and is gone."""

    def __init__(self, storm):
        super().__init__(storm.loop, storm.name, storm.world)
        self.storm = storm

    def connected(self):
        if self.world.source.random() < 0.3:
            self.send(requests.api_versions())
        if self.socket is not None:
            self.storm.outstanding -= 1
            self.drop(reset=self.storm.resets)

    def again(self):
        self.storm.outstanding -= 1


@kind("storm", 0)
class Storm:
    """So many connections a second (its count), each dropped at once."""

    name = "storm"
    passing = Passing
    resets = False
    answers = answers_alone = False
    closed_within = None

    def __init__(self, loop, world, rate):
        self.loop, self.world, self.rate = loop, world, rate
        self.outstanding, self.due = 0, 0.0

    def tick(self):
        """Connects as many as are due; what could not be connected in time is given up."""
        self.due = min(self.due + self.rate * STORM_TICK_SECONDS, self.rate)
        while self.due >= 1 and self.outstanding < STORM_OUTSTANDING_MAX:
            self.due -= 1
            self.outstanding += 1
            self.passing(self).connect()
        self.loop.after(STORM_TICK_SECONDS, self.tick)


@kind("storm-reset", 0)
class StormReset(Storm):
    """The same, and each is reset."""

    name = "storm-reset"
    resets = True


@kind("unknown", 30)
class Unknown(Quiet):
    """API keys and versions that nobody serves."""

    closed_within = staticmethod(at_once)

    def connected(self):
        source = self.world.source
        key = source.choice([-1, 4, 5, 77, 999, 32767])
        if source.random() < 0.5:
            key, version = source.randrange(0, 70), source.choice([-1, 100, 32767])
            # ApiVersions is answered in any version (KIP-511).
            key += key == 18
        else:
            version = source.randrange(0, 20)
        self.send(requests.request(key, version, source.randbytes(64)))


class Greedy(Quiet):
    """Base of kinds that ask for large answers, read them, and ask again."""

    answers = True

    def connected(self):
        self.send(self.world.once(type(self).__name__, self.make))

    def answered(self):
        self.later(ASK_AGAIN_SECONDS, self.connected)

    def make(self):
        """The request."""
        raise NotImplementedError


@kind("greedy-metadata", 10)
class GreedyMetadata(Greedy):
    """All metadata."""

    def make(self):
        return requests.metadata_of_all()


@kind("greedy-names", 4)
class GreedyNames(Greedy):
    """Metadata of 50,000 names that nobody has."""

    answers, answers_alone = False, True

    def make(self):
        return requests.metadata_of_names(50_000)


@kind("greedy-fetch", 4)
class GreedyFetch(Greedy):
    """All records."""

    answers, answers_alone = False, True

    def make(self):
        return requests.fetch_all(self.world.big_all() + self.world.wide_all())


@kind("greedy-configs", 4)
class GreedyConfigs(Greedy):
    """All settings with their documentation."""

    def make(self):
        return requests.describe_configs(self.world.wide)


@kind("greedy-commits", 4)
class GreedyCommits(Greedy):
    """All offsets of a group that has committed very much."""

    def make(self):
        return requests.offset_fetch_all(self.world.committed)


@kind("greedy-groups", 4)
class GreedyGroups(Greedy):
    """10,000 groups described."""

    answers, answers_alone = False, True

    def make(self):
        return requests.describe_groups(10_000)


@kind("greedy-offsets", 4)
class GreedyOffsets(Greedy):
    """100,000 partitions' offsets."""

    answers, answers_alone = False, True

    def make(self):
        return requests.list_offsets(self.world.big, self.world.big_partitions, 100_000)


@kind("greedy-rows", 2)
class GreedyRows(Greedy):
    """As many rows as the largest request holds; it may be closed for that."""

    answers = False

    def make(self):
        count = (self.world.frame_bytes_max - 4096) // 16
        return requests.list_offsets(self.world.big, count + 1, count)


@kind("greedy-times", 2)
class GreedyTimes(Greedy):
    """1,000 look-ups by time in a batch that unpacks to very much."""

    def make(self):
        return requests.list_offsets(self.world.bombed, 1, 1_000, 1_700_000_000_000)


@kind("bombs", 4)
class Bombs(Quiet):
    """Batches that unpack to very much, for topics that have to unpack them."""

    answers = True

    @staticmethod
    def prepare(world):
        """Makes them before anybody connects: packing takes a while."""
        for codec in sorted(bombs.NAMES):
            for size in world.bomb_bytes:
                Bombs.request(world, codec, size)

    @staticmethod
    def request(world, codec, size):
        """A Produce request to a topic of another codec."""
        # Snappy packs to a 21st at best.
        size = min(size, SNAPPY_BOMB_BYTES_MAX) if codec == "snappy" else size

        def make():
            batch = bombs.bomb(bombs.NAMES[codec], size)
            target = "lz4" if codec != "lz4" else "zstd"
            return requests.produce(f"recompress-{target}", 0, batch)

        return world.once(f"bomb {codec} {size}", make)

    def connected(self):
        codec = self.world.source.choice(sorted(bombs.NAMES))
        size = self.world.source.choice(self.world.bomb_bytes)
        self.send(self.request(self.world, codec, size))

    def answered(self):
        self.later(ASK_AGAIN_SECONDS, self.connected)


@kind("long-polls", 1500)
class LongPolls(Quiet):
    """Fetches that wait for what does not come."""

    answers = True

    def connected(self):
        partition = next(self.world.numbers) % 4
        self.send(requests.long_poll(self.world.quiet, partition, 0, 5_000))

    def answered(self):
        self.connected()


@kind("fat-polls", 100)
class FatPolls(Quiet):
    """Fetches of very many partitions that shall wait for 24 days."""

    def connected(self):
        world = self.world

        def make():
            return requests.fetch_all(world.wide_all(), 2**31 - 1, 2**31 - 1)

        self.send(world.once("fat", make))

    def answered(self):
        self.later(ASK_AGAIN_SECONDS, self.connected)


class Abandoning(Passing):
    """Asks to wait for 24 days, and is gone."""

    def connected(self):
        raw = requests.long_poll(self.world.quiet, 0, 0, 2**31 - 1)
        self.send(raw)
        if self.socket is not None:
            self.storm.outstanding -= 1
            self.drop(reset=self.world.source.random() < 0.5)


@kind("abandoned-polls", 0)
class AbandonedPolls(Storm):
    """A storm of fetches that shall wait for 24 days, each of a peer that is gone."""

    name = "abandoned-polls"
    passing = Abandoning


@kind("joins", 300)
class Joins(Quiet):
    """Members of many groups, with 256 KiB of metadata each, that never synchronize."""

    def connected(self):
        number = next(self.world.numbers)
        metadata = self.world.once("join", lambda: bytes(JOIN_BYTES))
        self.send(requests.join_group(f"heavy-{number % 200}", metadata))


def shares(connections, only=None):
    """{kind: how many} of an attack of so many connections; storms in connections a second."""
    if only:
        return {name: connections for name in only}
    total = sum(found.weight for found in KINDS.values())
    found = {
        name: max(1, round(connections * row.weight / total))
        for name, row in KINDS.items()
        if row.weight
    }
    rate = max(100, connections // 5)
    return {**found, "storm": rate, "storm-reset": rate // 2, "abandoned-polls": rate // 4}
