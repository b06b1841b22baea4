//! ConsumerGroupHeartbeat: being a member of a consumer group (KIP-848).

use crate::base::Uuid;
use crate::protocol::error::ErrorCode;
use crate::protocol::message::{Wire, message, wire_field, wire_struct};
use crate::protocol::wire::{Malformed, Reader, Str, Version, Writer};

wire_struct! {
    /// The member is alive; what changed about it (`ConsumerGroupHeartbeatRequest`).
    pub struct ConsumerGroupHeartbeatRequest {
        /// The group.
        pub group: Str, 0..;
        /// The member id; "" for one that gets it from the broker (version 0).
        pub member: Str, 0..;
        /// The member's epoch: 0 joins, -1 leaves, -2 leaves and will be back.
        pub member_epoch: i32, 0..;
        /// The instance id of a static member.
        pub instance: Option<Str>, 0.., nullable 0..;
        /// The member's rack.
        pub rack: Option<Str>, 0.., nullable 0..;
        /// How long the member takes to give partitions up, in milliseconds, or -1.
        pub rebalance_timeout_ms: i32, 0.., default -1;
        /// The topics it subscribes to by name; `None`: as before.
        pub topics: Option<Vec<Str>>, 0.., nullable 0..;
        /// The pattern it subscribes with; `None`: as before.
        pub regex: Option<Str>, 1.., nullable 1..;
        /// The assignor it wants; `None`: as before.
        pub assignor: Option<Str>, 0.., nullable 0..;
        /// The partitions it has; `None`: as before.
        pub owned: Option<Vec<OwnedTopic>>, 0.., nullable 0..;
    }

    /// Partitions of a topic (`TopicPartitions`).
    pub struct OwnedTopic {
        /// The topic's id.
        pub topic_id: Option<Uuid>, 0..;
        /// The partitions' numbers.
        pub partitions: Vec<i32>, 0..;
    }

    /// What the member is to do (`ConsumerGroupHeartbeatResponse`).
    pub struct ConsumerGroupHeartbeatResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 0..;
        /// What is wrong, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The error in words.
        pub error_message: Option<Str>, 0.., nullable 0..;
        /// The member id.
        pub member: Option<Str>, 0.., nullable 0..;
        /// The member's epoch.
        pub member_epoch: i32, 0..;
        /// When to send the next heartbeat, in milliseconds.
        pub heartbeat_interval_ms: i32, 0..;
        /// What the member is assigned; `None`: as before.
        pub assignment: Option<HeartbeatAssignment>, 0..;
    }

    /// What a member is assigned (`Assignment`).
    pub struct HeartbeatAssignment {
        /// The partitions by topic.
        pub topics: Vec<OwnedTopic>, 0..;
    }
}

message!(ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeat, Request);
message!(ConsumerGroupHeartbeatResponse, ConsumerGroupHeartbeat, Response);

/// A structure that may be null: a byte tells.
impl Wire for Option<HeartbeatAssignment> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed> {
        match reader.i8()? {
            -1 => Ok(None),
            _ => HeartbeatAssignment::read(reader, version).map(Some),
        }
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        match self {
            None => writer.i8(-1),
            Some(value) => {
                writer.i8(1);
                value.write(writer, version);
            }
        }
    }

    fn size_min(_version: Version) -> usize {
        1
    }
}
