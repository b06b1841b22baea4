//! The directories of a simulated file system: what the kernel shows, and what is on the disk.
//!
//! Creations, renames and removals wait in their directory until it is synced. A power loss keeps
//! a drawn number of the oldest of them, as a journalling file system does.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use super::guarded::Guarded;
use super::inode::{Inode, Survival};
use super::random::Random;

/// Changes of one directory that wait for a sync; the oldest is then written back unasked.
const CHANGES_MAX: usize = 4096;

/// An entry of a directory.
#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Inode>),
    Directory(Arc<Directory>),
}

/// A directory.
#[derive(Default)]
pub(super) struct Directory(Guarded<Entries>);

#[derive(Default)]
struct Entries {
    current: BTreeMap<String, Node>,
    synced: BTreeMap<String, Node>,
    /// What lies between the two, with its number, the oldest first.
    changes: VecDeque<(u64, Change)>,
    change_count: u64,
}

enum Change {
    Put(String, Node),
    Remove(String),
    Rename { from: String, to: String },
}

impl Directory {
    /// The entry of that name.
    pub(super) fn entry(&self, name: &str) -> Option<Node> {
        self.0.with(|entries| entries.current.get(name).cloned())
    }

    /// All entries, by name.
    pub(super) fn entries(&self) -> Vec<(String, Node)> {
        self.0.with(|entries| {
            entries.current.iter().map(|(name, node)| (name.clone(), node.clone())).collect()
        })
    }

    /// Adds an entry, or puts it in the place of the one of that name.
    pub(super) fn put(&self, name: &str, node: Node) {
        self.0.with(|entries| entries.change(Change::Put(name.to_owned(), node)));
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.with(|entries| entries.change(Change::Remove(name.to_owned())));
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        let change = Change::Rename { from: from.to_owned(), to: to.to_owned() };
        self.0.with(|entries| entries.change(change));
    }

    /// How many changes there have been; see [`sync`](Self::sync).
    pub(super) fn change_count(&self) -> u64 {
        self.0.with(|entries| entries.change_count)
    }

    /// Makes the first `count` changes durable.
    pub(super) fn sync(&self, count: u64) {
        self.0.with(|entries| entries.sync(count));
    }

    /// Loses power, in this directory and in all below that remain.
    pub(super) fn crash(&self, survival: Survival, random: &mut Random) {
        let remaining = self.0.with(|entries| {
            let kept = match survival {
                Survival::Nothing => 0,
                Survival::Everything => entries.changes.len() as u64,
                Survival::Mixed => random.below(entries.changes.len() as u64 + 1),
            };
            let first = entries.change_count - entries.changes.len() as u64;
            entries.sync(first + kept);
            entries.changes.clear();
            entries.current.clone_from(&entries.synced);
            entries.current.clone()
        });
        for node in remaining.values() {
            match node {
                Node::File(inode) => inode.crash(survival, random),
                Node::Directory(directory) => directory.crash(survival, random),
            }
        }
    }
}

impl Entries {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.change_count += 1;
        self.changes.push_back((self.change_count, change));
        if self.changes.len() > CHANGES_MAX {
            self.sync(self.changes[0].0);
        }
    }

    fn sync(&mut self, count: u64) {
        while self.changes.front().is_some_and(|(number, _)| *number <= count) {
            if let Some((_, change)) = self.changes.pop_front() {
                change.apply(&mut self.synced);
            }
        }
    }
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, Node>) {
        match self {
            Self::Put(name, node) => {
                entries.insert(name.clone(), node.clone());
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename { from, to } => {
                if let Some(node) = entries.remove(from) {
                    entries.insert(to.clone(), node);
                }
            }
        }
    }
}

/// The names that lead from the root to `path`. A relative path begins at the root.
pub(super) fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?);
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}

/// The directory that `names` lead to.
pub(super) fn directory(root: &Arc<Directory>, names: &[&str]) -> io::Result<Arc<Directory>> {
    let mut directory = root.clone();
    for name in names {
        directory = match directory.entry(name) {
            Some(Node::Directory(next)) => next,
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        };
    }
    Ok(directory)
}

/// The directory that holds `path`, and the name in it.
pub(super) fn parent<'a>(
    root: &Arc<Directory>,
    path: &'a Path,
) -> io::Result<(Arc<Directory>, &'a str)> {
    let names = names(path)?;
    let (name, parents) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((directory(root, parents)?, name))
}
