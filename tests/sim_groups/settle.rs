//! Whether the groups of a run have settled, by what the broker and the members say.

use std::collections::{BTreeMap, BTreeSet};

use corelog::protocol::ErrorCode;
use corelog::protocol::Str;
use corelog::protocol::group_admin::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse,
};

use crate::classic::slots_of;
use crate::link::Link;
use crate::plan::{GroupPlan, Kind};
use crate::seen::{Shared, Slots, View};
use crate::topics::{self, Counts};

/// A group, as the broker describes it.
struct Described {
    state: String,
    /// The members' ids and partitions; with epochs in a consumer group.
    members: BTreeMap<String, (Option<i32>, Slots)>,
}

/// Whether everything has settled; what has not, in words.
pub async fn look(link: &mut Link, seen: &Shared, plans: &[GroupPlan]) -> Result<(), String> {
    let lost = || "the connection was lost".to_owned();
    let counts = topics::look(link, seen).await.ok_or_else(lost)?;
    let listed: ListGroupsResponse =
        link.ask(5, &ListGroupsRequest::default()).await.ok_or_else(lost)?;
    if listed.error.is_error() {
        return Err(format!("the list: {:?}", listed.error));
    }
    for plan in plans {
        let kind = listed.groups.iter().find(|group| group.group == *plan.name);
        let kind = kind.map(|group| (group.kind.to_ascii_lowercase(), group.state.to_string()));
        let described = match kind.as_ref().map(|(kind, _)| &**kind) {
            Some("consumer") => consumer_group(link, &plan.name).await.ok_or_else(lost)?,
            Some(_) => classic_group(link, &plan.name).await.ok_or_else(lost)?,
            // Nobody came to it, or nothing of it is left.
            None => Described { state: "Empty".to_owned(), members: BTreeMap::new() },
        };
        let seen = seen.borrow();
        let views = &seen.groups[&plan.name].views;
        let state = kind.map_or("Empty".to_owned(), |(_, state)| state);
        check(plan, &state, &described, views, &counts)
            .map_err(|why| format!("{}: {why}; {}", plan.name, described.state))?;
    }
    Ok(())
}

fn check(
    plan: &GroupPlan,
    listed: &str,
    described: &Described,
    views: &BTreeMap<usize, View>,
    counts: &Counts,
) -> Result<(), String> {
    let expected = if views.is_empty() { "Empty" } else { "Stable" };
    if described.state != expected || listed != expected {
        return Err(format!("it is {} and listed {listed}, not {expected}", described.state));
    }
    if let Some(view) = views.values().find(|view| !view.is_steady) {
        return Err(format!("{view:?} is not steady"));
    }
    let ids: BTreeSet<&String> = views.values().map(|view| &view.member).collect();
    if ids != described.members.keys().collect() || ids.len() != views.len() {
        return Err(format!("members {ids:?}, described {:?}", described.members));
    }
    for view in views.values() {
        if let Some((epoch, slots)) = described.members.get(&view.member)
            && (epoch.unwrap_or(view.epoch), slots) != (view.epoch, &view.owned)
        {
            return Err(format!("{view:?}, described with {epoch:?} and {slots:?}"));
        }
    }
    if plan.kind == Kind::Classic && views.values().any(|view| view.epoch != views_epoch(views)) {
        return Err(format!("generations differ: {views:?}"));
    }
    check_coverage(views, counts)
}

fn views_epoch(views: &BTreeMap<usize, View>) -> i32 {
    views.values().map(|view| view.epoch).max().unwrap_or_default()
}

/// Every partition of every topic that somebody wants has exactly one owner.
fn check_coverage(views: &BTreeMap<usize, View>, counts: &Counts) -> Result<(), String> {
    let wanted: BTreeSet<&String> = views.values().flat_map(|view| &view.topics).collect();
    let mut missing: Slots = counts
        .iter()
        .filter(|(name, _)| wanted.contains(name))
        .flat_map(|(name, count)| (0..*count).map(|at| (name.clone(), at)))
        .collect();
    for view in views.values() {
        for slot in &view.owned {
            if !missing.remove(slot) {
                return Err(format!("{slot:?} has two owners or is not there: {views:?}"));
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("nobody has {missing:?}: {views:?}")) }
}

async fn classic_group(link: &mut Link, name: &str) -> Option<Described> {
    let groups = vec![Str::from_string(name.to_owned())];
    let request = DescribeGroupsRequest { groups, ..DescribeGroupsRequest::default() };
    let answer: DescribeGroupsResponse = link.ask(6, &request).await?;
    let group = &answer.groups[0];
    let state = match group.error {
        ErrorCode::None => group.state.to_string(),
        error => format!("{error:?}"),
    };
    let slots = |assignment: &bytes::Bytes| match assignment.is_empty() {
        true => Slots::new(),
        false => slots_of(assignment.clone()).expect("an assignment"),
    };
    let members = group.members.iter();
    let members =
        members.map(|member| (member.member.to_string(), (None, slots(&member.assignment))));
    Some(Described { state, members: members.collect() })
}

async fn consumer_group(link: &mut Link, name: &str) -> Option<Described> {
    let groups = vec![Str::from_string(name.to_owned())];
    let request =
        ConsumerGroupDescribeRequest { groups, ..ConsumerGroupDescribeRequest::default() };
    let answer: ConsumerGroupDescribeResponse = link.ask(1, &request).await?;
    let group = &answer.groups[0];
    let state = match group.error {
        ErrorCode::None => group.state.to_string(),
        error => format!("{error:?}"),
    };
    let members = group.members.iter().map(|member| {
        let topics = member.assignment.topics.iter();
        let slots = topics.flat_map(|topic| {
            topic.partitions.iter().map(|partition| (topic.name.to_string(), *partition))
        });
        (member.member.to_string(), (Some(member.member_epoch), slots.collect()))
    });
    Some(Described { state, members: members.collect() })
}
