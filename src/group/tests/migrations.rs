//! Groups that go over between the classic and the consumer protocol, with members and without.

use super::consumers::{Member, Parts, image, parts, settle};
use super::*;
use crate::group::Migration;
use crate::group::message::{ConsumerHeartbeat, Described};

/// The bytes of topics with partitions, as consumers write them.
fn partitions(parts: &Parts) -> Vec<u8> {
    let mut bytes = (i32::from(!parts.is_empty())).to_be_bytes().to_vec();
    if !parts.is_empty() {
        bytes.extend(b"\x00\x01t");
        bytes.extend(i32::try_from(parts.len()).unwrap().to_be_bytes());
        parts.iter().for_each(|(_, at)| bytes.extend(at.to_be_bytes()));
    }
    bytes
}

/// The metadata of a consumer of topic `t` that has some partitions of it.
fn owning(parts: &Parts) -> Bytes {
    let mut bytes = b"\x00\x01\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff".to_vec();
    bytes.extend(partitions(parts));
    Bytes::from(bytes)
}

fn assignment(parts: &Parts) -> Bytes {
    let mut bytes = b"\x00\x01".to_vec();
    bytes.extend(partitions(parts));
    bytes.extend(b"\xff\xff\xff\xff");
    Bytes::from(bytes)
}

fn parsed(assignment: &Bytes) -> Parts {
    let numbers = assignment.get(13..assignment.len() - 4).unwrap_or_default();
    let numbers = numbers.chunks(4).map(|raw| i32::from_be_bytes(raw.try_into().unwrap()));
    parts(1, numbers)
}

/// A member of the classic protocol that does at once what it is told.
#[derive(Clone, Debug, Default)]
struct Old {
    id: Str,
    instance: &'static str,
    generation: i32,
    owned: Parts,
}

impl Old {
    fn join(&self) -> Join {
        let protocols = vec![(text("range"), owning(&self.owned))];
        Join { protocols, ..join(&self.id, self.instance) }
    }

    /// Joins, again if it has to, and asks for its assignment.
    fn enter(&mut self, bench: &mut Bench) {
        for _ in 0..2 {
            let ticket = bench.ask_join(self.join());
            let joined = bench.joined(ticket);
            self.id = joined.member.clone();
            if joined.error == ErrorCode::MemberIdRequired {
                continue;
            }
            assert_eq!(joined.error, ErrorCode::None);
            assert!(joined.generation >= self.generation, "generations never go back");
            self.generation = joined.generation;
            break;
        }
        let sync = Sync { protocol: None, ..sync(&self.id, self.generation, &[]) };
        let ticket = bench.ask(Request::Sync(sync));
        let (error, assignment) = bench.sync_of(ticket);
        assert_eq!(error, ErrorCode::None);
        self.owned = parsed(&assignment);
    }

    /// A heartbeat, and whatever it has to do then.
    fn beat(&mut self, bench: &mut Bench) {
        match bench.answered(heartbeat(&self.id, self.instance, self.generation)) {
            Answer::Heartbeat(ErrorCode::None) => {}
            Answer::Heartbeat(ErrorCode::RebalanceInProgress) => self.enter(bench),
            other => panic!("{other:?}"),
        }
    }
}

/// A stable classic group of two members, with a part of four partitions each.
fn classic_pair(bench: &mut Bench) -> [Old; 2] {
    let metadata =
        |join: Join| Join { protocols: vec![(text("range"), owning(&Parts::new()))], ..join };
    let mut olds = [Old::default(), Old { instance: "i2", ..Old::default() }];
    let first = bench.ask_join(metadata(join("", "")));
    olds[0].id = bench.joined(first).member;
    let first = bench.ask_join(metadata(join(&olds[0].id, "")));
    let second = bench.ask_join(metadata(join("", "i2")));
    bench.pass(0);
    let leader = bench.joined(first);
    olds[1].id = bench.joined(second).member;
    let parts = [parts(1, 0..2), parts(1, 2..4)];
    for (old, part) in olds.iter_mut().zip(&parts) {
        (old.generation, old.owned) = (leader.generation, part.clone());
    }
    for old in &olds {
        let mut sync = sync(&old.id, old.generation, &[]);
        if old.id == leader.leader {
            let each = olds.iter().zip(&parts);
            sync.assignments = each.map(|(to, part)| (to.id.clone(), assignment(part))).collect();
        }
        bench.ask(Request::Sync(sync));
    }
    bench.answers.clear();
    assert_eq!(bench.state(), "Stable");
    olds
}

