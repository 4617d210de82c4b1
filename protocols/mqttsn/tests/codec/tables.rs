//! Exact bytes of every message, both ways and in both Length forms, and of forwarder encapsulations.

use std::collections::BTreeSet;

use nightjar_mqttsn::{
    Encapsulation, Flags, Frame, Message, MsgType, PublishTopic, QoS, ReturnCode, TopicIdType,
};

use crate::examples::{EXAMPLES, long_form};

fn encoded(frame: Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out).expect("short enough");
    assert_eq!(frame.encoded_len(), out.len(), "{frame:?}");
    out
}

#[test]
fn every_message_type_but_the_encapsulation_has_an_example() {
    let types: BTreeSet<MsgType> = EXAMPLES
        .iter()
        .map(|(_, message, _)| message.msg_type())
        .collect();
    let expected: BTreeSet<MsgType> = MsgType::ALL
        .into_iter()
        .filter(|t| *t != MsgType::Encapsulated)
        .collect();
    assert_eq!(types, expected);
    assert_eq!(types.len(), 27);
}

#[test]
fn messages_encode_to_the_bytes_of_the_standard() {
    for (name, message, bytes) in EXAMPLES {
        assert_eq!(encoded(Frame::from(*message)), *bytes, "{name}");
    }
}

#[test]
fn messages_decode_from_the_1_octet_length_form() {
    for (name, message, bytes) in EXAMPLES {
        assert_eq!(Message::decode(bytes), Ok(*message), "{name}");
        assert_eq!(Frame::decode(bytes), Ok(Frame::from(*message)), "{name}");
    }
}

#[test]
fn messages_decode_from_the_3_octet_length_form_though_short() {
    for (name, message, bytes) in EXAMPLES {
        assert_eq!(Message::decode(&long_form(bytes)), Ok(*message), "{name}");
        assert_eq!(
            Frame::decode(&long_form(bytes)),
            Ok(Frame::from(*message)),
            "{name}"
        );
    }
    // One written out, so that the helper is not the only witness.
    assert_eq!(
        Message::decode(&[0x01, 0x00, 0x05, 0x05, 0x00]),
        Ok(Message::ConnAck {
            return_code: ReturnCode::ACCEPTED
        })
    );
}

#[test]
fn an_encoder_appends_to_what_is_there() {
    let mut out = vec![0xAA];
    Message::PingResp.encode(&mut out).expect("short enough");
    assert_eq!(out, [0xAA, 2, 0x17]);
}

#[test]
fn flags_that_a_message_does_not_use_are_ignored() {
    let cases: &[(&[u8], &[u8])] = &[
        // CONNECT with all but Will and CleanSession set.
        (
            &[8, 0x04, 0xF3, 1, 0x0E, 0x10, b's', b'1'],
            &[8, 0x04, 0x00, 1, 0x0E, 0x10, b's', b'1'],
        ),
        // WILLTOPIC with all but QoS and Retain set, TopicIdType reserved.
        (&[4, 0x07, 0x8F, b'w'], &[4, 0x07, 0x00, b'w']),
        // PUBLISH with Will and CleanSession set.
        (&[7, 0x0C, 0x0C, 1, 2, 0, 0], &[7, 0x0C, 0x00, 1, 2, 0, 0]),
        // SUBSCRIBE with Retain, Will and CleanSession set.
        (&[6, 0x12, 0x1C, 1, 2, b'a'], &[6, 0x12, 0x00, 1, 2, b'a']),
        // SUBACK with all but QoS set.
        (
            &[8, 0x13, 0x9F, 1, 2, 3, 4, 0],
            &[8, 0x13, 0x00, 1, 2, 3, 4, 0],
        ),
        // UNSUBSCRIBE with all but TopicIdType set.
        (&[6, 0x14, 0xFC, 1, 2, b'a'], &[6, 0x14, 0x00, 1, 2, b'a']),
        // WILLTOPICUPD as WILLTOPIC.
        (&[4, 0x1A, 0x8F, b'w'], &[4, 0x1A, 0x00, b'w']),
    ];
    for (bytes, clean) in cases {
        let message = Message::decode(bytes).expect("unused flags do no harm");
        assert_eq!(encoded(Frame::from(message)), *clean, "{bytes:02x?}");
    }
}

