//! A connection that only produces: requests go out at their time or as fast as there is room,
//! answers come back in order.
//!
//! ```text
//! writer task   what is due now -> frames -> one send      sleeps until the next is due,
//!               in_flight: due time, records, bytes        or waits for room
//! reader task   one read -> every answer in it -> meter    wakes the writer when there is room
//! ```
//!
//! There is no task, timer or allocation for a request: Kafka answers in order, so a queue tells
//! which request an answer is for, and whether the broker is silent is looked at now and then.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::base::Instant;
use crate::protocol::Malformed;
use crate::protocol::frame::check_length;
use crate::runtime::{Runtime, StreamReader, StreamWriter};

use super::super::client::{ClientError, Outcome};
use super::super::dialogue::Halves;
use super::super::target::Target;
use super::frames::{Acceptance, Frames};
use super::meter::Meter;
use super::seconds::Amount;

/// Bytes and requests after which what is due is sent before more is put together.
const SEND_BYTES_MAX: usize = 1 << 20;
const SEND_REQUESTS_MAX: usize = 256;

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 16 << 10;

/// Largest answer accepted, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as there is room.
    Fast,
    /// Each at its time.
    Timed {
        /// When the first is due.
        began: Instant,
        /// The time from each to the next.
        interval: Duration,
    },
}

