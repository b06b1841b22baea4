//! Frames: a four-byte length, a header, a body.
//!
//! The header says which API and version the body is of; what header that is depends on the same
//! two numbers, so they are read first. The client id keeps its two-byte length in every version.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::api::{Api, ApiKey};
use crate::protocol::message::Message;
use crate::protocol::wire::{Form, Malformed, Piece, Reader, Str, Writer};

/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;

/// What a request says about itself (`RequestHeader`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHeader {
    /// The API.
    pub key: ApiKey,
    /// The API's version, one that is served; but see [`RequestHeader::is_served`].
    pub version: i16,
    /// The client's number for the request; the answer carries it.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// Why a frame is no request to answer. The connection is to be closed (KIP-35).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The header does not parse.
    Malformed(Malformed),
    /// No such API is served.
    UnknownApi {
        /// The number asked for.
        key: i16,
    },
    /// The API is not served in this version.
    UnsupportedVersion {
        /// The API asked for.
        key: ApiKey,
        /// The version asked for.
        version: i16,
    },
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::UnknownApi { key } => write!(f, "API {key} is not served"),
            Self::UnsupportedVersion { key, version } => {
                write!(f, "{} is not served in version {version}", key.row().name)
            }
        }
    }
}

impl std::error::Error for Refused {}

impl RequestHeader {
    /// Takes a frame, without its length, apart into header and body.
    ///
    /// A version of ApiVersions that is not served is no error: it has an answer (KIP-511), and its
    /// body is not to be looked at.
    pub fn parse(frame: Bytes) -> Result<(Self, Bytes), Refused> {
        let mut reader = Reader::new(frame, 0);
        let code = reader.i16()?;
        let version = reader.i16()?;
        let api = Api::find(code).ok_or(Refused::UnknownApi { key: code })?;
        if !api.serves(version) && api.key != ApiKey::ApiVersions {
            return Err(Refused::UnsupportedVersion { key: api.key, version });
        }
        let correlation_id = reader.i32()?;
        let client_id = reader.nullable_string(Form::Classic)?;
        if api.version(version).form == Form::Compact {
            reader.skip_tags()?;
        }
        let header = Self { key: api.key, version, correlation_id, client_id };
        Ok((header, reader.rest()))
    }

    /// Whether the version is served. When not, the answer is
    /// `ApiVersionsResponse::unsupported_version()` in version 0.
    pub fn is_served(&self) -> bool {
        self.key.row().serves(self.version)
    }

    /// Begins the frame of this request: length to come, header.
    pub fn start(&self) -> Writer {
        let mut writer = Writer::with_capacity(256);
        writer.i32(0);
        writer.i16(self.key.code());
        writer.i16(self.version);
        writer.i32(self.correlation_id);
        writer.string(Form::Classic, self.client_id.as_deref());
        if self.key.row().version(self.version).form == Form::Compact {
            writer.uvarint(0);
        }
        writer
    }

    /// Begins the frame of the answer: length to come, header.
    pub fn start_response(&self) -> Writer {
        start_response(self.key, self.version, self.correlation_id)
    }

    /// The whole frame of this request, length and all.
    pub fn request<M: Message>(&self, body: &M) -> Bytes {
        let mut writer = self.start();
        body.encode_into(self.version, &mut writer);
        finish(writer).into_bytes()
    }

    /// The whole frame of the answer, length and all, but for records that lie elsewhere.
    pub fn response<M: Message>(&self, body: &M) -> Vec<Piece> {
        let mut writer = self.start_response();
        body.encode_into(self.version, &mut writer);
        finish(writer).into_pieces()
    }

    /// Takes the answer to this request, without its length, apart: its correlation id and body.
    pub fn parse_response(&self, frame: Bytes) -> Result<(i32, Bytes), Malformed> {
        let mut reader = Reader::new(frame, 0);
        let correlation_id = reader.i32()?;
        if self.key.row().response_header_version(self.version) == 1 {
            reader.skip_tags()?;
        }
        Ok((correlation_id, reader.rest()))
    }
}

/// Begins the frame of an answer of version `version`: length to come, header.
pub fn start_response(key: ApiKey, version: i16, correlation_id: i32) -> Writer {
    let mut writer = Writer::with_capacity(256);
    writer.i32(0);
    writer.i32(correlation_id);
    if key.row().response_header_version(version) == 1 {
        writer.uvarint(0);
    }
    writer
}

/// Ends a frame begun here by writing its length, and returns the writer for
/// `into_bytes` or `into_pieces`.
///
/// Panics when the frame is longer than `i32::MAX` bytes; fetch limits keep answers far below.
pub fn finish(mut writer: Writer) -> Writer {
    let length = writer.len() - LENGTH_BYTES;
    writer.patch_i32(0, i32::try_from(length).expect("a frame fits its length"));
    writer
}

/// Splits the first whole frame off `buffer`, without its length; `None` when more must come.
///
/// [`Malformed`] for a length that is negative or above `size_bytes_max`.
pub fn split_frame(
    buffer: &mut BytesMut,
    size_bytes_max: usize,
) -> Result<Option<Bytes>, Malformed> {
    let Some(raw) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = check_length(*raw, size_bytes_max)?;
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(LENGTH_BYTES + length).freeze();
    Ok(Some(frame.split_off(LENGTH_BYTES)))
}

/// The size in bytes of the frame behind a length; `size_bytes_max` is `socket.request.max.bytes`.
pub fn check_length(raw: [u8; LENGTH_BYTES], size_bytes_max: usize) -> Result<usize, Malformed> {
    let length = usize::try_from(i32::from_be_bytes(raw));
    match length {
        Ok(length) if length <= size_bytes_max => Ok(length),
        Ok(_) => Err(Malformed::new("the frame is too large")),
        Err(_) => Err(Malformed::new("the frame's length is negative")),
    }
}

/// A frame of `body` behind its length, for tests and tools that have one ready.
pub fn with_length(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(LENGTH_BYTES + body.len());
    frame.put_i32(i32::try_from(body.len()).expect("a frame fits its length"));
    frame.extend_from_slice(body);
    frame.freeze()
}
