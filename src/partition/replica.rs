//! A partition on its owner core: the log, what decides about it, and who waits on it.
//!
//! One writer at a time appends (see `writer`); any number of readers read. Borrows of the state
//! are short and never held over an await.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use crate::base::{Instant, LeaderEpoch, NodeId, Offset, PartitionKey, Timestamp};
use crate::log::journal::{self, Entry, Journal};
use crate::log::{AppendBatch, Log, OpenError, Opened, Setup};
use crate::partition::leader::{Effect, Input, Leader, Start};
use crate::partition::message::{
    Append, AppendFailure, AppendOutcome, Appended, PartitionSettings,
};
use crate::partition::producers::ProducerStates;
use crate::protocol::batch::BatchHeader;
use crate::runtime::Runtime;
use crate::runtime::local::{Notice, Reply, oneshot};

/// What the cluster's metadata says about this replica's leadership.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// This node.
    pub node: NodeId,
    /// The epoch of the leadership.
    pub epoch: LeaderEpoch,
    /// The partition's replicas.
    pub replicas: Vec<NodeId>,
    /// The replicas in sync.
    pub in_sync: Vec<NodeId>,
}

/// What a partition is opened with.
#[derive(Clone, Debug)]
pub struct OpenPartition {
    /// The partition.
    pub key: PartitionKey,
    /// Its topic's name.
    pub topic: Rc<str>,
    /// Its directory.
    pub directory: PathBuf,
    /// Its topic's settings.
    pub settings: PartitionSettings,
    /// Its leadership.
    pub leadership: Leadership,
    /// The recovery point of the checkpoint file.
    pub recovery_point: Offset,
    /// The log start of the checkpoint file.
    pub log_start: Offset,
    /// The high watermark of the checkpoint file.
    pub high_watermark: Offset,
    /// Whether the last process ended cleanly.
    pub clean: bool,
    /// What a crash may have taken from the log's end, and the journals have.
    pub journaled: Vec<Entry>,
    /// Where appends become durable that have to be at once; `None` when the log itself is synced.
    pub journal: Option<Journal>,
}

/// A partition of this core. Clones are the same partition.
#[derive(Clone)]
pub struct Partition(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) key: PartitionKey,
    pub(super) topic: Rc<str>,
    pub(super) runtime: Runtime,
    pub(super) log: Log,
    pub(super) leader: RefCell<Leader>,
    pub(super) producers: RefCell<ProducerStates>,
    pub(super) settings: RefCell<PartitionSettings>,
    pub(super) queue: RefCell<VecDeque<Queued>>,
    pub(super) writing: Cell<bool>,
    pub(super) failed: Cell<bool>,
    /// When the log last told of a write that failed.
    pub(super) write_failure_told: Cell<Option<Instant>>,
    pub(super) roll_wanted: Cell<bool>,
    pub(super) closed: Cell<bool>,
    pub(super) idle: Notice,
    pub(super) tickets: RefCell<BTreeMap<u64, (Done, Appended)>>,
    pub(super) ticket_next: Cell<u64>,
    pub(super) unsynced_record_count: Cell<u64>,
    pub(super) unsynced_bytes: Cell<u64>,
    pub(super) syncing: Cell<bool>,
    pub(super) sync_wanted: Cell<Option<Offset>>,
    pub(super) journal: Option<Journal>,
    /// Written since the last sync began, for the journal.
    pub(super) to_journal: RefCell<Vec<AppendBatch>>,
    /// Everything below is durable by the journal, if not by the log's own sync.
    pub(super) journaled_end: Cell<Offset>,
    end_last_seen: Cell<Offset>,
    watchers: RefCell<Watchers>,
}

/// What an append's answer is given to.
pub(super) type Done = Box<dyn FnOnce(AppendOutcome)>;

pub(super) struct Queued {
    pub(super) append: Append,
    pub(super) done: Done,
}

/// A parked read: told once, when any of the partitions it watches has more to read.
pub struct Watcher {
    told: RefCell<Option<Reply<()>>>,
}

impl Watcher {
    /// A watcher, and what resolves when it is told. Watching ends when the `Rc` is dropped.
    pub fn new() -> (Rc<Self>, crate::runtime::local::Answer<()>) {
        let (reply, answer) = oneshot();
        (Rc::new(Self { told: RefCell::new(Some(reply)) }), answer)
    }

