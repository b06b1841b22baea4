//! What a group consumes, and who is to have which part of it.
//!
//! `ConsumerGroup`, `TargetAssignmentBuilder` and `TopicRegexResolver`, but expressions are
//! resolved within the step that brings them, so that its answer knows their topics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::Uuid;
use crate::group::consumer::assignor::{Assignment, Assignor, Member as Spec, Subscriptions};
use crate::group::consumer::member::{Member, Said, target_value};
use crate::group::consumer::reconcile::Reconciliation;
use crate::group::consumer::regex::TopicPattern;
use crate::group::consumer::{Consumer, Look, Step, VERSION_NONE, hash};
use crate::group::record::{
    ConsumerGroupValue, Record, RegularExpressionKey, RegularExpressionValue, TargetEpochValue,
    bytes_bound, fit_together,
};
use crate::metadata::Image;
use crate::protocol::Str;

/// Time after which a group looks at its topics even if nobody said that they changed, 24 days.
const METADATA_REFRESH: Duration = Duration::from_millis(i32::MAX as u64);

/// The least time between two looks for topics that match an expression, in milliseconds.
const EXPRESSIONS_REFRESH_MS_MIN: i64 = 10_000;

/// The least time between a target that could not be written and the next one.
const TARGET_RETRY_MIN: Duration = Duration::from_secs(1);

/// Hashes of topics, kept until the topics change.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct TopicHashes(BTreeMap<Str, i64>);

impl TopicHashes {
    /// The topic changed.
    pub(in crate::group) fn forget(&mut self, name: &Str) {
        self.0.remove(name);
    }

    fn of(&mut self, name: &Str, image: &Image) -> Option<i64> {
        if let Some(known) = self.0.get(name) {
            return Some(*known);
        }
        let hash = hash::topic_hash(image.topic_named(name)?, image);
        self.0.insert(name.clone(), hash);
        Some(hash)
    }
}

/// The version of an image, as it is on record with what was found in it.
pub(in crate::group) fn version_of(image: &Image) -> i64 {
    image.position().map_or(-1, |position| position.offset.to_wire())
}

/// The topics that match an expression now.
fn look_up(step: &Step<'_>, expression: &Str) -> RegularExpressionValue {
    // Members bring valid ones alone; a record may have one of another dialect.
    let parsed = TopicPattern::new(expression).ok();
    let matches = |name: &&str| parsed.as_ref().is_some_and(|one| one.matches(name));
    let names = step.image.topics().map(|topic| &*topic.name).filter(matches);
    let topics: Vec<Str> = names.map(|name| Str::from_string(name.to_owned())).collect();
    let (version, resolved_at_ms) = (version_of(step.image), step.now.wall.to_wire());
    RegularExpressionValue { topics, version, resolved_at_ms }
}

impl Consumer {
    /// The hash of the topics' metadata; 0 without topics.
    pub(super) fn hash_topics(&self, step: &mut Step<'_>) -> i64 {
        let mut hashes = Vec::new();
        for topic in self.topics.keys() {
            hashes.extend(step.hashes.of(topic, step.image).map(|hash| (&**topic, hash)));
        }
        hash::group_hash(hashes)
    }

    /// Deletes expressions that nobody subscribes to any more.
    pub(super) fn drop_unused_expressions(&mut self, step: &mut Step<'_>) {
        let is_unused = |expression: &&Str| !self.expressions.contains_key(*expression);
        let unused: Vec<Str> = self.resolved.keys().filter(is_unused).cloned().collect();
        for expression in unused {
            let key = RegularExpressionKey { group: step.id.clone(), expression };
            self.write(step, Record::RegularExpression(key, None));
        }
        let used = &self.expressions;
        self.looks.retain(|expression, _| used.contains_key(expression));
    }

    /// Looks up the topics of a new expression. Whether there are any.
    pub(super) fn resolve(&mut self, step: &mut Step<'_>, expression: Str) -> bool {
        let value = look_up(step, &expression);
        let has_topics = !value.topics.is_empty();
        self.looks.remove(&expression);
        let key = RegularExpressionKey { group: step.id.clone(), expression };
        self.write(step, Record::RegularExpression(key, Some(value)));
        has_topics
    }

