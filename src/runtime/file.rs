//! Files and directories.
//!
//! A [`File`] belongs to the core that opened it. A [`FileLease`] is a counted reference to the
//! same open file that any core may hold: it keeps the bytes readable after the file was unlinked.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::{real, sim};

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; created when it is missing, kept when it is there.
    Create,
    /// For reading and writing; a new, empty file takes the place of one that is there, which
    /// whoever has it open keeps.
    Replace,
}

/// One entry of a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The entry's name, without the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Length of the file in bytes; 0 for a directory.
    pub size_bytes: u64,
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What is left for an ordinary user.
    pub usable_bytes: u64,
}

/// Whether a call failed for want of room on the file system, which may be there again later.
pub fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The file systems of the machine (of the simulated process's machine, in a simulation).
#[derive(Clone)]
pub enum Disk {
    /// The operating system's.
    Real(real::Disk),
    /// Simulated: un-synced bytes are lost when the machine crashes.
    Sim(sim::Disk),
}

macro_rules! disk_calls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        $($(#[$doc])* pub async fn $name(&self, $($arg: $ty),*) -> io::Result<$out> {
            match self {
                Self::Real(disk) => disk.$name($($arg),*).await,
                Self::Sim(disk) => disk.$name($($arg),*).await,
            }
        })*
    };
}

impl Disk {
    disk_calls! {
        /// Creates `path` and its missing parents.
        create_directories(path: &Path) -> ();
        /// The entries of a directory, sorted by name.
        list(path: &Path) -> Vec<Entry>;
        /// The whole of a small file.
        read(path: &Path) -> Vec<u8>;
        /// Replaces `path` by `bytes` in one step: temporary file (`<path>.tmp`), sync, rename,
        /// sync of the directory. After a crash the file is the old or the new one.
        write_atomically(path: &Path, bytes: &[u8]) -> ();
        /// Renames a file or a directory.
        rename(from: &Path, to: &Path) -> ();
        /// Removes a file. Open leases keep its bytes.
        remove_file(path: &Path) -> ();
        /// Removes a directory and all that is in it.
        remove_directory(path: &Path) -> ();
        /// Makes creations, renames and removals within the directory durable.
        sync_directory(path: &Path) -> ();
        /// Room on the file system that holds `path`.
        space(path: &Path) -> Space;
    }

    /// Opens a file.
    pub async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<File> {
        match self {
            Self::Real(disk) => disk.open(path, mode).await.map(File::Real),
            Self::Sim(disk) => disk.open(path, mode).await.map(File::Sim),
        }
    }

    /// Takes the exclusive lock on a file, creating it when missing; held until the [`Lock`] is
    /// dropped or the process ends. `WouldBlock` when another process holds it.
    pub async fn lock(&self, path: &Path) -> io::Result<Lock> {
        match self {
            Self::Real(disk) => disk.lock(path).await.map(Lock::Real),
            Self::Sim(disk) => disk.lock(path).await.map(Lock::Sim),
        }
    }
}

/// An exclusive lock on a file; see [`Disk::lock`].
pub enum Lock {
    /// Of the operating system.
    Real(real::Lock),
    /// Simulated.
    Sim(sim::Lock),
}

/// An open file of this core. Clones share the one open file.
#[derive(Clone)]
pub enum File {
    /// Of the operating system.
    Real(real::File),
    /// Simulated.
    Sim(sim::File),
}

macro_rules! file_calls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        $($(#[$doc])* pub async fn $name(&self, $($arg: $ty),*) -> io::Result<$out> {
            match self {
                Self::Real(file) => file.$name($($arg),*).await,
                Self::Sim(file) => file.$name($($arg),*).await,
            }
        })*
    };
}

impl File {
    file_calls! {
        /// Writes all of `parts`, one behind the other, from `position` on (a vectored write; no
        /// copy). Returns once the page cache has all of it: the bytes survive `kill -9`.
        write_at(position: u64, parts: &[Bytes]) -> ();
        /// Makes what was written before the call durable (fdatasync, through the ring).
        sync() -> ();
        /// Reads up to `length` bytes from `position` on; fewer at the end of the file only.
        /// A cold page does not stall the core.
        read_at(position: u64, length: usize) -> Bytes;
        /// The file's length in bytes.
        size_bytes() -> u64;
        /// Cuts or extends the file to `length` bytes.
        truncate(length: u64) -> ();
        /// Reserves room for `length` bytes and sets the file's length to it, filled with zeros.
        preallocate(length: u64) -> ();
    }

    /// A reference to the open file for other cores, and for [`Chunk::File`](super::Chunk).
    pub fn lease(&self) -> FileLease {
        match self {
            Self::Real(file) => FileLease::Real(file.lease()),
            Self::Sim(file) => FileLease::Sim(file.lease()),
        }
    }
}

/// A counted reference to an open file, for any core.
#[derive(Clone, Debug)]
pub enum FileLease {
    /// Of the operating system.
    Real(real::FileLease),
    /// Simulated.
    Sim(sim::FileLease),
}

/// Bytes of an open file: `position..position + length`.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// The open file.
    pub file: FileLease,
    /// Where the slice begins in the file, in bytes.
    pub position: u64,
    /// How many bytes it has.
    pub length: u32,
}
