//! Logs that are opened after a crash, or with files that are not what they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::{Offset, Timestamp};
use crate::log::testing::{
    DIRECTORY, append, batch, file, names, offset, open, put, read_all, setup, small,
};
use crate::log::{AtLeast, Log, LogConfig, ReadError, Setup};
use crate::protocol::batch::BatchHeader;
use crate::runtime::Runtime;
use crate::runtime::sim::{Chance, Faults, World, block_on};

#[test]
fn a_log_cut_at_any_byte_recovers_its_whole_batches() {
    let world = World::new(6);
    let machine = world.machine("host");
    let whole = world.run(machine, |runtime| async move {
        let (log, _) = open(&runtime, &small()).await;
        for n in 0..6 {
            append(&log, &batch(n * 2, 2, 40 + n as usize, 1000 - n as i64)).await;
        }
        file(&runtime, "00000000000000000000.log").await.expect("it is there")
    });
    let mut ends = vec![0];
    while let Ok(header) = BatchHeader::parse(&whole[ends[ends.len() - 1]..]) {
        ends.push(ends[ends.len() - 1] + header.size_bytes());
    }
    assert_eq!(ends.len(), 7);
    for cut in 0..=whole.len() {
        for damage in ["cut", "zeros", "flipped"] {
            let mut bytes = whole[..cut].to_vec();
            match damage {
                "zeros" => bytes.resize(whole.len() + 500, 0),
                "flipped" if cut < whole.len() => {
                    bytes = whole.clone();
                    bytes[cut] ^= 0x10;
                }
                _ => {}
            }
            // Records end in zeros: these alone may complete a batch.
            let is_whole = |end: &&usize| bytes.get(..**end) == whole.get(..**end);
            let mut kept = ends.iter().take_while(is_whole).count() - 1;
            // Base offset and epoch are not checksummed: only some of their changes show.
            let within = cut.saturating_sub(ends[kept]);
            if damage == "flipped" && (within < 8 || (12..16).contains(&within)) {
                kept = usize::MAX;
            }
            let expected = whole[..ends.get(kept).copied().unwrap_or_default()].to_vec();
            world.run(machine, move |runtime| async move {
                put(&runtime, "00000000000000000000.log", &bytes).await;
                let (log, _) = open(&runtime, &small()).await;
                let name = "00000000000000000000.log";
                let found = file(&runtime, name).await.expect("it is there");
                if kept != usize::MAX {
                    assert_eq!(log.end(), offset(kept as u64 * 2), "{damage} at {cut}");
                    assert!(found == expected, "{damage} at {cut}");
                }
                let end = log.end();
                append(&log, &batch(end.get(), 1, 10, 5)).await;
                read_all(&log, Offset::ZERO, log.end(), 1 << 20).await;
            });
        }
    }
}

#[test]
fn segments_behind_a_damaged_one_go_with_it() {
    block_on(7, |runtime| async move {
        let config = LogConfig { segment_bytes: 500, ..small() };
        let (log, _) = open(&runtime, &config).await;
        for n in 0..12 {
            append(&log, &batch(n, 1, 100, 1000)).await;
        }
        let second = log.segment_bases()[1];
        drop(log);
        let name = format!("{:020}.log", second.get());
        let mut bytes = file(&runtime, &name).await.expect("it is there");
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
        put(&runtime, &name, &bytes).await;
        let (log, opened) = open(&runtime, &config).await;
        assert_eq!(log.segment_count(), 2);
        assert_eq!(log.end(), second + 1);
        assert!(opened.truncated_bytes > 0 && opened.removed_segment_count > 0);
        append(&log, &batch(log.end().get(), 1, 100, 1000)).await;
        assert_eq!(read_all(&log, Offset::ZERO, log.end(), 1 << 20).await.len(), 4);
        runtime.sleep(Duration::from_secs(61)).await;
        assert!(names(&runtime).await.iter().all(|name| !name.ends_with(".deleted")));
    });
}

