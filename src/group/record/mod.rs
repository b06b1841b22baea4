//! The records of `__consumer_offsets` that groups and committed offsets are made of.
//!
//! | key | its fields                | value                                      | written |
//! |-----|---------------------------|--------------------------------------------|---------|
//! | 0   | as key 1                  | an offset, from before version 0.9         | never   |
//! | 1   | group, topic, partition   | an offset (`OffsetCommitValue`)            | 1, 3, 4 |
//! | 2   | group                     | a classic group (`GroupMetadataValue`)     | 3       |
//! | 3.. | consumer groups           | see [`consumer`]: keys 3 to 8, and 16      | 0       |
//! | 9.. | share and streams groups  | not read here: [`Record::Other`]           | never   |
//!
//! A key without a value is a tombstone. Invariants: keys are byte for byte Apache Kafka's, or
//! compaction would keep two of a kind; no bytes make the decoder panic or reserve more than they
//! hold. Not here: what the records mean (`coordinator`).

pub mod consumer;
mod size;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Timestamp, Uuid};
use crate::protocol::Str;
use crate::protocol::wire::{Form, Malformed, Reader, Version, Writer};

pub use consumer::{
    ClassicMemberValue, ClassicProtocolValue, ConsumerGroupValue, ConsumerMemberValue,
    CurrentMemberValue, CurrentTopicValue, MemberKey, RegularExpressionKey, RegularExpressionValue,
    TargetEpochValue, TargetMemberValue, TargetTopicValue,
};
pub use size::{bytes_bound, count_together, fit_together, tombstone_bytes_bound};

/// Elements the arrays of one record may hold together.
const ELEMENTS_MAX: usize = 1 << 20;

const KEY_OFFSET_LEGACY: i16 = 0;
const KEY_OFFSET: i16 = 1;
const KEY_GROUP: i16 = 2;
const KEY_CONSUMER_GROUP: i16 = 3;
const KEY_CONSUMER_TOPICS: i16 = 4;
const KEY_CONSUMER_MEMBER: i16 = 5;
const KEY_TARGET_EPOCH: i16 = 6;
const KEY_TARGET_MEMBER: i16 = 7;
const KEY_CURRENT_MEMBER: i16 = 8;
const KEY_REGULAR_EXPRESSION: i16 = 16;

/// Versions of `OffsetCommitValue`: with an expiry of its own, with a leader epoch, with tags.
const OFFSET_WITH_EXPIRY: i16 = 1;
const OFFSET_WITH_EPOCH: i16 = 3;
const OFFSET_COMPACT: i16 = 4;

/// Versions of `GroupMetadataValue`: the one that is written, and the first with tags.
const GROUP_WRITTEN: i16 = 3;
const GROUP_COMPACT: i16 = 4;

/// The newest version of either value that is understood.
const VALUE_VERSION_MAX: i16 = 4;

/// A record of `__consumer_offsets`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// An offset a group committed; `None` deletes it.
    Offset(OffsetKey, Option<OffsetValue>),
    /// A classic group; `None` deletes it.
    Group(Str, Option<GroupValue>),
    /// A consumer group's epoch; `None` deletes it.
    ConsumerGroup(Str, Option<ConsumerGroupValue>),
    /// A consumer group's topics as kept before version 4.1. Nobody reads the bytes any more; only
    /// that they are there matters, for they are then to be deleted with `None`.
    ConsumerTopics(Str, Option<Bytes>),
    /// What a member of a consumer group said of itself; `None` deletes it.
    ConsumerMember(MemberKey, Option<ConsumerMemberValue>),
    /// The epoch of a consumer group's target assignment; `None` deletes it.
    TargetEpoch(Str, Option<TargetEpochValue>),
    /// What a member of a consumer group is to have; `None` deletes it.
    TargetMember(MemberKey, Option<TargetMemberValue>),
    /// What a member of a consumer group has; `None` deletes it.
    CurrentMember(MemberKey, Option<CurrentMemberValue>),
    /// The topics that match a regular expression; `None` deletes it.
    RegularExpression(RegularExpressionKey, Option<RegularExpressionValue>),
    /// A record of another kind, by its key's version: it is passed over.
    Other(i16),
}

