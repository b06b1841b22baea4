//! What the machine offers: facts for `corelog doctor`, without judgement.

use std::path::Path;
use std::{fmt, fs, io};

use super::disk::{AppendPath, probe_append_path};
use super::start::locked_memory_needed;
use super::sys::{self, Limit, Resource};

/// The magic numbers of statfs(2) for the file systems one meets.
const FILE_SYSTEMS: [(i64, &str); 10] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0x794C_7630, "overlay"),
    (0x6969, "nfs"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
];

/// What was found out about the machine and one directory.
#[derive(Debug)]
pub struct MachineReport {
    /// The kernel's release, such as "6.18.44".
    pub kernel: String,
    /// Why io_uring can not be used; `None` when it can.
    pub io_uring_error: Option<io::Error>,
    /// The limit of locked memory in bytes; `None` when it could not be read.
    pub locked_memory: Option<Limit>,
    /// Whether that limit does not hold for this process (root).
    pub locked_memory_exempt: bool,
    /// Locked memory the cores need, in bytes.
    pub locked_memory_needed_bytes: u64,
    /// The limit of open files; `None` when it could not be read.
    pub open_files: Option<Limit>,
    /// The CPUs this process may run on.
    pub cpus: Vec<usize>,
    /// The kernel's source of time, such as "tsc".
    pub clock_source: String,
    /// The type of the directory's file system, or why it is not known.
    pub file_system: io::Result<String>,
    /// How files in the directory are appended to, or why that is not known.
    pub append_path: io::Result<AppendPath>,
    /// Whether the kernel tells which pages of a file are cached (`cachestat`).
    pub cachestat: bool,
}

impl MachineReport {
    /// Looks at the machine and at `directory`, which should exist. It waits for the disk, and
    /// is not for a core's thread.
    pub fn inspect(directory: &Path) -> Self {
        let cpus = sys::allowed_cpus().unwrap_or_default();
        Self {
            kernel: line_of("/proc/sys/kernel/osrelease"),
            io_uring_error: sys::try_io_uring().err(),
            locked_memory: sys::limit(Resource::LockedMemory).ok(),
            locked_memory_exempt: sys::may_lock_memory(effective_capabilities()),
            locked_memory_needed_bytes: locked_memory_needed(cpus.len()),
            open_files: sys::limit(Resource::OpenFiles).ok(),
            cpus,
            clock_source: line_of(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            ),
            file_system: sys::file_system_type(directory).map(file_system_name),
            append_path: probe_append_path(directory),
            cachestat: has_cachestat(),
        }
    }

    /// Whether the rings of all cores fit below the limit of locked memory.
    pub fn locked_memory_suffices(&self) -> bool {
        self.locked_memory_exempt
            || self.locked_memory.is_some_and(|found| found.hard >= self.locked_memory_needed_bytes)
    }
}

impl fmt::Display for MachineReport {
    /// One fact a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel: {}", self.kernel)?;
        match &self.io_uring_error {
            None => writeln!(f, "io_uring: usable")?,
            Some(error) => writeln!(f, "io_uring: {error}")?,
        }
        let exempt = if self.locked_memory_exempt { ", which does not hold here" } else { "" };
        writeln!(
            f,
            "locked memory: limit {}{exempt}; needed {} bytes",
            limit_text(self.locked_memory),
            self.locked_memory_needed_bytes
        )?;
        writeln!(f, "open files: limit {}", limit_text(self.open_files))?;
        writeln!(f, "cpus: {:?}", self.cpus)?;
        writeln!(f, "clock source: {}", self.clock_source)?;
        match &self.file_system {
            Ok(name) => writeln!(f, "file system: {name}")?,
            Err(error) => writeln!(f, "file system: {error}")?,
        }
        match &self.append_path {
            Ok(AppendPath::Inline) => writeln!(f, "appends: on the core (it refuses nowait)")?,
            Ok(AppendPath::Ring) => writeln!(f, "appends: nowait, else through the ring")?,
            Err(error) => writeln!(f, "appends: unknown, {error}")?,
        }
        let cachestat = if self.cachestat { "yes" } else { "no" };
        writeln!(f, "cachestat: {cachestat}")
    }
}

fn limit_text(limit: Option<Limit>) -> String {
    let amount = |raw: u64| {
        if raw == u64::MAX { "none".to_owned() } else { raw.to_string() }
    };
    match limit {
        None => "unknown".to_owned(),
        Some(found) => format!("{} (up to {})", amount(found.soft), amount(found.hard)),
    }
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn file_system_name(magic: i64) -> String {
    FILE_SYSTEMS
        .iter()
        .find(|(known, _)| *known == magic)
        .map_or_else(|| format!("type {magic:#x}"), |(_, name)| (*name).to_owned())
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|raw| u64::from_str_radix(raw.trim(), 16).ok())
        .unwrap_or(0)
}

fn has_cachestat() -> bool {
    use std::os::fd::AsFd;
    let Ok(own) = fs::File::open("/proc/self/exe") else { return false };
    let result = sys::cached_pages(own.as_fd(), 0, 1);
    !result.is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_a_line_for_each_fact() {
        let directory = tempfile::tempdir().unwrap();
        let report = MachineReport::inspect(directory.path());
        assert!(!report.cpus.is_empty());
        assert_eq!(report.to_string().lines().count(), 9, "{report}");
        assert!(report.append_path.is_ok(), "{report}");
    }
}
