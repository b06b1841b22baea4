//! Groups that go over from one protocol to the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Timestamp, Uuid};
use crate::group::classic::convert::Part;
use crate::group::classic::subscription::{self, Subscription};
use crate::group::classic::{Classic, State};
use crate::group::consumer::assignor::Assignment;
use crate::group::consumer::classic::assignment_bytes;
use crate::group::consumer::member::{Current, Member, MemberState, Said, target_value};
use crate::group::consumer::{Consumer, Downgrade, Step};
use crate::group::message::Refusal;
use crate::group::record::{
    ClassicMemberValue, ClassicProtocolValue, ConsumerGroupValue, MemberKey, Record,
    RegularExpressionKey, RegularExpressionValue, TargetEpochValue,
};
use crate::metadata::Image;
use crate::protocol::{ErrorCode, Str};

impl Consumer {
    /// A classic group with members as a consumer group; its records are added to the step's.
    ///
    /// Refused when the policy forbids it, and when what the members said can not be carried over.
    pub(in crate::group) fn from_classic(
        step: &mut Step<'_>,
        classic: &Classic,
    ) -> Result<Self, Refusal> {
        let refused = |why: &str| {
            let id = &step.id;
            let text =
                format!("Cannot upgrade classic group {id} to consumer group because {why}.");
            Refusal::new(ErrorCode::GroupIdNotFound, text)
        };
        if !step.settings.consumer.migration.may_upgrade() {
            return Err(refused("online upgrade is disabled"));
        }
        if !classic.is_consumer() {
            return Err(refused("the group does not use the consumer embedded protocol"));
        }
        let parts = classic.parts();
        if parts.len() > step.settings.consumer.size_max {
            return Err(refused("the group size exceeds the consumer group maximum size"));
        }
        let generation = classic.generation();
        let mut group = Self { epoch: generation, target_epoch: generation, ..Self::default() };
        let mut taken = BTreeSet::new();
        for part in parts {
            let member = upgraded(&part, generation, step.image, &mut taken).map_err(refused)?;
            group.adopt(step, &part.id, &member);
        }
        // One that was rebalancing has parts nobody has: whoever joins finds other topics than
        // these, and the group assigns anew. (Kafka counts on a new subscription, which a static
        // member that comes back does not bring.)
        if classic.state() == State::Stable {
            group.metadata_hash = group.hash_topics(step);
        }
        let mut records = vec![Record::Group(step.id.clone(), None)];
        group.push_records(&step.id, &mut records);
        step.records.append(&mut records);
        let ids: Vec<Str> = group.members.keys().cloned().collect();
        for id in ids {
            group.renew_session(step, &id);
        }
        Ok(group)
    }

    fn adopt(&mut self, step: &Step<'_>, id: &Str, member: &Member) {
        let key = step.member_key(id);
        let owned = member.current.assigned.iter();
        let target: Assignment =
            owned.map(|(topic, all)| (*topic, all.keys().copied().collect())).collect();
        self.apply(&Record::ConsumerMember(key.clone(), Some(member.said.to_value())));
        self.apply(&Record::TargetMember(key.clone(), Some(target_value(&target))));
        self.apply(&Record::CurrentMember(key, Some(member.current.to_value())));
    }

    /// The group as records, in Kafka's order.
    pub(super) fn push_records(&self, id: &Str, records: &mut Vec<Record>) {
        let key = |member: &Str| MemberKey { group: id.clone(), member: member.clone() };
        for (member, one) in &self.members {
            records.push(Record::ConsumerMember(key(member), Some(one.said.to_value())));
        }
        for (expression, resolved) in &self.resolved {
            let value = RegularExpressionValue {
                topics: resolved.topics.iter().cloned().collect(),
                version: resolved.version,
                resolved_at_ms: resolved.resolved_at_ms,
            };
            let key = RegularExpressionKey { group: id.clone(), expression: expression.clone() };
            records.push(Record::RegularExpression(key, Some(value)));
        }
        let value = ConsumerGroupValue { epoch: self.epoch, metadata_hash: self.metadata_hash };
        records.push(Record::ConsumerGroup(id.clone(), Some(value)));
        for (member, target) in &self.target {
            records.push(Record::TargetMember(key(member), Some(target_value(target))));
        }
        let value =
            TargetEpochValue { epoch: self.target_epoch, assigned_at_ms: self.target_at_ms };
        records.push(Record::TargetEpoch(id.clone(), Some(value)));
        for (member, one) in &self.members {
            records.push(Record::CurrentMember(key(member), Some(one.current.to_value())));
        }
    }

