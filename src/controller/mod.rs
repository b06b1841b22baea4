//! What the active controller writes: a wish and the image become metadata records.
//!
//! Pure. Whoever owns the metadata log appends the records and acts on the delta that comes back;
//! as one task owns it, the image a builder sees is the one its records are applied to.
//!
//! - [`topics`]: create, delete, add partitions
//! - [`configs`]: settings, producer ids
//! - [`brokers`]: registration, elections at start, controlled shutdown

pub mod brokers;
pub mod configs;
pub mod topics;

pub use brokers::{Registration, registration_records, shutdown_records};
pub use configs::{
    PRODUCER_ID_BLOCK, ProducerIdBlock, allocate_producer_ids_records, alter_config_records,
};
pub use topics::{
    Home, NewTopic, TopicError, create_partitions_records, create_topic_records,
    delete_topic_records,
};
mod stopgap;
pub use stopgap::*;
