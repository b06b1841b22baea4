//! Where partitions begin and end, for the commands.

use std::collections::BTreeMap;

use crate::base::NodeId;
use crate::protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::protocol::{ErrorCode, Str};

use super::client::{ClientError, Cluster, Outcome};

/// The offsets of a topic's partitions, asked of their leaders; `timestamp` is a time or one of the
/// special ones.
pub async fn list_offsets(
    cluster: &Cluster,
    topic: &str,
    leaders: &BTreeMap<i32, NodeId>,
    timestamp: i64,
) -> Outcome<BTreeMap<i32, u64>> {
    let mut by_node: BTreeMap<NodeId, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (index, node) in leaders {
        let partition =
            ListOffsetsPartition { index: *index, timestamp, ..ListOffsetsPartition::default() };
        by_node.entry(*node).or_default().push(partition);
    }
    let mut found = BTreeMap::new();
    for (node, partitions) in by_node {
        let name = Str::from_string(topic.to_owned());
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic { name, partitions }],
            timeout_ms: 30_000,
            ..ListOffsetsRequest::default()
        };
        let answer: ListOffsetsResponse = cluster.broker(node).await?.call(&request).await?;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error != ErrorCode::None {
                let what = format!("partition {topic}-{}", partition.index);
                return Err(ClientError::refused(what, partition.error, None));
            }
            if let Some(offset) = partition.offset {
                found.insert(partition.index, offset.get());
            }
        }
    }
    Ok(found)
}
