//! The codecs beside Apache Kafka's bytes and `kafka_protocol`'s codec.
//!
//! Golden: bytes captured from Apache Kafka 4.3.1 (`tests/fixtures/wire`) decode, and encode to the
//! same bytes. Cross-check: every version of every hot message, written here, read and written
//! again by the crate, is the same. Hostile: cut, changed and random bytes are refused quietly.

use bytes::Bytes;
use corelog::base::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use corelog::protocol::api_versions::*;
use corelog::protocol::describe_log_dirs::*;
use corelog::protocol::fetch::*;
use corelog::protocol::frame::{self, Refused, RequestHeader};
use corelog::protocol::init_producer_id::*;
use corelog::protocol::list_offsets::*;
use corelog::protocol::metadata::*;
use corelog::protocol::produce::*;
use corelog::protocol::wire::{Piece, Records};
use corelog::protocol::{ApiKey, ErrorCode, Message, Str, cold};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};

fn fixture(name: &str) -> Bytes {
    let path = format!("{}/tests/fixtures/wire/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")).into()
}

fn fixtures(api: &str) -> Vec<(String, Bytes)> {
    let dir = format!("{}/tests/fixtures/wire", env!("CARGO_MANIFEST_DIR"));
    let names = std::fs::read_dir(dir).expect("fixtures are there");
    let mut found: Vec<_> = names
        .map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"))
        .filter(|name| name.contains(api))
        .map(|name| (name.clone(), fixture(&name)))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no fixture of {api}");
    found
}

/// Decodes captured requests and answers of one API, and expects their bytes back.
fn golden<Q: Message, A: Message>(api: &str, version: i16) {
    for (name, frame) in fixtures(api) {
        let sent = frame::with_length(&frame);
        if name.contains("-req.") {
            let (header, body) = RequestHeader::parse(frame).expect(&name);
            assert_eq!((header.key, header.version), (Q::KEY, version), "{name}");
            let request = Q::decode(version, body).expect(&name);
            assert_eq!(header.request(&request), sent, "{name}");
        } else {
            let asked = RequestHeader { key: A::KEY, version, correlation_id: 0, client_id: None };
            let (correlation_id, body) = asked.parse_response(frame).expect(&name);
            let answer = A::decode(version, body).expect(&name);
            let asked = RequestHeader { correlation_id, ..asked };
            assert_eq!(asked.response(&answer), [Piece::Bytes(sent)], "{name}");
        }
    }
}

#[test]
fn captured_bytes_decode_and_encode_to_themselves() {
    golden::<ProduceRequest, ProduceResponse>("Produce-v13", 13);
    golden::<FetchRequest, FetchResponse>("-Fetch-v18", 18);
    golden::<MetadataRequest, MetadataResponse>("Metadata-v13", 13);
    golden::<ApiVersionsRequest, ApiVersionsResponse>("ApiVersions-v4", 4);
    golden::<ListOffsetsRequest, ListOffsetsResponse>("ListOffsets-v11", 11);
}

#[test]
fn captured_requests_mean_what_was_asked() {
    let (header, body) =
        RequestHeader::parse(fixture("served-Fetch-v18-req.1.bin")).expect("parses");
    assert_eq!(header.client_id.as_deref(), Some("console-consumer"));
    assert_eq!(header.correlation_id, 5);
    let fetch = FetchRequest::decode(18, body).expect("decodes");
    assert_eq!((fetch.max_wait_ms, fetch.min_bytes, fetch.max_bytes), (500, 1, 52_428_800));
    assert_eq!((fetch.session_id, fetch.session_epoch), (0, 0));
    assert_eq!(fetch.fetching_replica(), None);
    let partition = &fetch.topics[0].partitions[0];
    assert_eq!(partition.fetch_offset, Some(Offset::ZERO));
    assert_eq!(partition.current_leader_epoch, Some(LeaderEpoch::new(7)));
    assert_eq!((partition.max_bytes, partition.high_watermark), (1 << 20, i64::MAX));

    let (_, body) = RequestHeader::parse(fixture("ctl-Fetch-v18-req.1.bin")).expect("parses");
    let fetch = FetchRequest::decode(18, body).expect("decodes");
    assert_eq!(fetch.fetching_replica(), Some(NodeId(1)));
    assert_eq!(fetch.cluster_id.as_deref(), Some("3C-7cfVtRhqXp_NZ59ZyjA"));
    assert_eq!(fetch.topics[0].topic_id, Some(Uuid::METADATA_TOPIC));

    let frame = fixture("served-Produce-v13-req.1.bin");
    let (_, body) = RequestHeader::parse(frame.clone()).expect("parses");
    let produce = ProduceRequest::decode(13, body).expect("decodes");
    let records = &produce.topics[0].partitions[0].records;
    assert_eq!((produce.acks, produce.timeout_ms, records.len()), (1, 1000, 71));
    assert!(frame.as_ptr_range().contains(&records.as_ptr()), "records are a slice of the frame");
}

