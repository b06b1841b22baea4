//! Changes of settings: AlterConfigs and IncrementalAlterConfigs as pure functions.
//!
//! The order of the checks, the codes and the words are Kafka's (`ConfigAdminManager` on the
//! broker, then `ConfigurationControlManager` and `ControllerConfigurationValidator`). What is
//! left to the caller, as it needs the metadata: a topic's name and, after these checks, whether it
//! exists; whether a resource comes twice in one request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::base::NodeId;

use super::broker::BrokerConfig;
use super::describe::default_text;
use super::group_settings;
use super::layers::{Layers, Overrides, is_dynamic, row_of};
use super::setting::{Reload, Setting, Type};
use super::settings;
use super::topic;
use super::value::Value;

/// What is done to one setting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// Sets it.
    Set,
    /// Removes the override.
    Delete,
    /// Adds items to a list.
    Append,
    /// Removes items from a list.
    Subtract,
}

impl Op {
    /// The operation with this number in an IncrementalAlterConfigs request.
    pub fn from_wire(raw: i8) -> Result<Self, AlterError> {
        match raw {
            0 => Ok(Self::Set),
            1 => Ok(Self::Delete),
            2 => Ok(Self::Append),
            3 => Ok(Self::Subtract),
            _ => Err(AlterError::InvalidRequest(format!("Unknown operations type {raw}"))),
        }
    }
}

/// One change of one setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The setting.
    pub name: String,
    /// What is done.
    pub op: Op,
    /// The value; nothing looks at that of [`Op::Delete`].
    pub value: Option<String>,
}

/// Whose settings are changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// A topic's.
    Topic,
    /// This broker's.
    Broker,
    /// Every broker's, where it has none of its own.
    Cluster,
    /// A group's.
    Group,
}

impl Scope {
    /// Whether unchanged settings are not written again: those of topics and groups.
    fn is_named(self) -> bool {
        matches!(self, Self::Topic | Self::Group)
    }

    /// The scope of a BROKER resource: this broker's number, or "" for the cluster's default.
    pub fn of_broker(resource: &str, this: NodeId) -> Result<Self, AlterError> {
        if resource.is_empty() {
            return Ok(Self::Cluster);
        }
        match resource.parse::<i32>() {
            Err(_) => Err(AlterError::InvalidRequest(format!(
                "Node id must be an integer, but it is: {resource}"
            ))),
            Ok(id) if id != this.0 => Err(AlterError::InvalidRequest(format!(
                "Unexpected broker id, expected {this}, but received {resource}"
            ))),
            Ok(_) => Ok(Self::Broker),
        }
    }
}

/// Whether eligible leader replicas are on (KIP-966, feature `eligible.leader.replicas.version`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EligibleLeaders {
    /// The feature's level is 0.
    Off,
    /// Brokers' own `min.insync.replicas` can not be changed.
    On,
}

/// Why a change was refused. Nothing of the resource was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AlterError {
    /// INVALID_REQUEST (42), with what tools print.
    InvalidRequest(String),
    /// INVALID_CONFIG (40), with what tools print.
    InvalidConfig(String),
}

impl fmt::Display for AlterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(message) | Self::InvalidConfig(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for AlterError {}

/// What a change leads to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Altered {
    /// All overrides of the resource afterwards.
    pub overrides: Overrides,
    /// What to write to the metadata log, a ConfigRecord each: the name and its new value, `None`
    /// for a removal. A topic's unchanged settings are left out; a broker's are written again.
    pub records: Vec<(String, Option<String>)>,
}

/// Applies changes one by one (IncrementalAlterConfigs).
///
/// `current` are the overrides the resource has: the topic's, or the layer of the scope.
pub fn incremental(
    broker: &BrokerConfig,
    scope: Scope,
    eligible: EligibleLeaders,
    current: &Overrides,
    changes: &[Change],
) -> Result<Altered, AlterError> {
    refuse_duplicates(changes.iter().map(|change| change.name.as_str()))?;
    let nulls = changes.iter().filter(|it| it.op != Op::Delete && it.value.is_none());
    refuse_nulls(nulls.map(|change| change.name.as_str()))?;
    let mut records = Vec::with_capacity(changes.len());
    for change in changes {
        let name = change.name.as_str();
        let old = current.get(name);
        let value = change.value.as_deref().unwrap_or_default();
        let new = match change.op {
            Op::Set => Some(value.to_owned()),
            Op::Delete => None,
            Op::Append => Some(append(list_before(scope, name, change.op, old)?, value)),
            Op::Subtract => Some(subtract(list_before(scope, name, change.op, old)?, value)),
        };
        if !scope.is_named() || new.as_ref() != old {
            records.push((change.name.clone(), new));
        }
    }
    finish(broker, scope, eligible, current, records)
}

