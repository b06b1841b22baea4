//! What coordinators act on, out of the configuration and the metadata.

use std::collections::BTreeMap;

use crate::config::CoordinatorConfig;
use crate::config::groups::Bounded;
use crate::group::{ConsumerSettings, GroupConfig, Migration, Settings};
use crate::metadata::{Image, ResourceKind};
use crate::protocol::Str;

/// The settings for all groups.
pub(super) fn of_all(config: &CoordinatorConfig) -> Settings {
    let consumer = &config.consumer;
    let limits = |bounded: Bounded| number(bounded.min)..=number(bounded.max);
    Settings {
        size_max: config.size_max as usize,
        initial_rebalance_delay: config.initial_rebalance_delay,
        session_timeout_ms_min: number(config.session_timeout_ms_min),
        session_timeout_ms_max: number(config.session_timeout_ms_max),
        metadata_length_max: config.metadata_length_max as usize,
        offsets_retention: config.offsets_retention,
        retention_check_interval: config.retention_check_interval,
        consumer: ConsumerSettings {
            size_max: consumer.size_max as usize,
            session_timeout_ms: number(consumer.session_timeout_ms.default),
            session_timeout_ms_limits: limits(consumer.session_timeout_ms),
            heartbeat_interval_ms: number(consumer.heartbeat_interval_ms.default),
            heartbeat_interval_ms_limits: limits(consumer.heartbeat_interval_ms),
            assignment_interval_ms: number(consumer.assignment_interval_ms.default),
            assignment_interval_ms_limits: limits(consumer.assignment_interval_ms),
            assignors: consumer.assignors.iter().map(|name| assignor(name)).collect(),
            migration: Migration::named(&consumer.migration_policy),
            regex_refresh_interval: consumer.regex_refresh_interval,
        },
    }
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// An assignor's name, also where Kafka's own class is configured.
fn assignor(configured: &str) -> Str {
    let name = match configured {
        "org.apache.kafka.coordinator.group.assignor.UniformAssignor" => "uniform",
        "org.apache.kafka.coordinator.group.assignor.RangeAssignor" => "range",
        name => name,
    };
    Str::from_string(name.to_owned())
}

/// What groups have set for themselves.
pub(super) fn of_groups(image: &Image) -> BTreeMap<Str, GroupConfig> {
    let groups = image.configs().filter(|(resource, _)| resource.kind == ResourceKind::Group);
    let read = |settings: &crate::metadata::Settings| {
        let number = |name: &str| settings.get(name).and_then(|text| text.trim().parse().ok());
        GroupConfig {
            session_timeout_ms: number("consumer.session.timeout.ms"),
            heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
            assignment_interval_ms: number("consumer.assignment.interval.ms"),
        }
    };
    groups
        .map(|(resource, settings)| (Str::from_string(resource.name.clone()), read(settings)))
        .collect()
}
