//! Encoding: what cannot be written is refused whole, what a version lacks is left out, and the fast ways agree.

use nightjar_mqtt::ProtocolVersion::{V5, V31, V311};
use nightjar_mqtt::packet::*;
use nightjar_mqtt::{
    Decoded, Decoder, EncodeError, Packet, PacketType, ProtocolVersion, QoS, ReasonCode,
};

use crate::script::bytes;

/// Encodes behind a byte that must stay.
fn encode(packet: &Packet<'_>, version: ProtocolVersion) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![0x55];
    let result = packet.encode(version, &mut out);
    assert_eq!(out.remove(0), 0x55);
    match result {
        Ok(()) => {
            assert_eq!(packet.encoded_len(version), Ok(out.len()));
            Ok(out)
        }
        Err(error) => {
            assert!(out.is_empty(), "nothing is written in part");
            assert_eq!(packet.encoded_len(version), Err(error));
            Err(error)
        }
    }
}

fn publish<'a>(topic: &'a str) -> Publish<'a> {
    Publish {
        topic,
        ..Publish::default()
    }
}

fn with(properties: PublishProperties<'_>) -> Packet<'_> {
    Packet::Publish(Publish {
        properties,
        ..publish("t")
    })
}

#[test]
fn what_cannot_be_written_is_refused_whole() {
    let long = "x".repeat(65_536);
    let long = long.as_str();
    let too_long = |field| EncodeError::FieldTooLong { field, got: 65_536 };
    let value = |field, expected, got| EncodeError::Value {
        field,
        expected,
        got,
    };
    let connect = |edit: &dyn Fn(&mut Connect<'static>)| {
        let mut connect = Connect::new(V5, "c");
        edit(&mut connect);
        Packet::Connect(Box::new(connect))
    };
    let subscribe = |subscriptions, properties| {
        Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscriptions,
            properties,
        })
    };
    let options = SubscriptionOptions::default();
    let id = |id| SubscribeProperties {
        subscription_identifier: Some(id),
        ..Default::default()
    };
    let suback = |packet_id, reasons| {
        Packet::Suback(Suback {
            packet_id,
            reasons,
            properties: AckProperties::default(),
        })
    };
    let above = "a value above 0";
    let mut connack = Connack::new(false, ReasonCode::Success);
    connack.properties.maximum_qos = Some(QoS::ExactlyOnce);
    let rows: Vec<(&str, Packet<'_>, ProtocolVersion, EncodeError)> = vec![
        (
            "topic too long",
            Packet::Publish(publish(long)),
            V311,
            too_long("topic name"),
        ),
        (
            "content type too long",
            with(PublishProperties {
                content_type: Some(long),
                ..PublishProperties::NONE
            }),
            V5,
            too_long("Content Type"),
        ),
        (
            "correlation data too long",
            with(PublishProperties {
                correlation_data: Some(long.as_bytes()),
                ..PublishProperties::NONE
            }),
            V5,
            too_long("Correlation Data"),
        ),
        (
            "user property too long",
            with(PublishProperties {
                user_properties: vec![("k", long)],
                ..PublishProperties::NONE
            }),
            V5,
            too_long("User Property"),
        ),
        (
            "alias 0",
            with(PublishProperties {
                topic_alias: Some(0),
                ..PublishProperties::NONE
            }),
            V5,
            value("Topic Alias", above, 0),
        ),
        (
            "subscription identifier 0",
            with(PublishProperties {
                subscription_identifiers: vec![1, 0],
                ..PublishProperties::NONE
            }),
            V5,
            value("Subscription Identifier", above, 0),
        ),
        (
            "subscription identifier too large",
            with(PublishProperties {
                subscription_identifiers: vec![268_435_456],
                ..PublishProperties::NONE
            }),
            V5,
            value("Subscription Identifier", "at most 268435455", 268_435_456),
        ),
        (
            "no topic",
            Packet::Publish(publish("")),
            V5,
            value("topic name", "one, or a topic alias", 0),
        ),
        (
            "an alias does not help 3.1.1",
            Packet::Publish(Publish {
                properties: PublishProperties {
                    topic_alias: Some(1),
                    ..PublishProperties::NONE
                },
                ..publish("")
            }),
            V311,
            value("topic name", "one, or a topic alias", 0),
        ),
        (
            "no packet identifier",
            Packet::Publish(Publish {
                qos: QoS::AtLeastOnce,
                ..publish("t")
            }),
            V311,
            EncodeError::NoPacketId(PacketType::Publish),
        ),
        (
            "packet identifier 0",
            Packet::Publish(Publish {
                qos: QoS::ExactlyOnce,
                packet_id: Some(0),
                ..publish("t")
            }),
            V5,
            EncodeError::NoPacketId(PacketType::Publish),
        ),
        (
            "DUP with QoS 0",
            Packet::Publish(Publish {
                dup: true,
                ..publish("t")
            }),
            V5,
            value("DUP", "0 with QoS 0", 1),
        ),
        (
            "ack of 0",
            Packet::Pubrel(Ack::new(0, ReasonCode::Success)),
            V311,
            EncodeError::NoPacketId(PacketType::Pubrel),
        ),
        (
            "SUBSCRIBE of nothing",
            subscribe(vec![], id(1)),
            V5,
            EncodeError::EmptyPayload(PacketType::Subscribe),
        ),
        (
            "SUBSCRIBE with identifier 0",
            subscribe(
                vec![Subscription {
                    filter: "a",
                    options,
                }],
                id(0),
            ),
            V5,
            value("Subscription Identifier", above, 0),
        ),
        (
            "filter too long",
            subscribe(
                vec![Subscription {
                    filter: long,
                    options,
                }],
                SubscribeProperties::default(),
            ),
            V31,
            too_long("topic filter"),
        ),
        (
            "SUBACK of nothing",
            suback(1, vec![]),
            V311,
            EncodeError::EmptyPayload(PacketType::Suback),
        ),
        (
            "SUBACK of 0",
            suback(0, vec![ReasonCode::Success]),
            V5,
            EncodeError::NoPacketId(PacketType::Suback),
        ),
        (
            "UNSUBSCRIBE of nothing",
            Packet::Unsubscribe(Unsubscribe {
                packet_id: 1,
                filters: vec![],
                properties: Default::default(),
            }),
            V311,
            EncodeError::EmptyPayload(PacketType::Unsubscribe),
        ),
        (
            "UNSUBACK of nothing, 5.0",
            Packet::Unsuback(Unsuback {
                packet_id: 1,
                reasons: vec![],
                properties: Default::default(),
            }),
            V5,
            EncodeError::EmptyPayload(PacketType::Unsuback),
        ),
        (
            "session present with an error",
            Packet::Connack(Box::new(Connack::new(true, ReasonCode::NotAuthorized))),
            V311,
            value("session present", "0 with an error", 1),
        ),
        (
            "maximum QoS 2",
            Packet::Connack(Box::new(connack)),
            V5,
            value("Maximum QoS", "0 or 1", 2),
        ),
        (
            "receive maximum 0",
            connect(&|c| c.properties.receive_maximum = Some(0)),
            V5,
            value("Receive Maximum", above, 0),
        ),
        (
            "maximum packet size 0",
            connect(&|c| c.properties.maximum_packet_size = Some(0)),
            V5,
            value("Maximum Packet Size", above, 0),
        ),
        (
            "password alone, 3.1.1",
            connect(&|c| (c.version, c.password) = (V311, Some(&b"p"[..]))),
            V311,
            value("password", "a user name with it", 0),
        ),
        (
            "AUTH in 3.1.1",
            Packet::Auth(Auth {
                reason: ReasonCode::Success,
                properties: AuthProperties::default(),
            }),
            V311,
            EncodeError::NotInVersion(PacketType::Auth),
        ),
        (
            "AUTH without a method",
            Packet::Auth(Auth {
                reason: ReasonCode::ContinueAuthentication,
                properties: AuthProperties::default(),
            }),
            V5,
            value("Authentication Method", "one", 0),
        ),
    ];
    for (name, packet, version, error) in rows {
        assert_eq!(encode(&packet, version), Err(error), "{name}");
    }
}

