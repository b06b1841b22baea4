//! What do the pure parts of a request cost? In the order in which a request meets them:
//!
//! - `requests`: frames, headers, and the bodies of Produce, Fetch and Metadata requests;
//! - `batches`: checking a batch, stamping it, building one;
//! - `planning`: what is decided for an append and for a fetch: sequences, the high watermark,
//!   sessions;
//! - `log`: appending and finding an offset, on a disk in memory;
//! - `answers`: the answers' bytes.
//!
//! `cargo bench --bench pure [-- NAME]`
#![expect(missing_docs, reason = "criterion's macro makes a function without any")]

#[path = "pure/answers.rs"]
mod answers;
#[path = "pure/batches.rs"]
mod batches;
#[path = "pure/log.rs"]
mod log;
#[path = "pure/planning.rs"]
mod planning;
#[path = "pure/requests.rs"]
mod requests;
#[path = "pure/samples.rs"]
mod samples;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, requests::run, batches::run, planning::run, log::run, answers::run);
criterion_main!(benches);