#[test]
fn captured_cold_requests_decode() {
    let frame = fixture("served-DescribeTopicPartitions-v0-req.1.bin");
    let (_, body) = RequestHeader::parse(frame).expect("parses");
    let request: theirs::DescribeTopicPartitionsRequest = cold::decode(0, body).expect("decodes");
    assert_eq!(request.topics[0].name.0.as_str(), "t2");
    assert_eq!((request.response_partition_limit, request.cursor), (2000, None));

    let frame = fixture("served-ListPartitionReassignments-v0-req.1.bin");
    let (_, body) = RequestHeader::parse(frame).expect("parses");
    let request: theirs::ListPartitionReassignmentsRequest =
        cold::decode(0, body).expect("decodes");
    assert_eq!(request.topics.expect("names topics")[0].partition_indexes, [1, 0]);
}

const ID: Option<Uuid> = Some(Uuid::METADATA_TOPIC);

fn text(text: &'static str) -> Str {
    Str::from_static_str(text)
}

fn endpoints() -> Vec<NodeEndpoint> {
    vec![NodeEndpoint { node: NodeId(3), host: text("h"), port: 9092, rack: Some(text("r")) }]
}

fn leader() -> Option<CurrentLeader> {
    Some(CurrentLeader { leader: Some(NodeId(3)), epoch: Some(LeaderEpoch::new(8)) })
}

fn produce_request() -> ProduceRequest {
    ProduceRequest {
        transactional_id: Some(text("tx")),
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            name: text("orders"),
            topic_id: ID,
            partitions: vec![
                ProducePartition { index: 2, records: Bytes::from_static(b"abcdef") },
                ProducePartition { index: 3, records: Bytes::new() },
            ],
        }],
    }
}

fn produce_response() -> ProduceResponse {
    ProduceResponse {
        topics: vec![ProduceTopicResponse {
            name: text("orders"),
            topic_id: ID,
            partitions: vec![
                ProducePartitionResponse {
                    index: 2,
                    error: ErrorCode::InvalidRecord,
                    base_offset: Some(Offset::new(77)),
                    log_append_time: Timestamp::from_wire(1_000),
                    log_start_offset: Some(Offset::new(5)),
                    record_errors: vec![RecordError { batch_index: 1, message: Some(text("no")) }],
                    error_message: Some(text("bad")),
                    current_leader: leader(),
                },
                ProducePartitionResponse::default(),
            ],
        }],
        throttle_time_ms: 9,
        node_endpoints: endpoints(),
    }
}

fn fetch_request() -> FetchRequest {
    FetchRequest {
        cluster_id: Some(text("c")),
        replica: Some(NodeId(4)),
        replica_state: Some(ReplicaState { replica: Some(NodeId(4)), replica_epoch: 11 }),
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: 1,
        session_id: 12,
        session_epoch: 13,
        topics: vec![FetchTopic {
            name: text("orders"),
            topic_id: ID,
            partitions: vec![FetchPartition {
                index: 2,
                current_leader_epoch: Some(LeaderEpoch::new(3)),
                fetch_offset: Some(Offset::new(100)),
                last_fetched_epoch: Some(LeaderEpoch::new(2)),
                log_start_offset: Some(Offset::new(7)),
                max_bytes: 4_096,
                replica_directory_id: ID,
                high_watermark: 90,
            }],
        }],
        forgotten: vec![ForgottenTopic { name: text("old"), topic_id: ID, partitions: vec![0, 5] }],
        rack_id: text("rack"),
    }
}

