//! What every decision of the controller is made of, and what it comes to.

use crate::base::{NodeId, Uuid};
use crate::config::BrokerConfig;
use crate::controller::topics::Home;
use crate::metadata::{Image, NameError, Record};
use crate::protocol::{ErrorCode, Str};

/// What a request comes to: records to append (maybe none), and the answer once they are applied.
#[derive(Debug)]
pub struct Decision<R> {
    /// To append to the metadata log; they take effect together.
    pub records: Vec<Record>,
    /// The answer.
    pub response: R,
}

/// What a decision is made from.
pub struct Context<'a> {
    /// The metadata.
    pub image: &'a Image,
    /// The settings in force.
    pub config: &'a BrokerConfig,
    /// This node.
    pub node: NodeId,
    /// Its log directory.
    pub directory: Uuid,
    /// Draws fresh ids.
    pub draw_id: &'a mut dyn FnMut() -> Uuid,
}

impl Context<'_> {
    /// Where new partitions live: on this node.
    pub(super) fn home(&self) -> Home {
        Home { node: self.node, directory: self.directory }
    }
}

/// An error code with the sentence that tools print.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }

    /// A refusal with the code's own sentence.
    pub(super) fn plain(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }

    pub(super) fn text(&self) -> Option<Str> {
        self.message.clone().map(Str::from_string)
    }
}

impl From<NameError> for Refusal {
    /// Scripts match on these sentences: they are Apache Kafka's.
    fn from(error: NameError) -> Self {
        let what = match error {
            NameError::Empty => "the empty string is not allowed".to_owned(),
            NameError::Dots(name) => format!("'{name}' is not allowed"),
            NameError::TooLong(name) => {
                let limit = crate::metadata::NAME_LENGTH_MAX;
                format!("the length of '{name}' is longer than the max allowed length {limit}")
            }
            NameError::BadCharacter(name) => format!(
                "'{name}' contains one or more characters other than ASCII alphanumerics, '.', \
                 '_' and '-'"
            ),
            NameError::Collision { name, other } => {
                let message = format!("Topic '{name}' collides with existing topic: {other}");
                return Self::new(ErrorCode::InvalidTopicException, message);
            }
        };
        Self::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {what}"))
    }
}
