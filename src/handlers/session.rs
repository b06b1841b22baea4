//! Fetch sessions (KIP-227): what a client fetches, remembered, so that it need not repeat it.
//!
//! Pure. A session lives on the core that created it; its id carries the core's number, so that
//! another core knows nothing of it and says so, which makes the client fetch in full.
//!
//! Sessions are bounded in number and, as partitions and names are the client's choice, in memory.
//! A client for which there is no room gets no session, and fetches in full each time.
//!
//! Invariant: `cost_bytes` is what all sessions cost, and `COST_BYTES_MAX` at most.
//!
//! Source of the rules: Kafka's `FetchManager`, `FetchSession`, `FetchSessionCacheShard`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Instant, ShardId, Uuid};

/// A topic as the client named it: by name below Fetch v13, by id from then on.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TopicRef {
    /// By name, which all partitions of the topic share.
    Name(Rc<str>),
    /// By id; `None` is the all-zero id.
    Id(Option<Uuid>),
}

/// A partition as the client named it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartitionRef {
    /// The topic.
    pub topic: TopicRef,
    /// The partition's number.
    pub partition: i32,
}

impl PartitionRef {
    /// What remembering it is taken to need. The name counts in full for each partition, as those
    /// that come in requests of their own do not share it.
    fn cost_bytes(&self) -> usize {
        let name_bytes = match &self.topic {
            TopicRef::Name(name) => name.len(),
            TopicRef::Id(_) => 0,
        };
        PARTITION_BYTES + name_bytes
    }
}

/// What a client wants of one partition, as on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The offset to fetch from.
    pub offset: i64,
    /// `partition_max_bytes`.
    pub bytes_max: i32,
    /// The leader epoch the client believes in, -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch of the last record fetched, -1 for none.
    pub last_fetched_epoch: i32,
}

/// What decides whether an incremental answer names a partition.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Bytes of records in the answer.
    pub records_bytes: u64,
    /// The high watermark of the answer.
    pub high_watermark: i64,
    /// The log start of the answer.
    pub log_start: i64,
    /// The error code of the answer.
    pub error_code: i16,
    /// Whether the answer says where histories part, or names another replica.
    pub redirects: bool,
}

/// What a fetch is, once its session was looked up.
#[derive(Debug, Eq, PartialEq)]
pub enum Context {
    /// Not remembered.
    Sessionless,
    /// All partitions are in the request; a session is to be created.
    Full,
    /// What the session remembers is fetched.
    Incremental {
        /// The session.
        id: i32,
        /// All its partitions, in the order to read them.
        partitions: Vec<(PartitionRef, Wanted)>,
    },
}

/// Why a session can not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionError {
    /// 70: no such session here.
    IdNotFound,
    /// 71: not the epoch expected.
    InvalidEpoch,
    /// 106: names and ids were mixed.
    TopicId,
}

/// The session fields of a fetch request.
#[derive(Clone, Copy, Debug)]
pub struct SessionAsk {
    /// `session_id`, 0 for none.
    pub id: i32,
    /// `session_epoch`: 0 opens, -1 closes.
    pub epoch: i32,
    /// Whether the request names topics by id.
    pub by_topic_id: bool,
}

#[derive(Debug)]
struct Cached {
    partition: PartitionRef,
    wanted: Wanted,
    high_watermark: i64,
    log_start: i64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_topic_id: bool,
    created: Instant,
    last_used: Instant,
    /// In the order to read them; a partition that had records moves to the end.
    partitions: BTreeMap<u64, Cached>,
    /// Not hashed: clients choose the names.
    places: BTreeMap<PartitionRef, u64>,
    place_next: u64,
}

impl Session {
    /// What it is taken to need.
    fn cost_bytes(&self) -> usize {
        let partitions = self.partitions.values().map(|cached| cached.partition.cost_bytes());
        SESSION_BYTES + partitions.sum::<usize>()
    }

    /// Remembers what is wanted of `partition`; by how much that raises the cost, in bytes.
    fn put(&mut self, partition: PartitionRef, wanted: Wanted, known: (i64, i64)) -> usize {
        match self.places.get(&partition) {
            Some(place) => {
                if let Some(cached) = self.partitions.get_mut(place) {
                    cached.wanted = wanted;
                }
                0
            }
            None => {
                let cost_bytes = partition.cost_bytes();
                let place = self.place_next;
                self.place_next += 1;
                self.places.insert(partition.clone(), place);
                let (high_watermark, log_start) = known;
                let cached = Cached { partition, wanted, high_watermark, log_start };
                self.partitions.insert(place, cached);
                cost_bytes
            }
        }
    }

