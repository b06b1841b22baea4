//! The simulated network: addresses, listeners, and how a connection comes to be.
//!
//! A message takes a drawn time from one machine to another, a shorter one within a machine. There
//! is no name service to fail: a machine is reached by its name, by its address, and by itself as
//! `localhost`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::ShardId;
use crate::runtime::local::Notice;

use super::executor::Clock;
use super::stream::{Farewell, LentSocket, Pipe, Socket, StreamReader, StreamWriter};
use super::world::{Machine, Process, ProcessId};

/// Bytes of one direction of a connection that were sent and not read, unless a test sets another.
const BUFFER_BYTES: usize = 64 << 10;

/// Connections that wait to be accepted, for one listener; more are refused.
const BACKLOG: usize = 1024;

/// How long a message takes between machines, in nanoseconds.
const FAR_NANOS: RangeInclusive<u64> = 50_000..=500_000;

/// How long a message takes within a machine, in nanoseconds.
const NEAR_NANOS: RangeInclusive<u64> = 10_000..=100_000;

/// Where ports that the system chooses begin.
const FIRST_PORT: u16 = 32_768;

/// The network of a world. Clones share it.
#[derive(Clone)]
pub(super) struct Network(Rc<State>);

struct State {
    clock: Clock,
    buffer_bytes: Cell<usize>,
    machines: RefCell<Vec<Rc<Machine>>>,
    listeners: RefCell<Listeners>,
    /// The open sockets, by process and number.
    sockets: RefCell<BTreeMap<(ProcessId, u64), Rc<Socket>>>,
    ports_given: Cell<u16>,
}

/// Who listens, by address and port.
type Listeners = BTreeMap<(IpAddr, u16), Vec<Rc<Listening>>>;

struct Listening {
    number: u64,
    process: ProcessId,
    shard: ShardId,
    machine: IpAddr,
    address: SocketAddr,
    backlog: RefCell<VecDeque<Accepted>>,
    arrived: Notice,
}

/// A connection with this backend's halves.
pub(super) type Accepted = crate::runtime::Accepted<StreamReader, StreamWriter>;

