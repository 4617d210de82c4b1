//! PUBLISH in all versions and both directions.

use nightjar_mqtt::packet::{PayloadFormat, Publish, PublishProperties};
use nightjar_mqtt::{DecodeError, Packet, PacketType, QoS, TopicError};

use crate::script::*;

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        topic,
        payload,
        ..Publish::default()
    }
}

#[test]
fn publishes() {
    let simple = || publish("a/b", b"hi");
    let with_id = |qos, id| Publish {
        qos,
        packet_id: Some(id),
        ..publish("t", b"")
    };
    let rows = |decoder, none: &'static str| {
        let mut rows = Vec::new();
        let mut add = |name, script: String, packet| {
            let script: &'static str = script.leak();
            rows.push((name, decoder, script, Packet::Publish(packet)));
        };
        add("QoS 0", format!("30 * \"a/b\" {none} 'hi'"), simple());
        add(
            "retained",
            format!("31 * \"a/b\" {none} 'hi'"),
            Publish {
                retain: true,
                ..simple()
            },
        );
        add(
            "QoS 1",
            format!("32 * \"t\" 0001 {none}"),
            with_id(QoS::AtLeastOnce, 1),
        );
        add(
            "QoS 1 DUP",
            format!("3A * \"t\" FFFF {none}"),
            Publish {
                dup: true,
                ..with_id(QoS::AtLeastOnce, 65_535)
            },
        );
        add(
            "QoS 2",
            format!("34 * \"t\" 8000 {none}"),
            with_id(QoS::ExactlyOnce, 32_768),
        );
        add(
            "QoS 2 DUP retained",
            format!("3D * \"t\" 0100 {none}"),
            Publish {
                dup: true,
                retain: true,
                ..with_id(QoS::ExactlyOnce, 256)
            },
        );
        add(
            "no payload",
            format!("30 * \"a\" {none}"),
            publish("a", b""),
        );
        add(
            "one separator",
            format!("30 * \"/\" {none}"),
            publish("/", b""),
        );
        add(
            "empty levels",
            format!("30 * \"//a//\" {none}"),
            publish("//a//", b""),
        );
        add(
            "space",
            format!("30 * \" a b \" {none}"),
            publish(" a b ", b""),
        );
        add(
            "dollar",
            format!("30 * \"$SYS/x\" {none}"),
            publish("$SYS/x", b""),
        );
        add(
            "not ASCII",
            format!("30 * \"tür/😀\" {none}"),
            publish("tür/😀", b""),
        );
        // [MQTT-1.5.4-3]: a byte order mark is a character like others.
        add(
            "byte order mark",
            format!("30 * \"\u{feff}a\" {none}"),
            publish("\u{feff}a", b""),
        );
        add(
            "control characters",
            format!("30 * \"a\u{1}\u{7f}\" {none}"),
            publish("a\u{1}\u{7f}", b""),
        );
        add(
            "zeros in the payload",
            format!("30 * \"a\" {none} 000000"),
            publish("a", &[0, 0, 0]),
        );
        rows
    };
    for decoder in [S31, C31, S311, C311] {
        both_ways(&rows(decoder, ""));
    }
    for decoder in [S5, C5] {
        both_ways(&rows(decoder, "[ ]"));
    }
    for decoder in [S31, S311] {
        decodes(&[(
            "DUP with QoS 0",
            decoder,
            "38 * \"a/b\" 'hi'",
            Packet::Publish(Publish {
                dup: true,
                ..simple()
            }),
        )]);
    }
}

