//! `corelog topic`: list, create, describe, alter, delete.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};

use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use crate::protocol::metadata::{MetadataPartition, MetadataTopic};
use crate::protocol::{ErrorCode, Str};
use crate::runtime::Runtime;

use super::args::{ClusterArgs, TopicCommand};
use super::client::{ClientError, Cluster, Creation};
use super::offsets::list_offsets;
use super::terminal::{Done, Failure, Output, pair};

/// The number of TOPIC among the types of resources.
const RESOURCE_TOPIC: i8 = 2;

/// The number of the source "topic" in a DescribeConfigs answer.
const SOURCE_TOPIC: i8 = 1;

/// Connects as the arguments say.
pub async fn open(runtime: &Runtime, args: &ClusterArgs) -> Result<Cluster, Failure> {
    let timeout = Duration::from_secs(args.timeout.max(1));
    Ok(Cluster::open(runtime, &args.bootstrap, timeout).await?)
}

fn text(text: &str) -> Str {
    Str::from_string(text.to_owned())
}

fn name(text: &str) -> TopicName {
    TopicName(Str::from_string(text.to_owned()))
}

fn timeout_ms(args: &ClusterArgs) -> i32 {
    i32::try_from(args.timeout.saturating_mul(1000)).unwrap_or(i32::MAX)
}

/// The code of an answer's number.
fn code(raw: i16) -> ErrorCode {
    ErrorCode::from_code(raw).unwrap_or(ErrorCode::UnknownServerError)
}

fn refusal(what: &str, raw: i16, message: Option<&Str>) -> Result<(), ClientError> {
    match code(raw) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::refused(what, code, message.map(|text| text.as_str()))),
    }
}

/// Runs the command.
pub async fn run(runtime: Runtime, command: TopicCommand) -> Done {
    match command {
        TopicCommand::List { cluster, internal } => list(&runtime, &cluster, internal).await,
        TopicCommand::Create { .. } => {
            let mut out = Output::new();
            if let Some(sentence) = create(&runtime, command).await? {
                out.line(sentence)?;
            }
            out.flush()
        }
        TopicCommand::Describe { names, cluster, all } => {
            describe(&runtime, &cluster, &names, if all { Shown::All } else { Shown::Set }).await
        }
        TopicCommand::Alter { .. } => alter(&runtime, command).await,
        TopicCommand::Delete { names, cluster } => delete(&runtime, &cluster, &names).await,
    }
}

/// Which settings are printed.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Shown {
    All,
    Set,
}

async fn list(runtime: &Runtime, args: &ClusterArgs, internal: bool) -> Done {
    let cluster = open(runtime, args).await?;
    let metadata = cluster.metadata(None, Creation::Forbidden).await?;
    let shown = metadata.topics.iter().filter(|topic| internal || !topic.is_internal);
    let mut names: Vec<&str> = shown.filter_map(|topic| topic.name.as_deref()).collect();
    names.sort_unstable();
    let mut out = Output::new();
    for name in names {
        out.line(name)?;
    }
    out.flush()
}

/// Creates a topic; a sentence that says so, if it was not there.
pub async fn create(runtime: &Runtime, command: TopicCommand) -> Result<Option<String>, Failure> {
    let TopicCommand::Create {
        name: topic,
        cluster: args,
        partitions,
        replicas,
        configs,
        if_not_exists,
        validate_only,
    } = command
    else {
        return Ok(None);
    };
    let cluster = open(runtime, &args).await?;
    let mut settings = Vec::with_capacity(configs.len());
    for config in &configs {
        let (name, value) = pair(config)?;
        settings.push(
            CreatableTopicConfig::default()
                .with_name(Str::from_string(name))
                .with_value(Some(Str::from_string(value))),
        );
    }
    let wanted = CreatableTopic::default()
        .with_name(name(&topic))
        .with_num_partitions(partitions.unwrap_or(-1))
        .with_replication_factor(replicas.unwrap_or(-1))
        .with_configs(settings);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(timeout_ms(&args))
        .with_validate_only(validate_only);
    let answer = cluster.any().call_cold(&request).await?;
    let Some(result) = answer.topics.first() else { return Ok(None) };
    if if_not_exists && code(result.error_code) == ErrorCode::TopicAlreadyExists {
        return Ok(None);
    }
    refusal(&format!("topic {topic}"), result.error_code, result.error_message.as_ref())?;
    let verb = if validate_only { "could be created" } else { "created" };
    let mut sentence = format!("{topic} {verb}");
    if result.num_partitions > 0 {
        let (partitions, replicas) = (result.num_partitions, result.replication_factor);
        sentence += &format!(": {partitions} partitions, {replicas} replicas");
    }
    Ok(Some(sentence))
}

