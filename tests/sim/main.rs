//! The real broker on the simulated runtime: producers and consumers, kills and restarts.
//!
//! One seed decides everything: cores, partitions, durability, batches, requests in flight, when
//! the process is killed or told to end or its machine loses power, the order of tasks, delays.
//! `SIM_SEEDS` sets how many seeds of each kind run, `SIM_SEED` names one to run alone.
//!
//! Checked at every answer: offsets are dense, what was read stays, the high watermark never moves
//! back. Checked at the end: everything acknowledged is there, as often as its producer promises
//! and in its order, consumers reach the ends, and a clean stop leaves its marker. Once faults
//! stop, everything settles within a bounded time.

mod admin;
mod anew;
mod audit;
mod bad_disk;
mod broker;
mod check;
mod client;
mod consume;
mod plan;
mod produce;
mod rot;
mod runs;
mod storm;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corelog::base::ShardId;
use corelog::broker::Verdict;
use corelog::runtime::sim::{Chance, Faults, MachineId, ProcessId, World};
use corelog::runtime::{Disk, Lanes, Runtime};

use admin::{check_topics, meddle};
use audit::audit;
use check::{Content, Shared, check_beginning};
use consume::{consume, longest_of_two, longest_wait, read_all, wait_after_leaving};
use plan::{Durability, Fault, Plan, Stop};
use produce::Producer;
use rot::{check_rotten, rot};
use runs::{History, Named, run_each, seeds};
use storm::{Trouble, meddling, rots, storm};

/// Within this time everything settles once faults have stopped.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Within this time a broker that was told to end has ended.
const STOPPED_AFTER: Duration = Duration::from_secs(10);

/// What one run may take; the longest of many seeds took a tenth of it.
const STEPS_MAX: u64 = 5_000_000;

/// Seeds that once failed, each with what it found.
const KEPT: [(u64, &str); 5] = [
    (2, "a power loss took the new log directory, whose own name had never been synced"),
    (
        138,
        "a partition whose log was being checked refused a producer's first batch and took the second",
    ),
    (343, "a power loss took a partition whose first start was killed before its name was synced"),
    (354, "a fetch that had a part of the bytes it wants asked for more of them without a pause"),
    (
        426,
        "records that a kill left in the page cache were served unsynced, and lost with the power",
    ),
];

/// The same of storms.
const KEPT_STORMS: [(u64, &str); 9] = [
    (149, "a sync that began while a write waited for the disk passed for that write's"),
    (214, "a producer's second batch was taken for its first, which the disk had refused"),
    (884, "a log that could not be opened while the disk was full stayed offline"),
    (23_152, "a sync of a log's directory failed, and the next one passed for its success"),
    (95_706, "a record sent again with acks=1 was acknowledged before its first copy was synced"),
    (103_221, "while a request waited for one lane another filled: the next one came first"),
    (105_482, "a core whose lane was full was not told that the process ends"),
    (318_001, "a start that a full disk ended was held against the stop that came then"),
    (400_078, "what a failed sync left out went with the power later, from the middle of a log"),
];

/// Within this time a broker that ends by itself has ended.
const SUPERVISED_AFTER: Duration = Duration::from_secs(5);

/// Room on the broker's disk while it is not full, bytes.
const DISK_BYTES_MAX: u64 = 1 << 40;

/// Seeds of each kind that run unless told otherwise.
const SEEDS: u64 = 1000;

/// Seeds that run twice.
const REPEATED: u64 = 20;

