//! The offset index and the time index of a segment.
//!
//! New entries gather in memory and reach the file a block at a time; the youngest ones stay in
//! memory, where nearly all lookups end. The file is opened only for a write or a lookup of an old
//! entry. Byte order is big-endian.
//!
//! | offset index | 0..4 | a batch's last offset minus the segment's base  |
//! |              | 4..8 | where that batch begins in the segment, bytes    |
//! | time index   | 0..8 | the largest timestamp so far, milliseconds       |
//! |              | 8..12| the last offset of its batch, minus the base     |
//!
//! Source: Kafka's `OffsetIndex`, `TimeIndex`, `AbstractIndex`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::Offset;
use crate::log::home::Home;
use crate::log::windows::{self, Known, Windows};
use crate::runtime::{File, OpenMode};

/// Entries that gather before they are written: 2 KiB of an offset index, 1 MiB of the log.
const BLOCK_COUNT: usize = 256;

/// An entry of an index: a key that grows, and what it leads to.
pub(super) trait Entry: Copy {
    /// Bytes of an entry in the file.
    const BYTES: usize;
    /// Entries kept free at the end of a full index: the time index gets one more at the roll.
    const RESERVED_COUNT: usize;
    /// The file's ending.
    const ENDING: &'static str;
    /// Appends the entry's bytes.
    fn write(self, to: &mut Vec<u8>);
    /// Reads an entry from its bytes; `None` when they are cut off.
    fn read(from: &[u8]) -> Option<Self>;
    /// The key that entries are sorted by.
    fn key(self) -> i64;
    /// The offset it holds, minus the segment's base.
    fn relative(self) -> u32;
    /// Whether it is the zeros of room that Kafka reserves behind the entries.
    fn is_blank(self) -> bool;
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
    const RESERVED_COUNT: usize = 0;
    const ENDING: &'static str = "index";

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

    fn relative(self) -> u32 {
        self.relative
    }

    /// A segment's first batch never has an entry, so no real one leads to position 0.
    fn is_blank(self) -> bool {
        self.position == 0
    }
}

impl Entry for TimeEntry {
    const BYTES: usize = 12;
    const RESERVED_COUNT: usize = 1;
    const ENDING: &'static str = "timeindex";

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

    fn relative(self) -> u32 {
        self.relative
    }

    fn is_blank(self) -> bool {
        self.timestamp == 0 && self.relative == 0
    }
}

/// One index of one segment.
///
/// Invariant: `tail` holds the entries from `tail_begin` on; those below `written_count` are in the
/// file; `tail_begin <= written_count <= count()`.
pub(super) struct Index<E: Entry> {
    home: Rc<Home>,
    base: Offset,
    written_count: Cell<usize>,
    tail_begin: Cell<usize>,
    tail: RefCell<Vec<E>>,
    /// What look-ups read of the entries below `tail_begin`, which never change.
    windows: RefCell<Windows<E>>,
    /// The last entry; `None` inside when it was not read yet.
    last: Cell<Option<Option<E>>>,
    /// Whether the file changed since its last sync.
    unsynced: Cell<bool>,
}

impl<E: Entry> Index<E> {
    /// The index of a segment whose file has `count` entries; nothing is read or written.
    pub(super) fn existing(home: &Rc<Home>, base: Offset, count: usize) -> Self {
        Self {
            home: home.clone(),
            base,
            written_count: Cell::new(count),
            tail_begin: Cell::new(count),
            tail: RefCell::default(),
            windows: RefCell::default(),
            last: Cell::new(if count == 0 { Some(None) } else { None }),
            unsynced: Cell::new(false),
        }
    }

    /// Drops all entries. The file becomes a new, empty one.
    pub(super) async fn recreate(&self) -> io::Result<()> {
        self.home.open(self.base, E::ENDING, OpenMode::Replace).await?;
        self.written_count.set(0);
        self.tail_begin.set(0);
        self.tail.borrow_mut().clear();
        self.forget_windows();
        self.last.set(Some(None));
        self.unsynced.set(true);
        Ok(())
    }

    /// How many entries there are.
    pub(super) fn count(&self) -> usize {
        self.tail_begin.get() + self.tail.borrow().len()
    }

