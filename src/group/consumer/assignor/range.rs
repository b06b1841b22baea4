//! The range assignor: each topic's partitions are cut into consecutive ranges, one for each member
//! that subscribes to it, the first ones longer by one when they do not come out even.
//!
//! Members are served in the same order in every topic, static ones first, so that topics with
//! equal subscribers and partition counts are cut alike (Kafka's `RangeAssignor`). Nothing is
//! sticky but for static members, who come back into the same place.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::base::Uuid;

use super::{AssignError, Assignment, Member};

/// What is left of a topic.
#[derive(Debug, Default)]
struct Cut {
    partition_count: usize,
    subscriber_count: usize,
    served_count: usize,
    next: usize,
}

impl Cut {
    /// The next member's partitions.
    fn next_range(&mut self) -> std::ops::Range<usize> {
        let length = self.partition_count / self.subscriber_count;
        let has_extra = self.served_count < self.partition_count % self.subscriber_count;
        let start = self.next;
        self.next += length + usize::from(has_extra);
        self.served_count += 1;
        start..self.next
    }
}

pub(super) fn assign(
    members: &[Member],
    partition_counts: &BTreeMap<Uuid, i32>,
) -> Result<Vec<Assignment>, AssignError> {
    let mut cuts: BTreeMap<Uuid, Cut> = BTreeMap::new();
    for member in members {
        for id in member.topics {
            let cut = cuts.entry(*id).or_default();
            if cut.subscriber_count == 0 {
                let count = partition_counts.get(id).ok_or(AssignError::UnknownTopic(*id))?;
                cut.partition_count = usize::try_from(*count).unwrap_or(0);
            }
            cut.subscriber_count += 1;
        }
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&left, &right| compare(&members[left], &members[right]));

    let mut found = vec![Assignment::new(); members.len()];
    for index in order {
        for id in members[index].topics {
            let Some(cut) = cuts.get_mut(id) else { continue };
            let range = cut.next_range();
            if !range.is_empty() {
                found[index].insert(*id, range.map(|partition| partition as i32).collect());
            }
        }
    }
    Ok(found)
}

/// Static members by instance, then the others by member id.
fn compare(left: &Member, right: &Member) -> Ordering {
    match (left.instance, right.instance) {
        (Some(left), Some(right)) => compare_texts(left, right),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => compare_texts(left.id, right.id),
    }
}

/// The order of Java: by UTF-16 units.
fn compare_texts(left: &str, right: &str) -> Ordering {
    if left.is_ascii() && right.is_ascii() {
        left.cmp(right)
    } else {
        left.encode_utf16().cmp(right.encode_utf16())
    }
}
