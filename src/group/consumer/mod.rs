//! Consumer groups (KIP-848): the coordinator decides who has which partition.
//!
//! - [`assignor`]: which member gets which partition

pub mod assignor;
