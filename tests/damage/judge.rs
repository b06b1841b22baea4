//! What may come of a damaged file.

use std::path::Path;

use corelog::broker::Failure;
use corelog::protocol::ErrorCode;

use crate::client::{End, Seen, TOPIC, Told, Written};
use crate::image::{Damage, Stop};
use crate::logs::Line;

/// What came of it, the best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Everything is there.
    Harmless,
    /// Less is there, and the log says so and where.
    Repaired,
    /// The broker does not start, and says which file is to blame and what to do.
    Refused,
    /// A partition is offline, or says that its file can not be read; the log says where.
    Offline,
    /// A client sees a batch that does not have its checksum. After a clean stop nobody has looked
    /// at it before, as with Apache Kafka.
    BadChecksum,
    /// The end is missing. The process was killed before it synced that or wrote it down anywhere:
    /// it is like a write that never happened, as with Apache Kafka.
    Shortened,
    /// Records have other offsets or are passed over: of a batch's offset and of where it lies
    /// nothing has a checksum, and after a clean stop nothing is checked, as with Apache Kafka.
    Moved,
}

/// All of them, in their order.
pub const CLASSES: [Class; 7] = [
    Class::Harmless,
    Class::Repaired,
    Class::Refused,
    Class::Offline,
    Class::BadChecksum,
    Class::Shortened,
    Class::Moved,
];

/// How a broker's life on a damaged directory went.
pub struct Life {
    /// What clients were told; `None` when the broker ended before.
    pub told: Option<Told>,
    /// What the process ended with, if it did.
    pub verdict: Option<Result<(), Failure>>,
    pub lines: Vec<Line>,
}

/// The topic that commits are kept in.
const OFFSETS: &str = "__consumer_offsets";

/// The file that was damaged.
pub struct Blamed<'a> {
    pub path: &'a Path,
    pub stop: Stop,
    pub damage: Damage,
}

impl Blamed<'_> {
    fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The partition's directory; none for files of the data directory itself.
    fn directory(&self) -> Option<&str> {
        let parent = self.path.parent()?;
        let is_data = parent == Path::new("/data");
        parent.file_name().and_then(|name| name.to_str()).filter(|_| !is_data)
    }

    /// Whether a text tells the file or its partition.
    fn is_named(&self, text: &str) -> bool {
        if text.contains(self.name()) {
            return true;
        }
        let Some(directory) = self.directory() else { return false };
        let partition = directory.rsplit_once('-');
        text.contains(directory)
            || partition.is_some_and(|(topic, number)| {
                text.contains(&format!("topic={topic}"))
                    && text.contains(&format!("partition={number}"))
            })
    }

    fn is_warned_of(&self, lines: &[Line]) -> bool {
        lines.iter().any(|line| line.is_warning() && self.is_named(&line.text))
    }

    /// Whether directories of a topic are set aside, as the metadata lost it, and that is said.
    fn is_set_aside(topic: &str, lines: &[Line]) -> bool {
        let directory = format!("/{topic}-");
        let is_told = |line: &&Line| line.is_warning() && line.text.contains("is set aside");
        lines.iter().filter(is_told).any(|line| line.text.contains(&directory))
    }

    /// Whether what is missing was never written down elsewhere.
    fn is_unknown(&self) -> bool {
        let is_cut = matches!(self.damage, Damage::Cut { .. } | Damage::Removed);
        self.stop == Stop::Killed && is_cut
    }

    /// Whether a failure to start says what is to be done.
    fn is_explained_by(&self, text: &str) -> bool {
        // Of a node's or directory's id that was changed, nobody can tell which file is wrong.
        let is_identity = self.name() == "meta.properties" && text.contains("node.id");
        self.is_named(text) || is_identity
    }

    fn is_of_topic(&self) -> bool {
        self.directory().is_some_and(|directory| directory.starts_with(TOPIC))
    }
}

