//! Whose the log directories are: locks, `meta.properties`, formatting at the first start.

use std::path::{Path, PathBuf};

use crate::base::{NodeId, Uuid};
use crate::kraft::format::{
    BOOTSTRAP_FILE, META_PROPERTIES_FILE, METADATA_DIRECTORY, MetaProperties, bootstrap_file,
    voters_file,
};
use crate::kraft::{Identity, SnapshotId};
use crate::runtime::{Disk, Lock, Runtime};

use super::{MetadataLogError, OpenMetadataLog};

/// Name of the file whose lock says that a process uses the directory.
const LOCK_FILE: &str = ".lock";

/// A log directory of this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// Its id, from its `meta.properties`.
    pub id: Uuid,
}

/// The log directories, locked and formatted.
pub(super) struct Directories {
    pub(super) cluster: String,
    pub(super) all: Vec<LogDirectory>,
    /// Id of the directory that holds the metadata log.
    pub(super) metadata: Uuid,
    pub(super) locks: Vec<Lock>,
}

impl Directories {
    /// Locks all directories, checks whose they are, and formats those that are new.
    pub(super) async fn open(
        runtime: &Runtime,
        how: &OpenMetadataLog,
    ) -> Result<Self, MetadataLogError> {
        let disk = runtime.disk();
        let mut paths = how.log_dirs.clone();
        if !paths.contains(&how.metadata_dir) {
            paths.push(how.metadata_dir.clone());
        }
        let mut locks = Vec::new();
        let mut found = Vec::new();
        for path in &paths {
            locks.push(lock(&disk, path).await?);
            found.push(read_meta(&disk, path).await?);
        }
        let cluster = check(how, &paths, &found)?;
        let is_new = found.iter().all(Option::is_none);
        let metadata_meta = paths.iter().zip(&found).find(|(path, _)| **path == how.metadata_dir);
        if !is_new && metadata_meta.is_some_and(|(_, meta)| meta.is_none()) {
            return Err(MetadataLogError::NotOurs {
                path: how.metadata_dir.clone(),
                why: "the other log directories are in use already, but the metadata log is not \
                      here; set metadata.log.dir to where it is (by default the first of log.dirs)"
                    .to_owned(),
            });
        }
        let cluster = cluster.unwrap_or_else(|| runtime.random_uuid().to_string());
        let mut all = Vec::new();
        for (path, meta) in paths.iter().zip(found) {
            let id = match meta.and_then(|meta| meta.directory) {
                Some(id) => id,
                None => {
                    let id = runtime.random_uuid();
                    if is_new && *path == how.metadata_dir {
                        // Before its own meta.properties: a crash in between formats it again.
                        format_metadata_log(runtime, how, id).await?;
                    }
                    sync_ancestors(&disk, path).await?;
                    write_meta(&disk, path, &cluster, how.node, id).await?;
                    id
                }
            };
            all.push(LogDirectory { path: path.clone(), id });
        }
        let metadata = all
            .iter()
            .find(|directory| directory.path == how.metadata_dir)
            .map_or(all[0].id, |directory| directory.id);
        all.retain(|directory| how.log_dirs.contains(&directory.path));
        Ok(Self { cluster, all, metadata, locks })
    }
}

async fn lock(disk: &Disk, path: &Path) -> Result<Lock, MetadataLogError> {
    let io = |path: &Path| MetadataLogError::io(path);
    disk.create_directories(path).await.map_err(io(path))?;
    let file = path.join(LOCK_FILE);
    disk.lock(&file).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::WouldBlock {
            MetadataLogError::InUse(path.to_owned())
        } else {
            MetadataLogError::io(&file)(error)
        }
    })
}

