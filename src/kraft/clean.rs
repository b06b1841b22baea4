//! Which snapshots and segments of the metadata log to delete, by Apache Kafka's rules.
//!
//! The newest snapshot always stays. Deleting a snapshot moves the log's start to the end of the
//! next one; segments wholly below the start go with it. So the log always begins at or before a
//! snapshot that is kept.

use std::time::Duration;

use crate::base::{Offset, Timestamp};
use crate::kraft::snapshot::SnapshotId;

/// How much to keep: `metadata.max.retention.bytes` and `metadata.max.retention.ms`.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Size of log and snapshots together above which the oldest snapshot is deleted.
    pub size_bytes_max: u64,
    /// Age above which a snapshot is deleted.
    pub age_max: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { size_bytes_max: 100 << 20, age_max: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// A snapshot on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotFile {
    /// Its id.
    pub id: SnapshotId,
    /// Its size.
    pub size_bytes: u64,
    /// When the last record in it was appended.
    pub timestamp: Timestamp,
}

/// A segment on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentFile {
    /// Its first offset.
    pub base: Offset,
    /// Its size.
    pub size_bytes: u64,
}

/// What to delete.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Deletions {
    /// Snapshots.
    pub snapshots: Vec<SnapshotId>,
    /// Segments, by their first offsets.
    pub segments: Vec<Offset>,
}

/// Decides what to delete. Both lists are in rising order; the last segment, which is being
/// written, always stays.
pub fn deletions(
    snapshots: &[SnapshotFile],
    segments: &[SegmentFile],
    retention: Retention,
    now: Timestamp,
) -> Deletions {
    let mut deletions = Deletions::default();
    let mut snapshots_size: u64 = snapshots.iter().map(|snapshot| snapshot.size_bytes).sum();
    let mut segments = segments.iter().peekable();
    let mut log_size: u64 = segments.clone().map(|segment| segment.size_bytes).sum();
    let age_max_ms = i64::try_from(retention.age_max.as_millis()).unwrap_or(i64::MAX);
    for pair in snapshots.windows(2) {
        let (oldest, next) = (pair[0], pair[1]);
        let age_ms = now.to_wire().saturating_sub(oldest.timestamp.to_wire());
        if log_size + snapshots_size <= retention.size_bytes_max && age_ms <= age_max_ms {
            break;
        }
        deletions.snapshots.push(oldest.id);
        snapshots_size -= oldest.size_bytes;
        while let Some(segment) = segments.peek().copied() {
            let mut rest = segments.clone();
            rest.next();
            if rest.next().is_none_or(|following| following.base > next.id.end) {
                break;
            }
            deletions.segments.push(segment.base);
            log_size -= segment.size_bytes;
            segments.next();
        }
    }
    deletions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;

    fn snapshot(end: u64, size_bytes: u64, millis: i64) -> SnapshotFile {
        let id = SnapshotId { end: Offset::new(end), epoch: LeaderEpoch::new(1) };
        SnapshotFile { id, size_bytes, timestamp: Timestamp::from_millis(millis) }
    }

    #[test]
    fn the_oldest_snapshots_go_with_the_segments_below_the_next() {
        let segments: Vec<_> = [0, 100, 200, 300]
            .map(|base| SegmentFile { base: Offset::new(base), size_bytes: 50 })
            .into();
        let snapshots = [snapshot(0, 1, 0), snapshot(150, 10, 1000), snapshot(300, 10, 2000)];
        type Case = (&'static str, u64, u64, i64, &'static [u64], &'static [u64]);
        let cases: [Case; 5] = [
            ("nothing is too much", 1000, 1000, 900, &[], &[]),
            ("the oldest is too old", 1000, 500, 900, &[0], &[0]),
            ("both are too old", 1000, 500, 1600, &[0, 150], &[0, 100, 200]),
            ("the last always stays", 0, 0, 1 << 40, &[0, 150], &[0, 100, 200]),
            ("a little too large", 220, 10_000, 2000, &[0], &[0]),
        ];
        for (name, size_bytes_max, age_ms, now, gone, gone_segments) in cases {
            let retention = Retention { size_bytes_max, age_max: Duration::from_millis(age_ms) };
            let now = Timestamp::from_millis(now);
            let found = deletions(&snapshots, &segments, retention, now);
            let ends: Vec<_> = found.snapshots.iter().map(|id| id.end.get()).collect();
            assert_eq!(ends, gone, "{name}");
            let bases: Vec<_> = found.segments.iter().map(|base| base.get()).collect();
            assert_eq!(bases, gone_segments, "{name}");
        }
    }
}
