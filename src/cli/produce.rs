//! `corelog produce`: lines of standard input become records.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::protocol::builder::{BatchBuilder, NewRecord};
use crate::protocol::compression::Codec;
use crate::protocol::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use crate::protocol::record::HeaderView;
use crate::protocol::{ErrorCode, Str};
use crate::runtime::Runtime;
use crate::runtime::process::StandardInput;

use super::args::{AcksArg, CompressionArg, ProduceArgs};
use super::client::{ClientError, Cluster, Creation, Outcome};
use super::target::{Target, partition_of_key};
use super::terminal::{Done, Failure, Progress, Visible, pair, per_second};
use super::topic::open;

/// Milliseconds a broker may take to write a batch everywhere.
const WRITE_TIMEOUT_MS: i32 = 30_000;

impl CompressionArg {
    /// The codec of batches.
    pub fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

/// A produce request of one batch.
pub fn request(target: &Target, partition: i32, acks: AcksArg, batch: Bytes) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks: acks.to_wire(),
        timeout_ms: WRITE_TIMEOUT_MS,
        topics: vec![ProduceTopic {
            name: Str::from_string(target.name.clone()),
            topic_id: target.id,
            partitions: vec![ProducePartition { index: partition, records: batch }],
        }],
    }
}

/// The refusal in an answer to [`request`], if there is one.
pub fn refusal(target: &Target, answer: &ProduceResponse) -> Outcome<()> {
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    for partition in partitions {
        if partition.error != ErrorCode::None {
            let what = format!("partition {}-{}", target.name, partition.index);
            let message = partition.error_message.as_ref().map(|text| text.as_str());
            return Err(ClientError::refused(what, partition.error, message));
        }
    }
    Ok(())
}

/// The two halves of a line.
type KeyAndValue<'l> = (Option<&'l [u8]>, Option<&'l [u8]>);

struct Producer<'a> {
    args: &'a ProduceArgs,
    headers: Vec<(String, String)>,
    cluster: Cluster,
    target: Target,
    open: BTreeMap<i32, BatchBuilder>,
    /// Where records without a key go until the next batch.
    sticky: i32,
    records: u64,
    bytes: u64,
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: ProduceArgs) -> Done {
    let cluster = open(&runtime, &args.cluster).await?;
    let target = Target::find(&cluster, &args.topic, Creation::Allowed).await?;
    let headers = args.headers.iter().map(|text| pair(text)).collect::<Result<_, _>>()?;
    let progress = Progress::new(Visible::unless(args.quiet));
    let began = runtime.now();
    let mut shown = began;
    let mut producer = Producer {
        args: &args,
        headers,
        cluster,
        sticky: 0,
        target,
        open: BTreeMap::new(),
        records: 0,
        bytes: 0,
    };
    let input = StandardInput::open()?;
    loop {
        let lines = input.next(&runtime).await?;
        if lines.is_empty() {
            break;
        }
        for line in &lines {
            producer.add(line, runtime.wall_clock().to_wire()).await?;
        }
        producer.flush().await?;
        let now = runtime.now();
        if now.since(shown).as_millis() >= 500 {
            shown = now;
            let rate = per_second(producer.records, now.since(began));
            progress.show(format_args!("{} records written, {rate} a second", producer.records));
        }
    }
    let took = runtime.now().since(began);
    let rate = per_second(producer.records, took);
    progress.end(format_args!(
        "{} records written, {} bytes, in {:.1} s, {rate} a second",
        producer.records,
        producer.bytes,
        took.as_secs_f64()
    ));
    Ok(())
}

impl Producer<'_> {
    async fn add(&mut self, line: &Bytes, now_ms: i64) -> Done {
        let (key, value) = self.split(line)?;
        let partition = match (self.args.partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, self.target.partition_count()),
            (None, None) => self.sticky % self.target.partition_count(),
        };
        let headers: Vec<HeaderView<'_>> = self
            .headers
            .iter()
            .map(|(name, value)| HeaderView { key: name.as_bytes(), value: Some(value.as_bytes()) })
            .collect();
        let record = NewRecord { timestamp: now_ms, key, value, headers: &headers };
        let codec = self.args.compression.codec();
        let batch =
            self.open.entry(partition).or_insert_with(|| BatchBuilder::new().compression(codec));
        batch.append(&record);
        self.records += 1;
        self.bytes += line.len() as u64;
        if batch.size_bytes() >= self.args.batch_bytes {
            self.flush().await?;
        }
        Ok(())
    }

    fn split<'l>(&self, line: &'l [u8]) -> Result<KeyAndValue<'l>, Failure> {
        let present = |part: &'l [u8]| {
            let null = self.args.null_marker.as_ref();
            (null.map(String::as_bytes) != Some(part)).then_some(part)
        };
        let Some(separator) = self.args.key_separator.as_ref().map(String::as_bytes) else {
            return Ok((None, present(line)));
        };
        let at = line.windows(separator.len().max(1)).position(|window| window == separator);
        match at {
            Some(at) => Ok((present(&line[..at]), present(&line[at + separator.len()..]))),
            None => Err(Failure::new(format!(
                "line {} has no key separator: \"{}\"",
                self.records + 1,
                String::from_utf8_lossy(line)
            ))),
        }
    }

    /// Writes all open batches and waits until they are acknowledged.
    async fn flush(&mut self) -> Done {
        let mut sent = Vec::new();
        for (partition, batch) in std::mem::take(&mut self.open) {
            let node = self.target.leader(partition)?;
            let request = request(&self.target, partition, self.args.acks, batch.build()?);
            let connection = self.cluster.broker(node).await?;
            if self.args.acks == AcksArg::None {
                connection.send_unanswered(&request)?;
            } else {
                sent.push(connection.send(&request)?);
            }
        }
        for pending in sent {
            refusal(&self.target, &pending.answer::<ProduceResponse>().await?)?;
        }
        self.sticky = self.sticky.wrapping_add(1) & i32::MAX;
        // Without answers, the socket has to take everything before the process may end.
        while self.args.acks == AcksArg::None && self.unsent().await? > 0 {
            self.cluster.runtime().sleep(std::time::Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn unsent(&self) -> Outcome<usize> {
        let mut unsent = 0;
        for node in self.target.leaders.values() {
            unsent += self.cluster.broker(*node).await?.unsent();
        }
        Ok(unsent)
    }
}
