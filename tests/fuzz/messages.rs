//! Requests as the broker takes them, and answers as the command line's client takes them: all
//! APIs of the table, in all their versions.

use std::fmt::Debug;

use bytes::Bytes;
use corelog::protocol::api::{APIS, Api};
use corelog::protocol::api_versions::*;
use corelog::protocol::consumer_group::*;
use corelog::protocol::describe_log_dirs::*;
use corelog::protocol::fetch::*;
use corelog::protocol::frame::{self, RequestHeader};
use corelog::protocol::group_admin::*;
use corelog::protocol::group_membership::*;
use corelog::protocol::group_offsets::*;
use corelog::protocol::init_producer_id::*;
use corelog::protocol::list_config_resources::*;
use corelog::protocol::list_offsets::*;
use corelog::protocol::metadata::*;
use corelog::protocol::produce::*;
use corelog::protocol::{ApiKey, Message, Str, cold};
use corelog::runtime::sim::Random;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Encodable, Request};

use crate::Decoder;
use crate::samples::{fixtures, grow};

/// Largest frame that a connection takes here.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Decodes a body of a version, and encodes it again; `None` when it does not decode.
type Codec = fn(i16, Bytes) -> Option<Vec<u8>>;

/// The two messages of an API.
#[derive(Clone, Copy)]
struct Codecs {
    request: Codec,
    response: Codec,
}

/// A message of our own codec.
fn hot<M: Message + PartialEq + Debug>(version: i16, body: Bytes) -> Option<Vec<u8>> {
    let value = M::decode(version, body).ok()?;
    let again = value.encode(version);
    let second = M::decode(version, again.clone()).expect("what was encoded decodes");
    assert_eq!(second, value, "{:?} v{version} changes when it is encoded", M::KEY);
    Some(again.into())
}

/// A request of the crate's codec, behind our guard. Tagged fields that nobody knows do not always
/// come out of its encoder as they went in, but the broker sends none of what it gets.
fn cold_request<T: Request>(version: i16, body: Bytes) -> Option<Vec<u8>> {
    let value: T = cold::decode(version, body).ok()?;
    Some(cold::encode(version, &value).map(Vec::from).unwrap_or_default())
}

/// An answer of the crate's codec, behind our guard.
fn cold_response<T: Request>(version: i16, body: Bytes) -> Option<Vec<u8>>
where
    T::Response: Encodable,
{
    let value = cold::decode_response::<T>(version, body).ok()?;
    Some(cold::encode(version, &value).map(Vec::from).unwrap_or_default())
}

macro_rules! codecs {
    (hot { $($hot:ident $request:ident $response:ident;)* } cold { $($cold:ident $theirs:ident;)* }) => {
        /// The codecs of an API: a new one does not compile before it has its row.
        fn codecs(key: ApiKey) -> Codecs {
            match key {
                $(ApiKey::$hot => Codecs { request: hot::<$request>, response: hot::<$response> },)*
                $(ApiKey::$cold => Codecs {
                    request: cold_request::<theirs::$theirs>,
                    response: cold_response::<theirs::$theirs>,
                },)*
            }
        }
    };
}

codecs! {
    hot {
    Produce ProduceRequest ProduceResponse;
    Fetch FetchRequest FetchResponse;
    ListOffsets ListOffsetsRequest ListOffsetsResponse;
    Metadata MetadataRequest MetadataResponse;
    OffsetCommit OffsetCommitRequest OffsetCommitResponse;
    OffsetFetch OffsetFetchRequest OffsetFetchResponse;
    FindCoordinator FindCoordinatorRequest FindCoordinatorResponse;
    JoinGroup JoinGroupRequest JoinGroupResponse;
    Heartbeat HeartbeatRequest HeartbeatResponse;
    LeaveGroup LeaveGroupRequest LeaveGroupResponse;
    SyncGroup SyncGroupRequest SyncGroupResponse;
    DescribeGroups DescribeGroupsRequest DescribeGroupsResponse;
    ListGroups ListGroupsRequest ListGroupsResponse;
    ApiVersions ApiVersionsRequest ApiVersionsResponse;
    InitProducerId InitProducerIdRequest InitProducerIdResponse;
    DescribeLogDirs DescribeLogDirsRequest DescribeLogDirsResponse;
    DeleteGroups DeleteGroupsRequest DeleteGroupsResponse;
    OffsetDelete OffsetDeleteRequest OffsetDeleteResponse;
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse;
    ListConfigResources ListConfigResourcesRequest ListConfigResourcesResponse;
    }
    cold {
    CreateTopics CreateTopicsRequest;
    DeleteTopics DeleteTopicsRequest;
    DeleteRecords DeleteRecordsRequest;
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest;
    DescribeConfigs DescribeConfigsRequest;
    AlterConfigs AlterConfigsRequest;
    CreatePartitions CreatePartitionsRequest;
    ElectLeaders ElectLeadersRequest;
    IncrementalAlterConfigs IncrementalAlterConfigsRequest;
    ListPartitionReassignments ListPartitionReassignmentsRequest;
    DescribeCluster DescribeClusterRequest;
    DescribeProducers DescribeProducersRequest;
    DescribeTopicPartitions DescribeTopicPartitionsRequest;
    }
}

