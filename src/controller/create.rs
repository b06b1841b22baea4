//! CreateTopics, CreatePartitions, and topics created because someone asked for them.
//!
//! Source: Kafka's `ControllerApis`, `ReplicationControlManager`, `AutoTopicCreationManager`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse,
};

use crate::config::{Overrides, alter, describe};
use crate::controller::decision::{Context, Decision, Refusal};
use crate::controller::topics::{
    NewTopic, TopicError, create_partitions_records, create_topic_records,
};
use crate::metadata::{OFFSETS_TOPIC, Record, check_name, folded};
use crate::protocol::{ErrorCode, Str};

/// Partitions that one request may create (`MAX_PARTITIONS_PER_BATCH`).
const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;

/// The metadata log's own topic; nobody may create it.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// A topic that passed every check.
struct Checked {
    records: Vec<Record>,
    result: CreatableTopicResult,
}

/// Answers CreateTopics.
pub fn create_topics(
    ctx: &mut Context<'_>,
    request: CreateTopicsRequest,
    _version: i16,
) -> Decision<CreateTopicsResponse> {
    let mut seen = BTreeSet::new();
    let mut duplicates = BTreeSet::new();
    for topic in &request.topics {
        if !seen.insert(topic.name.to_string()) {
            duplicates.insert(topic.name.to_string());
        }
    }
    let single = |topic: &&CreatableTopic| {
        !duplicates.contains(topic.name.as_str()) && topic.name.as_str() != METADATA_TOPIC
    };
    let total: i64 = request.topics.iter().filter(single).map(|t| counted(ctx, t)).sum();
    let mut records = Vec::new();
    let mut response = CreateTopicsResponse::default();
    // The first of two topics whose names collide is created; the second sees it.
    let mut taken = ctx.image.folded_names(request.topics.iter().map(|topic| topic.name.as_str()));
    for topic in request.topics.iter().filter(single) {
        let checked = if total > PARTITIONS_PER_REQUEST_MAX {
            Err(excessive())
        } else {
            check_topic(ctx, topic, &mut taken)
        };
        response.topics.push(match checked {
            Ok(checked) => {
                records.extend(checked.records);
                checked.result
            }
            Err(refusal) => refused(&topic.name, &refusal),
        });
    }
    for name in duplicates {
        let refusal = Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
        response.topics.push(refused(&name, &refusal));
    }
    if seen.contains(METADATA_TOPIC) {
        let why = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
        let refusal = Refusal::new(ErrorCode::InvalidRequest, why);
        response.topics.push(refused(METADATA_TOPIC, &refusal));
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, response }
}

fn excessive() -> Refusal {
    let why = "Excessively large number of partitions per request.";
    Refusal::new(ErrorCode::PolicyViolation, why)
}

fn counted(ctx: &Context<'_>, topic: &CreatableTopic) -> i64 {
    match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => i64::from(ctx.config.partition_count),
        // Also those that are refused take their time.
        (0, count) => i64::from(count.max(1)),
        (assigned, _) => assigned as i64,
    }
}