/// One run: a world with a broker's machine and a clients' machine.
struct Run {
    seed: u64,
    plan: Plan,
    world: World,
    machine: MachineId,
    clients: MachineId,
    seen: Shared,
    broker: ProcessId,
    verdict: Verdict,
    /// The files that the last power loss left, unless all logs were checked since.
    left: BTreeMap<PathBuf, Vec<u8>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let plan = Plan::of(seed);
        let world = World::new(seed);
        world.set_steps_max(STEPS_MAX);
        world.set_lane_capacity(plan.lane_capacity);
        world.set_socket_buffer_bytes(plan.socket_buffer_bytes);
        let machine = world.machine("broker");
        let clients = world.machine("clients");
        let (broker, verdict) = broker::start(&world, machine, plan.cores, plan.config());
        let (seen, left) = (Shared::default(), BTreeMap::new());
        Self { seed, plan, world, machine, clients, seen, broker, verdict, left }
    }

    fn start_clients(&self) {
        let partitions = self.plan.partitions;
        for (number, plan) in (0..).zip(&self.plan.producers) {
            let (plan, seen) = (plan.clone(), self.seen.clone());
            self.start_client("producer", move |runtime| {
                let (plan, seen) = (plan.clone(), seen.clone());
                Producer { runtime, number, plan, partitions, seen }.run()
            });
        }
    }

    fn start_consumers(&self) -> Vec<ProcessId> {
        let partitions = self.plan.partitions;
        let consumers = self.plan.consumers.iter().map(|plan| {
            let (plan, seen) = (plan.clone(), self.seen.clone());
            self.start_client("consumer", move |runtime| {
                consume(runtime, plan.clone(), partitions, seen.clone())
            })
        });
        consumers.collect()
    }

    fn start_client<F>(&self, name: &str, main: impl Fn(Runtime) -> F) -> ProcessId
    where
        F: Future<Output = ()> + 'static,
    {
        self.world.start_process(self.clients, name, 1, |runtime, _: Lanes<()>| main(runtime))
    }

    /// Ends the broker, and starts it again.
    fn carry_out(&mut self, fault: &Fault) {
        let mut is_clean = false;
        match fault.stop {
            Stop::Kill => self.world.kill(self.broker),
            Stop::Clean => is_clean = self.stop_cleanly(),
            Stop::CleanCutShort(after) => {
                self.world.terminate(self.broker);
                self.world.run_for(after);
                self.world.kill(self.broker);
            }
            Stop::Crash => {
                self.world.crash(self.machine);
                self.left = self.world.files(self.machine);
            }
        }
        if is_clean {
            self.left.clear();
        }
        // A power loss may leave anything behind what was synced; the next start looks at it.
        if fault.stop != Stop::Crash {
            self.audit(is_clean);
        }
        self.start_again(fault.cores_then);
    }

    /// Starts the broker, which does not run.
    fn start_again(&mut self, cores: u16) {
        let started = broker::start(&self.world, self.machine, cores, self.plan.config());
        (self.broker, self.verdict) = started;
    }

    /// Checks the files of the broker, which does not run.
    fn audit(&self, is_clean: bool) {
        let partitions = self.plan.partitions;
        let left = Arc::new(self.left.clone());
        let audited = self
            .world
            .run(self.machine, move |runtime| audit(runtime, partitions, is_clean, left.clone()));
        if let Err(what) = audited {
            panic!("seed {}: the files, clean: {is_clean}: {what}; {:?}", self.seed, self.plan);
        }
    }

    /// Lets one trouble happen; those that last go on while the clients work.
    fn suffer(&mut self, trouble: Trouble) {
        let (world, machine) = (&self.world, self.machine);
        match trouble {
            Trouble::Stop(fault) => self.carry_out(&fault),
            Trouble::Cut { is_silent } => {
                self.seen.borrow_mut().were_cut = true;
                world.cut_connections(machine, is_silent);
            }
            Trouble::Pause { core, lasts } => {
                world.pause_core(self.broker, ShardId(core), lasts);
            }
            Trouble::SlowDisk { factor, lasts } => {
                world.set_disk_slowness(machine, factor);
                world.run_for(lasts);
                world.set_disk_slowness(machine, 1);
            }
            Trouble::StuckDisk { lasts } => world.stick_disk(machine, lasts),
            Trouble::FullDisk { room, lasts } => {
                world.set_disk_bytes_max(machine, world.disk_used_bytes(machine) + room);
                world.run_for(lasts);
                world.set_disk_bytes_max(machine, DISK_BYTES_MAX);
            }
            Trouble::BadDisk { one_in, fails, lasts, stop } => {
                let chance = |fails: bool| Chance(if fails { 1_000_000 / one_in } else { 0 });
                let faults = Faults {
                    read_error: chance(fails.reads),
                    write_error: chance(fails.writes),
                    sync_error: chance(fails.syncs),
                    rename_error: chance(fails.writes),
                    ..Faults::default()
                };
                world.set_faults(machine, faults);
                world.run_for(lasts);
                world.set_faults(machine, Faults::default());
                let (after, cores_then) = (Duration::ZERO, self.plan.cores);
                self.carry_out(&Fault { after, stop, cores_then });
            }
            Trouble::Clock { ahead_ms } => world.set_clock_skew(machine, ahead_ms),
        }
        self.supervise();
    }

    /// Starts a broker again that ended by itself: it could not start on a full disk, or not write
    /// the metadata.
    fn supervise(&mut self) {
        if self.world.exited(self.broker) {
            self.start_again(self.plan.cores);
        }
    }

    /// Whether it left the marker of a clean stop: one that is told to end while it checks logs
    /// leaves none, nor one that ended by itself before, as it found no room to start.
    fn stop_cleanly(&self) -> bool {
        let seed = self.seed;
        self.world.terminate(self.broker);
        let ended = self.world.run_until(STOPPED_AFTER, || self.world.exited(self.broker));
        assert!(ended, "seed {seed}: the broker did not end when told to");
        match self.verdict.get() {
            Some(Err(failure)) if failure.0.starts_with("no room on the disk") => return false,
            verdict => assert_eq!(verdict, Some(&Ok(())), "seed {seed}: the broker's verdict"),
        }
        let marker = Path::new("/data/.kafka_cleanshutdown");
        let found = self.world.run(self.machine, async move |runtime: Runtime| {
            let disk: Disk = runtime.disk();
            disk.read(marker).await.is_ok()
        });
        let has_begun = self.seen.borrow().ends.is_some();
        assert!(found || !has_begun, "seed {seed}: a clean stop leaves its marker");
        found
    }

    fn settle(&self, what: &str, mut settled: impl FnMut() -> bool) {
        let verdict = || match self.verdict.get() {
            Some(Err(failure)) => failure.0.clone(),
            Some(Ok(())) => "it ended".to_owned(),
            None => "it runs".to_owned(),
        };
        let in_time = self.world.run_until(SETTLED_AFTER, &mut settled);
        let Self { seed, plan, .. } = self;
        assert!(in_time, "seed {seed}: {what} do not settle; broker: {}; {plan:?}", verdict());
    }

    fn start_meddler(&self, count: u64) {
        let seen = self.seen.clone();
        self.start_client("meddler", move |runtime| meddle(runtime, count, seen.clone()));
    }

    fn check_topics(&self) {
        let known = self.seen.borrow().topics.clone();
        self.world.run(self.clients, move |runtime| check_topics(runtime, known.clone()));
    }

    /// Flips a bit of a closed segment while the broker does not run: all is served unchanged but
    /// for the batch it is in, and that one is not taken for whole.
    fn rot(&mut self, all: &Content) {
        self.stop_cleanly();
        let partitions = self.plan.partitions;
        let rotten = self.world.run(self.machine, move |runtime| rot(runtime, partitions));
        self.start_again(self.plan.cores);
        let Some(rotten) = rotten else { return };
        let (seed, all) = (self.seed, all.clone());
        self.world
            .run(self.clients, move |runtime| check_rotten(runtime, seed, rotten, partitions, all));
    }

    fn read_all(&self) -> (Vec<i64>, Content) {
        let partitions = self.plan.partitions;
        self.world.run(self.clients, move |runtime| read_all(runtime, partitions))
    }
}

