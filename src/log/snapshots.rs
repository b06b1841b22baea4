//! The producer snapshots of a log: which there are, and which are kept.
//!
//! What is in them is `partition::producers`' business.

use std::collections::BTreeSet;
use std::io;

use crate::base::Offset;
use crate::log::log::Log;
use crate::runtime::local::Share;

/// The file's ending.
pub(super) const ENDING: &str = "snapshot";

impl Log {
    /// The offsets that have a snapshot, rising.
    pub fn snapshots(&self) -> Vec<Offset> {
        self.0.snapshots.borrow().iter().copied().collect()
    }

    /// Writes the producers' state at `at`, durably.
    pub async fn write_snapshot(&self, at: Offset, bytes: &[u8]) -> io::Result<()> {
        let _writing = self.no_snapshots().await;
        self.put_snapshot(at, bytes).await
    }

    /// Writes the producers' state at `at` in the background. One that still waits is replaced: a
    /// start makes do with an older one, and reads more of the log.
    pub fn write_snapshot_later(&self, at: Offset, bytes: Vec<u8>) {
        if self.0.snapshot_due.replace(Some((at, bytes))).is_some() {
            return;
        }
        let log = self.clone();
        self.0.runtime.spawn("producer snapshot", async move {
            let _turn = log.0.runtime.background_turn().await;
            let _writing = log.0.snapshotting.take(1).await;
            let Some((at, bytes)) = log.0.snapshot_due.take() else { return };
            if log.check_writable().is_err() || at < log.start() {
                return;
            }
            if let Err(error) = log.put_snapshot(at, &bytes).await {
                let directory = log.0.home.directory();
                tracing::warn!(directory = %directory.display(), %at, %error,
                    "a producer snapshot is not written: a start reads more of the log");
            }
        });
    }

    /// Until what this returns is dropped no snapshot is written; one that waits is given up.
    pub(super) async fn no_snapshots(&self) -> Share {
        self.0.snapshot_due.take();
        self.0.snapshotting.take(1).await
    }

    async fn put_snapshot(&self, at: Offset, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.home.path(at, ENDING);
        self.0.home.disk.write_atomically(&path, bytes).await?;
        if at < self.start() {
            // Its segment was deleted meanwhile.
            return self.0.home.remove(at, ENDING).await;
        }
        self.0.snapshots.borrow_mut().insert(at);
        Ok(())
    }

    /// Reads the producers' state at `at`.
    pub async fn read_snapshot(&self, at: Offset) -> io::Result<Vec<u8>> {
        self.0.home.read(at, ENDING).await
    }

    /// Removes a snapshot that turned out to be damaged.
    pub async fn remove_snapshot(&self, at: Offset) -> io::Result<()> {
        self.0.snapshots.borrow_mut().remove(&at);
        self.0.home.remove(at, ENDING).await
    }
}

/// Which of `snapshots` a log from `start` to `end` has no use for: those outside of it, and those
/// that are at no segment's base, but for the youngest of all
/// (`ProducerStateManager.removeStraySnapshots`, `truncateAndReload`).
pub(super) fn useless(
    snapshots: &BTreeSet<Offset>,
    bases: &BTreeSet<Offset>,
    start: Offset,
    end: Offset,
) -> Vec<Offset> {
    let is_inside = |at: Offset| start < at && at <= end;
    let youngest = snapshots.iter().copied().rfind(|at| is_inside(*at));
    let is_useful = |at: Offset| is_inside(at) && (bases.contains(&at) || Some(at) == youngest);
    snapshots.iter().copied().filter(|at| !is_useful(*at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_stay_at_segment_bases_and_the_youngest_stays() {
        let set = |raw: &[u64]| raw.iter().copied().map(Offset::new).collect::<BTreeSet<_>>();
        let cases = [
            ("none", vec![], vec![0], 0, 9, vec![]),
            ("at bases and the end", vec![10, 20, 25], vec![0, 10, 20], 0, 25, vec![]),
            ("an old one between", vec![10, 15, 20], vec![0, 10, 20], 0, 25, vec![15]),
            ("behind the end", vec![10, 30], vec![0, 10], 0, 25, vec![30]),
            ("at and below the start", vec![5, 10, 20], vec![10, 20], 10, 25, vec![5, 10]),
        ];
        for (name, snapshots, bases, start, end, expected) in cases {
            let (start, end) = (Offset::new(start), Offset::new(end));
            let found = useless(&set(&snapshots), &set(&bases), start, end);
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), set(&expected), "{name}");
        }
    }
}
