//! What one core owns, and how cores ask each other.
//!
//! A [`Shard`] is everything a core owns: its partitions, its view of the metadata, its calls in
//! flight, its memory budget. Cores exchange [`Envelope`]s over the runtime's lanes: a question
//! ([`Ask`]) has a number and gets one [`Answer`] with the same number. A question to the own core
//! takes the same path without the lane.
//!
//! Invariant: nothing is shared between cores but what an envelope carries: owned values,
//! immutable `Bytes` and images, leases on open files, and the right to send one answer on a
//! client's socket.

mod apply;
mod early;
mod groups;
pub mod memory;
pub mod message;
mod owner;
mod read;
pub mod settings;
pub mod shard;

pub use memory::Memory;
pub use message::{
    Answer, Ask, Body, CheckpointLine, Checkpoints, ControlAnswer, ControlAsk, Direct, Envelope,
    StartUp,
};
pub use settings::TopicSettings;
pub use shard::{Attentive, PartitionSlot, Shard};
