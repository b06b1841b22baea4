//! What coordinators act on, out of the configuration and the metadata.

use std::sync::Arc;

use crate::config::CoordinatorConfig;
use crate::config::groups::Bounded;
use crate::group::{ConsumerSettings, GroupConfig, GroupConfigs, Migration, Settings};
use crate::metadata::{Delta, Image, ResourceKind};
use crate::protocol::Str;

/// The settings for all groups, whose records are written in batches of `batch_bytes_max` at most.
pub(super) fn of_all(config: &CoordinatorConfig, batch_bytes_max: usize) -> Settings {
    let consumer = &config.consumer;
    let limits = |bounded: Bounded| number(bounded.min)..=number(bounded.max);
    Settings {
        size_max: config.size_max as usize,
        initial_rebalance_delay: config.initial_rebalance_delay,
        session_timeout_ms_min: number(config.session_timeout_ms_min),
        session_timeout_ms_max: number(config.session_timeout_ms_max),
        metadata_length_max: config.metadata_length_max as usize,
        batch_bytes_max,
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

/// What groups have set for themselves, as the metadata it was told of last says.
#[derive(Default)]
pub(super) struct KnownConfigs {
    image: Arc<Image>,
    configs: GroupConfigs,
}

impl KnownConfigs {
    /// The metadata is `image` now. Costs what changed, however many groups have settings.
    pub(super) fn follow(&mut self, image: &Arc<Image>) {
        let before = std::mem::replace(&mut self.image, image.clone());
        for resource in Delta::between(&before, image).configs_changed {
            if resource.kind != ResourceKind::Group {
                continue;
            }
            let config = image.settings(&resource).map(|settings| read(settings));
            let group = Str::from_string(resource.name);
            match config {
                Some(config) => drop(self.configs.insert(group, config)),
                None => drop(self.configs.remove(&group)),
            }
        }
    }

    /// The settings; they share what they hold with those of here.
    pub(super) fn share(&self) -> GroupConfigs {
        self.configs.clone()
    }
}

fn read(settings: &crate::metadata::Settings) -> GroupConfig {
    let number = |name: &str| settings.get(name).and_then(|text| text.trim().parse().ok());
    GroupConfig {
        session_timeout_ms: number("consumer.session.timeout.ms"),
        heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
        assignment_interval_ms: number("consumer.assignment.interval.ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Record;
    use crate::metadata::record::Config;

    /// An image in which a resource has the heartbeat interval of groups set, or removed.
    fn with(image: &Image, kind: ResourceKind, name: &str, value: Option<&str>) -> Arc<Image> {
        let mut image = image.clone();
        let config = Config {
            resource_type: kind.to_wire(),
            resource_name: name.to_owned(),
            name: "consumer.heartbeat.interval.ms".to_owned(),
            value: value.map(str::to_owned),
        };
        image.apply(&Record::from(config)).expect("fits");
        Arc::new(image)
    }

    fn interval_ms(configs: &GroupConfigs, group: &'static str) -> Option<Option<i32>> {
        let config = configs.get(&Str::from_static_str(group));
        config.map(|config| config.heartbeat_interval_ms)
    }

    #[test]
    fn settings_of_groups_follow_the_metadata() {
        let mut known = KnownConfigs::default();
        let first = with(&Image::default(), ResourceKind::Group, "a", Some("6000"));
        let first = with(&first, ResourceKind::Group, "b", Some(" 7000 "));
        known.follow(&first);
        let configs = known.share();
        let intervals = ["a", "b", "c"].map(|group| interval_ms(&configs, group));
        assert_eq!(intervals, [Some(Some(6000)), Some(Some(7000)), None]);

        let second = with(&first, ResourceKind::Group, "a", None);
        let second = with(&second, ResourceKind::Group, "b", Some("8000"));
        let second = with(&second, ResourceKind::Group, "c", Some("soon"));
        known.follow(&second);
        let intervals = ["a", "b", "c"].map(|group| interval_ms(&known.share(), group));
        assert_eq!(intervals, [None, Some(Some(8000)), Some(None)]);
        assert_eq!(interval_ms(&configs, "b"), Some(Some(7000)), "what was shared stays");
    }

    #[test]
    fn settings_of_groups_are_kept_while_other_things_change() {
        let mut known = KnownConfigs::default();
        let first = with(&Image::default(), ResourceKind::Group, "a", Some("6000"));
        known.follow(&first);
        let before = known.share();
        let second = with(&first, ResourceKind::ClientMetrics, "a", Some("9000"));
        known.follow(&second);
        assert!(known.share().ptr_eq(&before), "nothing was read again, nothing copied");
    }
}
