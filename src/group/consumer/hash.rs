//! The hash of the metadata of topics a group subscribes to (KIP-1101).
//!
//! It is stored with the group's epoch. When it changes, a topic was created or deleted, got
//! partitions, or has replicas in other racks, and the group is to be assigned anew. The numbers
//! are those of Apache Kafka (`Utils.computeTopicHash`, `Utils.computeGroupHash`): XXH3 with 64
//! bits over little-endian numbers and texts in UTF-16, each text followed by its length.
//!
//! | of a topic  | bytes                                                        |
//! |-------------|--------------------------------------------------------------|
//! | version     | 1: 0                                                         |
//! | topic id    | 8, 8: its halves                                             |
//! | name        | text                                                         |
//! | partitions  | 4: their count                                               |
//! | each        | 4: its number; then the racks of its replicas, in order      |
//! | each rack   | 4: its length in UTF-16 units; text                          |
//!
//! Of a group: the hashes of its topics, in the order of their names.

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

use crate::metadata::{Image, Topic};

/// Version of the layout that is hashed.
const LAYOUT_VERSION: u8 = 0;

/// The hash of a group's topics by name; 0 when there are none.
///
/// Topics that do not exist are left out by the caller.
pub fn group_hash<'a>(topics: impl IntoIterator<Item = (&'a str, i64)>) -> i64 {
    // Topics have names of ASCII characters, whose order is Java's.
    let topics: BTreeMap<&str, i64> = topics.into_iter().collect();
    if topics.is_empty() {
        return 0;
    }
    let bytes: Vec<u8> = topics.values().flat_map(|hash| hash.to_le_bytes()).collect();
    XxHash3_64::oneshot(&bytes).cast_signed()
}

/// The hash of a topic, with the racks of its replicas as the image's brokers have them.
pub fn topic_hash(topic: &Topic, image: &Image) -> i64 {
    let racks = topic.partitions.values().map(|partition| {
        let brokers = partition.replicas.iter().filter_map(|node| image.broker(*node));
        brokers.filter_map(|broker| broker.rack.as_deref()).collect()
    });
    hash(topic, racks)
}

/// The hash of a topic whose partitions have replicas in these racks.
fn hash<'a>(topic: &Topic, racks: impl Iterator<Item = Vec<&'a str>>) -> i64 {
    let mut bytes = vec![LAYOUT_VERSION];
    for half in topic.id.to_wire().chunks(size_of::<u64>()) {
        bytes.extend(half.iter().rev());
    }
    put_text(&mut bytes, &topic.name);
    bytes.extend((topic.partitions.len() as i32).to_le_bytes());
    for (partition, mut racks) in (0i32..).zip(racks) {
        bytes.extend(partition.to_le_bytes());
        racks.sort_by(|left, right| left.encode_utf16().cmp(right.encode_utf16()));
        for rack in racks {
            bytes.extend(length(rack).to_le_bytes());
            put_text(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes).cast_signed()
}

/// Java's length of a text.
fn length(text: &str) -> i32 {
    text.encode_utf16().count() as i32
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    bytes.extend(length(text).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NodeId, Uuid};
    use crate::metadata::record::{
        PartitionCreated, Record, Recovery, RegisterBroker, TopicCreated,
    };

    fn image(racks: &[Option<&str>], id: Uuid, name: &str, partitions: &[&[i32]]) -> Image {
        let mut image = Image::default();
        for (node, rack) in (0..).zip(racks) {
            let broker = RegisterBroker {
                broker: NodeId(node),
                is_migrating_zk_broker: false,
                incarnation: Uuid::from_halves(1, 1),
                epoch: 0,
                endpoints: Vec::new(),
                features: Vec::new(),
                rack: rack.map(str::to_owned),
                fenced: false,
                in_controlled_shutdown: false,
                log_dirs: Vec::new(),
                cordoned_log_dirs: None,
            };
            image.apply(&Record::from(broker)).expect("fits");
        }
        let topic = TopicCreated { name: name.to_owned(), id };
        image.apply(&Record::from(topic)).expect("fits");
        for (partition, nodes) in (0..).zip(partitions) {
            let replicas: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
            let created = PartitionCreated {
                partition,
                topic: id,
                directories: vec![None; replicas.len()],
                isr: replicas.clone(),
                replicas,
                removing_replicas: Vec::new(),
                adding_replicas: Vec::new(),
                leader: None,
                leader_recovery: Recovery::Recovered,
                leader_epoch: 0,
                partition_epoch: 0,
                elr: None,
                last_known_elr: None,
            };
            image.apply(&Record::from(created)).expect("fits");
        }
        image
    }

    #[test]
    fn topics_have_the_hashes_of_kafka() {
        // From `Utils.computeTopicHash` of Apache Kafka 4.3.1; the racks are listed by node.
        let other = Uuid::from_halves(0x1234_5678_9abc_def0, 0xfedc_ba98_7654_3210);
        let (five, seven, nine) =
            (Uuid::from_halves(5, 6), Uuid::from_halves(7, 8), Uuid::from_halves(9, 10));
        let odd = [Some("r\u{e4}ck"), Some("\u{1f600}"), Some("\u{ffee}")];
        let named = [Some("rack1"), Some("rack0"), None];
        let letters = [Some("b"), Some("a"), Some("b")];
        type Case<'a> = (&'a [Option<&'a str>], Uuid, &'a str, &'a [&'a [i32]], i64);
        let cases: [Case; 7] = [
            (&[None], Uuid::from_halves(1, 2), "foo", &[&[0]], -7_733_839_198_221_838_498),
            (&named, other, "foo", &[&[0, 1, 2], &[0], &[2, 9]], 3_262_234_150_800_501_447),
            (&odd, five, "t\u{e4}\u{1f600}", &[&[0, 1, 2]], 4_483_752_679_232_332_454),
            (&letters, seven, "big", &[&[0, 1, 2][..]; 100], -6_895_313_291_952_312_692),
            (&[], nine, "none", &[], -6_047_523_134_067_346_502),
            (&letters, seven, "mid", &[&[0, 1][..]; 6], 1_390_964_304_879_449_220),
            (
                &[None],
                Uuid::from_halves(7, 9),
                "forty",
                &[&[0][..]; 40],
                -3_050_565_144_865_662_308,
            ),
        ];
        for (racks, id, name, partitions, expected) in cases {
            let image = image(racks, id, name, partitions);
            let topic = image.topic(id).expect("there");
            assert_eq!(topic_hash(topic, &image), expected, "{name}");
        }
    }

    #[test]
    fn groups_have_the_hashes_of_kafka() {
        let names: Vec<String> = (0..40).map(|number| format!("t{number:02}")).collect();
        let forty: Vec<(&str, i64)> =
            names.iter().map(String::as_str).zip((0..).map(|i: i64| i * i - 7)).collect();
        let cases: [(&[(&str, i64)], i64); 4] = [
            (&[], 0),
            (&[("a", 1)], 3_439_722_301_264_460_078),
            (&[("b", 1), ("a", -2), ("c", 3)], 3_653_654_062_891_203_343),
            (&forty, 9_207_377_372_325_279_509),
        ];
        for (topics, expected) in cases {
            assert_eq!(group_hash(topics.iter().copied()), expected, "{topics:?}");
        }
    }
}
