//! Loading a coordinator: every record of its partition is replayed.
//!
//! Records of a transaction (offsets that Apache Kafka's transactional producers commit) count
//! from its commit marker on, and never when it was aborted.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use crate::group::Record;
use crate::mesh::groups::Host;
use crate::protocol::batch::BatchView;
use crate::protocol::compression::decompress;
use crate::protocol::record::{EndMarker, Outcome, Records};

/// What a batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 512 << 20;

/// What a load went through, for the log.
#[derive(Default)]
struct Progress {
    records: u64,
    unreadable: u64,
    /// Records of transactions that are open at this point, by producer.
    pending: BTreeMap<i64, Vec<Record>>,
}

/// Replays the partition's records into its coordinator, which answers requests from then on.
pub(super) async fn load(host: Rc<Host>) {
    let Some(shard) = host.shard.upgrade() else { return };
    let began = shard.runtime.now();
    let log = host.partition.log();
    let mut progress = Progress::default();
    let read =
        log.scan_batches(log.start(), log.end(), |batch| replay(&host, batch, &mut progress)).await;
    let partition = host.partition.key().partition;
    if let Err(error) = read {
        // Its groups stay unavailable: half of their offsets would be worse than none.
        tracing::error!(partition, %error, "the groups of the partition can not be loaded");
        return;
    }
    if progress.unreadable > 0 {
        let records = progress.unreadable;
        tracing::warn!(partition, records, "records that are no group's were passed over");
    }
    if progress.records > 0 {
        let took_us = shard.runtime.now().since(began).as_micros() as u64;
        tracing::info!(partition, records = progress.records, took_us, "groups loaded");
    }
    host.act(|coordinator, now, effects| coordinator.loaded(now, effects));
}

fn replay(host: &Host, batch: &BatchView<'_>, progress: &mut Progress) -> io::Result<()> {
    let header = &batch.header;
    if header.is_control() {
        if let Some(marker) = EndMarker::from_batch(batch) {
            let records = progress.pending.remove(&header.producer_id).unwrap_or_default();
            if marker.outcome == Outcome::Committed {
                for record in records {
                    host.coordinator.borrow_mut().replay(record);
                }
            }
        }
        return Ok(());
    }
    let bytes = decompress(batch, UNPACKED_BYTES_MAX)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let copy = |part: &[u8]| Bytes::copy_from_slice(part);
    for record in Records::new(&bytes, header.record_count) {
        let record = record
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let decoded = record.key.map(|key| Record::decode(copy(key), record.value.map(copy)));
        let Some(Ok(decoded)) = decoded else {
            progress.unreadable += 1;
            continue;
        };
        progress.records += 1;
        if header.is_transactional() {
            progress.pending.entry(header.producer_id).or_default().push(decoded);
        } else {
            host.coordinator.borrow_mut().replay(decoded);
        }
    }
    Ok(())
}
