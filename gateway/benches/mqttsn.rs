//! What MQTT-SN clients cost in the gateway and the broker behind it, without sockets: datagrams go in, datagrams come out.
//!
//! `cargo bench -p nightjar-gateway --bench mqttsn`. One thread, memory store; processor time by the scheduler's own count,
//! memory by the process's resident size. `bench sn` of the program measures the same over sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nightjar_broker::access::BoxFuture;
use nightjar_broker::acl::{AclSettings, AclSources, NoMatch};
use nightjar_broker::auth::{AuthChain, AuthSettings, Timer};
use nightjar_broker::settings::{MqttSettings, RetainedSettings};
use nightjar_broker::{Broker, MemoryStore, Parts, Timestamp};
use nightjar_gateway::mqttsn::{Auth, Gateway, Path, Settings, Turn};
use nightjar_mqttsn::{
    Connect, FilterOrId, Frame, Message, PROTOCOL_ID, PubAck, Publish, PublishTopic, QoS, RegAck,
    Register, ReturnCode, Subscribe,
};

/// Datagrams of one read of the socket.
const BATCH: usize = 64;
const SENDERS: u32 = 256;
const ROUNDS: usize = 4000;
const SLEEPERS: u32 = 50_000;
const WOKEN: u32 = 5_000;
const WAITING: u32 = 20;

struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// Processor time of this thread so far, nanoseconds.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1);
    pages.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4096
}

struct World {
    gateway: Arc<Gateway>,
    turn: Turn,
    now: Timestamp,
}

fn address(client: u32) -> SocketAddr {
    let [_, a, b, c] = (client / 50_000).to_be_bytes();
    SocketAddr::new(
        IpAddr::V4(Ipv4Addr::new(10, a, b, c)),
        1024 + (client % 50_000) as u16,
    )
}

fn encode(message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Frame::from(message)
        .encode(&mut out)
        .expect("these messages are short");
    out
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new(16));
        let broker = Broker::new(Parts {
            node: "bench".into(),
            store: store.clone(),
            settings: MqttSettings::default(),
            retained: RetainedSettings::default(),
            acl: Arc::new(AclSources::new(
                AclSettings {
                    no_match: NoMatch::Allow,
                    ..AclSettings::default()
                },
                Vec::new(),
            )),
            auth: AuthChain::new(
                AuthSettings::default(),
                Vec::new(),
                Vec::new(),
                Arc::new(NoTimer),
            ),
            kept: nightjar_broker::Kept::default(),
        });
        store.set_sink(broker.clone());
        let mut settings = Settings::new("bench");
        settings.auth = Auth::Off;
        settings.new_sessions_per_source = None;
        Self {
            gateway: Gateway::seeded(broker, settings, 1),
            turn: Turn::default(),
            now: Timestamp(1_000_000),
        }
    }

    fn take(&mut self, client: u32, datagram: &[u8]) {
        let path = Path::direct(address(client), None);
        self.gateway
            .receive(self.now, 0, &mut self.turn, path, None, datagram);
    }

    /// Ends a batch; each datagram that leaves is shown.
    fn finish(&mut self, mut each: impl FnMut(SocketAddr, &[u8])) {
        loop {
            self.gateway.finish(&mut self.turn);
            for (path, datagram) in self.turn.output().iter() {
                each(path.peer, datagram);
            }
            self.turn.output().clear();
            if !self.gateway.is_woken(0) {
                return;
            }
            self.gateway.wake(self.now, 0, &mut self.turn);
        }
    }

    fn send(&mut self, client: u32, message: Message<'_>) {
        let datagram = encode(message);
        self.take(client, &datagram);
        self.finish(|_, _| ());
    }

    fn connect(&mut self, client: u32, client_id: &str, clean_session: bool) {
        let connect = Connect {
            will: false,
            clean_session,
            protocol_id: PROTOCOL_ID,
            duration: 3600,
            client_id,
        };
        self.send(client, Message::Connect(connect));
    }

    fn subscribe(&mut self, client: u32, filter: &str, qos: QoS) {
        let subscribe = Subscribe {
            dup: false,
            qos,
            msg_id: 1,
            topic: FilterOrId::Name(filter),
        };
        self.send(client, Message::Subscribe(subscribe));
    }
}

/// The processor time of a receive call alone: 40 octets over loopback, read one by one.
fn receive_call() -> u64 {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port of loopback");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port of loopback");
    let to = receiver.local_addr().expect("it is bound");
    let mut buffer = [0; 2048];
    let (mut spent, rounds) = (0, ROUNDS / 4);
    for _ in 0..rounds {
        for _ in 0..BATCH {
            sender.send_to(&[7; 40], to).expect("loopback takes it");
        }
        let begin = cpu();
        for _ in 0..BATCH {
            receiver.recv_from(&mut buffer).expect("it was sent");
        }
        spent += cpu() - begin;
    }
    spent / (rounds * BATCH) as u64
}

