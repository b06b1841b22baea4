//! A member that speaks the classic protocol, eagerly: it gives everything back before it joins
//! again; the leader assigns by turns.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelog::base::Instant;
use corelog::protocol::group_membership::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupMember, JoinGroupProtocol, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, LeavingMember, SyncGroupAssignment,
    SyncGroupRequest, SyncGroupResponse,
};
use corelog::protocol::wire::{Form, Malformed, Reader, Writer};
use corelog::protocol::{ErrorCode, Str};

use crate::member::{Act, Ended, Member, REBALANCE, SESSION};
use crate::plan::{Kind, REBALANCE_MS, SESSION_MS};
use crate::seen::Slots;
use crate::topics::{self, Counts};

const FORM: Form = Form::Classic;

/// The versions of JoinGroup, SyncGroup, Heartbeat, LeaveGroup and OffsetCommit that go together.
const VERSIONS: [[i16; 5]; 3] = [[3, 1, 1, 1, 5], [5, 3, 3, 3, 7], [9, 5, 4, 5, 9]];

/// The newest of them: the first in which a static leader that comes back hears that it leads.
const VERSIONS_STATIC: usize = 2;

/// A membership.
struct Membership<'a> {
    of: &'a mut Member,
    versions: [i16; 5],
    id: String,
    generation: i32,
    /// Heartbeats in a row that were well although the group is in a later generation.
    stale_beats: u32,
    /// Heartbeats in a row that were well although the coordinator may have put the member out.
    unsure_beats: u32,
    /// Whether it leads, and if so which topics it saw when it assigned, if it knows.
    leads: Option<Option<Counts>>,
}

/// So many heartbeats may fall into the time in which groups are loaded.
const LOADING_BEATS_MAX: u32 = 2;

/// What an answer means for a membership.
enum Heard {
    /// It goes on.
    Well,
    /// It has to join again.
    Rejoin,
    /// The same is to be asked again.
    Nothing,
    /// It is over.
    Out(ErrorCode),
}

fn heard(error: ErrorCode) -> Heard {
    match error {
        ErrorCode::None => Heard::Well,
        ErrorCode::CoordinatorLoadInProgress => Heard::Nothing,
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator
        | ErrorCode::RebalanceInProgress
        | ErrorCode::IllegalGeneration
        | ErrorCode::MemberIdRequired => Heard::Rejoin,
        ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => Heard::Out(error),
        other => panic!("a member of the classic protocol: {other:?}"),
    }
}

/// Joins, and is a member until it is put out or has something else in mind.
pub async fn be_member(of: &mut Member) -> Ended {
    let age = if of.plan.is_static { VERSIONS_STATIC } else { of.plan.age };
    let mut membership = Membership {
        of,
        versions: VERSIONS[age],
        id: String::new(),
        generation: -1,
        stale_beats: 0,
        unsure_beats: 0,
        leads: None,
    };
    membership.run().await
}

