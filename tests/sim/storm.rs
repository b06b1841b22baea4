//! Troubles that a broker lives through: what a seed draws of them, one after the other.

use std::time::Duration;

use corelog::runtime::sim::Random;

use crate::plan::{Durability, Fault, Plan, Stop, fault};

/// Something that happens while clients work.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// The broker ends, and starts again.
    Stop(Fault),
    /// All connections are cut; in silence, the clients learn of it later.
    Cut { is_silent: bool },
    /// One core does not run for so long.
    Pause { core: u16, lasts: Duration },
    /// The disk takes so many times as long.
    SlowDisk { factor: u64, lasts: Duration },
    /// No call of the disk ends.
    StuckDisk { lasts: Duration },
    /// There is room for so many bytes more and then none.
    FullDisk { room: u64, lasts: Duration },
    /// One call in so many fails; then the broker ends and starts again.
    BadDisk { one_in: u32, fails: Fails, lasts: Duration, stop: Stop },
    /// The broker's wall clock is so many milliseconds ahead from now on.
    Clock { ahead_ms: i64 },
}

/// What of a bad disk fails.
#[derive(Clone, Copy, Debug)]
pub struct Fails {
    pub reads: bool,
    pub writes: bool,
    pub syncs: bool,
}

/// The troubles of a seed, each with the time that passes before it.
pub fn storm(seed: u64, plan: &Plan) -> Vec<(Duration, Trouble)> {
    let mut random = Random::new(seed ^ 0x0570_3712);
    let random = &mut random;
    (0..random.between(1..=8))
        .map(|_| (Duration::from_micros(random.below(40_000)), trouble(random, plan)))
        .collect()
}

/// How much is done to topics and settings meanwhile.
pub fn meddling(seed: u64) -> u64 {
    let mut random = Random::new(seed ^ 0x0ed0_71e5);
    if random.below(2) == 0 { 0 } else { random.between(1..=12) }
}

/// Whether a bit of a closed segment rots once all is done.
pub fn rots(seed: u64) -> bool {
    Random::new(seed ^ 0x0b17).below(4) == 0
}

fn trouble(random: &mut Random, plan: &Plan) -> Trouble {
    let lasts = Duration::from_micros(random.between(500..=200_000));
    match random.below(8) {
        0 => Trouble::Stop(fault(random, plan.durability)),
        1 => Trouble::Cut { is_silent: random.below(3) == 0 },
        2 => Trouble::Pause { core: random.below(3) as u16, lasts },
        3 => Trouble::SlowDisk { factor: random.between(2..=200), lasts },
        4 => Trouble::StuckDisk { lasts },
        5 => Trouble::FullDisk { room: random.below(4000), lasts },
        6 => {
            // Where the process alone ends, the next one reads what a failed sync left in the page
            // cache and nowhere else; the power may go later.
            let loses_power =
                plan.durability != Durability::PageCache && lasts.as_micros().is_multiple_of(2);
            let stop = if loses_power { Stop::Crash } else { Stop::Kill };
            let one_in = random.between(2..=30) as u32;
            let kinds = random.between(1..=7);
            let (reads, writes, syncs) = (kinds & 1 > 0, kinds & 2 > 0, kinds & 4 > 0);
            let fails = Fails { reads, writes, syncs };
            Trouble::BadDisk { one_in, fails, lasts, stop }
        }
        _ => Trouble::Clock { ahead_ms: random.below(20_000) as i64 - 10_000 },
    }
}
