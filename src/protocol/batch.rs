//! Record batches, format v2: the only format that clients, logs and followers exchange.
//!
//! ```text
//! bytes -> Batches -> BatchView { header, bytes } -> compression::decompress -> record::Records
//! ```
//!
//! A batch is a header of [`HEADER_BYTES`] bytes, all big-endian, and its records, which may be
//! compressed as a whole:
//!
//! | bytes  | field                    | meaning                                                 |
//! |--------|--------------------------|---------------------------------------------------------|
//! | 0..8   | `base_offset`            | offset of the first record; 0 from a producer           |
//! | 8..12  | `batch_length`           | bytes behind this field                                 |
//! | 12..16 | `partition_leader_epoch` | of the leader that appended it; -1 from a producer      |
//! | 16     | `magic`                  | 2                                                       |
//! | 17..21 | `crc`                    | CRC-32C of everything from `attributes` on              |
//! | 21..23 | `attributes`             | see the `*_BIT` constants                               |
//! | 23..27 | `last_offset_delta`      | last offset minus base offset                           |
//! | 27..35 | `base_timestamp`         | what timestamp deltas add to, or the delete horizon     |
//! | 35..43 | `max_timestamp`          | the largest timestamp; the broker's with LogAppendTime  |
//! | 43..51 | `producer_id`            | -1: not idempotent                                      |
//! | 51..53 | `producer_epoch`         | -1 without a producer id                                |
//! | 53..57 | `base_sequence`          | sequence of the first record; -1 without                |
//! | 57..61 | `record_count`           | records that follow; fewer than offsets once compacted  |
//!
//! The base offset and the leader epoch lie outside the checksum, so that a leader can set both
//! without touching the rest: [`stamp`]. Source: `DefaultRecordBatch`, KIP-98.
//!
//! Invariant: no bytes make anything here panic.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::{LeaderEpoch, Offset};
use crate::protocol::compression::Codec;
use crate::protocol::record::RecordView;

/// Bytes of a batch's header.
pub const HEADER_BYTES: usize = 61;
/// Bytes up to and including `batch_length`: what the length does not count.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;
/// Bytes up to where the magic is known.
pub const PREFIX_BYTES: usize = 17;
/// The format that this module reads.
pub const MAGIC: i8 = 2;
/// The smallest `batch_length` that Apache Kafka looks behind (`LegacyRecord.RECORD_OVERHEAD_V0`).
pub const BATCH_LENGTH_MIN: i32 = 14;
/// How many leading bytes [`stamp`] replaces.
pub const STAMP_BYTES: usize = 16;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

const _: () = assert!(LEADER_EPOCH_AT + 4 == STAMP_BYTES);
const _: () = assert!(RECORD_COUNT_AT + 4 == HEADER_BYTES);

/// Attribute bits 0..3: the codec's number.
pub const CODEC_MASK: i16 = 0x07;
/// Attribute bit 3: timestamps are the broker's (LogAppendTime).
pub const APPEND_TIME_BIT: i16 = 0x08;
/// Attribute bit 4: part of a transaction.
pub const TRANSACTIONAL_BIT: i16 = 0x10;
/// Attribute bit 5: a control batch, which no application sees.
pub const CONTROL_BIT: i16 = 0x20;
/// Attribute bit 6: `base_timestamp` is the delete horizon (KIP-534).
pub const DELETE_HORIZON_BIT: i16 = 0x40;
/// The bits with a meaning; a rewritten header keeps no others.
const KNOWN_BITS: i16 =
    CODEC_MASK | APPEND_TIME_BIT | TRANSACTIONAL_BIT | CONTROL_BIT | DELETE_HORIZON_BIT;

/// Which clock the records' timestamps are from.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum TimestampType {
    /// The producer's: each record has its own (`CreateTime`).
    #[default]
    Create,
    /// The broker's: all records of a batch have its `max_timestamp` (`LogAppendTime`).
    LogAppend,
}

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BatchError {
    /// Fewer bytes than the header or the batch's length asks for.
    Truncated,
    /// The length is too small to hold a header.
    Length {
        /// The length field.
        batch_length: i32,
    },
    /// Another format.
    Magic {
        /// The magic byte.
        magic: i8,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the batch is cut off"),
            Self::Length { batch_length } => {
                write!(f, "a batch can not have a length of {batch_length}")
            }
            Self::Magic { magic } => write!(f, "record format {magic} is not supported"),
        }
    }
}

impl std::error::Error for BatchError {}

/// A parsed copy of a batch's header. Numbers are as on the wire; the accessors give them meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes behind the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; -1 from a producer.
    pub partition_leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas add to, in milliseconds; the delete horizon if that flag
    /// is set.
    pub base_timestamp: i64,
    /// The largest timestamp in milliseconds; -1 if there is none.
    pub max_timestamp: i64,
    /// Id of an idempotent producer; -1 for none.
    pub producer_id: i64,
    /// Epoch of the producer; -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record; -1 for none.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

