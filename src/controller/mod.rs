//! What the active controller writes: a wish and the image become metadata records.
//!
//! Pure. Whoever owns the metadata log appends the records and acts on the delta that comes back;
//! as one task owns it, the image a builder sees is the one its records are applied to.
//!
//! - [`topics`]: create, delete, add partitions
//! - [`configs`]: settings, producer ids
//! - [`brokers`]: registration, elections at start, controlled shutdown
//! - `create`, `requests`, `settings`: the admin requests of clients, checked and answered;
//!   `unwritten`: answers when the metadata log refused their records

pub mod brokers;
pub mod configs;
mod create;
mod decision;
mod requests;
mod settings;
pub mod topics;
mod unwritten;

pub use brokers::{Registration, registration_records, shutdown_records};
pub use configs::{
    PRODUCER_ID_BLOCK, ProducerIdBlock, allocate_producer_ids_records, alter_config_records,
};
pub use create::{auto_create, create_partitions, create_topics};
pub use decision::{Context, Decision};
pub use requests::{
    allocate_producer_ids, delete_topics, elect_leaders, list_partition_reassignments,
};
pub use settings::{alter_configs, describe_configs, incremental_alter_configs};
pub use topics::{
    Home, NewTopic, TopicError, create_partitions_records, create_topic_records,
    delete_topic_records,
};
pub use unwritten::Unwritten;
