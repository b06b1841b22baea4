//! Record batches: their headers, codecs, records, the checks of a leader, and older formats.

use bytes::Bytes;
use corelog::base::{LeaderEpoch, Offset, Timestamp};
use corelog::protocol::batch::{
    BatchHeader, BatchView, Batches, HEADER_BYTES, TimestampType, stamp,
};
use corelog::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use corelog::protocol::compression::{Codec, Compression, compress, decompress, decompress_bytes};
use corelog::protocol::record::{ControlType, EndMarker, HeaderView, Outcome, Records};
use corelog::protocol::timestamps::{first_at_or_after, max_timestamp_record};
use corelog::protocol::validate::{Rules, Spent, claims_transaction, producer_batches};
use corelog::runtime::sim::Random;

use crate::samples::fixture;
use crate::{Bound, Decoder};

/// What a batch may unpack to here.
const UNPACKED_BYTES_MAX: usize = 256 << 10;

/// What codecs take for themselves: tables, windows and blocks, whatever the input.
const CODEC_BYTES: usize = 24 << 20;

const NOW: Timestamp = Timestamp::from_millis(1_767_000_000_000);

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

const CODEC_BOUND: Bound = Bound { factor: 64, constant: CODEC_BYTES };

/// The batch of a producer, with everything that records can have.
fn batch(codec: Codec, record_count: i32, has_sequence: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(codec);
    if has_sequence {
        builder = builder.producer(ProducerStamp { id: 4000, epoch: 3, base_sequence: 70 });
    }
    for number in 0..record_count {
        let value = format!("value {number} ").repeat(3);
        let headers =
            [HeaderView { key: b"h", value: Some(b"1") }, HeaderView { key: b"", value: None }];
        builder.append(&NewRecord {
            timestamp: NOW.to_wire() + i64::from(number % 3),
            key: (number % 2 == 0).then_some(&b"key"[..]),
            value: (number % 5 != 4).then_some(value.as_bytes()),
            headers: &headers[..number as usize % 3],
        });
    }
    builder.build().expect("a small batch").to_vec()
}

fn end_marker() -> Vec<u8> {
    let mut builder = BatchBuilder::new().control().transactional();
    builder = builder.producer(ProducerStamp { id: 9, epoch: 1, base_sequence: -1 });
    builder.append_end_marker(EndMarker { outcome: Outcome::Aborted, coordinator_epoch: 3 }, NOW);
    builder.build().expect("a small batch").to_vec()
}

/// A message of the formats before record batches, which are refused.
fn old_message(magic: u8) -> Vec<u8> {
    let mut body = vec![magic, 0];
    if magic > 0 {
        body.extend_from_slice(&NOW.to_wire().to_be_bytes());
    }
    body.extend_from_slice(&(-1_i32).to_be_bytes());
    body.extend_from_slice(&5_i32.to_be_bytes());
    body.extend_from_slice(b"value");
    let mut message = 0_i64.to_be_bytes().to_vec();
    message.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    message.extend_from_slice(&0x1234_5678_u32.to_be_bytes());
    message.extend_from_slice(&body);
    message
}

fn batches() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = CODECS.iter().map(|codec| batch(*codec, 7, true)).collect();
    all.push(batch(Codec::None, 1, false));
    all.push(batch(Codec::Lz4, 40, false));
    all.push(end_marker());
    for name in ["gzip", "snappy", "lz4", "zstd"] {
        all.push(fixture(&format!("batches/{name}.bin")));
    }
    all
}

