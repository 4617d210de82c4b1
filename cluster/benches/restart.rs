//! How long a restart takes with 100,000 offline sessions of one subscription each and a million queued messages,
//! from the log alone and from snapshots, and what they hold in memory.
//!
//! `cargo bench -p nightjar-cluster --bench restart [-- DIRECTORY]`
#![allow(
    clippy::disallowed_methods,
    reason = "no runtime here: threads may sleep"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightjar_broker::settings::QueueLimits;
use nightjar_broker::shard::{Effect, Open, Restored, SessionEntry};
use nightjar_broker::{
    DurableStore, EffectSink, Message, MessageHead, Progress, SubOptions, Subscription, Ticket,
    Timestamp,
};
use nightjar_cluster::{NodeStore, StoreConfig};
use nightjar_mqtt::{QoS, TopicFilter, TopicName};

const SESSIONS: usize = 100_000;
const EACH: usize = 10;
const OPEN: &str = "NIGHTJAR_RESTART_OPEN";

struct Nobody;

impl EffectSink for Nobody {
    fn effect(&self, _: u16, _: Effect) {}
    fn settled(&self) {}
    fn restore(&self, _: Restored) {}
}

fn wait(ticket: &Ticket) {
    while ticket.poll(None) == Progress::Pending {
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Submits so many entries, a few thousand in flight.
fn flood(count: usize, mut submit: impl FnMut(usize) -> Ticket) {
    let mut open = std::collections::VecDeque::new();
    for number in 0..count {
        open.push_back(submit(number));
        if open.len() > 4_000 {
            wait(&open.pop_front().expect("there are thousands"));
        }
    }
    open.iter().for_each(wait);
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0u64) * 4096
}

fn client(number: usize) -> Arc<str> {
    format!("device-{number:06}").into()
}

fn topic(number: usize) -> String {
    format!("to/{number:06}")
}

fn fill(store: &NodeStore) {
    flood(SESSIONS, |number| {
        store
            .open(Open {
                client_id: client(number),
                clean_start: false,
                expiry: u32::MAX,
                will: None,
                limits: QueueLimits::default(),
                window: 32,
                supervision: None,
                node: 0,
                now: Timestamp::now(),
            })
            .0
    });
    flood(SESSIONS, |number| {
        let client_id = client(number);
        let sub = Subscription {
            options: SubOptions::new(QoS::AtLeastOnce),
            id: 0,
        };
        let shard = store.shard_of(&client_id);
        let entry = SessionEntry::Subscribe {
            client_id,
            epoch: 1,
            subs: vec![(TopicFilter::from_validated(topic(number)), sub)],
        };
        store.submit(shard, vec![entry], None).ticket
    });
}

fn publish(store: &NodeStore) {
    flood(SESSIONS * EACH, |number| {
        let number = number % SESSIONS;
        let head = MessageHead {
            topic: TopicName::from_validated(topic(number)),
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: None,
            received_at: Timestamp(1),
            expires_at: None,
            properties: None,
        };
        let entry = SessionEntry::Publish(Message::new(head, &[7; 100]));
        let shard = store.shard_of(&client(number));
        store.submit(shard, vec![entry], None).ticket
    });
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        log_limit: u64::MAX,
        ..StoreConfig::new(dir, "bench")
    }
}

/// In a process of its own, so that memory is what a restart needs.
fn open(dir: &Path) {
    let before = resident();
    let begun = Instant::now();
    let store = NodeStore::open(&config(dir)).expect("the directory opens");
    let opened = begun.elapsed();
    store.start(Arc::new(Nobody));
    let found = store.recovered();
    println!(
        "  {} sessions, {} queued, {} entries replayed from {} MB of log: open {opened:?}, start {:?}, {} MB resident",
        found.sessions,
        found.queued,
        found.replayed,
        found.log_bytes >> 20,
        begun.elapsed() - opened,
        (resident() - before) >> 20
    );
    // Ended without closing, so that the next run finds the same.
    std::process::exit(0);
}

fn reopen(dir: &Path) {
    let status = Command::new(std::env::current_exe().expect("this program has a path"))
        .env(OPEN, dir)
        .status()
        .expect("it starts again");
    assert!(status.success());
}

fn main() {
    if let Some(dir) = std::env::var_os(OPEN) {
        open(Path::new(&dir));
    }
    let dir = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("nightjar-restart-{}", std::process::id()));
    let store = NodeStore::open(&config(&dir)).expect("the directory opens");
    store.start(Arc::new(Nobody));
    fill(&store);
    store.snapshot().expect("the disk has room");
    store.close();
    println!("sessions from snapshots, nothing queued:");
    reopen(&dir);
    let store = NodeStore::open(&config(&dir)).expect("the directory opens");
    let begun = Instant::now();
    publish(&store);
    let time = begun.elapsed().as_secs_f64();
    println!(
        "queueing for offline sessions: {:.0} messages/s",
        (SESSIONS * EACH) as f64 / time
    );
    store.close();
    println!("queues from the log:");
    reopen(&dir);
    let store = NodeStore::open(&config(&dir)).expect("the directory opens");
    let begun = Instant::now();
    store.snapshot().expect("the disk has room");
    println!("snapshot of everything: {:?}", begun.elapsed());
    store.close();
    println!("all from snapshots:");
    reopen(&dir);
    let _ = std::fs::remove_dir_all(&dir);
}