    /// Wakes the parked read; later calls change nothing.
    pub fn tell(&self) {
        if let Some(reply) = self.told.borrow_mut().take() {
            reply.send(());
        }
    }
}

#[derive(Default)]
struct Watchers {
    list: Vec<Weak<Watcher>>,
    prune_at: usize,
}

impl Watchers {
    fn add(&mut self, watcher: &Rc<Watcher>) {
        // Reads that found their bytes elsewhere leave dead entries; dropping them whenever the
        // list doubles keeps it in proportion to the living ones.
        if self.list.len() >= self.prune_at.max(8) {
            self.list.retain(|watcher| watcher.strong_count() > 0);
            self.prune_at = self.list.len() * 2;
        }
        self.list.push(Rc::downgrade(watcher));
    }
}

impl Partition {
    /// Opens the partition's log, brings the producers' state up to its end, and begins the
    /// leadership.
    pub async fn open(runtime: &Runtime, open: OpenPartition) -> Result<(Self, Opened), OpenError> {
        let setup = Setup {
            directory: open.directory,
            config: open.settings.log.clone(),
            recovery_point: open.recovery_point,
            log_start: open.log_start,
            clean: open.clean,
            journaled: open.journaled.iter().map(journal::Entry::base_offset).collect(),
        };
        let (log, opened) = Log::open(runtime, setup).await?;
        let replayed = journal::replay(runtime, &log, &open.journaled).await?;
        if replayed > 0 {
            tracing::info!(topic = %open.topic, partition = open.key.partition, batches = replayed,
                end = %log.end(), "batches came back from the journal");
        }
        if open.settings.flush_record_count < u64::MAX || !open.journaled.is_empty() {
            // What a killed process left in the page cache was not promised, but now it is served,
            // and what is sent again of it is acknowledged.
            log.flush().await?;
        }
        let producers = load_producers(&log, &open.settings, runtime.wall_clock()).await?;
        if log.latest_epoch().is_none_or(|known| known < open.leadership.epoch) {
            log.begin_epoch(open.leadership.epoch, log.end()).await;
        }
        let leader = Leader::new(
            Start {
                node: open.leadership.node,
                epoch: open.leadership.epoch,
                replicas: open.leadership.replicas,
                in_sync: open.leadership.in_sync,
                in_sync_count_min: open.settings.in_sync_count_min,
                log_end: log.end(),
                high_watermark: open.high_watermark.max(log.start()),
            },
            &mut Vec::new(),
        );
        let inner = Inner {
            key: open.key,
            topic: open.topic,
            runtime: runtime.clone(),
            log,
            leader: RefCell::new(leader),
            producers: RefCell::new(producers),
            settings: RefCell::new(open.settings),
            queue: RefCell::default(),
            writing: Cell::new(false),
            failed: Cell::new(false),
            write_failure_told: Cell::default(),
            roll_wanted: Cell::new(false),
            closed: Cell::new(false),
            idle: Notice::new(),
            tickets: RefCell::default(),
            ticket_next: Cell::new(0),
            unsynced_record_count: Cell::new(0),
            unsynced_bytes: Cell::new(0),
            syncing: Cell::new(false),
            sync_wanted: Cell::new(None),
            journal: open.journal,
            to_journal: RefCell::default(),
            journaled_end: Cell::new(Offset::ZERO),
            end_last_seen: Cell::new(Offset::ZERO),
            watchers: RefCell::default(),
        };
        Ok((Self(Rc::new(inner)), opened))
    }

    /// The partition.
    pub fn key(&self) -> PartitionKey {
        self.0.key
    }

    /// Its topic's name.
    pub fn topic(&self) -> &Rc<str> {
        &self.0.topic
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The epoch of its leadership.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.0.leader.borrow().epoch()
    }

    /// The high watermark.
    pub fn high_watermark(&self) -> Offset {
        self.0.leader.borrow().high_watermark()
    }

    /// The last stable offset: nothing below it belongs to an open transaction.
    pub fn last_stable(&self) -> Offset {
        let high_watermark = self.high_watermark();
        match self.0.producers.borrow().first_unstable_offset(high_watermark) {
            Some(unstable) => unstable.min(high_watermark),
            None => high_watermark,
        }
    }

