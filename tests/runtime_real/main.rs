//! The real runtime on this machine: sockets, files, lanes, signals, and what must not kill a core.
//!
//! Tests that change the process (signals, limits, locks) run it again as a child, with
//! `CORELOG_CHILD` set to the part it plays.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]
#![expect(clippy::print_stdout, reason = "children talk to their parent by it")]

mod connections;
mod lending;
mod stalls;

use std::cell::Cell;
use std::fs;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use corelog::base::ShardId;
use corelog::runtime::local::{first, oneshot};
use corelog::runtime::real::{self, AppendPath, Lanes, MachineReport, Options};
use corelog::runtime::{
    Accepted, Chunk, Disk, FileLease, FileSlice, Full, Listener, OpenMode, Runtime, StreamReader,
    StreamWriter,
};

/// So many cores, on the CPUs there are.
fn cores(count: usize) -> Options {
    let cpus = MachineReport::inspect(Path::new(".")).cpus;
    Options { cores: cpus.iter().copied().cycle().take(count).collect(), ..Options::default() }
}

/// Runs `main` on one pinned core and returns its output.
fn on_one_core<M, F, R>(options: Options, main: M) -> R
where
    M: Fn(Runtime) -> F + Send + Clone + 'static,
    F: Future<Output = R> + 'static,
    R: Send + 'static,
{
    let (output, outputs) = channel();
    let options = Options { cores: cores(1).cores, ..options };
    real::run(options, move |runtime: Runtime, _: Lanes<()>| {
        let (main, output) = (main.clone(), output.clone());
        async move { output.send(main(runtime).await).unwrap() }
    })
    .unwrap();
    outputs.recv().unwrap()
}

fn child_part() -> Option<String> {
    std::env::var("CORELOG_CHILD").ok()
}

fn child_argument() -> PathBuf {
    std::env::var_os("CORELOG_CHILD_ARGUMENT").unwrap().into()
}

