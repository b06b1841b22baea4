//! ListConfigResources, versions 0 and 1: on what settings may be set (KIP-1142).

use crate::protocol::error::ErrorCode;
use crate::protocol::message::{message, wire_field, wire_struct};
use crate::protocol::wire::Str;

wire_struct! {
    /// Asks for resources (`ListConfigResourcesRequest`).
    pub struct ListConfigResourcesRequest {
        /// The kinds asked for, by number; none: all. Version 0 asks for client metrics.
        pub kinds: Vec<i8>, 1..;
    }

    /// The resources (`ListConfigResourcesResponse`).
    pub struct ListConfigResourcesResponse {
        /// How long a quota holds the client back, in milliseconds.
        pub throttle_time_ms: i32, 0..;
        /// Why there are none, or `ErrorCode::None`.
        pub error: ErrorCode, 0..;
        /// The resources.
        pub resources: Vec<ListedResource>, 0..;
    }

    /// A resource (`ConfigResource`).
    pub struct ListedResource {
        /// Its name.
        pub name: Str, 0..;
        /// Its kind, by number.
        pub kind: i8, 1.., default 16;
    }
}

message!(ListConfigResourcesRequest, ListConfigResources, Request);
message!(ListConfigResourcesResponse, ListConfigResources, Response);
