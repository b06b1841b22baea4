//! Start, stop, and the wiring of all the other rooms on every core.

pub mod metadata_log;
