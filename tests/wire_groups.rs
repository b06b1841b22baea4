//! The codecs of group APIs beside `kafka_protocol`'s: every version, written here, read and
//! written again by the crate, is the same; cut and changed bytes are refused quietly.

use bytes::Bytes;
use corelog::base::{LeaderEpoch, Uuid};
use corelog::protocol::consumer_group::*;
use corelog::protocol::group_admin::*;
use corelog::protocol::group_membership::*;
use corelog::protocol::group_offsets::*;
use corelog::protocol::{ErrorCode, Message, Str};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};

const ID: Option<Uuid> = Some(Uuid::METADATA_TOPIC);
const ERROR: ErrorCode = ErrorCode::RebalanceInProgress;

fn text(text: &'static str) -> Str {
    Str::from_static_str(text)
}

fn some(value: &'static str) -> Option<Str> {
    Some(text(value))
}

fn raw(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

/// Writes `message` in every version up to `version_max`, the last that the crate has.
fn agrees<M: Message + PartialEq + std::fmt::Debug, T: Encodable + Decodable>(
    message: &M,
    version_max: i16,
) {
    for message in [message, &M::default()] {
        for version in M::KEY.row().version_min..=version_max {
            let name = format!("{:?} {:?} v{version}", M::KEY, M::DIRECTION);
            let ours = message.encode(version);
            let mut rest = ours.clone();
            let theirs = T::decode(&mut rest, version).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(rest.is_empty(), "{name}: {} bytes left", rest.len());
            let mut again = bytes::BytesMut::new();
            theirs.encode(&mut again, version).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(again.freeze(), ours, "{name}");
        }
    }
    for version in M::KEY.row().version_min..=M::KEY.row().version_max {
        let name = format!("{:?} {:?} v{version}", M::KEY, M::DIRECTION);
        let ours = message.encode(version);
        let read = M::decode(version, ours.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(read.encode(version), ours, "{name}");
        for length in 0..ours.len() {
            assert!(M::decode(version, ours.slice(..length)).is_err(), "{name} cut at {length}");
        }
        for at in 0..ours.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = ours.to_vec();
                changed[at] = value;
                let _ = M::decode(version, changed.into());
            }
        }
    }
}

#[test]
fn membership_agrees_with_the_crate() {
    agrees::<_, theirs::FindCoordinatorRequest>(
        &FindCoordinatorRequest { key: text("g"), key_type: 1, keys: vec![text("a"), text("b")] },
        6,
    );
    agrees::<_, theirs::FindCoordinatorResponse>(
        &FindCoordinatorResponse {
            throttle_time_ms: 3,
            error: ERROR,
            error_message: some("why"),
            node: 7,
            host: text("h"),
            port: 9,
            coordinators: vec![FoundCoordinator {
                key: text("g"),
                node: 5,
                host: text("i"),
                port: 8,
                error: ERROR,
                error_message: some("so"),
            }],
        },
        6,
    );
    agrees::<_, theirs::JoinGroupRequest>(
        &JoinGroupRequest {
            group: text("g"),
            session_timeout_ms: 6000,
            rebalance_timeout_ms: 9000,
            member: text("m"),
            instance: some("i"),
            protocol_type: text("consumer"),
            protocols: vec![JoinGroupProtocol { name: text("range"), metadata: raw(b"abc") }],
            reason: some("because"),
        },
        9,
    );
    agrees::<_, theirs::JoinGroupResponse>(
        &JoinGroupResponse {
            throttle_time_ms: 3,
            error: ERROR,
            generation: 4,
            protocol_type: some("consumer"),
            protocol: some("range"),
            leader: text("l"),
            skip_assignment: true,
            member: text("m"),
            members: vec![JoinGroupMember {
                member: text("m"),
                instance: some("i"),
                metadata: raw(b"abc"),
            }],
        },
        9,
    );
    agrees::<_, theirs::SyncGroupRequest>(
        &SyncGroupRequest {
            group: text("g"),
            generation: 4,
            member: text("m"),
            instance: some("i"),
            protocol_type: some("consumer"),
            protocol: some("range"),
            assignments: vec![SyncGroupAssignment { member: text("m"), assignment: raw(b"abc") }],
        },
        5,
    );
    agrees::<_, theirs::SyncGroupResponse>(
        &SyncGroupResponse {
            throttle_time_ms: 3,
            error: ERROR,
            protocol_type: some("consumer"),
            protocol: some("range"),
            assignment: raw(b"abc"),
        },
        5,
    );
    agrees::<_, theirs::HeartbeatRequest>(
        &HeartbeatRequest {
            group: text("g"),
            generation: 4,
            member: text("m"),
            instance: some("i"),
        },
        4,
    );
    agrees::<_, theirs::HeartbeatResponse>(
        &HeartbeatResponse { throttle_time_ms: 3, error: ERROR },
        4,
    );
    let (member, instance) = (text("m"), some("i"));
    agrees::<_, theirs::LeaveGroupRequest>(
        &LeaveGroupRequest {
            group: text("g"),
            member: member.clone(),
            members: vec![LeavingMember {
                member: member.clone(),
                instance: instance.clone(),
                reason: some("bye"),
            }],
        },
        5,
    );
    agrees::<_, theirs::LeaveGroupResponse>(
        &LeaveGroupResponse {
            throttle_time_ms: 3,
            error: ERROR,
            members: vec![LeftMember { member, instance, error: ERROR }],
        },
        5,
    );
}

