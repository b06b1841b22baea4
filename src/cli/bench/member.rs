//! One member of a group: joins, takes its partitions, fetches their offsets, heartbeats.
//!
//! It does what a consumer does and no more: every member has a connection of its own, and asks for
//! the committed offsets of what it was given before it counts as consuming it.
//!
//! Not here: who owns what (`board`), and when members come and go (`groups`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::Encodable;

use crate::base::Instant;
use crate::group::classic::subscription::decode_assignment;
use crate::protocol::{ErrorCode, Str};
use crate::runtime::Runtime;
use crate::runtime::local::{Notice, first};

use super::super::args::GroupProtocolArg;
use super::super::client::{ClientError, Connection, Outcome};
use super::super::group::is_unready;
use super::board::{Board, range};

/// The newest versions of the requests that are sent.
mod newest {
    pub const COMMIT: i16 = 9;
    pub const FETCH: i16 = 9;
    pub const JOIN: i16 = 9;
    pub const HEARTBEAT: i16 = 4;
    pub const LEAVE: i16 = 5;
    pub const SYNC: i16 = 5;
    pub const CONSUMER_HEARTBEAT: i16 = 1;
}

/// The version of subscriptions and assignments inside of the classic protocol.
const EMBEDDED_VERSION: i16 = 3;

/// How long a coordinator may take to call a rebalance off.
const REBALANCE_MS: i32 = 60_000;

/// The wait before something is asked again that is not ready.
const PAUSE: Duration = Duration::from_millis(100);

/// How often something is asked that is not ready.
const TRIES: u32 = 300;

/// What all members of a group have in common.
pub struct Plan {
    /// The group.
    pub group: GroupId,
    /// The topic all subscribe to.
    pub topic: TopicName,
    /// Its id, which the consumer protocol speaks of.
    pub topic_id: uuid::Uuid,
    /// How many partitions it has.
    pub partition_count: usize,
    /// Which protocol is spoken.
    pub protocol: GroupProtocolArg,
    /// Session timeout of classic members.
    pub session: Duration,
    /// Interval of classic heartbeats; those of the consumer protocol are told by the broker.
    pub interval: Duration,
    /// What the members have.
    pub board: RefCell<Board>,
    /// Tells that the board changed.
    pub changed: Notice,
}

/// What a member is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    Stay,
    Leave,
    Die,
}

/// One member.
pub struct Member {
    runtime: Runtime,
    connection: Connection,
    plan: Rc<Plan>,
    number: usize,
    wish: Cell<Wish>,
    wished: Notice,
    id: RefCell<Str>,
    /// Generation, or epoch.
    generation: Cell<i32>,
    owned: RefCell<BTreeSet<i32>>,
    /// When it sent the last heartbeat that was answered.
    heartbeat_sent: Cell<Instant>,
}

