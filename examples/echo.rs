//! What the runtime itself costs: a server that answers requests of a fixed size, and does nothing
//! else. Every core listens, as the broker's do. `scripts/compare-kafka.sh` puts Corelog's CPU per
//! request beside it.
//!
//!     cargo run --release --example echo PORT REQUEST_BYTES ANSWER_BYTES
//!
//! Ends by SIGTERM.

use std::process::ExitCode;

use bytes::Bytes;
use corelog::runtime::local::first;
use corelog::runtime::real::{self, Lanes, Options};
use corelog::runtime::{Accepted, Chunk, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes that are read at a time: as many as the broker has for a connection that was idle.
const READ_BYTES: usize = 4096;

/// The largest request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
struct Sizes {
    request_bytes: usize,
    answer: Bytes,
}

/// Answers each whole request until the peer is done.
async fn serve(runtime: Runtime, accepted: Accepted, sizes: Sizes) {
    let Accepted { mut reader, mut writer, .. } = accepted;
    let mut buffer = vec![0; READ_BYTES];
    let mut received = 0;
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        received += count;
        let whole = received / sizes.request_bytes;
        received %= sizes.request_bytes;
        for _ in 0..whole {
            if writer.send(&[Chunk::Bytes(sizes.answer.clone())]).await.is_err() {
                return;
            }
        }
        runtime.pass().await;
    }
}

async fn core(runtime: Runtime, port: u16, sizes: Sizes) {
    let listener = match runtime.listen(&format!("127.0.0.1:{port}")).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("echo: port {port} can not be listened on: {error}");
            return;
        }
    };
    loop {
        let accepted = first(async { Some(listener.accept().await) }, async {
            runtime.terminated().await;
            None
        });
        match accepted.await {
            None => return,
            Some(Err(error)) => eprintln!("echo: a connection was not accepted: {error}"),
            Some(Ok(accepted)) => {
                let serving = serve(runtime.clone(), accepted, sizes.clone());
                runtime.spawn("echo", serving);
            }
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let &[port, request_bytes @ 1..=REQUEST_BYTES_MAX, answer_bytes] = words.as_slice() else {
        eprintln!("echo: PORT REQUEST_BYTES ANSWER_BYTES");
        return ExitCode::FAILURE;
    };
    let Ok(port) = u16::try_from(port) else {
        eprintln!("echo: {port} is no port");
        return ExitCode::FAILURE;
    };
    let sizes = Sizes { request_bytes, answer: Bytes::from(vec![b'x'; answer_bytes]) };
    let ended = real::run(Options::default(), move |runtime, _: Lanes<()>| {
        core(runtime, port, sizes.clone())
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}
