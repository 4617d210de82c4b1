//! Commits per second of 256-byte messages with 2,000 in flight, against the disk's own: the same bytes appended to
//! a plain file with one fdatasync for each batch of as many, in the same run.
//!
//! `cargo bench -p nightjar-cluster --bench commit [-- DIRECTORY]`
#![allow(
    clippy::disallowed_methods,
    reason = "no runtime here: threads may sleep"
)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightjar_broker::settings::QueueLimits;
use nightjar_broker::shard::{Ack, AckKind, Effect, Open, Restored, SessionEntry};
use nightjar_broker::{
    DurableStore, EffectSink, Message, MessageHead, Progress, SubOptions, Subscription, Ticket,
    Timestamp,
};
use nightjar_cluster::{Durability, NodeStore, StoreConfig};
use nightjar_mqtt::{QoS, TopicFilter, TopicName};

const IN_FLIGHT: usize = 2_000;
const PUBLISHERS: usize = 100;
const PAYLOAD: usize = 256;
const TIME: Duration = Duration::from_secs(5);

mod common;
use common::{cpu, wait, written};

struct Nobody;

impl EffectSink for Nobody {
    fn effect(&self, _: u16, _: Effect) {}
    fn settled(&self) {}
    fn restore(&self, _: Restored) {}
}

fn client(number: usize) -> Arc<str> {
    format!("client-{number}").into()
}

fn store(dir: &Path, durability: Durability) -> f64 {
    let mut config = StoreConfig::new(dir, "bench");
    config.durability = durability;
    let store = NodeStore::open(&config).expect("the directory opens");
    store.start(Arc::new(Nobody));
    for number in 0..PUBLISHERS {
        let client_id = client(number);
        let (ticket, _) = store.open(Open {
            owner: None,
            client_id: client_id.clone(),
            clean_start: false,
            expiry: 3600,
            will: None,
            limits: QueueLimits::default(),
            window: 32,
            supervision: None,
            node: 0,
            now: Timestamp::now(),
        });
        wait(&ticket);
        let sub = Subscription {
            options: SubOptions::new(QoS::AtLeastOnce),
            id: 0,
        };
        let subs = vec![(TopicFilter::from_validated(format!("to/{number}")), sub)];
        let shard = store.shard_of(&client_id);
        let entry = SessionEntry::Subscribe {
            client_id,
            epoch: 1,
            subs,
        };
        wait(&store.submit(shard, vec![entry], None).ticket);
    }
    let (begun, used, disk) = (Instant::now(), cpu(), written());
    let store = &store;
    let drivers = 2;
    let (mut done, mut waits) = (0u64, Vec::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..drivers)
            .map(|driver| {
                scope.spawn(move || {
                    let mine: Vec<usize> = (driver..PUBLISHERS).step_by(drivers).collect();
                    let mut open: std::collections::VecDeque<(usize, Ticket, Instant)> =
                        std::collections::VecDeque::new();
                    let mut seqs = vec![0u64; PUBLISHERS];
                    let (mut done, mut next) = (0u64, 0);
                    let mut waits = Vec::new();
                    while begun.elapsed() < TIME {
                        while open.len() < IN_FLIGHT / drivers {
                            let number = mine[next % mine.len()];
                            next += 1;
                            let head = MessageHead {
                                topic: TopicName::from_validated(format!("to/{number}")),
                                qos: QoS::AtLeastOnce,
                                retain: false,
                                publisher: None,
                                received_at: Timestamp(1),
                                expires_at: None,
                                properties: None,
                            };
                            let message = Message::new(head, &[7; PAYLOAD]);
                            let client_id = client(number);
                            let shard = store.shard_of(&client_id);
                            // The subscriber acknowledges what it got a window ago.
                            let seq = seqs[number];
                            seqs[number] += 1;
                            let mut entries = vec![SessionEntry::Publish(message)];
                            if seq >= 32 && seq.is_multiple_of(16) {
                                let acks = (seq - 32..seq - 16).map(|seq| Ack {
                                    seq,
                                    kind: AckKind::Done,
                                });
                                entries.push(SessionEntry::Acks {
                                    client_id,
                                    epoch: 1,
                                    acks: acks.collect(),
                                });
                            }
                            let ticket = store.submit(shard, entries, None).ticket;
                            open.push_back((number, ticket, Instant::now()));
                        }
                        let before = done;
                        while let Some((_, ticket, at)) = open.front() {
                            match ticket.poll(None) {
                                Progress::Pending => break,
                                Progress::Done => {
                                    if done % 64 == 0 {
                                        waits.push(at.elapsed());
                                    }
                                    done += 1;
                                    open.pop_front();
                                }
                                Progress::Failed(code) => panic!("{code:?}"),
                            }
                        }
                        if done == before {
                            std::thread::sleep(Duration::from_micros(100));
                        }
                    }
                    (done, waits)
                })
            })
            .collect();
        for thread in threads {
            let (count, times) = thread.join().expect("the driver ends");
            done += count;
            waits.extend(times);
        }
    });
    let (time, used) = (begun.elapsed(), cpu() - used);
    waits.sort();
    let rate = done as f64 / time.as_secs_f64();
    println!(
        "store {durability:?}: {rate:.0} commits/s, {:.2} us CPU each, p50 {:?}, p99 {:?}",
        used.as_secs_f64() * 1e6 / done as f64,
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100]
    );
    println!(
        "  {:.2} bytes written to the disk for each byte of payload",
        (written() - disk) as f64 / (done * PAYLOAD as u64) as f64
    );
    store.close();
    rate
}

fn raw(dir: &Path) -> f64 {
    let path = dir.join("raw");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .expect("the file opens");
    let batch = vec![7u8; IN_FLIGHT * (PAYLOAD + 32)];
    let (begun, mut done) = (Instant::now(), 0u64);
    let mut syncs = Vec::new();
    while begun.elapsed() < TIME {
        file.write_all(&batch).expect("the disk has room");
        let at = Instant::now();
        file.sync_data().expect("the disk syncs");
        syncs.push(at.elapsed());
        done += IN_FLIGHT as u64;
    }
    let rate = done as f64 / begun.elapsed().as_secs_f64();
    syncs.sort();
    println!(
        "raw file: {rate:.0} commits/s; fdatasync p50 {:?}, p99 {:?}",
        syncs[syncs.len() / 2],
        syncs[syncs.len() * 99 / 100]
    );
    std::fs::remove_file(path).expect("the file goes");
    rate
}

fn main() {
    let dir = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("nightjar-commit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let plain = raw(&dir);
    let synced = store(&dir.join("sync"), Durability::Sync);
    println!("store / raw file: {:.2}", synced / plain);
    store(&dir.join("async"), Durability::Async);
    let _ = std::fs::remove_dir_all(&dir);
}
