//! Metrics of clients and reporters.

use crate::config::setting::{Items, Setting, int, list, long, number, string, text};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    list("config.providers", text(""))
        .items(Items::NOT_NULL, &[])
        .low()
        .cluster_wide()
        .no_effect("Java classes that replace placeholders in settings."),
    int("kafka.metrics.polling.interval.secs", number(10))
        .at_least(1)
        .low()
        .no_effect("Period of Java metric reporters, in seconds."),
    list("kafka.metrics.reporters", text(""))
        .items(Items::NOT_NULL, &[])
        .low()
        .no_effect("Java metric reporters."),
    list("metric.reporters", text("org.apache.kafka.common.metrics.JmxReporter"))
        .items(Items::NOT_NULL, &[])
        .low()
        .cluster_wide()
        .no_effect("Java metric reporters."),
    int("metrics.num.samples", number(2))
        .at_least(1)
        .low()
        .no_effect("Samples kept for a Java metric."),
    string("metrics.recording.level", text("INFO")).low().no_effect("Detail of Java metrics."),
    long("metrics.sample.window.ms", number(30_000))
        .at_least(1)
        .low()
        .no_effect("Length of one sample of a Java metric, in milliseconds."),
    int("telemetry.max.bytes", number(1_048_576))
        .at_least(1)
        .low()
        .no_effect("Largest push of client metrics, in bytes."),
];
