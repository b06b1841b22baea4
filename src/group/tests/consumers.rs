//! Consumer groups of Kafka 4: joins, reconciliation, static members, expressions, new topics.

use super::*;
use crate::base::{NodeId, Offset, Uuid};
use crate::group::message::{ConsumerBeat, ConsumerDescribed, ConsumerHeartbeat, Refusal};
use crate::metadata::Position;
use crate::metadata::record::{PartitionCreated, Record as MetadataRecord, Recovery, TopicCreated};

pub(super) type Parts = BTreeSet<(Uuid, i32)>;

/// An image of topics with this many partitions; each topic's id comes from its number.
pub(super) fn image(version: u64, topics: &[(u64, &str, i32)]) -> Arc<Image> {
    let mut image = Image::default();
    for (number, name, count) in topics {
        let id = Uuid::from_halves(7, *number);
        let topic = TopicCreated { name: (*name).to_owned(), id };
        image.apply(&MetadataRecord::from(topic)).expect("fits");
        for partition in 0..*count {
            let created = PartitionCreated {
                partition,
                topic: id,
                replicas: vec![NodeId(1)],
                isr: vec![NodeId(1)],
                removing_replicas: Vec::new(),
                adding_replicas: Vec::new(),
                leader: Some(NodeId(1)),
                leader_recovery: Recovery::Recovered,
                leader_epoch: 0,
                partition_epoch: 0,
                directories: vec![None],
                elr: None,
                last_known_elr: None,
            };
            image.apply(&MetadataRecord::from(created)).expect("fits");
        }
    }
    let offset = Offset::from_wire(i64::try_from(version).unwrap()).unwrap();
    image.advance(Position { offset, epoch: LeaderEpoch::new(1) });
    Arc::new(image)
}

/// The partitions of the topic with this number.
pub(super) fn parts(topic: u64, partitions: impl IntoIterator<Item = i32>) -> Parts {
    partitions.into_iter().map(|at| (Uuid::from_halves(7, topic), at)).collect()
}

fn listed(parts: &Parts) -> Vec<(Uuid, Vec<i32>)> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, at) in parts {
        topics.entry(*topic).or_default().push(*at);
    }
    topics.into_iter().collect()
}

/// A member of the consumer protocol that does at once what it is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub(super) id: Str,
    pub(super) epoch: i32,
    pub(super) instance: Option<Str>,
    pub(super) topics: Vec<Str>,
    pub(super) expression: Option<Str>,
    pub(super) owned: Parts,
    /// Whether it has to say what it has.
    pub(super) has_news: bool,
}

impl Member {
    pub(super) fn new(id: &str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|name| text(name)).collect();
        Self { id: text(id), topics, ..Self::default() }
    }

    pub(super) fn matching(id: &str, expression: &str) -> Self {
        Self { expression: Some(text(expression)), ..Self::new(id, &[]) }
    }

    pub(super) fn with_instance(id: &str, instance: &str) -> Self {
        Self { instance: Some(text(instance)), ..Self::new(id, &["t"]) }
    }

    /// What it sends next.
    pub(super) fn heartbeat(&self) -> ConsumerHeartbeat {
        let joins = self.epoch == 0;
        ConsumerHeartbeat {
            version: 1,
            group: text("g"),
            member: self.id.clone(),
            epoch: self.epoch,
            instance: self.instance.clone(),
            rebalance_timeout_ms: joins.then_some(20_000),
            topics: joins.then(|| self.topics.clone()),
            expression: self.expression.clone().filter(|_| joins),
            owned: (joins || self.has_news).then(|| listed(&self.owned)),
            client_id: text("client"),
            client_host: text("/127.0.0.1"),
            ..ConsumerHeartbeat::default()
        }
    }

    /// Takes what it is told.
    pub(super) fn hear(&mut self, beat: &ConsumerBeat) {
        self.has_news = false;
        assert!(beat.epoch >= self.epoch, "epochs never go back");
        self.epoch = beat.epoch;
        self.id = beat.member.clone();
        if let Some(assignment) = &beat.assignment {
            let all = assignment.iter();
            let told: Parts =
                all.flat_map(|(topic, all)| all.iter().map(|at| (*topic, *at))).collect();
            self.has_news = told != self.owned;
            self.owned = told;
        }
    }

    pub(super) fn try_beat(&mut self, bench: &mut Bench) -> Result<ConsumerBeat, Refusal> {
        let beat = bench.consumer(self.heartbeat())?;
        self.hear(&beat);
        Ok(beat)
    }

    /// One heartbeat that must succeed.
    pub(super) fn beat(&mut self, bench: &mut Bench) -> ConsumerBeat {
        self.try_beat(bench).expect("a good heartbeat")
    }
}

