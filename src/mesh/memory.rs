//! A core's memory for requests and answers: what it is given to, and who goes when others wait.
//!
//! ```text
//! request    its bytes are taken before they are read; large ones share one half
//! answer     counts until it is sent; while too much waits for its readers, requests whose
//!            answers may be large are not begun
//! ```
//!
//! What others wait for can be held by peers that send no further, or do not read. Once others have
//! waited for a while these are told to go, those that began first before the others, and no more
//! of them than needed; but not who holds next to nothing.
//!
//! Invariants: nobody is told to go while nobody waits; the least requests never wait.
//! Not here: sockets and frames (`connection`), what may be answered at length (`protocol`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::base::Instant;
use crate::runtime::Runtime;
use crate::runtime::local::{Budget, Notice, Share};

/// Requests of at most so many bytes are read even when everything is taken, one of a connection
/// at a time: heartbeats, commits, small records.
pub const LEAST_BYTES: usize = 4 << 10;

/// Requests of more than this part of a core's memory are large.
const LARGE_PART: u64 = 64;

/// The part of a core's memory that its connections may fill with requests ahead of time.
const AHEAD_PART: u64 = 4;
/// What a connection may read ahead however many there are.
pub const AHEAD_BYTES_MIN: usize = 1 << 10;

/// Requests with large answers that a core works on at once.
const ANSWERING_MAX: u64 = 8;

/// How long a peer may send nothing of the request it began, while others wait.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How long a request may take to arrive, and an answer to be taken, while others wait.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);
const TAKING_MAX: Duration = Duration::from_secs(2);

/// Time between two looks at who has to go.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How many looks in a row have to find something missing before anybody is told: memory that is
/// used up for a moment comes back by itself.
const LOOKS_MIN: u32 = 3;

/// How often those are told who wait for something else with what is missing.
const PRESSED_INTERVAL: Duration = Duration::from_secs(1);

/// Who holds less than this part of a core's memory is not told to go.
const NOTHING_PART: u64 = 4096;

/// Why a peer holds memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// Its request has not arrived yet.
    Request,
    /// It does not take its answers.
    Answers,
}

/// How much memory a peer holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amount {
    /// Of its requests, in bytes.
    pub request_bytes: u64,
    /// That of them which is large ones'.
    pub large_bytes: u64,
    /// Of its answers, in bytes.
    pub answer_bytes: u64,
}

/// See the module's header. Clones share it.
#[derive(Clone)]
pub struct Memory(Rc<State>);

struct State {
    runtime: Runtime,
    requests: Budget,
    large_requests: Budget,
    large_bytes: u64,
    nothing_bytes: u64,
    answering: Budget,
    answer_bytes: Cell<u64>,
    answer_bytes_max: u64,
    answers_sent: Notice,
    /// Told again and again while requests wait for memory.
    pressed: Notice,
    pressed_at: Cell<Instant>,
    /// Who waits, by what for.
    waiting: [Cell<usize>; 2],
    looking: Cell<bool>,
    /// Those who hold something, in the order in which they began to.
    holders: RefCell<BTreeMap<u64, Rc<Holder>>>,
    holder_next: Cell<u64>,
}

struct Holder {
    held: Held,
    amount: Box<dyn Fn() -> Amount>,
    /// How much of its request has come.
    received: Rc<Cell<u64>>,
    /// That, when it was looked at last.
    received_before: Cell<u64>,
    began: Instant,
    advanced: Cell<Instant>,
    has_to_go: Cell<bool>,
    told: Notice,
}

/// The memory of a request, given back when dropped.
#[derive(Default)]
pub struct RequestMemory {
    share: Option<Share>,
    large: Option<Share>,
}

impl RequestMemory {
    /// How much it is.
    pub fn amount(&self) -> Amount {
        let units = |share: &Option<Share>| share.as_ref().map_or(0, Share::units);
        Amount {
            request_bytes: units(&self.share),
            large_bytes: units(&self.large),
            answer_bytes: 0,
        }
    }
}

impl Memory {
    /// `size_bytes_max` for requests, and as much for answers.
    pub fn new(runtime: Runtime, size_bytes_max: u64) -> Self {
        Self(Rc::new(State {
            pressed_at: Cell::new(runtime.now()),
            runtime,
            requests: Budget::new(size_bytes_max),
            large_requests: Budget::new(size_bytes_max.div_ceil(2)),
            large_bytes: size_bytes_max / LARGE_PART,
            nothing_bytes: size_bytes_max / NOTHING_PART,
            answering: Budget::new(ANSWERING_MAX),
            answer_bytes: Cell::new(0),
            answer_bytes_max: size_bytes_max,
            answers_sent: Notice::new(),
            pressed: Notice::new(),
            waiting: Default::default(),
            looking: Cell::new(false),
            holders: RefCell::default(),
            holder_next: Cell::new(0),
        }))
    }

