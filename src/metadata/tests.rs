//! The rules of applying records, one by one.

use std::collections::BTreeSet;

use super::record::{
    AbortTransaction, BeginTransaction, ClearElr, EndTransaction, LeaderChange, PartitionChange,
    PartitionCreated, Recovery, RecoveryChange, RemoveTopic, TopicCreated,
};
use super::*;
use crate::base::{LeaderEpoch, NodeId, Offset, PartitionKey, Uuid};

const DIRECTORY: Uuid = Uuid::from_halves(5, 5);

fn id(number: u64) -> Uuid {
    Uuid::from_halves(number, 1)
}

fn topic(number: u64, name: &str) -> Record {
    TopicCreated { name: name.to_owned(), id: id(number) }.into()
}

fn partition(topic: u64, partition: i32) -> Record {
    PartitionCreated {
        partition,
        topic: id(topic),
        replicas: vec![NodeId(1), NodeId(2)],
        isr: vec![NodeId(1), NodeId(2)],
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        leader: Some(NodeId(1)),
        leader_recovery: Recovery::Recovered,
        leader_epoch: 0,
        partition_epoch: 0,
        directories: vec![Some(DIRECTORY), None],
        elr: Some(vec![NodeId(3)]),
        last_known_elr: None,
    }
    .into()
}

fn image(records: &[Record]) -> Image {
    let mut image = Image::default();
    records.iter().for_each(|record| image.apply(record).expect("fits"));
    image
}

#[test]
fn a_partition_change_merges_and_raises_the_epochs() {
    let none = PartitionChange::none(id(1), 0);
    let leader = |leader| PartitionChange { leader, ..none.clone() };
    let isr = PartitionChange { isr: Some(vec![NodeId(2)]), ..none.clone() };
    let recovering =
        PartitionChange { leader_recovery: RecoveryChange::Recovering, ..none.clone() };
    // The change; leader, leader epoch, in-sync replicas, recovery after it.
    let (one, two) = (Some(NodeId(1)), Some(NodeId(2)));
    let cases = [
        ("nothing", none.clone(), one, 0, 2, Recovery::Recovered),
        ("same leader", leader(LeaderChange::Node(NodeId(1))), one, 1, 2, Recovery::Recovered),
        ("other leader", leader(LeaderChange::Node(NodeId(2))), two, 1, 2, Recovery::Recovered),
        ("no leader", leader(LeaderChange::Nobody), None, 1, 2, Recovery::Recovered),
        ("fewer in sync", isr, one, 0, 1, Recovery::Recovered),
        ("recovering", recovering, one, 0, 2, Recovery::Recovering),
    ];
    for (name, change, leader, leader_epoch, in_sync, recovery) in cases {
        let image = image(&[topic(1, "t"), partition(1, 0), change.into()]);
        let found = image.partition(PartitionKey { topic: id(1), partition: 0 }).expect("there");
        assert_eq!(found.leader, leader, "{name}");
        assert_eq!(found.leader_epoch, LeaderEpoch::new(leader_epoch), "{name}");
        assert_eq!(found.partition_epoch, 1, "{name}");
        assert_eq!(found.isr.len(), in_sync, "{name}");
        assert_eq!(found.leader_recovery, recovery, "{name}");
        assert_eq!(found.directories, [Some(DIRECTORY), None], "{name}");
    }
}

#[test]
fn eligible_leaders_are_forgotten_by_topic_or_everywhere() {
    let all = [topic(1, "a"), partition(1, 0), topic(2, "b"), partition(2, 0)];
    for (name, forgotten) in [("a", [true, false]), ("", [true, true]), ("gone", [false, false])] {
        let clear = ClearElr { topic_name: name.to_owned() }.into();
        let image = image(&[&all[..], &[clear]].concat());
        for (number, forgotten) in [1, 2].into_iter().zip(forgotten) {
            let key = PartitionKey { topic: id(number), partition: 0 };
            let found = image.partition(key).expect("there");
            assert_eq!(found.elr.is_empty(), forgotten, "{name:?}, topic {number}");
            assert_eq!(found.partition_epoch, i32::from(forgotten), "{name:?}, topic {number}");
        }
    }
}

