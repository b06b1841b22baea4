//! What clients ask a group's coordinator and what it answers, as plain values.
//!
//! Handlers translate between these and the wire: a "" or -1 of the wire is `None` here.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Uuid};
use crate::group::record::kept;
use crate::protocol::{ErrorCode, Str};

/// The caller's name for a request that waits for its answer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// A request. Lists of groups hold those of this partition only.
#[derive(Clone, Debug)]
pub enum Request {
    /// A member joins or rejoins.
    Join(Join),
    /// A member asks for its assignment; the leader brings everybody's.
    Sync(Sync),
    /// A member is alive.
    Heartbeat(Heartbeat),
    /// Members leave.
    Leave(Leave),
    /// Offsets to keep.
    Commit(Commit),
    /// Offsets that were kept.
    Fetch(Fetch),
    /// Offsets to forget.
    DeleteOffsets(DeleteOffsets),
    /// Which groups there are.
    List(List),
    /// What groups are like.
    Describe(Describe),
    /// Groups to forget, with their offsets.
    Delete(Vec<Str>),
    /// A member of a consumer group joins, is alive, or leaves.
    ConsumerHeartbeat(ConsumerHeartbeat),
    /// What consumer groups are like: ConsumerGroupDescribe.
    ConsumerDescribe(Vec<Str>),
}

