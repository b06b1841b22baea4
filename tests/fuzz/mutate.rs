//! Turns samples into inputs: mutations that know what lengths, counts and varints look like.
//!
//! All buffers are the caller's, and are used again: an input costs no memory of its own.

use corelog::runtime::sim::Random;

/// Inputs grow to this size at most, in bytes.
pub const INPUT_BYTES_MAX: usize = 16 << 10;

/// Inputs of a hundred that are a sample as it is.
const UNCHANGED_PERCENT: u64 = 5;
/// Inputs of a hundred that are random bytes.
const RANDOM_PERCENT: u64 = 4;

const BYTES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xff, 0xfe, 16];

const LONGS: [i64; 12] = [
    -1,
    0,
    1,
    2,
    0x7f,
    0xff,
    i16::MAX as i64,
    i16::MIN as i64,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// Varints that are large, negative, too long or without an end.
const VARINTS: [&[u8]; 9] = [
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xfe, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x80, 0x80, 0x80, 0x00],
    &[0x81, 0x00],
    &[0xff, 0xff, 0x03],
];

/// What numbers and names in a text file are replaced by.
const WORDS: [&str; 14] = [
    "-1",
    "0",
    "9223372036854775807",
    "99999999999999999999999",
    "2147483648",
    "-2147483648",
    "\\u",
    "\\u12",
    "\\\n",
    "=",
    "\n\n",
    " ",
    "\u{e9}",
    "{[\"",
];

/// Whether inputs are text or numbers in binary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Binary,
    Text,
}

/// Makes an input of `samples`, of which there is one at least.
pub fn make(samples: &[Vec<u8>], kind: Kind, random: &mut Random, out: &mut Vec<u8>) {
    out.clear();
    let sample = pick(samples, random);
    let drawn = random.below(100);
    if drawn < RANDOM_PERCENT {
        let most = [8, 64, 512][random.below(3) as usize];
        let length = random.below(most + 1);
        fill(random, length as usize, out);
        return;
    }
    out.extend_from_slice(&sample[..sample.len().min(INPUT_BYTES_MAX)]);
    if drawn < RANDOM_PERCENT + UNCHANGED_PERCENT {
        return;
    }
    let mut turns = 1;
    while turns < 8 && random.below(2) == 0 {
        turns += 1;
    }
    for _ in 0..turns {
        match kind {
            Kind::Text if random.below(3) == 0 => change_text(random, out),
            Kind::Text | Kind::Binary => change(samples, random, out),
        }
    }
    out.truncate(INPUT_BYTES_MAX);
}

fn pick<'a>(samples: &'a [Vec<u8>], random: &mut Random) -> &'a [u8] {
    &samples[random.below(samples.len() as u64) as usize]
}

fn fill(random: &mut Random, length: usize, out: &mut Vec<u8>) {
    for _ in 0..length.div_ceil(8) {
        out.extend_from_slice(&random.draw().to_le_bytes());
    }
    out.truncate(out.len() - (length.div_ceil(8) * 8 - length));
}

/// A place in `length` bytes: any, or one near the beginning, where lengths and counts are.
fn place(random: &mut Random, length: usize) -> usize {
    let bound = match random.below(3) {
        0 => length.min(24),
        _ => length,
    };
    random.below(bound.max(1) as u64) as usize
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    let room = out.len().saturating_sub(at).min(bytes.len());
    out[at..at + room].copy_from_slice(&bytes[..room]);
}

/// Moves the bytes from `at` on up by `length`; what is in between is to be written.
fn open_gap(out: &mut Vec<u8>, at: usize, length: usize) {
    let end = out.len();
    out.resize(end + length, 0);
    out.copy_within(at..end, at + length);
}

fn change(samples: &[Vec<u8>], random: &mut Random, out: &mut Vec<u8>) {
    if out.is_empty() {
        return fill(random, 4, out);
    }
    let at = place(random, out.len());
    match random.below(16) {
        0..=2 => out[at] ^= 1 << random.below(8),
        3 => out[at] = BYTES[random.below(8) as usize],
        4 => out[at] = random.draw() as u8,
        5 => {
            let value = LONGS[random.below(12) as usize] as i16;
            put(out, at, &value.to_be_bytes());
        }
        6 | 7 => {
            let left = (out.len() - at) as i64;
            let value = match random.below(4) {
                0 => left + random.below(9) as i64 - 8,
                1 => left * (1 + random.below(1000) as i64),
                _ => LONGS[random.below(12) as usize],
            };
            put(out, at, &(value as i32).to_be_bytes());
        }
        8 => put(out, at, &LONGS[random.below(12) as usize].to_be_bytes()),
        9 => put(out, at, VARINTS[random.below(9) as usize]),
        10 => out.truncate(at),
        11 => {
            // A stretch comes twice.
            let length = 1 + random.below((out.len() - at).min(64) as u64) as usize;
            if out.len() + length <= INPUT_BYTES_MAX {
                open_gap(out, at, length);
                out.copy_within(at + length..at + 2 * length, at);
            }
        }
        12 => {
            let length = 1 + random.below((out.len() - at).min(64) as u64) as usize;
            out.drain(at..at + length);
        }
        13 => {
            let other = pick(samples, random);
            let from = place(random, other.len());
            out.truncate(at);
            out.extend_from_slice(&other[from..]);
        }
        14 => {
            let length = 1 + random.below(32) as usize;
            fill(random, length, out);
        }
        _ => {
            // A value in the place of nothing, as where an optional field begins.
            let bytes = VARINTS[random.below(9) as usize];
            open_gap(out, at, bytes.len());
            put(out, at, bytes);
        }
    }
}

fn change_text(random: &mut Random, out: &mut Vec<u8>) {
    let at = place(random, out.len());
    let word = WORDS[random.below(14) as usize].as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    if random.below(2) == 0 {
        // In the place of the word that is there.
        let rest = out.get(at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| is_word(byte)).count();
        out.drain(at..at + length);
    }
    open_gap(out, at, word.len());
    put(out, at, word);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_follow_from_the_seed_and_stay_small() {
        let samples = [vec![], vec![1, 2, 3], vec![7; 20_000], b"a=b\nc=4\n".to_vec()];
        let mut different = 0;
        for kind in [Kind::Binary, Kind::Text] {
            for seed in 0..20_000 {
                let (mut one, mut other) = (Vec::new(), vec![9; 5]);
                make(&samples, kind, &mut Random::new(seed), &mut one);
                make(&samples, kind, &mut Random::new(seed), &mut other);
                assert_eq!(one, other, "seed {seed}");
                assert!(one.len() <= INPUT_BYTES_MAX, "seed {seed}");
                different += usize::from(!samples.contains(&one));
            }
        }
        assert!(different > 25_000, "{different}");
    }
}
