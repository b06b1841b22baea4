//! The bytes consumers agree on among themselves: what they subscribe to, and what they have
//! (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment`).
//!
//! | field of a subscription | versions |    | field of an assignment   | versions |
//! |-------------------------|----------|----|--------------------------|----------|
//! | topics                  | 0..      |    | topics with partitions   | 0..      |
//! | user data               | 0..      |    | user data                | 0..      |
//! | topics with partitions  | 1..      |    |                          |          |
//! | generation              | 2..      |    |                          |          |
//! | rack                    | 3..      |    |                          |          |
//!
//! A newer version is read as the newest that is known, for none takes fields away. A classic group
//! reads the topics alone, to know which offsets are in use; a consumer group reads all.

use bytes::Bytes;

use crate::group::record::kept;
use crate::protocol::Str;
use crate::protocol::wire::{Form, Malformed, Reader, Writer};

/// Elements the arrays of one subscription or assignment may hold together.
const ELEMENTS_MAX: usize = 1 << 20;

const FORM: Form = Form::Classic;

/// The newest version.
const VERSION_MAX: i16 = 3;

/// Versions of a subscription from which it has what the member owns, and its rack.
const VERSION_OWNED: i16 = 1;
const VERSION_GENERATION: i16 = 2;
const VERSION_RACK: i16 = 3;

/// What a member of the classic protocol subscribes to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Subscription {
    /// The topics.
    pub topics: Vec<Str>,
    /// The partitions it has.
    pub owned: Vec<(Str, Vec<i32>)>,
    /// Its rack.
    pub rack: Option<Str>,
}

/// What a member of the classic protocol was assigned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assigned {
    /// Partitions by topic.
    pub topics: Vec<(Str, Vec<i32>)>,
    /// Whether the assignor left a note of its own.
    pub has_user_data: bool,
}

/// The topics a member subscribes to.
///
/// [`Malformed`] for bytes of another shape, such as of a client with a protocol of its own.
pub fn topics(metadata: Bytes) -> Result<Vec<Str>, Malformed> {
    let mut input = Reader::new(metadata, ELEMENTS_MAX);
    read_version(&mut input)?;
    read_topics(&mut input)
}

/// The version of a subscription; 0 for bytes that have none.
pub fn version(metadata: &Bytes) -> i16 {
    let mut input = Reader::new(metadata.clone(), ELEMENTS_MAX);
    read_version(&mut input).unwrap_or(0)
}

impl Subscription {
    /// Reads a subscription.
    pub fn parse(metadata: Bytes) -> Result<Self, Malformed> {
        let mut input = Reader::new(metadata, ELEMENTS_MAX);
        let version = read_version(&mut input)?;
        let mut subscription = Self { topics: read_topics(&mut input)?, ..Self::default() };
        input.nullable_bytes(FORM)?;
        if version >= VERSION_OWNED {
            subscription.owned = read_partitions(&mut input)?;
        }
        if version >= VERSION_GENERATION {
            input.i32()?;
        }
        if version >= VERSION_RACK {
            let rack = input.nullable_string(FORM)?;
            subscription.rack = rack.filter(|rack| !rack.is_empty()).as_ref().map(kept);
        }
        Ok(subscription)
    }
}

/// Reads an assignment.
pub fn decode_assignment(assignment: Bytes) -> Result<Assigned, Malformed> {
    let mut input = Reader::new(assignment, ELEMENTS_MAX);
    read_version(&mut input)?;
    let topics = read_partitions(&mut input)?;
    let user_data = input.nullable_bytes(FORM)?;
    let has_user_data = user_data.is_some_and(|data| !data.is_empty());
    Ok(Assigned { topics, has_user_data })
}

/// Writes an assignment for a member whose subscription has this version.
pub(in crate::group) fn encode_assignment(version: i16, topics: &[(String, Vec<i32>)]) -> Bytes {
    let mut out = Writer::new();
    out.i16(version.min(VERSION_MAX));
    out.length(FORM, Some(topics.len()));
    for (name, partitions) in topics {
        out.string(FORM, Some(name));
        out.length(FORM, Some(partitions.len()));
        for partition in partitions {
            out.i32(*partition);
        }
    }
    out.nullable_bytes(FORM, None);
    out.into_bytes()
}

