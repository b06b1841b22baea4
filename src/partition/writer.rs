//! Appending: queued batches become one vectored write, in the order they were asked for.
//!
//! The writer of a partition runs only while something is queued. What arrives while a write is in
//! flight, or in the same turn, goes into the next group.
//!
//! Acknowledgement follows the write; with `flush.messages` reached it follows the sync, and one
//! sync answers all that waited for it (group commit).

use std::rc::Rc;
use std::time::Duration;

use crate::base::{Offset, Timestamp};
use crate::log::{AppendBatch, BatchMeta};
use crate::partition::leader::{Input, Ticket};
use crate::partition::message::{Append, AppendFailure, Appended, RequiredAcks};
use crate::partition::producers::Check;
use crate::partition::replica::{Done, Inner, Queued, load_producers};
use crate::protocol::batch::stamp;
use crate::runtime::local::next_turn;

/// Batches in one write at most: a vectored write takes 1,024 parts, two a batch.
const GROUP_BATCH_COUNT_MAX: usize = 256;

/// Bytes in one write at most, but for a single larger batch: it bounds the time of one turn.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// How often the log tells of writes of one partition that fail.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// After how long a log that could not be read back is read again.
const READ_BACK_WAIT: Duration = Duration::from_millis(200);

/// One group on its way to the log.
#[derive(Default)]
struct Group {
    batches: Vec<AppendBatch>,
    answers: Vec<(Done, Appended, RequiredAcks, Offset)>,
    size_bytes: usize,
    record_count: u64,
}

/// Sees to it that a writer runs.
pub(super) fn start(inner: &Rc<Inner>) {
    if inner.writing.replace(true) {
        return;
    }
    let inner = inner.clone();
    let runtime = inner.runtime.clone();
    runtime.spawn("partition writer", async move {
        // Appends that other connections ask for in this turn join the first group.
        next_turn().await;
        drain(&inner).await;
        inner.writing.set(false);
        inner.idle.notify();
        if !inner.queue.borrow().is_empty() {
            start(&inner);
        }
    });
}

async fn drain(inner: &Rc<Inner>) {
    loop {
        if inner.closed.get() {
            return inner.abandon(AppendFailure::NotLeader);
        }
        if inner.log.is_failed() {
            // Until the broker is started again: not even a roll is to be tried.
            return refuse_queued(inner);
        }
        let mut group = Group::default();
        let now = inner.runtime.wall_clock();
        let mut roll_before = false;
        while group.batches.len() < GROUP_BATCH_COUNT_MAX && group.size_bytes < GROUP_BYTES_MAX {
            let Some(queued) = inner.queue.borrow_mut().pop_front() else { break };
            if needs_roll(inner, &group, &queued.append, now) {
                inner.queue.borrow_mut().push_front(queued);
                roll_before = true;
                break;
            }
            admit(inner, &mut group, queued);
        }
        if !group.answers.is_empty() && write(inner, group).await.is_err() {
            return;
        }
        if roll_before {
            if let Err(error) = roll(inner).await {
                return fail(inner, Vec::new(), &error).await;
            }
        } else if inner.queue.borrow().is_empty() {
            return;
        }
        inner.runtime.pass().await;
    }
}

fn meta(inner: &Inner, group: &Group, append: &Append) -> BatchMeta {
    let header = &append.batch.header;
    let base_offset = group_end(inner, group);
    BatchMeta {
        base_offset,
        last_offset: base_offset + header.last_offset_delta as u64,
        max_timestamp: header.max_timestamp,
        max_timestamp_offset: base_offset + append.batch.max_timestamp_offset_delta as u64,
        size_bytes: append.batch.bytes.len() as u32,
        leader_epoch: inner.leader.borrow().epoch(),
    }
}

fn group_end(inner: &Inner, group: &Group) -> Offset {
    match group.batches.last() {
        Some(batch) => batch.meta.last_offset.next(),
        None => inner.log.end(),
    }
}

fn needs_roll(inner: &Inner, group: &Group, append: &Append, now: Timestamp) -> bool {
    inner.roll_wanted.get()
        || inner.log.will_roll_after(group.size_bytes as u64, &meta(inner, group, append), now)
}

/// Closes the active segment. The producers' snapshot at its end lets a restart skip the segment.
async fn roll(inner: &Inner) -> std::io::Result<()> {
    inner.roll_wanted.set(false);
    inner.log.roll().await?;
    let snapshot = inner.producers.borrow().encode_snapshot();
    inner.log.write_snapshot_later(inner.log.end(), snapshot);
    Ok(())
}

