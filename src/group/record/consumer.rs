//! The records of consumer groups (KIP-848): values, and their bytes.
//!
//! | key | its fields           | value                                                      |
//! |-----|----------------------|------------------------------------------------------------|
//! | 3   | group                | the group's epoch ([`ConsumerGroupValue`])                 |
//! | 4   | group                | topics, before version 4.1; only ever deleted              |
//! | 5   | group, member        | what a member said of itself ([`ConsumerMemberValue`])     |
//! | 6   | group                | the target assignment's epoch ([`TargetEpochValue`])       |
//! | 7   | group, member        | what a member is to have ([`TargetMemberValue`])           |
//! | 8   | group, member        | what a member has ([`CurrentMemberValue`])                 |
//! | 16  | group, expression    | the topics that match ([`RegularExpressionValue`])         |
//!
//! Keys are in the classic, values in the compact form, all of version 0. Two tagged fields have
//! odd defaults in Apache Kafka's schema, an empty structure and an empty array instead of null:
//! nothing at all stands for the empty one, and null is written out.

use bytes::Bytes;

use crate::base::Uuid;
use crate::protocol::Str;
use crate::protocol::wire::{Form, Malformed, Reader, Writer};

use super::{ELEMENTS_MAX, kept};

/// The version all these values have.
const VALUE_VERSION: i16 = 0;
const FORM: Form = Form::Compact;

/// Bytes of an id, a count and a count of tagged fields: the least a topic's partitions take.
const TOPIC_BYTES_MIN: usize = 18;
/// Bytes of a partition's number or an epoch.
const NUMBER_BYTES: usize = 4;

/// A member of a consumer group: the key of most of its records.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MemberKey {
    /// The group.
    pub group: Str,
    /// The member id.
    pub member: Str,
}

/// A regular expression that members of a group subscribe to (`ConsumerGroupRegularExpressionKey`).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RegularExpressionKey {
    /// The group.
    pub group: Str,
    /// The expression as the members wrote it.
    pub expression: Str,
}

/// A consumer group (`ConsumerGroupMetadataValue`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConsumerGroupValue {
    /// The group epoch.
    pub epoch: i32,
    /// The hash of the subscribed topics' metadata (KIP-1101); 0 when there are none.
    pub metadata_hash: i64,
}

/// What a member said about itself (`ConsumerGroupMemberMetadataValue`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerMemberValue {
    /// The instance id of a static member.
    pub instance: Option<Str>,
    /// Its rack.
    pub rack: Option<Str>,
    /// The client id.
    pub client_id: Str,
    /// The address it comes from.
    pub client_host: Str,
    /// Names of topics it subscribes to. Kafka writes them sorted.
    pub topics: Vec<Str>,
    /// The regular expression it subscribes to; "" is none, as null is.
    pub expression: Option<Str>,
    /// How long it may take to give partitions back, in milliseconds; -1 when it never said.
    pub rebalance_timeout_ms: i32,
    /// The assignor it asks for.
    pub assignor: Option<Str>,
    /// Set when it speaks the classic protocol. A record without the field yields an empty
    /// one, as in Kafka, whose writers say null for members of the consumer protocol.
    pub classic: Option<ClassicMemberValue>,
}

/// A member that speaks the classic protocol
/// (`ConsumerGroupMemberMetadataValue.ClassicMemberMetadata`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClassicMemberValue {
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// The protocols it supports, the one it likes best first.
    pub protocols: Vec<ClassicProtocolValue>,
}

/// A protocol of the classic kind that a member supports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassicProtocolValue {
    /// Its name.
    pub name: Str,
    /// What the member says about itself for it (`ConsumerProtocolSubscription`).
    pub metadata: Bytes,
}

/// The target assignment of a group (`ConsumerGroupTargetAssignmentMetadataValue`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TargetEpochValue {
    /// The group epoch it was computed at.
    pub epoch: i32,
    /// When it was computed, in milliseconds since 1970 (KIP-1263); 0 when it is not known.
    pub assigned_at_ms: i64,
}

