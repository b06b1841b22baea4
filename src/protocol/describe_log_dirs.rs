//! DescribeLogDirs, versions 1 to 5: log directories and the partitions in them.

use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::wire::Str;

wire_struct! {
    /// Asks for log directories (`DescribeLogDirsRequest`).
    pub struct DescribeLogDirsRequest {
        /// The partitions asked for; `None` asks for all.
        pub topics: Option<Vec<DescribableLogDirTopic>>, 0..;
    }

    /// The partitions of a topic asked for (`DescribableLogDirTopic`).
    pub struct DescribableLogDirTopic {
        /// The topic's name.
        pub name: Str, 0..;
        /// The partitions' numbers.
        pub partitions: Vec<i32>, 0..;
    }

    /// The log directories of a broker (`DescribeLogDirsResponse`).
    pub struct DescribeLogDirsResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 0..;
        /// What was wrong with the request as a whole.
        pub error: ErrorCode, 3..;
        /// The directories.
        pub results: Vec<LogDir>, 0..;
    }

    /// A log directory (`DescribeLogDirsResult`).
    pub struct LogDir {
        /// Why the directory can not be told, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// Its absolute path.
        pub path: Str, 0..;
        /// The topics in it.
        pub topics: Vec<LogDirTopic>, 0..;
        /// Size of its volume in bytes, or -1 (KIP-827).
        pub total_bytes: i64, 4.., default -1;
        /// Free bytes of its volume, or -1 (KIP-827).
        pub usable_bytes: i64, 4.., default -1;
        /// Whether no new partitions are put there (KIP-1066).
        pub is_cordoned: bool, 5..;
    }

    /// A topic in a log directory (`DescribeLogDirsTopic`).
    pub struct LogDirTopic {
        /// The topic's name.
        pub name: Str, 0..;
        /// Its partitions in this directory.
        pub partitions: Vec<LogDirPartition>, 0..;
    }

    /// A partition in a log directory (`DescribeLogDirsPartition`).
    pub struct LogDirPartition {
        /// The partition's number.
        pub index: i32, 0..;
        /// Size of its segments, in bytes.
        pub size_bytes: i64, 0..;
        /// How many records it is behind, or 0.
        pub offset_lag: i64, 0..;
        /// Whether it is to replace another directory's once it has caught up.
        pub is_future: bool, 0..;
    }
}

message!(DescribeLogDirsRequest, DescribeLogDirs, Request);
message!(DescribeLogDirsResponse, DescribeLogDirs, Response);
