//! `corelog serve`, and `corelog config check`: reading the configuration.

use std::io::IsTerminal;

use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::config::BrokerConfig;
use crate::config::load::{EMBEDDED_NAME, Loaded, Sources, load};
use crate::runtime::process;

use super::args::ServeArgs;
use super::terminal::{Done, Failure, Output};

/// Variables of the tools, which are no settings.
const OTHER_VARIABLES: [&str; 2] = [LOG_VARIABLE, "CORELOG_BOOTSTRAP"];

/// The variable that says what is logged, as "debug" or "corelog::log=trace,info".
const LOG_VARIABLE: &str = "CORELOG_LOG";

/// Runs the broker: configuration, logging to standard error, then `broker`.
pub fn run(args: &ServeArgs, broker: impl FnOnce(BrokerConfig) -> Result<(), String>) -> Done {
    let loaded = configuration(args)?;
    let filter = EnvFilter::builder()
        .with_env_var(LOG_VARIABLE)
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env()
        .map_err(|error| Failure::new(format!("{LOG_VARIABLE} is not understood: {error}")))?;
    // Colours are for eyes; a log file has none.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    broker(loaded.config).map_err(Failure)
}

/// Reads the configuration as the arguments say; the failure lists everything that is wrong.
pub fn configuration(args: &ServeArgs) -> Result<Loaded, Failure> {
    let text = match &args.config {
        Some(path) => {
            let text = process::read_text(path).map_err(|error| {
                Failure::new(format!(
                    "the configuration {} can not be read: {error}",
                    path.display()
                ))
            })?;
            Some((path.display().to_string(), text))
        }
        None => None,
    };
    let mut environment = process::environment();
    environment.retain(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str()));
    let sources = Sources {
        file: text.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
        environment: &environment,
        overrides: &args.overrides,
    };
    load(&sources).map_err(|problems| {
        let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure(sentences.join("\n"))
    })
}

/// Runs `corelog config check`.
pub fn check(args: &ServeArgs) -> Done {
    let loaded = configuration(args)?;
    let mut out = Output::new();
    for warning in &loaded.warnings {
        out.line(format_args!("warning: {warning}"))?;
    }
    let name = args.config.as_ref().map(|path| path.display().to_string());
    out.line(format_args!("{} is good", name.as_deref().unwrap_or(EMBEDDED_NAME)))?;
    out.flush()
}
