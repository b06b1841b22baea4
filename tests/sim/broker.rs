//! A broker on the simulated runtime: its settings, and its process.

use std::sync::Arc;

use corelog::broker::{Verdict, run_core};
use corelog::config::BrokerConfig;
use corelog::config::load::{Sources, load};
use corelog::mesh::Envelope;
use corelog::runtime::Lanes;
use corelog::runtime::sim::{MachineId, ProcessId, World};

/// Where a broker keeps its files, listens, and is found by clients.
pub const PLACE: [&str; 3] = [
    "log.dirs=/data",
    "listeners=PLAINTEXT://0.0.0.0:9092",
    "advertised.listeners=PLAINTEXT://broker:9092",
];

/// The configuration that follows from these settings, `name=value` each.
pub fn config(overrides: &[String]) -> Arc<BrokerConfig> {
    let sources = Sources { file: None, environment: &[], overrides };
    Arc::new(load(&sources).expect("a good configuration").config)
}

/// Starts a broker; the second is what it ends with, once it does.
pub fn start(
    world: &World,
    machine: MachineId,
    cores: u16,
    config: Arc<BrokerConfig>,
) -> (ProcessId, Verdict) {
    let verdict = Verdict::default();
    let told = verdict.clone();
    let process = world.start_process(machine, "broker", cores, move |runtime, lanes| {
        let lanes: Lanes<Envelope> = lanes;
        run_core(runtime, lanes, config.clone(), told.clone())
    });
    (process, verdict)
}
