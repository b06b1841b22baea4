//! What admins ask: which groups there are, what they are like, to forget them.

use crate::group::classic::State;
use crate::group::coordinator::{Coordinator, Effect, Write};
use crate::group::message::{Answer, Describe, Described, List, Listed, Ticket};
use crate::group::record::{Record, kept};
use crate::protocol::{ErrorCode, Str};

/// The type's name of groups of the classic protocol.
const CLASSIC: &str = "classic";

/// The state's name of groups that are none.
const DEAD: &str = "Dead";

/// The version of DescribeGroups from which an unknown group is an error.
const VERSION_UNKNOWN_GROUP: i16 = 6;

impl Coordinator {
    pub(super) fn list(&self, list: &List) -> Vec<Listed> {
        let has = |filter: &[Str], name: &str| {
            filter.is_empty() || filter.iter().any(|one| one.trim().eq_ignore_ascii_case(name))
        };
        if !has(&list.types, CLASSIC) {
            return Vec::new();
        }
        let wanted =
            self.groups.iter().filter(|(_, group)| has(&list.states, group.classic.state().name()));
        wanted
            .map(|(id, group)| Listed {
                group: id.clone(),
                protocol_type: group.classic.protocol_type().cloned().unwrap_or_default(),
                state: group.classic.state().name(),
                kind: CLASSIC,
            })
            .collect()
    }

    pub(super) fn describe(&self, describe: &Describe) -> Vec<Described> {
        let one = |id: &Str| match self.groups.get(id) {
            Some(group) => group.classic.describe(id),
            None if describe.version >= VERSION_UNKNOWN_GROUP => Described {
                state: DEAD,
                message: Some(format!("Group {id} not found.")),
                ..Described::refused(ErrorCode::GroupIdNotFound, id)
            },
            None => Described { state: DEAD, ..Described::refused(ErrorCode::None, id) },
        };
        describe.groups.iter().map(one).collect()
    }

    pub(super) fn delete(&mut self, ticket: Ticket, groups: &[Str], effects: &mut Vec<Effect>) {
        let mut results = Vec::new();
        let mut write = Write::new(Vec::new());
        for id in groups {
            let error = match self.groups.get(id).map(|group| group.classic.state()) {
                None => ErrorCode::GroupIdNotFound,
                Some(State::Empty) => ErrorCode::None,
                Some(State::PreparingRebalance | State::CompletingRebalance | State::Stable) => {
                    ErrorCode::NonEmptyGroup
                }
            };
            results.push((kept(id), error));
            if !error.is_error() {
                write.records.extend(self.offset_tombstones(id));
                write.records.push(Record::Group(kept(id), None));
                write.deleted.extend(self.take_group(id).map(|classic| (kept(id), classic)));
            }
        }
        let answer = Answer::Delete(results);
        if write.records.is_empty() {
            return effects.push(Effect::Answer { ticket, answer });
        }
        write.answers.push((ticket, answer));
        self.append(write, effects);
    }
}
