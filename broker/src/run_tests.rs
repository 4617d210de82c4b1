//! Delivering by runs equals delivering message by message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use nightjar_mqtt::{ProtocolVersion, QoS, TopicFilter, TopicName};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{MAX_MESSAGES, MIN_RECEIVERS};
use crate::access::{BoxFuture, ClientInfo, Protocol};
use crate::acl::{AclSettings, AclSources};
use crate::auth::{AuthChain, AuthSettings, Timer};
use crate::broker::{Broker, Parts};
use crate::delivery::Delivery;
use crate::handle::SessionHandle;
use crate::kept::Kept;
use crate::mesh::{Forward, Interest, Mesh};
use crate::message::{Message, MessageHead};
use crate::metrics::Counter;
use crate::publish::PublishBatch;
use crate::settings::{MqttSettings, QueueLimits, QueuePolicy, RetainedSettings, SharedStrategy};
use crate::store::MemoryStore;
use crate::subscription::{SubOptions, Subscription};
use crate::ticket::Ticket;
use crate::time::Timestamp;

const CLIENTS: usize = 14;
const FILTERS: [&str; 6] = ["a", "b/+", "few", "d/x", "d/+", "e/#"];
const TOPICS: [&str; 8] = ["a", "b/1", "b/2", "few", "d/x", "d/y", "e/1", "nobody"];
const EPOCH: u64 = 1;

struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// The links to other nodes: keeps what is forwarded.
#[derive(Default)]
struct Links(Mutex<Vec<(u64, String)>>);

impl Mesh for Links {
    fn node(&self) -> u64 {
        1
    }

    fn announce(&self, _: &TopicFilter, _: Interest) {}

    fn announced(&self) -> Ticket {
        Ticket::DONE
    }

    fn forward(&self, node: u64, messages: Vec<Forward>) -> Ticket {
        let said = messages
            .iter()
            .map(|it| (node, format!("{:?} {:?}", it.message.payload(), it.group)));
        self.0.lock().extend(said);
        Ticket::DONE
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone)]
struct Client {
    durable: bool,
    limits: QueueLimits,
}

#[derive(Debug, Clone)]
enum Step {
    Publish {
        topic: usize,
        qos: u8,
        retain: bool,
        len: usize,
        by: usize,
        /// More packets follow in the same read.
        more: bool,
    },
    Subscribe {
        filter: usize,
        who: usize,
        bits: u8,
        id: u32,
    },
    Unsubscribe {
        filter: usize,
        who: usize,
    },
    /// The batch ends; then a client does something.
    Finish(Between),
}

#[derive(Debug, Clone)]
enum Between {
    Drain { who: usize, max: usize },
    Detach(usize),
    Attach(usize),
    Close(usize),
}

/// What routes beside sessions hold.
#[derive(Debug, Clone, Copy)]
struct Others {
    group: bool,
    node: bool,
    shard: bool,
}

/// All that can be seen of a world.
#[derive(Debug, PartialEq)]
struct Seen {
    got: Vec<String>,
    forwarded: Vec<(u64, String)>,
    numbers: BTreeMap<String, u64>,
}

struct World {
    broker: Arc<Broker>,
    links: Arc<Links>,
    clients: Vec<(Arc<SessionHandle>, Client, Arc<Wakes>)>,
    subscribed: BTreeMap<(usize, usize), Subscription>,
    epochs: Vec<u64>,
    batch: PublishBatch,
    got: Vec<String>,
    number: u32,
    by_runs: bool,
}

fn info(who: usize) -> Arc<ClientInfo> {
    Arc::new(ClientInfo::new(
        format!("c{who}"),
        ([127, 0, 0, 1], 1).into(),
        "tcp:default",
        Protocol::Mqtt(ProtocolVersion::V5),
    ))
}

