//! What does putting an answer into bytes cost? Records of a fetch stay where they lie.

use corelog::base::{LeaderEpoch, NodeId, Offset, Uuid};
use corelog::protocol::fetch::{FetchPartitionResponse, FetchResponse, FetchTopicResponse};
use corelog::protocol::metadata::{
    MetadataBroker, MetadataPartition, MetadataResponse, MetadataTopic,
};
use corelog::protocol::produce::{ProducePartitionResponse, ProduceResponse, ProduceTopicResponse};
use corelog::protocol::wire::Records;
use corelog::protocol::{ApiKey, Str};
use criterion::{BenchmarkId, Criterion};

use crate::samples::{TOPIC, TOPIC_ID, header};

fn produced(partition_count: i32) -> ProduceResponse {
    let partitions = (0..partition_count)
        .map(|index| ProducePartitionResponse {
            index,
            base_offset: Some(Offset::new(1_000_000)),
            log_start_offset: Some(Offset::ZERO),
            ..ProducePartitionResponse::default()
        })
        .collect();
    let name = Str::from_static_str(TOPIC);
    let topics = vec![ProduceTopicResponse { name, topic_id: Some(TOPIC_ID), partitions }];
    ProduceResponse { topics, ..ProduceResponse::default() }
}

fn fetched(partition_count: i32) -> FetchResponse {
    let partitions = (0..partition_count)
        .map(|index| FetchPartitionResponse {
            index,
            high_watermark: Some(Offset::new(1_000_016)),
            last_stable_offset: Some(Offset::new(1_000_016)),
            log_start_offset: Some(Offset::ZERO),
            records: Records::Elsewhere { token: index as u32, size_bytes: 16_500 },
            ..FetchPartitionResponse::default()
        })
        .collect();
    let name = Str::from_static_str(TOPIC);
    let topics = vec![FetchTopicResponse { name, topic_id: Some(TOPIC_ID), partitions }];
    FetchResponse { session_id: 5, topics, ..FetchResponse::default() }
}

fn known(topic_count: u64, partition_count: i32) -> MetadataResponse {
    let node = NodeId(1);
    let broker = MetadataBroker {
        node,
        host: Str::from_static_str("broker-1.example.org"),
        port: 9092,
        ..MetadataBroker::default()
    };
    let topic = |number| {
        let partitions = (0..partition_count).map(|index| MetadataPartition {
            index,
            leader: Some(node),
            leader_epoch: Some(LeaderEpoch::ZERO),
            replicas: vec![node],
            in_sync: vec![node],
            ..MetadataPartition::default()
        });
        MetadataTopic {
            name: Some(Str::from_string(format!("{TOPIC}-{number}"))),
            topic_id: Some(Uuid::from_halves(7, number)),
            partitions: partitions.collect(),
            ..MetadataTopic::default()
        }
    };
    MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some(Str::from_static_str("abcdefghijklmnopqrstuv")),
        controller: Some(node),
        topics: (1..=topic_count).map(topic).collect(),
        ..MetadataResponse::default()
    }
}

/// All of this file.
pub fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (version, partition_count) in [(9, 1), (13, 1), (13, 16)] {
        let (header, answer) = (header(ApiKey::Produce, version), produced(partition_count));
        let name = format!("v{version}, {partition_count} partitions");
        group.bench_function(BenchmarkId::new("produce", name), |bencher| {
            bencher.iter(|| header.response(&answer));
        });
    }
    for (version, partition_count) in [(11, 1), (17, 0), (17, 1), (17, 16), (17, 1000)] {
        let (header, answer) = (header(ApiKey::Fetch, version), fetched(partition_count));
        let name = format!("v{version}, {partition_count} partitions");
        group.bench_function(BenchmarkId::new("fetch", name), |bencher| {
            bencher.iter(|| header.response(&answer));
        });
    }
    for (topic_count, partition_count) in [(1, 16), (100, 16), (1000, 16)] {
        let (header, answer) = (header(ApiKey::Metadata, 12), known(topic_count, partition_count));
        let name = format!("{topic_count} topics, {partition_count} partitions each");
        group.bench_function(BenchmarkId::new("metadata", name), |bencher| {
            bencher.iter(|| header.response(&answer));
        });
    }
    group.finish();
}