    /// Takes the memory of a request of so many bytes; the whole at most. Waits while it is used
    /// up, unless the request `is_least`: of [`LEAST_BYTES`] at most, and the only one of its
    /// connection.
    pub async fn take(&self, size_bytes: u64, is_least: impl FnOnce() -> bool) -> RequestMemory {
        if let Some(taken) = self.take_free(size_bytes) {
            return taken;
        }
        if is_least() {
            return RequestMemory::default();
        }
        let _waiting = self.wait_for(Held::Request);
        let large = match size_bytes > self.0.large_bytes {
            true => Some(self.0.large_requests.take(size_bytes).await),
            false => None,
        };
        let share = self.0.requests.take(size_bytes).await;
        RequestMemory { share: Some(share), large }
    }

    fn take_free(&self, size_bytes: u64) -> Option<RequestMemory> {
        let large = match size_bytes > self.0.large_bytes {
            true => Some(self.0.large_requests.take_free(size_bytes)?),
            false => None,
        };
        let share = self.0.requests.take_free(size_bytes)?;
        Some(RequestMemory { share: Some(share), large })
    }

    /// Resolves when requests wait for memory: a request that waits for something else may be
    /// answered with what there is, and give its own back.
    pub fn pressed(&self) -> impl Future<Output = ()> + use<> {
        self.0.pressed.notified()
    }

    /// How many bytes each of so many connections may read without having taken them.
    pub fn ahead_bytes(&self, connection_count: u64) -> usize {
        let bytes = self.0.answer_bytes_max / AHEAD_PART / connection_count.max(1);
        usize::try_from(bytes).unwrap_or(usize::MAX).max(AHEAD_BYTES_MIN)
    }

    /// Waits until a request whose answer may be large can be begun. What this returns is dropped
    /// once there is the answer, and it was added.
    pub async fn answer_turn(&self) -> Share {
        let turn = self.0.answering.take(1).await;
        while self.0.answer_bytes.get() >= self.0.answer_bytes_max {
            let _waiting = self.wait_for(Held::Answers);
            self.0.answers_sent.notified().await;
        }
        turn
    }

    /// So many bytes of answers are to be sent.
    pub fn add_answer(&self, size_bytes: u64) {
        self.0.answer_bytes.set(self.0.answer_bytes.get() + size_bytes);
    }

    /// They are sent, or never will be.
    pub fn remove_answers(&self, size_bytes: u64) {
        let left = self.0.answer_bytes.get().checked_sub(size_bytes);
        self.0.answer_bytes.set(left.expect("added before"));
        if self.0.waiting[Held::Answers as usize].get() > 0 {
            self.0.answers_sent.notify();
        }
    }

    /// A peer holds as much as `amount` tells, until what this returns is dropped; of its request
    /// so many bytes are `received`.
    pub fn hold(
        &self,
        held: Held,
        amount: impl Fn() -> Amount + 'static,
        received: Rc<Cell<u64>>,
    ) -> Holding {
        let number = self.0.holder_next.get();
        self.0.holder_next.set(number + 1);
        let now = self.0.runtime.now();
        let holder = Rc::new(Holder {
            held,
            amount: Box::new(amount),
            received_before: Cell::new(received.get()),
            received,
            began: now,
            advanced: Cell::new(now),
            has_to_go: Cell::new(false),
            told: Notice::new(),
        });
        self.0.holders.borrow_mut().insert(number, holder.clone());
        Holding { memory: self.clone(), number, holder }
    }

    /// Counts a task that waits, until what this returns is dropped, and has somebody look after
    /// those who hold what it waits for.
    fn wait_for(&self, held: Held) -> Waiting {
        let count = &self.0.waiting[held as usize];
        count.set(count.get() + 1);
        if !self.0.looking.replace(true) {
            let memory = self.clone();
            self.0.runtime.spawn("memory", async move { memory.look().await });
        }
        Waiting { memory: self.clone(), held }
    }