#[test]
fn what_a_version_lacks_is_left_out() {
    let properties = AckProperties {
        reason_string: Some("why"),
        user_properties: vec![("k", "v")],
    };
    let ack = Ack {
        packet_id: 1,
        reason: ReasonCode::QuotaExceeded,
        properties: properties.clone(),
    };
    let publish = Publish {
        properties: PublishProperties {
            message_expiry_interval: Some(9),
            ..PublishProperties::NONE
        },
        ..publish("t")
    };
    let disconnect = Disconnect::new(ReasonCode::ServerBusy);
    let unsuback = Unsuback {
        packet_id: 1,
        reasons: vec![ReasonCode::Success],
        properties,
    };
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::from_qos(QoS::AtLeastOnce)
    };
    let subscribe = Subscribe {
        packet_id: 1,
        subscriptions: vec![Subscription {
            filter: "a",
            options,
        }],
        properties: SubscribeProperties {
            subscription_identifier: Some(3),
            ..Default::default()
        },
    };
    let connack = |reason| Packet::Connack(Box::new(Connack::new(false, reason)));
    let present = Packet::Connack(Box::new(Connack::new(true, ReasonCode::Success)));
    let rows = [
        ("PUBACK", Packet::Puback(ack), "40 02 0001", V31),
        ("PUBLISH", Packet::Publish(publish), "30 03 \"t\"", V311),
        ("DISCONNECT", Packet::Disconnect(disconnect), "E0 00", V311),
        ("UNSUBACK", Packet::Unsuback(unsuback), "B0 02 0001", V311),
        (
            "SUBSCRIBE",
            Packet::Subscribe(subscribe),
            "82 * 0001 \"a\" 01",
            V311,
        ),
        (
            "CONNACK not authorized",
            connack(ReasonCode::NotAuthorized),
            "20 02 00 05",
            V311,
        ),
        (
            "CONNACK banned",
            connack(ReasonCode::Banned),
            "20 02 00 05",
            V31,
        ),
        (
            "CONNACK quota",
            connack(ReasonCode::QuotaExceeded),
            "20 02 00 03",
            V311,
        ),
        (
            "CONNACK version",
            connack(ReasonCode::UnsupportedProtocolVersion),
            "20 02 00 01",
            V311,
        ),
        (
            "CONNACK session present, 3.1.1",
            present.clone(),
            "20 02 01 00",
            V311,
        ),
        ("CONNACK session present, 3.1", present, "20 02 00 00", V31),
    ];
    for (name, packet, script, version) in rows {
        assert_eq!(encode(&packet, version), Ok(bytes(script)), "{name}");
    }
}

