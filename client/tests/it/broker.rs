//! A broker small enough to be read in a minute, with faults on demand. No sessions, no retained
//! messages: subscriptions, deliveries and acknowledgements of all versions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nightjar_mqtt::packet::{
    Ack, AckProperties, Connack, Publish, PublishProperties, Suback, Unsuback,
};
use nightjar_mqtt::topic::matches;
use nightjar_mqtt::{Decoded, Decoder, Packet, ProtocolVersion, QoS, ReasonCode};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// What the broker does wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Every n-th delivery is dropped.
    pub drop_every: Option<u64>,
    /// Every n-th delivery is sent twice.
    pub repeat_every: Option<u64>,
    /// CONNECT is refused with this.
    pub refuse: Option<ReasonCode>,
    /// SUBSCRIBE is refused with this.
    pub deny: Option<ReasonCode>,
    /// QoS 1 publishes are refused with this.
    pub reject: Option<ReasonCode>,
    /// QoS 1 publishes are never acknowledged.
    pub mute: bool,
    /// The connection is closed at the n-th PUBLISH it brings.
    pub hang_up_at: Option<u64>,
}

struct Subscription {
    client: u64,
    filter: String,
    qos: QoS,
    deliveries: mpsc::UnboundedSender<Delivery>,
}

#[derive(Clone)]
struct Delivery {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    properties: Arc<Properties>,
}

#[derive(Default)]
struct Properties {
    content_type: Option<String>,
    user: Vec<(String, String)>,
}

/// State all connections share.
#[derive(Default)]
pub struct Shared {
    faults: Faults,
    subscriptions: Mutex<Vec<Subscription>>,
    clients: AtomicU64,
    delivered: AtomicU64,
    /// Deliveries dropped by [`Faults::drop_every`].
    pub dropped: AtomicU64,
    /// Connections accepted by CONNACK.
    pub accepted: AtomicU64,
    /// DISCONNECT packets received.
    pub goodbyes: AtomicU64,
}

