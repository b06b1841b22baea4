//! Server-side assignors: which member of a consumer group is to have which partition (KIP-848).
//!
//! ```text
//! members, with what they subscribe to and were to have -> assign -> what each is to have now
//! topics, with their partition counts                   ->
//! ```
//!
//! Every partition of every subscribed topic goes to exactly one of the members that subscribe to
//! it. The same input gives the same output, and the output of Apache Kafka where that does not
//! hang on the order of its hash maps: members come in the order the caller gives them in, topics
//! in the order of their ids.
//!
//! - `range`: consecutive partitions, the same numbers of each topic to one member
//! - `uniform`: even and sticky, for members that all subscribe to the same topics
//! - `mixed`: even and sticky, for members that subscribe to different topics

mod mixed;
mod owners;
mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::BTreeMap;
use std::fmt;

use crate::base::Uuid;

/// Partitions by topic, in ascending order and without empty lists.
pub type Assignment = BTreeMap<Uuid, Vec<i32>>;

/// A member of the group, as far as assignors know it.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The member id.
    pub id: &'a str,
    /// The instance id of a static member.
    pub instance: Option<&'a str>,
    /// The existing topics it subscribes to, in ascending order, each once.
    pub topics: &'a [Uuid],
    /// What it was to have so far. What does not exist (any more) is ignored; of a partition that
    /// two members were to have, the first one's claim counts.
    pub target: &'a Assignment,
}

/// Whether the members of a group subscribe to the same topics (Kafka's `SubscriptionType`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subscriptions {
    /// All subscribe to the same topics.
    Homogeneous,
    /// They do not.
    Heterogeneous,
}

impl Subscriptions {
    /// What the members' subscriptions are; homogeneous when there are no members.
    ///
    /// Kafka compares the names subscribed to, those of topics that do not exist included: a
    /// coordinator that knows the names can be stricter.
    pub fn of(members: &[Member]) -> Self {
        let Some(first) = members.first() else { return Self::Homogeneous };
        if members.iter().all(|member| member.topics == first.topics) {
            Self::Homogeneous
        } else {
            Self::Heterogeneous
        }
    }
}

/// Why no assignment could be made (Kafka's `PartitionAssignorException`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AssignError {
    /// A member subscribes to a topic that does not exist.
    UnknownTopic(Uuid),
}

impl fmt::Display for AssignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopic(id) => write!(f, "a member subscribes to the unknown topic {id}"),
        }
    }
}

impl std::error::Error for AssignError {}

/// An assignor of the broker's own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Assignor {
    /// As even as can be, and members keep what they have as long as that is even
    /// (`UniformAssignor`).
    Uniform,
    /// Consecutive partitions by the order of the members, for topics that are partitioned alike;
    /// not sticky (`RangeAssignor`).
    Range,
}

impl Assignor {
    /// All of them, in the order of Kafka's default for `group.consumer.assignors`: the first is
    /// that of members that ask for none.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Its name, as members ask for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each member is to have, in the order of `members`.
    ///
    /// `partition_counts` holds the number of partitions of every topic subscribed to.
    pub fn assign(
        self,
        members: &[Member],
        subscriptions: Subscriptions,
        partition_counts: &BTreeMap<Uuid, i32>,
    ) -> Result<Vec<Assignment>, AssignError> {
        debug_assert!(members.iter().all(|member| member.topics.is_sorted()));
        match (self, subscriptions) {
            (Self::Range, _) => range::assign(members, partition_counts),
            (Self::Uniform, Subscriptions::Homogeneous) => {
                uniform::assign(members, partition_counts)
            }
            (Self::Uniform, Subscriptions::Heterogeneous) => {
                mixed::assign(members, partition_counts)
            }
        }
    }
}
