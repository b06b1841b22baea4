//! Heartbeats of members that speak the consumer protocol: they join, report, and leave.

use std::collections::BTreeSet;

use crate::base::Uuid;
use crate::group::Settings;
use crate::group::consumer::member::{
    Current, EPOCH_JOIN, EPOCH_LEAVE, EPOCH_LEAVE_STATIC, Member, MemberState, Owned, Said,
    target_value,
};
use crate::group::consumer::regex::TopicPattern;
use crate::group::consumer::{Consumer, EPOCH_NONE, Step};
use crate::group::message::{ConsumerBeat, ConsumerHeartbeat, Refusal};
use crate::group::record::{Record, kept};
use crate::protocol::{ErrorCode, Str};

/// The version of ConsumerGroupHeartbeat from which members bring an id of their own.
const VERSION_OWN_ID: i16 = 1;

impl ConsumerHeartbeat {
    /// Whether the member leaves, for good or for a while.
    pub(in crate::group) fn leaves(&self) -> bool {
        matches!(self.epoch, EPOCH_LEAVE | EPOCH_LEAVE_STATIC)
    }

    /// Whether the member joins, or joins again.
    pub(in crate::group) fn joins(&self) -> bool {
        self.epoch == EPOCH_JOIN
    }

    /// Whether it says everything a member can say.
    fn is_full(&self) -> bool {
        self.rebalance_timeout_ms.is_some()
            && (self.topics.is_some() || self.expression.is_some())
            && self.owned.is_some()
    }

