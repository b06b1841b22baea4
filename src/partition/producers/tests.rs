//! Sequences, epochs, transactions, and what is forgotten.

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
            include_bytes!("../../../tests/fixtures/disk/t2-1/00000000000000000000.log"),
            include_bytes!("../../../tests/fixtures/disk/t2-1/00000000000000000011.snapshot"),
        ),
        (
            "t1-1, with transactions",
            include_bytes!("../../../tests/fixtures/disk/t1-1/00000000000000000000.log"),
            include_bytes!("../../../tests/fixtures/disk/t1-1/00000000000000000052.snapshot"),
        ),
        (
            "__transaction_state-0",
            include_bytes!(
                "../../../tests/fixtures/disk/__transaction_state-0/00000000000000000000.log"
            ),
            include_bytes!(
                "../../../tests/fixtures/disk/__transaction_state-0/00000000000000000007.snapshot"
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

#[test]
fn what_was_sent_behind_a_refused_first_batch_waits_for_it() {
    use Answer::{Append, Refused};
    use SequenceError::OutOfOrder;
    let header = |sequence| data(&Written { sequence, ..FIRST });

    // Refused before it had a place in the log.
    let mut states = ProducerStates::new();
    states.note_refused(&header(0));
    states.note_refused(&header(10));
    assert_eq!(check(&states, 0, 10, 10), Refused(OutOfOrder));
    assert_eq!(check(&states, 0, 0, 10), Append);
    assert_eq!(check(&states, 1, 20, 10), Append, "a new epoch begins anew");

    // Lost with a write that failed: the log holds nothing of this producer.
    let before = after(&[(0, 5, 10), (0, 15, 10)]);
    let mut reloaded = ProducerStates::new();
    reloaded.note_lost(&before, Offset::ZERO);
    assert_eq!(check(&reloaded, 0, 15, 10), Refused(OutOfOrder));
    assert_eq!(check(&reloaded, 0, 5, 10), Append);

    // What the log had and deleted since is not lost; a later failure keeps what is known.
    let mut kept = ProducerStates::new();
    kept.note_lost(&before, Offset::new(20));
    assert_eq!(check(&kept, 0, 25, 10), Append);
    kept.note_lost(&reloaded, Offset::ZERO);
    assert_eq!(check(&kept, 0, 15, 10), Refused(OutOfOrder));

    // Until it comes, or was given up.
    states.record(&header(0));
    assert_eq!(check(&states, 0, 10, 10), Append);
    reloaded.expire(Timestamp::from_millis(0), Duration::from_secs(1));
    assert_eq!(check(&reloaded, 0, 15, 10), Append);
}
