//! The layouts of the cold APIs' messages, to walk their bytes without keeping anything.
//!
//! A layout tells sizes only: names and meanings are in `kafka_protocol`'s types. Every array and
//! string of a message must have its row here, or its counts would go unchecked; the tests compare
//! the layouts with the crate's own encoder.

use crate::protocol::api::ApiKey;
use crate::protocol::wire::{Form, Malformed, Reader, Version};

/// What a field's bytes look like.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// So many bytes.
    Fixed(usize),
    /// A string, or null.
    Text,
    /// An array, or null.
    List(&'static Self),
    /// Fields one after the other, and tagged ones in compact form.
    Fields(&'static [Field]),
    /// A byte that tells whether fields follow.
    MaybeFields(&'static [Field]),
}

/// A field, and the versions that have it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    from: i16,
    to: i16,
    /// The tag of a tagged field, which is of fixed size.
    tag: Option<u32>,
    layout: Layout,
}

/// An API's two messages.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The API.
    pub key: ApiKey,
    /// The request.
    pub request: Layout,
    /// The answer.
    pub response: Layout,
}

impl Layout {
    /// Walks over one value.
    ///
    /// [`Malformed`] when a count or a length says more than there is.
    pub fn walk(self, reader: &mut Reader, version: Version) -> Result<(), Malformed> {
        match self {
            Self::Fixed(size_bytes) => reader.skip(size_bytes),
            Self::Text => {
                let size_bytes = reader.string_length(version.form)?.unwrap_or(0);
                reader.skip(size_bytes)
            }
            Self::List(element) => {
                let count = reader.count(version.form, element.size_min(version))?;
                for _ in 0..count.unwrap_or(0) {
                    element.walk(reader, version)?;
                }
                Ok(())
            }
            Self::Fields(fields) => walk_fields(fields, reader, version),
            Self::MaybeFields(fields) => match reader.i8()? {
                -1 => Ok(()),
                1 => walk_fields(fields, reader, version),
                _ => Err(Malformed::new("neither a structure nor a null")),
            },
        }
    }

    /// The least size of a value, in bytes.
    fn size_min(self, version: Version) -> usize {
        match (self, version.form) {
            (Self::Fixed(size_bytes), _) => size_bytes,
            (Self::Text, Form::Classic) => 2,
            (Self::List(_), Form::Classic) => 4,
            (Self::Text | Self::List(_), Form::Compact) | (Self::MaybeFields(_), _) => 1,
            (Self::Fields(fields), form) => {
                let fields = fields.iter().filter(|field| field.is_plain_in(version));
                let tags = usize::from(form == Form::Compact);
                tags + fields.map(|field| field.layout.size_min(version)).sum::<usize>()
            }
        }
    }
}

fn walk_fields(fields: &[Field], reader: &mut Reader, version: Version) -> Result<(), Malformed> {
    for field in fields.iter().filter(|field| field.is_plain_in(version)) {
        field.layout.walk(reader, version)?;
    }
    if version.form == Form::Classic {
        return Ok(());
    }
    reader.tags(|tag, inner| {
        let Some(field) = fields.iter().find(|field| field.tag == Some(tag)) else { return Ok(()) };
        // The crate reads a tag it knows by its type, not by the size the message tells.
        match field.layout {
            Layout::Fixed(size_bytes) if size_bytes == inner.remaining() => Ok(()),
            _ => Err(Malformed::new("a tagged field has a wrong size")),
        }
    })
}

impl Field {
    fn is_plain_in(&self, version: Version) -> bool {
        self.tag.is_none() && (self.from..=self.to).contains(&version.number)
    }
}

/// A field of every version.
const fn always(layout: Layout) -> Field {
    between(0, i16::MAX, layout)
}

/// A field of version `from` and later.
const fn since(from: i16, layout: Layout) -> Field {
    between(from, i16::MAX, layout)
}

/// A field of versions `from` to `to`.
const fn between(from: i16, to: i16, layout: Layout) -> Field {
    Field { from, to, tag: None, layout }
}

/// A tagged field of `size_bytes` bytes.
const fn tagged(tag: u32, size_bytes: usize) -> Field {
    Field { from: 0, to: i16::MAX, tag: Some(tag), layout: Layout::Fixed(size_bytes) }
}

