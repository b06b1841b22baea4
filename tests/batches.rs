//! Apache Kafka's own classes read the batches that the builder writes, in every codec.
//!
//! Needs Java, and `KAFKA_LIBS`: the directory with Apache Kafka's jars. Skipped without.

use std::path::Path;
use std::process::Command;

use corelog::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use corelog::protocol::compression::Codec;
use corelog::protocol::record::HeaderView;

/// The batch of `tests/fixtures/batches/Batches.java`.
fn sample(codec: Codec) -> bytes::Bytes {
    let producer = ProducerStamp { id: 4_000, epoch: 3, base_sequence: 70 };
    let mut builder = BatchBuilder::new().compression(codec).producer(producer);
    for i in 0..24 {
        let key = format!("key-{i}");
        let value = format!("value-{i};").repeat(400);
        let number = i.to_string();
        let headers = [
            HeaderView { key: b"h", value: Some(number.as_bytes()) },
            HeaderView { key: b"h", value: None },
        ];
        builder.append(&NewRecord {
            timestamp: 1_700_000_000_000 + i * 10 + if i == 20 { 1_000_000 } else { 0 },
            key: (i % 5 != 0).then_some(key.as_bytes()),
            value: (i % 7 != 3).then_some(value.as_bytes()),
            headers: &headers[..i as usize % 3],
        });
    }
    builder.build().expect("builds")
}

#[test]
fn java_reads_what_the_builder_writes() {
    let Ok(libs) = std::env::var("KAFKA_LIBS") else {
        eprintln!("skipped: KAFKA_LIBS is not set");
        return;
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut files = Vec::new();
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let file = directory.join(format!("batch-{}.bin", codec.name()));
        std::fs::write(&file, sample(codec)).expect("writes");
        files.push(file);
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/batches/Batches.java");
    let status = Command::new("java")
        .args(["-cp", &format!("{libs}/*"), source, "read"])
        .args(files)
        .status()
        .expect("java starts");
    assert!(status.success());
}
