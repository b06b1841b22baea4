//! FindCoordinator: which broker coordinates a group.

use std::rc::Rc;

use bytes::Bytes;

use crate::handlers::cluster::endpoint;
use crate::handlers::groups::place;
use crate::handlers::{Client, Response, answer, control};
use crate::mesh::{ControlAsk, Shard};
use crate::metadata::OFFSETS_TOPIC;
use crate::protocol::frame::RequestHeader;
use crate::protocol::group_membership::{
    FindCoordinatorRequest, FindCoordinatorResponse, FoundCoordinator, KEY_TYPE_GROUP,
    KEY_TYPE_TRANSACTION,
};
use crate::protocol::{ErrorCode, Malformed, Message, Str};

/// The version from which many keys are asked for at once (KIP-699).
const VERSION_MANY: i16 = 4;

pub(in crate::handlers) async fn find(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = FindCoordinatorRequest::decode(header.version, body)?;
    let mut response = FindCoordinatorResponse::default();
    let has_keys = header.version < VERSION_MANY || !request.keys.is_empty();
    if request.key_type == KEY_TYPE_GROUP && has_keys && place(shard, "").is_none() {
        // The first to ask has it created, and need not ask again.
        let names = vec![OFFSETS_TOPIC.to_owned()];
        control::ask(shard, ControlAsk::AutoCreate(names)).await;
    }
    if header.version >= VERSION_MANY {
        let find = |key: &Str| found(shard, client, request.key_type, key);
        response.coordinators = request.keys.iter().map(find).collect();
        return Ok(answer(header, &response));
    }
    let found = found(shard, client, request.key_type, &request.key);
    response.error = found.error;
    let message = if found.error.is_error() { found.error.message() } else { "NONE" };
    response.error_message = Some(Str::from_static_str(message));
    response.node = found.node;
    response.host = found.host;
    response.port = found.port;
    Ok(answer(header, &response))
}

fn found(shard: &Shard, client: &Client, key_type: i8, key: &Str) -> FoundCoordinator {
    let refused = |error| FoundCoordinator {
        key: key.clone(),
        node: -1,
        port: -1,
        error,
        error_message: Some(Str::default()),
        ..FoundCoordinator::default()
    };
    match key_type {
        KEY_TYPE_GROUP => {}
        // There is no transaction coordinator; this is what a client sees while there is none.
        KEY_TYPE_TRANSACTION => return refused(ErrorCode::CoordinatorNotAvailable),
        _ => return refused(ErrorCode::InvalidRequest),
    }
    let image = shard.image();
    let leader =
        place(shard, key).and_then(|at| image.topic(at.topic)?.partition(at.partition)?.leader);
    match leader.and_then(|node| endpoint(shard, client, node)) {
        Some(broker) => FoundCoordinator {
            key: key.clone(),
            node: broker.node.0,
            host: broker.host,
            port: broker.port,
            error_message: Some(Str::default()),
            ..FoundCoordinator::default()
        },
        None => refused(ErrorCode::CoordinatorNotAvailable),
    }
}
