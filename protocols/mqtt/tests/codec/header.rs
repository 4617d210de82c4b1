//! The fixed header: types, flags, directions, lengths.

use nightjar_mqtt::{DecodeError, Decoded, Decoder, Packet, PacketType, ProtocolVersion};

use crate::script::*;

#[test]
fn only_connect_comes_first() {
    let mut rows = Vec::new();
    for first in 0..=255u8 {
        if first >> 4 != 1 {
            rows.push(first);
        }
    }
    assert_eq!(rows.len(), 240);
    for first in rows {
        let error = DecodeError::ExpectedConnect(first);
        // One byte is enough to tell.
        assert_eq!(NEW.decode(&[first]), Err(error), "0x{first:02X}");
        assert_eq!(error.reason_code().code(), 0x82);
    }
    // TLS, HTTP.
    assert!(matches!(
        NEW.decode(b"\x16\x03\x01"),
        Err(DecodeError::ReservedFlags { got: 6, .. })
    ));
    assert_eq!(
        NEW.decode(b"GET / HTTP/1.1"),
        Err(DecodeError::ExpectedConnect(b'G'))
    );
}

/// The legal flags of each type by table 2-2, for a version after 3.1.
fn legal(packet: PacketType, flags: u8) -> bool {
    match packet {
        PacketType::Publish => flags >> 1 & 3 != 3 && !(flags & 8 != 0 && flags >> 1 & 3 == 0),
        PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => flags == 2,
        _ => flags == 0,
    }
}

/// The side that may send each type, by section 2.1.2.
fn legal_for(decoder: Decoder, packet: PacketType) -> bool {
    use PacketType::*;
    let v5 = decoder.version == Some(ProtocolVersion::V5);
    match packet {
        Connect => false,
        Connack | Suback | Unsuback | Pingresp => decoder.role == nightjar_mqtt::Role::Client,
        Subscribe | Unsubscribe | Pingreq => decoder.role == nightjar_mqtt::Role::Server,
        Publish | Puback | Pubrec | Pubrel | Pubcomp => true,
        Disconnect => v5 || decoder.role == nightjar_mqtt::Role::Server,
        Auth => v5,
    }
}

#[test]
fn first_bytes_are_judged_alone() {
    for decoder in [S311, S5, C311, C5] {
        for first in 0..=255u8 {
            let buf = [first];
            let got = strict(decoder).decode(&buf);
            let Some(packet) = PacketType::from_bits(first >> 4) else {
                assert_eq!(got, Err(DecodeError::ReservedPacketType(0)));
                continue;
            };
            let name = format!("{packet} 0x{first:02X} {decoder:?}");
            if !legal_for(decoder, packet) {
                let error = got.expect_err(&name);
                let expected = match packet {
                    PacketType::Auth => DecodeError::ReservedPacketType(15),
                    PacketType::Connect if decoder.role == nightjar_mqtt::Role::Server => {
                        DecodeError::SecondConnect
                    }
                    _ => DecodeError::WrongDirection(packet),
                };
                assert_eq!(error, expected, "{name}");
                let code = if packet == PacketType::Auth {
                    0x81
                } else {
                    0x82
                };
                assert_eq!(error.reason_code().code(), code, "{name}");
            } else if legal(packet, first & 15) {
                assert_eq!(got, Ok(Decoded::Incomplete { needed: 2 }), "{name}");
            } else {
                assert_eq!(got.expect_err(&name).reason_code().code(), 0x81, "{name}");
            }
        }
    }
}

#[test]
fn dup_with_qos_0_is_served_for_3x_only_and_only_leniently() {
    for (decoder, served) in [
        (S31, true),
        (S311, true),
        (S5, false),
        (C311, true),
        (C5, false),
    ] {
        assert_eq!(decoder.decode(&[0x38]).is_ok(), served, "{decoder:?}");
        assert_eq!(
            strict(decoder).decode(&[0x38]),
            Err(DecodeError::DupWithQoS0)
        );
    }
}