impl Membership<'_> {
    async fn run(&mut self) -> Ended {
        loop {
            match self.join_and_sync().await {
                Heard::Out(why) => return self.of.fenced(why),
                Heard::Rejoin | Heard::Nothing => {
                    self.of.pause().await;
                    continue;
                }
                Heard::Well => {}
            }
            match self.stay().await {
                Some(ended) => return ended,
                None => self.of.unsteady(),
            }
        }
    }

    /// Sends heartbeats until it has to join again, or it is over.
    async fn stay(&mut self) -> Option<Ended> {
        let mut rejoins = false;
        loop {
            self.of.rest().await;
            match self.of.act() {
                None => {}
                Some(Act::Leave) => {
                    self.leave().await;
                    return Some(Ended::ByAct);
                }
                Some(Act::Crash) => return Some(Ended::ByAct),
                Some(Act::Pause(pause)) => {
                    self.of.runtime.sleep(pause).await;
                    // It does not know yet what happened meanwhile.
                    let (id, generation) = (self.id.clone(), self.generation);
                    self.of.use_offsets(&id, generation, self.versions[4]).await;
                }
                Some(Act::Resubscribe(topics)) => {
                    self.of.topics = topics;
                    rejoins = true;
                }
            }
            rejoins |= self.sees_other_topics().await;
            if rejoins {
                return None;
            }
            match self.beat().await {
                Heard::Well => self.view(true),
                Heard::Nothing => self.of.unsteady(),
                Heard::Rejoin => return None,
                Heard::Out(why) => return Some(self.of.fenced(why)),
            }
            let (id, generation) = (self.id.clone(), self.generation);
            let error = self.of.use_offsets(&id, generation, self.versions[4]).await;
            // A topic may be gone.
            let error = error.filter(|error| *error != ErrorCode::UnknownTopicOrPartition);
            match error.map(heard) {
                None | Some(Heard::Well | Heard::Nothing) => {}
                Some(Heard::Rejoin) => return None,
                Some(Heard::Out(why)) => return Some(self.of.fenced(why)),
            }
        }
    }

    fn view(&self, is_steady: bool) {
        self.of.view(&self.id, self.generation, self.of.topic_names(), is_steady);
    }

    /// Whether it leads and there are other topics or partitions than those it assigned.
    async fn sees_other_topics(&mut self) -> bool {
        let Some(assigned) = &self.leads else { return false };
        if !self.of.runtime.random().is_multiple_of(3) {
            return false;
        }
        let found = topics::look(&mut self.of.link, &self.of.seen).await;
        found.is_some_and(|found| Some(found) != *assigned)
    }

    async fn join_and_sync(&mut self) -> Heard {
        self.of.unsteady();
        self.of.owned.clear();
        self.of.keeps(&Slots::new());
        let joined = match self.join().await {
            Ok(joined) => joined,
            Err(heard) => return heard,
        };
        let mut leads = joined.leader == *self.id && !joined.leader.is_empty();
        let mut assignments = Vec::new();
        self.leads = None;
        if leads && joined.skip_assignment {
            // It does not know what was seen when the assignment was made: it will look again.
            self.leads = Some(None);
            leads = false;
        }
        if leads {
            let Some(counts) = topics::look(&mut self.of.link, &self.of.seen).await else {
                return Heard::Rejoin;
            };
            assignments = assign(&joined.members, &counts);
            self.leads = Some(Some(counts));
        }
        self.sync(&joined, assignments).await
    }

    async fn join(&mut self) -> Result<JoinGroupResponse, Heard> {
        let topics: Vec<String> = self.of.topic_names().into_iter().collect();
        let protocol = |name| JoinGroupProtocol {
            name: Str::from_static_str(name),
            metadata: subscription(&topics),
        };
        let request = JoinGroupRequest {
            group: self.of.group_text(),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: REBALANCE_MS,
            member: Str::from_string(self.id.clone()),
            instance: self.of.instance_text(),
            protocol_type: Str::from_static_str("consumer"),
            protocols: vec![protocol("by-turns"), protocol("other")],
            reason: None,
        };
        if self.id.is_empty() {
            self.of.unvouch();
        }
        let floor = self.of.seen.borrow_mut().group(&self.of.group).epoch_floor;
        let answer: Option<JoinGroupResponse> = self.of.link.ask(self.versions[0], &request).await;
        let joined = answer.ok_or(Heard::Rejoin)?;
        match heard(joined.error) {
            Heard::Well => {}
            other => {
                if joined.error == ErrorCode::MemberIdRequired {
                    self.id = joined.member.to_string();
                }
                return Err(other);
            }
        }
        if self.of.kind == Kind::Classic {
            let generation = joined.generation;
            assert!(generation >= floor, "generation {generation} began after {floor}");
        }
        if joined.member != *self.id || self.of.life.is_none() {
            self.id = joined.member.to_string();
            let id = self.id.clone();
            self.of.begin_life(&id);
        }
        self.generation = joined.generation;
        Ok(joined)
    }

    async fn sync(
        &mut self,
        joined: &JoinGroupResponse,
        assignments: Vec<SyncGroupAssignment>,
    ) -> Heard {
        let request = SyncGroupRequest {
            group: self.of.group_text(),
            generation: self.generation,
            member: Str::from_string(self.id.clone()),
            instance: self.of.instance_text(),
            protocol_type: Some(Str::from_static_str("consumer")),
            protocol: joined.protocol.clone(),
            assignments,
        };
        let floor = self.of.seen.borrow_mut().group(&self.of.group).epoch_floor;
        let sent = self.of.runtime.now();
        let answer: Option<SyncGroupResponse> = self.of.link.ask(self.versions[1], &request).await;
        let Some(answer) = answer else { return Heard::Rejoin };
        match heard(answer.error) {
            Heard::Well => self.synced(&answer, sent, floor),
            Heard::Nothing => Heard::Rejoin,
            other => other,
        }
    }

    fn synced(&mut self, answer: &SyncGroupResponse, sent: Instant, floor: i32) -> Heard {
        let slots = match answer.assignment.is_empty() {
            true => Slots::new(),
            false => slots_of(answer.assignment.clone()).expect("an assignment"),
        };
        let who = self.of.instance().unwrap_or_else(|| self.id.clone());
        if self.of.kind == Kind::Classic {
            let generation = self.generation;
            assert!(generation >= floor, "generation {generation} counts after {floor}");
            let mut seen = self.of.seen.borrow_mut();
            seen.group(&self.of.group).synced(generation, &who, &slots);
        } else {
            self.of.told(&slots, sent);
        }
        self.unsure_beats = 0;
        self.vouch(sent);
        self.of.owned = slots;
        self.view(true);
        Heard::Well
    }

    /// A member that does not come back to a rebalance in time is out, too.
    fn vouch(&self, sent: Instant) {
        self.of.vouch(sent, SESSION.min(REBALANCE));
    }

    async fn beat(&mut self) -> Heard {
        let request = HeartbeatRequest {
            group: self.of.group_text(),
            generation: self.generation,
            member: Str::from_string(self.id.clone()),
            instance: self.of.instance_text(),
        };
        let floor = self.of.seen.borrow_mut().group(&self.of.group).epoch_floor;
        let sent = self.of.runtime.now();
        let answer: Option<HeartbeatResponse> = self.of.link.ask(self.versions[2], &request).await;
        let Some(answer) = answer else { return Heard::Nothing };
        let heard = match answer.error {
            // The coordinator is another one, or comes back.
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => Heard::Nothing,
            error => heard(error),
        };
        if let Heard::Well = heard {
            let is_pure = self.of.kind == Kind::Classic;
            let generation = self.generation;
            // A coordinator that loads its groups drives nobody off, also none that is out.
            if !is_pure || generation >= floor {
                self.stale_beats = 0;
                if self.of.is_safe(sent) || self.unsure_beats == LOADING_BEATS_MAX {
                    self.unsure_beats = 0;
                    self.vouch(sent);
                } else {
                    self.unsure_beats += 1;
                }
            } else {
                self.stale_beats += 1;
                let beats = self.stale_beats;
                assert!(beats <= LOADING_BEATS_MAX, "{generation} is well after {floor}");
            }
        } else {
            self.unsure_beats = 0;
        }
        heard
    }

    async fn leave(&mut self) {
        self.of.unsteady();
        let request = LeaveGroupRequest {
            group: self.of.group_text(),
            member: Str::from_string(self.id.clone()),
            members: vec![LeavingMember {
                member: Str::from_string(self.id.clone()),
                instance: self.of.instance_text(),
                reason: None,
            }],
        };
        self.of.keeps(&Slots::new());
        // Should nobody hear of it, its session ends.
        let _: Option<LeaveGroupResponse> = self.of.link.ask(self.versions[3], &request).await;
    }
}

