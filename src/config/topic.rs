//! The configuration of a topic: its own overrides over the broker's.

use std::time::Duration;

use super::broker::BrokerConfig;
use super::layers::Overrides;
use super::setting::Setting;
use super::settings;
use super::value::{InvalidValue, Value};

/// How the broker stores batches: `compression.type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    /// Without compression.
    Uncompressed,
    /// With gzip of this level; `None` for the library's own.
    Gzip(Option<u8>),
    /// With Snappy.
    Snappy,
    /// With LZ4 of this level.
    Lz4(u8),
    /// With Zstandard of this level.
    Zstd(i32),
}

/// Whose time a record carries: `message.timestamp.type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimestampKind {
    /// The producer's.
    Create,
    /// The broker's, of the moment of the append.
    Append,
}

/// A topic's settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy` has `delete`.
    pub deletes: bool,
    /// `cleanup.policy` has `compact`.
    pub compacts: bool,
    /// `compression.type` with the level that belongs to it.
    pub compression: Compression,
    /// `delete.retention.ms`.
    pub delete_marker_retention: Duration,
    /// `file.delete.delay.ms`.
    pub file_delete_delay: Duration,
    /// `flush.messages`; `None` for never.
    pub flush_records: Option<u64>,
    /// `flush.ms`; `None` for never.
    pub flush_interval: Option<Duration>,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.compaction.lag.ms`; `None` for no bound.
    pub compaction_lag_max: Option<Duration>,
    /// `max.message.bytes`.
    pub batch_bytes_max: u32,
    /// `message.timestamp.after.max.ms`; `None` for no bound.
    pub timestamp_after_max: Option<Duration>,
    /// `message.timestamp.before.max.ms`; `None` for no bound.
    pub timestamp_before_max: Option<Duration>,
    /// `message.timestamp.type`.
    pub timestamps: TimestampKind,
    /// `min.cleanable.dirty.ratio`.
    pub dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`.
    pub compaction_lag_min: Duration,
    /// `min.insync.replicas`.
    pub in_sync_min: u32,
    /// `preallocate`.
    pub preallocates: bool,
    /// `retention.bytes`; `None` for no bound.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; `None` for ever.
    pub retention: Option<Duration>,
    /// `segment.bytes`, or `internal.segment.bytes` when it is set.
    pub segment_bytes: u32,
    /// `segment.index.bytes`.
    pub index_bytes_max: u32,
    /// `segment.jitter.ms`.
    pub segment_jitter: Duration,
    /// `segment.ms`; for a compacted topic not more than `max.compaction.lag.ms`.
    pub segment_age_max: Duration,
    /// `unclean.leader.election.enable`.
    pub unclean_elections: bool,
}

/// What a topic's setting is without an override: the broker's value, in the topic's unit.
pub(super) fn inherited(broker: &BrokerConfig, row: &Setting) -> Value {
    for (name, factor) in row.broker_names {
        match broker.layers.get(name) {
            Value::Null => {}
            // Every negative retention time means "for ever", which is -1.
            Value::Number(value) if row.name == "retention.ms" && value < 0 => {
                return Value::Number(-1);
            }
            Value::Number(value) => return Value::Number(value.saturating_mul(*factor)),
            value => return value,
        }
    }
    Value::fallback(row)
}

/// The value in force of a topic's setting. An override that breaks its rule counts as not set.
pub(super) fn effective(broker: &BrokerConfig, overrides: &Overrides, row: &Setting) -> Value {
    let own = overrides.get(row.name).and_then(|text| Value::parse(row, text).ok());
    own.unwrap_or_else(|| inherited(broker, row))
}

struct Reader<'a> {
    broker: &'a BrokerConfig,
    overrides: &'a Overrides,
}

impl Reader<'_> {
    fn value(&self, name: &str) -> Value {
        let row = settings::topic(name).unwrap_or_else(|| panic!("no topic setting named {name}"));
        effective(self.broker, self.overrides, row)
    }

    fn number(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Number(value) => value,
            _ => panic!("{name} has no number"),
        }
    }

    fn u32(&self, name: &str) -> u32 {
        u32::try_from(self.number(name).max(0)).unwrap_or(u32::MAX)
    }

    /// A number; below 0 and the largest one mean "no bound".
    fn bounded(&self, name: &str) -> Option<u64> {
        let value = self.number(name);
        u64::try_from(value).ok().filter(|_| value != i64::MAX)
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).max(0).unsigned_abs())
    }

    fn flag(&self, name: &str) -> bool {
        self.value(name) == Value::Flag(true)
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    fn compression(&self) -> Compression {
        match self.text("compression.type").as_str() {
            "uncompressed" => Compression::Uncompressed,
            "gzip" => Compression::Gzip(u8::try_from(self.number("compression.gzip.level")).ok()),
            "snappy" => Compression::Snappy,
            "lz4" => {
                Compression::Lz4(u8::try_from(self.number("compression.lz4.level")).unwrap_or(9))
            }
            "zstd" => {
                Compression::Zstd(i32::try_from(self.number("compression.zstd.level")).unwrap_or(3))
            }
            _ => Compression::Producer,
        }
    }
}

