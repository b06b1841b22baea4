//! What a core does now and then: retention, forgetting idle producers; on core 0 the checkpoint
//! files.

use std::rc::Rc;
use std::time::Duration;

use crate::base::{Instant, ShardId};
use crate::log::checkpoint;
use crate::mesh::{Answer, Ask, CheckpointLine, Shard};

pub(super) fn spawn(shard: &Rc<Shard>) {
    let keeper = shard.clone();
    shard.runtime.spawn("retention", async move {
        keeper.runtime.sleep(keeper.config().initial_task_delay).await;
        loop {
            keep(&keeper).await;
            keeper.runtime.sleep(keeper.config().retention_check_interval).await;
        }
    });
    let keeper = shard.clone();
    shard.runtime.spawn("producer expiry", async move {
        loop {
            keeper.runtime.sleep(keeper.config().producer_check_interval).await;
            for partition in keeper.partitions() {
                partition.expire_producers(keeper.runtime.wall_clock());
                keeper.runtime.pass().await;
            }
        }
    });
    if shard.id() == ShardId(0) {
        let keeper = shard.clone();
        shard.runtime.spawn("checkpoints", async move {
            while !keeper.started.get() {
                keeper.lifecycle.notified().await;
            }
            loop {
                keeper.runtime.sleep(checkpoint_interval(&keeper)).await;
                if !keeper.ending.get() {
                    checkpoint_all(&keeper).await;
                }
            }
        });
    }
}

/// How often the checkpoint files are written, if anything changed. They are written together, so
/// the shortest of their intervals counts.
fn checkpoint_interval(shard: &Shard) -> Duration {
    let config = shard.config();
    config
        .recovery_checkpoint_interval
        .min(config.start_checkpoint_interval)
        .min(config.watermark_checkpoint_interval)
        // An interval of nothing would write for ever.
        .max(Duration::from_millis(100))
}

async fn keep(shard: &Rc<Shard>) {
    for partition in shard.partitions() {
        let now = shard.runtime.wall_clock();
        partition.release_if_idle();
        match partition.apply_retention(now).await {
            Ok(0) => {}
            Ok(segments) => {
                shard.checkpoints_stale.set(true);
                tracing::info!(topic = %partition.topic(), partition = partition.key().partition,
                    segments, log_start = %partition.log().start(), "retention deleted segments");
            }
            Err(error) => {
                tracing::error!(topic = %partition.topic(), partition = partition.key().partition,
                    %error, "retention failed");
            }
        }
        shard.runtime.pass().await;
    }
}

/// Gathers the lines of all cores and writes the files. An idle broker's cores have none.
async fn checkpoint_all(shard: &Rc<Shard>) {
    let began: Instant = shard.runtime.now();
    let mut lines = Vec::new();
    let mut changed = false;
    for core in 0..shard.runtime.shard_count() {
        let asked = shard.ask_surely(ShardId(core), Ask::Checkpoints { flush: false }).await;
        match asked.await {
            Some(Answer::Checkpoints { lines: more, changed: more_changed }) => {
                lines.extend(more);
                changed |= more_changed;
            }
            // What other cores told is still to be written.
            _ => return shard.checkpoints_stale.set(true),
        }
    }
    if !changed {
        return;
    }
    if let Err(error) = write(shard, &lines).await {
        tracing::error!(%error, "the checkpoint files can not be written");
        shard.checkpoints_stale.set(true);
    }
    let took_us = shard.runtime.now().since(began).as_micros() as u64;
    tracing::debug!(partitions = lines.len(), took_us, "checkpoints written");
}

/// Writes the checkpoint files.
pub(super) async fn write(shard: &Rc<Shard>, lines: &[CheckpointLine]) -> std::io::Result<()> {
    let disk = shard.runtime.disk();
    let directory = shard.config().log_dir.clone();
    let place = |line: &CheckpointLine| (line.topic.to_string(), line.partition);
    let recovery = lines.iter().map(|line| (place(line), line.recovery_point)).collect();
    let watermarks = lines.iter().map(|line| (place(line), line.high_watermark)).collect();
    let starts = lines.iter().filter_map(|line| Some((place(line), line.log_start?))).collect();
    for (name, file) in [
        (checkpoint::RECOVERY_POINT_FILE, recovery),
        (checkpoint::LOG_START_FILE, starts),
        (checkpoint::HIGH_WATERMARK_FILE, watermarks),
    ] {
        disk.write_atomically(&directory.join(name), checkpoint::format(&file).as_bytes()).await?;
    }
    // Last: until it is there, lines of a topic that was made anew count as the old one's.
    let ids = lines.iter().map(|line| (place(line), line.topic_id)).collect();
    let ids = checkpoint::format(&ids);
    if *shard.checkpointed_ids.borrow() != ids {
        let path = directory.join(checkpoint::TOPIC_IDS_FILE);
        disk.write_atomically(&path, ids.as_bytes()).await?;
        *shard.checkpointed_ids.borrow_mut() = ids;
    }
    Ok(())
}
