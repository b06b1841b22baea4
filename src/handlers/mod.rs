//! One file per family of APIs: decode, split by owner core, ask, join, encode.
//!
//! [`handle`] takes a frame to its answer. What a handler does before its first wait takes effect
//! in the order of the connection's requests; appends rely on it.
//!
//! A body that does not decode closes the connection, as does an API or version that is not
//! served (but for ApiVersions itself, KIP-511).

mod call;
mod cluster;
mod configs;
mod control;
mod fetch;
mod groups;
mod home;
mod offsets;
mod produce;
mod producers;
mod read;
mod records;
pub mod session;
mod topics;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::protocol::Encodable;

use crate::mesh::Shard;
use crate::protocol::frame::{RequestHeader, finish, start_response};
use crate::protocol::wire::Piece;
use crate::protocol::{ApiKey, Malformed, Message, cold};
use crate::runtime::local::Notice;
use crate::runtime::{Chunk, LentSocket, Loan, Recall};

pub use home::Home;
pub use read::Standing;
use session::SessionCache;

/// What is known of a connected client.
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// The name of the listener it came in by.
    pub listener: String,
    /// The fetch sessions of this core.
    pub sessions: Rc<RefCell<SessionCache>>,
    /// The core its connection would better live on.
    pub home: Home,
    /// Its reads that wait on behind an answered fetch.
    pub standing: Standing,
    /// Whether it will ask nothing more.
    pub leaving: Leaving,
}

/// Whether a client will ask nothing more: what waits for its sake is answered at once then, for
/// the client is gone, most likely, and may have asked to wait for days.
#[derive(Default)]
pub struct Leaving {
    has_left: Cell<bool>,
    told: Notice,
}

impl Leaving {
    /// Tells those who wait for the client's sake.
    pub fn leave(&self) {
        self.has_left.set(true);
        self.told.notify();
    }

