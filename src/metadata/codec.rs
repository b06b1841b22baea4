//! How the fields of metadata and control records become bytes.
//!
//! Every message here is "flexible" (KIP-482): lengths are unsigned varints plus one, and a list of
//! tagged fields follows the plain ones. `message!` declares a message once, as a table of its
//! fields; encoding and decoding follow from it.
//!
//! Invariant: a decoder never reserves more than the bytes that remain could hold.
//! Not here: which records there are (`record`), what they mean (`image`).

use std::fmt;

use bytes::Bytes;

use crate::base::{NodeId, Uuid};

/// Why bytes are no record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DecodeError {
    /// The bytes end within a field.
    Truncated,
    /// A field holds a value its type does not have.
    BadValue(&'static str),
    /// Bytes follow the end of the message.
    TrailingBytes,
    /// The frame around a record has a version other than 1.
    UnknownFrame(u32),
    /// A record type this program does not know.
    UnknownType(u32),
    /// A version of a known record type that this program does not know.
    UnknownVersion {
        /// Kafka's name of the record.
        record: &'static str,
        /// The version that was found.
        version: i16,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a record ends within a field"),
            Self::BadValue(what) => write!(f, "a record holds a bad value: {what}"),
            Self::TrailingBytes => f.write_str("bytes follow the end of a record"),
            Self::UnknownFrame(version) => write!(f, "unknown record frame version {version}"),
            Self::UnknownType(api_key) => write!(
                f,
                "unknown metadata record type {api_key}: it was written by a newer release, \
                 whose metadata.version this one does not support"
            ),
            Self::UnknownVersion { record, version } => write!(
                f,
                "unknown version {version} of {record}: it was written by a newer release, \
                 whose metadata.version this one does not support"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Bytes that are being decoded, from the front.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Decodes from the first byte of `bytes` on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes not yet decoded.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    /// An unsigned varint of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::BadValue("varint"));
            }
        }
        Err(DecodeError::BadValue("varint"))
    }

    /// A length: `None` is null. Never more than the bytes that remain.
    pub fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let Some(length) = self.uvarint()?.checked_sub(1) else { return Ok(None) };
        let length = length as usize;
        if length > self.0.len() { Err(DecodeError::Truncated) } else { Ok(Some(length)) }
    }

    /// Succeeds when every byte was decoded.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

/// Appends an unsigned varint.
pub fn put_uvarint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length that is not null.
pub fn put_compact_length(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length + 1).expect("a record is far smaller than 4 GiB");
    put_uvarint(length, out);
}

/// A type of the schema language, in the bytes of a given message version.
pub trait Wire: Sized {
    /// Appends the value's bytes.
    fn encode(&self, version: i16, out: &mut Vec<u8>);
    /// Reads a value.
    fn decode(version: i16, input: &mut Input<'_>) -> Result<Self, DecodeError>;
}

macro_rules! wire_numbers {
    ($($number:ty),*) => {
        $(impl Wire for $number {
            fn encode(&self, _: i16, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(_: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
                input.array().map(Self::from_be_bytes)
            }
        })*
    };
}

wire_numbers!(i8, i16, u16, i32, i64, f64);

impl Wire for bool {
    fn encode(&self, _: i16, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(_: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.array().map(|[byte]| byte != 0)
    }
}

impl Wire for NodeId {
    fn encode(&self, version: i16, out: &mut Vec<u8>) {
        self.0.encode(version, out);
    }

    fn decode(version: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let raw = i32::decode(version, input)?;
        if raw < 0 { Err(DecodeError::BadValue("negative node id")) } else { Ok(Self(raw)) }
    }
}

/// -1 on the wire is `None`.
impl Wire for Option<NodeId> {
    fn encode(&self, version: i16, out: &mut Vec<u8>) {
        self.map_or(-1, |node| node.0).encode(version, out);
    }

    fn decode(version: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let raw = i32::decode(version, input)?;
        Ok((raw >= 0).then_some(NodeId(raw)))
    }
}

impl Wire for Uuid {
    fn encode(&self, _: i16, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_wire());
    }

    fn decode(_: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Self::from_wire(input.array()?).ok_or(DecodeError::BadValue("all-zero id"))
    }
}

/// The all-zero id is `None`.
impl Wire for Option<Uuid> {
    fn encode(&self, _: i16, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.map_or([0; 16], Uuid::to_wire));
    }

    fn decode(_: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.array().map(Uuid::from_wire)
    }
}

fn decode_text(bytes: &[u8]) -> Result<String, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::BadValue("text"))?;
    Ok(text.to_owned())
}

impl Wire for String {
    fn encode(&self, _: i16, out: &mut Vec<u8>) {
        put_compact_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(_: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let length = input.compact_length()?.ok_or(DecodeError::BadValue("null text"))?;
        decode_text(input.take(length)?)
    }
}

impl Wire for Option<String> {
    fn encode(&self, version: i16, out: &mut Vec<u8>) {
        match self {
            Some(text) => text.encode(version, out),
            None => out.push(0),
        }
    }

    fn decode(_: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let Some(length) = input.compact_length()? else { return Ok(None) };
        decode_text(input.take(length)?).map(Some)
    }
}

impl Wire for Bytes {
    fn encode(&self, _: i16, out: &mut Vec<u8>) {
        put_compact_length(self.len(), out);
        out.extend_from_slice(self);
    }

