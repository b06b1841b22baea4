//! The files of `__cluster_metadata-0`: segments, snapshots, `leader-epoch-checkpoint`.
//!
//! Index files are not written: Apache Kafka recovers every segment of this log at each start, and
//! makes its indexes anew.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tracing::warn;

use crate::base::{LeaderEpoch, Offset, Timestamp};
use crate::kraft::batch::{Batch, BatchError, Body};
use crate::kraft::clean::{Deletions, SegmentFile, SnapshotFile};
use crate::kraft::control::ControlRecord;
use crate::kraft::{Loaded, SnapshotId};
use crate::protocol::batch::{BatchView, whole_batch_bytes};
use crate::runtime::{Disk, File, OpenMode, is_no_room};

use super::MetadataLogError;

/// How much of a segment is read at a time; a batch that is larger is read whole.
const READ_BYTES: usize = 1 << 20;
/// The first batch of a snapshot, with its header, is no larger unless it has very many voters.
const SNAPSHOT_HEAD_BYTES: usize = 64 << 10;
const EPOCHS_FILE: &str = "leader-epoch-checkpoint";

/// The segment that is written.
struct Active {
    base: Offset,
    file: File,
    size_bytes: u64,
    /// When its first record was written, as far as is known.
    since: Timestamp,
}

/// The directory of the metadata log.
pub(super) struct LogFiles {
    disk: Disk,
    path: PathBuf,
    segments: Vec<SegmentFile>,
    snapshots: Vec<SnapshotFile>,
    active: Option<Active>,
    /// Where the last segment ends.
    end: Offset,
}

fn segment_name(base: Offset) -> String {
    format!("{:020}.log", base.get())
}

/// The offset in the name of a file like `00000000000000000042<suffix>`.
fn numbered(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().and_then(Offset::from_wire)).flatten()
}

