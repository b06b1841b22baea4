//! What DescribeConfigs says of a topic, of this broker, and of the cluster's defaults.
//!
//! As Kafka's `ConfigHelper`; entries come sorted by name.

use std::collections::{BTreeMap, BTreeSet};

use super::broker::BrokerConfig;
use super::group_settings;
use super::layers::{Overrides, Source, is_dynamic, is_sensitive, row_of};
use super::setting::{Setting, Type};
use super::settings;
use super::topic::effective;
use super::value::Value;

/// One place that sets a setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Synonym {
    /// The name it is set under.
    pub name: String,
    /// The text; `None` for a secret.
    pub value: Option<String>,
    /// The layer.
    pub source: Source,
}

/// One setting of a resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its value; `None` for a secret and for what is not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// Whether it can not be changed while the broker runs.
    pub read_only: bool,
    /// Whether its value is hidden.
    pub sensitive: bool,
    /// Every place that sets it, the strongest first.
    pub synonyms: Vec<Synonym>,
    /// Its type; `None` for a setting nobody knows.
    pub kind: Option<Type>,
    /// What it means.
    pub doc: Option<&'static str>,
}

impl Entry {
    /// Whether nobody set it.
    pub fn is_default(&self) -> bool {
        self.source == Source::Default
    }
}

/// Which settings are asked for: all when `keys` is `None` or empty.
fn wanted(keys: Option<&BTreeSet<&str>>, name: &str) -> bool {
    keys.is_none_or(|keys| keys.is_empty() || keys.contains(name))
}

/// The settings of a topic with these overrides.
pub fn topic(
    broker: &BrokerConfig,
    overrides: &Overrides,
    keys: Option<&BTreeSet<&str>>,
) -> Vec<Entry> {
    let rows = settings::topic::ROWS.iter();
    let shown = rows.filter(|row| !row.internal || overrides.contains_key(row.name));
    shown
        .filter(|row| wanted(keys, row.name))
        .map(|row| {
            let value = effective(broker, overrides, row).to_text();
            let own = overrides.contains_key(row.name).then_some(Source::Topic);
            let inherited = row.broker_names.first().map(|(name, _)| synonyms(broker, name));
            named_entry(row, value, own, inherited.unwrap_or_default())
        })
        .collect()
}

/// The settings of a group with these overrides.
pub fn group(broker: &BrokerConfig, own: &Overrides, keys: Option<&BTreeSet<&str>>) -> Vec<Entry> {
    let asked = settings::resource::GROUP.iter().filter(|row| wanted(keys, row.name));
    asked
        .map(|row| {
            let value = group_settings::effective(broker, own, row).to_text();
            let set = own.contains_key(row.name).then_some(Source::Group);
            let inherited = match row.broker_names.first() {
                Some((name, _)) => synonyms(broker, name),
                None => vec![Synonym {
                    name: row.name.to_owned(),
                    value: default_text(row),
                    source: Source::Default,
                }],
            };
            named_entry(row, value, set, inherited)
        })
        .collect()
}

/// A setting of a topic or a group: with `own` set there, before where it is inherited from.
fn named_entry(
    row: &Setting,
    value: Option<String>,
    own: Option<Source>,
    inherited: Vec<Synonym>,
) -> Entry {
    let own = own.map(|source| Synonym { name: row.name.to_owned(), value: value.clone(), source });
    let synonyms: Vec<Synonym> = own.into_iter().chain(inherited).collect();
    Entry {
        name: row.name.to_owned(),
        value,
        source: synonyms.first().map_or(Source::Default, |first| first.source),
        read_only: false,
        sensitive: false,
        synonyms,
        kind: Some(row.kind),
        doc: Some(row.doc),
    }
}

/// The settings of this broker.
pub fn broker(broker: &BrokerConfig, keys: Option<&BTreeSet<&str>>) -> Vec<Entry> {
    let mut values: BTreeMap<&str, Option<String>> = BTreeMap::new();
    // What is set without being a plain setting of Apache Kafka is shown as it was written.
    for (name, text) in broker.layers.merged() {
        values.insert(name, Some(text.clone()));
    }
    for (_, rows) in settings::BROKER {
        for row in rows.iter() {
            let shown = !row.internal && !row.name.starts_with("corelog.");
            if shown || values.contains_key(row.name) {
                values.insert(row.name, broker.layers.value(row).to_text());
            }
        }
    }
    let asked = values.into_iter().filter(|(name, _)| wanted(keys, name));
    asked.map(|(name, value)| entry(name, value, synonyms(broker, name))).collect()
}

/// The settings of the cluster's default, which every broker takes unless it has its own.
pub fn cluster(broker: &BrokerConfig, keys: Option<&BTreeSet<&str>>) -> Vec<Entry> {
    let asked = broker.layers.cluster.iter().filter(|(name, _)| wanted(keys, name));
    asked
        .map(|(name, text)| {
            let mut synonyms = synonyms(broker, name);
            synonyms.retain(|synonym| synonym.source == Source::DynamicCluster);
            entry(name, Some(text.clone()), synonyms)
        })
        .collect()
}

fn entry(name: &str, value: Option<String>, synonyms: Vec<Synonym>) -> Entry {
    let row = row_of(name);
    let sensitive = is_sensitive(row);
    Entry {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: synonyms.first().map_or(Source::Default, |first| first.source),
        read_only: !is_dynamic(name),
        sensitive,
        synonyms,
        kind: row.map(|row| row.kind),
        doc: row.map(|row| row.doc),
    }
}

fn synonyms(broker: &BrokerConfig, name: &str) -> Vec<Synonym> {
    let found = broker.layers.sources(name).into_iter();
    found.map(|(name, value, source)| Synonym { name, value, source }).collect()
}

