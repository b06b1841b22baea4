//! The producers' state and the index of aborted transactions, from what a crash left; what is
//! answered while the disk is slow.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{LeaderEpoch, NodeId, Offset, PartitionKey, Timestamp, Uuid};
use crate::log::{AppendBatch, BatchMeta, Log, LogConfig, Setup};
use crate::partition::message::{Append, AppendOutcome, RequiredAcks};
use crate::partition::replica::{Leadership, OpenPartition, load_producers};
use crate::partition::{Partition, PartitionSettings};
use crate::protocol::batch::stamp;
use crate::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use crate::protocol::record::{EndMarker, Outcome};
use crate::protocol::validate::Validated;
use crate::runtime::sim::{World, block_on};
use crate::runtime::{Lanes, Runtime};

const DIRECTORY: &str = "/data/t-0";

async fn open(runtime: &Runtime) -> Log {
    let setup = Setup {
        directory: PathBuf::from(DIRECTORY),
        config: LogConfig::default(),
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        clean: false,
        journaled: Vec::new(),
    };
    Log::open(runtime, setup).await.expect("the log opens").0
}

async fn append(log: &Log, builder: BatchBuilder) {
    let (header, bytes) = builder.build_with_header().expect("nothing is compressed");
    let base_offset = log.end();
    let meta = BatchMeta {
        base_offset,
        last_offset: base_offset + header.last_offset_delta as u64,
        max_timestamp: header.max_timestamp,
        max_timestamp_offset: base_offset,
        size_bytes: bytes.len() as u32,
        leader_epoch: LeaderEpoch::ZERO,
    };
    let parts = stamp(&bytes, base_offset, LeaderEpoch::ZERO);
    log.append(&[AppendBatch { meta, parts }]).await.expect("it appends");
}

fn of_producer(id: i64, base_sequence: i32) -> BatchBuilder {
    BatchBuilder::new().producer(ProducerStamp { id, epoch: 0, base_sequence }).transactional()
}

fn records(id: i64, count: usize) -> BatchBuilder {
    let mut builder = of_producer(id, 0);
    for _ in 0..count {
        builder.append(&NewRecord { timestamp: 7, key: None, value: Some(b"v"), headers: &[] });
    }
    builder
}

fn marker(id: i64, outcome: Outcome) -> BatchBuilder {
    let mut builder = of_producer(id, -1).control();
    let marker = EndMarker { outcome, coordinator_epoch: 3 };
    builder.append_end_marker(marker, Timestamp::from_millis(8));
    builder
}

fn settings(flush_record_count: u64) -> PartitionSettings {
    PartitionSettings {
        log: LogConfig::default(),
        in_sync_count_min: 1,
        flush_record_count,
        unsynced_bytes_max: u64::MAX,
        flush_interval: None,
        producer_expiration: Duration::from_secs(3600),
    }
}

/// A partition whose appends are synced before they are acknowledged.
async fn open_synced(runtime: &Runtime) -> Partition {
    let node = NodeId(1);
    let open = OpenPartition {
        key: PartitionKey { topic: Uuid::from_halves(7, 7), partition: 0 },
        topic: Rc::from("t"),
        directory: PathBuf::from(DIRECTORY),
        settings: settings(1),
        leadership: Leadership {
            node,
            epoch: LeaderEpoch::ZERO,
            replicas: vec![node],
            in_sync: vec![node],
        },
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        clean: false,
        journaled: Vec::new(),
        journal: None,
    };
    Partition::open(runtime, open).await.expect("it opens").0
}

/// The outcomes of appends, in the order in which they were told.
type Outcomes = Rc<RefCell<Vec<AppendOutcome>>>;

/// Appends one record of an idempotent producer.
fn append_to(partition: &Partition, sequence: i32, acks: RequiredAcks, outcomes: &Outcomes) {
    let stamp = ProducerStamp { id: 5, epoch: 0, base_sequence: sequence };
    let mut builder = BatchBuilder::new().producer(stamp);
    builder.append(&NewRecord { timestamp: 7, key: None, value: Some(b"v"), headers: &[] });
    let (header, bytes) = builder.build_with_header().expect("nothing is compressed");
    let batch = Validated {
        header,
        bytes,
        append_time: None,
        max_timestamp_offset_delta: 0,
        rewritten: false,
    };
    let outcomes = outcomes.clone();
    partition.append(Append { batch, acks }, move |outcome| outcomes.borrow_mut().push(outcome));
}

#[test]
fn a_duplicate_is_not_acknowledged_before_its_original_is_synced() {
    for acks in [RequiredAcks::Leader, RequiredAcks::All] {
        let world = World::new(3);
        let machine = world.machine("host");
        let (outcomes, is_slow) = (Outcomes::default(), Rc::new(Cell::new(false)));
        let (told, goes_on) = (outcomes.clone(), is_slow.clone());
        let broker = world.start_process(machine, "broker", 1, |runtime, _: Lanes<()>| {
            let (told, goes_on) = (told.clone(), goes_on.clone());
            async move {
                let partition = open_synced(&runtime).await;
                append_to(&partition, 0, acks, &told);
                while !goes_on.get() {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(told.take().len(), 1, "the disk was quick");
                append_to(&partition, 1, acks, &told);
                // It goes to the page cache; its sync takes longer.
                while partition.log().end() < Offset::new(2) {
                    runtime.sleep(Duration::from_micros(10)).await;
                }
                append_to(&partition, 1, acks, &told);
                runtime.sleep(Duration::from_millis(1)).await;
                assert!(partition.high_watermark() < Offset::new(2), "the sync is quick");
                assert_eq!(told.take(), [], "{acks:?}: acknowledged, and not on disk");
                runtime.sleep(Duration::from_secs(60)).await;
            }
        });
        world.run_for(Duration::from_secs(1));
        world.set_disk_slowness(machine, 1000);
        is_slow.set(true);
        world.run_for(Duration::from_secs(120));
        assert!(world.exited(broker), "{acks:?}: it hangs");
        let offsets = outcomes.take().into_iter().map(|one| one.map(|told| told.base_offset));
        assert_eq!(offsets.collect::<Vec<_>>(), [Ok(Offset::new(1)); 2], "{acks:?}");
    }
}

#[test]
fn a_lost_index_of_aborted_transactions_is_made_anew() {
    block_on(1, |runtime| async move {
        let log = open(&runtime).await;
        append(&log, records(1, 3)).await;
        append(&log, records(2, 2)).await;
        append(&log, marker(1, Outcome::Aborted)).await;
        append(&log, marker(2, Outcome::Committed)).await;
        append(&log, records(3, 1)).await;
        append(&log, marker(3, Outcome::Aborted)).await;
        log.close().await.expect("it closes");
        let index = Path::new(DIRECTORY).join("00000000000000000000.txnindex");
        assert!(runtime.disk().read(&index).await.is_err(), "a crash took it");

        let log = open(&runtime).await;
        let settings = settings(u64::MAX);
        for round in 0..2 {
            load_producers(&log, &settings, Timestamp::from_millis(9)).await.expect("it loads");
            let found = log.aborted_transactions(Offset::ZERO, log.end()).await.expect("it reads");
            let expected = [(1, Offset::ZERO), (3, Offset::new(7))];
            assert_eq!(found, expected, "round {round}");
        }
    });
}