    /// What can be told from the request alone (`GroupCoordinatorService`).
    pub(in crate::group) fn check(&self, settings: &Settings) -> Result<(), Refusal> {
        let invalid = |text: &str| Err(Refusal::new(ErrorCode::InvalidRequest, text));
        let is_blank = |text: &Str| text.trim().is_empty();
        let needs_id =
            self.version >= VERSION_OWN_ID || self.epoch > 0 || self.epoch == EPOCH_LEAVE;
        if needs_id && is_blank(&self.member) {
            return invalid("MemberId can't be empty.");
        }
        if is_blank(&self.group) {
            return invalid("GroupId can't be empty.");
        }
        if self.instance.as_ref().is_some_and(is_blank) {
            return invalid("InstanceId can't be empty.");
        }
        if self.rack.as_ref().is_some_and(is_blank) {
            return invalid("RackId can't be empty.");
        }
        match self.epoch {
            EPOCH_JOIN if self.rebalance_timeout_ms.is_none() => {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            EPOCH_JOIN if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            EPOCH_JOIN if self.topics.is_none() && self.expression.is_none() => {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                     (re-)joining.",
                );
            }
            EPOCH_LEAVE_STATIC if self.instance.is_none() => {
                return invalid("InstanceId can't be null.");
            }
            ..EPOCH_LEAVE_STATIC => return invalid("MemberEpoch is invalid."),
            _ => {}
        }
        let supported = &settings.consumer.assignors;
        match &self.assignor {
            Some(asked) if !supported.contains(asked) => {
                let names: Vec<&str> = supported.iter().map(|name| &**name).collect();
                let names = names.join(", ");
                let text = format!(
                    "ServerAssignor {asked} is not supported. Supported assignors: {names}."
                );
                Err(Refusal::new(ErrorCode::UnsupportedAssignor, text))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a member's subscription did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Change {
    /// It names other topics.
    pub(super) names: bool,
    /// It has another expression.
    pub(super) expression: bool,
    /// Its expression is one whose topics were known.
    pub(super) was_resolved: bool,
}

impl Consumer {
    /// A heartbeat of a member that does not leave.
    pub(in crate::group) fn heartbeat(
        &mut self,
        step: &mut Step<'_>,
        heartbeat: &ConsumerHeartbeat,
    ) -> Result<ConsumerBeat, Refusal> {
        self.check_room(step, Some(&heartbeat.member).filter(|member| !member.is_empty()))?;
        let id = match heartbeat.member.is_empty() {
            true => new_id(heartbeat.random),
            false => kept(&heartbeat.member),
        };
        let replaced = match &heartbeat.instance {
            None => self.check_dynamic(step, heartbeat, &id)?,
            Some(instance) => self.check_static(heartbeat, &id, instance)?,
        };
        self.check_expression(heartbeat)?;
        let said = self.restated(replaced.as_ref().unwrap_or(&id), heartbeat);
        if let Err(error) = self.check_said(step, &id, &said) {
            self.renew_session(step, &id);
            return Err(error.into());
        }
        // From here on all succeeds that can be written: what is written counts at once.
        let members = [&id].into_iter().chain(&replaced);
        let before = self.before(members, heartbeat.instance.as_ref());
        if let Some(old) = &replaced {
            self.replace_member(step, old, &id);
        }
        let change = self.restate(step, &id, said);
        let owned = heartbeat.owned.as_deref();
        let is_reassigned = self.follow_subscription(step, &id, change, owned);
        let fits = self.check_fits(step, before);
        // It was heard of, whatever becomes of what it said.
        self.renew_session(step, &id);
        fits?;
        let shows = heartbeat.joins() || heartbeat.is_full() || is_reassigned;
        let current = self.members.get(&id).map(|member| &member.current);
        let assignment = current.filter(|_| shows).map(|current| listed(&current.assigned));
        let epoch = current.map_or(EPOCH_LEAVE, |current| current.epoch);
        let heartbeat_interval_ms = step.config.heartbeat_interval_ms(step.settings);
        Ok(ConsumerBeat { member: id, epoch, heartbeat_interval_ms, assignment })
    }

    /// A member leaves; a static one may do so for a while.
    pub(in crate::group) fn leave(
        &mut self,
        step: &mut Step<'_>,
        heartbeat: &ConsumerHeartbeat,
    ) -> Result<ConsumerBeat, Refusal> {
        let id = kept(&heartbeat.member);
        let before = self.before([&id], None);
        match &heartbeat.instance {
            None => {
                self.find_member(&id, &step.id)?;
                self.fence(step, &BTreeSet::from([id.clone()]), true);
            }
            Some(instance) => {
                let away = self.find_static(&id, instance)?.current.away();
                if heartbeat.epoch == EPOCH_LEAVE_STATIC {
                    let key = step.member_key(&id);
                    self.write(step, Record::CurrentMember(key, Some(away.to_value())));
                } else {
                    self.fence(step, &BTreeSet::from([id.clone()]), true);
                }
            }
        }
        self.check_fits(step, before)?;
        let (epoch, heartbeat_interval_ms, assignment) = (heartbeat.epoch, 0, None);
        Ok(ConsumerBeat { member: id, epoch, heartbeat_interval_ms, assignment })
    }

    pub(super) fn check_room(&self, step: &Step<'_>, id: Option<&Str>) -> Result<(), Refusal> {
        let size_max = step.settings.consumer.size_max;
        let is_member = id.is_some_and(|id| self.members.contains_key(id));
        if self.members.len() < size_max || is_member {
            return Ok(());
        }
        let text =
            format!("The consumer group has reached its maximum capacity of {size_max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, text))
    }

    fn check_dynamic(
        &self,
        step: &Step<'_>,
        heartbeat: &ConsumerHeartbeat,
        id: &Str,
    ) -> Result<Option<Str>, Refusal> {
        if self.members.contains_key(id) || !heartbeat.joins() {
            check_epoch(self.find_member(id, &step.id)?, heartbeat)?;
        }
        Ok(None)
    }

    /// The id of the member whose place it takes, if it takes one's.
    fn check_static(
        &self,
        heartbeat: &ConsumerHeartbeat,
        id: &Str,
        instance: &Str,
    ) -> Result<Option<Str>, Refusal> {
        if !heartbeat.joins() {
            check_epoch(self.find_static(id, instance)?, heartbeat)?;
            return Ok(None);
        }
        let Some(old) = self.statics.get(instance) else { return Ok(None) };
        let is_released = self
            .members
            .get(old)
            .is_none_or(|member| member.is_classic() || member.current.epoch == EPOCH_LEAVE_STATIC);
        if is_released {
            return Ok(Some(old.clone()));
        }
        let text = format!(
            "Static member {id} with instance id {instance} cannot join the group because the \
             instance id is owned by {old} member."
        );
        Err(Refusal::new(ErrorCode::UnreleasedInstanceId, text))
    }

    /// The static member that says it is `id`.
    pub(super) fn find_static(&self, id: &Str, instance: &Str) -> Result<&Member, Refusal> {
        let known = self.statics.get(instance);
        let Some((known, member)) = known.and_then(|id| self.members.get_key_value(id)) else {
            let text = format!("Instance id {instance} is unknown.");
            return Err(Refusal::new(ErrorCode::UnknownMemberId, text));
        };
        if known == id {
            return Ok(member);
        }
        let text =
            format!("Static member {id} with instance id {instance} was fenced by member {known}.");
        Err(Refusal::new(ErrorCode::FencedInstanceId, text))
    }

    /// A new expression must be a valid one.
    fn check_expression(&self, heartbeat: &ConsumerHeartbeat) -> Result<(), Refusal> {
        let new = heartbeat.expression.as_ref().filter(|expression| !expression.is_empty());
        let Some(expression) = new.filter(|new| !self.expressions.contains_key(*new)) else {
            return Ok(());
        };
        let Err(error) = TopicPattern::new(expression) else { return Ok(()) };
        let text = error.to_string();
        Err(Refusal::new(ErrorCode::InvalidRegularExpression, text))
    }

    /// A static member came back under another id: it takes over what it had.
    pub(super) fn replace_member(&mut self, step: &mut Step<'_>, old: &Str, new: &Str) {
        let Some(member) = self.members.get(old).cloned() else { return };
        let target = self.target.get(old).cloned().unwrap_or_default();
        self.remove_member(step, old);
        self.write_said(step, new, &member.said);
        let key = step.member_key(new);
        self.write(step, Record::TargetMember(key.clone(), Some(target_value(&target))));
        let current = Current { epoch: EPOCH_JOIN, previous_epoch: 0, ..member.current };
        self.write(step, Record::CurrentMember(key, Some(current.to_value())));
    }

    /// What a member says of itself now, as far as it says so; the rest is as `id` said it.
    fn restated(&self, id: &Str, heartbeat: &ConsumerHeartbeat) -> Said {
        let before = self.members.get(id).map(|member| member.said.clone()).unwrap_or_default();
        let or_before = |new: &Option<Str>, before| new.as_ref().map(kept).or(before);
        let expression = match &heartbeat.expression {
            Some(new) => Some(kept(new)).filter(|new| !new.is_empty()),
            None => before.expression,
        };
        let topics = heartbeat.topics.as_ref();
        Said {
            instance: or_before(&heartbeat.instance, before.instance),
            rack: or_before(&heartbeat.rack, before.rack),
            client_id: kept(&heartbeat.client_id),
            client_host: kept(&heartbeat.client_host),
            topics: topics.map_or(before.topics, |topics| topics.iter().map(kept).collect()),
            expression,
            rebalance_timeout_ms: heartbeat
                .rebalance_timeout_ms
                .unwrap_or(before.rebalance_timeout_ms),
            assignor: or_before(&heartbeat.assignor, before.assignor),
            classic: None,
        }
    }

    /// Writes what a member says of itself, if that is new, and what that does to expressions.
    pub(super) fn restate(&mut self, step: &mut Step<'_>, id: &Str, said: Said) -> Change {
        let nothing = Said::default();
        let before = self.members.get(id).map_or(&nothing, |member| &member.said);
        let mut change = Change {
            names: said.topics != before.topics,
            expression: said.expression != before.expression,
            was_resolved: false,
        };
        let resolved = said.expression.as_ref().map(|new| self.resolved.contains_key(new));
        change.was_resolved = resolved.unwrap_or(true);
        if said != *before || !self.members.contains_key(id) {
            self.write_said(step, id, &said);
        }
        if change.expression {
            self.drop_unused_expressions(step);
        }
        change
    }

    /// Raises the group's epoch if its subscription changed or its expressions match other topics,
    /// assigns anew when it is time, and takes the member on. Whether it has other partitions now.
    pub(super) fn follow_subscription(
        &mut self,
        step: &mut Step<'_>,
        id: &Str,
        change: Change,
        owned: Option<&[(Uuid, Vec<i32>)]>,
    ) -> bool {
        let has_changed = change.names || change.expression;
        let has_other_topics = self.resolve_new(step, id, change);
        let mark = self.mark(step, id);
        let is_refreshed = self.refresh_expressions(step);
        let may_go_without = step.records.len() > mark.records;
        self.refresh_metadata(step, has_other_topics || is_refreshed);
        let is_reassigned = self.take_on(step, id, has_changed, owned);
        if !may_go_without || self.fits(step) {
            return is_reassigned;
        }
        // Nobody asked for the other expressions' topics.
        self.take_back_to(step, mark);
        self.refresh_metadata(step, has_other_topics);
        self.take_on(step, id, has_changed, owned)
    }

    /// Assigns anew when it is time, and takes a member on towards the target. A target that is too
    /// much is left for later: who is heard of did not ask for it.
    fn take_on(
        &mut self,
        step: &mut Step<'_>,
        id: &Str,
        has_changed: bool,
        owned: Option<&[(Uuid, Vec<i32>)]>,
    ) -> bool {
        let mark = self.mark(step, id);
        // Without any target a member can not be told an epoch.
        let has_target = self.target_epoch != EPOCH_NONE;
        // A step that is too much already is refused anyway.
        if self.fits(step) && self.update_target(step) && has_target {
            let is_reassigned = self.reconcile(step, id, has_changed, owned);
            if self.fits(step) {
                return is_reassigned;
            }
            self.take_back_to(step, mark);
            self.put_off_target(step);
        }
        self.reconcile(step, id, has_changed, owned)
    }

    /// Looks up the topics of the expression that a member brings, unless they are known. Whether
    /// its subscription has other topics now.
    fn resolve_new(&mut self, step: &mut Step<'_>, id: &Str, change: Change) -> bool {
        let is_known = change.names || change.expression && change.was_resolved;
        if !change.expression || change.was_resolved {
            return is_known;
        }
        let said = self.members.get(id).map(|member| &member.said);
        let new = said.and_then(|said| said.expression.clone());
        new.is_some_and(|expression| self.resolve(step, expression)) || is_known
    }
}

/// Whether a member may come with this epoch: its own, or the one before if it lost the answer.
fn check_epoch(member: &Member, heartbeat: &ConsumerHeartbeat) -> Result<(), Refusal> {
    let current = &member.current;
    let (received, known) = (heartbeat.epoch, current.epoch);
    let is_lost_answer = || {
        let owned = heartbeat.owned.as_deref();
        received == current.previous_epoch
            && owned.is_some_and(|owned| is_part_of(owned, &current.assigned))
    };
    let than = if received == EPOCH_JOIN || received == known {
        if current.state != MemberState::Unknown
            || heartbeat.owned.as_ref().is_some_and(Vec::is_empty)
        {
            return Ok(());
        }
        let text = "The consumer group member is in a unknown state. The member must abandon all \
                    its partitions and rejoin.";
        return Err(Refusal::new(ErrorCode::FencedMemberEpoch, text));
    } else if received > known {
        "greater"
    } else if is_lost_answer() {
        return Ok(());
    } else {
        "smaller"
    };
    let text = format!(
        "The consumer group member has a {than} member epoch ({received}) than the one known by \
         the group coordinator ({known}). The member must abandon all its partitions and rejoin."
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, text))
}

fn is_part_of(owned: &[(Uuid, Vec<i32>)], assigned: &Owned) -> bool {
    owned.iter().all(|(topic, partitions)| {
        let assigned = assigned.get(topic);
        assigned.is_some_and(|assigned| partitions.iter().all(|at| assigned.contains_key(at)))
    })
}

/// Partitions as they are told to a member.
fn listed(assigned: &Owned) -> Vec<(Uuid, Vec<i32>)> {
    assigned.iter().map(|(topic, all)| (*topic, all.keys().copied().collect())).collect()
}

/// An id for a member that brings none, as Java's `Uuid.randomUuid` makes it.
pub(super) fn new_id(mut random: [u8; 16]) -> Str {
    loop {
        if let Some(id) = Uuid::from_random(random) {
            return Str::from_string(id.to_string());
        }
        // Its text would begin with a dash.
        random[0] = random[0].wrapping_add(1);
    }
}
