//! Connections that write: where each is opened to, as whom it writes, and when.

use std::rc::Rc;
use std::time::Duration;

use crate::base::{Instant, NodeId};
use crate::protocol::builder::ProducerStamp;
use crate::protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::produce::ProduceRequest;
use crate::protocol::{ErrorCode, Message};

use super::super::args::{AcksArg, LoadArgs};
use super::super::client::{ClientError, Cluster, Outcome};
use super::super::dialogue::Dialogue;
use super::super::terminal::Failure;
use super::frames::Acceptance;
use super::meter::Meter;
use super::pipe::{Flow, Link, Pace, Pipe, Source};
use super::{Target, seconds};

/// Requests at a fixed rate that may wait for their answers on one connection.
const IN_FLIGHT_MAX: usize = 10_000;

/// Requests of an idempotent producer that may wait for their answers: of so many a broker
/// remembers the sequences (KIP-98).
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

/// How often a broker that is not ready is asked again.
pub const TRIES: u32 = 50;

/// The wait between two of these.
pub const PAUSE: Duration = Duration::from_millis(100);

/// How long after it was started a load at a fixed rate begins: all connections together.
pub const START_DELAY: Duration = Duration::from_millis(20);

/// How fast requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Speed {
    /// So many a second over all connections.
    Rate(f64),
    /// As fast as possible, with so many in flight on each connection.
    Fast {
        /// Requests in flight.
        in_flight: usize,
    },
}

/// A connection that is about to write.
pub struct Seat {
    /// Which one it is.
    pub index: u32,
    /// The newest version of Produce that both sides know.
    pub version: i16,
    /// What its node leads of the topic.
    pub partitions: Vec<i32>,
    /// The id and epoch of an idempotent producer.
    pub stamp: Option<ProducerStamp>,
}

/// Opens the connections, and starts to write what `source` makes for each.
pub async fn start<S: Source + 'static>(
    cluster: &Cluster,
    target: &Rc<Target>,
    load: &LoadArgs,
    connections: u32,
    speed: Speed,
    meter: &Meter,
    mut source: impl FnMut(&Seat) -> S,
) -> Result<Vec<Rc<Pipe>>, Failure> {
    let mut opened = Vec::new();
    for index in 0..connections {
        let node = node_of(target, index as usize);
        let mut dialogue = cluster.new_dialogue(node).await?;
        let stamp = producer(&mut dialogue, load).await?;
        let version = dialogue.version(ProduceRequest::KEY.row())?;
        let seat = Seat { index, version, partitions: led_by(target, node), stamp };
        let source = source(&seat);
        opened.push((seat, node, dialogue, source));
    }
    let began = cluster.runtime().now() + START_DELAY;
    let mut pipes = Vec::new();
    for (seat, node, dialogue, source) in opened {
        let flow = Flow {
            pace: pace(speed, began, seat.index, connections),
            in_flight_max: in_flight_max(speed, seat.stamp),
            acceptance: acceptance(load.acks, seat.version, target),
        };
        let link = Link {
            runtime: cluster.runtime().clone(),
            address: cluster.address(node)?,
            target: target.clone(),
            halves: dialogue.into_halves(),
        };
        pipes.push(Pipe::start(link, flow, source, meter));
    }
    Ok(pipes)
}

/// The node that connection number `index` is opened to: leaders in turn.
fn node_of(target: &Target, index: usize) -> NodeId {
    let mut nodes: Vec<NodeId> = target.leaders.values().copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes[index % nodes.len()]
}

/// The partitions a node leads.
fn led_by(target: &Target, node: NodeId) -> Vec<i32> {
    let led = target.leaders.iter().filter(|(_, leader)| **leader == node);
    led.map(|(partition, _)| *partition).collect()
}

/// When the requests of connection number `index` of `count` are sent: those of all together are
/// as far apart as those of one would be.
fn pace(speed: Speed, began: Instant, index: u32, count: u32) -> Pace {
    match speed {
        Speed::Fast { .. } => Pace::Fast,
        Speed::Rate(rate) => {
            let interval = seconds(f64::from(count) / rate);
            Pace::Timed { began: began + interval / count * index, interval }
        }
    }
}

/// Requests that may wait for answers on one connection.
fn in_flight_max(speed: Speed, stamp: Option<ProducerStamp>) -> usize {
    let wanted = match speed {
        Speed::Fast { in_flight } => in_flight,
        Speed::Rate(_) => IN_FLIGHT_MAX,
    };
    if stamp.is_some() { wanted.min(IDEMPOTENT_IN_FLIGHT_MAX) } else { wanted }
}

/// How answers are judged, when there are any.
fn acceptance(acks: AcksArg, version: i16, target: &Target) -> Option<Acceptance> {
    (acks != AcksArg::None).then(|| Acceptance::new(version, target))
}

/// The id and epoch of an idempotent producer; `None` for another.
async fn producer(dialogue: &mut Dialogue, load: &LoadArgs) -> Outcome<Option<ProducerStamp>> {
    if !load.idempotent {
        return Ok(None);
    }
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    for _ in 0..TRIES {
        let answer: InitProducerIdResponse = dialogue.call(&request).await?;
        match answer.error {
            ErrorCode::None => {
                let InitProducerIdResponse { producer_id: id, producer_epoch: epoch, .. } = answer;
                return Ok(Some(ProducerStamp { id, epoch, base_sequence: 0 }));
            }
            // A broker that has just started fetches its block of ids.
            ErrorCode::CoordinatorLoadInProgress => dialogue.pause(PAUSE).await,
            code => return Err(ClientError::refused("a producer id", code, None)),
        }
    }
    Err(ClientError::refused("a producer id", ErrorCode::CoordinatorLoadInProgress, None))
}

/// A topic whose partitions are led by two brokers in turn.
#[cfg(test)]
pub(super) fn target(partitions: i32) -> Target {
    let leaders = (0..partitions).map(|index| (index, NodeId(1 + index % 2))).collect();
    Target { name: "bench".to_owned(), id: None, leaders }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_all_connections_are_as_far_apart_as_those_of_one() {
        let began = Instant::from_nanos(0);
        let mut dues: Vec<u64> = (0..4)
            .flat_map(|index| {
                let pace = pace(Speed::Rate(1000.0), began, index, 4);
                (0..5).map(move |turn| pace.due(turn, began).nanos())
            })
            .collect();
        dues.sort_unstable();
        let distances: Vec<u64> = dues.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(distances, [1_000_000; 19]);
    }

    #[test]
    fn connections_write_to_the_partitions_of_their_node() {
        let target = target(5);
        assert_eq!([0, 1, 2].map(|index| node_of(&target, index).0), [1, 2, 1]);
        assert_eq!(led_by(&target, NodeId(1)), [0, 2, 4]);
        assert_eq!(led_by(&target, NodeId(2)), [1, 3]);
    }
}
