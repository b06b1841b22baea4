//! The topics in a consumer's metadata (`ConsumerProtocolSubscription`).
//!
//! Consumers agree on these bytes among themselves. The coordinator reads the topics, the one field
//! all versions begin with, to know which offsets are in use.

use bytes::Bytes;

use crate::group::record::kept;
use crate::protocol::Str;
use crate::protocol::wire::{Form, Malformed, Reader};

/// Topics a subscription may name.
const TOPICS_MAX: usize = 1 << 20;

/// The topics a member subscribes to.
///
/// [`Malformed`] for bytes of another shape, such as of a client with a protocol of its own.
pub(super) fn topics(metadata: Bytes) -> Result<Vec<Str>, Malformed> {
    let mut input = Reader::new(metadata, TOPICS_MAX);
    if input.i16()? < 0 {
        return Err(Malformed::new("a subscription has a negative version"));
    }
    let read = |input: &mut Reader| input.string(Form::Classic).map(|name| kept(&name));
    let topics = input.nullable_array(Form::Classic, 2, read)?;
    topics.ok_or(Malformed::new("a subscription's topics are null"))
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
}
