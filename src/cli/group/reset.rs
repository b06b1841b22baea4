//! `corelog group reset`: other offsets for a group that nobody is in.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, TopicName};

use crate::protocol::Str;
use crate::protocol::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use crate::runtime::Runtime;

use super::super::args::GroupResetArgs;
use super::super::client::{Cluster, Connection, Creation};
use super::super::target::Target;
use super::super::terminal::{Done, Failure, Output};
use super::super::topic::open;
use super::ask::{self, Group, Place};
use super::moment::{duration_millis, moment_millis};
use super::{coordinator, group_id, refusal, topic_and_partitions};

/// The newest version of OffsetCommit that is sent.
const COMMIT_VERSION_MAX: i16 = 9;

/// Where to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Goal {
    Earliest,
    Latest,
    Committed,
    Offset(i64),
    Shift(i64),
    /// The first record at this time or later, milliseconds since 1970; else the end. Negative
    /// times have another meaning in ListOffsets: it is 0 or greater.
    Time(i64),
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    first: i64,
    end: i64,
}

/// Runs the command.
pub async fn run(runtime: &Runtime, args: &GroupResetArgs) -> Done {
    let goal = goal(args, runtime.wall_clock().to_wire())?;
    let cluster = open(runtime, &args.cluster).await?;
    let connection = coordinator(&cluster, &args.group).await?;
    let group = ask::group(&cluster, &connection, &args.group).await?;
    check_unused(&group)?;
    let committed = ask::committed(&connection, &args.group).await?;
    let wanted = wanted(&cluster, args, &committed).await?;
    if wanted.is_empty() {
        return Err(Failure::new(format!(
            "group {} has no offsets yet: say which with --topic",
            args.group
        )));
    }
    let mut new = BTreeMap::new();
    for (target, partitions) in &wanted {
        new.extend(new_offsets(&cluster, target, partitions, goal, &committed).await?);
    }
    if args.execute {
        commit(&connection, &args.group, &new).await?;
    }
    let row = |(place, offset): (&Place, &i64)| {
        let before = committed.get(place).map_or("-".to_owned(), i64::to_string);
        vec![args.group.clone(), place.0.clone(), place.1.to_string(), before, offset.to_string()]
    };
    let mut out = Output::new();
    out.table(&["GROUP", "TOPIC", "PARTITION", "BEFORE", "NEW"], new.iter().map(row).collect())?;
    out.flush()?;
    if !args.execute {
        eprintln!("nothing was changed: --execute does it");
    }
    Ok(())
}

fn goal(args: &GroupResetArgs, now: i64) -> Result<Goal, Failure> {
    let goal = &args.goal;
    if let Some(text) = &goal.to_datetime {
        return match moment_millis(text) {
            Some(millis) => Ok(Goal::Time(millis.max(0))),
            None => Err(Failure::new(format!(
                "\"{text}\" is not a time like 2026-11-21T13:00:00 (UTC), with .123, Z or +02:00"
            ))),
        };
    }
    if let Some(text) = &goal.by_duration {
        return match duration_millis(text) {
            Some(millis) => Ok(Goal::Time(now.saturating_sub(millis).max(0))),
            None => Err(Failure::new(format!("\"{text}\" is not a duration like P1DT2H30M"))),
        };
    }
    Ok(match (goal.to_earliest, goal.to_latest, goal.to_offset, goal.shift_by) {
        (true, ..) => Goal::Earliest,
        (_, true, ..) => Goal::Latest,
        (_, _, Some(offset), _) => Goal::Offset(offset),
        (_, _, _, Some(by)) => Goal::Shift(by),
        (false, false, None, None) => Goal::Committed,
    })
}

/// Members would go on where they are and commit over what was reset.
fn check_unused(group: &Group) -> Done {
    if group.members.is_empty() && (group.state == "Empty" || group.state == "Dead") {
        return Ok(());
    }
    let members = match group.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    Err(Failure::new(format!(
        "group {} is {} with {members}: stop them first, offsets in use can not be reset",
        group.id, group.state
    )))
}

