//! Cutting a log at its end: a follower gives up what its leader never had.
//!
//! A cut segment becomes new files; who was given bytes of the old one still reads them unchanged,
//! and so do bytes the kernel still holds for a socket.

use std::io;
use std::ops::Bound;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::Offset;
use crate::log::aborted;
use crate::log::epochs::Epochs;
use crate::log::index::{Entry, OffsetEntry, TimeEntry};
use crate::log::log::Log;
use crate::log::retention::mark_deleted;
use crate::log::segment::{self, Segment, Sizes};
use crate::log::snapshots;
use crate::runtime::OpenMode;
use crate::runtime::local::Share;

/// What is copied at once.
const COPY_BYTES: u64 = 1 << 20;

impl Log {
    /// Cuts the log so that it ends at `to`, or below it where a batch begins that holds `to`:
    /// batches with offsets at or behind it go, whole. Whether anything went
    /// (`UnifiedLog.truncateTo`, which leaves the end at `to` in any case).
    pub async fn truncate_to(&self, to: Offset) -> io::Result<bool> {
        let turn = self.turn().await;
        self.check_writable()?;
        if to >= self.end() {
            // An epoch may have begun at the end without a batch.
            let end = self.end();
            self.change_epochs(&turn, |epochs| epochs.truncate_end(end)).await?;
            return Ok(false);
        }
        let Some(cut) = self.floor(to) else {
            self.restart_within(&turn, to).await?;
            return Ok(true);
        };
        let to = cut.find(to).await?.map_or(to, |place| place.base.min(to));
        self.0.truncation_count.set(self.0.truncation_count.get() + 1);
        self.0.end.set(to);
        self.0.recovery_point.set(self.recovery_point().min(to));
        self.0.start.set(self.start().min(to));
        let result = self.cut_within(&turn, to, &cut).await;
        if result.is_err() {
            self.0.failed.set(true);
        }
        result.map(|()| true)
    }

    async fn cut_within(&self, turn: &Share, to: Offset, cut: &Rc<Segment>) -> io::Result<()> {
        let gone: Vec<Rc<Segment>> = {
            let segments = self.0.segments.borrow();
            let behind = segments.range((Bound::Excluded(cut.base), Bound::Unbounded));
            behind.rev().map(|(_, segment)| segment.clone()).collect()
        };
        self.remove_segments(gone).await?;
        let shorter = self.shorten(cut, to).await?;
        self.0.segments.borrow_mut().insert(cut.base, shorter);
        self.0.home.sync().await?;
        self.change_epochs(turn, |epochs| epochs.truncate_end(to)).await?;
        let _quiet = self.no_snapshots().await;
        let stale: Vec<Offset> = {
            let snapshots = self.0.snapshots.borrow();
            snapshots.range((Bound::Excluded(to), Bound::Unbounded)).copied().collect()
        };
        for at in stale {
            self.0.snapshots.borrow_mut().remove(&at);
            self.0.home.remove(at, snapshots::ENDING).await?;
        }
        Ok(())
    }

    /// The segment without the batches at or behind `to`, in new files that take the old names.
    async fn shorten(&self, old: &Rc<Segment>, to: Offset) -> io::Result<Rc<Segment>> {
        let size_bytes = old.find(to).await?.map_or(old.size_bytes(), |place| place.position);
        let relative_end = to.since(old.base);
        let offsets: Vec<OffsetEntry> = kept(old.offsets.all().await?, relative_end);
        let times: Vec<TimeEntry> = kept(old.times.all().await?, relative_end);
        self.copy_log(old, size_bytes).await?;
        self.write_index(old.base, &offsets).await?;
        self.write_index(old.base, &times).await?;
        if old.has_aborted.get() {
            let mut entries = aborted::read(&self.0.home, old.base).await?;
            entries.retain(|entry| entry.last_offset < to);
            aborted::replace(&self.0.home, old.base, &entries).await?;
        }
        // The log last: with shorter indexes and the old log nothing is wrong after a crash.
        for ending in [OffsetEntry::ENDING, TimeEntry::ENDING, segment::ENDING] {
            self.0.home.rename(old.base, &format!("{ending}.cleaned"), ending).await?;
        }
        old.close_file();
        let sizes =
            Sizes { log_bytes: size_bytes, offset_count: offsets.len(), time_count: times.len() };
        let now = self.0.runtime.wall_clock();
        let shorter = Segment::existing(&self.0.home, old.base, sizes, now)
            .with_jitter(&self.config(), self.0.runtime.random());
        shorter.has_aborted.set(old.has_aborted.get());
        let largest = largest_of(&shorter, times.last().copied()).await?;
        shorter.set_largest(largest);
        shorter.load().await?;
        Ok(Rc::new(shorter))
    }

