//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use nightjar_mqtt::packet::{
    AckProperties, RetainHandling, Suback, Subscribe, SubscribeProperties, Subscription,
    SubscriptionOptions, Unsuback, Unsubscribe, UnsubscribeProperties,
};
use nightjar_mqtt::{DecodeError, Packet, PacketType, QoS, ReasonCode, TopicError};

use crate::script::*;

fn one<'a>(filter: &'a str, options: SubscriptionOptions) -> Packet<'a> {
    Packet::Subscribe(Subscribe {
        packet_id: 1,
        subscriptions: vec![Subscription { filter, options }],
        properties: SubscribeProperties::default(),
    })
}

#[test]
fn subscribes() {
    let qos = SubscriptionOptions::from_qos;
    for decoder in [S31, S311] {
        both_ways(&[
            (
                "QoS 0",
                decoder,
                "82 * 0001 \"a/b\" 00",
                one("a/b", qos(QoS::AtMostOnce)),
            ),
            (
                "QoS 1",
                decoder,
                "82 * 0001 \"#\" 01",
                one("#", qos(QoS::AtLeastOnce)),
            ),
            (
                "QoS 2",
                decoder,
                "82 * 0001 \"+/+\" 02",
                one("+/+", qos(QoS::ExactlyOnce)),
            ),
            (
                "shared",
                decoder,
                "82 * 0001 \"$share/g/a/#\" 01",
                one("$share/g/a/#", qos(QoS::AtLeastOnce)),
            ),
            (
                "three",
                decoder,
                "82 * FFFF \"a\" 00 \"b\" 01 \"a\" 02",
                Packet::Subscribe(Subscribe {
                    packet_id: 65_535,
                    subscriptions: vec![
                        Subscription {
                            filter: "a",
                            options: qos(QoS::AtMostOnce),
                        },
                        Subscription {
                            filter: "b",
                            options: qos(QoS::AtLeastOnce),
                        },
                        Subscription {
                            filter: "a",
                            options: qos(QoS::ExactlyOnce),
                        },
                    ],
                    properties: SubscribeProperties::default(),
                }),
            ),
        ]);
    }
    // 3.1 does not look at the upper six bits.
    decodes(&[(
        "unused bits, 3.1",
        S31,
        "82 * 0001 \"a\" FD",
        one("a", qos(QoS::AtLeastOnce)),
    )]);
    decodes(&[(
        "DUP, 3.1",
        S31,
        "8A * 0001 \"a\" 01",
        one("a", qos(QoS::AtLeastOnce)),
    )]);
    let all = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    both_ways(&[
        (
            "5.0",
            S5,
            "82 * 0001 [ ] \"a\" 00",
            one("a", qos(QoS::AtMostOnce)),
        ),
        ("every option", S5, "82 * 0001 [ ] \"a\" 2E", one("a", all)),
        (
            "retain handling 1",
            S5,
            "82 * 0001 [ ] \"a\" 11",
            one(
                "a",
                SubscriptionOptions {
                    retain_handling: RetainHandling::SendIfNew,
                    ..qos(QoS::AtLeastOnce)
                },
            ),
        ),
        (
            "options on a shared subscription",
            S5,
            "82 * 0001 [ ] \"$share/g/a\" 2A",
            one(
                "$share/g/a",
                SubscriptionOptions {
                    no_local: false,
                    ..all
                },
            ),
        ),
        (
            "every property",
            S5,
            "82 * 0001 [ 0B FFFFFF7F 26 \"k\" \"v\" 26 \"k\" \"v\" ] \"a\" 00 \"b/#\" 01",
            Packet::Subscribe(Subscribe {
                packet_id: 1,
                subscriptions: vec![
                    Subscription {
                        filter: "a",
                        options: qos(QoS::AtMostOnce),
                    },
                    Subscription {
                        filter: "b/#",
                        options: qos(QoS::AtLeastOnce),
                    },
                ],
                properties: SubscribeProperties {
                    subscription_identifier: Some(268_435_455),
                    user_properties: vec![("k", "v"), ("k", "v")],
                },
            }),
        ),
    ]);
}

