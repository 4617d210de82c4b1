//! What the tests share: a directory that goes away, messages, waiting for tickets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nightjar_broker::settings::QueueLimits;
use nightjar_broker::shard::{Effect, Open, Opened, Restored, SessionEntry};
use nightjar_broker::{
    DurableStore, EffectSink, Message, MessageHead, Progress, SubOptions, Subscription, Ticket,
    Timestamp,
};
use nightjar_cluster::{NodeStore, StoreConfig};
use nightjar_mqtt::{QoS, TopicFilter, TopicName};
use parking_lot::Mutex;

/// A directory of its own, removed when dropped.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("nightjar-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // It says what went wrong.
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl std::ops::Deref for Dir {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

/// A small store, so that its files rotate and its snapshots come soon.
pub fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        session_groups: 2,
        retained_groups: 1,
        file_size: 64 << 10,
        ..StoreConfig::new(dir, "one")
    }
}

pub fn message(topic: &str, payload: &str) -> Message {
    let head = MessageHead {
        topic: TopicName::new(topic).unwrap(),
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: Some("publisher".into()),
        received_at: Timestamp(1),
        expires_at: None,
        properties: None,
    };
    Message::new(head, payload.as_bytes())
}

pub fn open_of(client_id: &str, expiry: u32) -> Open {
    Open {
        owner: None,
        client_id: client_id.into(),
        clean_start: false,
        expiry,
        will: None,
        limits: QueueLimits {
            max_len: 1_000_000,
            max_bytes: 1 << 30,
            ..QueueLimits::default()
        },
        window: 10,
        supervision: None,
        node: 0,
        now: Timestamp::now(),
    }
}

/// Waits until a ticket is decided.
pub fn wait(ticket: &Ticket) -> Progress {
    let started = Instant::now();
    loop {
        match ticket.poll(None) {
            Progress::Pending => {
                assert!(started.elapsed() < Duration::from_secs(30), "no answer");
                std::thread::sleep(Duration::from_micros(200));
            }
            decided => return decided,
        }
    }
}

pub fn open(store: &NodeStore, open: Open) -> Opened {
    let (ticket, reply) = store.open(open);
    assert_eq!(wait(&ticket), Progress::Done);
    reply.take().unwrap()
}

/// Opens a session with one subscription of QoS 1.
pub fn subscriber(store: &NodeStore, client_id: &str, filter: &str) -> u64 {
    let opened = open(store, open_of(client_id, 3600));
    let sub = Subscription {
        options: SubOptions::new(QoS::AtLeastOnce),
        id: 0,
    };
    let entry = SessionEntry::Subscribe {
        client_id: client_id.into(),
        epoch: opened.epoch,
        subs: vec![(TopicFilter::new(filter).unwrap(), sub)],
    };
    let submitted = store.submit(store.shard_of(client_id), vec![entry], None);
    assert_eq!(wait(&submitted.ticket), Progress::Done);
    opened.epoch
}

/// Publishes to the shard of one client.
pub fn publish(store: &NodeStore, client_id: &str, topic: &str, payload: &str) -> Ticket {
    let entry = SessionEntry::Publish(message(topic, payload));
    store
        .submit(store.shard_of(client_id), vec![entry], None)
        .ticket
}

/// The payloads that wait for a client.
pub fn queue(store: &NodeStore, client_id: &str) -> Vec<String> {
    let queue = store.queue(client_id).into_iter();
    queue
        .map(|(_, message)| String::from_utf8(message.payload().to_vec()).unwrap())
        .collect()
}

/// A sink that writes down what it hears.
#[derive(Default)]
pub struct Heard(pub Mutex<(Vec<Effect>, Vec<Restored>)>);

impl EffectSink for Heard {
    fn effect(&self, _shard: u16, effect: Effect) {
        self.0.lock().0.push(effect);
    }

    fn settled(&self) {}

    fn restore(&self, session: Restored) {
        self.0.lock().1.push(session);
    }
}

pub fn started(store: &NodeStore) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    store.start(heard.clone());
    heard
}

/// Copies a data directory as it lies there.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}
