//! Random histories of a log beside a plain list of its batches, with kills and power cuts.

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::testing::{DIRECTORY, batch, read_all};
use crate::log::{AppendBatch, BatchMeta, Log, LogConfig, Setup};
use crate::runtime::Runtime;
use crate::runtime::sim::World;

/// Histories that are lived through.
const SEED_COUNT: u64 = 120;

/// Processes that follow each other on one disk.
const LIFE_COUNT: usize = 6;

/// Steps of one process.
const STEP_COUNT: u64 = 25;

/// What the log should be.
#[derive(Clone, Default)]
struct Model {
    batches: Vec<BatchMeta>,
    start: Offset,
    end: Offset,
    recovery_point: Offset,
    was_closed: bool,
    clock_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Farewell {
    Close,
    Kill,
    PowerCut,
}

impl Model {
    fn readable(&self) -> Vec<i64> {
        let above = |meta: &&BatchMeta| meta.last_offset >= self.start;
        self.batches.iter().filter(above).map(|meta| meta.base_offset.to_wire()).collect()
    }

    fn truncate(&mut self, to: Offset) {
        self.batches.retain(|meta| meta.last_offset < to);
        (self.start, self.end) = (self.start.min(to), to);
        self.recovery_point = self.recovery_point.min(to);
    }
}

fn config(seed: u64) -> LogConfig {
    LogConfig {
        segment_bytes: 600 + (seed % 7) as u32 * 400,
        index_interval_bytes: [0, 100, 300][(seed % 3) as usize],
        index_bytes_max: if seed.is_multiple_of(5) { 40 } else { 4096 },
        preallocate: seed.is_multiple_of(4),
        retention_ms: None,
        segment_ms: if seed.is_multiple_of(6) { 50 } else { 1 << 40 },
        ..LogConfig::default()
    }
}

struct Life {
    runtime: Runtime,
    log: Log,
    model: Model,
    config: LogConfig,
}

impl Life {
    fn draw(&self, below: u64) -> u64 {
        self.runtime.random() % below
    }

    async fn begin(runtime: Runtime, mut model: Model, config: LogConfig, last: Farewell) -> Self {
        let setup = Setup {
            directory: DIRECTORY.into(),
            config: config.clone(),
            recovery_point: model.recovery_point,
            log_start: model.start,
            clean: model.was_closed,
            journaled: Vec::new(),
        };
        let (log, opened) = Log::open(&runtime, setup).await.expect("it opens");
        if last == Farewell::PowerCut {
            // What was synced is there; of the rest some, from the front.
            assert!(log.end() >= model.recovery_point, "{} is durable", model.recovery_point);
            let end = log.end();
            model.batches.retain(|meta| meta.last_offset < end);
            let last = model.batches.last().map(|meta| meta.last_offset.next());
            assert!(last.is_none_or(|last| last <= end) && end <= model.end);
            model.end = end;
        } else {
            assert_eq!(opened.truncated_bytes, 0, "nothing was torn");
            assert_eq!(log.end(), model.end, "after {last:?}");
        }
        if model.was_closed {
            assert_eq!(opened, Default::default(), "a clean start checks nothing");
        }
        assert_eq!(log.start(), model.start);
        model.was_closed = false;
        let life = Self { runtime, log, model, config };
        life.check().await;
        life
    }

    async fn check(&self) {
        let (start, end) = (self.log.start(), self.log.end());
        let bytes_max = 1 + self.draw(2000) as u32;
        let read = read_all(&self.log, start, end, bytes_max).await;
        let bases: Vec<i64> = read.iter().map(|header| header.base_offset).collect();
        assert_eq!(bases, self.model.readable(), "every batch is read once");
        let Some(meta) =
            self.model.batches.get(self.draw(1 + self.model.batches.len() as u64) as usize)
        else {
            return;
        };
        let from = meta.base_offset.max(start);
        if meta.last_offset >= start {
            let read = read_all(&self.log, from, meta.last_offset.next(), 1).await;
            assert_eq!(read.len(), 1, "{from} alone");
        }
        let target = Timestamp::from_millis(meta.max_timestamp);
        let above = |other: &&BatchMeta| other.last_offset >= start;
        let expected = self
            .model
            .batches
            .iter()
            .filter(above)
            .find(|other| other.max_timestamp >= meta.max_timestamp)
            .map(|other| other.base_offset.max(start));
        let found = self.log.find_by_timestamp(target, end).await.expect("searches");
        assert_eq!(found.map(|found| found.offset), expected, "at {target}");
    }

