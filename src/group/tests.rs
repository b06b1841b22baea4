//! Coordinators from outside: requests in, answers and records out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Instant, LeaderEpoch, Timestamp};
use crate::group::coordinator::{Coordinator, Effect, WriteId};
use crate::group::message::{
    Answer, Commit, CommitPartition, CommitTopic, DeleteOffsets, Describe, Fetch, FetchTopic,
    Heartbeat, Join, Joined, Leave, Leaving, List, Request, Sync, Ticket,
};
use crate::group::record::Record;
use crate::group::{Now, Settings};
use crate::protocol::{ErrorCode, Str};

/// A coordinator, the log it writes to, and the answers it gave.
struct Bench {
    coordinator: Coordinator,
    now: Now,
    ticket: u64,
    random: u64,
    /// Records that were appended and not reported.
    pending: Vec<(WriteId, Vec<Record>)>,
    log: Vec<Record>,
    answers: BTreeMap<u64, Answer>,
    unanswered: BTreeSet<u64>,
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
    Settings { initial_rebalance_delay: Duration::ZERO, ..Settings::default() }
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
    Request::Fetch(Fetch { group: text("g"), topics: Some(vec![topic]), require_stable })
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut bench = Self {
            coordinator: Coordinator::new(settings),
            now: Now { instant: Instant::from_nanos(0), wall: Timestamp::from_millis(1_000_000) },
            ticket: 0,
            random: 0,
            pending: Vec::new(),
            log: Vec::new(),
            answers: BTreeMap::new(),
            unanswered: BTreeSet::new(),
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
                Effect::Answer { ticket, answer } => {
                    assert!(self.unanswered.remove(&ticket.0), "{ticket:?} is answered once");
                    self.answers.insert(ticket.0, answer);
                }
            }
        }
        for group in self.coordinator.classics() {
            group.check_invariants();
        }
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
        join.random[..8].copy_from_slice(&self.random.to_be_bytes());
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
        for record in &self.log {
            let (key, value) = record.encode().expect("known records");
            other.replay(Record::decode(key, value).expect("what was written can be read"));
        }
        other
    }
}

#[test]
fn a_member_joins_with_the_id_it_was_given_and_an_old_one_at_once() {
    let mut bench = Bench::new(settings());
    let ticket = bench.ask_join(join("", ""));
    let required = bench.joined(ticket);
    assert_eq!(required.error, ErrorCode::MemberIdRequired);
    assert!(required.member.starts_with("client-"), "{}", required.member);
    assert_eq!(required.member.len(), "client-".len() + 36);
    assert_eq!(bench.log.len(), 1, "a group is on record from its first Join on");
    let parked = bench.ask_join(join(&required.member, ""));
    assert!(!bench.answers.contains_key(&parked), "the initial delay");
    bench.pass(0);
    let joined = bench.joined(parked);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
    assert_eq!((&joined.leader, joined.members.len()), (&required.member, 1));

    let mut bench = Bench::new(settings());
    let parked = bench.ask_join(Join { version: 3, ..join("", "") });
    bench.pass(0);
    assert_eq!(bench.joined(parked).error, ErrorCode::None);
}