#[test]
fn offsets_agree_with_the_crate() {
    let leader_epoch = Some(LeaderEpoch::new(3));
    agrees::<_, theirs::OffsetCommitRequest>(
        &OffsetCommitRequest {
            group: text("g"),
            generation: 4,
            member: text("m"),
            instance: some("i"),
            retention_ms: 5,
            topics: vec![OffsetCommitTopic {
                name: text("t"),
                topic_id: ID,
                partitions: vec![OffsetCommitPartition {
                    index: 2,
                    offset: 99,
                    leader_epoch,
                    metadata: some("note"),
                }],
            }],
        },
        9,
    );
    let partitions = vec![PartitionError { index: 2, error: ERROR }];
    agrees::<_, theirs::OffsetCommitResponse>(
        &OffsetCommitResponse {
            throttle_time_ms: 3,
            topics: vec![OffsetCommitTopicResponse {
                name: text("t"),
                topic_id: ID,
                partitions: partitions.clone(),
            }],
        },
        10,
    );
    let topics = vec![OffsetFetchTopic { name: text("t"), topic_id: ID, partitions: vec![1, 2] }];
    agrees::<_, theirs::OffsetFetchRequest>(
        &OffsetFetchRequest {
            group: text("g"),
            topics: Some(topics.clone()),
            groups: vec![OffsetFetchGroup {
                group: text("h"),
                member: some("m"),
                member_epoch: 4,
                topics: Some(topics),
            }],
            require_stable: true,
        },
        9,
    );
    let topics = vec![OffsetFetchTopicResponse {
        name: text("t"),
        topic_id: ID,
        partitions: vec![OffsetFetchPartitionResponse {
            index: 2,
            offset: 99,
            leader_epoch,
            metadata: some("note"),
            error: ERROR,
        }],
    }];
    agrees::<_, theirs::OffsetFetchResponse>(
        &OffsetFetchResponse {
            throttle_time_ms: 3,
            topics: topics.clone(),
            error: ERROR,
            groups: vec![OffsetFetchGroupResponse { group: text("g"), topics, error: ERROR }],
        },
        10,
    );
    agrees::<_, theirs::OffsetDeleteResponse>(
        &OffsetDeleteResponse {
            error: ERROR,
            throttle_time_ms: 3,
            topics: vec![OffsetDeleteTopicResponse { name: text("t"), partitions }],
        },
        0,
    );
}

