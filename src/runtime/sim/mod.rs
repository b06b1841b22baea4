//! The simulated backend (stub: being written).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::{Chunk, Entry, Full, OpenMode, Space};
use crate::base::{Instant, ShardId, Timestamp};

#[derive(Clone)]
pub struct Core;
impl Core {
    pub fn shard(&self) -> ShardId {
        unimplemented!()
    }
    pub fn shard_count(&self) -> u16 {
        unimplemented!()
    }
    pub fn now(&self) -> Instant {
        unimplemented!()
    }
    pub fn wall_clock(&self) -> Timestamp {
        unimplemented!()
    }
    pub fn random(&self) -> u64 {
        unimplemented!()
    }
    pub fn spawn(&self, _: &'static str, _: impl Future<Output = ()> + 'static) {
        unimplemented!()
    }
    pub async fn sleep(&self, _: Duration) {
        unimplemented!()
    }
    pub async fn pass(&self) {
        unimplemented!()
    }
    pub async fn terminated(&self) {
        unimplemented!()
    }
    /// (stub)
    pub fn end_process(&self) {
        unimplemented!()
    }
    pub fn disk(&self) -> Disk {
        unimplemented!()
    }
    pub async fn listen(&self, _: &str) -> io::Result<Listener> {
        unimplemented!()
    }
    pub async fn connect(&self, _: &str) -> io::Result<(StreamReader, StreamWriter)> {
        unimplemented!()
    }
}
#[derive(Clone)]
pub struct Disk;
impl Disk {
    pub async fn create_directories(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        unimplemented!()
    }
    pub async fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        unimplemented!()
    }
    pub async fn write_atomically(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn remove_file(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn remove_directory(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn sync_directory(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn space(&self, _: &Path) -> io::Result<Space> {
        unimplemented!()
    }
    pub async fn open(&self, _: &Path, _: OpenMode) -> io::Result<File> {
        unimplemented!()
    }
    pub async fn lock(&self, _: &Path) -> io::Result<Lock> {
        unimplemented!()
    }
}
pub struct Lock;
#[derive(Clone)]
pub struct File;
impl File {
    pub async fn write_at(&self, _: u64, _: &[Bytes]) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn sync(&self) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn read_at(&self, _: u64, _: usize) -> io::Result<Bytes> {
        unimplemented!()
    }
    pub async fn size_bytes(&self) -> io::Result<u64> {
        unimplemented!()
    }
    pub async fn truncate(&self, _: u64) -> io::Result<()> {
        unimplemented!()
    }
    pub async fn preallocate(&self, _: u64) -> io::Result<()> {
        unimplemented!()
    }
    pub fn lease(&self) -> FileLease {
        unimplemented!()
    }
}
#[derive(Clone, Debug)]
pub struct FileLease;
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
pub struct Lanes<T>(std::marker::PhantomData<T>);
impl<T> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        unimplemented!()
    }
}
impl<T: Send + 'static> Lanes<T> {
    pub fn send(&self, _: ShardId, _: T) -> Result<(), Full<T>> {
        unimplemented!()
    }
    pub async fn room(&self, _: ShardId) {
        unimplemented!()
    }
    pub async fn receive(&self, _: &mut Vec<T>) {
        unimplemented!()
    }
}
