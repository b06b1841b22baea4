//! Lanes between the cores of a simulated process.
//!
//! A message is under way for a drawn time, which differs from lane to lane, so that messages of
//! two cores overtake each other; those of one lane stay in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::base::ShardId;
use crate::runtime::Full;

use super::executor::{Clock, TimerKey};
use super::guarded::Guarded;

/// How long a message is under way, in nanoseconds.
const LATENCY_NANOS: std::ops::RangeInclusive<u64> = 200..=20_000;

/// One core's ends of all lanes.
pub struct Lanes<T> {
    shard: ShardId,
    capacity: usize,
    clock: Clock,
    mesh: Arc<Guarded<Mesh<T>>>,
}

impl<T> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        let Self { shard, capacity, clock, mesh } = self;
        Self { shard: *shard, capacity: *capacity, clock: clock.clone(), mesh: mesh.clone() }
    }
}

/// All lanes of a process.
struct Mesh<T> {
    /// By receiving core, then by sending core.
    lanes: Vec<Vec<Lane<T>>>,
    /// By receiving core.
    receivers: Vec<Receiver>,
}

struct Lane<T> {
    /// What was sent and not received, with the time it arrives.
    messages: VecDeque<(u64, T)>,
    last_arrival_nanos: u64,
    /// Who waits for room.
    waiting: Vec<Waker>,
}

#[derive(Default)]
struct Receiver {
    waker: Option<Waker>,
    timer: Option<TimerKey>,
}