#[test]
fn administration_agrees_with_the_crate() {
    agrees::<_, theirs::ListGroupsRequest>(
        &ListGroupsRequest { states: vec![text("Stable")], types: vec![text("classic")] },
        5,
    );
    agrees::<_, theirs::ListGroupsResponse>(
        &ListGroupsResponse {
            throttle_time_ms: 3,
            error: ERROR,
            groups: vec![ListedGroup {
                group: text("g"),
                protocol_type: text("consumer"),
                state: text("Stable"),
                kind: text("classic"),
            }],
        },
        5,
    );
    agrees::<_, theirs::DescribeGroupsRequest>(
        &DescribeGroupsRequest { groups: vec![text("g")], include_authorized_operations: true },
        6,
    );
    agrees::<_, theirs::DescribeGroupsResponse>(
        &DescribeGroupsResponse {
            throttle_time_ms: 3,
            groups: vec![DescribedGroup {
                error: ERROR,
                error_message: some("why"),
                group: text("g"),
                state: text("Stable"),
                protocol_type: text("consumer"),
                protocol: text("range"),
                members: vec![DescribedGroupMember {
                    member: text("m"),
                    instance: some("i"),
                    client_id: text("c"),
                    client_host: text("/h"),
                    metadata: raw(b"abc"),
                    assignment: raw(b"def"),
                }],
                authorized_operations: 9,
            }],
        },
        6,
    );
    agrees::<_, theirs::DeleteGroupsRequest>(&DeleteGroupsRequest { groups: vec![text("g")] }, 2);
    agrees::<_, theirs::DeleteGroupsResponse>(
        &DeleteGroupsResponse {
            throttle_time_ms: 3,
            results: vec![DeletedGroup { group: text("g"), error: ERROR }],
        },
        2,
    );
}

#[test]
fn consumer_groups_agree_with_the_crate() {
    let owned = vec![OwnedTopic { topic_id: ID, partitions: vec![1, 2] }];
    agrees::<_, theirs::ConsumerGroupHeartbeatRequest>(
        &ConsumerGroupHeartbeatRequest {
            group: text("g"),
            member: text("m"),
            member_epoch: 4,
            instance: some("i"),
            rack: some("r"),
            rebalance_timeout_ms: 9000,
            topics: Some(vec![text("t")]),
            regex: some("t.*"),
            assignor: some("uniform"),
            owned: Some(owned.clone()),
        },
        1,
    );
    agrees::<_, theirs::ConsumerGroupHeartbeatResponse>(
        &ConsumerGroupHeartbeatResponse {
            throttle_time_ms: 3,
            error: ERROR,
            error_message: some("why"),
            member: some("m"),
            member_epoch: 4,
            heartbeat_interval_ms: 5000,
            assignment: Some(HeartbeatAssignment { topics: owned }),
        },
        1,
    );
    agrees::<_, theirs::ConsumerGroupDescribeRequest>(
        &ConsumerGroupDescribeRequest {
            groups: vec![text("g")],
            include_authorized_operations: true,
        },
        1,
    );
    let assignment = ConsumerAssignment {
        topics: vec![ConsumerAssignmentTopic {
            topic_id: ID,
            name: text("t"),
            partitions: vec![1, 2],
        }],
    };
    agrees::<_, theirs::ConsumerGroupDescribeResponse>(
        &ConsumerGroupDescribeResponse {
            throttle_time_ms: 3,
            groups: vec![DescribedConsumerGroup {
                error: ERROR,
                error_message: some("why"),
                group: text("g"),
                state: text("Stable"),
                group_epoch: 5,
                assignment_epoch: 4,
                assignor: text("uniform"),
                members: vec![DescribedConsumer {
                    member: text("m"),
                    instance: some("i"),
                    rack: some("r"),
                    member_epoch: 4,
                    client_id: text("c"),
                    client_host: text("/h"),
                    topics: vec![text("t")],
                    regex: some("t.*"),
                    assignment: assignment.clone(),
                    target: assignment,
                    kind: 1,
                }],
                authorized_operations: 9,
            }],
        },
        1,
    );
}
