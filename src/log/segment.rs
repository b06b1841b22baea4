//! One segment: a file of batches and its two indexes.
//!
//! Source: Kafka's `LogSegment`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::base::Offset;
use crate::log::index::{Index, OffsetEntry, TimeEntry};
use crate::log::log::{AppendBatch, BatchMeta, LogConfig};
use crate::log::names::file_name;
use crate::protocol::batch::{BatchHeader, HEADER_BYTES, LENGTH_OVERHEAD_BYTES};
use crate::runtime::{Disk, File, OpenMode};

/// Batches whose place is remembered exactly: consumers at the tail need no index.
const RECENT_COUNT_MAX: usize = 64;

/// What is read at once while looking for a batch.
const SCAN_BYTES: usize = 8 << 10;

/// A batch's place in its segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) base: Offset,
    pub(super) last: Offset,
    pub(super) position: u64,
    pub(super) size_bytes: u32,
}

/// One segment of a log.
pub(super) struct Segment {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    pub(super) size_bytes: Cell<u64>,
    pub(super) offsets: Index<OffsetEntry>,
    pub(super) times: Index<TimeEntry>,
    /// The largest timestamp and the offset that came with it.
    pub(super) max_timestamp: Cell<Option<TimeEntry>>,
    /// The first batch's timestamp: segments roll by its age.
    pub(super) first_timestamp: Cell<Option<i64>>,
    /// Wall-clock milliseconds when the segment was made or opened.
    pub(super) created_ms: i64,
    bytes_since_entry: Cell<u64>,
    /// The open file; an idle or old segment has none.
    file: RefCell<Option<File>>,
    recent: RefCell<VecDeque<Place>>,
}

impl Segment {
    /// A new segment that begins at `base`. What a crashed process left under its names is cut.
    pub(super) async fn create(
        disk: &Disk,
        directory: &Path,
        base: Offset,
        now_ms: i64,
        config: &LogConfig,
    ) -> io::Result<Self> {
        let path = directory.join(file_name(base, "log"));
        let file = disk.open(&path, OpenMode::Create).await?;
        file.truncate(0).await?;
        if config.preallocate {
            file.preallocate(u64::from(config.segment_bytes)).await?;
        }
        let offsets = Index::create(disk, directory.join(file_name(base, "index"))).await?;
        let times = Index::create(disk, directory.join(file_name(base, "timeindex"))).await?;
        let segment = Self::with(base, path, 0, offsets, times, now_ms);
        *segment.file.borrow_mut() = Some(file);
        Ok(segment)
    }

    pub(super) fn with(
        base: Offset,
        path: PathBuf,
        size_bytes: u64,
        offsets: Index<OffsetEntry>,
        times: Index<TimeEntry>,
        now_ms: i64,
    ) -> Self {
        let max_timestamp = times.last();
        Self {
            base,
            path,
            size_bytes: Cell::new(size_bytes),
            offsets,
            times,
            max_timestamp: Cell::new(max_timestamp),
            first_timestamp: Cell::new(None),
            created_ms: now_ms,
            bytes_since_entry: Cell::new(0),
            file: RefCell::new(None),
            recent: RefCell::default(),
        }
    }

    /// The segment's file, opened when it is not.
    pub(super) async fn file(&self, disk: &Disk) -> io::Result<File> {
        if let Some(file) = &*self.file.borrow() {
            return Ok(file.clone());
        }
        let file = disk.open(&self.path, OpenMode::Write).await?;
        *self.file.borrow_mut() = Some(file.clone());
        Ok(file)
    }

    /// Lets the file go; leases keep it open as long as they need it.
    pub(super) fn close_file(&self) {
        self.file.borrow_mut().take();
    }

