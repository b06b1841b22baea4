//! What can be said on the command line, and the help that says so.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use super::bench_args::{
    BenchArgs, BenchCommand, BenchCommitsArgs, BenchConsumeArgs, BenchEndToEndArgs,
    BenchGroupsArgs, BenchLatencyArgs, BenchProduceArgs, GroupProtocolArg, LoadArgs, SizeRange,
};
pub use super::group_args::{GroupCommand, GroupResetArgs};

/// A broker for the Apache Kafka protocol, and its tools.
#[derive(Debug, Parser)]
#[command(name = "corelog", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker until it is asked to stop (SIGTERM, Ctrl-C).
    Serve(ServeArgs),
    /// List, create, describe, alter and delete topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// List, describe, reset and delete the groups of consumers.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Write the lines of standard input to a topic, one record each.
    Produce(ProduceArgs),
    /// Print the records of a topic.
    Consume(ConsumeArgs),
    /// Look into the files of a data directory.
    #[command(subcommand)]
    Log(LogCommand),
    /// Look at this machine: what is wrong for the broker, and how to mend it.
    Doctor(DoctorArgs),
    /// Put load on a broker and measure it.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// The settings of the broker and of topics.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Where settings come from.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Configuration file, in the form of Apache Kafka's server.properties. Without it the
    /// built-in one is used: data in ./data, clients on 127.0.0.1:9092.
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting; stronger than the file and the environment. May be repeated.
    #[arg(long = "override", short = 'o', value_name = "NAME=VALUE")]
    pub overrides: Vec<String>,
}

