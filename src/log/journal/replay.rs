//! What journals have after an unclean stop, and how it comes back into the logs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset, PartitionKey};
use crate::log::Log;
use crate::log::message::{AppendBatch, BatchMeta};
use crate::log::recovery::meta_of;
use crate::protocol::batch::{BatchHeader, BatchView};
use crate::runtime::{Disk, File, OpenMode, Runtime};

use super::format::{ENTRY_BYTES, EntryHeader, HEADER_BYTES, parse_file_name, parse_header};

/// What is read at once: more than the largest entry.
const BLOCK_BYTES: usize = 2 << 20;

/// Where a batch stands in a journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    path: Arc<Path>,
    position: u64,
    batch_bytes: u32,
    base_offset: Offset,
    generation: u64,
}

impl Entry {
    /// Where the batch begins in its log.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }
}

/// What the journals of a directory have.
#[derive(Clone, Debug, Default)]
pub struct Found {
    entries: BTreeMap<PartitionKey, Vec<Entry>>,
    paths: Vec<PathBuf>,
    generation_last: u64,
}

impl Found {
    /// Reads the journals in `directory`.
    ///
    /// A journal ends at the first entry that is not whole: what follows was never acknowledged, or
    /// is older than the file's generation.
    pub async fn find(runtime: &Runtime, directory: &Path) -> io::Result<Self> {
        let disk = runtime.disk();
        let mut found = Self::default();
        for entry in disk.list(directory).await? {
            let Some(number) = parse_file_name(&entry.name).filter(|_| !entry.is_directory) else {
                continue;
            };
            let path = directory.join(&entry.name);
            found.generation_last = found.generation_last.max(number);
            let file = disk.open(&path, OpenMode::Read).await?;
            found.read(runtime, &file, &path).await?;
            found.paths.push(path);
        }
        for entries in found.entries.values_mut() {
            entries.sort_by_key(|entry| (entry.base_offset, entry.generation));
        }
        Ok(found)
    }

    async fn read(&mut self, runtime: &Runtime, file: &File, path: &Path) -> io::Result<()> {
        let path: Arc<Path> = Arc::from(path);
        let mut block = file.read_at(0, BLOCK_BYTES).await?;
        let Some(generation) = parse_header(&block) else { return Ok(()) };
        self.generation_last = self.generation_last.max(generation);
        let (mut block_position, mut position) = (0, HEADER_BYTES as u64);
        for index in 0.. {
            let whole = |block: &Bytes, block_position: u64| {
                let rest = block.get((position - block_position) as usize..)?;
                let header = EntryHeader::parse(rest)?;
                let entry = rest.get(..usize::try_from(header.size_bytes()).ok()?)?;
                header
                    .is_intact(entry)
                    .then(|| (header, BatchHeader::parse(&entry[ENTRY_BYTES..]).ok()))
            };
            let mut next = whole(&block, block_position);
            if next.is_none() && block_position < position {
                // It may reach beyond the block.
                runtime.pass().await;
                block = file.read_at(position, BLOCK_BYTES).await?;
                block_position = position;
                next = whole(&block, block_position);
            }
            let Some((header, Some(batch))) = next else { return Ok(()) };
            let base_offset = Offset::from_wire(batch.base_offset);
            let (true, Some(base_offset)) =
                (header.generation == generation && header.index == index, base_offset)
            else {
                return Ok(());
            };
            self.entries.entry(header.key).or_default().push(Entry {
                path: path.clone(),
                position: position + ENTRY_BYTES as u64,
                batch_bytes: header.batch_bytes,
                base_offset,
                generation,
            });
            position += header.size_bytes();
        }
        Ok(())
    }

    /// The batches of a partition, in the order of their offsets.
    pub fn entries(&self, key: PartitionKey) -> &[Entry] {
        self.entries.get(&key).map_or(&[], Vec::as_slice)
    }

    /// How many batches there are.
    pub fn entry_count(&self) -> usize {
        self.entries.values().map(Vec::len).sum()
    }

    /// A number above all generations and file numbers there were.
    pub fn next_generation(&self) -> u64 {
        self.generation_last + 1
    }

    /// Whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Removes the files: all logs are synced.
    pub async fn remove(&self, disk: &Disk) -> io::Result<()> {
        for path in &self.paths {
            disk.remove_file(path).await?;
        }
        match self.paths.first().and_then(|path| path.parent()) {
            Some(directory) => disk.sync_directory(directory).await,
            None => Ok(()),
        }
    }
}

/// Appends to `log` what `entries` have beyond its end; how many batches that were.
pub async fn replay(runtime: &Runtime, log: &Log, entries: &[Entry]) -> io::Result<usize> {
    let disk = runtime.disk();
    let mut open: Option<(Arc<Path>, File)> = None;
    let mut count = 0;
    for entry in entries.iter().filter(|entry| entry.base_offset >= log.end()) {
        let file = match &open {
            Some((path, file)) if *path == entry.path => file.clone(),
            _ => {
                let file = disk.open(&entry.path, OpenMode::Read).await?;
                open = Some((entry.path.clone(), file.clone()));
                file
            }
        };
        let bytes = file.read_at(entry.position, entry.batch_bytes as usize).await?;
        let batch = BatchView::parse(&bytes).ok().filter(BatchView::is_intact);
        let meta = batch.and_then(|batch| meta_of(&batch.header));
        // Further on than a segment reaches there is no batch of this log.
        let fits = |meta: &BatchMeta| meta.last_offset.since(log.end()) <= i32::MAX as u64;
        let Some(meta) = meta.filter(fits) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: a batch is damaged at {}", entry.path.display(), entry.position),
            ));
        };
        // Somebody else has led the partition since: its history went on without these.
        if log.latest_epoch().unwrap_or(LeaderEpoch::ZERO) > meta.leader_epoch {
            tracing::warn!(directory = %log.directory().display(), offset = %meta.base_offset,
                "batches of the journal are older than the log, they are left out");
            break;
        }
        if log.will_roll(&meta, runtime.wall_clock()) {
            log.roll().await?;
        }
        log.append(&[AppendBatch { meta, parts: [bytes, Bytes::new()] }]).await?;
        count += 1;
        runtime.pass().await;
    }
    Ok(count)
}
