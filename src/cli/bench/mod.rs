//! `corelog bench`: load from any number of connections, and what came of it.
//!
//! ```text
//! produce, latency, end_to_end   what is sent and received
//! producers                      the connections that write
//! consume, commits, groups       loads without prepared requests
//! batches, frames, pipe          prepared batches -> requests -> a connection that only produces
//! meter, seconds                 what is counted, in all and by the second
//! report, page, plot             text, JSON, HTML
//! ```
//!
//! At a fixed rate the load is open-loop: a request is sent at its time whether or not earlier ones
//! were answered, and its latency counts from that time, so a stall of the broker is seen in full
//! (no coordinated omission).

pub mod batches;
pub mod board;
pub mod commits;
pub mod consume;
pub mod end_to_end;
pub mod frames;
pub mod groups;
pub mod latency;
pub mod member;
pub mod meter;
pub mod page;
pub mod pipe;
pub mod plot;
pub mod produce;
pub mod producers;
pub mod report;
pub mod seconds;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::Instant;
use crate::runtime::Runtime;
use crate::runtime::local::first;

use super::args::BenchArgs;
use super::client::{ClientError, Creation};
use super::target::Target;
use super::terminal::{Done, Failure, Progress, Visible};
use super::topic::open;
use meter::{Course, Meter};
use page::{NOTE_SECONDS, NOTES_ALWAYS, Page, Rate, Table};
use pipe::Pipe;
use producers::START_DELAY;
use report::{Form, Report};

/// How often is looked whether a load is over.
const LOOK: Duration = Duration::from_millis(50);

/// How long behind the measured time answers are waited for.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// A load that was started.
struct Load<'a> {
    runtime: &'a Runtime,
    args: &'a BenchArgs,
    course: Course,
    /// Connections that produce.
    pipes: Vec<Rc<Pipe>>,
    /// Workers that may have nothing left to do before the time is over.
    workers: u32,
    progress: &'a Progress,
}

impl Load<'_> {
    /// Lets the load warm up and run for the measured time, which it returns; then waits for the
    /// answers to what was due in it, and closes the pipes. `tell` makes the progress line.
    async fn measure(&self, tell: impl Fn(Duration) -> String) -> Result<Duration, Failure> {
        let took = self.measure_open(tell).await?;
        let drained = || !self.course.runs() || self.pipes.iter().all(|pipe| pipe.is_done());
        let waiting = |_| self.progress.show("waiting for answers");
        wait(self.runtime, DRAIN_MAX, drained, waiting).await;
        self.close()?;
        Ok(took)
    }

    /// The same up to the end of the measured time; [`close`](Self::close) has to follow.
    async fn measure_open(&self, tell: impl Fn(Duration) -> String) -> Result<Duration, Failure> {
        let Self { runtime, args, course, progress, .. } = self;
        let all_finished = || self.workers > 0 && course.finished() >= self.workers;
        let over = || {
            self.look_for_silence();
            !course.runs() || all_finished()
        };
        // The first requests of pipes are due a little after these were started.
        let first_due = if self.pipes.is_empty() { Duration::ZERO } else { START_DELAY };
        let warm_up = seconds(args.warm_up).max(first_due);
        wait(runtime, warm_up, over, |_| progress.show("warming up")).await;
        let duration = seconds(args.duration);
        course.begin(runtime.now(), duration);
        wait(runtime, duration, over, |passed| progress.show(tell(passed))).await;
        let took = course.end(runtime.now());
        course.failure().map_or(Ok(took), |failure| Err(Failure(failure)))
    }

    /// Ends what is still there of the load.
    fn close(&self) -> Done {
        for pipe in &self.pipes {
            pipe.close();
        }
        self.course.failure().map_or(Ok(()), |failure| Err(Failure(failure)))
    }

    /// Fails the run when a broker owes an answer for too long.
    fn look_for_silence(&self) {
        let now = self.runtime.now();
        let timeout = Duration::from_secs(self.args.cluster.timeout.max(1));
        if let Some(pipe) = self.pipes.iter().find(|pipe| pipe.is_silent(now, timeout)) {
            let address = pipe.address().to_owned();
            self.course.finish(Err(ClientError::TimedOut { address }));
        }
    }
}

/// Lets workers that were spawned warm up and run for the measured time; the report. They look at
/// [`Meter::runs`] and call [`Meter::finish`].
async fn measure(
    runtime: &Runtime,
    args: &BenchArgs,
    meter: &Meter,
    what: &'static str,
    workers: u32,
) -> Result<Report, Failure> {
    let progress = Progress::new(Visible::unless(args.json));
    let course = meter.course().clone();
    let load = Load { runtime, args, course, pipes: Vec::new(), workers, progress: &progress };
    let took = load.measure(|passed| meter.report(what, passed).line()).await;
    meter.course().stop();
    progress.end("done");
    Ok(meter.last_report(what, took?))
}

/// Prints a report, and writes its page when one was asked for.
async fn tell(
    runtime: &Runtime,
    args: &BenchArgs,
    report: &Report,
    rate: Rate,
    notes: &[&'static str],
) -> Done {
    report::print(Form::chosen(args.json), report, &report.lines())?;
    let Some(path) = &args.html else { return Ok(()) };
    let page = Page {
        title: format!("corelog bench {}", report.what),
        command: command_line(),
        brokers: args.cluster.bootstrap.clone(),
        tables: vec![Table::of_rows(report.rows())],
        plots: page::plots(report, rate),
        notes: notes.iter().copied().chain([NOTE_SECONDS]).chain(NOTES_ALWAYS).collect(),
    };
    write(runtime, path, &page).await
}

/// Writes a page.
async fn write(runtime: &Runtime, path: &Path, page: &Page) -> Done {
    let written = runtime.disk().write_atomically(path, page.html().as_bytes()).await;
    written.map_err(|error| Failure(format!("{} can not be written: {error}", path.display())))
}

/// The command line this process was started with.
fn command_line() -> String {
    let words = std::env::args().enumerate().map(|(index, word)| match index {
        0 => "corelog".to_owned(),
        _ if word.contains(char::is_whitespace) => format!("'{word}'"),
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
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
    pipe::Pace::Timed { began, interval }.due(index, began)
}
