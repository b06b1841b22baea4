//! Committing and fetching offsets, as a member or not.

use std::time::Duration;

use corelog::base::LeaderEpoch;
use corelog::protocol::ErrorCode;
use corelog::protocol::Str;
use corelog::protocol::group_offsets::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
    OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic,
};
use corelog::runtime::Runtime;

use crate::client::PAUSE;
use crate::link::Link;
use crate::plan::Kind;
use crate::seen::{Shared, Slot};
use crate::topics;

/// The version of both requests from which topics have ids in place of names.
const VERSION_IDS: i16 = 10;

/// Within this time after a start offsets are told.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// Who commits.
pub struct Committer<'a> {
    pub group: &'a str,
    pub kind: Kind,
    /// Its id, and its generation or epoch; "" and -1 for none.
    pub member: &'a str,
    pub epoch: i32,
    pub instance: Option<&'a str>,
    pub version: i16,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Committed {
    Yes,
    /// Nobody knows.
    Lost,
    No(ErrorCode),
}

fn text(text: &str) -> Str {
    Str::from_string(text.to_owned())
}

/// The note that goes with an offset.
fn note(offset: i64) -> String {
    format!("note {offset}")
}

/// Commits a new offset.
pub async fn commit(
    runtime: &Runtime,
    link: &mut Link,
    seen: &Shared,
    who: &Committer<'_>,
    slot: &Slot,
) -> Committed {
    let topic_id = topics::id(seen, &slot.0);
    if topic_id.is_none() && who.version >= VERSION_IDS {
        return Committed::Lost;
    }
    let offset = seen.borrow_mut().next_offset();
    let request = OffsetCommitRequest {
        group: text(who.group),
        generation: who.epoch,
        member: text(who.member),
        instance: who.instance.map(text),
        topics: vec![OffsetCommitTopic {
            name: text(&slot.0),
            topic_id,
            partitions: vec![OffsetCommitPartition {
                index: slot.1,
                offset,
                leader_epoch: LeaderEpoch::from_wire(3),
                metadata: Some(text(&note(offset))),
            }],
        }],
        ..OffsetCommitRequest::default()
    };
    let sent = runtime.now();
    let floor = seen.borrow_mut().group(who.group).epoch_floor;
    seen.borrow_mut().group(who.group).commit_sent(slot, offset, sent);
    let answer: Option<OffsetCommitResponse> = link.ask(who.version, &request).await;
    let Some(answer) = answer else { return Committed::Lost };
    let error = answer.topics[0].partitions[0].error;
    let now = runtime.now();
    let mut seen = seen.borrow_mut();
    let group = seen.group(who.group);
    match error {
        ErrorCode::None => {
            assert!(
                who.kind != Kind::Classic || who.epoch >= floor,
                "a commit of generation {} counted after {floor} had begun",
                who.epoch
            );
            group.commit_acknowledged(slot, offset, now);
            Committed::Yes
        }
        // It may count, or will.
        ErrorCode::RequestTimedOut
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => Committed::Lost,
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::IllegalGeneration
        | ErrorCode::UnknownMemberId
        | ErrorCode::FencedInstanceId
        | ErrorCode::RebalanceInProgress
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::GroupIdNotFound => {
            group.commit_refused(slot, offset);
            Committed::No(error)
        }
        other => panic!("a commit: {other:?}"),
    }
}

/// Fetches the offsets of some partitions, and checks them. Whether there was an answer. `member`
/// says who asks, and in which epoch, if it is a member of the consumer protocol.
pub async fn fetch(
    runtime: &Runtime,
    link: &mut Link,
    seen: &Shared,
    group: &str,
    member: Option<(&str, i32)>,
    slots: &[Slot],
) -> bool {
    let topics = slots.iter().map(|(topic, partition)| OffsetFetchTopic {
        name: text(topic),
        topic_id: None,
        partitions: vec![*partition],
    });
    let asked = OffsetFetchGroup {
        group: text(group),
        member: member.map(|(id, _)| text(id)),
        member_epoch: member.map_or(-1, |(_, epoch)| epoch),
        topics: Some(topics.collect()),
    };
    let request = OffsetFetchRequest {
        groups: vec![asked],
        require_stable: runtime.random().is_multiple_of(2),
        ..OffsetFetchRequest::default()
    };
    let asked = runtime.now();
    let answer: Option<OffsetFetchResponse> = link.ask(9, &request).await;
    let Some(answer) = answer else { return false };
    let answer = &answer.groups[0];
    match answer.error {
        ErrorCode::None => {}
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => return false,
        ErrorCode::UnknownMemberId | ErrorCode::StaleMemberEpoch if member.is_some() => {
            return false;
        }
        other => panic!("a fetch of offsets: {other:?}"),
    }
    let seen = seen.borrow();
    for topic in &answer.topics {
        for partition in &topic.partitions {
            assert_eq!(partition.error, ErrorCode::None);
            let slot = (topic.name.to_string(), partition.index);
            seen.groups[group].fetched(&slot, asked, partition.offset);
            let expected =
                if partition.offset < 0 { String::new() } else { note(partition.offset) };
            assert_eq!(partition.metadata.as_deref(), Some(&*expected), "{slot:?}: its note");
        }
    }
    true
}

/// Fetches and checks all offsets of a group.
pub async fn check_all(runtime: &Runtime, link: &mut Link, seen: &Shared, group: &str) {
    let slots: Vec<Slot> = seen.borrow().groups[group].committed().cloned().collect();
    let began = runtime.now();
    while !slots.is_empty() && !fetch(runtime, link, seen, group, None, &slots).await {
        let waited = runtime.now().since(began);
        assert!(waited < TOLD_WITHIN, "the offsets of {group} are not told");
        runtime.sleep(PAUSE).await;
    }
}

/// A client that is no member: commits and fetches until all is calm.
pub async fn commit_only(runtime: Runtime, seen: Shared, group: String, mut link: Link) {
    link.find_coordinator(&group).await;
    while !seen.borrow().is_calm {
        let counts = topics::counts(&runtime, &mut link, &seen).await;
        let slots: Vec<Slot> = counts
            .iter()
            .flat_map(|(name, count)| (0..*count).map(|at| (name.clone(), at)))
            .collect();
        if !slots.is_empty() {
            let slot = &slots[runtime.random() as usize % slots.len()];
            let version = 2 + (runtime.random() % 8) as i16;
            let who = Committer {
                group: &group,
                kind: Kind::Simple,
                member: "",
                epoch: -1,
                instance: None,
                version,
            };
            let committed = commit(&runtime, &mut link, &seen, &who, slot).await;
            if let Committed::No(error) = committed {
                let is_temporary = matches!(
                    error,
                    ErrorCode::CoordinatorLoadInProgress | ErrorCode::UnknownTopicOrPartition
                );
                assert!(is_temporary, "a commit of a client that is no member: {error:?}");
            }
            fetch(&runtime, &mut link, &seen, &group, None, std::slice::from_ref(slot)).await;
        }
        let pause_ms = 20 + runtime.random() % 150;
        runtime.sleep(Duration::from_millis(pause_ms)).await;
    }
}
