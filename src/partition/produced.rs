//! How appends end on the wire: the answer to a Produce request.

use bytes::Bytes;

use crate::partition::message::{AppendFailure, AppendOutcome};
use crate::protocol::frame::{finish, start_response};
use crate::protocol::produce::{ProducePartitionResponse, ProduceResponse};
use crate::protocol::{ApiKey, ErrorCode, Message};

/// Where a partition's answer goes: topic and partition in the answer.
pub type Place = (usize, usize);

/// An answer to a Produce request whose appends are under way.
pub struct Produced {
    /// Of the request.
    pub version: i16,
    /// Of the request.
    pub correlation_id: i32,
    /// Where the outcomes go, in the order of the appends.
    pub places: Vec<Place>,
    /// All else.
    pub response: ProduceResponse,
}

impl Produced {
    /// The whole frame, with the outcomes of the appends in it.
    pub fn frame(mut self, outcomes: Vec<AppendOutcome>) -> Bytes {
        fill(&self.places, outcomes, &mut self.response);
        let mut writer = start_response(ApiKey::Produce, self.version, self.correlation_id);
        self.response.encode_into(self.version, &mut writer);
        finish(writer).into_bytes()
    }
}

/// Puts outcomes where they belong.
pub fn fill(places: &[Place], outcomes: Vec<AppendOutcome>, response: &mut ProduceResponse) {
    for ((topic, partition), outcome) in places.iter().zip(outcomes) {
        let place = &mut response.topics[*topic].partitions[*partition];
        *place = outcome_of(place.index, outcome);
    }
}

/// A partition's answer that tells of an error and nothing else.
pub fn refusal(index: i32, error: ErrorCode) -> ProducePartitionResponse {
    ProducePartitionResponse { index, error, ..ProducePartitionResponse::default() }
}

fn outcome_of(index: i32, outcome: AppendOutcome) -> ProducePartitionResponse {
    let failure = match outcome {
        Ok(appended) => {
            return ProducePartitionResponse {
                base_offset: Some(appended.base_offset),
                log_append_time: appended.append_time,
                log_start_offset: Some(appended.log_start),
                ..refusal(index, ErrorCode::None)
            };
        }
        Err(failure) => failure,
    };
    match failure {
        AppendFailure::NotLeader => refusal(index, ErrorCode::NotLeaderOrFollower),
        AppendFailure::NotEnoughReplicas { log_start } => ProducePartitionResponse {
            log_start_offset: Some(log_start),
            ..refusal(index, ErrorCode::NotEnoughReplicas)
        },
        AppendFailure::NotEnoughReplicasAfterAppend => {
            refusal(index, ErrorCode::NotEnoughReplicasAfterAppend)
        }
        AppendFailure::Sequence { error, log_start } => ProducePartitionResponse {
            log_start_offset: Some(log_start),
            ..refusal(index, ErrorCode::from(error))
        },
        AppendFailure::Storage => refusal(index, ErrorCode::KafkaStorageError),
    }
}
