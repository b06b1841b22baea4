//! What may go wrong by chance: all of it never, unless a test says otherwise. Kills and power cuts
//! are not left to chance; the test orders them.

use std::time::Duration;

use super::executor::Clock;

/// How often something goes wrong, in a million times. Zero draws nothing from the seed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Chance(pub u32);

impl Chance {
    /// Whether it goes wrong this time.
    pub(super) fn strikes(self, clock: &Clock) -> bool {
        self.0 > 0 && clock.between(1..=1_000_000) <= u64::from(self.0)
    }
}

/// The chances of a machine's faults.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// Reading a file fails with EIO.
    pub read_error: Chance,
    /// Writing a file fails with EIO, before anything is written.
    pub write_error: Chance,
    /// A sync of a file fails with EIO; what it should have written is never on disk, unless it is
    /// written again. One of a directory makes nothing durable.
    pub sync_error: Chance,
    /// Renaming a file or directory fails with EIO, before anything is changed.
    pub rename_error: Chance,
    /// Every read of a file takes so much longer.
    pub read_wait: Duration,
}
