//! Keeping a partition of `__consumer_offsets` small while there is no log cleaner.
//!
//! When much was written since the last time, the last record of every key is written again at the
//! log's end, and what lies before is let go: the log's start moves up, as DeleteRecords moves it.
//! A crash in between leaves records twice, which say the same.
//!
//! Invariant: a record is written again only while no later one of its key was handed to the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::Offset;
use crate::mesh::Shard;
use crate::mesh::groups::Host;
use crate::mesh::groups::records::{KeyValue, OpenTransactions};
use crate::mesh::groups::write::{self, BATCH_BYTES_GOAL};
use crate::partition::{Append, AppendOutcome, RequiredAcks};
use crate::protocol::builder::BatchBuilder;
use crate::runtime::local::oneshot;

/// How much is written for one byte of what was kept the last time.
const WRITTEN_PER_KEPT: u64 = 4;

/// How long to wait for writes under way.
const QUIET_WAIT: Duration = Duration::from_millis(1);
const QUIET_WAITS_MAX: usize = 5000;

/// Sees to it that a partition that grew much is rewritten.
pub(super) fn start_if_due(host: &Rc<Host>, shard: &Rc<Shard>) {
    let least = shard.config().groups.rewrite_bytes;
    let due = least.max(WRITTEN_PER_KEPT * host.kept_bytes.get());
    if host.written_bytes.get() < due || host.later_keys.borrow().is_some() || host.holds.get() {
        return;
    }
    host.holds.set(true);
    let (host, shard) = (host.clone(), shard.clone());
    let runtime = shard.runtime.clone();
    runtime.spawn("groups rewrite", async move {
        let partition = host.partition.key().partition;
        let before = host.written_bytes.replace(0);
        match rewrite(&host, &shard).await {
            Ok(kept_bytes) => {
                host.kept_bytes.set(kept_bytes);
                tracing::info!(partition, before, kept_bytes, "groups rewritten");
            }
            Err(error) => {
                tracing::warn!(partition, %error, "the records of groups were not rewritten");
            }
        }
        *host.later_keys.borrow_mut() = None;
        release(&host, &shard);
    });
}

fn release(host: &Rc<Host>, shard: &Rc<Shard>) {
    if host.holds.replace(false) && !host.queue.borrow().is_empty() {
        write::start(host, shard);
    }
}

/// Returns the size of what was kept.
async fn rewrite(host: &Rc<Host>, shard: &Rc<Shard>) -> io::Result<u64> {
    let end = quiet_end(host, shard).await?;
    *host.later_keys.borrow_mut() = Some(BTreeSet::new());
    release(host, shard);
    let log = host.partition.log();
    let mut last: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let mut open = OpenTransactions::default();
    log.scan_batches(log.start(), end, |batch| {
        open.pass(batch, |(key, value)| match value {
            Some(value) => drop(last.insert(key, value)),
            None => drop(last.remove(&key)),
        })
    })
    .await?;
    if !open.is_empty() {
        return Err(io::Error::other("a transaction is open in them"));
    }
    host.partition.roll_before_next();
    let mut kept_bytes = 0;
    let mut rest = last.into_iter().peekable();
    while rest.peek().is_some() {
        let mut builder = BatchBuilder::new();
        while builder.size_bytes() < BATCH_BYTES_GOAL {
            let Some((key, value)) = rest.next() else { break };
            let later = host.later_keys.borrow();
            if later.as_ref().is_none_or(|later| later.contains(&key)) {
                continue;
            }
            let record: KeyValue = (key, Some(value));
            write::add(&mut builder, &record, shard.runtime.wall_clock());
        }
        if builder.record_count() > 0 {
            kept_bytes += builder.size_bytes() as u64;
            append(host, builder).await?;
        }
        shard.runtime.pass().await;
    }
    // Before what they were copied from goes: that may have been on disk for long.
    host.partition.flush().await?;
    log.advance_start(end).await?;
    shard.checkpoints_stale.set(true);
    host.partition.apply_retention(shard.runtime.wall_clock()).await?;
    Ok(kept_bytes)
}

/// The log's end, once nothing is on its way there.
async fn quiet_end(host: &Rc<Host>, shard: &Rc<Shard>) -> io::Result<Offset> {
    for _ in 0..QUIET_WAITS_MAX {
        if host.undecided.get() == host.queue.borrow().len() {
            return Ok(host.partition.log().end());
        }
        shard.runtime.sleep(QUIET_WAIT).await;
    }
    Err(io::Error::other("writes took too long"))
}

async fn append(host: &Rc<Host>, builder: BatchBuilder) -> io::Result<()> {
    let batch = write::validated(builder)?;
    let (reply, outcome) = oneshot();
    let done = move |outcome: AppendOutcome| reply.send(outcome);
    host.partition.append(Append { batch, acks: RequiredAcks::All }, done);
    match outcome.await {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) | None => Err(io::Error::other("the log refused them")),
    }
}
