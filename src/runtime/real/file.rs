//! Open files: vectored appends, sync through the ring, reads that never stall the core.

use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::{fmt, fs};

use bytes::Bytes;

use super::core::Core;
use super::disk::AppendPath;
use super::sys::{self, PARTS_MAX, Wait};

/// Reads of at least so many bytes ask for the file's size first, so that a caller's generous
/// length does not become a large buffer.
const SIZED_READ_BYTES_MIN: usize = 16 << 10;

/// Largest piece given to the ring in one write, in bytes: each is copied.
const RING_WRITE_BYTES_MAX: usize = 1 << 20;

/// An open file of this core.
#[derive(Clone)]
pub struct File(Rc<State>);

struct State {
    core: Core,
    lease: FileLease,
    append_path: AppendPath,
}

/// A counted reference to an open file, for any core; the last one closes it.
#[derive(Clone, Debug)]
pub struct FileLease(Arc<OpenFile>);

struct OpenFile {
    /// `Some` until dropped.
    file: Option<OwnedFd>,
    closer: Sender<OwnedFd>,
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file descriptor {:?}", self.file.as_ref().map(AsRawFd::as_raw_fd))
    }
}

impl Drop for OpenFile {
    /// Closes the file here, or on the closer's thread when that frees its bytes: it has no name
    /// left, or it can not be told.
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let file = fs::File::from(file);
        let has_name = file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        if !has_name {
            // Without a closer (the process is ending) the file is closed with the message.
            let _ = self.closer.send(file.into());
        }
    }
}

impl FileLease {
    /// The descriptor.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_ref().expect("a file is open until it is dropped").as_fd()
    }
}

impl File {
    pub(super) fn new(core: Core, file: OwnedFd, append_path: AppendPath) -> Self {
        let lease = FileLease(Arc::new(OpenFile { file: Some(file), closer: core.closer() }));
        Self(Rc::new(State { core, lease, append_path }))
    }

    /// Writes all of `parts` from `position` on.
    pub async fn write_at(&self, position: u64, parts: &[Bytes]) -> io::Result<()> {
        let wait = match self.0.append_path {
            AppendPath::Inline => Wait::Allowed,
            AppendPath::Ring => Wait::Refused,
        };
        let mut slices: Vec<IoSlice<'_>> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        let mut written = 0_u64;
        while !rest.is_empty() {
            let window = rest.len().min(PARTS_MAX);
            let file = self.0.lease.as_fd();
            match sys::write_vectored_at(file, &rest[..window], position + written, wait) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(error) if would_wait(&error) && wait == Wait::Refused => {
                    written += self.write_through_ring(position + written, rest).await? as u64;
                    let rest_bytes = parts.iter().map(Bytes::len).sum::<usize>() as u64 - written;
                    if rest_bytes == 0 {
                        break;
                    }
                    slices = slices_behind(parts, written);
                    rest = slices.as_mut_slice();
                }
                Err(error) => return Err(error),
            }
        }
        self.0.core.count(|counters| {
            counters.writes += 1;
            counters.write_bytes += written;
        });
        Ok(())
    }

    /// Copies the beginning of `parts` and writes it through the ring; how many bytes it took.
    async fn write_through_ring(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut copy = Vec::with_capacity(total.min(RING_WRITE_BYTES_MAX));
        for part in parts {
            let room = RING_WRITE_BYTES_MAX - copy.len();
            copy.extend_from_slice(&part[..part.len().min(room)]);
        }
        let lease = &self.0.lease;
        match self.0.core.reactor().write(lease.as_fd(), copy, position, lease.clone()).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            result => result,
        }
    }

    /// Makes what was written before the call durable (fdatasync, through the ring).
    pub async fn sync(&self) -> io::Result<()> {
        self.0.core.count(|counters| counters.syncs += 1);
        let lease = &self.0.lease;
        self.0.core.reactor().sync(lease.as_fd(), lease.clone()).await
    }

    /// Reads up to `length` bytes from `position` on; fewer at the end of the file only.
    pub async fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let length = if length < SIZED_READ_BYTES_MIN {
            length
        } else {
            let behind = self.size_bytes().await?.saturating_sub(position);
            length.min(usize::try_from(behind).unwrap_or(usize::MAX))
        };
        let mut buffer = Vec::with_capacity(length);
        read_behind(&self.0.core, &self.0.lease, &mut buffer, length, position).await?;
        Ok(buffer.into())
    }

    /// The file's length in bytes.
    pub async fn size_bytes(&self) -> io::Result<u64> {
        size_of_file(self.0.lease.as_fd())
    }

    /// Cuts or extends the file to `length` bytes.
    pub async fn truncate(&self, length: u64) -> io::Result<()> {
        let lease = self.0.lease.clone();
        self.0.core.blocking(move || with_file(&lease, |file| file.set_len(length))).await
    }

    /// Reserves room for `length` bytes and sets the file's length to it.
    pub async fn preallocate(&self, length: u64) -> io::Result<()> {
        let lease = self.0.lease.clone();
        self.0
            .core
            .blocking(move || {
                match sys::allocate(lease.as_fd(), length) {
                    // Room is a courtesy; the length is what counts. (Length 0 is EINVAL.)
                    Err(error)
                        if matches!(
                            error.raw_os_error(),
                            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
                        ) => {}
                    result => result?,
                }
                if size_of_file(lease.as_fd())? == length {
                    return Ok(());
                }
                with_file(&lease, |file| file.set_len(length))
            })
            .await
    }

    /// A reference to the open file for other cores.
    pub fn lease(&self) -> FileLease {
        self.0.lease.clone()
    }
}

