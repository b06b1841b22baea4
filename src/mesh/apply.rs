//! What a core does when it begins, when the metadata changes, and when it ends.
//!
//! Deletions come first: a topic may be deleted and created again, under its old name, in one
//! change.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Offset, PartitionKey, Uuid};
use crate::log::OpenError;
use crate::log::journal::Entry;
use crate::log::names::{deleted_directory_name, directory_name, stray_directory_name};
use crate::log::partition_metadata;
use crate::mesh::message::{Answer, CheckpointLine, StartUp};
use crate::mesh::shard::{PartitionSlot, Shard};
use crate::metadata::{Delta, Image, ResourceKind, Topic};
use crate::partition::{Leadership, OpenPartition, Partition};
use crate::runtime::is_no_room;

/// Partitions that are opened at the same time: as many as a core has threads for the disk.
const OPENED_AT_ONCE: usize = 4;

/// Partitions that are closed at the same time: their syncs share commits of the file system.
const CLOSED_AT_ONCE: usize = 32;

/// Where a partition's log stood, by the checkpoint files.
#[derive(Clone, Copy, Default)]
struct Known {
    recovery_point: Offset,
    log_start: Offset,
    high_watermark: Offset,
    clean: bool,
}

/// How often it is tried to open a log for which there was no room.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why a partition's log was not opened.
enum NotOpened {
    /// The disk is full.
    NoRoom,
    /// For this reason, which does not pass by itself.
    For(String),
}

impl From<OpenError> for NotOpened {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) if is_no_room(&error) => Self::NoRoom,
            OpenError::Io(_) | OpenError::Damaged { .. } => Self::For(error.to_string()),
        }
    }
}

impl From<partition_metadata::Mismatch> for NotOpened {
    fn from(mismatch: partition_metadata::Mismatch) -> Self {
        match mismatch {
            partition_metadata::Mismatch::Io(error) => Self::from(OpenError::Io(error)),
            other => Self::For(other.to_string()),
        }
    }
}

impl Shard {
    /// Opens the partitions this core owns. After a clean stop they are open when this returns;
    /// after a crash they are checked in the background, and what is appended to them waits.
    pub(super) async fn begin(self: &Rc<Self>, start: &Arc<StartUp>) {
        self.set_image(start.image.clone());
        self.set_cluster_id(&start.cluster_id);
        *self.start_up().borrow_mut() = Some(start.clone());
        self.begin_journal(start.journals.next_generation());
        let mine = self.owned(&start.image);
        for (key, _) in &mine {
            self.put_partition(*key, PartitionSlot::Opening);
        }
        if start.clean {
            self.open_all(start, mine).await;
        } else {
            let (shard, start) = (self.clone(), start.clone());
            self.runtime.spawn("recovery", async move { shard.open_all(&start, mine).await });
        }
    }

    fn owned(&self, image: &Image) -> Vec<(PartitionKey, Arc<Topic>)> {
        let mut mine = Vec::new();
        for topic in image.topics() {
            for partition in topic.partitions.keys() {
                let key = PartitionKey { topic: topic.id, partition: *partition };
                if self.owner(key) == self.id() {
                    mine.push((key, topic.clone()));
                }
            }
        }
        mine
    }

    async fn open_all(self: &Rc<Self>, start: &StartUp, mine: Vec<(PartitionKey, Arc<Topic>)>) {
        let known = mine.into_iter().map(|(key, topic)| {
            let place = (topic.name.to_string(), key.partition);
            let find = |file: &std::collections::BTreeMap<(String, i32), Offset>| {
                file.get(&place).copied().unwrap_or_default()
            };
            let known = Known {
                recovery_point: find(&start.checkpoints.recovery_points),
                log_start: find(&start.checkpoints.log_starts),
                high_watermark: find(&start.checkpoints.high_watermarks),
                clean: start.clean,
            };
            (key, topic, known)
        });
        self.open_some_at_once(known.collect()).await;
    }

    /// Opens partitions, in their order but several at once: most of it is waiting for the disk.
    async fn open_some_at_once(
        self: &Rc<Self>,
        partitions: VecDeque<(PartitionKey, Arc<Topic>, Known)>,
    ) {
        let shard = self.clone();
        let open = move |(key, topic, known): (PartitionKey, Arc<Topic>, Known)| {
            let shard = shard.clone();
            async move { shard.open(key, &topic, known).await }
        };
        self.runtime.for_each("opening partitions", OPENED_AT_ONCE, partitions, open).await;
    }

    fn directory(&self, topic: &str, partition: i32) -> PathBuf {
        self.config().log_dir.join(directory_name(topic, partition))
    }

