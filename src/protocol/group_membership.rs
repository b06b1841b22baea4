//! FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup: being a member of a classic group.

use bytes::Bytes;

use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::wire::Str;

/// Asks for the coordinator of groups.
pub const KEY_TYPE_GROUP: i8 = 0;
/// Asks for the coordinator of transactions.
pub const KEY_TYPE_TRANSACTION: i8 = 1;
/// Asks for the coordinator of the state of share groups; version 6 on.
pub const KEY_TYPE_SHARE: i8 = 2;

wire_struct! {
    /// Asks which brokers coordinate (`FindCoordinatorRequest`).
    pub struct FindCoordinatorRequest {
        /// The group or transactional id.
        pub key: Str, 0..=3;
        /// What the keys are: one of this module's constants.
        pub key_type: i8, 1..;
        /// The groups or transactional ids (KIP-699).
        pub keys: Vec<Str>, 4..;
    }

    /// Which brokers coordinate (`FindCoordinatorResponse`).
    pub struct FindCoordinatorResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// Why there is no answer, or `ErrorCode::None`.
        pub error: ErrorCode, 0..=3;
        /// The error in words.
        pub error_message: Option<Str>, 1..=3, nullable 1..;
        /// The broker, or -1.
        pub node: i32, 0..=3;
        /// Its host.
        pub host: Str, 0..=3;
        /// Its port, or -1.
        pub port: i32, 0..=3;
        /// The answers by key.
        pub coordinators: Vec<FoundCoordinator>, 4..;
    }

    /// Which broker coordinates one key (`Coordinator`).
    pub struct FoundCoordinator {
        /// The group or transactional id.
        pub key: Str, 4..;
        /// The broker, or -1.
        pub node: i32, 4..;
        /// Its host.
        pub host: Str, 4..;
        /// Its port, or -1.
        pub port: i32, 4..;
        /// Why there is no answer, or `ErrorCode::None`.
        pub error: ErrorCode, 4..;
        /// The error in words.
        pub error_message: Option<Str>, 4.., nullable 4..;
    }

    /// Joins a group, or comes back for a rebalance (`JoinGroupRequest`).
    pub struct JoinGroupRequest {
        /// The group.
        pub group: Str, 0..;
        /// How long the member may be silent, in milliseconds.
        pub session_timeout_ms: i32, 0..;
        /// How long a rebalance waits for the member, in milliseconds.
        pub rebalance_timeout_ms: i32, 1.., default -1;
        /// The member id; "" for a member that has none yet.
        pub member: Str, 0..;
        /// The instance id of a static member (KIP-345).
        pub instance: Option<Str>, 5.., nullable 5..;
        /// The kind of group.
        pub protocol_type: Str, 0..;
        /// The protocols the member knows, the best first.
        pub protocols: Vec<JoinGroupProtocol>, 0..;
        /// Why the member joins (KIP-800).
        pub reason: Option<Str>, 8.., nullable 8..;
    }

    /// A protocol a member knows (`JoinGroupRequestProtocol`).
    pub struct JoinGroupProtocol {
        /// Its name.
        pub name: Str, 0..;
        /// What the member says about itself under it.
        pub metadata: Bytes, 0..;
    }

    /// The member is in, or not (`JoinGroupResponse`).
    pub struct JoinGroupResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 2..;
        /// Why the member is not in, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The generation, or -1.
        pub generation: i32, 0.., default -1;
        /// The kind of group.
        pub protocol_type: Option<Str>, 7.., nullable 7..;
        /// The chosen protocol. Written empty before version 7.
        pub protocol: Option<Str>, 0.., nullable 7..;
        /// The leader's member id.
        pub leader: Str, 0..;
        /// Whether the leader need not assign (KIP-814).
        pub skip_assignment: bool, 9..;
        /// The member id.
        pub member: Str, 0..;
        /// For the leader: the members.
        pub members: Vec<JoinGroupMember>, 0..;
    }

    /// A member, as the leader sees it (`JoinGroupResponseMember`).
    pub struct JoinGroupMember {
        /// The member id.
        pub member: Str, 0..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 5.., nullable 5..;
        /// What it said under the chosen protocol.
        pub metadata: Bytes, 0..;
    }

    /// Asks for the member's assignment; the leader brings everybody's (`SyncGroupRequest`).
    pub struct SyncGroupRequest {
        /// The group.
        pub group: Str, 0..;
        /// The generation the member joined.
        pub generation: i32, 0..;
        /// The member id.
        pub member: Str, 0..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 3.., nullable 3..;
        /// The kind of group the member believes in.
        pub protocol_type: Option<Str>, 5.., nullable 5..;
        /// The protocol the member believes in.
        pub protocol: Option<Str>, 5.., nullable 5..;
        /// From the leader: the assignments.
        pub assignments: Vec<SyncGroupAssignment>, 0..;
    }

    /// A member's assignment (`SyncGroupRequestAssignment`).
    pub struct SyncGroupAssignment {
        /// The member id.
        pub member: Str, 0..;
        /// What it is assigned.
        pub assignment: Bytes, 0..;
    }

    /// The member's assignment (`SyncGroupResponse`).
    pub struct SyncGroupResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// Why there is none, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The kind of group.
        pub protocol_type: Option<Str>, 5.., nullable 5..;
        /// The chosen protocol.
        pub protocol: Option<Str>, 5.., nullable 5..;
        /// What the member is assigned.
        pub assignment: Bytes, 0..;
    }

    /// The member is alive (`HeartbeatRequest`).
    pub struct HeartbeatRequest {
        /// The group.
        pub group: Str, 0..;
        /// The generation the member is in.
        pub generation: i32, 0..;
        /// The member id.
        pub member: Str, 0..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 3.., nullable 3..;
    }

    /// What the coordinator thinks of the member (`HeartbeatResponse`).
    pub struct HeartbeatResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// What the member has to do, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
    }

    /// Members leave (`LeaveGroupRequest`).
    pub struct LeaveGroupRequest {
        /// The group.
        pub group: Str, 0..;
        /// The member id.
        pub member: Str, 0..=2;
        /// Who leaves.
        pub members: Vec<LeavingMember>, 3..;
    }

    /// A member that leaves (`MemberIdentity`).
    pub struct LeavingMember {
        /// The member id, or "".
        pub member: Str, 3..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 3.., nullable 3..;
        /// Why it leaves (KIP-800).
        pub reason: Option<Str>, 5.., nullable 5..;
    }

    /// Who left (`LeaveGroupResponse`).
    pub struct LeaveGroupResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 1..;
        /// Why nobody left, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The answers by member.
        pub members: Vec<LeftMember>, 3..;
    }

    /// A member that left, or not (`MemberResponse`).
    pub struct LeftMember {
        /// The member id, or "".
        pub member: Str, 3..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 3.., nullable 3..;
        /// Why it did not, or `ErrorCode::None`.
        pub error: ErrorCode, 3..;
    }
}

message!(FindCoordinatorRequest, FindCoordinator, Request);
message!(FindCoordinatorResponse, FindCoordinator, Response);
message!(JoinGroupRequest, JoinGroup, Request);
message!(JoinGroupResponse, JoinGroup, Response);
message!(SyncGroupRequest, SyncGroup, Request);
message!(SyncGroupResponse, SyncGroup, Response);
message!(HeartbeatRequest, Heartbeat, Request);
message!(HeartbeatResponse, Heartbeat, Response);
message!(LeaveGroupRequest, LeaveGroup, Request);
message!(LeaveGroupResponse, LeaveGroup, Response);
