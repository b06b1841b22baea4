//! One core's io_uring: what the kernel is asked, and what it answered.
//!
//! Every operation has a slot here until its last completion, and the slot owns what the kernel
//! still uses. Nothing here waits for tasks or knows of them but by their wakers.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use tracing::error;

/// Entries of the submission queue: operations given to the kernel in one call.
const SUBMISSIONS: u32 = 128;

/// Entries of the completion queue. What does not fit waits in the kernel's memory.
const COMPLETIONS: u32 = 1024;

/// Set in the user data of what ends the watch whose number the other bits are.
const ENDS_WATCH: u64 = 1 << 63;

/// What a socket was ready for when the kernel last told, and who waits for it.
#[derive(Default)]
pub(super) struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    ended: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

/// The directions of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    /// Bytes, connections or the end may be read.
    Read,
    /// Bytes may be sent.
    Write,
}

impl Readiness {
    fn cells(&self, side: Side) -> (&Cell<bool>, &Cell<Option<Waker>>) {
        match side {
            Side::Read => (&self.readable, &self.reader),
            Side::Write => (&self.writable, &self.writer),
        }
    }

    /// Whether the socket may be ready. It is told of changes only, so a caller goes on until the
    /// kernel refuses, and says so with [`clear`](Self::clear).
    pub(super) fn is_ready(&self, side: Side) -> bool {
        self.cells(side).0.get()
    }

    /// The kernel refused, or gave all it had: from here on the next change counts.
    pub(super) fn clear(&self, side: Side) {
        self.cells(side).0.set(false);
    }

    /// Whether the peer has ended its direction: no change will follow for what is left to read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Has `waker` woken at the next change.
    pub(super) fn wait(&self, side: Side, waker: &Waker) {
        let (_, waiting) = self.cells(side);
        match waiting.take() {
            Some(known) if known.will_wake(waker) => waiting.set(Some(known)),
            // A replaced waker is dropped here, outside of any borrow.
            _ => waiting.set(Some(waker.clone())),
        }
    }

    /// Notes a change; who waits for it is returned.
    fn changed(&self, side: Side) -> Option<Waker> {
        let (ready, waiting) = self.cells(side);
        ready.set(true);
        waiting.take()
    }
}

/// Where the result of one operation is awaited.
#[derive(Default)]
pub(super) struct Outcome {
    result: Cell<Option<i32>>,
    waker: Cell<Option<Waker>>,
}

impl Outcome {
    /// The result, once it is there; until then `waker` is woken for it.
    pub(super) fn poll(&self, waker: &Waker) -> Option<io::Result<u32>> {
        match self.result.take() {
            None => {
                self.waker.set(Some(waker.clone()));
                None
            }
            Some(code) if code < 0 => Some(Err(io::Error::from_raw_os_error(-code))),
            Some(code) => Some(Ok(code as u32)),
        }
    }
}

enum Slot {
    Free {
        next: usize,
    },
    /// An operation with one completion, and what the kernel uses until then.
    Once {
        outcome: Rc<Outcome>,
        _kept: Box<dyn Any>,
    },
    /// A socket whose changes are told.
    Watched {
        readiness: Rc<Readiness>,
        fd: i32,
        armed: bool,
    },
    /// A watch that was ended, until the kernel confirms it.
    Ending,
}

/// One core's ring.
pub(super) struct Ring {
    uring: IoUring,
    slots: Vec<Slot>,
    free: usize,
    /// Slots in state `Once`.
    in_flight: usize,
    /// Submissions that found the queue full; bounded by the number of slots.
    overflow: Vec<squeue::Entry>,
    /// Whose completions have come. They are woken after the ring was left: a wake-up may drop a
    /// task, and that may use the ring.
    woken: Vec<Waker>,
}

/// A watched socket's place in the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch(usize);

