//! Writes record batches: for the command line's producer, the metadata log, recompression, tests.
//!
//! Records are encoded as they come; [`BatchBuilder::build`] compresses them as a whole and puts
//! the header in front. Source: `MemoryRecordsBuilder`.

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::protocol::batch::{
    APPEND_TIME_BIT, BatchHeader, CONTROL_BIT, HEADER_BYTES, TRANSACTIONAL_BIT, seal,
};
use crate::protocol::compression::{Codec, Compression, compress};
use crate::protocol::record::{ControlType, EndMarker, HeaderView, Outcome, RecordView};

/// A record to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [HeaderView<'a>],
}

/// The idempotent producer that a batch is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerStamp {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record; -1 for control batches and coordinators.
    pub base_sequence: i32,
}

/// Collects the records of one batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    append_time: Option<Timestamp>,
    /// Uncompressed, with room for the header in front.
    bytes: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch as a plain producer sends it: base offset 0, no leader epoch, no producer id, not
    /// compressed, the records' own timestamps.
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self {
            header,
            compression: Compression::default(),
            append_time: None,
            bytes: vec![0; HEADER_BYTES],
        }
    }

    /// Compresses the records.
    #[must_use]
    pub fn compression(mut self, compression: impl Into<Compression>) -> Self {
        self.compression = compression.into();
        self
    }

    /// Sets the offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.header.base_offset = offset.to_wire();
        self
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header.partition_leader_epoch = epoch.to_wire();
        self
    }

    /// Names the producer.
    #[must_use]
    pub fn producer(mut self, producer: ProducerStamp) -> Self {
        self.header.producer_id = producer.id;
        self.header.producer_epoch = producer.epoch;
        self.header.base_sequence = producer.base_sequence;
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes it a control batch.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.header.attributes |= CONTROL_BIT;
        self
    }

    /// Gives all records the broker's time. Their own times stay in the bytes, unused.
    #[must_use]
    pub fn append_time(mut self, now: Timestamp) -> Self {
        self.header.attributes |= APPEND_TIME_BIT;
        self.append_time = Some(now);
        self
    }

    /// How many records there are.
    pub const fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Bytes of the batch so far, without compression.
    pub const fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record at the next offset.
    pub fn append(&mut self, record: &NewRecord<'_>) {
        self.append_at(self.header.last_offset_delta + 1, record);
    }

    /// Adds a record at `offset_delta` behind the base offset, which must grow: for batches that
    /// compaction has thinned.
    pub fn append_at(&mut self, offset_delta: i32, record: &NewRecord<'_>) {
        assert!(offset_delta > self.header.last_offset_delta, "offsets grow");
        self.count(offset_delta, record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(self.header.base_timestamp);
        let start = self.bytes.len();
        put_start(&mut self.bytes, timestamp_delta, offset_delta, record.key, record.value);
        put_varint(&mut self.bytes, record.headers.len() as i64);
        for header in record.headers {
            put_header(&mut self.bytes, header);
        }
        close_record(&mut self.bytes, start);
    }

    /// Adds a record read from another batch, at the next offset.
    pub(super) fn append_view(&mut self, record: &RecordView<'_>, timestamp: i64) {
        let offset_delta = self.header.last_offset_delta + 1;
        self.count(offset_delta, timestamp);
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        let start = self.bytes.len();
        put_start(&mut self.bytes, timestamp_delta, offset_delta, record.key, record.value);
        put_varint(&mut self.bytes, i64::from(record.headers.left()));
        for header in record.headers {
            put_header(&mut self.bytes, &header);
        }
        close_record(&mut self.bytes, start);
    }

    /// Adds a control record with this value.
    pub fn append_control(&mut self, kind: ControlType, value: &[u8], timestamp: Timestamp) {
        let key = kind.to_key();
        self.append(&NewRecord {
            timestamp: timestamp.to_wire(),
            key: Some(&key),
            value: Some(value),
            headers: &[],
        });
    }

    /// Adds the marker that ends a transaction.
    pub fn append_end_marker(&mut self, marker: EndMarker, timestamp: Timestamp) {
        let kind = match marker.outcome {
            Outcome::Committed => ControlType::Commit,
            Outcome::Aborted => ControlType::Abort,
        };
        self.append_control(kind, &marker.to_value(), timestamp);
    }

    fn count(&mut self, offset_delta: i32, timestamp: i64) {
        if self.header.record_count == 0 {
            self.header.base_timestamp = timestamp;
        }
        self.header.record_count += 1;
        self.header.last_offset_delta = offset_delta;
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
    }

    /// The batch. A batch without records has its last offset before its base: producers and logs
    /// have no use for it.
    ///
    /// An error is a compression level that the codec does not have.
    pub fn build(self) -> std::io::Result<Bytes> {
        self.build_with_header().map(|(_, bytes)| bytes)
    }

    /// The batch, and its header.
    pub fn build_with_header(self) -> std::io::Result<(BatchHeader, Bytes)> {
        let Self { mut header, compression, append_time, mut bytes } = self;
        header.attributes |= compression.codec as i16;
        if let Some(now) = append_time {
            header.max_timestamp = now.to_wire();
        }
        if compression.codec != Codec::None {
            let mut compressed = Vec::with_capacity(HEADER_BYTES + bytes.len() / 2);
            compressed.resize(HEADER_BYTES, 0);
            compress(compression, &bytes[HEADER_BYTES..], &mut compressed)?;
            bytes = compressed;
        }
        seal(&mut header, &mut bytes);
        Ok((header, bytes.into()))
    }
}

