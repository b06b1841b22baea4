//! Structured fuzzers of every decoder that bytes from the network or from a file reach.
//!
//! Inputs are valid samples, changed with knowledge of what lengths and counts look like. An input
//! must not make a decoder panic, set aside more than a small multiple of its size, or take longer
//! than [`HANG_AFTER`]; what decodes is encoded and decoded again to the same. Input number n of a
//! decoder follows from the seed, its name and n alone.
//!
//! | variable        | meaning                                                     |
//! |-----------------|-------------------------------------------------------------|
//! | `FUZZ_INPUTS`   | how many inputs, over all decoders                          |
//! | `FUZZ_SEED`     | what they follow from                                       |
//! | `FUZZ_ONLY`     | decoders whose names contain this                           |
//! | `FUZZ_INPUT`    | one number: runs that input of them alone                   |
//! | `FUZZ_THREADS`  | threads, 1 unless set                                       |
//!
//! `cargo test --test fuzz -- --nocapture` prints what each decoder got and took.

#![expect(clippy::disallowed_methods, reason = "the watchdog is outside of any runtime")]

mod disk;
mod files;
mod memory;
mod messages;
mod mutate;
mod records;
mod samples;
mod socket;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelog::runtime::sim::Random;

use mutate::Kind;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Inputs over all decoders unless `FUZZ_INPUTS` says how many.
const INPUTS: u64 = 300_000;

/// An input that takes longer ends the process.
const HANG_AFTER: Duration = Duration::from_secs(5);

/// With fewer inputs the shares of what decoded mean nothing.
const SHARES_FROM: u64 = 2_000;

/// Inputs that once failed: the decoder, the bytes in hexadecimal, what they found.
const KEPT: [(&str, &str, &str); 1] = [(
    "journal",
    "434c6a6f75726e310000000000000007000000ff0000000000000000109322add48e37ff00000045\
         00000000000000070000000000000000123456789abc4def8123456789abcdef0000000000000000\
         00000000000000000000003900000000021bb590cc00000000000000000000000000050000000000\
         000005ffffffffffffffffffffffffffff000000010e0000000102760015ca07c200000045000000\
         00000000070000000000000001123456789abc4def8123456789abcdef0000000000000000000000\
         00000000010000003900000000021bb590cc00000000000000000000000000050000000000000005\
         ffffffffffffffffffffffffffff000000010e000000010276004fc3ceb700000045000000000000\
         00070000000000000002123456789abc4def8123456789abcdef0000000000000000000000200000\
         00020000003900000000021bb590cc00000000000000000000000000050000000000000005ffffff\
         ffffffffffffffffffffff000000010e00000001027600",
    "a batch far behind the log's end, with a right checksum, ended the process",
)];

/// The most memory that one input may take: `constant` bytes, and `factor` times its size.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Bytes for each byte of the input.
    pub factor: usize,
    /// Bytes in any case.
    pub constant: usize,
}

/// A decoder, and how it is fuzzed.
pub struct Decoder {
    /// What it is called in the table.
    pub name: String,
    /// How many inputs it gets beside the others.
    pub weight: u64,
    /// What its inputs are.
    pub kind: Kind,
    /// Valid inputs, most of them.
    pub samples: Vec<Vec<u8>>,
    /// Makes checksums right again, so that more than they is looked at.
    pub repair: Option<fn(&mut Vec<u8>)>,
    /// What an input may take.
    pub bound: Bound,
    /// Of a thousand inputs, so many decode at least, and so many are refused.
    pub shares: (u64, u64),
    /// Decodes an input; whether there was something to decode.
    pub run: Box<dyn Fn(&Bytes) -> bool + Send + Sync>,
}

impl Decoder {
    /// A decoder of binary input, of weight 100.
    pub fn new(
        name: impl Into<String>,
        samples: Vec<Vec<u8>>,
        run: impl Fn(&Bytes) -> bool + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        assert!(!samples.is_empty(), "{name} has samples");
        Self {
            name,
            weight: 100,
            kind: Kind::Binary,
            samples,
            repair: None,
            bound: Bound { factor: 128, constant: 128 << 10 },
            shares: (20, 20),
            run: Box::new(run),
        }
    }

