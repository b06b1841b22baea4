//! Opening: what files there are, where the log ends, what a crash left behind.
//!
//! Source: Kafka's `LogLoader`, `LogSegment.recover`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::base::{LeaderEpoch, Offset};
use crate::log::epochs::{self, Epochs};
use crate::log::index::{Index, OffsetEntry, TimeEntry};
use crate::log::log::{BatchMeta, LogConfig, OpenError, Opened, Setup, segment_files};
use crate::log::names::file_name;
use crate::log::segment::Segment;
use crate::protocol::batch::{BatchHeader, BatchView, HEADER_BYTES};
use crate::runtime::{Disk, Entry, File, Runtime};

/// What is read at once while a segment is checked.
const CHECK_BYTES: usize = 1 << 20;

/// A batch larger than this is damage: no setting allows it.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// What was found in a directory.
pub(super) struct Loaded {
    pub(super) segments: BTreeMap<Offset, Rc<Segment>>,
    pub(super) end: Offset,
    pub(super) epochs: Epochs,
    pub(super) epochs_changed: bool,
    pub(super) snapshots: Vec<Offset>,
    pub(super) opened: Opened,
}

/// Reads a log directory, and mends what a crash left.
pub(super) async fn load(runtime: &Runtime, setup: &Setup) -> Result<Loaded, OpenError> {
    let disk = runtime.disk();
    finish_renames(&disk, &setup.directory).await?;
    let entries = disk.list(&setup.directory).await?;
    let now_ms = runtime.wall_clock().to_wire();
    let mut loaded = Loaded {
        segments: BTreeMap::new(),
        end: Offset::ZERO,
        epochs: read_epochs(&disk, setup).await?,
        epochs_changed: false,
        snapshots: Vec::new(),
        opened: Opened::default(),
    };
    let mut bases: Vec<(Offset, u64)> = segment_files(&entries)
        .filter(|(_, ending, _)| *ending == "log")
        .map(|(base, _, size)| (base, size))
        .collect();
    bases.sort_unstable();
    let checked_from = if setup.clean {
        None
    } else {
        // The segment that holds the recovery point, and all behind it.
        let holding = bases.iter().rev().find(|(base, _)| *base <= setup.recovery_point);
        Some(holding.or(bases.first()).map_or(Offset::ZERO, |(base, _)| *base))
    };
    let mut cut = false;
    for (at, (base, size_bytes)) in bases.iter().enumerate() {
        if cut {
            // What lies behind a damaged place can not be joined to it.
            loaded.opened.truncated_bytes += size_bytes;
            remove_segment(&disk, &setup.directory, *base).await?;
            continue;
        }
        let is_last = at + 1 == bases.len();
        let segment = open_segment(&disk, setup, &entries, *base, *size_bytes, now_ms).await?;
        let (segment, has_indexes) = segment;
        let check = checked_from.is_some_and(|from| *base >= from);
        if check || !has_indexes {
            let from = if check { setup.recovery_point } else { *base };
            cut = check_segment(runtime, &segment, setup, from, &mut loaded).await?;
            if !is_last && !cut {
                segment.finish(&disk, &setup.config).await?;
            }
        } else if is_last {
            loaded.end = find_end(&disk, &segment, &setup.config).await?;
        }
        if !is_last {
            segment.close_file();
        }
        loaded.segments.insert(*base, Rc::new(segment));
    }
    if loaded.segments.is_empty() {
        let base = setup.log_start;
        let new =
            Segment::create(&disk, &setup.directory, base, now_ms, &setup.config).await?;
        loaded.segments.insert(base, Rc::new(new));
        loaded.end = base;
    }
    loaded.epochs_changed |= loaded.epochs.truncate_end_beyond(loaded.end);
    collect_snapshots(&disk, setup, &entries, &mut loaded).await?;
    Ok(loaded)
}

/// Carries through what a crash interrupted: removals begun, and compactions not finished.
async fn finish_renames(disk: &Disk, directory: &Path) -> io::Result<()> {
    for entry in disk.list(directory).await? {
        let name = &entry.name;
        let is_rest = [".deleted", ".cleaned", ".tmp"].iter().any(|end| name.ends_with(end));
        if is_rest && !entry.is_directory {
            disk.remove_file(&directory.join(name)).await?;
        } else if let Some(whole) = name.strip_suffix(".swap") {
            // A swap is whole once it has this name; indexes are made anew.
            if whole.ends_with(".log") {
                disk.rename(&directory.join(name), &directory.join(whole)).await?;
            } else {
                disk.remove_file(&directory.join(name)).await?;
            }
        }
    }
    Ok(())
}

