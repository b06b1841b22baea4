//! What an interrupted process leaves in a partition's directory, and what becomes of it.
//!
//! | ending     | what it is                           | what becomes of it                      |
//! |------------|--------------------------------------|-----------------------------------------|
//! | `.deleted` | a deleted file                       | removed                                 |
//! | `.cleaned` | being written by cleaner or truncation| removed                                |
//! | `.swap`    | complete, to replace older files     | replaces them; removed at or above the  |
//! |            |                                      | lowest `.cleaned`: the set is incomplete|
//! | `.tmp`     | a snapshot being written             | removed                                 |
//!
//! KRaft snapshots have other names and are left alone. Source: Kafka's `LogLoader`.

use std::io;

use crate::base::Offset;
use crate::log::home::{Home, ignore_missing};
use crate::log::names::parse_file_name;
use crate::log::segment;
use crate::log::walk::Walk;
use crate::runtime::{Entry, OpenMode};

const SWAP: &str = ".swap";

/// Tidies the directory up. Returns its entries afterwards.
pub(super) async fn tidy(home: &Home, entries: Vec<Entry>) -> io::Result<Vec<Entry>> {
    let before = entries.len();
    let mut kept = Vec::with_capacity(before);
    let mut cleaned_from: Option<Offset> = None;
    for entry in entries {
        let parsed = parse_file_name(&entry.name).filter(|_| !entry.is_directory);
        let Some((offset, ending)) = parsed else {
            kept.push(entry);
            continue;
        };
        if ending.ends_with(".cleaned") {
            cleaned_from = Some(cleaned_from.map_or(offset, |known| known.min(offset)));
        }
        if [".deleted", ".cleaned", ".tmp"].iter().any(|gone| ending.ends_with(gone)) {
            remove(home, &entry).await?;
        } else {
            kept.push(entry);
        }
    }
    let is_swap = |entry: &&Entry| entry.name.ends_with(SWAP) && !entry.is_directory;
    let has_swaps = kept.iter().any(|entry| is_swap(&entry));
    if has_swaps {
        finish_swaps(home, &kept, cleaned_from).await?;
    }
    if has_swaps || kept.len() != before {
        home.sync().await?;
        kept = home.disk.list(&home.directory()).await?;
    }
    remove_orphans(home, kept).await
}

async fn remove(home: &Home, entry: &Entry) -> io::Result<()> {
    ignore_missing(home.disk.remove_file(&home.join(&entry.name)).await)
}

/// Puts complete `.swap` files in the place of what they replace.
async fn finish_swaps(
    home: &Home,
    entries: &[Entry],
    cleaned_from: Option<Offset>,
) -> io::Result<()> {
    let mut swaps = Vec::new();
    for entry in entries {
        let Some((offset, ending)) = parse_file_name(&entry.name) else { continue };
        let Some(plain) = ending.strip_suffix(SWAP) else { continue };
        if cleaned_from.is_some_and(|from| offset >= from) {
            remove(home, entry).await?;
        } else {
            swaps.push((offset, plain.to_owned(), entry.size_bytes));
        }
    }
    let mut replaced: Option<(Offset, Offset)> = None;
    for (base, ending, size_bytes) in &swaps {
        if ending == segment::ENDING {
            let end = end_of_swap(home, *base, *size_bytes).await?;
            let (low, high) = replaced.unwrap_or((*base, end));
            replaced = Some((low.min(*base), high.max(end)));
        }
    }
    if let Some((low, high)) = replaced {
        for entry in entries.iter().filter(|entry| !entry.is_directory) {
            let Some((offset, ending)) = parse_file_name(&entry.name) else { continue };
            if !ending.ends_with(SWAP) && low <= offset && offset < high {
                remove(home, entry).await?;
            }
        }
    }
    for (base, ending, _) in &swaps {
        home.rename(*base, &format!("{ending}{SWAP}"), ending).await?;
    }
    Ok(())
}

async fn end_of_swap(home: &Home, base: Offset, size_bytes: u64) -> io::Result<Offset> {
    let ending = format!("{}{SWAP}", segment::ENDING);
    let file = home.open(base, &ending, OpenMode::Read).await?;
    let mut walk = Walk::new(file, 0, size_bytes);
    let mut end = base;
    while let Some((header, _)) = walk.next().await? {
        end = Offset::from_wire(header.next_offset()).unwrap_or(end);
    }
    Ok(end)
}

/// Removes indexes without a log.
async fn remove_orphans(home: &Home, entries: Vec<Entry>) -> io::Result<Vec<Entry>> {
    let logs: Vec<Offset> = entries
        .iter()
        .filter_map(|entry| parse_file_name(&entry.name))
        .filter(|(_, ending)| *ending == segment::ENDING)
        .map(|(offset, _)| offset)
        .collect();
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        let is_orphan = parse_file_name(&entry.name).is_some_and(|(offset, ending)| {
            ["index", "timeindex", super::aborted::ENDING].contains(&ending)
                && logs.binary_search(&offset).is_err()
        });
        if is_orphan {
            // Of a deletion that was cut short, or of a segment that was lost.
            tracing::warn!(file = %home.join(&entry.name).display(),
                "an index has no segment, it is removed");
            remove(home, &entry).await?;
        } else {
            kept.push(entry);
        }
    }
    Ok(kept)
}