/// Each partition to the next of those that want its topic.
fn assign(members: &[JoinGroupMember], counts: &Counts) -> Vec<SyncGroupAssignment> {
    let wanted = |member: &JoinGroupMember| topics_of(member.metadata.clone()).expect("topics");
    let wanted: Vec<BTreeSet<String>> = members.iter().map(wanted).collect();
    let mut shares: Vec<BTreeMap<&str, Vec<i32>>> = vec![BTreeMap::new(); members.len()];
    for (name, count) in counts {
        let takers: Vec<usize> =
            (0..members.len()).filter(|at| wanted[*at].contains(name)).collect();
        for partition in 0..if takers.is_empty() { 0 } else { *count } {
            let taker = takers[partition as usize % takers.len()];
            shares[taker].entry(name).or_default().push(partition);
        }
    }
    let assignment = |(member, share): (&JoinGroupMember, _)| SyncGroupAssignment {
        member: member.member.clone(),
        assignment: assignment_of(share),
    };
    members.iter().zip(&shares).map(assignment).collect()
}

/// A subscription, version 1, of a member that has nothing.
fn subscription(topics: &[String]) -> Bytes {
    let mut out = Writer::new();
    out.i16(1);
    out.length(FORM, Some(topics.len()));
    topics.iter().for_each(|name| out.string(FORM, Some(name)));
    out.nullable_bytes(FORM, None);
    out.length(FORM, Some(0));
    out.into_bytes()
}

fn topics_of(metadata: Bytes) -> Result<BTreeSet<String>, Malformed> {
    let mut input = Reader::new(metadata, 1000);
    input.i16()?;
    let names = input.nullable_array(FORM, 2, |input| input.string(FORM))?;
    Ok(names.into_iter().flatten().map(|name| name.to_string()).collect())
}

fn assignment_of(share: &BTreeMap<&str, Vec<i32>>) -> Bytes {
    let mut out = Writer::new();
    out.i16(1);
    out.length(FORM, Some(share.len()));
    for (name, partitions) in share {
        out.string(FORM, Some(name));
        out.length(FORM, Some(partitions.len()));
        partitions.iter().for_each(|partition| out.i32(*partition));
    }
    out.nullable_bytes(FORM, None);
    out.into_bytes()
}

/// The partitions of an assignment.
pub fn slots_of(assignment: Bytes) -> Result<Slots, Malformed> {
    let mut input = Reader::new(assignment, 1000);
    input.i16()?;
    let topic = |input: &mut Reader| {
        Ok((input.string(FORM)?, input.nullable_array(FORM, 4, Reader::i32)?.unwrap_or_default()))
    };
    let topics = input.nullable_array(FORM, 6, topic)?.unwrap_or_default();
    let slots = topics.into_iter().flat_map(|(name, partitions)| {
        partitions.into_iter().map(move |partition| (name.to_string(), partition))
    });
    Ok(slots.collect())
}
