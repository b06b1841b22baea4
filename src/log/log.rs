//! The log of one partition: its segments, its epochs, its recovery point.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::log::epochs::{self, Epochs};
use crate::log::names::{file_name, parse_file_name};
use crate::log::recovery;
use crate::log::segment::Segment;
use crate::runtime::{Disk, Runtime};

/// Old segments whose file stays open: what consumers read through.
const OPEN_OLD_SEGMENTS_MAX: usize = 2;

/// The settings a log acts on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`.
    pub index_bytes_max: u32,
    /// `preallocate`.
    pub preallocate: bool,
    /// `retention.ms`; `None` for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`; `None` for any size.
    pub retention_bytes: Option<u64>,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
    /// `cleanup.policy` has `delete`.
    pub delete_policy: bool,
    /// `cleanup.policy` has `compact`.
    pub compact_policy: bool,
}

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The partition's directory; made when it is missing.
    pub directory: PathBuf,
    /// The settings.
    pub config: LogConfig,
    /// All below it is known to be durable.
    pub recovery_point: Offset,
    /// Where the log starts, when that is above the first segment's base.
    pub log_start: Offset,
    /// Whether the last process ended cleanly: nothing needs to be checked then.
    pub clean: bool,
}

/// What opening a log took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Opened {
    /// Bytes that were checked.
    pub scanned_bytes: u64,
    /// Bytes that were cut off: a torn or damaged tail.
    pub truncated_bytes: u64,
    /// Segments whose indexes were made anew.
    pub rebuilt_count: u32,
}

/// Why a log could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The disk refused.
    Io(io::Error),
    /// A file is damaged in a way that a start must not mend by itself.
    Damaged(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What the log keeps about a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchMeta {
    /// The first offset.
    pub base_offset: Offset,
    /// The last offset.
    pub last_offset: Offset,
    /// The largest timestamp, as on the wire.
    pub max_timestamp: i64,
    /// The offset that goes with it into the time index: the batch's last one.
    pub max_timestamp_offset: Offset,
    /// Size of the whole batch.
    pub size_bytes: u32,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
}

/// A batch to append: stamped with its offset and epoch.
#[derive(Clone, Debug)]
pub struct AppendBatch {
    /// What the log keeps about it.
    pub meta: BatchMeta,
    /// Its bytes.
    pub parts: [Bytes; 2],
}

/// The log of one partition. Clones are the same log; it belongs to one core.
#[derive(Clone)]
pub struct Log(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) runtime: Runtime,
    pub(super) disk: Disk,
    pub(super) directory: PathBuf,
    pub(super) config: RefCell<LogConfig>,
    pub(super) segments: RefCell<BTreeMap<Offset, Rc<Segment>>>,
    pub(super) epochs: RefCell<Epochs>,
    pub(super) snapshots: RefCell<Vec<Offset>>,
    pub(super) start: Cell<Offset>,
    pub(super) end: Cell<Offset>,
    pub(super) recovery_point: Cell<Offset>,
    /// Files were made or renamed since the directory was synced.
    directory_stale: Cell<bool>,
}

impl Log {
    /// Opens a log. After a crash what lies behind the recovery point is checked.
    pub async fn open(runtime: &Runtime, setup: Setup) -> Result<(Self, Opened), OpenError> {
        let disk = runtime.disk();
        disk.create_directories(&setup.directory).await?;
        let loaded = recovery::load(runtime, &setup).await?;
        let first = loaded.segments.first_key_value().map(|(base, _)| *base).unwrap_or_default();
        let start = setup.log_start.max(first).min(loaded.end);
        let log = Self(Rc::new(Inner {
            runtime: runtime.clone(),
            disk,
            directory: setup.directory,
            config: RefCell::new(setup.config),
            segments: RefCell::new(loaded.segments),
            epochs: RefCell::new(loaded.epochs),
            snapshots: RefCell::new(loaded.snapshots),
            start: Cell::new(start),
            end: Cell::new(loaded.end),
            recovery_point: Cell::new(if setup.clean {
                loaded.end
            } else {
                setup.recovery_point.min(loaded.end)
            }),
            directory_stale: Cell::new(true),
        }));
        if loaded.epochs_changed {
            log.write_epochs().await?;
        }
        Ok((log, loaded.opened))
    }

