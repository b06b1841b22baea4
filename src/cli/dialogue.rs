//! The beginning of every connection: one request at a time, each answered before the next, and
//! what the broker serves. Then its two halves go to whoever knows better.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::protocol::api::{Api, ApiKey};
use crate::protocol::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::frame::{self, RequestHeader};
use crate::protocol::{ErrorCode, Message, Str};
use crate::runtime::{Chunk, Runtime, StreamReader, StreamWriter};

use super::client::{ClientError, Outcome};

/// Largest answer accepted, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 16 << 10;

/// The client id of all our requests.
pub const CLIENT_ID: &str = "corelog";

/// The header of a request of ours.
pub fn header(key: ApiKey, version: i16, correlation_id: i32) -> RequestHeader {
    RequestHeader { key, version, correlation_id, client_id: Some(Str::from_static_str(CLIENT_ID)) }
}

/// A fresh connection to one broker, on which one request at a time is asked.
pub struct Dialogue {
    runtime: Runtime,
    address: String,
    timeout: Duration,
    reader: StreamReader,
    writer: StreamWriter,
    versions: ApiVersionsResponse,
    next_id: i32,
    /// What was read behind the last answer: nothing, from a broker that keeps to the protocol.
    buffer: BytesMut,
}

/// What a dialogue leaves to those who take the connection over.
pub struct Halves {
    /// What the broker sends.
    pub reader: StreamReader,
    /// What the broker is sent.
    pub writer: StreamWriter,
    /// What the broker serves.
    pub versions: ApiVersionsResponse,
    /// The first correlation id that was not used.
    pub next_id: i32,
}

impl Dialogue {
    /// Connects to "host:port" and asks what the broker serves.
    pub async fn open(runtime: &Runtime, address: &str, timeout: Duration) -> Outcome<Self> {
        let connected = runtime.timeout(timeout, runtime.connect(address)).await;
        let (reader, writer) = connected
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| ClientError::Unreachable { address: address.to_owned(), error })?;
        let mut dialogue = Self {
            runtime: runtime.clone(),
            address: address.to_owned(),
            timeout,
            reader,
            writer,
            versions: ApiVersionsResponse::default(),
            next_id: 0,
            buffer: BytesMut::new(),
        };
        dialogue.versions = dialogue.ask_versions().await?;
        Ok(dialogue)
    }

    async fn ask_versions(&mut self) -> Outcome<ApiVersionsResponse> {
        let mut version = ApiVersionsRequest::KEY.row().version_max;
        loop {
            let body = ApiVersionsRequest {
                client_software_name: Str::from_static_str(CLIENT_ID),
                client_software_version: Str::from_static_str(env!("CARGO_PKG_VERSION")),
            };
            let answer = self.exchange(&body, version).await?;
            let answer = ApiVersionsResponse::decode_answer(version, answer)?;
            match answer.error {
                ErrorCode::None => return Ok(answer),
                ErrorCode::UnsupportedVersion if version > 0 => version = 0,
                code => return Err(ClientError::refused("ApiVersions", code, None)),
            }
        }
    }

    /// The newest version of `api` that both sides know.
    pub fn version(&self, api: &'static Api) -> Outcome<i16> {
        common_version(&self.versions, api)
    }

    /// Sends a request and waits for its answer.
    pub async fn call<M: Message, A: Message>(&mut self, body: &M) -> Outcome<A> {
        let version = self.version(M::KEY.row())?;
        Ok(A::decode(version, self.exchange(body, version).await?)?)
    }

    /// Waits before something is asked again.
    pub async fn pause(&self, duration: Duration) {
        self.runtime.sleep(duration).await;
    }

    /// Leaves the connection to others.
    pub fn into_halves(self) -> Halves {
        let Self { reader, writer, versions, next_id, .. } = self;
        Halves { reader, writer, versions, next_id }
    }

    /// Sends a request of this version; the body of its answer.
    async fn exchange<M: Message>(&mut self, body: &M, version: i16) -> Outcome<Bytes> {
        let header = header(M::KEY, version, self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let request = [Chunk::Bytes(header.request(body))];
        let broken = || ClientError::Broken { address: self.address.clone() };
        let (reader, writer, buffer) = (&mut self.reader, &mut self.writer, &mut self.buffer);
        let talk = async {
            writer.send(&request).await.map_err(|_| broken())?;
            let mut chunk = vec![0; READ_BYTES];
            loop {
                if let Some(frame) = frame::split_frame(buffer, ANSWER_BYTES_MAX)? {
                    return Ok(header.parse_response(frame)?.1);
                }
                match reader.read(&mut chunk).await {
                    Ok(0) | Err(_) => return Err(broken()),
                    Ok(count) => buffer.extend_from_slice(&chunk[..count]),
                }
            }
        };
        let said = self.runtime.timeout(self.timeout, talk).await;
        said.unwrap_or_else(|| Err(ClientError::TimedOut { address: self.address.clone() }))
    }
}

/// The newest version of `api` that we and a broker that serves `versions` know.
pub fn common_version(versions: &ApiVersionsResponse, api: &'static Api) -> Outcome<i16> {
    let unserved = ClientError::Unserved(api.name);
    let Some((min, max)) = versions.versions_of(api.key.code()) else { return Err(unserved) };
    let version = max.min(api.version_max);
    if version >= min && api.serves(version) { Ok(version) } else { Err(unserved) }
}
