//! AlterConfigs, IncrementalAlterConfigs and DescribeConfigs.
//!
//! Source: Kafka's `ConfigAdminManager`, `ConfigHelper`, `ConfigurationControlManager`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Replaced;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use crate::base::NodeId;
use crate::config::alter::{self, Altered, Change, EligibleLeaders, Op, Scope};
use crate::config::describe::{self, Entry};
use crate::config::{BrokerConfig, Overrides};
use crate::controller::configs::alter_config_records;
use crate::controller::create::config_refusal;
use crate::controller::decision::{Context, Decision, Refusal};
use crate::metadata::{ConfigResource, Image, Record, ResourceKind, check_name};
use crate::protocol::{ErrorCode, Str};

const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";

/// A resource that settings may be changed on, with what is set on it now.
struct Target {
    resource: ConfigResource,
    scope: Scope,
    current: Overrides,
}

fn duplicates<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> BTreeSet<(i8, &'a str)> {
    let mut seen = BTreeSet::new();
    resources.filter(|resource| !seen.insert(*resource)).collect()
}

fn named_twice() -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")
}

fn target(ctx: &Context<'_>, kind: i8, name: &str) -> Result<Target, Refusal> {
    let scope = match ResourceKind::from_wire(kind) {
        Some(ResourceKind::Topic) => Scope::Topic,
        Some(ResourceKind::Broker) => Scope::of_broker(name, ctx.node).map_err(config_refusal)?,
        Some(ResourceKind::Group) if name.is_empty() => {
            let why = "Default group resources are not allowed.";
            return Err(Refusal::new(ErrorCode::InvalidRequest, why));
        }
        Some(ResourceKind::Group) => Scope::Group,
        Some(ResourceKind::BrokerLogger | ResourceKind::ClientMetrics) | None => {
            let why = format!("Unknown resource type {kind}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, why));
        }
    };
    let resource = match scope {
        Scope::Topic => {
            check_name(name)?;
            ConfigResource::topic(name)
        }
        Scope::Broker => ConfigResource::broker(ctx.node),
        Scope::Cluster => ConfigResource::cluster(),
        Scope::Group => ConfigResource::group(name),
    };
    let current = ctx.image.settings(&resource).map(|s| (**s).clone()).unwrap_or_default();
    Ok(Target { resource, scope, current })
}

fn eligible(ctx: &Context<'_>) -> EligibleLeaders {
    match ctx.image.feature(ELIGIBLE_LEADER_REPLICAS) {
        0 => EligibleLeaders::Off,
        _ => EligibleLeaders::On,
    }
}

/// Checks what is only known of topics once the change itself fits: that they exist.
fn check_exists(ctx: &Context<'_>, target: &Target) -> Result<(), Refusal> {
    let missing =
        target.scope == Scope::Topic && ctx.image.topic_named(&target.resource.name).is_none();
    if missing {
        let why = format!("The topic '{}' does not exist.", target.resource.name);
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, why));
    }
    Ok(())
}

fn written(ctx: &Context<'_>, target: &Target, altered: &Altered) -> Vec<Record> {
    alter_config_records(ctx.image, &target.resource, &altered.records)
}

/// Answers IncrementalAlterConfigs.
pub fn incremental_alter_configs(
    ctx: &mut Context<'_>,
    request: IncrementalAlterConfigsRequest,
) -> Decision<IncrementalAlterConfigsResponse> {
    let twice =
        duplicates(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    let mut records = Vec::new();
    let mut response = IncrementalAlterConfigsResponse::default();
    for asked in &request.resources {
        let (kind, name) = (asked.resource_type, asked.resource_name.as_str());
        let altered = if twice.contains(&(kind, name)) {
            Err(named_twice())
        } else {
            (|| {
                let target = target(ctx, kind, name)?;
                let mut changes = Vec::with_capacity(asked.configs.len());
                for config in &asked.configs {
                    changes.push(Change {
                        name: config.name.to_string(),
                        op: Op::from_wire(config.config_operation).map_err(config_refusal)?,
                        value: config.value.as_ref().map(Str::to_string),
                    });
                }
                let altered = alter::incremental(
                    ctx.config,
                    target.scope,
                    eligible(ctx),
                    &target.current,
                    &changes,
                )
                .map_err(config_refusal)?;
                check_exists(ctx, &target)?;
                Ok(written(ctx, &target, &altered))
            })()
        };
        let refusal = take(altered, &mut records);
        response.responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(refusal.as_ref().map_or(0, |refusal| refusal.code.code()))
                .with_error_message(refusal.as_ref().and_then(Refusal::text))
                .with_resource_type(kind)
                .with_resource_name(asked.resource_name.clone()),
        );
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, response }
}

fn take(altered: Result<Vec<Record>, Refusal>, records: &mut Vec<Record>) -> Option<Refusal> {
    match altered {
        Ok(more) => {
            records.extend(more);
            None
        }
        Err(refusal) => Some(refusal),
    }
}