    /// Whether the index has no room for `more_count` entries and one further.
    pub(super) fn is_full(&self, bytes_max: u32, more_count: usize) -> bool {
        let count_max = (bytes_max as usize / E::BYTES).saturating_sub(E::RESERVED_COUNT);
        self.count() + more_count >= count_max
    }

    /// The last entry, read from the file when that is needed.
    pub(super) async fn last(&self) -> io::Result<Option<E>> {
        if let Some(known) = self.last.get() {
            return Ok(known);
        }
        let file = self.home.open(self.base, E::ENDING, OpenMode::Read).await?;
        let position = (self.written_count.get() - 1) * E::BYTES;
        let last = E::read(&file.read_at(position as u64, E::BYTES).await?);
        // An append may have come first.
        if self.last.get().is_none() {
            self.last.set(Some(last));
        }
        Ok(self.last.get().flatten())
    }

    /// The last entry, if [`last`](Self::last) or an append made it known.
    pub(super) fn known_last(&self) -> Option<E> {
        self.last.get().flatten()
    }

    /// Appends an entry; its key is larger than all before.
    pub(super) fn append(&self, entry: E) {
        debug_assert!(self.known_last().is_none_or(|last| last.key() < entry.key()));
        self.tail.borrow_mut().push(entry);
        self.last.set(Some(Some(entry)));
    }

    /// Whether entries are not in the file yet.
    pub(super) fn has_unwritten(&self) -> bool {
        self.count() > self.written_count.get()
    }

    /// Whether enough entries gathered for a write.
    pub(super) fn wants_write(&self) -> bool {
        self.count() - self.written_count.get() >= BLOCK_COUNT
    }

