//! What the tests of this room share: batches, a log on a simulated disk, reading it back.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::{AppendBatch, AtLeast, BatchMeta, Log, LogConfig, Opened, Setup};
use crate::protocol::batch::{BatchHeader, BatchView, Batches, stamp};
use crate::protocol::builder::{BatchBuilder, NewRecord};
use crate::runtime::{FileLease, FileSlice, OpenMode, Runtime};

/// Where the log of most tests is.
pub(super) const DIRECTORY: &str = "/data/t-0";

pub(super) fn offset(raw: u64) -> Offset {
    Offset::new(raw)
}

/// A batch of `record_count` records of `value_bytes` each, at `base`.
pub(super) fn batch(
    base: u64,
    record_count: u64,
    value_bytes: usize,
    timestamp: i64,
) -> AppendBatch {
    let value = vec![base as u8; value_bytes];
    let mut builder = BatchBuilder::new();
    for _ in 0..record_count {
        builder.append(&NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
    }
    let (header, bytes) = builder.build_with_header().expect("nothing is compressed");
    stamped(&header, &bytes, base, LeaderEpoch::ZERO)
}

pub(super) fn stamped(
    header: &BatchHeader,
    bytes: &Bytes,
    base: u64,
    leader_epoch: LeaderEpoch,
) -> AppendBatch {
    let base_offset = offset(base);
    let last_offset = base_offset + header.last_offset_delta as u64;
    let meta = BatchMeta {
        base_offset,
        last_offset,
        max_timestamp: header.max_timestamp,
        max_timestamp_offset: base_offset,
        size_bytes: bytes.len() as u32,
        leader_epoch,
    };
    AppendBatch { meta, parts: stamp(bytes, base_offset, leader_epoch) }
}

/// The batches of a file that Kafka wrote, to append again.
pub(super) fn batches_of(file: &'static [u8]) -> Vec<AppendBatch> {
    let all = Bytes::from_static(file);
    let mut position = 0;
    Batches::new(file)
        .map(|batch| {
            let batch: BatchView<'_> = batch.expect("Kafka wrote it");
            let bytes = all.slice(position..position + batch.bytes().len());
            position += bytes.len();
            let epoch = LeaderEpoch::from_wire(batch.header.partition_leader_epoch);
            let base = batch.header.base_offset as u64;
            stamped(&batch.header, &bytes, base, epoch.expect("Kafka stamped it"))
        })
        .collect()
}

/// Segments of a few batches.
pub(super) fn small() -> LogConfig {
    LogConfig { segment_bytes: 4096, index_interval_bytes: 256, ..LogConfig::default() }
}

pub(super) fn setup(config: &LogConfig) -> Setup {
    Setup {
        directory: PathBuf::from(DIRECTORY),
        config: config.clone(),
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        clean: false,
        journaled: Vec::new(),
    }
}

pub(super) async fn open(runtime: &Runtime, config: &LogConfig) -> (Log, Opened) {
    Log::open(runtime, setup(config)).await.expect("the log opens")
}

/// Appends as a partition's writer does: one batch at a time, rolling before it where due.
pub(super) async fn append(log: &Log, batch: &AppendBatch) {
    if log.will_roll(&batch.meta, Timestamp::from_millis(0)) {
        log.roll().await.expect("it rolls");
    }
    log.append(std::slice::from_ref(batch)).await.expect("it appends");
}

/// The bytes of a slice.
pub(super) fn bytes_of(slice: &FileSlice) -> Vec<u8> {
    let FileLease::Sim(lease) = &slice.file else { panic!("tests run on the simulated disk") };
    lease.read(slice.position, slice.length as usize)
}

/// All batch headers from `from` to `end`, by reads of `bytes_max`.
pub(super) async fn read_all(
    log: &Log,
    from: Offset,
    end: Offset,
    bytes_max: u32,
) -> Vec<BatchHeader> {
    let mut headers = Vec::new();
    let mut next = from;
    loop {
        let read = log.read(next, end, bytes_max, AtLeast::OneBatch).await.expect("in range");
        let Some(slice) = read.slice else { return headers };
        let bytes = bytes_of(&slice);
        assert!(bytes.len() >= read.first_batch_bytes as usize, "the first batch is whole");
        let before = headers.len();
        for batch in Batches::new(&bytes) {
            let batch = batch.expect("a batch is readable");
            assert!(batch.is_intact(), "a batch is intact");
            assert!(batch.header.next_offset() <= end.to_wire(), "nothing behind the end");
            headers.push(batch.header);
        }
        assert!(headers.len() > before, "a read gets on");
        next = offset(headers[headers.len() - 1].next_offset() as u64);
    }
}

/// A file of the log's directory; `None` when it is missing.
pub(super) async fn file(runtime: &Runtime, name: &str) -> Option<Vec<u8>> {
    runtime.disk().read(&Path::new(DIRECTORY).join(name)).await.ok()
}

/// Writes a file into the log's directory.
pub(super) async fn put(runtime: &Runtime, name: &str, bytes: &[u8]) {
    let disk = runtime.disk();
    let path = Path::new(DIRECTORY).join(name);
    disk.create_directories(Path::new(DIRECTORY)).await.expect("it is made");
    let file = disk.open(&path, OpenMode::Create).await.expect("it opens");
    file.truncate(0).await.expect("it is cut");
    file.write_at(0, &[Bytes::copy_from_slice(bytes)]).await.expect("it is written");
}

/// The names in the log's directory.
pub(super) async fn names(runtime: &Runtime) -> Vec<String> {
    let entries = runtime.disk().list(Path::new(DIRECTORY)).await.expect("it is there");
    entries.into_iter().map(|entry| entry.name).collect()
}