/// Filters that no packet may carry.
const BAD_FILTERS: [(&str, &str, TopicError); 14] = [
    ("empty", "\"\"", TopicError::Empty),
    ("'#' not last", "\"#/a\"", TopicError::MultiLevelWildcard(0)),
    ("'#' twice", "\"a/##\"", TopicError::MultiLevelWildcard(2)),
    (
        "'#' behind a letter",
        "\"a/b#\"",
        TopicError::MultiLevelWildcard(3),
    ),
    (
        "'#' before a letter",
        "\"a/#b\"",
        TopicError::MultiLevelWildcard(2),
    ),
    (
        "'+' behind a letter",
        "\"a+\"",
        TopicError::SingleLevelWildcard(1),
    ),
    (
        "'+' before a letter",
        "\"a/+b/c\"",
        TopicError::SingleLevelWildcard(2),
    ),
    (
        "'+' and '#' together",
        "\"a/+#\"",
        TopicError::SingleLevelWildcard(2),
    ),
    (
        "no share name, no filter",
        "\"$share/\"",
        TopicError::EmptyShareName,
    ),
    ("no share name", "\"$share//a\"", TopicError::EmptyShareName),
    ("no filter", "\"$share/g\"", TopicError::EmptySharedFilter),
    (
        "empty filter",
        "\"$share/g/\"",
        TopicError::EmptySharedFilter,
    ),
    (
        "wildcard in the share name",
        "\"$share/g+/a\"",
        TopicError::WildcardInShareName,
    ),
    (
        "misplaced wildcard behind the share name",
        "\"$share/g/a#\"",
        TopicError::MultiLevelWildcard(10),
    ),
];

