//! DescribeConfigs and ListConfigResources.

use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::DescribeConfigsRequest;

use crate::controller::describe_configs;
use crate::handlers::{Response, answer, answer_cold};
use crate::mesh::Shard;
use crate::metadata::ResourceKind;
use crate::protocol::frame::RequestHeader;
use crate::protocol::list_config_resources::{
    ListConfigResourcesRequest, ListConfigResourcesResponse, ListedResource,
};
use crate::protocol::{ErrorCode, Malformed, Message, Str, cold};

pub(super) fn describe(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request: DescribeConfigsRequest = cold::decode(header.version, body)?;
    let response = describe_configs(&shard.image(), &shard.config(), &request);
    Ok(answer_cold(header, &response))
}

/// Every kind, in the order of Kafka's answers (`KafkaApis.handleListConfigResources`).
const KINDS: [ResourceKind; 5] = [
    ResourceKind::Group,
    ResourceKind::ClientMetrics,
    ResourceKind::BrokerLogger,
    ResourceKind::Broker,
    ResourceKind::Topic,
];

pub(super) fn list(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = ListConfigResourcesRequest::decode(header.version, body)?;
    let mut response = ListConfigResourcesResponse::default();
    let known: &[ResourceKind] = match header.version {
        0 => &[ResourceKind::ClientMetrics],
        _ => &KINDS,
    };
    if request.kinds.iter().any(|asked| !known.iter().any(|kind| kind.to_wire() == *asked)) {
        response.error = ErrorCode::UnsupportedVersion;
        return Ok(answer(header, &response));
    }
    let wanted =
        |kind: &&ResourceKind| request.kinds.is_empty() || request.kinds.contains(&kind.to_wire());
    for kind in known.iter().filter(wanted) {
        let listed =
            |name: String| ListedResource { name: Str::from_string(name), kind: kind.to_wire() };
        response.resources.extend(names(shard, *kind).into_iter().map(listed));
    }
    Ok(answer(header, &response))
}

fn names(shard: &Shard, kind: ResourceKind) -> Vec<String> {
    let image = shard.image();
    match kind {
        ResourceKind::Group | ResourceKind::ClientMetrics => image
            .configs()
            .filter(|(resource, _)| resource.kind == kind)
            .map(|(resource, _)| resource.name.clone())
            .collect(),
        ResourceKind::Broker | ResourceKind::BrokerLogger => {
            image.brokers().map(|broker| broker.broker.to_string()).collect()
        }
        ResourceKind::Topic => image.topics().map(|topic| topic.name.to_string()).collect(),
    }
}
