//! The offset index and the time index of a segment.
//!
//! Entries of the active segment gather in memory and reach the file a page at a time; the file is
//! opened only then, and when an old entry is looked up. Byte order is big-endian.
//!
//! | offset index | 0..4 | offset minus the segment's base             |
//! |              | 4..8 | where its batch begins in the segment, bytes |
//! | time index   | 0..8 | the largest timestamp so far, milliseconds   |
//! |              | 8..12| the offset that came with it minus the base  |
//!
//! Source: Kafka's `OffsetIndex`, `TimeIndex`, `AbstractIndex`.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::runtime::{Disk, OpenMode};

/// Bytes of entries that gather in memory before they are written.
const GATHERED_BYTES: usize = 4 << 10;

/// An entry of an index: a key that grows, and what it leads to.
pub(super) trait Entry: Copy {
    /// Bytes of an entry in the file.
    const BYTES: usize;
    /// Appends the entry's bytes.
    fn write(self, to: &mut Vec<u8>);
    /// Reads an entry from its bytes.
    fn read(from: &[u8]) -> Option<Self>;
    /// The key that entries are sorted by.
    fn key(self) -> i64;
}

/// An entry of the offset index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OffsetEntry {
    /// The last offset of the batch minus the segment's base.
    pub(super) relative: u32,
    /// Where the batch begins.
    pub(super) position: u32,
}

/// An entry of the time index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TimeEntry {
    /// The largest timestamp up to here.
    pub(super) timestamp: i64,
    /// The last offset of the batch it came with, minus the segment's base.
    pub(super) relative: u32,
}

impl Entry for OffsetEntry {
    const BYTES: usize = 8;

    fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.relative.to_be_bytes());
        to.extend_from_slice(&self.position.to_be_bytes());
    }

    fn read(from: &[u8]) -> Option<Self> {
        let (relative, rest) = from.split_first_chunk()?;
        let position = rest.first_chunk()?;
        Some(Self {
            relative: u32::from_be_bytes(*relative),
            position: u32::from_be_bytes(*position),
        })
    }

    fn key(self) -> i64 {
        i64::from(self.relative)
    }
}

impl Entry for TimeEntry {
    const BYTES: usize = 12;

    fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.timestamp.to_be_bytes());
        to.extend_from_slice(&self.relative.to_be_bytes());
    }

    fn read(from: &[u8]) -> Option<Self> {
        let (timestamp, rest) = from.split_first_chunk()?;
        let relative = rest.first_chunk()?;
        Some(Self {
            timestamp: i64::from_be_bytes(*timestamp),
            relative: u32::from_be_bytes(*relative),
        })
    }

    fn key(self) -> i64 {
        self.timestamp
    }
}

/// One index file and its entries that are not in it yet.
pub(super) struct Index<E: Entry> {
    path: PathBuf,
    /// Entries in the file.
    written_count: Cell<usize>,
    gathered: RefCell<Vec<E>>,
    last: Cell<Option<E>>,
}

impl<E: Entry> Index<E> {
    /// An index without entries; its file is made anew.
    pub(super) async fn create(disk: &Disk, path: PathBuf) -> io::Result<Self> {
        let file = disk.open(&path, OpenMode::Create).await?;
        file.truncate(0).await?;
        Ok(Self::with(path, 0, None))
    }

    /// The index of a file of `size_bytes`. `None` when the file can not be one: its size is no
    /// multiple of an entry's.
    pub(super) async fn open(
        disk: &Disk,
        path: PathBuf,
        size_bytes: u64,
    ) -> io::Result<Option<Self>> {
        let size = size_bytes as usize;
        if size % E::BYTES != 0 {
            return Ok(None);
        }
        let count = size / E::BYTES;
        let mut last = None;
        if count > 0 {
            let file = disk.open(&path, OpenMode::Read).await?;
            let bytes = file.read_at(((count - 1) * E::BYTES) as u64, E::BYTES).await?;
            last = E::read(&bytes);
        }
        Ok(Some(Self::with(path, count, last)))
    }

