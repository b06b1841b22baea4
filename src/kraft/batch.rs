//! Record batches of the metadata log: uncompressed, without producers, keys or headers.
//!
//! ```text
//! |  0..8  | base offset            | 23..27 | offset of the last record, less the base  |
//! |  8..12 | length of what follows | 27..35 | timestamp of the first record             |
//! | 12..16 | leader epoch           | 35..43 | highest timestamp                         |
//! | 16     | magic, 2               | 43..57 | producer id, epoch, sequence, all -1      |
//! | 17..21 | CRC32C of all behind   | 57..61 | number of records                         |
//! | 21..23 | attributes             | 61..   | records                                   |
//! ```

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::kraft::control::ControlRecord;
use crate::metadata::codec::{Input, Wire};
use crate::metadata::{DecodeError, Record};

const HEADER_BYTES: usize = 61;
/// Bytes in front of those that the length counts.
const LENGTH_END: usize = 12;
const CRC_END: usize = 21;
const CONTROL: i16 = 1 << 5;
const COMPRESSION: i16 = 0b111;
/// Apache Kafka accepts no larger batch in the metadata log (`KafkaRaftClient`).
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// The records of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Of the quorum.
    Control(Vec<ControlRecord>),
    /// Of the cluster.
    Data(Vec<Record>),
}

/// A batch of the metadata log, or of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Offset of the first record.
    pub base: Offset,
    /// Epoch of the leader that wrote it.
    pub epoch: LeaderEpoch,
    /// When it was written.
    pub timestamp: Timestamp,
    /// Its records; at least one.
    pub body: Body,
}

/// Why bytes are no batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BatchError {
    /// The bytes end within the batch.
    Truncated,
    /// The checksum does not match: the bytes changed since they were written.
    BadChecksum,
    /// Something else is not as it must be.
    Malformed(&'static str),
    /// A record in it can not be read.
    Record(DecodeError),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a batch ends early"),
            Self::BadChecksum => f.write_str("the checksum of a batch does not match its bytes"),
            Self::Malformed(what) => write!(f, "malformed batch: {what}"),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BatchError {}

impl From<DecodeError> for BatchError {
    fn from(error: DecodeError) -> Self {
        Self::Record(error)
    }
}

impl Batch {
    /// How many records it has.
    pub fn record_count(&self) -> usize {
        match &self.body {
            Body::Control(records) => records.len(),
            Body::Data(records) => records.len(),
        }
    }

    /// The offset behind its last record.
    pub fn end(&self) -> Offset {
        self.base + self.record_count() as u64
    }

    /// The batch's bytes.
    pub fn encode(&self) -> Bytes {
        let (attributes, pairs) = match &self.body {
            Body::Control(records) => {
                let pairs = records.iter().map(ControlRecord::encode);
                (CONTROL, pairs.map(|(key, value)| (Some(key), value)).collect::<Vec<_>>())
            }
            Body::Data(records) => {
                let values = records.iter().map(|record| Bytes::from(record.encode()));
                (0, values.map(|value| (None, value)).collect())
            }
        };
        assert!(!pairs.is_empty(), "a batch has a record");
        let mut out = BytesMut::zeroed(HEADER_BYTES);
        for (index, (key, value)) in pairs.iter().enumerate() {
            put_record(index, key.as_deref(), value, &mut out);
        }
        let length = (out.len() - LENGTH_END) as i32;
        let mut header = &mut out[..HEADER_BYTES];
        header.put_i64(self.base.to_wire());
        header.put_i32(length);
        header.put_i32(self.epoch.to_wire());
        header.put_i8(2);
        header.put_u32(0);
        header.put_i16(attributes);
        header.put_i32(pairs.len() as i32 - 1);
        header.put_i64(self.timestamp.to_wire());
        header.put_i64(self.timestamp.to_wire());
        header.put_i64(-1);
        header.put_i16(-1);
        header.put_i32(-1);
        header.put_i32(pairs.len() as i32);
        let checksum = crc32c::crc32c(&out[CRC_END..]);
        out[CRC_END - 4..CRC_END].copy_from_slice(&checksum.to_be_bytes());
        out.freeze()
    }

    /// Reads the first batch of `bytes`; also says how many bytes it has.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), BatchError> {
        let length = encoded_length(bytes)?;
        let batch = bytes.get(..length).ok_or(BatchError::Truncated)?;
        let mut header = Input::new(batch);
        let base = Offset::from_wire(i64::decode(0, &mut header)?);
        let _length = i32::decode(0, &mut header)?;
        let epoch = LeaderEpoch::from_wire(i32::decode(0, &mut header)?);
        if i8::decode(0, &mut header)? != 2 {
            return Err(BatchError::Malformed("magic"));
        }
        let checksum = i32::decode(0, &mut header)? as u32;
        if crc32c::crc32c(&batch[CRC_END..]) != checksum {
            return Err(BatchError::BadChecksum);
        }
        let attributes = i16::decode(0, &mut header)?;
        if attributes & COMPRESSION != 0 {
            return Err(BatchError::Malformed("compressed"));
        }
        let last_delta = i32::decode(0, &mut header)?;
        let timestamp = Timestamp::from_millis(i64::decode(0, &mut header)?);
        header.take(8 + 8 + 2 + 4)?;
        let count = i32::decode(0, &mut header)?;
        if count <= 0 || last_delta != count - 1 {
            return Err(BatchError::Malformed("record count"));
        }
        let body = decode_body(&mut header, attributes & CONTROL != 0, count)?;
        header.finish()?;
        let base = base.filter(|base| base.get() < i64::MAX as u64 / 2);
        let base = base.ok_or(BatchError::Malformed("base offset"))?;
        let epoch = epoch.ok_or(BatchError::Malformed("leader epoch"))?;
        Ok((Self { base, epoch, timestamp, body }, length))
    }
}