    /// Forgets `partition`; by how much that lowers the cost, in bytes.
    fn forget(&mut self, partition: &PartitionRef) -> usize {
        let Some(place) = self.places.remove(partition) else { return 0 };
        self.partitions.remove(&place);
        partition.cost_bytes()
    }

    fn move_to_end(&mut self, partition: &PartitionRef) {
        let Some(place) = self.places.get_mut(partition) else { return };
        if let Some(cached) = self.partitions.remove(place) {
            *place = self.place_next;
            self.partitions.insert(self.place_next, cached);
            self.place_next += 1;
        }
    }
}

/// The sessions of one core: a bounded number, of bounded memory.
#[derive(Debug)]
pub struct SessionCache {
    shard: ShardId,
    capacity: usize,
    /// What the sessions may cost together.
    cost_bytes_max: usize,
    /// What they do cost.
    cost_bytes: usize,
    sessions: BTreeMap<i32, Session>,
}

/// What the sessions of one core may cost together: some 160,000 partitions.
const COST_BYTES_MAX: usize = 64 << 20;

/// What a session is taken to need beside its partitions: itself, and the first node of its tree,
/// which has room for eleven partitions.
const SESSION_BYTES: usize = 1 << 10;

/// What a partition of a session is taken to need beside the name of its topic. 180 bytes of it are
/// for the tree, whose nodes may be half empty, and 190 for the table, three quarters of which may
/// be; mostly it is two thirds of that.
const PARTITION_BYTES: usize = 384;

/// How long a session must be idle before another may take its place
/// (`FetchSession.MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// Bits of a session id that hold the core's number.
const SHARD_BITS: u32 = 8;

