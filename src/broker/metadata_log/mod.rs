//! The metadata log on disk: opened at the start, appended to by one task, kept small.
//!
//! [`MetadataLog::open`] locks the log directories, formats new ones, reads the log and takes the
//! lead over it. [`MetadataLog::append`] returns once its records are on disk and in the image.
//! One task owns the log, so appends go one at a time.
//!
//! Not here: what to append (`controller`), what the bytes mean (`kraft`, `metadata`).

mod directory;
mod files;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;

use crate::base::{NodeId, Offset, Uuid};
use crate::kraft::clean::{Retention, deletions};
use crate::kraft::control::VoterEndpoint;
use crate::kraft::format::{
    BOOTSTRAP_FILE, METADATA_DIRECTORY, bootstrap_records, feature_records, read_bootstrap,
};
use crate::kraft::{
    AppendError, Identity, Pending, QUORUM_STATE_FILE, QuorumState, SnapshotRules, Standalone,
    StartError,
};
use crate::metadata::{Delta, Image, Record};
use crate::runtime::{Lock, Runtime};

pub use directory::LogDirectory;
pub use files::SegmentRules;

use directory::Directories;
use files::LogFiles;

/// How the metadata log is opened.
#[derive(Clone, Debug)]
pub struct OpenMetadataLog {
    /// `log.dirs`: one at least.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, or the first of `log_dirs`.
    pub metadata_dir: PathBuf,
    /// `node.id`.
    pub node: NodeId,
    /// The cluster the directories must belong to; `None` takes what they say, or a new id.
    pub cluster: Option<String>,
    /// Where the controller is, or would be, reached (`controller.listener.names`): written to the
    /// voters of a new cluster.
    pub controller_endpoint: VoterEndpoint,
    /// `min.insync.replicas` of a new cluster.
    pub min_insync_replicas: i32,
    /// When segments are closed.
    pub segments: SegmentRules,
    /// When snapshots are taken.
    pub snapshots: SnapshotRules,
    /// What is kept.
    pub retention: Retention,
}

/// Why the metadata log can not be opened or written.
#[derive(Debug)]
pub enum MetadataLogError {
    /// The disk failed.
    Io {
        /// On this file or directory.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// There is no room on the disk for this file; nothing was written.
    Full(PathBuf),
    /// Another process uses the directory.
    InUse(PathBuf),
    /// The directory belongs to someone else, or is no log directory.
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A file is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        what: String,
    },
    /// This node can not lead the log alone.
    Start(StartError),
    /// The records were refused; nothing was written.
    Append(AppendError),
    /// An earlier write failed: what is on disk is not known. Only a restart helps.
    Failed,
}

impl MetadataLogError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path: path.clone(), error }
    }

    fn damaged(path: &Path, what: &dyn fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for MetadataLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Full(path) => write!(
                f,
                "no room on the disk for {}: free some, by retention or by another file",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "another process uses the log directory {}: stop it, or set log.dirs to another \
                 directory",
                path.display()
            ),
            Self::NotOurs { path, why } => {
                write!(f, "the log directory {} can not be used: {why}", path.display())
            }
            Self::Damaged { path, what } => write!(
                f,
                "{} can not be read: {what}. Restore it from a backup; if it is a snapshot with \
                 older ones beside it, move it away, and the older ones and the log are used",
                path.display()
            ),
            Self::Start(error) => error.fmt(f),
            Self::Append(error) => error.fmt(f),
            Self::Failed => f.write_str(
                "the metadata log failed earlier; mend the disk and start the broker again",
            ),
        }
    }
}

impl std::error::Error for MetadataLogError {}

/// Whether what is on disk is known.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Health {
    Good,
    Failed,
}

/// The metadata log of a quorum of one.
pub struct MetadataLog {
    runtime: Runtime,
    how: OpenMetadataLog,
    files: LogFiles,
    replica: Standalone,
    image: Arc<Image>,
    cluster: String,
    directories: Vec<LogDirectory>,
    health: Health,
    /// Held while the process uses the directories.
    _locks: Vec<Lock>,
}

impl MetadataLog {
    /// Opens the log and takes the lead over it in a new epoch. Formats new directories.
    pub async fn open(
        runtime: &Runtime,
        how: OpenMetadataLog,
    ) -> Result<(Self, Arc<Image>), MetadataLogError> {
        let directories = Directories::open(runtime, &how).await?;
        let path = how.metadata_dir.join(METADATA_DIRECTORY);
        let mut files = LogFiles::open(runtime.disk(), path).await?;
        check_present(runtime, &how, &files).await?;
        let (loaded, new_bytes) = files.load().await?;
        let recorded = match files.read_file(QUORUM_STATE_FILE).await? {
            Some(text) => Some(QuorumState::parse(&text).map_err(|error| {
                MetadataLogError::damaged(&files.path().join(QUORUM_STATE_FILE), &error)
            })?),
            None => None,
        };
        let bootstrap = bootstrap(runtime, &how).await?;
        let identity = Identity {
            node: how.node,
            directory: directories.metadata,
            endpoint: how.controller_endpoint.clone(),
        };
        let now = runtime.wall_clock();
        if loaded.end() > files.end_of_segments() {
            files.restart_at(loaded.end(), now).await?;
        }
        let (mut replica, state, pending) =
            Standalone::start(identity, loaded, recorded, &bootstrap, now)
                .map_err(MetadataLogError::Start)?;
        replica.count_bytes(new_bytes);
        files.write_file(QUORUM_STATE_FILE, &state.to_text()).await?;
        files.add_epoch(state.epoch, pending.base).await?;
        let mut log = Self {
            runtime: runtime.clone(),
            image: Arc::new(replica.image().clone()),
            how,
            files,
            replica,
            cluster: directories.cluster,
            directories: directories.all,
            health: Health::Good,
            _locks: directories.locks,
        };
        log.write(pending).await?;
        info!(
            cluster = %log.cluster,
            epoch = %log.replica.epoch(),
            offset = %log.replica.high_watermark(),
            topics = log.image.topic_count(),
            "metadata log open"
        );
        let image = log.image.clone();
        Ok((log, image))
    }