    fn decode(_: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let length = input.compact_length()?.ok_or(DecodeError::BadValue("null bytes"))?;
        input.take(length).map(Self::copy_from_slice)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn encode(&self, version: i16, out: &mut Vec<u8>) {
        put_compact_length(self.len(), out);
        self.iter().for_each(|item| item.encode(version, out));
    }

    fn decode(version: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Option::decode(version, input)?.ok_or(DecodeError::BadValue("null list"))
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    fn encode(&self, version: i16, out: &mut Vec<u8>) {
        match self {
            Some(items) => items.encode(version, out),
            None => out.push(0),
        }
    }

    fn decode(version: i16, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        // Every item takes a byte at least, so the length is bounded by what remains; the list
        // grows as items turn up, since an item in memory is larger than a byte.
        let Some(length) = input.compact_length()? else { return Ok(None) };
        (0..length).map(|_| T::decode(version, input)).collect::<Result<_, _>>().map(Some)
    }
}

/// Tagged fields of a message that is being encoded, in rising order of their tags.
#[derive(Default)]
pub struct TaggedOut(Vec<(u32, Vec<u8>)>);

impl TaggedOut {
    /// Adds a field; the default value is not written.
    pub fn put<T: Wire + Default + PartialEq>(&mut self, tag: u32, value: &T, version: i16) {
        if *value != T::default() {
            let mut bytes = Vec::new();
            value.encode(version, &mut bytes);
            self.0.push((tag, bytes));
        }
    }

    /// Appends the fields.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.0.sort_by_key(|(tag, _)| *tag);
        put_uvarint(self.0.len() as u32, out);
        for (tag, bytes) in self.0 {
            put_uvarint(tag, out);
            put_uvarint(bytes.len() as u32, out);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Decodes the tagged fields: `field` gets a tag and its bytes and says whether it knows the tag.
pub fn decode_tagged(
    input: &mut Input<'_>,
    mut field: impl FnMut(u32, &mut Input<'_>) -> Result<bool, DecodeError>,
) -> Result<(), DecodeError> {
    for _ in 0..input.uvarint()? {
        let tag = input.uvarint()?;
        let length = input.uvarint()? as usize;
        let mut inner = Input::new(input.take(length)?);
        if field(tag, &mut inner)? {
            inner.finish()?;
        }
    }
    Ok(())
}

/// Declares a message: a struct whose fields are rows `name: type => since [tag n]`, where `since`
/// is the first message version that has the field. A field the version lacks, and a tagged field
/// that is absent, has its type's default value.
macro_rules! message {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$doc:meta])* $field:ident: $ty:ty => $since:tt $(tag $tag:tt)?,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $ty,)*
        }

        impl $crate::metadata::codec::Wire for $name {
            #[allow(unused_variables, unused_mut)]
            fn encode(&self, version: i16, out: &mut Vec<u8>) {
                let mut tagged = $crate::metadata::codec::TaggedOut::default();
                $(if version >= $since {
                    $crate::metadata::codec::message!(
                        @encode self.$field, version, out, tagged $(, $tag)?
                    );
                })*
                tagged.finish(out);
            }

            #[allow(unused_variables, unused_mut)]
            fn decode(
                version: i16,
                input: &mut $crate::metadata::codec::Input<'_>,
            ) -> Result<Self, $crate::metadata::codec::DecodeError> {
                $(let mut $field: $ty = $crate::metadata::codec::message!(
                    @decode $since, version, input $(, $tag)?
                );)*
                $crate::metadata::codec::decode_tagged(input, |tag, inner| {
                    $($crate::metadata::codec::message!(
                        @tagged $field, version, tag, inner $(, $tag)?
                    );)*
                    Ok(false)
                })?;
                Ok(Self { $($field,)* })
            }
        }
    };
    (@encode $value:expr, $version:ident, $out:ident, $tagged:ident) => {
        $crate::metadata::codec::Wire::encode(&$value, $version, $out)
    };
    (@encode $value:expr, $version:ident, $out:ident, $tagged:ident, $tag:tt) => {
        $tagged.put($tag, &$value, $version)
    };
    (@decode 0, $version:ident, $input:ident) => {
        $crate::metadata::codec::Wire::decode($version, $input)?
    };
    (@decode $since:tt, $version:ident, $input:ident) => {
        if $version >= $since {
            $crate::metadata::codec::Wire::decode($version, $input)?
        } else {
            Default::default()
        }
    };
    (@decode $since:tt, $version:ident, $input:ident, $tag:tt) => { Default::default() };
    (@tagged $value:expr, $version:ident, $found:ident, $inner:ident) => {};
    (@tagged $value:expr, $version:ident, $found:ident, $inner:ident, $tag:tt) => {
        if $found == $tag {
            $value = $crate::metadata::codec::Wire::decode($version, $inner)?;
            return Ok(true);
        }
    };
}

pub(crate) use message;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_larger_than_what_remains_is_refused_before_anything_is_reserved() {
        let cases: [(&str, &[u8]); 4] = [
            ("list of 2^31", &[0xff, 0xff, 0xff, 0xff, 0x07]),
            ("varint without an end", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("text of four with three", &[5, b'a', b'b', b'c']),
            ("nothing", &[]),
        ];
        for (name, bytes) in cases {
            assert!(Vec::<i32>::decode(0, &mut Input::new(bytes)).is_err(), "{name}");
            assert!(String::decode(0, &mut Input::new(bytes)).is_err(), "{name}");
        }
    }
}
