//! The group coordinators of a core: one for each partition of `__consumer_offsets` it owns.
//!
//! A coordinator begins to load when its partition opens, and ends with it. This carries out what
//! the pure [`Coordinator`] decides: appends its records, wakes it in time, sends its answers.
//!
//! Invariant: no borrow of a coordinator is held while its effects are carried out.

mod load;
mod records;
mod rewrite;
mod settings;
mod write;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::base::Instant;
use crate::group::message::{List, Listed};
use crate::group::{self, Coordinator, Effect, Now, Record, Request, Ticket, WriteId};
use crate::mesh::groups::settings::KnownConfigs;
use crate::mesh::message::Answer;
use crate::mesh::shard::{ReplyTo, Shard};
use crate::metadata::OFFSETS_TOPIC;
use crate::partition::Partition;
use crate::protocol::ErrorCode;
use crate::runtime::local::Notice;

/// How often it is told that groups take up much of the memory they may.
const SHORT_TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// What a request's answer is given to.
type Done = Box<dyn FnOnce(group::Answer)>;

/// The coordinators of one core.
#[derive(Default)]
pub(super) struct Groups {
    hosts: RefCell<BTreeMap<i32, Rc<Host>>>,
    /// What groups have set for themselves, as of the core's image.
    configs: RefCell<KnownConfigs>,
    /// When the timers' task wakes next; it sleeps for ever on `None`.
    wakes_at: Cell<Option<Instant>>,
    sooner: Notice,
    has_timers: Cell<bool>,
    /// What all of them take up in memory.
    size_bytes: Cell<usize>,
    /// When it was last told that memory is short.
    short_told_at: Cell<Option<Instant>>,
}

/// One coordinator, and what connects it with the world.
pub(super) struct Host {
    shard: std::rc::Weak<Shard>,
    partition: Partition,
    coordinator: RefCell<Coordinator>,
    /// What it takes up in memory, as the core has counted it.
    counted_bytes: Cell<usize>,
    waiting: RefCell<FxHashMap<u64, Done>>,
    ticket_next: Cell<u64>,
    /// Records that wait for the next batch.
    queue: RefCell<Vec<(WriteId, Vec<Record>)>>,
    writing: Cell<bool>,
    /// Writes handed out whose fate the coordinator does not know yet.
    undecided: Cell<usize>,
    /// The coordinator forgot all: it is loaded anew once no write is undecided.
    reloads: Cell<bool>,
    /// Bytes written since the last rewrite.
    written_bytes: Cell<u64>,
    /// Bytes the last rewrite kept.
    kept_bytes: Cell<u64>,
    /// Whether nothing is to be handed to the log just now.
    holds: Cell<bool>,
    /// While a rewrite is under way: keys of what was handed to the log since it began.
    later_keys: RefCell<Option<BTreeSet<Bytes>>>,
}

impl Shard {
    /// A partition was opened: one of `__consumer_offsets` gets its coordinator.
    pub(super) fn begin_groups(self: &Rc<Self>, partition: &Partition) {
        if **partition.topic() != *OFFSETS_TOPIC {
            return;
        }
        let host = Rc::new(Host {
            shard: Rc::downgrade(self),
            partition: partition.clone(),
            coordinator: RefCell::new(Coordinator::new(self.group_settings())),
            counted_bytes: Cell::new(0),
            waiting: RefCell::default(),
            ticket_next: Cell::new(0),
            queue: RefCell::default(),
            writing: Cell::new(false),
            undecided: Cell::new(0),
            reloads: Cell::new(false),
            written_bytes: Cell::new(0),
            kept_bytes: Cell::new(0),
            holds: Cell::new(false),
            later_keys: RefCell::default(),
        });
        host.take_metadata(self);
        self.groups.hosts.borrow_mut().insert(partition.key().partition, host.clone());
        self.start_group_timers();
        self.runtime.spawn("groups load", load::load(host));
    }

    /// A partition is closed or deleted: what waits on its coordinator is told to look elsewhere.
    pub(super) fn end_groups(&self, partition: &Partition) {
        if **partition.topic() != *OFFSETS_TOPIC {
            return;
        }
        let host = self.groups.hosts.borrow_mut().remove(&partition.key().partition);
        if let Some(host) = host {
            host.act(|coordinator, _, effects| coordinator.unload(effects));
            let left = self.groups.size_bytes.get() - host.counted_bytes.take();
            self.groups.size_bytes.set(left);
        }
    }

