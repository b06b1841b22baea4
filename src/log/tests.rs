//! The log as a whole, on a simulated disk.

use std::time::Duration;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::testing::{
    DIRECTORY, append, batch, batches_of, bytes_of, file, names, offset, open, put, read_all,
    setup, small,
};
use crate::log::{AbortedTransaction, AtLeast, Log, LogConfig, OpenError, ReadError};
use crate::protocol::batch::{BatchHeader, HEADER_BYTES};
use crate::runtime::sim::{Chance, Faults, World, block_on};

/// Files of `tests/fixtures/disk/golden-0`, which Kafka 4.3.1 wrote with `segment.index.bytes=60`
/// and `index.interval.bytes=1024`: base, log, index, time index.
macro_rules! golden {
    ($($base:literal),*) => {
        [$(($base, [
            include_bytes!(concat!("../../tests/fixtures/disk/golden-0/", $base, ".log")) as &[u8],
            include_bytes!(concat!("../../tests/fixtures/disk/golden-0/", $base, ".index")),
            include_bytes!(concat!("../../tests/fixtures/disk/golden-0/", $base, ".timeindex")),
        ])),*]
    };
}

const GOLDEN: [(&str, [&[u8]; 3]); 8] = golden![
    "00000000000000000000",
    "00000000000000000033",
    "00000000000000000072",
    "00000000000000000105",
    "00000000000000000132",
    "00000000000000000159",
    "00000000000000000186",
    "00000000000000000213"
];

const GOLDEN_BATCH_COUNT: usize = 74;

const ENDINGS: [&str; 3] = ["log", "index", "timeindex"];

fn golden_config() -> LogConfig {
    LogConfig { index_bytes_max: 60, index_interval_bytes: 1024, ..LogConfig::default() }
}

#[test]
fn the_batches_that_kafka_wrote_give_the_files_that_kafka_wrote() {
    block_on(1, |runtime| async move {
        let (log, _) = open(&runtime, &golden_config()).await;
        for (_, [batches, ..]) in GOLDEN {
            for batch in batches_of(batches) {
                append(&log, &batch).await;
            }
        }
        log.close().await.expect("it closes");
        for (base, files) in GOLDEN {
            for (ending, expected) in ENDINGS.into_iter().zip(files) {
                let name = format!("{base}.{ending}");
                let found = file(&runtime, &name).await;
                assert!(found.as_deref() == Some(expected), "{name}");
            }
        }
        let epochs = include_bytes!("../../tests/fixtures/disk/golden-0/leader-epoch-checkpoint");
        assert_eq!(file(&runtime, "leader-epoch-checkpoint").await.as_deref(), Some(&epochs[..]));
    });
}

async fn put_golden(runtime: &crate::runtime::Runtime) {
    for (base, files) in GOLDEN {
        for (ending, bytes) in ENDINGS.into_iter().zip(files) {
            put(runtime, &format!("{base}.{ending}"), bytes).await;
        }
    }
    put(runtime, "leader-epoch-checkpoint", b"0\n1\n0 0\n").await;
}

#[test]
fn a_directory_that_kafka_closed_opens_without_a_scan_and_goes_on() {
    block_on(2, |runtime| async move {
        put_golden(&runtime).await;
        let mut setup = setup(&golden_config());
        setup.clean = true;
        let (log, opened) = Log::open(&runtime, setup).await.expect("it opens");
        assert_eq!(opened, Default::default());
        assert_eq!((log.start(), log.end()), (Offset::ZERO, offset(220)));
        assert_eq!((log.recovery_point(), log.segment_count()), (offset(220), 8));
        assert_eq!(read_all(&log, offset(0), offset(220), 1000).await.len(), GOLDEN_BATCH_COUNT);
        append(&log, &batch(220, 3, 100, 9_000_000_000_000)).await;
        assert_eq!(read_all(&log, offset(215), offset(223), 1 << 20).await.len(), 4);
    });
}

