//! The one thread that runs every core of every simulated process: virtual time, timers, tasks.
//!
//! ```text
//! wake -> ready (a seeded draw picks the next) -> poll -> pending | ended | panicked
//!           ^-- timers, ordered by (time, sequence); time jumps to the next when nothing is ready
//! ```
//!
//! Invariant: what happens next follows from the seed and from the tasks alone. Every decision is
//! folded into the history hash. A step costs the same however many tasks and timers there are.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::base::{Instant, ShardId};

use super::guarded::Guarded;
use super::random::Random;
use super::world::ProcessId;

/// When simulated clocks begin, so that subtracting from an early instant does not saturate.
const BEGIN_NANOS: u64 = 10_000_000_000;

/// Least time one step takes, in nanoseconds; a draw adds up to [`STEP_SPREAD_MASK`]. Time passes
/// even while something is always ready, so a task that spins does not stop the timers.
const STEP_NANOS: u64 = 100;

/// What a draw adds to a step's time, as a mask of nanoseconds.
const STEP_SPREAD_MASK: u64 = 0x3ff;

/// Deadlines this far away never come, in nanoseconds (some 100 years).
const FOREVER_NANOS: u64 = 100 * 365 * 24 * 3600 * 1_000_000_000;

/// Whose a task is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Owner {
    pub(super) process: ProcessId,
    pub(super) shard: ShardId,
}

/// A task: its place in the slab and its number, which is never given again.
#[derive(Clone, Copy)]
struct TaskKey {
    slot: usize,
    number: u64,
}

/// A timer that was set; see [`Clock::wake_at`].
pub(super) type TimerKey = (u64, u64);

struct Schedule {
    now_nanos: u64,
    random: Random,
    history: u64,
    step: u64,
    ready: Vec<TaskKey>,
    timers: BTreeMap<TimerKey, Waker>,
    numbers: u64,
}

/// The schedule's handle: virtual time, draws and the history. `Send` by type.
#[derive(Clone)]
pub(super) struct Clock(Arc<Guarded<Schedule>>);

enum Next {
    /// Poll this task.
    Run(TaskKey),
    /// Wake these first: their time has come.
    Due(Vec<Waker>),
    /// Nothing can happen up to the given time.
    Nothing,
}

impl Clock {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Guarded::new(Schedule {
            now_nanos: BEGIN_NANOS,
            random: Random::new(seed),
            history: seed,
            step: 0,
            ready: Vec::new(),
            timers: BTreeMap::new(),
            numbers: 0,
        })))
    }

    /// Virtual time, in nanoseconds.
    pub(super) fn nanos(&self) -> u64 {
        self.0.with(|schedule| schedule.now_nanos)
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_nanos(self.nanos())
    }

    /// Virtual time since the world began.
    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanos() - BEGIN_NANOS)
    }

    pub(super) fn steps(&self) -> u64 {
        self.0.with(|schedule| schedule.step)
    }

    pub(super) fn history(&self) -> u64 {
        self.0.with(|schedule| schedule.history)
    }

    pub(super) fn draw(&self) -> u64 {
        self.0.with(|schedule| schedule.random.draw())
    }

    pub(super) fn between(&self, range: RangeInclusive<u64>) -> u64 {
        self.0.with(|schedule| schedule.random.between(range))
    }

    /// Whether a draw says yes, one time in `count`.
    pub(super) fn one_in(&self, count: u64) -> bool {
        self.0.with(|schedule| schedule.random.below(count) == 0)
    }

    /// A number no other call gets.
    pub(super) fn number(&self) -> u64 {
        self.0.with(|schedule| {
            schedule.numbers += 1;
            schedule.numbers
        })
    }

    /// Adds something that happened to the history.
    pub(super) fn record(&self, words: &[u64]) {
        self.0.with(|schedule| {
            for word in words {
                schedule.fold(*word);
            }
        });
    }

    /// Wakes `waker` once time has reached `nanos`; never when that is [`FOREVER_NANOS`] away.
    pub(super) fn wake_at(&self, nanos: u64, waker: Waker) -> TimerKey {
        self.0.with(|schedule| {
            schedule.numbers += 1;
            let key = (nanos, schedule.numbers);
            if nanos < FOREVER_NANOS {
                schedule.timers.insert(key, waker);
            }
            key
        })
    }

    /// Takes back a timer, if it has not come yet.
    pub(super) fn cancel(&self, key: TimerKey) {
        let waker = self.0.with(|schedule| schedule.timers.remove(&key));
        drop(waker);
    }

    /// Waits for `duration`, at least for one turn.
    pub(super) fn sleep(&self, duration: Duration) -> Sleep {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Sleep {
            clock: self.clone(),
            deadline_nanos: self.nanos().saturating_add(nanos),
            timer: None,
        }
    }

    /// Waits for a drawn number of nanoseconds.
    pub(super) async fn delay(&self, nanos: RangeInclusive<u64>) {
        let nanos = self.between(nanos);
        self.sleep(Duration::from_nanos(nanos)).await;
    }

    /// Moves time on to `nanos` when it has not come that far: nothing happens in between.
    fn skip_to(&self, nanos: u64) {
        self.0.with(|schedule| schedule.now_nanos = schedule.now_nanos.max(nanos));
    }

    fn next(&self, limit_nanos: u64) -> Next {
        self.0.with(|schedule| schedule.next(limit_nanos))
    }
}