/// Lets members beat until nothing changes any more.
pub(super) fn settle(bench: &mut Bench, members: &mut [Member]) {
    for _ in 0..10 {
        for member in &mut *members {
            member.beat(bench);
        }
    }
    assert_eq!(bench.described().state, "Stable");
}

impl Bench {
    pub(super) fn with_topics(topics: &[(u64, &str, i32)]) -> Self {
        let mut bench = Self::new(settings());
        bench.set_image(image(1, topics));
        bench
    }

    pub(super) fn set_image(&mut self, image: Arc<Image>) {
        self.image = image.clone();
        let mut effects = Vec::new();
        self.coordinator.metadata_changed(image, &mut effects);
        self.settle(effects);
    }

    pub(super) fn consumer(
        &mut self,
        heartbeat: ConsumerHeartbeat,
    ) -> Result<ConsumerBeat, Refusal> {
        match self.answered(Request::ConsumerHeartbeat(heartbeat)) {
            Answer::ConsumerHeartbeat(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn described(&mut self) -> ConsumerDescribed {
        match self.answered(Request::ConsumerDescribe(vec![text("g")])) {
            Answer::ConsumerDescribe(mut groups) => groups.remove(0).1.expect("a consumer group"),
            other => panic!("{other:?}"),
        }
    }

    /// Loads the coordinator anew from what was committed.
    pub(super) fn reload(&mut self) {
        self.coordinator = self.reloaded();
        let mut effects = Vec::new();
        self.coordinator.loaded(self.now, &mut effects);
        self.settle(effects);
    }

    /// What was written gives the same groups and offsets.
    pub(super) fn check_replay(&self, name: &str) {
        assert_eq!(self.coordinator.contents(), self.reloaded().contents(), "{name}");
    }
}

#[test]
fn a_member_gets_everything_at_once_and_a_second_one_what_the_first_gave_back() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut first = Member::new("a", &["t"]);
    let beat = first.beat(&mut bench);
    assert_eq!((beat.epoch, beat.heartbeat_interval_ms), (2, 5000));
    assert_eq!(first.owned, parts(1, 0..4));
    assert_eq!(bench.described().state, "Stable");
    assert_eq!(first.beat(&mut bench).assignment, None, "it is told once");

    let mut second = Member::new("b", &["t"]);
    let beat = second.beat(&mut bench);
    assert_eq!((beat.epoch, beat.assignment), (3, Some(vec![])), "nothing is free yet");
    assert_eq!(second.beat(&mut bench).assignment, None);
    let beat = first.beat(&mut bench);
    assert_eq!((beat.epoch, first.owned.len()), (2, 2), "it keeps its epoch until it gave back");
    let stubborn = ConsumerHeartbeat { owned: None, ..first.heartbeat() };
    bench.consumer(stubborn).expect("good");
    assert_eq!(second.beat(&mut bench).assignment, None, "not given back yet");
    assert_eq!(bench.described().state, "Reconciling");
    assert_eq!(first.beat(&mut bench).epoch, 3);
    assert_eq!(second.beat(&mut bench).epoch, 3);
    assert_eq!(second.owned.len(), 2);
    assert!(first.owned.is_disjoint(&second.owned));
    assert_eq!(bench.described().state, "Stable");
    bench.check_replay("two members");
}

#[test]
fn groups_grow_and_shrink_and_every_partition_has_an_owner() {
    let mut bench = Bench::with_topics(&[(1, "t", 8), (2, "u", 3)]);
    let mut members: Vec<Member> = Vec::new();
    for number in 0..8 {
        members.push(Member::new(&format!("m{number}"), &["t", "u"]));
        settle(&mut bench, &mut members);
        let owned: Vec<_> = members.iter().flat_map(|one| one.owned.clone()).collect();
        assert_eq!((owned.len(), owned.iter().collect::<BTreeSet<_>>().len()), (11, 11));
        let most = members.iter().map(|one| one.owned.len()).max().unwrap();
        assert_eq!(most, 11usize.div_ceil(members.len()), "it is even");
    }
    bench.check_replay("eight members");
    while members.len() > 1 {
        let left = members.remove(0);
        let leave = ConsumerHeartbeat { epoch: -1, ..left.heartbeat() };
        let beat = bench.consumer(leave).expect("it may leave");
        assert_eq!((beat.epoch, beat.heartbeat_interval_ms), (-1, 0));
        settle(&mut bench, &mut members);
        let count: usize = members.iter().map(|one| one.owned.len()).sum();
        assert_eq!(count, 11);
    }
    let leave = ConsumerHeartbeat { epoch: -1, ..members[0].heartbeat() };
    bench.consumer(leave).expect("it may leave");
    assert_eq!(bench.described().state, "Empty");
    bench.pass(50_000);
    let check = Duration::from_secs(600).saturating_sub(Duration::from_secs(50));
    assert_eq!(bench.coordinator.next_deadline(), Some(bench.now.instant + check));
    bench.check_replay("nobody");
}

#[test]
fn silent_members_and_those_that_give_nothing_back_are_out() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut members = [Member::new("a", &["t"]), Member::new("b", &["t"])];
    settle(&mut bench, &mut members);
    bench.pass(44_000);
    let [first, second] = &mut members;
    first.beat(&mut bench);
    bench.pass(2000);
    assert_eq!(second.try_beat(&mut bench).unwrap_err().error, ErrorCode::UnknownMemberId);
    assert_eq!(bench.described().members.len(), 1);
    first.beat(&mut bench);
    assert_eq!(first.owned.len(), 4);

    let mut third = Member::new("c", &["t"]);
    third.beat(&mut bench);
    let keep = first.owned.clone();
    first.beat(&mut bench);
    for _ in 0..4 {
        bench.pass(4000);
        first.owned.clone_from(&keep);
        first.has_news = true;
        first.beat(&mut bench);
        third.beat(&mut bench);
    }
    assert_eq!(bench.described().members.len(), 2);
    bench.pass(5000);
    assert_eq!(bench.described().members.len(), 1, "20 seconds are over");
    third.beat(&mut bench);
    assert_eq!(third.owned, parts(1, 0..4));
    bench.check_replay("fenced");
}

#[test]
fn a_member_whose_answer_was_lost_may_come_with_the_epoch_before() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut members = [Member::new("a", &["t"]), Member::new("b", &["t"])];
    settle(&mut bench, &mut members);
    let epoch = members[0].epoch;
    let leave = ConsumerHeartbeat { epoch: -1, ..members[1].heartbeat() };
    bench.consumer(leave).expect("it may leave");
    let mut first = members[0].clone();
    first.beat(&mut bench);
    assert!(first.epoch > epoch);
    let owned = |parts: &Parts| Some(listed(parts));
    let cases = [
        ("lost answer", epoch, owned(&members[0].owned), Ok(first.epoch)),
        ("without partitions", epoch, None, Err(ErrorCode::FencedMemberEpoch)),
        ("older", epoch - 1, owned(&members[0].owned), Err(ErrorCode::FencedMemberEpoch)),
        ("others'", epoch, owned(&parts(9, [1])), Err(ErrorCode::FencedMemberEpoch)),
        ("newer", first.epoch + 1, None, Err(ErrorCode::FencedMemberEpoch)),
    ];
    for (name, epoch, owned, expected) in cases {
        let heartbeat = ConsumerHeartbeat { epoch, owned, ..first.heartbeat() };
        let found = bench.consumer(heartbeat).map(|beat| beat.epoch);
        assert_eq!(found.map_err(|refusal| refusal.error), expected, "{name}");
    }
    let full = ConsumerHeartbeat {
        topics: Some(first.topics.clone()),
        rebalance_timeout_ms: Some(20_000),
        owned: owned(&first.owned),
        ..first.heartbeat()
    };
    let beat = bench.consumer(full).expect("good");
    assert_eq!(beat.assignment, owned(&first.owned), "a full request is told everything");
}

