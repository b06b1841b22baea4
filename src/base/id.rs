//! Identifiers: of topics and directories, nodes, cores, calls.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A 16-byte id of a topic, directory, incarnation or cluster, as Kafka's `Uuid`.
///
/// Its text form is 22 characters of URL-safe base64 without padding.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// The topic id of `__cluster_metadata`; its text form ends in `Q`.
    pub const METADATA_TOPIC: Self = Self::from_halves(0, 1);

    /// An id from its 16 wire bytes; the all-zero id, "none", becomes `None`.
    pub fn from_wire(raw: [u8; 16]) -> Option<Self> {
        (raw != [0; 16]).then_some(Self(raw))
    }

    /// An id from its most and least significant halves.
    pub const fn from_halves(most: u64, least: u64) -> Self {
        Self((((most as u128) << 64) | least as u128).to_be_bytes())
    }

    /// A version 4 id from 16 random bytes, as Java's `Uuid.randomUuid` makes them.
    ///
    /// Reserved ids (the first hundred) and ids whose text starts with `-` are not handed out: the
    /// caller draws again on `None`.
    pub fn from_random(mut raw: [u8; 16]) -> Option<Self> {
        raw[6] = (raw[6] & 0x0f) | 0x40;
        raw[8] = (raw[8] & 0x3f) | 0x80;
        let id = Self(raw);
        (!id.to_string().starts_with('-')).then_some(id)
    }

    /// The 16 bytes as they go on the wire.
    pub fn to_wire(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no [`Uuid`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidUuid;

impl fmt::Display for InvalidUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 22 characters of URL-safe base64")
    }
}

impl std::error::Error for InvalidUuid {}

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, InvalidUuid> {
        let raw = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidUuid)?;
        raw.try_into().map(Self).map_err(|_| InvalidUuid)
    }
}

/// A partition: its topic's id and its number. The key by which cores own partitions.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartitionKey {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number within the topic, 0 or greater.
    pub partition: i32,
}

/// A node of the cluster, Kafka's `node.id`; 0 or greater.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One core of this process: 0 up to the number of cores, not the CPU's number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A question one core asked another; unique on the asking core.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        assert_eq!(Uuid::METADATA_TOPIC.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        for raw in [[7; 16], [255; 16], *b"0123456789abcdef"] {
            let id = Uuid::from_wire(raw).expect("not zero");
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(Uuid::from_wire([0; 16]), None);
        assert_eq!("short".parse::<Uuid>(), Err(InvalidUuid));
    }
}
