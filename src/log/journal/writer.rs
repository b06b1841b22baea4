//! Writing the journal: what waits is gathered, written in one go, synced, and answered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::base::{Instant, PartitionKey};
use crate::log::Log;
use crate::log::home::ignore_missing;
use crate::log::message::AppendBatch;
use crate::runtime::local::{Answer, Notice, Reply, next_turn, oneshot};
use crate::runtime::{File, OpenMode, Runtime};

use super::format::{ENTRY_BYTES, EntryHeader, HEADER_BYTES, file_name, header};

/// Bytes in one write at most, but for a single larger commit.
const WRITE_BYTES_MAX: u64 = 1 << 20;

/// Entries in one write at most: a vectored write takes 1,024 parts, three an entry.
const WRITE_ENTRIES_MAX: usize = 256;

/// Bytes of a commit at most. Larger ones gain nothing: their log is synced instead.
const COMMIT_BYTES_MAX: u64 = 256 << 10;

/// Zeros written at once when a file is prepared.
const ZEROS: &[u8] = &[0; 256 << 10];

/// Logs that are synced at the same time before a file is written anew.
const SYNCED_AT_ONCE: usize = 8;

/// How long after a failure the journal is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// One core's journal. Clones are the same journal.
#[derive(Clone)]
pub struct Journal(Rc<State>);

struct State {
    runtime: Runtime,
    directory: PathBuf,
    file_bytes: u64,
    next_generation: Cell<u64>,
    phase: Cell<Phase>,
    files: RefCell<Vec<Rc<Journaled>>>,
    waiting: RefCell<VecDeque<Commit>>,
    /// A task writes, or a file is being prepared.
    busy: Cell<bool>,
    /// Told when nothing is being written any more, and when a file's logs are synced.
    changed: Notice,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Nobody has asked yet: there are no files.
    Unused,
    /// The files are being made.
    Preparing,
    /// The file in use, of the two.
    Ready(usize),
    /// Something failed; logs are synced one by one until then.
    FailedUntil(Instant),
    /// Nothing is taken any more.
    Closed,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("phase", &self.0.phase.get()).finish_non_exhaustive()
    }
}

/// Batches of one partition that wait to be durable.
struct Commit {
    key: PartitionKey,
    log: Log,
    batches: Vec<AppendBatch>,
    size_bytes: u64,
    reply: Reply<()>,
}

/// One of the two files.
struct Journaled {
    path: PathBuf,
    file: File,
    generation: Cell<u64>,
    end: Cell<u64>,
    entry_count: Cell<u64>,
    /// Whose batches it has since it was begun.
    logs: RefCell<FxHashMap<PartitionKey, Log>>,
    state: Cell<FileState>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FileState {
    /// Nothing in it is needed.
    Free,
    /// The one that is written.
    Current,
    /// Its logs are being synced.
    Syncing,
    /// A log could not be synced: what the file has of it must stay.
    Kept,
}

impl Journal {
    /// The journal of this core, in files of `file_bytes` that are made once they are needed; 0 for
    /// none. No generation or file number of an earlier process may reach `next_generation`.
    pub fn new(
        runtime: Runtime,
        directory: PathBuf,
        file_bytes: u64,
        next_generation: u64,
    ) -> Self {
        Self(Rc::new(State {
            runtime,
            directory,
            file_bytes,
            next_generation: Cell::new(next_generation),
            phase: Cell::new(Phase::Unused),
            files: RefCell::default(),
            waiting: RefCell::default(),
            busy: Cell::new(false),
            changed: Notice::new(),
        }))
    }

    /// Makes `batches`, which were just appended to `log`, durable. The answer comes once they are;
    /// it comes empty, and this returns `None`, when they have to be made so by syncing the log.
    pub fn commit(
        &self,
        key: PartitionKey,
        log: &Log,
        batches: Vec<AppendBatch>,
    ) -> Option<Answer<()>> {
        let this = &*self.0;
        let fits = self.takes(&batches);
        match this.phase.get() {
            Phase::Ready(_) if fits => {}
            Phase::Unused if this.file_bytes > HEADER => {
                self.begin();
                return None;
            }
            Phase::FailedUntil(due) if this.runtime.now() >= due => {
                self.begin();
                return None;
            }
            _ => return None,
        }
        let (reply, answer) = oneshot();
        let size_bytes = entries_bytes(&batches);
        let commit = Commit { key, log: log.clone(), batches, size_bytes, reply };
        this.waiting.borrow_mut().push_back(commit);
        if !this.busy.replace(true) {
            let journal = self.clone();
            this.runtime.spawn("journal", async move {
                // What other partitions append in this turn joins the first write.
                next_turn().await;
                journal.0.write_waiting().await;
                journal.0.rest();
            });
        }
        Some(answer)
    }

