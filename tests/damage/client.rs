//! What is written before the damage, and all that a client can read after it.

use std::collections::BTreeMap;
use std::time::Duration;

use corelog::base::Offset;
use corelog::protocol::batch::Batches;
use corelog::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use corelog::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::group_membership::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelog::protocol::group_offsets::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic,
};
use corelog::protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::protocol::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopic,
};
use corelog::protocol::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::protocol::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use corelog::protocol::record::Records;
use corelog::protocol::{ErrorCode, Message, Str};
use corelog::runtime::Runtime;

use crate::connection::{Connection, PAUSE};

/// The topic that is written and read.
pub const TOPIC: &str = "numbers";

/// The group that commits.
pub const GROUP: &str = "readers";

/// Its partitions.
pub const PARTITIONS: i32 = 2;

/// Batches of each partition: enough for three segments.
const BATCHES: i32 = 8;

/// Records of a batch.
const BATCH_RECORDS: i32 = 2;

/// The time of the first record.
const BEGAN_MS: i64 = 1_767_000_000_000;

/// For so long a client asks again where the broker says "not yet".
const PATIENCE: Duration = Duration::from_secs(8);

/// Fetches of a partition.
const FETCHES_MAX: usize = 100;

/// What clients were promised.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The values of each partition, by offset.
    pub values: Vec<Vec<String>>,
    /// What the group committed for each partition.
    pub commits: Vec<i64>,
}

/// How reading a partition ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// At its end.
    Reached,
    /// The broker says so.
    Refused(ErrorCode),
    /// A batch does not have its checksum, or is none at all: clients tell it apart.
    BadBatch,
    /// Fetches bring nothing, though there is more.
    Stuck,
}

/// What a client saw of a partition.
#[derive(Clone, Debug)]
pub struct Seen {
    pub start: i64,
    pub log_end: i64,
    pub records: Vec<(i64, String)>,
    pub end: End,
}

/// What a client saw.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Why there is no such topic.
    pub topic_error: Option<ErrorCode>,
    pub partitions: BTreeMap<i32, Seen>,
    /// What is committed, or why it is not told.
    pub commits: Option<Result<Vec<i64>, ErrorCode>>,
}

const fn topic_name() -> Str {
    Str::from_static_str(TOPIC)
}

async fn ask<Q: Message, A: Message>(link: &mut Connection, version: i16, question: &Q) -> A {
    let header = link.send(version, question).await.expect("no fault is planned");
    link.receive(&header).await.expect("every question is answered")
}

/// The topic's error by its metadata.
async fn topic_error(link: &mut Connection, is_to_be_made: bool) -> ErrorCode {
    let topic = MetadataRequestTopic { name: Some(topic_name()), topic_id: None };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: is_to_be_made,
        ..MetadataRequest::default()
    };
    let answer: MetadataResponse = ask(link, 9, &request).await;
    answer.topics[0].error
}

/// Writes the topic and commits; what was acknowledged.
pub async fn write_all(runtime: Runtime) -> Written {
    let mut link = Connection::open(&runtime).await;
    while topic_error(&mut link, true).await != ErrorCode::None {
        runtime.sleep(PAUSE).await;
    }
    let init = InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() };
    let drawn: InitProducerIdResponse = ask(&mut link, 4, &init).await;
    let mut written = Written {
        values: vec![Vec::new(); PARTITIONS as usize],
        commits: vec![0; PARTITIONS as usize],
    };
    for number in 0..BATCHES {
        for partition in 0..PARTITIONS {
            let base_sequence = number * BATCH_RECORDS;
            let stamp = ProducerStamp { id: drawn.producer_id, epoch: 0, base_sequence };
            let mut builder = BatchBuilder::new().producer(stamp);
            for record in 0..BATCH_RECORDS {
                let sequence = base_sequence + record;
                let value = format!("partition {partition} number {sequence}");
                builder.append(&NewRecord {
                    timestamp: BEGAN_MS + i64::from(sequence) * 1000,
                    key: Some(b"k"),
                    value: Some(value.as_bytes()),
                    headers: &[],
                });
                written.values[partition as usize].push(value);
            }
            let records = builder.build().expect("a small batch");
            let partitions = vec![ProducePartition { index: partition, records }];
            let topics = vec![ProduceTopic { name: topic_name(), topic_id: None, partitions }];
            let request =
                ProduceRequest { acks: -1, timeout_ms: 10_000, topics, ..Default::default() };
            let answer: ProduceResponse = ask(&mut link, 9, &request).await;
            assert_eq!(answer.topics[0].partitions[0].error, ErrorCode::None);
        }
    }
    commit(&runtime, &mut link, &mut written).await;
    written
}

async fn commit(runtime: &Runtime, link: &mut Connection, written: &mut Written) {
    let key = Str::from_static_str(GROUP);
    let find = FindCoordinatorRequest { key: key.clone(), ..Default::default() };
    for offset in [3, 5, 11] {
        let partition = |index| OffsetCommitPartition {
            index,
            offset: offset + i64::from(index),
            leader_epoch: None,
            metadata: Some(Str::from_static_str("a note")),
        };
        let topic = OffsetCommitTopic {
            name: topic_name(),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..Default::default()
        };
        let request =
            OffsetCommitRequest { group: key.clone(), topics: vec![topic], ..Default::default() };
        loop {
            let found: FindCoordinatorResponse = ask(link, 3, &find).await;
            if found.error == ErrorCode::None {
                let answer: OffsetCommitResponse = ask(link, 7, &request).await;
                if answer.topics[0].partitions[0].error == ErrorCode::None {
                    break;
                }
            }
            runtime.sleep(PAUSE).await;
        }
        for index in 0..PARTITIONS {
            written.commits[index as usize] = offset + i64::from(index);
        }
    }
}

