//! One core of a simulated process.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Instant, ShardId, Timestamp};
use crate::runtime::Runtime;
use crate::runtime::local::Budget;

use super::disk::Disk;
use super::executor::{Clock, Owner, Sleep};
use super::net::{Accepted, Listener};
use super::stream::{LentSocket, StreamReader, StreamWriter};
use super::world::{Inner, Process};

/// 2026-01-01 00:00 UTC in milliseconds: when the wall clocks of all worlds begin.
pub(super) const BEGIN_MILLIS: i64 = 1_767_225_600_000;

/// A core's handle to its world.
#[derive(Clone)]
pub struct Core(Rc<State>);

struct State {
    world: Rc<Inner>,
    process: Rc<Process>,
    shard: ShardId,
    background: Budget,
}

impl Core {
    pub(super) fn new(world: Rc<Inner>, process: Rc<Process>, shard: ShardId) -> Self {
        Self(Rc::new(State { world, process, shard, background: Budget::new(1) }))
    }

    /// See [`Runtime::background_turn`].
    pub fn background(&self) -> &Budget {
        &self.0.background
    }

    /// See [`Runtime::shard`].
    pub fn shard(&self) -> ShardId {
        self.0.shard
    }

    /// See [`Runtime::shard_count`].
    pub fn shard_count(&self) -> u16 {
        self.0.process.shard_count
    }

    /// See [`Runtime::now`].
    pub fn now(&self) -> Instant {
        self.clock().now()
    }

    /// See [`Runtime::wall_clock`]: the world's begin, its virtual time, the machine's skew.
    pub fn wall_clock(&self) -> Timestamp {
        let passed = i64::try_from(self.clock().elapsed().as_millis()).unwrap_or(i64::MAX);
        let skew = self.0.process.machine.clock_skew_ms.get();
        Timestamp::from_millis(BEGIN_MILLIS.saturating_add(passed).saturating_add(skew))
    }

    /// See [`Runtime::random`].
    pub fn random(&self) -> u64 {
        self.clock().draw()
    }

    /// See [`Runtime::spawn`]. The task is queued, not polled; in a process that was killed
    /// meanwhile it is dropped.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        if self.0.process.alive.get() {
            self.0.world.executor.spawn(self.owner(), name, false, Box::pin(future));
        }
    }

    /// See [`Runtime::sleep`].
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + use<> {
        let sleep: Sleep = self.clock().sleep(duration);
        sleep
    }

    /// See [`Runtime::pass`]: half of the times others go first.
    pub async fn pass(&self) {
        if self.clock().one_in(2) {
            futures_lite::future::yield_now().await;
        }
    }

    /// See [`Runtime::terminated`].
    pub async fn terminated(&self) {
        while !self.0.process.told_to_end.get() {
            self.0.process.told.notified().await;
        }
    }

    /// See [`Runtime::end_process`].
    pub fn end_process(&self) {
        self.0.process.tell_to_end();
    }

    /// See [`Runtime::disk`].
    pub fn disk(&self) -> Disk {
        let files = self.0.process.machine.files.clone();
        Disk::new(self.clock().clone(), self.0.process.id, files)
    }

    /// See [`Runtime::listen`].
    pub async fn listen(&self, address: &str) -> io::Result<Listener> {
        self.0.world.network.listen(&self.0.process, self.shard(), address)
    }

    /// See [`Runtime::move_connection`].
    pub fn move_connection(&self, connection: Accepted, to: ShardId) -> Result<(), Accepted> {
        self.0.world.network.move_connection(&self.0.process, connection, to)
    }

    /// Sends the begin of `bytes` on a connection of another core; how many the socket took.
    pub fn send_lent(&self, socket: &LentSocket, bytes: &Bytes) -> usize {
        self.0.world.network.send_lent(socket, bytes)
    }

    /// See [`Runtime::connect`].
    pub async fn connect(&self, address: &str) -> io::Result<(StreamReader, StreamWriter)> {
        self.0.world.network.connect(&self.0.process, address).await
    }

    fn owner(&self) -> Owner {
        Owner { process: self.0.process.id, shard: self.0.shard }
    }

    fn clock(&self) -> &Clock {
        &self.0.world.executor.clock
    }
}

impl From<Core> for Runtime {
    fn from(core: Core) -> Self {
        Self::Sim(core)
    }
}
