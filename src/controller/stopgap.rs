//! (temporary)
use std::ops::Range;
use kafka_protocol::messages::*;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use crate::base::{NodeId, Uuid};
use crate::config::BrokerConfig;
use crate::metadata::{Image, Record};
use super::*;
/// t
pub struct Decision<R> { /// r
 pub records: Vec<Record>, /// r
 pub response: R }
/// t
pub struct Context<'a> { /// i
 pub image: &'a Image, /// i
 pub config: &'a BrokerConfig, /// i
 pub node: NodeId, /// i
 pub directory: Uuid, /// i
 pub draw_id: &'a mut dyn FnMut() -> Uuid }
/// t
pub fn create_topics(ctx: &mut Context<'_>, request: CreateTopicsRequest, _v: i16) -> Decision<CreateTopicsResponse> {
    let mut records = vec![]; let mut response = CreateTopicsResponse::default();
    for t in request.topics {
        let id = (ctx.draw_id)();
        let settings = t.configs.iter().map(|c| (c.name.to_string(), c.value.clone().unwrap_or_default().to_string())).collect();
        let n = if t.num_partitions < 0 { ctx.config.partition_count as i32 } else { t.num_partitions };
        let new = NewTopic { id, name: &t.name, partition_count: n, home: Home { node: ctx.node, directory: ctx.directory }, settings: &settings };
        let code = match create_topic_records(ctx.image, &new) { Ok(r) => { records.extend(r); 0 } Err(_) => 36 };
        response.topics.push(CreatableTopicResult::default().with_name(t.name.clone()).with_error_code(code).with_topic_id(uuid::Uuid::from_bytes(id.to_wire())).with_num_partitions(n).with_replication_factor(1));
    }
    Decision { records, response }
}
/// t
pub fn auto_create(ctx: &mut Context<'_>, names: &[String]) -> Vec<Record> {
    let mut records = vec![];
    for name in names {
        let id = (ctx.draw_id)();
        let new = NewTopic { id, name, partition_count: ctx.config.partition_count as i32, home: Home { node: ctx.node, directory: ctx.directory }, settings: &Default::default() };
        if let Ok(r) = create_topic_records(ctx.image, &new) { records.extend(r) }
    }
    records
}
/// t
pub fn delete_topics(ctx: &mut Context<'_>, r: DeleteTopicsRequest, _v: i16) -> Decision<DeleteTopicsResponse> {
    let mut records = vec![];
    let names: Vec<String> = r.topic_names.iter().map(|n| n.to_string()).chain(r.topics.iter().filter_map(|t| t.name.as_ref().map(|n| n.to_string()))).collect();
    for n in names { if let Some(t) = ctx.image.topic_named(&n) { if let Ok(r) = delete_topic_records(ctx.image, t.id) { records.extend(r) } } }
    Decision { records, response: Default::default() } }
/// t
pub fn create_partitions(_: &mut Context<'_>, _r: CreatePartitionsRequest) -> Decision<CreatePartitionsResponse> { Decision { records: vec![], response: Default::default() } }
/// t
pub fn alter_configs(_: &mut Context<'_>, _r: AlterConfigsRequest) -> Decision<AlterConfigsResponse> { Decision { records: vec![], response: Default::default() } }
/// t
pub fn incremental_alter_configs(_: &mut Context<'_>, _r: IncrementalAlterConfigsRequest) -> Decision<IncrementalAlterConfigsResponse> { Decision { records: vec![], response: Default::default() } }
/// t
pub fn elect_leaders(_: &mut Context<'_>, _r: ElectLeadersRequest) -> Decision<ElectLeadersResponse> { Decision { records: vec![], response: Default::default() } }
/// t
pub fn list_partition_reassignments(_: &mut Context<'_>, _r: ListPartitionReassignmentsRequest) -> Decision<ListPartitionReassignmentsResponse> { Decision { records: vec![], response: Default::default() } }
/// t
pub fn allocate_producer_ids(ctx: &mut Context<'_>) -> (Vec<Record>, Range<i64>) {
    match allocate_producer_ids_records(ctx.image, ctx.node) { Some((b, r)) => (r, b.first..b.first + 1000), None => (vec![], 0..0) }
}
