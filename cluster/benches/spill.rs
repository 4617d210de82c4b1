//! A million messages for 10,000 offline sessions with little memory, and how fast they are drained when all clients
//! come for them; what a fan-out to 10,000 offline sessions costs; bytes written to the disk for each.
//!
//! `cargo bench -p nightjar-cluster --bench spill [-- DIRECTORY]`
#![allow(
    clippy::disallowed_methods,
    reason = "no runtime here: threads may sleep"
)]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use nightjar_broker::access::{ClientInfo, Protocol};
use nightjar_broker::shard::{Ack, AckKind, Close, CloseKind, Effect, Restored, SessionEntry};
use nightjar_broker::{
    DurableStore, EffectSink, Message, MessageHead, OpenReply, SessionHandle, SubOptions,
    Subscription, Ticket, Timestamp,
};
use nightjar_cluster::{NodeStore, StoreConfig};
use nightjar_mqtt::{ProtocolVersion, QoS, TopicFilter, TopicName};

mod common;
use common::{flood, open_of, resident, wait, written};

const SESSIONS: usize = 10_000;
const EACH: usize = 100;
const PAYLOAD: usize = 256;
const WINDOW: u16 = 32;
const MEMORY: usize = 64 << 20;
const DRIVERS: usize = 2;

struct Nobody;

impl EffectSink for Nobody {
    fn effect(&self, _: u16, _: Effect) {}
    fn settled(&self) {}
    fn restore(&self, _: Restored) {}
}

fn client(number: usize) -> Arc<str> {
    format!("device-{number:06}").into()
}

fn topic(number: usize) -> String {
    format!("to/{number:06}")
}

fn message(topic: &str) -> Message {
    let head = MessageHead {
        topic: TopicName::from_validated(topic),
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: None,
        received_at: Timestamp(1),
        expires_at: None,
        properties: None,
    };
    Message::new(head, &[7; PAYLOAD])
}

/// Sessions with one subscription each, offline; and one topic for all of them.
fn fill(store: &NodeStore) {
    flood(SESSIONS, |number| {
        store.open(open_of(&client(number), WINDOW)).0
    });
    flood(SESSIONS, |number| {
        let client_id = client(number);
        let sub = Subscription {
            options: SubOptions::new(QoS::AtLeastOnce),
            id: 0,
        };
        let shard = store.shard_of(&client_id);
        let entries = vec![
            SessionEntry::Subscribe {
                client_id: client_id.clone(),
                epoch: 1,
                subs: vec![
                    (TopicFilter::from_validated(topic(number)), sub),
                    (TopicFilter::from_validated("all"), sub),
                ],
            },
            SessionEntry::Close(Close {
                client_id,
                epoch: 1,
                kind: CloseKind::Normal,
                expiry: None,
                now: Timestamp::now(),
            }),
        ];
        store.submit(shard, entries, None).ticket
    });
}

struct Consumer {
    client_id: Arc<str>,
    epoch: u64,
    handle: Arc<SessionHandle>,
    left: usize,
}

/// A client that asked for its session.
struct Waiting {
    number: usize,
    ticket: Ticket,
    reply: OpenReply,
}

fn ask(store: &NodeStore, number: usize) -> Waiting {
    let (ticket, reply) = store.open(open_of(&client(number), WINDOW));
    Waiting {
        number,
        ticket,
        reply,
    }
}

fn connect(store: &NodeStore, number: usize, reply: &OpenReply, left: usize) -> Consumer {
    let client_id = client(number);
    let opened = reply.take().expect("the ticket is done");
    let epoch = opened.epoch;
    let info = Arc::new(ClientInfo::new(
        client_id.clone(),
        ([127, 0, 0, 1], 1).into(),
        "bench",
        Protocol::Mqtt(ProtocolVersion::V5),
    ));
    let handle = SessionHandle::new(info, true, epoch, Arc::default());
    store.stream(&client_id, epoch, opened.before, &handle);
    store.grant(&client_id, epoch, u32::from(WINDOW), Timestamp::now());
    Consumer {
        client_id,
        epoch,
        handle,
        left,
    }
}

/// Takes what is there and acknowledges it; the number of messages, and the ticket of the acknowledgements.
fn take(store: &NodeStore, consumer: &mut Consumer) -> Option<(usize, Ticket)> {
    let mut out = VecDeque::new();
    consumer
        .handle
        .drain(consumer.epoch, &mut out, 256, 256, Waker::noop());
    if out.is_empty() {
        return None;
    }
    let count = out.len();
    consumer.left -= count;
    let acks = out.into_iter().map(|delivery| Ack {
        seq: delivery
            .extra
            .and_then(|extra| extra.durable)
            .map_or(0, |slot| slot.seq),
        kind: AckKind::Done,
    });
    let entry = SessionEntry::Acks {
        client_id: consumer.client_id.clone(),
        epoch: consumer.epoch,
        acks: acks.collect(),
    };
    let ticket = store
        .submit(store.shard_of(&consumer.client_id), vec![entry], None)
        .ticket;
    store.grant(
        &consumer.client_id,
        consumer.epoch,
        count as u32,
        Timestamp::now(),
    );
    Some((count, ticket))
}

