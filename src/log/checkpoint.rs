//! The checkpoint files of a log directory: an offset for each partition, as text.
//!
//! ```text
//! 0                      the format's version
//! 2                      how many lines follow
//! orders 0 1234          topic, partition, offset
//! orders 1 99
//! ```
//!
//! The lines know topics by name alone. Whose partitions they are is in a file of our own beside
//! them, in the same format: of a topic that was deleted and made anew, the lines of the old one
//! say nothing.
//!
//! Pure. Source: Kafka's `OffsetCheckpointFile`, `CheckpointFile`.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;

use crate::base::{Offset, Uuid};

/// All below these offsets is synced.
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
/// Where logs start, where that is not their first segment's base.
pub const LOG_START_FILE: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
/// How far logs were compacted.
pub const CLEANER_FILE: &str = "cleaner-offset-checkpoint";

/// Whose partitions the lines of the other files are. It is written behind them: a partition whose
/// lines are of another topic is known by it.
pub const TOPIC_IDS_FILE: &str = "corelog-checkpoint-topic-ids";

/// A value for each topic and partition.
pub type Lines<T> = BTreeMap<(String, i32), T>;

/// An offset for each topic and partition.
pub type Offsets = Lines<Offset>;

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

/// Reads a checkpoint file of offsets.
pub fn parse(bytes: &[u8]) -> Result<Offsets, Damaged> {
    parse_lines(bytes, |word| Offset::from_wire(word.parse::<i64>().ok()?))
}

/// Reads the file of topics' ids.
pub fn parse_topic_ids(bytes: &[u8]) -> Result<Lines<Uuid>, Damaged> {
    parse_lines(bytes, |word| word.parse().ok())
}

fn parse_lines<T>(bytes: &[u8], value: impl Fn(&str) -> Option<T>) -> Result<Lines<T>, Damaged> {
    let mut parsed = Lines::new();
    for (line_number, line) in lines(bytes)? {
        let mut words = line.split_whitespace();
        let (topic, partition, last) = (words.next(), words.next(), words.next());
        let parts = (|| {
            let partition = partition?.parse::<i32>().ok()?;
            Some(((topic?.to_owned(), partition), value(last?)?))
        })();
        let (key, value) = parts.ok_or(Damaged { line_number })?;
        if words.next().is_some() {
            return Err(Damaged { line_number });
        }
        parsed.insert(key, value);
    }
    Ok(parsed)
}

/// Writes a checkpoint file.
pub fn format<T: fmt::Display>(lines: &Lines<T>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for ((topic, partition), value) in lines {
        let _ = writeln!(text, "{topic} {partition} {value}");
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
        let ids = Lines::from([(("a".to_owned(), 3), Uuid::from_halves(1, 2))]);
        assert_eq!(parse_topic_ids(format(&ids).as_bytes()), Ok(ids));
        assert_eq!(parse_topic_ids(b"0\n1\na 0 7\n"), Err(Damaged { line_number: 3 }));
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