fn fetch_response() -> FetchResponse {
    FetchResponse {
        throttle_time_ms: 9,
        error: ErrorCode::FetchSessionIdNotFound,
        session_id: 12,
        topics: vec![FetchTopicResponse {
            name: text("orders"),
            topic_id: ID,
            partitions: vec![
                FetchPartitionResponse {
                    index: 2,
                    error: ErrorCode::OffsetOutOfRange,
                    high_watermark: Some(Offset::new(101)),
                    last_stable_offset: Some(Offset::new(102)),
                    log_start_offset: Some(Offset::new(103)),
                    diverging_epoch: Some(EpochEnd {
                        epoch: Some(LeaderEpoch::new(1)),
                        end_offset: Some(Offset::new(60)),
                    }),
                    current_leader: leader(),
                    snapshot_id: Some(SnapshotId {
                        end_offset: Some(Offset::new(50)),
                        epoch: Some(LeaderEpoch::new(1)),
                    }),
                    aborted_transactions: Some(vec![AbortedTransaction {
                        producer_id: 4_000,
                        first_offset: Some(Offset::new(70)),
                    }]),
                    preferred_read_replica: Some(NodeId(5)),
                    records: Records::Bytes(Bytes::from_static(b"records")),
                },
                FetchPartitionResponse::default(),
            ],
        }],
        node_endpoints: endpoints(),
    }
}

fn list_offsets_request() -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica: None,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic {
            name: text("orders"),
            partitions: vec![ListOffsetsPartition {
                index: 2,
                current_leader_epoch: Some(LeaderEpoch::new(3)),
                timestamp: MAX_TIMESTAMP,
            }],
        }],
        timeout_ms: 1_000,
    }
}

fn list_offsets_response() -> ListOffsetsResponse {
    ListOffsetsResponse {
        throttle_time_ms: 9,
        topics: vec![ListOffsetsTopicResponse {
            name: text("orders"),
            partitions: vec![ListOffsetsPartitionResponse {
                index: 2,
                error: ErrorCode::NotLeaderOrFollower,
                timestamp: Timestamp::from_wire(1_000),
                offset: Some(Offset::new(33)),
                leader_epoch: Some(LeaderEpoch::new(3)),
            }],
        }],
    }
}

fn metadata_request() -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id: ID, name: Some(text("orders")) }]),
        allow_auto_topic_creation: false,
        include_cluster_authorized_operations: true,
        include_topic_authorized_operations: true,
    }
}

fn metadata_response() -> MetadataResponse {
    MetadataResponse {
        throttle_time_ms: 9,
        brokers: vec![MetadataBroker {
            node: NodeId(3),
            host: text("h"),
            port: 9092,
            rack: Some(text("r")),
        }],
        cluster_id: Some(text("c")),
        controller: Some(NodeId(4)),
        topics: vec![MetadataTopic {
            error: ErrorCode::LeaderNotAvailable,
            name: Some(text("orders")),
            topic_id: ID,
            is_internal: true,
            partitions: vec![MetadataPartition {
                error: ErrorCode::LeaderNotAvailable,
                index: 2,
                leader: Some(NodeId(3)),
                leader_epoch: Some(LeaderEpoch::new(8)),
                replicas: vec![NodeId(3), NodeId(4)],
                in_sync: vec![NodeId(3)],
                offline: vec![NodeId(4)],
            }],
            authorized_operations: 0xff,
        }],
        cluster_authorized_operations: 0xfe,
        error: ErrorCode::RebootstrapRequired,
    }
}

fn api_versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest { client_software_name: text("n"), client_software_version: text("1.0") }
}

fn api_versions_response() -> ApiVersionsResponse {
    ApiVersionsResponse {
        throttle_time_ms: 9,
        supported_features: vec![SupportedFeature {
            name: text("metadata.version"),
            level_min: 7,
            level_max: 30,
        }],
        finalized_features_epoch: 55,
        finalized_features: vec![FinalizedFeature {
            name: text("metadata.version"),
            level_max: 30,
            level_min: 29,
        }],
        zk_migration_ready: true,
        ..ApiVersionsResponse::of_this_broker()
    }
}

fn init_producer_id_request() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(text("tx")),
        transaction_timeout_ms: 60_000,
        producer_id: 4_000,
        producer_epoch: 3,
    }
}

fn init_producer_id_response() -> InitProducerIdResponse {
    InitProducerIdResponse {
        throttle_time_ms: 9,
        error: ErrorCode::ProducerFenced,
        producer_id: 4_000,
        producer_epoch: 3,
    }
}

fn log_dirs_request() -> DescribeLogDirsRequest {
    DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic { name: text("orders"), partitions: vec![1, 2] }]),
    }
}

