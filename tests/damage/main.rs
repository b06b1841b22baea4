//! Damaged files: a broker that starts on a directory of which one file is not what it was.
//!
//! A broker on the simulated runtime writes a small directory and ends, cleanly or killed. Then,
//! for each byte of each file, one bit or all bits of it are turned; for each length, the file is
//! cut there; files are removed, emptied and made longer. A broker starts on each such directory,
//! and a client reads everything. What may come of it is in [`judge::Class`]. Never: a panic, a
//! start without an end, records that nobody wrote, fewer records than were acknowledged without a
//! warning that says where.
//!
//! | variable         | meaning                                                       |
//! |------------------|---------------------------------------------------------------|
//! | `DAMAGE_ALL`     | all places, not only some of them                             |
//! | `DAMAGE_STEP`    | one place in so many                                          |
//! | `DAMAGE_SEED`    | decides the places, and the bits                              |
//! | `DAMAGE_ONLY`    | files whose paths contain this                                |
//! | `DAMAGE_CASE`    | one case, as a failure names it, with what the broker logged  |
//! | `DAMAGE_THREADS` | threads, 1 unless set                                         |

#[path = "../sim/broker.rs"]
mod broker;
mod client;
#[path = "../sim/client.rs"]
#[expect(dead_code, reason = "the simulation asks for more")]
mod connection;
mod image;
mod judge;
mod logs;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use corelog::runtime::sim::Random;

use image::{Damage, Image, Place, Stop, make};
use judge::{Blamed, CLASSES, Class, Life, judge};

/// One place in so many is damaged unless `DAMAGE_ALL` or `DAMAGE_STEP` is set.
const STEP: usize = 150;

/// Within this virtual time a client has read everything, or been told why not.
const READ_WITHIN: Duration = Duration::from_secs(120);

/// Wrong outcomes that are shown.
const SHOWN_MAX: usize = 40;

/// One damaged file of one image.
#[derive(Clone, Copy)]
struct Case<'a> {
    image: &'a Image,
    path: &'a Path,
    damage: Damage,
}

impl Case<'_> {
    fn name(&self) -> String {
        format!("{:?} {} {:?}", self.image.stop, self.path.display(), self.damage)
    }

    /// What kind of file it is, for the table.
    fn kind(&self) -> String {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parent = self.path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let name = match name.rsplit_once('.') {
            Some((start, ending)) if start.starts_with('0') => format!("*.{ending}"),
            _ => name.to_owned(),
        };
        match parent {
            Some("data") | None => name,
            Some(directory) => {
                let topic = directory.rsplit_once('-').map_or(directory, |(topic, _)| topic);
                format!("{topic}/{name}")
            }
        }
    }

    fn live(&self, seed: u64) -> Life {
        logs::take();
        let place = Place::new(seed);
        place.write(self.image, self.path, self.damage);
        let (broker, verdict) = place.start_broker(self.image.stop);
        let has_ended = || place.world.exited(broker);
        let told = place.run_client(READ_WITHIN, has_ended, client::read_all);
        Life { told, verdict: verdict.get().cloned(), lines: logs::take() }
    }

    fn run(&self, seed: u64) -> Result<Class, String> {
        let life = catch_unwind(AssertUnwindSafe(|| self.live(seed))).map_err(|reason| {
            let text = reason.downcast_ref::<String>().cloned();
            format!("a panic: {}", text.unwrap_or_default())
        })?;
        let blamed = Blamed { path: self.path, stop: self.image.stop, damage: self.damage };
        judge(&blamed, &self.image.written, &life)
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} can not be read")))
}

/// The places of a file of `length` bytes: all, or one of every `step`, from a drawn one on.
fn places(random: &mut Random, length: usize, step: usize) -> impl Iterator<Item = usize> {
    let first = random.below(step.min(length.max(1)) as u64) as usize;
    (first..length).step_by(step)
}

fn cases_of(image: &Image, seed: u64, step: usize) -> Vec<Case<'_>> {
    let random = &mut Random::new(seed);
    let mut cases = Vec::new();
    for (path, content) in &image.files {
        let mut add = |damage| cases.push(Case { image, path, damage });
        // Of what happens to the file as a whole, some of it when only some places are wanted.
        let few = if step == 1 { 1 } else { 4 };
        let extended = [1, 100, 5000]
            .into_iter()
            .flat_map(|bytes| [true, false].map(|is_zeros| Damage::Extended { bytes, is_zeros }));
        let whole = [Damage::Removed, Damage::Cut { at: 0 }].into_iter().chain(extended);
        whole.filter(|_| random.below(few) == 0).for_each(&mut add);
        for at in places(random, content.len(), step) {
            let bit = Random::new(seed ^ (at as u64) << 8).below(8);
            add(Damage::Flip { at, mask: 1 << bit });
        }
        for at in places(random, content.len(), step) {
            add(Damage::Flip { at, mask: 0xff });
        }
        for at in places(random, content.len(), step) {
            add(Damage::Cut { at });
        }
    }
    cases
}

