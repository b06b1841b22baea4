//! From one end to the other: records are sent at their time, and consumers that wait for them tell
//! when they have them. Every record has a number, so that lost and doubled ones are known.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::base::{Instant, NodeId};
use crate::protocol::Malformed;
use crate::protocol::batch::{BatchView, Batches, sequence_after};
use crate::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use crate::protocol::compression::decompress;
use crate::protocol::list_offsets::LATEST_TIMESTAMP;
use crate::protocol::record::Records;
use crate::runtime::Runtime;
use crate::runtime::sim::Random;

use super::super::args::{AcksArg, BenchEndToEndArgs, SizeRange};
use super::super::client::{Cluster, Connection, Outcome};
use super::super::fetch::{Amounts, Fetched, fetch};
use super::super::offsets::list_offsets;
use super::super::produce::request;
use super::super::terminal::{Done, Failure, Progress, Visible};
use super::batches::{Recipe, draw_size, fill};
use super::consume::shares;
use super::frames::{Frames, header};
use super::meter::{Course, Meter};
use super::page::{NOTE_OPEN, NOTE_SECONDS, NOTES_ALWAYS, Page, Rate, Table, plots};
use super::pipe::{Pipe, Source};
use super::produce::{check_idempotent, open_topic};
use super::producers::{self, Seat, Speed};
use super::report::{Form, Latency, Report, row};
use super::seconds::Amount;
use super::{Load, Target, command_line, report, seconds, wait, write};

/// How long behind the end a record may arrive before it is lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Most bytes of an answer to a consumer.
const FETCH_BYTES_MAX: i32 = 1 << 20;

/// How long a consumer's request may wait at the broker, in milliseconds.
const FETCH_WAIT_MS: i32 = 500;

/// Most bytes a batch may hold uncompressed.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// What the figures mean.
const NOTE_END_TO_END: &str = "Latency counts from when a record was due to when a consumer that \
     waits for it had the answer it came in. The records of a batch are due together; what a \
     producer adds that waits for a batch to fill is not in it. Producers and consumers share one \
     process, so that one clock tells both times.";

/// What came of it.
#[derive(Debug, Serialize)]
struct EndToEnd {
    #[serde(flatten)]
    report: Report,
    consumers: u32,
    /// Records sent in the whole run, the warm-up included.
    sent: u64,
    /// How many of them arrived.
    received: u64,
    /// How many did not, until 10 s behind the end.
    lost: u64,
    /// How many arrived more than once, each time counted.
    duplicates: u64,
    /// From when requests were due to when they were acknowledged.
    produce_latency_us: Latency,
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: BenchEndToEndArgs) -> Done {
    let common = &args.common;
    if !args.rate.is_finite() || args.rate <= 0.0 {
        return Err(Failure::new("the rate is records a second, more than 0"));
    }
    check_idempotent(&args.load)?;
    let (cluster, target) = open_topic(&runtime, common, &args.load).await?;
    let course = Course::new();
    let arrivals = Meter::new(&course, seconds(common.duration));
    let answers = Meter::new(&course, seconds(common.duration));
    let ledger = Rc::new(Ledger::new(runtime.random()));
    let scene = Scene { runtime: &runtime, args: &args, cluster: &cluster, target: &target };
    scene.start_consumers(&arrivals, &ledger).await?;
    let pipes = scene.start_producers(&answers, &ledger).await?;
    let progress = &Progress::new(Visible::unless(common.json));
    let load = Load { runtime: &runtime, args: common, course, pipes, workers: 0, progress };
    let told = |passed| {
        let missing = ledger.sent() - ledger.received();
        format!("{}, {missing} on the way", arrivals.report("end-to-end", passed).line())
    };
    let took = load.measure_until(told, LOST_AFTER, || ledger.is_complete()).await;
    load.course.stop();
    progress.end("done");
    let told = conclude(&args, &arrivals, &answers, &ledger, took?);
    report::print(Form::chosen(common.json), &told, &told.lines())?;
    if let Some(path) = &common.html {
        write(&runtime, path, &told.page(&args)).await?;
    }
    match told.lost {
        0 => Ok(()),
        lost => Err(Failure(format!("{lost} of {} records did not arrive", told.sent))),
    }
}

