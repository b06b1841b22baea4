//! One client connection: frames in, answers out in the order of the questions.
//!
//! Two tasks share a connection. The reading one cuts frames and *starts* each request in order;
//! requests then run concurrently. The writing one sends the answers in order, gathering those
//! that are ready into one send; but for those that another core sends: see [`Lender`].
//!
//! A connection whose requests all go to one other core moves there, between two requests: see
//! [`Home`](crate::handlers::Home).
//!
//! Bounded: requests in flight per connection, bytes of requests per core (when they are used up,
//! sockets are not read), bytes of answers per core (when there are too many, requests whose
//! answers may be large are not begun; they are begun one at a time). Peers that send or read too
//! slowly are let go when others wait for what they hold: see [`Memory`](crate::mesh::Memory).

mod frames;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::base::{Instant, ShardId};
use crate::handlers::{self, Client, Lender, Response};
use crate::mesh::memory::{Amount, Held, RequestMemory};
use crate::mesh::{Attentive, Shard};
use crate::protocol::ApiKey;
use crate::runtime::local::{Notice, Share, first, is_unwinding};
use crate::runtime::{Accepted, Chunk, StreamReader, StreamWriter};

use frames::{FrameError, Frames};

/// Requests of one connection that run at once; further ones stay in the socket.
const IN_FLIGHT_MAX: usize = 64;

/// Answers sent in one go at most.
const GATHERED_MAX: usize = 32;

/// Requests of more bytes than this are answered by the connection's own core: they hold their
/// share of its memory until it hears of their answer.
const LENT_REQUEST_BYTES_MAX: usize = 16 << 10;

/// Least time between two looks whether a connection is idle.
const IDLE_CHECK_MIN: Duration = Duration::from_millis(100);

/// State shared by the two tasks of a connection.
struct Connection {
    shard: Rc<Shard>,
    slots: RefCell<VecDeque<Rc<Slot>>>,
    /// Told when the first slot was filled, or a slot was added or taken.
    changed: Notice,
    /// No more requests will be started; the writing task ends when the slots are sent.
    finished: Cell<bool>,
    /// The writing task has ended: its answers are sent, or the peer is gone.
    written: Cell<bool>,
    /// An answer is being sent.
    sending: Cell<bool>,
    /// For other cores to send on: the answer of the first slot, while a loan is out.
    lender: Rc<Lender>,
    /// While answers may wait behind one that another core sends: it must tell at once.
    attentive: RefCell<Option<Attentive>>,
    /// Bytes of answers that are not sent yet, but for those that lie in files.
    unsent_bytes: Cell<u64>,
    /// What the writing task gives back when everything was sent and the peer may be sent more.
    given_back: RefCell<Option<StreamWriter>>,
    last_active: Cell<Instant>,
}

/// What the reading task goes on with.
enum Next {
    /// A request, and its share of the core's memory.
    Frame(bytes::Bytes, RequestMemory),
    /// The peer is done, or the process ends.
    End,
    /// No request is under way, and the connection would better live on that core.
    Move(ShardId),
}

/// The place of one answer.
struct Slot {
    /// The answer was sent by another core, before it was known how the request has ended.
    is_settled: Cell<bool>,
    response: RefCell<Option<Response>>,
    /// The request's share of the core's memory, held until there is an answer.
    share: RefCell<Option<RequestMemory>>,
    /// Held until there is an answer, which may be large.
    turn: RefCell<Option<Share>>,
}

/// A request that is due an answer. One that fails in its midst closes its connection: nobody
/// waits for it for ever, and what it held is given back.
struct Due {
    connection: Rc<Connection>,
    slot: Rc<Slot>,
}

impl Drop for Due {
    fn drop(&mut self) {
        if is_unwinding() {
            self.connection.fill(&self.slot, Response::Close);
        }
    }
}

/// A connection that counts as open.
struct Open {
    shard: Rc<Shard>,
    client: Rc<Client>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.client.standing.end(&self.shard);
        self.shard.counters.connections_open.sub(1);
    }
}

