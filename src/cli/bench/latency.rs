//! One rate after the other: how latency grows with the load, and the highest rate that the broker
//! keeps up with.

use serde::Serialize;

use crate::runtime::Runtime;

use super::super::args::BenchLatencyArgs;
use super::super::terminal::{Done, Failure, Progress, Visible};
use super::meter::{Course, Meter};
use super::page::{NOTE_OPEN, NOTES_ALWAYS, Page, Table, curve_points, plot_of_curves};
use super::plot::{Axis, Line, Plot};
use super::produce::Field;
use super::producers::Speed;
use super::report::{Form, Report};
use super::{Load, command_line, report, seconds, write};

/// The first rate of the default ladder, requests a second.
const FIRST_RATE: f64 = 500.0;

/// Most steps of the default ladder: up to 16 million requests a second.
const STEPS_MAX: i32 = 16;

/// The part of a rate that has to be reached.
const REACHED_MIN: f64 = 0.99;

/// What the ladder means.
const NOTE_LADDER: &str = "A rate is kept up with when at least 99 % of it was answered within the \
     measured time and p99 stayed below the bound of the command line. The highest such rate \
     depends on batches, connections and partitions, and on the client: see how late it sent.";

/// One rate.
#[derive(Debug, Serialize)]
struct Step {
    /// Requests a second that were asked for.
    asked_per_second: f64,
    /// Requests a second that were answered.
    reached_per_second: f64,
    kept_up: bool,
    #[serde(flatten)]
    report: Report,
}

/// All rates.
#[derive(Debug, Serialize)]
struct Ladder {
    what: &'static str,
    p99_max_ms: f64,
    /// The highest rate that was kept up with, requests a second.
    highest_kept_up: Option<f64>,
    steps: Vec<Step>,
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: BenchLatencyArgs) -> Done {
    let common = &args.common;
    let field = Field::open(&runtime, common, &args.load, args.batch_records).await?;
    let progress = Progress::new(Visible::unless(common.json));
    let doubling = (0..STEPS_MAX).map(|step| FIRST_RATE * 2_f64.powi(step));
    let given = !args.rates.is_empty();
    let rates = if given { args.rates.clone() } else { doubling.collect() };
    if rates.iter().any(|rate| !rate.is_finite() || *rate <= 0.0) {
        return Err(Failure::new("rates are requests a second, more than 0"));
    }
    let form = Form::chosen(common.json);
    let mut steps = Vec::new();
    for rate in rates {
        let step = climb(&runtime, &args, &field, rate, &progress).await?;
        progress.end(format_args!("{rate:.0} a second: done"));
        if form == Form::Lines {
            report::print(form, &(), &[step.line()])?;
        }
        let ends = !given && !step.kept_up;
        steps.push(step);
        if ends || runtime_ends(&runtime).await {
            break;
        }
    }
    let kept_up = steps.iter().filter(|step| step.kept_up).map(|step| step.asked_per_second);
    let ladder = Ladder {
        what: "latency",
        p99_max_ms: args.p99_max_ms,
        highest_kept_up: kept_up.reduce(f64::max),
        steps,
    };
    report::print(form, &ladder, &[ladder.verdict()])?;
    match &common.html {
        Some(path) => write(&runtime, path, &ladder.page(&args)).await,
        None => Ok(()),
    }
}

/// Whether the user has asked for the end.
async fn runtime_ends(runtime: &Runtime) -> bool {
    runtime.timeout(std::time::Duration::ZERO, runtime.terminated()).await.is_some()
}

/// Measures one rate.
async fn climb(
    runtime: &Runtime,
    args: &BenchLatencyArgs,
    field: &Field,
    rate: f64,
    progress: &Progress,
) -> Result<Step, Failure> {
    let common = &args.common;
    let course = Course::new();
    let meter = Meter::new(&course, seconds(common.duration));
    let pipes = field.start(Speed::Rate(rate), &meter).await?;
    let load = Load { runtime, args: common, course, pipes, workers: 0, progress };
    let told = |passed| format!("{rate:.0} a second, {}", meter.report("latency", passed).line());
    let took = load.measure(told).await;
    load.course.stop();
    let report = meter.last_report("latency", took?);
    Ok(Step {
        asked_per_second: rate,
        reached_per_second: report.requests_per_second,
        kept_up: keeps_up(&report, rate, common.connections.max(1), args.p99_max_ms),
        report,
    })
}