impl Schedule {
    fn fold(&mut self, word: u64) {
        let mixed = (self.history ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.history = mixed ^ (mixed >> 29);
    }

    fn next(&mut self, limit_nanos: u64) -> Next {
        if self.ready.is_empty() {
            match self.timers.first_key_value() {
                Some((&(nanos, _), _)) if nanos <= limit_nanos => {
                    self.now_nanos = self.now_nanos.max(nanos);
                }
                Some(_) | None => return Next::Nothing,
            }
        }
        let mut due = Vec::new();
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > self.now_nanos {
                break;
            }
            due.push(entry.remove());
        }
        if !due.is_empty() {
            return Next::Due(due);
        }
        let drawn = self.random.draw();
        let choice = ((drawn >> 32) * self.ready.len() as u64) >> 32;
        let key = self.ready.swap_remove(choice as usize);
        self.step += 1;
        self.now_nanos += STEP_NANOS + (drawn & STEP_SPREAD_MASK);
        self.fold(key.number);
        self.fold(self.now_nanos);
        Next::Run(key)
    }
}

/// A wait for a moment of virtual time; dropped early, its timer is taken back.
pub(super) struct Sleep {
    clock: Clock,
    deadline_nanos: u64,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = self.timer.take() {
            self.clock.cancel(timer);
            if self.clock.nanos() >= self.deadline_nanos {
                return Poll::Ready(());
            }
        }
        self.timer = Some(self.clock.wake_at(self.deadline_nanos, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.clock.cancel(timer);
        }
    }
}

struct TaskWaker {
    clock: Clock,
    key: TaskKey,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.clock.0.with(|schedule| schedule.ready.push(self.key));
        }
    }
}

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    number: u64,
    owner: Owner,
    name: Arc<str>,
    is_main: bool,
    /// Taken out while it is being polled.
    future: Option<TaskFuture>,
    state: Arc<TaskWaker>,
    waker: Waker,
}

#[derive(Default)]
struct Slab {
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
}

impl Slab {
    fn task(&mut self, key: TaskKey) -> Option<&mut Task> {
        self.tasks[key.slot].as_mut().filter(|task| task.number == key.number)
    }

    fn remove(&mut self, slot: usize) -> Option<Task> {
        let task = self.tasks[slot].take();
        if task.is_some() {
            self.free.push(slot);
        }
        task
    }
}

/// What a step did.
pub(super) enum Stepped {
    /// A task was polled; nothing else is to be done.
    Polled,
    /// The main task of a core has ended.
    Ended(Owner),
    /// A task panicked and is gone.
    Panicked { owner: Owner, name: Arc<str>, is_main: bool, reason: Box<dyn Any + Send> },
    /// Nothing can happen up to the given time.
    Nothing,
}

/// The tasks, and the schedule that decides which runs.
pub(super) struct Executor {
    pub(super) clock: Clock,
    slab: RefCell<Slab>,
    /// Cores whose tasks do not run, and until when.
    paused: RefCell<Vec<(Owner, u64)>>,
}