/// Whose offset it is (`OffsetCommitKey`).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OffsetKey {
    /// The group.
    pub group: Str,
    /// The topic's name.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
}

/// A committed offset (`OffsetCommitValue`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OffsetValue {
    /// The offset; the group's next record. Clients may commit any number.
    pub offset: i64,
    /// The leader epoch of the last record consumed, when the client knew it (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's note.
    pub metadata: Str,
    /// When it was committed, in milliseconds since 1970; -1 in odd old records.
    pub committed_at_ms: i64,
    /// When it expires, for clients that asked for a time of their own (before version 5).
    pub expires_at_ms: Option<i64>,
    /// The topic's id, when it was known.
    pub topic_id: Option<Uuid>,
}

/// A classic group at the end of a rebalance (`GroupMetadataValue`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GroupValue {
    /// What kind of members it has: `consumer`, `connect`, any; `None` when it never had any.
    pub protocol_type: Option<Str>,
    /// The generation.
    pub generation: i32,
    /// The protocol its members voted for.
    pub protocol: Option<Str>,
    /// The leader's member id; none without members, and while a rebalance is due.
    pub leader: Option<Str>,
    /// When it came into its present state.
    pub state_since: Option<Timestamp>,
    /// Its members; none when it is empty.
    pub members: Vec<MemberValue>,
}

/// A member of a classic group (`GroupMetadataValue.MemberMetadata`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberValue {
    /// The member id.
    pub id: Str,
    /// The instance id of a static member (KIP-345).
    pub instance: Option<Str>,
    /// The client id it joined with.
    pub client_id: Str,
    /// The address it joined from.
    pub client_host: Str,
    /// How long a rebalance waits for it, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// What it said about itself for the chosen protocol.
    pub subscription: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// The partition of `__consumer_offsets`, out of `count`, that holds a group.
///
/// Java's `String.hashCode`, over UTF-16 units, without its sign; `count` is 1 or greater.
pub fn partition_of(group: &str, count: u32) -> u32 {
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = group.encode_utf16().fold(0, step);
    // Java's `abs` of the smallest number is 0 in Kafka's `Utils`.
    hash.checked_abs().unwrap_or(0).cast_unsigned() % count.max(1)
}

impl Record {
    /// The record's key and value as bytes; a tombstone has no value.
    ///
    /// `None` for [`Record::Other`], which is never written.
    pub fn encode(&self) -> Option<(Bytes, Option<Bytes>)> {
        let key = self.encode_key()?;
        let value = match self {
            Self::Offset(_, value) => value.as_ref().map(encode_offset),
            Self::Group(_, value) => value.as_ref().map(encode_group),
            Self::ConsumerGroup(_, value) => value.map(ConsumerGroupValue::encode),
            Self::ConsumerTopics(_, value) => value.clone(),
            Self::ConsumerMember(_, value) => value.as_ref().map(ConsumerMemberValue::encode),
            Self::TargetEpoch(_, value) => value.map(TargetEpochValue::encode),
            Self::TargetMember(_, value) => value.as_ref().map(TargetMemberValue::encode),
            Self::CurrentMember(_, value) => value.as_ref().map(CurrentMemberValue::encode),
            Self::RegularExpression(_, value) => value.as_ref().map(RegularExpressionValue::encode),
            Self::Other(_) => return None,
        };
        Some((key, value))
    }

