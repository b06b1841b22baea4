//! The directory of one partition, and its files by base offset and ending.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::Offset;
use crate::log::names::file_name;
use crate::runtime::{Disk, File, OpenMode};

/// A partition's directory; it moves when the topic is deleted.
pub(super) struct Home {
    pub(super) disk: Disk,
    directory: RefCell<PathBuf>,
}

impl Home {
    pub(super) fn new(disk: Disk, directory: PathBuf) -> Self {
        Self { disk, directory: RefCell::new(directory) }
    }

    /// Where the directory is now.
    pub(super) fn directory(&self) -> PathBuf {
        self.directory.borrow().clone()
    }

    /// The path of a file named by hand.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.directory.borrow().join(name)
    }

    /// The path of the file of `base` with `ending`.
    pub(super) fn path(&self, base: Offset, ending: &str) -> PathBuf {
        self.join(&file_name(base, ending))
    }

    /// Opens a file of a segment.
    pub(super) async fn open(
        &self,
        base: Offset,
        ending: &str,
        mode: OpenMode,
    ) -> io::Result<File> {
        self.disk.open(&self.path(base, ending), mode).await
    }

    /// The whole of a file of a segment.
    pub(super) async fn read(&self, base: Offset, ending: &str) -> io::Result<Vec<u8>> {
        self.disk.read(&self.path(base, ending)).await
    }

    /// Removes a file of a segment, if it is there.
    pub(super) async fn remove(&self, base: Offset, ending: &str) -> io::Result<()> {
        ignore_missing(self.disk.remove_file(&self.path(base, ending)).await)
    }

    /// Renames a file of a segment, if it is there. Whether it was.
    pub(super) async fn rename(&self, base: Offset, from: &str, to: &str) -> io::Result<bool> {
        match self.disk.rename(&self.path(base, from), &self.path(base, to)).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes creations, renames and removals durable.
    pub(super) async fn sync(&self) -> io::Result<()> {
        ignore_missing(self.disk.sync_directory(&self.directory()).await)
    }

    /// The same, and the directory's own name: it may be new.
    pub(super) async fn sync_with_parent(&self) -> io::Result<()> {
        self.sync().await?;
        match self.directory().parent() {
            Some(parent) => self.disk.sync_directory(parent).await,
            None => Ok(()),
        }
    }

    /// Moves the directory.
    pub(super) async fn move_to(&self, to: &Path) -> io::Result<()> {
        self.disk.rename(&self.directory(), to).await?;
        *self.directory.borrow_mut() = to.to_owned();
        Ok(())
    }
}

/// A file or directory that is gone already is as good as removed.
pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