impl World {
    fn new(clients: &[Client], others: Others, by_runs: bool) -> Self {
        let store = Arc::new(MemoryStore::new(4));
        let broker = Broker::new(Parts {
            node: "test".into(),
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
        let links = Arc::new(Links::default());
        broker.set_mesh(links.clone());
        let clients: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(who, client)| {
                let limits = Arc::new(client.limits.clone());
                let handle = SessionHandle::new(info(who), client.durable, EPOCH, limits);
                let wakes = Arc::new(Wakes::default());
                handle.listen(EPOCH, &Waker::from(wakes.clone()));
                (handle, client.clone(), wakes)
            })
            .collect();
        let router = broker.router();
        for filter in FILTERS.map(|filter| TopicFilter::new(filter).expect("a valid filter")) {
            if others.group && &*filter == "e/#" {
                for (handle, ..) in &clients[..3] {
                    let sub = Subscription::default();
                    router.join_group(&filter, "g", SharedStrategy::RoundRobin, handle, sub);
                }
            }
            if others.node {
                let interest = Interest {
                    members: 1,
                    acknowledged: 1,
                };
                router.set_node(&filter, SharedStrategy::RoundRobin, 2, 1, interest);
            }
            if others.shard {
                router.add_shard(&filter, SharedStrategy::RoundRobin, 1);
            }
        }
        Self {
            broker,
            links,
            epochs: vec![EPOCH; clients.len()],
            clients,
            subscribed: BTreeMap::new(),
            batch: PublishBatch::default(),
            got: Vec::new(),
            number: 0,
            by_runs,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish {
                topic,
                qos,
                retain,
                len,
                by,
                more,
            } => self.publish(topic, qos, retain, len, by, more),
            Step::Subscribe {
                filter,
                who,
                bits,
                id,
            } => {
                let sub = Subscription {
                    options: SubOptions::from_bits(bits),
                    id,
                };
                let existed = self.subscribed.insert((filter, who), sub).is_some();
                let filter = TopicFilter::new(FILTERS[filter]).expect("a valid filter");
                let handle = &self.clients[who].0;
                self.broker
                    .router()
                    .subscribe(&filter, handle, sub, existed);
            }
            Step::Unsubscribe { filter, who } => {
                if self.subscribed.remove(&(filter, who)).is_some() {
                    let filter = TopicFilter::new(FILTERS[filter]).expect("a valid filter");
                    let handle = &self.clients[who].0;
                    self.broker.router().unsubscribe(&filter, handle);
                }
            }
            Step::Finish(ref between) => {
                self.finish();
                self.between(between);
            }
        }
    }

    fn publish(&mut self, topic: usize, qos: u8, retain: bool, len: usize, by: usize, more: bool) {
        self.number += 1;
        let mut payload = self.number.to_be_bytes().to_vec();
        payload.resize(payload.len() + len, 0);
        let head = MessageHead {
            topic: TopicName::new(TOPICS[topic]).expect("a valid topic"),
            qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)],
            retain,
            publisher: Some(format!("c{by}").into()),
            received_at: Timestamp(u64::from(self.number)),
            expires_at: None,
            properties: None,
        };
        let message = Message::new(head, &payload);
        let route = self.broker.router().route(TOPICS[topic]);
        self.batch.expect_more(more && self.by_runs);
        if self.by_runs && message.qos() == QoS::AtMostOnce {
            self.broker
                .publish_gathered(&message, &route, &mut self.batch);
        } else {
            let published = self.broker.publish(&message, &route, &mut self.batch);
            // Nobody asks what became of a message of QoS 0.
            if message.qos() != QoS::AtMostOnce {
                self.got.push(format!("{published:?}"));
            }
        }
    }

    fn finish(&mut self) {
        let (ticket, stall) = self.broker.finish_batch(&mut self.batch);
        assert!(self.batch.is_empty(), "nothing is left of a batch");
        self.got
            .push(format!("{:?} {}", ticket.poll(None), stall.is_some()));
        if let Some(stall) = stall {
            stall.ignore();
        }
        for (handle, _, wakes) in &self.clients {
            let dropped = handle.dropped.load(Ordering::Relaxed);
            let woken = wakes.0.load(Ordering::Relaxed);
            self.got
                .push(format!("{:?} {dropped} {woken}", handle.queue_state()));
        }
    }

    fn between(&mut self, between: &Between) {
        match *between {
            Between::Drain { who, max } => self.drain(who, max),
            Between::Detach(who) => {
                self.clients[who].0.detach(self.epochs[who]);
            }
            Between::Attach(who) => {
                let (handle, client, wakes) = &self.clients[who];
                if handle.queue_state().connected {
                    return;
                }
                let epoch = self.epochs[who] + 1;
                if handle.attach(info(who), epoch, Arc::new(client.limits.clone())) {
                    self.epochs[who] = epoch;
                    handle.listen(epoch, &Waker::from(wakes.clone()));
                }
            }
            Between::Close(who) => {
                let left = self.clients[who].0.close();
                self.got
                    .extend(left.iter().map(|delivery| text(who, delivery)));
            }
        }
    }

    fn drain(&mut self, who: usize, max: usize) {
        let (handle, _, wakes) = &self.clients[who];
        let mut out = VecDeque::new();
        let waker = Waker::from(wakes.clone());
        handle.drain(self.epochs[who], &mut out, max, 100, &waker);
        self.got
            .extend(out.iter().map(|delivery| text(who, delivery)));
    }

    /// All that can be seen of it.
    fn seen(mut self) -> Seen {
        self.finish();
        for who in 0..self.clients.len() {
            self.drain(who, usize::MAX);
        }
        let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
        for counter in Counter::ALL {
            numbers.insert(
                counter.name().to_owned(),
                self.broker.metrics().get(*counter),
            );
        }
        let drops = self.broker.drops().list(usize::MAX, |_| true);
        let noted: u64 = drops.iter().map(|drop| drop.count).sum();
        // Beyond its budget the ledger notes some and not others.
        if noted < 400 {
            for drop in drops {
                // It puts drops of one topic together, whoever published first.
                let key = format!("{} {:?} {:?}", drop.client_id, drop.topic, drop.reason);
                *numbers.entry(key).or_default() += drop.count;
            }
        }
        let mut retained = Vec::new();
        (self.broker).read_retained("#", Timestamp(0), &mut |message| {
            retained.push(format!("{message:?} {:?}", message.payload()));
        });
        retained.sort();
        self.got.extend(retained);
        let forwarded = std::mem::take(&mut *self.links.0.lock());
        Seen {
            got: self.got,
            forwarded,
            numbers,
        }
    }
}

