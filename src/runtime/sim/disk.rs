//! A simulated machine's file system, as one process sees it.
//!
//! Each call takes a little virtual time, so that others run in between and a killed process may
//! leave it half done. What is written survives the process; a power loss keeps what was synced
//! ([`inode`](super::inode), [`tree`](super::tree)) and some of the rest.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::runtime::{Entry, OpenMode, Space};

use super::executor::Clock;
use super::faults::{Chance, Faults};
use super::inode::{Inode, Survival, Volume};
use super::random::Random;
use super::tree::{self, Directory, Node};
use super::world::ProcessId;

/// How large a machine's disk is unless a test says otherwise, in bytes.
const DISK_BYTES_MAX: u64 = 1 << 40;

/// EIO of Linux.
const EIO: i32 = 5;

/// The file system of a machine, shared by its processes.
pub(super) struct FileSystem {
    root: Arc<Directory>,
    pub(super) volume: Arc<Volume>,
    pub(super) faults: Cell<Faults>,
    /// What goes wrong instead below one path.
    pub(super) faults_below: RefCell<Option<(PathBuf, Faults)>>,
    /// How many times as long each call takes.
    pub(super) slowness: Cell<u64>,
    /// No call ends before, in virtual time.
    pub(super) stuck_until_nanos: Cell<u64>,
    /// The locks that were taken, by process, so that they go with it.
    locks: RefCell<BTreeMap<ProcessId, Vec<Held>>>,
}

/// A lock that was taken: the file, and the number of the taking.
type Held = (Arc<Inode>, u64);

impl FileSystem {
    pub(super) fn new() -> Self {
        Self {
            root: Arc::default(),
            volume: Arc::new(Volume { bytes_max: DISK_BYTES_MAX.into(), used_bytes: 0.into() }),
            faults: Cell::default(),
            faults_below: RefCell::default(),
            slowness: Cell::new(1),
            stuck_until_nanos: Cell::new(0),
            locks: RefCell::default(),
        }
    }

    /// Every file, by its path.
    pub(super) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut left = vec![(PathBuf::from("/"), self.root.clone())];
        while let Some((path, directory)) = left.pop() {
            for (name, node) in directory.entries() {
                let path = path.join(name);
                match node {
                    Node::File(inode) => {
                        found.insert(path, inode.read(0, inode.length() as usize));
                    }
                    Node::Directory(directory) => left.push((path, directory)),
                }
            }
        }
        found
    }

    /// Releases what a process that is no more had locked.
    pub(super) fn release_locks(&self, process: ProcessId) {
        for (inode, token) in self.locks.borrow_mut().remove(&process).unwrap_or_default() {
            inode.unlock(process, token);
        }
    }

    /// Loses power.
    pub(super) fn crash(&self, seed: u64) {
        let mut random = Random::new(seed);
        let survival = Survival::drawn(&mut random);
        self.root.crash(survival, &mut random);
    }
}

/// The file system of a process's machine.
#[derive(Clone)]
pub struct Disk {
    clock: Clock,
    process: ProcessId,
    files: Rc<FileSystem>,
}

impl Disk {
    pub(super) fn new(clock: Clock, process: ProcessId, files: Rc<FileSystem>) -> Self {
        Self { clock, process, files }
    }

