//! The bytes of one simulated file: what the page cache has, and what a power loss would leave.
//!
//! Pages are absent until written (holes read as zeros). The first write to a page after a sync
//! keeps the page's older content; a power loss goes back to it, keeps the newer one, or tears the
//! page at a sector. So a write costs its own pages, however long the file is.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::guarded::Guarded;
use super::random::Random;
use super::world::ProcessId;

const PAGE_BYTES: usize = 4096;
/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;

type Page = Box<[u8; PAGE_BYTES]>;

/// The room of a simulated file system.
pub(super) struct Volume {
    pub(super) bytes_max: AtomicU64,
    pub(super) used_bytes: AtomicU64,
}

impl Volume {
    /// Accounts for a file that changes its length, or refuses to let it grow.
    fn resize(&self, from: u64, to: u64) -> io::Result<()> {
        let used = self.used_bytes.load(Ordering::Relaxed) - from;
        let wanted = used.saturating_add(to);
        if to > from && wanted > self.bytes_max.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.used_bytes.store(wanted, Ordering::Relaxed);
        Ok(())
    }
}

/// What a power loss leaves of changes that were not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Survival {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// Each as a draw decides.
    Mixed,
}

impl Survival {
    pub(super) fn drawn(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Mixed,
        }
    }
}

/// A file.
pub(super) struct Inode {
    /// The file's number, given once in a world.
    pub(super) number: u64,
    volume: Arc<Volume>,
    state: Guarded<Contents>,
}

#[derive(Default)]
struct Contents {
    length: u64,
    /// A missing page is all zeros.
    pages: Vec<Option<Page>>,
    synced_length: u64,
    /// Pages written since the last sync began, as they were before.
    dirty: BTreeMap<usize, Option<Page>>,
    /// Syncs that have begun and not ended, the oldest first.
    syncing: Vec<Sync>,
    /// Pages whose sync has failed, as the disk has them. As on Linux they count as clean: no later
    /// sync writes them, unless they are written to again.
    lost: BTreeMap<usize, Option<Page>>,
    syncs_begun: u64,
    locked_by: Option<(ProcessId, u64)>,
}

struct Sync {
    number: u64,
    length: u64,
    /// The pages it makes durable, as they were before.
    pages: BTreeMap<usize, Option<Page>>,
}

impl Inode {
    /// An empty file.
    pub(super) fn new(number: u64, volume: Arc<Volume>) -> Self {
        Self { number, volume, state: Guarded::default() }
    }

    pub(super) fn length(&self) -> u64 {
        self.state.with(|contents| contents.length)
    }

    /// Up to `length` bytes from `position` on.
    pub(super) fn read(&self, position: u64, length: usize) -> Vec<u8> {
        self.state.with(|contents| contents.read(position, length))
    }

    /// Writes `bytes` from `position` on, all of them or none.
    pub(super) fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let end = position
            .checked_add(bytes.len() as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.state.with(|contents| {
            if end > contents.length {
                self.volume.resize(contents.length, end)?;
                contents.length = end;
            }
            contents.write(position, bytes);
            Ok(())
        })
    }

    /// Cuts or extends the file.
    pub(super) fn set_length(&self, length: u64) -> io::Result<()> {
        self.state.with(|contents| {
            self.volume.resize(contents.length, length)?;
            contents.set_length(length);
            Ok(())
        })
    }

    /// Begins a sync: what is written from now on is not part of it.
    pub(super) fn begin_sync(&self) -> u64 {
        self.state.with(|contents| {
            contents.syncs_begun += 1;
            let pages = std::mem::take(&mut contents.dirty);
            let number = contents.syncs_begun;
            contents.syncing.push(Sync { number, length: contents.length, pages });
            number
        })
    }

    /// Ends a sync: it and all that began before are durable.
    pub(super) fn end_sync(&self, number: u64) {
        self.state.with(|contents| {
            let count = contents.syncing.partition_point(|sync| sync.number <= number);
            if let Some(last) = contents.syncing.drain(..count).next_back() {
                contents.synced_length = last.length;
            }
        });
    }

    /// Ends a sync in failure: what it should have written is in the page cache and nowhere else.
    pub(super) fn fail_sync(&self, number: u64) {
        self.state.with(|contents| contents.fail_sync(number));
    }

    /// Loses power: what `survival` leaves of the un-synced changes is all there is.
    pub(super) fn crash(&self, survival: Survival, random: &mut Random) {
        self.state.with(|contents| {
            let before = contents.length;
            contents.crash(survival, random);
            contents.locked_by = None;
            let used = &self.volume.used_bytes;
            let rest = used.load(Ordering::Relaxed) - before;
            used.store(rest + contents.length, Ordering::Relaxed);
        });
    }

    /// Takes the exclusive lock, or says that it is held.
    pub(super) fn lock(&self, process: ProcessId, token: u64) -> bool {
        self.state.with(|contents| {
            let free = contents.locked_by.is_none();
            if free {
                contents.locked_by = Some((process, token));
            }
            free
        })
    }

