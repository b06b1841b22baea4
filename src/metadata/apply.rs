//! What each record does to an [`Image`]: Kafka's `MetadataDelta.replay` in one place.

use std::fmt;
use std::sync::Arc;

use crate::base::{LeaderEpoch, NodeId, PartitionKey, Uuid};
use crate::metadata::image::{
    ConfigResource, Image, Partition, Position, ResourceKind, Topic, quota_key,
};
use crate::metadata::record::{
    BrokerRegistrationChange, Config, FencingChange, LeaderChange, PartitionChange,
    PartitionCreated, Record, Recovery, RecoveryChange, RegisterBroker, ShutdownChange,
    TopicCreated,
};

/// Why a record does not fit the state it is applied to. The log is damaged, or this program is
/// wrong; going on would corrupt the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ApplyError {
    /// It names a topic that does not exist.
    UnknownTopic(Uuid),
    /// It names a partition that does not exist.
    UnknownPartition(PartitionKey),
    /// It names a broker that is not registered, or an epoch the broker does not have.
    UnknownBroker {
        /// The broker.
        broker: NodeId,
        /// The epoch in the record.
        epoch: i64,
    },
    /// It creates a topic whose name or id another topic has.
    DuplicateTopic(String),
    /// It holds a value that can not be.
    BadValue(&'static str),
    /// A transaction begins within another, or ends where none began.
    MisplacedTransaction,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopic(id) => write!(f, "a record names topic {id}, which does not exist"),
            Self::UnknownPartition(key) => write!(
                f,
                "a record names partition {} of topic {}, which does not exist",
                key.partition, key.topic
            ),
            Self::UnknownBroker { broker, epoch } => {
                write!(f, "a record names broker {broker} with epoch {epoch}, which is not there")
            }
            Self::DuplicateTopic(name) => write!(f, "topic {name} is created a second time"),
            Self::BadValue(what) => write!(f, "a record holds a bad value: {what}"),
            Self::MisplacedTransaction => {
                f.write_str("a metadata transaction begins or ends at the wrong place")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

impl Image {
    /// Marks that all records up to and with the one at `position` were applied.
    pub fn advance(&mut self, position: Position) {
        self.position = Some(position);
    }

    /// Applies one record. Transactions are the caller's business ([`Replay`](super::Replay)).
    ///
    /// On an error the image is unusable: the record may be applied in part.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::RegisterBroker(record) => {
                let mut record = record.clone();
                // Apache Kafka lists them in any order; equal images are to be equal.
                record.features.sort_by(|a, b| a.name.cmp(&b.name));
                self.brokers.insert(record.broker, Arc::new(record));
            }
            Record::UnregisterBroker(record) => {
                self.brokers.remove(&record.broker);
            }
            Record::TopicCreated(record) => self.create_topic(record)?,
            Record::PartitionCreated(record) => self.create_partition(record)?,
            Record::Config(record) => self.configure(record)?,
            Record::PartitionChange(record) => self.change_partition(record)?,
            Record::FenceBroker(record) => {
                self.broker_mut(record.broker, record.epoch)?.fenced = true
            }
            Record::UnfenceBroker(record) => {
                self.broker_mut(record.broker, record.epoch)?.fenced = false;
            }
            Record::RemoveTopic(record) => self.remove_topic(record.topic)?,
            Record::FeatureLevel(record) => {
                if record.level == 0 {
                    self.features.remove(&record.name);
                } else {
                    self.features.insert(record.name.clone(), record.level);
                }
            }
            Record::ProducerIds(record) => self.next_producer_id = record.next_producer_id,
            Record::BrokerRegistrationChange(record) => self.change_broker(record)?,
            Record::RegisterController(record) => {
                let mut record = record.clone();
                record.features.sort_by(|a, b| a.name.cmp(&b.name));
                self.controllers.insert(record.controller, Arc::new(record));
            }
            Record::ClearElr(record) => self.clear_elr(&record.topic_name)?,
            Record::NoOp(_) | Record::ZkMigrationState(_) => {}
            Record::BeginTransaction(_)
            | Record::EndTransaction(_)
            | Record::AbortTransaction(_) => return Err(ApplyError::MisplacedTransaction),
            Record::AccessControlEntry(_)
            | Record::RemoveAccessControlEntry(_)
            | Record::UserScramCredential(_)
            | Record::RemoveUserScramCredential(_)
            | Record::ClientQuota(_)
            | Record::DelegationToken(_)
            | Record::RemoveDelegationToken(_) => self.keep(record),
        }
        Ok(())
    }

    /// Keeps (or drops) what nothing here interprets yet.
    fn keep(&mut self, record: &Record) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sorted the others out")]
        match record {
            Record::AccessControlEntry(record) => {
                self.acls.insert(record.id, Arc::new(record.clone()));
            }
            Record::RemoveAccessControlEntry(record) => {
                self.acls.remove(&record.id);
            }
            Record::UserScramCredential(record) => {
                let key = (record.name.clone(), record.mechanism);
                self.scram.insert(key, Arc::new(record.clone()));
            }
            Record::RemoveUserScramCredential(record) => {
                self.scram.remove(&(record.name.clone(), record.mechanism));
            }
            Record::ClientQuota(record) => {
                let key = quota_key(&record.entity, &record.key);
                if record.remove {
                    self.quotas.remove(&key);
                } else {
                    self.quotas.insert(key, Arc::new(record.clone()));
                }
            }
            Record::DelegationToken(record) => {
                self.tokens.insert(record.token_id.clone(), Arc::new(record.clone()));
            }
            Record::RemoveDelegationToken(record) => {
                self.tokens.remove(&record.token_id);
            }
            _ => unreachable!("the caller passes only records that are kept"),
        }
    }

    fn broker_mut(
        &mut self,
        broker: NodeId,
        epoch: i64,
    ) -> Result<&mut RegisterBroker, ApplyError> {
        let found = self.brokers.get_mut(&broker).filter(|found| found.epoch == epoch);
        found.map(Arc::make_mut).ok_or(ApplyError::UnknownBroker { broker, epoch })
    }

    fn change_broker(&mut self, record: &BrokerRegistrationChange) -> Result<(), ApplyError> {
        let broker = self.broker_mut(record.broker, record.epoch)?;
        match record.fenced {
            FencingChange::Unchanged => {}
            FencingChange::Fenced => broker.fenced = true,
            FencingChange::Unfenced => broker.fenced = false,
        }
        match record.in_controlled_shutdown {
            ShutdownChange::Unchanged => {}
            ShutdownChange::Begun => broker.in_controlled_shutdown = true,
        }
        if !record.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&record.log_dirs);
        }
        if record.cordoned_log_dirs.is_some() {
            broker.cordoned_log_dirs.clone_from(&record.cordoned_log_dirs);
        }
        Ok(())
    }

    fn create_topic(&mut self, record: &TopicCreated) -> Result<(), ApplyError> {
        let name: Arc<str> = record.name.as_str().into();
        if self.topic_ids.contains_key(&name) || self.topics.contains_key(&record.id) {
            return Err(ApplyError::DuplicateTopic(record.name.clone()));
        }
        self.topic_ids.insert(name.clone(), record.id);
        let topic = Topic { id: record.id, name, partitions: Default::default() };
        self.topics.insert(record.id, Arc::new(topic));
        Ok(())
    }

    fn remove_topic(&mut self, id: Uuid) -> Result<(), ApplyError> {
        let topic = self.topics.remove(&id).ok_or(ApplyError::UnknownTopic(id))?;
        self.topic_ids.remove(&topic.name);
        self.configs.remove(&ConfigResource::topic(&topic.name));
        Ok(())
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut Topic, ApplyError> {
        self.topics.get_mut(&id).map(Arc::make_mut).ok_or(ApplyError::UnknownTopic(id))
    }

    fn create_partition(&mut self, record: &PartitionCreated) -> Result<(), ApplyError> {
        let partition = Partition::created(record)?;
        self.topic_mut(record.topic)?.partitions.insert(record.partition, partition);
        Ok(())
    }

    fn change_partition(&mut self, record: &PartitionChange) -> Result<(), ApplyError> {
        let key = PartitionKey { topic: record.topic, partition: record.partition };
        let topic = self.topic_mut(record.topic)?;
        let partition = topic.partitions.get_mut(&record.partition);
        partition.ok_or(ApplyError::UnknownPartition(key))?.change(record)
    }

    fn configure(&mut self, record: &Config) -> Result<(), ApplyError> {
        let kind = ResourceKind::from_wire(record.resource_type)
            .ok_or(ApplyError::BadValue("resource type of a setting"))?;
        let resource = ConfigResource { kind, name: record.resource_name.clone() };
        let settings = self.configs.entry(resource.clone()).or_default();
        match &record.value {
            Some(value) => {
                Arc::make_mut(settings).insert(record.name.clone(), value.clone());
            }
            None => {
                Arc::make_mut(settings).remove(&record.name);
            }
        }
        if settings.is_empty() {
            self.configs.remove(&resource);
        }
        Ok(())
    }

    fn clear_elr(&mut self, topic_name: &str) -> Result<(), ApplyError> {
        let ids: Vec<Uuid> = if topic_name.is_empty() {
            self.topics.keys().copied().collect()
        } else {
            // A topic that was deleted since is no error; Kafka ignores it too.
            self.topic_ids.get(topic_name).copied().into_iter().collect()
        };
        for id in ids {
            let has_elr = |partition: &Partition| {
                !partition.elr.is_empty() || !partition.last_known_elr.is_empty()
            };
            if !self.topics.get(&id).is_some_and(|t| t.partitions.values().any(has_elr)) {
                continue;
            }
            for (number, partition) in &mut self.topic_mut(id)?.partitions {
                if has_elr(partition) {
                    let mut change = PartitionChange::none(id, *number);
                    change.elr = Some(Vec::new());
                    change.last_known_elr = Some(Vec::new());
                    partition.change(&change)?;
                }
            }
        }
        Ok(())
    }
}