/// What is left of `parts` behind their first `written` bytes.
fn slices_behind(parts: &[Bytes], written: u64) -> Vec<IoSlice<'_>> {
    let mut skip = usize::try_from(written).unwrap_or(usize::MAX);
    let mut rest = Vec::new();
    for part in parts {
        let skipped = skip.min(part.len());
        skip -= skipped;
        if skipped < part.len() {
            rest.push(IoSlice::new(&part[skipped..]));
        }
    }
    rest
}

/// Whether a write that must not wait was refused for that reason. Where the file system does not
/// know such writes at all, the ring (which does) is asked as well.
fn would_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// Runs `call` on the lease's file as std's type, without closing it.
fn with_file<T>(lease: &FileLease, call: impl FnOnce(&fs::File) -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the descriptor is open for as long as the lease is borrowed, and `ManuallyDrop`
    // leaves its closing to the lease.
    let file = ManuallyDrop::new(unsafe { fs::File::from_raw_fd(lease.as_fd().as_raw_fd()) });
    call(&file)
}

fn size_of_file(file: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: as in `with_file`: open while borrowed, and never closed here.
    let file = ManuallyDrop::new(unsafe { fs::File::from_raw_fd(file.as_raw_fd()) });
    Ok(file.metadata()?.len())
}

/// Reads up to `length` bytes of a file to the end of `buffer`; how many came is fewer at the end
/// of the file only.
///
/// What lies in the page cache is read on the core; at the first page that does not, the rest is
/// read on the blocking pool, into the same buffer.
pub(super) async fn read_behind(
    core: &Core,
    lease: &FileLease,
    buffer: &mut Vec<u8>,
    length: usize,
    position: u64,
) -> io::Result<usize> {
    buffer.reserve(length);
    let mut read = 0;
    while read < length {
        let from = position + read as u64;
        match sys::read_at_to_spare(lease.as_fd(), buffer, length - read, from, Wait::Refused) {
            Ok(0) => return Ok(read),
            Ok(count) => read += count,
            // Cold, or a file system that does not know such reads.
            Err(error) if would_wait(&error) => break,
            Err(error) => return Err(error),
        }
    }
    if read == length {
        return Ok(read);
    }
    let from = position + read as u64;
    let mut moved = std::mem::take(buffer);
    let lease = lease.clone();
    let (moved, result) = core
        .blocking(move || {
            let result = read_waiting(&lease, &mut moved, length - read, from);
            Ok((moved, result))
        })
        .await?;
    *buffer = moved;
    result.map(|count| read + count)
}

/// Reads up to `length` bytes, waiting for the disk as needed; not for a core's thread.
fn read_waiting(
    lease: &FileLease,
    buffer: &mut Vec<u8>,
    length: usize,
    position: u64,
) -> io::Result<usize> {
    let mut read = 0;
    while read < length {
        let from = position + read as u64;
        match sys::read_at_to_spare(lease.as_fd(), buffer, length - read, from, Wait::Allowed)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(read)
}
