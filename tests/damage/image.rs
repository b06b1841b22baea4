//! Data directories: what a broker leaves behind, as bytes, and with one file damaged.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corelog::broker::Verdict;
use corelog::config::BrokerConfig;
use corelog::runtime::sim::{MachineId, ProcessId, World};
use corelog::runtime::{Lanes, OpenMode, Runtime};

use crate::broker;
use crate::client::{Written, write_all};

/// How a broker of an image ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    Clean,
    Killed,
    /// Killed, with a journal: every append was on disk before it was answered.
    KilledSynced,
}

/// The files of a data directory, and what clients were promised.
#[derive(Clone)]
pub struct Image {
    pub stop: Stop,
    pub files: Vec<(PathBuf, Bytes)>,
    pub written: Arc<Written>,
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Damage {
    None,
    /// The byte there is another one.
    Flip {
        at: usize,
        mask: u8,
    },
    /// The file ends there.
    Cut {
        at: usize,
    },
    Removed,
    /// So many bytes follow, zeros or not.
    Extended {
        bytes: usize,
        is_zeros: bool,
    },
}

impl Damage {
    fn apply(self, content: &Bytes) -> Option<Bytes> {
        let mut bytes = content.to_vec();
        match self {
            Self::None => {}
            Self::Flip { at, mask } => bytes[at] ^= mask,
            Self::Cut { at } => bytes.truncate(at),
            Self::Removed => return None,
            Self::Extended { bytes: count, is_zeros } => {
                let byte = |at: usize| if is_zeros { 0 } else { (at * 37 + 11) as u8 };
                bytes.extend((0..count).map(byte));
            }
        }
        Some(bytes.into())
    }
}

/// Steps of one broker's life; one that takes more goes on for ever.
const STEPS_MAX: u64 = 400_000;

/// A world with a broker's machine, whose disk may have an image.
pub struct Place {
    pub world: World,
    pub machine: MachineId,
    pub clients: MachineId,
}

impl Place {
    pub fn new(seed: u64) -> Self {
        let world = World::new(seed);
        world.set_steps_max(STEPS_MAX);
        let machine = world.machine("broker");
        let clients = world.machine("clients");
        for machine in [machine, clients] {
            world.set_clock_skew(machine, 0);
        }
        Self { world, machine, clients }
    }

    pub fn start_broker(&self, stop: Stop) -> (ProcessId, Verdict) {
        broker::start(&self.world, self.machine, 1, config(stop))
    }

    /// Runs a client, up to `limit` or until `is_over`; `None` when it got to no result.
    pub fn run_client<T, F>(
        &self,
        limit: Duration,
        is_over: impl Fn() -> bool,
        main: impl Fn(Runtime) -> F,
    ) -> Option<T>
    where
        T: 'static,
        F: Future<Output = T> + 'static,
    {
        let result: Rc<RefCell<Option<T>>> = Rc::default();
        let place = result.clone();
        let process =
            self.world.start_process(self.clients, "client", 1, |runtime, _: Lanes<()>| {
                let (place, done) = (place.clone(), main(runtime));
                async move {
                    let done = done.await;
                    *place.borrow_mut() = Some(done);
                }
            });
        self.world.run_until(limit, || result.borrow().is_some() || is_over());
        self.world.kill(process);
        result.take()
    }

    /// All files below the data directory.
    pub fn files(&self) -> Vec<(PathBuf, Bytes)> {
        self.world.run(self.machine, |runtime| async move {
            let disk = runtime.disk();
            let mut found = Vec::new();
            let mut left = vec![PathBuf::from("/data")];
            while let Some(directory) = left.pop() {
                for entry in disk.list(&directory).await.expect("it is there") {
                    let path = directory.join(&entry.name);
                    match entry.is_directory {
                        true => left.push(path),
                        false => {
                            let bytes = disk.read(&path).await.expect("readable");
                            found.push((path, Bytes::from(bytes)));
                        }
                    }
                }
            }
            found.sort();
            found
        })
    }

    /// Writes an image's files, one of them damaged, or none.
    pub fn write(&self, image: &Image, damaged: &Path, damage: Damage) {
        let mut files = Vec::new();
        for (path, content) in &image.files {
            let damage = if path == damaged { damage } else { Damage::None };
            files.extend(damage.apply(content).map(|content| (path.clone(), content)));
        }
        self.world.run(self.machine, |runtime| async move {
            let disk = runtime.disk();
            for (path, content) in files {
                disk.create_directories(path.parent().expect("below /data")).await.expect("room");
                let file = disk.open(&path, OpenMode::Replace).await.expect("room");
                if !content.is_empty() {
                    file.write_at(0, &[content]).await.expect("room");
                }
            }
        });
    }
}

/// Small segments, so that a little makes many files.
fn config(stop: Stop) -> Arc<BrokerConfig> {
    let own = [
        "num.partitions=2",
        "offsets.topic.num.partitions=1",
        "log.index.interval.bytes=0",
        // An index that is full closes its segment.
        "log.index.size.max.bytes=40",
        "corelog.journal.bytes=2048",
        "log.retention.ms=-1",
        "metadata.log.max.record.bytes.between.snapshots=1000",
    ];
    let mut overrides: Vec<String> =
        broker::PLACE.iter().chain(&own).map(|text| (*text).to_owned()).collect();
    if stop == Stop::KilledSynced {
        overrides.push("log.flush.interval.messages=1".to_owned());
    }
    broker::config(&overrides)
}

/// Within this virtual time everything is written and the broker has ended.
const WITHIN: Duration = Duration::from_secs(60);

/// Lets a broker write, and ends it.
pub fn make(seed: u64, stop: Stop) -> Image {
    let place = Place::new(seed);
    let (broker, verdict) = place.start_broker(stop);
    let written = place.run_client(WITHIN, || false, write_all).expect("all is written");
    match stop {
        Stop::Clean => {
            place.world.terminate(broker);
            assert!(place.world.run_until(WITHIN, || place.world.exited(broker)), "it ends");
            assert_eq!(verdict.get(), Some(&Ok(())));
        }
        Stop::Killed | Stop::KilledSynced => place.world.kill(broker),
    }
    Image { stop, files: place.files(), written: Arc::new(written) }
}
