//! The simulated network.
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::runtime::Chunk;

use super::executor::Clock;
use super::world::{Machine, Process, ProcessId};

pub(super) enum Farewell {
    Orderly,
    Reset,
    Silence,
}
pub(super) struct Network {
    clock: Clock,
}
impl Network {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock }
    }
    pub(super) fn add_machine(&self, _: Rc<Machine>) {}
    pub(super) fn listen(&self, _: &Rc<Process>, _: &str) -> io::Result<Listener> {
        unimplemented!()
    }
    pub(super) async fn connect(
        &self,
        _: &Rc<Process>,
        _: &str,
    ) -> io::Result<(StreamReader, StreamWriter)> {
        unimplemented!()
    }
    pub(super) fn end_process(&self, _: ProcessId, _: Farewell) {}
}
pub struct Listener;
impl Listener {
    pub async fn accept(&self) -> io::Result<(StreamReader, StreamWriter, SocketAddr)> {
        unimplemented!()
    }
    pub fn local_address(&self) -> SocketAddr {
        unimplemented!()
    }
}
pub struct StreamReader;
impl StreamReader {
    pub async fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unimplemented!()
    }
}
pub struct StreamWriter;
impl StreamWriter {
    pub async fn send(&mut self, _: &[Chunk]) -> io::Result<()> {
        unimplemented!()
    }
    pub fn shutdown(&self) {
        unimplemented!()
    }
}
