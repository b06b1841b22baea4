//! The code's shape: which rooms import which, who touches the world, how long files may be.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, the lowest first; each may import only rooms listed before it (and itself).
const ROOMS: [&str; 16] = [
    "base",
    "runtime",
    "config",
    "metrics",
    "protocol",
    "log",
    "metadata",
    "kraft",
    "partition",
    "group",
    "controller",
    "mesh",
    "handlers",
    "connection",
    "broker",
    "cli",
];

/// What only `runtime` may name: the world outside, and the executor.
const WORLD: [&str; 12] = [
    "glommio::",
    "libc::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::os::",
    "Instant::now",
    "SystemTime",
    "getrandom",
    "thread_local!",
    "static mut",
];

/// Words for nothing in particular; types have better names.
const NAMES_BANNED: [&str; 6] = ["Manager", "Service", "Helper", "Utils", "Util", "Context2"];

/// Lines a file may have before its tests.
const LINES_MAX: usize = 800;

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).expect("the directory is there");
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every source file: its room, its path and its text without the tests at its foot.
fn files() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let inner = path.strip_prefix(&root).expect("below src");
            let room = inner.components().next().expect("a part").as_os_str();
            let room = room.to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("readable");
            let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            (room, path, code)
        })
        .collect()
}

fn without_comments(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().filter_map(|(index, line)| {
        let is_comment = line.trim_start().starts_with("//");
        (!is_comment).then_some((index + 1, line))
    })
}

#[test]
fn rooms_import_only_rooms_below_them() {
    let mut wrong = Vec::new();
    for (room, path, code) in files() {
        let Some(height) = ROOMS.iter().position(|known| *known == room) else { continue };
        for (line_number, line) in without_comments(&code) {
            for (other_height, other) in ROOMS.iter().enumerate() {
                if line.contains(&format!("crate::{other}::")) && other_height > height {
                    wrong.push(format!("{}:{line_number} imports {other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_the_list() {
    for (room, path, _) in files() {
        let known = ROOMS.contains(&room.as_str()) || room == "lib" || room == "main";
        assert!(known, "{} is in no room", path.display());
    }
}

#[test]
fn only_runtime_touches_the_world() {
    let mut wrong = Vec::new();
    for (room, path, code) in files() {
        if room == "runtime" {
            continue;
        }
        for (line_number, line) in without_comments(&code) {
            for word in WORLD {
                // A command-line tool reads the files it is told to, at the user's terminal.
                let excused = room == "cli" && word == "std::fs";
                if line.contains(word) && !excused {
                    wrong.push(format!("{}:{line_number} names {word}", path.display()));
                }
            }
            if line.contains("unsafe ") && room != "runtime" {
                wrong.push(format!("{}:{line_number} is unsafe", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_begin_with_what_they_are_for_and_stay_short() {
    let mut wrong = Vec::new();
    for (_, path, code) in files() {
        if !code.starts_with("//!") {
            wrong.push(format!("{} has no header", path.display()));
        }
        let count = code.lines().count();
        if count > LINES_MAX {
            wrong.push(format!("{} has {count} lines", path.display()));
        }
        for (line_number, line) in code.lines().enumerate() {
            if line.chars().count() > 100 || !line.is_ascii() {
                let at = line_number + 1;
                wrong.push(format!("{}:{at} is too long or not ASCII", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_say_what_a_thing_is() {
    let mut wrong = Vec::new();
    for (_, path, code) in files() {
        for (line_number, line) in without_comments(&code) {
            let declares = line.contains("struct ") || line.contains("enum ");
            if declares && NAMES_BANNED.iter().any(|name| line.contains(name)) {
                wrong.push(format!("{}:{line_number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
