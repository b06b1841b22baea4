//! What a group sets for itself (resources of type GROUP; Kafka's `GroupConfig`).

use super::broker::BrokerConfig;
use super::layers::Overrides;
use super::setting::Setting;
use super::settings;
use super::topic::conflict;
use super::value::{InvalidValue, Value};

/// A setting of groups, and the broker settings that say what it may be set to.
struct Bounds(&'static str, Option<&'static str>, Option<&'static str>);

/// In Kafka's order, which decides what is complained about first.
const BOUNDS: &[Bounds] = &[
    Bounds(
        "consumer.heartbeat.interval.ms",
        Some("group.consumer.min.heartbeat.interval.ms"),
        Some("group.consumer.max.heartbeat.interval.ms"),
    ),
    Bounds(
        "consumer.session.timeout.ms",
        Some("group.consumer.min.session.timeout.ms"),
        Some("group.consumer.max.session.timeout.ms"),
    ),
    Bounds(
        "consumer.assignment.interval.ms",
        Some("group.consumer.min.assignment.interval.ms"),
        Some("group.consumer.max.assignment.interval.ms"),
    ),
    Bounds(
        "share.heartbeat.interval.ms",
        Some("group.share.min.heartbeat.interval.ms"),
        Some("group.share.max.heartbeat.interval.ms"),
    ),
    Bounds(
        "share.session.timeout.ms",
        Some("group.share.min.session.timeout.ms"),
        Some("group.share.max.session.timeout.ms"),
    ),
    Bounds(
        "share.record.lock.duration.ms",
        Some("group.share.min.record.lock.duration.ms"),
        Some("group.share.max.record.lock.duration.ms"),
    ),
    Bounds(
        "share.delivery.count.limit",
        Some("group.share.min.delivery.count.limit"),
        Some("group.share.max.delivery.count.limit"),
    ),
    Bounds(
        "share.partition.max.record.locks",
        Some("group.share.min.partition.max.record.locks"),
        Some("group.share.max.partition.max.record.locks"),
    ),
    Bounds(
        "share.assignment.interval.ms",
        Some("group.share.min.assignment.interval.ms"),
        Some("group.share.max.assignment.interval.ms"),
    ),
    Bounds(
        "streams.heartbeat.interval.ms",
        Some("group.streams.min.heartbeat.interval.ms"),
        Some("group.streams.max.heartbeat.interval.ms"),
    ),
    Bounds(
        "streams.session.timeout.ms",
        Some("group.streams.min.session.timeout.ms"),
        Some("group.streams.max.session.timeout.ms"),
    ),
    Bounds("streams.num.standby.replicas", None, Some("group.streams.max.standby.replicas")),
    Bounds(
        "streams.assignment.interval.ms",
        Some("group.streams.min.assignment.interval.ms"),
        Some("group.streams.max.assignment.interval.ms"),
    ),
];

/// Settings that must be greater than another.
const GREATER: &[(&str, &str)] = &[
    ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
];

/// The value of a group's setting: its own, else the broker's, else the default.
pub(super) fn effective(broker: &BrokerConfig, own: &Overrides, row: &Setting) -> Value {
    let text = own.get(row.name);
    if let Some(Ok(value)) = text.map(|text| Value::parse(row, text)) {
        return value;
    }
    match row.broker_names.first() {
        Some((name, _)) => broker.layers.get(name),
        None => Value::fallback(row),
    }
}

/// Checks what a group sets: names, values, and the bounds that the broker's settings give
/// (`GroupConfig.validate`, in its words). The error's code is INVALID_CONFIG.
pub fn check(broker: &BrokerConfig, own: &Overrides) -> Result<(), InvalidValue> {
    if let Some(name) = own.keys().find(|name| settings::group(name).is_none()) {
        return Err(conflict(name, format!("Unknown group config name: {name}")));
    }
    for (name, text) in own {
        if let Some(row) = settings::group(name) {
            Value::parse(row, text)?;
        }
    }
    let of_group = |name: &str| {
        let row = settings::group(name)?;
        number(effective(broker, own, row))
    };
    let of_broker = |name: Option<&str>| name.and_then(|name| number(broker.layers.get(name)));
    for Bounds(name, min, max) in BOUNDS {
        let Some(value) = of_group(name) else { continue };
        if let (Some(min), Some(least)) = (min, of_broker(*min))
            && value < least
        {
            return Err(conflict(name, format!("{name} must be greater than or equal to {min}")));
        }
        if let (Some(max), Some(most)) = (max, of_broker(*max))
            && value > most
        {
            return Err(conflict(name, format!("{name} must be less than or equal to {max}")));
        }
    }
    for (greater, lesser) in GREATER {
        if of_group(greater) <= of_group(lesser) {
            return Err(conflict(greater, format!("{greater} must be greater than {lesser}")));
        }
    }
    Ok(())
}

fn number(value: Value) -> Option<i64> {
    match value {
        Value::Number(value) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn what_a_group_sets_is_refused_in_kafkas_words() {
        let broker = load::load(&load::Sources::default()).expect("a good configuration").config;
        let cases: [(&str, &str, Option<&str>); 6] = [
            ("consumer.session.timeout.ms", "50000", None),
            (
                "consumer.session.timeout.ms",
                "1",
                Some(
                    "consumer.session.timeout.ms must be greater than or equal to \
                     group.consumer.min.session.timeout.ms",
                ),
            ),
            (
                "consumer.heartbeat.interval.ms",
                "90000",
                Some(
                    "consumer.heartbeat.interval.ms must be less than or equal to \
                     group.consumer.max.heartbeat.interval.ms",
                ),
            ),
            (
                "consumer.session.timeout.ms",
                "many",
                Some(
                    "Invalid value many for configuration consumer.session.timeout.ms: \
                     Not a number of type INT",
                ),
            ),
            ("session.timeout.ms", "5", Some("Unknown group config name: session.timeout.ms")),
            ("streams.num.standby.replicas", "2", None),
        ];
        for (name, text, expected) in cases {
            let own = Overrides::from([(name.to_owned(), text.to_owned())]);
            let found = check(&broker, &own).err().map(|error| error.message);
            assert_eq!(found.as_deref(), expected, "{name}={text}");
        }
    }
}
