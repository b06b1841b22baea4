//! `corelog group`: list, describe, reset, delete.
//!
//! Against any broker: groups of the consumer protocol are described as such, all others by the
//! classic requests, as Apache's tools do.

mod ask;
mod describe;
mod moment;
mod reset;

use std::time::Duration;

use kafka_protocol::messages::{DeleteGroupsRequest, GroupId, ListGroupsRequest};

use crate::protocol::{ErrorCode, Str};
use crate::runtime::Runtime;

use super::args::{ClusterArgs, GroupCommand};
use super::client::{ClientError, Cluster, Connection, Creation, Outcome};
use super::terminal::{Done, Failure, Output};
use super::topic::open;

/// The newest version of ListGroups that is asked; 4 tells states, 5 types.
const LIST_VERSION_MAX: i16 = 5;

/// The newest version of DeleteGroups that is asked.
const DELETE_VERSION_MAX: i16 = 2;

/// How often a coordinator that is still loading is asked.
const TRIES: u32 = 100;

/// The wait between two of these.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the command.
pub async fn run(runtime: Runtime, command: GroupCommand) -> Done {
    match command {
        GroupCommand::List { cluster, states, types } => {
            list(&runtime, &cluster, &states, &types).await
        }
        GroupCommand::Describe { groups, cluster, members, state } => {
            let shown = match (members, state) {
                (true, _) => describe::Shown::Members,
                (_, true) => describe::Shown::State,
                _ => describe::Shown::Offsets,
            };
            describe::run(&runtime, &cluster, groups, shown).await
        }
        GroupCommand::Reset(args) => reset::run(&runtime, &args).await,
        GroupCommand::Delete { groups, cluster } => delete(&runtime, &cluster, &groups).await,
    }
}

/// A group as ListGroups tells it.
struct Listed {
    id: String,
    state: String,
    kind: String,
    protocol: String,
}

/// The groups of all brokers, sorted by name.
async fn listed(cluster: &Cluster, states: &[String], types: &[String]) -> Outcome<Vec<Listed>> {
    cluster.metadata(Some(&[]), Creation::Forbidden).await?;
    let texts = |texts: &[String]| texts.iter().cloned().map(Str::from_string).collect::<Vec<_>>();
    let request = ListGroupsRequest::default()
        .with_states_filter(texts(states))
        .with_types_filter(texts(types));
    let mut found = Vec::new();
    for node in cluster.nodes() {
        let connection = cluster.broker(node).await?;
        let answer = connection.call_group(&request, LIST_VERSION_MAX).await?;
        refusal(&format!("groups of broker {node}"), answer.error_code, None)?;
        found.extend(answer.groups.into_iter().map(|group| Listed {
            id: group.group_id.0.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
            protocol: group.protocol_type.to_string(),
        }));
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(found)
}

async fn list(runtime: &Runtime, args: &ClusterArgs, states: &[String], types: &[String]) -> Done {
    let cluster = open(runtime, args).await?;
    let groups = listed(&cluster, states, types).await?;
    let row = |group: Listed| vec![group.id, group.state, group.kind, group.protocol];
    let mut out = Output::new();
    out.table(&["GROUP", "STATE", "TYPE", "PROTOCOL"], groups.into_iter().map(row).collect())?;
    out.flush()
}

async fn delete(runtime: &Runtime, args: &ClusterArgs, groups: &[String]) -> Done {
    let cluster = open(runtime, args).await?;
    let mut out = Output::new();
    let mut failed = None;
    for group in groups {
        match delete_one(&cluster, group).await {
            Ok(()) => out.line(format_args!("{group} deleted"))?,
            Err(error) => failed = Some(error),
        }
        out.flush()?;
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

async fn delete_one(cluster: &Cluster, group: &str) -> Outcome<()> {
    let connection = coordinator(cluster, group).await?;
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    let mut tries = 0;
    loop {
        let answer = connection.call_group(&request, DELETE_VERSION_MAX).await?;
        let raw = answer.results.first().map_or(-1, |result| result.error_code);
        if !is_unready(code(raw)) || tries >= TRIES {
            return refusal(&format!("group {group}"), raw, None);
        }
        tries += 1;
        cluster.runtime().sleep(PAUSE).await;
    }
}

/// Whether a coordinator that answers so is only not ready yet.
pub fn is_unready(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}

/// A connection to the broker that coordinates `group`.
async fn coordinator(cluster: &Cluster, group: &str) -> Outcome<Connection> {
    let address = cluster.coordinator(group).await?;
    cluster.connection_to(&address).await
}

fn group_id(group: &str) -> GroupId {
    GroupId(Str::from_string(group.to_owned()))
}

fn code(raw: i16) -> ErrorCode {
    ErrorCode::from_code(raw).unwrap_or(ErrorCode::UnknownServerError)
}

fn refusal(what: &str, raw: i16, words: Option<&str>) -> Outcome<()> {
    match code(raw) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::refused(what, code, words)),
    }
}

/// `topic` or `topic:0,3`: the topic, and the partitions when they are told.
fn topic_and_partitions(text: &str) -> Result<(String, Option<Vec<i32>>), Failure> {
    let Some((topic, rest)) = text.split_once(':') else { return Ok((text.to_owned(), None)) };
    let numbers: Result<Vec<i32>, _> = rest.split(',').map(str::parse).collect();
    match numbers {
        Ok(numbers) => Ok((topic.to_owned(), Some(numbers))),
        Err(_) => Err(Failure::new(format!("\"{text}\" is not TOPIC or TOPIC:PARTITION,..."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_may_name_their_partitions() {
        let cases = [
            ("t", Some(("t", None))),
            ("t:3", Some(("t", Some(vec![3])))),
            ("a.b_c-d:0,12", Some(("a.b_c-d", Some(vec![0, 12])))),
            ("t:", None),
            ("t:x", None),
        ];
        for (text, expected) in cases {
            let found = topic_and_partitions(text).ok();
            let expected = expected.map(|(topic, partitions)| (topic.to_owned(), partitions));
            assert_eq!(found, expected, "{text}");
        }
    }
}
