//! The replica against what Apache Kafka 4.3.1 wrote, and against itself.

use std::collections::BTreeSet;

use super::batch::{Batch, BatchError, Body, decode_all};
use super::clean::{Deletions, Retention};
use super::control::{ControlRecord, VoterEndpoint};
use super::format::{
    MetaProperties, bootstrap_file, bootstrap_records, feature_records, read_bootstrap, voters_file,
};
use super::*;
use crate::base::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use crate::metadata::record::{
    BrokerRegistrationChange, FeatureLevel, FenceBroker, FencingChange, NoOp, ProducerIds,
    ShutdownChange, TopicCreated,
};
use crate::metadata::{ConfigResource, Image, Record};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/metadata/", $name))
    };
}

const SEGMENTS: [&[u8]; 3] = [
    fixture!("00000000000000000000.log"),
    fixture!("00000000000000000206.log"),
    fixture!("00000000000000000299.log"),
];
const SNAPSHOTS: [(u64, u32, &[u8]); 4] = [
    (0, 0, fixture!("00000000000000000000-0000000000.checkpoint")),
    (251, 3, fixture!("00000000000000000251-0000000003.checkpoint")),
    (275, 3, fixture!("00000000000000000275-0000000003.checkpoint")),
    (305, 3, fixture!("00000000000000000305-0000000003.checkpoint")),
];
const QUORUM_STATE: &[u8] = fixture!("quorum-state");
const META_PROPERTIES: &[u8] = fixture!("meta.properties");
const BOOTSTRAP: &[u8] = fixture!("bootstrap.checkpoint");
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn snapshot_id(end: u64, epoch: u32) -> SnapshotId {
    SnapshotId { end: Offset::new(end), epoch: LeaderEpoch::new(epoch) }
}

fn read_all(mut loaded: Loaded, segments: &[&[u8]]) -> Loaded {
    for batch in segments.iter().flat_map(|segment| decode_all(segment)) {
        loaded.read(&batch.expect("a good batch")).expect("records that fit");
    }
    loaded
}

/// What Java's log says, from the snapshot with this number on.
fn java(snapshot: usize) -> Loaded {
    let (end, epoch, bytes) = SNAPSHOTS[snapshot];
    let loaded = Loaded::from_snapshot(snapshot_id(end, epoch), bytes).expect("a good snapshot");
    read_all(loaded, &SEGMENTS)
}

fn java_identity() -> Identity {
    let text = std::str::from_utf8(META_PROPERTIES).expect("text");
    let meta = MetaProperties::parse(text).expect("good properties");
    identity(meta.node, meta.directory.expect("version 1 has one"))
}

fn identity(node: NodeId, directory: Uuid) -> Identity {
    let endpoint =
        VoterEndpoint { name: "CONTROLLER".to_owned(), host: "localhost".to_owned(), port: 9093 };
    Identity { node, directory, endpoint }
}

#[test]
fn what_java_wrote_reads_back_after_our_encoding() {
    let snapshots = SNAPSHOTS.iter().map(|(_, _, bytes)| *bytes);
    for bytes in SEGMENTS.into_iter().chain(snapshots).chain([BOOTSTRAP]) {
        for batch in decode_all(bytes) {
            let batch = batch.expect("a good batch");
            let encoded = batch.encode(METADATA_LEVEL_MAX);
            assert_eq!(Batch::decode(&encoded), Ok((batch, encoded.len())));
        }
    }
}

#[test]
fn snapshots_of_java_are_encoded_byte_for_byte() {
    // In these, every record has the newest version, as we write them.
    for (end, epoch, bytes) in SNAPSHOTS {
        let ours: Vec<u8> = decode_all(bytes)
            .flat_map(|batch| batch.expect("good").encode(METADATA_LEVEL_MAX))
            .collect();
        assert_eq!(ours, bytes, "{end}-{epoch}");
    }
}

#[test]
fn every_snapshot_and_the_log_behind_it_make_the_same_image() {
    let expected = java(0);
    assert_eq!(expected.end(), Offset::new(307));
    for snapshot in 1..SNAPSHOTS.len() {
        let loaded = java(snapshot);
        assert_eq!(loaded.replay().image(), expected.replay().image(), "snapshot {snapshot}");
        assert_eq!(loaded.voters, expected.voters, "snapshot {snapshot}");
        assert_eq!(loaded.end(), expected.end(), "snapshot {snapshot}");
    }
}

