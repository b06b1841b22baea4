//! The groups of one partition of `__consumer_offsets`.
//!
//! Effects are records to append, in order, and answers. Members change at once, as they are only
//! as lasting as this coordinator; what must last counts when its records are committed: offsets,
//! assignments, deletions (which are undone when they fail).
//!
//! Consumer groups change at once in all respects. When a record of theirs can not be written,
//! nothing the coordinator knows can be trusted: it forgets everything and asks to be loaded anew
//! ([`Effect::Reload`]). What members ask for that no batch can hold is refused before that.
//!
//! Invariants: every ticket is answered exactly once; records replayed in order give the same
//! groups and offsets. Elsewhere: what classic clients ask (`classics`), consumer groups' steps
//! (`consumers`), new metadata (`metadata`), offsets (`commits`), admins (`admin`), what all that
//! takes up and may take up (`memory`). Not here: which partition a group belongs to (`record`),
//! permissions and whether topics exist (`handlers`), transactions' offsets.

mod admin;
mod classics;
mod commits;
mod consumers;
mod memory;
mod metadata;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::{Instant, Timestamp};
use crate::group::classic::{After, Classic, Out, Step};
use crate::group::consumer::{Consumer, TopicHashes, version_of};
use crate::group::coordinator::memory::Memory;
use crate::group::message::{Answer, Fetch, Request, Ticket};
use crate::group::offsets::Offsets;
use crate::group::record::{Record, bytes_bound, kept};
use crate::group::size::GROUP_BYTES;
use crate::group::{GroupConfigs, Now, Settings};
use crate::metadata::Image;
use crate::protocol::{ErrorCode, Str};

/// Records that were handed out to be appended; later ones have greater numbers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WriteId(pub u64);

/// What follows from an input.
#[derive(Debug)]
pub enum Effect {
    /// Append these records, together; then report [`Coordinator::committed`] or
    /// [`Coordinator::failed`].
    Append {
        /// The name to report it under.
        write: WriteId,
        /// The records.
        records: Vec<Record>,
    },
    /// A request has its answer.
    Answer {
        /// The request.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// A record could not be written, so what the coordinator knew was wrong, and it forgot it.
    /// Once the fate of all its appends is decided, replay the log from its beginning, then
    /// [`Coordinator::loaded`]. Until then it answers that it is loading.
    Reload,
}

/// What a coordinator can do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Loading,
    Active,
    Unloaded,
}

/// Records on their way, and what waits for them.
#[derive(Debug)]
struct Write {
    records: Vec<Record>,
    after: After,
    answers: Vec<(Ticket, Answer)>,
    /// Requests for offsets that have to see these records.
    fetches: Vec<(Ticket, Fetch)>,
    /// Groups these records delete, to come back should they fail.
    deleted: Vec<(Str, Box<Classic>)>,
    /// A group that was made only to hold the offsets in these records.
    made: Option<Str>,
    /// What is to happen when they fail.
    failing: Failing,
    /// What the records take up.
    size_bytes: usize,
}

/// What the coordinator does when records can not be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failing {
    /// It takes back what they stand for.
    Undo,
    /// It forgets everything, to be loaded anew.
    Reload,
}

impl Write {
    fn new(records: Vec<Record>) -> Self {
        Self {
            size_bytes: records.iter().map(bytes_bound).sum(),
            records,
            after: After::Nothing,
            answers: Vec::new(),
            fetches: Vec::new(),
            deleted: Vec::new(),
            made: None,
            failing: Failing::Undo,
        }
    }
}

/// A group, and the time the coordinator is to wake for it.
#[derive(Debug)]
struct Group {
    kind: Kind,
    armed: Option<Instant>,
    /// What it takes up, as the coordinator has counted it.
    counted_bytes: usize,
}

/// A group of either protocol.
#[derive(Debug)]
enum Kind {
    Classic(Box<Classic>),
    Consumer(Box<Consumer>),
}

impl Kind {
    fn wake(&self) -> Option<Instant> {
        match self {
            Self::Classic(classic) => classic.wake(),
            Self::Consumer(consumer) => consumer.wake(),
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Classic(classic) => classic.size_bytes(),
            Self::Consumer(consumer) => consumer.size_bytes(),
        }
    }
}

