//! A connection that asks coordinators of several cores moves between the cores, and its answers
//! come in order all the same, however its requests are cut.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use corelog::protocol::frame::RequestHeader;
use corelog::protocol::group_membership::{
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
};
use corelog::protocol::{ErrorCode, Message, Str};
use corelog::runtime::Runtime;
use corelog::runtime::sim::{Random, World};

use super::broker;
use super::client::Connection;

/// Seeds that are run.
const SEEDS: u64 = 60;

/// Requests of one run.
const REQUESTS: usize = 400;

/// Requests that may wait for their answers.
const OUTSTANDING_MAX: usize = 20;

fn start_broker(world: &World) {
    let mut overrides = broker::PLACE.map(str::to_owned).to_vec();
    overrides.push("node.id=1".to_owned());
    broker::start(world, world.machine("broker"), 3, broker::config(&overrides));
}

/// Waits until the coordinators of all groups answer.
async fn warm_up(runtime: &Runtime, connection: &mut Connection) {
    let find = FindCoordinatorRequest { key: Str::default(), ..FindCoordinatorRequest::default() };
    let header = connection.send(2, &find).await.expect("connected");
    connection.receive::<FindCoordinatorResponse>(&header).await.expect("an answer");
    runtime.sleep(Duration::from_secs(1)).await;
}

/// The next requests, to groups that change now and then: their bytes and their headers.
fn requests(
    random: &mut Random,
    connection: &mut Connection,
    group: &mut u64,
) -> (BytesMut, Vec<RequestHeader>) {
    let mut bytes = BytesMut::new();
    let mut headers = Vec::new();
    for _ in 0..random.between(1..=6) {
        if random.below(12) == 0 {
            *group = random.below(5);
        }
        let question = HeartbeatRequest {
            group: Str::from_string(format!("group {group}")),
            member: Str::from_static_str("nobody"),
            ..HeartbeatRequest::default()
        };
        let header = connection.header(HeartbeatRequest::KEY, 3);
        bytes.extend_from_slice(&header.request(&question));
        headers.push(header);
    }
    (bytes, headers)
}

async fn receive(connection: &mut Connection, header: &RequestHeader) {
    let answer: HeartbeatResponse = connection.receive(header).await.expect("an answer");
    assert_eq!(answer.error, ErrorCode::UnknownMemberId);
}

async fn talk(runtime: Runtime, seed: u64) {
    let mut random = Random::new(seed);
    let mut connection = Connection::open(&runtime).await;
    warm_up(&runtime, &mut connection).await;
    let mut outstanding: VecDeque<RequestHeader> = VecDeque::new();
    let (mut asked, mut group) = (0, 0);
    while asked < REQUESTS {
        let (mut bytes, headers) = requests(&mut random, &mut connection, &mut group);
        asked += headers.len();
        while !bytes.is_empty() {
            let length = match random.below(3) {
                0 => random.between(1..=bytes.len() as u64) as usize,
                _ => bytes.len(),
            };
            let piece: Bytes = bytes.split_to(length).freeze();
            connection.send_frame(piece).await.expect("connected");
            if random.below(2) == 0 {
                runtime.sleep(Duration::from_micros(random.below(400))).await;
            }
        }
        outstanding.extend(headers);
        let keep = random.below(2) as usize * OUTSTANDING_MAX;
        while outstanding.len() > keep {
            let header = outstanding.pop_front().expect("one is left");
            receive(&mut connection, &header).await;
        }
    }
    for header in outstanding {
        receive(&mut connection, &header).await;
    }
}

#[test]
fn answers_come_in_order_on_connections_that_move() {
    for seed in 0..SEEDS {
        let world = World::new(seed);
        start_broker(&world);
        let clients = world.machine("clients");
        world.run(clients, |runtime| talk(runtime, seed));
    }
}
