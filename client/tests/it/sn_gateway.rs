//! A small MQTT-SN gateway in the test process, which loses and refuses on demand. It knows no retransmission of its own:
//! what it sends once and loses is for the client to ask for again, and downlink faults are left to the real gateway.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nightjar_mqtt::topic::matches;
use nightjar_mqttsn::{
    Encapsulation, FilterOrId, Frame, Message, PubAck, Publish, PublishTopic, QoS, RegAck,
    Register, ReturnCode, SubAck,
};
use parking_lot::Mutex;

/// What the gateway does wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Each so many datagrams is not heard.
    pub deaf_every: Option<usize>,
    /// CONNECT gets this code.
    pub refuse: Option<ReturnCode>,
    /// Topics that begin with this are refused.
    pub deny: Option<&'static str>,
    /// DISCONNECT in place of an answer to this PUBLISH, once.
    pub hang_up_at: Option<usize>,
}

/// A will that was given.
pub type Will = (String, Vec<u8>);

#[derive(Default)]
pub struct Seen {
    pub wills: Mutex<Vec<Will>>,
    pub connects: AtomicUsize,
    pub published: AtomicUsize,
    pub sleeps: AtomicUsize,
    pub wakes: AtomicUsize,
}

pub struct Gateway {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Source and node.
type Path = (SocketAddr, Option<Vec<u8>>);

#[derive(Default)]
struct Session {
    ids: HashMap<String, u16>,
    filters: Vec<(String, QoS)>,
    asleep: bool,
    buffer: Vec<(String, Vec<u8>, QoS)>,
    unreleased: HashSet<u16>,
    next_msg_id: u16,
    will_topic: String,
}

impl Session {
    fn id(&mut self, name: &str) -> (u16, bool) {
        let next = self.ids.len() as u16 + 1;
        let known = self.ids.contains_key(name);
        (*self.ids.entry(name.to_owned()).or_insert(next), known)
    }

    fn name(&self, topic: PublishTopic) -> Option<String> {
        match topic {
            PublishTopic::Normal(id) => {
                let found = self.ids.iter().find(|(_, known)| **known == id);
                found.map(|(name, _)| name.clone())
            }
            PublishTopic::Predefined(id) => Some(format!("predefined/{id}")),
            PublishTopic::Short(name) => Some(String::from_utf8_lossy(&name).into_owned()),
        }
    }
}

struct State {
    socket: UdpSocket,
    faults: Faults,
    seen: Arc<Seen>,
    sessions: HashMap<Path, Session>,
}

impl Gateway {
    pub fn start(faults: Faults) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let mut state = State {
            socket,
            faults,
            seen: Arc::clone(&seen),
            sessions: HashMap::new(),
        };
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            let mut heard = 0;
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, source)) = state.socket.recv_from(&mut buffer) else {
                    continue;
                };
                heard += 1;
                if state
                    .faults
                    .deaf_every
                    .is_some_and(|every| heard % every == 0)
                {
                    continue;
                }
                let frame = Frame::decode(&buffer[..length]).unwrap();
                let node = frame.encapsulation.map(|wrapped| wrapped.node_id.to_vec());
                state.handle((source, node), frame.message);
            }
        });
        Self {
            address,
            seen,
            stop,
        }
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }
}

impl State {
    fn send(&self, path: &Path, message: Message<'_>) {
        let mut datagram = Vec::new();
        let encapsulation = path
            .1
            .as_deref()
            .map(|node_id| Encapsulation { radius: 0, node_id });
        Frame {
            encapsulation,
            message,
        }
        .encode(&mut datagram)
        .unwrap();
        self.socket.send_to(&datagram, path.0).unwrap();
    }

    fn denied(&self, name: &str) -> bool {
        self.faults.deny.is_some_and(|deny| name.starts_with(deny))
    }

