//! The command line: the broker, and the tools around it.
//!
//! ```text
//! args        what can be said, with its help
//! serve       the configuration; the broker itself is `crate::broker`
//! topic       list, create, describe, alter, delete
//! group       list, describe, reset, delete; group_args is what can be said to it
//! produce     lines of standard input into a topic
//! consume     the records of a topic on standard output
//! log         dump and verify the files of a data directory
//! doctor      what is wrong with this machine
//! bench       load and latencies; bench_args is what can be said to it
//! client      connections, requests, metadata: what all of these stand on
//! dialogue    how a connection begins
//! ```
//!
//! Standard output has results, standard error has progress and failures; a failure is one sentence
//! and status 1.

pub mod args;
pub mod bench;
pub mod bench_args;
pub mod client;
pub mod consume;
pub mod dialogue;
pub mod doctor;
pub mod fetch;
pub mod group;
pub mod group_args;
pub mod log;
pub mod offsets;
pub mod produce;
pub mod serve;
pub mod target;
pub mod terminal;
pub mod topic;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;

use crate::config::BrokerConfig;
use crate::config::load::EMBEDDED;
use crate::config::reference::reference;
use crate::runtime::Runtime;
use crate::runtime::real::run_single;

use args::{BenchCommand, Cli, Command, ConfigCommand, LogCommand};
use terminal::{Done, Failure, Output};

/// Reads the command line and does what it says.
///
/// `broker` runs the broker with a checked configuration until it is asked to stop; its error is a
/// sentence for the user.
pub fn main(broker: impl FnOnce(BrokerConfig) -> Result<(), String>) -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args, broker),
        Command::Topic(command) => on_a_core(|runtime| topic::run(runtime, command)),
        Command::Group(command) => on_a_core(|runtime| group::run(runtime, command)),
        Command::Produce(args) => on_a_core(|runtime| produce::run(runtime, args)),
        Command::Consume(args) => on_a_core(|runtime| consume::run(runtime, args)),
        Command::Log(LogCommand::Dump { path, records }) => {
            let shown = if records { log::Shown::Records } else { log::Shown::Batches };
            on_a_core(|runtime| log::dump(runtime, path, shown))
        }
        Command::Log(LogCommand::Verify { directory }) => {
            on_a_core(|runtime| log::verify::run(runtime, directory))
        }
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(BenchCommand::Produce(args)) => {
            on_a_core(|runtime| bench::produce::run(runtime, args))
        }
        Command::Bench(BenchCommand::Consume(args)) => {
            on_a_core(|runtime| bench::consume::run(runtime, args))
        }
        Command::Bench(BenchCommand::EndToEnd(args)) => {
            on_a_core(|runtime| bench::end_to_end::run(runtime, args))
        }
        Command::Bench(BenchCommand::Latency(args)) => {
            on_a_core(|runtime| bench::latency::run(runtime, args))
        }
        Command::Bench(BenchCommand::Groups(args)) => {
            on_a_core(|runtime| bench::groups::run(runtime, args))
        }
        Command::Bench(BenchCommand::Commits(args)) => {
            on_a_core(|runtime| bench::commits::run(runtime, args))
        }
        Command::Config(ConfigCommand::Check(args)) => serve::check(&args),
        Command::Config(ConfigCommand::Example) => print(EMBEDDED),
        Command::Config(ConfigCommand::Reference) => print(&reference()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(sentence)) => {
            if !sentence.is_empty() {
                eprintln!("corelog: {sentence}");
            }
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Done {
    let mut out = Output::new();
    out.bytes(text.as_bytes())?;
    out.flush()
}

/// Runs a command that needs the network or the disk on one core.
fn on_a_core<F: Future<Output = Done>>(command: impl FnOnce(Runtime) -> F) -> Done {
    match run_single(command) {
        Ok(done) => done,
        Err(error) => Err(Failure(error.to_string())),
    }
}
