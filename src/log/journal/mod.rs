//! The journal: one sync for appends to many logs.
//!
//! Where a topic asks for every append to be on disk before it is acknowledged
//! (`flush.messages=1`, `corelog.durability=sync`), syncing each log by itself costs a commit of
//! the file system's own journal per partition. Instead, a core writes the batches of all its
//! partitions one behind the other into one file whose room was reserved and written before, and
//! syncs that: a flush of the disk and nothing else.
//!
//! ```text
//! append -> segment (page cache) -> journal, gathered over all partitions -> one sync -> answers
//!                                     |
//!   corelog-journal-<core>-<number>   a file that is full: its logs are synced in the background,
//!   corelog-journal-<core>-<number>   then it is written anew; meanwhile the other one is used
//! ```
//!
//! Only a crash of the machine needs it: a killed process leaves the segments in the page cache.
//! After an unclean stop what the journals have beyond a log's end is appended to it
//! ([`replay`]); once all logs are open and synced, the old journals go.
//!
//! Invariants: a file is not written anew before every log it has batches of is synced; an entry
//! counts only when its checksum is right and it belongs to the file's present generation, next in
//! order; generations of a core only grow.
//!
//! Apache Kafka does not know these files and leaves them alone.

mod format;
mod replay;
mod writer;

pub use replay::{Entry, Found, replay};
pub use writer::Journal;

#[cfg(test)]
mod tests;
