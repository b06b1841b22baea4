//! Places in a partition's log.

use std::fmt;
use std::ops::{Add, Sub};

/// Position of a record in a partition's log; the first record ever written has offset 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset with this number; numbers above `i64::MAX` do not exist on the wire.
    pub const fn new(raw: u64) -> Self {
        assert!(raw <= i64::MAX as u64);
        Self(raw)
    }

    /// Reads a wire offset. The protocol's negative values become `None` and go no further in.
    pub fn from_wire(raw: i64) -> Option<Self> {
        u64::try_from(raw).ok().map(Self)
    }

    /// The offset as it goes on the wire.
    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many offsets lie in `earlier..self`; 0 when `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Offset {
    type Output = Self;

    fn add(self, count: u64) -> Self {
        Self::new(self.0 + count)
    }
}

impl Sub<u64> for Offset {
    type Output = Self;

    /// Panics below offset 0.
    fn sub(self, count: u64) -> Self {
        Self(self.0.checked_sub(count).expect("no offset lies below 0"))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a partition's leadership; each new leader gets a higher one (KIP-101).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaderEpoch(u32);

impl LeaderEpoch {
    /// The first leadership of a partition.
    pub const ZERO: Self = Self(0);

    /// The epoch with this number; numbers above `i32::MAX` do not exist on the wire.
    pub const fn new(raw: u32) -> Self {
        assert!(raw <= i32::MAX as u32);
        Self(raw)
    }

    /// Reads a wire epoch. The protocol's -1, "none", becomes `None`.
    pub fn from_wire(raw: i32) -> Option<Self> {
        u32::try_from(raw).ok().map(Self)
    }

    /// The epoch as it goes on the wire.
    pub const fn to_wire(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
