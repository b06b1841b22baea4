//! Requests that change metadata: decoded here, decided by the controller on core 0.

use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    ElectLeadersRequest, IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest,
};

use crate::base::ShardId;
use crate::handlers::{Response, answer_cold};
use crate::mesh::{Answer, Ask, ControlAnswer, ControlAsk, Shard};
use crate::protocol::frame::RequestHeader;
use crate::protocol::{Malformed, cold};

/// Asks the controller. `None` when no answer can come: the process ends.
pub(super) async fn ask(shard: &Rc<Shard>, ask: ControlAsk) -> Option<ControlAnswer> {
    match shard.ask(ShardId(0), Ask::Control(ask)).await {
        Some(Answer::Control(answer)) => Some(answer),
        _ => None,
    }
}

macro_rules! forwarded {
    ($($(#[$doc:meta])* $name:ident: $request:ident -> $variant:ident
        $(, with $version:ident)?;)*) => {
        $($(#[$doc])* pub(super) async fn $name(
            shard: &Rc<Shard>,
            header: &RequestHeader,
            body: Bytes,
        ) -> Result<Response, Malformed> {
            let request: $request = cold::decode(header.version, body)?;
            let question = ControlAsk::$variant(request $(, header.$version)?);
            Ok(match ask(shard, question).await {
                Some(ControlAnswer::$variant(response)) => answer_cold(header, &response),
                _ => Response::Close,
            })
        })*
    };
}

forwarded! {
    create_topics: CreateTopicsRequest -> CreateTopics, with version;
    delete_topics: DeleteTopicsRequest -> DeleteTopics, with version;
    create_partitions: CreatePartitionsRequest -> CreatePartitions;
    alter_configs: AlterConfigsRequest -> AlterConfigs;
    incremental_alter: IncrementalAlterConfigsRequest -> IncrementalAlterConfigs;
    elect_leaders: ElectLeadersRequest -> ElectLeaders;
    list_moves: ListPartitionReassignmentsRequest -> ListPartitionReassignments;
}