#[test]
fn publishes_with_properties() {
    let all = PublishProperties {
        payload_format_indicator: Some(PayloadFormat::Utf8),
        message_expiry_interval: Some(4_294_967_295),
        topic_alias: Some(65_535),
        response_topic: Some("re/ply"),
        correlation_data: Some(&[1, 2, 3]),
        user_properties: vec![("a", "1"), ("b", "2"), ("a", "")],
        subscription_identifiers: Vec::new(),
        content_type: Some("text/plain"),
    };
    let ids = PublishProperties {
        subscription_identifiers: vec![1, 127, 128, 268_435_455, 1],
        ..Default::default()
    };
    let with = |properties: PublishProperties<'static>| {
        Packet::Publish(Publish {
            properties,
            ..publish("t", b"x")
        })
    };
    both_ways(&[
        (
            "every property a client may send",
            S5,
            "30 * \"t\" [ 23 FFFF 02 FFFFFFFF 01 01 08 \"re/ply\" 09 0003010203 26 \"a\" \"1\" 26 \"b\" \"2\" \
             26 \"a\" \"\" 03 \"text/plain\" ] 'x'",
            with(all),
        ),
        (
            "subscription identifiers",
            C5,
            "30 * \"t\" [ 0B01 0B7F 0B8001 0BFFFFFF7F 0B01 ] 'x'",
            with(ids),
        ),
        (
            "alias in place of the topic",
            S5,
            "30 * \"\" [ 23 0001 ] 'x'",
            Packet::Publish(Publish {
                properties: PublishProperties {
                    topic_alias: Some(1),
                    ..Default::default()
                },
                ..publish("", b"x")
            }),
        ),
        (
            "alias in place of the topic, to a client",
            C5,
            "32 * \"\" 0007 [ 23 0001 ] 'x'",
            Packet::Publish(Publish {
                qos: QoS::AtLeastOnce,
                packet_id: Some(7),
                properties: PublishProperties {
                    topic_alias: Some(1),
                    ..Default::default()
                },
                ..publish("", b"x")
            }),
        ),
        (
            "payload format 0, empty strings and data",
            S5,
            "30 * \"t\" [ 01 00 09 0000 26 \"\" \"\" 03 \"\" ] 'x'",
            with(PublishProperties {
                payload_format_indicator: Some(PayloadFormat::Unspecified),
                correlation_data: Some(b""),
                user_properties: vec![("", "")],
                content_type: Some(""),
                ..Default::default()
            }),
        ),
    ]);
    decodes(&[(
        "in another order",
        S5,
        "30 * \"t\" [ 03 \"c\" 26 \"k\" \"1\" 02 00000001 26 \"k\" \"2\" 01 01 ] 'x'",
        with(PublishProperties {
            payload_format_indicator: Some(PayloadFormat::Utf8),
            message_expiry_interval: Some(1),
            user_properties: vec![("k", "1"), ("k", "2")],
            content_type: Some("c"),
            ..Default::default()
        }),
    )]);
}

#[test]
fn variable_byte_integers_are_taken_in_their_shortest_form_only() {
    let long = |field| DecodeError::VariableByteInteger { field };
    refused(&[
        (
            "remaining length",
            S5,
            "30 8500 \"t\" 00 'x'",
            long("remaining length"),
            0x81,
        ),
        (
            "property length",
            S5,
            "30 * \"t\" 8200 01 01 'x'",
            long("property length"),
            0x81,
        ),
        (
            "property identifier",
            S5,
            "30 * \"t\" 03 8100 01 'x'",
            long("property identifier"),
            0x81,
        ),
    ]);
}

