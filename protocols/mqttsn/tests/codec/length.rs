//! The Length field: where its forms meet, and its limits.

use nightjar_mqttsn::{
    Encapsulation, Error, Frame, MAX_MESSAGE_LEN, Message, MsgType, Publish, PublishTopic, QoS,
};

fn publish(data: &[u8]) -> Message<'_> {
    let topic = PublishTopic::Normal(1);
    Message::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        msg_id: 0,
        data,
    })
}

#[test]
fn the_shortest_form_is_sent_on_both_sides_of_255_octets() {
    // (octets of the will message, first octets of the datagram, octets of the datagram)
    let cases: &[(usize, &[u8], usize)] = &[
        (0, &[2, 0x09], 2),
        (252, &[254, 0x09], 254),
        (253, &[255, 0x09], 255),
        (254, &[0x01, 0x01, 0x02, 0x09], 258),
        (255, &[0x01, 0x01, 0x03, 0x09], 259),
        (65531, &[0x01, 0xFF, 0xFF, 0x09], 65535),
    ];
    let octets = vec![0x5A; 65531];
    for &(will, head, total) in cases {
        let message = Message::WillMsg {
            will_msg: &octets[..will],
        };
        let mut out = Vec::new();
        message.encode(&mut out).expect("not above the limit");
        assert_eq!(
            (&out[..head.len()], out.len(), message.encoded_len()),
            (head, total, total),
            "{will} octets"
        );
        assert_eq!(Message::decode(&out), Ok(message), "{will} octets");
    }
}

#[test]
fn a_message_longer_than_the_length_field_is_not_encoded() {
    let octets = vec![0; 65532];
    let mut out = vec![0xAA];
    let error = Message::WillMsg { will_msg: &octets }
        .encode(&mut out)
        .expect_err("one octet too long");
    assert_eq!(
        error,
        Error::TooLong {
            message: MsgType::WillMsg,
            expected: MAX_MESSAGE_LEN,
            got: 65536
        }
    );
    assert_eq!(
        error.to_string(),
        "WILLMSG of 65536 octets, at most 65535 can be encoded"
    );
    assert_eq!(out, [0xAA], "nothing was written");
    assert!(publish(&octets[..65526]).encode(&mut out).is_ok());
    assert!(publish(&octets[..65527]).encode(&mut out).is_err());
}

#[test]
fn a_failed_frame_leaves_no_encapsulation_behind() {
    let octets = vec![0; 65532];
    let encapsulation = Some(Encapsulation {
        radius: 0,
        node_id: &[1, 2],
    });
    let mut out = vec![0xAA];
    assert!(
        Frame {
            encapsulation,
            message: Message::WillMsg { will_msg: &octets }
        }
        .encode(&mut out)
        .is_err()
    );
    assert_eq!(out, [0xAA]);
}

#[test]
fn a_node_id_of_252_octets_is_the_longest() {
    let octets = [7; 253];
    let message = Message::PingResp;
    let mut out = Vec::new();
    let longest = Frame {
        encapsulation: Some(Encapsulation {
            radius: 0,
            node_id: &octets[..252],
        }),
        message,
    };
    longest.encode(&mut out).expect("fits a 1-octet Length");
    assert_eq!((out[0], out.len()), (255, 257));
    assert_eq!(Frame::decode(&out), Ok(longest));

    out.clear();
    let error = Frame {
        encapsulation: Some(Encapsulation {
            radius: 0,
            node_id: &octets,
        }),
        message,
    }
    .encode(&mut out);
    assert_eq!(
        error,
        Err(Error::TooLong {
            message: MsgType::Encapsulated,
            expected: 255,
            got: 256
        })
    );
    assert!(out.is_empty());
}
