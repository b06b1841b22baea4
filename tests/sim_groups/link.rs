//! A client's way to the broker: one connection, cut now and then, and a limit to every wait.

use std::time::Duration;

use bytes::Bytes;
use corelog::protocol::cold;
use corelog::protocol::frame::finish;
use corelog::protocol::{ApiKey, Message};
use corelog::runtime::Runtime;
use kafka_protocol::protocol::{Encodable, Request};

use crate::client::Connection;
use crate::seen::Shared;

/// Within this time every request is answered, or its connection is lost: rebalances end sooner.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// One connection at a time.
pub struct Link {
    runtime: Runtime,
    seen: Shared,
    cut_one_in: u64,
    connection: Option<Connection>,
}

impl Link {
    pub fn new(runtime: Runtime, seen: Shared, cut_one_in: u64) -> Self {
        Self { runtime, seen, cut_one_in, connection: None }
    }

    /// A link that is never cut.
    pub fn steady(runtime: Runtime, seen: Shared) -> Self {
        Self::new(runtime, seen, u64::MAX)
    }

    /// Closes the connection.
    pub fn cut(&mut self) {
        self.connection = None;
    }

    /// Asks; `None` when the connection was lost, and with it the request or its answer.
    pub async fn ask<Q: Message, A: Message>(&mut self, version: i16, question: &Q) -> Option<A> {
        let mut connection = self.take().await;
        let header = connection.send(version, question).await?;
        if self.is_cut().await {
            return None;
        }
        let answer = connection.receive(&header);
        let Some(answer) = self.runtime.timeout(ANSWERED_WITHIN, answer).await else {
            panic!("{:?} version {version} is not answered", Q::KEY);
        };
        self.connection = Some(connection);
        if answer.is_none() {
            self.connection = None;
        }
        answer
    }

    /// The same for APIs whose messages are another crate's.
    pub async fn ask_cold<Q>(&mut self, key: ApiKey, version: i16, question: &Q) -> Option<Q::Response>
    where
        Q: Request + Encodable,
    {
        let mut connection = self.take().await;
        let header = connection.header(key, version);
        let mut writer = header.start();
        cold::encode_into(version, question, &mut writer).expect("a good request");
        connection.send_frame(finish(writer).into_bytes()).await?;
        let answer = self.runtime.timeout(ANSWERED_WITHIN, connection.receive_body(&header)).await;
        let Some(answer) = answer else { panic!("{key:?} version {version} is not answered") };
        let body: Bytes = answer?;
        self.connection = Some(connection);
        Some(cold::decode_response::<Q>(version, body).expect("an answer that decodes"))
    }

    async fn take(&mut self) -> Connection {
        match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.runtime).await,
        }
    }

    /// Whether the connection is cut behind this request, before or after it was handled.
    async fn is_cut(&self) -> bool {
        if self.seen.borrow().is_calm || self.runtime.random() % self.cut_one_in != 0 {
            return false;
        }
        let wait_us = self.runtime.random() % 5000;
        self.runtime.sleep(Duration::from_micros(wait_us)).await;
        true
    }
}
