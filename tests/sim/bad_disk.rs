//! What a disk that fails or is full does to the partitions it is about, and to the others.

use std::path::Path;
use std::time::Duration;

use corelog::base::Offset;
use corelog::protocol::ErrorCode;
use corelog::protocol::builder::{BatchBuilder, NewRecord};
use corelog::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use corelog::runtime::Runtime;
use corelog::runtime::sim::{Chance, Faults};

use super::{DISK_BYTES_MAX, Run};
use crate::admin::create;
use crate::client::{Connection, PAUSE};
use crate::plan::{Durability, Plan};
use crate::topic::{TOPIC, find_topic, topic_name};

/// Always.
const ALWAYS: Chance = Chance(1_000_000);

/// The seeds of some runs with this durability and several partitions.
fn seeds(durability: Durability) -> impl Iterator<Item = u64> {
    let fits = move |seed: &u64| {
        let plan = Plan::of(*seed);
        plan.durability == durability && plan.partitions > 1
    };
    (0..).filter(fits).take(8)
}

/// Writes a record to each partition: what each answers.
async fn write_each(runtime: Runtime, partitions: i32) -> Vec<ErrorCode> {
    find_topic(&runtime, partitions).await;
    let mut connection = Connection::open(&runtime).await;
    let mut answers = Vec::new();
    for index in 0..partitions {
        let mut batch = BatchBuilder::new();
        batch.append(&NewRecord { timestamp: 1, key: None, value: Some(b"1 1"), headers: &[] });
        let records = batch.build().expect("nothing is compressed");
        let partitions = vec![ProducePartition { index, records }];
        let topics = vec![ProduceTopic { name: topic_name(), topic_id: None, partitions }];
        let request =
            ProduceRequest { acks: -1, timeout_ms: 10_000, topics, ..ProduceRequest::default() };
        loop {
            let answer = connection.ask::<_, ProduceResponse>(9, &request).await;
            let error = answer.expect("no connection is lost").topics[0].partitions[0].error;
            // After a start a log may still be checked.
            if error != ErrorCode::NotLeaderOrFollower {
                answers.push(error);
                break;
            }
            runtime.sleep(PAUSE).await;
        }
    }
    answers
}

/// Reads each partition from its beginning: what each answers, and how many bytes.
async fn read_each(runtime: Runtime, partitions: i32) -> Vec<(ErrorCode, usize)> {
    let mut connection = Connection::open(&runtime).await;
    let mut answers = Vec::new();
    for index in 0..partitions {
        let partitions = vec![FetchPartition {
            index,
            fetch_offset: Offset::from_wire(0),
            max_bytes: 100_000,
            ..FetchPartition::default()
        }];
        let topics = vec![FetchTopic { name: topic_name(), topic_id: None, partitions }];
        let request = FetchRequest {
            max_wait_ms: 5,
            min_bytes: 1,
            max_bytes: 100_000,
            topics,
            ..FetchRequest::default()
        };
        let answer = connection.ask::<_, FetchResponse>(6, &request).await;
        let answer = answer.expect("no connection is lost");
        let answer = &answer.topics[0].partitions[0];
        answers.push((answer.error, answer.records.in_memory().map_or(0, |bytes| bytes.len())));
    }
    answers
}

impl Run {
    fn write_each(&self) -> Vec<ErrorCode> {
        let partitions = self.plan.partitions;
        self.world.run(self.clients, move |runtime| write_each(runtime, partitions))
    }

    fn fail_below(&self, partition: i32, faults: Option<Faults>) {
        let path = format!("/data/{TOPIC}-{partition}");
        self.world.set_faults_below(self.machine, Path::new(&path), faults);
    }

    /// All are well but the first, which answers `first`.
    fn assert_only_first(&self, answers: &[ErrorCode], first: ErrorCode) {
        let mut expected = vec![ErrorCode::None; answers.len()];
        expected[0] = first;
        assert_eq!(answers, expected, "seed {}: {:?}", self.seed, self.plan);
    }
}

