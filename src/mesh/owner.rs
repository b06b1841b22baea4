//! How an owner core answers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Buf;

use crate::base::PartitionKey;
use crate::mesh::message::{Answer, Ask, Direct};
use crate::mesh::shard::{ReplyTo, Shard};
use crate::partition::replica::DeleteRecordsError;
use crate::partition::{Append, AppendFailure, AppendOutcome, FetchError, RequiredAcks};
use crate::protocol::validate::Validated;
use kafka_protocol::messages::describe_producers_response::ProducerState;

impl Shard {
    /// Begins to answer a question; the answer follows when it is there.
    pub(super) fn answer(self: &Rc<Self>, to: ReplyTo, ask: Ask) {
        match ask {
            Ask::Append { acks, batches, direct } => {
                self.answer_append(to, acks, batches, direct);
            }
            Ask::Read(ask) => self.answer_read(to, ask),
            Ask::Groups(asked) => self.answer_groups(to, asked),
            Ask::ListGroups(list) => {
                let (error, groups) = self.list_groups(&list);
                self.reply(to, Answer::ListGroups(error, groups));
            }
            Ask::Control(ask) => {
                self.control.borrow_mut().push_back((to, ask));
                self.control_notice.notify();
            }
            Ask::Offsets(_)
            | Ask::EpochEnds(_)
            | Ask::DeleteRecords(_)
            | Ask::Producers(_)
            | Ask::Sizes
            | Ask::Start(_)
            | Ask::Recovered
            | Ask::Listen
            | Ask::Apply { .. }
            | Ask::Drain
            | Ask::Exit
            | Ask::Checkpoints { .. }
            | Ask::Close => {
                let shard = self.clone();
                self.runtime.spawn("answer", async move {
                    let answer = shard.answer_later(ask).await;
                    shard.reply(to, answer);
                });
            }
        }
    }

    async fn answer_later(self: &Rc<Self>, ask: Ask) -> Answer {
        match ask {
            Ask::Offsets(queries) => {
                let mut found = Vec::with_capacity(queries.len());
                for (key, query) in queries {
                    found.push(match self.served(key) {
                        Ok(partition) => partition.find_offset(query).await,
                        Err(error) => Err(error),
                    });
                    self.runtime.pass().await;
                }
                Answer::Offsets(found)
            }
            Ask::EpochEnds(queries) => Answer::EpochEnds(
                queries
                    .into_iter()
                    .map(|(key, current, asked)| {
                        let partition = self.served(key)?;
                        partition.check_epoch(current)?;
                        Ok(partition.epoch_end(asked))
                    })
                    .collect(),
            ),
            Ask::DeleteRecords(orders) => {
                self.checkpoints_stale.set(true);
                let mut done = Vec::with_capacity(orders.len());
                for (key, before) in orders {
                    done.push(match self.served(key) {
                        Ok(partition) => partition.delete_records(before).await,
                        Err(FetchError::Storage) => Err(DeleteRecordsError::Storage),
                        Err(_) => Err(DeleteRecordsError::NotLeader),
                    });
                }
                Answer::DeleteRecords(done)
            }
            Ask::Producers(keys) => {
                let mut lists = Vec::with_capacity(keys.len());
                for key in keys {
                    lists.push(self.producers_of(key));
                    self.runtime.pass().await;
                }
                Answer::Producers(lists)
            }
            Ask::Sizes => Answer::Sizes(
                self.partitions().iter().map(|p| (p.key(), p.log().size_bytes())).collect(),
            ),
            Ask::Start(start) => {
                self.begin(&start).await;
                Answer::Applied
            }
            Ask::Recovered => Answer::Recovered(self.recovered().await),
            Ask::Listen => {
                self.started.set(true);
                self.lifecycle.notify();
                Answer::Applied
            }
            Ask::Exit => {
                self.exiting.set(true);
                self.lifecycle.notify();
                Answer::Applied
            }
            Ask::Apply { image, delta } => {
                self.apply(image, &delta).await;
                Answer::Applied
            }
            Ask::Checkpoints { flush } => {
                let changed = self.checkpoints_stale.replace(false);
                Answer::Checkpoints { lines: self.checkpoints(flush).await, changed }
            }
            Ask::Drain => {
                self.ending.set(true);
                self.ending_notice.notify();
                self.release_group_members();
                while self.counters.connections_open.get() > 0 {
                    self.runtime.sleep(std::time::Duration::from_millis(2)).await;
                }
                Answer::Applied
            }
            Ask::Close => self.close_partitions().await,
            Ask::Append { .. }
            | Ask::Read(_)
            | Ask::Groups(_)
            | Ask::ListGroups(_)
            | Ask::Control(_) => {
                unreachable!("answered on their own paths")
            }
        }
    }

