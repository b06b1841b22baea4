//! How core 0 brings the broker up, and keeps it until it is told to end.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ShardId;
use crate::broker::metadata_log::{MetadataLog, OpenMetadataLog, SegmentRules};
use crate::broker::{Failure, controller, listen, stop};
use crate::config::BrokerConfig;
use crate::controller::{Registration, registration_records};
use crate::kraft::SnapshotRules;
use crate::kraft::clean::Retention;
use crate::kraft::control::VoterEndpoint;
use crate::log::journal::Found;
use crate::log::{checkpoint, clean_shutdown, names};
use crate::mesh::{Answer, Ask, Checkpoints, Shard, StartUp};
use crate::metadata::Image;
use crate::metadata::record::Endpoint as RecordEndpoint;
use crate::runtime::Disk;

/// Runs the broker: from taking the directory's lock to leaving it cleanly behind.
pub(super) async fn run(shard: &Rc<Shard>) -> Result<(), Failure> {
    let began = shard.runtime.now();
    let config = shard.config();
    let directory = config.log_dir.clone();
    let disk = shard.runtime.disk();
    listen::check_unused(shard).await?;
    let opened = MetadataLog::open(&shard.runtime, how(&config)).await;
    let (mut metadata, image) = opened.map_err(|error| Failure(error.to_string()))?;
    let is_new = image.topic_count() == 0;
    let was_clean = take_clean_shutdown(&disk, &directory).await? || is_new;
    let checkpoints = read_checkpoints(&disk, &directory, &image).await?;
    let journals = find_journals(shard, &directory, was_clean).await?;
    sort_directories(shard, &directory, &image).await?;
    let registration = registration(shard, &config, &metadata);
    let records = registration_records(&image, metadata.next_offset(), &registration);
    let (image, _) = metadata.append(records).await.map_err(|error| Failure(error.to_string()))?;
    let start = Arc::new(StartUp {
        image: image.clone(),
        cluster_id: metadata.cluster().to_owned(),
        checkpoints,
        clean: was_clean,
        journals,
    });
    for begun in shard.ask_all(|| Ask::Start(start.clone())).await {
        begun.await;
    }
    for listening in shard.ask_all(|| Ask::Listen).await {
        listening.await;
    }
    controller::spawn(shard, metadata, image);
    remove_journals_later(shard, start);
    let took_us = shard.runtime.now().since(began).as_micros() as u64;
    let cores = shard.runtime.shard_count();
    tracing::info!(node = config.node_id.0, cores, took_us, clean = was_clean,
        directory = %directory.display(), "started");
    shard.runtime.terminated().await;
    stop::stop(shard).await
}

/// The name of the listener of a controller, where Apache Kafka's examples have it.
const CONTROLLER_LISTENER: &str = "CONTROLLER";

/// Where this node's controller would listen: no other node talks to a quorum of one, but a voter
/// has an address.
fn controller_address(config: &BrokerConfig) -> (String, u16) {
    let first = config.advertised.first().or(config.listeners.first());
    let host = first.and_then(|endpoint| endpoint.host.clone());
    let port = first.map_or(9093, |endpoint| endpoint.port.wrapping_add(1));
    (host.unwrap_or_else(|| "localhost".to_owned()), port)
}

fn how(config: &BrokerConfig) -> OpenMetadataLog {
    let (host, port) = controller_address(config);
    OpenMetadataLog {
        log_dirs: vec![config.log_dir.clone()],
        metadata_dir: config.metadata_log_dir.clone(),
        node: config.node_id,
        cluster: None,
        controller_endpoint: VoterEndpoint { name: CONTROLLER_LISTENER.to_owned(), host, port },
        min_insync_replicas: 1,
        segments: SegmentRules::default(),
        snapshots: SnapshotRules {
            new_bytes_max: config.metadata_bytes_between_snapshots,
            interval: config.metadata_snapshot_interval.unwrap_or(Duration::MAX),
        },
        retention: Retention::default(),
    }
}

fn registration(shard: &Shard, config: &BrokerConfig, metadata: &MetadataLog) -> Registration {
    let (host, port) = controller_address(config);
    let endpoint = |name: &str, host: String, port| RecordEndpoint {
        name: name.to_owned(),
        host,
        port,
        security_protocol: 0,
    };
    let advertised = config.advertised.iter().map(|known| {
        let host = known.host.clone().unwrap_or_else(|| "localhost".to_owned());
        endpoint(&known.name, host, known.port)
    });
    Registration {
        node: config.node_id,
        incarnation: shard.runtime.random_uuid(),
        endpoints: advertised.collect(),
        controller_endpoint: endpoint(CONTROLLER_LISTENER, host, port),
        rack: config.rack.clone(),
        log_dirs: metadata.directories().iter().map(|directory| directory.id).collect(),
    }
}

/// Whether the last process ended cleanly. The marker is removed: a crash while loading counts as
/// unclean.
async fn take_clean_shutdown(disk: &Disk, directory: &Path) -> Result<bool, Failure> {
    let path = directory.join(clean_shutdown::FILE_NAME);
    match disk.remove_file(&path).await {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(Failure(format!("{} can not be removed ({error})", path.display())));
        }
    }
    disk.sync_directory(directory)
        .await
        .map_err(|error| Failure(format!("{} can not be synced ({error})", directory.display())))?;
    Ok(true)
}