    /// Writes what gathered. May run twice at a time: both write the same bytes.
    pub(super) async fn write(&self) -> io::Result<()> {
        let (begin, end) = (self.written_count.get(), self.count());
        if begin == end {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity((end - begin) * E::BYTES);
        for entry in &self.tail.borrow()[begin - self.tail_begin.get()..] {
            entry.write(&mut bytes);
        }
        let file = self.home.open(self.base, E::ENDING, OpenMode::Create).await?;
        file.write_at((begin * E::BYTES) as u64, &[Bytes::from(bytes)]).await?;
        self.unsynced.set(true);
        self.written_count.set(self.written_count.get().max(end));
        let mut tail = self.tail.borrow_mut();
        if tail.len() > 2 * BLOCK_COUNT {
            let keep_from = self.written_count.get().saturating_sub(BLOCK_COUNT);
            let dropped = keep_from.saturating_sub(self.tail_begin.get());
            tail.drain(..dropped);
            self.tail_begin.set(self.tail_begin.get() + dropped);
        }
        Ok(())
    }

    /// Makes durable what was written; what gathers stays in memory.
    pub(super) async fn sync(&self) -> io::Result<()> {
        if !self.unsynced.replace(false) {
            return Ok(());
        }
        let synced = async {
            let file = self.home.open(self.base, E::ENDING, OpenMode::Write).await?;
            file.sync().await
        };
        synced.await.inspect_err(|_| self.unsynced.set(true))
    }

    /// Gives back what memory it can: the segment takes no more entries.
    pub(super) fn release(&self) {
        if self.written_count.get() == self.count() {
            self.tail_begin.set(self.written_count.get());
            *self.tail.borrow_mut() = Vec::new();
        }
    }

    /// The last entry whose key is `key` or smaller.
    pub(super) async fn floor(&self, key: i64) -> io::Result<Option<E>> {
        let count = {
            let tail = self.tail.borrow();
            let at = tail.partition_point(|entry| entry.key() <= key);
            if at > 0 {
                return Ok(Some(tail[at - 1]));
            }
            self.tail_begin.get()
        };
        let known = self.windows.borrow_mut().find(key, count);
        let (mut low, mut high, mut before) = match known {
            Known::Found(found) => return Ok(found),
            Known::Within { low, high, before } => (low, high, before),
        };
        let file = self.home.open(self.base, E::ENDING, OpenMode::Read).await?;
        // Behind what is known lies what a reader that goes forward looks for.
        let mut is_behind = before.is_some();
        while high - low > windows::ENTRIES_MAX {
            let middle = match std::mem::take(&mut is_behind) {
                true => low + windows::ENTRIES_MAX,
                false => low + (high - low) / 2,
            };
            let bytes = file.read_at((middle * E::BYTES) as u64, E::BYTES).await?;
            // A file that got shorter under us has no entry there.
            match E::read(&bytes) {
                Some(entry) if entry.key() <= key => {
                    before = Some(entry);
                    low = middle + 1;
                }
                Some(_) | None => high = middle,
            }
        }
        let entries = self.stretch(&file, low, count).await?;
        let smaller = entries.partition_point(|entry| entry.key() <= key);
        let found = smaller.checked_sub(1).map(|at| entries[at]).or(before);
        self.windows.borrow_mut().keep(low, entries);
        Ok(found)
    }

    /// Some entries from number `low` on, of the first `count`.
    async fn stretch(&self, file: &File, low: usize, count: usize) -> io::Result<Vec<E>> {
        let length = windows::ENTRIES_MAX.min(count - low) * E::BYTES;
        let bytes = file.read_at((low * E::BYTES) as u64, length).await?;
        Ok(bytes.chunks_exact(E::BYTES).filter_map(E::read).collect())
    }

    /// Forgets what look-ups read.
    pub(super) fn forget_windows(&self) {
        self.windows.borrow_mut().clear();
    }

    /// The file's entries up to the first that `is_good` refuses or that does not grow: behind the
    /// real ones may lie the zeros of reserved room, or what a power cut left of later ones.
    pub(super) async fn good(&self, is_good: impl Fn(E) -> bool) -> io::Result<Vec<E>> {
        let bytes = match self.home.read(self.base, E::ENDING).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut good: Vec<E> = Vec::new();
        for entry in bytes.chunks_exact(E::BYTES).filter_map(E::read) {
            let grows = good.last().is_none_or(|before| {
                entry.key() > before.key() && entry.relative() > before.relative()
            });
            if entry.is_blank() || !grows || !is_good(entry) {
                break;
            }
            good.push(entry);
        }
        Ok(good)
    }

    /// Cuts the file to its first `count` entries, and forgets everything behind them. Only for an
    /// index nobody else uses yet.
    pub(super) async fn keep(&self, count: usize) -> io::Result<()> {
        let file = self.home.open(self.base, E::ENDING, OpenMode::Create).await?;
        file.truncate((count * E::BYTES) as u64).await?;
        self.tail.borrow_mut().clear();
        self.forget_windows();
        self.written_count.set(count);
        self.tail_begin.set(count);
        self.last.set(if count == 0 { Some(None) } else { None });
        self.unsynced.set(true);
        Ok(())
    }

    /// All entries, for a segment that is cut.
    pub(super) async fn all(&self) -> io::Result<Vec<E>> {
        let mut entries: Vec<E> = match self.tail_begin.get() {
            0 => Vec::new(),
            begin => {
                let bytes = self.home.read(self.base, E::ENDING).await?;
                bytes.chunks_exact(E::BYTES).filter_map(E::read).take(begin).collect()
            }
        };
        entries.extend_from_slice(&self.tail.borrow());
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sim::block_on;

    #[test]
    fn look_ups_find_the_same_with_and_without_what_earlier_ones_read() {
        block_on(7, |runtime| async move {
            let directory = std::path::PathBuf::from("/data/t-0");
            runtime.disk().create_directories(&directory).await.expect("it is made");
            let home = Rc::new(Home::new(runtime.disk(), directory));
            let index = Index::<OffsetEntry>::existing(&home, Offset::new(0), 0);
            let count = 20_000u32;
            for number in 0..count {
                index.append(OffsetEntry { relative: 10 * number + 5, position: number + 1 });
                if index.wants_write() {
                    index.write().await.expect("it is written");
                }
            }
            let check = async |key: u32| {
                let found = index.floor(i64::from(key)).await.expect("it is read");
                let expected = key.checked_sub(5).map(|over| over.min(10 * (count - 1)) / 10 + 1);
                assert_eq!(found.map(|entry| entry.position), expected, "{key}");
            };
            // Readers that go forward by steps of their own, and keys anywhere.
            for step in 0..2_000u32 {
                for reader in 1..20 {
                    check(reader * 1_000 + step * reader).await;
                }
                check(runtime.random() as u32 % (10 * count)).await;
            }
            check(0).await;
            index.forget_windows();
            check(4).await;
            check(5).await;
        });
    }
}