/// Checks one append against the leadership and the producers' state, and puts it into the group,
/// or answers it.
fn admit(inner: &Inner, group: &mut Group, queued: Queued) {
    let Queued { append, done } = queued;
    let log_start = inner.log.start();
    if inner.failed.get() {
        return done(Err(AppendFailure::Storage));
    }
    if append.acks == RequiredAcks::All && inner.leader.borrow().admit().is_err() {
        inner.producers.borrow_mut().note_refused(&append.batch.header);
        return done(Err(AppendFailure::NotEnoughReplicas { log_start }));
    }
    let meta = meta(inner, group, &append);
    let mut header = append.batch.header;
    let checked = inner.producers.borrow_mut().check(&header);
    match checked {
        Err(error) => done(Err(AppendFailure::Sequence { error, log_start })),
        Ok(Check::Duplicate { base_offset, last_offset, timestamp }) => {
            // The original may still be on its way: the answer waits for it like any other.
            let append_time = Some(timestamp);
            let appended = Appended { base_offset, append_time, log_start };
            group.answers.push((done, appended, append.acks, last_offset.next()));
        }
        Ok(Check::Append) => {
            header.base_offset = meta.base_offset.to_wire();
            header.partition_leader_epoch = meta.leader_epoch.to_wire();
            inner.producers.borrow_mut().record(&header);
            let parts = stamp(&append.batch.bytes, meta.base_offset, meta.leader_epoch);
            let appended = Appended {
                base_offset: meta.base_offset,
                append_time: append.batch.append_time,
                log_start,
            };
            group.size_bytes += meta.size_bytes as usize;
            group.record_count += header.record_count as u64;
            group.answers.push((done, appended, append.acks, meta.last_offset.next()));
            group.batches.push(AppendBatch { meta, parts });
        }
    }
}

async fn write(inner: &Rc<Inner>, group: Group) -> Result<(), ()> {
    if !group.batches.is_empty()
        && let Err(error) = inner.log.append(&group.batches).await
    {
        fail(inner, group.answers, &error).await;
        return Err(());
    }
    if inner.failed.get() {
        // A sync failed meanwhile: what lies before this may be lost, and so may this.
        group.answers.into_iter().for_each(|(done, ..)| done(Err(AppendFailure::Storage)));
        return Err(());
    }
    let end = inner.log.end();
    let unsynced = inner.unsynced_record_count.get() + group.record_count;
    inner.unsynced_record_count.set(unsynced);
    let was_unsynced = inner.unsynced_bytes.get();
    inner.unsynced_bytes.set(was_unsynced + group.size_bytes as u64);
    let sync = unsynced >= inner.settings.borrow().flush_record_count;
    // A write behind one that is being synced may not overtake it.
    let waits = sync || inner.syncing.get() && inner.sync_wanted.get().is_some();
    if !waits {
        // First of all: without other replicas nobody has to wait for the high watermark then.
        inner.decide(Input::Written { end });
    }
    for (done, appended, acks, batch_end) in group.answers {
        match acks {
            RequiredAcks::All => wait_for_watermark(inner, done, appended, batch_end),
            // Also for a duplicate, which adds nothing: the original may be on its way to the disk.
            RequiredAcks::Leader if waits => wait_for_watermark(inner, done, appended, batch_end),
            RequiredAcks::Leader | RequiredAcks::None => done(Ok(appended)),
        }
    }
    if waits {
        keep_for_journal(inner, group.batches);
        want_sync(inner, Some(end));
    } else if inner.unsynced_bytes.get() > inner.settings.borrow().unsynced_bytes_max {
        want_sync(inner, None);
    }
    if was_unsynced == 0 && inner.unsynced_bytes.get() > 0 {
        start_flush_timer(inner);
    }
    Ok(())
}

fn wait_for_watermark(inner: &Inner, done: Done, appended: Appended, end: Offset) {
    if inner.leader.borrow().high_watermark() >= end {
        return done(Ok(appended));
    }
    let ticket = inner.ticket_next.get();
    inner.ticket_next.set(ticket + 1);
    inner.tickets.borrow_mut().insert(ticket, (done, appended));
    // The leader answers in order of `end`; a duplicate may lie before its neighbours, whose end
    // then decides: it is answered no earlier than it may.
    let end = end.max(inner.log.end());
    inner.decide(Input::Await { ticket: Ticket(ticket), end });
}

/// Keeps what was written until it is made durable, where the journal may do that: every write is
/// synced.
fn keep_for_journal(inner: &Inner, batches: Vec<AppendBatch>) {
    let Some(journal) = &inner.journal else { return };
    if inner.settings.borrow().flush_record_count > 1 {
        return;
    }
    let mut kept = inner.to_journal.borrow_mut();
    kept.extend(batches);
    if !journal.takes(&kept) {
        kept.clear();
    }
}

