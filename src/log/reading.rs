//! Reading a log: by offset, by time, batch by batch.

use std::io;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::aborted;
use crate::log::log::Log;
use crate::log::message::{AbortedTransaction, AtLeast, Found, LogRead, ReadError};
use crate::log::segment::Segment;
use crate::log::walk::Walk;
use crate::protocol::batch::{BatchError, BatchHeader, BatchView};
use crate::protocol::record::EndMarker;
use crate::protocol::timestamps::{Located, first_at_or_after, max_timestamp_record};
use crate::runtime::FileSlice;

/// What a batch may unpack to when its records are searched: a guard against batches that were
/// made to be huge, above what `max.message.bytes` allows with any sensible ratio.
const UNPACKED_BYTES_MAX: usize = 32 << 20;

impl Log {
    /// Reads batches from the one that holds `from` on, or the next one, as far as they lie wholly
    /// below `end` (`LocalLog.read`).
    ///
    /// `bytes_max` limits the slice, which may so end within a batch; the first one comes whole,
    /// and with [`AtLeast::OneBatch`] even when it alone is larger. Slices end with their segment.
    pub async fn read(
        &self,
        from: Offset,
        end: Offset,
        bytes_max: u32,
        at_least: AtLeast,
    ) -> Result<LogRead, ReadError> {
        if from < self.start() || from > self.end() {
            return Err(ReadError::OutOfRange);
        }
        let end = end.min(self.end());
        let mut segment = self.floor(from).ok_or(ReadError::OutOfRange)?;
        while from < end && segment.base < end {
            match self.read_segment(&segment, from, end, bytes_max, at_least).await {
                Ok(Some(read)) => return Ok(read),
                Ok(None) => {}
                // Retention or truncation took it while we read.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.holds(&segment) => {
                    return Err(ReadError::OutOfRange);
                }
                Err(error) => return Err(ReadError::Io(error)),
            }
            match self.behind(segment.base) {
                Some(next) => segment = next,
                None => break,
            }
        }
        Ok(LogRead::default())
    }

    /// Reads within one segment; `None` when nothing at or behind `from` is in it.
    async fn read_segment(
        &self,
        segment: &Rc<Segment>,
        from: Offset,
        end: Offset,
        bytes_max: u32,
        at_least: AtLeast,
    ) -> io::Result<Option<LogRead>> {
        let size_bytes = segment.size_bytes();
        let Some(first) = segment.find(from).await? else { return Ok(None) };
        let end_max = self.behind(segment.base).map_or(self.end(), |next| next.base);
        if first.last >= end_max {
            return Err(segment.damaged_at(first.position));
        }
        if first.last >= end {
            return Ok(Some(LogRead::default()));
        }
        let first_batch_bytes = first.size_bytes;
        if first_batch_bytes > bytes_max && at_least == AtLeast::Nothing {
            return Ok(Some(LogRead { slice: None, first_batch_bytes }));
        }
        let is_whole = self.behind(segment.base).is_some_and(|next| next.base <= end);
        let readable_bytes = match is_whole {
            true => size_bytes,
            false => match segment.find(end).await {
                // Found before anything that was appended meanwhile.
                Ok(place) => place.map_or(size_bytes, |place| place.position),
                // What lies before the damage is read batch by batch.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    first.position + u64::from(first.size_bytes)
                }
                Err(error) => return Err(error),
            },
        };
        let room = readable_bytes.saturating_sub(first.position);
        let length = u64::from(bytes_max.max(first_batch_bytes)).min(room) as u32;
        let file = segment.file().await?.lease();
        self.note_open(segment);
        let slice = FileSlice { file, position: first.position, length };
        Ok(Some(LogRead { slice: Some(slice), first_batch_bytes }))
    }

    /// Calls `visit` with the header of each batch that has offsets in `from..to`, and with the
    /// marker of one that ends a transaction.
    pub async fn scan(
        &self,
        from: Offset,
        to: Offset,
        mut visit: impl FnMut(&BatchHeader, Option<EndMarker>),
    ) -> io::Result<()> {
        let mut range = self.batches_in(from, to);
        while let Some((header, position)) = range.next().await? {
            let marker = match header.is_control() {
                true => {
                    let bytes = range.batch(&header, position).await?;
                    BatchView::parse(&bytes).ok().and_then(|b| EndMarker::from_batch(&b))
                }
                false => None,
            };
            visit(&header, marker);
            self.0.runtime.pass().await;
        }
        Ok(())
    }

    /// Calls `visit` with each batch that has offsets in `from..to`. Ends at its first error.
    pub async fn scan_batches(
        &self,
        from: Offset,
        to: Offset,
        mut visit: impl FnMut(&BatchView<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut range = self.batches_in(from, to);
        while let Some((header, position)) = range.next().await? {
            let bytes = range.batch(&header, position).await?;
            let damaged =
                |error: BatchError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
            visit(&BatchView::parse(&bytes).map_err(damaged)?)?;
            self.0.runtime.pass().await;
        }
        Ok(())
    }

    /// The batches that have offsets in `from..to`.
    fn batches_in(&self, from: Offset, to: Offset) -> Range<'_> {
        let segment = self.floor(from).or_else(|| self.floor(self.end()));
        Range { log: self, from, to, segment, walk: None }
    }

    /// The first record whose timestamp is `target` or later (`UnifiedLog.fetchOffsetByTimestamp`).
    /// Whether it lies below `end` is the caller's to check, as it is for the next.
    pub async fn find_by_timestamp(
        &self,
        target: Timestamp,
        end: Offset,
    ) -> io::Result<Option<Found>> {
        let start = self.start();
        let mut next = self.floor(start);
        while let Some(segment) = next.filter(|segment| segment.base < end) {
            let largest = segment.largest().await?;
            if largest.is_some_and(|entry| entry.timestamp >= target.to_wire()) {
                // All batches up to the entry's offset are older than the target.
                let older = segment.times.floor(target.to_wire()).await?;
                let from = segment.base + older.map_or(0, |entry| u64::from(entry.relative));
                let walk = segment.walk_near(from.max(start)).await?;
                let search = |batch: &BatchView<'_>| {
                    first_at_or_after(batch, target, start, UNPACKED_BYTES_MAX)
                };
                let smallest = target.to_wire();
                let found = self.search(&segment, walk, smallest, search).await?;
                // Only what lies below the log's start may have been young enough here.
                if found.is_some() {
                    return Ok(found);
                }
            }
            next = self.behind(segment.base);
        }
        Ok(None)
    }

    /// The first record that has the largest timestamp of the log.
    pub async fn find_max_timestamp(&self, end: Offset) -> io::Result<Option<Found>> {
        let mut newest: Option<(Rc<Segment>, i64, Offset)> = None;
        let mut next = self.floor(self.start());
        while let Some(segment) = next.filter(|segment| segment.base < end) {
            if let Some(largest) = segment.largest().await?
                && newest.as_ref().is_none_or(|(_, known, _)| largest.timestamp > *known)
            {
                let offset = segment.base + u64::from(largest.relative);
                newest = Some((segment.clone(), largest.timestamp, offset));
            }
            next = self.behind(segment.base);
        }
        let Some((segment, timestamp, offset)) = newest else { return Ok(None) };
        let walk = segment.walk_near(offset).await?;
        let search = |batch: &BatchView<'_>| max_timestamp_record(batch, UNPACKED_BYTES_MAX);
        self.search(&segment, walk, timestamp, search).await
    }

    /// Searches the records of batches that `walk` has before it whose largest timestamp is
    /// `smallest_max` or later, until `search` finds one.
    async fn search(
        &self,
        segment: &Rc<Segment>,
        mut walk: Walk,
        smallest_max: i64,
        search: impl Fn(&BatchView<'_>) -> Option<Located>,
    ) -> io::Result<Option<Found>> {
        self.note_open(segment);
        while let Some((header, position)) = walk.next().await? {
            self.0.runtime.pass().await;
            if header.max_timestamp < smallest_max {
                continue;
            }
            let bytes = walk.batch(&header, position).await?;
            let Ok(batch) = BatchView::parse(&bytes) else { return Ok(None) };
            if let Some(Located { offset, timestamp }) = search(&batch) {
                let epoch = LeaderEpoch::from_wire(header.partition_leader_epoch);
                return Ok(Some(Found { offset, timestamp, epoch }));
            }
        }
        Ok(None)
    }

    /// Aborted transactions that have records in `from..to`: producer and first offset
    /// (`LocalLog.collectAbortedTransactions`).
    pub async fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> io::Result<Vec<(i64, Offset)>> {
        let mut found = Vec::new();
        let mut next = self.floor(from);
        while let Some(segment) = next {
            if segment.has_aborted.get() {
                for entry in aborted::read(&self.0.home, segment.base).await? {
                    if entry.last_offset >= from && entry.first_offset < to {
                        found.push((entry.producer_id, entry.first_offset));
                    }
                    if entry.last_stable >= to {
                        return Ok(found);
                    }
                }
            }
            next = self.behind(segment.base);
        }
        Ok(found)
    }

    /// Notes aborted transactions whose markers were just appended, in the order of the markers.
    /// Those that are known already are left out.
    pub async fn append_aborted(&self, transactions: &[AbortedTransaction]) -> io::Result<()> {
        let _turn = self.turn().await;
        self.check_writable()?;
        let mut rest = transactions;
        while let Some(first) = rest.first() {
            let Some(segment) = self.floor(first.last_offset) else { return Ok(()) };
            let following = self.behind(segment.base).map(|next| next.base);
            let count = rest
                .iter()
                .take_while(|entry| following.is_none_or(|base| entry.last_offset < base))
                .count()
                .max(1);
            segment.has_aborted.set(true);
            segment.set_unsynced();
            aborted::append(&self.0.home, segment.base, &rest[..count]).await?;
            rest = &rest[count..];
        }
        Ok(())
    }
}

