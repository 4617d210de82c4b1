//! Lines of traces: what packets say, never what payloads hold.

use nightjar_broker::{AckPacket, Timestamp, Transmit};
use nightjar_mqtt::Packet;

use super::connection::Connection;

impl Connection {
    /// Writes a line for a packet of the client.
    #[cold]
    pub(super) fn trace_received(&self, packet: &Packet<'_>, now: Timestamp) {
        let tracer = self.session.broker().tracer();
        let peer = Some(self.terms.info.peer);
        let id = &*self.terms.client_id;
        let name = packet.packet_type().as_str();
        match packet {
            Packet::Publish(publish) => {
                let mounted;
                let topic = match &self.terms.mountpoint {
                    Some(mountpoint) => {
                        mounted = format!("{mountpoint}{}", publish.topic);
                        &mounted
                    }
                    None => publish.topic,
                };
                let text = format_args!(
                    "{name} received: {topic}, QoS {}, retain {}, {} bytes, packet id {}",
                    publish.qos.bits(),
                    publish.retain,
                    publish.payload.len(),
                    publish.packet_id.unwrap_or(0)
                );
                tracer.line(id, peer, Some(topic), text, now);
            }
            Packet::Subscribe(subscribe) => {
                for wanted in &subscribe.subscriptions {
                    let filter = wanted.filter;
                    let text = format_args!("{name} received: {filter}");
                    tracer.line(id, peer, Some(filter), text, now);
                }
            }
            Packet::Unsubscribe(unsubscribe) => {
                for filter in &unsubscribe.filters {
                    let text = format_args!("{name} received: {filter}");
                    tracer.line(id, peer, Some(filter), text, now);
                }
            }
            _ => tracer.line(id, peer, None, format_args!("{name} received"), now),
        }
    }

    /// Writes a line for a packet to the client.
    #[cold]
    pub(super) fn trace_sent(&self, transmit: &Transmit, now: Timestamp) {
        let tracer = self.session.broker().tracer();
        let peer = Some(self.terms.info.peer);
        let client = &*self.terms.client_id;
        match transmit {
            Transmit::Publish { delivery, id, dup } => {
                let message = &delivery.message;
                let topic = message.topic().as_str();
                let text = format_args!(
                    "PUBLISH sent: {topic}, QoS {}, retain {}, {} bytes, packet id {id}, dup {dup}, from {}",
                    delivery.qos.bits(),
                    delivery.retain,
                    message.payload().len(),
                    message.head().publisher.as_deref().unwrap_or("-")
                );
                tracer.line(client, peer, Some(topic), text, now);
            }
            Transmit::Ack { packet, id, reason } => {
                let name = match packet {
                    AckPacket::Puback => "PUBACK",
                    AckPacket::Pubrec => "PUBREC",
                    AckPacket::Pubrel => "PUBREL",
                    AckPacket::Pubcomp => "PUBCOMP",
                };
                let text = format_args!("{name} sent: packet id {id}, 0x{:02X}", reason.code());
                tracer.line(client, peer, None, text, now);
            }
            Transmit::Suback { id, codes } | Transmit::Unsuback { id, codes } => {
                let name = match transmit {
                    Transmit::Suback { .. } => "SUBACK",
                    _ => "UNSUBACK",
                };
                let codes: Vec<String> = codes
                    .iter()
                    .map(|code| format!("0x{:02X}", code.code()))
                    .collect();
                let text = format_args!("{name} sent: packet id {id}, {}", codes.join(" "));
                tracer.line(client, peer, None, text, now);
            }
        }
    }
}
