//! What routing costs: a match among a million filters, a cached topic, an outbox, a subscription's bytes.
//!
//! `cargo bench -p nightjar-broker --bench routing`. Divan prints nanoseconds; the subscription's bytes are printed
//! before, from the resident set of this process.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use divan::Bencher;
use nightjar_broker::access::{ClientInfo, Protocol};
use nightjar_broker::router::Router;
use nightjar_broker::settings::QueueLimits;
use nightjar_broker::{
    Delivery, Message, MessageHead, SessionHandle, SubOptions, Subscription, Timestamp,
};
use nightjar_mqtt::{ProtocolVersion, QoS, TopicFilter, TopicName};

const FILTERS: usize = 1_000_000;
const CLIENTS: usize = 100;

fn main() {
    println!(
        "bytes per subscription, both sides, {FILTERS} filters of {CLIENTS} clients: {}",
        bytes_per_subscription()
    );
    divan::main();
}

fn handle(n: usize) -> Arc<SessionHandle> {
    let info = ClientInfo::new(
        format!("client-{n}"),
        ([127, 0, 0, 1], 1).into(),
        "tcp:default",
        Protocol::Mqtt(ProtocolVersion::V5),
    );
    SessionHandle::new(Arc::new(info), false, 1, Arc::new(QueueLimits::default()))
}

fn message(topic: &str) -> Message {
    let head = MessageHead {
        topic: TopicName::new(topic).expect("a valid topic"),
        qos: QoS::AtMostOnce,
        retain: false,
        publisher: None,
        received_at: Timestamp(0),
        expires_at: None,
        properties: None,
    };
    Message::new(head, &[0; 100])
}

fn topic(n: usize) -> String {
    format!("site/{}/device/{n}/temperature", n % 1000)
}

fn subscribe(router: &Router, handle: &Arc<SessionHandle>, filter: &str) {
    let filter = TopicFilter::new(filter).expect("a valid filter");
    let sub = Subscription {
        options: SubOptions::new(QoS::AtMostOnce),
        id: 0,
    };
    handle.with_subs(|subs| subs.insert(filter.clone(), sub));
    router.subscribe(&filter, handle, sub, false);
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<usize>().ok())
        .unwrap_or(0)
        * 1024
}

fn bytes_per_subscription() -> usize {
    let before = resident();
    let _full = full();
    (resident() - before) / FILTERS
}

/// A router with a million exact filters, and ten wildcard filters that match `deep/...`.
fn full() -> &'static Router {
    static ROUTER: OnceLock<(Router, Vec<Arc<SessionHandle>>)> = OnceLock::new();
    &ROUTER
        .get_or_init(|| {
            let router = Router::new();
            let clients: Vec<_> = (0..CLIENTS).map(handle).collect();
            for n in 0..FILTERS {
                subscribe(&router, &clients[n % CLIENTS], &topic(n));
            }
            for (n, filter) in [
                "deep/#",
                "deep/+/#",
                "deep/a/#",
                "deep/+/b/#",
                "deep/a/+/c",
                "deep/a/b/+",
                "+/a/b/c",
                "#",
                "deep/+/+/c",
                "+/+/+/+",
            ]
            .iter()
            .enumerate()
            {
                subscribe(&router, &clients[n], filter);
            }
            (router, clients)
        })
        .0
}

#[divan::bench]
fn match_exact_in_a_million(bencher: Bencher<'_, '_>) {
    let router = full();
    let mut n = 0;
    bencher
        .with_inputs(|| {
            n = (n + 7919) % FILTERS;
            topic(n)
        })
        .bench_local_values(|topic| black_box(router.route(&topic)).len());
}

#[divan::bench]
fn match_ten_wildcard_targets(bencher: Bencher<'_, '_>) {
    let router = full();
    bencher.bench_local(|| black_box(router.route(black_box("deep/a/b/c"))).len());
}

#[divan::bench]
fn cached_topic(bencher: Bencher<'_, '_>) {
    let router = full();
    let route = router.route(&topic(5));
    bencher.bench_local(|| black_box(router.is_current(black_box(&route))));
}

#[divan::bench]
fn subscribe_and_unsubscribe(bencher: Bencher<'_, '_>) {
    let router = full();
    let client = handle(0);
    let filter = TopicFilter::new("bench/one/more").expect("a valid filter");
    let sub = Subscription {
        options: SubOptions::new(QoS::AtMostOnce),
        id: 0,
    };
    bencher.bench_local(|| {
        router.subscribe(&filter, &client, sub, false);
        router.unsubscribe(&filter, &client);
    });
}

#[divan::bench]
fn push_and_drain(bencher: Bencher<'_, '_>) {
    let client = handle(0);
    let message = message("a/b");
    let mut out = VecDeque::with_capacity(4);
    bencher.bench_local(|| {
        let delivery = Delivery::new(message.clone(), QoS::AtMostOnce, false, 0);
        black_box(client.push(delivery).outcome);
        client.drain(1, &mut out, 64, 32, Waker::noop());
        out.clear();
    });
}

#[divan::bench]
fn make_message(bencher: Bencher<'_, '_>) {
    let topic = TopicName::new("a/b").expect("a valid topic");
    bencher.bench_local(|| {
        let head = MessageHead {
            topic: topic.clone(),
            qos: QoS::AtMostOnce,
            retain: false,
            publisher: None,
            received_at: Timestamp(0),
            expires_at: None,
            properties: None,
        };
        black_box(Message::new(head, black_box(&[0; 100])))
    });
}
