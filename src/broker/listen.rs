//! Listening: every core accepts on every listener (`SO_REUSEPORT` spreads the connections).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::broker::Failure;
use crate::config::listener::Endpoint;
use crate::connection;
use crate::handlers::session::SessionCache;
use crate::handlers::{Client, Home, Leaving, Standing};
use crate::mesh::Shard;
use crate::runtime::Listener;
use crate::runtime::local::first;

/// How often a core tries to take its port before it gives up: another process that ends leaves
/// the port within that time.
const LISTEN_TRIES_MAX: u32 = 20;

/// How often, and after how long, an address in use is tried again.
const UNUSED_TRIES_MAX: u32 = 20;
const UNUSED_WAIT: Duration = Duration::from_millis(50);

/// Refuses addresses that another process listens on.
pub(super) async fn check_unused(shard: &Rc<Shard>) -> Result<(), Failure> {
    for endpoint in &shard.config().listeners {
        let address = endpoint.bind_address();
        let mut tries = 0;
        while let Err(error) = shard.runtime.check_unused(&address).await {
            if tries == UNUSED_TRIES_MAX || error.kind() != io::ErrorKind::AddrInUse {
                return Err(Failure(format!(
                    "{address} can not be listened on ({error}); end the process that has it, or \
                     change `listeners`"
                )));
            }
            // The kernel takes down the ring of a killed process, and the sockets it holds, a
            // moment after the process is gone.
            tries += 1;
            shard.runtime.sleep(UNUSED_WAIT).await;
        }
    }
    Ok(())
}

/// Opens this core's listeners once it has begun.
pub(super) fn spawn(shard: &Rc<Shard>) {
    let shard = shard.clone();
    let runtime = shard.runtime.clone();
    runtime.spawn("listeners", async move {
        while !shard.started.get() {
            shard.lifecycle.notified().await;
        }
        let cores = usize::from(shard.runtime.shard_count());
        let capacity = (shard.config().fetch_sessions_max as usize).div_ceil(cores);
        let sessions = Rc::new(RefCell::new(SessionCache::new(shard.id(), capacity)));
        for config in shard.config().listeners.clone() {
            let (shard, sessions) = (shard.clone(), sessions.clone());
            let runtime = shard.runtime.clone();
            runtime.spawn("listener", async move { run(shard, config, sessions).await });
        }
    });
}

async fn run(shard: Rc<Shard>, config: Endpoint, sessions: Rc<RefCell<SessionCache>>) {
    let Some(listener) = open(&shard, &config).await else { return };
    let runtime = shard.runtime.clone();
    loop {
        let accepted = first(async { Some(listener.accept().await) }, async {
            runtime.terminated().await;
            None
        });
        match accepted.await {
            None => return,
            Some(Ok(accepted)) => {
                let client = Client {
                    peer: accepted.peer,
                    listener: config.name.clone(),
                    sessions: sessions.clone(),
                    home: Home::new(accepted.moves),
                    standing: Standing::default(),
                    leaving: Leaving::default(),
                };
                let shard = shard.clone();
                runtime.spawn("connection", async move {
                    connection::serve(shard, Rc::new(client), accepted).await;
                });
            }
            Some(Err(error)) => {
                tracing::warn!(listener = config.name, %error, "a connection was not accepted");
                // Out of open files, most likely: others must close first.
                runtime.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn open(shard: &Rc<Shard>, config: &Endpoint) -> Option<Listener> {
    let address = config.bind_address();
    for _ in 0..LISTEN_TRIES_MAX {
        match shard.runtime.listen(&address).await {
            Ok(listener) => return Some(listener),
            Err(error) => {
                tracing::error!(listener = config.name, address, %error,
                    "the address can not be listened on; end the process that has it, or change \
                     `listeners`");
                shard.runtime.sleep(Duration::from_millis(500)).await;
            }
        }
    }
    None
}
