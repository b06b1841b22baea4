//! Reading a segment's batches one behind the other.

use std::io;

use bytes::Bytes;

use crate::base::Offset;
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::runtime::File;

/// What is read at once: several small batches, and of large ones little more than the header.
const BLOCK_BYTES: u64 = 8 << 10;

/// A batch's place in its segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) base: Offset,
    pub(super) last: Offset,
    pub(super) position: u64,
    pub(super) size_bytes: u32,
}

impl Place {
    /// The place of the batch with this header; `None` when its offsets are none.
    pub(super) fn of(header: &BatchHeader, position: u64) -> Option<Self> {
        Some(Self {
            base: Offset::from_wire(header.base_offset)?,
            last: Offset::from_wire(header.last_offset())?,
            position,
            size_bytes: u32::try_from(header.size_bytes()).ok()?,
        })
    }
}

/// Reads headers of batches that follow each other. What is written behind `end` later is not seen.
pub(super) struct Walk {
    file: File,
    position: u64,
    end: u64,
    block: Bytes,
    block_position: u64,
}

impl Walk {
    pub(super) fn new(file: File, position: u64, end: u64) -> Self {
        Self { file, position, end, block: Bytes::new(), block_position: position }
    }

    /// Where the next batch begins, or what is none.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes back to a batch that [`next`](Self::next) has just returned.
    pub(super) fn rewind(&mut self, position: u64) {
        self.position = position;
    }

    /// Whether nothing lies behind the last batch: otherwise what does is damaged.
    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.end
    }

    /// The next whole batch's header and position; `None` at the end, or at what is no batch.
    pub(super) async fn next(&mut self) -> io::Result<Option<(BatchHeader, u64)>> {
        let left = self.end.saturating_sub(self.position);
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut skip = (self.position - self.block_position) as usize;
        if skip + HEADER_BYTES > self.block.len() {
            self.block = self.file.read_at(self.position, left.min(BLOCK_BYTES) as usize).await?;
            self.block_position = self.position;
            skip = 0;
        }
        let Ok(header) = BatchHeader::parse(&self.block[skip..]) else { return Ok(None) };
        let size = header.size_bytes() as u64;
        if size > left || Place::of(&header, 0).is_none() {
            return Ok(None);
        }
        let position = self.position;
        self.position += size;
        Ok(Some((header, position)))
    }

    /// The whole of the batch at `position`, which [`next`](Self::next) found there.
    pub(super) async fn batch(&self, header: &BatchHeader, position: u64) -> io::Result<Bytes> {
        let size = header.size_bytes();
        if let Some(skip) = position.checked_sub(self.block_position)
            && let Some(end) = (skip as usize).checked_add(size)
            && end <= self.block.len()
        {
            return Ok(self.block.slice(skip as usize..end));
        }
        self.file.read_at(position, size).await
    }
}
