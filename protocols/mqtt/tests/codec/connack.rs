//! CONNACK in all versions.

use nightjar_mqtt::packet::{Connack, ConnackProperties};
use nightjar_mqtt::{DecodeError, Packet, PacketType, QoS, ReasonCode};

use crate::script::*;

fn connack(session_present: bool, reason: ReasonCode) -> Packet<'static> {
    Packet::Connack(Box::new(Connack::new(session_present, reason)))
}

#[test]
fn connacks() {
    use ReasonCode::*;
    both_ways(&[
        (
            "3.1.1 accepted",
            C311,
            "20 02 00 00",
            connack(false, Success),
        ),
        (
            "3.1.1 session present",
            C311,
            "20 02 01 00",
            connack(true, Success),
        ),
        ("3.1 accepted", C31, "20 02 00 00", connack(false, Success)),
        (
            "0x01",
            C311,
            "20 02 00 01",
            connack(false, UnsupportedProtocolVersion),
        ),
        (
            "0x02",
            C311,
            "20 02 00 02",
            connack(false, ClientIdentifierNotValid),
        ),
        (
            "0x03",
            C311,
            "20 02 00 03",
            connack(false, ServerUnavailable),
        ),
        (
            "0x04",
            C31,
            "20 02 00 04",
            connack(false, BadUserNameOrPassword),
        ),
        ("0x05", C311, "20 02 00 05", connack(false, NotAuthorized)),
        (
            "5.0 accepted",
            C5,
            "20 * 00 00 [ ]",
            connack(false, Success),
        ),
        (
            "5.0 session present",
            C5,
            "20 * 01 00 [ ]",
            connack(true, Success),
        ),
        (
            "5.0 error",
            C5,
            "20 * 00 87 [ ]",
            connack(false, NotAuthorized),
        ),
        (
            "5.0 every property",
            C5,
            "20 * 01 00 [ 11 00000001 21 0002 24 01 25 00 27 00000003 12 \"id\" 22 0004 1F \"ok\" 26 \"k\" \"v\" \
             28 01 29 00 2A 01 13 0005 1A \"ri\" 1C \"other\" 15 \"m\" 16 0001AA ]",
            Packet::Connack(Box::new(Connack {
                session_present: true,
                reason: Success,
                properties: ConnackProperties {
                    session_expiry_interval: Some(1),
                    receive_maximum: Some(2),
                    maximum_qos: Some(QoS::AtLeastOnce),
                    retain_available: Some(false),
                    maximum_packet_size: Some(3),
                    assigned_client_identifier: Some("id"),
                    topic_alias_maximum: Some(4),
                    reason_string: Some("ok"),
                    user_properties: vec![("k", "v")],
                    wildcard_subscription_available: Some(true),
                    subscription_identifiers_available: Some(false),
                    shared_subscription_available: Some(true),
                    server_keep_alive: Some(5),
                    response_information: Some("ri"),
                    server_reference: Some("other"),
                    authentication_method: Some("m"),
                    authentication_data: Some(&[0xAA]),
                },
            })),
        ),
    ]);
    // 3.1 leaves the first byte unused.
    decodes(&[(
        "3.1, first byte",
        C31,
        "20 02 FF 00",
        connack(false, Success),
    )]);
    refused(&[
        (
            "reserved flags, 3.1.1",
            C311,
            "20 02 02 00",
            DecodeError::ConnackFlags(2),
            0x81,
        ),
        (
            "reserved flags, 5.0",
            C5,
            "20 * 81 00 [ ]",
            DecodeError::ConnackFlags(0x81),
            0x81,
        ),
        (
            "session present with an error, 3.1.1",
            C311,
            "20 02 01 05",
            DecodeError::SessionPresentWithError,
            0x82,
        ),
        (
            "session present with an error, 5.0",
            C5,
            "20 * 01 80 [ ]",
            DecodeError::SessionPresentWithError,
            0x82,
        ),
        (
            "return code 6",
            C311,
            "20 02 00 06",
            DecodeError::ReasonCode {
                packet: PacketType::Connack,
                got: 6,
            },
            0x82,
        ),
        (
            "no reason code",
            C5,
            "20 01 00",
            DecodeError::Truncated {
                field: "reason code",
            },
            0x81,
        ),
        (
            "no properties",
            C5,
            "20 02 00 00",
            DecodeError::Truncated {
                field: "property length",
            },
            0x81,
        ),
        (
            "bytes behind",
            C5,
            "20 * 00 00 [ ] 00",
            DecodeError::TrailingBytes {
                packet: PacketType::Connack,
                got: 1,
            },
            0x81,
        ),
        (
            "authentication data without a method",
            C5,
            "20 * 00 00 [ 16 0000 ]",
            DecodeError::NoAuthenticationMethod {
                packet: PacketType::Connack,
            },
            0x82,
        ),
    ]);
}