fn drain(store: &NodeStore, each: usize) -> (usize, Duration, u64) {
    let taken = AtomicUsize::new(0);
    let begun = Instant::now();
    let peak = std::thread::scope(|scope| {
        for driver in 0..DRIVERS {
            let taken = &taken;
            scope.spawn(move || {
                // So many clients at a time as a node has connections that drain.
                let mut numbers = (driver..SESSIONS).step_by(DRIVERS);
                let mut open: Vec<Consumer> = Vec::new();
                let mut asked: Vec<Waiting> = Vec::new();
                let mut last = Ticket::DONE;
                loop {
                    // Clients do not wait for each other's CONNACK.
                    while open.len() + asked.len() < 500 {
                        let Some(number) = numbers.next() else { break };
                        asked.push(ask(store, number));
                    }
                    asked.retain(|it| {
                        let done = !it.ticket.is_pending();
                        if done {
                            open.push(connect(store, it.number, &it.reply, each));
                        }
                        !done
                    });
                    if open.is_empty() && asked.is_empty() {
                        wait(&last);
                        return;
                    }
                    let mut some = false;
                    for consumer in &mut open {
                        if let Some((count, ticket)) = take(store, consumer) {
                            taken.fetch_add(count, Ordering::Relaxed);
                            last = ticket;
                            some = true;
                        }
                    }
                    open.retain(|consumer| consumer.left > 0);
                    if !some {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
        let mut peak = 0;
        while taken.load(Ordering::Relaxed) < SESSIONS * each {
            peak = peak.max(resident());
            std::thread::sleep(Duration::from_millis(20));
            assert!(begun.elapsed() < Duration::from_secs(600), "it hangs");
        }
        peak
    });
    (taken.load(Ordering::Relaxed), begun.elapsed(), peak)
}

fn main() {
    let dir = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("nightjar-spill-{}", std::process::id()));
    let config = StoreConfig {
        queue_memory: MEMORY,
        ..StoreConfig::new(&dir, "bench")
    };
    let store = NodeStore::open(&config).expect("the directory opens");
    store.start(Arc::new(Nobody));
    fill(&store);
    let (base, disk) = (resident(), written());
    let total = SESSIONS * EACH;
    let begun = Instant::now();
    flood(total, |number| {
        let number = number % SESSIONS;
        let entry = SessionEntry::Publish(message(&topic(number)));
        let shard = store.shard_of(&client(number));
        store.submit(shard, vec![entry], None).ticket
    });
    let time = begun.elapsed().as_secs_f64();
    let (memory, bodies) = store.queue_bytes();
    println!(
        "{total} messages of {PAYLOAD} bytes for {SESSIONS} offline sessions, {} MB of memory for bodies:",
        MEMORY >> 20
    );
    println!("  queued at {:.0}/s", total as f64 / time);
    println!(
        "  resident {} MB more than before: {} MB of bodies, {} MB of bodies on the disk; {:.0} bytes a message in all",
        (resident().saturating_sub(base)) >> 20,
        memory >> 20,
        bodies >> 20,
        (resident().saturating_sub(base)) as f64 / total as f64
    );
    println!(
        "  {:.2} bytes written to the disk for each byte of payload",
        (written() - disk) as f64 / (total * PAYLOAD) as f64
    );
    let (count, time, peak) = drain(&store, EACH);
    println!(
        "  drained {count} in {time:?}: {:.0}/s through delivery streams, each acknowledged; at most {} MB resident",
        count as f64 / time.as_secs_f64(),
        peak >> 20
    );
    // Groups are applied side by side: the last ticket of one says nothing of the others.
    let begun = Instant::now();
    for number in 0..SESSIONS {
        while store.queue_len(&client(number)) != Some((0, 0)) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{} messages are left for {number}, {} were dropped",
                store.queue_len(&client(number)).map_or(0, |it| it.0),
                store.queue_len(&client(number)).map_or(0, |it| it.1)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    store.snapshot().expect("the disk has room");
    println!(
        "  then {} MB of bodies are left on the disk",
        store.queue_bytes().1 >> 20
    );

    // One message for all: an entry for each shard, one body for each shard, an index entry for each session.
    let (base, disk, rounds) = (resident(), written(), 20);
    for number in 0..SESSIONS {
        let client_id = client(number);
        let entry = SessionEntry::Close(Close {
            client_id: client_id.clone(),
            epoch: 2,
            kind: CloseKind::Normal,
            expiry: None,
            now: Timestamp::now(),
        });
        store.submit(store.shard_of(&client_id), vec![entry], None);
    }
    let begun = Instant::now();
    flood(rounds * usize::from(store.shards()), |number| {
        let shard = (number % usize::from(store.shards())) as u16;
        store
            .submit(shard, vec![SessionEntry::Publish(message("all"))], None)
            .ticket
    });
    let deliveries = rounds * SESSIONS;
    let time = begun.elapsed().as_secs_f64();
    let (memory, bodies) = store.queue_bytes();
    println!(
        "{rounds} messages for {SESSIONS} offline sessions each: {:.0} queued/s, {:.0} bytes resident a delivery, \
         {memory} bytes of bodies as queues count them and {bodies} on the disk, {} KB written",
        deliveries as f64 / time,
        (resident().saturating_sub(base)) as f64 / deliveries as f64,
        (written() - disk) >> 10
    );
    store.close();
    let _ = std::fs::remove_dir_all(&dir);
}
