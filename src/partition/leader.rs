//! The leader's half of a replica: in-sync replicas, the high watermark, acknowledgements.
//!
//! Inputs say what happened (a write completed, a follower fetched, the in-sync set changed);
//! effects say what follows (acknowledge an append, the high watermark moved).
//!
//! Invariant: `high_watermark <= written_end`; the high watermark never moves back.
//! Not here: bytes and files (`log`), sequence numbers (`producers`), the clock (`runtime`).

use std::collections::{BTreeMap, VecDeque};

use crate::base::{LeaderEpoch, NodeId, Offset};

/// What happened to the leader's replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// All records below `end` are in this replica's log as durably as the topic asks for.
    Written {
        /// The first offset not written.
        end: Offset,
    },
    /// An append with `acks=all` waits until the high watermark passes `end`.
    Await {
        /// The append, named by the caller.
        ticket: Ticket,
        /// The first offset behind the append's records.
        end: Offset,
    },
    /// A follower asked for records from `end` on, so it has all below.
    FollowerFetched {
        /// The follower.
        replica: NodeId,
        /// The first offset it lacks.
        end: Offset,
    },
    /// The controller committed another in-sync set.
    InSyncChanged {
        /// The replicas now in sync, this one included.
        in_sync: Vec<NodeId>,
    },
    /// `min.insync.replicas` changed.
    MinInSyncChanged {
        /// The new least number of replicas in sync.
        count: u32,
    },
}

/// What follows from an input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// The append has its answer.
    Acknowledge {
        /// The append.
        ticket: Ticket,
        /// Whether enough replicas have it.
        result: Result<(), NotEnoughReplicasAfterAppend>,
    },
    /// Readers may now see all records below `to`.
    HighWatermarkMoved {
        /// The new high watermark.
        to: Offset,
    },
}

/// The caller's name for an append that waits.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// The in-sync set shrank below `min.insync.replicas` while an append waited (error code 20).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotEnoughReplicasAfterAppend;

/// The in-sync set is below `min.insync.replicas`: an append with `acks=all` is refused (19).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotEnoughReplicas;

/// The state of a leading replica. See the module's header.
#[derive(Debug)]
pub struct Leader {
    node: NodeId,
    epoch: LeaderEpoch,
    epoch_start: Offset,
    replicas: Vec<NodeId>,
    in_sync: Vec<NodeId>,
    in_sync_count_min: u32,
    written_end: Offset,
    follower_ends: BTreeMap<NodeId, Offset>,
    high_watermark: Offset,
    waiting: VecDeque<(Offset, Ticket)>,
}

/// What a replica begins its leadership with.
#[derive(Clone, Debug)]
pub struct Start {
    /// This node.
    pub node: NodeId,
    /// The epoch of the leadership.
    pub epoch: LeaderEpoch,
    /// All replicas of the partition, this one included.
    pub replicas: Vec<NodeId>,
    /// The replicas in sync.
    pub in_sync: Vec<NodeId>,
    /// `min.insync.replicas`.
    pub in_sync_count_min: u32,
    /// The end of this replica's log.
    pub log_end: Offset,
    /// The last high watermark known, from the checkpoint.
    pub high_watermark: Offset,
}

impl Leader {
    /// A leadership that begins: what the log holds counts as written.
    pub fn new(start: Start, effects: &mut Vec<Effect>) -> Self {
        let mut leader = Self {
            node: start.node,
            epoch: start.epoch,
            epoch_start: start.log_end,
            replicas: start.replicas,
            in_sync: start.in_sync,
            in_sync_count_min: start.in_sync_count_min,
            written_end: start.log_end,
            follower_ends: BTreeMap::new(),
            high_watermark: start.high_watermark.min(start.log_end),
            waiting: VecDeque::new(),
        };
        leader.advance(effects);
        leader
    }

    /// The epoch of this leadership.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Where the log ended when this leadership began.
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// Records below it are replicated: consumers may read them, and they are never lost.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The first offset that is not written yet.
    pub fn written_end(&self) -> Offset {
        self.written_end
    }

    /// The replicas in sync.
    pub fn in_sync(&self) -> &[NodeId] {
        &self.in_sync
    }

    /// Whether an append with `acks=all` may be taken now (KIP-966: the least number never exceeds
    /// the number of replicas).
    pub fn admit(&self) -> Result<(), NotEnoughReplicas> {
        if self.enough_in_sync() { Ok(()) } else { Err(NotEnoughReplicas) }
    }

