//! A consumer: fetches with sessions and long polls, and what must hold of every answer.

use std::time::Duration;

use corelog::base::{Offset, Uuid};
use corelog::protocol::ErrorCode;
use corelog::protocol::batch::Batches;
use corelog::protocol::builder::{BatchBuilder, NewRecord};
use corelog::protocol::compression::decompress;
use corelog::protocol::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
};
use corelog::protocol::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopic,
};
use corelog::protocol::metadata::MetadataRequest;
use corelog::protocol::produce::{ProducePartition, ProduceRequest, ProduceTopic};
use corelog::protocol::record::Records;
use corelog::runtime::Runtime;

use crate::check::{Content, Place, Record, Shared};
use crate::client::{Connection, PAUSE};
use crate::plan::ConsumerPlan;
use crate::topic::{find_topic, topic_name};

/// The first version with fetch sessions.
const SESSIONS_SINCE: i16 = 7;

/// Fetches after which what is there must have been read.
const FETCHES_MAX: usize = 20_000;

/// How much later than it wants to be a fetch may be answered, when nothing goes wrong.
const LATE_MAX: Duration = Duration::from_millis(500);

/// What a batch may take when decompressed.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// A consumer of all partitions.
struct Consumer {
    runtime: Runtime,
    plan: ConsumerPlan,
    topic_id: Uuid,
    connection: Connection,
    /// The offset to read next, by partition.
    next: Vec<i64>,
    /// The same, as the broker's session knows it.
    next_in_session: Vec<i64>,
    high_watermarks: Vec<i64>,
    session_id: i32,
    session_epoch: i32,
}

/// Follows all partitions to their ends.
pub async fn consume(runtime: Runtime, plan: ConsumerPlan, partitions: i32, seen: Shared) {
    let mut consumer = Consumer::open(runtime, plan, partitions).await;
    while seen.borrow().ends.as_ref() != Some(&consumer.next) {
        let (began, is_calm) = (consumer.runtime.now(), seen.borrow().is_calm);
        let found = consumer.fetch().await;
        let took = consumer.runtime.now().since(began);
        let wait = Duration::from_millis(consumer.plan.wait_ms as u64);
        assert!(!is_calm || took <= wait + LATE_MAX, "answered after {took:?}, not {wait:?}");
        let mut seen = seen.borrow_mut();
        for (place, record) in found {
            seen.note_read(place, record);
        }
    }
}

/// Reads everything there is: the ends of the partitions, and the records.
pub async fn read_all(runtime: Runtime, partitions: i32) -> (Vec<i64>, Content) {
    let plan = ConsumerPlan {
        version: SESSIONS_SINCE - 1,
        wait_ms: 20,
        min_bytes: 1,
        partition_bytes_max: 1000,
        isolation_level: 0,
    };
    let mut consumer = Consumer::open(runtime, plan, partitions).await;
    let starts = consumer.list_offsets(EARLIEST_TIMESTAMP).await;
    assert!(starts.iter().all(|start| *start == 0), "nothing was deleted: {starts:?}");
    let ends = consumer.list_offsets(LATEST_TIMESTAMP).await;
    let mut all = Content::new();
    for _ in 0..FETCHES_MAX {
        if consumer.next == ends {
            assert_eq!(consumer.high_watermarks, ends, "the high watermark is the end");
            return (ends, all);
        }
        all.extend(consumer.fetch().await);
    }
    panic!("the partitions end at {ends:?}, reading ends at {:?}", consumer.next);
}

/// The longest time from a record to the answer of a fetch that waits for it, where the partitions
/// get one in turn, `rounds` times, now and then before the fetch. The fetch would wait for 30 s.
pub async fn longest_wait(
    runtime: Runtime,
    partitions: i32,
    rounds: i32,
    has_session: bool,
) -> Duration {
    let version = if has_session { SESSIONS_SINCE } else { SESSIONS_SINCE - 1 };
    let plan = ConsumerPlan {
        version,
        wait_ms: 30_000,
        min_bytes: 1,
        partition_bytes_max: 1000,
        isolation_level: 0,
    };
    let mut consumer = Consumer::open(runtime.clone(), plan, partitions).await;
    let mut writer = Connection::open(&runtime).await;
    let mut longest = Duration::ZERO;
    for turn in 0..rounds * partitions {
        let is_early = runtime.random().is_multiple_of(3);
        let (request, asked) = (consumer.request(), consumer.next.clone());
        let mut header = None;
        if !is_early {
            header = consumer.connection.send(version, &request).await;
            // It waits by then.
            runtime.sleep(Duration::from_millis(200)).await;
        }
        let mut batch = BatchBuilder::new();
        batch.append(&NewRecord { timestamp: 1, key: None, value: Some(b"1 1"), headers: &[] });
        let records = batch.build().expect("nothing is compressed");
        let partitions = vec![ProducePartition { index: turn % partitions, records }];
        let topic_id = Some(consumer.topic_id);
        let topics = vec![ProduceTopic { name: topic_name(), topic_id, partitions }];
        let produce = ProduceRequest { acks: 0, topics, ..ProduceRequest::default() };
        writer.send(9, &produce).await.expect("no fault is planned");
        if is_early {
            runtime.sleep(Duration::from_millis(200)).await;
            header = consumer.connection.send(version, &request).await;
        }
        let began = runtime.now();
        let header = header.expect("no fault is planned");
        let answer = consumer.connection.receive::<FetchResponse>(&header).await;
        longest = longest.max(runtime.now().since(began));
        let found = consumer.hear(asked, &answer.expect("no fault is planned"));
        assert_eq!(found.len(), 1, "the record of turn {turn}");
        assert_eq!(consumer.session_epoch > 0, has_session);
    }
    longest
}

