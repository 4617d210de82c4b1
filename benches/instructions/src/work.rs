//! The pieces of work that are counted. Each makes what it needs, then does its piece `count` times.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use nightjar_broker::access::{ClientInfo, Protocol};
use nightjar_broker::router::Router;
use nightjar_broker::settings::QueueLimits;
use nightjar_broker::shard::{self, Ack, Open, SessionEntry, SessionShard};
use nightjar_broker::{
    Delivery, Message, MessageHead, SessionHandle, SubOptions, Subscription, Timestamp,
};
use nightjar_mqtt::packet::{AckKind, PublishHead, encode_ack};
use nightjar_mqtt::{Decoded, Decoder, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

use crate::fan_out::fan_out;

/// Filters of the router that is matched against: enough for every shard, few enough for valgrind.
const FILTERS: usize = 4096;
pub(crate) const TOPIC: &str = "site/12/line/4/temperature";

/// A piece of work.
pub struct Work {
    /// Its name, in the file of limits and on the command line.
    pub name: &'static str,
    /// Does it this many times.
    pub run: fn(count: usize),
}

/// All of them.
pub const ALL: &[Work] = &[
    Work {
        name: "decode-publish-v311-qos0",
        run: |count| decode(ProtocolVersion::V311, QoS::AtMostOnce, count),
    },
    Work {
        name: "decode-publish-v5-qos1",
        run: |count| decode(ProtocolVersion::V5, QoS::AtLeastOnce, count),
    },
    Work {
        name: "encode-publish-v311-qos0",
        run: |count| encode(ProtocolVersion::V311, QoS::AtMostOnce, count),
    },
    Work {
        name: "encode-publish-v5-qos1",
        run: |count| encode(ProtocolVersion::V5, QoS::AtLeastOnce, count),
    },
    Work {
        name: "encode-puback-v5",
        run: puback,
    },
    Work {
        name: "message-make-and-drop",
        run: make_message,
    },
    Work {
        name: "match-exact",
        run: match_exact,
    },
    Work {
        name: "match-ten-wildcards",
        run: match_wildcards,
    },
    Work {
        name: "match-cached",
        run: match_cached,
    },
    Work {
        name: "outbox-push-and-drain",
        run: |count| outbox(1, count),
    },
    Work {
        name: "outbox-push-32-and-drain",
        run: |count| outbox(32, count),
    },
    Work {
        name: "fan-out-to-32-single",
        run: |count| fan_out(1, count),
    },
    Work {
        name: "fan-out-to-32-in-runs-of-20",
        run: |count| fan_out(20, count),
    },
    Work {
        name: "shard-queue-and-ack",
        run: |count| shard(0, count),
    },
    Work {
        name: "shard-queue-and-ack-behind-600",
        run: |count| shard(600, count),
    },
];

/// A message for one durable session with so many in its queue, and the acknowledgement of the first of them.
fn shard(waiting: usize, count: usize) {
    let mut shard = SessionShard::default();
    let mut effects = Vec::new();
    let open = Open {
        owner: None,
        client_id: "client".into(),
        clean_start: false,
        expiry: 3600,
        will: None,
        limits: QueueLimits::default(),
        window: 100,
        supervision: None,
        node: 0,
        now: Timestamp(1),
    };
    shard.apply(SessionEntry::Open(Box::new(open)), &mut effects);
    let sub = Subscription {
        options: SubOptions::new(QoS::AtLeastOnce),
        id: 0,
    };
    let subscribe = SessionEntry::Subscribe {
        client_id: "client".into(),
        epoch: 1,
        subs: vec![(TopicFilter::new(TOPIC).expect("a valid filter"), sub)],
    };
    shard.apply(subscribe, &mut effects);
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    let mut head = message(&topic).head().clone();
    head.qos = QoS::AtLeastOnce;
    let message = Message::new(head, &[0; 100]);
    let client_id: Arc<str> = "client".into();
    for at in 0..waiting + count {
        shard.apply(SessionEntry::Publish(message.clone()), &mut effects);
        if let Some(seq) = at.checked_sub(waiting) {
            let ack = Ack {
                seq: seq as u64,
                kind: shard::AckKind::Done,
            };
            let acks = SessionEntry::Acks {
                client_id: client_id.clone(),
                epoch: 1,
                acks: vec![ack],
            };
            shard.apply(black_box(acks), &mut effects);
        }
        black_box(&effects);
        effects.clear();
    }
    assert_eq!(shard.queue_len("client"), Some((waiting, 0)));
}

fn head(qos: QoS) -> PublishHead<'static> {
    PublishHead {
        qos,
        topic: TOPIC,
        packet_id: Some(77),
        ..PublishHead::default()
    }
}