impl BatchHeader {
    /// Parses the header at the start of `bytes`, which may end anywhere behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(whole_batch_bytes(bytes).err().unwrap_or(BatchError::Truncated));
        };
        let header = Self {
            base_offset: i64::from_be_bytes(array(raw, 0)),
            batch_length: i32::from_be_bytes(array(raw, LENGTH_AT)),
            partition_leader_epoch: i32::from_be_bytes(array(raw, LEADER_EPOCH_AT)),
            crc: u32::from_be_bytes(array(raw, CRC_AT)),
            attributes: i16::from_be_bytes(array(raw, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(raw, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(array(raw, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(array(raw, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(array(raw, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(array(raw, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(array(raw, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(array(raw, RECORD_COUNT_AT)),
        };
        let magic = raw[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        if header.batch_length < (HEADER_BYTES - LENGTH_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::Length { batch_length: header.batch_length });
        }
        Ok(header)
    }

    /// Writes the header, with its `crc` as it is, over the start of `to`; `to` must hold
    /// [`HEADER_BYTES`].
    pub fn write(&self, to: &mut [u8]) {
        let mut to = &mut to[..HEADER_BYTES];
        to.put_i64(self.base_offset);
        to.put_i32(self.batch_length);
        to.put_i32(self.partition_leader_epoch);
        to.put_i8(MAGIC);
        to.put_u32(self.crc);
        to.put_i16(self.attributes);
        to.put_i32(self.last_offset_delta);
        to.put_i64(self.base_timestamp);
        to.put_i64(self.max_timestamp);
        to.put_i64(self.producer_id);
        to.put_i16(self.producer_epoch);
        to.put_i32(self.base_sequence);
        to.put_i32(self.record_count);
    }

    /// Bytes of the whole batch, its header included.
    pub const fn size_bytes(&self) -> usize {
        LENGTH_OVERHEAD_BYTES + self.batch_length as usize
    }

    /// Offset of the last record, as on the wire. Saturates, for headers nobody has checked.
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// The offset behind the batch, as on the wire.
    pub const fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence of the last record: after `i32::MAX` follows 0. -1 without sequences.
    pub const fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            -1 => -1,
            base => sequence_after(base, self.last_offset_delta),
        }
    }

    /// The codec; the number itself if no codec has it.
    pub const fn codec(&self) -> Result<Codec, u8> {
        let number = (self.attributes & CODEC_MASK) as u8;
        match Codec::from_number(number) {
            Some(codec) => Ok(codec),
            None => Err(number),
        }
    }

    /// Whose clock the timestamps are from.
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & APPEND_TIME_BIT == 0 {
            TimestampType::Create
        } else {
            TimestampType::LogAppend
        }
    }

    /// Whether the batch is part of a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether it holds control records.
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When the cleaner may drop tombstones and markers, in milliseconds (KIP-534).
    pub const fn delete_horizon_ms(&self) -> Option<i64> {
        if self.attributes & DELETE_HORIZON_BIT == 0 { None } else { Some(self.base_timestamp) }
    }

    /// The producer's id, if it is an idempotent one.
    pub const fn producer(&self) -> Option<i64> {
        if self.producer_id < 0 { None } else { Some(self.producer_id) }
    }

    /// The timestamp of one of the batch's records, in milliseconds; -1 if it has none.
    pub const fn timestamp_of(&self, record: &RecordView<'_>) -> i64 {
        match self.timestamp_type() {
            TimestampType::Create => self.base_timestamp.wrapping_add(record.timestamp_delta),
            TimestampType::LogAppend => self.max_timestamp,
        }
    }

    /// The offset of one of the batch's records, as on the wire.
    pub const fn offset_of(&self, record: &RecordView<'_>) -> i64 {
        self.base_offset.saturating_add(record.offset_delta as i64)
    }
}

/// The sequence `count` records after `sequence`; after `i32::MAX` follows 0.
pub const fn sequence_after(sequence: i32, count: i32) -> i32 {
    if sequence > i32::MAX.wrapping_sub(count) {
        count.wrapping_sub(i32::MAX.wrapping_sub(sequence)).wrapping_sub(1)
    } else {
        sequence.wrapping_add(count)
    }
}

/// The sequence `count` records before `sequence`; before 0 lies `i32::MAX`.
pub const fn sequence_before(sequence: i32, count: i32) -> i32 {
    if sequence < count {
        i32::MAX.wrapping_sub(count.wrapping_sub(sequence)).wrapping_add(1)
    } else {
        sequence.wrapping_sub(count)
    }
}

/// Bytes of the batch that begins `bytes`, by its length field; it may be cut off.
///
/// Looks only at length and magic. `Truncated` when not even these are there.
pub fn whole_batch_bytes(bytes: &[u8]) -> Result<usize, BatchError> {
    let Some(prefix) = bytes.first_chunk::<LENGTH_OVERHEAD_BYTES>() else {
        return Err(BatchError::Truncated);
    };
    let length = [prefix[8], prefix[9], prefix[10], prefix[11]];
    let batch_length = i32::from_be_bytes(length);
    if batch_length < BATCH_LENGTH_MIN {
        return Err(BatchError::Length { batch_length });
    }
    let Some(magic) = bytes.get(MAGIC_AT) else { return Err(BatchError::Truncated) };
    let magic = *magic as i8;
    if !(0..=MAGIC).contains(&magic) {
        return Err(BatchError::Magic { magic });
    }
    Ok(LENGTH_OVERHEAD_BYTES + batch_length as usize)
}

/// One whole batch in a slice: no more and no fewer bytes than its length says.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// The parsed header.
    pub header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`; what follows it is left out.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let bytes = bytes.get(..header.size_bytes()).ok_or(BatchError::Truncated)?;
        Ok(Self { header, bytes })
    }

    /// The batch's bytes, header included.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: the records, or their compressed form.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The checksum the bytes have.
    pub fn checksum(&self) -> u32 {
        crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..])
    }

    /// Whether the stored checksum is right.
    pub fn is_intact(&self) -> bool {
        self.header.crc == self.checksum()
    }
}

/// Iterates over the whole batches at the start of a slice.
///
/// Ends at a cut-off tail; a header that can not be one is an error, and the last item.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Over the batches of `bytes`, which begins with one.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, failed: false }
    }

    /// How many bytes the batches seen so far take.
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if self.failed || rest.is_empty() {
            return None;
        }
        let parsed = match whole_batch_bytes(rest) {
            Ok(size_bytes) if size_bytes > rest.len() => Err(BatchError::Truncated),
            Ok(_) => BatchView::parse(rest),
            Err(error) => Err(error),
        };
        match parsed {
            Ok(batch) => {
                self.position += batch.bytes.len();
                Some(Ok(batch))
            }
            Err(BatchError::Truncated) => {
                self.failed = true;
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// Gives a batch its place in the log: a fresh prefix with base offset and leader epoch, and the
/// rest of the batch, shared. Both together are the batch as it goes to disk.
///
/// Panics when `batch` is shorter than [`STAMP_BYTES`]; a validated batch is not.
pub fn stamp(batch: &Bytes, base_offset: Offset, epoch: LeaderEpoch) -> [Bytes; 2] {
    let mut prefix = BytesMut::with_capacity(STAMP_BYTES);
    prefix.put_i64(base_offset.to_wire());
    prefix.extend_from_slice(&batch[LENGTH_AT..LEADER_EPOCH_AT]);
    prefix.put_i32(epoch.to_wire());
    [prefix.freeze(), batch.slice(STAMP_BYTES..)]
}

/// A copy of an intact batch with other attributes and another largest timestamp, and the checksum
/// that goes with them. Attribute bits without a meaning are dropped.
pub(super) fn with_timestamps(
    batch: &BatchView<'_>,
    timestamp_type: TimestampType,
    max_timestamp: i64,
) -> (BatchHeader, Bytes) {
    let mut header = batch.header;
    header.attributes &= KNOWN_BITS & !APPEND_TIME_BIT;
    if timestamp_type == TimestampType::LogAppend {
        header.attributes |= APPEND_TIME_BIT;
    }
    header.max_timestamp = max_timestamp;
    let mut bytes = batch.bytes.to_vec();
    seal(&mut header, &mut bytes);
    (header, bytes.into())
}

/// Sets `header`'s length and checksum to what fits `batch`, and writes it at the start of `batch`.
pub(super) fn seal(header: &mut BatchHeader, batch: &mut [u8]) {
    header.batch_length = (batch.len() - LENGTH_OVERHEAD_BYTES) as i32;
    header.write(batch);
    header.crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&header.crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::decompress;
    use crate::protocol::record::Records;

    /// Logs as Apache Kafka wrote them.
    const LOGS: [(&str, &[u8]); 4] = [
        ("t1-1", include_bytes!("../../tests/fixtures/disk/t1-1/00000000000000000000.log")),
        ("t2-1", include_bytes!("../../tests/fixtures/disk/t2-1/00000000000000000000.log")),
        (
            "__consumer_offsets-0",
            include_bytes!(
                "../../tests/fixtures/disk/__consumer_offsets-0/00000000000000000000.log"
            ),
        ),
        (
            "__transaction_state-0",
            include_bytes!(
                "../../tests/fixtures/disk/__transaction_state-0/00000000000000000000.log"
            ),
        ),
    ];

    #[test]
    fn batches_written_by_apache_kafka_read_back() {
        for (name, log) in LOGS {
            let mut batches = Batches::new(log);
            let mut next_offset = 0;
            let mut record_count = 0;
            for batch in &mut batches {
                let batch = batch.expect(name);
                let header = batch.header;
                assert!(batch.is_intact(), "{name} at {}", header.base_offset);
                assert_eq!(header.base_offset, next_offset, "{name}");
                next_offset = header.next_offset();
                let mut written = vec![0; HEADER_BYTES];
                header.write(&mut written);
                assert_eq!(written, &batch.bytes()[..HEADER_BYTES], "{name}");

                let bytes = decompress(&batch, 1 << 20).expect(name);
                for (index, record) in Records::new(&bytes, header.record_count).enumerate() {
                    assert_eq!(record.expect(name).offset_delta as usize, index, "{name}");
                    record_count += 1;
                }
            }
            assert_eq!(batches.position(), log.len(), "{name}");
            assert_eq!(record_count, next_offset, "{name}");
        }
    }

    #[test]
    fn iteration_stops_at_a_cut_off_tail_and_at_no_batch() {
        let (_, log) = LOGS[0];
        let mut ends: Vec<usize> = vec![0];
        let mut batches = Batches::new(log);
        while let Some(Ok(_)) = batches.next() {
            ends.push(batches.position());
        }
        for cut in 0..log.len() {
            let mut batches = Batches::new(&log[..cut]);
            assert!(batches.by_ref().all(|batch| batch.is_ok()), "cut at {cut}");
            let whole = ends.iter().rev().find(|end| **end <= cut);
            assert_eq!(Some(&batches.position()), whole, "cut at {cut}");
        }
        let cases: [(&str, usize, &[u8], BatchError); 4] = [
            ("length 0", LENGTH_AT, &[0; 4], BatchError::Length { batch_length: 0 }),
            ("negative", LENGTH_AT, &[0xff; 4], BatchError::Length { batch_length: -1 }),
            ("short", LENGTH_AT, &[0, 0, 0, 48], BatchError::Length { batch_length: 48 }),
            ("magic 3", MAGIC_AT, &[3], BatchError::Magic { magic: 3 }),
        ];
        for (name, at, bytes, expected) in cases {
            let mut damaged = log[..ends[2]].to_vec();
            damaged[ends[1] + at..][..bytes.len()].copy_from_slice(bytes);
            let mut batches = Batches::new(&damaged);
            assert!(batches.next().is_some_and(|batch| batch.is_ok()), "{name}");
            assert_eq!(batches.next().and_then(Result::err), Some(expected), "{name}");
            assert!(batches.next().is_none(), "{name}");
            assert_eq!(batches.position(), ends[1], "{name}");
        }
    }

    #[test]
    fn a_stamped_batch_has_its_place_and_keeps_its_checksum() {
        let (_, log) = LOGS[0];
        let size_bytes = whole_batch_bytes(log).expect("whole");
        let batch = Bytes::from_static(log).slice(..size_bytes);
        let parts = stamp(&batch, Offset::new(7_000_000_000), LeaderEpoch::new(12));
        assert_eq!(parts[0].len(), STAMP_BYTES);
        assert_eq!(parts[1].as_ptr(), batch[STAMP_BYTES..].as_ptr(), "the rest is shared");
        let stamped = parts.concat();
        let stamped = BatchView::parse(&stamped).expect("a batch");
        assert!(stamped.is_intact());
        assert_eq!(stamped.header.base_offset, 7_000_000_000);
        assert_eq!(stamped.header.partition_leader_epoch, 12);
        assert_eq!(&stamped.bytes()[STAMP_BYTES..], &batch[STAMP_BYTES..]);
    }

    #[test]
    fn sequences_wrap_behind_the_largest_number() {
        const MAX: i32 = i32::MAX;
        let cases = [(0, 0, 0), (0, 4, 4), (MAX - 1, 1, MAX), (MAX, 1, 0), (MAX - 2, 5, 2)];
        for (first, count, last) in cases {
            assert_eq!(sequence_after(first, count), last, "{first} + {count}");
            assert_eq!(sequence_before(last, count), first, "{last} - {count}");
        }
        // Numbers that no producer sends must not panic either.
        for odd in [i32::MIN, -1, 0, 1, MAX] {
            for count in [i32::MIN, -1, 0, 1, MAX] {
                sequence_after(odd, count);
                sequence_before(odd, count);
            }
        }
    }
}