/// A running broker; it stops when dropped.
pub struct Broker {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its counters.
    pub shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Broker {
    /// Starts one on a free port of loopback, in a thread of its own.
    pub fn start(faults: Faults) -> Self {
        let shared = Arc::new(Shared {
            faults,
            ..Shared::default()
        });
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let inner = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        stream.set_nodelay(true).unwrap();
                        tokio::spawn(serve(stream, Arc::clone(&inner)));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self {
            address: told.recv().unwrap(),
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The port as an argument.
    pub fn port(&self) -> String {
        self.address.port().to_string()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves one connection over any stream.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: Arc<Shared>) {
    let client = shared.clients.fetch_add(1, Ordering::Relaxed);
    let (deliveries, mut inbox) = mpsc::unbounded_channel();
    let mut peer = Peer {
        client,
        shared: Arc::clone(&shared),
        deliveries,
        version: None,
        next_id: 0,
        publishes: 0,
    };
    let mut decoder = Decoder::server(u32::MAX);
    let (mut read, mut write) = (Vec::new(), Vec::new());
    'connection: loop {
        tokio::select! {
            count = stream.read_buf(&mut read) => {
                if !matches!(count, Ok(count) if count > 0) {
                    break;
                }
                let mut used = 0;
                while let Ok(Decoded::Packet { packet, consumed }) = decoder.decode(&read[used..]) {
                    if let Packet::Connect(connect) = &packet {
                        decoder = decoder.with_version(connect.version);
                    }
                    used += consumed;
                    if !peer.packet(packet, &mut write) {
                        let _ = stream.write_all(&write).await;
                        break 'connection;
                    }
                }
                read.drain(..used);
            }
            Some(delivery) = inbox.recv() => {
                peer.deliver(&delivery, &mut write);
                while write.len() < 32 * 1024
                    && let Ok(delivery) = inbox.try_recv()
                {
                    peer.deliver(&delivery, &mut write);
                }
            }
        }
        if stream.write_all(&write).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        write.clear();
    }
    shared
        .subscriptions
        .lock()
        .retain(|subscription| subscription.client != client);
    let _ = stream.shutdown().await;
}

struct Peer {
    client: u64,
    shared: Arc<Shared>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    version: Option<ProtocolVersion>,
    next_id: u16,
    publishes: u64,
}

impl Peer {
    /// Handles a packet; false where the connection is to be closed.
    fn packet(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) -> bool {
        let faults = self.shared.faults;
        let version = match (&packet, self.version) {
            (Packet::Connect(connect), None) => connect.version,
            (_, Some(version)) => version,
            _ => return false,
        };
        let answer = match packet {
            Packet::Connect(_) => {
                self.version = Some(version);
                let reason = faults.refuse.unwrap_or(ReasonCode::Success);
                if !reason.is_error() {
                    self.shared.accepted.fetch_add(1, Ordering::Relaxed);
                }
                Packet::Connack(Box::new(Connack::new(false, reason)))
            }
            Packet::Publish(publish) => {
                self.publishes += 1;
                if faults.hang_up_at == Some(self.publishes) {
                    return false;
                }
                self.route(&publish, faults);
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) if !faults.mute => {
                        Packet::Puback(Ack::new(id, faults.reject.unwrap_or(ReasonCode::Success)))
                    }
                    (QoS::ExactlyOnce, Some(id)) => {
                        Packet::Pubrec(Ack::new(id, ReasonCode::Success))
                    }
                    _ => return true,
                }
            }
            Packet::Pubrel(ack) => Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::Success)),
            Packet::Pubrec(ack) => Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::Success)),
            Packet::Subscribe(subscribe) => {
                let mut reasons = Vec::new();
                for wanted in &subscribe.subscriptions {
                    let qos = wanted.options.qos;
                    reasons.push(faults.deny.unwrap_or(ReasonCode::granted(qos)));
                    if faults.deny.is_none() {
                        self.shared.subscriptions.lock().push(Subscription {
                            client: self.client,
                            filter: wanted.filter.to_owned(),
                            qos,
                            deliveries: self.deliveries.clone(),
                        });
                    }
                }
                Packet::Suback(Suback {
                    packet_id: subscribe.packet_id,
                    reasons,
                    properties: AckProperties::default(),
                })
            }
            Packet::Unsubscribe(unsubscribe) => {
                let mut subscriptions = self.shared.subscriptions.lock();
                subscriptions.retain(|subscription| {
                    subscription.client != self.client
                        || !unsubscribe.filters.contains(&subscription.filter.as_str())
                });
                Packet::Unsuback(Unsuback {
                    packet_id: unsubscribe.packet_id,
                    reasons: vec![ReasonCode::Success; unsubscribe.filters.len()],
                    properties: AckProperties::default(),
                })
            }
            Packet::Pingreq => Packet::Pingresp,
            Packet::Disconnect(_) => {
                self.shared.goodbyes.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            _ => return true,
        };
        answer.encode(version, out).unwrap();
        faults.refuse.is_none()
    }

    fn route(&self, publish: &Publish<'_>, faults: Faults) {
        let properties = Arc::new(Properties {
            content_type: publish.properties.content_type.map(str::to_owned),
            user: publish
                .properties
                .user_properties
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        });
        for subscription in self.shared.subscriptions.lock().iter() {
            if !matches(&subscription.filter, publish.topic) {
                continue;
            }
            let count = self.shared.delivered.fetch_add(1, Ordering::Relaxed) + 1;
            let every =
                |wanted: Option<u64>| wanted.is_some_and(|every| count.is_multiple_of(every));
            if every(faults.drop_every) {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let delivery = Delivery {
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos.min(subscription.qos),
                properties: Arc::clone(&properties),
            };
            if every(faults.repeat_every) {
                let _ = subscription.deliveries.send(delivery.clone());
            }
            let _ = subscription.deliveries.send(delivery);
        }
    }

    fn deliver(&mut self, delivery: &Delivery, out: &mut Vec<u8>) {
        let packet_id = (delivery.qos != QoS::AtMostOnce).then(|| {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            self.next_id
        });
        let user = &delivery.properties.user;
        let publish = Packet::Publish(Publish {
            qos: delivery.qos,
            topic: &delivery.topic,
            packet_id,
            payload: &delivery.payload,
            properties: PublishProperties {
                content_type: delivery.properties.content_type.as_deref(),
                user_properties: user.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
                ..PublishProperties::default()
            },
            ..Publish::default()
        });
        publish.encode(self.version.unwrap(), out).unwrap();
    }
}
