//! The cold APIs: `kafka_protocol`'s message types, behind a guard.
//!
//! That crate sets aside memory for any count a message claims, which five bytes can make
//! gigabytes. So every body is first walked along its layout (`cold_layout`), which checks all
//! counts and lengths against the bytes that are there, and only then decoded.
//!
//! Not here: the APIs with codecs of our own (see [`crate::protocol`]).

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable, Request};

use crate::protocol::api::Api;
use crate::protocol::cold_layout::{self, Layout};
use crate::protocol::wire::{Malformed, Reader, Writer};
use crate::protocol::wire::{REQUEST_ELEMENTS_MAX, RESPONSE_ELEMENTS_MAX};

/// The value has something that this version can not carry: a defect of the caller.
#[derive(Debug)]
pub struct Unencodable {
    /// What the codec complained about.
    pub reason: String,
}

impl std::fmt::Display for Unencodable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the message can not be encoded: {}", self.reason)
    }
}

impl std::error::Error for Unencodable {}

/// Reads the body of a request of version `version`. Bytes behind it are ignored.
///
/// [`Malformed`] also when the API table does not have this API or version.
pub fn decode<T: Request>(version: i16, body: Bytes) -> Result<T, Malformed> {
    let (api, layout) = known::<T>(version)?;
    check(layout.request, api, version, body.clone(), REQUEST_ELEMENTS_MAX)?;
    decode_checked(version, body)
}

/// Reads the body of the answer to a request `T` of version `version`.
pub fn decode_response<T: Request>(version: i16, body: Bytes) -> Result<T::Response, Malformed> {
    let (api, layout) = known::<T>(version)?;
    check(layout.response, api, version, body.clone(), RESPONSE_ELEMENTS_MAX)?;
    decode_checked(version, body)
}

/// The body of a request or an answer of version `version`, without a header.
pub fn encode<T: Encodable>(version: i16, message: &T) -> Result<Bytes, Unencodable> {
    let mut writer = Writer::new();
    encode_into(version, message, &mut writer)?;
    Ok(writer.into_bytes())
}

/// Appends the body of a request or an answer of version `version` to `writer`.
pub fn encode_into<T: Encodable>(
    version: i16,
    message: &T,
    writer: &mut Writer,
) -> Result<(), Unencodable> {
    message
        .encode(writer.bytes_mut(), version)
        .map_err(|error| Unencodable { reason: error.to_string() })
}

fn known<T: Request>(version: i16) -> Result<(&'static Api, &'static cold_layout::Row), Malformed> {
    let unknown = Malformed::new("the API is not served in this version");
    let api = Api::find(T::KEY).filter(|api| api.serves(version)).ok_or(unknown)?;
    let row = cold_layout::ROWS.iter().find(|row| row.key == api.key).ok_or(unknown)?;
    Ok((api, row))
}

fn check(
    layout: Layout,
    api: &Api,
    version: i16,
    body: Bytes,
    elements_max: usize,
) -> Result<(), Malformed> {
    layout.walk(&mut Reader::new(body, elements_max), api.version(version))
}

fn decode_checked<M: Decodable>(version: i16, mut body: Bytes) -> Result<M, Malformed> {
    M::decode(&mut body, version).map_err(|_| Malformed::new("the body does not decode"))
}
