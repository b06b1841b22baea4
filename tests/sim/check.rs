//! What the clients of a run have seen, and what must hold of it, in the words of Jepsen's tests of
//! Kafka:
//!
//! | anomaly                | what it means here                                                |
//! |------------------------|-------------------------------------------------------------------|
//! | `lost-write`           | acknowledged, or promised by its producer, and not in the topic   |
//! | `inconsistent-offsets` | one offset has been two records, or two offsets one record        |
//! | `duplicate`            | there more often than its producer promised                       |
//! | `nonmonotonic-send`    | a producer's records do not lie in the order they were sent in    |
//! | `poll-skip`            | a consumer was given an offset, and not the one before it         |
//! | `nonmonotonic-poll`    | a consumer was given an offset again, or one before it            |
//! | `unseen`               | in the topic, and no consumer that reads to the end was given it  |
//! | `garbage`              | in the topic, and nobody wrote it                                 |

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::admin::Known;
use crate::plan::Promise;

/// A partition, and an offset in it.
pub type Place = (i32, i64);

/// A record's value: who wrote it, and which of its records it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Record {
    pub producer: u64,
    pub number: u64,
}

impl Record {
    pub fn to_text(self) -> String {
        format!("{} {}", self.producer, self.number)
    }

    pub fn from_text(text: &str) -> Self {
        let (producer, number) = text.split_once(' ').expect("two numbers");
        let number_of = |text: &str| text.parse().expect("a number");
        Self { producer: number_of(producer), number: number_of(number) }
    }
}

/// Everything in the topic.
pub type Content = BTreeMap<Place, Record>;

/// What the clients of one run have seen.
#[derive(Default)]
pub struct Seen {
    /// Acknowledged by the broker.
    pub acknowledged: Content,
    /// Read while faults happened.
    pub read: Content,
    /// The producers that are done: what they promised, and how many records they sent.
    pub sent: BTreeMap<u64, (Promise, u64)>,
    /// Whether connections were cut while the broker lived on.
    pub were_cut: bool,
    /// The other topics, as far as their fates were acknowledged.
    pub topics: Known,
    /// Nobody changes topics and settings any more.
    pub meddled: bool,
    /// Nothing goes wrong any more.
    pub is_calm: bool,
    /// The partitions' ends, once nothing is written any more; consumers end there.
    pub ends: Option<Vec<i64>>,
}

pub type Shared = Rc<RefCell<Seen>>;

impl Seen {
    /// Notes what a consumer has read.
    pub fn note_read(&mut self, place: Place, record: Record) {
        let before = self.read.insert(place, record);
        let same = before.is_none_or(|before| before == record);
        assert!(same, "inconsistent-offsets: {place:?} was {before:?} and is {record:?}");
    }

    /// Checks all that is in the topic against what clients were told.
    pub fn check(&self, seed: u64, all: &Content) {
        for (place, record) in &self.acknowledged {
            let found = all.get(place);
            assert_eq!(found, Some(record), "lost-write: seed {seed}: acknowledged: {place:?}");
        }
        for (place, record) in &self.read {
            let found = all.get(place);
            assert_eq!(
                found,
                Some(record),
                "inconsistent-offsets: seed {seed}: was read: {place:?}"
            );
        }
        self.check_counts(seed, all);
        self.check_order(seed, all);
    }

    fn check_counts(&self, seed: u64, all: &Content) {
        let mut counts: BTreeMap<Record, u64> = BTreeMap::new();
        for record in all.values() {
            *counts.entry(*record).or_default() += 1;
        }
        for (producer, (promise, sent)) in &self.sent {
            for number in 0..*sent {
                let record = Record { producer: *producer, number };
                let count = counts.remove(&record).unwrap_or(0);
                let kept = match promise {
                    Promise::Exactly => count == 1,
                    Promise::AtLeast => count >= 1,
                    Promise::AtMost => count <= 1,
                };
                let anomaly = if count == 0 { "lost-write" } else { "duplicate" };
                assert!(kept, "{anomaly}: seed {seed}: {record:?}, {count} times, {promise:?}");
            }
        }
        assert!(counts.is_empty(), "garbage: seed {seed}: nobody wrote {counts:?}");
    }

    /// What is sent again without sequence numbers may come behind what was sent later. So may what
    /// was sent without asking for an answer on a connection that was cut: the next one knows
    /// nothing of what is still on its way.
    fn check_order(&self, seed: u64, all: &Content) {
        let mut last: BTreeMap<(i32, u64), u64> = BTreeMap::new();
        for ((partition, offset), Record { producer, number }) in all {
            match self.sent[producer].0 {
                Promise::AtLeast => continue,
                Promise::AtMost if self.were_cut => continue,
                Promise::AtMost | Promise::Exactly => {}
            }
            let before = last.insert((*partition, *producer), *number);
            let ordered = before.is_none_or(|before| before < *number);
            assert!(
                ordered,
                "nonmonotonic-send: seed {seed}: {number} of {producer} at {partition}, {offset}"
            );
        }
    }
}

/// After a loss of the page cache: each partition holds a beginning of what it held before.
pub fn check_beginning(seed: u64, before: &Content, after: &Content) {
    for (place, record) in after {
        assert_eq!(before.get(place), Some(record), "seed {seed}: {place:?} changed in a crash");
    }
}
