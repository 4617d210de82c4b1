//! Numbers and names: QoS, versions, packet types, reason codes and return codes.

use nightjar_mqtt::{ConnectReturnCode, PacketType, ProtocolVersion, QoS, ReasonCode};

#[test]
fn qos_is_0_to_2() {
    for (bits, qos) in [
        (0, QoS::AtMostOnce),
        (1, QoS::AtLeastOnce),
        (2, QoS::ExactlyOnce),
    ] {
        assert_eq!(QoS::try_from(bits), Ok(qos));
        assert_eq!(u8::from(qos), bits);
        assert_eq!(qos.to_string(), bits.to_string());
    }
    for bits in 3..=255 {
        assert!(QoS::try_from(bits).is_err());
    }
    assert_eq!(QoS::AtLeastOnce.min(QoS::ExactlyOnce), QoS::AtLeastOnce);
}

#[test]
fn versions_have_levels_and_names() {
    let rows = [
        (ProtocolVersion::V31, 3, "MQIsdp", "3.1"),
        (ProtocolVersion::V311, 4, "MQTT", "3.1.1"),
        (ProtocolVersion::V5, 5, "MQTT", "5.0"),
    ];
    for (version, level, name, text) in rows {
        assert_eq!(version.level(), level);
        assert_eq!(ProtocolVersion::from_level(level), Some(version));
        assert_eq!(version.protocol_name(), name);
        assert_eq!(version.to_string(), text);
        assert_eq!(version.is_v5(), level == 5);
    }
    assert_eq!((0..=255).filter_map(ProtocolVersion::from_level).count(), 3);
}

#[test]
fn packet_types_are_1_to_15() {
    for bits in 1..=15 {
        let packet = PacketType::from_bits(bits).expect("a type");
        assert_eq!(packet.bits(), bits);
        assert_eq!(packet.as_str(), format!("{packet:?}").to_uppercase());
    }
    assert_eq!(PacketType::from_bits(0), None);
    assert_eq!(PacketType::from_bits(16), None);
}

#[test]
fn reason_codes_are_those_of_the_standard() {
    // Section 2.4 of 5.0.
    let numbers: Vec<u8> = [0x00, 0x01, 0x02, 0x04, 0x10, 0x11, 0x18, 0x19]
        .into_iter()
        .chain(0x80..=0xA2)
        .collect();
    let all: Vec<u8> = ReasonCode::ALL.iter().map(|code| code.code()).collect();
    assert_eq!(all, numbers);
    for value in 0..=255u8 {
        match ReasonCode::try_from(value) {
            Ok(code) => {
                assert_eq!(u8::from(code), value);
                assert_eq!(code.is_error(), value >= 0x80);
                assert!(code.to_string().starts_with(code.as_str()));
            }
            Err(_) => assert!(!numbers.contains(&value)),
        }
    }
    assert_eq!(
        ReasonCode::MalformedPacket.to_string(),
        "Malformed Packet (0x81)"
    );
    assert_eq!(
        ReasonCode::granted(QoS::ExactlyOnce),
        ReasonCode::GrantedQoS2
    );
    assert_eq!(
        ReasonCode::granted(QoS::AtMostOnce),
        ReasonCode::GRANTED_QOS_0
    );
}

#[test]
fn return_codes_of_3x_go_there_and_back() {
    for value in 0..=5 {
        let code = ConnectReturnCode::from_u8(value).expect("a return code");
        assert_eq!(code.code(), value);
        assert_eq!(code.reason_code().connect_return_code(), code);
    }
    assert_eq!(ConnectReturnCode::from_u8(6), None);
    for reason in ReasonCode::ALL {
        let refused = reason.connect_return_code() != ConnectReturnCode::Accepted;
        assert_eq!(refused, reason.is_error(), "{reason}");
    }
}