impl Group {
    fn new(kind: Kind) -> Self {
        Self { kind, armed: None, counted_bytes: 0 }
    }

    fn as_classic(&self) -> Option<&Classic> {
        match &self.kind {
            Kind::Classic(classic) => Some(classic),
            Kind::Consumer(_) => None,
        }
    }

    fn as_consumer(&self) -> Option<&Consumer> {
        match &self.kind {
            Kind::Classic(_) => None,
            Kind::Consumer(consumer) => Some(consumer),
        }
    }

    /// What it takes up under this name.
    fn size_bytes(&self, id: &Str) -> usize {
        GROUP_BYTES + id.len() + self.kind.size_bytes()
    }
}

/// The coordinator of one partition. See the module's header.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    phase: Phase,
    groups: BTreeMap<Str, Group>,
    offsets: Offsets,
    wakes: BTreeSet<(Instant, Str)>,
    writes: BTreeMap<WriteId, Write>,
    write_next: WriteId,
    expiry: Option<Instant>,
    image: Arc<Image>,
    /// The metadata version that brought the latest new topics.
    topics_version: i64,
    hashes: TopicHashes,
    /// Consumer groups by the topics they subscribe to.
    by_topic: BTreeMap<Str, BTreeSet<Str>>,
    configs: GroupConfigs,
    memory: Memory,
}