/// Serves one connection to its end, or until it moves to another core.
pub async fn serve(shard: Rc<Shard>, client: Rc<Client>, accepted: Accepted) {
    let peer = accepted.peer;
    if accepted.moves == 0 {
        shard.counters.connections_total.add(1);
    }
    shard.counters.connections_open.add(1);
    let open = Open { shard, client };
    let Open { shard, client } = &open;
    let mut here = accepted;
    while let Some((connection, to)) = serve_here(shard, client, here).await {
        match shard.runtime.move_connection(connection, to) {
            Ok(()) => {
                shard.counters.connections_moved_total.add(1);
                tracing::trace!(%peer, core = to.0, "connection moved");
                break;
            }
            Err(back) => {
                client.home.stay();
                here = back;
            }
        }
    }
}

/// Serves one connection to its end; or until no request is under way and it would better live on
/// another core, which is returned with it.
async fn serve_here(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    accepted: Accepted,
) -> Option<(Accepted, ShardId)> {
    let Accepted { reader, writer, peer, moves } = accepted;
    let connection = Rc::new(Connection {
        last_active: Cell::new(shard.runtime.now()),
        shard: shard.clone(),
        slots: RefCell::default(),
        changed: Notice::new(),
        finished: Cell::new(false),
        written: Cell::new(false),
        sending: Cell::new(false),
        lender: Rc::new(Lender::new(writer.lent())),
        attentive: RefCell::default(),
        unsent_bytes: Cell::new(0),
        given_back: RefCell::default(),
    });
    let writing = connection.clone();
    let gone = Notice::new();
    let reader_gone = gone.clone();
    shard.runtime.spawn("connection writer", async move {
        writing.write_answers(writer, peer).await;
        writing.sent(writing.unsent_bytes.get());
        writing.written.set(true);
        reader_gone.notify();
    });
    let reading = connection.read_requests(client, reader);
    let ended = async {
        first(connection.written(&gone), connection.idle_too_long(peer)).await;
        None
    };
    let moving = first(reading, ended).await;
    if moving.is_none() {
        client.leaving.leave();
    }
    connection.finished.set(true);
    connection.attend();
    connection.changed.notify();
    connection.written(&gone).await;
    let writer = connection.given_back.take()?;
    let Some((reader, to)) = moving else {
        writer.shutdown();
        return None;
    };
    Some((Accepted { reader, writer, peer, moves }, to))
}

impl Connection {
    /// Waits until the writing task has ended, which tells so by `gone`.
    async fn written(&self, gone: &Notice) {
        while !self.written.get() {
            gone.notified().await;
        }
    }

    /// Waits until nothing was received or sent for `connections.max.idle.ms`.
    async fn idle_too_long(&self, peer: SocketAddr) {
        loop {
            let Some(idle_max) = self.shard.config().idle_connection_max else {
                return std::future::pending().await;
            };
            let idle = self.shard.runtime.now().since(self.last_active.get());
            // A request that waits for data is no idleness; its own deadline ends it.
            if idle >= idle_max && self.slots.borrow().is_empty() {
                tracing::debug!(%peer, "connection closed, it was idle for too long");
                return;
            }
            let rest = idle_max.saturating_sub(idle).max(IDLE_CHECK_MIN);
            self.shard.runtime.sleep(rest).await;
        }
    }

    /// Reads and starts requests until the connection ends; or until it should move to the core
    /// that is returned, with no request under way.
    async fn read_requests(
        self: &Rc<Self>,
        client: &Rc<Client>,
        reader: StreamReader,
    ) -> Option<(StreamReader, ShardId)> {
        let mut frames = Frames::new(reader, self.shard.config().request_bytes_max as usize);
        loop {
            while self.slots.borrow().len() >= IN_FLIGHT_MAX {
                self.attend();
                self.changed.notified().await;
            }
            if self.shard.ending.get() {
                return None;
            }
            let is_between = frames.is_empty();
            let others = async {
                let home = async {
                    match client.home.elsewhere(self.shard.id()).filter(|_| is_between) {
                        Some(core) => self.all_sent(core).await,
                        None => std::future::pending().await,
                    }
                };
                let ending = async {
                    self.shard.ending_notice.notified().await;
                    Next::End
                };
                first(home, ending).await
            };
            let frame = async {
                let is_alone = || self.slots.borrow().is_empty();
                match frames.next(&self.shard, is_alone).await {
                    Ok(Some((frame, share))) => Next::Frame(frame, share),
                    Ok(None) => Next::End,
                    Err(error) => {
                        self.refused(client.peer, &error);
                        Next::End
                    }
                }
            };
            let (frame, share) = match first(frame, others).await {
                Next::Frame(frame, share) => (frame, share),
                Next::End => return None,
                Next::Move(core) if frames.is_empty() => return Some((frames.into_reader(), core)),
                // A part of the next request has come meanwhile.
                Next::Move(_) => continue,
            };
            self.last_active.set(self.shard.runtime.now());
            // One nobody knows is answered with an error, or not at all.
            let key = ApiKey::of_frame(&frame);
            let turn = match key.is_some_and(handlers::may_answer_at_length) {
                true => Some(self.answer_turn().await),
                false => None,
            };
            // Nothing waits between this and the questions that the request begins with.
            self.shard.room().await;
            self.shard.counters.requests_total.add(1);
            self.shard.counters.request_bytes_total.add(frame.len() as u64);
            self.start(client, key, frame, share, turn);
            self.shard.runtime.pass().await;
        }
    }

