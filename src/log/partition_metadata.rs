//! `partition.metadata`: which topic a directory belongs to (Kafka's `PartitionMetadataFile`).

use std::fmt;
use std::io;
use std::path::Path;

use crate::base::Uuid;
use crate::runtime::Disk;

/// The file's name in the partition's directory.
pub const FILE_NAME: &str = "partition.metadata";

/// Why a directory can not be a partition's.
#[derive(Debug)]
pub enum Mismatch {
    /// It belongs to another topic of the same name.
    OtherTopic {
        /// The topic of the directory.
        found: Uuid,
        /// The topic of the metadata.
        expected: Uuid,
    },
    /// The file is damaged.
    Damaged,
    /// The disk refused.
    Io(io::Error),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherTopic { found, expected } => write!(
                f,
                "the directory belongs to topic id {found}, but the topic's id is {expected}; \
                 move the directory away to start with an empty partition"
            ),
            Self::Damaged => write!(f, "{FILE_NAME} is damaged"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Reads the topic's id out of the file.
pub fn parse(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut version = None;
    let mut id = None;
    for line in text.lines() {
        match line.split_once(':')? {
            ("version", value) => version = Some(value.trim()),
            ("topic_id", value) => id = value.trim().parse().ok(),
            _ => return None,
        }
    }
    if version == Some("0") { id } else { None }
}

/// The file of a topic. No line feed ends it, as in the files Kafka writes.
pub fn format(id: Uuid) -> String {
    format!("version: 0\ntopic_id: {id}")
}

/// Checks that the directory is the topic's; a directory without the file becomes it, and is made
/// when it is missing. Where the file is, the directory's own name is durable.
pub async fn check_or_write(disk: &Disk, directory: &Path, expected: Uuid) -> Result<(), Mismatch> {
    let path = directory.join(FILE_NAME);
    match disk.read(&path).await {
        Ok(bytes) => match parse(&bytes) {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(Mismatch::OtherTopic { found, expected }),
            None => Err(Mismatch::Damaged),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.create_directories(directory).await.map_err(Mismatch::Io)?;
            if let Some(parent) = directory.parent() {
                disk.sync_directory(parent).await.map_err(Mismatch::Io)?;
            }
            disk.write_atomically(&path, format(expected).as_bytes()).await.map_err(Mismatch::Io)
        }
        Err(error) => Err(Mismatch::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_id_reads_back() {
        let id = Uuid::from_halves(3, 4);
        assert_eq!(parse(format(id).as_bytes()), Some(id));
        assert_eq!(parse(b"version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"), None);
        assert_eq!(parse(b"nonsense"), None);
        assert_eq!(format(id), "version: 0\ntopic_id: AAAAAAAAAAMAAAAAAAAABA");
    }
}
