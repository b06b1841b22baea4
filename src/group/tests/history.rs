//! Random histories: what was written is enough to go on.

use super::*;

/// A small generator of numbers, the same for the same seed (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }
}

/// A client that follows the protocol, but forgets things and has odd ideas now and then.
#[derive(Default)]
struct Client {
    id: Str,
    instance: &'static str,
    generation: i32,
    members: Vec<Str>,
    waits: Option<u64>,
    next: Next,
}

/// What a client is to do next, if it does what it should.
#[derive(Clone, Copy, Default)]
enum Next {
    #[default]
    Join,
    Sync,
    Work,
}

impl Client {
    fn hear(&mut self, answer: Answer) {
        let error = match answer {
            Answer::Join(joined) => {
                self.id = joined.member;
                self.generation = joined.generation;
                self.members = joined.members.into_iter().map(|one| one.id).collect();
                self.next = Next::Sync;
                joined.error
            }
            Answer::Sync(synced) => {
                self.next = Next::Work;
                synced.error
            }
            Answer::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        };
        if error.is_error() {
            self.next = Next::Join;
        }
        if matches!(error, ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) {
            self.id = Str::default();
        }
    }

    fn step(&mut self, bench: &mut Bench, dice: &mut Dice) {
        if let Some(answer) = self.waits.and_then(|ticket| bench.answers.remove(&ticket)) {
            self.waits = None;
            self.hear(answer);
        }
        if self.waits.is_some() && dice.roll(20) > 0 {
            return;
        }
        let (id, generation) = (self.id.clone(), self.generation);
        match (dice.roll(60), self.next) {
            (0, _) => {
                bench.ask(leave(&[leaving(&id, self.instance)]));
                *self = Self { instance: self.instance, ..Self::default() };
            }
            // It crashes.
            (1, _) => *self = Self { instance: self.instance, ..Self::default() },
            (2, _) | (_, Next::Join) => {
                self.waits = Some(bench.ask_join(join(&id, self.instance)));
            }
            (_, Next::Sync) => {
                let mut request = sync(&id, generation, &[]);
                let part = |id: &Str| (id.clone(), Bytes::from(format!("part of {id}")));
                request.assignments = self.members.iter().map(part).collect();
                self.waits = Some(bench.ask(Request::Sync(request)));
            }
            (3..20, Next::Work) => {
                let offset = i64::try_from(bench.ticket).unwrap();
                bench.ask(Request::Commit(commit(&id, Some(generation), offset)));
            }
            (_, Next::Work) => {
                self.waits = Some(bench.ask(heartbeat(&id, self.instance, generation)));
            }
        }
    }
}

#[test]
fn replaying_what_was_written_gives_the_same_groups_and_offsets() {
    let mut stable_count = 0;
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut bench = Bench::new(settings());
        bench.commits_at_once = false;
        let instances = ["", "", "", "i1", "i2"];
        let mut clients = instances.map(|instance| Client { instance, ..Client::default() });
        for _ in 0..300 {
            let which = dice.roll(clients.len());
            clients[which].step(&mut bench, &mut dice);
            match dice.roll(6) {
                0 => bench.pass(dice.roll(4000) as u64),
                1..=3 if !bench.pending.is_empty() => bench.commit_one(),
                4 if dice.roll(10) == 0 && !bench.pending.is_empty() => {
                    // What follows in the log fails as well.
                    while !bench.pending.is_empty() {
                        bench.fail_one(ErrorCode::NotEnoughReplicas);
                    }
                }
                5 if dice.roll(30) == 0 => {
                    bench.ask(Request::Delete(vec![text("g")]));
                }
                _ => {}
            }
        }
        while !bench.pending.is_empty() {
            bench.commit_one();
        }
        let state = bench.state();
        let (groups, offsets) = bench.coordinator.contents();
        let (groups_loaded, offsets_loaded) = bench.reloaded().contents();
        assert_eq!(offsets, offsets_loaded, "seed {seed}");
        // A rebalance under way is not on record: it begins again.
        if matches!(state, "Stable" | "Empty") {
            assert_eq!(groups, groups_loaded, "seed {seed}");
            stable_count += usize::from(state == "Stable");
        }
        bench.commits_at_once = true;
        bench.pass(600_000);
        assert!(matches!(bench.state(), "Empty" | "Dead"), "seed {seed}: it settles");
        assert!(bench.unanswered.is_empty(), "seed {seed}: {:?} are stuck", bench.unanswered);
    }
    assert!(stable_count > 20, "{stable_count} histories ended with a stable group");
}