    /// The process ends: members that wait for others are told to look elsewhere.
    pub(super) fn release_group_members(&self) {
        let hosts: Vec<Rc<Host>> = self.groups.hosts.borrow().values().cloned().collect();
        for host in hosts {
            host.act(|coordinator, _, effects| coordinator.unload(effects));
        }
    }

    /// The broker's settings or the topics changed.
    pub(super) fn tell_groups(&self) {
        self.groups.configs.borrow_mut().follow(&self.image());
        let settings = self.group_settings();
        let hosts: Vec<Rc<Host>> = self.groups.hosts.borrow().values().cloned().collect();
        for host in hosts {
            host.coordinator.borrow_mut().set_settings(settings.clone());
            host.take_metadata(self);
        }
    }

    fn group_settings(&self) -> group::Settings {
        settings::of_all(&self.config().groups, self.group_batch_bytes_max())
    }

    /// What a batch of `__consumer_offsets` may have; the log refuses larger ones.
    fn group_batch_bytes_max(&self) -> usize {
        let image = self.image();
        let topic = image.topic_named(OFFSETS_TOPIC);
        topic.map_or(usize::MAX, |topic| {
            self.topic_settings(topic).rules(0).batch_bytes_max as usize
        })
    }

    /// Answers requests to coordinators: for each the partition, and what is asked.
    pub(super) fn answer_groups(self: &Rc<Self>, to: ReplyTo, asked: Vec<(i32, Request)>) {
        let count = asked.len();
        let join = Rc::new(Join {
            shard: self.clone(),
            to: RefCell::new(Some(to)),
            answers: RefCell::new((0..count).map(|_| None).collect()),
            missing: Cell::new(count),
        });
        for (index, (partition, request)) in asked.into_iter().enumerate() {
            let join = join.clone();
            let done = move |answer| join.complete(index, answer);
            let host = self.groups.hosts.borrow().get(&partition).cloned();
            match host {
                Some(host) => host.ask(request, Box::new(done)),
                None => done(request.refusal(self.why_no_coordinator(partition))),
            }
        }
    }

    fn why_no_coordinator(&self, partition: i32) -> ErrorCode {
        let image = self.image();
        let topic = image.topic_named(OFFSETS_TOPIC);
        let key = topic.map(|topic| crate::base::PartitionKey { topic: topic.id, partition });
        match key.and_then(|key| self.slot(key)) {
            // After a crash its log is checked first.
            Some(crate::mesh::PartitionSlot::Opening) => ErrorCode::CoordinatorLoadInProgress,
            Some(_) | None => ErrorCode::NotCoordinator,
        }
    }

    /// The groups of all coordinators of this core; the error of one that can not tell.
    pub(super) fn list_groups(&self, list: &List) -> (ErrorCode, Vec<Listed>) {
        let hosts: Vec<Rc<Host>> = self.groups.hosts.borrow().values().cloned().collect();
        let (mut error, mut listed) = (ErrorCode::None, Vec::new());
        for host in hosts {
            let found = Rc::new(RefCell::new(None));
            let place = found.clone();
            let done = move |answer| *place.borrow_mut() = Some(answer);
            // Lists are answered at once.
            host.ask(Request::List(list.clone()), Box::new(done));
            if let Some(group::Answer::List(why, groups)) = found.take() {
                listed.extend(groups);
                if why.is_error() {
                    error = why;
                }
            }
        }
        (error, listed)
    }

    fn start_group_timers(self: &Rc<Self>) {
        if self.groups.has_timers.replace(true) {
            return;
        }
        let shard = self.clone();
        self.runtime.spawn("group timers", async move {
            loop {
                let sooner = shard.groups.sooner.notified();
                match shard.groups.wakes_at.get() {
                    None => sooner.await,
                    Some(at) => {
                        let left = at.since(shard.runtime.now());
                        if !left.is_zero() {
                            shard.runtime.timeout(left, sooner).await;
                            continue;
                        }
                        shard.tick_groups();
                        shard.runtime.pass().await;
                    }
                }
            }
        });
    }

    fn tick_groups(&self) {
        let now = self.runtime.now();
        let hosts: Vec<Rc<Host>> = self.groups.hosts.borrow().values().cloned().collect();
        self.groups.wakes_at.set(None);
        for host in hosts {
            let due = host.coordinator.borrow().next_deadline().is_some_and(|at| at <= now);
            if due {
                host.act(|coordinator, now, effects| coordinator.tick(now, effects));
            }
            self.wake_for(&host);
        }
    }