#[test]
fn joins_that_can_not_be_are_refused_with_kafkas_errors() {
    let foreign = || vec![(text("roundrobin"), Bytes::new())];
    let cases: [(&str, Join, ErrorCode); 9] = [
        ("no group", Join { group: text(""), ..join("", "") }, ErrorCode::InvalidGroupId),
        (
            "short session",
            Join { session_timeout_ms: 5999, ..join("", "") },
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            "long session",
            Join { session_timeout_ms: 1_800_001, ..join("", "") },
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            "unknown group, known id",
            Join { group: text("other"), ..join("x", "") },
            ErrorCode::UnknownMemberId,
        ),
        (
            "no protocols",
            Join { group: text("o"), protocols: vec![], ..join("", "") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no type",
            Join { group: text("o"), protocol_type: text(""), ..join("", "") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "another type",
            Join { protocol_type: text("connect"), ..join("", "") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no common protocol",
            Join { protocols: foreign(), ..join("", "") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        ("unknown member", join("x", ""), ErrorCode::UnknownMemberId),
    ];
    for (name, join, error) in cases {
        let mut bench = Bench::new(settings());
        bench.stable(1);
        let ticket = bench.ask_join(join);
        assert_eq!(bench.joined(ticket).error, error, "{name}");
    }
}

#[test]
fn a_new_group_waits_for_more_members_as_long_as_they_come() {
    let delay = Duration::from_secs(3);
    let mut bench = Bench::new(Settings { initial_rebalance_delay: delay, ..settings() });
    let (_, first) = bench.enter();
    bench.pass(2000);
    let (_, second) = bench.enter();
    bench.pass(2000);
    assert!(!bench.answers.contains_key(&first), "somebody came: another delay");
    bench.pass(2000);
    assert_eq!(bench.joined(first).members.len(), 2);
    assert_eq!(bench.joined(second).members.len(), 0, "only the leader is told");

    let mut bench = Bench::new(Settings { initial_rebalance_delay: delay, ..settings() });
    let (_, first) = bench.enter();
    for _ in 0..14 {
        bench.pass(2000);
        bench.enter();
    }
    bench.pass(5000);
    assert_eq!(bench.joined(first).members.len(), 15, "at most the rebalance timeout");
}

#[test]
fn followers_wait_for_the_leaders_assignment_to_be_written() {
    for leader_first in [true, false] {
        let mut bench = Bench::new(settings());
        let (ids, generation) = bench.stable(3);
        let again: Vec<u64> = ids.iter().map(|id| bench.ask_join(join(id, ""))).collect();
        for ticket in again {
            bench.joined(ticket);
        }
        bench.commits_at_once = false;
        let generation = generation + 1;
        let from_leader =
            Request::Sync(sync(&ids[0], generation, &[(&ids[0], "a"), (&ids[1], "b")]));
        let follow =
            |bench: &mut Bench, id: &Str| bench.ask(Request::Sync(sync(id, generation, &[])));
        let (leader, one, two);
        if leader_first {
            leader = bench.ask(from_leader);
            one = follow(&mut bench, &ids[1]);
            two = follow(&mut bench, &ids[2]);
        } else {
            one = follow(&mut bench, &ids[1]);
            two = follow(&mut bench, &ids[2]);
            leader = bench.ask(from_leader);
        }
        assert_eq!(bench.state(), "CompletingRebalance");
        assert!(bench.answers.is_empty(), "nothing before it is on record");
        bench.commit_one();
        assert_eq!(bench.state(), "Stable");
        let part = |part: &'static str| (ErrorCode::None, Bytes::from_static(part.as_bytes()));
        assert_eq!(bench.sync_of(leader), part("a"));
        assert_eq!(bench.sync_of(one), part("b"));
        assert_eq!(bench.sync_of(two), part(""), "forgotten by the leader");
        let late = follow(&mut bench, &ids[1]);
        assert_eq!(bench.sync_of(late), part("b"), "asked again when stable");
    }
}

#[test]
fn an_assignment_that_can_not_be_written_makes_everybody_join_again() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    let again: Vec<u64> = ids.iter().map(|id| bench.ask_join(join(id, ""))).collect();
    for ticket in again {
        bench.joined(ticket);
    }
    bench.commits_at_once = false;
    let follower = bench.ask(Request::Sync(sync(&ids[1], generation + 1, &[])));
    let leader = bench.ask(Request::Sync(sync(&ids[0], generation + 1, &[])));
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.sync_of(follower).0, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(bench.sync_of(leader).0, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn syncs_and_heartbeats_of_strangers_and_of_other_times_are_refused() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    let me = &ids[1];
    let good = || sync(me, generation, &[]);
    let cases: [(&str, Sync, ErrorCode); 7] = [
        ("no group", Sync { group: text(""), ..good() }, ErrorCode::InvalidGroupId),
        ("unknown group", Sync { group: text("o"), ..good() }, ErrorCode::UnknownMemberId),
        ("unknown member", Sync { member: text("x"), ..good() }, ErrorCode::UnknownMemberId),
        ("generation", Sync { generation: generation - 1, ..good() }, ErrorCode::IllegalGeneration),
        (
            "type",
            Sync { protocol_type: Some(text("connect")), ..good() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "protocol",
            Sync { protocol: Some(text("sticky")), ..good() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        ("neither named", Sync { protocol: None, protocol_type: None, ..good() }, ErrorCode::None),
    ];
    for (name, sync, error) in cases {
        let ticket = bench.ask(Request::Sync(sync));
        assert_eq!(bench.sync_of(ticket).0, error, "{name}");
    }
    assert_eq!(bench.heartbeat(me, generation), ErrorCode::None);
    assert_eq!(bench.heartbeat("x", generation), ErrorCode::UnknownMemberId);
    assert_eq!(bench.heartbeat(me, generation + 1), ErrorCode::IllegalGeneration);
    bench.ask_join(join(&ids[0], ""));
    assert_eq!(bench.heartbeat(me, generation), ErrorCode::RebalanceInProgress);
    let ticket = bench.ask(Request::Sync(good()));
    assert_eq!(bench.sync_of(ticket).0, ErrorCode::RebalanceInProgress);
    assert_eq!(bench.commit_error(commit(me, Some(generation), 1)), ErrorCode::None);
    bench.ask_join(join(me, ""));
    assert_eq!(bench.heartbeat(me, generation + 1), ErrorCode::None, "completing");
    let error = bench.commit_error(commit(me, Some(generation + 1), 2));
    assert_eq!(error, ErrorCode::RebalanceInProgress, "completing");
}

#[test]
fn a_member_that_missed_its_answer_gets_it_again_and_a_leader_starts_a_rebalance() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    let ticket = bench.ask_join(join(&ids[1], ""));
    assert_eq!(bench.joined(ticket).generation, generation, "a follower, unchanged");
    assert_eq!(bench.state(), "Stable");
    bench.ask_join(join(&ids[0], ""));
    assert_eq!(bench.state(), "PreparingRebalance", "the leader");

    let mut bench = Bench::new(settings());
    let (ids, _) = bench.stable(2);
    let mut changed = join(&ids[1], "");
    changed.protocols.push((text("sticky"), Bytes::new()));
    bench.ask_join(changed);
    assert_eq!(bench.state(), "PreparingRebalance", "a follower that changed");
}

#[test]
fn the_protocol_is_voted_for_among_those_that_all_speak() {
    let mut bench = Bench::new(settings());
    let speak = |id: &str, names: &[&str]| Join {
        version: 3,
        protocols: names.iter().map(|name| (text(name), Bytes::new())).collect(),
        ..join(id, "")
    };
    let tickets = [
        bench.ask_join(speak("", &["a", "b", "c"])),
        bench.ask_join(speak("", &["c", "b", "a"])),
        bench.ask_join(speak("", &["b", "a"])),
        bench.ask_join(speak("", &["b", "a", "c"])),
    ];
    bench.pass(0);
    for ticket in tickets {
        // `c` is not spoken by all, so its friend votes for `b`.
        assert_eq!(bench.joined(ticket).protocol, Some(text("b")));
    }
}

#[test]
fn a_silent_member_is_dropped_and_the_others_rebalance() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    for _ in 0..4 {
        bench.pass(4000);
        bench.heartbeat(&ids[0], generation);
    }
    assert_eq!(bench.member_ids(), vec![ids[0].clone()]);
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.heartbeat(&ids[1], generation), ErrorCode::UnknownMemberId);
    let ticket = bench.ask_join(join(&ids[0], ""));
    assert_eq!(bench.joined(ticket).generation, generation + 1);
    bench.pass(60_000);
    assert_eq!(bench.state(), "Empty", "everybody fell silent");
    let written = bench.log.last().expect("the empty group is on record");
    assert!(matches!(written, Record::Group(_, Some(value)) if value.members.is_empty()));
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_out_and_so_is_its_id() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(3);
    let leader = bench.ask_join(join(&ids[0], ""));
    let follower = bench.ask_join(join(&ids[1], ""));
    for _ in 0..10 {
        // It lives, but is busy for longer than its rebalance timeout.
        bench.heartbeat(&ids[2], generation);
        bench.pass(3000);
    }
    assert_eq!(bench.joined(leader).members.len(), 2);
    assert_eq!(bench.joined(follower).generation, generation + 1);
    assert_eq!(bench.heartbeat(&ids[2], generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_leader_that_does_not_rejoin_is_replaced() {
    let mut bench = Bench::new(settings());
    let (ids, _) = bench.stable(2);
    let (_, third) = bench.enter();
    let follower = bench.ask_join(join(&ids[1], ""));
    bench.pass(31_000);
    let joined = bench.joined(follower);
    assert_ne!(joined.leader, ids[0]);
    assert_eq!(joined.leader, bench.joined(third).leader);
    assert!(!bench.member_ids().contains(&ids[0]));
}

#[test]
fn members_that_never_sync_are_dropped_after_the_rebalance_timeout() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    let tickets: Vec<u64> = ids.iter().map(|id| bench.ask_join(join(id, ""))).collect();
    for ticket in tickets {
        bench.joined(ticket);
    }
    bench.ask(Request::Sync(sync(&ids[0], generation + 1, &[])));
    assert_eq!(bench.state(), "Stable");
    for _ in 0..11 {
        bench.heartbeat(&ids[0], generation + 1);
        bench.heartbeat(&ids[1], generation + 1);
        bench.pass(3000);
    }
    assert_eq!(bench.member_ids(), vec![ids[0].clone()]);
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn an_id_that_nobody_joins_with_lapses_and_holds_up_nobody() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(1);
    let ticket = bench.ask_join(join("", ""));
    let pending = bench.joined(ticket).member;
    let leader = bench.ask_join(join(&ids[0], ""));
    assert!(!bench.answers.contains_key(&leader), "it may still come");
    bench.pass(10_001);
    assert_eq!(bench.joined(leader).generation, generation + 1);
    let ticket = bench.ask_join(join(&pending, ""));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_restarts_without_a_rebalance_and_fences_its_old_self() {
    let mut bench = Bench::new(settings());
    let tickets = [bench.ask_join(join("", "i1")), bench.ask_join(join("", "i2"))];
    bench.pass(0);
    let first = bench.joined(tickets[0]);
    let second = bench.joined(tickets[1]);
    assert!(first.member.starts_with("i1-"));
    let parts = [(&*first.member, "a"), (&*second.member, "b")];
    bench.ask(Request::Sync(sync(&first.member, 1, &parts)));
    bench.ask(Request::Sync(sync(&second.member, 1, &[])));
    bench.answers.clear();

    for (instance, old) in [("i1", &first.member), ("i2", &second.member)] {
        let ticket = bench.ask_join(join("", instance));
        let back = bench.joined(ticket);
        assert_eq!((back.error, back.generation), (ErrorCode::None, 1), "{instance}");
        assert_ne!(&back.member, old);
        assert_eq!(back.skip_assignment, instance == "i1", "{instance}: only the leader");
        assert_eq!(bench.state(), "Stable");
        let fenced = bench.answered(heartbeat(old, instance, 1));
        assert_eq!(fenced, Answer::Heartbeat(ErrorCode::FencedInstanceId));
        let ticket = bench.ask_join(join(old, instance));
        assert_eq!(bench.joined(ticket).error, ErrorCode::FencedInstanceId);
        let ticket = bench.ask(Request::Sync(sync(&back.member, 1, &[])));
        let part = if instance == "i1" { "a" } else { "b" };
        assert_eq!(bench.sync_of(ticket).1, part, "{instance} keeps its part");
        let unknown = bench.answered(heartbeat(&back.member, "i3", 1));
        assert_eq!(unknown, Answer::Heartbeat(ErrorCode::UnknownMemberId));
        let fenced = Commit { instance: optional(instance), ..commit(old, Some(1), 1) };
        assert_eq!(bench.commit_error(fenced), ErrorCode::FencedInstanceId);
        assert_eq!(bench.left(&[leaving(old, instance)]), [ErrorCode::FencedInstanceId]);
    }
    let old_client = bench.ask_join(Join { version: 8, ..join("", "i1") });
    let joined = bench.joined(old_client);
    assert_ne!(joined.leader, joined.member, "an old client must not think that it leads");
    assert_eq!(
        bench.left(&[leaving("", "i1"), leaving("", "i9")]),
        [ErrorCode::None, ErrorCode::UnknownMemberId]
    );
    assert_eq!(bench.state(), "PreparingRebalance");
}

#[test]
fn a_static_members_return_that_can_not_be_written_is_undone() {
    let mut bench = Bench::new(settings());
    let ticket = bench.ask_join(join("", "i1"));
    bench.pass(0);
    let id = bench.joined(ticket).member;
    bench.ask(Request::Sync(sync(&id, 1, &[])));
    bench.commits_at_once = false;
    let ticket = bench.ask_join(join("", "i1"));
    bench.fail_one(ErrorCode::NotLeaderOrFollower);
    assert_eq!(bench.joined(ticket).error, ErrorCode::NotCoordinator);
    assert_eq!(bench.member_ids(), vec![id.clone()]);
    assert_eq!(bench.heartbeat(&id, 1), ErrorCode::None);
}

#[test]
fn static_members_that_are_away_stay_in_the_group_until_their_session_ends() {
    let mut bench = Bench::new(settings());
    let long = |instance| Join { session_timeout_ms: 120_000, ..join("", instance) };
    let tickets = [bench.ask_join(long("i1")), bench.ask_join(long("i2"))];
    bench.pass(0);
    let ids = tickets.map(|ticket| bench.joined(ticket).member);
    bench.ask(Request::Sync(sync(&ids[0], 1, &[])));
    let leader = bench.ask_join(Join { session_timeout_ms: 120_000, ..join(&ids[0], "i1") });
    bench.pass(30_000);
    let joined = bench.joined(leader);
    assert_eq!((joined.generation, joined.members.len()), (2, 2));
}

#[test]
fn static_members_without_patience_do_not_keep_the_coordinator_busy() {
    let mut bench = Bench::new(settings());
    let hasty = |instance| Join { rebalance_timeout_ms: 1, ..join("", instance) };
    let tickets = [bench.ask_join(hasty("i1")), bench.ask_join(hasty("i2"))];
    bench.pass(0);
    let ids = tickets.map(|ticket| bench.joined(ticket).member);
    bench.ask(Request::Sync(sync(&ids[0], 1, &[])));
    bench.ask(Request::Sync(sync(&ids[1], 1, &[])));
    assert_eq!(bench.state(), "Stable");
    bench.left(&[leaving(&ids[0], "")]);
    bench.pass(1);
    assert_eq!(bench.state(), "PreparingRebalance", "i2 is away");
    for _ in 0..9 {
        let at = bench.coordinator.next_deadline().expect("it waits for i2");
        assert!(at >= bench.now.instant + Duration::from_millis(900), "it wakes too often");
        bench.pass(1000);
    }
    bench.pass(2000);
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn a_full_group_takes_nobody_in_but_keeps_those_it_has() {
    let mut bench = Bench::new(Settings { size_max: 2, ..settings() });
    let (ids, generation) = bench.stable(2);
    let ticket = bench.ask_join(join("", ""));
    assert_eq!(bench.joined(ticket).error, ErrorCode::GroupMaxSizeReached);
    let tickets: Vec<u64> = ids.iter().map(|id| bench.ask_join(join(id, ""))).collect();
    for ticket in tickets {
        assert_eq!(bench.joined(ticket).generation, generation + 1);
    }
}

#[test]
fn members_leave_together_and_each_hears_what_became_of_it() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(3);
    let ticket = bench.ask_join(join("", ""));
    let pending = bench.joined(ticket).member;
    let errors = bench.left(&[leaving(&ids[1], ""), leaving("x", ""), leaving(&pending, "")]);
    assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::None]);
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.left(&[leaving(&ids[0], ""), leaving(&ids[2], "")]), [ErrorCode::None; 2]);
    assert_eq!(bench.state(), "Empty");
    assert_eq!(bench.left(&[leaving(&ids[0], "")]), [ErrorCode::UnknownMemberId]);
    let unknown = Leave { group: text("o"), members: vec![leaving("x", "")] };
    let Answer::Leave(left) = bench.answered(Request::Leave(unknown)) else { panic!() };
    assert_eq!((left.error, left.members[0].1), (ErrorCode::None, ErrorCode::UnknownMemberId));
}

#[test]
fn offsets_are_taken_from_members_of_this_generation_and_from_clients_of_empty_groups() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.offset(), None, "an unknown group is no error");
    let old = Commit { version: 8, ..commit("x", Some(1), 1) };
    assert_eq!(bench.commit_error(old), ErrorCode::IllegalGeneration, "unknown group, old client");
    assert_eq!(bench.commit_error(commit("x", Some(1), 1)), ErrorCode::GroupIdNotFound);
    assert_eq!(bench.commit_error(commit("", None, 5)), ErrorCode::None);
    assert_eq!((bench.offset(), bench.state()), (Some(5), "Empty"));
    let (ids, generation) = bench.stable(1);
    let cases = [
        ("no member", commit("", None, 6), ErrorCode::UnknownMemberId),
        ("unknown", commit("x", Some(generation), 6), ErrorCode::UnknownMemberId),
        ("old", commit(&ids[0], Some(generation - 1), 6), ErrorCode::IllegalGeneration),
        ("no generation", commit(&ids[0], None, 6), ErrorCode::IllegalGeneration),
        ("good", commit(&ids[0], Some(generation), 7), ErrorCode::None),
    ];
    for (name, commit, error) in cases {
        assert_eq!(bench.commit_error(commit), error, "{name}");
    }
    assert_eq!(bench.offset(), Some(7));
    let mut long = commit(&ids[0], Some(generation), 8);
    long.topics[0].partitions[0].metadata = Some(text(&"x".repeat(4097)));
    assert_eq!(bench.commit_error(long), ErrorCode::OffsetMetadataTooLarge);
    let all = Fetch { group: text("g"), topics: None, require_stable: false };
    let Answer::Fetch(fetched) = bench.answered(Request::Fetch(all)) else { panic!() };
    let found = &fetched.topics[0].partitions[0];
    assert_eq!((found.offset, &*found.metadata), (Some(7), "note"));
    assert_eq!(found.leader_epoch, Some(LeaderEpoch::new(3)));
}

#[test]
fn an_offset_is_seen_once_it_is_committed_and_a_stable_fetch_waits_for_it() {
    let mut bench = Bench::new(settings());
    bench.commits_at_once = false;
    let first = bench.ask(Request::Commit(commit("", None, 1)));
    let second = bench.ask(Request::Commit(commit("", None, 2)));
    let stable = bench.ask(fetch(true));
    assert_eq!(bench.offset(), None);
    bench.commit_one();
    assert!(bench.answers.contains_key(&first) && !bench.answers.contains_key(&second));
    assert_eq!(bench.offset(), Some(1));
    bench.fail_one(ErrorCode::RequestTimedOut);
    let Some(Answer::Commit(topics)) = bench.answers.remove(&second) else { panic!() };
    assert_eq!(topics[0].1[0].1, ErrorCode::CoordinatorNotAvailable);
    let Some(Answer::Fetch(fetched)) = bench.answers.remove(&stable) else { panic!() };
    assert_eq!(fetched.topics[0].partitions[0].offset, Some(1));
    // A group that was made for a commit that failed is gone again.
    let other = Commit { group: text("other"), ..commit("", None, 1) };
    bench.ask(Request::Commit(other));
    bench.fail_one(ErrorCode::RequestTimedOut);
    let Answer::List(_, listed) = bench.answered(Request::List(List::default())) else { panic!() };
    assert_eq!(listed.len(), 1);
}

#[test]
fn offsets_in_use_are_not_deleted_and_groups_with_members_neither() {
    let mut bench = Bench::new(settings());
    let delete = |topic: &str| {
        let topics = vec![(text(topic), vec![0])];
        Request::DeleteOffsets(DeleteOffsets { group: text("g"), topics })
    };
    let error = |answer: Answer| match answer {
        Answer::DeleteOffsets(error, topics) => topics.first().map_or(error, |one| one.1[0].1),
        other => panic!("{other:?}"),
    };
    let drop = || Request::Delete(vec![text("g"), text("h")]);
    assert_eq!(error(bench.answered(delete("t"))), ErrorCode::GroupIdNotFound);
    let (ids, generation) = bench.stable(1);
    bench.commit_error(commit(&ids[0], Some(generation), 7));
    assert_eq!(error(bench.answered(delete("t"))), ErrorCode::GroupSubscribedToTopic);
    assert_eq!(error(bench.answered(delete("u"))), ErrorCode::None);
    let expected =
        vec![(text("g"), ErrorCode::NonEmptyGroup), (text("h"), ErrorCode::GroupIdNotFound)];
    assert_eq!(bench.answered(drop()), Answer::Delete(expected));
    bench.left(&[leaving(&ids[0], "")]);
    assert_eq!(error(bench.answered(delete("t"))), ErrorCode::None);
    assert_eq!(bench.offset(), None);
    bench.commit_error(commit("", None, 8));

    // A deletion that fails is undone; one that is committed leaves nothing behind.
    bench.commits_at_once = false;
    bench.ask(Request::Commit(commit("", None, 9)));
    let ticket = bench.ask(drop());
    assert_eq!(bench.state(), "Dead");
    let write = bench.pending.remove(1);
    let mut effects = Vec::new();
    bench.coordinator.failed(bench.now, write.0, ErrorCode::NotEnoughReplicas, &mut effects);
    bench.settle(effects);
    bench.commit_one();
    let Some(Answer::Delete(results)) = bench.answers.remove(&ticket) else { panic!() };
    assert_eq!(results[0].1, ErrorCode::CoordinatorNotAvailable);
    assert_eq!((bench.state(), bench.offset()), ("Empty", Some(9)));
    bench.commits_at_once = true;
    bench.answered(drop());
    assert_eq!((bench.state(), bench.offset()), ("Dead", None));
    assert_eq!(bench.reloaded().contents(), (vec![], vec![]));

    let mut bench = Bench::new(settings());
    let connect = Join { protocol_type: text("connect"), version: 3, ..join("", "") };
    bench.ask_join(connect);
    assert_eq!(error(bench.answered(delete("t"))), ErrorCode::NonEmptyGroup, "not a consumer");
}

#[test]
fn offsets_expire_once_their_group_has_been_empty_for_long_enough() {
    let day = 24 * 60 * 60 * 1000;
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(1);
    bench.commit_error(commit(&ids[0], Some(generation), 7));
    for _ in 0..(10 * day / 9000) {
        bench.pass(9000);
        bench.heartbeat(&ids[0], generation);
    }
    assert_eq!(bench.offset(), Some(7), "in use, however old");
    bench.left(&[leaving(&ids[0], "")]);
    bench.pass(6 * day);
    assert_eq!(bench.offset(), Some(7));
    bench.pass(day + 600_000);
    assert_eq!((bench.offset(), bench.state()), (None, "Dead"));
    assert_eq!(bench.reloaded().contents(), (vec![], vec![]));

    let mut bench = Bench::new(settings());
    bench.commit_error(Commit { retention_ms: Some(5000), ..commit("", None, 7) });
    bench.pass(600_000);
    assert_eq!(bench.offset(), None, "a time of its own");
}

#[test]
fn groups_are_listed_and_described_as_kafka_does() {
    let mut bench = Bench::new(settings());
    let (ids, _) = bench.stable(1);
    let simple = Commit { group: text("simple"), ..commit("", None, 1) };
    bench.commit_error(simple);
    let texts = |names: &[&str]| names.iter().map(|name| text(name)).collect::<Vec<_>>();
    let cases: [(&[&str], &[&str], &[&str]); 6] = [
        (&[], &[], &["g", "simple"]),
        (&["stable"], &[], &["g"]),
        (&["EMPTY", " Stable "], &[], &["g", "simple"]),
        (&["Dead"], &[], &[]),
        (&[], &["Classic"], &["g", "simple"]),
        (&[], &["consumer"], &[]),
    ];
    for (states, types, expected) in cases {
        let list = List { states: texts(states), types: texts(types) };
        let Answer::List(_, listed) = bench.answered(Request::List(list)) else { panic!() };
        let found: Vec<&str> = listed.iter().map(|one| &*one.group).collect();
        assert_eq!(found, expected, "{states:?} {types:?}");
    }
    for (version, error) in [(5, ErrorCode::None), (6, ErrorCode::GroupIdNotFound)] {
        let describe = Describe { version, groups: texts(&["g", "none"]) };
        let Answer::Describe(found) = bench.answered(Request::Describe(describe)) else { panic!() };
        assert_eq!((&*found[0].protocol, found[0].state), ("range", "Stable"));
        assert_eq!(found[0].members[0].metadata, subscription());
        assert_eq!((found[1].error, found[1].state), (error, "Dead"), "v{version}");
    }
    bench.ask_join(join(&ids[0], ""));
    let describe = Describe { version: 6, groups: texts(&["g"]) };
    let Answer::Describe(found) = bench.answered(Request::Describe(describe)) else { panic!() };
    assert!(found[0].members[0].metadata.is_empty(), "shown when stable only");
}

#[test]
fn whatever_waits_is_told_when_the_partition_moves_away() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    bench.commits_at_once = false;
    let tickets = [
        bench.ask(Request::Commit(commit(&ids[0], Some(generation), 1))),
        bench.ask(fetch(true)),
        bench.ask_join(join(&ids[0], "")),
    ];
    assert!(bench.answers.is_empty());
    let mut effects = Vec::new();
    bench.coordinator.unload(&mut effects);
    bench.settle(effects);
    for ticket in tickets {
        let error = match bench.answers.remove(&ticket) {
            Some(Answer::Commit(topics)) => topics[0].1[0].1,
            Some(Answer::Fetch(fetched)) => fetched.error,
            Some(Answer::Join(joined)) => joined.error,
            other => panic!("{other:?}"),
        };
        assert_eq!(error, ErrorCode::NotCoordinator);
    }
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::NotCoordinator);
    assert_eq!(bench.coordinator.next_deadline(), None);

    let mut loading = bench.reloaded();
    let mut effects = Vec::new();
    loading.handle(bench.now, Ticket(1), heartbeat("x", "", 1), &mut effects);
    loading.handle(bench.now, Ticket(2), fetch(false), &mut effects);
    let Effect::Answer { answer, .. } = &effects[0] else { panic!() };
    assert_eq!(*answer, Answer::Heartbeat(ErrorCode::None), "it must not drive members off");
    let Effect::Answer { answer: Answer::Fetch(fetched), .. } = &effects[1] else { panic!() };
    assert_eq!(fetched.error, ErrorCode::CoordinatorLoadInProgress);
}

#[test]
fn a_loaded_group_goes_on_in_its_generation_and_drops_who_died_meanwhile() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    let mut effects = Vec::new();
    bench.coordinator = bench.reloaded();
    bench.coordinator.loaded(bench.now, &mut effects);
    bench.settle(effects);
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::None);
    let ticket = bench.ask(Request::Sync(sync(&ids[1], generation, &[])));
    assert_eq!(bench.sync_of(ticket).1, format!("part of {}", ids[1]));
    bench.pass(9000);
    bench.heartbeat(&ids[0], generation);
    bench.pass(2000);
    assert_eq!(bench.member_ids(), vec![ids[0].clone()]);
}

