//! Counters, declared by who counts.
//!
//! A core's counters are plain cells: no core reads another's but by message. Names follow
//! `module_noun_unit_total`; a value that goes up and down has no `_total`.

use std::cell::Cell;

/// A number of one core.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    /// Takes from it; not below 0.
    pub fn sub(&self, count: u64) {
        self.0.set(self.0.get().saturating_sub(count));
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// What one core counts.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Connections accepted.
    pub connections_total: Counter,
    /// Connections moved to another core.
    pub connections_moved_total: Counter,
    /// Connections open now.
    pub connections_open: Counter,
    /// Connections closed for what they sent.
    pub connections_refused_total: Counter,
    /// Requests read.
    pub requests_total: Counter,
    /// Bytes of requests read.
    pub request_bytes_total: Counter,
    /// Bytes of answers sent.
    pub response_bytes_total: Counter,
    /// Answers this core sent on connections of other cores.
    pub answers_lent_total: Counter,
    /// Messages sent to other cores.
    pub lane_messages_sent_total: Counter,
    /// Bytes of batches this core was asked to append.
    pub append_bytes_total: Counter,
    /// Bytes of batches this core's connections fetched.
    pub fetch_bytes_total: Counter,
}