/// Puts together what the consumers and the producers have counted.
fn conclude(
    args: &BenchEndToEndArgs,
    arrivals: &Meter,
    answers: &Meter,
    ledger: &Ledger,
    took: Duration,
) -> EndToEnd {
    let mut report = arrivals.last_report("end-to-end", took);
    let answered = answers.last_report("end-to-end", took);
    report.requests = answered.requests;
    report.requests_per_second = answered.requests_per_second;
    report.sent_late_us = answered.sent_late_us;
    report.unanswered = answered.unanswered;
    for (second, answered) in report.per_second.iter_mut().zip(&answered.per_second) {
        second.requests = answered.requests;
    }
    EndToEnd {
        report,
        consumers: args.consumers.max(1),
        sent: ledger.sent(),
        received: ledger.received(),
        lost: ledger.sent() - ledger.received(),
        duplicates: ledger.duplicates.get(),
        produce_latency_us: answered.latency_us,
    }
}

impl EndToEnd {
    fn lines(&self) -> Vec<String> {
        let mut lines = self.report.lines();
        lines.push(format!("  produce   {}", self.produce_latency_us.line()));
        lines.push(format!(
            "  {} sent, {} received, {} lost, {} duplicates",
            self.sent, self.received, self.lost, self.duplicates
        ));
        lines
    }

    fn page(&self, args: &BenchEndToEndArgs) -> Page {
        let mut rows = self.report.rows();
        let counts = [
            ("records sent, with the warm-up", self.sent),
            ("lost", self.lost),
            ("duplicates", self.duplicates),
        ];
        rows.extend(counts.map(|(name, count)| row(name, count.to_string())));
        rows.push(row("until acknowledged", self.produce_latency_us.line()));
        Page {
            title: "corelog bench end-to-end".to_owned(),
            command: command_line(),
            brokers: args.common.cluster.bootstrap.clone(),
            tables: vec![Table::of_rows(rows)],
            plots: plots(&self.report, Rate::Records),
            notes: [NOTE_END_TO_END, NOTE_OPEN, NOTE_SECONDS]
                .into_iter()
                .chain(NOTES_ALWAYS)
                .collect(),
        }
    }
}

/// What both ends are made of.
struct Scene<'a> {
    runtime: &'a Runtime,
    args: &'a BenchEndToEndArgs,
    cluster: &'a Cluster,
    target: &'a Rc<Target>,
}

impl Scene<'_> {
    /// Every consumer gets its share of the partitions, from their ends on.
    async fn start_consumers(&self, meter: &Meter, ledger: &Rc<Ledger>) -> Done {
        let Self { runtime, cluster, target, .. } = self;
        let consumers = self.args.consumers.max(1) as usize;
        if consumers > target.leaders.len() {
            let count = target.leaders.len();
            return Err(Failure(format!("the topic has {count} partitions, fewer than consumers")));
        }
        let ends = list_offsets(cluster, &target.name, &target.leaders, LATEST_TIMESTAMP).await?;
        for by_node in shares(&target.leaders, &ends, consumers) {
            for (node, next) in by_node {
                let consumer = Consumer {
                    runtime: (*runtime).clone(),
                    connection: cluster.new_connection(node).await?,
                    node,
                    target: (*target).clone(),
                    next,
                    meter: meter.clone(),
                    ledger: ledger.clone(),
                };
                let meter = meter.clone();
                runtime.spawn("bench consumer", async move {
                    let outcome = consumer.read().await;
                    meter.finish(outcome);
                });
            }
        }
        Ok(())
    }

    async fn start_producers(
        &self,
        meter: &Meter,
        ledger: &Rc<Ledger>,
    ) -> Result<Vec<Rc<Pipe>>, Failure> {
        let Self { runtime, args, cluster, target } = self;
        let mut recipe = Recipe::new(&args.load, args.batch_records).map_err(Failure)?;
        let SizeRange { min, max } = recipe.value_bytes;
        recipe.value_bytes = SizeRange { min: min.max(MARK_BYTES), max: max.max(MARK_BYTES) };
        let speed = Speed::Rate(args.rate / f64::from(recipe.batch_records));
        let source = |seat: &Seat| {
            let mut random = Random::new(runtime.random());
            let mut value = vec![0; recipe.value_bytes.max];
            fill(&mut random, &mut value);
            Marked {
                runtime: (*runtime).clone(),
                target: (*target).clone(),
                version: seat.version,
                acks: args.load.acks,
                recipe,
                random,
                value,
                place: u64::from(seat.index),
                partitions: seat.partitions.clone(),
                stamp: seat.stamp,
                sequences: vec![0; seat.partitions.len()],
                ledger: ledger.clone(),
            }
        };
        let connections = args.common.connections.max(1);
        producers::start(cluster, target, &args.load, connections, speed, meter, source).await
    }
}

