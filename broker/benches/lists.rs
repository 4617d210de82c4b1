//! What an operator's lists cost with a million subscriptions, each to a filter of its own, on the node: of 100,000
//! clients, or of as many as `--clients N` says.
//!
//! `cargo bench -p nightjar-broker --bench lists` prints milliseconds: the slowest of five. The goal of each is 200 ms.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nightjar_broker::access::{BoxFuture, ClientInfo, Protocol};
use nightjar_broker::acl::{AclSettings, AclSources};
use nightjar_broker::auth::{AuthChain, AuthSettings, Timer};
use nightjar_broker::settings::{MqttSettings, QueueLimits, RetainedSettings};
use nightjar_broker::{
    Broker, Kept, MemoryStore, OpenRequest, Parts, Session, SubOptions, Subscription, Timestamp,
};
use nightjar_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicFilter};

const SUBSCRIPTIONS: usize = 1_000_000;

struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// The memory store answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store does not wait"),
    }
}

fn broker() -> Arc<Broker> {
    let store = Arc::new(MemoryStore::new(16));
    let broker = Broker::new(Parts {
        node: "bench".into(),
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

fn connect(broker: &Arc<Broker>, n: usize, clients: usize, queue: &Arc<QueueLimits>) -> Session {
    let each = SUBSCRIPTIONS.div_ceil(clients);
    let info = ClientInfo {
        username: Some(format!("user-{}", n % 100).into()),
        ..ClientInfo::new(
            format!("client-{:06}", n * 7919 % clients),
            ([10, 0, 0, 1], 1).into(),
            "tcp:default",
            Protocol::Mqtt(ProtocolVersion::V5),
        )
    };
    let request = OpenRequest {
        info: Arc::new(info),
        clean_start: true,
        expiry: 0,
        will: None,
        queue: queue.clone(),
        window: 32,
        max_awaiting_rel: 32,
        receive_maximum: Some(32),
        retry_interval_ms: None,
        supervision: None,
    };
    let (mut session, _) = now(broker.open(request, Timestamp::now())).expect("it opens");
    let sub = Subscription {
        options: SubOptions::new(QoS::AtMostOnce),
        id: 0,
    };
    let filter = |k: usize| {
        let text = format!("site/{}/device/{n}/value/{k}", n % 1000);
        (TopicFilter::from_validated(text), sub)
    };
    let granted = (0..each).map(filter).collect();
    session.subscribe(1, granted, vec![ReasonCode::Success; each]);
    session
}

fn measure<T>(name: &str, mut work: impl FnMut() -> T) {
    let slowest = (0..5)
        .map(|_| {
            let begin = Instant::now();
            std::hint::black_box(work());
            begin.elapsed()
        })
        .max();
    let ms = slowest.map_or(0.0, |slowest| slowest.as_secs_f64() * 1000.0);
    println!("{name:45} {ms:8.1} ms");
}

fn main() {
    let broker = broker();
    let queue = Arc::new(QueueLimits::default());
    let mut words = std::env::args()
        .skip_while(|word| word != "--clients")
        .skip(1);
    let clients = words
        .next()
        .map_or(100_000, |word| word.parse().expect("--clients N"));
    let sessions: Vec<Session> = (0..clients)
        .map(|n| connect(&broker, n, clients, &queue))
        .collect();
    println!(
        "{} clients, {} subscriptions, {} filters",
        broker.connected(),
        broker.subscriptions().0,
        broker.router().filters()
    );
    let any = |_: &_, _: &TopicFilter, _| true;
    measure("clients, first page of 100", || {
        broker.page_clients(None, 100, |_| true)
    });
    measure("clients, a page of 1000 in the middle", || {
        broker.page_clients(Some("client-007500"), 1000, |_| true)
    });
    measure("clients whose id holds a text", || {
        broker.page_clients(None, 100, |handle| handle.client_id().contains("9999"))
    });
    measure("clients of a user", || {
        broker.page_clients(None, 100, |handle| {
            handle.info().username.as_deref() == Some("user-77")
        })
    });
    measure("subscriptions, first page of 100", || {
        broker.page_subscriptions(None, None, None, 100, any)
    });
    measure("subscriptions, a page of 1000 in the middle", || {
        broker.page_subscriptions(None, None, Some(("client-007500", "site/1")), 1000, any)
    });
    measure("subscriptions that match a topic", || {
        broker.page_subscriptions(None, None, None, 100, |_, filter, _| {
            nightjar_mqtt::topic::matches(filter, "site/5/device/5/value/5")
        })
    });
    measure("subscriptions to one filter", || {
        broker.page_subscriptions(None, Some("site/5/device/5/value/5"), None, 100, any)
    });
    measure("topics, first page of 100", || {
        broker.page_topics(None, 100)
    });
    measure("topics, a page of 1000 in the middle", || {
        broker.page_topics(Some("site/5"), 1000)
    });
    measure("tree, first levels", || broker.page_tree(None, None, 100));
    measure("tree, a thousand levels below one", || {
        broker.page_tree(Some("site"), None, 1000)
    });
    measure("subscribers of one filter", || {
        broker.subscribers_of("site/5/device/5/value/5")
    });
    // Sessions end one by one when they are dropped; the process ends here.
    std::mem::forget(sessions);
}
