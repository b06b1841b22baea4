//! (temporary)
use crate::handlers::Response;
use crate::mesh::Shard;
use crate::protocol::Malformed;
use crate::protocol::frame::RequestHeader;
use bytes::Bytes;
use std::rc::Rc;
pub(super) fn describe(_: &Rc<Shard>, _: &RequestHeader, _: Bytes) -> Result<Response, Malformed> {
    Ok(Response::Close)
}
