//! How a list of chunks leaves through a socket.
//!
//! ```text
//! bytes, small file slices   gathered into one sendmsg(2); the slices are copied
//! large file slices          sendfile(2), at most 256 KiB at a time
//! ```
//!
//! Measured on loopback, header and body, us of CPU, `sendfile` and copy: 16 KiB 6.8 and 8.0,
//! 64 KiB 27 and 20, 256 KiB 58 and 65, 1 MiB 195 and 264. Up to the bound of the options they are
//! even, and one copied send is one system call less; on a network card, which reads the pages
//! itself, `sendfile` gains earlier.
//!
//! Both never wait in the kernel. When the socket is full, the ring tells when there is room again.
//! A slice is read into the page cache before it is sent by `sendfile`, which would otherwise hold
//! up the whole core while the disk turns.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use crate::runtime::{Chunk, FileLease as AnyLease, FileSlice};

use super::core::Core;
use super::file::{FileLease, read_behind};
use super::net::Socket;
use super::sys::{self, More, PARTS_MAX, Wait};

/// Most bytes one `sendfile` moves: what one unnoticed cold page can cost stays bounded.
const SLICE_BYTES_MAX: usize = 256 << 10;

/// Most bytes of a file that are brought into the page cache at once: a wake-up of another thread
/// and back each, in memory that is the kernel's to take back.
const WARMED_BYTES_MAX: u64 = 2 << 20;

/// Bytes the kernel is asked to read at once; it takes any more for as many as the disk likes best.
const PIECE_BYTES: u64 = 128 << 10;

/// Most bytes of file slices gathered into one send.
const GATHERED_BYTES_MAX: usize = 256 << 10;

/// The kernel's page size on the platforms we build for.
const PAGE_BYTES: u64 = 4096;

/// Sends all of `chunks`, in order.
pub(super) async fn send(socket: &Socket, chunks: &[Chunk]) -> io::Result<()> {
    let large = socket.core().options().sendfile_bytes_min;
    let mut next = 0;
    while next < chunks.len() {
        match &chunks[next] {
            Chunk::File(slice) if slice.length >= large => {
                send_slice(socket, slice).await?;
                next += 1;
            }
            Chunk::Bytes(_) | Chunk::File(_) => next = send_gathered(socket, chunks, next).await?,
        }
        socket.core().pass().await;
    }
    Ok(())
}

/// A part of a gathered send: a chunk's bytes, or the next bytes of the copied file slices.
enum Part<'a> {
    Bytes(&'a [u8]),
    Copied(usize),
}

/// Sends the chunks from `first` on that fit into one gathered send; returns the next one's index.
async fn send_gathered(socket: &Socket, chunks: &[Chunk], first: usize) -> io::Result<usize> {
    let core = socket.core();
    let large = core.options().sendfile_bytes_min;
    let mut copied = core.take_scratch();
    let mut parts: Vec<Part<'_>> = Vec::with_capacity((chunks.len() - first).min(PARTS_MAX));
    let mut next = first;
    while let Some(chunk) = chunks.get(next) {
        match chunk {
            Chunk::Bytes(bytes) if parts.len() < PARTS_MAX => {
                if !bytes.is_empty() {
                    parts.push(Part::Bytes(bytes));
                }
            }
            Chunk::File(slice)
                if slice.length < large
                    && parts.len() < PARTS_MAX
                    && copied.len() + slice.length as usize <= GATHERED_BYTES_MAX =>
            {
                let length = slice.length as usize;
                copy_slice(core, slice.position, length, lease(slice)?, &mut copied).await?;
                parts.push(Part::Copied(length));
            }
            Chunk::Bytes(_) | Chunk::File(_) => break,
        }
        next += 1;
    }
    let mut rest = copied.as_slice();
    let slices: Vec<IoSlice<'_>> = parts
        .iter()
        .map(|part| match part {
            Part::Bytes(bytes) => IoSlice::new(bytes),
            Part::Copied(length) => {
                let (slice, behind) = rest.split_at(*length);
                rest = behind;
                IoSlice::new(slice)
            }
        })
        .collect();
    let more = if next < chunks.len() { More::Follows } else { More::Ends };
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let sent = match total {
        0 => 0,
        _ => match sys::send_message(socket.as_fd(), &slices, more) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            sent => sent?,
        },
    };
    drop(slices);
    core.give_scratch(copied);
    if sent > 0 {
        count_copied(core, sent);
    }
    if sent < total {
        send_rest(socket, &chunks[first..next], sent).await?;
    }
    Ok(next)
}

/// Sends `chunks` but for their first `sent` bytes, without copies: a peer that does not read must
/// not keep any.
async fn send_rest(socket: &Socket, chunks: &[Chunk], mut sent: usize) -> io::Result<()> {
    for chunk in chunks {
        let before = sent.min(chunk.length());
        sent -= before;
        match chunk {
            Chunk::Bytes(bytes) if before < bytes.len() => {
                send_bytes(socket, &bytes[before..]).await?;
            }
            Chunk::File(slice) if before < slice.length as usize => {
                let position = slice.position + before as u64;
                let length = slice.length - before as u32;
                send_slice(socket, &FileSlice { position, length, ..slice.clone() }).await?;
            }
            Chunk::Bytes(_) | Chunk::File(_) => {}
        }
    }
    Ok(())
}

