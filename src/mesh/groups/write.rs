//! Records of coordinators on their way to the log: all of one turn go into one batch.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::Timestamp;
use crate::group::{Record, WriteId};
use crate::mesh::groups::records::KeyValue;
use crate::mesh::groups::{Host, rewrite};
use crate::mesh::shard::Shard;
use crate::partition::{Append, AppendFailure, RequiredAcks};
use crate::protocol::ErrorCode;
use crate::protocol::builder::{BatchBuilder, NewRecord};
use crate::protocol::compression::Codec;
use crate::protocol::validate::Validated;
use crate::runtime::local::next_turn;

/// Writes that are larger together go into batches of their own.
pub(super) const BATCH_BYTES_GOAL: usize = 64 << 10;

/// What a record has in a batch beside its key and value, at most.
const RECORD_FRAME_BYTES: usize = 32;

/// A batch being filled, and the writes whose records are in it.
#[derive(Default)]
struct Batch {
    builder: BatchBuilder,
    writes: Vec<WriteId>,
}

/// Sees to it that what is queued gets written.
pub(super) fn start(host: &Rc<Host>, shard: &Rc<Shard>) {
    // A rewrite holds writes back for a moment, and starts them again.
    if host.holds.get() || host.writing.replace(true) {
        return;
    }
    let host = host.clone();
    shard.runtime.spawn("groups writer", async move {
        // What other requests of this turn decide joins the batch.
        next_turn().await;
        host.writing.set(false);
        if !host.holds.get() {
            write_queued(&host);
        }
    });
}

fn write_queued(host: &Rc<Host>) {
    let Some(shard) = host.shard.upgrade() else { return };
    let now = shard.runtime.wall_clock();
    // What the log takes alone it is to take together with others.
    let goal = BATCH_BYTES_GOAL.min(shard.group_batch_bytes_max());
    let mut open = Batch::default();
    let queued = std::mem::take(&mut *host.queue.borrow_mut());
    if host.reloads.get() {
        // They follow from what the coordinator no longer believes.
        let writes: Vec<WriteId> = queued.iter().map(|(write, _)| *write).collect();
        return report(host, &writes, Err(ErrorCode::NotLeaderOrFollower));
    }
    for (write, records) in queued {
        let encoded: Vec<KeyValue> = records.iter().filter_map(Record::encode).collect();
        let size_bytes: usize = encoded.iter().map(size_of_one).sum();
        if !open.writes.is_empty() && open.builder.size_bytes() + size_bytes > goal {
            append(host, &shard, std::mem::take(&mut open));
        }
        for record in &encoded {
            add(&mut open.builder, record, now);
            if let Some(later) = &mut *host.later_keys.borrow_mut() {
                later.insert(record.0.clone());
            }
        }
        open.writes.push(write);
    }
    if !open.writes.is_empty() {
        append(host, &shard, open);
    }
}

/// Adds a record to a batch.
pub(super) fn add(builder: &mut BatchBuilder, (key, value): &KeyValue, now: Timestamp) {
    builder.append(&NewRecord {
        timestamp: now.to_wire(),
        key: Some(key),
        value: value.as_deref(),
        headers: &[],
    });
}

fn size_of_one((key, value): &KeyValue) -> usize {
    RECORD_FRAME_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len)
}

fn append(host: &Rc<Host>, shard: &Rc<Shard>, batch: Batch) {
    let Batch { builder, writes } = batch;
    let too_large = builder.size_bytes() > shard.group_batch_bytes_max();
    let built = match validated(builder.compression(codec(shard))) {
        Ok(built) if !too_large => built,
        Ok(_) | Err(_) => return report(host, &writes, Err(ErrorCode::MessageTooLarge)),
    };
    let size_bytes = built.bytes.len() as u64;
    host.written_bytes.set(host.written_bytes.get() + size_bytes);
    shard.checkpoints_stale.set(true);
    let reporter = host.clone();
    let done = move |outcome: Result<_, AppendFailure>| {
        report(&reporter, &writes, outcome.map(drop).map_err(code_of));
    };
    host.partition.append(Append { batch: built, acks: RequiredAcks::All }, done);
    rewrite::start_if_due(host, shard);
}

/// The batch, as the log takes it: there is nothing to check about our own.
pub(super) fn validated(builder: BatchBuilder) -> std::io::Result<Validated> {
    let (header, bytes) = builder.build_with_header()?;
    let max_timestamp_offset_delta = header.last_offset_delta;
    Ok(Validated { header, bytes, append_time: None, max_timestamp_offset_delta, rewritten: true })
}

/// `offsets.topic.compression.codec`; an unknown number stands for none.
fn codec(shard: &Shard) -> Codec {
    Codec::from_number(shard.config().groups.topic_compression).unwrap_or(Codec::None)
}

fn report(host: &Rc<Host>, writes: &[WriteId], outcome: Result<(), ErrorCode>) {
    for write in writes {
        host.undecided.set(host.undecided.get() - 1);
        host.act(|coordinator, now, effects| match outcome {
            Ok(()) => coordinator.committed(now, *write, effects),
            Err(error) => coordinator.failed(now, *write, error, effects),
        });
    }
}

fn code_of(failure: AppendFailure) -> ErrorCode {
    match failure {
        AppendFailure::NotLeader | AppendFailure::Sequence { .. } => ErrorCode::NotLeaderOrFollower,
        AppendFailure::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        AppendFailure::NotEnoughReplicasAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
        AppendFailure::Storage => ErrorCode::KafkaStorageError,
    }
}