#[test]
fn lengths_at_their_limits() {
    let longest = "x".repeat(65_535);
    for version in ProtocolVersion::ALL {
        let packet = Packet::Publish(Publish {
            payload: b"p",
            ..publish(&longest)
        });
        let out = encode(&packet, version).expect("the longest topic");
        let decoder = Decoder::server(u32::MAX).with_version(version);
        let expected = Decoded::Packet {
            packet,
            consumed: out.len(),
        };
        assert_eq!(decoder.decode(&out), Ok(expected));
    }
    // Each length of the remaining length, at its first and last value.
    for (payload, header) in [
        (0, 2),
        (124, 2),
        (125, 3),
        (16_380, 3),
        (16_381, 4),
        (2_097_148, 4),
        (2_097_149, 5),
        (3_000_000, 5),
    ] {
        let payload = vec![7; payload];
        let packet = Packet::Publish(Publish {
            payload: &payload,
            ..publish("t")
        });
        let out = encode(&packet, V311).expect("below the limit");
        assert_eq!(out.len(), header + 3 + payload.len());
        let decoder = Decoder::server(u32::MAX).with_version(V311);
        assert_eq!(
            decoder.decode(&out),
            Ok(Decoded::Packet {
                packet,
                consumed: out.len()
            })
        );
    }
    // The head need not have the payload at hand, so the protocol's own limit can be tried without the memory.
    let head = PublishHead {
        topic: "t",
        ..PublishHead::default()
    };
    let mut out = Vec::new();
    assert_eq!(head.encode(V311, 268_435_452, &mut out), Ok(()));
    assert_eq!(out, bytes("30 FFFFFF7F \"t\""));
    assert_eq!(head.encoded_len(V311, 268_435_452), Ok(268_435_460));
    assert_eq!(
        head.encode(V311, 268_435_453, &mut out),
        Err(EncodeError::PacketTooLarge(268_435_456))
    );
    assert_eq!(out.len(), 8, "nothing is written in part");
}