/// Makes everything below `end` durable by the journal. `false` when the log must be synced: the
/// journal does not take it, or lacks a batch.
async fn journal(inner: &Inner, end: Option<Offset>) -> bool {
    let batches = inner.to_journal.take();
    let (Some(journal), Some(end)) = (&inner.journal, end) else { return false };
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return false };
    let journaled_end = last.meta.last_offset.next();
    let durable_end = inner.journaled_end.get().max(inner.log.recovery_point());
    if first.meta.base_offset > durable_end || journaled_end < end {
        return false;
    }
    let Some(durable) = journal.commit(inner.key, &inner.log, batches) else { return false };
    if durable.await.is_none() {
        return false;
    }
    inner.journaled_end.set(journaled_end);
    true
}

/// Has the log synced; all that is written below `report` then counts as written.
fn want_sync(inner: &Rc<Inner>, report: Option<Offset>) {
    if report.is_some() {
        inner.sync_wanted.set(report);
    }
    if inner.syncing.replace(true) {
        return;
    }
    let inner = inner.clone();
    let runtime = inner.runtime.clone();
    runtime.spawn("partition sync", async move {
        loop {
            let report = inner.sync_wanted.get();
            inner.unsynced_record_count.set(0);
            inner.unsynced_bytes.set(0);
            let synced = match journal(&inner, report).await {
                true => Ok(()),
                false => inner.log.flush().await.map(drop),
            };
            if let Err(error) = synced {
                // A failed sync may have lost pages: nothing of this log can be promised any more.
                inner.failed.set(true);
                inner.syncing.set(false);
                inner.abandon(AppendFailure::Storage);
                tracing::error!(topic = %inner.topic, partition = inner.key.partition, %error,
                    "sync failed, the partition goes offline");
                return inner.idle.notify();
            }
            if let Some(end) = report {
                inner.decide(Input::Written { end });
            }
            if inner.sync_wanted.get() == report {
                break;
            }
        }
        inner.sync_wanted.set(None);
        inner.syncing.set(false);
        inner.idle.notify();
    });
}

/// With `flush.ms`, syncs that long after the first unsynced record.
fn start_flush_timer(inner: &Rc<Inner>) {
    let Some(interval) = inner.settings.borrow().flush_interval else { return };
    let weak = Rc::downgrade(inner);
    let runtime = inner.runtime.clone();
    inner.runtime.spawn("flush timer", async move {
        runtime.sleep(interval).await;
        let Some(inner) = weak.upgrade() else { return };
        if inner.unsynced_bytes.get() > 0 && !inner.closed.get() {
            want_sync(&inner, None);
        }
    });
}

/// The log refused a write: nothing of the group is visible, and the producers' state goes back to
/// what the log holds.
async fn fail(
    inner: &Inner,
    answers: Vec<(Done, Appended, RequiredAcks, Offset)>,
    error: &std::io::Error,
) {
    let now = inner.runtime.now();
    let is_told = inner.write_failure_told.get().is_some_and(|at| now.since(at) < TOLD_EVERY);
    if !is_told {
        inner.write_failure_told.set(Some(now));
        tracing::error!(topic = %inner.topic, partition = inner.key.partition, %error,
            "write failed");
    }
    for (done, ..) in answers {
        done(Err(AppendFailure::Storage));
    }
    if !inner.log.is_failed() {
        read_back(inner).await;
    }
    // What was queued behind may stand on sequences that were just lost.
    refuse_queued(inner);
}

/// Takes the producers' state from the log. What hinders it may pass, as a want of descriptors or a
/// disk that fails for a while: it is tried until it works, and appends are refused meanwhile.
async fn read_back(inner: &Inner) {
    let mut is_told = false;
    loop {
        let settings = inner.settings.borrow().clone();
        let now = inner.runtime.wall_clock();
        let error = match load_producers(&inner.log, &settings, now).await {
            Ok(mut producers) => {
                producers.note_lost(&inner.producers.borrow(), inner.log.end());
                *inner.producers.borrow_mut() = producers;
                return;
            }
            Err(error) => error,
        };
        if !is_told {
            is_told = true;
            tracing::error!(topic = %inner.topic, partition = inner.key.partition, %error,
                "the log can not be read back, appends are refused until it can");
        }
        if inner.closed.get() {
            // The next start reads it.
            return inner.failed.set(true);
        }
        inner.runtime.sleep(READ_BACK_WAIT).await;
        refuse_queued(inner);
    }
}

fn refuse_queued(inner: &Inner) {
    loop {
        let next = inner.queue.borrow_mut().pop_front();
        let Some(queued) = next else { return };
        inner.producers.borrow_mut().note_refused(&queued.append.batch.header);
        (queued.done)(Err(AppendFailure::Storage));
    }
}
