//! A member that speaks the consumer protocol: it gives back first, says so, and then takes.

use std::collections::BTreeMap;

use corelog::base::Instant;
use corelog::protocol::ErrorCode;
use corelog::protocol::Str;
use corelog::protocol::consumer_group::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatAssignment, OwnedTopic,
};

use crate::member::{Act, Ended, Member, SESSION};
use crate::plan::REBALANCE_MS;
use crate::seen::Slots;
use crate::topics;

/// The epochs that ask for something.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
const LEAVE_FOR_A_WHILE: i32 = -2;

/// A membership.
struct Membership<'a> {
    of: &'a mut Member,
    version: i16,
    id: String,
    epoch: i32,
    /// What it was told to have.
    assigned: Slots,
    /// Whether the next heartbeat says everything.
    is_full: bool,
    /// Whether the next heartbeat says what the member has.
    says_owned: bool,
    /// Answers lost since the last one that came.
    lost: u32,
    /// When the first of the requests was sent that the coordinator may have acted upon since.
    unheard_since: Option<Instant>,
}

/// What an answer means for a membership.
enum Heard {
    /// It goes on.
    Well,
    /// The coordinator is not there now, or the answer is lost.
    Nothing,
    /// It is over.
    Out(ErrorCode),
}

/// Joins, and is a member until it is put out or has something else in mind.
pub async fn be_member(of: &mut Member) -> Ended {
    let version = i16::from(of.plan.age > 0 || of.plan.by_pattern);
    let id = match version {
        0 => String::new(),
        _ => of.runtime.random_uuid().to_string(),
    };
    let mut membership = Membership {
        of,
        version,
        id,
        epoch: JOIN,
        assigned: Slots::new(),
        is_full: true,
        says_owned: false,
        lost: 0,
        unheard_since: None,
    };
    membership.run().await
}