    /// Whether the disk failed under it.
    pub fn is_failed(&self) -> bool {
        self.0.failed.get()
    }

    /// Calls `visit` with the state of its producers.
    pub fn with_producers<T>(&self, visit: impl FnOnce(&ProducerStates) -> T) -> T {
        visit(&self.0.producers.borrow())
    }

    /// Its topic's settings changed.
    pub fn set_settings(&self, settings: PartitionSettings) {
        self.0.log.set_config(settings.log.clone());
        let count = settings.in_sync_count_min;
        *self.0.settings.borrow_mut() = settings;
        self.0.decide(Input::MinInSyncChanged { count });
    }

    /// A new leader epoch or in-sync set, from the metadata.
    pub async fn lead(&self, leadership: Leadership) {
        if leadership.epoch > self.leader_epoch() {
            self.0.log.begin_epoch(leadership.epoch, self.0.log.end()).await;
            let mut leader = self.0.leader.borrow_mut();
            leader.begin_epoch(leadership.epoch, self.0.log.end());
        }
        self.0.decide(Input::InSyncChanged { in_sync: leadership.in_sync });
    }

    /// Has `watcher` told when records become readable.
    pub fn watch(&self, watcher: &Rc<Watcher>) {
        self.0.watchers.borrow_mut().add(watcher);
    }

    /// Queues `append` behind those asked for earlier; `done` gets its outcome.
    ///
    /// The order of calls is the order in the log. `done` is called once, possibly before this
    /// returns.
    pub fn append(&self, append: Append, done: impl FnOnce(AppendOutcome) + 'static) {
        if self.0.closed.get() {
            return done(Err(AppendFailure::NotLeader));
        }
        self.0.queue.borrow_mut().push_back(Queued { append, done: Box::new(done) });
        super::writer::start(&self.0);
    }

    /// Has the next append begin a new segment.
    pub fn roll_before_next(&self) {
        self.0.roll_wanted.set(true);
    }

    /// Lets open files go when nothing was appended since the last call.
    pub fn release_if_idle(&self) {
        let end = self.0.log.end();
        if self.0.end_last_seen.replace(end) == end {
            self.0.log.release_files();
        }
    }

    /// Drops producers that were idle too long, and ended transactions that no reader waits for.
    pub fn expire_producers(&self, now: Timestamp) {
        let expiration = self.0.settings.borrow().producer_expiration;
        let mut producers = self.0.producers.borrow_mut();
        producers.expire(now, expiration);
        producers.forget_replicated(self.high_watermark());
    }

    /// Deletes what retention allows. Returns how many segments went.
    pub async fn apply_retention(&self, now: Timestamp) -> std::io::Result<usize> {
        self.0.log.delete_old_segments(now, self.high_watermark()).await
    }

    /// Moves the log start up, as DeleteRecords asks; `before` as on the wire, -1 for the high
    /// watermark. Returns the new low watermark.
    pub async fn delete_records(&self, before: i64) -> Result<Offset, DeleteRecordsError> {
        let high_watermark = self.high_watermark();
        let (deletes, compacts) = {
            let settings = self.0.settings.borrow();
            (settings.log.delete_policy, settings.log.compact_policy)
        };
        if compacts && !deletes {
            return Err(DeleteRecordsError::Policy);
        }
        let to = match before {
            -1 => high_watermark,
            wire => Offset::from_wire(wire).ok_or(DeleteRecordsError::OffsetOutOfRange)?,
        };
        if to > high_watermark {
            return Err(DeleteRecordsError::OffsetOutOfRange);
        }
        let storage = |_| DeleteRecordsError::Storage;
        if self.0.journal.is_some() && self.0.log.recovery_point() < to {
            // The journal alone may have the batch that the new start lies in: a log that a loss of
            // power left behind its start would begin anew there, without the rest of the batch.
            self.0.log.flush().await.map_err(storage)?;
        }
        self.0.log.advance_start(to).await.map_err(storage)?;
        Ok(self.0.log.start())
    }

    /// Makes all that is written durable and moves the recovery point up.
    pub async fn flush(&self) -> std::io::Result<Offset> {
        self.0.unsynced_record_count.set(0);
        self.0.unsynced_bytes.set(0);
        self.0.log.flush().await
    }