/// Makes the checksum of the first batch right, and in most of them the length.
fn repair_batch(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    if bytes[HEADER_BYTES - 1] % 4 != 3 {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
    }
    if let Ok(header) = BatchHeader::parse(bytes) {
        let end = header.size_bytes().min(bytes.len());
        let crc = crc32c::crc32c(&bytes[21..end]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Looks at everything in a batch; how many records it has.
fn visit(batch: &BatchView<'_>) -> usize {
    let header = &batch.header;
    let _ = (header.next_offset(), header.last_sequence(), header.delete_horizon_ms());
    let _ = (header.producer(), header.timestamp_type(), batch.is_intact());
    let mut written = [0; HEADER_BYTES];
    header.write(&mut written);
    assert_eq!(written, batch.bytes()[..HEADER_BYTES], "a header is written as it was read");
    let _ = EndMarker::from_batch(batch);
    let Ok(payload) = decompress(batch, UNPACKED_BYTES_MAX) else { return 0 };
    let _ = first_at_or_after(batch, NOW, Offset::new(3), UNPACKED_BYTES_MAX);
    let _ = max_timestamp_record(batch, UNPACKED_BYTES_MAX);
    records(&payload, header)
}

fn records(payload: &[u8], header: &BatchHeader) -> usize {
    let mut count = 0;
    for record in Records::new(payload, header.record_count) {
        let Ok(record) = record else { break };
        let _ = (header.offset_of(&record), header.timestamp_of(&record));
        let said = record.headers.left();
        assert_eq!(record.headers.count(), said as usize, "headers were walked before");
        if let Some(key) = record.key {
            let _ = ControlType::from_key(key);
        }
        let _ = EndMarker::from_record(&record);
        count += 1;
    }
    count
}

/// Rules that the bytes choose among.
fn rules(bytes: &[u8]) -> Rules {
    let chosen = bytes.get(bytes.len() / 2).copied().unwrap_or(0);
    let codec = CODECS[usize::from(chosen % 5)];
    Rules {
        produce_version: if chosen & 0x10 == 0 { 11 } else { 3 },
        timestamp_type: match chosen & 0x20 {
            0 => TimestampType::Create,
            _ => TimestampType::LogAppend,
        },
        timestamp_before_max_ms: if chosen & 0x40 == 0 { i64::MAX } else { 1000 },
        timestamp_after_max_ms: 3_600_000,
        compression: (chosen & 0x80 != 0).then(|| Compression::from(codec)),
        compacted: chosen & 0x08 != 0,
        batch_bytes_max: 64 << 10,
        segment_bytes_max: 32 << 10,
        unpacked_bytes_max: 64 << 20,
    }
}

fn produce(input: &Bytes) -> bool {
    let _ = claims_transaction(input);
    let Ok(valid) = producer_batches(input, &rules(input), NOW, &mut Spent::default()) else {
        return false;
    };
    let view = BatchView::parse(&valid.bytes).expect("a valid batch is one");
    assert!(view.is_intact(), "a valid batch has its checksum");
    assert_eq!(view.header, valid.header, "the header is the batch's");
    assert_eq!(view.bytes().len(), valid.bytes.len(), "nothing lies behind it");
    visit(&view);
    let [front, rest] = stamp(&valid.bytes, Offset::new(77), LeaderEpoch::new(5));
    let stored = [&front[..], &rest[..]].concat();
    let stored = BatchView::parse(&stored).expect("a stamped batch is one");
    assert!(stored.is_intact() && stored.header.base_offset == 77, "a stamp changes two fields");
    true
}

fn codec(codec: Codec, name: &str) -> Decoder {
    let mut random = Random::new(3);
    let texts: [Vec<u8>; 4] = [
        b"one two three one two three one two three".to_vec(),
        vec![0; 5000],
        (0..600).map(|_| random.draw() as u8).collect(),
        (0..3000).map(|at| b"abcd"[at * at % 4]).collect(),
    ];
    let compressed = texts.iter().map(|text| {
        let mut out = Vec::new();
        compress(codec.into(), text, &mut out).expect("compresses");
        out
    });
    let mut samples: Vec<Vec<u8>> = compressed.collect();
    samples.push(fixture(&format!("batches/{name}.bin"))[HEADER_BYTES..].to_vec());
    if codec == Codec::Snappy {
        // Without the frame of snappy-java, as librdkafka writes it.
        samples.push(samples[0][20..].to_vec());
    }
    let run = move |input: &Bytes| decompress_bytes(codec, input, UNPACKED_BYTES_MAX).is_ok();
    Decoder { bound: CODEC_BOUND, weight: 150, ..Decoder::new(name, samples, run) }
}

/// All of this file.
pub fn decoders() -> Vec<Decoder> {
    let mut sets = batches();
    sets.push([batch(Codec::None, 2, false), batch(Codec::Snappy, 3, true)].concat());
    let stored = Decoder::new("stored batches", sets.clone(), |input| {
        Batches::new(input).map_while(Result::ok).map(|batch| visit(&batch)).sum::<usize>() > 0
    });
    sets.extend([old_message(0), old_message(1)]);
    let plain = batch(Codec::None, 7, true);
    let payloads = vec![
        [&[7], &plain[HEADER_BYTES..]].concat(),
        [&[1], &batch(Codec::None, 1, false)[HEADER_BYTES..]].concat(),
    ];
    let header = BatchHeader::parse(&plain).expect("a batch");
    let only_records = Decoder::new("records", payloads, move |input| {
        let Some((count, payload)) = input.split_first() else { return false };
        let header = BatchHeader { record_count: i32::from(*count as i8), ..header };
        records(payload, &header) == usize::from(*count)
    });
    let repair: Option<fn(&mut Vec<u8>)> = Some(|bytes| repair_batch(bytes));
    let mut all = vec![
        Decoder { bound: CODEC_BOUND, repair, weight: 400, ..stored },
        Decoder {
            bound: CODEC_BOUND,
            repair,
            weight: 600,
            ..Decoder::new("produced batches", sets, produce)
        },
        Decoder { weight: 300, ..only_records },
    ];
    let named = [
        (Codec::Gzip, "gzip"),
        (Codec::Snappy, "snappy"),
        (Codec::Lz4, "lz4"),
        (Codec::Zstd, "zstd"),
    ];
    all.extend(named.map(|(one, name)| codec(one, name)));
    all
}
