//! `corelog consume`: prints the records of a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::protocol::batch::{BatchHeader, BatchView, Batches};
use crate::protocol::compression::decompress;
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use crate::protocol::record::{ControlType, RecordView, Records};
use crate::runtime::Runtime;
use crate::runtime::local::first;

use super::args::ConsumeArgs;
use super::client::{Cluster, Creation};
use super::fetch::{Amounts, Fetched, fetch};
use super::offsets::list_offsets;
use super::target::Target;
use super::terminal::{Done, Failure, Output, Progress, Visible, per_second};
use super::topic::open;

/// Most bytes a batch may hold uncompressed: what Apache Kafka's clients can.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

struct Consumer<'a> {
    args: &'a ConsumeArgs,
    out: Output,
    /// The next offset of each partition.
    next: BTreeMap<i32, u64>,
    /// Where each partition ended when reading began.
    ends: BTreeMap<i32, u64>,
    /// Producers whose open transaction in a partition was aborted.
    aborted: BTreeSet<(i32, i64)>,
    records: u64,
    bytes: u64,
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: ConsumeArgs) -> Done {
    let cluster = open(&runtime, &args.cluster).await?;
    let mut target = Target::find(&cluster, &args.topic, Creation::Forbidden).await?;
    if !args.partitions.is_empty() {
        for partition in &args.partitions {
            target.leader(*partition)?;
        }
        target.leaders.retain(|index, _| args.partitions.contains(index));
    }
    let ends = list_offsets(&cluster, &target.name, &target.leaders, LATEST_TIMESTAMP).await?;
    let starts = list_offsets(&cluster, &target.name, &target.leaders, EARLIEST_TIMESTAMP).await?;
    let begin = |index: &i32| match args.offset {
        Some(offset) => offset,
        None if args.from_beginning => starts.get(index).copied().unwrap_or(0),
        None => ends.get(index).copied().unwrap_or(0),
    };
    let consumer = Consumer {
        args: &args,
        out: Output::new(),
        next: target.leaders.keys().map(|index| (*index, begin(index))).collect(),
        ends,
        aborted: BTreeSet::new(),
        records: 0,
        bytes: 0,
    };
    let asked_to_end = async {
        runtime.terminated().await;
        Ok(())
    };
    first(consumer.read(&runtime, &cluster, &target), asked_to_end).await
}

