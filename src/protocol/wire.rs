//! Kafka's primitive encodings: a reader that trusts nothing, and the writer that mirrors it.
//!
//! Every message exists in a classic form (two-byte string lengths, four-byte counts) and, from
//! some version on, in a compact form (varint lengths plus one, and tagged fields; KIP-482).
//! [`Version`] says which one a message uses.
//!
//! Invariants: no read goes behind the end; no memory is set aside for a count until that many
//! elements could still follow; a message holds at most a bounded number of elements.
//! Not here: what the messages mean (`message` and its neighbours), frames (`frame`).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

/// A string of the wire: a slice of the frame it came in, cheap to clone.
pub type Str = StrBytes;

/// Elements that the arrays of one request may hold together.
///
/// An element of one byte on the wire becomes up to a hundred in memory; this bounds the factor.
pub const REQUEST_ELEMENTS_MAX: usize = 1 << 17;

/// Elements that the arrays of one answer may hold together, when we are the client.
pub const RESPONSE_ELEMENTS_MAX: usize = 1 << 24;

/// Elements a fresh vector is made for at once; larger ones grow as their elements arrive.
const CAPACITY_FIRST: usize = 256;

/// The bytes are no message of the version they claim to be. The connection is to be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed {
    /// What did not fit, for the log.
    pub what: &'static str,
}

impl Malformed {
    /// A complaint about `what`.
    pub const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed message: {}", self.what)
    }
}

impl std::error::Error for Malformed {}

/// How lengths and counts are written (KIP-482).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Strings have two-byte, everything else four-byte lengths; no tagged fields.
    Classic,
    /// Lengths are varints, one more than the length; structures end with tagged fields.
    Compact,
}

/// The version of a message, and the form that goes with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version {
    /// The API version.
    pub number: i16,
    /// How its lengths are written.
    pub form: Form,
}

impl Version {
    /// Version `number` of a message whose first flexible version is `flexible_from`.
    pub const fn new(number: i16, flexible_from: i16) -> Self {
        let form = if number >= flexible_from { Form::Compact } else { Form::Classic };
        Self { number, form }
    }
}

/// Reads primitives from the front of a frame.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    elements_left: usize,
}

impl Reader {
    /// A reader of `bytes` whose arrays hold `elements_max` elements together at most.
    pub fn new(bytes: Bytes, elements_max: usize) -> Self {
        Self { bytes, at: 0, elements_left: elements_max }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes not read yet, as a slice of the frame.
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let from = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let raw = *from.ok_or(Malformed::new("it ends too early"))?;
        self.at += N;
        Ok(raw)
    }

    /// Takes the next `size_bytes` bytes as a slice of the frame.
    pub fn slice(&mut self, size_bytes: usize) -> Result<Bytes, Malformed> {
        if size_bytes > self.remaining() {
            return Err(Malformed::new("a length reaches behind the end"));
        }
        let slice = self.bytes.slice(self.at..self.at + size_bytes);
        self.at += size_bytes;
        Ok(slice)
    }

    /// Passes over `size_bytes` bytes.
    pub fn skip(&mut self, size_bytes: usize) -> Result<(), Malformed> {
        if size_bytes > self.remaining() {
            return Err(Malformed::new("a length reaches behind the end"));
        }
        self.at += size_bytes;
        Ok(())
    }

