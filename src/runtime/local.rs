//! Waiting within one core, for both backends: one-shot answers, notices, budgets, first-of-two.
//!
//! Everything here is single-threaded and knows nothing of the executor but `Waker`s.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The output of whichever future is ready first; the other one is dropped. `left` is asked first.
pub async fn first<T>(left: impl Future<Output = T>, right: impl Future<Output = T>) -> T {
    let mut left = pin!(left);
    let mut right = pin!(right);
    poll_fn(|cx| {
        if let Poll::Ready(output) = left.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        right.as_mut().poll(cx)
    })
    .await
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

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Option<T>> {
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
    wakers: RefCell<Vec<Waker>>,
}

impl Notice {
    /// A notice nobody waits for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes all that wait now.
    pub fn notify(&self) {
        self.0.generation.set(self.0.generation.get() + 1);
        let wakers = std::mem::take(&mut *self.0.wakers.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }

    /// Resolves at the first [`notify`](Self::notify) after this call (not after its first poll).
    pub fn notified(&self) -> impl Future<Output = ()> + use<> {
        let state = self.0.clone();
        let seen = state.generation.get();
        poll_fn(move |cx| {
            if state.generation.get() != seen {
                return Poll::Ready(());
            }
            let mut wakers = state.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
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
        let units = units.min(self.0.total);
        if self.0.waiting.borrow().is_empty() && self.0.free.get() >= units {
            return self.grant(units);
        }
        let (reply, answer) = oneshot();
        self.0.waiting.borrow_mut().push_back((units, reply));
        answer.await.expect("a waiting taker is answered or dropped")
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
