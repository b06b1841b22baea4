//! What must hold of a stopped broker's files, whatever it was doing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corelog::base::Offset;
use corelog::log::checkpoint::{self, HIGH_WATERMARK_FILE, RECOVERY_POINT_FILE};
use corelog::log::names::{file_name, parse_file_name};
use corelog::protocol::batch::{BatchHeader, Batches};
use corelog::runtime::{Disk, Entry, Runtime};

use crate::topic::TOPIC;

/// Where the broker keeps its files.
const DATA: &str = "/data";

/// Bytes of an entry of an offset index.
const INDEX_ENTRY_BYTES: usize = 8;

/// A batch of a segment: where it is in the file, and its header.
type Placed = (usize, BatchHeader);

/// Checks the files of all partitions: offsets are dense over the segments, batches intact, indexes
/// name batches that are there, and checkpoints lie within the logs. What a process that was killed
/// left half written may only be the end of a log. A file that is as a power loss `left` it was not
/// looked at yet.
pub async fn audit(
    runtime: Runtime,
    partitions: i32,
    is_clean: bool,
    left: Arc<BTreeMap<PathBuf, Vec<u8>>>,
) -> Result<(), String> {
    let disk = runtime.disk();
    let mut ends = Vec::new();
    for index in 0..partitions {
        let directory = PathBuf::from(format!("{DATA}/{TOPIC}-{index}"));
        let audited = audit_partition(&disk, &directory, is_clean, &left).await;
        ends.push(audited.map_err(|what| format!("{}: {what}", directory.display()))?);
    }
    for name in [RECOVERY_POINT_FILE, HIGH_WATERMARK_FILE] {
        let Ok(bytes) = disk.read(&Path::new(DATA).join(name)).await else { continue };
        let offsets = checkpoint::parse(&bytes).map_err(|error| format!("{name}: {error}"))?;
        for (index, end) in (0..).zip(&ends) {
            let Some(offset) = offsets.get(&(TOPIC.to_owned(), index)) else { continue };
            if end.is_some_and(|end| offset.to_wire() > end) {
                return Err(format!("{name}: {offset:?} of partition {index} ends at {end:?}"));
            }
        }
    }
    Ok(())
}

/// The bases of a partition's segments, in order.
pub fn segment_bases(entries: &[Entry]) -> Vec<Offset> {
    let bases = entries.iter().filter_map(|entry| match parse_file_name(&entry.name)? {
        (base, "log") => Some(base),
        _ => None,
    });
    let mut bases: Vec<Offset> = bases.collect();
    bases.sort_unstable();
    bases
}

/// The partition's end; `None` for one that is not there yet.
async fn audit_partition(
    disk: &Disk,
    directory: &Path,
    is_clean: bool,
    left: &BTreeMap<PathBuf, Vec<u8>>,
) -> Result<Option<i64>, String> {
    let Ok(entries) = disk.list(directory).await else { return Ok(None) };
    let bases = segment_bases(&entries);
    let mut end = None;
    for (at, base) in bases.iter().enumerate() {
        let name = file_name(*base, "log");
        let bytes = disk.read(&directory.join(&name)).await.map_err(|error| error.to_string())?;
        let may_be_torn = !is_clean && at + 1 == bases.len();
        let checked = batches_of(&bytes, may_be_torn).and_then(|batches| {
            end = follow(end, *base, &batches)?;
            Ok(batches)
        });
        let batches = match checked {
            Ok(batches) => batches,
            Err(_) if left.get(&directory.join(&name)) == Some(&bytes) => return Ok(None),
            Err(what) => return Err(format!("{name}: {what}")),
        };
        // An empty segment begins where the one before it ends.
        end = end.or(Some(base.to_wire()));
        let index = file_name(*base, "index");
        let path = directory.join(&index);
        if let Ok(bytes) = disk.read(&path).await
            && let Err(what) = check_index(&bytes, *base, &batches)
            && left.get(&path) != Some(&bytes)
        {
            return Err(format!("{index}: {what}"));
        }
    }
    Ok(end)
}

/// Where a segment's batches end that follow on what ends at `end`.
fn follow(mut end: Option<i64>, base: Offset, batches: &[Placed]) -> Result<Option<i64>, String> {
    for (position, batch) in batches {
        let found = batch.base_offset;
        let follows = end.is_none_or(|end| found == end) && found >= base.to_wire();
        if !follows {
            return Err(format!("{found} at {position} follows {end:?}"));
        }
        end = Some(batch.next_offset());
    }
    Ok(end)
}

fn batches_of(bytes: &[u8], may_be_torn: bool) -> Result<Vec<Placed>, String> {
    let mut found = Vec::new();
    let mut batches = Batches::new(bytes);
    loop {
        let position = batches.position();
        match batches.next() {
            Some(Ok(batch)) if batch.is_intact() => found.push((position, batch.header)),
            Some(_) if may_be_torn => break,
            Some(other) => {
                let what = other.err().map_or("checksum".to_owned(), |error| error.to_string());
                return Err(format!("damaged at {position} of {}: {what}", bytes.len()));
            }
            None if may_be_torn || position == bytes.len() => break,
            None => return Err(format!("cut off at {position} of {}", bytes.len())),
        }
    }
    Ok(found)
}

/// Each entry names the place of a batch that holds its offset. What is not written yet is zeros.
fn check_index(bytes: &[u8], base: Offset, batches: &[Placed]) -> Result<(), String> {
    let mut before = None;
    for entry in bytes.chunks_exact(INDEX_ENTRY_BYTES) {
        let number = |at: usize| {
            let bytes = entry[at..at + 4].try_into().expect("four bytes");
            i64::from(i32::from_be_bytes(bytes))
        };
        let (offset, position) = (base.to_wire() + number(0), number(4) as usize);
        if number(0) == 0 && position == 0 {
            break;
        }
        if before.is_some_and(|before| (offset, position) <= before) {
            return Err(format!("{offset} at {position} follows {before:?}"));
        }
        before = Some((offset, position));
        let at = batches.binary_search_by_key(&position, |(position, _)| *position);
        let holds = at.is_ok_and(|at| {
            let header = &batches[at].1;
            (header.base_offset..=header.last_offset()).contains(&offset)
        });
        if !holds {
            return Err(format!("{offset} at {position}: no such batch"));
        }
    }
    Ok(())
}
