//! What is refused, with which error, and that the error says expected and got.

use std::collections::BTreeSet;

use nightjar_mqttsn::{Error, Expected, Frame, Message, MsgType};

use crate::examples::{EXAMPLES, long_form};

/// (case, datagram, error, text)
const REFUSED: &[(&str, &[u8], Error, &str)] = &[
    (
        "empty",
        &[],
        Error::HeaderTruncated {
            expected: 2,
            got: 0,
        },
        "header needs 2 octets, the datagram has 0",
    ),
    (
        "1 octet",
        &[2],
        Error::HeaderTruncated {
            expected: 2,
            got: 1,
        },
        "header needs 2 octets, the datagram has 1",
    ),
    (
        "1 octet of 4",
        &[1],
        Error::HeaderTruncated {
            expected: 4,
            got: 1,
        },
        "header needs 4 octets, the datagram has 1",
    ),
    (
        "3 octets of 4",
        &[1, 0, 4],
        Error::HeaderTruncated {
            expected: 4,
            got: 3,
        },
        "header needs 4 octets, the datagram has 3",
    ),
    (
        "Length 0",
        &[0, 0x17],
        Error::LengthTooSmall {
            expected: 2,
            got: 0,
        },
        "Length is 0, less than the 2 octets of the header",
    ),
    (
        "Length 3 in 3 octets",
        &[1, 0, 3, 0x17],
        Error::LengthTooSmall {
            expected: 4,
            got: 3,
        },
        "Length is 3, less than the 4 octets of the header",
    ),
    (
        "Length beyond the end",
        &[3, 0x17],
        Error::Truncated {
            expected: 3,
            got: 2,
        },
        "Length is 3, the datagram has only 2 octets",
    ),
    (
        "Length beyond the end, 3 octets",
        &[1, 0xFF, 0xFF, 0x17],
        Error::Truncated {
            expected: 65535,
            got: 4,
        },
        "Length is 65535, the datagram has only 4 octets",
    ),
    (
        "two messages",
        &[2, 0x17, 2, 0x17],
        Error::TrailingBytes {
            expected: 2,
            got: 4,
        },
        "Length is 2, the datagram has 4 octets",
    ),
    (
        "trailing octet, 3 octets",
        &[1, 0, 4, 0x17, 0],
        Error::TrailingBytes {
            expected: 4,
            got: 5,
        },
        "Length is 4, the datagram has 5 octets",
    ),
    (
        "reserved type",
        &[2, 0x03],
        Error::ReservedMsgType { got: 0x03 },
        "message type 0x03 is reserved",
    ),
    (
        "reserved type before wrong Length",
        &[9, 0xFD],
        Error::ReservedMsgType { got: 0xFD },
        "message type 0xfd is reserved",
    ),
    (
        "ADVERTISE too short",
        &[4, 0x00, 1, 2],
        Error::VariablePart {
            message: MsgType::Advertise,
            expected: Expected::Exactly(3),
            got: 2,
        },
        "variable part of ADVERTISE has 2 octets, expected 3",
    ),
    (
        "CONNECT too short",
        &[5, 0x04, 0, 1, 0],
        Error::VariablePart {
            message: MsgType::Connect,
            expected: Expected::AtLeast(4),
            got: 3,
        },
        "variable part of CONNECT has 3 octets, expected at least 4",
    ),
    (
        "DISCONNECT with half a duration",
        &[3, 0x18, 0],
        Error::VariablePart {
            message: MsgType::Disconnect,
            expected: Expected::Either(0, 2),
            got: 1,
        },
        "variable part of DISCONNECT has 1 octets, expected 0 or 2",
    ),
    (
        "PUBLISH with TopicIdType 0b11",
        &[7, 0x0C, 0x03, 0, 1, 0, 0],
        Error::ReservedTopicIdType {
            message: MsgType::Publish,
        },
        "TopicIdType of PUBLISH is 0b11, expected 0b00 to 0b10",
    ),
    (
        "SUBSCRIBE with TopicIdType 0b11",
        &[7, 0x12, 0x03, 0, 1, 0, 7],
        Error::ReservedTopicIdType {
            message: MsgType::Subscribe,
        },
        "TopicIdType of SUBSCRIBE is 0b11, expected 0b00 to 0b10",
    ),
    (
        "UNSUBSCRIBE with TopicIdType 0b11",
        &[7, 0x14, 0x03, 0, 1, 0, 7],
        Error::ReservedTopicIdType {
            message: MsgType::Unsubscribe,
        },
        "TopicIdType of UNSUBSCRIBE is 0b11, expected 0b00 to 0b10",
    ),
    (
        "SUBSCRIBE with a predefined id of 1 octet",
        &[6, 0x12, 0x01, 0, 1, 7],
        Error::TopicSize {
            message: MsgType::Subscribe,
            expected: 2,
            got: 1,
        },
        "topic of SUBSCRIBE has 1 octets, expected 2",
    ),
    (
        "UNSUBSCRIBE with a short name of 3 octets",
        &[8, 0x14, 0x02, 0, 1, b'a', b'b', b'c'],
        Error::TopicSize {
            message: MsgType::Unsubscribe,
            expected: 2,
            got: 3,
        },
        "topic of UNSUBSCRIBE has 3 octets, expected 2",
    ),
    (
        "CONNECT, client id no text",
        &[8, 0x04, 0, 1, 0, 0, b's', 0xFF],
        Error::NotUtf8 {
            message: MsgType::Connect,
            field: "ClientId",
            valid_up_to: 1,
            got: 0xFF,
        },
        "ClientId of CONNECT is not UTF-8: expected a character at octet 1, got 0xff",
    ),
    (
        "PINGREQ, client id cut in a character",
        &[4, 0x16, b's', 0xC3],
        Error::NotUtf8 {
            message: MsgType::PingReq,
            field: "ClientId",
            valid_up_to: 1,
            got: 0xC3,
        },
        "ClientId of PINGREQ is not UTF-8: expected a character at octet 1, got 0xc3",
    ),
    (
        "WILLTOPIC, topic no text",
        &[4, 0x07, 0, 0x80],
        Error::NotUtf8 {
            message: MsgType::WillTopic,
            field: "WillTopic",
            valid_up_to: 0,
            got: 0x80,
        },
        "WillTopic of WILLTOPIC is not UTF-8: expected a character at octet 0, got 0x80",
    ),
    (
        "WILLTOPICUPD, topic no text",
        &[4, 0x1A, 0, 0x80],
        Error::NotUtf8 {
            message: MsgType::WillTopicUpd,
            field: "WillTopic",
            valid_up_to: 0,
            got: 0x80,
        },
        "WillTopic of WILLTOPICUPD is not UTF-8: expected a character at octet 0, got 0x80",
    ),
    (
        "REGISTER, topic a surrogate",
        &[9, 0x0A, 0, 0, 0, 1, 0xED, 0xA0, 0x80],
        Error::NotUtf8 {
            message: MsgType::Register,
            field: "TopicName",
            valid_up_to: 0,
            got: 0xED,
        },
        "TopicName of REGISTER is not UTF-8: expected a character at octet 0, got 0xed",
    ),
    (
        "SUBSCRIBE, topic no text",
        &[6, 0x12, 0, 0, 1, 0xFE],
        Error::NotUtf8 {
            message: MsgType::Subscribe,
            field: "TopicName",
            valid_up_to: 0,
            got: 0xFE,
        },
        "TopicName of SUBSCRIBE is not UTF-8: expected a character at octet 0, got 0xfe",
    ),
    (
        "UNSUBSCRIBE, topic no text",
        &[6, 0x14, 0, 0, 1, 0xFE],
        Error::NotUtf8 {
            message: MsgType::Unsubscribe,
            field: "TopicName",
            valid_up_to: 0,
            got: 0xFE,
        },
        "TopicName of UNSUBSCRIBE is not UTF-8: expected a character at octet 0, got 0xfe",
    ),
    (
        "encapsulation without Ctrl",
        &[2, 0xFE, 2, 0x17],
        Error::VariablePart {
            message: MsgType::Encapsulated,
            expected: Expected::AtLeast(1),
            got: 0,
        },
        "variable part of Encapsulated message has 0 octets, expected at least 1",
    ),
    (
        "encapsulation cut in the node id",
        &[6, 0xFE, 0, 1],
        Error::Truncated {
            expected: 6,
            got: 4,
        },
        "Length is 6, the datagram has only 4 octets",
    ),
    (
        "encapsulation of nothing",
        &[4, 0xFE, 0, 9],
        Error::HeaderTruncated {
            expected: 2,
            got: 0,
        },
        "header needs 2 octets, the datagram has 0",
    ),
    (
        "encapsulation of a cut message",
        &[4, 0xFE, 0, 9, 3, 0x17],
        Error::Truncated {
            expected: 3,
            got: 2,
        },
        "Length is 3, the datagram has only 2 octets",
    ),
    (
        "encapsulation with octets behind the message",
        &[4, 0xFE, 0, 9, 2, 0x17, 0],
        Error::TrailingBytes {
            expected: 2,
            got: 3,
        },
        "Length is 2, the datagram has 3 octets",
    ),
    (
        "encapsulation in an encapsulation",
        &[4, 0xFE, 0, 9, 4, 0xFE, 0, 9, 2, 0x17],
        Error::NestedEncapsulation,
        "expected a message, got a forwarder encapsulation",
    ),
];

