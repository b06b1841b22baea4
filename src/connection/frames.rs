//! Frames: a four-byte length, then that many bytes.
//!
//! A frame is a slice of the buffer it was read into: its records are never copied. An idle
//! connection holds a small buffer; a large one is allocated only once a large frame was announced.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::mesh::Shard;
use crate::runtime::StreamReader;
use crate::runtime::local::Share;

/// What an idle connection has allocated for its next frame.
const IDLE_BUFFER_BYTES: usize = 1 << 10;

/// Frames of more than this are read by themselves; behind smaller ones the next may come along.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// What is allocated for an announced frame before any of it has arrived.
const ALLOCATED_AT_ONCE_BYTES: usize = 1 << 20;

/// Cuts a stream into frames.
pub struct Frames {
    reader: StreamReader,
    buffer: BytesMut,
    frame_bytes_max: usize,
    /// Size of the last frame: the next one is likely as large.
    frame_bytes_last: usize,
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
    /// The socket failed.
    Io(std::io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { announced } => write!(f, "a frame of {announced} bytes is not taken"),
            Self::Truncated => f.write_str("the peer ended within a frame"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Frames {
    /// The frames of `reader`, none larger than `frame_bytes_max`.
    pub fn new(reader: StreamReader, frame_bytes_max: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), frame_bytes_max, frame_bytes_last: 0 }
    }

    /// The next frame without its length, and its share of the core's memory; `None` when the peer
    /// ended between frames.
    pub async fn next(&mut self, shard: &Shard) -> Result<Option<(Bytes, Share)>, FrameError> {
        let length = loop {
            if let Some(length) = self.announced()? {
                break length;
            }
            let ahead = match self.frame_bytes_last {
                // What is read before a large frame's room is made is copied into it.
                READ_AHEAD_BYTES.. => IDLE_BUFFER_BYTES,
                last => last.max(IDLE_BUFFER_BYTES),
            };
            if self.fill(ahead).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
        };
        // Taken before the frame is allocated: a full budget leaves the bytes in the socket.
        let share = shard.request_memory.take(length as u64).await;
        while self.buffer.len() < 4 + length {
            // A large frame is allocated as it arrives, not as it is announced.
            let ahead = self.buffer.len().max(ALLOCATED_AT_ONCE_BYTES);
            let missing = (4 + length - self.buffer.len()).min(ahead);
            if self.fill(missing).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        self.buffer.advance(4);
        self.frame_bytes_last = length + 4;
        let frame = self.buffer.split_to(length).freeze();
        Ok(Some((frame, share)))
    }

    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(raw) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*raw);
        match usize::try_from(announced) {
            Ok(length) if length <= self.frame_bytes_max => Ok(Some(length)),
            Ok(_) | Err(_) => Err(FrameError::Length { announced }),
        }
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