/// ConsumerGroupHeartbeat (KIP-848).
#[derive(Clone, Debug, Default)]
pub struct ConsumerHeartbeat {
    /// The request's version: from 1 on members bring an id of their own.
    pub version: i16,
    /// The group.
    pub group: Str,
    /// The member id; "" for a member that has none yet.
    pub member: Str,
    /// The member's epoch; 0 to join, -1 to leave, -2 to leave for a while (static members).
    pub epoch: i32,
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// The rack; `None` when it did not change, as with all that follows.
    pub rack: Option<Str>,
    /// How long it may take to give partitions back, in milliseconds; -1 on the wire is `None`.
    pub rebalance_timeout_ms: Option<i32>,
    /// Names of topics it subscribes to.
    pub topics: Option<Vec<Str>>,
    /// A regular expression for topics it subscribes to; "" for none any more.
    pub expression: Option<Str>,
    /// The assignor it asks for.
    pub assignor: Option<Str>,
    /// The partitions it has.
    pub owned: Option<Vec<(Uuid, Vec<i32>)>>,
    /// The client id.
    pub client_id: Str,
    /// The client's address, as Java prints it: `/127.0.0.1`.
    pub client_host: Str,
    /// Sixteen random bytes, in case the member needs an id.
    pub random: [u8; 16],
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct Join {
    /// The request's version: 4 and later must come back with their id (KIP-394), 9 and later may
    /// be told to skip the assignment (KIP-814).
    pub version: i16,
    /// The group.
    pub group: Str,
    /// The member id; `None` for a member that has none yet.
    pub member: Option<Str>,
    /// The instance id of a static member (KIP-345).
    pub instance: Option<Str>,
    /// What kind of group it is to be.
    pub protocol_type: Str,
    /// The protocols the member knows, the best first, each with the member's metadata.
    pub protocols: Vec<(Str, Bytes)>,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for it, in milliseconds; version 0: the session timeout.
    pub rebalance_timeout_ms: i32,
    /// The client id.
    pub client_id: Str,
    /// The client's address, as Java prints it: `/127.0.0.1`.
    pub client_host: Str,
    /// Sixteen random bytes, in case the member needs an id.
    pub random: [u8; 16],
}

impl Join {
    /// Its protocols, not holding on to its frame. A name given twice counts once.
    pub(in crate::group) fn kept_protocols(&self) -> impl Iterator<Item = (Str, Bytes)> {
        let mut names: BTreeSet<&Str> = BTreeSet::new();
        let new_ones = self.protocols.iter().filter(move |(name, _)| names.insert(name));
        new_ones.map(|(name, metadata)| (kept(name), Bytes::copy_from_slice(metadata)))
    }
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct Sync {
    /// The group.
    pub group: Str,
    /// The member id.
    pub member: Str,
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// The generation the member joined.
    pub generation: i32,
    /// The kind of group it believes in, from version 5 on.
    pub protocol_type: Option<Str>,
    /// The protocol it believes in, from version 5 on.
    pub protocol: Option<Str>,
    /// Members and what they are assigned, from the leader.
    pub assignments: Vec<(Str, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group: Str,
    /// The member id.
    pub member: Str,
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// The generation the member is in.
    pub generation: i32,
}

/// LeaveGroup, as of version 3: several members at once.
#[derive(Clone, Debug)]
pub struct Leave {
    /// The group.
    pub group: Str,
    /// Who leaves.
    pub members: Vec<Leaving>,
}

/// A member that leaves: by its id, or a static one by its instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaving {
    /// The member id.
    pub member: Option<Str>,
    /// The instance id.
    pub instance: Option<Str>,
    /// Why it leaves (KIP-800); for the log.
    pub reason: Option<Str>,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The request's version: from 9 on an unknown group has an error of its own.
    pub version: i16,
    /// The group.
    pub group: Str,
    /// The member id; `None` for a client that is no member.
    pub member: Option<Str>,
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// The member's generation or epoch; `None` for a client that is no member.
    pub generation: Option<i32>,
    /// How long to keep the offsets, in milliseconds; versions 2 to 4.
    pub retention_ms: Option<i64>,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// A topic's offsets to keep.
#[derive(Clone, Debug)]
pub struct CommitTopic {
    /// The topic's name.
    pub name: Str,
    /// Its id, where it is known.
    pub id: Option<Uuid>,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// A partition's offset to keep.
#[derive(Clone, Debug)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The leader epoch of the last record consumed.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's note.
    pub metadata: Option<Str>,
}

/// OffsetFetch, of one group.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The group.
    pub group: Str,
    /// Which offsets; `None` for all.
    pub topics: Option<Vec<FetchTopic>>,
    /// Whether offsets that a transaction may yet change are refused (KIP-447).
    pub require_stable: bool,
    /// The member id, from version 9 on; `None` for a client that is no member.
    pub member: Option<Str>,
    /// The member's epoch, from version 9 on; `None`, -1 on the wire, for a client that is none.
    pub member_epoch: Option<i32>,
}

impl Fetch {
    /// A request for all offsets of a group, by a client that is no member.
    pub fn of(group: Str) -> Self {
        Self { group, topics: None, require_stable: false, member: None, member_epoch: None }
    }
}

/// A topic whose offsets are asked for.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    /// The topic's name.
    pub name: Str,
    /// Its id: offsets of another topic of this name do not count.
    pub id: Option<Uuid>,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// OffsetDelete.
#[derive(Clone, Debug)]
pub struct DeleteOffsets {
    /// The group.
    pub group: Str,
    /// Topics and their partitions.
    pub topics: Vec<(Str, Vec<i32>)>,
}

/// ListGroups.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// Only groups in these states, by their names; none: all.
    pub states: Vec<Str>,
    /// Only groups of these types, by their names; none: all.
    pub types: Vec<Str>,
}

/// DescribeGroups.
#[derive(Clone, Debug)]
pub struct Describe {
    /// The request's version: before 6 an unknown group is a dead one, and no error.
    pub version: i16,
    /// The groups.
    pub groups: Vec<Str>,
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// To [`Join`].
    Join(Joined),
    /// To [`Sync`].
    Sync(Synced),
    /// To [`Heartbeat`].
    Heartbeat(ErrorCode),
    /// To [`Leave`].
    Leave(Left),
    /// To [`Commit`]: each partition's error, in the order of the request.
    Commit(Vec<(Str, Vec<(i32, ErrorCode)>)>),
    /// To [`Fetch`].
    Fetch(Fetched),
    /// To [`DeleteOffsets`]: the request's error, or each partition's.
    DeleteOffsets(ErrorCode, Vec<(Str, Vec<(i32, ErrorCode)>)>),
    /// To [`List`].
    List(ErrorCode, Vec<Listed>),
    /// To [`Describe`].
    Describe(Vec<Described>),
    /// To [`Request::Delete`].
    Delete(Vec<(Str, ErrorCode)>),
    /// To [`ConsumerHeartbeat`].
    ConsumerHeartbeat(Result<ConsumerBeat, Refusal>),
    /// To [`Request::ConsumerDescribe`], in the order of the request.
    ConsumerDescribe(Vec<(Str, Result<ConsumerDescribed, Refusal>)>),
}

/// Why a request is refused, with Kafka's words for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The error.
    pub error: ErrorCode,
    /// The error in words; `None` when the error says it all.
    pub message: Option<String>,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()) }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None }
    }
}

