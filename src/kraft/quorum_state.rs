//! The file `quorum-state`: who leads, and who was voted for, as Apache Kafka writes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{LeaderEpoch, NodeId, Uuid};

/// Name of the file, in the directory of the metadata log.
pub const QUORUM_STATE_FILE: &str = "quorum-state";

/// The state of the last election this replica knows of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuorumState {
    /// Number of the election.
    pub epoch: LeaderEpoch,
    /// Who won it, if that is known.
    pub leader: Option<NodeId>,
    /// Whom this replica voted for in it, with the directory of the one.
    pub voted: Option<(NodeId, Option<Uuid>)>,
}

/// Why a `quorum-state` can not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuorumStateError(String);

impl fmt::Display for QuorumStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file {QUORUM_STATE_FILE} can not be read: {}", self.0)
    }
}

impl std::error::Error for QuorumStateError {}

const NO_DIRECTORY: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The file's JSON; versions 0 and 1 (KIP-853).
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    leader_id: i32,
    leader_epoch: i32,
    voted_id: i32,
    #[serde(default)]
    voted_directory_id: Option<String>,
    #[serde(rename = "data_version")]
    data_version: i16,
}

impl QuorumState {
    /// Reads the file.
    pub fn parse(text: &[u8]) -> Result<Self, QuorumStateError> {
        let json: Json =
            serde_json::from_slice(text).map_err(|error| QuorumStateError(error.to_string()))?;
        if !(0..=1).contains(&json.data_version) {
            return Err(QuorumStateError(format!("unknown version {}", json.data_version)));
        }
        let epoch = LeaderEpoch::from_wire(json.leader_epoch.max(0)).unwrap_or_default();
        let node = |raw: i32| (raw >= 0).then_some(NodeId(raw));
        let directory = match json.voted_directory_id.as_deref() {
            None | Some(NO_DIRECTORY) => None,
            Some(text) => {
                Some(text.parse().map_err(|_| QuorumStateError("votedDirectoryId".to_owned()))?)
            }
        };
        let voted = node(json.voted_id).map(|node| (node, directory));
        Ok(Self { epoch, leader: node(json.leader_id), voted })
    }

    /// The file's text, in the version that goes with `kraft.version` 1.
    pub fn to_text(self) -> Vec<u8> {
        let directory = self.voted.and_then(|(_, directory)| directory);
        let json = Json {
            leader_id: self.leader.map_or(-1, |node| node.0),
            leader_epoch: self.epoch.to_wire(),
            voted_id: self.voted.map_or(-1, |(node, _)| node.0),
            voted_directory_id: Some(
                directory.map_or(NO_DIRECTORY.to_owned(), |id| id.to_string()),
            ),
            data_version: 1,
        };
        serde_json::to_vec(&json).unwrap_or_default()
    }
}