    /// Whether one commit may have all of `batches`: with more, syncing the log costs no more.
    pub fn takes(&self, batches: &[AppendBatch]) -> bool {
        let room = self.0.file_bytes.saturating_sub(HEADER);
        batches.len() <= WRITE_ENTRIES_MAX && entries_bytes(batches) <= COMMIT_BYTES_MAX.min(room)
    }

    /// Has the files made, in the background.
    fn begin(&self) {
        let this = &*self.0;
        if this.busy.replace(true) {
            return;
        }
        this.phase.set(Phase::Preparing);
        let journal = self.clone();
        this.runtime.spawn("journal", async move {
            let this = &journal.0;
            match this.prepare().await {
                Ok(()) if this.phase.get() == Phase::Preparing => this.phase.set(Phase::Ready(0)),
                Ok(()) => {}
                Err(error) => this.fail("the journal can not be made", &error),
            }
            this.rest();
        });
    }

    /// Takes nothing any more, waits until nothing is under way, and removes the files. Every log
    /// must have been closed.
    pub async fn close(&self) -> io::Result<()> {
        let this = &*self.0;
        this.phase.set(Phase::Closed);
        let is_syncing =
            || this.files.borrow().iter().any(|file| file.state.get() == FileState::Syncing);
        while this.busy.get() || is_syncing() {
            this.changed.notified().await;
        }
        let files = this.files.take();
        if files.is_empty() {
            return Ok(());
        }
        let disk = this.runtime.disk();
        for file in files {
            disk.remove_file(&file.path).await?;
        }
        disk.sync_directory(&this.directory).await
    }
}

const HEADER: u64 = HEADER_BYTES as u64;

/// What `batches` take in a file.
fn entries_bytes(batches: &[AppendBatch]) -> u64 {
    batches.iter().map(|batch| ENTRY_BYTES as u64 + u64::from(batch.meta.size_bytes)).sum()
}

impl State {
    fn rest(&self) {
        self.busy.set(false);
        self.changed.notify();
    }

    fn fail(&self, what: &str, error: &io::Error) {
        tracing::warn!(directory = %self.directory.display(), %error,
            "{what}; logs are synced one by one");
        if self.phase.get() != Phase::Closed {
            self.phase.set(Phase::FailedUntil(self.runtime.now() + RETRY_AFTER));
        }
    }

    fn take_generation(&self) -> u64 {
        self.next_generation.replace(self.next_generation.get() + 1)
    }

    /// Makes two files, written once from end to end: later writes change nothing but bytes. Those
    /// of an earlier try are let go, once nothing in them is needed.
    async fn prepare(&self) -> io::Result<()> {
        let disk = self.runtime.disk();
        let mut files = Vec::new();
        let old = self.files.borrow().clone();
        for file in &old {
            if !self.sync_logs(file).await {
                return Err(io::Error::other("a log that it has batches of can not be synced"));
            }
        }
        for file in old {
            ignore_missing(disk.remove_file(&file.path).await)?;
        }
        self.files.borrow_mut().clear();
        for _ in 0..2 {
            let name = file_name(self.runtime.shard(), self.take_generation());
            let path = self.directory.join(name);
            match self.make(&path).await {
                Ok(file) => files.push(Rc::new(Journaled {
                    path,
                    file,
                    generation: Cell::new(0),
                    end: Cell::new(0),
                    entry_count: Cell::new(0),
                    logs: RefCell::default(),
                    state: Cell::new(FileState::Free),
                })),
                Err(error) => {
                    // What there is of them takes room that others may need.
                    let _ = disk.remove_file(&path).await;
                    for file in files {
                        let _ = disk.remove_file(&file.path).await;
                    }
                    return Err(error);
                }
            }
        }
        disk.sync_directory(&self.directory).await?;
        files[0].begin(self.take_generation());
        *self.files.borrow_mut() = files;
        Ok(())
    }

    async fn make(&self, path: &Path) -> io::Result<File> {
        let file = self.runtime.disk().open(path, OpenMode::Replace).await?;
        let mut end = 0;
        while end < self.file_bytes {
            let length = (self.file_bytes - end).min(ZEROS.len() as u64) as usize;
            file.write_at(end, &[Bytes::from_static(&ZEROS[..length])]).await?;
            end += length as u64;
            self.runtime.pass().await;
        }
        file.sync().await?;
        Ok(file)
    }