    /// The first offset that may be read.
    pub fn start(&self) -> Offset {
        self.0.start.get()
    }

    /// The offset the next record gets.
    pub fn end(&self) -> Offset {
        self.0.end.get()
    }

    /// All below it is durable.
    pub fn recovery_point(&self) -> Offset {
        self.0.recovery_point.get()
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.0.segments.borrow().values().map(|segment| segment.size_bytes.get()).sum()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.0.segments.borrow().len()
    }

    /// The first offset of the first segment; the log start may lie above it.
    pub fn first_segment_base(&self) -> Offset {
        self.0.segments.borrow().keys().next().copied().unwrap_or_default()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// The settings in force.
    pub fn config(&self) -> LogConfig {
        self.0.config.borrow().clone()
    }

    /// Changes the settings.
    pub fn set_config(&self, config: LogConfig) {
        *self.0.config.borrow_mut() = config;
    }

    pub(super) fn active(&self) -> Rc<Segment> {
        let segments = self.0.segments.borrow();
        segments.values().next_back().expect("a log has an active segment").clone()
    }

    /// Whether `batch` belongs into the next segment, once `pending_bytes` were appended to this
    /// one.
    pub fn will_roll_after(&self, pending_bytes: u64, batch: &BatchMeta, now: Timestamp) -> bool {
        let config = self.0.config.borrow();
        self.active().should_roll(batch, pending_bytes, &config, now.to_wire())
    }

    /// Appends stamped batches that follow the log's end, in one write. On an error nothing of
    /// them is in the log.
    pub async fn append(&self, batches: &[AppendBatch]) -> io::Result<()> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        assert_eq!(first.meta.base_offset, self.end(), "appends follow the end");
        let latest = self.latest_epoch();
        if latest.is_none_or(|latest| latest < first.meta.leader_epoch) {
            self.assign_epoch(first.meta.leader_epoch, first.meta.base_offset).await?;
        }
        let config = self.config();
        self.active().append(&self.0.disk, batches, &config).await?;
        self.0.end.set(last.meta.last_offset.next());
        Ok(())
    }

    /// Closes the active segment and begins the next one at the log's end. The closed one becomes
    /// durable in the background.
    pub async fn roll(&self) -> io::Result<()> {
        let (inner, config) = (&self.0, self.config());
        let old = self.active();
        if old.base == self.end() {
            return Ok(());
        }
        old.finish(&inner.disk, &config).await?;
        let now_ms = inner.runtime.wall_clock().to_wire();
        let end = self.end();
        let new = Segment::create(&inner.disk, &inner.directory, end, now_ms, &config).await?;
        inner.segments.borrow_mut().insert(end, Rc::new(new));
        inner.directory_stale.set(true);
        self.limit_open_files();
        let log = self.clone();
        inner.runtime.spawn("segment sync", async move {
            if let Err(error) = log.sync_segments_below(end).await {
                tracing::error!(directory = %log.directory().display(), %error,
                    "a closed segment can not be synced");
            }
        });
        Ok(())
    }

    /// Old segments keep their files open only while few are.
    pub(super) fn limit_open_files(&self) {
        let segments = self.0.segments.borrow();
        let old = segments.values().rev().skip(1).filter(|segment| segment.is_open());
        for segment in old.skip(OPEN_OLD_SEGMENTS_MAX) {
            segment.close_file();
        }
    }

    async fn sync_segments_below(&self, end: Offset) -> io::Result<()> {
        let point = self.recovery_point();
        let stale: Vec<Rc<Segment>> = {
            let segments = self.0.segments.borrow();
            let first = segments.range(..=point).next_back().map_or(point, |(base, _)| *base);
            segments.range(first..end.max(first)).map(|(_, segment)| segment.clone()).collect()
        };
        for segment in stale {
            segment.sync(&self.0.disk).await?;
            segment.offsets.sync(&self.0.disk).await?;
            segment.times.sync(&self.0.disk).await?;
        }
        self.sync_directory().await?;
        let point = self.recovery_point().max(end);
        self.0.recovery_point.set(point.min(self.end()));
        Ok(())
    }