    fn encode_key(&self) -> Option<Bytes> {
        let of_group = |kind, group: &Str| Some(consumer::group_key(kind, group));
        let of_member =
            |kind, key: &MemberKey| Some(consumer::pair_key(kind, &key.group, &key.member));
        match self {
            Self::Offset(key, _) => Some(encode_offset_key(key)),
            Self::Group(group, _) => of_group(KEY_GROUP, group),
            Self::ConsumerGroup(group, _) => of_group(KEY_CONSUMER_GROUP, group),
            Self::ConsumerTopics(group, _) => of_group(KEY_CONSUMER_TOPICS, group),
            Self::ConsumerMember(key, _) => of_member(KEY_CONSUMER_MEMBER, key),
            Self::TargetEpoch(group, _) => of_group(KEY_TARGET_EPOCH, group),
            Self::TargetMember(key, _) => of_member(KEY_TARGET_MEMBER, key),
            Self::CurrentMember(key, _) => of_member(KEY_CURRENT_MEMBER, key),
            Self::RegularExpression(key, _) => {
                Some(consumer::pair_key(KEY_REGULAR_EXPRESSION, &key.group, &key.expression))
            }
            Self::Other(_) => None,
        }
    }

    /// Reads a record; `value` is `None` for a tombstone.
    ///
    /// [`Malformed`] when the bytes do not fit their version, or the value's version is unknown. A
    /// key of unknown version is no error but [`Record::Other`], as in Kafka.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Self, Malformed> {
        let mut input = Reader::new(key, ELEMENTS_MAX);
        match input.i16()? {
            KEY_OFFSET_LEGACY | KEY_OFFSET => {
                let key = OffsetKey {
                    group: kept(&input.string(Form::Classic)?),
                    topic: kept(&input.string(Form::Classic)?),
                    partition: input.i32()?,
                };
                Ok(Self::Offset(key, value.map(decode_offset).transpose()?))
            }
            KEY_GROUP => {
                let group = kept(&input.string(Form::Classic)?);
                Ok(Self::Group(group, value.map(decode_group).transpose()?))
            }
            kind => Self::decode_consumer(kind, &mut input, value),
        }
    }

    /// Reads a record of a consumer group, whose key's fields are in `key`.
    fn decode_consumer(
        kind: i16,
        key: &mut Reader,
        value: Option<Bytes>,
    ) -> Result<Self, Malformed> {
        match kind {
            KEY_CONSUMER_GROUP => {
                Ok(Self::ConsumerGroup(text(key)?, read(value, ConsumerGroupValue::decode)?))
            }
            KEY_CONSUMER_TOPICS => {
                let value = value.map(|value| Bytes::copy_from_slice(&value));
                Ok(Self::ConsumerTopics(text(key)?, value))
            }
            KEY_CONSUMER_MEMBER => {
                let value = read(value, ConsumerMemberValue::decode)?;
                Ok(Self::ConsumerMember(member_key(key)?, value))
            }
            KEY_TARGET_EPOCH => {
                Ok(Self::TargetEpoch(text(key)?, read(value, TargetEpochValue::decode)?))
            }
            KEY_TARGET_MEMBER => {
                Ok(Self::TargetMember(member_key(key)?, read(value, TargetMemberValue::decode)?))
            }
            KEY_CURRENT_MEMBER => {
                Ok(Self::CurrentMember(member_key(key)?, read(value, CurrentMemberValue::decode)?))
            }
            KEY_REGULAR_EXPRESSION => {
                let key = RegularExpressionKey { group: text(key)?, expression: text(key)? };
                Ok(Self::RegularExpression(key, read(value, RegularExpressionValue::decode)?))
            }
            other => Ok(Self::Other(other)),
        }
    }

    /// Whether it deletes what its key names.
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Offset(_, value) => value.is_none(),
            Self::Group(_, value) => value.is_none(),
            Self::ConsumerGroup(_, value) => value.is_none(),
            Self::ConsumerTopics(_, value) => value.is_none(),
            Self::ConsumerMember(_, value) => value.is_none(),
            Self::TargetEpoch(_, value) => value.is_none(),
            Self::TargetMember(_, value) => value.is_none(),
            Self::CurrentMember(_, value) => value.is_none(),
            Self::RegularExpression(_, value) => value.is_none(),
            Self::Other(_) => false,
        }
    }

    /// The group it is about, if it is of a kind that is known.
    pub fn group(&self) -> Option<&Str> {
        match self {
            Self::Offset(key, _) => Some(&key.group),
            Self::Group(group, _)
            | Self::ConsumerGroup(group, _)
            | Self::ConsumerTopics(group, _)
            | Self::TargetEpoch(group, _) => Some(group),
            Self::ConsumerMember(key, _)
            | Self::TargetMember(key, _)
            | Self::CurrentMember(key, _) => Some(&key.group),
            Self::RegularExpression(key, _) => Some(&key.group),
            Self::Other(_) => None,
        }
    }
}

