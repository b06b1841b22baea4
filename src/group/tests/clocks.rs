//! Wall clocks that jump.

use super::*;
use crate::group::message::ConsumerHeartbeat;

fn beat(bench: &mut Bench, member: &str) -> i32 {
    let heartbeat = ConsumerHeartbeat {
        version: 1,
        group: text("g"),
        member: text(member),
        epoch: 0,
        instance: None,
        rack: None,
        rebalance_timeout_ms: Some(1000),
        topics: Some(vec![text("t")]),
        expression: None,
        assignor: None,
        owned: Some(Vec::new()),
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        random: [0; 16],
    };
    match bench.answered(Request::ConsumerHeartbeat(heartbeat)) {
        Answer::ConsumerHeartbeat(Ok(beat)) => beat.epoch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clock_that_was_put_back_does_not_hold_assignments_up() {
    let hour = 3_600_000;
    // The interval between assignments is a second.
    for (jump_ms, assigned, name) in
        [(500, false, "too soon"), (1000, true, "in time"), (-hour, true, "put back an hour")]
    {
        let consumer = ConsumerSettings::default();
        let mut bench = Bench::new(Settings { consumer, ..settings() });
        bench.now.wall = Timestamp::from_millis(10 * hour);
        let first = beat(&mut bench, "first");
        bench.now.wall = Timestamp::from_millis(10 * hour + jump_ms);
        let second = beat(&mut bench, "second");
        assert_eq!(second > first, assigned, "{name}: {first}, then {second}");
    }
}