#[test]
fn publishes_that_are_refused_in_every_version() {
    let truncated = |field| DecodeError::Truncated { field };
    let utf8 = |at| DecodeError::InvalidUtf8 {
        field: "topic name",
        at,
    };
    let name = DecodeError::TopicName;
    for (decoder, none) in [(S31, ""), (S311, ""), (C311, ""), (S5, "[ ]"), (C5, "[ ]")] {
        let row = |name, script: String, error, code| -> Refused<'static> {
            (name, decoder, script.leak(), error, code)
        };
        refused(&[
            row(
                "QoS 3",
                format!("36 * \"t\" 0001 {none}"),
                DecodeError::PublishQoS,
                0x81,
            ),
            row(
                "QoS 3, DUP, retained",
                format!("3F * \"t\" 0001 {none}"),
                DecodeError::PublishQoS,
                0x81,
            ),
            row("empty", "30 00".into(), truncated("topic name"), 0x81),
            row("one byte", "30 01 00".into(), truncated("topic name"), 0x81),
            row(
                "ends in the topic",
                "30 * 0005 'abc'".into(),
                truncated("topic name"),
                0x81,
            ),
            row(
                "no packet identifier",
                "32 * \"t\"".into(),
                truncated("packet identifier"),
                0x81,
            ),
            row(
                "half a packet identifier",
                "34 * \"t\" 00".into(),
                truncated("packet identifier"),
                0x81,
            ),
            row(
                "packet identifier 0, QoS 1",
                format!("32 * \"t\" 0000 {none}"),
                DecodeError::ZeroPacketId {
                    packet: PacketType::Publish,
                },
                0x82,
            ),
            row(
                "packet identifier 0, QoS 2",
                format!("34 * \"t\" 0000 {none}"),
                DecodeError::ZeroPacketId {
                    packet: PacketType::Publish,
                },
                0x82,
            ),
            row(
                "'#'",
                format!("30 * \"#\" {none}"),
                name(TopicError::WildcardInName(0)),
                0x90,
            ),
            row(
                "'+'",
                format!("30 * \"a/+/b\" {none}"),
                name(TopicError::WildcardInName(2)),
                0x90,
            ),
            row(
                "'+' far behind",
                format!("30 * \"abcdefghijklmnopqrstuvwxyz+\" {none}"),
                name(TopicError::WildcardInName(26)),
                0x90,
            ),
            row(
                "'#' in a level",
                format!("30 * \"abcdefghi#jklmnopqrstuvwxyz\" {none}"),
                name(TopicError::WildcardInName(9)),
                0x90,
            ),
            row(
                "U+0000",
                format!("30 * 0003 610061 {none}"),
                DecodeError::NullCharacter {
                    field: "topic name",
                },
                0x81,
            ),
            row(
                "a surrogate",
                format!("30 * 0003 EDBFBF {none}"),
                utf8(0),
                0x81,
            ),
            row(
                "overlong",
                format!("30 * 0003 61C0AF {none}"),
                utf8(1),
                0x81,
            ),
            row(
                "half a character",
                format!("30 * 0003 6162C3 {none}"),
                utf8(2),
                0x81,
            ),
            row(
                "above U+10FFFF",
                format!("30 * 0004 F4908080 {none}"),
                utf8(0),
                0x81,
            ),
            row(
                "a lone continuation",
                format!("30 * 0002 6180 {none}"),
                utf8(1),
                0x81,
            ),
        ]);
    }
}