impl Membership<'_> {
    async fn run(&mut self) -> Ended {
        loop {
            match self.beat().await {
                Heard::Out(why) => {
                    self.of.unsteady();
                    // Two lost answers and it knows less than the coordinator may assume.
                    let is_excused = why == ErrorCode::FencedMemberEpoch && self.lost > 1;
                    return if is_excused { Ended::Fenced } else { self.of.fenced(why) };
                }
                Heard::Nothing => {
                    self.of.unsteady();
                    self.of.pause().await;
                    continue;
                }
                Heard::Well => {}
            }
            if self.reconcile().await {
                continue;
            }
            let version = if self.version == 0 { 9 } else { 10 };
            let (id, epoch) = (self.id.clone(), self.epoch);
            self.of.use_offsets(&id, epoch, version).await;
            self.of.rest().await;
            match self.of.act() {
                None => {}
                Some(Act::Leave) => {
                    self.leave().await;
                    return Ended::ByAct;
                }
                Some(Act::Crash) => return Ended::ByAct,
                Some(Act::Pause(pause)) => {
                    self.of.runtime.sleep(pause).await;
                    // It does not know yet what happened meanwhile.
                    self.of.use_offsets(&id, epoch, version).await;
                }
                Some(Act::Resubscribe(topics)) => {
                    self.of.topics = topics;
                    self.is_full = true;
                }
            }
        }
    }

    /// Takes and gives back what it was told to; whether there is something to say at once.
    async fn reconcile(&mut self) -> bool {
        if self.of.owned == self.assigned {
            return false;
        }
        let gives_back = !self.of.owned.is_subset(&self.assigned);
        if gives_back {
            let draw = self.of.runtime.random();
            if draw.is_multiple_of(4) {
                // It takes its time, and sends heartbeats meanwhile.
                return false;
            }
            self.of.owned.retain(|slot| self.assigned.contains(slot));
        } else {
            self.of.owned.clone_from(&self.assigned);
        }
        self.says_owned = true;
        true
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let is_full = self.is_full;
        let names = || self.of.topic_names().into_iter().map(Str::from_string).collect();
        let by_pattern = self.of.plan.by_pattern;
        let pattern = || Str::from_static_str(topics::PATTERN_ALL);
        ConsumerGroupHeartbeatRequest {
            group: self.of.group_text(),
            member: Str::from_string(self.id.clone()),
            member_epoch: self.epoch,
            instance: self.of.instance_text(),
            rack: None,
            rebalance_timeout_ms: if is_full { REBALANCE_MS } else { -1 },
            topics: (is_full && !by_pattern).then(names),
            regex: (is_full && by_pattern).then(pattern),
            assignor: None,
            owned: (is_full || self.says_owned).then(|| self.owned_by_id()),
        }
    }

    fn owned_by_id(&self) -> Vec<OwnedTopic> {
        let mut by_name: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (name, partition) in &self.of.owned {
            by_name.entry(name).or_default().push(*partition);
        }
        let with_id = |(name, partitions)| {
            let topic_id = topics::id(&self.of.seen, name);
            OwnedTopic { topic_id, partitions }
        };
        by_name.into_iter().map(with_id).collect()
    }

    async fn beat(&mut self) -> Heard {
        let request = self.request();
        let joins = self.epoch == JOIN;
        let floor = self.of.seen.borrow_mut().group(&self.of.group).epoch_floor;
        if joins {
            self.of.unvouch();
        } else if request.owned.is_some() {
            self.of.keeps(&self.of.owned);
        }
        let sent = self.of.runtime.now();
        let decided = self.unheard_since.unwrap_or(sent);
        self.of.unheard(Some(decided));
        let answer: Option<ConsumerGroupHeartbeatResponse> =
            self.of.link.ask(self.version, &request).await;
        let Some(answer) = answer else {
            self.unheard_since = Some(decided);
            return self.lose();
        };
        match answer.error {
            ErrorCode::None => self.unheard_since = None,
            ErrorCode::CoordinatorLoadInProgress => return self.lose(),
            // What failed to be written may be there all the same when it is loaded again.
            ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => {
                self.unheard_since = Some(decided);
                return self.lose();
            }
            // Its earlier self is still there, as far as the coordinator knows.
            ErrorCode::UnreleasedInstanceId if joins => return Heard::Nothing,
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupIdNotFound => return Heard::Out(answer.error),
            other => panic!("a heartbeat: {other:?} {:?}", answer.error_message),
        }
        if joins {
            self.begin(&answer, floor);
        }
        self.take(&answer, sent, decided).await
    }

    /// The request may have come or not: the next one says everything.
    fn lose(&mut self) -> Heard {
        self.of.unheard(self.unheard_since);
        self.lost += 1;
        self.is_full = true;
        Heard::Nothing
    }

    /// The coordinator took it in.
    fn begin(&mut self, answer: &ConsumerGroupHeartbeatResponse, floor: i32) {
        self.id = answer.member.as_ref().expect("a member id").to_string();
        self.of.begin_life(&self.id);
        let is_pure = self.of.kind == crate::plan::Kind::Consumer;
        let epoch = answer.member_epoch;
        assert!(!is_pure || epoch >= floor, "a new member gets epoch {epoch} after {floor}");
        assert!(answer.assignment.is_some(), "a new member hears what it has");
    }

    /// Takes an answer to a request that was sent at `sent`; what it says was decided at `decided`
    /// at the earliest.
    async fn take(
        &mut self,
        answer: &ConsumerGroupHeartbeatResponse,
        sent: Instant,
        decided: Instant,
    ) -> Heard {
        let epoch = answer.member_epoch;
        assert_eq!(answer.member.as_deref(), Some(&*self.id), "a member keeps its id");
        assert!(epoch >= self.epoch, "epoch {epoch} after {}", self.epoch);
        self.epoch = epoch;
        self.lost = 0;
        self.is_full = false;
        self.says_owned = false;
        self.of.seen.borrow_mut().group(&self.of.group).raise_floor(epoch);
        let assigned = match &answer.assignment {
            Some(assignment) => Some(self.named(assignment).await),
            None => None,
        };
        self.of.vouch(sent, SESSION);
        // Whenever an answer was lost, the next request said what the member has.
        self.of.heard();
        self.of.unheard(None);
        if let Some(assigned) = assigned {
            self.of.told(&assigned, decided);
            self.assigned = assigned;
        }
        let topics = match self.of.plan.by_pattern {
            true => self.of.seen.borrow().names.values().cloned().collect(),
            false => self.of.topic_names(),
        };
        let is_steady = self.of.owned == self.assigned;
        self.of.view(&self.id, self.epoch, topics, is_steady);
        Heard::Well
    }

    /// What was assigned, by the topics' names; topics that are gone are left out.
    async fn named(&mut self, assignment: &HeartbeatAssignment) -> Slots {
        let mut slots = Slots::new();
        for topic in &assignment.topics {
            let id = topic.topic_id.expect("an id");
            let name = topics::name(&mut self.of.link, &self.of.seen, id).await;
            let Some(name) = name else { continue };
            for partition in &topic.partitions {
                let is_new = slots.insert((name.clone(), *partition));
                assert!(is_new, "{name}-{partition} is told twice");
            }
        }
        slots
    }

    async fn leave(&mut self) {
        self.of.unsteady();
        let epoch = match self.of.plan.is_static && self.of.runtime.random().is_multiple_of(2) {
            true => LEAVE_FOR_A_WHILE,
            false => LEAVE,
        };
        let request = ConsumerGroupHeartbeatRequest {
            group: self.of.group_text(),
            member: Str::from_string(self.id.clone()),
            member_epoch: epoch,
            instance: self.of.instance_text(),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.of.keeps(&Slots::new());
        // Should nobody hear of it, its session ends.
        let _: Option<ConsumerGroupHeartbeatResponse> =
            self.of.link.ask(self.version, &request).await;
    }
}