#[test]
fn damage_in_a_segment_that_was_synced_and_closed_takes_no_other_with_it() {
    block_on(7, |runtime| async move {
        let config = LogConfig { segment_bytes: 500, ..small() };
        let (log, _) = open(&runtime, &config).await;
        for n in 0..6 {
            append(&log, &batch(n, 1, 100, 1000)).await;
        }
        log.flush().await.expect("it flushes");
        let (end, bases) = (log.end(), log.segment_bases());
        assert_eq!(bases.len(), 3);
        drop(log);
        // The last batch of the closed segment that the check looks at, though all of it is synced.
        let name = format!("{:020}.log", bases[1].get());
        let mut bytes = file(&runtime, &name).await.expect("it is there");
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
        put(&runtime, &name, &bytes).await;
        let again = Setup { recovery_point: bases[2], ..setup(&config) };
        let (log, opened) = Log::open(&runtime, again).await.expect("it opens");
        assert_eq!((log.end(), log.segment_bases()), (end, bases.clone()));
        assert_eq!((opened.truncated_bytes, opened.removed_segment_count), (0, 0));
        assert_eq!(file(&runtime, &name).await, Some(bytes), "nothing is cut off");
        let behind = read_all(&log, bases[2], end, 1 << 20).await;
        assert_eq!(behind.len() as u64, end.get() - bases[2].get());
    });
}

#[test]
fn a_roll_that_fails_half_way_takes_nothing_from_the_segment_that_goes_on() {
    block_on(14, |runtime| async move {
        let in_the_way = std::path::Path::new(DIRECTORY).join("00000000000000000001.timeindex");
        let (log, _) = open(&runtime, &small()).await;
        append(&log, &batch(0, 1, 100, 1000)).await;
        runtime.disk().create_directories(&in_the_way).await.expect("it is made");
        assert!(log.roll().await.is_err());
        append(&log, &batch(1, 1, 100, 1000)).await;
        runtime.disk().remove_directory(&in_the_way).await.expect("it is removed");
        drop(log);
        // Nothing was closed: as after a kill.
        let (log, _) = open(&runtime, &small()).await;
        assert_eq!(log.end(), offset(2));
        log.roll().await.expect("it rolls");
        append(&log, &batch(2, 1, 100, 1000)).await;
        assert_eq!(read_all(&log, Offset::ZERO, offset(3), 10).await.len(), 3);
    });
}

#[test]
fn batches_larger_than_any_block_are_checked_piece_by_piece() {
    block_on(17, |runtime| async move {
        let config = LogConfig::default();
        let (log, _) = open(&runtime, &config).await;
        append(&log, &batch(0, 1, 700_000, 1000)).await;
        append(&log, &batch(1, 1, 3 << 20, 1000)).await;
        append(&log, &batch(2, 1, 100, 1000)).await;
        let (again, opened) = open(&runtime, &config).await;
        assert_eq!((again.end(), opened.truncated_bytes), (offset(3), 0));
        let mut bytes = file(&runtime, "00000000000000000000.log").await.expect("it is there");
        let at = bytes.len() - 2000;
        bytes[at] ^= 1;
        put(&runtime, "00000000000000000000.log", &bytes).await;
        let (again, opened) = open(&runtime, &config).await;
        assert_eq!(again.end(), offset(1));
        assert!(opened.truncated_bytes > 3 << 20);
    });
}

#[test]
fn preallocated_room_is_no_damage_and_goes_at_the_close() {
    block_on(18, |runtime| async move {
        let config = LogConfig { preallocate: true, ..small() };
        let (log, _) = open(&runtime, &config).await;
        for n in 0..30 {
            append(&log, &batch(n, 1, 200, 1000)).await;
        }
        drop(log);
        let (log, opened) = open(&runtime, &config).await;
        assert_eq!((log.end(), opened.truncated_bytes), (offset(30), 0));
        append(&log, &batch(30, 1, 200, 1000)).await;
        log.close().await.expect("it closes");
        let mut again = setup(&config);
        again.clean = true;
        let (log, opened) = Log::open(&runtime, again).await.expect("it opens");
        assert_eq!((log.end(), opened), (offset(31), Default::default()));
    });
}

