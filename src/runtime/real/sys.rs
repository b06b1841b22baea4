//! System calls that neither std nor glommio offers, each behind a safe function.
//!
//! All `unsafe` that talks to the kernel is here (adopting a file descriptor is in `net` and
//! `file`). Every call is retried when a signal interrupted it. Waiting calls are marked by
//! [`Wait`]: `Refused` means the call returns `WouldBlock` rather than wait for the disk.

use std::ffi::CString;
use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::BytesMut;

/// Most parts one vectored call takes (the kernel's `UIO_MAXIOV`).
pub(super) const PARTS_MAX: usize = 1024;

/// Length of the queue of connections the kernel has accepted and we have not.
const BACKLOG: libc::c_int = 1024;

/// `cachestat(2)`: number 451 on every architecture; the libc crate names it on few.
const SYS_CACHESTAT: libc::c_long = 451;

/// Whether a call may wait for the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    /// It may.
    Allowed,
    /// It returns `WouldBlock` instead.
    Refused,
}

impl Wait {
    fn flags(self) -> libc::c_int {
        match self {
            Self::Allowed => 0,
            Self::Refused => libc::RWF_NOWAIT,
        }
    }
}

/// Whether more bytes of the same message follow, so that the kernel waits to fill the packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum More {
    /// They do.
    Follows,
    /// This is the end.
    Ends,
}

pub(super) fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn retried(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match checked(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn file_offset(position: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(position).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn path_text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Nanoseconds of a clock of the kernel.
fn clock_nanos(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to a timespec of our own; a zeroed timespec is a valid one, so it may
    // be read even if the call failed, which it can not for the two clocks used here.
    let time = unsafe {
        libc::clock_gettime(clock, time.as_mut_ptr());
        time.assume_init()
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The monotonic clock, in nanoseconds since the machine started.
pub(super) fn monotonic_nanos() -> u64 {
    clock_nanos(libc::CLOCK_MONOTONIC)
}

/// The wall clock, in milliseconds since 1970.
pub(super) fn wall_clock_millis() -> i64 {
    (clock_nanos(libc::CLOCK_REALTIME) / 1_000_000) as i64
}

/// 64 random bits of the operating system.
pub(super) fn random() -> u64 {
    let mut raw = [0_u8; 8];
    // SAFETY: the buffer is ours and 8 bytes long.
    let result = retried(|| unsafe { libc::getrandom(raw.as_mut_ptr().cast(), raw.len(), 0) });
    // Up to 256 bytes are never cut short; it fails on kernels older than io_uring only.
    assert_eq!(result.ok(), Some(raw.len()), "the kernel has random bytes");
    u64::from_ne_bytes(raw)
}

/// Writes `parts` (at most [`PARTS_MAX`]) at `position`; returns how many bytes were written.
pub(super) fn write_vectored_at(
    file: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    position: u64,
    wait: Wait,
) -> io::Result<usize> {
    let offset = file_offset(position)?;
    let count = parts.len().min(PARTS_MAX) as libc::c_int;
    // SAFETY: `IoSlice` has the layout of `iovec`; the bytes are borrowed for the call.
    retried(|| unsafe {
        libc::pwritev2(file.as_raw_fd(), parts.as_ptr().cast(), count, offset, wait.flags())
    })
}

/// Reads up to `length` bytes at `position` to the end of `buffer`, which must have that much
/// spare capacity; returns how many came.
pub(super) fn read_at_to_spare(
    file: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    length: usize,
    position: u64,
    wait: Wait,
) -> io::Result<usize> {
    let offset = file_offset(position)?;
    let spare = buffer.spare_capacity_mut();
    let length = length.min(spare.len());
    let part = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: length };
    // SAFETY: the one part is spare capacity of `buffer`, borrowed for the call.
    let read =
        retried(|| unsafe { libc::preadv2(file.as_raw_fd(), &part, 1, offset, wait.flags()) })?;
    // SAFETY: the kernel wrote `read <= length` bytes behind the buffer's old end.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

/// Receives up to `length` bytes, without waiting, to the end of `buffer`, which must have that
/// much spare capacity; returns how many came.
pub(super) fn receive_to_spare(
    socket: BorrowedFd<'_>,
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    let (start, length) = (spare.as_mut_ptr().cast(), length.min(spare.len()));
    // SAFETY: these bytes are spare capacity of `buffer`, borrowed for the call.
    let received =
        retried(|| unsafe { libc::recv(socket.as_raw_fd(), start, length, libc::MSG_DONTWAIT) })?;
    // SAFETY: the kernel wrote `received <= length` bytes behind the buffer's old end.
    unsafe { buffer.set_len(buffer.len() + received) };
    Ok(received)
}

/// Sends `parts` without waiting; returns how many bytes the socket took.
pub(super) fn send_message(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    more: More,
) -> io::Result<usize> {
    let flags = match more {
        More::Follows => libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE,
        More::Ends => libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
    };
    // SAFETY: a zeroed `msghdr` is valid: no address, no control data, no parts.
    let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len().min(PARTS_MAX) as _;
    // SAFETY: `IoSlice` has the layout of `iovec`, the kernel only reads the parts, and they are
    // borrowed for the call.
    retried(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) })
}

/// Moves up to `length` bytes of `file` from `position` on into `socket`, which must not block.
pub(super) fn send_file(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    position: u64,
    length: usize,
) -> io::Result<usize> {
    let mut offset = file_offset(position)?;
    // SAFETY: both descriptors are borrowed for the call; `offset` is ours.
    retried(|| unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &mut offset, length) })
}

#[repr(C)]
struct CachestatRange {
    offset: u64,
    length: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// How many pages of the range are in the page cache (Linux 6.5 and newer; the file must be
/// writable or ours).
pub(super) fn cached_pages(file: BorrowedFd<'_>, position: u64, length: u64) -> io::Result<u64> {
    let range = CachestatRange { offset: position, length };
    let mut found = Cachestat::default();
    // SAFETY: the kernel reads one struct and writes the other; both have its layout.
    retried(|| unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &range, &mut found, 0) as isize
    })?;
    Ok(found.cached)
}

