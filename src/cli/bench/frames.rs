//! Produce requests made of prepared parts, and the quick look at their answers.
//!
//! A request is a head, a batch and a tail. Head and tail are encoded once by the codec; for each
//! request the correlation id and the partition are written over the head's. Where these lie is
//! found by encoding two requests that differ in nothing else, so that no layout is written twice.

use bytes::{Bytes, BytesMut};

use crate::protocol::frame::RequestHeader;
use crate::protocol::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};
use crate::protocol::wire::Piece;
use crate::protocol::{ErrorCode, Message, Str};
use crate::runtime::Chunk;

use super::super::args::AcksArg;
use super::super::client::Outcome;
use super::super::dialogue;
use super::super::produce::{refusal, request};
use super::super::target::Target;

/// Bytes of a batch up to which copying it is cheaper than one more part of a send.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Requests that wait to be sent together: small parts in one buffer, large ones shared.
#[derive(Default)]
pub struct Frames {
    buffer: BytesMut,
    chunks: Vec<Chunk>,
    size_bytes: usize,
}

impl Frames {
    /// Appends a copy of these bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.size_bytes += bytes.len();
    }

    /// Appends these bytes, shared when they are many.
    pub fn share(&mut self, bytes: &Bytes, from: usize) {
        if bytes.len() - from <= COPIED_BYTES_MAX {
            return self.put(&bytes[from..]);
        }
        self.cut();
        self.chunks.push(Chunk::Bytes(bytes.slice(from..)));
        self.size_bytes += bytes.len() - from;
    }

    /// How many bytes wait.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Everything that waits, in order.
    pub fn chunks(&mut self) -> &[Chunk] {
        self.cut();
        &self.chunks
    }

    /// Forgets what was sent; the buffer is used again.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.size_bytes = 0;
    }

    fn cut(&mut self) {
        if !self.buffer.is_empty() {
            self.chunks.push(Chunk::Bytes(self.buffer.split().freeze()));
        }
    }
}

/// The heads and tails of produce requests to one topic in one version, a batch in each.
pub struct Requests {
    header: RequestHeader,
    /// By batch.
    heads: Vec<Vec<u8>>,
    tail: Vec<u8>,
    id_at: usize,
    partition_at: usize,
}

impl Requests {
    /// Requests of `batches`, one each.
    pub fn new(version: i16, target: &Target, acks: AcksArg, batches: &[Bytes]) -> Self {
        let header = header(version, 0);
        let encode = |header: &RequestHeader, partition, batch: &Bytes| {
            let request: ProduceRequest = request(target, partition, acks, batch.clone());
            header.request(&request)
        };
        let (one, other) = (Bytes::from_static(&[1]), Bytes::from_static(&[2]));
        let probe = encode(&header, 0, &one);
        let batch_at = first_difference(&probe, &encode(&header, 0, &other));
        let tail = probe[batch_at + 1..].to_vec();
        let id_at = first_difference(&probe, &encode(&self::header(version, -1), 0, &one));
        let partition_at = first_difference(&probe, &encode(&header, -1, &one));
        let heads = batches.iter().map(|batch| {
            let frame = encode(&header, 0, batch);
            frame[..frame.len() - tail.len() - batch.len()].to_vec()
        });
        Self { heads: heads.collect(), header, tail, id_at, partition_at }
    }

    /// The API version of the requests.
    pub fn version(&self) -> i16 {
        self.header.version
    }

    /// Appends a request up to its batch, of which the caller appends exactly the bytes, and then
    /// [`put_tail`](Self::put_tail).
    pub fn put_head(&self, batch: usize, correlation_id: i32, partition: i32, to: &mut Frames) {
        let start = to.buffer.len();
        to.put(&self.heads[batch]);
        let head = &mut to.buffer[start..];
        head[self.id_at..self.id_at + 4].copy_from_slice(&correlation_id.to_be_bytes());
        head[self.partition_at..self.partition_at + 4].copy_from_slice(&partition.to_be_bytes());
    }

    /// Appends what is behind a request's batch.
    pub fn put_tail(&self, to: &mut Frames) {
        to.put(&self.tail);
    }
}

/// The header of a produce request.
pub fn header(version: i16, correlation_id: i32) -> RequestHeader {
    dialogue::header(ProduceRequest::KEY, version, correlation_id)
}

/// Tells whether an answer to a produce request of one partition says that all is well.
///
/// Answers that are laid out as ours are looked at in three places; all others are decoded.
pub struct Acceptance {
    header: RequestHeader,
    /// What is between the correlation id and the partition.
    before: Vec<u8>,
    error_at: usize,
}

