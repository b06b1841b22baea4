//! Writing: prepared batches, sent over and over.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Instant, NodeId};
use crate::protocol::batch::{BatchView, HEADER_BYTES, sequence_after};
use crate::protocol::builder::ProducerStamp;
use crate::protocol::error::Retry;
use crate::protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::list_offsets::LATEST_TIMESTAMP;
use crate::protocol::produce::ProduceRequest;
use crate::protocol::{ErrorCode, Message};
use crate::runtime::Runtime;

use super::super::args::{AcksArg, BenchArgs, BenchProduceArgs, LoadArgs, TopicCommand};
use super::super::client::{ClientError, Cluster, Outcome};
use super::super::dialogue::Dialogue;
use super::super::offsets::list_offsets;
use super::super::terminal::{Done, Failure, Progress, Visible};
use super::super::topic;
use super::batches::{Dice, Recipe, Stamper};
use super::frames::{Acceptance, Frames, Requests};
use super::meter::{Course, Meter};
use super::page::{NOTE_CLOSED, NOTE_OPEN, Rate};
use super::pipe::{Flow, Link, Pace, Pipe, Source};
use super::seconds::Amount;
use super::{Creation, Load, Target, open, seconds, tell};

/// Requests at a fixed rate that may wait for their answers on one connection.
const IN_FLIGHT_MAX: usize = 10_000;

/// Requests of an idempotent producer that may wait for their answers: of so many a broker
/// remembers the sequences (KIP-98).
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

/// How often a broker that is not ready is asked again, and the wait between two of these.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// How long after it was started a load at a fixed rate begins: all connections together.
pub const START_DELAY: Duration = Duration::from_millis(20);

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

/// How fast requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Speed {
    /// So many a second over all connections.
    Rate(f64),
    /// As fast as possible, with so many in flight on each connection.
    Fast {
        /// Requests in flight.
        in_flight: usize,
    },
}