    /// Looks up the topics of expressions again when there are new topics or it was long ago.
    /// Whether any expression has other topics now.
    ///
    /// Nobody asked for it, so no step becomes too large by it: those that are due the longest come
    /// first, and what does not fit waits for the next heartbeat. Topics that no batch holds are
    /// left as they were, and looked up again later.
    pub(super) fn refresh_expressions(&mut self, step: &mut Step<'_>) -> bool {
        let mut due = Vec::new();
        for expression in self.expressions.keys() {
            due.extend(self.due_since(step, expression).map(|at_ms| (at_ms, expression.clone())));
        }
        if due.is_empty() {
            return false;
        }
        due.sort_unstable();
        let bytes_max = step.settings.batch_bytes_max;
        // The other half is for what follows from it.
        let written = step.records.iter().map(bytes_bound).sum::<usize>();
        let mut left = (bytes_max / 2).saturating_sub(written);
        let mut has_changed = false;
        for (_, expression) in due {
            let value = look_up(step, &expression);
            let (at_ms, version) = (value.resolved_at_ms, value.version);
            let before = self.resolved.get(&expression);
            let is_same = match before {
                Some(before) => before.topics.iter().eq(&value.topics),
                None => value.topics.is_empty(),
            };
            if is_same && before.is_some() {
                self.looks.insert(expression, Look { at_ms, version });
                continue;
            }
            let key = RegularExpressionKey { group: step.id.clone(), expression };
            let expression = key.expression.clone();
            let record = Record::RegularExpression(key, Some(value));
            let bytes = bytes_bound(&record);
            if bytes > left && !step.records.is_empty() {
                break;
            }
            if bytes > left && !fit_together(std::iter::once(&record), bytes_max) {
                self.looks.insert(expression, Look { at_ms, version: VERSION_NONE });
                continue;
            }
            left = left.saturating_sub(bytes);
            self.looks.remove(&expression);
            self.write(step, record);
            has_changed |= !is_same;
        }
        has_changed
    }

    /// When the topics of an expression were last looked up, if that is to be done again.
    fn due_since(&self, step: &Step<'_>, expression: &Str) -> Option<i64> {
        let resolved = self.resolved.get(expression);
        let on_record =
            resolved.map(|one| Look { at_ms: one.resolved_at_ms, version: one.version });
        let look = self.looks.get(expression).copied().or(on_record);
        let Some(Look { at_ms, version }) = look else { return Some(i64::MIN) };
        let age_ms = step.now.wall.to_wire().saturating_sub(at_ms);
        let interval = step.settings.consumer.regex_refresh_interval.as_millis();
        // The clock was put back: how old it is, is unknown.
        let is_ahead = age_ms < 0;
        let has_new_topics = version < step.topics_version;
        let is_old = || i128::from(age_ms) > i128::try_from(interval).unwrap_or(i128::MAX);
        let is_due =
            is_ahead || age_ms > EXPRESSIONS_REFRESH_MS_MIN && (has_new_topics || is_old());
        is_due.then_some(at_ms)
    }

    /// Raises the group's epoch if its subscription changed, or the topics did.
    pub(super) fn refresh_metadata(&mut self, step: &mut Step<'_>, is_changed: bool) {
        let is_due = self.refresh_at.is_none_or(|at| at <= step.now.instant);
        if !is_changed && !is_due {
            return;
        }
        let hash = self.hash_topics(step);
        if is_changed || hash != self.metadata_hash {
            self.bump(step, hash);
        }
        self.refresh_at = Some(step.now.instant + METADATA_REFRESH);
        if self.has_old_topics {
            let record = Record::ConsumerTopics(step.id.clone(), None);
            self.write(step, record);
        }
    }

    pub(super) fn write_epoch(&mut self, step: &mut Step<'_>, epoch: i32, metadata_hash: i64) {
        let value = ConsumerGroupValue { epoch, metadata_hash };
        let record = Record::ConsumerGroup(step.id.clone(), Some(value));
        self.write(step, record);
    }

    /// Makes a target assignment of the group's epoch if there is none, and it is not too soon
    /// after the last. Whether it made one.
    pub(super) fn update_target(&mut self, step: &mut Step<'_>) -> bool {
        if self.target_epoch >= self.epoch || !self.may_assign(step) {
            return false;
        }
        for (id, assignment) in self.assign(step) {
            if self.target.get(&id) != Some(&assignment) {
                let key = step.member_key(&id);
                self.write(step, Record::TargetMember(key, Some(target_value(&assignment))));
            }
        }
        let assigned_at_ms = step.now.wall.to_wire();
        let value = TargetEpochValue { epoch: self.epoch, assigned_at_ms };
        let record = Record::TargetEpoch(step.id.clone(), Some(value));
        self.write(step, record);
        true
    }

