//! ListOffsets, versions 1 to 11: offsets by time, and the ends of partitions.

use crate::base::{LeaderEpoch, NodeId, Offset, Timestamp};
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::wire::Str;

/// Asks for the end: high watermark, last stable offset or log end, by who asks.
pub const LATEST_TIMESTAMP: i64 = -1;
/// Asks for the log's start.
pub const EARLIEST_TIMESTAMP: i64 = -2;
/// Asks for the record with the largest timestamp; version 7 on (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// Asks for the start of what is on local disks; version 8 on (KIP-405).
pub const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
/// Asks for the end of what is in remote storage; version 9 on (KIP-1005).
pub const LATEST_TIERED_TIMESTAMP: i64 = -5;
/// Asks for the first offset not yet in remote storage; version 11 on (KIP-1023).
pub const EARLIEST_PENDING_UPLOAD_TIMESTAMP: i64 = -6;

wire_struct! {
    /// Asks for offsets (`ListOffsetsRequest`).
    pub struct ListOffsetsRequest {
        /// The asking broker; `None` for consumers.
        pub replica: Option<NodeId>, 0..;
        /// 0 looks up to the high watermark, 1 up to the last stable offset.
        pub isolation_level: i8, 2..;
        /// The questions by topic.
        pub topics: Vec<ListOffsetsTopic>, 0..;
        /// How long to wait for remote storage, in milliseconds.
        pub timeout_ms: i32, 10..;
    }

    /// The questions about one topic (`ListOffsetsTopic`).
    pub struct ListOffsetsTopic {
        /// The topic's name.
        pub name: Str, 0..;
        /// The questions by partition.
        pub partitions: Vec<ListOffsetsPartition>, 0..;
    }

    /// The question about one partition (`ListOffsetsPartition`).
    pub struct ListOffsetsPartition {
        /// The partition's number.
        pub index: i32, 0..;
        /// The leader epoch the client knows; `None` checks nothing (KIP-320).
        pub current_leader_epoch: Option<LeaderEpoch>, 4..;
        /// The time in milliseconds, or one of this module's negative constants.
        pub timestamp: i64, 0..;
    }

    /// The offsets found (`ListOffsetsResponse`).
    pub struct ListOffsetsResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 2..;
        /// The answers by topic.
        pub topics: Vec<ListOffsetsTopicResponse>, 0..;
    }

    /// The answers for one topic (`ListOffsetsTopicResponse`).
    pub struct ListOffsetsTopicResponse {
        /// The topic's name.
        pub name: Str, 0..;
        /// The answers by partition.
        pub partitions: Vec<ListOffsetsPartitionResponse>, 0..;
    }

    /// The answer for one partition (`ListOffsetsPartitionResponse`).
    pub struct ListOffsetsPartitionResponse {
        /// The partition's number.
        pub index: i32, 0..;
        /// Why there is no offset, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The timestamp of the record found; `None` when no record was looked for.
        pub timestamp: Option<Timestamp>, 1..;
        /// The offset found; `None` when there is none.
        pub offset: Option<Offset>, 1..;
        /// The leader epoch of the record found.
        pub leader_epoch: Option<LeaderEpoch>, 4..;
    }
}

message!(ListOffsetsRequest, ListOffsets, Request);
message!(ListOffsetsResponse, ListOffsets, Response);