#[test]
fn every_example_passes_through_a_forwarder() {
    for node_id in [&b""[..], &[0x07], &[0xDE, 0xAD, 0xBE, 0xEF]] {
        for (name, message, bytes) in EXAMPLES {
            let length = 3 + node_id.len() as u8;
            let mut expected = vec![length, 0xFE, 0x02];
            expected.extend_from_slice(node_id);
            expected.extend_from_slice(bytes);
            let frame = Frame {
                encapsulation: Some(Encapsulation { radius: 2, node_id }),
                message: *message,
            };
            assert_eq!(encoded(frame), expected, "{name}");
            assert_eq!(Frame::decode(&expected), Ok(frame), "{name}");
        }
    }
}

#[test]
fn the_length_of_an_encapsulation_ends_at_the_node_id() {
    let datagram = [5, 0xFE, 0x01, 0xAB, 0xCD, 4, 0x16, b's', b'1'];
    let frame = Frame::decode(&datagram).expect("a whole frame");
    assert_eq!(
        frame.encapsulation,
        Some(Encapsulation {
            radius: 1,
            node_id: &[0xAB, 0xCD]
        })
    );
    assert_eq!(
        frame.message,
        Message::PingReq {
            client_id: Some("s1")
        }
    );
}

#[test]
fn an_encapsulation_may_have_the_3_octet_length_and_hold_a_message_with_either() {
    let message = Message::PingResp;
    let encapsulation = Some(Encapsulation {
        radius: 0,
        node_id: &[9],
    });
    for datagram in [
        &[4, 0xFE, 0, 9, 2, 0x17][..],
        &[4, 0xFE, 0, 9, 0x01, 0, 4, 0x17],
        &[0x01, 0, 6, 0xFE, 0, 9, 2, 0x17],
        &[0x01, 0, 6, 0xFE, 0, 9, 0x01, 0, 4, 0x17],
    ] {
        assert_eq!(
            Frame::decode(datagram),
            Ok(Frame {
                encapsulation,
                message
            }),
            "{datagram:02x?}"
        );
    }
}

#[test]
fn of_the_ctrl_octet_only_the_radius_counts() {
    let frame = Frame::decode(&[4, 0xFE, 0xFF, 9, 2, 0x17]).expect("reserved bits are ignored");
    assert_eq!(frame.encapsulation.expect("encapsulated").radius, 3);
    let wide = Frame {
        encapsulation: Some(Encapsulation {
            radius: 0xFE,
            node_id: &[9],
        }),
        ..frame
    };
    assert_eq!(encoded(wide), [4, 0xFE, 0x02, 9, 2, 0x17]);
}

#[test]
fn message_type_codes_and_names() {
    let named: Vec<(u8, &str)> = MsgType::ALL.iter().map(|t| (t.code(), t.name())).collect();
    let table: Vec<(u8, &str)> = vec![
        (0x00, "ADVERTISE"),
        (0x01, "SEARCHGW"),
        (0x02, "GWINFO"),
        (0x04, "CONNECT"),
        (0x05, "CONNACK"),
        (0x06, "WILLTOPICREQ"),
        (0x07, "WILLTOPIC"),
        (0x08, "WILLMSGREQ"),
        (0x09, "WILLMSG"),
        (0x0A, "REGISTER"),
        (0x0B, "REGACK"),
        (0x0C, "PUBLISH"),
        (0x0D, "PUBACK"),
        (0x0E, "PUBCOMP"),
        (0x0F, "PUBREC"),
        (0x10, "PUBREL"),
        (0x12, "SUBSCRIBE"),
        (0x13, "SUBACK"),
        (0x14, "UNSUBSCRIBE"),
        (0x15, "UNSUBACK"),
        (0x16, "PINGREQ"),
        (0x17, "PINGRESP"),
        (0x18, "DISCONNECT"),
        (0x1A, "WILLTOPICUPD"),
        (0x1B, "WILLTOPICRESP"),
        (0x1C, "WILLMSGUPD"),
        (0x1D, "WILLMSGRESP"),
        (0xFE, "Encapsulated message"),
    ];
    assert_eq!(named, table);
    for code in 0..=255u8 {
        let known = table.iter().any(|(known, _)| *known == code);
        assert_eq!(
            MsgType::from_code(code).map(MsgType::code),
            known.then_some(code)
        );
    }
}

