//! New metadata of the cluster: groups look at their topics again, and forget deleted ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::group::consumer::version_of;
use crate::group::coordinator::{Coordinator, Effect, Group, Kind, Phase, Write};
use crate::group::record::{OffsetKey, OffsetValue, Record, count_together};
use crate::metadata::{Delta, Image, Topic};
use crate::protocol::Str;

/// Tombstones of deleted topics' offsets that are written together.
const DELETED_TOGETHER_MAX: usize = 1000;

impl Coordinator {
    /// The cluster's metadata is `image` now.
    ///
    /// Consumer groups whose topics came, went or changed look at them with their next heartbeat;
    /// offsets of deleted topics go. Costs what was changed, and a look at each group's offsets for
    /// every deleted topic. A coordinator that loads only takes note.
    pub fn metadata_changed(&mut self, image: Arc<Image>, effects: &mut Vec<Effect>) {
        let delta = Delta::between(&self.image, &image);
        let old = std::mem::replace(&mut self.image, image);
        if !delta.topics_created.is_empty() {
            self.topics_version = version_of(&self.image);
        }
        let mut changed: BTreeSet<Arc<str>> =
            delta.topics_deleted.values().map(|topic| topic.name.clone()).collect();
        let mut ids: Vec<_> = delta.partitions_changed.iter().map(|key| key.topic).collect();
        ids.dedup();
        for id in ids.into_iter().chain(delta.topics_created.iter().copied()) {
            let topic = self.image.topic(id).or_else(|| old.topic(id));
            changed.extend(topic.map(|topic| topic.name.clone()));
        }
        for name in changed {
            let name = Str::from_string(name.to_string());
            self.hashes.forget(&name);
            for id in self.by_topic.get(&name).into_iter().flatten() {
                let group = self.groups.get_mut(id);
                if let Some(Group { kind: Kind::Consumer(consumer), .. }) = group {
                    consumer.request_refresh();
                }
            }
        }
        if self.phase == Phase::Active {
            for topic in delta.topics_deleted.values() {
                self.delete_offsets_of_topic(topic, effects);
            }
        }
    }

    /// Deletes all offsets of a topic that is gone, those on their way included.
    fn delete_offsets_of_topic(&mut self, topic: &Topic, effects: &mut Vec<Effect>) {
        let is_of_topic = |key: &OffsetKey, value: &OffsetValue| {
            *key.topic == *topic.name && value.topic_id.is_none_or(|id| id == topic.id)
        };
        let name = Str::from_string(topic.name.to_string());
        let mut keys: BTreeSet<OffsetKey> = BTreeSet::new();
        for id in self.groups.keys() {
            let offsets = self.offsets.of_topic(id, &name);
            let gone = offsets.filter(|(key, value)| is_of_topic(key, value));
            keys.extend(gone.map(|(key, _)| key));
        }
        for record in self.writes.values().flat_map(|write| &write.records) {
            if let Record::Offset(key, Some(value)) = record
                && is_of_topic(key, value)
            {
                keys.insert(key.clone());
            }
        }
        let mut records: Vec<Record> =
            keys.into_iter().map(|key| Record::Offset(key, None)).collect();
        while !records.is_empty() {
            let first_ones = &records[..records.len().min(DELETED_TOGETHER_MAX)];
            let count = count_together(first_ones, self.settings.batch_bytes_max);
            let rest = records.split_off(count);
            self.append(Write::new(std::mem::replace(&mut records, rest)), effects);
        }
    }
}