fn uplink(subscribed: bool) -> u64 {
    let mut world = World::new();
    let datagram = encode(Message::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: PublishTopic::Normal(1),
        msg_id: 0,
        data: &[b'x'; 33],
    }));
    for client in 0..SENDERS {
        world.connect(client, &format!("sensor-{client}"), true);
        let name = format!("site/line/{client}/temperature");
        let register = Register {
            topic_id: 0,
            msg_id: 1,
            topic_name: &name,
        };
        world.send(client, Message::Register(register));
    }
    if subscribed {
        let watcher = SENDERS;
        world.connect(watcher, "watcher", true);
        world.subscribe(watcher, "site/line/7/temperature", QoS::AtMostOnce);
        // From now on its id is known to it.
        world.send(
            watcher,
            Message::RegAck(RegAck {
                topic_id: 1,
                msg_id: 1,
                return_code: ReturnCode::ACCEPTED,
            }),
        );
    }
    let mut delivered = 0u64;
    let begin = cpu();
    for round in 0..ROUNDS {
        for number in 0..BATCH {
            let client = if subscribed {
                7
            } else {
                ((round * BATCH + number) % SENDERS as usize) as u32
            };
            world.take(client, &datagram);
        }
        world.finish(|_, _| delivered += 1);
    }
    let spent = cpu() - begin;
    let sent = (ROUNDS * BATCH) as u64;
    assert_eq!(delivered, if subscribed { sent } else { 0 }, "deliveries");
    spent / sent
}

fn connects() -> u64 {
    let mut world = World::new();
    let begin = cpu();
    for client in 0..SLEEPERS {
        world.connect(client, &format!("sensor-{client}"), true);
    }
    (cpu() - begin) / u64::from(SLEEPERS)
}

fn asleep() -> u64 {
    let mut world = World::new();
    let before = resident();
    for client in 0..SLEEPERS {
        world.connect(client, &format!("sensor-{client}"), false);
        world.subscribe(client, &format!("down/{client}"), QoS::AtLeastOnce);
        world.send(
            client,
            Message::Disconnect {
                duration: Some(3600),
            },
        );
    }
    (resident() - before) / u64::from(SLEEPERS)
}

/// All sleepers wake in one batch; how many messages they got, and the processor time of each.
fn wake() -> (u64, u64) {
    let mut world = World::new();
    let feeder = WOKEN;
    world.connect(feeder, "feeder", true);
    for client in 0..WOKEN {
        let id = format!("sensor-{client}");
        world.connect(client, &id, false);
        world.subscribe(client, &format!("down/{client}"), QoS::AtLeastOnce);
        world.send(
            client,
            Message::Disconnect {
                duration: Some(3600),
            },
        );
    }
    for client in 0..WOKEN {
        let name = format!("down/{client}");
        let register = Register {
            topic_id: 0,
            msg_id: 1,
            topic_name: &name,
        };
        let mut topic_id = 0;
        let datagram = encode(Message::Register(register));
        world.take(feeder, &datagram);
        world.finish(|_, datagram| {
            if let Ok(Frame {
                message: Message::RegAck(ack),
                ..
            }) = Frame::decode(datagram)
            {
                topic_id = ack.topic_id;
            }
        });
        // The feeder's own map is full at some time: its ids are taken again.
        if topic_id == 0 {
            world.connect(feeder, "feeder", true);
            world.send(feeder, Message::Register(register));
            topic_id = 1;
        }
        for number in 0..WAITING {
            let publish = Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: PublishTopic::Normal(topic_id),
                msg_id: 1 + number as u16,
                data: &[b'x'; 33],
            };
            world.send(feeder, Message::Publish(publish));
        }
    }
    let (mut got, mut woken) = (0, 0);
    let begin = cpu();
    for client in 0..WOKEN {
        let id = format!("sensor-{client}");
        let datagram = encode(Message::PingReq {
            client_id: Some(&id),
        });
        world.take(client, &datagram);
    }
    let mut answers = Vec::new();
    loop {
        world.finish(
            |peer, datagram| match Frame::decode(datagram).map(|frame| frame.message) {
                Ok(Message::Publish(publish)) => {
                    got += 1;
                    let ack = PubAck {
                        topic_id: publish.topic.raw(),
                        msg_id: publish.msg_id,
                        return_code: ReturnCode::ACCEPTED,
                    };
                    answers.push((peer, encode(Message::PubAck(ack))));
                }
                Ok(Message::PingResp) => woken += 1,
                _ => {}
            },
        );
        if answers.is_empty() {
            break;
        }
        for (peer, datagram) in answers.drain(..) {
            let path = Path::direct(peer, None);
            world
                .gateway
                .receive(world.now, 0, &mut world.turn, path, None, &datagram);
        }
    }
    let spent = cpu() - begin;
    assert_eq!(woken, u64::from(WOKEN), "PINGRESP");
    (got, spent / got.max(1))
}

fn main() {
    let receive = receive_call();
    println!("receive call alone              {receive:>8} ns a datagram");
    let bytes = asleep();
    println!("asleep, one subscription        {bytes:>8} bytes a client ({SLEEPERS} clients)");
    println!(
        "uplink QoS 0, nobody subscribed {:>8} ns a message",
        uplink(false)
    );
    println!(
        "uplink QoS 0 to one subscriber  {:>8} ns a message, delivery included",
        uplink(true)
    );
    println!(
        "CONNECT, clean session          {:>8} ns a client",
        connects()
    );
    let (got, cost) = wake();
    println!(
        "wake of {WOKEN} with {WAITING} waiting each  {cost:>8} ns a message; {got} of {} delivered",
        WOKEN * WAITING
    );
}