/// What the journals of the last process have. After a clean stop nothing of it is needed.
async fn find_journals(shard: &Shard, directory: &Path, clean: bool) -> Result<Found, Failure> {
    let failed = |error: std::io::Error| {
        let directory = directory.display();
        Failure(format!(
            "the journals in {directory} (corelog-journal-*) can not be read ({error}); mend the \
             disk, or move them away and with them what a crash of the machine left only there"
        ))
    };
    let found = Found::find(&shard.runtime, directory).await.map_err(failed)?;
    if !clean {
        return Ok(found);
    }
    found.remove(&shard.runtime.disk()).await.map_err(failed)?;
    Ok(Found::default())
}

/// Removes the journals of earlier processes once every log is open and synced.
fn remove_journals_later(shard: &Rc<Shard>, start: Arc<StartUp>) {
    if start.journals.is_empty() {
        return;
    }
    let shard = shard.clone();
    let runtime = shard.runtime.clone();
    runtime.spawn("old journals", async move {
        for core in 0..shard.runtime.shard_count() {
            match shard.ask_surely(ShardId(core), Ask::Recovered).await.await {
                Some(Answer::Recovered(true)) => {}
                _ => {
                    tracing::warn!("the journals of earlier processes are kept: a log is not open");
                    return;
                }
            }
        }
        match start.journals.remove(&shard.runtime.disk()).await {
            Ok(()) => {
                let batches = start.journals.entry_count();
                tracing::info!(batches, "the journals of earlier processes are removed");
            }
            Err(error) => tracing::warn!(%error, "old journals can not be removed"),
        }
    });
}

async fn read_checkpoints(
    disk: &Disk,
    directory: &Path,
    image: &Image,
) -> Result<Checkpoints, Failure> {
    let ids = directory.join(checkpoint::TOPIC_IDS_FILE);
    let others: BTreeSet<(String, i32)> = read_lines(disk, &ids, checkpoint::parse_topic_ids)
        .await?
        .into_iter()
        .filter(|((name, _), id)| image.topic_named(name).is_some_and(|topic| topic.id != *id))
        .map(|(place, _)| place)
        .collect();
    for (topic, partition) in &others {
        // Most likely the process was killed soon after the topic was deleted and made anew.
        tracing::warn!(topic, partition, file = %ids.display(),
            "the checkpoints are those of another topic of this name, they are ignored");
    }
    let read = async |name| {
        let mut lines = read_lines(disk, &directory.join(name), checkpoint::parse).await?;
        lines.retain(|place, _| !others.contains(place));
        Ok(lines)
    };
    Ok(Checkpoints {
        recovery_points: read(checkpoint::RECOVERY_POINT_FILE).await?,
        log_starts: read(checkpoint::LOG_START_FILE).await?,
        high_watermarks: read(checkpoint::HIGH_WATERMARK_FILE).await?,
    })
}

/// The lines of a checkpoint file; none when it is missing or damaged.
async fn read_lines<T>(
    disk: &Disk,
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<checkpoint::Lines<T>, checkpoint::Damaged>,
) -> Result<checkpoint::Lines<T>, Failure> {
    let bytes = match disk.read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(checkpoint::Lines::new());
        }
        Err(error) => {
            return Err(Failure(format!("{} can not be read ({error})", path.display())));
        }
    };
    Ok(parse(&bytes).unwrap_or_else(|error| {
        // All that is lost is a short cut: the logs are checked from their start.
        tracing::warn!(file = %path.display(), %error, "a damaged checkpoint is ignored");
        checkpoint::Lines::new()
    }))
}

/// Removes what deleted topics left behind, and sets aside directories the metadata does not know:
/// they are renamed, never removed.
async fn sort_directories(shard: &Shard, directory: &Path, image: &Image) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure(format!(
            "the log directory {} can not be put in order ({error})",
            directory.display()
        ))
    };
    let disk = shard.runtime.disk();
    for entry in disk.list(directory).await.map_err(failed)? {
        if !entry.is_directory {
            continue;
        }
        let path = directory.join(&entry.name);
        match names::parse_directory_name(&entry.name) {
            Some(names::Directory::Deleted) => {
                disk.remove_directory(&path).await.map_err(failed)?;
            }
            Some(names::Directory::Partition { topic, partition }) => {
                let known = topic == "__cluster_metadata"
                    || image
                        .topic_named(&topic)
                        .is_some_and(|topic| topic.partitions.contains_key(&partition));
                if !known {
                    let unique = shard.runtime.random_uuid();
                    let stray =
                        directory.join(names::stray_directory_name(&topic, partition, unique));
                    tracing::warn!(directory = %path.display(), to = %stray.display(),
                        "a directory is set aside, as the metadata does not have its partition: \
                         remove it when it is not needed, or see why the metadata lost it");
                    disk.rename(&path, &stray).await.map_err(failed)?;
                }
            }
            Some(names::Directory::Stray | names::Directory::Future) | None => {}
        }
    }
    // Also what the process before has made: its sync may have failed.
    disk.sync_directory(directory).await.map_err(failed)
}
