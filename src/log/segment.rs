//! One segment: a file of batches, its two indexes, and what is remembered of its youngest batches.
//!
//! Source: Kafka's `LogSegment`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::{Offset, Timestamp};
use crate::log::home::Home;
use crate::log::index::{Entry as _, Index, OffsetEntry, TimeEntry};
use crate::log::message::{BatchMeta, LogConfig};
use crate::log::walk::{Place, Walk};
use crate::runtime::{File, OpenMode};

/// The file's ending.
pub(super) const ENDING: &str = "log";

/// Batches whose place is remembered: readers at the tail need no index and no file.
const RECENT_COUNT_MAX: usize = 64;

/// One segment of a log.
pub(super) struct Segment {
    pub(super) home: Rc<Home>,
    /// The smallest offset it may hold.
    pub(super) base: Offset,
    size_bytes: Cell<u64>,
    pub(super) offsets: Index<OffsetEntry>,
    pub(super) times: Index<TimeEntry>,
    /// The largest timestamp and its batch's last offset; `None` outside when not read yet.
    largest: Cell<Option<Option<TimeEntry>>>,
    /// The first batch's largest timestamp: segments roll by its age.
    first_timestamp: Cell<Option<i64>>,
    /// When the segment was made or opened.
    created: Timestamp,
    /// Taken off `segment.ms`, so that partitions do not roll all at once.
    jitter_ms: u64,
    bytes_since_entry: Cell<u64>,
    /// The open file; an idle or old segment has none.
    file: RefCell<Option<File>>,
    recent: RefCell<VecDeque<Place>>,
    /// Whether there is a transaction index.
    pub(super) has_aborted: Cell<bool>,
    /// Whether the files may hold what no sync covered.
    unsynced: Cell<bool>,
}

/// Sizes of a segment's files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) log_bytes: u64,
    pub(super) offset_count: usize,
    pub(super) time_count: usize,
}

impl Segment {
    /// A segment whose files are there; nothing is read.
    pub(super) fn existing(home: &Rc<Home>, base: Offset, sizes: Sizes, now: Timestamp) -> Self {
        Self {
            home: home.clone(),
            base,
            size_bytes: Cell::new(sizes.log_bytes),
            offsets: Index::existing(home, base, sizes.offset_count),
            times: Index::existing(home, base, sizes.time_count),
            largest: Cell::new(None),
            first_timestamp: Cell::new(None),
            created: now,
            jitter_ms: 0,
            bytes_since_entry: Cell::new(0),
            file: RefCell::new(None),
            recent: RefCell::default(),
            has_aborted: Cell::new(false),
            unsynced: Cell::new(false),
        }
    }

    /// A new segment that begins at `base`, durable once its directory is synced. What an earlier
    /// process left under its names is removed.
    pub(super) async fn create(
        home: &Rc<Home>,
        base: Offset,
        now: Timestamp,
        config: &LogConfig,
    ) -> io::Result<Self> {
        home.remove(base, super::aborted::ENDING).await?;
        let segment = Self::existing(home, base, Sizes::default(), now);
        segment.offsets.recreate().await?;
        segment.times.recreate().await?;
        // Last of all: when this fails half way the segment before goes on, beyond `base`. A start
        // removes indexes without a log, but would end that segment where another log begins.
        let file = home.open(base, ENDING, OpenMode::Replace).await?;
        if config.preallocate {
            if let Err(error) = file.preallocate(u64::from(config.segment_bytes)).await {
                home.remove(base, ENDING).await?;
                return Err(error);
            }
            segment.set_unsynced();
        }
        *segment.file.borrow_mut() = Some(file);
        Ok(segment)
    }

    /// The same with `random` deciding how much earlier than `segment.ms` it rolls.
    pub(super) fn with_jitter(mut self, config: &LogConfig, random: u64) -> Self {
        let most_ms = config.segment_jitter_ms.min(config.segment_ms);
        self.jitter_ms = if most_ms == 0 { 0 } else { random % most_ms };
        self
    }