/// What a member is to have (`ConsumerGroupTargetAssignmentMemberValue`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TargetMemberValue {
    /// Partitions by topic.
    pub topics: Vec<TargetTopicValue>,
}

/// Partitions of a topic in a target assignment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetTopicValue {
    /// The topic.
    pub topic: Uuid,
    /// The partitions; Kafka writes them in any order.
    pub partitions: Vec<i32>,
}

/// What a member has (`ConsumerGroupCurrentMemberAssignmentValue`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CurrentMemberValue {
    /// The member's epoch.
    pub epoch: i32,
    /// The epoch before.
    pub previous_epoch: i32,
    /// Its state, by Kafka's number (`MemberState`).
    pub state: i8,
    /// What it owns.
    pub assigned: Vec<CurrentTopicValue>,
    /// What it is to give back.
    pub revoking: Vec<CurrentTopicValue>,
}

/// Partitions of a topic that a member has, and since when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CurrentTopicValue {
    /// The topic.
    pub topic: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// The member epoch at which each was assigned; empty in records from before version 4.2.
    pub epochs: Vec<i32>,
}

impl CurrentTopicValue {
    /// The partitions with the epochs they were assigned at.
    ///
    /// Where the epochs are missing or not as many as the partitions, all have `epoch_default`,
    /// or 0 when that is negative (`Utils.assignmentFromTopicPartitions`).
    pub fn with_epochs(&self, epoch_default: i32) -> impl Iterator<Item = (i32, i32)> {
        let known = self.epochs.len() == self.partitions.len();
        let epochs = if known { &self.epochs[..] } else { &[] };
        self.partitions.iter().enumerate().map(move |(index, &partition)| {
            (partition, epochs.get(index).copied().unwrap_or(epoch_default.max(0)))
        })
    }
}

/// The topics that match a regular expression (`ConsumerGroupRegularExpressionValue`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RegularExpressionValue {
    /// Their names. Kafka writes them sorted.
    pub topics: Vec<Str>,
    /// The offset of the metadata image they were looked up in.
    pub version: i64,
    /// When they were looked up, in milliseconds since 1970.
    pub resolved_at_ms: i64,
}

/// A key of one text: the group.
pub(super) fn group_key(kind: i16, group: &str) -> Bytes {
    let mut out = Writer::new();
    out.i16(kind);
    out.string(Form::Classic, Some(group));
    out.into_bytes()
}

/// A key of two texts: the group, and its member or regular expression.
pub(super) fn pair_key(kind: i16, group: &str, second: &str) -> Bytes {
    let mut out = Writer::new();
    out.i16(kind);
    out.string(Form::Classic, Some(group));
    out.string(Form::Classic, Some(second));
    out.into_bytes()
}

/// A value that `fields` reads: version 0, with unknown tagged fields passed over by `fields`.
pub(super) fn decode<T>(
    value: Bytes,
    fields: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut input = Reader::new(value, ELEMENTS_MAX);
    if input.i16()? != VALUE_VERSION {
        return Err(Malformed::new("a consumer group record's value has an unknown version"));
    }
    fields(&mut input)
}

fn value_writer() -> Writer {
    let mut out = Writer::new();
    out.i16(VALUE_VERSION);
    out
}

fn texts(input: &mut Reader) -> Result<Vec<Str>, Malformed> {
    let read = |input: &mut Reader| Ok(kept(&input.string(FORM)?));
    input.nullable_array(FORM, 1, read)?.ok_or(Malformed::new("an array of texts is null"))
}

fn write_texts(out: &mut Writer, texts: &[Str]) {
    out.length(FORM, Some(texts.len()));
    for text in texts {
        out.string(FORM, Some(text));
    }
}

fn nullable_text(input: &mut Reader) -> Result<Option<Str>, Malformed> {
    Ok(input.nullable_string(FORM)?.as_ref().map(kept))
}

fn numbers(input: &mut Reader) -> Result<Option<Vec<i32>>, Malformed> {
    input.nullable_array(FORM, NUMBER_BYTES, Reader::i32)
}

