//! Which names a topic may have.

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

impl Image {
    /// Whether a new topic may have this name beside those that exist.
    ///
    /// A topic of exactly this name is no collision: the caller answers that it exists.
    pub fn check_new_name(&self, name: &str) -> Result<(), NameError> {
        check_name(name)?;
        if !name.contains(['.', '_']) {
            return Ok(());
        }
        let folded = name.replace('.', "_");
        let other = self.topics().find(|topic| {
            *topic.name != *name
                && topic.name.len() == name.len()
                && topic.name.replace('.', "_") == folded
        });
        match other {
            Some(other) => {
                Err(NameError::Collision { name: name.to_owned(), other: other.name.to_string() })
            }
            None => Ok(()),
        }
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
        for (name, good) in [("a_b.c", false), ("a.b.c", false), ("a.b_c", true), ("abc", true)] {
            assert_eq!(image.check_new_name(name).is_ok(), good, "{name}");
        }
    }
}
