"""Thousands of connections in one thread: an epoll loop, its timers, and what became of each kind.

A peer says what it does when it is connected, when bytes come and when its time has come; the loop
does the rest. A peer whose connection ends connects again after a pause, so that an attack goes on.
"""

import collections
import contextlib
import heapq
import itertools
import select
import socket
import struct
import time

READ_BYTES = 1 << 18
# Reads and sends of one peer before the others have their turn.
TURNS_MAX = 4
EVENTS_MAX = 512
CONNECT_AGAIN_SECONDS = 0.2
HANG_UP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Book:
    """What became of the peers of one kind."""

    def __init__(self):
        self.counts = collections.Counter()
        self.longest = 0.0

    def add(self, what, count=1):
        self.counts[what] += count

    def lived(self, seconds):
        """A connection lasted that long."""
        self.longest = max(self.longest, seconds)

    def report(self):
        """As a dict for JSON."""
        return {**self.counts, "longest": round(self.longest, 2)}


class Loop:
    """All peers of one process."""

    def __init__(self, address, source):
        self.address, self.source = address, source
        self.poll = select.epoll()
        self.peers = {}
        self.timers = []
        self.numbers = itertools.count()
        self.books = collections.defaultdict(Book)

    def at(self, when, call):
        """Has `call` called at that time of the monotonic clock."""
        heapq.heappush(self.timers, (when, next(self.numbers), call))

    def after(self, seconds, call):
        self.at(time.monotonic() + seconds, call)

    def run(self, until, ended):
        """Serves the peers until that time, or until `ended()`."""
        while not ended():
            now = time.monotonic()
            if now >= until:
                return
            while self.timers and self.timers[0][0] <= now:
                _, _, call = heapq.heappop(self.timers)
                call()
            next_timer = self.timers[0][0] - time.monotonic() if self.timers else 0.2
            for number, events in self.poll.poll(max(0.0, min(next_timer, 0.2)), EVENTS_MAX):
                if peer := self.peers.get(number):
                    peer.told(events)

    def close(self):
        """Ends all connections; their lives count."""
        for peer in list(self.peers.values()):
            peer.book.add("open_at_end")
            peer.drop()
        self.poll.close()


class Peer:
    """One connection after the other; kinds are subclasses."""

    # Whether it reads what comes; one that does not learns of the end by a hang-up alone.
    reads = True
    receive_buffer_bytes = None
    # Seconds until it connects again after its connection ended.
    pause = 1.0

    def __init__(self, loop, kind, world):
        self.loop, self.world = loop, world
        self.book = loop.books[kind]
        self.socket = None
        self.generation = 0

    # ---- for kinds ----

    def connected(self):
        """The connection is there."""

    def answered(self):
        """A whole answer has come."""

    def send(self, raw):
        """Sends, as the socket takes it."""
        self.out += raw
        self.flush()

    def later(self, seconds, call):
        """Has `call` called unless the connection has ended by then."""
        generation = self.generation

        def check():
            if self.generation == generation and self.socket is not None:
                call()

        self.loop.after(seconds, check)

    def half_close(self):
        """Says that no more will come."""
        if self.socket is not None:
            # Whoever was reset already learns of it by an event.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def drop(self, reset=False):
        """Ends the connection from this side."""
        if self.socket is None:
            return
        if self.is_up:
            self.book.lived(time.monotonic() - self.began)
        number = self.socket.fileno()
        self.loop.poll.unregister(number)
        del self.loop.peers[number]
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()
        self.socket = None
        self.generation += 1

    # ---- for the loop ----

    def connect(self):
        """Begins a connection."""
        self.out = bytearray()
        self.length_part, self.answer_left = b"", 0
        self.is_up, self.began = False, time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.receive_buffer_bytes:
            size = self.receive_buffer_bytes
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        number = self.socket.fileno()
        self.loop.peers[number] = self
        self.loop.poll.register(number, select.EPOLLOUT | HANG_UP)
        try:
            self.socket.connect_ex(self.loop.address)
        except OSError:
            self.ended("refused")

    def told(self, events):
        """Of changes of the socket."""
        if not self.is_up:
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self.ended("refused")
            self.is_up, self.began = True, time.monotonic()
            self.book.add("opened")
            self.watch()
            return self.connected()
        if events & select.EPOLLIN and self.reads and not self.read():
            return None
        if events & select.EPOLLOUT:
            self.flush()
        # What came before the end is read first.
        if self.socket is not None and events & HANG_UP and not (self.reads and self.read()):
            self.ended("closed")
        return None

    def watch(self):
        """Asks for the changes that matter now."""
        events = HANG_UP
        if self.reads:
            events |= select.EPOLLIN
        if self.out:
            events |= select.EPOLLOUT
        self.loop.poll.modify(self.socket.fileno(), events)

    def read(self):
        """Reads what is there; whether the connection goes on."""
        for _ in range(TURNS_MAX):
            try:
                raw = self.socket.recv(READ_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                raw = b""
            if not raw:
                self.ended("closed")
                return False
            self.book.add("received_bytes", len(raw))
            self.take(raw)
            if self.socket is None:
                return False
        return True

    def take(self, raw):
        """Counts whole answers; keeps none of their bytes."""
        at, generation = 0, self.generation
        while at < len(raw) and self.generation == generation:
            if self.answer_left:
                step = min(self.answer_left, len(raw) - at)
                self.answer_left -= step
                at += step
            else:
                step = min(4 - len(self.length_part), len(raw) - at)
                self.length_part += raw[at : at + step]
                at += step
                if len(self.length_part) < 4:
                    return
                (self.answer_left,) = struct.unpack(">I", self.length_part)
                self.length_part = b""
            if self.answer_left == 0:
                self.book.add("answered")
                self.answered()

    def flush(self):
        """Sends what the socket takes."""
        for _ in range(TURNS_MAX):
            if not self.out:
                break
            try:
                sent = self.socket.send(memoryview(self.out)[: 1 << 18])
            except BlockingIOError:
                break
            except OSError:
                return self.ended("closed")
            self.book.add("sent_bytes", sent)
            del self.out[:sent]
        return self.watch()

    def ended(self, what):
        """The other side ended the connection, or it never came to be."""
        if self.socket is None:
            return
        self.book.add(what)
        self.drop()
        again = CONNECT_AGAIN_SECONDS if what == "refused" else self.pause
        self.loop.after(again, self.again)

    def again(self):
        """Connects once more, unless that has happened already."""
        if self.socket is None:
            self.connect()