    /// The input of that number, in `out`.
    fn input(&self, seed: u64, number: u64, out: &mut Vec<u8>) {
        let name = self.name.bytes().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(0x100_0000_01b3).wrapping_add(u64::from(byte))
        });
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name ^ number.rotate_left(20);
        let mut random = Random::new(mixed);
        mutate::make(&self.samples, self.kind, &mut random, out);
        if let Some(repair) = self.repair
            && random.below(4) > 0
        {
            repair(out);
        }
    }

    /// Decodes `input`; whether it decoded, or what is wrong.
    fn judge(&self, input: &Bytes) -> Result<bool, String> {
        let work = || catch_unwind(AssertUnwindSafe(|| (self.run)(input)));
        let (outcome, peak) = memory::peak_of(work);
        let Ok(decoded) = outcome else { return Err("it panicked".to_owned()) };
        let most = self.bound.constant + self.bound.factor * input.len();
        match peak <= most {
            true => Ok(decoded),
            false => Err(format!("it took {peak} bytes for {}, {most} at most", input.len())),
        }
    }
}

/// Their samples take a while to grow: all tests share them.
static ALL: LazyLock<Vec<Decoder>> = LazyLock::new(|| {
    let mut all = messages::decoders();
    all.extend(records::decoders());
    all.extend(files::decoders());
    all.extend(disk::decoders());
    all
});

fn decoders() -> Vec<&'static Decoder> {
    let only: String = variable("FUZZ_ONLY").unwrap_or_default();
    let wanted: Vec<_> = ALL.iter().filter(|decoder| decoder.name.contains(&only)).collect();
    assert!(!wanted.is_empty(), "no decoder's name contains {only}");
    wanted
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} can not be read")))
}

fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(2048)];
    shown.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// What a thread is at, for the watchdog.
#[derive(Default)]
struct Post {
    decoder: AtomicU64,
    /// The input's number and one; 0 when nothing runs.
    number: AtomicU64,
}

