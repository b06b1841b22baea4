//! The simulated backend: a world of machines and processes on one thread, decided by one seed.
//!
//! [`World`] is what tests drive; [`block_on`] runs one future for the tests of a single module.
//! The rest is what the facade's enums hold.
//!
//! Invariant: no clock, no thread, no address and no hash map's order decides anything. Two worlds
//! of one seed, driven alike, have the same [`World::history_hash`].

mod core;
mod disk;
mod executor;
mod faults;
mod guarded;
mod inode;
mod lanes;
mod net;
mod random;
mod stream;
mod tree;
mod world;

use std::future::Future;

pub use self::core::Core;
pub use disk::{Disk, File, FileLease, Lock};
pub use faults::{Chance, Faults};
pub use lanes::Lanes;
pub use net::Listener;
pub use random::Random;
pub use stream::{LentSocket, StreamReader, StreamWriter};
pub use world::{MachineId, ProcessId, World};

use super::Runtime;

/// Runs one future as a process of one core on a machine with an empty disk; for unit tests.
///
/// ```
/// use corelog::runtime::sim;
/// use std::path::Path;
///
/// let bytes = sim::block_on(7, |runtime| async move {
///     let disk = runtime.disk();
///     disk.create_directories(Path::new("/data")).await?;
///     disk.write_atomically(Path::new("/data/file"), b"text").await?;
///     disk.read(Path::new("/data/file")).await
/// });
/// assert_eq!(bytes.unwrap(), b"text");
/// ```
pub fn block_on<O, M, F>(seed: u64, main: M) -> O
where
    O: 'static,
    M: FnOnce(Runtime) -> F,
    F: Future<Output = O> + 'static,
{
    let world = World::new(seed);
    let machine = world.machine("host");
    world.run(machine, main)
}
