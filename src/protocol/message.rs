//! How messages are declared: once, as a table of fields with the versions they appear in.
//!
//! `wire_struct!` makes the struct, its defaults, and both directions of its codec out of the
//! same table, so that reading and writing can not drift apart. [`Wire`] is what a field's type
//! must be able to do; [`Message`] is a whole request or answer.
//!
//! A field that a version lacks keeps its default when read and is left out when written.

use bytes::Bytes;

use crate::base::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::wire::{Form, Malformed, Reader, Records, Str, Version, Writer};
use crate::protocol::wire::{REQUEST_ELEMENTS_MAX, RESPONSE_ELEMENTS_MAX};

/// A type that can be a field of a message.
pub trait Wire: Sized {
    /// Reads one value.
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed>;

    /// Writes the value.
    fn write(&self, writer: &mut Writer, version: Version);

    /// Writes the value where the version knows no null: an empty one stands for it.
    fn write_not_null(&self, writer: &mut Writer, version: Version) {
        self.write(writer, version);
    }

    /// Whether this is a null.
    fn is_null(&self) -> bool {
        false
    }

    /// The least size of a value, in bytes. Counts of elements are checked against it.
    fn size_min(version: Version) -> usize;
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the client to the broker.
    Request,
    /// From the broker to the client.
    Response,
}

/// A whole request or answer of an API.
pub trait Message: Wire + Default {
    /// The API it belongs to.
    const KEY: ApiKey;
    /// Which way it goes.
    const DIRECTION: Direction;

    /// Reads a body of version `version`. Bytes behind it are ignored, as Apache Kafka does.
    ///
    /// [`Malformed`] also when this version is not among those in the API table.
    fn decode(version: i16, body: Bytes) -> Result<Self, Malformed> {
        if !Self::KEY.row().serves(version) {
            return Err(Malformed::new("the version is not supported"));
        }
        let elements_max = match Self::DIRECTION {
            Direction::Request => REQUEST_ELEMENTS_MAX,
            Direction::Response => RESPONSE_ELEMENTS_MAX,
        };
        Self::read(&mut Reader::new(body, elements_max), Self::KEY.row().version(version))
    }

    /// Appends the body of version `version` to `writer`.
    fn encode_into(&self, version: i16, writer: &mut Writer) {
        debug_assert!(Self::KEY.row().serves(version), "{:?} v{version}", Self::KEY);
        self.write(writer, Self::KEY.row().version(version));
    }

    /// The body of version `version`, without a header.
    ///
    /// Panics when it holds [`Records::Elsewhere`].
    fn encode(&self, version: i16) -> Bytes {
        let mut writer = Writer::new();
        self.encode_into(version, &mut writer);
        writer.into_bytes()
    }
}

/// Declares structs of the wire: each field with its type and the versions that have it.
///
/// Behind the versions may stand, in this order: `tag N` for a tagged field, `nullable VERSIONS`
/// for the versions in which it may be null, `default VALUE`. Tagged fields go in tag order.
macro_rules! wire_struct {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                pub $field:ident: $type:ty, $versions:expr
                $(, tag $tag:literal)? $(, nullable $nullable:expr)? $(, default $default:expr)?;
            )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: wire_field!(default $type $(, $default)?),)* }
            }
        }

        impl $crate::protocol::message::Wire for $name {
            fn read(
                reader: &mut $crate::protocol::wire::Reader,
                version: $crate::protocol::wire::Version,
            ) -> Result<Self, $crate::protocol::wire::Malformed> {
                let mut value = Self::default();
                $(wire_field!(read reader, version, value.$field, $type, $versions
                    $(, tag $tag)? $(, nullable $nullable)?);)*
                if version.form == $crate::protocol::wire::Form::Compact {
                    reader.tags(|tag, reader| {
                        let _ = (tag, &reader);
                        $(wire_field!(read_tag tag, reader, version, value.$field, $type,
                            $versions $(, tag $tag)?);)*
                        Ok(())
                    })?;
                }
                Ok(value)
            }

            fn write(
                &self,
                writer: &mut $crate::protocol::wire::Writer,
                version: $crate::protocol::wire::Version,
            ) {
                $(wire_field!(write writer, version, self.$field, $type, $versions
                    $(, tag $tag)? $(, nullable $nullable)?);)*
                if version.form == $crate::protocol::wire::Form::Compact {
                    writer.uvarint(0 $(+ wire_field!(tag_count version, self.$field, $type,
                        $versions $(, tag $tag)? $(, default $default)?))*);
                    $(wire_field!(write_tag writer, version, self.$field, $type, $versions
                        $(, tag $tag)? $(, default $default)?);)*
                }
            }

            fn size_min(version: $crate::protocol::wire::Version) -> usize {
                let tags = usize::from(version.form == $crate::protocol::wire::Form::Compact);
                tags $(+ wire_field!(size_min version, $type, $versions $(, tag $tag)?))*
            }
        }
    )*};
}