/// Begins to read a range of a file into the page cache. Not every file system does.
pub(super) fn read_ahead(file: BorrowedFd<'_>, position: u64, length: u64) -> io::Result<()> {
    let offset = file_offset(position)?;
    // SAFETY: no memory is passed.
    retried(|| unsafe { libc::readahead(file.as_raw_fd(), offset, length as usize) }).map(drop)
}

/// Opens an existing file if that needs no disk access; `WouldBlock` when it would.
///
/// `openat2` with `RESOLVE_CACHED`, Linux 5.12; older kernels refuse it with other errors.
pub(super) fn open_cached(path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    const RESOLVE_CACHED: u64 = 0x20;
    let path = path_text(path)?;
    // struct open_how: flags, mode, resolve; 64 bits each.
    let how: [u64; 3] = [(flags | libc::O_CLOEXEC) as u64, 0, RESOLVE_CACHED];
    // SAFETY: the path ends with a zero and `how` has the layout and size told.
    let fd = retried(|| unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            how.as_ptr(),
            size_of::<[u64; 3]>(),
        ) as isize
    })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Makes room for `length` bytes from the file's beginning; the file is at least that long then.
pub(super) fn allocate(file: BorrowedFd<'_>, length: u64) -> io::Result<()> {
    let length = file_offset(length)?;
    // SAFETY: no memory is passed.
    retried(|| unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) as isize }).map(drop)
}