impl Network {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Rc::new(State {
            clock,
            buffer_bytes: Cell::new(BUFFER_BYTES),
            machines: RefCell::default(),
            listeners: RefCell::default(),
            sockets: RefCell::default(),
            ports_given: Cell::new(0),
        }))
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn set_buffer_bytes(&self, buffer_bytes: usize) {
        self.0.buffer_bytes.set(buffer_bytes.max(1));
    }

    pub(super) fn add_machine(&self, machine: Rc<Machine>) {
        self.0.machines.borrow_mut().push(machine);
    }

    /// Listens for connections to the process's machine, on one of the process's cores.
    pub(super) fn listen(
        &self,
        process: &Process,
        shard: ShardId,
        address: &str,
    ) -> io::Result<Listener> {
        let (host, port) = split(address)?;
        let own = process.machine.address;
        let any = matches!(host, "" | "0.0.0.0" | "::");
        if !any && self.resolve(&process.machine, host)?.address != own {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let mut listeners = self.0.listeners.borrow_mut();
        let port = match port {
            0 => loop {
                let port = self.next_port();
                if !listeners.contains_key(&(own, port)) {
                    break port;
                }
            },
            port => port,
        };
        let here = listeners.entry((own, port)).or_default();
        if here.iter().any(|other| other.process != process.id) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let literal = host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback);
        let listening = Rc::new(Listening {
            number: self.0.clock.number(),
            process: process.id,
            shard,
            machine: own,
            address: SocketAddr::new(literal.unwrap_or(own), port),
            backlog: RefCell::default(),
            arrived: Notice::new(),
        });
        here.push(listening.clone());
        Ok(Listener { network: self.clone(), listening })
    }

    /// Connects to one of those who listen on `address`.
    pub(super) async fn connect(
        &self,
        process: &Process,
        address: &str,
    ) -> io::Result<(StreamReader, StreamWriter)> {
        let (host, port) = split(address)?;
        let machine = self.resolve(&process.machine, host)?;
        let is_near = machine.address == process.machine.address;
        let latency = if is_near { NEAR_NANOS } else { FAR_NANOS };
        self.0.clock.delay(latency.clone()).await;
        let connected = self.pair(process, (machine.address, port), &latency);
        self.0.clock.delay(latency).await;
        connected
    }

    /// Makes a connection, puts its far end into a listener's backlog and returns the near one.
    fn pair(
        &self,
        process: &Process,
        to: (IpAddr, u16),
        latency: &RangeInclusive<u64>,
    ) -> io::Result<(StreamReader, StreamWriter)> {
        let listening = {
            let listeners = self.0.listeners.borrow();
            let here = listeners.get(&to).ok_or(io::ErrorKind::ConnectionRefused)?;
            here[self.0.clock.between(0..=here.len() as u64 - 1) as usize].clone()
        };
        if listening.backlog.borrow().len() >= BACKLOG {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let clock = &self.0.clock;
        let pipe = || Pipe::new(clock.number(), self.0.buffer_bytes.get(), latency.clone());
        let (there, back) = (pipe(), pipe());
        let near = Socket::new(self.clone(), process.id, back.clone(), there.clone(), None);
        let far = Socket::new(self.clone(), listening.process, there, back, Some(to));
        clock.record(&[listening.number, near.number, far.number]);
        for socket in [&near, &far] {
            let key = (socket.process, socket.number);
            self.0.sockets.borrow_mut().insert(key, socket.clone());
        }
        let peer = SocketAddr::new(process.machine.address, self.next_port());
        let (reader, writer) = far.split();
        let accepted = Accepted { reader, writer, peer, moves: 0 };
        listening.backlog.borrow_mut().push_back(accepted);
        listening.arrived.notify();
        Ok(near.split())
    }

    /// Puts an accepted connection into the backlog of another core of its process.
    pub(super) fn move_connection(
        &self,
        process: &Process,
        connection: Accepted,
        to: ShardId,
    ) -> Result<(), Accepted> {
        let listening = {
            let listeners = self.0.listeners.borrow();
            let here = connection.reader.accepted_at().and_then(|at| listeners.get(&at));
            let is_meant =
                |other: &&Rc<Listening>| other.process == process.id && other.shard == to;
            here.and_then(|here| here.iter().find(is_meant)).cloned()
        };
        let Some(listening) = listening else { return Err(connection) };
        let moved = Accepted { moves: connection.moves.saturating_add(1), ..connection };
        listening.backlog.borrow_mut().push_back(moved);
        listening.arrived.notify();
        Ok(())
    }

    /// Takes away what a process that is no more had open.
    pub(super) fn end_process(&self, process: ProcessId, farewell: Farewell) {
        self.0.listeners.borrow_mut().retain(|_, here| {
            here.retain(|listening| listening.process != process);
            !here.is_empty()
        });
        self.cut(process, farewell);
    }

    /// Ends all connections of a process, which may go on.
    pub(super) fn cut(&self, process: ProcessId, farewell: Farewell) {
        let sockets: Vec<Rc<Socket>> = self
            .0
            .sockets
            .borrow()
            .range((process, 0)..=(process, u64::MAX))
            .map(|(_, socket)| socket.clone())
            .collect();
        for socket in sockets {
            socket.end(farewell);
            self.forget(&socket);
        }
    }

    /// Sends the begin of `bytes` on a socket, if it is open; how many.
    pub(super) fn send_lent(&self, lent: &LentSocket, bytes: &Bytes) -> usize {
        let socket = self.0.sockets.borrow().get(&(lent.process, lent.number)).cloned();
        socket.map_or(0, |socket| socket.send_now(bytes))
    }

    /// A socket is closed.
    pub(super) fn forget(&self, socket: &Socket) {
        self.0.sockets.borrow_mut().remove(&(socket.process, socket.number));
    }

    /// Drops all sockets and listeners: the world is at its end.
    pub(super) fn clear(&self) {
        let listeners = std::mem::take(&mut *self.0.listeners.borrow_mut());
        let sockets = std::mem::take(&mut *self.0.sockets.borrow_mut());
        drop((listeners, sockets));
    }

    fn resolve(&self, own: &Rc<Machine>, host: &str) -> io::Result<Rc<Machine>> {
        let literal = host.parse::<IpAddr>().ok();
        if host == "localhost" || literal.is_some_and(|address| address.is_loopback()) {
            return Ok(own.clone());
        }
        if literal == Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
            return Ok(own.clone());
        }
        let machines = self.0.machines.borrow();
        let found = machines
            .iter()
            .find(|machine| machine.name == host || literal == Some(machine.address));
        found.cloned().ok_or_else(|| io::Error::other(format!("there is no host {host}")))
    }

    fn next_port(&self) -> u16 {
        let given = self.0.ports_given.get();
        self.0.ports_given.set((given + 1) % (u16::MAX - FIRST_PORT));
        FIRST_PORT + given
    }
}

