//! `corelog group describe`: offsets and lag, members, or states.

use std::collections::{BTreeMap, BTreeSet};

use crate::runtime::Runtime;

use super::super::args::ClusterArgs;
use super::super::client::Cluster;
use super::super::terminal::{Done, Failure, Output};
use super::super::topic::open;
use super::ask::{self, Group, Member, Place};
use super::{coordinator, listed};

/// What is printed of each group.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Shown {
    /// A row for each partition: what is committed, where it ends, who consumes it.
    Offsets,
    /// A row for each member.
    Members,
    /// A row for each group.
    State,
}

type Row = Vec<String>;

/// Runs the command. No group named means all.
pub async fn run(runtime: &Runtime, args: &ClusterArgs, groups: Vec<String>, shown: Shown) -> Done {
    let cluster = open(runtime, args).await?;
    let named = !groups.is_empty();
    let ids = if named {
        groups
    } else {
        listed(&cluster, &[], &[]).await?.into_iter().map(|group| group.id).collect()
    };
    let mut rows = Vec::new();
    for id in ids {
        let connection = coordinator(&cluster, &id).await?;
        let group = ask::group(&cluster, &connection, &id).await?;
        if named && group.state == "Dead" {
            return Err(Failure::new(format!("group {id} does not exist")));
        }
        match shown {
            Shown::State => rows.push(state(&group)),
            Shown::Members => rows.extend(group.members.iter().map(|it| member(&group, it))),
            Shown::Offsets => {
                let committed = ask::committed(&connection, &id).await?;
                rows.extend(offsets(&cluster, &group, committed).await?);
            }
        }
    }
    let head: &[&str] = match shown {
        Shown::State => &["GROUP", "STATE", "TYPE", "ASSIGNOR", "EPOCH", "MEMBERS", "COORDINATOR"],
        Shown::Members => {
            &["GROUP", "MEMBER", "INSTANCE", "HOST", "CLIENT", "EPOCH", "COUNT", "PARTITIONS"]
        }
        Shown::Offsets => {
            &["GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST", "CLIENT"]
        }
    };
    let mut out = Output::new();
    out.table(head, rows)?;
    out.flush()
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn state(group: &Group) -> Row {
    let assignor = (!group.assignor.is_empty()).then_some(&group.assignor);
    vec![
        group.id.clone(),
        group.state.clone(),
        group.kind.to_owned(),
        text(assignor),
        text(group.epoch),
        group.members.len().to_string(),
        group.coordinator.clone(),
    ]
}

fn member(group: &Group, member: &Member) -> Row {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in &member.owned {
        topics.entry(topic).or_default().insert(*partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{topic}({})", numbers.join(","))
    });
    let topics = topics.collect::<Vec<_>>().join(" ");
    vec![
        group.id.clone(),
        member.id.clone(),
        text(member.instance.as_ref()),
        member.host.clone(),
        member.client.clone(),
        text(member.epoch),
        member.owned.len().to_string(),
        text((!topics.is_empty()).then_some(topics)),
    ]
}

async fn offsets(
    cluster: &Cluster,
    group: &Group,
    committed: BTreeMap<Place, i64>,
) -> Result<Vec<Row>, Failure> {
    let mut owners: BTreeMap<Place, &Member> = BTreeMap::new();
    for member in &group.members {
        owners.extend(member.owned.iter().map(|place| (place.clone(), member)));
    }
    let places: BTreeSet<&Place> = committed.keys().chain(owners.keys()).collect();
    let topics: BTreeSet<&String> = places.iter().map(|(topic, _)| topic).collect();
    let ends = ask::ends(cluster, topics.into_iter()).await?;
    let row = |place: &Place| {
        let offset = committed.get(place).copied();
        let end = ends.get(place).copied();
        let lag = offset.zip(end).map(|(offset, end)| (end - offset).max(0));
        let owner = owners.get(place);
        vec![
            group.id.clone(),
            place.0.clone(),
            place.1.to_string(),
            text(offset),
            text(end),
            text(lag),
            text(owner.map(|owner| &owner.id)),
            text(owner.map(|owner| &owner.host)),
            text(owner.map(|owner| &owner.client)),
        ]
    };
    Ok(places.into_iter().map(row).collect())
}