/// A topic to write to, and batches for it.
pub struct Field {
    runtime: Runtime,
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
        let mut dice = Dice::new(runtime.random());
        let batches = recipe.prepare(runtime.wall_clock().to_wire(), &mut dice)?;
        let stampers =
            batches.iter().filter(|_| load.idempotent).filter_map(|batch| Stamper::new(batch));
        Ok(Self {
            runtime: runtime.clone(),
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
        let mut requests: Vec<Rc<Requests>> = Vec::new();
        let mut opened = Vec::new();
        for index in 0..self.connections {
            let node = node_of(&self.target, index as usize);
            let mut dialogue = self.cluster.new_dialogue(node).await?;
            let stamp = producer(&mut dialogue, &self.load).await?;
            let version = dialogue.version(ProduceRequest::KEY.row())?;
            let known = requests.iter().find(|known| known.version() == version).cloned();
            let known = known.unwrap_or_else(|| {
                Rc::new(Requests::new(version, &self.target, self.load.acks, &self.batches))
            });
            requests.push(known.clone());
            opened.push((node, dialogue, stamp, known));
        }
        let began = self.runtime.now() + START_DELAY;
        let mut pipes = Vec::new();
        for (index, (node, dialogue, stamp, requests)) in opened.into_iter().enumerate() {
            let partitions = led_by(&self.target, node);
            let source = Prepared {
                place: index as u64,
                batches: self.batches.clone(),
                record_counts: self.batches.iter().map(|batch| record_count(batch)).collect(),
                sequences: vec![0; partitions.len()],
                partitions,
                stamp,
                stampers: self.stampers.clone(),
                requests: requests.clone(),
            };
            let flow = Flow {
                pace: pace(speed, began, index as u32, self.connections),
                in_flight_max: in_flight_max(speed, stamp),
                acceptance: acceptance(self.load.acks, requests.version(), &self.target),
            };
            let link = Link {
                runtime: self.runtime.clone(),
                address: self.cluster.address(node)?,
                target: self.target.clone(),
                halves: dialogue.into_halves(),
            };
            pipes.push(Pipe::start(link, flow, source, meter));
        }
        Ok(pipes)
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

/// The node that connection number `index` is opened to: leaders in turn.
pub fn node_of(target: &Target, index: usize) -> NodeId {
    let mut nodes: Vec<NodeId> = target.leaders.values().copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes[index % nodes.len()]
}

/// The partitions a node leads.
pub fn led_by(target: &Target, node: NodeId) -> Vec<i32> {
    let led = target.leaders.iter().filter(|(_, leader)| **leader == node);
    led.map(|(partition, _)| *partition).collect()
}

/// When the requests of connection number `index` of `count` are sent: those of all together are
/// as far apart as those of one would be.
pub fn pace(speed: Speed, began: Instant, index: u32, count: u32) -> Pace {
    match speed {
        Speed::Fast { .. } => Pace::Fast,
        Speed::Rate(rate) => {
            let interval = seconds(f64::from(count) / rate);
            Pace::Timed { began: began + interval / count * index, interval }
        }
    }
}

/// Requests that may wait for answers on one connection.
pub fn in_flight_max(speed: Speed, stamp: Option<ProducerStamp>) -> usize {
    let wanted = match speed {
        Speed::Fast { in_flight } => in_flight,
        Speed::Rate(_) => IN_FLIGHT_MAX,
    };
    if stamp.is_some() { wanted.min(IDEMPOTENT_IN_FLIGHT_MAX) } else { wanted }
}

/// How answers are judged, when there are any.
pub fn acceptance(acks: AcksArg, version: i16, target: &Target) -> Option<Acceptance> {
    (acks != AcksArg::None).then(|| Acceptance::new(version, target))
}

/// The id and epoch of an idempotent producer; `None` for another.
pub async fn producer(dialogue: &mut Dialogue, load: &LoadArgs) -> Outcome<Option<ProducerStamp>> {
    if !load.idempotent {
        return Ok(None);
    }
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    for _ in 0..TRIES {
        let answer: InitProducerIdResponse = dialogue.call(&request).await?;
        match answer.error {
            ErrorCode::None => {
                let InitProducerIdResponse { producer_id: id, producer_epoch: epoch, .. } = answer;
                return Ok(Some(ProducerStamp { id, epoch, base_sequence: 0 }));
            }
            // A broker that has just started fetches its block of ids.
            ErrorCode::CoordinatorLoadInProgress => dialogue.pause(PAUSE).await,
            code => return Err(ClientError::refused("a producer id", code, None)),
        }
    }
    Err(ClientError::refused("a producer id", ErrorCode::CoordinatorLoadInProgress, None))
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
    use crate::protocol::batch::Batches;
    use crate::protocol::compression::Codec;
    use crate::protocol::frame::{RequestHeader, split_frame};
    use crate::runtime::Chunk;

    fn target(partitions: i32) -> Target {
        let leaders = (0..partitions).map(|index| (index, NodeId(1 + index % 2))).collect();
        Target { name: "bench".to_owned(), id: None, leaders }
    }

    #[test]
    fn the_requests_of_all_connections_are_as_far_apart_as_those_of_one() {
        let began = Instant::from_nanos(0);
        let mut dues: Vec<u64> = (0..4)
            .flat_map(|index| {
                let pace = pace(Speed::Rate(1000.0), began, index, 4);
                (0..5).map(move |turn| pace.due(turn, began).nanos())
            })
            .collect();
        dues.sort_unstable();
        let distances: Vec<u64> = dues.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(distances, [1_000_000; 19]);
    }

    #[test]
    fn connections_write_to_the_partitions_of_their_node() {
        let target = target(5);
        assert_eq!([0, 1, 2].map(|index| node_of(&target, index).0), [1, 2, 1]);
        assert_eq!(led_by(&target, NodeId(1)), [0, 2, 4]);
        assert_eq!(led_by(&target, NodeId(2)), [1, 3]);
    }

    #[test]
    fn idempotent_producers_number_the_records_of_each_partition_without_a_gap() {
        let recipe = Recipe {
            value_bytes: SizeRange { min: 10, max: 9_000 },
            keys: 0,
            key_bytes: 16,
            batch_records: 3,
            codec: Codec::None,
        };
        let batches = recipe.prepare(7, &mut Dice::new(1)).expect("builds");
        let target = target(4);
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