#[test]
fn malformed_datagrams_are_refused_with_expected_and_got() {
    for (case, datagram, error, text) in REFUSED {
        assert_eq!(Frame::decode(datagram), Err(*error), "{case}");
        assert_eq!(error.to_string(), *text, "{case}");
    }
}

#[test]
fn a_bare_decoder_refuses_an_encapsulation() {
    assert_eq!(
        Message::decode(&[4, 0xFE, 0, 9, 2, 0x17]),
        Err(Error::NestedEncapsulation)
    );
}

#[test]
fn every_reserved_type_is_refused() {
    for code in 0..=255u8 {
        let reserved = matches!(code, 0x03 | 0x11 | 0x19 | 0x1E..=0xFD | 0xFF);
        let refused = Frame::decode(&[2, code]) == Err(Error::ReservedMsgType { got: code });
        assert_eq!(refused, reserved, "{code:#04x}");
    }
}

/// Octets of the variable part that a type may have: (least, most).
fn sizes(message: MsgType) -> (usize, usize) {
    const ANY: usize = usize::MAX;
    match message {
        MsgType::WillTopicReq | MsgType::WillMsgReq | MsgType::PingResp => (0, 0),
        MsgType::SearchGw | MsgType::ConnAck | MsgType::WillTopicResp | MsgType::WillMsgResp => {
            (1, 1)
        }
        MsgType::PubRec | MsgType::PubRel | MsgType::PubComp | MsgType::UnsubAck => (2, 2),
        MsgType::Advertise => (3, 3),
        MsgType::RegAck | MsgType::PubAck => (5, 5),
        MsgType::SubAck => (6, 6),
        MsgType::Disconnect => (0, 2),
        MsgType::GwInfo => (1, ANY),
        MsgType::Subscribe | MsgType::Unsubscribe => (3, ANY),
        MsgType::Connect | MsgType::Register => (4, ANY),
        MsgType::Publish => (5, ANY),
        MsgType::WillTopic
        | MsgType::WillMsg
        | MsgType::PingReq
        | MsgType::WillTopicUpd
        | MsgType::WillMsgUpd => (0, ANY),
        MsgType::Encapsulated => unreachable!("has no variable part of its own"),
    }
}

