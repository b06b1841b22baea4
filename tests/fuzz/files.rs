//! What is read from files, but for whole directories: texts, snapshots, and the records of the
//! metadata log and of groups.

use bytes::Bytes;
use corelog::base::{LeaderEpoch, Offset};
use corelog::config::load::{EMBEDDED, Sources, load};
use corelog::config::properties;
use corelog::group::Record as GroupRecord;
use corelog::group::classic::subscription::{self, Subscription};
use corelog::group::consumer::regex::TopicPattern;
use corelog::kraft::batch::{Batch, decode_all};
use corelog::kraft::control::ControlRecord;
use corelog::kraft::format::{MetaProperties, read_bootstrap};
use corelog::kraft::{Loaded, QuorumState, SnapshotId};
use corelog::log::epochs::Epochs;
use corelog::log::{checkpoint, clean_shutdown, names, partition_metadata};
use corelog::metadata::Record as MetadataRecord;
use corelog::partition::producers::ProducerStates;
use corelog::protocol::batch::Batches;
use corelog::protocol::record::Records;
use corelog::runtime::sim::Random;

use crate::mutate::Kind;
use crate::samples::{fixture, fixtures, grow};
use crate::{Bound, Decoder};

/// The newest form of every metadata record.
const LEVEL: i16 = i16::MAX;

/// Kinds of records that groups have, by the version of their keys; one more is unknown.
const GROUP_KINDS: u8 = 18;

/// Metadata is cut to so many bytes, in whole batches: the files only get longer, not different.
const METADATA_BYTES: usize = 3 << 10;

/// A group's record: key length, whether there is a value, key, value.
fn group_record(input: &[u8]) -> Option<Vec<u8>> {
    let (key_bytes, rest) = input.split_first()?;
    let (has_value, rest) = rest.split_first()?;
    let (key, value) = rest.split_at(usize::from(*key_bytes).min(rest.len()));
    let value = (*has_value != 0).then(|| Bytes::copy_from_slice(value));
    let record = GroupRecord::decode(Bytes::copy_from_slice(key), value).ok()?;
    let (key, value) = record.encode()?;
    let again = GroupRecord::decode(key.clone(), value.clone()).expect("what was encoded decodes");
    assert_eq!(again, record, "a group's record changes when it is encoded");
    let mut packed = vec![u8::try_from(key.len()).ok()?, u8::from(value.is_some())];
    packed.extend_from_slice(&key);
    packed.extend_from_slice(&value.unwrap_or_default());
    Some(packed)
}

fn group_records() -> Decoder {
    let mut samples = Vec::new();
    for kind in 0..GROUP_KINDS {
        let mut random = Random::new(u64::from(kind));
        samples.extend(grow(&mut random, &[], |body| {
            let mut body = body.to_vec();
            body[1] |= 1;
            body[2] = 0;
            body[3] = kind;
            group_record(&body)
        }));
    }
    let log = fixture("disk/__consumer_offsets-0/00000000000000000000.log");
    for (key, value) in pairs(&log, false) {
        let mut sample = vec![key.len() as u8, u8::from(value.is_some())];
        sample.extend_from_slice(&key);
        sample.extend_from_slice(&value.unwrap_or_default());
        samples.push(sample);
    }
    assert!(samples.len() > 20, "{} samples of group records", samples.len());
    let decoder = Decoder::new("group record", samples, |input| group_record(input).is_some());
    Decoder { weight: 500, ..decoder }
}

type Pair = (Vec<u8>, Option<Vec<u8>>);

/// Keys and values of the records of a log, of its control batches or of the others.
fn pairs(log: &[u8], is_control: bool) -> Vec<Pair> {
    let mut found = Vec::new();
    for batch in Batches::new(log).map_while(Result::ok) {
        if batch.header.is_control() != is_control {
            continue;
        }
        for record in Records::new(batch.payload(), batch.header.record_count) {
            let record = record.expect("a good fixture");
            let key = record.key.unwrap_or_default().to_vec();
            found.push((key, record.value.map(<[u8]>::to_vec)));
        }
    }
    found
}

/// The metadata logs and snapshots of Apache Kafka.
fn metadata_files() -> Vec<(String, Vec<u8>)> {
    let mut files = fixtures("metadata", ".log");
    files.extend(fixtures("metadata", ".checkpoint"));
    files
}

fn metadata_records() -> Decoder {
    let mut samples: Vec<Vec<u8>> = Vec::new();
    for (_, log) in metadata_files() {
        samples.extend(pairs(&log, false).into_iter().filter_map(|(_, value)| value));
    }
    samples.sort();
    samples.dedup();
    let decoder = Decoder::new("metadata record", samples, |input| {
        let Ok(record) = MetadataRecord::decode(input) else { return false };
        let once = record.encode(LEVEL);
        let again = MetadataRecord::decode(&once).expect("what was encoded decodes");
        assert_eq!(again.encode(LEVEL), once, "a metadata record changes when it is encoded");
        true
    });
    Decoder { weight: 500, ..decoder }
}

