//! Committed offsets of the groups of one partition.
//!
//! Invariant: only what is committed to the log is here, so that nobody reads an offset that may
//! yet be lost. Not here: who may commit (`classic`), transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{Timestamp, Uuid};
use crate::group::message::{Fetch, FetchTopic, Fetched, FetchedPartition, FetchedTopic};
use crate::group::record::{OffsetKey, OffsetValue};
use crate::group::size::{self, OFFSET_BYTES};
use crate::protocol::{ErrorCode, Str};

type Topics = BTreeMap<Str, BTreeMap<i32, OffsetValue>>;

/// Committed offsets, by group, topic and partition.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Offsets {
    groups: BTreeMap<Str, Topics>,
    size_bytes: usize,
}

/// Since when an offset counts as unused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unused {
    /// Since it was committed.
    SinceCommit,
    /// Since the group became empty.
    Since(Timestamp),
}

impl Offsets {
    /// Keeps an offset, or forgets it.
    pub fn apply(&mut self, key: &OffsetKey, value: Option<OffsetValue>) {
        let of_value = |value: &OffsetValue| OFFSET_BYTES + value.metadata.len();
        if let Some(value) = value {
            if !self.groups.contains_key(&key.group) {
                self.size_bytes += size::of_texts([&key.group]);
            }
            let topics = self.groups.entry(key.group.clone()).or_default();
            if !topics.contains_key(&key.topic) {
                self.size_bytes += size::of_texts([&key.topic]);
            }
            self.size_bytes += of_value(&value);
            let partitions = topics.entry(key.topic.clone()).or_default();
            let before = partitions.insert(key.partition, value);
            self.size_bytes -= before.as_ref().map_or(0, of_value);
            return;
        }
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        if let Some(partitions) = topics.get_mut(&key.topic) {
            let before = partitions.remove(&key.partition);
            self.size_bytes -= before.as_ref().map_or(0, of_value);
            if partitions.is_empty() {
                self.size_bytes -= size::of_texts([&key.topic]);
                topics.remove(&key.topic);
            }
        }
        if topics.is_empty() {
            self.size_bytes -= size::of_texts([&key.group]);
            self.groups.remove(&key.group);
        }
    }

    /// What they take up in memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether there is an offset with a note of at least so many bytes.
    pub(super) fn has_as_long(&self, group: &Str, topic: &Str, at: i32, note_bytes: usize) -> bool {
        let partitions = self.groups.get(group).and_then(|topics| topics.get(topic));
        let value = partitions.and_then(|partitions| partitions.get(&at));
        value.is_some_and(|value| value.metadata.len() >= note_bytes)
    }

    /// Whether there is an offset.
    pub fn has(&self, key: &OffsetKey) -> bool {
        let partitions = self.groups.get(&key.group).and_then(|topics| topics.get(&key.topic));
        partitions.is_some_and(|partitions| partitions.contains_key(&key.partition))
    }

    /// Whether a group has any offset.
    pub fn has_any(&self, group: &Str) -> bool {
        self.groups.contains_key(group)
    }

    /// All offsets of a group.
    pub fn of(&self, group: &Str) -> impl Iterator<Item = (OffsetKey, &OffsetValue)> {
        self.groups.get(group).into_iter().flatten().flat_map(move |(topic, partitions)| {
            partitions.iter().map(move |(partition, value)| {
                let (group, topic) = (group.clone(), topic.clone());
                (OffsetKey { group, topic, partition: *partition }, value)
            })
        })
    }

    /// The offsets of a group for one topic.
    pub fn of_topic(
        &self,
        group: &Str,
        topic: &Str,
    ) -> impl Iterator<Item = (OffsetKey, &OffsetValue)> {
        let partitions = self.groups.get(group).and_then(|topics| topics.get(topic));
        partitions.into_iter().flatten().map(move |(partition, value)| {
            let (group, topic) = (group.clone(), topic.clone());
            (OffsetKey { group, topic, partition: *partition }, value)
        })
    }

    /// The answer to a request for offsets. What is not known is no error. Metadata may be long:
    /// of partitions that are named again it is told `METADATA_REPEATS_MAX` times in all.
    pub fn fetch(&self, fetch: &Fetch) -> Fetched {
        let known = self.groups.get(&fetch.group);
        let mut told = Told::default();
        let topics = match &fetch.topics {
            Some(asked) => asked.iter().map(|topic| fetch_topic(known, topic, &mut told)).collect(),
            None => known.into_iter().flatten().map(|(name, all)| fetch_all(name, all)).collect(),
        };
        Fetched { group: fetch.group.clone(), error: ErrorCode::None, topics }
    }

    /// The offsets of a group that have been `unused` for `retention`, or outlived a time of their
    /// own; those of topics `in_use` stay.
    pub fn expired(
        &self,
        group: &Str,
        now: Timestamp,
        unused: Unused,
        retention: Duration,
        in_use: impl Fn(&Str) -> bool,
    ) -> Vec<OffsetKey> {
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let is_expired = |value: &OffsetValue| match (value.expires_at_ms, unused) {
            (Some(expires_at_ms), _) => now.to_wire() >= expires_at_ms,
            (None, Unused::Since(since)) => {
                now.to_wire().saturating_sub(since.to_wire()) >= retention_ms
            }
            (None, Unused::SinceCommit) => {
                now.to_wire().saturating_sub(value.committed_at_ms) >= retention_ms
            }
        };
        self.of(group)
            .filter(|(key, value)| is_expired(value) && !in_use(&key.topic))
            .map(|(key, _)| key)
            .collect()
    }
}

/// How often a request is told the metadata of partitions that it has named before.
const METADATA_REPEATS_MAX: usize = 64;