type Table = BTreeMap<String, BTreeMap<Class, u64>>;

/// The share of one thread: what came of its cases, and what is wrong.
fn run_some(cases: &[Case<'_>], first: usize, step: usize, seed: u64) -> (Table, Vec<String>) {
    let (mut table, mut wrong) = (Table::new(), Vec::new());
    for case in cases.iter().skip(first).step_by(step) {
        match case.run(seed) {
            Ok(class) => {
                *table.entry(case.kind()).or_default().entry(class).or_default() += 1;
            }
            Err(what) => wrong.push(format!("{}\n    {what}", case.name())),
        }
    }
    (table, wrong)
}

/// The table as text.
fn shown(table: &Table) -> String {
    let mut sums: BTreeMap<Class, u64> = BTreeMap::new();
    let mut text = format!("{:44}", "file");
    for class in CLASSES {
        text += &format!(" {:>11}", format!("{class:?}"));
    }
    for (kind, counts) in table {
        text += &format!("\n{kind:44}");
        for class in CLASSES {
            let count = counts.get(&class).copied().unwrap_or(0);
            *sums.entry(class).or_default() += count;
            text += &format!(" {count:>11}");
        }
    }
    text += &format!("\n{:44}", "all");
    for class in CLASSES {
        text += &format!(" {:>11}", sums.get(&class).copied().unwrap_or(0));
    }
    text
}

#[test]
fn a_directory_that_nothing_happened_to_is_whole() {
    logs::keep();
    for stop in [Stop::Clean, Stop::Killed, Stop::KilledSynced] {
        let image = make(1, stop);
        let logs = image.files.iter().filter(|(path, _)| path.to_string_lossy().ends_with(".log"));
        assert!(logs.count() > 6, "{stop:?}: several segments: {:?}", image.files);
        let case = Case { image: &image, path: Path::new(""), damage: Damage::None };
        assert_eq!(case.run(1), Ok(Class::Harmless), "{stop:?}");
    }
}

#[test]
fn a_damaged_file_is_harmless_or_told_of() {
    logs::keep();
    let seed = variable("DAMAGE_SEED").unwrap_or(1);
    let step = match std::env::var("DAMAGE_ALL") {
        Ok(_) => 1,
        Err(_) => variable("DAMAGE_STEP").unwrap_or(STEP),
    };
    let images = [Stop::Clean, Stop::Killed, Stop::KilledSynced].map(|stop| make(1, stop));
    let wanted: Option<String> = variable("DAMAGE_CASE");
    let step = if wanted.is_some() { 1 } else { step };
    let mut cases: Vec<Case<'_>> =
        images.iter().flat_map(|image| cases_of(image, seed, step)).collect();
    if let Some(only) = variable::<String>("DAMAGE_ONLY") {
        cases.retain(|case| case.path.to_string_lossy().contains(&only));
    }
    if let Some(wanted) = wanted {
        cases.retain(|case| case.name() == wanted);
        assert!(!cases.is_empty(), "there is no such case (bits follow from DAMAGE_SEED)");
        for case in cases {
            let life = case.live(1);
            for line in &life.lines {
                println!("{} {}", line.level, line.text);
            }
            println!("{:#?}\n{:?}", life.told, life.verdict);
            println!("{}: {:?}", case.name(), case.run(1));
        }
        return;
    }
    let threads = variable("DAMAGE_THREADS").unwrap_or(1).max(1);
    let cases = &cases;
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run_some(cases, thread, threads, 1)))
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("it reports")).collect()
    });
    let mut table = Table::new();
    let mut wrong = Vec::new();
    for (part, more) in results {
        for (kind, counts) in part {
            let row = table.entry(kind).or_default();
            counts.into_iter().for_each(|(class, count)| *row.entry(class).or_default() += count);
        }
        wrong.extend(more);
    }
    println!("{}", shown(&table));
    println!("{} cases of seed {seed}, one place in {step}", cases.len());
    let shown = wrong.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} wrong of seed {seed}:\n{shown}", wrong.len());
}
