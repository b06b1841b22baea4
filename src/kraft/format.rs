//! What a new data directory holds, as `kafka-storage format --standalone` makes it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::base::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use crate::kraft::batch::{BatchError, Body, decode_all};
use crate::kraft::load::LoadError;
use crate::kraft::snapshot::{Contents, SnapshotId};
use crate::kraft::standalone::{Identity, METADATA_LEVEL_MAX};
use crate::metadata::record::{Config, FeatureLevel};
use crate::metadata::{ConfigResource, METADATA_VERSION, Record};

/// Name of the file that says whose directory it is; in every log directory.
pub const META_PROPERTIES_FILE: &str = "meta.properties";
/// Name of the file with the records a new cluster begins with; in the metadata log's directory.
pub const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";
/// Name of the metadata partition's directory.
pub const METADATA_DIRECTORY: &str = "__cluster_metadata-0";

/// Features and the levels a new cluster finalizes, as Apache Kafka 4.3 does.
pub const FEATURES: [(&str, i16); 6] = [
    (METADATA_VERSION, METADATA_LEVEL_MAX),
    ("eligible.leader.replicas.version", 1),
    ("group.version", 1),
    ("share.version", 1),
    ("streams.version", 1),
    ("transaction.version", 2),
];

/// The file `meta.properties`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetaProperties {
    /// Id of the cluster: any text, 22 characters of base64 where Kafka made it.
    pub cluster: String,
    /// The node the directory belongs to.
    pub node: NodeId,
    /// Id of the directory; `None` in those formatted before Apache Kafka 3.7.
    pub directory: Option<Uuid>,
}

/// Why a `meta.properties` can not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MetaPropertiesError {
    /// A property is missing.
    Missing(&'static str),
    /// A property has a bad value.
    BadValue {
        /// The property.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl fmt::Display for MetaPropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "{META_PROPERTIES_FILE} has no {name}"),
            Self::BadValue { name, value } => {
                write!(f, "{META_PROPERTIES_FILE} has a bad {name}: \"{value}\"")
            }
        }
    }
}

impl std::error::Error for MetaPropertiesError {}

impl MetaProperties {
    /// Reads the file: Java properties of version 0 (`broker.id`) or 1.
    pub fn parse(text: &str) -> Result<Self, MetaPropertiesError> {
        let properties: BTreeMap<&str, &str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
            .filter_map(|line| line.split_once(['=', ':']))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let get = |name| properties.get(name).copied();
        let bad =
            |name, value: &str| MetaPropertiesError::BadValue { name, value: value.to_owned() };
        let (name, node) = match (get("node.id"), get("broker.id")) {
            (Some(node), _) => ("node.id", node),
            (None, Some(node)) => ("broker.id", node),
            (None, None) => return Err(MetaPropertiesError::Missing("node.id")),
        };
        let node = node.parse().ok().filter(|id| *id >= 0).ok_or_else(|| bad(name, node))?;
        let directory = match get("directory.id") {
            Some(text) => Some(text.parse().map_err(|_| bad("directory.id", text))?),
            None => None,
        };
        let cluster = get("cluster.id").ok_or(MetaPropertiesError::Missing("cluster.id"))?;
        // Java escapes these in property values.
        let cluster = cluster.replace("\\=", "=").replace("\\:", ":");
        Ok(Self { cluster, node: NodeId(node), directory })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("#\ncluster.id={}\n", self.cluster);
        if let Some(directory) = self.directory {
            text.push_str(&format!("directory.id={directory}\n"));
        }
        text.push_str(&format!("node.id={}\nversion=1\n", self.node));
        text
    }
}

/// The features a new cluster finalizes, as records.
pub fn feature_records() -> Vec<Record> {
    let record = |(name, level): (&str, i16)| FeatureLevel { name: name.to_owned(), level }.into();
    FEATURES.into_iter().map(record).collect()
}

/// What the first leader writes, given what `bootstrap.checkpoint` says: with eligible leader
/// replicas, the cluster owns a `min.insync.replicas` from the beginning (KIP-966).
pub fn bootstrap_records(mut records: Vec<Record>, min_insync_replicas: &str) -> Vec<Record> {
    let elr = |record: &Record| {
        matches!(record, Record::FeatureLevel(feature)
            if feature.name == "eligible.leader.replicas.version" && feature.level > 0)
    };
    if records.iter().any(elr) {
        let cluster = ConfigResource::cluster();
        let config = Config {
            resource_type: cluster.kind.to_wire(),
            resource_name: cluster.name,
            name: "min.insync.replicas".to_owned(),
            value: Some(min_insync_replicas.to_owned()),
        };
        records.push(config.into());
    }
    records
}

/// The bytes of `bootstrap.checkpoint`.
pub fn bootstrap_file(now: Timestamp) -> Bytes {
    let id = SnapshotId { end: Offset::ZERO, epoch: LeaderEpoch::ZERO };
    let last_contained = Timestamp::from_millis(0);
    let (records, level) = (feature_records(), METADATA_LEVEL_MAX);
    Contents { id, last_contained, voters: None, level, records: &records, now }.encode()
}

/// The bytes of the snapshot that formatting puts into the metadata log: the voters alone.
pub fn voters_file(identity: &Identity, now: Timestamp) -> Bytes {
    let id = SnapshotId::FORMATTED;
    let (voters, level) = (Some(&identity.voters()), METADATA_LEVEL_MAX);
    Contents { id, last_contained: now, voters, level, records: &[], now }.encode()
}

/// Reads the records of a `bootstrap.checkpoint`.
pub fn read_bootstrap(bytes: &[u8]) -> Result<Vec<Record>, LoadError> {
    let mut records = Vec::new();
    for batch in decode_all(bytes) {
        if let Body::Data(more) = batch?.body {
            records.extend(more);
        }
    }
    if records.is_empty() {
        return Err(LoadError::Batch(BatchError::Truncated));
    }
    Ok(records)
}
