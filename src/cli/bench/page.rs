//! The page of a measurement: plots, figures, and what they do and do not mean. Pure, and whole in
//! itself: no script, no font, nothing from elsewhere.

use super::plot::{Axis, Line, Plot, escape, place_of_quantile};
use super::report::{Report, Row};
use super::seconds::Second;

/// Most points of a plot over time; with more seconds, several share a point.
const POINTS_MAX: usize = 600;

/// Everything that is on a page.
pub struct Page {
    /// What was measured.
    pub title: String,
    /// The command line.
    pub command: String,
    /// The broker's addresses.
    pub brokers: String,
    /// Tables of figures.
    pub tables: Vec<Table>,
    /// Plots.
    pub plots: Vec<Plot>,
    /// What the figures mean and do not mean.
    pub notes: Vec<&'static str>,
}

/// A table: columns by name, and rows.
pub struct Table {
    /// The names of the columns.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of names and figures.
    pub fn of_rows(rows: Vec<Row>) -> Self {
        Self {
            head: vec!["figure".to_owned(), "value".to_owned()],
            rows: rows.into_iter().map(|(name, figure)| vec![name, figure]).collect(),
        }
    }
}

/// What holds for every measurement.
pub const NOTES_ALWAYS: [&str; 3] = [
    "One run on one machine. How much the figures move from run to run is not in them: repeat it, \
     in turns with what it is compared with.",
    "The load was made by one thread of one process. Where requests were sent late by about as \
     much as they took, the client was measured, not the broker; the same holds when client and \
     broker share a processor.",
    "Percentiles of different seconds, steps or runs can not be averaged.",
];

/// What holds at a fixed rate.
pub const NOTE_OPEN: &str = "Each request was sent at its time, whether or not earlier ones had \
     been answered, and its latency counts from that time: what stood still is seen in full. A \
     request that was due in the measured time and answered behind it counts as well.";

/// What holds as fast as possible.
pub const NOTE_CLOSED: &str = "As fast as possible: each connection waits for answers before it \
     sends more. The latencies are those of this closed loop: they grow with the requests in \
     flight, and a broker that stands still is asked nothing meanwhile. They are no measure of \
     what a client at a steady rate would see.";

/// What holds where the times of a second are shown.
pub const NOTE_SECONDS: &str = "A second has the requests that were answered in it; one in which \
     nothing was answered has no latency and breaks the line. The worst second is the one with the \
     highest p99. With more than 600 seconds several share a point: the mean rate, the highest \
     latency.";

/// The style: light or dark as the reader has it.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1e21;--dim:#5f6670;--rule:#d9dce1;--back:#fff;\
--a:#2563c9;--b:#c2570c;--c:#7a7f87}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--dim:#9aa2ad;--rule:#343a42;--back:#16181b;\
--a:#6ea3ff;--b:#f29a4a;--c:#8d949e}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:800px;\
margin:2em auto;padding:0 1em}\
h1{font-size:1.5em}h2{font-size:1.1em;margin:1.8em 0 .3em}\
code{font-size:.9em;overflow-wrap:anywhere}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{text-align:left;padding:.15em 1.5em .15em 0;border-bottom:1px solid var(--rule)}\
div.wide{overflow-x:auto}\
svg{width:100%;height:auto;font:11px system-ui,sans-serif}svg text{fill:var(--dim)}\
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--dim);fill:none}\
.line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}\
.key{color:var(--dim);font-size:.9em;margin:0}\
.key i{display:inline-block;width:1.2em;height:3px;vertical-align:middle;margin:0 .4em 0 1em}";

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title>\n<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        );
        html += &format!(
            "<p>Command: <code>{}</code><br>Broker: <code>{}</code><br>corelog {}</p>\n",
            escape(&self.command),
            escape(&self.brokers),
            env!("CARGO_PKG_VERSION")
        );
        for table in &self.tables {
            html += &table.html();
        }
        for plot in &self.plots {
            html += &format!("<h2>{}</h2>\n{}{}", escape(&plot.title), key(plot), plot.svg());
        }
        html += "<h2>What the figures mean, and what they do not</h2>\n<ul>\n";
        for note in &self.notes {
            html += &format!("<li>{}</li>\n", escape(note));
        }
        html += "</ul>\n</body></html>\n";
        html
    }
}

