//! The files of a log, read as they lie: segments batch by batch, the rest at once.
//!
//! | file         | layout, big-endian                                                           |
//! |--------------|------------------------------------------------------------------------------|
//! | `.index`     | 8 bytes an entry: relative offset, position                                  |
//! | `.timeindex` | 12 bytes an entry: timestamp (8), relative offset (4)                        |
//! | `.txnindex`  | 34 bytes an entry: version (2), producer, first, last, last stable (8 each)  |
//! | `.snapshot`  | version (2), crc32c of what follows (4), count (4), 46 bytes a producer      |

use std::io;

use bytes::Bytes;

use crate::protocol::batch::{HEADER_BYTES, PREFIX_BYTES, whole_batch_bytes};
use crate::runtime::File;

/// Bytes read ahead at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// Bytes of a producer in a snapshot.
const PRODUCER_BYTES: usize = 46;

/// What a file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Record batches.
    Batches,
    /// An offset index.
    Offsets,
    /// A time index.
    Times,
    /// An index of aborted transactions.
    Transactions,
    /// The state of producers.
    Producers,
    /// Lines of text.
    Text,
}

impl Kind {
    /// What the file of this name holds; `None` when it belongs to no log.
    pub fn of(name: &str) -> Option<Self> {
        const TEXTS: [&str; 8] = [
            "leader-epoch-checkpoint",
            "partition.metadata",
            "meta.properties",
            ".kafka_cleanshutdown",
            "recovery-point-offset-checkpoint",
            "log-start-offset-checkpoint",
            "replication-offset-checkpoint",
            "cleaner-offset-checkpoint",
        ];
        if TEXTS.contains(&name) {
            return Some(Self::Text);
        }
        match name.rsplit_once('.')?.1 {
            // Snapshots of the metadata log are batches, too.
            "log" | "checkpoint" => Some(Self::Batches),
            "index" => Some(Self::Offsets),
            "timeindex" => Some(Self::Times),
            "txnindex" => Some(Self::Transactions),
            "snapshot" => Some(Self::Producers),
            _ => None,
        }
    }
}

/// What stands next in a segment.
pub enum Step {
    /// A whole batch, nothing of it checked.
    Batch(Bytes),
    /// The end of the file.
    End,
    /// Only zeros up to the end, as in a preallocated file.
    Empty {
        /// How many.
        size_bytes: u64,
    },
    /// Something else; nothing behind it can be read.
    Damaged {
        /// What is wrong.
        why: String,
    },
}

/// Reads a segment batch by batch.
pub struct SegmentWalk {
    file: File,
    size_bytes: u64,
    position: u64,
    window: Bytes,
}

impl SegmentWalk {
    /// From the beginning of the file.
    pub async fn new(file: File) -> io::Result<Self> {
        let size_bytes = file.size_bytes().await?;
        Ok(Self { file, size_bytes, position: 0, window: Bytes::new() })
    }

    /// Where the next step begins, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next step.
    pub async fn next(&mut self) -> io::Result<Step> {
        let left = self.size_bytes - self.position;
        if left == 0 {
            return Ok(Step::End);
        }
        self.fill(HEADER_BYTES).await?;
        if self.window.len() < PREFIX_BYTES {
            return self.not_a_batch(format!("{left} bytes, too few for a batch")).await;
        }
        let size = match whole_batch_bytes(&self.window) {
            Ok(size) => size,
            Err(error) => return self.not_a_batch(error.to_string()).await,
        };
        if size as u64 > left {
            let why = format!("a batch of {size} bytes is cut off after {left}");
            return self.not_a_batch(why).await;
        }
        self.fill(size).await?;
        if self.window.len() < size {
            return Ok(Step::Damaged { why: "the file became shorter".to_owned() });
        }
        self.position += size as u64;
        Ok(Step::Batch(self.window.split_to(size)))
    }

    /// Makes the window hold `wanted` bytes, or all that are left.
    async fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.window.len() < wanted {
            let length = wanted.max(WINDOW_BYTES);
            self.window = self.file.read_at(self.position, length).await?;
        }
        Ok(())
    }

    async fn not_a_batch(&mut self, why: String) -> io::Result<Step> {
        let size_bytes = self.size_bytes - self.position;
        let mut at = self.position;
        while at < self.size_bytes {
            let bytes = self.file.read_at(at, WINDOW_BYTES).await?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(Step::Damaged { why });
            }
            at += bytes.len() as u64;
        }
        Ok(Step::Empty { size_bytes })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |raw| u32::from_be_bytes(*raw))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    bytes[at..].first_chunk().map_or(0, |raw| i64::from_be_bytes(*raw))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    u32_at(bytes, at).cast_signed()
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    bytes[at..].first_chunk().map_or(0, |raw| i16::from_be_bytes(*raw))
}

