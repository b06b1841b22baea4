//! Settings and producer ids.

use crate::base::NodeId;
use crate::metadata::record::{ClearElr, Config, ProducerIds};
use crate::metadata::{ConfigResource, Image, Record, ResourceKind};

/// How many producer ids a block has (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Records that set (`Some`) and remove (`None`) settings of a resource.
///
/// As in Apache Kafka, a value that does not change is not written, but for brokers: writing it
/// again makes them read their files again. A new `min.insync.replicas` makes the cluster forget
/// eligible leader replicas, which were chosen under the old one (KIP-966).
pub fn alter_config_records(
    image: &Image,
    resource: &ConfigResource,
    changes: &[(String, Option<String>)],
) -> Vec<Record> {
    let mut records = Vec::new();
    let mut forget_elr = false;
    for (name, value) in changes {
        let current = image.setting(resource, name);
        if current == value.as_deref() && resource.kind != ResourceKind::Broker {
            continue;
        }
        forget_elr |= name == "min.insync.replicas" && current != value.as_deref();
        let config = Config {
            resource_type: resource.kind.to_wire(),
            resource_name: resource.name.clone(),
            name: name.clone(),
            value: value.clone(),
        };
        records.push(config.into());
    }
    if forget_elr {
        let topic = resource.kind == ResourceKind::Topic;
        let topic_name = if topic { resource.name.clone() } else { String::new() };
        records.push(ClearElr { topic_name }.into());
    }
    records
}

/// A block of producer ids that nobody else gets: `first..first + PRODUCER_ID_BLOCK`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerIdBlock {
    /// Its first id.
    pub first: i64,
}

/// Records that give the next block of producer ids to a node; `None` when ids have run out.
///
/// Use the block only once the records are committed.
pub fn allocate_producer_ids_records(
    image: &Image,
    node: NodeId,
) -> Option<(ProducerIdBlock, Vec<Record>)> {
    let first = image.next_producer_id();
    let next_producer_id = first.checked_add(PRODUCER_ID_BLOCK)?;
    let broker_epoch = image.broker(node).map_or(-1, |broker| broker.epoch);
    let record = ProducerIds { broker: Some(node), broker_epoch, next_producer_id };
    Some((ProducerIdBlock { first }, vec![record.into()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_written_but_for_brokers() {
        let mut image = Image::default();
        let some = |value: &str| Some(value.to_owned());
        let set = [("a".to_owned(), some("1")), ("b".to_owned(), some("2"))];
        for resource in [ConfigResource::topic("t"), ConfigResource::broker(NodeId(1))] {
            for record in alter_config_records(&image, &resource, &set) {
                image.apply(&record).expect("fits");
            }
        }
        let change = [("a".to_owned(), some("1")), ("b".to_owned(), None), ("c".to_owned(), None)];
        for (resource, written) in
            [(ConfigResource::topic("t"), 1), (ConfigResource::broker(NodeId(1)), 3)]
        {
            let records = alter_config_records(&image, &resource, &change);
            assert_eq!(records.len(), written, "{resource:?}");
            records.iter().for_each(|record| image.apply(record).expect("fits"));
            assert_eq!(image.setting(&resource, "a"), Some("1"));
            assert_eq!(image.setting(&resource, "b"), None);
        }
    }

    #[test]
    fn blocks_of_producer_ids_do_not_overlap() {
        let mut image = Image::default();
        for expected in [0, 1000, 2000] {
            let (block, records) = allocate_producer_ids_records(&image, NodeId(1)).expect("ids");
            assert_eq!(block.first, expected);
            records.iter().for_each(|record| image.apply(record).expect("fits"));
        }
    }
}
