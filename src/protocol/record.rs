//! The records of one batch, uncompressed: views, nothing is copied.
//!
//! | field             | form                                                           |
//! |-------------------|----------------------------------------------------------------|
//! | `length`          | zigzag varint: bytes behind this field                         |
//! | `attributes`      | one byte, unused                                               |
//! | `timestamp_delta` | zigzag varlong, to the batch's base timestamp                  |
//! | `offset_delta`    | zigzag varint, to the batch's base offset                      |
//! | `key`, `value`    | zigzag varint length, negative for null, and that many bytes   |
//! | `headers`         | zigzag varint count; each a key (never null) and a value       |
//!
//! Source: `DefaultRecord`, KIP-82 for the headers.
//!
//! Invariants: no bytes make these readers panic or allocate; a record that is handed out has been
//! walked to its end.

use std::fmt;

/// Why bytes are no records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordError {
    /// A record ends behind the bytes, or its parts do not fill it.
    Length,
    /// A varint is longer than it may be.
    Varint,
    /// The number of headers is negative, or larger than the bytes left.
    HeaderCount,
    /// A header without a key.
    HeaderKey,
    /// The batch's record count is negative.
    RecordCount,
    /// Bytes are left after as many records as the batch has.
    Leftover,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a record's length and contents do not agree",
            Self::Varint => "a number in a record is too long",
            Self::HeaderCount => "a record's number of headers can not be right",
            Self::HeaderKey => "a record header has no key",
            Self::RecordCount => "the number of records is negative",
            Self::Leftover => "bytes are left after the last record",
        })
    }
}

impl std::error::Error for RecordError {}

/// Reads varints and slices off the front of a slice.
#[derive(Clone, Copy, Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, RecordError> {
        let (first, rest) = self.0.split_first().ok_or(RecordError::Length)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An unsigned varint of at most `BYTES` bytes.
    fn varint<const BYTES: u32>(&mut self) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for at in 0..BYTES {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError::Varint)
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        // Bits above the 32nd are dropped, as in Java.
        let raw = self.varint::<5>()? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        let raw = self.varint::<10>()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(RecordError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Bytes behind their length; a negative length is null.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match usize::try_from(self.i32()?) {
            Ok(count) => self.take(count).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn header(&mut self) -> Result<HeaderView<'a>, RecordError> {
        let key_bytes = usize::try_from(self.i32()?).map_err(|_| RecordError::HeaderKey)?;
        let key = self.take(key_bytes)?;
        let value = self.nullable()?;
        Ok(HeaderView { key, value })
    }
}

/// A header of a record: an application's annotation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeaderView<'a> {
    /// Its key; text by convention. The same key may come more than once.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in their order, duplicates included.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    left: u32,
    cursor: Cursor<'a>,
}

impl Headers<'_> {
    /// How many are left.
    pub const fn left(&self) -> u32 {
        self.left
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<HeaderView<'a>> {
        self.left = self.left.checked_sub(1)?;
        // They were walked when the record was read.
        self.cursor.header().ok()
    }
}

/// One record of a batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// The unused attributes.
    pub attributes: u8,
    /// Milliseconds after the batch's base timestamp; see [`timestamp_of`].
    ///
    /// [`timestamp_of`]: crate::protocol::batch::BatchHeader::timestamp_of
    pub timestamp_delta: i64,
    /// Offsets after the batch's base offset.
    pub offset_delta: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    fn read(from: &mut Cursor<'a>) -> Result<Self, RecordError> {
        let size_bytes = usize::try_from(from.i32()?).map_err(|_| RecordError::Length)?;
        let mut body = Cursor(from.take(size_bytes)?);
        let attributes = body.byte()?;
        let timestamp_delta = body.i64()?;
        let offset_delta = body.i32()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let count = u32::try_from(body.i32()?).map_err(|_| RecordError::HeaderCount)?;
        if count as usize > body.0.len() {
            return Err(RecordError::HeaderCount);
        }
        let headers = Headers { left: count, cursor: body };
        for _ in 0..count {
            body.header()?;
        }
        if !body.0.is_empty() {
            return Err(RecordError::Length);
        }
        Ok(Self { attributes, timestamp_delta, offset_delta, key, value, headers })
    }
}

/// Iterates over the records of a batch.
///
/// The last item is an error when the bytes hold other than the stated number of records.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    left: i32,
}

impl<'a> Records<'a> {
    /// Over `record_count` records that fill `bytes`, the uncompressed payload of a batch.
    pub const fn new(bytes: &'a [u8], record_count: i32) -> Self {
        Self { cursor: Cursor(bytes), left: record_count }
    }

