//! PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH, and which reason codes each packet may carry.

use nightjar_mqtt::packet::{
    Ack, AckProperties, Auth, AuthProperties, Disconnect, DisconnectProperties,
};
use nightjar_mqtt::{DecodeError, Decoder, Packet, PacketType, ReasonCode};

use crate::script::*;

const ACKS: [(u8, PacketType); 4] = [
    (0x40, PacketType::Puback),
    (0x50, PacketType::Pubrec),
    (0x62, PacketType::Pubrel),
    (0x70, PacketType::Pubcomp),
];

fn typed(packet: PacketType, ack: Ack<'_>) -> Packet<'_> {
    match packet {
        PacketType::Puback => Packet::Puback(ack),
        PacketType::Pubrec => Packet::Pubrec(ack),
        PacketType::Pubrel => Packet::Pubrel(ack),
        _ => Packet::Pubcomp(ack),
    }
}

/// Rows of one script with different first bytes.
fn row(first: u8, rest: &str) -> &'static str {
    format!("{first:02X} {rest}").leak()
}

#[test]
fn acknowledgements() {
    for (first, kind) in ACKS {
        for decoder in [S31, S311, C31, C311] {
            let packet = |id| typed(kind, Ack::new(id, ReasonCode::Success));
            both_ways(&[
                ("lowest", decoder, row(first, "02 0001"), packet(1)),
                ("highest", decoder, row(first, "02 FFFF"), packet(65_535)),
            ]);
        }
        for decoder in [S5, C5] {
            let error = if first < 0x60 {
                ReasonCode::NotAuthorized
            } else {
                ReasonCode::PacketIdentifierNotFound
            };
            let code = format!("{:02X}", error.code());
            let packet = |reason, properties| {
                typed(
                    kind,
                    Ack {
                        packet_id: 258,
                        reason,
                        properties,
                    },
                )
            };
            let properties = || AckProperties {
                reason_string: Some("why"),
                user_properties: vec![("k", "v")],
            };
            let none = AckProperties::default;
            let both = "[ 1F \"why\" 26 \"k\" \"v\" ]";
            both_ways(&[
                (
                    "short",
                    decoder,
                    row(first, "02 0102"),
                    packet(ReasonCode::Success, none()),
                ),
                (
                    "reason",
                    decoder,
                    row(first, &format!("03 0102 {code}")),
                    packet(error, none()),
                ),
                (
                    "success with properties",
                    decoder,
                    row(first, &format!("* 0102 00 {both}")),
                    packet(ReasonCode::Success, properties()),
                ),
                (
                    "all",
                    decoder,
                    row(first, &format!("* 0102 {code} {both}")),
                    packet(error, properties()),
                ),
            ]);
            decodes(&[
                (
                    "success spelt out",
                    decoder,
                    row(first, "03 0102 00"),
                    packet(ReasonCode::Success, none()),
                ),
                (
                    "empty properties",
                    decoder,
                    row(first, &format!("04 0102 {code} 00")),
                    packet(error, none()),
                ),
            ]);
        }
    }
}

#[test]
fn acknowledgements_that_are_refused() {
    for (first, packet) in ACKS {
        for decoder in [S31, S311, S5, C31, C311, C5] {
            refused(&[(
                "packet identifier 0",
                decoder,
                row(first, "02 0000"),
                DecodeError::ZeroPacketId { packet },
                0x82,
            )]);
        }
        for decoder in [S5, C5] {
            let truncated = |field| DecodeError::Truncated { field };
            let reason = DecodeError::DuplicateProperty {
                property: "Reason String",
            };
            refused(&[
                (
                    "empty",
                    decoder,
                    row(first, "00"),
                    truncated("packet identifier"),
                    0x81,
                ),
                (
                    "one byte",
                    decoder,
                    row(first, "01 00"),
                    truncated("packet identifier"),
                    0x81,
                ),
                (
                    "0 and a reason",
                    decoder,
                    row(first, "03 0000 00"),
                    DecodeError::ZeroPacketId { packet },
                    0x82,
                ),
                (
                    "properties missing",
                    decoder,
                    row(first, "04 0001 00 01"),
                    truncated("properties"),
                    0x81,
                ),
                (
                    "half a length",
                    decoder,
                    row(first, "04 0001 00 80"),
                    truncated("property length"),
                    0x81,
                ),
                (
                    "bytes behind",
                    decoder,
                    row(first, "* 0001 00 [ ] 00"),
                    DecodeError::TrailingBytes { packet, got: 1 },
                    0x81,
                ),
                (
                    "two reason strings",
                    decoder,
                    row(first, "* 0001 00 [ 1F \"\" 1F \"\" ]"),
                    reason,
                    0x82,
                ),
                (
                    "reason string not UTF-8",
                    decoder,
                    row(first, "* 0001 00 [ 1F 0001 FF ]"),
                    DecodeError::InvalidUtf8 {
                        field: "Reason String",
                        at: 0,
                    },
                    0x81,
                ),
            ]);
        }
    }
}