/// What came of it, or what must not be.
pub fn judge(blamed: &Blamed<'_>, written: &Written, life: &Life) -> Result<Class, String> {
    let Some(told) = &life.told else {
        return match &life.verdict {
            Some(Err(failure)) if blamed.is_explained_by(&failure.0) => Ok(Class::Refused),
            Some(Err(failure)) => {
                Err(format!("the broker does not start, and does not name the file: {failure}"))
            }
            Some(Ok(())) => Err("the broker ended without a word".to_owned()),
            None => Err("clients wait for ever".to_owned()),
        };
    };
    let warned = blamed.is_warned_of(&life.lines);
    let mut worst = Class::Harmless;
    if let Some(error) = told.topic_error {
        if !warned && !Blamed::is_set_aside(TOPIC, &life.lines) {
            return Err(format!("the topic is gone without a word: {error:?}"));
        }
        if matches!(blamed.damage, Damage::Flip { .. }) {
            // It was made long before the last append.
            return Err("one damaged batch took what lies behind it with it".to_owned());
        }
        worst = Class::Repaired;
    }
    for (index, seen) in &told.partitions {
        let expected = &written.values[*index as usize];
        let class = judge_partition(blamed, expected, seen, warned)
            .map_err(|what| format!("partition {index}: {what}"))?;
        worst = worst.max(class);
    }
    match &told.commits {
        Some(Ok(commits)) if *commits == written.commits => {}
        // A group's commits of a topic that is gone go with it.
        Some(Ok(_)) if told.topic_error.is_some() => {}
        Some(Ok(commits)) if warned || Blamed::is_set_aside(OFFSETS, &life.lines) => {
            if commits.iter().zip(&written.commits).any(|(told, last)| told > last) {
                return Err(format!("commits nobody made: {commits:?}"));
            }
            worst = worst.max(Class::Repaired);
        }
        Some(Ok(commits)) if blamed.is_unknown() && !blamed.is_of_topic() => {
            let is_older = commits.iter().zip(&written.commits).all(|(told, last)| told <= last);
            if !is_older {
                return Err(format!("commits nobody made: {commits:?}"));
            }
            worst = worst.max(Class::Shortened);
        }
        Some(Ok(commits)) => return Err(format!("commits are {commits:?}, without a word")),
        Some(Err(_)) if warned => worst = worst.max(Class::Offline),
        Some(Err(error)) => return Err(format!("commits are not told: {error:?}, nor why")),
        None => return Err("commits were not asked for".to_owned()),
    }
    Ok(worst)
}

fn judge_partition(
    blamed: &Blamed<'_>,
    expected: &[String],
    seen: &Seen,
    warned: bool,
) -> Result<Class, String> {
    let mut is_moved = false;
    let mut last = -1;
    for (offset, value) in &seen.records {
        if *offset <= last && blamed.stop == Stop::Clean && blamed.is_of_topic() {
            is_moved = true;
        } else if *offset <= last {
            return Err(format!("offset {offset} comes behind {last}"));
        }
        last = *offset;
        if !expected.contains(value) {
            return Err(format!("a record at {offset} that nobody wrote: {value:?}"));
        }
        let there = usize::try_from(*offset).ok().and_then(|at| expected.get(at));
        is_moved |= there != Some(value);
    }
    let is_whole = seen.records.len() == expected.len() && seen.end == End::Reached;
    if is_whole && !is_moved {
        return Ok(Class::Harmless);
    }
    let is_clean = blamed.stop == Stop::Clean;
    if is_moved {
        return match blamed.is_of_topic() {
            true => Ok(Class::Moved),
            false => Err("records have moved".to_owned()),
        };
    }
    let is_beginning =
        seen.records.iter().enumerate().all(|(at, (offset, _))| at as i64 == *offset);
    match seen.end {
        End::Reached if warned => Ok(Class::Repaired),
        End::Reached
            if is_beginning && blamed.is_unknown() && seen.records.len() as i64 == seen.log_end =>
        {
            Ok(Class::Shortened)
        }
        End::Reached if is_clean && !is_beginning && blamed.is_of_topic() => Ok(Class::Moved),
        End::Reached => {
            Err(format!("{} records of {}, without a word", seen.records.len(), expected.len()))
        }
        End::Refused(ErrorCode::KafkaStorageError | ErrorCode::CorruptMessage) if warned => {
            Ok(Class::Offline)
        }
        End::Refused(error) => Err(format!("it is refused with {error:?}, warned: {warned}")),
        End::BadBatch if blamed.is_of_topic() => Ok(Class::BadChecksum),
        End::BadBatch => Err("bad batches of a good file".to_owned()),
        End::Stuck => Err(format!("fetches get stuck, warned: {warned}")),
    }
}