fn read_version(input: &mut Reader) -> Result<i16, Malformed> {
    let version = input.i16()?;
    if version < 0 {
        return Err(Malformed::new("a subscription has a negative version"));
    }
    Ok(version)
}

fn read_topics(input: &mut Reader) -> Result<Vec<Str>, Malformed> {
    let read = |input: &mut Reader| input.string(FORM).map(|name| kept(&name));
    let topics = input.nullable_array(FORM, 2, read)?;
    topics.ok_or(Malformed::new("a subscription's topics are null"))
}

fn read_partitions(input: &mut Reader) -> Result<Vec<(Str, Vec<i32>)>, Malformed> {
    let read = |input: &mut Reader| {
        let name = kept(&input.string(FORM)?);
        let partitions = input.nullable_array(FORM, 4, Reader::i32)?;
        Ok((name, partitions.ok_or(Malformed::new("partitions are null"))?))
    };
    let topics = input.nullable_array(FORM, 6, read)?;
    topics.ok_or(Malformed::new("topics with partitions are null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_foreign_bytes_are_refused() {
        let two = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bcrest of a newer version";
        type Case = (&'static str, &'static [u8], Option<&'static [&'static str]>);
        let cases: [Case; 5] = [
            ("two topics", two, Some(&["a", "bc"])),
            ("none", b"\x00\x00\x00\x00\x00\x00", Some(&[])),
            ("empty", b"", None),
            ("negative version", b"\xff\xff\x00\x00\x00\x00", None),
            ("behind the end", b"\x00\x00\x7f\xff\xff\xff\x00\x01a", None),
        ];
        for (name, bytes, expected) in cases {
            let found = topics(Bytes::from_static(bytes)).ok();
            let found = found.map(|topics| topics.iter().map(Str::to_string).collect::<Vec<_>>());
            let expected = expected.map(|topics| topics.iter().map(|t| (*t).to_owned()).collect());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn subscriptions_of_all_versions_are_read() {
        let base = b"\x00\x00\x00\x01\x00\x01a\xff\xff\xff\xff";
        let owned = b"\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00\x07";
        let text = Str::from_static_str;
        let has = vec![(text("a"), vec![5, 7])];
        let rack = b"\x00\x02r1";
        type Case<'a> = (i16, &'a [&'a [u8]], Vec<(Str, Vec<i32>)>, Option<Str>);
        let cases: [Case<'_>; 5] = [
            (0, &[base], vec![], None),
            (1, &[base, owned], has.clone(), None),
            (2, &[base, owned, &[0, 0, 0, 9]], has.clone(), None),
            (3, &[base, owned, &[0, 0, 0, 9], rack], has.clone(), Some(text("r1"))),
            (9, &[base, owned, &[0, 0, 0, 9], rack, b"more"], has, Some(text("r1"))),
        ];
        for (version, pieces, owned, rack) in cases {
            let mut bytes = version.to_be_bytes().to_vec();
            bytes.extend(pieces.concat());
            let found = Subscription::parse(Bytes::from(bytes.clone())).expect("well formed");
            let topics = vec![text("a")];
            assert_eq!(found, Subscription { topics, owned, rack }, "v{version}");
            let whole = bytes.len() - if version == 9 { 4 } else { 0 };
            for end in 0..whole {
                let cut = Bytes::copy_from_slice(&bytes[..end]);
                assert!(Subscription::parse(cut).is_err(), "v{version} cut at {end}");
            }
        }
    }

    #[test]
    fn an_assignment_survives_its_bytes() {
        let topics = vec![("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![])];
        for (version, written) in [(0, 0), (3, 3), (7, 3)] {
            let bytes = encode_assignment(version, &topics);
            assert_eq!(bytes[..2], i16::to_be_bytes(written), "v{version}");
            let found = decode_assignment(bytes).expect("what was written can be read");
            let found_topics: Vec<(String, Vec<i32>)> =
                found.topics.into_iter().map(|(name, all)| (name.to_string(), all)).collect();
            assert_eq!((found_topics, found.has_user_data), (topics.clone(), false));
        }
        let noted = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01x";
        assert!(decode_assignment(Bytes::from_static(noted)).unwrap().has_user_data);
    }
}
