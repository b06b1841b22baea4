//! What records come to when they are written together, as one batch.

use bytes::Bytes;

use crate::group::record::{
    ConsumerMemberValue, CurrentMemberValue, GroupValue, MemberKey, Record, TargetMemberValue,
};
use crate::protocol::Str;
use crate::protocol::batch::HEADER_BYTES;
use crate::protocol::builder::{BatchBuilder, NewRecord};

/// Bytes of a record beside its texts, bytes and arrays, at most.
const RECORD_BYTES: usize = 128;
/// Bytes of an element of an array beside its texts, bytes and numbers, at most.
const ELEMENT_BYTES: usize = 48;
/// Bytes of a text's length, at most.
const LENGTH_BYTES: usize = 5;
/// Bytes of a partition's number or an epoch.
const NUMBER_BYTES: usize = 4;

/// Whether a batch of `bytes_max` bytes holds these records, without compression.
pub fn fit_together<'a>(
    records: impl Iterator<Item = &'a Record> + Clone,
    bytes_max: usize,
) -> bool {
    // Encoding them costs more than this, and few come near the limit.
    let bound = HEADER_BYTES + records.clone().map(bytes_bound).sum::<usize>();
    if bound <= bytes_max {
        return true;
    }
    let mut builder = BatchBuilder::new();
    records.filter_map(Record::encode).all(|(key, value)| {
        let (key, value) = (Some(&key[..]), value.as_deref());
        builder.append(&NewRecord { timestamp: 0, key, value, headers: &[] });
        builder.size_bytes() <= bytes_max
    })
}

/// How many of these records, from the first one on, a batch of `bytes_max` bytes holds for sure;
/// one at least, if there is any.
pub fn count_together(records: &[Record], bytes_max: usize) -> usize {
    let mut left = bytes_max.saturating_sub(HEADER_BYTES);
    let mut count = 0;
    for record in records {
        let bytes = bytes_bound(record);
        if bytes > left && count > 0 {
            break;
        }
        left = left.saturating_sub(bytes);
        count += 1;
    }
    count
}

/// What a tombstone whose key has these two texts takes up in a batch, or somewhat more.
pub fn tombstone_bytes_bound(first: &str, second: &str) -> usize {
    RECORD_BYTES + first.len() + second.len()
}

/// What a record takes up in a batch, or somewhat more.
pub fn bytes_bound(record: &Record) -> usize {
    let (key, value) = match record {
        Record::Offset(key, value) => {
            let metadata = value.as_ref().map_or(0, |value| value.metadata.len());
            (key.group.len() + key.topic.len(), metadata)
        }
        Record::Group(group, value) => (group.len(), value.as_ref().map_or(0, of_group)),
        Record::ConsumerGroup(group, _) | Record::TargetEpoch(group, _) => (group.len(), 0),
        Record::ConsumerTopics(group, value) => (group.len(), value.as_ref().map_or(0, Bytes::len)),
        Record::ConsumerMember(key, value) => (of_key(key), value.as_ref().map_or(0, of_member)),
        Record::TargetMember(key, value) => (of_key(key), value.as_ref().map_or(0, of_target)),
        Record::CurrentMember(key, value) => (of_key(key), value.as_ref().map_or(0, of_current)),
        Record::RegularExpression(key, value) => {
            let topics = value.as_ref().map_or(0, |value| of_texts(&value.topics));
            (key.group.len() + key.expression.len(), topics)
        }
        Record::Other(_) => (0, 0),
    };
    RECORD_BYTES + key + value
}

fn of_key(key: &MemberKey) -> usize {
    key.group.len() + key.member.len()
}

fn of_texts<'a>(texts: impl IntoIterator<Item = &'a Str>) -> usize {
    texts.into_iter().map(|text| LENGTH_BYTES + text.len()).sum()
}

fn of_group(value: &GroupValue) -> usize {
    let texts = [&value.protocol_type, &value.protocol, &value.leader];
    let members = value.members.iter().map(|member| {
        let texts = [&member.id, &member.client_id, &member.client_host];
        let texts = of_texts(texts.into_iter().chain(&member.instance));
        ELEMENT_BYTES + texts + member.subscription.len() + member.assignment.len()
    });
    of_texts(texts.into_iter().flatten()) + members.sum::<usize>()
}

fn of_member(value: &ConsumerMemberValue) -> usize {
    let optional = [&value.instance, &value.rack, &value.expression, &value.assignor];
    let texts = [&value.client_id, &value.client_host].into_iter();
    let texts = of_texts(texts.chain(optional.into_iter().flatten()).chain(&value.topics));
    let protocols = value.classic.iter().flat_map(|classic| &classic.protocols);
    let protocols = protocols.map(|one| ELEMENT_BYTES + one.name.len() + one.metadata.len());
    texts + protocols.sum::<usize>()
}

fn of_target(value: &TargetMemberValue) -> usize {
    let topics = value.topics.iter();
    topics.map(|topic| ELEMENT_BYTES + NUMBER_BYTES * topic.partitions.len()).sum()
}

