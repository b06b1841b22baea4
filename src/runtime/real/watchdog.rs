//! The watchdog: a thread that pokes the cores, notices stalls, and waits for signals.
//!
//! glommio can put a core to sleep although tasks are runnable (trap 1). A wake-up from another
//! thread always ends that sleep, so this one wakes each core's heart-beat task every 10 ms while
//! the core was busy lately and, to leave an idle process idle, every 100 ms otherwise.
//! The heart-beat tells how much the core has done and hears whether the process shall end.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::task::{Poll, Waker};
use std::time::Duration;
use std::{io, thread};

use tracing::{info, warn};

use super::core::Core;
use super::sys::{self, SignalWait};

/// Time between two pokes of busy cores.
const BUSY_TICK: Duration = Duration::from_millis(10);

/// Time between two pokes when all cores are idle.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// How many times a core may be polled between two pokes and count as idle: its heart-beat, and
/// a few timers.
const IDLE_POLLS_MAX: u64 = 4;

/// How many idle ticks in a row make the watchdog slow down.
const IDLE_TICKS_MIN: u32 = 10;

/// A core that does not answer pokes for so long is told of in the log.
const STALL: Duration = Duration::from_secs(1);

/// Exit status of a process that a second SIGINT ended: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// What the watchdog and the cores tell each other.
pub(super) struct Pulse {
    /// The process was asked to end.
    terminating: AtomicBool,
    /// The cores are gone; the watchdog ends.
    over: AtomicBool,
    cores: Vec<Beat>,
}

/// One core's half of a [`Pulse`]; a cache line each.
#[repr(align(64))]
#[derive(Default)]
struct Beat {
    /// How many pokes were answered.
    count: AtomicU64,
    /// How many times tasks were polled.
    polls: AtomicU64,
}

/// How a core gives its heart-beat's waker to the watchdog.
pub(super) type Wakers = Sender<(usize, Waker)>;

impl Pulse {
    /// The pulse of so many cores.
    pub(super) fn new(core_count: usize) -> Arc<Self> {
        Arc::new(Self {
            terminating: AtomicBool::new(false),
            over: AtomicBool::new(false),
            cores: (0..core_count).map(|_| Beat::default()).collect(),
        })
    }

    /// Ends the watchdog at its next tick.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }
}

/// Starts the heart-beat on its core. It ends with the executor.
pub(super) fn start_heart_beat(core: &Core, pulse: Arc<Pulse>, wakers: Wakers) {
    let index = usize::from(core.shard().0);
    let mut wakers = Some(wakers);
    let heart = core.clone();
    core.spawn(
        "heart-beat",
        poll_fn(move |cx| {
            if let Some(wakers) = wakers.take() {
                // Without a watchdog (it is gone at the very end only) nobody pokes.
                let _ = wakers.send((index, cx.waker().clone()));
            }
            let beat = &pulse.cores[index];
            beat.polls.store(heart.tasks_polled(), Ordering::Relaxed);
            beat.count.fetch_add(1, Ordering::Relaxed);
            if pulse.terminating.load(Ordering::Acquire) {
                heart.terminate();
            }
            Poll::Pending
        }),
    );
}

/// What the watchdog knows of one core.
struct Watched {
    waker: Option<Waker>,
    polls: u64,
    count: u64,
    answered_at: u64,
    poked_at: u64,
    stall_told: bool,
}

struct Watchdog {
    pulse: Arc<Pulse>,
    wakers: Receiver<(usize, Waker)>,
    cores: Vec<Watched>,
    idle_ticks: u32,
}

/// Starts the watchdog's thread.
pub(super) fn start(
    pulse: Arc<Pulse>,
    wakers: Receiver<(usize, Waker)>,
    signals: SignalWait,
) -> io::Result<()> {
    let now = sys::monotonic_nanos();
    let cores = pulse.cores.iter().map(|_| Watched {
        waker: None,
        polls: 0,
        count: 0,
        answered_at: now,
        poked_at: now,
        stall_told: false,
    });
    let cores = cores.collect();
    let mut watchdog = Watchdog { pulse, wakers, cores, idle_ticks: 0 };
    thread::Builder::new()
        .name("watchdog".into())
        .stack_size(256 << 10)
        .spawn(move || watchdog.watch(signals))
        .map(drop)
}

impl Watchdog {
    fn watch(&mut self, mut signals: SignalWait) {
        if let Err(error) = signals.listen() {
            warn!(error = %error, "requests to end may be seen late");
        }
        while !self.pulse.over.load(Ordering::Acquire) {
            let tick = if self.idle_ticks < IDLE_TICKS_MIN { BUSY_TICK } else { IDLE_TICK };
            if let Some(signal) = signals.wait(tick) {
                self.signalled(signal);
            }
            self.poke();
        }
    }

    /// The first signal asks; a second interrupt from an impatient terminal ends at once.
    fn signalled(&mut self, signal: libc::c_int) {
        if self.pulse.terminating.swap(true, Ordering::AcqRel) && signal == libc::SIGINT {
            std::process::exit(INTERRUPTED);
        }
        self.idle_ticks = 0;
        info!(signal, "asked to end");
    }

    /// Wakes every core, and sees what each has done since the last time.
    fn poke(&mut self) {
        while let Ok((index, waker)) = self.wakers.try_recv() {
            self.cores[index].waker = Some(waker);
        }
        let now = sys::monotonic_nanos();
        let mut busy = false;
        for (index, (watched, beat)) in self.cores.iter_mut().zip(&self.pulse.cores).enumerate() {
            let Some(waker) = &watched.waker else { continue };
            let polls = beat.polls.load(Ordering::Relaxed);
            busy |= polls.saturating_sub(watched.polls) > IDLE_POLLS_MAX;
            watched.polls = polls;
            let count = beat.count.load(Ordering::Relaxed);
            let silent = Duration::from_nanos(now.saturating_sub(watched.answered_at));
            // The wake-ups of a core that does not answer queue up, so it gets few.
            let poked = Duration::from_nanos(now.saturating_sub(watched.poked_at));
            if count != watched.count || poked >= IDLE_TICK {
                watched.poked_at = now;
                waker.wake_by_ref();
            }
            if count != watched.count {
                watched.count = count;
                watched.answered_at = now;
                watched.stall_told = false;
            } else {
                busy = true;
                if silent > STALL && !watched.stall_told {
                    watched.stall_told = true;
                    warn!(core = index, silent_ms = silent.as_millis(), "a core does not answer");
                }
            }
        }
        self.idle_ticks = if busy { 0 } else { self.idle_ticks.saturating_add(1) };
    }
}
