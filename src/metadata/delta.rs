//! What changed between two images: what a broker has to act on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::base::{NodeId, PartitionKey, Uuid};
use crate::metadata::image::{ConfigResource, Image, Topic};

/// The difference of two images. Act on deletions first: a topic that was deleted and created
/// again under its name is in both lists, with two ids.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delta {
    /// Topics that are gone, as they were, by id.
    pub topics_deleted: BTreeMap<Uuid, Arc<Topic>>,
    /// Topics that are new.
    pub topics_created: BTreeSet<Uuid>,
    /// Partitions that are new or changed, those of new topics included.
    pub partitions_changed: BTreeSet<PartitionKey>,
    /// What settings were set or removed on. Settings of deleted topics are included.
    pub configs_changed: BTreeSet<ConfigResource>,
    /// Brokers that registered, changed or left.
    pub brokers_changed: BTreeSet<NodeId>,
    /// Whether a feature's level changed.
    pub features_changed: bool,
}

impl Delta {
    /// What `new` has different from `old`. Costs what was changed, not what there is.
    pub fn between(old: &Image, new: &Image) -> Self {
        let mut delta = Self { features_changed: old.features != new.features, ..Self::default() };
        for item in old.topics.diff(&new.topics) {
            match item {
                DiffItem::Add(_, topic) => delta.topic_created(topic),
                DiffItem::Remove(id, topic) => {
                    delta.topics_deleted.insert(*id, topic.clone());
                }
                DiffItem::Update { old: (_, old), new: (_, new) } => delta.topic_changed(old, new),
            }
        }
        delta.configs_changed.extend(old.configs.diff(&new.configs).map(|item| key(&item).clone()));
        delta.brokers_changed.extend(old.brokers.diff(&new.brokers).map(|item| *key(&item)));
        delta
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn topic_created(&mut self, topic: &Topic) {
        self.topics_created.insert(topic.id);
        let partitions = topic.partitions.keys();
        self.partitions_changed.extend(
            partitions.map(|partition| PartitionKey { topic: topic.id, partition: *partition }),
        );
    }

    fn topic_changed(&mut self, old: &Topic, new: &Topic) {
        for (number, partition) in &new.partitions {
            if old.partitions.get(number) != Some(partition) {
                let key = PartitionKey { topic: new.id, partition: *number };
                self.partitions_changed.insert(key);
            }
        }
    }
}

fn key<'a, K, V>(item: &DiffItem<'a, 'a, K, V>) -> &'a K {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) => key,
        DiffItem::Update { new: (key, _), .. } => key,
    }
}
