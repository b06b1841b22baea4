//! A simulated world: machines, the processes on them, and the run of time.
//!
//! ```text
//! World -- machines (disk, address, clock skew)
//!       -- processes (cores: tasks, lanes, sockets, locks)
//!       -- executor (virtual time, seeded choice of the next task)    -- network
//! ```
//!
//! A test starts processes, lets time run until something has happened, kills and crashes, and
//! looks at the results. One seed, one history: [`World::history_hash`] tells two runs apart.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::{Instant, ShardId};
use crate::runtime::local::Notice;
use crate::runtime::{Lanes, Runtime};

use super::core::Core;
use super::disk::FileSystem;
use super::executor::{Executor, Owner, Stepped};
use super::faults::Faults;
use super::lanes;
use super::net::Network;
use super::stream::Farewell;

/// Steps after which a world is taken to go on for ever, unless a test sets another number.
const STEPS_MAX: u64 = 50_000_000;

/// Messages a lane between two cores holds, unless a test sets another number.
const LANE_CAPACITY: usize = 256;

/// A machine of a world.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MachineId(usize);

/// A process of a world; the number is never given again.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ProcessId(u64);

/// What outlives its processes.
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) clock_skew_ms: Cell<i64>,
    pub(super) files: Rc<FileSystem>,
}

/// A process, alive or not.
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) machine: Rc<Machine>,
    pub(super) shard_count: u16,
    pub(super) alive: Cell<bool>,
    pub(super) told_to_end: Cell<bool>,
    pub(super) told: Notice,
    name: String,
    cores_running: Cell<u16>,
}

impl Process {
    /// Makes `terminated` resolve on every core.
    pub(super) fn tell_to_end(&self) {
        self.told_to_end.set(true);
        self.told.notify();
    }
}

/// What the cores' handles share.
pub(super) struct Inner {
    pub(super) executor: Executor,
    pub(super) network: Network,
    machines: RefCell<Vec<Rc<Machine>>>,
    processes: RefCell<Vec<Rc<Process>>>,
}

/// A simulated world. Dropping it ends all that is in it.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use corelog::runtime::{Accepted, Chunk, Lanes, sim::World};
///
/// let world = World::new(7);
/// let (here, there) = (world.machine("client"), world.machine("server"));
/// let server = world.start_process(there, "server", 2, |runtime, _lanes: Lanes<()>| async move {
///     let listener = runtime.listen("0.0.0.0:9092").await.unwrap();
///     while let Ok(Accepted { mut writer, .. }) = listener.accept().await {
///         writer.send(&[Chunk::Bytes(Bytes::from("welcome"))]).await.unwrap();
///     }
/// });
/// world.run_for(Duration::from_millis(1));
/// let first = world.run(here, |runtime| async move {
///     let (mut reader, _writer) = runtime.connect("server:9092").await.unwrap();
///     let mut buffer = [0; 16];
///     reader.read(&mut buffer).await.unwrap();
///     buffer[0]
/// });
/// assert_eq!(first, b'w');
/// world.kill(server);
/// assert!(world.exited(server));
/// ```
pub struct World {
    seed: u64,
    inner: Rc<Inner>,
    steps_max: Cell<u64>,
    lane_capacity: Cell<usize>,
    panics_tolerated: Cell<bool>,
}

impl World {
    /// An empty world that `seed` decides.
    pub fn new(seed: u64) -> Self {
        let executor = Executor::new(seed);
        let network = Network::new(executor.clock.clone());
        let inner = Inner {
            executor,
            network,
            machines: RefCell::default(),
            processes: RefCell::default(),
        };
        Self {
            seed,
            inner: Rc::new(inner),
            steps_max: Cell::new(STEPS_MAX),
            lane_capacity: Cell::new(LANE_CAPACITY),
            panics_tolerated: Cell::new(false),
        }
    }