    /// Appends records. Returns once they are on disk, with the image that has them and what they
    /// changed. They take effect together or not at all.
    pub async fn append(
        &mut self,
        records: Vec<Record>,
    ) -> Result<(Arc<Image>, Delta), MetadataLogError> {
        if self.health == Health::Failed {
            return Err(MetadataLogError::Failed);
        }
        let now = self.runtime.wall_clock();
        let pending = self.replica.append(records, now).map_err(MetadataLogError::Append)?;
        let delta = self.write(pending).await?;
        Ok((self.image.clone(), delta))
    }

    async fn write(&mut self, pending: Pending) -> Result<Delta, MetadataLogError> {
        let now = self.runtime.wall_clock();
        // Failed until proven good: this future may also be dropped in the middle.
        self.health = Health::Failed;
        let (base, bytes) = (pending.base, pending.bytes.clone());
        let appended = self.files.append(base, bytes, now, self.how.segments).await;
        if matches!(appended, Ok(()) | Err(MetadataLogError::Full(_))) {
            self.health = Health::Good;
        }
        appended?;
        let delta = self.replica.commit(pending);
        self.image = Arc::new(self.replica.image().clone());
        Ok(delta)
    }

    /// Takes a snapshot if one is due, and deletes what is no longer kept. Call it after appends,
    /// and once in a while (every minute, say).
    pub async fn maintain(&mut self) -> Result<(), MetadataLogError> {
        let now = self.runtime.wall_clock();
        if self.health == Health::Failed || !self.replica.is_snapshot_due(self.how.snapshots, now) {
            return Ok(());
        }
        self.snapshot().await?;
        let (snapshots, segments) = self.files.listing();
        let old = deletions(snapshots, segments, self.how.retention, now);
        self.files.delete(&old).await
    }

    /// Takes a snapshot now.
    pub async fn snapshot(&mut self) -> Result<(), MetadataLogError> {
        let now = self.runtime.wall_clock();
        let (id, bytes) = self.replica.snapshot(now);
        self.files.write_snapshot(id, &bytes, now).await?;
        self.replica.snapshot_taken(id, now);
        info!(snapshot = %id, size_bytes = bytes.len(), "metadata snapshot written");
        Ok(())
    }

    /// The cluster's state by all that is on disk.
    pub fn image(&self) -> Arc<Image> {
        self.image.clone()
    }

    /// The offset the next record will get.
    pub fn next_offset(&self) -> Offset {
        self.replica.high_watermark()
    }

    /// Id of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The log directories (`log.dirs`) with their ids, in the order of the setting.
    pub fn directories(&self) -> &[LogDirectory] {
        &self.directories
    }

    /// Id of the directory that holds the metadata log.
    pub fn metadata_directory(&self) -> Uuid {
        self.replica.identity().directory
    }

    /// The replica: epoch, voters, snapshots, for `DescribeQuorum` and the like.
    pub fn replica(&self) -> &Standalone {
        &self.replica
    }
}

/// Refuses partitions without a metadata log: started on it, they would all be strays.
async fn check_present(
    runtime: &Runtime,
    how: &OpenMetadataLog,
    files: &LogFiles,
) -> Result<(), MetadataLogError> {
    if !files.is_empty() {
        return Ok(());
    }
    for path in &how.log_dirs {
        let entries = runtime.disk().list(path).await.map_err(MetadataLogError::io(path))?;
        let partition = |name: &str| {
            name != METADATA_DIRECTORY
                && name.rsplit_once('-').is_some_and(|(_, number)| number.parse::<u32>().is_ok())
        };
        if let Some(entry) = entries.iter().find(|e| e.is_directory && partition(&e.name)) {
            return Err(MetadataLogError::NotOurs {
                path: path.clone(),
                why: format!(
                    "it holds the partition {}, but {} has no metadata log: it belongs to a broker \
                     whose controllers run elsewhere, or {METADATA_DIRECTORY} was lost",
                    entry.name,
                    how.metadata_dir.display()
                ),
            });
        }
    }
    Ok(())
}

/// The records a cluster begins with: those of `bootstrap.checkpoint`, or those of a new cluster.
async fn bootstrap(
    runtime: &Runtime,
    how: &OpenMetadataLog,
) -> Result<Vec<Record>, MetadataLogError> {
    let path = how.metadata_dir.join(BOOTSTRAP_FILE);
    let features = match runtime.disk().read(&path).await {
        Ok(bytes) => {
            let records = read_bootstrap(&bytes);
            records.map_err(|error| MetadataLogError::damaged(&path, &error))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => feature_records(),
        Err(error) => return Err(MetadataLogError::io(&path)(error)),
    };
    Ok(bootstrap_records(features, &how.min_insync_replicas.to_string()))
}
