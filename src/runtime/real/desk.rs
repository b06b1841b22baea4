//! How connections are spread over the cores.
//!
//! The kernel spreads connections by a hash of their addresses, and Kafka's clients have few, busy
//! ones: of four, three would often land on one core. So the core that accepts a connection hands
//! it over, as a descriptor; before the first byte is read nothing else belongs to it. It goes to a
//! core that is clearly less busy than others, or else to the one that has the fewest connections.
//! Among cores that have as few they take turns: a client opens its busy connections in a row, and
//! before them those that will be idle.

use std::hash::BuildHasher;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustc_hash::FxBuildHasher;

use super::bell::Bells;
use super::sys;

/// Listeners of a core that take part; connections of further ones stay where they are accepted.
const LISTENERS_MAX: usize = 8;

/// Cores whose loads differ by less are equally busy, in thousandths of a core's time.
const CLEAR_PERMILLE: u32 = 200;

/// A connection on its way to another core.
pub(super) struct Handed {
    /// The address of the listener that accepted it.
    pub(super) address: SocketAddr,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// The core it goes to.
    pub(super) to: usize,
    /// Its place among the connections of the core that was chosen for it first.
    pub(super) seat: Seat,
    /// How often it was moved after it had been placed.
    pub(super) moves: u32,
}

/// What is known of a core that a connection may go to.
struct Candidate {
    core: usize,
    busy_permille: u32,
    open: usize,
    /// Of those the ones that its load does not show yet.
    placed: usize,
}

/// The core for one more connection; of equal ones the first.
fn choose(candidates: &[Candidate]) -> Option<usize> {
    let busy = || candidates.iter().map(|candidate| candidate.busy_permille);
    let spread = busy().max()? - busy().min()?;
    let chosen = if spread < CLEAR_PERMILLE {
        candidates.iter().min_by_key(|candidate| candidate.open)
    } else {
        // One that is new costs what others do, as far as anybody can tell.
        let open: usize = candidates.iter().map(|candidate| candidate.open).sum();
        let cost = (busy().sum::<u32>() as usize / open.max(1)).max(1);
        let expected = |it: &&Candidate| it.busy_permille as usize + it.placed * cost;
        candidates.iter().min_by_key(expected)
    };
    chosen.map(|candidate| candidate.core)
}

/// What all cores know of each other's connections.
pub(super) struct Desks {
    desks: Box<[Desk]>,
    bells: Arc<Bells>,
    /// Connections of all cores, also those that are being accepted.
    connections: AtomicUsize,
    connections_max: AtomicU32,
    /// The core that was given the latest connection.
    latest: AtomicUsize,
}

#[repr(align(128))]
struct Desk {
    open: AtomicUsize,
    /// Connections that it was given since it told how busy it is, and when it told.
    placed: AtomicUsize,
    placed_since: AtomicU64,
    /// Hashes of the addresses listened on; 0 where there is none.
    listening: [AtomicU64; LISTENERS_MAX],
    inbox: Sender<Handed>,
}