impl Consumer<'_> {
    async fn read(mut self, runtime: &Runtime, cluster: &Cluster, target: &Target) -> Done {
        let progress = Progress::new(Visible::unless(self.args.quiet));
        let began = runtime.now();
        let mut shown = began;
        let amounts = Amounts {
            bytes_max: 1 << 20,
            partition_bytes_max: 1 << 20,
            bytes_min: 1,
            wait_ms: 500,
            isolation: i8::from(!self.args.uncommitted),
        };
        let nodes: BTreeSet<_> = target.leaders.values().copied().collect();
        'reading: while !self.is_done() {
            for node in &nodes {
                let connection = cluster.broker(*node).await?;
                for fetched in fetch(&connection, target, *node, &self.next, amounts).await? {
                    if self.print(&fetched)?.is_break() {
                        break 'reading;
                    }
                }
            }
            self.out.flush()?;
            let now = runtime.now();
            if now.since(shown).as_millis() >= 500 {
                shown = now;
                let rate = per_second(self.records, now.since(began));
                progress.show(format_args!("{} records read, {rate} a second", self.records));
            }
        }
        self.out.flush()?;
        let took = runtime.now().since(began);
        let rate = per_second(self.records, took);
        progress.end(format_args!(
            "{} records read, {} bytes, in {:.1} s, {rate} a second",
            self.records,
            self.bytes,
            took.as_secs_f64()
        ));
        Ok(())
    }

    fn is_done(&self) -> bool {
        let counted = self.args.count.is_some_and(|count| self.records >= count);
        let at_end = self.args.exit_at_end
            && self
                .next
                .iter()
                .all(|(index, next)| self.ends.get(index).is_none_or(|end| next >= end));
        counted || at_end
    }

    fn print(&mut self, fetched: &Fetched) -> Result<ControlFlow<()>, Failure> {
        let partition = fetched.partition;
        for batch in Batches::new(&fetched.records) {
            let batch = batch.map_err(|error| Failure::new(error.to_string()))?;
            if !batch.is_intact() {
                return Err(Failure::new(format!(
                    "partition {partition}: the batch at offset {} fails its checksum",
                    batch.header.base_offset
                )));
            }
            let next = u64::try_from(batch.header.next_offset()).unwrap_or(0);
            if !self.is_hidden(partition, &batch, fetched)?
                && self.print_batch(partition, &batch)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            if let Some(place) = self.next.get_mut(&partition) {
                *place = (*place).max(next);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether no application should see the batch: control batches and aborted transactions.
    fn is_hidden(
        &mut self,
        partition: i32,
        batch: &BatchView<'_>,
        fetched: &Fetched,
    ) -> Result<bool, Failure> {
        let header = &batch.header;
        let producer = (partition, header.producer_id);
        if header.is_control() {
            let mut records = Records::new(batch.payload(), header.record_count);
            let marker = records.next().and_then(Result::ok).and_then(|record| record.key);
            if marker.and_then(ControlType::from_key) == Some(ControlType::Abort) {
                self.aborted.remove(&producer);
            }
            return Ok(true);
        }
        if self.args.uncommitted || !header.is_transactional() {
            return Ok(false);
        }
        let last = u64::try_from(header.last_offset()).unwrap_or(0);
        let began = |(id, first): &(i64, u64)| *id == header.producer_id && *first <= last;
        if fetched.aborted.iter().any(began) {
            self.aborted.insert(producer);
        }
        Ok(self.aborted.contains(&producer))
    }

    fn print_batch(
        &mut self,
        partition: i32,
        batch: &BatchView<'_>,
    ) -> Result<ControlFlow<()>, Failure> {
        let payload = decompress(batch, BATCH_BYTES_MAX)
            .map_err(|error| Failure::new(format!("partition {partition}: {error}")))?;
        let from = self.next.get(&partition).copied().unwrap_or(0);
        for record in Records::new(&payload, batch.header.record_count) {
            let record = record.map_err(|error| Failure::new(error.to_string()))?;
            let offset = u64::try_from(batch.header.offset_of(&record)).unwrap_or(0);
            if offset < from {
                continue;
            }
            self.print_record(partition, offset, &batch.header, &record)?;
            if self.args.count.is_some_and(|count| self.records >= count) {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn print_record(
        &mut self,
        partition: i32,
        offset: u64,
        header: &BatchHeader,
        record: &RecordView<'_>,
    ) -> Done {
        let null = self.args.null_marker.as_bytes();
        let out = &mut self.out;
        if self.args.offsets {
            out.bytes(format!("{partition}:{offset}\t").as_bytes())?;
        }
        if self.args.timestamps {
            out.bytes(format!("{}\t", header.timestamp_of(record)).as_bytes())?;
        }
        if self.args.headers {
            for (index, header) in record.headers.enumerate() {
                if index > 0 {
                    out.bytes(b",")?;
                }
                out.bytes(header.key)?;
                out.bytes(b"=")?;
                out.bytes(header.value.unwrap_or(null))?;
            }
            out.bytes(b"\t")?;
        }
        if let Some(separator) = &self.args.key_separator {
            out.bytes(record.key.unwrap_or(null))?;
            out.bytes(separator.as_bytes())?;
        }
        out.bytes(record.value.unwrap_or(null))?;
        out.bytes(b"\n")?;
        self.records += 1;
        self.bytes += record.value.map_or(0, |value| value.len() as u64);
        Ok(())
    }
}
