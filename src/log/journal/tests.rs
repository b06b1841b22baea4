//! Journals on a simulated disk: power cuts, full files, damage, stale histories.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::{LeaderEpoch, Offset, PartitionKey, ShardId, Uuid};
use crate::log::testing::{append, batch, offset, read_all};
use crate::log::{AppendBatch, Log, LogConfig, Setup};
use crate::runtime::sim::{Chance, Faults, MachineId, World, block_on};
use crate::runtime::{OpenMode, Runtime};

use super::format::{EntryHeader, HEADER_BYTES, file_name, header};
use super::{Entry, Found, Journal, replay};

const DATA: &str = "/data";
const PARTITIONS: i32 = 3;
const ROUNDS: u64 = 40;

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: Uuid::from_halves(7, 7), partition }
}

async fn open_log(runtime: &Runtime, partition: i32) -> Log {
    reopen_log(runtime, partition, &[]).await
}

/// Opens the log of a partition; those with odd numbers are of a compacted topic.
async fn reopen_log(runtime: &Runtime, partition: i32, entries: &[Entry]) -> Log {
    let compact_policy = partition % 2 == 1;
    let setup = Setup {
        directory: PathBuf::from(format!("{DATA}/t-{partition}")),
        config: LogConfig { segment_bytes: 2000, compact_policy, ..LogConfig::default() },
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        clean: false,
        journaled: entries.iter().map(Entry::base_offset).collect(),
    };
    Log::open(runtime, setup).await.expect("the log opens").0
}

fn journal(runtime: &Runtime, file_bytes: u64) -> Journal {
    Journal::new(runtime.clone(), PathBuf::from(DATA), file_bytes, 1)
}

/// Appends a batch and makes it durable, by the journal or as it says. Whether the journal did.
async fn append_durably(journal: &Journal, log: &Log, partition: i32, batch: AppendBatch) -> bool {
    append(log, &batch).await;
    let committed = match journal.commit(key(partition), log, vec![batch]) {
        Some(durable) => durable.await.is_some(),
        None => false,
    };
    if !committed {
        log.flush().await.expect("it syncs");
    }
    committed
}

/// What comes back into the partition's log, and how many batches the log then has.
async fn recover(runtime: &Runtime, partition: i32) -> (usize, usize) {
    let found = Found::find(runtime, Path::new(DATA)).await.expect("they are read");
    let entries = found.entries(key(partition));
    let log = reopen_log(runtime, partition, entries).await;
    let count = replay(runtime, &log, entries).await.expect("it replays");
    (count, read_all(&log, Offset::ZERO, log.end(), 1 << 20).await.len())
}

/// Writes `ROUNDS` batches to each of the logs, all partitions at once; how many the journal took.
fn write_and_cut_the_power(seed: u64, file_bytes: u64) -> (World, MachineId, u64) {
    let world = World::new(seed);
    let machine = world.machine("host");
    let taken = world.run(machine, move |runtime| async move {
        runtime.disk().create_directories(Path::new(DATA)).await.expect("it is made");
        runtime.disk().sync_directory(Path::new("/")).await.expect("it is synced");
        let journal = journal(&runtime, file_bytes);
        let tasks: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let (runtime, journal) = (runtime.clone(), journal.clone());
                let (told, ended) = crate::runtime::local::oneshot();
                runtime.clone().spawn("appends", async move {
                    let log = open_log(&runtime, partition).await;
                    let mut taken = 0;
                    for base in 0..ROUNDS {
                        let next = batch(base, 1, 100, 1000);
                        taken += u64::from(append_durably(&journal, &log, partition, next).await);
                    }
                    told.send(taken);
                });
                ended
            })
            .collect();
        let mut taken = 0;
        for ended in tasks {
            taken += ended.await.expect("it ends");
        }
        taken
    });
    world.crash(machine);
    (world, machine, taken)
}

