//! InitProducerId, versions 0 to 5: producer ids and epochs.

use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::wire::Str;

wire_struct! {
    /// Asks for a producer id (`InitProducerIdRequest`).
    pub struct InitProducerIdRequest {
        /// The transactional id; `None` for a producer that is only idempotent.
        pub transactional_id: Option<Str>, 0..;
        /// When a forgotten transaction is aborted, in milliseconds.
        pub transaction_timeout_ms: i32, 0..;
        /// The id the producer has, or -1 (KIP-360).
        pub producer_id: i64, 3.., default -1;
        /// The epoch the producer has, or -1 (KIP-360).
        pub producer_epoch: i16, 3.., default -1;
    }

    /// A producer id (`InitProducerIdResponse`).
    pub struct InitProducerIdResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 0..;
        /// Why there is no id, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The id; -1 on errors.
        pub producer_id: i64, 0.., default -1;
        /// The epoch; -1 on errors.
        pub producer_epoch: i16, 0.., default -1;
    }
}

message!(InitProducerIdRequest, InitProducerId, Request);
message!(InitProducerIdResponse, InitProducerId, Response);
