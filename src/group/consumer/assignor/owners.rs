//! Who owns which partition, while an assignment is made.

use std::collections::BTreeMap;

use crate::base::Uuid;

use super::{AssignError, Assignment, Member};

/// A member's place among the members of the call.
pub(super) type MemberIndex = u32;

/// In the place of an owner: there is none.
pub(super) const NOBODY: MemberIndex = MemberIndex::MAX;

/// A topic's partitions.
#[derive(Debug)]
pub(super) struct Topic {
    /// The topic's id.
    pub(super) id: Uuid,
    /// The owner of each partition, or [`NOBODY`].
    pub(super) owners: Vec<MemberIndex>,
}

/// The owners of the partitions of all topics subscribed to.
///
/// Invariant: topics are in the order of their ids.
#[derive(Debug)]
pub(super) struct Owners {
    topics: Vec<Topic>,
}

impl Owners {
    /// Partitions without owners; `ids` are in ascending order.
    pub(super) fn new(
        ids: &[Uuid],
        partition_counts: &BTreeMap<Uuid, i32>,
    ) -> Result<Self, AssignError> {
        let topic = |&id: &Uuid| {
            let count = partition_counts.get(&id).ok_or(AssignError::UnknownTopic(id))?;
            Ok(Topic { id, owners: vec![NOBODY; usize::try_from(*count).unwrap_or(0)] })
        };
        Ok(Self { topics: ids.iter().map(topic).collect::<Result<_, _>>()? })
    }

    /// The topics.
    pub(super) fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The place of a topic in [`Self::topics`].
    pub(super) fn topic_index(&self, id: Uuid) -> Option<usize> {
        self.topics.binary_search_by(|topic| topic.id.cmp(&id)).ok()
    }

    /// The owner of a partition; `None` when there is no such partition.
    pub(super) fn owner(&mut self, topic: usize, partition: usize) -> Option<&mut MemberIndex> {
        self.topics.get_mut(topic)?.owners.get_mut(partition)
    }

    /// Gives each member what it was to have, of the topics it subscribes to.
    pub(super) fn claim(&mut self, members: &[Member]) {
        for (member_index, member) in (0..).zip(members) {
            for (id, partitions) in member.target {
                if member.topics.binary_search(id).is_err() {
                    continue;
                }
                let Some(topic) = self.topic_index(*id) else { continue };
                let owners = &mut self.topics[topic].owners;
                for &partition in partitions {
                    let place = usize::try_from(partition).ok().and_then(|at| owners.get_mut(at));
                    if let Some(owner) = place.filter(|owner| **owner == NOBODY) {
                        *owner = member_index;
                    }
                }
            }
        }
    }

    /// Partitions nobody owns, as topic and partition numbers in ascending order.
    pub(super) fn unowned(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (topic_index, topic) in self.topics.iter().enumerate() {
            let unowned = topic.owners.iter().enumerate().filter(|(_, owner)| **owner == NOBODY);
            found.extend(unowned.map(|(partition, _)| (topic_index, partition)));
        }
        found
    }

    /// What each of the members owns.
    pub(super) fn into_assignments(self, member_count: usize) -> Vec<Assignment> {
        let mut found: Vec<Vec<(Uuid, Vec<i32>)>> = vec![Vec::new(); member_count];
        for topic in &self.topics {
            for (partition, &owner) in (0..).zip(&topic.owners) {
                let Some(owned) = found.get_mut(owner as usize) else { continue };
                match owned.last_mut().filter(|(id, _)| *id == topic.id) {
                    Some((_, partitions)) => partitions.push(partition),
                    None => owned.push((topic.id, vec![partition])),
                }
            }
        }
        found.into_iter().map(|owned| owned.into_iter().collect()).collect()
    }
}