    /// A new machine with an empty disk. `name` is its host name; a number is its address.
    pub fn machine(&self, name: &str) -> MachineId {
        let mut machines = self.inner.machines.borrow_mut();
        let number = u8::try_from(machines.len() + 1).expect("a world has 255 machines at most");
        let skew = self.inner.executor.clock.between(0..=1000) as i64 - 500;
        machines.push(Rc::new(Machine {
            name: name.to_owned(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
            clock_skew_ms: Cell::new(skew),
            files: Rc::new(FileSystem::new()),
        }));
        self.inner.network.add_machine(machines[machines.len() - 1].clone());
        MachineId(machines.len() - 1)
    }

    /// Starts a process of `shard_count` cores. `main` is called for each core; the process ends
    /// when all cores' main futures have.
    pub fn start_process<T, M, F>(
        &self,
        machine: MachineId,
        name: &str,
        shard_count: u16,
        main: M,
    ) -> ProcessId
    where
        T: Send + 'static,
        M: Fn(Runtime, Lanes<T>) -> F,
        F: Future<Output = ()> + 'static,
    {
        let clock = &self.inner.executor.clock;
        let ends = lanes::Lanes::make(clock, shard_count, self.lane_capacity.get());
        let process = self.add_process(machine, name, shard_count);
        for (shard, lanes) in (0..shard_count).zip(ends) {
            let core = Core::new(self.inner.clone(), process.clone(), ShardId(shard));
            let future = main(Runtime::Sim(core), Lanes::Sim(lanes));
            let owner = Owner { process: process.id, shard: ShardId(shard) };
            self.inner.executor.spawn(owner, "main", true, Box::pin(future));
        }
        process.id
    }

    /// Runs a process of one core on `machine` to its end, and everything else meanwhile.
    ///
    /// Panics when it can not end: it waits and nothing will ever happen.
    pub fn run<O, M, F>(&self, machine: MachineId, main: M) -> O
    where
        O: 'static,
        M: FnOnce(Runtime) -> F,
        F: Future<Output = O> + 'static,
    {
        let process = self.add_process(machine, "run", 1);
        let core = Core::new(self.inner.clone(), process.clone(), ShardId(0));
        let future = main(Runtime::Sim(core));
        let output = Rc::new(Cell::new(None));
        let place = output.clone();
        let owner = Owner { process: process.id, shard: ShardId(0) };
        let future = async move { place.set(Some(future.await)) };
        self.inner.executor.spawn(owner, "main", true, Box::pin(future));
        while process.alive.get() {
            if !self.step(u64::MAX) {
                panic!("{}: a process waits for what never happens", self.place());
            }
        }
        let output = output.take();
        output.unwrap_or_else(|| panic!("{}: a process ended without a result", self.place()))
    }

    /// Runs until `condition` holds, asking after every step; false when `duration` has passed
    /// without it, or nothing more will happen.
    pub fn run_until(&self, duration: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = (self.now() + duration).nanos();
        while !condition() {
            if self.now().nanos() >= end || !self.step(end) {
                return condition();
            }
        }
        true
    }

    /// Runs for `duration` of virtual time.
    pub fn run_for(&self, duration: Duration) {
        let end = (self.now() + duration).nanos();
        while self.now().nanos() < end && self.step(end) {}
        self.inner.executor.skip_to(end);
    }

    /// Ends a process as `kill -9` does: its tasks, sockets and locks are gone at once, what it
    /// wrote stays in the page cache. Peers see their connections reset.
    pub fn kill(&self, process: ProcessId) {
        self.end(process, Farewell::Reset);
    }

    /// Cuts a machine's power: its processes end, and of the changes to its files that were not
    /// synced a drawn part is lost. Peers see their connections reset some time later.
    pub fn crash(&self, machine: MachineId) {
        for process in self.processes_of(machine) {
            self.end(process.id, Farewell::Silence);
        }
        let machine = self.inner.machines.borrow()[machine.0].clone();
        machine.files.crash(self.inner.executor.clock.draw());
    }

    /// Asks a process to end, as SIGTERM does: its `terminated()` resolves.
    pub fn terminate(&self, process: ProcessId) {
        self.process(process).tell_to_end();
    }

    /// Whether a process has ended, in whatever way.
    pub fn exited(&self, process: ProcessId) -> bool {
        !self.process(process).alive.get()
    }

    /// The simulation's time.
    pub fn now(&self) -> Instant {
        self.inner.executor.clock.now()
    }

    /// How many task turns there have been.
    pub fn steps(&self) -> u64 {
        self.inner.executor.clock.steps()
    }

    /// A hash of all that has happened: every choice of a task, every message, every write.
    pub fn history_hash(&self) -> u64 {
        self.inner.executor.clock.history()
    }

    /// The seed that decides this world.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Makes a world that takes more steps than this panic.
    pub fn set_steps_max(&self, steps_max: u64) {
        self.steps_max.set(steps_max);
    }

    /// Sets how many messages each lane of the processes started from now on holds.
    pub fn set_lane_capacity(&self, capacity: usize) {
        self.lane_capacity.set(capacity);
    }

    /// Sets how many bytes each direction of the connections made from now on holds.
    pub fn set_socket_buffer_bytes(&self, buffer_bytes: usize) {
        self.inner.network.set_buffer_bytes(buffer_bytes);
    }

    /// Sets how far a machine's wall clock is ahead, in milliseconds; drawn between -500 and 500
    /// otherwise.
    pub fn set_clock_skew(&self, machine: MachineId, skew_ms: i64) {
        self.inner.machines.borrow()[machine.0].clock_skew_ms.set(skew_ms);
    }

    /// Sets the size of a machine's disk in bytes; 1 TiB otherwise.
    pub fn set_disk_bytes_max(&self, machine: MachineId, bytes_max: u64) {
        let volume = self.inner.machines.borrow()[machine.0].files.volume.clone();
        volume.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Sets what goes wrong by chance on a machine from now on.
    pub fn set_faults(&self, machine: MachineId, faults: Faults) {
        self.inner.machines.borrow()[machine.0].files.faults.set(faults);
    }

    /// Sets what goes wrong by chance with files below `path` on a machine from now on, instead of
    /// what goes wrong with all others; `None` ends that.
    pub fn set_faults_below(&self, machine: MachineId, path: &Path, faults: Option<Faults>) {
        let machines = self.inner.machines.borrow();
        let below = faults.map(|faults| (path.to_owned(), faults));
        *machines[machine.0].files.faults_below.borrow_mut() = below;
    }

    /// Every file of a machine as its kernel shows it. Nothing in the world notices.
    pub fn files(&self, machine: MachineId) -> BTreeMap<PathBuf, Vec<u8>> {
        self.inner.machines.borrow()[machine.0].files.contents()
    }

    /// Bytes that the files of a machine take, the removed ones that are still open among them.
    pub fn disk_used_bytes(&self, machine: MachineId) -> u64 {
        let volume = self.inner.machines.borrow()[machine.0].files.volume.clone();
        volume.used_bytes.load(Ordering::Relaxed)
    }

    /// Makes each call of a machine's disk take so many times as long; 1 otherwise.
    pub fn set_disk_slowness(&self, machine: MachineId, factor: u64) {
        self.inner.machines.borrow()[machine.0].files.slowness.set(factor);
    }

    /// Lets no call of a machine's disk end for `duration`.
    pub fn stick_disk(&self, machine: MachineId, duration: Duration) {
        let until = (self.now() + duration).nanos();
        self.inner.machines.borrow()[machine.0].files.stuck_until_nanos.set(until);
    }

    /// Runs no task of one core of a process for `duration`, as a host does that takes the CPU.
    pub fn pause_core(&self, process: ProcessId, shard: ShardId, duration: Duration) {
        let until = (self.now() + duration).nanos();
        self.inner.executor.clock.record(&[process.0, u64::from(shard.0), until]);
        self.inner.executor.pause(Owner { process, shard }, until);
    }

    /// Cuts all connections of a machine. Its processes see the end at once, their peers too, or
    /// `is_silent`, up to two seconds later.
    pub fn cut_connections(&self, machine: MachineId, is_silent: bool) {
        let farewell = if is_silent { Farewell::Silence } else { Farewell::Reset };
        for process in self.processes_of(machine) {
            self.inner.network.cut(process.id, farewell);
        }
    }

    /// Lets a panic end its task only, as with the real backend (the process, when it is a core's
    /// main task). Otherwise it ends the simulation.
    pub fn tolerate_panics(&self) {
        self.panics_tolerated.set(true);
    }

    fn add_process(&self, machine: MachineId, name: &str, shard_count: u16) -> Rc<Process> {
        assert!(shard_count > 0, "a process has a core");
        let mut processes = self.inner.processes.borrow_mut();
        let process = Rc::new(Process {
            id: ProcessId(processes.len() as u64),
            machine: self.inner.machines.borrow()[machine.0].clone(),
            shard_count,
            alive: Cell::new(true),
            told_to_end: Cell::new(false),
            told: Notice::new(),
            name: name.to_owned(),
            cores_running: Cell::new(shard_count),
        });
        processes.push(process.clone());
        process
    }

    /// The processes that are or were on a machine.
    fn processes_of(&self, machine: MachineId) -> Vec<Rc<Process>> {
        let machine = self.inner.machines.borrow()[machine.0].clone();
        let processes = self.inner.processes.borrow();
        let here = processes.iter().filter(|process| Rc::ptr_eq(&process.machine, &machine));
        here.cloned().collect()
    }

    fn process(&self, id: ProcessId) -> Rc<Process> {
        self.inner.processes.borrow()[id.0 as usize].clone()
    }

    /// Runs one task; false when nothing will happen up to `limit_nanos`.
    fn step(&self, limit_nanos: u64) -> bool {
        match self.inner.executor.step(limit_nanos) {
            Stepped::Polled => {}
            Stepped::Nothing => return false,
            Stepped::Ended(owner) => {
                let process = self.process(owner.process);
                process.cores_running.set(process.cores_running.get() - 1);
                // As an executor whose main future has returned drops the others.
                self.inner.executor.end_tasks(|other| other == owner);
                if process.cores_running.get() == 0 {
                    self.end(process.id, Farewell::Orderly);
                }
            }
            Stepped::Panicked { owner, name, is_main, reason } => {
                let process = self.process(owner.process);
                let (place, text) = (self.place(), text_of(&*reason));
                let Process { name: process_name, .. } = &*process;
                if !self.panics_tolerated.get() {
                    panic!("{place}: task {name} of {process_name} panicked: {text}");
                }
                tracing::warn!(place, task = &*name, process = process_name, text, "panic");
                if is_main {
                    self.end(process.id, Farewell::Reset);
                }
            }
        }
        if self.steps() > self.steps_max.get() {
            panic!("{}: more steps than the world may take", self.place());
        }
        true
    }

    fn end(&self, process: ProcessId, farewell: Farewell) {
        let process = self.process(process);
        if !process.alive.replace(false) {
            return;
        }
        self.inner.executor.clock.record(&[process.id.0]);
        self.inner.network.end_process(process.id, farewell);
        process.machine.files.release_locks(process.id);
        self.inner.executor.end_tasks(|owner| owner.process == process.id);
    }

    /// Where a failed simulation was.
    fn place(&self) -> String {
        let elapsed = self.inner.executor.clock.elapsed();
        format!("seed {}: step {}, after {elapsed:?}", self.seed, self.steps())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The tasks hold handles to the world they live in.
        for process in &*self.inner.processes.borrow() {
            process.alive.set(false);
        }
        self.inner.executor.end_tasks(|_| true);
        self.inner.network.clear();
    }
}

/// The text of a panic.
fn text_of(reason: &(dyn Any + Send)) -> &str {
    if let Some(text) = reason.downcast_ref::<&str>() {
        text
    } else if let Some(text) = reason.downcast_ref::<String>() {
        text
    } else {
        "(no text)"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use bytes::Bytes;

    use super::*;
    use crate::runtime::{Accepted, Chunk, OpenMode};

    /// Two cores that write, sleep and yield, and their world's history.
    fn history(seed: u64) -> (u64, u64, Vec<(u16, u32)>) {
        let world = World::new(seed);
        let machine = world.machine("host");
        let order = Rc::new(RefCell::new(Vec::new()));
        let seen = order.clone();
        let process = world.start_process(machine, "p", 2, move |runtime, _: Lanes<()>| {
            let order = order.clone();
            async move {
                for round in 0..20 {
                    let (runtime_of_task, order) = (runtime.clone(), order.clone());
                    runtime.spawn("round", async move {
                        runtime_of_task.sleep(Duration::from_micros(5)).await;
                        order.borrow_mut().push((runtime_of_task.shard().0, round));
                    });
                    runtime.pass().await;
                }
                runtime.sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(world.run_until(Duration::from_secs(1), || world.exited(process)), "seed {seed}");
        let order = seen.borrow().clone();
        assert_eq!(order.len(), 40, "seed {seed}");
        (world.history_hash(), world.steps(), order)
    }

    #[test]
    fn a_seed_has_one_history_and_seeds_have_different_ones() {
        let mut hashes = BTreeSet::new();
        let mut orders = BTreeSet::new();
        for seed in 0..50 {
            let (hash, steps, order) = history(seed);
            assert_eq!((hash, steps, order.clone()), history(seed), "seed {seed}");
            hashes.insert(hash);
            orders.insert(order);
        }
        assert_eq!(hashes.len(), 50);
        assert!(orders.len() > 45, "{} different orders", orders.len());
    }

    /// A server of two cores that writes what it is sent to its disk by its other core and is
    /// killed and started again, a client that sends until all is answered.
    fn busy_history(seed: u64) -> (u64, u64) {
        let world = World::new(seed);
        let (here, there) = (world.machine("client"), world.machine("server"));
        let start = || world.start_process(there, "server", 2, serve);
        let client = world.start_process(here, "client", 1, |runtime, _: Lanes<()>| async move {
            let mut number = 0;
            while number < 40 {
                runtime.sleep(Duration::from_micros(100)).await;
                let Ok((mut reader, mut writer)) = runtime.connect("server:1").await else {
                    continue;
                };
                let question = [Chunk::Bytes(Bytes::from(vec![number; 300]))];
                let mut answer = [0];
                while number < 40
                    && writer.send(&question).await.is_ok()
                    && reader.read(&mut answer).await.is_ok_and(|count| count == 1)
                {
                    number += 1;
                }
            }
        });
        for _ in 0..3 {
            let server = start();
            world.run_for(Duration::from_millis(10));
            world.kill(server);
        }
        start();
        assert!(world.run_until(Duration::from_secs(1), || world.exited(client)), "seed {seed}");
        (world.history_hash(), world.steps())
    }

    async fn serve(runtime: Runtime, lanes: Lanes<Bytes>) {
        let mut inbox = Vec::new();
        if runtime.shard() == ShardId(1) {
            let file = runtime.disk().open(Path::new("/log"), OpenMode::Create).await;
            let file = file.expect("opens");
            loop {
                lanes.receive(&mut inbox).await;
                let end = file.size_bytes().await.expect("known");
                file.write_at(end, &inbox).await.expect("room");
                file.sync().await.expect("a good disk");
                for message in inbox.drain(..) {
                    assert!(lanes.send(ShardId(0), message).is_ok(), "few are under way");
                }
            }
        }
        let listener = runtime.listen("server:1").await.expect("free");
        loop {
            let Accepted { mut reader, mut writer, .. } = listener.accept().await.expect("accepts");
            let (mut buffer, mut filled) = ([0; 300], 0);
            while let Ok(count @ 1..) = reader.read(&mut buffer[filled..]).await {
                filled += count;
                if filled < 300 {
                    continue;
                }
                let question = Bytes::copy_from_slice(&buffer);
                assert!(lanes.send(ShardId(1), question).is_ok(), "few are under way");
                lanes.receive(&mut inbox).await;
                let answer = inbox.remove(0).slice(..1);
                if writer.send(&[Chunk::Bytes(answer)]).await.is_err() {
                    break;
                }
                filled = 0;
            }
        }
    }

    #[test]
    fn two_processes_that_use_everything_have_one_history_too() {
        let mut hashes = BTreeSet::new();
        for seed in 0..50 {
            let history = busy_history(seed);
            assert_eq!(history, busy_history(seed), "seed {seed}");
            hashes.insert(history);
        }
        assert_eq!(hashes.len(), 50);
    }

    #[test]
    fn timers_come_in_order_and_time_jumps_to_them() {
        let world = World::new(4);
        let machine = world.machine("host");
        let began = world.now();
        let woken = world.run(machine, |runtime| async move {
            let woken = Rc::new(RefCell::new(Vec::new()));
            for hours in [3u64, 1, 2] {
                let (woken, runtime_of_task) = (woken.clone(), runtime.clone());
                runtime.spawn("sleeper", async move {
                    runtime_of_task.sleep(Duration::from_secs(hours * 3600)).await;
                    woken.borrow_mut().push(hours);
                });
            }
            let late = runtime.timeout(Duration::from_secs(60), std::future::pending::<()>()).await;
            assert_eq!(late, None);
            let soon = runtime.timeout(Duration::MAX, async { 5 }).await;
            assert_eq!(soon, Some(5));
            let wall_clock = runtime.wall_clock().to_wire();
            runtime.sleep(Duration::from_secs(4 * 3600)).await;
            assert!(runtime.wall_clock().to_wire() >= wall_clock + 4 * 3_600_000);
            woken.take()
        });
        assert_eq!(woken, [1, 2, 3]);
        assert!(world.now().since(began) < Duration::from_secs(4 * 3600 + 61));
    }

    #[test]
    fn a_task_that_never_waits_does_not_stop_time() {
        let world = World::new(5);
        let machine = world.machine("host");
        world.run(machine, |runtime| async move {
            let deadline = runtime.now() + Duration::from_millis(1);
            while runtime.now() < deadline {
                runtime.pass().await;
                runtime.sleep(Duration::ZERO).await;
            }
        });
    }

    #[test]
    #[should_panic(expected = "seed 6: step 1001, after ")]
    fn a_world_without_end_is_stopped_with_its_seed() {
        let world = World::new(6);
        world.set_steps_max(1000);
        let machine = world.machine("host");
        world.run(machine, |runtime| async move {
            loop {
                runtime.sleep(Duration::ZERO).await;
            }
        })
    }

    #[test]
    #[should_panic(expected = "task worker of broker panicked: broken")]
    fn a_panic_ends_the_simulation() {
        let world = World::new(7);
        let machine = world.machine("host");
        world.start_process(machine, "broker", 1, |runtime, _: Lanes<()>| async move {
            runtime.spawn("worker", async { panic!("broken") });
            runtime.sleep(Duration::MAX).await;
        });
        world.run_for(Duration::from_secs(1));
    }

    #[test]
    fn a_tolerated_panic_ends_its_task_only_and_that_of_a_main_task_its_process() {
        let world = World::new(8);
        world.tolerate_panics();
        let machine = world.machine("host");
        let start = |panics: fn(u16) -> bool| {
            world.start_process(machine, "broker", 2, move |runtime, _: Lanes<()>| async move {
                runtime.spawn("worker", async { panic!("broken") });
                runtime.sleep(Duration::from_millis(1)).await;
                assert!(!panics(runtime.shard().0), "broken");
                runtime.sleep(Duration::MAX).await;
            })
        };
        let (lives, dies) = (start(|_| false), start(|shard| shard == 1));
        world.run_for(Duration::from_secs(1));
        assert!(!world.exited(lives));
        assert!(world.exited(dies));
    }

    #[test]
    fn work_for_each_item_returns_the_outputs_of_what_did_not_panic() {
        let world = World::new(9);
        world.tolerate_panics();
        let machine = world.machine("host");
        let got = Rc::new(RefCell::new(Vec::new()));
        let outputs = got.clone();
        world.start_process(machine, "broker", 1, move |runtime, _: Lanes<()>| {
            let outputs = outputs.clone();
            async move {
                let later = runtime.clone();
                let work = move |item: u64| {
                    let runtime = later.clone();
                    async move {
                        runtime.sleep(Duration::from_millis(item)).await;
                        assert!(item != 5, "broken");
                        item * 10
                    }
                };
                *outputs.borrow_mut() = runtime.for_each("work", 3, 1..=7, work).await;
            }
        });
        world.run_for(Duration::from_secs(1));
        let mut outputs = got.take();
        outputs.sort_unstable();
        assert_eq!(outputs, [10, 20, 30, 40, 60, 70]);
    }

    #[test]
    fn a_terminated_process_ends_itself_and_a_killed_one_runs_no_more() {
        for seed in 0..20 {
            let world = World::new(seed);
            let machine = world.machine("host");
            let beats = Rc::new(Cell::new(0u64));
            let start = || {
                let beats = beats.clone();
                world.start_process(machine, "broker", 2, move |runtime, _: Lanes<()>| {
                    let (beats, runtime_of_task) = (beats.clone(), runtime.clone());
                    runtime.spawn("beat", async move {
                        loop {
                            runtime_of_task.sleep(Duration::from_millis(1)).await;
                            beats.set(beats.get() + 1);
                        }
                    });
                    async move { runtime.terminated().await }
                })
            };
            let (asked, killed) = (start(), start());
            world.run_for(Duration::from_millis(10));
            assert!(!world.exited(asked) && !world.exited(killed));
            world.terminate(asked);
            assert!(world.run_until(Duration::from_millis(1), || world.exited(asked)));
            world.kill(killed);
            assert!(world.exited(killed));
            let counted = beats.get();
            assert!(counted > 20, "seed {seed}: {counted}");
            world.run_for(Duration::from_millis(10));
            assert_eq!(beats.get(), counted, "seed {seed}");
        }
    }
}
