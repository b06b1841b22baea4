//! Changed requests to a broker process, over many connections, while a good client is served.
//!
//! Bursts of pipelined frames go out, behind each a question that has an answer in any case. Then
//! either that answer comes or the connection ends, unless one of the burst's requests may wait for
//! what a client asked it to wait for. Meanwhile a good client writes and reads back, and must be
//! answered rightly and in time. At the end the broker lives, nothing has panicked, and its memory
//! has grown by no more than [`GROWTH_BYTES_MAX`].
//!
//! | variable         | meaning                                                     |
//! |------------------|-------------------------------------------------------------|
//! | `FUZZ_FRAMES`    | how many frames, over all connections; 0 for none           |
//! | `FUZZ_SEED`      | what they follow from                                       |
//! | `BIN_UNDER_TEST` | another broker than the one of this build                   |

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelog::base::Offset;
use corelog::protocol::api_versions::ApiVersionsRequest;
use corelog::protocol::batch::Batches;
use corelog::protocol::builder::{BatchBuilder, NewRecord};
use corelog::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::protocol::frame::{RequestHeader, with_length};
use corelog::protocol::group_membership::JoinGroupRequest;
use corelog::protocol::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use corelog::protocol::record::Records;
use corelog::protocol::{ApiKey, ErrorCode, Message, Str, cold};
use corelog::runtime::sim::Random;
use kafka_protocol::messages as theirs;

use crate::{Decoder, variable};

/// Frames unless `FUZZ_FRAMES` says how many.
const FRAMES: u64 = 10_000;

/// Connections that are fuzzed at a time.
const CONNECTIONS: u64 = 4;

/// Frames of a burst at most.
const BURST_FRAMES_MAX: u64 = 48;

/// Bytes of a burst at most: sockets hold them, so that nobody has to read meanwhile.
const BURST_BYTES_MAX: usize = 96 << 10;

/// The number of the question behind a burst.
const PROBE: i32 = 0x7ead_beef;

/// Within this time a burst is answered or its connection ends.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// For so long a burst is listened to that may be left without an answer.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// Within this time the good client is served.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// So much more may the broker hold at the end than after the first tenth.
const GROWTH_BYTES_MAX: u64 = 256 << 20;

/// Requests that wait longer than this are not sent: nothing would come of it but waiting.
const WAIT_MS_MAX: i32 = 20;

/// Topics that may come to be.
const TOPICS_MAX: u64 = 100;

/// The topic of the good client. No grown or changed name is like it.
const TOPIC: &str = "well-behaved-4f1c9d72";