/// Replaces all overrides (AlterConfigs): what is not named is removed.
pub fn replace(
    broker: &BrokerConfig,
    scope: Scope,
    eligible: EligibleLeaders,
    current: &Overrides,
    configs: &[(String, Option<String>)],
) -> Result<Altered, AlterError> {
    refuse_duplicates(configs.iter().map(|(name, _)| name.as_str()))?;
    let nulls = configs.iter().filter(|(_, value)| value.is_none());
    refuse_nulls(nulls.map(|(name, _)| name.as_str()))?;
    let mut records: Vec<(String, Option<String>)> = configs
        .iter()
        .filter(|(name, value)| !scope.is_named() || current.get(name) != value.as_ref())
        .cloned()
        .collect();
    let named: BTreeSet<&String> = configs.iter().map(|(name, _)| name).collect();
    let removed = current.keys().filter(|name| !named.contains(name));
    records.extend(removed.map(|name| (name.clone(), None)));
    finish(broker, scope, eligible, current, records)
}

/// Checks the overrides a topic is created with.
pub fn new_topic(
    broker: &BrokerConfig,
    configs: &[(String, Option<String>)],
) -> Result<Overrides, AlterError> {
    let nulls: Vec<&str> = configs
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(AlterError::InvalidConfig(message));
    }
    let records = configs.to_vec();
    let none = Overrides::new();
    finish(broker, Scope::Topic, EligibleLeaders::Off, &none, records).map(|it| it.overrides)
}

fn refuse_duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), AlterError> {
    let mut names: Vec<&str> = names.collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() == count {
        Ok(())
    } else {
        Err(AlterError::InvalidRequest("Error due to duplicate config keys".to_owned()))
    }
}

fn refuse_nulls<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), AlterError> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    let message = format!("Null value not supported for : {}", names.join(", "));
    Err(AlterError::InvalidRequest(message))
}

/// The items a list has before APPEND or SUBTRACT: the override's, else the default's.
fn list_before(
    scope: Scope,
    name: &str,
    op: Op,
    old: Option<&String>,
) -> Result<Vec<String>, AlterError> {
    let row: Option<&Setting> = match scope {
        Scope::Topic => settings::topic(name),
        Scope::Group => settings::group(name),
        Scope::Broker | Scope::Cluster => settings::broker(name),
    };
    let (verb, shout) = match op {
        Op::Subtract => ("subtract", "SUBTRACT"),
        Op::Set | Op::Delete | Op::Append => ("append", "APPEND"),
    };
    match (row, scope) {
        (Some(row), _) if row.kind == Type::List => {
            let text = old.cloned().or_else(|| default_text(row)).unwrap_or_default();
            Ok(parts(&text))
        }
        (_, Scope::Topic | Scope::Group) => Err(AlterError::InvalidConfig(format!(
            "Can't {shout} to key {name} because its type is not LIST."
        ))),
        (Some(_), _) => Err(AlterError::InvalidConfig(format!(
            "Config value {verb} is not allowed for config key: {name}"
        ))),
        (None, _) => Err(AlterError::InvalidConfig(format!("Unknown config name: {name}"))),
    }
}

fn parts(text: &str) -> Vec<String> {
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn append(mut items: Vec<String>, more: &str) -> String {
    let mut known: BTreeSet<String> = items.iter().cloned().collect();
    items.extend(parts(more).into_iter().filter(|item| known.insert(item.clone())));
    items.join(",")
}

fn subtract(mut items: Vec<String>, less: &str) -> String {
    // Each takes the first of its kind.
    let mut going: BTreeMap<String, usize> = BTreeMap::new();
    for item in parts(less) {
        *going.entry(item).or_default() += 1;
    }
    items.retain(|item| match going.get_mut(item) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        Some(_) | None => true,
    });
    items.join(",")
}