/// A delivery in words.
fn text(who: usize, delivery: &Delivery) -> String {
    let ids: Vec<u32> = delivery.subscription_ids().collect();
    let message = &delivery.message;
    format!(
        "c{who}: {:?} {} {:?} retain {} ids {ids:?} checked {} stamp {} group {}",
        message.payload(),
        message.topic().as_str(),
        delivery.qos,
        delivery.retain,
        delivery.checked,
        delivery.stamp,
        delivery.group().is_some(),
    )
}

fn client() -> impl Strategy<Value = Client> {
    let policy = prop_oneof![
        Just(QueuePolicy::DropOldest),
        Just(QueuePolicy::DropNewest),
        Just(QueuePolicy::Reject),
    ];
    let len = prop_oneof![1usize..12, Just(1000)];
    let bytes = prop_oneof![100usize..900, Just(1 << 20)];
    (any::<bool>(), policy, len, bytes, any::<bool>()).prop_map(
        |(durable, policy, max_len, max_bytes, queue_qos0)| Client {
            durable,
            limits: QueueLimits {
                max_len,
                max_bytes,
                policy,
                queue_qos0,
            },
        },
    )
}

fn publish(topic: impl Strategy<Value = usize>) -> impl Strategy<Value = Step> {
    let qos = prop_oneof![9 => Just(0u8), 1 => 1..3u8];
    let more = prop::bool::weighted(0.9);
    let retain = prop::bool::weighted(0.2);
    (topic, qos, retain, 0usize..120, 0..CLIENTS, more).prop_map(
        |(topic, qos, retain, len, by, more)| Step::Publish {
            topic,
            qos,
            retain,
            len,
            by,
            more,
        },
    )
}

