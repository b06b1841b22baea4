//! This node as a broker: it registers at every start, leads what it may lead, and leaves in order.

use crate::base::{NodeId, Offset, PartitionKey, Uuid};
use crate::kraft::{METADATA_LEVEL_MAX, METADATA_LEVEL_MIN};
use crate::metadata::record::{
    BrokerRegistrationChange, Endpoint, FeatureRange, FencingChange, LEVEL_CONTROLLER_REGISTRATION,
    LeaderChange, PartitionChange, RecoveryChange, RegisterBroker, RegisterController,
    ShutdownChange,
};
use crate::metadata::{Image, METADATA_VERSION, Partition, Record};

const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";

/// Features and their levels that this program supports, as Apache Kafka 4.3 declares them.
const SUPPORTED: [(&str, i16, i16); 7] = [
    (METADATA_VERSION, METADATA_LEVEL_MIN, METADATA_LEVEL_MAX),
    ("kraft.version", 0, 1),
    ("transaction.version", 0, 2),
    ("group.version", 0, 1),
    (ELIGIBLE_LEADER_REPLICAS, 0, 1),
    ("share.version", 0, 1),
    ("streams.version", 0, 1),
];

/// A node that is both broker and controller, and starts.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The node.
    pub node: NodeId,
    /// Drawn anew at every start of the process.
    pub incarnation: Uuid,
    /// Where clients reach it.
    pub endpoints: Vec<Endpoint>,
    /// Where its controller is, or would be, reached.
    pub controller_endpoint: Endpoint,
    /// Its rack.
    pub rack: Option<String>,
    /// Ids of its log directories.
    pub log_dirs: Vec<Uuid>,
}

/// Records by which a node registers, is unfenced, and takes the lead of what it may lead.
///
/// `base` is the offset the first of them will get: the broker's epoch is the offset of its
/// registration. A partition it leads already stays as it is.
pub fn registration_records(image: &Image, base: Offset, node: &Registration) -> Vec<Record> {
    let features = || {
        let range =
            |(name, min, max): (&str, _, _)| FeatureRange { name: name.to_owned(), min, max };
        SUPPORTED.into_iter().map(range).collect()
    };
    let mut log_dirs = node.log_dirs.clone();
    log_dirs.sort();
    let controller = RegisterController {
        controller: node.node,
        incarnation: node.incarnation,
        zk_migration_ready: false,
        endpoints: vec![node.controller_endpoint.clone()],
        features: features(),
    };
    let registers_controller = image.feature(METADATA_VERSION) >= LEVEL_CONTROLLER_REGISTRATION;
    let epoch = (base + u64::from(registers_controller)).to_wire();
    let broker = RegisterBroker {
        broker: node.node,
        is_migrating_zk_broker: false,
        incarnation: node.incarnation,
        epoch,
        endpoints: node.endpoints.clone(),
        features: features(),
        rack: node.rack.clone(),
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs,
        cordoned_log_dirs: None,
    };
    let unfence = BrokerRegistrationChange {
        broker: node.node,
        epoch,
        fenced: FencingChange::Unfenced,
        in_controlled_shutdown: ShutdownChange::Unchanged,
        log_dirs: Vec::new(),
        cordoned_log_dirs: Some(Vec::new()),
    };
    let mut records = Vec::new();
    if registers_controller {
        records.push(controller.into());
    }
    records.extend([broker.into(), unfence.into()]);
    records
        .extend(partitions(image).filter_map(|(key, partition)| elect(key, partition, node.node)));
    records
}

/// Records by which a node that stops in order gives up its leaderships and is fenced, as in a
/// controlled shutdown of Apache Kafka's only broker: nobody leads, the node stays eligible.
pub fn shutdown_records(image: &Image, node: NodeId) -> Vec<Record> {
    let Some(broker) = image.broker(node) else { return Vec::new() };
    let change = |fenced, in_controlled_shutdown| {
        Record::from(BrokerRegistrationChange {
            broker: node,
            epoch: broker.epoch,
            fenced,
            in_controlled_shutdown,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
        })
    };
    let elr_enabled = image.feature(ELIGIBLE_LEADER_REPLICAS) > 0;
    let mut records = vec![change(FencingChange::Unchanged, ShutdownChange::Begun)];
    for (key, partition) in partitions(image).filter(|(_, found)| found.leader == Some(node)) {
        let mut record = PartitionChange::none(key.topic, key.partition);
        record.leader = LeaderChange::Nobody;
        if elr_enabled {
            // The in-sync replicas become eligible ones: none of them is in sync with a leader.
            let mut elr = partition.elr.clone();
            elr.extend(partition.isr.iter().filter(|other| !partition.elr.contains(other)));
            record.isr = Some(Vec::new());
            record.elr = Some(elr);
            record.last_known_elr = Some(vec![node]);
        }
        records.push(record.into());
    }
    records.push(change(FencingChange::Fenced, ShutdownChange::Unchanged));
    records
}

