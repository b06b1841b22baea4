//! Loading a coordinator: every record of its partition is replayed.

use std::io;
use std::rc::Rc;

use crate::group::Record;
use crate::mesh::groups::Host;
use crate::mesh::groups::records::OpenTransactions;

/// Replays the partition's records into its coordinator, which answers requests from then on.
pub(super) async fn load(host: Rc<Host>) {
    let Some(shard) = host.shard.upgrade() else { return };
    // Clients need not wait for all groups to find the broker.
    while !shard.started.get() {
        shard.lifecycle.notified().await;
    }
    let began = shard.runtime.now();
    let log = host.partition.log();
    let mut open = OpenTransactions::default();
    let (mut records, mut unreadable) = (0_u64, 0_u64);
    let read = log.scan_batches(log.start(), log.end(), |batch| {
        open.pass(batch, |(key, value)| match Record::decode(key, value) {
            Ok(record) => {
                records += 1;
                host.coordinator.borrow_mut().replay(record);
            }
            Err(_) => unreadable += 1,
        })
    });
    let read = read.await;
    let partition = host.partition.key().partition;
    // What a failed sync left in the page cache was refused, and may be gone at the next start.
    let read = match host.partition.is_failed() {
        true => Err(io::Error::other("a sync of its log failed")),
        false => read,
    };
    if let Err(error) = read {
        // Its groups stay unavailable: half of their offsets would be worse than none.
        tracing::error!(topic = %host.partition.topic(), partition, %error,
            "the groups of the partition can not be loaded");
        return;
    }
    if unreadable > 0 {
        tracing::warn!(topic = %host.partition.topic(), partition, unreadable,
            "records that are no group's were passed over");
    }
    if records > 0 {
        let took_us = shard.runtime.now().since(began).as_micros() as u64;
        tracing::info!(partition, records, took_us, "groups loaded");
    }
    host.written_bytes.set(log.size_bytes());
    host.act(|coordinator, now, effects| coordinator.loaded(now, effects));
}
