//! Lanes between the cores: batches through a bounded channel for each ordered pair.
//!
//! ```text
//! send -> outbox -> channel (once a turn of the reactor, and the bell) -> inbox -> receive
//! ```
//!
//! A sender never waits: a full channel leaves the outbox filling, until [`Lanes::send`] hands the
//! message back. A receiver waits for nothing but room in the inbox of its own core, so no circle
//! of cores can wait for each other (trap 9).

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::base::ShardId;
use crate::runtime::Full;
use crate::runtime::local::Notice;

use super::bell::Bells;
use super::core::Core;
use super::reactor::Exchange;

/// Batches that may lie in a channel, sent and not received.
const BATCHES_MAX: usize = 8;

struct Sending<T> {
    channel: SyncSender<Vec<T>>,
    /// A batch did not fit: the receiver rings the sender when it has taken one.
    starved: Arc<AtomicBool>,
}

struct Receiving<T> {
    channel: Receiver<Vec<T>>,
    starved: Arc<AtomicBool>,
}

/// The ends of one core, by the other core; `None` for itself.
pub(super) struct Ends<T> {
    senders: Vec<Option<Sending<T>>>,
    receivers: Vec<Option<Receiving<T>>>,
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
            let (sender, receiver) = sync_channel(BATCHES_MAX);
            let starved = Arc::new(AtomicBool::new(false));
            let sending = Sending { channel: sender, starved: starved.clone() };
            ends[from].senders[to] = Some(sending);
            ends[to].receivers[from] = Some(Receiving { channel: receiver, starved });
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

struct State<T> {
    core: Core,
    bells: Arc<Bells>,
    /// By the receiving core.
    outboxes: Vec<Outbox<T>>,
    receivers: RefCell<Vec<Option<Receiving<T>>>>,
    inbox: RefCell<Vec<T>>,
    /// Something came into the empty inbox.
    arrived: Notice,
    capacity: usize,
}

struct Outbox<T> {
    /// `None` towards this core itself, and once the receiving core is gone: what is sent to it
    /// is lost.
    sending: RefCell<Option<Sending<T>>>,
    waiting: RefCell<Vec<T>>,
    /// Whether anything waits; spares borrowing in quiet turns.
    filled: Cell<bool>,
    /// Whether any of it is to wake the receiver.
    wakes: Cell<bool>,
    /// The outbox was emptied.
    room: Notice,
}

impl<T: Send + 'static> Lanes<T> {
    /// Connects this core's ends to its reactor.
    pub(super) fn start(core: &Core, ends: Ends<T>, capacity: usize) -> Self {
        let outbox = |sending| Outbox {
            sending: RefCell::new(sending),
            waiting: RefCell::default(),
            filled: Cell::new(false),
            wakes: Cell::new(false),
            room: Notice::new(),
        };
        let state = Rc::new(State {
            core: core.clone(),
            bells: core.bells(),
            outboxes: ends.senders.into_iter().map(outbox).collect(),
            receivers: RefCell::new(ends.receivers),
            inbox: RefCell::default(),
            arrived: Notice::new(),
            capacity: capacity.max(1),
        });
        core.reactor().add_exchange(state.clone());
        Self(state)
    }

    fn outbox(&self, to: ShardId) -> &Outbox<T> {
        assert!(to != self.0.core.shard(), "a core has no lane to itself");
        &self.0.outboxes[usize::from(to.0)]
    }

    /// Puts `message` into the outbox towards `to`, or hands it back when that is full.
    pub fn send(&self, to: ShardId, message: T) -> Result<(), Full<T>> {
        let outbox = self.outbox(to);
        self.put(outbox, message)?;
        outbox.wakes.set(true);
        Ok(())
    }

    /// See [`Lanes::send_quietly`](crate::runtime::Lanes::send_quietly).
    pub fn send_quietly(&self, to: ShardId, message: T) -> Result<(), Full<T>> {
        self.put(self.outbox(to), message)
    }

    /// See [`Lanes::is_asleep`](crate::runtime::Lanes::is_asleep).
    pub fn is_asleep(&self, core: ShardId) -> bool {
        self.0.bells.is_asleep(usize::from(core.0))
    }

    /// See [`Lanes::be_attentive`](crate::runtime::Lanes::be_attentive).
    pub fn be_attentive(&self, attentive: bool) {
        self.0.bells.be_attentive(usize::from(self.0.core.shard().0), attentive);
    }

    fn put(&self, outbox: &Outbox<T>, message: T) -> Result<(), Full<T>> {
        if outbox.sending.borrow().is_none() {
            return Ok(());
        }
        let mut waiting = outbox.waiting.borrow_mut();
        if waiting.len() >= self.0.capacity {
            // Whatever it is full of: the receiver has to make room.
            outbox.wakes.set(true);
            return Err(Full(message));
        }
        waiting.push(message);
        outbox.filled.set(true);
        Ok(())
    }

