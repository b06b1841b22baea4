//! `corelog bench groups`: members of one group come, go and die; how long until every partition is
//! consumed again.
//!
//! Every phase begins shortly after a heartbeat of the member that leads the order, so that two
//! runs meet the same moment of the interval. With `--json` each phase prints a line when it
//! begins and one when it ends, for a script that looks at the broker's CPU meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kafka_protocol::messages::{GroupId, TopicName};
use serde::Serialize;

use crate::base::Instant;
use crate::protocol::Str;
use crate::runtime::Runtime;
use crate::runtime::local::Notice;

use super::super::args::{BenchGroupsArgs, GroupProtocolArg, TopicCommand};
use super::super::client::{Cluster, Connection, Creation};
use super::super::target::Target;
use super::super::terminal::{Done, Failure, Output, Progress, Visible};
use super::super::topic::{self, open};
use super::board::{Agreement, Board};
use super::member::{Member, Plan};
use super::seconds;

/// Answers to joins are held back by the broker for as long as a rebalance takes.
const CALL_SECONDS_MAX: Duration = Duration::from_secs(120);

/// How long after a heartbeat a phase begins.
const AFTER_HEARTBEAT: Duration = Duration::from_millis(100);

/// How often the bench looks whether something has come.
const LOOK: Duration = Duration::from_millis(5);

/// One phase, as it is printed.
#[derive(Clone, Debug, Serialize)]
struct Phase {
    event: &'static str,
    phase: &'static str,
    round: u32,
    members: usize,
    /// From the phase's beginning until every partition is consumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// From when the dead member's session ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_expiry: Option<f64>,
}

/// The sum of a run.
#[derive(Debug, Serialize)]
struct Summary {
    event: &'static str,
    protocol: String,
    members: usize,
    partitions: usize,
    /// Partitions two live members consumed at once; must be 0.
    overlaps: u64,
}

struct Bench {
    runtime: Runtime,
    args: BenchGroupsArgs,
    plan: Rc<Plan>,
    address: String,
    members: RefCell<BTreeMap<usize, Rc<Member>>>,
    failure: Rc<RefCell<Option<String>>>,
    out: RefCell<Output>,
    phases: RefCell<Vec<Phase>>,
    progress: Progress,
}

/// Makes the topic, and what all members of `group` have in common.
pub async fn plan(
    cluster: &Cluster,
    args: &BenchGroupsArgs,
    group: String,
) -> Result<Rc<Plan>, Failure> {
    let target = Target::find(cluster, &args.topic, Creation::Allowed).await?;
    let agreement = match args.protocol {
        GroupProtocolArg::Classic => Agreement::OneGeneration,
        GroupProtocolArg::Consumer => Agreement::OwnEpochs,
    };
    let partition_count = target.leaders.len();
    let id = target.id.map(|id| uuid::Uuid::from_bytes(id.to_wire())).unwrap_or_default();
    Ok(Rc::new(Plan {
        group: GroupId(Str::from_string(group)),
        topic: TopicName(Str::from_string(args.topic.clone())),
        topic_id: id,
        partition_count,
        protocol: args.protocol,
        session: Duration::from_millis(args.session_ms.into()),
        interval: Duration::from_millis(args.heartbeat_ms.into()),
        board: RefCell::new(Board::new(partition_count, agreement)),
        changed: Notice::new(),
    }))
}

/// Creates the topic when it is missing.
pub async fn create_topic(runtime: &Runtime, args: &BenchGroupsArgs) -> Done {
    let creation = TopicCommand::Create {
        name: args.topic.clone(),
        cluster: args.cluster.clone(),
        partitions: Some(args.partitions),
        replicas: None,
        configs: Vec::new(),
        if_not_exists: true,
        validate_only: false,
    };
    topic::create(runtime, creation).await?;
    Ok(())
}

/// Runs the command.
pub async fn run(runtime: Runtime, args: BenchGroupsArgs) -> Done {
    let cluster = open(&runtime, &args.cluster).await?;
    create_topic(&runtime, &args).await?;
    let group = match &args.group {
        Some(group) => group.clone(),
        None => format!("bench-{:016x}", runtime.random()),
    };
    let plan = plan(&cluster, &args, group.clone()).await?;
    let bench = Bench {
        address: cluster.coordinator(&group).await?,
        progress: Progress::new(Visible::unless(args.json)),
        runtime,
        plan,
        members: RefCell::default(),
        failure: Rc::default(),
        out: RefCell::new(Output::new()),
        phases: RefCell::default(),
        args,
    };
    bench.run().await
}

impl Bench {
    async fn run(&self) -> Done {
        let mut next = self.args.members.max(1);
        // Connections are made before: they are not the coordinator's work.
        let mut waiting = Vec::new();
        for number in 0..next {
            waiting.push(self.connect(number).await?);
        }
        self.phase("form", 0, |_| {
            for member in waiting.drain(..) {
                self.start(member);
            }
            None
        })
        .await?;
        self.commit_all().await?;
        self.steady().await?;
        for round in 0..self.args.rounds {
            for ending in ["leave", "die"] {
                let newcomer = self.connect(next).await?;
                next += 1;
                self.after_heartbeat().await?;
                self.phase("arrive", round, |_| {
                    self.start(newcomer.clone());
                    None
                })
                .await?;
                // Members learn of it at their own heartbeats, and then all is quiet.
                self.runtime.sleep(seconds(self.args.quiet)).await;
                self.after_heartbeat().await?;
                self.phase(ending, round, |bench| bench.lose(ending)).await?;
                self.runtime.sleep(seconds(self.args.quiet)).await;
            }
        }
        self.finish()
    }