#[test]
fn the_flags_octet_bit_by_bit() {
    let none = Flags(0x00);
    let all = Flags(0xFF);
    assert!(!none.dup() && !none.retain() && !none.will() && !none.clean_session());
    assert!(all.dup() && all.retain() && all.will() && all.clean_session());
    assert_eq!(
        [
            Flags(0x80).dup(),
            Flags(0x10).retain(),
            Flags(0x08).will(),
            Flags(0x04).clean_session()
        ],
        [true; 4]
    );
    assert_eq!(
        [
            Flags(0x7F).dup(),
            Flags(0xEF).retain(),
            Flags(0xF7).will(),
            Flags(0xFB).clean_session()
        ],
        [false; 4]
    );
    for (bits, qos, level) in [
        (0x00, QoS::AtMostOnce, 0),
        (0x20, QoS::AtLeastOnce, 1),
        (0x40, QoS::ExactlyOnce, 2),
        (0x60, QoS::MinusOne, -1),
    ] {
        assert_eq!(Flags(bits | 0x9F).qos(), qos);
        assert_eq!(none.with_qos(qos), Flags(bits));
        assert_eq!(all.with_qos(qos), Flags(bits | 0x9F));
        assert_eq!(qos.level(), level);
        assert_eq!(QoS::from_level(level), Some(qos));
    }
    assert_eq!((QoS::from_level(3), QoS::from_level(-2)), (None, None));
    for (bits, topic_id_type) in [
        (0, TopicIdType::Normal),
        (1, TopicIdType::Predefined),
        (2, TopicIdType::ShortName),
        (3, TopicIdType::Reserved),
    ] {
        assert_eq!(Flags(bits | 0xFC).topic_id_type(), topic_id_type);
        assert_eq!(all.with_topic_id_type(topic_id_type), Flags(bits | 0xFC));
    }
    assert_eq!(
        none.with_dup(true)
            .with_retain(true)
            .with_will(true)
            .with_clean_session(true),
        Flags(0x9C)
    );
    assert_eq!(
        all.with_dup(false)
            .with_retain(false)
            .with_will(false)
            .with_clean_session(false),
        Flags(0x63)
    );
}

#[test]
fn qos_of_mqtt_and_back() {
    for qos in [
        nightjar_mqtt::QoS::AtMostOnce,
        nightjar_mqtt::QoS::AtLeastOnce,
        nightjar_mqtt::QoS::ExactlyOnce,
    ] {
        assert_eq!(QoS::from(qos).to_mqtt(), Some(qos));
        assert_eq!(QoS::from(qos).level(), qos.bits() as i8);
    }
    assert_eq!(QoS::MinusOne.to_mqtt(), None);
}

#[test]
fn return_codes_say_what_they_mean() {
    assert!(ReturnCode::ACCEPTED.is_accepted());
    for code in 1..=255 {
        assert!(!ReturnCode(code).is_accepted());
    }
    assert_eq!(ReturnCode::CONGESTION.to_string(), "rejected: congestion");
    assert_eq!(ReturnCode(0x80).to_string(), "rejected: reserved code 0x80");
}

#[test]
fn puback_carries_the_octets_of_any_topic() {
    assert_eq!(PublishTopic::Normal(0x0102).raw(), 0x0102);
    assert_eq!(PublishTopic::Predefined(7).raw(), 7);
    assert_eq!(PublishTopic::Short(*b"te").raw(), 0x7465);
}