    /// Whether the outbox towards `to` has room.
    pub fn has_room(&self, to: ShardId) -> bool {
        self.outbox(to).waiting.borrow().len() < self.0.capacity
    }

    /// Waits until the outbox towards `to` has room.
    pub async fn room(&self, to: ShardId) {
        let outbox = self.outbox(to);
        loop {
            let emptied = outbox.room.notified();
            if self.has_room(to) {
                return;
            }
            emptied.await;
        }
    }

    /// Waits until every message has left for a core that is still there.
    pub(super) async fn flushed(&self) {
        for outbox in &self.0.outboxes {
            loop {
                let emptied = outbox.room.notified();
                if !outbox.filled.get() {
                    break;
                }
                emptied.await;
            }
        }
    }

    /// Tells the other cores that this one receives nothing more.
    pub(super) fn close(&self) {
        let receivers = mem::take(&mut *self.0.receivers.borrow_mut());
        for (from, receiving) in receivers.into_iter().enumerate() {
            if let Some(Receiving { channel, .. }) = receiving {
                drop(channel);
                self.0.bells.ring(from);
            }
        }
    }

    /// Waits for messages and appends all that have arrived to `inbox`; at least one.
    pub async fn receive(&self, inbox: &mut Vec<T>) {
        loop {
            let arrived = self.0.arrived.notified();
            if self.take_arrived(inbox) {
                return;
            }
            arrived.await;
        }
    }

    /// Appends what has arrived to `inbox`; whether there was anything.
    fn take_arrived(&self, inbox: &mut Vec<T>) -> bool {
        let mut own = self.0.inbox.borrow_mut();
        if own.is_empty() {
            return false;
        }
        let was_full = own.len() >= self.0.capacity;
        if inbox.is_empty() {
            // Two buffers take turns: nothing is moved or allocated.
            mem::swap(inbox, &mut own);
        } else {
            inbox.append(&mut own);
        }
        drop(own);
        if was_full {
            self.0.collect();
        }
        true
    }
}

impl<T: Send + 'static> Exchange for State<T> {
    /// Moves batches out of the channels into the inbox, as far as that has room.
    fn collect(&self) {
        let mut inbox = self.inbox.borrow_mut();
        let was_empty = inbox.is_empty();
        for (from, receiving) in self.receivers.borrow().iter().enumerate() {
            let Some(receiving) = receiving else { continue };
            while inbox.len() < self.capacity {
                let Ok(mut batch) = receiving.channel.try_recv() else { break };
                if inbox.is_empty() {
                    // The batch's own memory becomes the inbox: nothing is moved.
                    mem::swap(&mut *inbox, &mut batch);
                } else {
                    inbox.append(&mut batch);
                }
                if receiving.starved.swap(false, Ordering::SeqCst) {
                    self.bells.ring(from);
                }
            }
        }
        let arrived = was_empty && !inbox.is_empty();
        drop(inbox);
        if arrived {
            self.arrived.notify();
        }
    }

    /// Sends each outbox as one batch, if its channel has room.
    fn deliver(&self) -> bool {
        let mut any = false;
        for (to, outbox) in self.outboxes.iter().enumerate() {
            if outbox.filled.get() {
                any |= self.deliver_to(to, outbox);
            }
        }
        any
    }
}

impl<T: Send + 'static> State<T> {
    fn deliver_to(&self, to: usize, outbox: &Outbox<T>) -> bool {
        let batch = mem::take(&mut *outbox.waiting.borrow_mut());
        let count = batch.len() as u64;
        let mut sending = outbox.sending.borrow_mut();
        let sent = match &*sending {
            Some(Sending { channel, starved }) => match channel.try_send(batch) {
                Err(TrySendError::Full(batch)) => {
                    // The receiver sees the flag, or has made room before it was raised.
                    starved.store(true, Ordering::SeqCst);
                    channel.try_send(batch)
                }
                result => result,
            },
            None => Ok(()),
        };
        match sent {
            Ok(()) => {
                self.core.count(|counters| {
                    counters.lane_messages += count;
                    counters.lane_batches += 1;
                });
                match outbox.wakes.take() {
                    true => self.bells.ring(to),
                    false => self.bells.murmur(to),
                }
            }
            Err(TrySendError::Full(batch)) => {
                if outbox.wakes.get() {
                    // It may be full of what did not wake the receiver.
                    self.bells.ring(to);
                }
                *outbox.waiting.borrow_mut() = batch;
                return false;
            }
            // The peer's main function has returned: the process is ending.
            Err(TrySendError::Disconnected(_)) => *sending = None,
        }
        drop(sending);
        outbox.filled.set(false);
        outbox.room.notify();
        true
    }
}
