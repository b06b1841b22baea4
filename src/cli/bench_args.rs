//! What can be said to `corelog bench`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::args::{AcksArg, ClusterArgs, CompressionArg};

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Write records as fast as possible, or at a fixed rate.
    Produce(BenchProduceArgs),
    /// Read records as fast as possible.
    Consume(BenchConsumeArgs),
    /// Write records at a fixed rate and measure until they are received; count what is lost.
    EndToEnd(BenchEndToEndArgs),
    /// Write at one rate after the other, and find the highest that the broker keeps up with.
    Latency(BenchLatencyArgs),
    /// Let members of a group come, go and die, and see how long its partitions are not consumed.
    Groups(BenchGroupsArgs),
    /// Commit offsets at a fixed rate.
    Commits(BenchCommitsArgs),
}

/// The protocols between the members of a group and its coordinator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum GroupProtocolArg {
    /// Members join and synchronize, one of them assigns.
    #[default]
    Classic,
    /// The broker assigns, members reconcile (KIP-848).
    Consumer,
}

/// Who comes, goes and dies.
#[derive(Args, Clone, Debug)]
pub struct BenchGroupsArgs {
    /// Where to measure.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The topic.
    #[arg(long, short = 't', default_value = "bench-groups")]
    pub topic: String,
    /// The group; a new one without it.
    #[arg(long, short = 'g')]
    pub group: Option<String>,
    /// Members at the beginning, each with a connection of its own.
    #[arg(long, short = 'm', default_value_t = 10)]
    pub members: usize,
    /// Partitions of the topic, when it has to be created.
    #[arg(long, short = 'p', default_value_t = 100)]
    pub partitions: i32,
    /// What members and broker speak.
    #[arg(long, value_enum, default_value_t)]
    pub protocol: GroupProtocolArg,
    /// Session timeout. Members of the consumer protocol do not tell it: it has to be the broker's.
    #[arg(long, default_value_t = 45_000, value_name = "MILLISECONDS")]
    pub session_ms: u32,
    /// Interval of heartbeats, classic protocol; the broker tells that of the consumer protocol.
    #[arg(long, default_value_t = 3_000, value_name = "MILLISECONDS")]
    pub heartbeat_ms: u32,
    /// How often members come, leave, come and die after the group has formed.
    #[arg(long, short = 'r', default_value_t = 1)]
    pub rounds: u32,
    /// Seconds in which nothing but heartbeats happens, once the group has formed.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub steady: f64,
    /// Seconds between two phases.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub quiet: f64,
    /// Seconds after which a phase has failed.
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    pub limit: f64,
    /// Print each phase as a line of JSON when it begins and ends, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// How to commit.
#[derive(Args, Clone, Debug)]
pub struct BenchCommitsArgs {
    /// What the measurements need; every connection is the one member of a group of its own.
    #[command(flatten)]
    pub common: BenchArgs,
    /// Partitions of the topic, when it has to be created.
    #[arg(long, short = 'p', default_value_t = 100)]
    pub partitions: i32,
    /// Partitions in each commit.
    #[arg(long, short = 'k', default_value_t = 10, value_name = "PARTITIONS")]
    pub partitions_per_commit: usize,
    /// Commits a second over all groups, sent at their time whether or not earlier ones are
    /// answered; latency counts from that time.
    #[arg(long, short = 'r', default_value_t = 10_000.0, value_name = "PER-SECOND")]
    pub rate: f64,
}

/// What all measurements need.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Where to measure.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The topic.
    #[arg(long, short = 't', default_value = "bench")]
    pub topic: String,
    /// Connections; each that writes is a producer of its own.
    #[arg(long, short = 'c', default_value_t = 1)]
    pub connections: u32,
    /// Seconds to measure.
    #[arg(long, short = 'd', default_value_t = 10.0, value_name = "SECONDS")]
    pub duration: f64,
    /// Seconds before measuring begins; what happens in them is not counted.
    #[arg(long, short = 'w', default_value_t = 2.0, value_name = "SECONDS")]
    pub warm_up: f64,
    /// Print the result as JSON, and nothing else, on standard output.
    #[arg(long)]
    pub json: bool,
    /// Write a page with plots and all figures to this file as well.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// A number of bytes, or a range of which any number is drawn: "1024", "100..2000".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SizeRange {
    /// The least.
    pub min: usize,
    /// The most; it is drawn too.
    pub max: usize,
}

impl FromStr for SizeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse().map_err(|_| format!("\"{text}\" is no number of bytes, as in 100..2000"))
        };
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (number(min)?, number(max)?),
            None => (number(text)?, number(text)?),
        };
        if min > max {
            return Err(format!("{min} is more than {max}"));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}..{}", self.min, self.max)
        }
    }
}