    /// Bytes written since the last sync.
    pub fn unsynced_bytes(&self) -> u64 {
        self.0.unsynced_bytes.get()
    }

    /// Ends appends (what is queued gets `NotLeader`), and waits until nothing is being written.
    pub async fn stop(&self) {
        self.0.closed.set(true);
        while self.0.writing.get() || self.0.syncing.get() {
            self.0.idle.notified().await;
        }
        self.0.abandon(AppendFailure::NotLeader);
        self.0.wake_watchers();
    }

    /// Stops, writes the producers' snapshot, and leaves the files as a clean stop leaves them.
    pub async fn close(&self) -> std::io::Result<()> {
        self.stop().await;
        if self.0.failed.get() {
            return Ok(());
        }
        let log = &self.0.log;
        // An empty log needs none, and an idle one has it.
        if log.end() > log.start() && log.snapshots().last() != Some(&log.end()) {
            let snapshot = self.0.producers.borrow().encode_snapshot();
            log.write_snapshot(log.end(), &snapshot).await?;
        }
        log.close().await
    }
}

/// Why DeleteRecords was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeleteRecordsError {
    /// The topic is only compacted.
    Policy,
    /// The offset lies above the high watermark, or is no offset.
    OffsetOutOfRange,
    /// This core does not hold the partition.
    NotLeader,
    /// The disk refused.
    Storage,
}

impl Inner {
    /// Gives the leader one input and carries out what follows.
    pub(super) fn decide(&self, input: Input) {
        let mut effects = Vec::new();
        self.leader.borrow_mut().handle(input, &mut effects);
        for effect in effects {
            match effect {
                Effect::HighWatermarkMoved { .. } => self.wake_watchers(),
                Effect::Acknowledge { ticket, result } => {
                    let waiting = self.tickets.borrow_mut().remove(&ticket.0);
                    let Some((done, appended)) = waiting else { continue };
                    done(match result {
                        Ok(()) => Ok(appended),
                        Err(_) => Err(AppendFailure::NotEnoughReplicasAfterAppend),
                    });
                }
            }
        }
    }

    pub(super) fn wake_watchers(&self) {
        let list = std::mem::take(&mut self.watchers.borrow_mut().list);
        for watcher in list.iter().filter_map(Weak::upgrade) {
            watcher.tell();
        }
    }

    /// Refuses everything that is queued or waits.
    pub(super) fn abandon(&self, failure: AppendFailure) {
        let tickets = self.leader.borrow_mut().abandon();
        for ticket in tickets {
            let waiting = self.tickets.borrow_mut().remove(&ticket.0);
            if let Some((done, _)) = waiting {
                done(Err(failure));
            }
        }
        loop {
            let next = self.queue.borrow_mut().pop_front();
            let Some(queued) = next else { return };
            (queued.done)(Err(failure));
        }
    }
}

/// The producers' state at the log's end: the latest readable snapshot, and what follows it. The
/// index of aborted transactions is made whole for what follows.
pub(super) async fn load_producers(
    log: &Log,
    settings: &PartitionSettings,
    now: Timestamp,
) -> std::io::Result<ProducerStates> {
    let mut producers = ProducerStates::new();
    let mut from = log.start();
    let within = log.start()..=log.end();
    for at in log.snapshots().into_iter().rev().filter(|at| within.contains(at)) {
        let bytes = log.read_snapshot(at).await?;
        match ProducerStates::decode_snapshot(&bytes) {
            Ok(loaded) => {
                producers = loaded;
                // As Kafka does it: what follows in the log counts as live, however old its
                // timestamps are.
                producers.expire(now, settings.producer_expiration);
                from = at.max(log.start());
                break;
            }
            Err(error) => {
                tracing::warn!(snapshot = %at, %error, "a damaged producer snapshot is rebuilt");
            }
        }
    }
    if from < log.end() {
        let mut aborted = Vec::new();
        log.scan(from, log.end(), |header: &BatchHeader, control| {
            let ended = producers.replay(header, control);
            aborted.extend(ended.and_then(|ended| ended.aborted()));
        })
        .await?;
        // A crash may have taken their entries; a reader would be shown what was aborted.
        log.append_aborted(&aborted).await?;
    }
    Ok(producers)
}
