//! Which core owns which partition.
//!
//! The mapping belongs to one run of one process: it is never on the wire and never on disk, so the
//! number of cores may change between two runs.

use crate::base::{PartitionKey, ShardId, Uuid};

/// The core that owns a partition.
///
/// A topic's first partition goes to the core with the highest hash of (topic, core), its others to
/// the cores behind that one, in turn: a topic's partitions spread as evenly as their number
/// allows, and topics of one partition spread by the hash.
pub fn owner(key: PartitionKey, shard_count: u16) -> ShardId {
    assert!(shard_count > 0, "a process has a core");
    let first = (0..shard_count).max_by_key(|shard| weight(key.topic, *shard)).unwrap_or(0);
    let turn = key.partition.rem_euclid(i32::from(shard_count)) as u32;
    ShardId(((u32::from(first) + turn) % u32::from(shard_count)) as u16)
}

/// A well mixed number for a topic on a core (the finalizer of MurmurHash3, public domain).
fn weight(topic: Uuid, shard: u16) -> u64 {
    let raw = u128::from_be_bytes(topic.to_wire());
    let folded = (raw >> 64) as u64 ^ raw as u64;
    let mut mixed = folded ^ (u64::from(shard) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: u64) -> Uuid {
        // Ids as random as those that are drawn.
        let half = |salt: u64| weight(Uuid::from_halves(number + 1, salt), 0);
        Uuid::from_halves(half(1), half(2))
    }

    #[test]
    fn the_partitions_of_a_topic_spread_evenly_over_the_cores() {
        for (partitions, shards) in [(16, 2), (16, 4), (50, 2), (7, 3), (64, 16)] {
            for number in 0..50 {
                let mut counts = vec![0; usize::from(shards)];
                for partition in 0..partitions {
                    let key = PartitionKey { topic: topic(number), partition };
                    counts[usize::from(owner(key, shards).0)] += 1;
                }
                let (low, high) = (counts.iter().min(), counts.iter().max());
                let spread = high.zip(low).map(|(high, low)| high - low);
                assert!(spread <= Some(1), "{partitions} over {shards}: {counts:?}");
            }
        }
    }

    #[test]
    fn topics_of_one_partition_spread_over_the_cores() {
        let mut counts = [0; 4];
        for number in 0..4000 {
            let key = PartitionKey { topic: topic(number), partition: 0 };
            counts[usize::from(owner(key, 4).0)] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
