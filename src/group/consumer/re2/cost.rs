//! What an expression costs, estimated while it is read: before anything is compiled.
//!
//! The core that serves requests compiles expressions, and matches each topic's name. What
//! compiling takes grows with the states, copies of what is repeated included; what matching
//! takes, with the states that a name can be in at the same time. One unit is about a state.

use super::TOO_LARGE;

/// Most units: the longest text fits, in both cases. Compiling takes some 50 ms then.
const SIZE_MAX: u64 = 200_000;
/// Most characters whose other cases are looked up, which is done one by one: all of them for 16
/// classes, some 50 ms.
const FOLDED_MAX: u64 = 16 * CASED_END;

/// Where characters end that have a case: with the second plane.
const CASED_END: u64 = 0x2_0000;

/// A group or a class, apart from what is in it; the next of several alternatives.
const FRAME: u64 = 2;
/// States of a letter in each case; some have three.
const CASES: u64 = 4;
/// Bytes of a character beyond ASCII.
const CHAR_BYTES: u64 = 4;
/// `^`, `\b` and the like: a step without a byte.
const ASSERTION: u64 = 16;
/// A place where a match may go on in two ways. Both are followed, so many such places cost time
/// for each byte of each name; 3,000 at once take milliseconds for a name.
const CHOICE: u64 = 64;
/// A set of ASCII characters.
const ASCII_SET: u64 = 16;
/// A range beyond ASCII, as bytes of UTF-8.
const WIDE_RANGE: u64 = 32;
/// A property of Unicode: hundreds of ranges.
const PROPERTY: u64 = 1000;

/// How often an item may be repeated; without `most`, without an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Times {
    pub(super) least: u32,
    pub(super) most: Option<u32>,
}

/// A set of characters that has a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Set {
    /// Some of ASCII.
    Ascii,
    /// All but some of ASCII.
    Negated,
    /// What has a property of Unicode, or has it not.
    Property,
}

impl Set {
    fn size(self) -> u64 {
        match self {
            Self::Ascii => ASCII_SET,
            Self::Negated => WIDE_RANGE,
            Self::Property => PROPERTY,
        }
    }

    /// How many of its characters may have other cases, at most.
    fn cased_count(self) -> u64 {
        match self {
            Self::Ascii => 0x80,
            Self::Negated | Self::Property => CASED_END,
        }
    }
}

/// What was read of a class in brackets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Class {
    size: u64,
    cased_count: u64,
}

impl Class {
    pub(super) fn negate(&mut self) {
        self.size += WIDE_RANGE;
    }

    pub(super) fn add_range(&mut self, low: char, high: char) {
        self.size += if high.is_ascii() { 1 } else { WIDE_RANGE };
        let cased_end = CASED_END.min(u64::from(high) + 1);
        self.cased_count += cased_end.saturating_sub(u64::from(low));
    }
}

/// The part of a group that was read.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    size: u64,
    ignores_case: bool,
}

/// The cost of what was read.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// The innermost group that is open, or the whole.
    group: Group,
    /// Those around it, the innermost last.
    around: Vec<Group>,
    /// Size of the item that was read last: a repetition may follow.
    last: u64,
    folded_count: u64,
}

impl Cost {
    /// Whether all that was read may be compiled.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_fine = self.group.size <= SIZE_MAX && self.folded_count <= FOLDED_MAX;
        if is_fine { Ok(()) } else { Err(TOO_LARGE) }
    }

    /// Whether case matters from here on, to the end of the group.
    pub(super) fn set_ignores_case(&mut self, ignores_case: bool) {
        self.group.ignores_case = ignores_case;
    }

    pub(super) fn open(&mut self) {
        let inner = Group { size: FRAME, ..self.group };
        self.around.push(std::mem::replace(&mut self.group, inner));
    }

    pub(super) fn close(&mut self) {
        let size = self.group.size;
        self.group = self.around.pop().unwrap_or_default();
        self.add(size);
    }

    /// A branch of alternatives ends, and another begins.
    pub(super) fn add_branch(&mut self) {
        self.add(FRAME);
    }

    /// A branch or a group ends that has nothing in it.
    pub(super) fn add_empty(&mut self) {
        self.add(CHOICE);
    }

    pub(super) fn add_literal(&mut self, literal: char) {
        let bytes = if literal.is_ascii() { 1 } else { CHAR_BYTES };
        self.add(if self.group.ignores_case { CASES * bytes } else { bytes });
    }

    pub(super) fn add_assertion(&mut self) {
        self.add(ASSERTION);
    }

    /// A set outside of brackets. Its other cases are looked up before it is negated.
    pub(super) fn add_set(&mut self, set: Set) {
        self.fold_property(set);
        self.add(set.size());
    }

    /// A set within brackets.
    pub(super) fn add_set_to(&mut self, class: &mut Class, set: Set) {
        self.fold_property(set);
        class.size += set.size();
        class.cased_count += set.cased_count();
    }

    /// A class in brackets ends.
    pub(super) fn add_class(&mut self, class: Class) {
        let mut size = FRAME + class.size;
        if self.group.ignores_case {
            let cased_count = class.cased_count.min(CASED_END);
            self.folded_count += cased_count;
            size += cased_count.min(PROPERTY);
        }
        self.add(size);
    }

    /// The last item is repeated.
    pub(super) fn repeat(&mut self, Times { least, most }: Times) {
        let copies = most.unwrap_or(least).max(1);
        let choices = most.map_or(1, |most| most.saturating_sub(least));
        let choices = choices.max(u32::from(least == 0));
        let size = self.last.saturating_mul(u64::from(copies));
        let size = size.saturating_add(CHOICE * u64::from(choices));
        self.group.size = self.group.size.saturating_add(size.saturating_sub(self.last));
        self.last = size;
    }

    /// What has a property is folded by itself, within brackets too.
    fn fold_property(&mut self, set: Set) {
        if self.group.ignores_case && set == Set::Property {
            self.folded_count += set.cased_count();
        }
    }

    fn add(&mut self, size: u64) {
        self.group.size = self.group.size.saturating_add(size);
        self.last = size;
    }
}
