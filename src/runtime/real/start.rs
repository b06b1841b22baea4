//! Starting the cores, and what happens when one dies.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use tracing::{error, warn};

use crate::base::ShardId;
use crate::runtime::Runtime;

use super::bell::Bells;
use super::core::{Core, CoreParts, panic_text};
use super::desk::{Desks, Handed};
use super::disk::AppendPath;
use super::lanes::{Ends, Lanes, make_ends};
use super::reactor::Reactor;
use super::signals::{self, EndSignals, SignalWait};
use super::sys::{self, Resource};
use super::watchdog::{self, Heart, Pulse, Wakers};

/// Memory registered with each of glommio's rings, in bytes: the least it takes. It serves direct
/// reads, which are not used, and is pinned three times over.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Entries of each of glommio's rings, which stand idle: the reactor has one of its own.
const RING_DEPTH: usize = 64;

/// glommio's preempt timer: practically never. The work budget of `Core::pass` does its work, and
/// each expiry is a chance for trap 1.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);

/// How often an executor's creation is tried when the kernel is short of lockable memory: it frees
/// the rings of a process that just ended a little later.
const START_TRIES: u32 = 8;

/// The first wait between two tries; each is twice the one before.
const START_BACK_OFF: Duration = Duration::from_millis(20);

/// How long a core whose main function has returned tries to get its last messages out.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Exit status of a process one of whose cores died: `EX_SOFTWARE` of sysexits.
const CORE_DIED: i32 = 70;

/// How the cores are started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPUs to use, one core of the process on each; those the process may run on when empty.
    pub cores: Vec<usize>,
    /// How many cores to run, where `cores` names none: as many as there are CPUs when `None`.
    /// More than there are CPUs share them.
    pub core_count: Option<usize>,
    /// Whether each core's thread keeps to its CPU.
    pub pin: bool,
    /// Most messages that wait to leave one core for another.
    pub lane_capacity: usize,
    /// Slices of files of at least so many bytes leave by `sendfile`.
    pub sendfile_bytes_min: u32,
    /// How files are appended to; probed on each file system when `None`.
    pub append_path: Option<AppendPath>,
    /// Size of the sockets' send buffers in bytes; the system's choice when `None`.
    pub send_buffer_bytes: Option<u32>,
    /// Size of the sockets' receive buffers in bytes; the system's choice when `None`.
    pub receive_buffer_bytes: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cores: Vec::new(),
            core_count: None,
            pin: true,
            lane_capacity: 4096,
            sendfile_bytes_min: 32 << 10,
            append_path: None,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// Why no core was started.
#[derive(Debug)]
pub enum StartError {
    /// The kernel does not let this process use io_uring.
    NoIoUring(io::Error),
    /// A CPU can not be used.
    Cpu {
        /// Its number.
        cpu: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// The rings do not fit below the limit of locked memory.
    LockedMemory {
        /// The limit, in bytes.
        limit_bytes: u64,
        /// What so many cores need, in bytes.
        needed_bytes: u64,
    },
    /// Anything else.
    Other(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIoUring(error) => match error.raw_os_error() {
                Some(libc::ENOSYS) => f.write_str(
                    "this kernel has no io_uring, or too old a one; Linux 5.13 or newer is \
                     needed, with io_uring compiled in",
                ),
                Some(libc::EPERM | libc::EACCES) => f.write_str(
                    "io_uring is forbidden here: look at the sysctl kernel.io_uring_disabled \
                     (0 allows it) and, in a container, at its seccomp profile",
                ),
                _ => write!(f, "io_uring can not be used: {error}"),
            },
            Self::Cpu { cpu, error } => write!(
                f,
                "CPU {cpu} can not be used ({error}): it does not exist or this process may not \
                 run on it"
            ),
            Self::LockedMemory { limit_bytes, needed_bytes } => write!(
                f,
                "io_uring needs {needed_bytes} bytes of locked memory, the limit is {limit_bytes} \
                 for all processes of this user: raise it (ulimit -l, LimitMEMLOCK=) or use fewer \
                 cores"
            ),
            Self::Other(error) => write!(f, "the cores could not be started: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Bytes of locked memory that so many cores need: measured 241 KiB a core at a ring depth of
/// 128 and 86 - 49 KiB more at 256, and glommio refuses to start below 512 KiB.
pub(super) fn locked_memory_needed(core_count: usize) -> u64 {
    (core_count as u64 * (320 << 10)).max(512 << 10)
}

/// Runs `main` on every core, each on a thread pinned to its CPU, until all have returned.
///
/// SIGTERM and SIGINT resolve [`Runtime::terminated`]; a second SIGINT ends the process. A core
/// that dies of a panic ends the process with status 70: what it owned can not be served by the
/// others. A core's tasks end with its main function, its last messages are still delivered.
///
/// One call a process: the executors' event descriptors stay open until its end (trap 8).
pub fn run<T, M, F>(options: Options, main: M) -> Result<(), StartError>
where
    T: Send + 'static,
    M: Fn(Runtime, Lanes<T>) -> F + Send + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let options = with_cores(options)?;
    let process = Process::start(options.cores.len())?;
    let (ended, endings) = channel();
    let mut gates = Vec::new();
    for (index, ends) in make_ends::<T>(options.cores.len()).into_iter().enumerate() {
        let (ready, readiness) = channel();
        let (gate, opened) = channel();
        let seed =
            Seed { index, options: options.clone(), parts: process.parts(index), ready, opened };
        let main = main.clone();
        let ended = ended.clone();
        thread::Builder::new()
            .name(format!("core-{index}"))
            .spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| seed.grow(ends, main)));
                let _ = ended.send((index, result.map_err(|panic| panic_text(&*panic).to_owned())));
            })
            .map_err(StartError::Other)?;
        // One by one: several at once would run out of lockable memory that each alone finds.
        readiness.recv().unwrap_or_else(|_| Err(died_at_start()))?;
        gates.push(gate);
    }
    drop(ended);
    for gate in gates {
        // A core that has died already is seen just below.
        let _ = gate.send(());
    }
    while let Ok((index, result)) = endings.recv() {
        if let Err(reason) = result {
            error!(core = index, reason, "a core died, the process ends");
            std::process::exit(CORE_DIED);
        }
    }
    Ok(())
}

