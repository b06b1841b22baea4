//! The messages between cores.
//!
//! A question that finds its lane full is dropped, and its asker learns so at once; an answer waits
//! for room, and is lost only with the core it goes to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{CallId, LeaderEpoch, Offset, PartitionKey, ShardId, Uuid};
use crate::group::message::{List, Listed};
use crate::log::journal::Found;
use crate::metadata::{Delta, Image};
use crate::partition::produced::Produced;
use crate::partition::replica::DeleteRecordsError;
use crate::partition::{
    AppendOutcome, EpochEnd, FetchError, FetchFrom, Fetched, OffsetFound, OffsetQuery, RequiredAcks,
};
use crate::protocol::ErrorCode;
use crate::protocol::validate::Validated;
use crate::runtime::Loan;
use bytes::Bytes;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
};

/// A message from one core to another. It is owned: after the send nothing is shared but what the
/// header of `mesh` names.
pub struct Envelope {
    /// The core to answer.
    pub from: ShardId,
    /// The call, on the asking core.
    pub call: CallId,
    /// What is asked or answered.
    pub body: Body,
}

// Queues between cores hold thousands of these.
const _: () = assert!(size_of::<Envelope>() <= 64);

/// What an envelope carries.
pub enum Body {
    /// A question.
    Ask(Box<Ask>),
    /// Its answer.
    Answer(Box<Answer>),
    /// The asker of a parked read wants its answer now.
    Hurry,
}

/// A question to a core. Lists are answered in their order.
pub enum Ask {
    /// Append batches.
    Append {
        /// When they count as done.
        acks: RequiredAcks,
        /// The batches, each for a partition of its own.
        batches: Vec<(PartitionKey, Validated)>,
        /// The owner may answer the client itself.
        direct: Option<Box<Direct>>,
    },
    /// Read partitions.
    Read(ReadAsk),
    /// Find offsets by time.
    Offsets(Vec<(PartitionKey, OffsetQuery)>),
    /// Find the ends of leader epochs: the epoch the client believes in, the epoch asked for.
    EpochEnds(Vec<(PartitionKey, Option<LeaderEpoch>, LeaderEpoch)>),
    /// Delete records below an offset (as on the wire).
    DeleteRecords(Vec<(PartitionKey, i64)>),
    /// List the active producers.
    Producers(Vec<PartitionKey>),
    /// Sizes of all partitions of the core.
    Sizes,
    /// Requests to group coordinators, each with its partition of `__consumer_offsets`. The answer
    /// follows when all have theirs.
    Groups(Vec<(i32, crate::group::Request)>),
    /// The groups of the core.
    ListGroups(List),
    /// Begin: open the partitions this core owns.
    Start(Arc<StartUp>),
    /// Wait until every log has been opened, or could not be.
    Recovered,
    /// All cores have begun: listen for clients.
    Listen,
    /// The metadata changed.
    Apply {
        /// The metadata now.
        image: Arc<Image>,
        /// What changed since the last one.
        delta: Arc<Delta>,
    },
    /// What belongs into the checkpoint files.
    Checkpoints {
        /// Whether to sync what is written first.
        flush: bool,
    },
    /// Start no more requests, and answer once none is in flight.
    Drain,
    /// Close all partitions cleanly.
    Close,
    /// End: the core's main function returns.
    Exit,
    /// A request for the controller; only core 0 gets these.
    Control(ControlAsk),
}

/// What an owner needs to answer a Produce request itself.
pub struct Direct {
    /// The right to send on the client's connection.
    pub loan: Loan,
    /// The answer, but for the outcomes.
    pub produced: Produced,
}

