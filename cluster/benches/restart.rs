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

use nightjar_broker::access::BoxFuture;
use nightjar_broker::acl::{AclSettings, AclSources};
use nightjar_broker::auth::{AuthChain, AuthSettings, Timer};
use nightjar_broker::settings::{MqttSettings, RetainedSettings};
use nightjar_broker::shard::{Close, CloseKind, Effect, Restored, SessionEntry};
use nightjar_broker::{
    Broker, DurableStore, EffectSink, Message, MessageHead, Parts, SubOptions, Subscription,
    Timestamp,
};
use nightjar_cluster::{NodeStore, StoreConfig};
use nightjar_mqtt::{QoS, TopicFilter, TopicName};

const SESSIONS: usize = 100_000;
const EACH: usize = 10;
const OPEN: &str = "NIGHTJAR_RESTART_OPEN";
const MEMORY: &str = "NIGHTJAR_RESTART_MEMORY";

mod common;
use common::{flood, open_of, resident};

struct Nobody;

impl EffectSink for Nobody {
    fn effect(&self, _: u16, _: Effect) {}
    fn settled(&self) {}
    fn restore(&self, _: Restored) {}
}

struct NoTime;

impl Timer for NoTime {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// A broker on the store, as a node has one: sessions have handles, subscriptions stand in the router.
fn broker(store: &Arc<NodeStore>) -> Arc<Broker> {
    Broker::new(Parts {
        node: "bench".into(),
        store: store.clone(),
        settings: MqttSettings::default(),
        retained: RetainedSettings::default(),
        acl: Arc::new(AclSources::new(AclSettings::default(), Vec::new())),
        auth: AuthChain::new(
            AuthSettings::default(),
            Vec::new(),
            Vec::new(),
            Arc::new(NoTime),
        ),
        kept: nightjar_broker::Kept::default(),
    })
}

fn client(number: usize) -> Arc<str> {
    format!("device-{number:06}").into()
}

fn topic(number: usize) -> String {
    format!("to/{number:06}")
}

fn fill(store: &NodeStore) {
    flood(SESSIONS, |number| {
        store.open(open_of(&client(number), 32)).0
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
        // Offline: a connected session keeps a window in memory.
        let close = SessionEntry::Close(Close {
            client_id: client(number),
            epoch: 1,
            kind: CloseKind::Normal,
            expiry: None,
            now: Timestamp::now(),
        });
        store.submit(shard, vec![entry, close], None).ticket
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
        queue_memory: std::env::var(MEMORY)
            .ok()
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(256 << 20),
        ..StoreConfig::new(dir, "bench")
    }
}

/// In a process of its own, so that memory is what a restart needs.
fn open(dir: &Path) {
    let before = resident();
    let begun = Instant::now();
    let store = Arc::new(NodeStore::open(&config(dir)).expect("the directory opens"));
    let opened = begun.elapsed();
    let broker = broker(&store);
    store.start(broker);
    let found = store.recovered();
    println!(
        "  {} sessions, {} queued, {} entries replayed from {} MB of log: open {opened:?}, start {:?}, {} bytes resident \
         for each session, {} MB of bodies in memory and {} MB on the disk",
        found.sessions,
        found.queued,
        found.replayed,
        found.log_bytes >> 20,
        begun.elapsed() - opened,
        (resident() - before) / SESSIONS as u64,
        store.queue_bytes().0 >> 20,
        store.queue_bytes().1 >> 20
    );
    // Ended without closing, so that the next run finds the same.
    std::process::exit(0);
}

fn reopen(dir: &Path, memory: usize) {
    let status = Command::new(std::env::current_exe().expect("this program has a path"))
        .env(OPEN, dir)
        .env(MEMORY, memory.to_string())
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
    reopen(&dir, 256 << 20);
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
    reopen(&dir, 256 << 20);
    let store = NodeStore::open(&config(&dir)).expect("the directory opens");
    let begun = Instant::now();
    store.snapshot().expect("the disk has room");
    println!("snapshot of everything: {:?}", begun.elapsed());
    store.close();
    println!("all from snapshots:");
    reopen(&dir, 256 << 20);
    println!("queues from the log, nearly no memory for bodies: what is left is the index");
    let low = StoreConfig {
        queue_memory: 1 << 20,
        ..config(&dir)
    };
    let store = NodeStore::open(&low).expect("the directory opens");
    publish(&store);
    store.snapshot().expect("the disk has room");
    store.close();
    reopen(&dir, 1 << 20);
    let _ = std::fs::remove_dir_all(&dir);
}
