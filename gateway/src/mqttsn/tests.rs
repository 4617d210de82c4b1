//! The gateway in front of a real broker, without sockets: what other ends do not show.

use std::sync::Arc;
use std::time::Duration;

use nightjar_broker::access::BoxFuture;
use nightjar_broker::settings::{MqttSettings, QueueLimits, RetainedSettings};
use nightjar_broker::{
    Broker, Counter, MemoryStore, Message as BrokerMessage, MessageHead, Parts, Timestamp, acl,
    auth,
};
use nightjar_mqtt::TopicName;
use nightjar_mqttsn::{
    Connect, FilterOrId, Frame, Message, PubAck, Publish, PublishTopic, QoS, Register, ReturnCode,
    Subscribe,
};
use proptest::prelude::*;

use super::{Auth, Counted, Gateway, Path, Settings, State, Turn};

struct NoTimer;

impl auth::Timer for NoTimer {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct Node {
    broker: Arc<Broker>,
    gateway: Arc<Gateway>,
    turn: Turn,
    now: Timestamp,
}

impl Node {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let store = Arc::new(MemoryStore::new(2));
        let rules = acl::AclSettings {
            no_match: acl::NoMatch::Allow,
            ..acl::AclSettings::default()
        };
        let broker = Broker::new(Parts {
            node: "n".into(),
            store: store.clone(),
            settings: MqttSettings::default(),
            retained: RetainedSettings::default(),
            acl: Arc::new(acl::AclSources::new(rules, Vec::new())),
            auth: auth::AuthChain::new(
                auth::AuthSettings::default(),
                Vec::new(),
                Vec::new(),
                Arc::new(NoTimer),
            ),
            kept: nightjar_broker::Kept::default(),
        });
        store.set_sink(broker.clone());
        let mut settings = Settings::new("t");
        settings.auth = Auth::Off;
        change(&mut settings);
        Self {
            gateway: Gateway::seeded(broker.clone(), settings, 1),
            broker,
            turn: Turn::default(),
            now: Timestamp(1_000_000),
        }
    }

    /// Sends a datagram from a host; what comes back, with where it goes.
    fn raw(&mut self, host: u8, datagram: &[u8]) -> Vec<(Path, Vec<u8>)> {
        let path = Path::direct(([192, 0, 2, host], 5000).into(), None);
        self.gateway
            .receive(self.now, 0, &mut self.turn, path, None, datagram);
        self.settle()
    }

    fn settle(&mut self) -> Vec<(Path, Vec<u8>)> {
        self.gateway.finish(&mut self.turn);
        while self.gateway.is_woken(0) {
            self.gateway.wake(self.now, 0, &mut self.turn);
            self.gateway.finish(&mut self.turn);
        }
        let sent = self.turn.output().iter();
        let sent = sent
            .map(|(path, datagram)| (path.clone(), datagram.to_vec()))
            .collect();
        self.turn.output().clear();
        sent
    }

    fn send(&mut self, host: u8, message: Message<'_>) -> Vec<Vec<u8>> {
        let mut datagram = Vec::new();
        Frame::from(message).encode(&mut datagram).unwrap();
        let sent = self.raw(host, &datagram);
        sent.into_iter().map(|(_, datagram)| datagram).collect()
    }

    /// Connects; CONNACK, and what comes behind it.
    fn connect(&mut self, host: u8, id: &str, clean: bool) -> Vec<Vec<u8>> {
        let sent = self.send(
            host,
            Message::Connect(Connect {
                will: false,
                clean_session: clean,
                protocol_id: 1,
                duration: 60,
                client_id: id,
            }),
        );
        assert_eq!(sent[0], [3, 0x05, 0]);
        sent
    }

    fn subscribe(&mut self, host: u8, filter: &str, qos: QoS) {
        let sent = self.send(
            host,
            Message::Subscribe(Subscribe {
                dup: false,
                qos,
                msg_id: 1,
                topic: FilterOrId::Name(filter),
            }),
        );
        assert_eq!((sent[0][1], sent[0][7]), (0x13, 0), "{sent:?}");
    }

    fn publish(&mut self, topic: &str, qos: nightjar_mqtt::QoS, payload: &[u8]) {
        self.publish_as(topic, qos, false, payload);
    }

