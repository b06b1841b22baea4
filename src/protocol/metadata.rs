//! Metadata, versions 0 to 13: brokers, topics, leaders.

use crate::base::{LeaderEpoch, NodeId, Uuid};
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::wire::Str;

/// Stands for "authorized operations were not asked for".
pub const OPERATIONS_UNKNOWN: i32 = i32::MIN;

wire_struct! {
    /// Asks for brokers and topics (`MetadataRequest`).
    pub struct MetadataRequest {
        /// The topics asked for; see [`MetadataRequest::asks_all_topics`].
        pub topics: Option<Vec<MetadataRequestTopic>>, 0.., nullable 1..;
        /// Whether unknown topics may be made.
        pub allow_auto_topic_creation: bool, 4.., default true;
        /// Whether to tell what the client may do with the cluster (KIP-430).
        pub include_cluster_authorized_operations: bool, 8..=10;
        /// Whether to tell what the client may do with each topic (KIP-430).
        pub include_topic_authorized_operations: bool, 8..;
    }

    /// A topic asked for (`MetadataRequestTopic`).
    pub struct MetadataRequestTopic {
        /// The topic's id; `None` when it is asked for by name.
        pub topic_id: Option<Uuid>, 10..;
        /// The topic's name; `None` when it is asked for by id.
        pub name: Option<Str>, 0.., nullable 10..;
    }

    /// Brokers and topics (`MetadataResponse`).
    pub struct MetadataResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 3..;
        /// The brokers that are up.
        pub brokers: Vec<MetadataBroker>, 0..;
        /// The cluster's id.
        pub cluster_id: Option<Str>, 2..;
        /// The broker that takes the controller's requests.
        pub controller: Option<NodeId>, 1..;
        /// The topics.
        pub topics: Vec<MetadataTopic>, 0..;
        /// What the client may do with the cluster, as bits, or [`OPERATIONS_UNKNOWN`].
        pub cluster_authorized_operations: i32, 8..=10, default OPERATIONS_UNKNOWN;
        /// What was wrong with the request as a whole (KIP-1102).
        pub error: ErrorCode, 13..;
    }

    /// A broker (`MetadataResponseBroker`).
    pub struct MetadataBroker {
        /// The broker.
        pub node: NodeId, 0.., default NodeId(0);
        /// Its host name or address.
        pub host: Str, 0..;
        /// Its port.
        pub port: i32, 0..;
        /// Its rack.
        pub rack: Option<Str>, 1..;
    }

    /// A topic (`MetadataResponseTopic`).
    pub struct MetadataTopic {
        /// Why the topic can not be told, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The topic's name; `None` for an unknown id. Written empty before version 12.
        pub name: Option<Str>, 0.., nullable 12..;
        /// The topic's id; `None` for an unknown name.
        pub topic_id: Option<Uuid>, 10..;
        /// Whether brokers use it for themselves.
        pub is_internal: bool, 1..;
        /// The topic's partitions.
        pub partitions: Vec<MetadataPartition>, 0..;
        /// What the client may do with the topic, as bits, or [`OPERATIONS_UNKNOWN`].
        pub authorized_operations: i32, 8.., default OPERATIONS_UNKNOWN;
    }

    /// A partition (`MetadataResponsePartition`).
    pub struct MetadataPartition {
        /// Why the partition has no leader, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The partition's number.
        pub index: i32, 0..;
        /// Its leader.
        pub leader: Option<NodeId>, 0..;
        /// The leader's epoch.
        pub leader_epoch: Option<LeaderEpoch>, 7..;
        /// Its replicas, the preferred leader first.
        pub replicas: Vec<NodeId>, 0..;
        /// Its in-sync replicas.
        pub in_sync: Vec<NodeId>, 0..;
        /// Its replicas that are down.
        pub offline: Vec<NodeId>, 5..;
    }
}

message!(MetadataRequest, Metadata, Request);
message!(MetadataResponse, Metadata, Response);

impl MetadataRequest {
    /// Whether this, as a request of version `version`, asks for all topics.
    ///
    /// Null does, and in version 0, which knows no null, so does an empty list.
    pub fn asks_all_topics(&self, version: i16) -> bool {
        match &self.topics {
            None => true,
            Some(topics) => version == 0 && topics.is_empty(),
        }
    }
}
