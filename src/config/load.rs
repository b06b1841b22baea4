//! From a file, the environment and the command line to a configuration, with words about
//! whatever is odd.
//!
//! The strongest first: `--override name=value`, the environment, the file, the defaults. In the
//! environment a setting is spelled as the container images of Apache Kafka spell it: `KAFKA_` and
//! the name in upper case, `.` as `_`, `_` as `__`, `-` as `___`; this broker's own begin with
//! `CORELOG_`.

use super::broker::{BrokerConfig, Problem};
use super::layers::{Layers, Overrides};
use super::properties;
use super::setting::{Setting, Standing};
use super::settings;

/// The configuration of a standalone node, used when no file is named.
pub const EMBEDDED: &str = include_str!("../../config/server.properties");

/// What [`EMBEDDED`] is called in messages.
pub const EMBEDDED_NAME: &str = "the built-in configuration";

/// Where settings come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// Name and text of the configuration file; `None` for [`EMBEDDED`].
    pub file: Option<(&'a str, &'a str)>,
    /// The environment's variables.
    pub environment: &'a [(String, String)],
    /// `name=value`, as on the command line.
    pub overrides: &'a [String],
}

/// Both socket buffers in the properties shipped with Apache Kafka.
const KAFKA_BUFFER_BYTES: i64 = 102_400;

/// A configuration and what is odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: BrokerConfig,
    /// One line each, for the log.
    pub warnings: Vec<String>,
}

struct Gathered {
    values: Overrides,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

/// Reads the configuration, or says everything that is wrong with it.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Vec<Problem>> {
    let mut gathered =
        Gathered { values: Overrides::new(), warnings: Vec::new(), problems: Vec::new() };
    let (file, text) = sources.file.unwrap_or((EMBEDDED_NAME, EMBEDDED));
    match properties::parse(text) {
        Ok(pairs) => {
            for (name, value) in pairs {
                gathered.take(name, value, file);
            }
        }
        Err(error) => gathered.problems.push(Problem::new(file, format!("{file}, {error}"))),
    }
    for (variable, value) in sources.environment {
        gathered.take_variable(variable, value);
    }
    for pair in sources.overrides {
        match pair.split_once('=') {
            Some((name, value)) => {
                gathered.take(name.trim().to_owned(), value.to_owned(), "--override");
            }
            None => {
                let sentence = format!("--override {pair} is not name=value");
                gathered.problems.push(Problem::new(pair, sentence));
            }
        }
    }
    gathered.finish()
}

impl Gathered {
    fn take(&mut self, name: String, value: String, origin: &str) {
        match row(&name) {
            Some(row) => {
                if row.standing == Standing::NoEffect {
                    self.warnings.push(format!("{origin}: {name} has no effect in Corelog"));
                }
                if is_small_buffer(&name, &value) {
                    self.warnings.push(format!(
                        "{origin}: {name}={value} costs up to a third more CPU with large batches \
                         and fetches; leave it out unless many connections must share little memory"
                    ));
                }
            }
            None => match suggest(&name) {
                Suggestion::Mistyped(known) => {
                    let sentence = format!(
                        "{origin}: {name} is not a setting; did you mean {known}? Rename or remove \
                         it"
                    );
                    self.problems.push(Problem::new(&name, sentence));
                    return;
                }
                Suggestion::OfTopics(known) => {
                    self.warnings.push(format!(
                        "{origin}: {name} is a setting of topics and ignored here; the broker's \
                         default for it is {known}"
                    ));
                }
                Suggestion::None => {
                    self.warnings.push(format!("{origin}: {name} is not a setting and is ignored"));
                }
            },
        }
        self.values.insert(name, value);
    }

    fn take_variable(&mut self, variable: &str, value: &str) {
        let (name, own) = match (variable.strip_prefix("KAFKA_"), variable.strip_prefix("CORELOG_"))
        {
            (Some(rest), _) => (spelled_out(rest), false),
            (None, Some(_)) => (spelled_out(variable), true),
            (None, None) => return,
        };
        if row(&name).is_some() {
            self.take(name, value.to_owned(), &format!("environment variable {variable}"));
        } else if let Suggestion::Mistyped(known) = suggest(&name) {
            // Not an error: variables of other programs also begin this way.
            self.warnings.push(format!(
                "environment variable {variable} is ignored: {name} is not a setting; did you mean \
                 {known}?"
            ));
        } else if own {
            self.warnings.push(format!(
                "environment variable {variable} is ignored: {name} is not a setting"
            ));
        }
    }

