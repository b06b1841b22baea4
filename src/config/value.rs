//! Values of settings: from text, checked, and back to the text Kafka shows.
//!
//! The words of the errors are Kafka's (`ConfigDef`, `ConfigException`), because tools print them.

use std::collections::BTreeSet;
use std::fmt;

use super::setting::{Fallback, Items, Rule, Setting, Type};

/// A checked value of a setting.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not set, and no default.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A whole number of 16, 32 or 64 bits.
    Number(i64),
    /// A floating-point number.
    Float(f64),
    /// A text, a class name or a secret.
    Text(String),
    /// A list.
    List(Vec<String>),
}

/// Why a value is refused; its text names the setting, the value and the rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidValue {
    /// The setting.
    pub name: String,
    /// The sentence, in Kafka's words.
    pub message: String,
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidValue {}

fn refuse(name: &str, value: &str, rule: &str) -> InvalidValue {
    let message = format!("Invalid value {value} for configuration {name}: {rule}");
    InvalidValue { name: name.to_owned(), message }
}

fn refuse_list(name: &str, rule: &str) -> InvalidValue {
    InvalidValue { name: name.to_owned(), message: format!("Configuration '{name}' {rule}") }
}

impl Value {
    /// Reads and checks the text of a setting (Kafka's `ConfigDef.parseType` and validators).
    pub fn parse(setting: &Setting, raw: &str) -> Result<Self, InvalidValue> {
        let value = Self::of_type(setting, raw)?;
        value.check(setting, raw)?;
        Ok(value)
    }

    /// What the setting is when nobody sets it.
    pub fn fallback(setting: &Setting) -> Self {
        match setting.fallback {
            Fallback::Required | Fallback::Null => Self::Null,
            Fallback::Number(value) => Self::Number(value),
            Fallback::Float(value) => Self::Float(value),
            Fallback::Flag(value) => Self::Flag(value),
            Fallback::Text(value) if setting.kind == Type::List => Self::List(split_list(value)),
            Fallback::Text(value) => Self::Text(value.to_owned()),
        }
    }

