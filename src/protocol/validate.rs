//! What a leader checks about a batch from a producer, and how it may rewrite it.
//!
//! ```text
//! bytes -> exactly one batch, magic 2          shape      InvalidRecord
//!       -> base offset, size, CRC, codec       envelope   InvalidRecord, MessageTooLarge, Corrupt
//!       -> counts, control bit, sequence       header     InvalidRecord
//!       -> each record: key, timestamp         records    with the refused records' indexes
//!       -> the topic's codec and clock         rewriting
//! ```
//!
//! The order and the outcomes are those of Apache Kafka (`ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`). Sequences are checked against what the
//! partition remembers elsewhere (`partition::producers`).
//!
//! Differences from Apache Kafka, on purpose:
//! - A compressed batch that can stay as it is (the topic keeps the producer's codec) is not
//!   decompressed to check its records: header and checksum are trusted, the largest timestamp
//!   included. It is decompressed when the topic is compacted (keys), when
//!   `message.timestamp.before.max.ms` is set, and when the header itself gives rise to doubt.
//! - Uncompressed records whose offset deltas are not 0, 1, 2, ... are renumbered, as Kafka does
//!   with compressed ones; Kafka stores them as they are.
//! - Bytes that do not begin like a batch are refused for their partition; Kafka then refuses all
//!   partitions of the request.
//! - At most [`RECORD_ERROR_COUNT_MAX`] refused records of a request are listed, and a batch that
//!   unpacks to more than [`Rules::unpacked_bytes_max`] leaves for it is refused.
//!
//! Invariant: the ordinary batch, uncompressed and with the producer's timestamps, is walked once
//! and passed on as it came: nothing is copied or allocated.

use std::borrow::Cow;

use bytes::Bytes;

use crate::base::Timestamp;
use crate::protocol::ErrorCode;
use crate::protocol::batch::{
    BatchError, BatchHeader, BatchView, MAGIC, TimestampType, whole_batch_bytes, with_timestamps,
};
use crate::protocol::builder::{BatchBuilder, ProducerStamp};
use crate::protocol::compression::{Codec, Compression, DecompressError, decompress};
use crate::protocol::record::{RecordError, Records};

/// Refused records named in an answer, at most; the rest is counted.
pub const RECORD_ERROR_COUNT_MAX: usize = 1_000;

/// Uncompressed bytes of a batch that has to be looked into, at most, with any [`Rules`].
pub const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// The part of what is left for a request's batches that one counts for that breaks off.
const DAMAGED_PART: usize = 4;

/// The first Produce version that may carry zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// What a topic and a request ask of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Version of the Produce request.
    pub produce_version: i16,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far in the past a timestamp may lie; `i64::MAX` for
    /// any.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far in the future.
    pub timestamp_after_max_ms: i64,
    /// `compression.type` with the codec's level; `None` keeps the producer's.
    pub compression: Option<Compression>,
    /// Whether `cleanup.policy` has `compact`: records then need keys.
    pub compacted: bool,
    /// `max.message.bytes`.
    pub batch_bytes_max: u32,
    /// `segment.bytes`.
    pub segment_bytes_max: u32,
    /// Uncompressed bytes of all batches of a request that have to be looked into, at most.
    pub unpacked_bytes_max: usize,
}

/// A batch that may be appended.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The header of `bytes`; base offset and leader epoch are still the producer's.
    pub header: BatchHeader,
    /// The batch: the producer's bytes, or what they were rewritten to.
    pub bytes: Bytes,
    /// The time of the append, where the topic's timestamps are the broker's.
    pub append_time: Option<Timestamp>,
    /// The offset delta that goes with the largest timestamp into the time index: the last one, as
    /// Kafka's index knows batches, not records (`LogSegment.append`).
    pub max_timestamp_offset_delta: i32,
    /// Whether `bytes` are other than the producer's.
    pub rewritten: bool,
}

