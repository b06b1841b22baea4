//! Running many seeds: which ones, which one failed, and what they come to together.
//!
//! `SIM_SEEDS` sets how many run, `SIM_FIRST` the first of them.

#![expect(clippy::print_stdout, reason = "the words and figures of a run that failed or ended")]

use std::ops::Range;
use std::time::Duration;

use corelog::base::Instant;
use corelog::runtime::sim::World;

/// What one run was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct History {
    /// Of everything that has happened.
    pub hash: u64,
    pub steps: u64,
    /// In the world's own time.
    pub lasted: Duration,
}

impl History {
    /// What has happened in a world so far.
    pub fn of(world: &World) -> Self {
        let lasted = world.now().since(Instant::from_nanos(0));
        Self { hash: world.history_hash(), steps: world.steps(), lasted }
    }
}

/// Names the kind of run and its seed when a panic ends it.
pub struct Named(pub &'static str, pub u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed: {} seed {}", self.0, self.1);
        }
    }
}

/// The seeds to run, where so many run unless told otherwise.
pub fn seeds(count: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SIM_FIRST").unwrap_or(0);
    first..first + number("SIM_SEEDS").unwrap_or(count)
}

/// Runs each seed, and prints what that came to.
pub fn run_each(kind: &str, seeds: impl Iterator<Item = u64>, run: impl Fn(u64) -> History) {
    let (mut count, mut steps, mut lasted) = (0, 0, Duration::ZERO);
    for seed in seeds {
        let history = run(seed);
        count += 1;
        steps += history.steps;
        lasted += history.lasted;
    }
    let seconds = lasted.as_secs_f64();
    println!("simulated: {kind}: {count} seeds, {steps} steps, {seconds:.0} s");
}