    fn fail(&mut self, error: RecordError) -> Option<Result<RecordView<'a>, RecordError>> {
        self.left = 0;
        Some(Err(error))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return if self.left < 0 { self.fail(RecordError::RecordCount) } else { None };
        }
        self.left -= 1;
        match RecordView::read(&mut self.cursor) {
            Ok(_) if self.left == 0 && !self.cursor.0.is_empty() => {
                self.fail(RecordError::Leftover)
            }
            Ok(record) => Some(Ok(record)),
            Err(error) => self.fail(error),
        }
    }
}

/// Types of control records (`ControlRecordType`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ControlType {
    /// A transaction was aborted.
    Abort,
    /// A transaction was committed.
    Commit,
    /// KRaft: a leader was elected.
    LeaderChange,
    /// KRaft: a snapshot begins.
    SnapshotHeader,
    /// KRaft: a snapshot ends.
    SnapshotFooter,
    /// KRaft: the version of its records.
    KraftVersion,
    /// KRaft: the voters.
    KraftVoters,
}

impl ControlType {
    /// The type of the control record with this key: version and type, two bytes each. `None` for
    /// a key that is too short, and for types of newer versions, which are to be skipped.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        match key.first_chunk::<4>()? {
            [0..=0x7f, _, 0, 0] => Some(Self::Abort),
            [0..=0x7f, _, 0, 1] => Some(Self::Commit),
            [0..=0x7f, _, 0, 2] => Some(Self::LeaderChange),
            [0..=0x7f, _, 0, 3] => Some(Self::SnapshotHeader),
            [0..=0x7f, _, 0, 4] => Some(Self::SnapshotFooter),
            [0..=0x7f, _, 0, 5] => Some(Self::KraftVersion),
            [0..=0x7f, _, 0, 6] => Some(Self::KraftVoters),
            _ => None,
        }
    }

    /// The key of a control record of this type.
    pub const fn to_key(self) -> [u8; 4] {
        [0, 0, 0, self as u8]
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Its records count.
    Committed,
    /// Its records are to be skipped.
    Aborted,
}

/// The control record that ends a transaction (`EndTxnMarker`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndMarker {
    /// How it ended.
    pub outcome: Outcome,
    /// Epoch of the coordinator that ended it.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// Reads the marker from a control record; `None` when the record is no such marker.
    pub fn from_record(record: &RecordView<'_>) -> Option<Self> {
        let outcome = match ControlType::from_key(record.key?)? {
            ControlType::Abort => Outcome::Aborted,
            ControlType::Commit => Outcome::Committed,
            ControlType::LeaderChange
            | ControlType::SnapshotHeader
            | ControlType::SnapshotFooter
            | ControlType::KraftVersion
            | ControlType::KraftVoters => return None,
        };
        match record.value?.first_chunk::<6>()? {
            // Two bytes of version, then the epoch; newer versions only add to it.
            [0..=0x7f, _, a, b, c, d] => {
                let coordinator_epoch = i32::from_be_bytes([*a, *b, *c, *d]);
                Some(Self { outcome, coordinator_epoch })
            }
            _ => None,
        }
    }

    /// The marker of a control batch, whose records are never compressed; `None` for data, an
    /// empty batch, and other control records.
    pub fn from_batch(batch: &crate::protocol::batch::BatchView<'_>) -> Option<Self> {
        if !batch.header.is_control() {
            return None;
        }
        let bytes = crate::protocol::compression::decompress(batch, CONTROL_BYTES_MAX).ok()?;
        let first = Records::new(&bytes, batch.header.record_count).next()?.ok()?;
        Self::from_record(&first)
    }

    /// The value of such a control record.
    pub fn to_value(self) -> [u8; 6] {
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }
}

