//! Every setting, declared once: names, types, defaults and bounds of Apache Kafka 4.3.1.
//!
//! ```text
//! settings/*      the rows; setting says what a row has, value reads and checks texts
//! load            file + environment + command line -> BrokerConfig, with words on what is odd
//! layers          start-up, cluster, broker: which one wins, and where a value comes from
//! broker, topic   the typed values in force
//! describe        what DescribeConfigs answers
//! alter           what AlterConfigs and IncrementalAlterConfigs lead to
//! reference       the page docs/reference/configuration.md
//! ```
//!
//! Pure. Invariant: a configuration in force has passed every check; texts that break a rule are
//! refused or left out before. Not here: where overrides are kept (`metadata`), who may change them
//! (`handlers`).

pub mod alter;
pub mod broker;
pub mod describe;
pub mod group_settings;
pub mod groups;
pub mod layers;
pub mod listener;
pub mod load;
pub mod properties;
pub mod reference;
pub mod setting;
pub mod settings;
pub mod topic;
pub mod value;

pub use broker::{BrokerConfig, Durability, Problem};
pub use groups::CoordinatorConfig;
pub use layers::{Overrides, Source};
pub use listener::Endpoint;
pub use topic::{Compression, TimestampKind, TopicConfig};