    /// A signed byte.
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    /// Two bytes, big endian.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    /// Four bytes, big endian.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes, big endian.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// One byte; everything but 0 is true, as in Apache Kafka.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        self.i8().map(|raw| raw != 0)
    }

    /// The 16 bytes of an id.
    pub fn uuid(&mut self) -> Result<[u8; 16], Malformed> {
        self.array()
    }

    /// An unsigned number in up to five bytes of seven bits, lowest first.
    pub fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::new("a varint does not end"))
    }

    /// A signed number in zigzag order, up to five bytes.
    pub fn varint(&mut self) -> Result<i32, Malformed> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A signed number in zigzag order, up to ten bytes.
    pub fn varlong(&mut self) -> Result<i64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Malformed::new("a varint does not end"))
    }

    /// The length before a string; `None` is null.
    pub fn string_length(&mut self, form: Form) -> Result<Option<usize>, Malformed> {
        match form {
            Form::Classic => match self.i16()? {
                -1 => Ok(None),
                raw => usize::try_from(raw).map(Some).map_err(|_| Malformed::new("a length")),
            },
            // As Kafka's readers: a string is no longer here than the other form can have it.
            Form::Compact => match (self.uvarint()? as usize).checked_sub(1) {
                Some(size_bytes) if size_bytes > i16::MAX as usize => {
                    Err(Malformed::new("a string is too long"))
                }
                size_bytes => Ok(size_bytes),
            },
        }
    }

    /// The length before bytes or records, or the count before elements; `None` is null.
    pub fn length(&mut self, form: Form) -> Result<Option<usize>, Malformed> {
        match form {
            Form::Classic => match self.i32()? {
                -1 => Ok(None),
                raw => usize::try_from(raw).map(Some).map_err(|_| Malformed::new("a length")),
            },
            Form::Compact => Ok((self.uvarint()? as usize).checked_sub(1)),
        }
    }

    /// A string, or null. Bytes that are no UTF-8 become replacement characters, as in Java.
    pub fn nullable_string(&mut self, form: Form) -> Result<Option<Str>, Malformed> {
        let Some(size_bytes) = self.string_length(form)? else { return Ok(None) };
        let raw = self.slice(size_bytes)?;
        Ok(Some(match Str::from_utf8(raw.clone()) {
            Ok(text) => text,
            Err(_) => Str::from_string(String::from_utf8_lossy(&raw).into_owned()),
        }))
    }

    /// A string; null is malformed.
    pub fn string(&mut self, form: Form) -> Result<Str, Malformed> {
        self.nullable_string(form)?.ok_or(Malformed::new("a string is null"))
    }

    /// Bytes or records as a slice of the frame, or null.
    pub fn nullable_bytes(&mut self, form: Form) -> Result<Option<Bytes>, Malformed> {
        match self.length(form)? {
            Some(size_bytes) => self.slice(size_bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The count before elements of at least `element_bytes_min` bytes each; `None` is null.
    ///
    /// [`Malformed`] when so many can not follow, or the message holds too many elements.
    pub fn count(
        &mut self,
        form: Form,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, Malformed> {
        let Some(count) = self.length(form)? else { return Ok(None) };
        if count > self.remaining() / element_bytes_min.max(1) {
            return Err(Malformed::new("an array is longer than the message"));
        }
        let left = self.elements_left.checked_sub(count);
        self.elements_left = left.ok_or(Malformed::new("too many array elements"))?;
        Ok(Some(count))
    }

    /// An array, or null; `element` reads one of its elements.
    pub fn nullable_array<T>(
        &mut self,
        form: Form,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = self.count(form, element_bytes_min)? else { return Ok(None) };
        let mut elements = Vec::with_capacity(count.min(CAPACITY_FIRST));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Tagged fields: `field` gets each tag with a reader of exactly its bytes.
    pub fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size_bytes = self.uvarint()? as usize;
            let mut inner = Self::new(self.slice(size_bytes)?, self.elements_left);
            field(tag, &mut inner)?;
            self.elements_left = inner.elements_left;
        }
        Ok(())
    }

    /// Passes over tagged fields.
    pub fn skip_tags(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let size_bytes = self.uvarint()? as usize;
            self.skip(size_bytes)?;
        }
        Ok(())
    }
}

/// A part of an outgoing frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// Bytes to send as they are.
    Bytes(Bytes),
    /// Records that the caller has elsewhere, such as in a segment file.
    Records {
        /// What the caller gave to [`Records::Elsewhere`].
        token: u32,
        /// How many bytes are announced, and so must be sent.
        size_bytes: u32,
    },
}

/// The records of one partition in an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Records {
    /// Records in memory; empty when there are none.
    Bytes(Bytes),
    /// Records that are sent from where they lie; become a [`Piece::Records`].
    Elsewhere {
        /// The caller's own number for them.
        token: u32,
        /// Their size; 0 makes no piece.
        size_bytes: u32,
    },
}

impl Default for Records {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Records {
    /// Size of the records, in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Elsewhere { size_bytes, .. } => *size_bytes as usize,
        }
    }

    /// The records when they are in memory; `None` when they lie elsewhere.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Elsewhere { .. } => None,
        }
    }
}

/// Records that follow once `at` bytes of a [`Writer`] have been sent.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: usize,
    token: u32,
    size_bytes: u32,
}

