//! One core's loop: run what is runnable, then look at the ring, the timers and the other cores.
//!
//! ```text
//! glommio's run queue:   task, task, task ... driver
//! driver, each time:     bell rung?  -> take messages, results of the disk threads
//!                        due timers  -> wake
//!                        outboxes    -> other cores
//!                        nobody else ran since last time? -> wait in the ring; else look only
//! ```
//!
//! The driver is a task of glommio's executor that is always runnable, so the executor never goes
//! to sleep by itself: its own sleep costs four to six system calls and a barrier on all CPUs each
//! time (traps 1 and 10), the driver's costs one. Every task's polls are counted; when none was
//! polled between two turns of the driver, none is runnable.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::bell::Bells;
use super::pool::Pool;
use super::ring::{Outcome, Readiness, Ring, Watch};
use super::sys;

/// Longest wait without a timer.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// How long a core that ends waits for operations the kernel has not finished.
const LAST_WAIT_MAX: Duration = Duration::from_secs(10);

/// What a core exchanges with others once a turn.
pub(super) trait Exchange {
    /// Takes what has arrived.
    fn collect(&self);
    /// Hands over what waits to leave; whether there was anything to hand over.
    fn deliver(&self) -> bool;
}

/// One core's reactor.
pub(super) struct Reactor {
    core: usize,
    bells: Arc<Bells>,
    ring: RefCell<Ring>,
    pool: Pool,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    next_timer: Cell<u64>,
    exchanges: RefCell<Vec<Rc<dyn Exchange>>>,
    /// Called when the bell was rung, before anything else.
    on_bell: RefCell<Option<Box<dyn Fn()>>>,
    polls: Rc<Cell<u64>>,
    turn_began: Cell<u64>,
    ended: Cell<bool>,
}

impl Reactor {
    /// The reactor of `core`, on its thread.
    pub(super) fn new(core: usize, bells: Arc<Bells>, cpus: Arc<[usize]>) -> io::Result<Self> {
        let mut ring = Ring::new()?;
        // Each ring of the bell is a change; that its count is never read does not matter.
        let _ = ring.watch(bells.descriptor(core));
        Ok(Self {
            core,
            pool: Pool::new(core, bells.clone(), cpus),
            bells,
            ring: RefCell::new(ring),
            timers: RefCell::default(),
            next_timer: Cell::new(0),
            exchanges: RefCell::default(),
            on_bell: RefCell::default(),
            polls: Rc::default(),
            turn_began: Cell::new(sys::monotonic_nanos()),
            ended: Cell::new(false),
        })
    }

    /// Counts the polls of tasks; every task must.
    pub(super) fn polls(&self) -> Rc<Cell<u64>> {
        self.polls.clone()
    }

    /// When this turn of the loop began, in nanoseconds of the monotonic clock.
    pub(super) fn turn_began(&self) -> u64 {
        self.turn_began.get()
    }

    /// The threads for calls that may wait.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Adds lanes to what is exchanged each turn.
    pub(super) fn add_exchange(&self, exchange: Rc<dyn Exchange>) {
        self.exchanges.borrow_mut().push(exchange);
        // The bell may have been answered before there was anyone to look.
        self.bells.ring(self.core);
    }

    /// Sets what to look at when the bell was rung.
    pub(super) fn on_bell(&self, look: impl Fn() + 'static) {
        *self.on_bell.borrow_mut() = Some(Box::new(look));
        self.bells.ring(self.core);
    }

    /// Tells every change of a socket from now on.
    pub(super) fn watch(&self, socket: BorrowedFd<'_>) -> (Watch, Rc<Readiness>) {
        self.ring.borrow_mut().watch(socket)
    }

    /// Ends a watch.
    pub(super) fn forget(&self, watch: Watch) {
        self.ring.borrow_mut().forget(watch);
    }

    /// Makes a file's bytes durable; `owner` keeps it open until then.
    pub(super) async fn sync(&self, file: BorrowedFd<'_>, owner: impl Any) -> io::Result<()> {
        let outcome = self.ring.borrow_mut().sync(file, owner);
        finished(outcome).await.map(drop)
    }

    /// Writes `bytes` into a file and returns how many were; `owner` keeps it open until then.
    pub(super) async fn write(
        &self,
        file: BorrowedFd<'_>,
        bytes: Vec<u8>,
        position: u64,
        owner: impl Any,
    ) -> io::Result<usize> {
        let outcome = self.ring.borrow_mut().write(file, bytes, position, owner);
        finished(outcome).await.map(|count| count as usize)
    }

    /// Waits until the monotonic clock shows `due`, in nanoseconds.
    pub(super) fn sleep_until(self: &Rc<Self>, due: u64) -> Sleep {
        Sleep { reactor: self.clone(), due, key: None }
    }

