//! Whole directories on a simulated disk: a log with one file changed, and journals.

use std::path::Path;

use bytes::Bytes;
use corelog::base::{Offset, PartitionKey, Timestamp, Uuid};
use corelog::log::journal::{Entry, Found, replay};
use corelog::log::{AtLeast, Log, LogConfig, Setup};
use corelog::partition::producers::ProducerStates;
use corelog::protocol::builder::{BatchBuilder, NewRecord};
use corelog::runtime::{OpenMode, Runtime, sim};

use crate::samples::fixtures;
use crate::{Bound, Decoder};

const LOG: &str = "/data/golden-0";

const TOPIC: Uuid = Uuid::from_halves(0x1234_5678_9abc_4def, 0x8123_4567_89ab_cdef);

/// Batches that are read from one log at most.
const READS_MAX: usize = 1000;

/// A log's directory as Apache Kafka left it, without the later segments.
fn golden() -> Vec<(String, Vec<u8>)> {
    let is_early = |name: &str| {
        let number = name.split('.').next().and_then(|number| number.parse::<u64>().ok());
        number.is_none_or(|number| number < 105)
    };
    let files = fixtures("disk/golden-0", "");
    files.into_iter().filter(|(name, _)| is_early(name)).collect()
}

async fn write(runtime: &Runtime, path: &Path, bytes: &[u8]) {
    let disk = runtime.disk();
    let file = disk.open(path, OpenMode::Replace).await.expect("room");
    file.write_at(0, &[Bytes::copy_from_slice(bytes)]).await.expect("room");
}

/// Opens the log and reads all of it in every way; whether there was anything.
async fn open_and_read(runtime: Runtime, is_clean: bool) -> bool {
    let setup = Setup {
        directory: LOG.into(),
        config: LogConfig::default(),
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        clean: is_clean,
        journaled: Vec::new(),
    };
    let Ok((log, _)) = Log::open(&runtime, setup).await else { return false };
    let end = log.end();
    let mut from = log.start();
    let mut count = 0;
    while from < end && count < READS_MAX {
        let Ok(read) = log.read(from, end, 1 << 20, AtLeast::OneBatch).await else { break };
        let Some(slice) = read.slice else { break };
        assert!(slice.length > 0, "a read that finds something gets on");
        from = Offset::new(from.get() + 16);
        count += 1;
    }
    let mut batches = 0;
    let scanned = log.scan_batches(log.start(), end, |batch| {
        let _ = batch.is_intact();
        batches += 1;
        Ok(())
    });
    let _ = scanned.await;
    let _ = log.scan(log.start(), end, |_, _| {}).await;
    for timestamp in [0, 1_700_000_000_000, i64::MAX] {
        let _ = log.find_by_timestamp(Timestamp::from_millis(timestamp), end).await;
    }
    let _ = log.find_max_timestamp(end).await;
    let _ = log.aborted_transactions(log.start(), end).await;
    for at in log.snapshots() {
        if let Ok(bytes) = log.read_snapshot(at).await {
            let _ = ProducerStates::decode_snapshot(&bytes);
        }
    }
    let _ = log.close().await;
    batches > 0
}

/// Inputs: which file, whether the stop was clean, its bytes.
fn log_directory() -> Decoder {
    let mut files = golden();
    // Fixtures have no aborted transaction: an index of one, of another producer's records.
    let mut aborted = vec![0; 2];
    for number in [4000_i64, 3, 20, 21] {
        aborted.extend_from_slice(&number.to_be_bytes());
    }
    files.push(("00000000000000000000.txnindex".to_owned(), aborted));
    let samples = files.iter().enumerate().flat_map(|(at, (_, bytes))| {
        [0, 1].map(|is_clean| [&[at as u8, is_clean][..], bytes].concat())
    });
    let samples = samples.collect();
    let files = std::sync::Arc::new(files);
    let decoder = Decoder::new("log directory", samples, move |input| {
        let Some((first, rest)) = input.split_at_checked(2) else { return false };
        let (changed, is_clean) = (usize::from(first[0]) % files.len(), first[1] & 1 == 1);
        let (files, bytes) = (files.clone(), rest.to_vec());
        sim::block_on(1, |runtime| async move {
            let disk = runtime.disk();
            disk.create_directories(Path::new(LOG)).await.expect("room");
            for (at, (name, content)) in files.iter().enumerate() {
                let content = if at == changed { &bytes } else { content };
                write(&runtime, &Path::new(LOG).join(name), content).await;
            }
            open_and_read(runtime, is_clean).await
        })
    });
    // Reading ahead takes a MiB at a time; the rest is the simulated disk's own.
    let bound = Bound { factor: 64, constant: 24 << 20 };
    Decoder { weight: 1, bound, shares: (20, 0), ..decoder }
}