impl<T: Send + 'static> Lanes<T> {
    /// The ends of `count` cores; each lane holds `capacity` messages.
    pub(super) fn make(clock: &Clock, count: u16, capacity: usize) -> Vec<Self> {
        let lane =
            |_| Lane { messages: VecDeque::new(), last_arrival_nanos: 0, waiting: Vec::new() };
        let lanes = (0..count).map(|_| (0..count).map(lane).collect()).collect();
        let receivers = (0..count).map(|_| Receiver::default()).collect();
        let mesh = Arc::new(Guarded::new(Mesh { lanes, receivers }));
        let ends = |shard| Self {
            shard: ShardId(shard),
            capacity,
            clock: clock.clone(),
            mesh: mesh.clone(),
        };
        (0..count).map(ends).collect()
    }

    /// See [`Lanes::send`](crate::runtime::Lanes::send).
    pub fn send(&self, to: ShardId, message: T) -> Result<(), Full<T>> {
        assert_ne!(to, self.shard, "a core has no lane to itself");
        self.mesh.with(|mesh| {
            let lane = &mut mesh.lanes[usize::from(to.0)][usize::from(self.shard.0)];
            if lane.messages.len() >= self.capacity {
                return Err(Full(message));
            }
            let latency = self.clock.between(LATENCY_NANOS);
            let arrival = lane.last_arrival_nanos.max(self.clock.nanos() + latency);
            self.clock.record(&[u64::from(to.0), u64::from(self.shard.0), arrival]);
            let was_empty = lane.messages.is_empty();
            lane.last_arrival_nanos = arrival;
            lane.messages.push_back((arrival, message));
            let receiver = &mut mesh.receivers[usize::from(to.0)];
            if was_empty && let Some(waker) = &receiver.waker {
                let sooner = receiver.timer.is_none_or(|(nanos, _)| arrival < nanos);
                if sooner {
                    let timer = self.clock.wake_at(arrival, waker.clone());
                    if let Some(later) = receiver.timer.replace(timer) {
                        self.clock.cancel(later);
                    }
                }
            }
            Ok(())
        })
    }

    /// See [`Lanes::is_asleep`](crate::runtime::Lanes::is_asleep).
    pub fn is_asleep(&self) -> bool {
        self.clock.one_in(2)
    }

    /// See [`Lanes::has_room`](crate::runtime::Lanes::has_room).
    pub fn has_room(&self, to: ShardId) -> bool {
        self.mesh.with(|mesh| {
            let lane = &mesh.lanes[usize::from(to.0)][usize::from(self.shard.0)];
            lane.messages.len() < self.capacity
        })
    }

    /// See [`Lanes::room`](crate::runtime::Lanes::room).
    pub async fn room(&self, to: ShardId) {
        poll_fn(|cx| {
            self.mesh.with(|mesh| {
                let lane = &mut mesh.lanes[usize::from(to.0)][usize::from(self.shard.0)];
                if lane.messages.len() < self.capacity {
                    return Poll::Ready(());
                }
                if !lane.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    lane.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            })
        })
        .await;
    }

    /// See [`Lanes::receive`](crate::runtime::Lanes::receive).
    pub async fn receive(&self, inbox: &mut Vec<T>) {
        poll_fn(|cx| {
            let mut freed = Vec::new();
            let poll = self.mesh.with(|mesh| self.take_arrived(mesh, inbox, &mut freed, cx));
            freed.into_iter().for_each(Waker::wake);
            poll
        })
        .await;
    }

    fn take_arrived(
        &self,
        mesh: &mut Mesh<T>,
        inbox: &mut Vec<T>,
        freed: &mut Vec<Waker>,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let shard = usize::from(self.shard.0);
        let lanes = &mut mesh.lanes[shard];
        let now = self.clock.nanos();
        let before = inbox.len();
        let mut next = u64::MAX;
        let count = lanes.len();
        let first = self.clock.between(0..=count as u64 - 1) as usize;
        for index in 0..count {
            let lane = &mut lanes[(first + index) % count];
            let arrived = lane.messages.partition_point(|(arrival, _)| *arrival <= now);
            inbox.extend(lane.messages.drain(..arrived).map(|(_, message)| message));
            if arrived > 0 {
                freed.append(&mut lane.waiting);
            }
            next = next.min(lane.messages.front().map_or(u64::MAX, |(arrival, _)| *arrival));
        }
        let receiver = &mut mesh.receivers[shard];
        if let Some(timer) = receiver.timer.take() {
            self.clock.cancel(timer);
        }
        if inbox.len() > before {
            receiver.waker = None;
            return Poll::Ready(());
        }
        receiver.waker = Some(cx.waker().clone());
        if next < u64::MAX {
            receiver.timer = Some(self.clock.wake_at(next, cx.waker().clone()));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use std::time::Duration;

    use crate::base::ShardId;
    use crate::runtime::sim::World;
    use crate::runtime::{Full, Lanes};

    /// Cores 1 and 2 send 50 numbers each to core 0; what it received, in order.
    fn received(seed: u64) -> Vec<(u16, u32)> {
        let world = World::new(seed);
        world.set_lane_capacity(3);
        let machine = world.machine("host");
        let all = Rc::new(RefCell::new(Vec::new()));
        let seen = all.clone();
        let main = move |runtime: crate::runtime::Runtime, lanes: Lanes<(u16, u32)>| {
            let all = all.clone();
            async move {
                let shard = runtime.shard();
                if shard == ShardId(0) {
                    while all.borrow().len() < 100 {
                        let mut inbox = Vec::new();
                        lanes.receive(&mut inbox).await;
                        assert!(!inbox.is_empty());
                        all.borrow_mut().append(&mut inbox);
                    }
                    return;
                }
                for number in 0..50 {
                    let mut message = (shard.0, number);
                    while let Err(Full(back)) = lanes.send(ShardId(0), message) {
                        message = back;
                        lanes.room(ShardId(0)).await;
                    }
                    runtime.pass().await;
                }
            }
        };
        let process = world.start_process(machine, "p", 3, main);
        assert!(world.run_until(Duration::from_secs(1), || world.exited(process)), "seed {seed}");
        let received = seen.take();
        assert!(received.len() == 100, "seed {seed}");
        received
    }

    #[test]
    fn a_lane_keeps_its_order_and_two_lanes_race() {
        let mut orders = BTreeSet::new();
        for seed in 0..50 {
            let all = received(seed);
            for from in [1, 2] {
                let one: Vec<u32> =
                    all.iter().filter(|(shard, _)| *shard == from).map(|(_, n)| *n).collect();
                assert_eq!(one, (0..50).collect::<Vec<_>>(), "seed {seed}, from {from}");
            }
            orders.insert(all);
        }
        assert_eq!(orders.len(), 50);
    }
}