#[test]
fn recovery_reads_little_more_than_what_lies_behind_the_recovery_point() {
    block_on(19, |runtime| async move {
        let config = LogConfig { index_interval_bytes: 256, ..LogConfig::default() };
        let (log, _) = open(&runtime, &config).await;
        for n in 0..4000 {
            append(&log, &batch(n, 1, 200, 1000 + n as i64)).await;
        }
        let recovery_point = log.flush().await.expect("flushes");
        append(&log, &batch(4000, 1, 200, 9000)).await;
        let size_bytes = log.size_bytes();
        let mut again = setup(&config);
        again.recovery_point = recovery_point;
        let (log, opened) = Log::open(&runtime, again).await.expect("it opens");
        assert_eq!(log.end(), offset(4001));
        assert!(opened.scanned_bytes < size_bytes / 4, "{} bytes", opened.scanned_bytes);
        for from in [0, 1000, 2500, 3999, 4000] {
            let headers = read_all(&log, offset(from), offset(4001), 50_000).await;
            assert_eq!(headers.len() as u64, 4001 - from);
        }
        let at = Timestamp::from_millis(3500);
        let found = log.find_by_timestamp(at, log.end()).await.expect("searches");
        assert_eq!(found.map(|found| found.offset), Some(offset(2500)));
    });
}

#[test]
fn a_scan_visits_each_batch_once() {
    block_on(20, |runtime| async move {
        let (log, _) = open(&runtime, &LogConfig { segment_bytes: 700, ..small() }).await;
        for n in 0..30 {
            append(&log, &batch(n * 2, 2, 100, 1000)).await;
        }
        for (from, to) in [(0, 60), (1, 60), (31, 44), (59, 60), (60, 60)] {
            let mut visited = Vec::new();
            let scanned = log.scan(offset(from), offset(to), |header, marker| {
                assert!(marker.is_none());
                visited.push(header.base_offset);
            });
            scanned.await.expect("scans");
            let expected: Vec<i64> =
                (0..30).map(|n| n * 2).filter(|b| b + 1 >= from as i64 && *b < to as i64).collect();
            assert_eq!(visited, expected, "{from}..{to}");
        }
    });
}

#[test]
fn damage_in_a_log_that_was_closed_is_no_gap() {
    let changed = |bytes: &[u8], at: usize, value: &[u8]| {
        let mut changed = bytes.to_vec();
        changed[at..at + value.len()].copy_from_slice(value);
        changed
    };
    let second_begins = batch(0, 2, 100, 5).meta.size_bytes as usize;
    let cases: [(&str, &str, usize, &[u8], bool); 6] = [
        ("an offset behind the log's end", "log", second_begins, &[0, 0, 1], false),
        ("a length that reaches beyond the file", "log", second_begins + 8, &[0, 1, 0, 0], false),
        ("a length that is none", "log", second_begins + 8, &[255; 4], false),
        ("another format", "log", second_begins + 16, &[1], false),
        ("an index entry that leads nowhere", "index", 4, &[0, 0, 0, 77], true),
        ("an index entry that leads too far", "index", 4, &[0, 0, 255, 0], true),
    ];
    for (name, ending, at, value, is_served) in cases {
        block_on(1, |runtime| async move {
            let (log, _) = open(&runtime, &small()).await;
            for base in 0..40 {
                append(&log, &batch(base * 2, 2, 100, 5)).await;
            }
            let end = log.end();
            assert!(log.segment_count() > 2, "{name}");
            log.close().await.expect("it closes");
            let first = format!("00000000000000000000.{ending}");
            let bytes = file(&runtime, &first).await.expect("it is there");
            put(&runtime, &first, &changed(&bytes, at, value)).await;
            let clean = Setup { clean: true, ..setup(&small()) };
            let (log, _) = Log::open(&runtime, clean).await.expect("nothing is looked at");
            if is_served {
                let headers = read_all(&log, Offset::ZERO, end, 300).await;
                assert_eq!(headers.len(), 40, "{name}");
                return;
            }
            let read = log.read(offset(2), end, 300, AtLeast::OneBatch).await;
            assert!(matches!(read, Err(ReadError::Io(_))), "{name}: {read:?}");
            let mut seen = 0;
            let scanned = log.scan(Offset::ZERO, end, |_, _| seen += 1).await;
            assert!(scanned.is_err() && seen == 1, "{name}: {seen} batches");
        });
    }
}