fn header(key: ApiKey, version: i16) -> RequestHeader {
    let client_id = Some(Str::from_static_str("fuzz"));
    RequestHeader { key, version, correlation_id: 7, client_id }
}

/// Grown bodies of a version.
fn bodies(codec: Codec, api: &Api, version: i16, turn: u64) -> Vec<Vec<u8>> {
    let mut random = Random::new(api.key.code() as u64 * 1000 + version as u64 * 2 + turn);
    let found = grow(&mut random, &[], |body| codec(version, Bytes::copy_from_slice(body)));
    assert!(!found.is_empty(), "{} v{version} has a sample", api.name);
    found
}

/// Frames of a request without their lengths, as a connection cuts them.
fn requests(api: &'static Api) -> Decoder {
    let mut samples = Vec::new();
    for version in api.version_min..=api.version_max {
        for body in bodies(codecs(api.key).request, api, version, 0) {
            let mut writer = header(api.key, version).start();
            writer.raw(&body);
            samples.push(frame::finish(writer).into_bytes()[frame::LENGTH_BYTES..].to_vec());
        }
    }
    let captured = fixtures("wire", &format!("-{}-v", api.name));
    samples.extend(captured.into_iter().filter(|(n, _)| n.contains("-req.")).map(|(_, b)| b));
    Decoder::new(format!("request {}", api.name), samples, move |input| {
        let Ok((header, body)) = RequestHeader::parse(input.clone()) else { return false };
        // Of a version that is not served the body is not looked at (ApiVersions, KIP-511).
        header.is_served() && (codecs(header.key).request)(header.version, body).is_some()
    })
}

/// Frames of an answer behind a byte that decides its version.
fn responses(api: &'static Api) -> Decoder {
    let mut samples = Vec::new();
    for version in api.version_min..=api.version_max {
        for body in bodies(codecs(api.key).response, api, version, 1) {
            let mut writer = header(api.key, version).start_response();
            writer.raw(&body);
            let frame = frame::finish(writer).into_bytes();
            let first = [(version - api.version_min) as u8];
            samples.push([&first[..], &frame[frame::LENGTH_BYTES..]].concat());
        }
    }
    Decoder::new(format!("answer {}", api.name), samples, move |input| {
        let Some(first) = input.first() else { return false };
        let versions = api.version_max - api.version_min + 1;
        let version = api.version_min + i16::from(*first) % versions;
        let parsed = header(api.key, version).parse_response(input.slice(1..));
        parsed.is_ok_and(|(_, body)| (codecs(api.key).response)(version, body).is_some())
    })
}

/// A stream of frames.
fn stream() -> Decoder {
    let frames = fixtures("wire", "-req.");
    let samples = frames
        .chunks(3)
        .map(|some| some.iter().flat_map(|(_, b)| frame::with_length(b)).collect::<Vec<u8>>());
    Decoder::new("stream of frames", samples.collect(), |input| {
        let mut buffer = bytes::BytesMut::from(&input[..]);
        let mut count = 0;
        while let Ok(Some(frame)) = frame::split_frame(&mut buffer, FRAME_BYTES_MAX) {
            count += usize::from(RequestHeader::parse(frame).is_ok());
        }
        count > 0
    })
}

/// All of this file.
pub fn decoders() -> Vec<Decoder> {
    let mut all = vec![stream()];
    all.extend(APIS.iter().map(requests));
    all.extend(APIS.iter().map(responses));
    all
}
