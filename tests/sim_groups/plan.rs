//! What a seed decides.

use std::sync::Arc;
use std::time::Duration;

use corelog::config::BrokerConfig;
use corelog::runtime::sim::Random;

use crate::broker;

/// Cores of a broker at most.
const CORES_MAX: u64 = 3;

/// Time without a heartbeat after which a member is out, in milliseconds.
pub const SESSION_MS: u32 = 600;

/// Time a member has to give partitions up or to come back, in milliseconds.
pub const REBALANCE_MS: i32 = 300;

/// Which protocols the members of a group speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The classic one.
    Classic,
    /// The consumer protocol.
    Consumer,
    /// Both, and members go over from one to the other.
    Mixed,
    /// None: clients commit and are no members.
    Simple,
}

/// A protocol that a member speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    Classic,
    Consumer,
}

/// One member, or one client of a group without members.
#[derive(Clone, Debug)]
pub struct MemberPlan {
    pub protocol: Protocol,
    /// Whether it has an instance id.
    pub is_static: bool,
    /// Whether it subscribes with a pattern when it speaks the consumer protocol.
    pub by_pattern: bool,
    /// The topics it subscribes to by name, as bits.
    pub topics: u64,
    pub starts_after: Duration,
    /// It does something other than go on once in so many heartbeats.
    pub act_one_in: u64,
    /// Whether it is gone without a word before the broker ends for the last time.
    pub dies_last: bool,
    /// Which versions of the requests it speaks; the older the smaller.
    pub age: usize,
}

/// One group.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    pub name: String,
    pub kind: Kind,
    pub members: Vec<MemberPlan>,
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
    /// Writes and syncs fail for a while, then `kill -9`, or a loss of power in a durable run.
    BadDisk(Duration),
}

/// Something that happens to the cluster.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The broker ends, and starts again with so many cores.
    Stop(Stop, u16),
    /// The broker's wall clock is so many milliseconds ahead from now on.
    Clock(i64),
    /// There is a topic more.
    CreateTopic(i32),
    /// One is deleted.
    DeleteTopic(u64),
    /// One gets so many partitions more.
    GrowTopic(u64, i32),
}