impl Load<'_> {
    /// As [`measure`](Load::measure), but waits up to `limit` behind the end until it is complete.
    async fn measure_until(
        &self,
        tell: impl Fn(Duration) -> String,
        limit: Duration,
        is_complete: impl Fn() -> bool,
    ) -> Result<Duration, Failure> {
        let took = self.measure_open(tell).await?;
        let all_answered = || self.pipes.iter().all(|pipe| pipe.is_done());
        let over = || !self.course.runs() || (all_answered() && is_complete());
        let left = |_| self.progress.show("waiting for records");
        wait(self.runtime, limit, over, left).await;
        self.close()?;
        Ok(took)
    }
}

/// Bytes at the start of a value that tell which record it is.
const MARK_BYTES: usize = 24;

/// Which record a value is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Mark {
    /// The run it was sent in, a random number.
    run: u64,
    /// Its number, from 0 on.
    number: u64,
    /// When it was due.
    due: Instant,
}

impl Mark {
    /// Writes the mark over the start of a value of at least [`MARK_BYTES`].
    fn write(self, value: &mut [u8]) {
        value[..8].copy_from_slice(&self.run.to_be_bytes());
        value[8..16].copy_from_slice(&self.number.to_be_bytes());
        value[16..24].copy_from_slice(&self.due.nanos().to_be_bytes());
    }

    /// The mark of a value; `None` when it is too short for one.
    fn read(value: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let raw = value.get(at..)?.first_chunk()?;
            Some(u64::from_be_bytes(*raw))
        };
        Some(Self { run: word(0)?, number: word(8)?, due: Instant::from_nanos(word(16)?) })
    }
}

/// Which records were sent and which arrived. A bit for each.
struct Ledger {
    run: u64,
    sent: Cell<u64>,
    arrived: RefCell<Vec<u64>>,
    received: Cell<u64>,
    duplicates: Cell<u64>,
}

impl Ledger {
    fn new(run: u64) -> Self {
        Self {
            run,
            sent: Cell::new(0),
            arrived: RefCell::default(),
            received: Cell::new(0),
            duplicates: Cell::new(0),
        }
    }

    /// Records sent.
    fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Records that arrived, each counted once.
    fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether everything sent has arrived.
    fn is_complete(&self) -> bool {
        self.sent() == self.received()
    }

    /// The mark of the next record.
    fn mark(&self, due: Instant) -> Mark {
        let number = self.sent.get();
        self.sent.set(number + 1);
        Mark { run: self.run, number, due }
    }

    /// Takes a value that arrived: when it was due, if it is one of ours and new.
    fn arrive(&self, value: &[u8]) -> Option<Instant> {
        let mark = Mark::read(value)?;
        if mark.run != self.run || mark.number >= self.sent.get() {
            return None;
        }
        let (word, bit) = ((mark.number / 64) as usize, 1 << (mark.number % 64));
        let mut arrived = self.arrived.borrow_mut();
        if arrived.len() <= word {
            arrived.resize(word + 1, 0_u64);
        }
        if arrived[word] & bit != 0 {
            self.duplicates.set(self.duplicates.get() + 1);
            return None;
        }
        arrived[word] |= bit;
        self.received.set(self.received.get() + 1);
        Some(mark.due)
    }
}

/// One connection's requests: batches that are built when they are due.
struct Marked {
    runtime: Runtime,
    target: Rc<Target>,
    version: i16,
    acks: AcksArg,
    recipe: Recipe,
    random: Random,
    /// Random bytes, of which each value is the beginning, behind its mark.
    value: Vec<u8>,
    place: u64,
    partitions: Vec<i32>,
    stamp: Option<ProducerStamp>,
    /// By partition, as in `partitions`: the next sequence.
    sequences: Vec<i32>,
    ledger: Rc<Ledger>,
}