/// The reason codes of each packet by the tables of the standard, and a script to carry one.
fn reason_tables() -> Vec<(
    PacketType,
    Decoder,
    &'static str,
    &'static str,
    &'static [u8],
)> {
    use PacketType::*;
    const PUBLISHED: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    const RELEASED: &[u8] = &[0x00, 0x92];
    const CONNACK: &[u8] = &[
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    const SUBACK: &[u8] = &[
        0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
    ];
    const UNSUBACK: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    const BY_CLIENT: &[u8] = &[
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x8C, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ];
    const BY_SERVER: &[u8] = &[
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
        0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    vec![
        (Connack, C5, "20 * 00", "[ ]", CONNACK),
        (Connack, C311, "20 * 00", "", &[0, 1, 2, 3, 4, 5]),
        (Connack, C31, "20 * 00", "", &[0, 1, 2, 3, 4, 5]),
        (Puback, S5, "40 * 0001", "", PUBLISHED),
        (Puback, C5, "40 * 0001", "", PUBLISHED),
        (Pubrec, S5, "50 * 0001", "[ ]", PUBLISHED),
        (Pubrec, C5, "50 * 0001", "", PUBLISHED),
        (Pubrel, S5, "62 * 0001", "", RELEASED),
        (Pubrel, C5, "62 * 0001", "[ ]", RELEASED),
        (Pubcomp, S5, "70 * 0001", "", RELEASED),
        (Pubcomp, C5, "70 * 0001", "", RELEASED),
        (Suback, C5, "90 * 0001 [ ]", "", SUBACK),
        (Suback, C311, "90 * 0001", "", &[0, 1, 2, 0x80]),
        (Suback, C31, "90 * 0001", "", &[0, 1, 2, 0x80]),
        (Unsuback, C5, "B0 * 0001 [ ]", "", UNSUBACK),
        (Disconnect, S5, "E0 *", "", BY_CLIENT),
        (Disconnect, C5, "E0 *", "[ ]", BY_SERVER),
        (Auth, S5, "F0 *", "[ 15 \"m\" ]", &[0x18, 0x19]),
        (Auth, C5, "F0 *", "[ 15 \"m\" ]", &[0x00, 0x18]),
    ]
}

#[test]
fn each_packet_takes_the_reason_codes_of_its_table() {
    for (packet, decoder, head, tail, legal) in reason_tables() {
        for got in 0..=255u8 {
            let script = format!("{head} {got:02X} {tail}");
            if legal.contains(&got) {
                let bytes = bytes(&script);
                decoder
                    .decode(&bytes)
                    .unwrap_or_else(|error| panic!("{script}: {error}"));
            } else {
                refused(&[(
                    "not in the table",
                    decoder,
                    &script,
                    DecodeError::ReasonCode { packet, got },
                    0x82,
                )]);
            }
        }
    }
}

#[test]
fn disconnects() {
    let packet = |reason, properties| Packet::Disconnect(Disconnect { reason, properties });
    let properties = || DisconnectProperties {
        session_expiry_interval: Some(0),
        reason_string: Some("why"),
        user_properties: vec![("k", "v")],
        server_reference: None,
    };
    let moved = || DisconnectProperties {
        server_reference: Some("other:1883"),
        ..Default::default()
    };
    both_ways(&[
        (
            "with will",
            S5,
            "E0 01 04",
            Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill)),
        ),
        (
            "with every property of a client",
            S5,
            "E0 * 00 [ 11 00000000 1F \"why\" 26 \"k\" \"v\" ]",
            packet(ReasonCode::NORMAL_DISCONNECTION, properties()),
        ),
        (
            "moved",
            C5,
            "E0 * 9D [ 1C \"other:1883\" ]",
            packet(ReasonCode::ServerMoved, moved()),
        ),
        (
            "taken over",
            C5,
            "E0 01 8E",
            Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)),
        ),
    ]);
    decodes(&[
        (
            "spelt out",
            S5,
            "E0 01 00",
            Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)),
        ),
        (
            "empty properties",
            S5,
            "E0 02 00 00",
            Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)),
        ),
    ]);
    let direction = |property| DecodeError::PropertyDirection {
        packet: PacketType::Disconnect,
        property,
    };
    refused(&[
        (
            "session expiry from a server",
            C5,
            "E0 * 00 [ 11 00000001 ]",
            direction("Session Expiry Interval"),
            0x82,
        ),
        (
            "server reference from a client",
            S5,
            "E0 * 00 [ 1C \"x\" ]",
            direction("Server Reference"),
            0x82,
        ),
        (
            "properties missing",
            S5,
            "E0 02 00 05",
            DecodeError::Truncated {
                field: "properties",
            },
            0x81,
        ),
        (
            "bytes behind",
            S5,
            "E0 * 00 [ ] 0000",
            DecodeError::TrailingBytes {
                packet: PacketType::Disconnect,
                got: 2,
            },
            0x81,
        ),
        (
            "from a server of 3.1.1",
            C311,
            "E0 00",
            DecodeError::WrongDirection(PacketType::Disconnect),
            0x82,
        ),
        (
            "from a server of 3.1",
            C31,
            "E0 00",
            DecodeError::WrongDirection(PacketType::Disconnect),
            0x82,
        ),
    ]);
}

