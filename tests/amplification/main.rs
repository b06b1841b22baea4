//! Requests that are small beside what they could make a broker do: many elements that have to be
//! compared with each other, one thing named very often, a change larger than the metadata log
//! takes. Each is answered within seconds, and the broker lives on.
//!
//! The time is that of the machine: what this finds takes minutes to days.

#![expect(clippy::disallowed_methods, reason = "the time that a simulated broker really takes")]

#[path = "../sim/broker.rs"]
mod broker;
#[path = "../sim/client.rs"]
#[expect(dead_code, reason = "the simulation asks for more")]
mod client;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelog::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use corelog::protocol::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use corelog::protocol::{ApiKey, ErrorCode, Str};
use corelog::runtime::sim::World;
use corelog::runtime::{Lanes, Runtime};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DescribeConfigsRequest, DescribeProducersRequest,
    ElectLeadersRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest, JoinGroupRequest,
    ListOffsetsRequest, OffsetCommitRequest,
};

use client::Connection;

/// What an unoptimized broker on a busy machine may take for one of them.
const TAKES_AT_MOST: Duration = Duration::from_secs(30);

/// An answer larger than this is larger than any that is asked for here has to be.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Virtual time within which all is answered.
const WITHIN: Duration = Duration::from_secs(60);

/// Producers of the topic whose producers are asked for.
const PRODUCERS: i64 = 100;

const BROKER: i8 = 4;
const TOPIC: i8 = 2;

fn text(text: String) -> Str {
    Str::from_string(text)
}

/// Asks `question`, and whether the broker still answers.
async fn ask<Q: kafka_protocol::protocol::Encodable>(
    runtime: Runtime,
    key: ApiKey,
    version: i16,
    question: Q,
) -> usize {
    let mut connection = Connection::open(&runtime).await;
    if key == ApiKey::DescribeProducers {
        fill_with_producers(&runtime, &mut connection).await;
    }
    if key == ApiKey::JoinGroup {
        // The topic of groups is made for who asks for a coordinator.
        let find = FindCoordinatorRequest::default().with_key(text("g".to_owned()));
        let header = connection.send_cold(ApiKey::FindCoordinator, 3, &find).await.expect("sent");
        connection.receive_body(&header).await.expect("answered");
        runtime.sleep(Duration::from_secs(5)).await;
    }
    let header = connection.send_cold(key, version, &question).await.expect("sent");
    let answer = connection.receive_body(&header).await.expect("answered");
    let alive = ApiVersionsRequest::default();
    let header = connection.send_cold(ApiKey::ApiVersions, 2, &alive).await.expect("sent");
    connection.receive_body(&header).await.expect("the broker lives");
    answer.len()
}

/// Makes the topic `t`, and has many producers write to it.
async fn fill_with_producers(runtime: &Runtime, connection: &mut Connection) {
    let name = || text("t".to_owned());
    let topic = CreatableTopic::default()
        .with_name(name().into())
        .with_num_partitions(1)
        .with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    let header = connection.send_cold(ApiKey::CreateTopics, 6, &create).await.expect("sent");
    connection.receive_body(&header).await.expect("answered");
    runtime.sleep(Duration::from_secs(5)).await;
    for id in 0..PRODUCERS {
        let stamp = ProducerStamp { id, epoch: 0, base_sequence: 0 };
        let mut builder = BatchBuilder::new().producer(stamp);
        let timestamp = runtime.wall_clock().to_wire();
        builder.append(&NewRecord { timestamp, value: Some(b"v"), ..NewRecord::default() });
        let records = builder.build().expect("a small batch");
        let topic = ProduceTopic {
            name: name(),
            topic_id: None,
            partitions: vec![ProducePartition { index: 0, records }],
        };
        let topics = vec![topic];
        let produce =
            ProduceRequest { acks: 1, timeout_ms: 5000, topics, ..ProduceRequest::default() };
        let header = connection.send(9, &produce).await.expect("sent");
        let answer: ProduceResponse = connection.receive(&header).await.expect("answered");
        assert_eq!(answer.topics[0].partitions[0].error, ErrorCode::None);
    }
}

/// Asks a broker of its own.
fn check<Q: kafka_protocol::protocol::Encodable + Clone + 'static>(
    name: &str,
    key: ApiKey,
    version: i16,
    question: Q,
) {
    let world = World::new(1);
    let (machine, clients) = (world.machine("broker"), world.machine("clients"));
    broker::start(&world, machine, 1, broker::config(&broker::PLACE.map(str::to_owned)));
    let answered: Rc<RefCell<Option<usize>>> = Rc::default();
    let place = answered.clone();
    world.start_process(clients, "client", 1, move |runtime, _: Lanes<()>| {
        let (place, question) = (place.clone(), question.clone());
        async move {
            let length = ask(runtime, key, version, question).await;
            *place.borrow_mut() = Some(length);
        }
    });
    let began = Instant::now();
    world.run_until(WITHIN, || answered.borrow().is_some());
    let took = began.elapsed();
    let length = answered.take().unwrap_or_else(|| panic!("{name}: not answered"));
    assert!(took < TAKES_AT_MOST, "{name}: {took:?}");
    assert!(length < ANSWER_BYTES_MAX, "{name}: an answer of {length} bytes");
}

