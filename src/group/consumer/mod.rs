//! Consumer groups (KIP-848): the coordinator decides who has which partition.
//!
//! - [`assignor`]: which member gets which partition
//! - [`hash`]: whether the topics subscribed to changed
//! - [`regex`]: subscriptions by regular expression

pub mod assignor;
pub mod hash;
mod re2;
pub mod regex;