impl SessionCache {
    /// No sessions yet; `capacity` at most, or fewer where they are large.
    pub fn new(shard: ShardId, capacity: usize) -> Self {
        let sessions = BTreeMap::new();
        Self { shard, capacity, cost_bytes_max: COST_BYTES_MAX, cost_bytes: 0, sessions }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Looks up a request's session and brings it up to date with `wanted` and `forgotten`.
    ///
    /// A session that there is no room for any more ends: [`SessionError::IdNotFound`] makes the
    /// client fetch in full.
    pub fn begin(
        &mut self,
        now: Instant,
        ask: SessionAsk,
        wanted: &[(PartitionRef, Wanted)],
        forgotten: &[PartitionRef],
    ) -> Result<Context, SessionError> {
        if ask.epoch <= 0 {
            self.remove(ask.id);
            return Ok(if ask.epoch < 0 { Context::Sessionless } else { Context::Full });
        }
        let session = self.sessions.get_mut(&ask.id).ok_or(SessionError::IdNotFound)?;
        if session.epoch != ask.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_topic_id != ask.by_topic_id {
            return Err(SessionError::TopicId);
        }
        for (partition, wanted) in wanted {
            self.cost_bytes += session.put(partition.clone(), *wanted, (-1, -1));
            if self.cost_bytes > self.cost_bytes_max {
                self.remove(ask.id);
                return Err(SessionError::IdNotFound);
            }
        }
        for partition in forgotten {
            self.cost_bytes -= session.forget(partition);
        }
        if session.partitions.is_empty() {
            self.remove(ask.id);
            return Ok(Context::Sessionless);
        }
        session.last_used = now;
        session.epoch = next_epoch(session.epoch);
        let partitions =
            session.partitions.values().map(|c| (c.partition.clone(), c.wanted)).collect();
        Ok(Context::Incremental { id: ask.id, partitions })
    }

    /// Creates a session for a full fetch that was answered with `answered`. Its id, or 0 when
    /// there is no room. `random` is fresh for each call.
    pub fn create(
        &mut self,
        now: Instant,
        by_topic_id: bool,
        answered: Vec<(PartitionRef, Wanted, Answered)>,
        random: u64,
    ) -> i32 {
        let partitions_bytes: usize = answered.iter().map(|(asked, ..)| asked.cost_bytes()).sum();
        if !self.make_room(now, SESSION_BYTES + partitions_bytes) {
            return 0;
        }
        if self.sessions.len() >= self.capacity && !self.evict(now, answered.len()) {
            return 0;
        }
        let id = self.fresh_id(random);
        let mut session = Session {
            epoch: 1,
            by_topic_id,
            created: now,
            last_used: now,
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            place_next: 0,
        };
        for (partition, wanted, answered) in answered {
            let failed = answered.error_code != 0;
            let high_watermark = if failed { -1 } else { answered.high_watermark };
            session.put(partition, wanted, (high_watermark, answered.log_start));
        }
        self.cost_bytes += session.cost_bytes();
        self.sessions.insert(id, session);
        id
    }

    /// Whether an incremental answer must name `partition`; the session then remembers what was
    /// said.
    pub fn must_answer(&mut self, id: i32, partition: &PartitionRef, answered: Answered) -> bool {
        // The session may have been closed or evicted while the fetch waited.
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        let Some(place) = session.places.get(partition) else { return true };
        let Some(cached) = session.partitions.get_mut(place) else { return true };
        let mut must = answered.records_bytes > 0 || answered.redirects;
        if cached.high_watermark != answered.high_watermark {
            cached.high_watermark = answered.high_watermark;
            must = true;
        }
        if cached.log_start != answered.log_start {
            cached.log_start = answered.log_start;
            must = true;
        }
        if answered.error_code != 0 {
            // Forgetting the watermark has it sent once the error is over.
            cached.high_watermark = -1;
            must = true;
        }
        if answered.records_bytes > 0 {
            session.move_to_end(partition);
        }
        must
    }

    fn fresh_id(&self, random: u64) -> i32 {
        let mut number = (random as u32 >> (SHARD_BITS + 1)).max(1);
        loop {
            let id = ((number << SHARD_BITS) | u32::from(self.shard.0)) & i32::MAX as u32;
            let id = id as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
            number = number.wrapping_add(1) & ((1 << (31 - SHARD_BITS)) - 1);
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.cost_bytes -= session.cost_bytes();
        }
    }

    /// Makes room for a session of that cost by dropping idle ones, those longest unused first.
    ///
    /// Smaller ones stay: where memory is short, they save their clients as much as a larger one
    /// in their place would.
    fn make_room(&mut self, now: Instant, cost_bytes: usize) -> bool {
        let Some(others_bytes_max) = self.cost_bytes_max.checked_sub(cost_bytes) else {
            return false;
        };
        if self.cost_bytes > others_bytes_max {
            let sessions = self.sessions.iter();
            let mut idle: Vec<(Instant, i32)> = sessions
                .filter(|(_, session)| now.since(session.last_used) > EVICTABLE_AFTER)
                .map(|(id, session)| (session.last_used, *id))
                .collect();
            idle.sort_unstable();
            for (_, id) in idle {
                if self.cost_bytes <= others_bytes_max {
                    break;
                }
                self.remove(id);
            }
        }
        self.cost_bytes <= others_bytes_max
    }

    /// Makes a slot free by dropping the session longest unused, or a smaller one.
    fn evict(&mut self, now: Instant, size: usize) -> bool {
        let idle = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
        let Some((idle_id, idle)) = idle else { return false };
        if now.since(idle.last_used) > EVICTABLE_AFTER {
            let id = *idle_id;
            self.remove(id);
            return true;
        }
        let smallest = self
            .sessions
            .iter()
            .filter(|(_, session)| now.since(session.created) > EVICTABLE_AFTER)
            .min_by_key(|(_, session)| session.partitions.len());
        match smallest {
            Some((id, session)) if session.partitions.len() < size => {
                let id = *id;
                self.remove(id);
                true
            }
            Some(_) | None => false,
        }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> PartitionRef {
        PartitionRef { topic: TopicRef::Name("t".into()), partition: number }
    }

    fn wanted(offset: i64) -> Wanted {
        Wanted { offset, bytes_max: 100, current_leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn quiet() -> Answered {
        Answered {
            records_bytes: 0,
            high_watermark: 5,
            log_start: 0,
            error_code: 0,
            redirects: false,
        }
    }

    fn ask(id: i32, epoch: i32) -> SessionAsk {
        SessionAsk { id, epoch, by_topic_id: false }
    }

    fn several(count: i32) -> Vec<(PartitionRef, Wanted, Answered)> {
        (0..count).map(|n| (partition(n), wanted(0), quiet())).collect()
    }

    fn opened(cache: &mut SessionCache, count: i32) -> i32 {
        cache.create(Instant::default(), false, several(count), 12_345)
    }

    /// The cost of a session of that many partitions.
    fn cost(count: usize) -> usize {
        SESSION_BYTES + count * partition(0).cost_bytes()
    }

    fn cache_of(cost_bytes_max: usize) -> SessionCache {
        let mut cache = SessionCache::new(ShardId(0), 10);
        cache.cost_bytes_max = cost_bytes_max;
        cache
    }

    #[test]
    fn a_session_answers_only_what_changed_and_is_fair() {
        let mut cache = SessionCache::new(ShardId(1), 10);
        let id = opened(&mut cache, 3);
        let now = Instant::default();
        let moved = [(partition(1), wanted(7))];
        let context = cache.begin(now, ask(id, 1), &moved, &[partition(2)]);
        let expected = vec![(partition(0), wanted(0)), (partition(1), wanted(7))];
        assert_eq!(context, Ok(Context::Incremental { id, partitions: expected }));
        assert!(!cache.must_answer(id, &partition(0), quiet()), "nothing changed");
        assert!(cache.must_answer(id, &partition(0), Answered { records_bytes: 9, ..quiet() }));
        assert!(cache.must_answer(id, &partition(1), Answered { high_watermark: 8, ..quiet() }));
        assert!(cache.must_answer(id, &partition(1), Answered { error_code: 6, ..quiet() }));
        assert!(cache.must_answer(id, &partition(1), quiet()), "resent after an error");
        let context = cache.begin(now, ask(id, 2), &[], &[]);
        let expected = vec![(partition(1), wanted(7)), (partition(0), wanted(0))];
        assert_eq!(context, Ok(Context::Incremental { id, partitions: expected }));
    }

    #[test]
    fn a_wrong_id_epoch_or_naming_is_refused() {
        let mut cache = SessionCache::new(ShardId(1), 10);
        let id = opened(&mut cache, 1);
        let now = Instant::default();
        let by_id = SessionAsk { by_topic_id: true, ..ask(id, 1) };
        let cases = [
            ("unknown id", ask(id ^ 256, 1), SessionError::IdNotFound),
            ("epoch ahead", ask(id, 2), SessionError::InvalidEpoch),
            ("ids in a session of names", by_id, SessionError::TopicId),
        ];
        for (name, ask, expected) in cases {
            assert_eq!(cache.begin(now, ask, &[], &[]), Err(expected), "{name}");
        }
        assert_eq!(cache.begin(now, ask(id, 0), &[], &[]), Ok(Context::Full));
        assert!(cache.is_empty(), "a full fetch closes the session it names");
        assert_eq!(cache.begin(now, ask(0, -1), &[], &[]), Ok(Context::Sessionless));
    }

    #[test]
    fn a_full_cache_gives_way_to_idle_and_smaller_sessions_only() {
        let mut cache = SessionCache::new(ShardId(0), 2);
        let first = opened(&mut cache, 1);
        let second = opened(&mut cache, 5);
        assert_ne!(first, second);
        assert_eq!(opened(&mut cache, 9), 0, "both are young");
        let later = Instant::default() + EVICTABLE_AFTER + Duration::from_secs(1);
        let all = vec![(partition(0), wanted(0), quiet())];
        assert_ne!(cache.create(later, false, all, 1), 0, "the idle one went");
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn a_session_without_partitions_is_closed() {
        let mut cache = SessionCache::new(ShardId(0), 2);
        let id = opened(&mut cache, 1);
        let context = cache.begin(Instant::default(), ask(id, 1), &[], &[partition(0)]);
        assert_eq!(context, Ok(Context::Sessionless));
        assert!(cache.is_empty());
    }

    #[test]
    fn a_session_of_very_many_partitions_or_very_long_names_is_not_created() {
        let mut cache = SessionCache::new(ShardId(0), 10);
        assert_eq!(opened(&mut cache, 300_000), 0, "many partitions");
        let name: Rc<str> = "n".repeat(32_000).into();
        let long = |number| PartitionRef { topic: TopicRef::Name(name.clone()), partition: number };
        let all = (0..3000).map(|n| (long(n), wanted(0), quiet())).collect();
        assert_eq!(cache.create(Instant::default(), false, all, 1), 0, "long names");
        assert_eq!((cache.len(), cache.cost_bytes), (0, 0));
        assert_ne!(opened(&mut cache, 1000), 0, "an ordinary one");
    }

    #[test]
    fn where_memory_is_short_idle_sessions_give_way() {
        let mut cache = cache_of(2 * cost(3));
        let first = opened(&mut cache, 3);
        let second = opened(&mut cache, 3);
        assert!(first != 0 && second != 0);
        assert_eq!(opened(&mut cache, 0), 0, "none is idle");
        let later = Instant::default() + EVICTABLE_AFTER + Duration::from_secs(1);
        assert!(cache.begin(later, ask(second, 1), &[], &[]).is_ok());
        assert_eq!(cache.create(later, false, several(100), 1), 0, "more than there can be");
        assert_eq!(cache.len(), 2, "nobody went for it");
        assert_ne!(cache.create(later, false, several(1), 1), 0, "the idle one went");
        let gone = cache.begin(later, ask(first, 1), &[], &[]);
        assert_eq!(gone, Err(SessionError::IdNotFound));
        assert!(cache.begin(later, ask(second, 2), &[], &[]).is_ok(), "it is in use");
        assert_eq!(cache.cost_bytes, cost(3) + cost(1));
    }

    #[test]
    fn a_session_that_outgrows_the_memory_ends() {
        let mut cache = cache_of(cost(3));
        let id = opened(&mut cache, 2);
        let now = Instant::default();
        let fitting = [(partition(2), wanted(0))];
        assert!(cache.begin(now, ask(id, 1), &fitting, &[]).is_ok());
        let known = [(partition(0), wanted(5)), (partition(2), wanted(6))];
        assert!(cache.begin(now, ask(id, 2), &known, &[]).is_ok(), "nothing is added");
        let added = [(partition(3), wanted(0))];
        let refused = cache.begin(now, ask(id, 3), &added, &[]);
        assert_eq!(refused, Err(SessionError::IdNotFound));
        assert_eq!((cache.len(), cache.cost_bytes), (0, 0));
        assert_ne!(opened(&mut cache, 3), 0, "there is room again");
    }

    #[test]
    fn the_cost_follows_what_is_remembered() {
        let mut cache = SessionCache::new(ShardId(0), 2);
        let now = Instant::default();
        let twice = [several(4), several(5)].concat();
        let first = cache.create(now, false, twice, 1);
        assert_eq!(cache.cost_bytes, cost(5), "named twice");
        let second = opened(&mut cache, 1);
        assert_eq!(cache.cost_bytes, cost(5) + cost(1), "another");
        let added = [(partition(5), wanted(0)), (partition(6), wanted(0))];
        let forgotten = [partition(6), partition(0), partition(0), partition(99)];
        assert!(cache.begin(now, ask(first, 1), &added, &forgotten).is_ok());
        assert_eq!(cache.cost_bytes, cost(5) + cost(1), "two added, two forgotten");
        let records = Answered { records_bytes: 9, ..quiet() };
        assert!(cache.must_answer(first, &partition(1), records));
        assert_eq!(cache.cost_bytes, cost(5) + cost(1), "moved to the end");
        assert_eq!(cache.begin(now, ask(second, -1), &[], &[]), Ok(Context::Sessionless));
        assert_eq!(cache.cost_bytes, cost(5), "closed");
        let third = opened(&mut cache, 1);
        let context = cache.begin(now, ask(third, 1), &[], &[partition(0)]);
        assert_eq!(context, Ok(Context::Sessionless));
        assert_eq!(cache.cost_bytes, cost(5), "nothing left in it");
        assert_ne!(opened(&mut cache, 2), 0);
        let later = now + EVICTABLE_AFTER + Duration::from_secs(1);
        assert!(cache.begin(later, ask(first, 2), &[], &[]).is_ok());
        assert_ne!(cache.create(later, false, several(1), 1), 0);
        assert_eq!(cache.cost_bytes, cost(5) + cost(1), "an idle one gave its slot up");
        let latest = later + EVICTABLE_AFTER;
        assert_ne!(cache.create(latest, false, several(7), 1), 0);
        assert_eq!(cache.cost_bytes, cost(1) + cost(7), "a smaller one, no longer young, did");
    }

    #[test]
    fn forgotten_partitions_leave_no_memory_behind() {
        let mut cache = SessionCache::new(ShardId(0), 1);
        let id = opened(&mut cache, 1000);
        let forgotten: Vec<PartitionRef> = (1..1000).map(partition).collect();
        assert!(cache.begin(Instant::default(), ask(id, 1), &[], &forgotten).is_ok());
        assert_eq!(cache.sessions[&id].places.len(), 1);
        assert_eq!(cache.cost_bytes, cost(1));
    }
}
