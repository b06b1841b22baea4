//! A member of a group: what it does in its life, whatever it speaks.

use std::collections::BTreeSet;
use std::time::Duration;

use corelog::base::Instant;
use corelog::protocol::{ErrorCode, Str};
use corelog::runtime::Runtime;

use crate::classic;
use crate::client::PAUSE;
use crate::commits::{self, Committed, Committer};
use crate::consumer;
use crate::link::Link;
use crate::plan::{Kind, MemberPlan, Protocol, REBALANCE_MS, SESSION_MS};
use crate::seen::{LifeId, Shared, Slot, Slots, View};
use crate::topics;

/// How often members do what they do, in milliseconds.
const BEAT_MS: u64 = 120;

/// The time in which a member must be heard of.
pub const SESSION: Duration = Duration::from_millis(SESSION_MS as u64);

/// The time in which a member must give back, or come back.
pub const REBALANCE: Duration = Duration::from_millis(REBALANCE_MS as u64);

/// One member of a run; it may leave, crash and come back.
pub struct Member {
    pub runtime: Runtime,
    pub seen: Shared,
    pub link: Link,
    pub group: String,
    pub kind: Kind,
    pub number: usize,
    pub plan: MemberPlan,
    pub protocol: Protocol,
    /// The topics it subscribes to by name, as bits.
    pub topics: u64,
    /// Its membership, while it has one.
    pub life: Option<LifeId>,
    /// What it has.
    pub owned: Slots,
}

/// What a member does at a heartbeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// It leaves.
    Leave,
    /// It is gone without a word.
    Crash,
    /// It is silent for a while.
    Pause(Duration),
    /// It subscribes to other topics.
    Resubscribe(u64),
}

/// How a membership ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// As the member wanted.
    ByAct,
    /// It was put out, and comes back at once.
    Fenced,
}

impl Member {
    /// Lives until it has had enough; once all is calm, for ever.
    pub async fn live(mut self) {
        self.runtime.sleep(self.plan.starts_after).await;
        loop {
            self.view("", -1, BTreeSet::new(), false);
            self.link.find_coordinator(&self.group).await;
            let ended = match self.protocol {
                Protocol::Classic => classic::be_member(&mut self).await,
                Protocol::Consumer => consumer::be_member(&mut self).await,
            };
            self.end_life();
            if ended == Ended::Fenced {
                self.pause().await;
                continue;
            }
            self.unview();
            let draw = self.runtime.random();
            if draw.is_multiple_of(5) || self.seen.borrow().is_ending {
                return;
            }
            self.link.cut();
            self.runtime.sleep(Duration::from_millis(draw % 1500)).await;
            if self.kind == Kind::Mixed && !draw.is_multiple_of(3) {
                self.protocol = match self.protocol {
                    Protocol::Classic => Protocol::Consumer,
                    Protocol::Consumer => Protocol::Classic,
                };
            }
        }
    }

    /// The instance id of a static member.
    pub fn instance(&self) -> Option<String> {
        self.plan.is_static.then(|| format!("instance-{}", self.number))
    }

    pub fn instance_text(&self) -> Option<Str> {
        self.instance().map(Str::from_string)
    }

    pub fn group_text(&self) -> Str {
        Str::from_string(self.group.clone())
    }

    /// The topics it subscribes to by name.
    pub fn topic_names(&self) -> BTreeSet<String> {
        (0..3).filter(|at| self.topics & 1 << at != 0).map(topics::name_of).collect()
    }

    pub async fn pause(&self) {
        self.runtime.sleep(PAUSE).await;
    }

    /// Waits for the next heartbeat.
    pub async fn rest(&self) {
        let spread = self.runtime.random() % 20;
        self.runtime.sleep(Duration::from_millis(BEAT_MS + spread)).await;
    }

    /// What to do now, other than to go on.
    pub fn act(&self) -> Option<Act> {
        if self.seen.borrow().is_ending && self.plan.dies_last {
            return Some(Act::Crash);
        }
        let one_in = self.plan.act_one_in;
        if self.seen.borrow().is_calm || !self.runtime.random().is_multiple_of(one_in) {
            return None;
        }
        let draw = self.runtime.random();
        Some(match draw % 6 {
            0 | 1 => Act::Leave,
            2 | 3 => Act::Crash,
            4 => Act::Pause(Duration::from_millis((draw >> 8) % (2 * u64::from(SESSION_MS)))),
            _ => Act::Resubscribe(1 + (draw >> 8) % 7),
        })
    }

