//! Sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::{Bytes, BytesMut};

use super::{FileSlice, Runtime, real, sim};

/// A part of what is sent: bytes in memory, or bytes of a file.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file: large ones leave by `sendfile(2)`, without passing through user space.
    File(FileSlice),
}

impl Chunk {
    /// How many bytes it has.
    pub fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(slice) => slice.length as usize,
        }
    }
}

/// A connection that a listener gives out: accepted, or moved here by another core. The backends
/// have it with their own halves.
pub struct Accepted<R = StreamReader, W = StreamWriter> {
    /// What the peer sends.
    pub reader: R,
    /// What the peer is sent.
    pub writer: W,
    /// The peer's address.
    pub peer: SocketAddr,
    /// How often it was moved from one core to another.
    pub moves: u32,
}

impl From<Accepted<real::StreamReader, real::StreamWriter>> for Accepted {
    fn from(of: Accepted<real::StreamReader, real::StreamWriter>) -> Self {
        let Accepted { reader, writer, peer, moves } = of;
        let (reader, writer) = (StreamReader::Real(reader), StreamWriter::Real(writer));
        Self { reader, writer, peer, moves }
    }
}

impl From<Accepted<sim::StreamReader, sim::StreamWriter>> for Accepted {
    fn from(of: Accepted<sim::StreamReader, sim::StreamWriter>) -> Self {
        let Accepted { reader, writer, peer, moves } = of;
        let (reader, writer) = (StreamReader::Sim(reader), StreamWriter::Sim(writer));
        Self { reader, writer, peer, moves }
    }
}

/// A listening socket of this core.
pub enum Listener {
    /// Of the operating system.
    Real(real::Listener),
    /// Simulated.
    Sim(sim::Listener),
}

impl Listener {
    /// The next connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Real(listener) => listener.accept().await.map(Accepted::from),
            Self::Sim(listener) => listener.accept().await.map(Accepted::from),
        }
    }

    /// The address it listens on, with the port the system chose when 0 was asked for.
    pub fn local_address(&self) -> SocketAddr {
        match self {
            Self::Real(listener) => listener.local_address(),
            Self::Sim(listener) => listener.local_address(),
        }
    }
}

/// The reading half of a connection.
pub enum StreamReader {
    /// Of the operating system.
    Real(real::StreamReader),
    /// Simulated.
    Sim(sim::StreamReader),
}

impl StreamReader {
    /// Reads some bytes into `buffer`; 0 when the peer will send no more.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Real(reader) => reader.read(buffer).await,
            Self::Sim(reader) => reader.read(buffer).await,
        }
    }

    /// Reads some bytes, at most `length`, to the end of `buffer`, which must have that much spare
    /// capacity: the room needs no zeros first. 0 when the peer will send no more. Nothing is lost
    /// when this is dropped half way.
    pub async fn read_to_spare(
        &mut self,
        buffer: &mut BytesMut,
        length: usize,
    ) -> io::Result<usize> {
        match self {
            Self::Real(reader) => reader.read_to_spare(buffer, length).await,
            Self::Sim(reader) => reader.read_to_spare(buffer, length).await,
        }
    }
}

/// The writing half of a connection. Dropping it sends the peer an orderly end.
pub enum StreamWriter {
    /// Of the operating system.
    Real(real::StreamWriter),
    /// Simulated.
    Sim(sim::StreamWriter),
}

impl StreamWriter {
    /// Sends all of `chunks`, in order. Bytes and small file slices are gathered into few sends;
    /// large file slices leave by `sendfile`, after their cold pages were read through the ring.
    ///
    /// A file that is shorter than its slice is an `UnexpectedEof`: the stream is then unusable.
    pub async fn send(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        match self {
            Self::Real(writer) => writer.send(chunks).await,
            Self::Sim(writer) => writer.send(chunks).await,
        }
    }

    /// The socket, so that another core can send on it; see [`LentSocket::lend`].
    pub fn lent(&self) -> LentSocket {
        match self {
            Self::Real(writer) => LentSocket::Real(writer.lent()),
            Self::Sim(writer) => LentSocket::Sim(writer.lent()),
        }
    }

    /// As [`shutdown`](Self::shutdown), and what was not sent yet is forgotten: for a peer that
    /// does not read, for which the system would keep it for minutes.
    pub fn abandon(&self) {
        match self {
            Self::Real(writer) => writer.abandon(),
            Self::Sim(writer) => writer.shutdown(),
        }
    }

    /// Ends both directions at once; a read or send that waits on either half ends.
    pub fn shutdown(&self) {
        match self {
            Self::Real(writer) => writer.shutdown(),
            Self::Sim(writer) => writer.shutdown(),
        }
    }
}

/// A connection's socket, on its way to another core.
#[derive(Clone)]
pub enum LentSocket {
    /// Of the operating system.
    Real(real::LentSocket),
    /// Simulated.
    Sim(sim::LentSocket),
}

impl LentSocket {
    /// The right to send one answer, to be given to another core, and the power to take it back.
    ///
    /// While it is out, the connection's own core must send nothing itself.
    pub fn lend(&self) -> (Loan, Recall) {
        let state = Arc::new(AtomicU8::new(OUT));
        (Loan { socket: self.clone(), state: state.clone() }, Recall(state))
    }
}

/// States of a loan: nothing was done with it; one side has claimed it; all was sent.
const OUT: u8 = 0;
const CLAIMED: u8 = 1;
const SENT: u8 = 2;

fn claim(state: &AtomicU8) -> bool {
    state.compare_exchange(OUT, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// The right to send one answer on a connection of another core.
pub struct Loan {
    socket: LentSocket,
    state: Arc<AtomicU8>,
}

impl Loan {
    /// Sends the begin of `bytes`, as many as the socket takes at once, on behalf of `runtime`'s
    /// core; how many those are. `None` when the right was taken back: nothing was sent.
    pub fn send(self, runtime: &Runtime, bytes: &Bytes) -> Option<usize> {
        if !claim(&self.state) {
            return None;
        }
        let sent = match (runtime, &self.socket) {
            (Runtime::Real(core), LentSocket::Real(socket)) => core.send_lent(socket, bytes),
            (Runtime::Sim(core), LentSocket::Sim(socket)) => core.send_lent(socket, bytes),
            (_, _) => 0,
        };
        if sent == bytes.len() {
            self.state.store(SENT, Ordering::Release);
        }
        Some(sent)
    }
}

/// The power to take a [`Loan`] back.
#[derive(Clone)]
pub struct Recall(Arc<AtomicU8>);

impl Recall {
    /// Takes the right back; `false` when it was used already.
    pub fn recall(&self) -> bool {
        claim(&self.0)
    }

    /// Whether the whole answer was sent. The message that tells so may come later.
    pub fn is_sent(&self) -> bool {
        self.0.load(Ordering::Acquire) == SENT
    }
}
