//! A node in the simulation: the shipped store, links, consensus and broker, and the connections of its clients.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use nightjar_broker::access::{BoxFuture, ClientInfo, Protocol};
use nightjar_broker::acl::{AclSettings, AclSources};
use nightjar_broker::auth::{AuthChain, AuthSettings, Timer};
use nightjar_broker::settings::{MqttSettings, QueueLimits, RetainedSettings};
use nightjar_broker::shard::{CloseKind, Will};
use nightjar_broker::{
    AckPacket, Admission, Broker, Forward, Interest, Mesh, Message, MessageHead, OpenRequest,
    Parts, PublishBatch, Session, Signal, SubOptions, Subscription, Ticket, Timestamp, Transmit,
};
use nightjar_cluster::{ClusterNode, ClusterSettings, NodeStore, StoreConfig};
use nightjar_mqtt::{ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::disk::{Dice, SimDisk};
use crate::ground::{Gate, Simulated, now};
use crate::run::EPOCH;
use crate::world::World;

/// What a client is when it connects.
#[derive(Clone)]
pub struct Who {
    pub id: String,
    /// Its session outlives the connection.
    pub durable: bool,
    /// Topic and payload.
    pub will: Option<(String, String)>,
}

/// What a client does on its connection.
pub enum Act {
    Subscribe(u16, String),
    Publish {
        id: u16,
        topic: String,
        /// Empty: removes what the topic keeps.
        body: String,
        qos: QoS,
        retain: bool,
    },
    /// PUBREL.
    Release(u16),
    /// DISCONNECT 0x00.
    Leave,
}

/// What a client hears.
#[derive(Debug)]
pub enum Heard {
    Connected { present: bool },
    Suback,
    Puback(u16),
    Pubrec(u16),
    Pubcomp(u16),
    Closed,
}

/// A client's end of a connection.
pub struct Line {
    /// Of the connection in the history.
    pub number: usize,
    pub acts: UnboundedSender<Act>,
    pub heard: UnboundedReceiver<Heard>,
}

/// Somebody wants to connect.
pub struct Caller {
    pub who: Who,
    pub number: usize,
    pub acts: UnboundedReceiver<Act>,
    pub heard: UnboundedSender<Heard>,
}

/// What is running of a node.
#[derive(Clone)]
pub struct Running {
    pub node: Arc<ClusterNode>,
    pub store: Arc<NodeStore>,
    pub callers: UnboundedSender<Caller>,
}

/// What stays of a node between its lives.
pub struct Place {
    pub name: String,
    pub root: PathBuf,
    pub lives: u32,
    pub disk: SimDisk,
    pub gate: Arc<Gate>,
    pub slowest: Arc<AtomicU64>,
    pub running: Option<Running>,
}

impl Place {
    pub fn dir(&self) -> PathBuf {
        self.root.join(self.lives.to_string())
    }

    /// The power goes: what was not synced is gone, or half of it.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        let from = self.dir();
        self.lives += 1;
        let to = self.dir();
        std::fs::create_dir_all(&to).unwrap();
        self.disk.crash(&from, &to, dice);
        let lies = self.disk.0.lies.load(std::sync::atomic::Ordering::Relaxed);
        self.disk = SimDisk::standing(&to);
        let flag = &self.disk.0.lies;
        flag.store(lies, std::sync::atomic::Ordering::Relaxed);
        self.gate = Arc::default();
        if let Some(running) = self.running.take() {
            running.store.close();
        }
    }
}

/// The mesh of a broker, without a circle: a node that crashed is gone.
struct Weakly(Weak<ClusterNode>);

impl Mesh for Weakly {
    fn node(&self) -> u64 {
        self.0.upgrade().map_or(0, |it| it.node())
    }

    fn announce(&self, filter: &TopicFilter, interest: Interest) {
        if let Some(it) = self.0.upgrade() {
            it.announce(filter, interest);
        }
    }

    fn announced(&self) -> Ticket {
        self.0.upgrade().map_or(Ticket::DONE, |it| it.announced())
    }

    fn forward(&self, node: u64, messages: Vec<Forward>) -> Ticket {
        let it = self.0.upgrade();
        it.map_or(Ticket::DONE, |it| it.forward(node, messages))
    }
}

struct NoTime;