fn step() -> impl Strategy<Value = Vec<Step>> {
    let between = prop_oneof![
        4 => (0..CLIENTS, 1usize..20).prop_map(|(who, max)| Between::Drain { who, max }),
        2 => (0..CLIENTS).prop_map(Between::Detach),
        1 => (0..CLIENTS).prop_map(Between::Attach),
        1 => (0..CLIENTS).prop_map(Between::Close),
    ];
    let one = |step: Step| vec![step];
    let sub = (0..FILTERS.len(), 0..CLIENTS, 0u8..0x80, 0u32..4);
    prop_oneof![
        4 => publish(0..TOPICS.len()).prop_map(one),
        4 => (0..TOPICS.len())
            .prop_flat_map(|topic| prop::collection::vec(publish(Just(topic)), 1..10)),
        1 => sub.prop_map(move |(filter, who, bits, id)| one(Step::Subscribe { filter, who, bits, id })),
        1 => (0..FILTERS.len(), 0..CLIENTS)
            .prop_map(move |(filter, who)| one(Step::Unsubscribe { filter, who })),
        2 => between.prop_map(move |between| one(Step::Finish(between))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn runs_deliver_what_single_messages_do(
        clients in prop::collection::vec(client(), CLIENTS),
        subs in prop::collection::vec(prop::option::weighted(0.85, (0u8..0x80, 0u32..4)), CLIENTS * 5),
        (group, node, shard) in any::<(bool, bool, bool)>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let others = Others { group, node, shard };
        let mut worlds = [true, false].map(|by_runs| World::new(&clients, others, by_runs));
        for world in &mut worlds {
            let mut subs = subs.iter();
            // Nobody but who subscribes later wants "few".
            for filter in [0, 1, 3, 4, 5] {
                for who in 0..CLIENTS {
                    if let Some(Some((bits, id))) = subs.next() {
                        world.step(&Step::Subscribe { filter, who, bits: *bits, id: *id });
                    }
                }
            }
            for step in steps.iter().flatten() {
                world.step(step);
            }
        }
        let [runs, single] = worlds.map(World::seen);
        for (runs, single) in runs.got.iter().zip(&single.got) {
            prop_assert_eq!(runs, single);
        }
        prop_assert_eq!(runs, single);
    }
}

fn quiet() -> Vec<Client> {
    let client = Client {
        durable: false,
        limits: QueueLimits::default(),
    };
    vec![client; CLIENTS]
}

const NOTHING: Others = Others {
    group: false,
    node: false,
    shard: false,
};

fn fan_out(receivers: usize) -> World {
    let mut world = World::new(&quiet(), NOTHING, true);
    for who in 0..receivers {
        world.step(&Step::Subscribe {
            filter: 0,
            who,
            bits: 0,
            id: 0,
        });
    }
    world
}

fn queued(world: &World) -> usize {
    world.clients[0].0.queue_len()
}

#[test]
fn messages_are_kept_back_while_more_follow() {
    let mut world = fan_out(CLIENTS);
    world.publish(0, 0, false, 10, 13, true);
    world.publish(0, 0, false, 10, 13, true);
    assert_eq!(queued(&world), 0, "more may follow");
    world.publish(0, 1, false, 10, 13, true);
    assert_eq!(queued(&world), 3, "those before go first");
    world.publish(0, 0, false, 10, 13, false);
    assert_eq!(queued(&world), 4, "the last one of a read goes at once");
}

#[test]
fn few_receivers_get_each_message_at_once() {
    let mut world = fan_out(MIN_RECEIVERS - 1);
    world.publish(0, 0, false, 10, 13, true);
    assert_eq!(queued(&world), 1);
}

#[test]
fn a_run_is_bounded() {
    let mut world = fan_out(CLIENTS);
    for _ in 0..=MAX_MESSAGES {
        world.publish(0, 0, false, 10, 13, true);
    }
    assert_eq!(queued(&world), MAX_MESSAGES);
    world.finish();
    assert_eq!(queued(&world), MAX_MESSAGES + 1);
    for _ in 0..3 {
        world.publish(0, 0, false, 100 * 1024, 13, true);
    }
    assert_eq!(queued(&world), MAX_MESSAGES + 3, "and by its bytes");
    world.finish();
    assert_eq!(queued(&world), MAX_MESSAGES + 4);
}
