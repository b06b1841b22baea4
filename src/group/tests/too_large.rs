//! Steps of consumer groups that come to more than a batch may have.

use super::consumers::{Member, Parts, image, settle};
use super::*;
use crate::group::message::ConsumerHeartbeat;
use crate::group::record::fit_together;

fn bounded(batch_bytes_max: usize) -> Settings {
    Settings { batch_bytes_max, ..settings() }
}

fn error_of(answer: &Answer) -> ErrorCode {
    match answer {
        Answer::ConsumerHeartbeat(Ok(_)) => ErrorCode::None,
        Answer::ConsumerHeartbeat(Err(refusal)) => refusal.error,
        Answer::Join(joined) => joined.error,
        Answer::Leave(left) => left.error,
        other => panic!("{other:?}"),
    }
}

const CLASSIC: &str = "a member of the classic protocol";

/// The bytes that these records take up as a batch.
fn bytes_of(records: &[Record]) -> usize {
    (0..).find(|size| fit_together(records.iter(), *size)).expect("a size")
}

#[test]
fn a_step_that_can_not_be_written_is_refused_and_leaves_nothing_behind() {
    type Prepare = fn(&mut Bench) -> Request;
    // Steps with a target that can wait: they are refused when they are too much without it.
    let waiting = ["a second member", "another subscription", "another expression", CLASSIC];
    let cases: [(&str, Prepare); 10] = [
        ("a new group", |_| Request::ConsumerHeartbeat(Member::new("a", &["t"]).heartbeat())),
        ("a second member", |bench| {
            Member::new("a", &["t"]).beat(bench);
            Request::ConsumerHeartbeat(Member::new("b", &["t", "u"]).heartbeat())
        }),
        ("another subscription", |bench| {
            let mut member = Member::new("a", &["t"]);
            member.beat(bench);
            let topics = Some(vec![text("u"), text("v")]);
            Request::ConsumerHeartbeat(ConsumerHeartbeat { topics, ..member.heartbeat() })
        }),
        ("another expression", |bench| {
            let mut member = Member::matching("a", "t|v");
            member.beat(bench);
            let expression = Some(text("u|w"));
            Request::ConsumerHeartbeat(ConsumerHeartbeat { expression, ..member.heartbeat() })
        }),
        ("partitions given back", |bench| {
            let mut member = Member::new("a", &["t"]);
            member.beat(bench);
            Member::new("b", &["t"]).beat(bench);
            member.beat(bench);
            Request::ConsumerHeartbeat(member.heartbeat())
        }),
        ("a static member that comes back", |bench| {
            let mut member = Member::with_instance("a", "i");
            member.beat(bench);
            let away = ConsumerHeartbeat { epoch: -2, ..member.heartbeat() };
            bench.consumer(away).expect("it may leave");
            Request::ConsumerHeartbeat(Member::with_instance("b", "i").heartbeat())
        }),
        (CLASSIC, |bench| {
            Member::new("a", &["t"]).beat(bench);
            Request::Join(join("b", ""))
        }),
        ("the last member, which comes back with the classic protocol", |bench| {
            Member::with_instance("a", "i").beat(bench);
            Request::Join(join("", "i"))
        }),
        ("a member that leaves", |bench| {
            let mut member = Member::new("a", &["t"]);
            member.beat(bench);
            Member::new("b", &["u"]).beat(bench);
            Request::ConsumerHeartbeat(ConsumerHeartbeat { epoch: -1, ..member.heartbeat() })
        }),
        ("members of the classic protocol that leave", |bench| {
            Member::new("a", &["t"]).beat(bench);
            for id in ["b", "c"] {
                bench.answered(Request::Join(join(id, "")));
            }
            leave(&[leaving("b", ""), leaving("c", "")])
        }),
    ];
    let topics: [(u64, &str, i32); 2] = [(1, "t", 4), (2, "u", 2)];
    for (name, prepare) in cases {
        let mut bench = Bench::with_topics(&topics);
        let request = prepare(&mut bench);
        bench.commits_at_once = false;
        bench.ask(request);
        let (_, records) = &bench.pending[0];
        let size = bytes_of(records);
        let is_target =
            |record: &Record| matches!(record, Record::TargetMember(..) | Record::TargetEpoch(..));
        let mut needed = size;
        if waiting.contains(&name) {
            let count = records.iter().position(is_target).expect("a target");
            needed = bytes_of(&records[..count]);
            let mut small = Bench::with_topics(&topics);
            let request = prepare(&mut small);
            small.coordinator.set_settings(bounded(size - 1));
            assert_eq!(error_of(&small.answered(request)), ErrorCode::None, "{name}");
            assert_eq!(small.described().state, "Assigning", "{name}");
            small.check_replay(name);
        }

        let mut roomy = Bench::with_topics(&topics);
        let request = prepare(&mut roomy);
        roomy.coordinator.set_settings(bounded(size));
        assert_eq!(error_of(&roomy.answered(request)), ErrorCode::None, "{name}");

        let mut tight = Bench::with_topics(&topics);
        let request = prepare(&mut tight);
        let (before, written) = (tight.coordinator.contents(), tight.log.len());
        tight.coordinator.set_settings(bounded(needed - 1));
        let answer = tight.answered(request.clone());
        assert_eq!(error_of(&answer), ErrorCode::UnknownServerError, "{name}");
        assert_eq!(tight.coordinator.contents(), before, "{name}: all is as before");
        assert_eq!((tight.log.len(), tight.reloads), (written, false), "{name}");
        tight.coordinator.set_settings(settings());
        assert_eq!(error_of(&tight.answered(request)), ErrorCode::None, "{name}");
        assert_eq!(tight.coordinator.contents(), roomy.coordinator.contents(), "{name}");
    }
}