    async fn append(&mut self) {
        let count = 1 + self.draw(6);
        let mut group: Vec<AppendBatch> = Vec::new();
        let (mut end, mut pending_bytes) = (self.model.end, 0);
        for _ in 0..count {
            self.model.clock_ms += self.draw(12) as i64 - 3;
            let size = self.draw(300) as usize;
            let next = batch(end.get(), 1 + self.draw(4), size, 100_000 + self.model.clock_ms);
            let now = Timestamp::from_millis(100_000 + self.model.clock_ms);
            if self.log.will_roll_after(pending_bytes, &next.meta, now) {
                self.log.append(&group).await.expect("appends");
                group.clear();
                pending_bytes = 0;
                self.log.roll().await.expect("rolls");
            }
            pending_bytes += u64::from(next.meta.size_bytes);
            end = next.meta.last_offset.next();
            self.model.batches.push(next.meta);
            group.push(next);
        }
        self.log.append(&group).await.expect("appends");
        self.model.end = end;
    }

    async fn step(&mut self) {
        let end = self.model.end;
        match self.draw(20) {
            0..=10 => self.append().await,
            11 => self.log.roll().await.expect("rolls"),
            12..=13 => {
                self.model.recovery_point = self.log.flush().await.expect("flushes");
                assert_eq!(self.model.recovery_point, end);
            }
            14 => {
                // At a batch's base: within one, a restart would find another end.
                let at = self.model.batches.len().saturating_sub(self.draw(8) as usize);
                let to = self.model.batches.get(at).map_or(end, |meta| meta.base_offset);
                let to = to.max(self.log.first_segment_base());
                self.log.truncate_to(to).await.expect("truncates");
                self.model.truncate(to);
            }
            15 => {
                self.model.recovery_point = self.log.flush().await.expect("flushes");
                let on = self.draw(1 + end.since(self.model.start));
                self.log.advance_start(self.model.start + on).await.expect("advances");
                self.log.delete_old_segments(Timestamp::default(), end).await.expect("deletes");
                self.model.start = self.model.start + on;
            }
            16 => {
                let epoch = self.log.latest_epoch().map_or(0, |epoch| epoch.to_wire() as u32 + 1);
                self.log.begin_epoch(LeaderEpoch::new(epoch), end).await;
            }
            17 => self.log.release_files(),
            18 => self.runtime.sleep(std::time::Duration::from_secs(self.draw(90))).await,
            _ => {
                let before = self.log.recovery_point();
                self.log.write_snapshot(end, b"state").await.expect("writes");
                assert!(self.log.recovery_point() >= before);
            }
        }
        assert_eq!((self.log.start(), self.log.end()), (self.model.start, self.model.end));
        self.model.recovery_point = self.log.recovery_point();
    }
}

#[test]
fn every_history_keeps_what_was_promised() {
    for seed in 0..SEED_COUNT {
        let world = World::new(seed);
        let machine = world.machine("host");
        world.run(machine, |runtime| async move {
            let disk = runtime.disk();
            disk.create_directories("/data".as_ref()).await.expect("it is made");
            disk.sync_directory("/".as_ref()).await.expect("it is synced");
        });
        let (mut model, mut last) = (Model::default(), Farewell::Kill);
        for _ in 0..LIFE_COUNT {
            (model, last) = world.run(machine, move |runtime| async move {
                let mut life = Life::begin(runtime, model, config(seed), last).await;
                for _ in 0..life.draw(STEP_COUNT) {
                    life.step().await;
                    if life.draw(4) == 0 {
                        life.check().await;
                    }
                }
                life.check().await;
                let farewell = match life.draw(3) {
                    0 => Farewell::Close,
                    1 => Farewell::Kill,
                    _ => Farewell::PowerCut,
                };
                if farewell == Farewell::Close {
                    life.log.close().await.expect("closes");
                    life.model.was_closed = true;
                }
                assert_eq!(life.config, config(seed));
                (life.model, farewell)
            });
            if last == Farewell::PowerCut {
                world.crash(machine);
            }
        }
    }
}
