//! One simulated connection: two pipes of bytes under way, and the sockets at their ends.
//!
//! Bytes arrive in order, each piece at its own drawn time, and are read in drawn portions. A pipe
//! holds a bounded number of bytes that were not read: a slow reader makes the sender wait. What
//! was sent before an end or a reset arrives before it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use crate::runtime::{Chunk, FileLease, FileSlice};

use super::disk::hash;
use super::executor::{Clock, TimerKey};
use super::net::Network;
use super::world::ProcessId;

/// Most bytes of a file that are read in one go for sending.
const FILE_PIECE_BYTES: usize = 64 << 10;

/// How the peers of a process that ends learn of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Farewell {
    /// The system closes its sockets: an end, or a reset when bytes were not read.
    Orderly,
    /// A reset, at once.
    Reset,
    /// Nothing for a while, then a reset: the machine was gone, and is back.
    Silence,
}

/// What follows the last bytes of a pipe, and when it arrives.
#[derive(Clone, Copy)]
struct End {
    arrival_nanos: u64,
    is_reset: bool,
}

/// One direction of a connection.
pub(super) struct Pipe {
    number: u64,
    capacity_bytes: usize,
    latency_nanos: RangeInclusive<u64>,
    state: RefCell<PipeState>,
}

#[derive(Default)]
struct PipeState {
    /// What was sent and not read, with the time it arrives.
    pieces: VecDeque<(u64, Bytes)>,
    queued_bytes: usize,
    last_arrival_nanos: u64,
    end: Option<End>,
    /// From then on the sender knows that nobody reads any more.
    refused_from_nanos: Option<u64>,
    reader: Option<Waker>,
    reader_timer: Option<TimerKey>,
    writer: Option<Waker>,
    writer_timer: Option<TimerKey>,
}

impl Pipe {
    pub(super) fn new(
        number: u64,
        capacity_bytes: usize,
        latency_nanos: RangeInclusive<u64>,
    ) -> Rc<Self> {
        Rc::new(Self { number, capacity_bytes, latency_nanos, state: RefCell::default() })
    }

    /// Sends a piece; there is room for it.
    fn push(&self, clock: &Clock, bytes: Bytes, pace: Pace) {
        let mut state = self.state.borrow_mut();
        let latency = match pace {
            Pace::First => clock.between(self.latency_nanos.clone()),
            Pace::Following if clock.one_in(4) => clock.between(self.latency_nanos.clone()),
            Pace::Following => *self.latency_nanos.start(),
        };
        let arrival = state.last_arrival_nanos.max(clock.nanos() + latency);
        clock.record(&[self.number, hash(&bytes), arrival]);
        state.last_arrival_nanos = arrival;
        state.queued_bytes += bytes.len();
        state.pieces.push_back((arrival, bytes));
        if state.pieces.len() == 1 {
            state.wake_reader_at(clock, arrival);
        }
    }

    /// Lets the reader see the end after what was sent, `delay_nanos` from now at the earliest.
    fn finish(&self, clock: &Clock, delay_nanos: u64, is_reset: bool) {
        let mut state = self.state.borrow_mut();
        if state.end.is_some_and(|end| end.is_reset || !is_reset) {
            return;
        }
        let arrival_nanos = state.last_arrival_nanos.max(clock.nanos() + delay_nanos);
        clock.record(&[self.number, u64::from(is_reset), arrival_nanos]);
        state.last_arrival_nanos = arrival_nanos;
        state.end = Some(End { arrival_nanos, is_reset });
        if state.pieces.is_empty() {
            state.wake_reader_at(clock, arrival_nanos);
        }
    }

    /// Lets the sender see, `delay_nanos` from now, that nobody reads any more.
    fn refuse(&self, clock: &Clock, delay_nanos: u64) {
        let mut state = self.state.borrow_mut();
        let at = clock.nanos() + delay_nanos;
        let at = state.refused_from_nanos.map_or(at, |earlier| earlier.min(at));
        state.refused_from_nanos = Some(at);
        if let Some(waker) = state.writer.clone() {
            state.replace_writer_timer(clock, Some((at, waker)));
        }
    }

    fn latency(&self, clock: &Clock) -> u64 {
        clock.between(self.latency_nanos.clone())
    }
}

/// How a piece follows the one before.
#[derive(Clone, Copy)]
enum Pace {
    /// It is the first of a send.
    First,
    /// It belongs to the same send.
    Following,
}

impl PipeState {
    /// Sees to it that a waiting reader looks again at `nanos`.
    fn wake_reader_at(&mut self, clock: &Clock, nanos: u64) {
        if let Some(waker) = self.reader.clone() {
            let timer = clock.wake_at(nanos, waker);
            if let Some(earlier) = self.reader_timer.replace(timer) {
                clock.cancel(earlier);
            }
        }
    }

