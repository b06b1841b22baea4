//! Lanes between the cores of one process: a bounded queue from every core to every other.

use crate::base::ShardId;

use super::{real, sim};

/// A full queue hands the item back.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// One core's ends of all lanes: it can send to every other core and receive from all of them.
///
/// Messages from one core to another arrive in the order they were sent. They leave in batches,
/// once a turn of the sending core. Clones share the same ends.
pub enum Lanes<T: Send + 'static> {
    /// Between glommio executors.
    Real(real::Lanes<T>),
    /// Between simulated cores.
    Sim(sim::Lanes<T>),
}

impl<T: Send + 'static> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Real(lanes) => Self::Real(lanes.clone()),
            Self::Sim(lanes) => Self::Sim(lanes.clone()),
        }
    }
}

impl<T: Send + 'static> Lanes<T> {
    /// Puts `message` into the outbox towards `to` (never this core itself), or hands it back when
    /// the outbox is full: the caller decides who waits.
    pub fn send(&self, to: ShardId, message: T) -> Result<(), Full<T>> {
        match self {
            Self::Real(lanes) => lanes.send(to, message),
            Self::Sim(lanes) => lanes.send(to, message),
        }
    }

    /// As [`send`](Self::send), but a core that sleeps sleeps on, unless it
    /// [is attentive](Self::be_attentive): it finds the message once something else wakes it.
    pub fn send_quietly(&self, to: ShardId, message: T) -> Result<(), Full<T>> {
        match self {
            Self::Real(lanes) => lanes.send_quietly(to, message),
            // Nothing in a simulation takes the time of a wake-up.
            Self::Sim(lanes) => lanes.send(to, message),
        }
    }

    /// Whether a message would have to wake the core. It may be otherwise a moment later; drawn in
    /// a simulation.
    pub fn is_asleep(&self, core: ShardId) -> bool {
        match self {
            Self::Real(lanes) => lanes.is_asleep(core),
            Self::Sim(lanes) => lanes.is_asleep(),
        }
    }

    /// Whether this core wants to be woken by quiet messages, too.
    pub fn be_attentive(&self, attentive: bool) {
        if let Self::Real(lanes) = self {
            lanes.be_attentive(attentive);
        }
    }

    /// Whether the outbox towards `to` has room.
    pub fn has_room(&self, to: ShardId) -> bool {
        match self {
            Self::Real(lanes) => lanes.has_room(to),
            Self::Sim(lanes) => lanes.has_room(to),
        }
    }

    /// Waits until the outbox towards `to` has room.
    pub async fn room(&self, to: ShardId) {
        match self {
            Self::Real(lanes) => lanes.room(to).await,
            Self::Sim(lanes) => lanes.room(to).await,
        }
    }

    /// Waits for messages and appends all that have arrived to `inbox`; at least one.
    ///
    /// One task a core calls this, and it never waits for anything else in between.
    pub async fn receive(&self, inbox: &mut Vec<T>) {
        match self {
            Self::Real(lanes) => lanes.receive(inbox).await,
            Self::Sim(lanes) => lanes.receive(inbox).await,
        }
    }
}