#[test]
fn our_snapshot_has_the_records_of_javas() {
    // In text: a float has no order.
    let records = |bytes: &[u8]| -> BTreeSet<String> {
        let bodies = decode_all(bytes).map(|batch| batch.expect("good").body);
        bodies
            .flat_map(|body| match body {
                Body::Data(records) => records,
                Body::Control(_) => Vec::new(),
            })
            .map(|mut record| {
                if let Record::RegisterBroker(broker) = &mut record {
                    broker.features.sort_by(|a, b| a.name.cmp(&b.name));
                }
                if let Record::RegisterController(controller) = &mut record {
                    controller.features.sort_by(|a, b| a.name.cmp(&b.name));
                }
                format!("{record:?}")
            })
            .collect()
    };
    let (end, epoch, bytes) = SNAPSHOTS[3];
    let loaded = Loaded::from_snapshot(snapshot_id(end, epoch), bytes).expect("good");
    let image = loaded.replay().image();
    let ours = Contents {
        id: snapshot_id(end, epoch),
        last_contained: NOW,
        voters: loaded.voters.as_ref(),
        level: METADATA_LEVEL_MAX,
        records: &image.records(),
        now: NOW,
    };
    let ours = ours.encode();
    assert_eq!(records(&ours), records(bytes));
    let again = Loaded::from_snapshot(snapshot_id(end, epoch), &ours).expect("good");
    assert_eq!(again.replay().image(), image);
}

#[test]
fn javas_image_holds_what_its_tools_set() {
    let loaded = java(0);
    let image = loaded.replay().image();
    let alpha = image.topic_named("alpha").expect("alpha exists");
    assert_eq!(alpha.partitions.len(), 5);
    assert!(image.topic_named("doomed").is_none());
    assert_eq!(image.settings(&ConfigResource::topic("doomed")), None);
    let settings = ConfigResource::topic("alpha");
    assert_eq!(image.setting(&settings, "retention.ms"), Some("1000000"));
    assert_eq!(image.setting(&ConfigResource::broker(NodeId(1)), "log.cleaner.threads"), Some("2"));
    assert_eq!(image.setting(&ConfigResource::cluster(), "min.insync.replicas"), Some("1"));
    assert_eq!(image.next_producer_id(), 1000);
    assert_eq!(image.feature("metadata.version"), 30);
    let broker = image.broker(NodeId(1)).expect("registered");
    assert!(broker.fenced && broker.in_controlled_shutdown);
    for partition in alpha.partitions.values() {
        // After a controlled shutdown: nobody leads, the one replica is eligible.
        assert_eq!((partition.leader, partition.isr.len()), (None, 0));
        assert_eq!(partition.elr, [NodeId(1)]);
        assert_eq!((partition.leader_epoch, partition.partition_epoch), (LeaderEpoch::new(1), 1));
    }
}

fn start(identity: Identity, loaded: Loaded) -> (Standalone, Pending) {
    let recorded = QuorumState::parse(QUORUM_STATE).expect("good");
    let bootstrap = bootstrap_records(feature_records(), "1");
    let (standalone, _, pending) =
        Standalone::start(identity, loaded, Some(recorded), &bootstrap, NOW).expect("starts");
    (standalone, pending)
}

#[test]
fn a_start_goes_on_behind_javas_log_in_a_new_epoch() {
    let before = java(3);
    let (mut standalone, pending) = start(java_identity(), before.clone());
    assert_eq!(standalone.epoch(), LeaderEpoch::new(4));
    assert_eq!(pending.base, before.end());
    let mut bytes = pending.bytes.to_vec();
    let _ = standalone.commit(pending);
    let topic = TopicCreated { name: "beta".to_owned(), id: Uuid::from_halves(7, 7) };
    let pending = standalone.append(vec![topic.into()], NOW).expect("fits");
    bytes.extend_from_slice(&pending.bytes);
    let delta = standalone.commit(pending);
    assert_eq!(delta.topics_created, BTreeSet::from([Uuid::from_halves(7, 7)]));

    let [first, ..] = &decode_all(&bytes).map(Result::unwrap).collect::<Vec<_>>()[..] else {
        panic!("batches were written");
    };
    let Body::Control(records) = &first.body else { panic!("an epoch begins with control") };
    assert!(matches!(&records[..], [ControlRecord::LeaderChange(_)]), "voters are in the log");

    let again = read_all(before, &[&bytes]);
    assert_eq!(again.replay().image(), standalone.image());
    assert_eq!(again.end(), standalone.high_watermark());
}

