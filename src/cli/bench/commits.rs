//! `corelog bench commits`: offsets committed at a fixed rate, by members of many groups.
//!
//! Every connection is the one member of a classic group of its own, which heartbeats meanwhile.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::runtime::Runtime;
use crate::runtime::local::Budget;

use super::super::args::{BenchCommitsArgs, BenchGroupsArgs, GroupProtocolArg};
use super::super::client::{Connection, Outcome};
use super::super::terminal::{Done, Failure};
use super::groups::{create_topic, plan};
use super::member::Member;
use super::meter::{Course, Meter};
use super::page::{NOTE_OPEN, Rate};
use super::seconds::Amount;
use super::{due, measure, open, seconds, tell};

/// Commits that may wait for their answers on one connection.
const IN_FLIGHT_MAX: u64 = 10_000;

/// How long a group may take to form.
const FORM_MAX: Duration = Duration::from_secs(60);

/// One group's share of the load.
struct Worker {
    runtime: Runtime,
    member: Rc<Member>,
    partition_count: usize,
    meter: Meter,
    next_offset: Cell<i64>,
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: BenchCommitsArgs) -> Done {
    let cluster = open(&runtime, &args.common.cluster).await?;
    let groups = args.common.connections.max(1);
    let group_args = group_args(&args);
    create_topic(&runtime, &group_args).await?;
    let meter = Meter::new(&Course::new(), seconds(args.common.duration));
    let mut workers = Vec::new();
    let run = runtime.random();
    for index in 0..groups {
        let group = format!("bench-{run:016x}-{index}");
        let plan = plan(&cluster, &group_args, group.clone()).await?;
        if args.partitions_per_commit > plan.partition_count {
            let count = plan.partition_count;
            return Err(Failure::new(format!("the topic has {count} partitions, fewer than -k")));
        }
        let timeout = Duration::from_secs(args.common.cluster.timeout.max(1));
        let address = cluster.coordinator(&group).await?;
        let connection = Connection::open(&runtime, &address, timeout).await?;
        plan.board.borrow_mut().arrive(0);
        let member = Member::new(runtime.clone(), connection, plan.clone(), 0);
        let (joining, joining_meter) = (member.clone(), meter.clone());
        runtime.spawn("bench member", async move {
            if let Err(error) = joining.run().await {
                joining_meter.finish(Err(error));
            }
        });
        workers.push((plan, member));
    }
    let interval = Duration::from_secs_f64(f64::from(groups) / args.rate.max(0.001));
    let count = workers.len();
    for (index, (plan, member)) in workers.into_iter().enumerate() {
        let formed = async {
            while !plan.board.borrow().is_complete() && meter.runs() {
                runtime.sleep(Duration::from_millis(5)).await;
            }
        };
        if runtime.timeout(FORM_MAX, formed).await.is_none() {
            return Err(Failure::new(format!("group {} did not form", plan.group.0)));
        }
        let worker = Rc::new(Worker {
            runtime: runtime.clone(),
            member,
            partition_count: args.partitions_per_commit,
            meter: meter.clone(),
            next_offset: Cell::new(0),
        });
        // Groups take turns within the interval.
        let offset = interval.mul_f64(index as f64 / count as f64);
        runtime.spawn("bench", async move {
            worker.runtime.sleep(offset).await;
            let outcome = worker.clone().commit_at_rate(interval).await;
            worker.meter.finish(outcome);
        });
    }
    let report = measure(&runtime, &args.common, &meter, "commits", groups).await?;
    tell(&runtime, &args.common, &report, Rate::Requests, &[NOTE_OPEN]).await
}

fn group_args(args: &BenchCommitsArgs) -> BenchGroupsArgs {
    BenchGroupsArgs {
        cluster: args.common.cluster.clone(),
        topic: args.common.topic.clone(),
        group: None,
        members: 1,
        partitions: args.partitions,
        protocol: GroupProtocolArg::Classic,
        session_ms: 45_000,
        heartbeat_ms: 3_000,
        rounds: 0,
        steady: 0.0,
        quiet: 0.0,
        limit: 0.0,
        json: args.common.json,
    }
}

impl Worker {
    /// Each commit at its time; answers are awaited beside.
    async fn commit_at_rate(self: Rc<Self>, interval: Duration) -> Outcome<()> {
        let room = Budget::new(IN_FLIGHT_MAX);
        let began = self.runtime.now();
        let mut index = 0;
        while self.meter.runs() {
            let intended = due(began, interval, index);
            let now = self.runtime.now();
            if now < intended {
                self.runtime.sleep(intended.since(now)).await;
            }
            let share = room.take(1).await;
            let offset = self.next_offset.get();
            self.next_offset.set(offset + 1);
            let worker = self.clone();
            self.runtime.spawn("bench answer", async move {
                let answered = worker.member.commit(worker.partition_count, offset).await;
                match answered {
                    Ok(()) => {
                        let records = worker.partition_count as u64;
                        let amount = Amount { requests: 1, records, bytes: 0 };
                        worker.meter.count(intended, worker.runtime.now(), amount);
                    }
                    Err(error) => worker.meter.finish(Err(error)),
                }
                drop(share);
            });
            index += 1;
            self.runtime.pass().await;
        }
        Ok(())
    }
}