impl Pace {
    /// When request number `index` is due; `now` when they have no time.
    pub fn due(self, index: u64, now: Instant) -> Instant {
        match self {
            Self::Fast => now,
            Self::Timed { began, interval } => {
                let nanos = interval.as_nanos().saturating_mul(u128::from(index));
                began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}

/// Where requests come from.
pub trait Source {
    /// Appends the whole request number `index`, due at `due`; what it holds.
    fn put(&mut self, index: u64, correlation_id: i32, due: Instant, to: &mut Frames) -> Amount;
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Sent {
    correlation_id: i32,
    due: Instant,
    amount: Amount,
}

/// The connection of a pipe, and where its requests go.
pub struct Link {
    /// Where it runs.
    pub runtime: Runtime,
    /// Where it is connected to.
    pub address: String,
    /// The topic.
    pub target: Rc<Target>,
    /// The connection.
    pub halves: Halves,
}

/// How a pipe is to be filled.
pub struct Flow {
    /// When requests are sent.
    pub pace: Pace,
    /// Requests that may wait for answers.
    pub in_flight_max: usize,
    /// How answers are judged; `None` when there are none (acks=0).
    pub acceptance: Option<Acceptance>,
}

/// One connection's load.
pub struct Pipe {
    runtime: Runtime,
    address: String,
    target: Rc<Target>,
    flow: Flow,
    meter: Meter,
    /// Oldest first.
    in_flight: RefCell<VecDeque<Sent>>,
    /// The number of the next request.
    next: Cell<u64>,
    first_id: i32,
    /// When an answer came last, or had none to come.
    heard: Cell<Instant>,
    /// The writer, when it waits for room.
    waiting: Cell<Option<Waker>>,
    closed: Cell<bool>,
}

/// What the writer is to do next.
enum Step {
    Send,
    Sleep(Duration),
    WaitForRoom,
    End,
}

impl Pipe {
    /// Starts the load on a connection; it goes on until the meter's course is over.
    pub fn start<S: Source + 'static>(
        link: Link,
        flow: Flow,
        source: S,
        meter: &Meter,
    ) -> Rc<Self> {
        let Link { runtime, address, target, halves } = link;
        let Halves { reader, writer, next_id, .. } = halves;
        let pipe = Rc::new(Self {
            runtime: runtime.clone(),
            address,
            target,
            flow,
            meter: meter.clone(),
            in_flight: RefCell::default(),
            next: Cell::new(0),
            first_id: next_id,
            heard: Cell::new(runtime.now()),
            waiting: Cell::new(None),
            closed: Cell::new(false),
        });
        let (writing, reading) = (pipe.clone(), pipe.clone());
        runtime.spawn("bench writer", async move { writing.write(source, writer).await });
        runtime.spawn("bench reader", async move {
            let outcome = reading.read(reader).await;
            if !reading.closed.get() {
                reading.meter.finish(outcome);
            }
        });
        pipe
    }

    /// Whether nothing more will be sent and everything sent was answered.
    pub fn is_done(&self) -> bool {
        self.is_over(self.runtime.now()) && self.in_flight.borrow().is_empty()
    }

    /// Whether an answer has been waited for longer than `timeout`.
    pub fn is_silent(&self, now: Instant, timeout: Duration) -> bool {
        !self.in_flight.borrow().is_empty() && now.since(self.heard.get()) > timeout
    }

    /// Where it is connected to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the connection. Requests that were due at a fixed rate and are not answered, sent or
    /// not, are counted as given up.
    pub fn close(&self) {
        self.closed.set(true);
        self.wake_writer();
        let Pace::Timed { .. } = self.flow.pace else { return };
        let now = self.runtime.now();
        for sent in self.in_flight.take() {
            self.meter.give_up(sent.due, now);
        }
        let ends = self.meter.course().ends().min(now);
        while self.meter.runs() && self.next_due(now) < ends {
            self.meter.give_up(self.next_due(now), now);
            self.next.set(self.next.get() + 1);
        }
    }

    fn next_due(&self, now: Instant) -> Instant {
        self.flow.pace.due(self.next.get(), now)
    }

    /// Whether nothing more is to be sent.
    fn is_over(&self, now: Instant) -> bool {
        self.closed.get() || !self.meter.runs() || self.next_due(now) >= self.meter.course().ends()
    }

    /// The connection broke, which matters unless it was closed.
    fn fail(&self) {
        if !self.closed.get() {
            self.meter.finish(Err(self.broken()));
        }
    }

    fn broken(&self) -> ClientError {
        ClientError::Broken { address: self.address.clone() }
    }

    async fn write<S: Source>(&self, mut source: S, mut writer: StreamWriter) {
        let mut frames = Frames::default();
        loop {
            match self.fill(&mut source, &mut frames) {
                Step::Send => {
                    if writer.send(frames.chunks()).await.is_err() {
                        self.fail();
                        break;
                    }
                    frames.clear();
                }
                Step::Sleep(duration) => self.runtime.sleep(duration).await,
                Step::WaitForRoom => self.room().await,
                Step::End => break,
            }
            self.runtime.pass().await;
        }
        // What is in the socket is still sent when nobody waits for answers.
        poll_fn(|cx| self.poll_waiting(cx.waker(), || self.closed.get())).await;
        writer.shutdown();
    }

    /// Puts together what is to be sent now.
    fn fill<S: Source>(&self, source: &mut S, frames: &mut Frames) -> Step {
        let now = self.runtime.now();
        let mut in_flight = self.in_flight.borrow_mut();
        let mut count = 0;
        let rest = loop {
            let due = self.next_due(now);
            if self.is_over(now) {
                break Step::End;
            }
            if due > now {
                break Step::Sleep(due.since(now));
            }
            if in_flight.len() >= self.flow.in_flight_max {
                break Step::WaitForRoom;
            }
            if frames.size_bytes() >= SEND_BYTES_MAX || count >= SEND_REQUESTS_MAX {
                break Step::Send;
            }
            let index = self.next.get();
            self.next.set(index + 1);
            let correlation_id = self.first_id.wrapping_add(index as i32);
            let amount = source.put(index, correlation_id, due, frames);
            count += 1;
            if matches!(self.flow.pace, Pace::Timed { .. }) {
                self.meter.sent(due, now);
            }
            if self.flow.acceptance.is_none() {
                self.meter.count(due, due, amount);
                continue;
            }
            if in_flight.is_empty() {
                self.heard.set(now);
            }
            in_flight.push_back(Sent { correlation_id, due, amount });
        };
        if count > 0 { Step::Send } else { rest }
    }

    /// Waits until another request may be sent.
    async fn room(&self) {
        poll_fn(|cx| {
            self.poll_waiting(cx.waker(), || {
                self.closed.get() || self.in_flight.borrow().len() < self.flow.in_flight_max
            })
        })
        .await;
    }

    fn poll_waiting(&self, waker: &Waker, over: impl Fn() -> bool) -> Poll<()> {
        if over() {
            return Poll::Ready(());
        }
        // A replaced waker is dropped at the end of the statement, with nothing borrowed.
        self.waiting.set(Some(waker.clone()));
        Poll::Pending
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    async fn read(&self, mut reader: StreamReader) -> Outcome<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        loop {
            let count = reader.read(&mut buffer[filled..]).await.map_err(|_| self.broken())?;
            if count == 0 {
                return Err(self.broken());
            }
            filled += count;
            let now = self.runtime.now();
            let mut done = 0;
            while let Some(frame) = next_frame(&buffer[done..filled])? {
                self.answered(frame, now)?;
                done += 4 + frame.len();
            }
            buffer.copy_within(done..filled, 0);
            filled -= done;
            if filled == buffer.len() {
                buffer.resize(2 * filled, 0);
            }
            self.heard.set(now);
            self.wake_writer();
            self.runtime.pass().await;
        }
    }

    /// Takes an answer: always the oldest request's.
    fn answered(&self, frame: &[u8], now: Instant) -> Outcome<()> {
        let id = frame.first_chunk().map(|raw| i32::from_be_bytes(*raw));
        let sent = self.in_flight.borrow_mut().pop_front();
        let (Some(sent), Some(acceptance)) = (sent, &self.flow.acceptance) else {
            return Err(Malformed::new("an answer that nobody waits for").into());
        };
        if id != Some(sent.correlation_id) {
            return Err(Malformed::new("answers out of order").into());
        }
        acceptance.check(&self.target, frame)?;
        self.meter.count(sent.due, now, sent.amount);
        Ok(())
    }
}

/// The first whole frame, without its length; `None` when more has to come.
fn next_frame(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let Some((raw, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    Ok(rest.get(..check_length(*raw, ANSWER_BYTES_MAX)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_where_they_end() {
        let bytes = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 5, 1];
        let cases: [(usize, usize, Option<&[u8]>); 5] = [
            (0, 3, None),
            (0, 5, None),
            (0, 15, Some(&[7, 8])),
            (6, 15, Some(&[])),
            (10, 15, None),
        ];
        for (from, to, expected) in cases {
            assert_eq!(next_frame(&bytes[from..to]), Ok(expected), "{from}..{to}");
        }
        for length in [-1, i32::MIN, i32::MAX] {
            assert!(next_frame(&length.to_be_bytes()).is_err(), "{length}");
        }
    }

    #[test]
    fn requests_are_due_at_even_distances_however_many_there_were() {
        let began = Instant::from_nanos(1_000);
        let pace = Pace::Timed { began, interval: Duration::from_nanos(33) };
        assert_eq!(pace.due(0, Instant::default()), began);
        let late = pace.due(1_000_000_000_000, Instant::default());
        assert_eq!(late, Instant::from_nanos(33_000_000_001_000));
        let now = Instant::from_nanos(5);
        assert_eq!(Pace::Fast.due(3, now), now);
    }
}