impl TopicConfig {
    /// The settings in force for a topic with these overrides.
    ///
    /// Overrides that break their rule count as not set; [`check`] refuses them beforehand.
    pub fn new(broker: &BrokerConfig, overrides: &Overrides) -> Self {
        let read = Reader { broker, overrides };
        let policy = match read.value("cleanup.policy") {
            Value::List(items) => items,
            _ => Vec::new(),
        };
        let compacts = policy.iter().any(|item| item == "compact");
        let lag_max = read.bounded("max.compaction.lag.ms").map(Duration::from_millis);
        let age = read.millis("segment.ms");
        let segment_bytes = match read.value("internal.segment.bytes") {
            Value::Number(bytes) => u32::try_from(bytes).unwrap_or(1),
            _ => read.u32("segment.bytes"),
        };
        Self {
            deletes: policy.iter().any(|item| item == "delete"),
            compacts,
            compression: read.compression(),
            delete_marker_retention: read.millis("delete.retention.ms"),
            file_delete_delay: read.millis("file.delete.delay.ms"),
            flush_records: read.bounded("flush.messages"),
            flush_interval: read.bounded("flush.ms").map(Duration::from_millis),
            index_interval_bytes: read.u32("index.interval.bytes"),
            compaction_lag_max: lag_max,
            batch_bytes_max: read.u32("max.message.bytes"),
            timestamp_after_max: read
                .bounded("message.timestamp.after.max.ms")
                .map(Duration::from_millis),
            timestamp_before_max: read
                .bounded("message.timestamp.before.max.ms")
                .map(Duration::from_millis),
            timestamps: match read.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampKind::Append,
                _ => TimestampKind::Create,
            },
            dirty_ratio_min: match read.value("min.cleanable.dirty.ratio") {
                Value::Float(ratio) => ratio,
                _ => 0.5,
            },
            compaction_lag_min: read.millis("min.compaction.lag.ms"),
            in_sync_min: read.u32("min.insync.replicas"),
            preallocates: read.flag("preallocate"),
            retention_bytes: read.bounded("retention.bytes"),
            retention: read.bounded("retention.ms").map(Duration::from_millis),
            segment_bytes,
            index_bytes_max: read.u32("segment.index.bytes"),
            segment_jitter: read.millis("segment.jitter.ms"),
            segment_age_max: if compacts { lag_max.map_or(age, |lag| lag.min(age)) } else { age },
            unclean_elections: read.flag("unclean.leader.election.enable"),
        }
    }
}

pub(super) fn conflict(name: &str, message: String) -> InvalidValue {
    InvalidValue { name: name.to_owned(), message }
}

/// Checks a topic's overrides: names, values, and what concerns several of them
/// (Kafka's `LogConfig.validate`, in its words). The error's code is INVALID_CONFIG.
pub fn check(broker: &BrokerConfig, overrides: &Overrides) -> Result<(), InvalidValue> {
    if let Some(name) = overrides.keys().find(|name| settings::topic(name).is_none()) {
        return Err(conflict(name, format!("Unknown topic config name: {name}")));
    }
    for (name, text) in overrides {
        if let Some(row) = settings::topic(name) {
            Value::parse(row, text)?;
        }
    }
    let read = Reader { broker, overrides };
    let min = read.number("min.compaction.lag.ms");
    let max = read.number("max.compaction.lag.ms");
    if min > max {
        let message = format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > \
             max.compaction.lag.ms ({max})"
        );
        return Err(conflict("min.compaction.lag.ms", message));
    }
    if read.flag("remote.storage.enable") {
        // Remote storage can not be switched on for the broker, so never for a topic either.
        let message = "Tiered Storage functionality is disabled in the broker. \
                       Topic cannot be configured with remote log storage.";
        return Err(conflict("remote.storage.enable", message.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn broker(overrides: &[&str]) -> BrokerConfig {
        let overrides: Vec<String> = overrides.iter().map(|it| (*it).to_owned()).collect();
        let sources = load::Sources { overrides: &overrides, ..load::Sources::default() };
        load::load(&sources).expect("a good configuration").config
    }

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_topic_inherits_the_brokers_values_in_its_own_unit() {
        let minutes = Duration::from_secs(60);
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Option<Duration>);
        let cases: [Case<'_>; 6] = [
            (&[], &[], Some(minutes * 60 * 168)),
            (&["log.retention.hours=2"], &[], Some(minutes * 120)),
            (&["log.retention.hours=2", "log.retention.minutes=3"], &[], Some(minutes * 3)),
            (&["log.retention.hours=-1"], &[], None),
            (&["log.retention.ms=-1"], &[("retention.ms", "60000")], Some(minutes)),
            (&["log.retention.minutes=1"], &[("retention.ms", "-1")], None),
        ];
        for (fixed, own, expected) in cases {
            let config = TopicConfig::new(&broker(fixed), &overrides(own));
            assert_eq!(config.retention, expected, "{fixed:?} {own:?}");
        }
        let flush =
            TopicConfig::new(&broker(&["log.flush.scheduler.interval.ms=9"]), &overrides(&[]));
        assert_eq!(flush.flush_interval, Some(Duration::from_millis(9)));
        assert_eq!(flush.flush_records, None);
    }

    #[test]
    fn overrides_are_refused_in_kafkas_words() {
        let broker = broker(&[]);
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[("retention", "1")], "Unknown topic config name: retention"),
            (
                &[("retention.ms", "-2")],
                "Invalid value -2 for configuration retention.ms: Value must be at least -1",
            ),
            (
                &[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")],
                "conflict topic config setting min.compaction.lag.ms (5) > \
                 max.compaction.lag.ms (4)",
            ),
            (
                &[("remote.storage.enable", "true")],
                "Tiered Storage functionality is disabled in the broker. \
                 Topic cannot be configured with remote log storage.",
            ),
            (
                &[("preallocate", "yes")],
                "Invalid value yes for configuration preallocate: \
                 Expected value to be either true or false",
            ),
        ];
        for (own, expected) in cases {
            let error = check(&broker, &overrides(own)).expect_err(expected);
            assert_eq!(error.message, expected);
        }
        assert_eq!(check(&broker, &overrides(&[("cleanup.policy", "")])), Ok(()));
    }
}
