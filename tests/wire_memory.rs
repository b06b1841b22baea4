//! How much memory hostile bytes can make the decoders set aside.
//!
//! A counting allocator sees the most that lives at once while one body is decoded. Alone in its
//! binary, with one test, because the count is of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use corelog::protocol::fetch::{FetchRequest, FetchResponse};
use corelog::protocol::metadata::{MetadataRequest, MetadataResponse};
use corelog::protocol::produce::{ProduceRequest, ProduceResponse};
use corelog::protocol::{Message, cold};
use kafka_protocol::messages as theirs;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc`'s rules.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc`'s rules.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that lived at once during `work`, beyond those before it.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

/// First elements get room at once; a body of nothing but elements costs this factor at most.
const FIRST_BYTES_MAX: usize = 128 << 10;
const FACTOR_MAX: usize = 128;

fn check<T>(name: &str, body: &Bytes, decode: impl FnOnce(Bytes) -> T) {
    let copy = body.clone();
    let peak = peak_of(|| drop(decode(copy)));
    let bound = FIRST_BYTES_MAX + FACTOR_MAX * body.len();
    assert!(peak <= bound, "{name}: {peak} bytes for a body of {}", body.len());
}

fn check_message<M: Message>(bodies: &[Bytes]) {
    for version in M::KEY.row().version_min..=M::KEY.row().version_max {
        for body in bodies {
            let name = format!("{:?} {:?} v{version}", M::KEY, M::DIRECTION);
            check(&name, body, |body| M::decode(version, body));
        }
    }
}

#[test]
fn memory_stays_in_proportion_to_the_bytes() {
    let mut bodies = Vec::new();
    // Counts of every size at every place, with little or much behind them.
    for zeros in 0..32 {
        for count in [&[0x7f, 255, 255, 255][..], &[255, 255, 255, 255, 15], &[0, 15, 255, 255]] {
            for (fill, filler) in [(0, 0_u8), (64, 1), (1 << 16, 0), (1 << 16, 1), (1 << 16, 2)] {
                let mut body = vec![0; zeros];
                body.extend_from_slice(count);
                body.resize(body.len() + fill, filler);
                bodies.push(Bytes::from(body));
            }
        }
    }
    check_message::<MetadataRequest>(&bodies);
    check_message::<MetadataResponse>(&bodies);
    check_message::<ProduceRequest>(&bodies);
    check_message::<ProduceResponse>(&bodies);
    check_message::<FetchRequest>(&bodies);
    check_message::<FetchResponse>(&bodies);
    for body in &bodies {
        for version in 0..=7 {
            let name = format!("cold v{version}");
            check(&name, body, |b| cold::decode::<theirs::CreateTopicsRequest>(version, b));
            check(&name, body, |b| cold::decode::<theirs::DeleteTopicsRequest>(version, b));
            check(&name, body, |b| cold::decode::<theirs::DescribeConfigsRequest>(version, b));
            check(&name, body, |b| {
                cold::decode::<theirs::IncrementalAlterConfigsRequest>(version, b)
            });
            check(&name, body, |b| cold::decode::<theirs::CreatePartitionsRequest>(version, b));
            check(&name, body, |b| cold::decode::<theirs::ElectLeadersRequest>(version, b));
        }
    }
}
