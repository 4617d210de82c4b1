//! What the session sends, in wire form.

use std::cell::RefCell;

use nightjar_broker::{AckPacket, Delivery, DropReason, Timestamp, Transmit};
use nightjar_mqtt::packet::{AckKind, AckProperties, PublishHead, Suback, Unsuback, encode_ack};
use nightjar_mqtt::{Packet, ProtocolVersion, ReasonCode};
use smallvec::SmallVec;

use super::alias::Aliases;
use super::connection::Connection;
use super::end::End;
use super::message::encode_forwarded;

thread_local! {
    /// The forwarded properties of one delivery in wire form.
    static FORWARDED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Connection {
    /// Appends one thing to send. True if it was a message.
    #[inline]
    pub(super) fn encode(
        &mut self,
        transmit: Transmit,
        out: &mut Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, End> {
        let version = self.terms.version;
        match transmit {
            Transmit::Publish { delivery, id, dup } => {
                return Ok(self.encode_publish(&delivery, id, dup, out, now));
            }
            Transmit::Ack { packet, id, reason } => {
                let kind = match packet {
                    AckPacket::Puback => AckKind::Puback,
                    AckPacket::Pubrec => AckKind::Pubrec,
                    AckPacket::Pubrel => AckKind::Pubrel,
                    AckPacket::Pubcomp => AckKind::Pubcomp,
                };
                encode_ack(out, kind, version, id, reason);
            }
            Transmit::Suback { id, codes } => {
                let reasons = if version.is_v5() {
                    codes
                } else {
                    codes.into_iter().map(suback_3x).collect()
                };
                let suback = Suback {
                    packet_id: id,
                    reasons,
                    properties: AckProperties::default(),
                };
                encode(&Packet::Suback(suback), version, out)?;
            }
            Transmit::Unsuback { id, codes } => {
                let reasons = if version.is_v5() { codes } else { Vec::new() };
                let unsuback = Unsuback {
                    packet_id: id,
                    reasons,
                    properties: AckProperties::default(),
                };
                encode(&Packet::Unsuback(unsuback), version, out)?;
            }
        }
        Ok(false)
    }

    #[inline]
    fn encode_publish(
        &mut self,
        delivery: &Delivery,
        id: u16,
        dup: bool,
        out: &mut Vec<u8>,
        now: Timestamp,
    ) -> bool {
        if delivery.checked && !self.session.may_deliver(delivery, &mut self.terms.acl) {
            self.session.not_sent(delivery, id, DropReason::Denied);
            return false;
        }
        let message = &delivery.message;
        let full = message.topic().as_str();
        let topic = match &self.terms.mountpoint {
            Some(mountpoint) => full.strip_prefix(&**mountpoint).unwrap_or(full),
            None => full,
        };
        let mut head = PublishHead {
            dup,
            qos: delivery.qos,
            retain: delivery.retain,
            topic,
            packet_id: (id != 0).then_some(id),
            ..PublishHead::default()
        };
        if !self.terms.version.is_v5() {
            return self.append(delivery, id, &head, out);
        }
        let ids: SmallVec<[u32; 4]> = delivery.subscription_ids().collect();
        head.subscription_identifiers = &ids;
        head.message_expiry_interval = message.expiry_left(now);
        let mut new_alias = false;
        if self.terms.alias_max_out > 0 {
            let aliases = self
                .aliases
                .get_or_insert_with(|| Box::new(Aliases::default()));
            if let Some((alias, known)) = aliases.outgoing(message, self.terms.alias_max_out) {
                head.topic_alias = Some(alias);
                new_alias = !known;
                if known {
                    head.topic = "";
                }
            }
        }
        let sent = match message.properties() {
            None => self.append(delivery, id, &head, out),
            Some(properties) => FORWARDED.with(|buffer| {
                let mut buffer = buffer.borrow_mut();
                buffer.clear();
                // What could not be written was refused by the codec on the way in.
                let _ = encode_forwarded(properties, &mut buffer);
                let head = PublishHead {
                    forwarded: &buffer,
                    ..head
                };
                self.append(delivery, id, &head, out)
            }),
        };
        if sent
            && new_alias
            && let Some(aliases) = &mut self.aliases
        {
            aliases.sent(message);
        }
        sent
    }

    /// Appends the packet unless it is larger than the client takes: then it is dropped as if it had been delivered
    /// [MQTT-3.1.2-25].
    #[inline]
    fn append(
        &mut self,
        delivery: &Delivery,
        id: u16,
        head: &PublishHead<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let payload = delivery.message.payload();
        let fits = self.terms.max_packet_out == u32::MAX
            || head
                .encoded_len(self.terms.version, payload.len())
                .is_ok_and(|len| len <= self.terms.max_packet_out as usize);
        if fits && head.encode_with(self.terms.version, payload, out).is_ok() {
            return true;
        }
        self.session.not_sent(delivery, id, DropReason::TooLarge);
        false
    }
}

fn encode(packet: &Packet<'_>, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), End> {
    packet.encode(version, out).map_err(|error| {
        End::by_server(
            ReasonCode::UnspecifiedError,
            nightjar_broker::Counter::DisconnectsServer,
            error.to_string(),
        )
    })
}

/// SUBACK of 3.1.1 knows the granted QoS and 0x80. 3.1 has no failure code; 0x80 is what its clients are used to.
fn suback_3x(code: ReasonCode) -> ReasonCode {
    if code.is_error() {
        ReasonCode::UnspecifiedError
    } else {
        code
    }
}