#[test]
fn offsets_of_many_topics_that_do_not_exist() {
    let topic = |n: u32| OffsetCommitRequestTopic::default().with_name(text(n.to_string()).into());
    let question = OffsetCommitRequest::default()
        .with_group_id(text("g".to_owned()).into())
        .with_topics((0..80_000).map(topic).collect());
    check("topics that do not exist", ApiKey::OffsetCommit, 8, question);
}

fn alter(resource: AlterConfigsResource) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

#[test]
fn many_resources_that_are_named_twice() {
    let resource = |n: u32| {
        AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text((n / 2).to_string()))
    };
    let question = IncrementalAlterConfigsRequest::default()
        .with_resources((0..120_000).map(resource).collect());
    check("resources that are named twice", ApiKey::IncrementalAlterConfigs, 1, question);
}

#[test]
fn one_resource_that_is_named_often() {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text("1".to_owned()))
        .with_configuration_keys(None);
    let question = DescribeConfigsRequest::default()
        .with_resources(vec![resource; 5000])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    check("a resource that is named often", ApiKey::DescribeConfigs, 4, question);
}

#[test]
fn a_broker_whose_number_is_written_in_many_ways() {
    let resource = |zeros: usize| {
        DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text(format!("{}1", "0".repeat(zeros))))
            .with_configuration_keys(None)
    };
    let question = DescribeConfigsRequest::default()
        .with_resources((0..2000).map(resource).collect())
        .with_include_synonyms(true)
        .with_include_documentation(true);
    check("a number in many ways", ApiKey::DescribeConfigs, 4, question);
}

#[test]
fn one_partition_whose_producers_are_asked_for_often() {
    let topic = TopicRequest::default()
        .with_name(text("t".to_owned()).into())
        .with_partition_indexes(vec![0; 50_000]);
    let question = DescribeProducersRequest::default().with_topics(vec![topic]);
    check("producers of a partition", ApiKey::DescribeProducers, 0, question);
}

#[test]
fn lists_that_grow_by_many_items() {
    let items: Vec<String> = (0..6500).map(|n| format!("{n:x}")).collect();
    let change = |op| {
        AlterableConfig::default()
            .with_name(text("cleanup.policy".to_owned()))
            .with_config_operation(op)
            .with_value(Some(text(items.join(","))))
    };
    for op in [2, 3] {
        let resource = |n: u32| {
            AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(format!("t{n}")))
                .with_configs(vec![change(op)])
        };
        let question = IncrementalAlterConfigsRequest::default()
            .with_resources((0..200).map(resource).collect());
        check("lists that grow", ApiKey::IncrementalAlterConfigs, 1, question);
    }
}

#[test]
fn a_change_larger_than_the_metadata_log_takes() {
    let setting = |n: u32| {
        AlterableConfig::default()
            .with_name(text(format!("{n}-{}", "x".repeat(30_000))))
            .with_value(Some(text("y".to_owned())))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_configs((0..400).map(setting).collect());
    check("a change of 12 MB", ApiKey::IncrementalAlterConfigs, 1, alter(resource));
}

#[test]
fn a_member_of_many_protocols() {
    let protocol = |n: u32| {
        let name = text(n.to_string());
        JoinGroupRequestProtocol::default().with_name(name).with_metadata(Bytes::new())
    };
    let question = JoinGroupRequest::default()
        .with_group_id(text("g".to_owned()).into())
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("jobs".to_owned()))
        .with_protocols((0..80_000).map(protocol).collect());
    check("a member of many protocols", ApiKey::JoinGroup, 3, question);
}

#[test]
fn many_new_topics_that_could_collide() {
    let topic = |n: u32| CreatableTopic::default().with_name(text(format!("a.b{n}")).into());
    let question = CreateTopicsRequest::default().with_topics((0..30_000).map(topic).collect());
    check("topics that could collide", ApiKey::CreateTopics, 6, question);
}

#[test]
fn many_partitions_of_a_long_name() {
    let long = || text("n".repeat(30_000));
    let partition = |n: i32| ListOffsetsPartition::default().with_partition_index(n / 2);
    let topic = ListOffsetsTopic::default()
        .with_name(long().into())
        .with_partitions((0..60_000).map(partition).collect());
    let question = ListOffsetsRequest::default().with_topics(vec![topic]);
    check("partitions of a long name", ApiKey::ListOffsets, 5, question);
    let topic =
        TopicPartitions::default().with_topic(long().into()).with_partitions((0..60_000).collect());
    let question = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
    check("elections of a long name", ApiKey::ElectLeaders, 2, question);
}