fn log_dirs_response() -> DescribeLogDirsResponse {
    DescribeLogDirsResponse {
        throttle_time_ms: 9,
        error: ErrorCode::ClusterAuthorizationFailed,
        results: vec![LogDir {
            error: ErrorCode::KafkaStorageError,
            path: text("/data"),
            topics: vec![LogDirTopic {
                name: text("orders"),
                partitions: vec![LogDirPartition {
                    index: 2,
                    size_bytes: 1 << 33,
                    offset_lag: 4,
                    is_future: true,
                }],
            }],
            total_bytes: 1 << 40,
            usable_bytes: 1 << 39,
            is_cordoned: true,
        }],
    }
}

/// Writes `message` in every version up to `version_max`, and expects the crate to read it and to
/// write the same, and that to be read back as the same message as far as the version has it.
fn agrees_with_the_crate<M: Message + PartialEq + std::fmt::Debug, T: Encodable + Decodable>(
    message: &M,
    version_max: i16,
) {
    for version in M::KEY.row().version_min..=version_max {
        let name = format!("{:?} {:?} v{version}", M::KEY, M::DIRECTION);
        let ours = message.encode(version);
        let mut rest = ours.clone();
        let theirs = T::decode(&mut rest, version).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(rest.is_empty(), "{name}: {} bytes left", rest.len());
        let again = cold::encode(version, &theirs).expect(&name);
        assert_eq!(again, ours, "{name}");
        let read = M::decode(version, again).expect(&name);
        assert_eq!(read.encode(version), ours, "{name}");
    }
}

#[test]
fn every_version_agrees_with_the_crate() {
    agrees_with_the_crate::<_, theirs::ProduceRequest>(&produce_request(), 13);
    agrees_with_the_crate::<_, theirs::ProduceResponse>(&produce_response(), 13);
    agrees_with_the_crate::<_, theirs::FetchRequest>(&fetch_request(), 18);
    agrees_with_the_crate::<_, theirs::FetchResponse>(&fetch_response(), 18);
    agrees_with_the_crate::<_, theirs::ListOffsetsRequest>(&list_offsets_request(), 10);
    agrees_with_the_crate::<_, theirs::ListOffsetsResponse>(&list_offsets_response(), 10);
    agrees_with_the_crate::<_, theirs::MetadataRequest>(&metadata_request(), 13);
    agrees_with_the_crate::<_, theirs::MetadataResponse>(&metadata_response(), 13);
    agrees_with_the_crate::<_, theirs::ApiVersionsRequest>(&api_versions_request(), 4);
    agrees_with_the_crate::<_, theirs::ApiVersionsResponse>(&api_versions_response(), 4);
    agrees_with_the_crate::<_, theirs::InitProducerIdRequest>(&init_producer_id_request(), 5);
    agrees_with_the_crate::<_, theirs::InitProducerIdResponse>(&init_producer_id_response(), 5);
    agrees_with_the_crate::<_, theirs::DescribeLogDirsRequest>(&log_dirs_request(), 4);
    agrees_with_the_crate::<_, theirs::DescribeLogDirsResponse>(&log_dirs_response(), 4);
}

#[test]
fn defaults_agree_with_the_crate() {
    agrees_with_the_crate::<_, theirs::ProduceRequest>(&ProduceRequest::default(), 13);
    agrees_with_the_crate::<_, theirs::ProduceResponse>(&ProduceResponse::default(), 13);
    agrees_with_the_crate::<_, theirs::FetchRequest>(&FetchRequest::default(), 18);
    agrees_with_the_crate::<_, theirs::FetchResponse>(&FetchResponse::default(), 18);
    agrees_with_the_crate::<_, theirs::MetadataRequest>(&MetadataRequest::default(), 13);
    agrees_with_the_crate::<_, theirs::MetadataResponse>(&MetadataResponse::default(), 13);
    agrees_with_the_crate::<_, theirs::DescribeLogDirsRequest>(
        &DescribeLogDirsRequest::default(),
        4,
    );
}

