//! The bytes of a producer snapshot file, `<offset>.snapshot`.
//!
//! It holds the producers' state before that offset, so that a start need not scan the log below
//! it. Big-endian:
//!
//! | bytes | field     | meaning                                |
//! |-------|-----------|----------------------------------------|
//! | 0..2  | `version` | 1                                      |
//! | 2..6  | `crc`     | CRC-32C of everything behind it        |
//! | 6..10 | `count`   | entries that follow                    |
//!
//! and for each producer:
//!
//! | bytes  | field               | meaning                                             |
//! |--------|---------------------|-----------------------------------------------------|
//! | 0..8   | `producer_id`       |                                                     |
//! | 8..10  | `epoch`             | -1: none yet                                        |
//! | 10..14 | `last_sequence`     | of its last batch; -1 without one                   |
//! | 14..22 | `last_offset`       | of its last batch; -1 without one                   |
//! | 22..26 | `offset_delta`      | last minus first offset of that batch               |
//! | 26..34 | `timestamp`         | of its last batch or marker, ms; -1 for none        |
//! | 34..38 | `coordinator_epoch` | of its last marker; -1 for none                     |
//! | 38..46 | `txn_first_offset`  | where its open transaction begins; -1 for none      |
//!
//! Entries are in order of the ids; Apache Kafka writes them in no particular order. Source:
//! `ProducerSnapshot`, `ProducerStateManager.writeSnapshot`.

use std::fmt;

use bytes::{Buf, BufMut};

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const COUNT_AT: usize = 6;
const ENTRIES_AT: usize = 10;
const ENTRY_BYTES: usize = 46;

const _: () = assert!(ENTRY_BYTES == 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8);

/// One producer in a snapshot; the fields are as in the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp: i64,
    pub coordinator_epoch: i32,
    pub txn_first_offset: i64,
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DamagedSnapshot {
    /// Its length does not fit its number of entries.
    Length,
    /// Written by another version.
    Version(i16),
    /// The checksum is wrong.
    Checksum,
    /// A number in it can not be right.
    Number,
}

impl fmt::Display for DamagedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("the snapshot's length and contents do not agree"),
            Self::Version(version) => write!(f, "snapshot version {version} is not supported"),
            Self::Checksum => f.write_str("the snapshot's checksum is wrong"),
            Self::Number => f.write_str("the snapshot has offsets that can not be"),
        }
    }
}

impl std::error::Error for DamagedSnapshot {}

/// Writes `entries` as a snapshot.
pub(super) fn encode(entries: impl ExactSizeIterator<Item = Entry>) -> Vec<u8> {
    let count = entries.len();
    let mut bytes = Vec::with_capacity(ENTRIES_AT + count * ENTRY_BYTES);
    bytes.put_i16(VERSION);
    bytes.put_u32(0);
    bytes.put_i32(count as i32);
    for entry in entries {
        bytes.put_i64(entry.producer_id);
        bytes.put_i16(entry.epoch);
        bytes.put_i32(entry.last_sequence);
        bytes.put_i64(entry.last_offset);
        bytes.put_i32(entry.offset_delta);
        bytes.put_i64(entry.timestamp);
        bytes.put_i32(entry.coordinator_epoch);
        bytes.put_i64(entry.txn_first_offset);
    }
    let crc = crc32c::crc32c(&bytes[COUNT_AT..]);
    bytes[CRC_AT..COUNT_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads a snapshot.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Entry>, DamagedSnapshot> {
    if bytes.len() < ENTRIES_AT {
        return Err(DamagedSnapshot::Length);
    }
    let (mut head, mut rest) = bytes.split_at(ENTRIES_AT);
    let version = head.get_i16();
    if version != VERSION {
        return Err(DamagedSnapshot::Version(version));
    }
    if head.get_u32() != crc32c::crc32c(&bytes[COUNT_AT..]) {
        return Err(DamagedSnapshot::Checksum);
    }
    let count = usize::try_from(head.get_i32()).map_err(|_| DamagedSnapshot::Length)?;
    if count.checked_mul(ENTRY_BYTES) != Some(rest.len()) {
        return Err(DamagedSnapshot::Length);
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = Entry {
            producer_id: rest.get_i64(),
            epoch: rest.get_i16(),
            last_sequence: rest.get_i32(),
            last_offset: rest.get_i64(),
            offset_delta: rest.get_i32(),
            timestamp: rest.get_i64(),
            coordinator_epoch: rest.get_i32(),
            txn_first_offset: rest.get_i64(),
        };
        if i64::from(entry.offset_delta) > entry.last_offset.max(0) || entry.offset_delta < 0 {
            return Err(DamagedSnapshot::Number);
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAFKAS: &[u8] =
        include_bytes!("../../tests/fixtures/disk/t2-1/00000000000000000011.snapshot");

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32c::crc32c(&bytes[COUNT_AT..]);
        bytes[CRC_AT..COUNT_AT].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn a_snapshot_of_apache_kafka_reads_and_writes_the_same() {
        let entries = decode(KAFKAS).expect("a snapshot");
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].last_sequence, entries[0].last_offset), (2, 2));
        assert_eq!((entries[0].offset_delta, entries[0].txn_first_offset), (2, -1));
        assert_eq!(encode(entries.into_iter()), KAFKAS);
    }

    #[test]
    fn damage_is_told() {
        for cut in 0..KAFKAS.len() {
            assert!(decode(&KAFKAS[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..KAFKAS.len() {
            let mut bytes = KAFKAS.to_vec();
            bytes[at] ^= 0x40;
            assert!(decode(&bytes).is_err(), "flipped at {at}");
            let _ = decode(&sealed(bytes));
        }
        let with = |at: usize, field: &[u8]| {
            let mut bytes = KAFKAS.to_vec();
            bytes[at..at + field.len()].copy_from_slice(field);
            sealed(bytes)
        };
        let longer = sealed([KAFKAS, &[0]].concat());
        let cases: [(&str, Vec<u8>, DamagedSnapshot); 6] = [
            ("version 2", with(0, &[0, 2]), DamagedSnapshot::Version(2)),
            ("more bytes", longer, DamagedSnapshot::Length),
            ("more entries", with(6, &[0, 0, 0, 2]), DamagedSnapshot::Length),
            ("as many as go", with(6, &[0x7f, 0xff, 0xff, 0xff]), DamagedSnapshot::Length),
            ("negative entries", with(6, &[0xff; 4]), DamagedSnapshot::Length),
            ("a batch from before 0", with(32, &[0, 0, 0, 3]), DamagedSnapshot::Number),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(decode(&bytes), Err(expected), "{name}");
        }
    }
}