#[test]
fn a_directory_that_kafka_left_in_a_crash_is_checked_and_gets_the_same_indexes() {
    block_on(3, |runtime| async move {
        put_golden(&runtime).await;
        // As a running broker has them: room reserved behind the entries.
        let (base, [_, index, times]) = GOLDEN[7];
        for (ending, bytes, size) in [("index", index, 56), ("timeindex", times, 60)] {
            let mut padded = bytes.to_vec();
            padded.resize(size, 0);
            put(&runtime, &format!("{base}.{ending}"), &padded).await;
        }
        for recovery_point in [0, 100, 213, 219, 220] {
            let mut setup = setup(&golden_config());
            setup.recovery_point = offset(recovery_point);
            let (log, opened) = Log::open(&runtime, setup).await.expect("it opens");
            assert_eq!(opened.truncated_bytes, 0);
            assert!(opened.scanned_bytes > 0);
            assert_eq!((log.end(), log.recovery_point()), (offset(220), offset(recovery_point)));
            for (base, files) in GOLDEN {
                for (ending, expected) in ENDINGS.into_iter().zip(files) {
                    let name = format!("{base}.{ending}");
                    let found = file(&runtime, &name).await;
                    assert!(found.as_deref() == Some(expected), "{name} from {recovery_point}");
                }
            }
        }
    });
}

#[test]
fn reads_begin_with_the_batch_that_holds_the_offset_and_end_below_the_end() {
    block_on(4, |runtime| async move {
        let (log, _) = open(&runtime, &small()).await;
        let batches: Vec<_> = (0..60).map(|n| batch(n * 3, 3, 100, 1000 + n as i64)).collect();
        for batch in &batches {
            append(&log, batch).await;
        }
        assert!(log.segment_count() > 3);
        let size = batches[0].meta.size_bytes;
        for (name, from, end, bytes_max, at_least, expected) in [
            ("one batch of several", 4, 180, size, AtLeast::Nothing, Some((3, size))),
            ("cut within the second", 4, 180, size + 9, AtLeast::Nothing, Some((3, size + 9))),
            ("too large, but the first", 4, 180, 10, AtLeast::OneBatch, Some((3, size))),
            ("too large", 4, 180, 10, AtLeast::Nothing, None),
            ("up to a watermark", 4, 9, 1 << 20, AtLeast::OneBatch, Some((3, 2 * size))),
            ("a watermark within a batch", 4, 10, 1 << 20, AtLeast::OneBatch, Some((3, 2 * size))),
            ("at the watermark", 9, 9, 1 << 20, AtLeast::OneBatch, None),
            ("at the end", 180, 180, 1 << 20, AtLeast::OneBatch, None),
            ("the last", 179, 180, 1 << 20, AtLeast::OneBatch, Some((177, size))),
        ] {
            let read = log.read(offset(from), offset(end), bytes_max, at_least).await;
            let found = read.expect(name).slice.map(|slice| {
                let header = BatchHeader::parse(&bytes_of(&slice)).expect(name);
                (header.base_offset, slice.length)
            });
            assert_eq!(found, expected, "{name}");
        }
        let beyond = log.read(offset(181), offset(181), 1, AtLeast::OneBatch).await;
        assert!(matches!(beyond, Err(ReadError::OutOfRange)));
        for from in 0..180 {
            let headers = read_all(&log, offset(from), offset(180), 700).await;
            assert_eq!(headers.len() as u64, 60 - from / 3, "from {from}");
        }
    });
}

