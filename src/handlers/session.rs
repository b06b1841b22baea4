//! Fetch sessions (KIP-227): what a client fetches, remembered, so that it need not repeat it.
//!
//! Pure. A session lives on the core that created it; its id carries the core's number, so that
//! another core knows nothing of it and says so, which makes the client fetch in full.
//!
//! Source of the rules: Kafka's `FetchManager`, `FetchSession`, `FetchSessionCacheShard`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::{Instant, ShardId, Uuid};

/// A topic as the client named it: by name below Fetch v13, by id from then on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum TopicRef {
    /// By name, which all partitions of the topic share.
    Name(Rc<str>),
    /// By id; `None` is the all-zero id.
    Id(Option<Uuid>),
}

/// A partition as the client named it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PartitionRef {
    /// The topic.
    pub topic: TopicRef,
    /// The partition's number.
    pub partition: i32,
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
    places: FxHashMap<PartitionRef, u64>,
    place_next: u64,
}

impl Session {
    fn put(&mut self, partition: PartitionRef, wanted: Wanted, known: (i64, i64)) {
        match self.places.get(&partition) {
            Some(place) => {
                if let Some(cached) = self.partitions.get_mut(place) {
                    cached.wanted = wanted;
                }
            }
            None => {
                let place = self.place_next;
                self.place_next += 1;
                self.places.insert(partition.clone(), place);
                let (high_watermark, log_start) = known;
                let cached = Cached { partition, wanted, high_watermark, log_start };
                self.partitions.insert(place, cached);
            }
        }
    }

    fn forget(&mut self, partition: &PartitionRef) {
        if let Some(place) = self.places.remove(partition) {
            self.partitions.remove(&place);
        }
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

/// The sessions of one core: a bounded number.
#[derive(Debug)]
pub struct SessionCache {
    shard: ShardId,
    capacity: usize,
    sessions: BTreeMap<i32, Session>,
}

/// How long a session must be idle before another may take its place
/// (`FetchSession.MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// Bits of a session id that hold the core's number.
const SHARD_BITS: u32 = 8;

impl SessionCache {
    /// No sessions yet; `capacity` at most.
    pub fn new(shard: ShardId, capacity: usize) -> Self {
        Self { shard, capacity, sessions: BTreeMap::new() }
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
    pub fn begin(
        &mut self,
        now: Instant,
        ask: SessionAsk,
        wanted: &[(PartitionRef, Wanted)],
        forgotten: &[PartitionRef],
    ) -> Result<Context, SessionError> {
        if ask.epoch <= 0 {
            self.sessions.remove(&ask.id);
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
            session.put(partition.clone(), *wanted, (-1, -1));
        }
        for partition in forgotten {
            session.forget(partition);
        }
        if session.partitions.is_empty() {
            self.sessions.remove(&ask.id);
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
            places: FxHashMap::default(),
            place_next: 0,
        };
        for (partition, wanted, answered) in answered {
            let failed = answered.error_code != 0;
            let high_watermark = if failed { -1 } else { answered.high_watermark };
            session.put(partition, wanted, (high_watermark, answered.log_start));
        }
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

    /// Makes room by dropping the session longest unused, or a smaller one.
    fn evict(&mut self, now: Instant, size: usize) -> bool {
        let idle = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
        let Some((idle_id, idle)) = idle else { return false };
        if now.since(idle.last_used) > EVICTABLE_AFTER {
            let id = *idle_id;
            self.sessions.remove(&id);
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
                self.sessions.remove(&id);
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

    fn opened(cache: &mut SessionCache, count: i32) -> i32 {
        let all = (0..count).map(|n| (partition(n), wanted(0), quiet())).collect();
        cache.create(Instant::default(), false, all, 12_345)
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
}
