//! Batches that are taken, changed and refused.

use super::*;
use crate::protocol::builder::NewRecord;
use crate::protocol::record::HeaderView;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

const RULES: Rules = Rules {
    produce_version: 12,
    timestamp_type: TimestampType::Create,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
    compression: None,
    compacted: false,
    batch_bytes_max: 1_048_588,
    segment_bytes_max: 1 << 30,
    unpacked_bytes_max: DECOMPRESSED_BYTES_MAX,
};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Three records with keys, a second apart, the last at `NOW`.
fn sample(builder: BatchBuilder) -> Bytes {
    records(builder, &[-2_000, -1_000, 0].map(|ago| NOW.to_wire() + ago))
}

fn records(mut builder: BatchBuilder, timestamps: &[i64]) -> Bytes {
    let headers = [HeaderView { key: b"h", value: None }];
    for timestamp in timestamps {
        let (key, value) = (Some(&b"key"[..]), Some(&[7; 500][..]));
        builder.append(&NewRecord { timestamp: *timestamp, key, value, headers: &headers });
    }
    builder.build().expect("builds")
}

fn keyless(codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new().compression(codec);
    for key in [None, Some(&b"key"[..]), None] {
        builder.append(&NewRecord { timestamp: 1, key, value: None, headers: &[] });
    }
    builder.build().expect("builds")
}

