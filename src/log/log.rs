//! A log: its segments in order, where it starts and ends, and what is durable of it.
//!
//! One task at a time changes it (a turn is taken by append, roll, truncation and retention);
//! readers go on meanwhile: they hold the segments they read, and bytes they may see never change.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::epochs::{self, Epochs};
use crate::log::home::{Home, ignore_missing};
use crate::log::message::{AppendBatch, BatchMeta, LogConfig, OpenError, Opened, Setup};
use crate::log::recovery;
use crate::log::segment::{self, Segment, WriteError};
use crate::runtime::local::{Budget, Share};
use crate::runtime::{OpenMode, Runtime};

/// Old segments of one log whose files stay open for readers.
const OPEN_OLD_COUNT_MAX: usize = 2;

/// Left in a log's directory when a sync of it failed: the next process writes what it finds there
/// again. It need not outlive the page cache.
pub(super) const SYNC_FAILED_FILE: &str = "corelog-sync-failed";

/// A partition's log on its core. Clones are the same log.
#[derive(Clone)]
pub struct Log(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) runtime: Runtime,
    pub(super) home: Rc<Home>,
    pub(super) config: RefCell<LogConfig>,
    /// By their bases; never empty.
    pub(super) segments: RefCell<BTreeMap<Offset, Rc<Segment>>>,
    pub(super) start: Cell<Offset>,
    pub(super) end: Cell<Offset>,
    pub(super) recovery_point: Cell<Offset>,
    pub(super) epochs: RefCell<Epochs>,
    /// The last epoch in their file.
    epoch_written: Cell<Option<LeaderEpoch>>,
    /// Offsets of the producer snapshots on disk.
    pub(super) snapshots: RefCell<BTreeSet<Offset>>,
    /// A snapshot that waits to be written.
    pub(super) snapshot_due: RefCell<Option<(Offset, Vec<u8>)>>,
    /// One who writes a snapshot holds its only unit.
    pub(super) snapshotting: Budget,
    pub(super) truncation_count: Cell<u64>,
    /// Set when the files may differ from what is known: nothing is written any more.
    pub(super) failed: Cell<bool>,
    /// Its topic was deleted: its directory may be another log's by now.
    abandoned: Cell<bool>,
    /// One who changes the log holds its only unit.
    turn: Budget,
    /// One who syncs the log holds its only unit.
    flushing: Budget,
    /// Segments that were closed, or mended at the start, and not synced since.
    closed: RefCell<Vec<Rc<Segment>>>,
    /// Old segments whose files are open, the longest unused first.
    open_old: RefCell<VecDeque<Rc<Segment>>>,
    parts: RefCell<Vec<Bytes>>,
}

impl Log {
    /// Opens a log, or makes a new one where none is.
    ///
    /// After a clean stop only the end of the last segment is read. Otherwise all batches from the
    /// recovery point on are checked, and the log is cut at the first damaged one (`LogLoader`).
    pub async fn open(runtime: &Runtime, setup: Setup) -> Result<(Self, Opened), OpenError> {
        let home = Rc::new(Home::new(runtime.disk(), setup.directory.clone()));
        let config = setup.config.clone();
        let loaded = recovery::load(runtime, &home, setup).await?;
        let log = Self(Rc::new(Inner {
            runtime: runtime.clone(),
            home,
            config: RefCell::new(config),
            segments: RefCell::new(loaded.segments),
            start: Cell::new(loaded.start),
            end: Cell::new(loaded.end),
            recovery_point: Cell::new(loaded.recovery_point),
            epoch_written: Cell::new(loaded.epochs.latest()),
            epochs: RefCell::new(loaded.epochs),
            snapshots: RefCell::new(loaded.snapshots),
            snapshot_due: RefCell::default(),
            snapshotting: Budget::new(1),
            truncation_count: Cell::new(0),
            failed: Cell::new(false),
            abandoned: Cell::new(false),
            turn: Budget::new(1),
            flushing: Budget::new(1),
            closed: RefCell::new(loaded.changed),
            open_old: RefCell::default(),
            parts: RefCell::default(),
        }));
        log.remove_later(loaded.removed);
        if loaded.sync_failed {
            // The mark goes once no later process could be misled.
            log.flush().await?;
            ignore_missing(log.0.home.disk.remove_file(&log.0.home.join(SYNC_FAILED_FILE)).await)?;
        }
        Ok((log, loaded.opened))
    }

    /// Closes the log behind a sync that failed: a later one would pass for its success, in this
    /// process or, as the mark is there, the next.
    async fn close_after_failed_sync(&self) {
        self.0.failed.set(true);
        let path = self.0.home.join(SYNC_FAILED_FILE);
        if let Err(error) = self.0.home.disk.open(&path, OpenMode::Create).await {
            tracing::error!(file = %path.display(), %error,
                "it can not be marked that a sync failed: before the broker is started again, the \
                 machine should be, so that nothing is believed that is not on the disk");
        }
    }