    /// Sees to it that the timers' task wakes early enough for `host`.
    fn wake_for(&self, host: &Host) {
        let Some(at) = host.coordinator.borrow().next_deadline() else { return };
        if self.groups.wakes_at.get().is_none_or(|known| at < known) {
            self.groups.wakes_at.set(Some(at));
            self.groups.sooner.notify();
        }
    }
}

impl Host {
    /// Hands a request to the coordinator; `done` gets the answer, now or later.
    fn ask(self: &Rc<Self>, request: Request, done: Done) {
        let ticket = Ticket(self.ticket_next.get());
        self.ticket_next.set(ticket.0 + 1);
        self.waiting.borrow_mut().insert(ticket.0, done);
        self.act(|coordinator, now, effects| coordinator.handle(now, ticket, request, effects));
    }

    /// Lets the coordinator take a step, and carries out what follows.
    fn act(self: &Rc<Self>, step: impl FnOnce(&mut Coordinator, Now, &mut Vec<Effect>)) {
        let Some(shard) = self.shard.upgrade() else { return };
        let now = Now { instant: shard.runtime.now(), wall: shard.runtime.wall_clock() };
        let mut effects = Vec::new();
        self.act_within_room(&shard, |coordinator| step(coordinator, now, &mut effects));
        for effect in effects {
            match effect {
                Effect::Append { write, records } => {
                    self.undecided.set(self.undecided.get() + 1);
                    self.queue.borrow_mut().push((write, records));
                    write::start(self, &shard);
                }
                Effect::Answer { ticket, answer } => {
                    let done = self.waiting.borrow_mut().remove(&ticket.0);
                    if let Some(done) = done {
                        done(answer);
                    }
                }
                Effect::Reload => self.reloads.set(true),
            }
        }
        if self.reloads.get() && self.undecided.get() == 0 {
            self.reloads.set(false);
            tracing::warn!(
                partition = self.partition.key().partition,
                "a record of a group could not be written: the groups are loaded again"
            );
            shard.runtime.spawn("groups load", load::load(self.clone()));
        }
        shard.wake_for(self);
    }

    /// Lets the coordinator take a step, and know how much memory the others of its core leave.
    fn act_within_room(&self, shard: &Shard, step: impl FnOnce(&mut Coordinator)) {
        let mut coordinator = self.coordinator.borrow_mut();
        let groups = &shard.groups;
        let others_bytes = groups.size_bytes.get() - self.counted_bytes.get();
        let config = shard.config();
        let room_bytes =
            config.groups.memory_bytes as usize / usize::from(shard.runtime.shard_count());
        coordinator.set_room(room_bytes.saturating_sub(others_bytes));
        step(&mut coordinator);
        self.counted_bytes.set(coordinator.size_bytes());
        groups.size_bytes.set(others_bytes + coordinator.size_bytes());
        let now = shard.runtime.now();
        let told_at = groups.short_told_at.get();
        let was_told = told_at.is_some_and(|at| now.since(at) < SHORT_TOLD_INTERVAL);
        if coordinator.is_short() && !was_told {
            groups.short_told_at.set(Some(now));
            tracing::warn!(
                size_bytes = groups.size_bytes.get(),
                "groups and their offsets take up half of a core's share of \
                 corelog.memory.group.bytes: large members and commits are refused, and at seven \
                 eighths all that are new"
            );
        }
    }

    /// Tells the coordinator of the topics and of groups' own settings.
    fn take_metadata(self: &Rc<Self>, shard: &Shard) {
        let image = shard.image();
        let configs = shard.groups.configs.borrow().share();
        self.coordinator.borrow_mut().set_group_configs(configs);
        self.act(|coordinator, _, effects| coordinator.metadata_changed(image, effects));
    }
}

/// Gathers the answers to one question and answers once, when all are there.
struct Join {
    shard: Rc<Shard>,
    to: RefCell<Option<ReplyTo>>,
    answers: RefCell<Vec<Option<group::Answer>>>,
    missing: Cell<usize>,
}

impl Join {
    fn complete(&self, index: usize, answer: group::Answer) {
        self.answers.borrow_mut()[index] = Some(answer);
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() > 0 {
            return;
        }
        if let Some(to) = self.to.borrow_mut().take() {
            let answers = std::mem::take(&mut *self.answers.borrow_mut());
            self.shard.reply(to, Answer::Groups(answers.into_iter().flatten().collect()));
        }
    }
}