    async fn look(&self) {
        // Of requests, of large ones, and of answers: for so many looks something was missing.
        let mut looks = [0_u32; 3];
        while self.0.waiting.iter().any(|count| count.get() > 0) {
            let looked = self.0.runtime.now();
            self.0.runtime.sleep(LOOK_INTERVAL).await;
            let now = self.0.runtime.now();
            if now.since(looked) > LOOK_INTERVAL * 2 {
                // A core that is late itself can not say who else is.
                looks = [0; 3];
                continue;
            }
            let missing = [
                self.0.requests.missing(),
                self.0.large_requests.missing(),
                self.missing_answer_bytes(),
            ];
            for (looks, missing) in looks.iter_mut().zip(missing) {
                *looks = if missing == 0 { 0 } else { *looks + 1 };
            }
            let [requests, large, answers] = looks.map(|looks| looks >= LOOKS_MIN);
            if requests {
                if now.since(self.0.pressed_at.get()) >= PRESSED_INTERVAL {
                    self.0.pressed_at.set(now);
                    self.0.pressed.notify();
                }
                self.tell(missing[0], |amount| amount.request_bytes);
            }
            if large {
                self.tell(missing[1], |amount| amount.large_bytes);
            }
            if answers {
                self.tell(missing[2], |amount| amount.answer_bytes);
            }
        }
        self.0.looking.set(false);
    }

    fn missing_answer_bytes(&self) -> u64 {
        match self.0.waiting[Held::Answers as usize].get() {
            0 => 0,
            _ => (self.0.answer_bytes.get() + 1).saturating_sub(self.0.answer_bytes_max),
        }
    }

    /// Tells as many to go as hold `missing` bytes, if so many are too slow.
    fn tell(&self, missing: u64, bytes_of: impl Fn(&Amount) -> u64) {
        if missing == 0 {
            return;
        }
        let now = self.0.runtime.now();
        let holders: Vec<Rc<Holder>> = self.0.holders.borrow().values().cloned().collect();
        let (going, staying): (Vec<&Rc<Holder>>, Vec<&Rc<Holder>>) =
            holders.iter().partition(|holder| holder.has_to_go.get());
        let promised: u64 = going.iter().map(|holder| bytes_of(&(holder.amount)())).sum();
        let mut missing = missing.saturating_sub(promised);
        for holder in staying {
            holder.look(now);
            let bytes = bytes_of(&(holder.amount)());
            if missing > 0 && bytes > self.0.nothing_bytes && holder.is_slow(now) {
                missing = missing.saturating_sub(bytes);
                holder.has_to_go.set(true);
                holder.told.notify();
            }
        }
    }
}

impl Holder {
    /// Notes whether some more has come.
    fn look(&self, now: Instant) {
        let received = self.received.get();
        if self.received_before.replace(received) != received {
            self.advanced.set(now);
        }
    }

    fn is_slow(&self, now: Instant) -> bool {
        match self.held {
            Held::Request => {
                now.since(self.advanced.get()) >= SILENCE_MAX
                    || now.since(self.began) >= ARRIVAL_MAX
            }
            Held::Answers => now.since(self.began) >= TAKING_MAX,
        }
    }
}

/// See [`Memory::hold`].
pub struct Holding {
    memory: Memory,
    number: u64,
    holder: Rc<Holder>,
}

