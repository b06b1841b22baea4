//! The cluster's state as of some record of the metadata log.
//!
//! An [`Image`] is a value: cloning it is cheap, changing a clone leaves the original as it was.
//! The cores share one image at a time, behind an `Arc`.
//!
//! Not here: metadata transactions (`replay`), what changed between two images (`delta`).

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::base::{LeaderEpoch, NodeId, Offset, PartitionKey, Uuid};
use crate::metadata::record::{
    AccessControlEntry, ClientQuota, DelegationToken, QuotaEntity, Recovery, RegisterBroker,
    RegisterController, UserScramCredential,
};

/// A record's place in the metadata log.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Its offset.
    pub offset: Offset,
    /// The epoch of the controller that wrote it.
    pub epoch: LeaderEpoch,
}

/// The state of a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Partition {
    /// Replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The log directory of each replica; `None` is not known yet.
    pub directories: Vec<Option<Uuid>>,
    /// In-sync replicas.
    pub isr: Vec<NodeId>,
    /// Eligible leader replicas (KIP-966).
    pub elr: Vec<NodeId>,
    /// The last member of both sets, once both are empty.
    pub last_known_elr: Vec<NodeId>,
    /// Replicas a reassignment removes.
    pub removing_replicas: Vec<NodeId>,
    /// Replicas a reassignment adds.
    pub adding_replicas: Vec<NodeId>,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
    /// Whether the leader was elected uncleanly and still recovers.
    pub leader_recovery: Recovery,
    /// Number of the leadership.
    pub leader_epoch: LeaderEpoch,
    /// Number of changes.
    pub partition_epoch: i32,
}

/// A topic and its partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topic {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions by number; 0 up to their count, without gaps, once a batch was applied.
    pub partitions: BTreeMap<i32, Partition>,
}

/// The topic of groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Topics that brokers use for themselves (Kafka's `Topic.INTERNAL_TOPICS`).
const INTERNAL_TOPICS: [&str; 3] = [OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];

impl Topic {
    /// A partition of it.
    pub fn partition(&self, number: i32) -> Option<&Partition> {
        self.partitions.get(&number)
    }

    /// Whether brokers use it for themselves.
    pub fn is_internal(&self) -> bool {
        Self::is_internal_name(&self.name)
    }

    /// Whether brokers use a topic of this name for themselves.
    pub fn is_internal_name(name: &str) -> bool {
        INTERNAL_TOPICS.contains(&name)
    }
}

/// What a setting belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(i8)]
pub enum ResourceKind {
    /// A topic.
    Topic = 2,
    /// A broker; "" is the default of all.
    Broker = 4,
    /// A broker's log levels.
    BrokerLogger = 8,
    /// A subscription of client metrics.
    ClientMetrics = 16,
    /// A group.
    Group = 32,
}

impl ResourceKind {
    /// Kafka's number of the kind (`ConfigResource.Type`).
    pub fn to_wire(self) -> i8 {
        self as i8
    }

    /// The kind with Kafka's number.
    pub fn from_wire(raw: i8) -> Option<Self> {
        [Self::Topic, Self::Broker, Self::BrokerLogger, Self::ClientMetrics, Self::Group]
            .into_iter()
            .find(|kind| kind.to_wire() == raw)
    }
}

/// What settings are set on.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConfigResource {
    /// The kind.
    pub kind: ResourceKind,
    /// The name.
    pub name: String,
}

impl ConfigResource {
    /// A topic's settings.
    pub fn topic(name: &str) -> Self {
        Self { kind: ResourceKind::Topic, name: name.to_owned() }
    }

    /// A group's settings.
    pub fn group(name: &str) -> Self {
        Self { kind: ResourceKind::Group, name: name.to_owned() }
    }

    /// A broker's settings.
    pub fn broker(node: NodeId) -> Self {
        Self { kind: ResourceKind::Broker, name: node.to_string() }
    }

    /// The settings every broker has by default.
    pub fn cluster() -> Self {
        Self { kind: ResourceKind::Broker, name: String::new() }
    }
}

/// Settings of one resource.
pub type Settings = BTreeMap<String, String>;

/// Key of a client quota: what it applies to, in the order of types, and the quota's name.
pub type QuotaKey = (Vec<(String, Option<String>)>, String);

/// The key of a client quota.
pub(super) fn quota_key(entity: &[QuotaEntity], key: &str) -> QuotaKey {
    let mut parts: Vec<_> =
        entity.iter().map(|part| (part.entity_type.clone(), part.entity_name.clone())).collect();
    parts.sort();
    (parts, key.to_owned())
}

/// The cluster's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub(super) position: Option<Position>,
    pub(super) features: BTreeMap<String, i16>,
    pub(super) brokers: OrdMap<NodeId, Arc<RegisterBroker>>,
    pub(super) controllers: OrdMap<NodeId, Arc<RegisterController>>,
    pub(super) topics: OrdMap<Uuid, Arc<Topic>>,
    pub(super) topic_ids: OrdMap<Arc<str>, Uuid>,
    pub(super) configs: OrdMap<ConfigResource, Arc<Settings>>,
    pub(super) next_producer_id: i64,
    // Kept and written to snapshots; nothing interprets them yet.
    pub(super) acls: OrdMap<Uuid, Arc<AccessControlEntry>>,
    pub(super) scram: OrdMap<(String, i8), Arc<UserScramCredential>>,
    pub(super) quotas: OrdMap<QuotaKey, Arc<ClientQuota>>,
    pub(super) tokens: OrdMap<String, Arc<DelegationToken>>,
}

impl Image {
    /// The place of the last record applied; `None` before the first.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Finalized levels of features by name.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The finalized level of a feature; 0 when it is not finalized.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Registered brokers, in order of their ids.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<RegisterBroker>> {
        self.brokers.values()
    }

    /// A registered broker.
    pub fn broker(&self, node: NodeId) -> Option<&Arc<RegisterBroker>> {
        self.brokers.get(&node)
    }

    /// Registered controllers, in order of their ids.
    pub fn controllers(&self) -> impl Iterator<Item = &Arc<RegisterController>> {
        self.controllers.values()
    }

    /// All topics, in order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The topic with this id.
    pub fn topic(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The topic with this name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topic_ids.get(name).and_then(|id| self.topics.get(id))
    }

    /// A partition's state.
    pub fn partition(&self, key: PartitionKey) -> Option<&Partition> {
        self.topics.get(&key.topic)?.partitions.get(&key.partition)
    }

    /// What was set on a resource; `None` when nothing was.
    pub fn settings(&self, resource: &ConfigResource) -> Option<&Arc<Settings>> {
        self.configs.get(resource)
    }

    /// The value of a setting of a resource, when one was set.
    pub fn setting(&self, resource: &ConfigResource, name: &str) -> Option<&str> {
        self.configs.get(resource)?.get(name).map(String::as_str)
    }

    /// Everything settings were set on, with the settings, in order.
    pub fn configs(&self) -> impl Iterator<Item = (&ConfigResource, &Arc<Settings>)> {
        self.configs.iter()
    }

    /// The first producer id that was not given out yet.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}
