//! What a partition remembers about its idempotent and transactional producers.
//!
//! ```text
//! header of a batch -> check  -> append it, answer with the earlier append, or refuse
//! appended header   -> record -> the producer's last five batches, the open transactions
//! scanned header    -> replay -> the same at start, from a snapshot's offset on
//! ```
//!
//! Sequences of one epoch count up without gaps, from `i32::MAX` on to 0. A batch that repeats one
//! of the last five is a resend; its answer is that of the first time. A producer nobody remembers
//! may begin anywhere, for it may have been forgotten; but when its first batch was refused, what
//! it had sent behind that may not come before it. Source: `ProducerStateManager`,
//! `ProducerAppendInfo`, `ProducerStateEntry`, KIP-98.
//!
//! Pure. Invariants: at most [`PRODUCER_COUNT_MAX`] producers without an open transaction are
//! remembered; every open transaction belongs to a remembered producer.
//! Not here: when a snapshot is written (`writer`), its bytes (`snapshot`), the transaction index
//! (`log`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{Offset, Timestamp};
use crate::log::AbortedTransaction;
use crate::partition::snapshot::{self, DamagedSnapshot, Entry};
use crate::protocol::ErrorCode;
use crate::protocol::batch::{BatchHeader, sequence_before};
use crate::protocol::record::{EndMarker, Outcome};

/// Batches remembered of each producer: as many as a producer may have in flight
/// (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const BATCH_COUNT_MAX: usize = 5;

/// Producers remembered by one partition, about 250 bytes each. When there are more, those that
/// wrote longest ago are forgotten; Apache Kafka has no such limit.
pub const PRODUCER_COUNT_MAX: usize = 10_000;

/// Producers nobody remembers whose first batch was refused: more of them are not kept apart.
const REFUSED_COUNT_MAX: usize = 10_000;

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// Append it.
    Append,
    /// It is in the log already, here; answer with this.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Offset of its last record.
        last_offset: Offset,
        /// Its largest timestamp, which answers as the time of the append. Negative values, from
        /// batches without timestamps, count as 0.
        timestamp: Timestamp,
    },
}

/// Why a batch does not follow what its producer wrote before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SequenceError {
    /// The sequence is not the next one.
    OutOfOrder,
    /// A newer epoch of the producer has written.
    InvalidEpoch,
    /// The producer has a transaction open, and the batch is not part of it.
    NotTransactional,
}

impl From<SequenceError> for ErrorCode {
    fn from(error: SequenceError) -> Self {
        match error {
            SequenceError::OutOfOrder => Self::OutOfOrderSequenceNumber,
            SequenceError::InvalidEpoch => Self::InvalidProducerEpoch,
            SequenceError::NotTransactional => Self::InvalidTxnState,
        }
    }
}

/// One producer, in the terms of DescribeProducers: -1 stands for "none".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence of its last record, or -1.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch, in milliseconds, or -1.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that ended its last transaction, or -1.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, or -1.
    pub current_txn_start_offset: i64,
}

/// A transaction whose marker was replayed or appended: what the transaction index needs to know
/// when it was aborted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CompletedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// Its first record in this partition.
    pub first_offset: Offset,
    /// The marker's offset.
    pub last_offset: Offset,
    /// How it ended.
    pub outcome: Outcome,
    /// The first offset of the next transaction still open, or that behind the marker.
    pub last_stable_offset: Offset,
}

impl CompletedTransaction {
    /// Its entry in the index of aborted transactions, if it was aborted.
    pub fn aborted(&self) -> Option<AbortedTransaction> {
        (self.outcome == Outcome::Aborted).then_some(AbortedTransaction {
            producer_id: self.producer_id,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            last_stable: self.last_stable_offset,
        })
    }
}

/// A remembered batch. The rest follows: its first sequence and offset.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Batch {
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

impl Batch {
    fn first_sequence(&self) -> i32 {
        sequence_before(self.last_sequence, self.offset_delta)
    }
}

/// One producer's state.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    last_timestamp: i64,
    txn_first_offset: Option<Offset>,
    /// The last `batch_count` batches, oldest first.
    batches: [Batch; BATCH_COUNT_MAX],
    batch_count: usize,
    /// Grows with every change of any producer: the smallest was idle longest.
    touched: u64,
}

