//! OffsetCommit, OffsetFetch and OffsetDelete: how far groups have read.

use crate::base::{LeaderEpoch, Uuid};
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::wire::Str;

wire_struct! {
    /// Keeps offsets (`OffsetCommitRequest`).
    pub struct OffsetCommitRequest {
        /// The group.
        pub group: Str, 0..;
        /// The member's generation or epoch; -1 for a client that is no member.
        pub generation: i32, 1.., default -1;
        /// The member id, or "".
        pub member: Str, 1..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 7.., nullable 7..;
        /// How long to keep the offsets, in milliseconds, or -1.
        pub retention_ms: i64, 2..=4, default -1;
        /// The offsets by topic.
        pub topics: Vec<OffsetCommitTopic>, 0..;
    }

    /// A topic's offsets (`OffsetCommitRequestTopic`).
    pub struct OffsetCommitTopic {
        /// The topic's name.
        pub name: Str, 0..=9;
        /// The topic's id (KIP-848).
        pub topic_id: Option<Uuid>, 10..;
        /// The offsets by partition.
        pub partitions: Vec<OffsetCommitPartition>, 0..;
    }

    /// A partition's offset (`OffsetCommitRequestPartition`).
    pub struct OffsetCommitPartition {
        /// The partition's number.
        pub index: i32, 0..;
        /// The offset, any number.
        pub offset: i64, 0..;
        /// The leader epoch of the last record consumed (KIP-320).
        pub leader_epoch: Option<LeaderEpoch>, 6..;
        /// The client's note.
        pub metadata: Option<Str>, 0.., nullable 0..;
    }

    /// Which offsets are kept (`OffsetCommitResponse`).
    pub struct OffsetCommitResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 3..;
        /// The outcomes by topic.
        pub topics: Vec<OffsetCommitTopicResponse>, 0..;
    }

    /// A topic's outcomes (`OffsetCommitResponseTopic`).
    pub struct OffsetCommitTopicResponse {
        /// The topic's name.
        pub name: Str, 0..=9;
        /// The topic's id.
        pub topic_id: Option<Uuid>, 10..;
        /// The outcomes by partition.
        pub partitions: Vec<PartitionError>, 0..;
    }

    /// A partition's outcome (`OffsetCommitResponsePartition`, `OffsetDeleteResponsePartition`).
    pub struct PartitionError {
        /// The partition's number.
        pub index: i32, 0..;
        /// Why it failed, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
    }

    /// Asks for offsets (`OffsetFetchRequest`).
    pub struct OffsetFetchRequest {
        /// The group.
        pub group: Str, 0..=7;
        /// The topics; `None` for all.
        pub topics: Option<Vec<OffsetFetchTopic>>, 0..=7, nullable 2..;
        /// The groups (KIP-709).
        pub groups: Vec<OffsetFetchGroup>, 8..;
        /// Whether offsets that a transaction may yet change are refused (KIP-447).
        pub require_stable: bool, 7..;
    }

    /// A group whose offsets are asked for (`OffsetFetchRequestGroup`).
    pub struct OffsetFetchGroup {
        /// The group.
        pub group: Str, 8..;
        /// The member id.
        pub member: Option<Str>, 9.., nullable 9..;
        /// The member's epoch, or -1.
        pub member_epoch: i32, 9.., default -1;
        /// The topics; `None` for all.
        pub topics: Option<Vec<OffsetFetchTopic>>, 8.., nullable 8..;
    }

    /// A topic whose offsets are asked for (`OffsetFetchRequestTopics`).
    pub struct OffsetFetchTopic {
        /// The topic's name.
        pub name: Str, 0..=9;
        /// The topic's id.
        pub topic_id: Option<Uuid>, 10..;
        /// The partitions' numbers.
        pub partitions: Vec<i32>, 0..;
    }

    /// Offsets (`OffsetFetchResponse`).
    pub struct OffsetFetchResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 3..;
        /// The offsets by topic.
        pub topics: Vec<OffsetFetchTopicResponse>, 0..=7;
        /// Why there are none, or `ErrorCode::None`.
        pub error: ErrorCode, 2..=7;
        /// The offsets by group.
        pub groups: Vec<OffsetFetchGroupResponse>, 8..;
    }

    /// A group's offsets (`OffsetFetchResponseGroup`).
    pub struct OffsetFetchGroupResponse {
        /// The group.
        pub group: Str, 8..;
        /// The offsets by topic.
        pub topics: Vec<OffsetFetchTopicResponse>, 8..;
        /// Why there are none, or `ErrorCode::None`.
        pub error: ErrorCode, 8..;
    }

    /// A topic's offsets (`OffsetFetchResponseTopics`).
    pub struct OffsetFetchTopicResponse {
        /// The topic's name.
        pub name: Str, 0..=9;
        /// The topic's id.
        pub topic_id: Option<Uuid>, 10..;
        /// The offsets by partition.
        pub partitions: Vec<OffsetFetchPartitionResponse>, 0..;
    }

    /// A partition's offset (`OffsetFetchResponsePartitions`).
    pub struct OffsetFetchPartitionResponse {
        /// The partition's number.
        pub index: i32, 0..;
        /// The offset, or -1.
        pub offset: i64, 0..;
        /// The leader epoch committed with it.
        pub leader_epoch: Option<LeaderEpoch>, 5..;
        /// The note committed with it.
        pub metadata: Option<Str>, 0.., nullable 0..;
        /// Why it can not be told, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
    }

    /// Forgets offsets (`OffsetDeleteRequest`).
    pub struct OffsetDeleteRequest {
        /// The group.
        pub group: Str, 0..;
        /// The topics.
        pub topics: Vec<OffsetDeleteTopic>, 0..;
    }

    /// A topic whose offsets go (`OffsetDeleteRequestTopic`).
    pub struct OffsetDeleteTopic {
        /// The topic's name.
        pub name: Str, 0..;
        /// The partitions' numbers.
        pub partitions: Vec<i32>, 0..;
    }

    /// Which offsets are gone (`OffsetDeleteResponse`).
    pub struct OffsetDeleteResponse {
        /// Why none are, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 0..;
        /// The outcomes by topic.
        pub topics: Vec<OffsetDeleteTopicResponse>, 0..;
    }

    /// A topic's outcomes (`OffsetDeleteResponseTopic`).
    pub struct OffsetDeleteTopicResponse {
        /// The topic's name.
        pub name: Str, 0..;
        /// The outcomes by partition.
        pub partitions: Vec<PartitionError>, 0..;
    }
}

message!(OffsetCommitRequest, OffsetCommit, Request);
message!(OffsetCommitResponse, OffsetCommit, Response);
message!(OffsetFetchRequest, OffsetFetch, Request);
message!(OffsetFetchResponse, OffsetFetch, Response);
message!(OffsetDeleteRequest, OffsetDelete, Request);
message!(OffsetDeleteResponse, OffsetDelete, Response);