fn write_numbers(out: &mut Writer, numbers: &[i32]) {
    out.length(FORM, Some(numbers.len()));
    for &number in numbers {
        out.i32(number);
    }
}

/// Reads an array of topics; entries without an id are left out, for they mean nothing.
fn topics<T>(
    input: &mut Reader,
    entry: impl Fn(Uuid, Vec<i32>, &mut Reader) -> Result<T, Malformed>,
    ignored: impl Fn(&mut Reader) -> Result<(), Malformed>,
) -> Result<Vec<T>, Malformed> {
    let read = |input: &mut Reader| {
        let id = Uuid::from_wire(input.uuid()?);
        let partitions = numbers(input)?.ok_or(Malformed::new("partitions are null"))?;
        match id {
            Some(id) => entry(id, partitions, input).map(Some),
            None => ignored(input).map(|()| None),
        }
    };
    let found = input.nullable_array(FORM, TOPIC_BYTES_MIN, read)?;
    let found = found.ok_or(Malformed::new("an array of topics is null"))?;
    Ok(found.into_iter().flatten().collect())
}

impl ConsumerGroupValue {
    pub(super) fn encode(self) -> Bytes {
        let mut out = value_writer();
        out.i32(self.epoch);
        write_tagged_i64(&mut out, self.metadata_hash);
        out.into_bytes()
    }

    pub(super) fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { epoch: input.i32()?, metadata_hash: tagged_i64(input)? })
    }
}

impl TargetEpochValue {
    pub(super) fn encode(self) -> Bytes {
        let mut out = value_writer();
        out.i32(self.epoch);
        write_tagged_i64(&mut out, self.assigned_at_ms);
        out.into_bytes()
    }

    pub(super) fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { epoch: input.i32()?, assigned_at_ms: tagged_i64(input)? })
    }
}

/// The number in tagged field 0, which is the only one; 0 is left out.
fn write_tagged_i64(out: &mut Writer, number: i64) {
    out.uvarint(u32::from(number != 0));
    if number != 0 {
        out.tag(0, |inner| inner.i64(number));
    }
}

fn tagged_i64(input: &mut Reader) -> Result<i64, Malformed> {
    let mut number = 0;
    input.tags(|tag, inner| {
        if tag == 0 {
            number = inner.i64()?;
        }
        Ok(())
    })?;
    Ok(number)
}

impl ConsumerMemberValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = value_writer();
        out.string(FORM, self.instance.as_deref());
        out.string(FORM, self.rack.as_deref());
        out.string(FORM, Some(&self.client_id));
        out.string(FORM, Some(&self.client_host));
        write_texts(&mut out, &self.topics);
        out.string(FORM, self.expression.as_deref());
        out.i32(self.rebalance_timeout_ms);
        out.string(FORM, self.assignor.as_deref());
        match &self.classic {
            None => {
                out.uvarint(1);
                out.tag(0, |inner| inner.uvarint(0));
            }
            Some(classic) if *classic == ClassicMemberValue::default() => out.uvarint(0),
            Some(classic) => {
                out.uvarint(1);
                out.tag(0, |inner| {
                    inner.uvarint(1);
                    classic.write(inner);
                });
            }
        }
        out.into_bytes()
    }

    pub(super) fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let mut value = Self {
            instance: nullable_text(input)?,
            rack: nullable_text(input)?,
            client_id: kept(&input.string(FORM)?),
            client_host: kept(&input.string(FORM)?),
            topics: texts(input)?,
            expression: nullable_text(input)?,
            rebalance_timeout_ms: input.i32()?,
            assignor: nullable_text(input)?,
            classic: Some(ClassicMemberValue::default()),
        };
        input.tags(|tag, inner| {
            if tag == 0 {
                value.classic = match inner.uvarint()? {
                    0 => None,
                    // The mark of a structure that is there: any number but 0, as in Kafka.
                    _ => Some(ClassicMemberValue::read(inner)?),
                };
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl ClassicMemberValue {
    fn write(&self, out: &mut Writer) {
        out.i32(self.session_timeout_ms);
        out.length(FORM, Some(self.protocols.len()));
        for protocol in &self.protocols {
            out.string(FORM, Some(&protocol.name));
            out.nullable_bytes(FORM, Some(&protocol.metadata));
            out.uvarint(0);
        }
        out.uvarint(0);
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        let session_timeout_ms = input.i32()?;
        let protocols = input.nullable_array(FORM, 3, |input| {
            let name = kept(&input.string(FORM)?);
            let metadata = input.nullable_bytes(FORM)?.ok_or(Malformed::new("null bytes"))?;
            input.skip_tags()?;
            Ok(ClassicProtocolValue { name, metadata: Bytes::copy_from_slice(&metadata) })
        })?;
        input.skip_tags()?;
        let protocols = protocols.ok_or(Malformed::new("a member's protocols are null"))?;
        Ok(Self { session_timeout_ms, protocols })
    }
}

impl TargetMemberValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = value_writer();
        out.length(FORM, Some(self.topics.len()));
        for entry in &self.topics {
            out.raw(&entry.topic.to_wire());
            write_numbers(&mut out, &entry.partitions);
            out.uvarint(0);
        }
        out.uvarint(0);
        out.into_bytes()
    }

    pub(super) fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let entry = |topic, partitions, input: &mut Reader| {
            input.skip_tags()?;
            Ok(TargetTopicValue { topic, partitions })
        };
        let topics = topics(input, entry, Reader::skip_tags)?;
        input.skip_tags()?;
        Ok(Self { topics })
    }
}

