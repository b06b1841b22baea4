//! (temporary)
use std::rc::Rc;
use bytes::Bytes;
use crate::handlers::Response;
use crate::mesh::Shard;
use crate::protocol::frame::RequestHeader;
use crate::protocol::Malformed;
pub(super) fn describe(_: &Rc<Shard>, _: &RequestHeader, _: Bytes) -> Result<Response, Malformed> { Ok(Response::Close) }