    async fn open(self: &Rc<Self>, key: PartitionKey, topic: &Topic, known: Known) {
        match self.try_open(key, topic, known).await {
            Ok(partition) => self.put_partition(key, PartitionSlot::Open(partition)),
            Err(NotOpened::NoRoom) => {
                tracing::error!(topic = %topic.name, partition = key.partition,
                    "there is no room to open the partition's log: make some; it is tried again \
                     every second");
                self.put_partition(key, PartitionSlot::Failed);
                let shard = self.clone();
                self.runtime.spawn("waiting for room", async move {
                    shard.open_when_there_is_room(key, known).await;
                });
            }
            Err(NotOpened::For(reason)) => self.stays_offline(key, topic, &reason),
        }
    }

    fn stays_offline(self: &Rc<Self>, key: PartitionKey, topic: &Topic, reason: &str) {
        tracing::error!(topic = %topic.name, partition = key.partition, error = reason,
            "the partition's log can not be opened, it stays offline");
        self.put_partition(key, PartitionSlot::Failed);
    }

    async fn open_when_there_is_room(self: &Rc<Self>, key: PartitionKey, known: Known) {
        loop {
            self.runtime.sleep(ROOM_CHECK_INTERVAL).await;
            let topic = self.image().topic(key.topic).cloned();
            let (Some(topic), Some(PartitionSlot::Failed)) = (topic, self.slot(key)) else {
                return;
            };
            // A deletion of its topic waits for the attempt.
            self.put_partition(key, PartitionSlot::Opening);
            match self.try_open(key, &topic, known).await {
                Ok(partition) => {
                    tracing::info!(topic = %topic.name, partition = key.partition,
                        "the partition's log is open: there is room again");
                    return self.put_partition(key, PartitionSlot::Open(partition));
                }
                Err(NotOpened::NoRoom) => self.put_partition(key, PartitionSlot::Failed),
                Err(NotOpened::For(reason)) => return self.stays_offline(key, &topic, &reason),
            }
        }
    }

    async fn try_open(
        self: &Rc<Self>,
        key: PartitionKey,
        topic: &Topic,
        known: Known,
    ) -> Result<Partition, NotOpened> {
        let directory = self.directory(&topic.name, key.partition);
        let disk = self.runtime.disk();
        let mut checked = partition_metadata::check_or_write(&disk, &directory, key.topic).await;
        if let Err(partition_metadata::Mismatch::OtherTopic { found, .. }) = checked
            && self.image().topic(found).is_none()
        {
            self.set_aside(&directory, topic, key.partition, found).await.map_err(OpenError::Io)?;
            checked = partition_metadata::check_or_write(&disk, &directory, key.topic).await;
        }
        checked?;
        let state = topic.partitions.get(&key.partition);
        let state = state.ok_or_else(|| NotOpened::For("it is not in the metadata".to_owned()))?;
        let open = OpenPartition {
            key,
            topic: Rc::from(&*topic.name),
            directory,
            settings: self.topic_settings(topic).partition.clone(),
            leadership: self.leadership(state),
            recovery_point: known.recovery_point,
            log_start: known.log_start,
            high_watermark: known.high_watermark,
            clean: known.clean,
            journaled: self.journaled(key, known),
            journal: self.journal(),
        };
        let (partition, opened) = Partition::open(&self.runtime, open).await?;
        let end = partition.log().end();
        if opened.truncated_bytes > 0 {
            // A write that a crash cut short, or damage: nobody can tell.
            tracing::warn!(topic = %topic.name, partition = key.partition, %end,
                truncated_bytes = opened.truncated_bytes,
                "bytes that are no intact batches were cut off the log");
        }
        let known_end = known.recovery_point.max(known.high_watermark);
        if end < known_end {
            tracing::warn!(topic = %topic.name, partition = key.partition, %end,
                expected = %known_end,
                "the log ends before its checkpoints: records that were there are missing");
        }
        if opened.scanned_bytes > 0 {
            tracing::info!(topic = %topic.name, partition = key.partition,
                scanned_bytes = opened.scanned_bytes, truncated_bytes = opened.truncated_bytes,
                %end, "log checked");
        }
        Ok(partition)
    }

    /// Makes room for a partition where the directory of a deleted topic of its name still is: it
    /// is renamed, never removed (`LogManager.isStrayKraftReplica`).
    async fn set_aside(
        &self,
        directory: &Path,
        topic: &Topic,
        partition: i32,
        found: Uuid,
    ) -> io::Result<()> {
        let name = stray_directory_name(&topic.name, partition, self.runtime.random_uuid());
        let stray = self.config().log_dir.join(name);
        tracing::warn!(directory = %directory.display(), topic_id = %found, to = %stray.display(),
            "the directory is of a topic of this name that was deleted, it is set aside: remove it \
             when it is not needed");
        self.runtime.disk().rename(directory, &stray).await
    }

