//! Listeners and connections.
//!
//! A connection's two halves share one socket. Reading goes through glommio's stream, which waits
//! for readiness on the ring; sending is in `sendfile`. A socket is shut down before it is
//! dropped: the ring still holds it then, and the peer would hear of the end late (trap 7).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::runtime::Chunk;
use crate::runtime::local::Notice;

use super::core::{Core, io_error};
use super::sendfile;
use super::sys::{self, Direction};

/// Connections accepted ahead of the caller; more wait in the kernel.
const ACCEPTED_MAX: usize = 16;

/// Wait after an accept that failed for want of file descriptors or memory.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

type Accepted = io::Result<(StreamReader, StreamWriter, SocketAddr)>;

/// A listening socket of this core.
///
/// A task of its own accepts: an accept that is dropped half way could lose a connection, and one
/// that is asked for again and again would pile up wakers.
pub struct Listener(Rc<Listening>);

struct Listening {
    core: Core,
    socket: TcpListener,
    fd: i32,
    address: SocketAddr,
    accepted: RefCell<VecDeque<Accepted>>,
    arrived: Notice,
    taken: Notice,
    closed: Cell<bool>,
}

impl Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `fd` is the socket's, which is open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Accepts until the listener is closed or broken.
    async fn accept_all(&self) {
        while !self.closed.get() {
            let taken = self.taken.notified();
            if self.accepted.borrow().len() >= ACCEPTED_MAX {
                taken.await;
                continue;
            }
            let result = self.accept_one().await;
            let broken = matches!(result, Some(Err(_)));
            if let Some(result) = result {
                self.accepted.borrow_mut().push_back(result);
                self.arrived.notify();
            }
            if broken {
                return;
            }
            self.core.pass().await;
        }
    }

    /// One connection; `None` when it failed in a way that says nothing of the next one.
    async fn accept_one(&self) -> Option<Accepted> {
        match self.socket.shared_accept().await.map_err(io_error) {
            Ok(accepted) => {
                // Owned from here on: the accepted descriptor alone has no destructor.
                let stream = accepted.bind_to_executor();
                let peer = stream.peer_addr().ok()?;
                self.core.count(|counters| counters.accepted += 1);
                let (reader, writer) = halves(&self.core, stream).ok()?;
                Some(Ok((reader, writer, peer)))
            }
            Err(error) if self.closed.get() => Some(Err(error)),
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

impl Listener {
    /// The next connection.
    pub async fn accept(&self) -> Accepted {
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
        // Wakes the accepting task, in the kernel or in front of its full queue.
        sys::shut_down(self.0.as_fd(), Direction::Both);
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
        let fd = socket.as_raw_fd();
        // SAFETY: the descriptor is a listening socket that `into_raw_fd` gives up.
        let socket = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
        let listening = Rc::new(Listening {
            core: self.clone(),
            address: socket.local_addr().map_err(io_error)?,
            socket,
            fd,
            accepted: RefCell::default(),
            arrived: Notice::new(),
            taken: Notice::new(),
            closed: Cell::new(false),
        });
        let accepting = listening.clone();
        self.spawn("accept", async move { accepting.accept_all().await });
        Ok(Listener(listening))
    }

    /// Connects to `address`, trying the host's addresses in order.
    pub async fn connect(&self, address: &str) -> io::Result<(StreamReader, StreamWriter)> {
        let mut last = no_address(address);
        for candidate in self.resolve(address).await? {
            let connecting = async move { TcpStream::connect(candidate).await.map_err(io_error) };
            match self.complete(connecting).await {
                Some(Ok(stream)) => return halves(self, stream),
                Some(Err(error)) => last = error,
                None => last = io::Error::other("a connect panicked"),
            }
        }
        Err(last)
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

fn halves(core: &Core, stream: TcpStream) -> io::Result<(StreamReader, StreamWriter)> {
    let fd = stream.as_raw_fd();
    let socket = Rc::new(Socket { core: core.clone(), stream: RefCell::new(stream), fd });
    sys::prepare_connection(socket.as_fd())?;
    Ok((StreamReader { socket: socket.clone() }, StreamWriter { socket }))
}

/// A connection's socket, shared by its two halves.
pub(super) struct Socket {
    core: Core,
    /// Borrowed within one poll only. Its read and write sides keep apart from each other.
    stream: RefCell<TcpStream>,
    fd: i32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `fd` is the stream's, which is open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Socket {
    /// The core it belongs to.
    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// Sends some of `bytes`, waiting until the socket takes any. glommio's write is the one
    /// public way to wait for that.
    pub(super) async fn write_waiting(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)).await
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        sys::shut_down(self.as_fd(), Direction::Both);
    }
}

/// The reading half of a connection.
pub struct StreamReader {
    socket: Rc<Socket>,
}

impl StreamReader {
    /// Reads some bytes; 0 when the peer will send no more.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.socket.poll_read(cx, buffer)).await
    }
}

/// The writing half of a connection. Dropping it tells the peer that no more will come.
pub struct StreamWriter {
    socket: Rc<Socket>,
}

impl StreamWriter {
    /// Sends all of `chunks`, in order.
    pub async fn send(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        sendfile::send(&self.socket, chunks).await
    }

    /// Ends both directions at once; a read or send that waits ends.
    pub fn shutdown(&self) {
        sys::shut_down(self.socket.as_fd(), Direction::Both);
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        sys::shut_down(self.socket.as_fd(), Direction::Write);
    }
}
