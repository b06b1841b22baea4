//! A member of a consumer group: what it said about itself, what it has, what it is to give back.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Uuid;
use crate::group::consumer::assignor::Assignment;
use crate::group::message::{ConsumerDescribedMember, TopicPartitions};
use crate::group::record::{
    ClassicMemberValue, ConsumerMemberValue, CurrentMemberValue, CurrentTopicValue,
    TargetMemberValue, TargetTopicValue,
};
use crate::group::size;
use crate::metadata::Image;
use crate::protocol::Str;

/// Partitions by topic, each with the member epoch it was assigned at.
pub(super) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// The epoch of a member that joins.
pub(super) const EPOCH_JOIN: i32 = 0;
/// The epoch of a member that leaves.
pub(super) const EPOCH_LEAVE: i32 = -1;
/// The epoch of a static member that is away for a while.
pub(super) const EPOCH_LEAVE_STATIC: i32 = -2;

/// How far a member has come (`MemberState`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MemberState {
    /// It has what it is to have.
    Stable,
    /// It has to give partitions back first.
    Unrevoked,
    /// It waits for partitions that others have not given back.
    Unreleased,
    /// A newer coordinator's state.
    Unknown,
}

impl MemberState {
    fn to_wire(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
            Self::Unknown => 127,
        }
    }

    fn from_wire(raw: i8) -> Self {
        match raw {
            0 => Self::Stable,
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }
}

/// What a member said about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Said {
    pub(super) instance: Option<Str>,
    pub(super) rack: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) topics: BTreeSet<Str>,
    /// A regular expression for topics; never "".
    pub(super) expression: Option<Str>,
    /// How long it may take to give partitions back, in milliseconds; -1 when it never said.
    pub(super) rebalance_timeout_ms: i32,
    pub(super) assignor: Option<Str>,
    /// Set when it speaks the classic protocol.
    pub(super) classic: Option<ClassicMemberValue>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            instance: None,
            rack: None,
            client_id: Str::default(),
            client_host: Str::default(),
            topics: BTreeSet::new(),
            expression: None,
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
}

impl Said {
    pub(super) fn to_value(&self) -> ConsumerMemberValue {
        ConsumerMemberValue {
            instance: self.instance.clone(),
            rack: self.rack.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topics: self.topics.iter().cloned().collect(),
            // Kafka's word for none.
            expression: Some(self.expression.clone().unwrap_or_default()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            assignor: self.assignor.clone(),
            classic: self.classic.clone(),
        }
    }

    /// What it takes up in memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        let names = self.client_id.len() + self.client_host.len();
        let optional = [&self.instance, &self.rack, &self.expression, &self.assignor];
        let texts = size::of_texts(optional.into_iter().flatten().chain(&self.topics));
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols);
        names + texts + size::of_protocols(protocols.map(|one| (&one.name, &one.metadata)))
    }

    pub(super) fn from_value(value: &ConsumerMemberValue) -> Self {
        Self {
            instance: value.instance.clone(),
            rack: value.rack.clone(),
            client_id: value.client_id.clone(),
            client_host: value.client_host.clone(),
            topics: value.topics.iter().cloned().collect(),
            expression: value.expression.clone().filter(|expression| !expression.is_empty()),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            assignor: value.assignor.clone(),
            classic: value.classic.clone(),
        }
    }
}

/// What a member has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Current {
    pub(super) epoch: i32,
    /// The epoch before, should the answer with the present one be lost.
    pub(super) previous_epoch: i32,
    pub(super) state: MemberState,
    pub(super) assigned: Owned,
    /// What it is to give back.
    pub(super) revoking: Owned,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            epoch: EPOCH_JOIN,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }
}

impl Current {
    /// What is left of a member whose current assignment was deleted.
    pub(super) fn left() -> Self {
        Self { epoch: EPOCH_LEAVE, previous_epoch: EPOCH_LEAVE, ..Self::default() }
    }

    /// A static member's part while it is away: kept for it, and older than any epoch.
    pub(super) fn away(&self) -> Self {
        let reset = |(topic, partitions): (&Uuid, &BTreeMap<i32, i32>)| {
            (*topic, partitions.keys().map(|at| (*at, 0)).collect())
        };
        Self {
            epoch: EPOCH_LEAVE_STATIC,
            assigned: self.assigned.iter().map(reset).collect(),
            revoking: Owned::new(),
            ..self.clone()
        }
    }