const JOURNAL_HEADER_BYTES: usize = 32;
const ENTRY_HEADER_BYTES: usize = 48;

fn put_crc(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Makes the checksums of a journal right, as far as its lengths can be followed.
fn repair_journal(bytes: &mut [u8]) {
    if bytes.len() < JOURNAL_HEADER_BYTES {
        return;
    }
    let crc = crc32c::crc32c(&bytes[..28]);
    put_crc(bytes, 28, crc);
    let mut at = JOURNAL_HEADER_BYTES;
    while let Some(raw) = bytes.get(at + 4..at + 8).and_then(|raw| raw.first_chunk::<4>()) {
        let size = ENTRY_HEADER_BYTES + u32::from_be_bytes(*raw) as usize;
        let Some(entry) = bytes.get(at..at + size) else { return };
        let crc = crc32c::crc32c(&entry[4..]);
        put_crc(bytes, at, crc);
        at += size;
    }
}

fn journal_file(batches: &[Bytes]) -> Vec<u8> {
    let mut bytes = b"CLjourn1".to_vec();
    bytes.extend_from_slice(&7_u64.to_be_bytes());
    bytes.resize(JOURNAL_HEADER_BYTES, 0);
    for (index, batch) in batches.iter().enumerate() {
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(batch.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&7_u64.to_be_bytes());
        bytes.extend_from_slice(&(index as u64).to_be_bytes());
        bytes.extend_from_slice(&TOPIC.to_wire());
        bytes.extend_from_slice(&0_i32.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(batch);
    }
    repair_journal(&mut bytes);
    bytes
}

fn journal() -> Decoder {
    let batches: Vec<Bytes> = (0..3)
        .map(|number| {
            let mut builder = BatchBuilder::new().base_offset(Offset::new(number));
            builder = builder.leader_epoch(corelog::base::LeaderEpoch::ZERO);
            builder.append(&NewRecord { timestamp: 5, value: Some(b"v"), ..NewRecord::default() });
            builder.build().expect("a small batch")
        })
        .collect();
    let samples = vec![journal_file(&batches), journal_file(&batches[..1])];
    let decoder = Decoder::new("journal", samples, |input| {
        let input = input.clone();
        sim::block_on(1, |runtime| async move {
            let directory = Path::new("/data");
            runtime.disk().create_directories(directory).await.expect("room");
            write(&runtime, &directory.join("corelog-journal-0-7"), &input).await;
            let found = Found::find(&runtime, directory).await.expect("a good disk");
            let key = PartitionKey { topic: TOPIC, partition: 0 };
            let setup = Setup {
                directory: directory.join("orders-0"),
                config: LogConfig::default(),
                recovery_point: Offset::ZERO,
                log_start: Offset::ZERO,
                clean: false,
                journaled: found.entries(key).iter().map(Entry::base_offset).collect(),
            };
            let (log, _) = Log::open(&runtime, setup).await.expect("an empty log");
            let replayed = replay(&runtime, &log, found.entries(key)).await;
            found.remove(&runtime.disk()).await.expect("a good disk");
            replayed.is_ok_and(|count| count > 0)
        })
    });
    let bound = Bound { factor: 64, constant: 24 << 20 };
    Decoder { weight: 4, bound, repair: Some(|bytes| repair_journal(bytes)), ..decoder }
}

/// All of this file.
pub fn decoders() -> Vec<Decoder> {
    vec![log_directory(), journal()]
}