const BYTE: Layout = Layout::Fixed(1);
const SHORT: Layout = Layout::Fixed(2);
const INT: Layout = Layout::Fixed(4);
const LONG: Layout = Layout::Fixed(8);
const UUID: Layout = Layout::Fixed(16);
const TEXT: Layout = Layout::Text;
const INTS: Layout = Layout::List(&INT);
const TEXTS: Layout = Layout::List(&TEXT);

macro_rules! fields {
    ($($field:expr),* $(,)?) => { Layout::Fields(const { &[$($field),*] }) };
}

macro_rules! list {
    ($($field:expr),* $(,)?) => { Layout::List(const { &fields![$($field),*] }) };
}

/// A topic's name and numbers of partitions.
const TOPIC_PARTITIONS: Layout = list![always(TEXT), always(INTS)];

/// The layouts of every cold API.
pub const ROWS: &[Row] = &[
    Row { key: ApiKey::CreateTopics, request: CREATE_TOPICS, response: CREATE_TOPICS_ANSWER },
    Row { key: ApiKey::DeleteTopics, request: DELETE_TOPICS, response: DELETE_TOPICS_ANSWER },
    Row { key: ApiKey::DeleteRecords, request: DELETE_RECORDS, response: DELETE_RECORDS_ANSWER },
    Row { key: ApiKey::OffsetForLeaderEpoch, request: EPOCH_END, response: EPOCH_END_ANSWER },
    Row { key: ApiKey::DescribeConfigs, request: CONFIGS, response: CONFIGS_ANSWER },
    Row { key: ApiKey::AlterConfigs, request: ALTER, response: ALTER_ANSWER },
    Row { key: ApiKey::CreatePartitions, request: PARTITIONS, response: PARTITIONS_ANSWER },
    Row { key: ApiKey::ElectLeaders, request: ELECT, response: ELECT_ANSWER },
    Row { key: ApiKey::IncrementalAlterConfigs, request: INCREMENTAL, response: ALTER_ANSWER },
    Row { key: ApiKey::ListPartitionReassignments, request: MOVES, response: MOVES_ANSWER },
    Row { key: ApiKey::DescribeCluster, request: CLUSTER, response: CLUSTER_ANSWER },
    Row { key: ApiKey::DescribeProducers, request: PRODUCERS, response: PRODUCERS_ANSWER },
    Row { key: ApiKey::DescribeTopicPartitions, request: TOPICS, response: TOPICS_ANSWER },
];

const CREATE_TOPICS: Layout = fields![
    always(list![
        always(TEXT),
        always(INT),
        always(SHORT),
        always(list![always(INT), always(INTS)]),
        always(list![always(TEXT), always(TEXT)]),
    ]),
    always(INT),
    always(BYTE),
];
const CREATE_TOPICS_ANSWER: Layout = fields![
    always(INT),
    always(list![
        always(TEXT),
        since(7, UUID),
        always(SHORT),
        always(TEXT),
        tagged(0, 2),
        since(5, INT),
        since(5, SHORT),
        since(5, list![always(TEXT), always(TEXT), always(BYTE), always(BYTE), always(BYTE)]),
    ]),
];

const DELETE_TOPICS: Layout =
    fields![since(6, list![always(TEXT), always(UUID)]), between(0, 5, TEXTS), always(INT),];
const DELETE_TOPICS_ANSWER: Layout = fields![
    always(INT),
    always(list![always(TEXT), since(6, UUID), always(SHORT), since(5, TEXT)]),
];

const DELETE_RECORDS: Layout =
    fields![always(list![always(TEXT), always(list![always(INT), always(LONG)])]), always(INT),];
const DELETE_RECORDS_ANSWER: Layout = fields![
    always(INT),
    always(list![always(TEXT), always(list![always(INT), always(LONG), always(SHORT)])]),
];

const EPOCH_END: Layout = fields![
    since(3, INT),
    always(list![always(TEXT), always(list![always(INT), always(INT), always(INT)])]),
];
const EPOCH_END_ANSWER: Layout = fields![
    always(INT),
    always(list![
        always(TEXT),
        always(list![always(SHORT), always(INT), always(INT), always(LONG)])
    ]),
];

