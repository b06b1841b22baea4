//! Lanes between the cores: batches through glommio's shared channels, one for each ordered pair.
//!
//! ```text
//! send -> outbox -> flusher task (once a turn) -> channel -> receiver task -> inbox -> receive
//! ```
//!
//! A sender never waits: a full channel leaves its flusher waiting and the outbox filling, until
//! [`Lanes::send`] hands the message back. A receiver task waits for nothing but room in the inbox
//! of its own core, so no circle of cores can wait for each other (trap 9).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};

use crate::base::ShardId;
use crate::runtime::Full;
use crate::runtime::local::Notice;

use super::core::Core;

/// Batches that may lie in a channel, sent and not received.
const BATCHES_MAX: usize = 8;

/// The unconnected ends of one core, by the other core; `None` for itself.
pub(super) struct Ends<T: Send + 'static> {
    senders: Vec<Option<SharedSender<Vec<T>>>>,
    receivers: Vec<Option<SharedReceiver<Vec<T>>>>,
}

/// The ends of all cores.
pub(super) fn make_ends<T: Send + 'static>(core_count: usize) -> Vec<Ends<T>> {
    let none = |_| Ends {
        senders: (0..core_count).map(|_| None).collect(),
        receivers: (0..core_count).map(|_| None).collect(),
    };
    let mut ends: Vec<Ends<T>> = (0..core_count).map(none).collect();
    for from in 0..core_count {
        for to in (0..core_count).filter(|to| *to != from) {
            let (sender, receiver) = new_bounded(BATCHES_MAX);
            ends[from].senders[to] = Some(sender);
            ends[to].receivers[from] = Some(receiver);
        }
    }
    ends
}

/// One core's ends of all lanes.
pub struct Lanes<T: Send + 'static>(Rc<State<T>>);

impl<T: Send + 'static> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct State<T: Send + 'static> {
    core: Core,
    /// By the receiving core.
    outboxes: Vec<Outbox<T>>,
    inbox: RefCell<Vec<T>>,
    /// Something came into the empty inbox.
    arrived: Notice,
    /// The inbox was emptied.
    emptied: Notice,
    capacity: usize,
}

struct Outbox<T> {
    waiting: RefCell<Vec<T>>,
    /// The receiving core is gone; what is sent to it is lost.
    gone: Cell<bool>,
    /// A batch waits for room in the channel.
    sending: Cell<bool>,
    /// Something was put into the empty outbox.
    filled: Notice,
    /// The outbox was emptied into a batch, or the batch has left.
    room: Notice,
}

impl<T: Send + 'static> Lanes<T> {
    /// Connects this core's ends and starts its flushers and receivers.
    ///
    /// Every connection waits for its peer, so each has a task of its own: cores that connected in
    /// different orders would wait for each other for ever. Messages sent before all are
    /// connected wait in their outbox.
    pub(super) fn start(core: &Core, ends: Ends<T>, capacity: usize) -> Self {
        let outbox = |_: &_| Outbox {
            waiting: RefCell::default(),
            gone: Cell::new(false),
            sending: Cell::new(false),
            filled: Notice::new(),
            room: Notice::new(),
        };
        let lanes = Self(Rc::new(State {
            core: core.clone(),
            outboxes: ends.senders.iter().map(outbox).collect(),
            inbox: RefCell::default(),
            arrived: Notice::new(),
            emptied: Notice::new(),
            capacity: capacity.max(1),
        }));
        for (to, sender) in ends.senders.into_iter().enumerate() {
            if let Some(sender) = sender {
                let lanes = lanes.clone();
                core.spawn(
                    "lane-out",
                    async move { lanes.flush(to, sender.connect().await).await },
                );
            }
        }
        for receiver in ends.receivers.into_iter().flatten() {
            let lanes = lanes.clone();
            core.spawn("lane-in", async move { lanes.collect(receiver.connect().await).await });
        }
        lanes
    }

    fn outbox(&self, to: ShardId) -> &Outbox<T> {
        assert!(to != self.0.core.shard(), "a core has no lane to itself");
        &self.0.outboxes[usize::from(to.0)]
    }

    /// Puts `message` into the outbox towards `to`, or hands it back when that is full.
    pub fn send(&self, to: ShardId, message: T) -> Result<(), Full<T>> {
        let outbox = self.outbox(to);
        if outbox.gone.get() {
            return Ok(());
        }
        let mut waiting = outbox.waiting.borrow_mut();
        if waiting.len() >= self.0.capacity {
            return Err(Full(message));
        }
        waiting.push(message);
        let was_empty = waiting.len() == 1;
        drop(waiting);
        if was_empty {
            outbox.filled.notify();
        }
        Ok(())
    }

    /// Waits until the outbox towards `to` has room.
    pub async fn room(&self, to: ShardId) {
        let outbox = self.outbox(to);
        while outbox.waiting.borrow().len() >= self.0.capacity {
            outbox.room.notified().await;
        }
    }

    /// Waits until every message has left for a core that is still there.
    pub(super) async fn flushed(&self) {
        for outbox in &self.0.outboxes {
            while !outbox.gone.get()
                && (outbox.sending.get() || !outbox.waiting.borrow().is_empty())
            {
                outbox.room.notified().await;
            }
        }
    }

    /// Waits for messages and appends all that have arrived to `inbox`; at least one.
    pub async fn receive(&self, inbox: &mut Vec<T>) {
        loop {
            let arrived = self.0.arrived.notified();
            if !self.0.inbox.borrow().is_empty() {
                inbox.append(&mut self.0.inbox.borrow_mut());
                self.0.emptied.notify();
                return;
            }
            arrived.await;
        }
    }

    /// Moves one outbox into its channel, a batch a turn: woken by the first message, it runs
    /// after the tasks that were runnable then, and takes what all of them have sent.
    async fn flush(&self, to: usize, sender: ConnectedSender<Vec<T>>) {
        let outbox = &self.0.outboxes[to];
        loop {
            let filled = outbox.filled.notified();
            if outbox.waiting.borrow().is_empty() {
                filled.await;
                continue;
            }
            let batch = std::mem::take(&mut *outbox.waiting.borrow_mut());
            self.0.core.count(|counters| {
                counters.lane_batches += 1;
                counters.lane_messages += batch.len() as u64;
            });
            outbox.sending.set(true);
            outbox.room.notify();
            let sent = sender.send(batch).await;
            outbox.sending.set(false);
            outbox.room.notify();
            if sent.is_err() {
                break;
            }
        }
        // The peer's main function has returned: the process is ending.
        outbox.gone.set(true);
        outbox.waiting.borrow_mut().clear();
        outbox.room.notify();
    }

    /// Moves batches out of one channel into the inbox.
    async fn collect(&self, receiver: ConnectedReceiver<Vec<T>>) {
        while let Some(mut batch) = receiver.recv().await {
            loop {
                let emptied = self.0.emptied.notified();
                if self.0.inbox.borrow().len() < self.0.capacity {
                    break;
                }
                emptied.await;
            }
            let mut inbox = self.0.inbox.borrow_mut();
            let was_empty = inbox.is_empty();
            if was_empty {
                // The batch's own memory becomes the inbox: nothing is moved.
                std::mem::swap(&mut *inbox, &mut batch);
            } else {
                inbox.append(&mut batch);
            }
            drop(inbox);
            if was_empty {
                self.0.arrived.notify();
            }
        }
    }
}