    /// Whether the file is open.
    pub(super) fn is_open(&self) -> bool {
        self.file.borrow().is_some()
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.since(self.base)).expect("segments roll before offsets overflow")
    }

    /// Whether `batch`, behind `pending_bytes` more, belongs into the next segment
    /// (`LogSegment.shouldRoll`).
    pub(super) fn should_roll(
        &self,
        batch: &BatchMeta,
        pending_bytes: u64,
        config: &LogConfig,
        now_ms: i64,
    ) -> bool {
        let size_bytes = self.size_bytes.get() + pending_bytes;
        let waited_ms = match self.first_timestamp.get() {
            Some(first) if first >= 0 => batch.max_timestamp.saturating_sub(first),
            Some(_) | None => now_ms.saturating_sub(self.created_ms),
        };
        let age_max_ms = config.segment_ms.saturating_sub(config.segment_jitter_ms);
        let is_old = waited_ms > i64::try_from(age_max_ms).unwrap_or(i64::MAX);
        size_bytes + u64::from(batch.size_bytes) > u64::from(config.segment_bytes)
            || (size_bytes > 0 && is_old)
            || self.offsets.is_full(config.index_bytes_max)
            || self.times.is_full(config.index_bytes_max)
            || batch.last_offset.since(self.base) > i32::MAX as u64
    }

    /// Appends batches in one write; their offsets follow what is there.
    pub(super) async fn append(
        &self,
        disk: &Disk,
        batches: &[AppendBatch],
        config: &LogConfig,
    ) -> io::Result<()> {
        let file = self.file(disk).await?;
        let mut parts: Vec<Bytes> = Vec::with_capacity(batches.len() * 2);
        for batch in batches {
            parts.extend(batch.parts.iter().cloned());
        }
        let begin = self.size_bytes.get();
        if let Err(error) = file.write_at(begin, &parts).await {
            // What was written of the group must not be taken for batches later.
            let cut = file.truncate(begin).await;
            self.close_file();
            return Err(cut.err().unwrap_or(error));
        }
        let mut position = begin;
        for batch in batches {
            self.note(&batch.meta, position, config);
            position += u64::from(batch.meta.size_bytes);
        }
        self.size_bytes.set(position);
        if self.offsets.wants_write() {
            self.offsets.write(disk).await?;
        }
        if self.times.wants_write() {
            self.times.write(disk).await?;
        }
        Ok(())
    }

    /// Takes a batch at `position` into indexes and memory.
    pub(super) fn note(&self, batch: &BatchMeta, position: u64, config: &LogConfig) {
        if self.first_timestamp.get().is_none() {
            self.first_timestamp.set(Some(batch.max_timestamp));
        }
        if self.max_timestamp.get().is_none_or(|known| batch.max_timestamp > known.timestamp) {
            let relative = self.relative(batch.max_timestamp_offset);
            let timestamp = batch.max_timestamp;
            if timestamp >= 0 {
                self.max_timestamp.set(Some(TimeEntry { timestamp, relative }));
            }
        }
        if self.bytes_since_entry.get() > u64::from(config.index_interval_bytes) {
            let relative = self.relative(batch.last_offset);
            let position = u32::try_from(position).expect("segments are below 2 GiB");
            self.offsets.append(OffsetEntry { relative, position });
            self.note_time();
            self.bytes_since_entry.set(0);
        }
        self.bytes_since_entry.set(self.bytes_since_entry.get() + u64::from(batch.size_bytes));
        let mut recent = self.recent.borrow_mut();
        if recent.len() >= RECENT_COUNT_MAX {
            recent.pop_front();
        }
        recent.push_back(Place {
            base: batch.base_offset,
            last: batch.last_offset,
            position,
            size_bytes: batch.size_bytes,
        });
    }

    /// Writes the largest timestamp so far into the time index, where it is new.
    fn note_time(&self) {
        if let Some(max) = self.max_timestamp.get()
            && self.times.last().is_none_or(|last| max.timestamp > last.timestamp)
        {
            self.times.append(max);
        }
    }

    /// The segment takes no more: the time index gets its last entry, reserved room is given back,
    /// and everything is written.
    pub(super) async fn finish(&self, disk: &Disk, config: &LogConfig) -> io::Result<()> {
        self.note_time();
        self.offsets.write(disk).await?;
        self.times.write(disk).await?;
        if config.preallocate {
            self.file(disk).await?.truncate(self.size_bytes.get()).await?;
        }
        Ok(())
    }

    /// Makes the segment durable.
    pub(super) async fn sync(&self, disk: &Disk) -> io::Result<()> {
        self.file(disk).await?.sync().await
    }

    /// The first batch whose last offset is `offset` or larger; `None` behind the last batch.
    pub(super) async fn find(&self, disk: &Disk, offset: Offset) -> io::Result<Option<Place>> {
        {
            let recent = self.recent.borrow();
            if recent.front().is_some_and(|first| first.base <= offset) {
                let at = recent.partition_point(|place| place.last < offset);
                return Ok(recent.get(at).copied());
            }
        }
        // The entry's key is the last offset of its batch: one at or below the target may be that
        // very batch's.
        let key = i64::try_from(offset.since(self.base)).unwrap_or(i64::MAX);
        let entry = self.offsets.floor(disk, key).await?;
        let from = entry.map_or(0, |entry| u64::from(entry.position));
        let mut walk = Walk::new(self, disk, from).await?;
        while let Some((header, position)) = walk.next().await? {
            if header.last_offset() >= offset.to_wire() {
                return Ok(place_of(&header, position));
            }
        }
        Ok(None)
    }

    /// Batches from `position` on, one header at a time.
    pub(super) async fn walk(&self, disk: &Disk, position: u64) -> io::Result<Walk> {
        Walk::new(self, disk, position).await
    }

    /// Sets how many bytes lie behind the last index entry.
    pub(super) fn set_bytes_since_entry(&self, bytes: u64) {
        self.bytes_since_entry.set(bytes);
    }

    /// Forgets what is known of batches.
    pub(super) fn forget(&self) {
        self.recent.borrow_mut().clear();
        self.first_timestamp.set(None);
        self.max_timestamp.set(self.times.last());
        self.bytes_since_entry.set(0);
    }
}