const CONFIGS: Layout = fields![
    always(list![always(BYTE), always(TEXT), always(TEXTS)]),
    always(BYTE),
    since(3, BYTE),
];
const CONFIGS_ANSWER: Layout = fields![
    always(INT),
    always(list![
        always(SHORT),
        always(TEXT),
        always(BYTE),
        always(TEXT),
        always(list![
            always(TEXT),
            always(TEXT),
            always(BYTE),
            always(BYTE),
            always(BYTE),
            always(list![always(TEXT), always(TEXT), always(BYTE)]),
            since(3, BYTE),
            since(3, TEXT),
        ]),
    ]),
];

const ALTER: Layout = fields![
    always(list![always(BYTE), always(TEXT), always(list![always(TEXT), always(TEXT)])]),
    always(BYTE),
];
const INCREMENTAL: Layout = fields![
    always(list![
        always(BYTE),
        always(TEXT),
        always(list![always(TEXT), always(BYTE), always(TEXT)])
    ]),
    always(BYTE),
];
const ALTER_ANSWER: Layout =
    fields![always(INT), always(list![always(SHORT), always(TEXT), always(BYTE), always(TEXT)]),];

const PARTITIONS: Layout = fields![
    always(list![always(TEXT), always(INT), always(list![always(INTS)])]),
    always(INT),
    always(BYTE),
];
const PARTITIONS_ANSWER: Layout =
    fields![always(INT), always(list![always(TEXT), always(SHORT), always(TEXT)])];

const ELECT: Layout = fields![since(1, BYTE), always(TOPIC_PARTITIONS), always(INT)];
const ELECT_ANSWER: Layout = fields![
    always(INT),
    since(1, SHORT),
    always(list![always(TEXT), always(list![always(INT), always(SHORT), always(TEXT)])]),
];

const MOVES: Layout = fields![always(INT), always(TOPIC_PARTITIONS)];
const MOVES_ANSWER: Layout = fields![
    always(INT),
    always(SHORT),
    always(TEXT),
    always(list![
        always(TEXT),
        always(list![always(INT), always(INTS), always(INTS), always(INTS)])
    ]),
];

const CLUSTER: Layout = fields![always(BYTE), since(1, BYTE), since(2, BYTE)];
const CLUSTER_ANSWER: Layout = fields![
    always(INT),
    always(SHORT),
    always(TEXT),
    since(1, BYTE),
    always(TEXT),
    always(INT),
    always(list![always(INT), always(TEXT), always(INT), always(TEXT), since(2, BYTE)]),
    always(INT),
];

const PRODUCERS: Layout = fields![always(TOPIC_PARTITIONS)];
const PRODUCERS_ANSWER: Layout = fields![
    always(INT),
    always(list![
        always(TEXT),
        always(list![
            always(INT),
            always(SHORT),
            always(TEXT),
            always(list![
                always(LONG),
                always(INT),
                always(INT),
                always(LONG),
                always(INT),
                always(LONG)
            ]),
        ]),
    ]),
];

