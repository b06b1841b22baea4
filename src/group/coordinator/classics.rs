//! What clients of the classic protocol ask, of groups of either protocol.

use crate::group::Now;
use crate::group::classic::join::Origin;
use crate::group::consumer::{Consumer, Step};
use crate::group::coordinator::{Coordinator, Effect, Group};
use crate::group::message::{Answer, Heartbeat, Join, Joined, Leave, Left, Sync, Synced, Ticket};
use crate::protocol::ErrorCode;

impl Coordinator {
    pub(super) fn join(
        &mut self,
        now: Now,
        ticket: Ticket,
        join: &Join,
        effects: &mut Vec<Effect>,
    ) {
        let id = &join.group;
        let consumer = self.groups.get(id).and_then(Group::as_consumer);
        match (consumer.map(Consumer::is_empty), &join.member) {
            (Some(false), _) => {
                let act = |one: &mut Consumer, step: &mut Step<'_>| one.join(step, join);
                if let Some(joined) = self.consumer_step(now, id, effects, act) {
                    self.answer_after_writes(ticket, Answer::Join(joined), effects);
                }
                return;
            }
            // Nobody is in it: it becomes a classic group.
            (Some(true), None) => self.delete_empty_consumer(id, effects),
            (Some(true), Some(_)) | (None, _) => {}
        }
        let is_known = self.groups.get(id).is_some_and(|group| group.as_classic().is_some());
        let origin = match (is_known, &join.member) {
            (true, _) => Origin::Known,
            (false, None) => Origin::Created,
            (false, Some(member)) => {
                let refused = Joined::refused(ErrorCode::UnknownMemberId, member.clone());
                let answer = Answer::Join(refused);
                return effects.push(Effect::Answer { ticket, answer });
            }
        };
        self.ensure_group(id, now.wall);
        let out = self.step(now, id, |one, step| one.join(step, ticket, join, origin));
        self.emit(id, out, effects);
    }

    pub(super) fn sync(
        &mut self,
        now: Now,
        ticket: Ticket,
        sync: &Sync,
        effects: &mut Vec<Effect>,
    ) {
        let id = &sync.group;
        if self.groups.get(id).is_some_and(|group| group.as_classic().is_some()) {
            let out = self.step(now, id, |one, step| one.sync(step, ticket, sync));
            return self.emit(id, out, effects);
        }
        let act = |one: &mut Consumer, step: &mut Step<'_>| one.sync(step, sync);
        let result = self.consumer_step(now, id, effects, act);
        let result = result.unwrap_or(Err(ErrorCode::UnknownMemberId));
        let answer = Answer::Sync(result.unwrap_or_else(Synced::refused));
        self.answer_after_writes(ticket, answer, effects);
    }

    pub(super) fn beat(
        &mut self,
        now: Now,
        ticket: Ticket,
        heartbeat: &Heartbeat,
        effects: &mut Vec<Effect>,
    ) {
        let id = &heartbeat.group;
        let act = |one: &mut Consumer, step: &mut Step<'_>| one.beat(step, heartbeat);
        if let Some(error) = self.consumer_step(now, id, effects, act) {
            return self.answer_after_writes(ticket, Answer::Heartbeat(error), effects);
        }
        let mut error = ErrorCode::UnknownMemberId;
        self.step(now, id, |one, step| error = one.heartbeat(step, heartbeat));
        effects.push(Effect::Answer { ticket, answer: Answer::Heartbeat(error) });
    }

    pub(super) fn leave(
        &mut self,
        now: Now,
        ticket: Ticket,
        leave: &Leave,
        effects: &mut Vec<Effect>,
    ) {
        let id = &leave.group;
        let left = |members| Answer::Leave(Left { error: ErrorCode::None, members });
        let act = |one: &mut Consumer, step: &mut Step<'_>| one.leave_classic(step, leave);
        if let Some(result) = self.consumer_step(now, id, effects, act) {
            let answer = match result {
                Ok(members) => left(members),
                Err(error) => Answer::Leave(Left { error, members: Vec::new() }),
            };
            return self.answer_after_writes(ticket, answer, effects);
        }
        // A group nobody knows has none of these members.
        let unknown = leave.members.iter().map(|one| (one.clone(), ErrorCode::UnknownMemberId));
        let mut members: Vec<_> = unknown.collect();
        let out = self.step(now, id, |one, step| members = one.leave(step, leave));
        let is_written = !out.writes.is_empty();
        self.emit(id, out, effects);
        match self.writes.last_entry() {
            Some(mut write) if is_written => {
                write.get_mut().answers.push((ticket, left(members)));
            }
            Some(_) | None => effects.push(Effect::Answer { ticket, answer: left(members) }),
        }
    }

    /// Answers once everything that is being written is committed: the answer may tell of it.
    pub(super) fn answer_after_writes(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        effects: &mut Vec<Effect>,
    ) {
        match self.writes.last_entry() {
            Some(mut write) => write.get_mut().answers.push((ticket, answer)),
            None => effects.push(Effect::Answer { ticket, answer }),
        }
    }
}
