//! What a running Apache Kafka answers to batches, sound and broken, beside what `validate` says;
//! and to sequences, in order and not, beside what `producers` says.
//!
//! Needs `KAFKA_BROKER`, host:port of an Apache Kafka 4.x that may be written to. Skipped without.
//! Compared are error codes, refused records, the log start, and the bytes that end up in the log.

#![expect(clippy::disallowed_methods, reason = "a client outside of the runtime reads the clock")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes};
use corelog::base::{LeaderEpoch, Offset, Timestamp};
use corelog::partition::producers::{Check, ProducerStates};
use corelog::protocol::ErrorCode;
use corelog::protocol::batch::{BatchView, TimestampType, sequence_after, stamp};
use corelog::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use corelog::protocol::compression::{Codec, decompress};
use corelog::protocol::validate::{Rules, Spent, producer_batches};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const CREATE_TOPICS: i16 = 19;

const RULES: Rules = Rules {
    produce_version: 8,
    timestamp_type: TimestampType::Create,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
    compression: None,
    compacted: false,
    batch_bytes_max: 1_048_588,
    segment_bytes_max: 1 << 30,
    unpacked_bytes_max: 256 << 20,
};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

struct Kafka(TcpStream);

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.put_i16(text.len() as i16);
    to.extend_from_slice(text.as_bytes());
}

fn get_text(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(from.get_i16()).ok()?;
    Some(from.split_to(length))
}

/// A topic's name, its settings, and the rules that these make.
type Topic<'a> = (&'a str, &'a [(&'a str, &'a str)], Rules);

/// What Produce says of one partition.
#[derive(Debug)]
struct Answer {
    error: i16,
    base_offset: i64,
    append_time: i64,
    log_start: i64,
    refused: Vec<i32>,
    has_message: bool,
}

impl Kafka {
    fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Bytes {
        let mut frame = Vec::new();
        frame.put_i32(4 + 4 + 6 + body.len() as i32);
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(1);
        put_text(&mut frame, "test");
        frame.extend_from_slice(body);
        self.0.write_all(&frame).expect("sends");
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("answers");
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer).expect("answers");
        Bytes::from(answer).slice(4..)
    }

    fn create(&mut self, topic: &str, configs: &[(&str, &str)]) {
        let mut body = Vec::new();
        body.put_i32(1);
        put_text(&mut body, topic);
        body.put_i32(1);
        body.put_i16(1);
        body.put_i32(0);
        body.put_i32(configs.len() as i32);
        for (name, value) in configs {
            put_text(&mut body, name);
            put_text(&mut body, value);
        }
        body.put_i32(10_000);
        body.put_u8(0);
        let mut answer = self.ask(CREATE_TOPICS, 4, &body);
        answer.advance(4 + 4);
        get_text(&mut answer);
        assert_eq!(answer.get_i16(), 0, "{topic} is created");
        // Until the broker leads the partition, it does not get as far as to miss the records.
        let invalid_record = ErrorCode::InvalidRecord as i16;
        while self.produce(8, topic, &[]).error != invalid_record {}
    }

    fn produce(&mut self, version: i16, topic: &str, records: &[u8]) -> Answer {
        let mut body = Vec::new();
        body.put_i16(-1);
        body.put_i16(-1);
        body.put_i32(10_000);
        body.put_i32(1);
        put_text(&mut body, topic);
        body.put_i32(1);
        body.put_i32(0);
        body.put_i32(records.len() as i32);
        body.extend_from_slice(records);
        let mut answer = self.ask(PRODUCE, version, &body);
        answer.advance(4);
        get_text(&mut answer);
        answer.advance(4 + 4);
        let mut found = Answer {
            error: answer.get_i16(),
            base_offset: answer.get_i64(),
            append_time: answer.get_i64(),
            log_start: answer.get_i64(),
            refused: Vec::new(),
            has_message: false,
        };
        if version >= 8 {
            for _ in 0..answer.get_i32() {
                found.refused.push(answer.get_i32());
                get_text(&mut answer);
            }
            found.has_message = get_text(&mut answer).is_some();
        }
        found
    }

    fn fetch(&mut self, topic: &str, offset: i64) -> Bytes {
        let mut body = Vec::new();
        body.put_i32(-1);
        body.put_i32(100);
        body.put_i32(1);
        body.put_i32(10 << 20);
        body.put_u8(0);
        body.put_i32(1);
        put_text(&mut body, topic);
        body.put_i32(1);
        body.put_i32(0);
        body.put_i64(offset);
        body.put_i32(10 << 20);
        let mut answer = self.ask(FETCH, 4, &body);
        answer.advance(4 + 4);
        get_text(&mut answer);
        answer.advance(4 + 4 + 2 + 8 + 8);
        let aborted = answer.get_i32();
        assert!(aborted <= 0);
        let length = answer.get_i32();
        answer.split_to(length.max(0) as usize)
    }
}

