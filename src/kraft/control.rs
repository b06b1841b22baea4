//! Control records of the metadata log and of snapshots.
//!
//! A control record's key is its version and type, two 16-bit numbers; its value is a message whose
//! first field is the message's version.

use bytes::{BufMut, Bytes};

use crate::base::{NodeId, Uuid};
use crate::metadata::DecodeError;
use crate::metadata::codec::{Input, Wire, message};

message! {
    /// A voter in [`LeaderChangeMessage`].
    LeaderVoter {
        /// The voter.
        node: NodeId => 0,
        /// Its log directory.
        directory: Option<Uuid> => 1,
    }
}

message! {
    /// The first record of a leader's epoch.
    LeaderChangeMessage {
        /// Version of the message, 0 or 1.
        version: i16 => 0,
        /// The leader.
        leader: NodeId => 0,
        /// Who may vote.
        voters: Vec<LeaderVoter> => 0,
        /// Who voted for the leader.
        granting_voters: Vec<LeaderVoter> => 0,
    }
}

message! {
    /// The first record of a snapshot.
    SnapshotHeader {
        /// Version of the message, 0.
        version: i16 => 0,
        /// When the last record in the snapshot was appended, ms.
        last_contained_log_timestamp: i64 => 0,
    }
}

message! {
    /// The last record of a snapshot.
    SnapshotFooter {
        /// Version of the message, 0.
        version: i16 => 0,
    }
}

message! {
    /// The finalized level of `kraft.version` (KIP-853).
    KRaftVersion {
        /// Version of the message, 0.
        version: i16 => 0,
        /// 1 when the voters are in the log, 0 when they are in everybody's configuration.
        level: i16 => 0,
    }
}

message! {
    /// Where a voter is reached.
    VoterEndpoint {
        /// The listener's name.
        name: String => 0,
        /// Host name or address.
        host: String => 0,
        /// TCP port.
        port: u16 => 0,
    }
}

message! {
    /// Levels of `kraft.version` that a voter supports.
    VoterRange {
        /// Lowest.
        min: i16 => 0,
        /// Highest.
        max: i16 => 0,
    }
}

message! {
    /// A voter of the quorum.
    Voter {
        /// The voter.
        node: NodeId => 0,
        /// Its log directory.
        directory: Option<Uuid> => 0,
        /// Where it is reached.
        endpoints: Vec<VoterEndpoint> => 0,
        /// What it supports.
        kraft_version: VoterRange => 0,
    }
}

message! {
    /// The quorum's voters (KIP-853).
    Voters {
        /// Version of the message, 0.
        version: i16 => 0,
        /// The voters.
        voters: Vec<Voter> => 0,
    }
}

/// A control record.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlRecord {
    /// A leader begins its epoch.
    LeaderChange(LeaderChangeMessage),
    /// A snapshot begins.
    SnapshotHeader(SnapshotHeader),
    /// A snapshot ends.
    SnapshotFooter(SnapshotFooter),
    /// The `kraft.version` that holds from here on.
    KRaftVersion(KRaftVersion),
    /// The voters from here on.
    Voters(Voters),
    /// A type this program does not know; without effect, as in Apache Kafka.
    Unknown(i16),
}

const LEADER_CHANGE: i16 = 2;
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;
const KRAFT_VERSION: i16 = 5;
const KRAFT_VOTERS: i16 = 6;

impl ControlRecord {
    /// The record's type.
    fn kind(&self) -> i16 {
        match self {
            Self::LeaderChange(_) => LEADER_CHANGE,
            Self::SnapshotHeader(_) => SNAPSHOT_HEADER,
            Self::SnapshotFooter(_) => SNAPSHOT_FOOTER,
            Self::KRaftVersion(_) => KRAFT_VERSION,
            Self::Voters(_) => KRAFT_VOTERS,
            Self::Unknown(kind) => *kind,
        }
    }

    /// The record's key and value.
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut key = Vec::with_capacity(4);
        key.put_i16(0);
        key.put_i16(self.kind());
        let mut value = Vec::new();
        match self {
            Self::LeaderChange(message) => message.encode(message.version, &mut value),
            Self::SnapshotHeader(message) => message.encode(message.version, &mut value),
            Self::SnapshotFooter(message) => message.encode(message.version, &mut value),
            Self::KRaftVersion(message) => message.encode(message.version, &mut value),
            Self::Voters(message) => message.encode(message.version, &mut value),
            Self::Unknown(_) => {}
        }
        (key.into(), value.into())
    }

    /// Reads a record from its key and value.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let mut key = Input::new(key);
        let _key_version = i16::decode(0, &mut key)?;
        let kind = i16::decode(0, &mut key)?;
        Ok(match kind {
            LEADER_CHANGE => Self::LeaderChange(decode(value, "LeaderChange", 1)?),
            SNAPSHOT_HEADER => Self::SnapshotHeader(decode(value, "SnapshotHeader", 0)?),
            SNAPSHOT_FOOTER => Self::SnapshotFooter(decode(value, "SnapshotFooter", 0)?),
            KRAFT_VERSION => Self::KRaftVersion(decode(value, "KRaftVersion", 0)?),
            KRAFT_VOTERS => Self::Voters(decode(value, "KRaftVoters", 0)?),
            unknown => Self::Unknown(unknown),
        })
    }
}

fn decode<T: Wire>(value: &[u8], record: &'static str, newest: i16) -> Result<T, DecodeError> {
    let version = i16::decode(0, &mut Input::new(value))?;
    if !(0..=newest).contains(&version) {
        return Err(DecodeError::UnknownVersion { record, version });
    }
    let mut input = Input::new(value);
    let message = T::decode(version, &mut input)?;
    input.finish()?;
    Ok(message)
}
