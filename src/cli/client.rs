//! A small client: connections that pipeline, answers matched by correlation id, routing by
//! metadata.
//!
//! One task writes what is to be sent and one reads answers, per connection; any number of callers
//! share it. For the tools of the command line and for tests; it does not retry.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};

use crate::base::NodeId;
use crate::protocol::api::{Api, ApiKey};
use crate::protocol::api_versions::ApiVersionsResponse;
use crate::protocol::frame::{self, RequestHeader};
use crate::protocol::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use crate::protocol::wire::{Form, Reader, Writer};
use crate::protocol::{ErrorCode, Malformed, Message, Str, cold};
use crate::runtime::local::{Answer, Notice, Reply, oneshot};
use crate::runtime::{Chunk, Runtime, StreamReader, StreamWriter};

use super::dialogue::{CLIENT_ID, Dialogue, Halves, common_version, header};

/// Largest answer accepted, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 256 << 10;

/// The newest version of FindCoordinator that is asked; from 4 on it takes several keys.
const COORDINATOR_VERSION_MAX: i16 = 6;

/// The wait before a coordinator that is not ready is asked for again.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// No connection.
    Unreachable {
        /// Where to.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The connection ended before the answer came.
    Broken {
        /// Where to.
        address: String,
    },
    /// No answer in time.
    TimedOut {
        /// Where from.
        address: String,
    },
    /// The answer does not decode.
    Malformed(Malformed),
    /// The broker does not serve the request in a version this client knows.
    Unserved(&'static str),
    /// The broker said no.
    Refused {
        /// What was asked for.
        what: String,
        /// The code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
}

impl ClientError {
    /// A broker's refusal; `message` are its words, when it gave any.
    pub fn refused(what: impl Into<String>, code: ErrorCode, message: Option<&str>) -> Self {
        let message = message.filter(|text| !text.is_empty()).map(str::to_owned);
        Self::Refused { what: what.into(), code, message }
    }
}

impl From<Malformed> for ClientError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, error } => {
                write!(f, "no connection to {address}: {error}; is the broker running there?")
            }
            Self::Broken { address } => write!(f, "{address} closed the connection"),
            Self::TimedOut { address } => write!(f, "{address} did not answer in time"),
            Self::Malformed(error) => write!(f, "the broker's answer makes no sense: {error}"),
            Self::Unserved(api) => {
                write!(f, "the broker does not serve {api} in a version this client knows")
            }
            Self::Refused { what, code, message: Some(message) } => {
                write!(f, "{what}: {message} ({code:?})")
            }
            Self::Refused { what, code, message: None } => {
                write!(f, "{what}: {} ({code:?})", code.message())
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// The outcome of a call.
pub type Outcome<T> = Result<T, ClientError>;

/// A connection to one broker. Clones share it.
#[derive(Clone)]
pub struct Connection(Rc<Shared>);

struct Shared {
    runtime: Runtime,
    address: String,
    timeout: Duration,
    versions: ApiVersionsResponse,
    next_id: Cell<i32>,
    /// Who waits for which answer; `None` once the connection ended.
    waiting: RefCell<Option<BTreeMap<i32, Reply<Bytes>>>>,
    outbox: RefCell<Vec<Chunk>>,
    notice: Notice,
}

/// A request that was sent; its answer will come.
pub struct Pending {
    header: RequestHeader,
    answer: Answer<Bytes>,
    shared: Rc<Shared>,
}

impl Pending {
    /// Waits for the answer's body.
    pub async fn body(self) -> Outcome<Bytes> {
        let frame = self.shared.wait(self.answer).await?;
        Ok(self.header.parse_response(frame)?.1)
    }

    /// Waits for the answer.
    pub async fn answer<A: Message>(self) -> Outcome<A> {
        let version = self.header.version;
        Ok(A::decode(version, self.body().await?)?)
    }
}

impl Connection {
    /// Connects to "host:port" and asks what the broker serves.
    pub async fn open(runtime: &Runtime, address: &str, timeout: Duration) -> Outcome<Self> {
        let dialogue = Dialogue::open(runtime, address, timeout).await?;
        let Halves { reader, writer, versions, next_id } = dialogue.into_halves();
        let connection = Self(Rc::new(Shared {
            runtime: runtime.clone(),
            address: address.to_owned(),
            timeout,
            versions,
            next_id: Cell::new(next_id),
            waiting: RefCell::new(Some(BTreeMap::new())),
            outbox: RefCell::default(),
            notice: Notice::new(),
        }));
        runtime.spawn("client reader", read_answers(connection.0.clone(), reader));
        runtime.spawn("client writer", write_requests(connection.0.clone(), writer));
        Ok(connection)
    }

    /// The address it was opened to.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The newest version of `api` that both sides know.
    pub fn version(&self, api: &'static Api) -> Outcome<i16> {
        common_version(&self.0.versions, api)
    }

    /// Sends a request of the newest version both sides know, without waiting for the answer.
    pub fn send<M: Message>(&self, body: &M) -> Outcome<Pending> {
        self.send_version(body, self.version(M::KEY.row())?)
    }

    /// Sends a request of this version.
    pub fn send_version<M: Message>(&self, body: &M, version: i16) -> Outcome<Pending> {
        let header = self.header(M::KEY, version);
        let frame = header.request(body);
        self.send_frame(header, frame)
    }

    /// Sends a request that is not answered (acks=0).
    pub fn send_unanswered<M: Message>(&self, body: &M) -> Outcome<()> {
        let header = self.header(M::KEY, self.version(M::KEY.row())?);
        if self.0.waiting.borrow().is_none() {
            return Err(ClientError::Broken { address: self.0.address.clone() });
        }
        self.0.outbox.borrow_mut().push(Chunk::Bytes(header.request(body)));
        self.0.notice.notify();
        Ok(())
    }

    /// Sends a request and waits for its answer.
    pub async fn call<M: Message, A: Message>(&self, body: &M) -> Outcome<A> {
        self.send(body)?.answer().await
    }

    /// Sends a request of an API whose codec is not ours, and waits for its answer.
    pub async fn call_cold<T: Request>(&self, body: &T) -> Outcome<T::Response> {
        let api = Api::find(T::KEY).ok_or(ClientError::Unserved("this request"))?;
        let version = self.version(api)?;
        let header = self.header(api.key, version);
        let mut writer = header.start();
        cold::encode_into(version, body, &mut writer)
            .map_err(|_| ClientError::Unserved(api.name))?;
        let pending = self.send_frame(header, frame::finish(writer).into_bytes())?;
        Ok(cold::decode_response::<T>(version, pending.body().await?)?)
    }

    /// Sends a request of a group API, in `version_max` at most, and waits for its answer.
    ///
    /// These are encoded by `kafka_protocol` alone: a tool speaks to any broker, in versions of its
    /// own choice.
    pub async fn call_group<T: Request>(&self, body: &T, version_max: i16) -> Outcome<T::Response> {
        let unserved =
            ClientError::Unserved(std::any::type_name::<T>().rsplit("::").next().unwrap_or(""));
        let Some((min, max)) = self.0.versions.versions_of(T::KEY) else {
            return Err(unserved);
        };
        let version = max.min(version_max).min(T::VERSIONS.max);
        if version < min.max(T::VERSIONS.min) {
            return Err(unserved);
        }
        let correlation_id = self.next_correlation_id();
        let mut writer = Writer::with_capacity(256);
        writer.i32(0);
        writer.i16(T::KEY);
        writer.i16(version);
        writer.i32(correlation_id);
        writer.string(Form::Classic, Some(CLIENT_ID));
        if T::header_version(version) >= 2 {
            writer.uvarint(0);
        }
        cold::encode_into(version, body, &mut writer).map_err(|_| unserved)?;
        let answer = self.enqueue(correlation_id, frame::finish(writer).into_bytes())?;
        let frame = self.0.wait(answer).await?;
        let mut reader = Reader::new(frame, 0);
        reader.i32()?;
        if T::Response::header_version(version) >= 1 {
            reader.skip_tags()?;
        }
        let decoded = T::Response::decode(&mut reader.rest(), version);
        Ok(decoded.map_err(|_| Malformed::new("the body does not decode"))?)
    }

    /// Closes the connection without a word; whoever waits for an answer is told.
    pub fn close(&self) {
        self.0.end();
    }

    /// Requests that wait to be written, for callers that bound them; none once the connection has
    /// ended.
    pub fn unsent(&self) -> usize {
        if self.0.waiting.borrow().is_none() { 0 } else { self.0.outbox.borrow().len() }
    }

    fn next_correlation_id(&self) -> i32 {
        let id = self.0.next_id.get();
        self.0.next_id.set(id.wrapping_add(1));
        id
    }

    fn header(&self, key: ApiKey, version: i16) -> RequestHeader {
        header(key, version, self.next_correlation_id())
    }

    fn send_frame(&self, header: RequestHeader, frame: Bytes) -> Outcome<Pending> {
        let answer = self.enqueue(header.correlation_id, frame)?;
        Ok(Pending { header, answer, shared: self.0.clone() })
    }

    fn enqueue(&self, correlation_id: i32, frame: Bytes) -> Outcome<Answer<Bytes>> {
        let (reply, answer) = oneshot();
        match self.0.waiting.borrow_mut().as_mut() {
            Some(waiting) => waiting.insert(correlation_id, reply),
            None => return Err(ClientError::Broken { address: self.0.address.clone() }),
        };
        self.0.outbox.borrow_mut().push(Chunk::Bytes(frame));
        self.0.notice.notify();
        Ok(answer)
    }
}

impl Shared {
    /// The frame of an answer.
    async fn wait(&self, answer: Answer<Bytes>) -> Outcome<Bytes> {
        let address = || self.address.clone();
        match self.runtime.timeout(self.timeout, answer).await {
            None => Err(ClientError::TimedOut { address: address() }),
            Some(None) => Err(ClientError::Broken { address: address() }),
            Some(Some(frame)) => Ok(frame),
        }
    }

    /// Ends the connection: everybody who waits is told.
    fn end(&self) {
        let waiting = self.waiting.borrow_mut().take();
        drop(waiting);
        self.notice.notify();
    }
}

async fn read_answers(shared: Rc<Shared>, mut reader: StreamReader) {
    let mut chunk = vec![0; READ_BYTES];
    let mut buffer = BytesMut::new();
    loop {
        let count = match reader.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        buffer.extend_from_slice(&chunk[..count]);
        loop {
            match frame::split_frame(&mut buffer, ANSWER_BYTES_MAX) {
                Ok(Some(frame)) => hand_over(&shared, frame),
                Ok(None) => break,
                Err(_) => return shared.end(),
            }
        }
        shared.runtime.pass().await;
    }
    shared.end();
}

fn hand_over(shared: &Shared, frame: Bytes) {
    let Some(raw) = frame.first_chunk::<4>() else { return };
    let id = i32::from_be_bytes(*raw);
    let reply = shared.waiting.borrow_mut().as_mut().and_then(|waiting| waiting.remove(&id));
    if let Some(reply) = reply {
        reply.send(frame);
    }
}

async fn write_requests(shared: Rc<Shared>, mut writer: StreamWriter) {
    loop {
        let notified = shared.notice.notified();
        let chunks = std::mem::take(&mut *shared.outbox.borrow_mut());
        if shared.waiting.borrow().is_none() {
            break;
        }
        if chunks.is_empty() {
            notified.await;
            continue;
        }
        if writer.send(&chunks).await.is_err() {
            break;
        }
        shared.runtime.pass().await;
    }
    writer.shutdown();
    shared.end();
}

/// A cluster: its metadata, and a connection to each broker that was asked something.
pub struct Cluster {
    runtime: Runtime,
    timeout: Duration,
    first: Connection,
    brokers: RefCell<BTreeMap<NodeId, String>>,
    connections: RefCell<BTreeMap<NodeId, Connection>>,
}

impl Cluster {
    /// Connects to the first of `bootstrap` ("host:port", separated by commas) that answers.
    pub async fn open(runtime: &Runtime, bootstrap: &str, timeout: Duration) -> Outcome<Self> {
        let addresses = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
        let mut last = ClientError::Unreachable {
            address: bootstrap.to_owned(),
            error: io::ErrorKind::InvalidInput.into(),
        };
        for address in addresses {
            match Connection::open(runtime, address, timeout).await {
                Ok(first) => {
                    return Ok(Self {
                        runtime: runtime.clone(),
                        timeout,
                        first,
                        brokers: RefCell::default(),
                        connections: RefCell::default(),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The runtime it uses.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The connection made first, for requests any broker answers.
    pub fn any(&self) -> &Connection {
        &self.first
    }

    /// The metadata of these topics, of all when `None`. A topic that is missing is created when
    /// `creation` says so and the broker does it.
    pub async fn metadata(
        &self,
        topics: Option<&[String]>,
        creation: Creation,
    ) -> Outcome<MetadataResponse> {
        let topics = topics.map(|names| {
            let topic = |name: &String| MetadataRequestTopic {
                name: Some(Str::from_string(name.clone())),
                ..MetadataRequestTopic::default()
            };
            names.iter().map(topic).collect()
        });
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: creation == Creation::Allowed,
            ..MetadataRequest::default()
        };
        let answer: MetadataResponse = self.first.call(&request).await?;
        let brokers = answer.brokers.iter();
        let addresses = brokers.map(|it| (it.node, address(&it.host, it.port)));
        *self.brokers.borrow_mut() = addresses.collect();
        Ok(answer)
    }

    /// The address of the broker that coordinates a group.
    ///
    /// A coordinator that is not ready yet (its partition is being created or loaded) is asked for
    /// again, for as long as one answer may take.
    pub async fn coordinator(&self, group: &str) -> Outcome<String> {
        let began = self.runtime.now();
        let key = Str::from_string(group.to_owned());
        loop {
            let request =
                FindCoordinatorRequest::default().with_coordinator_keys(vec![key.clone()]);
            let answer = self.first.call_group(&request, COORDINATOR_VERSION_MAX).await?;
            let Some(found) = answer.coordinators.first() else {
                return Err(ClientError::Unserved("FindCoordinator of several keys"));
            };
            let code = ErrorCode::from_code(found.error_code);
            let code = code.unwrap_or(ErrorCode::UnknownServerError);
            if code == ErrorCode::None {
                return Ok(address(&found.host, found.port));
            }
            let waits = code == ErrorCode::CoordinatorNotAvailable;
            if !waits || self.runtime.now().since(began) >= self.timeout {
                let words = found.error_message.as_deref();
                return Err(ClientError::refused(format!("group {group}"), code, words));
            }
            self.runtime.sleep(COORDINATOR_PAUSE).await;
        }
    }

    /// The brokers of the last metadata.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.brokers.borrow().keys().copied().collect()
    }

    /// A connection of one's own to this address.
    pub async fn connection_to(&self, address: &str) -> Outcome<Connection> {
        Connection::open(&self.runtime, address, self.timeout).await
    }

    /// The connection to a broker of the last metadata.
    pub async fn broker(&self, node: NodeId) -> Outcome<Connection> {
        let known = self.connections.borrow().get(&node).cloned();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let connection = self.new_connection(node).await?;
        self.connections.borrow_mut().insert(node, connection.clone());
        Ok(connection)
    }

    /// A connection of one's own to a broker of the last metadata.
    pub async fn new_connection(&self, node: NodeId) -> Outcome<Connection> {
        Connection::open(&self.runtime, &self.address(node)?, self.timeout).await
    }

    /// The same, on which one request at a time is asked.
    pub async fn new_dialogue(&self, node: NodeId) -> Outcome<Dialogue> {
        Dialogue::open(&self.runtime, &self.address(node)?, self.timeout).await
    }

    /// The address of a broker of the last metadata.
    pub fn address(&self, node: NodeId) -> Outcome<String> {
        let address = self.brokers.borrow().get(&node).cloned();
        address.ok_or_else(|| {
            let what = format!("broker {node}");
            ClientError::refused(what, ErrorCode::BrokerNotAvailable, None)
        })
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Whether asking for a topic may create it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Creation {
    /// A missing topic may be created.
    Allowed,
    /// A missing topic is an error.
    Forbidden,
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