#[test]
fn publishes_that_one_version_refuses() {
    let property = |property, expected, got| DecodeError::PropertyValue {
        property,
        expected,
        got,
    };
    refused(&[
        (
            "no topic, 3.1",
            S31,
            "30 * \"\"",
            DecodeError::TopicName(TopicError::Empty),
            0x90,
        ),
        (
            "no topic, 3.1.1",
            S311,
            "30 * \"\"",
            DecodeError::TopicName(TopicError::Empty),
            0x90,
        ),
        (
            "no topic, to a client",
            C311,
            "30 * \"\"",
            DecodeError::TopicName(TopicError::Empty),
            0x90,
        ),
        (
            "no topic, no alias",
            S5,
            "30 * \"\" [ ] 'x'",
            DecodeError::NoTopic,
            0x82,
        ),
        (
            "no topic, other properties",
            S5,
            "30 * \"\" [ 01 01 ] 'x'",
            DecodeError::NoTopic,
            0x82,
        ),
        (
            "DUP with QoS 0, 5.0",
            S5,
            "38 * \"t\" [ ]",
            DecodeError::DupWithQoS0,
            0x81,
        ),
        (
            "DUP with QoS 0, 3.1.1, strict",
            strict(S311),
            "38 * \"t\"",
            DecodeError::DupWithQoS0,
            0x81,
        ),
        (
            "no property length",
            S5,
            "30 * \"t\"",
            DecodeError::Truncated {
                field: "property length",
            },
            0x81,
        ),
        (
            "no property length, QoS 1",
            S5,
            "32 * \"t\" 0001",
            DecodeError::Truncated {
                field: "property length",
            },
            0x81,
        ),
        (
            "properties beyond the packet",
            S5,
            "30 * \"t\" 05 0101",
            DecodeError::Truncated {
                field: "properties",
            },
            0x81,
        ),
        (
            "half a property length",
            S5,
            "30 * \"t\" 80",
            DecodeError::Truncated {
                field: "property length",
            },
            0x81,
        ),
        (
            "five bytes of property length",
            S5,
            "30 * \"t\" 8080808000",
            DecodeError::VariableByteInteger {
                field: "property length",
            },
            0x81,
        ),
        (
            "alias 0",
            S5,
            "30 * \"t\" [ 23 0000 ]",
            DecodeError::TopicAliasZero,
            0x94,
        ),
        (
            "alias 0 without a topic",
            S5,
            "30 * \"\" [ 23 0000 ]",
            DecodeError::TopicAliasZero,
            0x94,
        ),
        (
            "payload format 2",
            S5,
            "30 * \"t\" [ 01 02 ]",
            property("Payload Format Indicator", "0 or 1", 2),
            0x82,
        ),
        (
            "subscription identifier from a client",
            S5,
            "30 * \"t\" [ 0B01 ]",
            DecodeError::PropertyDirection {
                packet: PacketType::Publish,
                property: "Subscription Identifier",
            },
            0x82,
        ),
        (
            "subscription identifier 0",
            C5,
            "30 * \"t\" [ 0B00 ]",
            property("Subscription Identifier", "a value above 0", 0),
            0x82,
        ),
        (
            "subscription identifier of five bytes",
            C5,
            "30 * \"t\" [ 0B8080808001 ]",
            DecodeError::VariableByteInteger {
                field: "Subscription Identifier",
            },
            0x81,
        ),
        (
            "wildcard in the response topic",
            S5,
            "30 * \"t\" [ 08 \"a/#\" ]",
            DecodeError::ResponseTopic(TopicError::WildcardInName(2)),
            0x82,
        ),
        (
            "empty response topic",
            S5,
            "30 * \"t\" [ 08 \"\" ]",
            DecodeError::ResponseTopic(TopicError::Empty),
            0x82,
        ),
        (
            "U+0000 in the response topic",
            S5,
            "30 * \"t\" [ 08 0001 00 ]",
            DecodeError::NullCharacter {
                field: "Response Topic",
            },
            0x81,
        ),
        (
            "content type not UTF-8",
            S5,
            "30 * \"t\" [ 03 0001 FF ]",
            DecodeError::InvalidUtf8 {
                field: "Content Type",
                at: 0,
            },
            0x81,
        ),
        (
            "user property name with U+0000",
            S5,
            "30 * \"t\" [ 26 0001 00 \"v\" ]",
            DecodeError::NullCharacter {
                field: "User Property",
            },
            0x81,
        ),
        (
            "user property value not UTF-8",
            S5,
            "30 * \"t\" [ 26 \"k\" 0001 C0 ]",
            DecodeError::InvalidUtf8 {
                field: "User Property",
                at: 0,
            },
            0x81,
        ),
        (
            "user property without a value",
            S5,
            "30 * \"t\" [ 26 \"k\" ]",
            DecodeError::Truncated {
                field: "User Property",
            },
            0x81,
        ),
        (
            "correlation data beyond the section",
            S5,
            "30 * \"t\" [ 09 0003 01 ] 0203",
            DecodeError::Truncated {
                field: "Correlation Data",
            },
            0x81,
        ),
        (
            "expiry of three bytes",
            S5,
            "30 * \"t\" [ 02 000000 ]",
            DecodeError::Truncated {
                field: "Message Expiry Interval",
            },
            0x81,
        ),
    ]);
}
