//! The records of a partition of `__consumer_offsets` in the order in which they take effect.
//!
//! Records of a transaction (offsets that Apache Kafka's transactional producers commit) count
//! from its commit marker on, and never when it was aborted.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use crate::protocol::batch::BatchView;
use crate::protocol::compression::decompress;
use crate::protocol::record::{EndMarker, Outcome, Records};

/// What a batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 512 << 20;

/// A record's key and value.
pub(super) type KeyValue = (Bytes, Option<Bytes>);

/// Transactions that are open at a point of the log: their records, by producer.
#[derive(Default)]
pub(super) struct OpenTransactions(BTreeMap<i64, Vec<KeyValue>>);

impl OpenTransactions {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `visit` with the records that take effect with `batch`. Those without a key are none
    /// of a group.
    pub(super) fn pass(
        &mut self,
        batch: &BatchView<'_>,
        mut visit: impl FnMut(KeyValue),
    ) -> io::Result<()> {
        let damaged = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let header = &batch.header;
        if !batch.is_intact() {
            // After a clean stop nobody has looked at it before.
            let offset = header.base_offset;
            return Err(damaged(format!("the batch at offset {offset} has a wrong checksum")));
        }
        if header.is_control() {
            if let Some(marker) = EndMarker::from_batch(batch) {
                let records = self.0.remove(&header.producer_id).unwrap_or_default();
                if marker.outcome == Outcome::Committed {
                    records.into_iter().for_each(visit);
                }
            }
            return Ok(());
        }
        let bytes = decompress(batch, UNPACKED_BYTES_MAX).map_err(|e| damaged(e.to_string()))?;
        for record in Records::new(&bytes, header.record_count) {
            let record = record.map_err(|error| damaged(error.to_string()))?;
            let Some(key) = record.key else { continue };
            let copy = (Bytes::copy_from_slice(key), record.value.map(Bytes::copy_from_slice));
            if header.is_transactional() {
                self.0.entry(header.producer_id).or_default().push(copy);
            } else {
                visit(copy);
            }
        }
        Ok(())
    }
}