impl LogFiles {
    /// Lists the directory, and removes what a crash left half made.
    pub(super) async fn open(disk: Disk, path: PathBuf) -> Result<Self, MetadataLogError> {
        let entries = match disk.list(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(MetadataLogError::io(&path))?,
        };
        let (mut segments, mut snapshots) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| !entry.is_directory) {
            let size_bytes = entry.size_bytes;
            if let Some(base) = numbered(&entry.name, ".log") {
                segments.push(SegmentFile { base, size_bytes });
            } else if let Some(id) = SnapshotId::from_file_name(&entry.name) {
                let timestamp = snapshot_timestamp(&disk, &path.join(&entry.name)).await?;
                snapshots.push(SnapshotFile { id, size_bytes, timestamp });
            } else if [".part", ".deleted", ".tmp"].iter().any(|end| entry.name.ends_with(end)) {
                let file = path.join(&entry.name);
                disk.remove_file(&file).await.map_err(MetadataLogError::io(&file))?;
            }
        }
        segments.sort_by_key(|segment: &SegmentFile| segment.base);
        snapshots.sort_by_key(|snapshot: &SnapshotFile| snapshot.id);
        let end = segments.last().map_or(Offset::ZERO, |segment| segment.base);
        Ok(Self { disk, path, segments, snapshots, active: None, end })
    }

    /// Reads the newest snapshot and all behind it; cuts off what a crash left of the last append.
    /// Also says how many bytes of the log lie behind the snapshot.
    pub(super) async fn load(&mut self) -> Result<(Loaded, u64), MetadataLogError> {
        let path = &self.path;
        self.disk.create_directories(path).await.map_err(MetadataLogError::io(path))?;
        let mut loaded = match self.snapshots.last() {
            Some(snapshot) => {
                let file = self.path.join(snapshot.id.to_string());
                let bytes = self.disk.read(&file).await.map_err(MetadataLogError::io(&file))?;
                let loaded = Loaded::from_snapshot(snapshot.id, &bytes);
                loaded.map_err(|error| MetadataLogError::damaged(&file, &error))?
            }
            None => Loaded::default(),
        };
        let mut new_bytes = 0;
        for index in 0..self.segments.len() {
            let next = self.segments.get(index + 1);
            if next.is_none_or(|next| next.base > loaded.end()) {
                new_bytes += self.load_segment(index, &mut loaded).await?;
            }
        }
        Ok((loaded, new_bytes))
    }

    async fn load_segment(
        &mut self,
        index: usize,
        loaded: &mut Loaded,
    ) -> Result<u64, MetadataLogError> {
        let is_last = index + 1 == self.segments.len();
        let segment = self.segments[index];
        let path = self.path.join(segment_name(segment.base));
        let io = MetadataLogError::io(&path);
        let mode = if is_last { OpenMode::Write } else { OpenMode::Read };
        let file = self.disk.open(&path, mode).await.map_err(&io)?;
        let mut reader = Reader::new(&file);
        let (mut new_bytes, mut first) = (0, None);
        let torn = loop {
            match reader.next().await.map_err(&io)? {
                Ok(Some((batch, size_bytes))) => {
                    first.get_or_insert(batch.timestamp);
                    let end = loaded.end();
                    self.end = self.end.max(batch.end());
                    let read = loaded.read(&batch);
                    read.map_err(|error| MetadataLogError::damaged(&path, &error))?;
                    new_bytes += if loaded.end() > end { size_bytes } else { 0 };
                }
                Ok(None) => break false,
                Err(error) if is_last && !error.is_as_written() && reader.is_torn().await => {
                    warn!(file = %path.display(), position = reader.position, error = %error,
                        "the last append was not written whole: it is cut off");
                    break true;
                }
                Err(error) => return Err(MetadataLogError::damaged(&path, &error)),
            }
        };
        let size_bytes = reader.position;
        if torn {
            file.truncate(size_bytes).await.map_err(&io)?;
        }
        if is_last {
            // If its sync failed it is in the page cache alone, and no sync writes it unless it is
            // written again. Those before it were synced before it was written.
            let last = std::mem::take(&mut reader.last);
            file.write_at(size_bytes - last.len() as u64, &[last]).await.map_err(&io)?;
            file.sync().await.map_err(&io)?;
            self.segments[index].size_bytes = size_bytes;
            let since = first.unwrap_or_default();
            self.active = Some(Active { base: segment.base, file, size_bytes, since });
        }
        Ok(new_bytes)
    }

    /// Begins a segment at `base` when there is none, when the last one is full or old, or when
    /// `base` is not where the last one ends (it lies behind a snapshot).
    async fn roll(
        &mut self,
        base: Offset,
        now: Timestamp,
        is_continued: Continued,
    ) -> Result<(), MetadataLogError> {
        if is_continued == Continued::Yes && self.active.is_some() {
            return Ok(());
        }
        if self.active.as_ref().is_some_and(|active| active.base == base && active.size_bytes == 0)
        {
            return Ok(());
        }
        let path = self.path.join(segment_name(base));
        let io = MetadataLogError::io(&path);
        let file = match self.disk.open(&path, OpenMode::Create).await {
            Err(error) if is_no_room(&error) => return Err(MetadataLogError::Full(path)),
            opened => opened.map_err(&io)?,
        };
        self.disk.sync_directory(&self.path).await.map_err(&io)?;
        self.segments.push(SegmentFile { base, size_bytes: 0 });
        self.active = Some(Active { base, file, size_bytes: 0, since: now });
        Ok(())
    }

    /// Appends batches that begin at the log's end, `base`; returns once they are on disk. Each is
    /// there before the next one is written: a crash tears the last one in the file at most.
    pub(super) async fn append(
        &mut self,
        base: Offset,
        bytes: Bytes,
        now: Timestamp,
        rules: SegmentRules,
    ) -> Result<(), MetadataLogError> {
        let length = bytes.len() as u64;
        let continued = match &self.active {
            Some(active) if rules.is_full(active.size_bytes + length, active.since, now) => {
                Continued::No
            }
            _ => Continued::Yes,
        };
        self.roll(base, now, continued).await?;
        let Some(active) = &mut self.active else { return Ok(()) };
        let path = self.path.join(segment_name(active.base));
        let io = MetadataLogError::io(&path);
        let (begin, mut rest) = (active.size_bytes, bytes);
        while !rest.is_empty() {
            let size_bytes = whole_batch_bytes(&rest).unwrap_or(rest.len());
            let batch = rest.split_to(size_bytes.min(rest.len()));
            let position = begin + length - (batch.len() + rest.len()) as u64;
            if let Err(error) = active.file.write_at(position, &[batch]).await {
                // A part of it may be there; the next append takes its place. What was synced
                // before it must not come back.
                let is_undone = is_no_room(&error)
                    && active.file.truncate(begin).await.is_ok()
                    && (position == begin || active.file.sync().await.is_ok());
                return Err(if is_undone { MetadataLogError::Full(path) } else { io(error) });
            }
            active.file.sync().await.map_err(&io)?;
        }
        active.size_bytes += length;
        if let Some(last) = self.segments.last_mut() {
            last.size_bytes = active.size_bytes;
        }
        Ok(())
    }

    /// Starts over behind a snapshot whose end the segments do not reach.
    pub(super) async fn restart_at(
        &mut self,
        base: Offset,
        now: Timestamp,
    ) -> Result<(), MetadataLogError> {
        self.active = None;
        let old: Vec<Offset> = self.segments.iter().map(|segment| segment.base).collect();
        self.delete_segments(&old).await?;
        self.roll(base, now, Continued::No).await
    }

    /// Writes a snapshot.
    pub(super) async fn write_snapshot(
        &mut self,
        id: SnapshotId,
        bytes: &Bytes,
        timestamp: Timestamp,
    ) -> Result<(), MetadataLogError> {
        let file = self.path.join(id.to_string());
        let written = self.disk.write_atomically(&file, bytes).await;
        written.map_err(MetadataLogError::io(&file))?;
        if self.snapshots.last().is_none_or(|last| last.id < id) {
            self.snapshots.push(SnapshotFile { id, size_bytes: bytes.len() as u64, timestamp });
        }
        Ok(())
    }

    /// Where the last segment ends; a snapshot may reach further.
    pub(super) fn end_of_segments(&self) -> Offset {
        self.end
    }

    /// Whether there is no metadata log at all.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.snapshots.is_empty()
    }

    /// Segments and snapshots, in rising order.
    pub(super) fn listing(&self) -> (&[SnapshotFile], &[SegmentFile]) {
        (&self.snapshots, &self.segments)
    }

    /// Deletes segments and snapshots: segments first, so that a snapshot always reaches the log's
    /// start.
    pub(super) async fn delete(&mut self, what: &Deletions) -> Result<(), MetadataLogError> {
        self.delete_segments(&what.segments).await?;
        for id in &what.snapshots {
            let file = self.path.join(id.to_string());
            self.disk.remove_file(&file).await.map_err(MetadataLogError::io(&file))?;
            self.snapshots.retain(|snapshot| snapshot.id != *id);
        }
        if what.segments.is_empty() { Ok(()) } else { self.delete_producer_snapshots().await }
    }

    /// Deletes the (empty) producer snapshots Apache Kafka left below the log's start.
    async fn delete_producer_snapshots(&self) -> Result<(), MetadataLogError> {
        let start = self.segments.first().map_or(Offset::ZERO, |segment| segment.base);
        let entries = self.disk.list(&self.path).await.map_err(MetadataLogError::io(&self.path))?;
        for entry in entries {
            let offset = numbered(&entry.name, ".snapshot");
            if offset.is_some_and(|offset| offset < start) {
                let file = self.path.join(&entry.name);
                self.disk.remove_file(&file).await.map_err(MetadataLogError::io(&file))?;
            }
        }
        Ok(())
    }

    async fn delete_segments(&mut self, bases: &[Offset]) -> Result<(), MetadataLogError> {
        for base in bases {
            let log = self.path.join(segment_name(*base));
            // What Apache Kafka may have written beside it goes first: an index without its log
            // would be taken for damage.
            for extension in ["index", "timeindex", "txnindex", "snapshot", "log"] {
                let file = log.with_extension(extension);
                match self.disk.remove_file(&file).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(MetadataLogError::io(&file)(error));
                    }
                    _ => {}
                }
            }
            self.segments.retain(|segment| segment.base != *base);
        }
        Ok(())
    }

    /// Replaces a small file of the directory.
    pub(super) async fn write_file(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), MetadataLogError> {
        let file = self.path.join(name);
        let written = self.disk.write_atomically(&file, bytes).await;
        written.map_err(MetadataLogError::io(&file))
    }

    /// Reads a small file of the directory; `None` when there is none.
    pub(super) async fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, MetadataLogError> {
        let file = self.path.join(name);
        match self.disk.read(&file).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(MetadataLogError::io(&file)(error)),
        }
    }

    /// Adds an epoch to `leader-epoch-checkpoint`. Lines that can not be read, or contradict the
    /// new one, are dropped: Apache Kafka makes the file anew from the batches.
    pub(super) async fn add_epoch(
        &self,
        epoch: LeaderEpoch,
        start: Offset,
    ) -> Result<(), MetadataLogError> {
        let old = self.read_file(EPOCHS_FILE).await?.unwrap_or_default();
        let mut lines: Vec<(i32, i64)> = String::from_utf8_lossy(&old)
            .lines()
            .skip(2)
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(epoch, start)| epoch.parse().ok().zip(start.parse().ok()))
            .filter(|(old, begin)| *old < epoch.to_wire() && *begin < start.to_wire())
            .collect();
        lines.push((epoch.to_wire(), start.to_wire()));
        let mut text = format!("0\n{}\n", lines.len());
        lines.iter().for_each(|(epoch, start)| text.push_str(&format!("{epoch} {start}\n")));
        self.write_file(EPOCHS_FILE, text.as_bytes()).await
    }

    /// Where the log is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether the last segment goes on.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Continued {
    Yes,
    No,
}

