//! Appends that come before their partition's log is open.
//!
//! After a crash a log is checked before it serves, and clients do not wait for that to find the
//! others. An append must wait: were it refused, the partition might be open when the producer's
//! next one arrives, and take it without knowing that another belongs in front.

use rustc_hash::FxHashMap;

use crate::base::PartitionKey;
use crate::mesh::Shard;
use crate::mesh::shard::PartitionSlot;
use crate::partition::{Append, AppendFailure, AppendOutcome, Partition};

/// One that waits, and who is told of its outcome.
struct Early {
    append: Append,
    done: Box<dyn FnOnce(AppendOutcome)>,
}

/// All that wait on one core.
#[derive(Default)]
pub(super) struct EarlyAppends {
    waiting: FxHashMap<PartitionKey, Vec<Early>>,
    size_bytes: usize,
}

impl EarlyAppends {
    fn take(&mut self, key: PartitionKey) -> Vec<Early> {
        let taken = self.waiting.remove(&key).unwrap_or_default();
        self.size_bytes -= taken.iter().map(Early::size_bytes).sum::<usize>();
        taken
    }
}

impl Early {
    fn size_bytes(&self) -> usize {
        self.append.batch.bytes.len()
    }
}

impl Shard {
    /// Appends to a partition of this core, once its log is open. `done` is told the outcome.
    pub(super) fn append(
        &self,
        key: PartitionKey,
        append: Append,
        done: impl FnOnce(AppendOutcome) + 'static,
    ) {
        match self.slot(key) {
            Some(PartitionSlot::Open(partition)) => partition.append(append, done),
            Some(PartitionSlot::Opening) => {
                let early = Early { append, done: Box::new(done) };
                let mut all = self.early_appends().borrow_mut();
                // Requests that were answered as timed out wait here still: they need a bound.
                let size_bytes = all.size_bytes + early.size_bytes();
                if size_bytes as u64 > self.config().request_memory_bytes {
                    drop(all);
                    return (early.done)(Err(AppendFailure::NotLeader));
                }
                all.size_bytes = size_bytes;
                all.waiting.entry(key).or_default().push(early);
            }
            Some(PartitionSlot::Failed) => done(Err(AppendFailure::Storage)),
            None => done(Err(AppendFailure::NotLeader)),
        }
    }

    /// Carries out, in their order, the appends that waited for a partition, or refuses them.
    /// Nothing may come in between the change of the partition's place and this.
    pub(super) fn end_early_appends(&self, key: PartitionKey, partition: Option<&Partition>) {
        let waited = self.early_appends().borrow_mut().take(key);
        for Early { append, done } in waited {
            match partition {
                Some(partition) => partition.append(append, done),
                None => done(Err(AppendFailure::NotLeader)),
            }
        }
    }
}
