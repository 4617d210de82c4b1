//! The client's half of MQTT, sans-IO: packet identifiers, flow control, QoS 1 and 2, aliases.
//!
//! Packets go in by [`Session::handle`], bytes to be sent come out in a `Vec`. No socket, no clock:
//! [`crate::connection`] drives it, and tests drive it without either.

mod error;
mod event;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use nightjar_mqtt::packet::{
    Ack, Auth, AuthProperties, Disconnect, DisconnectProperties, Publish, Subscribe,
    SubscribeProperties, Subscription, SubscriptionOptions, Unsubscribe, UnsubscribeProperties,
};
use nightjar_mqtt::{Packet, ProtocolVersion, QoS, ReasonCode};

use crate::message::{Message, borrow};
use crate::options::ConnectOptions;

pub use error::SessionError;
pub use event::{Connected, Event};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the broker.
    Sent,
    /// From the broker.
    Received,
}

type Trace = dyn Fn(Direction, &Packet<'_>) + Send + Sync;

/// Called with every packet, before it is handled or sent.
#[derive(Clone)]
pub struct Tracer(Arc<Trace>);

impl Tracer {
    /// A tracer that calls `trace`.
    pub fn new(trace: impl Fn(Direction, &Packet<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(trace))
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracer")
    }
}

#[derive(Debug)]
enum Pending {
    Publish(Box<Message>),
    /// PUBREC came, PUBREL was sent.
    Released,
    Subscribe,
    Unsubscribe,
}

/// The state of one client, across connections.
#[derive(Debug)]
pub struct Session {
    version: ProtocolVersion,
    auto_ack: bool,
    max_inflight: u16,
    /// What we allow the broker.
    receive_maximum: u16,
    alias_maximum: u16,
    /// What the broker allows us.
    server: Option<Connected>,
    last_id: u16,
    order: u64,
    /// Every packet identifier of ours in use, with its place in the order of sending.
    pending: HashMap<u16, (u64, Pending)>,
    /// PUBLISH packets of ours that count against the broker's receive maximum.
    inflight: u16,
    /// QoS 2 messages delivered to the caller whose PUBREL has not come [MQTT-4.3.3-10].
    incoming_qos2: HashSet<u16>,
    /// Messages that the caller has not acknowledged yet.
    unacknowledged: HashMap<u16, QoS>,
    /// Topic names by alias, index 0 is alias 1.
    aliases: Vec<Option<Box<str>>>,
    /// Messages of a session the broker forgot.
    orphans: Vec<Message>,
    tracer: Option<Tracer>,
}

impl Session {
    /// A new session as the options say.
    pub fn new(options: &ConnectOptions) -> Self {
        let properties = &options.properties;
        Self {
            version: options.version,
            auto_ack: options.auto_ack,
            max_inflight: options.max_inflight.max(1),
            receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
            alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            server: None,
            last_id: 0,
            order: 0,
            pending: HashMap::new(),
            inflight: 0,
            incoming_qos2: HashSet::new(),
            unacknowledged: HashMap::new(),
            aliases: Vec::new(),
            orphans: Vec::new(),
            tracer: options.tracer.clone(),
        }
    }

    /// The version spoken.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// What the broker announced, once it answered.
    pub fn server(&self) -> Option<&Connected> {
        self.server.as_ref()
    }

    /// QoS 1 and 2 messages that may be in flight at once.
    pub fn window(&self) -> u16 {
        let server = self
            .server
            .as_ref()
            .map_or(u16::MAX, |server| server.receive_maximum);
        self.max_inflight.min(server)
    }

    /// QoS 1 and 2 messages sent and not done.
    pub fn inflight(&self) -> u16 {
        self.inflight
    }

    /// True where a QoS 1 or 2 message may be sent now.
    pub fn can_publish(&self) -> bool {
        self.inflight < self.window()
    }

    /// Appends CONNECT. What belonged to the last network connection is forgotten: topic aliases, and
    /// SUBSCRIBE and UNSUBSCRIBE without an answer.
    ///
    /// # Errors
    /// [`SessionError::Encode`] for options that fit no packet.
    pub fn connect(
        &mut self,
        options: &ConnectOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        self.server = None;
        self.aliases.clear();
        self.unacknowledged.clear();
        self.pending
            .retain(|_, (_, pending)| matches!(pending, Pending::Publish(_) | Pending::Released));
        self.put(&Packet::Connect(Box::new(options.to_connect())), out)
    }

    /// Appends what is unacknowledged after a reconnect that found the session present: PUBLISH with
    /// DUP and PUBREL, in the order first sent [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    ///
    /// # Errors
    /// [`SessionError::Encode`]; the packets were encoded before, so it does not happen.
    pub fn resend(&mut self, out: &mut Vec<u8>) -> Result<(), SessionError> {
        let mut pending: Vec<_> = self
            .pending
            .iter()
            .map(|(id, (order, p))| (*order, *id, p))
            .collect();
        pending.sort_unstable_by_key(|&(order, ..)| order);
        for (_, id, pending) in pending {
            match pending {
                Pending::Publish(message) => {
                    self.put(&Packet::Publish(message.to_publish(Some(id), true)), out)?;
                }
                Pending::Released => {
                    self.put(&Packet::Pubrel(Ack::new(id, ReasonCode::Success)), out)?;
                }
                Pending::Subscribe | Pending::Unsubscribe => {}
            }
        }
        Ok(())
    }

    /// Forgets all state, as after a CONNACK without session present [MQTT-3.2.2-5]; PUBLISH packets
    /// without an answer become orphans.
    pub fn clear(&mut self) {
        let mut lost: Vec<_> = self
            .pending
            .drain()
            .filter_map(|(_, (order, pending))| match pending {
                Pending::Publish(message) => Some((order, *message)),
                _ => None,
            })
            .collect();
        lost.sort_unstable_by_key(|&(order, _)| order);
        self.orphans = lost.into_iter().map(|(_, message)| message).collect();
        self.inflight = 0;
        self.incoming_qos2.clear();
        self.unacknowledged.clear();
    }

    /// Messages that were in flight when the broker forgot the session, in order; at most a window
    /// full.
    pub fn take_orphans(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.orphans)
    }

    /// Appends a PUBLISH and returns its packet identifier (`None` with QoS 0). Nothing is appended on
    /// an error.
    ///
    /// # Errors
    /// [`SessionError::WindowFull`] until one of the messages in flight is done, and what the broker
    /// announced not to take.
    pub fn publish(
        &mut self,
        message: Message,
        out: &mut Vec<u8>,
    ) -> Result<Option<u16>, SessionError> {
        if let Some(server) = &self.server {
            if message.qos > server.maximum_qos {
                let (max, got) = (server.maximum_qos, message.qos);
                return Err(SessionError::QosNotSupported { max, got });
            }
            if message.retain && !server.retain_available {
                return Err(SessionError::RetainNotSupported);
            }
            if let Some(got) = message.properties.topic_alias
                && (got == 0 || got > server.topic_alias_maximum)
            {
                let max = server.topic_alias_maximum;
                return Err(SessionError::AliasTooHigh { max, got });
            }
        }
        if message.qos == QoS::AtMostOnce {
            self.put(&Packet::Publish(message.to_publish(None, false)), out)?;
            return Ok(None);
        }
        if !self.can_publish() {
            return Err(SessionError::WindowFull(self.window()));
        }
        let id = self.free_id()?;
        self.put(&Packet::Publish(message.to_publish(Some(id), false)), out)?;
        self.inflight += 1;
        self.remember(id, Pending::Publish(Box::new(message)));
        Ok(Some(id))
    }

    /// Appends a SUBSCRIBE and returns its packet identifier.
    ///
    /// # Errors
    /// [`SessionError::Encode`] for filters too long or none, [`SessionError::NoPacketId`].
    pub fn subscribe(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        subscription_identifier: Option<u32>,
        user_properties: &[(String, String)],
        out: &mut Vec<u8>,
    ) -> Result<u16, SessionError> {
        let packet_id = self.free_id()?;
        let packet = Packet::Subscribe(Subscribe {
            packet_id,
            subscriptions: filters
                .iter()
                .map(|&(filter, options)| Subscription { filter, options })
                .collect(),
            properties: SubscribeProperties {
                subscription_identifier,
                user_properties: borrow(user_properties),
            },
        });
        self.put(&packet, out)?;
        self.remember(packet_id, Pending::Subscribe);
        Ok(packet_id)
    }

    /// Appends an UNSUBSCRIBE and returns its packet identifier.
    ///
    /// # Errors
    /// As [`Session::subscribe`].
    pub fn unsubscribe(
        &mut self,
        filters: &[&str],
        user_properties: &[(String, String)],
        out: &mut Vec<u8>,
    ) -> Result<u16, SessionError> {
        let packet_id = self.free_id()?;
        let packet = Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: filters.to_vec(),
            properties: UnsubscribeProperties {
                user_properties: borrow(user_properties),
            },
        });
        self.put(&packet, out)?;
        self.remember(packet_id, Pending::Unsubscribe);
        Ok(packet_id)
    }

    /// Appends PUBACK or PUBREC for a message, where acknowledgements are the caller's. A packet
    /// identifier that waits for none is ignored.
    ///
    /// # Errors
    /// [`SessionError::Encode`] for a reason code these packets do not have.
    pub fn acknowledge(
        &mut self,
        packet_id: u16,
        reason: ReasonCode,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let ack = Ack::new(packet_id, reason);
        match self.unacknowledged.remove(&packet_id) {
            None | Some(QoS::AtMostOnce) => Ok(()),
            Some(QoS::AtLeastOnce) => self.put(&Packet::Puback(ack), out),
            Some(QoS::ExactlyOnce) => {
                if reason.is_error() {
                    self.incoming_qos2.remove(&packet_id);
                }
                self.put(&Packet::Pubrec(ack), out)
            }
        }
    }

    /// Appends PINGREQ.
    ///
    /// # Errors
    /// None in practice: the packet has two fixed bytes.
    pub fn ping(&self, out: &mut Vec<u8>) -> Result<(), SessionError> {
        self.put(&Packet::Pingreq, out)
    }

    /// Appends AUTH.
    ///
    /// # Errors
    /// [`SessionError::Encode`] outside of 5.0.
    pub fn auth(
        &self,
        reason: ReasonCode,
        method: &str,
        data: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let properties = AuthProperties {
            authentication_method: Some(method),
            authentication_data: data,
            ..AuthProperties::default()
        };
        self.put(&Packet::Auth(Auth { reason, properties }), out)
    }

    /// Appends DISCONNECT; in 3.x reason and properties are not carried.
    ///
    /// # Errors
    /// [`SessionError::Encode`] for properties that do not fit.
    pub fn disconnect(
        &self,
        reason: ReasonCode,
        session_expiry: Option<u32>,
        user_properties: &[(String, String)],
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let properties = DisconnectProperties {
            session_expiry_interval: session_expiry,
            user_properties: borrow(user_properties),
            ..DisconnectProperties::default()
        };
        self.put(&Packet::Disconnect(Disconnect { reason, properties }), out)
    }

    /// Takes a packet of the broker, appends what has to be answered, and says what it means.
    /// `None`: nothing the caller has to know.
    ///
    /// # Errors
    /// Packets the broker may not send; the connection has to end then.
    pub fn handle(
        &mut self,
        packet: Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event>, SessionError> {
        let packet_type = packet.packet_type();
        if let Some(Tracer(trace)) = &self.tracer {
            trace(Direction::Received, &packet);
        }
        if self.server.is_none() && !matches!(packet, Packet::Connack(_) | Packet::Auth(_)) {
            return Err(SessionError::Unexpected(packet_type));
        }
        Ok(match packet {
            Packet::Connack(connack) => {
                if self.server.is_some() {
                    return Err(SessionError::Unexpected(packet_type));
                }
                let connected = Connected::new(&connack);
                if !connected.reason.is_error() {
                    if !connected.session_present {
                        self.clear();
                    }
                    self.server = Some(connected.clone());
                }
                Some(Event::Connected(Box::new(connected)))
            }
            Packet::Publish(publish) => self.incoming(&publish, out)?.map(Event::Message),
            Packet::Puback(ack) => match self.pending.get(&ack.packet_id) {
                Some((_, Pending::Publish(message))) if message.qos == QoS::AtLeastOnce => {
                    Some(self.published(ack.packet_id, ack.reason))
                }
                _ => None,
            },
            Packet::Pubrec(ack) => match self.pending.get_mut(&ack.packet_id) {
                Some((_, Pending::Publish(message))) if message.qos == QoS::ExactlyOnce => {
                    if ack.reason.is_error() {
                        Some(self.published(ack.packet_id, ack.reason))
                    } else {
                        self.remember(ack.packet_id, Pending::Released);
                        self.put(
                            &Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::Success)),
                            out,
                        )?;
                        None
                    }
                }
                Some((_, Pending::Released)) => {
                    self.put(
                        &Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::Success)),
                        out,
                    )?;
                    None
                }
                _ => {
                    let unknown = Ack::new(ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                    self.put(&Packet::Pubrel(unknown), out)?;
                    None
                }
            },
            Packet::Pubrel(ack) => {
                let known = self.incoming_qos2.remove(&ack.packet_id);
                let reason = if known {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                self.put(&Packet::Pubcomp(Ack::new(ack.packet_id, reason)), out)?;
                None
            }
            Packet::Pubcomp(ack) => match self.pending.get(&ack.packet_id) {
                Some((_, Pending::Released)) => Some(self.published(ack.packet_id, ack.reason)),
                _ => None,
            },
            Packet::Suback(suback) => match self.pending.get(&suback.packet_id) {
                Some((_, Pending::Subscribe)) => {
                    self.pending.remove(&suback.packet_id);
                    Some(Event::Subscribed {
                        packet_id: suback.packet_id,
                        reasons: suback.reasons,
                    })
                }
                _ => None,
            },
            Packet::Unsuback(unsuback) => match self.pending.get(&unsuback.packet_id) {
                Some((_, Pending::Unsubscribe)) => {
                    self.pending.remove(&unsuback.packet_id);
                    Some(Event::Unsubscribed {
                        packet_id: unsuback.packet_id,
                        reasons: unsuback.reasons,
                    })
                }
                _ => None,
            },
            Packet::Pingresp => Some(Event::Pong),
            Packet::Disconnect(disconnect) => Some(Event::Disconnected {
                reason: disconnect.reason,
                reason_string: disconnect.properties.reason_string.map(str::to_owned),
                server_reference: disconnect.properties.server_reference.map(str::to_owned),
            }),
            Packet::Auth(auth) => Some(Event::Auth {
                reason: auth.reason,
                method: auth.properties.authentication_method.map(str::to_owned),
                data: auth.properties.authentication_data.map(<[u8]>::to_vec),
            }),
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq => return Err(SessionError::Unexpected(packet_type)),
        })
    }

    fn published(&mut self, packet_id: u16, reason: ReasonCode) -> Event {
        self.pending.remove(&packet_id);
        self.inflight = self.inflight.saturating_sub(1);
        Event::Published { packet_id, reason }
    }

    /// A PUBLISH of the broker; `None` for a QoS 2 message the caller already has.
    fn incoming(
        &mut self,
        publish: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Message>, SessionError> {
        let topic = self.resolve_alias(publish)?;
        let message = match topic {
            Some(alias) => {
                let known = self.aliases[alias].as_deref();
                let topic = known.expect("resolve_alias returns only aliases that are set");
                Message::from_publish(publish, topic)
            }
            None => Message::from_publish(publish, publish.topic),
        };
        let Some(id) = publish.packet_id else {
            return Ok(Some(message));
        };
        if publish.qos == QoS::ExactlyOnce {
            if self.incoming_qos2.contains(&id) {
                // Delivered before: only the answer is repeated, if it was given at all.
                if !self.unacknowledged.contains_key(&id) {
                    self.put(&Packet::Pubrec(Ack::new(id, ReasonCode::Success)), out)?;
                }
                return Ok(None);
            }
            self.incoming_qos2.insert(id);
        }
        self.unacknowledged.insert(id, publish.qos);
        let most = self.incoming_qos2.len() + self.unacknowledged.len();
        if most > usize::from(self.receive_maximum) {
            // A QoS 2 message may be in both; the exact count is only needed near the limit.
            let qos_1 = self
                .unacknowledged
                .values()
                .filter(|&&qos| qos == QoS::AtLeastOnce);
            if self.incoming_qos2.len() + qos_1.count() > usize::from(self.receive_maximum) {
                return Err(SessionError::ReceiveMaximumExceeded(self.receive_maximum));
            }
        }
        if self.auto_ack {
            self.acknowledge(id, ReasonCode::Success, out)?;
        }
        Ok(Some(message))
    }

    /// Sets or looks up a topic alias; returns its index where the topic name has to come from it.
    fn resolve_alias(&mut self, publish: &Publish<'_>) -> Result<Option<usize>, SessionError> {
        let Some(alias) = publish.properties.topic_alias else {
            return Ok(None);
        };
        if alias == 0 || alias > self.alias_maximum {
            return Err(SessionError::AliasInvalid(alias));
        }
        let index = usize::from(alias) - 1;
        if !publish.topic.is_empty() {
            if self.aliases.len() <= index {
                self.aliases.resize(index + 1, None);
            }
            self.aliases[index] = Some(publish.topic.into());
            return Ok(None);
        }
        match self.aliases.get(index) {
            Some(Some(_)) => Ok(Some(index)),
            _ => Err(SessionError::AliasInvalid(alias)),
        }
    }

    fn remember(&mut self, id: u16, pending: Pending) {
        // PUBREL keeps the order of the PUBREC packets, new packets come last.
        self.order += 1;
        self.pending.insert(id, (self.order, pending));
    }

    fn free_id(&mut self) -> Result<u16, SessionError> {
        if self.pending.len() >= usize::from(u16::MAX) {
            return Err(SessionError::NoPacketId);
        }
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.pending.contains_key(&self.last_id) {
                return Ok(self.last_id);
            }
        }
    }

    fn put(&self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), SessionError> {
        let start = out.len();
        packet.encode(self.version, out)?;
        let got = out.len() - start;
        match self
            .server
            .as_ref()
            .and_then(|server| server.maximum_packet_size)
        {
            Some(max) if got > max as usize => {
                out.truncate(start);
                return Err(SessionError::TooLarge { max, got });
            }
            _ => {}
        }
        if let Some(Tracer(trace)) = &self.tracer {
            trace(Direction::Sent, packet);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