impl Producer {
    const EMPTY: Self = Self {
        epoch: -1,
        coordinator_epoch: -1,
        last_timestamp: -1,
        txn_first_offset: None,
        batches: [Batch { last_sequence: 0, last_offset: 0, offset_delta: 0, timestamp: 0 };
            BATCH_COUNT_MAX],
        batch_count: 0,
        touched: 0,
    };

    fn batches(&self) -> &[Batch] {
        &self.batches[..self.batch_count]
    }

    fn last_sequence(&self) -> i32 {
        self.batches().last().map_or(-1, |batch| batch.last_sequence)
    }

    fn duplicate(&self, header: &BatchHeader) -> Option<&Batch> {
        if header.producer_epoch != self.epoch {
            return None;
        }
        let range = (header.base_sequence, header.last_sequence());
        self.batches().iter().find(|batch| (batch.first_sequence(), batch.last_sequence) == range)
    }

    fn check_epoch(&self, header: &BatchHeader) -> Result<(), SequenceError> {
        if header.producer_epoch < self.epoch { Err(SequenceError::InvalidEpoch) } else { Ok(()) }
    }

    fn check_transaction(&self, header: &BatchHeader) -> Result<(), SequenceError> {
        if self.txn_first_offset.is_some() && !header.is_transactional() {
            return Err(SequenceError::NotTransactional);
        }
        Ok(())
    }

    fn check_sequence(&self, header: &BatchHeader) -> Result<(), SequenceError> {
        let next_in_order = if header.producer_epoch == self.epoch {
            let last = self.last_sequence();
            let next = if last == i32::MAX { 0 } else { last + 1 };
            header.base_sequence == next
        } else {
            header.base_sequence == 0
        };
        if next_in_order || self.epoch == -1 { Ok(()) } else { Err(SequenceError::OutOfOrder) }
    }

    /// Another epoch's batches mean nothing.
    fn set_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batch_count = 0;
        }
    }

    fn add_batch(&mut self, batch: Batch) {
        if self.batch_count == BATCH_COUNT_MAX {
            self.batches.rotate_left(1);
            self.batch_count -= 1;
        }
        self.batches[self.batch_count] = batch;
        self.batch_count += 1;
        self.last_timestamp = batch.timestamp;
    }
}

/// All producers of one partition.
#[derive(Clone, Debug, Default)]
pub struct ProducerStates {
    producers: BTreeMap<i64, Box<Producer>>,
    /// Open transactions: first offset and producer.
    open: BTreeMap<Offset, i64>,
    /// Ended transactions whose markers may lie above the high watermark: the marker's offset, and
    /// the transaction's first.
    unreplicated: BTreeMap<Offset, Offset>,
    /// Producers that nobody remembers and that had a batch refused: its epoch and first sequence.
    refused: BTreeMap<i64, (i16, i32)>,
    touches: u64,
}

impl ProducerStates {
    /// No producer is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many producers are remembered.
    pub fn count(&self) -> usize {
        self.producers.len()
    }

    /// What is to be done with a batch that a client wants to have appended.
    ///
    /// Whether its transaction is one the coordinator knows of is not asked here.
    pub fn check(&self, header: &BatchHeader) -> Result<Check, SequenceError> {
        let known = header.producer().and_then(|id| self.producers.get(&id));
        let Some(producer) = known else { return self.check_first(header) };
        if let Some(batch) = producer.duplicate(header) {
            let base_offset = batch.last_offset - i64::from(batch.offset_delta);
            return Ok(Check::Duplicate {
                base_offset: Offset::from_wire(base_offset).unwrap_or_default(),
                last_offset: Offset::from_wire(batch.last_offset).unwrap_or_default(),
                timestamp: Timestamp::from_millis(batch.timestamp),
            });
        }
        producer.check_epoch(header)?;
        producer.check_sequence(header)?;
        producer.check_transaction(header)?;
        Ok(Check::Append)
    }

    /// Of a producer nobody remembers: what was refused comes before what was sent behind it.
    fn check_first(&self, header: &BatchHeader) -> Result<Check, SequenceError> {
        let refused = header.producer().and_then(|id| self.refused.get(&id));
        match refused {
            Some((epoch, sequence))
                if *epoch == header.producer_epoch && *sequence != header.base_sequence =>
            {
                Err(SequenceError::OutOfOrder)
            }
            Some(_) | None => Ok(Check::Append),
        }
    }