fn died_at_start() -> StartError {
    StartError::Other(io::Error::other("a core's thread died while it started"))
}

/// Runs one future on one unpinned core on this thread, and returns its output. For clients.
///
/// SIGTERM and SIGINT resolve [`Runtime::terminated`]; a second SIGINT ends the process.
pub fn run_single<M, F>(main: M) -> Result<F::Output, StartError>
where
    M: FnOnce(Runtime) -> F,
    F: Future,
{
    let process = Process::start(1)?;
    let parts = process.parts(0);
    let (executor, reactor) = make_executor(&parts, 0, 1)?;
    let core = parts.core(0, 1, Options::default(), reactor);
    Ok(run_driven(&executor, core, async |core| main(Runtime::Real(core)).await))
}

fn with_cores(mut options: Options) -> Result<Options, StartError> {
    if options.cores.is_empty() {
        let cpus = sys::allowed_cpus().map_err(StartError::Other)?;
        let count = options.core_count.unwrap_or(cpus.len());
        options.cores = cpus.iter().copied().cycle().take(count).collect();
    }
    if options.cores.is_empty() || options.cores.len() > usize::from(u16::MAX) {
        return Err(StartError::Other(io::ErrorKind::InvalidInput.into()));
    }
    Ok(options)
}

/// Runs `main` on `executor`, its reactor driven until it is over.
fn run_driven<T>(executor: &LocalExecutor, core: Core, main: impl AsyncFnOnce(Core) -> T) -> T {
    executor.run(async move {
        let reactor = core.reactor().clone();
        glommio::spawn_local(reactor.clone().drive()).detach();
        core.start_heart_beat();
        let output = core.counted(main(core.clone())).await;
        reactor.end();
        output
    })
}

/// What the cores of a process share: the watchdog and the thread that closes files.
struct Process {
    pulse: Arc<Pulse>,
    bells: Arc<Bells>,
    desks: Arc<Desks>,
    /// By core; each is taken once.
    inboxes: RefCell<Vec<Option<Receiver<Handed>>>>,
    cpus: Arc<[usize]>,
    wakers: Wakers,
    closer: Sender<OwnedFd>,
    _signals: EndSignals,
}

impl Process {
    fn start(core_count: usize) -> Result<Self, StartError> {
        // glommio would print a joke and exit (trap 11).
        sys::try_io_uring().map_err(StartError::NoIoUring)?;
        for resource in [Resource::LockedMemory, Resource::OpenFiles] {
            if let Err(error) = sys::raise_limit(resource) {
                warn!(?resource, error = %error, "a limit could not be raised");
            }
        }
        signals::ignore_broken_pipes();
        let wait = SignalWait::new();
        let signals = EndSignals::count().map_err(StartError::Other)?;
        let pulse = Pulse::new();
        let bells = Arc::new(Bells::new(core_count).map_err(StartError::Other)?);
        let (desks, inboxes) = Desks::new(core_count, bells.clone());
        let inboxes = RefCell::new(inboxes.into_iter().map(Some).collect());
        let cpus = sys::allowed_cpus().map_err(StartError::Other)?.into();
        let (wakers, waker_inbox) = channel();
        watchdog::start(core_count, pulse.clone(), bells.clone(), waker_inbox, wait)
            .map_err(StartError::Other)?;
        let (closer, files) = channel();
        thread::Builder::new()
            .name("closer".into())
            .stack_size(128 << 10)
            .spawn(move || close_all(&files))
            .map_err(StartError::Other)?;
        Ok(Self { pulse, bells, desks, inboxes, cpus, wakers, closer, _signals: signals })
    }

