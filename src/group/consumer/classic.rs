//! Members of a consumer group that speak the classic protocol (KIP-848, online migration).
//!
//! Each goes its own way: a Join takes it on towards its target, a Sync tells what it has, and a
//! Heartbeat says when to join again. Its generation is its member epoch.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::base::Uuid;
use crate::group::classic::CONSUMER;
use crate::group::classic::subscription::{self, Subscription};
use crate::group::consumer::assignor::Assignment;
use crate::group::consumer::heartbeat::new_id;
use crate::group::consumer::member::{Member, MemberState, Owned, Said};
use crate::group::consumer::{Consumer, Downgrade, State, Step};
use crate::group::message::{Heartbeat, Join, Joined, Leave, Leaving, Sync, Synced};
use crate::group::record::{ClassicMemberValue, ClassicProtocolValue, kept};
use crate::metadata::Image;
use crate::protocol::{ErrorCode, Str};

/// The version of JoinGroup from which a member must come with its id.
const VERSION_ID_REQUIRED: i16 = 4;

impl Consumer {
    /// A Join: the member is taken on towards its target, or told what is wrong.
    pub(in crate::group) fn join(&mut self, step: &mut Step<'_>, join: &Join) -> Joined {
        let refused = |error| Joined::refused(error, Str::default());
        let id = match &join.member {
            Some(id) => kept(id),
            None => new_id(join.random),
        };
        let (replaced, subscription) = match self.check_join(step, join, &id) {
            Ok(found) => found,
            Err(ErrorCode::MemberIdRequired) => {
                return Joined::refused(ErrorCode::MemberIdRequired, id);
            }
            Err(error) => return refused(error),
        };
        let said = self.said_by(replaced.as_ref().unwrap_or(&id), join, &subscription);
        if let Err(error) = self.check_said(step, &id, &said) {
            self.renew_session(step, &id);
            return Joined::refused(error, join.member.clone().unwrap_or_default());
        }
        // From here on all succeeds that can be written: what is written counts at once.
        let members = [&id].into_iter().chain(&replaced);
        let before = self.before(members, join.instance.as_ref());
        let returning = join.instance.as_ref().and_then(|instance| self.statics.get(instance));
        let downgrades = returning.is_some_and(|old| self.may_downgrade_for(step, old));
        if let Some(old) = &replaced {
            self.replace_member(step, old, &id);
        }
        let protocol = said.classic.as_ref().and_then(|classic| classic.protocols.first());
        let protocol = protocol.map(|protocol| protocol.name.clone());
        let change = self.restate(step, &id, said);
        let owned = owned_ids(&subscription, step.image);
        if !downgrades {
            self.follow_subscription(step, &id, change, Some(&owned));
            self.renew_session(step, &id);
            self.time_sync(step, &id, join.rebalance_timeout_ms);
        } else {
            // Members of the classic protocol have no expressions.
            self.refresh_metadata(step, change.names || change.expression);
            let has_changed = change.names || change.expression;
            if self.target_epoch >= self.epoch {
                self.reconcile(step, &id, has_changed, Some(&owned));
            }
            // A classic group tells its members of the target only when they join. (Kafka keeps a
            // target that some have not reached, and they never hear of it.)
            step.downgrade = Some(match self.state() {
                State::Stable => Downgrade::Keep,
                State::Empty | State::Assigning | State::Reconciling => Downgrade::Rebalance,
            });
        }
        if let Err(error) = self.check_fits(step, before) {
            // It was heard of, whatever becomes of what it said.
            self.renew_session(step, &id);
            return Joined::refused(error, join.member.clone().unwrap_or_default());
        }
        let generation = self.members.get(&id).map_or(-1, |member| member.current.epoch);
        Joined {
            error: ErrorCode::None,
            member: id,
            generation,
            protocol_type: Some(Str::from_static_str(CONSUMER)),
            protocol,
            leader: Str::default(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }

    /// Whether a Join is good, whose place the member takes, and what it subscribes to.
    fn check_join(
        &self,
        step: &Step<'_>,
        join: &Join,
        id: &Str,
    ) -> Result<(Option<Str>, Subscription), ErrorCode> {
        if step.settings.consumer.migration == crate::group::Migration::Disabled {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        self.check_room(step, Some(id)).map_err(|refusal| refusal.error)?;
        if !self.supports(join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let Some(instance) = &join.instance else {
            if join.version >= VERSION_ID_REQUIRED && join.member.is_none() {
                return Err(ErrorCode::MemberIdRequired);
            }
            return Ok((None, subscription_of(join)?));
        };
        let replaced = match &join.member {
            Some(_) => {
                self.find_static(id, instance).map_err(|refusal| refusal.error)?;
                None
            }
            None => self.statics.get(instance).cloned(),
        };
        Ok((replaced, subscription_of(join)?))
    }

    /// Whether the member speaks a protocol that all others of the classic kind speak.
    fn supports(&self, join: &Join) -> bool {
        let count = |name| self.classic_protocols.get(name).copied().unwrap_or_default();
        *join.protocol_type == *CONSUMER
            && join.protocols.iter().any(|(name, _)| count(name) == self.classic_count)
    }

    /// What a member says of itself when it joins; the rest is as `id` said it.
    fn said_by(&self, id: &Str, join: &Join, subscription: &Subscription) -> Said {
        let before = self.members.get(id).map(|member| member.said.clone()).unwrap_or_default();
        let protocols = join.kept_protocols();
        let protocols: Vec<ClassicProtocolValue> =
            protocols.map(|(name, metadata)| ClassicProtocolValue { name, metadata }).collect();
        let session_timeout_ms = join.session_timeout_ms;
        Said {
            instance: join.instance.as_ref().map(kept).or(before.instance),
            rack: subscription.rack.clone().or(before.rack),
            client_id: kept(&join.client_id),
            client_host: kept(&join.client_host),
            topics: subscription.topics.iter().cloned().collect(),
            expression: None,
            rebalance_timeout_ms: match join.rebalance_timeout_ms {
                -1 => before.rebalance_timeout_ms,
                given => given,
            },
            assignor: before.assignor,
            classic: Some(ClassicMemberValue { session_timeout_ms, protocols }),
        }
    }

    /// A Sync: the member is told what it has.
    pub(in crate::group) fn sync(
        &mut self,
        step: &mut Step<'_>,
        sync: &Sync,
    ) -> Result<Synced, ErrorCode> {
        let member = self.find_classic(&sync.member, sync.instance.as_ref(), sync.generation)?;
        let spoken = member.said.classic.as_ref().and_then(|classic| classic.protocols.first());
        let is_consumer = sync.protocol_type.as_deref().is_none_or(|kind| kind == CONSUMER);
        let is_spoken = sync
            .protocol
            .as_ref()
            .is_none_or(|asked| spoken.is_some_and(|spoken| spoken.name == *asked));
        if !is_consumer || !is_spoken {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_behind = self.target_epoch > member.current.epoch;
        if is_behind && member.current.state != MemberState::Unrevoked {
            self.time_join(step, &sync.member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let version = spoken.map_or(0, |spoken| subscription::version(&spoken.metadata));
        let assignment = assignment_bytes(&assigned(&member.current.assigned), version, step.image);
        self.end_sync(&sync.member);
        self.renew_session(step, &sync.member);
        Ok(Synced {
            error: ErrorCode::None,
            protocol_type: sync.protocol_type.clone(),
            protocol: sync.protocol.clone(),
            assignment,
        })
    }

    /// A Heartbeat: the member is alive, and hears whether it has to join again.
    pub(in crate::group) fn beat(
        &mut self,
        step: &mut Step<'_>,
        heartbeat: &Heartbeat,
    ) -> ErrorCode {
        let Heartbeat { member: id, instance, generation, .. } = heartbeat;
        let member = match self.find_classic(id, instance.as_ref(), *generation) {
            Ok(member) => member,
            Err(error) => return error,
        };
        let is_behind = member.current.epoch < self.target_epoch;
        let rejoins = is_behind
            || match member.current.state {
                MemberState::Unrevoked => true,
                MemberState::Unreleased => !self.waits_for_others(id, member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        self.renew_session(step, id);
        if !rejoins {
            return ErrorCode::None;
        }
        self.time_join(step, id);
        ErrorCode::RebalanceInProgress
    }

    /// Whether something it is to have is still another's.
    fn waits_for_others(&self, id: &Str, member: &Member) -> bool {
        let target = self.target.get(id).into_iter().flatten();
        let mut missing = target.flat_map(|(topic, partitions)| {
            let assigned = member.current.assigned.get(topic);
            let is_missing = move |at: &&i32| !assigned.is_some_and(|own| own.contains_key(at));
            partitions.iter().filter(is_missing).map(|at| (*topic, *at))
        });
        missing.any(|(topic, at)| self.is_owned(topic, at))
    }

    /// Members leave; what became of each, in the order of the request. Nobody does when that is
    /// more than can be written.
    pub(in crate::group) fn leave_classic(
        &mut self,
        step: &mut Step<'_>,
        leave: &Leave,
    ) -> Result<Vec<(Leaving, ErrorCode)>, ErrorCode> {
        let mut results = Vec::new();
        let mut gone = BTreeSet::new();
        for leaving in &leave.members {
            let error = match self.find_leaving(leaving) {
                Ok(id) => {
                    gone.insert(id);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            results.push((leaving.clone(), error));
        }
        let before = self.before(&gone, None);
        self.fence(step, &gone, true);
        self.check_fits(step, before)?;
        Ok(results)
    }

    fn find_leaving(&self, leaving: &Leaving) -> Result<Str, ErrorCode> {
        let id = leaving.member.clone().unwrap_or_default();
        let Some(instance) = &leaving.instance else {
            let is_member = self.members.contains_key(&id);
            return if is_member { Ok(kept(&id)) } else { Err(ErrorCode::UnknownMemberId) };
        };
        let known = self.statics.get(instance).cloned().ok_or(ErrorCode::UnknownMemberId)?;
        match &leaving.member {
            Some(id) if *id != known => Err(ErrorCode::FencedInstanceId),
            Some(_) | None => Ok(known),
        }
    }

    /// The member of the classic protocol that says it is `id`, and of this generation.
    fn find_classic(
        &self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
    ) -> Result<&Member, ErrorCode> {
        let member = match instance {
            Some(instance) => self.find_static(id, instance).map_err(|refusal| refusal.error)?,
            None => self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?,
        };
        if !member.is_classic() {
            Err(ErrorCode::UnknownMemberId)
        } else if member.current.epoch != generation {
            Err(ErrorCode::IllegalGeneration)
        } else {
            Ok(member)
        }
    }
}

/// What a Join subscribes to: its first protocol says so.
fn subscription_of(join: &Join) -> Result<Subscription, ErrorCode> {
    let (_, metadata) = join.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
    let parsed = Subscription::parse(Bytes::copy_from_slice(metadata));
    // Kafka's word for it; an `IllegalStateException` there.
    parsed.map_err(|_malformed| ErrorCode::UnknownServerError)
}

/// The partitions a member says it has, by the ids of their topics.
fn owned_ids(subscription: &Subscription, image: &Image) -> Vec<(Uuid, Vec<i32>)> {
    let with_id = |(name, partitions): &(Str, Vec<i32>)| {
        image.topic_named(name).map(|topic| (topic.id, partitions.clone()))
    };
    subscription.owned.iter().filter_map(with_id).collect()
}

fn assigned(owned: &Owned) -> Assignment {
    owned.iter().map(|(topic, all)| (*topic, all.keys().copied().collect())).collect()
}

/// An assignment as the members of the classic protocol read it; topics that are gone are left out.
pub(super) fn assignment_bytes(assignment: &Assignment, version: i16, image: &Image) -> Bytes {
    let named = |(id, partitions): (&Uuid, &Vec<i32>)| {
        image.topic(*id).map(|topic| (topic.name.to_string(), partitions.clone()))
    };
    let topics: Vec<_> = assignment.iter().filter_map(named).collect();
    subscription::encode_assignment(version, &topics)
}
