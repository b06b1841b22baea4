//! What the broker logs, kept for the thread it runs on.

use std::cell::RefCell;
use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    /// Its fields and its message.
    pub text: String,
}

impl Line {
    /// Whether it is a warning or worse.
    pub fn is_warning(&self) -> bool {
        self.level <= Level::WARN
    }
}

struct Keeper;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = Line { level: *event.metadata().level(), text: text.0 };
        LINES.with_borrow_mut(|lines| lines.push(line));
    }
}

/// From now on all threads keep their lines.
pub fn keep() {
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(Keeper);
    // A second test of this binary finds it done.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The lines of this thread since the last time.
pub fn take() -> Vec<Line> {
    LINES.take()
}