    /// A target could not be written: the next one, most likely as large, is made later.
    pub(super) fn put_off_target(&mut self, step: &Step<'_>) {
        let interval_ms = step.config.assignment_interval_ms(step.settings);
        let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or_default());
        self.assign_at = Some(step.now.instant + interval.max(TARGET_RETRY_MIN));
    }

    fn may_assign(&self, step: &Step<'_>) -> bool {
        if self.assign_at.is_some_and(|at| at > step.now.instant) {
            return false;
        }
        let interval_ms = i64::from(step.config.assignment_interval_ms(step.settings));
        // Neither a clock that was set back nor a record from the future may stop the group.
        let age_ms = step.now.wall.to_wire().saturating_sub(self.target_at_ms);
        age_ms >= interval_ms || age_ms < 0
    }

    /// The assignor most members ask for; without any, the first of the settings.
    pub(super) fn assignor(&self, settings: &crate::group::Settings) -> Assignor {
        let known = |name: &Str| Assignor::from_name(name);
        let asked = self.assignors.iter().filter(|(name, _)| known(name).is_some());
        let most = asked.max_by_key(|(_, count)| **count).and_then(|(name, _)| known(name));
        let first = || settings.consumer.assignors.iter().find_map(known);
        most.or_else(first).unwrap_or(Assignor::Uniform)
    }

    fn assign(&self, step: &Step<'_>) -> Vec<(Str, Assignment)> {
        let mut topics =
            SubscribedTopics { group: self, image: step.image, known: BTreeMap::new() };
        for member in self.members.values() {
            topics.look_up(&member.said);
        }
        let nothing = Assignment::new();
        let spec = |(id, member)| -> Spec<'_> {
            let (id, member): (&Str, &Member) = (id, member);
            Spec {
                id,
                instance: member.said.instance.as_deref(),
                topics: topics.of(&member.said),
                target: self.target.get(id).unwrap_or(&nothing),
            }
        };
        let specs: Vec<Spec<'_>> = self.members.iter().map(spec).collect();
        let mut counts = BTreeMap::new();
        for topic in topics.known.values().flatten() {
            let count = step.image.topic(*topic).map_or(0, |topic| topic.partitions.len());
            counts.insert(*topic, i32::try_from(count).unwrap_or(i32::MAX));
        }
        let assignor = self.assignor(step.settings);
        match assignor.assign(&specs, Subscriptions::of(&specs), &counts) {
            Ok(all) => self.members.keys().cloned().zip(all).collect(),
            Err(_unknown) => unreachable!("every topic was counted"),
        }
    }

    /// The topics a member subscribes to, by name or expression, that exist; in ascending order.
    fn subscribed_ids(&self, said: &Said, image: &Image) -> Vec<Uuid> {
        let resolved = said.expression.as_ref().and_then(|one| self.resolved.get(one));
        let names = said.topics.iter().chain(resolved.iter().flat_map(|one| &one.topics));
        let ids: BTreeSet<Uuid> =
            names.filter_map(|name| image.topic_named(name)).map(|topic| topic.id).collect();
        ids.into_iter().collect()
    }

    /// Takes a member on towards its target. Whether it has other partitions now.
    pub(super) fn reconcile(
        &mut self,
        step: &mut Step<'_>,
        id: &Str,
        subscription_changed: bool,
        owned: Option<&[(Uuid, Vec<i32>)]>,
    ) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        if !subscription_changed && member.current.is_reconciled_to(self.target_epoch) {
            return false;
        }
        let subscribed = self.subscribed_ids(&member.said, step.image);
        let nothing = Assignment::new();
        let reconciliation = Reconciliation {
            current: &member.current,
            target_epoch: self.target_epoch,
            target: self.target.get(id).unwrap_or(&nothing),
            subscribed: &subscribed,
            subscription_changed,
            owned,
            is_owned: &|topic, partition| self.is_owned(topic, partition),
        };
        let Some(next) = reconciliation.next() else { return false };
        let is_reassigned = next.assigned != member.current.assigned;
        let record = Record::CurrentMember(step.member_key(id), Some(next.to_value()));
        self.write(step, record);
        self.time_rebalance(step, id);
        is_reassigned
    }
}

/// The existing topics of subscriptions; members with the same subscription share the look.
struct SubscribedTopics<'a> {
    group: &'a Consumer,
    image: &'a Image,
    known: BTreeMap<(&'a BTreeSet<Str>, Option<&'a Str>), Vec<Uuid>>,
}

impl<'a> SubscribedTopics<'a> {
    fn look_up(&mut self, said: &'a Said) {
        let ids = || self.group.subscribed_ids(said, self.image);
        self.known.entry((&said.topics, said.expression.as_ref())).or_insert_with(ids);
    }

    fn of(&self, said: &'a Said) -> &[Uuid] {
        self.known.get(&(&said.topics, said.expression.as_ref())).map_or(&[], Vec::as_slice)
    }
}