/// Bytes that a record's length takes up at most.
const LENGTH_BYTES_MAX: usize = 5;

/// Everything up to the headers, behind room for the length.
fn put_start(
    to: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) {
    to.extend_from_slice(&[0; LENGTH_BYTES_MAX]);
    to.push(0);
    put_varint(to, timestamp_delta);
    put_varint(to, i64::from(offset_delta));
    put_nullable(to, key);
    put_nullable(to, value);
}

fn put_header(to: &mut Vec<u8>, header: &HeaderView<'_>) {
    put_nullable(to, Some(header.key));
    put_nullable(to, header.value);
}

/// Puts the length in front of the record that was written at `start`, and closes the gap.
fn close_record(bytes: &mut Vec<u8>, start: usize) {
    let body_start = start + LENGTH_BYTES_MAX;
    let body_bytes = bytes.len() - body_start;
    let (length, length_bytes) = encode_varint(body_bytes as i64);
    bytes[start..start + length_bytes].copy_from_slice(&length[..length_bytes]);
    bytes.copy_within(body_start.., start + length_bytes);
    bytes.truncate(start + length_bytes + body_bytes);
}

fn put_nullable(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(to, bytes.len() as i64);
            to.extend_from_slice(bytes);
        }
        None => put_varint(to, -1),
    }
}

fn put_varint(to: &mut Vec<u8>, value: i64) {
    let (bytes, count) = encode_varint(value);
    to.extend_from_slice(&bytes[..count]);
}

/// A zigzag varint, and how many bytes of the array it takes.
fn encode_varint(value: i64) -> ([u8; 10], usize) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = [0; 10];
    let mut count = 0;
    while raw >= 0x80 {
        bytes[count] = raw as u8 | 0x80;
        raw >>= 7;
        count += 1;
    }
    bytes[count] = raw as u8;
    (bytes, count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch::{BatchView, TimestampType};
    use crate::protocol::compression::decompress;
    use crate::protocol::record::Records;

    /// As `tests/fixtures/batches/Batches.java` wrote them with Apache Kafka's classes.
    const BATCHES: [(Codec, &[u8]); 4] = [
        (Codec::Gzip, include_bytes!("../../tests/fixtures/batches/gzip.bin")),
        (Codec::Snappy, include_bytes!("../../tests/fixtures/batches/snappy.bin")),
        (Codec::Lz4, include_bytes!("../../tests/fixtures/batches/lz4.bin")),
        (Codec::Zstd, include_bytes!("../../tests/fixtures/batches/zstd.bin")),
    ];

    /// The batch of `Batches.java`, by this builder.
    fn build_sample(codec: Codec) -> Bytes {
        let producer = ProducerStamp { id: 4_000, epoch: 3, base_sequence: 70 };
        let mut builder = BatchBuilder::new().compression(codec).producer(producer);
        for i in 0..24 {
            let key = format!("key-{i}");
            let value = format!("value-{i};").repeat(400);
            let number = i.to_string();
            let headers = [
                HeaderView { key: b"h", value: Some(number.as_bytes()) },
                HeaderView { key: b"h", value: None },
            ];
            builder.append(&NewRecord {
                timestamp: 1_700_000_000_000 + i * 10 + if i == 20 { 1_000_000 } else { 0 },
                key: (i % 5 != 0).then_some(key.as_bytes()),
                value: (i % 7 != 3).then_some(value.as_bytes()),
                headers: &headers[..i as usize % 3],
            });
        }
        builder.build().expect("builds")
    }

    #[test]
    fn batches_hold_what_apache_kafkas_hold() {
        let plain = build_sample(Codec::None);
        let plain = BatchView::parse(&plain).expect("a batch");
        for (codec, bytes) in BATCHES {
            let ours = build_sample(codec);
            let ours = BatchView::parse(&ours).expect("a batch");
            let theirs = BatchView::parse(bytes).expect("a batch");
            for batch in [ours, theirs] {
                assert!(batch.is_intact(), "{codec:?}");
                assert_eq!(batch.header.codec(), Ok(codec));
                let payload = decompress(&batch, 1 << 20).expect("decompresses");
                assert!(*payload == *plain.payload(), "{codec:?}");
            }
            let same = crate::protocol::batch::BatchHeader {
                crc: theirs.header.crc,
                batch_length: theirs.header.batch_length,
                ..ours.header
            };
            assert_eq!(same, theirs.header, "{codec:?}");
        }
    }

    #[test]
    fn thinned_batches_keep_their_offsets_and_append_time_their_records_times() {
        let mut builder = BatchBuilder::new()
            .base_offset(Offset::new(100))
            .append_time(Timestamp::from_millis(77));
        for (offset_delta, timestamp) in [(3, 9), (4, 7), (900, 8)] {
            let record = NewRecord { timestamp, ..NewRecord::default() };
            builder.append_at(offset_delta, &record);
        }
        let bytes = builder.build().expect("no codec");
        let batch = BatchView::parse(&bytes).expect("a batch");
        let header = batch.header;
        assert_eq!((header.last_offset(), header.record_count), (1000, 3));
        assert_eq!((header.base_timestamp, header.max_timestamp), (9, 77));
        assert_eq!(header.timestamp_type(), TimestampType::LogAppend);
        let places = Records::new(batch.payload(), 3).map(|record| {
            let record = record.expect("a record");
            (header.offset_of(&record), header.timestamp_of(&record), record.timestamp_delta)
        });
        assert_eq!(places.collect::<Vec<_>>(), [(103, 77, 0), (104, 77, -2), (1000, 77, -1)]);
    }
}
