//! Assignors beside Apache Kafka's, and what holds of any group.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// A line for each call, made by `Assignors.java` beside it from the assignors of Apache Kafka
/// 4.3.1; topics are the upper halves of ids.
const CASES: &str = include_str!("../../../../tests/fixtures/assignors/cases.jsonl");

#[derive(Debug, Deserialize)]
struct Case {
    assignor: String,
    same: bool,
    topics: Vec<(i64, i32)>,
    members: Vec<CaseMember>,
}

#[derive(Debug, Deserialize)]
struct CaseMember {
    id: String,
    instance: Option<String>,
    topics: Vec<i64>,
    target: Vec<(i64, Vec<i32>)>,
    expect: Vec<(i64, Vec<i32>)>,
}

fn topic(number: i64) -> Uuid {
    Uuid::from_halves(number.cast_unsigned(), 0)
}

fn assignment(topics: &[(i64, Vec<i32>)]) -> Assignment {
    topics.iter().map(|(number, partitions)| (topic(*number), partitions.clone())).collect()
}

/// A member that owns its parts.
#[derive(Clone, Debug)]
struct Owned {
    id: String,
    instance: Option<String>,
    topics: Vec<Uuid>,
    target: Assignment,
}

impl Owned {
    fn new(id: &str, topics: impl IntoIterator<Item = i64>) -> Self {
        let topics: BTreeSet<Uuid> = topics.into_iter().map(topic).collect();
        let topics = topics.into_iter().collect();
        Self { id: id.to_owned(), instance: None, topics, target: Assignment::new() }
    }

    fn member(&self) -> Member<'_> {
        Member {
            id: &self.id,
            instance: self.instance.as_deref(),
            topics: &self.topics,
            target: &self.target,
        }
    }
}

fn assign(assignor: Assignor, members: &[Owned], counts: &BTreeMap<Uuid, i32>) -> Vec<Assignment> {
    let members: Vec<Member> = members.iter().map(Owned::member).collect();
    assignor.assign(&members, Subscriptions::of(&members), counts).expect("topics exist")
}

#[test]
fn assignments_are_those_of_kafka() {
    let mut count = 0;
    for line in CASES.lines() {
        let case: Case = serde_json::from_str(line).expect("a case");
        let members = case.members.iter().map(|member| {
            let topics = member.topics.iter().copied();
            Owned {
                instance: member.instance.clone(),
                target: assignment(&member.target),
                ..Owned::new(&member.id, topics)
            }
        });
        let members: Vec<Owned> = members.collect();
        let members: Vec<Member> = members.iter().map(Owned::member).collect();
        let counts = case.topics.iter().map(|&(number, count)| (topic(number), count)).collect();
        let kind =
            if case.same { Subscriptions::Homogeneous } else { Subscriptions::Heterogeneous };
        let assignor = Assignor::from_name(&case.assignor).expect("a known assignor");
        let found = assignor.assign(&members, kind, &counts).expect("topics exist");
        let expected: Vec<_> =
            case.members.iter().map(|member| assignment(&member.expect)).collect();
        assert_eq!(found, expected, "{line}");
        count += 1;
    }
    assert!(count > 30, "{count} cases");
}

#[test]
fn a_topic_that_does_not_exist_is_an_error() {
    let members = [Owned::new("a", [1]), Owned::new("b", [1, 2])];
    let members: Vec<Member> = members.iter().map(Owned::member).collect();
    let counts = BTreeMap::from([(topic(1), 3)]);
    for assignor in Assignor::ALL {
        let found = assignor.assign(&members, Subscriptions::of(&members), &counts);
        assert_eq!(found, Err(AssignError::UnknownTopic(topic(2))), "{assignor:?}");
        let alone = &members[..1];
        assert!(assignor.assign(alone, Subscriptions::of(alone), &counts).is_ok());
        let alone = &members[1..];
        assert!(assignor.assign(alone, Subscriptions::of(alone), &counts).is_err());
        assert_eq!(assignor.assign(&[], Subscriptions::of(&[]), &counts), Ok(vec![]));
    }
}

#[test]
fn claims_of_what_does_not_exist_and_double_claims_are_ignored() {
    let target =
        Assignment::from([(topic(1), vec![-1, 0, 1, 7, i32::MAX]), (topic(8), vec![0, 1])]);
    for other_topics in [vec![1], vec![1, 2]] {
        let mut members = [Owned::new("a", [1]), Owned::new("b", other_topics)];
        for member in &mut members {
            member.target = target.clone();
        }
        let counts = BTreeMap::from([(topic(1), 3), (topic(2), 1)]);
        let found = assign(Assignor::Uniform, &members, &counts);
        check_exactly_once(&members, &counts, &found);
        assert_eq!(found[0], Assignment::from([(topic(1), vec![0, 1])]));
    }
}

#[test]
fn static_members_come_back_to_the_same_range() {
    let counts = BTreeMap::from([(topic(1), 4), (topic(2), 4)]);
    let mut members = vec![Owned::new("x", [1, 2]), Owned::new("y", [1, 2])];
    members[0].instance = Some("second".to_owned());
    members[1].instance = Some("first".to_owned());
    let first = assign(Assignor::Range, &members, &counts);
    assert_eq!(first[1], Assignment::from([(topic(1), vec![0, 1]), (topic(2), vec![0, 1])]));
    members[1].id = "a".to_owned();
    members.reverse();
    let second = assign(Assignor::Range, &members, &counts);
    assert_eq!((&second[0], &second[1]), (&first[1], &first[0]));
}