fn finish(
    broker: &BrokerConfig,
    scope: Scope,
    eligible: EligibleLeaders,
    current: &Overrides,
    records: Vec<(String, Option<String>)>,
) -> Result<Altered, AlterError> {
    let mut overrides = current.clone();
    for (name, value) in &records {
        match value {
            Some(value) => overrides.insert(name.clone(), value.clone()),
            None => overrides.remove(name),
        };
    }
    match scope {
        Scope::Topic | Scope::Group => {}
        Scope::Broker | Scope::Cluster => check_broker(broker, scope, &overrides)?,
    }
    for (name, value) in &records {
        check_record(scope, eligible, name, value.as_deref())?;
    }
    let checked = match scope {
        Scope::Topic => topic::check(broker, &overrides),
        Scope::Group => group_settings::check(broker, &overrides),
        Scope::Broker | Scope::Cluster => Ok(()),
    };
    checked.map_err(|error| AlterError::InvalidConfig(error.message))?;
    Ok(Altered { overrides, records })
}

fn check_record(
    scope: Scope,
    eligible: EligibleLeaders,
    name: &str,
    value: Option<&str>,
) -> Result<(), AlterError> {
    // The longest string of the older protocols, in Java's UTF-16 units.
    const UNITS_MAX: usize = 32_767;
    let refuse = |message: &str| Err(AlterError::InvalidConfig(message.to_owned()));
    if name == "min.insync.replicas" && eligible == EligibleLeaders::On {
        if scope == Scope::Broker {
            return refuse(
                "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
            );
        }
        if scope == Scope::Cluster && value.is_none() {
            return refuse(
                "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
            );
        }
    }
    if value.is_some_and(|value| value.encode_utf16().count() > UNITS_MAX) {
        return refuse(
            "The configuration value cannot be added because it exceeds the maximum value size of \
             32767 bytes.",
        );
    }
    Ok(())
}

/// The settings that name addresses: Apache Kafka opens and closes listeners while running, this
/// broker does not.
const ADDRESSES: [&str; 2] = ["listeners", "listener.security.protocol.map"];

