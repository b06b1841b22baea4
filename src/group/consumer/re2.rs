//! Regular expressions in the syntax of RE2, as Apache Kafka reads them with RE2/J, translated
//! into that of the `regex` crate.
//!
//! The crates agree on most. What RE2 has and `regex` reads otherwise is written out: `\Q..\E`,
//! octal and punctuation escapes, `{` and `]` that stand for themselves, `[` within brackets,
//! `&&` and `~~` without meaning there, and `\d`, `\s`, `\w` of ASCII alone. What RE2 refuses is
//! refused, in the words of RE2/J. Captures become plain groups, and greed is left out where it
//! is swapped, for only whether a name matches counts. What would take too long to compile is
//! refused ([`cost`]); RE2/J takes it.
//!
//! Known differences, none of which matters for names of topics, which are ASCII: any Unicode
//! property that `regex` knows is allowed, not categories and scripts alone; `\b` and `\B` see
//! letters beyond ASCII; escapes of surrogates are refused; a repetition right behind a `{` that
//! stands for itself repeats it, which RE2/J takes for two repetitions.

mod cost;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use cost::{Class, Cost, Set, Times};

/// Times a repetition may be asked for.
const REPEAT_MAX: u32 = 1000;
/// Groups that may be open at a time.
const DEPTH_MAX: usize = 100;

/// Names of classes in double brackets.
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// What is said of an expression that costs too much.
pub(super) const TOO_LARGE: &str = "expression is too large";

const BAD_ESCAPE: &str = "invalid escape sequence";
const BAD_RANGE: &str = "invalid character class range";
const BAD_PERL: &str = "invalid or unsupported Perl syntax";
const BAD_NAME: &str = "invalid named capture";
const BAD_REPEAT: &str = "invalid repeat count";

/// Translates an expression, or says why RE2 would refuse it or why it is not compiled.
pub(super) fn translate(expression: &str) -> Result<String, &'static str> {
    let mut translator = Translator {
        input: expression.chars().peekable(),
        output: String::with_capacity(expression.len()),
        names: BTreeSet::new(),
        depth: 0,
        last: Last::Nothing,
        flags: String::new(),
        cost: Cost::default(),
        may_end_posix: true,
    };
    translator.expression()?;
    translator.cost.check()?;
    Ok(translator.output)
}

/// What comes before a repetition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Last {
    /// Nothing that can be repeated.
    Nothing,
    /// Something that can.
    Item,
    /// A repetition; those do not follow each other.
    Repetition,
}

struct Translator<'a> {
    input: Peekable<Chars<'a>>,
    output: String,
    names: BTreeSet<String>,
    depth: usize,
    last: Last,
    /// Flags for the rest of the group, to be written before the next item: in RE2, a repetition
    /// right behind them is one of the item before them.
    flags: String,
    cost: Cost,
    /// Whether a `:]` may follow: looked for once, not by each `[:` to the end.
    may_end_posix: bool,
}

