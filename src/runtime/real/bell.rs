//! How other threads make a core look up.
//!
//! ```text
//! sender: put the message down, raise the flag; asleep? -> write to its event descriptor
//! core:   about to sleep: say so, look at the flag once more, wait
//! ```
//!
//! Of the two orders of "say asleep" and "raise the flag", each shows one of them to the other
//! side, so no message is slept through; and a core that is awake costs its senders no system
//! call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::load::Load;
use super::sys;

/// The bells of all cores of a process.
pub(super) struct Bells(Box<[Bell]>);

/// One core's, in cache lines of its own.
#[repr(align(128))]
struct Bell {
    descriptor: OwnedFd,
    /// Something was put down for the core since it last looked.
    raised: AtomicBool,
    /// The core waits in the kernel, or is about to.
    asleep: AtomicBool,
    /// The core wants to hear also what may wait.
    attentive: AtomicBool,
    /// How often the core went through its loop.
    turns: AtomicU64,
    load: Load,
}

impl Bells {
    /// The bells of so many cores.
    pub(super) fn new(core_count: usize) -> io::Result<Self> {
        let bell = |_| {
            Ok(Bell {
                descriptor: sys::event_descriptor()?,
                raised: AtomicBool::new(false),
                asleep: AtomicBool::new(false),
                attentive: AtomicBool::new(false),
                turns: AtomicU64::new(0),
                load: Load::default(),
            })
        };
        Ok(Self((0..core_count).map(bell).collect::<io::Result<_>>()?))
    }

    /// Makes `core` look at what was put down for it.
    pub(super) fn ring(&self, core: usize) {
        let bell = &self.0[core];
        bell.raised.store(true, Ordering::SeqCst);
        if bell.asleep.load(Ordering::SeqCst) && bell.asleep.swap(false, Ordering::SeqCst) {
            sys::signal_event(&bell.descriptor);
        }
    }

    /// Makes `core` look at what was put down for it once it is awake; wakes it only when it is
    /// attentive.
    ///
    /// The flag is raised before that is asked, and a core says that it is attentive before it
    /// looks at its flag and sleeps: one of the two sees the other.
    pub(super) fn murmur(&self, core: usize) {
        let bell = &self.0[core];
        bell.raised.store(true, Ordering::SeqCst);
        if bell.attentive.load(Ordering::SeqCst) {
            self.ring(core);
        }
    }

    /// Whether the core, which is the caller, shall be woken by murmurs.
    pub(super) fn be_attentive(&self, core: usize, attentive: bool) {
        self.0[core].attentive.store(attentive, Ordering::SeqCst);
    }

    /// Whether the core waits in the kernel, or is about to.
    pub(super) fn is_asleep(&self, core: usize) -> bool {
        self.0[core].asleep.load(Ordering::Relaxed)
    }

    /// What becomes readable when a sleeping core is rung.
    pub(super) fn descriptor(&self, core: usize) -> BorrowedFd<'_> {
        self.0[core].descriptor.as_fd()
    }

    /// Whether the core was rung since it last asked.
    pub(super) fn answer(&self, core: usize) -> bool {
        let bell = &self.0[core];
        bell.raised.load(Ordering::Relaxed) && bell.raised.swap(false, Ordering::SeqCst)
    }

    /// The core is about to sleep; `false` when it was rung and shall not.
    pub(super) fn fall_asleep(&self, core: usize) -> bool {
        let bell = &self.0[core];
        bell.asleep.store(true, Ordering::SeqCst);
        if bell.raised.load(Ordering::SeqCst) {
            bell.asleep.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// The core is awake.
    pub(super) fn wake_up(&self, core: usize) {
        self.0[core].asleep.store(false, Ordering::SeqCst);
    }

    /// How busy the core is.
    pub(super) fn load(&self, core: usize) -> &Load {
        &self.0[core].load
    }

    /// The core went through its loop once more.
    pub(super) fn count_turn(&self, core: usize) {
        // The only writer is the core itself.
        let turns = &self.0[core].turns;
        turns.store(turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// How often the core went through its loop; `None` while it sleeps.
    pub(super) fn turns(&self, core: usize) -> Option<u64> {
        let bell = &self.0[core];
        let asleep = bell.asleep.load(Ordering::Relaxed);
        (!asleep).then(|| bell.turns.load(Ordering::Relaxed))
    }
}
