//! Where another thread of this process is: its stack, which a signal makes it write down.
//!
//! A core that stands still can not tell where. The thread that asks gives names to the addresses,
//! for that allocates and locks; what the signal does is only to walk the stack.

use std::cell::RefCell;
use std::fmt::Write;
use std::fs;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::signals;

/// Frames that are written down; deeper ones are those of the thread's start.
const FRAMES_MAX: usize = 96;

/// Frames that are told.
const TOLD_MAX: usize = 12;

/// How often, and after which time each, it is looked whether the thread has written.
const LOOKS: u32 = 50;
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// The thread has not written yet.
const NOT_YET: usize = usize::MAX;

/// Beginnings of names that say nothing of where our code is.
const FOREIGN: [&str; 9] =
    ["<core::", "<alloc::", "<std::", "<glommio", "core::", "alloc::", "std::", "glommio::", "__"];

static FRAMES: [AtomicUsize; FRAMES_MAX] = [const { AtomicUsize::new(0) }; FRAMES_MAX];
static COUNT: AtomicUsize = AtomicUsize::new(NOT_YET);

/// Lets threads be asked. Once a process.
pub(super) fn prepare() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // What the unwinder sets up at its first use shall not happen within a signal.
        walk();
        result = signals::on_ask_signal(walk);
    });
    result
}

/// Writes down this thread's stack. Runs within a signal: no allocation, no lock.
fn walk() {
    let mut count = 0;
    // SAFETY: the library's lock guards its names, which are not asked for here.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            FRAMES[count].store(frame.ip() as usize, Ordering::Relaxed);
            count += 1;
            count < FRAMES_MAX
        });
    }
    COUNT.store(count, Ordering::Release);
}

/// Where the thread is: what it runs, innermost first; or what the kernel says, when the thread is
/// in a call that no signal interrupts. One caller at a time.
pub(super) fn describe(thread: signals::ThreadId) -> String {
    COUNT.store(NOT_YET, Ordering::Release);
    if let Err(error) = signals::ask_thread(thread) {
        return format!("not known: {error}");
    }
    for _ in 0..LOOKS {
        #[expect(clippy::disallowed_methods, reason = "the watchdog's thread, no core")]
        std::thread::sleep(LOOK_PAUSE);
        let count = COUNT.load(Ordering::Acquire);
        if count != NOT_YET {
            return tell(&names_of(count));
        }
    }
    in_kernel(thread)
}

/// The names of the first `count` frames, innermost first, without those of the signal itself.
fn names_of(count: usize) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let mut own = 0;
    for slot in &FRAMES[..count] {
        let address = slot.load(Ordering::Relaxed);
        let before = names.borrow().len();
        backtrace::resolve(address as *mut _, |symbol| {
            let mut text = String::new();
            if let Some(name) = symbol.name() {
                let _ = write!(text, "{name:#}");
            }
            if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
                let file = file.file_name().unwrap_or_default().to_string_lossy();
                let _ = write!(text, " ({file}:{line})");
            }
            names.borrow_mut().push(text);
        });
        let mut names = names.borrow_mut();
        if names.len() == before {
            names.push(format!("{address:#x}"));
        }
        if names[before..].iter().any(|name| name.contains("on_ask_signal")) {
            // The next one is the kernel's way back from the signal.
            own = names.len() + 1;
        }
    }
    // The names take as much memory as the debug information they come from.
    backtrace::clear_symbol_cache();
    let mut names = names.into_inner();
    names.drain(..own.min(names.len()));
    names
}

/// One line: the innermost frame, and those around it that are not a library's.
fn tell(names: &[String]) -> String {
    let is_ours = |name: &&String| !FOREIGN.iter().any(|start| name.starts_with(start));
    let around = names.iter().skip(1).filter(is_ours);
    let told: Vec<&str> = names.iter().take(1).chain(around).take(TOLD_MAX).map(|n| &**n).collect();
    told.join(" < ")
}

/// What the kernel says of a thread: its state, and the function of the kernel it waits in.
fn in_kernel(thread: signals::ThreadId) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{name}"));
    let state = read("stat").ok().and_then(|stat| {
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.chars().next()
    });
    let waits_in = read("wchan").unwrap_or_default();
    format!("in the kernel, state {}, {waits_in}", state.unwrap_or('?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_frame_and_our_own_ones_are_told() {
        let names = ["__read", "std::io::read", "corelog::log::read (read.rs:7)", "core::poll"];
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(tell(&names), "__read < corelog::log::read (read.rs:7)");
        assert_eq!(tell(&[]), "");
    }

    #[test]
    fn the_kernel_tells_of_this_thread() {
        let text = in_kernel(signals::this_thread());
        assert!(text.starts_with("in the kernel, state R"), "{text}");
    }
}