impl Member {
    /// A member that has not joined yet.
    pub fn new(
        runtime: Runtime,
        connection: Connection,
        plan: Rc<Plan>,
        number: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            heartbeat_sent: Cell::new(runtime.now()),
            runtime,
            connection,
            plan,
            number,
            wish: Cell::new(Wish::Stay),
            wished: Notice::new(),
            id: RefCell::new(Str::default()),
            generation: Cell::new(-1),
            owned: RefCell::default(),
        })
    }

    /// Joins and stays until [`Member::leave`] or [`Member::die`].
    pub async fn run(&self) -> Outcome<()> {
        let lived = match self.plan.protocol {
            GroupProtocolArg::Classic => self.live_classic().await,
            GroupProtocolArg::Consumer => self.live_consumer().await,
        };
        // Whatever fails at its death is no failure.
        if self.wish.get() == Wish::Die { Ok(()) } else { lived }
    }

    /// Its number in this run.
    pub fn number(&self) -> usize {
        self.number
    }

    /// When it sent the last heartbeat that was answered.
    pub fn heartbeat_sent(&self) -> Instant {
        self.heartbeat_sent.get()
    }

    /// Closes the connection and says nothing any more.
    pub fn die(&self) {
        self.wish.set(Wish::Die);
        self.connection.close();
        self.gone();
    }

    /// Leaves the group with a word.
    pub fn leave(&self) {
        self.wish.set(Wish::Leave);
        self.wished.notify();
    }

    fn gone(&self) {
        self.plan.board.borrow_mut().remove(self.number);
        self.plan.changed.notify();
        self.wished.notify();
    }

    /// Commits `offset` for the first `count` partitions; how the broker answered.
    pub async fn commit(&self, count: usize, offset: i64) -> Outcome<()> {
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_metadata(Some(Str::default()))
        };
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(self.plan.topic.clone())
            .with_partitions((0..count).map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(self.plan.group.clone())
            .with_generation_id_or_member_epoch(self.generation.get())
            .with_member_id(self.id.borrow().clone())
            .with_topics(vec![topic]);
        let answer = self.connection.call_group(&request, newest::COMMIT).await?;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        match partitions.map(|it| it.error_code).find(|code| *code != 0) {
            None => Ok(()),
            Some(raw) => Err(self.refused("OffsetCommit", code(raw))),
        }
    }

    fn refused(&self, what: &str, code: ErrorCode) -> ClientError {
        ClientError::refused(format!("{what} of member {}", self.number), code, None)
    }

    /// Waits, unless something else is wished first.
    async fn pause(&self, duration: Duration) {
        if self.wish.get() == Wish::Stay {
            first(self.runtime.sleep(duration), self.wished.notified()).await;
        }
    }

    /// The first heartbeat comes after a part of the interval, so that members are spread over it
    /// as they are after a while, and on every run in the same way.
    fn first_interval(&self, interval: Duration) -> Duration {
        const GOLDEN: f64 = 0.618_033_988_749;
        interval.mul_f64((GOLDEN * (self.number + 1) as f64).fract())
    }

    /// Fetches the committed offsets of `partitions` and then consumes them. False when the
    /// coordinator wants the member to heartbeat or join first.
    async fn consume(&self, partitions: Vec<i32>) -> Outcome<bool> {
        if partitions.is_empty() {
            return Ok(true);
        }
        let topic = OffsetFetchRequestTopics::default()
            .with_name(self.plan.topic.clone())
            .with_partition_indexes(partitions.clone());
        let mut group = OffsetFetchRequestGroup::default()
            .with_group_id(self.plan.group.clone())
            .with_topics(Some(vec![topic]));
        if self.plan.protocol == GroupProtocolArg::Consumer {
            group.member_id = Some(self.id.borrow().clone());
            group.member_epoch = self.generation.get();
        }
        let request =
            OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
        let answer = self.connection.call_group(&request, newest::FETCH).await?;
        let found = answer.groups.first();
        let raw = found.map_or(-1, |group| group.error_code);
        if raw != 0 {
            return match code(raw) {
                ErrorCode::StaleMemberEpoch | ErrorCode::UnknownMemberId => Ok(false),
                code => Err(self.refused("OffsetFetch", code)),
            };
        }
        let rows = found.iter().flat_map(|group| &group.topics).flat_map(|it| &it.partitions);
        let mut count = 0;
        for row in rows {
            if row.error_code != 0 {
                return Err(self.refused("OffsetFetch", code(row.error_code)));
            }
            count += 1;
        }
        if count != partitions.len() {
            return Err(self.refused("OffsetFetch", ErrorCode::UnknownTopicOrPartition));
        }
        if self.wish.get() != Wish::Die {
            self.plan.board.borrow_mut().consume(self.number, &partitions);
            self.owned.borrow_mut().extend(partitions);
            self.plan.changed.notify();
        }
        Ok(true)
    }

    fn enter(&self, generation: Option<i32>) {
        if self.wish.get() == Wish::Die {
            return;
        }
        if generation.is_none() {
            self.owned.borrow_mut().clear();
        }
        self.plan.board.borrow_mut().enter(self.number, generation);
        self.plan.changed.notify();
    }
}

/// The classic protocol: eager, the leader assigns by range.
impl Member {
    async fn live_classic(&self) -> Outcome<()> {
        loop {
            let joined = self.join().await?;
            let Some(partitions) = self.sync(&joined).await? else { continue };
            self.enter(Some(joined.generation_id));
            self.consume(partitions).await?;
            self.heartbeat_until_rebalance().await?;
            if self.wish.get() == Wish::Leave {
                return self.leave_classic().await;
            }
            self.enter(None);
        }
    }

