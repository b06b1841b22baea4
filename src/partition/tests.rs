//! The producers' state and the index of aborted transactions, from what a crash left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::{AppendBatch, BatchMeta, Log, LogConfig, Setup};
use crate::partition::PartitionSettings;
use crate::partition::replica::load_producers;
use crate::protocol::batch::stamp;
use crate::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use crate::protocol::record::{EndMarker, Outcome};
use crate::runtime::Runtime;
use crate::runtime::sim::block_on;

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
        let settings = PartitionSettings {
            log: LogConfig::default(),
            in_sync_count_min: 1,
            flush_record_count: u64::MAX,
            unsynced_bytes_max: u64::MAX,
            flush_interval: None,
            producer_expiration: Duration::from_secs(3600),
        };
        for round in 0..2 {
            load_producers(&log, &settings, Timestamp::from_millis(9)).await.expect("it loads");
            let found = log.aborted_transactions(Offset::ZERO, log.end()).await.expect("it reads");
            let expected = [(1, Offset::ZERO), (3, Offset::new(7))];
            assert_eq!(found, expected, "round {round}");
        }
    });
}