/// The kind of refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Bytes, lengths or checksum are damaged; clients send the batch again.
    Corrupt,
    /// The batch or its records break a rule.
    InvalidRecord,
    /// The codec needs a newer Produce version.
    UnsupportedCompression,
    /// A timestamp lies outside of the window.
    InvalidTimestamp,
    /// Larger than `max.message.bytes`.
    MessageTooLarge,
    /// Larger than `segment.bytes`.
    RecordListTooLarge,
    /// A codec nobody knows, or records that do not decompress: Kafka has no code for these.
    Unreadable,
}

impl From<Reason> for ErrorCode {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Corrupt => Self::CorruptMessage,
            Reason::InvalidRecord => Self::InvalidRecord,
            Reason::UnsupportedCompression => Self::UnsupportedCompressionType,
            Reason::InvalidTimestamp => Self::InvalidTimestamp,
            Reason::MessageTooLarge => Self::MessageTooLarge,
            Reason::RecordListTooLarge => Self::RecordListTooLarge,
            Reason::Unreadable => Self::UnknownServerError,
        }
    }
}

/// A record that was refused (KIP-467).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefusedRecord {
    /// Its place in the batch, from 0 on.
    pub batch_index: i32,
    /// Why.
    pub message: Option<String>,
}

/// A batch that may not be appended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The sentence for the client; as in Kafka only when records are named, or when the bytes do
    /// not even begin like a batch.
    pub message: Option<String>,
    /// The records that are at fault, if it is single ones.
    pub record_errors: Vec<RefusedRecord>,
    /// Whether the answer tells the log's start: Kafka does for what it finds while appending.
    pub names_log_start: bool,
}

impl Refused {
    /// A refusal of the request's bytes, or of the batch as a whole.
    fn early(reason: Reason) -> Self {
        Self { reason, message: None, record_errors: Vec::new(), names_log_start: false }
    }

    /// A refusal from within the append.
    fn late(reason: Reason) -> Self {
        Self { names_log_start: true, ..Self::early(reason) }
    }
}

impl From<DecompressError> for Refused {
    fn from(error: DecompressError) -> Self {
        match error {
            DecompressError::UnknownCodec(_) | DecompressError::Damaged => {
                Self::late(Reason::Unreadable)
            }
            DecompressError::TooLarge { .. } => Self::early(Reason::MessageTooLarge),
        }
    }
}

/// Whether the records claim to be part of a transaction, as far as their header can be read.
pub fn claims_transaction(records: &[u8]) -> bool {
    BatchHeader::parse(records).is_ok_and(|header| header.is_transactional())
}

/// What the batches of one request have come to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spent {
    /// Bytes that its compressed batches were unpacked to.
    pub unpacked_bytes: usize,
    /// Refused records that its answer lists.
    pub record_error_count: usize,
}

/// Checks the records of one partition of a Produce request; see the module's header.
///
/// Null records are the same as none. Bytes behind the batch that are no whole batch are dropped,
/// as Kafka does.
///
/// `spent` counts what the request's batches came to so far: a few kilobytes may be unpacked to
/// hundreds of megabytes, or be refused in a thousand words, and a request may hold thousands of
/// them.
pub fn producer_batches(
    records: &Bytes,
    rules: &Rules,
    now: Timestamp,
    spent: &mut Spent,
) -> Result<Validated, Refused> {
    let size_bytes = only_batch(records, rules.produce_version)?;
    let bytes = records.slice(..size_bytes);
    let batch = check_envelope(&bytes, rules)?;
    let source = batch.header.codec().map_err(|_| Refused::late(Reason::Unreadable))?;
    check_header(&batch.header)?;

    let target = rules.compression.unwrap_or_else(|| source.into());
    let fate = decide(&batch, source, target.codec, rules, now, spent)?;
    let (header, bytes, rewritten) = match fate {
        Fate::Rebuild { payload } => {
            let (header, bytes) = rebuild(&batch.header, &payload, target, rules, now)?;
            if bytes.len() > rules.batch_bytes_max as usize {
                return Err(Refused::early(Reason::MessageTooLarge));
            }
            (header, bytes, true)
        }
        Fate::Keep { max_timestamp } => {
            let max_timestamp = match rules.timestamp_type {
                TimestampType::Create => max_timestamp,
                TimestampType::LogAppend => now.to_wire(),
            };
            let known = (batch.header.timestamp_type(), batch.header.max_timestamp);
            if known == (rules.timestamp_type, max_timestamp) {
                (batch.header, bytes, false)
            } else {
                let (header, bytes) = with_timestamps(&batch, rules.timestamp_type, max_timestamp);
                (header, bytes, true)
            }
        }
    };
    if bytes.len() > rules.segment_bytes_max as usize {
        return Err(Refused::early(Reason::RecordListTooLarge));
    }
    Ok(Validated {
        header,
        bytes,
        append_time: (rules.timestamp_type == TimestampType::LogAppend).then_some(now),
        max_timestamp_offset_delta: header.last_offset_delta,
        rewritten,
    })
}

