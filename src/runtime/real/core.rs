//! One core's handle: clocks, randomness, tasks, the work budget, counters.
//!
//! Invariant: nothing here is used outside the executor's thread; [`Core`] is not `Send`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tracing::error;

use crate::base::{Instant, ShardId, Timestamp};
use crate::runtime::local::{Budget, Notice, next_turn};

use super::bell::Bells;
use super::desk::{Desks, Handed};
use super::disk::{AppendPath, Disk};
use super::net::Listening;
use super::reactor::Reactor;
use super::signals;
use super::start::Options;
use super::sys;
use super::watchdog::Heart;

/// How long a core may work before it looks at its sockets, timers and lanes again.
const WORK_BUDGET: Duration = Duration::from_micros(500);

/// Longest sleep: the clock's arithmetic does not know "for ever".
const SLEEP_MAX: Duration = Duration::from_secs(3600 * 24 * 365);

/// Buffers kept for gathering small file slices, and the largest one that is kept, in bytes.
const SCRATCH_COUNT_MAX: usize = 16;
const SCRATCH_BYTES_MAX: usize = 512 << 10;

/// What one core has done since it started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Calls that sent something to a socket.
    pub sends: u64,
    /// Bytes of files that left by `sendfile(2)`.
    pub sendfile_bytes: u64,
    /// Bytes that were copied to a socket, of memory or of files.
    pub copied_bytes: u64,
    /// Times that cold pages of a file were read before they were sent.
    pub warmed_slices: u64,
    /// Times the work budget was used up and the reactor was visited.
    pub passes: u64,
    /// Writes to files.
    pub writes: u64,
    /// Bytes written to files.
    pub write_bytes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Messages given to other cores.
    pub lane_messages: u64,
    /// Batches in which they left.
    pub lane_batches: u64,
    /// Connections accepted.
    pub accepted: u64,
}

/// One core's handle to the operating system; see [`Runtime`](crate::runtime::Runtime).
#[derive(Clone)]
pub struct Core(Rc<State>);

struct State {
    shard: ShardId,
    shard_count: u16,
    options: Options,
    reactor: Rc<Reactor>,
    bells: Arc<Bells>,
    desks: Arc<Desks>,
    inbox: Receiver<Handed>,
    listening: RefCell<Vec<Weak<Listening>>>,
    heart: Heart,
    terminated: Cell<bool>,
    termination: Notice,
    counters: Cell<Counters>,
    append_paths: RefCell<BTreeMap<u64, AppendPath>>,
    scratch: RefCell<Vec<Vec<u8>>>,
    background: Budget,
    closer: Sender<OwnedFd>,
}

/// What a core's handle is made of.
pub(super) struct CoreParts {
    pub(super) reactor: Rc<Reactor>,
    pub(super) bells: Arc<Bells>,
    pub(super) desks: Arc<Desks>,
    /// Connections that other cores have accepted for this one.
    pub(super) inbox: Receiver<Handed>,
    /// Where files go whose last close may take long.
    pub(super) closer: Sender<OwnedFd>,
}

pin_project! {
    /// A future whose polls are counted.
    pub(super) struct Counted<F> {
        polls: Rc<Cell<u64>>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.polls.set(this.polls.get() + 1);
        this.future.poll(cx)
    }
}

pin_project! {
    /// A task that a panic ends, and nothing else. Written by hand: an async block would hold its
    /// future twice, and every connection has two tasks.
    struct Guarded<F> {
        shard: ShardId,
        name: &'static str,
        #[pin]
        counted: Counted<F>,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        catch_unwind(AssertUnwindSafe(|| this.counted.poll(cx))).unwrap_or_else(|panic| {
            let reason = panic_text(&*panic);
            error!(shard = %this.shard, task = this.name, reason, "a task panicked and was ended");
            Poll::Ready(())
        })
    }
}

impl Core {
    /// The handle of core `shard`; made on its thread.
    pub(super) fn new(
        shard: ShardId,
        shard_count: u16,
        options: Options,
        parts: CoreParts,
        heart: Heart,
    ) -> Self {
        let CoreParts { reactor, bells, desks, inbox, closer } = parts;
        Self(Rc::new(State {
            shard,
            shard_count,
            options,
            reactor,
            bells,
            desks,
            inbox,
            listening: RefCell::default(),
            heart,
            terminated: Cell::new(false),
            termination: Notice::new(),
            counters: Cell::default(),
            append_paths: RefCell::default(),
            scratch: RefCell::default(),
            background: Budget::new(1),
            closer,
        }))
    }

    /// See [`Runtime::background_turn`](crate::runtime::Runtime::background_turn).
    pub fn background(&self) -> &Budget {
        &self.0.background
    }

    /// Which core of the process this is.
    pub fn shard(&self) -> ShardId {
        self.0.shard
    }

    /// How many cores the process has.
    pub fn shard_count(&self) -> u16 {
        self.0.shard_count
    }

