//! ApiVersions, Metadata and DescribeCluster: what a client asks first.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use crate::base::{NodeId, Offset};
use crate::handlers::{Client, Response, answer, answer_cold, answer_with, control};
use crate::kraft::{METADATA_LEVEL_MAX, METADATA_LEVEL_MIN};
use crate::mesh::{ControlAsk, Shard};
use crate::metadata::check_name;
use crate::metadata::{Image, Topic};
use crate::protocol::api_versions::{
    ApiVersionsRequest, ApiVersionsResponse, FinalizedFeature, SupportedFeature,
};
use crate::protocol::frame::RequestHeader;
use crate::protocol::metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic,
};
use crate::protocol::produce::NodeEndpoint;
use crate::protocol::{ErrorCode, Malformed, Message, Str, cold};

/// What may be done with a topic where nothing is forbidden, as bits of Kafka's `AclOperation`s:
/// read, write, create, delete, alter, describe, describe configs, alter configs.
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// The same for the cluster: create, alter, describe, cluster action, describe configs, alter
/// configs, idempotent write.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// Features whose behaviour this broker has, with the levels it can do. A cluster's metadata may
/// have finalized more (transactions): they are kept there and not announced.
const FEATURES: [(&str, i16, i16); 4] = [
    ("eligible.leader.replicas.version", 0, 1),
    (GROUP_VERSION, 0, 1),
    ("kraft.version", 0, 1),
    ("metadata.version", METADATA_LEVEL_MIN, METADATA_LEVEL_MAX),
];

/// The feature that consumer groups are (KIP-848).
pub(super) const GROUP_VERSION: &str = "group.version";

pub(super) fn api_versions(
    shard: &Rc<Shard>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    if !header.is_served() {
        let response = ApiVersionsResponse::unsupported_version();
        return Ok(answer_with(header, 0, &response, &[]));
    }
    let request = ApiVersionsRequest::decode(header.version, body)?;
    if !request.names_are_valid(header.version) {
        let error = ErrorCode::InvalidRequest;
        return Ok(answer(
            header,
            &ApiVersionsResponse { error, ..ApiVersionsResponse::default() },
        ));
    }
    let image = shard.image();
    let mut response = ApiVersionsResponse::of_this_broker();
    response.finalized_features_epoch =
        image.position().map_or(-1, |position| Offset::to_wire(position.offset));
    response.finalized_features = image
        .features()
        .iter()
        .filter(|(name, level)| **level > 0 && FEATURES.iter().any(|known| known.0 == *name))
        .map(|(name, level)| FinalizedFeature {
            name: Str::from_string(name.clone()),
            level_max: *level,
            level_min: *level,
        })
        .collect();
    response.supported_features = FEATURES
        .iter()
        .map(|(name, level_min, level_max)| SupportedFeature {
            name: Str::from_static_str(name),
            level_min: *level_min,
            level_max: *level_max,
        })
        .collect();
    Ok(answer(header, &response.for_version(header.version)))
}

/// Where the brokers of the cluster listen, as seen through the client's listener.
fn brokers(shard: &Shard, client: &Client) -> Vec<MetadataBroker> {
    let image = shard.image();
    image
        .brokers()
        .filter(|broker| !broker.fenced)
        .filter_map(|broker| {
            let endpoint = broker.endpoints.iter().find(|e| e.name == client.listener)?;
            Some(MetadataBroker {
                node: broker.broker,
                host: Str::from_string(endpoint.host.clone()),
                port: i32::from(endpoint.port),
                rack: broker.rack.clone().map(Str::from_string),
            })
        })
        .collect()
}

/// Where `nodes` listen, for answers that name a leader (KIP-951).
pub(super) fn endpoints(
    shard: &Shard,
    client: &Client,
    nodes: BTreeSet<NodeId>,
) -> Vec<NodeEndpoint> {
    if nodes.is_empty() {
        return Vec::new();
    }
    brokers(shard, client)
        .into_iter()
        .filter(|broker| nodes.contains(&broker.node))
        .map(|broker| NodeEndpoint {
            node: broker.node,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        })
        .collect()
}

/// Where one broker listens, as seen through the client's listener.
pub(super) fn endpoint(shard: &Shard, client: &Client, node: NodeId) -> Option<MetadataBroker> {
    brokers(shard, client).into_iter().find(|broker| broker.node == node)
}