/// The next text of a key.
fn text(key: &mut Reader) -> Result<Str, Malformed> {
    Ok(kept(&key.string(Form::Classic)?))
}

fn member_key(key: &mut Reader) -> Result<MemberKey, Malformed> {
    Ok(MemberKey { group: text(key)?, member: text(key)? })
}

/// The value of a consumer group's record, if it is no tombstone.
fn read<T>(
    value: Option<Bytes>,
    fields: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    value.map(|value| consumer::decode(value, fields)).transpose()
}

/// A copy of a text that does not hold on to the frame or batch it came in.
pub fn kept(text: &Str) -> Str {
    Str::from_string(text.to_string())
}

/// A version whose form is known: its number goes first.
fn version_of(input: &mut Reader, compact_from: i16) -> Result<Version, Malformed> {
    let number = input.i16()?;
    if (0..=VALUE_VERSION_MAX).contains(&number) {
        Ok(Version::new(number, compact_from))
    } else {
        Err(Malformed::new("a group record's value has an unknown version"))
    }
}

fn encode_offset_key(key: &OffsetKey) -> Bytes {
    let mut out = Writer::new();
    out.i16(KEY_OFFSET);
    out.string(Form::Classic, Some(&key.group));
    out.string(Form::Classic, Some(&key.topic));
    out.i32(key.partition);
    out.into_bytes()
}

fn encode_offset(value: &OffsetValue) -> Bytes {
    // An expiry of its own exists in version 1 alone, which has no leader epoch.
    let number = if value.expires_at_ms.is_some() { OFFSET_WITH_EXPIRY } else { OFFSET_COMPACT };
    let Version { number, form } = Version::new(number, OFFSET_COMPACT);
    let mut out = Writer::new();
    out.i16(number);
    out.i64(value.offset);
    if number >= OFFSET_WITH_EPOCH {
        out.i32(value.leader_epoch.map_or(-1, LeaderEpoch::to_wire));
    }
    out.string(form, Some(&value.metadata));
    out.i64(value.committed_at_ms);
    if let Some(expires_at_ms) = value.expires_at_ms {
        out.i64(expires_at_ms);
    }
    if form == Form::Compact {
        match value.topic_id {
            Some(id) => {
                out.uvarint(1);
                out.tag(0, |inner| inner.raw(&id.to_wire()));
            }
            None => out.uvarint(0),
        }
    }
    out.into_bytes()
}

fn decode_offset(value: Bytes) -> Result<OffsetValue, Malformed> {
    let mut input = Reader::new(value, ELEMENTS_MAX);
    let Version { number, form } = version_of(&mut input, OFFSET_COMPACT)?;
    let offset = input.i64()?;
    let epoch = if number >= OFFSET_WITH_EPOCH { input.i32()? } else { -1 };
    let metadata = kept(&input.string(form)?);
    let committed_at_ms = input.i64()?;
    let expires_at_ms = if number == OFFSET_WITH_EXPIRY { input.i64()? } else { -1 };
    let mut topic_id = None;
    if form == Form::Compact {
        input.tags(|tag, inner| {
            if tag == 0 {
                topic_id = Uuid::from_wire(inner.uuid()?);
            }
            Ok(())
        })?;
    }
    Ok(OffsetValue {
        offset,
        leader_epoch: LeaderEpoch::from_wire(epoch),
        metadata,
        committed_at_ms,
        expires_at_ms: (expires_at_ms != -1).then_some(expires_at_ms),
        topic_id,
    })
}