pub(super) fn place_of(header: &BatchHeader, position: u64) -> Option<Place> {
    Some(Place {
        base: Offset::from_wire(header.base_offset)?,
        last: Offset::from_wire(header.last_offset())?,
        position,
        size_bytes: u32::try_from(header.size_bytes()).ok()?,
    })
}

/// Reads batch headers one behind the other, in blocks.
pub(super) struct Walk {
    file: File,
    position: u64,
    end: u64,
    block: Bytes,
    block_position: u64,
}

impl Walk {
    async fn new(segment: &Segment, disk: &Disk, position: u64) -> io::Result<Self> {
        let file = segment.file(disk).await?;
        let end = segment.size_bytes.get();
        Ok(Self { file, position, end, block: Bytes::new(), block_position: position })
    }

    /// The next whole batch's header and position; `None` at the end or at what is no batch.
    pub(super) async fn next(&mut self) -> io::Result<Option<(BatchHeader, u64)>> {
        if self.position + HEADER_BYTES as u64 > self.end {
            return Ok(None);
        }
        let inside = self.position.checked_sub(self.block_position).filter(|skip| {
            *skip as usize + HEADER_BYTES <= self.block.len()
        });
        let skip = match inside {
            Some(skip) => skip as usize,
            None => {
                let wanted = (self.end - self.position).min(SCAN_BYTES as u64) as usize;
                self.block = self.file.read_at(self.position, wanted).await?;
                self.block_position = self.position;
                0
            }
        };
        let Ok(header) = BatchHeader::parse(&self.block[skip..]) else { return Ok(None) };
        let size = header.size_bytes() as u64;
        if size < (LENGTH_OVERHEAD_BYTES as u64) || self.position + size > self.end {
            return Ok(None);
        }
        let position = self.position;
        self.position += size;
        Ok(Some((header, position)))
    }

    /// The whole batch at `position`.
    pub(super) async fn batch(&self, header: &BatchHeader, position: u64) -> io::Result<Bytes> {
        self.file.read_at(position, header.size_bytes()).await
    }
}