    async fn join(&self) -> Outcome<JoinGroupResponse> {
        let subscription = ConsumerProtocolSubscription::default()
            .with_topics(vec![self.plan.topic.0.clone()])
            .with_generation_id(self.generation.get());
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(Str::from_static_str("range"))
            .with_metadata(embedded(&subscription));
        for _ in 0..TRIES {
            let request = JoinGroupRequest::default()
                .with_group_id(self.plan.group.clone())
                .with_session_timeout_ms(millis(self.plan.session))
                .with_rebalance_timeout_ms(REBALANCE_MS)
                .with_member_id(self.id.borrow().clone())
                .with_protocol_type(Str::from_static_str("consumer"))
                .with_protocols(vec![protocol.clone()]);
            let answer = self.connection.call_group(&request, newest::JOIN).await?;
            match code(answer.error_code) {
                ErrorCode::None => {
                    self.id.replace(answer.member_id.clone());
                    self.generation.set(answer.generation_id);
                    return Ok(answer);
                }
                ErrorCode::MemberIdRequired => drop(self.id.replace(answer.member_id)),
                ErrorCode::UnknownMemberId => drop(self.id.take()),
                ErrorCode::RebalanceInProgress => {}
                code if is_unready(code) => self.runtime.sleep(PAUSE).await,
                code => return Err(self.refused("JoinGroup", code)),
            }
        }
        Err(self.refused("JoinGroup", ErrorCode::CoordinatorNotAvailable))
    }

    /// What this member is to consume; `None` when it has to join again.
    async fn sync(&self, joined: &JoinGroupResponse) -> Outcome<Option<Vec<i32>>> {
        let request = SyncGroupRequest::default()
            .with_group_id(self.plan.group.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_protocol_type(joined.protocol_type.clone())
            .with_protocol_name(joined.protocol_name.clone())
            .with_assignments(self.assign(joined));
        let sent = self.runtime.now();
        let answer = self.connection.call_group(&request, newest::SYNC).await?;
        match code(answer.error_code) {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => return Ok(None),
            ErrorCode::UnknownMemberId => {
                self.id.take();
                return Ok(None);
            }
            code => return Err(self.refused("SyncGroup", code)),
        }
        self.heartbeat_sent.set(sent);
        let bytes = answer.assignment;
        if bytes.len() < 2 {
            return Ok(Some(Vec::new()));
        }
        let assigned = decode_assignment(bytes)
            .map_err(|_| self.refused("SyncGroup", ErrorCode::InconsistentGroupProtocol))?;
        Ok(Some(assigned.topics.into_iter().flat_map(|(_, partitions)| partitions).collect()))
    }

    /// What every member gets, by the leader; nothing by the others.
    fn assign(&self, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
        let mut ids: Vec<&Str> = joined.members.iter().map(|member| &member.member_id).collect();
        ids.sort();
        let assignment = |(index, id): (usize, &&Str)| {
            let dealt = range(self.plan.partition_count, ids.len(), index);
            let partitions = dealt.map(|index| i32::try_from(index).unwrap_or(i32::MAX)).collect();
            let topic = TopicPartition::default()
                .with_topic(self.plan.topic.clone())
                .with_partitions(partitions);
            let assignment =
                ConsumerProtocolAssignment::default().with_assigned_partitions(vec![topic]);
            SyncGroupRequestAssignment::default()
                .with_member_id((*id).clone())
                .with_assignment(embedded(&assignment))
        };
        ids.iter().enumerate().map(assignment).collect()
    }

    async fn heartbeat_until_rebalance(&self) -> Outcome<()> {
        self.pause(self.first_interval(self.plan.interval)).await;
        while self.wish.get() == Wish::Stay {
            let request = HeartbeatRequest::default()
                .with_group_id(self.plan.group.clone())
                .with_generation_id(self.generation.get())
                .with_member_id(self.id.borrow().clone());
            let sent = self.runtime.now();
            let answer = self.connection.call_group(&request, newest::HEARTBEAT).await?;
            match code(answer.error_code) {
                ErrorCode::None => {}
                ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => return Ok(()),
                ErrorCode::UnknownMemberId => {
                    self.id.take();
                    return Ok(());
                }
                code => return Err(self.refused("Heartbeat", code)),
            }
            self.heartbeat_sent.set(sent);
            let due = sent + self.plan.interval;
            self.pause(due.since(self.runtime.now())).await;
        }
        Ok(())
    }

    async fn leave_classic(&self) -> Outcome<()> {
        let member = MemberIdentity::default()
            .with_member_id(self.id.borrow().clone())
            .with_group_instance_id(None);
        let request = LeaveGroupRequest::default()
            .with_group_id(self.plan.group.clone())
            .with_members(vec![member]);
        self.gone();
        let answer = self.connection.call_group(&request, newest::LEAVE).await?;
        self.connection.close();
        match code(answer.error_code) {
            ErrorCode::None => Ok(()),
            code => Err(self.refused("LeaveGroup", code)),
        }
    }
}

/// The consumer protocol: the broker assigns, members reconcile.
impl Member {
    async fn live_consumer(&self) -> Outcome<()> {
        self.generation.set(0);
        self.id.replace(Str::from_string(self.runtime.random_uuid().to_string()));
        let mut tries = 0;
        let mut acknowledges = true;
        let mut settled = false;
        loop {
            let sent = self.runtime.now();
            let request = self.consumer_heartbeat(acknowledges);
            let answer = self.connection.call_group(&request, newest::CONSUMER_HEARTBEAT).await?;
            match code(answer.error_code) {
                ErrorCode::None => {}
                ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => {
                    self.enter(None);
                    self.generation.set(0);
                    acknowledges = true;
                    continue;
                }
                code if is_unready(code) && tries < TRIES => {
                    tries += 1;
                    self.runtime.sleep(PAUSE).await;
                    continue;
                }
                code => {
                    let words = answer.error_message.as_deref();
                    let what = format!("ConsumerGroupHeartbeat of member {}", self.number);
                    return Err(ClientError::refused(what, code, words));
                }
            }
            self.heartbeat_sent.set(sent);
            self.generation.set(answer.member_epoch);
            self.enter(Some(answer.member_epoch));
            acknowledges = false;
            if let Some(assignment) = answer.assignment {
                let told = assignment.topic_partitions.into_iter().flat_map(|it| it.partitions);
                acknowledges = self.reconcile(told.collect()).await?;
            }
            let interval = Duration::from_millis(answer.heartbeat_interval_ms.max(1) as u64);
            if !acknowledges {
                let wait = if settled { interval } else { self.first_interval(interval) };
                settled = true;
                self.pause((sent + wait).since(self.runtime.now())).await;
            }
            if self.wish.get() != Wish::Stay {
                return self.leave_consumer().await;
            }
        }
    }