/// One run.
#[derive(Debug)]
pub struct Plan {
    pub cores: u16,
    pub lane_capacity: usize,
    pub socket_buffer_bytes: usize,
    /// The partitions of the topics there are from the beginning.
    pub topics: Vec<i32>,
    pub groups: Vec<GroupPlan>,
    /// A request's connection is cut once in so many times.
    pub cut_one_in: u64,
    pub events: Vec<(Duration, Event)>,
    /// How the broker ends once all has settled.
    pub last: (Stop, u16),
    /// Whether what is acknowledged is on disk, and the power may be lost.
    pub is_durable: bool,
    overrides: Vec<String>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6709);
        let random = &mut random;
        let is_durable = random.below(3) == 0;
        let groups: Vec<GroupPlan> = (0..random.between(1..=2))
            .map(|number| group_plan(random, format!("group-{number}")))
            .collect();
        // Nobody in a group that changes its protocol looks after new partitions all the time.
        let topics_change = groups.iter().all(|group| group.kind != Kind::Mixed);
        let events = (0..random.below(5)).map(|_| event(random, is_durable, topics_change));
        let events = events.collect();
        Self {
            cores: random.between(1..=CORES_MAX) as u16,

            lane_capacity: pick(random, &[2, 16, 256]),
            socket_buffer_bytes: pick(random, &[1024, 65_536]),
            topics: (0..random.between(1..=3)).map(|_| random.between(1..=4) as i32).collect(),
            groups,
            cut_one_in: pick(random, &[15, 60, 1_000_000]),
            events,
            last: (last_stop(random, is_durable), random.between(1..=CORES_MAX) as u16),
            is_durable,
            overrides: overrides(random, is_durable),
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

fn overrides(random: &mut Random, is_durable: bool) -> Vec<String> {
    let mut overrides = broker::PLACE.map(str::to_owned).to_vec();
    overrides.extend([
        "auto.create.topics.enable=false".to_owned(),
        format!("offsets.topic.num.partitions={}", random.between(1..=4)),
        format!("group.initial.rebalance.delay.ms={}", pick(random, &[0, 100])),
        "group.min.session.timeout.ms=1".to_owned(),
        "group.consumer.min.session.timeout.ms=1".to_owned(),
        "group.consumer.min.heartbeat.interval.ms=1".to_owned(),
        format!("group.consumer.session.timeout.ms={SESSION_MS}"),
        format!("group.consumer.heartbeat.interval.ms={}", pick(random, &[120, 200])),
        format!("group.consumer.assignment.interval.ms={}", pick(random, &[0, 0, 50, 400])),
        format!("group.consumer.assignors={}", pick(random, &["uniform", "range,uniform"])),
    ]);
    if random.below(3) == 0 {
        // An index that is full closes its segment: small ones make many segments.
        overrides.push("log.index.size.max.bytes=24".to_owned());
        overrides.push("log.index.interval.bytes=0".to_owned());
    }
    if is_durable {
        // Drawn aside, so that the other choices of a seed are what they were without it.
        let aside = &mut random.clone();
        overrides.push(format!("corelog.journal.bytes={}", pick(aside, &[0, 2048, 262_144])));
        let durable = ["corelog.durability=sync", "log.flush.interval.messages=1"];
        overrides.push(pick(aside, &durable).to_owned());
    }
    let rewrite_bytes = pick(&mut random.clone(), &[1024, 4096, 16_777_216]);
    overrides.push(format!("corelog.offsets.rewrite.bytes={rewrite_bytes}"));
    overrides
}

fn group_plan(random: &mut Random, name: String) -> GroupPlan {
    let kinds =
        [Kind::Classic, Kind::Classic, Kind::Consumer, Kind::Consumer, Kind::Mixed, Kind::Simple];
    let kind = pick(random, &kinds);
    let members = (0..random.between(1..=4)).map(|_| member_plan(random, kind)).collect();
    GroupPlan { name, kind, members }
}

fn member_plan(random: &mut Random, kind: Kind) -> MemberPlan {
    let protocol = match kind {
        Kind::Classic | Kind::Simple => Protocol::Classic,
        Kind::Consumer => Protocol::Consumer,
        Kind::Mixed => pick(random, &[Protocol::Classic, Protocol::Consumer]),
    };
    MemberPlan {
        protocol,
        is_static: random.below(3) == 0,
        by_pattern: kind == Kind::Consumer && random.below(4) == 0,
        topics: random.between(1..=7),
        starts_after: Duration::from_millis(random.below(400)),
        act_one_in: pick(random, &[5, 12, 1_000_000]),
        dies_last: random.below(4) == 0,
        age: random.below(3) as usize,
    }
}

fn event(random: &mut Random, is_durable: bool, topics_change: bool) -> (Duration, Event) {
    let after = Duration::from_millis(random.between(20..=500));
    let choice = random.below(if topics_change { 8 } else { 5 });
    let event = match choice {
        0..=2 => Event::Stop(stop(random, is_durable), random.between(1..=CORES_MAX) as u16),
        3 | 4 => {
            let hour = 3_600_000;
            Event::Clock(pick(random, &[-20 * hour, -hour, -3000, 3000, hour, 20 * hour]))
        }
        5 => Event::CreateTopic(random.between(1..=3) as i32),
        6 => Event::DeleteTopic(random.draw()),
        _ => Event::GrowTopic(random.draw(), random.between(1..=2) as i32),
    };
    (after, event)
}

fn stop(random: &mut Random, is_durable: bool) -> Stop {
    let short = Stop::CleanCutShort(Duration::from_micros(random.below(5000)));
    let bad = Stop::BadDisk(Duration::from_millis(random.between(50..=400)));
    if is_durable {
        pick(random, &[Stop::Kill, Stop::Crash, Stop::Crash, Stop::Clean, short, bad])
    } else {
        pick(random, &[Stop::Kill, Stop::Kill, Stop::Kill, Stop::Clean, short, bad])
    }
}

fn last_stop(random: &mut Random, is_durable: bool) -> Stop {
    if is_durable {
        pick(random, &[Stop::Kill, Stop::Crash, Stop::Clean])
    } else {
        pick(random, &[Stop::Kill, Stop::Clean])
    }
}
