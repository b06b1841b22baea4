//! What the commands print: results on standard output, progress on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::client::ClientError;

/// Why a command failed: a sentence for the user.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    /// A failure with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The outcome of a command.
pub type Done = Result<(), Failure>;

/// A failure to write; silent when whoever reads has had enough, as `head` has.
fn unwritten(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure(String::new()),
        _ => Failure(format!("standard output can not be written: {error}")),
    }
}

/// Standard output, buffered.
pub struct Output(io::BufWriter<io::Stdout>);

impl Output {
    /// Opens it.
    pub fn new() -> Self {
        Self(io::BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    /// Writes a line.
    pub fn line(&mut self, line: impl fmt::Display) -> Done {
        writeln!(self.0, "{line}").map_err(unwritten)
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Done {
        self.0.write_all(bytes).map_err(unwritten)
    }

    /// Writes columns below their names, as wide as they need to be.
    pub fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) -> Done {
        let head: Vec<String> = head.iter().map(ToString::to_string).collect();
        let mut widths = vec![0; head.len()];
        for row in std::iter::once(&head).chain(&rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in std::iter::once(&head).chain(&rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Lets everything be seen.
    pub fn flush(&mut self) -> Done {
        self.0.flush().map_err(unwritten)
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

/// A line on standard error that is written over and over, when that is a terminal; a line each
/// time when it is not.
pub struct Progress {
    shown: bool,
    terminal: bool,
}

impl Progress {
    /// A progress line; `quiet` shows none.
    pub fn new(visible: Visible) -> Self {
        Self { shown: visible == Visible::Yes, terminal: io::stderr().is_terminal() }
    }

    /// Shows `line` in place of the one before.
    pub fn show(&self, line: impl fmt::Display) {
        if self.shown && self.terminal {
            eprint!("\r\x1b[K{line}");
        } else if self.shown {
            eprintln!("{line}");
        }
    }

    /// Shows the last line, which stays.
    pub fn end(&self, line: impl fmt::Display) {
        if self.shown && self.terminal {
            eprintln!("\r\x1b[K{line}");
        } else if self.shown {
            eprintln!("{line}");
        }
    }
}

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Visible {
    /// It is.
    Yes,
    /// Nothing is shown.
    No,
}

impl Visible {
    /// As the user asked with `--quiet`.
    pub fn unless(quiet: bool) -> Self {
        if quiet { Self::No } else { Self::Yes }
    }
}

/// A rate per second, as "12.3 k".
pub fn per_second(count: u64, duration: Duration) -> String {
    let seconds = duration.as_secs_f64().max(1e-9);
    scaled(count as f64 / seconds)
}

/// A number with a unit of thousands, as "12.3 k".
pub fn scaled(number: f64) -> String {
    let units = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    match units.into_iter().find(|(size, _)| number >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", number / size),
        None => format!("{number:.1}"),
    }
}

/// `name=value` split at the first `=`.
pub fn pair(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Failure::new(format!("\"{text}\" is not NAME=VALUE"))),
    }
}
