//! Coordinators from outside: requests in, answers and records out.

mod clocks;
mod consumer_errors;
mod consumer_history;
mod consumers;
mod history;
mod keeping;
mod memory;
mod migrations;
mod rebalances;
mod statics;
mod too_large;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Instant, LeaderEpoch, Timestamp};
use crate::group::coordinator::{Coordinator, Effect, WriteId};
use crate::group::message::{
    Answer, Commit, CommitPartition, CommitTopic, DeleteOffsets, Describe, Fetch, FetchTopic,
    Heartbeat, Join, Joined, Leave, Leaving, List, Request, Sync, Ticket,
};
use crate::group::record::Record;
use crate::group::{ConsumerSettings, Now, Settings};
use crate::metadata::Image;
use crate::protocol::{ErrorCode, Str};

/// A coordinator, the log it writes to, and the answers it gave.
struct Bench {
    coordinator: Coordinator,
    image: Arc<Image>,
    now: Now,
    ticket: u64,
    random: u64,
    /// Records that were appended and not reported.
    pending: Vec<(WriteId, Vec<Record>)>,
    log: Vec<Record>,
    answers: BTreeMap<u64, Answer>,
    unanswered: BTreeSet<u64>,
    /// Whether the coordinator asks to be loaded anew.
    reloads: bool,
    /// Whether records are committed as soon as they are appended.
    commits_at_once: bool,
}

fn text(text: &str) -> Str {
    Str::from_string(text.to_owned())
}

fn optional(given: &str) -> Option<Str> {
    (!given.is_empty()).then(|| text(given))
}

fn settings() -> Settings {
    let consumer = ConsumerSettings { assignment_interval_ms: 0, ..ConsumerSettings::default() };
    Settings { initial_rebalance_delay: Duration::ZERO, consumer, ..Settings::default() }
}