/// The newest version must read back whole; the crate's fields must hold what ours were given, for
/// two fields of one size could change places without a byte more or less.
#[test]
fn fields_keep_their_places() {
    let round = |message: &ProduceResponse| ProduceResponse::decode(13, message.encode(13));
    let read = round(&produce_response()).expect("decodes");
    assert_eq!(read.topics[0].partitions, produce_response().topics[0].partitions);
    assert_eq!(read.node_endpoints, endpoints());

    let mut body = produce_response().encode(12);
    let theirs = theirs::ProduceResponse::decode(&mut body, 12).expect("decodes");
    let partition = &theirs.responses[0].partition_responses[0];
    assert_eq!((partition.index, partition.error_code, partition.base_offset), (2, 87, 77));
    assert_eq!((partition.log_append_time_ms, partition.log_start_offset), (1_000, 5));
    assert_eq!(partition.current_leader.leader_id.0, 3);
    assert_eq!(partition.current_leader.leader_epoch, 8);

    let mut body = fetch_request().encode(18);
    let theirs = theirs::FetchRequest::decode(&mut body, 18).expect("decodes");
    assert_eq!((theirs.max_wait_ms, theirs.min_bytes, theirs.max_bytes), (500, 1, 1 << 20));
    assert_eq!((theirs.session_id, theirs.session_epoch), (12, 13));
    assert_eq!(theirs.replica_state.replica_epoch, 11);
    let partition = &theirs.topics[0].partitions[0];
    assert_eq!((partition.partition, partition.current_leader_epoch), (2, 3));
    assert_eq!((partition.last_fetched_epoch, partition.partition_max_bytes), (2, 4_096));
    assert_eq!((partition.fetch_offset, partition.log_start_offset), (100, 7));
    assert_eq!(partition.high_watermark, 90);

    let mut body = fetch_response().encode(12);
    let theirs = theirs::FetchResponse::decode(&mut body, 12).expect("decodes");
    assert_eq!((theirs.throttle_time_ms, theirs.error_code, theirs.session_id), (9, 70, 12));
    let partition = &theirs.responses[0].partitions[0];
    assert_eq!((partition.high_watermark, partition.last_stable_offset), (101, 102));
    assert_eq!((partition.log_start_offset, partition.preferred_read_replica.0), (103, 5));
    assert_eq!((partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset), (1, 60));
    assert_eq!((partition.snapshot_id.epoch, partition.snapshot_id.end_offset), (1, 50));

    let mut body = metadata_response().encode(10);
    let theirs = theirs::MetadataResponse::decode(&mut body, 10).expect("decodes");
    assert_eq!((theirs.controller_id.0, theirs.cluster_authorized_operations), (4, 0xfe));
    assert_eq!((theirs.brokers[0].node_id.0, theirs.brokers[0].port), (3, 9092));
    let partition = &theirs.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.leader_id.0), (2, 3));
    assert_eq!((partition.leader_epoch, partition.replica_nodes.len()), (8, 2));
    assert_eq!((partition.isr_nodes.len(), partition.offline_replicas[0].0), (1, 4));

    let mut body = list_offsets_response().encode(10);
    let theirs = theirs::ListOffsetsResponse::decode(&mut body, 10).expect("decodes");
    let partition = &theirs.topics[0].partitions[0];
    assert_eq!((partition.timestamp, partition.offset, partition.leader_epoch), (1_000, 33, 3));

    let mut body = init_producer_id_request().encode(5);
    let theirs = theirs::InitProducerIdRequest::decode(&mut body, 5).expect("decodes");
    assert_eq!((theirs.transaction_timeout_ms, theirs.producer_id.0), (60_000, 4_000));

    let mut body = log_dirs_response().encode(4);
    let theirs = theirs::DescribeLogDirsResponse::decode(&mut body, 4).expect("decodes");
    assert_eq!((theirs.results[0].total_bytes, theirs.results[0].usable_bytes), (1 << 40, 1 << 39));
    let read = DescribeLogDirsResponse::decode(5, log_dirs_response().encode(5)).expect("decodes");
    assert_eq!(read, log_dirs_response());
    assert_eq!(log_dirs_response().encode(5).len(), log_dirs_response().encode(4).len() + 1);
}

