//! Writing: prepared batches, sent over and over.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::Instant;
use crate::protocol::batch::{BatchView, HEADER_BYTES, sequence_after};
use crate::protocol::builder::ProducerStamp;
use crate::protocol::error::Retry;
use crate::protocol::list_offsets::LATEST_TIMESTAMP;
use crate::runtime::Runtime;
use crate::runtime::sim::Random;

use super::super::args::{AcksArg, BenchArgs, BenchProduceArgs, LoadArgs, TopicCommand};
use super::super::client::{ClientError, Cluster, Outcome};
use super::super::offsets::list_offsets;
use super::super::terminal::{Done, Failure, Progress, Visible};
use super::super::topic;
use super::batches::{Recipe, Stamper};
use super::frames::{Frames, Requests};
use super::meter::{Course, Meter};
use super::page::{NOTE_CLOSED, NOTE_OPEN, Rate};
use super::pipe::{Pipe, Source};
use super::producers::{self, PAUSE, Seat, Speed, TRIES};
use super::seconds::Amount;
use super::{Creation, Load, Target, open, seconds, tell};

/// Runs the command.
pub async fn run(runtime: Runtime, args: BenchProduceArgs) -> Done {
    let (common, load) = (&args.common, &args.load);
    let field = Field::open(&runtime, common, load, args.batch_records).await?;
    let course = Course::new();
    let meter = Meter::new(&course, seconds(common.duration));
    let speed = match args.rate.filter(|rate| *rate > 0.0) {
        Some(rate) => Speed::Rate(rate),
        None => Speed::Fast { in_flight: args.in_flight.max(1) as usize },
    };
    let pipes = field.start(speed, &meter).await?;
    let progress = Progress::new(Visible::unless(common.json));
    let progress = &progress;
    let load = Load { runtime: &runtime, args: common, course, pipes, workers: 0, progress };
    let took = load.measure(|passed| meter.report("produce", passed).line()).await;
    load.course.stop();
    progress.end("done");
    let report = meter.last_report("produce", took?);
    let note = match speed {
        Speed::Rate(_) => NOTE_OPEN,
        Speed::Fast { .. } => NOTE_CLOSED,
    };
    tell(&runtime, common, &report, Rate::Requests, &[note]).await
}

/// A topic to write to, and batches for it.
pub struct Field {
    cluster: Cluster,
    /// Where the topic's partitions are.
    pub target: Rc<Target>,
    connections: u32,
    load: LoadArgs,
    batches: Vec<Bytes>,
    /// Where the batches are stamped: as many, for idempotent producers.
    stampers: Rc<[Stamper]>,
}

impl Field {
    /// Creates the topic when it is missing, and prepares batches.
    pub async fn open(
        runtime: &Runtime,
        common: &BenchArgs,
        load: &LoadArgs,
        batch_records: u32,
    ) -> Result<Self, Failure> {
        check_idempotent(load)?;
        let recipe = Recipe::new(load, batch_records).map_err(Failure)?;
        let (cluster, target) = open_topic(runtime, common, load).await?;
        let mut random = Random::new(runtime.random());
        let batches = recipe.prepare(runtime.wall_clock().to_wire(), &mut random)?;
        let stampers =
            batches.iter().filter(|_| load.idempotent).filter_map(|batch| Stamper::new(batch));
        Ok(Self {
            cluster,
            target,
            connections: common.connections.max(1),
            load: load.clone(),
            stampers: stampers.collect(),
            batches,
        })
    }

    /// Connects and starts to write.
    pub async fn start(&self, speed: Speed, meter: &Meter) -> Result<Vec<Rc<Pipe>>, Failure> {
        let mut known: Vec<Rc<Requests>> = Vec::new();
        let source = |seat: &Seat| {
            let version = seat.version;
            let requests = known.iter().find(|known| known.version() == version).cloned();
            let requests = requests.unwrap_or_else(|| {
                Rc::new(Requests::new(version, &self.target, self.load.acks, &self.batches))
            });
            known.push(requests.clone());
            Prepared {
                place: u64::from(seat.index),
                partitions: seat.partitions.clone(),
                batches: self.batches.clone(),
                record_counts: self.batches.iter().map(|batch| record_count(batch)).collect(),
                stamp: seat.stamp,
                stampers: self.stampers.clone(),
                sequences: vec![0; seat.partitions.len()],
                requests,
            }
        };
        let Self { cluster, target, connections, load, .. } = self;
        producers::start(cluster, target, load, *connections, speed, meter, source).await
    }
}

/// Refuses what an idempotent producer can not do.
pub fn check_idempotent(load: &LoadArgs) -> Done {
    if load.idempotent && load.acks != AcksArg::All {
        return Err(Failure::new("an idempotent producer needs --acks all"));
    }
    Ok(())
}

/// Connects, and creates the topic when it is missing.
pub async fn open_topic(
    runtime: &Runtime,
    common: &BenchArgs,
    load: &LoadArgs,
) -> Result<(Cluster, Rc<Target>), Failure> {
    let cluster = open(runtime, &common.cluster).await?;
    let creation = TopicCommand::Create {
        name: common.topic.clone(),
        cluster: common.cluster.clone(),
        partitions: Some(load.partitions),
        replicas: None,
        configs: Vec::new(),
        if_not_exists: true,
        validate_only: false,
    };
    topic::create(runtime, creation).await?;
    // Just created, it may be unknown for a while.
    let target = Target::find(&cluster, &common.topic, Creation::Allowed).await?;
    wait_for_leaders(&cluster, &target).await?;
    Ok((cluster, Rc::new(target)))
}