/// What is written: topic, batches, acknowledgements.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Partitions of the topic, when it has to be created. Each producer writes to all in turn.
    #[arg(long, short = 'p', default_value_t = 16)]
    pub partitions: i32,
    /// Bytes of a record's value, random ones; a range (100..2000) draws each record's size.
    #[arg(long, short = 's', default_value = "1024", value_name = "BYTES[..BYTES]")]
    pub record_bytes: SizeRange,
    /// Records get one of so many keys, 0 for none. The key does not decide the partition, and no
    /// more keys are used than there are records in the batches prepared beforehand.
    #[arg(long, default_value_t = 0, value_name = "KEYS")]
    pub keys: u64,
    /// Bytes of a key.
    #[arg(long, default_value_t = 16, value_name = "BYTES", requires = "keys")]
    pub key_bytes: usize,
    /// Who has to have a record before it counts as written.
    #[arg(long, value_enum, default_value_t)]
    pub acks: AcksArg,
    /// Compression of batches.
    #[arg(long, short = 'z', value_enum, default_value_t)]
    pub compression: CompressionArg,
    /// Every connection is an idempotent producer: at most 5 requests in flight on each, acks=all.
    #[arg(long)]
    pub idempotent: bool,
}

/// How to write.
#[derive(Args, Clone, Debug)]
pub struct BenchProduceArgs {
    /// What all measurements need.
    #[command(flatten)]
    pub common: BenchArgs,
    /// What is written.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Records of a batch; each request holds one batch.
    #[arg(long, default_value_t = 16)]
    pub batch_records: u32,
    /// Requests a second over all connections, sent at their time whether or not earlier ones are
    /// answered; latency counts from that time. Without it as fast as possible: latency is then
    /// that of a closed loop, in which a slow broker is asked less, and says little.
    #[arg(long, short = 'r', value_name = "PER-SECOND")]
    pub rate: Option<f64>,
    /// Requests in flight on each connection, when as fast as possible.
    #[arg(long, short = 'i', default_value_t = 5)]
    pub in_flight: u32,
}

/// How to read.
#[derive(Args, Clone, Debug)]
pub struct BenchConsumeArgs {
    /// What all measurements need.
    #[command(flatten)]
    pub common: BenchArgs,
    /// Most bytes of each answer; the default is that of Apache Kafka's consumer.
    #[arg(long, default_value_t = 52_428_800, value_name = "BYTES")]
    pub fetch_bytes: i32,
    /// Most bytes of each partition in an answer; the default is that of Apache Kafka's consumer.
    #[arg(long, default_value_t = 1_048_576, value_name = "BYTES")]
    pub partition_bytes: i32,
    /// Least bytes of each answer.
    #[arg(long, default_value_t = 1, value_name = "BYTES")]
    pub min_bytes: i32,
    /// Stop when everything there was has been read, instead of beginning anew.
    #[arg(long)]
    pub once: bool,
}

/// What to send from one end to the other.
#[derive(Args, Clone, Debug)]
pub struct BenchEndToEndArgs {
    /// What all measurements need.
    #[command(flatten)]
    pub common: BenchArgs,
    /// What is written. A record's value has at least 24 bytes: it tells when it was due.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Records of a batch; each request holds one batch, whose records are due together.
    #[arg(long, default_value_t = 1)]
    pub batch_records: u32,
    /// Records a second over all producers, sent at their time whatever was answered or received;
    /// latency counts from that time until a consumer has the record.
    #[arg(long, short = 'r', default_value_t = 1000.0, value_name = "PER-SECOND")]
    pub rate: f64,
    /// Consumers, which share the partitions.
    #[arg(long, default_value_t = 1)]
    pub consumers: u32,
}

/// Which rates to try.
#[derive(Args, Clone, Debug)]
pub struct BenchLatencyArgs {
    /// What all measurements need; --duration and --warm-up are those of each rate.
    #[command(flatten)]
    pub common: BenchArgs,
    /// What is written.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Records of a batch; each request holds one batch.
    #[arg(long, default_value_t = 16)]
    pub batch_records: u32,
    /// Requests a second over all connections, one rate after the other. Without it 500 and twice
    /// as many each time, until the broker no longer keeps up.
    #[arg(long, short = 'r', value_delimiter = ',', value_name = "PER-SECOND,...")]
    pub rates: Vec<f64>,
    /// A rate is kept up with while at least 99 % of it is answered and p99 stays below this.
    #[arg(long, default_value_t = 50.0, value_name = "MILLISECONDS")]
    pub p99_max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_or_a_range() {
        let cases = [
            ("100", Some((100, 100))),
            ("100..2000", Some((100, 2000))),
            ("7..7", Some((7, 7))),
            ("2000..100", None),
            ("..5", None),
            ("1k", None),
        ];
        for (text, expected) in cases {
            let read = text.parse::<SizeRange>().ok();
            assert_eq!(read.map(|range| (range.min, range.max)), expected, "{text}");
        }
        let range = SizeRange { min: 100, max: 2000 };
        assert_eq!(range.to_string().parse(), Ok(range), "what is printed is understood");
    }
}