    fn producers_of(&self, key: PartitionKey) -> Result<Vec<ProducerState>, FetchError> {
        let partition = self.served(key)?;
        Ok(partition.with_producers(|producers| {
            producers
                .list()
                .into_iter()
                .map(|active| {
                    ProducerState::default()
                        .with_producer_id(active.producer_id.into())
                        .with_producer_epoch(i32::from(active.producer_epoch))
                        .with_last_sequence(active.last_sequence)
                        .with_last_timestamp(active.last_timestamp)
                        .with_coordinator_epoch(active.coordinator_epoch)
                        .with_current_txn_start_offset(active.current_txn_start_offset)
                })
                .collect()
        }))
    }

    fn answer_append(
        self: &Rc<Self>,
        to: ReplyTo,
        acks: RequiredAcks,
        batches: Vec<(PartitionKey, Validated)>,
        direct: Option<Box<Direct>>,
    ) {
        self.checkpoints_stale.set(true);
        let join = Rc::new(AppendJoin {
            shard: self.clone(),
            to: RefCell::new(Some((to, direct))),
            outcomes: RefCell::new(vec![Err(AppendFailure::NotLeader); batches.len()]),
            missing: Cell::new(batches.len()),
        });
        for (index, (key, batch)) in batches.into_iter().enumerate() {
            self.counters.append_bytes_total.add(batch.bytes.len() as u64);
            let join = join.clone();
            let append = Append { batch, acks };
            self.append(key, append, move |outcome| join.complete(index, outcome));
        }
    }
}

/// Gathers the outcomes of one question's appends and answers once, when all are there.
struct AppendJoin {
    shard: Rc<Shard>,
    to: RefCell<Option<(ReplyTo, Option<Box<Direct>>)>>,
    outcomes: RefCell<Vec<AppendOutcome>>,
    missing: Cell<usize>,
}

impl AppendJoin {
    fn complete(&self, index: usize, outcome: AppendOutcome) {
        self.outcomes.borrow_mut()[index] = outcome;
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() > 0 {
            return;
        }
        let Some((to, direct)) = self.to.borrow_mut().take() else { return };
        let outcomes = std::mem::take(&mut *self.outcomes.borrow_mut());
        match direct {
            // Errors may need what only the asker knows.
            Some(direct) if outcomes.iter().all(Result::is_ok) => {
                self.answer_client(to, *direct, outcomes);
            }
            _ => self.shard.reply(to, Answer::Append(outcomes)),
        }
    }

    /// Sends the client its answer, if the asker sleeps: it need not wake up for that. Many such
    /// answers in one turn would hold up this core.
    fn answer_client(&self, to: ReplyTo, direct: Direct, outcomes: Vec<AppendOutcome>) {
        let Direct { loan, produced } = direct;
        let mut frame = produced.frame(outcomes);
        if !self.shard.wakes(&to) || self.shard.runtime.is_late() {
            return self.shard.reply(to, Answer::Unsent(frame));
        }
        let sent = loan.send(&self.shard.runtime, &frame).unwrap_or(0);
        self.shard.counters.response_bytes_total.add(sent as u64);
        if sent == frame.len() {
            self.shard.counters.answers_lent_total.add(1);
            return self.shard.reply_quietly(to, Answer::Answered);
        }
        frame.advance(sent);
        self.shard.reply(to, Answer::Unsent(frame));
    }
}
