//! A broker on the store, without sockets: sessions that tests drive by hand.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use nightjar_broker::access::{BoxFuture, ClientInfo, Protocol};
use nightjar_broker::acl::{AclSettings, AclSources};
use nightjar_broker::auth::{AuthChain, AuthSettings, Timer};
use nightjar_broker::settings::{MqttSettings, QueueLimits, RetainedSettings};
use nightjar_broker::shard::Will;
use nightjar_broker::{
    Broker, OpenRequest, Parts, Progress, Session, SubOptions, Subscription, Timestamp, Transmit,
};
use nightjar_cluster::{NodeStore, StoreConfig};
use nightjar_mqtt::{ProtocolVersion, QoS, TopicFilter};

use crate::kit::*;

struct NoTime;

impl Timer for NoTime {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

pub struct Node {
    pub broker: Arc<Broker>,
    pub store: Arc<NodeStore>,
}

impl Node {
    pub fn start(dir: &std::path::Path) -> Self {
        Self::start_with(&config(dir))
    }

    pub fn start_with(config: &StoreConfig) -> Self {
        let store = Arc::new(NodeStore::open(config).unwrap());
        let broker = Broker::new(Parts {
            node: "one".into(),
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
        });
        store.start(broker.clone());
        Self { broker, store }
    }

    pub fn connect(
        &self,
        client_id: &str,
        expiry: u32,
        will: Option<Box<Will>>,
    ) -> (Session, bool) {
        let request = Self::request(client_id, expiry, will, None);
        let future = self.broker.open(request, Timestamp::now());
        block_on(future).unwrap()
    }

    pub fn request(
        client_id: &str,
        expiry: u32,
        will: Option<Box<Will>>,
        username: Option<&str>,
    ) -> OpenRequest {
        let info = ClientInfo {
            username: username.map(Into::into),
            ..ClientInfo::new(
                client_id,
                "127.0.0.1:1".parse().unwrap(),
                "tcp",
                Protocol::Mqtt(ProtocolVersion::V5),
            )
        };
        OpenRequest {
            info: Arc::new(info),
            clean_start: false,
            expiry,
            will,
            queue: Arc::new(QueueLimits::default()),
            window: 10,
            max_awaiting_rel: 100,
            receive_maximum: Some(100),
            retry_interval_ms: None,
            supervision: None,
        }
    }

    pub fn publish(&self, topic: &str, payload: &str) {
        let (_, ticket) = self.broker.publish_now(&message(topic, payload));
        assert_eq!(wait(&ticket), Progress::Done);
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

pub fn qos1(filter: &str) -> (TopicFilter, Subscription) {
    let sub = Subscription {
        options: SubOptions::new(QoS::AtLeastOnce),
        id: 0,
    };
    (TopicFilter::new(filter).unwrap(), sub)
}

/// Everything the session sends until nothing comes for a while.
pub fn drain(session: &mut Session) -> Vec<Transmit> {
    let mut sent = Vec::new();
    let mut quiet = 0;
    while quiet < 60 {
        match session
            .next_transmit(Timestamp::now(), Waker::noop())
            .unwrap()
        {
            Some(transmit) => {
                sent.push(transmit);
                quiet = 0;
            }
            None => {
                std::thread::sleep(Duration::from_millis(5));
                quiet += 1;
            }
        }
    }
    sent
}

/// Payload and DUP of each PUBLISH.
pub fn publishes(sent: &[Transmit]) -> Vec<(String, bool)> {
    sent.iter()
        .filter_map(|transmit| match transmit {
            Transmit::Publish { delivery, dup, .. } => Some((
                String::from_utf8(delivery.message.payload().to_vec()).unwrap(),
                *dup,
            )),
            _ => None,
        })
        .collect()
}

/// The directory as kill -9 leaves it, while the node still runs.
pub fn killed(node: &Node, at: &std::path::Path) {
    copy(node.store.dir(), at);
}