    fn finish(mut self) -> Result<Loaded, Vec<Problem>> {
        // Either name of the node's id stands for both, as in Apache Kafka.
        for (from, to) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
            if let Some(id) = self.values.get(from).cloned() {
                self.values.entry(to.to_owned()).or_insert(id);
            }
        }
        let layers = Layers::new(self.values, Overrides::new(), Overrides::new());
        match BrokerConfig::new(layers) {
            Ok(config) if self.problems.is_empty() => {
                Ok(Loaded { config, warnings: self.warnings })
            }
            Ok(_) => Err(self.problems),
            Err(more) => {
                self.problems.extend(more);
                Err(self.problems)
            }
        }
    }
}

fn row(name: &str) -> Option<&'static Setting> {
    settings::broker(name)
        .or_else(|| settings::without_listener(name).and_then(settings::broker))
        .or_else(|| super::layers::row_of(name))
}

/// The setting a variable's name spells.
fn spelled_out(variable: &str) -> String {
    const DASH: &str = "\u{1}";
    const UNDERSCORE: &str = "\u{2}";
    variable
        .to_ascii_lowercase()
        .replace("___", DASH)
        .replace("__", UNDERSCORE)
        .replace('_', ".")
        .replace(DASH, "-")
        .replace(UNDERSCORE, "_")
}

enum Suggestion {
    /// It is nearly this broker setting.
    Mistyped(&'static str),
    /// It is a topic's setting; this is the broker's.
    OfTopics(&'static str),
    None,
}

fn suggest(name: &str) -> Suggestion {
    if let Some(topic) = settings::topic(name) {
        return topic
            .broker_names
            .first()
            .map_or(Suggestion::None, |(broker, _)| Suggestion::OfTopics(broker));
    }
    // One slip in a short name, two in a longer one: more is another name.
    let slips = if name.len() < 12 { 1 } else { 2 };
    let plain = name.to_ascii_lowercase().replace(['_', '-'], ".");
    let rows = settings::BROKER.iter().flat_map(|(_, rows)| rows.iter());
    let nearest = rows
        .map(|row| (strsim::damerau_levenshtein(&plain, row.name), row.name))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, known)) if distance <= slips => Suggestion::Mistyped(known),
        _ => Suggestion::None,
    }
}