/// Ends the process when a post stands still.
fn watch(posts: &[Post], names: &[&str], seed: u64, done: &AtomicBool) {
    let mut seen: Vec<(u64, u64, Instant)> = vec![(0, 0, Instant::now()); posts.len()];
    while !done.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(100));
        for (post, seen) in posts.iter().zip(&mut seen) {
            let decoder = post.decoder.load(Ordering::Relaxed);
            let number = post.number.load(Ordering::Relaxed);
            if number == 0 || (decoder, number) != (seen.0, seen.1) {
                *seen = (decoder, number, Instant::now());
            } else if seen.2.elapsed() > HANG_AFTER {
                let name = names.get(decoder as usize).unwrap_or(&"?");
                eprintln!(
                    "{name} hangs: FUZZ_SEED={seed} FUZZ_ONLY='{name}' FUZZ_INPUT={}",
                    number - 1
                );
                std::process::abort();
            }
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Count {
    decoded: u64,
    refused: u64,
    busy: Duration,
    largest: usize,
}

/// The share of one thread; what went wrong.
fn work(
    decoders: &[(&Decoder, u64)],
    post: &Post,
    (thread, threads): (u64, u64),
    seed: u64,
) -> (Vec<Count>, Vec<String>) {
    let mut counts = vec![Count::default(); decoders.len()];
    let mut wrong = Vec::new();
    let mut buffer = Vec::with_capacity(2 * mutate::INPUT_BYTES_MAX);
    for (index, ((decoder, inputs), count)) in decoders.iter().zip(&mut counts).enumerate() {
        post.decoder.store(index as u64, Ordering::Relaxed);
        let began = Instant::now();
        for number in (thread..*inputs).step_by(threads as usize) {
            post.number.store(number + 1, Ordering::Relaxed);
            decoder.input(seed, number, &mut buffer);
            let input = Bytes::copy_from_slice(&buffer);
            count.largest = count.largest.max(input.len());
            match decoder.judge(&input) {
                Ok(true) => count.decoded += 1,
                Ok(false) => count.refused += 1,
                Err(what) => {
                    let name = &decoder.name;
                    wrong.push(format!(
                        "{name}: {what}: FUZZ_SEED={seed} FUZZ_ONLY='{name}' FUZZ_INPUT={number}\
                         \n    {}",
                        hex(&input)
                    ));
                    // One is enough to look at.
                    break;
                }
            }
        }
        count.busy = began.elapsed();
    }
    post.number.store(0, Ordering::Relaxed);
    (counts, wrong)
}

#[test]
fn inputs_that_once_failed_hold() {
    let all = decoders();
    for (name, bytes, what) in KEPT {
        if let Some(decoder) = all.iter().find(|decoder| decoder.name == name) {
            let outcome = decoder.judge(&unhex(bytes));
            assert!(outcome.is_ok(), "{name}: {what}: {outcome:?}");
        }
    }
}

#[test]
fn every_sample_decodes() {
    for decoder in decoders() {
        let decoded = decoder.samples.iter().filter(|sample| {
            let outcome = decoder.judge(&Bytes::copy_from_slice(sample));
            outcome.unwrap_or_else(|what| panic!("{}: {what}: {}", decoder.name, hex(sample)))
        });
        let decoded = decoded.count();
        // Some stand for what is refused.
        assert!(3 * decoded >= decoder.samples.len(), "{}: {decoded}", decoder.name);
    }
}

#[test]
fn no_input_makes_a_decoder_panic_hang_or_take_memory() {
    let seed = variable("FUZZ_SEED").unwrap_or(1);
    let inputs: u64 = variable("FUZZ_INPUTS").unwrap_or(INPUTS);
    let threads: u64 = variable("FUZZ_THREADS").unwrap_or(1).max(1);
    let all = decoders();
    if let Some(number) = variable("FUZZ_INPUT") {
        for decoder in &all {
            let mut buffer = Vec::new();
            decoder.input(seed, number, &mut buffer);
            println!("{}: {} bytes: {}", decoder.name, buffer.len(), hex(&buffer));
            println!("{:?}", decoder.judge(&Bytes::from(buffer)));
        }
        return;
    }
    let weights: u64 = all.iter().map(|decoder| decoder.weight).sum();
    let count_of = |decoder: &Decoder| (inputs * decoder.weight).div_ceil(weights);
    let with_count = |decoder: &'static Decoder| {
        let count = count_of(decoder);
        (decoder, count)
    };
    let planned: Vec<(&Decoder, u64)> = all.into_iter().map(with_count).collect();
    let names: Vec<&str> = planned.iter().map(|(decoder, _)| decoder.name.as_str()).collect();
    let posts: Vec<Post> = (0..threads).map(|_| Post::default()).collect();
    let done = AtomicBool::new(false);
    let results: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| watch(&posts, &names, seed, &done));
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (post, planned) = (&posts[thread as usize], &planned);
                scope.spawn(move || work(planned, post, (thread, threads), seed))
            })
            .collect();
        let results = workers.into_iter().map(|worker| worker.join().expect("it reports"));
        let results = results.collect();
        done.store(true, Ordering::Release);
        results
    });
    let mut wrong: Vec<String> = results.iter().flat_map(|(_, wrong)| wrong.clone()).collect();
    println!("{:36} {:>10} {:>10} {:>10} {:>7}", "decoder", "inputs", "decoded", "refused", "us");
    let mut total = Count::default();
    for (index, (decoder, _)) in planned.iter().enumerate() {
        let mut sum = Count::default();
        for (counts, _) in &results {
            sum.decoded += counts[index].decoded;
            sum.refused += counts[index].refused;
            sum.busy += counts[index].busy;
        }
        let judged = sum.decoded + sum.refused;
        let each_us = sum.busy.as_secs_f64() * 1e6 / judged.max(1) as f64;
        let name = &decoder.name;
        let Count { decoded, refused, .. } = sum;
        println!("{name:36} {judged:>10} {decoded:>10} {refused:>10} {each_us:>7.1}");
        total.decoded += decoded;
        total.refused += refused;
        total.busy += sum.busy;
        let few = decoded * 1000 < judged * decoder.shares.0
            || refused * 1000 < judged * decoder.shares.1;
        if judged >= SHARES_FROM && few {
            wrong
                .push(format!("{name}: of {judged} inputs {decoded} decoded: the samples are bad"));
        }
    }
    let judged = total.decoded + total.refused;
    println!("{judged} inputs, {} decoded, {:.1?} of work", total.decoded, total.busy);
    assert!(wrong.is_empty(), "{} decoders failed:\n{}", wrong.len(), wrong.join("\n"));
}