/// Runs one seed.
fn simulate(seed: u64) -> History {
    let _named = Named("plain", seed);
    let mut run = Run::new(seed);
    run.start_clients();
    let consumers = run.start_consumers();
    for fault in run.plan.faults.clone() {
        run.world.run_for(fault.after);
        run.carry_out(&fault);
    }
    finish(&mut run, &consumers);
    History::of(&run.world)
}

/// The same with troubles of every kind.
fn simulate_storm(seed: u64) -> History {
    let _named = Named("storm", seed);
    let mut run = Run::new(seed);
    run.start_clients();
    let consumers = run.start_consumers();
    run.start_meddler(meddling(seed));
    for (after, trouble) in storm(seed, &run.plan) {
        run.world.run_for(after);
        run.suffer(trouble);
    }
    run.world.run_for(SUPERVISED_AFTER);
    run.supervise();
    run.settle("topics and settings", || run.seen.borrow().meddled);
    let all = finish(&mut run, &consumers);
    if rots(seed) {
        run.rot(&all);
    }
    History::of(&run.world)
}

/// Lets everything settle, and checks what there is then, and after one stop more: what is in the
/// topic.
fn finish(run: &mut Run, consumers: &[ProcessId]) -> Content {
    let seed = run.seed;
    let producers = run.plan.producers.len();
    run.settle("the producers", || run.seen.borrow().sent.len() == producers);
    // What was sent without asking for an answer is on its way still.
    run.world.run_for(Duration::from_secs(1));
    run.seen.borrow_mut().is_calm = true;
    let (ends, all) = run.read_all();
    run.seen.borrow().check(seed, &all);
    run.seen.borrow_mut().ends = Some(ends);
    run.settle("the consumers", || consumers.iter().all(|consumer| run.world.exited(*consumer)));
    run.seen.borrow().check(seed, &all);
    assert!(run.seen.borrow().read == all, "unseen: seed {seed}: consumers read to the end");
    run.check_topics();

    let last = run.plan.last;
    run.carry_out(&last);
    let (_, after) = run.read_all();
    if last.stop == Stop::Crash && run.plan.durability == Durability::PageCache {
        check_beginning(seed, &all, &after);
    } else {
        assert_eq!(after, all, "seed {seed}: changed by {last:?}");
        run.check_topics();
    }
    after
}

