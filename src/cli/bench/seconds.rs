//! What happened in each second of a run, in bounded memory.
//!
//! One second fills at a time. When the next one begins it is closed: its histogram becomes three
//! numbers and is used again. What is answered behind the run's end counts into its last second.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in nanoseconds: 5 minutes.
const LATENCY_NANOS_MAX: u64 = 300_000_000_000;

/// Seconds that are kept one by one: a day. Later ones count for the totals and the worst only.
const SECONDS_MAX: usize = 86_400;

/// An empty histogram of latencies in nanoseconds, exact to a thousandth.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, LATENCY_NANOS_MAX, 3).expect("the bounds are in order")
}

/// A latency in microseconds.
pub fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amount {
    /// Requests answered.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
}

impl Amount {
    /// Adds another amount.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// One second of a run; the last one may be half as long or half as long again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Second {
    /// When it began, in seconds of the run.
    pub at: f64,
    /// How long it was, in seconds.
    pub length: f64,
    /// Requests answered in it.
    pub requests: u64,
    /// Records in these.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Median latency of what was answered in it, in microseconds; none when nothing was.
    pub p50_us: Option<f64>,
    /// Its 99th percentile.
    pub p99_us: Option<f64>,
    /// Its largest.
    pub max_us: Option<f64>,
}

/// The seconds of a run.
pub struct Seconds {
    /// How many there are; the last one takes what comes later.
    count: u64,
    /// The one that fills.
    current: u64,
    amount: Amount,
    latency: Histogram<u64>,
    closed: Vec<Second>,
    /// The one with the highest p99 of all closed.
    worst: Option<Second>,
    left_out: u64,
}

impl Seconds {
    /// The seconds of a run of this length. A rest of less than half a second belongs to the last.
    pub fn new(length: Duration) -> Self {
        let count = length.as_secs() + u64::from(length.subsec_millis() >= 500);
        Self {
            count: count.max(1),
            current: 0,
            amount: Amount::default(),
            latency: histogram(),
            closed: Vec::new(),
            worst: None,
            left_out: 0,
        }
    }

    /// Counts what was answered `at` this time of the run. Times do not go back.
    pub fn tally(&mut self, at: Duration, amount: Amount) {
        self.go_to(at);
        self.amount.add(amount);
    }

    /// Counts a latency that was known `at` this time of the run.
    pub fn latency(&mut self, at: Duration, nanos: u64) {
        self.go_to(at);
        self.latency.saturating_record(nanos);
    }

    /// The run was `length` long: closes all its seconds.
    pub fn finish(&mut self, length: Duration) {
        self.go_to(length);
        let last = length.as_secs_f64() - self.current as f64;
        if last > 0.0 || self.closed.is_empty() {
            self.close(last.max(1e-9));
        }
    }

    /// The seconds that were closed, oldest first.
    pub fn closed(&self) -> &[Second] {
        &self.closed
    }

    /// The closed second with the highest p99.
    pub fn worst(&self) -> Option<Second> {
        self.worst
    }

    /// How many seconds are not among those of [`closed`](Self::closed), for want of room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn go_to(&mut self, at: Duration) {
        let index = at.as_secs().min(self.count - 1);
        while self.current < index {
            self.close(1.0);
        }
    }

    fn close(&mut self, length: f64) {
        let measured = !self.latency.is_empty();
        let at = |quantile| measured.then(|| micros(self.latency.value_at_quantile(quantile)));
        let second = Second {
            at: self.current as f64,
            length,
            requests: self.amount.requests,
            records: self.amount.records,
            bytes: self.amount.bytes,
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: measured.then(|| micros(self.latency.max())),
        };
        if second.p99_us > self.worst.and_then(|worst| worst.p99_us) {
            self.worst = Some(second);
        }
        if self.closed.len() < SECONDS_MAX {
            self.closed.push(second);
        } else {
            self.left_out += 1;
        }
        self.current += 1;
        self.amount = Amount::default();
        if measured {
            self.latency.reset();
        }
    }
}

