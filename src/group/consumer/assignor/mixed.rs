//! The uniform assignor for members that subscribe to different topics.
//!
//! Members keep what they have; what is free goes to the members with the least, topic by topic,
//! those with the most partitions for each subscriber first; then partitions move from members
//! with much to members with little, topic by topic and round after round, until nothing changes
//! (Kafka's `UniformHeterogeneousAssignmentBuilder`).
//!
//! When all subscribers of each topic subscribe to the same topics, the outcome is even within
//! one. Otherwise that holds among the subscribers of each topic, unless [`ROUNDS_MAX`] is hit.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::base::Uuid;

use super::owners::{MemberIndex, NOBODY, Owners};
use super::{AssignError, Assignment, Member};

/// Rounds over all topics at most. Each about halves what is uneven.
const ROUNDS_MAX: usize = 16;

pub(super) fn assign(
    members: &[Member],
    partition_counts: &BTreeMap<Uuid, i32>,
) -> Result<Vec<Assignment>, AssignError> {
    let mut subscribers: BTreeMap<Uuid, Vec<MemberIndex>> = BTreeMap::new();
    for (index, member) in (0..).zip(members) {
        for id in member.topics {
            subscribers.entry(*id).or_default().push(index);
        }
    }
    let ids: Vec<Uuid> = subscribers.keys().copied().collect();
    let mut owners = Owners::new(&ids, partition_counts)?;
    owners.claim(members);

    let mut sizes = vec![0; members.len()];
    for owner in owners.topics().iter().flat_map(|topic| &topic.owners) {
        if let Some(size) = sizes.get_mut(*owner as usize) {
            *size += 1;
        }
    }
    let subscribers = subscribers.into_values().collect();
    let mut builder = Builder { owners, subscribers, sizes };
    let order = builder.topics_in_order();
    let mut scales = Scales::default();
    builder.hand_out(&order, &mut scales);
    builder.even_out(&order, &mut scales);
    Ok(builder.owners.into_assignments(members.len()))
}

/// The order of Kafka's `Uuid`: its halves as signed numbers.
fn signed_halves(id: Uuid) -> (i64, i64) {
    let whole = u128::from_be_bytes(id.to_wire());
    ((whole >> 64) as i64, whole as i64)
}

#[derive(Debug)]
struct Builder {
    owners: Owners,
    /// The members that subscribe to each topic, in ascending order.
    subscribers: Vec<Vec<MemberIndex>>,
    /// How many partitions each member has.
    sizes: Vec<i64>,
}

impl Builder {
    /// Topics by partitions for each subscriber, most first; then by subscribers, least first.
    fn topics_in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.subscribers.len()).collect();
        order.sort_by(|&left, &right| {
            let topics = self.owners.topics();
            let load = |topic: usize| {
                topics[topic].owners.len() as f64 / self.subscribers[topic].len() as f64
            };
            let by_load = load(right).partial_cmp(&load(left)).unwrap_or(Ordering::Equal);
            by_load
                .then_with(|| self.subscribers[left].len().cmp(&self.subscribers[right].len()))
                .then_with(|| signed_halves(topics[left].id).cmp(&signed_halves(topics[right].id)))
        });
        order
    }

    /// Gives partitions without owner to the members with the least.
    fn hand_out(&mut self, order: &[usize], scales: &mut Scales) {
        let mut unowned: Vec<Vec<usize>> = vec![Vec::new(); self.subscribers.len()];
        for (topic, partition) in self.owners.unowned() {
            unowned[topic].push(partition);
        }
        for &topic in order.iter().filter(|&&topic| !unowned[topic].is_empty()) {
            scales.load(&self.subscribers[topic], &self.sizes);
            for &partition in &unowned[topic] {
                let member = scales.next_least(&self.sizes);
                self.give(topic, partition, member);
            }
        }
    }

    /// Moves partitions until each topic is even, or the rounds are used up.
    fn even_out(&mut self, order: &[usize], scales: &mut Scales) {
        let order: Vec<usize> =
            order.iter().copied().filter(|&topic| self.subscribers[topic].len() >= 2).collect();
        let mut held = vec![Held::default(); self.sizes.len()];
        let mut grouped = Vec::new();
        let mut last_changed = None;
        for _ in 0..ROUNDS_MAX {
            for (place, &topic) in order.iter().enumerate() {
                if last_changed == Some(place) {
                    return;
                }
                let moved_count = self.even_out_topic(topic, scales, &mut grouped, &mut held);
                if moved_count > 0 || last_changed.is_none() {
                    last_changed = Some(place);
                }
            }
        }
    }

    /// Moves partitions of one topic from members with much to members with little; returns how
    /// many. `grouped` and `held` are only scratch space.
    fn even_out_topic(
        &mut self,
        topic: usize,
        scales: &mut Scales,
        grouped: &mut Vec<usize>,
        held: &mut [Held],
    ) -> usize {
        if scales.load(&self.subscribers[topic], &self.sizes) <= 1 {
            return 0;
        }
        self.group_by_owner(topic, grouped, held);
        let mut moved_count = 0;
        while !scales.is_even() {
            let giver = loop {
                let Some(member) = scales.next_most(&self.sizes) else { return moved_count };
                if held[member as usize].count > 0 {
                    break member;
                }
                scales.exclude_most();
            };
            let held = &mut held[giver as usize];
            held.count -= 1;
            let partition = grouped[held.start + held.count];
            let taker = scales.next_least(&self.sizes);
            if scales.is_even() {
                break;
            }
            self.give(topic, partition, taker);
            moved_count += 1;
        }
        moved_count
    }

    /// Puts the topic's partitions into `grouped`, those of one owner side by side.
    fn group_by_owner(&self, topic: usize, grouped: &mut Vec<usize>, held: &mut [Held]) {
        let owners = &self.owners.topics()[topic].owners;
        for &member in &self.subscribers[topic] {
            held[member as usize] = Held::default();
        }
        grouped.clear();
        grouped.extend(0..owners.len());
        grouped.sort_by_key(|&partition| owners[partition]);
        for (place, &partition) in grouped.iter().enumerate() {
            if let Some(held) = held.get_mut(owners[partition] as usize) {
                if held.count == 0 {
                    held.start = place;
                }
                held.count += 1;
            }
        }
    }

    fn give(&mut self, topic: usize, partition: usize, member: MemberIndex) {
        let Some(owner) = self.owners.owner(topic, partition) else { return };
        if *owner != NOBODY {
            self.sizes[*owner as usize] -= 1;
        }
        *owner = member;
        self.sizes[member as usize] += 1;
    }
}

