//! All settings, by theme. Each file's rows are sorted by name.

pub mod cleaner;
pub mod cluster;
pub mod corelog;
pub mod group;
pub mod log;
pub mod metrics;
pub mod network;
pub mod quota;
pub mod remote;
pub mod replication;
pub mod resource;
pub mod sasl;
pub mod share;
pub mod tls;
pub mod topic;
pub mod transaction;

use super::setting::Setting;

/// The broker's settings, by theme: title and rows.
pub const BROKER: &[(&str, &[Setting])] = &[
    ("This broker's own", corelog::ROWS),
    ("Identity and metadata", cluster::ROWS),
    ("Listeners, connections, requests", network::ROWS),
    ("Logs and topics", log::ROWS),
    ("Compaction", cleaner::ROWS),
    ("Groups", group::ROWS),
    ("Transactions", transaction::ROWS),
    ("Replication", replication::ROWS),
    ("Quotas", quota::ROWS),
    ("TLS", tls::ROWS),
    ("Logins and permissions", sasl::ROWS),
    ("Metrics", metrics::ROWS),
    ("Remote storage", remote::ROWS),
    ("Share groups", share::ROWS),
];

fn find(rows: &'static [Setting], name: &str) -> Option<&'static Setting> {
    rows.binary_search_by(|row| row.name.cmp(name)).ok().map(|index| &rows[index])
}

/// The broker setting of this name, without those that exist dynamically only.
pub fn broker(name: &str) -> Option<&'static Setting> {
    BROKER.iter().find_map(|(_, rows)| find(rows, name))
}

/// The broker setting of this name that can be set dynamically only.
pub fn dynamic_only(name: &str) -> Option<&'static Setting> {
    find(quota::DYNAMIC_ONLY, name)
}

/// The topic setting of this name.
pub fn topic(name: &str) -> Option<&'static Setting> {
    find(topic::ROWS, name)
}

/// The setting of groups of this name.
pub fn group(name: &str) -> Option<&'static Setting> {
    find(resource::GROUP, name)
}

/// The part of `listener.name.<listener>.<setting>` that names the setting, if it has that form.
pub fn without_listener(name: &str) -> Option<&str> {
    let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    Some(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value;

    fn all() -> impl Iterator<Item = (&'static str, &'static [Setting])> {
        let rest = [
            ("topic", topic::ROWS),
            ("group", resource::GROUP),
            ("client metrics", resource::CLIENT_METRICS),
            ("dynamic only", quota::DYNAMIC_ONLY),
        ];
        BROKER.iter().copied().chain(rest)
    }

    #[test]
    fn rows_are_sorted_so_that_they_are_found() {
        for (title, rows) in all() {
            for pair in rows.windows(2) {
                assert!(pair[0].name < pair[1].name, "{title}: {} is misplaced", pair[1].name);
            }
        }
        for (_, rows) in BROKER {
            for row in *rows {
                assert_eq!(broker(row.name), Some(row));
            }
        }
    }

    #[test]
    fn every_default_keeps_its_own_rule_and_every_row_has_words() {
        for (title, rows) in all() {
            for row in rows {
                assert!(row.doc.ends_with('.'), "{title}: {}", row.name);
                if let Some(text) = Value::fallback(row).to_text() {
                    let value = Value::parse(row, &text);
                    assert_eq!(value, Ok(Value::fallback(row)), "{title}: {}", row.name);
                }
            }
        }
    }

    #[test]
    fn topics_fall_back_to_broker_settings_that_exist() {
        for row in topic::ROWS.iter().chain(resource::GROUP) {
            for (name, _) in row.broker_names {
                assert!(broker(name).is_some(), "{}: {name}", row.name);
            }
        }
    }
}
