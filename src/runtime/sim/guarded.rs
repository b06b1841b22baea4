//! A cell that may cross threads by type, though a simulation has only one.

use std::sync::TryLockError;

/// State behind a lock that nobody ever waits for.
///
/// Wakers, file leases and lanes must be `Send` by type, for with the real backend they do cross
/// threads. All of a simulation runs on one thread: finding the lock taken is a bug, not a wait.
#[expect(clippy::disallowed_types, reason = "never contended: a simulation has one thread")]
#[derive(Default)]
pub(super) struct Guarded<T>(std::sync::Mutex<T>);

#[expect(clippy::disallowed_types, reason = "never contended: a simulation has one thread")]
impl<T> Guarded<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Runs `access` on the state. It must not reach this cell again, so it wakes nobody.
    pub(super) fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> R {
        match self.0.try_lock() {
            Ok(mut guard) => access(&mut guard),
            // A panic of simulated code ends its task only: the state is as whole as before.
            Err(TryLockError::Poisoned(poisoned)) => access(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                panic!("a simulation's state was reached from a second thread, or from within")
            }
        }
    }
}
