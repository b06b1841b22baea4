//! What goes: by time, by size, by DeleteRecords.
//!
//! Source: Kafka's `UnifiedLog.deleteOldSegments`.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Offset, Timestamp};
use crate::log::log::Log;
use crate::log::names::file_name;
use crate::log::segment::Segment;

impl Log {
    /// Moves the log's start up. Segments that lie wholly below it go.
    pub async fn advance_start(&self, to: Offset) -> io::Result<()> {
        if to <= self.start() || to > self.end() {
            return Ok(());
        }
        self.0.start.set(to);
        let changed = self.0.epochs.borrow_mut().truncate_start(to);
        if changed {
            self.write_epochs().await?;
        }
        Ok(())
    }

    /// Deletes the segments that retention no longer keeps; none that reaches above
    /// `high_watermark`. Returns how many went.
    pub async fn delete_old_segments(
        &self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> io::Result<usize> {
        let config = self.config();
        let start = self.start();
        let mut count = self.delete_while(high_watermark, |_, end| end <= start).await?;
        if !config.delete_policy {
            return Ok(count);
        }
        if let Some(bytes_max) = config.retention_bytes {
            let mut excess = self.size_bytes().saturating_sub(bytes_max);
            count += self
                .delete_while(high_watermark, |segment, _| {
                    let size = segment.size_bytes.get();
                    let goes = size > 0 && excess >= size;
                    if goes {
                        excess -= size;
                    }
                    goes
                })
                .await?;
        }
        if let Some(age_max_ms) = config.retention_ms {
            count += self
                .delete_while(high_watermark, |segment, _| {
                    let newest = segment.max_timestamp.get().map(|max| max.timestamp);
                    let newest = newest.unwrap_or(segment.created_ms);
                    let age_ms = now.to_wire().saturating_sub(newest);
                    segment.size_bytes.get() > 0
                        && u64::try_from(age_ms).is_ok_and(|age| age > age_max_ms)
                })
                .await?;
        }
        Ok(count)
    }

    /// Deletes segments from the oldest on while `goes` says so of them and their end. When all
    /// would go, a new one is begun first.
    async fn delete_while(
        &self,
        high_watermark: Offset,
        mut goes: impl FnMut(&Segment, Offset) -> bool,
    ) -> io::Result<usize> {
        let all: Vec<Rc<Segment>> = self.0.segments.borrow().values().cloned().collect();
        let mut going = Vec::new();
        for (at, segment) in all.iter().enumerate() {
            let end = all.get(at + 1).map_or(self.end(), |next| next.base);
            let is_empty_active = at + 1 == all.len() && segment.size_bytes.get() == 0;
            if end > high_watermark || is_empty_active || !goes(segment, end) {
                break;
            }
            going.push((segment.clone(), end));
        }
        if going.len() == all.len() && !going.is_empty() {
            self.roll().await?;
        }
        for (segment, end) in &going {
            self.delete(segment).await?;
            if self.start() < *end {
                self.0.start.set(*end);
            }
        }
        if !going.is_empty() {
            let start = self.start();
            let changed = self.0.epochs.borrow_mut().truncate_start(start);
            if changed {
                self.write_epochs().await?;
            }
        }
        Ok(going.len())
    }

    /// Takes a segment out of the log. Its files get the suffix `.deleted` at once and are removed
    /// after `file.delete.delay.ms`; leases keep their bytes readable.
    async fn delete(&self, segment: &Rc<Segment>) -> io::Result<()> {
        self.0.segments.borrow_mut().remove(&segment.base);
        segment.close_file();
        let mut renamed = Vec::new();
        for ending in ["log", "index", "timeindex", "txnindex", "snapshot"] {
            let from = self.0.directory.join(file_name(segment.base, ending));
            let to = self.0.directory.join(format!("{}.deleted", file_name(segment.base, ending)));
            match self.0.disk.rename(&from, &to).await {
                Ok(()) => renamed.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.0.snapshots.borrow_mut().retain(|at| *at != segment.base);
        let delay = Duration::from_millis(self.config().file_delete_delay_ms);
        let (runtime, disk) = (self.0.runtime.clone(), self.0.disk.clone());
        self.0.runtime.spawn("segment removal", async move {
            runtime.sleep(delay).await;
            for path in renamed {
                match disk.remove_file(&path).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::error!(file = %path.display(), %error,
                            "a deleted segment's file can not be removed");
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        });
        Ok(())
    }
}
