//! The four layers a broker setting may come from, and which of them wins.
//!
//! From the strongest: set for this broker while running, set for the whole cluster while running,
//! the start-up configuration, the default (KIP-226, Kafka's `DynamicBrokerConfig`).

use std::collections::BTreeMap;

use super::setting::{Reload, Setting, Type};
use super::settings;
use super::value::Value;

/// Names and texts of settings somebody set.
pub type Overrides = BTreeMap<String, String>;

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker while running.
    DynamicBroker = 2,
    /// Set for the whole cluster while running.
    DynamicCluster = 3,
    /// The start-up configuration.
    Static = 4,
    /// Nobody set it.
    Default = 5,
    /// Set for the group.
    Group = 8,
}

impl Source {
    /// The number in a DescribeConfigs answer.
    pub fn to_wire(self) -> i8 {
        self as i8
    }
}

/// The groups of broker settings that mean the same in several units, the first one first.
const SAME: &[&[&str]] = &[
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
];

/// The names under which a broker setting may be set, as Kafka's `brokerConfigSynonyms`.
pub(super) fn synonyms(name: &str) -> Vec<&str> {
    if let Some(same) = SAME.iter().find(|same| same.contains(&name)) {
        return same.to_vec();
    }
    if name == "log.flush.interval.ms" {
        return vec![name, "log.flush.scheduler.interval.ms"];
    }
    match settings::without_listener(name) {
        Some(base) => {
            const PER_MECHANISM: [&str; 5] = [
                "sasl.jaas.config",
                "sasl.login.callback.handler.class",
                "sasl.login.class",
                "sasl.server.callback.handler.class",
                "connections.max.reauth.ms",
            ];
            let mechanism = PER_MECHANISM.into_iter().find(|known| base.ends_with(known));
            vec![name, mechanism.unwrap_or(base)]
        }
        None => vec![name],
    }
}

/// The row that says of which type a broker setting is, however it is spelled.
pub(super) fn row_of(name: &str) -> Option<&'static Setting> {
    settings::broker(name)
        .or_else(|| settings::dynamic_only(name))
        .or_else(|| synonyms(name).into_iter().find_map(settings::broker))
}

/// Whether a value may be shown: secrets and settings nobody knows may not.
pub(super) fn is_sensitive(row: Option<&Setting>) -> bool {
    row.is_none_or(|row| row.kind == Type::Password)
}

/// Whether the setting changes while the broker runs.
pub(super) fn is_dynamic(name: &str) -> bool {
    let row = settings::broker(name).or_else(|| settings::dynamic_only(name));
    row.is_some_and(|row| row.reload != Reload::ReadOnly)
}

/// What is set in each layer, and what results.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Layers {
    /// Set for this broker while running.
    pub broker: Overrides,
    /// Set for the whole cluster while running.
    pub cluster: Overrides,
    /// The start-up configuration.
    pub fixed: Overrides,
    merged: Overrides,
}

impl Layers {
    /// Lays the layers over each other.
    pub fn new(fixed: Overrides, cluster: Overrides, broker: Overrides) -> Self {
        let mut merged = fixed.clone();
        for layer in [&cluster, &broker] {
            for (name, value) in layer {
                // The stronger layer wins whatever unit it speaks: a `log.roll.hours` above takes
                // the place of a `log.roll.ms` below.
                if settings::without_listener(name).is_none() {
                    for same in synonyms(name) {
                        merged.remove(same);
                    }
                }
                merged.insert(name.clone(), value.clone());
            }
        }
        Self { broker, cluster, fixed, merged }
    }

    /// What somebody set, in any layer.
    pub fn merged(&self) -> &Overrides {
        &self.merged
    }

    /// The value in force. A text that breaks its rule counts as not set: such texts are refused
    /// before they come here.
    pub fn value(&self, row: &Setting) -> Value {
        self.merged
            .get(row.name)
            .and_then(|text| Value::parse(row, text).ok())
            .unwrap_or_else(|| Value::fallback(row))
    }

    /// The value in force of a setting that has a row.
    ///
    /// Panics when `name` has no row: names come from the program text.
    pub(super) fn get(&self, name: &str) -> Value {
        let row = settings::broker(name).unwrap_or_else(|| panic!("no setting named {name}"));
        self.value(row)
    }

    /// Every place that sets one of `name`'s synonyms, the strongest first, ending in the default.
    ///
    /// As Kafka's `configSynonyms`: what comes before the setting's own name is left out.
    pub(super) fn sources(&self, name: &str) -> Vec<(String, Option<String>, Source)> {
        let names = synonyms(name);
        let layers = [
            (&self.broker, Source::DynamicBroker),
            (&self.cluster, Source::DynamicCluster),
            (&self.fixed, Source::Static),
        ];
        let mut found = Vec::new();
        for (layer, source) in layers {
            for name in &names {
                if let Some(text) = layer.get(*name) {
                    found.push(((*name).to_owned(), Some(text.clone()), source));
                }
            }
        }
        for name in &names {
            let text = settings::broker(name).and_then(|row| Value::fallback(row).to_text());
            if let Some(text) = text {
                found.push(((*name).to_owned(), Some(text), Source::Default));
            }
        }
        let hidden = is_sensitive(row_of(name));
        let own = found.into_iter().skip_while(|(synonym, _, _)| synonym != name);
        own.map(|(name, text, source)| (name, text.filter(|_| !hidden), source)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_stronger_layer_wins_in_whatever_unit_it_speaks() {
        let layers = Layers::new(
            overrides(&[
                ("log.roll.ms", "5"),
                ("log.retention.hours", "2"),
                ("num.partitions", "3"),
            ]),
            overrides(&[("log.retention.ms", "7")]),
            overrides(&[("log.roll.hours", "1")]),
        );
        assert_eq!(layers.get("log.roll.ms"), Value::Null);
        assert_eq!(layers.get("log.roll.hours"), Value::Number(1));
        assert_eq!(layers.get("log.retention.ms"), Value::Number(7));
        assert_eq!(layers.get("log.retention.hours"), Value::Number(168));
        assert_eq!(layers.get("num.partitions"), Value::Number(3));
    }

    #[test]
    fn sources_begin_at_the_settings_own_name() {
        let layers = Layers::new(
            overrides(&[("log.retention.hours", "2")]),
            Overrides::new(),
            overrides(&[("log.retention.ms", "7")]),
        );
        let hours = |source, value: &str| {
            ("log.retention.hours".to_owned(), Some(value.to_owned()), source)
        };
        let ms = ("log.retention.ms".to_owned(), Some("7".to_owned()), Source::DynamicBroker);
        let rest = [hours(Source::Static, "2"), hours(Source::Default, "168")];
        let mut all = vec![ms];
        all.extend(rest.clone());
        assert_eq!(layers.sources("log.retention.ms"), all);
        assert_eq!(layers.sources("log.retention.hours"), rest);
        assert_eq!(layers.sources("log.roll.ms"), []);
    }
}
