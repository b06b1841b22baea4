//! Static members (KIP-345).

use super::*;

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
