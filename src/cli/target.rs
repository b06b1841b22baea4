//! Where the records of a topic go: its partitions, their leaders, and who gets which key.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{NodeId, Uuid};
use crate::protocol::ErrorCode;
use crate::protocol::metadata::MetadataTopic;

use super::client::{ClientError, Cluster, Creation, Outcome};

/// How often a topic that is being created is asked for.
const TRIES: u32 = 50;

/// The wait between two of these.
const PAUSE: Duration = Duration::from_millis(100);

/// A topic whose partitions all have leaders.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its id, when the broker tells one.
    pub id: Option<Uuid>,
    /// The leader of each partition.
    pub leaders: BTreeMap<i32, NodeId>,
}

impl Target {
    /// Asks for a topic, and waits until its partitions have leaders.
    pub async fn find(cluster: &Cluster, topic: &str, creation: Creation) -> Outcome<Self> {
        let names = [topic.to_owned()];
        let mut error = ErrorCode::UnknownTopicOrPartition;
        for _ in 0..TRIES {
            let metadata = cluster.metadata(Some(&names), creation).await?;
            let Some(found) = metadata.topics.first() else { break };
            match Self::from_metadata(topic, found) {
                Ok(target) => return Ok(target),
                Err(code) => error = code,
            }
            let waits = matches!(error, ErrorCode::LeaderNotAvailable)
                || (creation == Creation::Allowed && error == ErrorCode::UnknownTopicOrPartition);
            if !waits {
                break;
            }
            cluster.runtime().sleep(PAUSE).await;
        }
        Err(ClientError::refused(format!("topic {topic}"), error, None))
    }

    fn from_metadata(topic: &str, found: &MetadataTopic) -> Result<Self, ErrorCode> {
        if found.error != ErrorCode::None {
            return Err(found.error);
        }
        let mut leaders = BTreeMap::new();
        for partition in &found.partitions {
            let leader = partition.leader.ok_or(ErrorCode::LeaderNotAvailable)?;
            leaders.insert(partition.index, leader);
        }
        if leaders.is_empty() {
            return Err(ErrorCode::LeaderNotAvailable);
        }
        Ok(Self { name: topic.to_owned(), id: found.topic_id, leaders })
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.leaders.len()).unwrap_or(i32::MAX)
    }

    /// The leader of a partition.
    pub fn leader(&self, partition: i32) -> Outcome<NodeId> {
        self.leaders.get(&partition).copied().ok_or_else(|| {
            let what = format!("partition {}-{partition}", self.name);
            ClientError::refused(what, ErrorCode::UnknownTopicOrPartition, None)
        })
    }
}

/// The partition the Java client gives a key: its murmur2 hash, without the sign, modulo the number
/// of partitions.
pub fn partition_of_key(key: &[u8], partition_count: i32) -> i32 {
    let hash = (murmur2(key) & 0x7fff_ffff).cast_signed();
    hash % partition_count.max(1)
}

/// MurmurHash2, 32 bits, with the seed of Kafka's `Utils.murmur2`.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_the_java_client_hashes_them() {
        // From `Utils.murmur2` of kafka-clients 4.3.1.
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_of_key(b"abc", 16), 479_470_107 % 16);
    }
}
