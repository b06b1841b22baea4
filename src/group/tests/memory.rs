//! What groups may take up in memory.

use super::consumers::Member;
use super::*;
use crate::group::message::ConsumerHeartbeat;

/// A coordinator without room for anything more.
fn full(bench: &mut Bench) {
    let size_bytes = bench.coordinator.size_bytes();
    assert!(size_bytes > 0);
    bench.coordinator.set_room(size_bytes);
    assert!(bench.coordinator.is_short());
}

fn beat_error(bench: &mut Bench, heartbeat: ConsumerHeartbeat) -> ErrorCode {
    match bench.answered(Request::ConsumerHeartbeat(heartbeat)) {
        Answer::ConsumerHeartbeat(Ok(_)) => ErrorCode::None,
        Answer::ConsumerHeartbeat(Err(refusal)) => refusal.error,
        other => panic!("{other:?}"),
    }
}

fn join_error(bench: &mut Bench, join: Join) -> ErrorCode {
    let ticket = bench.ask_join(join);
    bench.joined(ticket).error
}

#[test]
fn a_full_coordinator_takes_no_new_members_and_serves_those_it_has() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    full(&mut bench);
    let other = Join { group: text("other"), ..join("", "") };
    assert_eq!(join_error(&mut bench, other), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(join_error(&mut bench, join("", "")), ErrorCode::CoordinatorNotAvailable);
    let new = Member::new("n", &["t"]).heartbeat();
    let new = ConsumerHeartbeat { group: text("new"), ..new };
    assert_eq!(beat_error(&mut bench, new), ErrorCode::CoordinatorNotAvailable);
    // Those that are there go on, and may say as much as they did, or less.
    assert_eq!(bench.heartbeat(&ids[1], generation), ErrorCode::None);
    assert_eq!(join_error(&mut bench, join(&ids[1], "")), ErrorCode::None);
    let mut louder = join(&ids[1], "");
    louder.protocols[0].1 = Bytes::from(vec![0; 4096]);
    assert_eq!(join_error(&mut bench, louder), ErrorCode::CoordinatorNotAvailable);
    // Who leaves makes room.
    assert_eq!(bench.left(&[leaving(&ids[1], "")]), [ErrorCode::None]);
    let room_bytes = 2 * bench.coordinator.size_bytes();
    bench.coordinator.set_room(room_bytes);
    assert_eq!(join_error(&mut bench, join("", "")), ErrorCode::MemberIdRequired);
}

#[test]
fn a_group_of_a_nearly_full_coordinator_can_rebalance() {
    let mut bench = Bench::new(settings());
    let (ids, _) = bench.stable(1);
    let room_bytes = bench.coordinator.size_bytes() * 9 / 8;
    bench.coordinator.set_room(room_bytes);
    assert_eq!(join_error(&mut bench, join("", "")), ErrorCode::CoordinatorNotAvailable);
    let ticket = bench.ask_join(join(&ids[0], ""));
    let generation = bench.joined(ticket).generation;
    let lead = |part| sync(&ids[0], generation, &[(&ids[0], part)]);
    bench.coordinator.set_room(1);
    let ticket = bench.ask(Request::Sync(lead("part")));
    assert_eq!(bench.sync_of(ticket).0, ErrorCode::CoordinatorNotAvailable);
    bench.coordinator.set_room(room_bytes);
    let ticket = bench.ask(Request::Sync(lead("part")));
    assert_eq!(bench.sync_of(ticket), (ErrorCode::None, Bytes::from_static(b"part")));
}

#[test]
fn a_full_coordinator_takes_commits_of_partitions_it_has_offsets_of() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.commit_error(commit("", None, 5)), ErrorCode::None);
    full(&mut bench);
    assert_eq!(bench.commit_error(commit("", None, 6)), ErrorCode::None);
    let mut elsewhere = commit("", None, 7);
    elsewhere.topics[0].partitions[0].partition = 1;
    assert_eq!(bench.commit_error(elsewhere), ErrorCode::CoordinatorNotAvailable);
    let mut longer = commit("", None, 7);
    longer.topics[0].partitions[0].metadata = Some(text("a longer note"));
    assert_eq!(bench.commit_error(longer), ErrorCode::CoordinatorNotAvailable);
    let group = text("other");
    let other = Commit { group, ..commit("", None, 7) };
    assert_eq!(bench.commit_error(other), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(bench.offset(), Some(6));
}