/// A broker process, killed when this is dropped.
struct Broker {
    process: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Broker {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("a port");
        drop(free);
        let binary = std::env::var("BIN_UNDER_TEST")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_corelog").to_owned());
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let mut command = Command::new(binary);
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        for setting in [
            format!("log.dirs={}", directory.path().join("data").display()),
            format!("listeners=PLAINTEXT://{address}"),
            "auto.create.topics.enable=false".to_owned(),
            "corelog.cores=2".to_owned(),
            "corelog.pin.cores=false".to_owned(),
            "corelog.memory.request.bytes=16777216".to_owned(),
            "socket.request.max.bytes=1048576".to_owned(),
        ] {
            command.arg("--override").arg(setting);
        }
        let process = command.spawn().expect("the broker starts");
        let mut broker = Self { process, address, directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(broker.is_alive(), "the broker does not start: {}", broker.log());
            assert!(Instant::now() < deadline, "the broker does not listen: {}", broker.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        broker
    }

    fn is_alive(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_none()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        kib.unwrap_or(0_u64) * 1024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks and waits for the answer.
fn ask<Q: Message, A: Message>(link: &mut TcpStream, version: i16, question: &Q) -> A {
    let header = RequestHeader { key: Q::KEY, version, correlation_id: 5, client_id: None };
    link.write_all(&header.request(question)).expect("the good client can send");
    let body = receive(link).expect("the good client is answered in time");
    let (correlation_id, body) = header.parse_response(body).expect("an answer");
    assert_eq!(correlation_id, 5, "answers belong to questions");
    A::decode(version, body).expect("an answer that decodes")
}

fn receive(link: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut length = [0; 4];
    link.read_exact(&mut length)?;
    let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
    link.read_exact(&mut body)?;
    Ok(body.into())
}

fn make_topic(link: &mut TcpStream) {
    let topic = theirs::create_topics_request::CreatableTopic::default()
        .with_name(theirs::TopicName(Str::from_static_str(TOPIC)))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request =
        theirs::CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let key = ApiKey::CreateTopics;
    let header = RequestHeader { key, version: 5, correlation_id: 5, client_id: None };
    let mut writer = header.start();
    cold::encode_into(5, &request, &mut writer).expect("it encodes");
    link.write_all(&corelog::protocol::frame::finish(writer).into_bytes()).expect("it is sent");
    let (_, body) = header.parse_response(receive(link).expect("an answer")).expect("an answer");
    let answer = cold::decode_response::<theirs::CreateTopicsRequest>(5, body).expect("decodes");
    assert_eq!(answer.topics[0].error_code, 0, "the topic is made");
}

/// Writes a record and reads it back, until it is told to end: how many, and the slowest.
fn be_good(address: SocketAddr, done: &AtomicBool) -> (u64, Duration) {
    let mut link = TcpStream::connect(address).expect("the broker listens");
    link.set_read_timeout(Some(SERVED_WITHIN)).expect("a socket");
    make_topic(&mut link);
    let name = Str::from_static_str(TOPIC);
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !done.load(Ordering::Acquire) {
        let value = format!("record {count}");
        let mut builder = BatchBuilder::new();
        let record =
            NewRecord { timestamp: 1, value: Some(value.as_bytes()), ..Default::default() };
        builder.append(&record);
        let records = builder.build().expect("a small batch");
        let began = Instant::now();
        let partitions = vec![ProducePartition { index: 0, records }];
        let topics = vec![ProduceTopic { name: name.clone(), topic_id: None, partitions }];
        let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topics, ..Default::default() };
        let answer: ProduceResponse = ask(&mut link, 9, &request);
        let written = &answer.topics[0].partitions[0];
        assert_eq!(written.error, ErrorCode::None);
        assert_eq!(written.base_offset, Some(Offset::new(count)), "nobody else writes");
        let partition = FetchPartition {
            fetch_offset: Some(Offset::new(count)),
            max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { name: name.clone(), topic_id: None, partitions: vec![partition] };
        let request = FetchRequest {
            max_wait_ms: 1000,
            min_bytes: 1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer: FetchResponse = ask(&mut link, 6, &request);
        let found = answer.topics[0].partitions[0].records.in_memory().expect("in memory");
        let batch = Batches::new(found).next().expect("a batch").expect("a batch");
        let mut read = Records::new(batch.payload(), batch.header.record_count);
        let read = read.next().expect("a record").expect("a record");
        assert_eq!(read.value, Some(value.as_bytes()), "what was written is read");
        slowest = slowest.max(began.elapsed());
        count += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    (count, slowest)
}

/// Whether a request would by right keep the broker busy with other than refusing it.
fn is_left_out(frame: &Bytes, topics: &AtomicU64) -> bool {
    let Ok((header, body)) = RequestHeader::parse(frame.clone()) else { return false };
    match header.key {
        ApiKey::Fetch => FetchRequest::decode(header.version, body)
            .is_ok_and(|request| request.max_wait_ms > WAIT_MS_MAX),
        ApiKey::JoinGroup => JoinGroupRequest::decode(header.version, body)
            .is_ok_and(|r| r.rebalance_timeout_ms > WAIT_MS_MAX || header.version == 0),
        ApiKey::CreateTopics => cold::decode::<theirs::CreateTopicsRequest>(header.version, body)
            .is_ok_and(|asked| {
                let is_large = asked
                    .topics
                    .iter()
                    .any(|topic| topic.num_partitions > 4 || !topic.assignments.is_empty());
                is_large
                    || topics.fetch_add(asked.topics.len() as u64, Ordering::Relaxed) > TOPICS_MAX
            }),
        ApiKey::CreatePartitions => {
            cold::decode::<theirs::CreatePartitionsRequest>(header.version, body)
                .is_ok_and(|asked| asked.topics.iter().any(|topic| topic.count > 4))
        }
        _ => false,
    }
}

/// Whether a request may wait.
fn may_wait(frame: &Bytes) -> bool {
    let parsed = RequestHeader::parse(frame.clone());
    parsed.is_ok_and(|(header, _)| {
        matches!(header.key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
    })
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    frames: u64,
    bursts: u64,
    answered: u64,
    closed: u64,
    waiting: u64,
}

/// The bytes of a burst, whether it may be left without an answer, and how many frames it has.
fn burst(
    decoders: &[&Decoder],
    seed: u64,
    number: u64,
    topics: &AtomicU64,
) -> (Vec<u8>, bool, u64) {
    let mut random = Random::new(seed ^ number.rotate_left(32));
    let (mut bytes, mut buffer) = (Vec::new(), Vec::new());
    let (mut may_be_silent, mut frames) = (false, 0);
    let wanted = 1 + random.below(BURST_FRAMES_MAX);
    // One that does not decode ends its connection, so in most bursts there is none.
    let is_good = random.below(4) > 0;
    while frames < wanted && bytes.len() < BURST_BYTES_MAX {
        let decoder = decoders[random.below(decoders.len() as u64) as usize];
        decoder.input(seed, random.draw(), &mut buffer);
        let frame = Bytes::copy_from_slice(&buffer);
        if is_good && !(decoder.run)(&frame) || is_left_out(&frame, topics) {
            continue;
        }
        frames += 1;
        may_be_silent |= may_wait(&frame);
        let mut framed = with_length(&frame).to_vec();
        if random.below(200) == 0 {
            // A length that is not the frame's: what follows is taken for something else.
            framed[random.below(4) as usize] ^= 1 << random.below(8);
            may_be_silent = true;
        }
        bytes.extend_from_slice(&framed);
    }
    let probe = RequestHeader {
        key: ApiKey::ApiVersions,
        version: 0,
        correlation_id: PROBE,
        client_id: None,
    };
    bytes.extend_from_slice(&probe.request(&ApiVersionsRequest::default()));
    (bytes, may_be_silent, frames)
}

/// What became of a burst.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Answered,
    Closed,
    Silent,
}

/// Reads answers up to the probe's.
fn listen(link: &mut TcpStream, within: Duration) -> End {
    let deadline = Instant::now() + within;
    let (mut got, mut at, mut block) = (Vec::new(), 0, [0; 16 << 10]);
    while Instant::now() < deadline {
        match link.read(&mut block) {
            Ok(0) => return End::Closed,
            Ok(count) => got.extend_from_slice(&block[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return End::Closed,
        }
        while let Some(head) = got.get(at..at + 8) {
            let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            assert!((4..64 << 20).contains(&length), "an answer of {length} bytes");
            let correlation_id = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let end = at + 4 + length as usize;
            if got.len() < end {
                break;
            }
            at = end;
            if correlation_id == PROBE {
                return End::Answered;
            }
        }
    }
    End::Silent
}

/// Sends bursts until all frames are sent.
fn fuzz(
    address: SocketAddr,
    decoders: &[&Decoder],
    seed: u64,
    next: &AtomicU64,
    sent: &AtomicU64,
    (frames, topics): (u64, &AtomicU64),
) -> Result<Count, String> {
    let mut count = Count::default();
    let mut link: Option<TcpStream> = None;
    while sent.load(Ordering::Relaxed) < frames {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (bytes, may_be_silent, sent_now) = burst(decoders, seed, number, topics);
        let mut socket = match link.take() {
            Some(socket) => socket,
            None => TcpStream::connect(address).map_err(|error| format!("refused: {error}"))?,
        };
        let timeout = |time| (socket.set_read_timeout(time), socket.set_write_timeout(time));
        let _ = timeout(Some(SILENT_AFTER));
        let within = if may_be_silent { SILENT_AFTER } else { ANSWERED_WITHIN };
        let end = match socket.write_all(&bytes) {
            Ok(()) => listen(&mut socket, within),
            Err(_) => match listen(&mut socket, within) {
                // It does not take more, as long as an answer waits.
                End::Silent if !may_be_silent => End::Silent,
                _ => End::Closed,
            },
        };
        count.frames += sent_now;
        count.bursts += 1;
        sent.fetch_add(sent_now, Ordering::Relaxed);
        match end {
            End::Answered => {
                count.answered += 1;
                link = Some(socket);
            }
            End::Closed => count.closed += 1,
            End::Silent if may_be_silent => count.waiting += 1,
            End::Silent => {
                let _ = socket.shutdown(Shutdown::Write);
                let then = listen(&mut socket, within);
                return Err(format!(
                    "FUZZ_SEED={seed}, burst {number}: neither answered nor closed; then {then:?}"
                ));
            }
        }
    }
    Ok(count)
}

#[test]
fn a_broker_that_is_sent_anything_serves_others_and_lives() {
    let seed = variable("FUZZ_SEED").unwrap_or(1);
    let frames: u64 = variable("FUZZ_FRAMES").unwrap_or(FRAMES);
    if frames == 0 {
        return;
    }
    let is_request = |decoder: &&Decoder| decoder.name.starts_with("request ");
    let decoders: Vec<&Decoder> = crate::ALL.iter().filter(is_request).collect();
    let mut broker = Broker::start();
    let (address, began) = (broker.address, Instant::now());
    let (next, sent, topics) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let mut resident = (0, 0);
    let (good, results) = std::thread::scope(|scope| {
        let good = scope.spawn(|| be_good(address, &done));
        let (decoders, next, sent, topics) = (&decoders, &next, &sent, &topics);
        let fuzzers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(move || fuzz(address, decoders, seed, next, sent, (frames, topics)))
            })
            .collect();
        while fuzzers.iter().any(|fuzzer| !fuzzer.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            let bytes = broker.resident_bytes();
            if sent.load(Ordering::Relaxed) < frames / 10 {
                resident.0 = bytes;
            }
            resident.1 = bytes.max(resident.1);
        }
        done.store(true, Ordering::Release);
        let results: Vec<_> = fuzzers.into_iter().map(|fuzzer| fuzzer.join()).collect();
        (good.join(), results)
    });
    let log = broker.log();
    let tail: String = log.lines().rev().take(30).collect::<Vec<_>>().join("\n");
    assert!(broker.is_alive(), "seed {seed}: the broker is dead: {tail}");
    assert!(!log.contains("panic"), "seed {seed}: {}", panics(&log));
    let (served, slowest) = good.expect("the good client is served");
    let mut total = Count::default();
    for result in results {
        let count = result.expect("answers are in order").unwrap_or_else(|what| panic!("{what}"));
        total.frames += count.frames;
        total.bursts += count.bursts;
        total.answered += count.answered;
        total.closed += count.closed;
        total.waiting += count.waiting;
    }
    println!("{total:?} in {:.1?}", began.elapsed());
    println!("the good client was served {served} times, in {slowest:?} at most");
    let mib = |bytes: u64| bytes >> 20;
    println!("resident: {} MiB, then {} MiB at most", mib(resident.0), mib(resident.1));
    assert!(served > 0 && total.answered > 0 && total.closed > 0, "both kinds of bursts");
    let grown = resident.1.saturating_sub(resident.0.max(1));
    assert!(grown <= GROWTH_BYTES_MAX, "seed {seed}: it has grown by {} MiB", mib(grown));
}

/// The lines of a log that tell of panics.
fn panics(log: &str) -> String {
    log.lines().filter(|line| line.contains("panic")).take(10).collect::<Vec<_>>().join("\n")
}
