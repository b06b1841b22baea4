//! (to come)

pub mod producers;
pub mod snapshot;