impl Ring {
    /// Sets the ring up; only this thread may use it.
    ///
    /// Completions are worked off when this thread asks for them, and never interrupt it, where
    /// the kernel can do so (Linux 6.1).
    pub(super) fn new() -> io::Result<Self> {
        let deferred = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS);
        let mut uring = match deferred {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?
            }
            result => result?,
        };
        // Spares the kernel a look-up in each call; older ones do not know it.
        let _ = uring.submitter().register_ring_fd();
        uring.submission().sync();
        Ok(Self {
            uring,
            slots: Vec::new(),
            free: usize::MAX,
            in_flight: 0,
            overflow: Vec::new(),
            woken: Vec::new(),
        })
    }

    fn insert(&mut self, slot: Slot) -> usize {
        match self.slots.get(self.free) {
            Some(Slot::Free { next }) => {
                let index = mem::replace(&mut self.free, *next);
                self.slots[index] = slot;
                index
            }
            _ => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        }
    }

    fn remove(&mut self, index: usize) -> Slot {
        let next = mem::replace(&mut self.free, index);
        mem::replace(&mut self.slots[index], Slot::Free { next })
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.overflow.is_empty() {
            self.overflow.push(entry);
            return;
        }
        // SAFETY: what the entry points to is owned by its slot until the completion; entries
        // without a slot point to nothing, and descriptors are numbers to the kernel.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.overflow.push(entry);
        }
    }

    fn refill(&mut self) {
        let mut queue = self.uring.submission();
        let mut taken = 0;
        for entry in &self.overflow {
            // SAFETY: as in `push`.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            taken += 1;
        }
        drop(queue);
        self.overflow.drain(..taken);
    }

    /// Starts an operation; `kept` is what its memory and descriptors live in.
    fn start(&mut self, entry: squeue::Entry, kept: Box<dyn Any>) -> Rc<Outcome> {
        let outcome = Rc::new(Outcome::default());
        let index = self.insert(Slot::Once { outcome: outcome.clone(), _kept: kept });
        self.in_flight += 1;
        self.push(entry.user_data(index as u64));
        outcome
    }

    /// Makes a file's bytes durable (fdatasync); `owner` keeps it open.
    pub(super) fn sync(&mut self, file: BorrowedFd<'_>, owner: impl Any) -> Rc<Outcome> {
        let entry = opcode::Fsync::new(Fd(file.as_raw_fd()))
            .flags(io_uring::types::FsyncFlags::DATASYNC)
            .build();
        self.start(entry, Box::new(owner))
    }

    /// Writes `bytes` into a file; `owner` keeps it open. The result is how many were written.
    pub(super) fn write(
        &mut self,
        file: BorrowedFd<'_>,
        bytes: Vec<u8>,
        position: u64,
        owner: impl Any,
    ) -> Rc<Outcome> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // The vector moves into the slot, its heap memory stays where it is.
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), length)
            .offset(position)
            .build();
        self.start(entry, Box::new((bytes, owner)))
    }

    /// Tells every change of a socket from now on, until [`forget`](Self::forget).
    pub(super) fn watch(&mut self, socket: BorrowedFd<'_>) -> (Watch, Rc<Readiness>) {
        let readiness = Rc::new(Readiness::default());
        let fd = socket.as_raw_fd();
        let index = self.insert(Slot::Watched { readiness: readiness.clone(), fd, armed: true });
        self.arm(index, fd);
        (Watch(index), readiness)
    }

    fn arm(&mut self, index: usize, fd: i32) {
        let events = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let entry = opcode::PollAdd::new(Fd(fd), events as u32).multi(true).build();
        self.push(entry.user_data(index as u64));
    }

    /// Ends a watch. The kernel lets go of the socket at the next visit.
    pub(super) fn forget(&mut self, watch: Watch) {
        let Slot::Watched { armed, .. } = &self.slots[watch.0] else { return };
        if !armed {
            self.remove(watch.0);
            return;
        }
        self.slots[watch.0] = Slot::Ending;
        self.end_watch(watch.0);
    }

    fn end_watch(&mut self, index: usize) {
        let entry = opcode::PollRemove::new(index as u64).build();
        self.push(entry.user_data(ENDS_WATCH | index as u64));
    }

    /// A watch can not be ended while the kernel still has a change to tell of it, as it has right
    /// behind a shutdown: it is tried again, or the kernel would keep the socket for ever.
    fn tried_to_end(&mut self, index: usize, result: i32) {
        if result == -libc::EALREADY && matches!(self.slots.get(index), Some(Slot::Ending)) {
            self.end_watch(index);
        }
    }

    /// Whether a visit would find anything to do, seen without a system call.
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.uring.submission();
        let asked = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        asked || !self.overflow.is_empty() || !self.uring.completion().is_empty()
    }

    /// Gives the kernel what is queued and takes what it has completed, in one call at most;
    /// waits for `timeout` or the first completion if one is given.
    pub(super) fn visit(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.refill();
        // What is left over goes with the next visit, which shall not be far.
        let timeout = timeout.filter(|_| self.overflow.is_empty());
        let ready = !self.uring.completion().is_empty();
        let queue = self.uring.submission();
        let needs_call = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        let result = match timeout {
            Some(timeout) if !ready => {
                let time = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
                let args = SubmitArgs::new().timespec(&time);
                self.uring.submitter().submit_with_args(1, &args)
            }
            _ if needs_call => self.uring.submitter().submit_and_wait(0),
            _ => Ok(0),
        };
        match result {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    // Timed out, interrupted, or the kernel is short of something for now.
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) => {}
            Err(error) => return Err(error),
        }
        self.reap();
        Ok(())
    }

    fn reap(&mut self) {
        loop {
            let Some(completion) = self.uring.completion().next() else { return };
            let data = completion.user_data();
            match data & ENDS_WATCH {
                0 => self.completed(&completion),
                _ => self.tried_to_end((data & !ENDS_WATCH) as usize, completion.result()),
            }
        }
    }

    /// Exchanges the list of those to wake for `emptied`, an empty one.
    pub(super) fn take_woken(&mut self, emptied: Vec<Waker>) -> Vec<Waker> {
        mem::replace(&mut self.woken, emptied)
    }

    fn completed(&mut self, completion: &cqueue::Entry) {
        let index = completion.user_data() as usize;
        let goes_on = cqueue::more(completion.flags());
        match &mut self.slots[index] {
            Slot::Once { .. } => {
                self.in_flight -= 1;
                if let Slot::Once { outcome, .. } = self.remove(index) {
                    outcome.result.set(Some(completion.result()));
                    self.woken.extend(outcome.waker.take());
                }
            }
            Slot::Watched { readiness, fd, armed } => {
                let readiness = readiness.clone();
                let fd = *fd;
                *armed = goes_on || completion.result() >= 0;
                if !goes_on && *armed {
                    self.arm(index, fd);
                }
                self.tell(&readiness, completion.result());
            }
            Slot::Ending if goes_on => {}
            Slot::Ending => {
                self.remove(index);
            }
            Slot::Free { .. } => error!(index, "a completion nobody asked for"),
        }
    }

    /// Passes a poll's result on; an error is for the waiting call to find.
    fn tell(&mut self, readiness: &Readiness, result: i32) {
        let events = if result < 0 { libc::POLLERR } else { result as i16 };
        let over = events & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0;
        if over {
            readiness.ended.set(true);
        }
        if over || events & libc::POLLIN != 0 {
            self.woken.extend(readiness.changed(Side::Read));
        }
        if over || events & libc::POLLOUT != 0 {
            self.woken.extend(readiness.changed(Side::Write));
        }
    }

    /// Operations whose memory the kernel still uses.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Everyone who waits for a socket or an operation, to be dropped outside of this ring.
    pub(super) fn take_waiting(&mut self) -> Vec<Waker> {
        let mut waiting = Vec::new();
        for slot in &self.slots {
            match slot {
                Slot::Once { outcome, .. } => waiting.extend(outcome.waker.take()),
                Slot::Watched { readiness, .. } => {
                    waiting.extend(readiness.reader.take());
                    waiting.extend(readiness.writer.take());
                }
                Slot::Ending | Slot::Free { .. } => {}
            }
        }
        waiting
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // The kernel may still write there.
            mem::forget(mem::take(&mut self.slots));
        }
    }
}
