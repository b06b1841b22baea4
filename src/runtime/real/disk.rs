//! Directories and small files.
//!
//! Everything here may wait for the disk, and so runs on the core's blocking pool, with one
//! exception: opening an existing file whose path is in the kernel's cache costs 2 us and is
//! done on the core (`RESOLVE_CACHED` promises that it does not wait).

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::runtime::{Entry, OpenMode, Space};

use super::core::Core;
use super::file::File;
use super::sys::{self, Wait};

/// How appends reach the page cache.
///
/// Measured (Linux 6.18, two busy CPUs), us of CPU for 16 KiB in two parts:
///
/// | file system | plain write | nowait first | all through the ring |
/// |-------------|-------------|--------------|----------------------|
/// | XFS         | 5.6 to 7.3  | 5.9 to 6.4   | 23 to 35             |
/// | ext4        | 10 to 18    | refused      | 42 to 60             |
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AppendPath {
    /// By a vectored write on the owner core. For file systems that refuse buffered writes that
    /// do not wait, as ext4: the ring would hand each to a worker thread.
    Inline,
    /// By a vectored write that does not wait, and only what would have waited through the ring.
    /// For file systems that can, as XFS: as cheap as a plain write, and the core never stalls.
    /// The ring writes from a buffer of its own, so each byte given to it is copied.
    Ring,
}

/// The machine's file systems, for one core.
#[derive(Clone)]
pub struct Disk {
    core: Core,
}

/// An exclusive lock on a file, held until dropped; it holds against Java's locks too.
pub struct Lock {
    _file: OwnedFd,
}

impl Disk {
    pub(super) fn new(core: Core) -> Self {
        Self { core }
    }

    async fn on<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = path.to_path_buf();
        self.core.blocking(move || work(path)).await
    }

    /// Creates a directory and its missing parents.
    pub async fn create_directories(&self, path: &Path) -> io::Result<()> {
        self.on(path, fs::create_dir_all).await
    }

    /// The entries of a directory, sorted by name.
    pub async fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.on(path, |path| list(&path)).await
    }

    /// The whole of a file.
    pub async fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.on(path, fs::read).await
    }

    /// Replaces a file in one step.
    pub async fn write_atomically(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let bytes = bytes.to_vec();
        self.on(path, move |path| write_atomically(&path, &bytes)).await
    }

    /// Renames a file or a directory.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_path_buf();
        self.on(from, move |from| fs::rename(from, to)).await
    }

    /// Removes a file.
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.on(path, fs::remove_file).await
    }

    /// Removes a directory and all that is in it.
    pub async fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.on(path, fs::remove_dir_all).await
    }

    /// Makes changes of a directory's entries durable.
    pub async fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.on(path, |path| sync_directory(&path)).await
    }

    /// Room on the file system that holds `path`.
    pub async fn space(&self, path: &Path) -> io::Result<Space> {
        let (total_bytes, usable_bytes) =
            self.on(path, |path| sys::file_system_space(&path)).await?;
        Ok(Space { total_bytes, usable_bytes })
    }

    /// Opens a file.
    pub async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<File> {
        let access = if mode == OpenMode::Read { libc::O_RDONLY } else { libc::O_RDWR };
        let cached = match mode {
            OpenMode::Replace => None,
            OpenMode::Read | OpenMode::Write | OpenMode::Create => {
                sys::open_cached(path, access).ok()
            }
        };
        let file = match cached {
            Some(file) => file,
            // Not in the cache, or missing, or an old kernel: the ordinary way tells which.
            None => self.on(path, move |path| open(&path, mode).map(OwnedFd::from)).await?,
        };
        let file = fs::File::from(file);
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let append_path = match mode {
            OpenMode::Read => AppendPath::Inline,
            OpenMode::Write | OpenMode::Create | OpenMode::Replace => {
                self.append_path(path, metadata.dev()).await
            }
        };
        Ok(File::new(self.core.clone(), file.into(), append_path))
    }

    /// How to append to files of one file system; probed at the first file of each.
    async fn append_path(&self, path: &Path, device: u64) -> AppendPath {
        if let Some(forced) = self.core.options().append_path {
            return forced;
        }
        let known = self.core.append_paths().borrow().get(&device).copied();
        if let Some(known) = known {
            return known;
        }
        let directory = path.parent().unwrap_or(Path::new("."));
        // A probe that fails says nothing of waiting; the plain way always works.
        let found = self.on(directory, |directory| probe_append_path(&directory)).await;
        let found = found.unwrap_or(AppendPath::Inline);
        self.core.append_paths().borrow_mut().insert(device, found);
        found
    }

    /// Takes the exclusive lock on a file, creating it when missing.
    pub async fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.on(path, |path| {
            let file = OwnedFd::from(open(&path, OpenMode::Create)?);
            sys::lock_exclusively(file.as_fd())?;
            Ok(Lock { _file: file })
        })
        .await
    }
}

fn open(path: &Path, mode: OpenMode) -> io::Result<fs::File> {
    if mode == OpenMode::Replace {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    OpenOptions::new()
        .read(true)
        .write(mode != OpenMode::Read)
        .create(matches!(mode, OpenMode::Create | OpenMode::Replace))
        .truncate(false)
        .open(path)
}

fn list(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // Kafka's names are ASCII; a name that is no text is none of ours.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_directory = metadata.is_dir();
        let size_bytes = if is_directory { 0 } else { metadata.len() };
        entries.push(Entry { name, is_directory, size_bytes });
    }
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(entries)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

/// Finds out whether a directory's file system does buffered writes that do not wait, on a
/// nameless file.
pub(super) fn probe_append_path(directory: &Path) -> io::Result<AppendPath> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .open(directory)?;
    let page = [0; 4096];
    let parts = [IoSlice::new(&page)];
    // The first write brings the page into the cache, so that the second need not wait for it.
    sys::write_vectored_at(file.as_fd(), &parts, 0, Wait::Allowed)?;
    match sys::write_vectored_at(file.as_fd(), &parts, 0, Wait::Refused) {
        Ok(_) => Ok(AppendPath::Ring),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(AppendPath::Ring),
        Err(_) => Ok(AppendPath::Inline),
    }
}
