//! A producer: numbered records, several requests in flight, sent again until they are
//! acknowledged.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use corelog::base::Uuid;
use corelog::protocol::ErrorCode;
use corelog::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use corelog::protocol::frame::RequestHeader;
use corelog::protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::protocol::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};
use corelog::runtime::Runtime;

use crate::check::{Record, Shared};
use crate::client::{Connection, PAUSE};
use crate::plan::{ProducerPlan, Promise};
use crate::topic::{find_topic, topic_name};

/// A batch for one partition.
struct Batch {
    partition: i32,
    bytes: Bytes,
    numbers: Range<u64>,
    /// Whether it was sent before, and no answer came.
    is_again: bool,
}

/// The batches of one request, each for a partition of its own.
type Request = Vec<Batch>;

/// One producer of a run.
pub struct Producer {
    pub runtime: Runtime,
    pub number: u64,
    pub plan: ProducerPlan,
    pub partitions: i32,
    pub seen: Shared,
}

/// What a producer has on its way.
struct Sender {
    producer: Producer,
    topic_id: Uuid,
    connection: Connection,
    /// The producer's id; none without sequence numbers.
    id: Option<i64>,
    sequences: Vec<i32>,
    made: u64,
    number_next: u64,
    /// To be sent, oldest first.
    unsent: VecDeque<Request>,
    in_flight: VecDeque<(RequestHeader, Request)>,
    /// Refused, older than all that is in flight; sent again once nothing is.
    refused: VecDeque<Request>,
}

impl Producer {
    /// Writes until all is acknowledged.
    pub async fn run(self) {
        let runtime = self.runtime.clone();
        let topic_id = find_topic(&runtime, self.partitions).await;
        let mut connection = Connection::open(&runtime).await;
        let id = match self.plan.promise {
            Promise::Exactly => Some(draw_id(&runtime, &mut connection).await),
            Promise::AtLeast | Promise::AtMost => None,
        };
        let mut sender = Sender {
            topic_id,
            connection,
            id,
            sequences: vec![0; self.partitions as usize],
            made: 0,
            number_next: 0,
            unsent: VecDeque::new(),
            in_flight: VecDeque::new(),
            refused: VecDeque::new(),
            producer: self,
        };
        while sender.step().await {}
        let Producer { number, plan, seen, .. } = &sender.producer;
        seen.borrow_mut().sent.insert(*number, (plan.promise, sender.number_next));
    }
}

async fn draw_id(runtime: &Runtime, connection: &mut Connection) -> i64 {
    let init = InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() };
    loop {
        match connection.ask::<_, InitProducerIdResponse>(4, &init).await {
            Some(answer) if answer.error == ErrorCode::None => return answer.producer_id,
            Some(_) => runtime.sleep(PAUSE).await,
            None => *connection = Connection::open(runtime).await,
        }
    }
}

impl Sender {
    /// Sends, receives or waits once; false when all is done.
    async fn step(&mut self) -> bool {
        let plan = &self.producer.plan;
        let has_more = self.made < plan.request_count || !self.unsent.is_empty();
        if has_more && self.refused.is_empty() && self.in_flight.len() < plan.window {
            self.send().await;
        } else if !self.in_flight.is_empty() {
            if !self.receive().await {
                self.reconnect().await;
            }
        } else if self.refused.is_empty() {
            return false;
        } else {
            self.producer.runtime.sleep(PAUSE).await;
            self.requeue_refused();
        }
        true
    }

    async fn send(&mut self) {
        let runtime = self.producer.runtime.clone();
        let request = match self.unsent.pop_front() {
            Some(request) => request,
            None => {
                let pause_us = runtime.random() % (self.producer.plan.pause_us_max + 1);
                if pause_us > 0 {
                    runtime.sleep(Duration::from_micros(pause_us)).await;
                }
                self.make()
            }
        };
        let Producer { plan, .. } = &self.producer;
        let message = self.message(&request);
        match self.connection.send(plan.version, &message).await {
            Some(_) if plan.promise == Promise::AtMost => {}
            Some(header) => self.in_flight.push_back((header, request)),
            None => {
                // Without acknowledgements what was lost stays lost.
                if plan.promise != Promise::AtMost {
                    self.unsent.push_front(request);
                }
                // Answers may have come before the connection was lost.
                while !self.in_flight.is_empty() && self.receive().await {}
                self.reconnect().await;
            }
        }
    }

    /// Receives the oldest answer; false when the connection was lost.
    async fn receive(&mut self) -> bool {
        let Some((header, request)) = self.in_flight.pop_front() else { return true };
        let Some(answer) = self.connection.receive::<ProduceResponse>(&header).await else {
            self.in_flight.push_front((header, request));
            return false;
        };
        let rest = self.take(&answer, request);
        if !rest.is_empty() {
            self.refused.push_back(rest);
        }
        true
    }