/// The answer to an [`Ask`] of the same name.
pub enum Answer {
    /// How the appends ended.
    Append(Vec<AppendOutcome>),
    /// The appends were taken, and the client was answered.
    Answered,
    /// The appends were taken; the client's answer, or the rest of it.
    Unsent(Bytes),
    /// What was read.
    Read {
        /// A result a partition.
        results: Vec<Result<Fetched, FetchError>>,
        /// Whether it had to be waited for.
        has_waited: bool,
    },
    /// The offsets found.
    Offsets(Vec<Result<OffsetFound, FetchError>>),
    /// The epochs' ends; `None` when unknown.
    EpochEnds(Vec<Result<Option<EpochEnd>, FetchError>>),
    /// The new low watermarks.
    DeleteRecords(Vec<Result<Offset, DeleteRecordsError>>),
    /// The active producers.
    Producers(Vec<Result<Vec<ProducerState>, FetchError>>),
    /// The partitions and their sizes in bytes.
    Sizes(Vec<(PartitionKey, u64)>),
    /// The coordinators' answers.
    Groups(Vec<crate::group::Answer>),
    /// The groups, and the error of a coordinator that can not tell its own.
    ListGroups(ErrorCode, Vec<Listed>),
    /// It was done: this core acts on it.
    Applied,
    /// The lines of the checkpoint files.
    Checkpoints {
        /// A line a partition.
        lines: Vec<CheckpointLine>,
        /// Whether any may differ from the last time.
        changed: bool,
    },
    /// Whether every log is open.
    Recovered(bool),
    /// Everything is closed. Whether all of it cleanly.
    Closed {
        /// The last lines of the checkpoint files.
        lines: Vec<CheckpointLine>,
        /// Whether every partition was closed without an error.
        clean: bool,
    },
    /// The controller's answer.
    Control(ControlAnswer),
}

/// What a core begins with.
#[derive(Debug)]
pub struct StartUp {
    /// The metadata.
    pub image: Arc<Image>,
    /// The cluster's id.
    pub cluster_id: String,
    /// What the checkpoint files said.
    pub checkpoints: Checkpoints,
    /// Whether the last process ended cleanly: then no log needs to be checked.
    pub clean: bool,
    /// What the journals have, when it did not.
    pub journals: Found,
}

/// The checkpoint files of the log directory, by topic and partition.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    /// `recovery-point-offset-checkpoint`.
    pub recovery_points: BTreeMap<(String, i32), Offset>,
    /// `log-start-offset-checkpoint`.
    pub log_starts: BTreeMap<(String, i32), Offset>,
    /// `replication-offset-checkpoint`.
    pub high_watermarks: BTreeMap<(String, i32), Offset>,
}

/// A read of several partitions of one core.
pub struct ReadAsk {
    /// The partitions, in the order of the request.
    pub partitions: Vec<(PartitionKey, FetchFrom)>,
    /// Bytes for all of them; a first batch may exceed it.
    pub bytes_max: u32,
    /// With fewer bytes than this, the read waits.
    pub bytes_min: u32,
    /// For how long it waits; `None` answers at once.
    pub wait: Option<Duration>,
}

/// One partition's lines in the checkpoint files.
#[derive(Clone, Debug)]
pub struct CheckpointLine {
    /// The partition's topic.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// All below it is synced.
    pub recovery_point: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The log start, where DeleteRecords moved it above the first segment's base.
    pub log_start: Option<Offset>,
}

/// A request that becomes metadata records.
pub enum ControlAsk {
    /// CreateTopics, with the version it came in.
    CreateTopics(CreateTopicsRequest, i16),
    /// Automatic creation of topics by name.
    AutoCreate(Vec<String>),
    /// DeleteTopics, with the version it came in.
    DeleteTopics(DeleteTopicsRequest, i16),
    /// CreatePartitions.
    CreatePartitions(CreatePartitionsRequest),
    /// AlterConfigs.
    AlterConfigs(AlterConfigsRequest),
    /// IncrementalAlterConfigs.
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
    /// ElectLeaders.
    ElectLeaders(ElectLeadersRequest),
    /// ListPartitionReassignments.
    ListPartitionReassignments(ListPartitionReassignmentsRequest),
    /// A block of producer ids for one core.
    AllocateProducerIds,
    /// This node ends: it gives up its leaderships, and the log takes nothing more.
    Resign,
}

/// The controller's answer to a [`ControlAsk`].
pub enum ControlAnswer {
    /// To CreateTopics.
    CreateTopics(CreateTopicsResponse),
    /// To automatic creation: it was tried.
    AutoCreated,
    /// To DeleteTopics.
    DeleteTopics(DeleteTopicsResponse),
    /// To CreatePartitions.
    CreatePartitions(CreatePartitionsResponse),
    /// To AlterConfigs.
    AlterConfigs(AlterConfigsResponse),
    /// To IncrementalAlterConfigs.
    IncrementalAlterConfigs(IncrementalAlterConfigsResponse),
    /// To ElectLeaders.
    ElectLeaders(ElectLeadersResponse),
    /// To ListPartitionReassignments.
    ListPartitionReassignments(ListPartitionReassignmentsResponse),
    /// A block of producer ids, half open; `None` when the log refused.
    ProducerIds(Option<std::ops::Range<i64>>),
    /// The epoch under which this node was registered; `None` when the log refused.
    Resigned(Option<i64>),
}