#[test]
fn seeds_that_once_failed_hold() {
    let wanted = std::env::var("SIM_SEED").ok().map(|text| text.parse().expect("a seed"));
    for (seed, what) in KEPT {
        println!("seed {seed}: {what}");
        simulate(seed);
    }
    for (seed, what) in KEPT_STORMS {
        println!("storm {seed}: {what}");
        simulate_storm(seed);
    }
    if let Some(seed) = wanted {
        let plan = Plan::of(seed);
        println!("seed {seed}: {plan:#?}");
        println!("seed {seed}: {:?}", simulate(seed));
        println!("seed {seed}: {:#?}", storm(seed, &plan));
        tracing_subscriber::fmt().without_time().with_writer(std::io::stdout).init();
        println!("seed {seed}: {:?}", simulate_storm(seed));
    }
}

#[test]
fn one_seed_is_one_history() {
    for run in [simulate, simulate_storm] {
        let mut hashes = BTreeSet::new();
        for seed in 0..REPEATED {
            let first = run(seed);
            assert_eq!(first, run(seed), "seed {seed} has two histories");
            hashes.insert(first.hash);
        }
        assert_eq!(hashes.len() as u64, REPEATED, "different seeds have different histories");
    }
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_closed() {
    let run = Run::new(0);
    let lasted = run.world.run(run.clients, async move |runtime: Runtime| {
        let (mut reader, _writer) = loop {
            match runtime.connect("broker:9092").await {
                Ok(halves) => break halves,
                Err(_) => runtime.sleep(Duration::from_millis(10)).await,
            }
        };
        let began = runtime.now();
        assert_eq!(reader.read(&mut [0]).await.expect("an orderly end"), 0);
        runtime.now().since(began)
    });
    // `connections.max.idle.ms`, as seen from the other end of the network.
    let seconds = lasted.as_secs_f64();
    assert!((599.0..605.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_fetch_that_waits_is_answered_whichever_core_gets_a_record() {
    for seed in 0..30 {
        let run = Run::new(seed);
        let partitions = run.plan.partitions;
        let longest = run
            .world
            .run(run.clients, move |runtime| longest_wait(runtime, partitions, 4, seed % 3 > 0));
        assert!(longest < Duration::from_secs(1), "seed {seed}: {longest:?}");
    }
}

#[test]
fn a_fetch_waits_no_longer_than_its_client_is_there() {
    for seed in 0..30 {
        let run = Run::new(seed);
        let partitions = run.plan.partitions;
        for min_bytes in [1, 1000] {
            let waited = run.world.run(run.clients, move |runtime| {
                wait_after_leaving(runtime, partitions, min_bytes)
            });
            assert!(waited < Duration::from_secs(1), "seed {seed}, {min_bytes}: {waited:?}");
        }
    }
}

#[test]
fn a_long_answer_does_not_wait_for_one_that_another_core_has_sent() {
    for seed in 0..20 {
        let run = Run::new(seed);
        let partitions = run.plan.partitions;
        let ask = move |runtime| longest_of_two(runtime, partitions);
        let longest = run.world.run(run.clients, ask);
        assert!(longest < Duration::from_secs(1), "seed {seed}: {longest:?}");
    }
}

#[test]
fn clients_are_told_the_truth_in_even_storms() {
    run_each("storms", seeds(SEEDS).step_by(2), simulate_storm);
}

#[test]
fn clients_are_told_the_truth_in_odd_storms() {
    run_each("storms", seeds(SEEDS).skip(1).step_by(2), simulate_storm);
}

#[test]
fn clients_are_told_the_truth_even_seeds() {
    run_each("stops", seeds(SEEDS).step_by(2), simulate);
}

#[test]
fn clients_are_told_the_truth_odd_seeds() {
    run_each("stops", seeds(SEEDS).skip(1).step_by(2), simulate);
}
