//! Offsets of groups: committing, fetching, deleting, expiring.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::Now;
use crate::group::classic::{Classic, State};
use crate::group::coordinator::{Coordinator, Effect, Group, Kind, Write, push_answers};
use crate::group::message::{
    Answer, Commit, CommitPartition, CommitTopic, DeleteOffsets, Fetch, Request, Ticket,
};
use crate::group::offsets::{Offsets, Unused};
use crate::group::record::{OffsetKey, OffsetValue, Record, count_together, kept};
use crate::protocol::{ErrorCode, Str};

/// The version of OffsetCommit from which an unknown group has an error of its own.
const VERSION_UNKNOWN_GROUP: i16 = 9;

/// Tombstones of expired offsets that are written together.
const EXPIRED_TOGETHER_MAX: usize = 1000;

impl Coordinator {
    pub(super) fn commit(
        &mut self,
        now: Now,
        ticket: Ticket,
        commit: Commit,
        effects: &mut Vec<Effect>,
    ) {
        let is_known = self.groups.contains_key(&commit.group);
        if let Err(error) = self.check_commit(&commit) {
            let answer = Request::Commit(commit).refusal(error);
            return effects.push(Effect::Answer { ticket, answer });
        }
        self.ensure_group(&commit.group, now.wall);
        self.step(now, &commit.group, |one, step| one.committed(step, commit.member.as_ref()));
        let (answer, records) = self.sort_offsets(now, &commit);
        if records.is_empty() {
            if !is_known {
                self.forget_if_blank(&commit.group);
            }
            return effects.push(Effect::Answer { ticket, answer });
        }
        let mut write = Write::new(records);
        write.answers.push((ticket, answer));
        write.made = (!is_known).then(|| kept(&commit.group));
        self.append(write, effects);
    }

    fn check_commit(&self, commit: &Commit) -> Result<(), ErrorCode> {
        let member = commit.member.as_ref();
        match self.groups.get(&commit.group) {
            Some(Group { kind: Kind::Classic(classic), .. }) => {
                classic.check_commit(member, commit.instance.as_ref(), commit.generation)
            }
            Some(Group { kind: Kind::Consumer(consumer), .. }) => {
                consumer.check_commit(commit, &self.image)
            }
            None if commit.generation.is_none_or(|generation| generation < 0) => Ok(()),
            None if commit.version >= VERSION_UNKNOWN_GROUP => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// The answer, should all go well, and the records of the offsets that are taken.
    fn sort_offsets(&self, now: Now, commit: &Commit) -> (Answer, Vec<Record>) {
        let wall_ms = now.wall.to_wire();
        let expires_at_ms = commit.retention_ms.map(|kept_ms| wall_ms.saturating_add(kept_ms));
        let mut records = Vec::new();
        let group = kept(&commit.group);
        let mut take = |topic: &CommitTopic, name: &Str, at: &CommitPartition| {
            let metadata = at.metadata.clone().unwrap_or_default();
            if metadata.encode_utf16().count() > self.settings.metadata_length_max {
                return (at.partition, ErrorCode::OffsetMetadataTooLarge);
            }
            let key =
                OffsetKey { group: group.clone(), topic: name.clone(), partition: at.partition };
            let value = OffsetValue {
                offset: at.offset,
                leader_epoch: at.leader_epoch,
                metadata: kept(&metadata),
                committed_at_ms: wall_ms,
                expires_at_ms,
                topic_id: topic.id,
            };
            records.push(Record::Offset(key, Some(value)));
            (at.partition, ErrorCode::None)
        };
        let mut topics = Vec::new();
        for topic in &commit.topics {
            let name = kept(&topic.name);
            let results = topic.partitions.iter().map(|at| take(topic, &name, at)).collect();
            topics.push((name, results));
        }
        (Answer::Commit(topics), records)
    }

    /// A stable fetch sees every commit that came before it, so it waits for those on their way.
    pub(super) fn fetch(&mut self, ticket: Ticket, fetch: Fetch, effects: &mut Vec<Effect>) {
        if fetch.require_stable
            && let Some(mut last) = self.writes.last_entry()
        {
            return last.get_mut().fetches.push((ticket, fetch));
        }
        self.answer_fetches(vec![(ticket, fetch)], effects);
    }

    pub(super) fn answer_fetches(&self, fetches: Vec<(Ticket, Fetch)>, effects: &mut Vec<Effect>) {
        let nothing = Offsets::default();
        let answer = |(ticket, fetch): (Ticket, Fetch)| {
            let group = self.groups.get(&fetch.group);
            let offsets = if group.is_some() { &self.offsets } else { &nothing };
            let checked = group.and_then(Group::as_consumer).map(|one| one.check_fetch(&fetch));
            let answer = match checked {
                Some(Err(error)) => Request::Fetch(fetch).refusal(error),
                Some(Ok(())) | None => Answer::Fetch(offsets.fetch(&fetch)),
            };
            (ticket, answer)
        };
        push_answers(fetches.into_iter().map(answer), effects);
    }

    pub(super) fn delete_offsets(
        &mut self,
        ticket: Ticket,
        delete: &DeleteOffsets,
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.groups.get(&delete.group) else {
            let answer = Answer::DeleteOffsets(ErrorCode::GroupIdNotFound, Vec::new());
            return effects.push(Effect::Answer { ticket, answer });
        };
        let classic = group.as_classic();
        if classic.is_some_and(|one| one.state() != State::Empty && !one.is_consumer()) {
            let answer = Answer::DeleteOffsets(ErrorCode::NonEmptyGroup, Vec::new());
            return effects.push(Effect::Answer { ticket, answer });
        }
        // Named again, a partition is answered for again, but looked up and deleted once.
        let mut named: BTreeMap<&Str, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partitions) in &delete.topics {
            named.entry(topic).or_default().extend(partitions);
        }
        let used: BTreeSet<&Str> =
            named.keys().copied().filter(|topic| group.subscribes(topic)).collect();
        named.retain(|topic, _| !used.contains(topic));
        let id = kept(&delete.group);
        let in_flight = self.offsets_in_flight(&id);
        let mut records = Vec::new();
        for (topic, partitions) in named {
            let topic = kept(topic);
            for partition in partitions {
                let key = OffsetKey { group: id.clone(), topic: topic.clone(), partition };
                if self.offsets.has(&key) || in_flight.contains(&key) {
                    records.push(Record::Offset(key, None));
                }
            }
        }
        let mut topics = Vec::new();
        for (topic, partitions) in &delete.topics {
            let error = match used.contains(topic) {
                true => ErrorCode::GroupSubscribedToTopic,
                false => ErrorCode::None,
            };
            topics.push((kept(topic), partitions.iter().map(|at| (*at, error)).collect()));
        }
        let answer = Answer::DeleteOffsets(ErrorCode::None, topics);
        if records.is_empty() {
            return effects.push(Effect::Answer { ticket, answer });
        }
        let mut write = Write::new(records);
        write.answers.push((ticket, answer));
        self.append(write, effects);
    }

    /// Offsets of a group that are on their way to the log.
    fn offsets_in_flight(&self, group: &Str) -> BTreeSet<&OffsetKey> {
        let mut keys = BTreeSet::new();
        for record in self.writes.values().flat_map(|write| &write.records) {
            if let Record::Offset(key, Some(_)) = record
                && key.group == *group
            {
                keys.insert(key);
            }
        }
        keys
    }

    /// Tombstones for all offsets of a group, those on their way included.
    pub(super) fn offset_tombstones(&self, group: &Str) -> Vec<Record> {
        let mut keys: BTreeSet<OffsetKey> = self.offsets.of(group).map(|(key, _)| key).collect();
        keys.extend(self.offsets_in_flight(group).into_iter().cloned());
        keys.into_iter().map(|key| Record::Offset(key, None)).collect()
    }

    /// Forgets what nobody used for long enough, and groups of which nothing is left.
    pub(super) fn expire_offsets(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let in_flight = self.groups_in_flight();
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            // What is on its way decides whether anything is unused: next time.
            if !in_flight.contains(&id) {
                self.expire_offsets_of(now, &id, effects);
            }
        }
    }

