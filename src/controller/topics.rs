//! Topics: creation, deletion, more partitions.

use std::fmt;

use crate::base::{NodeId, Uuid};
use crate::metadata::record::{Config, PartitionCreated, Recovery, RemoveTopic, TopicCreated};
use crate::metadata::{ConfigResource, Image, NameError, Record, Settings, check_name};

/// Why a topic can not be created or changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TopicError {
    /// The name is no topic's name, or collides with another's.
    Name(NameError),
    /// A topic has this name.
    Exists,
    /// A topic has this id: draw another one.
    IdTaken,
    /// No topic has this id.
    Unknown,
    /// A topic has one partition at least, and can only get more of them.
    PartitionCount {
        /// What the topic has; 0 for a new one.
        current: i32,
        /// What was asked for.
        wanted: i32,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Exists => f.write_str("a topic of this name exists"),
            Self::IdTaken => f.write_str("a topic of this id exists"),
            Self::Unknown => f.write_str("there is no such topic"),
            Self::PartitionCount { current: 0, wanted } => {
                write!(f, "a topic has one partition at least; {wanted} were asked for")
            }
            Self::PartitionCount { current, wanted } => {
                write!(f, "the topic has {current} partitions; {wanted} would not be more")
            }
        }
    }
}

impl std::error::Error for TopicError {}

impl From<NameError> for TopicError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

/// Where the only replica of a new partition lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Home {
    /// The node.
    pub node: NodeId,
    /// The node's log directory.
    pub directory: Uuid,
}

/// A topic to be created.
#[derive(Clone, Copy, Debug)]
pub struct NewTopic<'a> {
    /// Its id, freshly drawn.
    pub id: Uuid,
    /// Its name.
    pub name: &'a str,
    /// How many partitions it gets.
    pub partition_count: i32,
    /// Where they live.
    pub home: Home,
    /// The settings it is created with.
    pub settings: &'a Settings,
}

/// Records that create a topic: the topic, its settings, its partitions, as Kafka orders them.
/// Whether its name is too much like another one's is not looked at here: that is a question to
/// all names at once.
pub fn create_topic_records(image: &Image, new: &NewTopic<'_>) -> Result<Vec<Record>, TopicError> {
    if image.topic_named(new.name).is_some() {
        return Err(TopicError::Exists);
    }
    check_name(new.name)?;
    if image.topic(new.id).is_some() {
        return Err(TopicError::IdTaken);
    }
    if new.partition_count < 1 {
        return Err(TopicError::PartitionCount { current: 0, wanted: new.partition_count });
    }
    let resource = ConfigResource::topic(new.name);
    let mut records = vec![TopicCreated { name: new.name.to_owned(), id: new.id }.into()];
    records.extend(new.settings.iter().map(|(name, value)| {
        Record::from(Config {
            resource_type: resource.kind.to_wire(),
            resource_name: resource.name.clone(),
            name: name.clone(),
            value: Some(value.clone()),
        })
    }));
    records.extend((0..new.partition_count).map(|number| new_partition(new.id, number, new.home)));
    Ok(records)
}

/// Records that delete a topic; its settings go with it.
pub fn delete_topic_records(image: &Image, id: Uuid) -> Result<Vec<Record>, TopicError> {
    image.topic(id).ok_or(TopicError::Unknown)?;
    Ok(vec![RemoveTopic { topic: id }.into()])
}

/// Records that add partitions to a topic until it has `count`.
pub fn create_partitions_records(
    image: &Image,
    id: Uuid,
    count: i32,
    home: Home,
) -> Result<Vec<Record>, TopicError> {
    let topic = image.topic(id).ok_or(TopicError::Unknown)?;
    let current = topic.partitions.last_key_value().map_or(0, |(last, _)| last + 1);
    if count <= current {
        return Err(TopicError::PartitionCount { current, wanted: count });
    }
    Ok((current..count).map(|number| new_partition(id, number, home)).collect())
}

fn new_partition(topic: Uuid, partition: i32, home: Home) -> Record {
    PartitionCreated {
        partition,
        topic,
        replicas: vec![home.node],
        isr: vec![home.node],
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        leader: Some(home.node),
        leader_recovery: Recovery::Recovered,
        leader_epoch: 0,
        partition_epoch: 0,
        directories: vec![Some(home.directory)],
        elr: None,
        last_known_elr: None,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home { node: NodeId(1), directory: Uuid::from_halves(5, 5) }
    }

    fn applied(image: &Image, records: &[Record]) -> Image {
        let mut image = image.clone();
        records.iter().for_each(|record| image.apply(record).expect("fits"));
        image
    }

    #[test]
    fn a_topic_is_created_grown_and_deleted() {
        let mut image = Image::default();
        let settings = Settings::from([("retention.ms".to_owned(), "5".to_owned())]);
        let id = Uuid::from_halves(1, 1);
        let new =
            NewTopic { id, name: "a.b", partition_count: 2, home: home(), settings: &settings };
        image = applied(&image, &create_topic_records(&image, &new).expect("valid"));
        let topic = image.topic_named("a.b").expect("created");
        assert_eq!((topic.id, topic.partitions.len()), (id, 2));
        let resource = ConfigResource::topic("a.b");
        assert_eq!(image.setting(&resource, "retention.ms"), Some("5"));

        let other = Uuid::from_halves(2, 2);
        let refused = [
            ("the name is taken", NewTopic { id: other, ..new }, TopicError::Exists),
            ("the id is taken", NewTopic { name: "c", ..new }, TopicError::IdTaken),
            (
                "no partitions",
                NewTopic { id: other, name: "c", partition_count: 0, ..new },
                TopicError::PartitionCount { current: 0, wanted: 0 },
            ),
        ];
        for (name, new, error) in refused {
            assert_eq!(create_topic_records(&image, &new), Err(error), "{name}");
        }
        let bad = create_topic_records(&image, &NewTopic { id: other, name: "a b", ..new });
        assert!(matches!(bad, Err(TopicError::Name(NameError::BadCharacter(_)))));

        let error = TopicError::PartitionCount { current: 2, wanted: 2 };
        assert_eq!(create_partitions_records(&image, id, 2, home()), Err(error));
        let records = create_partitions_records(&image, id, 5, home()).expect("more");
        image = applied(&image, &records);
        let numbers: Vec<_> = image.topic(id).unwrap().partitions.keys().copied().collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);

        image = applied(&image, &delete_topic_records(&image, id).expect("exists"));
        assert_eq!(image, Image::default());
        assert_eq!(delete_topic_records(&image, id), Err(TopicError::Unknown));
    }
}