    async fn copy_log(&self, old: &Rc<Segment>, size_bytes: u64) -> io::Result<()> {
        let from = old.file().await?;
        let ending = format!("{}.cleaned", segment::ENDING);
        self.0.home.remove(old.base, &ending).await?;
        let to = self.0.home.open(old.base, &ending, OpenMode::Create).await?;
        let mut position = 0;
        while position < size_bytes {
            let wanted = (size_bytes - position).min(COPY_BYTES) as usize;
            let bytes = from.read_at(position, wanted).await?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let length = bytes.len() as u64;
            to.write_at(position, &[bytes]).await?;
            position += length;
            self.0.runtime.pass().await;
        }
        to.sync().await
    }

    async fn write_index<E: Entry>(&self, base: Offset, entries: &[E]) -> io::Result<()> {
        let ending = format!("{}.cleaned", E::ENDING);
        self.0.home.remove(base, &ending).await?;
        let file = self.0.home.open(base, &ending, OpenMode::Create).await?;
        let mut bytes = Vec::with_capacity(entries.len() * E::BYTES);
        for entry in entries {
            entry.write(&mut bytes);
        }
        file.write_at(0, &[Bytes::from(bytes)]).await?;
        file.sync().await
    }

    /// Drops everything and begins anew at `at` (`UnifiedLog.truncateFullyAndStartAt`).
    pub async fn truncate_fully_and_start_at(&self, at: Offset) -> io::Result<()> {
        let turn = self.turn().await;
        self.check_writable()?;
        self.restart_within(&turn, at).await
    }

    async fn restart_within(&self, turn: &Share, at: Offset) -> io::Result<()> {
        let result = self.restart(turn, at).await;
        if result.is_err() {
            self.0.failed.set(true);
        }
        result
    }

    async fn restart(&self, turn: &Share, at: Offset) -> io::Result<()> {
        let old: Vec<Rc<Segment>> = self.0.segments.borrow().values().rev().cloned().collect();
        let mut bases = Vec::with_capacity(old.len());
        for segment in &old {
            segment.close_file();
            mark_deleted(&self.0.home, segment.base).await?;
            bases.push(segment.base);
        }
        let fresh = self.new_segment(at).await?;
        self.0.home.sync().await?;
        {
            // In one step: a log is never without a segment.
            let mut segments = self.0.segments.borrow_mut();
            segments.clear();
            segments.insert(at, fresh);
        }
        self.0.truncation_count.set(self.0.truncation_count.get() + 1);
        self.0.start.set(at);
        self.0.end.set(at);
        self.0.recovery_point.set(self.recovery_point().min(at));
        self.remove_later(bases);
        self.change_epochs(turn, |epochs| {
            *epochs = Epochs::default();
            true
        })
        .await?;
        let _quiet = self.no_snapshots().await;
        for snapshot in self.0.snapshots.take() {
            self.0.home.remove(snapshot, snapshots::ENDING).await?;
        }
        Ok(())
    }
}

/// The entries before the first that holds an offset at or behind the end.
fn kept<E: Entry>(entries: Vec<E>, relative_end: u64) -> Vec<E> {
    entries.into_iter().take_while(|entry| u64::from(entry.relative()) < relative_end).collect()
}

/// The largest timestamp of a segment whose time index ends with `last`
/// (`LogSegment.readLargestTimestamp`).
async fn largest_of(segment: &Segment, last: Option<TimeEntry>) -> io::Result<Option<TimeEntry>> {
    let mut largest = last;
    let from = segment.base + last.map_or(0, |entry| u64::from(entry.relative));
    let mut walk = segment.walk_near(from).await?;
    while let Some((header, _)) = walk.next().await? {
        let known = largest.map_or(-1, |entry| entry.timestamp);
        let relative = header.last_offset().checked_sub(segment.base.to_wire());
        if header.max_timestamp > known
            && let Some(relative) = relative.and_then(|relative| u32::try_from(relative).ok())
        {
            largest = Some(TimeEntry { timestamp: header.max_timestamp, relative });
        }
    }
    Ok(largest)
}
