//! What can be said to `corelog group`, and the help that says so.

use clap::{Args, Subcommand};

use super::args::ClusterArgs;

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Print groups with their state, type and protocol.
    List {
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Only groups in this state: stable, empty, ... May be repeated.
        #[arg(long = "state", value_name = "STATE")]
        states: Vec<String>,
        /// Only groups of this type: classic, consumer. May be repeated.
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
    },
    /// Print what groups have committed, where their partitions end, and who consumes them.
    Describe {
        /// The groups; all when none is named.
        groups: Vec<String>,
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// A line for each member, with its partitions.
        #[arg(long, conflicts_with = "state")]
        members: bool,
        /// A line for each group, with its state, assignor and coordinator.
        #[arg(long)]
        state: bool,
    },
    /// Change the committed offsets of a group that has no members; prints what it would do unless
    /// told to --execute.
    Reset(GroupResetArgs),
    /// Delete groups that have no members, and their offsets.
    Delete {
        /// The groups.
        #[arg(required = true)]
        groups: Vec<String>,
        /// Where to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

/// What to reset, and where to.
#[derive(Args, Clone, Debug)]
pub struct GroupResetArgs {
    /// The group.
    pub group: String,
    /// Where to ask.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Only this topic, or these partitions of it; everything the group has committed without it.
    /// May be repeated.
    #[arg(long = "topic", short = 't', value_name = "TOPIC[:PARTITION,...]")]
    pub topics: Vec<String>,
    /// Where to.
    #[command(flatten)]
    pub goal: GroupResetGoal,
    /// Do it.
    #[arg(long, conflicts_with = "dry_run")]
    pub execute: bool,
    /// Print what would be done, and do nothing; so it is without --execute.
    #[arg(long)]
    pub dry_run: bool,
}

/// Where to: one of these. What lies outside of the log becomes its nearest end.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct GroupResetGoal {
    /// The first record there is.
    #[arg(long)]
    pub to_earliest: bool,
    /// Behind the last record.
    #[arg(long)]
    pub to_latest: bool,
    /// What is committed now; the end for partitions without an offset.
    #[arg(long)]
    pub to_current: bool,
    /// This offset.
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: Option<i64>,
    /// So many records on from what is committed; back when negative.
    #[arg(long, value_name = "RECORDS", allow_negative_numbers = true)]
    pub shift_by: Option<i64>,
    /// The first record of this time or later: 2026-11-21T13:00:00, UTC unless it says otherwise.
    #[arg(long, value_name = "TIME")]
    pub to_datetime: Option<String>,
    /// The first record that is not older: P1D, PT1H30M.
    #[arg(long, value_name = "DURATION")]
    pub by_duration: Option<String>,
}