    /// Gives up what is not in `told`, takes what is new; whether the broker is to be told.
    async fn reconcile(&self, told: BTreeSet<i32>) -> Outcome<bool> {
        let owned = self.owned.borrow().clone();
        let lost: Vec<i32> = owned.difference(&told).copied().collect();
        let new: Vec<i32> = told.difference(&owned).copied().collect();
        if !lost.is_empty() {
            self.plan.board.borrow_mut().revoke(self.number, &lost);
            self.owned.borrow_mut().retain(|partition| told.contains(partition));
            self.plan.changed.notify();
        }
        let changes = !lost.is_empty() || !new.is_empty();
        self.consume(new).await?;
        Ok(changes)
    }

    fn consumer_heartbeat(&self, acknowledges: bool) -> ConsumerGroupHeartbeatRequest {
        let epoch = self.generation.get();
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.plan.group.clone())
            .with_member_id(self.id.borrow().clone())
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(-1)
            .with_topic_partitions(None);
        if epoch == 0 {
            request.rebalance_timeout_ms = REBALANCE_MS;
            request.subscribed_topic_names = Some(vec![self.plan.topic.clone()]);
        }
        if epoch == 0 || acknowledges {
            let owned: Vec<i32> = self.owned.borrow().iter().copied().collect();
            let topic = |partitions| {
                let id = self.plan.topic_id;
                TopicPartitions::default().with_topic_id(id).with_partitions(partitions)
            };
            let topics = (!owned.is_empty()).then(|| topic(owned));
            request.topic_partitions = Some(topics.into_iter().collect());
        }
        request
    }

    async fn leave_consumer(&self) -> Outcome<()> {
        let request = self.consumer_heartbeat(false).with_member_epoch(-1);
        self.gone();
        let answer = self.connection.call_group(&request, newest::CONSUMER_HEARTBEAT).await?;
        self.connection.close();
        match code(answer.error_code) {
            ErrorCode::None => Ok(()),
            code => Err(self.refused("ConsumerGroupHeartbeat", code)),
        }
    }
}

fn code(raw: i16) -> ErrorCode {
    ErrorCode::from_code(raw).unwrap_or(ErrorCode::UnknownServerError)
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A message of the embedded protocol behind its version, as the Java consumer writes it.
fn embedded(message: &impl Encodable) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&EMBEDDED_VERSION.to_be_bytes());
    if message.encode(&mut bytes, EMBEDDED_VERSION).is_err() {
        bytes.truncate(2);
    }
    bytes.freeze()
}
