//! The watchdog: a thread that notices cores that do not go on, and waits for signals.
//!
//! A core that sleeps in its ring is well. One that is awake and does not go through its loop is
//! told of in the log, and where it is; and because glommio can put a core to sleep although tasks
//! are runnable (trap 1), its heart-beat task is woken from here, which always ends that sleep.

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
use super::signals::{self, SignalWait, ThreadId};
use super::stack;

/// Time between two looks at the cores. Signals interrupt the wait.
const TICK: Duration = Duration::from_millis(250);

/// A core that stands still for so many ticks is told of in the log: a second. And again after
/// ten times as long, a hundred times ...
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

/// How a core gives its thread and its heart-beat's waker to the watchdog.
pub(super) type Wakers = Sender<(usize, ThreadId, Waker)>;

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
                let _ = wakers.send((index, signals::this_thread(), cx.waker().clone()));
                Poll::Pending
            }),
        );
    }
}

/// What the watchdog knows of one core.
struct Watched {
    heart: Option<(ThreadId, Waker)>,
    was_woken: bool,
    turns: Option<u64>,
    still_ticks: u32,
    /// Ticks after which it is told of next.
    tell_at: u32,
}

struct Watchdog {
    pulse: Arc<Pulse>,
    bells: Arc<Bells>,
    wakers: Receiver<(usize, ThreadId, Waker)>,
    cores: Vec<Watched>,
}

/// Starts the watchdog's thread.
pub(super) fn start(
    core_count: usize,
    pulse: Arc<Pulse>,
    bells: Arc<Bells>,
    wakers: Receiver<(usize, ThreadId, Waker)>,
    signals: SignalWait,
) -> io::Result<()> {
    stack::prepare()?;
    let cores = (0..core_count).map(|_| Watched::new()).collect();
    let mut watchdog = Watchdog { pulse, bells, wakers, cores };
    thread::Builder::new()
        .name("watchdog".into())
        .stack_size(1 << 20)
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
        while let Ok((index, thread, waker)) = self.wakers.try_recv() {
            self.cores[index].heart = Some((thread, waker));
            self.cores[index].was_woken = false;
        }
        for (index, watched) in self.cores.iter_mut().enumerate() {
            watched.look(index, self.bells.turns(index));
        }
    }
}

impl Watched {
    fn new() -> Self {
        Self { heart: None, was_woken: false, turns: None, still_ticks: 0, tell_at: STALL_TICKS }
    }

    /// Looks at core number `index`, which went through its loop so often, or sleeps.
    fn look(&mut self, index: usize, turns: Option<u64>) {
        let Some((thread, waker)) = &self.heart else { return };
        if turns.is_none() || turns != self.turns {
            if self.tell_at > STALL_TICKS {
                let silent_ms = (TICK * self.still_ticks).as_millis();
                info!(core = index, silent_ms, "the core goes on");
            }
            self.turns = turns;
            self.still_ticks = 0;
            self.tell_at = STALL_TICKS;
            return;
        }
        self.still_ticks += 1;
        // Once until it answers: the wake-ups of a core that is only busy would queue up.
        if !self.was_woken {
            self.was_woken = true;
            waker.wake_by_ref();
        }
        if self.still_ticks == self.tell_at {
            self.tell_at = self.tell_at.saturating_mul(10);
            let silent_ms = (TICK * self.still_ticks).as_millis();
            let at = stack::describe(*thread);
            warn!(core = index, silent_ms, at, "a core does not answer");
        }
    }
}