/// Waits until the leaders of a new topic know that they are: metadata tells of them earlier.
async fn wait_for_leaders(cluster: &Cluster, target: &Target) -> Outcome<()> {
    let ask = || list_offsets(cluster, &target.name, &target.leaders, LATEST_TIMESTAMP);
    for _ in 0..TRIES {
        match ask().await {
            Err(ClientError::Refused { code, .. }) if code.retry() != Retry::Never => {
                cluster.runtime().sleep(PAUSE).await;
            }
            outcome => return outcome.map(drop),
        }
    }
    ask().await.map(drop)
}

fn record_count(batch: &[u8]) -> i32 {
    BatchView::parse(batch).map_or(0, |batch| batch.header.record_count)
}

/// One connection's requests: the prepared batches and the partitions, each in turn.
struct Prepared {
    /// Which connection it is: each begins with another partition and another batch.
    place: u64,
    partitions: Vec<i32>,
    batches: Vec<Bytes>,
    record_counts: Vec<i32>,
    stamp: Option<ProducerStamp>,
    stampers: Rc<[Stamper]>,
    /// By partition, as in `partitions`: the next sequence.
    sequences: Vec<i32>,
    requests: Rc<Requests>,
}

impl Source for Prepared {
    fn put(&mut self, index: u64, correlation_id: i32, _: Instant, to: &mut Frames) -> Amount {
        let turn = self.place + index;
        let partition_count = self.partitions.len() as u64;
        let place = (turn % partition_count) as usize;
        // So that a partition does not get the same batch each time.
        let variant = ((turn + turn / partition_count) % self.batches.len() as u64) as usize;
        let (batch, record_count) = (&self.batches[variant], self.record_counts[variant]);
        self.requests.put_head(variant, correlation_id, self.partitions[place], to);
        match self.stamp {
            None => to.share(batch, 0),
            Some(stamp) => {
                let base_sequence = self.sequences[place];
                let stamp = ProducerStamp { base_sequence, ..stamp };
                to.put(&self.stampers[variant].header(stamp));
                to.share(batch, HEADER_BYTES);
                self.sequences[place] = sequence_after(base_sequence, record_count);
            }
        }
        self.requests.put_tail(to);
        let records = u64::from(record_count.unsigned_abs());
        Amount { requests: 1, records, bytes: batch.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::SizeRange;
    use crate::protocol::Message;
    use crate::protocol::batch::Batches;
    use crate::protocol::compression::Codec;
    use crate::protocol::frame::{RequestHeader, split_frame};
    use crate::protocol::produce::ProduceRequest;
    use crate::runtime::Chunk;

    #[test]
    fn idempotent_producers_number_the_records_of_each_partition_without_a_gap() {
        let recipe = Recipe {
            value_bytes: SizeRange { min: 10, max: 9_000 },
            keys: 0,
            key_bytes: 16,
            batch_records: 3,
            codec: Codec::None,
        };
        let batches = recipe.prepare(7, &mut Random::new(1)).expect("builds");
        let target = producers::target(4);
        let mut source = Prepared {
            place: 2,
            partitions: vec![0, 2],
            record_counts: batches.iter().map(|batch| record_count(batch)).collect(),
            sequences: vec![i32::MAX - 4, 0],
            stamp: Some(ProducerStamp { id: 7, epoch: 1, base_sequence: 0 }),
            stampers: batches.iter().filter_map(|batch| Stamper::new(batch)).collect(),
            requests: Rc::new(Requests::new(9, &target, AcksArg::All, &batches)),
            batches,
        };
        let mut frames = Frames::default();
        for index in 0..6 {
            source.put(index, 100 + index as i32, Instant::default(), &mut frames);
        }
        let sent = frames.chunks().iter().map(|chunk| match chunk {
            Chunk::Bytes(bytes) => bytes.clone(),
            Chunk::File(_) => Bytes::new(),
        });
        let mut sent = bytes::BytesMut::from(&sent.collect::<Vec<_>>().concat()[..]);
        let mut seen = Vec::new();
        while let Ok(Some(frame)) = split_frame(&mut sent, 1 << 20) {
            let (header, body) = RequestHeader::parse(frame).expect("a header");
            let request = ProduceRequest::decode(header.version, body).expect("a request");
            let partition = &request.topics[0].partitions[0];
            let batch = Batches::new(&partition.records).next().expect("a batch").expect("whole");
            assert!(batch.is_intact());
            let producer = (batch.header.producer_id, batch.header.producer_epoch);
            assert_eq!(producer, (7, 1));
            seen.push((header.correlation_id, partition.index, batch.header.base_sequence));
        }
        const MAX: i32 = i32::MAX;
        let expected = [
            (100, 0, MAX - 4),
            (101, 2, 0),
            (102, 0, MAX - 1),
            (103, 2, 3),
            (104, 0, 1),
            (105, 2, 6),
        ];
        assert_eq!(seen, expected);
    }
}