    /// The text Kafka shows, `None` for "not set".
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Flag(value) => Some(value.to_string()),
            Self::Number(value) => Some(value.to_string()),
            Self::Float(value) => Some(java_double(*value)),
            Self::Text(value) => Some(value.clone()),
            Self::List(items) => Some(items.join(",")),
        }
    }

    fn of_type(setting: &Setting, raw: &str) -> Result<Self, InvalidValue> {
        // Java's `String.trim` cuts everything up to and including the space character.
        let trimmed = raw.trim_matches(|c: char| c <= ' ');
        let not_a_number = || {
            let rule = format!("Not a number of type {}", setting.kind.kafka_name());
            refuse(setting.name, raw, &rule)
        };
        let number = |min: i64, max: i64| match trimmed.parse::<i64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(Self::Number(value)),
            _ => Err(not_a_number()),
        };
        match setting.kind {
            Type::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Self::Flag(true)),
            Type::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Self::Flag(false)),
            Type::Boolean => {
                Err(refuse(setting.name, raw, "Expected value to be either true or false"))
            }
            Type::Short => number(i64::from(i16::MIN), i64::from(i16::MAX)),
            Type::Int => number(i64::from(i32::MIN), i64::from(i32::MAX)),
            Type::Long => number(i64::MIN, i64::MAX),
            Type::Double => java_parse_double(trimmed).map(Self::Float).ok_or_else(not_a_number),
            Type::List => {
                let mut items = split_list(trimmed);
                if let Rule::List(..) = setting.rule {
                    // Kafka drops repeated items of a checked list, with a warning.
                    let mut seen = BTreeSet::new();
                    items.retain(|item| seen.insert(item.clone()));
                }
                Ok(Self::List(items))
            }
            Type::String | Type::Class | Type::Password => Ok(Self::Text(trimmed.to_owned())),
        }
    }

    fn check(&self, setting: &Setting, raw: &str) -> Result<(), InvalidValue> {
        let name = setting.name;
        let shown = || self.to_text().unwrap_or_else(|| raw.to_owned());
        match (setting.rule, self) {
            (Rule::Between(min, max), Self::Number(value)) => {
                if *value < min {
                    Err(refuse(name, &shown(), &format!("Value must be at least {min}")))
                } else if *value > max {
                    Err(refuse(name, &shown(), &format!("Value must be no more than {max}")))
                } else {
                    Ok(())
                }
            }
            (Rule::BetweenFloat(min, max), Self::Float(value)) => {
                if *value < min {
                    Err(refuse(name, &shown(), &format!("Value must be at least {min}")))
                } else if *value > max {
                    Err(refuse(name, &shown(), &format!("Value must be no more than {max}")))
                } else {
                    Ok(())
                }
            }
            (Rule::OneOf(names), Self::Text(value)) if !names.contains(&value.as_str()) => {
                let rule = format!("String must be one of: {}", names.join(", "));
                Err(refuse(name, value, &rule))
            }
            (Rule::OneOfAnyCase(names), Self::Text(value))
                if !names.iter().any(|known| known.eq_ignore_ascii_case(value)) =>
            {
                let known = names.join(", ");
                let rule = format!("String must be one of (case insensitive): {known}");
                Err(refuse(name, value, &rule))
            }
            (Rule::List(allowed, names), Self::List(items)) => {
                check_list(name, allowed, names, items)
            }
            (Rule::NonEmpty, Self::Text(value)) if value.is_empty() => {
                Err(refuse(name, value, "String must be non-empty"))
            }
            (Rule::GzipLevel, Self::Number(level)) if *level != -1 && !(1..=9).contains(level) => {
                Err(refuse(name, &shown(), "Value must be between 1 and 9 or equal to -1"))
            }
            (Rule::ThrottledReplicas, Self::List(items)) => check_throttled(name, items),
            (Rule::Addresses, Self::List(items)) => {
                let bad = items.iter().find(|item| !is_address(item));
                bad.map_or(Ok(()), |item| Err(refuse(name, item, "must be host:port")))
            }
            (Rule::Voters, Self::List(items)) => {
                let bad = items.iter().find(|item| !is_voter(item));
                bad.map_or(Ok(()), |item| Err(refuse(name, item, "must be id@host:port")))
            }
            (Rule::OffsetReset, Self::Text(value)) if !is_offset_reset(value) => {
                let rule = "must be latest, earliest or by_duration: and a duration like PT1H";
                Err(refuse(name, value, rule))
            }
            _ => Ok(()),
        }
    }
}

/// Splits at commas, as Kafka does: blanks around a comma go, empty items stay.
pub(super) fn split_list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim_ascii().to_owned()).collect()
}

fn check_list(
    name: &str,
    allowed: Items,
    names: &[&str],
    items: &[String],
) -> Result<(), InvalidValue> {
    if items.is_empty() && !allowed.empty {
        let valid = match names {
            [] => "any non-empty value".to_owned(),
            names => format!("[{}]", names.join(", ")),
        };
        let rule = format!("must not be empty. Valid values include: {valid}");
        return Err(refuse_list(name, &rule));
    }
    for item in items {
        if item.is_empty() {
            return Err(refuse_list(name, "values must not be empty."));
        }
        if !names.is_empty() && !names.contains(&item.as_str()) {
            let rule = format!("String must be one of: {}", names.join(", "));
            return Err(refuse(name, item, &rule));
        }
    }
    Ok(())
}

fn check_throttled(name: &str, items: &[String]) -> Result<(), InvalidValue> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let replica = |item: &String| {
        item.is_empty()
            || item.split_once(':').is_some_and(|(left, right)| digits(left) && digits(right))
    };
    if items.iter().all(replica) || items.concat() == "*" {
        return Ok(());
    }
    let rule = format!(
        "{name} must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
    );
    Err(refuse(name, &format!("[{}]", items.join(", ")), &rule))
}