    /// The records that delete the group.
    pub(in crate::group) fn tombstones(&self, id: &Str) -> Vec<Record> {
        let key = |member: &Str| MemberKey { group: id.clone(), member: member.clone() };
        let mut records = Vec::new();
        let members = || self.members.keys().map(key);
        records.extend(members().map(|key| Record::CurrentMember(key, None)));
        records.extend(members().map(|key| Record::TargetMember(key, None)));
        records.push(Record::TargetEpoch(id.clone(), None));
        records.extend(members().map(|key| Record::ConsumerMember(key, None)));
        records.extend(self.resolved.keys().map(|expression| {
            let key = RegularExpressionKey { group: id.clone(), expression: expression.clone() };
            Record::RegularExpression(key, None)
        }));
        records.push(Record::ConsumerTopics(id.clone(), None));
        records.push(Record::ConsumerGroup(id.clone(), None));
        records
    }

    /// Whether the group, all of whose members speak the classic protocol, may go over to it.
    pub(super) fn may_downgrade(&self, step: &Step<'_>) -> bool {
        let count = self.members.len();
        count > 0 && self.classic_count == count && is_downgrade_allowed(step, count)
    }

    /// Whether the group may go over once this member comes back with the classic protocol.
    pub(super) fn may_downgrade_for(&self, step: &Step<'_>, id: &Str) -> bool {
        let count = self.members.len();
        let is_last = self.members.get(id).is_some_and(|member| !member.is_classic());
        is_last && self.classic_count + 1 == count && is_downgrade_allowed(step, count)
    }

    /// The group as a classic one. Its assignment is the target, which members are told of, or
    /// before a rebalance what they have: should the group come back before they did, nobody gets
    /// what another has not given back.
    ///
    /// Its members are those of the classic protocol; there must be no others.
    pub(in crate::group) fn to_classic(
        &self,
        wall: Timestamp,
        image: &Image,
        downgrade: Downgrade,
    ) -> Classic {
        let part = |(id, member): (&Str, &Member)| {
            let classic = member.said.classic.clone()?;
            let protocols = classic.protocols.into_iter().map(|one| (one.name, one.metadata));
            Some(Part {
                id: id.clone(),
                instance: member.said.instance.clone(),
                client_id: member.said.client_id.clone(),
                client_host: member.said.client_host.clone(),
                rebalance_timeout_ms: member.said.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                protocols: protocols.collect(),
                metadata: bytes::Bytes::new(),
                assignment: bytes::Bytes::new(),
            })
        };
        let parts = self.members.iter().filter_map(part).collect();
        Classic::from_parts(self.epoch, wall, parts, |id, metadata| {
            let assignment = match downgrade {
                Downgrade::Keep => self.target.get(id).cloned().unwrap_or_default(),
                Downgrade::Rebalance => self.has(id),
            };
            assignment_bytes(&assignment, subscription::version(metadata), image)
        })
    }

    /// What a member has, what it is to give back included.
    fn has(&self, id: &Str) -> Assignment {
        self.members.get(id).map(|member| member.current.by_topic()).unwrap_or_default()
    }
}

fn is_downgrade_allowed(step: &Step<'_>, count: usize) -> bool {
    step.settings.consumer.migration.may_downgrade() && count <= step.settings.size_max
}

/// A member of a classic group as one of a consumer group. Nobody gets what is `taken`.
fn upgraded(
    part: &Part,
    generation: i32,
    image: &Image,
    taken: &mut BTreeSet<(Uuid, i32)>,
) -> Result<Member, &'static str> {
    const MALFORMED: &str = "the embedded consumer protocol is malformed";
    let subscription = Subscription::parse(part.metadata.clone()).map_err(|_| MALFORMED)?;
    let mut current = Current {
        epoch: generation,
        previous_epoch: generation,
        state: MemberState::Stable,
        ..Current::default()
    };
    if !part.assignment.is_empty() {
        let decoded = subscription::decode_assignment(part.assignment.clone());
        let decoded = decoded.map_err(|_| MALFORMED)?;
        if decoded.has_user_data {
            return Err("an unsupported custom assignor is in use. Please refer to the \
                        documentation or switch to a default assignor before re-attempting the \
                        upgrade");
        }
        for (name, partitions) in decoded.topics {
            let Some(topic) = image.topic_named(&name) else { continue };
            let free = partitions.into_iter().filter(|at| taken.insert((topic.id, *at)));
            let owned: BTreeMap<i32, i32> = free.map(|at| (at, generation)).collect();
            if !owned.is_empty() {
                current.assigned.entry(topic.id).or_default().extend(owned);
            }
        }
    }
    let protocols = part.protocols.iter();
    let protocols = protocols
        .map(|(name, metadata)| ClassicProtocolValue {
            name: name.clone(),
            metadata: metadata.clone(),
        })
        .collect();
    let session_timeout_ms = part.session_timeout_ms;
    let said = Said {
        instance: part.instance.clone(),
        rack: subscription.rack,
        client_id: part.client_id.clone(),
        client_host: part.client_host.clone(),
        topics: subscription.topics.into_iter().collect(),
        rebalance_timeout_ms: part.rebalance_timeout_ms,
        classic: Some(ClassicMemberValue { session_timeout_ms, protocols }),
        ..Said::default()
    };
    Ok(Member { said, current })
}