#[test]
fn version_3_1_has_flags_of_its_own() {
    // SUBSCRIBE, UNSUBSCRIBE and PUBREL have QoS 1 and so DUP.
    for first in [0x62, 0x6A, 0x82, 0x8A, 0xA2, 0xAA] {
        assert!(strict(S31).decode(&[first]).is_ok(), "0x{first:02X}");
        assert_eq!(
            strict(S311).decode(&[first]).is_ok(),
            first & 8 == 0,
            "0x{first:02X}"
        );
    }
    // All others "are not used": leniently not looked at.
    for first in [0x41, 0x51, 0x60, 0x71, 0x80, 0xA0, 0xC1, 0xE3] {
        assert!(S31.decode(&[first]).is_ok(), "0x{first:02X}");
        assert!(
            matches!(
                strict(S31).decode(&[first]),
                Err(DecodeError::ReservedFlags { .. })
            ),
            "0x{first:02X}"
        );
        assert!(
            matches!(
                S311.decode(&[first]),
                Err(DecodeError::ReservedFlags { .. })
            ),
            "0x{first:02X}"
        );
    }
    assert!(matches!(S31.decode(&[0x36]), Err(DecodeError::PublishQoS)));
}

#[test]
fn remaining_length_has_four_bytes_at_most() {
    let huge = Decoder {
        max_packet_size: u32::MAX,
        ..S311
    };
    let cases: [(&str, Result<usize, DecodeError>); 14] = [
        ("30", Ok(2)),
        ("30 7F", Ok(129)),
        ("30 80", Ok(3)),
        ("30 8001", Ok(131)),
        ("30 FF7F", Ok(16_386)),
        ("30 8080", Ok(4)),
        ("30 808001", Ok(16_388)),
        ("30 FFFF7F", Ok(2_097_155)),
        ("30 808080", Ok(5)),
        ("30 80808001", Ok(2_097_157)),
        ("30 FFFFFF7F", Ok(268_435_460)),
        ("30 80808080", Err(DecodeError::RemainingLength)),
        ("30 FFFFFFFF", Err(DecodeError::RemainingLength)),
        ("30 FFFFFFFF7F", Err(DecodeError::RemainingLength)),
    ];
    for (script, expected) in cases {
        let expected = expected.map(|needed| Decoded::Incomplete { needed });
        assert_eq!(huge.decode(&bytes(script)), expected, "{script}");
    }
    assert_eq!(DecodeError::RemainingLength.reason_code().code(), 0x81);
    assert_eq!(huge.decode(&[]), Ok(Decoded::Incomplete { needed: 2 }));
}

#[test]
fn a_longer_form_of_a_length_is_taken() {
    for script in ["C0 00", "C0 8000", "C0 808000", "C0 80808000"] {
        let bytes = bytes(script);
        let expected = Decoded::Packet {
            packet: Packet::Pingreq,
            consumed: bytes.len(),
        };
        assert_eq!(S311.decode(&bytes), Ok(expected), "{script}");
    }
}

#[test]
fn too_large_is_told_by_the_fixed_header() {
    let small = Decoder {
        max_packet_size: 100,
        ..S5
    };
    let limits = [
        ("30 62", None),
        ("30 63", Some(101)),
        ("30 FF01", Some(258)),
        ("30 FFFFFF7F", Some(268_435_460)),
        ("82 63", Some(101)),
        ("E0 63", Some(101)),
    ];
    for (script, got) in limits {
        let expected = match got {
            Some(got) => Err(DecodeError::PacketTooLarge { max: 100, got }),
            None => Ok(Decoded::Incomplete { needed: 100 }),
        };
        assert_eq!(small.decode(&bytes(script)), expected, "{script}");
    }
    let first = Decoder {
        version: None,
        ..small
    };
    let error = DecodeError::PacketTooLarge { max: 100, got: 101 };
    assert_eq!(first.decode(&bytes("10 63")), Err(error));
    assert_eq!(error.reason_code().code(), 0x95);
    // The short way of acknowledgements obeys too.
    let tiny = Decoder {
        max_packet_size: 3,
        ..S5
    };
    assert_eq!(
        tiny.decode(&bytes("40 02 0001")),
        Err(DecodeError::PacketTooLarge { max: 3, got: 4 })
    );
}