/// The partitions whose metadata a request was told.
#[derive(Default)]
struct Told<'a> {
    seen: BTreeSet<(&'a str, i32)>,
    repeats: usize,
}

impl<'a> Told<'a> {
    /// Whether the metadata of the next partition is told.
    fn admits(&mut self, topic: &'a str, partition: i32) -> bool {
        if self.seen.insert((topic, partition)) {
            return true;
        }
        self.repeats += 1;
        self.repeats <= METADATA_REPEATS_MAX
    }
}

fn fetch_topic<'a>(
    known: Option<&Topics>,
    asked: &'a FetchTopic,
    told: &mut Told<'a>,
) -> FetchedTopic {
    let partitions = known.and_then(|topics| topics.get(&asked.name));
    let is_same_topic = |id: Option<Uuid>| id.is_none() || asked.id.is_none() || id == asked.id;
    let fetched = |partition: &i32| {
        let value = partitions.and_then(|partitions| partitions.get(partition));
        let value = value.filter(|value| is_same_topic(value.topic_id));
        let mut fetched = fetched(*partition, value);
        if value.is_some() && !told.admits(asked.name.as_str(), *partition) {
            fetched.metadata = Str::default();
        }
        fetched
    };
    FetchedTopic {
        name: asked.name.clone(),
        id: asked.id,
        partitions: asked.partitions.iter().map(fetched).collect(),
    }
}

fn fetch_all(name: &Str, partitions: &BTreeMap<i32, OffsetValue>) -> FetchedTopic {
    FetchedTopic {
        name: name.clone(),
        id: partitions.values().find_map(|value| value.topic_id),
        partitions: partitions.iter().map(|(at, value)| fetched(*at, Some(value))).collect(),
    }
}

fn fetched(partition: i32, value: Option<&OffsetValue>) -> FetchedPartition {
    FetchedPartition {
        partition,
        error: ErrorCode::None,
        offset: value.map(|value| value.offset),
        leader_epoch: value.and_then(|value| value.leader_epoch),
        metadata: value.map(|value| value.metadata.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Str {
        Str::from_static_str(text)
    }

    fn key(topic: &'static str, partition: i32) -> OffsetKey {
        OffsetKey { group: text("g"), topic: text(topic), partition }
    }

    fn value(offset: i64, committed_at_ms: i64, expires_at_ms: Option<i64>) -> OffsetValue {
        let metadata = Str::default();
        let (leader_epoch, topic_id) = (None, None);
        OffsetValue { offset, leader_epoch, metadata, committed_at_ms, expires_at_ms, topic_id }
    }

    #[test]
    fn an_offset_of_a_topic_that_was_made_anew_does_not_count() {
        let (old, new) = (Uuid::from_halves(1, 1), Uuid::from_halves(2, 2));
        let mut offsets = Offsets::default();
        offsets.apply(&key("a", 0), Some(OffsetValue { topic_id: Some(old), ..value(7, 0, None) }));
        for (asked, found) in [(None, Some(7)), (Some(old), Some(7)), (Some(new), None)] {
            let topic = FetchTopic { name: text("a"), id: asked, partitions: vec![0] };
            let topics = Some(vec![topic]);
            let fetch = Fetch { topics, ..Fetch::of(text("g")) };
            assert_eq!(offsets.fetch(&fetch).topics[0].partitions[0].offset, found, "{asked:?}");
        }
    }

    #[test]
    fn the_metadata_of_a_partition_that_is_named_again_and_again_is_told_so_often() {
        let mut offsets = Offsets::default();
        for partition in [0, 1] {
            let metadata = text("long");
            let value = OffsetValue { metadata, ..value(7, 0, None) };
            offsets.apply(&key("a", partition), Some(value));
        }
        let topic = |partitions| FetchTopic { name: text("a"), id: None, partitions };
        let topics = Some(vec![topic(vec![0, 1, 0]), topic(vec![1; 100])]);
        let fetched = offsets.fetch(&Fetch { topics, ..Fetch::of(text("g")) });
        let found: Vec<_> = fetched.topics.iter().flat_map(|topic| &topic.partitions).collect();
        assert!(found.iter().all(|one| one.offset == Some(7)));
        let told = found.iter().filter(|one| one.metadata.as_str() == "long").count();
        assert_eq!((found.len(), told), (103, 2 + METADATA_REPEATS_MAX));
    }

    #[test]
    fn an_offset_expires_by_its_own_time_or_by_that_of_its_group() {
        let mut offsets = Offsets::default();
        offsets.apply(&key("a", 0), Some(value(1, 100, None)));
        offsets.apply(&key("a", 1), Some(value(1, 150, None)));
        offsets.apply(&key("b", 0), Some(value(1, 100, Some(500))));
        let retention = Duration::from_millis(100);
        let since = |millis| Unused::Since(Timestamp::from_millis(millis));
        let cases: [(i64, Unused, &[OffsetKey]); 5] = [
            (199, Unused::SinceCommit, &[]),
            (200, Unused::SinceCommit, &[key("a", 0)]),
            (250, since(151), &[]),
            (251, since(151), &[key("a", 0), key("a", 1)]),
            (500, since(450), &[key("b", 0)]),
        ];
        for (now, unused, expected) in cases {
            let now = Timestamp::from_millis(now);
            let found = offsets.expired(&text("g"), now, unused, retention, |_| false);
            assert_eq!(found, expected, "{now} {unused:?}");
            let used = offsets.expired(&text("g"), now, unused, retention, |topic| &**topic == "a");
            assert!(used.iter().all(|key| &*key.topic != "a"), "{now}: a topic in use");
        }
        for key in [key("a", 0), key("a", 1), key("b", 0)] {
            assert!(offsets.has(&key));
            offsets.apply(&key, None);
        }
        assert_eq!(offsets, Offsets::default(), "nothing is left behind");
    }
}
