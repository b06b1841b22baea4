//! Random histories of consumer groups: nobody shares a partition, and every group settles.

use super::consumers::{Member, Parts, image};
use super::history::Dice;
use super::*;
use crate::group::message::{ConsumerBeat, ConsumerHeartbeat, Refusal};

/// A member that does what it is told, late at times, and forgets things.
#[derive(Debug)]
struct Client {
    /// What it was before it crashed or left is gone; its name stays.
    name: String,
    instance: Option<&'static str>,
    incarnation: u32,
    inner: Member,
    /// What it is to have; it gets there when it comes to it.
    told: Option<ConsumerBeat>,
    waits: Option<u64>,
}

impl Client {
    fn new(name: &str, instance: Option<&'static str>) -> Self {
        let (name, inner) = (name.to_owned(), Member::default());
        Self { name, instance, incarnation: 0, inner, told: None, waits: None }
    }

    /// It begins anew, without partitions.
    fn reset(&mut self, dice: &mut Dice) {
        self.incarnation += 1;
        let id = format!("{}-{}", self.name, self.incarnation);
        let topics: &[&str] =
            [&["t"][..], &["t", "u"], &["u"], &["t"], &["t", "u"], &[]][dice.roll(6)];
        self.inner = Member::new(&id, topics);
        self.inner.instance = self.instance.map(text);
        if topics.is_empty() || dice.roll(9) == 0 {
            self.inner.expression = Some(text(["t.*", "u|v", "t|u"][dice.roll(3)]));
        }
        (self.told, self.waits) = (None, None);
    }

    fn hear(&mut self, result: Result<ConsumerBeat, Refusal>, dice: &mut Dice) {
        match result {
            Ok(beat) => self.told = Some(beat),
            Err(refusal) => match refusal.error {
                ErrorCode::FencedMemberEpoch if dice.roll(2) == 0 => {
                    self.inner.epoch = 0;
                    self.inner.owned.clear();
                }
                ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorLoadInProgress => {}
                _ => self.reset(dice),
            },
        }
    }

    fn step(&mut self, bench: &mut Bench, dice: &mut Dice) {
        if let Some(answer) = self.waits.and_then(|ticket| bench.answers.remove(&ticket)) {
            self.waits = None;
            let Answer::ConsumerHeartbeat(result) = answer else { panic!("{answer:?}") };
            self.hear(result, dice);
        }
        if self.waits.is_some() && dice.roll(30) > 0 {
            return;
        }
        if let Some(told) = self.told.take() {
            self.inner.hear(&told);
        }
        match dice.roll(60) {
            0 => {
                let epoch = if self.instance.is_some() && dice.roll(2) == 0 { -2 } else { -1 };
                let leave = ConsumerHeartbeat { epoch, ..self.inner.heartbeat() };
                bench.ask(Request::ConsumerHeartbeat(leave));
                self.reset(dice);
            }
            // It crashes.
            1 => self.reset(dice),
            2 => {
                let epoch = Some(self.inner.epoch).filter(|epoch| *epoch > 0);
                bench.ask(Request::Commit(commit(&self.inner.id, epoch, 5)));
            }
            // It says everything again.
            3 if self.inner.epoch > 0 => {
                self.inner.has_news = true;
                let full = ConsumerHeartbeat {
                    rebalance_timeout_ms: Some(20_000),
                    topics: Some(self.inner.topics.clone()),
                    ..self.inner.heartbeat()
                };
                self.waits = Some(bench.ask(Request::ConsumerHeartbeat(full)));
            }
            _ => {
                let heartbeat = Request::ConsumerHeartbeat(self.inner.heartbeat());
                self.waits = Some(bench.ask(heartbeat));
            }
        }
    }
}

/// Epochs of groups and members never go back, as long as no record is lost.
#[derive(Default)]
struct Watch {
    group: i32,
    target: i32,
    members: BTreeMap<Str, i32>,
}

impl Watch {
    fn look(&mut self, bench: &Bench, seed: u64) {
        let Some((_, group)) = bench.coordinator.consumers().next() else {
            *self = Self::default();
            return;
        };
        let (epoch, target) = group.epochs();
        assert!(epoch >= self.group && target >= self.target, "seed {seed}: an epoch went back");
        (self.group, self.target) = (epoch, target);
        let mut members = BTreeMap::new();
        let mut owners: BTreeMap<_, Str> = BTreeMap::new();
        for (id, epoch, owned) in group.owned() {
            let before = self.members.get(&id).copied().unwrap_or(-2);
            assert!(epoch >= before || epoch == -2, "seed {seed}: {id} went back");
            assert!(epoch <= target, "seed {seed}: {id} is ahead of the target");
            members.insert(id.clone(), epoch);
            for at in owned {
                let other = owners.insert(at, id.clone());
                assert_eq!(other, None, "seed {seed}: {id} shares {at:?}");
            }
        }
        self.members = members;
    }
}

