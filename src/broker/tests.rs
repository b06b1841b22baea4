//! A whole broker on the simulated runtime, and what only a test can ask of it.

use std::sync::Arc;
use std::time::Duration;

use super::{Verdict, run_core};
use crate::config::load::{Sources, load};
use crate::handlers::BREAKING;
use crate::mesh::Envelope;
use crate::protocol::Str;
use crate::protocol::frame::RequestHeader;
use crate::protocol::metadata::MetadataRequest;
use crate::protocol::{ApiKey, Message};
use crate::runtime::sim::World;
use crate::runtime::{Chunk, Lanes, Runtime, StreamReader, StreamWriter};

async fn connect(runtime: &Runtime) -> (StreamReader, StreamWriter) {
    loop {
        if let Ok(connected) = runtime.connect("broker:9092").await {
            return connected;
        }
        runtime.sleep(Duration::from_millis(5)).await;
    }
}

/// Asks for the metadata twice in the name of `client`; how many bytes come back, as far as they
/// are read at once.
async fn ask_twice(runtime: &Runtime, client: &'static str) -> usize {
    let (mut reader, mut writer) = connect(runtime).await;
    let header = RequestHeader {
        key: ApiKey::Metadata,
        version: 12,
        correlation_id: 1,
        client_id: Some(Str::from_static_str(client)),
    };
    let question = header.request(&MetadataRequest::default());
    assert_eq!(MetadataRequest::KEY, header.key);
    let sent = writer.send(&[Chunk::Bytes(question.clone()), Chunk::Bytes(question)]).await;
    sent.expect("the connection is open");
    reader.read(&mut [0; 1000]).await.unwrap_or(0)
}

#[test]
fn a_request_that_fails_in_its_midst_closes_its_connection_and_no_other() {
    let world = World::new(1);
    world.tolerate_panics();
    let (machine, clients) = (world.machine("broker"), world.machine("clients"));
    let overrides = [
        "log.dirs=/data",
        "listeners=PLAINTEXT://0.0.0.0:9092",
        "advertised.listeners=PLAINTEXT://broker:9092",
    ];
    let overrides = overrides.map(str::to_owned);
    let sources = Sources { file: None, environment: &[], overrides: &overrides };
    let config = Arc::new(load(&sources).expect("a good configuration").config);
    world.start_process(machine, "broker", 1, move |runtime, lanes: Lanes<Envelope>| {
        run_core(runtime, lanes, config.clone(), Verdict::default())
    });
    let done = world.run(clients, |runtime| async move {
        for client in BREAKING {
            // More often than a core has turns for long answers.
            for _ in 0..20 {
                assert_eq!(ask_twice(&runtime, client).await, 0, "{client}: it is closed");
            }
        }
        ask_twice(&runtime, "well-behaved").await
    });
    assert!(done > 0, "others are answered");
}