    /// Bytes of batches in the file.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.get()
    }

    /// Says how many bytes of batches there are: recovery found out.
    pub(super) fn set_size_bytes(&self, size_bytes: u64) {
        self.size_bytes.set(size_bytes);
    }

    /// The segment's file, opened when it is not.
    pub(super) async fn file(&self) -> io::Result<File> {
        if let Some(file) = &*self.file.borrow() {
            return Ok(file.clone());
        }
        let file = self.home.open(self.base, ENDING, OpenMode::Write).await?;
        *self.file.borrow_mut() = Some(file.clone());
        Ok(file)
    }

    /// Lets the file go; leases keep it open as long as they need it.
    pub(super) fn close_file(&self) {
        self.file.borrow_mut().take();
        self.offsets.forget_windows();
        self.times.forget_windows();
    }

    /// Whether the file is open.
    pub(super) fn is_open(&self) -> bool {
        self.file.borrow().is_some()
    }

    /// Whether `batch`, behind `pending_bytes` more, belongs into the next segment
    /// (`LogSegment.shouldRoll`).
    pub(super) fn should_roll(
        &self,
        pending_bytes: u64,
        batch: &BatchMeta,
        now: Timestamp,
        config: &LogConfig,
    ) -> bool {
        if batch.last_offset.since(self.base) > i32::MAX as u64 {
            return true;
        }
        let size_bytes = self.size_bytes.get() + pending_bytes;
        if size_bytes == 0 {
            return false;
        }
        let waited_ms = match self.first_timestamp.get() {
            Some(first) if first >= 0 => batch.max_timestamp.saturating_sub(first),
            Some(_) | None => now.to_wire().saturating_sub(self.created.to_wire()),
        };
        let wait_ms_max = config.segment_ms.saturating_sub(self.jitter_ms);
        // What is pending may bring entries of its own.
        let interval_bytes = u64::from(config.index_interval_bytes) + 1;
        let more_count = pending_bytes.div_ceil(interval_bytes) as usize;
        size_bytes + u64::from(batch.size_bytes) > u64::from(config.segment_bytes)
            || waited_ms > i64::try_from(wait_ms_max).unwrap_or(i64::MAX)
            || self.offsets.is_full(config.index_bytes_max, more_count)
            || self.times.is_full(config.index_bytes_max, more_count)
    }

    /// Writes `parts` behind the last batch, in one call. [`note`](Self::note) then makes the
    /// batches known. When the write fails the file is cut to where it was; when even that fails,
    /// the second error is returned and the segment must not be written again.
    pub(super) async fn write(&self, parts: &[Bytes]) -> Result<(), WriteError> {
        let begin = self.size_bytes.get();
        let file = self.file().await.map_err(WriteError::Refused)?;
        self.unsynced.set(true);
        let written = file.write_at(begin, parts).await;
        // A sync that began while this was being written may not have it.
        self.unsynced.set(true);
        match written {
            Ok(()) => Ok(()),
            Err(error) => match file.truncate(begin).await {
                Ok(()) => Err(WriteError::Refused(error)),
                Err(_) => Err(WriteError::Torn(error)),
            },
        }
    }

    /// Makes a batch known that was written behind the last one (`LogSegment.append`).
    pub(super) fn note(&self, batch: &BatchMeta, config: &LogConfig) {
        let position = self.size_bytes.get();
        self.note_indexes(batch, position, config);
        let mut recent = self.recent.borrow_mut();
        if recent.len() == RECENT_COUNT_MAX {
            recent.pop_front();
        }
        recent.push_back(Place {
            base: batch.base_offset,
            last: batch.last_offset,
            position,
            size_bytes: batch.size_bytes,
        });
        self.size_bytes.set(position + u64::from(batch.size_bytes));
    }

    /// Takes a batch at `position` into the indexes. The entry leads to the batch that crosses the
    /// interval and bears its last offset; so the first batch never has one.
    pub(super) fn note_indexes(&self, batch: &BatchMeta, position: u64, config: &LogConfig) {
        if self.first_timestamp.get().is_none() {
            self.first_timestamp.set(Some(batch.max_timestamp));
        }
        let relative = self.relative(batch.last_offset);
        let known = self.largest.get().flatten().map_or(-1, |known| known.timestamp);
        if batch.max_timestamp > known {
            let timestamp = batch.max_timestamp;
            self.largest.set(Some(Some(TimeEntry { timestamp, relative })));
        }
        let since_bytes = self.bytes_since_entry.get();
        let wants_entry = since_bytes > u64::from(config.index_interval_bytes);
        if wants_entry && !self.offsets.is_full(config.index_bytes_max, 0) {
            let position = u32::try_from(position).expect("segments are below 2 GiB");
            self.offsets.append(OffsetEntry { relative, position });
            self.note_time();
            self.bytes_since_entry.set(0);
        }
        self.bytes_since_entry.set(self.bytes_since_entry.get() + u64::from(batch.size_bytes));
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.since(self.base)).expect("segments roll before offsets overflow")
    }

    /// Writes the largest timestamp into the time index, where it is larger than the last entry.
    fn note_time(&self) {
        if let Some(largest) = self.largest.get().flatten()
            && self.times.known_last().is_none_or(|last| largest.timestamp > last.timestamp)
        {
            self.times.append(largest);
        }
    }

    /// The largest timestamp in the segment and its batch's last offset.
    pub(super) async fn largest(&self) -> io::Result<Option<TimeEntry>> {
        if let Some(known) = self.largest.get() {
            return Ok(known);
        }
        let last = self.times.last().await?;
        if self.largest.get().is_none() {
            self.largest.set(Some(last));
        }
        Ok(self.largest.get().flatten())
    }

    /// Says what the largest timestamp is.
    pub(super) fn set_largest(&self, largest: Option<TimeEntry>) {
        self.largest.set(Some(largest));
    }

    /// The largest timestamp, for retention; when no record has one, when the segment was made.
    pub(super) async fn retention_timestamp(&self) -> io::Result<Timestamp> {
        let largest = self.largest().await?;
        Ok(largest.map_or(self.created, |entry| Timestamp::from_millis(entry.timestamp)))
    }

    /// Reads what an active segment has to know: the first batch's timestamp, the largest one.
    pub(super) async fn load(&self) -> io::Result<()> {
        self.largest().await?;
        if self.first_timestamp.get().is_none() && self.size_bytes.get() > 0 {
            let mut walk = self.walk(0).await?;
            if let Some((header, _)) = walk.next().await? {
                self.first_timestamp.set(Some(header.max_timestamp));
            }
        }
        self.offsets.last().await?;
        Ok(())
    }

    /// Writes index entries once enough gathered.
    pub(super) async fn write_indexes_if_due(&self) -> io::Result<()> {
        if self.offsets.wants_write() {
            self.offsets.write().await?;
        }
        if self.times.wants_write() {
            self.times.write().await?;
        }
        Ok(())
    }

    /// The segment takes no more for now: the time index gets its last entry, reserved room is
    /// given back, and all is written (`LogSegment.onBecomeInactiveSegment`).
    pub(super) async fn finish(&self, config: &LogConfig) -> io::Result<()> {
        self.unsynced.set(true);
        self.largest().await?;
        self.times.last().await?;
        self.note_time();
        self.offsets.write().await?;
        self.times.write().await?;
        if config.preallocate {
            self.trim().await?;
        }
        // A sync beside this covers nothing of it.
        self.unsynced.set(true);
        self.release_memory();
        Ok(())
    }

    fn release_memory(&self) {
        self.offsets.release();
        self.times.release();
        *self.recent.borrow_mut() = VecDeque::new();
    }

    /// Lets go what can be found again: the file, remembered places, written index entries.
    pub(super) fn release(&self) {
        self.close_file();
        self.release_memory();
    }

    /// Whether [`finish`](Self::finish) would write entries of an index.
    pub(super) fn has_new_entries(&self) -> bool {
        self.offsets.has_unwritten()
            || self.times.has_unwritten()
            || self.largest.get().flatten() != self.times.known_last()
    }

    /// Cuts what lies behind the last batch: reserved room, or what an interrupted write left.
    pub(super) async fn trim(&self) -> io::Result<()> {
        let file = self.file().await?;
        if file.size_bytes().await? > self.size_bytes.get() {
            file.truncate(self.size_bytes.get()).await?;
            self.unsynced.set(true);
        }
        Ok(())
    }

    /// Whether the files may hold what no sync covered.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced.get()
    }

    /// Says that the files may hold what no sync covered.
    pub(super) fn set_unsynced(&self) {
        self.unsynced.set(true);
    }

    /// Makes the batches durable, and index entries that were written.
    pub(super) async fn sync(&self) -> io::Result<()> {
        if !self.unsynced.replace(false) {
            return Ok(());
        }
        self.sync_files().await.inspect_err(|_| self.unsynced.set(true))
    }

    async fn sync_files(&self) -> io::Result<()> {
        self.file().await?.sync().await?;
        self.offsets.sync().await?;
        self.times.sync().await?;
        if self.has_aborted.get() {
            super::aborted::sync(&self.home, self.base).await?;
        }
        Ok(())
    }

    /// The first batch whose last offset is `offset` or larger; `None` behind the last batch.
    ///
    /// An error when what lies before it is no batch: whoever passed over that would take records
    /// that were acknowledged for none.
    pub(super) async fn find(&self, offset: Offset) -> io::Result<Option<Place>> {
        {
            let recent = self.recent.borrow();
            if recent.front().is_some_and(|first| first.base <= offset) {
                let at = recent.partition_point(|place| place.last < offset);
                return Ok(recent.get(at).copied());
            }
        }
        let mut walk = self.walk_near(offset).await?;
        while let Some((header, position)) = walk.next().await? {
            if header.last_offset() >= offset.to_wire() {
                return Ok(Place::of(&header, position));
            }
        }
        self.check_ended(&walk).map(|()| None)
    }

    /// An error when a walk stopped before the end: there is something else than a batch.
    pub(super) fn check_ended(&self, walk: &Walk) -> io::Result<()> {
        if walk.is_at_end() { Ok(()) } else { Err(self.damaged_at(walk.position())) }
    }

    /// The error of a file that has no right batch at a place.
    pub(super) fn damaged_at(&self, position: u64) -> io::Error {
        let file = self.home.path(self.base, ENDING);
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{}: what lies at {position} is no batch of it; restore the file, or move the \
                 partition's directory away to begin anew",
                file.display()
            ),
        )
    }

    /// The batches from the last one before `offset` that has an index entry. An entry that leads
    /// to no batch, or to one behind its offset, is not believed, and all of the segment is walked.
    pub(super) async fn walk_near(&self, offset: Offset) -> io::Result<Walk> {
        // An entry's key is the last offset of its batch: the batch of an equal one is the target.
        // Of several batches appended at once Kafka notes the first one's place, the last's offset.
        let key = i64::try_from(offset.since(self.base)).unwrap_or(i64::MAX);
        let Some(entry) = self.offsets.floor(key).await? else { return self.walk(0).await };
        let position = u64::from(entry.position);
        let mut walk = self.walk(position).await?;
        let last = self.base + u64::from(entry.relative);
        match walk.next().await? {
            Some((header, _)) if header.last_offset() <= last.to_wire() => {
                walk.rewind(position);
                Ok(walk)
            }
            Some(_) | None => {
                tracing::warn!(index = %self.home.path(self.base, OffsetEntry::ENDING).display(),
                    relative = entry.relative, position, "an index entry is wrong, it is not used");
                self.walk(0).await
            }
        }
    }

    /// The batches from `position` on, one header at a time.
    pub(super) async fn walk(&self, position: u64) -> io::Result<Walk> {
        Ok(Walk::new(self.file().await?, position, self.size_bytes.get()))
    }

    /// Forgets what was remembered of batches, before they are read again.
    pub(super) fn forget(&self) {
        self.recent.borrow_mut().clear();
        self.first_timestamp.set(None);
        self.largest.set(None);
        self.bytes_since_entry.set(0);
    }
}

/// Why batches were not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing of them is in the file.
    Refused(io::Error),
    /// Some of them may be in the file, behind its last batch.
    Torn(io::Error),
}