    fn publish_as(&mut self, topic: &str, qos: nightjar_mqtt::QoS, retain: bool, payload: &[u8]) {
        self.now.0 += 1;
        let head = MessageHead {
            topic: TopicName::new(topic).unwrap(),
            qos,
            retain,
            publisher: None,
            received_at: self.now,
            expires_at: None,
            properties: None,
        };
        let _ = self.broker.publish_now(&BrokerMessage::new(head, payload));
    }

    fn state(&self, id: &str) -> Option<State> {
        self.gateway.client(id).map(|client| client.state)
    }
}

#[test]
fn a_sleepers_full_buffer_stalls_nobody_and_loses_the_oldest_qos_0() {
    use nightjar_mqtt::QoS::AtMostOnce;
    let mut node = Node::new(|settings| {
        settings.queue = Arc::new(QueueLimits {
            max_len: 4,
            ..QueueLimits::default()
        });
    });
    node.connect(1, "s", false);
    node.subscribe(1, "t", QoS::AtLeastOnce);
    let bye = Message::Disconnect { duration: Some(50) };
    assert_eq!(node.send(1, bye), [[2, 0x18]]);
    for n in 0..10u8 {
        node.publish("t", AtMostOnce, &[n]);
    }
    assert_eq!(node.broker.metrics().get(Counter::Stalls), 0);
    assert_eq!(node.broker.metrics().get(Counter::DroppedQueueFullQoS0), 6);
    let ping = Message::PingReq {
        client_id: Some("s"),
    };
    let sent = node.send(1, ping);
    let data: Vec<u8> = sent
        .iter()
        .filter(|it| it[1] == 0x0C)
        .map(|it| it[7])
        .collect();
    assert_eq!(data, [6, 7, 8, 9]);
    assert_eq!(sent.last().unwrap(), &[2, 0x17]);
    assert_eq!(node.state("s"), Some(State::Asleep));
}

#[test]
fn a_sleeper_holds_no_waker_and_is_forgotten_when_it_is_lost() {
    let mut node = Node::new(|_| {});
    node.connect(1, "s", true);
    node.send(1, Message::Disconnect { duration: Some(50) });
    assert_eq!(
        (node.state("s"), node.gateway.sessions()),
        (Some(State::Asleep), 1)
    );
    node.now.0 += 76_000;
    node.gateway.timeout(node.now, 0, &mut node.turn);
    node.broker.tick(node.now);
    assert_eq!((node.state("s"), node.gateway.sessions()), (None, 0));
    assert!(
        node.broker.client("s").is_none(),
        "CleanSession 1 ends with the sleep"
    );
    assert_eq!(node.gateway.counters().get(Counted::LostAsleep), 1);
}

#[test]
fn a_nat_that_gives_an_address_to_another_device_mixes_up_nobody() {
    let mut node = Node::new(|_| {});
    node.connect(1, "a", true);
    node.subscribe(1, "a", QoS::AtMostOnce);
    // Another device behind the same address and port.
    node.connect(1, "b", true);
    node.publish("a", nightjar_mqtt::QoS::AtMostOnce, b"for a");
    assert!(node.settle().is_empty(), "b gets nothing of a");
    // Heard from another port, a gets what waited.
    let ping = Message::PingReq {
        client_id: Some("a"),
    };
    let mut datagram = Vec::new();
    Frame::from(ping).encode(&mut datagram).unwrap();
    let path = Path::direct(([192, 0, 2, 1], 6000).into(), None);
    node.gateway
        .receive(node.now, 0, &mut node.turn, path.clone(), None, &datagram);
    let sent = node.settle();
    assert!(sent.iter().all(|(to, _)| *to == path), "{sent:?}");
    assert!(
        sent.iter()
            .any(|(_, datagram)| datagram.ends_with(b"for a"))
    );
}

#[test]
fn an_id_that_the_client_does_not_know_is_registered_anew_and_the_message_kept() {
    let mut node = Node::new(|_| {});
    node.connect(1, "s", true);
    node.subscribe(1, "t", QoS::AtLeastOnce);
    node.publish("t", nightjar_mqtt::QoS::AtLeastOnce, b"x");
    let sent = node.settle();
    let Message::Publish(first) = Message::decode(&sent[0].1).unwrap() else {
        panic!("{sent:?}");
    };
    let answer = node.send(
        1,
        Message::PubAck(PubAck {
            topic_id: first.topic.raw(),
            msg_id: first.msg_id,
            return_code: ReturnCode::INVALID_TOPIC_ID,
        }),
    );
    let Message::Register(Register {
        topic_id,
        msg_id,
        topic_name,
    }) = Message::decode(&answer[0]).unwrap()
    else {
        panic!("{answer:?}");
    };
    assert_eq!(topic_name, "t");
    assert_ne!(topic_id, first.topic.raw());
    let again = node.send(
        1,
        Message::RegAck(nightjar_mqttsn::RegAck {
            topic_id,
            msg_id,
            return_code: ReturnCode::ACCEPTED,
        }),
    );
    let Message::Publish(again) = Message::decode(&again[0]).unwrap() else {
        panic!("{again:?}");
    };
    assert_eq!(
        (again.topic, again.data),
        (PublishTopic::Normal(topic_id), &b"x"[..])
    );
    assert_eq!(
        again.msg_id, first.msg_id,
        "the same message has the same MsgId"
    );
}