pub(super) async fn metadata(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request = MetadataRequest::decode(header.version, body)?;
    let image = shard.image();
    let wants_all = request.asks_all_topics(header.version);
    let mut response = MetadataResponse {
        brokers: brokers(shard, client),
        cluster_id: Some(Str::from_string(shard.cluster_id().to_string())),
        ..MetadataResponse::default()
    };
    response.controller = response.brokers.first().map(|broker| broker.node);
    let asked = request.topics.as_deref().unwrap_or_default();
    if !wants_all && header.version < 12 {
        let odd = asked.iter().any(|topic| topic.name.is_none() || topic.topic_id.is_some());
        if odd {
            return Ok(answer(header, &invalid(&request)));
        }
    }
    if wants_all {
        for topic in image.topics() {
            response.topics.push(known_topic(topic, header.version));
            shard.runtime.pass().await;
        }
    } else {
        let unknown = add_asked(&image, header, asked, &mut response);
        let may_create = request.allow_auto_topic_creation && shard.auto_creates_topics();
        create(shard, unknown, may_create, &mut response).await;
    }
    if request.include_topic_authorized_operations {
        for topic in &mut response.topics {
            topic.authorized_operations = TOPIC_OPERATIONS;
        }
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    Ok(answer(header, &response))
}

/// The answer to a request that mixes names and ids where its version can not.
fn invalid(request: &MetadataRequest) -> MetadataResponse {
    let asked = request.topics.as_deref().unwrap_or_default();
    let topics = asked.iter().map(|topic| MetadataTopic {
        error: ErrorCode::InvalidRequest,
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..MetadataTopic::default()
    });
    MetadataResponse {
        topics: topics.collect(),
        error: ErrorCode::InvalidRequest,
        ..MetadataResponse::default()
    }
}

/// Adds the topics asked for that are known, and ids that are not; returns the unknown names.
fn add_asked(
    image: &Image,
    header: &RequestHeader,
    asked: &[crate::protocol::metadata::MetadataRequestTopic],
    response: &mut MetadataResponse,
) -> Vec<Option<Str>> {
    // A request with ids is answered by ids alone.
    let by_id = asked.iter().any(|topic| topic.topic_id.is_some());
    let mut unknown = Vec::new();
    let mut seen = BTreeSet::new();
    for topic in asked {
        if by_id {
            let Some(id) = topic.topic_id else { continue };
            if !seen.insert(id.to_string()) {
                continue;
            }
            response.topics.push(match image.topic(id) {
                Some(topic) => known_topic(topic, header.version),
                None => MetadataTopic {
                    error: ErrorCode::UnknownTopicId,
                    topic_id: Some(id),
                    ..MetadataTopic::default()
                },
            });
            continue;
        }
        let Some(name) = topic.name.clone() else {
            unknown.push(None);
            continue;
        };
        if !seen.insert(name.to_string()) {
            continue;
        }
        match image.topic_named(&name) {
            Some(topic) => response.topics.push(known_topic(topic, header.version)),
            None => unknown.push(Some(name)),
        }
    }
    unknown
}

/// Answers for topics that do not exist, after having them created where that is allowed: the
/// client asks again and then finds them (Kafka's `AutoTopicCreationManager`).
async fn create(
    shard: &Rc<Shard>,
    unknown: Vec<Option<Str>>,
    may_create: bool,
    response: &mut MetadataResponse,
) {
    let mut creatable = Vec::new();
    for name in unknown {
        let Some(name) = name else {
            // Neither a name nor an id: Kafka has no better answer either.
            response.topics.push(MetadataTopic {
                error: ErrorCode::UnknownServerError,
                name: Some(Str::default()),
                ..MetadataTopic::default()
            });
            continue;
        };
        let is_valid = check_name(&name).is_ok();
        let error = if is_valid {
            creatable.push(name.to_string());
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::InvalidTopicException
        };
        let is_internal = Topic::is_internal_name(&name);
        response.topics.push(MetadataTopic {
            error,
            name: Some(name),
            is_internal,
            ..MetadataTopic::default()
        });
    }
    if may_create && !creatable.is_empty() {
        control::ask(shard, ControlAsk::AutoCreate(creatable)).await;
    }
}

fn known_topic(topic: &Topic, version: i16) -> MetadataTopic {
    let partitions = topic.partitions.iter().map(|(index, state)| MetadataPartition {
        error: match state.leader {
            Some(_) => ErrorCode::None,
            None => ErrorCode::LeaderNotAvailable,
        },
        index: *index,
        leader: state.leader,
        leader_epoch: Some(state.leader_epoch),
        replicas: state.replicas.clone(),
        in_sync: state.isr.clone(),
        offline: Vec::new(),
    });
    MetadataTopic {
        error: ErrorCode::None,
        name: Some(Str::from_string(topic.name.to_string())),
        topic_id: (version >= 10).then_some(topic.id),
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..MetadataTopic::default()
    }
}

/// `endpoint_type` of a request for brokers (KIP-919).
const ENDPOINT_BROKERS: i8 = 1;
/// `endpoint_type` of a request for controllers.
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(super) fn describe_cluster(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    let request: DescribeClusterRequest = cold::decode(header.version, body)?;
    let refused = |error: ErrorCode, message: String| {
        let error = if header.version == 0 { ErrorCode::InvalidRequest } else { error };
        DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(Str::from_string(message)))
            .with_endpoint_type(ENDPOINT_BROKERS)
    };
    let response = match request.endpoint_type {
        ENDPOINT_BROKERS => describe_brokers(shard, client, &request),
        ENDPOINT_CONTROLLERS => refused(
            ErrorCode::MismatchedEndpointType,
            "this endpoint is a broker's, but controllers were asked for".to_owned(),
        ),
        other => refused(
            ErrorCode::UnsupportedEndpointType,
            format!("endpoint type {other} is not supported"),
        ),
    };
    Ok(answer_cold(header, &response))
}

fn describe_brokers(
    shard: &Shard,
    client: &Client,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let brokers: Vec<_> = brokers(shard, client)
        .into_iter()
        .map(|broker| {
            DescribeClusterBroker::default()
                .with_broker_id(broker.node.0.into())
                .with_host(broker.host)
                .with_port(broker.port)
                .with_rack(broker.rack)
        })
        .collect();
    let controller = brokers.first().map_or(-1, |broker| broker.broker_id.0);
    let mut response = DescribeClusterResponse::default()
        .with_endpoint_type(ENDPOINT_BROKERS)
        .with_cluster_id(Str::from_string(shard.cluster_id().to_string()))
        .with_controller_id(controller.into())
        .with_brokers(brokers);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}
