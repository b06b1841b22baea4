//! `corelog log verify`: whether the files of a data directory are whole and agree.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::batch::BatchView;
use crate::runtime::{Entry, OpenMode, Runtime};

use super::super::terminal::{Done, Failure, Output, Progress, Visible};
use super::files::{SegmentWalk, Step, offset_entries, snapshot, time_entries};

/// Findings of one kind that are printed for one file; the rest is counted.
const SHOWN_PER_FILE: usize = 10;

/// Time between two lines of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

/// What is done about a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Remedy {
    /// An index is made anew.
    Rebuild,
    /// The end of the log is cut at the next start.
    Cut,
    /// Nothing can be done here.
    Restore,
}

impl Remedy {
    fn words(self) -> &'static str {
        match self {
            Self::Rebuild => "stop the broker and delete the file; the next start makes it anew",
            Self::Cut => {
                "after a crash this is usual at the end of the newest segment, and cut off at the \
                 next start; anywhere else records are lost"
            }
            Self::Restore => {
                "the file can not be mended: delete the partition's directory on this node, so \
                 that it is copied from another replica, or restore it"
            }
        }
    }
}

/// A batch as the indexes see it.
struct Mark {
    position: u64,
    first: i64,
    last: i64,
}

/// What one partition was found to have.
#[derive(Default)]
struct Findings {
    lines: Vec<String>,
    count: u64,
    batches: u64,
    records: u64,
    bytes: u64,
}

impl Findings {
    fn add(&mut self, file: &Path, shown: &mut usize, what: &str, remedy: Remedy) {
        self.count += 1;
        *shown += 1;
        if *shown <= SHOWN_PER_FILE {
            self.lines.push(format!("{}: {what}\n    {}", file.display(), remedy.words()));
        } else if *shown == SHOWN_PER_FILE + 1 {
            self.lines.push(format!("{}: and more like this", file.display()));
        }
    }
}

/// Runs the command. It fails when anything is wrong.
pub async fn run(runtime: Runtime, directory: PathBuf) -> Done {
    let disk = runtime.disk();
    let unreadable = |error: io::Error| {
        Failure::new(format!("{} can not be read: {error}", directory.display()))
    };
    let entries = disk.list(&directory).await.map_err(unreadable)?;
    let partitions: Vec<PathBuf> = if entries.iter().any(|entry| entry.name.ends_with(".log")) {
        vec![directory.clone()]
    } else {
        let inner = entries.iter().filter(|entry| entry.is_directory);
        inner.map(|entry| directory.join(&entry.name)).collect()
    };
    let progress = Progress::new(Visible::Yes);
    let mut told = runtime.now();
    let mut out = Output::new();
    let mut wrong = 0;
    let (mut batches, mut records, mut bytes) = (0, 0, 0);
    for (index, partition) in partitions.iter().enumerate() {
        let now = runtime.now();
        if now.since(told) >= PROGRESS_PAUSE {
            told = now;
            let total = partitions.len();
            progress.show(format_args!("{} of {total}: {}", index + 1, partition.display()));
        }
        let found = verify_partition(&runtime, partition).await?;
        for line in &found.lines {
            out.line(line)?;
        }
        wrong += found.count;
        batches += found.batches;
        records += found.records;
        bytes += found.bytes;
    }
    let count = partitions.len();
    progress.end(format_args!("{count} partitions read"));
    out.line(format_args!(
        "{count} partitions, {batches} batches, {records} records, {bytes} bytes: {wrong} wrong"
    ))?;
    out.flush()?;
    match wrong {
        0 => Ok(()),
        1 => Err(Failure::new("one thing is wrong")),
        wrong => Err(Failure::new(format!("{wrong} things are wrong"))),
    }
}

/// The base offset and the ending of a segment's file.
fn base_of(name: &str) -> Option<(i64, &str)> {
    let (digits, ending) = name.split_once('.')?;
    let base = (digits.len() == 20).then(|| digits.parse().ok()).flatten()?;
    Some((base, ending))
}

async fn verify_partition(runtime: &Runtime, directory: &Path) -> Result<Findings, Failure> {
    let disk = runtime.disk();
    let unreadable = |error: io::Error| {
        Failure::new(format!("{} can not be read: {error}", directory.display()))
    };
    let entries = disk.list(directory).await.map_err(unreadable)?;
    let mut found = Findings::default();
    let mut bases: Vec<i64> = entries
        .iter()
        .filter_map(|entry| base_of(&entry.name))
        .filter(|(_, ending)| *ending == "log")
        .map(|(base, _)| base)
        .collect();
    bases.sort_unstable();
    let epochs = read_epochs(runtime, directory, &entries, &mut found).await?;
    let mut end = 0;
    for base in bases {
        let path = directory.join(format!("{base:020}.log"));
        let marks = verify_segment(runtime, &path, base, &mut end, &epochs, &mut found).await?;
        verify_indexes(runtime, directory, base, &marks, &entries, &mut found).await?;
    }
    for entry in entries.iter().filter(|entry| entry.name.ends_with(".snapshot")) {
        let path = directory.join(&entry.name);
        let bytes = disk.read(&path).await.map_err(unreadable)?;
        if let Err(why) = snapshot(&bytes) {
            found.add(&path, &mut 0, &why, Remedy::Rebuild);
        }
    }
    Ok(found)
}