    /// What the journals have of a partition that was not closed.
    fn journaled(&self, key: PartitionKey, known: Known) -> Vec<Entry> {
        match &*self.start_up().borrow() {
            Some(start) if !known.clean => start.journals.entries(key).to_vec(),
            _ => Vec::new(),
        }
    }

    /// Waits until no log is being opened any more. Whether all are open: then everything that the
    /// journals of earlier processes had is in the logs, and synced.
    pub(super) async fn recovered(&self) -> bool {
        for key in self.unopened() {
            self.opened(key).await;
        }
        !self.has_unopened()
    }

    fn leadership(&self, state: &crate::metadata::Partition) -> Leadership {
        Leadership {
            node: self.config().node_id,
            epoch: state.leader_epoch,
            replicas: state.replicas.clone(),
            in_sync: state.isr.clone(),
        }
    }

    /// Acts on a change of the metadata.
    pub(super) async fn apply(self: &Rc<Self>, image: Arc<Image>, delta: &Delta) {
        self.set_image(image.clone());
        for topic in delta.topics_deleted.values() {
            for partition in topic.partitions.keys() {
                let key = PartitionKey { topic: topic.id, partition: *partition };
                if self.owner(key) == self.id() {
                    self.delete_once_open(key, topic).await;
                }
            }
        }
        let (mut new, mut later) = (VecDeque::new(), VecDeque::new());
        for key in &delta.partitions_changed {
            if self.owner(*key) != self.id() {
                continue;
            }
            let Some(topic) = image.topic(key.topic) else { continue };
            if self.slot(*key).is_none() {
                let known = Known { clean: true, ..Known::default() };
                self.put_partition(*key, PartitionSlot::Opening);
                let is_taken = self.is_taken(&self.directory(&topic.name, key.partition), *key);
                let these = if is_taken { &mut later } else { &mut new };
                these.push_back((*key, topic.clone(), known));
            } else if let (Some(partition), Some(state)) =
                (self.partition(*key), topic.partitions.get(&key.partition))
            {
                partition.lead(self.leadership(state)).await;
            }
        }
        self.open_some_at_once(new).await;
        self.apply_settings(&image, delta);
        if !later.is_empty() {
            let shard = self.clone();
            self.runtime.spawn("opening partitions", async move {
                for (key, topic, _) in &later {
                    shard.until_free(&shard.directory(&topic.name, key.partition), *key).await;
                }
                // Some may be deleted by now.
                later.retain(|(key, ..)| shard.slot(*key).is_some());
                shard.open_some_at_once(later).await;
            });
        }
    }

    /// Deletes a topic's partition; in the background if its log is still being checked, which may
    /// take minutes after a crash: nothing else waits for it but a topic of the same name.
    async fn delete_once_open(self: &Rc<Self>, key: PartitionKey, topic: &Arc<Topic>) {
        if !matches!(self.slot(key), Some(PartitionSlot::Opening)) {
            return self.delete(key, topic).await;
        }
        let directory = self.directory(&topic.name, key.partition);
        if self.is_taken(&directory, key) {
            // Nothing was made of it yet.
            self.remove_partition(key);
            return;
        }
        self.begin_leaving(directory.clone(), key);
        let (shard, topic) = (self.clone(), topic.clone());
        self.runtime.spawn("topic removal", async move {
            shard.opened(key).await;
            shard.delete(key, &topic).await;
            shard.end_leaving(&directory);
        });
    }

    fn apply_settings(self: &Rc<Self>, image: &Image, delta: &Delta) {
        let broker = delta.configs_changed.iter().any(|r| r.kind == ResourceKind::Broker);
        let topics: BTreeSet<&str> = delta
            .configs_changed
            .iter()
            .filter(|resource| resource.kind == ResourceKind::Topic)
            .map(|resource| resource.name.as_str())
            .collect();
        if !broker && topics.is_empty() {
            return;
        }
        for partition in self.partitions() {
            if !broker && !topics.contains(&**partition.topic()) {
                continue;
            }
            if let Some(topic) = image.topic(partition.key().topic) {
                partition.set_settings(self.topic_settings(topic).partition.clone());
            }
        }
    }