fn count_copied(core: &Core, sent: usize) {
    core.count(|counters| {
        counters.sends += 1;
        counters.copied_bytes += sent as u64;
    });
}

/// Appends exactly `length` bytes of a file to `buffer`.
async fn copy_slice(
    core: &Core,
    position: u64,
    length: usize,
    lease: &FileLease,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    match read_behind(core, lease, buffer, length, position).await? {
        read if read == length => Ok(()),
        _ => Err(short_file(position)),
    }
}

/// Sends all of `bytes`.
async fn send_bytes(socket: &Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let parts = [IoSlice::new(bytes)];
        let send = || sys::send_message(socket.as_fd(), &parts, More::Ends);
        let sent = socket.send_when_ready(send).await?;
        count_copied(socket.core(), sent);
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Sends a large slice of a file.
async fn send_slice(socket: &Socket, slice: &FileSlice) -> io::Result<()> {
    let lease = lease(slice)?;
    let core = socket.core();
    let end = slice.position + u64::from(slice.length);
    let mut position = slice.position;
    let mut warm_to = position;
    while position < end {
        if position >= warm_to {
            warm_to = position + warm(core, lease, position, end - position).await?;
        }
        let length = SLICE_BYTES_MAX.min((warm_to - position) as usize);
        let sending = || sys::send_file(socket.as_fd(), lease.as_fd(), position, length);
        let sent = socket.send_when_ready(sending).await?;
        if sent == 0 {
            // The frame has promised bytes that are not there.
            return Err(short_file(position));
        }
        position += sent as u64;
        core.count(|counters| {
            counters.sends += 1;
            counters.sendfile_bytes += sent as u64;
        });
        core.pass().await;
    }
    Ok(())
}

/// Makes sure that what comes next of a file, `rest` bytes, is in the page cache; how much of it.
async fn warm(core: &Core, lease: &FileLease, position: u64, rest: u64) -> io::Result<u64> {
    let length = rest.min(SLICE_BYTES_MAX as u64);
    if resident(core, lease, position, length as usize) {
        return Ok(length);
    }
    core.count(|counters| counters.warmed_slices += 1);
    let length = rest.min(WARMED_BYTES_MAX);
    let lease = lease.clone();
    core.blocking(move || read_into_cache(lease.as_fd(), position, length)).await?;
    Ok(length)
}

/// Has the kernel read a range of a file into the page cache, and waits for it, a piece after the
/// other: a reader that follows it finds them all.
fn read_into_cache(file: BorrowedFd<'_>, position: u64, length: u64) -> io::Result<()> {
    let end = position + length;
    let pieces = || {
        let from = (position..end).step_by(PIECE_BYTES as usize);
        from.map(|from| (from, PIECE_BYTES.min(end - from)))
    };
    let all_asked = pieces().all(|(from, length)| sys::read_ahead(file, from, length).is_ok());
    let mut buffer = Vec::with_capacity(if all_asked { 1 } else { PIECE_BYTES as usize });
    for (from, length) in pieces() {
        // Where a file system does not read ahead, its bytes are read, to be thrown away.
        let from = if all_asked { from + length - 1 } else { from };
        buffer.clear();
        let length = buffer.capacity().min(length as usize);
        if sys::read_at_to_spare(file, &mut buffer, length, from, Wait::Allowed)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Whether a range of a file is in the page cache, as far as can be told without waiting.
///
/// `cachestat` counts its pages (2.2 us for 256 KiB), those too that are still being read: the
/// kernel reads ahead of whoever reads on. Pages come in order, so the last byte is read without
/// waiting (1.1 us). Where `cachestat` is missing or not permitted, the first one is, too.
fn resident(core: &Core, lease: &FileLease, position: u64, length: usize) -> bool {
    let last = position + length as u64 - 1;
    let first = match sys::cached_pages(lease.as_fd(), position, length as u64) {
        Ok(cached) if cached <= last / PAGE_BYTES - position / PAGE_BYTES => return false,
        Ok(_) => None,
        Err(_) => Some(position),
    };
    let mut byte = core.take_scratch();
    byte.reserve(2);
    let found = first.into_iter().chain([last]).all(|at| {
        sys::read_at_to_spare(lease.as_fd(), &mut byte, 1, at, Wait::Refused)
            .is_ok_and(|read| read == 1)
    });
    core.give_scratch(byte);
    found
}

fn short_file(position: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the file ends within the slice, behind position {position}"),
    )
}

/// The slice's file, which a real socket can only send when it is real.
fn lease(slice: &FileSlice) -> io::Result<&FileLease> {
    match &slice.file {
        AnyLease::Real(lease) => Ok(lease),
        AnyLease::Sim(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}