#[test]
fn a_full_coordinator_serves_the_members_of_consumer_groups() {
    let mut bench = Bench::new(settings());
    let mut member = Member::new("a", &["t"]);
    member.beat(&mut bench);
    full(&mut bench);
    assert_eq!(beat_error(&mut bench, member.heartbeat()), ErrorCode::None);
    let more = Some(vec![text("t"), text("u")]);
    let more = ConsumerHeartbeat { topics: more, ..member.heartbeat() };
    assert_eq!(beat_error(&mut bench, more), ErrorCode::CoordinatorNotAvailable);
    let second = Member::new("b", &["t"]).heartbeat();
    assert_eq!(beat_error(&mut bench, second), ErrorCode::CoordinatorNotAvailable);
    let leave = ConsumerHeartbeat { epoch: -1, ..member.heartbeat() };
    assert_eq!(beat_error(&mut bench, leave), ErrorCode::None);
}

#[test]
fn records_on_their_way_count() {
    let mut bench = Bench::new(settings());
    bench.commits_at_once = false;
    let before = bench.coordinator.size_bytes();
    bench.ask(Request::Commit(commit("", None, 5)));
    let on_the_way = bench.coordinator.size_bytes();
    assert!(on_the_way > before);
    bench.fail_one(ErrorCode::KafkaStorageError);
    assert_eq!(bench.coordinator.size_bytes(), before);
}

#[test]
fn a_group_waits_for_so_many_ids_that_were_given_out() {
    let mut bench = Bench::new(settings());
    let mut ids = Vec::new();
    for _ in 0..101 {
        let ticket = bench.ask_join(join("", ""));
        ids.push(bench.joined(ticket).member);
        bench.pass(0);
    }
    let size_bytes = bench.coordinator.size_bytes();
    let ticket = bench.ask_join(join("", ""));
    ids.push(bench.joined(ticket).member);
    assert_eq!(bench.coordinator.size_bytes(), size_bytes);
    let refused = ids.iter().filter(|id| {
        let ticket = bench.ask_join(join(id, ""));
        let joined = bench.answers.remove(&ticket);
        matches!(joined, Some(Answer::Join(joined)) if joined.error == ErrorCode::UnknownMemberId)
    });
    assert_eq!(refused.count(), 2);
}

#[test]
fn large_members_and_commits_leave_room_for_small_ones() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.commit_error(commit("", None, 5)), ErrorCode::None);
    bench.coordinator.set_room(2 * bench.coordinator.size_bytes());
    let mut large = Join { group: text("large"), ..join("", "") };
    large.protocols[0].1 = Bytes::from(vec![0; 4096]);
    assert_eq!(join_error(&mut bench, large.clone()), ErrorCode::CoordinatorNotAvailable);
    let topics = Some((0..100).map(|number| text(&format!("topic-{number}"))).collect());
    let large_beat = Member::new("n", &["t"]).heartbeat();
    let large_beat = ConsumerHeartbeat { group: text("new"), topics, ..large_beat };
    assert_eq!(beat_error(&mut bench, large_beat), ErrorCode::CoordinatorNotAvailable);
    let mut large_commit = Commit { group: text("other"), ..commit("", None, 7) };
    large_commit.topics[0].partitions[0].metadata = Some(text(&"x".repeat(4000)));
    assert_eq!(bench.commit_error(large_commit), ErrorCode::CoordinatorNotAvailable);
    // With more room the same is not large.
    bench.coordinator.set_room(8 << 20);
    assert_eq!(join_error(&mut bench, large), ErrorCode::MemberIdRequired);
}