/// The entries of an offset index: relative offset and position. Ends where the zeros of a
/// preallocated file begin.
pub fn offset_entries(bytes: &[u8]) -> Vec<(u32, u32)> {
    let entries = bytes.chunks_exact(8).map(|entry| (u32_at(entry, 0), u32_at(entry, 4)));
    entries
        .enumerate()
        .take_while(|(index, it)| *index == 0 || *it != (0, 0))
        .map(|it| it.1)
        .collect()
}

/// The entries of a time index: timestamp and relative offset. Ends as [`offset_entries`].
pub fn time_entries(bytes: &[u8]) -> Vec<(i64, u32)> {
    let entries = bytes.chunks_exact(12).map(|entry| (i64_at(entry, 0), u32_at(entry, 8)));
    entries
        .enumerate()
        .take_while(|(index, it)| *index == 0 || *it != (0, 0))
        .map(|it| it.1)
        .collect()
}

/// An aborted transaction.
pub struct AbortedEntry {
    /// Its producer.
    pub producer_id: i64,
    /// Its first offset.
    pub first: i64,
    /// Its last offset, that of the marker.
    pub last: i64,
    /// The last stable offset when it ended.
    pub last_stable: i64,
}

/// The entries of a transaction index.
pub fn transaction_entries(bytes: &[u8]) -> Vec<AbortedEntry> {
    let entries = bytes.chunks_exact(34);
    entries
        .map(|entry| AbortedEntry {
            producer_id: i64_at(entry, 2),
            first: i64_at(entry, 10),
            last: i64_at(entry, 18),
            last_stable: i64_at(entry, 26),
        })
        .collect()
}

/// A producer in a snapshot.
pub struct ProducerEntry {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Offsets of its last batch, less one.
    pub offset_delta: i32,
    /// Time of its last batch.
    pub timestamp: i64,
    /// Epoch of the coordinator that wrote its last marker.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction, or -1.
    pub transaction_start: i64,
}

/// The producers of a snapshot, or what is wrong with it.
pub fn snapshot(bytes: &[u8]) -> Result<Vec<ProducerEntry>, String> {
    if bytes.len() < 10 {
        return Err(format!("{} bytes, too few for a snapshot", bytes.len()));
    }
    let version = i16_at(bytes, 0);
    if version != 1 {
        return Err(format!("version {version} is not known"));
    }
    let body = &bytes[6..];
    if u32_at(bytes, 2) != crc32c::crc32c(body) {
        return Err("the checksum is wrong".to_owned());
    }
    let count = u32_at(body, 0) as usize;
    let entries = &body[4..];
    if entries.len() != count.saturating_mul(PRODUCER_BYTES) {
        return Err(format!("{} bytes do not hold {count} producers", entries.len()));
    }
    let producers = entries.chunks_exact(PRODUCER_BYTES).map(|entry| ProducerEntry {
        id: i64_at(entry, 0),
        epoch: i16_at(entry, 8),
        last_sequence: i32_at(entry, 10),
        last_offset: i64_at(entry, 14),
        offset_delta: i32_at(entry, 22),
        timestamp: i64_at(entry, 26),
        coordinator_epoch: i32_at(entry, 34),
        transaction_start: i64_at(entry, 38),
    });
    Ok(producers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zeros_of_a_preallocated_index_are_no_entries() {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 1, 0];
        bytes.extend([0; 32]);
        assert_eq!(offset_entries(&bytes), [(0, 0), (5, 256)]);
        assert_eq!(offset_entries(&bytes[..3]), []);
    }

    #[test]
    fn a_damaged_snapshot_is_told_from_a_whole_one() {
        let mut body = vec![0, 0, 0, 1];
        body.extend([7_u8; PRODUCER_BYTES]);
        let mut bytes = vec![0, 1];
        bytes.extend(crc32c::crc32c(&body).to_be_bytes());
        bytes.extend(&body);
        assert_eq!(snapshot(&bytes).map(|producers| producers.len()), Ok(1));
        bytes[20] ^= 1;
        assert!(snapshot(&bytes).is_err());
        assert!(snapshot(&bytes[..5]).is_err());
    }
}
