//! Produce, versions 3 to 13: record batches in, offsets out.

use bytes::Bytes;

use crate::base::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, tagged_struct, wire_field, wire_struct};
use crate::protocol::wire::Str;

wire_struct! {
    /// Asks for record batches to be appended (`ProduceRequest`).
    pub struct ProduceRequest {
        /// The transactional id; `None` outside of transactions.
        pub transactional_id: Option<Str>, 3..;
        /// Acknowledgements wanted: 0 none, 1 the leader's, -1 of all in-sync replicas.
        pub acks: i16, 0..;
        /// How long to wait for the acknowledgements, in milliseconds.
        pub timeout_ms: i32, 0..;
        /// The batches by topic.
        pub topics: Vec<ProduceTopic>, 0..;
    }

    /// The batches for one topic (`TopicProduceData`).
    pub struct ProduceTopic {
        /// The topic's name, up to version 12.
        pub name: Str, 0..=12;
        /// The topic's id, from version 13 on.
        pub topic_id: Option<Uuid>, 13..;
        /// The batches by partition.
        pub partitions: Vec<ProducePartition>, 0..;
    }

    /// The batches for one partition (`PartitionProduceData`).
    pub struct ProducePartition {
        /// The partition's number.
        pub index: i32, 0..;
        /// The batches, unchecked, as a slice of the frame. Null ones do not decode.
        pub records: Bytes, 0..;
    }

    /// What became of the batches (`ProduceResponse`).
    pub struct ProduceResponse {
        /// The answers by topic.
        pub topics: Vec<ProduceTopicResponse>, 0..;
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// Where the brokers named as current leaders listen (KIP-951).
        pub node_endpoints: Vec<NodeEndpoint>, 10.., tag 0;
    }

    /// The answers for one topic (`TopicProduceResponse`).
    pub struct ProduceTopicResponse {
        /// The topic's name, up to version 12.
        pub name: Str, 0..=12;
        /// The topic's id, from version 13 on.
        pub topic_id: Option<Uuid>, 13..;
        /// The answers by partition.
        pub partitions: Vec<ProducePartitionResponse>, 0..;
    }

    /// The answer for one partition (`PartitionProduceResponse`).
    pub struct ProducePartitionResponse {
        /// The partition's number.
        pub index: i32, 0..;
        /// Why nothing was appended, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The offset of the first appended record.
        pub base_offset: Option<Offset>, 0..;
        /// The broker's timestamp when the topic stamps on append, else `None`.
        pub log_append_time: Option<Timestamp>, 2..;
        /// Where the log starts.
        pub log_start_offset: Option<Offset>, 5..;
        /// The records that made the batch be refused (KIP-467).
        pub record_errors: Vec<RecordError>, 8..;
        /// What was wrong, in words.
        pub error_message: Option<Str>, 8..;
        /// The leader, when this broker is not it (KIP-951).
        pub current_leader: Option<CurrentLeader>, 10.., tag 0;
    }

    /// A refused record (`BatchIndexAndErrorMessage`).
    pub struct RecordError {
        /// The record's place in its batch, from 0 on.
        pub batch_index: i32, 8..;
        /// What was wrong with it, in words.
        pub message: Option<Str>, 8..;
    }

    /// A partition's leader (`LeaderIdAndEpoch`).
    pub struct CurrentLeader {
        /// The leading broker; `None` when there is none.
        pub leader: Option<NodeId>, 0..;
        /// The leader's epoch.
        pub epoch: Option<LeaderEpoch>, 0..;
    }

    /// Where a broker listens (`NodeEndpoint`).
    pub struct NodeEndpoint {
        /// The broker.
        pub node: NodeId, 0.., default NodeId(0);
        /// Its host name or address.
        pub host: Str, 0..;
        /// Its port.
        pub port: i32, 0..;
        /// Its rack.
        pub rack: Option<Str>, 0..;
    }
}

message!(ProduceRequest, Produce, Request);
message!(ProduceResponse, Produce, Response);
tagged_struct!(CurrentLeader);