/// A small generator of numbers, the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }
}

/// A client that follows the protocol, but forgets things and has odd ideas now and then.
#[derive(Default)]
struct Client {
    id: Str,
    instance: &'static str,
    generation: i32,
    members: Vec<Str>,
    waits: Option<u64>,
    next: Next,
}

/// What a client is to do next, if it does what it should.
#[derive(Clone, Copy, Default)]
enum Next {
    #[default]
    Join,
    Sync,
    Work,
}

impl Client {
    fn hear(&mut self, answer: Answer) {
        let error = match answer {
            Answer::Join(joined) => {
                self.id = joined.member;
                self.generation = joined.generation;
                self.members = joined.members.into_iter().map(|one| one.id).collect();
                self.next = Next::Sync;
                joined.error
            }
            Answer::Sync(synced) => {
                self.next = Next::Work;
                synced.error
            }
            Answer::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        };
        if error.is_error() {
            self.next = Next::Join;
        }
        if matches!(error, ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) {
            self.id = Str::default();
        }
    }

    fn step(&mut self, bench: &mut Bench, dice: &mut Dice) {
        if let Some(answer) = self.waits.and_then(|ticket| bench.answers.remove(&ticket)) {
            self.waits = None;
            self.hear(answer);
        }
        if self.waits.is_some() && dice.roll(20) > 0 {
            return;
        }
        let (id, generation) = (self.id.clone(), self.generation);
        match (dice.roll(60), self.next) {
            (0, _) => {
                bench.ask(leave(&[leaving(&id, self.instance)]));
                *self = Self { instance: self.instance, ..Self::default() };
            }
            // It crashes.
            (1, _) => *self = Self { instance: self.instance, ..Self::default() },
            (2, _) | (_, Next::Join) => {
                self.waits = Some(bench.ask_join(join(&id, self.instance)));
            }
            (_, Next::Sync) => {
                let mut request = sync(&id, generation, &[]);
                let part = |id: &Str| (id.clone(), Bytes::from(format!("part of {id}")));
                request.assignments = self.members.iter().map(part).collect();
                self.waits = Some(bench.ask(Request::Sync(request)));
            }
            (3..20, Next::Work) => {
                let offset = i64::try_from(bench.ticket).unwrap();
                bench.ask(Request::Commit(commit(&id, Some(generation), offset)));
            }
            (_, Next::Work) => {
                self.waits = Some(bench.ask(heartbeat(&id, self.instance, generation)));
            }
        }
    }
}

