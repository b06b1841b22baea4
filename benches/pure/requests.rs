//! What does taking a request apart cost: frame, header, body?

use bytes::{Bytes, BytesMut};
use corelog::base::Offset;
use corelog::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelog::protocol::frame::{RequestHeader, split_frame};
use corelog::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use corelog::protocol::produce::{ProducePartition, ProduceRequest, ProduceTopic};
use corelog::protocol::{ApiKey, Message, Str};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

use crate::samples::{TOPIC, TOPIC_ID, batch, header};

const FRAME_BYTES_MAX: usize = 100 << 20;

/// A Produce request with one batch for each of so many partitions.
pub fn produce(partition_count: i32, batch: &Bytes) -> ProduceRequest {
    let partitions = (0..partition_count)
        .map(|index| ProducePartition { index, records: batch.clone() })
        .collect();
    let name = Str::from_static_str(TOPIC);
    let topics = vec![ProduceTopic { name, topic_id: Some(TOPIC_ID), partitions }];
    ProduceRequest { acks: -1, timeout_ms: 30_000, topics, ..ProduceRequest::default() }
}

/// A Fetch request in a session that names so many partitions.
pub fn fetch(partition_count: i32) -> FetchRequest {
    let partitions = (0..partition_count)
        .map(|index| FetchPartition {
            index,
            fetch_offset: Some(Offset::new(1_000_000)),
            max_bytes: 1 << 20,
            ..FetchPartition::default()
        })
        .collect();
    let name = Str::from_static_str(TOPIC);
    let topic = FetchTopic { name, topic_id: Some(TOPIC_ID), partitions };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_id: 5,
        session_epoch: 7,
        topics: if partition_count == 0 { Vec::new() } else { vec![topic] },
        ..FetchRequest::default()
    }
}

/// The body of a request, as the broker gets it.
fn body<M: Message>(version: i16, message: &M) -> Bytes {
    let frame = header(M::KEY, version).request(message).slice(4..);
    RequestHeader::parse(frame).expect("our own frame").1
}

/// All of this file.
pub fn run(criterion: &mut Criterion) {
    frames(criterion);
    bodies(criterion);
}

fn frames(criterion: &mut Criterion) {
    let (_, small) = batch(1, 100);
    let frame = header(ApiKey::Produce, 11).request(&produce(1, &small));
    let mut group = criterion.benchmark_group("frame");
    let frame_count = 16;
    let received = frame.repeat(frame_count);
    group.throughput(Throughput::Elements(frame_count as u64));
    group.bench_function("split 16 small frames", |bencher| {
        bencher.iter_batched(
            || BytesMut::from(&received[..]),
            |mut buffer| {
                let mut count = 0;
                while let Ok(Some(_)) = split_frame(&mut buffer, FRAME_BYTES_MAX) {
                    count += 1;
                }
                assert_eq!(count, frame_count);
            },
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    for (name, key, version) in [("classic", ApiKey::Produce, 8), ("flexible", ApiKey::Produce, 11)]
    {
        let frame = header(key, version).request(&produce(1, &small)).slice(4..);
        group.bench_function(BenchmarkId::new("header", name), |bencher| {
            bencher.iter(|| RequestHeader::parse(frame.clone()).expect("our own frame"));
        });
    }
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let (_, batch) = batch(16, 1024);
    for (version, partition_count) in [(9, 1), (11, 1), (11, 16), (13, 1)] {
        let body = body(version, &produce(partition_count, &batch));
        let name = format!("v{version}, {partition_count} partitions");
        group.bench_function(BenchmarkId::new("produce", name), |bencher| {
            bencher.iter(|| ProduceRequest::decode(version, body.clone()).expect("our own"));
        });
    }
    for (version, partition_count) in [(11, 1), (17, 0), (17, 1), (17, 16), (17, 1000)] {
        let body = body(version, &fetch(partition_count));
        let name = format!("v{version}, {partition_count} partitions");
        group.bench_function(BenchmarkId::new("fetch", name), |bencher| {
            bencher.iter(|| FetchRequest::decode(version, body.clone()).expect("our own"));
        });
    }
    let topic = MetadataRequestTopic { topic_id: None, name: Some(Str::from_static_str(TOPIC)) };
    let asked = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let body = body(12, &asked);
    group.bench_function("metadata/v12, 1 topic", |bencher| {
        bencher.iter(|| MetadataRequest::decode(12, body.clone()).expect("our own"));
    });
    group.finish();
}