fn classic_described(bench: &mut Bench) -> Described {
    let describe = Describe { version: 6, groups: vec![text("g")] };
    match bench.answered(Request::Describe(describe)) {
        Answer::Describe(mut groups) => groups.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_classic_group_is_upgraded_member_by_member_and_downgraded_again() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut olds = classic_pair(&mut bench);
    let mut new = Member::new("n", &["t"]);
    new.beat(&mut bench);
    assert_eq!(new.owned, Parts::new(), "everything is still the others'");
    let described = bench.described();
    assert_eq!(described.members.len(), 3);
    assert_eq!(described.members.iter().filter(|one| one.is_classic).count(), 2);
    bench.check_replay("upgraded");
    for round in 0..6 {
        olds.iter_mut().for_each(|old| old.beat(&mut bench));
        new.beat(&mut bench);
        let all = olds.iter().map(|old| &old.owned).chain([&new.owned]);
        let owned: Vec<_> = all.flatten().collect();
        assert_eq!(owned.len(), owned.iter().collect::<BTreeSet<_>>().len(), "round {round}");
    }
    let owned: usize = olds.iter().map(|old| old.owned.len()).sum();
    assert_eq!(owned + new.owned.len(), 4);
    assert_eq!((bench.described().state, new.owned.is_empty()), ("Stable", false));
    let commits = [
        (commit(&olds[0].id, Some(olds[0].generation), 3), ErrorCode::None),
        (commit(&olds[0].id, Some(olds[0].generation + 1), 3), ErrorCode::IllegalGeneration),
    ];
    for (commit, error) in commits {
        assert_eq!(bench.commit_error(commit), error, "members of either kind commit");
    }
    bench.check_replay("mixed");

    let leave = ConsumerHeartbeat { epoch: -1, ..new.heartbeat() };
    bench.consumer(leave).expect("it may leave");
    let described = classic_described(&mut bench);
    assert_eq!((described.state, described.members.len()), ("PreparingRebalance", 2));
    for old in &olds {
        let rejoin = bench.heartbeat_of(&old.id, old.instance, old.generation);
        assert_ne!(rejoin, ErrorCode::UnknownMemberId);
    }
    let (groups, _) = bench.reloaded().contents();
    assert_eq!((groups.len(), groups[0].1.members.len()), (1, 2));
    assert!(groups[0].1.members.iter().all(|one| parsed(&one.assignment).len() <= 2));
    assert_eq!(bench.offset(), Some(3), "offsets stay");
}

#[test]
fn a_group_that_went_over_rebalances_even_if_it_is_loaded_again_before() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut olds = classic_pair(&mut bench);
    let mut new = Member::new("n", &["t"]);
    for _ in 0..6 {
        new.beat(&mut bench);
        olds.iter_mut().for_each(|old| old.beat(&mut bench));
    }
    assert!(!new.owned.is_empty(), "somebody has to take it over");
    bench.consumer(ConsumerHeartbeat { epoch: -1, ..new.heartbeat() }).expect("it may leave");
    for round in 0..2 {
        bench.reload();
        bench.check_replay("downgraded");
        assert_eq!(classic_described(&mut bench).state, "PreparingRebalance", "{round}");
        for old in &olds {
            let heard = bench.heartbeat_of(&old.id, old.instance, old.generation);
            assert_eq!(heard, ErrorCode::RebalanceInProgress, "{round}");
        }
    }
    let tickets = olds.each_ref().map(|old| bench.ask_join(old.join()));
    let joined = tickets.map(|ticket| bench.joined(ticket));
    let leader = &joined[0].leader;
    let mut assigns = sync(leader, joined[0].generation, &[]);
    assigns.assignments = vec![(leader.clone(), assignment(&parts(1, 0..4)))];
    bench.ask(Request::Sync(assigns));
    bench.reload();
    let described = classic_described(&mut bench);
    assert_eq!((described.state, described.members.len()), ("Stable", 2), "it is through");
}