/// The batch with `change` made to its bytes; with the right checksum again.
fn changed(batch: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn put(batch: &Bytes, at: usize, field: &[u8]) -> Bytes {
    changed(batch, |bytes| bytes[at..at + field.len()].copy_from_slice(field))
}

fn outcome(bytes: &Bytes, rules: &Rules) -> Result<Validated, Refused> {
    let validated = producer_batches(bytes, rules, NOW, &mut Spent::default())?;
    let batch = BatchView::parse(&validated.bytes).expect("a batch");
    assert_eq!(batch.header, validated.header);
    assert!(batch.is_intact());
    Ok(validated)
}

fn timestamps(validated: &Validated) -> Vec<(i32, i64)> {
    let batch = BatchView::parse(&validated.bytes).expect("a batch");
    let bytes = decompress(&batch, 1 << 20).expect("decompresses");
    Records::new(&bytes, batch.header.record_count)
        .map(|record| record.map(|r| (r.offset_delta, batch.header.timestamp_of(&r))))
        .collect::<Result<_, _>>()
        .expect("records")
}

#[test]
fn ordinary_batches_pass_as_they_came() {
    for codec in CODECS {
        let bytes = sample(BatchBuilder::new().compression(codec));
        let validated = outcome(&bytes, &RULES).expect("passes");
        assert!(!validated.rewritten, "{codec:?}");
        assert_eq!(validated.bytes.as_ptr(), bytes.as_ptr(), "{codec:?}: not copied");
        assert_eq!(validated.append_time, None);
        assert_eq!(validated.max_timestamp_offset_delta, 2);
        assert_eq!(validated.header.max_timestamp, NOW.to_wire(), "{codec:?}");
    }
}

#[test]
fn bytes_that_are_not_one_batch_are_refused() {
    use Reason::{Corrupt, InvalidRecord, MessageTooLarge, RecordListTooLarge, Unreadable};
    let good = sample(BatchBuilder::new());
    let length = |length: i32| put(&good, 8, &length.to_be_bytes());
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let damaged = {
        let mut bytes = good.to_vec();
        bytes[100] ^= 1;
        Bytes::from(bytes)
    };
    let short = {
        let mut bytes = good[..60].to_vec();
        bytes[8..12].copy_from_slice(&48i32.to_be_bytes());
        changed(&bytes.into(), |_| ())
    };
    let small = |size: usize| Rules { batch_bytes_max: size as u32, ..RULES };
    let segment = |size: usize| Rules { segment_bytes_max: size as u32, ..RULES };
    let cases: [(&str, Bytes, Rules, Option<Reason>); 24] = [
        ("nothing", Bytes::new(), RULES, Some(InvalidRecord)),
        ("cut off", good.slice(..good.len() - 1), RULES, Some(InvalidRecord)),
        ("a few bytes", good.slice(..16), RULES, Some(InvalidRecord)),
        ("two batches", twice.clone(), RULES, Some(InvalidRecord)),
        ("a cut-off second", twice.slice(..twice.len() - 1), RULES, None),
        ("magic 0", put(&good, 16, &[0]), RULES, Some(InvalidRecord)),
        ("magic 1", put(&good, 16, &[1]), RULES, Some(InvalidRecord)),
        ("magic 3", put(&good, 16, &[3]), RULES, Some(Corrupt)),
        ("negative magic", put(&good, 16, &[0xff]), RULES, Some(Corrupt)),
        ("length 0", length(0), RULES, Some(Corrupt)),
        ("negative length", length(-1), RULES, Some(Corrupt)),
        ("length too small", length(49), RULES, Some(Corrupt)),
        ("no room for a header", short, RULES, Some(Corrupt)),
        ("length too large", length(1 << 20), RULES, Some(InvalidRecord)),
        ("huge length", length(i32::MAX - 12), RULES, Some(InvalidRecord)),
        ("length above Java's", length(i32::MAX), RULES, Some(Unreadable)),
        ("a flipped bit", damaged.clone(), RULES, Some(Corrupt)),
        ("base offset 1", put(&good, 7, &[1]), RULES, Some(InvalidRecord)),
        ("as large as it may be", good.clone(), small(good.len()), None),
        ("larger", good.clone(), small(good.len() - 1), Some(MessageTooLarge)),
        ("larger and damaged", damaged, small(good.len() - 1), Some(MessageTooLarge)),
        ("fits the segment", good.clone(), segment(good.len()), None),
        ("too large for it", good.clone(), segment(good.len() - 1), Some(RecordListTooLarge)),
        ("codec 5", put(&good, 22, &[5]), RULES, Some(Unreadable)),
    ];
    for (name, bytes, rules, expected) in cases {
        let refused = outcome(&bytes, &rules).err();
        assert_eq!(refused.as_ref().map(|refused| refused.reason), expected, "{name}");
        assert!(refused.is_none_or(|refused| refused.record_errors.is_empty()), "{name}");
    }
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let good = sample(BatchBuilder::new());
    let producer = ProducerStamp { id: 1, epoch: 0, base_sequence: -1 };
    let cases: [(&str, Bytes, bool); 11] = [
        ("good", good.clone(), true),
        ("last delta too small", put(&good, 23, &1i32.to_be_bytes()), false),
        ("last delta too large", put(&good, 23, &3i32.to_be_bytes()), false),
        ("negative last delta", put(&good, 23, &(-1i32).to_be_bytes()), false),
        ("count 0", put(&good, 57, &0i32.to_be_bytes()), false),
        (
            "count and delta of one less",
            { put(&put(&good, 57, &2i32.to_be_bytes()), 23, &1i32.to_be_bytes()) },
            false,
        ),
        (
            "count and delta of one more",
            { put(&put(&good, 57, &4i32.to_be_bytes()), 23, &3i32.to_be_bytes()) },
            false,
        ),
        (
            "huge count",
            { put(&put(&good, 57, &i32::MAX.to_be_bytes()), 23, &(i32::MAX - 1).to_be_bytes()) },
            false,
        ),
        ("control", sample(BatchBuilder::new().control()), false),
        ("producer without sequence", sample(BatchBuilder::new().producer(producer)), false),
        (
            "producer and sequence",
            {
                let producer = ProducerStamp { base_sequence: 0, ..producer };
                sample(BatchBuilder::new().producer(producer))
            },
            true,
        ),
    ];
    for (name, bytes, passes) in cases {
        let reason = outcome(&bytes, &RULES).err().map(|refused| refused.reason);
        assert_eq!(reason, (!passes).then_some(Reason::InvalidRecord), "{name}");
    }
}

#[test]
fn zstd_needs_produce_7() {
    let bytes = sample(BatchBuilder::new().compression(Codec::Zstd));
    let old = Rules { produce_version: 6, ..RULES };
    let refused = outcome(&bytes, &old).expect_err("too old");
    assert_eq!(refused.reason, Reason::UnsupportedCompression);
    assert!(outcome(&bytes, &Rules { produce_version: 7, ..RULES }).is_ok());
    let gzip = sample(BatchBuilder::new().compression(Codec::Gzip));
    assert!(outcome(&gzip, &old).is_ok());
}

#[test]
fn timestamps_outside_of_the_window_are_named() {
    let late = NOW.to_wire() + RULES.timestamp_after_max_ms;
    let past = Rules { timestamp_before_max_ms: 5_000, ..RULES };
    let early = NOW.to_wire() - past.timestamp_before_max_ms;
    let cases: [(&str, [i64; 3], Rules, &[i32]); 6] = [
        ("at the limit", [late, 0, -1], RULES, &[]),
        ("one too late", [late, late + 1, -1], RULES, &[1]),
        ("two too late", [late + 1, 3, i64::MAX], RULES, &[0, 2]),
        ("at the past limit", [early, early + 1, -1], past, &[]),
        ("too early", [early, early - 1, early - 2], past, &[1, 2]),
        ("both ways", [late + 1, early - 1, 5], past, &[0, 1, 2]),
    ];
    for (name, times, rules, expected) in cases {
        for codec in CODECS {
            let bytes = records(BatchBuilder::new().compression(codec), &times);
            let refused = outcome(&bytes, &rules).err();
            let indexes: Vec<i32> = refused
                .iter()
                .flat_map(|refused| &refused.record_errors)
                .map(|record| record.batch_index)
                .collect();
            assert_eq!(indexes, expected, "{name}, {codec:?}");
            if let Some(refused) = refused {
                assert_eq!(refused.reason, Reason::InvalidTimestamp);
                assert!(refused.message.is_some() && refused.names_log_start);
            }
        }
    }
}

#[test]
fn compacted_topics_want_keys() {
    let rules = Rules { compacted: true, ..RULES };
    for codec in CODECS {
        assert!(outcome(&keyless(codec), &RULES).is_ok(), "{codec:?}");
        let refused = outcome(&keyless(codec), &rules).expect_err("lacks keys");
        assert_eq!(refused.reason, Reason::InvalidRecord, "{codec:?}");
        let indexes = refused.record_errors.iter().map(|record| record.batch_index);
        assert_eq!(indexes.collect::<Vec<_>>(), [0, 2], "{codec:?}");
        let keyed = sample(BatchBuilder::new().compression(codec));
        assert!(!outcome(&keyed, &rules).expect("has keys").rewritten, "{codec:?}");
    }
    let many = {
        let mut builder = BatchBuilder::new();
        (0..2_000).for_each(|_| builder.append(&NewRecord::default()));
        builder.build().expect("builds")
    };
    let refused = outcome(&many, &rules).expect_err("lacks keys");
    assert_eq!(refused.record_errors.len(), RECORD_ERROR_COUNT_MAX);
}

#[test]
fn the_largest_timestamp_is_that_of_the_records() {
    let good = sample(BatchBuilder::new());
    for claimed in [0, -1, i64::MAX, NOW.to_wire() - 1] {
        let lying = put(&good, 35, &claimed.to_be_bytes());
        let validated = outcome(&lying, &RULES).expect("is mended");
        assert!(validated.rewritten);
        assert_eq!(validated.bytes, good, "{claimed}");
    }
    // Of compressed batches the header is believed, unless it can not be right.
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let good = sample(BatchBuilder::new().compression(codec));
        let claims = [(-1, true), (NOW.to_wire() - 500, false), (i64::MAX, true)];
        for (claimed, mended) in claims {
            let lying = put(&good, 35, &claimed.to_be_bytes());
            let validated = outcome(&lying, &RULES).expect("passes");
            assert_eq!(validated.rewritten, mended, "{codec:?} {claimed}");
            let expected = if mended { NOW.to_wire() } else { claimed };
            assert_eq!(validated.header.max_timestamp, expected, "{codec:?} {claimed}");
        }
    }
}

