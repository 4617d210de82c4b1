//! Every message type with the bytes of its shortest form, written out by hand from section 5.4.

use nightjar_mqttsn::{
    Advertise, Connect, FilterOrId, GwInfo, Message, PubAck, Publish, PublishTopic, QoS, RegAck,
    Register, ReturnCode, SubAck, Subscribe, Unsubscribe, WillTopic,
};

/// A message, what is special about it, and its bytes with the 1-octet Length.
pub type Example = (&'static str, Message<'static>, &'static [u8]);

/// A PUBLISH to vary.
const PUBLISH: Publish<'static> = Publish {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: PublishTopic::Normal(0x0102),
    msg_id: 0,
    data: b"hi",
};

/// A CONNECT to vary.
const CONNECT: Connect<'static> = Connect {
    will: false,
    clean_session: false,
    protocol_id: 1,
    duration: 0x0E10,
    client_id: "s1",
};

/// At least one example of each message type and of each value of each flag.
pub const EXAMPLES: &[Example] = &[
    (
        "ADVERTISE",
        Message::Advertise(Advertise {
            gw_id: 9,
            duration: 900,
        }),
        &[5, 0x00, 9, 0x03, 0x84],
    ),
    (
        "SEARCHGW, whole network",
        Message::SearchGw { radius: 0 },
        &[3, 0x01, 0],
    ),
    (
        "SEARCHGW, 3 hops",
        Message::SearchGw { radius: 3 },
        &[3, 0x01, 3],
    ),
    (
        "GWINFO of a gateway",
        Message::GwInfo(GwInfo {
            gw_id: 9,
            gw_add: b"",
        }),
        &[3, 0x02, 9],
    ),
    (
        "GWINFO of a client",
        Message::GwInfo(GwInfo {
            gw_id: 9,
            gw_add: &[192, 0, 2, 1, 0x07, 0x5C],
        }),
        &[9, 0x02, 9, 192, 0, 2, 1, 0x07, 0x5C],
    ),
    (
        "CONNECT, no flag",
        Message::Connect(CONNECT),
        &[8, 0x04, 0x00, 1, 0x0E, 0x10, b's', b'1'],
    ),
    (
        "CONNECT, CleanSession",
        Message::Connect(Connect {
            clean_session: true,
            ..CONNECT
        }),
        &[8, 0x04, 0x04, 1, 0x0E, 0x10, b's', b'1'],
    ),
    (
        "CONNECT, Will",
        Message::Connect(Connect {
            will: true,
            ..CONNECT
        }),
        &[8, 0x04, 0x08, 1, 0x0E, 0x10, b's', b'1'],
    ),
    (
        "CONNECT, Will and CleanSession",
        Message::Connect(Connect {
            will: true,
            clean_session: true,
            ..CONNECT
        }),
        &[8, 0x04, 0x0C, 1, 0x0E, 0x10, b's', b'1'],
    ),
    (
        "CONNECT, no client id, other protocol, longest duration",
        Message::Connect(Connect {
            protocol_id: 2,
            duration: 0xFFFF,
            client_id: "",
            ..CONNECT
        }),
        &[6, 0x04, 0x00, 2, 0xFF, 0xFF],
    ),
    (
        "CONNECT, client id of 24 characters",
        Message::Connect(Connect {
            client_id: "abcdefghijklmnopqrstuvwx",
            ..CONNECT
        }),
        b"\x1E\x04\x00\x01\x0E\x10abcdefghijklmnopqrstuvwx",
    ),
    (
        "CONNACK, accepted",
        Message::ConnAck {
            return_code: ReturnCode::ACCEPTED,
        },
        &[3, 0x05, 0],
    ),
    (
        "CONNACK, congestion",
        Message::ConnAck {
            return_code: ReturnCode::CONGESTION,
        },
        &[3, 0x05, 1],
    ),
    (
        "CONNACK, invalid topic id",
        Message::ConnAck {
            return_code: ReturnCode::INVALID_TOPIC_ID,
        },
        &[3, 0x05, 2],
    ),
    (
        "CONNACK, not supported",
        Message::ConnAck {
            return_code: ReturnCode::NOT_SUPPORTED,
        },
        &[3, 0x05, 3],
    ),
    (
        "CONNACK, reserved code",
        Message::ConnAck {
            return_code: ReturnCode(0x80),
        },
        &[3, 0x05, 0x80],
    ),
    ("WILLTOPICREQ", Message::WillTopicReq, &[2, 0x06]),
    ("WILLTOPIC, empty", Message::WillTopic(None), &[2, 0x07]),
    (
        "WILLTOPIC, QoS 0",
        Message::WillTopic(Some(WillTopic {
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "w/t",
        })),
        &[6, 0x07, 0x00, b'w', b'/', b't'],
    ),
    (
        "WILLTOPIC, QoS 1, Retain",
        Message::WillTopic(Some(WillTopic {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "w",
        })),
        &[4, 0x07, 0x30, b'w'],
    ),
    (
        "WILLTOPIC, QoS 2",
        Message::WillTopic(Some(WillTopic {
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "w",
        })),
        &[4, 0x07, 0x40, b'w'],
    ),
    (
        "WILLTOPIC, QoS -1, empty topic",
        Message::WillTopic(Some(WillTopic {
            qos: QoS::MinusOne,
            retain: false,
            topic: "",
        })),
        &[3, 0x07, 0x60],
    ),
    ("WILLMSGREQ", Message::WillMsgReq, &[2, 0x08]),
    (
        "WILLMSG",
        Message::WillMsg { will_msg: b"gone" },
        b"\x06\x09gone",
    ),
    (
        "WILLMSG, empty",
        Message::WillMsg { will_msg: b"" },
        &[2, 0x09],
    ),
    (
        "REGISTER of a client",
        Message::Register(Register {
            topic_id: 0,
            msg_id: 0x1234,
            topic_name: "a/b",
        }),
        &[9, 0x0A, 0, 0, 0x12, 0x34, b'a', b'/', b'b'],
    ),
    (
        "REGISTER of a gateway, name of two octets a character",
        Message::Register(Register {
            topic_id: 0x0A0B,
            msg_id: 1,
            topic_name: "é",
        }),
        &[8, 0x0A, 0x0A, 0x0B, 0, 1, 0xC3, 0xA9],
    ),
    (
        "REGACK",
        Message::RegAck(RegAck {
            topic_id: 0x0A0B,
            msg_id: 0x1234,
            return_code: ReturnCode::ACCEPTED,
        }),
        &[7, 0x0B, 0x0A, 0x0B, 0x12, 0x34, 0],
    ),
    (
        "REGACK, not supported",
        Message::RegAck(RegAck {
            topic_id: 0,
            msg_id: 0x1234,
            return_code: ReturnCode::NOT_SUPPORTED,
        }),
        &[7, 0x0B, 0, 0, 0x12, 0x34, 3],
    ),
    (
        "PUBLISH, QoS 0",
        Message::Publish(PUBLISH),
        &[9, 0x0C, 0x00, 1, 2, 0, 0, b'h', b'i'],
    ),
    (
        "PUBLISH, QoS 1, no data",
        Message::Publish(Publish {
            qos: QoS::AtLeastOnce,
            msg_id: 0xFFFE,
            data: b"",
            ..PUBLISH
        }),
        &[7, 0x0C, 0x20, 1, 2, 0xFF, 0xFE],
    ),
    (
        "PUBLISH, QoS 2, DUP",
        Message::Publish(Publish {
            dup: true,
            qos: QoS::ExactlyOnce,
            msg_id: 7,
            ..PUBLISH
        }),
        &[9, 0x0C, 0xC0, 1, 2, 0, 7, b'h', b'i'],
    ),
    (
        "PUBLISH, Retain, reserved topic id",
        Message::Publish(Publish {
            retain: true,
            topic: PublishTopic::Normal(0xFFFF),
            ..PUBLISH
        }),
        &[9, 0x0C, 0x10, 0xFF, 0xFF, 0, 0, b'h', b'i'],
    ),
    (
        "PUBLISH, QoS -1, predefined topic id",
        Message::Publish(Publish {
            qos: QoS::MinusOne,
            topic: PublishTopic::Predefined(7),
            ..PUBLISH
        }),
        &[9, 0x0C, 0x61, 0, 7, 0, 0, b'h', b'i'],
    ),
    (
        "PUBLISH, short topic name",
        Message::Publish(Publish {
            topic: PublishTopic::Short(*b"te"),
            ..PUBLISH
        }),
        &[9, 0x0C, 0x02, b't', b'e', 0, 0, b'h', b'i'],
    ),
    (
        "PUBLISH, short topic name that is no text",
        Message::Publish(Publish {
            topic: PublishTopic::Short([0xFF, 0x00]),
            ..PUBLISH
        }),
        &[9, 0x0C, 0x02, 0xFF, 0x00, 0, 0, b'h', b'i'],
    ),
    (
        "PUBACK",
        Message::PubAck(PubAck {
            topic_id: 0x0102,
            msg_id: 0x0304,
            return_code: ReturnCode::ACCEPTED,
        }),
        &[7, 0x0D, 1, 2, 3, 4, 0],
    ),
    (
        "PUBACK, invalid topic id",
        Message::PubAck(PubAck {
            topic_id: 0x0102,
            msg_id: 0,
            return_code: ReturnCode::INVALID_TOPIC_ID,
        }),
        &[7, 0x0D, 1, 2, 0, 0, 2],
    ),
    (
        "PUBCOMP",
        Message::PubComp { msg_id: 0x0102 },
        &[4, 0x0E, 1, 2],
    ),
    (
        "PUBREC",
        Message::PubRec { msg_id: 0x0102 },
        &[4, 0x0F, 1, 2],
    ),
    (
        "PUBREL",
        Message::PubRel { msg_id: 0x0102 },
        &[4, 0x10, 1, 2],
    ),
    (
        "SUBSCRIBE, QoS 0, topic name",
        Message::Subscribe(Subscribe {
            dup: false,
            qos: QoS::AtMostOnce,
            msg_id: 0x0102,
            topic: FilterOrId::Name("a/b"),
        }),
        &[8, 0x12, 0x00, 1, 2, b'a', b'/', b'b'],
    ),
    (
        "SUBSCRIBE, QoS 1, DUP, wildcard",
        Message::Subscribe(Subscribe {
            dup: true,
            qos: QoS::AtLeastOnce,
            msg_id: 0x0102,
            topic: FilterOrId::Name("+/#"),
        }),
        &[8, 0x12, 0xA0, 1, 2, b'+', b'/', b'#'],
    ),
    (
        "SUBSCRIBE, topic name of 2 octets that is no short name",
        Message::Subscribe(Subscribe {
            dup: false,
            qos: QoS::AtMostOnce,
            msg_id: 1,
            topic: FilterOrId::Name("ab"),
        }),
        &[7, 0x12, 0x00, 0, 1, b'a', b'b'],
    ),
    (
        "SUBSCRIBE, QoS 2, predefined topic id",
        Message::Subscribe(Subscribe {
            dup: false,
            qos: QoS::ExactlyOnce,
            msg_id: 1,
            topic: FilterOrId::Predefined(7),
        }),
        &[7, 0x12, 0x41, 0, 1, 0, 7],
    ),
    (
        "SUBSCRIBE, QoS -1, short topic name",
        Message::Subscribe(Subscribe {
            dup: false,
            qos: QoS::MinusOne,
            msg_id: 1,
            topic: FilterOrId::Short(*b"te"),
        }),
        &[7, 0x12, 0x62, 0, 1, b't', b'e'],
    ),
    (
        "SUBSCRIBE, empty topic name",
        Message::Subscribe(Subscribe {
            dup: false,
            qos: QoS::AtMostOnce,
            msg_id: 1,
            topic: FilterOrId::Name(""),
        }),
        &[5, 0x12, 0x00, 0, 1],
    ),
    (
        "SUBACK",
        Message::SubAck(SubAck {
            qos: QoS::ExactlyOnce,
            topic_id: 0x0102,
            msg_id: 0x0304,
            return_code: ReturnCode::ACCEPTED,
        }),
        &[8, 0x13, 0x40, 1, 2, 3, 4, 0],
    ),
    (
        "UNSUBSCRIBE, topic name",
        Message::Unsubscribe(Unsubscribe {
            msg_id: 0x0102,
            topic: FilterOrId::Name("a"),
        }),
        &[6, 0x14, 0x00, 1, 2, b'a'],
    ),
    (
        "UNSUBSCRIBE, predefined topic id",
        Message::Unsubscribe(Unsubscribe {
            msg_id: 0x0102,
            topic: FilterOrId::Predefined(0x0708),
        }),
        &[7, 0x14, 0x01, 1, 2, 7, 8],
    ),
    (
        "UNSUBSCRIBE, short topic name",
        Message::Unsubscribe(Unsubscribe {
            msg_id: 0x0102,
            topic: FilterOrId::Short(*b"te"),
        }),
        &[7, 0x14, 0x02, 1, 2, b't', b'e'],
    ),
    (
        "UNSUBACK",
        Message::UnsubAck { msg_id: 0x0102 },
        &[4, 0x15, 1, 2],
    ),
    ("PINGREQ", Message::PingReq { client_id: None }, &[2, 0x16]),
    (
        "PINGREQ of a waking client",
        Message::PingReq {
            client_id: Some("s1"),
        },
        &[4, 0x16, b's', b'1'],
    ),
    ("PINGRESP", Message::PingResp, &[2, 0x17]),
    (
        "DISCONNECT",
        Message::Disconnect { duration: None },
        &[2, 0x18],
    ),
    (
        "DISCONNECT into sleep",
        Message::Disconnect {
            duration: Some(0x0E10),
        },
        &[4, 0x18, 0x0E, 0x10],
    ),
    (
        "DISCONNECT with duration 0",
        Message::Disconnect { duration: Some(0) },
        &[4, 0x18, 0, 0],
    ),
    (
        "WILLTOPICUPD, empty",
        Message::WillTopicUpd(None),
        &[2, 0x1A],
    ),
    (
        "WILLTOPICUPD",
        Message::WillTopicUpd(Some(WillTopic {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "w",
        })),
        &[4, 0x1A, 0x30, b'w'],
    ),
    (
        "WILLTOPICRESP",
        Message::WillTopicResp {
            return_code: ReturnCode::ACCEPTED,
        },
        &[3, 0x1B, 0],
    ),
    (
        "WILLMSGUPD",
        Message::WillMsgUpd { will_msg: b"gone" },
        b"\x06\x1Cgone",
    ),
    (
        "WILLMSGUPD, empty",
        Message::WillMsgUpd { will_msg: b"" },
        &[2, 0x1C],
    ),
    (
        "WILLMSGRESP",
        Message::WillMsgResp {
            return_code: ReturnCode::NOT_SUPPORTED,
        },
        &[3, 0x1D, 3],
    ),
];

/// The same message with the 3-octet Length.
pub fn long_form(short: &[u8]) -> Vec<u8> {
    let length = u16::from(short[0]) + 2;
    let mut long = vec![0x01];
    long.extend_from_slice(&length.to_be_bytes());
    long.extend_from_slice(&short[1..]);
    long
}
