//! One core's threads for calls that may wait for the disk.
//!
//! ```text
//! core: dispatch -> an idle thread, a new one, or the queue      thread: run -> result -> bell
//! core: collect  <- results; the thread that is free again takes the next of the queue
//! ```
//!
//! Threads are started when they are first needed, so that a quiet core has none. All bookkeeping
//! is the core's; a thread has nothing but its channel.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::runtime::local::{Answer, Reply, oneshot};

use super::bell::Bells;
use super::sys;

/// Threads of each core; they run on any CPU the process may use.
const THREADS_MAX: usize = 4;

/// Their stacks, in bytes.
const STACK_BYTES: usize = 512 << 10;

/// What a call returned, or what it panicked with.
pub(super) type Returned = thread::Result<Box<dyn Any + Send>>;

type Call = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

struct Job {
    token: u64,
    call: Call,
}

struct Done {
    thread: usize,
    token: u64,
    returned: Returned,
}

/// The pool of one core.
pub(super) struct Pool {
    state: RefCell<State>,
    done: Receiver<Done>,
    report: Sender<Done>,
    bells: Arc<Bells>,
    core: usize,
    cpus: Arc<[usize]>,
}

#[derive(Default)]
struct State {
    threads: Vec<Sender<Job>>,
    idle: Vec<usize>,
    queue: VecDeque<Job>,
    waiting: BTreeMap<u64, Reply<Returned>>,
    next_token: u64,
}

impl Pool {
    /// A pool without threads that reports to `core`.
    pub(super) fn new(core: usize, bells: Arc<Bells>, cpus: Arc<[usize]>) -> Self {
        let (report, done) = channel();
        Self { state: RefCell::default(), done, report, bells, core, cpus }
    }

    /// Has `call` run on a thread. The answer comes even when nobody waits for it any more.
    pub(super) fn dispatch(&self, call: Call) -> io::Result<Answer<Returned>> {
        let (reply, answer) = oneshot();
        let mut state = self.state.borrow_mut();
        let token = state.next_token;
        let thread = match state.idle.pop() {
            None if state.threads.len() < THREADS_MAX => match self.start_thread(&mut state) {
                Ok(thread) => Some(thread),
                // Those that run will get to it.
                Err(_) if !state.threads.is_empty() => None,
                Err(error) => return Err(error),
            },
            idle => idle,
        };
        state.next_token += 1;
        state.waiting.insert(token, reply);
        let job = Job { token, call };
        match thread {
            // A thread ends with its channel only, and that is held here.
            Some(thread) => drop(state.threads[thread].send(job)),
            None => state.queue.push_back(job),
        }
        Ok(answer)
    }

    fn start_thread(&self, state: &mut State) -> io::Result<usize> {
        let index = state.threads.len();
        let (jobs, inbox) = channel::<Job>();
        let (report, bells, core) = (self.report.clone(), self.bells.clone(), self.core);
        let cpus = self.cpus.clone();
        thread::Builder::new().name(format!("disk-{core}.{index}")).stack_size(STACK_BYTES).spawn(
            move || {
                // Started by a pinned thread, it would share its CPU.
                let _ = sys::pin_to_cpus(&cpus);
                while let Ok(Job { token, call }) = inbox.recv() {
                    let returned = catch_unwind(AssertUnwindSafe(call));
                    if report.send(Done { thread: index, token, returned }).is_err() {
                        return;
                    }
                    bells.ring(core);
                }
            },
        )?;
        state.threads.push(jobs);
        Ok(index)
    }

    /// Passes on what threads have returned; whether there was anything.
    pub(super) fn collect(&self) -> bool {
        let mut any = false;
        while let Ok(Done { thread, token, returned }) = self.done.try_recv() {
            any = true;
            let mut state = self.state.borrow_mut();
            match state.queue.pop_front() {
                Some(job) => drop(state.threads[thread].send(job)),
                None => state.idle.push(thread),
            }
            let reply = state.waiting.remove(&token);
            drop(state);
            if let Some(reply) = reply {
                reply.send(returned);
            }
        }
        any
    }
}