/// The part of a topic's grouped partitions that one member holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    start: usize,
    count: usize,
}

/// Picks the members with the least and with the most partitions, one after the other, while
/// partitions move from these to those.
///
/// Members are in the order of what they had at first. A range at the front, all of whose members
/// had the same number after each full turn, grows towards the back; a range at the back grows
/// towards the front. Each pick takes the next member of a range; when all had their turn, the
/// range's level goes one up or down, and it takes in the members that are at that level.
#[derive(Debug, Default)]
struct Scales {
    members: Vec<MemberIndex>,
    /// The front range is `..low_end`.
    low_end: usize,
    low_level: i64,
    low_next: usize,
    /// The back range is `high_start..high_end`; behind it are members with nothing to give.
    high_start: usize,
    high_end: usize,
    high_level: i64,
    /// One more than the place of the next member to pick.
    high_next: usize,
}

impl Scales {
    /// Puts `members`, one or more, on the scales; returns the most less the least they have.
    fn load(&mut self, members: &[MemberIndex], sizes: &[i64]) -> i64 {
        self.members.clear();
        self.members.extend_from_slice(members);
        self.members.sort_by_key(|&member| (sizes[member as usize], member));
        let size = |member: Option<&MemberIndex>| member.map_or(0, |&index| sizes[index as usize]);
        let (least, most) = (size(self.members.first()), size(self.members.last()));
        (self.low_end, self.low_level, self.low_next) = (0, least - 1, 0);
        let count = self.members.len();
        (self.high_start, self.high_end, self.high_level) = (count, count, most + 1);
        self.high_next = count;
        most - least
    }

    fn size(&self, place: usize, sizes: &[i64]) -> i64 {
        sizes[self.members[place] as usize]
    }

    /// The member to get a partition next.
    fn next_least(&mut self, sizes: &[i64]) -> MemberIndex {
        if self.low_next >= self.low_end {
            self.low_level += 1;
            while self.low_end < self.members.len()
                && self.size(self.low_end, sizes) == self.low_level
            {
                self.low_end += 1;
            }
            self.low_next = 0;
        }
        self.low_next += 1;
        self.members[self.low_next - 1]
    }

    /// The member to lose a partition next; `None` when nobody has any to give.
    fn next_most(&mut self, sizes: &[i64]) -> Option<MemberIndex> {
        if self.high_next <= self.high_start {
            if self.high_end <= self.high_start && self.high_start > 0 {
                // All of the range were excluded: it starts anew at whatever comes next.
                self.high_level = self.size(self.high_start - 1, sizes);
            } else {
                self.high_level -= 1;
            }
            while self.high_start > 0 && self.size(self.high_start - 1, sizes) == self.high_level {
                self.high_start -= 1;
            }
            self.high_next = self.high_end;
        }
        self.high_next = self.high_next.checked_sub(1)?;
        Some(self.members[self.high_next])
    }

    /// Takes the member picked last by [`Self::next_most`] off the scales: it has nothing to give.
    fn exclude_most(&mut self) {
        self.high_end -= 1;
        self.members.swap(self.high_next, self.high_end);
    }

    /// Whether moving one more partition would not make it more even.
    fn is_even(&self) -> bool {
        self.high_level - self.low_level <= 1
    }
}
