//! The real backend: glommio executors, one per core, each with an io_uring of its own.
//!
//! | file          | what                                                                  |
//! |---------------|-----------------------------------------------------------------------|
//! | `start`       | [`run`] (one pinned executor a core) and [`run_single`]               |
//! | `core`        | [`Core`]: clock, randomness, tasks, the work budget, counters         |
//! | `reactor`     | the core's loop: its ring, timers, disk threads, other cores          |
//! | `ring`        | the core's io_uring: changes of sockets, syncs and writes of files    |
//! | `pool` `bell` | threads that may wait for the disk; how other threads wake a core     |
//! | `watchdog`    | the thread that sees cores that stand still, and signals              |
//! | `stack`       | where a core is that stands still                                     |
//! | `disk` `file` | directories; vectored appends, sync, reads that never stall the core  |
//! | `net` `desk`  | listeners, connections; how those are spread over the cores           |
//! | `load`        | how busy each core is                                                 |
//! | `sendfile`    | how a list of chunks leaves: gathered sends and `sendfile(2)`         |
//! | `lanes`       | batches of messages between cores                                     |
//! | `probe`       | [`MachineReport`]: what the machine offers, for `doctor` and at start |
//! | `sys`         | system calls behind safe functions; `signals`: those about signals    |
//!
//! glommio runs the tasks; what they wait for is the reactor's, for glommio's own way to sleep
//! costs four to six system calls a time. glommio 0.9 has traps besides. Each is designed around
//! in one place, marked there by its number:
//! 1. It can sleep with runnable tasks: it never sleeps (`reactor`), and `watchdog` would see it.
//! 2. A cancelled task leaks: tasks are always detached ([`Core`]'s spawn), never cancelled.
//! 3. A foreign waker that outlives its task leaks it: the only one is the heart-beat's, whose
//!    task ends with its executor; answers between cores are matched by their askers.
//! 4. A panic on its blocking pool kills it: `pool` is our own.
//! 5. A panic in a task kills the core: caught in spawn; a core that dies all the same ends the
//!    process (`start`).
//! 6. Read timeouts survive abandoned reads: sockets are our own (`net`).
//! 7. The end of a dropped connection leaves late, for a ring still holds it: shut down before it
//!    is dropped (`net`).
//! 8. Executors leak an event descriptor: made once a process (`start`).
//! 9. Waiting sends between cores can deadlock: receivers never wait for senders (`lanes`).
//! 10. Messages and sockets are seen only between two rounds of the run queue: the work budget
//!     ([`Core`]'s pass).
//! 11. It exits the process where io_uring is missing: `probe` looks first.
//! 12. Its stall detector takes a signal: not used, `watchdog` has one.
//! 13. A `RefCell` borrowed across an await panics: denied by lint.

mod bell;
mod core;
mod desk;
mod disk;
mod file;
mod lanes;
mod load;
mod net;
mod pool;
mod probe;
mod reactor;
mod ring;
mod sendfile;
mod signals;
mod stack;
mod start;
mod sys;
mod watchdog;

pub use self::core::{Core, Counters};
pub use disk::{AppendPath, Disk, Lock};
pub use file::{File, FileLease};
pub use lanes::Lanes;
pub use net::{LentSocket, Listener, StreamReader, StreamWriter};
pub use probe::MachineReport;
pub use start::{Options, StartError, run, run_single};
pub use sys::Limit;
