//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use std::rc::Rc;

use bytes::Bytes;

use crate::group::message::{Heartbeat, Join, Leave, Leaving, Sync};
use crate::group::{Answer, Request};
use crate::handlers::groups::{ask, filled, host, is_too_large};
use crate::handlers::{Client, Response, answer};
use crate::mesh::Shard;
use crate::protocol::frame::RequestHeader;
use crate::protocol::group_membership::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupMember, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, LeftMember, SyncGroupRequest, SyncGroupResponse,
};
use crate::protocol::{ErrorCode, Malformed, Message};

/// The version of SyncGroup from which the kind of group and the protocol must be told (KIP-559).
const SYNC_VERSION_PROTOCOL: i16 = 5;

/// The version of LeaveGroup from which many members may leave at once (KIP-345).
const LEAVE_VERSION_MANY: i16 = 3;

pub(in crate::handlers) async fn join(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = JoinGroupRequest::decode(header.version, body)?;
    let make = || {
        Request::Join(Join {
            version: header.version,
            group: request.group.clone(),
            member: filled(&request.member),
            instance: request.instance.clone(),
            protocol_type: request.protocol_type.clone(),
            protocols: request
                .protocols
                .iter()
                .map(|known| (known.name.clone(), known.metadata.clone()))
                .collect(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: match header.version {
                0 => request.session_timeout_ms,
                _ => request.rebalance_timeout_ms,
            },
            client_id: header.client_id.clone().unwrap_or_default(),
            client_host: host(client),
            random: shard.runtime.random_uuid().to_wire(),
        })
    };
    let texts = [&header.client_id, &request.instance].into_iter().flatten();
    let texts = texts.chain([&request.group, &request.member, &request.protocol_type]);
    let protocols = request.protocols.iter().map(|one| one.name.len() + one.metadata.len());
    let answered = match is_too_large(shard, texts.map(|text| text.len()).chain(protocols)) {
        // Apache Kafka says the same when the leader brings the assignment.
        true => make().refusal(ErrorCode::UnknownServerError),
        false => ask(shard, client, &request.group, make).await,
    };
    let Answer::Join(joined) = answered else { return Ok(Response::Close) };
    let members = joined.members.into_iter().map(|member| JoinGroupMember {
        member: member.id,
        instance: member.instance,
        metadata: member.metadata,
    });
    let response = JoinGroupResponse {
        throttle_time_ms: 0,
        error: joined.error,
        generation: joined.generation,
        protocol_type: joined.protocol_type,
        protocol: joined.protocol,
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member: joined.member,
        members: members.collect(),
    };
    Ok(answer(header, &response))
}

pub(in crate::handlers) async fn sync(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = SyncGroupRequest::decode(header.version, body)?;
    let is_told = request.protocol_type.is_some() && request.protocol.is_some();
    if header.version >= SYNC_VERSION_PROTOCOL && !is_told {
        let error = ErrorCode::InconsistentGroupProtocol;
        return Ok(answer(header, &SyncGroupResponse { error, ..SyncGroupResponse::default() }));
    }
    let make = || {
        Request::Sync(Sync {
            group: request.group.clone(),
            member: request.member.clone(),
            instance: request.instance.clone(),
            generation: request.generation,
            protocol_type: request.protocol_type.clone(),
            protocol: request.protocol.clone(),
            assignments: request
                .assignments
                .iter()
                .map(|one| (one.member.clone(), one.assignment.clone()))
                .collect(),
        })
    };
    let Answer::Sync(synced) = ask(shard, client, &request.group, make).await else {
        return Ok(Response::Close);
    };
    let response = SyncGroupResponse {
        throttle_time_ms: 0,
        error: synced.error,
        protocol_type: synced.protocol_type,
        protocol: synced.protocol,
        assignment: synced.assignment,
    };
    Ok(answer(header, &response))
}

pub(in crate::handlers) async fn heartbeat(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = HeartbeatRequest::decode(header.version, body)?;
    let make = || {
        Request::Heartbeat(Heartbeat {
            group: request.group.clone(),
            member: request.member.clone(),
            instance: request.instance.clone(),
            generation: request.generation,
        })
    };
    let Answer::Heartbeat(error) = ask(shard, client, &request.group, make).await else {
        return Ok(Response::Close);
    };
    Ok(answer(header, &HeartbeatResponse { throttle_time_ms: 0, error }))
}

pub(in crate::handlers) async fn leave(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = LeaveGroupRequest::decode(header.version, body)?;
    let is_many = header.version >= LEAVE_VERSION_MANY;
    let make = || {
        let many = request.members.iter().map(|one| Leaving {
            member: filled(&one.member),
            instance: one.instance.clone(),
            reason: one.reason.clone(),
        });
        let only = Leaving { member: filled(&request.member), instance: None, reason: None };
        let members = if is_many { many.collect() } else { vec![only] };
        Request::Leave(Leave { group: request.group.clone(), members })
    };
    let Answer::Leave(left) = ask(shard, client, &request.group, make).await else {
        return Ok(Response::Close);
    };
    let mut response = LeaveGroupResponse { error: left.error, ..LeaveGroupResponse::default() };
    if is_many {
        let members = left.members.into_iter().map(|(one, error)| LeftMember {
            member: one.member.unwrap_or_default(),
            instance: one.instance,
            error,
        });
        response.members = members.collect();
    } else if let Some((_, error)) = left.members.first()
        && !response.error.is_error()
    {
        response.error = *error;
    }
    Ok(answer(header, &response))
}
