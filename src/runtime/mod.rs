//! The door to the world: executors, files, sockets, timers, lanes between cores, randomness.
//!
//! Every other room reaches the outside through these types alone. Each is a small enum over two
//! backends: [`real`] (glommio on io_uring, libc) and [`sim`] (one thread, virtual time, a seeded
//! scheduler, a simulated disk and network). A [`Runtime`] is one core's handle, given to the
//! core's main function; it is cheap to clone and stays on its core.
//!
//! Not here: decisions of any kind.

pub mod file;
pub mod lane;
pub mod local;
pub mod net;
pub mod process;
pub mod real;
pub mod sim;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Instant, ShardId, Timestamp};

pub use file::{Disk, Entry, File, FileLease, FileSlice, Lock, OpenMode, Space, is_no_room};
pub use lane::{Full, Lanes};
pub use net::{Accepted, Chunk, LentSocket, Listener, Loan, Recall, StreamReader, StreamWriter};

/// After a removal in the background nothing else is removed for so many times what it took, at
/// most that long.
const REST_TIMES: u32 = 3;
const REST_MAX: Duration = Duration::from_secs(1);

/// One core's handle to the world. Clone it freely; it can not leave its core.
#[derive(Clone)]
pub enum Runtime {
    /// A glommio executor pinned to a CPU.
    Real(real::Core),
    /// A core of a simulated process.
    Sim(sim::Core),
}

impl Runtime {
    /// Which core of the process this is.
    pub fn shard(&self) -> ShardId {
        match self {
            Self::Real(core) => core.shard(),
            Self::Sim(core) => core.shard(),
        }
    }

    /// How many cores the process has.
    pub fn shard_count(&self) -> u16 {
        match self {
            Self::Real(core) => core.shard_count(),
            Self::Sim(core) => core.shard_count(),
        }
    }

    /// The monotonic clock.
    pub fn now(&self) -> Instant {
        match self {
            Self::Real(core) => core.now(),
            Self::Sim(core) => core.now(),
        }
    }

    /// The wall clock, in milliseconds.
    pub fn wall_clock(&self) -> Timestamp {
        match self {
            Self::Real(core) => core.wall_clock(),
            Self::Sim(core) => core.wall_clock(),
        }
    }

    /// 64 random bits: from the operating system, or from the simulation's seed.
    pub fn random(&self) -> u64 {
        match self {
            Self::Real(core) => core.random(),
            Self::Sim(core) => core.random(),
        }
    }

    /// A fresh random id (version 4).
    pub fn random_uuid(&self) -> crate::base::Uuid {
        loop {
            let raw = (u128::from(self.random()) << 64) | u128::from(self.random());
            if let Some(id) = crate::base::Uuid::from_random(raw.to_be_bytes()) {
                return id;
            }
        }
    }