#[test]
fn topics_with_append_time_get_the_brokers_time() {
    let rules = Rules { timestamp_type: TimestampType::LogAppend, ..RULES };
    for codec in CODECS {
        // Times that would be refused otherwise do not matter.
        let bytes = records(BatchBuilder::new().compression(codec), &[5, i64::MAX, -1]);
        let validated = outcome(&bytes, &rules).expect("passes");
        assert_eq!(validated.append_time, Some(NOW));
        assert_eq!(validated.header.base_timestamp, 5, "{codec:?}");
        assert_eq!(validated.header.timestamp_type(), TimestampType::LogAppend);
        assert_eq!(timestamps(&validated), [0, 1, 2].map(|at| (at, NOW.to_wire())));
        assert_eq!(validated.bytes[61..], bytes[61..], "{codec:?}: records are untouched");

        let claiming = BatchBuilder::new().compression(codec).append_time(NOW);
        let refused = outcome(&sample(claiming), &rules).expect_err("not a producer's to set");
        assert_eq!(refused.reason, Reason::InvalidTimestamp, "{codec:?}");
        assert_eq!(refused.record_errors.len(), 3);
    }
}

#[test]
fn a_producers_append_time_bit_is_reset_if_there_is_a_time() {
    for codec in CODECS {
        let time = Timestamp::from_millis(NOW.to_wire() - 9);
        let bytes = sample(BatchBuilder::new().compression(codec).append_time(time));
        let validated = outcome(&bytes, &RULES).expect("passes");
        assert_eq!(validated.header.timestamp_type(), TimestampType::Create, "{codec:?}");
        assert_eq!(validated.header.max_timestamp, time.to_wire(), "{codec:?}");
        let bytes = put(&bytes, 35, &(-1i64).to_be_bytes());
        let refused = outcome(&bytes, &RULES).expect_err("has no time");
        assert_eq!(refused.reason, Reason::InvalidTimestamp, "{codec:?}");
    }
}