impl Holding {
    /// Resolves when others wait for what the peer holds, and it is too slow.
    pub async fn has_to_go(&self) {
        while !self.holder.has_to_go.get() {
            self.holder.told.notified().await;
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.memory.0.holders.borrow_mut().remove(&self.number);
    }
}

/// See [`Memory::wait_for`].
struct Waiting {
    memory: Memory,
    held: Held,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let count = &self.memory.0.waiting[self.held as usize];
        count.set(count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::local::first;
    use crate::runtime::sim;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A peer of whose request of 64 KiB so much has come.
    fn hold_request(memory: &Memory, received: &Rc<Cell<u64>>) -> Holding {
        let amount = Amount { request_bytes: 64 << 10, ..Amount::default() };
        memory.hold(Held::Request, move || amount, received.clone())
    }

    /// Whether `future` ends within that time.
    async fn ends(runtime: &Runtime, within: Duration, future: impl Future<Output = ()>) -> bool {
        runtime.timeout(within, future).await.is_some()
    }

    async fn taken(memory: &Memory, size_bytes: u64) {
        memory.take(size_bytes, || false).await;
    }

    #[test]
    fn the_least_requests_never_wait_and_large_ones_share_one_half() {
        sim::block_on(1, |runtime| async move {
            let memory = Memory::new(runtime.clone(), 64 * MIB);
            let second = Duration::from_secs(1);
            let first_large = memory.take(20 * MIB, || false).await;
            assert_eq!(first_large.amount().large_bytes, 20 * MIB);
            assert!(!ends(&runtime, second, taken(&memory, 20 * MIB)).await, "one half is 32");
            let others: Vec<_> = (0..44).map(|_| memory.take_free(MIB)).collect();
            assert!(others.iter().all(Option::is_some), "large ones took 20 of 64 only");
            for is_least in [false, true] {
                let take = async { drop(memory.take(4096, || is_least).await) };
                assert_eq!(ends(&runtime, second, take).await, is_least);
            }
            drop(first_large);
            assert!(ends(&runtime, second, taken(&memory, 20 * MIB)).await, "given back");
        });
    }

    #[test]
    fn those_who_are_slow_go_when_others_wait_and_no_more_than_needed() {
        sim::block_on(2, |runtime| async move {
            let memory = Memory::new(runtime.clone(), 4 * MIB);
            let held: Vec<_> = (0..64).map(|_| memory.take_free(64 << 10)).collect();
            assert!(held.iter().all(Option::is_some));
            let received: [Rc<Cell<u64>>; 3] = Default::default();
            let holdings = received.each_ref().map(|received| hold_request(&memory, received));
            let little = Amount { request_bytes: 512, ..Amount::default() };
            let least = memory.hold(Held::Request, move || little, Rc::default());
            let long = Duration::from_secs(2);
            for holding in &holdings {
                assert!(!ends(&runtime, long, holding.has_to_go()).await, "nobody waits");
            }
            received[0].set(1000);
            let waiting = async {
                taken(&memory, 64 << 10).await;
                None
            };
            let quick = Duration::from_millis(500);
            let told = first(waiting, async {
                let began = runtime.now();
                holdings[1].has_to_go().await;
                assert!(runtime.now().since(began) > LOOK_INTERVAL * 2, "not at once");
                let others = first(holdings[2].has_to_go(), least.has_to_go());
                Some(ends(&runtime, quick, others).await)
            });
            assert_eq!(told.await, Some(false), "the oldest that is slow, and one is enough");
            assert!(!ends(&runtime, quick, holdings[0].has_to_go()).await, "it sent something");
        });
    }

    #[test]
    fn those_who_wait_for_something_else_are_told_of_those_who_wait_for_memory() {
        sim::block_on(5, |runtime| async move {
            let memory = Memory::new(runtime.clone(), MIB);
            let second = Duration::from_secs(1);
            let held: Vec<_> = (0..64).map(|_| memory.take_free(16 << 10)).collect();
            assert!(!ends(&runtime, second, memory.pressed()).await, "nobody waits");
            let waiting = async {
                taken(&memory, 16 << 10).await;
                panic!("nothing is given back");
            };
            assert!(ends(&runtime, second, first(memory.pressed(), waiting)).await);
            drop(held);
            assert!(ends(&runtime, second, taken(&memory, 16 << 10)).await);
        });
    }

    #[test]
    fn large_answers_are_not_begun_while_too_many_are_unsent() {
        sim::block_on(3, |runtime| async move {
            let memory = Memory::new(runtime.clone(), MIB);
            let second = Duration::from_secs(1);
            let turn = async { drop(memory.answer_turn().await) };
            assert!(ends(&runtime, second, turn).await);
            memory.add_answer(MIB);
            let amount = Amount { answer_bytes: MIB, ..Amount::default() };
            let holding = memory.hold(Held::Answers, move || amount, Rc::default());
            let turn = async { drop(memory.answer_turn().await) };
            assert!(!ends(&runtime, second, turn).await, "1 MiB is to be sent");
            let turn = async { drop(memory.answer_turn().await) };
            let told = async {
                holding.has_to_go().await;
                memory.remove_answers(MIB);
                std::future::pending().await
            };
            assert!(ends(&runtime, TAKING_MAX + second, first(turn, told)).await, "let go");
        });
    }

    #[test]
    fn many_connections_read_less_ahead() {
        sim::block_on(4, |runtime| async move {
            let memory = Memory::new(runtime, 128 * MIB);
            let cases = [(0, 32 * MIB as usize), (512, 64 << 10), (1 << 20, AHEAD_BYTES_MIN)];
            for (connection_count, expected) in cases {
                assert_eq!(memory.ahead_bytes(connection_count), expected, "{connection_count}");
            }
        });
    }
}