    /// Gives back the lock that `token` took, if it still holds it.
    pub(super) fn unlock(&self, process: ProcessId, token: u64) {
        self.state.with(|contents| {
            if contents.locked_by == Some((process, token)) {
                contents.locked_by = None;
            }
        });
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        let length = self.length();
        self.volume.used_bytes.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Contents {
    fn read(&self, position: u64, length: usize) -> Vec<u8> {
        let available = self.length.saturating_sub(position).min(length as u64) as usize;
        let mut bytes = Vec::with_capacity(available);
        let mut at = position;
        while bytes.len() < available {
            let offset = (at % PAGE_BYTES as u64) as usize;
            let count = (PAGE_BYTES - offset).min(available - bytes.len());
            match self.pages.get((at / PAGE_BYTES as u64) as usize) {
                Some(Some(page)) => bytes.extend_from_slice(&page[offset..offset + count]),
                Some(None) | None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    fn write(&mut self, position: u64, mut bytes: &[u8]) {
        let mut at = position;
        while !bytes.is_empty() {
            let offset = (at % PAGE_BYTES as u64) as usize;
            let count = (PAGE_BYTES - offset).min(bytes.len());
            let page = self.page_to_change((at / PAGE_BYTES as u64) as usize);
            page[offset..offset + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            at += count as u64;
        }
    }

    /// The page, to be written to; its older content is kept if it is the durable one.
    fn page_to_change(&mut self, index: usize) -> &mut Page {
        if self.pages.len() <= index {
            self.pages.resize_with(index + 1, || None);
        }
        let was_empty = (index * PAGE_BYTES) as u64 >= self.durable_length_max();
        let page = &mut self.pages[index];
        self.dirty.entry(index).or_insert_with(|| match self.lost.remove(&index) {
            Some(on_disk) => on_disk,
            None if was_empty => None,
            None => page.clone(),
        });
        page.get_or_insert_with(|| Box::new([0; PAGE_BYTES]))
    }

    /// Beyond this length no page has a content that a power loss might bring back.
    fn durable_length_max(&self) -> u64 {
        let syncing = self.syncing.iter().map(|sync| sync.length).max().unwrap_or(0);
        self.synced_length.max(syncing)
    }

    fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.cut(length);
        }
        self.length = length;
    }

    /// Makes all bytes from `length` on zeros.
    fn cut(&mut self, length: u64) {
        let whole = length.div_ceil(PAGE_BYTES as u64) as usize;
        for index in whole..self.pages.len() {
            if let Some(page) = self.pages[index].take() {
                let on_disk = self.lost.remove(&index).unwrap_or(Some(page));
                self.dirty.entry(index).or_insert(on_disk);
            }
        }
        self.pages.truncate(whole);
        let offset = (length % PAGE_BYTES as u64) as usize;
        if offset > 0 && self.pages.len() == whole && self.pages[whole - 1].is_some() {
            self.page_to_change(whole - 1)[offset..].fill(0);
        }
    }

    fn fail_sync(&mut self, number: u64) {
        let Some(at) = self.syncing.iter().position(|sync| sync.number == number) else { return };
        let failed = self.syncing.remove(at);
        for (index, on_disk) in failed.pages {
            // A page that was written to since is not clean: the sync to come writes all of it.
            let later = self.syncing[at..].iter_mut().map(|sync| &mut sync.pages);
            let mut later = later.chain([&mut self.dirty]);
            match later.find_map(|pages| pages.get_mut(&index)) {
                Some(older) => *older = on_disk,
                None => drop(self.lost.entry(index).or_insert(on_disk)),
            }
        }
    }

    fn crash(&mut self, survival: Survival, random: &mut Random) {
        let survival = match survival {
            // A cut that was not synced happened, or it did not: no half of it is seen.
            Survival::Mixed if self.length < self.synced_length => match random.below(2) {
                0 => Survival::Nothing,
                _ => Survival::Everything,
            },
            Survival::Nothing | Survival::Everything | Survival::Mixed => survival,
        };
        // The oldest content kept of a page is the durable one.
        let mut durable = std::mem::take(&mut self.dirty);
        for sync in std::mem::take(&mut self.syncing).into_iter().rev() {
            durable.extend(sync.pages);
        }
        let length = match survival {
            Survival::Nothing => self.synced_length,
            Survival::Everything => self.length,
            Survival::Mixed => random.between(self.synced_length..=self.length),
        };
        for (index, on_disk) in std::mem::take(&mut self.lost) {
            if let Some(page) = self.pages.get_mut(index) {
                *page = on_disk;
            }
        }
        for (index, old) in durable {
            if self.pages.len() <= index {
                self.pages.resize_with(index + 1, || None);
            }
            let page = &mut self.pages[index];
            match survival {
                Survival::Everything => {}
                Survival::Nothing => *page = old,
                Survival::Mixed => match random.below(3) {
                    0 => *page = old,
                    1 => {}
                    _ => tear(page, old, random),
                },
            }
        }
        self.cut(length);
        self.dirty.clear();
        self.length = length;
        self.synced_length = length;
    }
}

/// Leaves the first sectors of the newer page, and the older one behind them.
fn tear(page: &mut Option<Page>, old: Option<Page>, random: &mut Random) {
    let kept = random.below((PAGE_BYTES / SECTOR_BYTES) as u64) as usize * SECTOR_BYTES;
    let mut torn = old.unwrap_or_else(|| Box::new([0; PAGE_BYTES]));
    match page {
        Some(page) => torn[..kept].copy_from_slice(&page[..kept]),
        None => torn[..kept].fill(0),
    }
    *page = Some(torn);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Inode {
        let volume = Volume { bytes_max: 1_000_000.into(), used_bytes: 0.into() };
        Inode::new(1, Arc::new(volume))
    }

    fn all(file: &Inode) -> Vec<u8> {
        file.read(0, usize::MAX)
    }

    #[test]
    fn writes_cuts_and_holes_read_back_as_a_plain_vector_does() {
        let mut random = Random::new(11);
        let file = file();
        let mut plain: Vec<u8> = Vec::new();
        for round in 0..500 {
            let position = random.below(20_000);
            let bytes = vec![round as u8; random.below(9_000) as usize];
            match random.below(5) {
                0 => {
                    file.set_length(position).expect("room");
                    plain.resize(position as usize, 0);
                }
                1 => file.end_sync(file.begin_sync()),
                _ if !bytes.is_empty() => {
                    file.write(position, &bytes).expect("room");
                    let end = position as usize + bytes.len();
                    plain.resize(plain.len().max(end), 0);
                    plain[position as usize..end].copy_from_slice(&bytes);
                }
                _ => {}
            }
            assert_eq!(file.length(), plain.len() as u64, "round {round}");
            assert_eq!(all(&file), plain, "round {round}");
            assert_eq!(file.volume.used_bytes.load(Ordering::Relaxed), plain.len() as u64);
        }
    }

    #[test]
    fn a_power_loss_that_leaves_nothing_goes_back_to_the_last_sync() {
        let mut random = Random::new(12);
        let file = file();
        let mut synced: Vec<u8> = Vec::new();
        for round in 0..500u64 {
            for _ in 0..random.below(4) {
                let position = random.below(20_000);
                match random.below(4) {
                    0 => file.set_length(position).expect("room"),
                    _ => file.write(position, &vec![round as u8; 3_000]).expect("room"),
                }
            }
            match random.below(3) {
                0 => {
                    // What is written while a sync is under way is not part of it.
                    let sync = file.begin_sync();
                    synced = all(&file);
                    file.write(random.below(20_000), &[255; 5_000]).expect("room");
                    file.end_sync(sync);
                }
                1 => {
                    // A sync that never ends makes nothing durable.
                    file.begin_sync();
                    file.write(random.below(20_000), &[254; 5_000]).expect("room");
                    file.crash(Survival::Nothing, &mut random);
                    assert_eq!(all(&file), synced, "round {round}");
                }
                _ => {
                    file.crash(Survival::Nothing, &mut random);
                    assert_eq!(all(&file), synced, "round {round}");
                }
            }
        }
    }

    #[test]
    fn a_power_loss_keeps_synced_bytes_that_were_not_written_again() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let file = file();
            file.write(0, &[1; 5_000]).expect("room");
            file.end_sync(file.begin_sync());
            file.write(5_000, &[2; 10_000]).expect("room");
            file.crash(Survival::Mixed, &mut random);
            let bytes = all(&file);
            assert!((5_000..=15_000).contains(&bytes.len()), "seed {seed}");
            assert!(bytes[..5_000].iter().all(|byte| *byte == 1), "seed {seed}");
            assert!(bytes[5_000..].iter().all(|byte| [0, 2].contains(byte)), "seed {seed}");
            assert_eq!(file.volume.used_bytes.load(Ordering::Relaxed), bytes.len() as u64);
        }
    }

    #[test]
    fn what_a_failed_sync_should_have_written_is_on_disk_only_after_it_was_written_again() {
        let mut random = Random::new(13);
        let file = file();
        let write = |byte: u8| file.write(0, &[byte; 100]).expect("room");
        let sync = || file.end_sync(file.begin_sync());
        let mut after_crash = || {
            assert_eq!(file.length(), 100);
            file.crash(Survival::Everything, &mut random);
            all(&file)[0]
        };
        write(1);
        sync();
        write(2);
        file.fail_sync(file.begin_sync());
        assert_eq!(all(&file), [2; 100], "the page cache has it");
        sync();
        assert_eq!(after_crash(), 1, "a later sync finds nothing to write");
        write(3);
        file.fail_sync(file.begin_sync());
        write(4);
        sync();
        assert_eq!(after_crash(), 4, "it was written again");
        write(5);
        let failing = file.begin_sync();
        write(6);
        file.fail_sync(failing);
        sync();
        assert_eq!(after_crash(), 6, "it was written to while the sync was under way");
    }

    #[test]
    fn a_full_volume_refuses_to_grow_a_file_and_gets_its_room_back() {
        let file = file();
        file.write(0, &[1; 600_000]).expect("room");
        let error = file.write(600_000, &[1; 600_000]).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.length(), 600_000);
        let volume = file.volume.clone();
        drop(file);
        assert_eq!(volume.used_bytes.load(Ordering::Relaxed), 0);
    }
}