/// How long a fetch that may wait for an hour is under way after its client said that it will ask
/// nothing more.
pub async fn wait_after_leaving(runtime: Runtime, partitions: i32, min_bytes: i32) -> Duration {
    let plan = ConsumerPlan {
        version: SESSIONS_SINCE,
        wait_ms: 3_600_000,
        min_bytes,
        partition_bytes_max: 1000,
        isolation_level: 0,
    };
    let mut consumer = Consumer::open(runtime.clone(), plan, partitions).await;
    let request = consumer.request();
    consumer.connection.send(SESSIONS_SINCE, &request).await.expect("no fault is planned");
    runtime.sleep(Duration::from_millis(200)).await;
    let began = runtime.now();
    assert!(consumer.connection.leave().await, "it is answered first");
    runtime.now().since(began)
}

/// The longest time to the answers of two questions asked one right behind the other, of which the
/// second one may be answered at length: a record for some partition, and what there is.
pub async fn longest_of_two(runtime: Runtime, partitions: i32) -> Duration {
    let topic_id = Some(find_topic(&runtime, partitions).await);
    let mut connection = Connection::open(&runtime).await;
    let mut longest = Duration::ZERO;
    for turn in 0..200 {
        let mut batch = BatchBuilder::new();
        batch.append(&NewRecord { timestamp: 1, key: None, value: Some(b"1 1"), headers: &[] });
        let records = batch.build().expect("nothing is compressed");
        let partitions = vec![ProducePartition { index: turn % partitions, records }];
        let topics = vec![ProduceTopic { name: topic_name(), topic_id, partitions }];
        let produce = ProduceRequest { acks: 1, topics, ..ProduceRequest::default() };
        let began = runtime.now();
        let first = connection.send(9, &produce).await.expect("no fault is planned");
        runtime.sleep(Duration::from_micros(runtime.random() % 300)).await;
        let second = connection.send(12, &MetadataRequest::default()).await;
        connection.receive_body(&first).await.expect("no fault is planned");
        connection.receive_body(&second.expect("no fault is planned")).await.expect("answered");
        longest = longest.max(runtime.now().since(began));
    }
    longest
}

impl Consumer {
    async fn open(runtime: Runtime, plan: ConsumerPlan, partitions: i32) -> Self {
        let topic_id = find_topic(&runtime, partitions).await;
        let connection = Connection::open(&runtime).await;
        let zeros = vec![0; partitions as usize];
        Self {
            runtime,
            plan,
            topic_id,
            connection,
            next: zeros.clone(),
            next_in_session: zeros.clone(),
            high_watermarks: zeros,
            session_id: 0,
            session_epoch: 0,
        }
    }

    /// Asks once; nothing when the connection or the session was lost.
    async fn fetch(&mut self) -> Vec<(Place, Record)> {
        let request = self.request();
        let asked = self.next.clone();
        let answer = self.connection.ask::<_, FetchResponse>(self.plan.version, &request).await;
        let Some(answer) = answer else {
            self.reconnect().await;
            return Vec::new();
        };
        match answer.error {
            ErrorCode::None => {}
            ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch => {
                assert!(self.session_epoch > 0, "a full fetch needs no session");
                (self.session_id, self.session_epoch) = (0, 0);
                return Vec::new();
            }
            other => panic!("fetch: {other:?}"),
        }
        self.hear(asked, &answer)
    }

