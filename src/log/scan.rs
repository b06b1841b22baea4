//! Checking a segment's batches: every one whole, and its bytes as its checksum says.

use std::io;

use bytes::Bytes;

use crate::log::walk::Place;
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::runtime::{File, Runtime};

/// What is read at once; larger batches are read piece by piece.
const BLOCK_BYTES: u64 = 1 << 20;

/// Where the checksummed part of a batch begins.
const CHECKED_AT: usize = 21;

/// Goes through batches that follow each other, up to the first that is not intact.
pub(super) struct Scan {
    file: File,
    position: u64,
    end: u64,
    block: Bytes,
    block_position: u64,
    /// Whether what is read is written back as it is.
    writes_again: bool,
}

impl Scan {
    pub(super) fn new(file: File, position: u64, end: u64) -> Self {
        let block = Bytes::new();
        Self { file, position, end, block, block_position: position, writes_again: false }
    }

    /// The same, which also writes what it reads back to where it was, if `writes_again`.
    ///
    /// A page whose sync failed counts as clean on Linux: it is read like any other, no later sync
    /// writes it, and a loss of power takes it. Once written again it is synced again. What is
    /// checked was in memory then, so it is what the next sync makes durable.
    pub(super) fn writing_again(mut self, writes_again: bool) -> Self {
        self.writes_again = writes_again;
        self
    }

    /// Where the last batch ended.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Takes the last batch back: it does not fit in another way.
    pub(super) fn rewind(&mut self, position: u64) {
        self.position = position;
    }

    /// The next batch's header; `None` at the end, or at what is no intact batch.
    pub(super) async fn next(&mut self, runtime: &Runtime) -> io::Result<Option<BatchHeader>> {
        let left = self.end.saturating_sub(self.position);
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        if self.loaded().len() < HEADER_BYTES {
            self.load(self.position, runtime).await?;
        }
        let Ok(header) = BatchHeader::parse(self.loaded()) else { return Ok(None) };
        let size = header.size_bytes() as u64;
        if size > left || Place::of(&header, 0).is_none() {
            return Ok(None);
        }
        if (self.loaded().len() as u64) < size && self.block_position < self.position {
            self.load(self.position, runtime).await?;
        }
        if self.checksum(size, runtime).await? != Some(header.crc) {
            return Ok(None);
        }
        self.position += size;
        Ok(Some(header))
    }

    /// What of the block lies at and behind the position.
    fn loaded(&self) -> &[u8] {
        let skip = usize::try_from(self.position - self.block_position).unwrap_or(usize::MAX);
        self.block.get(skip..).unwrap_or_default()
    }

    async fn load(&mut self, position: u64, runtime: &Runtime) -> io::Result<()> {
        runtime.pass().await;
        let wanted = self.end.saturating_sub(position).min(BLOCK_BYTES) as usize;
        self.block = self.read(position, wanted).await?;
        self.block_position = position;
        Ok(())
    }

    async fn read(&self, position: u64, wanted: usize) -> io::Result<Bytes> {
        let bytes = self.file.read_at(position, wanted).await?;
        if self.writes_again && !bytes.is_empty() {
            self.file.write_at(position, std::slice::from_ref(&bytes)).await?;
        }
        Ok(bytes)
    }

    /// The checksum of the batch at the position; `None` when the file ends within it.
    async fn checksum(&mut self, size: u64, runtime: &Runtime) -> io::Result<Option<u32>> {
        let end = self.position + size;
        let mut bytes = self.loaded();
        bytes = &bytes[..bytes.len().min(size as usize)];
        let mut crc = crc32c::crc32c(bytes.get(CHECKED_AT..).unwrap_or_default());
        let mut reached = self.position + bytes.len() as u64;
        while reached < end {
            runtime.pass().await;
            let wanted = (end - reached).min(BLOCK_BYTES) as usize;
            let piece = self.read(reached, wanted).await?;
            if piece.is_empty() {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, &piece);
            reached += piece.len() as u64;
        }
        Ok(Some(crc))
    }

    /// Whether what follows is reserved room: zeros, as far as one block shows.
    pub(super) async fn rest_is_blank(&self) -> io::Result<bool> {
        let wanted = self.end.saturating_sub(self.position).min(BLOCK_BYTES) as usize;
        let rest = self.file.read_at(self.position, wanted).await?;
        Ok(rest.iter().all(|byte| *byte == 0))
    }
}