fn of_current(value: &CurrentMemberValue) -> usize {
    let topics = value.assigned.iter().chain(&value.revoking);
    let count = topics.clone().map(|topic| topic.partitions.len() + topic.epochs.len());
    NUMBER_BYTES * count.sum::<usize>() + ELEMENT_BYTES * topics.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, Timestamp, Uuid};
    use crate::group::record::{
        ClassicMemberValue, ClassicProtocolValue, ConsumerGroupValue, CurrentTopicValue,
        MemberValue, OffsetKey, OffsetValue, RegularExpressionKey, RegularExpressionValue,
        TargetEpochValue, TargetTopicValue,
    };

    /// Records of every kind, whose texts have this length and arrays this many elements.
    fn records(length: usize, count: usize) -> Vec<Record> {
        let text = || Str::from_string("x".repeat(length));
        let texts = || vec![text(); count];
        let bytes = || Bytes::from(vec![1_u8; length]);
        let numbers = || vec![i32::MAX; count];
        let topic = Uuid::from_halves(1, 2);
        let key = || MemberKey { group: text(), member: text() };
        let expression = RegularExpressionKey { group: text(), expression: text() };
        let offset = OffsetKey { group: text(), topic: text(), partition: 9 };
        let offset_value = OffsetValue {
            offset: 1 << 40,
            leader_epoch: Some(LeaderEpoch::new(3)),
            metadata: text(),
            committed_at_ms: 1 << 40,
            expires_at_ms: None,
            topic_id: Some(topic),
        };
        let expiring = OffsetValue { expires_at_ms: Some(1 << 41), ..offset_value.clone() };
        let member = MemberValue {
            id: text(),
            instance: Some(text()),
            client_id: text(),
            client_host: text(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            subscription: bytes(),
            assignment: bytes(),
        };
        let group = GroupValue {
            protocol_type: Some(text()),
            generation: 5,
            protocol: Some(text()),
            leader: Some(text()),
            state_since: Some(Timestamp::from_millis(1 << 40)),
            members: vec![member; count],
        };
        let protocol = ClassicProtocolValue { name: text(), metadata: bytes() };
        let protocols = vec![protocol; count];
        let said = ConsumerMemberValue {
            instance: Some(text()),
            rack: Some(text()),
            client_id: text(),
            client_host: text(),
            topics: texts(),
            expression: Some(text()),
            rebalance_timeout_ms: 300_000,
            assignor: Some(text()),
            classic: Some(ClassicMemberValue { session_timeout_ms: 45_000, protocols }),
        };
        let target = TargetTopicValue { topic, partitions: numbers() };
        let current = CurrentTopicValue { topic, partitions: numbers(), epochs: numbers() };
        let current = CurrentMemberValue {
            epoch: 5,
            previous_epoch: 4,
            state: 1,
            assigned: vec![current.clone(); count],
            revoking: vec![current; count],
        };
        let epoch = ConsumerGroupValue { epoch: 7, metadata_hash: -2 };
        let target_epoch = TargetEpochValue { epoch: 9, assigned_at_ms: 1 << 40 };
        let matched =
            RegularExpressionValue { topics: texts(), version: 11, resolved_at_ms: 1 << 40 };
        vec![
            Record::Offset(offset.clone(), Some(offset_value)),
            Record::Offset(offset.clone(), Some(expiring)),
            Record::Offset(offset, None),
            Record::Group(text(), Some(group)),
            Record::Group(text(), None),
            Record::ConsumerGroup(text(), Some(epoch)),
            Record::ConsumerTopics(text(), Some(bytes())),
            Record::ConsumerMember(key(), Some(said)),
            Record::ConsumerMember(key(), None),
            Record::TargetEpoch(text(), Some(target_epoch)),
            Record::TargetMember(key(), Some(TargetMemberValue { topics: vec![target; count] })),
            Record::CurrentMember(key(), Some(current)),
            Record::RegularExpression(expression, Some(matched)),
        ]
    }

    #[test]
    fn records_are_counted_until_a_batch_is_full() {
        let all = records(300, 1);
        for bytes_max in [0, 1000, 2000, 3000, 1 << 20] {
            let count = count_together(&all, bytes_max);
            assert!((1..=all.len()).contains(&count));
            let fits = fit_together(all[..count].iter(), bytes_max);
            assert!(fits || count == 1, "{count} in {bytes_max}");
        }
        assert_eq!(count_together(&all, 1 << 20), all.len());
        assert_eq!(count_together(&[], 1 << 20), 0);
    }

    fn batch_bytes(records: &[Record]) -> usize {
        let mut builder = BatchBuilder::new();
        for (key, value) in records.iter().filter_map(Record::encode) {
            let (timestamp, value) = (1_700_000_000_000, value.as_deref());
            builder.append(&NewRecord { timestamp, key: Some(&key), value, headers: &[] });
        }
        builder.build().expect("builds").len()
    }

    #[test]
    fn records_fit_into_a_batch_of_the_size_they_have_and_into_none_that_is_smaller() {
        for (length, count) in [(0, 0), (1, 1), (3, 0), (0, 3), (300, 200), (20_000, 2)] {
            let all = records(length, count);
            let each = all.chunks(1).chain([&all[..], &[]]);
            for some in each {
                let size_bytes = batch_bytes(some);
                assert!(fit_together(some.iter(), size_bytes), "{length} {count}: {some:?}");
                let is_empty = some.is_empty();
                assert_eq!(fit_together(some.iter(), size_bytes - 1), is_empty, "{some:?}");
                let bound = HEADER_BYTES + some.iter().map(bytes_bound).sum::<usize>();
                assert!(bound >= size_bytes, "{length} {count}: {bound} {some:?}");
            }
        }
    }
}
