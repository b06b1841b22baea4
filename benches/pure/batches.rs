//! What do checking, stamping and building a batch cost?

use std::hint::black_box;

use corelog::base::{LeaderEpoch, Offset};
use corelog::protocol::batch::{BatchHeader, TimestampType, stamp};
use corelog::protocol::validate::{Rules, Spent, producer_batches};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::samples::{NOW, batch};

/// The usual settings of a topic.
fn rules() -> Rules {
    Rules {
        produce_version: 9,
        timestamp_type: TimestampType::Create,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compression: None,
        compacted: false,
        batch_bytes_max: 1 << 20,
        segment_bytes_max: 1 << 30,
        unpacked_bytes_max: 256 << 20,
    }
}

/// All of this file.
pub fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    let rules = rules();
    for (name, record_count, value_bytes) in
        [("1 x 100 B", 1, 100), ("16 x 1 KiB", 16, 1024), ("256 x 1 KiB", 256, 1024)]
    {
        let (_, bytes) = batch(record_count, value_bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("validate", name), |bencher| {
            bencher.iter(|| {
                producer_batches(&bytes, &rules, NOW, &mut Spent::default()).expect("a good batch")
            });
        });
        group.bench_function(BenchmarkId::new("build", name), |bencher| {
            bencher.iter(|| batch(record_count, value_bytes));
        });
    }
    let (_, bytes) = batch(16, 1024);
    group.throughput(Throughput::Elements(1));
    group.bench_function("stamp", |bencher| {
        bencher.iter(|| stamp(&bytes, Offset::new(12_345), LeaderEpoch::new(3)));
    });
    group.bench_function("parse header", |bencher| {
        bencher.iter(|| BatchHeader::parse(black_box(&bytes)));
    });
    group.finish();
}