    fn replace_writer_timer(&mut self, clock: &Clock, next: Option<(u64, Waker)>) {
        let next = next.map(|(nanos, waker)| clock.wake_at(nanos, waker));
        if let Some(earlier) = std::mem::replace(&mut self.writer_timer, next) {
            clock.cancel(earlier);
        }
    }

    fn poll_read(
        &mut self,
        clock: &Clock,
        buffer: &mut [u8],
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let now = clock.nanos();
        let next = match (self.pieces.front(), self.end) {
            (Some((arrival, bytes)), _) if *arrival <= now => {
                let most = buffer.len().min(bytes.len());
                // A read may return less than there is.
                let limit = match clock.one_in(8) {
                    true => clock.between(1..=most as u64) as usize,
                    false => buffer.len(),
                };
                self.reader = None;
                return Poll::Ready(Ok(self.take(now, &mut buffer[..limit])));
            }
            (Some((arrival, _)), _) => Some(*arrival),
            (None, Some(End { arrival_nanos, is_reset })) if arrival_nanos <= now => {
                return Poll::Ready(match is_reset {
                    true => Err(io::ErrorKind::ConnectionReset.into()),
                    false => Ok(0),
                });
            }
            (None, end) => end.map(|end| end.arrival_nanos),
        };
        self.reader = Some(cx.waker().clone());
        if let Some(nanos) = next {
            self.wake_reader_at(clock, nanos);
        }
        Poll::Pending
    }

    /// Moves bytes that have arrived into `buffer`, and says how many.
    fn take(&mut self, now: u64, buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        while let Some((arrival, bytes)) = self.pieces.front_mut() {
            let count = bytes.len().min(buffer.len() - taken);
            if *arrival > now || count == 0 {
                break;
            }
            buffer[taken..taken + count].copy_from_slice(&bytes[..count]);
            taken += count;
            if count == bytes.len() {
                self.pieces.pop_front();
            } else {
                *bytes = bytes.slice(count..);
            }
        }
        self.queued_bytes -= taken;
        taken
    }
}

/// One end of a connection, as long as its process has not closed it.
pub(super) struct Socket {
    pub(super) number: u64,
    pub(super) process: ProcessId,
    network: Network,
    inbound: Rc<Pipe>,
    outbound: Rc<Pipe>,
    /// The address and port it was accepted at.
    accepted_at: Option<(IpAddr, u16)>,
    halves: Cell<u8>,
    /// Ended by this end itself, in both directions.
    is_shut: Cell<bool>,
}

impl Socket {
    pub(super) fn new(
        network: Network,
        process: ProcessId,
        inbound: Rc<Pipe>,
        outbound: Rc<Pipe>,
        accepted_at: Option<(IpAddr, u16)>,
    ) -> Rc<Self> {
        let number = network.clock().number();
        let (halves, is_shut) = (Cell::new(2), Cell::new(false));
        Rc::new(Self { number, process, network, inbound, outbound, accepted_at, halves, is_shut })
    }

    /// Its two halves.
    pub(super) fn split(self: Rc<Self>) -> (StreamReader, StreamWriter) {
        (StreamReader { socket: self.clone() }, StreamWriter { socket: self })
    }

    /// Ends both directions, and lets the peer know as `farewell` says.
    pub(super) fn end(&self, farewell: Farewell) {
        if self.is_shut.replace(true) {
            return;
        }
        let clock = self.network.clock();
        let unread = !self.inbound.state.borrow().pieces.is_empty();
        let is_reset = unread || farewell != Farewell::Orderly;
        let silence = match farewell {
            Farewell::Orderly | Farewell::Reset => 0,
            Farewell::Silence => clock.between(200_000_000..=2_000_000_000),
        };
        self.outbound.finish(clock, silence + self.outbound.latency(clock), is_reset);
        self.inbound.refuse(clock, silence + self.inbound.latency(clock));
        let reader = self.inbound.state.borrow_mut().reader.take();
        let writer = self.outbound.state.borrow_mut().writer.take();
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }

    fn drop_half(&self) {
        self.halves.set(self.halves.get() - 1);
        if self.halves.get() == 0 {
            self.end(Farewell::Orderly);
            self.network.forget(self);
        }
    }

    fn poll_read(&self, buffer: &mut [u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_shut.get() || buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let clock = self.network.clock();
        let mut state = self.inbound.state.borrow_mut();
        let poll = state.poll_read(clock, buffer, cx);
        if let Poll::Ready(Ok(count @ 1..)) = poll {
            clock.record(&[self.inbound.number, count as u64]);
            let writer = state.writer.take();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
        }
        poll
    }

    /// Sends the begin of `bytes`, as many as there is room for, and a drawn part of them at times;
    /// how many.
    pub(super) fn send_now(&self, bytes: &Bytes) -> usize {
        let cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(room)) = self.poll_room(&cx) else { return 0 };
        let clock = self.network.clock();
        let most = room.min(bytes.len());
        let count = match clock.one_in(8) {
            true => clock.between(0..=most as u64) as usize,
            false => most,
        };
        if count > 0 {
            self.outbound.push(clock, bytes.slice(..count), Pace::First);
        }
        count
    }