#[test]
fn the_same_qos_2_message_after_sleep_has_its_msg_id_and_dup() {
    let mut node = Node::new(|_| {});
    node.connect(1, "s", false);
    node.subscribe(1, "t", QoS::ExactlyOnce);
    node.publish("t", nightjar_mqtt::QoS::ExactlyOnce, b"x");
    node.publish("t", nightjar_mqtt::QoS::ExactlyOnce, b"y");
    let first = node.settle();
    let Message::Publish(first) = Message::decode(&first[0].1).unwrap() else {
        panic!("{first:?}");
    };
    assert!(!first.dup);
    node.send(1, Message::Disconnect { duration: Some(50) });
    let ping = Message::PingReq {
        client_id: Some("s"),
    };
    let woken = node.send(1, ping);
    let Message::Publish(again) = Message::decode(&woken[0]).unwrap() else {
        panic!("{woken:?}");
    };
    assert_eq!(
        (again.msg_id, again.dup, again.data),
        (first.msg_id, true, &b"x"[..])
    );
    let next = node.send(
        1,
        Message::PubRec {
            msg_id: again.msg_id,
        },
    );
    assert_eq!(next[0][1], 0x10, "PUBREL");
    let next = node.send(
        1,
        Message::PubComp {
            msg_id: again.msg_id,
        },
    );
    let Message::Publish(second) = Message::decode(&next[0]).unwrap() else {
        panic!("{next:?}");
    };
    assert_eq!(
        (second.dup, second.data),
        (false, &b"y"[..]),
        "never on the air before"
    );
}

#[test]
fn publishes_without_a_connection_need_the_listeners_leave() {
    for (on, expected) in [(false, 0), (true, 1)] {
        let mut node = Node::new(|settings| settings.qos_minus_one = on);
        node.connect(1, "s", true);
        let sub = Message::Subscribe(Subscribe {
            dup: false,
            qos: QoS::AtMostOnce,
            msg_id: 1,
            topic: FilterOrId::Short(*b"ab"),
        });
        node.send(1, sub);
        let publish = Message::Publish(Publish {
            dup: false,
            qos: QoS::MinusOne,
            retain: false,
            topic: PublishTopic::Short(*b"ab"),
            msg_id: 0,
            data: b"x",
        });
        let sent = node.send(9, publish);
        assert_eq!(sent.len(), expected, "{sent:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever comes from an unknown source: never a panic, never an answer larger than the question, and nothing changes
    /// for a client that is there.
    #[test]
    fn strangers_change_nothing(
        datagrams in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                // What looks like a message but for its content.
                (0u8..0x1E, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, body)| {
                    let mut datagram = vec![body.len() as u8 + 2, kind];
                    datagram.extend(body);
                    datagram
                }),
            ],
            1..40,
        ),
    ) {
        let mut node = Node::new(|settings| settings.qos_minus_one = true);
        node.connect(1, "known", true);
        node.subscribe(1, "only/for/it", QoS::AtLeastOnce);
        for datagram in &datagrams {
            let octets: usize = node.raw(7, datagram).iter().map(|(_, it)| it.len()).sum();
            prop_assert!(octets <= datagram.len().max(2) * 3, "{octets} for {datagram:?}");
        }
        prop_assert_eq!(node.state("known"), Some(State::Active));
        node.publish("only/for/it", nightjar_mqtt::QoS::AtMostOnce, b"still");
        let sent = node.settle();
        prop_assert!(sent.iter().any(|(_, datagram)| datagram.ends_with(b"still")));
    }
}