/// What `wire_struct!` does with one field; the arms differ for tagged fields.
macro_rules! wire_field {
    (default $type:ty) => { <$type as Default>::default() };
    (default $type:ty, $default:expr) => { $default };

    (read $reader:ident, $version:ident, $value:ident.$field:ident, $type:ty, $versions:expr,
        tag $tag:literal $($rest:tt)*) => {};
    (read $reader:ident, $version:ident, $value:ident.$field:ident, $type:ty, $versions:expr
        $(, nullable $nullable:expr)?) => {
        if ($versions).contains(&$version.number) {
            $value.$field = <$type as $crate::protocol::message::Wire>::read($reader, $version)?;
            $(
                if $crate::protocol::message::Wire::is_null(&$value.$field)
                    && !($nullable).contains(&$version.number)
                {
                    return Err($crate::protocol::wire::Malformed::new("a field is null"));
                }
            )?
        }
    };

    (read_tag $found:ident, $reader:ident, $version:ident, $value:ident.$field:ident, $type:ty,
        $versions:expr) => {};
    (read_tag $found:ident, $reader:ident, $version:ident, $value:ident.$field:ident, $type:ty,
        $versions:expr, tag $tag:literal) => {
        if $found == $tag && ($versions).contains(&$version.number) {
            $value.$field = <$type as $crate::protocol::message::Wire>::read($reader, $version)?;
        }
    };

    (write $writer:ident, $version:ident, $this:ident.$field:ident, $type:ty, $versions:expr,
        tag $tag:literal $($rest:tt)*) => {};
    (write $writer:ident, $version:ident, $this:ident.$field:ident, $type:ty, $versions:expr) => {
        if ($versions).contains(&$version.number) {
            $crate::protocol::message::Wire::write(&$this.$field, $writer, $version);
        }
    };
    (write $writer:ident, $version:ident, $this:ident.$field:ident, $type:ty, $versions:expr,
        nullable $nullable:expr) => {
        if ($versions).contains(&$version.number) {
            if ($nullable).contains(&$version.number) {
                $crate::protocol::message::Wire::write(&$this.$field, $writer, $version);
            } else {
                $crate::protocol::message::Wire::write_not_null(&$this.$field, $writer, $version);
            }
        }
    };

    (tag_count $version:ident, $this:ident.$field:ident, $type:ty, $versions:expr
        $(, default $default:expr)?) => { 0 };
    (tag_count $version:ident, $this:ident.$field:ident, $type:ty, $versions:expr, tag $tag:literal
        $(, default $default:expr)?) => {
        u32::from(($versions).contains(&$version.number)
            && $this.$field != wire_field!(default $type $(, $default)?))
    };

    (write_tag $writer:ident, $version:ident, $this:ident.$field:ident, $type:ty, $versions:expr
        $(, default $default:expr)?) => {};
    (write_tag $writer:ident, $version:ident, $this:ident.$field:ident, $type:ty, $versions:expr,
        tag $tag:literal $(, default $default:expr)?) => {
        if ($versions).contains(&$version.number)
            && $this.$field != wire_field!(default $type $(, $default)?)
        {
            $writer.tag($tag, |inner| {
                $crate::protocol::message::Wire::write(&$this.$field, inner, $version);
            });
        }
    };

    (size_min $version:ident, $type:ty, $versions:expr, tag $tag:literal) => { 0 };
    (size_min $version:ident, $type:ty, $versions:expr) => {
        if ($versions).contains(&$version.number) {
            <$type as $crate::protocol::message::Wire>::size_min($version)
        } else {
            0
        }
    };
}

/// Makes `Option` of a struct a field: tagged, and left out when `None`.
macro_rules! tagged_struct {
    ($($name:ident),*) => {$(
        impl $crate::protocol::message::Wire for Option<$name> {
            fn read(
                reader: &mut $crate::protocol::wire::Reader,
                version: $crate::protocol::wire::Version,
            ) -> Result<Self, $crate::protocol::wire::Malformed> {
                <$name as $crate::protocol::message::Wire>::read(reader, version).map(Some)
            }

            fn write(
                &self,
                writer: &mut $crate::protocol::wire::Writer,
                version: $crate::protocol::wire::Version,
            ) {
                if let Some(value) = self {
                    value.write(writer, version);
                }
            }

            fn size_min(_version: $crate::protocol::wire::Version) -> usize {
                0
            }
        }
    )*};
}

/// Makes a struct a whole message.
macro_rules! message {
    ($name:ident, $key:ident, $direction:ident) => {
        impl $crate::protocol::message::Message for $name {
            const KEY: $crate::protocol::api::ApiKey = $crate::protocol::api::ApiKey::$key;
            const DIRECTION: $crate::protocol::message::Direction =
                $crate::protocol::message::Direction::$direction;
        }
    };
}

