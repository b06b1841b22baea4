//! The backend on glommio: io_uring executors, one per core, and system calls beside them.
//!
//! | file          | what                                                                  |
//! |---------------|-----------------------------------------------------------------------|
//! | `start`       | [`run`] (one pinned executor a core) and [`run_single`]               |
//! | `core`        | [`Core`]: clock, randomness, tasks, the work budget, counters         |
//! | `watchdog`    | the thread that pokes sleeping cores, sees stalls and signals         |
//! | `disk` `file` | directories; vectored appends, sync, reads that never stall the core  |
//! | `net`         | listeners, connections                                                |
//! | `sendfile`    | how a list of chunks leaves: gathered sends and `sendfile(2)`         |
//! | `lanes`       | batches of messages between cores                                     |
//! | `probe`       | [`MachineReport`]: what the machine offers, for `doctor` and at start |
//! | `sys`         | system calls behind safe functions                                    |
//!
//! glommio 0.9 has traps. Each is designed around in one place, marked there by its number:
//! 1. It can park with runnable tasks: `watchdog` (and no preempt timer below 100 ms).
//! 2. A cancelled task leaks: tasks are always detached ([`Core`]'s spawn), never cancelled.
//! 3. A foreign waker that outlives its task leaks it: the only one is the heart-beat's, whose
//!    task ends with its executor; answers between cores are matched by their askers.
//! 4. A panic on the blocking pool kills it: caught in `Core::blocking`.
//! 5. A panic in a task kills the core: caught in spawn; a core that dies all the same ends the
//!    process (`start`).
//! 6. Read timeouts survive abandoned reads: not used at all.
//! 7. The end of a dropped connection leaves late: shut down before it is dropped (`net`).
//! 8. Executors leak an event descriptor: made once a process (`start`).
//! 9. Waiting sends between cores can deadlock: receivers never wait for senders (`lanes`).
//! 10. Messages and sockets are seen at the next pass of the reactor only: the work budget
//!     ([`Core`]'s pass).
//! 11. `peek` fails on non-blocking sockets: not used.
//! 12. glommio exits the process where io_uring is missing: `probe` looks first.
//! 13. Its stall detector takes a signal: not used, `watchdog` has one.
//! 14. A `RefCell` borrowed across an await panics: denied by lint.

mod core;
mod disk;
mod file;
mod lanes;
mod net;
mod probe;
mod sendfile;
mod start;
mod sys;
mod watchdog;

pub use self::core::{Core, Counters};
pub use disk::{AppendPath, Disk, Lock};
pub use file::{File, FileLease};
pub use lanes::Lanes;
pub use net::{Listener, StreamReader, StreamWriter};
pub use probe::MachineReport;
pub use start::{Options, StartError, run, run_single};
pub use sys::Limit;
