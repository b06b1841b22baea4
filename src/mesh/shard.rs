//! Everything one core owns.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::{CallId, Instant, PartitionKey, ShardId, Uuid};
use crate::config::BrokerConfig;
use crate::log::journal::Journal;
use crate::mesh::early::EarlyAppends;
use crate::mesh::groups::Groups;
use crate::mesh::memory::Memory;
use crate::mesh::message::{Answer, Ask, Body, ControlAsk, Envelope, StartUp};
use crate::mesh::settings::TopicSettings;
use crate::metadata::{ConfigResource, Image, Topic, placement};
use crate::metrics::ShardCounters;
use crate::partition::{FetchError, Partition};
use crate::runtime::local::{Answer as Awaited, Notice, Reply, oneshot};
use crate::runtime::{Full, Lanes, Runtime};

/// A partition's place on its owner core.
#[derive(Clone)]
pub enum PartitionSlot {
    /// Its log is being opened (and, after a crash, checked).
    Opening,
    /// It serves.
    Open(Partition),
    /// Its log could not be opened.
    Failed,
}

/// Everything one core owns. See the module's header.
pub struct Shard {
    /// The core's door to the world.
    pub runtime: Runtime,
    /// What this core gives to requests and answers.
    pub memory: Memory,
    /// What this core counts.
    pub counters: ShardCounters,
    /// Requests for the controller; drained by the controller's task on core 0.
    pub control: RefCell<VecDeque<(ReplyTo, ControlAsk)>>,
    /// Told when `control` has something.
    pub control_notice: Notice,
    /// Producer ids this core may hand out.
    pub producer_ids: RefCell<std::ops::Range<i64>>,
    /// Whether the process is ending: no new requests are read.
    pub ending: Cell<bool>,
    /// Told when `ending` is set.
    pub ending_notice: Notice,
    /// Whether the core may listen: every core has its metadata and its partitions.
    pub started: Cell<bool>,
    /// Whether the core's main function returns.
    pub exiting: Cell<bool>,
    /// Told when `started` or `exiting` is set.
    pub lifecycle: Notice,
    /// Something the checkpoint files tell may have changed since they were written.
    pub checkpoints_stale: Cell<bool>,
    /// Core 0: what the file of the checkpoints' topic ids says, once this process has written it.
    pub checkpointed_ids: RefCell<String>,
    pub(super) groups: Groups,
    lanes: Lanes<Envelope>,
    cluster_id: RefCell<Rc<str>>,
    config: RefCell<Arc<BrokerConfig>>,
    config_at_start: Arc<BrokerConfig>,
    image: RefCell<Arc<Image>>,
    settings: RefCell<FxHashMap<Uuid, Rc<TopicSettings>>>,
    partitions: RefCell<FxHashMap<PartitionKey, PartitionSlot>>,
    early_appends: RefCell<EarlyAppends>,
    start_up: RefCell<Option<Arc<StartUp>>>,
    journal: RefCell<Option<Journal>>,
    opened: Notice,
    /// Directories of partitions of deleted topics whose logs are still being opened.
    leaving: RefCell<BTreeMap<PathBuf, PartitionKey>>,
    tick: Notice,
    ticking: Cell<bool>,
    tick_waiters: Cell<usize>,
    attentive_count: Cell<usize>,
    calls: RefCell<FxHashMap<u64, Reply<Answer>>>,
    call_next: Cell<u64>,
    parked: RefCell<FxHashMap<(ShardId, CallId), Reply<()>>>,
}

/// Where an answer goes.
pub enum ReplyTo {
    /// To a task of this core, under its call's number.
    Local(Reply<Answer>, CallId),
    /// To another core's call.
    Remote(ShardId, CallId),
}