fn raise(epoch: LeaderEpoch) -> Result<LeaderEpoch, ApplyError> {
    let raised = epoch.to_wire().checked_add(1).and_then(LeaderEpoch::from_wire);
    raised.ok_or(ApplyError::BadValue("leader epoch"))
}

impl Partition {
    fn created(record: &PartitionCreated) -> Result<Self, ApplyError> {
        if record.partition < 0 || record.partition_epoch < 0 {
            return Err(ApplyError::BadValue("partition number or epoch"));
        }
        let leader_epoch = LeaderEpoch::from_wire(record.leader_epoch)
            .ok_or(ApplyError::BadValue("leader epoch"))?;
        Ok(Self {
            replicas: record.replicas.clone(),
            directories: directories(&record.directories, record.replicas.len())?,
            isr: record.isr.clone(),
            elr: record.elr.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            leader: record.leader,
            leader_recovery: record.leader_recovery,
            leader_epoch,
            partition_epoch: record.partition_epoch,
        })
    }

    /// Kafka's `PartitionRegistration.merge`: the partition epoch always rises, the leader epoch
    /// whenever a leader is named.
    fn change(&mut self, record: &PartitionChange) -> Result<(), ApplyError> {
        let replace = |old: &mut Vec<NodeId>, new: &Option<Vec<NodeId>>| {
            if let Some(new) = new {
                old.clone_from(new);
            }
        };
        replace(&mut self.replicas, &record.replicas);
        replace(&mut self.isr, &record.isr);
        replace(&mut self.removing_replicas, &record.removing_replicas);
        replace(&mut self.adding_replicas, &record.adding_replicas);
        replace(&mut self.elr, &record.elr);
        replace(&mut self.last_known_elr, &record.last_known_elr);
        let listed = record.directories.as_ref().unwrap_or(&self.directories);
        self.directories = directories(listed, self.replicas.len())?;
        match record.leader {
            LeaderChange::Unchanged => {}
            LeaderChange::Nobody => self.leader = None,
            LeaderChange::Node(node) => self.leader = Some(node),
        }
        if record.leader != LeaderChange::Unchanged {
            self.leader_epoch = raise(self.leader_epoch)?;
        }
        match record.leader_recovery {
            RecoveryChange::Unchanged => {}
            RecoveryChange::Recovered => self.leader_recovery = Recovery::Recovered,
            RecoveryChange::Recovering => self.leader_recovery = Recovery::Recovering,
        }
        self.partition_epoch =
            self.partition_epoch.checked_add(1).ok_or(ApplyError::BadValue("partition epoch"))?;
        Ok(())
    }
}

/// The directories of `replica_count` replicas: none named means that none is known yet.
fn directories(
    listed: &[Option<Uuid>],
    replica_count: usize,
) -> Result<Vec<Option<Uuid>>, ApplyError> {
    if listed.iter().all(Option::is_none) {
        return Ok(vec![None; replica_count]);
    }
    if listed.len() != replica_count {
        return Err(ApplyError::BadValue("directories of replicas"));
    }
    Ok(listed.to_vec())
}