/// The epochs of `leader-epoch-checkpoint`: epoch and first offset, in order.
async fn read_epochs(
    runtime: &Runtime,
    directory: &Path,
    entries: &[Entry],
    found: &mut Findings,
) -> Result<Vec<(i32, i64)>, Failure> {
    const NAME: &str = "leader-epoch-checkpoint";
    if !entries.iter().any(|entry| entry.name == NAME) {
        return Ok(Vec::new());
    }
    let path = directory.join(NAME);
    let bytes = runtime.disk().read(&path).await?;
    let text = String::from_utf8_lossy(&bytes);
    let mut shown = 0;
    let mut epochs: Vec<(i32, i64)> = Vec::new();
    for line in text.lines().skip(2).filter(|line| !line.is_empty()) {
        let parsed = line.split_once(' ').and_then(|(epoch, start)| {
            Some((epoch.parse::<i32>().ok()?, start.parse::<i64>().ok()?))
        });
        match (parsed, epochs.last()) {
            (None, _) => {
                let what = format!("\"{line}\" is not an epoch and an offset");
                found.add(&path, &mut shown, &what, Remedy::Rebuild);
            }
            (Some(next), Some(last)) if next.0 <= last.0 || next.1 < last.1 => {
                let what =
                    format!("epoch {} at {} follows {} at {}", next.0, next.1, last.0, last.1);
                found.add(&path, &mut shown, &what, Remedy::Rebuild);
            }
            (Some(next), _) => epochs.push(next),
        }
    }
    Ok(epochs)
}

/// Checks every batch of a segment; `end` is the log's end so far.
async fn verify_segment(
    runtime: &Runtime,
    path: &Path,
    base: i64,
    end: &mut i64,
    epochs: &[(i32, i64)],
    found: &mut Findings,
) -> Result<Vec<Mark>, Failure> {
    let file = runtime.disk().open(path, OpenMode::Read).await?;
    let mut walk = SegmentWalk::new(file).await?;
    let mut marks = Vec::new();
    let mut shown = 0;
    if base < *end {
        let what = format!("it begins at offset {base}, and the one before ends at {end}");
        found.add(path, &mut shown, &what, Remedy::Restore);
    }
    *end = (*end).max(base);
    loop {
        let position = walk.position();
        match walk.next().await? {
            Step::End | Step::Empty { .. } => return Ok(marks),
            Step::Damaged { why } => {
                let what = format!("position {position}: {why}");
                found.add(path, &mut shown, &what, Remedy::Cut);
                return Ok(marks);
            }
            Step::Batch(bytes) => {
                let batch = match BatchView::parse(&bytes) {
                    Ok(batch) => batch,
                    Err(why) => {
                        let what = format!("position {position}: {why}");
                        found.add(path, &mut shown, &what, Remedy::Cut);
                        return Ok(marks);
                    }
                };
                for (what, remedy) in wrong_with(&batch, *end, epochs) {
                    let what = format!("position {position}: {what}");
                    found.add(path, &mut shown, &what, remedy);
                }
                let header = &batch.header;
                let (first, last) = (header.base_offset, header.last_offset());
                marks.push(Mark { position, first, last });
                *end = (*end).max(header.next_offset());
                found.batches += 1;
                found.records += u64::try_from(header.record_count).unwrap_or(0);
                found.bytes += bytes.len() as u64;
            }
        }
        runtime.pass().await;
    }
}

fn wrong_with(batch: &BatchView<'_>, end: i64, epochs: &[(i32, i64)]) -> Vec<(String, Remedy)> {
    let header = &batch.header;
    let mut wrong = Vec::new();
    if !batch.is_intact() {
        let what = format!("the batch at offset {} fails its checksum", header.base_offset);
        wrong.push((what, Remedy::Cut));
    }
    if header.base_offset < end {
        let what = format!("the batch begins at offset {}, below {end}", header.base_offset);
        wrong.push((what, Remedy::Restore));
    }
    if header.last_offset_delta < 0 || header.record_count < 0 {
        let what = format!("the batch at offset {} counts below 0", header.base_offset);
        wrong.push((what, Remedy::Restore));
    }
    let epoch = epochs.iter().rev().find(|(_, start)| *start <= header.base_offset);
    if let Some((epoch, _)) = epoch.filter(|(epoch, _)| *epoch != header.partition_leader_epoch) {
        let what = format!(
            "the batch at offset {} has epoch {}, leader-epoch-checkpoint says {epoch}",
            header.base_offset, header.partition_leader_epoch
        );
        wrong.push((what, Remedy::Restore));
    }
    wrong
}