/// Whether a rate was kept up with. One request on each connection may have been due at the very
/// end, which a short measurement must not be blamed for.
fn keeps_up(report: &Report, rate: f64, connections: u32, p99_max_ms: f64) -> bool {
    let wanted = rate * report.seconds * REACHED_MIN;
    let reached = (report.requests + u64::from(connections)) as f64;
    let answered = report.latency_us.count > 0 && report.unanswered == 0;
    answered && reached >= wanted && report.latency_us.p99 < p99_max_ms * 1000.0
}

impl Step {
    fn line(&self) -> String {
        let latency = &self.report.latency_us;
        let worst = self.report.worst_second.and_then(|worst| worst.p99_us).unwrap_or_default();
        format!(
            "{:>9.0}/s  reached {:>9.0}/s  p50 {:>7.0}  p99 {:>7.0}  p99.9 {:>7.0}  max {:>8.0}  \
             worst second's p99 {:>7.0} us{}",
            self.asked_per_second,
            self.reached_per_second,
            latency.p50,
            latency.p99,
            latency.p99_9,
            latency.max,
            worst,
            if self.kept_up { "" } else { "  not kept up" }
        )
    }

    fn cells(&self) -> Vec<String> {
        let report = &self.report;
        let latency = &report.latency_us;
        let worst = report.worst_second.and_then(|worst| worst.p99_us);
        let late = report.sent_late_us.map(|late| late.p99);
        let times = [
            Some(latency.p50),
            Some(latency.p99),
            Some(latency.p99_9),
            Some(latency.max),
            worst,
            late,
        ];
        let mut cells = vec![
            format!("{:.0}", self.asked_per_second),
            format!("{:.0}", self.reached_per_second),
            format!("{:.1}", report.megabytes_per_second),
        ];
        let time = |micros: Option<f64>| micros.map_or("-".to_owned(), |it| format!("{it:.0}"));
        cells.extend(times.map(time));
        cells.push(if self.kept_up { "yes" } else { "no" }.to_owned());
        cells
    }
}

impl Ladder {
    fn verdict(&self) -> String {
        match self.highest_kept_up {
            Some(rate) => format!("kept up with {rate:.0} requests a second at most"),
            None => "kept up with none of the rates".to_owned(),
        }
    }

    fn page(&self, args: &BenchLatencyArgs) -> Page {
        let head = [
            "asked/s",
            "reached/s",
            "MB/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "largest us",
            "worst second's p99",
            "sent late, p99",
            "kept up",
        ];
        let table = Table {
            head: head.map(str::to_owned).into(),
            rows: self.steps.iter().map(Step::cells).collect(),
        };
        Page {
            title: format!("corelog bench latency: {}", self.verdict()),
            command: command_line(),
            brokers: args.common.cluster.bootstrap.clone(),
            tables: vec![table],
            plots: vec![self.plot_by_rate(), self.plot_by_percentile()],
            notes: [NOTE_OPEN, NOTE_LADDER].into_iter().chain(NOTES_ALWAYS).collect(),
        }
    }

    fn plot_by_rate(&self) -> Plot {
        type Figure = fn(&Report) -> f64;
        let figures: [(&str, &str, Figure); 3] = [
            ("p50", "var(--a)", |report| report.latency_us.p50),
            ("p99", "var(--b)", |report| report.latency_us.p99),
            ("p99.9", "var(--c)", |report| report.latency_us.p99_9),
        ];
        let line = |(name, colour, figure): (&str, &str, Figure)| Line {
            name: name.to_owned(),
            colour: colour.to_owned(),
            points: self
                .steps
                .iter()
                .map(|step| (step.asked_per_second, figure(&step.report)))
                .collect(),
        };
        let lines: Vec<Line> = figures.into_iter().map(line).collect();
        let rates = self.steps.iter().map(|step| step.asked_per_second);
        let times = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let y = Axis::logarithmic("us", times);
        let x = Axis::logarithmic("requests/s asked for", rates);
        Plot { title: "Latency by rate".to_owned(), x, y, lines }
    }

