//! Subscriptions by regular expression: which topics match.
//!
//! Expressions have the syntax of RE2 (KIP-848) and match whole names. They are compiled in
//! bounded memory and time, and match in time linear in the name.

use std::fmt;

use regex::{Error, Regex, RegexBuilder};

use super::re2;

/// Longest expression, in bytes: what a record's key can hold.
pub const EXPRESSION_BYTES_MAX: usize = i16::MAX as usize;
/// Memory a compiled expression may take, in bytes. Long texts need more than half of it: 68 for
/// each character of names that begin differently, 80 for a letter in both cases.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// A subscription by regular expression.
#[derive(Clone, Debug)]
pub struct TopicPattern(Regex);

/// Why a text is no regular expression; answered with `INVALID_REGULAR_EXPRESSION` and this text,
/// which has the form of Kafka's (`Utils.throwIfRegularExpressionIsInvalid`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidExpression {
    expression: String,
    reason: &'static str,
}

impl fmt::Display for InvalidExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expression, reason } = self;
        write!(
            f,
            "SubscribedTopicRegex `{expression}` is not a valid regular expression: {reason}."
        )
    }
}

impl std::error::Error for InvalidExpression {}

impl TopicPattern {
    /// Compiles an expression.
    pub fn new(expression: &str) -> Result<Self, InvalidExpression> {
        Self::compile(expression)
            .map_err(|reason| InvalidExpression { expression: expression.to_owned(), reason })
    }

