//! Start, stop, and the wiring of everything on every core.
//!
//! Every core runs [`run_core`]. Core 0 also holds the log directory's lock, the metadata log and
//! the controller; it tells the others when to begin and when to end. In the data path it is a
//! core like any other.

mod boot;
mod controller;
mod housekeeping;
mod listen;
pub mod metadata_log;
mod stop;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::base::ShardId;
use crate::config::BrokerConfig;
use crate::mesh::{Envelope, Shard};
use crate::runtime::real::Options;
use crate::runtime::{Lanes, Runtime};

/// Why the broker could not start, or had to stop: a sentence with the fix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// What the process is told when its cores have ended. Set once, by core 0.
pub type Verdict = Arc<OnceLock<Result<(), Failure>>>;

/// One core's life, from start to end.
pub async fn run_core(
    runtime: Runtime,
    lanes: Lanes<Envelope>,
    config: Arc<BrokerConfig>,
    verdict: Verdict,
) {
    let shard = Shard::new(runtime.clone(), lanes, config);
    let mesh = shard.clone();
    runtime.spawn("mesh", async move { mesh.run_mesh().await });
    listen::spawn(&shard);
    housekeeping::spawn(&shard);
    if shard.id() == ShardId(0) {
        let outcome = boot::run(&shard).await;
        stop::tell_all_to_exit(&shard).await;
        let _ = verdict.set(outcome);
    } else {
        while !shard.exiting.get() {
            shard.lifecycle.notified().await;
        }
        // The answer to the order to exit is still in the outbox.
        runtime.sleep(std::time::Duration::from_millis(1)).await;
    }
    tell_what_was_done(&shard);
}

/// One line of the log for each core, at its end.
fn tell_what_was_done(shard: &Shard) {
    let done = shard.runtime.counters();
    tracing::info!(
        core = shard.id().0,
        connections = shard.counters.connections_total.get(),
        connections_moved = shard.counters.connections_moved_total.get(),
        answers_lent = shard.counters.answers_lent_total.get(),
        requests = shard.counters.requests_total.get(),
        append_bytes = shard.counters.append_bytes_total.get(),
        fetch_bytes = shard.counters.fetch_bytes_total.get(),
        sends = done.sends,
        sendfile_bytes = done.sendfile_bytes,
        copied_bytes = done.copied_bytes,
        syncs = done.syncs,
        messages = shard.counters.lane_messages_sent_total.get(),
        message_batches = done.lane_batches,
        "the core ends"
    );
}

fn options(config: &BrokerConfig) -> Options {
    Options {
        core_count: config.cores.map(usize::from),
        pin: config.pin_cores,
        sendfile_bytes_min: config.sendfile_bytes_min,
        send_buffer_bytes: config.send_buffer_bytes,
        receive_buffer_bytes: config.receive_buffer_bytes,
        ..Options::default()
    }
}

/// Runs the broker until it is told to end (SIGTERM, SIGINT). Blocks.
pub fn serve(config: BrokerConfig) -> Result<(), Failure> {
    let config = Arc::new(config);
    let verdict: Verdict = Verdict::default();
    let told = verdict.clone();
    let options = options(&config);
    crate::runtime::real::run(options, move |runtime, lanes| {
        run_core(runtime, Lanes::Real(lanes), config.clone(), told.clone())
    })
    .map_err(|error| Failure(error.to_string()))?;
    match verdict.get() {
        Some(outcome) => outcome.clone(),
        None => Err(Failure("a core ended before the broker was told to".to_owned())),
    }
}
