//! How the broker ends: no new requests, those in flight are answered, logs are closed, and the
//! directory says that it was left cleanly.

use std::rc::Rc;
use std::time::Duration;

use crate::base::ShardId;
use crate::broker::{Failure, housekeeping};
use crate::log::{checkpoint, clean_shutdown};
use crate::mesh::{Answer, Ask, ControlAnswer, ControlAsk, Shard};

/// How long requests in flight may take once the process was told to end.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Closes everything and leaves the marker of a clean stop.
pub(super) async fn stop(shard: &Rc<Shard>) -> Result<(), Failure> {
    tracing::info!("stopping");
    let drained = async {
        // All at once: what one core waits for may be another's to answer.
        for drained in shard.ask_all(|| Ask::Drain).await {
            drained.await;
        }
    };
    if shard.runtime.timeout(DRAIN_MAX, drained).await.is_none() {
        tracing::warn!("requests still in flight were cut off");
    }
    let mut lines = Vec::new();
    let mut all_clean = true;
    for closed in shard.ask_all(|| Ask::Close).await {
        match closed.await {
            Some(Answer::Closed { lines: more, clean }) => {
                lines.extend(more);
                all_clean &= clean;
            }
            _ => all_clean = false,
        }
    }
    let failed = |error: std::io::Error| {
        Failure(format!(
            "the log directory could not be left cleanly ({error}); the next start will check the \
             logs"
        ))
    };
    let resigned = shard.ask(ShardId(0), Ask::Control(ControlAsk::Resign)).await;
    let Some(Answer::Control(ControlAnswer::Resigned(Some(broker_epoch)))) = resigned else {
        let why = "the metadata log could not be written; the next start will check the logs";
        return Err(Failure(why.to_owned()));
    };
    if !all_clean {
        // Checkpoints of partitions that are still being checked would be lost: the old files stay.
        tracing::warn!("some logs were not closed; the next start will check them");
        return Ok(());
    }
    housekeeping::write(shard, &lines).await.map_err(failed)?;
    let disk = shard.runtime.disk();
    let directory = shard.config().log_dir.clone();
    let cleaner = directory.join(checkpoint::CLEANER_FILE);
    if disk.read(&cleaner).await.is_err() {
        disk.write_atomically(&cleaner, checkpoint::format(&checkpoint::Offsets::new()).as_bytes())
            .await
            .map_err(failed)?;
    }
    let marker = clean_shutdown::format(broker_epoch);
    let path = directory.join(clean_shutdown::FILE_NAME);
    disk.write_atomically(&path, marker.as_bytes()).await.map_err(failed)?;
    tracing::info!("stopped cleanly");
    Ok(())
}

/// Has the main functions of all cores return. A core that is not told never ends.
pub(super) async fn tell_all_to_exit(shard: &Rc<Shard>) {
    let told = shard.ask_all(|| Ask::Exit).await;
    let told = async {
        for told in told {
            told.await;
        }
    };
    shard.runtime.timeout(DRAIN_MAX, told).await;
}