/// Writes primitives, and remembers where records from elsewhere belong.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: BytesMut,
    cuts: Vec<Cut>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `size_bytes`.
    pub fn with_capacity(size_bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(size_bytes), cuts: Vec::new() }
    }

    /// The bytes written so far, for codecs that append to them on their own.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Bytes written so far, with the records that lie elsewhere.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.cuts.iter().map(|cut| cut.size_bytes as usize).sum::<usize>()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Overwrites the four bytes at `at`, which were written before.
    pub fn patch_i32(&mut self, at: usize, value: i32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// What was written, with the places of the records that lie elsewhere.
    pub fn into_pieces(self) -> Vec<Piece> {
        let mut rest = self.bytes.freeze();
        let mut pieces = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut done = 0;
        for cut in self.cuts {
            if cut.at > done {
                pieces.push(Piece::Bytes(rest.split_to(cut.at - done)));
                done = cut.at;
            }
            pieces.push(Piece::Records { token: cut.token, size_bytes: cut.size_bytes });
        }
        if !rest.is_empty() {
            pieces.push(Piece::Bytes(rest));
        }
        pieces
    }

    /// What was written, when all of it is in memory.
    ///
    /// Panics when records lie elsewhere; only answers to Fetch can hold such.
    pub fn into_bytes(self) -> Bytes {
        assert!(self.cuts.is_empty(), "records that lie elsewhere need `into_pieces`");
        self.bytes.freeze()
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A signed byte.
    pub fn i8(&mut self, value: i8) {
        self.bytes.put_i8(value);
    }

    /// Two bytes, big endian.
    pub fn i16(&mut self, value: i16) {
        self.bytes.put_i16(value);
    }

    /// Four bytes, big endian.
    pub fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    /// Eight bytes, big endian.
    pub fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.bytes.put_u8(u8::from(value));
    }

    /// An unsigned number, seven bits to a byte, lowest first.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    /// A signed number in zigzag order.
    pub fn varint(&mut self, value: i32) {
        self.uvarint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A signed number in zigzag order, up to ten bytes.
    pub fn varlong(&mut self, value: i64) {
        let mut raw = ((value << 1) ^ (value >> 63)) as u64;
        while raw >= 0x80 {
            self.bytes.put_u8(raw as u8 | 0x80);
            raw >>= 7;
        }
        self.bytes.put_u8(raw as u8);
    }

    /// The length before bytes or the count before elements; `None` is null.
    ///
    /// Panics above `i32::MAX`, which no frame can hold.
    pub fn length(&mut self, form: Form, length: Option<usize>) {
        let length = length.map(|length| i32::try_from(length).expect("fits a frame"));
        match (form, length) {
            (Form::Classic, None) => self.i32(-1),
            (Form::Classic, Some(length)) => self.i32(length),
            (Form::Compact, None) => self.uvarint(0),
            (Form::Compact, Some(length)) => self.uvarint(length as u32 + 1),
        }
    }

    /// A string, or null. Classic strings end after 32767 bytes, at a character's border.
    pub fn string(&mut self, form: Form, text: Option<&str>) {
        let Some(text) = text else {
            match form {
                Form::Classic => self.i16(-1),
                Form::Compact => self.uvarint(0),
            }
            return;
        };
        match form {
            Form::Classic => {
                let mut end = text.len().min(i16::MAX as usize);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                let text = &text[..end];
                self.i16(text.len() as i16);
                self.raw(text.as_bytes());
            }
            Form::Compact => {
                self.length(form, Some(text.len()));
                self.raw(text.as_bytes());
            }
        }
    }

    /// Bytes or records, or null.
    pub fn nullable_bytes(&mut self, form: Form, bytes: Option<&[u8]>) {
        self.length(form, bytes.map(<[u8]>::len));
        self.raw(bytes.unwrap_or_default());
    }

    /// The records of a partition, or the place where they belong.
    pub fn records(&mut self, form: Form, records: &Records) {
        self.length(form, Some(records.size_bytes()));
        match *records {
            Records::Bytes(ref bytes) => self.raw(bytes),
            Records::Elsewhere { size_bytes: 0, .. } => {}
            Records::Elsewhere { token, size_bytes } => {
                self.cuts.push(Cut { at: self.bytes.len(), token, size_bytes });
            }
        }
    }

    /// One tagged field, whose bytes `value` writes. The count goes before the first.
    pub fn tag(&mut self, tag: u32, value: impl FnOnce(&mut Self)) {
        let mut inner = Self::new();
        value(&mut inner);
        self.uvarint(tag);
        let inner = inner.into_bytes();
        self.uvarint(u32::try_from(inner.len()).expect("fits a frame"));
        self.raw(&inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes), 100)
    }

    #[test]
    fn varints_read_back_and_have_the_bytes_of_the_protocol() {
        let cases: [(i32, &[u8]); 7] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[126]),
            (64, &[128, 1]),
            (i32::MAX, &[254, 255, 255, 255, 15]),
            (i32::MIN, &[255, 255, 255, 255, 15]),
        ];
        for (value, bytes) in cases {
            let mut writer = Writer::new();
            writer.varint(value);
            writer.varlong(i64::from(value));
            assert_eq!(writer.into_bytes(), [bytes, bytes].concat(), "{value}");
            assert_eq!(reader(bytes).varint(), Ok(value));
            assert_eq!(reader(bytes).varlong(), Ok(i64::from(value)));
        }
        for value in [i64::MIN, i64::MAX, -1 << 40, 1 << 62] {
            let mut writer = Writer::new();
            writer.varlong(value);
            assert_eq!(reader(&writer.into_bytes()).varlong(), Ok(value));
        }
        assert!(reader(&[255; 5]).uvarint().is_err(), "five bytes that all say more follows");
        assert!(reader(&[255; 10]).varlong().is_err(), "ten bytes that all say more follows");
        assert!(reader(&[128]).uvarint().is_err(), "cut");
    }

    #[test]
    fn lengths_tell_null_from_empty() {
        for form in [Form::Classic, Form::Compact] {
            let mut writer = Writer::new();
            writer.string(form, None);
            writer.string(form, Some(""));
            writer.string(form, Some("abc"));
            writer.nullable_bytes(form, None);
            writer.nullable_bytes(form, Some(b""));
            let mut reader = Reader::new(writer.into_bytes(), 0);
            assert_eq!(reader.nullable_string(form), Ok(None));
            assert_eq!(reader.string(form).as_deref(), Ok(""));
            assert_eq!(reader.string(form).as_deref(), Ok("abc"));
            assert_eq!(reader.nullable_bytes(form), Ok(None));
            assert_eq!(reader.nullable_bytes(form), Ok(Some(Bytes::new())));
            assert_eq!(reader.remaining(), 0, "{form:?}");
        }
    }

    #[test]
    fn counts_are_held_against_the_bytes_and_the_limit() {
        let cases: [(&str, &[u8], usize, Option<usize>); 5] = [
            ("fits", &[0, 0, 0, 2, 1, 1, 1, 1], 2, Some(2)),
            ("one byte short", &[0, 0, 0, 2, 1, 1, 1], 2, None),
            ("huge", &[127, 255, 255, 255, 1], 1, None),
            ("negative", &[128, 0, 0, 0, 1], 1, None),
            ("elements of no size count as one byte", &[0, 0, 0, 2, 1], 0, None),
        ];
        for (name, bytes, element_bytes_min, expected) in cases {
            let count = reader(bytes).count(Form::Classic, element_bytes_min);
            assert_eq!(count.ok().flatten(), expected, "{name}");
        }
        let mut twice = Reader::new(Bytes::from_static(&[3, 0, 0, 3, 0, 0]), 3);
        assert_eq!(twice.nullable_array(Form::Compact, 1, Reader::i8), Ok(Some(vec![0, 0])));
        assert!(twice.nullable_array(Form::Compact, 1, Reader::i8).is_err(), "3 of them at most");
    }

    #[test]
    fn a_tagged_field_can_not_read_behind_its_size() {
        let bytes = [1, 0, 2, 9, 9, 7];
        let mut outer = reader(&bytes);
        assert!(outer.tags(|_, inner| inner.i32().map(drop)).is_err());
        let mut outer = reader(&bytes);
        assert_eq!(outer.tags(|_, inner| inner.i8().map(drop)), Ok(()));
        assert_eq!(outer.i8(), Ok(7), "what the field left over is passed over");
    }

    #[test]
    fn long_classic_strings_end_at_a_character() {
        let mut writer = Writer::new();
        writer.string(Form::Classic, Some(&"\u{e9}".repeat(20_000)));
        let read = reader(&writer.into_bytes()).string(Form::Classic).expect("is UTF-8");
        assert_eq!((read.len(), read.chars().all(|c| c == '\u{e9}')), (32_766, true));
    }
}
