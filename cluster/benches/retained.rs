//! A million retained topics: how long reads by filter take, what a topic costs, how fast they are kept and expire.
//!
//! `cargo bench -p nightjar-cluster --bench retained [-- DIRECTORY]`
#![allow(
    clippy::disallowed_methods,
    reason = "no runtime here: threads may sleep"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightjar_broker::shard::{Effect, Restored, RetainedEntry};
use nightjar_broker::{
    DurableStore, EffectSink, Message, MessageHead, RetainedCursor, Ticket, Timestamp,
};
use nightjar_cluster::{NodeStore, StoreConfig};
use nightjar_mqtt::{QoS, TopicName};

mod common;
use common::{flood, resident, wait};

/// Buildings, floors, rooms, values.
const SIZES: [usize; 4] = [100, 10, 100, 10];
const PAYLOAD: usize = 32;

struct Nobody;

impl EffectSink for Nobody {
    fn effect(&self, _: u16, _: Effect) {}
    fn settled(&self) {}
    fn restore(&self, _: Restored) {}
}

fn topic(number: usize) -> String {
    let [_, floors, rooms, values] = SIZES;
    let (rest, value) = (number / values, number % values);
    let (rest, room) = (rest / rooms, rest % rooms);
    let (building, floor) = (rest / floors, rest % floors);
    format!("building/{building:03}/floor/{floor}/room/{room:03}/value/{value}")
}

fn set(store: &NodeStore, number: usize, expires_at: Option<Timestamp>) -> Ticket {
    let head = MessageHead {
        topic: TopicName::from_validated(topic(number)),
        qos: QoS::AtLeastOnce,
        retain: true,
        publisher: None,
        received_at: Timestamp(1),
        expires_at,
        properties: None,
    };
    store.retain(RetainedEntry::Set(Message::new(head, &[7; PAYLOAD])))
}

fn read(store: &NodeStore, filter: &str, expected: usize) {
    let now = Timestamp::now();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut count = 0;
        store.read_retained(filter, now, &mut |_| count += 1);
        best = best.min(begun.elapsed());
        assert_eq!(count, expected, "{filter}");
    }
    println!("  read {filter}: {expected} messages in {best:?}");
}

/// Reads in portions as a session does; how long one holds whoever reads.
fn portions(store: &NodeStore, filter: &str, expected: usize) {
    let now = Timestamp::now();
    let (mut cursor, mut count) = (RetainedCursor::default(), 0);
    let (mut times, mut over, mut most) = (Vec::new(), false, 0);
    while !over {
        let (begun, before) = (Instant::now(), count);
        over = store.read_retained_part(filter, &mut cursor, 512, now, &mut |_| count += 1);
        times.push(begun.elapsed());
        most = most.max(count - before);
    }
    assert_eq!(count, expected, "{filter}");
    let whole: Duration = times.iter().sum();
    times.sort_unstable();
    println!(
        "  {filter} in {} portions of 512 topics: {count} messages in {whole:?}, at most {most} in one; one takes {:?} \
         (median), {:?} (p99)",
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

fn main() {
    let dir = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("nightjar-retained-{}", std::process::id()));
    let config = StoreConfig::new(&dir, "bench");
    let store = NodeStore::open(&config).expect("the directory opens");
    store.start(Arc::new(Nobody));
    let total: usize = SIZES.iter().product();
    let (begun, before) = (Instant::now(), resident());
    flood(total, |number| set(&store, number, None));
    println!(
        "{total} retained messages of {PAYLOAD} bytes: kept at {:.0}/s, synced; {} bytes resident each",
        total as f64 / begun.elapsed().as_secs_f64(),
        (resident() - before) / total as u64
    );
    read(&store, "building/042/floor/7/room/013/value/3", 1);
    read(&store, "building/042/floor/7/room/013/value/+", 10);
    read(&store, "building/042/floor/+/room/013/value/3", 10);
    read(&store, "building/+/floor/7/room/013/value/3", 100);
    read(&store, "building/042/#", 10_000);
    read(&store, "+/+/floor/7/room/013/#", 1_000);
    read(&store, "building/+/floor/+/room/+/value/3", 100_000);
    read(&store, "#", total);
    read(&store, "nothing/#", 0);
    portions(&store, "#", total);
    portions(&store, "+/+/+/+/+/+/none/+", 0);

    // A tenth of them expires.
    let soon = Timestamp::now().plus_millis(100);
    flood(total / 10, |number| set(&store, number, Some(soon)));
    std::thread::sleep(Duration::from_millis(150));
    read(&store, "#", total - total / 10);
    let begun = Instant::now();
    store.tick(Timestamp::now());
    wait(&store.retained_barrier());
    println!(
        "  {} expired messages removed in {:?}",
        total / 10,
        begun.elapsed()
    );
    assert_eq!(store.retained_size().0, total - total / 10);
    store.snapshot().expect("the disk has room");
    store.close();
    let begun = Instant::now();
    let store = NodeStore::open(&config).expect("the directory opens");
    println!(
        "  opened with {} retained messages in {:?}",
        store.recovered().retained,
        begun.elapsed()
    );
    store.close();
    let _ = std::fs::remove_dir_all(&dir);
}