/// The size of the one batch that `records` begins with.
fn only_batch(records: &[u8], produce_version: i16) -> Result<usize, Refused> {
    let size_bytes = match next_batch(records) {
        Ok(Some(size_bytes)) => size_bytes,
        Ok(None) => return Err(Refused::early(Reason::InvalidRecord)),
        Err(error) => {
            let message = Some(error.to_string());
            return Err(Refused { message, ..Refused::early(Reason::Corrupt) });
        }
    };
    if size_bytes > i32::MAX as usize {
        // More than a Java buffer holds: Apache Kafka fails on it.
        return Err(Refused::early(Reason::Unreadable));
    }
    if size_bytes > records.len() {
        return Err(Refused::early(Reason::InvalidRecord));
    }
    // The smallest batch reaches behind magic and attributes: `BATCH_LENGTH_MIN`.
    let (magic, attributes) = (records[16], records[22]);
    if magic as i8 != MAGIC {
        return Err(Refused::early(Reason::InvalidRecord));
    }
    if produce_version < ZSTD_VERSION_MIN && attributes & 0x07 == Codec::Zstd as u8 {
        return Err(Refused::early(Reason::UnsupportedCompression));
    }
    let behind = &records[size_bytes..];
    match next_batch(behind) {
        Ok(Some(size_bytes)) if size_bytes <= behind.len() => {
            Err(Refused::early(Reason::InvalidRecord))
        }
        Ok(_) => Ok(size_bytes),
        Err(_) => Err(Refused::early(Reason::Corrupt)),
    }
}

/// The size of the batch that begins `bytes`, whole or not; `None` when not even that is there.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
    match whole_batch_bytes(bytes) {
        Ok(size_bytes) => Ok(Some(size_bytes)),
        Err(BatchError::Truncated) => Ok(None),
        Err(error) => Err(error),
    }
}

fn check_envelope<'a>(bytes: &'a [u8], rules: &Rules) -> Result<BatchView<'a>, Refused> {
    if bytes.first_chunk::<8>() != Some(&[0; 8]) {
        return Err(Refused::late(Reason::InvalidRecord));
    }
    if bytes.len() > rules.batch_bytes_max as usize {
        return Err(Refused::early(Reason::MessageTooLarge));
    }
    match BatchView::parse(bytes) {
        Ok(batch) if batch.is_intact() => Ok(batch),
        Ok(_) | Err(_) => Err(Refused::early(Reason::Corrupt)),
    }
}

fn check_header(header: &BatchHeader) -> Result<(), Refused> {
    let offset_count = i64::from(header.last_offset_delta) + 1;
    let counts_agree = header.record_count > 0 && offset_count == i64::from(header.record_count);
    let has_sequence = header.producer().is_none() || header.base_sequence >= 0;
    if counts_agree && !header.is_control() && has_sequence {
        Ok(())
    } else {
        Err(Refused::late(Reason::InvalidRecord))
    }
}

/// What is to be done with a batch whose records are allowed.
enum Fate<'a> {
    /// Its records stay as they are; this is their largest timestamp.
    Keep { max_timestamp: i64 },
    /// It is written anew from these, its uncompressed records.
    Rebuild { payload: Cow<'a, [u8]> },
}

