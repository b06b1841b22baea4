//! Corelog: a thread-per-core broker that speaks the Apache Kafka protocol.
//!
//! ```text
//! client socket
//!   -> connection (any core)      frames, memory budget, order of answers
//!   -> handlers                   decode; split the request by owner core
//!   -> mesh                       one message per owner core (none when the owner is this core)
//!   -> partition (owner core)     epoch checks, sequence checks, offsets, high watermark, waiters
//!   -> log                        segments, indexes; bytes go to disk
//!   <- the answer comes back the same way; for a fetch it is a list of file slices, and the
//!      connection's core sends those bytes with sendfile(2), never copying them
//! ```
//!
//! A module imports only modules listed above it here. Decisions are pure; only [`runtime`]
//! touches the world. Start reading at [`broker`], or follow a request from [`connection`].

pub mod base;
pub mod broker;
pub mod cli;
pub mod config;
pub mod connection;
pub mod controller;
pub mod group;
pub mod handlers;
pub mod kraft;
pub mod log;
pub mod mesh;
pub mod metadata;
pub mod metrics;
pub mod partition;
pub mod protocol;
pub mod runtime;
