//! Steps that come to more than can be written: they are taken back.
//!
//! The records of a step are one batch, which the log bounds. A step applies what it writes at
//! once, so that it knows how much that is only at its end; until then it keeps the record that
//! takes each one back. (Apache Kafka keeps snapshots of everything for it, `SnapshotRegistry`.)
//!
//! What nobody asked for is taken back alone, so that what was asked for goes on. When it is tried
//! again is no part of a step: it stays.

use bytes::Bytes;

use crate::base::Instant;
use crate::group::consumer::member::{Said, target_value};
use crate::group::consumer::timers::Timers;
use crate::group::consumer::{Consumer, Look, Step, VERSION_NONE};
use crate::group::record::{
    ConsumerGroupValue, Record, RegularExpressionValue, TargetEpochValue, fit_together, kept,
};
use crate::protocol::{ErrorCode, Str};

/// What no record says, as it was before a step.
pub(super) struct Before {
    wake: Option<Instant>,
    refresh_at: Option<Instant>,
    /// Deadlines of the members that the step is about.
    timers: Vec<(Str, Option<Timers>)>,
    /// The instance that the step is about, and the member that holds it.
    instance: Option<(Str, Option<Str>)>,
}

/// How far a step was, and what no record says, before a part of it that is about one member.
pub(super) struct Mark {
    pub(super) records: usize,
    undo: usize,
    refresh_at: Option<Instant>,
    id: Str,
    timers: Option<Timers>,
}

impl Consumer {
    /// What [`Self::check_fits`] needs of the time before a step about these members.
    pub(super) fn before<'a>(
        &self,
        members: impl IntoIterator<Item = &'a Str>,
        instance: Option<&Str>,
    ) -> Before {
        let timers = |id: &Str| (id.clone(), self.timers.get(id).copied());
        Before {
            wake: self.wake,
            refresh_at: self.refresh_at,
            timers: members.into_iter().map(timers).collect(),
            instance: instance.map(|one| (one.clone(), self.statics.get(one).cloned())),
        }
    }

    /// Refuses what a member says of itself when one batch can not hold it, before anything follows
    /// from it.
    pub(super) fn check_said(
        &self,
        step: &Step<'_>,
        id: &Str,
        said: &Said,
    ) -> Result<(), ErrorCode> {
        if self.members.get(id).is_some_and(|member| member.said == *said) {
            return Ok(());
        }
        let record = Record::ConsumerMember(step.member_key(id), Some(said.to_value()));
        match fit_together(std::iter::once(&record), step.settings.batch_bytes_max) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownServerError),
        }
    }

    /// Refuses a step that comes to more than can be written, and takes it back: nobody but who
    /// asked for it notices. (The log would refuse its records, and all groups of the partition
    /// were to be loaded anew.)
    pub(super) fn check_fits(
        &mut self,
        step: &mut Step<'_>,
        before: Before,
    ) -> Result<(), ErrorCode> {
        if self.fits(step) {
            return Ok(());
        }
        self.take_back(step, 0, 0);
        step.downgrade = None;
        // Each topic it began to subscribe to it ended with again.
        self.subscription_changes.clear();
        self.wake = before.wake;
        self.refresh_at = before.refresh_at;
        for (id, timers) in before.timers {
            self.restore_timers(id, timers);
        }
        match before.instance {
            Some((instance, Some(holder))) => {
                self.statics.insert(kept(&instance), holder);
            }
            Some((instance, None)) => {
                self.statics.remove(&instance);
            }
            None => {}
        }
        // What Apache Kafka makes of its `RecordTooLargeException`.
        Err(ErrorCode::UnknownServerError)
    }

    /// What [`Self::take_back_to`] needs of the time before a part of a step.
    pub(super) fn mark(&self, step: &Step<'_>, id: &Str) -> Mark {
        Mark {
            records: step.records.len(),
            undo: step.undo.len(),
            refresh_at: self.refresh_at,
            id: id.clone(),
            timers: self.timers.get(id).copied(),
        }
    }

    /// Takes back what a step did since the mark. The group may wake earlier than needed.
    pub(super) fn take_back_to(&mut self, step: &mut Step<'_>, mark: Mark) {
        self.take_back(step, mark.records, mark.undo);
        self.refresh_at = mark.refresh_at;
        self.restore_timers(mark.id, mark.timers);
    }

    /// Takes back all but so many records, of which so many can be taken back.
    fn take_back(&mut self, step: &mut Step<'_>, records: usize, undo: usize) {
        for record in step.undo.split_off(undo).into_iter().rev() {
            self.apply(&record);
        }
        // What was matched in vain is not matched again at once.
        let look = Look { at_ms: step.now.wall.to_wire(), version: VERSION_NONE };
        for record in step.records.split_off(records) {
            if let Record::RegularExpression(key, Some(_)) = record
                && self.expressions.contains_key(&key.expression)
            {
                self.looks.insert(key.expression, look);
            }
        }
    }

    fn restore_timers(&mut self, id: Str, timers: Option<Timers>) {
        match timers {
            Some(timers) => {
                self.timers.insert(id, timers);
            }
            None => {
                self.timers.remove(&id);
            }
        }
    }

    /// Whether what a step comes to can be written: its records, and those of the group's way to
    /// the classic protocol, if it goes it.
    pub(super) fn fits(&self, step: &Step<'_>) -> bool {
        let mut others = Vec::new();
        if let Some(downgrade) = step.downgrade {
            others = self.tombstones(&step.id);
            let classic = self.to_classic(step.now.wall, step.image, downgrade);
            others.push(Record::Group(step.id.clone(), Some(downgrade.value(&classic))));
        }
        fit_together(step.records.iter().chain(&others), step.settings.batch_bytes_max)
    }

    /// The record that takes `record` back once it is applied; `None` if it changes nothing here.
    pub(super) fn inverse(&self, record: &Record) -> Option<Record> {
        match record {
            Record::ConsumerGroup(id, _) => {
                let (epoch, metadata_hash) = (self.epoch, self.metadata_hash);
                let value = ConsumerGroupValue { epoch, metadata_hash };
                Some(Record::ConsumerGroup(id.clone(), Some(value)))
            }
            Record::ConsumerTopics(id, _) => {
                let value = self.has_old_topics.then(Bytes::new);
                Some(Record::ConsumerTopics(id.clone(), value))
            }
            Record::ConsumerMember(key, _) => {
                let value = self.members.get(&key.member).map(|member| member.said.to_value());
                Some(Record::ConsumerMember(key.clone(), value))
            }
            Record::TargetEpoch(id, _) => {
                let (epoch, assigned_at_ms) = (self.target_epoch, self.target_at_ms);
                let value = TargetEpochValue { epoch, assigned_at_ms };
                Some(Record::TargetEpoch(id.clone(), Some(value)))
            }
            Record::TargetMember(key, _) => {
                let value = self.target.get(&key.member).map(target_value);
                Some(Record::TargetMember(key.clone(), value))
            }
            Record::CurrentMember(key, _) => {
                let value = self.members.get(&key.member).map(|member| member.current.to_value());
                Some(Record::CurrentMember(key.clone(), value))
            }
            Record::RegularExpression(key, _) => {
                let value = self.resolved.get(&key.expression).map(|resolved| {
                    let topics = resolved.topics.iter().cloned().collect();
                    let (version, resolved_at_ms) = (resolved.version, resolved.resolved_at_ms);
                    RegularExpressionValue { topics, version, resolved_at_ms }
                });
                Some(Record::RegularExpression(key.clone(), value))
            }
            Record::Offset(..) | Record::Group(..) | Record::Other(_) => None,
        }
    }
}