fn control_records() -> Decoder {
    let mut samples = Vec::new();
    for (_, log) in metadata_files() {
        for (key, value) in pairs(&log, true) {
            samples.push([&[key.len() as u8][..], &key, &value.unwrap_or_default()].concat());
        }
    }
    samples.sort();
    samples.dedup();
    Decoder::new("control record", samples, |input| {
        let Some((key_bytes, rest)) = input.split_first() else { return false };
        let (key, value) = rest.split_at(usize::from(*key_bytes).min(rest.len()));
        let Ok(record) = ControlRecord::decode(key, value) else { return false };
        let (key, value) = record.encode();
        assert_eq!(ControlRecord::decode(&key, &value), Ok(record), "a control record changes");
        true
    })
}

/// Makes the checksums of all batches right.
fn repair_batches(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..)
        && let Some(raw) = rest.get(8..12).and_then(|raw| raw.first_chunk::<4>())
        && let Ok(length) = usize::try_from(i32::from_be_bytes(*raw))
        && length >= 49
        && rest.len() >= 12 + length
    {
        let crc = crc32c::crc32c(&rest[21..12 + length]);
        bytes[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
        at += 12 + length;
    }
}

/// The whole batches at the beginning of a file.
fn beginning(bytes: &[u8]) -> Vec<u8> {
    let mut batches = Batches::new(bytes);
    let mut end = 0;
    while end < METADATA_BYTES && batches.next().is_some_and(|batch| batch.is_ok()) {
        end = batches.position();
    }
    bytes[..end].to_vec()
}

fn metadata_logs() -> [Decoder; 2] {
    let logs = fixtures("metadata", ".log").into_iter().map(|(_, bytes)| beginning(&bytes));
    let log = Decoder::new("metadata log", logs.collect(), |input| {
        let mut loaded = Loaded::default();
        let mut count = 0;
        for batch in decode_all(input) {
            let Ok(batch) = batch else { break };
            let bytes = batch.encode(LEVEL);
            let (again, _) = Batch::decode(&bytes).expect("what was encoded decodes");
            assert_eq!(again.record_count(), batch.record_count(), "as many records");
            // Of files that begin later than a log does, what is in them is told as it is.
            let _ = loaded.read(&batch);
            let _ = loaded.replay().image().records();
            count += 1;
        }
        count > 0
    });
    let snapshots = fixtures("metadata", ".checkpoint").into_iter().map(|(_, bytes)| bytes);
    let snapshot = Decoder::new("metadata snapshot", snapshots.collect(), |input| {
        let id = SnapshotId { end: Offset::new(251), epoch: LeaderEpoch::new(3) };
        let first = Loaded::from_snapshot(id, input).is_ok();
        first
            | Loaded::from_snapshot(SnapshotId::FORMATTED, input).is_ok()
            | read_bootstrap(input).is_ok()
    });
    let repair: Option<fn(&mut Vec<u8>)> = Some(|bytes| repair_batches(bytes));
    let bound = Bound { factor: 256, constant: 1 << 20 };
    [log, snapshot].map(|decoder| Decoder { repair, bound, weight: 30, ..decoder })
}