impl Shard {
    /// A core that owns nothing yet.
    pub fn new(runtime: Runtime, lanes: Lanes<Envelope>, config: Arc<BrokerConfig>) -> Rc<Self> {
        runtime.limit_connections(config.connections_max);
        let cores = u64::from(runtime.shard_count());
        let memory_bytes = config.request_memory_bytes.div_ceil(cores);
        let memory = Memory::new(runtime.clone(), memory_bytes);
        Rc::new(Self {
            runtime,
            config: RefCell::new(config.clone()),
            config_at_start: config,
            memory,
            counters: ShardCounters::default(),
            control: RefCell::default(),
            control_notice: Notice::new(),
            producer_ids: RefCell::new(0..0),
            ending: Cell::new(false),
            ending_notice: Notice::new(),
            started: Cell::new(false),
            exiting: Cell::new(false),
            lifecycle: Notice::new(),
            checkpoints_stale: Cell::new(false),
            checkpointed_ids: RefCell::default(),
            groups: Groups::default(),
            lanes,
            cluster_id: RefCell::new(Rc::from("")),
            image: RefCell::default(),
            settings: RefCell::default(),
            partitions: RefCell::default(),
            early_appends: RefCell::default(),
            start_up: RefCell::default(),
            journal: RefCell::default(),
            opened: Notice::new(),
            leaving: RefCell::default(),
            tick: Notice::new(),
            ticking: Cell::new(false),
            tick_waiters: Cell::new(0),
            attentive_count: Cell::new(0),
            calls: RefCell::default(),
            call_next: Cell::new(0),
            parked: RefCell::default(),
        })
    }

    /// This core.
    pub fn id(&self) -> ShardId {
        self.runtime.shard()
    }

