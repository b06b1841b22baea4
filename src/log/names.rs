//! The names of directories and files (`UnifiedLog.logDirName` and its relatives).

use crate::base::{Offset, Uuid};

/// What a directory within the log directory is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Directory {
    /// A partition.
    Partition {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: i32,
    },
    /// A deleted partition, to be removed.
    Deleted,
    /// A partition the metadata did not know, set aside.
    Stray,
    /// A partition on its way to another log directory.
    Future,
}

/// The directory of a partition.
pub fn directory_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Longest name a file system takes.
const NAME_BYTES_MAX: usize = 255;

fn suffixed(topic: &str, partition: i32, unique: Uuid, suffix: &str) -> String {
    let unique: String = unique.to_wire().iter().map(|byte| format!("{byte:02x}")).collect();
    let tail = format!("-{partition}.{unique}-{suffix}");
    let kept = topic.len().min(NAME_BYTES_MAX - tail.len());
    format!("{}{tail}", &topic[..kept])
}

/// The directory of a deleted partition: `<topic>-<partition>.<unique>-delete`.
pub fn deleted_directory_name(topic: &str, partition: i32, unique: Uuid) -> String {
    suffixed(topic, partition, unique, "delete")
}

/// The directory of a partition that the metadata does not know.
pub fn stray_directory_name(topic: &str, partition: i32, unique: Uuid) -> String {
    suffixed(topic, partition, unique, "stray")
}

/// What a directory is by its name; `None` for one that is none of ours.
pub fn parse_directory_name(name: &str) -> Option<Directory> {
    if let Some((_, kind)) = name.rsplit_once('-') {
        let has_unique = name.contains('.');
        match kind {
            "delete" if has_unique => return Some(Directory::Deleted),
            "stray" if has_unique => return Some(Directory::Stray),
            "future" if has_unique => return Some(Directory::Future),
            _ => {}
        }
    }
    let (topic, number) = name.rsplit_once('-')?;
    let partition = number.parse::<u32>().ok().and_then(|n| i32::try_from(n).ok())?;
    // "007" is no number as Kafka writes them.
    if topic.is_empty() || number != partition.to_string() {
        return None;
    }
    Some(Directory::Partition { topic: topic.to_owned(), partition })
}

/// A segment's file of some kind: twenty digits and the ending.
pub fn file_name(base: Offset, ending: &str) -> String {
    format!("{:020}.{ending}", base.get())
}

/// The offset and ending of a segment's file.
pub fn parse_file_name(name: &str) -> Option<(Offset, &str)> {
    let (digits, ending) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset = digits.parse::<i64>().ok().and_then(Offset::from_wire)?;
    Some((offset, ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_told_apart_by_their_names() {
        let unique = Uuid::from_halves(1, 2);
        let partition = |topic: &str, partition| {
            Some(Directory::Partition { topic: topic.to_owned(), partition })
        };
        let long = "x".repeat(249);
        let cases = [
            ("a-0".to_owned(), partition("a", 0)),
            ("a-b-12".to_owned(), partition("a-b", 12)),
            ("a.delete-3".to_owned(), partition("a.delete", 3)),
            (deleted_directory_name("a-b", 1, unique), Some(Directory::Deleted)),
            (deleted_directory_name(&long, 1, unique), Some(Directory::Deleted)),
            (stray_directory_name("a", 1, unique), Some(Directory::Stray)),
            ("a-01".to_owned(), None),
            ("-1".to_owned(), None),
            ("lost+found".to_owned(), None),
        ];
        for (name, expected) in cases {
            assert!(name.len() <= NAME_BYTES_MAX, "{name}");
            assert_eq!(parse_directory_name(&name), expected, "{name}");
        }
    }

    #[test]
    fn files_are_named_by_their_first_offset() {
        let name = file_name(Offset::new(1234), "timeindex");
        assert_eq!(name, "00000000000000001234.timeindex");
        assert_eq!(parse_file_name(&name), Some((Offset::new(1234), "timeindex")));
        assert_eq!(parse_file_name("1234.log"), None);
        assert_eq!(parse_file_name("99999999999999999999.log"), None);
    }
}