async fn read_epochs(disk: &Disk, setup: &Setup) -> Result<Epochs, OpenError> {
    match disk.read(&setup.directory.join(epochs::FILE_NAME)).await {
        Ok(bytes) => Epochs::parse(&bytes).map_err(|error| {
            let path = setup.directory.join(epochs::FILE_NAME);
            OpenError::Damaged(format!("{}: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Epochs::default()),
        Err(error) => Err(error.into()),
    }
}

async fn remove_segment(disk: &Disk, directory: &Path, base: Offset) -> io::Result<()> {
    for ending in ["log", "index", "timeindex", "txnindex", "snapshot"] {
        match disk.remove_file(&directory.join(file_name(base, ending))).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Opens a segment's files; also whether its indexes are there and plausible.
async fn open_segment(
    disk: &Disk,
    setup: &Setup,
    entries: &[Entry],
    base: Offset,
    size_bytes: u64,
    now_ms: i64,
) -> io::Result<(Segment, bool)> {
    let directory = &setup.directory;
    let size_of = |ending: &str| {
        let name = file_name(base, ending);
        entries.iter().find(|entry| entry.name == name).map(|entry| entry.size_bytes)
    };
    let path = |ending: &str| directory.join(file_name(base, ending));
    let mut has_indexes = true;
    let offsets = match size_of("index") {
        Some(size) => Index::<OffsetEntry>::open(disk, path("index"), size).await?,
        None => None,
    };
    // An active segment's file may be reserved beyond its entries, with zeros.
    let offsets = offsets.filter(|index| {
        let last = index.last();
        index.count() == 0
            || last.is_some_and(|last| {
                last.relative > 0 && u64::from(last.position) < size_bytes
            })
    });
    let times = match size_of("timeindex") {
        Some(size) => Index::<TimeEntry>::open(disk, path("timeindex"), size).await?,
        None => None,
    };
    let times = times.filter(|index| {
        index.count() == 0 || index.last().is_some_and(|last| last.timestamp > 0)
    });
    let offsets = match offsets {
        Some(index) => index,
        None => {
            has_indexes = false;
            Index::create(disk, path("index")).await?
        }
    };
    let times = match times {
        Some(index) => index,
        None => {
            has_indexes = false;
            Index::create(disk, path("timeindex")).await?
        }
    };
    let log_path = path("log");
    Ok((Segment::with(base, log_path, size_bytes, offsets, times, now_ms), has_indexes))
}

/// Where a cleanly closed last segment ends: from its last index entry on.
async fn find_end(disk: &Disk, segment: &Segment, config: &LogConfig) -> io::Result<Offset> {
    let entry = segment.offsets.last();
    let from = entry.map_or(0, |entry| u64::from(entry.position));
    let mut end = entry.map_or(segment.base, |entry| segment.base + u64::from(entry.relative) + 1);
    let mut walk = segment.walk(disk, from).await?;
    let mut position_end = from;
    while let Some((header, position)) = walk.next().await? {
        let Some(meta) = meta_of(&header) else { break };
        end = meta.last_offset.next();
        position_end = position + u64::from(meta.size_bytes);
    }
    segment.set_bytes_since_entry(position_end - from);
    if from == 0 && segment.size_bytes.get() > 0 {
        let mut walk = segment.walk(disk, 0).await?;
        if let Some((header, _)) = walk.next().await? {
            segment.first_timestamp.set(Some(header.max_timestamp));
        }
    } else if let Some((header, _)) = segment.walk(disk, 0).await?.next().await? {
        segment.first_timestamp.set(Some(header.max_timestamp));
    }
    // Zeros behind the last batch: a file that was reserved and not cut back.
    if position_end < segment.size_bytes.get() {
        segment.file(disk).await?.truncate(position_end).await?;
        segment.size_bytes.set(position_end);
    }
    let _ = config;
    Ok(end)
}

fn meta_of(header: &BatchHeader) -> Option<BatchMeta> {
    let last_offset = Offset::from_wire(header.last_offset())?;
    Some(BatchMeta {
        base_offset: Offset::from_wire(header.base_offset)?,
        last_offset,
        max_timestamp: header.max_timestamp,
        max_timestamp_offset: last_offset,
        size_bytes: u32::try_from(header.size_bytes()).ok()?,
        leader_epoch: LeaderEpoch::from_wire(header.partition_leader_epoch).unwrap_or_default(),
    })
}

/// Checks a segment from `from` on, makes its indexes anew from there, and cuts it at the first
/// damaged batch. Whether it was cut.
async fn check_segment(
    runtime: &Runtime,
    segment: &Segment,
    setup: &Setup,
    from: Offset,
    loaded: &mut Loaded,
) -> Result<bool, OpenError> {
    let disk = runtime.disk();
    let begin = trusted_begin(&disk, segment, from).await?;
    segment.forget();
    let mut blocks = Blocks::new(segment.file(&disk).await?, begin, segment.size_bytes.get());
    let mut previous_end = if begin == 0 { segment.base } else { Offset::ZERO };
    let whole_size = segment.size_bytes.get();
    loop {
        let position = blocks.position;
        let Some(bytes) = blocks.next().await? else { break };
        let Ok(view) = BatchView::parse(&bytes) else { break };
        let Some(meta) = meta_of(&view.header) else { break };
        if !view.is_intact() || meta.base_offset < previous_end {
            break;
        }
        previous_end = meta.last_offset.next();
        loaded.end = previous_end;
        loaded.opened.scanned_bytes += u64::from(meta.size_bytes);
        segment.note(&meta, position, &setup.config);
        let epoch = meta.leader_epoch;
        if view.header.partition_leader_epoch >= 0
            && loaded.epochs.latest().is_none_or(|latest| latest < epoch)
        {
            loaded.epochs_changed |= loaded.epochs.assign(epoch, meta.base_offset);
        }
        blocks.position = position + u64::from(meta.size_bytes);
        runtime.pass().await;
    }
    if previous_end == Offset::ZERO || loaded.end < segment.base {
        loaded.end = segment.base;
    }
    let end = blocks.position;
    if end < whole_size {
        loaded.opened.truncated_bytes += whole_size - end;
        segment.file(&disk).await?.truncate(end).await?;
        segment.size_bytes.set(end);
    }
    loaded.opened.rebuilt_count += 1;
    segment.offsets.write(&disk).await?;
    segment.times.write(&disk).await?;
    Ok(end < whole_size)
}

/// Where checking may begin: at a batch the index knows at or below `from`. Entries behind it are
/// dropped. 0 when the index can not be trusted.
async fn trusted_begin(disk: &Disk, segment: &Segment, from: Offset) -> io::Result<u64> {
    let key = i64::try_from(from.since(segment.base)).unwrap_or(i64::MAX);
    if from > segment.base && segment.offsets.count() > 0 {
        segment.offsets.cut(disk, |entry| i64::from(entry.relative) < key).await?;
        let last_relative = segment.offsets.last().map_or(0, |entry| entry.relative);
        segment.times.cut(disk, |entry| entry.relative <= last_relative).await?;
        if let Some(entry) = segment.offsets.last() {
            let position = u64::from(entry.position);
            let mut walk = segment.walk(disk, position).await?;
            let expected = segment.base + u64::from(entry.relative);
            if let Some((header, _)) = walk.next().await?
                && header.last_offset() == expected.to_wire()
            {
                // The batch itself is taken in again: its entry is made anew with it.
                segment.offsets.cut(disk, |e| e.relative < entry.relative).await?;
                return Ok(position);
            }
        }
    }
    segment.offsets.cut(disk, |_| false).await?;
    segment.times.cut(disk, |_| false).await?;
    Ok(0)
}

/// Reads whole batches out of a file, in large blocks.
struct Blocks {
    file: File,
    position: u64,
    end: u64,
    block: Bytes,
    block_position: u64,
}

impl Blocks {
    fn new(file: File, position: u64, end: u64) -> Self {
        Self { file, position, end, block: Bytes::new(), block_position: position }
    }

    /// The bytes from the position on: a whole batch at least, if there is one.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.has(HEADER_BYTES) {
            self.fill(CHECK_BYTES).await?;
        }
        if !self.has(HEADER_BYTES) {
            return Ok(None);
        }
        let Ok(header) = BatchHeader::parse(&self.rest()) else { return Ok(None) };
        let size = header.size_bytes();
        if size > BATCH_BYTES_MAX || self.position + size as u64 > self.end {
            return Ok(None);
        }
        if !self.has(size) {
            self.fill(size.max(CHECK_BYTES)).await?;
        }
        Ok(self.has(size).then(|| self.rest().slice(..size)))
    }

    fn has(&self, size: usize) -> bool {
        self.rest().len() >= size
    }

    fn rest(&self) -> Bytes {
        let skip = (self.position - self.block_position) as usize;
        if skip > self.block.len() { Bytes::new() } else { self.block.slice(skip..) }
    }

    async fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let left = (self.end - self.position).min(wanted as u64) as usize;
        let mut block = BytesMut::with_capacity(left);
        while block.len() < left {
            let at = self.position + block.len() as u64;
            let read = self.file.read_at(at, left - block.len()).await?;
            if read.is_empty() {
                break;
            }
            block.extend_from_slice(&read);
        }
        self.block = block.freeze();
        self.block_position = self.position;
        Ok(())
    }
}

/// Snapshots behind the log's end are of records that are gone.
async fn collect_snapshots(
    disk: &Disk,
    setup: &Setup,
    entries: &[Entry],
    loaded: &mut Loaded,
) -> io::Result<()> {
    for (at, ending, _) in segment_files(entries) {
        if ending != "snapshot" {
            continue;
        }
        if at <= loaded.end {
            loaded.snapshots.push(at);
        } else {
            disk.remove_file(&setup.directory.join(file_name(at, ending))).await?;
        }
    }
    loaded.snapshots.sort_unstable();
    Ok(())
}