#[test]
fn a_target_that_can_not_be_written_holds_nobody_up() {
    let mut bench = Bench::with_topics(&[(1, "t", 10)]);
    let mut members = [Member::new("a", &["t"]), Member::new("b", &["t"])];
    settle(&mut bench, &mut members);
    let epoch = bench.described().epoch;
    bench.coordinator.set_settings(bounded(3000));
    bench.set_image(image(2, &[(1, "t", 1000)]));
    for _ in 0..10 {
        for member in &mut members {
            assert_eq!(member.beat(&mut bench).epoch, epoch);
        }
        bench.pass(1000);
    }
    let described = bench.described();
    assert_eq!((described.epoch, described.assignment_epoch), (epoch + 1, epoch));
    assert_eq!(members.iter().map(|one| one.owned.len()).sum::<usize>(), 10);
    bench.check_replay("without a target");

    let [first, second] = &mut members;
    first.beat(&mut bench);
    bench.coordinator.set_settings(settings());
    for (millis, assigned) in [(0, epoch), (999, epoch), (1, epoch + 1)] {
        bench.pass(millis);
        second.beat(&mut bench);
        assert_eq!(bench.described().assignment_epoch, assigned, "{millis} ms later");
    }
    settle(&mut bench, &mut members);
    assert_eq!(members.iter().map(|one| one.owned.len()).sum::<usize>(), 1000);
    bench.check_replay("with a target");
}

#[test]
fn a_joining_member_whose_target_can_not_be_written_waits_for_it() {
    let mut bench = Bench::with_topics(&[(1, "t", 1000)]);
    let mut members = vec![Member::new("a", &["t"])];
    settle(&mut bench, &mut members);
    let epoch = members[0].epoch;
    bench.coordinator.set_settings(bounded(3000));
    members.push(Member::new("b", &["t"]));
    for _ in 0..3 {
        for member in &mut members {
            assert_eq!(member.beat(&mut bench).epoch, epoch);
        }
        bench.pass(1000);
    }
    assert_eq!(members[1].owned, Parts::new());
    bench.check_replay("waiting");
    bench.coordinator.set_settings(settings());
    settle(&mut bench, &mut members);
    assert_eq!(members.iter().map(|one| one.owned.len()).collect::<Vec<_>>(), [500, 500]);
}

/// Two members with an expression each, and many new topics that match it: their names come to more
/// than 4000 bytes for each.
fn with_new_topics(batch_bytes_max: usize) -> (Bench, [Member; 2]) {
    let mut bench = Bench::with_topics(&[(1, "a", 1), (2, "b", 1)]);
    let mut members = [Member::matching("m", "a.*"), Member::matching("n", "b.*")];
    settle(&mut bench, &mut members);
    let mut names = vec!["a".to_owned(), "b".to_owned()];
    for number in 0..40 {
        names.extend(["a", "b"].map(|first| format!("{first}-{number}-{}", "x".repeat(100))));
    }
    let topics: Vec<(u64, &str, i32)> =
        (1..).zip(&names).map(|(number, name)| (number, name.as_str(), 1)).collect();
    bench.coordinator.set_settings(bounded(batch_bytes_max));
    bench.set_image(image(2, &topics));
    bench.pass(10_001);
    (bench, members)
}

/// Lets members beat in several rounds, each time a while later.
fn beat_for_a_while(bench: &mut Bench, members: &mut [Member]) {
    for _ in 0..10 {
        for member in &mut *members {
            member.beat(bench);
        }
        bench.pass(1000);
    }
}

fn topic_counts(members: &[Member]) -> Vec<usize> {
    members.iter().map(|one| one.owned.len()).collect()
}