/// Runs `test` of this very file in a process of its own, which plays `part`.
fn spawn_child(test: &str, part: &str, argument: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("CORELOG_CHILD", part)
        .env("CORELOG_CHILD_ARGUMENT", argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads a child's output up to the line that says `word`.
fn wait_for(child: &mut Child, word: &str) {
    for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
        if line.unwrap().contains(word) {
            return;
        }
    }
    panic!("the child ended without saying {word}");
}

fn status_of_child(test: &str) -> Option<i32> {
    let mut child = spawn_child(test, "alone", Path::new(""));
    // Its output is read to the end, for a full pipe would stop it.
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    child.wait().unwrap().code()
}

async fn read_exactly(reader: &mut StreamReader, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match reader.read(&mut bytes[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(bytes)
}

fn chunk(bytes: &[u8]) -> Chunk {
    Chunk::Bytes(Bytes::copy_from_slice(bytes))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Both ends of a connection of this core to itself: the client's and the server's.
async fn pair(runtime: &Runtime) -> [(StreamReader, StreamWriter); 2] {
    let listener = runtime.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().to_string();
    let client = runtime.connect(&address).await.unwrap();
    let Accepted { reader, writer, .. } = listener.accept().await.unwrap();
    [client, (reader, writer)]
}

async fn echo(runtime: Runtime, mut reader: StreamReader, mut writer: StreamWriter) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        if writer.send(&[chunk(&buffer[..count])]).await.is_err() {
            return;
        }
        runtime.pass().await;
    }
}

async fn echo_server(runtime: &Runtime, lanes: &Lanes<String>, other: ShardId) -> String {
    let listener = runtime.listen("localhost:0").await.unwrap();
    let address = listener.local_address().to_string();
    // The port can be shared: a second listener on it does not fail.
    drop(runtime.listen(&address).await.unwrap());
    lanes.send(other, address).unwrap();
    let Accepted { reader, writer, peer, .. } = listener.accept().await.unwrap();
    assert!(peer.ip().is_loopback());
    echo(runtime.clone(), reader, writer).await;
    let mut inbox = Vec::new();
    lanes.receive(&mut inbox).await;
    inbox.remove(0)
}

async fn echo_client(runtime: &Runtime, lanes: &Lanes<String>, other: ShardId) {
    let mut inbox = Vec::new();
    lanes.receive(&mut inbox).await;
    let (mut reader, mut writer) = runtime.connect(&inbox.remove(0)).await.unwrap();
    for size in [1, 100, 4096, 100_000] {
        let sent = pattern(size);
        writer.send(&[chunk(&sent[..size / 2]), chunk(&sent[size / 2..])]).await.unwrap();
        let read = read_exactly(&mut reader, size).await.unwrap();
        assert!(read == sent, "{size} bytes came back changed");
    }
    drop(writer);
    assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0, "an orderly end");
    // What is sent last arrives although this core ends here.
    lanes.send(other, "all equal".into()).unwrap();
}

#[test]
fn bytes_echo_between_two_cores() {
    let (verdict, verdicts) = channel();
    real::run(cores(2), move |runtime: Runtime, lanes: Lanes<String>| {
        let verdict = verdict.clone();
        async move {
            let other = ShardId(1 - runtime.shard().0);
            if runtime.shard() == ShardId(0) {
                verdict.send(echo_server(&runtime, &lanes, other).await).unwrap();
            } else {
                echo_client(&runtime, &lanes, other).await;
            }
        }
    })
    .unwrap();
    assert_eq!(verdicts.recv().unwrap(), "all equal");
}

/// The chunks of one large answer, and their bytes: small and large slices and memory in turn.
fn answer(lease: &FileLease, content: &[u8]) -> (Vec<Chunk>, Vec<u8>) {
    let slices: [(u64, u32); 5] =
        [(0, 100), (5_000, 20_000), (1, 8 << 20), (70_000, 32 << 10), (70_001, (32 << 10) - 1)];
    let mut chunks = Vec::new();
    let mut expected = Vec::new();
    for (number, (position, length)) in slices.into_iter().enumerate() {
        let header = format!("header {number} of {length} bytes;");
        chunks.extend([chunk(header.as_bytes()), chunk(b"")]);
        expected.extend_from_slice(header.as_bytes());
        chunks.push(Chunk::File(FileSlice { file: lease.clone(), position, length }));
        expected.extend_from_slice(&content[position as usize..][..length as usize]);
    }
    chunks.push(chunk(b"the end"));
    expected.extend_from_slice(b"the end");
    (chunks, expected)
}

#[test]
fn large_slices_leave_by_sendfile_and_arrive_unchanged_at_a_slow_reader() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("segment");
    let content = pattern((8 << 20) + 1);
    fs::write(&path, &content).unwrap();
    let options = Options { send_buffer_bytes: Some(4096), ..Options::default() };
    let (received, expected, counters) = on_one_core(options, move |runtime| {
        let (path, content) = (path.clone(), content.clone());
        async move {
            let file = runtime.disk().open(&path, OpenMode::Read).await.unwrap();
            let (chunks, expected) = answer(&file.lease(), &content);
            // The leases alone keep the bytes of a removed file.
            drop(file);
            runtime.disk().remove_file(&path).await.unwrap();
            let [(mut reader, _kept), (_, mut writer)] = pair(&runtime).await;
            let (reply, sent) = oneshot();
            runtime.spawn("sender", async move { reply.send(writer.send(&chunks).await) });
            let mut received = Vec::new();
            let mut buffer = vec![0; 10_000];
            loop {
                match reader.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => received.extend_from_slice(&buffer[..count]),
                }
                if received.len() < 200_000 {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
            }
            sent.await.unwrap().unwrap();
            (received, expected, runtime.counters())
        }
    });
    assert_eq!(received.len(), expected.len());
    assert!(received == expected, "bytes differ");
    assert!(counters.sendfile_bytes > 7 << 20, "{counters:?}");
    // Once the socket is full, the rest of small slices leaves by it, too.
    assert!(counters.copied_bytes > 10_000, "{counters:?}");
    let sent = counters.sendfile_bytes + counters.copied_bytes;
    assert_eq!(sent, expected.len() as u64, "{counters:?}");
}

