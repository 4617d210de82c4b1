//! Round trips of arbitrary messages, and what decoding arbitrary bytes must keep.

use nightjar_mqttsn::{
    Advertise, Connect, Encapsulation, FilterOrId, Frame, GwInfo, Message, PubAck, Publish,
    PublishTopic, QoS, RegAck, Register, ReturnCode, SubAck, Subscribe, Unsubscribe, WillTopic,
};
use proptest::prelude::*;

/// What a message is made of; each kind takes what it needs.
#[derive(Debug, Clone)]
struct Parts {
    kind: u8,
    flags: [bool; 3],
    qos: i8,
    topic_type: u8,
    ids: [u16; 3],
    octet: u8,
    text: String,
    data: Vec<u8>,
    present: bool,
}

prop_compose! {
    fn parts()(
        kind in 0..27u8,
        flags: [bool; 3],
        qos in -1..=2i8,
        topic_type in 0..3u8,
        ids: [u16; 3],
        octet: u8,
        text in "\\PC{0,40}",
        data in proptest::collection::vec(any::<u8>(), 0..600),
        present: bool,
    ) -> Parts {
        Parts { kind, flags, qos, topic_type, ids, octet, text, data, present }
    }
}

fn message(p: &Parts) -> Message<'_> {
    let [dup, retain, will] = p.flags;
    let qos = QoS::from_level(p.qos).expect("-1 to 2");
    let [topic_id, msg_id, duration] = p.ids;
    let return_code = ReturnCode(p.octet);
    let text = p.text.as_str();
    let data = p.data.as_slice();
    let will_topic = p.present.then_some(WillTopic {
        qos,
        retain,
        topic: text,
    });
    let filter = match p.topic_type {
        0 => FilterOrId::Name(text),
        1 => FilterOrId::Predefined(topic_id),
        _ => FilterOrId::Short(topic_id.to_be_bytes()),
    };
    let topic = match p.topic_type {
        0 => PublishTopic::Normal(topic_id),
        1 => PublishTopic::Predefined(topic_id),
        _ => PublishTopic::Short(topic_id.to_be_bytes()),
    };
    match p.kind {
        0 => Message::Advertise(Advertise {
            gw_id: p.octet,
            duration,
        }),
        1 => Message::SearchGw { radius: p.octet },
        2 => Message::GwInfo(GwInfo {
            gw_id: p.octet,
            gw_add: data,
        }),
        3 => Message::Connect(Connect {
            will,
            clean_session: dup,
            protocol_id: p.octet,
            duration,
            client_id: text,
        }),
        4 => Message::ConnAck { return_code },
        5 => Message::WillTopicReq,
        6 => Message::WillTopic(will_topic),
        7 => Message::WillMsgReq,
        8 => Message::WillMsg { will_msg: data },
        9 => Message::Register(Register {
            topic_id,
            msg_id,
            topic_name: text,
        }),
        10 => Message::RegAck(RegAck {
            topic_id,
            msg_id,
            return_code,
        }),
        11 => Message::Publish(Publish {
            dup,
            qos,
            retain,
            topic,
            msg_id,
            data,
        }),
        12 => Message::PubAck(PubAck {
            topic_id,
            msg_id,
            return_code,
        }),
        13 => Message::PubRec { msg_id },
        14 => Message::PubRel { msg_id },
        15 => Message::PubComp { msg_id },
        16 => Message::Subscribe(Subscribe {
            dup,
            qos,
            msg_id,
            topic: filter,
        }),
        17 => Message::SubAck(SubAck {
            qos,
            topic_id,
            msg_id,
            return_code,
        }),
        18 => Message::Unsubscribe(Unsubscribe {
            msg_id,
            topic: filter,
        }),
        19 => Message::UnsubAck { msg_id },
        20 => Message::PingReq {
            client_id: (!text.is_empty()).then_some(text),
        },
        21 => Message::PingResp,
        22 => Message::Disconnect {
            duration: p.present.then_some(duration),
        },
        23 => Message::WillTopicUpd(will_topic),
        24 => Message::WillTopicResp { return_code },
        25 => Message::WillMsgUpd { will_msg: data },
        _ => Message::WillMsgResp { return_code },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_encoded_is_decoded(parts in parts(), forwarder in proptest::option::of((0..4u8, "[a-z]{0,9}"))) {
        let message = message(&parts);
        let encapsulation = forwarder.as_ref().map(|(radius, id)| Encapsulation { radius: *radius, node_id: id.as_bytes() });
        let frame = Frame { encapsulation, message };
        let mut out = Vec::new();
        frame.encode(&mut out).expect("600 octets fit");
        prop_assert_eq!(out.len(), frame.encoded_len());
        prop_assert_eq!(Frame::decode(&out), Ok(frame));
        prop_assert!(message.msg_id().is_none_or(|msg_id| msg_id == parts.ids[1]));
        // A frame is whole or nothing: no shorter datagram decodes, and no longer one.
        for cut in 0..out.len() {
            prop_assert!(Frame::decode(&out[..cut]).is_err());
        }
        out.push(0);
        prop_assert!(Frame::decode(&out).is_err());
    }
}
