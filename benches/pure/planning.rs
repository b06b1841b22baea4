//! What does deciding cost: whether a batch follows its producer's last one, what a written batch
//! lets happen, what a fetch in a session is about and which partitions its answer names?

use corelog::base::{Instant, LeaderEpoch, NodeId, Offset, ShardId};
use corelog::handlers::session::{
    Answered, PartitionRef, SessionAsk, SessionCache, TopicRef, Wanted,
};
use corelog::partition::leader::{Input, Leader, Start, Ticket};
use corelog::partition::producers::ProducerStates;
use criterion::{BenchmarkId, Criterion};

use crate::samples::{TOPIC_ID, batch};

const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// All of this file.
pub fn run(criterion: &mut Criterion) {
    appends(criterion);
    fetches(criterion);
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for producer_count in [1, 1000] {
        let mut states = ProducerStates::new();
        let (mut header, _) = batch(16, 1024);
        header.producer_epoch = 0;
        let record_count = header.record_count;
        for id in 0..producer_count {
            header.producer_id = id;
            header.base_sequence = 0;
            states.record(&header);
        }
        header.producer_id = producer_count / 2;
        let name = BenchmarkId::new("sequence", format!("{producer_count} producers"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                // Sequences begin again at 0 behind the largest.
                let next = i64::from(header.base_sequence) + i64::from(record_count);
                header.base_sequence = (next % (1 << 31)) as i32;
                header.base_offset += i64::from(record_count);
                states.check(&header).expect("the next one");
                states.record(&header);
            });
        });
    }
    let mut effects = Vec::new();
    let node = NodeId(1);
    let start = Start {
        node,
        epoch: LeaderEpoch::ZERO,
        replicas: vec![node],
        in_sync: vec![node],
        in_sync_count_min: 1,
        log_end: Offset::ZERO,
        high_watermark: Offset::ZERO,
    };
    let mut leader = Leader::new(start, &mut effects);
    let mut end = 0;
    group.bench_function("written and acknowledged, one replica", |bencher| {
        bencher.iter(|| {
            end += 16;
            effects.clear();
            let end = Offset::new(end);
            leader.handle(Input::Await { ticket: Ticket(end.get()), end }, &mut effects);
            leader.handle(Input::Written { end }, &mut effects);
            assert!(!effects.is_empty());
        });
    });
    group.finish();
}

fn wanted(partition: i32) -> (PartitionRef, Wanted) {
    let place = PartitionRef { topic: TopicRef::Id(Some(TOPIC_ID)), partition };
    let wanted = Wanted {
        offset: 1_000_000,
        bytes_max: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    };
    (place, wanted)
}

fn answered(records_bytes: u64) -> Answered {
    Answered {
        records_bytes,
        high_watermark: 1_000_000,
        log_start: 0,
        error_code: 0,
        redirects: false,
    }
}

fn fetches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch session");
    for partition_count in [1, 16, 1000] {
        let all: Vec<_> = (0..partition_count).map(wanted).collect();
        let found = all.iter().map(|(place, wanted)| (place.clone(), *wanted, answered(0)));
        let mut cache = SessionCache::new(ShardId(0), 100);
        let id = cache.create(NOW, true, found.collect(), 12_345_678);
        let changed = [wanted(partition_count / 2)];
        let mut epoch = 1;
        let name = format!("{partition_count} partitions, one moved");
        group.bench_function(BenchmarkId::new("look up", &name), |bencher| {
            bencher.iter(|| {
                let ask = SessionAsk { id, epoch, by_topic_id: true };
                epoch += 1;
                cache.begin(NOW, ask, &changed, &[]).expect("the session is there")
            });
        });
        group.bench_function(BenchmarkId::new("choose what to answer", &name), |bencher| {
            bencher.iter(|| {
                let named = all.iter().filter(|(place, _)| {
                    let records_bytes = if *place == changed[0].0 { 16_500 } else { 0 };
                    cache.must_answer(id, place, answered(records_bytes))
                });
                assert_eq!(named.count(), 1);
            });
        });
    }
    group.finish();
}