    /// Takes a deleted topic's partition out of service: its directory is renamed at once, and
    /// removed after `file.delete.delay.ms`.
    async fn delete(self: &Rc<Self>, key: PartitionKey, topic: &Topic) {
        let removed = self.remove_partition(key);
        self.checkpoints_stale.set(true);
        let mut delay = Duration::ZERO;
        if let Some(PartitionSlot::Open(partition)) = removed {
            delay = Duration::from_millis(partition.log().config().file_delete_delay_ms);
            partition.stop().await;
            partition.log().abandon().await;
        }
        let from = self.directory(&topic.name, key.partition);
        let unique = self.runtime.random_uuid();
        let name = deleted_directory_name(&topic.name, key.partition, unique);
        let to = self.config().log_dir.join(name);
        let disk = self.runtime.disk();
        if let Err(error) = disk.rename(&from, &to).await {
            tracing::error!(directory = %from.display(), %error,
                "a deleted topic's directory can not be renamed");
            return;
        }
        let runtime = self.runtime.clone();
        self.runtime.spawn("topic removal", async move {
            runtime.sleep(delay).await;
            let removed = runtime.remove_in_background(disk.remove_directory(&to)).await;
            if let Err(error) = removed {
                tracing::error!(directory = %to.display(), %error,
                    "a deleted topic's directory can not be removed");
            }
        });
    }

    /// What the checkpoint files should say of this core's partitions, which are synced first where
    /// `flush` asks for it.
    pub(super) async fn checkpoints(self: &Rc<Self>, flush: bool) -> Vec<CheckpointLine> {
        if flush {
            for partition in self.partitions() {
                if partition.unsynced_bytes() > 0
                    && let Err(error) = partition.flush().await
                {
                    tracing::error!(topic = %partition.topic(), %error, "sync failed");
                }
            }
        }
        let mut lines: Vec<CheckpointLine> = self.partitions().iter().map(line).collect();
        lines.extend(self.unopened().into_iter().filter_map(|key| self.line_of_unopened(key)));
        lines
    }

    /// What the checkpoint files said of a partition when the process began: of one whose log is
    /// not open nothing else is known, and it must not be forgotten.
    fn line_of_unopened(&self, key: PartitionKey) -> Option<CheckpointLine> {
        let start = self.start_up().borrow().clone()?;
        let topic = start.image.topic(key.topic)?;
        let place = (topic.name.to_string(), key.partition);
        let known = &start.checkpoints;
        Some(CheckpointLine {
            topic: Arc::from(&*topic.name),
            topic_id: key.topic,
            partition: key.partition,
            recovery_point: known.recovery_points.get(&place).copied()?,
            high_watermark: known.high_watermarks.get(&place).copied().unwrap_or_default(),
            log_start: known.log_starts.get(&place).copied(),
        })
    }

    /// Closes all partitions.
    pub(super) async fn close_partitions(self: &Rc<Self>) -> Answer {
        let keys: Vec<PartitionKey> = self.partitions().iter().map(Partition::key).collect();
        let count = keys.len();
        let shard = self.clone();
        let close = move |key| {
            let shard = shard.clone();
            async move {
                let Some(PartitionSlot::Open(partition)) = shard.remove_partition(key) else {
                    return None;
                };
                let closed = partition.close().await;
                if let Err(error) = &closed {
                    tracing::error!(topic = %partition.topic(), %error, "the log was not closed");
                }
                Some((line(&partition), closed.is_ok() && !partition.is_failed()))
            }
        };
        let closed = self.runtime.for_each("closing partitions", CLOSED_AT_ONCE, keys, close).await;
        // One whose closing panicked has no output.
        let mut clean = closed.len() == count;
        let (lines, cleanly): (Vec<CheckpointLine>, Vec<bool>) =
            closed.into_iter().flatten().unzip();
        clean &= cleanly.into_iter().all(|is_clean| is_clean);
        // A log that is still being checked is not closed: the next start checks it again.
        clean &= !self.has_unopened();
        if let Some(journal) = self.journal().filter(|_| clean)
            && let Err(error) = journal.close().await
        {
            // After a clean stop nobody reads it; the next start removes it.
            tracing::warn!(%error, "the journal can not be removed");
        }
        Answer::Closed { lines, clean }
    }
}

fn line(partition: &Partition) -> CheckpointLine {
    let log = partition.log();
    let log_start = log.start();
    CheckpointLine {
        topic: Arc::from(&**partition.topic()),
        topic_id: partition.key().topic,
        partition: partition.key().partition,
        recovery_point: log.recovery_point(),
        high_watermark: partition.high_watermark(),
        log_start: (log_start > log.first_segment_base()).then_some(log_start),
    }
}