#[test]
fn topics_with_a_codec_get_their_batches_recompressed() {
    let producer = ProducerStamp { id: 9, epoch: 2, base_sequence: 5 };
    for source in CODECS {
        let builder = BatchBuilder::new().compression(source).producer(producer);
        let bytes = sample(builder.clone().transactional());
        for target in CODECS {
            let rules = Rules { compression: Some(target.into()), ..RULES };
            let validated = outcome(&bytes, &rules).expect("passes");
            assert_eq!(validated.rewritten, source != target, "{source:?} {target:?}");
            assert_eq!(validated.header.codec(), Ok(target));
            assert_eq!(validated.header.producer_id, 9);
            assert_eq!(validated.header.last_sequence(), 7);
            assert!(validated.header.is_transactional());
            let expected = [-2_000, -1_000, 0].map(|ago| NOW.to_wire() + ago);
            let times = timestamps(&validated).into_iter().map(|(_, time)| time);
            assert_eq!(times.collect::<Vec<_>>(), expected, "{source:?} {target:?}");
        }
    }
    // The limit holds for what is stored, too.
    let bytes = sample(BatchBuilder::new().compression(Codec::Gzip));
    let rules = Rules {
        compression: Some(Codec::None.into()),
        batch_bytes_max: bytes.len() as u32,
        ..RULES
    };
    let refused = outcome(&bytes, &rules).expect_err("grows");
    assert_eq!(refused.reason, Reason::MessageTooLarge);
}

#[test]
fn offset_deltas_with_gaps_are_renumbered() {
    for codec in [Codec::None, Codec::Gzip] {
        let mut builder = BatchBuilder::new().compression(codec);
        for delta in [2, 5, 9] {
            builder.append_at(delta, &NewRecord { timestamp: 4, ..NewRecord::default() });
        }
        let bytes = put(&builder.build().expect("builds"), 23, &2i32.to_be_bytes());
        // Compressed records are looked at where keys or times have to be.
        let rules = Rules { timestamp_before_max_ms: i64::MAX - 1, ..RULES };
        let validated = outcome(&bytes, &rules).expect("passes");
        assert_eq!(timestamps(&validated), [(0, 4), (1, 4), (2, 4)], "{codec:?}");
    }
}

#[test]
fn the_batches_of_a_request_unpack_to_so_much_together() {
    let bytes = sample(BatchBuilder::new().compression(Codec::Zstd));
    // Compressed records are looked at where times have to be.
    let rules = Rules { timestamp_before_max_ms: i64::MAX - 1, ..RULES };
    let mut spent = Spent::default();
    producer_batches(&bytes, &rules, NOW, &mut spent).expect("passes");
    let one = spent.unpacked_bytes;
    assert!(one > 0);
    let rules = Rules { unpacked_bytes_max: 2 * one + one / 2, ..rules };
    let mut spent = Spent::default();
    let mut next = || producer_batches(&bytes, &rules, NOW, &mut spent);
    assert!(next().is_ok() && next().is_ok());
    assert_eq!(next().expect_err("too much").reason, Reason::MessageTooLarge);
    assert_eq!(next().expect_err("nothing is left").reason, Reason::MessageTooLarge);
    let plain = sample(BatchBuilder::new());
    assert!(producer_batches(&plain, &rules, NOW, &mut spent).is_ok());
}

#[test]
fn the_refused_records_of_a_request_are_listed_to_so_many_together() {
    let mut builder = BatchBuilder::new();
    for _ in 0..600 {
        builder.append(&NewRecord { timestamp: 4, ..NewRecord::default() });
    }
    let bytes = builder.build().expect("builds");
    let rules = Rules { timestamp_before_max_ms: 0, ..RULES };
    let mut spent = Spent::default();
    let listed: Vec<usize> = (0..3)
        .map(|_| producer_batches(&bytes, &rules, NOW, &mut spent).expect_err("too old"))
        .inspect(|refused| assert_eq!(refused.reason, Reason::InvalidTimestamp))
        .map(|refused| refused.record_errors.len())
        .collect();
    assert_eq!(listed, [600, 400, 0]);
}

#[test]
fn no_bytes_make_validation_panic() {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let rules = [
        RULES,
        Rules { compacted: true, timestamp_before_max_ms: 0, ..RULES },
        Rules { compression: Some(Codec::Lz4.into()), ..RULES },
        Rules { timestamp_type: TimestampType::LogAppend, ..RULES },
    ];
    for codec in CODECS {
        let good = sample(BatchBuilder::new().compression(codec));
        for _ in 0..2_000 {
            let mut bytes = good.to_vec();
            for _ in 0..1 + random() % 4 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            let bytes = changed(&bytes.into(), |_| ());
            for rules in &rules {
                let _ = producer_batches(&bytes, rules, NOW, &mut Spent::default());
            }
            claims_transaction(&bytes);
        }
    }
}
