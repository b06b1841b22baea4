//! Signals: those that ask the process to end are counted, one asks a thread where it is.

use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::sys::checked;

/// The signals that ask the process to end.
const END_SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// How often each of them came; counted by the handler, which may do nothing else.
static SIGNALS_SEEN: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

extern "C" fn count_signal(signal: libc::c_int) {
    for (known, seen) in END_SIGNALS.into_iter().zip(&SIGNALS_SEEN) {
        if signal == known {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// SIGTERM and SIGINT are counted instead of ending the process, until this is dropped.
///
/// They are blocked in this thread and those it starts, so that they interrupt the one thread that
/// waits for them; a thread started earlier may take one too, which counts the same.
pub(super) struct EndSignals {
    mask_before: libc::sigset_t,
    actions_before: Vec<(libc::c_int, libc::sigaction)>,
}

impl EndSignals {
    /// Starts counting. A signal that the process was started to ignore stays ignored.
    pub(super) fn count() -> io::Result<Self> {
        let mask_before = change_end_signals(libc::SIG_BLOCK)?;
        let mut actions_before = Vec::new();
        for signal in END_SIGNALS {
            // SAFETY: zeroed actions are valid; all three structs are ours. The handler touches
            // atomics only, as a handler may.
            unsafe {
                let mut before = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                checked(libc::sigaction(signal, std::ptr::null(), &mut before) as isize)?;
                if before.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                action.sa_sigaction = count_signal as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = libc::SA_RESTART;
                checked(libc::sigaction(signal, &action, std::ptr::null_mut()) as isize)?;
                actions_before.push((signal, before));
            }
        }
        Ok(Self { mask_before, actions_before })
    }
}

impl Drop for EndSignals {
    fn drop(&mut self) {
        for (signal, action) in &self.actions_before {
            // SAFETY: the action is the one the kernel gave us.
            unsafe { libc::sigaction(*signal, action, std::ptr::null_mut()) };
        }
        // SAFETY: the set is the one the kernel gave us.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask_before, std::ptr::null_mut())
        };
    }
}

/// Blocks or unblocks the end signals in this thread; returns the mask before.
fn change_end_signals(how: libc::c_int) -> io::Result<libc::sigset_t> {
    // SAFETY: zeroed sets are valid, and both are ours.
    let (error, before) = unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigemptyset(&mut set);
        for signal in END_SIGNALS {
            libc::sigaddset(&mut set, signal);
        }
        (libc::pthread_sigmask(how, &set, &mut before), before)
    };
    if error == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// The waiting side of [`EndSignals`].
pub(super) struct SignalWait {
    seen: [u32; 2],
}

impl SignalWait {
    /// Sees the signals that come from now on.
    pub(super) fn new() -> Self {
        Self { seen: [0, 1].map(|at| SIGNALS_SEEN[at].load(Ordering::Relaxed)) }
    }

    /// Lets this thread be interrupted by the signals.
    pub(super) fn listen(&self) -> io::Result<()> {
        change_end_signals(libc::SIG_UNBLOCK).map(drop)
    }

    /// Sleeps for `timeout` or until a signal interrupts; the signal that came, if one did.
    pub(super) fn wait(&mut self, timeout: Duration) -> Option<libc::c_int> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as _,
        };
        // SAFETY: the time is ours; what is left of it is not asked for.
        unsafe { libc::nanosleep(&timeout, std::ptr::null_mut()) };
        for (at, signal) in END_SIGNALS.into_iter().enumerate() {
            if SIGNALS_SEEN[at].load(Ordering::Relaxed) != self.seen[at] {
                self.seen[at] = self.seen[at].wrapping_add(1);
                return Some(signal);
            }
        }
        None
    }
}

/// Sends this process SIGTERM; whoever waits for signals sees it.
pub(super) fn signal_end() {
    // SAFETY: no memory is involved; while cores run, the signal is only counted.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
}

/// Makes writes to a closed socket an error instead of a deadly signal: `sendfile` has no flag for
/// it. Rust's start-up code does the same; this is for processes that undid it.
pub(super) fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal installs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// A thread, as the kernel counts them.
pub(super) type ThreadId = libc::pid_t;

/// The calling thread.
pub(super) fn this_thread() -> ThreadId {
    // SAFETY: no memory is involved.
    unsafe { libc::gettid() }
}

/// The signal that asks a thread where it is.
fn ask_signal() -> libc::c_int {
    libc::SIGRTMIN() + 7
}

/// Runs `answer` in each thread that is asked; it must do what a signal may: touch atomics, and
/// neither allocate nor lock. Calls of the kernel that a signal interrupts go on by themselves,
/// where they can.
pub(super) fn on_ask_signal(answer: fn()) -> io::Result<()> {
    static ANSWER: OnceLock<fn()> = OnceLock::new();
    extern "C" fn on_ask_signal(_: libc::c_int) {
        // SAFETY: the error number is this thread's own.
        let error_number = unsafe { libc::__errno_location() };
        // SAFETY: as above; the interrupted code shall find its own one.
        let before = unsafe { *error_number };
        if let Some(answer) = ANSWER.get() {
            answer();
        }
        // SAFETY: as above.
        unsafe { *error_number = before };
    }
    ANSWER.get_or_init(|| answer);
    // SAFETY: zeroed actions are valid; the struct is ours.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_ask_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        checked(libc::sigaction(ask_signal(), &action, std::ptr::null_mut()) as isize).map(drop)
    }
}

/// Asks a thread of this process where it is.
pub(super) fn ask_thread(thread: ThreadId) -> io::Result<()> {
    // SAFETY: no memory is involved; the signal has a handler.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, ask_signal()) };
    checked(result as isize).map(drop)
}