impl CurrentMemberValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = value_writer();
        out.i32(self.epoch);
        out.i32(self.previous_epoch);
        out.i8(self.state);
        for entries in [&self.assigned, &self.revoking] {
            out.length(FORM, Some(entries.len()));
            for entry in entries {
                out.raw(&entry.topic.to_wire());
                write_numbers(&mut out, &entry.partitions);
                out.uvarint(u32::from(!entry.epochs.is_empty()));
                if !entry.epochs.is_empty() {
                    out.tag(0, |inner| write_numbers(inner, &entry.epochs));
                }
            }
        }
        out.uvarint(0);
        out.into_bytes()
    }

    pub(super) fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let entry = |topic, partitions, input: &mut Reader| {
            let mut epochs = Vec::new();
            input.tags(|tag, inner| {
                if tag == 0 {
                    epochs = numbers(inner)?.unwrap_or_default();
                }
                Ok(())
            })?;
            Ok(CurrentTopicValue { topic, partitions, epochs })
        };
        let value = Self {
            epoch: input.i32()?,
            previous_epoch: input.i32()?,
            state: input.i8()?,
            assigned: topics(input, entry, Reader::skip_tags)?,
            revoking: topics(input, entry, Reader::skip_tags)?,
        };
        input.skip_tags()?;
        Ok(value)
    }
}

