//! DescribeConfigs.

use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::DescribeConfigsRequest;

use crate::controller::describe_configs;
use crate::handlers::{Response, answer_cold};
use crate::mesh::Shard;
use crate::protocol::frame::RequestHeader;
use crate::protocol::{Malformed, cold};

pub(super) fn describe(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request: DescribeConfigsRequest = cold::decode(header.version, body)?;
    let response = describe_configs(&shard.image(), &shard.config(), &request);
    Ok(answer_cold(header, &response))
}