/// The text of a topic's setting that nobody overrides, for APPEND and SUBTRACT.
pub(super) fn default_text(row: &Setting) -> Option<String> {
    Value::fallback(row).to_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Sources, load};

    /// The configuration under which the files beside `tests/fixtures` were taken from a real
    /// broker of Apache Kafka 4.3.1.
    const PROPERTIES: &str = include_str!("../../tests/fixtures/configs/server.properties");
    const BROKER: &str = include_str!("../../tests/fixtures/configs/broker.tsv");
    const TOPIC: &str = include_str!("../../tests/fixtures/configs/topic.tsv");
    const CHANGED_TOPIC: &str = include_str!("../../tests/fixtures/configs/topic-changed.tsv");
    const CHANGED_BROKER: &str = include_str!("../../tests/fixtures/configs/broker-changed.tsv");
    const CHANGED_CLUSTER: &str = include_str!("../../tests/fixtures/configs/cluster-changed.tsv");

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn config(cluster: &[(&str, &str)], broker: &[(&str, &str)]) -> BrokerConfig {
        let sources = Sources { file: Some(("f", PROPERTIES)), ..Sources::default() };
        let config = load(&sources).expect("it is good").config;
        let (config, problems) = config.with_dynamic(&overrides(cluster), &overrides(broker));
        assert_eq!(problems, []);
        config
    }

    /// A line per entry, as the program that asked the real broker prints it.
    fn lines(entries: &[Entry]) -> Vec<String> {
        fn source(source: Source) -> &'static str {
            match source {
                Source::Topic => "DYNAMIC_TOPIC_CONFIG",
                Source::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
                Source::DynamicCluster => "DYNAMIC_DEFAULT_BROKER_CONFIG",
                Source::Static => "STATIC_BROKER_CONFIG",
                Source::Default => "DEFAULT_CONFIG",
                Source::Group => "DYNAMIC_GROUP_CONFIG",
            }
        }
        let text = |value: &Option<String>| value.clone().unwrap_or("\\N".to_owned());
        let line = |entry: &Entry| {
            let mut line = format!(
                "{}\t{}\t{}\t{}\t{}\t{}",
                entry.name,
                text(&entry.value),
                source(entry.source),
                if entry.read_only { "ro" } else { "rw" },
                if entry.sensitive { "sensitive" } else { "-" },
                entry.kind.map_or("UNKNOWN".to_owned(), |kind| kind.name().to_uppercase()),
            );
            for synonym in &entry.synonyms {
                line += &format!(
                    "\t{}:{}={}",
                    source(synonym.source),
                    synonym.name,
                    text(&synonym.value)
                );
            }
            line
        };
        entries.iter().map(line).collect()
    }

    /// Defaults that are not Apache Kafka's: name, its value, ours.
    const OWN_DEFAULTS: &[(&str, &str, &str)] = &[
        ("socket.receive.buffer.bytes", "102400", "-1"),
        ("socket.send.buffer.bytes", "102400", "307200"),
    ];

    fn assert_same(found: &[Entry], expected: &str, what: &str) {
        let found = lines(found);
        let mut expected = expected.to_owned();
        for (name, theirs, ours) in OWN_DEFAULTS {
            let text = |value| format!("\tDEFAULT_CONFIG:{name}={value}");
            expected = expected.replace(&text(theirs), &text(ours));
        }
        let expected: Vec<&str> = expected.lines().collect();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{what}");
        }
        assert_eq!(found.len(), expected.len(), "{what}");
    }

    #[test]
    fn descriptions_are_those_of_a_real_broker() {
        // What the controller of a new cluster sets itself (KIP-966).
        let formatted = [("min.insync.replicas", "1")];
        let plain = config(&formatted, &[]);
        assert_same(&broker(&plain, None), BROKER, "broker");
        let own = overrides(&[("retention.ms", "1000"), ("cleanup.policy", "compact,delete")]);
        assert_same(&topic(&plain, &own, None), TOPIC, "topic");
    }

    #[test]
    fn descriptions_follow_what_is_altered_at_run_time() {
        let changed = config(
            &[
                ("min.insync.replicas", "1"),
                ("log.retention.ms", "1000000"),
                ("log.cleaner.threads", "2"),
                ("my.custom", "c"),
            ],
            &[
                ("log.retention.ms", "2000000"),
                ("log.cleanup.policy", "compact, delete"),
                ("max.connections", "77"),
                ("leader.replication.throttled.rate", "5"),
                ("listener.name.plaintext.ssl.keystore.type", "PKCS12"),
            ],
        );
        assert_same(&broker(&changed, None), CHANGED_BROKER, "broker");
        assert_same(&cluster(&changed, None), CHANGED_CLUSTER, "cluster");
        let own = overrides(&[
            ("segment.bytes", "1073741824"),
            ("leader.replication.throttled.replicas", "0:1, 1:1"),
            ("min.cleanable.dirty.ratio", "0.00001"),
        ]);
        assert_same(&topic(&changed, &own, None), CHANGED_TOPIC, "topic");
    }

    #[test]
    fn only_what_is_asked_for_is_described() {
        let config = config(&[], &[]);
        let keys = BTreeSet::from(["retention.ms", "no.such.thing"]);
        let entries = topic(&config, &Overrides::new(), Some(&keys));
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["retention.ms"]);
        let internal = topic(&config, &overrides(&[("internal.segment.bytes", "100")]), None);
        assert!(internal.iter().any(|entry| entry.name == "internal.segment.bytes"));
        assert_eq!(broker(&config, Some(&BTreeSet::new())).len(), 340);
    }
}
