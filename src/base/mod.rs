//! The words every other room uses: identifiers, offsets, epochs, instants.
//!
//! Pure. Invariant: the wire's "unknown" values (-1, all-zero ids) never become one of these types;
//! they are `None` from `protocol` inwards.

mod id;
mod position;
mod time;

pub use id::{CallId, NodeId, PartitionKey, ShardId, Uuid};
pub use position::{LeaderEpoch, Offset};
pub use time::{Instant, Timestamp};
