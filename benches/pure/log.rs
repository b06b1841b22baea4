//! What do an append and finding an offset by the index cost, beside the disk? The log runs on the
//! simulated runtime, whose disk is memory; its bookkeeping is in the figures.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use corelog::base::{LeaderEpoch, Offset};
use corelog::log::{AppendBatch, AtLeast, BatchMeta, Log, LogConfig, Setup};
use corelog::protocol::batch::stamp;
use corelog::runtime::{Runtime, sim};
use criterion::Criterion;

use crate::samples::batch;

/// Batches of one log: 16 MiB, of which the youngest index entries lie in memory.
const BATCH_COUNT: u64 = 1024;
const RECORD_COUNT: u64 = 16;
const READ_COUNT_MAX: u64 = 100_000;

fn batches() -> Vec<AppendBatch> {
    let (header, bytes) = batch(RECORD_COUNT as usize, 1024);
    (0..BATCH_COUNT)
        .map(|number| {
            let base_offset = Offset::new(number * RECORD_COUNT);
            let meta = BatchMeta {
                base_offset,
                last_offset: base_offset + (RECORD_COUNT - 1),
                max_timestamp: header.max_timestamp,
                max_timestamp_offset: base_offset,
                size_bytes: bytes.len() as u32,
                leader_epoch: LeaderEpoch::ZERO,
            };
            AppendBatch { meta, parts: stamp(&bytes, base_offset, LeaderEpoch::ZERO) }
        })
        .collect()
}

async fn open(runtime: &Runtime) -> Log {
    let setup = Setup {
        directory: PathBuf::from("/data/orders-0"),
        config: LogConfig::default(),
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        clean: false,
        journaled: Vec::new(),
    };
    let (log, _) = Log::open(runtime, setup).await.expect("a new log opens");
    log.begin_epoch(LeaderEpoch::ZERO, Offset::ZERO).await;
    log
}

#[expect(clippy::disallowed_methods, reason = "what is measured is real time, not the world's")]
fn now() -> Instant {
    Instant::now()
}

/// The time of `count` calls of what `some` times, at most `count_max` of them in one world: a
/// world has an end.
fn in_worlds(count: u64, count_max: u64, some: impl Fn(u64) -> Duration) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let now_count = left.min(count_max);
        left -= now_count;
        took += some(now_count);
    }
    took
}

/// The time of some appends to a new log.
fn appending(count: u64) -> Duration {
    sim::block_on(7, move |runtime| async move {
        let (log, batches) = (open(&runtime).await, batches());
        let began = now();
        for batch in &batches[..count as usize] {
            log.append(std::slice::from_ref(batch)).await.expect("the disk is memory");
        }
        began.elapsed()
    })
}

/// The time of some reads of one batch, of offsets all over the log.
fn finding(count: u64) -> Duration {
    sim::block_on(7, move |runtime| async move {
        let log = open(&runtime).await;
        log.append(&batches()).await.expect("the disk is memory");
        let end = log.end();
        let began = now();
        for turn in 0..count {
            // A step that has no divisor in common with the number of offsets.
            let from = Offset::new(turn * 7919 % end.get());
            let read = log.read(from, end, 1 << 14, AtLeast::OneBatch).await;
            assert!(read.expect("the offset is there").slice.is_some());
        }
        began.elapsed()
    })
}

/// All of this file.
pub fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    group.bench_function("append 16 KiB", |bencher| {
        bencher.iter_custom(|count| in_worlds(count, BATCH_COUNT, appending));
    });
    group.bench_function("find an offset", |bencher| {
        bencher.iter_custom(|count| in_worlds(count, READ_COUNT_MAX, finding));
    });
    group.finish();
}
