//! Regular expressions for names of topics.

/// A subscription by regular expression.
#[derive(Clone, Debug)]
pub struct TopicPattern(::regex::Regex);

impl TopicPattern {
    /// Compiles an expression.
    pub fn new(expression: &str) -> Result<Self, String> {
        let whole = format!("^(?:{expression})$");
        ::regex::Regex::new(&whole).map(Self).map_err(|error| {
            format!(
                "SubscribedTopicRegex `{expression}` is not a valid regular expression: {error}."
            )
        })
    }

    /// Whether a topic's whole name matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}