impl Timer for NoTime {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn settings(world: &World, name: &str) -> ClusterSettings {
    ClusterSettings {
        name: "simulation".to_owned(),
        node: name.to_owned(),
        bind: "0.0.0.0:5369".parse().unwrap(),
        advertise: Some(format!("{name}:5369")),
        cookie: "secret".to_owned(),
        tls: None,
        seeds: (1..=world.size)
            .map(|number| format!("node-{number}:5369"))
            .collect(),
        discovery: None,
        towards: None,
        reference: None,
        witness: false,
        expect: Some(world.size as u16),
        replicas: world.replicas,
        autoclean: None,
        log_limit: 20_000,
    }
}

fn store_config(dir: &Path, name: &str) -> StoreConfig {
    StoreConfig {
        session_groups: 4,
        retained_groups: 1,
        file_size: 64 << 10,
        ..StoreConfig::new(dir, name)
    }
}

/// One life of a node.
pub async fn live(world: Arc<World>, at: usize) -> turmoil::Result {
    let (name, dir, disk, gate, slowest) = {
        let places = world.places.lock();
        let place = &places[at];
        (
            place.name.clone(),
            place.dir(),
            place.disk.clone(),
            place.gate.clone(),
            place.slowest.clone(),
        )
    };
    let seed = world.dice.lock().below(u64::MAX);
    let ground = Arc::new(Simulated {
        gate: gate.clone(),
        dice: Mutex::new(Dice::new(seed)),
        slowest,
    });
    let opened = ClusterNode::open_on(
        &store_config(&dir, &name),
        settings(&world, &name),
        ground,
        &disk.disk(),
    );
    let (store, node) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            world.wrong(format!("{name} does not come back: {error}"));
            return Ok(());
        }
    };
    let broker = Broker::new(Parts {
        node: name.as_str().into(),
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
    broker.set_mesh(Arc::new(Weakly(Arc::downgrade(&node))));
    node.start(broker.clone()).await?;
    world.say(format!("{name} starts, life {}", dir.display()));
    let (callers, mut called) = unbounded_channel::<Caller>();
    world.places.lock()[at].running = Some(Running {
        node: node.clone(),
        store: store.clone(),
        callers,
    });
    let pulse = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let mut count = 0u64;
        loop {
            ticks.tick().await;
            if count.is_multiple_of(4) {
                broker.tick(Timestamp::now());
            }
            count += 1;
            world.look(at, &node);
        }
    };
    let serve = async {
        while let Some(caller) = called.recv().await {
            let connection = connection(world.clone(), at, broker.clone(), caller);
            tokio::spawn(gate.behind(connection));
        }
    };
    gate.behind(async { tokio::join!(pulse, serve) }).await;
    Ok(())
}

fn message(topic: &str, body: &str, publisher: &str, qos: QoS, retain: bool) -> Message {
    let head = MessageHead {
        topic: TopicName::new(topic).unwrap(),
        qos,
        retain,
        publisher: Some(publisher.into()),
        received_at: Timestamp::now(),
        expires_at: None,
        properties: None,
    };
    Message::new(head, body.as_bytes())
}

fn request(who: &Who) -> OpenRequest {
    let info = ClientInfo::new(
        who.id.as_str(),
        "127.0.0.1:1".parse().unwrap(),
        "tcp",
        Protocol::Mqtt(ProtocolVersion::V5),
    );
    let will = who.will.as_ref().map(|(topic, body)| {
        Box::new(Will {
            message: message(topic, body, &who.id, QoS::AtLeastOnce, false),
            delay: 0,
            expiry: None,
        })
    });
    OpenRequest {
        info: Arc::new(info),
        clean_start: !who.durable,
        expiry: if who.durable { 86_400 } else { 0 },
        will,
        queue: Arc::new(QueueLimits {
            max_len: 1_000_000,
            max_bytes: 1 << 30,
            ..QueueLimits::default()
        }),
        window: 10,
        max_awaiting_rel: 100,
        receive_maximum: Some(100),
        retry_interval_ms: None,
        supervision: None,
    }
}

/// A connection from CONNECT to its end.
async fn connection(world: Arc<World>, at: usize, broker: Arc<Broker>, mut caller: Caller) {
    let open = broker.open(request(&caller.who), Timestamp::now());
    let opened = tokio::time::timeout(Duration::from_secs(15), open).await;
    let Ok(Ok((mut session, present))) = opened else {
        let _ = caller.heard.send(Heard::Closed);
        return;
    };
    world.history.lock().connected(caller.number, at, present);
    let _ = caller.heard.send(Heard::Connected { present });
    let kind = serve(&world, &mut session, &mut caller).await;
    let clean = kind == CloseKind::Normal;
    drop(session.close(kind, None, Timestamp::now()));
    world.history.lock().closed(caller.number, clean);
    let _ = caller.heard.send(Heard::Closed);
}

enum Next {
    Act(Option<Act>),
    Send(Transmit),
    Over(CloseKind),
}

