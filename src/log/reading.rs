//! Reading: slices for fetches, offsets by time, headers one by one.

use std::io;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::log::Log;
use crate::log::segment::{Place, Segment};
use crate::protocol::batch::{BatchHeader, BatchView};
use crate::protocol::record::EndMarker;
use crate::protocol::timestamps::{first_at_or_after, max_timestamp_record};
use crate::runtime::FileSlice;

/// Bytes a compressed batch may grow to while it is searched by time.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// Whether a read returns a first batch that is larger than its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AtLeast {
    /// Yes: a reader always makes progress (KIP-74).
    OneBatch,
    /// No: then nothing.
    Nothing,
}

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct LogRead {
    /// The bytes; `None` when there are none within the limit.
    pub slice: Option<FileSlice>,
    /// Size of the first batch of the slice.
    pub first_batch_bytes: u32,
}

/// Why nothing could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The offset is below the log's start or above its end.
    OutOfRange,
    /// The disk refused.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A record found by its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The epoch of the leader that wrote it.
    pub epoch: Option<LeaderEpoch>,
}

impl Log {
    /// The bytes of one segment from the batch that holds `from` on: whole batches below `end`,
    /// `bytes_max` bytes of them at most, so the last may be cut.
    ///
    /// The first batch comes whole: with [`AtLeast::OneBatch`] even when it alone is larger than
    /// `bytes_max`, else nothing comes.
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
        let Some((segment, first)) = self.find(from).await? else { return Ok(LogRead::default()) };
        if first.base >= end {
            return Ok(LogRead::default());
        }
        let limit = self.limit(&segment, end).await?;
        let available = u32::try_from(limit.saturating_sub(first.position)).unwrap_or(u32::MAX);
        let least = match at_least {
            AtLeast::OneBatch => first.size_bytes,
            AtLeast::Nothing => 0,
        };
        let length = available.min(bytes_max.max(least));
        if length < first.size_bytes {
            return Ok(LogRead::default());
        }
        let file = segment.file(&self.0.disk).await?.lease();
        self.limit_open_files();
        let slice = FileSlice { file, position: first.position, length };
        Ok(LogRead { slice: Some(slice), first_batch_bytes: first.size_bytes })
    }

    /// The batch that holds `offset`, or the first behind it.
    async fn find(&self, offset: Offset) -> io::Result<Option<(Rc<Segment>, Place)>> {
        let mut segment = {
            let segments = self.0.segments.borrow();
            segments.range(..=offset).next_back().map(|(_, segment)| segment.clone())
        };
        while let Some(current) = segment {
            if let Some(place) = current.find(&self.0.disk, offset).await? {
                return Ok(Some((current, place)));
            }
            segment = self.behind(&current);
        }
        Ok(None)
    }

    fn behind(&self, segment: &Segment) -> Option<Rc<Segment>> {
        let segments = self.0.segments.borrow();
        segments.range(segment.base.next()..).next().map(|(_, segment)| segment.clone())
    }

    /// Where in `segment` the bytes of offsets below `end` end.
    async fn limit(&self, segment: &Segment, end: Offset) -> io::Result<u64> {
        let whole = segment.size_bytes.get();
        if end >= self.end() || self.behind(segment).is_some_and(|next| next.base <= end) {
            return Ok(whole);
        }
        let place = segment.find(&self.0.disk, end).await?;
        Ok(place.map_or(whole, |place| place.position))
    }

    /// The first record at or behind the log's start whose timestamp is `target` or later.
    /// Records at or behind `end` are not looked at.
    pub async fn find_by_timestamp(
        &self,
        target: Timestamp,
        end: Offset,
    ) -> io::Result<Option<Found>> {
        let segments: Vec<Rc<Segment>> = self.0.segments.borrow().values().cloned().collect();
        for segment in segments {
            let largest = segment.max_timestamp.get();
            let is_active = segment.base == self.active().base;
            if !is_active && largest.is_some_and(|max| max.timestamp < target.to_wire()) {
                continue;
            }
            // The entry with the largest timestamp below the target: all before it is older.
            let older = segment.times.floor(&self.0.disk, target.to_wire() - 1).await?;
            let key = older.map_or(0, |entry| i64::from(entry.relative));
            let entry = segment.offsets.floor(&self.0.disk, key).await?;
            let from = entry.map_or(0, |entry| u64::from(entry.position));
            let mut walk = segment.walk(&self.0.disk, from).await?;
            while let Some((header, position)) = walk.next().await? {
                if header.base_offset >= end.to_wire() {
                    return Ok(None);
                }
                let is_candidate = header.max_timestamp >= target.to_wire()
                    && header.last_offset() >= self.start().to_wire();
                if is_candidate {
                    let bytes = walk.batch(&header, position).await?;
                    if let Some(found) = self.search(&bytes, target)? {
                        return Ok(Some(found));
                    }
                }
                self.0.runtime.pass().await;
            }
        }
        Ok(None)
    }

    fn search(&self, bytes: &Bytes, target: Timestamp) -> io::Result<Option<Found>> {
        let damaged = |error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, error.to_string())
        };
        let view = BatchView::parse(bytes).map_err(|error| damaged(&error))?;
        let located = first_at_or_after(&view, target, self.start(), DECOMPRESSED_BYTES_MAX)
            .map_err(|error| damaged(&error))?;
        Ok(located.map(|located| Found {
            offset: located.offset,
            timestamp: located.timestamp,
            epoch: LeaderEpoch::from_wire(view.header.partition_leader_epoch),
        }))
    }

    /// The record with the largest timestamp below `end`; the first of them.
    pub async fn find_max_timestamp(&self, end: Offset) -> io::Result<Option<Found>> {
        let segments: Vec<Rc<Segment>> = self.0.segments.borrow().values().cloned().collect();
        let mut largest: Option<(i64, Rc<Segment>)> = None;
        for segment in segments {
            let Some(max) = segment.max_timestamp.get() else { continue };
            if largest.as_ref().is_none_or(|(known, _)| max.timestamp > *known) {
                largest = Some((max.timestamp, segment));
            }
        }
        let Some((timestamp, segment)) = largest else { return Ok(None) };
        let Some(max) = segment.max_timestamp.get() else { return Ok(None) };
        let entry = segment.offsets.floor(&self.0.disk, i64::from(max.relative)).await?;
        let from = entry.map_or(0, |entry| u64::from(entry.position));
        let mut walk = segment.walk(&self.0.disk, from).await?;
        while let Some((header, position)) = walk.next().await? {
            if header.base_offset >= end.to_wire() {
                return Ok(None);
            }
            if header.max_timestamp != timestamp {
                continue;
            }
            let bytes = walk.batch(&header, position).await?;
            let damaged = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
            let view = BatchView::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
            let located = max_timestamp_record(&view, DECOMPRESSED_BYTES_MAX)
                .map_err(|error| damaged(error.to_string()))?;
            return Ok(located.map(|located| Found {
                offset: located.offset,
                timestamp: located.timestamp,
                epoch: LeaderEpoch::from_wire(header.partition_leader_epoch),
            }));
        }
        Ok(None)
    }

    /// Calls `visit` with the header of every batch that has offsets in `from..to`, in order, and
    /// with the marker of those that end a transaction.
    pub async fn scan(
        &self,
        from: Offset,
        to: Offset,
        mut visit: impl FnMut(&BatchHeader, Option<EndMarker>),
    ) -> io::Result<()> {
        let Some((first, place)) = self.find(from).await? else { return Ok(()) };
        let mut segment = Some(first);
        let mut position = place.position;
        while let Some(current) = segment {
            let mut walk = current.walk(&self.0.disk, position).await?;
            while let Some((header, at)) = walk.next().await? {
                if header.base_offset >= to.to_wire() {
                    return Ok(());
                }
                if header.is_control() {
                    let bytes = walk.batch(&header, at).await?;
                    let view = BatchView::parse(&bytes).ok();
                    visit(&header, view.and_then(|view| EndMarker::from_batch(&view)));
                } else {
                    visit(&header, None);
                }
                self.0.runtime.pass().await;
            }
            segment = self.behind(&current);
            position = 0;
        }
        Ok(())
    }

    /// Aborted transactions that overlap `from..to`: producer id and first offset.
    ///
    /// Only directories written by Apache Kafka have any, in `.txnindex` files.
    pub async fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> io::Result<Vec<(i64, Offset)>> {
        let segments: Vec<Rc<Segment>> = {
            let segments = self.0.segments.borrow();
            let first = segments.range(..=from).next_back().map_or(from, |(base, _)| *base);
            segments.range(first..).map(|(_, segment)| segment.clone()).collect()
        };
        let mut found = Vec::new();
        for segment in segments {
            let path = segment.path.with_extension("txnindex");
            let bytes = match self.0.disk.read(&path).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in bytes.chunks_exact(TXN_ENTRY_BYTES) {
                let number = |at: usize| {
                    entry[at..].first_chunk().map_or(-1, |raw| i64::from_be_bytes(*raw))
                };
                let (producer, first, last, stable) = (number(2), number(10), number(18), number(26));
                if last >= from.to_wire() && first < to.to_wire() {
                    found.extend(Offset::from_wire(first).map(|first| (producer, first)));
                }
                if stable >= to.to_wire() {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}

/// Bytes of a `.txnindex` entry: version, producer id, first and last offset, last stable offset.
const TXN_ENTRY_BYTES: usize = 34;