impl Translator<'_> {
    fn expression(&mut self) -> Result<(), &'static str> {
        while let Some(next) = self.input.next() {
            match next {
                '(' => {
                    self.open()?;
                    continue;
                }
                '*' => {
                    self.repeat("*", Times { least: 0, most: None })?;
                    continue;
                }
                '+' => {
                    self.repeat("+", Times { least: 1, most: None })?;
                    continue;
                }
                '?' => {
                    self.repeat("?", Times { least: 0, most: Some(1) })?;
                    continue;
                }
                '{' => {
                    if let Some(times) = self.bounds()? {
                        self.repeat(&bounds_text(times), times)?;
                        continue;
                    }
                }
                _ => {}
            }
            self.write_flags();
            match next {
                ')' => self.close()?,
                '|' => {
                    self.end_branch();
                    self.output.push('|');
                    self.cost.add_branch();
                    self.last = Last::Nothing;
                }
                '[' => {
                    self.class()?;
                    self.last = Last::Item;
                }
                '.' => {
                    self.output.push(next);
                    self.cost.add_set(Set::Negated);
                    self.last = Last::Item;
                }
                '^' | '$' => {
                    self.output.push(next);
                    self.cost.add_assertion();
                    self.last = Last::Item;
                }
                '\\' => self.escape()?,
                other => self.literal(other),
            }
        }
        if self.depth == 0 { Ok(()) } else { Err("missing closing )") }
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.input.next_if_eq(&wanted).is_some()
    }

    fn literal(&mut self, literal: char) {
        put(&mut self.output, literal);
        self.cost.add_literal(literal);
        self.last = Last::Item;
    }

    fn open(&mut self) -> Result<(), &'static str> {
        if self.eat('?') {
            return self.special_group();
        }
        self.open_group("(?:")
    }

    fn write_flags(&mut self) {
        self.output.push_str(&std::mem::take(&mut self.flags));
    }

    fn open_group(&mut self, opening: &str) -> Result<(), &'static str> {
        self.write_flags();
        self.output.push_str(opening);
        self.cost.open();
        self.depth += 1;
        self.last = Last::Nothing;
        if self.depth > DEPTH_MAX { Err("expression nests too deeply") } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), &'static str> {
        self.depth = self.depth.checked_sub(1).ok_or("unexpected )")?;
        self.end_branch();
        self.output.push(')');
        self.cost.close();
        self.last = Last::Item;
        Ok(())
    }

    fn end_branch(&mut self) {
        if self.last == Last::Nothing {
            self.cost.add_empty();
        }
    }

    /// What follows `(?`: a name, or flags for a group or for the rest of the group around.
    fn special_group(&mut self) -> Result<(), &'static str> {
        if self.eat('P') {
            return if self.eat('<') { self.name() } else { Err(BAD_PERL) };
        }
        if self.eat('<') {
            return self.name();
        }
        let (mut on, mut off) = (String::new(), String::new());
        let (mut negative, mut seen) = (false, false);
        loop {
            match self.input.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    seen = true;
                    let flags = if negative { &mut off } else { &mut on };
                    if flag != 'U' && !flags.contains(flag) {
                        flags.push(flag);
                    }
                }
                Some('-') if !negative => (negative, seen) = (true, false),
                Some(end @ (':' | ')')) if seen || !negative => {
                    return self.flags(&mut on, &off, end);
                }
                _ => return Err(BAD_PERL),
            }
        }
    }

    fn flags(&mut self, on: &mut String, off: &str, end: char) -> Result<(), &'static str> {
        // The later one counts in RE2; `regex` takes each but once.
        on.retain(|flag| !off.contains(flag));
        let dash = if off.is_empty() { "" } else { "-" };
        match end {
            ':' => self.open_group(&format!("(?{on}{dash}{off}:"))?,
            _ => {
                if !on.is_empty() || !off.is_empty() {
                    let _ = write!(self.flags, "(?{on}{dash}{off})");
                }
                if self.last == Last::Repetition {
                    self.last = Last::Item;
                }
            }
        }
        if on.contains('i') || off.contains('i') {
            self.cost.set_ignores_case(on.contains('i'));
        }
        Ok(())
    }

    fn name(&mut self) -> Result<(), &'static str> {
        let mut name = String::new();
        while let Some(letter) = self.input.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(letter);
        }
        if !self.eat('>') || name.is_empty() {
            return Err(BAD_NAME);
        }
        if !self.names.insert(name) {
            return Err("duplicate capture group name");
        }
        self.open_group("(?:")
    }

    fn repeat(&mut self, operator: &str, times: Times) -> Result<(), &'static str> {
        match self.last {
            Last::Nothing => return Err("missing argument to repetition operator"),
            Last::Repetition => return Err("invalid nested repetition operator"),
            Last::Item => {}
        }
        self.output.push_str(operator);
        if self.eat('?') {
            self.output.push('?');
        }
        self.cost.repeat(times);
        self.last = Last::Repetition;
        Ok(())
    }

    /// What follows `{` when it is a repetition, which is then passed over.
    fn bounds(&mut self) -> Result<Option<Times>, &'static str> {
        let mut ahead = self.input.clone();
        let Some(least) = number(&mut ahead) else { return Ok(None) };
        let most = if ahead.next_if_eq(&',').is_none() {
            Some(least)
        } else if ahead.peek() == Some(&'}') {
            None
        } else {
            let Some(most) = number(&mut ahead) else { return Ok(None) };
            Some(most)
        };
        if ahead.next_if_eq(&'}').is_none() {
            return Ok(None);
        }
        if least > REPEAT_MAX || most.is_some_and(|most| most > REPEAT_MAX || most < least) {
            return Err(BAD_REPEAT);
        }
        self.input = ahead;
        Ok(Some(Times { least, most }))
    }

    /// What follows a backslash outside of brackets.
    fn escape(&mut self) -> Result<(), &'static str> {
        match self.input.peek() {
            Some(&edge @ ('A' | 'z' | 'b' | 'B')) => {
                self.output.push('\\');
                self.output.push(edge);
                self.cost.add_assertion();
                self.input.next();
            }
            Some('Q') => {
                self.input.next();
                return self.quoted();
            }
            _ => match self.class_escape()? {
                Some(set) => self.cost.add_set(set),
                None => {
                    let escaped = self.char_escape()?;
                    self.literal(escaped);
                }
            },
        }
        self.last = Last::Item;
        Ok(())
    }

    /// Literals up to `\E`, or the end.
    fn quoted(&mut self) -> Result<(), &'static str> {
        while let Some(next) = self.input.next() {
            if next == '\\' && self.eat('E') {
                break;
            }
            self.literal(next);
        }
        Ok(())
    }

    /// Writes the class that an escape stands for; `None`, and nothing is read, when it is none.
    fn class_escape(&mut self) -> Result<Option<Set>, &'static str> {
        let (class, set) = match self.input.peek() {
            Some('d') => ("[0-9]", Set::Ascii),
            Some('D') => ("[^0-9]", Set::Negated),
            Some('s') => (r"[\t\n\x0C\r ]", Set::Ascii),
            Some('S') => (r"[^\t\n\x0C\r ]", Set::Negated),
            Some('w') => ("[0-9A-Za-z_]", Set::Ascii),
            Some('W') => ("[^0-9A-Za-z_]", Set::Negated),
            Some('p' | 'P') => return self.property().map(|()| Some(Set::Property)),
            _ => return Ok(None),
        };
        self.input.next();
        self.output.push_str(class);
        Ok(Some(set))
    }

    /// `pN`, `p{Name}`, `p{^Name}`, and the same with `P`.
    fn property(&mut self) -> Result<(), &'static str> {
        let mut negative = self.input.next() == Some('P');
        let mut name = String::new();
        if self.eat('{') {
            negative ^= self.eat('^');
            let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            while let Some(letter) = self.input.next_if(is_name) {
                name.push(letter);
            }
            if !self.eat('}') {
                return Err(BAD_RANGE);
            }
        } else {
            name.extend(self.input.next().filter(char::is_ascii_alphabetic));
        }
        if name.is_empty() {
            return Err(BAD_RANGE);
        }
        let kind = if negative { 'P' } else { 'p' };
        let _ = write!(self.output, "\\{kind}{{{name}}}");
        Ok(())
    }

    /// The character that an escape stands for; what follows the backslash is read.
    fn char_escape(&mut self) -> Result<char, &'static str> {
        let next = self.input.next().ok_or("trailing backslash at end of expression")?;
        let is_octal = |c: &char| ('0'..='7').contains(c);
        match next {
            '1'..='7' if !self.input.peek().is_some_and(is_octal) => Err(BAD_ESCAPE),
            '0'..='7' => {
                let mut code = next as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = self.input.next_if(is_octal) else { break };
                    code = code * 8 + (digit as u32 - '0' as u32);
                }
                char::from_u32(code).ok_or(BAD_ESCAPE)
            }
            'x' => self.hex(),
            'a' => Ok('\x07'),
            'f' => Ok('\x0C'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0B'),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Ok(other),
            _ => Err(BAD_ESCAPE),
        }
    }

    /// What follows `\x`: two digits, or some in braces.
    fn hex(&mut self) -> Result<char, &'static str> {
        let mut code = 0;
        if self.eat('{') {
            let mut digit_count = 0;
            while let Some(digit) = self.input.peek().and_then(|c| c.to_digit(16)) {
                self.input.next();
                code = code * 16 + digit;
                digit_count += 1;
                if code > char::MAX as u32 {
                    return Err(BAD_ESCAPE);
                }
            }
            if digit_count == 0 || !self.eat('}') {
                return Err(BAD_ESCAPE);
            }
        } else {
            for _ in 0..2 {
                let digit = self.input.next().and_then(|c| c.to_digit(16)).ok_or(BAD_ESCAPE)?;
                code = code * 16 + digit;
            }
        }
        char::from_u32(code).ok_or(BAD_ESCAPE)
    }

    /// What follows `[`.
    fn class(&mut self) -> Result<(), &'static str> {
        const UNCLOSED: &str = "missing closing ]";
        let mut class = Class::default();
        self.output.push('[');
        if self.eat('^') {
            self.output.push('^');
            class.negate();
        }
        let mut is_first = true;
        while is_first || self.input.peek() != Some(&']') {
            is_first = false;
            let set = match self.input.peek().copied() {
                None => return Err(UNCLOSED),
                Some('[') => self.posix_class()?,
                Some('\\') => {
                    let before = self.input.clone();
                    self.input.next();
                    let set = self.class_escape()?;
                    if set.is_none() {
                        self.input = before;
                    }
                    set
                }
                Some(_) => None,
            };
            if let Some(set) = set {
                self.cost.add_set_to(&mut class, set);
                continue;
            }
            let low = self.class_char(UNCLOSED)?;
            let mut ahead = self.input.clone();
            let is_range = ahead.next() == Some('-') && ahead.peek().is_some_and(|c| *c != ']');
            put(&mut self.output, low);
            let mut high = low;
            if is_range {
                self.input = ahead;
                high = self.class_char(UNCLOSED)?;
                if high < low {
                    return Err(BAD_RANGE);
                }
                self.output.push('-');
                put(&mut self.output, high);
            }
            class.add_range(low, high);
        }
        self.input.next();
        self.output.push(']');
        self.cost.add_class(class);
        Ok(())
    }

    fn class_char(&mut self, unclosed: &'static str) -> Result<char, &'static str> {
        match self.input.next() {
            None => Err(unclosed),
            Some('\\') => self.char_escape(),
            Some(other) => Ok(other),
        }
    }

    /// `[:name:]` or `[:^name:]` within brackets; `None`, and nothing is read, when it is none.
    fn posix_class(&mut self) -> Result<Option<Set>, &'static str> {
        let mut ahead = self.input.clone();
        ahead.next();
        if ahead.next() != Some(':') || !self.may_end_posix {
            return Ok(None);
        }
        let mut name = String::new();
        loop {
            match ahead.next() {
                None => {
                    self.may_end_posix = false;
                    return Ok(None);
                }
                Some(':') if ahead.peek() == Some(&']') => break,
                Some(other) => name.push(other),
            }
        }
        ahead.next();
        let (plain, set) = match name.strip_prefix('^') {
            Some(plain) => (plain, Set::Negated),
            None => (name.as_str(), Set::Ascii),
        };
        if !POSIX_CLASSES.contains(&plain) {
            return Err(BAD_RANGE);
        }
        self.input = ahead;
        let _ = write!(self.output, "[:{name}:]");
        Ok(Some(set))
    }
}

/// A number of a repetition: digits without a leading zero. Large ones become as large as can be.
fn number(input: &mut Peekable<Chars>) -> Option<u32> {
    let first = input.next_if(char::is_ascii_digit)?;
    let mut number = first.to_digit(10)?;
    while let Some(digit) = input.next_if(char::is_ascii_digit) {
        if first == '0' {
            return None;
        }
        number = number.saturating_mul(10).saturating_add(digit.to_digit(10)?);
    }
    Some(number)
}

/// A repetition in braces, as `regex` reads it.
fn bounds_text(Times { least, most }: Times) -> String {
    match most {
        Some(most) if most == least => format!("{{{least}}}"),
        Some(most) => format!("{{{least},{most}}}"),
        None => format!("{{{least},}}"),
    }
}

/// Writes a character that stands for itself.
fn put(output: &mut String, literal: char) {
    if literal.is_ascii() && !literal.is_ascii_alphanumeric() {
        let _ = write!(output, "\\x{:02X}", literal as u32);
    } else {
        output.push(literal);
    }
}
