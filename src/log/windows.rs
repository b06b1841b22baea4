//! Stretches of an index file that were read for a look-up and are kept for the next ones.
//!
//! Readers go forward: the next look-up of each is mostly in the stretch of its last one, or in the
//! one right behind it. So a backlog is read with one access to the index every few fetches instead
//! of a search of the whole file for each.

use std::collections::VecDeque;

use crate::log::index::Entry;

/// Entries of a stretch: 4 KiB of an offset index.
pub(super) const ENTRIES_MAX: usize = 512;

/// Stretches that are kept: so many readers at different places do not disturb each other.
const WINDOWS_MAX: usize = 16;

/// What is known of the entries below some number without reading.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Known<E> {
    /// The last entry whose key is not larger.
    Found(Option<E>),
    /// It is `before`, or one of the entries `low..high`, which have to be read.
    Within { low: usize, high: usize, before: Option<E> },
}

/// The stretches; the one that was used last is at the end.
pub(super) struct Windows<E> {
    list: VecDeque<Window<E>>,
}

struct Window<E> {
    /// Number of its first entry.
    begin: usize,
    /// Never empty.
    entries: Vec<E>,
}

impl<E> Default for Windows<E> {
    fn default() -> Self {
        Self { list: VecDeque::new() }
    }
}

impl<E: Entry> Windows<E> {
    /// Looks for the last of the first `count` entries whose key is `key` or smaller.
    pub(super) fn find(&mut self, key: i64, count: usize) -> Known<E> {
        let (mut low, mut high, mut before) = (0, count, None);
        for at in 0..self.list.len() {
            let window = &self.list[at];
            let end = window.begin + window.entries.len();
            let smaller = window.entries.partition_point(|entry| entry.key() <= key);
            if smaller == 0 {
                high = high.min(window.begin);
            } else if smaller == window.entries.len() && end < count {
                if end > low {
                    (low, before) = (end, window.entries.last().copied());
                }
            } else {
                let found = window.entries.get(smaller - 1).copied();
                if let Some(used) = self.list.remove(at) {
                    self.list.push_back(used);
                }
                return Known::Found(found);
            }
        }
        match low < high {
            true => Known::Within { low, high, before },
            false => Known::Found(before),
        }
    }

    /// Keeps the entries from number `begin` on.
    pub(super) fn keep(&mut self, begin: usize, entries: Vec<E>) {
        if entries.is_empty() {
            return;
        }
        // A reader leaves the stretch before its next one behind.
        let is_covered = |old: &Window<E>| {
            let old_end = old.begin + old.entries.len();
            old_end == begin || (old.begin >= begin && old_end <= begin + entries.len())
        };
        self.list.retain(|old| !is_covered(old));
        if self.list.len() == WINDOWS_MAX {
            self.list.pop_front();
        }
        self.list.push_back(Window { begin, entries });
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        self.list = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::index::OffsetEntry;

    fn entry(number: usize) -> OffsetEntry {
        let relative = 10 * u32::try_from(number).expect("it is small");
        OffsetEntry { relative, position: relative + 1 }
    }

    fn stretch(begin: usize, end: usize) -> Vec<OffsetEntry> {
        (begin..end).map(entry).collect()
    }

    #[test]
    fn what_is_kept_is_found_and_the_rest_is_bounded() {
        let mut windows = Windows::default();
        let within = |low, high, before: Option<usize>| Known::Within {
            low,
            high,
            before: before.map(entry),
        };
        assert_eq!(windows.find(55, 100), within(0, 100, None));
        windows.keep(20, stretch(20, 30));
        windows.keep(60, stretch(60, 70));
        // Inside, at a border, between two entries.
        assert_eq!(windows.find(200, 100), Known::Found(Some(entry(20))));
        assert_eq!(windows.find(255, 100), Known::Found(Some(entry(25))));
        // The last one of a stretch may not be the last one that is smaller.
        assert_eq!(windows.find(290, 100), within(30, 60, Some(29)));
        assert_eq!(windows.find(290, 30), Known::Found(Some(entry(29))));
        assert_eq!(windows.find(150, 100), within(0, 20, None));
        assert_eq!(windows.find(500, 100), within(30, 60, Some(29)));
        assert_eq!(windows.find(900, 100), within(70, 100, Some(69)));
        // Right behind a stretch and right before the next there is nothing to read.
        windows.keep(30, stretch(30, 60));
        assert_eq!(windows.find(595, 100), Known::Found(Some(entry(59))));
        windows.clear();
        assert_eq!(windows.find(595, 100), within(0, 100, None));
        assert_eq!(windows.find(5, 0), Known::Found(None));
    }

    #[test]
    fn few_stretches_are_kept_and_a_reader_keeps_one() {
        let mut windows = Windows::default();
        for number in 0..100 {
            windows.keep(number * 512, stretch(number * 512, number * 512 + 512));
        }
        assert_eq!(windows.list.len(), 1);
        for number in 0..100 {
            windows.keep(number * 512, stretch(number * 512, number * 512 + 100));
        }
        assert_eq!(windows.list.len(), WINDOWS_MAX);
        // The one used last stays longest.
        let oldest = windows.list[0].begin;
        assert!(matches!(windows.find(entry(oldest).key(), 1 << 20), Known::Found(Some(_))));
        windows.keep(1 << 19, stretch(1 << 19, (1 << 19) + 1));
        assert!(windows.list.iter().any(|window| window.begin == oldest));
    }
}