#[test]
fn what_was_answered_is_there_after_a_power_cut_however_often_files_are_written_anew() {
    let mut replayed = 0;
    for seed in 0..20 {
        for file_bytes in [0, 1500, 4000, 100_000] {
            let (world, machine, taken) = write_and_cut_the_power(seed, file_bytes);
            assert_eq!(taken > 0, file_bytes > 0, "{taken} of {file_bytes}");
            replayed += world.run(machine, move |runtime| async move {
                let mut replayed = 0;
                for partition in 0..PARTITIONS {
                    let (count, batches) = recover(&runtime, partition).await;
                    assert_eq!(batches as u64, ROUNDS, "seed {seed}, files of {file_bytes}");
                    replayed += count as u64;
                }
                replayed
            });
        }
    }
    assert!(replayed > 100, "{replayed}");
}

/// Appends to all logs, and tells how many batches of each are durable.
async fn append_for_ever(runtime: Runtime, told: Arc<[AtomicU64; PARTITIONS as usize]>) {
    runtime.disk().create_directories(Path::new(DATA)).await.expect("it is made");
    runtime.disk().sync_directory(Path::new("/")).await.expect("it is synced");
    let journal = journal(&runtime, 100_000);
    for partition in 0..PARTITIONS {
        let (runtime, journal, told) = (runtime.clone(), journal.clone(), told.clone());
        runtime.clone().spawn("appends", async move {
            let log = open_log(&runtime, partition).await;
            for base in 0.. {
                let next = batch(base, 1, 700, 1000);
                append_durably(&journal, &log, partition, next).await;
                told[partition as usize].store(base + 1, Ordering::Relaxed);
            }
        });
    }
    runtime.sleep(Duration::MAX).await;
}

#[test]
fn a_power_cut_just_behind_a_roll_loses_nothing_that_was_answered() {
    for seed in 0..150 {
        let world = World::new(seed);
        let machine = world.machine("host");
        let answered: Arc<[AtomicU64; PARTITIONS as usize]> = Arc::default();
        let told = answered.clone();
        let main = move |runtime: Runtime, _| {
            let told = told.clone();
            async move { append_for_ever(runtime, told).await }
        };
        world.start_process::<(), _, _>(machine, "journal", 1, main);
        world.run_for(Duration::from_micros(8000 + 170 * seed));
        world.crash(machine);
        world.run(machine, move |runtime| async move {
            for partition in 0..PARTITIONS {
                let (_, batches) = recover(&runtime, partition).await;
                let answered = answered[partition as usize].load(Ordering::Relaxed);
                assert!(batches as u64 >= answered, "seed {seed}, {partition}: {answered}");
            }
        });
    }
}

#[test]
fn a_journal_is_removed_when_it_is_closed_and_takes_nothing_then() {
    block_on(3, |runtime| async move {
        runtime.disk().create_directories(Path::new(DATA)).await.expect("it is made");
        let journal = journal(&runtime, 4000);
        let log = open_log(&runtime, 0).await;
        for base in 0..ROUNDS {
            append_durably(&journal, &log, 0, batch(base, 1, 100, 1000)).await;
        }
        log.close().await.expect("it closes");
        journal.close().await.expect("it is removed");
        assert!(journal.commit(key(0), &log, vec![batch(ROUNDS, 1, 10, 0)]).is_none());
        let found = Found::find(&runtime, Path::new(DATA)).await.expect("they are read");
        assert!(found.is_empty());
    });
}

