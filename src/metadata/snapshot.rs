//! An [`Image`] as the records of a snapshot.

use crate::base::Uuid;
use crate::metadata::image::{Image, Partition, Topic};
use crate::metadata::record::{
    Config, FeatureLevel, LEVEL_CONTROLLER_REGISTRATION, PartitionCreated, ProducerIds, Record,
    TopicCreated,
};

/// The feature whose level decides how all other records are written.
pub const METADATA_VERSION: &str = "metadata.version";

impl Image {
    /// Records that build this image from an empty one, in the order Apache Kafka writes them.
    ///
    /// The `metadata.version` comes first: a reader decides by it whether it can read the rest.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.write_features(&mut records);
        records.extend(self.brokers.values().map(|broker| Record::from((**broker).clone())));
        if self.feature(METADATA_VERSION) >= LEVEL_CONTROLLER_REGISTRATION {
            records.extend(self.controllers.values().map(|node| Record::from((**node).clone())));
        }
        for topic in self.topics() {
            write_topic(topic, &mut records);
        }
        self.write_configs(&mut records);
        records.extend(self.quotas.values().map(|quota| Record::from((**quota).clone())));
        if self.next_producer_id > 0 {
            let next_producer_id = self.next_producer_id;
            let ids = ProducerIds { broker: None, broker_epoch: -1, next_producer_id };
            records.push(ids.into());
        }
        records.extend(self.acls.values().map(|entry| Record::from((**entry).clone())));
        records.extend(self.scram.values().map(|user| Record::from((**user).clone())));
        records.extend(self.tokens.values().map(|token| Record::from((**token).clone())));
        records
    }

    fn write_features(&self, records: &mut Vec<Record>) {
        let (first, others): (Vec<_>, Vec<_>) =
            self.features.iter().partition(|(name, _)| *name == METADATA_VERSION);
        for (name, level) in first.into_iter().chain(others) {
            records.push(FeatureLevel { name: name.clone(), level: *level }.into());
        }
    }

    fn write_configs(&self, records: &mut Vec<Record>) {
        for (resource, settings) in self.configs() {
            for (name, value) in settings.iter() {
                let config = Config {
                    resource_type: resource.kind.to_wire(),
                    resource_name: resource.name.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                };
                records.push(config.into());
            }
        }
    }
}

fn write_topic(topic: &Topic, records: &mut Vec<Record>) {
    records.push(TopicCreated { name: topic.name.to_string(), id: topic.id }.into());
    for (number, partition) in &topic.partitions {
        records.push(partition.to_record(topic.id, *number).into());
    }
}

impl Partition {
    /// The record that creates a partition in this state.
    pub fn to_record(&self, topic: Uuid, partition: i32) -> PartitionCreated {
        let unless_empty = |nodes: &Vec<_>| (!nodes.is_empty()).then(|| nodes.clone());
        PartitionCreated {
            partition,
            topic,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader,
            leader_recovery: self.leader_recovery,
            leader_epoch: self.leader_epoch.to_wire(),
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            elr: unless_empty(&self.elr),
            last_known_elr: unless_empty(&self.last_known_elr),
        }
    }
}