    /// Notes that a batch was not appended though it will be sent again. Without this a producer's
    /// second batch, under way already, would be taken for its first.
    pub fn note_refused(&mut self, header: &BatchHeader) {
        let Some(id) = header.producer() else { return };
        if !self.producers.contains_key(&id) {
            self.refuse(id, header.producer_epoch, header.base_sequence);
        }
    }

    /// Notes what was known before the log refused a write and is known no more: batches that were
    /// to lie at `end` and behind.
    pub fn note_lost(&mut self, before: &Self, end: Offset) {
        self.refused.clone_from(&before.refused);
        for (id, producer) in &before.producers {
            let is_lost = |batch: &&Batch| batch.last_offset >= end.to_wire();
            let lost = producer.batches().iter().find(is_lost);
            if let Some(batch) = lost.filter(|_| !self.producers.contains_key(id)) {
                self.refuse(*id, producer.epoch, batch.first_sequence());
            }
        }
    }

    /// The first one refused of an epoch counts.
    fn refuse(&mut self, id: i64, epoch: i16, sequence: i32) {
        let first = self.refused.entry(id).or_insert((epoch, sequence));
        if first.0 != epoch {
            *first = (epoch, sequence);
        }
        if self.refused.len() > REFUSED_COUNT_MAX {
            self.refused.pop_first();
        }
    }

    /// The part of [`check`](Self::check) that also holds for coordinators, whose batches have a
    /// producer but no sequences.
    pub fn check_epoch(&self, header: &BatchHeader) -> Result<(), SequenceError> {
        let known = header.producer().and_then(|id| self.producers.get(&id));
        let Some(producer) = known else { return Ok(()) };
        producer.check_epoch(header)?;
        producer.check_transaction(header)
    }

    /// Remembers a batch of data that was checked and has its place in the log.
    pub fn record(&mut self, header: &BatchHeader) {
        self.replay(header, None);
    }