/// A control batch is a few dozen bytes; what unpacks to more is none.
const CONTROL_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Offset, Timestamp};
    use crate::protocol::batch::{BatchView, Batches};
    use crate::protocol::builder::{BatchBuilder, NewRecord};
    use crate::protocol::compression::decompress;
    use kafka_protocol::records::RecordBatchDecoder;

    const OFFSETS: &[u8] =
        include_bytes!("../../tests/fixtures/disk/__consumer_offsets-0/00000000000000000000.log");

    #[test]
    fn records_are_those_another_decoder_sees() {
        let sets = RecordBatchDecoder::decode_all(&mut bytes::Bytes::from_static(OFFSETS));
        let mut others = sets.expect("decodes").into_iter().flat_map(|set| set.records);
        for batch in Batches::new(OFFSETS) {
            let batch = batch.expect("whole");
            let bytes = decompress(&batch, 1 << 20).expect("not compressed");
            for record in Records::new(&bytes, batch.header.record_count) {
                let record = record.expect("a record");
                let other = others.next().expect("as many");
                assert_eq!(batch.header.offset_of(&record), other.offset);
                assert_eq!(batch.header.timestamp_of(&record), other.timestamp);
                assert_eq!(record.key, other.key.as_deref());
                assert_eq!(record.value, other.value.as_deref());
                assert_eq!(record.headers.left() as usize, other.headers.len());
            }
        }
        assert!(others.next().is_none());
    }

    #[test]
    fn null_and_empty_differ_and_headers_keep_order_and_duplicates() {
        let headers = [
            HeaderView { key: b"a", value: Some(b"1") },
            HeaderView { key: b"", value: None },
            HeaderView { key: b"a", value: Some(b"") },
        ];
        let records = [
            NewRecord { timestamp: 5, key: None, value: Some(b"v"), headers: &headers },
            NewRecord { timestamp: 3, key: Some(b""), value: None, headers: &[] },
            NewRecord { timestamp: i64::MAX, key: Some(b"k"), value: Some(b""), headers: &[] },
        ];
        let mut builder = BatchBuilder::new();
        records.iter().for_each(|record| builder.append(record));
        let bytes = builder.build().expect("no codec");
        let batch = BatchView::parse(&bytes).expect("a batch");
        let mut read = Records::new(batch.payload(), 3);
        for expected in &records {
            let record = read.next().expect("three").expect("a record");
            assert_eq!(record.key, expected.key);
            assert_eq!(record.value, expected.value);
            assert_eq!(record.headers.collect::<Vec<_>>(), expected.headers);
            assert_eq!(batch.header.timestamp_of(&record), expected.timestamp);
        }
        assert!(read.next().is_none());
    }

    #[test]
    fn bytes_that_are_no_records_are_refused() {
        let cases: [(&str, &[u8], i32, RecordError); 9] = [
            ("nothing there", &[], 1, RecordError::Length),
            ("a negative count", &[], -1, RecordError::RecordCount),
            ("a negative length", &[1], 1, RecordError::Length),
            ("longer than the bytes", &[14, 0, 0, 0], 1, RecordError::Length),
            ("longer than its parts", &[14, 0, 0, 0, 1, 1, 0, 0], 1, RecordError::Length),
            ("a long varint", &[0xff, 0xff, 0xff, 0xff, 0xff, 1], 1, RecordError::Varint),
            ("many headers", &[14, 0, 0, 0, 1, 1, 0xfe, 1], 1, RecordError::HeaderCount),
            ("a header without key", &[16, 0, 0, 0, 1, 1, 2, 1, 1], 1, RecordError::HeaderKey),
            ("bytes behind", &[12, 0, 0, 0, 1, 1, 0, 9], 1, RecordError::Leftover),
        ];
        for (name, bytes, count, expected) in cases {
            let mut records = Records::new(bytes, count);
            assert_eq!(records.next().and_then(Result::err), Some(expected), "{name}");
            assert!(records.next().is_none(), "{name}");
        }
        assert!(Records::new(&[1, 2, 3], 0).next().is_none(), "no records are none");
    }

    #[test]
    fn end_markers_read_back_and_other_batches_have_none() {
        for outcome in [Outcome::Committed, Outcome::Aborted] {
            let marker = EndMarker { outcome, coordinator_epoch: 17 };
            let mut builder = BatchBuilder::new().control().transactional();
            builder = builder.base_offset(Offset::new(9));
            builder.append_end_marker(marker, Timestamp::from_millis(1));
            let bytes = builder.build().expect("no codec");
            let batch = BatchView::parse(&bytes).expect("a batch");
            assert_eq!(EndMarker::from_batch(&batch), Some(marker));
        }
        let mut builder = BatchBuilder::new().control();
        builder.append_control(ControlType::LeaderChange, &[0; 8], Timestamp::from_millis(1));
        let bytes = builder.build().expect("no codec");
        assert_eq!(EndMarker::from_batch(&BatchView::parse(&bytes).expect("a batch")), None);
        for cut in 0..4 {
            assert_eq!(ControlType::from_key(&[0, 0, 0, 1][..cut]), None);
        }
    }
}