#[test]
fn replaying_what_was_written_gives_the_same_groups_and_offsets() {
    let mut stable_count = 0;
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut bench = Bench::new(settings());
        bench.commits_at_once = false;
        let instances = ["", "", "", "i1", "i2"];
        let mut clients = instances.map(|instance| Client { instance, ..Client::default() });
        for _ in 0..300 {
            let which = dice.roll(clients.len());
            clients[which].step(&mut bench, &mut dice);
            match dice.roll(6) {
                0 => bench.pass(dice.roll(4000) as u64),
                1..=3 if !bench.pending.is_empty() => bench.commit_one(),
                4 if dice.roll(10) == 0 && !bench.pending.is_empty() => {
                    // What follows in the log fails as well.
                    while !bench.pending.is_empty() {
                        bench.fail_one(ErrorCode::NotEnoughReplicas);
                    }
                }
                5 if dice.roll(30) == 0 => {
                    bench.ask(Request::Delete(vec![text("g")]));
                }
                _ => {}
            }
        }
        while !bench.pending.is_empty() {
            bench.commit_one();
        }
        let state = bench.state();
        let (groups, offsets) = bench.coordinator.contents();
        let (groups_loaded, offsets_loaded) = bench.reloaded().contents();
        assert_eq!(offsets, offsets_loaded, "seed {seed}");
        // A rebalance under way is not on record: it begins again.
        if matches!(state, "Stable" | "Empty") {
            assert_eq!(groups, groups_loaded, "seed {seed}");
            stable_count += usize::from(state == "Stable");
        }
        bench.commits_at_once = true;
        bench.pass(600_000);
        assert!(matches!(bench.state(), "Empty" | "Dead"), "seed {seed}: it settles");
        assert!(bench.unanswered.is_empty(), "seed {seed}: {:?} are stuck", bench.unanswered);
    }
    assert!(stable_count > 20, "{stable_count} histories ended with a stable group");
}
