//! Opening a log: what is in the directory, and what of it can be believed.
//!
//! After a clean stop everything can, and little is read. Otherwise the batches from the recovery
//! point on are checked one by one, the log is cut at the first that is not whole and intact, and
//! indexes are made anew from there. Index entries below the recovery point show where to begin:
//! the batches they lead to are durable. Of the entries themselves the last may be missing.
//!
//! Source: Kafka's `LogLoader`, `LogSegment.recover`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::epochs::{self, Epochs};
use crate::log::home::Home;
use crate::log::index::{Entry as _, OffsetEntry, TimeEntry};
use crate::log::leftovers;
use crate::log::log::SYNC_FAILED_FILE;
use crate::log::message::{BatchMeta, OpenError, Opened, Setup};
use crate::log::names::parse_file_name;
use crate::log::partition_metadata;
use crate::log::retention::mark_deleted;
use crate::log::scan::Scan;
use crate::log::segment::{self, Segment, Sizes};
use crate::log::snapshots;
use crate::protocol::batch::BatchHeader;
use crate::runtime::{Entry, Runtime};

/// A log without a single index entry is this long at most.
const UNINDEXED_BYTES_MAX: u64 = 4 << 20;

/// A log's state as the directory tells it.
pub(super) struct Loaded {
    pub(super) segments: BTreeMap<Offset, Rc<Segment>>,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) recovery_point: Offset,
    pub(super) epochs: Epochs,
    pub(super) snapshots: BTreeSet<Offset>,
    pub(super) opened: Opened,
    /// Segments whose files are marked deleted.
    pub(super) removed: Vec<Offset>,
    /// Segments that were changed, and are to be synced.
    pub(super) changed: Vec<Rc<Segment>>,
    /// Whether a sync of an earlier process failed: all is to be synced before it is served.
    pub(super) sync_failed: bool,
}

/// A segment in the directory.
struct Candidate {
    segment: Segment,
    /// Bytes in the file, batches or not.
    file_bytes: u64,
    sizes: Sizes,
    /// Whether both indexes are there and may be what they should.
    has_indexes: bool,
}

struct Loader<'a> {
    runtime: &'a Runtime,
    home: &'a Rc<Home>,
    setup: Setup,
    now: Timestamp,
    epochs: Epochs,
    opened: Opened,
    removed: Vec<Offset>,
    checked: BTreeSet<Offset>,
    /// Whether a sync of an earlier process failed: what is checked is written again.
    sync_failed: bool,
}

/// Opens what is in the directory, which is made when it is missing.
pub(super) async fn load(
    runtime: &Runtime,
    home: &Rc<Home>,
    mut setup: Setup,
) -> Result<Loaded, OpenError> {
    let directory = setup.directory.clone();
    let found = match home.disk.list(&directory).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            home.disk.create_directories(&directory).await?;
            Vec::new()
        }
        found => found?,
    };
    let entries = leftovers::tidy(home, found).await?;
    let sync_failed = has(&entries, SYNC_FAILED_FILE);
    setup.clean &= !sync_failed;
    let loader = Loader {
        runtime,
        home,
        now: runtime.wall_clock(),
        epochs: read_epochs(home, &entries).await?,
        setup,
        opened: Opened::default(),
        removed: Vec::new(),
        checked: BTreeSet::new(),
        sync_failed,
    };
    Ok(loader.load(&entries).await?)
}

async fn read_epochs(home: &Home, entries: &[Entry]) -> Result<Epochs, OpenError> {
    if !has(entries, epochs::FILE_NAME) {
        return Ok(Epochs::default());
    }
    let path = home.join(epochs::FILE_NAME);
    let bytes = home.disk.read(&path).await?;
    Epochs::parse(&bytes).map_err(|error| OpenError::Damaged { path, reason: error.to_string() })
}

fn has(entries: &[Entry], name: &str) -> bool {
    entries.iter().any(|entry| entry.name == name)
}