    /// Ends the driver at its next turn.
    pub(super) fn end(&self) {
        self.ended.set(true);
    }

    /// The task that drives everything; see the module. It ends after [`end`](Self::end).
    pub(super) async fn drive(self: Rc<Self>) {
        let mut polls_seen = self.polls.get();
        let mut woken = Vec::new();
        poll_fn(|cx| {
            if self.ended.get() {
                self.finish();
                return Poll::Ready(());
            }
            let polls = self.polls.get();
            let quiet = polls == polls_seen;
            polls_seen = polls;
            woken = self.turn(quiet, std::mem::take(&mut woken));
            // Behind all that was just woken.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// One turn of the loop; `quiet` when no task is runnable. Returns the emptied `woken`.
    fn turn(&self, mut quiet: bool, woken: Vec<Waker>) -> Vec<Waker> {
        self.bells.count_turn(self.core);
        if self.bells.answer(self.core) {
            quiet = false;
            if let Some(look) = &*self.on_bell.borrow() {
                look();
            }
            self.pool.collect();
            for exchange in &*self.exchanges.borrow() {
                exchange.collect();
            }
        }
        for exchange in &*self.exchanges.borrow() {
            quiet &= !exchange.deliver();
        }
        let mut now = sys::monotonic_nanos();
        quiet &= !self.fire(now);
        let load = self.bells.load(self.core);
        load.turn(now);
        if quiet && self.bells.fall_asleep(self.core) {
            let from = now;
            load.sleeps(from);
            self.visit(Some(self.until_timer(now)));
            self.bells.wake_up(self.core);
            now = sys::monotonic_nanos();
            load.wakes(from, now);
            self.fire(now);
        } else if self.ring.borrow_mut().has_work() {
            self.visit(None);
        }
        self.turn_began.set(now);
        let mut woken = self.ring.borrow_mut().take_woken(woken);
        for waker in woken.drain(..) {
            waker.wake();
        }
        woken
    }

    fn visit(&self, timeout: Option<Duration>) {
        let result = self.ring.borrow_mut().visit(timeout);
        // Nothing on this core would ever be heard of again.
        result.expect("the kernel does not refuse a visit to its ring");
    }

    /// Time until the first timer is due.
    fn until_timer(&self, now: u64) -> Duration {
        let timers = self.timers.borrow();
        timers.first_key_value().map_or(WAIT_MAX, |((due, _), _)| {
            Duration::from_nanos(due.saturating_sub(now)).min(WAIT_MAX)
        })
    }

    /// Wakes the timers that are due; whether there were any.
    fn fire(&self, now: u64) -> bool {
        let mut any = false;
        loop {
            let mut timers = self.timers.borrow_mut();
            match timers.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let waker = first.remove();
                    drop(timers);
                    waker.wake();
                    any = true;
                }
                _ => return any,
            }
        }
    }

    /// Waits for what the kernel still does with our memory, and lets go of all tasks.
    fn finish(&self) {
        let end = sys::monotonic_nanos() + LAST_WAIT_MAX.as_nanos() as u64;
        while self.ring.borrow().in_flight() > 0 {
            let now = sys::monotonic_nanos();
            if now >= end {
                // Safe, for slots keep that memory; but the disk hangs.
                tracing::warn!(core = self.core, "operations of the disk were left unfinished");
                break;
            }
            self.visit(Some(Duration::from_nanos(end - now)));
        }
        let mut waiting = self.ring.borrow_mut().take_woken(Vec::new());
        waiting.extend(self.ring.borrow_mut().take_waiting());
        let timers = std::mem::take(&mut *self.timers.borrow_mut());
        waiting.extend(timers.into_values());
        drop(waiting);
        self.exchanges.borrow_mut().clear();
    }
}

/// Waits for an operation's result. Dropped early, the operation goes on by itself.
async fn finished(outcome: Rc<Outcome>) -> io::Result<u32> {
    poll_fn(|cx| outcome.poll(cx.waker()).map_or(Poll::Pending, Poll::Ready)).await
}

/// A wait for a point in time; dropped early, it leaves no timer behind.
pub(super) struct Sleep {
    reactor: Rc<Reactor>,
    due: u64,
    key: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(key) = self.key
            && let Some(known) = self.reactor.timers.borrow().get(&key)
            && known.will_wake(cx.waker())
        {
            // A timer that is due leaves the list first: no need to look at the clock.
            return Poll::Pending;
        }
        if sys::monotonic_nanos() >= self.due {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            let number = self.reactor.next_timer.get();
            self.reactor.next_timer.set(number + 1);
            (self.due, number)
        });
        self.key = Some(key);
        // A replaced waker is dropped after the borrow has ended: that may drop a task.
        let _replaced = self.reactor.timers.borrow_mut().insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let _removed = self.reactor.timers.borrow_mut().remove(&key);
        }
    }
}