    /// How many bytes may be sent now; at least one.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let clock = self.network.clock();
        let mut state = self.outbound.state.borrow_mut();
        if self.is_shut.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let refused_from = state.refused_from_nanos;
        if refused_from.is_some_and(|nanos| nanos <= clock.nanos()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.queued_bytes < self.outbound.capacity_bytes {
            state.replace_writer_timer(clock, None);
            return Poll::Ready(Ok(self.outbound.capacity_bytes - state.queued_bytes));
        }
        state.writer = Some(cx.waker().clone());
        let next = refused_from.map(|nanos| (nanos, cx.waker().clone()));
        state.replace_writer_timer(clock, next);
        Poll::Pending
    }
}

/// The reading half of a connection.
pub struct StreamReader {
    socket: Rc<Socket>,
}

impl StreamReader {
    /// See [`StreamReader`](crate::runtime::StreamReader::read).
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.socket.poll_read(buffer, cx)).await
    }

    /// See [`StreamReader`](crate::runtime::StreamReader::read_to_spare).
    pub async fn read_to_spare(
        &mut self,
        buffer: &mut BytesMut,
        length: usize,
    ) -> io::Result<usize> {
        poll_fn(|cx| {
            let filled = buffer.len();
            let room = length.min(buffer.capacity() - filled);
            buffer.resize(filled + room, 0);
            let poll = self.socket.poll_read(&mut buffer[filled..], cx);
            let received = if let Poll::Ready(Ok(count)) = poll { count } else { 0 };
            buffer.truncate(filled + received);
            poll
        })
        .await
    }

    /// The address and port the connection was accepted at; `None` at the end that asked for it.
    pub(super) fn accepted_at(&self) -> Option<(IpAddr, u16)> {
        self.socket.accepted_at
    }

    /// Ends both directions with a reset.
    pub(super) fn reset(&self) {
        self.socket.end(Farewell::Reset);
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.socket.drop_half();
    }
}

/// A connection's socket, on its way to another core.
#[derive(Clone)]
pub struct LentSocket {
    pub(super) process: ProcessId,
    pub(super) number: u64,
}

/// The writing half of a connection.
pub struct StreamWriter {
    socket: Rc<Socket>,
}

impl StreamWriter {
    /// See [`StreamWriter`](crate::runtime::StreamWriter::send).
    pub async fn send(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        let mut pace = Pace::First;
        for chunk in chunks {
            match chunk {
                Chunk::Bytes(bytes) => self.send_bytes(bytes.clone(), &mut pace).await?,
                Chunk::File(slice) => self.send_file(slice, &mut pace).await?,
            }
        }
        Ok(())
    }

    /// See [`StreamWriter`](crate::runtime::StreamWriter::lent).
    pub fn lent(&self) -> LentSocket {
        LentSocket { process: self.socket.process, number: self.socket.number }
    }

    /// See [`StreamWriter`](crate::runtime::StreamWriter::shutdown).
    pub fn shutdown(&self) {
        self.socket.end(Farewell::Orderly);
    }

    async fn send_bytes(&mut self, mut bytes: Bytes, pace: &mut Pace) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = poll_fn(|cx| self.socket.poll_room(cx)).await?;
            let piece = bytes.split_to(room.min(bytes.len()));
            self.socket.outbound.push(self.socket.network.clock(), piece, *pace);
            *pace = Pace::Following;
        }
        Ok(())
    }

    async fn send_file(&mut self, slice: &FileSlice, pace: &mut Pace) -> io::Result<()> {
        let FileLease::Sim(file) = &slice.file else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut sent = 0;
        while sent < slice.length as usize {
            let clock = self.socket.network.clock();
            if clock.one_in(8) {
                // A cold page.
                clock.delay(10_000..=100_000).await;
            }
            let room = poll_fn(|cx| self.socket.poll_room(cx)).await?;
            let count = room.min(FILE_PIECE_BYTES).min(slice.length as usize - sent);
            let bytes = file.read(slice.position + sent as u64, count);
            if bytes.len() < count {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.socket.outbound.push(self.socket.network.clock(), bytes.into(), *pace);
            *pace = Pace::Following;
            sent += count;
        }
        Ok(())
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        let Socket { network, outbound, is_shut, .. } = &*self.socket;
        if !is_shut.get() && self.socket.halves.get() == 2 {
            let clock = network.clock();
            outbound.finish(clock, outbound.latency(clock), false);
        }
        self.socket.drop_half();
    }
}