    /// What it takes up in memory, about, with the partitions' owners.
    pub(super) fn size_bytes(&self) -> usize {
        size::of_owned(&self.assigned) + size::of_owned(&self.revoking)
    }

    pub(super) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// Everything it has, what it is to give back included.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        let all = self.assigned.iter().chain(&self.revoking);
        all.flat_map(|(topic, partitions)| partitions.keys().map(|at| (*topic, *at)))
    }

    /// The same by topic, in order.
    pub(super) fn by_topic(&self) -> Assignment {
        let mut by_topic = Assignment::new();
        for (topic, partition) in self.partitions() {
            by_topic.entry(topic).or_default().push(partition);
        }
        by_topic.values_mut().for_each(|partitions| partitions.sort_unstable());
        by_topic
    }

    /// The epoch a partition of its was assigned at.
    pub(super) fn assigned_at(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let find = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        find(&self.assigned).or_else(|| find(&self.revoking))
    }

    pub(super) fn to_value(&self) -> CurrentMemberValue {
        CurrentMemberValue {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            state: self.state.to_wire(),
            assigned: owned_values(&self.assigned),
            revoking: owned_values(&self.revoking),
        }
    }

    pub(super) fn from_value(value: &CurrentMemberValue) -> Self {
        Self {
            epoch: value.epoch,
            previous_epoch: value.previous_epoch,
            state: MemberState::from_wire(value.state),
            assigned: owned_from(&value.assigned, value.epoch),
            revoking: owned_from(&value.revoking, value.epoch),
        }
    }
}

fn owned_values(owned: &Owned) -> Vec<CurrentTopicValue> {
    let value = |(topic, partitions): (&Uuid, &BTreeMap<i32, i32>)| CurrentTopicValue {
        topic: *topic,
        partitions: partitions.keys().copied().collect(),
        epochs: partitions.values().copied().collect(),
    };
    owned.iter().map(value).collect()
}

fn owned_from(values: &[CurrentTopicValue], epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for value in values {
        owned.entry(value.topic).or_default().extend(value.with_epochs(epoch));
    }
    owned
}

/// Partitions as they are in a target assignment's record.
pub(super) fn target_value(partitions: &Assignment) -> TargetMemberValue {
    let topic = |(topic, partitions): (&Uuid, &Vec<i32>)| TargetTopicValue {
        topic: *topic,
        partitions: partitions.clone(),
    };
    TargetMemberValue { topics: partitions.iter().map(topic).collect() }
}

pub(super) fn target_from(value: &TargetMemberValue) -> Assignment {
    let mut assignment = Assignment::new();
    for topic in value.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let partitions = assignment.entry(topic.topic).or_default();
        partitions.extend(&topic.partitions);
        partitions.sort_unstable();
        partitions.dedup();
    }
    assignment
}

/// A member of a consumer group (`ConsumerGroupMember`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Member {
    pub(super) said: Said,
    pub(super) current: Current,
}

impl Member {
    /// Whether it speaks the classic protocol.
    pub(super) fn is_classic(&self) -> bool {
        self.said.classic.is_some()
    }

    /// As shown to admins.
    pub(super) fn described(
        &self,
        id: &Str,
        target: Option<&Assignment>,
        image: &Image,
    ) -> ConsumerDescribedMember {
        ConsumerDescribedMember {
            id: id.clone(),
            instance: self.said.instance.clone(),
            rack: self.said.rack.clone(),
            epoch: self.current.epoch,
            client_id: self.said.client_id.clone(),
            client_host: self.said.client_host.clone(),
            topics: self.said.topics.iter().cloned().collect(),
            expression: self.said.expression.clone().unwrap_or_default(),
            assignment: named(&self.current.by_topic(), image),
            target: target.map(|target| named(target, image)).unwrap_or_default(),
            is_classic: self.is_classic(),
        }
    }
}

/// Partitions with the names of their topics; topics that are gone are left out.
fn named(partitions: &Assignment, image: &Image) -> Vec<TopicPartitions> {
    let named = |(id, partitions): (&Uuid, &Vec<i32>)| {
        let topic = image.topic(*id)?;
        let name = Str::from_string(topic.name.to_string());
        Some(TopicPartitions { id: *id, name, partitions: partitions.clone() })
    };
    partitions.iter().filter_map(named).collect()
}