/// What clients believe they have: what they were told, and what they have not given back.
fn check_clients(clients: &[Client], bench: &Bench, seed: u64) {
    let Some((_, group)) = bench.coordinator.consumers().next() else { return };
    let known: BTreeMap<Str, i32> = group.owned().map(|(id, epoch, _)| (id, epoch)).collect();
    let mut owners: BTreeMap<_, &Str> = BTreeMap::new();
    for client in clients {
        // One that was fenced does not know it yet.
        let id = &client.inner.id;
        if known.get(id).is_none_or(|epoch| *epoch < client.inner.epoch) {
            continue;
        }
        for at in &client.inner.owned {
            let other = owners.insert(*at, id);
            assert_eq!(other, None, "seed {seed}: {id} believes it has {at:?} as well");
        }
    }
}

/// Time passes, records are committed or lost, topics change; whether the coordinator was reloaded.
fn shake(bench: &mut Bench, dice: &mut Dice, version: &mut u64, may_fail: bool) -> bool {
    match dice.roll(8) {
        0 => bench.pass(dice.roll(9000) as u64),
        1..=4 if !bench.pending.is_empty() => bench.commit_one(),
        5 if dice.roll(10) == 0 => {
            *version += 1;
            let count = |dice: &mut Dice| i32::try_from(dice.roll(6)).unwrap();
            let mut topics = vec![(1, "t", 1 + count(dice)), (2, "u", 1 + count(dice))];
            if dice.roll(2) == 0 {
                topics.push((*version, "t2", 1 + count(dice)));
            }
            bench.set_image(image(*version, &topics));
        }
        6 if may_fail && dice.roll(20) == 0 && !bench.pending.is_empty() => {
            // What follows in the log fails as well.
            while !bench.pending.is_empty() {
                bench.fail_one(ErrorCode::NotEnoughReplicas);
            }
        }
        7 if dice.roll(60) == 0 => {
            bench.ask(Request::Delete(vec![text("g")]));
        }
        _ => {}
    }
    let reloads = bench.reloads && bench.pending.is_empty();
    if reloads {
        bench.reloads = false;
        bench.reload();
    }
    reloads
}

/// Members beat until nothing changes any more.
fn settle_down(bench: &mut Bench, clients: &mut [Client], dice: &mut Dice, seed: u64) {
    while !bench.pending.is_empty() {
        bench.commit_one();
    }
    if std::mem::take(&mut bench.reloads) {
        bench.reload();
    }
    bench.commits_at_once = true;
    for round in 0..40 {
        bench.pass(1000);
        for client in &mut *clients {
            client.waits = None;
            if let Some(told) = client.told.take() {
                client.inner.hear(&told);
            }
            let result = bench.consumer(client.inner.heartbeat());
            client.hear(result, dice);
            if let Some(told) = client.told.take() {
                client.inner.hear(&told);
            }
        }
        // Static members that crashed hold their place until their sessions end.
        if round == 20 {
            bench.pass(44_000);
        }
    }
    assert_eq!(bench.described().state, "Stable", "seed {seed}: it settles");
    let all: Vec<_> = clients.iter().flat_map(|one| one.inner.owned.clone()).collect();
    let owned: Parts = all.iter().copied().collect();
    assert_eq!(all.len(), owned.len(), "seed {seed}: shared");
    let described = bench.described();
    let target = described.members.iter().flat_map(|member| &member.target);
    let count: usize = target.map(|topic| topic.partitions.len()).sum();
    assert_eq!(owned.len(), count, "seed {seed}: everybody has what it is to have");
}

#[test]
fn nobody_shares_a_partition_and_every_group_settles() {
    let mut lost_count = 0;
    for seed in 0..160 {
        let mut dice = Dice(seed);
        let mut bench = Bench::with_topics(&[(1, "t", 5), (2, "u", 2)]);
        bench.commits_at_once = false;
        let may_fail = seed % 4 == 0;
        let mut version = 10;
        let mut clients = [
            Client::new("a", None),
            Client::new("b", None),
            Client::new("c", Some("i1")),
            Client::new("d", Some("i2")),
            Client::new("e", None),
        ];
        clients.iter_mut().for_each(|client| client.reset(&mut dice));
        let mut watch = Watch::default();
        for _ in 0..250 {
            let which = dice.roll(clients.len());
            if !bench.reloads {
                clients[which].step(&mut bench, &mut dice);
            }
            if shake(&mut bench, &mut dice, &mut version, may_fail) {
                lost_count += 1;
                // Records that were lost take epochs with them, which nobody was told of.
                watch = Watch::default();
            }
            watch.look(&bench, seed);
            check_clients(&clients, &bench, seed);
        }
        settle_down(&mut bench, &mut clients, &mut dice, seed);
        bench.check_replay(&format!("seed {seed}"));
        bench.pass(600_000);
        assert!(bench.unanswered.is_empty(), "seed {seed}: {:?} are stuck", bench.unanswered);
    }
    assert!(lost_count > 0, "records were lost");
}