/// Each partition of a topic with subscribers is had by one of these.
fn check_exactly_once(members: &[Owned], counts: &BTreeMap<Uuid, i32>, found: &[Assignment]) {
    assert_eq!(members.len(), found.len());
    let mut had = BTreeSet::new();
    for (member, assignment) in members.iter().zip(found) {
        for (id, partitions) in assignment {
            assert!(member.topics.contains(id), "{} does not subscribe to {id}", member.id);
            assert!(partitions.is_sorted() && !partitions.is_empty());
            for partition in partitions {
                assert!(had.insert((*id, *partition)), "{id}-{partition} is had twice");
            }
        }
    }
    let subscribed: BTreeSet<Uuid> =
        members.iter().flat_map(|member| member.topics.iter().copied()).collect();
    let all = subscribed.iter().flat_map(|id| (0..counts[id]).map(|number| (*id, number)));
    assert_eq!(had, all.collect::<BTreeSet<_>>());
}

fn size(assignment: &Assignment) -> usize {
    assignment.values().map(Vec::len).sum()
}

/// Partitions of the old assignment that are still in the new one.
fn kept(old: &Assignment, new: &Assignment) -> usize {
    let still = |id: &Uuid, partition: &i32| new.get(id).is_some_and(|p| p.contains(partition));
    old.iter().map(|(id, list)| list.iter().filter(|p| still(id, p)).count()).sum()
}

/// What a group goes through: each number is a choice.
fn history() -> impl Strategy<Value = (Vec<i32>, Vec<Vec<u16>>)> {
    let counts = prop::collection::vec(1..20i32, 1..6);
    let steps = prop::collection::vec(prop::collection::vec(any::<u16>(), 1..10), 1..6);
    (counts, steps)
}

/// Members leave and join as the choices say; `topics` tells what a joining one subscribes to.
fn change(members: &mut Vec<Owned>, choices: &[u16], topics: impl Fn(u16) -> Vec<i64>) {
    for &choice in choices {
        if choice % 3 == 0 && members.len() > 1 {
            members.remove(usize::from(choice / 3) % members.len());
        } else {
            let id = format!("{choice}");
            if members.iter().all(|member| member.id != id) {
                members.push(Owned::new(&id, topics(choice)));
            }
        }
    }
    members.sort_by(|left, right| left.id.cmp(&right.id));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn equal_members_share_evenly_and_keep_what_they_may((counts, steps) in history()) {
        let counts: BTreeMap<Uuid, i32> =
            (1i64..).map(topic).zip(counts).collect();
        let numbers: Vec<i64> = (1..=counts.len() as i64).collect();
        let mut members = Vec::new();
        for choices in &steps {
            change(&mut members, choices, |_| numbers.clone());
            let found = assign(Assignor::Uniform, &members, &counts);
            check_exactly_once(&members, &counts, &found);
            let total: usize = found.iter().map(size).sum();
            let quota_min = total / members.len();
            for (member, new) in members.iter_mut().zip(found) {
                prop_assert!(size(&new) == quota_min || size(&new) == quota_min + 1);
                let kept = kept(&member.target, &new);
                let may_keep = size(&member.target).min(quota_min);
                prop_assert!(kept >= may_keep, "{} lost some", member.id);
                member.target = new;
            }
            // Nobody came or left: nothing moves.
            let again = assign(Assignor::Uniform, &members, &counts);
            for (member, again) in members.iter().zip(again) {
                prop_assert_eq!(&member.target, &again);
            }
        }
    }

    #[test]
    fn different_members_share_evenly_among_the_subscribers_of_a_topic(
        (counts, steps) in history()
    ) {
        let counts: BTreeMap<Uuid, i32> =
            (1i64..).map(topic).zip(counts).collect();
        let topic_count = counts.len() as i64;
        let subscribed = |choice: u16| {
            (1..=topic_count).filter(|number| choice & (4 << number) == 0).collect()
        };
        let mut members = Vec::new();
        for choices in &steps {
            change(&mut members, choices, subscribed);
            let kind = Subscriptions::Heterogeneous;
            let inputs: Vec<Member> = members.iter().map(Owned::member).collect();
            let found = Assignor::Uniform.assign(&inputs, kind, &counts).expect("topics exist");
            check_exactly_once(&members, &counts, &found);
            for id in counts.keys() {
                let with_topic =
                    || members.iter().zip(&found).filter(|(member, _)| member.topics.contains(id));
                let least = with_topic().map(|(_, new)| size(new)).min().unwrap_or(0);
                for (_, new) in with_topic().filter(|(_, new)| new.contains_key(id)) {
                    prop_assert!(size(new) <= least + 1, "{id} is uneven");
                }
            }
            for (member, new) in members.iter_mut().zip(found) {
                member.target = new;
            }
            let again = assign(Assignor::Uniform, &members, &counts);
            if kind == Subscriptions::of(&members.iter().map(Owned::member).collect::<Vec<_>>()) {
                for (member, again) in members.iter().zip(again) {
                    prop_assert_eq!(&member.target, &again);
                }
            }
        }
    }

    #[test]
    fn ranges_are_consecutive_and_alike_in_topics_that_are_alike((counts, steps) in history()) {
        let counts: BTreeMap<Uuid, i32> =
            (1i64..).map(topic).zip(counts).collect();
        let numbers: Vec<i64> = (1..=counts.len() as i64).collect();
        let mut members = Vec::new();
        for choices in &steps {
            change(&mut members, choices, |_| numbers.clone());
            let found = assign(Assignor::Range, &members, &counts);
            check_exactly_once(&members, &counts, &found);
            for new in &found {
                for (id, partitions) in new {
                    let width = partitions[partitions.len() - 1] - partitions[0];
                    prop_assert_eq!(width as usize, partitions.len() - 1);
                    let alike = new.iter().filter(|(other, _)| counts[*other] == counts[id]);
                    for (_, other_partitions) in alike {
                        prop_assert_eq!(other_partitions, partitions);
                    }
                }
            }
        }
    }
}
