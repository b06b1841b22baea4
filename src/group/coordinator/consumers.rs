//! Consumer groups: heartbeats that make them, their steps, and their moves between protocols.

use crate::base::Timestamp;
use crate::group::classic::{Out, State, Step as ClassicStep};
use crate::group::consumer::{Consumer, Downgrade, Step, Subscribing};
use crate::group::coordinator::{Coordinator, Effect, Failing, Group, Kind, Write, push_answers};
use crate::group::message::{
    Answer, ConsumerBeat, ConsumerDescribed, ConsumerHeartbeat, Refusal, Ticket,
};
use crate::group::record::{Record, kept};
use crate::group::{GroupConfig, Now};
use crate::protocol::{ErrorCode, Str};

/// What a step of a consumer group leaves to be done.
struct Rest {
    records: Vec<Record>,
    downgrade: Option<Downgrade>,
}

impl Coordinator {
    pub(super) fn consumer_heartbeat(
        &mut self,
        now: Now,
        ticket: Ticket,
        heartbeat: &ConsumerHeartbeat,
        effects: &mut Vec<Effect>,
    ) {
        let id = &heartbeat.group;
        let is_consumer = self.groups.get(id).map(|group| group.as_consumer().is_some());
        let result = match is_consumer {
            Some(true) if heartbeat.leaves() => {
                let act = |one: &mut Consumer, step: &mut Step<'_>| one.leave(step, heartbeat);
                self.consumer_step(now, id, effects, act)
            }
            Some(true) => {
                let act = |one: &mut Consumer, step: &mut Step<'_>| one.heartbeat(step, heartbeat);
                self.consumer_step(now, id, effects, act)
            }
            Some(false) | None if heartbeat.joins() => {
                Some(self.make_consumer(now, heartbeat, effects))
            }
            Some(false) => Some(Err(not_found(format!("Group {id} is not a consumer group.")))),
            None if heartbeat.leaves() => Some(Err(not_found(format!("Group {id} not found.")))),
            None => Some(Err(not_found(format!("Consumer group {id} not found.")))),
        };
        if let Some(result) = result {
            self.answer_after_writes(ticket, Answer::ConsumerHeartbeat(result), effects);
        }
    }

    /// A member joins where there is no consumer group: there is one afterwards, unless the member
    /// or the group that is there can not be taken.
    fn make_consumer(
        &mut self,
        now: Now,
        heartbeat: &ConsumerHeartbeat,
        effects: &mut Vec<Effect>,
    ) -> Result<ConsumerBeat, Refusal> {
        let id = &heartbeat.group;
        let config = GroupConfig::default();
        let mut step = Step {
            now,
            settings: &self.settings,
            config: self.configs.get(id).unwrap_or(&config),
            image: &self.image,
            hashes: &mut self.hashes,
            topics_version: self.topics_version,
            id: kept(id),
            records: Vec::new(),
            undo: Vec::new(),
            downgrade: None,
        };
        let mut group = match self.groups.get(id).and_then(Group::as_classic) {
            None => Consumer::default(),
            Some(classic) if classic.state() == State::Empty => {
                step.records.push(Record::Group(kept(id), None));
                Consumer::default()
            }
            Some(classic) => Consumer::from_classic(&mut step, classic)?,
        };
        let beat = group.heartbeat(&mut step, heartbeat)?;
        let rest = Rest { records: step.records, downgrade: step.downgrade };
        if let Some(Kind::Classic(mut classic)) = self.take_group(id) {
            let mut out = Out::default();
            classic.disband(&mut out);
            push_answers(out.answers, effects);
        }
        self.groups.insert(kept(id), Group::new(Kind::Consumer(Box::new(group))));
        self.after_consumer_step(now, id, rest, effects);
        Ok(beat)
    }

