//! `corelog log`: what is in the files of a log, and whether it is whole.
//!
//! Reads the files as they lie, without opening the log: a broker may be running on them, and
//! nothing is mended or created.

pub mod files;
pub mod verify;

use std::path::{Path, PathBuf};

use crate::protocol::batch::BatchView;
use crate::protocol::compression::{Codec, decompress};
use crate::protocol::record::{ControlType, Records};
use crate::runtime::{Disk, OpenMode, Runtime};

use super::terminal::{Done, Failure, Output};
use files::{Kind, SegmentWalk, Step, offset_entries, snapshot, time_entries, transaction_entries};

/// Most bytes a batch may hold uncompressed to be printed.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// How much of a segment is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// A line for each batch.
    Batches,
    /// A line for each record as well.
    Records,
}

/// Runs `corelog log dump` on a file or on a partition's directory.
pub async fn dump(runtime: Runtime, path: PathBuf, shown: Shown) -> Done {
    let disk = runtime.disk();
    let mut out = Output::new();
    match disk.list(&path).await {
        Ok(entries) => {
            let files = entries.iter().filter(|entry| !entry.is_directory);
            for entry in files.filter(|entry| Kind::of(&entry.name).is_some()) {
                dump_file(&runtime, &path.join(&entry.name), shown, &mut out).await?;
            }
        }
        Err(_) => dump_file(&runtime, &path, shown, &mut out).await?,
    }
    out.flush()
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{} can not be read: {error}", path.display()))
}

async fn dump_file(runtime: &Runtime, path: &Path, shown: Shown, out: &mut Output) -> Done {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let disk = runtime.disk();
    out.line(format_args!("{}", path.display()))?;
    let Some(kind) = Kind::of(name) else {
        return Err(Failure::new(format!(
            "{name} is none of the files of a log: .log, .index, .timeindex, .txnindex, .snapshot, \
             .checkpoint, or a checkpoint"
        )));
    };
    if kind == Kind::Batches {
        return dump_segment(runtime, &disk, path, shown, out).await;
    }
    let bytes = disk.read(path).await.map_err(|error| unreadable(path, error))?;
    match kind {
        Kind::Batches => {}
        Kind::Offsets => {
            for (relative, position) in offset_entries(&bytes) {
                out.line(format_args!("  +{relative}  position {position}"))?;
            }
        }
        Kind::Times => {
            for (timestamp, relative) in time_entries(&bytes) {
                out.line(format_args!("  time {timestamp}  +{relative}"))?;
            }
        }
        Kind::Transactions => {
            for entry in transaction_entries(&bytes) {
                out.line(format_args!(
                    "  aborted: producer {}  offsets {}..={}  last stable offset {}",
                    entry.producer_id, entry.first, entry.last, entry.last_stable
                ))?;
            }
        }
        Kind::Producers => match snapshot(&bytes) {
            Ok(producers) => {
                for it in producers {
                    out.line(format_args!(
                        "  producer {}  epoch {}  last sequence {}  last offset {}  delta {}  time \
                         {}  coordinator epoch {}  transaction from {}",
                        it.id,
                        it.epoch,
                        it.last_sequence,
                        it.last_offset,
                        it.offset_delta,
                        it.timestamp,
                        it.coordinator_epoch,
                        it.transaction_start
                    ))?;
                }
            }
            Err(why) => out.line(format_args!("  damaged: {why}"))?,
        },
        Kind::Text => {
            for line in String::from_utf8_lossy(&bytes).lines() {
                out.line(format_args!("  {line}"))?;
            }
        }
    }
    Ok(())
}

async fn dump_segment(
    runtime: &Runtime,
    disk: &Disk,
    path: &Path,
    shown: Shown,
    out: &mut Output,
) -> Done {
    let file = disk.open(path, OpenMode::Read).await.map_err(|error| unreadable(path, error))?;
    let mut walk = SegmentWalk::new(file).await.map_err(|error| unreadable(path, error))?;
    loop {
        let position = walk.position();
        match walk.next().await.map_err(|error| unreadable(path, error))? {
            Step::End => return Ok(()),
            Step::Empty { size_bytes } => {
                return out.line(format_args!("  position {position}: {size_bytes} zero bytes"));
            }
            Step::Damaged { why } => {
                return out.line(format_args!("  position {position}: {why}"));
            }
            Step::Batch(bytes) => {
                let batch = match BatchView::parse(&bytes) {
                    Ok(batch) => batch,
                    Err(why) => return out.line(format_args!("  position {position}: {why}")),
                };
                dump_batch(&batch, position, out)?;
                if shown == Shown::Records {
                    dump_records(&batch, out)?;
                }
            }
        }
        runtime.pass().await;
    }
}

fn dump_batch(batch: &BatchView<'_>, position: u64, out: &mut Output) -> Done {
    let header = &batch.header;
    let codec = header.codec().map_or("unknown", Codec::name);
    let mut line = format!(
        "  offsets {}..={}  position {position}  {} bytes  {} records  epoch {}  {codec}  time {}",
        header.base_offset,
        header.last_offset(),
        header.size_bytes(),
        header.record_count,
        header.partition_leader_epoch,
        header.max_timestamp
    );
    if let Some(producer) = header.producer() {
        line += &format!(
            "  producer {producer}  epoch {}  sequences {}..={}",
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        );
    }
    if header.is_transactional() {
        line += "  transactional";
    }
    if header.is_control() {
        line += "  control";
    }
    line += if batch.is_intact() { "  crc ok" } else { "  crc WRONG" };
    out.line(line)
}

fn dump_records(batch: &BatchView<'_>, out: &mut Output) -> Done {
    let payload = match decompress(batch, BATCH_BYTES_MAX) {
        Ok(payload) => payload,
        Err(error) => return out.line(format_args!("    {error}")),
    };
    let text = |bytes: Option<&[u8]>| match bytes {
        None => "null".to_owned(),
        Some(bytes) => String::from_utf8_lossy(bytes).escape_debug().to_string(),
    };
    for record in Records::new(&payload, batch.header.record_count) {
        let record = match record {
            Ok(record) => record,
            Err(error) => return out.line(format_args!("    {error}")),
        };
        let offset = batch.header.offset_of(&record);
        let time = batch.header.timestamp_of(&record);
        if batch.header.is_control() {
            let kind = record.key.and_then(ControlType::from_key);
            out.line(format_args!("    {offset}  time {time}  control {kind:?}"))?;
            continue;
        }
        let headers: String = record
            .headers
            .map(|it| format!("  {}={}", text(Some(it.key)), text(it.value)))
            .collect();
        out.line(format_args!(
            "    {offset}  time {time}  key {}  value {}{headers}",
            text(record.key),
            text(record.value)
        ))?;
    }
    Ok(())
}