impl Source for Marked {
    fn put(&mut self, index: u64, correlation_id: i32, due: Instant, to: &mut Frames) -> Amount {
        let place = ((self.place + index) % self.partitions.len() as u64) as usize;
        let mut builder = BatchBuilder::new().compression(self.recipe.codec);
        if let Some(stamp) = self.stamp {
            let base_sequence = self.sequences[place];
            builder = builder.producer(ProducerStamp { base_sequence, ..stamp });
            let count = i32::try_from(self.recipe.batch_records).unwrap_or(i32::MAX);
            self.sequences[place] = sequence_after(base_sequence, count);
        }
        let timestamp = self.runtime.wall_clock().to_wire();
        for _ in 0..self.recipe.batch_records {
            let size = draw_size(&mut self.random, self.recipe.value_bytes);
            self.ledger.mark(due).write(&mut self.value);
            let key = self.recipe.key(&mut self.random);
            builder.append(&NewRecord {
                timestamp,
                key: key.as_deref().map(str::as_bytes),
                value: Some(&self.value[..size]),
                headers: &[],
            });
        }
        let batch = builder.build().expect("the codecs have their default levels");
        let bytes = batch.len() as u64;
        let request = request(&self.target, self.partitions[place], self.acks, batch);
        to.share(&header(self.version, correlation_id).request(&request), 0);
        Amount { requests: 1, records: u64::from(self.recipe.batch_records), bytes }
    }
}

/// One consumer's connection to one node.
struct Consumer {
    runtime: Runtime,
    connection: Connection,
    node: NodeId,
    target: Rc<Target>,
    /// The next offset of each partition.
    next: BTreeMap<i32, u64>,
    meter: Meter,
    ledger: Rc<Ledger>,
}

impl Consumer {
    async fn read(mut self) -> Outcome<()> {
        let amounts = Amounts {
            bytes_max: FETCH_BYTES_MAX,
            partition_bytes_max: FETCH_BYTES_MAX,
            bytes_min: 1,
            wait_ms: FETCH_WAIT_MS,
            isolation: 0,
        };
        while self.meter.runs() {
            let (target, next) = (&self.target, &self.next);
            let fetched = fetch(&self.connection, target, self.node, next, amounts).await?;
            let now = self.runtime.now();
            for part in &fetched {
                self.take(part, now)?;
            }
            self.runtime.pass().await;
        }
        Ok(())
    }

    fn take(&mut self, part: &Fetched, now: Instant) -> Outcome<()> {
        for batch in Batches::new(&part.records) {
            let batch = batch.map_err(|_| Malformed::new("a batch that is none"))?;
            let next = u64::try_from(batch.header.next_offset()).unwrap_or(0);
            let place = self.next.entry(part.partition).or_default();
            let from = *place;
            *place = from.max(next);
            if !batch.header.is_control() {
                self.take_batch(&batch, from, now)?;
            }
        }
        Ok(())
    }

    /// Takes the records of a batch from this offset on.
    fn take_batch(&self, batch: &BatchView<'_>, from: u64, now: Instant) -> Outcome<()> {
        let payload = decompress(batch, BATCH_BYTES_MAX)
            .map_err(|_| Malformed::new("a batch that does not decompress"))?;
        let mut amount = Amount::default();
        for record in Records::new(&payload, batch.header.record_count) {
            let record = record.map_err(|_| Malformed::new("a record that is none"))?;
            if u64::try_from(batch.header.offset_of(&record)).unwrap_or(0) < from {
                continue;
            }
            if let Some(due) = record.value.and_then(|value| self.ledger.arrive(value)) {
                self.meter.latency(due, now);
                amount.records += 1;
            }
        }
        if amount.records > 0 {
            amount.bytes = batch.bytes().len() as u64;
            self.meter.tally(now, amount);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_doubled_records_are_known_and_foreign_ones_are_not_ours() {
        let ledger = Ledger::new(77);
        let mut values = Vec::new();
        for index in 0..200 {
            let mut value = vec![9; MARK_BYTES + index % 3];
            ledger.mark(Instant::from_nanos(index as u64 * 10)).write(&mut value);
            values.push(value);
        }
        for (index, value) in values.iter().enumerate().filter(|(index, _)| *index != 130) {
            assert_eq!(ledger.arrive(value), Some(Instant::from_nanos(index as u64 * 10)));
        }
        assert_eq!(ledger.arrive(&values[65]), None);
        let foreign = Mark { run: 78, number: 130, due: Instant::from_nanos(0) };
        let unsent = Mark { run: 77, number: 200, due: Instant::from_nanos(0) };
        for mark in [foreign, unsent] {
            let mut value = [0; MARK_BYTES];
            mark.write(&mut value);
            assert_eq!(Mark::read(&value), Some(mark));
            assert_eq!(ledger.arrive(&value), None);
        }
        assert_eq!(ledger.arrive(b"short"), None);
        assert_eq!((ledger.sent(), ledger.received()), (200, 199));
        assert_eq!(ledger.duplicates.get(), 1);
        assert!(!ledger.is_complete());
        ledger.arrive(&values[130]);
        assert!(ledger.is_complete());
    }
}
