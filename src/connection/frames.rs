//! Frames: a four-byte length, then that many bytes.
//!
//! A frame is a slice of the buffer it was read into: its records are never copied. An idle
//! connection holds a small buffer; a large one is allocated only once a large frame was announced.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};

use crate::mesh::Shard;
use crate::mesh::memory::{AHEAD_BYTES_MIN, Held, LEAST_BYTES, RequestMemory};
use crate::protocol::ApiKey;
use crate::runtime::StreamReader;
use crate::runtime::local::first;

/// What an idle connection has allocated for its next frame.
const IDLE_BUFFER_BYTES: usize = 1 << 10;

/// Frames of more than this are read by themselves; behind smaller ones the next may come along.
const READ_AHEAD_BYTES: usize = 64 << 10;

const _: () = assert!(IDLE_BUFFER_BYTES <= AHEAD_BYTES_MIN);

/// What is read of the next frame along with one: its length and what it is of. A read that leaves
/// room has emptied the socket, and need not be followed by one that finds nothing.
const NEXT_BYTES: usize = 6;

/// What is allocated for an announced frame before any of it has arrived.
const ALLOCATED_AT_ONCE_BYTES: usize = 1 << 20;

/// What a request other than Produce takes of memory: its parts become values, and their answers.
const DECODED_TIMES: usize = 8;

/// But not more than this for the values.
const DECODED_BYTES_MAX: usize = 8 << 20;

/// Cuts a stream into frames.
pub struct Frames {
    reader: StreamReader,
    buffer: BytesMut,
    frame_bytes_max: usize,
    /// Size of the last frame: the next one is likely as large.
    frame_bytes_last: usize,
    /// How much of the frame that is being received has come, for who waits for its memory.
    received: Rc<Cell<u64>>,
}

/// Why no frame could be cut. The connection is closed.
#[derive(Debug)]
pub enum FrameError {
    /// The announced length is negative or above `socket.request.max.bytes`.
    Length {
        /// The announced length.
        announced: i32,
    },
    /// The peer ended within a frame.
    Truncated,
    /// It came too slowly, while others waited for its memory.
    Slow,
    /// The socket failed.
    Io(std::io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { announced } => write!(f, "a frame of {announced} bytes is not taken"),
            Self::Truncated => f.write_str("the peer ended within a frame"),
            Self::Slow => f.write_str("others waited for the memory of a frame that did not come"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Frames {
    /// The frames of `reader`, none larger than `frame_bytes_max`.
    pub fn new(reader: StreamReader, frame_bytes_max: usize) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            frame_bytes_max,
            frame_bytes_last: 0,
            received: Rc::default(),
        }
    }

    /// The next frame without its length, and its share of the core's memory; `None` when the peer
    /// ended between frames. `is_alone` tells whether no request of the connection is under way.
    pub async fn next(
        &mut self,
        shard: &Shard,
        is_alone: impl Fn() -> bool,
    ) -> Result<Option<(Bytes, RequestMemory)>, FrameError> {
        let length = loop {
            if let Some(length) = self.announced()? {
                break length;
            }
            if self.fill_ahead(shard).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
        };
        // An announcement alone takes nothing; what it is of tells how much it takes.
        while self.buffer.len() < 4 + length.min(2) {
            if self.fill(IDLE_BUFFER_BYTES).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        let size_bytes = self.memory_bytes(length) as u64;
        // Taken before the frame is allocated: a full budget leaves the bytes in the socket.
        let is_least = || length <= LEAST_BYTES && is_alone();
        let share = shard.memory.take(size_bytes, is_least).await;
        if self.buffer.len() < 4 + length {
            self.receive_in_time(length, shard, &share).await?;
        }
        self.buffer.advance(4);
        self.frame_bytes_last = length + 4;
        let frame = self.buffer.split_to(length).freeze();
        Ok(Some((frame, share)))
    }

    /// Reads the rest of a frame of `length` bytes, unless others wait for its `share` and the peer
    /// is too slow.
    async fn receive_in_time(
        &mut self,
        length: usize,
        shard: &Shard,
        share: &RequestMemory,
    ) -> Result<(), FrameError> {
        let received = self.received.clone();
        let mut receiving = pin!(self.receive(length));
        // Most of it is there already, or will be: nobody needs to know of those who send.
        let at_once = poll_fn(|cx| Poll::Ready(receiving.as_mut().poll(cx))).await;
        if let Poll::Ready(done) = at_once {
            return done;
        }
        let amount = share.amount();
        let holding = shard.memory.hold(Held::Request, move || amount, received);
        let too_slow = async {
            holding.has_to_go().await;
            Err(FrameError::Slow)
        };
        first(receiving, too_slow).await
    }

    /// Reads the rest of a frame of `length` bytes.
    async fn receive(&mut self, length: usize) -> Result<(), FrameError> {
        while self.buffer.len() < 4 + length {
            // A large frame is allocated as it arrives, not as it is announced.
            let ahead = self.buffer.len().max(ALLOCATED_AT_ONCE_BYTES);
            let missing = 4 + length - self.buffer.len();
            if self.fill(missing.min(ahead) + NEXT_BYTES).await? == 0 {
                return Err(FrameError::Truncated);
            }
            self.received.set(self.buffer.len() as u64);
        }
        Ok(())
    }

    /// What a frame of `length` bytes, the first of which are here, takes until it is answered.
    fn memory_bytes(&self, length: usize) -> usize {
        match self.buffer.get(4..).and_then(ApiKey::of_frame) {
            // Records stay slices of the frame.
            Some(ApiKey::Produce) => length,
            Some(_) | None => {
                length + length.saturating_mul(DECODED_TIMES - 1).min(DECODED_BYTES_MAX)
            }
        }
    }

    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(raw) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*raw);
        match usize::try_from(announced) {
            Ok(length) if length <= self.frame_bytes_max => Ok(Some(length)),
            Ok(_) | Err(_) => Err(FrameError::Length { announced }),
        }
    }

    /// Reads the beginning of a frame, and of those behind it that are small.
    async fn fill_ahead(&mut self, shard: &Shard) -> Result<usize, FrameError> {
        let ahead_max = shard.memory.ahead_bytes(shard.counters.connections_open.get());
        let wanted = match self.frame_bytes_last {
            // What is read before a large frame's room is made is copied into it.
            READ_AHEAD_BYTES.. => IDLE_BUFFER_BYTES,
            last => (last + NEXT_BYTES).clamp(IDLE_BUFFER_BYTES, ahead_max),
        };
        if self.frame_bytes_last > wanted {
            if let Some(filled) = self.fill_at_once(wanted).await {
                return filled;
            }
            // While nothing comes, the room of the last frame is not kept.
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
        }
        self.fill(wanted).await
    }

    /// As [`fill`](Self::fill); `None` when nothing is there yet.
    async fn fill_at_once(&mut self, wanted: usize) -> Option<Result<usize, FrameError>> {
        let mut filling = pin!(self.fill(wanted));
        poll_fn(|cx| match filling.as_mut().poll(cx) {
            Poll::Ready(filled) => Poll::Ready(Some(filled)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Whether nothing was read beyond the last frame.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What the frames are cut from; what was read beyond the last one is lost.
    pub fn into_reader(self) -> StreamReader {
        self.reader
    }

    /// Reads some bytes behind what is buffered, making room for `wanted`. Nothing is lost when
    /// this is dropped half way.
    async fn fill(&mut self, wanted: usize) -> Result<usize, FrameError> {
        self.buffer.reserve(wanted);
        self.reader.read_to_spare(&mut self.buffer, wanted).await.map_err(FrameError::Io)
    }
}