#[test]
fn fixed_lengths_are_checked_before_the_body_is_there() {
    let wrong = |packet, expected, got| DecodeError::WrongLength {
        packet,
        expected,
        got,
    };
    refused(&[
        (
            "PINGREQ with a body",
            S311,
            "C0 01",
            wrong(PacketType::Pingreq, 0, 1),
            0x81,
        ),
        (
            "PINGREQ with a body, 5.0",
            S5,
            "C0 01",
            wrong(PacketType::Pingreq, 0, 1),
            0x81,
        ),
        (
            "PINGRESP with a body",
            C5,
            "D0 7F",
            wrong(PacketType::Pingresp, 0, 127),
            0x81,
        ),
        (
            "PUBACK of three bytes, 3.1.1",
            S311,
            "40 03",
            wrong(PacketType::Puback, 2, 3),
            0x81,
        ),
        (
            "PUBACK of one byte, 3.1",
            S31,
            "40 01",
            wrong(PacketType::Puback, 2, 1),
            0x81,
        ),
        (
            "PUBREC of four bytes, 3.1.1",
            S311,
            "50 04",
            wrong(PacketType::Pubrec, 2, 4),
            0x81,
        ),
        (
            "PUBREL of no byte, 3.1.1",
            S311,
            "62 00",
            wrong(PacketType::Pubrel, 2, 0),
            0x81,
        ),
        (
            "PUBCOMP of three bytes, 3.1.1",
            S311,
            "70 03",
            wrong(PacketType::Pubcomp, 2, 3),
            0x81,
        ),
        (
            "UNSUBACK of three bytes, 3.1.1",
            C311,
            "B0 03",
            wrong(PacketType::Unsuback, 2, 3),
            0x81,
        ),
        (
            "CONNACK of three bytes, 3.1.1",
            C311,
            "20 03",
            wrong(PacketType::Connack, 2, 3),
            0x81,
        ),
        (
            "DISCONNECT with a reason, 3.1.1",
            S311,
            "E0 01",
            wrong(PacketType::Disconnect, 0, 1),
            0x81,
        ),
        (
            "DISCONNECT with a reason, 3.1",
            S31,
            "E0 01",
            wrong(PacketType::Disconnect, 0, 1),
            0x81,
        ),
    ]);
}

#[test]
fn pings_and_short_disconnects() {
    use nightjar_mqtt::ReasonCode;
    use nightjar_mqtt::packet::Disconnect;
    let bye = || Packet::Disconnect(Disconnect::new(ReasonCode::Success));
    both_ways(&[
        ("PINGREQ 3.1", S31, "C0 00", Packet::Pingreq),
        ("PINGREQ 3.1.1", S311, "C0 00", Packet::Pingreq),
        ("PINGREQ 5.0", S5, "C0 00", Packet::Pingreq),
        ("PINGRESP 3.1", C31, "D0 00", Packet::Pingresp),
        ("PINGRESP 3.1.1", C311, "D0 00", Packet::Pingresp),
        ("PINGRESP 5.0", C5, "D0 00", Packet::Pingresp),
        ("DISCONNECT 3.1", S31, "E0 00", bye()),
        ("DISCONNECT 3.1.1", S311, "E0 00", bye()),
        ("DISCONNECT 5.0", S5, "E0 00", bye()),
        ("DISCONNECT 5.0 of a server", C5, "E0 00", bye()),
    ]);
}