#[test]
fn a_formatted_directory_starts_with_the_features_of_a_new_cluster() {
    let identity = identity(NodeId(1), Uuid::from_halves(5, 5));
    let formatted = voters_file(&identity, NOW);
    let loaded = Loaded::from_snapshot(SnapshotId::FORMATTED, &formatted).expect("good");
    let bootstrap = bootstrap_records(read_bootstrap(&bootstrap_file(NOW)).expect("good"), "1");
    let (mut standalone, state, pending) =
        Standalone::start(identity.clone(), loaded.clone(), None, &bootstrap, NOW).expect("starts");
    assert_eq!((state.epoch, state.leader), (LeaderEpoch::new(1), Some(NodeId(1))));
    let bytes = pending.bytes.clone();
    let _ = standalone.commit(pending);
    let java = java(0);
    assert_eq!(standalone.image().features(), java.replay().image().features());
    assert_eq!(standalone.voters(), Some(&identity.voters()));
    // LeaderChange, version, voters; begin, six features, a setting, end: as Java's first start.
    assert_eq!(standalone.high_watermark(), Offset::new(12));
    let again = read_all(loaded, &[&bytes]);
    assert!(again.voters_in_log);
    assert_eq!(again.replay().image(), standalone.image());
    assert_eq!(read_bootstrap(BOOTSTRAP).expect("good"), feature_records());
}

#[test]
fn a_log_of_other_voters_is_refused() {
    let mine = java_identity();
    for other in [identity(NodeId(2), mine.directory), identity(mine.node, Uuid::from_halves(1, 2))]
    {
        let started = Standalone::start(other, java(3), None, &[], NOW);
        assert_eq!(started.err(), Some(StartError::OtherVoters(vec![NodeId(1)])));
    }
}

#[test]
fn a_transaction_that_was_left_open_is_aborted_at_the_next_start() {
    let mut loaded = java(3);
    let records = vec![
        crate::metadata::record::BeginTransaction { name: None }.into(),
        ProducerIds { broker: None, broker_epoch: -1, next_producer_id: 9000 }.into(),
    ];
    let epoch = LeaderEpoch::new(4);
    let batch = Batch { base: loaded.end(), epoch, timestamp: NOW, body: Body::Data(records) };
    loaded.read(&batch).expect("fits");
    let (mut standalone, pending) = start(java_identity(), loaded);
    assert_eq!(standalone.epoch(), LeaderEpoch::new(5));
    let _ = standalone.commit(pending);
    assert_eq!(standalone.image().next_producer_id(), 1000);
}

#[test]
fn many_records_take_effect_together() {
    let (mut standalone, pending) = start(java_identity(), java(3));
    let _ = standalone.commit(pending);
    let record = |number: u64| -> Record {
        TopicCreated { name: format!("t{number}"), id: Uuid::from_halves(9, number + 1) }.into()
    };
    let pending = standalone.append((0..25_000).map(record).collect(), NOW).expect("fits");
    let batches: Vec<Batch> = decode_all(&pending.bytes).map(Result::unwrap).collect();
    assert_eq!(batches.len(), 3);
    let mut partly = java(3);
    let before = partly.replay().image().topic_count();
    partly.end = batches[0].base;
    for batch in &batches[..2] {
        partly.read(batch).expect("fits");
        assert_eq!(partly.replay().image().topic_count(), before, "nothing before the end");
    }
    partly.read(&batches[2]).expect("fits");
    assert_eq!(partly.replay().image().topic_count(), before + 25_000);
    assert_eq!(standalone.commit(pending).topics_created.len(), 25_000);
}

#[test]
fn records_that_do_not_fit_are_refused_and_change_nothing() {
    let (mut standalone, pending) = start(java_identity(), java(3));
    let _ = standalone.commit(pending);
    let before: Image = standalone.image().clone();
    let wrong_epoch = FenceBroker { broker: NodeId(1), epoch: 1 };
    let refused = standalone.append(vec![NoOp {}.into(), wrong_epoch.into()], NOW);
    assert!(matches!(refused, Err(AppendError::Apply(_))), "{refused:?}");
    assert_eq!(standalone.image(), &before);
    assert_eq!(standalone.append(Vec::new(), NOW).err(), Some(AppendError::Empty));
}