/// Checks a broker's or the cluster's overrides as a whole (Kafka's `DynamicBrokerConfig.validate`,
/// whose errors are all INVALID_REQUEST).
fn check_broker(
    broker: &BrokerConfig,
    scope: Scope,
    overrides: &Overrides,
) -> Result<(), AlterError> {
    let refuse = |what: &str, names: &[&str]| {
        let message = format!("{what}: [{}]", names.join(", "));
        Err(AlterError::InvalidRequest(message))
    };
    let named = |wanted: &dyn Fn(&str) -> bool| -> Vec<&str> {
        overrides.keys().map(String::as_str).filter(|name| wanted(name)).collect()
    };
    let fixed = named(&|name| settings::broker(name).is_some() && !is_dynamic(name));
    if !fixed.is_empty() {
        return refuse("Cannot update these configs dynamically", &fixed);
    }
    let security =
        named(&|name| settings::tls::ROWS.iter().any(|row| row.name == name) && is_dynamic(name));
    if !security.is_empty() {
        return refuse(
            "These security configs can be dynamically updated only per-listener using the \
             listener prefix",
            &security,
        );
    }
    for (name, text) in overrides {
        let base = settings::without_listener(name).unwrap_or(name);
        if let Some(row) = row_of(base) {
            Value::parse(row, text).map_err(|error| AlterError::InvalidRequest(error.message))?;
        }
    }
    if scope == Scope::Cluster {
        let own = named(&|name| {
            let base = settings::without_listener(name);
            let row = settings::broker(base.unwrap_or(name));
            match row {
                Some(row) => {
                    row.reload == Reload::PerBroker || {
                        base.is_some() && row.reload == Reload::ReadOnly
                    }
                }
                None => base.is_some(),
            }
        });
        if !own.is_empty() {
            return refuse(
                "Cannot update these configs at default cluster level, broker id must be specified",
                &own,
            );
        }
    }
    let addresses = named(&|name| ADDRESSES.contains(&name));
    if !addresses.is_empty() {
        return refuse("Corelog changes these configs by a restart only", &addresses);
    }
    let Layers { broker: own, cluster, fixed, .. } = broker.layers.clone();
    let layers = match scope {
        Scope::Broker => Layers::new(fixed, cluster, overrides.clone()),
        Scope::Cluster | Scope::Topic | Scope::Group => Layers::new(fixed, overrides.clone(), own),
    };
    match BrokerConfig::new(layers) {
        Ok(_) => Ok(()),
        Err(problems) => {
            let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(AlterError::InvalidRequest(sentences.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Sources, load};

    fn broker() -> BrokerConfig {
        load(&Sources::default()).expect("it is good").config
    }

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn change(op: Op, name: &str, value: &str) -> Change {
        Change { name: name.to_owned(), op, value: Some(value.to_owned()) }
    }

    fn altered(
        scope: Scope,
        current: &Overrides,
        changes: &[Change],
    ) -> Result<Altered, AlterError> {
        incremental(&broker(), scope, EligibleLeaders::On, current, changes)
    }

    #[test]
    fn changes_are_applied_to_the_overrides() {
        let current = overrides(&[("cleanup.policy", "compact"), ("retention.ms", "5")]);
        let same = Change { value: None, ..change(Op::Delete, "retention.bytes", "") };
        type Records<'a> = &'a [(&'a str, Option<&'a str>)];
        let cases: [(&str, Change, Records<'_>); 8] = [
            ("set", change(Op::Set, "retention.ms", "7"), &[("retention.ms", Some("7"))]),
            ("set to what it is", change(Op::Set, "retention.ms", "5"), &[]),
            (
                "set to the default",
                change(Op::Set, "segment.bytes", "1073741824"),
                &[("segment.bytes", Some("1073741824"))],
            ),
            ("deleted", change(Op::Delete, "retention.ms", ""), &[("retention.ms", None)]),
            ("deleted, was not there", same, &[]),
            (
                "appended",
                change(Op::Append, "cleanup.policy", "delete,compact"),
                &[("cleanup.policy", Some("compact,delete"))],
            ),
            (
                "subtracted",
                change(Op::Subtract, "cleanup.policy", "compact,delete"),
                &[("cleanup.policy", Some(""))],
            ),
            ("subtracted, was not there", change(Op::Subtract, "cleanup.policy", "delete"), &[]),
        ];
        for (what, change, expected) in cases {
            let found = altered(Scope::Topic, &current, &[change]).expect(what);
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
                .collect();
            assert_eq!(found.records, expected, "{what}");
            let mut overrides = current.clone();
            for (name, value) in expected {
                match value {
                    Some(value) => overrides.insert(name, value),
                    None => overrides.remove(&name),
                };
            }
            assert_eq!(found.overrides, overrides, "{what}");
        }
        let none = Overrides::new();
        let append = change(Op::Append, "cleanup.policy", "compact");
        let found = altered(Scope::Topic, &none, &[append]).expect("a list");
        assert_eq!(found.overrides, overrides(&[("cleanup.policy", "delete,compact")]));
    }

    #[test]
    fn refusals_are_those_of_a_real_broker() {
        use AlterError::{InvalidConfig as Config, InvalidRequest as Request};
        let null = Change { value: None, ..change(Op::Set, "retention.ms", "") };
        let twice = change(Op::Set, "retention.ms", "1");
        let long = "x".repeat(32_768);
        let set = |name: &str, value: &str| vec![change(Op::Set, name, value)];
        type Case<'a> = (Scope, Vec<Change>, fn(String) -> AlterError, &'a str);
        let cases: Vec<Case<'_>> = vec![
            (
                Scope::Topic,
                set("retention.msx", "1"),
                Config,
                "Unknown topic config name: retention.msx",
            ),
            (
                Scope::Topic,
                vec![change(Op::Append, "retention.ms", "1")],
                Config,
                "Can't APPEND to key retention.ms because its type is not LIST.",
            ),
            (
                Scope::Topic,
                vec![change(Op::Append, "nosuch", "1")],
                Config,
                "Can't APPEND to key nosuch because its type is not LIST.",
            ),
            (Scope::Topic, vec![null], Request, "Null value not supported for : retention.ms"),
            (
                Scope::Topic,
                set("retention.ms", "x"),
                Config,
                "Invalid value x for configuration retention.ms: Not a number of type LONG",
            ),
            (
                Scope::Topic,
                set("leader.replication.throttled.replicas", "x"),
                Config,
                "Invalid value [x] for configuration leader.replication.throttled.replicas: \
                 leader.replication.throttled.replicas must be the literal '*' or a list of \
                 replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            ),
            (
                Scope::Topic,
                vec![twice.clone(), twice],
                Request,
                "Error due to duplicate config keys",
            ),
            (
                Scope::Cluster,
                set("my.own", &long),
                Config,
                "The configuration value cannot be added because it exceeds the maximum value \
                 size of 32767 bytes.",
            ),
            (
                Scope::Broker,
                [set("node.id", "4"), set("log.dirs", "x")].concat(),
                Request,
                "Cannot update these configs dynamically: [log.dirs, node.id]",
            ),
            (
                Scope::Broker,
                set("log.cleaner.threads", "x"),
                Request,
                "Invalid value x for configuration log.cleaner.threads: Not a number of type INT",
            ),
            (
                Scope::Cluster,
                set("listeners", "PLAINTEXT://:1"),
                Request,
                "Cannot update these configs at default cluster level, broker id must be \
                 specified: [listeners]",
            ),
            (
                Scope::Cluster,
                set("ssl.keystore.type", "x"),
                Request,
                "These security configs can be dynamically updated only per-listener using the \
                 listener prefix: [ssl.keystore.type]",
            ),
            (
                Scope::Broker,
                vec![change(Op::Append, "log.cleaner.threads", "1")],
                Config,
                "Config value append is not allowed for config key: log.cleaner.threads",
            ),
            (
                Scope::Broker,
                vec![change(Op::Append, "nosuch", "1")],
                Config,
                "Unknown config name: nosuch",
            ),
            (
                Scope::Broker,
                set("leader.replication.throttled.rate", "-1"),
                Request,
                "Invalid value -1 for configuration leader.replication.throttled.rate: \
                 Value must be at least 0",
            ),
            (
                Scope::Broker,
                set("log.retention.ms", "0"),
                Request,
                "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
            ),
            (
                Scope::Broker,
                set("min.insync.replicas", "2"),
                Config,
                "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
            ),
            (
                Scope::Cluster,
                vec![change(Op::Delete, "min.insync.replicas", "")],
                Config,
                "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
            ),
        ];
        for (scope, changes, code, message) in cases {
            let found = altered(scope, &Overrides::new(), &changes);
            assert_eq!(found, Err(code(message.to_owned())), "{changes:?}");
        }
        for (scope, name, value) in [
            (Scope::Broker, "log.retention.ms", "1000"),
            (Scope::Broker, "my.own", "value"),
            (Scope::Cluster, "min.insync.replicas", "2"),
            (Scope::Broker, "listener.name.plaintext.ssl.keystore.type", "PKCS12"),
        ] {
            assert!(altered(scope, &Overrides::new(), &set(name, value)).is_ok(), "{name}");
        }
    }

    #[test]
    fn replacing_removes_what_is_not_named() {
        let current = overrides(&[("cleanup.policy", "compact"), ("retention.ms", "5")]);
        let configs = [("retention.ms".to_owned(), Some("6".to_owned()))];
        let broker = broker();
        let found = replace(&broker, Scope::Topic, EligibleLeaders::On, &current, &configs)
            .expect("a good change");
        assert_eq!(found.overrides, overrides(&[("retention.ms", "6")]));
        let records = [configs[0].clone(), ("cleanup.policy".to_owned(), None)];
        assert_eq!(found.records, records);
    }

    #[test]
    fn a_broker_resource_names_this_broker_or_all() {
        let this = NodeId(1);
        assert_eq!(Scope::of_broker("", this), Ok(Scope::Cluster));
        assert_eq!(Scope::of_broker("1", this), Ok(Scope::Broker));
        assert!(Scope::of_broker("2", this).is_err());
        assert!(Scope::of_broker("x", this).is_err());
    }

    #[test]
    fn a_new_topics_overrides_are_checked() {
        let broker = broker();
        let config = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            new_topic(&broker, &[config("retention.ms", Some("5"))]),
            Ok(overrides(&[("retention.ms", "5")]))
        );
        assert_eq!(
            new_topic(&broker, &[config("retention.ms", None), config("x", None)]),
            Err(AlterError::InvalidConfig(
                "Null value not supported for topic configs: retention.ms,x".to_owned()
            ))
        );
    }
}