    /// The settings in force: those the process was started with, under those that the metadata
    /// sets for this broker and for all.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.config.borrow().clone()
    }

    /// The metadata this core acts on.
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Replaces the metadata; settings derived from the old one are forgotten.
    pub fn set_image(&self, image: Arc<Image>) {
        self.settings.borrow_mut().clear();
        let node = ConfigResource::broker(self.config_at_start.node_id);
        let overrides = |image: &Image, resource: &ConfigResource| {
            image.settings(resource).map(|settings| (**settings).clone()).unwrap_or_default()
        };
        let (cluster, broker) =
            (overrides(&image, &ConfigResource::cluster()), overrides(&image, &node));
        let layers = self.config().layers.clone();
        if layers.cluster != cluster || layers.broker != broker {
            let (config, problems) = self.config_at_start.with_dynamic(&cluster, &broker);
            for problem in problems {
                tracing::warn!(%problem, "a setting of the metadata is not applied");
            }
            self.runtime.limit_connections(config.connections_max);
            *self.config.borrow_mut() = Arc::new(config);
        }
        *self.image.borrow_mut() = image;
        self.tell_groups();
    }

    /// The core that owns a partition.
    pub fn owner(&self, key: PartitionKey) -> ShardId {
        placement::owner(key, self.runtime.shard_count())
    }

    /// The settings of a topic, as they follow from the metadata and the process's settings.
    pub fn topic_settings(&self, topic: &Topic) -> Rc<TopicSettings> {
        if let Some(known) = self.settings.borrow().get(&topic.id) {
            return known.clone();
        }
        let image = self.image();
        let settings = Rc::new(TopicSettings::resolve(&self.config(), &image, topic));
        self.settings.borrow_mut().insert(topic.id, settings.clone());
        settings
    }

    /// A partition this core serves.
    pub fn partition(&self, key: PartitionKey) -> Option<Partition> {
        match self.partitions.borrow().get(&key) {
            Some(PartitionSlot::Open(partition)) => Some(partition.clone()),
            Some(PartitionSlot::Opening | PartitionSlot::Failed) | None => None,
        }
    }

    /// A partition this core serves, or why it serves none.
    pub(super) fn served(&self, key: PartitionKey) -> Result<Partition, FetchError> {
        match self.partitions.borrow().get(&key) {
            Some(PartitionSlot::Open(partition)) => Ok(partition.clone()),
            // As Apache Kafka answers for a log directory that is offline.
            Some(PartitionSlot::Failed) => Err(FetchError::Storage),
            Some(PartitionSlot::Opening) | None => Err(FetchError::NotLeader),
        }
    }

    /// A partition's place, whatever its state.
    pub fn slot(&self, key: PartitionKey) -> Option<PartitionSlot> {
        self.partitions.borrow().get(&key).cloned()
    }

    /// The partitions whose logs are not open.
    pub(super) fn unopened(&self) -> Vec<PartitionKey> {
        let partitions = self.partitions.borrow();
        let unopened = |slot: &PartitionSlot| !matches!(slot, PartitionSlot::Open(_));
        let mut keys: Vec<PartitionKey> =
            partitions.iter().filter(|(_, slot)| unopened(slot)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// All partitions this core serves, in the order of their keys.
    pub fn partitions(&self) -> Vec<Partition> {
        let mut open: Vec<Partition> = self
            .partitions
            .borrow()
            .values()
            .filter_map(|slot| match slot {
                PartitionSlot::Open(partition) => Some(partition.clone()),
                PartitionSlot::Opening | PartitionSlot::Failed => None,
            })
            .collect();
        open.sort_by_key(Partition::key);
        open
    }

    /// Sets a partition's place.
    pub fn put_partition(self: &Rc<Self>, key: PartitionKey, slot: PartitionSlot) {
        let open = match &slot {
            PartitionSlot::Open(partition) => Some(partition.clone()),
            PartitionSlot::Opening | PartitionSlot::Failed => None,
        };
        self.partitions.borrow_mut().insert(key, slot);
        self.end_early_appends(key, open.as_ref());
        if let Some(partition) = open {
            self.begin_groups(&partition);
        }
        self.opened.notify();
    }

    /// Forgets a partition.
    pub fn remove_partition(&self, key: PartitionKey) -> Option<PartitionSlot> {
        let removed = self.partitions.borrow_mut().remove(&key);
        self.end_early_appends(key, None);
        if let Some(PartitionSlot::Open(partition)) = &removed {
            self.end_groups(partition);
        }
        self.opened.notify();
        removed
    }

    /// Whether any partition's log is still being opened, or could not be.
    pub fn has_unopened(&self) -> bool {
        !self.unopened().is_empty()
    }

    /// What the core was started with; `None` before that.
    pub(super) fn start_up(&self) -> &RefCell<Option<Arc<StartUp>>> {
        &self.start_up
    }

    /// Sets this core's journal up, if it shall have one.
    pub(super) fn begin_journal(&self, next_generation: u64) {
        let config = self.config();
        if config.journal_bytes > 0 {
            let (runtime, directory) = (self.runtime.clone(), config.log_dir.clone());
            let journal = Journal::new(runtime, directory, config.journal_bytes, next_generation);
            *self.journal.borrow_mut() = Some(journal);
        }
    }

    /// This core's journal.
    pub(super) fn journal(&self) -> Option<Journal> {
        self.journal.borrow().clone()
    }

    /// Appends that wait for their partition's log.
    pub(super) fn early_appends(&self) -> &RefCell<EarlyAppends> {
        &self.early_appends
    }

    /// The cluster's id, as clients see it.
    pub fn cluster_id(&self) -> Rc<str> {
        self.cluster_id.borrow().clone()
    }

    /// Sets the cluster's id, once it is known.
    pub fn set_cluster_id(&self, id: &str) {
        *self.cluster_id.borrow_mut() = Rc::from(id);
    }

    /// Whether asking for an unknown topic may create it (`auto.create.topics.enable`).
    pub fn auto_creates_topics(&self) -> bool {
        self.config().creates_topics
    }

    /// Waits until the partition's log is no longer being opened.
    pub async fn opened(&self, key: PartitionKey) {
        while let Some(PartitionSlot::Opening) = self.slot(key) {
            self.opened.notified().await;
        }
    }

    /// The directory is that of a deleted topic's partition until
    /// [`end_leaving`](Self::end_leaving).
    pub(super) fn begin_leaving(&self, directory: PathBuf, key: PartitionKey) {
        self.leaving.borrow_mut().insert(directory, key);
    }

    /// The directory is free for a topic of the same name.
    pub(super) fn end_leaving(&self, directory: &Path) {
        self.leaving.borrow_mut().remove(directory);
        self.opened.notify();
    }

    /// Whether the directory is still that of another partition, of a deleted topic.
    pub(super) fn is_taken(&self, directory: &Path, key: PartitionKey) -> bool {
        self.leaving.borrow().get(directory).is_some_and(|leaving| *leaving != key)
    }

    /// Waits until the directory is no other partition's.
    pub(super) async fn until_free(&self, directory: &Path, key: PartitionKey) {
        while self.is_taken(directory, key) {
            self.opened.notified().await;
        }
    }

    /// Asks a core (this one included). The question is under way when this returns; the answer
    /// is `None` when it can not come: the lane is full, or the core ends.
    pub fn ask(self: &Rc<Self>, to: ShardId, ask: Ask) -> Asked {
        let (reply, answer) = oneshot();
        let call = CallId(self.call_next.get());
        self.call_next.set(call.0 + 1);
        if to == self.id() {
            self.answer(ReplyTo::Local(reply, call), ask);
            return Asked { to, call, answer };
        }
        self.calls.borrow_mut().insert(call.0, reply);
        self.counters.lane_messages_sent_total.add(1);
        let envelope = Envelope { from: self.id(), call, body: Body::Ask(Box::new(ask)) };
        if let Err(Full(envelope)) = self.lanes.send(to, envelope) {
            // Dropping the reply answers `None`.
            self.calls.borrow_mut().remove(&envelope.call.0);
        }
        Asked { to, call, answer }
    }

    /// Wants the answer of a parked read now.
    pub fn hurry(self: &Rc<Self>, asked: &Asked) {
        let (to, call) = (asked.to, asked.call);
        if to == self.id() {
            return self.hurried(to, call);
        }
        let envelope = Envelope { from: self.id(), call, body: Body::Hurry };
        // When the lane is full the read's own deadline ends it.
        let _ = self.lanes.send(to, envelope);
    }

    /// Waits until the lanes to all other cores have room at once: who asks each of them one
    /// question right away is understood by all.
    pub async fn room(&self) {
        let others = (0..self.runtime.shard_count()).map(ShardId).filter(|core| *core != self.id());
        // While it waits for one lane, another may fill.
        while let Some(full) = others.clone().find(|core| !self.lanes.has_room(*core)) {
            self.lanes.room(full).await;
        }
    }

    /// Asks every core, this one included, as soon as its lane has room.
    pub async fn ask_all(self: &Rc<Self>, make: impl Fn() -> Ask) -> Vec<Asked> {
        let mut asked = Vec::new();
        for core in (0..self.runtime.shard_count()).map(ShardId) {
            asked.push(self.ask_surely(core, make()).await);
        }
        asked
    }

    /// As [`ask`](Self::ask), once there is room for the question.
    pub async fn ask_surely(self: &Rc<Self>, to: ShardId, ask: Ask) -> Asked {
        if to != self.id() {
            self.lanes.room(to).await;
        }
        self.ask(to, ask)
    }

    /// Sends an answer where it belongs.
    pub fn reply(self: &Rc<Self>, to: ReplyTo, answer: Answer) {
        self.reply_by(to, answer, Lanes::send);
    }

    /// Sends an answer that does not wake the core it goes to, unless that is
    /// [attentive](Self::attentive).
    pub(super) fn reply_quietly(self: &Rc<Self>, to: ReplyTo, answer: Answer) {
        self.reply_by(to, answer, Lanes::send_quietly);
    }

    /// Whether an answer would have to wake the core it goes to.
    pub(super) fn wakes(&self, to: &ReplyTo) -> bool {
        match to {
            ReplyTo::Local(..) => false,
            ReplyTo::Remote(shard, _) => self.lanes.is_asleep(*shard),
        }
    }

    fn reply_by(
        self: &Rc<Self>,
        to: ReplyTo,
        answer: Answer,
        send: impl FnOnce(&Lanes<Envelope>, ShardId, Envelope) -> Result<(), Full<Envelope>>,
    ) {
        match to {
            ReplyTo::Local(reply, _) => reply.send(answer),
            ReplyTo::Remote(shard, call) => {
                self.counters.lane_messages_sent_total.add(1);
                let body = Body::Answer(Box::new(answer));
                let envelope = Envelope { from: self.id(), call, body };
                if let Err(Full(envelope)) = send(&self.lanes, shard, envelope) {
                    let this = self.clone();
                    self.runtime.spawn("late answer", async move {
                        let mut envelope = envelope;
                        loop {
                            this.lanes.room(shard).await;
                            match this.lanes.send(shard, envelope) {
                                Ok(()) => return,
                                Err(Full(back)) => envelope = back,
                            }
                        }
                    });
                }
            }
        }
    }

    /// Has quiet answers wake this core, too, until what this returns is dropped.
    pub fn attentive(self: &Rc<Self>) -> Attentive {
        let count = self.attentive_count.get() + 1;
        self.attentive_count.set(count);
        if count == 1 {
            self.lanes.be_attentive(true);
        }
        Attentive(self.clone())
    }

    /// Waits until `deadline`, to within 50 ms behind it. All waiters of a core share one timer,
    /// which runs only while there are any: for deadlines that are almost never reached.
    pub async fn deadline(self: &Rc<Self>, deadline: Instant) {
        let _waiter = TickWaiter::new(self);
        while self.runtime.now() < deadline {
            if !self.ticking.replace(true) {
                let shard = self.clone();
                self.runtime.spawn("deadlines", async move {
                    while shard.tick_waiters.get() > 0 {
                        shard.runtime.sleep(TICK).await;
                        shard.tick.notify();
                    }
                    shard.ticking.set(false);
                });
            }
            self.tick.notified().await;
        }
    }

    /// Receives and dispatches messages of other cores, for as long as the process lives.
    pub async fn run_mesh(self: Rc<Self>) {
        let mut inbox = Vec::new();
        loop {
            self.lanes.receive(&mut inbox).await;
            for envelope in inbox.drain(..) {
                self.dispatch(envelope);
            }
        }
    }

    fn dispatch(self: &Rc<Self>, envelope: Envelope) {
        let Envelope { from, call, body } = envelope;
        match body {
            Body::Ask(ask) => self.answer(ReplyTo::Remote(from, call), *ask),
            Body::Answer(answer) => {
                let reply = self.calls.borrow_mut().remove(&call.0);
                if let Some(reply) = reply {
                    reply.send(*answer);
                }
            }
            Body::Hurry => self.hurried(from, call),
        }
    }

    fn hurried(&self, from: ShardId, call: CallId) {
        let parked = self.parked.borrow_mut().remove(&(from, call));
        if let Some(parked) = parked {
            parked.send(());
        }
    }

    /// Registers a read that may wait; the answer resolves when it should hurry.
    pub(super) fn park(&self, from: ShardId, call: CallId) -> Awaited<()> {
        let (reply, answer) = oneshot();
        self.parked.borrow_mut().insert((from, call), reply);
        answer
    }

    /// Forgets a parked read.
    pub(super) fn unpark(&self, from: ShardId, call: CallId) {
        self.parked.borrow_mut().remove(&(from, call));
    }
}

/// See [`Shard::attentive`].
pub struct Attentive(Rc<Shard>);

impl Drop for Attentive {
    fn drop(&mut self) {
        let count = self.0.attentive_count.get() - 1;
        self.0.attentive_count.set(count);
        if count == 0 {
            self.0.lanes.be_attentive(false);
        }
    }
}

/// Coarseness of [`Shard::deadline`].
const TICK: Duration = Duration::from_millis(50);

/// Counts who waits for a tick, also when the wait is abandoned.
struct TickWaiter<'a>(&'a Shard);

impl<'a> TickWaiter<'a> {
    fn new(shard: &'a Shard) -> Self {
        shard.tick_waiters.set(shard.tick_waiters.get() + 1);
        Self(shard)
    }
}

impl Drop for TickWaiter<'_> {
    fn drop(&mut self) {
        self.0.tick_waiters.set(self.0.tick_waiters.get() - 1);
    }
}

/// A question under way.
pub struct Asked {
    to: ShardId,
    call: CallId,
    answer: Awaited<Answer>,
}

impl Future for Asked {
    type Output = Option<Answer>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Answer>> {
        std::pin::Pin::new(&mut self.answer).poll(cx)
    }
}
