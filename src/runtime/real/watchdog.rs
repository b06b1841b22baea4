//! The watchdog: a thread that notices cores that do not go on, and waits for signals.
//!
//! A core that sleeps in its ring is well. One that is awake and does not go through its loop is
//! told of in the log; and because glommio can put a core to sleep although tasks are runnable
//! (trap 1), its heart-beat task is woken from here, which always ends that sleep.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::task::{Poll, Waker};
use std::time::Duration;
use std::{io, thread};

use tracing::{info, warn};

use super::bell::Bells;
use super::core::Core;
use super::sys::SignalWait;

/// Time between two looks at the cores. Signals interrupt the wait.
const TICK: Duration = Duration::from_millis(250);

/// A core that stands still for so many ticks is told of in the log: a second.
const STALL_TICKS: u32 = 4;

/// Exit status of a process that a second SIGINT ended: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// What the watchdog tells the cores.
pub(super) struct Pulse {
    /// The process was asked to end.
    terminating: AtomicBool,
    /// The cores are gone; the watchdog ends.
    over: AtomicBool,
}

/// How a core gives its heart-beat's waker to the watchdog.
pub(super) type Wakers = Sender<(usize, Waker)>;

impl Pulse {
    /// The pulse of a process that starts.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { terminating: AtomicBool::new(false), over: AtomicBool::new(false) })
    }

    /// Ends the watchdog at its next tick.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }
}

/// A core's side of the watchdog.
pub(super) struct Heart {
    pub(super) pulse: Arc<Pulse>,
    pub(super) wakers: Wakers,
}

impl Heart {
    /// Whether the process was asked to end.
    pub(super) fn is_terminating(&self) -> bool {
        self.pulse.terminating.load(Ordering::Acquire)
    }

    /// Starts the task that the watchdog can wake. It ends with the executor (trap 3).
    pub(super) fn start(&self, core: &Core) {
        let index = usize::from(core.shard().0);
        let wakers = self.wakers.clone();
        core.spawn(
            "heart-beat",
            poll_fn(move |cx| {
                // Without a watchdog (it is gone at the very end only) nobody wakes.
                let _ = wakers.send((index, cx.waker().clone()));
                Poll::Pending
            }),
        );
    }
}

/// What the watchdog knows of one core.
#[derive(Default)]
struct Watched {
    waker: Option<Waker>,
    was_woken: bool,
    turns: Option<u64>,
    still_ticks: u32,
}

struct Watchdog {
    pulse: Arc<Pulse>,
    bells: Arc<Bells>,
    wakers: Receiver<(usize, Waker)>,
    cores: Vec<Watched>,
}

/// Starts the watchdog's thread.
pub(super) fn start(
    core_count: usize,
    pulse: Arc<Pulse>,
    bells: Arc<Bells>,
    wakers: Receiver<(usize, Waker)>,
    signals: SignalWait,
) -> io::Result<()> {
    let cores = (0..core_count).map(|_| Watched::default()).collect();
    let mut watchdog = Watchdog { pulse, bells, wakers, cores };
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
            match signals.wait(TICK) {
                Some(signal) => self.signalled(signal),
                None => self.look(),
            }
        }
    }

    /// The first signal asks; a second interrupt from an impatient terminal ends at once.
    fn signalled(&mut self, signal: libc::c_int) {
        if self.pulse.terminating.swap(true, Ordering::AcqRel) && signal == libc::SIGINT {
            std::process::exit(INTERRUPTED);
        }
        info!(signal, "asked to end");
        for core in 0..self.cores.len() {
            self.bells.ring(core);
        }
    }

    /// Looks whether every core that is awake has gone on since the last time.
    fn look(&mut self) {
        while let Ok((index, waker)) = self.wakers.try_recv() {
            self.cores[index].waker = Some(waker);
            self.cores[index].was_woken = false;
        }
        for (index, watched) in self.cores.iter_mut().enumerate() {
            let Some(waker) = &watched.waker else { continue };
            let turns = self.bells.turns(index);
            if turns.is_none() || turns != watched.turns {
                watched.turns = turns;
                watched.still_ticks = 0;
                continue;
            }
            watched.still_ticks += 1;
            // Once until it answers: the wake-ups of a core that is only busy would queue up.
            if !watched.was_woken {
                watched.was_woken = true;
                waker.wake_by_ref();
            }
            if watched.still_ticks == STALL_TICKS {
                let silent_ms = (TICK * STALL_TICKS).as_millis();
                warn!(core = index, silent_ms, "a core does not answer");
            }
        }
    }
}