    async fn connect(&self, number: usize) -> Result<Rc<Member>, Failure> {
        let connection = Connection::open(&self.runtime, &self.address, CALL_SECONDS_MAX).await?;
        Ok(Member::new(self.runtime.clone(), connection, self.plan.clone(), number))
    }

    fn start(&self, member: Rc<Member>) {
        let number = member.number();
        self.plan.board.borrow_mut().arrive(number);
        self.members.borrow_mut().insert(number, member.clone());
        let failure = self.failure.clone();
        let plan = self.plan.clone();
        self.runtime.spawn("bench member", async move {
            if let Err(error) = member.run().await {
                failure.borrow_mut().get_or_insert(error.to_string());
                plan.changed.notify();
            }
        });
    }

    /// Lets the first member that has something go; when its session ends if it dies.
    fn lose(&self, ending: &str) -> Option<Instant> {
        let number = self.plan.board.borrow().victim()?;
        let member = self.members.borrow_mut().remove(&number)?;
        if ending == "leave" {
            member.leave();
            // It is gone from this moment on, whether or not its task has run.
            self.plan.board.borrow_mut().remove(number);
            return None;
        }
        member.die();
        Some(member.heartbeat_sent() + self.plan.session)
    }

    /// Waits until the first member that has something has just sent a heartbeat.
    async fn after_heartbeat(&self) -> Done {
        let Some(number) = self.plan.board.borrow().victim() else { return Ok(()) };
        let Some(member) = self.members.borrow().get(&number).cloned() else { return Ok(()) };
        let before = member.heartbeat_sent();
        while member.heartbeat_sent() == before {
            self.check()?;
            self.runtime.sleep(LOOK).await;
        }
        let due = member.heartbeat_sent() + AFTER_HEARTBEAT;
        self.runtime.sleep(due.since(self.runtime.now())).await;
        Ok(())
    }

    fn check(&self) -> Done {
        match self.failure.borrow_mut().take() {
            Some(sentence) => Err(Failure(sentence)),
            None => Ok(()),
        }
    }

    /// Begins a phase by `begin`, and waits until every partition is consumed.
    async fn phase(
        &self,
        name: &'static str,
        round: u32,
        begin: impl FnOnce(&Self) -> Option<Instant>,
    ) -> Done {
        let members = self.members.borrow().len();
        let mut phase = Phase {
            event: "begin",
            phase: name,
            round,
            members,
            seconds: None,
            since_expiry: None,
        };
        self.tell(&phase)?;
        self.progress.show(format_args!("{name}, {members} members"));
        let began = self.runtime.now();
        let expiry = begin(self);
        let limit = seconds(self.args.limit);
        let complete = async {
            loop {
                let changed = self.plan.changed.notified();
                if self.plan.board.borrow().is_complete() || self.failure.borrow().is_some() {
                    return;
                }
                changed.await;
            }
        };
        let done = self.runtime.timeout(limit, complete).await;
        let ended = self.runtime.now();
        self.check()?;
        if done.is_none() {
            let missing = self.plan.board.borrow().missing();
            return Err(Failure::new(format!("{name}: not complete in {limit:?}: {missing}")));
        }
        phase.event = "end";
        phase.members = self.members.borrow().len();
        phase.seconds = Some(ended.since(began).as_secs_f64());
        phase.since_expiry = expiry
            .map(|expiry| ended.since(expiry).as_secs_f64() - expiry.since(ended).as_secs_f64());
        self.tell(&phase)?;
        self.phases.borrow_mut().push(phase);
        Ok(())
    }

    /// Lets members heartbeat for a while; its seconds are those it was told to last.
    async fn steady(&self) -> Done {
        let members = self.members.borrow().len();
        let mut phase = Phase {
            event: "begin",
            phase: "steady",
            round: 0,
            members,
            seconds: None,
            since_expiry: None,
        };
        self.tell(&phase)?;
        self.runtime.sleep(seconds(self.args.steady)).await;
        self.check()?;
        phase.event = "end";
        phase.seconds = Some(self.args.steady);
        self.tell(&phase)
    }

    /// One member commits an offset for every partition, so that there is something to fetch.
    async fn commit_all(&self) -> Done {
        let first = self.members.borrow().values().next().cloned();
        if let Some(member) = first {
            member.commit(self.plan.partition_count, 0).await?;
        }
        Ok(())
    }

    fn tell(&self, event: &impl Serialize) -> Done {
        if !self.args.json {
            return Ok(());
        }
        let json = serde_json::to_string(event).map_err(|error| Failure::new(error.to_string()))?;
        let mut out = self.out.borrow_mut();
        out.line(json)?;
        out.flush()
    }

    fn finish(&self) -> Done {
        self.progress.end("done");
        let overlaps = self.plan.board.borrow().overlap_count();
        self.tell(&Summary {
            event: "summary",
            protocol: format!("{:?}", self.args.protocol).to_lowercase(),
            members: self.args.members,
            partitions: self.plan.partition_count,
            overlaps,
        })?;
        if self.args.json {
            return Ok(());
        }
        let mut out = self.out.borrow_mut();
        out.line(format_args!(
            "{:?} protocol, {} members, {} partitions; seconds until all are consumed",
            self.args.protocol, self.args.members, self.plan.partition_count
        ))?;
        for phase in self.phases.borrow().iter() {
            let took = phase.seconds.unwrap_or_default();
            let since = phase.since_expiry.map(|it| format!("  {it:.3} after its session ended"));
            out.line(format_args!(
                "  {:<7} {:>5} members  {took:>8.3}{}",
                phase.phase,
                phase.members,
                since.unwrap_or_default()
            ))?;
        }
        if overlaps > 0 {
            out.line(format_args!("  {overlaps} times two members consumed one partition"))?;
        }
        out.flush()
    }
}