fn encode_group(value: &GroupValue) -> Bytes {
    let form = Form::Classic;
    let mut out = Writer::new();
    out.i16(GROUP_WRITTEN);
    out.string(form, Some(value.protocol_type.as_deref().unwrap_or_default()));
    out.i32(value.generation);
    out.string(form, value.protocol.as_deref());
    out.string(form, value.leader.as_deref());
    out.i64(value.state_since.map_or(-1, Timestamp::to_wire));
    out.length(form, Some(value.members.len()));
    for member in &value.members {
        out.string(form, Some(&member.id));
        out.string(form, member.instance.as_deref());
        out.string(form, Some(&member.client_id));
        out.string(form, Some(&member.client_host));
        out.i32(member.rebalance_timeout_ms);
        out.i32(member.session_timeout_ms);
        out.nullable_bytes(form, Some(&member.subscription));
        out.nullable_bytes(form, Some(&member.assignment));
    }
    out.into_bytes()
}

fn decode_group(value: Bytes) -> Result<GroupValue, Malformed> {
    let mut input = Reader::new(value, ELEMENTS_MAX);
    let version = version_of(&mut input, GROUP_COMPACT)?;
    let Version { number, form } = version;
    let protocol_type = kept(&input.string(form)?);
    let generation = input.i32()?;
    let protocol = input.nullable_string(form)?.as_ref().map(kept);
    let leader = input.nullable_string(form)?.as_ref().map(kept);
    let state_since = if number >= 2 { Timestamp::from_wire(input.i64()?) } else { None };
    let members = input
        .nullable_array(form, 9, |input| decode_member(input, version))?
        .ok_or(Malformed::new("a group's members are null"))?;
    if form == Form::Compact {
        input.skip_tags()?;
    }
    let protocol_type = (!protocol_type.is_empty()).then_some(protocol_type);
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_since, members })
}

