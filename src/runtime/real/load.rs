//! How busy a core is: the part of the latest quarter of a second in which it was awake.
//!
//! Written by the core itself, once a turn of its loop; read by whoever has something to give it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Over so much time it is counted, in nanoseconds.
const WINDOW_NANOS: u64 = 250_000_000;

/// A core that is awake and has not told for so many windows does not go on at all.
const STILL_WINDOWS: u64 = 4;

/// All of the time.
const ALL_PERMILLE: u32 = 1000;

/// One core's.
#[derive(Default)]
pub(super) struct Load {
    /// Since when it sleeps, in nanoseconds of the monotonic clock; 0 while it is awake.
    asleep_since: AtomicU64,
    window_began: AtomicU64,
    /// How much of the window it has slept.
    slept: AtomicU64,
    /// How busy it was in the window before.
    permille: AtomicU32,
}

impl Load {
    /// The core goes to sleep.
    pub(super) fn sleeps(&self, now: u64) {
        self.asleep_since.store(now.max(1), Ordering::Relaxed);
    }

    /// The core, which slept since `from`, is awake.
    pub(super) fn wakes(&self, from: u64, now: u64) {
        self.asleep_since.store(0, Ordering::Relaxed);
        let slept = self.slept.load(Ordering::Relaxed) + now.saturating_sub(from);
        self.slept.store(slept, Ordering::Relaxed);
    }

    /// The core goes through its loop.
    pub(super) fn turn(&self, now: u64) {
        let window = now.saturating_sub(self.window_began.load(Ordering::Relaxed));
        if window >= WINDOW_NANOS {
            let slept = self.slept.load(Ordering::Relaxed).min(window);
            let busy = (window - slept) * u64::from(ALL_PERMILLE) / window;
            self.permille.store(busy as u32, Ordering::Relaxed);
            self.slept.store(0, Ordering::Relaxed);
            self.window_began.store(now, Ordering::Relaxed);
        }
    }

    /// When the core told last how busy it is.
    pub(super) fn told(&self) -> u64 {
        self.window_began.load(Ordering::Relaxed)
    }

    /// How busy the core is, in thousandths of its time.
    pub(super) fn permille(&self, now: u64) -> u32 {
        let asleep_since = self.asleep_since.load(Ordering::Relaxed);
        if asleep_since > 0 && now.saturating_sub(asleep_since) >= WINDOW_NANOS {
            return 0;
        }
        let is_still = now.saturating_sub(self.told()) >= STILL_WINDOWS * WINDOW_NANOS;
        if asleep_since == 0 && is_still {
            ALL_PERMILLE
        } else {
            self.permille.load(Ordering::Relaxed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_as_busy_as_it_was_awake() {
        let load = Load::default();
        let millis = 1_000_000;
        let mut now = 1000 * millis;
        load.turn(now);
        for _ in 0..30 {
            load.turn(now);
            // Awake for 3 ms, asleep for 7.
            now += 3 * millis;
            load.sleeps(now);
            load.wakes(now, now + 7 * millis);
            now += 7 * millis;
        }
        assert_eq!(load.permille(now), 300);
        load.sleeps(now);
        assert_eq!(load.permille(now + 200 * millis), 300, "it has just gone to sleep");
        assert_eq!(load.permille(now + 250 * millis), 0, "it sleeps");
        load.wakes(now, now + 900 * millis);
        now += 900 * millis;
        load.turn(now);
        assert!(load.permille(now) < 50, "what it did before is over");
        assert_eq!(load.permille(now + 1000 * millis), 1000, "it does not go on");
    }
}
