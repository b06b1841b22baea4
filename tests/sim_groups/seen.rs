//! What the clients of a run were told, and what must hold of it.
//!
//! A life is one membership: from the answer that takes a member in to its end. What a life was
//! told to have it claims, until it says that it gave it back, leaves, or hears that it is out. The
//! coordinator must keep a life in until its session, counted from the last request it answered
//! well, is over: until then nobody else may be told to have what it claims.
//!
//! The exception is a life that has to give something back: it is out if the coordinator does not
//! hear in time that it did. That time begins with the request by which the coordinator made up its
//! mind. The answer to it may have been lost, or its record written by a coordinator that was gone
//! before it could tell, and the next one, as Apache Kafka's, counts from when it has loaded that
//! record: so it begins with the first request that was not answered well. And it ends with the
//! answer to the request that says so: others may have what was given back as soon as that request
//! is on its way, but when it is lost, the coordinator still waits for it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelog::base::{Instant, Uuid};

/// A topic's name, and a partition of it.
pub type Slot = (String, i32);

/// Partitions.
pub type Slots = BTreeSet<Slot>;

pub type Shared = Rc<RefCell<Seen>>;

/// The number of a life.
pub type LifeId = u64;

/// A membership.
#[derive(Debug)]
struct Life {
    member: String,
    instance: Option<String>,
    /// Until then the coordinator keeps it in.
    safe_until: Instant,
    /// What it claims; with the time until which it has to give it back, if it was told to.
    claims: BTreeMap<Slot, Option<Instant>>,
    /// Until when the coordinator has to hear what the life said that it gave back.
    heard_by: Option<Instant>,
    /// Until when it has to give back what an answer may tell it to that it has not heard.
    unheard_by: Option<Instant>,
}

impl Life {
    /// Until when it is in: one that does not give back in time is out with all it has.
    fn stays_until(&self) -> Instant {
        let known = self.claims.values().flatten();
        let given_back_by = known.chain(&self.heard_by).chain(&self.unheard_by).min().copied();
        given_back_by.map_or(self.safe_until, |at| at.min(self.safe_until))
    }
}

/// What a member thinks of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct View {
    pub member: String,
    pub epoch: i32,
    pub owned: Slots,
    /// The topics it wants.
    pub topics: BTreeSet<String>,
    /// Whether the coordinator has just said that all is well.
    pub is_steady: bool,
}

/// One commit of an offset.
#[derive(Debug)]
struct Commit {
    offset: i64,
    sent: Instant,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Unknown,
    Acknowledged(Instant),
    Refused,
}

/// What was seen of one group.
#[derive(Debug, Default)]
pub struct Group {
    lives: BTreeMap<LifeId, Life>,
    /// The newest generation or epoch that lasts: a later one is never less.
    pub epoch_floor: i32,
    /// Who was told to have a partition in a generation of the classic protocol.
    owners: BTreeMap<(i32, Slot), String>,
    commits: BTreeMap<Slot, Vec<Commit>>,
    /// Topics that were deleted: their offsets may go.
    gone: BTreeSet<String>,
    /// The members that are there, by number.
    pub views: BTreeMap<usize, View>,
}

/// What the clients of a run have seen.
#[derive(Default)]
pub struct Seen {
    pub groups: BTreeMap<String, Group>,
    pub names: BTreeMap<Uuid, String>,
    /// Whether faults are over: members go on with what they do, and nothing else.
    pub is_calm: bool,
    /// Whether the broker is about to end for the last time: some members go before it.
    pub is_ending: bool,
    lives: u64,
    offsets: i64,
}

impl Seen {
    pub fn group(&mut self, name: &str) -> &mut Group {
        self.groups.get_mut(name).expect("a group of the plan")
    }

    /// A membership begins.
    pub fn begin(&mut self, group: &str, member: &str, instance: Option<&str>) -> LifeId {
        self.lives += 1;
        let life = Life {
            member: member.to_owned(),
            instance: instance.map(str::to_owned),
            safe_until: Instant::from_nanos(0),
            claims: BTreeMap::new(),
            heard_by: None,
            unheard_by: None,
        };
        self.groups.get_mut(group).expect("a group of the plan").lives.insert(self.lives, life);
        self.lives
    }

    /// The offset of the next commit: greater than all before.
    pub fn next_offset(&mut self) -> i64 {
        self.offsets += 1;
        self.offsets
    }
}

impl Group {
    /// A life ends: it claims nothing any more.
    pub fn end(&mut self, life: LifeId) {
        self.lives.remove(&life);
    }

    /// The coordinator answered well: it keeps the member until then.
    pub fn vouch(&mut self, life: LifeId, until: Instant) {
        if let Some(life) = self.lives.get_mut(&life) {
            life.safe_until = life.safe_until.max(until);
        }
    }

    /// Whether the coordinator keeps it in at `at`, as far as it has heard.
    pub fn is_safe(&self, life: LifeId, at: Instant) -> bool {
        self.lives.get(&life).is_some_and(|life| life.stays_until() > at)
    }

    /// The member asks for an answer that may tell it to give back by then; none when it has heard
    /// all answers.
    pub fn unheard(&mut self, life: LifeId, by: Option<Instant>) {
        if let Some(life) = self.lives.get_mut(&life) {
            life.unheard_by = by;
        }
    }