    async fn sync_directory(&self) -> io::Result<()> {
        if self.0.directory_stale.replace(false)
            && let Err(error) = self.0.disk.sync_directory(&self.0.directory).await
        {
            self.0.directory_stale.set(true);
            return Err(error);
        }
        Ok(())
    }

    /// Makes everything below the end, as it is now, durable. Returns the new recovery point.
    pub async fn flush(&self) -> io::Result<Offset> {
        let end = self.end();
        let active = self.active();
        self.sync_segments_below(active.base).await?;
        active.sync(&self.0.disk).await?;
        let point = self.recovery_point().max(end);
        self.0.recovery_point.set(point);
        Ok(point)
    }

    /// Leaves the files as a clean stop leaves them.
    pub async fn close(&self) -> io::Result<()> {
        let config = self.config();
        let active = self.active();
        active.finish(&self.0.disk, &config).await?;
        self.flush().await?;
        active.close_file();
        Ok(())
    }

    /// The latest leader epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.0.epochs.borrow().latest()
    }

    /// The leader epoch of the first record that may be read.
    pub fn epoch_at_start(&self) -> Option<LeaderEpoch> {
        self.0.epochs.borrow().epoch_of(self.start())
    }

    /// The largest epoch not above `asked` and its end; `None` when unknown.
    pub fn end_offset_for(&self, asked: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.0.epochs.borrow().end_offset_for(asked, self.end())
    }

    /// Begins a leader epoch; durable when this returns.
    pub async fn assign_epoch(&self, epoch: LeaderEpoch, start: Offset) -> io::Result<()> {
        let changed = self.0.epochs.borrow_mut().assign(epoch, start);
        if changed { self.write_epochs().await } else { Ok(()) }
    }

    pub(super) async fn write_epochs(&self) -> io::Result<()> {
        let text = self.0.epochs.borrow().format();
        let path = self.0.directory.join(epochs::FILE_NAME);
        self.0.disk.write_atomically(&path, text.as_bytes()).await
    }

    /// The offsets there are producer snapshots of, in order.
    pub fn snapshots(&self) -> Vec<Offset> {
        self.0.snapshots.borrow().clone()
    }

    /// The bytes of a producer snapshot.
    pub async fn read_snapshot(&self, at: Offset) -> io::Result<Vec<u8>> {
        self.0.disk.read(&self.0.directory.join(file_name(at, "snapshot"))).await
    }

    /// Writes a producer snapshot of the offset `at`. Older ones stay where a segment begins.
    pub async fn write_snapshot(&self, at: Offset, bytes: &[u8]) -> io::Result<()> {
        let path = self.0.directory.join(file_name(at, "snapshot"));
        self.0.disk.write_atomically(&path, bytes).await?;
        let stale: Vec<Offset> = {
            let segments = self.0.segments.borrow();
            let mut snapshots = self.0.snapshots.borrow_mut();
            snapshots.retain(|known| *known != at);
            let stale =
                snapshots.iter().filter(|s| !segments.contains_key(s)).copied().collect();
            snapshots.retain(|known| segments.contains_key(known));
            snapshots.push(at);
            snapshots.sort_unstable();
            stale
        };
        for old in stale {
            self.remove_snapshot_file(old).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_snapshot_file(&self, at: Offset) -> io::Result<()> {
        let path = self.0.directory.join(file_name(at, "snapshot"));
        match self.0.disk.remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The files of a directory that belong to segments: base offset, ending, size.
pub(super) fn segment_files(
    entries: &[crate::runtime::Entry],
) -> impl Iterator<Item = (Offset, &str, u64)> {
    entries.iter().filter(|entry| !entry.is_directory).filter_map(|entry| {
        let (base, ending) = parse_file_name(&entry.name)?;
        Some((base, ending, entry.size_bytes))
    })
}