    /// Runs `future` on this core to its end, detached. `name` is for the log.
    ///
    /// A panic in it ends this task only and is logged; it does not reach the spawner. The future
    /// may be polled before `spawn` returns.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        match self {
            Self::Real(core) => core.spawn(name, future),
            Self::Sim(core) => core.spawn(name, future),
        }
    }

    /// Does `work` for all `items`, beginning in their order, `at_once` of them at the same time:
    /// for work that mostly waits. Returns the outputs as they came; fewer than there are items
    /// when work has panicked.
    pub async fn for_each<T, F>(
        &self,
        name: &'static str,
        at_once: usize,
        items: impl IntoIterator<Item = T>,
        work: impl Fn(T) -> F + 'static,
    ) -> Vec<F::Output>
    where
        T: 'static,
        F: Future<Output: 'static> + 'static,
    {
        let items: VecDeque<T> = items.into_iter().collect();
        let tasks = at_once.min(items.len());
        let outputs = Rc::new(RefCell::new(Vec::with_capacity(items.len())));
        let shared = Rc::new((RefCell::new(items), work));
        let ended: Vec<local::Answer<()>> = (0..tasks)
            .map(|_| {
                let (runtime, shared) = (self.clone(), shared.clone());
                let outputs = outputs.clone();
                let (told, ended) = local::oneshot();
                self.spawn(name, async move {
                    let _told: local::Reply<()> = told;
                    loop {
                        let next = shared.0.borrow_mut().pop_front();
                        let Some(item) = next else { return };
                        let output = (shared.1)(item).await;
                        outputs.borrow_mut().push(output);
                        runtime.pass().await;
                    }
                });
                ended
            })
            .collect();
        for ended in ended {
            ended.await;
        }
        outputs.take()
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        match self {
            Self::Real(core) => core.sleep(duration).await,
            Self::Sim(core) => core.sleep(duration).await,
        }
    }

    /// The output of `future`, or `None` when `duration` passed first; `future` is then dropped.
    pub async fn timeout<T>(
        &self,
        duration: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        local::first(async { Some(future.await) }, async {
            self.sleep(duration).await;
            None
        })
        .await
    }

    /// Lets the core poll its sockets, timers and lanes once this turn has worked long enough.
    ///
    /// Loops that may run long call it once an iteration. It returns at once while the work budget
    /// (500 us since the last pass) is not used up.
    pub async fn pass(&self) {
        match self {
            Self::Real(core) => core.pass().await,
            Self::Sim(core) => core.pass().await,
        }
    }

    /// Whether [`pass`](Self::pass) would let the core poll now. A simulated core has no budget.
    pub fn is_late(&self) -> bool {
        match self {
            Self::Real(core) => core.is_late(),
            Self::Sim(_) => false,
        }
    }

    /// This core's turn for work on the disk that nobody waits for, such as removing files; one at
    /// a time, until what this returns is dropped. All at once it would take the threads of the
    /// disk and the CPUs from what somebody waits for.
    pub async fn background_turn(&self) -> local::Share {
        match self {
            Self::Real(core) => core.background().take(1).await,
            Self::Sim(core) => core.background().take(1).await,
        }
    }

    /// Removes files by `removal` in a [background turn](Self::background_turn), which it keeps for
    /// a while: giving a large file's pages back takes all of a CPU.
    pub async fn remove_in_background<T>(&self, removal: impl Future<Output = T>) -> T {
        let _turn = self.background_turn().await;
        let began = self.now();
        let output = removal.await;
        self.sleep((self.now().since(began) * REST_TIMES).min(REST_MAX)).await;
        output
    }

    /// Resolves when the process was asked to end (SIGTERM, SIGINT). May be awaited by many tasks.
    pub async fn terminated(&self) {
        match self {
            Self::Real(core) => core.terminated().await,
            Self::Sim(core) => core.terminated().await,
        }
    }

    /// What this core has sent, written and handed to other cores so far; all zero in a simulation.
    pub fn counters(&self) -> real::Counters {
        match self {
            Self::Real(core) => core.counters(),
            Self::Sim(_) => real::Counters::default(),
        }
    }

    /// Bounds the connections of all cores together; further ones wait to be accepted. Simulated
    /// listeners know no bound.
    pub fn limit_connections(&self, connections_max: u32) {
        if let Self::Real(core) = self {
            core.limit_connections(connections_max);
        }
    }

    /// Asks the process to end, as SIGTERM does.
    pub fn end_process(&self) {
        match self {
            Self::Real(core) => core.end_process(),
            Self::Sim(core) => core.end_process(),
        }
    }

    /// The file systems of this machine.
    pub fn disk(&self) -> Disk {
        match self {
            Self::Real(core) => Disk::Real(core.disk()),
            Self::Sim(core) => Disk::Sim(core.disk()),
        }
    }

    /// Listens on `address` ("host:port"). Every core of a process may listen on the same address
    /// (`SO_REUSEPORT`); the kernel spreads the connections.
    pub async fn listen(&self, address: &str) -> std::io::Result<Listener> {
        match self {
            Self::Real(core) => core.listen(address).await.map(Listener::Real),
            Self::Sim(core) => core.listen(address).await.map(Listener::Sim),
        }
    }

    /// Whether `address` ("host:port") can be listened on: `AddrInUse` when another process does.
    /// To be asked before any core listens, for the kernel would let processes share the port.
    pub async fn check_unused(&self, address: &str) -> std::io::Result<()> {
        match self {
            Self::Real(core) => core.check_unused(address).await,
            // Simulated processes of one machine have ports of their own.
            Self::Sim(_) => Ok(()),
        }
    }

    /// Gives a connection that this core accepted to the core `to`, whose listener on the same
    /// address gives it out again. What the peer sends meanwhile waits in the socket.
    ///
    /// It comes back when `to` does not listen there, or the process has no descriptor left.
    pub fn move_connection(&self, connection: Accepted, to: ShardId) -> Result<(), Accepted> {
        let Accepted { reader, writer, peer, moves } = connection;
        match (self, reader, writer) {
            (Self::Real(core), StreamReader::Real(reader), StreamWriter::Real(writer)) => {
                let connection = Accepted { reader, writer, peer, moves };
                core.move_connection(connection, to).map_err(Accepted::from)
            }
            (Self::Sim(core), StreamReader::Sim(reader), StreamWriter::Sim(writer)) => {
                let connection = Accepted { reader, writer, peer, moves };
                core.move_connection(connection, to).map_err(Accepted::from)
            }
            (_, reader, writer) => Err(Accepted { reader, writer, peer, moves }),
        }
    }

    /// Connects to `address` ("host:port").
    pub async fn connect(&self, address: &str) -> std::io::Result<(StreamReader, StreamWriter)> {
        match self {
            Self::Real(core) => core
                .connect(address)
                .await
                .map(|(reader, writer)| (StreamReader::Real(reader), StreamWriter::Real(writer))),
            Self::Sim(core) => core
                .connect(address)
                .await
                .map(|(reader, writer)| (StreamReader::Sim(reader), StreamWriter::Sim(writer))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_removed_one_after_the_other_with_rests_between() {
        sim::block_on(1, |runtime| async move {
            let began = runtime.now();
            let at = Rc::new(RefCell::new(Vec::new()));
            let (shared, noted) = (runtime.clone(), at.clone());
            let remove = move |_| {
                let (runtime, at) = (shared.clone(), noted.clone());
                async move {
                    let work = runtime.sleep(Duration::from_millis(10));
                    runtime.remove_in_background(work).await;
                    at.borrow_mut().push(runtime.now().since(began).as_millis());
                }
            };
            runtime.for_each("removal", 3, 0..3, remove).await;
            assert_eq!(*at.borrow(), [40, 80, 120], "10 ms of work, 30 ms of rest");
            runtime.remove_in_background(runtime.sleep(Duration::from_secs(5))).await;
            let took = runtime.now().since(began).as_millis();
            assert_eq!(took, 120 + 5000 + 1000, "a rest has an end");
        });
    }
}