#[test]
fn auths() {
    let packet = |reason, properties| Packet::Auth(Auth { reason, properties });
    let method = || AuthProperties {
        authentication_method: Some("SCRAM"),
        ..Default::default()
    };
    let all = || AuthProperties {
        authentication_data: Some(&[0, 1]),
        reason_string: Some("why"),
        user_properties: vec![("k", "v")],
        ..method()
    };
    both_ways(&[
        (
            "continue",
            S5,
            "F0 * 18 [ 15 \"SCRAM\" ]",
            packet(ReasonCode::ContinueAuthentication, method()),
        ),
        (
            "again",
            S5,
            "F0 * 19 [ 15 \"SCRAM\" ]",
            packet(ReasonCode::ReAuthenticate, method()),
        ),
        (
            "every property",
            C5,
            "F0 * 18 [ 15 \"SCRAM\" 16 00020001 1F \"why\" 26 \"k\" \"v\" ]",
            packet(ReasonCode::ContinueAuthentication, all()),
        ),
        (
            "done, short",
            C5,
            "F0 00",
            packet(ReasonCode::Success, AuthProperties::default()),
        ),
        (
            "done",
            C5,
            "F0 * 00 [ 15 \"SCRAM\" ]",
            packet(ReasonCode::Success, method()),
        ),
    ]);
    let no_method = DecodeError::NoAuthenticationMethod {
        packet: PacketType::Auth,
    };
    refused(&[
        (
            "short from a client",
            S5,
            "F0 00",
            DecodeError::ReasonCode {
                packet: PacketType::Auth,
                got: 0,
            },
            0x82,
        ),
        ("no method", S5, "F0 * 18 [ ]", no_method, 0x82),
        (
            "data without a method",
            S5,
            "F0 * 18 [ 16 0000 ]",
            no_method,
            0x82,
        ),
        (
            "no properties",
            S5,
            "F0 01 18",
            DecodeError::Truncated {
                field: "property length",
            },
            0x81,
        ),
        (
            "bytes behind",
            S5,
            "F0 * 18 [ 15 \"m\" ] 00",
            DecodeError::TrailingBytes {
                packet: PacketType::Auth,
                got: 1,
            },
            0x81,
        ),
        (
            "3.1.1",
            S311,
            "F0 * 18 [ 15 \"m\" ]",
            DecodeError::ReservedPacketType(15),
            0x81,
        ),
        (
            "3.1",
            S31,
            "F0 00",
            DecodeError::ReservedPacketType(15),
            0x81,
        ),
        (
            "3.1.1, to a client",
            C311,
            "F0 00",
            DecodeError::ReservedPacketType(15),
            0x81,
        ),
    ]);
}