#[test]
fn records_from_elsewhere_leave_a_gap_of_their_size() {
    let records = |token, size_bytes| FetchPartitionResponse {
        records: Records::Elsewhere { token, size_bytes },
        ..FetchPartitionResponse::default()
    };
    let elsewhere = FetchResponse {
        topics: vec![FetchTopicResponse {
            partitions: vec![records(7, 300), records(8, 0), records(9, 5)],
            ..FetchTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    let mut in_memory = elsewhere.clone();
    for partition in &mut in_memory.topics[0].partitions {
        partition.records = Records::Bytes(vec![b'x'; partition.records.size_bytes()].into());
    }
    for version in 4..=18 {
        let mut writer = frame::start_response(ApiKey::Fetch, version, 1);
        elsewhere.encode_into(version, &mut writer);
        let mut sent = Vec::new();
        let mut tokens = Vec::new();
        for piece in frame::finish(writer).into_pieces() {
            match piece {
                Piece::Bytes(bytes) => sent.extend_from_slice(&bytes),
                Piece::Records { token, size_bytes } => {
                    tokens.push((token, size_bytes));
                    sent.resize(sent.len() + size_bytes as usize, b'x');
                }
            }
        }
        let mut writer = frame::start_response(ApiKey::Fetch, version, 1);
        in_memory.encode_into(version, &mut writer);
        assert_eq!(sent, frame::finish(writer).into_bytes(), "v{version}");
        assert_eq!(tokens, [(7, 300), (9, 5)], "v{version}");
    }
}

#[test]
fn headers_are_refused_without_a_panic() {
    let ok = fixture("served-Metadata-v13-req.1.bin");
    for length in 0..ok.len() {
        let result = RequestHeader::parse(ok.slice(..length));
        assert_eq!(result.is_ok(), length >= 27, "cut at {length}: {result:?}");
    }
    let cases: [(&str, &[u8], Refused); 4] = [
        ("unknown API", &[3, 231, 0, 0], Refused::UnknownApi { key: 999 }),
        ("retired API", &[0, 4, 0, 0], Refused::UnknownApi { key: 4 }),
        (
            "Produce 2",
            &[0, 0, 0, 2],
            Refused::UnsupportedVersion { key: ApiKey::Produce, version: 2 },
        ),
        (
            "Fetch 19",
            &[0, 1, 0, 19],
            Refused::UnsupportedVersion { key: ApiKey::Fetch, version: 19 },
        ),
    ];
    for (name, frame, refused) in cases {
        let frame = Bytes::copy_from_slice(frame);
        assert_eq!(RequestHeader::parse(frame).expect_err(name), refused, "{name}");
    }
    for version in [5, 99, -1, i16::MIN, i16::MAX] {
        let mut frame = vec![0, 18];
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 6, 255, 255, 0]);
        let (header, _) = RequestHeader::parse(frame.into()).expect("ApiVersions has an answer");
        assert_eq!((header.is_served(), header.correlation_id), (false, 6), "{version}");
    }
}

#[test]
fn lengths_of_frames_are_checked() {
    let cases = [(0, Ok(0)), (100, Ok(100)), (101, Err(())), (-1, Err(())), (i32::MIN, Err(()))];
    for (raw, expected) in cases {
        let length = frame::check_length(i32::to_be_bytes(raw), 100).map_err(|_| ());
        assert_eq!(length, expected, "{raw}");
    }
    let mut buffer = bytes::BytesMut::from(&[0, 0, 0, 2, 7][..]);
    assert_eq!(frame::split_frame(&mut buffer, 100), Ok(None));
    buffer.extend_from_slice(&[8, 0]);
    assert_eq!(frame::split_frame(&mut buffer, 100), Ok(Some(Bytes::from_static(&[7, 8]))));
    assert_eq!(buffer, [0][..]);
}

#[test]
fn huge_counts_are_refused() {
    /// Whether a body is refused.
    type Refuses = fn(Bytes) -> bool;
    let cases: [(&str, Refuses, &[u8]); 9] = [
        ("Metadata 1", |b| MetadataRequest::decode(1, b).is_err(), &[0x7f, 255, 255, 255, 0]),
        ("Metadata 1, negative", |b| MetadataRequest::decode(1, b).is_err(), &[255, 0, 0, 0]),
        ("Metadata 0, null", |b| MetadataRequest::decode(0, b).is_err(), &[255, 255, 255, 255]),
        (
            "Metadata 12",
            |b| MetadataRequest::decode(12, b).is_err(),
            &[255, 255, 255, 255, 15, 1, 0, 0],
        ),
        (
            "Metadata 12, endless varint",
            |b| MetadataRequest::decode(12, b).is_err(),
            &[255, 255, 255, 255, 255, 255, 0],
        ),
        (
            "Produce 3, null records",
            |b| ProduceRequest::decode(3, b).is_err(),
            &[
                255, 255, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 0, 255,
                255, 255, 255,
            ],
        ),
        (
            "DescribeConfigs 1",
            |b| cold::decode::<theirs::DescribeConfigsRequest>(1, b).is_err(),
            &[0, 0, 0, 1, 2, 0, 0, 0x7f, 255, 255, 255, 0],
        ),
        (
            "CreateTopics 7",
            |b| cold::decode::<theirs::CreateTopicsRequest>(7, b).is_err(),
            &[255, 255, 255, 255, 15, 1, 0, 0],
        ),
        (
            "ElectLeaders 3, which is not served",
            |b| cold::decode::<theirs::ElectLeadersRequest>(3, b).is_err(),
            &[0, 1, 0, 0, 0, 0, 0],
        ),
    ];
    for (name, refused, body) in cases {
        assert!(refused(Bytes::copy_from_slice(body)), "{name}");
    }
}

#[test]
fn bytes_behind_the_body_are_ignored() {
    let mut body = metadata_request().encode(13).to_vec();
    body.extend_from_slice(b"more");
    assert_eq!(
        MetadataRequest::decode(13, body.into()).expect("decodes").encode(13),
        metadata_request().encode(13)
    );
}

#[test]
fn bytes_that_are_no_utf8_become_replacement_characters() {
    let read = InitProducerIdRequest::decode(0, Bytes::from_static(&[0, 2, 255, b'a', 0, 0, 0, 0]));
    assert_eq!(read.expect("decodes").transactional_id.as_deref(), Some("\u{fffd}a"));
}

#[test]
fn unknown_tags_are_passed_over() {
    let mut body = init_producer_id_request().encode(5).to_vec();
    assert_eq!(body.pop(), Some(0));
    body.extend_from_slice(&[2, 9, 1, 0, 77, 2, 1, 2]);
    let read = InitProducerIdRequest::decode(5, body.into()).expect("decodes");
    assert_eq!(read, init_producer_id_request());
}

#[test]
fn names_are_null_only_where_the_version_allows_it() {
    let unknown_id = MetadataResponse {
        topics: vec![MetadataTopic { topic_id: ID, ..MetadataTopic::default() }],
        ..MetadataResponse::default()
    };
    for version in 10..=13 {
        let read = MetadataResponse::decode(version, unknown_id.encode(version)).expect("decodes");
        let expected = if version >= 12 { None } else { Some("") };
        assert_eq!(read.topics[0].name.as_deref(), expected, "v{version}");
    }
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    for version in 0..=13 {
        let read = MetadataRequest::decode(version, all.encode(version)).expect("decodes");
        assert!(read.asks_all_topics(version), "v{version}");
    }
}

/// xorshift64: the same history for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

/// Cuts the body at every length, which must be refused, and changes it at random, which must end.
fn survives<M: Message>(message: &M, seed: u64) {
    let mut random = Random(seed);
    for version in M::KEY.row().version_min..=M::KEY.row().version_max {
        let body = message.encode(version);
        for length in 0..body.len() {
            let result = M::decode(version, body.slice(..length));
            assert!(result.is_err(), "{:?} v{version} cut at {length}", M::KEY);
        }
        for _ in 0..300 {
            let mut changed = body.to_vec();
            for _ in 0..=random.below(4) {
                if changed.is_empty() {
                    break;
                }
                let at = random.below(changed.len());
                changed[at] = [0, 1, 0x7f, 0x80, 0xff, random.below(256) as u8][random.below(6)];
            }
            if let Ok(read) = M::decode(version, changed.into()) {
                read.encode(version);
            }
        }
        for _ in 0..100 {
            let noise: Vec<u8> = (0..random.below(64)).map(|_| random.below(256) as u8).collect();
            let _ = M::decode(version, noise.into());
        }
    }
}

#[test]
fn cut_changed_and_random_bodies_are_survived() {
    survives(&produce_request(), 1);
    survives(&produce_response(), 2);
    survives(&fetch_request(), 3);
    survives(&fetch_response(), 4);
    survives(&list_offsets_request(), 5);
    survives(&list_offsets_response(), 6);
    survives(&metadata_request(), 7);
    survives(&metadata_response(), 8);
    survives(&api_versions_request(), 9);
    survives(&api_versions_response(), 10);
    survives(&init_producer_id_request(), 11);
    survives(&init_producer_id_response(), 12);
    survives(&log_dirs_request(), 13);
    survives(&log_dirs_response(), 14);
}