#[test]
fn a_file_shorter_than_its_slice_is_an_unexpected_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("segment");
    fs::write(&path, pattern(50_000)).unwrap();
    let kinds = on_one_core(Options::default(), move |runtime| {
        let path = path.clone();
        async move {
            let file = runtime.disk().open(&path, OpenMode::Read).await.unwrap();
            let mut kinds = Vec::new();
            for (position, length) in [(49_999, 2), (0, 50_001), (60_000, 40_000)] {
                let [_client, (_, mut writer)] = pair(&runtime).await;
                let slice = FileSlice { file: file.lease(), position, length };
                kinds.push(writer.send(&[Chunk::File(slice)]).await.map_err(|e| e.kind()));
            }
            kinds
        }
    });
    assert_eq!(kinds, vec![Err(io::ErrorKind::UnexpectedEof); 3]);
}

#[test]
fn shutdown_ends_a_waiting_read_and_the_peers_waiting_send() {
    let options = Options { send_buffer_bytes: Some(4096), ..Options::default() };
    let (read, sent) = on_one_core(options, |runtime| async move {
        let [(_unread, client), (mut reader, mut writer)] = pair(&runtime).await;
        let [(mut waiting, own), _silent] = pair(&runtime).await;
        let (read_reply, read) = oneshot();
        runtime.spawn("reader", async move {
            read_reply.send(waiting.read(&mut [0; 10]).await.map_err(|error| error.kind()));
        });
        let (sent_reply, sent) = oneshot();
        runtime.spawn("sender", async move {
            sent_reply.send(writer.send(&[chunk(&vec![7; 64 << 20])]).await.is_err());
        });
        runtime.sleep(Duration::from_millis(50)).await;
        own.shutdown();
        // With unread bytes, the peer's close is a reset.
        drop((_unread, client));
        assert!(reader.read(&mut [0; 10]).await.unwrap_or(0) == 0);
        (read.await.unwrap(), sent.await.unwrap())
    });
    assert_eq!(read, Ok(0));
    assert!(sent, "the send ended with an error");
}

async fn write_sync_read(disk: Disk, path: PathBuf) -> io::Result<()> {
    let file = disk.open(&path, OpenMode::Create).await?;
    let whole = Bytes::from(pattern(3_000_000));
    // Thousands of parts, empty ones among them, and one of more than two megabytes.
    let parts: Vec<Bytes> = (0..3000)
        .map(|at| whole.slice(at * 100..at * 100 + if at % 7 == 0 { 0 } else { 100 }))
        .chain([whole.slice(300_000..2_500_000)])
        .collect();
    let expected: Vec<u8> = parts.iter().flatten().copied().collect();
    let mut end = 0;
    for round in 0..3 {
        file.write_at(end, &parts).await?;
        end += expected.len() as u64;
        assert_eq!(file.size_bytes().await?, end, "round {round}");
    }
    let (synced, written) =
        futures_lite::future::zip(file.sync(), file.write_at(end, &parts[3000..])).await;
    synced?;
    written?;
    end += parts[3000].len() as u64;
    let read = file.read_at(expected.len() as u64, expected.len()).await?;
    assert!(read == expected, "read back changed");
    assert_eq!(file.read_at(end - 10, 100_000).await?.len(), 10, "at the end");
    assert_eq!(file.read_at(end * 9, 100_000).await?.len(), 0, "behind the end");
    file.truncate(5).await?;
    file.preallocate(100_000).await?;
    assert_eq!(file.size_bytes().await?, 100_000);
    assert_eq!(&file.read_at(3, 4).await?[..], &[expected[3], expected[4], 0, 0]);
    file.preallocate(10).await?;
    assert_eq!(file.size_bytes().await?, 10);
    Ok(())
}