fn decide<'a>(
    batch: &BatchView<'a>,
    source: Codec,
    target: Codec,
    rules: &Rules,
    now: Timestamp,
    spent: &mut Spent,
) -> Result<Fate<'a>, Refused> {
    if source == target && source != Codec::None {
        return check_in_place(batch, rules, now, spent);
    }
    let payload = unpack(batch, rules, spent)?;
    let walked = walk(&batch.header, &payload, rules, now, spent)?;
    Ok(if source == target { walked.keep_or_rebuild(payload) } else { Fate::Rebuild { payload } })
}

/// Looks into a compressed batch that may stay as it is, if there is reason to.
fn check_in_place<'a>(
    batch: &BatchView<'a>,
    rules: &Rules,
    now: Timestamp,
    spent: &mut Spent,
) -> Result<Fate<'a>, Refused> {
    let header = &batch.header;
    let times_can_be_trusted = header.timestamp_type() == TimestampType::Create
        && (rules.timestamp_type == TimestampType::LogAppend
            || rules.timestamp_before_max_ms == i64::MAX
                && header.max_timestamp >= header.base_timestamp
                && rules.allow(header.max_timestamp, now));
    if times_can_be_trusted && !rules.compacted {
        return Ok(Fate::Keep { max_timestamp: header.max_timestamp });
    }
    let payload = unpack(batch, rules, spent)?;
    let walked = walk(header, &payload, rules, now, spent)?;
    Ok(walked.keep_or_rebuild(payload))
}

/// The records of a batch, uncompressed, as far as its request may still have some unpacked.
fn unpack<'a>(
    batch: &BatchView<'a>,
    rules: &Rules,
    spent: &mut Spent,
) -> Result<Cow<'a, [u8]>, Refused> {
    let left = rules.unpacked_bytes_max.saturating_sub(spent.unpacked_bytes);
    let payload = decompress(batch, left);
    spent.unpacked_bytes += match &payload {
        Ok(Cow::Borrowed(_)) | Err(DecompressError::UnknownCodec(_)) => 0,
        Ok(Cow::Owned(unpacked)) => unpacked.len(),
        Err(DecompressError::TooLarge { .. }) => left,
        // How far it came is not known. All of them together cost a few times what there was.
        Err(DecompressError::Damaged) => left / DAMAGED_PART,
    };
    Ok(payload?)
}

/// What a walk over the records found.
struct Walked {
    max_timestamp: i64,
    /// Whether the offset deltas are 0, 1, 2, ...
    dense: bool,
}

