//! The metadata log on a real disk, and on a simulated one that fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::base::LeaderEpoch;
use crate::metadata::record::{NoOp, TopicCreated};
use crate::runtime::OpenMode;
use crate::runtime::real;
use crate::runtime::sim::{Chance, Faults, World};

macro_rules! fixtures {
    ($($name:literal),*) => {
        [$((
            $name,
            include_bytes!(concat!("../../../tests/fixtures/metadata/", $name)).as_slice(),
        )),*]
    };
}

/// Files of `__cluster_metadata-0` as Apache Kafka 4.3.1 wrote them.
const JAVA: [(&str, &[u8]); 8] = fixtures![
    "00000000000000000000-0000000000.checkpoint",
    "00000000000000000000.log",
    "00000000000000000206.log",
    "00000000000000000251-0000000003.checkpoint",
    "00000000000000000275-0000000003.checkpoint",
    "00000000000000000299.log",
    "00000000000000000305-0000000003.checkpoint",
    "quorum-state"
];

fn run(test: impl AsyncFnOnce(Runtime, PathBuf)) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_owned();
    real::run_single(async move |runtime| test(runtime, path).await).expect("io_uring");
}

fn how(path: &Path) -> OpenMetadataLog {
    OpenMetadataLog {
        log_dirs: vec![path.to_owned()],
        metadata_dir: path.to_owned(),
        node: NodeId(1),
        cluster: None,
        controller_endpoint: VoterEndpoint {
            name: "CONTROLLER".to_owned(),
            host: "localhost".to_owned(),
            port: 9093,
        },
        min_insync_replicas: 1,
        segments: SegmentRules::default(),
        snapshots: SnapshotRules::default(),
        retention: Retention::default(),
    }
}

async fn open(runtime: &Runtime, path: &Path) -> MetadataLog {
    let (log, _) = MetadataLog::open(runtime, how(path)).await.expect("opens");
    log
}

