//! What the client sends: QoS 1/2 state of the receiver side [MQTT-4.3.2, 4.3.3], and its quotas.

use nightjar_mqtt::{QoS, ReasonCode};

use super::seldom::Seldom;
use super::{AckPacket, Session, SessionError};
use crate::Counter;
use crate::broker::OpenRequest;
use crate::message::Message;
use crate::publish::PublishBatch;
use crate::router::Route;
use crate::shard::Opened;

#[derive(Debug)]
pub(super) struct Inbound {
    /// QoS 2 ids taken whose PUBREL has not come, ascending.
    awaiting_rel: Seldom<u16>,
    max_awaiting_rel: usize,
    receive_maximum: Option<u16>,
    /// QoS 1/2 messages whose last acknowledgement was not sent.
    unacknowledged: usize,
    durable: bool,
    received: Seldom<u16>,
    released: Seldom<u16>,
}

impl Inbound {
    pub fn new(request: &OpenRequest, opened: &Opened) -> Self {
        let mut awaiting_rel = opened.received.clone();
        awaiting_rel.sort_unstable();
        Self {
            awaiting_rel: awaiting_rel.into_iter().collect(),
            max_awaiting_rel: request.max_awaiting_rel,
            receive_maximum: request.receive_maximum,
            unacknowledged: 0,
            durable: opened.durable,
            received: Seldom::default(),
            released: Seldom::default(),
        }
    }

    fn count(&mut self) -> Result<(), SessionError> {
        if let Some(max) = self.receive_maximum
            && self.unacknowledged >= usize::from(max)
        {
            return Err(SessionError::ReceiveMaximumExceeded(max));
        }
        self.unacknowledged += 1;
        Ok(())
    }

    pub fn acknowledged(&mut self, packet: AckPacket, reason: ReasonCode) {
        let done = match packet {
            AckPacket::Puback | AckPacket::Pubcomp => true,
            AckPacket::Pubrec => reason.is_error(),
            AckPacket::Pubrel => false,
        };
        if done {
            self.unacknowledged = self.unacknowledged.saturating_sub(1);
        }
    }

    pub const fn has_changes(&self) -> bool {
        !self.received.is_empty() || !self.released.is_empty()
    }

    pub fn take_changes(&mut self) -> (Vec<u16>, Vec<u16>) {
        (
            self.received.take().collect(),
            self.released.take().collect(),
        )
    }
}

/// What the front-end found out about a PUBLISH before it came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Publish it.
    Admitted,
    /// Do not publish it, acknowledge it with this code (0x87, 0x97 ...; 3.x sees a plain acknowledgement).
    Refused(ReasonCode),
}

impl Session {
    /// Must this QoS 2 message be published, or was it taken before? A repeat of an open id is acknowledged again
    /// and not published again [MQTT-4.3.3-10, -12].
    #[must_use]
    pub fn is_repeat(&self, qos: QoS, id: u16) -> bool {
        qos == QoS::ExactlyOnce && self.inbound.awaiting_rel.binary_search(&id).is_ok()
    }

    /// A PUBLISH came. Its acknowledgement leaves after the batch is finished and committed.
    ///
    /// # Errors
    /// A quota was exceeded: the connection must end.
    pub fn publish(
        &mut self,
        message: &Message,
        route: &Route,
        id: u16,
        admission: Admission,
        batch: &mut PublishBatch,
    ) -> Result<(), SessionError> {
        match message.qos() {
            QoS::AtMostOnce => {
                if admission == Admission::Admitted {
                    self.broker.publish_gathered(message, route, batch);
                }
            }
            QoS::AtLeastOnce => {
                self.inbound.count()?;
                let reason = self.admit(message, route, admission, batch);
                self.owe_ack(AckPacket::Puback, id, reason);
            }
            QoS::ExactlyOnce => {
                let Err(at) = self.inbound.awaiting_rel.binary_search(&id) else {
                    self.broker.metrics().count(Counter::DuplicatesReceived);
                    self.owe_ack(AckPacket::Pubrec, id, ReasonCode::Success);
                    return Ok(());
                };
                if self.inbound.receive_maximum.is_none()
                    && self.inbound.awaiting_rel.len() >= self.inbound.max_awaiting_rel
                {
                    return Err(SessionError::TooManyAwaitingRelease(
                        self.inbound.max_awaiting_rel,
                    ));
                }
                self.inbound.count()?;
                let reason = self.admit(message, route, admission, batch);
                if !reason.is_error() {
                    self.inbound.awaiting_rel.insert(at, id);
                    if self.inbound.durable {
                        self.inbound.received.push_back(id);
                    }
                }
                self.owe_ack(AckPacket::Pubrec, id, reason);
            }
        }
        Ok(())
    }

    fn admit(
        &self,
        message: &Message,
        route: &Route,
        admission: Admission,
        batch: &mut PublishBatch,
    ) -> ReasonCode {
        match admission {
            Admission::Refused(code) => code,
            Admission::Admitted => {
                let published = self.broker.publish(message, route, batch);
                if published.rejected {
                    ReasonCode::QuotaExceeded
                } else if published.matched {
                    ReasonCode::Success
                } else {
                    ReasonCode::NoMatchingSubscribers
                }
            }
        }
    }

    /// A PUBLISH that was taken before came again: acknowledge it again.
    pub fn repeat(&mut self, id: u16) {
        self.broker.metrics().count(Counter::DuplicatesReceived);
        self.owe_ack(AckPacket::Pubrec, id, ReasonCode::Success);
    }

    /// PUBREL came: PUBCOMP is owed [MQTT-4.3.3-11]; with 0x92 if the id is not known.
    pub fn pubrel(&mut self, id: u16) {
        let reason = match self.inbound.awaiting_rel.binary_search(&id) {
            Ok(at) => {
                self.inbound.awaiting_rel.remove(at);
                if self.inbound.durable {
                    self.inbound.released.push_back(id);
                }
                ReasonCode::Success
            }
            Err(_) => ReasonCode::PacketIdentifierNotFound,
        };
        self.owe_ack(AckPacket::Pubcomp, id, reason);
    }
}