/// Reads everything there is.
pub async fn read_all(runtime: Runtime) -> Told {
    let mut link = Connection::open(&runtime).await;
    let mut told = Told::default();
    match topic_error(&mut link, false).await {
        ErrorCode::None => {
            for index in 0..PARTITIONS {
                told.partitions.insert(index, read(&runtime, &mut link, index).await);
            }
        }
        error => told.topic_error = Some(error),
    }
    told.commits = Some(commits(&runtime, &mut link).await);
    told
}

async fn list(
    runtime: &Runtime,
    link: &mut Connection,
    index: i32,
    timestamp: i64,
) -> Result<i64, ErrorCode> {
    let deadline = runtime.now() + PATIENCE;
    let partition = ListOffsetsPartition { index, current_leader_epoch: None, timestamp };
    let topic = ListOffsetsTopic { name: topic_name(), partitions: vec![partition] };
    let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
    loop {
        let answer: ListOffsetsResponse = ask(link, 7, &request).await;
        let found = &answer.topics[0].partitions[0];
        match found.error {
            ErrorCode::None => return Ok(found.offset.map_or(-1, Offset::to_wire)),
            // Its log is being checked.
            ErrorCode::NotLeaderOrFollower if runtime.now() < deadline => {
                runtime.sleep(PAUSE).await;
            }
            error => return Err(error),
        }
    }
}

async fn read(runtime: &Runtime, link: &mut Connection, index: i32) -> Seen {
    let mut seen = Seen { start: -1, log_end: -1, records: Vec::new(), end: End::Reached };
    match list(runtime, link, index, EARLIEST_TIMESTAMP).await {
        Ok(offset) => seen.start = offset,
        Err(error) => return Seen { end: End::Refused(error), ..seen },
    }
    match list(runtime, link, index, LATEST_TIMESTAMP).await {
        Ok(offset) => seen.log_end = offset,
        Err(error) => return Seen { end: End::Refused(error), ..seen },
    }
    // By time as well: it must be answered, whatever with.
    let _ = list(runtime, link, index, BEGAN_MS + 7500).await;
    let mut next = seen.start;
    for _ in 0..FETCHES_MAX {
        if next >= seen.log_end {
            return seen;
        }
        let before = next;
        if let Err(end) = fetch(link, index, &mut next, &mut seen.records).await {
            return Seen { end, ..seen };
        }
        if next == before {
            break;
        }
    }
    Seen { end: End::Stuck, ..seen }
}

async fn fetch(
    link: &mut Connection,
    index: i32,
    next: &mut i64,
    records: &mut Vec<(i64, String)>,
) -> Result<(), End> {
    let partition = FetchPartition {
        index,
        fetch_offset: Offset::from_wire(*next),
        max_bytes: 400,
        ..FetchPartition::default()
    };
    let topic = FetchTopic { name: topic_name(), topic_id: None, partitions: vec![partition] };
    let request = FetchRequest {
        max_wait_ms: 20,
        min_bytes: 1,
        max_bytes: 1000,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    let answer: FetchResponse = ask(link, 6, &request).await;
    let found = &answer.topics[0].partitions[0];
    if found.error != ErrorCode::None {
        return Err(End::Refused(found.error));
    }
    let bytes = found.records.in_memory().expect("a client has the records in memory");
    let (wanted, mut begun) = (*next, false);
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { return Err(End::BadBatch) };
        if !batch.is_intact() {
            return Err(End::BadBatch);
        }
        begun = true;
        for record in Records::new(batch.payload(), batch.header.record_count) {
            let Ok(record) = record else { return Err(End::BadBatch) };
            let offset = batch.header.offset_of(&record);
            // A batch comes whole, though the offset asked for lies within it.
            if offset >= wanted {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                records.push((offset, value));
            }
        }
        *next = (*next).max(batch.header.next_offset());
    }
    // The first batch comes whole, so that clients get on: what is not whole is none.
    if begun || bytes.is_empty() { Ok(()) } else { Err(End::BadBatch) }
}

async fn commits(runtime: &Runtime, link: &mut Connection) -> Result<Vec<i64>, ErrorCode> {
    let deadline = runtime.now() + PATIENCE;
    let key = Str::from_static_str(GROUP);
    let find = FindCoordinatorRequest { key: key.clone(), ..Default::default() };
    let topic = OffsetFetchTopic {
        name: topic_name(),
        partitions: (0..PARTITIONS).collect(),
        ..Default::default()
    };
    let request =
        OffsetFetchRequest { group: key, topics: Some(vec![topic]), ..Default::default() };
    loop {
        let found: FindCoordinatorResponse = ask(link, 3, &find).await;
        let mut error = found.error;
        if error == ErrorCode::None {
            let answer: OffsetFetchResponse = ask(link, 7, &request).await;
            error = answer.error;
            if error == ErrorCode::None {
                let told = &answer.topics[0].partitions;
                return Ok(told.iter().map(|partition| partition.offset).collect());
            }
        }
        if runtime.now() > deadline {
            return Err(error);
        }
        runtime.sleep(PAUSE).await;
    }
}