/// A connection's place among those of its core, given back when dropped. It keeps the place when
/// it moves to another core: that core shall not be given fewer new ones for it.
pub(super) struct Seat {
    ticket: Ticket,
    core: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.ticket.0.desks[self.core].open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to have one connection more, given back when dropped. It is taken before a connection
/// is accepted: all cores accept at the same time.
pub(super) struct Ticket(Arc<Desks>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Seat {
    /// The core the connection belongs to.
    pub(super) fn core(&self) -> usize {
        self.core
    }
}

fn key(address: &SocketAddr) -> u64 {
    FxBuildHasher.hash_one(address) | 1
}

impl Desks {
    /// The desks of so many cores, and where each receives connections.
    pub(super) fn new(core_count: usize, bells: Arc<Bells>) -> (Arc<Self>, Vec<Receiver<Handed>>) {
        let (desks, inboxes): (Vec<_>, Vec<_>) = (0..core_count)
            .map(|_| {
                let (inbox, receiver) = channel();
                let listening = [const { AtomicU64::new(0) }; LISTENERS_MAX];
                let desk = Desk {
                    open: AtomicUsize::new(0),
                    placed: AtomicUsize::new(0),
                    placed_since: AtomicU64::new(0),
                    listening,
                    inbox,
                };
                (desk, receiver)
            })
            .unzip();
        let connections = AtomicUsize::new(0);
        let connections_max = AtomicU32::new(u32::MAX);
        let latest = AtomicUsize::new(core_count.saturating_sub(1));
        let desks = desks.into();
        (Arc::new(Self { desks, bells, connections, connections_max, latest }), inboxes)
    }

    /// Tells the other cores that `core` listens on `address`.
    pub(super) fn open(&self, core: usize, address: &SocketAddr) {
        let key = key(address);
        // Only the core itself writes here.
        for slot in &self.desks[core].listening {
            if slot.load(Ordering::Relaxed) == 0 {
                return slot.store(key, Ordering::Release);
            }
        }
    }

    /// Takes that back.
    pub(super) fn close(&self, core: usize, address: &SocketAddr) {
        let key = key(address);
        for slot in &self.desks[core].listening {
            if slot.load(Ordering::Relaxed) == key {
                return slot.store(0, Ordering::Release);
            }
        }
    }

    /// A seat for a connection that `core` accepted on `address`: see the head of this file.
    pub(super) fn seat(&self, ticket: Ticket, core: usize, address: &SocketAddr) -> Seat {
        let count = self.desks.len();
        let latest = self.latest.load(Ordering::Relaxed);
        let now = sys::monotonic_nanos();
        let candidates: Vec<Candidate> = (1..=count)
            .map(|step| (latest + step) % count)
            .filter(|other| *other == core || self.listens(*other, address))
            .map(|other| self.candidate(other, now))
            .collect();
        let chosen = choose(&candidates).unwrap_or(core);
        self.latest.store(chosen, Ordering::Relaxed);
        let desk = &self.desks[chosen];
        let told = self.bells.load(chosen).told();
        if desk.placed_since.swap(told, Ordering::Relaxed) != told {
            desk.placed.store(0, Ordering::Relaxed);
        }
        desk.placed.fetch_add(1, Ordering::Relaxed);
        desk.open.fetch_add(1, Ordering::Relaxed);
        Seat { ticket, core: chosen }
    }

    fn candidate(&self, core: usize, now: u64) -> Candidate {
        let (desk, load) = (&self.desks[core], self.bells.load(core));
        let is_new = desk.placed_since.load(Ordering::Relaxed) == load.told();
        Candidate {
            core,
            busy_permille: load.permille(now),
            open: desk.open.load(Ordering::Relaxed),
            placed: if is_new { desk.placed.load(Ordering::Relaxed) } else { 0 },
        }
    }

    /// Whether `core` listens on `address`.
    pub(super) fn listens(&self, core: usize, address: &SocketAddr) -> bool {
        let key = key(address);
        let Some(desk) = self.desks.get(core) else { return false };
        desk.listening.iter().any(|slot| slot.load(Ordering::Acquire) == key)
    }

    /// Hands a connection to another core.
    pub(super) fn hand_over(&self, handed: Handed) {
        let core = handed.to;
        // A core that is gone takes the connection with it: the process is ending.
        if self.desks[core].inbox.send(handed).is_ok() {
            self.bells.ring(core);
        }
    }

    /// Bounds the connections of all cores together.
    pub(super) fn limit(&self, connections_max: u32) {
        self.connections_max.store(connections_max, Ordering::Relaxed);
    }

    /// The right to accept one more connection; `None` while there are as many as there may be.
    pub(super) fn ticket(self: &Arc<Self>) -> Option<Ticket> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        // Given back by its drop, when it was one too many.
        let ticket = Ticket(self.clone());
        let is_within = (before as u64) < u64::from(self.connections_max.load(Ordering::Relaxed));
        is_within.then_some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_core_that_has_the_fewest_and_listens() {
        let bells = Arc::new(Bells::new(3).unwrap());
        let (desks, _inboxes) = Desks::new(3, bells);
        let address: SocketAddr = "127.0.0.1:9092".parse().unwrap();
        let other: SocketAddr = "127.0.0.1:9093".parse().unwrap();
        desks.open(0, &address);
        desks.open(1, &address);
        desks.open(2, &other);
        let seat = |address: &SocketAddr| desks.seat(desks.ticket().expect("no bound"), 0, address);
        let seats: Vec<Seat> = (0..4).map(|_| seat(&address)).collect();
        assert_eq!(seats.iter().map(Seat::core).collect::<Vec<_>>(), [0, 1, 0, 1]);
        let elsewhere = seat(&other);
        assert_eq!(elsewhere.core(), 2);
        assert!(desks.listens(2, &other) && !desks.listens(1, &other) && !desks.listens(3, &other));
        drop(seats);
        desks.close(1, &address);
        let seats: Vec<Seat> = (0..2).map(|_| seat(&address)).collect();
        assert!(seats.iter().all(|seat| seat.core() == 0), "only core 0 listens there");
        desks.limit(4);
        let fourth = desks.ticket();
        assert!(fourth.is_some() && desks.ticket().is_none());
        drop(fourth);
        desks.limit(3);
        assert!(desks.ticket().is_none());
        drop(seats);
        assert!(desks.ticket().is_some());
    }

    #[test]
    fn what_a_client_opens_in_a_row_is_spread_whatever_it_opened_before() {
        let bells = Arc::new(Bells::new(2).unwrap());
        let address: SocketAddr = "127.0.0.1:9092".parse().unwrap();
        for idle in 0..4 {
            for acceptors in 0..1 << 8 {
                let (desks, _inboxes) = Desks::new(2, bells.clone());
                (0..2).for_each(|core| desks.open(core, &address));
                let seat = |turn: usize| {
                    let ticket = desks.ticket().expect("no bound");
                    desks.seat(ticket, acceptors >> turn & 1, &address)
                };
                let _idle: Vec<Seat> = (0..idle).map(seat).collect();
                let busy: Vec<Seat> = (idle..idle + 4).map(seat).collect();
                let at_first = busy.iter().filter(|seat| seat.core() == 0).count();
                assert_eq!(at_first, 2, "{idle} idle, accepted by {acceptors:b}");
            }
        }
    }

    fn candidates(of: &[(u32, usize, usize)]) -> Vec<Candidate> {
        let one = |(core, &(busy_permille, open, placed))| Candidate {
            core,
            busy_permille,
            open,
            placed,
        };
        of.iter().enumerate().map(one).collect()
    }

    #[test]
    fn connections_go_to_a_core_that_is_clearly_less_busy() {
        // Thousandths of its time, connections, those of them that are new.
        let cases = [
            (vec![(900, 4, 0), (300, 4, 0)], Some(1)),
            (vec![(900, 4, 0), (300, 4000, 0)], Some(1)),
            (vec![(450, 5, 0), (300, 6, 0)], Some(0)),
            (vec![(500, 5, 0), (500, 5, 0)], Some(0)),
            (vec![(900, 4, 0), (300, 8, 7)], Some(0)),
            (vec![], None),
        ];
        for (of, expected) in cases {
            assert_eq!(choose(&candidates(&of)), expected, "{of:?}");
        }
    }

    #[test]
    fn many_at_once_fill_the_less_busy_core_only_to_the_level_of_the_other() {
        let (mut open, mut placed) = ([32, 32], [0, 0]);
        for _ in 0..64 {
            let of = [(800, open[0], placed[0]), (400, open[1], placed[1])];
            let core = choose(&candidates(&of)).expect("there are two");
            open[core] += 1;
            placed[core] += 1;
        }
        assert!(placed[0] > 5 && placed[1] > placed[0], "{placed:?}");
    }
}