    async fn write_waiting(self: &Rc<Self>) {
        loop {
            // A file that is full is left before the next group is taken.
            let first_bytes = self.waiting.borrow().front().map(|commit| commit.size_bytes);
            let Some(first_bytes) = first_bytes else { return };
            let Some(file) = self.file_with_room(first_bytes).await else {
                return self.refuse_waiting();
            };
            let group = self.next_group(self.file_bytes - file.end.get());
            if let Err(error) = self.write(&file, &group).await {
                self.fail("the journal can not be written", &error);
                return self.refuse_waiting();
            }
            for commit in group {
                commit.reply.send(());
            }
            self.runtime.pass().await;
        }
    }

    /// Answers what waits empty.
    fn refuse_waiting(&self) {
        drop(self.waiting.take());
    }

    /// The commits that go into the next write: as many as are wanted and have room.
    fn next_group(&self, room: u64) -> Vec<Commit> {
        let mut waiting = self.waiting.borrow_mut();
        let mut group: Vec<Commit> = Vec::new();
        let (mut size_bytes, mut entry_count) = (0, 0);
        while let Some(next) = waiting.front() {
            let with_next = size_bytes + next.size_bytes;
            let entries = entry_count + next.batches.len();
            let is_too_much = with_next > WRITE_BYTES_MAX || entries > WRITE_ENTRIES_MAX;
            if with_next > room || is_too_much && !group.is_empty() {
                break;
            }
            (size_bytes, entry_count) = (with_next, entries);
            group.extend(waiting.pop_front());
        }
        group
    }

    async fn write(&self, file: &Journaled, group: &[Commit]) -> io::Result<()> {
        let generation = file.generation.get();
        let (start, mut index) = (file.end.get(), file.entry_count.get());
        let mut parts = Vec::new();
        let mut position = start;
        if start == HEADER {
            position = 0;
            parts.push(header(generation));
        }
        let mut end = start;
        for commit in group {
            file.logs.borrow_mut().entry(commit.key).or_insert_with(|| commit.log.clone());
            for batch in &commit.batches {
                parts.push(EntryHeader::encode(generation, index, commit.key, &batch.parts));
                parts.extend(batch.parts.iter().cloned());
                index += 1;
            }
            end += commit.size_bytes;
        }
        file.file.write_at(position, &parts).await?;
        file.file.sync().await?;
        file.end.set(end);
        file.entry_count.set(index);
        Ok(())
    }

    /// The file to write to, with room for so much; `None` when there is none.
    async fn file_with_room(self: &Rc<Self>, wanted: u64) -> Option<Rc<Journaled>> {
        let Phase::Ready(current) = self.phase.get() else { return None };
        let file = |index: usize| self.files.borrow().get(index).cloned();
        let full = file(current)?;
        if full.end.get() + wanted <= self.file_bytes {
            return Some(full);
        }
        let next = (current + 1) % 2;
        self.let_go(full);
        let fresh = file(next)?;
        while fresh.state.get() == FileState::Syncing {
            self.changed.notified().await;
        }
        if fresh.state.get() != FileState::Free || self.phase.get() != Phase::Ready(current) {
            let error = io::Error::other("a log that it has batches of can not be synced");
            self.fail("the journal is full", &error);
            return None;
        }
        fresh.begin(self.take_generation());
        self.phase.set(Phase::Ready(next));
        Some(fresh)
    }

    /// Has the logs of a full file synced; then it may be written anew.
    fn let_go(self: &Rc<Self>, file: Rc<Journaled>) {
        file.state.set(FileState::Syncing);
        let this = self.clone();
        self.runtime.spawn("journal sync", async move {
            let all_synced = this.sync_logs(&file).await;
            file.state.set(if all_synced { FileState::Free } else { FileState::Kept });
            this.changed.notify();
        });
    }

    /// Syncs the logs that a file has batches of, some at once, and forgets them. `false` when that
    /// failed.
    async fn sync_logs(&self, file: &Journaled) -> bool {
        let logs: Vec<Log> = file.logs.borrow().values().cloned().collect();
        let count = logs.len();
        let sync = async |log: Log| match log.flush().await {
            Ok(_) => true,
            // Its topic was deleted.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let synced = self.runtime.for_each("journal sync", SYNCED_AT_ONCE, logs, sync).await;
        let all_synced = synced.len() == count && synced.into_iter().all(|is_synced| is_synced);
        if all_synced {
            file.logs.borrow_mut().clear();
        }
        all_synced
    }
}

impl Journaled {
    fn begin(&self, generation: u64) {
        self.generation.set(generation);
        self.end.set(HEADER);
        self.entry_count.set(0);
        self.state.set(FileState::Current);
    }
}
