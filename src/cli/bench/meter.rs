//! What is counted while a load runs: rates by when requests were answered, latencies by when they
//! were due.
//!
//! Before the measured time and behind it nothing is counted, but for this: a request that was due
//! in it and is answered late has a latency like any other. Otherwise the worst would be left out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::base::Instant;

use super::super::client::Outcome;
use super::report::{Latency, Report, Spread};
use super::seconds::{Amount, Seconds, curve, histogram};

/// The end of time: before it is known when measuring begins.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// A load's course: when it is measured, whether it goes on. Clones share it.
#[derive(Clone)]
pub struct Course(Rc<CourseState>);

struct CourseState {
    began: Cell<Instant>,
    ends: Cell<Instant>,
    stopped: Cell<bool>,
    /// The first failure, which ends the run.
    failure: RefCell<Option<String>>,
    /// Workers that have nothing left to do.
    finished: Cell<u32>,
}

impl Course {
    /// A load that warms up.
    pub fn new() -> Self {
        Self(Rc::new(CourseState {
            began: Cell::new(NEVER),
            ends: Cell::new(NEVER),
            stopped: Cell::new(false),
            failure: RefCell::default(),
            finished: Cell::new(0),
        }))
    }

    /// Whether workers go on.
    pub fn runs(&self) -> bool {
        !self.0.stopped.get()
    }

    /// When the measured time ends; requests that are due later are not sent.
    pub fn ends(&self) -> Instant {
        self.0.ends.get()
    }

    /// Workers that have finished.
    pub fn finished(&self) -> u32 {
        self.0.finished.get()
    }

    /// Ends the run when a worker failed; says so otherwise that it has nothing left to do.
    pub fn finish(&self, outcome: Outcome<()>) {
        if let Err(error) = outcome {
            // What fails because the run was stopped is no failure of the run.
            if self.runs() {
                self.0.failure.borrow_mut().get_or_insert(error.to_string());
                self.0.stopped.set(true);
            }
        }
        self.0.finished.set(self.0.finished.get() + 1);
    }

    /// Measuring begins `now`, for `length`.
    pub fn begin(&self, now: Instant, length: Duration) {
        self.0.began.set(now);
        self.0.ends.set(now + length);
    }

    /// Measuring ends: at the time that was foreseen, or `now` when that is earlier. Returns how
    /// long it was.
    pub fn end(&self, now: Instant) -> Duration {
        self.0.ends.set(self.0.ends.get().min(now));
        self.0.ends.get().since(self.0.began.get())
    }

    /// Stops the workers.
    pub fn stop(&self) {
        self.0.stopped.set(true);
    }

    /// Why a worker failed.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }
}

impl Default for Course {
    fn default() -> Self {
        Self::new()
    }
}

/// What is counted. Clones count into the same.
#[derive(Clone)]
pub struct Meter(Rc<Counts>);

struct Counts {
    course: Course,
    total: Cell<Amount>,
    latency: RefCell<Histogram<u64>>,
    /// How late requests were sent that had a time to be sent at.
    late: RefCell<Histogram<u64>>,
    seconds: RefCell<Seconds>,
    unanswered: Cell<u64>,
}

impl Meter {
    /// Counts for a load of which `length` will be measured.
    pub fn new(course: &Course, length: Duration) -> Self {
        Self(Rc::new(Counts {
            course: course.clone(),
            total: Cell::default(),
            latency: RefCell::new(histogram()),
            late: RefCell::new(histogram()),
            seconds: RefCell::new(Seconds::new(length)),
            unanswered: Cell::new(0),
        }))
    }

    /// The course of the load it counts for.
    pub fn course(&self) -> &Course {
        &self.0.course
    }

    /// Whether workers go on.
    pub fn runs(&self) -> bool {
        self.0.course.runs()
    }

    /// See [`Course::finish`].
    pub fn finish(&self, outcome: Outcome<()>) {
        self.0.course.finish(outcome);
    }

    /// Counts an answered request whose latency counts from `due`.
    pub fn count(&self, due: Instant, now: Instant, amount: Amount) {
        self.tally(now, amount);
        self.latency(due, now);
    }

    /// Counts what was answered `now`.
    pub fn tally(&self, now: Instant, amount: Amount) {
        let CourseState { began, ends, .. } = &*self.0.course.0;
        if now < began.get() || now >= ends.get() {
            return;
        }
        let mut total = self.0.total.get();
        total.add(amount);
        self.0.total.set(total);
        self.0.seconds.borrow_mut().tally(now.since(began.get()), amount);
    }

