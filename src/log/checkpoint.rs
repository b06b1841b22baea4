//! The checkpoint files of a log directory: an offset for each partition, as text.
//!
//! ```text
//! 0                      the format's version
//! 2                      how many lines follow
//! orders 0 1234          topic, partition, offset
//! orders 1 99
//! ```
//!
//! Pure. Source: Kafka's `OffsetCheckpointFile`, `CheckpointFile`.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;

use crate::base::Offset;

/// All below these offsets is synced.
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
/// Where logs start, where that is not their first segment's base.
pub const LOG_START_FILE: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
/// How far logs were compacted.
pub const CLEANER_FILE: &str = "cleaner-offset-checkpoint";

/// An offset for each topic and partition.
pub type Offsets = BTreeMap<(String, i32), Offset>;

/// Why a file is no checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damaged {
    /// The line that is wrong, from 1 on.
    pub line_number: usize,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is damaged", self.line_number)
    }
}

impl std::error::Error for Damaged {}

/// The lines of a checkpoint file behind its version and count, checked against the count.
pub(super) fn lines(bytes: &[u8]) -> Result<Vec<(usize, &str)>, Damaged> {
    let text = std::str::from_utf8(bytes).map_err(|_| Damaged { line_number: 1 })?;
    // Kafka leaves an empty file where nothing was ever checkpointed.
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    if all.next().map(|(_, line)| line.trim()) != Some("0") {
        return Err(Damaged { line_number: 1 });
    }
    let count = all.next().and_then(|(_, line)| line.trim().parse::<usize>().ok());
    let rest: Vec<(usize, &str)> = all.filter(|(_, line)| !line.trim().is_empty()).collect();
    match count {
        Some(count) if count == rest.len() => Ok(rest),
        Some(_) | None => Err(Damaged { line_number: 2 }),
    }
}

/// Reads a checkpoint file.
pub fn parse(bytes: &[u8]) -> Result<Offsets, Damaged> {
    let mut offsets = Offsets::new();
    for (line_number, line) in lines(bytes)? {
        let mut words = line.split_whitespace();
        let (topic, partition, offset) = (words.next(), words.next(), words.next());
        let parsed = (|| {
            let partition = partition?.parse::<i32>().ok()?;
            let offset = Offset::from_wire(offset?.parse::<i64>().ok()?)?;
            Some(((topic?.to_owned(), partition), offset))
        })();
        let (key, offset) = parsed.ok_or(Damaged { line_number })?;
        if words.next().is_some() {
            return Err(Damaged { line_number });
        }
        offsets.insert(key, offset);
    }
    Ok(offsets)
}

/// Writes a checkpoint file.
pub fn format(offsets: &Offsets) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_and_a_damaged_one_is_refused() {
        let offsets = Offsets::from([
            (("a".to_owned(), 0), Offset::new(7)),
            (("b-c".to_owned(), 12), Offset::ZERO),
        ]);
        let text = format(&offsets);
        assert_eq!(text, "0\n2\na 0 7\nb-c 12 0\n");
        assert_eq!(parse(text.as_bytes()), Ok(offsets));
        assert_eq!(parse(b""), Ok(Offsets::new()));
        let cases: [(&[u8], usize); 6] = [
            (b"1\n0\n", 1),
            (b"0\n3\na 0 7\n", 2),
            (b"0\n1\na 0\n", 3),
            (b"0\n1\na 0 -7\n", 3),
            (b"0\n1\na 0 7 8\n", 3),
            (b"\xff\xfe", 1),
        ];
        for (bytes, line_number) in cases {
            assert_eq!(parse(bytes), Err(Damaged { line_number }), "{bytes:?}");
        }
    }
}