#[test]
fn a_group_that_goes_there_and_back_gives_nothing_away_that_members_still_have() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    classic_pair(&mut bench);
    let mut new = Member::new("n", &["t"]);
    new.beat(&mut bench);
    bench.consumer(ConsumerHeartbeat { epoch: -1, ..new.heartbeat() }).expect("it may leave");
    assert_eq!(classic_described(&mut bench).state, "PreparingRebalance");
    let mut other = Member::new("o", &["t"]);
    other.beat(&mut bench);
    assert!(other.owned.is_empty(), "the others have everything, and were told of nothing");
}

#[test]
fn static_members_change_their_protocol_in_place() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let olds = classic_pair(&mut bench);
    let mut new = Member::with_instance("n", "i2");
    new.beat(&mut bench);
    assert_eq!(new.owned, olds[1].owned, "it takes over what its old self had");
    bench.check_replay("upgraded");
    let fenced = bench.heartbeat_of(&olds[1].id, "i2", olds[1].generation);
    assert_eq!(fenced, ErrorCode::FencedInstanceId);
    let mut first = olds[0].clone();
    first.beat(&mut bench);
    let leave = ConsumerHeartbeat { epoch: -2, ..new.heartbeat() };
    bench.consumer(leave).expect("it may leave");
    let mut back = Old { instance: "i2", ..Old::default() };
    let ticket = bench.ask_join(back.join());
    let joined = bench.joined(ticket);
    assert_eq!(joined.error, ErrorCode::None);
    (back.id, back.generation) = (joined.member, joined.generation);
    assert_eq!(classic_described(&mut bench).state, "Stable", "nobody has to rebalance");
    let ticket = bench.ask(Request::Sync(sync(&back.id, back.generation, &[])));
    let (error, assignment) = bench.sync_of(ticket);
    assert_eq!((error, parsed(&assignment)), (ErrorCode::None, olds[1].owned.clone()));
    assert_eq!(bench.heartbeat_of(&back.id, "i2", back.generation), ErrorCode::None);
    bench.check_replay("downgraded");
}

#[test]
fn members_of_the_classic_protocol_are_held_to_its_rules() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut new = Member::new("n", &["t"]);
    new.beat(&mut bench);
    let mut old = Old::default();
    old.enter(&mut bench);
    for _ in 0..4 {
        new.beat(&mut bench);
        old.beat(&mut bench);
    }
    assert_eq!((new.owned.len(), old.owned.len()), (2, 2));
    let generation = old.generation;
    let beats = [
        (bench.heartbeat_of("x", "", generation), ErrorCode::UnknownMemberId),
        (bench.heartbeat_of("n", "", generation), ErrorCode::UnknownMemberId),
        (bench.heartbeat_of(&old.id, "", generation - 1), ErrorCode::IllegalGeneration),
        (bench.heartbeat_of(&old.id, "i", generation), ErrorCode::UnknownMemberId),
    ];
    for (found, expected) in beats {
        assert_eq!(found, expected);
    }
    let foreign = [
        Join { protocol_type: text("connect"), ..old.join() },
        Join { protocols: vec![(text("other"), owning(&Parts::new()))], ..join("", "") },
        Join { protocols: Vec::new(), ..join("", "") },
    ];
    for join in foreign {
        let ticket = bench.ask_join(join);
        assert_eq!(bench.joined(ticket).error, ErrorCode::InconsistentGroupProtocol);
    }
    let malformed = Join {
        version: 3,
        protocols: vec![(text("range"), Bytes::from_static(b"\x00"))],
        ..join("", "")
    };
    let ticket = bench.ask_join(malformed);
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownServerError);

    // A member that is told to join has its rebalance timeout for it.
    let mut third = Member::new("m", &["t"]);
    third.beat(&mut bench);
    for _ in 0..4 {
        bench.heartbeat_of(&old.id, "", generation);
        new.beat(&mut bench);
        third.beat(&mut bench);
        bench.pass(7000);
    }
    assert_eq!(bench.described().members.len(), 3);
    bench.heartbeat_of(&old.id, "", generation);
    bench.pass(4000);
    assert_eq!(bench.described().members.len(), 2, "30 seconds are over");
    bench.check_replay("fenced");
    assert_eq!(
        bench.left(&[leaving("n", ""), leaving("x", "")]),
        [ErrorCode::None, ErrorCode::UnknownMemberId]
    );
    settle(&mut bench, std::slice::from_mut(&mut third));
    assert_eq!(third.owned.len(), 4);
}