async fn serve(world: &World, session: &mut Session, caller: &mut Caller) -> CloseKind {
    loop {
        let next = {
            let step = poll_fn(|cx| {
                if let Some(signal) = session.take_signal() {
                    let kind = match signal {
                        Signal::Close(ReasonCode::UseAnotherServer) => CloseKind::Restart(10),
                        _ => CloseKind::Abnormal,
                    };
                    return Poll::Ready(Next::Over(kind));
                }
                session.poll_stall(cx.waker());
                match session.next_transmit(Timestamp::now(), cx.waker()) {
                    Err(_) => Poll::Ready(Next::Over(CloseKind::Abnormal)),
                    Ok(Some(transmit)) => Poll::Ready(Next::Send(transmit)),
                    Ok(None) => match caller.acts.poll_recv(cx) {
                        Poll::Ready(act) => Poll::Ready(Next::Act(act)),
                        Poll::Pending => Poll::Pending,
                    },
                }
            });
            step.await
        };
        match next {
            Next::Over(kind) => return kind,
            Next::Act(Some(act)) => {
                if do_act(session, caller, act) {
                    return CloseKind::Normal;
                }
            }
            Next::Act(None) => return CloseKind::Abnormal,
            Next::Send(transmit) => send(world, session, caller, transmit),
        }
    }
}

/// True if the client says goodbye.
fn do_act(session: &mut Session, caller: &Caller, act: Act) -> bool {
    match act {
        Act::Leave => return true,
        Act::Subscribe(id, filter) => {
            let sub = Subscription {
                options: SubOptions::new(QoS::ExactlyOnce),
                id: 0,
            };
            let granted = vec![(TopicFilter::new(filter).unwrap(), sub)];
            session.subscribe(id, granted, vec![ReasonCode::GrantedQoS2]);
        }
        Act::Publish {
            id,
            topic,
            body,
            qos,
            retain,
        } => {
            let message = message(&topic, &body, &caller.who.id, qos, retain);
            let route = session.broker().router().route(&topic);
            let mut batch = PublishBatch::default();
            session
                .publish(&message, &route, id, Admission::Admitted, &mut batch)
                .unwrap();
            session.finish_batch(&mut batch, Timestamp::now());
        }
        Act::Release(id) => {
            session.pubrel(id);
            session.finish_batch(&mut PublishBatch::default(), Timestamp::now());
        }
    }
    false
}

fn send(world: &World, session: &mut Session, caller: &Caller, transmit: Transmit) {
    match transmit {
        Transmit::Suback { .. } => {
            world.history.lock().subscribed(caller.number, now());
            let _ = caller.heard.send(Heard::Suback);
        }
        Transmit::Ack { packet, id, reason } => {
            // A PUBREL that came again for an id that is free already is no fault.
            if reason.is_error() && matches!(packet, AckPacket::Puback | AckPacket::Pubrec) {
                world.wrong(format!("{} is sent {packet:?} {reason:?}", caller.who.id));
            }
            let heard = match packet {
                AckPacket::Puback => Heard::Puback(id),
                AckPacket::Pubrec => Heard::Pubrec(id),
                AckPacket::Pubcomp => Heard::Pubcomp(id),
                AckPacket::Pubrel => {
                    if world.history.lock().released(caller.number, id) {
                        session.pubcomp(id);
                        session.finish_batch(&mut PublishBatch::default(), Timestamp::now());
                    }
                    return;
                }
            };
            let _ = caller.heard.send(heard);
        }
        Transmit::Publish { delivery, id, dup } => {
            let body = String::from_utf8(delivery.message.payload().to_vec()).unwrap();
            let topic = delivery.message.topic();
            let takes = {
                let mut history = world.history.lock();
                // What was published while somebody subscribed may come live and as retained too.
                if delivery.retain {
                    history.kept(caller.number, topic, &body);
                } else {
                    history.delivered(caller.number, &body, dup);
                }
                if topic.starts_with("will/") {
                    let published = delivery.message.head().received_at;
                    history.will(&body, published.since(Timestamp(EPOCH * 1000)));
                }
                delivery.qos == QoS::ExactlyOnce && history.takes(caller.number, id, &body)
            };
            match delivery.qos {
                QoS::AtLeastOnce => _ = session.puback(id),
                QoS::ExactlyOnce if takes => session.pubrec(id, ReasonCode::Success),
                _ => return,
            }
            session.finish_batch(&mut PublishBatch::default(), Timestamp::now());
        }
        other => world.wrong(format!("{} is sent {other:?}", caller.who.id)),
    }
}