#[test]
fn segments_roll_for_each_of_the_reasons() {
    let base = small();
    let cases: [(&str, LogConfig, i64, u64); 5] = [
        ("nothing", LogConfig { segment_bytes: 1 << 20, ..base.clone() }, 1, 1),
        ("size", LogConfig { segment_bytes: 500, ..base.clone() }, 1, 4),
        ("age", LogConfig { segment_ms: 15, segment_bytes: 1 << 20, ..base.clone() }, 10, 4),
        ("index", LogConfig { index_bytes_max: 24, segment_bytes: 1 << 20, ..base }, 1, 3),
        ("offsets", LogConfig { segment_bytes: 1 << 20, ..small() }, 1, 8),
    ];
    for (name, config, step_ms, expected) in cases {
        block_on(5, move |runtime| async move {
            let (log, _) = open(&runtime, &config).await;
            let stride = if name == "offsets" { 1 << 31 } else { 1 };
            for n in 0..8 {
                append(&log, &batch(n * stride, 1, 100, 1000 + n as i64 * step_ms)).await;
            }
            assert_eq!(log.segment_count() as u64, expected, "{name}");
            log.close().await.expect("it closes");
            let mut again = setup(&config);
            again.clean = true;
            let (log, _) = Log::open(&runtime, again).await.expect("it opens");
            let headers = read_all(&log, Offset::ZERO, log.end(), 1 << 20).await;
            assert_eq!(headers.len(), 8, "{name}");
        });
    }
}

