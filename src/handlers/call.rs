//! Split and join for questions about many partitions: written once.

use std::rc::Rc;

use crate::base::{PartitionKey, ShardId};
use crate::mesh::shard::Asked;
use crate::mesh::{Answer, Ask, Shard};
use crate::partition::{FetchError, OffsetFound, OffsetQuery};

/// One kind of question about partitions, and its answer.
pub(super) struct Kind<Q, A> {
    /// Makes the message of the questions for one core.
    pub(super) ask: fn(Vec<Q>) -> Ask,
    /// Takes the answers out of the message; `None` for any other message.
    pub(super) answers: fn(Answer) -> Option<Vec<A>>,
}

/// The questions for one core, and their places among all of them.
struct Share<Q> {
    owner: ShardId,
    places: Vec<usize>,
    questions: Vec<(PartitionKey, Q)>,
}

/// Questions for offsets.
pub(super) const OFFSETS: Kind<(PartitionKey, OffsetQuery), Result<OffsetFound, FetchError>> =
    Kind {
        ask: Ask::Offsets,
        answers: |answer| match answer {
            Answer::Offsets(found) => Some(found),
            _ => None,
        },
    };

/// Asks every owner its share of `questions`, one message each, and puts the answers in the order
/// of the questions. A question whose core did not answer gets `None`.
pub(super) async fn scatter<Q, A>(
    shard: &Rc<Shard>,
    questions: Vec<(PartitionKey, Q)>,
    kind: Kind<(PartitionKey, Q), A>,
) -> Vec<Option<A>> {
    let mut answers: Vec<Option<A>> = questions.iter().map(|_| None).collect();
    let mut shares: Vec<Share<Q>> = Vec::new();
    for (index, (key, question)) in questions.into_iter().enumerate() {
        let owner = shard.owner(key);
        let at = shares.iter().position(|share| share.owner == owner);
        let at = at.unwrap_or_else(|| {
            shares.push(Share { owner, places: Vec::new(), questions: Vec::new() });
            shares.len() - 1
        });
        shares[at].places.push(index);
        shares[at].questions.push((key, question));
    }
    let asked: Vec<(Vec<usize>, Asked)> = shares
        .into_iter()
        .map(|share| (share.places, shard.ask(share.owner, (kind.ask)(share.questions))))
        .collect();
    for (places, asked) in asked {
        let Some(share) = asked.await.and_then(kind.answers) else { continue };
        for (place, answer) in places.into_iter().zip(share) {
            answers[place] = Some(answer);
        }
    }
    answers
}