impl Table {
    fn html(&self) -> String {
        let cells = |row: &[String], name: &str| -> String {
            row.iter().map(|cell| format!("<{name}>{}</{name}>", escape(cell))).collect()
        };
        let mut html = format!("<div class=\"wide\"><table><tr>{}</tr>\n", cells(&self.head, "th"));
        for row in &self.rows {
            html += &format!("<tr>{}</tr>\n", cells(row, "td"));
        }
        html += "</table></div>\n";
        html
    }
}

/// Which colour is which line; nothing for a single line.
fn key(plot: &Plot) -> String {
    if plot.lines.len() < 2 {
        return String::new();
    }
    let entry =
        |line: &Line| format!("<i style=\"background:{}\"></i>{}", line.colour, escape(&line.name));
    let entries: String = plot.lines.iter().map(entry).collect();
    format!("<p class=\"key\">{entries}</p>\n")
}

/// The plots of one load: latency by percentile, rate over time, latency over time.
pub fn plots(report: &Report, rate: Rate) -> Vec<Plot> {
    let curve = Line {
        name: "latency".to_owned(),
        colour: "var(--a)".to_owned(),
        points: curve_points(report),
    };
    let mut plots = vec![plot_of_curves(vec![curve])];
    let points = thin(&report.per_second);
    plots.push(plot_of_rate(&points, rate));
    plots.push(plot_of_times(&points));
    plots
}

/// What a rate is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rate {
    /// Requests a second.
    Requests,
    /// Records a second.
    Records,
    /// Millions of bytes a second.
    Megabytes,
}

/// A plot of latencies by percentile.
pub fn plot_of_curves(lines: Vec<Line>) -> Plot {
    let places = lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let highest = places.fold(10.0, f64::max);
    let times = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    Plot {
        title: "Latency by percentile".to_owned(),
        x: Axis::percentiles(1.0 - 1.0 / highest),
        y: Axis::logarithmic("us", times),
        lines,
    }
}

/// A report's curve for [`plot_of_curves`]; the largest lies where the number of latencies puts it.
pub fn curve_points(report: &Report) -> Vec<(f64, f64)> {
    let last = report.latency_us.count.max(1) as f64;
    let place = |quantile: f64| if quantile >= 1.0 { last } else { place_of_quantile(quantile) };
    report.curve.iter().map(|(quantile, time)| (place(*quantile).min(last), *time)).collect()
}

fn plot_of_rate(points: &[Second], rate: Rate) -> Plot {
    let (title, unit) = match rate {
        Rate::Requests => ("Requests a second, over time", "requests/s"),
        Rate::Records => ("Records a second, over time", "records/s"),
        Rate::Megabytes => ("MB a second, over time", "MB/s"),
    };
    let figure = |second: &Second| match rate {
        Rate::Requests => second.requests as f64 / second.length,
        Rate::Records => second.records as f64 / second.length,
        Rate::Megabytes => second.bytes as f64 / second.length / 1e6,
    };
    let line = Line {
        name: unit.to_owned(),
        colour: "var(--a)".to_owned(),
        points: points.iter().map(|second| (second.at, figure(second))).collect(),
    };
    let high = points.iter().map(figure).fold(0.0, f64::max);
    let (x, y) = (axis_of_time(points), Axis::linear(unit, high));
    Plot { title: title.to_owned(), x, y, lines: vec![line] }
}

fn plot_of_times(points: &[Second]) -> Plot {
    type Figure = fn(&Second) -> Option<f64>;
    let lines: [(&str, &str, Figure); 3] = [
        ("p50", "var(--a)", |second| second.p50_us),
        ("p99", "var(--b)", |second| second.p99_us),
        ("largest", "var(--c)", |second| second.max_us),
    ];
    let lines: Vec<Line> = lines
        .into_iter()
        .map(|(name, colour, figure)| Line {
            name: name.to_owned(),
            colour: colour.to_owned(),
            points: points
                .iter()
                .map(|second| (second.at, figure(second).unwrap_or(f64::NAN)))
                .collect(),
        })
        .collect();
    let times = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let y = Axis::logarithmic("us", times);
    Plot { title: "Latency of each second".to_owned(), x: axis_of_time(points), y, lines }
}