    /// The member asks to be let out, or somebody comes in its place: it may be out any time.
    pub fn unvouch(&mut self, instance: &str) {
        for life in self.lives.values_mut() {
            if life.instance.as_deref() == Some(instance) {
                life.safe_until = Instant::from_nanos(0);
            }
        }
    }

    /// The member was told that it is none.
    pub fn fenced(&self, life: LifeId, now: Instant, why: &str) {
        if let Some(life) = self.lives.get(&life) {
            let safe_until = life.stays_until();
            assert!(
                safe_until <= now,
                "{} was put out ({why}) at {now:?}, but it was safe until {safe_until:?}",
                life.member
            );
        }
    }

    /// The member was told to have exactly these; others have to be given back by `revoke_by`.
    pub fn told(&mut self, id: LifeId, now: Instant, slots: &Slots, revoke_by: Instant) {
        let Some(own) = self.lives.get(&id) else { return };
        let member = own.member.clone();
        for (other, life) in &self.lives {
            if *other == id {
                continue;
            }
            let until = life.stays_until();
            for slot in life.claims.keys() {
                assert!(
                    !slots.contains(slot) || until <= now,
                    "{slot:?} was given to {member} at {now:?}, and {} has it until {until:?}",
                    life.member,
                );
            }
        }
        let Some(own) = self.lives.get_mut(&id) else { return };
        for (slot, given_back_by) in &mut own.claims {
            if slots.contains(slot) {
                *given_back_by = None;
            } else {
                given_back_by.get_or_insert(revoke_by);
            }
        }
        for slot in slots {
            own.claims.entry(slot.clone()).or_default();
        }
    }

    /// The member says that it has these at most.
    pub fn keeps(&mut self, life: LifeId, slots: &Slots) {
        let Some(life) = self.lives.get_mut(&life) else { return };
        let gone = life.claims.iter().filter(|(slot, _)| !slots.contains(*slot));
        let due = gone.filter_map(|(_, given_back_by)| *given_back_by);
        life.heard_by = due.chain(life.heard_by).min();
        life.claims.retain(|slot, _| slots.contains(slot));
    }

    /// The coordinator has heard what the member has.
    pub fn heard(&mut self, life: LifeId) {
        if let Some(life) = self.lives.get_mut(&life) {
            life.heard_by = None;
        }
    }

    /// A member of the classic protocol was told what it has in a generation.
    pub fn synced(&mut self, generation: i32, member: &str, slots: &Slots) {
        for slot in slots {
            let owner = self.owners.entry((generation, slot.clone()));
            let owner = owner.or_insert_with(|| member.to_owned());
            assert_eq!(owner, member, "{slot:?} has two owners in generation {generation}");
        }
        self.raise_floor(generation);
    }

    /// A member was told this epoch: the group had come that far.
    pub fn raise_floor(&mut self, epoch: i32) {
        self.epoch_floor = self.epoch_floor.max(epoch);
    }

    pub fn commit_sent(&mut self, slot: &Slot, offset: i64, now: Instant) {
        let commit = Commit { offset, sent: now, fate: Fate::Unknown };
        self.commits.entry(slot.clone()).or_default().push(commit);
    }

    pub fn commit_acknowledged(&mut self, slot: &Slot, offset: i64, now: Instant) {
        self.decide(slot, offset, Fate::Acknowledged(now));
    }

    pub fn commit_refused(&mut self, slot: &Slot, offset: i64) {
        self.decide(slot, offset, Fate::Refused);
    }

    fn decide(&mut self, slot: &Slot, offset: i64, fate: Fate) {
        let commits = self.commits.get_mut(slot).into_iter().flatten();
        for commit in commits.filter(|commit| commit.offset == offset) {
            commit.fate = fate;
        }
    }

    /// The partitions that somebody tried to commit.
    pub fn committed(&self) -> impl Iterator<Item = &Slot> {
        self.commits.keys().filter(|(topic, _)| !self.gone.contains(topic))
    }

    /// Checks a fetched offset that was asked for at `asked`: no acknowledged one was lost, none
    /// came back that a later one had replaced, and nothing comes from nowhere.
    pub fn fetched(&self, slot: &Slot, asked: Instant, offset: i64) {
        if self.gone.contains(&slot.0) {
            return;
        }
        let nothing = Vec::new();
        let commits = self.commits.get(slot).unwrap_or(&nothing);
        let found = commits.iter().find(|commit| commit.offset == offset);
        let none = offset < 0;
        assert!(none || found.is_some(), "{slot:?}: nobody committed {offset}");
        let refused = found.is_some_and(|commit| commit.fate == Fate::Refused);
        assert!(!refused, "{slot:?}: {offset} was refused, and is there");
        for commit in commits {
            let Fate::Acknowledged(at) = commit.fate else { continue };
            if at > asked {
                continue;
            }
            assert!(!none, "{slot:?}: {} was acknowledged, nothing is there", commit.offset);
            let is_older = found.is_some_and(|found| match found.fate {
                Fate::Acknowledged(at) => at < commit.sent,
                Fate::Unknown | Fate::Refused => false,
            });
            assert!(!is_older, "{slot:?}: {} was acknowledged, {offset} is there", commit.offset);
        }
    }

    /// A topic is deleted: its offsets may go.
    pub fn forget_topic(&mut self, name: &str) {
        self.gone.insert(name.to_owned());
    }
}