    /// See [`Disk`](crate::runtime::Disk::create_directories).
    pub async fn create_directories(&self, path: &Path) -> io::Result<()> {
        self.turn().await;
        let mut directory = self.files.root.clone();
        for name in tree::names(path)? {
            directory = match directory.entry(name) {
                Some(Node::Directory(next)) => next,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    self.clock.record(&[hash(name.as_bytes())]);
                    let made: Arc<Directory> = Arc::default();
                    directory.put(name, Node::Directory(made.clone()));
                    made
                }
            };
        }
        Ok(())
    }

    /// See [`Disk`](crate::runtime::Disk::list).
    pub async fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.turn().await;
        let directory = tree::directory(&self.files.root, &tree::names(path)?)?;
        let entry = |(name, node)| match node {
            Node::File(inode) => Entry { name, is_directory: false, size_bytes: inode.length() },
            Node::Directory(_) => Entry { name, is_directory: true, size_bytes: 0 },
        };
        Ok(directory.entries().into_iter().map(entry).collect())
    }

    /// See [`Disk`](crate::runtime::Disk::read).
    pub async fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read).await?;
        self.fail(self.faults(path).read_error)?;
        Ok(file.0.inode.read(0, usize::MAX))
    }

    /// See [`Disk`](crate::runtime::Disk::write_atomically).
    pub async fn write_atomically(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.open(&temporary, OpenMode::Create).await?;
        file.truncate(0).await?;
        file.write_at(0, &[Bytes::copy_from_slice(bytes)]).await?;
        file.sync().await?;
        self.rename(&temporary, path).await?;
        self.sync_directory(path.parent().unwrap_or(Path::new("/"))).await
    }

    /// See [`Disk`](crate::runtime::Disk::rename).
    ///
    /// From one directory to another it is durable at once: nothing here moves files that way, so
    /// its half-done states are not simulated.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.turn().await;
        self.fail(self.faults(from).rename_error)?;
        let (from_directory, from_name) = tree::parent(&self.files.root, from)?;
        let (to_directory, to_name) = tree::parent(&self.files.root, to)?;
        let node = from_directory.entry(from_name).ok_or(io::ErrorKind::NotFound)?;
        match (&node, to_directory.entry(to_name)) {
            (Node::File(_), Some(Node::Directory(_))) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Node::Directory(_), Some(Node::File(_))) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            (Node::Directory(moved), Some(Node::Directory(there))) => {
                if !Arc::ptr_eq(moved, &there) && !there.entries().is_empty() {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
            }
            (Node::File(_), Some(Node::File(_))) | (_, None) => {}
        }
        self.clock.record(&[hash(from_name.as_bytes()), hash(to_name.as_bytes())]);
        if Arc::ptr_eq(&from_directory, &to_directory) {
            from_directory.rename(from_name, to_name);
        } else {
            to_directory.put(to_name, node);
            to_directory.sync(to_directory.change_count());
            from_directory.remove(from_name);
            from_directory.sync(from_directory.change_count());
        }
        Ok(())
    }

    /// See [`Disk`](crate::runtime::Disk::remove_file).
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.turn().await;
        let (directory, name) = tree::parent(&self.files.root, path)?;
        match directory.entry(name) {
            Some(Node::File(inode)) => {
                self.clock.record(&[inode.number]);
                directory.remove(name);
                Ok(())
            }
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// See [`Disk`](crate::runtime::Disk::remove_directory). One entry after the other: a process
    /// killed meanwhile leaves a part.
    pub async fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.turn().await;
        let (directory, name) = tree::parent(&self.files.root, path)?;
        let top = match directory.entry(name) {
            Some(Node::Directory(top)) => top,
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        // Directories to empty, each with its place in its parent; a parent lies below its child.
        let mut stack = vec![(directory, name.to_owned(), top)];
        while let Some((parent, name, emptied)) = stack.last().cloned() {
            match emptied.entries().pop() {
                None => {
                    self.clock.record(&[hash(name.as_bytes())]);
                    parent.remove(&name);
                    stack.pop();
                }
                Some((child, Node::Directory(next))) => stack.push((emptied, child, next)),
                Some((child, Node::File(inode))) => {
                    self.clock.record(&[inode.number]);
                    emptied.remove(&child);
                    self.turn().await;
                }
            }
        }
        Ok(())
    }

    /// See [`Disk`](crate::runtime::Disk::sync_directory).
    pub async fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let directory = tree::directory(&self.files.root, &tree::names(path)?)?;
        let count = directory.change_count();
        self.delay(50_000..=500_000).await;
        self.fail(self.faults(path).sync_error)?;
        directory.sync(count);
        self.clock.record(&[count]);
        Ok(())
    }

    /// See [`Disk`](crate::runtime::Disk::space).
    pub async fn space(&self, _path: &Path) -> io::Result<Space> {
        self.turn().await;
        let total_bytes = self.files.volume.bytes_max.load(Ordering::Relaxed);
        let used_bytes = self.files.volume.used_bytes.load(Ordering::Relaxed);
        Ok(Space { total_bytes, usable_bytes: total_bytes.saturating_sub(used_bytes) })
    }

    /// See [`Disk`](crate::runtime::Disk::open).
    pub async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<File> {
        self.turn().await;
        let (directory, name) = tree::parent(&self.files.root, path)?;
        let inode = match (directory.entry(name), mode) {
            (Some(Node::Directory(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(inode)), OpenMode::Read | OpenMode::Write | OpenMode::Create) => inode,
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Create) | (_, OpenMode::Replace) => {
                let number = self.clock.number();
                self.clock.record(&[number, hash(name.as_bytes())]);
                let inode = Arc::new(Inode::new(number, self.files.volume.clone()));
                directory.put(name, Node::File(inode.clone()));
                inode
            }
        };
        Ok(File(Rc::new(OpenFile { disk: self.clone(), path: path.to_owned(), inode, mode })))
    }

    /// See [`Disk`](crate::runtime::Disk::lock).
    pub async fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = self.open(path, OpenMode::Create).await?;
        let inode = file.0.inode.clone();
        let token = self.clock.number();
        if !inode.lock(self.process, token) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut locks = self.files.locks.borrow_mut();
        locks.entry(self.process).or_default().push((inode.clone(), token));
        Ok(Lock { inode, process: self.process, token })
    }

    /// Lets others run, half of the times.
    async fn turn(&self) {
        if self.clock.one_in(2) {
            self.delay(1_000..=20_000).await;
        } else {
            self.until_it_moves().await;
        }
    }

    /// Takes a drawn time, as slow as the disk is.
    async fn delay(&self, nanos: RangeInclusive<u64>) {
        let nanos = self.clock.between(nanos).saturating_mul(self.files.slowness.get());
        self.clock.sleep(Duration::from_nanos(nanos)).await;
        self.until_it_moves().await;
    }

    /// Waits while the disk is stuck.
    async fn until_it_moves(&self) {
        let mut now = self.clock.nanos();
        while now < self.files.stuck_until_nanos.get() {
            let rest = self.files.stuck_until_nanos.get() - now;
            self.clock.sleep(Duration::from_nanos(rest)).await;
            now = self.clock.nanos();
        }
    }

    /// What may go wrong with a file.
    fn faults(&self, path: &Path) -> Faults {
        match &*self.files.faults_below.borrow() {
            Some((below, faults)) if path.starts_with(below) => *faults,
            Some(_) | None => self.files.faults.get(),
        }
    }

    fn fail(&self, chance: Chance) -> io::Result<()> {
        if chance.strikes(&self.clock) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }
}