#[test]
fn files_read_back_what_was_written_by_either_way_of_appending() {
    for append_path in [None, Some(AppendPath::Inline), Some(AppendPath::Ring)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("00000000000000000000.log");
        let options = Options { append_path, ..Options::default() };
        on_one_core(options, move |runtime| write_sync_read(runtime.disk(), path.clone()))
            .unwrap_or_else(|error| panic!("{append_path:?}: {error}"));
    }
}

async fn use_directories(disk: Disk, root: PathBuf) -> io::Result<()> {
    let topic = root.join("a/topic-0");
    disk.create_directories(&topic).await?;
    disk.create_directories(&topic).await?;
    disk.write_atomically(&topic.join("meta"), b"one").await?;
    disk.write_atomically(&topic.join("meta"), b"second").await?;
    assert_eq!(disk.read(&topic.join("meta")).await?, b"second");
    disk.create_directories(&topic.join("deeper")).await?;
    let entries = disk.list(&topic).await?;
    let names: Vec<_> =
        entries.iter().map(|e| (e.name.as_str(), e.is_directory, e.size_bytes)).collect();
    assert_eq!(names, [("deeper", true, 0), ("meta", false, 6)], "no temporary file");
    let renamed = root.join("a/gone-delete");
    disk.rename(&topic, &renamed).await?;
    disk.sync_directory(&root.join("a")).await?;
    assert!(disk.list(&topic).await.is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
    for mode in [OpenMode::Read, OpenMode::Write] {
        let missing = disk.open(&topic.join("meta"), mode).await.err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound, "{mode:?}");
    }
    disk.remove_file(&renamed.join("meta")).await?;
    disk.remove_directory(&renamed).await?;
    assert!(disk.list(&root.join("a")).await?.is_empty());
    let space = disk.space(&root).await?;
    assert!(space.usable_bytes > 0 && space.usable_bytes <= space.total_bytes);
    Ok(())
}

#[test]
fn directories_are_made_listed_renamed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    on_one_core(Options::default(), move |runtime| use_directories(runtime.disk(), root.clone()))
        .unwrap();
}

/// Takes the lock that Java's `FileChannel.tryLock` takes: `F_SETLK` on the whole file.
fn lock_as_java(file: &fs::File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a zeroed `flock` is valid: the whole file.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::F_WRLCK as _;
    // SAFETY: the struct is ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &whole) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

async fn lock_and_be_locked_out(disk: Disk, path: PathBuf, test: &str) {
    let lock = disk.lock(&path).await.unwrap();
    let again = disk.lock(&path).await.err().map(|error| error.kind());
    assert_eq!(again, Some(io::ErrorKind::WouldBlock), "within the process");
    // Closing another descriptor of the file does not lose the lock.
    drop(disk.open(&path, OpenMode::Read).await.unwrap());
    let mut java = spawn_child(test, "tries", &path);
    wait_for(&mut java, "refused");
    java.wait().unwrap();
    drop(lock);
    let mut java = spawn_child(test, "holds", &path);
    wait_for(&mut java, "taken");
    let refused = disk.lock(&path).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(io::ErrorKind::WouldBlock), "Java has it");
    drop(java.stdin.take());
    java.wait().unwrap();
    disk.lock(&path).await.unwrap();
}

