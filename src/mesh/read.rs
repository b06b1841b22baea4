//! Reads on the owner core: at once, or parked until there is something to read.

use std::rc::Rc;

use crate::base::PartitionKey;
use crate::log::AtLeast;
use crate::mesh::message::{Answer, ReadAsk};
use crate::mesh::shard::{ReplyTo, Shard};
use crate::partition::replica::Watcher;
use crate::partition::{FetchError, FetchFrom, Fetched};
use crate::runtime::local::{Answer as Awaited, first};

/// What a pass over the partitions of a read found.
struct ReadPass {
    results: Vec<Result<Fetched, FetchError>>,
    bytes: u64,
    /// An error or a parted history ends the wait (DelayedFetch's immediate cases).
    ends_wait: bool,
}

impl Shard {
    pub(super) fn answer_read(self: &Rc<Self>, to: ReplyTo, ask: ReadAsk) {
        let shard = self.clone();
        let (from, call) = match &to {
            ReplyTo::Local(_, call) => (self.id(), *call),
            ReplyTo::Remote(from, call) => (*from, *call),
        };
        // Before anything is waited for: the asker may be in a hurry soon.
        let hurry = ask.wait.map(|_| self.park(from, call));
        self.runtime.spawn("read", async move {
            let (results, has_waited) = match hurry {
                None => (shard.read_all(&ask.partitions, ask.bytes_max).await.results, false),
                Some(hurry) => {
                    let read = shard.read_or_wait(&ask, hurry).await;
                    shard.unpark(from, call);
                    read
                }
            };
            shard.reply(to, Answer::Read { results, has_waited });
        });
    }

    /// Reads once there is enough; and whether that had to be waited for.
    async fn read_or_wait(
        self: &Rc<Self>,
        ask: &ReadAsk,
        mut hurry: Awaited<()>,
    ) -> (Vec<Result<Fetched, FetchError>>, bool) {
        let deadline = self.runtime.now() + ask.wait.unwrap_or_default();
        let mut has_waited = false;
        loop {
            // Watching begins before the read: what is appended in between wakes it.
            let (watcher, told) = Watcher::new();
            for (key, _) in &ask.partitions {
                if let Some(partition) = self.partition(*key) {
                    partition.watch(&watcher);
                }
            }
            let pass = self.read_all(&ask.partitions, ask.bytes_max).await;
            let left = deadline.since(self.runtime.now());
            if pass.bytes >= u64::from(ask.bytes_min) || pass.ends_wait || left.is_zero() {
                return (pass.results, has_waited);
            }
            let told = first(told, async {
                (&mut hurry).await;
                None
            });
            let woken = self.runtime.timeout(left, told).await;
            if !matches!(woken, Some(Some(()))) {
                // The deadline, or the asker wants what there is. Nothing was held meanwhile.
                let results = match pass.bytes {
                    0 => pass.results,
                    _ => self.read_all(&ask.partitions, ask.bytes_max).await.results,
                };
                return (results, true);
            }
            has_waited = true;
        }
    }

    /// Reads every partition once, within the limit of bytes.
    async fn read_all(
        self: &Rc<Self>,
        partitions: &[(PartitionKey, FetchFrom)],
        bytes_max: u32,
    ) -> ReadPass {
        let mut pass = ReadPass { results: Vec::new(), bytes: 0, ends_wait: false };
        pass.results.reserve(partitions.len());
        let mut left = bytes_max;
        for (key, from) in partitions {
            let at_least = if pass.bytes == 0 { AtLeast::OneBatch } else { AtLeast::Nothing };
            let from = FetchFrom { bytes_max: from.bytes_max.min(left), ..*from };
            let result = match self.served(*key) {
                Ok(partition) => partition.read(from, at_least).await,
                Err(error) => Err(error),
            };
            match &result {
                Ok(fetched) => {
                    let length = fetched.slice.as_ref().map_or(0, |slice| slice.length);
                    pass.bytes += u64::from(length);
                    left = left.saturating_sub(length);
                    pass.ends_wait |= fetched.diverging.is_some();
                }
                Err(_) => pass.ends_wait = true,
            }
            pass.results.push(result);
            self.runtime.pass().await;
        }
        pass
    }
}