    fn compile(expression: &str) -> Result<Self, &'static str> {
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err("expression is too long");
        }
        let translated = re2::translate(expression)?;
        RegexBuilder::new(&format!(r"\A(?:{translated})\z"))
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|error| match error {
                Error::CompiledTooBig(_) => re2::TOO_LARGE,
                // Names of Unicode properties are all that the translation does not look into.
                _ => "invalid character class range",
            })
    }

    /// Whether a topic's whole name matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_names_match_as_in_kafka() {
        // Answers of RE2/J 1.8, which Apache Kafka 4.3.1 comes with.
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("a.*", "abc", true),
            ("a", "ab", false),
            ("b", "ab", false),
            ("a|ab", "ab", true),
            ("a|b*", "bbb", true),
            ("(?i)A", "a", true),
            ("x(?i)A|B", "b", true),
            ("(x(?i)A)|B", "b", false),
            ("a(?i)*b", "aaB", true),
            ("a{2}(?i)(?s){2}b", "aaaaB", true),
            ("(?i-s:a)b", "Ab", true),
            ("(?i-s:a)b", "AB", false),
            (r"\Qa.b\E", "a.b", true),
            (r"\Qa.b\E", "axb", false),
            (r"\Qa.b", "a.b", true),
            (r"\Qa\b\E+", r"a\bb", true),
            (".", "\n", false),
            ("(?s).", "\n", true),
            ("a$", "a\n", false),
            ("[a&&b]", "&", true),
            ("[[a]]", "a]", true),
            ("[[]", "[", true),
            ("[]a]", "]", true),
            ("[^]a]", "b", true),
            ("[^]a]", "]", false),
            ("[a-c-]+", "b-", true),
            ("[[:word:].]+", "a_b.c", true),
            ("[[:^word:]]", ".", true),
            ("a{,2}", "a{,2}", true),
            ("a{2}", "aa", true),
            ("a{2,}", "a", false),
            ("{", "{", true),
            ("a{", "a{", true),
            ("a{01}", "a{01}", true),
            ("]", "]", true),
            (r"\012", "\n", true),
            (r"\777", "\u{1ff}", true),
            (r"\x2e\x{2D}", ".-", true),
            (r"\_\-\.", "_-.", true),
            (r"\w", "\u{e4}", false),
            (r"\d", "\u{663}", false),
            (r"\s", "\u{b}", false),
            (r"[\D\S]", "5", true),
            (r"\pN\PN", "1a", true),
            (r"\p{^Lu}+", "ab", true),
            (r"[\p{Lu}-]+", "A-", true),
            ("(?P<n>a)(?<m>b)", "ab", true),
            ("(?U)a+", "aaa", true),
            ("^*a", "a", true),
            (r"\ba\b", "a", true),
        ];
        for (expression, name, expected) in cases {
            let pattern = TopicPattern::new(expression);
            let pattern = pattern.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(pattern.matches(name), expected, "{expression} {name:?}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused_for_the_same_reason() {
        let cases = [
            ("missing closing )", "foo( (?:a (a|(b)"),
            ("unexpected )", "a) ()) )"),
            ("missing closing ]", "[a [ [] [a-"),
            ("missing argument to repetition operator", "*a a|* (+) {2}"),
            ("invalid nested repetition operator", "a** a*+ a++ a*{2} x{2}{3}"),
            ("invalid repeat count", "a{1001} a{2,1} a{1,1001} a{99999999999}"),
            ("invalid named capture", "(?<=a) (?P<a (?<> (?<a-b>c)"),
            ("duplicate capture group name", "(?P<n>a)(?<n>b)"),
            (
                "invalid or unsupported Perl syntax",
                "(?x)a (?=a) (?!a) (?>a) (?z) (?i (?P=n) (?P>n) (?R) (?i-) (?-:a)",
            ),
            (
                "invalid escape sequence",
                r"\C \Z \1 \8 \h \R \e \u0041 \G \K \y \x4 \xg \x \x{110000} \x{} [a-\d] [\b] [\Q]",
            ),
            ("invalid character class range", r"\p{Foo} \pX \p \p{ [[:foo:]] [b-a] [a--b]"),
            ("trailing backslash at end of expression", r"a\ \"),
        ];
        for (reason, expressions) in cases {
            for expression in expressions.split(' ') {
                let found = TopicPattern::new(expression).map(|_| ()).unwrap_err();
                assert_eq!(found.reason, reason, "{expression}");
            }
        }
        let error = TopicPattern::new("foo(").unwrap_err().to_string();
        let expected =
            "SubscribedTopicRegex `foo(` is not a valid regular expression: missing closing ).";
        assert_eq!(error, expected);
    }

    #[test]
    fn expressions_are_bounded() {
        let longest = "a".repeat(EXPRESSION_BYTES_MAX);
        assert!(TopicPattern::new(&longest).is_ok_and(|pattern| pattern.matches(&longest)));
        let cases = [
            ("expression is too long", "a".repeat(EXPRESSION_BYTES_MAX + 1)),
            ("expression is too large", "((((a{100}){100}){100}){100})".to_owned()),
            ("expression is too large", "(a{1000}){1000}".to_owned()),
            ("expression nests too deeply", "(".repeat(10_000)),
        ];
        for (reason, expression) in cases {
            let found = TopicPattern::new(&expression).map(|_| ()).unwrap_err();
            assert_eq!(found.reason, reason);
        }
        let alternatives = vec!["topic-of-some-length"; 1000].join("|");
        assert!(TopicPattern::new(&alternatives).is_ok());
        let brackets = format!("[{}a]+", "[:".repeat(16_000));
        assert!(TopicPattern::new(&brackets).is_ok_and(|pattern| pattern.matches(":[a")));
    }

    #[test]
    fn what_would_hold_a_core_up_is_refused() {
        let cases = [
            // Copies of copies, each of which a name may be in.
            "(a{1,100}){1,100}".to_owned(),
            "(?:(?:a{1,30}){1,30}){1,30}".to_owned(),
            "(a*){1000}(a?){1000}(a|){1000}(a|()){1000}".to_owned(),
            "a*b*".repeat(8000),
            "|".repeat(10_000),
            r"(a|\b){1000}".repeat(20),
            // Large classes: many, copied, or looked up in each case.
            r"\PN".repeat(1000),
            r"[\pL\pN]{1000}".to_owned(),
            format!("[{}]", r"\pL".repeat(1000)),
            format!("(?i){}", r"[\x{0}-\x{10FFFF}]".repeat(17)),
            format!("(?i){}", r"\p{Any}".repeat(17)),
            format!("(?i){}", r"[a\D]".repeat(17)),
            format!("((?i){})", "[a[:^alpha:]]".repeat(17)),
            format!("(?i:a|{})", r"[\x{80}-\x{1FFFF}]".repeat(17)),
        ];
        for expression in cases {
            let found = TopicPattern::new(&expression).map(|_| ()).unwrap_err();
            assert_eq!(found.reason, re2::TOO_LARGE, "{expression:.60}");
        }
    }

    #[test]
    fn what_people_write_is_compiled() {
        let names: Vec<String> = (0..2000).map(|at| format!("topic-{at:08}")).collect();
        let prefixes: Vec<String> = (0..1000).map(|at| format!("^topic-{at:08}-.*")).collect();
        let cases = [
            (names.join("|"), "topic-00001999"),
            (format!("(?i){}", names.join("|")), "Topic-00001999"),
            (prefixes.join("|"), "topic-00000999-x"),
            (r"[a-z]{1,63}(\.[a-z]{1,63}){0,10}".to_owned(), "some.topic"),
            (r"(?i)[\w-]+(\.[\w-]{1,249})*".to_owned(), "Some.topic-1"),
            (r"(?i)\pL+[\pN_.-]*".to_owned(), "Topic-1"),
            ("a{1000}|.{0,249}|b{1,1000}".to_owned(), "some.topic"),
            // Case is ignored within the group alone.
            (format!("(?i:A){}", r"[\x{0}-\x{10FFFF}]?".repeat(100)), "abc"),
            (format!("(?i)(?-i){}", r"[a\D]?".repeat(100)), "abc"),
        ];
        for (expression, name) in cases {
            let pattern = TopicPattern::new(&expression);
            let pattern = pattern.unwrap_or_else(|error| panic!("{error}"));
            assert!(pattern.matches(name), "{expression:.60}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_compiled_or_refused(
            noise in r"(\PC|[\[\](){}|*+?^$.\\0-9a-dpPQE:<>x-]){0,40}"
        ) {
            if let Ok(pattern) = TopicPattern::new(&noise) {
                pattern.matches("some.topic-1");
            }
        }
    }
}
