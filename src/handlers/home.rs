//! Which core a connection would better live on.
//!
//! A request to a group's coordinator goes to the core that has the group. For a member that sends
//! a heartbeat now and then, the message there and the answer back cost more than all the rest: two
//! cores are woken instead of one. So a connection whose requests go to one other core moves there.
//!
//! Connections that carry records stay where they are: they reach partitions of all cores, their
//! fetch sessions live on this one, and the core of a hot partition has enough to do.

use std::cell::Cell;

use crate::base::ShardId;

/// Requests in a row to one other core after which a connection moves there for the first time. A
/// member that joins has sent as many.
const REQUESTS: u32 = 4;

/// Every move doubles the requests before the next one, up to this many times: a connection that
/// serves groups of several cores soon comes to rest.
const DOUBLINGS_MAX: u32 = 16;

/// What is known of where a connection's requests go.
pub struct Home {
    core: Cell<Option<ShardId>>,
    /// Requests in a row that went to `core`.
    requests: Cell<u32>,
    requests_min: u32,
    stays: Cell<bool>,
}

impl Home {
    /// Of a connection that was moved so often.
    pub fn new(moves: u32) -> Self {
        let requests_min = REQUESTS << moves.min(DOUBLINGS_MAX);
        Self {
            core: Cell::new(None),
            requests: Cell::new(0),
            requests_min,
            stays: Cell::new(false),
        }
    }

    /// A request went to `core`.
    pub fn asked(&self, core: ShardId) {
        if self.core.replace(Some(core)) != Some(core) {
            self.requests.set(0);
        }
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// A request came that any core serves as well as another.
    pub fn anywhere(&self) {
        self.core.set(None);
        self.requests.set(0);
    }

    /// It could not be moved.
    pub fn stay(&self) {
        self.stays.set(true);
    }

    /// The core to move to; `None` while `own`, the core it lives on, is as good.
    pub fn elsewhere(&self, own: ShardId) -> Option<ShardId> {
        let is_clear = self.requests.get() >= self.requests_min && !self.stays.get();
        self.core.get().filter(|core| is_clear && *core != own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(home: &Home, core: u16, times: u32) -> Option<ShardId> {
        (0..times).for_each(|_| home.asked(ShardId(core)));
        home.elsewhere(ShardId(0))
    }

    #[test]
    fn a_connection_goes_where_all_its_latest_requests_went() {
        let home = Home::new(0);
        assert_eq!(ask(&home, 1, 3), None, "too few");
        assert_eq!(ask(&home, 1, 1), Some(ShardId(1)));
        assert_eq!(home.elsewhere(ShardId(1)), None, "it is there");
        assert_eq!(ask(&home, 0, 9), None, "its own core");
        assert_eq!((ask(&home, 1, 3), ask(&home, 2, 3)), (None, None), "two groups");
        assert_eq!(ask(&home, 2, 1), Some(ShardId(2)));
        home.stay();
        assert_eq!(ask(&home, 2, 100), None, "it could not move");
    }

    #[test]
    fn a_connection_that_carries_records_stays() {
        let home = Home::new(0);
        for _ in 0..9 {
            assert_eq!(ask(&home, 1, 3), None);
            home.anywhere();
        }
    }

    #[test]
    fn moving_again_takes_ever_more_requests() {
        assert_eq!((ask(&Home::new(1), 1, 7), ask(&Home::new(3), 1, 31)), (None, None));
        assert_eq!(ask(&Home::new(3), 1, 32), Some(ShardId(1)));
        assert_eq!(ask(&Home::new(u32::MAX), 1, 1000), None);
    }
}