/// Takes both kinds of exclusive lock on a whole file, or `WouldBlock`.
///
/// `flock(2)` for programs like us, and an open-file-description record lock, which conflicts
/// with the POSIX record locks of Java's `FileChannel.tryLock`. The latter is of the open file, not
/// of the process: a second lock within this process is refused too, and closing another
/// descriptor of the same file does not lose it.
pub(super) fn lock_exclusively(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a zeroed `flock` is valid: the whole file from its beginning, no process.
    let mut whole = unsafe { MaybeUninit::<libc::flock>::zeroed().assume_init() };
    whole.l_type = libc::F_WRLCK as _;
    whole.l_whence = libc::SEEK_SET as _;
    // SAFETY: the struct is ours and borrowed for the call.
    let record =
        retried(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &whole) as isize });
    match record {
        // POSIX lets the kernel answer a held lock with either.
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        result => result?,
    };
    // SAFETY: no memory is passed.
    retried(|| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) as isize })
        .map(drop)
}

/// Size of the file system that holds `path` and what is usable of it, both in bytes.
pub(super) fn file_system_space(path: &Path) -> io::Result<(u64, u64)> {
    let stat = file_system(path)?;
    let unit = stat.f_frsize.max(1) as u64;
    Ok((stat.f_blocks as u64 * unit, stat.f_bavail as u64 * unit))
}

/// The magic number of the type of file system that holds `path`.
pub(super) fn file_system_type(path: &Path) -> io::Result<i64> {
    let path = path_text(path)?;
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends with a zero, the struct is ours; a zeroed one is valid to read.
    let stat = unsafe {
        checked(libc::statfs(path.as_ptr(), stat.as_mut_ptr()) as isize)?;
        stat.assume_init()
    };
    Ok(stat.f_type as i64)
}

fn file_system(path: &Path) -> io::Result<libc::statvfs> {
    let path = path_text(path)?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero, the struct is ours; a zeroed one is valid to read.
    unsafe {
        checked(libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) as isize)?;
        Ok(stat.assume_init())
    }
}

/// A listening TCP socket that shares its port with the other cores' (`SO_REUSEPORT`).
///
/// Buffer sizes set on it are inherited by accepted sockets.
pub(super) fn listening_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    bound_socket(address, &[libc::SO_REUSEADDR, libc::SO_REUSEPORT])
}

/// Whether anybody listens on the address: `AddrInUse`. Without `SO_REUSEPORT` the kernel tells;
/// with it, two processes of one user would share the port's connections.
pub(super) fn check_unused(address: &SocketAddr) -> io::Result<()> {
    bound_socket(address, &[libc::SO_REUSEADDR]).map(drop)
}

fn bound_socket(address: &SocketAddr, options: &[libc::c_int]) -> io::Result<OwnedFd> {
    let socket = new_socket(address, libc::SOCK_NONBLOCK)?;
    for option in options {
        set_option(&socket, libc::SOL_SOCKET, *option, 1)?;
    }
    bind(&socket, address)?;
    Ok(socket)
}

/// A TCP socket of the address's family, closed in child programs.
fn new_socket(address: &SocketAddr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no memory is passed.
    let fd = checked(unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) as isize })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Starts listening on a bound socket.
pub(super) fn listen(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: no memory is passed.
    checked(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) as isize }).map(drop)
}

fn bind(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
    // SAFETY: the address struct is of the size told, and lives through the call.
    with_raw_address(address, |raw, size| unsafe { libc::bind(socket.as_raw_fd(), raw, size) })
}

/// A TCP socket that does not block and is connecting to `address`; it becomes writable when the
/// outcome is known.
pub(super) fn connecting_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = new_socket(address, libc::SOCK_NONBLOCK)?;
    // SAFETY: the address struct is of the size told, and lives through the call.
    let connecting = with_raw_address(address, |raw, size| unsafe {
        libc::connect(socket.as_raw_fd(), raw, size)
    });
    match connecting {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        result => result.map(|()| socket),
    }
}

/// Calls `call` with the kernel's form of an address.
fn with_raw_address(
    address: &SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> libc::c_int,
) -> io::Result<()> {
    let result = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: a zeroed address struct is valid.
            let mut raw = unsafe { MaybeUninit::<libc::sockaddr_in>::zeroed().assume_init() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            call((&raw const raw).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            // SAFETY: a zeroed address struct is valid.
            let mut raw = unsafe { MaybeUninit::<libc::sockaddr_in6>::zeroed().assume_init() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            call((&raw const raw).cast(), size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    };
    checked(result as isize).map(drop)
}

/// A descriptor that counts events and never blocks.
pub(super) fn event_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) as isize })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Adds an event to the descriptor's count, which wakes whoever watches it.
pub(super) fn signal_event(descriptor: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: eight bytes of ours. The count can not overflow within the life of a process.
    let _ = unsafe { libc::write(descriptor.as_raw_fd(), (&raw const one).cast(), 8) };
}

