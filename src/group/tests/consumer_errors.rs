//! Consumer groups: what is refused, commits by epochs, what admins see.

use super::consumers::{Member, image, parts, settle};
use super::*;
use crate::group::message::ConsumerHeartbeat;

#[test]
fn heartbeats_that_make_no_sense_are_refused_in_kafkas_words() {
    let mut bench = Bench::with_topics(&[(1, "t", 1)]);
    let good = Member::new("a", &["t"]).heartbeat();
    let invalid = |text: &str| (ErrorCode::InvalidRequest, Some(text.to_owned()));
    let not_found = |text: &str| (ErrorCode::GroupIdNotFound, Some(text.to_owned()));
    let with = |change: &dyn Fn(&mut ConsumerHeartbeat)| {
        let mut heartbeat = good.clone();
        change(&mut heartbeat);
        heartbeat
    };
    let blank = Some(text(" "));
    let cases = [
        (with(&|one| one.member = text("")), invalid("MemberId can't be empty.")),
        (with(&|one| one.group = text("")), invalid("GroupId can't be empty.")),
        (with(&|one| one.instance = blank.clone()), invalid("InstanceId can't be empty.")),
        (with(&|one| one.rack = blank.clone()), invalid("RackId can't be empty.")),
        (
            with(&|one| one.rebalance_timeout_ms = None),
            invalid("RebalanceTimeoutMs must be provided in first request."),
        ),
        (
            with(&|one| one.owned = None),
            invalid("TopicPartitions must be empty when (re-)joining."),
        ),
        (
            with(&|one| one.topics = None),
            invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            ),
        ),
        (with(&|one| one.epoch = -2), invalid("InstanceId can't be null.")),
        (with(&|one| one.epoch = -3), invalid("MemberEpoch is invalid.")),
        (
            with(&|one| one.assignor = Some(text("best"))),
            (
                ErrorCode::UnsupportedAssignor,
                Some(
                    "ServerAssignor best is not supported. Supported assignors: uniform, range."
                        .to_owned(),
                ),
            ),
        ),
        (with(&|one| one.epoch = 4), not_found("Consumer group g not found.")),
        (with(&|one| one.epoch = -1), not_found("Group g not found.")),
    ];
    for (heartbeat, (error, message)) in cases {
        let refusal = bench.consumer(heartbeat.clone()).unwrap_err();
        assert_eq!((refusal.error, refusal.message), (error, message), "{heartbeat:?}");
    }
    let old = with(&|one| {
        one.version = 0;
        one.member = text("");
        one.random = [9; 16];
    });
    let beat = bench.consumer(old).expect("version 0 gives out ids");
    assert_eq!(beat.member.len(), 22, "{}", beat.member);
    let unknown = with(&|one| one.epoch = 4);
    let refusal = bench.consumer(unknown).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::UnknownMemberId);
    assert_eq!(refusal.message.as_deref(), Some("Member a is not a member of group g."));
}

#[test]
fn groups_that_are_full_take_members_they_have_alone() {
    let mut settings = settings();
    settings.consumer.size_max = 1;
    let mut bench = Bench::new(settings);
    bench.set_image(image(1, &[(1, "t", 1)]));
    let mut first = Member::new("a", &["t"]);
    first.beat(&mut bench);
    let refusal = Member::new("b", &["t"]).try_beat(&mut bench).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::GroupMaxSizeReached);
    first.beat(&mut bench);
    first.epoch = 0;
    first.owned.clear();
    first.beat(&mut bench);
    assert_eq!(first.owned, parts(1, [0]), "it may join again");
}

#[test]
fn offsets_are_taken_by_epochs() {
    let mut bench = Bench::with_topics(&[(1, "t", 1), (2, "u", 1)]);
    let (mut first, mut second) = (Member::new("a", &["t"]), Member::new("b", &["u"]));
    first.beat(&mut bench);
    second.beat(&mut bench);
    first.beat(&mut bench);
    second.beat(&mut bench);
    assert_eq!(first.epoch, 3);
    let of = |topic: &str, commit: Commit| {
        let mut commit = commit;
        commit.topics[0].name = text(topic);
        commit
    };
    let cases = [
        ("good", commit("a", Some(3), 7), ErrorCode::None),
        ("assigned before", commit("a", Some(2), 8), ErrorCode::None),
        ("never assigned", of("u", commit("a", Some(2), 8)), ErrorCode::StaleMemberEpoch),
        ("assigned later", of("u", commit("b", Some(2), 8)), ErrorCode::StaleMemberEpoch),
        ("newer", commit("a", Some(4), 8), ErrorCode::StaleMemberEpoch),
        ("unknown", commit("x", Some(3), 8), ErrorCode::UnknownMemberId),
        ("no member", commit("", None, 8), ErrorCode::UnknownMemberId),
        (
            "old version",
            Commit { version: 8, ..commit("a", Some(3), 8) },
            ErrorCode::UnsupportedVersion,
        ),
    ];
    for (name, commit, error) in cases {
        assert_eq!(bench.commit_error(commit), error, "{name}");
    }
    assert_eq!(bench.offset(), Some(8));
    let cases = [
        (None, None, ErrorCode::None),
        (Some("a"), Some(3), ErrorCode::None),
        (Some("a"), Some(2), ErrorCode::StaleMemberEpoch),
        (Some("x"), Some(1), ErrorCode::UnknownMemberId),
    ];
    for (member, member_epoch, error) in cases {
        let member = member.map(text);
        let fetch = Fetch { member, member_epoch, ..Fetch::of(text("g")) };
        let Answer::Fetch(fetched) = bench.answered(Request::Fetch(fetch)) else { panic!() };
        assert_eq!((fetched.error, fetched.topics.is_empty()), (error, error.is_error()));
    }
}

