//! `-d`: one line for each packet, in mosquitto's words.

use std::sync::Arc;

use nightjar_mqtt::Packet;
use nightjar_mqtt::packet::Publish;
use parking_lot::Mutex;

use crate::session::{Direction, Tracer};

/// A tracer that prints to stdout. The client identifier is the one given until the broker assigns
/// another.
pub fn tracer(client_id: &str) -> Tracer {
    let client_id = Arc::new(Mutex::new(client_id.to_owned()));
    Tracer::new(move |direction, packet| {
        let mut id = client_id.lock();
        if let Packet::Connack(connack) = packet
            && let Some(assigned) = connack.properties.assigned_client_identifier
        {
            assigned.clone_into(&mut id);
        }
        let name = if id.is_empty() { "(null)" } else { id.as_str() };
        let verb = match direction {
            Direction::Sent => "sending",
            Direction::Received => "received",
        };
        println!("Client {name} {verb} {}", describe(packet));
    })
}

fn publish_line(publish: &Publish<'_>) -> String {
    format!(
        "PUBLISH (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
        u8::from(publish.dup),
        publish.qos,
        u8::from(publish.retain),
        publish.packet_id.unwrap_or(0),
        publish.topic,
        publish.payload.len()
    )
}

fn describe(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connack(connack) => format!("CONNACK ({})", connack.reason.code()),
        Packet::Publish(publish) => publish_line(publish),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            format!(
                "{} (Mid: {}, RC:{})",
                packet.packet_type(),
                ack.packet_id,
                ack.reason.code()
            )
        }
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> = subscribe
                .subscriptions
                .iter()
                .map(|s| {
                    let options = s.options;
                    let bits = u8::from(options.no_local) << 2
                        | u8::from(options.retain_as_published) << 3
                        | (options.retain_handling as u8) << 4;
                    format!(
                        "Topic: {}, QoS: {}, Options: 0x{bits:02x}",
                        s.filter, options.qos
                    )
                })
                .collect();
            format!(
                "SUBSCRIBE (Mid: {}, {})",
                subscribe.packet_id,
                filters.join("; ")
            )
        }
        Packet::Suback(suback) => {
            let codes: Vec<_> = suback
                .reasons
                .iter()
                .map(|r| r.code().to_string())
                .collect();
            format!(
                "SUBACK\nSubscribed (mid: {}): {}",
                suback.packet_id,
                codes.join(", ")
            )
        }
        Packet::Unsubscribe(unsubscribe) => format!(
            "UNSUBSCRIBE (Mid: {}, Topic: {})",
            unsubscribe.packet_id,
            unsubscribe.filters.join("; ")
        ),
        Packet::Unsuback(unsuback) => format!("UNSUBACK (Mid: {})", unsuback.packet_id),
        Packet::Disconnect(disconnect) if disconnect.reason.code() != 0 => {
            format!("DISCONNECT ({})", disconnect.reason.code())
        }
        other => other.packet_type().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use nightjar_mqtt::packet::{
        Ack, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions,
    };
    use nightjar_mqtt::{QoS, ReasonCode};

    use super::*;

    #[test]
    fn lines_are_those_of_mosquitto() {
        let publish = Packet::Publish(Publish {
            qos: QoS::AtLeastOnce,
            topic: "a",
            packet_id: Some(1),
            payload: b"hello!",
            ..Publish::default()
        });
        assert_eq!(
            describe(&publish),
            "PUBLISH (d0, q1, r0, m1, 'a', ... (6 bytes))"
        );
        let puback = Packet::Puback(Ack::new(1, ReasonCode::NoMatchingSubscribers));
        assert_eq!(describe(&puback), "PUBACK (Mid: 1, RC:16)");
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscriptions: vec![Subscription {
                filter: "a",
                options: SubscriptionOptions {
                    qos: QoS::AtLeastOnce,
                    retain_as_published: true,
                    ..SubscriptionOptions::default()
                },
            }],
            properties: SubscribeProperties::default(),
        });
        assert_eq!(
            describe(&subscribe),
            "SUBSCRIBE (Mid: 1, Topic: a, QoS: 1, Options: 0x08)"
        );
        assert_eq!(describe(&Packet::Pingreq), "PINGREQ");
    }
}
