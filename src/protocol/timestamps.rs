//! Finding records by their time within one batch, for ListOffsets.
//!
//! Batches are chosen by the log, by its indexes and their `max_timestamp`; here the records
//! decide, in compressed batches too. With LogAppendTime all records of a batch have its
//! `max_timestamp`.

use crate::base::{Offset, Timestamp};
use crate::protocol::batch::BatchView;
use crate::protocol::compression::decompress;
use crate::protocol::record::Records;

/// A record's place and time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Located {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// The first record at or behind `from` whose timestamp is `target` or later
/// (`FileRecords.searchForTimestamp`).
///
/// `from` is the log's start, which may lie within a batch after DeleteRecords. A batch whose
/// records can not be read, or are compressed and of more than `size_bytes_max` bytes, is found as
/// a whole.
pub fn first_at_or_after(
    batch: &BatchView<'_>,
    target: Timestamp,
    from: Offset,
    size_bytes_max: usize,
) -> Option<Located> {
    let header = &batch.header;
    if header.max_timestamp < target.to_wire() || header.last_offset() < from.to_wire() {
        return None;
    }
    let Ok(bytes) = decompress(batch, size_bytes_max) else { return as_a_whole(batch, from) };
    for record in Records::new(&bytes, header.record_count) {
        let Ok(record) = record else { return as_a_whole(batch, from) };
        let timestamp = header.timestamp_of(&record);
        let offset = header.offset_of(&record);
        if timestamp < target.to_wire() || offset < from.to_wire() {
            continue;
        }
        if let Some(located) = located(offset, timestamp) {
            return Some(located);
        }
    }
    None
}

/// The first record that has the batch's largest timestamp (`RecordBatch.offsetOfMaxTimestamp`);
/// `None` for a batch without records or timestamps. One that can not be read is found as a whole.
///
/// When no record has the timestamp that the header names, the one with the largest counts.
pub fn max_timestamp_record(batch: &BatchView<'_>, size_bytes_max: usize) -> Option<Located> {
    let header = &batch.header;
    if header.max_timestamp < 0 {
        return None;
    }
    let whole = || as_a_whole(batch, Offset::default());
    let Ok(bytes) = decompress(batch, size_bytes_max) else { return whole() };
    let mut largest: Option<(i64, i64)> = None;
    for record in Records::new(&bytes, header.record_count) {
        let Ok(record) = record else { return whole() };
        let timestamp = header.timestamp_of(&record);
        if largest.is_none_or(|(_, known)| timestamp > known) {
            largest = Some((header.offset_of(&record), timestamp));
        }
        if timestamp == header.max_timestamp {
            return located(header.offset_of(&record), timestamp);
        }
    }
    largest.and_then(|(offset, timestamp)| located(offset, timestamp))
}

/// Where a batch is whose records are not searched, as they are too many or none: whoever reads
/// from its beginning, or from the log's start within it, misses nothing. One such batch, which a
/// producer may well send, must not hide what lies behind it.
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
    use crate::protocol::batch::HEADER_BYTES;
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
                assert_eq!(found, expected, "{codec:?}: {name}");
            }
            assert_eq!(max_timestamp_record(&view, LIMIT), place(51, 40), "{codec:?}");
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
        assert_eq!(find(60, 0), place(50, 99));
        assert_eq!(find(60, 51), place(51, 99));
        assert_eq!(find(100, 0), None);
        assert_eq!(max_timestamp_record(&view, LIMIT), place(50, 99));
    }

    #[test]
    fn a_batch_that_unpacks_to_too_much_is_found_as_a_whole() {
        let bytes = batch(BatchBuilder::new().compression(Codec::Zstd), &[10, 40, 5]);
        let view = BatchView::parse(&bytes).expect("a batch");
        let target = Timestamp::from_millis(20);
        let found = first_at_or_after(&view, target, Offset::new(0), 10);
        assert_eq!(found, place(50, 40));
        assert_eq!(max_timestamp_record(&view, 10), place(50, 40));
    }

    #[test]
    fn a_batch_that_is_nonsense_within_is_found_as_a_whole() {
        for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
            let mut bytes = batch(BatchBuilder::new().compression(codec), &[10, 40, 5]).to_vec();
            bytes[HEADER_BYTES..].fill(0xff);
            let view = BatchView::parse(&bytes).expect("a batch");
            let found =
                first_at_or_after(&view, Timestamp::from_millis(20), Offset::new(51), LIMIT);
            assert_eq!(found, place(51, 40), "{codec:?}");
            assert_eq!(max_timestamp_record(&view, LIMIT), place(50, 40), "{codec:?}");
        }
    }

    #[test]
    fn batches_without_timestamps_have_no_latest_record() {
        let bytes = batch(BatchBuilder::new(), &[-1, -1]);
        let view = BatchView::parse(&bytes).expect("a batch");
        assert_eq!(max_timestamp_record(&view, LIMIT), None);
    }
}
