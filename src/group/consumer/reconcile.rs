//! The next thing a member is told to have (`CurrentAssignmentBuilder`).
//!
//! ```text
//!              something to give back               given back, all free
//!   Stable ---------------------------> Unrevoked -----------------------> Stable
//!     |  ^                                  |  given back, some not free     ^
//!     |  |          all free                v                                |
//!     |  +----------------------------- Unreleased --------------------------+
//!     +------ some not free ----------------^
//! ```
//!
//! A member keeps its epoch until it gave back what others are to get, and gets a partition only
//! when nobody has it: so a partition never has two owners.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Uuid;
use crate::group::consumer::assignor::Assignment;
use crate::group::consumer::member::{Current, MemberState, Owned};

/// What a member's next assignment depends on.
pub(super) struct Reconciliation<'a> {
    pub(super) current: &'a Current,
    pub(super) target_epoch: i32,
    pub(super) target: &'a Assignment,
    /// Topics it subscribes to, as far as they exist, in ascending order.
    pub(super) subscribed: &'a [Uuid],
    /// Whether its subscription changed just now.
    pub(super) subscription_changed: bool,
    /// What it says it has, if it said so.
    pub(super) owned: Option<&'a [(Uuid, Vec<i32>)]>,
    /// Whether somebody has a partition.
    pub(super) is_owned: &'a dyn Fn(Uuid, i32) -> bool,
}

impl Reconciliation<'_> {
    /// What the member is to have now; `None` when nothing changes.
    pub(super) fn next(&self) -> Option<Current> {
        let current = self.current;
        let next = match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => self.advance(),
            MemberState::Stable if self.subscription_changed => self.shrink(),
            MemberState::Stable => return None,
            MemberState::Unrevoked if !self.still_owns(&current.revoking) => self.advance(),
            MemberState::Unrevoked if self.subscription_changed => self.shrink(),
            MemberState::Unrevoked => return None,
            MemberState::Unreleased | MemberState::Unknown => self.advance(),
        };
        (next != *current).then_some(next)
    }

    /// Whether the member may still have one of these; it may unless it said otherwise.
    fn still_owns(&self, revoking: &Owned) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, partitions)| {
            let revoking = revoking.get(topic);
            revoking.is_some_and(|revoking| partitions.iter().any(|at| revoking.contains_key(at)))
        })
    }

    /// Takes topics away that the member does not subscribe to any more; its epoch stays.
    fn shrink(&self) -> Current {
        let current = self.current;
        let mut next = current.clone();
        let is_gone = |topic: &Uuid| self.subscribed.binary_search(topic).is_err();
        let gone: Vec<Uuid> = current.assigned.keys().copied().filter(is_gone).collect();
        if gone.is_empty() {
            return next;
        }
        for topic in gone {
            let partitions = next.assigned.remove(&topic).unwrap_or_default();
            next.revoking.entry(topic).or_default().extend(partitions);
        }
        next.previous_epoch = current.epoch;
        if self.still_owns(&next.revoking) {
            next.state = MemberState::Unrevoked;
        } else {
            next.revoking.clone_from(&current.revoking);
        }
        next
    }

    /// Goes towards the target, as far as the others have given back what it is to get.
    fn advance(&self) -> Current {
        let current = self.current;
        let nothing = (Vec::new(), BTreeMap::new());
        let (mut kept, mut revoking) = (Owned::new(), Owned::new());
        let mut free: Vec<(Uuid, i32)> = Vec::new();
        let mut waits = false;
        let topics: BTreeSet<Uuid> =
            self.target.keys().chain(current.assigned.keys()).copied().collect();
        for topic in topics {
            let is_subscribed = self.subscribed.binary_search(&topic).is_ok();
            let target = self.target.get(&topic).filter(|_| is_subscribed).unwrap_or(&nothing.0);
            let assigned = current.assigned.get(&topic).unwrap_or(&nothing.1);
            for (partition, epoch) in assigned {
                let stays = target.binary_search(partition).is_ok();
                let list = if stays { &mut kept } else { &mut revoking };
                list.entry(topic).or_default().insert(*partition, *epoch);
            }
            for partition in target.iter().filter(|at| !assigned.contains_key(at)) {
                let is_own =
                    current.revoking.get(&topic).is_some_and(|own| own.contains_key(partition));
                if is_own || !(self.is_owned)(topic, *partition) {
                    free.push((topic, *partition));
                } else {
                    waits = true;
                }
            }
        }
        let (epoch, previous_epoch) = (current.epoch, current.epoch);
        if !revoking.is_empty() && self.still_owns(&revoking) {
            let state = MemberState::Unrevoked;
            return Current { epoch, previous_epoch, state, assigned: kept, revoking };
        }
        for (topic, partition) in free {
            kept.entry(topic).or_default().insert(partition, self.target_epoch);
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch,
            state: if waits { MemberState::Unreleased } else { MemberState::Stable },
            assigned: kept,
            revoking: Owned::new(),
        }
    }
}
