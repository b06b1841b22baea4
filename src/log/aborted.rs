//! The transaction index of a segment: which transactions in it were aborted.
//!
//! Only segments with aborted transactions have the file. Byte order is big-endian.
//!
//! | 0..2   | version, 0                                          |
//! | 2..10  | the producer's id                                   |
//! | 10..18 | offset of the transaction's first record            |
//! | 18..26 | offset of the marker that ended it                  |
//! | 26..34 | the last stable offset once it had ended            |
//!
//! Source: Kafka's `TransactionIndex`, `AbortedTxn`.

use std::io;

use bytes::{Buf, BufMut, Bytes};

use crate::base::Offset;
use crate::log::home::{Home, ignore_missing};
use crate::log::message::AbortedTransaction;
use crate::runtime::OpenMode;

/// The file's ending.
pub(super) const ENDING: &str = "txnindex";

const ENTRY_BYTES: usize = 34;

impl AbortedTransaction {
    fn write(self, to: &mut Vec<u8>) {
        to.put_i16(0);
        to.put_i64(self.producer_id);
        to.put_i64(self.first_offset.to_wire());
        to.put_i64(self.last_offset.to_wire());
        to.put_i64(self.last_stable.to_wire());
    }

    /// Reads an entry of [`ENTRY_BYTES`]; `None` when it is none.
    fn read(mut from: &[u8]) -> Option<Self> {
        if from.len() < ENTRY_BYTES || from.get_i16() != 0 {
            return None;
        }
        Some(Self {
            producer_id: from.get_i64(),
            first_offset: Offset::from_wire(from.get_i64())?,
            last_offset: Offset::from_wire(from.get_i64())?,
            last_stable: Offset::from_wire(from.get_i64())?,
        })
    }
}

/// The segment's entries, up to the first damaged one.
pub(super) async fn read(home: &Home, base: Offset) -> io::Result<Vec<AbortedTransaction>> {
    match home.read(base, ENDING).await {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(bytes: &[u8]) -> Vec<AbortedTransaction> {
    bytes.chunks_exact(ENTRY_BYTES).map_while(AbortedTransaction::read).collect()
}

/// Appends those of `transactions` that ended behind the last entry: a restart may bring some
/// again.
pub(super) async fn append(
    home: &Home,
    base: Offset,
    transactions: &[AbortedTransaction],
) -> io::Result<()> {
    let known = read(home, base).await?;
    let last = known.last().map(|entry| entry.last_offset);
    let mut bytes = Vec::new();
    for transaction in transactions.iter().filter(|t| last.is_none_or(|l| t.last_offset > l)) {
        transaction.write(&mut bytes);
    }
    let file = home.open(base, ENDING, OpenMode::Create).await?;
    file.write_at((known.len() * ENTRY_BYTES) as u64, &[Bytes::from(bytes)]).await
}

/// Replaces the segment's entries.
pub(super) async fn replace(
    home: &Home,
    base: Offset,
    entries: &[AbortedTransaction],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        entry.write(&mut bytes);
    }
    home.disk.write_atomically(&home.path(base, ENDING), &bytes).await
}

/// Makes the file durable.
pub(super) async fn sync(home: &Home, base: Offset) -> io::Result<()> {
    match home.open(base, ENDING, OpenMode::Write).await {
        Ok(file) => file.sync().await,
        Err(error) => ignore_missing(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_up_to_the_first_damaged_one() {
        let entry = |n: u64| AbortedTransaction {
            producer_id: 7,
            first_offset: Offset::new(n),
            last_offset: Offset::new(n + 1),
            last_stable: Offset::new(n + 2),
        };
        let mut bytes = Vec::new();
        entry(1).write(&mut bytes);
        entry(5).write(&mut bytes);
        assert_eq!(bytes.len(), 2 * ENTRY_BYTES);
        assert_eq!(parse(&bytes), [entry(1), entry(5)]);
        assert_eq!(parse(&bytes[..67]), [entry(1)], "cut off");
        bytes[ENTRY_BYTES + 10] = 0x80;
        assert_eq!(parse(&bytes), [entry(1)], "an offset below 0");
    }
}
