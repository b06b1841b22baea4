//! Listeners and connections.
//!
//! A connection's two halves share one socket, which never blocks. A call is tried first; when the
//! kernel refuses, the reactor tells of the next change. A socket is shut down before it is
//! dropped: the ring still holds it then, and the peer would hear of the end late (trap 7).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::{Rc, Weak};
use std::sync::{self, Arc};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tracing::warn;

use crate::base::ShardId;
use crate::runtime::Chunk;
use crate::runtime::local::Notice;

use super::core::Core;
use super::desk::{Handed, Seat, Ticket};
use super::ring::{Readiness, Side, Watch};
use super::sendfile;
use super::sys::{self, Direction, More};

/// Connections accepted ahead of the caller; more wait in the kernel.
const ACCEPTED_MAX: usize = 16;

/// Connections accepted in a row before others have their turn. Turns are long where thousands of
/// connections ask at once: with one a turn, new ones would wait in the kernel for seconds.
const ACCEPTED_IN_A_ROW_MAX: u32 = 16;

/// Wait after an accept that failed for want of file descriptors or memory.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Wait between two looks whether a connection may be accepted again, when there are too many.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// How long the kernel keeps what a peer does not read after its connection was ended; without it
/// minutes.
const UNSENT_KEPT_MS: libc::c_int = 10_000;

type Accepted = crate::runtime::Accepted<StreamReader, StreamWriter>;

/// A descriptor whose changes the reactor tells.
struct Watched {
    core: Core,
    watch: Watch,
    readiness: Rc<Readiness>,
}

impl Watched {
    fn new(core: &Core, socket: BorrowedFd<'_>) -> Self {
        let (watch, readiness) = core.reactor().watch(socket);
        Self { core: core.clone(), watch, readiness }
    }

    /// Waits until `call` is not refused for want of readiness.
    async fn when_ready<T>(
        &self,
        side: Side,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        poll_fn(|cx| self.poll_when_ready(side, cx, &mut call)).await
    }

    fn poll_when_ready<T>(
        &self,
        side: Side,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while self.readiness.is_ready(side) {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness.clear(side);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
        self.readiness.wait(side, cx.waker());
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.core.reactor().forget(self.watch);
    }
}

/// A listening socket of this core.
///
/// A task of its own accepts: an accept that is dropped half way could lose a connection, and one
/// that is asked for again and again would pile up wakers.
pub struct Listener(Rc<Listening>);

pub(super) struct Listening {
    core: Core,
    /// Before the socket, for it is dropped first.
    watched: Watched,
    socket: TcpListener,
    address: SocketAddr,
    accepted: RefCell<VecDeque<io::Result<Accepted>>>,
    arrived: Notice,
    taken: Notice,
    closed: Cell<bool>,
}

impl Listening {
    /// Accepts until the listener is closed or broken.
    async fn accept_all(&self) {
        let mut in_a_row = 0;
        while !self.closed.get() {
            let taken = self.taken.notified();
            if self.accepted.borrow().len() >= ACCEPTED_MAX {
                taken.await;
                continue;
            }
            let result = self.accept_one().await;
            match result {
                Some(Err(error)) => return self.arrive(Err(error)),
                Some(Ok((ticket, stream, peer))) => self.place(ticket, stream, peer),
                None => {}
            }
            in_a_row += 1;
            if in_a_row == ACCEPTED_IN_A_ROW_MAX {
                in_a_row = 0;
                self.core.pass().await;
            }
        }
    }

    /// One connection; `None` when it failed in a way that says nothing of the next one.
    async fn accept_one(&self) -> Option<io::Result<(Ticket, TcpStream, SocketAddr)>> {
        let accepting = self.watched.when_ready(Side::Read, || {
            if self.closed.get() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let ticket = self.core.desks().ticket();
            let ticket = ticket.ok_or(io::Error::from(io::ErrorKind::QuotaExceeded))?;
            self.socket.accept().map(|(stream, peer)| (ticket, stream, peer))
        });
        match accepting.await {
            Ok(accepted) => {
                self.core.count(|counters| counters.accepted += 1);
                Some(Ok(accepted))
            }
            Err(error) if self.closed.get() => Some(Err(error)),
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                self.core.sleep(FULL_WAIT).await;
                None
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    warn!(address = %self.address, error = %error, "connections wait");
                    self.core.sleep(ACCEPT_BACK_OFF).await;
                    None
                }
                // The socket itself is unusable.
                Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK) => Some(Err(error)),
                // The connection was gone before it was accepted, or the network failed.
                _ => None,
            },
        }
    }
}

impl Listening {
    fn arrive(&self, accepted: io::Result<Accepted>) {
        self.accepted.borrow_mut().push_back(accepted);
        self.arrived.notify();
    }

    /// Keeps a connection or hands it to the core that has the fewest.
    fn place(&self, ticket: Ticket, stream: TcpStream, peer: SocketAddr) {
        let own = usize::from(self.core.shard().0);
        let seat = self.core.desks().seat(ticket, own, &self.address);
        let handed =
            Handed { address: self.address, stream, peer, to: seat.core(), seat, moves: 0 };
        if handed.to == own {
            return self.take(handed);
        }
        self.core.desks().hand_over(handed);
    }