    fn handle(&mut self, path: Path, message: Message<'_>) {
        let accepted = ReturnCode::ACCEPTED;
        if let Message::Connect(connect) = &message {
            self.seen.connects.fetch_add(1, Ordering::Relaxed);
            if let Some(return_code) = self.faults.refuse {
                return self.send(&path, Message::ConnAck { return_code });
            }
            let session = self.sessions.entry(path.clone()).or_default();
            session.asleep = false;
            if connect.clean_session {
                *session = Session::default();
            }
            let answer = if connect.will {
                Message::WillTopicReq
            } else {
                Message::ConnAck {
                    return_code: accepted,
                }
            };
            return self.send(&path, answer);
        }
        if let Message::Publish(publish) = &message
            && publish.qos == QoS::MinusOne
        {
            let name = Session::default().name(publish.topic).unwrap();
            return self.route(&name, publish);
        }
        let Some(session) = self.sessions.get_mut(&path) else {
            return self.send(&path, Message::Disconnect { duration: None });
        };
        match message {
            Message::WillTopic(will) => {
                session.will_topic = will.map(|will| will.topic.to_owned()).unwrap_or_default();
                let answer = if session.will_topic.is_empty() {
                    Message::ConnAck {
                        return_code: accepted,
                    }
                } else {
                    Message::WillMsgReq
                };
                self.send(&path, answer);
            }
            Message::WillMsg { will_msg } => {
                let will = (session.will_topic.clone(), will_msg.to_vec());
                self.seen.wills.lock().push(will);
                self.send(
                    &path,
                    Message::ConnAck {
                        return_code: accepted,
                    },
                );
            }
            Message::Register(Register {
                msg_id, topic_name, ..
            }) => {
                let (topic_id, _) = session.id(topic_name);
                let ack = RegAck {
                    topic_id,
                    msg_id,
                    return_code: accepted,
                };
                self.send(&path, Message::RegAck(ack));
            }
            Message::Publish(publish) => self.publish(&path, &publish),
            Message::PubRel { msg_id } => {
                session.unreleased.remove(&msg_id);
                self.send(&path, Message::PubComp { msg_id });
            }
            Message::Subscribe(subscribe) => {
                let filter = match subscribe.topic {
                    FilterOrId::Name(name) => name.to_owned(),
                    FilterOrId::Predefined(id) => format!("predefined/{id}"),
                    FilterOrId::Short(name) => String::from_utf8_lossy(&name).into_owned(),
                };
                let is_name =
                    matches!(subscribe.topic, FilterOrId::Name(name) if !name.contains(['+', '#']));
                let topic_id = if is_name { session.id(&filter).0 } else { 0 };
                session.filters.push((filter.clone(), subscribe.qos));
                let return_code = if self.denied(&filter) {
                    ReturnCode::NOT_SUPPORTED
                } else {
                    accepted
                };
                let ack = SubAck {
                    qos: subscribe.qos,
                    topic_id,
                    msg_id: subscribe.msg_id,
                    return_code,
                };
                self.send(&path, Message::SubAck(ack));
            }
            Message::Unsubscribe(unsubscribe) => {
                let msg_id = unsubscribe.msg_id;
                self.send(&path, Message::UnsubAck { msg_id });
            }
            Message::PingReq { .. } => {
                if session.asleep {
                    self.seen.wakes.fetch_add(1, Ordering::Relaxed);
                }
                for (name, data, qos) in std::mem::take(&mut session.buffer) {
                    self.deliver(&path, &name, &data, qos);
                }
                self.send(&path, Message::PingResp);
            }
            Message::Disconnect { duration } => {
                if duration.is_some() {
                    session.asleep = true;
                    self.seen.sleeps.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.sessions.remove(&path);
                }
                self.send(&path, Message::Disconnect { duration: None });
            }
            // Acknowledgements of what was sent down.
            _ => {}
        }
    }

    fn publish(&mut self, path: &Path, publish: &Publish<'_>) {
        let count = self.seen.published.fetch_add(1, Ordering::Relaxed) + 1;
        if self.faults.hang_up_at == Some(count) {
            self.sessions.remove(path);
            return self.send(path, Message::Disconnect { duration: None });
        }
        let name = self.sessions[path].name(publish.topic);
        let return_code = match &name {
            None => ReturnCode::INVALID_TOPIC_ID,
            Some(name) if self.denied(name) => ReturnCode::NOT_SUPPORTED,
            Some(_) => ReturnCode::ACCEPTED,
        };
        let msg_id = publish.msg_id;
        let ack = Message::PubAck(PubAck {
            topic_id: publish.topic.raw(),
            msg_id,
            return_code,
        });
        let Some(name) = name.filter(|_| return_code.is_accepted()) else {
            return self.send(path, ack);
        };
        match publish.qos {
            QoS::ExactlyOnce => {
                let session = self.sessions.get_mut(path).unwrap();
                if session.unreleased.insert(msg_id) {
                    self.route(&name, publish);
                }
                self.send(path, Message::PubRec { msg_id });
            }
            qos => {
                self.route(&name, publish);
                if qos == QoS::AtLeastOnce {
                    self.send(path, ack);
                }
            }
        }
    }

    fn route(&mut self, name: &str, publish: &Publish<'_>) {
        let paths: Vec<(Path, QoS)> = self
            .sessions
            .iter()
            .filter_map(|(path, session)| {
                let filters = session.filters.iter();
                let hits = filters.filter(|(filter, _)| matches(filter, name));
                hits.map(|(_, qos)| *qos)
                    .max()
                    .map(|qos| (path.clone(), qos))
            })
            .collect();
        for (path, granted) in paths {
            let qos = granted.min(publish.qos.max(QoS::AtMostOnce));
            let session = self.sessions.get_mut(&path).unwrap();
            if session.asleep {
                session
                    .buffer
                    .push((name.to_owned(), publish.data.to_vec(), qos));
            } else {
                self.deliver(&path, name, publish.data, qos);
            }
        }
    }

    fn deliver(&mut self, path: &Path, name: &str, data: &[u8], qos: QoS) {
        let session = self.sessions.get_mut(path).unwrap();
        session.next_msg_id += 2;
        let msg_id = session.next_msg_id;
        let topic = if let Some(id) = name.strip_prefix("predefined/") {
            PublishTopic::Predefined(id.parse().unwrap())
        } else {
            let (topic_id, known) = session.id(name);
            if !known {
                let register = Register {
                    topic_id,
                    msg_id: msg_id - 1,
                    topic_name: name,
                };
                self.send(path, Message::Register(register));
            }
            PublishTopic::Normal(topic_id)
        };
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            msg_id: if qos > QoS::AtMostOnce { msg_id } else { 0 },
            data,
        };
        self.send(path, Message::Publish(publish));
    }
}