/// Opens a log of one segment.
async fn open_long(runtime: &Runtime, recovery_point: Offset) -> Log {
    let config = LogConfig { index_interval_bytes: 256, ..LogConfig::default() };
    let again = Setup { recovery_point, ..setup(&config) };
    Log::open(runtime, again).await.expect("it opens").0
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_alone_is_written_again_by_the_next_process() {
    for (value_bytes, synced) in [(100, 0), (100, 3), (1500, 2), (20_000, 2)] {
        let world = World::new(3);
        let machine = world.machine("host");
        let recovery_point = world.run(machine, move |runtime| async move {
            runtime.disk().create_directories(DIRECTORY.as_ref()).await.expect("room");
            runtime.disk().sync_directory("/".as_ref()).await.expect("a good disk");
            let log = open_long(&runtime, Offset::ZERO).await;
            for base in 0..synced {
                append(&log, &batch(base, 1, value_bytes, 1000)).await;
            }
            log.flush().await.expect("a good disk")
        });
        assert_eq!(recovery_point, offset(synced));
        let bad = Faults { sync_error: Chance(1_000_000), ..Faults::default() };
        world.set_faults(machine, bad);
        world.run(machine, move |runtime| async move {
            let log = open_long(&runtime, recovery_point).await;
            for base in synced..synced + 5 {
                append(&log, &batch(base, 1, value_bytes, 1000)).await;
            }
            assert!(log.flush().await.is_err());
        });
        world.set_faults(machine, Faults::default());
        // The process ends, the machine does not: all can be read.
        let end = world.run(machine, move |runtime| async move {
            let log = open_long(&runtime, recovery_point).await;
            log.flush().await.expect("a good disk")
        });
        assert_eq!(end, offset(synced + 5));
        world.crash(machine);
        world.run(machine, move |runtime| async move {
            let log = open_long(&runtime, end).await;
            assert_eq!(log.end(), end, "what was told to be durable is gone");
            let from = log.start();
            let count = read_all(&log, from, end, 1 << 20).await.len() as u64;
            assert_eq!(count, synced + 5);
        });
    }
}

/// Appends for ever, syncs beside that, and tells up to where all is durable.
async fn append_and_flush(runtime: Runtime, durable: Arc<AtomicU64>) {
    runtime.disk().create_directories(DIRECTORY.as_ref()).await.expect("room");
    runtime.disk().sync_directory("/".as_ref()).await.expect("a good disk");
    let (log, _) = open(&runtime, &small()).await;
    let (flushed, asleep) = (log.clone(), runtime.clone());
    runtime.spawn("flush", async move {
        loop {
            let recovery_point = flushed.flush().await.expect("a good disk");
            durable.store(recovery_point.to_wire() as u64, Ordering::Relaxed);
            asleep.sleep(Duration::from_micros(1)).await;
        }
    });
    for base in 0.. {
        append(&log, &batch(base, 1, 500, 1000)).await;
        runtime.sleep(Duration::from_micros(runtime.random() % 200)).await;
    }
}

#[test]
fn what_is_below_a_recovery_point_survives_a_power_cut_also_while_it_is_appended_to() {
    for seed in 0..300 {
        let world = World::new(seed);
        let machine = world.machine("host");
        let durable: Arc<AtomicU64> = Arc::default();
        let told = durable.clone();
        world.start_process::<(), _, _>(machine, "log", 1, move |runtime, _| {
            append_and_flush(runtime, told.clone())
        });
        // Now and then nothing is written for a while, and then much at once.
        for _ in 0..10 {
            world.run_for(Duration::from_micros(600 + seed));
            world.stick_disk(machine, Duration::from_micros(900));
        }
        world.run_for(Duration::from_micros(1000 + 7 * seed));
        world.crash(machine);
        let end = world.run(machine, |runtime| async move {
            let (log, _) = open(&runtime, &small()).await;
            log.end().to_wire() as u64
        });
        let durable = durable.load(Ordering::Relaxed);
        assert!(end >= durable, "seed {seed}: it ends at {end}, {durable} were durable");
    }
}