    /// The first offset that can be read; it may lie within a batch, or within a segment.
    pub fn start(&self) -> Offset {
        self.0.start.get()
    }

    /// The offset of the next record.
    pub fn end(&self) -> Offset {
        self.0.end.get()
    }

    /// Everything below is durable.
    pub fn recovery_point(&self) -> Offset {
        self.0.recovery_point.get()
    }

    /// Size of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.0.segments.borrow().values().map(|segment| segment.size_bytes()).sum()
    }

    /// How many segments there are; at least one.
    pub fn segment_count(&self) -> usize {
        self.0.segments.borrow().len()
    }

    /// The first offsets of the segments.
    pub fn segment_bases(&self) -> Vec<Offset> {
        self.0.segments.borrow().keys().copied().collect()
    }

    /// The first offset of the oldest segment.
    pub fn first_segment_base(&self) -> Offset {
        let segments = self.0.segments.borrow();
        segments.first_key_value().map_or(self.end(), |(base, _)| *base)
    }

    /// The partition's directory.
    pub fn directory(&self) -> PathBuf {
        self.0.home.directory()
    }

    /// The settings in force.
    pub fn config(&self) -> LogConfig {
        self.0.config.borrow().clone()
    }

    /// Changes the settings; they count from the next append or deletion on.
    pub fn set_config(&self, config: LogConfig) {
        *self.0.config.borrow_mut() = config;
    }

    /// Whether the log refuses writes, because its files may differ from what is known.
    pub fn is_failed(&self) -> bool {
        self.0.failed.get()
    }

    /// Whether [`roll`](Self::roll) is due before `next` is appended.
    pub fn will_roll(&self, next: &BatchMeta, now: Timestamp) -> bool {
        self.will_roll_after(0, next, now)
    }

    /// The same for a batch that will follow `pending_bytes` not yet appended.
    pub fn will_roll_after(&self, pending_bytes: u64, next: &BatchMeta, now: Timestamp) -> bool {
        self.active().should_roll(pending_bytes, next, now, &self.0.config.borrow())
    }

    /// Closes the active segment and begins the next one at the log's end. The closed one becomes
    /// durable in the background, and the recovery point moves up behind it (`UnifiedLog.roll`).
    pub async fn roll(&self) -> io::Result<()> {
        let turn = self.turn().await;
        self.roll_within(&turn).await
    }

    pub(super) async fn roll_within(&self, _turn: &Share) -> io::Result<()> {
        self.check_writable()?;
        let (active, base) = (self.active(), self.end());
        if active.size_bytes() == 0 && active.base == base {
            return Ok(());
        }
        let config = self.config();
        active.finish(&config).await?;
        let next = match self.new_segment(base).await {
            Ok(next) => next,
            Err(error) => {
                // The log goes on in the segment it has: none may begin within that.
                if self.0.home.remove(base, segment::ENDING).await.is_err() {
                    self.0.failed.set(true);
                }
                return Err(error);
            }
        };
        self.0.closed.borrow_mut().push(active.clone());
        self.0.segments.borrow_mut().insert(base, next);
        self.note_open(&active);
        let log = self.clone();
        self.0.runtime.spawn("log flush", async move {
            // Logs that are written at the same rate roll at the same time.
            let _turn = log.0.runtime.background_turn().await;
            if let Err(error) = log.flush_to(base).await {
                let directory = log.0.home.directory();
                tracing::error!(directory = %directory.display(), %error, "sync failed");
            }
        });
        Ok(())
    }

    pub(super) async fn new_segment(&self, base: Offset) -> io::Result<Rc<Segment>> {
        let now = self.0.runtime.wall_clock();
        let config = self.config();
        let segment = Segment::create(&self.0.home, base, now, &config).await?;
        Ok(Rc::new(segment.with_jitter(&config, self.0.runtime.random())))
    }

    /// Appends batches that follow each other, in one write. They must not reach into the next
    /// segment ([`will_roll`](Self::will_roll)), and their offsets not lie below the end.
    ///
    /// On an error nothing of them is visible, now or after a restart.
    pub async fn append(&self, batches: &[AppendBatch]) -> io::Result<()> {
        let Some(newest) = batches.last().map(|batch| batch.meta) else { return Ok(()) };
        let turn = self.turn().await;
        self.check_writable()?;
        let mut end = self.end();
        for batch in batches {
            let meta = &batch.meta;
            assert!(meta.base_offset >= end, "a batch's offsets follow the log's end");
            assert!(meta.last_offset >= meta.base_offset, "a batch's offsets grow");
            if self.latest_epoch().is_none_or(|known| known < meta.leader_epoch) {
                self.begin_epoch_within(&turn, meta.leader_epoch, meta.base_offset);
            }
            end = meta.last_offset.next();
        }
        let active = self.active();
        assert!(newest.last_offset.since(active.base) <= i32::MAX as u64, "a roll was due");
        let mut parts = self.0.parts.take();
        parts.extend(batches.iter().flat_map(|batch| batch.parts.iter().cloned()));
        let written = active.write(&parts).await;
        parts.clear();
        self.0.parts.replace(parts);
        match written {
            Ok(()) => {}
            Err(WriteError::Refused(error)) => return Err(error),
            Err(WriteError::Torn(error)) => {
                self.0.failed.set(true);
                return Err(error);
            }
        }
        {
            let config = self.0.config.borrow();
            for batch in batches {
                active.note(&batch.meta, &config);
            }
        }
        self.0.end.set(end);
        // The batches are in the log whatever becomes of the indexes: they gather further, and a
        // restart makes them anew.
        if let Err(error) = active.write_indexes_if_due().await {
            let directory = self.0.home.directory();
            tracing::warn!(directory = %directory.display(), %error, "index not written");
        }
        Ok(())
    }

    /// Makes everything below the end, as of this call, durable. Returns the recovery point.
    pub async fn flush(&self) -> io::Result<Offset> {
        self.flush_to(self.end()).await?;
        Ok(self.recovery_point())
    }

    /// Makes everything below `to` durable (`LocalLog.flush`). After a failure pages may be lost,
    /// and the log refuses writes.
    pub(super) async fn flush_to(&self, to: Offset) -> io::Result<()> {
        if self.0.abandoned.get() {
            return Ok(());
        }
        if self.lacks_epoch() {
            // Before the flush's turn is taken: who closes the log has this one and waits for that.
            let turn = self.turn().await;
            if self.0.abandoned.get() {
                return Ok(());
            }
            if let Err(error) = self.change_epochs(&turn, |_| true).await {
                let directory = self.0.home.directory();
                tracing::warn!(directory = %directory.display(), %error, "epochs not written");
            }
        }
        let _share = self.0.flushing.take(1).await;
        let truncation_count = self.0.truncation_count.get();
        let to = to.min(self.end());
        let from = self.recovery_point();
        let mut unsynced: Vec<Rc<Segment>> = self.0.closed.take();
        if to > from {
            let segments = self.0.segments.borrow();
            let first = segments.range(..=from).next_back().map_or(from, |(base, _)| *base);
            for segment in segments.range(first..to).map(|(_, segment)| segment) {
                if !unsynced.iter().any(|known| Rc::ptr_eq(known, segment)) {
                    unsynced.push(segment.clone());
                }
            }
        }
        if unsynced.is_empty() {
            return Ok(());
        }
        self.check_writable()?;
        for segment in &unsynced {
            match segment.sync().await {
                Ok(()) => {}
                // Retention or a deleted topic took it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.holds(segment) => {}
                Err(error) => {
                    self.close_after_failed_sync().await;
                    return Err(error);
                }
            }
        }
        if unsynced.iter().any(|segment| segment.base >= from)
            && let Err(error) = self.0.home.sync().await
        {
            self.close_after_failed_sync().await;
            return Err(error);
        }
        // What a truncation replaced meanwhile is no longer what was synced.
        // Without its file an epoch is found in the batches, behind the recovery point.
        let is_same = truncation_count == self.0.truncation_count.get() && !self.lacks_epoch();
        if is_same && to > self.recovery_point() {
            self.0.recovery_point.set(to);
        }
        Ok(())
    }

    /// Leaves the files as a clean stop leaves them: complete indexes, no reserved room, all of it
    /// durable. Nothing may be written afterwards.
    pub async fn close(&self) -> io::Result<()> {
        let turn = self.turn().await;
        let _quiet = self.no_snapshots().await;
        self.check_writable()?;
        let active = self.active();
        // An idle partition's files are as they should be, since its start or its last sync.
        let config = self.config();
        if self.lacks_epoch() {
            self.change_epochs(&turn, |_| true).await?;
        }
        if active.is_unsynced() || active.has_new_entries() || config.preallocate {
            active.finish(&config).await?;
            active.trim().await?;
            self.0.closed.borrow_mut().push(active);
        }
        self.flush_to(self.end()).await?;
        self.0.failed.set(true);
        self.release_files();
        Ok(())
    }

    /// Ends a log whose topic was deleted: nothing of it is written or synced any more, and its
    /// room on the disk is free once its files are removed, whoever still knows the log.
    ///
    /// Waits for what is being written: afterwards the directory may be renamed.
    pub async fn abandon(&self) {
        self.0.abandoned.set(true);
        self.0.failed.set(true);
        drop(self.turn().await);
        drop(self.no_snapshots().await);
        self.release_files();
    }

    /// Lets all files and remembered places go; the next use opens and finds them again. For
    /// partitions that are idle: what stays is about 1.5 KiB, and 350 bytes a segment.
    pub fn release_files(&self) {
        self.0.open_old.borrow_mut().clear();
        for segment in self.0.segments.borrow().values() {
            segment.release();
        }
    }

    /// Moves the partition's directory, as topic deletion does before it removes it.
    pub async fn rename_directory(&self, to: &Path) -> io::Result<()> {
        let _turn = self.turn().await;
        self.0.home.move_to(to).await
    }

    /// The latest leader epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.0.epochs.borrow().latest()
    }

    /// The epoch of the first record.
    pub fn epoch_at_start(&self) -> Option<LeaderEpoch> {
        self.0.epochs.borrow().epoch_of(self.start())
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.0.epochs.borrow().epoch_of(offset)
    }

    /// The largest epoch not above `asked`, and where it ends; `None` when that is unknown
    /// (`LeaderEpochFileCache.endOffsetFor`).
    pub fn end_offset_for(&self, asked: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.0.epochs.borrow().end_offset_for(asked, self.end())
    }

    /// `epoch` begins at `start`. Its file is written before the recovery point passes its first
    /// batch: until then a start finds it in the batches.
    pub async fn begin_epoch(&self, epoch: LeaderEpoch, start: Offset) {
        let turn = self.turn().await;
        self.begin_epoch_within(&turn, epoch, start);
    }

    fn begin_epoch_within(&self, _turn: &Share, epoch: LeaderEpoch, start: Offset) {
        self.0.epochs.borrow_mut().assign(epoch, start);
    }

    /// Whether the file lacks an epoch that has batches. One without any says nothing that the next
    /// leader does not say again.
    fn lacks_epoch(&self) -> bool {
        self.0.epochs.borrow().any_behind(self.0.epoch_written.get(), self.end())
    }

    /// Changes the epochs; the file first.
    pub(super) async fn change_epochs(
        &self,
        _turn: &Share,
        change: impl FnOnce(&mut Epochs) -> bool,
    ) -> io::Result<()> {
        let mut changed = self.0.epochs.borrow().clone();
        if change(&mut changed) {
            let path = self.0.home.join(epochs::FILE_NAME);
            self.0.home.disk.write_atomically(&path, changed.format().as_bytes()).await?;
            self.0.epoch_written.set(changed.latest());
            *self.0.epochs.borrow_mut() = changed;
        }
        Ok(())
    }

    /// Waits until nobody changes the log; it is the caller's to change until the share is dropped.
    pub(super) async fn turn(&self) -> Share {
        self.0.turn.take(1).await
    }

    pub(super) fn check_writable(&self) -> io::Result<()> {
        if self.0.failed.get() {
            return Err(io::Error::other("the log is closed after a failed write or sync"));
        }
        Ok(())
    }

    /// The segment that is written.
    pub(super) fn active(&self) -> Rc<Segment> {
        let segments = self.0.segments.borrow();
        let (_, active) = segments.last_key_value().expect("a log has at least one segment");
        active.clone()
    }

    /// The segment that holds `offset`, or would.
    pub(super) fn floor(&self, offset: Offset) -> Option<Rc<Segment>> {
        let segments = self.0.segments.borrow();
        segments.range(..=offset).next_back().map(|(_, segment)| segment.clone())
    }

    /// The segment behind the one at `base`.
    pub(super) fn behind(&self, base: Offset) -> Option<Rc<Segment>> {
        let segments = self.0.segments.borrow();
        let mut behind = segments.range((Bound::Excluded(base), Bound::Unbounded));
        behind.next().map(|(_, segment)| segment.clone())
    }

    /// Whether the segment is still part of the log.
    pub(super) fn holds(&self, segment: &Rc<Segment>) -> bool {
        let segments = self.0.segments.borrow();
        segments.get(&segment.base).is_some_and(|known| Rc::ptr_eq(known, segment))
    }

    /// An old segment's file was opened; the one unused for longest is closed when there are many.
    pub(super) fn note_open(&self, segment: &Rc<Segment>) {
        if !segment.is_open() || Rc::ptr_eq(segment, &self.active()) {
            return;
        }
        let mut open = self.0.open_old.borrow_mut();
        if let Some(at) = open.iter().position(|known| Rc::ptr_eq(known, segment)) {
            open.remove(at);
        }
        open.push_back(segment.clone());
        if open.len() > OPEN_OLD_COUNT_MAX
            && let Some(unused) = open.pop_front()
        {
            unused.close_file();
        }
    }
}