#[test]
fn a_write_error_fails_its_partition_and_no_other() {
    for seed in seeds(Durability::PageCache) {
        let run = Run::new(seed);
        run.assert_only_first(&run.write_each(), ErrorCode::None);
        run.fail_below(0, Some(Faults { write_error: ALWAYS, ..Faults::default() }));
        run.assert_only_first(&run.write_each(), ErrorCode::KafkaStorageError);
        // Nothing of the refused write is there, and the disk takes writes again.
        run.fail_below(0, None);
        run.assert_only_first(&run.write_each(), ErrorCode::None);
        assert!(!run.world.exited(run.broker), "seed {seed}");
    }
}

#[test]
fn a_failed_sync_takes_its_partition_offline_until_a_restart() {
    for seed in seeds(Durability::FlushMessages).chain(seeds(Durability::Sync)) {
        let mut run = Run::new(seed);
        run.assert_only_first(&run.write_each(), ErrorCode::None);
        // The journal is another file, and its syncs fail as well.
        let faults = Faults { sync_error: ALWAYS, ..Faults::default() };
        run.world.set_faults(run.machine, faults);
        let answers = run.write_each();
        assert_eq!(answers[0], ErrorCode::KafkaStorageError, "seed {seed}: {answers:?}");
        run.world.set_faults(run.machine, Faults::default());
        // A sync that would succeed now makes nothing durable of what the failed one left out.
        let answers = run.write_each();
        assert_eq!(answers[0], ErrorCode::KafkaStorageError, "seed {seed}: {answers:?}");
        run.world.crash(run.machine);
        run.start_again(run.plan.cores);
        run.assert_only_first(&run.write_each(), ErrorCode::None);
    }
}

#[test]
fn a_read_error_is_told_to_who_reads_and_hits_no_other_partition() {
    for seed in seeds(Durability::PageCache) {
        let run = Run::new(seed);
        run.assert_only_first(&run.write_each(), ErrorCode::None);
        let partitions = run.plan.partitions;
        let read = || run.world.run(run.clients, move |runtime| read_each(runtime, partitions));
        let before = read();
        let has_all = before.iter().all(|(error, bytes)| *error == ErrorCode::None && *bytes > 0);
        assert!(has_all, "seed {seed}: {before:?}");
        run.fail_below(0, Some(Faults { read_error: ALWAYS, ..Faults::default() }));
        let answers = read();
        // What is known of the latest batches needs no look into the file before it is sent.
        let first = answers[0].0;
        let may_be = [ErrorCode::None, ErrorCode::KafkaStorageError];
        assert!(may_be.contains(&first), "seed {seed}: {answers:?}");
        assert_eq!(answers[1..], before[1..], "seed {seed}");
        run.fail_below(0, None);
        assert!(!run.world.exited(run.broker), "seed {seed}");
    }
}

#[test]
fn a_full_disk_ends_no_broker_and_what_it_refused_goes_when_there_is_room() {
    for seed in seeds(Durability::PageCache).chain(seeds(Durability::Sync)) {
        let run = Run::new(seed);
        run.assert_only_first(&run.write_each(), ErrorCode::None);
        let used_bytes = run.world.disk_used_bytes(run.machine);
        run.world.set_disk_bytes_max(run.machine, used_bytes);
        for _ in 0..3 {
            let answers = run.write_each();
            let refused = answers.iter().all(|error| *error == ErrorCode::KafkaStorageError);
            assert!(refused, "seed {seed}: {answers:?}");
            let made = run.world.run(run.clients, |runtime| create(runtime, "wanted"));
            assert_eq!(made, ErrorCode::KafkaStorageError, "seed {seed}");
            run.world.run_for(Duration::from_secs(1));
        }
        assert!(!run.world.exited(run.broker), "seed {seed}: {:?}", run.verdict.get());
        run.world.set_disk_bytes_max(run.machine, DISK_BYTES_MAX);
        run.assert_only_first(&run.write_each(), ErrorCode::None);
        let made = run.world.run(run.clients, |runtime| create(runtime, "wanted"));
        assert_eq!(made, ErrorCode::None, "seed {seed}");
    }
}