impl Acceptance {
    /// For answers of this version about this topic.
    pub fn new(version: i16, target: &Target) -> Self {
        let header = header(version, 0);
        let encode = |index, error| {
            let partition =
                ProducePartitionResponse { index, error, ..ProducePartitionResponse::default() };
            let topic = ProduceTopicResponse {
                name: Str::from_string(target.name.clone()),
                topic_id: target.id,
                partitions: vec![partition],
            };
            let answer = ProduceResponse { topics: vec![topic], ..ProduceResponse::default() };
            let pieces = header.response(&answer).into_iter();
            let bytes = pieces.filter_map(|piece| match piece {
                Piece::Bytes(bytes) => Some(bytes),
                Piece::Records { .. } => None,
            });
            // Without its length.
            bytes.collect::<Vec<_>>().concat().split_off(4)
        };
        let probe = encode(0, ErrorCode::None);
        let partition_at = first_difference(&probe, &encode(-1, ErrorCode::None));
        let error_at = first_difference(&probe, &encode(0, ErrorCode::UnknownServerError));
        Self { before: probe[4..partition_at].to_vec(), error_at, header }
    }

    /// The broker's refusal in a frame without its length, if there is one.
    pub fn check(&self, target: &Target, frame: &[u8]) -> Outcome<()> {
        let before = frame.get(4..4 + self.before.len());
        let error = frame.get(self.error_at..self.error_at + 2);
        if before == Some(&self.before[..]) && error == Some(&[0, 0][..]) {
            return Ok(());
        }
        let (_, body) = self.header.parse_response(Bytes::copy_from_slice(frame))?;
        refusal(target, &ProduceResponse::decode(self.header.version, body)?)
    }
}

/// Where two encodings begin to differ.
fn first_difference(left: &[u8], right: &[u8]) -> usize {
    let differ = left.iter().zip(right).position(|(left, right)| left != right);
    differ.expect("two messages that differ in one field differ in a byte")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NodeId, Uuid};
    use crate::cli::client::ClientError;

    fn target() -> Target {
        Target {
            name: "bench".to_owned(),
            id: Uuid::from_random([7; 16]),
            leaders: [(0, NodeId(1))].into(),
        }
    }

    fn sent(frames: &mut Frames) -> Vec<u8> {
        let chunks = frames.chunks().iter().filter_map(|chunk| match chunk {
            Chunk::Bytes(bytes) => Some(bytes.clone()),
            Chunk::File(_) => None,
        });
        chunks.collect::<Vec<_>>().concat()
    }

    #[test]
    fn prepared_requests_are_what_the_codec_writes() {
        let row = ProduceRequest::KEY.row();
        let target = target();
        let batches = [Bytes::from(vec![3; 200]), Bytes::from(vec![4; 100_000])];
        let mut frames = Frames::default();
        for version in row.version_min..=row.version_max {
            for acks in [AcksArg::None, AcksArg::All] {
                let requests = Requests::new(version, &target, acks, &batches);
                let mut expected = Vec::new();
                for (id, partition, batch) in [(9, 5, 0), (10, 300, 1), (-1, -2, 0), (12, 0, 1)] {
                    requests.put_head(batch, id, partition, &mut frames);
                    frames.put(&batches[batch][..61]);
                    frames.share(&batches[batch], 61);
                    requests.put_tail(&mut frames);
                    let whole = request(&target, partition, acks, batches[batch].clone());
                    expected.extend_from_slice(&header(version, id).request(&whole));
                }
                assert_eq!(frames.size_bytes(), expected.len());
                assert!(sent(&mut frames) == expected, "version {version}");
                let shared = frames.chunks().iter().filter(|chunk| chunk.length() == 100_000 - 61);
                assert_eq!(shared.count(), 2, "the large batches are not copied");
                frames.clear();
            }
        }
    }

    #[test]
    fn answers_are_told_apart_however_they_look() {
        let row = ProduceRequest::KEY.row();
        let target = target();
        for version in row.version_min..=row.version_max {
            let acceptance = Acceptance::new(version, &target);
            let answer = |partitions: Vec<(i32, ErrorCode)>| {
                let partition = |(index, error)| ProducePartitionResponse {
                    index,
                    error,
                    base_offset: crate::base::Offset::from_wire(77),
                    ..ProducePartitionResponse::default()
                };
                let topic = ProduceTopicResponse {
                    name: Str::from_static_str("bench"),
                    topic_id: target.id,
                    partitions: partitions.into_iter().map(partition).collect(),
                };
                let answer = ProduceResponse { topics: vec![topic], ..ProduceResponse::default() };
                let pieces = header(version, 3).response(&answer);
                let Some(Piece::Bytes(bytes)) = pieces.into_iter().next() else { panic!("bytes") };
                bytes.slice(4..)
            };
            let well = answer(vec![(5, ErrorCode::None)]);
            assert!(acceptance.check(&target, &well).is_ok(), "version {version}");
            let two = answer(vec![(5, ErrorCode::None), (6, ErrorCode::None)]);
            assert!(acceptance.check(&target, &two).is_ok(), "version {version}, decoded");
            let refused = answer(vec![(5, ErrorCode::NotLeaderOrFollower)]);
            let outcome = acceptance.check(&target, &refused);
            assert!(matches!(outcome, Err(ClientError::Refused { .. })), "version {version}");
            let hidden = answer(vec![(5, ErrorCode::None), (6, ErrorCode::CorruptMessage)]);
            assert!(acceptance.check(&target, &hidden).is_err(), "version {version}, the second");
            assert!(acceptance.check(&target, &well[..9]).is_err(), "cut");
        }
    }
}