#[test]
fn expressions_whose_topics_can_not_be_written_together_get_them_one_after_the_other() {
    let (mut bench, mut members) = with_new_topics(7000);
    beat_for_a_while(&mut bench, &mut members);
    assert_eq!(topic_counts(&members), [41, 41]);
    let is_new = |record: &&Record| {
        let Record::RegularExpression(_, Some(value)) = record else { return false };
        value.topics.len() > 1
    };
    let written: Vec<Record> = bench.log.iter().filter(is_new).cloned().collect();
    assert_eq!(written.len(), 2, "each is written once");
    assert!(!fit_together(written.iter(), 7000));
    bench.check_replay("new topics");
    // They are looked up again, and are the same.
    let count = bench.log.len();
    for _ in 0..40 {
        beat_for_a_while(&mut bench, &mut members);
        beat_for_a_while(&mut bench, &mut members);
    }
    assert_eq!(bench.log.len(), count, "nothing changed");
}

#[test]
fn an_expression_whose_topics_no_batch_holds_keeps_those_it_had() {
    let (mut bench, members) = with_new_topics(3000);
    let mut members = Vec::from(members);
    let (before, count) = (bench.coordinator.contents(), bench.log.len());
    beat_for_a_while(&mut bench, &mut members);
    assert_eq!((bench.coordinator.contents(), bench.log.len()), (before, count));
    members.push(Member::new("o", &["a"]));
    members[2].beat(&mut bench);
    assert_eq!(bench.described().members.len(), 3, "others may join");
    bench.coordinator.set_settings(settings());
    bench.pass(10_001);
    settle(&mut bench, &mut members);
    assert_eq!(topic_counts(&members).iter().sum::<usize>(), 82);
    bench.check_replay("new topics");
}

#[test]
fn subscriptions_are_taken_as_long_as_they_can_be_written() {
    let mut bench = Bench::with_topics(&[(1, "t", 1)]);
    let names = |count: usize| -> Vec<Str> {
        (0..count).map(|number| text(&format!("topic-{number}-{}", "x".repeat(200)))).collect()
    };
    let mut member = Member { topics: names(4000), ..Member::new("a", &[]) };
    member.beat(&mut bench);
    let doubled = [names(4000), names(4000)].concat();
    for (topics, error) in
        [(doubled, ErrorCode::None), (names(5000), ErrorCode::UnknownServerError)]
    {
        let count = topics.len();
        let heartbeat = ConsumerHeartbeat { topics: Some(topics), ..member.heartbeat() };
        let answer = bench.answered(Request::ConsumerHeartbeat(heartbeat));
        assert_eq!(error_of(&answer), error, "{count} names");
    }
    assert_eq!(bench.described().members[0].topics.len(), 4000);
}

#[test]
fn a_member_that_is_refused_for_its_size_stays_what_it_was() {
    let mut bench = Bench::with_topics(&[(1, "t", 2)]);
    let mut member = Member::new("a", &["t"]);
    member.beat(&mut bench);
    bench.coordinator.set_settings(bounded(100));
    let claim = ConsumerHeartbeat {
        epoch: 0,
        instance: Some(text("i")),
        rebalance_timeout_ms: Some(20_000),
        topics: Some(member.topics.clone()),
        owned: Some(Vec::new()),
        ..member.heartbeat()
    };
    for _ in 0..6 {
        bench.pass(10_000);
        let refusal = bench.consumer(claim.clone()).unwrap_err();
        assert_eq!(refusal.error, ErrorCode::UnknownServerError);
    }
    assert_eq!(bench.described().members.len(), 1, "it was heard of");
    bench.coordinator.set_settings(settings());
    assert_eq!(member.beat(&mut bench).epoch, 2);
    Member::with_instance("b", "i").beat(&mut bench);
    assert_eq!(bench.described().members.len(), 2, "it does not hold the instance");
}

#[test]
fn members_that_fall_silent_together_go_in_as_many_writes_as_it_takes() {
    let mut bench = Bench::with_topics(&[(1, "t", 1)]);
    for number in 0..20 {
        Member::new(&format!("m{number}"), &["t"]).beat(&mut bench);
    }
    bench.coordinator.set_settings(bounded(4000));
    bench.commits_at_once = false;
    bench.pass(46_000);
    assert!(bench.pending.len() > 1);
    for (_, records) in &bench.pending {
        assert!(fit_together(records.iter(), 4000), "{} records", records.len());
    }
    while !bench.pending.is_empty() {
        bench.commit_one();
    }
    assert_eq!(bench.described().state, "Empty");
    bench.check_replay("nobody");
}

