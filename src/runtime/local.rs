//! Waiting within one core, for both backends: one-shot answers, notices, budgets, first-of-two.
//!
//! Everything here is single-threaded and knows nothing of the executor but `Waker`s.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

pin_project! {
    /// See [`first`].
    pub struct First<L, R> {
        #[pin]
        left: L,
        #[pin]
        right: R,
    }
}

/// The output of whichever future is ready first; the other one is dropped with the wait. `left` is
/// asked first.
///
/// A type of its own, for an async function keeps what it is given beside what it waits for: nested
/// a few times, a connection's task would take several times the memory.
pub fn first<T, L, R>(left: L, right: R) -> First<L, R>
where
    L: Future<Output = T>,
    R: Future<Output = T>,
{
    First { left, right }
}

impl<T, L, R> Future for First<L, R>
where
    L: Future<Output = T>,
    R: Future<Output = T>,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.project();
        match this.left.poll(cx) {
            Poll::Pending => this.right.poll(cx),
            ready => ready,
        }
    }
}

struct OneShot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    closed: bool,
}

/// The asking end of a one-shot answer; see [`oneshot`].
pub struct Answer<T>(Rc<RefCell<OneShot<T>>>);

/// The answering end of a one-shot answer; see [`oneshot`].
pub struct Reply<T>(Rc<RefCell<OneShot<T>>>);

/// A place for one answer. Dropping the [`Reply`] unanswered makes the [`Answer`] `None`.
pub fn oneshot<T>() -> (Reply<T>, Answer<T>) {
    let shared = Rc::new(RefCell::new(OneShot { value: None, waker: None, closed: false }));
    (Reply(shared.clone()), Answer(shared))
}