    fn take(&self, handed: Handed) {
        let Handed { address, stream, peer, seat, moves, .. } = handed;
        let origin = Origin { address, seat };
        // A socket that can not be prepared is gone already.
        if let Ok((reader, writer)) = halves(&self.core, stream, Some(origin)) {
            self.arrive(Ok(Accepted { reader, writer, peer, moves }));
        }
    }
}

impl Listener {
    /// The next connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(accepted) = self.0.accepted.borrow_mut().pop_front() {
                self.0.taken.notify();
                return accepted;
            }
            arrived.await;
        }
    }

    /// The address it listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.core.desks().close(usize::from(self.0.core.shard().0), &self.0.address);
        // Wakes the accepting task, in the kernel or in front of its full queue.
        sys::shut_down(self.0.socket.as_fd(), Direction::Both);
        self.0.taken.notify();
        self.0.accepted.borrow_mut().clear();
    }
}

impl Core {
    /// Listens on `address`; every core may, on the same one.
    pub async fn listen(&self, address: &str) -> io::Result<Listener> {
        let mut last = no_address(address);
        for candidate in self.resolve(address).await? {
            match self.listen_on(&candidate) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether the address can be listened on: `AddrInUse` when another process does.
    pub async fn check_unused(&self, address: &str) -> io::Result<()> {
        for candidate in self.resolve(address).await? {
            sys::check_unused(&candidate)?;
        }
        Ok(())
    }

    fn listen_on(&self, address: &SocketAddr) -> io::Result<Listener> {
        let socket = sys::listening_socket(address)?;
        let sizes = [
            (libc::SO_SNDBUF, self.options().send_buffer_bytes),
            (libc::SO_RCVBUF, self.options().receive_buffer_bytes),
        ];
        for (option, size) in sizes {
            if let Some(size) = size {
                let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
                sys::set_option(&socket, libc::SOL_SOCKET, option, size)?;
            }
        }
        sys::listen(&socket)?;
        let socket = TcpListener::from(socket);
        let listening = Rc::new(Listening {
            core: self.clone(),
            watched: Watched::new(self, socket.as_fd()),
            address: socket.local_addr()?,
            socket,
            accepted: RefCell::default(),
            arrived: Notice::new(),
            taken: Notice::new(),
            closed: Cell::new(false),
        });
        self.desks().open(usize::from(self.shard().0), &listening.address);
        let mut known = self.listening().borrow_mut();
        known.retain(|listening| listening.strong_count() > 0);
        known.push(Rc::downgrade(&listening));
        drop(known);
        let accepting = listening.clone();
        self.spawn("accept", async move { accepting.accept_all().await });
        Ok(Listener(listening))
    }

    /// Connects to `address`, trying the host's addresses in order.
    pub async fn connect(&self, address: &str) -> io::Result<(StreamReader, StreamWriter)> {
        let mut last = no_address(address);
        for candidate in self.resolve(address).await? {
            match self.connect_to(&candidate).await {
                Ok(halves) => return Ok(halves),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: &SocketAddr) -> io::Result<(StreamReader, StreamWriter)> {
        let stream = TcpStream::from(sys::connecting_socket(address)?);
        let (reader, writer) = halves(self, stream, None)?;
        let socket = &reader.socket;
        // The kernel tells of the outcome as of a change. Before that, there is no peer.
        let connected = socket.watched.when_ready(Side::Write, || {
            if let Some(error) = socket.stream.take_error()? {
                return Err(error);
            }
            match socket.stream.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                result => result.map(drop),
            }
        });
        connected.await?;
        Ok((reader, writer))
    }

    /// See [`Runtime::move_connection`](crate::runtime::Runtime::move_connection).
    pub fn move_connection(&self, connection: Accepted, to: ShardId) -> Result<(), Accepted> {
        let socket = connection.writer.socket.clone();
        let to = usize::from(to.0);
        let address = socket.origin.borrow().as_ref().map(|origin| origin.address);
        let Some(address) = address.filter(|address| self.desks().listens(to, address)) else {
            return Err(connection);
        };
        // This core's ring holds the old descriptor a little longer.
        let Ok(stream) = socket.stream.try_clone() else { return Err(connection) };
        let Some(Origin { seat, .. }) = socket.origin.take() else { return Err(connection) };
        socket.moved.set(true);
        let Accepted { peer, moves, .. } = connection;
        let handed = Handed { address, stream, peer, to, seat, moves: moves.saturating_add(1) };
        self.desks().hand_over(handed);
        Ok(())
    }

    /// Sends the begin of `bytes` on a connection of another core; how many the socket took.
    pub fn send_lent(&self, socket: &LentSocket, bytes: &[u8]) -> usize {
        // Held for the length of the call: its number is not given to another socket meanwhile.
        let Some(stream) = socket.0.upgrade() else { return 0 };
        let parts = [IoSlice::new(bytes)];
        // The owner finds out what is wrong with it.
        let sent = sys::send_message(stream.as_fd(), &parts, More::Ends).unwrap_or(0);
        self.count(|counters| {
            counters.sends += 1;
            counters.copied_bytes += sent as u64;
        });
        sent
    }

    /// Takes a connection that another core has accepted for this one, or moves here.
    pub(super) fn receive(&self, handed: Handed) {
        let address = handed.address;
        let listening = self
            .listening()
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .find(|listening| listening.address == address && !listening.closed.get());
        // Without the listener, which was closed meanwhile, the connection ends.
        if let Some(listening) = listening {
            listening.take(handed);
        }
    }

    /// The socket addresses of "host:port". Numbers at once; names are asked for on the blocking
    /// pool.
    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(numeric) = address.parse() {
            return Ok(vec![numeric]);
        }
        let address = address.to_owned();
        self.blocking(move || address.to_socket_addrs().map(Iterator::collect)).await
    }
}

fn no_address(address: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"))
}

fn halves(
    core: &Core,
    stream: TcpStream,
    origin: Option<Origin>,
) -> io::Result<(StreamReader, StreamWriter)> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let watched = Watched::new(core, stream.as_fd());
    let origin = RefCell::new(origin);
    let stream = Arc::new(stream);
    let socket = Rc::new(Socket { watched, stream, origin, moved: Cell::new(false) });
    Ok((StreamReader { socket: socket.clone() }, StreamWriter { socket }))
}

/// A connection's socket, shared by its two halves.
pub(super) struct Socket {
    /// Before the stream, for it is dropped first.
    watched: Watched,
    /// Shared with those it is lent to, while they send.
    stream: Arc<TcpStream>,
    /// Of an accepted connection.
    origin: RefCell<Option<Origin>>,
    /// Another core has it now: it must not be shut down here.
    moved: Cell<bool>,
}

/// Where an accepted connection came in.
struct Origin {
    address: SocketAddr,
    seat: Seat,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Socket {
    /// The core it belongs to.
    pub(super) fn core(&self) -> &Core {
        &self.watched.core
    }

    /// Waits until a send is not refused because the socket is full. It is tried at once: a socket
    /// is seldom full.
    pub(super) async fn send_when_ready<T>(
        &self,
        mut send: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.watched.readiness.clear(Side::Write);
                self.watched.when_ready(Side::Write, send).await
            }
            result => result,
        }
    }