#[test]
fn a_static_member_comes_back_to_its_part() {
    let mut bench = Bench::with_topics(&[(1, "t", 4)]);
    let mut members = [Member::with_instance("a", "i1"), Member::with_instance("b", "i2")];
    settle(&mut bench, &mut members);
    let epoch = bench.described().epoch;
    let mut back = Member { instance: Some(text("i1")), ..Member::new("c", &["t"]) };
    let refusal = back.try_beat(&mut bench).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::UnreleasedInstanceId);
    let leave = ConsumerHeartbeat { epoch: -2, ..members[0].heartbeat() };
    assert_eq!(bench.consumer(leave).expect("it may leave").epoch, -2);
    members[1].beat(&mut bench);
    assert_eq!(members[1].owned.len(), 2, "its part is kept for it");
    back.beat(&mut bench);
    assert_eq!(back.owned, members[0].owned);
    assert_eq!(bench.described().epoch, epoch, "nobody else noticed");
    assert_eq!(bench.described().state, "Stable");
    let refusal = members[0].try_beat(&mut bench).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::FencedInstanceId);
    bench.check_replay("back");

    let leave = ConsumerHeartbeat { epoch: -2, ..back.heartbeat() };
    bench.consumer(leave).expect("it may leave");
    bench.pass(40_000);
    members[1].beat(&mut bench);
    bench.pass(6000);
    settle(&mut bench, &mut members[1..]);
    assert_eq!(members[1].owned.len(), 4, "it was away for too long");
    bench.check_replay("gone");
}

