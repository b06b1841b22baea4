//! What a seed decides.

use std::sync::Arc;
use std::time::Duration;

use corelog::config::BrokerConfig;
use corelog::runtime::sim::Random;

use crate::broker;

/// Cores of a broker at most.
const CORES_MAX: u64 = 3;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Once it is in the page cache.
    PageCache,
    /// Once it is synced: `corelog.durability=sync`.
    Sync,
    /// Once it is synced: `flush.messages=1`.
    FlushMessages,
}

/// What a producer wants for its records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Promise {
    /// Sequence numbers, and acknowledgements.
    Exactly,
    /// No sequence numbers; what is not acknowledged is sent again.
    AtLeast,
    /// No acknowledgements.
    AtMost,
}

/// One producer.
#[derive(Clone, Debug)]
pub struct ProducerPlan {
    pub promise: Promise,
    pub acks: i16,
    pub version: i16,
    pub request_count: u64,
    /// Requests in flight at most.
    pub window: usize,
    /// Partitions in one request at most.
    pub spread: u64,
    /// Pause before a request, at most.
    pub pause_us_max: u64,
}

/// One consumer.
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    pub version: i16,
    pub wait_ms: i32,
    pub min_bytes: i32,
    pub partition_bytes_max: i32,
    pub isolation_level: i8,
}

/// How the broker ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// `kill -9`.
    Kill,
    /// SIGTERM.
    Clean,
    /// SIGTERM, and `kill -9` a little later.
    CleanCutShort(Duration),
    /// The machine loses power.
    Crash,
}

/// A stop, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub after: Duration,
    pub stop: Stop,
    pub cores_then: u16,
}

/// One run.
#[derive(Debug)]
pub struct Plan {
    pub cores: u16,
    pub partitions: i32,
    pub durability: Durability,
    pub lane_capacity: usize,
    pub socket_buffer_bytes: usize,
    pub producers: Vec<ProducerPlan>,
    pub consumers: Vec<ConsumerPlan>,
    pub faults: Vec<Fault>,
    /// How the broker ends once all is done; all is read again after it.
    pub last: Fault,
    overrides: Vec<String>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let random = &mut random;
        let durability = pick(
            random,
            &[
                Durability::PageCache,
                Durability::PageCache,
                Durability::Sync,
                Durability::FlushMessages,
            ],
        );
        let partitions = random.between(1..=8) as i32;
        let producers = (0..random.between(1..=3)).map(|_| producer_plan(random)).collect();
        let consumers = (0..random.between(1..=2)).map(|_| consumer_plan(random)).collect();
        let faults = (0..random.below(4)).map(|_| fault(random, durability)).collect();
        // What the page cache loses in a crash is only looked at when nothing follows.
        let last = Fault {
            stop: pick(random, &[Stop::Kill, Stop::Clean, Stop::Crash]),
            ..fault(random, durability)
        };
        Self {
            cores: random.between(1..=CORES_MAX) as u16,
            partitions,
            durability,
            lane_capacity: pick(random, &[2, 16, 256]),
            socket_buffer_bytes: pick(random, &[1024, 4096, 65_536]),
            producers,
            consumers,
            faults,
            last,
            overrides: overrides(random, durability, partitions),
        }
    }

    /// The broker's configuration.
    pub fn config(&self) -> Arc<BrokerConfig> {
        broker::config(&self.overrides)
    }
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len() as u64) as usize]
}

fn overrides(random: &mut Random, durability: Durability, partitions: i32) -> Vec<String> {
    let mut overrides = broker::PLACE.map(str::to_owned).to_vec();
    overrides.extend([
        format!("num.partitions={partitions}"),
        format!("log.index.interval.bytes={}", pick(random, &[0, 100, 4096])),
        // An index that is full closes its segment: small ones make many segments.
        format!("log.index.size.max.bytes={}", pick(random, &[24, 100, 10_485_760])),
        format!("max.incremental.fetch.session.cache.slots={}", pick(random, &[1, 1000])),
    ]);
    if random.below(3) == 0 {
        overrides.push(format!("log.roll.ms={}", random.between(5..=50)));
    }
    if random.below(3) == 0 {
        overrides.push(format!("log.flush.interval.ms={}", random.between(5..=50)));
    }
    // Drawn aside, so that the other choices of a seed are what they were without it.
    let journal_bytes = pick(&mut random.clone(), &[0, 2048, 16_384, 262_144]);
    overrides.push(format!("corelog.journal.bytes={journal_bytes}"));
    match durability {
        Durability::PageCache => {}
        Durability::Sync => overrides.push("corelog.durability=sync".to_owned()),
        Durability::FlushMessages => overrides.push("log.flush.interval.messages=1".to_owned()),
    }
    overrides
}

fn producer_plan(random: &mut Random) -> ProducerPlan {
    let (promise, acks) = pick(
        random,
        &[
            (Promise::Exactly, -1),
            (Promise::Exactly, -1),
            (Promise::Exactly, 1),
            (Promise::AtLeast, -1),
            (Promise::AtLeast, 1),
            (Promise::AtMost, 0),
        ],
    );
    ProducerPlan {
        promise,
        acks,
        version: pick(random, &[3, 7, 9, 12, 13]),
        request_count: random.between(3..=15),
        window: random.between(1..=5) as usize,
        spread: random.between(1..=3),
        pause_us_max: pick(random, &[0, 2000, 20_000]),
    }
}

fn consumer_plan(random: &mut Random) -> ConsumerPlan {
    ConsumerPlan {
        version: pick(random, &[4, 7, 11, 12, 13, 17, 18]),
        wait_ms: pick(random, &[5, 50, 500]),
        min_bytes: pick(random, &[1, 1, 300]),
        partition_bytes_max: pick(random, &[1, 300, 100_000]),
        isolation_level: random.below(2) as i8,
    }
}

pub fn fault(random: &mut Random, durability: Durability) -> Fault {
    let short = Stop::CleanCutShort(Duration::from_micros(random.below(5000)));
    let stop = match durability {
        Durability::PageCache => pick(random, &[Stop::Kill, Stop::Kill, Stop::Clean, short]),
        Durability::Sync | Durability::FlushMessages => {
            pick(random, &[Stop::Kill, Stop::Crash, Stop::Crash, Stop::Clean, short])
        }
    };
    Fault {
        after: Duration::from_micros(random.below(60_000)),
        stop,
        cores_then: random.between(1..=CORES_MAX) as u16,
    }
}
