//! Who owns which partition, as the members of one group see it.
//!
//! A partition counts as consumed once its owner has its committed offset. The board is complete
//! when every partition is consumed and every live member has its even share.

use std::collections::BTreeMap;

/// The board of one group.
#[derive(Debug)]
pub struct Board {
    owners: Vec<Option<usize>>,
    consumed_count: usize,
    members: BTreeMap<usize, Standing>,
    agreement: Agreement,
    overlap_count: u64,
}

/// Whether members agree on one generation (classic), or each has an epoch of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Agreement {
    /// All are in the same generation.
    OneGeneration,
    /// Epochs may differ for a while.
    OwnEpochs,
}

/// What is known of a live member.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The generation or epoch it was assigned in; `None` until it has joined.
    generation: Option<i32>,
    owned_count: usize,
}

impl Board {
    /// A board without members.
    pub fn new(partition_count: usize, agreement: Agreement) -> Self {
        Self {
            owners: vec![None; partition_count],
            consumed_count: 0,
            members: BTreeMap::new(),
            agreement,
            overlap_count: 0,
        }
    }

    /// A member begins to join.
    pub fn arrive(&mut self, member: usize) {
        self.members.insert(member, Standing::default());
    }

    /// A member is gone; nobody consumes its partitions.
    pub fn remove(&mut self, member: usize) {
        self.members.remove(&member);
        self.release(member);
    }

    /// The member has the committed offsets of these partitions and consumes them.
    ///
    /// A partition that another live member consumes is an overlap: it is counted, and changes
    /// hands.
    pub fn consume(&mut self, member: usize, partitions: &[i32]) {
        for partition in partitions {
            let index = usize::try_from(*partition).unwrap_or(usize::MAX);
            let Some(owner) = self.owners.get_mut(index) else { continue };
            match owner.replace(member) {
                Some(before) if before == member => continue,
                Some(before) => {
                    self.overlap_count += 1;
                    self.count(before, |owned_count| owned_count.saturating_sub(1));
                }
                None => self.consumed_count += 1,
            }
            self.count(member, |owned_count| owned_count + 1);
        }
    }

    /// The member has stopped to consume these partitions.
    pub fn revoke(&mut self, member: usize, partitions: &[i32]) {
        for partition in partitions {
            let index = usize::try_from(*partition).unwrap_or(usize::MAX);
            let Some(owner) = self.owners.get_mut(index) else { continue };
            if *owner == Some(member) {
                *owner = None;
                self.consumed_count -= 1;
                self.count(member, |owned_count| owned_count.saturating_sub(1));
            }
        }
    }

    /// The member is in this generation; `None` while it joins again, when it owns nothing.
    pub fn enter(&mut self, member: usize, generation: Option<i32>) {
        if generation.is_none() {
            self.release(member);
        }
        if let Some(standing) = self.members.get_mut(&member) {
            standing.generation = generation;
        }
    }

    /// Whether every partition is consumed, by members that all joined and have even shares.
    pub fn is_complete(&self) -> bool {
        if self.consumed_count < self.owners.len() || self.members.is_empty() {
            return false;
        }
        let share = self.owners.len() / self.members.len();
        let mut generations = self.members.values().map(|standing| standing.generation);
        let first = generations.next().flatten();
        let agreed = match self.agreement {
            Agreement::OneGeneration => generations.all(|generation| generation == first),
            Agreement::OwnEpochs => generations.all(|generation| generation.is_some()),
        };
        first.is_some()
            && agreed
            && self.members.values().all(|standing| standing.owned_count >= share)
    }

    /// The live member of the lowest number that owns something: the one that is to go.
    pub fn victim(&self) -> Option<usize> {
        let owning = self.members.iter().find(|(_, standing)| standing.owned_count > 0);
        owning.map(|(member, _)| *member)
    }

    /// How often a partition was consumed by two live members at once.
    pub fn overlap_count(&self) -> u64 {
        self.overlap_count
    }

    /// What is missing, in words.
    pub fn missing(&self) -> String {
        let joining = self.members.values().filter(|it| it.generation.is_none()).count();
        format!(
            "{} of {} partitions consumed by {} members, {joining} still joining",
            self.consumed_count,
            self.owners.len(),
            self.members.len()
        )
    }

    fn count(&mut self, member: usize, change: impl FnOnce(usize) -> usize) {
        if let Some(standing) = self.members.get_mut(&member) {
            standing.owned_count = change(standing.owned_count);
        }
    }

    fn release(&mut self, member: usize) {
        let owned = self.owners.iter().enumerate();
        let mine = owned.filter(|(_, owner)| **owner == Some(member));
        let partitions: Vec<i32> =
            mine.map(|(index, _)| i32::try_from(index).unwrap_or(i32::MAX)).collect();
        self.revoke(member, &partitions);
    }
}

/// The range of partitions that member number `index` of `member_count` gets when they are dealt
/// out as Kafka's range assignor does for one topic: the first ones get one more.
pub fn range(partition_count: usize, member_count: usize, index: usize) -> std::ops::Range<usize> {
    let share = partition_count / member_count.max(1);
    let more = partition_count % member_count.max(1);
    let begin = share * index + index.min(more);
    begin..begin + share + usize::from(index < more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_complete_when_all_is_consumed_in_even_shares() {
        let mut board = Board::new(4, Agreement::OneGeneration);
        board.arrive(0);
        assert!(!board.is_complete(), "nobody has joined");
        board.enter(0, Some(1));
        board.consume(0, &[0, 1, 2, 3]);
        assert!(board.is_complete(), "one member has all");
        board.arrive(1);
        assert!(!board.is_complete(), "the second has not joined");
        board.enter(0, None);
        board.enter(0, Some(2));
        board.consume(0, &[0, 1]);
        board.enter(1, Some(2));
        assert!(!board.is_complete(), "two partitions are nobody's");
        board.consume(1, &[2, 3]);
        assert!(board.is_complete(), "two each");
        board.enter(1, Some(3));
        assert!(!board.is_complete(), "two generations");
        board.remove(1);
        assert!(!board.is_complete(), "what the dead one had is nobody's");
        board.consume(0, &[2, 3]);
        assert!(board.is_complete());
        assert_eq!(board.overlap_count(), 0);
    }

    #[test]
    fn epochs_may_differ_and_overlaps_are_counted() {
        let mut board = Board::new(3, Agreement::OwnEpochs);
        for member in 0..2 {
            board.arrive(member);
            board.enter(member, Some(member as i32));
        }
        board.consume(0, &[0, 1, 2]);
        assert!(!board.is_complete(), "the other one has less than its share");
        board.consume(1, &[2]);
        assert!(board.is_complete());
        assert_eq!(board.overlap_count(), 1);
        assert_eq!(board.victim(), Some(0));
        board.revoke(1, &[0]);
        assert!(board.is_complete(), "what is not one's own can not be revoked");
    }

    #[test]
    fn ranges_cover_every_partition_once() {
        for (partitions, members) in [(10, 3), (3, 10), (1000, 1000), (7, 1), (0, 2)] {
            let dealt: Vec<usize> =
                (0..members).flat_map(|index| range(partitions, members, index)).collect();
            assert_eq!(dealt, (0..partitions).collect::<Vec<_>>(), "{partitions} to {members}");
        }
    }
}