fn axis_of_time(points: &[Second]) -> Axis {
    Axis::linear("s", points.last().map_or(1.0, |last| last.at))
}

/// As many seconds as a plot has points: neighbours share one.
fn thin(seconds: &[Second]) -> Vec<Second> {
    let share = seconds.len().div_ceil(POINTS_MAX).max(1);
    let larger = |left: Option<f64>, right: Option<f64>| if right > left { right } else { left };
    let merged = |group: &[Second]| {
        group.iter().skip(1).fold(group[0], |sum, next| Second {
            at: sum.at,
            length: sum.length + next.length,
            requests: sum.requests + next.requests,
            records: sum.records + next.records,
            bytes: sum.bytes + next.bytes,
            p50_us: larger(sum.p50_us, next.p50_us),
            p99_us: larger(sum.p99_us, next.p99_us),
            max_us: larger(sum.max_us, next.max_us),
        })
    };
    seconds.chunks(share).map(merged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::base::Instant;
    use crate::cli::bench::meter::{Course, Meter};
    use crate::cli::bench::seconds::Amount;

    fn report() -> Report {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let course = Course::new();
        let meter = Meter::new(&course, Duration::from_secs(3));
        course.begin(at(0), Duration::from_secs(3));
        for index in 0..3000 {
            let amount = Amount { requests: 1, records: 2, bytes: 300 };
            meter.count(at(index), at(index + 1 + index % 7), amount);
        }
        course.end(at(3000));
        meter.last_report("test", Duration::from_secs(3))
    }

    #[test]
    fn a_page_is_whole_in_itself_and_says_everything() {
        let report = report();
        let page = Page {
            title: "produce <t>".to_owned(),
            command: "corelog bench produce --topic \"a&b\"".to_owned(),
            brokers: "127.0.0.1:9092".to_owned(),
            tables: vec![Table::of_rows(report.rows())],
            plots: plots(&report, Rate::Requests),
            notes: [NOTE_OPEN, NOTE_CLOSED].into_iter().chain(NOTES_ALWAYS).collect(),
        };
        let html = page.html();
        for needed in [
            "produce &lt;t&gt;",
            "a&amp;b",
            "127.0.0.1:9092",
            "latency, p99.9",
            "worst second",
            "Latency by percentile",
            "Requests a second",
            "Latency of each second",
            "closed loop",
            "99.9 %",
        ] {
            assert!(html.contains(needed), "{needed} is missing");
        }
        for foreign in ["<script", "http:", "https:", "@import", "url(", "NaN", "inf"] {
            assert!(!html.contains(foreign), "{foreign} has no place in it");
        }
        for element in ["svg", "table", "ul", "body", "html"] {
            let open = html.matches(&format!("<{element}")).count();
            assert_eq!(open, html.matches(&format!("</{element}>")).count(), "{element}");
        }
        assert!(html.is_ascii());
    }

    #[test]
    fn long_runs_are_thinned_without_hiding_the_worst() {
        let mut seconds = vec![report().per_second[0]; 3601];
        seconds[1800].p99_us = Some(9e6);
        let points = thin(&seconds);
        assert_eq!(points.len(), 515);
        assert!(points.iter().any(|point| point.p99_us == Some(9e6)));
        let total: u64 = points.iter().map(|point| point.requests).sum();
        assert_eq!(total, seconds.iter().map(|second| second.requests).sum::<u64>());
    }

    #[test]
    fn a_run_without_an_answer_has_a_page_too() {
        let meter = Meter::new(&Course::new(), Duration::from_secs(1));
        let report = meter.last_report("test", Duration::from_secs(1));
        for plot in plots(&report, Rate::Megabytes) {
            assert!(plot.svg().contains("</svg>"));
        }
    }
}