    /// Waits until it leaves.
    async fn left(&self) {
        while !self.has_left.get() {
            self.told.notified().await;
        }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Response {
    /// A whole frame, in parts.
    Send(Vec<Chunk>),
    /// The core that did what was asked has sent the answer.
    Answered,
    /// No answer is wanted (produce with acks=0).
    Nothing,
    /// The connection ends.
    Close,
}

/// A connection's socket, for another core to send one answer on.
pub struct Lender {
    socket: LentSocket,
    /// The loan that is out.
    out: RefCell<Option<Recall>>,
}

impl Lender {
    /// Of a connection with that socket.
    pub fn new(socket: LentSocket) -> Self {
        Self { socket, out: RefCell::default() }
    }

    /// The right to send an answer, and the power to take it back.
    fn lend(&self) -> (Loan, Recall) {
        let (loan, recall) = self.socket.lend();
        *self.out.borrow_mut() = Some(recall.clone());
        (loan, recall)
    }

    /// Whether a loan is out: the connection's first answer may be sent by another core.
    pub fn is_out(&self) -> bool {
        self.out.borrow().is_some()
    }

    /// Whether that answer is sent, as far as is known without being told.
    pub fn is_sent(&self) -> bool {
        self.out.borrow().as_ref().is_some_and(Recall::is_sent)
    }

    /// The first answer is dealt with.
    pub fn end(&self) {
        *self.out.borrow_mut() = None;
    }
}

/// Takes one frame to its answer. With a `lender`, another core may send it: the caller then sends
/// nothing on the connection before this is done, or the lender says that it is sent.
pub async fn handle(
    shard: Rc<Shard>,
    client: Rc<Client>,
    frame: Bytes,
    lender: Option<Rc<Lender>>,
) -> Response {
    let (header, body) = match RequestHeader::parse(frame) {
        Ok(parsed) => parsed,
        Err(error) => {
            shard.counters.connections_refused_total.add(1);
            tracing::debug!(peer = %client.peer, %error, "request refused");
            return Response::Close;
        }
    };
    #[cfg(test)]
    break_in_tests(&header).await;
    match route(&shard, &client, &header, body, lender).await {
        Ok(response) => response,
        Err(error) => {
            shard.counters.connections_refused_total.add(1);
            let api = header.key.row().name;
            tracing::debug!(peer = %client.peer, api, version = header.version, %error,
                "request does not decode");
            Response::Close
        }
    }
}

/// Clients whose requests fail in their midst, in tests: at once, and once they have waited.
#[cfg(test)]
pub(crate) const BREAKING: [&str; 2] = ["breaks at once", "breaks later"];

#[cfg(test)]
async fn break_in_tests(header: &RequestHeader) {
    let client = header.client_id.as_deref().unwrap_or_default();
    assert_ne!(client, BREAKING[0]);
    if client == BREAKING[1] {
        crate::runtime::local::next_turn().await;
        panic!("it breaks");
    }
}

/// Whether the answer to such a request waits for other members of a group, with all that was
/// asked in the group's hands.
pub fn waits_for_others(key: ApiKey) -> bool {
    matches!(key, ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// Whether the answer to such a request may be much larger than the request: those of questions
/// for all there is.
pub fn may_answer_at_length(key: ApiKey) -> bool {
    match key {
        ApiKey::Metadata
        | ApiKey::ListOffsets
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::OffsetFetch
        | ApiKey::ConsumerGroupDescribe
        | ApiKey::ListGroups
        | ApiKey::DescribeGroups
        | ApiKey::DescribeCluster
        | ApiKey::DescribeTopicPartitions
        | ApiKey::ListPartitionReassignments
        | ApiKey::DescribeConfigs
        | ApiKey::ListConfigResources
        | ApiKey::DescribeLogDirs
        | ApiKey::DescribeProducers => true,
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::DeleteRecords
        | ApiKey::OffsetCommit
        | ApiKey::OffsetDelete
        | ApiKey::FindCoordinator
        | ApiKey::JoinGroup
        | ApiKey::SyncGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::ConsumerGroupHeartbeat
        | ApiKey::DeleteGroups
        | ApiKey::ApiVersions
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::ElectLeaders
        | ApiKey::InitProducerId => false,
    }
}

async fn route(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
    lender: Option<Rc<Lender>>,
) -> Result<Response, Malformed> {
    if let ApiKey::Produce | ApiKey::Fetch = header.key {
        client.home.anywhere();
    }
    match header.key {
        ApiKey::Produce => produce::produce(shard, client, header, body, lender).await,
        ApiKey::Fetch => fetch::fetch(shard, client, header, body).await,
        // By itself, for every request would be as large as the largest of them.
        _ => Box::pin(route_other(shard, client, header, body)).await,
    }
}

/// All but the two that carry records.
async fn route_other(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<Response, Malformed> {
    match header.key {
        ApiKey::Produce | ApiKey::Fetch => unreachable!("routed before"),
        ApiKey::ListOffsets => offsets::list_offsets(shard, header, body).await,
        ApiKey::OffsetForLeaderEpoch => offsets::epoch_ends(shard, header, body).await,
        ApiKey::DeleteRecords => records::delete_records(shard, header, body).await,
        ApiKey::OffsetCommit => groups::commit(shard, client, header, body).await,
        ApiKey::OffsetFetch => groups::fetch(shard, header, body).await,
        ApiKey::OffsetDelete => groups::delete_offsets(shard, client, header, body).await,
        ApiKey::FindCoordinator => groups::find(shard, client, header, body).await,
        ApiKey::JoinGroup => groups::join(shard, client, header, body).await,
        ApiKey::SyncGroup => groups::sync(shard, client, header, body).await,
        ApiKey::Heartbeat => groups::heartbeat(shard, client, header, body).await,
        ApiKey::LeaveGroup => groups::leave(shard, client, header, body).await,
        ApiKey::ConsumerGroupHeartbeat => {
            groups::consumer_heartbeat(shard, client, header, body).await
        }
        ApiKey::ConsumerGroupDescribe => groups::consumer_describe(shard, header, body).await,
        ApiKey::ListGroups => groups::list(shard, header, body).await,
        ApiKey::DescribeGroups => groups::describe(shard, header, body).await,
        ApiKey::DeleteGroups => groups::delete(shard, header, body).await,
        ApiKey::Metadata => cluster::metadata(shard, client, header, body).await,
        ApiKey::ApiVersions => cluster::api_versions(shard, header, body),
        ApiKey::DescribeCluster => cluster::describe_cluster(shard, client, header, body),
        ApiKey::DescribeTopicPartitions => topics::describe_partitions(shard, header, body),
        ApiKey::CreateTopics => control::create_topics(shard, header, body).await,
        ApiKey::DeleteTopics => control::delete_topics(shard, header, body).await,
        ApiKey::CreatePartitions => control::create_partitions(shard, header, body).await,
        ApiKey::AlterConfigs => control::alter_configs(shard, header, body).await,
        ApiKey::IncrementalAlterConfigs => control::incremental_alter(shard, header, body).await,
        ApiKey::ElectLeaders => control::elect_leaders(shard, header, body).await,
        ApiKey::ListPartitionReassignments => control::list_moves(shard, header, body).await,
        ApiKey::DescribeConfigs => configs::describe(shard, header, body),
        ApiKey::ListConfigResources => configs::list(shard, header, body),
        ApiKey::DescribeLogDirs => topics::describe_log_dirs(shard, header, body).await,
        ApiKey::InitProducerId => producers::init_producer_id(shard, header, body).await,
        ApiKey::DescribeProducers => producers::describe(shard, header, body).await,
    }
}

/// The answer to `header` with a body of our own codec. Records that lie elsewhere are taken from
/// `elsewhere`, by their token.
fn answer_with<M: Message>(
    header: &RequestHeader,
    version: i16,
    body: &M,
    elsewhere: &[crate::runtime::FileSlice],
) -> Response {
    let mut writer = start_response(header.key, version, header.correlation_id);
    body.encode_into(version, &mut writer);
    let pieces = finish(writer).into_pieces();
    let chunks = pieces.into_iter().map(|piece| match piece {
        Piece::Bytes(bytes) => Chunk::Bytes(bytes),
        Piece::Records { token, .. } => Chunk::File(elsewhere[token as usize].clone()),
    });
    Response::Send(chunks.collect())
}

/// The answer to `header` with a body of our own codec.
fn answer<M: Message>(header: &RequestHeader, body: &M) -> Response {
    answer_with(header, header.version, body, &[])
}

/// The answer to `header` with a body of the `kafka_protocol` crate.
fn answer_cold<M: Encodable>(header: &RequestHeader, body: &M) -> Response {
    let mut writer = header.start_response();
    match cold::encode_into(header.version, body, &mut writer) {
        Ok(()) => Response::Send(vec![Chunk::Bytes(finish(writer).into_bytes())]),
        Err(error) => {
            // An answer that its version can not carry is our own fault, not the client's.
            let api = header.key.row().name;
            tracing::error!(api, version = header.version, %error, "answer does not encode");
            Response::Close
        }
    }
}
