//! What admins ask: which groups there are, what they are like, to forget them.

use std::collections::BTreeSet;

use crate::group::classic::State;
use crate::group::consumer::State as ConsumerState;
use crate::group::coordinator::{Coordinator, Effect, Failing, Kind, Write};
use crate::group::message::{Answer, Describe, Described, List, Listed, Ticket};
use crate::group::record::{Record, fit_together, kept};
use crate::protocol::{ErrorCode, Str};

/// The types' names of groups of the two protocols.
const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

/// The state's name of groups that are none.
const DEAD: &str = "Dead";

/// The version of DescribeGroups from which an unknown group is an error.
const VERSION_UNKNOWN_GROUP: i16 = 6;

/// The states' names of groups of both protocols.
const STATES: [&str; 6] = [
    State::Empty.name(),
    State::PreparingRebalance.name(),
    State::CompletingRebalance.name(),
    State::Stable.name(),
    ConsumerState::Assigning.name(),
    ConsumerState::Reconciling.name(),
];

impl List {
    /// What a request asks for, in any case of letters. Texts that name no state or type are not
    /// kept, however many there are: they match nothing.
    pub fn of(states: &[Str], types: &[Str]) -> Self {
        Self { states: known(states, &STATES), types: known(types, &[CLASSIC, CONSUMER]) }
    }
}

fn known(asked: &[Str], names: &[&'static str]) -> Vec<Str> {
    let is_asked = |name: &&&str| asked.iter().any(|one| one.trim().eq_ignore_ascii_case(name));
    let mut found: Vec<Str> =
        names.iter().filter(is_asked).map(|name| Str::from_static_str(name)).collect();
    if found.is_empty() && !asked.is_empty() {
        found.push(Str::from_static_str("none of them"));
    }
    found
}

impl Coordinator {
    pub(super) fn list(&self, list: &List) -> Vec<Listed> {
        let has = |filter: &[Str], name: &str| {
            filter.is_empty() || filter.iter().any(|one| **one == *name)
        };
        let listed = |id: &Str, kind: &Kind| match kind {
            Kind::Classic(classic) => Listed {
                group: id.clone(),
                protocol_type: classic.protocol_type().cloned().unwrap_or_default(),
                state: classic.state().name(),
                kind: CLASSIC,
            },
            Kind::Consumer(consumer) => Listed {
                group: id.clone(),
                protocol_type: Str::from_static_str(CONSUMER),
                state: consumer.state().name(),
                kind: CONSUMER,
            },
        };
        let all = self.groups.iter().map(|(id, group)| listed(id, &group.kind));
        all.filter(|one| has(&list.types, one.kind) && has(&list.states, one.state)).collect()
    }

    pub(super) fn describe(&self, describe: &Describe) -> Vec<Described> {
        let one = |id: &Str| {
            let message = match self.groups.get(id).map(|group| &group.kind) {
                Some(Kind::Classic(classic)) => return classic.describe(id),
                Some(Kind::Consumer(_)) => format!("Group {id} is not a classic group."),
                None => format!("Group {id} not found."),
            };
            if describe.version < VERSION_UNKNOWN_GROUP {
                return Described { state: DEAD, ..Described::refused(ErrorCode::None, id) };
            }
            let refused = Described::refused(ErrorCode::GroupIdNotFound, id);
            Described { state: DEAD, message: Some(message), ..refused }
        };
        describe.groups.iter().map(one).collect()
    }

    pub(super) fn delete(&mut self, ticket: Ticket, groups: &[Str], effects: &mut Vec<Effect>) {
        let mut results = Vec::new();
        let mut gone: BTreeSet<&Str> = BTreeSet::new();
        let mut records = Vec::new();
        for id in groups {
            // Named again, it is gone already.
            let group = self.groups.get(id).filter(|_| !gone.contains(id));
            let is_empty = group.map(|group| match &group.kind {
                Kind::Classic(classic) => classic.state() == State::Empty,
                Kind::Consumer(consumer) => consumer.state() == ConsumerState::Empty,
            });
            let error = match is_empty {
                None => ErrorCode::GroupIdNotFound,
                Some(true) => ErrorCode::None,
                Some(false) => ErrorCode::NonEmptyGroup,
            };
            results.push((kept(id), error));
            if !error.is_error() {
                gone.insert(id);
                records.extend(self.offset_tombstones(id));
                records.extend(self.group_tombstones(id));
            }
        }
        let answer = Answer::Delete(results);
        if records.is_empty() {
            return effects.push(Effect::Answer { ticket, answer });
        }
        if !fit_together(records.iter(), self.settings.batch_bytes_max) {
            // As the log would answer; but that would be too late for consumer groups.
            let answer = answer.failed(ErrorCode::UnknownServerError);
            return effects.push(Effect::Answer { ticket, answer });
        }
        let mut write = Write::new(records);
        for id in gone {
            self.drop_group(id, &mut write);
        }
        write.answers.push((ticket, answer));
        self.append(write, effects);
    }

    /// The records that say that a group is gone.
    fn group_tombstones(&self, id: &Str) -> Vec<Record> {
        match self.groups.get(id).map(|group| &group.kind) {
            None => Vec::new(),
            Some(Kind::Classic(_)) => vec![Record::Group(kept(id), None)],
            Some(Kind::Consumer(consumer)) => consumer.tombstones(&kept(id)),
        }
    }

    /// Takes a group out, and adds the records that say so.
    pub(super) fn delete_group(&mut self, id: &Str, write: &mut Write) {
        write.records.extend(self.group_tombstones(id));
        self.drop_group(id, write);
    }

    /// Takes a group out whose tombstones are in `write`.
    fn drop_group(&mut self, id: &Str, write: &mut Write) {
        match self.take_group(id) {
            None => {}
            Some(Kind::Classic(classic)) => write.deleted.push((kept(id), classic)),
            Some(Kind::Consumer(_)) => write.failing = Failing::Reload,
        }
    }
}
