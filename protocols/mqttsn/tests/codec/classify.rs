//! Telling the versions apart by a first datagram.

use nightjar_mqttsn::{Dialect, classify};

#[test]
fn first_datagrams_tell_the_version() {
    let cases: &[(&str, &[u8], Dialect)] = &[
        ("1.2 SEARCHGW", &[3, 0x01, 0], Dialect::V1_2),
        (
            "2.0 CONNECT",
            &[12, 0x01, 0, 0, 1, 2, 0, 60, 0, 0, 0, 0],
            Dialect::V2_0,
        ),
        (
            "type 0x01, version 3",
            &[12, 0x01, 0, 0, 1, 3, 0, 60, 0, 0, 0, 0],
            Dialect::Unknown,
        ),
        (
            "1.2 CONNECT",
            &[8, 0x04, 4, 1, 0, 60, b's', b'1'],
            Dialect::V1_2,
        ),
        (
            "1.2 CONNECT, 3-octet Length",
            &[1, 0, 10, 0x04, 4, 1, 0, 60, b's', b'1'],
            Dialect::V1_2,
        ),
        (
            "type 0x04, other protocol",
            &[8, 0x04, 4, 9, 0, 60, b's', b'1'],
            Dialect::Unknown,
        ),
        ("2.0 PINGREQ", &[4, 0x0C, 0, 1], Dialect::V2_0),
        (
            "1.2 PUBLISH, QoS -1",
            &[8, 0x0C, 0x61, 0, 7, 0, 0, b'x'],
            Dialect::V1_2,
        ),
        (
            "PUBLISH, QoS 1, of a lost session",
            &[8, 0x0C, 0x20, 0, 7, 0, 1, b'x'],
            Dialect::Unknown,
        ),
        (
            "1.2 SUBSCRIBE or 2.0 PUBWOS",
            &[7, 0x12, 0, 0, 1, b'a', b'b'],
            Dialect::SubscribeOrPubWos,
        ),
        ("1.2 PINGREQ", &[4, 0x16, b's', b'1'], Dialect::V1_2),
        ("1.2 DISCONNECT", &[2, 0x18], Dialect::V1_2),
        (
            "1.2 encapsulation",
            &[4, 0xFE, 0, 9, 2, 0x16],
            Dialect::V1_2,
        ),
        (
            "2.0 encapsulation",
            &[6, 0xFE, 0, 9, 2, 0x16],
            Dialect::V2_0,
        ),
        (
            "encapsulation beyond the end",
            &[7, 0xFE, 0, 9, 2, 0x16],
            Dialect::Unknown,
        ),
        ("2.0 only", &[2, 0xFC], Dialect::V2_0),
        ("2.0 only", &[2, 0xFF], Dialect::V2_0),
        ("2.0 only", &[2, 0x17], Dialect::V2_0),
        ("reserved in both", &[2, 0x40], Dialect::Unknown),
        ("no header", &[7], Dialect::Unknown),
        ("nothing", &[], Dialect::Unknown),
        (
            "header longer than the datagram",
            &[1, 0, 9, 0x04],
            Dialect::Unknown,
        ),
    ];
    for (case, datagram, dialect) in cases {
        assert_eq!(classify(datagram), *dialect, "{case}");
    }
}
