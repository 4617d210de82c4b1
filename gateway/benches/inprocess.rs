//! How routing grows with workers, without sockets: 50 pairs over pipes within the process, QoS 0, 100-byte payload.
//!
//! `cargo bench -p nightjar-gateway --bench inprocess`. Prints routed messages a second and CPU per message with one
//! worker and with two, in turns. Clients run on the same workers, so that all of the machine is in the figure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nightjar_broker::access::BoxFuture;
use nightjar_broker::acl::{AclSettings, AclSources};
use nightjar_broker::auth::{AuthChain, AuthSettings, Timer};
use nightjar_broker::settings::{MqttSettings, QueueLimits, RetainedSettings};
use nightjar_broker::{Broker, MemoryStore, Parts};
use nightjar_gateway::mqtt::{ConnectLimits, ListenerMqtt, MqttFrontend};
use nightjar_gateway::{Accepted, ListenerKind, ListenerSettings};
use nightjar_mqtt::packet::{Connect, PublishHead, Subscribe, Subscription, SubscriptionOptions};
use nightjar_mqtt::{Packet, ProtocolVersion, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const PAIRS: usize = 50;
const BATCH: usize = 64;
const PIPE: usize = 64 * 1024;

struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

fn frontend() -> MqttFrontend {
    let store = Arc::new(MemoryStore::new(16));
    let broker = Broker::new(Parts {
        node: "bench".into(),
        store: store.clone(),
        settings: MqttSettings {
            // Pipes hold a few hundred messages; nothing may be dropped between them.
            queue: Arc::new(QueueLimits {
                max_len: 1 << 20,
                max_bytes: 1 << 30,
                ..QueueLimits::default()
            }),
            ..MqttSettings::default()
        },
        retained: RetainedSettings::default(),
        acl: Arc::new(AclSources::new(AclSettings::default(), Vec::new())),
        auth: AuthChain::new(
            AuthSettings::default(),
            Vec::new(),
            Vec::new(),
            Arc::new(NoTimer),
        ),
        kept: nightjar_broker::Kept::default(),
    });
    store.set_sink(broker.clone());
    MqttFrontend::new(broker, ConnectLimits::default())
}

async fn connect(frontend: &MqttFrontend, id: &str) -> DuplexStream {
    let (mut ours, theirs) = duplex(PIPE);
    let mut settings = ListenerSettings::<ListenerMqtt>::new(ListenerKind::Tcp, "memory");
    settings.bind = vec![([127, 0, 0, 1], 0).into()]; // Named, never bound.
    let accepted = Accepted::in_memory(theirs, settings).expect("default settings hold together");
    tokio::spawn(frontend.clone().serve(accepted));
    let mut bytes = Vec::new();
    let mut connect = Connect::new(ProtocolVersion::V311, id);
    connect.clean_start = true;
    Packet::Connect(Box::new(connect))
        .encode(ProtocolVersion::V311, &mut bytes)
        .expect("CONNECT fits");
    ours.write_all(&bytes).await.expect("the pipe is open");
    let mut connack = [0; 4];
    ours.read_exact(&mut connack).await.expect("CONNACK comes");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    ours
}

/// Routed messages a second, and CPU microseconds for each.
fn run(workers: usize, time: Duration) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("threads can be started");
    let routed = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let frontend = frontend();
        for pair in 0..PAIRS {
            let topic = format!("bench/pair/{pair}");
            let mut subscriber = connect(&frontend, &format!("sub-{pair}")).await;
            let subscribe = Packet::Subscribe(Subscribe {
                packet_id: 1,
                subscriptions: vec![Subscription {
                    filter: &topic,
                    options: SubscriptionOptions::from_qos(QoS::AtMostOnce),
                }],
                properties: Default::default(),
            });
            let mut bytes = Vec::new();
            subscribe
                .encode(ProtocolVersion::V311, &mut bytes)
                .expect("SUBSCRIBE fits");
            subscriber
                .write_all(&bytes)
                .await
                .expect("the pipe is open");
            let mut suback = [0; 5];
            subscriber
                .read_exact(&mut suback)
                .await
                .expect("SUBACK comes");
            let head = PublishHead {
                topic: &topic,
                ..PublishHead::default()
            };
            let mut one = Vec::new();
            head.encode_with(ProtocolVersion::V311, &[0; 100], &mut one)
                .expect("PUBLISH fits");
            let (size, batch) = (one.len() as u64, one.repeat(BATCH));
            // A window: the publisher is never more than this many messages ahead of its subscriber.
            let window = Arc::new(tokio::sync::Semaphore::new(BATCH * 8));
            let (counted, opened) = (routed.clone(), window.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; PIPE];
                let mut bytes = 0;
                while let Ok(n @ 1..) = subscriber.read(&mut buffer).await {
                    let before = bytes / size;
                    bytes += n as u64;
                    let whole = bytes / size - before;
                    counted.fetch_add(whole, Ordering::Relaxed);
                    opened.add_permits(whole as usize);
                }
            });
            let mut publisher = connect(&frontend, &format!("pub-{pair}")).await;
            let ended = stop.clone();
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let Ok(permit) = window.acquire_many(BATCH as u32).await else {
                        return;
                    };
                    permit.forget();
                    if publisher.write_all(&batch).await.is_err() {
                        return;
                    }
                }
            });
        }
        tokio::time::sleep(time / 4).await;
        let (begun, cpu, count) = (Instant::now(), cpu_micros(), routed.load(Ordering::Relaxed));
        tokio::time::sleep(time).await;
        let done = (routed.load(Ordering::Relaxed) - count) as f64;
        let spent = cpu_micros() - cpu;
        stop.store(true, Ordering::Relaxed);
        (done / begun.elapsed().as_secs_f64(), spent / done)
    })
}

/// User and system time of this process, in microseconds.
fn cpu_micros() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 =
        fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0);
    ticks as f64 * 10_000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds = 5;
    let time = Duration::from_secs(2);
    let (mut rates, mut costs, mut growth) = ([vec![], vec![]], [vec![], vec![]], vec![]);
    for _ in 0..rounds {
        let mut pair = [0.0; 2];
        for (at, workers) in [1, 2].into_iter().enumerate() {
            let (rate, cost) = run(workers, time);
            rates[at].push(rate);
            costs[at].push(cost);
            pair[at] = rate;
        }
        growth.push(pair[1] / pair[0]);
    }
    println!("in-process, {PAIRS} pairs, QoS 0, 100 bytes, medians of {rounds} rounds in turns");
    for (at, workers) in [1, 2].into_iter().enumerate() {
        println!(
            "{workers} worker(s): {:>9.0} messages/s, {:.3} us CPU each, clients included",
            median(rates[at].clone()),
            median(costs[at].clone())
        );
    }
    println!(
        "two workers route {:.2} times what one does",
        median(growth)
    );
}