#[test]
fn heads_refuse_what_packets_refuse() {
    let long = "x".repeat(65_536);
    let head = PublishHead {
        topic: "t",
        ..PublishHead::default()
    };
    let value = |field, expected, got| EncodeError::Value {
        field,
        expected,
        got,
    };
    let rows = [
        (
            PublishHead {
                topic: &long,
                ..head
            },
            EncodeError::FieldTooLong {
                field: "topic name",
                got: 65_536,
            },
        ),
        (
            PublishHead {
                qos: QoS::AtLeastOnce,
                ..head
            },
            EncodeError::NoPacketId(PacketType::Publish),
        ),
        (
            PublishHead {
                qos: QoS::ExactlyOnce,
                packet_id: Some(0),
                ..head
            },
            EncodeError::NoPacketId(PacketType::Publish),
        ),
        (
            PublishHead {
                topic_alias: Some(0),
                ..head
            },
            value("Topic Alias", "a value above 0", 0),
        ),
        (
            PublishHead {
                subscription_identifiers: &[0],
                ..head
            },
            value("Subscription Identifier", "1 to 268435455", 0),
        ),
        (
            PublishHead {
                subscription_identifiers: &[1, 268_435_456],
                ..head
            },
            value("Subscription Identifier", "1 to 268435455", 268_435_456),
        ),
    ];
    for (head, error) in rows {
        let mut out = Vec::new();
        assert_eq!(head.encode(V5, 0, &mut out), Err(error));
        assert_eq!(head.encode_with(V5, b"x", &mut out), Err(error));
        assert_eq!(head.encoded_len(V5, 0), Err(error));
        assert!(out.is_empty());
    }
}

#[test]
fn the_short_ways_write_what_packets_write() {
    type Make = fn(Ack<'static>) -> Packet<'static>;
    let kinds: [(AckKind, Make); 4] = [
        (AckKind::Puback, Packet::Puback),
        (AckKind::Pubrec, Packet::Pubrec),
        (AckKind::Pubrel, Packet::Pubrel),
        (AckKind::Pubcomp, Packet::Pubcomp),
    ];
    for (kind, make) in kinds {
        for version in ProtocolVersion::ALL {
            for reason in [
                ReasonCode::Success,
                ReasonCode::PacketIdentifierNotFound,
                ReasonCode::NoMatchingSubscribers,
            ] {
                for id in [1, 255, 256, 65_535] {
                    let mut out = Vec::new();
                    encode_ack(&mut out, kind, version, id, reason);
                    let packet = make(Ack::new(id, reason));
                    assert_eq!(Ok(out), encode(&packet, version));
                    assert_eq!(packet.packet_type(), kind.packet_type());
                }
            }
        }
    }
    let mut out = Vec::new();
    encode_pingreq(&mut out);
    encode_pingresp(&mut out);
    assert_eq!(out, bytes("C000 D000"));
}

#[test]
fn forwarded_properties_come_back() {
    let properties = PublishProperties {
        payload_format_indicator: Some(PayloadFormat::Utf8),
        response_topic: Some("r"),
        correlation_data: Some(b"c"),
        user_properties: vec![("a", "1"), ("a", "2")],
        content_type: Some("t"),
        message_expiry_interval: Some(5),
        topic_alias: Some(1),
        subscription_identifiers: vec![1],
    };
    let mut bytes = Vec::new();
    properties.encode_forwarded(&mut bytes).expect("legal");
    let forwarded = PublishProperties::from_forwarded(&bytes).expect("just written");
    let expected = PublishProperties {
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: vec![],
        ..properties.clone()
    };
    assert_eq!(forwarded, expected);
    let from_parts = ForwardedProperties {
        payload_format_indicator: Some(PayloadFormat::Utf8),
        response_topic: Some("r"),
        correlation_data: Some(b"c"),
        user_properties: [("a", "1"), ("a", "2")].into_iter(),
        content_type: Some("t"),
    };
    let mut again = Vec::new();
    from_parts.encode(&mut again).expect("legal");
    assert_eq!(again, bytes);
    let long = "x".repeat(70_000);
    let too_long = PublishProperties {
        content_type: Some(&long),
        ..properties
    };
    assert!(too_long.encode_forwarded(&mut again).is_err());
    assert_eq!(again, bytes, "nothing is written in part");
    assert!(
        PublishProperties::from_forwarded(&[0x0B, 1]).is_err(),
        "a subscription identifier is not forwarded"
    );
}

#[test]
fn a_will_is_published_with_its_properties_but_the_delay() {
    let will = WillProperties {
        will_delay_interval: Some(30),
        payload_format_indicator: Some(PayloadFormat::Utf8),
        message_expiry_interval: Some(60),
        content_type: Some("c"),
        response_topic: Some("r"),
        correlation_data: Some(b"d"),
        user_properties: vec![("k", "v")],
    };
    let expected = PublishProperties {
        payload_format_indicator: Some(PayloadFormat::Utf8),
        message_expiry_interval: Some(60),
        content_type: Some("c"),
        response_topic: Some("r"),
        correlation_data: Some(b"d"),
        user_properties: vec![("k", "v")],
        ..PublishProperties::NONE
    };
    assert_eq!(PublishProperties::from(will), expected);
}
