//! Fetch, versions 4 to 18: record batches out.
//!
//! An answer's records may stay where they are: see [`Records::Elsewhere`].

use crate::base::{LeaderEpoch, NodeId, Offset, Uuid};
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, tagged_struct, wire_field, wire_struct};
use crate::protocol::produce::{CurrentLeader, NodeEndpoint};
use crate::protocol::wire::{Records, Str};

wire_struct! {
    /// Asks for record batches (`FetchRequest`).
    pub struct FetchRequest {
        /// The cluster the fetching replica believes to be in; only on the metadata log.
        pub cluster_id: Option<Str>, 12.., tag 0;
        /// The fetching replica, up to version 14; `None` for consumers.
        pub replica: Option<NodeId>, 0..=14;
        /// The fetching replica, from version 15 on; `None` for consumers (KIP-903).
        pub replica_state: Option<ReplicaState>, 15.., tag 1;
        /// How long to wait for `min_bytes`, in milliseconds.
        pub max_wait_ms: i32, 0..;
        /// How many bytes of records are worth an answer.
        pub min_bytes: i32, 0..;
        /// How many bytes of records the answer may hold, but for a first larger batch.
        pub max_bytes: i32, 3.., default i32::MAX;
        /// 0 reads up to the high watermark, 1 up to the last stable offset.
        pub isolation_level: i8, 4..;
        /// The fetch session; 0 for none (KIP-227).
        pub session_id: i32, 7..;
        /// The request's number in its session: 0 opens one, -1 is outside of sessions.
        pub session_epoch: i32, 7.., default -1;
        /// What to fetch; in a session only what changed.
        pub topics: Vec<FetchTopic>, 0..;
        /// What to remove from the session.
        pub forgotten: Vec<ForgottenTopic>, 7..;
        /// The consumer's rack; empty when it told none (KIP-392).
        pub rack_id: Str, 11..;
    }

    /// The fetching replica (`ReplicaState`).
    pub struct ReplicaState {
        /// The broker; `None` for consumers.
        pub replica: Option<NodeId>, 15..;
        /// The broker's epoch; -1 when unknown.
        pub replica_epoch: i64, 15.., default -1;
    }

    /// What to fetch from one topic (`FetchTopic`).
    pub struct FetchTopic {
        /// The topic's name, up to version 12.
        pub name: Str, 0..=12;
        /// The topic's id, from version 13 on.
        pub topic_id: Option<Uuid>, 13..;
        /// What to fetch, by partition.
        pub partitions: Vec<FetchPartition>, 0..;
    }

    /// What to fetch from one partition (`FetchPartition`).
    pub struct FetchPartition {
        /// The partition's number.
        pub index: i32, 0..;
        /// The leader epoch the client knows; `None` checks nothing (KIP-320).
        pub current_leader_epoch: Option<LeaderEpoch>, 9..;
        /// Where to begin; `None`, a negative one, is out of range.
        pub fetch_offset: Option<Offset>, 0..;
        /// The epoch of the last record the client has; `None` checks nothing (KIP-595).
        pub last_fetched_epoch: Option<LeaderEpoch>, 12..;
        /// Where the follower's log starts; `None` for consumers.
        pub log_start_offset: Option<Offset>, 5..;
        /// How many bytes of records this partition may give.
        pub max_bytes: i32, 0..;
        /// The follower's directory (KIP-853).
        pub replica_directory_id: Option<Uuid>, 17.., tag 0;
        /// The high watermark the follower knows; `i64::MAX` when it did not tell (KIP-1166).
        pub high_watermark: i64, 18.., tag 1, default i64::MAX;
    }

    /// Partitions to remove from the session (`ForgottenTopic`).
    pub struct ForgottenTopic {
        /// The topic's name, up to version 12.
        pub name: Str, 7..=12;
        /// The topic's id, from version 13 on.
        pub topic_id: Option<Uuid>, 13..;
        /// The partitions' numbers.
        pub partitions: Vec<i32>, 7..;
    }

    /// The record batches found (`FetchResponse`).
    pub struct FetchResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// What was wrong with the request or its session as a whole.
        pub error: ErrorCode, 7..;
        /// The session; 0 when there is none.
        pub session_id: i32, 7..;
        /// The answers by topic.
        pub topics: Vec<FetchTopicResponse>, 0..;
        /// Where the brokers named as current leaders listen (KIP-951).
        pub node_endpoints: Vec<NodeEndpoint>, 16.., tag 0;
    }

    /// The answers for one topic (`FetchableTopicResponse`).
    pub struct FetchTopicResponse {
        /// The topic's name, up to version 12.
        pub name: Str, 0..=12;
        /// The topic's id, from version 13 on.
        pub topic_id: Option<Uuid>, 13..;
        /// The answers by partition.
        pub partitions: Vec<FetchPartitionResponse>, 0..;
    }

    /// The answer for one partition (`PartitionData`).
    pub struct FetchPartitionResponse {
        /// The partition's number.
        pub index: i32, 0..;
        /// Why there are no records, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The high watermark; `None` on errors.
        pub high_watermark: Option<Offset>, 0..;
        /// The last stable offset; `None` on errors.
        pub last_stable_offset: Option<Offset>, 4..;
        /// Where the log starts; `None` on errors.
        pub log_start_offset: Option<Offset>, 5..;
        /// Where the client's log parts from the leader's (KIP-595).
        pub diverging_epoch: Option<EpochEnd>, 12.., tag 0;
        /// The leader, when this broker is not it (KIP-951).
        pub current_leader: Option<CurrentLeader>, 12.., tag 1;
        /// The snapshot to fetch instead; only on the metadata log.
        pub snapshot_id: Option<SnapshotId>, 12.., tag 2;
        /// Aborted transactions among the records; `None` unless reading committed. Apache Kafka
        /// writes an empty list for partitions that are unknown or forbidden.
        pub aborted_transactions: Option<Vec<AbortedTransaction>>, 4..;
        /// The replica to read from instead (KIP-392).
        pub preferred_read_replica: Option<NodeId>, 11..;
        /// The records.
        pub records: Records, 0..;
    }

    /// The end of a leader epoch (`EpochEndOffset`).
    pub struct EpochEnd {
        /// The largest epoch both logs have.
        pub epoch: Option<LeaderEpoch>, 12..;
        /// Where it ends in the leader's log.
        pub end_offset: Option<Offset>, 12..;
    }

    /// Names a snapshot of the metadata log (`SnapshotId`).
    pub struct SnapshotId {
        /// The first offset not in it.
        pub end_offset: Option<Offset>, 0..;
        /// The epoch of the last record in it.
        pub epoch: Option<LeaderEpoch>, 0..;
    }

    /// A transaction whose records are to be left out (`AbortedTransaction`).
    pub struct AbortedTransaction {
        /// Its producer.
        pub producer_id: i64, 4..;
        /// Its first record.
        pub first_offset: Option<Offset>, 4..;
    }
}

message!(FetchRequest, Fetch, Request);
message!(FetchResponse, Fetch, Response);
tagged_struct!(ReplicaState, EpochEnd, SnapshotId);

impl FetchRequest {
    /// The fetching broker in every version; `None` for consumers.
    pub fn fetching_replica(&self) -> Option<NodeId> {
        self.replica_state.as_ref().map_or(self.replica, |state| state.replica)
    }
}