fn decode(version: ProtocolVersion, qos: QoS, count: usize) {
    let mut bytes = Vec::new();
    head(qos)
        .encode_with(version, &[b'x'; 100], &mut bytes)
        .expect("a legal packet");
    let decoder = Decoder::server(1 << 20).with_version(version);
    for _ in 0..count {
        match black_box(&decoder).decode(black_box(&bytes)) {
            Ok(Decoded::Packet { packet, consumed }) => {
                black_box((packet, consumed));
            }
            other => panic!("a whole PUBLISH decodes to a packet, got {other:?}"),
        }
    }
}

fn encode(version: ProtocolVersion, qos: QoS, count: usize) {
    let head = head(qos);
    let mut out = Vec::with_capacity(4096);
    for _ in 0..count {
        out.clear();
        black_box(&head)
            .encode_with(version, black_box(&[b'x'; 100]), &mut out)
            .expect("a legal packet");
        black_box(&out);
    }
}

fn puback(count: usize) {
    let mut out = Vec::with_capacity(64);
    for _ in 0..count {
        out.clear();
        encode_ack(
            &mut out,
            black_box(AckKind::Puback),
            ProtocolVersion::V5,
            black_box(77),
            ReasonCode::Success,
        );
        black_box(&out);
    }
}

pub(crate) fn message(topic: &TopicName) -> Message {
    let head = MessageHead {
        topic: topic.clone(),
        qos: QoS::AtMostOnce,
        retain: false,
        publisher: None,
        received_at: Timestamp(0),
        expires_at: None,
        properties: None,
    };
    Message::new(head, black_box(&[0; 100]))
}

fn make_message(count: usize) {
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    for _ in 0..count {
        black_box(message(&topic));
    }
}

pub(crate) fn handle(n: usize) -> Arc<SessionHandle> {
    let info = ClientInfo::new(
        format!("client-{n}"),
        ([127, 0, 0, 1], 1).into(),
        "tcp:default",
        Protocol::Mqtt(ProtocolVersion::V5),
    );
    SessionHandle::new(Arc::new(info), false, 1, Arc::new(QueueLimits::default()))
}

fn topic(n: usize) -> String {
    format!("site/{}/device/{n}/temperature", n % 100)
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

fn router() -> (Router, Vec<Arc<SessionHandle>>) {
    let router = Router::new();
    let clients: Vec<_> = (0..16).map(handle).collect();
    for n in 0..FILTERS {
        subscribe(&router, &clients[n % clients.len()], &topic(n));
    }
    let wild = [
        "deep/#",
        "deep/+/#",
        "deep/a/#",
        "deep/+/b/#",
        "deep/a/+/c",
        "deep/a/b/+",
        "+/a/b/c",
        "deep/+/+/+",
        "deep/+/+/c",
        "+/+/b/c",
    ];
    for (n, filter) in wild.iter().enumerate() {
        subscribe(&router, &clients[n], filter);
    }
    (router, clients)
}

fn match_exact(count: usize) {
    let (router, _clients) = router();
    let topics: Vec<String> = (0..FILTERS).map(topic).collect();
    let mut found = 0;
    for n in 0..count {
        found += router.route(black_box(&topics[n % FILTERS])).len();
    }
    assert_eq!(found, count, "each topic has one target");
}

fn match_wildcards(count: usize) {
    let (router, _clients) = router();
    for _ in 0..count {
        assert_eq!(router.route(black_box("deep/a/b/c")).len(), 10);
    }
}

fn match_cached(count: usize) {
    let (router, _clients) = router();
    let route = router.route(&topic(5));
    for _ in 0..count {
        assert!(router.is_current(black_box(&route)));
    }
}

/// As many pushes as `count` says, taken out in batches.
fn outbox(batch: usize, count: usize) {
    let client = handle(0);
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    let message = message(&topic);
    let mut out = VecDeque::with_capacity(64);
    let mut left = count;
    while left > 0 {
        let now = left.min(batch);
        for _ in 0..now {
            let delivery = Delivery::new(message.clone(), QoS::AtMostOnce, false, 0);
            black_box(client.push(delivery).outcome);
        }
        client.drain(1, &mut out, 64, 32, Waker::noop());
        assert_eq!(out.len(), now, "what was pushed comes out");
        out.clear();
        left -= now;
    }
}