/// A held lock; see [`Disk::lock`].
pub struct Lock {
    inode: Arc<Inode>,
    process: ProcessId,
    token: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.inode.unlock(self.process, self.token);
    }
}

struct OpenFile {
    disk: Disk,
    /// As it was opened.
    path: PathBuf,
    inode: Arc<Inode>,
    mode: OpenMode,
}

/// An open file.
#[derive(Clone)]
pub struct File(Rc<OpenFile>);

impl File {
    /// See [`File`](crate::runtime::File::write_at). Now and then it is written in two halves, with
    /// others running in between.
    pub async fn write_at(&self, position: u64, parts: &[Bytes]) -> io::Result<()> {
        let OpenFile { disk, path, inode, .. } = self.writable()?;
        disk.until_it_moves().await;
        disk.fail(disk.faults(path).write_error)?;
        let total: usize = parts.iter().map(Bytes::len).sum();
        let pause = if disk.clock.one_in(8) { disk.clock.between(0..=total as u64) } else { 0 };
        let mut left = pause as usize;
        let mut at = position;
        for part in parts {
            let mut part = part.as_ref();
            disk.clock.record(&[inode.number, at, hash(part)]);
            if left > 0 && left <= part.len() {
                inode.write(at, &part[..left])?;
                at += left as u64;
                part = &part[left..];
                left = 0;
                disk.delay(1_000..=20_000).await;
            } else {
                left = left.saturating_sub(part.len());
            }
            inode.write(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// See [`File`](crate::runtime::File::sync). What is written after the call is not part of it.
    pub async fn sync(&self) -> io::Result<()> {
        let OpenFile { disk, path, inode, .. } = &*self.0;
        let number = inode.begin_sync();
        disk.delay(50_000..=500_000).await;
        if let Err(error) = disk.fail(disk.faults(path).sync_error) {
            inode.fail_sync(number);
            return Err(error);
        }
        inode.end_sync(number);
        disk.clock.record(&[inode.number, number]);
        Ok(())
    }

    /// See [`File`](crate::runtime::File::read_at).
    pub async fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let OpenFile { disk, path, inode, .. } = &*self.0;
        if disk.clock.one_in(4) {
            disk.delay(10_000..=100_000).await;
        }
        disk.until_it_moves().await;
        let read_wait = disk.faults(path).read_wait;
        if !read_wait.is_zero() {
            disk.clock.sleep(read_wait).await;
        }
        disk.fail(disk.faults(path).read_error)?;
        Ok(inode.read(position, length).into())
    }

    /// See [`File`](crate::runtime::File::size_bytes).
    pub async fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.inode.length())
    }

    /// See [`File`](crate::runtime::File::truncate).
    pub async fn truncate(&self, length: u64) -> io::Result<()> {
        let OpenFile { disk, inode, .. } = self.writable()?;
        disk.turn().await;
        disk.clock.record(&[inode.number, length]);
        inode.set_length(length)
    }