async fn verify_indexes(
    runtime: &Runtime,
    directory: &Path,
    base: i64,
    marks: &[Mark],
    entries: &[Entry],
    found: &mut Findings,
) -> Done {
    let disk = runtime.disk();
    let there = |name: &str| entries.iter().any(|entry| entry.name == name);
    let name = format!("{base:020}.index");
    if there(&name) {
        let path = directory.join(&name);
        let bytes = disk.read(&path).await?;
        verify_offsets(&path, base, marks, &offset_entries(&bytes), found);
    }
    let name = format!("{base:020}.timeindex");
    if there(&name) {
        let path = directory.join(&name);
        let bytes = disk.read(&path).await?;
        verify_times(&path, base, marks, &time_entries(&bytes), found);
    }
    Ok(())
}

fn verify_offsets(
    path: &Path,
    base: i64,
    marks: &[Mark],
    entries: &[(u32, u32)],
    found: &mut Findings,
) {
    let by_position: BTreeMap<u64, &Mark> =
        marks.iter().map(|mark| (mark.position, mark)).collect();
    let mut shown = 0;
    let mut last: Option<(u32, u32)> = None;
    for entry in entries {
        // A preallocated index without entries is all zeros.
        if *entry == (0, 0) && entries.len() == 1 {
            return;
        }
        let (relative, position) = *entry;
        let offset = base + i64::from(relative);
        let what = match by_position.get(&u64::from(position)) {
            None => {
                Some(format!("offset {offset} is said to be at {position}, where no batch begins"))
            }
            Some(mark) if !(mark.first..=mark.last).contains(&offset) => Some(format!(
                "offset {offset} is said to be at {position}, where offsets {}..={} are",
                mark.first, mark.last
            )),
            Some(_) => None,
        };
        let falls = last.is_some_and(|(before, at)| relative <= before || position <= at);
        if falls {
            found.add(
                path,
                &mut shown,
                &format!("entry +{relative} is out of order"),
                Remedy::Rebuild,
            );
        } else if let Some(what) = what {
            found.add(path, &mut shown, &what, Remedy::Rebuild);
        }
        last = Some(*entry);
    }
}

fn verify_times(
    path: &Path,
    base: i64,
    marks: &[Mark],
    entries: &[(i64, u32)],
    found: &mut Findings,
) {
    let end = marks.last().map_or(base, |mark| mark.last);
    let mut shown = 0;
    let mut last: Option<(i64, u32)> = None;
    for (timestamp, relative) in entries {
        let offset = base + i64::from(*relative);
        let falls = last.is_some_and(|(before, at)| *timestamp < before || *relative < at);
        if falls {
            let what = format!("entry {timestamp} +{relative} is out of order");
            found.add(path, &mut shown, &what, Remedy::Rebuild);
        } else if offset > end {
            let what = format!("time {timestamp} points to offset {offset}, behind the end {end}");
            found.add(path, &mut shown, &what, Remedy::Rebuild);
        }
        last = Some((*timestamp, *relative));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Vec<Mark> {
        vec![
            Mark { position: 0, first: 10, last: 12 },
            Mark { position: 100, first: 13, last: 13 },
            Mark { position: 200, first: 14, last: 20 },
        ]
    }

    #[test]
    fn an_index_has_to_point_at_batches_in_order() {
        type Case<'a, T> = (&'a str, &'a [(T, u32)], u64);
        let cases: [Case<'_, u32>; 6] = [
            ("good", &[(3, 100), (10, 200)], 0),
            ("empty, preallocated", &[(0, 0)], 0),
            ("between batches", &[(3, 101)], 1),
            ("another batch's offset", &[(4, 100)], 1),
            ("not ascending", &[(10, 200), (3, 100)], 1),
            ("behind the end", &[(30, 300)], 1),
        ];
        for (name, entries, expected) in cases {
            let mut found = Findings::default();
            verify_offsets(Path::new("i"), 10, &marks(), entries, &mut found);
            assert_eq!(found.count, expected, "{name}");
        }
        let cases: [Case<'_, i64>; 4] = [
            ("good", &[(5, 0), (7, 3), (7, 10)], 0),
            ("time falls", &[(7, 0), (5, 3)], 1),
            ("offset falls", &[(5, 3), (7, 0)], 1),
            ("behind the end", &[(5, 30)], 1),
        ];
        for (name, entries, expected) in cases {
            let mut found = Findings::default();
            verify_times(Path::new("t"), 10, &marks(), entries, &mut found);
            assert_eq!(found.count, expected, "{name}");
        }
    }
}