pub(super) fn refused(name: &str, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(Str::from_string(name.to_owned()).into())
        .with_error_code(refusal.code.code())
        .with_error_message(refusal.text())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

fn check_topic(
    ctx: &mut Context<'_>,
    topic: &CreatableTopic,
    taken: &mut BTreeMap<String, String>,
) -> Result<Checked, Refusal> {
    let name = topic.name.as_str();
    let exists =
        || Refusal::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."));
    if ctx.image.topic_named(name).is_some() {
        return Err(exists());
    }
    check_name(name)?;
    let fold = folded(name);
    if let Some(other) = taken.get(&fold) {
        let (name, other) = (name.to_owned(), other.clone());
        return Err(crate::metadata::NameError::Collision { name, other }.into());
    }
    let configs: Vec<(String, Option<String>)> = topic
        .configs
        .iter()
        .map(|config| (config.name.to_string(), config.value.as_ref().map(Str::to_string)))
        .collect();
    let settings = alter::new_topic(ctx.config, &configs).map_err(config_refusal)?;
    let partition_count = partition_count(ctx, topic)?;
    let new = NewTopic {
        id: (ctx.draw_id)(),
        name,
        partition_count,
        home: ctx.home(),
        settings: &settings,
    };
    let records = create_topic_records(ctx.image, &new).map_err(|error| match error {
        TopicError::Name(error) => error.into(),
        TopicError::Exists => exists(),
        TopicError::IdTaken | TopicError::Unknown => Refusal::plain(ErrorCode::UnknownServerError),
        TopicError::PartitionCount { .. } => Refusal::plain(ErrorCode::InvalidPartitions),
    })?;
    taken.insert(fold, name.to_owned());
    let result = CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_topic_id(uuid::Uuid::from_bytes(new.id.to_wire()))
        .with_num_partitions(partition_count)
        .with_replication_factor(1)
        .with_configs(Some(effective(ctx, &settings)));
    Ok(Checked { records, result })
}

pub(super) fn config_refusal(error: alter::AlterError) -> Refusal {
    match error {
        alter::AlterError::InvalidRequest(message) => {
            Refusal::new(ErrorCode::InvalidRequest, message)
        }
        alter::AlterError::InvalidConfig(message) => {
            Refusal::new(ErrorCode::InvalidConfig, message)
        }
    }
}

/// The configuration that a new topic has, for the answer (KIP-525).
fn effective(ctx: &Context<'_>, settings: &Overrides) -> Vec<CreatableTopicConfigs> {
    describe::topic(ctx.config, settings, None)
        .into_iter()
        .map(|entry| {
            let value = if entry.sensitive { None } else { entry.value };
            CreatableTopicConfigs::default()
                .with_name(Str::from_string(entry.name))
                .with_value(value.map(Str::from_string))
                .with_read_only(entry.read_only)
                .with_config_source(entry.source.to_wire())
                .with_is_sensitive(entry.sensitive)
        })
        .collect()
}

/// How many partitions a topic gets, once its replicas were checked: one each, on this node.
fn partition_count(ctx: &Context<'_>, topic: &CreatableTopic) -> Result<i32, Refusal> {
    if !topic.assignments.is_empty() {
        return assigned_count(ctx, topic);
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let why = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        let why = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
    }
    let replicas = match topic.replication_factor {
        -1 => i32::from(ctx.config.replication_factor),
        asked => i32::from(asked),
    };
    if replicas > 1 {
        let why = format!(
            "Unable to replicate the partition {replicas} time(s): The target replication factor \
             of {replicas} cannot be reached because only 1 broker(s) are registered or \
             some brokers have all their log directories cordoned."
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
    }
    Ok(match topic.num_partitions {
        -1 => i32::try_from(ctx.config.partition_count).unwrap_or(i32::MAX),
        asked => asked,
    })
}

fn assigned_count(ctx: &Context<'_>, topic: &CreatableTopic) -> Result<i32, Refusal> {
    let specified = "A manual partition assignment was specified, but";
    if topic.replication_factor != -1 {
        let why = format!("{specified} replication factor was not set to -1.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, why));
    }
    if topic.num_partitions != -1 {
        let why = format!("{specified} numPartitions was not set to -1.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, why));
    }
    let refuse = |why: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
    let mut numbers = BTreeSet::new();
    for assignment in &topic.assignments {
        let number = assignment.partition_index;
        if !numbers.insert(number) {
            let found = "Found multiple manual partition assignments for partition";
            return refuse(format!("{found} {number}"));
        }
        check_assignment(ctx, &assignment.broker_ids)?;
    }
    if numbers.iter().zip(0..).any(|(number, expected)| *number != expected) {
        return refuse("partitions should be a consecutive 0-based integer sequence".to_owned());
    }
    Ok(i32::try_from(numbers.len()).unwrap_or(i32::MAX))
}

fn check_assignment(ctx: &Context<'_>, brokers: &[BrokerId]) -> Result<(), Refusal> {
    let refuse = |why: String| {
        let why = format!("The manual partition assignment includes {why}");
        Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why))
    };
    if brokers.is_empty() {
        return refuse("an empty replica list.".to_owned());
    }
    if let Some(other) = brokers.iter().map(|id| id.0).find(|id| *id != ctx.node.0) {
        return refuse(format!("broker {other}, but no such broker is registered."));
    }
    if brokers.len() > 1 {
        return refuse(format!("the broker {} more than once.", ctx.node));
    }
    Ok(())
}

/// Creates the topics of `names` that can be created, with the broker's defaults; internal topics
/// with theirs.
pub fn auto_create(ctx: &mut Context<'_>, names: &[String]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut taken = ctx.image.folded_names(names.iter().map(String::as_str));
    for name in names {
        if records.len() as i64 >= PARTITIONS_PER_REQUEST_MAX {
            // Who asks again gets the rest.
            break;
        }
        // Several clients asked at once.
        if ctx.image.topic_named(name).is_some() {
            continue;
        }
        let topic = match name.as_str() {
            OFFSETS_TOPIC => offsets_topic(ctx),
            name => CreatableTopic::default()
                .with_name(Str::from_string(name.to_owned()).into())
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        };
        match check_topic(ctx, &topic, &mut taken) {
            Ok(checked) => records.extend(checked.records),
            Err(refusal) if name == OFFSETS_TOPIC => {
                let why = refusal.text().unwrap_or_default();
                tracing::warn!(%why, "the topic of groups can not be created: no group works until \
                    the settings offsets.topic.* are mended");
            }
            Err(refusal) => {
                tracing::debug!(topic = name, ?refusal, "not created automatically");
            }
        }
    }
    records
}

/// `__consumer_offsets`, as the settings have it (`GroupCoordinator.groupMetadataTopicConfigs`). It
/// gets no more replicas than there are brokers: one alone can serve groups too.
fn offsets_topic(ctx: &Context<'_>) -> CreatableTopic {
    let groups = &ctx.config.groups;
    let config = |name: &'static str, value: String| {
        CreatableTopicConfig::default()
            .with_name(Str::from_static_str(name))
            .with_value(Some(Str::from_string(value)))
    };
    let partitions = i32::try_from(groups.topic_partition_count).unwrap_or(i32::MAX);
    let brokers = u16::try_from(ctx.image.brokers().count()).unwrap_or(u16::MAX).max(1);
    let replicas = groups.topic_replication_factor.min(brokers);
    CreatableTopic::default()
        .with_name(Str::from_static_str(OFFSETS_TOPIC).into())
        .with_num_partitions(partitions)
        .with_replication_factor(i16::try_from(replicas).unwrap_or(i16::MAX))
        .with_configs(vec![
            config("cleanup.policy", "compact".to_owned()),
            config("compression.type", "producer".to_owned()),
            config("segment.bytes", groups.topic_segment_bytes.to_string()),
        ])
}

/// Answers CreatePartitions.
pub fn create_partitions(
    ctx: &mut Context<'_>,
    request: CreatePartitionsRequest,
) -> Decision<CreatePartitionsResponse> {
    let mut records = Vec::new();
    let mut response = CreatePartitionsResponse::default();
    let mut seen = BTreeSet::new();
    let mut duplicates = BTreeSet::new();
    for topic in &request.topics {
        if !seen.insert(topic.name.to_string()) {
            duplicates.insert(topic.name.to_string());
        }
    }
    for name in &duplicates {
        let refusal = Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
        response.results.push(partitions_result(name, Some(&refusal)));
    }
    for topic in request.topics.iter().filter(|t| !duplicates.contains(t.name.as_str())) {
        let refusal = match more_partitions(ctx, topic) {
            Ok(more) if (records.len() + more.len()) as i64 > PARTITIONS_PER_REQUEST_MAX => {
                Some(excessive())
            }
            Ok(more) => {
                records.extend(more);
                None
            }
            Err(refusal) => Some(refusal),
        };
        response.results.push(partitions_result(&topic.name, refusal.as_ref()));
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, response }
}

fn partitions_result(name: &str, refusal: Option<&Refusal>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(Str::from_string(name.to_owned()).into())
        .with_error_code(refusal.map_or(0, |refusal| refusal.code.code()))
        .with_error_message(refusal.and_then(Refusal::text))
}

fn more_partitions(
    ctx: &Context<'_>,
    topic: &CreatePartitionsTopic,
) -> Result<Vec<Record>, Refusal> {
    let Some(known) = ctx.image.topic_named(&topic.name) else {
        return Err(Refusal::plain(ErrorCode::UnknownTopicOrPartition));
    };
    let current = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX);
    if topic.count <= current {
        let why = if topic.count == current {
            format!("Topic already has {current} partition(s).")
        } else {
            format!(
                "The topic {} currently has {current} partition(s); {} would not be an increase.",
                topic.name.as_str(),
                topic.count
            )
        };
        return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
    }
    let additional = topic.count - current;
    if i64::from(additional) > PARTITIONS_PER_REQUEST_MAX {
        return Err(excessive());
    }
    if let Some(assignments) = &topic.assignments {
        if assignments.len() != additional as usize {
            let why = format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) \
                 were specified.",
                assignments.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
        }
        for assignment in assignments {
            check_assignment(ctx, &assignment.broker_ids)?;
        }
    }
    create_partitions_records(ctx.image, known.id, topic.count, ctx.home())
        .map_err(|_| Refusal::plain(ErrorCode::InvalidPartitions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NodeId, Uuid};
    use crate::config::load::{Sources, load};
    use crate::metadata::Image;
    use crate::metadata::record::TopicCreated;

    #[test]
    fn names_that_collide_with_old_or_new_ones_are_refused() {
        let sources = Sources { file: None, environment: &[], overrides: &[] };
        let config = load(&sources).expect("a good configuration").config;
        let mut image = Image::default();
        let old = TopicCreated { name: "a.b".to_owned(), id: Uuid::from_halves(1, 1) };
        image.apply(&Record::from(old)).expect("a new topic");
        let mut drawn = 1;
        let mut draw_id = || {
            drawn += 1;
            Uuid::from_halves(1, drawn)
        };
        let mut ctx = Context {
            image: &image,
            config: &config,
            node: NodeId(1),
            directory: Uuid::from_halves(2, 2),
            draw_id: &mut draw_id,
        };
        let cases = [
            ("a_b", ErrorCode::InvalidTopicException),
            ("c.d", ErrorCode::None),
            ("c_d", ErrorCode::InvalidTopicException),
            ("ab", ErrorCode::None),
        ];
        let topic = |(name, _): &(&'static str, ErrorCode)| {
            CreatableTopic::default()
                .with_name(Str::from_static_str(name).into())
                .with_num_partitions(1)
                .with_replication_factor(1)
        };
        let request = CreateTopicsRequest::default().with_topics(cases.iter().map(topic).collect());
        let decision = create_topics(&mut ctx, request, 7);
        let told = decision.response.topics.iter();
        let told: Vec<(&str, i16)> = told.map(|it| (it.name.as_str(), it.error_code)).collect();
        assert_eq!(told, cases.map(|(name, error)| (name, error.code())));
    }
}