    /// A line for each rate, from blue for the lowest to red for the highest.
    fn plot_by_percentile(&self) -> Plot {
        let last = self.steps.len().saturating_sub(1).max(1);
        let lines = self.steps.iter().enumerate().map(|(index, step)| Line {
            name: format!("{:.0}/s", step.asked_per_second),
            colour: format!("hsl({} 65% 50%)", 215 - 205 * index / last),
            points: curve_points(&step.report),
        });
        plot_of_curves(lines.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::base::Instant;
    use crate::cli::bench::seconds::Amount;

    /// Of two seconds with so many requests, each answered after so many microseconds.
    fn report(requests: u64, latency_us: u64) -> Report {
        let course = Course::new();
        let meter = Meter::new(&course, Duration::from_secs(2));
        let began = Instant::from_nanos(1);
        course.begin(began, Duration::from_secs(2));
        for _ in 0..requests {
            let now = began + Duration::from_micros(latency_us);
            meter.count(began, now, Amount { requests: 1, records: 1, bytes: 100 });
        }
        course.end(began + Duration::from_secs(2));
        meter.last_report("test", Duration::from_secs(2))
    }

    fn ladder() -> Ladder {
        let step = |(rate, requests, latency_us)| {
            let report = report(requests, latency_us);
            Step {
                asked_per_second: rate,
                reached_per_second: report.requests_per_second,
                kept_up: keeps_up(&report, rate, 1, 50.0),
                report,
            }
        };
        let steps = [(500.0, 1000, 200), (1000.0, 2000, 900), (2000.0, 2100, 80_000)];
        let steps: Vec<Step> = steps.into_iter().map(step).collect();
        Ladder { what: "latency", p99_max_ms: 50.0, highest_kept_up: Some(1000.0), steps }
    }

    #[test]
    fn a_rate_is_kept_up_with_when_it_is_reached_and_quick() {
        let cases = [
            ("all of it", 1000, 200, true),
            ("99 %", 990, 200, true),
            ("one less, due at the end", 989, 200, true),
            ("too few", 985, 200, false),
            ("too slow", 1000, 60_000, false),
            ("nothing", 0, 0, false),
        ];
        for (name, requests, latency_us, expected) in cases {
            let found = keeps_up(&report(requests, latency_us), 500.0, 1, 50.0);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_ladder_says_each_step_in_text_and_json() {
        let ladder = ladder();
        let slow: Vec<_> =
            ladder.steps.iter().map(|step| step.line().contains("not kept up")).collect();
        assert_eq!(slow, [false, false, true]);
        assert!(ladder.verdict().contains("1000 requests a second"), "{}", ladder.verdict());
        let json = serde_json::to_value(&ladder).expect("is JSON");
        assert_eq!(json["highest_kept_up"], 1000.0);
        let step = &json["steps"][0];
        assert_eq!((&step["asked_per_second"], &step["kept_up"]), (&500.0.into(), &true.into()));
        for field in ["requests", "latency_us", "worst_second", "per_second", "curve", "seconds"] {
            assert!(!step[field].is_null(), "{field}");
        }
    }

    #[test]
    fn the_ladders_plots_have_a_line_for_each_rate() {
        let ladder = ladder();
        assert_eq!(ladder.plot_by_percentile().lines.len(), 3);
        let svg = ladder.plot_by_rate().svg();
        assert_eq!(svg.matches("class=\"line\"").count(), 3);
        assert!(!svg.contains("NaN"));
        assert!(ladder.steps.iter().all(|step| step.cells().len() == 10));
    }
}
