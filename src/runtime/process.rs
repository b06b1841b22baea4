//! What a process is given at its start: environment, files named on the command line, standard
//! input. For the command line, before or beside the executors.

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::Runtime;

/// Chunks of standard input that may wait to be taken.
const CHUNKS_MAX: usize = 64;

/// Bytes of lines gathered into one chunk at most.
const CHUNK_BYTES: usize = 64 << 10;

/// The environment's variables; those that are not Unicode are left out.
pub fn environment() -> Vec<(String, String)> {
    let pairs = std::env::vars_os();
    pairs
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The text of a file. It waits for the disk: for use before executors run.
pub fn read_text(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// This machine's name, when the kernel tells it.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The lines of standard input, read by a thread of their own.
pub struct StandardInput(Receiver<io::Result<Vec<Bytes>>>);

impl StandardInput {
    /// Begins to read. Call it once a process.
    pub fn open() -> io::Result<Self> {
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        thread::Builder::new().name("stdin".into()).spawn(move || {
            let mut input = io::BufReader::with_capacity(CHUNK_BYTES, io::stdin());
            loop {
                let chunk = read_chunk(&mut input);
                let ended = !matches!(&chunk, Ok(lines) if !lines.is_empty());
                if sender.send(chunk).is_err() || ended {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// The next lines, without their ends; none at the end of the input.
    pub async fn next(&self, runtime: &Runtime) -> io::Result<Vec<Bytes>> {
        loop {
            match self.0.try_recv() {
                Ok(chunk) => return chunk,
                Err(TryRecvError::Disconnected) => return Ok(Vec::new()),
                Err(TryRecvError::Empty) => runtime.sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// Reads at least one line, and as many more as are there already.
fn read_chunk(input: &mut io::BufReader<io::Stdin>) -> io::Result<Vec<Bytes>> {
    let mut lines = Vec::new();
    let mut size_bytes = 0;
    while lines.is_empty() || (size_bytes < CHUNK_BYTES && input.buffer().contains(&b'\n')) {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        size_bytes += line.len();
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        lines.push(Bytes::from(line));
    }
    Ok(lines)
}
