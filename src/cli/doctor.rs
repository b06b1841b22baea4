//! `corelog doctor`: what this machine offers, what is wrong with that, and how to mend it.

use std::path::Path;

use crate::runtime::real::MachineReport;

use super::args::DoctorArgs;
use super::terminal::{Done, Failure, Output};

/// Open files below which a busy broker may run short: segments, indexes and connections.
const OPEN_FILES_WANTED: u64 = 65_536;

/// One thing that was looked at.
struct Finding {
    severity: Severity,
    what: String,
    /// How to mend it; empty when nothing is wrong.
    remedy: String,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Severity {
    Good,
    Advice,
    Wrong,
}

impl Severity {
    fn mark(self) -> &'static str {
        match self {
            Self::Good => "ok    ",
            Self::Advice => "advice",
            Self::Wrong => "WRONG ",
        }
    }
}

/// Runs the command. It fails when something is wrong that keeps the broker from running.
pub fn run(args: &DoctorArgs) -> Done {
    let report = MachineReport::inspect(&args.directory);
    let mut out = Output::new();
    out.bytes(report.to_string().as_bytes())?;
    out.line("")?;
    let findings = findings(&report, &args.directory);
    for finding in &findings {
        out.line(format_args!("{}  {}", finding.severity.mark(), finding.what))?;
        if !finding.remedy.is_empty() {
            out.line(format_args!("        {}", finding.remedy))?;
        }
    }
    out.flush()?;
    let wrong = findings.iter().filter(|it| it.severity == Severity::Wrong).count();
    match wrong {
        0 => Ok(()),
        1 => Err(Failure::new("one thing is wrong on this machine")),
        count => Err(Failure::new(format!("{count} things are wrong on this machine"))),
    }
}

fn finding(severity: Severity, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { severity, what: what.into(), remedy: remedy.into() }
}

fn findings(report: &MachineReport, directory: &Path) -> Vec<Finding> {
    use Severity::{Advice, Good, Wrong};
    let mut found = Vec::new();
    found.push(match &report.io_uring_error {
        None => finding(Good, "io_uring can be used", ""),
        Some(error) => finding(
            Wrong,
            format!("io_uring can not be used: {error}"),
            "needs Linux 5.13 or newer; look at sysctl kernel.io_uring_disabled (0 allows it) and, \
             in a container, at its seccomp profile",
        ),
    });
    found.push(if report.locked_memory_suffices() {
        finding(Good, "locked memory suffices for the rings of all cores", "")
    } else {
        finding(
            Wrong,
            format!("locked memory: {} bytes are needed", report.locked_memory_needed_bytes),
            "raise it: ulimit -l, LimitMEMLOCK= of the systemd unit, or --ulimit memlock= of the \
             container; or set corelog.cores lower",
        )
    });
    found.push(match report.open_files {
        Some(limit) if limit.hard >= OPEN_FILES_WANTED => {
            finding(Good, "enough files may be open at a time", "")
        }
        Some(limit) => finding(
            Advice,
            format!("only {} files may be open at a time", limit.hard),
            "each connection and each segment in use takes one: ulimit -n, or LimitNOFILE= of the \
             systemd unit",
        ),
        None => finding(Advice, "the limit of open files could not be read", ""),
    });
    found.push(match report.clock_source.as_str() {
        "tsc" | "kvm-clock" | "arch_sys_counter" => finding(Good, "the clock is fast to read", ""),
        source => finding(
            Advice,
            format!("the clock source is {source}, which is slow to read"),
            "if the machine's tsc is stable, boot with clocksource=tsc",
        ),
    });
    found.push(file_system(report, directory));
    found.push(if report.cpus.len() > 1 {
        finding(Good, format!("{} CPUs may be used", report.cpus.len()), "")
    } else {
        finding(Advice, "only one CPU may be used", "more of them share the partitions")
    });
    found
}

fn file_system(report: &MachineReport, directory: &Path) -> Finding {
    use Severity::{Advice, Good, Wrong};
    let place = directory.display();
    if let Err(error) = &report.append_path {
        return finding(
            Wrong,
            format!("{place} can not be written: {error}"),
            "create it, and let this user write there",
        );
    }
    match &report.file_system {
        Err(error) => finding(Wrong, format!("{place}: {error}"), "create it"),
        Ok(name) if matches!(name.as_str(), "ext4" | "xfs" | "btrfs" | "f2fs" | "zfs") => {
            finding(Good, format!("{place} is on {name}"), "")
        }
        Ok(name) if name == "tmpfs" => finding(
            Advice,
            format!("{place} is on tmpfs: its data is gone with the machine"),
            "put the data on ext4 or XFS",
        ),
        Ok(name) => finding(
            Advice,
            format!("{place} is on {name}, on which Corelog is not tested"),
            "put the data on ext4 or XFS",
        ),
    }
}