/// Whether this sizes socket buffers as the properties shipped with Apache Kafka do, or smaller;
/// docs/decisions/socket-buffers.md has what that costs.
fn is_small_buffer(name: &str, value: &str) -> bool {
    matches!(name, "socket.receive.buffer.bytes" | "socket.send.buffer.bytes")
        && value.trim().parse().is_ok_and(|bytes: i64| (0..=KAFKA_BUFFER_BYTES).contains(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn load_file(text: &str) -> Result<Loaded, Vec<Problem>> {
        load(&Sources { file: Some(("a file", text)), ..Sources::default() })
    }

    fn sentences(text: &str) -> String {
        match load_file(text) {
            Ok(loaded) => panic!("loaded {text:?}: {:?}", loaded.warnings),
            Err(problems) => {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
        }
    }

    const MINIMAL: &str = "node.id=7\nlog.dirs=/data\n";

    #[test]
    fn the_built_in_configuration_starts_a_standalone_node() {
        let loaded = load(&Sources::default()).expect("it is good");
        assert_eq!(loaded.warnings, Vec::<String>::new());
        let config = loaded.config;
        assert_eq!(config.node_id.0, 1);
        assert_eq!(config.log_dir.to_str(), Some("./data"));
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners[0].bind_address(), "127.0.0.1:9092");
        assert_eq!(config.advertised, config.listeners);
        assert_eq!(config.idle_connection_max, Some(Duration::from_secs(600)));
    }

    #[test]
    fn the_command_line_beats_the_environment_and_that_beats_the_file() {
        let variables: Vec<(String, String)> = [
            ("KAFKA_NUM_PARTITIONS", "5"),
            ("KAFKA_LOG_RETENTION_MS", "50"),
            ("KAFKA_HEAP_OPTS", "-Xmx1G"),
            ("CORELOG_CORES", "3"),
            ("PATH", "/bin"),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
        let overrides = ["num.partitions=6".to_owned()];
        let text = format!("{MINIMAL}num.partitions=4\nlog.retention.ms=40\n");
        let sources =
            Sources { file: Some(("f", &text)), environment: &variables, overrides: &overrides };
        let loaded = load(&sources).expect("it is good");
        assert_eq!(loaded.config.partition_count, 6);
        assert_eq!(loaded.config.cores, Some(3));
        let retention = loaded.config.layers.merged().get("log.retention.ms");
        assert_eq!(retention.map(String::as_str), Some("50"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(spelled_out("A_B__C___D"), "a.b_c-d");
    }

    #[test]
    fn what_is_odd_gets_a_sentence() {
        let warned = [
            ("num.io.threads=8", "a file: num.io.threads has no effect in Corelog"),
            ("my.plugin.path=x", "a file: my.plugin.path is not a setting and is ignored"),
            (
                "socket.send.buffer.bytes=102400",
                "a file: socket.send.buffer.bytes=102400 costs up to a third more CPU with large \
                 batches and fetches; leave it out unless many connections must share little \
                 memory",
            ),
            (
                "retention.ms=1",
                "a file: retention.ms is a setting of topics and ignored here; the broker's \
                 default for it is log.retention.ms",
            ),
        ];
        for (line, expected) in warned {
            let loaded = load_file(&format!("{MINIMAL}{line}")).expect(line);
            assert_eq!(loaded.warnings, [expected]);
        }
        for quiet in ["socket.send.buffer.bytes=-1", "socket.receive.buffer.bytes=307200"] {
            let loaded = load_file(&format!("{MINIMAL}{quiet}")).expect(quiet);
            assert_eq!(loaded.warnings, Vec::<String>::new());
        }
        let refused = [
            ("num.partition=1", "did you mean num.partitions?"),
            ("log_retention_hours=1", "did you mean log.retention.hours?"),
            ("num.partitions=0", "Value must be at least 1"),
            ("num.partitions=many", "Not a number of type INT"),
            ("broker.id=8", "node.id is 7 and broker.id is 8"),
            ("log.dirs=/a,/b", "log.dirs names 2 directories"),
            ("listeners=localhost:9092", "is not NAME://host:port"),
            ("listeners=SSL://:9092", "uses SSL, which Corelog can not speak yet"),
            ("listeners=PLAINTEXT://0.0.0.0:9092", "no client can reach"),
            (
                "listeners=PLAINTEXT://h:1,B://h:1\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,B:PLAINTEXT",
                "want the same address",
            ),
            ("advertised.listeners=B://h:1", "listener B has no protocol"),
            ("process.roles=controller", "process.roles must be broker,controller"),
            ("process.roles=brokers", "String must be one of: broker, controller"),
            ("log.retention.ms=0", "log.retention.ms must be unlimited"),
            ("a=\\u12", "line 3: \\u needs four hexadecimal digits"),
        ];
        for (line, part) in refused {
            let found = sentences(&format!("{MINIMAL}{line}"));
            assert!(found.contains(part), "{line}: {found}");
        }
        assert!(sentences("log.dirs=/a").contains("node.id is not set"));
        let many = sentences("num.partition=1\nnum.partitions=0\n");
        assert_eq!(many.lines().count(), 2, "{many}");
    }

    #[test]
    fn a_file_of_a_combined_kafka_node_is_taken_as_it_is() {
        let text = "process.roles=broker,controller\nnode.id=1\n\
                    controller.quorum.bootstrap.servers=localhost:9093\n\
                    listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
                    inter.broker.listener.name=PLAINTEXT\n\
                    advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
                    controller.listener.names=CONTROLLER\nlog.dirs=/tmp/kraft-combined-logs\n\
                    listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n";
        let config = load_file(text).expect("it is good").config;
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://:9092");
        assert_eq!(config.advertised[0].to_string(), "PLAINTEXT://localhost:9092");
    }
}
