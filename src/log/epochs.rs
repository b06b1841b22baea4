//! Where leader epochs began in a log, and the file `leader-epoch-checkpoint`.
//!
//! Pure. Source: Kafka's `LeaderEpochFileCache`, `LeaderEpochCheckpointFile`; KIP-101, KIP-279.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::base::{LeaderEpoch, Offset};
use crate::log::checkpoint::{Damaged, lines};

/// The file's name in the partition's directory.
pub const FILE_NAME: &str = "leader-epoch-checkpoint";

/// The leader epochs of a log, each with the first offset it wrote or would have written.
///
/// Invariant: later epochs begin at later offsets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Epochs {
    starts: BTreeMap<LeaderEpoch, Offset>,
}

impl Epochs {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut epochs = Self::default();
        for (line_number, line) in lines(bytes)? {
            let parsed = line.split_once(' ').and_then(|(epoch, start)| {
                let epoch = LeaderEpoch::from_wire(epoch.parse().ok()?)?;
                Some((epoch, Offset::from_wire(start.trim().parse().ok()?)?))
            });
            let (epoch, start) = parsed.ok_or(Damaged { line_number })?;
            epochs.assign(epoch, start);
        }
        Ok(epochs)
    }

    /// Writes the file.
    pub fn format(&self) -> String {
        let mut text = format!("0\n{}\n", self.starts.len());
        for (epoch, start) in &self.starts {
            let _ = writeln!(text, "{epoch} {start}");
        }
        text
    }

    /// The latest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last_key_value().map(|(epoch, _)| *epoch)
    }

    /// Whether any epoch later than `known` begins before `end`.
    pub fn any_behind(&self, known: Option<LeaderEpoch>, end: Offset) -> bool {
        let is_later = |epoch: &LeaderEpoch| known.is_none_or(|known| *epoch > known);
        self.starts.iter().rev().take_while(|(epoch, _)| is_later(epoch)).any(|(_, at)| *at < end)
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let mut found = None;
        for (epoch, start) in &self.starts {
            if *start > offset {
                break;
            }
            found = Some(*epoch);
        }
        found
    }

    /// `epoch` begins at `start`. Entries that this contradicts are dropped. Whether anything
    /// changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if let Some((latest, latest_start)) = self.starts.last_key_value()
            && *latest == epoch
            && start >= *latest_start
        {
            return false;
        }
        self.starts.retain(|known, known_start| *known < epoch && *known_start < start);
        self.starts.insert(epoch, start);
        true
    }

    /// The largest epoch not above `asked`, and where it ends; the latest ends at `log_end`.
    /// `None` when that is unknown. The rule is exact: followers truncate by it.
    pub fn end_offset_for(
        &self,
        asked: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if self.latest() == Some(asked) {
            return Some((asked, log_end));
        }
        let next = self.starts.range(asked..).find(|(epoch, _)| **epoch > asked);
        let (_, next_start) = next?;
        match self.starts.range(..=asked).next_back() {
            Some((epoch, _)) => Some((*epoch, *next_start)),
            None => Some((asked, *next_start)),
        }
    }

    /// Drops what began at or behind `end`. Whether anything changed.
    pub fn truncate_end(&mut self, end: Offset) -> bool {
        let before = self.starts.len();
        self.starts.retain(|_, start| *start < end);
        self.starts.len() != before
    }

    /// The log ends at `end`: epochs that begin behind it are dropped (one may begin right there).
    /// Whether anything changed.
    pub fn truncate_end_beyond(&mut self, end: Offset) -> bool {
        self.truncate_end(end.next())
    }

    /// The log now starts at `start`: earlier epochs are dropped but the last of them, which then
    /// begins there. Whether anything changed.
    pub fn truncate_start(&mut self, start: Offset) -> bool {
        let last_before =
            self.starts.iter().filter(|(_, began)| **began <= start).map(|(e, _)| *e).next_back();
        let Some(kept) = last_before else { return false };
        let before = self.clone();
        self.starts.retain(|epoch, _| *epoch >= kept);
        self.starts.insert(kept, start);
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(u32, u64)]) -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, start) in entries {
            epochs.assign(LeaderEpoch::new(*epoch), Offset::new(*start));
        }
        epochs
    }

    #[test]
    fn an_epochs_end_follows_the_exact_rule() {
        let known = epochs(&[(2, 10), (4, 20), (7, 50)]);
        let end = Offset::new(60);
        let cases = [
            ("the latest", 7, Some((7, 60))),
            ("above all", 8, None),
            ("below all: the first one's start", 1, Some((1, 10))),
            ("one of them", 4, Some((4, 50))),
            ("between two", 5, Some((4, 50))),
            ("the first", 2, Some((2, 20))),
        ];
        for (name, asked, expected) in cases {
            let expected = expected.map(|(e, o)| (LeaderEpoch::new(e), Offset::new(o)));
            assert_eq!(known.end_offset_for(LeaderEpoch::new(asked), end), expected, "{name}");
        }
        assert_eq!(Epochs::default().end_offset_for(LeaderEpoch::ZERO, end), None);
    }

    #[test]
    fn assigning_drops_what_it_contradicts() {
        let mut known = epochs(&[(2, 10), (4, 20), (7, 50)]);
        assert!(!known.assign(LeaderEpoch::new(7), Offset::new(55)), "it began earlier");
        assert!(known.assign(LeaderEpoch::new(9), Offset::new(20)));
        assert_eq!(known, epochs(&[(2, 10), (9, 20)]));
    }

    #[test]
    fn truncation_keeps_the_epoch_that_covers_the_new_start() {
        let mut known = epochs(&[(2, 10), (4, 20), (7, 50)]);
        assert!(known.truncate_start(Offset::new(30)));
        assert_eq!(known, epochs(&[(4, 30), (7, 50)]));
        assert!(known.truncate_end(Offset::new(50)));
        assert_eq!(known, epochs(&[(4, 30)]));
        assert!(!known.truncate_start(Offset::new(5)));
    }

    #[test]
    fn the_file_reads_back() {
        let known = epochs(&[(0, 0), (3, 12)]);
        assert_eq!(known.format(), "0\n2\n0 0\n3 12\n");
        assert_eq!(Epochs::parse(known.format().as_bytes()), Ok(known));
        assert_eq!(Epochs::parse(b"0\n1\nx 0\n"), Err(Damaged { line_number: 3 }));
    }
}