#[test]
fn a_snapshot_is_due_after_bytes_or_after_time_with_records() {
    let (mut standalone, pending) = start(java_identity(), java(3));
    let hour = Timestamp::from_millis(NOW.to_wire() + 3_600_000);
    let rules = SnapshotRules::default();
    assert!(!standalone.is_snapshot_due(rules, hour), "nothing is new");
    let _ = standalone.commit(pending);
    assert!(!standalone.is_snapshot_due(rules, NOW));
    assert!(standalone.is_snapshot_due(rules, hour));
    standalone.count_bytes(20 << 20);
    assert!(standalone.is_snapshot_due(rules, NOW));
    let (id, bytes) = standalone.snapshot(NOW);
    standalone.snapshot_taken(id, NOW);
    assert!(!standalone.is_snapshot_due(rules, hour));
    let loaded = Loaded::from_snapshot(id, &bytes).expect("good");
    assert_eq!(loaded.replay().image(), standalone.image());
    assert_eq!(clean::deletions(&[], &[], Retention::default(), NOW), Deletions::default());
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    let good = SEGMENTS[1];
    let (_, length) = Batch::decode(good).expect("good");
    for cut in 0..length {
        assert_eq!(Batch::decode(&good[..cut]).err(), Some(BatchError::Truncated), "cut at {cut}");
    }
    // Bytes of some batches changed, with a checksum that fits, so that they reach the decoder.
    for bytes in [&good[..length], SNAPSHOTS[3].2, BOOTSTRAP] {
        let (_, length) = Batch::decode(bytes).expect("good");
        for at in 21..length {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = bytes[..length].to_vec();
                bad[at] ^= flip;
                let checksum = crc32c::crc32c(&bad[21..]);
                bad[17..21].copy_from_slice(&checksum.to_be_bytes());
                let _ = Batch::decode(&bad);
            }
        }
    }
}

#[test]
fn quorum_state_is_written_as_java_writes_it() {
    let state = QuorumState::parse(QUORUM_STATE).expect("good");
    assert_eq!((state.epoch, state.leader), (LeaderEpoch::new(3), Some(NodeId(1))));
    assert_eq!(state.to_text(), QUORUM_STATE);
    let old = br#"{"clusterId":"","leaderId":1,"leaderEpoch":9,"votedId":1,"appliedOffset":0,
        "currentVoters":[{"voterId":1}],"data_version":0}"#;
    let state = QuorumState::parse(old).expect("version 0");
    assert_eq!(state.voted, Some((NodeId(1), None)));
    assert!(QuorumState::parse(b"{}").is_err());
}

#[test]
fn meta_properties_read_back() {
    let text = std::str::from_utf8(META_PROPERTIES).expect("text");
    let meta = MetaProperties::parse(text).expect("good");
    assert_eq!(meta.node, NodeId(1));
    assert_eq!(MetaProperties::parse(&meta.to_text()), Ok(meta));
    let old = MetaProperties::parse("version=0\nbroker.id=3\ncluster.id=x\\=y\n").expect("good");
    assert_eq!((old.node, old.cluster.as_str(), old.directory), (NodeId(3), "x=y", None));
    assert!(MetaProperties::parse("cluster.id=x\n").is_err());
}

#[test]
fn at_an_older_level_nothing_is_written_that_its_releases_can_not_read() {
    let loaded = java(3);
    // Level, and the versions of RegisterBroker, PartitionCreated and BrokerRegistrationChange.
    for (level, versions) in
        [(7, [1, 0, 1]), (8, [2, 0, 1]), (17, [3, 1, 2]), (25, [3, 2, 2]), (30, [4, 2, 3])]
    {
        let mut image = loaded.replay().image().clone();
        let feature = FeatureLevel { name: "metadata.version".to_owned(), level };
        image.apply(&feature.into()).expect("fits");
        let mut records = image.records();
        assert_eq!(records.iter().any(|r| r.api_key() == 27), level >= 15, "level {level}");
        let change = BrokerRegistrationChange {
            broker: NodeId(1),
            epoch: 227,
            fenced: FencingChange::Unfenced,
            in_controlled_shutdown: ShutdownChange::Unchanged,
            log_dirs: Vec::new(),
            cordoned_log_dirs: Some(Vec::new()),
        };
        records.push(change.into());
        for record in records {
            let bytes = record.encode(level);
            let expected = match record.api_key() {
                0 => versions[0],
                3 => versions[1],
                17 => versions[2],
                _ => 0,
            };
            assert_eq!(bytes[2], expected, "{record:?} at level {level}");
            assert!(Record::decode(&bytes).is_ok(), "{record:?} at level {level}");
        }
    }
}