    /// See [`File`](crate::runtime::File::preallocate).
    pub async fn preallocate(&self, length: u64) -> io::Result<()> {
        let OpenFile { disk, inode, .. } = self.writable()?;
        disk.turn().await;
        disk.clock.record(&[inode.number, length]);
        inode.set_length(length)
    }

    /// See [`File`](crate::runtime::File::lease).
    pub fn lease(&self) -> FileLease {
        FileLease(self.0.inode.clone())
    }

    fn writable(&self) -> io::Result<&OpenFile> {
        match self.0.mode {
            OpenMode::Read => Err(io::ErrorKind::PermissionDenied.into()),
            OpenMode::Write | OpenMode::Create | OpenMode::Replace => Ok(&self.0),
        }
    }
}

/// A counted reference to a file, for any core.
#[derive(Clone)]
pub struct FileLease(Arc<Inode>);

impl FileLease {
    /// Up to `length` bytes from `position` on.
    pub(crate) fn read(&self, position: u64, length: usize) -> Vec<u8> {
        self.0.read(position, length)
    }
}

impl fmt::Debug for FileLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileLease({})", self.0.number)
    }
}

/// What the history remembers of bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    (bytes.len() as u64) << 32 | u64::from(crc32c::crc32c(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sim::{World, block_on};
    use crate::runtime::{Lanes, Runtime};

    async fn open(runtime: &Runtime, path: &str, mode: OpenMode) -> crate::runtime::File {
        runtime.disk().open(Path::new(path), mode).await.expect("opens")
    }

    #[test]
    fn files_and_directories_behave_as_on_linux() {
        block_on(1, |runtime| async move {
            let disk = runtime.disk();
            let kind = |error: io::Error| error.kind();
            let missing = disk.open(Path::new("/d/f"), OpenMode::Create).await;
            assert_eq!(missing.err().map(kind), Some(io::ErrorKind::NotFound));
            disk.create_directories(Path::new("/d/inner")).await.expect("made");
            let file = open(&runtime, "/d/f", OpenMode::Create).await;
            file.write_at(2, &[Bytes::from("cd"), Bytes::from("ef")]).await.expect("written");
            file.write_at(0, &[Bytes::from("ab")]).await.expect("written");
            assert_eq!(disk.read(Path::new("/d/f")).await.expect("read"), b"abcdef");
            assert_eq!(file.read_at(4, 100).await.expect("read"), "ef");
            assert_eq!(file.read_at(6, 1).await.expect("read"), "");
            let reader = open(&runtime, "/d/f", OpenMode::Read).await;
            let refused = reader.write_at(0, &[Bytes::from("x")]).await;
            assert_eq!(refused.err().map(kind), Some(io::ErrorKind::PermissionDenied));

            let names = |entries: Vec<Entry>| {
                entries.into_iter().map(|entry| (entry.name, entry.size_bytes)).collect::<Vec<_>>()
            };
            let both = vec![("f".to_owned(), 6), ("inner".to_owned(), 0)];
            assert_eq!(names(disk.list(Path::new("/d")).await.expect("listed")), both);
            let lease = file.lease();
            disk.remove_file(Path::new("/d/f")).await.expect("removed");
            let crate::runtime::FileLease::Sim(lease) = lease else { panic!("simulated") };
            assert_eq!(lease.read(0, 3), b"abc", "a lease outlives the name");
            disk.rename(Path::new("/d"), Path::new("/e")).await.expect("renamed");
            disk.remove_directory(Path::new("/e")).await.expect("removed");
            let gone = disk.list(Path::new("/e")).await;
            assert_eq!(gone.err().map(kind), Some(io::ErrorKind::NotFound));
        });
    }

    #[test]
    fn a_lock_is_exclusive_and_goes_with_its_process() {
        let world = World::new(2);
        let machine = world.machine("host");
        let holder =
            world.start_process(machine, "holder", 1, |runtime, _: Lanes<()>| async move {
                let lock = runtime.disk().lock(Path::new("/lock")).await.expect("free");
                // Leaked on purpose: nobody may rely on a killed process to run destructors.
                std::mem::forget(lock);
                runtime.sleep(Duration::MAX).await;
            });
        world.run_for(Duration::from_millis(1));
        let take = |runtime: Runtime| async move {
            let taken = runtime.disk().lock(Path::new("/lock")).await;
            taken.map(drop).map_err(|error| error.kind())
        };
        assert_eq!(world.run(machine, take), Err(io::ErrorKind::WouldBlock));
        world.kill(holder);
        assert_eq!(world.run(machine, take), Ok(()));
        assert_eq!(world.run(machine, take), Ok(()), "dropped");
    }

    #[test]
    fn a_kill_keeps_what_was_written_and_a_crash_only_what_was_synced() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..60 {
            let world = World::new(seed);
            let machine = world.machine("host");
            let main = |runtime: Runtime, _: Lanes<()>| async move {
                let disk = runtime.disk();
                for name in ["/synced", "/written"] {
                    let file = open(&runtime, name, OpenMode::Create).await;
                    file.write_at(0, &[Bytes::from("first")]).await.expect("written");
                    file.sync().await.expect("synced");
                }
                disk.sync_directory(Path::new("/")).await.expect("synced");
                let file = open(&runtime, "/written", OpenMode::Write).await;
                file.write_at(5, &[Bytes::from(" second")]).await.expect("written");
                let file = open(&runtime, "/new", OpenMode::Create).await;
                file.write_at(0, &[Bytes::from("third")]).await.expect("written");
                file.sync().await.expect("synced");
                runtime.sleep(Duration::MAX).await;
            };
            let writer = world.start_process(machine, "writer", 1, main);
            world.run_for(Duration::from_millis(20));
            let read = |name: &'static str| {
                world.run(machine, move |runtime| async move {
                    runtime.disk().read(Path::new(name)).await.map_err(|error| error.kind())
                })
            };
            world.kill(writer);
            assert_eq!(read("/written").as_deref(), Ok(&b"first second"[..]), "seed {seed}");
            assert_eq!(read("/new").as_deref(), Ok(&b"third"[..]), "seed {seed}");
            world.crash(machine);
            assert_eq!(read("/synced").as_deref(), Ok(&b"first"[..]), "seed {seed}");
            assert!(read("/written").is_ok_and(|bytes| bytes.starts_with(b"first")), "seed {seed}");
            // The file was synced, its name was not.
            match read("/new") {
                Ok(bytes) => {
                    assert_eq!(bytes, b"third", "seed {seed}");
                    kept += 1;
                }
                Err(error) => {
                    assert_eq!(error, io::ErrorKind::NotFound, "seed {seed}");
                    lost += 1;
                }
            }
        }
        assert!(lost > 10 && kept > 10, "lost {lost}, kept {kept}");
    }

    #[test]
    fn an_atomic_write_is_the_old_or_the_new_file_after_a_kill_and_after_a_crash() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..200 {
            let world = World::new(seed);
            let machine = world.machine("host");
            world.run(machine, |runtime| async move {
                runtime.disk().write_atomically(Path::new("/file"), b"old").await.expect("room");
            });
            let writer =
                world.start_process(machine, "writer", 1, |runtime, _: Lanes<()>| async move {
                    let new = runtime.disk().write_atomically(Path::new("/file"), b"new").await;
                    new.expect("room");
                    runtime.sleep(Duration::MAX).await;
                });
            world.run_for(Duration::from_micros(seed * 10));
            if seed % 2 == 0 {
                world.crash(machine);
            } else {
                world.kill(writer);
            }
            let bytes = world.run(machine, |runtime| async move {
                runtime.disk().read(Path::new("/file")).await.expect("there")
            });
            *seen.entry(bytes).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen.contains_key(&b"old"[..]) && seen.contains_key(&b"new"[..]), "{seen:?}");
    }

    #[test]
    fn a_full_disk_and_a_bad_disk_are_errors() {
        let world = World::new(3);
        let machine = world.machine("host");
        world.set_disk_bytes_max(machine, 1000);
        world.run(machine, |runtime| async move {
            let file = open(&runtime, "/file", OpenMode::Create).await;
            let full = file.write_at(0, &[Bytes::from(vec![1; 2000])]).await;
            assert_eq!(full.err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
            file.truncate(0).await.expect("cut");
            file.write_at(0, &[Bytes::from(vec![1; 900])]).await.expect("room");
            let space = runtime.disk().space(Path::new("/")).await.expect("known");
            assert_eq!(space, Space { total_bytes: 1000, usable_bytes: 100 });
        });
        let always = Chance(1_000_000);
        world.set_faults(machine, Faults { sync_error: always, ..Faults::default() });
        world.run(machine, |runtime| async move {
            let file = open(&runtime, "/file", OpenMode::Write).await;
            file.write_at(0, &[Bytes::from("bytes")]).await.expect("written");
            let error = file.sync().await.expect_err("bad disk");
            assert_eq!(error.raw_os_error(), Some(EIO));
        });
    }
}
