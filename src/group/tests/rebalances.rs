//! Joining, syncing, leaving, and what time does to a group.

use super::*;

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