    /// Applies one input, and appends to `effects` what follows from it.
    pub fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Written { end } => {
                assert!(self.written_end <= end, "writes are reported in order");
                self.written_end = end;
            }
            Input::Await { ticket, end } => {
                debug_assert!(self.waiting.back().is_none_or(|(last, _)| *last <= end));
                self.waiting.push_back((end, ticket));
            }
            Input::FollowerFetched { replica, end } => self.fetched_to(replica, end),
            Input::InSyncChanged { in_sync } => {
                assert!(in_sync.contains(&self.node), "a leader is in sync with itself");
                self.in_sync = in_sync;
            }
            Input::MinInSyncChanged { count } => self.in_sync_count_min = count,
        }
        self.advance(effects);
        self.check_invariants();
    }

    /// This replica was elected again, under a new epoch.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch, log_end: Offset) {
        assert!(epoch > self.epoch, "leader epochs only grow");
        self.epoch = epoch;
        self.epoch_start = log_end;
    }

    /// Tickets still waiting, taken out: the leadership ends or the log failed.
    pub fn abandon(&mut self) -> Vec<Ticket> {
        self.waiting.drain(..).map(|(_, ticket)| ticket).collect()
    }

    fn fetched_to(&mut self, replica: NodeId, end: Offset) {
        if replica == self.node || !self.replicas.contains(&replica) {
            return;
        }
        let known = self.follower_ends.entry(replica).or_default();
        *known = (*known).max(end);
    }

    fn enough_in_sync(&self) -> bool {
        let least = (self.in_sync_count_min as usize).min(self.replicas.len());
        self.in_sync.len() >= least
    }

    fn advance(&mut self, effects: &mut Vec<Effect>) {
        // No advance below the least number in sync: a record that too few replicas hold must not
        // become visible (KIP-966).
        if self.enough_in_sync() {
            let replicated = self
                .in_sync
                .iter()
                .filter(|replica| **replica != self.node)
                .map(|replica| self.follower_ends.get(replica).copied().unwrap_or_default())
                .fold(self.written_end, Offset::min);
            if replicated > self.high_watermark {
                self.high_watermark = replicated;
                effects.push(Effect::HighWatermarkMoved { to: replicated });
            }
        }
        while let Some((end, ticket)) = self.waiting.front().copied() {
            if end > self.high_watermark {
                break;
            }
            self.waiting.pop_front();
            let result =
                if self.enough_in_sync() { Ok(()) } else { Err(NotEnoughReplicasAfterAppend) };
            effects.push(Effect::Acknowledge { ticket, result });
        }
    }

    fn check_invariants(&self) {
        assert!(self.high_watermark <= self.written_end, "only written records are visible");
        debug_assert!(self.in_sync.iter().all(|replica| self.replicas.contains(replica)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    fn start(in_sync: &[NodeId], in_sync_count_min: u32) -> Start {
        Start {
            node: ME,
            epoch: LeaderEpoch::ZERO,
            replicas: vec![ME, OTHER],
            in_sync: in_sync.to_vec(),
            in_sync_count_min,
            log_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
        }
    }

    fn effects_after(start: Start, inputs: &[Input]) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut leader = Leader::new(start, &mut effects);
        for input in inputs {
            leader.handle(input.clone(), &mut effects);
        }
        effects
    }

    #[test]
    fn an_append_is_acknowledged_once_every_replica_in_sync_has_it() {
        let end = Offset::new(5);
        let wait = Input::Await { ticket: Ticket(7), end };
        let written = Input::Written { end };
        let behind = Input::FollowerFetched { replica: OTHER, end: Offset::new(4) };
        let fetched = Input::FollowerFetched { replica: OTHER, end };
        let done = vec![
            Effect::HighWatermarkMoved { to: end },
            Effect::Acknowledge { ticket: Ticket(7), result: Ok(()) },
        ];
        let partly = vec![Effect::HighWatermarkMoved { to: Offset::new(4) }];
        let cases: [(&str, &[Input], Vec<Effect>); 5] = [
            ("waits only", std::slice::from_ref(&wait), vec![]),
            ("leader has it", &[wait.clone(), written.clone()], vec![]),
            ("follower lacks one", &[wait.clone(), written.clone(), behind], partly),
            ("both have it", &[wait.clone(), written.clone(), fetched.clone()], done.clone()),
            ("follower was told first", &[wait.clone(), fetched, written], done),
        ];
        for (name, inputs, expected) in cases {
            assert_eq!(effects_after(start(&[ME, OTHER], 1), inputs), expected, "{name}");
        }
    }

    #[test]
    fn a_leader_alone_in_sync_sees_its_own_writes_unless_two_are_demanded() {
        let end = Offset::new(3);
        let written = [Input::Written { end }];
        let moved = vec![Effect::HighWatermarkMoved { to: end }];
        assert_eq!(effects_after(start(&[ME], 1), &written), moved);
        assert_eq!(effects_after(start(&[ME], 2), &written), vec![]);
        let mut alone = start(&[ME], 2);
        alone.replicas = vec![ME];
        assert_eq!(effects_after(alone, &written), moved, "one replica is never asked for two");
    }

    #[test]
    fn a_shrunk_in_sync_set_lets_the_watermark_pass_but_fails_the_append() {
        let end = Offset::new(2);
        let effects = effects_after(
            start(&[ME, OTHER], 1),
            &[
                Input::Written { end },
                Input::Await { ticket: Ticket(1), end },
                Input::InSyncChanged { in_sync: vec![ME] },
            ],
        );
        assert_eq!(effects[0], Effect::HighWatermarkMoved { to: end });
        assert_eq!(effects[1], Effect::Acknowledge { ticket: Ticket(1), result: Ok(()) });
        let mut leader = Leader::new(start(&[ME], 2), &mut Vec::new());
        assert_eq!(leader.admit(), Err(NotEnoughReplicas));
        leader.handle(Input::MinInSyncChanged { count: 1 }, &mut Vec::new());
        assert_eq!(leader.admit(), Ok(()));
    }
}
