//! The uniform assignor for members that subscribe to the same topics.
//!
//! Each member is to have the same number of partitions, the remainder going one each to some of
//! them. Members keep what they have up to that number; what is free goes to those below it, in
//! the order of the members (Kafka's `UniformHomogeneousAssignmentBuilder`).

use std::collections::BTreeMap;

use crate::base::Uuid;

use super::owners::{MemberIndex, NOBODY, Owners};
use super::{AssignError, Assignment, Member};

pub(super) fn assign(
    members: &[Member],
    partition_counts: &BTreeMap<Uuid, i32>,
) -> Result<Vec<Assignment>, AssignError> {
    let Some(first) = members.first() else { return Ok(Vec::new()) };
    let mut owners = Owners::new(first.topics, partition_counts)?;
    let total: usize = owners.topics().iter().map(|topic| topic.owners.len()).sum();
    owners.claim(members);

    let mut free = owners.unowned();
    let unfilled = keep_up_to_quota(&mut owners, members, total, &mut free);
    let mut free = free.into_iter();
    for (member, quota) in unfilled {
        for (topic, partition) in free.by_ref().take(quota) {
            if let Some(owner) = owners.owner(topic, partition) {
                *owner = member;
            }
        }
    }
    debug_assert!(free.next().is_none(), "quotas add up to the number of partitions");
    Ok(owners.into_assignments(members.len()))
}

/// Frees what members own beyond their share, and returns who is to get how many more.
fn keep_up_to_quota(
    owners: &mut Owners,
    members: &[Member],
    total: usize,
    free: &mut Vec<(usize, usize)>,
) -> Vec<(MemberIndex, usize)> {
    let quota_min = total / members.len();
    let mut extras_left = total % members.len();
    let mut unfilled = Vec::new();
    for (index, member) in (0..).zip(members) {
        let mut has_extra = extras_left > 0;
        let mut quota = quota_min + usize::from(has_extra);
        for (id, partitions) in member.target {
            let Some(topic) = owners.topic_index(*id) else { continue };
            for partition in partitions.iter().filter_map(|&number| usize::try_from(number).ok()) {
                let Some(owner) = owners.owner(topic, partition) else { continue };
                if *owner != index {
                    continue;
                }
                if quota > 0 {
                    quota -= 1;
                } else {
                    *owner = NOBODY;
                    free.push((topic, partition));
                }
            }
        }
        // A member that lacks its extra partition leaves it to others, as long as there are
        // enough of them left to take all the extra ones.
        let members_left = members.len() - index as usize;
        if quota > 0 && has_extra && members_left > extras_left {
            quota -= 1;
            has_extra = false;
        }
        if quota > 0 {
            unfilled.push((index, quota));
        }
        extras_left -= usize::from(has_extra);
    }
    unfilled
}