/// The answer to ConsumerGroupHeartbeat. On errors the wire has no member id, and 0 for the rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerBeat {
    /// The member id.
    pub member: Str,
    /// The member's epoch from now on; -1 or -2 when it left.
    pub epoch: i32,
    /// When the next heartbeat is expected, in milliseconds; 0 for a member that left.
    pub heartbeat_interval_ms: i32,
    /// All it is to have; `None`, null on the wire, when that did not change.
    pub assignment: Option<Vec<(Uuid, Vec<i32>)>>,
}

/// A consumer group in detail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerDescribed {
    /// The state's name.
    pub state: &'static str,
    /// The group's epoch.
    pub epoch: i32,
    /// The epoch of its target assignment; -1 before the first.
    pub assignment_epoch: i32,
    /// The assignor in use.
    pub assignor: Str,
    /// The members.
    pub members: Vec<ConsumerDescribedMember>,
}

/// A member of a consumer group in detail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerDescribedMember {
    /// The member id.
    pub id: Str,
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// The rack.
    pub rack: Option<Str>,
    /// The member's epoch.
    pub epoch: i32,
    /// The client id.
    pub client_id: Str,
    /// The address it comes from.
    pub client_host: Str,
    /// Names of topics it subscribes to.
    pub topics: Vec<Str>,
    /// The regular expression it subscribes to, or "".
    pub expression: Str,
    /// What it has, what it is to give back included.
    pub assignment: Vec<TopicPartitions>,
    /// What it is to have.
    pub target: Vec<TopicPartitions>,
    /// Whether it speaks the classic protocol: member type 0 on the wire, otherwise 1.
    pub is_classic: bool,
}

/// Partitions of a topic, with its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicPartitions {
    /// The topic's id.
    pub id: Uuid,
    /// Its name.
    pub name: Str,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// The answer to JoinGroup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Joined {
    /// Why the member is not in.
    pub error: ErrorCode,
    /// The member id, or "".
    pub member: Str,
    /// The generation; -1 on errors.
    pub generation: i32,
    /// The kind of group.
    pub protocol_type: Option<Str>,
    /// The chosen protocol; before version 7 null is written as "".
    pub protocol: Option<Str>,
    /// The leader's member id, or "".
    pub leader: Str,
    /// Whether the leader need not assign (KIP-814).
    pub skip_assignment: bool,
    /// For the leader: the members, with what they said for the chosen protocol.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinedMember {
    /// The member id.
    pub id: Str,
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// What it said for the chosen protocol.
    pub metadata: Bytes,
}

impl Joined {
    /// A refusal.
    pub fn refused(error: ErrorCode, member: Str) -> Self {
        Self {
            error,
            member,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: Str::default(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// The answer to SyncGroup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Synced {
    /// Why there is no assignment.
    pub error: ErrorCode,
    /// The kind of group.
    pub protocol_type: Option<Str>,
    /// The chosen protocol.
    pub protocol: Option<Str>,
    /// The assignment; empty on errors, and when the leader forgot the member.
    pub assignment: Bytes,
}

impl Synced {
    /// A refusal.
    pub fn refused(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// The answer to LeaveGroup. Before version 3 the first error counts for all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Left {
    /// Why nobody left.
    pub error: ErrorCode,
    /// Who left, or why not, in the order of the request.
    pub members: Vec<(Leaving, ErrorCode)>,
}

/// The answer to OffsetFetch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// The group.
    pub group: Str,
    /// Why there are none at all.
    pub error: ErrorCode,
    /// The offsets.
    pub topics: Vec<FetchedTopic>,
}

/// A topic's committed offsets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: Str,
    /// The topic's id, as it was asked for or committed.
    pub id: Option<Uuid>,
    /// The offsets.
    pub partitions: Vec<FetchedPartition>,
}

/// A partition's committed offset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// Why it can not be told now.
    pub error: ErrorCode,
    /// The offset; `None`, -1 on the wire, when none is known.
    pub offset: Option<i64>,
    /// The leader epoch that was committed with it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The note that was committed with it.
    pub metadata: Str,
}

/// A group in a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// The group.
    pub group: Str,
    /// The kind of group, or "".
    pub protocol_type: Str,
    /// The state's name.
    pub state: &'static str,
    /// The type's name.
    pub kind: &'static str,
}