#[test]
fn admins_see_delete_and_expire_consumer_groups() {
    let mut bench = Bench::with_topics(&[(1, "t", 2)]);
    let mut members = [Member::with_instance("a", "i"), Member::new("b", &["t"])];
    settle(&mut bench, &mut members);
    bench.commit_error(commit("b", Some(members[1].epoch), 7));
    let described = bench.described();
    let first = &described.members[0];
    assert_eq!((described.state, &*described.assignor), ("Stable", "uniform"));
    assert_eq!((described.epoch, described.assignment_epoch), (3, 3));
    assert_eq!((first.epoch, first.instance.as_deref()), (3, Some("i")));
    assert_eq!((&*first.assignment[0].name, first.assignment[0].partitions.len()), ("t", 1));
    assert_eq!((&first.target, first.is_classic), (&first.assignment, false));
    let list = |states: &[&str], types: &[&str]| {
        let texts = |names: &[&str]| -> Vec<_> { names.iter().map(|name| text(name)).collect() };
        Request::List(List::of(&texts(states), &texts(types)))
    };
    for (states, types, count) in
        [(&["stable"][..], &["Consumer"][..], 1), (&["empty"], &[], 0), (&[], &["classic"], 0)]
    {
        let Answer::List(_, listed) = bench.answered(list(states, types)) else { panic!() };
        assert_eq!(listed.len(), count, "{states:?} {types:?}");
        assert!(
            listed.iter().all(|one| one.kind == "consumer" && *one.protocol_type == *"consumer")
        );
    }
    let describe = Describe { version: 6, groups: vec![text("g")] };
    let Answer::Describe(found) = bench.answered(Request::Describe(describe)) else { panic!() };
    assert_eq!((found[0].error, found[0].state), (ErrorCode::GroupIdNotFound, "Dead"));
    assert_eq!(found[0].message.as_deref(), Some("Group g is not a classic group."));
    let delete = |bench: &mut Bench| match bench.answered(Request::Delete(vec![text("g")])) {
        Answer::Delete(results) => results[0].1,
        other => panic!("{other:?}"),
    };
    assert_eq!(delete(&mut bench), ErrorCode::NonEmptyGroup);
    let topics = vec![(text("t"), vec![0])];
    let forget = DeleteOffsets { group: text("g"), topics };
    let Answer::DeleteOffsets(_, topics) = bench.answered(Request::DeleteOffsets(forget)) else {
        panic!()
    };
    assert_eq!(topics[0].1[0].1, ErrorCode::GroupSubscribedToTopic);
    let day = 24 * 60 * 60 * 1000;
    for _ in 0..(8 * day / 30_000) {
        bench.pass(30_000);
        members.iter_mut().for_each(|one| drop(one.beat(&mut bench)));
    }
    assert_eq!(bench.offset(), Some(7), "in use, however old");
    bench.pass(2 * 600_000);
    assert_eq!(bench.state(), "Dead", "nobody is left, and its offset was old");
    assert_eq!(bench.reloaded().contents(), (vec![], vec![]));

    settle(&mut bench, &mut [Member::new("c", &["t"])]);
    bench.pass(50_000);
    assert_eq!(delete(&mut bench), ErrorCode::None);
    assert_eq!(bench.reloaded().contents(), (vec![], vec![]));
    let missing = bench.answered(Request::ConsumerDescribe(vec![text("g"), text("")]));
    let Answer::ConsumerDescribe(missing) = missing else { panic!() };
    let errors = missing.into_iter().map(|(_, result)| result.unwrap_err().error);
    let expected = [ErrorCode::GroupIdNotFound, ErrorCode::InvalidGroupId];
    assert_eq!(errors.collect::<Vec<_>>(), expected);
}