    /// The coordinator takes the member in.
    pub fn begin_life(&mut self, member: &str) {
        self.end_life();
        let instance = self.instance();
        let life = self.seen.borrow_mut().begin(&self.group, member, instance.as_deref());
        self.life = Some(life);
    }

    pub fn end_life(&mut self) {
        self.owned.clear();
        if let Some(life) = self.life.take() {
            self.seen.borrow_mut().group(&self.group).end(life);
        }
    }

    /// The coordinator said that the member is out: it must have had a reason.
    pub fn fenced(&mut self, why: ErrorCode) -> Ended {
        if let Some(life) = self.life {
            let now = self.runtime.now();
            self.seen.borrow_mut().group(&self.group).fenced(life, now, &format!("{why:?}"));
        }
        Ended::Fenced
    }

    /// The coordinator answered a request sent at `sent` well.
    pub fn vouch(&self, sent: Instant, lasts: Duration) {
        if let Some(life) = self.life {
            self.seen.borrow_mut().group(&self.group).vouch(life, sent + lasts);
        }
    }

    /// Whether the coordinator has to keep the member in at `at`.
    pub fn is_safe(&self, at: Instant) -> bool {
        let mut seen = self.seen.borrow_mut();
        self.life.is_some_and(|life| seen.group(&self.group).is_safe(life, at))
    }

    /// Since when there may be an answer that the member has not heard.
    pub fn unheard(&self, since: Option<Instant>) {
        if let Some(life) = self.life {
            let by = since.map(|since| since + REBALANCE);
            self.seen.borrow_mut().group(&self.group).unheard(life, by);
        }
    }

    /// The member comes in another's place, or asks to be let out.
    pub fn unvouch(&self) {
        if let Some(instance) = self.instance() {
            self.seen.borrow_mut().group(&self.group).unvouch(&instance);
        }
    }

    /// The member was told to have these, as the coordinator decided at `decided` at the earliest.
    pub fn told(&self, slots: &Slots, decided: Instant) {
        if let Some(life) = self.life {
            let now = self.runtime.now();
            let mut seen = self.seen.borrow_mut();
            seen.group(&self.group).told(life, now, slots, decided + REBALANCE);
        }
    }

    /// The member says that it has no more than this.
    pub fn keeps(&self, slots: &Slots) {
        if let Some(life) = self.life {
            self.seen.borrow_mut().group(&self.group).keeps(life, slots);
        }
    }

    /// The coordinator answered the request that said so.
    pub fn heard(&self) {
        if let Some(life) = self.life {
            self.seen.borrow_mut().group(&self.group).heard(life);
        }
    }

    /// Says what the member thinks of itself.
    pub fn view(&self, member: &str, epoch: i32, topics: BTreeSet<String>, is_steady: bool) {
        let (member, owned) = (member.to_owned(), self.owned.clone());
        let view = View { member, epoch, owned, topics, is_steady };
        self.seen.borrow_mut().group(&self.group).views.insert(self.number, view);
    }

    /// It is there, and nothing is well.
    pub fn unsteady(&self) {
        if let Some(view) = self.seen.borrow_mut().group(&self.group).views.get_mut(&self.number) {
            view.is_steady = false;
        }
    }

    fn unview(&self) {
        self.seen.borrow_mut().group(&self.group).views.remove(&self.number);
    }

    /// Now and then commits an offset of something it has, or fetches one.
    pub async fn use_offsets(
        &mut self,
        member: &str,
        epoch: i32,
        version: i16,
    ) -> Option<ErrorCode> {
        if self.owned.is_empty() || self.seen.borrow().is_calm {
            return None;
        }
        let draw = self.runtime.random();
        if !draw.is_multiple_of(2) {
            return None;
        }
        let at = (draw >> 8) as usize % self.owned.len();
        let slot: Slot = self.owned.iter().nth(at)?.clone();
        let Self { runtime, seen, link, group, .. } = self;
        if draw.is_multiple_of(3) {
            let is_known = self.protocol == Protocol::Consumer;
            let who = is_known.then_some((member, epoch));
            commits::fetch(runtime, link, seen, group, who, &[slot]).await;
            return None;
        }
        let instance = self.plan.is_static.then(|| format!("instance-{}", self.number));
        let kind = self.kind;
        let who = Committer { group, kind, member, epoch, instance: instance.as_deref(), version };
        match commits::commit(runtime, link, seen, &who, &slot).await {
            Committed::Yes | Committed::Lost => None,
            Committed::No(error) => Some(error),
        }
    }
}
