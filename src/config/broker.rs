//! The configuration in force: typed values of the settings this broker acts on.
//!
//! A [`BrokerConfig`] never changes. A setting that is altered while running makes a new one, from
//! the same start-up layer and the new upper layers ([`BrokerConfig::with_dynamic`]).

use std::path::PathBuf;
use std::time::Duration;

use crate::base::NodeId;

use super::groups::CoordinatorConfig;
use super::layers::{Layers, Overrides};
use super::listener::{Endpoint, Security, parse_endpoint, parse_protocols};
use super::settings;
use super::value::Value;

/// What is wrong with a configuration: one sentence that says how to mend it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The setting.
    pub name: String,
    /// The sentence.
    pub sentence: String,
}

impl Problem {
    pub(super) fn new(name: &str, sentence: impl Into<String>) -> Self {
        Self { name: name.to_owned(), sentence: sentence.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// When a write counts as done: `corelog.durability`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Once the kernel has it.
    PageCache,
    /// Once it is on disk.
    Sync,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// What was set where.
    pub layers: Layers,
    /// `node.id`.
    pub node_id: NodeId,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// The addresses to listen on, without those of the controller.
    pub listeners: Vec<Endpoint>,
    /// The addresses clients are told.
    pub advertised: Vec<Endpoint>,
    /// The listener other brokers use.
    pub inter_broker_listener: String,
    /// The data directory.
    pub log_dir: PathBuf,
    /// The directory of the metadata log.
    pub metadata_log_dir: PathBuf,
    /// `corelog.cores`; `None` for every CPU.
    pub cores: Option<u16>,
    /// `corelog.pin.cores`.
    pub pin_cores: bool,
    /// `corelog.durability`.
    pub durability: Durability,
    /// `corelog.journal.bytes`; 0 for no journal.
    pub journal_bytes: u64,
    /// `queued.max.request.bytes`, or else `corelog.memory.request.bytes`; over all cores.
    pub request_memory_bytes: u64,
    /// `corelog.flush.unsynced.bytes.max`, per partition.
    pub unsynced_bytes_max: u64,
    /// `corelog.sendfile.bytes.min`.
    pub sendfile_bytes_min: u32,
    /// `socket.request.max.bytes`.
    pub request_bytes_max: u32,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub receive_buffer_bytes: Option<u32>,
    /// `connections.max.idle.ms`; `None` for ever.
    pub idle_connection_max: Option<Duration>,
    /// `max.connections`, over all cores.
    pub connections_max: u32,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: u32,
    /// `max.incremental.fetch.session.cache.slots`, over all cores.
    pub fetch_sessions_max: u32,
    /// `max.request.partition.size.limit`.
    pub described_partitions_max: u32,
    /// `num.partitions`.
    pub partition_count: u32,
    /// `default.replication.factor`.
    pub replication_factor: u16,
    /// `auto.create.topics.enable`.
    pub creates_topics: bool,
    /// `delete.topic.enable`.
    pub deletes_topics: bool,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_checkpoint_interval: Duration,
    /// `log.flush.start.offset.checkpoint.interval.ms`.
    pub start_checkpoint_interval: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub watermark_checkpoint_interval: Duration,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay: Duration,
    /// `producer.id.expiration.ms`.
    pub producer_expiration: Duration,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_check_interval: Duration,
    /// Groups and their offsets.
    pub groups: CoordinatorConfig,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub metadata_bytes_between_snapshots: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None` for never.
    pub metadata_snapshot_interval: Option<Duration>,
}

/// Reads typed values out of the layers.
pub(super) struct Reader<'a>(&'a Layers);

impl Reader<'_> {
    fn number(&self, name: &str) -> i64 {
        match self.0.get(name) {
            Value::Number(value) => value,
            _ => panic!("{name} has no number"),
        }
    }

    /// A number; what does not fit is cut to the nearest one that does.
    pub(super) fn u32(&self, name: &str) -> u32 {
        u32::try_from(self.number(name).max(0)).unwrap_or(u32::MAX)
    }

    pub(super) fn u64(&self, name: &str) -> u64 {
        self.number(name).max(0).unsigned_abs()
    }

    pub(super) fn u16(&self, name: &str) -> u16 {
        u16::try_from(self.number(name).max(0)).unwrap_or(u16::MAX)
    }

    fn not_negative(&self, name: &str) -> Option<u32> {
        u32::try_from(self.number(name)).ok()
    }

    pub(super) fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.u64(name))
    }

    /// A duration; `none` and everything below 0 mean never.
    fn millis_unless(&self, name: &str, none: i64) -> Option<Duration> {
        let value = self.number(name);
        let set = u64::try_from(value).ok().filter(|_| value != none);
        set.map(Duration::from_millis)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name), Value::Flag(true))
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> Option<Vec<String>> {
        match self.0.get(name) {
            Value::List(items) => Some(items),
            _ => None,
        }
    }
}

/// The addresses of a configuration.
struct Addresses {
    listeners: Vec<Endpoint>,
    advertised: Vec<Endpoint>,
    inter_broker: String,
}

impl BrokerConfig {
    /// Checks every value and how they fit together; gives all problems at once.
    pub fn new(layers: Layers) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        for (name, text) in layers.merged() {
            let row = settings::broker(name).or_else(|| settings::dynamic_only(name));
            if let Some(Err(error)) = row.map(|row| Value::parse(row, text)) {
                problems.push(Problem::new(name, error.message));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        check_together(&layers, &mut problems);
        let node_id = node_id(&layers, &mut problems);
        let log_dir = log_dir(&layers, &mut problems);
        match addresses(&layers) {
            Ok(addresses) if problems.is_empty() => {
                Ok(Self::typed(layers, node_id, log_dir, addresses))
            }
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }

    fn typed(layers: Layers, node_id: NodeId, log_dir: PathBuf, addresses: Addresses) -> Self {
        let read = Reader(&layers);
        let metadata_log_dir = read.text("metadata.log.dir").map(PathBuf::from);
        let durability = match read.text("corelog.durability").as_deref() {
            Some("sync") => Durability::Sync,
            _ => Durability::PageCache,
        };
        let cores = match layers.get("corelog.cores") {
            Value::Number(count) => u16::try_from(count).ok(),
            _ => None,
        };
        Self {
            node_id,
            rack: read.text("broker.rack"),
            listeners: addresses.listeners,
            advertised: addresses.advertised,
            inter_broker_listener: addresses.inter_broker,
            metadata_log_dir: metadata_log_dir.unwrap_or_else(|| log_dir.clone()),
            log_dir,
            cores,
            pin_cores: read.flag("corelog.pin.cores"),
            durability,
            journal_bytes: read.u64("corelog.journal.bytes"),
            request_memory_bytes: match read.number("queued.max.request.bytes") {
                bytes @ 1.. => bytes.unsigned_abs(),
                _ => read.u64("corelog.memory.request.bytes"),
            },
            unsynced_bytes_max: read.u64("corelog.flush.unsynced.bytes.max"),
            sendfile_bytes_min: read.u32("corelog.sendfile.bytes.min"),
            request_bytes_max: read.u32("socket.request.max.bytes"),
            send_buffer_bytes: read.not_negative("socket.send.buffer.bytes"),
            receive_buffer_bytes: read.not_negative("socket.receive.buffer.bytes"),
            idle_connection_max: read.millis_unless("connections.max.idle.ms", -1),
            connections_max: read.u32("max.connections"),
            fetch_bytes_max: read.u32("fetch.max.bytes"),
            fetch_sessions_max: read.u32("max.incremental.fetch.session.cache.slots"),
            described_partitions_max: read.u32("max.request.partition.size.limit"),
            partition_count: read.u32("num.partitions"),
            replication_factor: read.u16("default.replication.factor"),
            creates_topics: read.flag("auto.create.topics.enable"),
            deletes_topics: read.flag("delete.topic.enable"),
            retention_check_interval: read.millis("log.retention.check.interval.ms"),
            recovery_checkpoint_interval: read.millis("log.flush.offset.checkpoint.interval.ms"),
            start_checkpoint_interval: read.millis("log.flush.start.offset.checkpoint.interval.ms"),
            watermark_checkpoint_interval: read
                .millis("replica.high.watermark.checkpoint.interval.ms"),
            initial_task_delay: read.millis("log.initial.task.delay.ms"),
            producer_expiration: read.millis("producer.id.expiration.ms"),
            producer_check_interval: read.millis("producer.id.expiration.check.interval.ms"),
            groups: CoordinatorConfig::read(&read),
            metadata_bytes_between_snapshots: read
                .u64("metadata.log.max.record.bytes.between.snapshots"),
            metadata_snapshot_interval: read
                .millis_unless("metadata.log.max.snapshot.interval.ms", 0),
            layers,
        }
    }

    /// The configuration with other upper layers: what the metadata log says of the cluster's
    /// default and of this broker.
    ///
    /// As in Apache Kafka, an override that can not apply is left out and reported, and when the
    /// whole does not fit together the start-up configuration stays in force.
    pub fn with_dynamic(&self, cluster: &Overrides, broker: &Overrides) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let cluster = applicable(cluster, &mut problems);
        let broker = applicable(broker, &mut problems);
        let fixed = self.layers.fixed.clone();
        match Self::new(Layers::new(fixed, cluster, broker)) {
            Ok(config) => (config, problems),
            Err(more) => {
                problems.extend(more);
                (self.clone(), problems)
            }
        }
    }
}

/// The overrides of a dynamic layer that may stand there.
fn applicable(layer: &Overrides, problems: &mut Vec<Problem>) -> Overrides {
    let mut kept = layer.clone();
    kept.retain(|name, text| {
        let row = settings::broker(name).or_else(|| settings::dynamic_only(name));
        let fits = match row {
            Some(row) if !super::layers::is_dynamic(name) => {
                Err(format!("{} can not be set while running", row.name))
            }
            Some(row) => Value::parse(row, text).map(drop).map_err(|error| error.message),
            None => Ok(()),
        };
        match fits {
            Ok(()) => true,
            Err(why) => {
                let sentence = format!("the stored setting {name}={text} is left out: {why}");
                problems.push(Problem::new(name, sentence));
                false
            }
        }
    });
    kept
}

fn node_id(layers: &Layers, problems: &mut Vec<Problem>) -> NodeId {
    let id = |name| match layers.get(name) {
        Value::Number(id) => i32::try_from(id).ok(),
        _ => None,
    };
    let broker_id = id("broker.id").filter(|id| *id >= 0);
    match (id("node.id"), broker_id) {
        (Some(node), Some(broker)) if node != broker => {
            let sentence = format!(
                "node.id is {node} and broker.id is {broker}: give both the same number, or leave \
                 out broker.id"
            );
            problems.push(Problem::new("node.id", sentence));
            NodeId(node)
        }
        (Some(id), _) | (None, Some(id)) => NodeId(id),
        (None, None) => {
            let sentence =
                "node.id is not set: give this node a number of its own, for example node.id=1";
            problems.push(Problem::new("node.id", sentence));
            NodeId(0)
        }
    }
}

fn log_dir(layers: &Layers, problems: &mut Vec<Problem>) -> PathBuf {
    let read = Reader(layers);
    let named = if layers.merged().contains_key("log.dirs") { "log.dirs" } else { "log.dir" };
    let directories = read.list(named).unwrap_or_default();
    if directories.len() > 1 {
        let sentence = format!(
            "{named} names {} directories, and Corelog keeps its data in one for now: name one, \
             or start one node per directory",
            directories.len()
        );
        problems.push(Problem::new(named, sentence));
    }
    directories.into_iter().next().map(PathBuf::from).unwrap_or_default()
}

fn addresses(layers: &Layers) -> Result<Addresses, Problem> {
    let read = Reader(layers);
    let controller: Vec<String> = read
        .list("controller.listener.names")
        .unwrap_or_default()
        .iter()
        .map(|name| name.to_ascii_uppercase())
        .collect();
    const MAP: &str = "listener.security.protocol.map";
    let mut protocols = parse_protocols(&read.text(MAP).unwrap_or_default())
        .map_err(|why| Problem::new(MAP, format!("{MAP}: {why}")))?;
    if !layers.merged().contains_key(MAP) {
        for name in &controller {
            protocols.entry(name.clone()).or_insert(Security::Plaintext);
        }
    }
    let endpoints = |name: &str| -> Result<Option<Vec<Endpoint>>, Problem> {
        let Some(texts) = read.list(name) else { return Ok(None) };
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(texts.len());
        for text in texts {
            let endpoint = parse_endpoint(&text, &protocols)
                .map_err(|why| Problem::new(name, format!("{name}: {why}")))?;
            if endpoints.iter().any(|other| other.name == endpoint.name) {
                let sentence = format!(
                    "{name} names {} twice: every listener needs a name of its own, as mapped in \
                     {MAP}",
                    endpoint.name
                );
                return Err(Problem::new(name, sentence));
            }
            endpoints.push(endpoint);
        }
        endpoints.retain(|endpoint| !controller.contains(&endpoint.name));
        Ok(Some(endpoints))
    };
    let listeners = endpoints("listeners")?.unwrap_or_default();
    let advertised = endpoints("advertised.listeners")?.unwrap_or_else(|| listeners.clone());
    let inter_broker = inter_broker(&read);
    check_addresses(&listeners, &advertised, &inter_broker)?;
    Ok(Addresses { listeners, advertised, inter_broker })
}

fn inter_broker(read: &Reader<'_>) -> String {
    let named = read.text("inter.broker.listener.name");
    let protocol = || read.text("security.inter.broker.protocol").unwrap_or_default();
    named.unwrap_or_else(protocol).to_ascii_uppercase()
}

fn check_addresses(
    listeners: &[Endpoint],
    advertised: &[Endpoint],
    inter_broker: &str,
) -> Result<(), Problem> {
    if listeners.is_empty() {
        let sentence = "listeners has no address for clients: every one of them appears in \
                        controller.listener.names; add one like PLAINTEXT://:9092";
        return Err(Problem::new("listeners", sentence));
    }
    if let Some(secured) = listeners.iter().find(|it| it.security != Security::Plaintext) {
        let sentence = format!(
            "listener {} uses {}, which Corelog can not speak yet: map it to PLAINTEXT in \
             listener.security.protocol.map, or leave it out of listeners",
            secured.name,
            secured.security.name()
        );
        return Err(Problem::new("listeners", sentence));
    }
    for (index, endpoint) in listeners.iter().enumerate() {
        let same = |other: &&Endpoint| {
            other.port == endpoint.port
                && other.port != 0
                && (other.host == endpoint.host || other.host.is_none() || endpoint.host.is_none())
        };
        if let Some(other) = listeners[..index].iter().find(same) {
            let sentence = format!(
                "listeners {other} and {endpoint} want the same address: give them different ports"
            );
            return Err(Problem::new("listeners", sentence));
        }
    }
    const ADVERTISED: &str = "advertised.listeners";
    for endpoint in advertised {
        if !listeners.iter().any(|listener| listener.name == endpoint.name) {
            let sentence = format!(
                "{ADVERTISED} names {}, which listeners does not have: add it there, or leave it \
                 out here",
                endpoint.name
            );
            return Err(Problem::new(ADVERTISED, sentence));
        }
        if endpoint.host.as_deref() == Some("0.0.0.0") {
            let sentence = format!(
                "{ADVERTISED} would tell clients to connect to 0.0.0.0, which no client can reach: \
                 set {ADVERTISED} to a name or address they can, for example {}://localhost:{}",
                endpoint.name, endpoint.port
            );
            return Err(Problem::new(ADVERTISED, sentence));
        }
    }
    if !advertised.iter().any(|endpoint| endpoint.name == inter_broker) {
        let names: Vec<&str> = advertised.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let sentence = format!(
            "inter.broker.listener.name must be one of the advertised listeners ({}), and it is \
             {inter_broker}",
            names.join(", ")
        );
        return Err(Problem::new("inter.broker.listener.name", sentence));
    }
    Ok(())
}

/// The rules that concern several settings (Kafka's `KafkaConfig.validateValues`).
fn check_together(layers: &Layers, problems: &mut Vec<Problem>) {
    let read = Reader(layers);
    let number = |name: &str| match layers.get(name) {
        Value::Number(value) => Some(value),
        _ => None,
    };
    let mut require = |holds: bool, name: &str, sentence: &str| {
        if !holds {
            problems.push(Problem::new(name, sentence));
        }
    };
    let roles = read.list("process.roles");
    let both = roles.is_none_or(|roles| roles.len() == 2);
    require(
        both,
        "process.roles",
        "process.roles must be broker,controller: Corelog runs standalone for now, and can neither \
         join a controller quorum nor be a controller alone",
    );
    require(
        number("log.roll.ms").is_none_or(|ms| ms >= 1),
        "log.roll.ms",
        "log.roll.ms must be greater than or equal to 1",
    );
    require(
        number("log.roll.jitter.ms").is_none_or(|ms| ms >= 0),
        "log.roll.jitter.ms",
        "log.roll.jitter.ms must be greater than or equal to 0",
    );
    let retention = number("log.retention.ms")
        .or(number("log.retention.minutes"))
        .or(number("log.retention.hours"));
    require(
        retention != Some(0),
        "log.retention.ms",
        "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
    );
    let queued = read.number("queued.max.request.bytes");
    require(
        queued <= 0 || queued >= read.number("socket.request.max.bytes"),
        "queued.max.request.bytes",
        "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
    );
    let min = read.number("log.cleaner.min.compaction.lag.ms");
    let max = read.number("log.cleaner.max.compaction.lag.ms");
    require(
        min <= max,
        "log.cleaner.min.compaction.lag.ms",
        "log.cleaner.min.compaction.lag.ms must not be more than log.cleaner.max.compaction.lag.ms",
    );
    let idle = read.number("connections.max.idle.ms");
    require(
        idle < 0 || read.number("connection.failed.authentication.delay.ms") < idle,
        "connections.max.idle.ms",
        "connection.failed.authentication.delay.ms should always be less than \
         connections.max.idle.ms",
    );
}