    fn expire_offsets_of(&mut self, now: Now, id: &Str, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get(id) else { return };
        let unused = match &group.kind {
            Kind::Classic(classic) => unused_since(classic),
            Kind::Consumer(_) => Some(Unused::SinceCommit),
        };
        let retention = self.settings.offsets_retention;
        let expired = unused.map_or_else(Vec::new, |unused| {
            let in_use = |topic: &Str| group.subscribes(topic);
            self.offsets.expired(id, now.wall, unused, retention, in_use)
        });
        let all_expired = expired.len() == self.offsets.of(id).count();
        let is_over = all_expired
            && match &group.kind {
                Kind::Classic(classic) => classic.is_deserted(),
                Kind::Consumer(consumer) => consumer.is_empty(),
            };
        let mut records: Vec<Record> =
            expired.into_iter().map(|key| Record::Offset(key, None)).collect();
        while !records.is_empty() || is_over {
            let first_ones = &records[..records.len().min(EXPIRED_TOGETHER_MAX)];
            // The other half is for the group's own.
            let count = count_together(first_ones, self.settings.batch_bytes_max / 2);
            let rest = records.split_off(count);
            let mut write = Write::new(std::mem::replace(&mut records, rest));
            let is_last = records.is_empty();
            if is_last && is_over {
                self.delete_group(id, &mut write);
            }
            self.append(write, effects);
            if is_last {
                return;
            }
        }
    }
}

impl Group {
    /// Whether its members consume `topic`, as far as is known.
    fn subscribes(&self, topic: &Str) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.subscribes(topic),
            Kind::Consumer(consumer) => consumer.subscribes(topic),
        }
    }
}

/// Since when a classic group's offsets count as unused; `None` for those in use.
fn unused_since(classic: &Classic) -> Option<Unused> {
    match (classic.protocol_type(), classic.state()) {
        (None, _) => Some(Unused::SinceCommit),
        (Some(_), State::Empty) => {
            Some(classic.state_since().map_or(Unused::SinceCommit, Unused::Since))
        }
        (Some(_), State::Stable) if classic.is_consumer() && classic.subscription_known() => {
            Some(Unused::SinceCommit)
        }
        (Some(_), State::Stable | State::PreparingRebalance | State::CompletingRebalance) => None,
    }
}
