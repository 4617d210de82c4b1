//! CONNECT in all versions.

use nightjar_mqtt::ProtocolVersion::{V5, V31, V311};
use nightjar_mqtt::packet::{
    Connect, ConnectProperties, PayloadFormat, Will, WillProperties, peek_connect_version,
};
use nightjar_mqtt::{DecodeError, Packet, PacketType, ProtocolVersion, QoS, TopicError};

use crate::script::*;

fn connect<'a>(version: ProtocolVersion, client_id: &'a str) -> Connect<'a> {
    Connect::new(version, client_id)
}

fn packet(connect: Connect<'_>) -> Packet<'_> {
    Packet::Connect(Box::new(connect))
}

#[test]
fn connects_of_all_versions() {
    let will = Will {
        topic: "w/t",
        payload: b"bye",
        qos: QoS::ExactlyOnce,
        retain: true,
        ..Will::default()
    };
    both_ways(&[
        (
            "3.1",
            NEW,
            "10 * \"MQIsdp\" 03 02 003C \"c\"",
            packet(Connect {
                keep_alive: 60,
                ..connect(V31, "c")
            }),
        ),
        (
            "3.1.1",
            NEW,
            "10 * \"MQTT\" 04 02 0000 \"c\"",
            packet(connect(V311, "c")),
        ),
        (
            "5.0",
            NEW,
            "10 * \"MQTT\" 05 02 0000 [ ] \"c\"",
            packet(connect(V5, "c")),
        ),
        (
            "3.1 bridge",
            NEW,
            "10 * \"MQIsdp\" 83 02 0000 \"c\"",
            packet(Connect {
                bridge: true,
                ..connect(V31, "c")
            }),
        ),
        (
            "3.1.1 bridge",
            NEW,
            "10 * \"MQTT\" 84 02 0000 \"c\"",
            packet(Connect {
                bridge: true,
                ..connect(V311, "c")
            }),
        ),
        (
            "3.1.1, session kept, keep alive at its end",
            NEW,
            "10 * \"MQTT\" 04 00 FFFF \"c\"",
            packet(Connect {
                clean_start: false,
                keep_alive: 65_535,
                ..connect(V311, "c")
            }),
        ),
        // What an empty client identifier means is the server's decision.
        (
            "3.1.1, empty client identifier, clean session 0",
            NEW,
            "10 * \"MQTT\" 04 00 0000 \"\"",
            packet(Connect {
                clean_start: false,
                ..connect(V311, "")
            }),
        ),
        (
            "3.1, 30 bytes of client identifier",
            NEW,
            "10 * \"MQIsdp\" 03 02 0000 \"abcdefghijklmnopqrstuvwxyzabcd\"",
            packet(connect(V31, "abcdefghijklmnopqrstuvwxyzabcd")),
        ),
        (
            "3.1.1, odd characters in the client identifier",
            NEW,
            "10 * \"MQTT\" 04 02 0000 \"a/b: é\"",
            packet(connect(V311, "a/b: é")),
        ),
        (
            "3.1.1, user name and password",
            NEW,
            "10 * \"MQTT\" 04 C2 0000 \"c\" \"me\" 000400FF0102",
            packet(Connect {
                username: Some("me"),
                password: Some(&[0, 255, 1, 2]),
                ..connect(V311, "c")
            }),
        ),
        (
            "3.1.1, user name alone",
            NEW,
            "10 * \"MQTT\" 04 82 0000 \"c\" \"me\"",
            packet(Connect {
                username: Some("me"),
                ..connect(V311, "c")
            }),
        ),
        (
            "5.0, password alone",
            NEW,
            "10 * \"MQTT\" 05 42 0000 [ ] \"c\" \"pw\"",
            packet(Connect {
                password: Some(b"pw"),
                ..connect(V5, "c")
            }),
        ),
        (
            "3.1.1, will",
            NEW,
            "10 * \"MQTT\" 04 36 0000 \"c\" \"w/t\" \"bye\"",
            packet(Connect {
                will: Some(will.clone()),
                ..connect(V311, "c")
            }),
        ),
        (
            "3.1, will",
            NEW,
            "10 * \"MQIsdp\" 03 36 0000 \"c\" \"w/t\" \"bye\"",
            packet(Connect {
                will: Some(will.clone()),
                ..connect(V31, "c")
            }),
        ),
        (
            "5.0, will without properties",
            NEW,
            "10 * \"MQTT\" 05 36 0000 [ ] \"c\" [ ] \"w/t\" \"bye\"",
            packet(Connect {
                will: Some(will),
                ..connect(V5, "c")
            }),
        ),
        (
            "3.1.1, empty will payload",
            NEW,
            "10 * \"MQTT\" 04 06 0000 \"c\" \"w\" \"\"",
            packet(Connect {
                will: Some(Will {
                    topic: "w",
                    ..Will::default()
                }),
                ..connect(V311, "c")
            }),
        ),
        (
            "5.0, every property",
            NEW,
            "10 * \"MQTT\" 05 C6 000A [ 11 FFFFFFFF 21 0014 27 00001000 22 0005 19 01 17 00 26 \"k\" \"v\" \
             26 \"k\" \"w\" 15 \"SCRAM\" 16 0002FF00 ] \"c\" [ 18 00000005 01 01 02 0000000A 03 \"text\" 08 \"re/ply\" \
             09 000100 26 \"\" \"\" ] \"w\" \"x\" \"u\" \"p\"",
            packet(Connect {
                keep_alive: 10,
                username: Some("u"),
                password: Some(b"p"),
                properties: ConnectProperties {
                    session_expiry_interval: Some(u32::MAX),
                    receive_maximum: Some(20),
                    maximum_packet_size: Some(4096),
                    topic_alias_maximum: Some(5),
                    request_response_information: Some(true),
                    request_problem_information: Some(false),
                    user_properties: vec![("k", "v"), ("k", "w")],
                    authentication_method: Some("SCRAM"),
                    authentication_data: Some(&[255, 0]),
                },
                will: Some(Will {
                    topic: "w",
                    payload: b"x",
                    properties: WillProperties {
                        will_delay_interval: Some(5),
                        payload_format_indicator: Some(PayloadFormat::Utf8),
                        message_expiry_interval: Some(10),
                        content_type: Some("text"),
                        response_topic: Some("re/ply"),
                        correlation_data: Some(&[0]),
                        user_properties: vec![("", "")],
                    },
                    ..Will::default()
                }),
                ..connect(V5, "c")
            }),
        ),
    ]);
}

#[test]
fn connects_that_3_1_alone_allows() {
    decodes(&[
        // The remaining length takes precedence over the flags.
        (
            "user name announced, missing",
            NEW,
            "10 * \"MQIsdp\" 03 82 0000 \"c\"",
            packet(connect(V31, "c")),
        ),
        (
            "both announced, both missing",
            NEW,
            "10 * \"MQIsdp\" 03 C2 0000 \"c\"",
            packet(connect(V31, "c")),
        ),
        (
            "password announced, missing",
            NEW,
            "10 * \"MQIsdp\" 03 C2 0000 \"c\" \"me\"",
            packet(Connect {
                username: Some("me"),
                ..connect(V31, "c")
            }),
        ),
        (
            "unused bit 0",
            NEW,
            "10 * \"MQIsdp\" 03 03 0000 \"c\"",
            packet(connect(V31, "c")),
        ),
        (
            "will QoS and retain without a will",
            NEW,
            "10 * \"MQIsdp\" 03 3A 0000 \"c\"",
            packet(connect(V31, "c")),
        ),
    ]);
}

fn flags(expected: &'static str, got: u8) -> DecodeError {
    DecodeError::ConnectFlags { expected, got }
}

#[test]
fn connects_that_are_refused() {
    const QOS3: &str = "will QoS 0, 1 or 2 [MQTT-3.1.2-12]";
    const NO_WILL_QOS: &str = "will QoS 0 without a will [MQTT-3.1.2-11]";
    const NO_WILL_RETAIN: &str = "will retain 0 without a will [MQTT-3.1.2-13]";
    const RESERVED: &str = "reserved bit 0 [MQTT-3.1.2-3]";
    const PASSWORD: &str = "no password without a user name [MQTT-3.1.2-22]";
    let truncated = |field| DecodeError::Truncated { field };
    let utf8 = |field, at| DecodeError::InvalidUtf8 { field, at };
    let null = |field| DecodeError::NullCharacter { field };
    refused(&[
        (
            "flags in the first byte",
            NEW,
            "11 * \"MQTT\" 04 02 0000 \"c\"",
            DecodeError::ReservedFlags {
                packet: PacketType::Connect,
                expected: 0,
                got: 1,
            },
            0x81,
        ),
        (
            "another protocol",
            NEW,
            "10 * \"MQTX\" 04 02 0000 \"c\"",
            DecodeError::ProtocolName,
            0x84,
        ),
        (
            "lower case",
            NEW,
            "10 * \"mqtt\" 04 02 0000 \"c\"",
            DecodeError::ProtocolName,
            0x84,
        ),
        (
            "no protocol name",
            NEW,
            "10 * \"\" 04 02 0000 \"c\"",
            DecodeError::ProtocolName,
            0x84,
        ),
        (
            "MQTT level 3",
            NEW,
            "10 * \"MQTT\" 03 02 0000 \"c\"",
            DecodeError::ProtocolLevel(3),
            0x84,
        ),
        (
            "MQTT level 6",
            NEW,
            "10 * \"MQTT\" 06 02 0000 [ ] \"c\"",
            DecodeError::ProtocolLevel(6),
            0x84,
        ),
        (
            "MQTT level 0",
            NEW,
            "10 * \"MQTT\" 00 02 0000 \"c\"",
            DecodeError::ProtocolLevel(0),
            0x84,
        ),
        (
            "MQTT level 255",
            NEW,
            "10 * \"MQTT\" FF 02 0000 \"c\"",
            DecodeError::ProtocolLevel(255),
            0x84,
        ),
        (
            "5.0 with the bridge bit",
            NEW,
            "10 * \"MQTT\" 85 02 0000 [ ] \"c\"",
            DecodeError::ProtocolLevel(0x85),
            0x84,
        ),
        (
            "MQIsdp level 4",
            NEW,
            "10 * \"MQIsdp\" 04 02 0000 \"c\"",
            DecodeError::ProtocolLevel(4),
            0x84,
        ),
        (
            "reserved bit, 3.1.1",
            NEW,
            "10 * \"MQTT\" 04 03 0000 \"c\"",
            flags(RESERVED, 3),
            0x81,
        ),
        (
            "reserved bit, 5.0",
            NEW,
            "10 * \"MQTT\" 05 03 0000 [ ] \"c\"",
            flags(RESERVED, 3),
            0x81,
        ),
        (
            "will QoS 3, 3.1",
            NEW,
            "10 * \"MQIsdp\" 03 1E 0000 \"c\" \"w\" \"\"",
            flags(QOS3, 0x1E),
            0x81,
        ),
        (
            "will QoS 3, 3.1.1",
            NEW,
            "10 * \"MQTT\" 04 1E 0000 \"c\" \"w\" \"\"",
            flags(QOS3, 0x1E),
            0x81,
        ),
        (
            "will QoS 3, 5.0",
            NEW,
            "10 * \"MQTT\" 05 1E 0000 [ ] \"c\" [ ] \"w\" \"\"",
            flags(QOS3, 0x1E),
            0x81,
        ),
        (
            "will QoS without will, 3.1.1",
            NEW,
            "10 * \"MQTT\" 04 0A 0000 \"c\"",
            flags(NO_WILL_QOS, 0x0A),
            0x81,
        ),
        (
            "will QoS 2 without will, 5.0",
            NEW,
            "10 * \"MQTT\" 05 12 0000 [ ] \"c\"",
            flags(NO_WILL_QOS, 0x12),
            0x81,
        ),
        (
            "will retain without will, 3.1.1",
            NEW,
            "10 * \"MQTT\" 04 22 0000 \"c\"",
            flags(NO_WILL_RETAIN, 0x22),
            0x81,
        ),
        (
            "will retain without will, 5.0",
            NEW,
            "10 * \"MQTT\" 05 22 0000 [ ] \"c\"",
            flags(NO_WILL_RETAIN, 0x22),
            0x81,
        ),
        (
            "password alone, 3.1",
            NEW,
            "10 * \"MQIsdp\" 03 42 0000 \"c\" \"pw\"",
            flags(PASSWORD, 0x42),
            0x81,
        ),
        (
            "password alone, 3.1.1",
            NEW,
            "10 * \"MQTT\" 04 42 0000 \"c\" \"pw\"",
            flags(PASSWORD, 0x42),
            0x81,
        ),
        ("empty", NEW, "10 00", truncated("protocol name"), 0x81),
        (
            "ends in the protocol name",
            NEW,
            "10 * 0004 'MQ'",
            truncated("protocol name"),
            0x81,
        ),
        (
            "ends before the level",
            NEW,
            "10 * \"MQTT\"",
            truncated("protocol level"),
            0x81,
        ),
        (
            "ends before the flags",
            NEW,
            "10 * \"MQTT\" 04",
            truncated("connect flags"),
            0x81,
        ),
        (
            "ends in the keep alive",
            NEW,
            "10 * \"MQTT\" 04 02 00",
            truncated("keep alive"),
            0x81,
        ),
        (
            "ends before the client identifier",
            NEW,
            "10 * \"MQTT\" 04 02 0000",
            truncated("client identifier"),
            0x81,
        ),
        (
            "ends in the client identifier",
            NEW,
            "10 * \"MQTT\" 04 02 0000 0005 'abc'",
            truncated("client identifier"),
            0x81,
        ),
        (
            "5.0 ends before the properties",
            NEW,
            "10 * \"MQTT\" 05 02 0000",
            truncated("property length"),
            0x81,
        ),
        (
            "5.0 ends in the properties",
            NEW,
            "10 * \"MQTT\" 05 02 0000 05 11 0000",
            truncated("properties"),
            0x81,
        ),
        (
            "no will topic",
            NEW,
            "10 * \"MQTT\" 04 06 0000 \"c\"",
            truncated("will topic"),
            0x81,
        ),
        (
            "no will payload",
            NEW,
            "10 * \"MQTT\" 04 06 0000 \"c\" \"w\"",
            truncated("will payload"),
            0x81,
        ),
        (
            "no will properties, 5.0",
            NEW,
            "10 * \"MQTT\" 05 06 0000 [ ] \"c\"",
            truncated("property length"),
            0x81,
        ),
        (
            "no user name, 3.1.1",
            NEW,
            "10 * \"MQTT\" 04 82 0000 \"c\"",
            truncated("user name"),
            0x81,
        ),
        (
            "half a user name, 3.1",
            NEW,
            "10 * \"MQIsdp\" 03 82 0000 \"c\" 0005 'a'",
            truncated("user name"),
            0x81,
        ),
        (
            "no password, 3.1.1",
            NEW,
            "10 * \"MQTT\" 04 C2 0000 \"c\" \"me\"",
            truncated("password"),
            0x81,
        ),
        (
            "no password, 5.0",
            NEW,
            "10 * \"MQTT\" 05 42 0000 [ ] \"c\"",
            truncated("password"),
            0x81,
        ),
        (
            "bytes behind",
            NEW,
            "10 * \"MQTT\" 04 02 0000 \"c\" 0000",
            DecodeError::TrailingBytes {
                packet: PacketType::Connect,
                got: 2,
            },
            0x81,
        ),
        (
            "user name without its flag",
            NEW,
            "10 * \"MQTT\" 05 02 0000 [ ] \"c\" \"me\"",
            DecodeError::TrailingBytes {
                packet: PacketType::Connect,
                got: 4,
            },
            0x81,
        ),
        (
            "client identifier not UTF-8",
            NEW,
            "10 * \"MQTT\" 04 02 0000 0002 61FF",
            utf8("client identifier", 1),
            0x81,
        ),
        (
            "client identifier with a surrogate",
            NEW,
            "10 * \"MQTT\" 04 02 0000 0003 EDA080",
            utf8("client identifier", 0),
            0x81,
        ),
        (
            "client identifier with U+0000",
            NEW,
            "10 * \"MQTT\" 04 02 0000 0003 610062",
            null("client identifier"),
            0x81,
        ),
        (
            "client identifier with overlong U+0000",
            NEW,
            "10 * \"MQIsdp\" 03 02 0000 0002 C080",
            utf8("client identifier", 0),
            0x81,
        ),
        (
            "user name not UTF-8",
            NEW,
            "10 * \"MQTT\" 04 82 0000 \"c\" 0001 80",
            utf8("user name", 0),
            0x81,
        ),
        (
            "user name with U+0000",
            NEW,
            "10 * \"MQTT\" 05 82 0000 [ ] \"c\" 0001 00",
            null("user name"),
            0x81,
        ),
        (
            "will topic not UTF-8",
            NEW,
            "10 * \"MQTT\" 04 06 0000 \"c\" 0002 C328 \"\"",
            utf8("will topic", 0),
            0x81,
        ),
        (
            "will topic with U+0000",
            NEW,
            "10 * \"MQTT\" 04 06 0000 \"c\" 0001 00 \"\"",
            null("will topic"),
            0x81,
        ),
        (
            "empty will topic",
            NEW,
            "10 * \"MQTT\" 04 06 0000 \"c\" \"\" \"\"",
            DecodeError::TopicName(TopicError::Empty),
            0x90,
        ),
        (
            "wildcard in the will topic",
            NEW,
            "10 * \"MQTT\" 05 06 0000 [ ] \"c\" [ ] \"a/#\" \"\"",
            DecodeError::TopicName(TopicError::WildcardInName(2)),
            0x90,
        ),
        (
            "authentication data without a method",
            NEW,
            "10 * \"MQTT\" 05 02 0000 [ 16 0000 ] \"c\"",
            DecodeError::NoAuthenticationMethod {
                packet: PacketType::Connect,
            },
            0x82,
        ),
        (
            "wildcard in the will's response topic",
            NEW,
            "10 * \"MQTT\" 05 06 0000 [ ] \"c\" [ 08 \"a/+\" ] \"w\" \"\"",
            DecodeError::ResponseTopic(TopicError::WildcardInName(2)),
            0x82,
        ),
        (
            "a second CONNECT, 3.1.1",
            S311,
            "10 * \"MQTT\" 04 02 0000 \"c\"",
            DecodeError::SecondConnect,
            0x82,
        ),
        (
            "a second CONNECT, 5.0",
            S5,
            "10 * \"MQTT\" 05 02 0000 [ ] \"c\"",
            DecodeError::SecondConnect,
            0x82,
        ),
    ]);
}

#[test]
fn a_long_form_of_the_remaining_length_is_refused_in_5_0_only() {
    decodes(&[(
        "3.1.1",
        NEW,
        "10 8D00 \"MQTT\" 04 02 0000 \"c\"",
        packet(connect(V311, "c")),
    )]);
    let long = DecodeError::VariableByteInteger {
        field: "remaining length",
    };
    refused(&[(
        "5.0",
        NEW,
        "10 8E00 \"MQTT\" 05 02 0000 [ ] \"c\"",
        long,
        0x81,
    )]);
}

#[test]
fn a_refused_connect_tells_in_which_version_to_answer() {
    let rows: [(&str, Option<ProtocolVersion>); 17] = [
        ("10 * \"MQTT\" 05 03 0000", Some(V5)),
        ("10 * \"MQTT\" 04 03 0000", Some(V311)),
        ("10 * \"MQTT\" 84", Some(V311)),
        ("10 * \"MQIsdp\" 03", Some(V31)),
        ("10 * \"MQIsdp\" 83", Some(V31)),
        ("10 * \"MQTT\" 06", Some(V5)),
        ("10 * \"MQTT\" 85", Some(V5)),
        ("10 * \"MQTT\" 03", Some(V311)),
        ("10 * \"MQIsdp\" 04", Some(V311)),
        // Too large or not all there: the name and level are enough.
        ("10 FFFFFF7F 'xx' ", None),
        ("10 FFFFFF7F \"MQTT\" 05", Some(V5)),
        ("10 * \"MQTT\"", None),
        ("10 * \"HTTP\" 05", None),
        ("30 * \"MQTT\" 05", None),
        ("10 8E00 \"MQTT\" 05", Some(V5)),
        ("10 FFFFFFFF \"MQTT\" 05", None),
        ("", None),
    ];
    for (script, version) in rows {
        assert_eq!(peek_connect_version(&bytes(script)), version, "{script}");
    }
}