/// The host and the port of "host:port"; an IPv6 address may stand in brackets.
fn split(address: &str) -> io::Result<(&str, u16)> {
    let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Ok((bare.unwrap_or(host), port))
}

/// A listening socket of one core.
pub struct Listener {
    network: Network,
    listening: Rc<Listening>,
}

impl Listener {
    /// See [`Listener`](crate::runtime::Listener::accept).
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            let arrived = self.listening.arrived.notified();
            let next = self.listening.backlog.borrow_mut().pop_front();
            match next {
                Some(connected) => return Ok(connected),
                None => arrived.await,
            }
        }
    }

    /// See [`Listener`](crate::runtime::Listener::local_address).
    pub fn local_address(&self) -> SocketAddr {
        self.listening.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Listening { number, machine, address, .. } = &*self.listening;
        let mut listeners = self.network.0.listeners.borrow_mut();
        let key = (*machine, address.port());
        if let Some(here) = listeners.get_mut(&key) {
            here.retain(|other| other.number != *number);
            if here.is_empty() {
                listeners.remove(&key);
            }
        }
        drop(listeners);
        let waiting = std::mem::take(&mut *self.listening.backlog.borrow_mut());
        for accepted in waiting {
            accepted.reader.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;

    use crate::runtime::sim::{MachineId, ProcessId, World, block_on};
    use crate::runtime::{Accepted, Chunk, FileSlice, Lanes, OpenMode, Runtime};
    use crate::runtime::{StreamReader, StreamWriter};

    use super::*;

    fn chunk(bytes: impl Into<Vec<u8>>) -> [Chunk; 1] {
        [Chunk::Bytes(Bytes::from(bytes.into()))]
    }

    /// All that arrives up to the end.
    async fn read_all(reader: &mut StreamReader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0; 700];
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// A connection from a core to itself.
    async fn pair(
        runtime: &Runtime,
    ) -> ((StreamReader, StreamWriter), (StreamReader, StreamWriter)) {
        let listener = runtime.listen("localhost:0").await.expect("free");
        let near = runtime.connect(&listener.local_address().to_string()).await.expect("listens");
        let accepted = listener.accept().await.expect("connected");
        (near, (accepted.reader, accepted.writer))
    }

    /// A process that accepts one connection after the other and gives it to `serve`.
    fn serve<F: Future<Output = ()> + 'static>(
        world: &World,
        machine: MachineId,
        shard_count: u16,
        serve: impl Fn(Runtime, StreamReader, StreamWriter) -> F + Clone + 'static,
    ) -> ProcessId {
        world.start_process(machine, "server", shard_count, move |runtime, _: Lanes<()>| {
            let serve = serve.clone();
            async move {
                let listener = runtime.listen("0.0.0.0:9092").await.expect("free");
                loop {
                    let Accepted { reader, writer, .. } = listener.accept().await.expect("accepts");
                    runtime.spawn("connection", serve(runtime.clone(), reader, writer));
                }
            }
        })
    }

    #[test]
    fn bytes_arrive_in_order_in_drawn_portions() {
        let mut portions = BTreeSet::new();
        for seed in 0..20 {
            let sizes = block_on(seed, |runtime| async move {
                let (near, (mut reader, writer)) = pair(&runtime).await;
                let sent: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
                let mut near_writer = near.1;
                let copy = sent.clone();
                runtime.spawn("sender", async move {
                    for part in copy.chunks(4_001) {
                        let (first, second) = part.split_at(part.len() / 3);
                        let chunks = [chunk(first), chunk(second)].concat();
                        near_writer.send(&chunks).await.expect("reader is there");
                    }
                });
                let (mut received, mut sizes) = (Vec::new(), Vec::new());
                let mut buffer = [0; 9_000];
                loop {
                    let count = reader.read(&mut buffer).await.expect("sender is there");
                    if count == 0 {
                        break;
                    }
                    sizes.push(count);
                    received.extend_from_slice(&buffer[..count]);
                }
                assert!(received == sent, "seed {seed}");
                drop((near.0, writer));
                sizes
            });
            assert!(sizes.iter().any(|size| *size < 1_000), "seed {seed}");
            portions.insert(sizes);
        }
        assert_eq!(portions.len(), 20);
    }

    #[test]
    fn a_slow_reader_makes_the_sender_wait() {
        let world = World::new(1);
        world.set_socket_buffer_bytes(10_000);
        let machine = world.machine("host");
        world.run(machine, |runtime| async move {
            let ((near_reader, mut near_writer), (mut reader, writer)) = pair(&runtime).await;
            let hour = Duration::from_secs(3600);
            let sent = runtime.timeout(hour, near_writer.send(&chunk([1; 25_000]))).await;
            assert!(sent.is_none(), "nobody reads");
            drop(near_writer);
            let received = read_all(&mut reader).await.expect("an orderly end");
            assert_eq!(received.len(), 10_000, "what the pipe holds");
            drop((near_reader, writer));
        });
    }

    #[test]
    fn a_connection_moves_to_another_core_and_loses_nothing() {
        let world = World::new(8);
        let (here, there) = (world.machine("client"), world.machine("server"));
        world.start_process(there, "server", 2, |runtime, _: Lanes<()>| async move {
            let listener = runtime.listen("0.0.0.0:9092").await.expect("free");
            while let Ok(mut connection) = listener.accept().await {
                let mut byte = [0];
                if connection.reader.read(&mut byte).await.is_ok_and(|count| count == 1) {
                    let told = [runtime.shard().0 as u8, connection.moves as u8, byte[0]];
                    connection.writer.send(&chunk(told)).await.expect("open");
                    let nowhere = runtime.move_connection(connection, ShardId(2));
                    let connection = nowhere.expect_err("there are two cores");
                    let other = ShardId(1 - runtime.shard().0);
                    assert!(runtime.move_connection(connection, other).is_ok());
                }
            }
        });
        world.run_for(Duration::from_millis(1));
        world.run(here, |runtime| async move {
            let (mut reader, mut writer) = runtime.connect("server:9092").await.expect("listens");
            writer.send(&chunk([0, 1, 2, 3, 4, 5])).await.expect("open");
            let mut heard = Vec::new();
            while heard.len() < 18 {
                let mut buffer = [0; 18];
                let count = reader.read(&mut buffer).await.expect("open");
                heard.extend_from_slice(&buffer[..count]);
            }
            for (at, told) in heard.chunks(3).enumerate() {
                assert_eq!(told[1..], [at as u8, at as u8]);
                assert_eq!(told[0], heard[0] ^ (at as u8 & 1), "the cores take turns");
            }
        });
    }

    #[test]
    fn each_direction_ends_on_its_own() {
        block_on(2, |runtime| async move {
            let ((mut near_reader, mut near_writer), (mut reader, mut writer)) =
                pair(&runtime).await;
            near_writer.send(&chunk("question")).await.expect("open");
            drop(near_writer);
            assert_eq!(read_all(&mut reader).await.expect("ends"), b"question");
            writer.send(&chunk("answer")).await.expect("the other half is open");
            drop(writer);
            assert_eq!(read_all(&mut near_reader).await.expect("ends"), b"answer");
        });
    }

    #[test]
    fn a_send_to_a_closed_end_fails_after_a_while() {
        block_on(3, |runtime| async move {
            let ((near_reader, mut near_writer), far) = pair(&runtime).await;
            drop(far);
            near_writer.send(&chunk("lost")).await.expect("not known yet");
            runtime.sleep(Duration::from_millis(1)).await;
            let error = near_writer.send(&chunk("refused")).await.expect_err("known");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            drop(near_reader);
        });
    }

    #[test]
    fn a_close_with_unread_bytes_is_a_reset() {
        block_on(4, |runtime| async move {
            let ((mut near_reader, mut near_writer), far) = pair(&runtime).await;
            near_writer.send(&chunk("never read")).await.expect("open");
            drop(far);
            let error = read_all(&mut near_reader).await.expect_err("reset");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }

    #[test]
    fn a_shutdown_ends_what_waits_on_both_ends() {
        let world = World::new(5);
        world.set_socket_buffer_bytes(1_000);
        let machine = world.machine("host");
        world.run(machine, |runtime| async move {
            let ((mut near_reader, near_writer), (mut reader, mut writer)) = pair(&runtime).await;
            let runtime_of_task = runtime.clone();
            runtime.spawn("shutdown", async move {
                runtime_of_task.sleep(Duration::from_millis(5)).await;
                near_writer.shutdown();
                runtime_of_task.sleep(Duration::MAX).await;
                drop(near_writer);
            });
            let waited = Rc::new(Cell::new(false));
            let read = waited.clone();
            runtime.spawn("reader", async move {
                // Nothing arrives: the shutdown here ends the wait.
                assert_eq!(near_reader.read(&mut [0]).await.expect("shut here"), 0);
                read.set(true);
            });
            let chunks = chunk([0; 500]);
            writer.send(&chunks[..0]).await.expect("nothing to send");
            assert_eq!(reader.read(&mut [0]).await.expect("an orderly end"), 0);
            runtime.sleep(Duration::from_millis(1)).await;
            assert!(waited.get());
            assert!(writer.send(&chunks).await.is_err(), "nobody reads");
        });
    }

    #[test]
    fn a_file_slice_is_sent_and_a_short_file_is_an_error() {
        block_on(6, |runtime| async move {
            let file = runtime.disk().open(Path::new("/file"), OpenMode::Create).await;
            let file = file.expect("opens");
            let bytes: Vec<u8> = (0..150_000u32).map(|n| (n % 241) as u8).collect();
            file.write_at(0, &[bytes.clone().into()]).await.expect("room");
            let (near, (mut reader, writer)) = pair(&runtime).await;
            let slice = |position, length| {
                let file = file.lease();
                Chunk::File(FileSlice { file, position, length })
            };
            let chunks = [chunk("head")[0].clone(), slice(1_000, 140_000), slice(149_999, 2)];
            let mut near_writer = near.1;
            runtime.spawn("sender", async move {
                let error = near_writer.send(&chunks).await.expect_err("short");
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            });
            let received = read_all(&mut reader).await.expect("ends");
            assert_eq!(&received[..4], b"head");
            assert!(received[4..] == bytes[1_000..141_000]);
            drop((near.0, writer));
        });
    }

    #[test]
    fn a_killed_server_resets_and_refuses_and_a_new_one_listens() {
        for seed in 0..20 {
            let world = World::new(seed);
            let (here, there) = (world.machine("client"), world.machine("server"));
            let echo = |_, mut reader: StreamReader, mut writer: StreamWriter| async move {
                let mut buffer = [0; 100];
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    if writer.send(&chunk(&buffer[..count])).await.is_err() {
                        return;
                    }
                }
            };
            let connect = |runtime: Runtime| async move {
                let (mut reader, mut writer) =
                    runtime.connect("server:9092").await.map_err(|error| error.kind())?;
                writer.send(&chunk("x")).await.map_err(|error| error.kind())?;
                let mut buffer = [0; 10];
                let first = reader.read(&mut buffer).await.map_err(|error| error.kind())?;
                assert_eq!(&buffer[..first], b"x");
                reader.read(&mut buffer).await.map_err(|error| error.kind())
            };
            assert_eq!(world.run(here, connect), Err(io::ErrorKind::ConnectionRefused));
            let server = serve(&world, there, 1, echo);
            world.run_for(Duration::from_millis(1));
            let result = Rc::new(Cell::new(None));
            let place = result.clone();
            world.start_process(here, "client", 1, move |runtime, _: Lanes<()>| {
                let place = place.clone();
                async move { place.set(Some(connect(runtime).await)) }
            });
            world.run_for(Duration::from_millis(10));
            assert_eq!(result.get(), None, "seed {seed}: the second read waits");
            if seed % 2 == 0 {
                world.kill(server);
            } else {
                world.crash(there);
            }
            world.run_for(Duration::from_secs(3));
            assert_eq!(result.get(), Some(Err(io::ErrorKind::ConnectionReset)), "seed {seed}");
            assert_eq!(world.run(here, connect), Err(io::ErrorKind::ConnectionRefused));
            serve(&world, there, 1, |_, mut reader, mut writer| async move {
                let count = reader.read(&mut [0; 10]).await.expect("one");
                writer.send(&chunk(vec![b'x'; count])).await.expect("open");
            });
            world.run_for(Duration::from_millis(1));
            assert_eq!(world.run(here, connect), Ok(0), "seed {seed}");
        }
    }

    #[test]
    fn the_cores_of_a_process_share_an_address_and_no_other_process_has_it() {
        let world = World::new(7);
        let (here, there) = (world.machine("client"), world.machine("server"));
        let tell = |runtime: Runtime, _, mut writer: StreamWriter| async move {
            writer.send(&chunk([runtime.shard().0 as u8])).await.expect("open");
        };
        serve(&world, there, 2, tell);
        world.run_for(Duration::from_millis(1));
        let shards = world.run(here, |runtime| async move {
            let mut shards = [0; 2];
            for _ in 0..100 {
                let (mut reader, _writer) = runtime.connect("10.0.0.2:9092").await.expect("there");
                let shard = read_all(&mut reader).await.expect("one byte");
                shards[usize::from(shard[0])] += 1;
            }
            shards
        });
        assert!(shards.iter().all(|count| *count > 25), "{shards:?}");
        let taken = world.run(there, |runtime| async move {
            runtime.listen("localhost:9092").await.err().map(|error| error.kind())
        });
        assert_eq!(taken, Some(io::ErrorKind::AddrInUse));
    }
}
