//! A client's way to the broker: one connection, cut now and then, and a limit to every wait.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use corelog::protocol::cold;
use corelog::protocol::group_membership::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelog::protocol::{ApiKey, ErrorCode, Message, Str};
use corelog::runtime::Runtime;
use kafka_protocol::protocol::{Encodable, Request};

use crate::client::{Connection, PAUSE};
use crate::seen::Shared;

/// Within this time every request is answered, or its connection is lost: rebalances end sooner.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// One connection at a time.
pub struct Link {
    runtime: Runtime,
    seen: Shared,
    /// Whose it is, for traces.
    name: String,
    cut_one_in: u64,
    is_traced: bool,
    connection: Option<Connection>,
}

impl Link {
    pub fn new(runtime: Runtime, seen: Shared, name: String, cut_one_in: u64) -> Self {
        let is_traced = std::env::var("SIM_TRACE").is_ok();
        Self { runtime, seen, name, cut_one_in, is_traced, connection: None }
    }

    /// A link that is never cut.
    pub fn steady(runtime: Runtime, seen: Shared) -> Self {
        Self::new(runtime, seen, "admin".to_owned(), u64::MAX)
    }

    /// Closes the connection.
    pub fn cut(&mut self) {
        self.connection = None;
    }

    /// Asks; `None` when the connection was lost, and with it the request or its answer.
    pub async fn ask<Q, A>(&mut self, version: i16, question: &Q) -> Option<A>
    where
        Q: Message + Debug,
        A: Message + Debug,
    {
        let mut connection = self.take().await;
        self.trace(&format!("-> v{version} {question:?}"));
        let header = connection.send(version, question).await?;
        if self.is_cut().await {
            return None;
        }
        let answer = connection.receive(&header);
        let Some(answer) = self.runtime.timeout(ANSWERED_WITHIN, answer).await else {
            panic!("{:?} version {version} is not answered", Q::KEY);
        };
        self.trace(&format!("<- {answer:?}"));
        self.connection = Some(connection).filter(|_| answer.is_some());
        answer
    }

    /// The same for APIs whose messages are another crate's.
    pub async fn ask_cold<Q>(
        &mut self,
        key: ApiKey,
        version: i16,
        question: &Q,
    ) -> Option<Q::Response>
    where
        Q: Request + Encodable,
    {
        let mut connection = self.take().await;
        let header = connection.send_cold(key, version, question).await?;
        let answer = self.runtime.timeout(ANSWERED_WITHIN, connection.receive_body(&header)).await;
        let Some(answer) = answer else { panic!("{key:?} version {version} is not answered") };
        let body: Bytes = answer?;
        self.connection = Some(connection);
        Some(cold::decode_response::<Q>(version, body).expect("an answer that decodes"))
    }

    /// Asks for a group's coordinator until there is one; the first to ask has the topic created
    /// that coordinators write to.
    pub async fn find_coordinator(&mut self, group: &str) {
        let keys = vec![Str::from_string(group.to_owned())];
        let request = FindCoordinatorRequest { keys, ..FindCoordinatorRequest::default() };
        loop {
            let answer: Option<FindCoordinatorResponse> = self.ask(4, &request).await;
            match answer.map(|answer| answer.coordinators[0].error) {
                Some(ErrorCode::None) => return,
                Some(ErrorCode::CoordinatorNotAvailable) | None => {}
                Some(other) => panic!("looking for a coordinator: {other:?}"),
            }
            self.runtime.sleep(PAUSE).await;
        }
    }

    fn trace(&self, text: &str) {
        if self.is_traced {
            eprintln!("{:?} {} {text}", self.runtime.now(), self.name);
        }
    }

    async fn take(&mut self) -> Connection {
        match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.runtime).await,
        }
    }

    /// Whether the connection is cut behind this request, before or after it was handled.
    async fn is_cut(&self) -> bool {
        if self.seen.borrow().is_calm || !self.runtime.random().is_multiple_of(self.cut_one_in) {
            return false;
        }
        let wait_us = self.runtime.random() % 5000;
        self.runtime.sleep(Duration::from_micros(wait_us)).await;
        true
    }
}