fn repair_snapshot(bytes: &mut Vec<u8>) {
    if bytes.len() >= 10 {
        if bytes[bytes.len() - 1] % 8 != 7 {
            let count = (bytes.len() - 10) / 46;
            bytes.truncate(10 + count * 46);
            bytes[6..10].copy_from_slice(&(count as i32).to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    }
}

fn producer_snapshots() -> Decoder {
    let mut samples: Vec<Vec<u8>> =
        fixtures("disk/golden-0", ".snapshot").into_iter().map(|(_, bytes)| bytes).collect();
    let one = samples[0][10..].to_vec();
    let mut many = samples[0][..10].to_vec();
    for id in 0..5_i64 {
        many.extend_from_slice(&id.to_be_bytes());
        many.extend_from_slice(&one[8..46]);
    }
    repair_snapshot(&mut many);
    samples.push(many);
    let decoder = Decoder::new("producer snapshot", samples, |input| {
        let Ok(states) = ProducerStates::decode_snapshot(input) else { return false };
        let once = states.encode_snapshot();
        let again = ProducerStates::decode_snapshot(&once).expect("what was encoded decodes");
        assert_eq!(again.encode_snapshot(), once, "a snapshot changes when it is encoded");
        true
    });
    let bound = Bound { factor: 256, constant: 1 << 20 };
    Decoder { repair: Some(repair_snapshot), bound, weight: 200, ..decoder }
}

/// A text file.
fn text(
    name: &str,
    samples: &[&str],
    run: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Decoder {
    let samples = samples.iter().map(|sample| sample.as_bytes().to_vec()).collect();
    let decoder = Decoder::new(name, samples, move |input| run(&String::from_utf8_lossy(input)));
    Decoder { kind: Kind::Text, ..decoder }
}

fn texts() -> Vec<Decoder> {
    let meta = String::from_utf8(fixture("metadata/meta.properties")).expect("text");
    let quorum = String::from_utf8(fixture("metadata/quorum-state")).expect("text");
    let server = String::from_utf8(fixture("configs/server.properties")).expect("text");
    let escapes = "a=b\\\n  c\n# no\n!no\nd\\:e : \\u0041\\t\nf\ng=\\\\\n";
    let checkpoint = "0\n3\norders 0 1234\norders 1 99\n__consumer_offsets 49 7\n";
    vec![
        text("meta.properties", &[&meta], |text| MetaProperties::parse(text).is_ok()),
        text("quorum-state", &[&quorum], |text| {
            let Ok(state) = QuorumState::parse(text.as_bytes()) else { return false };
            assert_eq!(QuorumState::parse(&state.to_text()), Ok(state), "it reads back");
            true
        }),
        text("checkpoint", &[checkpoint, "0\n0\n"], |text| {
            let Ok(offsets) = checkpoint::parse(text.as_bytes()) else { return false };
            let again = checkpoint::format(&offsets);
            assert_eq!(checkpoint::parse(again.as_bytes()), Ok(offsets), "it reads back");
            true
        }),
        text("leader-epoch-checkpoint", &["0\n3\n0 0\n4 100\n9 250\n", "0\n1\n0 0\n"], |text| {
            let Ok(epochs) = Epochs::parse(text.as_bytes()) else { return false };
            assert_eq!(Epochs::parse(epochs.format().as_bytes()), Ok(epochs), "it reads back");
            true
        }),
        text("partition.metadata", &["version: 0\ntopic_id: MSv9_snqTzOKFakxvvek6w"], |text| {
            partition_metadata::parse(text.as_bytes()).is_some()
        }),
        text(".kafka_cleanshutdown", &[r#"{"version":0,"brokerEpoch":12}"#], |text| {
            clean_shutdown::broker_epoch(text.as_bytes()).is_some()
        }),
        // Nearly every text has properties.
        Decoder {
            shares: (20, 0),
            ..text("properties", &[escapes, &meta], |text| properties::parse(text).is_ok())
        },
        Decoder {
            weight: 4,
            bound: Bound { factor: 512, constant: 4 << 20 },
            ..text("server.properties", &[&server, EMBEDDED], |text| {
                let sources = Sources { file: Some(("file", text)), ..Sources::default() };
                load(&sources).is_ok()
            })
        },
        text(
            "file names",
            &[
                "00000000000000000033.log",
                "00000000000000000251-0000000003.checkpoint",
                "orders-12",
                "orders-1.e4f0a8a2b5b84d5c9a36d7f1d0b1c2d3-delete",
                "00000000000000000033.timeindex.deleted",
            ],
            |text| {
                let directory = names::parse_directory_name(text).is_some();
                let file = names::parse_file_name(text);
                if let Some((offset, ending)) = file {
                    let again = names::file_name(offset, ending);
                    assert_eq!(names::parse_file_name(&again), file, "it reads back");
                }
                directory | file.is_some() | SnapshotId::from_file_name(text).is_some()
            },
        ),
    ]
}

/// Expressions that members of consumer groups subscribe with.
fn expressions() -> Decoder {
    let samples = [
        "orders-.*",
        "^(a|b+)[a-z0-9_]{1,5}\\.(?i:x)$",
        "\\pL+|[[:alpha:]]*\\d{2,}?",
        "(?P<name>a{3}){4}",
        "\\Qa.b\\E|\\x{41}[^\\n]",
    ];
    let decoder = text("regular expression", &samples, |text| match TopicPattern::new(text) {
        Ok(pattern) => {
            let _ = pattern.matches("orders-2026");
            true
        }
        Err(error) => {
            let _ = error.to_string();
            false
        }
    });
    // What is compiled may take 4 MiB, and several forms of it live at once.
    Decoder { weight: 4, bound: Bound { factor: 4096, constant: 64 << 20 }, ..decoder }
}

/// What members of classic groups send about themselves, and get: whoever is in a group writes it.
fn embedded() -> [Decoder; 2] {
    let topics: &[u8] = b"\0\0\0\x02\0\x06orders\0\x01t";
    let places: &[u8] = b"\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\0\0\0\0\x01";
    let note: &[u8] = b"\0\0\0\x02ab";
    let rest: &[u8] = b"\0\0\0\x05\0\x04rack";
    let subscriptions = vec![
        [&b"\0\0"[..], topics, note].concat(),
        [&b"\0\x01"[..], topics, note, places].concat(),
        [&b"\0\x03"[..], topics, b"\xff\xff\xff\xff", places, rest].concat(),
    ];
    let assignments = vec![[&b"\0\x01"[..], places, note].concat()];
    [
        Decoder::new("subscription", subscriptions, |input| {
            let _ = subscription::version(input);
            let all = Subscription::parse(input.clone());
            subscription::topics(input.clone()).is_ok() | all.is_ok()
        }),
        Decoder::new("assignment", assignments, |input| {
            subscription::decode_assignment(input.clone()).is_ok()
        }),
    ]
}

/// All of this file.
pub fn decoders() -> Vec<Decoder> {
    let mut all = vec![group_records(), metadata_records(), control_records()];
    all.extend(metadata_logs());
    all.push(producer_snapshots());
    all.push(expressions());
    all.extend(embedded());
    all.extend(texts());
    all
}