#[test]
fn every_type_refuses_a_variable_part_of_the_wrong_size() {
    for message in MsgType::ALL
        .into_iter()
        .filter(|t| *t != MsgType::Encapsulated)
    {
        let (least, most) = sizes(message);
        for size in 0..20usize {
            let mut datagram = vec![size as u8 + 2, message.code()];
            // Text for those who read text, and flags with TopicIdType 0b00 for those who read flags.
            datagram.resize(size + 2, 0x60);
            let fits =
                (least..=most).contains(&size) && (message, size) != (MsgType::Disconnect, 1);
            for bytes in [long_form(&datagram), datagram] {
                match Message::decode(&bytes) {
                    Ok(decoded) => assert!(fits && decoded.msg_type() == message, "{bytes:02x?}"),
                    Err(Error::VariablePart {
                        message: named,
                        got,
                        ..
                    }) => {
                        assert!(!fits && named == message && got == size, "{bytes:02x?}");
                    }
                    Err(other) => panic!("{bytes:02x?}: {other}"),
                }
            }
        }
    }
}

#[test]
fn every_example_is_refused_when_cut_or_followed_by_an_octet() {
    for (name, _, short) in EXAMPLES {
        for bytes in [short.to_vec(), long_form(short)] {
            for cut in 0..bytes.len() {
                let error = Frame::decode(&bytes[..cut]).expect_err(name);
                let expected = ["header_truncated", "truncated"];
                assert!(
                    expected.contains(&error.reason()),
                    "{name} cut to {cut}: {error}"
                );
            }
            let longer = [&bytes[..], &[0]].concat();
            let expected = Error::TrailingBytes {
                expected: bytes.len(),
                got: bytes.len() + 1,
            };
            assert_eq!(Frame::decode(&longer), Err(expected), "{name}");
        }
    }
}

#[test]
fn every_reason_is_listed_once_and_the_table_shows_each_decoding_one() {
    let listed: BTreeSet<&str> = Error::REASONS.into_iter().collect();
    assert_eq!(listed.len(), Error::REASONS.len());
    let too_long = Error::TooLong {
        message: MsgType::WillMsg,
        expected: 1,
        got: 2,
    };
    let shown: BTreeSet<&str> = REFUSED
        .iter()
        .map(|(_, _, error, _)| error.reason())
        .chain([too_long.reason()])
        .collect();
    assert_eq!(shown, listed);
}

#[test]
fn errors_name_the_message_type_once_it_is_known() {
    assert_eq!(
        Error::HeaderTruncated {
            expected: 2,
            got: 0
        }
        .message(),
        None
    );
    assert_eq!(Error::ReservedMsgType { got: 3 }.message(), None);
    assert_eq!(
        Error::NestedEncapsulation.message(),
        Some(MsgType::Encapsulated)
    );
    for (_, _, error, text) in REFUSED {
        if let Some(message) = error
            .message()
            .filter(|_| *error != Error::NestedEncapsulation)
        {
            assert!(text.contains(message.name()), "{text}");
        }
    }
}
