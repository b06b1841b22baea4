//! What leaves a log at its start: retention, DeleteRecords; and how files are removed.
//!
//! A deleted segment's files get the ending `.deleted` at once and go after
//! `file.delete.delay.ms`; who reads them meanwhile is not disturbed.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Offset, Timestamp};
use crate::log::aborted;
use crate::log::home::Home;
use crate::log::log::Log;
use crate::log::segment::{self, Segment};
use crate::log::snapshots;
use crate::runtime::local::Share;

/// The endings of a segment's files, and of the producer snapshot at its base.
pub(super) const ENDINGS: [&str; 5] =
    [segment::ENDING, "index", "timeindex", aborted::ENDING, snapshots::ENDING];

/// Why segments are deleted.
#[derive(Clone, Copy, Debug)]
enum Reason {
    LogStart,
    Size { above_bytes: u64 },
    Time { newest: Timestamp },
}

impl Log {
    /// Deletes segments that lie below the log's start, and with `cleanup.policy=delete` those
    /// beyond `retention.bytes` and `retention.ms`; none that reaches above `high_watermark`.
    /// Returns how many went (`UnifiedLog.deleteOldSegments`).
    pub async fn delete_old_segments(
        &self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> io::Result<usize> {
        let turn = self.turn().await;
        self.check_writable()?;
        let config = self.config();
        let mut count = self.delete_for(&turn, Reason::LogStart, high_watermark).await?;
        if !config.delete_policy {
            return Ok(count);
        }
        if let Some(above_bytes) =
            config.retention_bytes.and_then(|limit| self.size_bytes().checked_sub(limit))
        {
            count += self.delete_for(&turn, Reason::Size { above_bytes }, high_watermark).await?;
        }
        if let Some(age_ms) = config.retention_ms {
            let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
            // Nothing is older than the beginning of time.
            if let Some(newest) = Timestamp::from_wire(now.to_wire().saturating_sub(age_ms)) {
                count += self.delete_for(&turn, Reason::Time { newest }, high_watermark).await?;
            }
        }
        Ok(count)
    }

    async fn delete_for(
        &self,
        turn: &Share,
        reason: Reason,
        high_watermark: Offset,
    ) -> io::Result<usize> {
        let mut doomed = self.doomed(reason, high_watermark).await?;
        let is_last = |segment: &Rc<Segment>| self.behind(segment.base).is_none();
        if doomed.last().is_some_and(is_last) {
            // A log is never without a segment. Where there is no room for one, the others go.
            let rolled = self.roll_within(turn).await;
            if rolled.is_err() && doomed.len() > 1 {
                doomed.pop();
            } else {
                rolled?;
            }
        }
        let Some(last) = doomed.last().cloned() else { return Ok(0) };
        let Some(first_kept) = self.behind(last.base) else { return Ok(0) };
        self.raise_start(turn, first_kept.base).await?;
        let directory = self.0.home.directory();
        tracing::info!(directory = %directory.display(), segments = doomed.len(), ?reason,
            log_start = %self.start(), "old segments are deleted");
        let count = doomed.len();
        self.remove_segments(doomed).await?;
        Ok(count)
    }

    /// The oldest segments, as far as the reason holds (`UnifiedLog.deletableSegments`).
    async fn doomed(&self, reason: Reason, high_watermark: Offset) -> io::Result<Vec<Rc<Segment>>> {
        let all: Vec<Rc<Segment>> = self.0.segments.borrow().values().cloned().collect();
        let mut above_bytes = match reason {
            Reason::Size { above_bytes } => above_bytes,
            Reason::LogStart | Reason::Time { .. } => 0,
        };
        let mut doomed = Vec::new();
        for (at, segment) in all.iter().enumerate() {
            let following = all.get(at + 1).map(|next| next.base);
            let size_bytes = segment.size_bytes();
            let is_empty_last = following.is_none() && size_bytes == 0;
            if is_empty_last || high_watermark < following.unwrap_or(self.end()) {
                break;
            }
            let holds = match reason {
                Reason::LogStart => following.is_some_and(|base| base <= self.start()),
                Reason::Size { .. } => size_bytes <= above_bytes,
                Reason::Time { newest } => segment.retention_timestamp().await? < newest,
            };
            if !holds {
                break;
            }
            above_bytes = above_bytes.saturating_sub(size_bytes);
            doomed.push(segment.clone());
        }
        Ok(doomed)
    }

    /// Moves the log's start up to `to`, which lies no higher than the high watermark. Segments
    /// below it go at the next [`delete_old_segments`](Self::delete_old_segments).
    pub async fn advance_start(&self, to: Offset) -> io::Result<()> {
        let turn = self.turn().await;
        self.check_writable()?;
        if to > self.end() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "above the log's end"));
        }
        self.raise_start(&turn, to).await
    }

    async fn raise_start(&self, turn: &Share, to: Offset) -> io::Result<()> {
        if to > self.start() {
            self.0.start.set(to);
            // The start has moved; the next start of the broker cuts the file as well.
            if let Err(error) = self.change_epochs(turn, |epochs| epochs.truncate_start(to)).await {
                let directory = self.0.home.directory();
                tracing::warn!(directory = %directory.display(), %error, "epochs not written");
            }
        }
        Ok(())
    }

    /// Takes segments out of the log and has their files removed, in the order given: a crash on
    /// the way must leave no gap.
    pub(super) async fn remove_segments(&self, segments: Vec<Rc<Segment>>) -> io::Result<()> {
        let mut bases = Vec::with_capacity(segments.len());
        let mut marked = Ok(());
        for segment in &segments {
            // One whose name stays is still there at the next start: it stays in the log, and so do
            // those behind it.
            let home = &self.0.home;
            let renamed = home.rename(segment.base, ENDINGS[0], &marked_name(ENDINGS[0])).await;
            marked = renamed.map(drop);
            if marked.is_err() {
                break;
            }
            self.0.segments.borrow_mut().remove(&segment.base);
            self.0.snapshots.borrow_mut().remove(&segment.base);
            segment.close_file();
            bases.push(segment.base);
            marked = mark_deleted(home, segment.base).await;
            if marked.is_err() {
                break;
            }
        }
        self.remove_later(bases);
        marked
    }

    /// Removes the files of `bases` that are marked deleted, after the delay.
    pub(super) fn remove_later(&self, bases: Vec<Offset>) {
        if bases.is_empty() {
            return;
        }
        let home = self.0.home.clone();
        let runtime = self.0.runtime.clone();
        let delay = Duration::from_millis(self.0.config.borrow().file_delete_delay_ms);
        self.0.runtime.spawn("segment removal", async move {
            runtime.sleep(delay).await;
            for base in bases {
                runtime.remove_in_background(remove_marked(&home, base)).await;
            }
        });
    }
}

/// The ending of a file that is to be removed.
fn marked_name(ending: &str) -> String {
    format!("{ending}.deleted")
}

async fn remove_marked(home: &Home, base: Offset) {
    for ending in ENDINGS {
        if let Err(error) = home.remove(base, &marked_name(ending)).await {
            tracing::error!(segment = %base, ending, %error, "file not removed");
        }
    }
}

/// Gives a segment's files their `.deleted` names.
pub(super) async fn mark_deleted(home: &Home, base: Offset) -> io::Result<()> {
    for ending in ENDINGS {
        home.rename(base, ending, &marked_name(ending)).await?;
    }
    Ok(())
}