    fn parts(&self, index: usize) -> Parts {
        let inbox = self.inboxes.borrow_mut()[index].take();
        Parts {
            inbox: inbox.expect("each core is started once"),
            pulse: self.pulse.clone(),
            bells: self.bells.clone(),
            desks: self.desks.clone(),
            cpus: self.cpus.clone(),
            wakers: self.wakers.clone(),
            closer: self.closer.clone(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.pulse.end();
    }
}

/// Closes files whose last close frees their bytes: for a removed segment of 1 GiB that takes tens
/// of milliseconds, which no core has.
fn close_all(files: &Receiver<OwnedFd>) {
    while let Ok(file) = files.recv() {
        drop(file);
    }
}

/// What a core is given of its process.
struct Parts {
    inbox: Receiver<Handed>,
    pulse: Arc<Pulse>,
    bells: Arc<Bells>,
    desks: Arc<Desks>,
    cpus: Arc<[usize]>,
    wakers: Wakers,
    closer: Sender<OwnedFd>,
}

impl Parts {
    /// The core's handle.
    fn core(self, index: usize, core_count: usize, options: Options, reactor: Reactor) -> Core {
        let shard = ShardId(index as u16);
        let heart = Heart { pulse: self.pulse, wakers: self.wakers };
        let parts = CoreParts {
            reactor: Rc::new(reactor),
            bells: self.bells,
            desks: self.desks,
            inbox: self.inbox,
            closer: self.closer,
        };
        Core::new(shard, core_count as u16, options, parts, heart)
    }
}

/// What a core's thread is started with.
struct Seed {
    index: usize,
    options: Options,
    parts: Parts,
    ready: Sender<Result<(), StartError>>,
    opened: Receiver<()>,
}

impl Seed {
    /// Makes the executor, tells so, waits until all cores have theirs, and runs `main`.
    fn grow<T, M, F>(self, ends: Ends<T>, main: M)
    where
        T: Send + 'static,
        M: Fn(Runtime, Lanes<T>) -> F,
        F: Future<Output = ()> + 'static,
    {
        let core_count = self.options.cores.len();
        let cpu = self.options.cores[self.index];
        let made = make_executor(&self.parts, self.index, core_count).and_then(|made| {
            // Pinned by hand and only now: the thread of glommio's blocking pool, which the
            // executor has just started, keeps the whole process's CPUs.
            if self.options.pin {
                sys::pin_to_cpus(&[cpu]).map_err(|error| StartError::Cpu { cpu, error })?;
            }
            Ok(made)
        });
        let (executor, reactor) = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = self.ready.send(Err(error));
                return;
            }
        };
        let _ = self.ready.send(Ok(()));
        if self.opened.recv().is_err() {
            // Another core could not be started.
            return;
        }
        let capacity = self.options.lane_capacity;
        let core = self.parts.core(self.index, core_count, self.options, reactor);
        run_driven(&executor, core, async |core: Core| {
            let lanes = Lanes::start(&core, ends, capacity);
            let runtime = Runtime::Real(core);
            main(runtime.clone(), lanes.clone()).await;
            // What main has sent last shall arrive, unless the receiver does not receive.
            runtime.timeout(FLUSH_MAX, lanes.flushed()).await;
            lanes.close();
        });
    }
}

fn make_executor(
    parts: &Parts,
    index: usize,
    core_count: usize,
) -> Result<(LocalExecutor, Reactor), StartError> {
    let mut wait = START_BACK_OFF;
    let mut tries = 1;
    loop {
        let error = match try_executor(parts, index) {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        let limit_bytes = sys::limit(Resource::LockedMemory).map_or(0, |limit| limit.soft);
        let needed_bytes = locked_memory_needed(core_count);
        let short = error.raw_os_error() == Some(libc::ENOMEM);
        if short && tries < START_TRIES {
            #[expect(clippy::disallowed_methods, reason = "no executor runs on this thread yet")]
            thread::sleep(wait);
            wait *= 2;
            tries += 1;
        } else if short || limit_bytes < needed_bytes {
            return Err(StartError::LockedMemory { limit_bytes, needed_bytes });
        } else {
            return Err(StartError::Other(error));
        }
    }
}

fn try_executor(parts: &Parts, index: usize) -> io::Result<(LocalExecutor, Reactor)> {
    let reactor = Reactor::new(index, parts.bells.clone(), parts.cpus.clone())?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(io_error)?;
    Ok((executor, reactor))
}

/// glommio's errors as the operating system's.
fn io_error(error: GlommioError<()>) -> io::Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only two variants carry a system error")]
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}