#[test]
fn a_lock_holds_against_a_second_locker_and_against_java_in_both_directions() {
    const TEST: &str = "a_lock_holds_against_a_second_locker_and_against_java_in_both_directions";
    if let Some(part) = child_part() {
        let file = fs::File::options().write(true).open(child_argument()).unwrap();
        let taken = lock_as_java(&file).is_ok();
        println!("\n{}", if taken { "taken" } else { "refused" });
        if part == "holds" {
            // Until the parent closes its end.
            let _ = io::stdin().read(&mut [0]);
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".lock");
    on_one_core(Options::default(), move |runtime| {
        lock_and_be_locked_out(runtime.disk(), path.clone(), TEST)
    });
}

/// Cores, and messages from each to each, of the all-to-all test.
const TALKERS: u16 = 3;
const MESSAGES: u32 = 20_000;

async fn talk_to(runtime: Runtime, lanes: Lanes<(ShardId, u32)>, to: ShardId) {
    for number in 0..MESSAGES {
        let mut message = (runtime.shard(), number);
        while let Err(Full(back)) = lanes.send(to, message) {
            message = back;
            lanes.room(to).await;
        }
        runtime.pass().await;
    }
}

/// Returns how many messages came.
async fn talk(runtime: Runtime, lanes: Lanes<(ShardId, u32)>) -> u32 {
    let own = runtime.shard();
    for to in (0..TALKERS).map(ShardId).filter(|to| *to != own) {
        runtime.spawn("talks", talk_to(runtime.clone(), lanes.clone(), to));
    }
    let mut expected = [0; TALKERS as usize];
    let mut inbox = Vec::new();
    let mut received = 0;
    while received < MESSAGES * u32::from(TALKERS - 1) {
        lanes.receive(&mut inbox).await;
        assert!(!inbox.is_empty());
        for (from, number) in inbox.drain(..) {
            let next = &mut expected[usize::from(from.0)];
            assert_eq!(number, *next, "from {from} to {own}");
            *next += 1;
            received += 1;
        }
    }
    received
}

#[test]
fn more_than_a_hundred_thousand_messages_go_all_to_all_in_order() {
    let (totals, total) = channel();
    let options = Options { lane_capacity: 100, ..cores(usize::from(TALKERS)) };
    real::run(options, move |runtime: Runtime, lanes: Lanes<(ShardId, u32)>| {
        let totals = totals.clone();
        async move {
            let received = talk(runtime.clone(), lanes).await;
            totals.send((received, runtime.counters().lane_batches)).unwrap();
            // Its tasks end with a core, and others may still wait for what they have to send.
            while runtime.counters().lane_messages < u64::from(MESSAGES) * 2 {
                runtime.sleep(Duration::from_millis(10)).await;
            }
        }
    })
    .unwrap();
    let totals: Vec<_> = total.iter().collect();
    assert_eq!(totals.len(), usize::from(TALKERS));
    for (received, batches) in totals {
        assert_eq!(received, MESSAGES * 2);
        assert!(batches < u64::from(MESSAGES), "{batches} batches");
    }
}

#[test]
fn a_task_that_never_waits_but_passes_lets_timers_and_sockets_go_on() {
    let passes = on_one_core(Options::default(), |runtime| async move {
        let [(mut reader, mut writer), server] = pair(&runtime).await;
        let echoing = runtime.clone();
        runtime.spawn("echo", async move { echo(echoing, server.0, server.1).await });
        let heard = Rc::new(Cell::new(0));
        let (counting, hearing) = (heard.clone(), runtime.clone());
        runtime.spawn("client", async move {
            for _ in 0..20 {
                writer.send(&[chunk(b"ping")]).await.unwrap();
                read_exactly(&mut reader, 4).await.unwrap();
                hearing.sleep(Duration::from_micros(100)).await;
                counting.set(counting.get() + 1);
            }
        });
        // Works on and on: only a forced pass lets the others see their sockets and timers.
        while heard.get() < 20 {
            let began = runtime.now();
            while runtime.now().since(began) < Duration::from_micros(20) {}
            runtime.pass().await;
        }
        runtime.counters().passes
    });
    assert!(passes >= 20, "{passes} passes");
}

/// Removes a file's bytes from the page cache.
fn chill(path: &Path) {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    // SAFETY: no memory is passed.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(result, 0);
}

#[test]
fn cold_files_are_read_and_sent_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("segment");
    let content = pattern(3 << 20);
    fs::write(&path, &content).unwrap();
    let on_disk = MachineReport::inspect(directory.path())
        .file_system
        .is_ok_and(|name| ["ext4", "xfs", "btrfs"].contains(&name.as_str()));
    let warmed = on_one_core(Options::default(), move |runtime| {
        let (path, content) = (path.clone(), content.clone());
        async move {
            let file = runtime.disk().open(&path, OpenMode::Write).await.unwrap();
            chill(&path);
            let read = file.read_at(1_000_000, 1_000_000).await.unwrap();
            assert!(read == content[1_000_000..2_000_000], "a cold read");
            for (position, length) in [(777, 10_000), (0, 3 << 20)] {
                chill(&path);
                let [(mut reader, _kept), (_, mut writer)] = pair(&runtime).await;
                let slice = FileSlice { file: file.lease(), position, length };
                runtime.spawn("send", async move {
                    writer.send(&[Chunk::File(slice)]).await.unwrap();
                });
                let received = read_exactly(&mut reader, length as usize).await.unwrap();
                assert!(received == content[position as usize..][..length as usize]);
            }
            runtime.counters().warmed_slices
        }
    });
    assert!(!on_disk || warmed > 0, "cold slices are seen");
}