    /// Takes over a batch from the log, `marker` being what its control record says.
    ///
    /// Nothing is refused: who wrote it has checked it. Returns the transaction that it ends.
    pub fn replay(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndMarker>,
    ) -> Option<CompletedTransaction> {
        let producer_id = header.producer()?;
        let base_offset = Offset::from_wire(header.base_offset)?;
        let last_offset = Offset::from_wire(header.last_offset())?;
        if header.is_control() {
            return self.end_transaction(header, marker?, base_offset);
        }
        self.touches += 1;
        let producer =
            self.producers.entry(producer_id).or_insert_with(|| Box::new(Producer::EMPTY));
        producer.touched = self.touches;
        if !self.refused.is_empty() {
            self.refused.remove(&producer_id);
        }
        producer.set_epoch(header.producer_epoch);
        producer.add_batch(Batch {
            last_sequence: header.last_sequence(),
            last_offset: last_offset.to_wire(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        if header.is_transactional() && producer.txn_first_offset.is_none() {
            producer.txn_first_offset = Some(base_offset);
            self.open.insert(base_offset, producer_id);
        }
        self.forget_idle(PRODUCER_COUNT_MAX);
        None
    }

    fn end_transaction(
        &mut self,
        header: &BatchHeader,
        marker: EndMarker,
        at: Offset,
    ) -> Option<CompletedTransaction> {
        self.touches += 1;
        let producer_id = header.producer_id;
        let producer =
            self.producers.entry(producer_id).or_insert_with(|| Box::new(Producer::EMPTY));
        producer.touched = self.touches;
        producer.set_epoch(header.producer_epoch);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp = header.max_timestamp;
        let first_offset = producer.txn_first_offset.take();
        self.forget_idle(PRODUCER_COUNT_MAX);
        // Without data in this partition there is nothing that readers would have to know.
        let first_offset = first_offset?;
        self.open.remove(&first_offset);
        let still_open = self.open.iter().find(|(_, other)| **other != producer_id);
        let last_stable_offset = still_open.map_or(at.next(), |(first, _)| *first);
        self.unreplicated.insert(at, first_offset);
        Some(CompletedTransaction {
            producer_id,
            first_offset,
            last_offset: at,
            outcome: marker.outcome,
            last_stable_offset,
        })
    }

    /// The first offset that a `read_committed` reader may not see: that of the oldest transaction
    /// which is open, or whose marker has not passed the high watermark.
    pub fn first_unstable_offset(&self, high_watermark: Offset) -> Option<Offset> {
        let undecided = self.open.first_key_value().map(|(first, _)| *first);
        let unreplicated = self.unreplicated.range(high_watermark..).map(|(_, first)| *first).min();
        match (undecided, unreplicated) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Forgets ended transactions whose markers lie below `high_watermark`. To be called now and
    /// then: they change no answer, but take room.
    pub fn forget_replicated(&mut self, high_watermark: Offset) {
        if self.unreplicated.first_key_value().is_some_and(|(at, _)| *at < high_watermark) {
            self.unreplicated = self.unreplicated.split_off(&high_watermark);
        }
    }

    /// Forgets producers that wrote last `expiration` ago or earlier, by their batches' timestamps
    /// (`producer.id.expiration.ms`), unless they have a transaction open. What was refused before
    /// is forgotten too: by now it was sent again, or given up.
    pub fn expire(&mut self, now: Timestamp, expiration: Duration) {
        self.refused.clear();
        let expiration_ms = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
        self.producers.retain(|_, producer| {
            let idle_ms = now.to_wire().saturating_sub(producer.last_timestamp);
            producer.txn_first_offset.is_some() || idle_ms < expiration_ms
        });
    }

    /// Keeps the memory bounded. Forgets an eighth at once, so that it is done seldom.
    fn forget_idle(&mut self, count_max: usize) {
        if self.producers.len() <= count_max {
            return;
        }
        let mut idle: Vec<(u64, i64)> = self
            .producers
            .iter()
            .filter(|(_, producer)| producer.txn_first_offset.is_none())
            .map(|(id, producer)| (producer.touched, *id))
            .collect();
        idle.sort_unstable();
        let surplus = self.producers.len() - count_max + count_max / 8;
        // Never the one that has just written.
        let surplus = surplus.min(idle.len().saturating_sub(1));
        for (_, id) in &idle[..surplus] {
            self.producers.remove(id);
        }
    }

    /// The producers, by id.
    pub fn list(&self) -> Vec<ActiveProducer> {
        let active = self.producers.iter().map(|(id, producer)| ActiveProducer {
            producer_id: *id,
            producer_epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            current_txn_start_offset: producer.txn_first_offset.map_or(-1, Offset::to_wire),
        });
        active.collect()
    }

    /// The bytes of a snapshot file. Of each producer it keeps the last batch only.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        snapshot::encode(self.producers.iter().map(|(id, producer)| {
            let last = producer.batches().last();
            Entry {
                producer_id: *id,
                epoch: producer.epoch,
                last_sequence: producer.last_sequence(),
                last_offset: last.map_or(-1, |batch| batch.last_offset),
                offset_delta: last.map_or(0, |batch| batch.offset_delta),
                timestamp: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                txn_first_offset: producer.txn_first_offset.map_or(-1, Offset::to_wire),
            }
        }))
    }

    /// The state that a snapshot file holds.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, DamagedSnapshot> {
        let mut states = Self::new();
        let mut entries = snapshot::decode(bytes)?;
        // Who wrote last by the clock counts as touched last.
        entries.sort_by_key(|entry| entry.timestamp);
        for entry in entries {
            states.touches += 1;
            let mut producer = Producer {
                epoch: entry.epoch,
                coordinator_epoch: entry.coordinator_epoch,
                txn_first_offset: Offset::from_wire(entry.txn_first_offset),
                touched: states.touches,
                ..Producer::EMPTY
            };
            if entry.last_offset >= 0 {
                producer.add_batch(Batch {
                    last_sequence: entry.last_sequence,
                    last_offset: entry.last_offset,
                    offset_delta: entry.offset_delta,
                    timestamp: entry.timestamp,
                });
            }
            producer.last_timestamp = entry.timestamp;
            if let Some(first) = producer.txn_first_offset {
                states.open.insert(first, entry.producer_id);
            }
            states.producers.insert(entry.producer_id, Box::new(producer));
        }
        states.forget_idle(PRODUCER_COUNT_MAX);
        Ok(states)
    }
}

#[cfg(test)]
mod tests;