#[test]
fn expressions_match_topics_that_are_and_those_that_come() {
    let mut bench = Bench::with_topics(&[(1, "t1", 2), (2, "t2", 1), (3, "u", 1)]);
    let mut members = [Member::matching("a", "t.*"), Member::new("b", &["u"])];
    settle(&mut bench, &mut members);
    let mut expected = parts(1, 0..2);
    expected.extend(parts(2, [0]));
    assert_eq!(members[0].owned, expected, "the first answer knows the topics");
    assert_eq!(members[1].owned, parts(3, [0]));
    let epoch = bench.described().epoch;
    bench.set_image(image(2, &[(1, "t1", 2), (2, "t2", 1), (3, "u", 1), (4, "t4", 1)]));
    settle(&mut bench, &mut members);
    assert_eq!(bench.described().epoch, epoch, "not more often than every 10 seconds");
    bench.pass(10_001);
    settle(&mut bench, &mut members);
    expected.extend(parts(4, [0]));
    assert_eq!(members[0].owned, expected);
    assert_eq!(bench.described().epoch, epoch + 1);
    bench.check_replay("expressions");

    let other = ConsumerHeartbeat { expression: Some(text("u|t1")), ..members[0].heartbeat() };
    let beat = bench.consumer(other).expect("good");
    members[0].hear(&beat);
    settle(&mut bench, &mut members);
    let owned: Parts = members.iter().flat_map(|one| one.owned.clone()).collect();
    let mut expected = parts(1, 0..2);
    expected.extend(parts(3, [0]));
    assert_eq!(owned, expected);
    let wrong = ConsumerHeartbeat { expression: Some(text("(")), ..members[0].heartbeat() };
    let refusal = bench.consumer(wrong).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::InvalidRegularExpression);
    let none = ConsumerHeartbeat { expression: Some(text("")), ..members[0].heartbeat() };
    bench.consumer(none).expect("good");
    bench.check_replay("no expression");
    assert!(bench.described().members[0].expression.is_empty());
}

#[test]
fn topics_that_grow_come_or_go_are_assigned_anew() {
    let mut bench = Bench::with_topics(&[(1, "t", 1)]);
    let mut members = [Member::new("a", &["t", "later"]), Member::new("b", &["t"])];
    settle(&mut bench, &mut members);
    let epoch = bench.described().epoch;
    type Case<'a> = (&'a str, &'a [(u64, &'a str, i32)], i32, usize);
    let cases: [Case<'_>; 5] = [
        ("another topic", &[(1, "t", 1), (5, "other", 1)], 0, 1),
        ("partitions", &[(1, "t", 3), (5, "other", 1)], 1, 3),
        ("a topic that was waited for", &[(1, "t", 3), (6, "later", 2)], 2, 5),
        ("a topic made anew", &[(8, "t", 2), (6, "later", 2)], 3, 4),
        ("a topic that is gone", &[(6, "later", 2)], 4, 2),
    ];
    for (version, (name, topics, bumps, count)) in (2..).zip(cases) {
        bench.set_image(image(version, topics));
        settle(&mut bench, &mut members);
        let owned: usize = members.iter().map(|one| one.owned.len()).sum();
        assert_eq!((bench.described().epoch - epoch, owned), (bumps, count), "{name}");
    }
    bench.check_replay("topics");
}

