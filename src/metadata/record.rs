//! The records of the metadata log, as Apache Kafka 4.3 declares them.
//!
//! A record's value in the log is a frame: `1 | type | version | message`, the first three as
//! unsigned varints, and nothing behind the message. Versions are those that Apache Kafka writes at
//! metadata.version 30; older ones are read.
//!
//! Not here: control records (`kraft::control`), what a record does (`image`).

use bytes::Bytes;

use crate::base::{NodeId, Uuid};
use crate::metadata::codec::{DecodeError, Input, Wire, message, put_uvarint};

const FRAME_VERSION: u32 = 1;

/// Declares the enum of all records, with their types and version ranges.
macro_rules! records {
    ($($(#[$doc:meta])* $name:ident = $key:literal, versions 0..=$newest:literal;)*) => {
        /// A record of the metadata log.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($(#[$doc])* $name($name),)*
        }

        impl Record {
            /// Kafka's number of the record's type.
            pub fn api_key(&self) -> u32 {
                match self {
                    $(Self::$name(_) => $key,)*
                }
            }

            /// The record's value as it stands in a log of this `metadata.version` level. Fields
            /// that releases of that level do not know are left out.
            pub fn encode(&self, level: i16) -> Vec<u8> {
                let mut out = Vec::new();
                put_uvarint(FRAME_VERSION, &mut out);
                put_uvarint(self.api_key(), &mut out);
                match self {
                    $(Self::$name(message) => {
                        let version = self.version_at(level).min($newest);
                        put_uvarint(version as u32, &mut out);
                        message.encode(version, &mut out);
                    })*
                }
                out
            }

            /// Reads a record's value.
            pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
                let mut input = Input::new(value);
                let frame = input.uvarint()?;
                if frame != FRAME_VERSION {
                    return Err(DecodeError::UnknownFrame(frame));
                }
                let api_key = input.uvarint()?;
                let raw_version = input.uvarint()?;
                let version =
                    i16::try_from(raw_version).map_err(|_| DecodeError::BadValue("version"))?;
                let record = match api_key {
                    $($key if version > $newest => {
                        let record = stringify!($name);
                        return Err(DecodeError::UnknownVersion { record, version });
                    }
                    $key => Self::$name($name::decode(version, &mut input)?),)*
                    _ => return Err(DecodeError::UnknownType(api_key)),
                };
                input.finish()?;
                Ok(record)
            }
        }

        $(impl From<$name> for Record {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*
    };
}

records! {
    /// A broker process registered, or changed its registration.
    RegisterBroker = 0, versions 0..=4;
    /// A broker left the cluster for good.
    UnregisterBroker = 1, versions 0..=0;
    /// A topic was created.
    TopicCreated = 2, versions 0..=0;
    /// A partition was created, or (in a snapshot) exists.
    PartitionCreated = 3, versions 0..=2;
    /// A setting was set or removed.
    Config = 4, versions 0..=0;
    /// Some of a partition's state changed.
    PartitionChange = 5, versions 0..=2;
    /// A broker was fenced.
    FenceBroker = 7, versions 0..=0;
    /// A broker was unfenced.
    UnfenceBroker = 8, versions 0..=0;
    /// A topic and its partitions were deleted.
    RemoveTopic = 9, versions 0..=0;
    /// A delegation token was issued or renewed.
    DelegationToken = 10, versions 0..=0;
    /// A user's SCRAM credential was set.
    UserScramCredential = 11, versions 0..=0;
    /// A feature's level was finalized.
    FeatureLevel = 12, versions 0..=0;
    /// A client quota was set or removed.
    ClientQuota = 14, versions 0..=0;
    /// A block of producer ids was given out.
    ProducerIds = 15, versions 0..=0;
    /// Some of a broker's registration changed.
    BrokerRegistrationChange = 17, versions 0..=3;
    /// An access control entry was added.
    AccessControlEntry = 18, versions 0..=0;
    /// An access control entry was removed.
    RemoveAccessControlEntry = 19, versions 0..=0;
    /// Nothing; moves the log forward.
    NoOp = 20, versions 0..=0;
    /// A state of the migration off ZooKeeper; without effect since 4.0.
    ZkMigrationState = 21, versions 0..=0;
    /// A user's SCRAM credential was removed.
    RemoveUserScramCredential = 22, versions 0..=0;
    /// The records up to the transaction's end take effect together (KIP-868).
    BeginTransaction = 23, versions 0..=0;
    /// The transaction's records take effect.
    EndTransaction = 24, versions 0..=0;
    /// The transaction's records have no effect.
    AbortTransaction = 25, versions 0..=0;
    /// A delegation token was removed.
    RemoveDelegationToken = 26, versions 0..=0;
    /// A controller process registered.
    RegisterController = 27, versions 0..=0;
    /// Eligible leader replicas were forgotten (KIP-966).
    ClearElr = 28, versions 0..=0;
}

/// Level of `metadata.version` from which there are metadata transactions, 3.6-IV1.
pub const LEVEL_TRANSACTIONS: i16 = 13;
/// Level from which controllers register, 3.7-IV0.
pub const LEVEL_CONTROLLER_REGISTRATION: i16 = 15;
const LEVEL_MIGRATION: i16 = 8;
const LEVEL_DIRECTORIES: i16 = 17;
const LEVEL_ELR: i16 = 23;
const LEVEL_CORDONED: i16 = 30;

impl Record {
    /// The version in which Apache Kafka writes the record at a level (`MetadataVersion`).
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others have version 0 only")]
    fn version_at(&self, level: i16) -> i16 {
        let count = |levels: &[i16]| levels.iter().filter(|since| level >= **since).count() as i16;
        match self {
            Self::RegisterBroker(_) => {
                1 + count(&[LEVEL_MIGRATION, LEVEL_DIRECTORIES, LEVEL_CORDONED])
            }
            Self::PartitionCreated(_) | Self::PartitionChange(_) => {
                count(&[LEVEL_DIRECTORIES, LEVEL_ELR])
            }
            Self::BrokerRegistrationChange(_) => 1 + count(&[LEVEL_DIRECTORIES, LEVEL_CORDONED]),
            _ => 0,
        }
    }
}

message! {
    /// One listener of a broker or a controller.
    Endpoint {
        /// The listener's name.
        name: String => 0,
        /// Host name or address.
        host: String => 0,
        /// TCP port.
        port: u16 => 0,
        /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
        security_protocol: i16 => 0,
    }
}

message! {
    /// The levels of a feature that a process supports.
    FeatureRange {
        /// The feature's name.
        name: String => 0,
        /// Lowest level.
        min: i16 => 0,
        /// Highest level.
        max: i16 => 0,
    }
}

message! {
    /// `RegisterBrokerRecord`.
    RegisterBroker {
        /// The broker.
        broker: NodeId => 0,
        /// Of the ZooKeeper migration; always false.
        is_migrating_zk_broker: bool => 2,
        /// Id of the process's run.
        incarnation: Uuid => 0,
        /// Epoch of the registration: the offset of the record that began it.
        epoch: i64 => 0,
        /// Where clients and brokers reach it.
        endpoints: Vec<Endpoint> => 0,
        /// What it supports.
        features: Vec<FeatureRange> => 0,
        /// Its rack.
        rack: Option<String> => 0,
        /// Fenced brokers lead nothing and are in no in-sync set.
        fenced: bool => 0,
        /// Whether it asked to be shut down.
        in_controlled_shutdown: bool => 1,
        /// Ids of its log directories that are online.
        log_dirs: Vec<Uuid> => 3 tag 0,
        /// Directories that get no new replicas; `None` before the broker said so.
        cordoned_log_dirs: Option<Vec<Uuid>> => 4 tag 1,
    }
}

message! {
    /// `UnregisterBrokerRecord`.
    UnregisterBroker {
        /// The broker.
        broker: NodeId => 0,
        /// Its epoch.
        epoch: i64 => 0,
    }
}

message! {
    /// `TopicRecord`.
    TopicCreated {
        /// The topic's name.
        name: String => 0,
        /// The topic's id.
        id: Uuid => 0,
    }
}

message! {
    /// `PartitionRecord`. A directory that is `None` is Kafka's `MIGRATING`: chosen by the broker.
    PartitionCreated {
        /// The partition's number.
        partition: i32 => 0,
        /// The topic.
        topic: Uuid => 0,
        /// Replicas, the preferred leader first.
        replicas: Vec<NodeId> => 0,
        /// In-sync replicas.
        isr: Vec<NodeId> => 0,
        /// Replicas a reassignment removes.
        removing_replicas: Vec<NodeId> => 0,
        /// Replicas a reassignment adds.
        adding_replicas: Vec<NodeId> => 0,
        /// The leader, if there is one.
        leader: Option<NodeId> => 0,
        /// Whether the leader was elected uncleanly and still recovers.
        leader_recovery: Recovery => 0 tag 0,
        /// Number of the leadership.
        leader_epoch: i32 => 0,
        /// Number of changes.
        partition_epoch: i32 => 0,
        /// The log directory of each replica, in the order of `replicas`.
        directories: Vec<Option<Uuid>> => 1,
        /// Replicas outside the in-sync set that have all committed records (KIP-966).
        elr: Option<Vec<NodeId>> => 2 tag 1,
        /// The last member of both sets, once both are empty.
        last_known_elr: Option<Vec<NodeId>> => 2 tag 2,
    }
}

message! {
    /// `ConfigRecord`.
    Config {
        /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 => 0,
        /// The resource's name; "" with type 4 is the cluster's default.
        resource_name: String => 0,
        /// The setting.
        name: String => 0,
        /// Its value; `None` removes it.
        value: Option<String> => 0,
    }
}

message! {
    /// `PartitionChangeRecord`: `None` leaves a field as it is.
    PartitionChange {
        /// The partition's number.
        partition: i32 => 0,
        /// The topic.
        topic: Uuid => 0,
        /// New in-sync replicas.
        isr: Option<Vec<NodeId>> => 0 tag 0,
        /// New leader; raises the leader epoch even when the leader stays the same.
        leader: LeaderChange => 0 tag 1,
        /// New replicas.
        replicas: Option<Vec<NodeId>> => 0 tag 2,
        /// New replicas to be removed.
        removing_replicas: Option<Vec<NodeId>> => 0 tag 3,
        /// New replicas to be added.
        adding_replicas: Option<Vec<NodeId>> => 0 tag 4,
        /// New state of recovery.
        leader_recovery: RecoveryChange => 0 tag 5,
        /// New directories of the replicas.
        directories: Option<Vec<Option<Uuid>>> => 1 tag 8,
        /// New eligible leader replicas.
        elr: Option<Vec<NodeId>> => 2 tag 6,
        /// New last known eligible leader replicas.
        last_known_elr: Option<Vec<NodeId>> => 2 tag 7,
    }
}

impl PartitionChange {
    /// A record that changes nothing but the partition epoch.
    pub fn none(topic: Uuid, partition: i32) -> Self {
        Self {
            partition,
            topic,
            isr: None,
            leader: LeaderChange::Unchanged,
            replicas: None,
            removing_replicas: None,
            adding_replicas: None,
            leader_recovery: RecoveryChange::Unchanged,
            directories: None,
            elr: None,
            last_known_elr: None,
        }
    }
}

message! {
    /// `FenceBrokerRecord`.
    FenceBroker {
        /// The broker.
        broker: NodeId => 0,
        /// Its epoch.
        epoch: i64 => 0,
    }
}

message! {
    /// `UnfenceBrokerRecord`.
    UnfenceBroker {
        /// The broker.
        broker: NodeId => 0,
        /// Its epoch.
        epoch: i64 => 0,
    }
}

message! {
    /// `RemoveTopicRecord`.
    RemoveTopic {
        /// The topic.
        topic: Uuid => 0,
    }
}

message! {
    /// `DelegationTokenRecord`.
    DelegationToken {
        /// Who it stands for.
        owner: String => 0,
        /// Who asked for it.
        requester: String => 0,
        /// Who may renew it.
        renewers: Vec<String> => 0,
        /// When it was issued, ms.
        issue_timestamp: i64 => 0,
        /// When it can not be renewed any more, ms.
        max_timestamp: i64 => 0,
        /// When it must be renewed, ms.
        expiration_timestamp: i64 => 0,
        /// The token's id.
        token_id: String => 0,
    }
}

message! {
    /// `UserScramCredentialRecord`.
    UserScramCredential {
        /// The user.
        name: String => 0,
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        mechanism: i8 => 0,
        /// The salt.
        salt: Bytes => 0,
        /// Proves the client.
        stored_key: Bytes => 0,
        /// Proves the server.
        server_key: Bytes => 0,
        /// Rounds of hashing.
        iterations: i32 => 0,
    }
}

message! {
    /// `FeatureLevelRecord`.
    FeatureLevel {
        /// The feature's name.
        name: String => 0,
        /// Its level; 0 removes it.
        level: i16 => 0,
    }
}

message! {
    /// One part of what a quota applies to.
    QuotaEntity {
        /// `user`, `client-id` or `ip`.
        entity_type: String => 0,
        /// Its name; `None` is the default.
        entity_name: Option<String> => 0,
    }
}

message! {
    /// `ClientQuotaRecord`.
    ClientQuota {
        /// What it applies to.
        entity: Vec<QuotaEntity> => 0,
        /// The quota's name.
        key: String => 0,
        /// Its value.
        value: f64 => 0,
        /// Whether it is removed.
        remove: bool => 0,
    }
}

message! {
    /// `ProducerIdsRecord`.
    ProducerIds {
        /// Who asked; `None` in snapshots.
        broker: Option<NodeId> => 0,
        /// Its epoch, or -1.
        broker_epoch: i64 => 0,
        /// The first id of the next block.
        next_producer_id: i64 => 0,
    }
}

message! {
    /// `BrokerRegistrationChangeRecord`.
    BrokerRegistrationChange {
        /// The broker.
        broker: NodeId => 0,
        /// Its epoch.
        epoch: i64 => 0,
        /// Whether it is fenced or unfenced.
        fenced: FencingChange => 0 tag 0,
        /// Whether it entered controlled shutdown.
        in_controlled_shutdown: ShutdownChange => 1 tag 1,
        /// Its directories; empty leaves them as they are.
        log_dirs: Vec<Uuid> => 2 tag 2,
        /// Its cordoned directories; `None` leaves them as they are.
        cordoned_log_dirs: Option<Vec<Uuid>> => 3 tag 3,
    }
}

message! {
    /// `AccessControlEntryRecord`.
    AccessControlEntry {
        /// The entry's id.
        id: Uuid => 0,
        /// Kafka's number of the resource type.
        resource_type: i8 => 0,
        /// The resource's name.
        resource_name: String => 0,
        /// Kafka's number of the pattern type.
        pattern_type: i8 => 0,
        /// Who.
        principal: String => 0,
        /// From where.
        host: String => 0,
        /// Kafka's number of the operation.
        operation: i8 => 0,
        /// Kafka's number of the permission.
        permission_type: i8 => 0,
    }
}

message! {
    /// `RemoveAccessControlEntryRecord`.
    RemoveAccessControlEntry {
        /// The entry's id.
        id: Uuid => 0,
    }
}

message! {
    /// `NoOpRecord`.
    NoOp {}
}

message! {
    /// `ZkMigrationStateRecord`.
    ZkMigrationState {
        /// The state.
        state: i8 => 0,
    }
}

message! {
    /// `RemoveUserScramCredentialRecord`.
    RemoveUserScramCredential {
        /// The user.
        name: String => 0,
        /// Kafka's number of the mechanism.
        mechanism: i8 => 0,
    }
}

message! {
    /// `BeginTransactionRecord`.
    BeginTransaction {
        /// What it is for.
        name: Option<String> => 0 tag 0,
    }
}

message! {
    /// `EndTransactionRecord`.
    EndTransaction {}
}

message! {
    /// `AbortTransactionRecord`.
    AbortTransaction {
        /// Why.
        reason: Option<String> => 0 tag 0,
    }
}

message! {
    /// `RemoveDelegationTokenRecord`.
    RemoveDelegationToken {
        /// The token's id.
        token_id: String => 0,
    }
}

message! {
    /// `RegisterControllerRecord`.
    RegisterController {
        /// The controller.
        controller: NodeId => 0,
        /// Id of the process's run.
        incarnation: Uuid => 0,
        /// Of the ZooKeeper migration; always false.
        zk_migration_ready: bool => 0,
        /// Where it is reached.
        endpoints: Vec<Endpoint> => 0,
        /// What it supports.
        features: Vec<FeatureRange> => 0,
    }
}

message! {
    /// `ClearElrRecord`.
    ClearElr {
        /// The topic; "" is every topic.
        topic_name: String => 0,
    }
}

/// Declares an enum of small numbers; the first row is the default.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident($raw:ty) {
        $($(#[$doc:meta])* $variant:ident = $number:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl Wire for $name {
            fn encode(&self, version: i16, out: &mut Vec<u8>) {
                let raw: $raw = match self {
                    $(Self::$variant => $number,)*
                };
                raw.encode(version, out);
            }

            fn decode(version: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
                match <$raw>::decode(version, input)? {
                    $($number => Ok(Self::$variant),)*
                    _ => Err(DecodeError::BadValue(stringify!($name))),
                }
            }
        }
    };
}

numbered! {
    /// Whether a partition's leader was elected uncleanly (KIP-704).
    #[derive(Default)]
    Recovery(i8) {
        /// Elected from the in-sync set, or recovered since.
        #[default]
        Recovered = 0,
        /// Elected uncleanly.
        Recovering = 1,
    }
}

numbered! {
    /// A change of [`Recovery`].
    #[derive(Default)]
    RecoveryChange(i8) {
        /// As before.
        #[default]
        Unchanged = -1,
        /// To recovered.
        Recovered = 0,
        /// To recovering.
        Recovering = 1,
    }
}

numbered! {
    /// A change of a broker's fencing.
    #[derive(Default)]
    FencingChange(i8) {
        /// As before.
        #[default]
        Unchanged = 0,
        /// Fenced.
        Fenced = 1,
        /// Unfenced.
        Unfenced = -1,
    }
}

numbered! {
    /// A change of a broker's controlled shutdown.
    #[derive(Default)]
    ShutdownChange(i8) {
        /// As before.
        #[default]
        Unchanged = 0,
        /// It asked to be shut down.
        Begun = 1,
    }
}

/// A change of a partition's leader.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LeaderChange {
    /// The leader and its epoch stay.
    #[default]
    Unchanged,
    /// Nobody leads now.
    Nobody,
    /// This node leads now.
    Node(NodeId),
}

impl Wire for LeaderChange {
    fn encode(&self, version: i16, out: &mut Vec<u8>) {
        let raw = match self {
            Self::Unchanged => -2,
            Self::Nobody => -1,
            Self::Node(node) => node.0,
        };
        raw.encode(version, out);
    }

    fn decode(version: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match i32::decode(version, input)? {
            -2 => Ok(Self::Unchanged),
            -1 => Ok(Self::Nobody),
            node if node >= 0 => Ok(Self::Node(NodeId(node))),
            _ => Err(DecodeError::BadValue("leader")),
        }
    }
}