/// The metadata of a consumer of topic `t`.
fn subscription() -> Bytes {
    Bytes::from_static(b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff")
}

fn join(member: &str, instance: &str) -> Join {
    Join {
        version: 9,
        group: text("g"),
        member: optional(member),
        instance: optional(instance),
        protocol_type: text("consumer"),
        protocols: vec![(text("range"), subscription())],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        random: [0; 16],
    }
}

fn sync(member: &str, generation: i32, assignments: &[(&str, &'static str)]) -> Sync {
    let assignments = assignments.iter();
    Sync {
        group: text("g"),
        member: text(member),
        instance: None,
        generation,
        protocol_type: Some(text("consumer")),
        protocol: Some(text("range")),
        assignments: assignments
            .map(|(id, part)| (text(id), Bytes::from_static(part.as_bytes())))
            .collect(),
    }
}

fn heartbeat(member: &str, instance: &str, generation: i32) -> Request {
    let (member, instance) = (text(member), optional(instance));
    Request::Heartbeat(Heartbeat { group: text("g"), member, instance, generation })
}

fn leaving(member: &str, instance: &str) -> Leaving {
    Leaving { member: optional(member), instance: optional(instance), reason: None }
}

fn leave(members: &[Leaving]) -> Request {
    Request::Leave(Leave { group: text("g"), members: members.to_vec() })
}

fn commit(member: &str, generation: Option<i32>, offset: i64) -> Commit {
    let partition = CommitPartition {
        partition: 0,
        offset,
        leader_epoch: Some(LeaderEpoch::new(3)),
        metadata: Some(text("note")),
    };
    Commit {
        version: 9,
        group: text("g"),
        member: optional(member),
        instance: None,
        generation,
        retention_ms: None,
        topics: vec![CommitTopic { name: text("t"), id: None, partitions: vec![partition] }],
    }
}

fn fetch(require_stable: bool) -> Request {
    let topic = FetchTopic { name: text("t"), id: None, partitions: vec![0] };
    let topics = Some(vec![topic]);
    Request::Fetch(Fetch { topics, require_stable, ..Fetch::of(text("g")) })
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut bench = Self {
            coordinator: Coordinator::new(settings),
            image: Arc::default(),
            now: Now { instant: Instant::from_nanos(0), wall: Timestamp::from_millis(1_000_000) },
            ticket: 0,
            random: 0,
            pending: Vec::new(),
            log: Vec::new(),
            answers: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            reloads: false,
            commits_at_once: true,
        };
        let mut effects = Vec::new();
        bench.coordinator.loaded(bench.now, &mut effects);
        bench.settle(effects);
        bench
    }

    fn settle(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { write, records } => self.pending.push((write, records)),
                Effect::Reload => self.reloads = true,
                Effect::Answer { ticket, answer } => {
                    assert!(self.unanswered.remove(&ticket.0), "{ticket:?} is answered once");
                    self.answers.insert(ticket.0, answer);
                }
            }
        }
        self.coordinator.check_invariants();
        while self.commits_at_once && !self.pending.is_empty() {
            self.commit_one();
        }
    }

    fn commit_one(&mut self) {
        let (write, records) = self.pending.remove(0);
        self.log.extend(records);
        let mut effects = Vec::new();
        self.coordinator.committed(self.now, write, &mut effects);
        self.settle(effects);
    }

    fn fail_one(&mut self, why: ErrorCode) {
        let (write, _) = self.pending.remove(0);
        let mut effects = Vec::new();
        self.coordinator.failed(self.now, write, why, &mut effects);
        self.settle(effects);
    }

    fn ask(&mut self, request: Request) -> u64 {
        self.ticket += 1;
        let ticket = self.ticket;
        self.unanswered.insert(ticket);
        let mut effects = Vec::new();
        self.coordinator.handle(self.now, Ticket(ticket), request, &mut effects);
        self.settle(effects);
        ticket
    }

    fn answered(&mut self, request: Request) -> Answer {
        let ticket = self.ask(request);
        self.answers.remove(&ticket).expect("an answer at once")
    }

    fn ask_join(&mut self, mut join: Join) -> u64 {
        self.random += 1;
        join.random[8..].copy_from_slice(&self.random.to_be_bytes());
        self.ask(Request::Join(join))
    }

    fn joined(&mut self, ticket: u64) -> Joined {
        match self.answers.remove(&ticket) {
            Some(Answer::Join(joined)) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    fn sync_of(&mut self, ticket: u64) -> (ErrorCode, Bytes) {
        match self.answers.remove(&ticket) {
            Some(Answer::Sync(synced)) => (synced.error, synced.assignment),
            other => panic!("not synced: {other:?}"),
        }
    }

    /// Gets a member id (KIP-394) and joins with it; the Join may be parked.
    fn enter(&mut self) -> (Str, u64) {
        let ticket = self.ask_join(join("", ""));
        let required = self.joined(ticket);
        assert_eq!(required.error, ErrorCode::MemberIdRequired);
        let ticket = self.ask_join(join(&required.member, ""));
        (required.member, ticket)
    }

    /// Lets time pass, waking the coordinator whenever it asks for it.
    fn pass(&mut self, millis: u64) {
        let end = self.now.instant + Duration::from_millis(millis);
        let mut steps = 0;
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            steps += 1;
            assert!(steps < 100_000, "it wakes without end");
            self.move_to(at.max(self.now.instant));
            let mut effects = Vec::new();
            self.coordinator.tick(self.now, &mut effects);
            self.settle(effects);
        }
        self.move_to(end);
    }

    fn move_to(&mut self, instant: Instant) {
        let passed = instant.since(self.now.instant);
        let wall = self.now.wall.to_wire() + i64::try_from(passed.as_millis()).unwrap();
        self.now = Now { instant, wall: Timestamp::from_millis(wall) };
    }

    /// A stable group of `count` members; the leader first. Their ids and the generation.
    fn stable(&mut self, count: usize) -> (Vec<Str>, i32) {
        let mut entered = vec![self.enter()];
        self.pass(0);
        for _ in 1..count {
            entered.push(self.enter());
        }
        // Whoever was in before joins again.
        for (id, ticket) in &mut entered {
            if self.answers.remove(ticket).is_some() {
                *ticket = self.ask_join(join(id, ""));
            }
        }
        let ids: Vec<Str> = entered.iter().map(|(id, _)| id.clone()).collect();
        let mut generation = 0;
        let mut leader = Str::default();
        for (_, ticket) in entered {
            let joined = self.joined(ticket);
            assert_eq!(joined.error, ErrorCode::None);
            (generation, leader) = (joined.generation, joined.leader);
        }
        let assignments: Vec<(Str, Bytes)> =
            ids.iter().map(|id| (id.clone(), Bytes::from(format!("part of {id}")))).collect();
        for id in &ids {
            let mut sync = sync(id, generation, &[]);
            if *id == leader {
                sync.assignments.clone_from(&assignments);
            }
            self.ask(Request::Sync(sync));
        }
        self.answers.clear();
        assert_eq!(self.state(), "Stable");
        let (mut first, rest): (Vec<Str>, _) = ids.into_iter().partition(|id| *id == leader);
        first.extend(rest);
        (first, generation)
    }

    fn state(&mut self) -> &'static str {
        let describe = Describe { version: 5, groups: vec![text("g")] };
        match self.answered(Request::Describe(describe)) {
            Answer::Describe(groups) => groups[0].state,
            other => panic!("{other:?}"),
        }
    }

    fn member_ids(&mut self) -> Vec<Str> {
        let describe = Describe { version: 6, groups: vec![text("g")] };
        match self.answered(Request::Describe(describe)) {
            Answer::Describe(groups) => {
                groups[0].members.iter().map(|one| one.id.clone()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        match self.answered(heartbeat(member, "", generation)) {
            Answer::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        }
    }

    fn commit_error(&mut self, commit: Commit) -> ErrorCode {
        match self.answered(Request::Commit(commit)) {
            Answer::Commit(topics) => topics[0].1[0].1,
            other => panic!("{other:?}"),
        }
    }

    fn offset(&mut self) -> Option<i64> {
        match self.answered(fetch(false)) {
            Answer::Fetch(fetched) => fetched.topics[0].partitions[0].offset,
            other => panic!("{other:?}"),
        }
    }

    fn left(&mut self, members: &[Leaving]) -> Vec<ErrorCode> {
        match self.answered(leave(members)) {
            Answer::Leave(left) => left.members.iter().map(|(_, error)| *error).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Another coordinator that loads what was committed, through bytes.
    fn reloaded(&self) -> Coordinator {
        let mut other = Coordinator::new(settings());
        let mut effects = Vec::new();
        other.metadata_changed(self.image.clone(), &mut effects);
        assert!(effects.is_empty(), "it only loads");
        for record in &self.log {
            let (key, value) = record.encode().expect("known records");
            other.replay(Record::decode(key, value).expect("what was written can be read"));
        }
        other
    }
}
