//! Finding records by their time within one batch, for ListOffsets.
//!
//! Batches are chosen by the log, by its indexes and their `max_timestamp`; here the records
//! decide, in compressed batches too. With LogAppendTime all records of a batch have its
//! `max_timestamp`.

use std::fmt;

use crate::base::{Offset, Timestamp};
use crate::protocol::batch::BatchView;
use crate::protocol::compression::{DecompressError, decompress};
use crate::protocol::record::{RecordError, Records};

/// A record's place and time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Located {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// Why the records of a batch can not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// They do not decompress.
    Compression(DecompressError),
    /// They are no records.
    Record(RecordError),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compression(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {}

impl From<DecompressError> for Unreadable {
    fn from(error: DecompressError) -> Self {
        Self::Compression(error)
    }
}

impl From<RecordError> for Unreadable {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// The first record at or behind `from` whose timestamp is `target` or later
/// (`FileRecords.searchForTimestamp`).
///
/// `from` is the log's start, which may lie within a batch after DeleteRecords. A compressed batch
/// of more than `size_bytes_max` bytes is found as a whole.
pub fn first_at_or_after(
    batch: &BatchView<'_>,
    target: Timestamp,
    from: Offset,
    size_bytes_max: usize,
) -> Result<Option<Located>, Unreadable> {
    let header = &batch.header;
    if header.max_timestamp < target.to_wire() || header.last_offset() < from.to_wire() {
        return Ok(None);
    }
    let bytes = match decompress(batch, size_bytes_max) {
        Ok(bytes) => bytes,
        Err(DecompressError::TooLarge { .. }) => return Ok(as_a_whole(batch, from)),
        Err(error) => return Err(error.into()),
    };
    for record in Records::new(&bytes, header.record_count) {
        let record = record?;
        let timestamp = header.timestamp_of(&record);
        let offset = header.offset_of(&record);
        if timestamp < target.to_wire() || offset < from.to_wire() {
            continue;
        }
        if let Some(located) = located(offset, timestamp) {
            return Ok(Some(located));
        }
    }
    Ok(None)
}

/// The first record that has the batch's largest timestamp (`RecordBatch.offsetOfMaxTimestamp`);
/// `None` for a batch without records or timestamps.
///
/// When no record has the timestamp that the header names, the one with the largest counts.
pub fn max_timestamp_record(
    batch: &BatchView<'_>,
    size_bytes_max: usize,
) -> Result<Option<Located>, Unreadable> {
    let header = &batch.header;
    if header.max_timestamp < 0 {
        return Ok(None);
    }
    let bytes = match decompress(batch, size_bytes_max) {
        Ok(bytes) => bytes,
        Err(DecompressError::TooLarge { .. }) => return Ok(as_a_whole(batch, Offset::default())),
        Err(error) => return Err(error.into()),
    };
    let mut largest: Option<(i64, i64)> = None;
    for record in Records::new(&bytes, header.record_count) {
        let record = record?;
        let timestamp = header.timestamp_of(&record);
        if largest.is_none_or(|(_, known)| timestamp > known) {
            largest = Some((header.offset_of(&record), timestamp));
        }
        if timestamp == header.max_timestamp {
            return Ok(located(header.offset_of(&record), timestamp));
        }
    }
    Ok(largest.and_then(|(offset, timestamp)| located(offset, timestamp)))
}

/// Where a batch is that is too large to be searched: whoever reads from its beginning, or from
/// the log's start within it, misses nothing.
fn as_a_whole(batch: &BatchView<'_>, from: Offset) -> Option<Located> {
    located(batch.header.base_offset.max(from.to_wire()), batch.header.max_timestamp)
}

fn located(offset: i64, timestamp: i64) -> Option<Located> {
    let offset = Offset::from_wire(offset)?;
    let timestamp = Timestamp::from_wire(timestamp)?;
    Some(Located { offset, timestamp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::builder::{BatchBuilder, NewRecord};
    use crate::protocol::compression::Codec;

    const LIMIT: usize = 1 << 20;

    fn batch(builder: BatchBuilder, timestamps: &[i64]) -> bytes::Bytes {
        let mut builder = builder.base_offset(Offset::new(50));
        for timestamp in timestamps {
            builder.append(&NewRecord { timestamp: *timestamp, ..NewRecord::default() });
        }
        builder.build().expect("builds")
    }

    fn place(offset: u64, timestamp: i64) -> Option<Located> {
        let timestamp = Timestamp::from_millis(timestamp);
        Some(Located { offset: Offset::new(offset), timestamp })
    }

    #[test]
    fn the_first_record_at_or_after_a_time_is_found_in_any_codec() {
        let cases = [
            ("before all", 0, 0, place(50, 10)),
            ("exactly", 20, 0, place(51, 40)),
            ("later ones may be earlier", 15, 52, place(53, 40)),
            ("behind the log start only", 10, 51, place(51, 40)),
            ("the largest", 40, 0, place(51, 40)),
            ("after all", 41, 0, None),
            ("log start behind the batch", 0, 54, None),
        ];
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bytes = batch(BatchBuilder::new().compression(codec), &[10, 40, 5, 40]);
            let view = BatchView::parse(&bytes).expect("a batch");
            for (name, target, from, expected) in cases {
                let target = Timestamp::from_millis(target);
                let found = first_at_or_after(&view, target, Offset::new(from), LIMIT);
                assert_eq!(found, Ok(expected), "{codec:?}: {name}");
            }
            assert_eq!(max_timestamp_record(&view, LIMIT), Ok(place(51, 40)), "{codec:?}");
        }
    }

    #[test]
    fn with_append_time_every_record_has_the_batchs_time() {
        let builder = BatchBuilder::new().append_time(Timestamp::from_millis(99));
        let bytes = batch(builder, &[10, 40, 5]);
        let view = BatchView::parse(&bytes).expect("a batch");
        let find = |target, from| {
            let target = Timestamp::from_millis(target);
            first_at_or_after(&view, target, Offset::new(from), LIMIT)
        };
        assert_eq!(find(60, 0), Ok(place(50, 99)));
        assert_eq!(find(60, 51), Ok(place(51, 99)));
        assert_eq!(find(100, 0), Ok(None));
        assert_eq!(max_timestamp_record(&view, LIMIT), Ok(place(50, 99)));
    }

    #[test]
    fn a_batch_that_unpacks_to_too_much_is_found_as_a_whole() {
        let bytes = batch(BatchBuilder::new().compression(Codec::Zstd), &[10, 40, 5]);
        let view = BatchView::parse(&bytes).expect("a batch");
        let target = Timestamp::from_millis(20);
        let found = first_at_or_after(&view, target, Offset::new(0), 10);
        assert_eq!(found, Ok(place(50, 40)));
        assert_eq!(max_timestamp_record(&view, 10), Ok(place(50, 40)));
    }

    #[test]
    fn batches_without_timestamps_have_no_latest_record() {
        let bytes = batch(BatchBuilder::new(), &[-1, -1]);
        let view = BatchView::parse(&bytes).expect("a batch");
        assert_eq!(max_timestamp_record(&view, LIMIT), Ok(None));
    }
}