/// Where the next page begins: a topic's name and a partition's number.
const CURSOR: Layout = Layout::MaybeFields(&[always(TEXT), always(INT)]);
const TOPICS: Layout = fields![always(list![always(TEXT)]), always(INT), always(CURSOR)];
const TOPICS_ANSWER: Layout = fields![
    always(INT),
    always(list![
        always(SHORT),
        always(TEXT),
        always(UUID),
        always(BYTE),
        always(list![
            always(SHORT),
            always(INT),
            always(INT),
            always(INT),
            always(INTS),
            always(INTS),
            always(INTS),
            always(INTS),
            always(INTS),
        ]),
        always(INT),
    ]),
    always(CURSOR),
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages as theirs;
    use kafka_protocol::protocol::{Encodable, Request};

    use super::*;
    use crate::protocol::cold;
    use crate::protocol::wire::{Malformed, Writer};

    /// xorshift64: the same history for the same seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound) as usize
        }
    }

    impl Layout {
        /// Writes some value of this layout; single bytes are 0 or 1, for they may be booleans.
        fn sample(self, writer: &mut Writer, version: Version, random: &mut Random) {
            match self {
                Self::Fixed(1) => writer.bool(random.below(2) == 1),
                Self::Fixed(size_bytes) => {
                    for _ in 0..size_bytes {
                        writer.raw(&[1 + random.below(120) as u8]);
                    }
                }
                Self::Text => {
                    let text = ["a", "topic", "a longer text", ""][random.below(4)];
                    writer.string(version.form, Some(text));
                }
                Self::List(element) => {
                    let count = 1 + random.below(2);
                    writer.length(version.form, Some(count));
                    for _ in 0..count {
                        element.sample(writer, version, random);
                    }
                }
                Self::Fields(fields) => sample_fields(fields, writer, version, random),
                Self::MaybeFields(fields) => {
                    writer.i8(1);
                    sample_fields(fields, writer, version, random);
                }
            }
        }
    }

    fn sample_fields(fields: &[Field], writer: &mut Writer, version: Version, random: &mut Random) {
        for field in fields.iter().filter(|field| field.is_plain_in(version)) {
            field.layout.sample(writer, version, random);
        }
        if version.form == Form::Classic {
            return;
        }
        // The tagged fields the crate knows, and one that nobody does.
        let tagged: Vec<_> = fields.iter().filter_map(|field| Some((field.tag?, field))).collect();
        writer.uvarint(tagged.len() as u32 + 1);
        for (tag, field) in tagged {
            writer.tag(tag, |inner| field.layout.sample(inner, version, random));
        }
        writer.tag(77, |inner| inner.raw(b"unknown"));
    }

    fn checks<T: Encodable>(
        layout: Layout,
        key: ApiKey,
        read: impl Fn(i16, Bytes) -> Result<T, Malformed>,
    ) {
        let mut random = Random(0x9e37_79b9 + key.code() as u64);
        for number in key.row().version_min..=key.row().version_max {
            let version = key.row().version(number);
            for round in 0..20 {
                let name = format!("{key:?} v{number}, round {round}");
                let mut writer = Writer::new();
                layout.sample(&mut writer, version, &mut random);
                let body = writer.into_bytes();
                let value = read(number, body.clone()).expect(&name);
                let again = cold::encode(number, &value).expect(&name);
                assert_eq!(again, body, "{name}: the crate's layout is another");
                for length in 0..body.len() {
                    assert!(read(number, body.slice(..length)).is_err(), "{name}, cut at {length}");
                }
                for _ in 0..100 {
                    let mut changed = body.to_vec();
                    for _ in 0..=random.below(3) {
                        let at = random.below(changed.len() as u64);
                        let byte = random.below(256) as u8;
                        changed[at] = [0, 0x7f, 0x80, 0xff, byte][random.below(5)];
                    }
                    let _ = read(number, changed.into());
                }
            }
        }
    }

    fn agrees<T: Request>() {
        let row = ROWS.iter().find(|row| row.key.code() == T::KEY).expect("has a layout");
        checks(row.request, row.key, cold::decode::<T>);
        checks(row.response, row.key, cold::decode_response::<T>);
    }

    #[test]
    fn layouts_are_those_of_the_crate_in_every_version() {
        agrees::<theirs::CreateTopicsRequest>();
        agrees::<theirs::DeleteTopicsRequest>();
        agrees::<theirs::DeleteRecordsRequest>();
        agrees::<theirs::OffsetForLeaderEpochRequest>();
        agrees::<theirs::DescribeConfigsRequest>();
        agrees::<theirs::AlterConfigsRequest>();
        agrees::<theirs::CreatePartitionsRequest>();
        agrees::<theirs::ElectLeadersRequest>();
        agrees::<theirs::IncrementalAlterConfigsRequest>();
        agrees::<theirs::ListPartitionReassignmentsRequest>();
        agrees::<theirs::DescribeClusterRequest>();
        agrees::<theirs::DescribeProducersRequest>();
        agrees::<theirs::DescribeTopicPartitionsRequest>();
        assert_eq!(ROWS.len(), 13);
    }
}