    /// The records of an answer to a fetch of `asked`; and what it says of the session.
    fn hear(&mut self, asked: Vec<i64>, answer: &FetchResponse) -> Vec<(Place, Record)> {
        if answer.session_id != 0 {
            assert!(self.session_epoch == 0 || self.session_id == answer.session_id, "its session");
            self.session_id = answer.session_id;
            self.session_epoch += 1;
            self.next_in_session = asked;
        } else {
            (self.session_id, self.session_epoch) = (0, 0);
        }
        let mut found = Vec::new();
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            self.take(partition, &mut found);
        }
        found
    }

    /// Now and then a client asks for a new session, otherwise it tries to go on with its own.
    async fn reconnect(&mut self) {
        if self.runtime.random().is_multiple_of(2) {
            self.session_epoch = 0;
        }
        self.connection = Connection::open(&self.runtime).await;
    }

    /// In a session, only what has changed is asked for.
    fn request(&self) -> FetchRequest {
        let in_session = self.session_epoch > 0;
        let moved = |at: usize| !in_session || self.next[at] != self.next_in_session[at];
        let partitions: Vec<_> = (0..self.next.len())
            .filter(|at| moved(*at))
            .map(|at| FetchPartition {
                index: at as i32,
                fetch_offset: Offset::from_wire(self.next[at]),
                max_bytes: self.plan.partition_bytes_max,
                ..FetchPartition::default()
            })
            .collect();
        let topic = FetchTopic { name: topic_name(), topic_id: Some(self.topic_id), partitions };
        let has_sessions = self.plan.version >= SESSIONS_SINCE;
        FetchRequest {
            max_wait_ms: self.plan.wait_ms,
            min_bytes: self.plan.min_bytes,
            max_bytes: 1000,
            isolation_level: self.plan.isolation_level,
            session_id: self.session_id,
            session_epoch: if has_sessions { self.session_epoch } else { -1 },
            topics: if topic.partitions.is_empty() { Vec::new() } else { vec![topic] },
            ..FetchRequest::default()
        }
    }

    fn take(&mut self, answer: &FetchPartitionResponse, found: &mut Vec<(Place, Record)>) {
        let index = answer.index;
        match answer.error {
            ErrorCode::None => {}
            // A core that stood still does not know of a new topic yet.
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::KafkaStorageError => return,
            other => panic!("partition {index}: {other:?}"),
        }
        let next = &mut self.next[index as usize];
        for (offset, record) in records_of(answer, *next) {
            // A batch comes whole, though the offset asked for lies within it.
            if offset >= *next {
                assert_eq!(offset, *next, "poll-skip: partition {index}: offsets are dense");
                *next += 1;
                found.push(((index, offset), record));
            }
        }
        let high_watermark = answer.high_watermark.expect("a high watermark").to_wire();
        let known = &mut self.high_watermarks[index as usize];
        assert!(high_watermark >= *next, "partition {index}: read beyond the high watermark");
        assert!(high_watermark >= *known, "partition {index}: the high watermark moved back");
        *known = high_watermark;
    }

    async fn list_offsets(&mut self, timestamp: i64) -> Vec<i64> {
        let partitions = (0..self.next.len() as i32).map(|index| ListOffsetsPartition {
            index,
            current_leader_epoch: None,
            timestamp,
        });
        let topic = ListOffsetsTopic { name: topic_name(), partitions: partitions.collect() };
        let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
        let answer = loop {
            let answer: Option<ListOffsetsResponse> = self.connection.ask(7, &request).await;
            let answer = answer.expect("no fault any more");
            let mut partitions = answer.topics[0].partitions.iter();
            // After a kill the broker answers before it has checked every log.
            if !partitions.any(|partition| partition.error == ErrorCode::NotLeaderOrFollower) {
                break answer;
            }
            self.runtime.sleep(PAUSE).await;
        };
        let mut offsets = vec![-1; self.next.len()];
        for partition in &answer.topics[0].partitions {
            assert_eq!(partition.error, ErrorCode::None, "partition {}", partition.index);
            let offset = partition.offset.expect("an offset");
            offsets[partition.index as usize] = offset.to_wire();
        }
        offsets
    }
}

/// The records of a partition's answer to a fetch from `next` on, with their offsets.
fn records_of(answer: &FetchPartitionResponse, next: i64) -> Vec<(i64, Record)> {
    let bytes = answer.records.in_memory().expect("a client has the records in memory");
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        // The last one may be cut off: the answer has a largest size.
        let Ok(batch) = batch else { break };
        assert!(batch.is_intact(), "garbage: a damaged batch was served");
        let last = batch.header.last_offset();
        assert!(last >= next, "nonmonotonic-poll: {last} for a fetch from {next} on");
        let payload = decompress(&batch, BATCH_BYTES_MAX).expect("a whole batch");
        for record in Records::new(&payload, batch.header.record_count) {
            let record = record.expect("a record");
            let text = std::str::from_utf8(record.value.expect("a value")).expect("text");
            found.push((batch.header.offset_of(&record), Record::from_text(text)));
        }
    }
    found
}