/// Sets an integer option of a socket.
pub(super) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an integer of the size told, borrowed for the call.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
            as isize
    })
    .map(drop)
}

/// Has the socket forget what it has not sent when it is closed, and reset the connection.
pub(super) fn forget_at_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_LINGER);
    // SAFETY: the value is what the option takes, of the size told, borrowed for the call.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const linger).cast(), size)
            as isize
    })
    .map(drop)
}

/// Which direction of a connection is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    /// Nothing more will be sent.
    Write,
    /// Nor read.
    Both,
}

/// Ends a connection's direction at once; errors mean that it has ended already.
pub(super) fn shut_down(socket: BorrowedFd<'_>, direction: Direction) {
    let how = match direction {
        Direction::Write => libc::SHUT_WR,
        Direction::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no memory is passed.
    let _ = unsafe { libc::shutdown(socket.as_raw_fd(), how) };
}

/// The CPUs this thread may run on, lowest first.
pub(super) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a zeroed set is the empty set.
    let mut set = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
    // SAFETY: the set is ours and of the size told.
    checked(unsafe {
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) as isize
    })?;
    let limit = size_of::<libc::cpu_set_t>() * 8;
    // SAFETY: every index is below the set's size.
    Ok((0..limit).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Keeps this thread on these CPUs from now on.
pub(super) fn pin_to_cpus(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a zeroed set is the empty set.
    let mut set = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
    for cpu in cpus {
        if *cpu >= size_of::<libc::cpu_set_t>() * 8 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the index is below the set's size.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: the set is ours and of the size told.
    checked(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) as isize })
        .map(drop)
}

/// A limit of the process: what is in force, and up to where it may be raised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// In force now; `u64::MAX` when there is none.
    pub soft: u64,
    /// How far the process may raise it itself; `u64::MAX` when there is none.
    pub hard: u64,
}

/// The two limits that matter here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Resource {
    /// Bytes of memory that may be locked; io_uring's rings count.
    LockedMemory,
    /// Open files and sockets.
    OpenFiles,
}

/// The process's limit of a resource.
pub(super) fn limit(resource: Resource) -> io::Result<Limit> {
    let mut raw = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let resource = match resource {
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
        Resource::OpenFiles => libc::RLIMIT_NOFILE,
    };
    // SAFETY: the struct is ours.
    checked(unsafe { libc::getrlimit(resource, &mut raw) as isize })?;
    Ok(Limit { soft: raw.rlim_cur, hard: raw.rlim_max })
}

/// Raises the soft limit to the hard one.
pub(super) fn raise_limit(resource: Resource) -> io::Result<()> {
    let found = limit(resource)?;
    let raw = libc::rlimit { rlim_cur: found.hard, rlim_max: found.hard };
    let resource = match resource {
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
        Resource::OpenFiles => libc::RLIMIT_NOFILE,
    };
    // SAFETY: the struct is ours and only read.
    checked(unsafe { libc::setrlimit(resource, &raw) as isize }).map(drop)
}

/// Whether this process may lock memory without limit (root's `CAP_IPC_LOCK`, bit 14).
pub(super) fn may_lock_memory(effective_capabilities: u64) -> bool {
    effective_capabilities & (1 << 14) != 0
}

/// Tries to set up a small ring; the error says why io_uring can not be used.
pub(super) fn try_io_uring() -> io::Result<()> {
    let ring = io_uring::IoUring::new(2)?;
    // Waits with a time and lasting polls came with Linux 5.11 and 5.13; this came with the latter.
    if !ring.params().is_feature_resource_tagging() {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok(())
}