fn is_address(item: &str) -> bool {
    item.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn is_voter(item: &str) -> bool {
    item.split_once('@').is_some_and(|(id, at)| id.parse::<u32>().is_ok() && is_address(at))
}

fn is_offset_reset(value: &str) -> bool {
    match value {
        "latest" | "earliest" => true,
        _ => value.strip_prefix("by_duration:").is_some_and(|duration| {
            let body = duration.strip_prefix(['P', 'p']).unwrap_or("");
            let known = |c: char| c.is_ascii_digit() || "DTHMSdthms.".contains(c);
            body.chars().any(|c| c.is_ascii_digit())
                && body.ends_with(|c: char| c.is_ascii_alphabetic())
                && body.chars().all(known)
        }),
    }
}

/// A double as Java's `Double.toString` writes it.
pub(super) fn java_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&size) {
        let text = value.to_string();
        return if text.contains('.') { text } else { text + ".0" };
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}

fn java_parse_double(text: &str) -> Option<f64> {
    match text {
        "NaN" => return Some(f64::NAN),
        "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let body = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    // Rust also reads "inf" and "nan", which Java refuses.
    if body.bytes().any(|b| !(b.is_ascii_digit() || b"+-.eE".contains(&b))) {
        return None;
    }
    body.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::{double, float, int, list, number, short, string, text};

    #[test]
    fn a_value_is_refused_in_kafkas_words() {
        let segment = int("segment.bytes", number(1 << 30)).at_least(1 << 20);
        let level = int("lz4", number(9)).between(1, 17);
        let ratio = double("ratio", float(0.5)).range_float(0.0, 1.0);
        let policy =
            list("cleanup.policy", text("delete")).items(Items::NOT_NULL, &["compact", "delete"]);
        let kind = string("kind", text("a")).rule(Rule::OneOf(&["a", "b"]));
        let cases: [(&Setting, &str, &str); 9] = [
            (
                &segment,
                "10",
                "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576",
            ),
            (
                &segment,
                "9999999999",
                "Invalid value 9999999999 for configuration segment.bytes: \
                 Not a number of type INT",
            ),
            (&level, "18", "Invalid value 18 for configuration lz4: Value must be no more than 17"),
            (
                &ratio,
                "2",
                "Invalid value 2.0 for configuration ratio: Value must be no more than 1",
            ),
            (&ratio, "x", "Invalid value x for configuration ratio: Not a number of type DOUBLE"),
            (
                &policy,
                "delete,burn",
                "Invalid value burn for configuration cleanup.policy: \
                 String must be one of: compact, delete",
            ),
            (&policy, "delete,", "Configuration 'cleanup.policy' values must not be empty."),
            (&kind, "c", "Invalid value c for configuration kind: String must be one of: a, b"),
            (
                &int("n", number(0)),
                "",
                "Invalid value  for configuration n: Not a number of type INT",
            ),
        ];
        for (setting, raw, expected) in cases {
            let error = Value::parse(setting, raw).expect_err(raw);
            assert_eq!(error.message, expected);
        }
    }

    #[test]
    fn a_value_reads_back_as_kafka_shows_it() {
        let policy = list("cleanup.policy", text("delete")).items(Items::NOT_NULL, &[]);
        let cases: [(&Setting, &str, &str); 6] = [
            (&policy, " compact , delete,compact ", "compact,delete"),
            (&policy, "", ""),
            (&short("s", number(0)), "+3", "3"),
            (&double("d", float(0.0)), "1", "1.0"),
            (&double("d", float(0.0)), "0.00001", "1.0E-5"),
            (&double("d", float(0.0)), "1.7976931348623157E308", "1.7976931348623157E308"),
        ];
        for (setting, raw, expected) in cases {
            let value = Value::parse(setting, raw).expect(raw);
            assert_eq!(value.to_text().as_deref(), Some(expected), "{raw:?}");
        }
    }
}
