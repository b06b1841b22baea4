//! ListGroups, DescribeGroups, DeleteGroups and ConsumerGroupDescribe: looking after groups.

use bytes::Bytes;

use crate::base::Uuid;
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::metadata::OPERATIONS_UNKNOWN;
use crate::protocol::wire::Str;

wire_struct! {
    /// Asks for the groups of this broker (`ListGroupsRequest`).
    pub struct ListGroupsRequest {
        /// Only groups in these states; none: all (KIP-518).
        pub states: Vec<Str>, 4..;
        /// Only groups of these types; none: all (KIP-848).
        pub types: Vec<Str>, 5..;
    }

    /// The groups (`ListGroupsResponse`).
    pub struct ListGroupsResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// Why some are missing, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The groups.
        pub groups: Vec<ListedGroup>, 0..;
    }

    /// A group in a list (`ListedGroup`).
    pub struct ListedGroup {
        /// The group.
        pub group: Str, 0..;
        /// The kind of group, or "".
        pub protocol_type: Str, 0..;
        /// Its state.
        pub state: Str, 4..;
        /// Its type.
        pub kind: Str, 5..;
    }

    /// Asks what classic groups are like (`DescribeGroupsRequest`).
    pub struct DescribeGroupsRequest {
        /// The groups.
        pub groups: Vec<Str>, 0..;
        /// Whether to tell what the client may do with them (KIP-430).
        pub include_authorized_operations: bool, 3..;
    }

    /// What classic groups are like (`DescribeGroupsResponse`).
    pub struct DescribeGroupsResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// The groups.
        pub groups: Vec<DescribedGroup>, 0..;
    }

    /// A classic group (`DescribedGroup`).
    pub struct DescribedGroup {
        /// Why it can not be told, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The error in words (KIP-1043).
        pub error_message: Option<Str>, 6.., nullable 6..;
        /// The group.
        pub group: Str, 0..;
        /// Its state.
        pub state: Str, 0..;
        /// The kind of group, or "".
        pub protocol_type: Str, 0..;
        /// The chosen protocol, or "".
        pub protocol: Str, 0..;
        /// Its members.
        pub members: Vec<DescribedGroupMember>, 0..;
        /// What the client may do with it, as bits, or [`OPERATIONS_UNKNOWN`].
        pub authorized_operations: i32, 3.., default OPERATIONS_UNKNOWN;
    }

    /// A member of a classic group (`DescribedGroupMember`).
    pub struct DescribedGroupMember {
        /// The member id.
        pub member: Str, 0..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 4.., nullable 4..;
        /// The client id it joined with.
        pub client_id: Str, 0..;
        /// The address it joined from.
        pub client_host: Str, 0..;
        /// What it said under the chosen protocol.
        pub metadata: Bytes, 0..;
        /// What it is assigned.
        pub assignment: Bytes, 0..;
    }

    /// Forgets groups (`DeleteGroupsRequest`).
    pub struct DeleteGroupsRequest {
        /// The groups.
        pub groups: Vec<Str>, 0..;
    }

    /// Which groups are gone (`DeleteGroupsResponse`).
    pub struct DeleteGroupsResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 0..;
        /// The outcomes by group.
        pub results: Vec<DeletedGroup>, 0..;
    }

    /// A group's outcome (`DeletableGroupResult`).
    pub struct DeletedGroup {
        /// The group.
        pub group: Str, 0..;
        /// Why it is not gone, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
    }

    /// Asks what consumer groups are like (`ConsumerGroupDescribeRequest`).
    pub struct ConsumerGroupDescribeRequest {
        /// The groups.
        pub groups: Vec<Str>, 0..;
        /// Whether to tell what the client may do with them.
        pub include_authorized_operations: bool, 0..;
    }

    /// What consumer groups are like (`ConsumerGroupDescribeResponse`).
    pub struct ConsumerGroupDescribeResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 0..;
        /// The groups.
        pub groups: Vec<DescribedConsumerGroup>, 0..;
    }

    /// A consumer group (`DescribedGroup`).
    pub struct DescribedConsumerGroup {
        /// Why it can not be told, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The error in words.
        pub error_message: Option<Str>, 0.., nullable 0..;
        /// The group.
        pub group: Str, 0..;
        /// Its state.
        pub state: Str, 0..;
        /// Its epoch.
        pub group_epoch: i32, 0..;
        /// The epoch of its target assignment.
        pub assignment_epoch: i32, 0..;
        /// Its assignor.
        pub assignor: Str, 0..;
        /// Its members.
        pub members: Vec<DescribedConsumer>, 0..;
        /// What the client may do with it, as bits, or [`OPERATIONS_UNKNOWN`].
        pub authorized_operations: i32, 0.., default OPERATIONS_UNKNOWN;
    }

    /// A member of a consumer group (`Member`).
    pub struct DescribedConsumer {
        /// The member id.
        pub member: Str, 0..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 0.., nullable 0..;
        /// Its rack.
        pub rack: Option<Str>, 0.., nullable 0..;
        /// Its epoch.
        pub member_epoch: i32, 0..;
        /// Its client id.
        pub client_id: Str, 0..;
        /// Its address.
        pub client_host: Str, 0..;
        /// The topics it subscribed to by name.
        pub topics: Vec<Str>, 0..;
        /// The pattern it subscribed with.
        pub regex: Option<Str>, 0.., nullable 0..;
        /// What it has.
        pub assignment: ConsumerAssignment, 0..;
        /// What it is to have.
        pub target: ConsumerAssignment, 0..;
        /// -1 unknown, 0 classic, 1 consumer (KIP-1099).
        pub kind: i8, 1.., default -1;
    }

    /// Partitions of topics (`Assignment`).
    pub struct ConsumerAssignment {
        /// The partitions by topic.
        pub topics: Vec<ConsumerAssignmentTopic>, 0..;
    }

    /// Partitions of a topic (`TopicPartitions`).
    pub struct ConsumerAssignmentTopic {
        /// The topic's id.
        pub topic_id: Option<Uuid>, 0..;
        /// The topic's name.
        pub name: Str, 0..;
        /// The partitions' numbers.
        pub partitions: Vec<i32>, 0..;
    }
}

message!(ListGroupsRequest, ListGroups, Request);
message!(ListGroupsResponse, ListGroups, Response);
message!(DescribeGroupsRequest, DescribeGroups, Request);
message!(DescribeGroupsResponse, DescribeGroups, Response);
message!(DeleteGroupsRequest, DeleteGroups, Request);
message!(DeleteGroupsResponse, DeleteGroups, Response);
message!(ConsumerGroupDescribeRequest, ConsumerGroupDescribe, Request);
message!(ConsumerGroupDescribeResponse, ConsumerGroupDescribe, Response);