impl Loader<'_> {
    async fn load(mut self, entries: &[Entry]) -> io::Result<Loaded> {
        let epochs_before = self.epochs.clone();
        let mut snapshots: BTreeSet<Offset> = entries
            .iter()
            .filter_map(|entry| parse_file_name(&entry.name))
            .filter(|(_, ending)| *ending == snapshots::ENDING)
            .map(|(offset, _)| offset)
            .collect();
        let mut candidates = self.candidates(entries);
        let checked_end = self.check(&mut candidates).await?;
        let mut end = match (checked_end, candidates.pop()) {
            (Some(end), Some(last)) => {
                candidates.push(last);
                Some(end)
            }
            (None, Some(last)) => {
                let (last, end) = self.find_end(last).await?;
                candidates.push(last);
                Some(end)
            }
            (_, None) => None,
        };
        let log_start = self.setup.log_start;
        if end.is_some_and(|end| end < log_start) {
            // Files were lost, or the checkpoint is another log's: there is nothing to serve.
            tracing::warn!(directory = %self.home.directory().display(), %log_start,
                "the log ends below its start, all segments are deleted");
            self.remove(candidates.split_off(0)).await?;
            self.epochs = Epochs::default();
            end = None;
        }
        let (is_new, end) = (end.is_none(), end.unwrap_or(log_start));
        let mut segments: BTreeMap<Offset, Rc<Segment>> = BTreeMap::new();
        if is_new {
            let config = &self.setup.config;
            let fresh = Segment::create(self.home, log_start, self.now, config).await?;
            match has(entries, partition_metadata::FILE_NAME) {
                // The directory's own name is durable since that file was written.
                true => self.home.sync().await?,
                false => self.home.sync_with_parent().await?,
            }
            candidates.push(Candidate::of(fresh));
        }
        let start = candidates.first().map_or(log_start, |c| c.segment.base.max(log_start));
        for candidate in candidates {
            segments.insert(candidate.segment.base, Rc::new(candidate.segment));
        }
        self.finish_active(&mut segments).await?;
        // One may begin at the end, by a leader that wrote nothing yet. Kafka drops it here and
        // assigns it again; keeping it spares a start two synced files a partition.
        self.epochs.truncate_end_beyond(end);
        self.epochs.truncate_start(log_start);
        if self.epochs != epochs_before {
            let path = self.home.join(epochs::FILE_NAME);
            self.home.disk.write_atomically(&path, self.epochs.format().as_bytes()).await?;
        }
        let bases: BTreeSet<Offset> = segments.keys().copied().collect();
        // Removed with their segments.
        snapshots.retain(|at| !self.removed.contains(at));
        for at in snapshots::useless(&snapshots, &bases, start, end) {
            snapshots.remove(&at);
            self.home.remove(at, snapshots::ENDING).await?;
        }
        let recovery_point = match self.setup.clean {
            true => end,
            false => self.setup.recovery_point.min(end),
        };
        let changed = segments.values().filter(|segment| self.checked.contains(&segment.base));
        let changed = changed.cloned().collect();
        Ok(Loaded {
            segments,
            start,
            end,
            recovery_point,
            epochs: self.epochs,
            snapshots,
            opened: self.opened,
            removed: self.removed,
            changed,
            sync_failed: self.sync_failed,
        })
    }

    /// The segments in the directory, by what their files' sizes tell.
    fn candidates(&self, entries: &[Entry]) -> Vec<Candidate> {
        let sizes: BTreeMap<(Offset, &str), u64> = entries
            .iter()
            .filter(|entry| !entry.is_directory)
            .filter_map(|entry| Some((parse_file_name(&entry.name)?, entry.size_bytes)))
            .collect();
        let logs = sizes.iter().filter(|((_, ending), _)| *ending == segment::ENDING);
        logs.map(|((base, _), size)| {
            let file_bytes = *size;
            let count = |ending, entry_bytes: usize| {
                let size = usize::try_from(*sizes.get(&(*base, ending))?).ok()?;
                size.is_multiple_of(entry_bytes).then_some(size / entry_bytes)
            };
            let offset_count = count(OffsetEntry::ENDING, OffsetEntry::BYTES);
            let time_count = count(TimeEntry::ENDING, TimeEntry::BYTES);
            let has_indexes = offset_count.is_some() && time_count.is_some();
            let sizes_found = Sizes {
                log_bytes: file_bytes,
                offset_count: offset_count.unwrap_or_default(),
                time_count: time_count.unwrap_or_default(),
            };
            let segment = Segment::existing(self.home, *base, sizes_found, self.now);
            let aborted = sizes.get(&(*base, super::aborted::ENDING));
            segment.has_aborted.set(aborted.is_some_and(|size| *size > 0));
            Candidate { segment, file_bytes, sizes: sizes_found, has_indexes }
        })
        .collect()
    }

    /// Checks what has to be; segments behind a damaged one are removed. The log's end, if the
    /// last segment was checked.
    async fn check(&mut self, candidates: &mut Vec<Candidate>) -> io::Result<Option<Offset>> {
        let recovery_point = self.setup.recovery_point;
        let first_unsure = match self.setup.clean {
            true => usize::MAX,
            false => candidates
                // The one that ends there is looked at too: it may have been closed, and its room
                // and indexes trimmed, after the sync.
                .partition_point(|candidate| candidate.segment.base < recovery_point)
                .saturating_sub(1),
        };
        let mut checked_end = None;
        for at in 0..candidates.len() {
            checked_end = None;
            let candidate = &candidates[at];
            let is_unsure = at >= first_unsure;
            if !is_unsure && candidate.has_indexes {
                continue;
            }
            if !is_unsure {
                self.opened.rebuilt_index_count += 1;
            }
            let trusted = if is_unsure { recovery_point } else { Offset::ZERO };
            let next_base = candidates.get(at + 1).map(|next| next.segment.base);
            // All of it was synced once: no loss of power explains what is wrong with it.
            let was_synced = next_base.is_some_and(|base| base <= recovery_point);
            let checked = self.check_segment(candidate, trusted, was_synced).await?;
            checked_end = Some(checked.end);
            // A power cut may take a segment's end and leave the next one. What is compacted has
            // gaps of its own, but none where the journal has a batch.
            let may_have_gap = self.setup.config.compact_policy
                && self.setup.journaled.binary_search(&checked.end).is_err();
            let has_gap = !may_have_gap && next_base.is_some_and(|base| base > checked.end);
            if let Some(base) = next_base.filter(|base| *base < checked.end) {
                tracing::warn!(directory = %self.home.directory().display(), segment = %base,
                    end = %checked.end,
                    "a segment reaches into the next one: what it has from there on is not read");
            }
            let goes_on = !is_unsure || was_synced || next_base.is_none();
            if !goes_on && (checked.is_damaged || has_gap) {
                let behind = candidates.split_off(at + 1);
                tracing::warn!(directory = %self.home.directory().display(), end = %checked.end,
                    segments = behind.len(), "segments behind a damaged one are deleted");
                self.opened.removed_segment_count += behind.len();
                self.remove(behind).await?;
                break;
            }
        }
        Ok(checked_end)
    }

    /// Removes segments, the last one first.
    async fn remove(&mut self, candidates: Vec<Candidate>) -> io::Result<()> {
        for candidate in candidates.into_iter().rev() {
            mark_deleted(self.home, candidate.segment.base).await?;
            self.removed.push(candidate.segment.base);
        }
        // Otherwise they may be back after a loss of power, behind what is written now.
        self.home.sync().await
    }

    /// Checks a segment's batches and cuts it behind the last good one; one that `was_synced` and
    /// closed only of blank room: who reads what is no batch there is told. Index entries below
    /// `trusted` are kept.
    async fn check_segment(
        &mut self,
        candidate: &Candidate,
        trusted: Offset,
        was_synced: bool,
    ) -> io::Result<Checked> {
        let segment = &candidate.segment;
        self.checked.insert(segment.base);
        segment.set_unsynced();
        segment.forget();
        let begin = self.trusted_position(candidate, trusted).await?;
        let file = segment.file().await?;
        let scan = Scan::new(file.clone(), begin, candidate.file_bytes);
        let mut scan = scan.writing_again(self.sync_failed);
        let mut end: Option<Offset> = None;
        while let Some(header) = scan.next(self.runtime).await? {
            let position = scan.position() - header.size_bytes() as u64;
            let Some(meta) = meta_of(&header) else {
                scan.rewind(position);
                break;
            };
            let fits = meta.base_offset >= end.unwrap_or(segment.base)
                && meta.last_offset.since(segment.base) <= i32::MAX as u64
                && scan.position() <= u64::from(u32::MAX >> 1);
            if !fits {
                scan.rewind(position);
                break;
            }
            if let Some(epoch) = LeaderEpoch::from_wire(header.partition_leader_epoch)
                && self.epochs.latest().is_none_or(|latest| epoch > latest)
            {
                self.epochs.assign(epoch, meta.base_offset);
            }
            segment.note_indexes(&meta, position, &self.setup.config);
            segment.write_indexes_if_due().await?;
            end = Some(meta.last_offset.next());
        }
        let mut cut = scan.position();
        self.opened.scanned_bytes += cut - begin;
        let is_damaged = cut < candidate.file_bytes && !scan.rest_is_blank().await?;
        if is_damaged && was_synced {
            tracing::warn!(directory = %self.home.directory().display(), segment = %segment.base,
                position = cut, "a closed segment is damaged: what follows there is not read");
            cut = candidate.file_bytes;
        } else if is_damaged {
            self.opened.truncated_bytes += candidate.file_bytes - cut;
        }
        if cut < candidate.file_bytes {
            file.truncate(cut).await?;
        }
        segment.set_size_bytes(cut);
        segment.finish(&self.setup.config).await?;
        segment.close_file();
        Ok(Checked { end: end.unwrap_or(segment.base), is_damaged })
    }

    /// Where to begin checking: at the batch of the last index entry below `trusted`. What lies
    /// behind that entry is dropped from the indexes.
    async fn trusted_position(&self, candidate: &Candidate, trusted: Offset) -> io::Result<u64> {
        let segment = &candidate.segment;
        if candidate.has_indexes && trusted > segment.base {
            let end = trusted.since(segment.base);
            let good = |entry: OffsetEntry| {
                u64::from(entry.relative) < end && u64::from(entry.position) < candidate.file_bytes
            };
            let offsets = segment.offsets.good(good).await?;
            if let Some(entry) = offsets.last().copied()
                && self.leads_to_its_batch(segment, entry).await?
            {
                let good = |time: TimeEntry| time.relative <= entry.relative;
                let times = segment.times.good(good).await?;
                segment.offsets.keep(offsets.len()).await?;
                segment.times.keep(times.len()).await?;
                if let Some(largest) = self.largest_below(segment, entry).await? {
                    segment.set_largest(largest);
                    segment.load().await?;
                    return Ok(u64::from(entry.position));
                }
            }
        }
        segment.offsets.recreate().await?;
        segment.times.recreate().await?;
        segment.set_largest(None);
        Ok(0)
    }

    /// The largest timestamp of the batches below `entry`'s. The time index may lack its last
    /// entries, so headers are read from the last that is there. `None` outside when they do not
    /// follow each other.
    async fn largest_below(
        &self,
        segment: &Segment,
        entry: OffsetEntry,
    ) -> io::Result<Option<Option<TimeEntry>>> {
        let mut largest = segment.times.last().await?;
        let from = segment.base + largest.map_or(0, |time| u64::from(time.relative));
        let mut walk = segment.walk_near(from).await?;
        while walk.position() < u64::from(entry.position) {
            let Some((header, _)) = walk.next().await? else { return Ok(None) };
            let relative = header.last_offset().saturating_sub(segment.base.to_wire());
            let Ok(relative) = u32::try_from(relative) else { return Ok(None) };
            if header.max_timestamp > largest.map_or(-1, |known| known.timestamp) {
                largest = Some(TimeEntry { timestamp: header.max_timestamp, relative });
            }
            self.runtime.pass().await;
        }
        Ok((walk.position() == u64::from(entry.position)).then_some(largest))
    }

    async fn leads_to_its_batch(&self, segment: &Segment, entry: OffsetEntry) -> io::Result<bool> {
        let mut walk = segment.walk(u64::from(entry.position)).await?;
        let last = segment.base + u64::from(entry.relative);
        Ok(walk.next().await?.is_some_and(|(header, _)| header.last_offset() == last.to_wire()))
    }

    /// Finds where an unchecked last segment ends, from its last index entry on. One that is not
    /// as a clean stop leaves it is checked after all.
    async fn find_end(&mut self, last: Candidate) -> io::Result<(Candidate, Offset)> {
        if let Some(end) = self.walk_to_end(&last).await? {
            return Ok((last, end));
        }
        self.opened.rebuilt_index_count += 1;
        let checked = self.check_segment(&last, Offset::ZERO, false).await?;
        Ok((last, checked.end))
    }

    async fn walk_to_end(&self, last: &Candidate) -> io::Result<Option<Offset>> {
        let segment = &last.segment;
        let entry = segment.offsets.last().await?;
        if last.sizes.offset_count == 0 && last.file_bytes > UNINDEXED_BYTES_MAX {
            return Ok(None);
        }
        if let Some(entry) = entry
            && (entry.is_blank() || !self.leads_to_its_batch(segment, entry).await?)
        {
            return Ok(None);
        }
        let mut walk = segment.walk(entry.map_or(0, |entry| u64::from(entry.position))).await?;
        let mut end = segment.base;
        while let Some((header, _)) = walk.next().await? {
            let Some(meta) = meta_of(&header) else { return Ok(None) };
            if meta.base_offset < end {
                return Ok(None);
            }
            end = meta.last_offset.next();
        }
        Ok((walk.position() == last.file_bytes).then_some(end))
    }

    /// Makes the last segment ready for appends.
    async fn finish_active(&self, segments: &mut BTreeMap<Offset, Rc<Segment>>) -> io::Result<()> {
        let Some((base, active)) = segments.pop_last() else { return Ok(()) };
        active.load().await?;
        active.close_file();
        let active = match Rc::try_unwrap(active) {
            Ok(alone) => Rc::new(alone.with_jitter(&self.setup.config, self.runtime.random())),
            Err(shared) => shared,
        };
        segments.insert(base, active);
        Ok(())
    }
}

struct Checked {
    end: Offset,
    is_damaged: bool,
}

impl Candidate {
    fn of(segment: Segment) -> Self {
        Self { segment, file_bytes: 0, sizes: Sizes::default(), has_indexes: true }
    }
}

/// What the log has to know of a stored batch; `None` when its offsets can not be.
pub(super) fn meta_of(header: &BatchHeader) -> Option<BatchMeta> {
    let base_offset = Offset::from_wire(header.base_offset)?;
    let last_offset = Offset::from_wire(header.last_offset())?;
    if last_offset < base_offset || last_offset.to_wire() == i64::MAX {
        return None;
    }
    Some(BatchMeta {
        base_offset,
        last_offset,
        max_timestamp: header.max_timestamp,
        max_timestamp_offset: last_offset,
        size_bytes: u32::try_from(header.size_bytes()).ok()?,
        leader_epoch: LeaderEpoch::from_wire(header.partition_leader_epoch).unwrap_or_default(),
    })
}