/// Answers AlterConfigs, which replaces all that is set on a resource.
pub fn alter_configs(
    ctx: &mut Context<'_>,
    request: AlterConfigsRequest,
) -> Decision<AlterConfigsResponse> {
    let twice =
        duplicates(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    let mut records = Vec::new();
    let mut response = AlterConfigsResponse::default();
    for asked in &request.resources {
        let (kind, name) = (asked.resource_type, asked.resource_name.as_str());
        let altered = if twice.contains(&(kind, name)) {
            Err(named_twice())
        } else {
            target(ctx, kind, name).and_then(|target| {
                let configs: Vec<(String, Option<String>)> = asked
                    .configs
                    .iter()
                    .map(|c| (c.name.to_string(), c.value.as_ref().map(Str::to_string)))
                    .collect();
                let altered = alter::replace(
                    ctx.config,
                    target.scope,
                    eligible(ctx),
                    &target.current,
                    &configs,
                )
                .map_err(config_refusal)?;
                check_exists(ctx, &target)?;
                Ok(written(ctx, &target, &altered))
            })
        };
        let refusal = take(altered, &mut records);
        response.responses.push(
            Replaced::default()
                .with_error_code(refusal.as_ref().map_or(0, |refusal| refusal.code.code()))
                .with_error_message(refusal.as_ref().and_then(Refusal::text))
                .with_resource_type(kind)
                .with_resource_name(asked.resource_name.clone()),
        );
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, response }
}

/// Answers DescribeConfigs.
pub fn describe_configs(
    image: &Image,
    config: &BrokerConfig,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let mut seen = BTreeSet::new();
    let results = request.resources.iter().map(|asked| {
        // Some hundred rows each: a small request must not be answered with gigabytes.
        let described = match seen.insert((asked.resource_type, identity(asked))) {
            true => describe_one(image, config, asked),
            false => Err(named_twice()),
        };
        let result = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        match described {
            Ok(entries) => result
                .with_configs(entries.into_iter().map(|entry| entry_of(entry, request)).collect()),
            Err(refusal) => {
                result.with_error_code(refusal.code.code()).with_error_message(refusal.text())
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// What tells a resource from others of its type: a broker's number may be written in many ways.
fn identity(asked: &DescribeConfigsResource) -> Cow<'_, str> {
    let name = asked.resource_name.as_str();
    let is_broker = ResourceKind::from_wire(asked.resource_type) == Some(ResourceKind::Broker);
    match name.parse::<i32>() {
        Ok(number) if is_broker => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(name),
    }
}

fn describe_one(
    image: &Image,
    config: &BrokerConfig,
    asked: &DescribeConfigsResource,
) -> Result<Vec<Entry>, Refusal> {
    let keys: Option<BTreeSet<&str>> = asked
        .configuration_keys
        .as_ref()
        .filter(|keys| !keys.is_empty())
        .map(|keys| keys.iter().map(Str::as_str).collect());
    let keys = keys.as_ref();
    let name = asked.resource_name.as_str();
    match ResourceKind::from_wire(asked.resource_type) {
        Some(ResourceKind::Topic) => {
            check_name(name)?;
            if image.topic_named(name).is_none() {
                return Err(Refusal { code: ErrorCode::UnknownTopicOrPartition, message: None });
            }
            let overrides = image.settings(&ConfigResource::topic(name));
            let none = Overrides::new();
            Ok(describe::topic(config, overrides.map_or(&none, |set| &**set), keys))
        }
        Some(ResourceKind::Broker) if name.is_empty() => Ok(describe::cluster(config, keys)),
        Some(ResourceKind::Broker) => {
            let expected = config.node_id;
            if name.parse::<i32>().ok().map(NodeId) != Some(expected) {
                let why = format!(
                    "Unexpected broker id, expected {expected} or empty string, but received {name}"
                );
                return Err(Refusal::new(ErrorCode::InvalidRequest, why));
            }
            Ok(describe::broker(config, keys))
        }
        Some(ResourceKind::Group) if name.is_empty() => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Group name must not be empty"))
        }
        Some(ResourceKind::Group) => {
            let own = image.settings(&ConfigResource::group(name));
            let none = Overrides::new();
            Ok(describe::group(config, own.map_or(&none, |set| &**set), keys))
        }
        Some(ResourceKind::BrokerLogger | ResourceKind::ClientMetrics) | None => {
            let why = format!("Unsupported resource type: {}", asked.resource_type);
            Err(Refusal::new(ErrorCode::InvalidRequest, why))
        }
    }
}

fn entry_of(entry: Entry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let text = |value: Option<String>| value.map(Str::from_string);
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    let doc = entry.doc.filter(|_| request.include_documentation);
    DescribeConfigsResourceResult::default()
        .with_name(Str::from_string(entry.name))
        .with_value(text(entry.value))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source.to_wire())
        .with_is_sensitive(entry.sensitive)
        .with_config_type(entry.kind.map_or(0, |kind| kind.to_wire()))
        .with_documentation(doc.map(Str::from_static_str))
        .with_synonyms(
            synonyms
                .into_iter()
                .map(|synonym| {
                    DescribeConfigsSynonym::default()
                        .with_name(Str::from_string(synonym.name))
                        .with_value(text(synonym.value))
                        .with_source(synonym.source.to_wire())
                })
                .collect(),
        )
}
