//! ListGroups, DescribeGroups, DeleteGroups.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::ShardId;
use crate::group::message::{Describe, Described, List};
use crate::group::{self, Request};
use crate::handlers::groups::{Named, ask_many};
use crate::handlers::{Response, answer};
use crate::mesh::{Answer, Ask, Shard};
use crate::protocol::frame::RequestHeader;
use crate::protocol::group_admin::{
    DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup, DescribeGroupsRequest,
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, ListGroupsRequest,
    ListGroupsResponse, ListedGroup,
};
use crate::protocol::metadata::OPERATIONS_UNKNOWN;
use crate::protocol::{ErrorCode, Malformed, Message, Str};

/// What everybody may do with a group while there are no permissions: read, delete, describe, and
/// look at and change its settings, as bits (`AclEntry.supportedOperations`).
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(in crate::handlers) async fn list(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = ListGroupsRequest::decode(header.version, body)?;
    let list = List::of(&request.states, &request.types);
    let cores = (0..shard.runtime.shard_count()).map(ShardId);
    let asked: Vec<_> = cores.map(|core| shard.ask(core, Ask::ListGroups(list.clone()))).collect();
    let mut response = ListGroupsResponse::default();
    for answer in asked {
        let Some(Answer::ListGroups(error, groups)) = answer.await else {
            response.error = ErrorCode::CoordinatorNotAvailable;
            continue;
        };
        if error.is_error() {
            response.error = error;
        }
        response.groups.extend(groups.into_iter().map(|listed| ListedGroup {
            group: listed.group,
            protocol_type: listed.protocol_type,
            state: Str::from_static_str(listed.state),
            kind: Str::from_static_str(listed.kind),
        }));
    }
    if response.error.is_error() {
        response.groups.clear();
    }
    Ok(answer(header, &response))
}

pub(in crate::handlers) async fn describe(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = DescribeGroupsRequest::decode(header.version, body)?;
    let question = |group: &Str| {
        let groups = vec![group.clone()];
        (group.clone(), Request::Describe(Describe { version: header.version, groups }))
    };
    let mut named = Named::default();
    let admitted = request.groups.iter().filter(|group| named.admits(group.as_str()));
    let answers = ask_many(shard, admitted.map(question).collect()).await;
    let mut response = DescribeGroupsResponse::default();
    for answer in answers {
        let group::Answer::Describe(groups) = answer else { return Ok(Response::Close) };
        let wire = |group| described(group, request.include_authorized_operations);
        response.groups.extend(groups.into_iter().map(wire));
    }
    Ok(answer(header, &response))
}

fn described(group: Described, tell_operations: bool) -> DescribedGroup {
    let member = |member: group::message::DescribedMember| DescribedGroupMember {
        member: member.id,
        instance: member.instance,
        client_id: member.client_id,
        client_host: member.client_host,
        metadata: member.metadata,
        assignment: member.assignment,
    };
    let may_tell = tell_operations && !group.error.is_error();
    DescribedGroup {
        error: group.error,
        error_message: group.message.map(Str::from_string),
        group: group.group,
        state: Str::from_static_str(group.state),
        protocol_type: group.protocol_type,
        protocol: group.protocol,
        members: group.members.into_iter().map(member).collect(),
        authorized_operations: if may_tell { GROUP_OPERATIONS } else { OPERATIONS_UNKNOWN },
    }
}

pub(in crate::handlers) async fn delete(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = DeleteGroupsRequest::decode(header.version, body)?;
    let mut seen = BTreeSet::new();
    let mut questions = Vec::new();
    for group in &request.groups {
        if seen.insert(group.as_str()) {
            questions.push((group.clone(), Request::Delete(vec![group.clone()])));
        }
    }
    let answers = ask_many(shard, questions).await;
    let mut response = DeleteGroupsResponse::default();
    for answer in answers {
        let group::Answer::Delete(results) = answer else { return Ok(Response::Close) };
        let result = |(group, error)| DeletedGroup { group, error };
        response.results.extend(results.into_iter().map(result));
    }
    Ok(answer(header, &response))
}