#[test]
fn missing_and_damaged_indexes_are_made_anew() {
    block_on(8, |runtime| async move {
        put_golden(&runtime).await;
        for at in [0, 3, 7] {
            for clean in [true, false] {
                for damage in ["missing", "odd size", "empty", "zeros"] {
                    let (base, files) = GOLDEN[at];
                    for ending in ["index", "timeindex"] {
                        let name = format!("{base}.{ending}");
                        match damage {
                            "missing" => {
                                put(&runtime, &name, b"").await;
                                let path = std::path::Path::new("/data/t-0").join(&name);
                                runtime.disk().remove_file(&path).await.expect("it is there");
                            }
                            "odd size" => put(&runtime, &name, b"abc").await,
                            "empty" if at == 7 => put(&runtime, &name, b"").await,
                            "zeros" if at == 7 => put(&runtime, &name, &[0; 240]).await,
                            _ => {}
                        }
                    }
                    let mut setup = setup(&golden_config());
                    (setup.clean, setup.recovery_point) = (clean, offset(220));
                    let (log, _) = Log::open(&runtime, setup).await.expect("it opens");
                    assert_eq!(log.end(), offset(220), "{damage} {base}");
                    assert_eq!(
                        read_all(&log, Offset::ZERO, log.end(), 900).await.len(),
                        GOLDEN_BATCH_COUNT
                    );
                    if damage != "empty" || !clean {
                        for (ending, expected) in ENDINGS.into_iter().zip(files) {
                            let name = format!("{base}.{ending}");
                            let found = file(&runtime, &name).await;
                            assert!(found.as_deref() == Some(expected), "{damage} {name} {clean}");
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn retention_deletes_by_size_time_and_start_but_not_above_the_watermark() {
    let at = |millis| Timestamp::from_millis(millis);
    block_on(9, move |runtime| async move {
        let mut config = LogConfig { segment_bytes: 500, ..small() };
        config.retention_ms = None;
        let (log, _) = open(&runtime, &config).await;
        for n in 0..20 {
            append(&log, &batch(n, 1, 100, 1000 + n as i64)).await;
        }
        log.begin_epoch(LeaderEpoch::new(3), offset(20)).await;
        let (count, end) = (log.segment_count(), log.end());
        assert_eq!(log.delete_old_segments(at(1 << 40), end).await.expect("none"), 0);
        let lease = log.read(Offset::ZERO, end, 10, AtLeast::OneBatch).await.expect("reads");
        let lease = lease.slice.expect("there are bytes");
        config.retention_bytes = Some(log.size_bytes() - 1000);
        log.set_config(config.clone());
        assert_eq!(log.delete_old_segments(at(0), offset(1)).await.expect("none"), 0);
        let gone = log.delete_old_segments(at(0), end).await.expect("deletes");
        assert!(gone > 0 && log.segment_count() == count - gone);
        assert_eq!(log.start(), log.first_segment_base());
        assert!(BatchHeader::parse(&bytes_of(&lease)).is_ok(), "a lease outlives deletion");
        let low = log.read(Offset::ZERO, end, 10, AtLeast::OneBatch).await;
        assert!(matches!(low, Err(ReadError::OutOfRange)));
        let start = log.start() + 5;
        log.advance_start(start).await.expect("advances");
        let gone = log.delete_old_segments(at(0), end).await.expect("deletes");
        assert!(gone > 0 && log.first_segment_base() <= start);
        assert_eq!(log.epoch_at_start(), Some(LeaderEpoch::ZERO));
        (config.retention_bytes, config.retention_ms) = (None, Some(100));
        log.set_config(config);
        assert_eq!(log.delete_old_segments(at(1100), end).await.expect("none"), 0);
        log.delete_old_segments(at(1_000_000), end).await.expect("deletes");
        assert_eq!((log.segment_count(), log.start(), log.end()), (1, end, end));
        append(&log, &batch(20, 1, 100, 5000)).await;
        assert_eq!(read_all(&log, end, log.end(), 10).await.len(), 1);
        runtime.sleep(Duration::from_secs(61)).await;
        let left = names(&runtime).await;
        assert_eq!(left.len(), 4, "{left:?}");
    });
}

#[test]
fn truncation_cuts_whole_batches_and_leaves_leases_alone() {
    for to in 0..=40 {
        block_on(10, move |runtime| async move {
            let (log, _) = open(&runtime, &LogConfig { segment_bytes: 900, ..small() }).await;
            for n in 0..20 {
                append(&log, &batch(n * 2, 2, 100, 1000 + (n as i64 * 7) % 20)).await;
            }
            log.begin_epoch(LeaderEpoch::new(1), offset(38)).await;
            log.flush().await.expect("flushes");
            log.write_snapshot(offset(40), b"snapshot").await.expect("written");
            let mut leases = Vec::new();
            for from in (0..40).step_by(2) {
                let read = log.read(offset(from), offset(40), 10, AtLeast::OneBatch).await;
                leases.push(read.expect("in range").slice.expect("there are bytes"));
            }
            let before: Vec<_> = leases.iter().map(bytes_of).collect();
            let is_cut = log.truncate_to(offset(to)).await.expect("truncates");
            let (asked, to) = (to, to / 2 * 2);
            assert_eq!((is_cut, log.end()), (asked < 40, offset(to)));
            assert_eq!(log.recovery_point(), offset(to));
            assert_eq!(
                log.latest_epoch(),
                (to > 38).then_some(1).or((to > 0).then_some(0)).map(LeaderEpoch::new)
            );
            assert_eq!(log.snapshots().len(), usize::from(to == 40));
            let kept = read_all(&log, Offset::ZERO, offset(to), 700).await;
            assert_eq!(kept.len() as u64, to / 2, "{to}");
            append(&log, &batch(to, 2, 300, 2000)).await;
            assert_eq!(leases.iter().map(bytes_of).collect::<Vec<_>>(), before);
            let end = log.end();
            let all = read_all(&log, Offset::ZERO, end, 700).await;
            assert_eq!(all.len() as u64, to / 2 + 1, "{to}");
            let newest = log.find_max_timestamp(end).await.expect("searches").expect("found");
            assert_eq!((newest.offset, newest.timestamp.to_wire()), (offset(to), 2000));
            drop(log);
            let (log, opened) = open(&runtime, &small()).await;
            assert_eq!((log.end(), opened.truncated_bytes), (end, 0));
        });
    }
}

#[test]
fn a_log_may_begin_anew_anywhere() {
    block_on(11, |runtime| async move {
        let (log, _) = open(&runtime, &small()).await;
        for at in [0, 1000, 5, 5] {
            append(&log, &batch(log.end().get(), 1, 100, 1000)).await;
            log.truncate_fully_and_start_at(offset(at)).await.expect("restarts");
            assert_eq!((log.start(), log.end(), log.size_bytes()), (offset(at), offset(at), 0));
            assert_eq!(log.latest_epoch(), None);
            append(&log, &batch(at, 1, 100, 1000)).await;
            assert_eq!(read_all(&log, offset(at), log.end(), 10).await.len(), 1);
        }
    });
}

#[test]
fn records_are_found_by_their_time() {
    block_on(12, |runtime| async move {
        let (log, _) = open(&runtime, &LogConfig { segment_bytes: 900, ..small() }).await;
        let times: Vec<i64> = (0..40).map(|n: i64| 1000 + n * 10 - (n % 3) * 25).collect();
        for (n, time) in times.iter().enumerate() {
            append(&log, &batch(n as u64, 1, 60, *time)).await;
        }
        let end = log.end();
        for reopened in [false, true] {
            for target in 900..1450 {
                let found = log.find_by_timestamp(Timestamp::from_millis(target), end).await;
                let found = found.expect("searches").map(|found| found.offset);
                let expected = times.iter().position(|time| *time >= target);
                let expected = expected.map(|at| offset(at as u64));
                assert_eq!(found, expected, "{target} {reopened}");
            }
            let found = log.find_max_timestamp(end).await.expect("searches").expect("found");
            assert_eq!(found.offset, offset(39));
            log.flush().await.expect("flushes");
            log.release_files();
        }
    });
}

#[test]
fn a_failed_write_leaves_nothing_behind_and_a_failed_sync_ends_the_log() {
    let world = World::new(13);
    let machine = world.machine("host");
    let failing = Faults { write_error: Chance(1_000_000), ..Faults::default() };
    let log = std::rc::Rc::new(std::cell::RefCell::new(None));
    let kept = log.clone();
    world.run(machine, |runtime| async move {
        let (log, _) = open(&runtime, &small()).await;
        append(&log, &batch(0, 1, 100, 1000)).await;
        *kept.borrow_mut() = Some(log);
    });
    let log = log.borrow_mut().take().expect("it was opened");
    world.set_faults(machine, failing);
    let again = log.clone();
    world.run(machine, |_| async move {
        let second = batch(1, 1, 100, 1000);
        assert!(again.append(std::slice::from_ref(&second)).await.is_err());
        assert_eq!(again.end(), offset(1));
    });
    world.set_faults(machine, Faults::default());
    let again = log.clone();
    world.run(machine, |_| async move {
        append(&again, &batch(1, 1, 20, 1000)).await;
        assert_eq!(read_all(&again, Offset::ZERO, offset(2), 10).await.len(), 2);
    });
    world.set_faults(machine, Faults { sync_error: Chance(1_000_000), ..Faults::default() });
    world.run(machine, |_| async move {
        assert!(log.flush().await.is_err());
        assert!(log.is_failed() && log.recovery_point() == Offset::ZERO);
        assert!(log.append(&[batch(2, 1, 20, 1000)]).await.is_err());
    });
}

#[test]
fn a_failed_sync_of_any_file_or_of_the_directory_ends_the_log() {
    let mut failed_count = 0;
    for seed in 0..60 {
        let world = World::new(seed);
        let machine = world.machine("host");
        // Files come first, the directory last: each is the first that fails in some of the worlds.
        let failing = Faults { sync_error: Chance(250_000), ..Faults::default() };
        let log = std::rc::Rc::new(std::cell::RefCell::new(None));
        let kept = log.clone();
        world.run(machine, |runtime| async move {
            let (log, _) = open(&runtime, &small()).await;
            append(&log, &batch(0, 1, 100, 1000)).await;
            *kept.borrow_mut() = Some(log);
        });
        let log = log.borrow_mut().take().expect("it was opened");
        world.set_faults(machine, failing);
        let syncing = log.clone();
        let synced = world.run(machine, |_| async move { syncing.flush().await });
        world.set_faults(machine, Faults::default());
        if synced.is_ok() {
            continue;
        }
        failed_count += 1;
        world.run(machine, |_| async move {
            assert!(log.is_failed() && log.recovery_point() == Offset::ZERO, "seed {seed}");
            assert!(log.append(&[batch(1, 1, 20, 1000)]).await.is_err(), "seed {seed}");
            assert!(log.flush().await.is_err(), "seed {seed}: the next one is no better");
        });
    }
    assert!((20..60).contains(&failed_count), "{failed_count} of 60 failed");
}

#[test]
fn what_a_roll_leaves_to_be_synced_waits_for_its_turn() {
    block_on(15, |runtime| async move {
        let (log, _) = open(&runtime, &small()).await;
        append(&log, &batch(0, 1, 100, 1000)).await;
        let turn = runtime.background_turn().await;
        log.roll().await.expect("it rolls");
        runtime.sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(log.recovery_point(), Offset::ZERO, "others of the core sync");
        drop(turn);
        runtime.sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(log.recovery_point(), offset(1));
    });
}

#[test]
fn a_log_whose_topic_was_deleted_leaves_the_next_one_of_its_name_alone() {
    block_on(15, |runtime| async move {
        let (log, _) = open(&runtime, &small()).await;
        log.begin_epoch(LeaderEpoch::new(3), Offset::ZERO).await;
        append(&log, &batch(0, 1, 100, 1000)).await;
        log.abandon().await;
        let disk = runtime.disk();
        disk.rename(DIRECTORY.as_ref(), "/data/t-0.deleted".as_ref()).await.expect("it moves");
        let (next, _) = open(&runtime, &small()).await;
        let before = names(&runtime).await;
        log.flush().await.expect("there is nothing to do");
        assert!(log.append(&[batch(1, 1, 100, 1000)]).await.is_err());
        assert_eq!(names(&runtime).await, before);
        assert_eq!((next.end(), next.latest_epoch()), (Offset::ZERO, None));
    });
}

#[test]
fn what_an_interrupted_process_left_is_tidied_up() {
    block_on(14, |runtime| async move {
        put_golden(&runtime).await;
        let (base, [log_bytes, ..]) = GOLDEN[2];
        for name in [
            "00000000000000000001.log.deleted",
            "00000000000000000500.log.cleaned",
            "00000000000000000500.log.swap",
            "00000000000000000600.index",
            "00000000000000000700.snapshot.tmp",
            "00000000000000000033.snapshot",
            "00000000000000000040.snapshot",
            "00000000000000000900.snapshot",
        ] {
            put(&runtime, name, b"left").await;
        }
        put(&runtime, "00000000000000000007-0000000001.checkpoint.deleted", b"KRaft's").await;
        // A swap that only the last renames of are missing.
        put(&runtime, &format!("{base}.log.swap"), log_bytes).await;
        let (log, _) = open(&runtime, &golden_config()).await;
        assert_eq!((log.end(), log.segment_count()), (offset(220), 8));
        assert_eq!(log.snapshots(), [offset(33), offset(40)]);
        assert_eq!(
            read_all(&log, Offset::ZERO, log.end(), 1 << 20).await.len(),
            GOLDEN_BATCH_COUNT
        );
        let left = names(&runtime).await;
        let odd = left.iter().filter(|name| {
            [".deleted", ".cleaned", ".swap", ".tmp"].iter().any(|ending| name.ends_with(ending))
        });
        assert_eq!(odd.count(), 1, "{left:?}");
    });
}

#[test]
fn aborted_transactions_are_found_where_they_overlap() {
    block_on(16, |runtime| async move {
        let (log, _) = open(&runtime, &LogConfig { segment_bytes: 500, ..small() }).await;
        for n in 0..20 {
            append(&log, &batch(n, 1, 100, 1000)).await;
        }
        let aborted = |producer_id, first, last, stable| AbortedTransaction {
            producer_id,
            first_offset: offset(first),
            last_offset: offset(last),
            last_stable: offset(stable),
        };
        let all = [aborted(1, 0, 2, 1), aborted(2, 1, 9, 10), aborted(3, 12, 14, 15)];
        log.append_aborted(&all[..2]).await.expect("appended");
        log.append_aborted(&all).await.expect("those known are left out");
        for (from, to, expected) in [
            (0, 20, vec![1, 2, 3]),
            (3, 12, vec![2]),
            (10, 12, vec![]),
            (14, 15, vec![3]),
            (15, 20, vec![]),
        ] {
            let found = log.aborted_transactions(offset(from), offset(to)).await.expect("reads");
            let producers: Vec<i64> = found.into_iter().map(|(producer, _)| producer).collect();
            assert_eq!(producers, expected, "{from}..{to}");
        }
        log.truncate_to(offset(14)).await.expect("truncates");
        let found = log.aborted_transactions(offset(0), offset(20)).await.expect("reads");
        assert_eq!(found, [(1, offset(0)), (2, offset(1))]);
    });
}

#[test]
fn several_batches_are_one_write_and_index_entries_are_per_batch() {
    block_on(21, |runtime| async move {
        let (log, _) = open(&runtime, &small()).await;
        let group: Vec<_> = (0..10).map(|n| batch(n, 1, 200, 1000)).collect();
        log.append(&group).await.expect("appends");
        log.close().await.expect("closes");
        let index = file(&runtime, "00000000000000000000.index").await.expect("it is there");
        let size = group[0].meta.size_bytes;
        assert!(size as usize > HEADER_BYTES + 190);
        let mut expected: Vec<u8> = Vec::new();
        // 256 bytes are crossed by the first batch alone, so each later one has its entry.
        let step: u32 = if size > 256 { 1 } else { 2 };
        for n in (step..10).step_by(step as usize) {
            expected.extend_from_slice(&n.to_be_bytes());
            expected.extend_from_slice(&(n * size).to_be_bytes());
        }
        assert_eq!(index, expected);
    });
}

#[test]
fn an_idle_log_keeps_no_file_open_and_little_memory() {
    let inner = size_of::<crate::log::log::Inner>();
    let segment = size_of::<crate::log::segment::Segment>();
    println!("log {inner} bytes, segment {segment} bytes");
    assert!(inner <= 640 && segment <= 448, "log {inner} bytes, segment {segment} bytes");
    block_on(22, |runtime| async move {
        put_golden(&runtime).await;
        let mut setup = setup(&golden_config());
        setup.clean = true;
        let (log, _) = Log::open(&runtime, setup.clone()).await.expect("it opens");
        assert!(!log.active().is_open());
        log.close().await.expect("closes");
        assert!(!log.active().is_open(), "an idle log is closed without a sync");
    });
}

#[test]
fn damaged_epochs_and_a_start_beyond_the_end_are_told() {
    block_on(15, |runtime| async move {
        put_golden(&runtime).await;
        put(&runtime, "leader-epoch-checkpoint", b"0\n2\n0 0\n").await;
        let opened = Log::open(&runtime, setup(&small())).await;
        assert!(matches!(opened, Err(OpenError::Damaged { .. })));
        put(&runtime, "leader-epoch-checkpoint", b"0\n1\n0 0\n").await;
        let mut beyond = setup(&small());
        beyond.log_start = offset(500);
        let (log, _) = Log::open(&runtime, beyond).await.expect("it opens");
        assert_eq!((log.start(), log.end(), log.segment_count()), (offset(500), offset(500), 1));
        let mut within = setup(&small());
        within.log_start = offset(507);
        append(&log, &batch(500, 10, 10, 1)).await;
        let (log, _) = Log::open(&runtime, within).await.expect("it opens");
        assert_eq!((log.start(), log.end()), (offset(507), offset(510)));
        assert_eq!(read_all(&log, offset(507), offset(510), 10).await.len(), 1);
    });
}
