//! The reference page of all settings, made from their rows.

use std::fmt::Write;

use super::setting::{Fallback, Importance, Items, Reload, Rule, Setting, Standing};
use super::settings;
use super::value::Value;

const HEAD: &str = "# Settings

<!-- Made from src/config/settings by `corelog config reference`; do not edit. -->

Names, types, defaults and bounds are those of Apache Kafka 4.3.1, so its configuration files and
tools work unchanged. Corelog's own settings begin with `corelog.`. A setting is given, the
strongest first, by `--override name=value`, by the environment (`KAFKA_LOG_RETENTION_MS`,
`CORELOG_CORES`), in the file named by `--config`; while running, by `kafka-configs` or
`corelog topic alter`.

Under each name: type, default, bounds, and whether it can be changed while running (*cluster*: for
one broker or all of them; *broker*: one at a time; nothing: by a restart). Settings **without
effect** are accepted, checked and shown, and change nothing in this version; `corelog serve` says
so when one is set.

What `kafka-configs` shows and refuses is what Apache Kafka 4.3.1 shows and refuses for the same
configuration, but for this:

- documentation is in Corelog's words;
- `corelog.*` settings are listed when they are set;
- `listeners` and `listener.security.protocol.map` can not be changed while running;
- a default for compaction with a least lag above the largest is refused at once, not at the next
  start;
- Java classes are not loaded, so their names are not checked.
";

/// Longest line of the page, in characters.
const LINE_MAX: usize = 100;

/// The whole page, as Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "Topics", settings::topic::ROWS);
    for (title, rows) in settings::BROKER {
        section(&mut page, title, rows);
    }
    section(&mut page, "Set while running only", settings::quota::DYNAMIC_ONLY);
    section(&mut page, "Groups' own", settings::resource::GROUP);
    section(&mut page, "Client metrics subscriptions", settings::resource::CLIENT_METRICS);
    wrapped(&page)
}

/// The page with its long lines broken between words; list items go on indented.
fn wrapped(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    for line in page.lines() {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        let mut width = 0;
        for word in line.split(' ') {
            if width > 0 && width + 1 + word.len() > LINE_MAX {
                out.push('\n');
                out.push_str(indent);
                width = indent.len();
            } else if width > 0 {
                out.push(' ');
                width += 1;
            }
            out.push_str(word);
            width += word.len();
        }
        out.push('\n');
    }
    out
}

fn section(page: &mut String, title: &str, rows: &[Setting]) {
    let (working, idle): (Vec<&Setting>, Vec<&Setting>) =
        rows.iter().filter(|row| !row.internal).partition(|row| row.standing == Standing::Works);
    let _ = write!(page, "\n## {title}\n");
    for row in working {
        entry(page, row);
    }
    if !idle.is_empty() {
        let _ = write!(page, "\n### Without effect: {}\n\n", title.to_lowercase());
        for row in idle {
            let _ = writeln!(page, "- `{}` ({}): {}", row.name, facts(row), row.doc);
        }
    }
}

fn entry(page: &mut String, row: &Setting) {
    let _ = write!(page, "\n### `{}`\n\n{}\n\n{}", row.name, row.doc, facts(row));
    if let Some((first, rest)) = row.broker_names.split_first() {
        let _ = write!(page, "; without it the broker's `{}`", first.0);
        for (name, _) in rest {
            let _ = write!(page, ", `{name}`");
        }
    }
    page.push('\n');
}

fn facts(row: &Setting) -> String {
    let mut facts = row.kind.name().to_owned();
    match (row.fallback, Value::fallback(row).to_text()) {
        (Fallback::Required, _) => facts.push_str("; required"),
        (_, None) => facts.push_str("; no default"),
        (_, Some(text)) if text.is_empty() => facts.push_str("; default empty"),
        (_, Some(text)) => {
            let _ = write!(facts, "; default `{text}`");
        }
    }
    if let Some(rule) = rule(row) {
        let _ = write!(facts, "; {rule}");
    }
    match row.reload {
        Reload::ReadOnly => {}
        Reload::PerBroker => facts.push_str("; while running: broker"),
        Reload::ClusterWide => facts.push_str("; while running: cluster"),
    }
    match row.importance {
        Importance::High => facts.push_str("; important"),
        Importance::Medium | Importance::Low => {}
    }
    facts
}

fn rule(row: &Setting) -> Option<String> {
    let quoted = |names: &[&str]| -> String {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    match row.rule {
        Rule::Any | Rule::NotNull | Rule::List(Items::ANY | Items::NOT_NULL, []) => None,
        Rule::Between(min, i64::MAX) => Some(format!("at least {min}")),
        Rule::Between(min, max) => Some(format!("{min} to {max}")),
        Rule::BetweenFloat(min, max) => Some(format!("{min} to {max}")),
        Rule::OneOf(names) | Rule::OneOfAnyCase(names) => Some(format!("one of {}", quoted(names))),
        Rule::List(_, []) | Rule::NonEmpty => Some("not empty".to_owned()),
        Rule::List(_, names) => Some(format!("any of {}", quoted(names))),
        Rule::GzipLevel => Some("1 to 9, or -1".to_owned()),
        Rule::ThrottledReplicas => Some("`*` or partition:broker,...".to_owned()),
        Rule::Addresses => Some("host:port,...".to_owned()),
        Rule::Voters => Some("id@host:port,...".to_owned()),
        Rule::OffsetReset => Some("`latest`, `earliest` or `by_duration:PT1H`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/reference/configuration.md");

    #[test]
    fn the_page_in_docs_is_the_one_made_from_the_rows() {
        assert!(
            PAGE == reference(),
            "write it anew: corelog config reference > docs/reference/configuration.md"
        );
    }

    #[test]
    fn every_setting_users_may_set_is_on_the_page() {
        let page = reference();
        for (_, rows) in settings::BROKER {
            for row in rows.iter().filter(|row| !row.internal) {
                assert!(page.contains(&format!("`{}`", row.name)), "{}", row.name);
            }
        }
    }
}