impl Walked {
    fn keep_or_rebuild(self, payload: Cow<'_, [u8]>) -> Fate<'_> {
        if self.dense {
            Fate::Keep { max_timestamp: self.max_timestamp }
        } else {
            Fate::Rebuild { payload }
        }
    }
}

impl Rules {
    /// Whether a producer's timestamp lies within the window; -1, none, does.
    fn allow(&self, timestamp: i64, now: Timestamp) -> bool {
        let age_ms = now.to_wire().wrapping_sub(timestamp);
        timestamp == -1
            || age_ms <= self.timestamp_before_max_ms
                && age_ms.wrapping_neg() <= self.timestamp_after_max_ms
    }
}

/// Checks every record of `payload`.
fn walk(
    header: &BatchHeader,
    payload: &[u8],
    rules: &Rules,
    now: Timestamp,
    spent: &mut Spent,
) -> Result<Walked, Refused> {
    let mut walked = Walked { max_timestamp: -1, dense: true };
    let listed_max = RECORD_ERROR_COUNT_MAX.saturating_sub(spent.record_error_count);
    let mut faults = Faults { listed_max, ..Faults::default() };
    for (index, record) in Records::new(payload, header.record_count).enumerate() {
        let record = record.map_err(|error| match error {
            // Kafka's readers of numbers fail in a way that it has no code for.
            RecordError::Varint => Refused::late(Reason::Unreadable),
            RecordError::Length
            | RecordError::HeaderCount
            | RecordError::HeaderKey
            | RecordError::RecordCount
            | RecordError::Leftover => Refused::late(Reason::InvalidRecord),
        })?;
        let timestamp = header.timestamp_of(&record);
        walked.max_timestamp = walked.max_timestamp.max(timestamp);
        walked.dense &= record.offset_delta as usize == index;
        if rules.compacted && record.key.is_none() {
            faults.add(index, Reason::InvalidRecord, || {
                "A record without a key can not be written to a compacted topic.".to_owned()
            });
        } else if rules.timestamp_type == TimestampType::Create && timestamp != -1 {
            if !rules.allow(timestamp, now) {
                faults.add(index, Reason::InvalidTimestamp, || {
                    out_of_window(header.offset_of(&record), timestamp, rules, now)
                });
            }
        } else if header.timestamp_type() == TimestampType::LogAppend {
            faults.add(index, Reason::InvalidTimestamp, || {
                "A producer may not set the timestamp type LogAppendTime.".to_owned()
            });
        }
    }
    spent.record_error_count += faults.listed.len();
    match faults.into_refusal() {
        Some(refused) => Err(refused),
        None => Ok(walked),
    }
}

#[cold]
fn out_of_window(offset: i64, timestamp: i64, rules: &Rules, now: Timestamp) -> String {
    let earliest = now.to_wire().saturating_sub(rules.timestamp_before_max_ms);
    let latest = now.to_wire().saturating_add(rules.timestamp_after_max_ms);
    format!(
        "Timestamp {timestamp} of the message with offset {offset} is out of range: it should be \
         within [{earliest}, {latest}]."
    )
}

/// The records of a batch that are at fault.
#[derive(Default)]
struct Faults {
    listed: Vec<RefusedRecord>,
    listed_max: usize,
    count: usize,
    has_timestamp_fault: bool,
}

impl Faults {
    #[cold]
    fn add(&mut self, index: usize, reason: Reason, message: impl FnOnce() -> String) {
        self.count += 1;
        self.has_timestamp_fault |= reason == Reason::InvalidTimestamp;
        if self.listed.len() < self.listed_max {
            let batch_index = i32::try_from(index).unwrap_or(i32::MAX);
            self.listed.push(RefusedRecord { batch_index, message: Some(message()) });
        }
    }

    fn into_refusal(self) -> Option<Refused> {
        if self.count == 0 {
            return None;
        }
        let (reason, message) = if self.has_timestamp_fault {
            let message = "One or more records were rejected for their invalid timestamps";
            (Reason::InvalidTimestamp, message.to_owned())
        } else {
            let count = self.count;
            let mut message = format!("The batch was rejected for {count} invalid records: ");
            for (at, record) in self.listed.iter().take(3).enumerate() {
                let separator = if at == 0 { "" } else { ", " };
                let text = record.message.as_deref().unwrap_or_default();
                message += &format!("{separator}record {}: {text}", record.batch_index);
            }
            (Reason::InvalidRecord, message)
        };
        Some(Refused {
            reason,
            message: Some(message),
            record_errors: self.listed,
            names_log_start: true,
        })
    }
}

/// Writes the batch anew: other codec, dense offsets. The records have been walked.
fn rebuild(
    header: &BatchHeader,
    payload: &[u8],
    target: Compression,
    rules: &Rules,
    now: Timestamp,
) -> Result<(BatchHeader, Bytes), Refused> {
    let mut builder = BatchBuilder::new().compression(target).producer(ProducerStamp {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    });
    if header.is_transactional() {
        builder = builder.transactional();
    }
    if rules.timestamp_type == TimestampType::LogAppend {
        builder = builder.append_time(now);
    }
    for record in Records::new(payload, header.record_count) {
        let record = record.map_err(|error| match error {
            // Kafka's readers of numbers fail in a way that it has no code for.
            RecordError::Varint => Refused::late(Reason::Unreadable),
            RecordError::Length
            | RecordError::HeaderCount
            | RecordError::HeaderKey
            | RecordError::RecordCount
            | RecordError::Leftover => Refused::late(Reason::InvalidRecord),
        })?;
        let timestamp = header.timestamp_of(&record);
        if timestamp < -1 {
            return Err(Refused::late(Reason::Unreadable));
        }
        builder.append_view(&record, timestamp);
    }
    builder.build_with_header().map_err(|_| Refused::late(Reason::Unreadable))
}

#[cfg(test)]
mod tests;
