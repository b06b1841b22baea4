//! Answers to requests whose records the metadata log could not take: nothing was done.

use kafka_protocol::messages::{
    AlterConfigsResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse,
    ElectLeadersResponse, IncrementalAlterConfigsResponse, ListPartitionReassignmentsResponse,
};

use crate::controller::create;
use crate::controller::decision::Refusal;
use crate::protocol::{ErrorCode, Str};

/// A response that can be turned into one that says so.
pub trait Unwritten {
    /// Everything that would have been done was not, for the disk refused it. What was refused for
    /// another reason stays as it is.
    fn unwrite(&mut self);
}

fn refusal() -> Refusal {
    Refusal::new(
        ErrorCode::KafkaStorageError,
        "The metadata log could not be written: its disk is full, or failed.",
    )
}

/// The code and the sentence of a row that was a success.
fn refuse(code: &mut i16, message: &mut Option<Str>) {
    if *code == ErrorCode::None.code() {
        let refusal = refusal();
        *code = refusal.code.code();
        *message = refusal.text();
    }
}

impl Unwritten for CreateTopicsResponse {
    fn unwrite(&mut self) {
        for row in &mut self.topics {
            if row.error_code == ErrorCode::None.code() {
                *row = create::refused(&row.name, &refusal());
            }
        }
    }
}

/// For responses that are a list of rows with a code and a sentence each.
macro_rules! unwritten_rows {
    ($($response:ty, $rows:ident;)*) => {$(
        impl Unwritten for $response {
            fn unwrite(&mut self) {
                for row in &mut self.$rows {
                    refuse(&mut row.error_code, &mut row.error_message);
                }
            }
        }
    )*};
}

unwritten_rows! {
    DeleteTopicsResponse, responses;
    CreatePartitionsResponse, results;
    AlterConfigsResponse, responses;
    IncrementalAlterConfigsResponse, responses;
}

impl Unwritten for ElectLeadersResponse {
    fn unwrite(&mut self) {
        let topics = self.replica_election_results.iter_mut();
        topics
            .flat_map(|topic| &mut topic.partition_result)
            .for_each(|row| refuse(&mut row.error_code, &mut row.error_message));
    }
}

impl Unwritten for ListPartitionReassignmentsResponse {
    /// It only asks.
    fn unwrite(&mut self) {}
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
    use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;

    use super::*;

    #[test]
    fn only_what_was_a_success_is_refused() {
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let rows = [0, unknown].map(|code| DeletableTopicResult::default().with_error_code(code));
        let mut answer = DeleteTopicsResponse::default().with_responses(rows.to_vec());
        answer.unwrite();
        let codes: Vec<i16> = answer.responses.iter().map(|row| row.error_code).collect();
        assert_eq!(codes, [ErrorCode::KafkaStorageError.code(), unknown]);
        assert!(answer.responses[0].error_message.is_some());

        let row = CreatableTopicResult::default()
            .with_name(Str::from_static_str("orders").into())
            .with_num_partitions(3);
        let mut answer = CreateTopicsResponse::default().with_topics(vec![row]);
        answer.unwrite();
        let row = &answer.topics[0];
        assert_eq!((row.name.as_str(), row.num_partitions), ("orders", -1));
        assert_eq!(row.error_code, ErrorCode::KafkaStorageError.code());
    }
}