#[test]
fn records_that_name_what_is_not_there_are_errors() {
    let base = [topic(1, "t"), partition(1, 0)];
    let missing = PartitionKey { topic: id(1), partition: 1 };
    let cases: [(Record, ApplyError); 5] = [
        (RemoveTopic { topic: id(2) }.into(), ApplyError::UnknownTopic(id(2))),
        (partition(2, 0), ApplyError::UnknownTopic(id(2))),
        (PartitionChange::none(id(1), 1).into(), ApplyError::UnknownPartition(missing)),
        (topic(2, "t"), ApplyError::DuplicateTopic("t".to_owned())),
        (EndTransaction {}.into(), ApplyError::MisplacedTransaction),
    ];
    for (record, error) in cases {
        assert_eq!(image(&base).apply(&record), Err(error), "{record:?}");
    }
}

#[test]
fn a_delta_tells_deletion_and_creation_of_one_name_apart() {
    let old = image(&[topic(1, "t"), partition(1, 0), topic(2, "u"), partition(2, 0)]);
    let mut new = old.clone();
    for record in [
        RemoveTopic { topic: id(1) }.into(),
        topic(3, "t"),
        partition(3, 0),
        partition(3, 1),
        PartitionChange::none(id(2), 0).into(),
    ] {
        new.apply(&record).expect("fits");
    }
    let delta = Delta::between(&old, &new);
    assert_eq!(delta.topics_deleted.keys().copied().collect::<Vec<_>>(), [id(1)]);
    assert_eq!(delta.topics_created, BTreeSet::from([id(3)]));
    let key = |topic, partition| PartitionKey { topic: id(topic), partition };
    assert_eq!(delta.partitions_changed, BTreeSet::from([key(2, 0), key(3, 0), key(3, 1)]));
    assert!(Delta::between(&new, &new.clone()).is_empty());
}

#[test]
fn a_transaction_is_published_at_its_end_or_never() {
    let begin = || Record::from(BeginTransaction { name: None });
    let abort = || Record::from(AbortTransaction { reason: None });
    let cases: [(&str, &[Record], &[&str]); 4] = [
        ("open", &[topic(1, "a"), begin(), topic(2, "b")], &["a"]),
        ("ended", &[begin(), topic(2, "b"), EndTransaction {}.into()], &["b"]),
        ("aborted", &[begin(), topic(2, "b"), abort(), topic(3, "c")], &["c"]),
        ("records behind", &[begin(), EndTransaction {}.into(), topic(3, "c")], &["c"]),
    ];
    for (name, records, published) in cases {
        let mut replay = Replay::default();
        replay.apply_batch(Offset::ZERO, LeaderEpoch::ZERO, records).expect("fits");
        let names: Vec<&str> = replay.image().topics().map(|topic| &*topic.name).collect();
        assert_eq!(names, published, "{name}");
        assert_eq!(replay.in_transaction(), name == "open");
    }
    let mut replay = Replay::default();
    let nested = replay.apply_batch(Offset::ZERO, LeaderEpoch::ZERO, &[begin(), begin()]);
    assert_eq!(nested, Err(ApplyError::MisplacedTransaction));
}

#[test]
fn a_record_of_the_future_is_an_error_that_says_so() {
    let cases: [(&str, &[u8], &str); 4] = [
        ("unknown type", &[1, 29, 0, 0], "unknown metadata record type 29"),
        ("unknown version", &[1, 2, 1, 0], "unknown version 1 of TopicCreated"),
        ("unknown frame", &[2, 20, 0, 0], "unknown record frame version 2"),
        ("trailing bytes", &[1, 20, 0, 0, 0], "bytes follow the end"),
    ];
    for (name, bytes, sentence) in cases {
        let error = Record::decode(bytes).expect_err(name).to_string();
        assert!(error.contains(sentence), "{name}: {error}");
    }
    // A tagged field that is not known is skipped, as in Apache Kafka.
    assert!(Record::decode(&[1, 20, 0, 1, 99, 1, 7]).is_ok());
}

#[test]
fn an_image_may_be_shared_by_cores() {
    fn shared<T: Send + Sync>() {}
    shared::<Image>();
    shared::<Delta>();
}
