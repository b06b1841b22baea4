//! `corelog bench`: load from any number of connections, and what came of it.
//!
//! At a fixed rate the load is open-loop: a request is sent at its time whether or not earlier ones
//! were answered, and its latency counts from that time, so a stall of the broker is seen in full
//! (no coordinated omission).

pub mod board;
pub mod commits;
pub mod consume;
pub mod groups;
pub mod member;
pub mod produce;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::base::Instant;
use crate::runtime::Runtime;
use crate::runtime::local::first;

use super::args::BenchArgs;
use super::client::{Creation, Outcome};
use super::target::Target;
use super::terminal::{Done, Failure, Output, Progress, Visible, scaled};
use super::topic::open;

/// Longest latency that is told apart, in nanoseconds: 5 minutes.
const LATENCY_NANOS_MAX: u64 = 300_000_000_000;

/// What is counted while measuring. Clones count into the same.
#[derive(Clone)]
pub struct Meter(Rc<Counts>);

struct Counts {
    latency: RefCell<Histogram<u64>>,
    requests: Cell<u64>,
    records: Cell<u64>,
    bytes: Cell<u64>,
    /// The first failure, which ends the run.
    failure: RefCell<Option<String>>,
    stopped: Cell<bool>,
    /// Workers that have nothing left to do.
    finished: Cell<u32>,
}

impl Meter {
    fn new() -> Result<Self, Failure> {
        let latency = Histogram::new_with_bounds(100, LATENCY_NANOS_MAX, 3)
            .map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self(Rc::new(Counts {
            latency: RefCell::new(latency),
            requests: Cell::new(0),
            records: Cell::new(0),
            bytes: Cell::new(0),
            failure: RefCell::new(None),
            stopped: Cell::new(false),
            finished: Cell::new(0),
        })))
    }

    /// Whether workers go on.
    pub fn runs(&self) -> bool {
        !self.0.stopped.get()
    }

    /// Counts an answered request.
    pub fn count(&self, latency: Duration, records: u64, bytes: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.latency.borrow_mut().saturating_record(nanos);
        self.0.requests.set(self.0.requests.get() + 1);
        self.0.records.set(self.0.records.get() + records);
        self.0.bytes.set(self.0.bytes.get() + bytes);
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

    fn reset(&self) {
        self.0.latency.borrow_mut().reset();
        self.0.requests.set(0);
        self.0.records.set(0);
        self.0.bytes.set(0);
    }

    fn report(&self, what: &'static str, took: Duration) -> Report {
        let seconds = took.as_secs_f64().max(1e-9);
        let latency = self.0.latency.borrow();
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let at = |quantile| micros(latency.value_at_quantile(quantile));
        Report {
            what,
            seconds,
            requests: self.0.requests.get(),
            records: self.0.records.get(),
            bytes: self.0.bytes.get(),
            requests_per_second: self.0.requests.get() as f64 / seconds,
            records_per_second: self.0.records.get() as f64 / seconds,
            megabytes_per_second: self.0.bytes.get() as f64 / seconds / 1e6,
            latency_us: Latency {
                mean: latency.mean() / 1000.0,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                p99_99: at(0.9999),
                max: micros(latency.max()),
            },
        }
    }
}

/// What a run measured.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    seconds: f64,
    requests: u64,
    records: u64,
    bytes: u64,
    requests_per_second: f64,
    records_per_second: f64,
    megabytes_per_second: f64,
    latency_us: Latency,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    p99_99: f64,
    max: f64,
}

impl Report {
    fn line(&self) -> String {
        format!(
            "{:.0} s: {} requests/s, {} records/s, {:.1} MB/s; latency p50 {:.0} p99 {:.0} p99.9 \
             {:.0} max {:.0} us",
            self.seconds,
            scaled(self.requests_per_second),
            scaled(self.records_per_second),
            self.megabytes_per_second,
            self.latency_us.p50,
            self.latency_us.p99,
            self.latency_us.p99_9,
            self.latency_us.max
        )
    }

    fn print(&self, args: &BenchArgs) -> Done {
        let mut out = Output::new();
        if args.json {
            let json =
                serde_json::to_string(self).map_err(|error| Failure::new(error.to_string()))?;
            out.line(json)?;
            return out.flush();
        }
        let latency = &self.latency_us;
        out.line(format_args!("{}, {:.1} s", self.what, self.seconds))?;
        out.line(format_args!(
            "  requests  {:>12}  {:>12.0}/s",
            self.requests, self.requests_per_second
        ))?;
        out.line(format_args!(
            "  records   {:>12}  {:>12.0}/s",
            self.records, self.records_per_second
        ))?;
        out.line(format_args!(
            "  bytes     {:>12}  {:>12.1} MB/s",
            self.bytes, self.megabytes_per_second
        ))?;
        out.line(format_args!(
            "  latency   mean {:.0}  p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  \
             max {:.0} us",
            latency.mean,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p99_9,
            latency.p99_99,
            latency.max
        ))?;
        out.flush()
    }
}

/// Lets the workers warm up and then run for the measured time, and prints what came of it.
///
/// `workers` have been spawned; they look at [`Meter::runs`] and call [`Meter::finish`].
async fn measure(
    runtime: &Runtime,
    args: &BenchArgs,
    meter: &Meter,
    what: &'static str,
    workers: u32,
) -> Done {
    let progress = Progress::new(Visible::unless(args.json));
    let over = || !meter.runs() || meter.0.finished.get() >= workers;
    wait(runtime, seconds(args.warm_up), over, |_| {
        progress.show("warming up");
    })
    .await;
    meter.reset();
    let began = runtime.now();
    wait(runtime, seconds(args.duration), over, |passed| {
        progress.show(meter.report(what, passed).line());
    })
    .await;
    let report = meter.report(what, runtime.now().since(began));
    meter.0.stopped.set(true);
    progress.end("done");
    if let Some(failure) = meter.0.failure.borrow_mut().take() {
        return Err(Failure(failure));
    }
    report.print(args)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Waits for `duration`, telling every second how much has passed; returns early when it is over
/// or the user asked for the end.
async fn wait(
    runtime: &Runtime,
    duration: Duration,
    over: impl Fn() -> bool,
    tell: impl Fn(Duration),
) {
    const LOOK: Duration = Duration::from_millis(50);
    let began = runtime.now();
    let mut told = Duration::ZERO;
    let looking = async {
        loop {
            let passed = runtime.now().since(began);
            if passed >= duration || over() {
                return;
            }
            if passed >= told + Duration::from_secs(1) {
                told = passed;
                tell(passed);
            }
            runtime.sleep(LOOK.min(duration - passed)).await;
        }
    };
    first(looking, runtime.terminated()).await;
}

/// When request number `index` is due.
fn due(began: Instant, interval: Duration, index: u64) -> Instant {
    let nanos = interval.as_nanos().saturating_mul(u128::from(index));
    began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