/// A group in detail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// Why it can not be described.
    pub error: ErrorCode,
    /// The error in words.
    pub message: Option<String>,
    /// The group.
    pub group: Str,
    /// The state's name.
    pub state: &'static str,
    /// The kind of group, or "".
    pub protocol_type: Str,
    /// The chosen protocol, or ""; known when stable.
    pub protocol: Str,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member in detail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescribedMember {
    /// The member id.
    pub id: Str,
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// The client id it joined with.
    pub client_id: Str,
    /// The address it joined from.
    pub client_host: Str,
    /// What it said for the chosen protocol; empty unless stable.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

impl Request {
    /// The answer that refuses the request with `error`.
    pub fn refusal(&self, error: ErrorCode) -> Answer {
        let none = |partitions: &[i32]| partitions.iter().map(|at| (*at, error)).collect();
        match self {
            Self::Join(join) => {
                Answer::Join(Joined::refused(error, join.member.clone().unwrap_or_default()))
            }
            Self::Sync(_) => Answer::Sync(Synced::refused(error)),
            // A member should not be driven off by a coordinator that is only loading.
            Self::Heartbeat(_) if error == ErrorCode::CoordinatorLoadInProgress => {
                Answer::Heartbeat(ErrorCode::None)
            }
            Self::Heartbeat(_) => Answer::Heartbeat(error),
            Self::Leave(_) => Answer::Leave(Left { error, members: Vec::new() }),
            Self::Commit(commit) => {
                let topic = |topic: &CommitTopic| {
                    let partitions: Vec<i32> =
                        topic.partitions.iter().map(|at| at.partition).collect();
                    (topic.name.clone(), none(&partitions))
                };
                Answer::Commit(commit.topics.iter().map(topic).collect())
            }
            Self::Fetch(fetch) => {
                Answer::Fetch(Fetched { group: fetch.group.clone(), error, topics: Vec::new() })
            }
            Self::DeleteOffsets(_) => Answer::DeleteOffsets(error, Vec::new()),
            Self::List(_) => Answer::List(error, Vec::new()),
            Self::Describe(describe) => Answer::Describe(
                describe.groups.iter().map(|group| Described::refused(error, group)).collect(),
            ),
            Self::Delete(groups) => {
                Answer::Delete(groups.iter().map(|group| (group.clone(), error)).collect())
            }
            Self::ConsumerHeartbeat(_) => Answer::ConsumerHeartbeat(Err(error.into())),
            Self::ConsumerDescribe(groups) => Answer::ConsumerDescribe(
                groups.iter().map(|group| (group.clone(), Err(error.into()))).collect(),
            ),
        }
    }
}

impl Described {
    /// A group that can not be described.
    pub fn refused(error: ErrorCode, group: &Str) -> Self {
        Self {
            error,
            message: None,
            group: group.clone(),
            state: "",
            protocol_type: Str::default(),
            protocol: Str::default(),
            members: Vec::new(),
        }
    }
}

impl Answer {
    /// The answer after the records it waited for could not be written.
    ///
    /// What had failed on its own account keeps its own error.
    pub fn failed(self, error: ErrorCode) -> Self {
        let all = |topics: Vec<(Str, Vec<(i32, ErrorCode)>)>| {
            let each = |(at, own): (i32, ErrorCode)| (at, if own.is_error() { own } else { error });
            let topic = |(name, partitions): (Str, Vec<_>)| {
                (name, partitions.into_iter().map(each).collect())
            };
            topics.into_iter().map(topic).collect()
        };
        match self {
            Self::Join(joined) => Self::Join(Joined::refused(error, joined.member)),
            Self::Sync(_) => Self::Sync(Synced::refused(error)),
            Self::Heartbeat(_) => Self::Heartbeat(error),
            Self::Leave(_) => Self::Leave(Left { error, members: Vec::new() }),
            Self::Commit(topics) => Self::Commit(all(topics)),
            Self::Fetch(fetched) => Self::Fetch(Fetched { error, topics: Vec::new(), ..fetched }),
            Self::DeleteOffsets(..) => Self::DeleteOffsets(error, Vec::new()),
            Self::List(..) => Self::List(error, Vec::new()),
            Self::Describe(groups) => Self::Describe(
                groups.iter().map(|group| Described::refused(error, &group.group)).collect(),
            ),
            Self::Delete(groups) => Self::Delete(
                groups
                    .into_iter()
                    .map(|(group, own)| (group, if own.is_error() { own } else { error }))
                    .collect(),
            ),
            Self::ConsumerHeartbeat(result) => {
                Self::ConsumerHeartbeat(result.and(Err(error.into())))
            }
            Self::ConsumerDescribe(groups) => Self::ConsumerDescribe(
                groups.into_iter().map(|(group, _)| (group, Err(error.into()))).collect(),
            ),
        }
    }
}
