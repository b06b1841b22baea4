//! Messages that wake nobody, and sockets that another core sends on.

use corelog::base::Instant;
use corelog::runtime::{LentSocket, Loan};

use super::*;

/// How long the receiver of a quiet message is left alone, and what is surely shorter.
const LEFT_ALONE: Duration = Duration::from_millis(400);
const SHORT: Duration = Duration::from_millis(200);

/// Sends a quiet message, and later one that wakes.
async fn murmur(runtime: &Runtime, lanes: &Lanes<Instant>, to: ShardId) {
    // The other core sleeps by then.
    runtime.sleep(LEFT_ALONE).await;
    lanes.send_quietly(to, runtime.now()).unwrap();
    runtime.sleep(LEFT_ALONE).await;
    lanes.send(to, runtime.now()).unwrap();
}

/// How long each of `count` messages took.
async fn delays(runtime: &Runtime, lanes: &Lanes<Instant>, count: usize) -> Vec<Duration> {
    let (mut delays, mut inbox) = (Vec::new(), Vec::new());
    while delays.len() < count {
        lanes.receive(&mut inbox).await;
        delays.extend(inbox.drain(..).map(|sent| runtime.now().since(sent)));
    }
    delays
}

#[test]
fn a_quiet_message_wakes_an_attentive_core_only() {
    let (told, tells) = channel();
    real::run(cores(2), move |runtime: Runtime, lanes: Lanes<Instant>| {
        let told = told.clone();
        async move {
            if runtime.shard() == ShardId(1) {
                told.send(delays(&runtime, &lanes, 2).await).unwrap();
                lanes.be_attentive(true);
                told.send(delays(&runtime, &lanes, 2).await).unwrap();
                return;
            }
            murmur(&runtime, &lanes, ShardId(1)).await;
            murmur(&runtime, &lanes, ShardId(1)).await;
        }
    })
    .unwrap();
    let told: Vec<Vec<Duration>> = tells.iter().collect();
    let [asleep, attentive] = told.as_slice() else { panic!("{told:?}") };
    assert!(asleep[0] >= LEFT_ALONE, "it was woken: {asleep:?}");
    assert!(attentive[0] < SHORT, "it was not woken: {attentive:?}");
}

#[test]
fn a_message_that_wakes_is_not_held_up_by_many_that_do_not() {
    let (told, tells) = channel();
    real::run(cores(2), move |runtime: Runtime, lanes: Lanes<Instant>| {
        let told = told.clone();
        async move {
            if runtime.shard() == ShardId(1) {
                told.send(delays(&runtime, &lanes, 101).await).unwrap();
                return;
            }
            runtime.sleep(LEFT_ALONE).await;
            for _ in 0..100 {
                // A batch each.
                lanes.send_quietly(ShardId(1), runtime.now()).unwrap();
                runtime.sleep(Duration::from_millis(1)).await;
            }
            lanes.send(ShardId(1), runtime.now()).unwrap();
        }
    })
    .unwrap();
    let delays = tells.recv().unwrap();
    assert!(delays[100] < SHORT, "{delays:?}");
}

#[test]
fn another_core_sends_on_a_lent_socket_until_the_loan_is_recalled() {
    let (told, tells) = channel();
    real::run(cores(2), move |runtime: Runtime, lanes: Lanes<Loan>| {
        let told = told.clone();
        async move {
            if runtime.shard() == ShardId(1) {
                let mut inbox = Vec::new();
                for _ in 0..3 {
                    lanes.receive(&mut inbox).await;
                    let sent = inbox.remove(0).send(&runtime, &Bytes::from_static(b"answer"));
                    told.send(sent).unwrap();
                }
                return;
            }
            let [(mut reader, _near), (far, writer)] = pair(&runtime).await;
            let socket: LentSocket = writer.lent();
            let (loan, recall) = socket.clone().lend();
            assert!(lanes.send(ShardId(1), loan).is_ok());
            assert_eq!(read_exactly(&mut reader, 6).await.unwrap(), b"answer");
            assert!(!recall.recall(), "it was used");
            let (loan, recall) = socket.clone().lend();
            assert!(recall.recall());
            assert!(lanes.send(ShardId(1), loan).is_ok());
            runtime.sleep(Duration::from_millis(50)).await;
            // The socket is closed here; what is sent on it reaches nobody, and no other socket.
            let (loan, _recall) = socket.lend();
            drop((far, writer));
            assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
            assert!(lanes.send(ShardId(1), loan).is_ok());
        }
    })
    .unwrap();
    assert_eq!(tells.iter().collect::<Vec<_>>(), [Some(6), None, Some(0)]);
}