pub(in crate::protocol) use {message, tagged_struct, wire_field, wire_struct};

/// Fields of fixed size: the type, how it is read, how it is written, its size in bytes.
macro_rules! wire_fixed {
    ($(
        $type:ty: $size:literal,
        |$reader:ident| $read:expr,
        |$value:ident, $writer:ident| $write:expr;
    )*) => {$(
        impl Wire for $type {
            fn read($reader: &mut Reader, _version: Version) -> Result<Self, Malformed> {
                $read
            }

            fn write(&self, $writer: &mut Writer, _version: Version) {
                let $value = self;
                $write
            }

            fn size_min(_version: Version) -> usize {
                $size
            }
        }
    )*};
}

wire_fixed! {
    bool: 1, |reader| reader.bool(), |value, writer| writer.bool(*value);
    i8: 1, |reader| reader.i8(), |value, writer| writer.i8(*value);
    i16: 2, |reader| reader.i16(), |value, writer| writer.i16(*value);
    i32: 4, |reader| reader.i32(), |value, writer| writer.i32(*value);
    i64: 8, |reader| reader.i64(), |value, writer| writer.i64(*value);
    // A code of a later version is to clients what it is to Apache Kafka's: something unknown.
    ErrorCode: 2,
        |reader| reader.i16().map(|raw| Self::from_code(raw).unwrap_or(Self::UnknownServerError)),
        |value, writer| writer.i16(value.code());
    Option<Uuid>: 16,
        |reader| reader.uuid().map(Uuid::from_wire),
        |value, writer| writer.raw(&value.map_or([0; 16], Uuid::to_wire));
    Option<Offset>: 8,
        |reader| reader.i64().map(Offset::from_wire),
        |value, writer| writer.i64(value.map_or(-1, Offset::to_wire));
    Option<Timestamp>: 8,
        |reader| reader.i64().map(Timestamp::from_wire),
        |value, writer| writer.i64(value.map_or(-1, Timestamp::to_wire));
    Option<LeaderEpoch>: 4,
        |reader| reader.i32().map(LeaderEpoch::from_wire),
        |value, writer| writer.i32(value.map_or(-1, LeaderEpoch::to_wire));
    NodeId: 4,
        |reader| Ok(NodeId(reader.i32()?)),
        |value, writer| writer.i32(value.0);
    Option<NodeId>: 4,
        |reader| reader.i32().map(|raw| (raw >= 0).then_some(NodeId(raw))),
        |value, writer| writer.i32(value.map_or(-1, |node| node.0));
}

/// The least size of a string in this form, in bytes.
fn string_size_min(version: Version) -> usize {
    match version.form {
        Form::Classic => 2,
        Form::Compact => 1,
    }
}

/// The least size of an array, bytes or records in this form, in bytes.
fn length_size_min(version: Version) -> usize {
    match version.form {
        Form::Classic => 4,
        Form::Compact => 1,
    }
}

impl Wire for Str {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed> {
        reader.string(version.form)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        writer.string(version.form, Some(self));
    }

    fn size_min(version: Version) -> usize {
        string_size_min(version)
    }
}

impl Wire for Option<Str> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed> {
        reader.nullable_string(version.form)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        writer.string(version.form, self.as_deref());
    }

    fn write_not_null(&self, writer: &mut Writer, version: Version) {
        writer.string(version.form, Some(self.as_deref().unwrap_or_default()));
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn size_min(version: Version) -> usize {
        string_size_min(version)
    }
}

/// Records of a request; null is malformed.
impl Wire for Bytes {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed> {
        reader.nullable_bytes(version.form)?.ok_or(Malformed::new("records are null"))
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        writer.nullable_bytes(version.form, Some(self));
    }

    fn size_min(version: Version) -> usize {
        length_size_min(version)
    }
}

/// Records of an answer; null reads as empty.
impl Wire for Records {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed> {
        Ok(Self::Bytes(reader.nullable_bytes(version.form)?.unwrap_or_default()))
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        writer.records(version.form, self);
    }

    fn size_min(version: Version) -> usize {
        length_size_min(version)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed> {
        Option::<Self>::read(reader, version)?.ok_or(Malformed::new("an array is null"))
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        writer.length(version.form, Some(self.len()));
        for element in self {
            element.write(writer, version);
        }
    }

    fn size_min(version: Version) -> usize {
        length_size_min(version)
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    fn read(reader: &mut Reader, version: Version) -> Result<Self, Malformed> {
        reader.nullable_array(version.form, T::size_min(version), |reader| T::read(reader, version))
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        match self {
            Some(elements) => elements.write(writer, version),
            None => writer.length(version.form, None),
        }
    }

    fn write_not_null(&self, writer: &mut Writer, version: Version) {
        match self {
            Some(elements) => elements.write(writer, version),
            None => writer.length(version.form, Some(0)),
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn size_min(version: Version) -> usize {
        length_size_min(version)
    }
}