    /// Lets one consumer group take a step, and does what follows from it. `None` when there is no
    /// such group.
    pub(super) fn consumer_step<T>(
        &mut self,
        now: Now,
        id: &Str,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Consumer, &mut Step<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id);
        let Some(Group { kind: Kind::Consumer(consumer), .. }) = group else { return None };
        let config = GroupConfig::default();
        let mut step = Step {
            now,
            settings: &self.settings,
            config: self.configs.get(id).unwrap_or(&config),
            image: &self.image,
            hashes: &mut self.hashes,
            topics_version: self.topics_version,
            id: kept(id),
            records: Vec::new(),
            undo: Vec::new(),
            downgrade: None,
        };
        let result = act(consumer, &mut step);
        let rest = Rest { records: step.records, downgrade: step.downgrade };
        self.after_consumer_step(now, id, rest, effects);
        Some(result)
    }

    fn after_consumer_step(
        &mut self,
        now: Now,
        id: &Str,
        mut rest: Rest,
        effects: &mut Vec<Effect>,
    ) {
        self.follow_subscriptions(id);
        self.arm(id);
        let out = match rest.downgrade {
            Some(downgrade) => self.downgrade(now, id, downgrade, &mut rest.records),
            None => Out::default(),
        };
        if !rest.records.is_empty() {
            let mut write = Write::new(rest.records);
            write.failing = Failing::Reload;
            self.append(write, effects);
        }
        self.emit(id, out, effects);
    }

    /// A consumer group goes over to the classic protocol.
    fn downgrade(
        &mut self,
        now: Now,
        id: &Str,
        downgrade: Downgrade,
        records: &mut Vec<Record>,
    ) -> Out {
        let Some(Kind::Consumer(consumer)) = self.take_group(id) else { return Out::default() };
        records.extend(consumer.tombstones(&kept(id)));
        let mut classic = Box::new(consumer.to_classic(now.wall, &self.image, downgrade));
        records.push(Record::Group(kept(id), Some(downgrade.value(&classic))));
        let mut step = ClassicStep { now, settings: &self.settings, out: Out::default() };
        classic.loaded(&mut step);
        match downgrade {
            Downgrade::Keep => {}
            Downgrade::Rebalance => classic.rebalance(&mut step),
        }
        let out = step.out;
        self.groups.insert(kept(id), Group::new(Kind::Classic(classic)));
        self.arm(id);
        out
    }

    /// An empty consumer group goes, its offsets stay.
    pub(super) fn delete_empty_consumer(&mut self, id: &Str, effects: &mut Vec<Effect>) {
        let Some(Kind::Consumer(consumer)) = self.take_group(id) else { return };
        let mut write = Write::new(consumer.tombstones(&kept(id)));
        write.failing = Failing::Reload;
        self.append(write, effects);
    }

    /// Takes a record of a consumer group while loading.
    pub(super) fn replay_consumer(&mut self, record: &Record) {
        let Some(id) = record.group() else { return };
        if matches!(record, Record::ConsumerGroup(_, None)) {
            if self.groups.get(id).is_some_and(|group| group.as_consumer().is_some()) {
                self.take_group(id);
                self.keep_for_offsets(id);
            }
            return;
        }
        let is_known = self.groups.get(id).is_some_and(|group| group.as_consumer().is_some());
        if !is_known {
            if record.is_tombstone() {
                return;
            }
            // A group that only held offsets, if any.
            self.take_group(id);
            let consumer = Box::<Consumer>::default();
            self.groups.insert(kept(id), Group::new(Kind::Consumer(consumer)));
        }
        if let Some(Group { kind: Kind::Consumer(consumer), .. }) = self.groups.get_mut(id) {
            consumer.apply(record);
        }
        self.follow_subscriptions(id);
    }

    /// A group that holds offsets and nothing else takes the place of one that is gone.
    fn keep_for_offsets(&mut self, id: &Str) {
        if self.offsets.has_any(id) {
            self.ensure_group(id, Timestamp::default());
        }
    }

    /// Keeps the groups findable by their topics.
    fn follow_subscriptions(&mut self, id: &Str) {
        let group = self.groups.get_mut(id);
        let Some(Group { kind: Kind::Consumer(consumer), .. }) = group else { return };
        for (topic, what) in consumer.take_subscription_changes() {
            match what {
                Subscribing::Begins => {
                    self.by_topic.entry(topic).or_default().insert(kept(id));
                }
                Subscribing::Ends => self.unsubscribe(&topic, id),
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, topic: &Str, id: &Str) {
        let Some(groups) = self.by_topic.get_mut(topic) else { return };
        groups.remove(id);
        if groups.is_empty() {
            self.by_topic.remove(topic);
            self.hashes.forget(topic);
        }
    }

    pub(super) fn consumer_describe(
        &self,
        groups: &[Str],
    ) -> Vec<(Str, Result<ConsumerDescribed, Refusal>)> {
        let described = |id: &Str| {
            if id.is_empty() {
                return Err(ErrorCode::InvalidGroupId.into());
            }
            match self.groups.get(id).map(|group| &group.kind) {
                Some(Kind::Consumer(consumer)) => {
                    Ok(consumer.describe(&self.settings, &self.image))
                }
                Some(Kind::Classic(_)) => {
                    Err(not_found(format!("Group {id} is not a consumer group.")))
                }
                None => Err(not_found(format!("Group {id} not found."))),
            }
        };
        groups.iter().map(|id| (kept(id), described(id))).collect()
    }
}

fn not_found(text: String) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, text)
}