#[test]
fn while_the_journal_fails_logs_are_synced_and_later_it_is_tried_again() {
    let world = World::new(5);
    let machine = world.machine("host");
    let second = Duration::from_secs(1);
    let process =
        world.start_process::<(), _, _>(machine, "journal", 1, move |runtime, _| async move {
            runtime.disk().create_directories(Path::new(DATA)).await.expect("it is made");
            let (journal, log) = (journal(&runtime, 4000), open_log(&runtime, 0).await);
            runtime.sleep(second).await;
            // Now every write fails.
            assert!(journal.commit(key(0), &log, vec![batch(0, 1, 100, 1000)]).is_none());
            runtime.sleep(2 * second).await;
            // Now none does.
            assert!(!append_durably(&journal, &log, 0, batch(0, 1, 100, 1000)).await);
            runtime.sleep(60 * second).await;
            assert!(!append_durably(&journal, &log, 0, batch(1, 1, 100, 1000)).await);
            runtime.sleep(second).await;
            assert!(append_durably(&journal, &log, 0, batch(2, 1, 100, 1000)).await);
        });
    world.run_for(second / 2);
    world.set_faults(machine, Faults { write_error: Chance(1_000_000), ..Faults::default() });
    world.run_for(2 * second);
    world.set_faults(machine, Faults::default());
    assert!(world.run_until(100 * second, || world.exited(process)));
}

/// A file with these batches of partition 0.
fn file_of(generation: u64, batches: &[AppendBatch]) -> Vec<u8> {
    let mut raw = header(generation).to_vec();
    for (index, batch) in batches.iter().enumerate() {
        let parts = &batch.parts;
        raw.extend(EntryHeader::encode(generation, index as u64, key(0), parts));
        raw.extend(parts.iter().flatten());
    }
    raw
}

async fn put(runtime: &Runtime, number: u64, raw: &[u8]) {
    let path = Path::new(DATA).join(file_name(ShardId(0), number));
    let file = runtime.disk().open(&path, OpenMode::Replace).await.expect("it opens");
    let raw = bytes::Bytes::copy_from_slice(raw);
    file.write_at(0, &[raw]).await.expect("it is written");
}

#[test]
fn a_damaged_journal_ends_where_the_damage_is() {
    block_on(4, |runtime| async move {
        runtime.disk().create_directories(Path::new(DATA)).await.expect("it is made");
        let batches: Vec<AppendBatch> = (0..3).map(|base| batch(base, 1, 20, 1000)).collect();
        let whole = file_of(9, &batches);
        let entry_bytes = (whole.len() - HEADER_BYTES) / batches.len();
        for at in 0..whole.len() {
            let good = at.saturating_sub(HEADER_BYTES) / entry_bytes;
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            for raw in [&whole[..at], &flipped] {
                put(&runtime, 1, raw).await;
                let found = Found::find(&runtime, Path::new(DATA)).await.expect("it is read");
                assert_eq!(found.entry_count(), good, "byte {at}");
            }
        }
        // What a file had before it was begun anew counts no more.
        let mut anew = file_of(10, &batches[..1]);
        anew.extend(&whole[anew.len()..]);
        put(&runtime, 1, &anew).await;
        let found = Found::find(&runtime, Path::new(DATA)).await.expect("it is read");
        assert_eq!((found.entry_count(), found.next_generation()), (1, 11));
    });
}

#[test]
fn batches_that_the_log_has_or_whose_leader_was_followed_by_another_are_left_out() {
    block_on(4, |runtime| async move {
        runtime.disk().create_directories(Path::new(DATA)).await.expect("it is made");
        let batches: Vec<AppendBatch> = (0..4).map(|base| batch(base, 1, 20, 1000)).collect();
        put(&runtime, 1, &file_of(1, &batches)).await;
        let found = Found::find(&runtime, Path::new(DATA)).await.expect("it is read");
        let log = open_log(&runtime, 0).await;
        log.append(&batches[..2]).await.expect("it appends");
        let entries = found.entries(key(0));
        assert_eq!(replay(&runtime, &log, entries).await.expect("it replays"), 2);
        assert_eq!(log.end(), offset(4));
        assert_eq!(replay(&runtime, &log, entries).await.expect("it replays"), 0);
        log.close().await.expect("it closes");

        let later = LeaderEpoch::new(1);
        let other = open_log(&runtime, 1).await;
        other.begin_epoch(later, Offset::ZERO).await;
        assert_eq!(replay(&runtime, &other, entries).await.expect("it replays"), 0);
        assert_eq!(other.end(), Offset::ZERO);
    });
}
