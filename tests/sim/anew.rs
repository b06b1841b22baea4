//! What a topic leaves behind: its checkpoints outlive a kill, but neither they nor its directory
//! get in the way of the next topic of its name.

use std::path::Path;
use std::time::Duration;

use corelog::base::Offset;
use corelog::protocol::builder::{BatchBuilder, NewRecord};
use corelog::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use corelog::protocol::{ApiKey, ErrorCode, Str};
use corelog::runtime::Runtime;
use corelog::runtime::sim::{Chance, Faults, World};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteTopicsRequest};

use crate::admin::create;
use crate::broker;
use crate::client::{Connection, PAUSE};
use crate::topic::{TOPIC, find_topic, topic_name};

/// Longer than the interval of checkpoints.
const CHECKPOINTED_AFTER: Duration = Duration::from_secs(7);

/// Makes the topic if need be, and writes records to it, all of them acknowledged.
async fn write(runtime: &Runtime, count: u64) {
    find_topic(runtime, 1).await;
    let mut connection = Connection::open(runtime).await;
    for _ in 0..count {
        let mut batch = BatchBuilder::new();
        batch.append(&NewRecord { timestamp: 1, key: None, value: Some(b"v"), headers: &[] });
        let records = batch.build().expect("nothing is compressed");
        let partitions = vec![ProducePartition { index: 0, records }];
        let topics = vec![ProduceTopic { name: topic_name(), topic_id: None, partitions }];
        let request =
            ProduceRequest { acks: -1, timeout_ms: 10_000, topics, ..ProduceRequest::default() };
        let answer = connection.ask::<_, ProduceResponse>(9, &request).await;
        let answer = answer.expect("no connection is lost");
        assert_eq!(answer.topics[0].partitions[0].error, ErrorCode::None);
    }
}

async fn delete_records(runtime: &Runtime, before: i64) {
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(before);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name().into())
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    let mut connection = Connection::open(runtime).await;
    let header = connection.send_cold(ApiKey::DeleteRecords, 2, &request).await.expect("sent");
    connection.receive_body(&header).await.expect("answered");
}

async fn delete_topic(runtime: &Runtime) {
    let names = vec![Str::from_static_str(TOPIC).into()];
    let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(5000);
    let mut connection = Connection::open(runtime).await;
    let header = connection.send_cold(ApiKey::DeleteTopics, 5, &request).await.expect("sent");
    connection.receive_body(&header).await.expect("answered");
}

/// What a fetch from offset 0 is answered with, and the high watermark.
async fn fetch(runtime: &Runtime) -> (ErrorCode, Option<Offset>) {
    let mut connection = Connection::open(runtime).await;
    loop {
        let partitions = vec![FetchPartition {
            index: 0,
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
        let partition = &answer.topics[0].partitions[0];
        // After a start a log may still be checked.
        if partition.error != ErrorCode::NotLeaderOrFollower {
            return (partition.error, partition.high_watermark);
        }
        runtime.sleep(PAUSE).await;
    }
}

#[test]
fn checkpoints_of_a_deleted_topic_say_nothing_of_the_next_one_of_its_name() {
    let world = World::new(1);
    let (machine, clients) = (world.machine("broker"), world.machine("clients"));
    let config = broker::config(&broker::PLACE.map(str::to_owned));
    let (first, _) = broker::start(&world, machine, 2, config.clone());
    world.run(clients, |runtime| async move {
        write(&runtime, 10).await;
        delete_records(&runtime, 5).await;
        runtime.sleep(CHECKPOINTED_AFTER).await;
        delete_topic(&runtime).await;
        write(&runtime, 3).await;
    });
    world.kill(first);
    broker::start(&world, machine, 2, config);
    let found = world.run(clients, |runtime| async move { fetch(&runtime).await });
    assert_eq!(found, (ErrorCode::None, Offset::from_wire(3)), "three records were acknowledged");
}

#[test]
fn a_directory_that_could_not_be_renamed_is_not_in_the_way_of_the_next_topic_of_its_name() {
    let world = World::new(3);
    let (machine, clients) = (world.machine("broker"), world.machine("clients"));
    let config = broker::config(&broker::PLACE.map(str::to_owned));
    let (first, _) = broker::start(&world, machine, 2, config.clone());
    world.run(clients, |runtime| async move { write(&runtime, 10).await });
    let directory = Path::new("/data/numbers-0");
    let failing = Faults { rename_error: Chance(1_000_000), ..Faults::default() };
    world.set_faults_below(machine, directory, Some(failing));
    world.run(clients, |runtime| async move {
        delete_topic(&runtime).await;
        runtime.sleep(PAUSE).await;
    });
    world.set_faults_below(machine, directory, None);
    world.run(clients, |runtime| async move { write(&runtime, 3).await });
    let three = (ErrorCode::None, Offset::from_wire(3));
    assert_eq!(world.run(clients, |runtime| async move { fetch(&runtime).await }), three);
    world.kill(first);
    broker::start(&world, machine, 2, config);
    assert_eq!(world.run(clients, |runtime| async move { fetch(&runtime).await }), three);
    let names = world.files(machine).into_keys().map(|path| path.display().to_string());
    let is_old = |name: &String| name.contains("-stray/") && name.ends_with(".log");
    assert_eq!(names.filter(is_old).count(), 1, "the directory is set aside, not removed");
}

#[test]
fn a_topic_that_is_deleted_while_its_log_is_checked_keeps_nobody_else_waiting() {
    let world = World::new(4);
    let (machine, clients) = (world.machine("broker"), world.machine("clients"));
    let config = broker::config(&broker::PLACE.map(str::to_owned));
    let (first, _) = broker::start(&world, machine, 2, config.clone());
    world.run(clients, |runtime| async move { write(&runtime, 10).await });
    world.kill(first);
    let directory = Path::new("/data/numbers-0");
    let slow = Faults { read_wait: Duration::from_secs(100), ..Faults::default() };
    world.set_faults_below(machine, directory, Some(slow));
    broker::start(&world, machine, 2, config);
    let began = world.now();
    world.run(clients, |runtime| async move {
        delete_topic(&runtime).await;
        assert_eq!(create(runtime, "wanted").await, ErrorCode::None);
    });
    let took = world.now().since(began);
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    world.set_faults_below(machine, directory, None);
    let found = world.run(clients, |runtime| async move {
        // It is made anew, deleted and made anew while the first one is still there.
        find_topic(&runtime, 1).await;
        delete_topic(&runtime).await;
        write(&runtime, 3).await;
        fetch(&runtime).await
    });
    assert_eq!(found, (ErrorCode::None, Offset::from_wire(3)), "three records were acknowledged");
}

#[test]
fn records_that_were_deleted_do_not_come_back() {
    let world = World::new(2);
    let (machine, clients) = (world.machine("broker"), world.machine("clients"));
    let config = broker::config(&broker::PLACE.map(str::to_owned));
    let (first, _) = broker::start(&world, machine, 2, config.clone());
    world.run(clients, |runtime| async move {
        write(&runtime, 10).await;
        // Nothing else changes from here on.
        runtime.sleep(CHECKPOINTED_AFTER).await;
        delete_records(&runtime, 5).await;
        runtime.sleep(CHECKPOINTED_AFTER).await;
    });
    world.kill(first);
    broker::start(&world, machine, 2, config);
    let found = world.run(clients, |runtime| async move { fetch(&runtime).await });
    assert_eq!(found.0, ErrorCode::OffsetOutOfRange, "the log begins at 5");
}
