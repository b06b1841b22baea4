//! Which names a topic may have.

use std::collections::BTreeMap;
use std::fmt;

use crate::metadata::image::Image;

/// Longest name of a topic, in characters: with `-<partition>` it still is a file name.
pub const NAME_LENGTH_MAX: usize = 249;

/// Why a name is no topic's name; prints the sentence Apache Kafka answers with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NameError {
    /// Nothing.
    Empty,
    /// "." or "..".
    Dots(String),
    /// Longer than [`NAME_LENGTH_MAX`].
    TooLong(String),
    /// A character other than ASCII letters and digits, '.', '_' and '-'.
    BadCharacter(String),
    /// Equal to the other topic's name but for '.' and '_': metrics could not tell them apart.
    Collision {
        /// The name.
        name: String,
        /// The existing topic's name.
        other: String,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the topic name is empty"),
            Self::Dots(name) => write!(f, "a topic can not be named \"{name}\""),
            Self::TooLong(name) => write!(
                f,
                "the topic name has {} characters; {NAME_LENGTH_MAX} are allowed",
                name.chars().count()
            ),
            Self::BadCharacter(name) => write!(
                f,
                "the topic name \"{name}\" has a character other than ASCII letters, digits, \
                 '.', '_' and '-'"
            ),
            Self::Collision { name, other } => {
                write!(f, "topic \"{name}\" collides with the existing topic \"{other}\"")
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Whether a topic may have this name, other topics aside (Kafka's `Topic.validate`).
pub fn check_name(name: &str) -> Result<(), NameError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name == "." || name == ".." {
        Err(NameError::Dots(name.to_owned()))
    } else if name.chars().count() > NAME_LENGTH_MAX {
        Err(NameError::TooLong(name.to_owned()))
    } else if !name.chars().all(legal) {
        Err(NameError::BadCharacter(name.to_owned()))
    } else {
        Ok(())
    }
}

/// A name as metrics have it: names that are equal so collide.
pub fn folded(name: &str) -> String {
    name.replace('.', "_")
}

impl Image {
    /// The names of the topics that one of `new_ones` could collide with, by what they are
    /// [`folded`]. For all names of a request at once: there may be many of both.
    pub fn folded_names<'a>(
        &self,
        mut new_ones: impl Iterator<Item = &'a str>,
    ) -> BTreeMap<String, String> {
        let has_folds = |name: &str| name.contains(['.', '_']);
        if !new_ones.any(has_folds) {
            return BTreeMap::new();
        }
        let existing = self.topics().filter(|topic| has_folds(&topic.name));
        existing.map(|topic| (folded(&topic.name), topic.name.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Uuid;
    use crate::metadata::record::{Record, TopicCreated};

    #[test]
    fn names_are_checked_as_apache_kafka_checks_them() {
        let long = "x".repeat(NAME_LENGTH_MAX);
        let longer = "x".repeat(NAME_LENGTH_MAX + 1);
        let cases = [
            ("a.b-C_9", true),
            ("...", true),
            (long.as_str(), true),
            ("", false),
            (".", false),
            ("..", false),
            ("a b", false),
            ("a/b", false),
            ("\u{e4}", false),
            (longer.as_str(), false),
        ];
        for (name, good) in cases {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn names_that_differ_in_dots_and_underscores_only_collide() {
        let mut image = Image::default();
        let topic = TopicCreated { name: "a.b_c".to_owned(), id: Uuid::from_halves(1, 1) };
        image.apply(&Record::from(topic)).unwrap();
        for (name, collides) in [("a_b.c", true), ("a.b.c", true), ("abc", false)] {
            let known = image.folded_names(std::iter::once(name));
            assert_eq!(known.contains_key(&folded(name)), collides, "{name}");
        }
        let at_once = image.folded_names(["abc", "x.y"].into_iter());
        assert_eq!(at_once.get("a_b_c").map(String::as_str), Some("a.b_c"));
    }
}
