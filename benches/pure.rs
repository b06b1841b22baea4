//! What do the pure parts of a produce request cost: checking a batch, stamping it?
//!
//! `cargo bench --bench pure`
#![expect(missing_docs, reason = "criterion's macro makes a function without any")]

use bytes::Bytes;
use corelog::base::{LeaderEpoch, Offset, Timestamp};
use corelog::protocol::batch::{TimestampType, stamp};
use corelog::protocol::builder::{BatchBuilder, NewRecord};
use corelog::protocol::validate::{Rules, producer_batches};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const NOW: Timestamp = Timestamp::from_millis(1_767_000_000_000);

/// Sixteen records of 1 KiB.
fn batch() -> Bytes {
    let value = [7; 1024];
    let mut builder = BatchBuilder::new();
    for _ in 0..16 {
        builder.append(&NewRecord {
            timestamp: NOW.to_wire(),
            key: None,
            value: Some(&value),
            headers: &[],
        });
    }
    builder.build().expect("a small batch")
}

fn produce(criterion: &mut Criterion) {
    let batch = batch();
    let rules = Rules {
        produce_version: 9,
        timestamp_type: TimestampType::Create,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compression: None,
        compacted: false,
        batch_bytes_max: 1 << 20,
        segment_bytes_max: 1 << 30,
    };
    let mut group = criterion.benchmark_group("produce");
    group.throughput(Throughput::Bytes(batch.len() as u64));
    group.bench_function("validate 16 KiB", |bencher| {
        bencher.iter(|| producer_batches(&batch, &rules, NOW).expect("a good batch"));
    });
    group.bench_function("stamp 16 KiB", |bencher| {
        bencher.iter(|| stamp(&batch, Offset::new(12_345), LeaderEpoch::new(3)));
    });
    group.finish();
}

criterion_group!(benches, produce);
criterion_main!(benches);