/// The partitions to reset: those named, or all the group has committed.
async fn wanted(
    cluster: &Cluster,
    args: &GroupResetArgs,
    committed: &BTreeMap<Place, i64>,
) -> Result<Vec<(Target, BTreeSet<i32>)>, Failure> {
    let mut named: BTreeMap<String, Option<BTreeSet<i32>>> = BTreeMap::new();
    for text in &args.topics {
        let (topic, partitions) = topic_and_partitions(text)?;
        let entry = named.entry(topic).or_insert_with(|| Some(BTreeSet::new()));
        match (entry.as_mut(), partitions) {
            (Some(known), Some(more)) => known.extend(more),
            // All of them.
            (_, None) => *entry = None,
            (None, Some(_)) => {}
        }
    }
    if args.topics.is_empty() {
        for (topic, partition) in committed.keys() {
            let entry = named.entry(topic.clone()).or_insert_with(|| Some(BTreeSet::new()));
            entry.get_or_insert_default().insert(*partition);
        }
    }
    let mut wanted = Vec::new();
    for (topic, partitions) in named {
        let target = Target::find(cluster, &topic, Creation::Forbidden).await?;
        let partitions = partitions.unwrap_or_else(|| target.leaders.keys().copied().collect());
        for partition in &partitions {
            target.leader(*partition)?;
        }
        wanted.push((target, partitions));
    }
    Ok(wanted)
}

async fn new_offsets(
    cluster: &Cluster,
    target: &Target,
    partitions: &BTreeSet<i32>,
    goal: Goal,
    committed: &BTreeMap<Place, i64>,
) -> Result<BTreeMap<Place, i64>, Failure> {
    let first = ask::offsets_at(cluster, target, EARLIEST_TIMESTAMP).await?;
    let end = ask::offsets_at(cluster, target, LATEST_TIMESTAMP).await?;
    let at_time = match goal {
        Goal::Time(millis) => ask::offsets_at(cluster, target, millis).await?,
        _ => BTreeMap::new(),
    };
    let mut new = BTreeMap::new();
    for partition in partitions {
        let place = (target.name.clone(), *partition);
        let (Some(first), Some(end)) = (first.get(&place), end.get(&place)) else {
            return Err(Failure::new(format!("{}-{partition} has no offsets", target.name)));
        };
        let bounds = Bounds { first: *first, end: *end };
        let before = committed.get(&place).copied();
        let Some(offset) = new_offset(goal, bounds, before, at_time.get(&place).copied()) else {
            return Err(Failure::new(format!(
                "the group has no offset of {}-{partition} that could be shifted",
                target.name
            )));
        };
        new.insert(place, offset);
    }
    Ok(new)
}

/// The new offset of a partition, which always lies within the log. `None` when there is none to
/// shift; a partition without an offset to keep goes to its end, as Kafka's tool does.
fn new_offset(
    goal: Goal,
    bounds: Bounds,
    committed: Option<i64>,
    at_time: Option<i64>,
) -> Option<i64> {
    let offset = match goal {
        Goal::Earliest => bounds.first,
        Goal::Latest => bounds.end,
        Goal::Committed => return Some(committed.unwrap_or(bounds.end)),
        Goal::Offset(offset) => offset,
        Goal::Shift(by) => committed?.saturating_add(by),
        Goal::Time(_) => at_time.unwrap_or(bounds.end),
    };
    Some(offset.min(bounds.end).max(bounds.first))
}

async fn commit(connection: &Connection, group: &str, new: &BTreeMap<Place, i64>) -> Done {
    let mut topics: BTreeMap<&String, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in new {
        topics.entry(topic).or_default().push(
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(Str::default())),
        );
    }
    let topic = |(name, partitions): (&String, Vec<OffsetCommitRequestPartition>)| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(Str::from_string(name.clone())))
            .with_partitions(partitions)
    };
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.into_iter().map(topic).collect());
    let answer = connection.call_group(&request, COMMIT_VERSION_MAX).await?;
    for topic in &answer.topics {
        for row in &topic.partitions {
            let what = format!("offset of {}-{}", topic.name.0, row.partition_index);
            refusal(&what, row.error_code, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_offsets_lie_within_the_log() {
        let bounds = Bounds { first: 10, end: 100 };
        let cases = [
            ("earliest", Goal::Earliest, Some(50), None, Some(10)),
            ("latest", Goal::Latest, None, None, Some(100)),
            ("kept", Goal::Committed, Some(50), None, Some(50)),
            ("nothing to keep", Goal::Committed, None, None, Some(100)),
            ("an offset", Goal::Offset(60), None, None, Some(60)),
            ("below the log", Goal::Offset(5), None, None, Some(10)),
            ("above the log", Goal::Offset(500), None, None, Some(100)),
            ("shifted", Goal::Shift(-20), Some(50), None, Some(30)),
            ("shifted too far", Goal::Shift(-90), Some(50), None, Some(10)),
            ("shifted for ever", Goal::Shift(i64::MAX), Some(50), None, Some(100)),
            ("nothing to shift", Goal::Shift(1), None, None, None),
            ("a time", Goal::Time(7), None, Some(42), Some(42)),
            ("a time after all records", Goal::Time(7), None, None, Some(100)),
        ];
        for (name, goal, committed, at_time, expected) in cases {
            assert_eq!(new_offset(goal, bounds, committed, at_time), expected, "{name}");
        }
    }
}