async fn refusal(runtime: &Runtime, how: OpenMetadataLog) -> String {
    match MetadataLog::open(runtime, how).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

/// Puts Java's files where a broker looks for them.
async fn java(runtime: &Runtime, path: &Path) {
    let disk = runtime.disk();
    let partition = path.join(METADATA_DIRECTORY);
    disk.create_directories(&partition).await.expect("created");
    for (name, bytes) in JAVA {
        disk.write_atomically(&partition.join(name), bytes).await.expect("written");
    }
    for (name, bytes) in fixtures!["meta.properties", "bootstrap.checkpoint"] {
        disk.write_atomically(&path.join(name), bytes).await.expect("written");
    }
}

fn topic(number: u64) -> Record {
    TopicCreated { name: format!("t{number}"), id: Uuid::from_halves(9, number + 1) }.into()
}

#[test]
fn a_new_directory_is_formatted_and_read_again() {
    run(async |runtime, path| {
        let mut log = open(&runtime, &path).await;
        assert_eq!(log.replica().epoch(), LeaderEpoch::new(1));
        assert_eq!(log.image().feature("metadata.version"), 30);
        let (image, delta) = log.append(vec![topic(1)]).await.expect("appended");
        assert_eq!((image.topic_count(), delta.topics_created.len()), (1, 1));
        let (cluster, directories) = (log.cluster().to_owned(), log.directories().to_vec());
        let end = log.next_offset();
        drop(log);

        let log = open(&runtime, &path).await;
        assert_eq!(log.replica().epoch(), LeaderEpoch::new(2));
        assert_eq!(log.next_offset(), end + 1, "one control record begins the epoch");
        assert_eq!((log.cluster(), log.directories()), (cluster.as_str(), &directories[..]));
        assert!(log.image().topic_named("t1").is_some());
    });
}

#[test]
fn the_log_of_apache_kafka_is_gone_on_with() {
    run(async |runtime, path| {
        java(&runtime, &path).await;
        let mut log = open(&runtime, &path).await;
        assert_eq!(log.replica().epoch(), LeaderEpoch::new(4));
        assert_eq!(log.next_offset(), Offset::new(308));
        assert!(log.image().topic_named("alpha").is_some());
        log.append(vec![topic(1)]).await.expect("appended");
        let image = log.image();
        drop(log);
        let log = open(&runtime, &path).await;
        assert_eq!(log.image().records(), image.records());
    });
}

#[test]
fn a_torn_append_is_cut_off_and_a_damaged_one_is_refused() {
    run(async |runtime, path| {
        let mut log = open(&runtime, &path).await;
        log.append(vec![topic(1)]).await.expect("appended");
        let good = log.next_offset();
        log.append(vec![topic(2)]).await.expect("appended");
        drop(log);
        let segment = path.join(METADATA_DIRECTORY).join("00000000000000000000.log");
        let file = runtime.disk().open(&segment, OpenMode::Write).await.expect("opens");
        let size = file.size_bytes().await.expect("has a size");
        file.truncate(size - 1).await.expect("cut");

        let log = open(&runtime, &path).await;
        assert_eq!(log.next_offset(), good + 1);
        assert!(log.image().topic_named("t1").is_some());
        assert!(log.image().topic_named("t2").is_none());
        drop(log);
        file.write_at(100, &[bytes::Bytes::from_static(b"x")]).await.expect("written");
        let refused = refusal(&runtime, how(&path)).await;
        assert!(refused.contains("checksum"), "{refused}");
    });
}

#[test]
fn an_append_whose_sync_failed_is_written_again_by_the_next_process() {
    let world = World::new(1);
    let machine = world.machine("host");
    let place = Path::new("/data");
    let fails = world.run(machine, move |runtime| async move {
        let log = open(&runtime, place).await;
        runtime.disk().sync_directory(Path::new("/")).await.expect("a good disk");
        log
    });
    world.set_faults(machine, Faults { sync_error: Chance(1_000_000), ..Faults::default() });
    world.run(machine, move |_| async move {
        let mut log = fails;
        // Longer than a page: what is appended next writes its last page again, not the others.
        assert!(log.append((0..300).map(topic).collect()).await.is_err());
        assert!(log.append(vec![topic(300)]).await.is_err(), "it takes nothing more");
    });
    world.set_faults(machine, Faults::default());
    // What was read once must be there for good: others were told of it.
    let has_topics = world.run(machine, move |runtime| async move {
        let mut log = open(&runtime, place).await;
        log.append(vec![topic(301)]).await.expect("a good disk");
        log.image().topic_named("t299").is_some()
    });
    assert!(has_topics, "it is in the page cache");
    world.crash(machine);
    world.run(machine, move |runtime| async move {
        let log = open(&runtime, place).await;
        assert_eq!(log.image().topic_count(), 301);
    });
}

#[test]
fn snapshots_let_old_segments_go() {
    run(async |runtime, path| {
        let mut how = how(&path);
        how.segments.size_bytes_max = 200;
        how.snapshots.new_bytes_max = 1000;
        how.retention = Retention { size_bytes_max: 3000, age_max: Duration::from_secs(3600) };
        let (mut log, _) = MetadataLog::open(&runtime, how.clone()).await.expect("opens");
        for number in 0..100 {
            log.append(vec![topic(number), NoOp {}.into()]).await.expect("appended");
            log.maintain().await.expect("maintained");
        }
        let (snapshots, segments) = log.files.listing();
        assert!(
            snapshots.len() < 5 && segments[0].base > Offset::ZERO,
            "{snapshots:?} {segments:?}"
        );
        let image = log.image();
        drop(log);
        let (log, _) = MetadataLog::open(&runtime, how).await.expect("opens");
        assert_eq!(log.image().records(), image.records());
        let names = runtime.disk().list(&path.join(METADATA_DIRECTORY)).await.expect("lists");
        assert!(names.len() < 40, "{names:?}");
    });
}

#[test]
fn a_directory_of_someone_else_is_refused_with_a_sentence() {
    run(async |runtime, path| {
        let ours = path.join("ours");
        let log = open(&runtime, &ours).await;
        let refused = refusal(&runtime, how(&ours)).await;
        assert!(refused.contains("another process uses"), "{refused}");
        drop(log);

        let other_node = OpenMetadataLog { node: NodeId(2), ..how(&ours) };
        let other_cluster = OpenMetadataLog { cluster: Some("x".to_owned()), ..how(&ours) };
        let moved = OpenMetadataLog { metadata_dir: path.join("moved"), ..how(&ours) };
        for (wanted, how) in [
            ("set node.id=1", other_node),
            ("belongs to the cluster", other_cluster),
            ("metadata log is not here", moved),
        ] {
            let refused = refusal(&runtime, how).await;
            assert!(refused.contains(wanted), "{refused}");
        }

        let stray = path.join("stray");
        runtime.disk().create_directories(&stray.join("t-0")).await.expect("created");
        let refused = refusal(&runtime, how(&stray)).await;
        assert!(refused.contains("has no meta.properties"), "{refused}");
        // Nothing was made of what was refused.
        let entries = runtime.disk().list(&stray).await.expect("lists");
        assert!(entries.iter().all(|entry| entry.name == "t-0" || entry.name == ".lock"));
    });
}