    /// Counts the latency of what was due then and is there `now`.
    pub fn latency(&self, due: Instant, now: Instant) {
        let CourseState { began, ends, .. } = &*self.0.course.0;
        if due < began.get() || due >= ends.get() {
            return;
        }
        let nanos = now.nanos().saturating_sub(due.nanos());
        self.0.latency.borrow_mut().saturating_record(nanos);
        let at = now.min(ends.get()).since(began.get());
        self.0.seconds.borrow_mut().latency(at, nanos);
    }

    /// Counts how late a request was sent.
    pub fn sent(&self, due: Instant, now: Instant) {
        let CourseState { began, ends, .. } = &*self.0.course.0;
        if due >= began.get() && due < ends.get() {
            self.0.late.borrow_mut().saturating_record(now.nanos().saturating_sub(due.nanos()));
        }
    }

    /// Counts a request that nobody waits for any more: its latency is at least what it is now.
    pub fn give_up(&self, due: Instant, now: Instant) {
        self.latency(due, now);
        self.0.unanswered.set(self.0.unanswered.get() + 1);
    }

    /// All that was answered in the measured time so far.
    pub fn total(&self) -> Amount {
        self.0.total.get()
    }

    /// The report of a load that was measured for `took`.
    pub fn report(&self, what: &'static str, took: Duration) -> Report {
        let seconds = took.as_secs_f64().max(1e-9);
        let total = self.0.total.get();
        let latency = self.0.latency.borrow();
        let late = self.0.late.borrow();
        Report {
            what,
            seconds,
            requests: total.requests,
            records: total.records,
            bytes: total.bytes,
            requests_per_second: total.requests as f64 / seconds,
            records_per_second: total.records as f64 / seconds,
            megabytes_per_second: total.bytes as f64 / seconds / 1e6,
            latency_us: Latency::of(&latency),
            sent_late_us: (!late.is_empty()).then(|| Spread::of(&late)),
            unanswered: self.0.unanswered.get(),
            worst_second: None,
            per_second: Vec::new(),
            per_second_left_out: 0,
            curve: Vec::new(),
        }
    }

    /// The report of a load that is over, with its seconds and its curve.
    pub fn last_report(&self, what: &'static str, took: Duration) -> Report {
        let mut seconds = self.0.seconds.borrow_mut();
        seconds.finish(took);
        Report {
            worst_second: seconds.worst(),
            per_second: seconds.closed().to_vec(),
            per_second_left_out: seconds.left_out(),
            curve: curve(&self.0.latency.borrow()),
            ..self.report(what, took)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn what_is_due_in_the_measured_time_has_a_latency_whenever_it_is_answered() {
        let course = Course::new();
        let meter = Meter::new(&course, Duration::from_secs(2));
        let one = Amount { requests: 1, records: 1, bytes: 1 };
        meter.count(at(100), at(200), one);
        course.begin(at(1000), Duration::from_secs(2));
        // Due, answered.
        for (due, answered) in [(900, 1100), (1200, 1300), (2900, 7900), (3000, 3001)] {
            meter.count(at(due), at(answered), one);
        }
        meter.give_up(at(2950), at(8000));
        assert_eq!(course.end(at(8000)), Duration::from_secs(2));
        let report = meter.last_report("test", Duration::from_secs(2));
        assert_eq!(report.requests, 2, "answered in the measured time, whenever they were due");
        assert_eq!(report.curve.last().map(|last| last.1 > 5_000_000.0), Some(true));
        assert_eq!(report.unanswered, 1);
        let seconds: Vec<_> = report.per_second.iter().map(|second| second.requests).collect();
        assert_eq!(seconds, [2, 0]);
        assert_eq!(report.worst_second.map(|worst| worst.at), Some(1.0));
    }

    #[test]
    fn a_failure_ends_the_run_once() {
        let course = Course::new();
        course.finish(Ok(()));
        assert!(course.runs());
        for _ in 0..2 {
            let error = super::super::super::client::ClientError::Unserved("Produce");
            course.finish(Err(error));
        }
        assert!(!course.runs());
        assert!(course.failure().is_some_and(|words| words.contains("Produce")));
        assert_eq!(course.finished(), 3);
    }
}