impl Executor {
    pub(super) fn new(seed: u64) -> Self {
        Self { clock: Clock::new(seed), slab: RefCell::default(), paused: RefCell::default() }
    }

    /// Queues a task.
    pub(super) fn spawn(&self, owner: Owner, name: &str, is_main: bool, future: TaskFuture) {
        let number = self.clock.number();
        let mut slab = self.slab.borrow_mut();
        let slot = slab.free.pop().unwrap_or(slab.tasks.len());
        if slot == slab.tasks.len() {
            slab.tasks.push(None);
        }
        let key = TaskKey { slot, number };
        let queued = AtomicBool::new(false);
        let state = Arc::new(TaskWaker { clock: self.clock.clone(), key, queued });
        let waker = Waker::from(state.clone());
        slab.tasks[slot] = Some(Task {
            number,
            owner,
            name: name.into(),
            is_main,
            future: Some(future),
            state,
            waker: waker.clone(),
        });
        drop(slab);
        waker.wake();
    }

    /// Runs one task once, waking those whose time has come before; time does not pass
    /// `limit_nanos` to reach a timer.
    pub(super) fn step(&self, limit_nanos: u64) -> Stepped {
        loop {
            match self.clock.next(limit_nanos) {
                Next::Nothing => return Stepped::Nothing,
                Next::Due(wakers) => wakers.into_iter().for_each(Waker::wake),
                Next::Run(key) => {
                    if let Some(stepped) = self.poll(key) {
                        return stepped;
                    }
                }
            }
        }
    }

    /// Moves time on to `nanos`.
    pub(super) fn skip_to(&self, nanos: u64) {
        self.clock.skip_to(nanos);
    }

    /// Runs no task of a core before `until`, in nanoseconds of virtual time.
    pub(super) fn pause(&self, owner: Owner, until: u64) {
        self.paused.borrow_mut().push((owner, until));
    }

    /// Until when a core is paused.
    fn paused_until(&self, owner: Owner) -> Option<u64> {
        let mut paused = self.paused.borrow_mut();
        if paused.is_empty() {
            return None;
        }
        let now = self.clock.nanos();
        paused.retain(|(_, until)| *until > now);
        paused.iter().filter(|(other, _)| *other == owner).map(|(_, until)| *until).max()
    }

    /// Polls a task; `None` when it is gone.
    fn poll(&self, key: TaskKey) -> Option<Stepped> {
        let (mut future, waker) = {
            let mut slab = self.slab.borrow_mut();
            let task = slab.task(key)?;
            task.state.queued.store(false, Ordering::Relaxed);
            if let Some(until) = self.paused_until(task.owner) {
                self.clock.wake_at(until, task.waker.clone());
                return Some(Stepped::Polled);
            }
            (task.future.take()?, task.waker.clone())
        };
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        let mut slab = self.slab.borrow_mut();
        if let Ok(Poll::Pending) = &polled {
            let Some(task) = slab.task(key) else {
                drop(slab);
                // It ended its own process.
                drop(future);
                return Some(Stepped::Polled);
            };
            task.future = Some(future);
            return Some(Stepped::Polled);
        }
        let task = slab.task(key).is_some().then(|| slab.remove(key.slot)).flatten();
        // Dropping a future runs its owner's code, which may spawn.
        drop(slab);
        drop(future);
        Some(match (polled, task) {
            (Err(reason), Some(Task { owner, name, is_main, .. })) => {
                Stepped::Panicked { owner, name, is_main, reason }
            }
            (Ok(_), Some(task)) if task.is_main => Stepped::Ended(task.owner),
            (Ok(_) | Err(_), _) => Stepped::Polled,
        })
    }

    /// Ends all tasks whose owner is `chosen`, without running them again.
    pub(super) fn end_tasks(&self, chosen: impl Fn(Owner) -> bool) {
        // Dropping a task may spawn another.
        loop {
            let mut ended = Vec::new();
            let mut slab = self.slab.borrow_mut();
            for slot in 0..slab.tasks.len() {
                if slab.tasks[slot].as_ref().is_some_and(|task| chosen(task.owner)) {
                    ended.extend(slab.remove(slot));
                }
            }
            drop(slab);
            if ended.is_empty() {
                return;
            }
        }
    }
}