async fn delete(runtime: &Runtime, args: &ClusterArgs, names: &[String]) -> Done {
    let cluster = open(runtime, args).await?;
    let states = names.iter().map(|it| DeleteTopicState::default().with_name(Some(name(it))));
    let request = DeleteTopicsRequest::default()
        .with_topics(states.collect())
        .with_topic_names(names.iter().map(|it| name(it)).collect())
        .with_timeout_ms(timeout_ms(args));
    let version = cluster.any().version(crate::protocol::ApiKey::DeleteTopics.row())?;
    // Versions up to 5 name topics in one field, later ones in the other.
    let request = if version >= 6 {
        request.with_topic_names(Vec::new())
    } else {
        request.with_topics(Vec::new())
    };
    let answer = cluster.any().call_cold(&request).await?;
    let mut failed = None;
    for result in &answer.responses {
        let topic = result.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        let what = format!("topic {topic}");
        match refusal(&what, result.error_code, result.error_message.as_ref()) {
            Ok(()) => {
                let mut out = Output::new();
                out.line(format_args!("{topic} deleted"))?;
                out.flush()?;
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

async fn alter(runtime: &Runtime, command: TopicCommand) -> Done {
    let TopicCommand::Alter {
        name: topic,
        cluster: args,
        partitions,
        set,
        unset,
        append,
        subtract,
        validate_only,
    } = command
    else {
        return Ok(());
    };
    let mut changes = Vec::new();
    for (op, texts) in [(0_i8, &set), (2, &append), (3, &subtract)] {
        for text in texts {
            let (name, value) = pair(text)?;
            changes.push(
                AlterableConfig::default()
                    .with_name(Str::from_string(name))
                    .with_config_operation(op)
                    .with_value(Some(Str::from_string(value))),
            );
        }
    }
    let removed = unset.iter();
    changes.extend(
        removed
            .map(|name| AlterableConfig::default().with_name(text(name)).with_config_operation(1)),
    );
    if changes.is_empty() && partitions.is_none() {
        return Err(Failure::new(
            "nothing to change: say --partitions, --set, --unset, --append or --subtract",
        ));
    }
    let cluster = open(runtime, &args).await?;
    let what = format!("topic {topic}");
    if !changes.is_empty() {
        let resource = AlterConfigsResource::default()
            .with_resource_type(RESOURCE_TOPIC)
            .with_resource_name(text(&topic))
            .with_configs(changes);
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource])
            .with_validate_only(validate_only);
        let answer = cluster.any().call_cold(&request).await?;
        for result in &answer.responses {
            refusal(&what, result.error_code, result.error_message.as_ref())?;
        }
    }
    if let Some(count) = partitions {
        let wanted = CreatePartitionsTopic::default()
            .with_name(name(&topic))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(timeout_ms(&args))
            .with_validate_only(validate_only);
        let answer = cluster.any().call_cold(&request).await?;
        for result in &answer.results {
            refusal(&what, result.error_code, result.error_message.as_ref())?;
        }
    }
    let mut out = Output::new();
    let verb = if validate_only { "could be altered" } else { "altered" };
    out.line(format_args!("{topic} {verb}"))?;
    out.flush()
}

async fn describe(runtime: &Runtime, args: &ClusterArgs, names: &[String], shown: Shown) -> Done {
    let cluster = open(runtime, args).await?;
    let asked = (!names.is_empty()).then_some(names);
    let mut metadata = cluster.metadata(asked, Creation::Forbidden).await?;
    metadata.topics.sort_by(|one, other| one.name.cmp(&other.name));
    let mut out = Output::new();
    for topic in &metadata.topics {
        let name = topic.name.as_deref().unwrap_or_default();
        refusal(&format!("topic {name}"), topic.error.code(), None)?;
        if topic.is_internal && names.is_empty() {
            continue;
        }
        describe_one(&cluster, topic, name, shown, &mut out).await?;
    }
    out.flush()
}

async fn describe_one(
    cluster: &Cluster,
    topic: &MetadataTopic,
    name: &str,
    shown: Shown,
    out: &mut Output,
) -> Done {
    let id = topic.topic_id.map(|id| id.to_string()).unwrap_or_default();
    out.line(format_args!("{name}  id {id}  {} partitions", topic.partitions.len()))?;
    for (name, value, own) in settings(cluster, name).await? {
        if own || shown == Shown::All {
            out.line(format_args!("  {name}={value}{}", if own { "" } else { "  (inherited)" }))?;
        }
    }
    let leaders: BTreeMap<i32, _> =
        topic.partitions.iter().filter_map(|it| it.leader.map(|node| (it.index, node))).collect();
    let first = list_offsets(cluster, name, &leaders, EARLIEST_TIMESTAMP).await?;
    let end = list_offsets(cluster, name, &leaders, LATEST_TIMESTAMP).await?;
    let mut partitions: Vec<&MetadataPartition> = topic.partitions.iter().collect();
    partitions.sort_by_key(|partition| partition.index);
    for partition in partitions {
        let nodes = |nodes: &[crate::base::NodeId]| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let leader = partition.leader.map_or("none".to_owned(), |node| node.to_string());
        let epoch = partition.leader_epoch.map_or("?".to_owned(), |epoch| epoch.to_string());
        let offset = |found: &BTreeMap<i32, u64>| {
            found.get(&partition.index).map_or("?".to_owned(), u64::to_string)
        };
        out.line(format_args!(
            "  partition {}  leader {leader}  epoch {epoch}  replicas {}  in sync {}  \
             offsets {}..{}",
            partition.index,
            nodes(&partition.replicas),
            nodes(&partition.in_sync),
            offset(&first),
            offset(&end),
        ))?;
    }
    Ok(())
}

/// A topic's settings: name, value, and whether the topic has it of its own.
async fn settings(cluster: &Cluster, topic: &str) -> Result<Vec<(String, String, bool)>, Failure> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(RESOURCE_TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = cluster.any().call_cold(&request).await?;
    let mut settings = Vec::new();
    for result in &answer.results {
        refusal(&format!("topic {topic}"), result.error_code, result.error_message.as_ref())?;
        settings.extend(result.configs.iter().map(|config| {
            let value = config.value.as_ref().map_or("null", |value| value.as_str());
            let own = config.config_source == SOURCE_TOPIC;
            (config.name.as_str().to_owned(), value.to_owned(), own)
        }));
    }
    settings.sort();
    Ok(settings)
}
