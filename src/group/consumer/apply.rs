//! Records of a consumer group, and what they make of it (`GroupMetadataManager.replay`).

use std::collections::BTreeMap;

use crate::group::consumer::member::{Current, Said, target_from};
use crate::group::consumer::{Consumer, EPOCH_NONE, Resolved, Subscribers, Subscribing};
use crate::group::record::{
    ConsumerMemberValue, CurrentMemberValue, Record, RegularExpressionValue, TargetMemberValue,
};
use crate::group::size;
use crate::protocol::Str;

impl Consumer {
    /// Applies a record of this group; those of other kinds change nothing.
    ///
    /// The tombstone of the group itself changes nothing either: whoever has the group drops it.
    pub(in crate::group) fn apply(&mut self, record: &Record) {
        match record {
            Record::ConsumerGroup(_, Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Record::ConsumerTopics(_, value) => self.has_old_topics = value.is_some(),
            Record::ConsumerMember(key, value) => self.apply_said(&key.member, value.as_ref()),
            Record::TargetEpoch(_, value) => {
                self.target_epoch = value.map_or(EPOCH_NONE, |value| value.epoch);
                self.target_at_ms = value.map_or(0, |value| value.assigned_at_ms);
            }
            Record::TargetMember(key, value) => self.apply_target(&key.member, value.as_ref()),
            Record::CurrentMember(key, value) => self.apply_current(&key.member, value.as_ref()),
            Record::RegularExpression(key, value) => {
                self.apply_expression(&key.expression, value.as_ref());
            }
            Record::ConsumerGroup(_, None)
            | Record::Offset(..)
            | Record::Group(..)
            | Record::Other(_) => {}
        }
    }

    fn apply_said(&mut self, id: &Str, value: Option<&ConsumerMemberValue>) {
        let Some(value) = value else {
            let Some(member) = self.members.remove(id) else { return };
            self.count_out(&member.said);
            self.contents_bytes -= member.current.size_bytes();
            self.release(&member.current);
            self.timers.remove(id);
            // One that came back under another id holds the instance now.
            if let Some(instance) = &member.said.instance
                && self.statics.get(instance) == Some(id)
            {
                self.statics.remove(instance);
            }
            return;
        };
        let said = Said::from_value(value);
        self.count_in(&said);
        if let Some(instance) = &said.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        let member = self.members.entry(id.clone()).or_default();
        let before = std::mem::replace(&mut member.said, said);
        self.count_out(&before);
    }

    fn apply_target(&mut self, id: &Str, value: Option<&TargetMemberValue>) {
        let before = match value.map(target_from) {
            Some(target) => {
                self.contents_bytes += size::of_target(&target);
                self.target.insert(id.clone(), target)
            }
            None => self.target.remove(id),
        };
        self.contents_bytes -= before.as_ref().map_or(0, size::of_target);
    }

    fn apply_current(&mut self, id: &Str, value: Option<&CurrentMemberValue>) {
        let current = match value {
            Some(value) => Current::from_value(value),
            None if !self.members.contains_key(id) => return,
            None => Current::left(),
        };
        let member = self.members.entry(id.clone()).or_default();
        let before = std::mem::replace(&mut member.current, current.clone());
        self.contents_bytes = self.contents_bytes + current.size_bytes() - before.size_bytes();
        self.release(&before);
        for at in current.partitions() {
            self.owners.insert(at, current.epoch);
        }
    }

    /// What a member had is free, unless another has it by now.
    fn release(&mut self, current: &Current) {
        for at in current.partitions() {
            if self.owners.get(&at) == Some(&current.epoch) {
                self.owners.remove(&at);
            }
        }
    }

    fn apply_expression(&mut self, expression: &Str, value: Option<&RegularExpressionValue>) {
        let resolved = value.map(|value| Resolved {
            topics: value.topics.iter().cloned().collect(),
            version: value.version,
            resolved_at_ms: value.resolved_at_ms,
        });
        let topics_of = |one: &Option<Resolved>| {
            one.as_ref().map_or(0, |resolved| size::of_texts(&resolved.topics))
        };
        self.contents_bytes += topics_of(&resolved);
        for topic in resolved.iter().flat_map(|resolved| &resolved.topics) {
            self.count_topic(topic, |count| count.by_expression += 1);
        }
        let before = match resolved {
            Some(resolved) => self.resolved.insert(expression.clone(), resolved),
            None => self.resolved.remove(expression),
        };
        self.contents_bytes -= topics_of(&before);
        for topic in before.iter().flat_map(|before| &before.topics) {
            self.count_topic(topic, |count| count.by_expression -= 1);
        }
    }

    fn count_in(&mut self, said: &Said) {
        self.contents_bytes += said.size_bytes();
        for topic in &said.topics {
            self.count_topic(topic, |count| count.by_name += 1);
        }
        count_up(&mut self.expressions, said.expression.as_ref());
        count_up(&mut self.assignors, said.assignor.as_ref());
        if let Some(classic) = &said.classic {
            self.classic_count += 1;
            count_up(&mut self.classic_protocols, classic.protocols.iter().map(|one| &one.name));
        }
    }

    fn count_out(&mut self, said: &Said) {
        self.contents_bytes -= said.size_bytes();
        for topic in &said.topics {
            self.count_topic(topic, |count| count.by_name -= 1);
        }
        count_down(&mut self.expressions, said.expression.as_ref());
        count_down(&mut self.assignors, said.assignor.as_ref());
        if let Some(classic) = &said.classic {
            self.classic_count -= 1;
            count_down(&mut self.classic_protocols, classic.protocols.iter().map(|one| &one.name));
        }
    }

    fn count_topic(&mut self, topic: &Str, change: impl FnOnce(&mut Subscribers)) {
        let count = self.topics.entry(topic.clone()).or_default();
        let was_none = *count == Subscribers::default();
        change(count);
        if was_none {
            self.subscription_changes.push((topic.clone(), Subscribing::Begins));
        } else if *count == Subscribers::default() {
            self.topics.remove(topic);
            self.subscription_changes.push((topic.clone(), Subscribing::Ends));
        }
    }
}

fn count_up<'a>(counts: &mut BTreeMap<Str, usize>, names: impl IntoIterator<Item = &'a Str>) {
    for name in names {
        *counts.entry(name.clone()).or_default() += 1;
    }
}

fn count_down<'a>(counts: &mut BTreeMap<Str, usize>, names: impl IntoIterator<Item = &'a Str>) {
    for name in names {
        if let Some(count) = counts.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(name);
            }
        }
    }
}