    fn with(path: PathBuf, written_count: usize, last: Option<E>) -> Self {
        Self {
            path,
            written_count: Cell::new(written_count),
            gathered: RefCell::default(),
            last: Cell::new(last),
        }
    }

    /// How many entries there are.
    pub(super) fn count(&self) -> usize {
        self.written_count.get() + self.gathered.borrow().len()
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<E> {
        self.last.get()
    }

    /// Whether another entry would exceed `bytes_max`.
    pub(super) fn is_full(&self, bytes_max: u32) -> bool {
        self.count() >= bytes_max as usize / E::BYTES
    }

    /// The index's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an entry; its key is larger than all before.
    pub(super) fn append(&self, entry: E) {
        self.gathered.borrow_mut().push(entry);
        self.last.set(Some(entry));
    }

    /// Whether enough entries gathered for a write.
    pub(super) fn wants_write(&self) -> bool {
        self.gathered.borrow().len() * E::BYTES >= GATHERED_BYTES
    }

    /// Writes what gathered.
    pub(super) async fn write(&self, disk: &Disk) -> io::Result<()> {
        let count = self.gathered.borrow().len();
        if count == 0 {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(count * E::BYTES);
        for entry in self.gathered.borrow().iter() {
            entry.write(&mut bytes);
        }
        let position = (self.written_count.get() * E::BYTES) as u64;
        let file = disk.open(&self.path, OpenMode::Write).await?;
        file.write_at(position, &[Bytes::from(bytes)]).await?;
        self.gathered.borrow_mut().drain(..count);
        self.written_count.set(self.written_count.get() + count);
        Ok(())
    }

    /// Writes what gathered, and makes the file durable.
    pub(super) async fn sync(&self, disk: &Disk) -> io::Result<()> {
        self.write(disk).await?;
        disk.open(&self.path, OpenMode::Write).await?.sync().await
    }

    /// The last entry whose key is `key` or smaller.
    pub(super) async fn floor(&self, disk: &Disk, key: i64) -> io::Result<Option<E>> {
        {
            let gathered = self.gathered.borrow();
            let at = gathered.partition_point(|entry| entry.key() <= key);
            if at > 0 {
                return Ok(Some(gathered[at - 1]));
            }
        }
        let mut high = self.written_count.get();
        if high == 0 {
            return Ok(None);
        }
        let file = disk.open(&self.path, OpenMode::Read).await?;
        let mut low = 0;
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let bytes = file.read_at((middle * E::BYTES) as u64, E::BYTES).await?;
            // A file that got shorter under us has no entry there.
            match E::read(&bytes) {
                Some(entry) if entry.key() <= key => {
                    found = Some(entry);
                    low = middle + 1;
                }
                Some(_) | None => high = middle,
            }
        }
        Ok(found)
    }

    /// Drops entries from the first that `keep` refuses on. The file is cut.
    pub(super) async fn cut(&self, disk: &Disk, keep: impl Fn(E) -> bool) -> io::Result<()> {
        self.gathered.borrow_mut().clear();
        let bytes = match self.written_count.get() {
            0 => Vec::new(),
            _ => disk.read(&self.path).await?,
        };
        let entries = bytes.chunks_exact(E::BYTES).filter_map(E::read);
        let mut previous: Option<E> = None;
        let mut count = 0;
        for entry in entries {
            // Entries that do not grow are damage.
            let grows = previous.is_none_or(|before| entry.key() > before.key());
            if !grows || !keep(entry) {
                break;
            }
            previous = Some(entry);
            count += 1;
        }
        let file = disk.open(&self.path, OpenMode::Create).await?;
        file.truncate((count * E::BYTES) as u64).await?;
        self.written_count.set(count);
        self.last.set(previous);
        Ok(())
    }
}
