//! A topic's settings, in the form that its partitions and the checks of its batches want.

use std::time::Duration;

use crate::config::broker::{BrokerConfig, Durability};
use crate::config::topic::{Compression, TimestampKind, TopicConfig};
use crate::log::LogConfig;
use crate::metadata::{ConfigResource, Image, Topic};
use crate::partition::PartitionSettings;
use crate::protocol::batch::TimestampType;
use crate::protocol::compression::{self, Codec};
use crate::protocol::validate::{DECOMPRESSED_BYTES_MAX, Rules};

/// The part of the memory for requests that a batch may unpack to.
const UNPACKED_PART: u64 = 4;

/// What the batches of a request may unpack to, however little memory there is: some batches of the
/// usual size.
const UNPACKED_BYTES_MIN: usize = 16 << 20;

/// A topic's settings on one core; made anew when the metadata changes.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// What its partitions act on.
    pub partition: PartitionSettings,
    /// What its batches are checked against, but for the request's version.
    rules: Rules,
}

impl TopicSettings {
    /// The settings of `topic`: its own, over the broker's dynamic ones, over the process's.
    pub fn resolve(config: &BrokerConfig, image: &Image, topic: &Topic) -> Self {
        let overrides = image.settings(&ConfigResource::topic(&topic.name));
        let settings = match overrides {
            Some(overrides) => TopicConfig::new(config, overrides),
            None => TopicConfig::new(config, &Default::default()),
        };
        Self { partition: partition_settings(config, &settings), rules: rules(config, &settings) }
    }

    /// The rules for batches of a produce request of version `version`.
    pub fn rules(&self, version: i16) -> Rules {
        Rules { produce_version: version, ..self.rules }
    }
}

fn partition_settings(config: &BrokerConfig, settings: &TopicConfig) -> PartitionSettings {
    let flush_record_count = match config.durability {
        Durability::Sync => 1,
        Durability::PageCache => settings.flush_records.unwrap_or(u64::MAX),
    };
    PartitionSettings {
        log: LogConfig {
            segment_bytes: settings.segment_bytes,
            segment_ms: millis(settings.segment_age_max),
            segment_jitter_ms: millis(settings.segment_jitter),
            index_interval_bytes: settings.index_interval_bytes,
            index_bytes_max: settings.index_bytes_max,
            preallocate: settings.preallocates,
            retention_ms: settings.retention.map(millis),
            retention_bytes: settings.retention_bytes,
            file_delete_delay_ms: millis(settings.file_delete_delay),
            delete_policy: settings.deletes,
            compact_policy: settings.compacts,
        },
        in_sync_count_min: settings.in_sync_min,
        flush_record_count,
        unsynced_bytes_max: config.unsynced_bytes_max,
        flush_interval: settings.flush_interval,
        producer_expiration: config.producer_expiration,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn rules(config: &BrokerConfig, settings: &TopicConfig) -> Rules {
    let kept = |codec, level| Some(compression::Compression { codec, level });
    Rules {
        produce_version: 0,
        timestamp_type: match settings.timestamps {
            TimestampKind::Create => TimestampType::Create,
            TimestampKind::Append => TimestampType::LogAppend,
        },
        timestamp_before_max_ms: window(settings.timestamp_before_max),
        timestamp_after_max_ms: window(settings.timestamp_after_max),
        compression: match settings.compression {
            Compression::Producer => None,
            Compression::Uncompressed => kept(Codec::None, None),
            Compression::Gzip(level) => kept(Codec::Gzip, level.map(i32::from)),
            Compression::Snappy => kept(Codec::Snappy, None),
            Compression::Lz4(level) => kept(Codec::Lz4, Some(i32::from(level))),
            Compression::Zstd(level) => kept(Codec::Zstd, Some(level)),
        },
        compacted: settings.compacts,
        batch_bytes_max: settings.batch_bytes_max,
        segment_bytes_max: settings.segment_bytes,
        unpacked_bytes_max: unpacked_bytes_max(config),
    }
}

/// What one batch may unpack to follows from the memory there is for requests: cores unpack at the
/// same time, and what is unpacked may be packed again.
fn unpacked_bytes_max(config: &BrokerConfig) -> usize {
    let bytes = config.request_memory_bytes / UNPACKED_PART;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    bytes.clamp(UNPACKED_BYTES_MIN, DECOMPRESSED_BYTES_MAX)
}

fn window(bound: Option<Duration>) -> i64 {
    bound.map_or(i64::MAX, |bound| i64::try_from(bound.as_millis()).unwrap_or(i64::MAX))
}