#[test]
fn subscribes_that_are_refused() {
    let truncated = |field| DecodeError::Truncated { field };
    let flags = |got| DecodeError::ReservedFlags {
        packet: PacketType::Subscribe,
        expected: 2,
        got,
    };
    for (decoder, none) in [(S31, ""), (S311, ""), (S5, "[ ]")] {
        let row = |name, script: String, error, code| -> Refused<'static> {
            (name, decoder, script.leak(), error, code)
        };
        for (name, filter, error) in BAD_FILTERS {
            let error = DecodeError::TopicFilter(error);
            refused(&[
                row(name, format!("82 * 0001 {none} {filter} 00"), error, 0x8F),
                row(
                    name,
                    format!("82 * 0001 {none} \"good\" 01 {filter} 00"),
                    error,
                    0x8F,
                ),
                row(name, format!("A2 * 0001 {none} {filter}"), error, 0x8F),
            ]);
        }
        let zero = |packet| DecodeError::ZeroPacketId { packet };
        let empty = |packet| DecodeError::EmptyPayload { packet };
        let null = DecodeError::NullCharacter {
            field: "topic filter",
        };
        refused(&[
            row(
                "packet identifier 0",
                format!("82 * 0000 {none} \"a\" 00"),
                zero(PacketType::Subscribe),
                0x82,
            ),
            row(
                "no filter",
                format!("82 * 0001 {none}"),
                empty(PacketType::Subscribe),
                0x82,
            ),
            row(
                "no packet identifier",
                "82 00".into(),
                truncated("packet identifier"),
                0x81,
            ),
            row(
                "no options",
                format!("82 * 0001 {none} \"a\""),
                truncated("subscription options"),
                0x81,
            ),
            row(
                "half a filter",
                format!("82 * 0001 {none} \"a\" 00 0005 'a'"),
                truncated("topic filter"),
                0x81,
            ),
            row(
                "one byte behind",
                format!("82 * 0001 {none} \"a\" 00 00"),
                truncated("topic filter"),
                0x81,
            ),
            row(
                "U+0000",
                format!("82 * 0001 {none} 0002 6100 00"),
                null,
                0x81,
            ),
            row(
                "not UTF-8",
                format!("82 * 0001 {none} 0002 61FE 00"),
                DecodeError::InvalidUtf8 {
                    field: "topic filter",
                    at: 1,
                },
                0x81,
            ),
            row(
                "QoS 3",
                format!("82 * 0001 {none} \"a\" 03"),
                DecodeError::SubscriptionQoS,
                0x82,
            ),
            row(
                "UNSUBSCRIBE packet identifier 0",
                format!("A2 * 0000 {none} \"a\""),
                zero(PacketType::Unsubscribe),
                0x82,
            ),
            row(
                "UNSUBSCRIBE no filter",
                format!("A2 * 0001 {none}"),
                empty(PacketType::Unsubscribe),
                0x82,
            ),
            row(
                "UNSUBSCRIBE half a filter",
                format!("A2 * 0001 {none} 0002 'a'"),
                truncated("topic filter"),
                0x81,
            ),
            row(
                "UNSUBSCRIBE U+0000",
                format!("A2 * 0001 {none} 0001 00"),
                null,
                0x81,
            ),
        ]);
    }
    for got in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC] {
        let script = format!("82 * 0001 \"a\" {got:02X}");
        refused(&[(
            "reserved bits, 3.1.1",
            S311,
            &script,
            DecodeError::SubscriptionReservedBits(got),
            0x81,
        )]);
    }
    for got in [0x40, 0x80, 0xC0, 0xC1] {
        let script = format!("82 * 0001 [ ] \"a\" {got:02X}");
        refused(&[(
            "reserved bits, 5.0",
            S5,
            &script,
            DecodeError::SubscriptionReservedBits(got),
            0x81,
        )]);
    }
    refused(&[
        ("flags 0, 3.1.1", S311, "80 * 0001 \"a\" 00", flags(0), 0x81),
        ("flags 0, 5.0", S5, "80 * 0001 [ ] \"a\" 00", flags(0), 0x81),
        ("DUP, 3.1.1", S311, "8A * 0001 \"a\" 00", flags(10), 0x81),
        (
            "retain handling 3",
            S5,
            "82 * 0001 [ ] \"a\" 30",
            DecodeError::RetainHandling,
            0x82,
        ),
        (
            "No Local on a shared one",
            S5,
            "82 * 0001 [ ] \"$share/g/a\" 04",
            DecodeError::NoLocalOnShared,
            0x82,
        ),
        (
            "no properties",
            S5,
            "82 * 0001",
            truncated("property length"),
            0x81,
        ),
        (
            "subscription identifier 0",
            S5,
            "82 * 0001 [ 0B 00 ] \"a\" 00",
            DecodeError::PropertyValue {
                property: "Subscription Identifier",
                expected: "a value above 0",
                got: 0,
            },
            0x82,
        ),
        (
            "subscription identifier twice",
            S5,
            "82 * 0001 [ 0B 01 0B 01 ] \"a\" 00",
            DecodeError::DuplicateProperty {
                property: "Subscription Identifier",
            },
            0x82,
        ),
        (
            "UNSUBSCRIBE with a subscription identifier",
            S5,
            "A2 * 0001 [ 0B 01 ] \"a\"",
            DecodeError::UnexpectedProperty {
                packet: PacketType::Unsubscribe,
                id: 0x0B,
            },
            0x81,
        ),
    ]);
}

#[test]
fn unsubscribes() {
    let packet = |filters, properties| {
        Packet::Unsubscribe(Unsubscribe {
            packet_id: 10,
            filters,
            properties,
        })
    };
    let none = UnsubscribeProperties::default;
    for decoder in [S31, S311] {
        both_ways(&[
            (
                "one",
                decoder,
                "A2 * 000A \"a/b\"",
                packet(vec!["a/b"], none()),
            ),
            (
                "three",
                decoder,
                "A2 * 000A \"#\" \"+/a\" \"$share/g/#\"",
                packet(vec!["#", "+/a", "$share/g/#"], none()),
            ),
        ]);
    }
    both_ways(&[
        (
            "one, 5.0",
            S5,
            "A2 * 000A [ ] \"a/b\"",
            packet(vec!["a/b"], none()),
        ),
        (
            "properties",
            S5,
            "A2 * 000A [ 26 \"k\" \"v\" ] \"a\" \"b\"",
            packet(
                vec!["a", "b"],
                UnsubscribeProperties {
                    user_properties: vec![("k", "v")],
                },
            ),
        ),
    ]);
}