fn decode_member(input: &mut Reader, version: Version) -> Result<MemberValue, Malformed> {
    let Version { number, form } = version;
    let id = kept(&input.string(form)?);
    let instance = if number >= 3 { input.nullable_string(form)? } else { None };
    let client_id = kept(&input.string(form)?);
    let client_host = kept(&input.string(form)?);
    let rebalance_timeout_ms = if number >= 1 { input.i32()? } else { -1 };
    let session_timeout_ms = input.i32()?;
    let bytes = |input: &mut Reader| {
        let bytes = input.nullable_bytes(form)?;
        bytes.map(|bytes| Bytes::copy_from_slice(&bytes)).ok_or(Malformed::new("null bytes"))
    };
    let member = MemberValue {
        id,
        instance: instance.as_ref().map(kept),
        client_id,
        client_host,
        // Before version 1 a rebalance waited as long as a session lasts.
        rebalance_timeout_ms: match rebalance_timeout_ms {
            -1 => session_timeout_ms,
            given => given,
        },
        session_timeout_ms,
        subscription: bytes(input)?,
        assignment: bytes(input)?,
    };
    if form == Form::Compact {
        input.skip_tags()?;
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Str {
        Str::from_static_str(text)
    }

    fn offset_key() -> OffsetKey {
        OffsetKey { group: text("g"), topic: text("tp"), partition: 3 }
    }

    fn offset_value() -> OffsetValue {
        OffsetValue {
            offset: 42,
            leader_epoch: Some(LeaderEpoch::new(7)),
            metadata: text("m"),
            committed_at_ms: 1000,
            expires_at_ms: None,
            topic_id: None,
        }
    }

    fn group_value() -> GroupValue {
        GroupValue {
            protocol_type: Some(text("consumer")),
            generation: 5,
            protocol: Some(text("range")),
            leader: Some(text("a")),
            state_since: Some(Timestamp::from_millis(9)),
            members: vec![MemberValue {
                id: text("a"),
                instance: Some(text("i")),
                client_id: text("c"),
                client_host: text("/127.0.0.1"),
                rebalance_timeout_ms: 60_000,
                session_timeout_ms: 10_000,
                subscription: Bytes::from_static(&[1, 2]),
                assignment: Bytes::from_static(&[3]),
            }],
        }
    }

    #[test]
    fn groups_fall_on_the_partitions_that_java_gives_them() {
        // Made with `Math.abs(id.hashCode()) % 50` and Kafka's rule for the smallest number.
        let cases =
            [("", 0), ("a", 47), ("my-group", 12), ("polygenelubricants", 0), ("\u{1f600}", 49)];
        for (group, partition) in cases {
            assert_eq!(partition_of(group, 50), partition, "{group}");
        }
        assert_eq!(partition_of("anything", 1), 0);
    }

    #[test]
    fn an_offset_is_written_byte_for_byte_as_by_kafka() {
        let (key, value) = Record::Offset(offset_key(), Some(offset_value())).encode().unwrap();
        assert_eq!(&key[..], b"\x00\x01\x00\x01g\x00\x02tp\x00\x00\x00\x03");
        let mut expected = vec![0, 4];
        expected.extend(42i64.to_be_bytes());
        expected.extend(7i32.to_be_bytes());
        expected.extend([2, b'm']);
        expected.extend(1000i64.to_be_bytes());
        expected.push(0);
        assert_eq!(value.unwrap(), expected);

        let with_expiry = OffsetValue { expires_at_ms: Some(2000), ..offset_value() };
        let (_, value) = Record::Offset(offset_key(), Some(with_expiry)).encode().unwrap();
        let mut expected = vec![0, 1];
        expected.extend(42i64.to_be_bytes());
        expected.extend([0, 1, b'm']);
        expected.extend(1000i64.to_be_bytes());
        expected.extend(2000i64.to_be_bytes());
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn records_are_those_that_kafka_makes_of_the_same_values() {
        // From the record helpers and the serializer of Apache Kafka 4.3.1.
        let with_id = OffsetValue { topic_id: Some(Uuid::from_halves(1, 2)), ..offset_value() };
        let bare = OffsetValue { leader_epoch: None, metadata: Str::default(), ..offset_value() };
        let empty =
            GroupValue { state_since: Some(Timestamp::from_millis(9)), ..GroupValue::default() };
        let group = |value| Record::Group(text("g"), Some(value));
        let cases = [
            (
                Record::Offset(offset_key(), Some(with_id)),
                "0004000000000000002a00000007026d00000000000003e8\
                 01001000000000000000010000000000000002",
            ),
            (
                Record::Offset(offset_key(), Some(bare)),
                "0004000000000000002affffffff0100000000000003e800",
            ),
            (
                group(group_value()),
                "00030008636f6e73756d657200000005000572616e6765000161000000000000000900000001\
                 000161000169000163000a2f3132372e302e302e310000ea6000002710\
                 00000002010200000001\
                 03",
            ),
            (group(empty), "0003000000000000ffffffff000000000000000900000000"),
        ];
        for (record, expected) in cases {
            let (_, value) = record.encode().unwrap();
            let hex: String = value.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{record:?}");
        }
    }

    #[test]
    fn records_read_back_as_they_were_written() {
        let with_id = OffsetValue { topic_id: Some(Uuid::from_halves(1, 2)), ..offset_value() };
        let with_expiry =
            OffsetValue { expires_at_ms: Some(9), leader_epoch: None, ..offset_value() };
        let cases = [
            Record::Offset(offset_key(), Some(offset_value())),
            Record::Offset(offset_key(), Some(with_id)),
            Record::Offset(offset_key(), Some(with_expiry)),
            Record::Offset(offset_key(), None),
            Record::Group(text("g"), Some(group_value())),
            Record::Group(text("g"), Some(GroupValue::default())),
            Record::Group(text("g"), None),
        ];
        for record in cases {
            let (key, value) = record.encode().unwrap();
            assert_eq!(Record::decode(key, value), Ok(record));
        }
    }

    #[test]
    fn values_of_every_version_are_read() {
        let key = Record::Offset(offset_key(), None).encode().unwrap().0;
        for number in [0i16, 2, 3] {
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.extend(42i64.to_be_bytes());
            if number == 3 {
                bytes.extend(7i32.to_be_bytes());
            }
            bytes.extend([0, 1, b'm']);
            bytes.extend(1000i64.to_be_bytes());
            let epoch = (number == 3).then(|| LeaderEpoch::new(7));
            let expected = OffsetValue { leader_epoch: epoch, ..offset_value() };
            let read = Record::decode(key.clone(), Some(bytes.into()));
            assert_eq!(read, Ok(Record::Offset(offset_key(), Some(expected))), "v{number}");
        }
        let key = Record::Group(text("g"), None).encode().unwrap().0;
        // Version 0: neither timestamp, nor instance, nor rebalance timeout.
        let mut bytes = b"\x00\x00\x00\x08consumer\x00\x00\x00\x05\x00\x05range\x00\x01a".to_vec();
        bytes.extend(b"\x00\x00\x00\x01\x00\x01a\x00\x01c\x00\x0a/127.0.0.1");
        bytes.extend(10_000i32.to_be_bytes());
        bytes.extend(b"\x00\x00\x00\x02\x01\x02\x00\x00\x00\x01\x03");
        let mut expected = group_value();
        expected.state_since = None;
        expected.members[0].instance = None;
        expected.members[0].rebalance_timeout_ms = 10_000;
        let read = Record::decode(key.clone(), Some(bytes.into()));
        assert_eq!(read, Ok(Record::Group(text("g"), Some(expected))));
        // Version 4: the compact form.
        let mut bytes = b"\x00\x04\x09consumer\x00\x00\x00\x05\x06range\x02a".to_vec();
        bytes.extend(9i64.to_be_bytes());
        bytes.extend(b"\x02\x02a\x02i\x02c\x0b/127.0.0.1");
        bytes.extend(60_000i32.to_be_bytes());
        bytes.extend(10_000i32.to_be_bytes());
        bytes.extend(b"\x03\x01\x02\x02\x03\x00\x00");
        let read = Record::decode(key, Some(bytes.into()));
        assert_eq!(read, Ok(Record::Group(text("g"), Some(group_value()))));
    }

    #[test]
    fn unknown_keys_are_passed_over_and_broken_bytes_are_refused() {
        for kind in (9..16).chain(17..30) {
            let key = Bytes::from([&[0, kind], &b"\x00\x01g"[..]].concat());
            assert_eq!(Record::decode(key, None), Ok(Record::Other(i16::from(kind))));
            assert_eq!(Record::Other(i16::from(kind)).encode(), None);
        }
        let (key, value) = Record::Group(text("g"), Some(group_value())).encode().unwrap();
        let value = value.unwrap();
        for end in 0..value.len() {
            let cut = Record::decode(key.clone(), Some(value.slice(..end)));
            assert!(cut.is_err(), "a value cut at {end}");
        }
        for end in 0..key.len() {
            assert!(Record::decode(key.slice(..end), None).is_err(), "a key cut at {end}");
        }
        let newer = Bytes::from_static(b"\x00\x05aaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert!(Record::decode(key.clone(), Some(newer)).is_err());
        let mut huge = b"\x00\x03\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff".to_vec();
        huge.extend([0; 8]);
        huge.extend(i32::MAX.to_be_bytes());
        assert!(Record::decode(key, Some(huge.into())).is_err(), "members behind the end");
    }
}