#[test]
fn a_panic_in_a_task_leaves_the_core_alive() {
    let ran = on_one_core(Options::default(), |runtime| async move {
        let ran = Rc::new(Cell::new(false));
        runtime.spawn("panics at once", async { panic!("at once, as this test wants") });
        let (later, set) = (runtime.clone(), ran.clone());
        runtime.spawn("panics later", async move {
            later.sleep(Duration::from_millis(1)).await;
            set.set(true);
            panic!("later, as this test wants");
        });
        let (reply, answer) = oneshot::<()>();
        runtime.spawn("drops its reply", async move {
            let _reply = reply;
            panic!("with a reply in hand, as this test wants");
        });
        assert_eq!(answer.await, None);
        runtime.sleep(Duration::from_millis(10)).await;
        ran.get()
    });
    assert!(ran);
}

#[test]
fn sigterm_and_sigint_resolve_terminated_on_every_core() {
    const TEST: &str = "sigterm_and_sigint_resolve_terminated_on_every_core";
    if child_part().is_some() {
        real::run(cores(2), |runtime: Runtime, _: Lanes<()>| async move {
            if runtime.shard() == ShardId(0) {
                println!("\nready");
            }
            let waiting = runtime.clone();
            let (reply, answer) = oneshot();
            runtime.spawn("also waits", async move {
                waiting.terminated().await;
                reply.send("as well");
            });
            runtime.terminated().await;
            assert_eq!(answer.await, Some("as well"));
            runtime.terminated().await;
        })
        .unwrap();
        std::process::exit(7);
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut child = spawn_child(TEST, "ends", Path::new(""));
        wait_for(&mut child, "ready");
        let pid = libc::pid_t::try_from(child.id()).unwrap();
        // SAFETY: a signal to a process of our own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        assert_eq!(child.wait().unwrap().code(), Some(7), "signal {signal}");
    }
}

#[test]
fn a_core_that_dies_ends_the_process_with_an_error() {
    if child_part().is_none() {
        let status = status_of_child("a_core_that_dies_ends_the_process_with_an_error");
        assert_eq!(status, Some(70));
        return;
    }
    let result = real::run(cores(2), |runtime: Runtime, _: Lanes<()>| async move {
        runtime.sleep(Duration::from_millis(5)).await;
        assert!(runtime.shard() != ShardId(1), "this core dies, as this test wants");
        runtime.terminated().await;
    });
    unreachable!("the process has ended: {result:?}");
}

/// What a client hears that connected while the server had no descriptor to spare.
#[test]
fn a_client_runs_on_one_unpinned_core_and_returns_its_output() {
    let output = real::run_single(|runtime| async move {
        let timed_out = runtime.timeout(Duration::from_millis(1), std::future::pending::<()>());
        assert_eq!(timed_out.await, None);
        assert_ne!(runtime.random(), runtime.random());
        (runtime.shard(), runtime.shard_count())
    });
    assert_eq!(output.unwrap(), (ShardId(0), 1));
}