    /// Waits until every request has its answer, and those are sent or being sent.
    async fn all_sent(&self, core: ShardId) -> Next {
        self.attend();
        while !self.slots.borrow().is_empty() {
            self.changed.notified().await;
        }
        Next::Move(core)
    }

    /// Waits until no request is under way, and the core has room for one more large answer.
    async fn answer_turn(&self) -> Share {
        loop {
            // The last one may be away with this already: nobody will tell of it again.
            self.attend();
            if self.slots.borrow().is_empty() {
                break;
            }
            self.changed.notified().await;
        }
        self.shard.memory.answer_turn().await
    }

    fn refused(&self, peer: SocketAddr, error: &FrameError) {
        self.shard.counters.connections_refused_total.add(1);
        tracing::debug!(%peer, %error, "connection closed");
    }

    /// Starts a request: what it does before its first wait is done when this returns, so that
    /// requests of one connection take effect in order.
    fn start(
        self: &Rc<Self>,
        client: &Rc<Client>,
        key: Option<ApiKey>,
        frame: bytes::Bytes,
        share: RequestMemory,
        turn: Option<Share>,
    ) {
        self.settle();
        // Nothing else may be sent while another core does.
        let is_free = self.slots.borrow().is_empty() && !self.sending.get();
        let lends = is_free && frame.len() <= LENT_REQUEST_BYTES_MAX;
        let slot = Rc::new(Slot {
            is_settled: Cell::new(false),
            response: RefCell::new(None),
            share: RefCell::new(Some(share)),
            turn: RefCell::new(turn),
        });
        self.slots.borrow_mut().push_back(slot.clone());
        let lender = lends.then(|| self.lender.clone());
        let handled = handlers::handle(self.shard.clone(), client.clone(), frame, lender);
        let mut handled = Box::pin(handled);
        let due = Due { connection: self.clone(), slot };
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        if let Poll::Ready(response) = handled.as_mut().poll(&mut cx) {
            return self.fill(&due.slot, response);
        }
        if key.is_some_and(handlers::waits_for_others) {
            // The group has what was asked now, and the answer may be minutes away.
            due.slot.share.take();
        }
        self.shard.runtime.spawn("request", async move {
            let response = handled.await;
            due.connection.fill(&due.slot, response);
        });
    }

    fn fill(&self, slot: &Rc<Slot>, response: Response) {
        if slot.is_settled.get() {
            return;
        }
        if !self.written.get() {
            let bytes = held_bytes(&response);
            self.unsent_bytes.set(self.unsent_bytes.get() + bytes);
            self.shard.memory.add_answer(bytes);
        }
        slot.turn.take();
        slot.share.take();
        *slot.response.borrow_mut() = Some(response);
        let is_first = self.slots.borrow().front().is_some_and(|first| Rc::ptr_eq(first, slot));
        if is_first {
            self.changed.notify();
        } else {
            self.attend();
        }
    }

    /// So many bytes of answers are sent, or never will be.
    fn sent(&self, bytes: u64) {
        self.unsent_bytes.set(self.unsent_bytes.get() - bytes);
        self.shard.memory.remove_answers(bytes);
    }

    /// Takes the first slot away when another core has sent its answer, of which the message may
    /// still be on its way.
    fn settle(&self) {
        if !self.lender.is_sent() {
            return;
        }
        self.lender.end();
        self.attentive.take();
        if let Some(slot) = self.slots.borrow_mut().pop_front() {
            slot.is_settled.set(true);
            slot.share.take();
        }
        self.last_active.set(self.shard.runtime.now());
        self.changed.notify();
    }

