//! What the benches work on: a batch, a topic, a header.

use bytes::Bytes;
use corelog::base::{Timestamp, Uuid};
use corelog::protocol::batch::BatchHeader;
use corelog::protocol::builder::{BatchBuilder, NewRecord};
use corelog::protocol::frame::RequestHeader;
use corelog::protocol::{ApiKey, Str};

/// The time of all samples.
pub const NOW: Timestamp = Timestamp::from_millis(1_767_000_000_000);

/// The name of the topic.
pub const TOPIC: &str = "orders";

/// The id of the topic.
pub const TOPIC_ID: Uuid = Uuid::from_halves(0x1234_5678_9abc_4def, 0x8123_4567_89ab_cdef);

/// A batch of records without keys, as a producer sends it.
pub fn batch(record_count: usize, value_bytes: usize) -> (BatchHeader, Bytes) {
    let value = vec![7; value_bytes];
    let mut builder = BatchBuilder::new();
    for _ in 0..record_count {
        builder.append(&NewRecord {
            timestamp: NOW.to_wire(),
            key: None,
            value: Some(&value),
            headers: &[],
        });
    }
    builder.build_with_header().expect("nothing is compressed")
}

/// The header of a request.
pub fn header(key: ApiKey, version: i16) -> RequestHeader {
    RequestHeader {
        key,
        version,
        correlation_id: 77,
        client_id: Some(Str::from_static_str("producer-1")),
    }
}