/// When a segment is closed: `metadata.log.segment.bytes` and `metadata.log.segment.ms`.
#[derive(Clone, Copy, Debug)]
pub struct SegmentRules {
    /// Largest size, in bytes.
    pub size_bytes_max: u64,
    /// Longest time from its first record to the last.
    pub age_max: std::time::Duration,
}

impl Default for SegmentRules {
    fn default() -> Self {
        Self { size_bytes_max: 1 << 30, age_max: std::time::Duration::from_secs(7 * 24 * 3600) }
    }
}

impl SegmentRules {
    fn is_full(self, size_bytes: u64, since: Timestamp, now: Timestamp) -> bool {
        let age_ms = u128::try_from(now.to_wire() - since.to_wire()).unwrap_or(0);
        size_bytes > self.size_bytes_max || age_ms > self.age_max.as_millis()
    }
}

/// Reads a segment batch by batch.
struct Reader<'a> {
    file: &'a File,
    /// Where the next batch begins.
    position: u64,
    buffer: BytesMut,
    at_end: bool,
    /// The batch before it.
    last: Bytes,
}

impl<'a> Reader<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, position: 0, buffer: BytesMut::new(), at_end: false, last: Bytes::new() }
    }

    /// The next batch and its size; `None` at the end of the file.
    async fn next(&mut self) -> io::Result<Result<Option<(Batch, u64)>, BatchError>> {
        loop {
            match Batch::decode(&self.buffer) {
                Ok((batch, length)) => {
                    self.last = self.buffer.split_to(length).freeze();
                    self.position += length as u64;
                    return Ok(Ok(Some((batch, length as u64))));
                }
                Err(BatchError::Truncated) if !self.at_end => self.fill().await?,
                Err(BatchError::Truncated) if self.buffer.is_empty() => return Ok(Ok(None)),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let from = self.position + self.buffer.len() as u64;
        let bytes = self.file.read_at(from, READ_BYTES).await?;
        self.at_end = bytes.len() < READ_BYTES;
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    /// Whether the bad batch is the last thing in the file: what was on disk before the last append
    /// can not be damaged by a crash, so a good batch behind it means that the disk did it.
    async fn is_torn(&mut self) -> bool {
        while !self.at_end {
            if self.fill().await.is_err() {
                return false;
            }
        }
        // Anywhere: the length may be what is damaged.
        let is_good = |at: usize| BatchView::parse(&self.buffer[at..]).is_ok_and(|b| b.is_intact());
        !(1..self.buffer.len()).any(is_good)
    }
}

/// When the last record in a snapshot was appended, by its header; 0 when it can not be read.
async fn snapshot_timestamp(disk: &Disk, path: &Path) -> Result<Timestamp, MetadataLogError> {
    let io = MetadataLogError::io(path);
    let file = disk.open(path, OpenMode::Read).await.map_err(&io)?;
    let head = file.read_at(0, SNAPSHOT_HEAD_BYTES).await.map_err(&io)?;
    let Ok((Batch { body: Body::Control(records), .. }, _)) = Batch::decode(&head) else {
        return Ok(Timestamp::from_millis(0));
    };
    let header = records.iter().find_map(|record| match record {
        ControlRecord::SnapshotHeader(header) => Some(header.last_contained_log_timestamp),
        ControlRecord::LeaderChange(_)
        | ControlRecord::SnapshotFooter(_)
        | ControlRecord::KRaftVersion(_)
        | ControlRecord::Voters(_)
        | ControlRecord::Unknown(_) => None,
    });
    Ok(Timestamp::from_millis(header.unwrap_or(0)))
}