impl<T> Reply<T> {
    /// Gives the answer. It is lost when nobody waits for it any more.
    pub fn send(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.closed = true;
        let waker = shared.waker.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut shared = self.0.borrow_mut();
        if let Some(value) = shared.value.take() {
            return Poll::Ready(Some(value));
        }
        if shared.closed {
            return Poll::Ready(None);
        }
        shared.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Wakes tasks that wait for something to change. Clones share the waiting list.
#[derive(Clone, Default)]
pub struct Notice(Rc<NoticeState>);

#[derive(Default)]
struct NoticeState {
    generation: Cell<u64>,
    waiting: RefCell<Waiting>,
}

/// Who waits. A place is used again once it is left: waiting allocates nothing then.
#[derive(Default)]
struct Waiting {
    places: Vec<Option<Waiter>>,
    free: Vec<usize>,
    next_number: u64,
}

struct Waiter {
    /// They are woken in the order in which they began to wait.
    number: u64,
    waker: Waker,
}

impl Waiting {
    fn add(&mut self, waker: Waker) -> usize {
        let waiter = Some(Waiter { number: self.next_number, waker });
        self.next_number += 1;
        match self.free.pop() {
            Some(place) => {
                self.places[place] = waiter;
                place
            }
            None => {
                self.places.push(waiter);
                self.places.len() - 1
            }
        }
    }
}

impl Notice {
    /// A notice nobody waits for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes all that wait now.
    pub fn notify(&self) {
        self.0.generation.set(self.0.generation.get() + 1);
        let mut waiting = self.0.waiting.borrow_mut();
        let mut first = None;
        let mut others = Vec::new();
        for waiter in waiting.places.drain(..).flatten() {
            match &first {
                None => first = Some(waiter),
                Some(_) => others.push(waiter),
            }
        }
        waiting.free.clear();
        drop(waiting);
        if !others.is_empty() {
            others.extend(first.take());
            others.sort_unstable_by_key(|waiter| waiter.number);
        }
        for waiter in first.into_iter().chain(others) {
            waiter.waker.wake();
        }
    }

    /// Resolves at the first [`notify`](Self::notify) after this call (not after its first poll).
    pub fn notified(&self) -> impl Future<Output = ()> + use<> {
        Notified { notice: self.0.clone(), seen: self.0.generation.get(), place: None }
    }
}

/// A wait for a [`Notice`]; dropped early, it leaves nothing behind: a waker left in the list of a
/// notice that is seldom given would keep its whole finished task in memory.
struct Notified {
    notice: Rc<NoticeState>,
    seen: u64,
    /// Its place among those who wait, once it was polled; not its own any more when the notice was
    /// given.
    place: Option<usize>,
}

impl Future for Notified {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.notice.generation.get() != self.seen {
            return Poll::Ready(());
        }
        let Some(place) = self.place else {
            let place = self.notice.waiting.borrow_mut().add(cx.waker().clone());
            self.place = Some(place);
            return Poll::Pending;
        };
        // A replaced waker is dropped after the borrow has ended: that may drop a task.
        let mut _replaced = None;
        if let Some(waiter) = &mut self.notice.waiting.borrow_mut().places[place]
            && !waiter.waker.will_wake(cx.waker())
        {
            _replaced = Some(std::mem::replace(&mut waiter.waker, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        let is_waiting = self.notice.generation.get() == self.seen;
        if let Some(place) = self.place.filter(|_| is_waiting) {
            let mut waiting = self.notice.waiting.borrow_mut();
            let _removed = waiting.places[place].take();
            waiting.free.push(place);
            drop(waiting);
        }
    }
}

/// A number of units that tasks take and give back; takers wait in order. Clones share it.
#[derive(Clone)]
pub struct Budget(Rc<BudgetState>);

struct BudgetState {
    free: Cell<u64>,
    total: u64,
    waiting: RefCell<VecDeque<(u64, Reply<Share>)>>,
}

/// Units taken from a [`Budget`]; given back when dropped.
pub struct Share {
    budget: Budget,
    units: u64,
}

impl Budget {
    /// A budget of `total` units, all free.
    pub fn new(total: u64) -> Self {
        Self(Rc::new(BudgetState { free: Cell::new(total), total, waiting: RefCell::default() }))
    }

    /// Takes `units` (the whole budget at most), waiting behind those who asked earlier.
    pub async fn take(&self, units: u64) -> Share {
        if let Some(share) = self.take_free(units) {
            return share;
        }
        let units = units.min(self.0.total);
        let (reply, answer) = oneshot();
        self.0.waiting.borrow_mut().push_back((units, reply));
        let mut place = Place { budget: self, answer: Some(answer) };
        let answer = place.answer.as_mut().expect("taken by drop only");
        answer.await.expect("a waiting taker is answered or dropped")
    }

    /// Takes `units` (the whole budget at most) if they are free and nobody waits.
    pub fn take_free(&self, units: u64) -> Option<Share> {
        let units = units.min(self.0.total);
        let is_free = self.0.waiting.borrow().is_empty() && self.0.free.get() >= units;
        is_free.then(|| self.grant(units))
    }

    /// Units that those who wait ask for and that are not free.
    pub fn missing(&self) -> u64 {
        let waiting = self.0.waiting.borrow();
        let still = waiting.iter().filter(|(_, reply)| Rc::strong_count(&reply.0) > 1);
        still.map(|(units, _)| units).sum::<u64>().saturating_sub(self.0.free.get())
    }

    fn grant(&self, units: u64) -> Share {
        self.0.free.set(self.0.free.get() - units);
        Share { budget: self.clone(), units }
    }

    /// Units nobody holds.
    pub fn free(&self) -> u64 {
        self.0.free.get()
    }

    fn give_back(&self, units: u64) {
        self.0.free.set(self.0.free.get() + units);
        self.settle();
    }

    /// Grants what can be granted, in order.
    fn settle(&self) {
        loop {
            let next = {
                let mut waiting = self.0.waiting.borrow_mut();
                // A taker that gave up (dropped its answer) must not be given units.
                while waiting.front().is_some_and(|(_, reply)| Rc::strong_count(&reply.0) == 1) {
                    waiting.pop_front();
                }
                match waiting.front() {
                    Some((units, _)) if *units <= self.0.free.get() => waiting.pop_front(),
                    _ => None,
                }
            };
            let Some((units, reply)) = next else { return };
            reply.send(self.grant(units));
        }
    }
}

/// A taker's place in the queue. Left early, it lets those behind it have what is free.
struct Place<'a> {
    budget: &'a Budget,
    answer: Option<Answer<Share>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.answer = None;
        self.budget.settle();
    }
}

impl Share {
    /// How many units it is.
    pub fn units(&self) -> u64 {
        self.units
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.units);
    }
}

/// Lets every task that is runnable now go first; resolves when this one's turn comes again.
///
/// It does not reach the reactor: use [`Runtime::pass`](super::Runtime::pass) in long loops.
pub async fn next_turn() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether what is dropped now is dropped by a panic.
pub fn is_unwinding() -> bool {
    std::thread::panicking()
}

/// The output of `future` when it is ready now. It must be awaited later if it is not: this poll
/// registers nobody to wake.
pub fn next_ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(Waker::noop());
    match std::pin::Pin::new(future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_abandoned_wait_leaves_no_waker_behind() {
        let notice = Notice::new();
        for _ in 0..3 {
            let mut wait = notice.notified();
            assert!(poll(&mut wait).is_pending());
            assert_eq!(waiting(&notice), (1, 1));
        }
        assert_eq!(waiting(&notice), (0, 1), "the place is used again");
    }

    /// How many wait, and how many places there are.
    fn waiting(notice: &Notice) -> (usize, usize) {
        let waiting = notice.0.waiting.borrow();
        (waiting.places.iter().flatten().count(), waiting.places.len())
    }

    /// Notes when it is woken.
    struct Bell(usize, std::sync::mpsc::Sender<usize>);

    impl std::task::Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            assert!(self.1.send(self.0).is_ok());
        }
    }

    #[test]
    fn those_who_wait_are_woken_in_the_order_in_which_they_began() {
        let notice = Notice::new();
        let (sender, rung) = std::sync::mpsc::channel();
        let begin = |number: usize| {
            let waker = Waker::from(std::sync::Arc::new(Bell(number, sender.clone())));
            let mut wait = notice.notified();
            assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
            wait
        };
        let mut waits: Vec<_> = (0..4).map(begin).collect();
        drop(waits.remove(1));
        // It takes the place of the one that gave up, and is the last all the same.
        waits.push(begin(4));
        notice.notify();
        assert_eq!(rung.try_iter().collect::<Vec<_>>(), [0, 2, 3, 4]);
        let next = begin(5);
        drop(waits);
        assert_eq!(waiting(&notice), (1, 1), "what was woken leaves the places of others alone");
        notice.notify();
        drop(next);
        assert_eq!(rung.try_iter().collect::<Vec<_>>(), [5]);
        assert_eq!(waiting(&notice), (0, 0));
    }

    #[test]
    fn a_notice_is_seen_by_those_who_asked_before_it() {
        let notice = Notice::new();
        let mut before = notice.notified();
        notice.notify();
        let mut after = notice.notified();
        assert!(poll(&mut before).is_ready(), "even when it was polled later");
        assert!(poll(&mut after).is_pending());
    }

    #[test]
    fn a_taker_who_gives_up_lets_the_next_one_have_what_is_free() {
        let budget = Budget::new(10);
        let Poll::Ready(_held) = poll(&mut Box::pin(budget.take(6))) else { panic!("all free") };
        let mut large = Box::pin(budget.take(8));
        let mut small = Box::pin(budget.take(3));
        assert!(poll(&mut large).is_pending());
        assert!(poll(&mut small).is_pending(), "the larger one asked first");
        assert_eq!(budget.missing(), 8 + 3 - 4);
        assert!(budget.take_free(1).is_none(), "others wait");
        drop(large);
        let Poll::Ready(share) = poll(&mut small) else { panic!("4 are free, 3 were asked for") };
        assert_eq!((share.units(), budget.free()), (3, 1));
        drop(share);
        assert_eq!(budget.free(), 4);
    }

    #[test]
    fn a_share_granted_to_a_taker_who_gave_up_comes_back() {
        let budget = Budget::new(1);
        let Poll::Ready(held) = poll(&mut Box::pin(budget.take(1))) else { panic!("all free") };
        let mut next = Box::pin(budget.take(1));
        assert!(poll(&mut next).is_pending());
        drop(held);
        assert_eq!(budget.free(), 0, "granted");
        drop(next);
        assert_eq!(budget.free(), 1, "and given back unseen");
    }
}
