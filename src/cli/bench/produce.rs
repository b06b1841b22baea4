//! Writing: one prepared batch, sent over and over.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::builder::{BatchBuilder, NewRecord};
use crate::protocol::produce::ProduceResponse;
use crate::runtime::Runtime;
use crate::runtime::local::Budget;

use super::super::args::{AcksArg, BenchProduceArgs, TopicCommand};
use super::super::client::{Connection, Outcome};
use super::super::produce::{refusal, request};
use super::super::terminal::{Done, Failure};
use super::super::topic;
use super::{Creation, Meter, Target, due, measure, open};

/// Requests at a fixed rate that may wait for their answers on one connection.
const IN_FLIGHT_MAX: u64 = 10_000;

/// Requests without answers that may wait to be written.
const UNSENT_MAX: usize = 64;

/// One connection's share of the load.
struct Worker {
    runtime: Runtime,
    connection: Connection,
    target: Rc<Target>,
    /// The partitions it writes to in turn.
    partitions: Vec<i32>,
    acks: AcksArg,
    batch: Bytes,
    batch_records: u64,
    meter: Meter,
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: BenchProduceArgs) -> Done {
    let cluster = open(&runtime, &args.common.cluster).await?;
    topic::create(&runtime, creation(&args)).await?;
    // Just created, it may be unknown for a while.
    let target = Target::find(&cluster, &args.common.topic, Creation::Allowed).await?;
    let target = Rc::new(target);
    let batch = batch(&args, &runtime)?;
    let meter = Meter::new()?;
    let leaders: Vec<_> = target.leaders.values().copied().collect();
    let mut nodes = leaders.clone();
    nodes.sort_unstable();
    nodes.dedup();
    let mut workers = 0;
    for index in 0..args.common.connections.max(1) {
        let node = nodes[index as usize % nodes.len()];
        let led = target.leaders.iter().filter(|(_, leader)| **leader == node);
        let worker = Rc::new(Worker {
            runtime: runtime.clone(),
            connection: cluster.new_connection(node).await?,
            target: target.clone(),
            partitions: led.map(|(partition, _)| *partition).collect(),
            acks: args.acks,
            batch: batch.clone(),
            batch_records: u64::from(args.batch_records),
            meter: meter.clone(),
        });
        workers += start(&worker, &args, u64::from(index));
    }
    measure(&runtime, &args.common, &meter, "produce", workers).await
}

/// The command that creates the topic when it is missing.
fn creation(args: &BenchProduceArgs) -> TopicCommand {
    TopicCommand::Create {
        name: args.common.topic.clone(),
        cluster: args.common.cluster.clone(),
        partitions: Some(args.partitions),
        replicas: None,
        configs: Vec::new(),
        if_not_exists: true,
        validate_only: false,
    }
}

fn batch(args: &BenchProduceArgs, runtime: &Runtime) -> Result<Bytes, Failure> {
    let mut value = Vec::with_capacity(args.record_bytes + 8);
    while value.len() < args.record_bytes {
        value.extend_from_slice(&runtime.random().to_le_bytes());
    }
    value.truncate(args.record_bytes);
    let mut builder = BatchBuilder::new().compression(args.compression.codec());
    for _ in 0..args.batch_records.max(1) {
        builder.append(&NewRecord {
            timestamp: runtime.wall_clock().to_wire(),
            key: None,
            value: Some(&value),
            headers: &[],
        });
    }
    Ok(builder.build()?)
}

/// Spawns the worker's tasks, and tells how many.
fn start(worker: &Rc<Worker>, args: &BenchProduceArgs, index: u64) -> u32 {
    let runtime = &worker.runtime;
    if args.acks == AcksArg::None {
        let worker = worker.clone();
        let interval = interval(args);
        runtime.spawn("bench", async move {
            let outcome = worker.send_unanswered(index, interval).await;
            worker.meter.finish(outcome);
        });
        return 1;
    }
    if let Some(interval) = interval(args) {
        let worker = worker.clone();
        runtime.spawn("bench", async move {
            let outcome = worker.clone().send_at_rate(index, interval).await;
            worker.meter.finish(outcome);
        });
        return 1;
    }
    for lane in 0..args.in_flight.max(1) {
        let worker = worker.clone();
        let step = u64::from(args.in_flight.max(1));
        runtime.spawn("bench", async move {
            let outcome = worker.send_at_most(index + u64::from(lane), step).await;
            worker.meter.finish(outcome);
        });
    }
    args.in_flight.max(1)
}

/// The time between two requests of one connection.
fn interval(args: &BenchProduceArgs) -> Option<Duration> {
    let rate = args.rate.filter(|rate| *rate > 0.0)?;
    Some(Duration::from_secs_f64(f64::from(args.common.connections.max(1)) / rate))
}

impl Worker {
    fn partition(&self, turn: u64) -> i32 {
        self.partitions[(turn % self.partitions.len() as u64) as usize]
    }

    fn count(&self, latency: Duration) {
        self.meter.count(latency, self.batch_records, self.batch.len() as u64);
    }

    /// One request after the other.
    async fn send_at_most(&self, mut turn: u64, step: u64) -> Outcome<()> {
        while self.meter.runs() {
            let request =
                request(&self.target, self.partition(turn), self.acks, self.batch.clone());
            let began = self.runtime.now();
            let answer: ProduceResponse = self.connection.call(&request).await?;
            refusal(&self.target, &answer)?;
            self.count(self.runtime.now().since(began));
            turn += step;
        }
        Ok(())
    }

    /// Each request at its time; answers are awaited beside.
    async fn send_at_rate(self: Rc<Self>, first: u64, interval: Duration) -> Outcome<()> {
        let room = Budget::new(IN_FLIGHT_MAX);
        let began = self.runtime.now();
        let mut index = 0;
        while self.meter.runs() {
            let intended = due(began, interval, index);
            let now = self.runtime.now();
            if now < intended {
                self.runtime.sleep(intended.since(now)).await;
            }
            let share = room.take(1).await;
            let partition = self.partition(first + index);
            let request = request(&self.target, partition, self.acks, self.batch.clone());
            let pending = self.connection.send(&request)?;
            let worker = self.clone();
            self.runtime.spawn("bench answer", async move {
                let answer = pending.answer::<ProduceResponse>().await;
                match answer.and_then(|answer| refusal(&worker.target, &answer)) {
                    Ok(()) => worker.count(worker.runtime.now().since(intended)),
                    Err(error) => worker.meter.finish(Err(error)),
                }
                drop(share);
            });
            index += 1;
            self.runtime.pass().await;
        }
        Ok(())
    }

    /// Requests nobody answers: as fast as the socket takes them, or at a rate.
    async fn send_unanswered(&self, first: u64, interval: Option<Duration>) -> Outcome<()> {
        let began = self.runtime.now();
        let mut index = 0;
        while self.meter.runs() {
            let intended = interval.map(|interval| due(began, interval, index));
            let now = self.runtime.now();
            if let Some(intended) = intended.filter(|intended| now < *intended) {
                self.runtime.sleep(intended.since(now)).await;
            }
            while self.connection.unsent() >= UNSENT_MAX {
                self.runtime.sleep(Duration::from_micros(50)).await;
            }
            let partition = self.partition(first + index);
            let request = request(&self.target, partition, self.acks, self.batch.clone());
            self.connection.send_unanswered(&request)?;
            self.count(Duration::ZERO);
            index += 1;
            self.runtime.pass().await;
        }
        Ok(())
    }
}