#[test]
fn empty_groups_become_what_their_first_member_speaks() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    bench.commit_error(commit("", None, 5));
    let mut new = Member::new("n", &["t"]);
    new.beat(&mut bench);
    assert_eq!(new.owned.len(), 4);
    bench.check_replay("from offsets alone");
    bench.consumer(ConsumerHeartbeat { epoch: -1, ..new.heartbeat() }).expect("it may leave");
    let stranger = bench.ask_join(join("x", ""));
    assert_eq!(bench.joined(stranger).error, ErrorCode::UnknownMemberId);
    assert_eq!(bench.described().state, "Empty");
    let (ids, _) = bench.stable(2);
    assert_eq!(classic_described(&mut bench).members.len(), 2);
    bench.check_replay("classic");
    let both: Vec<_> = ids.iter().map(|id| leaving(id, "")).collect();
    bench.left(&both);
    bench.pass(60_000);
    new = Member::new("n", &["t"]);
    new.beat(&mut bench);
    assert_eq!((new.owned.len(), bench.offset()), (4, Some(5)));
    bench.check_replay("consumer again");
}

#[test]
fn the_policy_decides_which_moves_are_made() {
    for policy in
        [Migration::Disabled, Migration::Upgrade, Migration::Downgrade, Migration::Bidirectional]
    {
        let mut settings = settings();
        settings.consumer.migration = policy;
        let mut bench = Bench::new(settings.clone());
        bench.set_image(image(1, &[(1, "t", 4)]));
        classic_pair(&mut bench);
        let result = Member::new("n", &["t"]).try_beat(&mut bench);
        match result {
            Ok(_) => assert!(policy.may_upgrade(), "{policy:?}"),
            Err(refusal) => {
                assert!(!policy.may_upgrade(), "{policy:?}");
                assert_eq!(refusal.error, ErrorCode::GroupIdNotFound);
                assert_eq!(classic_described(&mut bench).state, "Stable", "it goes on");
            }
        }
        let mut bench = Bench::new(settings);
        bench.set_image(image(1, &[(1, "t", 4)]));
        let mut new = Member::new("n", &["t"]);
        new.beat(&mut bench);
        let ticket = bench.ask_join(Join { version: 3, ..Old::default().join() });
        let joined = bench.joined(ticket);
        let may_join = policy != Migration::Disabled;
        assert_eq!(joined.error.is_error(), !may_join, "{policy:?}: {}", joined.error);
        bench.consumer(ConsumerHeartbeat { epoch: -1, ..new.heartbeat() }).expect("may leave");
        let is_classic = classic_described(&mut bench).error == ErrorCode::None;
        assert_eq!(is_classic, may_join && policy.may_downgrade(), "{policy:?}");
    }
}

#[test]
fn a_group_that_can_not_be_carried_over_stays_what_it_is() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let ticket = bench.ask_join(Join { version: 3, ..join("", "") });
    bench.pass(0);
    let id = bench.joined(ticket).member;
    let noted = "\0\0\0\0\0\0\0\0\0\u{1}x";
    let mut sync = sync(&id, 1, &[]);
    sync.assignments = vec![(id.clone(), Bytes::from_static(noted.as_bytes()))];
    bench.ask(Request::Sync(sync));
    let refusal = Member::new("n", &["t"]).try_beat(&mut bench).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::GroupIdNotFound);
    assert!(refusal.message.unwrap().contains("custom assignor"));
    assert_eq!(classic_described(&mut bench).state, "Stable");

    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let waiting = bench.ask_join(Join { version: 3, ..join("", "i") });
    bench.pass(0);
    bench.joined(waiting);
    let again = bench.ask_join(Join { version: 3, ..join("", "") });
    let mut new = Member::new("n", &["t"]);
    new.beat(&mut bench);
    assert_eq!(bench.joined(again).error, ErrorCode::RebalanceInProgress, "it joins the new group");
}

impl Bench {
    fn heartbeat_of(&mut self, member: &str, instance: &str, generation: i32) -> ErrorCode {
        match self.answered(heartbeat(member, instance, generation)) {
            Answer::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        }
    }
}
