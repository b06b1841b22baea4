//! What a load came to: its figures, as lines for the terminal, as JSON, as rows of a table.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::terminal::{Done, Failure, Output, scaled};
use super::seconds::{Second, micros};

/// What a run measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was done.
    pub what: &'static str,
    /// How long it was measured.
    pub seconds: f64,
    /// Requests answered in this time.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Requests a second.
    pub requests_per_second: f64,
    /// Records a second.
    pub records_per_second: f64,
    /// Millions of bytes a second.
    pub megabytes_per_second: f64,
    /// Latencies of what was due in this time.
    pub latency_us: Latency,
    /// How late requests were sent; none when they had no time to be sent at.
    pub sent_late_us: Option<Spread>,
    /// Requests that were due and not answered long after the end. They count among the latencies
    /// with the time that had passed.
    pub unanswered: u64,
    /// The second with the highest p99.
    pub worst_second: Option<Second>,
    /// All seconds.
    pub per_second: Vec<Second>,
    /// Seconds that are not among these, for want of room.
    pub per_second_left_out: u64,
    /// Latency by quantile: (quantile, microseconds).
    pub curve: Vec<(f64, f64)>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// How many there are.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// One in ten is larger.
    pub p90: f64,
    /// One in a hundred is larger.
    pub p99: f64,
    /// One in a thousand is larger.
    pub p99_9: f64,
    /// One in ten thousand is larger.
    pub p99_99: f64,
    /// The largest.
    pub max: f64,
}

impl Latency {
    /// The latencies of a histogram.
    pub fn of(latency: &Histogram<u64>) -> Self {
        let at = |quantile| micros(latency.value_at_quantile(quantile));
        Self {
            count: latency.len(),
            mean: latency.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: micros(latency.max()),
        }
    }

    /// All of them in a line.
    pub fn line(&self) -> String {
        format!(
            "mean {:.0}  p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  max {:.0} us",
            self.mean, self.p50, self.p90, self.p99, self.p99_9, self.p99_99, self.max
        )
    }
}

/// A few quantiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The median.
    pub p50: f64,
    /// One in a hundred is larger.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of a histogram.
    pub fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| micros(times.value_at_quantile(quantile));
        Self { p50: at(0.5), p99: at(0.99), max: micros(times.max()) }
    }
}

/// A figure with its name, for tables.
pub type Row = (String, String);

/// A row of a table.
pub fn row(name: impl Into<String>, figure: impl Into<String>) -> Row {
    (name.into(), figure.into())
}

impl Report {
    /// The report so far, for the progress line.
    pub fn line(&self) -> String {
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

    /// The lines of the terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}, {:.1} s", self.what, self.seconds),
            format!("  requests  {:>12}  {:>12.0}/s", self.requests, self.requests_per_second),
            format!("  records   {:>12}  {:>12.0}/s", self.records, self.records_per_second),
            format!("  bytes     {:>12}  {:>12.1} MB/s", self.bytes, self.megabytes_per_second),
            format!("  latency   {}", self.latency_us.line()),
        ];
        if let Some(words) = self.worst_words() {
            lines.push(format!("  worst     {words}"));
        }
        if let Some(late) = &self.sent_late_us {
            let Spread { p50, p99, max } = late;
            lines.push(format!("  sent late p50 {p50:.0}  p99 {p99:.0}  max {max:.0} us"));
        }
        if self.unanswered > 0 {
            lines.push(format!("  {} requests were not answered", self.unanswered));
        }
        lines
    }

    /// The rows of the page's table.
    pub fn rows(&self) -> Vec<Row> {
        let latency = &self.latency_us;
        let time = |micros: f64| format!("{micros:.0} us");
        let mut rows = vec![
            row("measured", format!("{:.1} s", self.seconds)),
            row("requests", format!("{}, {:.0}/s", self.requests, self.requests_per_second)),
            row("records", format!("{}, {:.0}/s", self.records, self.records_per_second)),
            row("bytes", format!("{}, {:.1} MB/s", self.bytes, self.megabytes_per_second)),
            row("latency, mean", time(latency.mean)),
            row("latency, p50", time(latency.p50)),
            row("latency, p90", time(latency.p90)),
            row("latency, p99", time(latency.p99)),
            row("latency, p99.9", time(latency.p99_9)),
            row("latency, p99.99", time(latency.p99_99)),
            row("latency, largest", time(latency.max)),
        ];
        rows.extend(self.worst_words().map(|words| row("worst second", words)));
        if let Some(late) = &self.sent_late_us {
            let words =
                format!("p50 {:.0}, p99 {:.0}, largest {:.0} us", late.p50, late.p99, late.max);
            rows.push(row("sent late by", words));
            rows.push(row("not answered", self.unanswered.to_string()));
        }
        rows
    }

    fn worst_words(&self) -> Option<String> {
        let worst = self.worst_second?;
        let (p99, max) = (worst.p99_us?, worst.max_us?);
        Some(format!(
            "second {:.0}: p99 {p99:.0}  max {max:.0} us, {} requests",
            worst.at, worst.requests
        ))
    }
}

/// Prints the JSON of `value` alone, or else `lines`.
pub fn print(form: Form, value: &impl Serialize, lines: &[String]) -> Done {
    let mut out = Output::new();
    match form {
        Form::Json => {
            let json =
                serde_json::to_string(value).map_err(|error| Failure::new(error.to_string()))?;
            out.line(json)?;
        }
        Form::Lines => {
            for line in lines {
                out.line(line)?;
            }
        }
    }
    out.flush()
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// As a line of JSON, and nothing else.
    Json,
    /// As lines for people.
    Lines,
}

impl Form {
    /// As the user asked with `--json`.
    pub fn chosen(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}
