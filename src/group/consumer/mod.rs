//! Consumer groups (KIP-848): the coordinator decides who has which partition.
//!
//! - [`assignor`]: which member gets which partition
//! - [`hash`]: whether the topics subscribed to changed

pub mod assignor;
pub mod hash;