#[test]
fn subacks_and_unsubacks() {
    use ReasonCode::*;
    let suback = |reasons, properties| {
        Packet::Suback(Suback {
            packet_id: 10,
            reasons,
            properties,
        })
    };
    let unsuback = |reasons, properties| {
        Packet::Unsuback(Unsuback {
            packet_id: 10,
            reasons,
            properties,
        })
    };
    let none = AckProperties::default;
    let some = || AckProperties {
        reason_string: Some("why"),
        user_properties: vec![("k", "v")],
    };
    for decoder in [C31, C311] {
        both_ways(&[
            (
                "granted and failed",
                decoder,
                "90 * 000A 00010280",
                suback(
                    vec![Success, GrantedQoS1, GrantedQoS2, UnspecifiedError],
                    none(),
                ),
            ),
            ("UNSUBACK", decoder, "B0 02 000A", unsuback(vec![], none())),
        ]);
    }
    both_ways(&[
        (
            "SUBACK 5.0",
            C5,
            "90 * 000A [ ] 029787",
            suback(vec![GrantedQoS2, QuotaExceeded, NotAuthorized], none()),
        ),
        (
            "SUBACK 5.0 properties",
            C5,
            "90 * 000A [ 1F \"why\" 26 \"k\" \"v\" ] 00",
            suback(vec![Success], some()),
        ),
        (
            "UNSUBACK 5.0",
            C5,
            "B0 * 000A [ ] 0011",
            unsuback(vec![Success, NoSubscriptionExisted], none()),
        ),
        (
            "UNSUBACK 5.0 properties",
            C5,
            "B0 * 000A [ 1F \"why\" 26 \"k\" \"v\" ] 87",
            unsuback(vec![NotAuthorized], some()),
        ),
    ]);
    let empty = |packet| DecodeError::EmptyPayload { packet };
    refused(&[
        (
            "SUBACK without a code, 3.1.1",
            C311,
            "90 * 000A",
            empty(PacketType::Suback),
            0x82,
        ),
        (
            "SUBACK without a code, 5.0",
            C5,
            "90 * 000A [ ]",
            empty(PacketType::Suback),
            0x82,
        ),
        (
            "UNSUBACK without a code, 5.0",
            C5,
            "B0 * 000A [ ]",
            empty(PacketType::Unsuback),
            0x82,
        ),
        (
            "SUBACK packet identifier 0",
            C5,
            "90 * 0000 [ ] 00",
            DecodeError::ZeroPacketId {
                packet: PacketType::Suback,
            },
            0x82,
        ),
        (
            "UNSUBACK packet identifier 0",
            C311,
            "B0 02 0000",
            DecodeError::ZeroPacketId {
                packet: PacketType::Unsuback,
            },
            0x82,
        ),
        (
            "SUBACK without properties",
            C5,
            "90 * 0001",
            DecodeError::Truncated {
                field: "property length",
            },
            0x81,
        ),
    ]);
}

#[test]
fn errors_of_a_subscription_become_0x80_in_3x() {
    for decoder in [C31, C311] {
        let packet = Packet::Suback(Suback {
            packet_id: 1,
            reasons: vec![ReasonCode::NotAuthorized, ReasonCode::GrantedQoS1],
            properties: AckProperties {
                reason_string: Some("left out"),
                ..Default::default()
            },
        });
        let mut out = Vec::new();
        packet
            .encode(decoder.version.expect("set"), &mut out)
            .expect("legal");
        assert_eq!(out, bytes("90 04 0001 8001"));
    }
}