    /// Receives by `receive`, which asks for that many bytes.
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        asked: usize,
        receive: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let poll = self.watched.poll_when_ready(Side::Read, cx, receive);
        if let Poll::Ready(Ok(read)) = poll {
            // That was all; but no change will tell again of an end that was told already.
            if read < asked && !self.watched.readiness.has_ended() {
                self.watched.readiness.clear(Side::Read);
            }
        }
        poll
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.moved.get() {
            sys::shut_down(self.as_fd(), Direction::Both);
        }
    }
}

/// The reading half of a connection.
pub struct StreamReader {
    socket: Rc<Socket>,
}

impl StreamReader {
    /// Reads some bytes; 0 when the peer will send no more.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = buffer.len();
        let socket = &self.socket;
        poll_fn(|cx| socket.poll_read(cx, asked, || (&*socket.stream).read(buffer))).await
    }

    /// See [`StreamReader`](crate::runtime::StreamReader::read_to_spare).
    pub async fn read_to_spare(
        &mut self,
        buffer: &mut BytesMut,
        length: usize,
    ) -> io::Result<usize> {
        let socket = &self.socket;
        let mut receive = || sys::receive_to_spare(socket.as_fd(), buffer, length);
        poll_fn(|cx| socket.poll_read(cx, length, &mut receive)).await
    }
}

/// A connection's socket, on its way to another core. It does not keep the socket open.
#[derive(Clone)]
pub struct LentSocket(sync::Weak<TcpStream>);

/// The writing half of a connection. Dropping it tells the peer that no more will come.
pub struct StreamWriter {
    socket: Rc<Socket>,
}

impl StreamWriter {
    /// Sends all of `chunks`, in order.
    pub async fn send(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        sendfile::send(&self.socket, chunks).await
    }

    /// See [`StreamWriter`](crate::runtime::StreamWriter::lent).
    pub fn lent(&self) -> LentSocket {
        LentSocket(Arc::downgrade(&self.socket.stream))
    }

    /// See [`StreamWriter`](crate::runtime::StreamWriter::abandon).
    pub fn abandon(&self) {
        // What can not be set leaves the kernel its time.
        let _ = sys::forget_at_close(self.socket.as_fd());
        self.shutdown();
    }

    /// Ends both directions at once; a read or send that waits ends.
    pub fn shutdown(&self) {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
        let _ = sys::set_option(&*self.socket.stream, level, option, UNSENT_KEPT_MS);
        sys::shut_down(self.socket.as_fd(), Direction::Both);
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.socket.moved.get() {
            sys::shut_down(self.socket.as_fd(), Direction::Write);
        }
    }
}