/// The latency at each of some quantiles, closer together towards 1: (quantile, microseconds).
///
/// Four to each halving of what is left, as far as the number of latencies supports, and the
/// largest at the end.
pub fn curve(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    let mut points = Vec::new();
    let mut left = 1.0;
    while left * latency.len() as f64 >= 1.0 {
        for part in [1.0, 0.875, 0.75, 0.625] {
            let quantile = 1.0 - left * part;
            points.push((quantile, micros(latency.value_at_quantile(quantile))));
        }
        left /= 2.0;
    }
    points.push((1.0, micros(latency.max())));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn one() -> Amount {
        Amount { requests: 1, records: 10, bytes: 100 }
    }

    #[test]
    fn each_second_has_its_own_figures_and_the_worst_is_known() {
        let mut seconds = Seconds::new(millis(4000));
        for (at, latency) in [(100, 2), (200, 4), (2300, 900), (3400, 7), (9000, 8)] {
            seconds.tally(millis(at), one());
            seconds.latency(millis(at), latency * 1_000_000);
        }
        seconds.finish(millis(4000));
        let closed = seconds.closed();
        let requests: Vec<_> = closed.iter().map(|second| second.requests).collect();
        assert_eq!(requests, [2, 0, 1, 2], "one stands still; what comes late is in the last");
        assert_eq!((closed[0].records, closed[0].bytes), (20, 200));
        assert_eq!((closed[1].p50_us, closed[1].max_us), (None, None));
        assert!(closed[3].max_us.is_some_and(|max| (max - 8000.0).abs() < 10.0));
        assert_eq!(seconds.worst(), Some(closed[2]));
        assert!(closed.iter().all(|second| second.length == 1.0));
    }

    #[test]
    fn a_short_rest_belongs_to_the_last_second() {
        let cases = [
            (2400, vec![1.0, 1.4]),
            (2600, vec![1.0, 1.0, 0.6]),
            (300, vec![0.3]),
            (1000, vec![1.0]),
            (3000, vec![1.0, 1.0, 1.0]),
        ];
        for (length, expected) in cases {
            let mut seconds = Seconds::new(millis(length));
            seconds.finish(millis(length));
            let found: Vec<f64> = seconds.closed().iter().map(|second| second.length).collect();
            assert_eq!(found.len(), expected.len(), "{length} ms");
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-9, "{length} ms: {found}");
            }
        }
    }

    #[test]
    fn a_run_that_ends_early_has_the_seconds_it_had() {
        let mut seconds = Seconds::new(millis(10_000));
        seconds.tally(millis(1500), one());
        seconds.finish(millis(1750));
        let found: Vec<_> = seconds.closed().iter().map(|it| (it.requests, it.length)).collect();
        assert_eq!(found, [(0, 1.0), (1, 0.75)]);
    }

    #[test]
    fn seconds_kept_one_by_one_are_bounded() {
        let mut seconds = Seconds::new(Duration::from_secs(100_000));
        seconds.latency(Duration::from_secs(99_999), 5_000_000);
        seconds.finish(Duration::from_secs(100_000));
        assert_eq!(seconds.closed().len(), SECONDS_MAX);
        assert_eq!(seconds.left_out(), 100_000 - SECONDS_MAX as u64);
        assert_eq!(seconds.worst().map(|worst| worst.at), Some(99_999.0), "the worst is known");
    }

    #[test]
    fn the_curve_grows_and_ends_at_the_largest() {
        let mut latency = histogram();
        assert!(curve(&latency).is_empty());
        for micros in 1..=1000 {
            latency.saturating_record(micros * 1000);
        }
        let points = curve(&latency);
        assert!(points.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1));
        let at = |wanted: f64| {
            points.iter().find(|(quantile, _)| *quantile >= wanted).map_or(0.0, |point| point.1)
        };
        for (quantile, expected) in [(0.5, 500.0), (0.75, 750.0), (1.0, 1000.0)] {
            let found = at(quantile);
            assert!((found - expected).abs() <= expected / 500.0, "{quantile}: {found}");
        }
        let beyond = points[points.len() - 2].0;
        assert!(
            beyond < 1.0 - 1.0 / 2000.0,
            "no more than a thousand latencies can tell: {beyond}"
        );
    }
}