/// The directory's `meta.properties`; `None` when it is new.
async fn read_meta(disk: &Disk, path: &Path) -> Result<Option<MetaProperties>, MetadataLogError> {
    let file = path.join(META_PROPERTIES_FILE);
    match disk.read(&file).await {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let meta = MetaProperties::parse(&text);
            meta.map(Some).map_err(|error| MetadataLogError::damaged(&file, &error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Without a meta.properties: it was lost, or the directory is something else.
            let entries = disk.list(path).await.map_err(MetadataLogError::io(path))?;
            let foreign = entries.iter().find(|entry| {
                entry.is_directory && entry.name != "lost+found" && entry.name != METADATA_DIRECTORY
            });
            match foreign {
                Some(entry) => Err(MetadataLogError::NotOurs {
                    path: path.to_owned(),
                    why: format!(
                        "it has no {META_PROPERTIES_FILE}, but a directory \"{}\"; set log.dirs to \
                         an empty directory, or put its {META_PROPERTIES_FILE} back",
                        entry.name
                    ),
                }),
                None => Ok(None),
            }
        }
        Err(error) => Err(MetadataLogError::io(&file)(error)),
    }
}

/// The id of the cluster the directories belong to; `None` when all are new and none is asked for.
fn check(
    how: &OpenMetadataLog,
    paths: &[PathBuf],
    found: &[Option<MetaProperties>],
) -> Result<Option<String>, MetadataLogError> {
    let mut cluster = how.cluster.clone();
    for (path, meta) in paths.iter().zip(found) {
        let Some(meta) = meta else { continue };
        let not_ours = |why| MetadataLogError::NotOurs { path: path.clone(), why };
        if meta.node != how.node {
            return Err(not_ours(format!(
                "it belongs to node.id {}, and this is node.id {}; set node.id={} or use another \
                 directory",
                meta.node, how.node, meta.node
            )));
        }
        match &cluster {
            Some(expected) if *expected != meta.cluster => {
                return Err(not_ours(format!(
                    "it belongs to the cluster {}, not to {expected}; use another directory",
                    meta.cluster
                )));
            }
            _ => cluster = Some(meta.cluster.clone()),
        }
    }
    Ok(cluster)
}

/// Makes the names that lead to a new directory durable: it may have been made with its parents.
async fn sync_ancestors(disk: &Disk, path: &Path) -> Result<(), MetadataLogError> {
    for ancestor in path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
        match disk.sync_directory(ancestor).await {
            Ok(()) => {}
            // One that may not be read was there before: its maker could read it.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(MetadataLogError::io(ancestor)(error)),
        }
    }
    Ok(())
}

async fn write_meta(
    disk: &Disk,
    path: &Path,
    cluster: &str,
    node: NodeId,
    id: Uuid,
) -> Result<(), MetadataLogError> {
    let file = path.join(META_PROPERTIES_FILE);
    let meta = MetaProperties { cluster: cluster.to_owned(), node, directory: Some(id) };
    let written = disk.write_atomically(&file, meta.to_text().as_bytes()).await;
    written.map_err(MetadataLogError::io(&file))
}

async fn format_metadata_log(
    runtime: &Runtime,
    how: &OpenMetadataLog,
    directory: Uuid,
) -> Result<(), MetadataLogError> {
    let (disk, now) = (runtime.disk(), runtime.wall_clock());
    let partition = how.metadata_dir.join(METADATA_DIRECTORY);
    disk.create_directories(&partition).await.map_err(MetadataLogError::io(&partition))?;
    let identity =
        Identity { node: how.node, directory, endpoint: how.controller_endpoint.clone() };
    let topic = Uuid::METADATA_TOPIC;
    let files = [
        (how.metadata_dir.join(BOOTSTRAP_FILE), bootstrap_file(now)),
        (partition.join(SnapshotId::FORMATTED.to_string()), voters_file(&identity, now)),
        (
            partition.join("partition.metadata"),
            format!("version: 0\ntopic_id: {topic}").into_bytes().into(),
        ),
    ];
    for (file, bytes) in files {
        let written = disk.write_atomically(&file, &bytes).await;
        written.map_err(MetadataLogError::io(&file))?;
    }
    Ok(())
}