impl Coordinator {
    /// A coordinator that has to load its records: [`Self::replay`] each, then [`Self::loaded`].
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            wakes: BTreeSet::new(),
            writes: BTreeMap::new(),
            write_next: WriteId(0),
            expiry: None,
            image: Arc::default(),
            topics_version: -1,
            hashes: TopicHashes::default(),
            by_topic: BTreeMap::new(),
            configs: GroupConfigs::new(),
            memory: Memory::default(),
        }
    }

    /// New settings; they count from the next step on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// New settings of single groups; they count from the next step on. Groups not named have none.
    pub fn set_group_configs(&mut self, configs: GroupConfigs) {
        self.configs = configs;
    }

    /// Takes one record of the log, in order, while loading.
    pub fn replay(&mut self, record: Record) {
        match record {
            Record::Offset(key, value) => {
                if let Some(value) = &value {
                    let at = Timestamp::from_millis(value.committed_at_ms);
                    self.ensure_group(&key.group, at);
                }
                self.offsets.apply(&key, value);
            }
            Record::Group(id, Some(value)) => {
                self.take_group(&id);
                let classic = Box::new(Classic::from_record(value));
                self.groups.insert(id, Group::new(Kind::Classic(classic)));
            }
            Record::Group(id, None) => {
                if self.groups.get(&id).is_some_and(|group| group.as_classic().is_some()) {
                    self.take_group(&id);
                }
            }
            record @ (Record::ConsumerGroup(..)
            | Record::ConsumerTopics(..)
            | Record::ConsumerMember(..)
            | Record::TargetEpoch(..)
            | Record::TargetMember(..)
            | Record::CurrentMember(..)
            | Record::RegularExpression(..)) => self.replay_consumer(&record),
            Record::Other(_) => {}
        }
    }

    /// All records were replayed: sessions begin, requests are answered from now on. Nothing of
    /// that when the partition went to another coordinator meanwhile, as much was forgotten then.
    pub fn loaded(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Unloaded {
            return;
        }
        self.phase = Phase::Active;
        self.expiry = Some(now.instant + self.settings.retention_check_interval);
        self.topics_version = version_of(&self.image);
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            let out = self.step(now, &id, |group, step| group.loaded(step));
            self.emit(&id, out, effects);
            self.consumer_step(now, &id, effects, |group, step| group.loaded(step));
        }
    }

    /// The partition goes to another coordinator: everything that waits is told so.
    pub fn unload(&mut self, effects: &mut Vec<Effect>) {
        self.forget(effects);
        self.phase = Phase::Unloaded;
    }

    /// Forgets everything; whatever waits is told that it is no coordinator.
    fn forget(&mut self, effects: &mut Vec<Effect>) {
        let error = ErrorCode::NotCoordinator;
        for write in std::mem::take(&mut self.writes).into_values() {
            for (ticket, answer) in write.answers {
                effects.push(Effect::Answer { ticket, answer: answer.failed(error) });
            }
            for (ticket, fetch) in write.fetches {
                let answer = Request::Fetch(fetch).refusal(error);
                effects.push(Effect::Answer { ticket, answer });
            }
        }
        let mut out = Out::default();
        for group in std::mem::take(&mut self.groups).into_values() {
            match group.kind {
                Kind::Classic(mut classic) => classic.abandon(&mut out),
                // Whoever waits for one waits for a write.
                Kind::Consumer(_) => {}
            }
        }
        push_answers(out.answers, effects);
        self.offsets = Offsets::default();
        self.by_topic.clear();
        self.wakes.clear();
        self.expiry = None;
        self.memory.forget();
    }

    /// Handles a request that came at `now`; `ticket` is answered now or later.
    pub fn handle(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        if let Request::ConsumerHeartbeat(heartbeat) = &request
            && let Err(refusal) = heartbeat.check(&self.settings)
        {
            let answer = Answer::ConsumerHeartbeat(Err(refusal));
            return effects.push(Effect::Answer { ticket, answer });
        }
        if let Err(error) = self.admit(&request).and_then(|()| self.check_memory(&request)) {
            let answer = request.refusal(error);
            return effects.push(Effect::Answer { ticket, answer });
        }
        let answer = match request {
            Request::Join(join) => return self.join(now, ticket, &join, effects),
            Request::Sync(sync) => return self.sync(now, ticket, &sync, effects),
            Request::Heartbeat(heartbeat) => return self.beat(now, ticket, &heartbeat, effects),
            Request::Leave(leave) => return self.leave(now, ticket, &leave, effects),
            Request::Commit(commit) => return self.commit(now, ticket, commit, effects),
            Request::Fetch(fetch) => return self.fetch(ticket, fetch, effects),
            Request::DeleteOffsets(delete) => {
                return self.delete_offsets(ticket, &delete, effects);
            }
            Request::List(list) => Answer::List(ErrorCode::None, self.list(&list)),
            Request::Describe(describe) => Answer::Describe(self.describe(&describe)),
            Request::Delete(groups) => return self.delete(ticket, &groups, effects),
            Request::ConsumerHeartbeat(heartbeat) => {
                return self.consumer_heartbeat(now, ticket, &heartbeat, effects);
            }
            Request::ConsumerDescribe(groups) => {
                Answer::ConsumerDescribe(self.consumer_describe(&groups))
            }
        };
        effects.push(Effect::Answer { ticket, answer });
    }

    /// The records of a write, and all before it, are committed.
    pub fn committed(&mut self, now: Now, write: WriteId, effects: &mut Vec<Effect>) {
        let Some(mut write) = self.writes.remove(&write) else { return };
        self.memory.writes_bytes -= write.size_bytes;
        let mut group = None;
        for record in std::mem::take(&mut write.records) {
            if group.is_none() {
                group = record.group().cloned();
            }
            if let Record::Offset(key, value) = record {
                self.offsets.apply(&key, value);
            }
        }
        push_answers(write.answers, effects);
        if let Some(group) = group {
            self.conclude(now, &group, write.after, Ok(()), effects);
        }
        self.answer_fetches(write.fetches, effects);
    }

    /// The records of a write will never be committed, for a reason of the log's.
    pub fn failed(&mut self, now: Now, write: WriteId, why: ErrorCode, effects: &mut Vec<Effect>) {
        let Some(write) = self.writes.remove(&write) else { return };
        self.memory.writes_bytes -= write.size_bytes;
        let error = append_error(why);
        let answers = write.answers.into_iter();
        push_answers(answers.map(|(ticket, answer)| (ticket, answer.failed(error))), effects);
        if write.failing == Failing::Reload {
            self.answer_fetches(write.fetches, effects);
            self.forget(effects);
            self.phase = Phase::Loading;
            return effects.push(Effect::Reload);
        }
        for (id, classic) in write.deleted {
            // One that was made anew meanwhile has no members of the old one's to lose.
            let group = || Group::new(Kind::Classic(classic));
            self.groups.entry(id.clone()).or_insert_with(group);
            self.step(now, &id, |_, _| {});
        }
        if let Some(group) = write.records.iter().find_map(Record::group) {
            self.conclude(now, group, write.after, Err(error), effects);
        }
        if let Some(made) = write.made {
            self.forget_if_blank(&made);
        }
        self.answer_fetches(write.fetches, effects);
    }

    /// When [`Self::tick`] is to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let wake = self.wakes.first().map(|(at, _)| *at);
        wake.into_iter().chain(self.expiry).min()
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // One step for each group: one that wants another right away does not starve the rest.
        let due = self.wakes.iter().take_while(|(at, _)| *at <= now.instant);
        let due: Vec<Str> = due.map(|(_, id)| id.clone()).collect();
        for id in due {
            let out = self.step(now, &id, |group, step| group.tick(step));
            self.emit(&id, out, effects);
            self.consumer_step(now, &id, effects, |group, step| group.tick(step));
        }
        if self.expiry.is_some_and(|at| at <= now.instant) {
            self.expiry = Some(now.instant + self.settings.retention_check_interval);
            self.expire_offsets(now, effects);
        }
    }

    fn admit(&self, request: &Request) -> Result<(), ErrorCode> {
        match self.phase {
            Phase::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Unloaded => return Err(ErrorCode::NotCoordinator),
            Phase::Active => {}
        }
        let (id, timeout_ms) = match request {
            Request::Join(join) => (&join.group, Some(join.session_timeout_ms)),
            Request::Sync(sync) => (&sync.group, None),
            Request::Heartbeat(heartbeat) => (&heartbeat.group, None),
            Request::Leave(leave) => (&leave.group, None),
            Request::DeleteOffsets(delete) => (&delete.group, None),
            Request::Commit(_)
            | Request::Fetch(_)
            | Request::List(_)
            | Request::Describe(_)
            | Request::Delete(_)
            | Request::ConsumerHeartbeat(_)
            | Request::ConsumerDescribe(_) => return Ok(()),
        };
        if id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let limits = self.settings.session_timeout_ms_min..=self.settings.session_timeout_ms_max;
        match timeout_ms {
            Some(timeout_ms) if !limits.contains(&timeout_ms) => {
                Err(ErrorCode::InvalidSessionTimeout)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What a write of a group's was for, now that its outcome is known.
    fn conclude(
        &mut self,
        now: Now,
        id: &Str,
        after: After,
        result: Result<(), ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let out = self.step(now, id, |group, step| match (after, result) {
            (After::Nothing, _) | (After::Created(_), Ok(())) => {}
            (After::Created(ticket), Err(error)) => group.creation_failed(step, ticket, error),
            (After::Assigned(assigned), result) => group.assigned(step, assigned, result),
            (After::Replaced(replaced), result) => group.replaced(step, *replaced, result),
        });
        self.emit(id, out, effects);
    }

    fn ensure_group(&mut self, id: &Str, wall: Timestamp) {
        if !self.groups.contains_key(id) {
            let classic = Box::new(Classic::new(wall));
            self.groups.insert(kept(id), Group::new(Kind::Classic(classic)));
            self.arm(id);
        }
    }

    /// Lets one classic group take a step, and keeps the time it wants to be woken. Nothing happens
    /// when there is no such group.
    fn step(&mut self, now: Now, id: &Str, act: impl FnOnce(&mut Classic, &mut Step<'_>)) -> Out {
        let group = self.groups.get_mut(id);
        let Some(Group { kind: Kind::Classic(classic), .. }) = group else {
            return Out::default();
        };
        let mut step = Step { now, settings: &self.settings, out: Out::default() };
        act(classic, &mut step);
        let out = step.out;
        self.arm(id);
        out
    }

    /// Keeps the time a group wants to be woken, and what it takes up.
    fn arm(&mut self, id: &Str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let size_bytes = group.size_bytes(id);
        let before = std::mem::replace(&mut group.counted_bytes, size_bytes);
        self.memory.groups_bytes = self.memory.groups_bytes + size_bytes - before;
        let wake = group.kind.wake();
        if group.armed != wake {
            let id = kept(id);
            if let Some(armed) = group.armed {
                self.wakes.remove(&(armed, id.clone()));
            }
            group.armed = wake;
            self.wakes.extend(wake.map(|wake| (wake, id)));
        }
    }

    /// Takes a group out.
    fn take_group(&mut self, id: &Str) -> Option<Kind> {
        let group = self.groups.remove(id)?;
        self.memory.groups_bytes -= group.counted_bytes;
        if let Some(armed) = group.armed {
            self.wakes.remove(&(armed, id.clone()));
        }
        if let Kind::Consumer(consumer) = &group.kind {
            for topic in consumer.topics() {
                self.unsubscribe(topic, id);
            }
        }
        Some(group.kind)
    }

    /// Forgets a group that was made for offsets which then could not be written.
    fn forget_if_blank(&mut self, id: &Str) {
        let classic = self.groups.get(id).and_then(Group::as_classic);
        let is_blank = classic.is_some_and(Classic::is_blank);
        if is_blank && !self.offsets.has_any(id) && !self.groups_in_flight().contains(id) {
            self.take_group(id);
        }
    }

    /// Groups that have records on their way.
    fn groups_in_flight(&self) -> BTreeSet<Str> {
        let records = self.writes.values().flat_map(|write| &write.records);
        records.filter_map(Record::group).cloned().collect()
    }

    fn emit(&mut self, id: &Str, out: Out, effects: &mut Vec<Effect>) {
        for (value, after) in out.writes {
            let mut write = Write::new(vec![Record::Group(kept(id), Some(value))]);
            write.after = after;
            self.append(write, effects);
        }
        push_answers(out.answers, effects);
    }

    fn append(&mut self, write: Write, effects: &mut Vec<Effect>) {
        let id = self.write_next;
        self.write_next = WriteId(id.0 + 1);
        effects.push(Effect::Append { write: id, records: write.records.clone() });
        self.memory.writes_bytes += write.size_bytes;
        self.writes.insert(id, write);
    }
}

fn push_answers(answers: impl IntoIterator<Item = (Ticket, Answer)>, effects: &mut Vec<Effect>) {
    effects.extend(answers.into_iter().map(|(ticket, answer)| Effect::Answer { ticket, answer }));
}

/// What a client is told when the log refused records (`GroupMetadataManager`).
fn append_error(why: ErrorCode) -> ErrorCode {
    if matches!(
        why,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::RequestTimedOut
    ) {
        ErrorCode::CoordinatorNotAvailable
    } else if matches!(why, ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError) {
        ErrorCode::NotCoordinator
    } else if matches!(
        why,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize
    ) {
        ErrorCode::UnknownServerError
    } else {
        why
    }
}

#[cfg(test)]
impl Coordinator {
    pub(super) fn consumers(&self) -> impl Iterator<Item = (&Str, &Consumer)> {
        self.groups.iter().filter_map(|(id, group)| Some((id, group.as_consumer()?)))
    }

    /// Groups and offsets as they would be written, to compare coordinators.
    pub(super) fn contents(&self) -> (Vec<(Str, crate::group::record::GroupValue)>, Vec<Record>) {
        let classics = self.groups.iter();
        let groups = classics
            .filter_map(|(id, group)| Some((id.clone(), group.as_classic()?.snapshot())))
            .collect();
        let offsets = self.groups.keys().flat_map(|id| self.offsets.of(id));
        let offsets = offsets.map(|(key, value)| Record::Offset(key, Some(value.clone())));
        let consumers = self.consumers().flat_map(|(id, group)| group.snapshot(id));
        (groups, offsets.chain(consumers).collect())
    }

    pub(super) fn check_invariants(&self) {
        let mut by_topic: BTreeMap<Str, BTreeSet<Str>> = BTreeMap::new();
        for (id, group) in &self.groups {
            match &group.kind {
                Kind::Classic(classic) => classic.check_invariants(),
                Kind::Consumer(consumer) => {
                    consumer.check_invariants();
                    for topic in consumer.topics() {
                        by_topic.entry(topic.clone()).or_default().insert(id.clone());
                    }
                }
            }
            let size_bytes = group.size_bytes(id);
            assert_eq!(group.counted_bytes, size_bytes, "{id} is counted");
            assert_eq!(group.armed, group.kind.wake(), "{id} is woken");
            assert!(group.armed.is_none_or(|at| self.wakes.contains(&(at, id.clone()))));
        }
        assert_eq!(by_topic, self.by_topic, "groups are found by their topics");
        let counted = self.groups.values().map(|group| group.counted_bytes).sum::<usize>();
        let writes = self.writes.values().map(|write| write.size_bytes).sum::<usize>();
        assert_eq!((self.memory.groups_bytes, self.memory.writes_bytes), (counted, writes));
    }
}
