//! Reading: every connection its share of the partitions, from the first record on.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::NodeId;
use crate::protocol::batch::Batches;
use crate::protocol::list_offsets::EARLIEST_TIMESTAMP;
use crate::runtime::Runtime;

use super::super::args::BenchConsumeArgs;
use super::super::client::{ClientError, Connection, Outcome};
use super::super::fetch::{Amounts, fetch};
use super::super::offsets::list_offsets;
use super::super::terminal::{Done, Failure};
use super::meter::{Course, Meter};
use super::page::{NOTE_CLOSED, Rate};
use super::seconds::Amount;
use super::{Creation, Target, measure, open, seconds, tell};

/// One connection's share of the partitions, all led by one node.
struct Worker {
    runtime: Runtime,
    connection: Connection,
    node: NodeId,
    target: Rc<Target>,
    begins: BTreeMap<i32, u64>,
    amounts: Amounts,
    /// Whether it begins anew at the end.
    again: Again,
    meter: Meter,
}

/// What happens at the end of the partitions.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Again {
    FromTheBeginning,
    Never,
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: BenchConsumeArgs) -> Done {
    let cluster = open(&runtime, &args.common.cluster).await?;
    let target = Target::find(&cluster, &args.common.topic, Creation::Forbidden).await?;
    let begins = list_offsets(&cluster, &target.name, &target.leaders, EARLIEST_TIMESTAMP).await?;
    let target = Rc::new(target);
    let meter = Meter::new(&Course::new(), seconds(args.common.duration));
    let amounts = Amounts {
        bytes_max: args.fetch_bytes,
        partition_bytes_max: args.partition_bytes,
        bytes_min: args.min_bytes,
        wait_ms: 500,
        isolation: 0,
    };
    let connections = args.common.connections.max(1) as usize;
    let mut workers = 0;
    for by_node in shares(&target.leaders, &begins, connections) {
        for (node, begins) in by_node {
            let worker = Worker {
                runtime: runtime.clone(),
                connection: cluster.new_connection(node).await?,
                node,
                target: target.clone(),
                begins,
                amounts,
                again: if args.once { Again::Never } else { Again::FromTheBeginning },
                meter: meter.clone(),
            };
            workers += 1;
            runtime.spawn("bench", async move {
                let outcome = worker.read().await;
                worker.meter.finish(outcome);
            });
        }
    }
    if workers == 0 {
        return Err(Failure::new("the topic has no partitions"));
    }
    let report = measure(&runtime, &args.common, &meter, "consume", workers).await?;
    tell(&runtime, &args.common, &report, Rate::Megabytes, &[NOTE_CLOSED]).await
}

/// What each of `readers` reads: by node and partition, where it begins. Those of one node go to as
/// few readers as can be; more readers than partitions read some of them twice.
pub fn shares(
    leaders: &BTreeMap<i32, NodeId>,
    begins: &BTreeMap<i32, u64>,
    readers: usize,
) -> Vec<BTreeMap<NodeId, BTreeMap<i32, u64>>> {
    let mut partitions: Vec<(NodeId, i32)> =
        leaders.iter().map(|(partition, node)| (*node, *partition)).collect();
    partitions.sort_unstable();
    let count = partitions.len();
    let share = |index: usize| {
        let mut by_node: BTreeMap<NodeId, BTreeMap<i32, u64>> = BTreeMap::new();
        for (node, partition) in partitions.iter().skip(index % count.max(1)).step_by(readers) {
            let begin = begins.get(partition).copied().unwrap_or(0);
            by_node.entry(*node).or_default().insert(*partition, begin);
        }
        by_node
    };
    (0..readers).map(share).collect()
}

impl Worker {
    async fn read(&self) -> Outcome<()> {
        let mut next = self.begins.clone();
        while self.meter.runs() {
            let began = self.runtime.now();
            let fetched =
                fetch(&self.connection, &self.target, self.node, &next, self.amounts).await?;
            let answered = self.runtime.now();
            let (mut records, mut bytes) = (0, 0);
            let mut ends = 0;
            for part in &fetched {
                let place = next
                    .get_mut(&part.partition)
                    .ok_or(ClientError::Broken { address: self.connection.address().to_owned() })?;
                let mut batches = Batches::new(&part.records);
                for batch in &mut batches {
                    let Ok(batch) = batch else { break };
                    records += u64::try_from(batch.header.record_count).unwrap_or(0);
                    *place = (*place).max(u64::try_from(batch.header.next_offset()).unwrap_or(0));
                }
                bytes += batches.position() as u64;
                ends += usize::from(*place >= part.high_watermark);
            }
            self.meter.count(began, answered, Amount { requests: 1, records, bytes });
            // Partitions that are read to their end have no place in incremental answers, so the
            // answer names all that were asked for.
            if ends == self.begins.len() {
                if self.again == Again::Never {
                    return Ok(());
                }
                next = self.begins.clone();
            }
            self.runtime.pass().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_read_by_one_and_surplus_readers_read_along() {
        let leaders = (0..5).map(|index| (index, NodeId(1 + index % 2))).collect();
        let begins = (0..5).map(|index| (index, 10 * index as u64)).collect();
        let told = |readers| {
            let lists = shares(&leaders, &begins, readers).into_iter().map(|by_node| {
                by_node
                    .into_iter()
                    .flat_map(|(node, begins)| {
                        begins.into_iter().map(move |(index, begin)| (node.0, index, begin))
                    })
                    .collect::<Vec<_>>()
            });
            lists.collect::<Vec<_>>()
        };
        let two = [vec![(1, 0, 0), (1, 4, 40), (2, 3, 30)], vec![(1, 2, 20), (2, 1, 10)]];
        assert_eq!(told(2), two);
        let all = told(7);
        assert_eq!(all.len(), 7);
        assert!(all.iter().all(|list| list.len() == 1));
        assert_eq!([&all[0], &all[1]], [&all[5], &all[6]]);
    }
}
