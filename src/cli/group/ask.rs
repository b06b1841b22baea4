//! What is asked about one group: its members, its committed offsets, the ends of its partitions.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_describe_response::{
    DescribedGroup as ConsumerGroup, Member as ConsumerMember,
};
use kafka_protocol::messages::describe_groups_response::{
    DescribedGroup as ClassicGroup, DescribedGroupMember,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, OffsetFetchRequest,
};

use crate::group::classic::subscription::decode_assignment;
use crate::protocol::ErrorCode;
use crate::protocol::list_offsets::LATEST_TIMESTAMP;

use super::super::client::{ClientError, Cluster, Connection, Creation, Outcome};
use super::super::offsets::list_offsets;
use super::super::target::Target;
use super::{PAUSE, TRIES, code, group_id, is_unready, refusal};

/// The newest versions that are asked.
const DESCRIBE_VERSION_MAX: i16 = 6;
const CONSUMER_DESCRIBE_VERSION_MAX: i16 = 1;
const OFFSET_FETCH_VERSION_MAX: i16 = 9;

/// Topic and partition.
pub type Place = (String, i32);

/// A group.
pub struct Group {
    /// Its name.
    pub id: String,
    /// Kafka's word for its state: Stable, Empty, Dead, ...
    pub state: String,
    /// Kafka's word for its type, as ListGroups tells it: classic or consumer.
    pub kind: &'static str,
    /// The assignor the members agreed on, or the broker uses.
    pub assignor: String,
    /// Epoch of a consumer group; classic ones do not tell their generation.
    pub epoch: Option<i32>,
    /// Address of its coordinator.
    pub coordinator: String,
    /// Its members, in the broker's order.
    pub members: Vec<Member>,
}

/// A member of a group.
pub struct Member {
    /// The id the coordinator knows it by.
    pub id: String,
    /// Its name, when it is a static member.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// Its epoch, consumer protocol.
    pub epoch: Option<i32>,
    /// What it consumes; nothing when its assignment is not one of a consumer.
    pub owned: Vec<Place>,
}

/// Describes a group. One that does not exist is `Dead`, as Kafka has it.
///
/// A coordinator that is still loading its groups is asked again for a while.
pub async fn group(cluster: &Cluster, connection: &Connection, id: &str) -> Outcome<Group> {
    let mut tries = 0;
    loop {
        match group_once(connection, id).await {
            Err(ClientError::Refused { code, .. }) if is_unready(code) && tries < TRIES => {
                tries += 1;
                cluster.runtime().sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn group_once(connection: &Connection, id: &str) -> Outcome<Group> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(id)]);
    match connection.call_group(&request, CONSUMER_DESCRIBE_VERSION_MAX).await {
        Ok(answer) => {
            let found = answer.groups.into_iter().next();
            match found.map(|group| (code(group.error_code), group)) {
                Some((ErrorCode::None, group)) => return Ok(consumer_group(connection, group)),
                Some((ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion, _)) | None => {}
                Some((code, group)) => {
                    let words = group.error_message.as_deref();
                    return Err(ClientError::refused(format!("group {id}"), code, words));
                }
            }
        }
        // An older broker has classic groups only.
        Err(ClientError::Unserved(_)) => {}
        Err(error) => return Err(error),
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(id)]);
    let answer = connection.call_group(&request, DESCRIBE_VERSION_MAX).await?;
    let Some(group) = answer.groups.into_iter().next() else {
        return Err(ClientError::refused(format!("group {id}"), ErrorCode::GroupIdNotFound, None));
    };
    if code(group.error_code) != ErrorCode::GroupIdNotFound {
        refusal(&format!("group {id}"), group.error_code, group.error_message.as_deref())?;
    }
    Ok(classic_group(connection, group))
}

fn consumer_group(connection: &Connection, group: ConsumerGroup) -> Group {
    let member = |member: ConsumerMember| Member {
        id: member.member_id.to_string(),
        instance: member.instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: Some(member.member_epoch),
        owned: member
            .assignment
            .topic_partitions
            .into_iter()
            .flat_map(|topic| places(&topic.topic_name, topic.partitions))
            .collect(),
    };
    Group {
        id: group.group_id.0.to_string(),
        state: group.group_state.to_string(),
        kind: "consumer",
        assignor: group.assignor_name.to_string(),
        epoch: Some(group.group_epoch),
        coordinator: connection.address().to_owned(),
        members: group.members.into_iter().map(member).collect(),
    }
}

fn classic_group(connection: &Connection, group: ClassicGroup) -> Group {
    let consumers = group.protocol_type.as_str() == "consumer";
    let member = |member: DescribedGroupMember| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: None,
        owned: if consumers { assigned(member.member_assignment) } else { Vec::new() },
    };
    Group {
        id: group.group_id.0.to_string(),
        state: group.group_state.to_string(),
        kind: "classic",
        assignor: group.protocol_data.to_string(),
        epoch: None,
        coordinator: connection.address().to_owned(),
        members: group.members.into_iter().map(member).collect(),
    }
}

fn places(topic: &str, partitions: Vec<i32>) -> Vec<Place> {
    partitions.into_iter().map(|partition| (topic.to_owned(), partition)).collect()
}

/// What an assignment of the classic protocol says; nothing when it says something else.
fn assigned(bytes: Bytes) -> Vec<Place> {
    let Ok(assigned) = decode_assignment(bytes) else { return Vec::new() };
    let topics = assigned.topics.into_iter();
    topics.flat_map(|(topic, partitions)| places(&topic, partitions)).collect()
}

/// Every offset the group has committed.
pub async fn committed(connection: &Connection, id: &str) -> Outcome<BTreeMap<Place, i64>> {
    let group = OffsetFetchRequestGroup::default().with_group_id(group_id(id)).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    let answer = connection.call_group(&request, OFFSET_FETCH_VERSION_MAX).await?;
    let mut found = BTreeMap::new();
    for group in &answer.groups {
        refusal(&format!("group {id}"), group.error_code, None)?;
        for topic in &group.topics {
            for row in &topic.partitions {
                if row.committed_offset >= 0 {
                    let place = (topic.name.0.to_string(), row.partition_index);
                    found.insert(place, row.committed_offset);
                }
            }
        }
    }
    Ok(found)
}

/// The ends of all partitions of these topics; nothing for topics that are gone.
pub async fn ends<'a>(
    cluster: &Cluster,
    topics: impl Iterator<Item = &'a String>,
) -> Outcome<BTreeMap<Place, i64>> {
    let mut found = BTreeMap::new();
    for topic in topics {
        let target = match Target::find(cluster, topic, Creation::Forbidden).await {
            Ok(target) => target,
            Err(ClientError::Refused { code: ErrorCode::UnknownTopicOrPartition, .. }) => continue,
            Err(error) => return Err(error),
        };
        found.extend(offsets_at(cluster, &target, LATEST_TIMESTAMP).await?);
    }
    Ok(found)
}

/// The offsets of a topic's partitions at `timestamp`, which may be a special one.
pub async fn offsets_at(
    cluster: &Cluster,
    target: &Target,
    timestamp: i64,
) -> Outcome<BTreeMap<Place, i64>> {
    let found = list_offsets(cluster, &target.name, &target.leaders, timestamp).await?;
    let row = |(partition, offset): (i32, u64)| {
        ((target.name.clone(), partition), i64::try_from(offset).unwrap_or(i64::MAX))
    };
    Ok(found.into_iter().map(row).collect())
}