fn changed(batch: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn put(batch: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    changed(batch, |bytes| bytes[at..at + field.len()].copy_from_slice(field))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn batch(builder: BatchBuilder, timestamps: &[i64]) -> Bytes {
    let mut builder = builder;
    for (at, timestamp) in timestamps.iter().enumerate() {
        let key = [at as u8; 3];
        let key = (at != 1).then_some(&key[..]);
        builder.append(&NewRecord {
            timestamp: *timestamp,
            key,
            value: Some(&[9; 200]),
            headers: &[],
        });
    }
    builder.build().expect("builds")
}

/// The cases, each with the Produce version to send it by.
fn cases() -> Vec<(String, i16, Vec<u8>)> {
    let mut cases = Vec::new();
    let now = now();
    let producer = ProducerStamp { id: 900, epoch: 0, base_sequence: -1 };
    for codec in CODECS {
        let plain = || BatchBuilder::new().compression(codec);
        let good = batch(plain(), &[now - 20, now, now - 10]);
        let mut add = |name: &str, bytes: &[u8]| {
            cases.push((format!("{name}, {}", codec.name()), 8, bytes.to_vec()));
        };
        add("good", &good);
        add("nothing", &[]);
        add("cut off", &good[..good.len() - 1]);
        add("a few bytes", &good[..16]);
        add("two batches", &[&good[..], &good[..]].concat());
        add("a cut-off second", &[&good[..], &good[..good.len() - 1]].concat());
        add("zeros behind", &[&good[..], &[0; 11]].concat());
        add("more zeros behind", &[&good[..], &[0; 100]].concat());
        for magic in [0, 1, 3, 0x7f, 0xff] {
            add(&format!("magic {magic}"), &put(&good, 16, &[magic]));
        }
        for length in [0, -1, 13, 14, 20, 48, 49, 50, 1 << 20, i32::MAX, i32::MIN] {
            add(&format!("length {length}"), &put(&good, 8, &length.to_be_bytes()));
        }
        let mut flipped = good.to_vec();
        flipped[100] ^= 1;
        add("a flipped bit", &flipped);
        add("base offset 1", &put(&good, 7, &[1]));
        add("base offset -1", &put(&good, 0, &[0xff; 8]));
        for delta in [-1, 0, 1, 3, i32::MAX, i32::MIN] {
            add(&format!("last delta {delta}"), &put(&good, 23, &delta.to_be_bytes()));
            let both = put(&good, 23, &delta.to_be_bytes());
            let count = delta.wrapping_add(1).to_be_bytes();
            if codec == Codec::None {
                add(&format!("count and last delta {delta}"), &put(&both, 57, &count));
            }
        }
        add("control", &put(&good, 22, &[0x20 | codec as u8]));
        add("delete horizon", &put(&good, 22, &[0x40 | codec as u8]));
        add("unknown attributes", &put(&good, 21, &[0x81, 0x80 | codec as u8]));
        for number in [5, 6, 7] {
            add(&format!("codec {number}"), &put(&good, 22, &[number]));
        }
        add("producer without sequence", &batch(plain().producer(producer), &[now]));
        let hour = 3_600_000;
        for (name, times) in [
            ("no timestamps", vec![-1, -1, -1]),
            ("one without", vec![-1, now, -1]),
            ("old", vec![0, 5, 3]),
            ("in the future", vec![now, now + 2 * hour, now]),
            ("all in the future", vec![now + 3 * hour, now + 2 * hour, now + 2 * hour]),
            ("very far", vec![i64::MAX, now, 0]),
            ("a single one", vec![now]),
        ] {
            add(name, &batch(plain(), &times));
        }
        for claimed in [-1, i64::MAX] {
            let name = format!("largest timestamp {claimed}");
            add(&name, &put(&good, 35, &claimed.to_be_bytes()));
        }
        let append_time = plain().append_time(Timestamp::from_millis(now - 5));
        let claiming = batch(append_time, &[now - 20, now]);
        add("append time set", &claiming);
        add("append time set to none", &put(&claiming, 35, &[0xff; 8]));
        let far = (now + 2 * hour).to_be_bytes();
        add("append time set in the future", &put(&claiming, 35, &far));
        add("too large", &batch(plain(), &vec![now; 10_000]));
        cases.push((format!("produce 6, {}", codec.name()), 6, good.to_vec()));
    }
    // Records of uncompressed batches.
    let good = batch(BatchBuilder::new(), &[now - 20, now, now - 10]);
    for at in 57..good.len().min(150) {
        // The first offset delta: these batches are renumbered, where Kafka keeps them odd.
        if at == 65 {
            continue;
        }
        for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
            cases.push((format!("byte {at} is {value}"), 8, put(&good, at, &[value])));
        }
    }
    cases
}

/// The answer that `validate` leads to, in the same words, and the bytes for the log.
fn ours(records: &Bytes, rules: &Rules, now: i64) -> (i16, Vec<i32>, bool, bool, Option<Bytes>) {
    match producer_batches(records, rules, Timestamp::from_millis(now), &mut Spent::default()) {
        Ok(validated) => (0, Vec::new(), false, true, Some(validated.bytes)),
        Err(refused) => {
            let code = ErrorCode::from(refused.reason) as i16;
            let indexes = refused.record_errors.iter().map(|record| record.batch_index).collect();
            (code, indexes, refused.message.is_some(), refused.names_log_start, None)
        }
    }
}

/// Whether two batches are the same, but for how well their payload is compressed.
fn same_batch(theirs: &[u8], ours: &[u8]) -> bool {
    if theirs == ours {
        return true;
    }
    let (Ok(theirs), Ok(ours)) = (BatchView::parse(theirs), BatchView::parse(ours)) else {
        return false;
    };
    let mut header = ours.header;
    header.crc = theirs.header.crc;
    header.batch_length = theirs.header.batch_length;
    let payloads = (decompress(&theirs, 1 << 30), decompress(&ours, 1 << 30));
    theirs.header.codec() != Ok(Codec::None)
        && theirs.is_intact()
        && header == theirs.header
        && payloads.0.is_ok()
        && payloads.0 == payloads.1
}

#[test]
fn apache_kafka_answers_the_same() {
    let Ok(address) = std::env::var("KAFKA_BROKER") else {
        eprintln!("skipped: KAFKA_BROKER is not set");
        return;
    };
    let mut kafka = Kafka(TcpStream::connect(address).expect("connects"));
    let append_time = TimestampType::LogAppend;
    let compacted = [("cleanup.policy", "compact")];
    let window = [("message.timestamp.before.max.ms", "86400000")];
    let topics: [Topic; 7] = [
        ("plain", &[], RULES),
        ("compacted", &compacted, Rules { compacted: true, ..RULES }),
        (
            "append-time",
            &[("message.timestamp.type", "LogAppendTime")],
            Rules { timestamp_type: append_time, ..RULES },
        ),
        ("window", &window, Rules { timestamp_before_max_ms: 86_400_000, ..RULES }),
        (
            "gzip",
            &[("compression.type", "gzip")],
            Rules { compression: Some(Codec::Gzip.into()), ..RULES },
        ),
        (
            "uncompressed",
            &[("compression.type", "uncompressed"), ("message.timestamp.type", "LogAppendTime")],
            Rules { compression: Some(Codec::None.into()), timestamp_type: append_time, ..RULES },
        ),
        (
            "segment",
            &[("segment.bytes", "1048576"), ("max.message.bytes", "10000000")],
            Rules { batch_bytes_max: 10_000_000, segment_bytes_max: 1 << 20, ..RULES },
        ),
    ];
    let mut count = 0;
    let mut differences: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (topic, configs, rules) in topics {
        let name = format!("{topic}-{}", now());
        kafka.create(&name, configs);
        for (case, version, records) in cases() {
            count += 1;
            let theirs = kafka.produce(version, &name, &records);
            let records = Bytes::from(records);
            let rules = Rules { produce_version: version, ..rules };
            let clock = if theirs.append_time >= 0 { theirs.append_time } else { now() };
            let (error, refused, has_message, names_log_start, stored) =
                ours(&records, &rules, clock);
            let mut differ = |what: String| {
                differences.entry(what).or_default().push(format!("{topic}: {case}"));
            };
            if theirs.error != error {
                differ(format!("error {} there, {error} here", theirs.error));
                continue;
            }
            if version >= 8 && (&theirs.refused, theirs.has_message) != (&refused, has_message) {
                differ(format!("refused {:?} there, {refused:?} here", theirs.refused));
            }
            if (theirs.log_start >= 0) != names_log_start {
                differ(format!("log start {} there", theirs.log_start));
            }
            let Some(stored) = stored else { continue };
            let [prefix, rest] =
                stamp(&stored, Offset::new(theirs.base_offset as u64), LeaderEpoch::ZERO);
            let ours = [prefix, rest].concat();
            let theirs = kafka.fetch(&name, theirs.base_offset);
            let theirs = BatchView::parse(&theirs).expect("a batch").bytes();
            if !same_batch(theirs, &ours) {
                differ("other bytes in the log".to_owned());
            }
        }
    }
    for (difference, cases) in &differences {
        eprintln!("{difference}: {} cases, {:?}", cases.len(), &cases[..cases.len().min(12)]);
    }
    eprintln!("{count} cases");
    assert!(differences.is_empty());
}

#[test]
fn apache_kafka_follows_sequences_the_same() {
    let Ok(address) = std::env::var("KAFKA_BROKER") else {
        eprintln!("skipped: KAFKA_BROKER is not set");
        return;
    };
    let mut kafka = Kafka(TcpStream::connect(address).expect("connects"));
    let topic = format!("sequences-{}", now());
    kafka.create(&topic, &[]);
    let mut state = 88_172_645_463_325_252u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut states = ProducerStates::new();
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for id in 0..60 {
        // Sent so far, to be sent again: epoch, sequence, count.
        let mut sent: Vec<(i16, i32, i32)> = Vec::new();
        let (mut epoch, mut next) = (0, if id % 2 == 0 { 0 } else { i32::MAX - 20 });
        for step in 0..60 {
            let (sequence, count) = match random(10) {
                0 if !sent.is_empty() => {
                    let again = sent[random(sent.len() as u64) as usize];
                    (epoch, next) = (again.0, again.1);
                    (again.1, again.2)
                }
                1 => (sequence_after(next, random(3) as i32), 1 + random(4) as i32),
                2 => {
                    epoch += random(3) as i16 - 1;
                    (if random(2) == 0 { 0 } else { next }, 1 + random(4) as i32)
                }
                3 => ((next - random(5) as i32).max(0), 1 + random(4) as i32),
                _ => (next, 1 + random(6) as i32),
            };
            epoch = epoch.max(0);
            let producer = ProducerStamp { id, epoch, base_sequence: sequence };
            let times: Vec<i64> = (0..count).map(|at| now() + i64::from(at)).collect();
            let bytes = batch(BatchBuilder::new().producer(producer), &times);
            let mut header = BatchView::parse(&bytes).expect("a batch").header;

            let theirs = kafka.produce(8, &topic, &bytes);
            let theirs_first = (theirs.error, theirs.base_offset, theirs.append_time);
            let ours = states.check(&header);
            let expected = match ours {
                Ok(Check::Append) => {
                    header.base_offset = theirs.base_offset;
                    states.record(&header);
                    next = sequence_after(sequence, count);
                    sent.push((epoch, sequence, count));
                    (0, theirs.base_offset, -1)
                }
                Ok(Check::Duplicate { base_offset, timestamp, .. }) => {
                    next = sequence_after(sequence, count);
                    (0, base_offset.to_wire(), timestamp.to_wire())
                }
                Err(error) => (ErrorCode::from(error) as i16, -1, -1),
            };
            assert_eq!(theirs_first, expected, "producer {id}, step {step}: {producer:?} {count}");
            let outcome = match ours {
                Ok(Check::Append) => "appended".to_owned(),
                Ok(Check::Duplicate { .. }) => "resent".to_owned(),
                Err(error) => format!("{error:?}"),
            };
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    eprintln!("{outcomes:?}");
    assert!(outcomes.len() == 4 && outcomes.values().all(|count| *count > 10));
}