#[test]
fn an_impossible_cpu_is_a_clear_error() {
    let options = Options { cores: vec![1000], ..Options::default() };
    let error = real::run(options, |_: Runtime, _: Lanes<()>| async {}).unwrap_err();
    assert!(error.to_string().contains("CPU 1000"), "{error}");
}

fn cpu_seconds() -> f64 {
    // SAFETY: a zeroed `rusage` is valid, and ours.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

async fn measure_appends(runtime: Runtime, path: PathBuf) {
    let file = runtime.disk().open(&path, OpenMode::Create).await.unwrap();
    let batch = [Bytes::from(vec![1; 61]), Bytes::from(vec![2; (16 << 10) - 61])];
    let count = 10_000;
    let (began, cpu) = (runtime.now(), cpu_seconds());
    for number in 0..count {
        file.write_at(number * (16 << 10), &batch).await.unwrap();
        runtime.pass().await;
    }
    let each = 1e6 / count as f64;
    let wall = runtime.now().since(began).as_secs_f64() * each;
    println!("append of 16 KiB: {wall:.2} us, {:.2} us CPU", (cpu_seconds() - cpu) * each);
    let began = runtime.now();
    for number in 0..500 {
        file.write_at(number * (16 << 10), &batch).await.unwrap();
        file.sync().await.unwrap();
    }
    let wall = runtime.now().since(began).as_secs_f64() * 1e6 / 500.0;
    println!("append of 16 KiB and sync: {wall:.0} us");
}

async fn measure_lane(runtime: &Runtime, lanes: &Lanes<u64>, in_flight: u64) {
    let other = ShardId(1 - runtime.shard().0);
    let asks = runtime.shard() == ShardId(0);
    let rounds = if in_flight == 1 { 20_000 } else { 400_000 };
    let (began, cpu) = (runtime.now(), cpu_seconds());
    for number in 0..if asks { in_flight } else { 0 } {
        lanes.send(other, number).unwrap();
    }
    let mut inbox = Vec::new();
    let mut done = 0;
    while done < rounds {
        lanes.receive(&mut inbox).await;
        for message in inbox.drain(..) {
            done += 1;
            if !asks || done + in_flight <= rounds {
                lanes.send(other, message).unwrap();
            }
        }
    }
    if asks {
        let each = 1e6 / rounds as f64;
        let wall = runtime.now().since(began).as_secs_f64() * each;
        let cpu = (cpu_seconds() - cpu) * each;
        println!("lane round trip, {in_flight} in flight: {wall:.2} us, {cpu:.2} us CPU");
    }
    runtime.sleep(Duration::from_millis(100)).await;
}

/// Figures: `cargo test --release --test runtime_real -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn measure() {
    let directory = tempfile::tempdir().unwrap();
    for append_path in [AppendPath::Inline, AppendPath::Ring] {
        println!("{append_path:?}");
        let path = directory.path().join(format!("{append_path:?}"));
        let options = Options { append_path: Some(append_path), ..Options::default() };
        on_one_core(options, move |runtime| measure_appends(runtime, path.clone()));
    }
    real::run(cores(2), |runtime: Runtime, lanes: Lanes<u64>| async move {
        for in_flight in [1, 32, 256] {
            measure_lane(&runtime, &lanes, in_flight).await;
        }
        runtime.sleep(Duration::from_secs(3)).await;
        let cpu = cpu_seconds();
        runtime.sleep(Duration::from_secs(20)).await;
        if runtime.shard() == ShardId(0) {
            println!("idle: {:.3} % of a core", (cpu_seconds() - cpu) / 20.0 * 100.0);
            let status = fs::read_to_string("/proc/self/status").unwrap();
            for line in status.lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("Thr")) {
                println!("{line}");
            }
        }
    })
    .unwrap();
}
