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
//! may begin anywhere: it may have been forgotten. Source: `ProducerStateManager`,
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
        let Some(producer) = known else { return Ok(Check::Append) };
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
    /// (`producer.id.expiration.ms`), unless they have a transaction open.
    pub fn expire(&mut self, now: Timestamp, expiration: Duration) {
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
mod tests {
    use super::*;
    use crate::protocol::batch::{BatchView, Batches};
    use crate::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};

    const MAX: i32 = i32::MAX;

    /// The header of a batch as it is in the log.
    struct Written {
        producer_id: i64,
        epoch: i16,
        sequence: i32,
        count: i32,
        offset: u64,
    }

    const FIRST: Written = Written { producer_id: 7, epoch: 0, sequence: 0, count: 10, offset: 0 };

    fn parse(builder: BatchBuilder) -> (BatchHeader, Option<EndMarker>) {
        let bytes = builder.build().expect("no codec");
        let batch = BatchView::parse(&bytes).expect("a batch");
        (batch.header, EndMarker::from_batch(&batch))
    }

    fn builder(batch: &Written) -> BatchBuilder {
        let Written { producer_id: id, epoch, sequence: base_sequence, offset, .. } = *batch;
        BatchBuilder::new()
            .producer(ProducerStamp { id, epoch, base_sequence })
            .base_offset(Offset::new(offset))
    }

    fn filled(mut builder: BatchBuilder, batch: &Written) -> BatchHeader {
        for at in 0..batch.count {
            let timestamp = 1_000 + batch.offset as i64 + i64::from(at);
            builder.append(&NewRecord { timestamp, ..NewRecord::default() });
        }
        parse(builder).0
    }

    fn data(batch: &Written) -> BatchHeader {
        filled(builder(batch), batch)
    }

    fn in_transaction(batch: &Written) -> BatchHeader {
        filled(builder(batch).transactional(), batch)
    }

    fn end(
        states: &mut ProducerStates,
        producer_id: i64,
        epoch: i16,
        offset: u64,
        outcome: Outcome,
    ) -> Option<CompletedTransaction> {
        let batch = Written { producer_id, epoch, sequence: -1, count: 0, offset };
        let mut marker = builder(&batch).transactional().control();
        let ends = EndMarker { outcome, coordinator_epoch: 3 };
        marker.append_end_marker(ends, Timestamp::from_millis(5_000));
        let (header, marker) = parse(marker);
        assert_eq!(marker, Some(ends));
        states.replay(&header, marker)
    }

    /// States that saw these batches, each with the offsets that follow the one before.
    fn after(batches: &[(i16, i32, i32)]) -> ProducerStates {
        let mut states = ProducerStates::new();
        let mut offset = 0;
        for (epoch, sequence, count) in batches {
            let (epoch, sequence, count) = (*epoch, *sequence, *count);
            states.record(&data(&Written { epoch, sequence, count, offset, ..FIRST }));
            offset += count as u64;
        }
        states
    }

    fn check(states: &ProducerStates, epoch: i16, sequence: i32, count: i32) -> Answer {
        let batch = Written { epoch, sequence, count, offset: 0, ..FIRST };
        match states.check(&data(&batch)) {
            Ok(Check::Append) => Answer::Append,
            Ok(Check::Duplicate { base_offset, last_offset, timestamp }) => {
                assert_eq!(last_offset.since(base_offset), count as u64 - 1);
                assert_eq!(timestamp.to_wire() as u64, 1_000 + last_offset.get());
                Answer::Duplicate(base_offset.get())
            }
            Err(error) => Answer::Refused(error),
        }
    }

    #[derive(Debug, Eq, PartialEq)]
    enum Answer {
        Append,
        Duplicate(u64),
        Refused(SequenceError),
    }

    #[test]
    fn sequences_are_checked_against_the_last_five_batches() {
        use Answer::{Append, Duplicate, Refused};
        use SequenceError::{InvalidEpoch, OutOfOrder};
        // Epoch 1; sequences 0..10, 10..15, 15..25, 25..26, 26..36, 36..46 at the same offsets.
        let six = [(1, 0, 10), (1, 10, 5), (1, 15, 10), (1, 25, 1), (1, 26, 10), (1, 36, 10)];
        let states = after(&six);
        let cases = [
            ("the next", 1, 46, 1, Append),
            ("the last again", 1, 36, 10, Duplicate(36)),
            ("the fifth last again", 1, 10, 5, Duplicate(10)),
            ("a batch of one again", 1, 25, 1, Duplicate(25)),
            ("the sixth last again", 1, 0, 10, Refused(OutOfOrder)),
            ("part of the last", 1, 36, 9, Refused(OutOfOrder)),
            ("the end of the last", 1, 40, 6, Refused(OutOfOrder)),
            ("the last and more", 1, 36, 11, Refused(OutOfOrder)),
            ("a gap", 1, 47, 1, Refused(OutOfOrder)),
            ("the beginning", 1, 0, 1, Refused(OutOfOrder)),
            ("an older epoch", 0, 46, 1, Refused(InvalidEpoch)),
            ("an older epoch's resend", 0, 36, 10, Refused(InvalidEpoch)),
            ("a newer epoch from 0", 2, 0, 1, Append),
            ("a newer epoch in between", 2, 46, 1, Refused(OutOfOrder)),
        ];
        for (name, epoch, sequence, count, expected) in cases {
            assert_eq!(check(&states, epoch, sequence, count), expected, "{name}");
        }
        let newer = after(&[(1, 0, 10), (2, 0, 4)]);
        assert_eq!(check(&newer, 2, 4, 1), Append);
        assert_eq!(check(&newer, 2, 0, 10), Refused(OutOfOrder), "batches of the old epoch");
        assert_eq!(check(&newer, 1, 10, 1), Refused(InvalidEpoch));
    }

    #[test]
    fn a_producer_nobody_remembers_may_begin_anywhere() {
        for (epoch, sequence) in [(0, 0), (0, 77), (5, MAX)] {
            assert_eq!(check(&ProducerStates::new(), epoch, sequence, 1), Answer::Append);
        }
        let plain = data(&Written { producer_id: -1, epoch: -1, sequence: -1, ..FIRST });
        let mut states = after(&[(0, 0, 1)]);
        assert_eq!(states.check(&plain), Ok(Check::Append));
        states.record(&plain);
        assert_eq!(states.count(), 1);
    }

    #[test]
    fn sequences_wrap_behind_the_largest() {
        use Answer::{Append, Duplicate, Refused};
        let ends_there = after(&[(0, MAX - 9, 10)]);
        assert_eq!(check(&ends_there, 0, 0, 3), Append);
        assert_eq!(check(&ends_there, 0, 1, 3), Refused(SequenceError::OutOfOrder));
        assert_eq!(check(&ends_there, 0, MAX - 9, 10), Duplicate(0));
        // Within a batch: MAX - 1, MAX, 0, 1, 2.
        let across = after(&[(0, MAX - 1, 5)]);
        assert_eq!(check(&across, 0, 3, 1), Append);
        assert_eq!(check(&across, 0, MAX - 1, 5), Duplicate(0));
        assert_eq!(check(&across, 0, MAX - 1, 2), Refused(SequenceError::OutOfOrder));
    }

    #[test]
    fn idle_producers_expire_but_not_within_a_transaction() {
        let hour = Duration::from_secs(3_600);
        let mut states = ProducerStates::new();
        // Their last timestamp is 1,009.
        states.record(&data(&FIRST));
        states.record(&in_transaction(&Written { producer_id: 8, ..FIRST }));
        states.expire(Timestamp::from_millis(1_008 + 3_600_000), hour);
        assert_eq!(states.count(), 2);
        states.expire(Timestamp::from_millis(1_009 + 3_600_000), hour);
        let left: Vec<i64> = states.list().iter().map(|active| active.producer_id).collect();
        assert_eq!(left, [8]);
    }

    #[test]
    fn those_who_wrote_longest_ago_make_room() {
        let mut states = ProducerStates::new();
        states.record(&in_transaction(&Written { producer_id: 0, ..FIRST }));
        for producer_id in 1..=80 {
            states.record(&data(&Written { producer_id, ..FIRST }));
        }
        states.record(&data(&Written { producer_id: 1, sequence: 10, ..FIRST }));
        states.forget_idle(80);
        let left: Vec<i64> = states.list().iter().map(|active| active.producer_id).collect();
        // One too many and an eighth: 2 to 12, for 0 has a transaction open and 1 has just written.
        let expected: Vec<i64> = [0, 1].into_iter().chain(13..=80).collect();
        assert_eq!(left, expected);
        states.forget_idle(0);
        assert_eq!(states.count(), 2, "the open transaction, and the last to write");
    }

    #[test]
    fn open_transactions_hold_back_the_stable_offset_until_their_marker_is_replicated() {
        let at = Offset::new;
        let mut states = ProducerStates::new();
        let a = Written { producer_id: 1, epoch: 0, sequence: 0, count: 10, offset: 10 };
        let b = Written { producer_id: 2, offset: 20, ..a };
        states.record(&in_transaction(&a));
        states.record(&in_transaction(&b));
        states.record(&in_transaction(&Written { sequence: 10, offset: 30, ..a }));
        assert_eq!(states.first_unstable_offset(at(40)), Some(at(10)));

        let plain = data(&Written { sequence: 20, offset: 0, ..a });
        assert_eq!(states.check(&plain), Err(SequenceError::NotTransactional));
        assert_eq!(states.check_epoch(&plain), Err(SequenceError::NotTransactional));

        let done = end(&mut states, 1, 0, 40, Outcome::Aborted);
        let expected = CompletedTransaction {
            producer_id: 1,
            first_offset: at(10),
            last_offset: at(40),
            outcome: Outcome::Aborted,
            last_stable_offset: at(20),
        };
        assert_eq!(done, Some(expected));
        assert_eq!(states.first_unstable_offset(at(40)), Some(at(10)), "not yet replicated");
        assert_eq!(states.first_unstable_offset(at(41)), Some(at(20)));

        let done = end(&mut states, 2, 0, 41, Outcome::Committed).expect("had data");
        assert_eq!((done.first_offset, done.last_stable_offset), (at(20), at(42)));
        assert_eq!(states.first_unstable_offset(at(41)), Some(at(20)));
        assert_eq!(states.first_unstable_offset(at(42)), None);
        assert_eq!(end(&mut states, 2, 0, 42, Outcome::Aborted), None, "nothing was written");
        states.forget_replicated(at(41));
        assert_eq!(states.first_unstable_offset(at(0)), Some(at(20)));
        states.forget_replicated(at(42));
        assert_eq!(states.first_unstable_offset(at(0)), None);
    }

    #[test]
    fn a_marker_of_a_newer_epoch_begins_the_sequences_anew() {
        let mut states = ProducerStates::new();
        states.record(&in_transaction(&FIRST));
        end(&mut states, 7, 0, 10, Outcome::Committed);
        assert_eq!(check(&states, 0, 10, 1), Answer::Append, "the same epoch goes on");
        end(&mut states, 7, 1, 11, Outcome::Committed);
        assert_eq!(check(&states, 1, 0, 1), Answer::Append);
        let refused = Answer::Refused(SequenceError::OutOfOrder);
        assert_eq!(check(&states, 1, 10, 1), refused);
        let listed = ActiveProducer {
            producer_id: 7,
            producer_epoch: 1,
            last_sequence: -1,
            last_timestamp: 5_000,
            coordinator_epoch: 3,
            current_txn_start_offset: -1,
        };
        assert_eq!(states.list(), [listed]);
    }

    #[test]
    fn logs_of_apache_kafka_lead_to_its_snapshots() {
        let cases: [(&str, &[u8], &[u8]); 3] = [
            (
                "t2-1",
                include_bytes!("../../tests/fixtures/disk/t2-1/00000000000000000000.log"),
                include_bytes!("../../tests/fixtures/disk/t2-1/00000000000000000011.snapshot"),
            ),
            (
                "t1-1, with transactions",
                include_bytes!("../../tests/fixtures/disk/t1-1/00000000000000000000.log"),
                include_bytes!("../../tests/fixtures/disk/t1-1/00000000000000000052.snapshot"),
            ),
            (
                "__transaction_state-0",
                include_bytes!(
                    "../../tests/fixtures/disk/__transaction_state-0/00000000000000000000.log"
                ),
                include_bytes!(
                    "../../tests/fixtures/disk/__transaction_state-0/00000000000000000007.snapshot"
                ),
            ),
        ];
        for (name, log, snapshot) in cases {
            let mut states = ProducerStates::new();
            let mut next = Offset::ZERO;
            for batch in Batches::new(log) {
                let batch = batch.expect(name);
                states.replay(&batch.header, EndMarker::from_batch(&batch));
                next = Offset::from_wire(batch.header.next_offset()).expect(name);
            }
            assert_eq!(states.encode_snapshot(), snapshot, "{name}");
            assert_eq!(states.first_unstable_offset(next), None, "{name}");
            let read = ProducerStates::decode_snapshot(snapshot).expect(name);
            assert_eq!(read.encode_snapshot(), snapshot, "{name}");
        }
    }

    #[test]
    fn a_snapshot_keeps_each_producers_last_batch_and_open_transaction() {
        let mut states = after(&[(1, 0, 10), (1, 10, 5)]);
        let open = Written { producer_id: 8, epoch: 4, sequence: 0, count: 2, offset: 15 };
        states.record(&in_transaction(&open));
        let read = ProducerStates::decode_snapshot(&states.encode_snapshot()).expect("ours");
        assert_eq!(read.list(), states.list());
        assert_eq!(read.first_unstable_offset(Offset::new(17)), Some(Offset::new(15)));
        assert_eq!(check(&read, 1, 10, 5), Answer::Duplicate(10));
        assert_eq!(check(&read, 1, 15, 1), Answer::Append);
        let refused = Answer::Refused(SequenceError::OutOfOrder);
        assert_eq!(check(&read, 1, 0, 10), refused, "only the last batch is kept");
    }
}
