//! A core that stands still is told of in the log, with where it is.

#![expect(clippy::disallowed_methods, reason = "these cores stand still, as the tests want")]

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use corelog::runtime::Runtime;
use corelog::runtime::real::{self, Lanes};

use super::{child_part, cores, spawn_child};

#[inline(never)]
fn a_call_that_waits() {
    std::thread::sleep(Duration::from_millis(2000));
}

#[inline(never)]
fn a_loop_without_an_end() {
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(2000) {}
}

#[test]
fn a_core_that_stands_still_is_told_of_with_where_it_is() {
    const TEST: &str = "stalls::a_core_that_stands_still_is_told_of_with_where_it_is";
    if child_part().is_some() {
        tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout).init();
        real::run(cores(2), |runtime: Runtime, _: Lanes<()>| async move {
            runtime.sleep(Duration::from_millis(5)).await;
            match runtime.shard().0 {
                0 => a_call_that_waits(),
                _ => a_loop_without_an_end(),
            }
            runtime.sleep(Duration::from_millis(600)).await;
        })
        .unwrap();
        std::process::exit(0);
    }
    let mut child = spawn_child(TEST, "stands still", Path::new(""));
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{output}");
    for (core, at) in [(0, "a_call_that_waits"), (1, "a_loop_without_an_end")] {
        let lines = |what: &str| {
            let core = format!("core={core} ");
            let of_core = output.lines().filter(move |line| line.contains(&core));
            of_core.filter(|line| line.contains(what)).collect::<Vec<_>>()
        };
        let told = lines("a core does not answer");
        assert!(told.len() == 1 && told[0].contains(at), "{output}");
        assert_eq!(lines("the core goes on").len(), 1, "{output}");
    }
}