/// Length of the batch at the front of `bytes`, which may be cut off behind its first 12 bytes.
pub fn encoded_length(bytes: &[u8]) -> Result<usize, BatchError> {
    let mut input = Input::new(bytes.get(8..LENGTH_END).ok_or(BatchError::Truncated)?);
    let length = i32::decode(0, &mut input)?;
    match usize::try_from(length) {
        Ok(length) if length >= HEADER_BYTES - LENGTH_END => Ok(LENGTH_END + length),
        _ => Err(BatchError::Malformed("length")),
    }
}

/// Reads all batches of `bytes`.
pub fn decode_all(mut bytes: &[u8]) -> impl Iterator<Item = Result<Batch, BatchError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match Batch::decode(bytes) {
            Ok((batch, length)) => {
                bytes = &bytes[length..];
                Some(Ok(batch))
            }
            Err(error) => {
                bytes = &[];
                Some(Err(error))
            }
        }
    })
}

fn decode_body(input: &mut Input<'_>, control: bool, count: i32) -> Result<Body, BatchError> {
    if control {
        let mut records = Vec::new();
        for _ in 0..count {
            let (key, value) = take_record(input)?;
            let key = key.ok_or(BatchError::Malformed("control record without a key"))?;
            records.push(ControlRecord::decode(key, value)?);
        }
        return Ok(Body::Control(records));
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let (_, value) = take_record(input)?;
        records.push(Record::decode(value)?);
    }
    Ok(Body::Data(records))
}

fn put_record(index: usize, key: Option<&[u8]>, value: &[u8], out: &mut BytesMut) {
    let mut body = Vec::with_capacity(value.len() + 16);
    body.push(0);
    put_varint(0, &mut body);
    put_varint(index as i64, &mut body);
    match key {
        Some(key) => {
            put_varint(key.len() as i64, &mut body);
            body.extend_from_slice(key);
        }
        None => put_varint(-1, &mut body),
    }
    put_varint(value.len() as i64, &mut body);
    body.extend_from_slice(value);
    put_varint(0, &mut body);
    let mut length = Vec::with_capacity(5);
    put_varint(body.len() as i64, &mut length);
    out.extend_from_slice(&length);
    out.extend_from_slice(&body);
}

type RawRecord<'a> = (Option<&'a [u8]>, &'a [u8]);

fn take_record<'a>(input: &mut Input<'a>) -> Result<RawRecord<'a>, BatchError> {
    let length = usize::try_from(take_varint(input)?).map_err(|_| BatchError::Truncated)?;
    let mut record = Input::new(input.take(length)?);
    record.take(1)?;
    take_varint(&mut record)?;
    take_varint(&mut record)?;
    let key = match take_varint(&mut record)? {
        length if length < 0 => None,
        length => Some(record.take(length as usize)?),
    };
    let value = usize::try_from(take_varint(&mut record)?);
    let value = record.take(value.map_err(|_| BatchError::Malformed("null value"))?)?;
    if take_varint(&mut record)? != 0 {
        return Err(BatchError::Malformed("record with headers"));
    }
    record.finish()?;
    Ok((key, value))
}

/// Appends a signed varint (zigzag).
fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take_varint(input: &mut Input<'_>) -> Result<i64, BatchError> {
    let mut raw = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = input.array()?;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    Err(BatchError::Malformed("varint"))
}