#[test]
fn offsets_of_deleted_topics_go() {
    let mut bench = Bench::with_topics(&[(1, "t", 1), (2, "u", 1)]);
    bench.commit_error(commit("", None, 5));
    let mut named = commit("", None, 6);
    named.topics[0].name = text("u");
    named.topics[0].id = Some(Uuid::from_halves(7, 3));
    bench.commit_error(named);
    bench.commits_at_once = false;
    let mut late = commit("", None, 7);
    late.group = text("h");
    bench.ask(Request::Commit(late));
    bench.commits_at_once = true;
    bench.set_image(image(2, &[]));
    assert_eq!(bench.offset(), None);
    let Answer::Fetch(found) = bench.answered(Request::Fetch(Fetch::of(text("h")))) else {
        panic!()
    };
    assert_eq!(found.topics, vec![], "nor one that was on its way");
    let Answer::Fetch(found) = bench.answered(Request::Fetch(Fetch::of(text("g")))) else {
        panic!()
    };
    assert_eq!(found.topics.len(), 1, "an offset of another topic of the name stays");
    bench.check_replay("offsets");
}

#[test]
fn assignments_keep_their_distance_in_time() {
    let mut bench = Bench::new(Settings { consumer: ConsumerSettings::default(), ..settings() });
    bench.set_image(image(1, &[(1, "t", 2)]));
    let (mut first, mut second) = (Member::new("a", &["t"]), Member::new("b", &["t"]));
    first.beat(&mut bench);
    bench.pass(999);
    second.beat(&mut bench);
    assert_eq!((second.epoch, bench.described().assignment_epoch), (2, 2));
    assert_eq!(bench.described().state, "Assigning");
    bench.pass(1);
    second.beat(&mut bench);
    assert_eq!((second.epoch, bench.described().assignment_epoch), (3, 3));
    bench.now.wall = Timestamp::from_millis(5000);
    let mut third = Member::new("d", &["t"]);
    third.beat(&mut bench);
    assert_eq!(third.epoch, 4, "the clock was set back");
    let own = crate::group::GroupConfig {
        assignment_interval_ms: Some(0),
        heartbeat_interval_ms: Some(9000),
        ..crate::group::GroupConfig::default()
    };
    bench.coordinator.set_group_configs(crate::group::GroupConfigs::unit(text("g"), own));
    let beat = Member::new("c", &["t"]).beat(&mut bench);
    assert_eq!((beat.epoch, beat.heartbeat_interval_ms), (5, 9000), "a group's own settings");
}

#[test]
fn a_record_that_can_not_be_written_makes_the_coordinator_load_anew() {
    let mut bench = Bench::with_topics(&[(1, "t", 2)]);
    let mut first = Member::new("a", &["t"]);
    first.beat(&mut bench);
    bench.commits_at_once = false;
    let second = Member::new("b", &["t"]);
    let joining = bench.ask(Request::ConsumerHeartbeat(second.heartbeat()));
    let waiting = bench.ask(Request::ConsumerHeartbeat(first.heartbeat()));
    assert!(bench.answers.is_empty(), "answers wait for what they tell of");
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    assert!(bench.reloads);
    for (ticket, error) in
        [(joining, ErrorCode::CoordinatorNotAvailable), (waiting, ErrorCode::NotCoordinator)]
    {
        match bench.answers.remove(&ticket) {
            Some(Answer::ConsumerHeartbeat(Err(refusal))) => assert_eq!(refusal.error, error),
            other => panic!("{other:?}"),
        }
    }
    let refusal = first.clone().try_beat(&mut bench).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::CoordinatorLoadInProgress);
    bench.pending.clear();
    bench.commits_at_once = true;
    bench.reload();
    first.beat(&mut bench);
    assert_eq!((first.epoch, first.owned.len(), bench.described().members.len()), (2, 2, 1));
}