fn partitions(image: &Image) -> impl Iterator<Item = (PartitionKey, &Partition)> {
    image.topics().flat_map(|topic| {
        topic.partitions.iter().map(|(number, partition)| {
            (PartitionKey { topic: topic.id, partition: *number }, partition)
        })
    })
}

/// The record that makes `node` the leader, if nobody leads and it has all that was committed: it
/// is in sync, or eligible, or it was the last one that could have been.
fn elect(key: PartitionKey, partition: &Partition, node: NodeId) -> Option<Record> {
    let last_known =
        partition.isr.is_empty() && partition.elr.is_empty() && partition.last_known_elr == [node];
    let may_lead = partition.isr.contains(&node) || partition.elr.contains(&node) || last_known;
    if partition.leader.is_some() || !partition.replicas.contains(&node) || !may_lead {
        return None;
    }
    // The others of the in-sync set do not follow the new leader yet, but have what it has.
    let others = partition.isr.iter().chain(&partition.elr).filter(|other| **other != node);
    let mut elr: Vec<NodeId> = others.copied().collect();
    elr.sort();
    elr.dedup();
    let mut record = PartitionChange::none(key.topic, key.partition);
    record.leader = LeaderChange::Node(node);
    record.isr = (partition.isr != [node]).then(|| vec![node]);
    record.elr = (partition.elr != elr).then_some(elr);
    record.last_known_elr = (!partition.last_known_elr.is_empty()).then(Vec::new);
    record.leader_recovery = RecoveryChange::Unchanged;
    Some(record.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;
    use crate::controller::topics::{Home, NewTopic, create_topic_records};
    use crate::metadata::Settings;
    use crate::metadata::record::FeatureLevel;

    fn applied(image: &Image, records: &[Record]) -> Image {
        let mut image = image.clone();
        records.iter().for_each(|record| image.apply(record).expect("fits"));
        image
    }

    fn registration() -> Registration {
        let endpoint = |name: &str, port| Endpoint {
            name: name.to_owned(),
            host: "localhost".to_owned(),
            port,
            security_protocol: 0,
        };
        Registration {
            node: NodeId(1),
            incarnation: Uuid::from_halves(3, 3),
            endpoints: vec![endpoint("PLAINTEXT", 9092)],
            controller_endpoint: endpoint("CONTROLLER", 9093),
            rack: None,
            log_dirs: vec![Uuid::from_halves(5, 5)],
        }
    }

    #[test]
    fn a_node_keeps_its_partitions_over_a_crash_and_over_a_shutdown() {
        let mut image = Image::default();
        for (name, level) in [(METADATA_VERSION, METADATA_LEVEL_MAX), (ELIGIBLE_LEADER_REPLICAS, 1)]
        {
            let feature = FeatureLevel { name: name.to_owned(), level };
            image.apply(&feature.into()).expect("fits");
        }
        let node = registration();
        let registered = registration_records(&image, Offset::new(7), &node);
        image = applied(&image, &registered);
        let broker = image.broker(node.node).expect("registered").clone();
        assert_eq!((broker.epoch, broker.fenced), (8, false));

        let id = Uuid::from_halves(1, 1);
        let home = Home { node: node.node, directory: node.log_dirs[0] };
        let settings = Settings::new();
        let new = NewTopic { id, name: "t", partition_count: 1, home, settings: &settings };
        image = applied(&image, &create_topic_records(&image, &new).expect("valid"));
        let key = PartitionKey { topic: id, partition: 0 };

        // After a crash nothing changes but the registration.
        image = applied(&image, &registration_records(&image, Offset::new(20), &node));
        let partition = image.partition(key).expect("exists").clone();
        assert_eq!((partition.leader, partition.partition_epoch), (Some(node.node), 0));

        image = applied(&image, &shutdown_records(&image, node.node));
        let down = image.partition(key).expect("exists").clone();
        assert_eq!((down.leader, down.elr.as_slice()), (None, &[node.node][..]));
        assert!(image.broker(node.node).expect("registered").fenced);

        image = applied(&image, &registration_records(&image, Offset::new(30), &node));
        let up = image.partition(key).expect("exists").clone();
        assert_eq!((up.leader, up.isr.as_slice()), (Some(node.node), &[node.node][..]));
        assert_eq!((up.elr.len(), up.last_known_elr.len()), (0, 0));
        assert_eq!(up.leader_epoch, LeaderEpoch::new(2));
    }
}
