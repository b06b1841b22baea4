//! Where valid inputs come from: fixtures, and bodies grown from random bytes.

use corelog::runtime::sim::Random;

/// Turns that growing takes, and the most that finding anything at all does.
const TURNS: u64 = 250;
const TURNS_MAX: u64 = 50_000;
/// How many of the grown bodies are kept.
const KEPT_COUNT: usize = 3;
/// Bodies that are longer say nothing more.
const GROWN_BYTES_MAX: usize = 320;

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a directory of `tests/fixtures` whose names contain `part`, in order.
pub fn fixtures(directory: &str, part: &str) -> Vec<(String, Vec<u8>)> {
    let path = format!("{}/tests/fixtures/{directory}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(path).expect("fixtures are there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"))
        .filter(|name| name.contains(part))
        .collect();
    names.sort();
    let read = |name: String| {
        let bytes = fixture(&format!("{directory}/{name}"));
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// A byte as messages have them: mostly zeros (or ones: in compact form those are empty, and zeros
/// are null), small counts and letters.
fn likely(random: &mut Random, ones_of_8: u64) -> u8 {
    match random.below(20) {
        0..=10 => u8::from(random.below(8) < ones_of_8),
        11..=13 => 1,
        14 | 15 => 2,
        16 => 3,
        17 => b'a' + random.below(26) as u8,
        18 => 0xff,
        _ => random.draw() as u8,
    }
}

/// Bodies behind `prefix` that decode and hold much, found by trying: `reencode` decodes a body,
/// and returns what it encodes to again. Longer is better, for it has more elements.
///
/// Nobody has to keep samples of a new API or version: they grow.
pub fn grow(
    random: &mut Random,
    prefix: &[u8],
    reencode: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let mut best: Vec<Vec<u8>> = Vec::new();
    let mut candidate = Vec::new();
    for turn in 0..TURNS_MAX {
        if turn >= TURNS && !best.is_empty() {
            break;
        }
        let ones_of_8 = [0, 2, 5, 7][turn as usize % 4];
        candidate.clear();
        match best.is_empty() || random.below(4) == 0 {
            true => candidate.extend_from_slice(prefix),
            false => {
                let parent = &best[random.below(best.len() as u64) as usize];
                candidate.extend_from_slice(parent);
                if candidate.len() > prefix.len() {
                    let room = (candidate.len() - prefix.len()) as u64;
                    let at = prefix.len() + random.below(room) as usize;
                    for byte in candidate.iter_mut().skip(at).take(1 + random.below(6) as usize) {
                        *byte = likely(random, ones_of_8);
                    }
                }
            }
        }
        // What is left over is ignored, so there can be too much but not too little.
        for _ in 0..16 + random.below(120) {
            candidate.push(likely(random, ones_of_8));
        }
        let Some(found) = reencode(&candidate) else { continue };
        let is_new = !best.contains(&found);
        let is_good = found.len() <= GROWN_BYTES_MAX && found.starts_with(prefix);
        if is_good && is_new && reencode(&found).is_some() {
            best.push(found);
            best.sort_by_key(|body| std::cmp::Reverse(body.len()));
            best.truncate(KEPT_COUNT);
        }
    }
    best
}