#[test]
fn members_that_are_late_to_give_back_together_are_all_fenced() {
    let mut bench = Bench::with_topics(&[(1, "t", 40)]);
    let mut members: Vec<Member> =
        (0..10).map(|number| Member::new(&format!("m{number}"), &["t"])).collect();
    settle(&mut bench, &mut members);
    let mut last = Member::new("n", &["t"]);
    last.beat(&mut bench);
    bench.coordinator.set_settings(bounded(2000));
    // Some are told what to give back, and never say that they did.
    let mut late = 0;
    for member in &members {
        let silent = ConsumerHeartbeat { owned: None, ..member.heartbeat() };
        let beat = bench.consumer(silent).expect("a good heartbeat");
        late += usize::from(beat.assignment.is_some());
    }
    assert!(late > 2, "more than one step fences");
    bench.pass(21_000);
    assert_eq!(bench.described().members.len(), 11 - late);
    bench.check_replay("fenced");
}

#[test]
fn members_that_are_fenced_in_parts_do_not_begin_anew_with_the_classic_protocol() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    Member::new("a", &["t"]).beat(&mut bench);
    for number in 0..10 {
        let mut late = join(&format!("m{number}"), "");
        (late.session_timeout_ms, late.rebalance_timeout_ms) = (45_000, 300_000);
        assert_eq!(error_of(&bench.answered(Request::Join(late))), ErrorCode::None);
    }
    bench.coordinator.set_settings(bounded(4000));
    // The first part has the only member of the consumer protocol.
    bench.pass(45_000);
    assert_eq!(bench.described().state, "Empty");
    bench.check_replay("nobody");
}

#[test]
fn a_group_that_is_too_large_for_the_classic_protocol_stays_a_consumer_group() {
    let prepare = || {
        let mut bench = Bench::with_topics(&[(1, "t", 4)]);
        let mut member = Member::new("a", &["t"]);
        member.beat(&mut bench);
        bench.answered(Request::Join(join("b", "")));
        let leave = ConsumerHeartbeat { epoch: -1, ..member.heartbeat() };
        (bench, Request::ConsumerHeartbeat(leave))
    };
    let (mut bench, request) = prepare();
    bench.commits_at_once = false;
    bench.ask(request);
    let (_, records) = &bench.pending[0];
    let size = bytes_of(records);
    for (size, stays) in [(size, false), (size - 1, true)] {
        let (mut bench, request) = prepare();
        bench.coordinator.set_settings(bounded(size));
        assert_eq!(error_of(&bench.answered(request)), ErrorCode::None);
        let is_consumer = bench.coordinator.consumers().next().is_some();
        assert_eq!(is_consumer, stays, "{size} bytes");
        if stays {
            assert_eq!(bench.described().members.len(), 1, "the other one is left");
            bench.check_replay("one member");
        }
    }
}

#[test]
fn groups_whose_deletion_can_not_be_written_stay() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut member = Member::new("a", &["t"]);
    member.beat(&mut bench);
    bench.consumer(ConsumerHeartbeat { epoch: -1, ..member.heartbeat() }).expect("it may leave");
    bench.commit_error(commit("", None, 5));
    let before = bench.coordinator.contents();
    for (size, first) in [(100, ErrorCode::UnknownServerError), (1000, ErrorCode::None)] {
        bench.coordinator.set_settings(bounded(size));
        let delete = Request::Delete(vec![text("g"), text("h"), text("g")]);
        let Answer::Delete(results) = bench.answered(delete) else { panic!() };
        let errors: Vec<ErrorCode> = results.into_iter().map(|(_, error)| error).collect();
        let unknown = ErrorCode::GroupIdNotFound;
        assert_eq!(errors, [first, unknown, unknown], "{size} bytes");
        let is_there = bench.coordinator.contents() == before;
        assert_eq!(is_there, first.is_error(), "{size} bytes");
    }
    assert!(!bench.reloads);
    assert_eq!(bench.reloaded().contents(), (vec![], vec![]));
}

#[test]
fn offsets_expire_in_as_many_writes_as_it_takes() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut member = Member::new("a", &["t"]);
    member.beat(&mut bench);
    bench.consumer(ConsumerHeartbeat { epoch: -1, ..member.heartbeat() }).expect("it may leave");
    let mut many = commit("", None, 5);
    let one = many.topics[0].partitions[0].clone();
    let partitions = (0..10).map(|partition| CommitPartition { partition, ..one.clone() });
    many.topics[0].partitions = partitions.collect();
    bench.commit_error(many);
    bench.coordinator.set_settings(bounded(600));
    bench.commits_at_once = false;
    let day = 24 * 60 * 60 * 1000;
    bench.pass(7 * day + 1_200_000);
    assert!(bench.pending.len() > 1);
    for (_, records) in &bench.pending {
        assert!(fit_together(records.iter(), 600), "{} records", records.len());
    }
    while !bench.pending.is_empty() {
        bench.commit_one();
    }
    assert_eq!(bench.reloaded().contents(), (vec![], vec![]));
}