/// Batches one behind the other, over the borders of segments.
struct Range<'a> {
    log: &'a Log,
    from: Offset,
    to: Offset,
    /// The segment that is walked now, or next.
    segment: Option<Rc<Segment>>,
    walk: Option<Walk>,
}

impl Range<'_> {
    /// The next batch's header and position in its segment.
    async fn next(&mut self) -> io::Result<Option<(BatchHeader, u64)>> {
        while let Some(segment) = self.segment.clone().filter(|segment| segment.base < self.to) {
            let mut walk = match self.walk.take() {
                Some(walk) => walk,
                None => {
                    let walk = segment.walk_near(self.from.max(segment.base)).await?;
                    self.log.note_open(&segment);
                    walk
                }
            };
            while let Some((header, position)) = walk.next().await? {
                if header.last_offset() >= self.log.end().to_wire() {
                    return Err(segment.damaged_at(position));
                }
                if header.base_offset >= self.to.to_wire() {
                    return Ok(None);
                }
                if header.last_offset() >= self.from.to_wire() {
                    self.walk = Some(walk);
                    return Ok(Some((header, position)));
                }
            }
            segment.check_ended(&walk)?;
            self.segment = self.log.behind(segment.base);
        }
        Ok(None)
    }

    /// The whole of the batch that [`next`](Self::next) found last.
    async fn batch(&self, header: &BatchHeader, position: u64) -> io::Result<Bytes> {
        match &self.walk {
            Some(walk) => walk.batch(header, position).await,
            None => Err(io::Error::other("no batch was found")),
        }
    }
}
