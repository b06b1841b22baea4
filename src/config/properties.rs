//! Java's `.properties` files.

use std::fmt;

/// Why a file is no properties file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadEscape {
    /// The line, from 1 on.
    pub line: usize,
}

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: \\u needs four hexadecimal digits behind it", self.line)
    }
}

impl std::error::Error for BadEscape {}

/// The names and values of a properties file, in its order; a name may come more than once.
///
/// As `java.util.Properties.load`: `#` and `!` begin comments; `=`, `:` or blanks end the name; a
/// backslash at the end of a line goes on with the next one; `\t \n \r \f \uXXXX` are characters,
/// and any other backslash is dropped.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, BadEscape> {
    let mut pairs = Vec::new();
    let mut lines =
        text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, more)) => logical.push_str(more.trim_start_matches(is_blank)),
                None => break,
            }
        }
        let (name, value) = split(&logical);
        let line = index + 1;
        pairs.push((unescape(name, line)?, unescape(value, line)?));
    }
    Ok(pairs)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// Splits a logical line into its name and its value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let mut end = line.len();
    for (index, c) in line.char_indices() {
        if !escaped && (matches!(c, '=' | ':') || is_blank(c)) {
            end = index;
            break;
        }
        escaped = c == '\\' && !escaped;
    }
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(is_blank))
}

fn unescape(text: &str, line: usize) -> Result<String, BadEscape> {
    let mut out = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            flush(&mut units, &mut out);
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                units.push(unit.ok_or(BadEscape { line })?);
            }
            Some(escaped) => {
                flush(&mut units, &mut out);
                out.push(match escaped {
                    't' => '\t',
                    'n' => '\n',
                    'r' => '\r',
                    'f' => '\u{c}',
                    other => other,
                });
            }
            None => {}
        }
    }
    flush(&mut units, &mut out);
    Ok(out)
}

/// Appends UTF-16 units that were gathered; two of them may be one character.
fn flush(units: &mut Vec<u16>, out: &mut String) {
    if !units.is_empty() {
        out.push_str(&String::from_utf16_lossy(units));
        units.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_properties_file_is_read_as_java_reads_it() {
        let cases: [(&str, &[(&str, &str)]); 12] = [
            ("a=1\nb = 2\r\nc:3\nd 4", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]),
            ("# no\n! no\n\n  \t x=y", &[("x", "y")]),
            ("a=1,\\\n   2,\\\n   3", &[("a", "1,2,3")]),
            ("a=ends in two \\\\\nb=2", &[("a", "ends in two \\"), ("b", "2")]),
            ("with\\ blank=v", &[("with blank", "v")]),
            ("with\\:colon:v=w", &[("with:colon", "v=w")]),
            ("a==b", &[("a", "=b")]),
            ("alone", &[("alone", "")]),
            ("a=trailing  ", &[("a", "trailing  ")]),
            ("a=\\t\\u00e9\\q", &[("a", "\t\u{e9}q")]),
            ("a=\\ud83d\\ude00", &[("a", "\u{1f600}")]),
            ("a=\\", &[("a", "")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
        assert_eq!(parse("a=1\nb=\\u12g4"), Err(BadEscape { line: 2 }));
    }
}