impl RegularExpressionValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = value_writer();
        write_texts(&mut out, &self.topics);
        out.i64(self.version);
        out.i64(self.resolved_at_ms);
        out.uvarint(0);
        out.into_bytes()
    }

    pub(super) fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let value =
            Self { topics: texts(input)?, version: input.i64()?, resolved_at_ms: input.i64()? };
        input.skip_tags()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::record::Record;

    fn text(text: &'static str) -> Str {
        Str::from_static_str(text)
    }

    fn bytes(hex: &str) -> Bytes {
        let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn member() -> MemberKey {
        MemberKey { group: text("g"), member: text("m1") }
    }

    fn plain_member() -> ConsumerMemberValue {
        ConsumerMemberValue {
            instance: None,
            rack: None,
            client_id: text("c"),
            client_host: text("h"),
            topics: vec![],
            expression: Some(text("")),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }

    fn full_member() -> ConsumerMemberValue {
        ConsumerMemberValue {
            instance: Some(text("i")),
            rack: Some(text("r")),
            client_id: text("c"),
            client_host: text("/127.0.0.1"),
            topics: vec![text("a"), text("b")],
            expression: Some(text("x.*")),
            rebalance_timeout_ms: 300_000,
            assignor: Some(text("range")),
            classic: Some(ClassicMemberValue {
                session_timeout_ms: 45_000,
                protocols: vec![ClassicProtocolValue {
                    name: text("range"),
                    metadata: Bytes::from_static(&[1, 2, 3]),
                }],
            }),
        }
    }

    fn target() -> TargetMemberValue {
        let (first, second) = (Uuid::from_halves(1, 2), Uuid::from_halves(3, 4));
        TargetMemberValue {
            topics: vec![
                TargetTopicValue { topic: first, partitions: vec![0, 1, 5] },
                TargetTopicValue { topic: second, partitions: vec![] },
            ],
        }
    }

    fn current() -> CurrentMemberValue {
        let (first, second) = (Uuid::from_halves(1, 2), Uuid::from_halves(3, 4));
        let assigned =
            CurrentTopicValue { topic: first, partitions: vec![0, 1], epochs: vec![3, 5] };
        let revoking = CurrentTopicValue { topic: second, partitions: vec![7], epochs: vec![] };
        CurrentMemberValue {
            epoch: 5,
            previous_epoch: 4,
            state: 1,
            assigned: vec![assigned],
            revoking: vec![revoking],
        }
    }

    /// Records, and the bytes that the serializer of Apache Kafka 4.3.1 makes of them.
    fn fixtures() -> Vec<(Record, &'static str, Option<&'static str>)> {
        let group = text("g");
        let expression = RegularExpressionKey { group: text("g"), expression: text("x.*") };
        let matched = RegularExpressionValue {
            topics: vec![text("xa"), text("xb")],
            version: 11,
            resolved_at_ms: 12,
        };
        let empty_classic = ConsumerMemberValue {
            expression: None,
            classic: Some(ClassicMemberValue::default()),
            ..plain_member()
        };
        let epoch = |metadata_hash| ConsumerGroupValue { epoch: 7, metadata_hash };
        let target_epoch = |assigned_at_ms| TargetEpochValue { epoch: 9, assigned_at_ms };
        vec![
            (
                Record::ConsumerGroup(group.clone(), Some(epoch(-2))),
                "0003000167",
                Some("000000000007010008fffffffffffffffe"),
            ),
            (
                Record::ConsumerGroup(group.clone(), Some(epoch(0))),
                "0003000167",
                Some("00000000000700"),
            ),
            (Record::ConsumerGroup(group.clone(), None), "0003000167", None),
            (Record::ConsumerTopics(group.clone(), None), "0004000167", None),
            (
                Record::ConsumerTopics(
                    group.clone(),
                    Some(bytes("0000020000000000000001000000000000000203747000000003010000")),
                ),
                "0004000167",
                Some("0000020000000000000001000000000000000203747000000003010000"),
            ),
            (
                Record::ConsumerMember(member(), Some(full_member())),
                "000500016700026d31",
                Some(
                    "00000269027202630b2f3132372e302e302e31030261026204782e2a000493e006\
                     72616e6765010012010000afc8020672616e6765040102030000",
                ),
            ),
            (
                Record::ConsumerMember(member(), Some(plain_member())),
                "000500016700026d31",
                Some("00000000026302680101ffffffff0001000100"),
            ),
            (
                Record::ConsumerMember(member(), Some(empty_classic)),
                "000500016700026d31",
                Some("00000000026302680100ffffffff0000"),
            ),
            (
                Record::TargetEpoch(group.clone(), Some(target_epoch(1_234_567_890_123))),
                "0006000167",
                Some("0000000000090100080000011f71fb04cb"),
            ),
            (
                Record::TargetEpoch(group, Some(target_epoch(0))),
                "0006000167",
                Some("00000000000900"),
            ),
            (
                Record::TargetMember(member(), Some(target())),
                "000700016700026d31",
                Some(
                    "0000030000000000000001000000000000000204000000000000000100000005\
                     0000000000000000030000000000000004010000",
                ),
            ),
            (Record::TargetMember(member(), None), "000700016700026d31", None),
            (
                Record::CurrentMember(member(), Some(current())),
                "000800016700026d31",
                Some(
                    "0000000000050000000401020000000000000001000000000000000203000000\
                     0000000001010009030000000300000005020000000000000003000000000000\
                     000402000000070000",
                ),
            ),
            (
                Record::RegularExpression(expression, Some(matched)),
                "00100001670003782e2a",
                Some("000003037861037862000000000000000b000000000000000c00"),
            ),
        ]
    }

    #[test]
    fn records_are_byte_for_byte_those_of_kafka_and_read_back() {
        for (record, key, value) in fixtures() {
            let (key, value) = (bytes(key), value.map(bytes));
            assert_eq!(record.encode(), Some((key.clone(), value.clone())), "{record:?}");
            assert_eq!(record.group().map(|group| &**group), Some("g"));
            assert_eq!(Record::decode(key, value), Ok(record));
        }
    }

    #[test]
    fn cut_bytes_and_unknown_versions_are_refused() {
        for (record, _, _) in fixtures() {
            let Some((key, Some(value))) = record.encode() else { continue };
            for end in 0..key.len() {
                assert!(Record::decode(key.slice(..end), None).is_err(), "a key cut at {end}");
            }
            if matches!(record, Record::ConsumerTopics(..)) {
                continue;
            }
            for end in 0..value.len() {
                let cut = Record::decode(key.clone(), Some(value.slice(..end)));
                assert!(cut.is_err(), "{record:?} cut at {end}");
            }
            let newer = Bytes::from([&[0, 1], &value[2..]].concat());
            assert!(Record::decode(key, Some(newer)).is_err(), "{record:?}");
        }
    }

    #[test]
    fn changed_bytes_never_make_the_decoder_panic() {
        for (record, _, _) in fixtures() {
            let Some((key, Some(value))) = record.encode() else { continue };
            for index in 2..value.len() {
                for changed in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut value = value.to_vec();
                    value[index] = changed;
                    if let Ok(read) = Record::decode(key.clone(), Some(value.into())) {
                        assert_eq!(read.encode().unwrap().0, key);
                    }
                }
            }
        }
    }

    #[test]
    fn unknown_tagged_fields_and_null_epochs_are_read() {
        let key = bytes("0003000167");
        let tagged = bytes("00000000000702010008ffffffffffffffff0301aa");
        assert!(Record::decode(key.clone(), Some(tagged)).is_err(), "sizes do not fit");
        let tagged = bytes("000000000007020008fffffffffffffffe0301aa");
        let value = ConsumerGroupValue { epoch: 7, metadata_hash: -2 };
        let expected = Record::ConsumerGroup(text("g"), Some(value));
        assert_eq!(Record::decode(key, Some(tagged)), Ok(expected));

        // Kafka 4.3.1 with null epochs, which it never writes.
        let key = bytes("000800016700026d31");
        let value = "000000000005ffffffff0002000000000000000100000000000000020200000000\
                     010001000100";
        let Ok(Record::CurrentMember(_, Some(read))) = Record::decode(key, Some(bytes(value)))
        else {
            panic!("not read");
        };
        assert_eq!(read.previous_epoch, -1);
        assert_eq!(read.assigned[0].epochs, Vec::<i32>::new());
    }

    #[test]
    fn partitions_get_their_epochs_or_the_default() {
        let entry = |epochs: &[i32]| CurrentTopicValue {
            topic: Uuid::from_halves(1, 2),
            partitions: vec![4, 5],
            epochs: epochs.to_vec(),
        };
        type Case = (&'static str, &'static [i32], i32, [(i32, i32); 2]);
        let cases: [Case; 4] = [
            ("known", &[7, 8], 9, [(4, 7), (5, 8)]),
            ("missing", &[], 9, [(4, 9), (5, 9)]),
            ("too few", &[7], 9, [(4, 9), (5, 9)]),
            ("a static member that left", &[], -2, [(4, 0), (5, 0)]),
        ];
        for (name, epochs, default, expected) in cases {
            let found: Vec<_> = entry(epochs).with_epochs(default).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
