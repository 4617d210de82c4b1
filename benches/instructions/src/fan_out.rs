//! One publisher, many subscribers, QoS 0: from a message to all of their queues and out of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nightjar_broker::access::{BoxFuture, ClientInfo, Protocol};
use nightjar_broker::acl::{AclSettings, AclSources};
use nightjar_broker::auth::{AuthChain, AuthSettings, Timer};
use nightjar_broker::settings::{MqttSettings, QueueLimits, RetainedSettings};
use nightjar_broker::{
    Admission, Broker, Kept, MemoryStore, OpenRequest, Parts, PublishBatch, Session, SubOptions,
    Subscription, Timestamp,
};
use nightjar_mqtt::{ProtocolVersion, QoS, TopicFilter, TopicName};

use crate::work::{TOPIC, handle, message};

const RECEIVERS: usize = 32;

struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn broker() -> Arc<Broker> {
    let store = Arc::new(MemoryStore::new(1));
    let broker = Broker::new(Parts {
        node: "count".into(),
        store: store.clone(),
        settings: MqttSettings::default(),
        retained: RetainedSettings::default(),
        acl: Arc::new(AclSources::new(AclSettings::default(), Vec::new())),
        auth: AuthChain::new(
            AuthSettings::default(),
            Vec::new(),
            Vec::new(),
            Arc::new(NoTimer),
        ),
        kept: Kept::default(),
    });
    store.set_sink(broker.clone());
    broker
}

fn publisher(broker: &Arc<Broker>) -> Session {
    let info = ClientInfo::new(
        "publisher",
        ([127, 0, 0, 1], 1).into(),
        "tcp:default",
        Protocol::Mqtt(ProtocolVersion::V5),
    );
    let request = OpenRequest {
        info: Arc::new(info),
        clean_start: true,
        expiry: 0,
        will: None,
        queue: Arc::new(QueueLimits::default()),
        window: 32,
        max_awaiting_rel: 32,
        receive_maximum: Some(32),
        retry_interval_ms: None,
        supervision: None,
    };
    let mut open = Box::pin(broker.open(request, Timestamp(0)));
    match open.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok((session, _))) => session,
        _ => panic!("the memory store opens a session at once"),
    }
}

/// Publishes `count` messages, `read` of them at a time.
pub fn fan_out(read: usize, count: usize) {
    let broker = broker();
    let mut publisher = publisher(&broker);
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    let filter = TopicFilter::new(TOPIC).expect("a valid filter");
    let receivers: Vec<_> = (0..RECEIVERS).map(handle).collect();
    for receiver in &receivers {
        let sub = Subscription {
            options: SubOptions::new(QoS::AtMostOnce),
            id: 0,
        };
        broker.router().subscribe(&filter, receiver, sub, false);
    }
    let route = broker.router().route(TOPIC);
    let mut out = VecDeque::with_capacity(64);
    let mut left = count;
    while left > 0 {
        let now = left.min(read);
        let mut batch = PublishBatch::default();
        for number in 1..=now {
            batch.expect_more(number < now);
            let message = message(&topic);
            publisher
                .publish(&message, &route, 0, Admission::Admitted, &mut batch)
                .expect("QoS 0 has no quota");
        }
        publisher.finish_batch(&mut batch, Timestamp(0));
        for receiver in &receivers {
            receiver.drain(1, &mut out, 64, 32, Waker::noop());
            assert_eq!(out.len(), now, "each receiver gets each message");
            out.clear();
        }
        left -= now;
    }
}
