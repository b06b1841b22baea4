//! Offsets, admin requests, loading and unloading.

use super::*;
use crate::group::record::OffsetKey;

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
    let all = Fetch::of(text("g"));
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
fn an_offset_that_is_named_many_times_is_answered_for_each_time_and_deleted_once() {
    let mut bench = Bench::new(settings());
    bench.commit_error(commit("", None, 5));
    bench.commits_at_once = false;
    let mut later = commit("", None, 6);
    later.topics[0].partitions[0].partition = 1;
    bench.ask(Request::Commit(later.clone()));
    later.group = text("other");
    later.topics[0].partitions[0].partition = 2;
    bench.ask(Request::Commit(later));
    let topics =
        vec![(text("t"), vec![1, 0, 1, 2, 0]), (text("u"), vec![0]), (text("t"), vec![0, 1])];
    let delete = DeleteOffsets { group: text("g"), topics: topics.clone() };
    let ticket = bench.ask(Request::DeleteOffsets(delete));
    let tombstone = |partition| {
        Record::Offset(OffsetKey { group: text("g"), topic: text("t"), partition }, None)
    };
    let (_, records) = bench.pending.last().expect("offsets are deleted");
    assert_eq!(*records, vec![tombstone(0), tombstone(1)], "one committed, one on its way");
    while !bench.pending.is_empty() {
        bench.commit_one();
    }
    let good = |(topic, partitions): (Str, Vec<i32>)| {
        (topic, partitions.into_iter().map(|at| (at, ErrorCode::None)).collect::<Vec<_>>())
    };
    let expected = topics.into_iter().map(good).collect();
    let answer = bench.answers.remove(&ticket);
    assert_eq!(answer, Some(Answer::DeleteOffsets(ErrorCode::None, expected)));
    let Answer::Fetch(fetched) = bench.answered(Request::Fetch(Fetch::of(text("g")))) else {
        panic!()
    };
    assert!(fetched.topics.is_empty(), "nothing is left: {fetched:?}");
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
        let list = List::of(&texts(states), &texts(types));
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
fn a_partition_that_moved_away_while_it_was_loaded_answers_nothing() {
    let mut bench = Bench::new(settings());
    let (ids, generation) = bench.stable(2);
    let mut effects = Vec::new();
    bench.coordinator = bench.reloaded();
    bench.coordinator.unload(&mut effects);
    // The load, which knows nothing of it, comes to its end.
    bench.coordinator.loaded(bench.now, &mut effects);
    bench.settle(effects);
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::NotCoordinator);
    assert_eq!(bench.coordinator.next_deadline(), None);
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
