//! Kafka's bytes and the values they stand for.
//!
//! ```text
//! frame   length, header, body            frame::RequestHeader::parse -> (header, body)
//! api     the table of APIs and versions  header.key.row()
//! body    hot APIs, declared here         ProduceRequest::decode(version, body)
//!         cold APIs, by `kafka_protocol`  cold::decode::<CreateTopicsRequest>(version, body)
//! answer  header.start_response(), message.encode_into(version, &mut writer), frame::finish
//! ```
//!
//! Pure. Invariants: no bytes make these decoders panic, or set aside memory for more than they
//! hold; the wire's -1, null and zero ids become `None` here. A body that does not decode is
//! [`wire::Malformed`], and its connection is to be closed.

pub mod api;
pub mod api_versions;
pub mod batch;
pub mod builder;
pub mod cold;
mod cold_layout;
pub mod compression;
pub mod consumer_group;
pub mod describe_log_dirs;
pub mod error;
pub mod fetch;
pub mod frame;
pub mod group_admin;
pub mod group_membership;
pub mod group_offsets;
pub mod init_producer_id;
pub mod list_config_resources;
pub mod list_offsets;
pub mod message;
pub mod metadata;
pub mod produce;
pub mod record;
pub mod timestamps;
pub mod validate;
pub mod wire;

pub use api::ApiKey;
pub use error::ErrorCode;
pub use message::Message;
pub use wire::{Malformed, Str};
