//! The bytes of a journal's file: a header, then entries.
//!
//! ```text
//! header, 32 bytes:  magic 8 | generation u64 | reserved 12 | crc u32
//! entry, 48 + n:     crc u32 | batch bytes u32 | generation u64 | index u64
//!                    topic 16 | partition i32 | reserved 4 | batch, as it stands in the log
//! ```
//!
//! Numbers are big-endian. A checksum is the CRC-32C of all that follows it within its entry, or of
//! all before it in the header.

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::{PartitionKey, ShardId, Uuid};

/// Size of a file's header.
pub(super) const HEADER_BYTES: usize = 32;

/// Size of what stands before a batch.
pub(super) const ENTRY_BYTES: usize = 48;

const MAGIC: &[u8; 8] = b"CLjourn1";
const CRC_BYTES: usize = 4;
const NAME_START: &str = "corelog-journal-";

/// The name of a file.
pub(super) fn file_name(core: ShardId, number: u64) -> String {
    format!("{NAME_START}{}-{number}", core.0)
}

/// The number in a file's name; `None` when it is no journal's.
pub(super) fn parse_file_name(name: &str) -> Option<u64> {
    let (core, number) = name.strip_prefix(NAME_START)?.split_once('-')?;
    core.parse::<u16>().ok()?;
    number.parse().ok()
}

/// A file's header.
pub(super) fn header(generation: u64) -> Bytes {
    let mut raw = BytesMut::with_capacity(HEADER_BYTES);
    raw.put_slice(MAGIC);
    raw.put_u64(generation);
    raw.put_bytes(0, HEADER_BYTES - CRC_BYTES - raw.len());
    raw.put_u32(crc32c::crc32c(&raw));
    raw.freeze()
}

/// The generation in a file's header; `None` when it has none that is whole.
pub(super) fn parse_header(raw: &[u8]) -> Option<u64> {
    let raw = raw.first_chunk::<HEADER_BYTES>()?;
    let (said, crc) = raw.split_at(HEADER_BYTES - CRC_BYTES);
    if !said.starts_with(MAGIC) || crc != crc32c::crc32c(said).to_be_bytes() {
        return None;
    }
    said.get(MAGIC.len()..)?.first_chunk().map(|raw| u64::from_be_bytes(*raw))
}

/// What stands before a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct EntryHeader {
    pub crc: u32,
    pub batch_bytes: u32,
    pub generation: u64,
    /// Its place in the file: 0, 1, 2 ...
    pub index: u64,
    pub key: PartitionKey,
}

impl EntryHeader {
    /// The header of the entry of `batch`, which may come in parts.
    pub fn encode(generation: u64, index: u64, key: PartitionKey, batch: &[Bytes]) -> Bytes {
        let batch_bytes: usize = batch.iter().map(Bytes::len).sum();
        let mut raw = BytesMut::with_capacity(ENTRY_BYTES);
        raw.put_u32(0);
        raw.put_u32(u32::try_from(batch_bytes).expect("a batch's size fits 32 bits"));
        raw.put_u64(generation);
        raw.put_u64(index);
        raw.put_slice(&key.topic.to_wire());
        raw.put_i32(key.partition);
        raw.put_u32(0);
        let crc = crc32c::crc32c(&raw[CRC_BYTES..]);
        let crc = batch.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part));
        raw[..CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
        raw.freeze()
    }

    /// The header at the start of `raw`; `None` when there can be none.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let raw = raw.first_chunk::<ENTRY_BYTES>()?;
        let word = |at: usize| raw[at..].first_chunk().map(|raw| u32::from_be_bytes(*raw));
        let long = |at: usize| raw[at..].first_chunk().map(|raw| u64::from_be_bytes(*raw));
        let topic = Uuid::from_wire(*raw[24..].first_chunk()?)?;
        let partition = i32::try_from(word(40)?).ok()?;
        Some(Self {
            crc: word(0)?,
            batch_bytes: word(4)?,
            generation: long(8)?,
            index: long(16)?,
            key: PartitionKey { topic, partition },
        })
    }

    /// Whether `entry`, which this header begins, is whole.
    pub fn is_intact(&self, entry: &[u8]) -> bool {
        entry.get(CRC_BYTES..).is_some_and(|checked| crc32c::crc32c(checked) == self.crc)
    }

    /// Size of the entry.
    pub fn size_bytes(&self) -> u64 {
        ENTRY_BYTES as u64 + u64::from(self.batch_bytes)
    }
}
