//! Batches of the metadata log and of snapshots: uncompressed, without producers or headers.
//!
//! Not here: the bytes of a batch and of its records (`protocol`).

use std::fmt;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::kraft::control::ControlRecord;
use crate::metadata::{DecodeError, Record};
use crate::protocol::batch::{self, BatchView, CODEC_MASK};
use crate::protocol::builder::{BatchBuilder, NewRecord};
use crate::protocol::record::{RecordError, RecordView, Records};

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
    /// The header is none of a batch.
    Header(batch::BatchError),
    /// The records can not be told apart.
    Records(RecordError),
    /// A record in it can not be read.
    Record(DecodeError),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a batch ends early"),
            Self::BadChecksum => f.write_str("the checksum of a batch does not match its bytes"),
            Self::Malformed(what) => write!(f, "malformed batch: {what}"),
            Self::Header(error) => error.fmt(f),
            Self::Records(error) => error.fmt(f),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BatchError {}

impl BatchError {
    /// Whether the bytes are as they were written, but what they say can not be read.
    pub fn is_as_written(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Records(_) | Self::Record(_))
    }
}

impl From<batch::BatchError> for BatchError {
    fn from(error: batch::BatchError) -> Self {
        match error {
            batch::BatchError::Truncated => Self::Truncated,
            batch::BatchError::Length { .. } | batch::BatchError::Magic { .. } => {
                Self::Header(error)
            }
        }
    }
}

impl From<RecordError> for BatchError {
    fn from(error: RecordError) -> Self {
        Self::Records(error)
    }
}

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

    /// The batch's bytes in a log of this `metadata.version` level.
    pub fn encode(&self, level: i16) -> Bytes {
        let builder = BatchBuilder::new().base_offset(self.base).leader_epoch(self.epoch);
        let timestamp = self.timestamp.to_wire();
        let builder = match &self.body {
            Body::Control(records) => {
                records.iter().fold(builder.control(), |mut builder, record| {
                    let (key, value) = record.encode();
                    let (key, value) = (Some(key.as_ref()), Some(value.as_ref()));
                    builder.append(&NewRecord { timestamp, key, value, headers: &[] });
                    builder
                })
            }
            Body::Data(records) => records.iter().fold(builder, |mut builder, record| {
                let value = record.encode(level);
                let value = Some(value.as_slice());
                builder.append(&NewRecord { timestamp, key: None, value, headers: &[] });
                builder
            }),
        };
        builder.build().expect("only compression can fail")
    }

    /// Reads the first batch of `bytes`; also says how many bytes it has.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), BatchError> {
        let view = BatchView::parse(bytes)?;
        let header = &view.header;
        if !view.is_intact() {
            return Err(BatchError::BadChecksum);
        }
        if header.attributes & CODEC_MASK != 0 {
            return Err(BatchError::Malformed("compressed"));
        }
        if header.record_count <= 0 || header.last_offset_delta != header.record_count - 1 {
            return Err(BatchError::Malformed("record count"));
        }
        let body = decode_body(&view)?;
        // Far below the last offset there is, so that ends can be counted.
        let base = Offset::from_wire(header.base_offset).filter(|base| base.get() < u64::MAX / 4);
        let base = base.ok_or(BatchError::Malformed("base offset"))?;
        let epoch = LeaderEpoch::from_wire(header.partition_leader_epoch);
        let epoch = epoch.ok_or(BatchError::Malformed("leader epoch"))?;
        let timestamp = Timestamp::from_millis(header.base_timestamp);
        Ok((Self { base, epoch, timestamp, body }, view.bytes().len()))
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

fn decode_body(view: &BatchView<'_>) -> Result<Body, BatchError> {
    let records = Records::new(view.payload(), view.header.record_count);
    if view.header.is_control() {
        let read = |record: Result<RecordView<'_>, RecordError>| {
            let record = record?;
            let key = record.key.ok_or(BatchError::Malformed("control record without a key"))?;
            Ok(ControlRecord::decode(key, record.value.unwrap_or_default())?)
        };
        return records.map(read).collect::<Result<_, BatchError>>().map(Body::Control);
    }
    let read = |record: Result<RecordView<'_>, RecordError>| {
        let record = record?;
        if record.headers.left() != 0 {
            return Err(BatchError::Malformed("record with headers"));
        }
        Ok(Record::decode(record.value.unwrap_or_default())?)
    };
    records.map(read).collect::<Result<_, BatchError>>().map(Body::Data)
}