    /// Has the core that sends the first answer, if it is another one, tell at once that it has.
    fn attend(&self) {
        self.settle();
        if self.lender.is_out() && self.attentive.borrow().is_none() {
            *self.attentive.borrow_mut() = Some(self.shard.attentive());
        }
    }

    async fn write_answers(self: &Rc<Self>, mut writer: StreamWriter, peer: SocketAddr) {
        let mut chunks: Vec<Chunk> = Vec::new();
        let is_usable = loop {
            let closes = self.gather(&mut chunks);
            if !chunks.is_empty() {
                let bytes: usize = chunks.iter().map(Chunk::length).sum();
                let held: u64 = chunks.iter().map(held_by).sum();
                self.sending.set(true);
                let sent = self.send(&mut writer, &chunks).await;
                self.sending.set(false);
                chunks.clear();
                self.sent(held);
                self.changed.notify();
                if let Err(error) = sent {
                    tracing::debug!(%peer, %error, "connection lost");
                    writer.abandon();
                    break false;
                }
                self.shard.counters.response_bytes_total.add(bytes as u64);
                self.last_active.set(self.shard.runtime.now());
            }
            if closes {
                break false;
            }
            if self.first_is_ready() {
                continue;
            }
            if self.finished.get() && self.slots.borrow().is_empty() {
                break true;
            }
            self.changed.notified().await;
        };
        if is_usable {
            *self.given_back.borrow_mut() = Some(writer);
        } else {
            writer.shutdown();
        }
        self.slots.borrow_mut().clear();
    }

    /// Sends, unless the peer takes nothing for longer than a connection may be idle, or too little
    /// while others wait for the memory of its answers.
    async fn send(
        self: &Rc<Self>,
        writer: &mut StreamWriter,
        chunks: &[Chunk],
    ) -> std::io::Result<()> {
        let idle_max = self.shard.config().idle_connection_max.unwrap_or(Duration::MAX);
        let mut sending = std::pin::pin!(writer.send(chunks));
        // Most sends end at once: no timer for those.
        let at_once = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        match at_once {
            Poll::Ready(sent) => sent,
            Poll::Pending => {
                let connection = self.clone();
                let amount = move || connection.amount();
                let holding = self.shard.memory.hold(Held::Answers, amount, Rc::default());
                let too_slow = first(holding.has_to_go(), self.shard.runtime.sleep(idle_max));
                let late = async {
                    too_slow.await;
                    Err(std::io::ErrorKind::TimedOut.into())
                };
                first(sending, late).await
            }
        }
    }

    /// What the peer holds by requests under way, and by answers that it does not take.
    fn amount(&self) -> Amount {
        let mut amount = Amount { answer_bytes: self.unsent_bytes.get(), ..Amount::default() };
        for slot in self.slots.borrow().iter() {
            let share = slot.share.borrow().as_ref().map(RequestMemory::amount).unwrap_or_default();
            amount.request_bytes += share.request_bytes;
            amount.large_bytes += share.large_bytes;
        }
        amount
    }

    fn first_is_ready(&self) -> bool {
        self.slots.borrow().front().is_some_and(|slot| slot.response.borrow().is_some())
    }

    /// Takes the answers that are ready, in order. Whether the connection closes behind them.
    fn gather(&self, chunks: &mut Vec<Chunk>) -> bool {
        let mut slots = self.slots.borrow_mut();
        for _ in 0..GATHERED_MAX {
            let ready = slots.front().and_then(|slot| slot.response.borrow_mut().take());
            let Some(response) = ready else { return false };
            slots.pop_front();
            self.lender.end();
            self.attentive.take();
            match response {
                Response::Send(parts) => chunks.extend(parts),
                Response::Answered => {
                    self.last_active.set(self.shard.runtime.now());
                    self.changed.notify();
                }
                Response::Nothing => self.changed.notify(),
                Response::Close => return true,
            }
        }
        false
    }
}

/// Bytes of memory that an answer holds until it is sent.
fn held_bytes(response: &Response) -> u64 {
    match response {
        Response::Send(chunks) => chunks.iter().map(held_by).sum(),
        Response::Answered | Response::Nothing | Response::Close => 0,
    }
}

/// Bytes of memory that a chunk holds; those in files are none.
fn held_by(chunk: &Chunk) -> u64 {
    match chunk {
        Chunk::Bytes(bytes) => bytes.len() as u64,
        Chunk::File(_) => 0,
    }
}