    async fn reconnect(&mut self) {
        self.put_back_in_flight();
        self.requeue_refused();
        self.connection = Connection::open(&self.producer.runtime).await;
    }

    /// What was in flight goes before all that was not sent yet.
    fn put_back_in_flight(&mut self) {
        while let Some((_, mut request)) = self.in_flight.pop_back() {
            request.iter_mut().for_each(|batch| batch.is_again = true);
            self.unsent.push_front(request);
        }
    }

    fn requeue_refused(&mut self) {
        while let Some(request) = self.refused.pop_back() {
            self.unsent.push_front(request);
        }
    }

    /// The next request.
    fn make(&mut self) -> Request {
        let runtime = self.producer.runtime.clone();
        let partitions = self.producer.partitions as u64;
        let spread = self.producer.plan.spread.min(partitions);
        let first = runtime.random() % partitions;
        self.made += 1;
        let places =
            (0..1 + runtime.random() % spread).map(|at| ((first + at) % partitions) as i32);
        places.map(|partition| self.make_batch(partition)).collect()
    }

    fn make_batch(&mut self, partition: i32) -> Batch {
        let runtime = &self.producer.runtime;
        let count = 1 + runtime.random() % 5;
        let numbers = self.number_next..self.number_next + count;
        self.number_next = numbers.end;
        let mut builder = BatchBuilder::new();
        if let Some(id) = self.id {
            let sequence = &mut self.sequences[partition as usize];
            builder = builder.producer(ProducerStamp { id, epoch: 0, base_sequence: *sequence });
            *sequence += count as i32;
        }
        for number in numbers.clone() {
            let record = Record { producer: self.producer.number, number };
            builder.append(&NewRecord {
                timestamp: runtime.wall_clock().to_wire(),
                key: None,
                value: Some(record.to_text().as_bytes()),
                headers: &[],
            });
        }
        Batch {
            partition,
            bytes: builder.build().expect("a small batch"),
            numbers,
            is_again: false,
        }
    }

    fn message(&self, request: &Request) -> ProduceRequest {
        let partitions = request
            .iter()
            .map(|batch| ProducePartition { index: batch.partition, records: batch.bytes.clone() });
        ProduceRequest {
            acks: self.producer.plan.acks,
            timeout_ms: 10_000,
            topics: vec![ProduceTopic {
                name: topic_name(),
                topic_id: Some(self.topic_id),
                partitions: partitions.collect(),
            }],
            ..ProduceRequest::default()
        }
    }

    /// Notes what was acknowledged; returns what must be sent again.
    fn take(&self, answer: &ProduceResponse, request: Request) -> Request {
        let answers = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let answers: Vec<&ProducePartitionResponse> = answers.collect();
        assert_eq!(answers.len(), request.len(), "an answer for each partition");
        let mut again = Vec::new();
        for batch in request {
            let answer = answers.iter().find(|answer| answer.index == batch.partition);
            let answer = answer.expect("an answer for the partition");
            match answer.error {
                ErrorCode::None => {
                    let base = answer.base_offset.expect("an offset").to_wire();
                    self.acknowledged(&batch, base);
                }
                // A core that stood still does not know of a new topic yet.
                ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => again.push(batch),
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::RequestTimedOut
                | ErrorCode::KafkaStorageError => {
                    // It may have been written, and then something else went wrong.
                    again.push(Batch { is_again: true, ..batch });
                }
                // A batch before it was refused, and comes again before this one.
                ErrorCode::OutOfOrderSequenceNumber if self.is_refused(batch.partition) => {
                    again.push(batch);
                }
                ErrorCode::OutOfOrderSequenceNumber if self.is_forgotten(&batch) => {}
                other => panic!(
                    "producer {}, partition {}: {other:?}",
                    self.producer.number, batch.partition
                ),
            }
        }
        again
    }

    /// Whether the broker may have written the batch and not know it any more: as in Apache Kafka,
    /// a producer snapshot holds the last batch of each producer only. A later one was sent too,
    /// and that the record is there once is checked at the end.
    fn is_forgotten(&self, batch: &Batch) -> bool {
        let in_flight = self.in_flight.iter().map(|(_, request)| request);
        let mut in_flight = in_flight.chain(&self.unsent).chain(&self.refused).flatten();
        batch.is_again
            && in_flight.any(|later| later.partition == batch.partition && later.is_again)
    }

    fn is_refused(&self, partition: i32) -> bool {
        self.refused.iter().flatten().any(|batch| batch.partition == partition)
    }

    fn acknowledged(&self, batch: &Batch, base: i64) {
        let mut seen = self.producer.seen.borrow_mut();
        for (number, offset) in batch.numbers.clone().zip(base..) {
            let record = Record { producer: self.producer.number, number };
            let before = seen.acknowledged.insert((batch.partition, offset), record);
            assert_eq!(before, None, "an offset was acknowledged twice");
        }
    }
}