/// Connects, subscribes and sleeps, all in a moment; then something waits for it.
fn sleeps(node: &mut Node, clean: bool) {
    node.connect(1, "s", clean);
    node.subscribe(1, "t", QoS::AtLeastOnce);
    let bye = Message::Disconnect { duration: Some(50) };
    assert_eq!(node.send(1, bye), [[2, 0x18]]);
    node.publish("t", nightjar_mqtt::QoS::AtMostOnce, b"x");
    assert_eq!(node.state("s"), Some(State::Asleep));
}

#[test]
fn a_sleeper_that_connects_at_once_with_the_same_octets_is_connected() {
    let mut node = Node::new(|_| {});
    sleeps(&mut node, false);
    let sent = node.connect(1, "s", false);
    assert_eq!(sent[1][1], 0x0C, "{sent:?}");
    assert_eq!(node.state("s"), Some(State::Active));
    // It stays so beyond its keep alive, for it was heard again.
    let ping = Message::PingReq { client_id: None };
    assert_eq!(node.send(1, ping), [[2, 0x17]]);
    node.now.0 += 91_000;
    node.gateway.timeout(node.now, 0, &mut node.turn);
    node.settle();
    assert_eq!(node.state("s"), None, "lost as any other");
}

#[test]
fn a_sleeper_whose_connect_the_network_doubles_sleeps_on() {
    for asks in [false, true] {
        let mut node = Node::new(|_| {});
        sleeps(&mut node, false);
        node.connect(1, "s", false);
        assert_eq!(node.state("s"), Some(State::Active));
        node.publish("t", nightjar_mqtt::QoS::AtLeastOnce, b"y");
        node.settle();
        if !asks {
            // No answer to what it is sent, and not a word.
            for _ in 0..20 {
                node.now.0 += 5_000;
                node.gateway.timeout(node.now, 0, &mut node.turn);
                node.settle();
            }
            assert_eq!(node.state("s"), Some(State::Asleep));
        }
        let ping = Message::PingReq {
            client_id: Some("s"),
        };
        let sent = node.send(1, ping);
        let answers: Vec<u8> = sent.iter().map(|it| it[1]).collect();
        assert!(!answers.contains(&0x18), "it has its session: {answers:?}");
        assert_eq!(node.state("s"), Some(State::Awake));
    }
}

#[test]
fn a_copy_of_a_clean_connect_costs_a_sleeper_nothing_and_a_real_one_begins_anew() {
    let mut node = Node::new(|_| {});
    sleeps(&mut node, true);
    node.connect(1, "s", true);
    assert_eq!(node.state("s"), Some(State::Asleep), "perhaps a copy");
    let ping = Message::PingReq {
        client_id: Some("s"),
    };
    let sent = node.send(1, ping);
    assert_eq!((sent[0][1], sent[1][1]), (0x0C, 0x17), "{sent:?}");
    node.connect(1, "s", true);
    // What only a connected client does shows that it was meant.
    node.subscribe(1, "u", QoS::AtLeastOnce);
    assert_eq!(node.state("s"), Some(State::Active));
    node.publish("t", nightjar_mqtt::QoS::AtMostOnce, b"x");
    assert!(node.settle().is_empty(), "the session before is over");
    node.publish("u", nightjar_mqtt::QoS::AtMostOnce, b"x");
    assert_eq!(node.settle().len(), 1);
}

#[test]
fn what_a_subscription_finds_retained_is_not_lost_when_the_client_goes_at_once() {
    for sleeps in [false, true] {
        let mut node = Node::new(|_| {});
        node.publish_as("kept", nightjar_mqtt::QoS::AtLeastOnce, true, b"k");
        node.connect(1, "s", false);
        node.subscribe(1, "t", QoS::AtLeastOnce);
        // On the air, and never acknowledged.
        node.publish("t", nightjar_mqtt::QoS::AtLeastOnce, b"x");
        assert_eq!(node.settle().len(), 1);
        node.subscribe(1, "kept", QoS::AtLeastOnce);
        if sleeps {
            node.send(1, Message::Disconnect { duration: Some(50) });
        }
        node.now.0 += 10_000;
        let sent = node.connect(1, "s", false);
        assert_eq!(&sent[1][7..], b"x", "{sent:?}");
        let acked = Message::PubAck(PubAck {
            topic_id: u16::from_be_bytes([sent[1][3], sent[1][4]]),
            msg_id: u16::from_be_bytes([sent[1][5], sent[1][6]]),
            return_code: ReturnCode::ACCEPTED,
        });
        let sent = node.send(1, acked);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0][7..], b"k"[..], "{sent:?}");
    }
}