    /// The monotonic clock; the same on all cores.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(sys::monotonic_nanos())
    }

    /// The wall clock.
    pub fn wall_clock(&self) -> Timestamp {
        Timestamp::from_millis(sys::wall_clock_millis())
    }

    /// 64 random bits of the operating system.
    pub fn random(&self) -> u64 {
        sys::random()
    }

    /// What this core has done so far.
    pub fn counters(&self) -> Counters {
        self.0.counters.get()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.0.counters.get();
        change(&mut counters);
        self.0.counters.set(counters);
    }

    /// Runs `future` to its end, detached; a panic in it ends this task only (traps 2 and 5).
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        let counted = self.counted(future);
        glommio::spawn_local(Guarded { shard: self.shard(), name, counted }).detach();
    }

    /// `future`, its polls known to the reactor: every task must be made of such.
    pub(super) fn counted<F: Future>(&self, future: F) -> Counted<F> {
        Counted { polls: self.0.reactor.polls(), future }
    }

    /// Runs `work` on this core's pool of threads that may wait for the disk, to its end even when
    /// the caller gives up waiting. A panic in it becomes an error.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let answer = self.0.reactor.pool().dispatch(Box::new(move || Box::new(work())))?;
        match answer.await {
            Some(Ok(returned)) => *returned.downcast().expect("a call returns its own type"),
            Some(Err(panic)) => Err(io::Error::other(format!(
                "a call on the blocking pool panicked: {}",
                panic_text(&*panic)
            ))),
            None => Err(io::Error::other("the blocking pool is gone")),
        }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        let nanos = duration.min(SLEEP_MAX).as_nanos() as u64;
        self.0.reactor.sleep_until(sys::monotonic_nanos() + nanos).await;
    }

    /// Whether this turn has used up the work budget.
    pub fn is_late(&self) -> bool {
        let worked = sys::monotonic_nanos().saturating_sub(self.0.reactor.turn_began());
        u128::from(worked) >= WORK_BUDGET.as_nanos()
    }

    /// Lets the reactor have its turn when this one has used up the work budget; else returns at
    /// once.
    pub async fn pass(&self) {
        if !self.is_late() {
            return;
        }
        self.count(|counters| counters.passes += 1);
        next_turn().await;
    }

    /// This core's reactor.
    pub(super) fn reactor(&self) -> &Rc<Reactor> {
        &self.0.reactor
    }

    /// How connections are spread over the cores.
    pub(super) fn desks(&self) -> &Arc<Desks> {
        &self.0.desks
    }

    /// The listeners of this core.
    pub(super) fn listening(&self) -> &RefCell<Vec<Weak<Listening>>> {
        &self.0.listening
    }

    /// Bounds the connections of all cores together; further ones wait to be accepted.
    pub fn limit_connections(&self, connections_max: u32) {
        self.0.desks.limit(connections_max);
    }

    /// The bells of all cores.
    pub(super) fn bells(&self) -> Arc<Bells> {
        self.0.bells.clone()
    }

    /// Resolves when the process was asked to end.
    pub async fn terminated(&self) {
        while !self.0.terminated.get() {
            self.0.termination.notified().await;
        }
    }

    /// Resolves [`terminated`](Self::terminated), now and ever after.
    pub(super) fn terminate(&self) {
        if !self.0.terminated.replace(true) {
            self.0.termination.notify();
        }
    }

    /// Starts what the watchdog needs of this core; on its executor.
    pub(super) fn start_heart_beat(&self) {
        let core = self.clone();
        // The process's handle on the core is the reactor's: it holds none on itself for long.
        let weak = Rc::downgrade(&self.0);
        self.0.reactor.on_bell(move || {
            let Some(core) = weak.upgrade().map(Self) else { return };
            while let Ok(handed) = core.0.inbox.try_recv() {
                core.receive(handed);
            }
            if core.0.heart.is_terminating() {
                core.terminate();
            }
        });
        core.0.heart.start(&core);
    }

    /// Has the process end as a signal would: `terminated` resolves on every core.
    pub fn end_process(&self) {
        signals::signal_end();
    }

    /// The file systems of this machine.
    pub fn disk(&self) -> Disk {
        Disk::new(self.clone())
    }

    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(super) fn append_paths(&self) -> &RefCell<BTreeMap<u64, AppendPath>> {
        &self.0.append_paths
    }

    /// Where files go whose last close may take long.
    pub(super) fn closer(&self) -> Sender<OwnedFd> {
        self.0.closer.clone()
    }

    /// An empty buffer, often one that was used before.
    pub(super) fn take_scratch(&self) -> Vec<u8> {
        self.0.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back for re-use.
    pub(super) fn give_scratch(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.scratch.borrow_mut();
        if kept.len() < SCRATCH_COUNT_MAX && (1..=SCRATCH_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

/// The message of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