/// How to reach the cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// Brokers to ask first, separated by commas.
    #[arg(
        long = "bootstrap-server",
        short = 'b',
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        env = "CORELOG_BOOTSTRAP"
    )]
    pub bootstrap: String,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub timeout: u64,
}

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Print the names of the topics.
    List {
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Internal topics as well.
        #[arg(long)]
        internal: bool,
    },
    /// Create a topic.
    Create {
        /// The topic.
        name: String,
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Number of partitions; the broker's default without it.
        #[arg(long, short = 'p')]
        partitions: Option<i32>,
        /// Replicas of each partition; the broker's default without it.
        #[arg(long, short = 'r')]
        replicas: Option<i16>,
        /// A setting of the topic. May be repeated.
        #[arg(long = "config", value_name = "NAME=VALUE")]
        configs: Vec<String>,
        /// Succeed when the topic is there already.
        #[arg(long)]
        if_not_exists: bool,
        /// Check only; create nothing.
        #[arg(long)]
        validate_only: bool,
    },
    /// Print partitions, leaders, offsets and changed settings of topics.
    Describe {
        /// The topics; all when none is named.
        names: Vec<String>,
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Every setting, not only those somebody set.
        #[arg(long)]
        all: bool,
    },
    /// Add partitions to a topic, or change its settings.
    Alter {
        /// The topic.
        name: String,
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Raise the number of partitions to this. It can not be lowered.
        #[arg(long, short = 'p')]
        partitions: Option<i32>,
        /// Set a setting. May be repeated.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// Return a setting to the broker's default. May be repeated.
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
        /// Add to a setting that is a list. May be repeated.
        #[arg(long, value_name = "NAME=ITEM")]
        append: Vec<String>,
        /// Take away from a setting that is a list. May be repeated.
        #[arg(long, value_name = "NAME=ITEM")]
        subtract: Vec<String>,
        /// Check only; change nothing.
        #[arg(long)]
        validate_only: bool,
    },
    /// Delete topics and all their records.
    Delete {
        /// The topics.
        #[arg(required = true)]
        names: Vec<String>,
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum CompressionArg {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Who has to have a record before it counts as written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum AcksArg {
    /// Nobody: the broker does not answer.
    #[value(name = "0")]
    None,
    /// The leader.
    #[value(name = "1")]
    Leader,
    /// Every replica in sync.
    #[default]
    All,
}

impl AcksArg {
    /// The number in a produce request.
    pub fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What to write.
#[derive(Args, Debug)]
pub struct ProduceArgs {
    /// The topic. It is created when the broker creates topics by itself.
    pub topic: String,
    /// Where to write.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Text between key and value of a line. Without it lines are values without a key.
    #[arg(long, short = 'k', value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// Text that stands for a missing key or value (a tombstone).
    #[arg(long, value_name = "TEXT")]
    pub null_marker: Option<String>,
    /// A header for every record. May be repeated.
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Write to this partition. Without it the key decides as in the Java client, and records
    /// without a key change partition from batch to batch.
    #[arg(long, short = 'p')]
    pub partition: Option<i32>,
    /// Compression of batches.
    #[arg(long, short = 'z', value_enum, default_value_t)]
    pub compression: CompressionArg,
    /// Who has to have a record before it counts as written.
    #[arg(long, value_enum, default_value_t)]
    pub acks: AcksArg,
    /// Most bytes of a batch before compression.
    #[arg(long, default_value_t = 65_536, value_name = "BYTES")]
    pub batch_bytes: usize,
    /// Print no progress.
    #[arg(long, short = 'q')]
    pub quiet: bool,
}

/// What to read.
#[derive(Args, Debug)]
pub struct ConsumeArgs {
    /// The topic.
    pub topic: String,
    /// Where to read.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Only this partition. May be repeated.
    #[arg(long = "partition", short = 'p', value_name = "NUMBER")]
    pub partitions: Vec<i32>,
    /// Begin at the first record there is, instead of the next one to come.
    #[arg(long, short = 'f', conflicts_with = "offset")]
    pub from_beginning: bool,
    /// Begin at this offset.
    #[arg(long, short = 'o')]
    pub offset: Option<u64>,
    /// Stop after this many records.
    #[arg(long, short = 'n')]
    pub count: Option<u64>,
    /// Stop at the end that each partition had when reading began.
    #[arg(long, short = 'e')]
    pub exit_at_end: bool,
    /// Print keys, with this text between key and value.
    #[arg(long, short = 'k', value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// Print partition and offset before each record.
    #[arg(long)]
    pub offsets: bool,
    /// Print the time of each record, in milliseconds since 1970.
    #[arg(long)]
    pub timestamps: bool,
    /// Print the headers of each record.
    #[arg(long)]
    pub headers: bool,
    /// What to print for a missing key or value.
    #[arg(long, value_name = "TEXT", default_value = "null")]
    pub null_marker: String,
    /// Records of open transactions as well.
    #[arg(long)]
    pub uncommitted: bool,
    /// Print no progress.
    #[arg(long, short = 'q')]
    pub quiet: bool,
}

/// What to do with the files of a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what is in segments, indexes, snapshots and checkpoints.
    Dump {
        /// A file, or the directory of a partition.
        path: PathBuf,
        /// The records of each batch as well.
        #[arg(long, short = 'r')]
        records: bool,
    },
    /// Check every partition of a data directory: checksums, offsets, epochs, indexes.
    Verify {
        /// The data directory (`log.dirs`), or the directory of one partition.
        directory: PathBuf,
    },
}

/// Where the data will live.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// The data directory, or one on the same disk.
    #[arg(default_value = ".")]
    pub directory: PathBuf,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a configuration as `serve` would, and say what is wrong or odd with it.
    Check(ServeArgs),
    /// Print the built-in configuration, to begin a file of your own with.
    Example,
    /// Print the reference page of all settings, as Markdown.
    Reference,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_understood_as_the_documentation_writes_them() {
        let lines = [
            "corelog serve",
            "corelog serve --config config/server.properties --override num.partitions=3 -o a=b",
            "corelog topic list",
            "corelog topic create t --partitions 3 --config retention.ms=1000",
            "corelog topic describe",
            "corelog topic alter t --set retention.ms=5 --unset segment.ms",
            "corelog topic alter t --append cleanup.policy=compact --partitions 4",
            "corelog topic delete t u",
            "corelog group list --state stable --type consumer",
            "corelog group describe",
            "corelog group describe g --members",
            "corelog group describe g h --state",
            "corelog group reset g --to-earliest",
            "corelog group reset g --topic t --topic u:0,3 --shift-by -5 --execute",
            "corelog group reset g --to-datetime 2026-11-21T13:00:00 --dry-run",
            "corelog group reset g --by-duration PT1H",
            "corelog group delete g h",
            "corelog produce t --key-separator : --header a=b --compression zstd --acks 1",
            "corelog consume t --from-beginning --count 10 --partition 0 --partition 1",
            "corelog log dump data/t-0 --records",
            "corelog log verify data",
            "corelog doctor",
            "corelog bench produce --rate 5000 --duration 5 --json",
            "corelog bench produce --keys 1000 --key-bytes 24 --record-bytes 100..2000 --idempotent",
            "corelog bench produce -c 64 --acks 1 --compression lz4 --html page.html",
            "corelog bench consume -c 4",
            "corelog bench end-to-end --rate 5000 --batch-records 10 --consumers 2 --html page.html",
            "corelog bench latency --rates 1000,5000,20000 --p99-max-ms 20 --json",
            "corelog bench latency",
            "corelog bench groups --members 100 --partitions 1000 --protocol consumer --json",
            "corelog bench commits --rate 10000 -c 10 -k 10 --duration 5 --json",
            "corelog config check --config x",
        ];
        for line in lines {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        }
        let wrong = [
            "corelog consume t -f -o 3",
            "corelog group reset g",
            "corelog group reset g --to-earliest --to-latest",
            "corelog group reset g --to-earliest --dry-run --execute",
            "corelog group delete",
            "corelog bench produce --record-bytes 9..3",
            "corelog bench produce --key-bytes 9",
            "corelog bench latency --rates 10,fast",
        ];
        for line in wrong {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
