//! A bit that rots in a closed segment, and what consumers are served of it.

use std::path::PathBuf;

use bytes::Bytes;
use corelog::base::Offset;
use corelog::log::names::file_name;
use corelog::protocol::ErrorCode;
use corelog::protocol::batch::{BatchHeader, Batches, HEADER_BYTES};
use corelog::protocol::compression::decompress;
use corelog::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::record::Records;
use corelog::runtime::{OpenMode, Runtime};

use crate::audit::segment_bases;
use crate::check::{Content, Record};
use crate::client::{Connection, PAUSE};
use crate::consume::BATCH_BYTES_MAX;
use crate::topic::{TOPIC, topic_name};

/// The newest version of Fetch without sessions.
const FETCH_VERSION: i16 = 6;

/// What a batch begins with: its first offset.
const OFFSET_BYTES: usize = 8;

/// Fetches of one partition after which what is there must have been read.
const FETCHES_MAX: usize = 5_000;

/// The batch a bit of which has rotted.
#[derive(Debug)]
pub struct Rotten {
    partition: i32,
    first: i64,
    last: i64,
}

/// Flips a bit of a closed segment, where there is one.
pub async fn rot(runtime: Runtime, partitions: i32) -> Option<Rotten> {
    let disk = runtime.disk();
    let mut closed = Vec::new();
    for partition in 0..partitions {
        let directory = PathBuf::from(format!("/data/{TOPIC}-{partition}"));
        let entries = disk.list(&directory).await.expect("a partition's directory");
        let mut bases = segment_bases(&entries);
        bases.pop();
        let paths = bases.into_iter().map(|base| directory.join(file_name(base, "log")));
        closed.extend(paths.map(|path| (partition, path)));
    }
    if closed.is_empty() {
        return None;
    }
    let (partition, path) = closed.swap_remove((runtime.random() % closed.len() as u64) as usize);
    let bytes = disk.read(&path).await.expect("a segment");
    let mut batches = Batches::new(&bytes);
    let mut placed: Vec<(usize, BatchHeader)> = Vec::new();
    loop {
        let position = batches.position();
        let Some(batch) = batches.next() else { break };
        placed.push((position, batch.expect("a whole batch").header));
    }
    let (position, header) = *placed.get((runtime.random() % placed.len() as u64) as usize)?;
    // As often in the header as in the records. Of a batch's offset nothing has a checksum.
    let draw = runtime.random() as usize;
    let at = position
        + match runtime.random().is_multiple_of(2) {
            true => OFFSET_BYTES + draw % (HEADER_BYTES - OFFSET_BYTES),
            false => HEADER_BYTES + draw % (header.size_bytes() - HEADER_BYTES),
        };
    let flipped = bytes[at] ^ 1 << (runtime.random() % 8);
    let file = disk.open(&path, OpenMode::Write).await.expect("opens");
    file.write_at(at as u64, &[Bytes::from(vec![flipped])]).await.expect("written");
    Some(Rotten { partition, first: header.base_offset, last: header.last_offset() })
}

/// Reads all partitions: nothing is changed, and nothing but the rotten batch is missing.
pub async fn check_rotten(
    runtime: Runtime,
    seed: u64,
    rotten: Rotten,
    partitions: i32,
    all: Content,
) {
    for partition in 0..partitions {
        let ends = all.range((partition, 0)..(partition + 1, 0)).next_back();
        let end = ends.map_or(0, |((_, offset), _)| offset + 1);
        let mut reader = Reader { partition, next: 0, is_over: false };
        let mut connection = Connection::open(&runtime).await;
        for _ in 0..FETCHES_MAX {
            if reader.next >= end || reader.is_over {
                break;
            }
            match connection.ask(FETCH_VERSION, &reader.request()).await {
                Some(answer) => reader.hear(seed, &answer, &rotten, &all),
                None => connection = Connection::open(&runtime).await,
            }
            runtime.sleep(PAUSE).await;
        }
        let reached = reader.next >= end || reader.is_over;
        assert!(reached, "seed {seed}: partition {partition} is read to {}", reader.next);
    }
}

struct Reader {
    partition: i32,
    next: i64,
    /// The broker says that it can not read on.
    is_over: bool,
}

impl Reader {
    fn request(&self) -> FetchRequest {
        let partition = FetchPartition {
            index: self.partition,
            fetch_offset: Offset::from_wire(self.next),
            max_bytes: 100_000,
            ..FetchPartition::default()
        };
        let topic = FetchTopic { name: topic_name(), topic_id: None, partitions: vec![partition] };
        FetchRequest {
            max_wait_ms: 5,
            min_bytes: 1,
            max_bytes: 100_000,
            topics: vec![topic],
            ..FetchRequest::default()
        }
    }

    fn hear(&mut self, seed: u64, answer: &FetchResponse, rotten: &Rotten, all: &Content) {
        let answer = &answer.topics[0].partitions[0];
        let is_rotten = self.partition == rotten.partition;
        match answer.error {
            ErrorCode::None => {}
            ErrorCode::NotLeaderOrFollower => return,
            other => {
                assert!(is_rotten, "seed {seed}: {other:?} of partition {}", self.partition);
                self.is_over = true;
                return;
            }
        }
        let bytes = answer.records.in_memory().expect("a client has the records in memory");
        for batch in Batches::new(bytes) {
            let Some(batch) = batch.ok().filter(|batch| batch.is_intact()) else {
                let at_it = is_rotten && self.next >= rotten.first;
                assert!(at_it, "garbage: seed {seed}: at {} of {rotten:?}", self.next);
                // A header may tell of more offsets than its batch has: nobody gets past them.
                self.is_over = self.next > rotten.last;
                self.next = self.next.max(rotten.last + 1);
                return;
            };
            let payload = decompress(&batch, BATCH_BYTES_MAX).expect("an intact batch");
            for record in Records::new(&payload, batch.header.record_count) {
                let record = record.expect("an intact record");
                let offset = batch.header.offset_of(&record);
                if offset < self.next {
                    continue;
                }
                assert_eq!(offset, self.next, "poll-skip: seed {seed}: {rotten:?}");
                let text = std::str::from_utf8(record.value.expect("a value")).expect("text");
                let known = all.get(&(self.partition, offset)).copied();
                let found = Some(Record::from_text(text));
                assert_eq!(found, known, "garbage: seed {seed}: at {offset}, {rotten:?}");
                self.next += 1;
            }
        }
    }
}
