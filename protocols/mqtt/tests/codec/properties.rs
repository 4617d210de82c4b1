//! Which packet takes which property (table 2-4), how often, and in which range.

use nightjar_mqtt::{DecodeError, Decoder, PacketType, Role};

use crate::script::*;

/// A packet that has properties: its type, who reads it, and the script around the section.
struct Carrier {
    name: &'static str,
    packet: PacketType,
    decoder: Decoder,
    head: &'static str,
    tail: &'static str,
}

impl Carrier {
    fn script(&self, properties: &str) -> String {
        format!("{} [ {properties} ] {}", self.head, self.tail)
    }
}

const fn carrier(
    name: &'static str,
    packet: PacketType,
    decoder: Decoder,
    head: &'static str,
    tail: &'static str,
) -> Carrier {
    Carrier {
        name,
        packet,
        decoder,
        head,
        tail,
    }
}

const CARRIERS: [Carrier; 19] = [
    carrier(
        "CONNECT",
        PacketType::Connect,
        NEW,
        "10 * \"MQTT\" 05 02 0000",
        "\"c\"",
    ),
    carrier(
        "will",
        PacketType::Connect,
        NEW,
        "10 * \"MQTT\" 05 06 0000 00 \"c\"",
        "\"w\" \"\"",
    ),
    carrier("CONNACK", PacketType::Connack, C5, "20 * 0000", ""),
    carrier("PUBLISH", PacketType::Publish, S5, "30 * \"t\"", "'x'"),
    carrier("PUBLISH", PacketType::Publish, C5, "32 * \"t\" 0001", "'x'"),
    carrier("PUBACK", PacketType::Puback, S5, "40 * 0001 00", ""),
    carrier("PUBREC", PacketType::Pubrec, S5, "50 * 0001 00", ""),
    carrier("PUBREL", PacketType::Pubrel, S5, "62 * 0001 00", ""),
    carrier("PUBCOMP", PacketType::Pubcomp, S5, "70 * 0001 00", ""),
    carrier("PUBACK", PacketType::Puback, C5, "40 * 0001 00", ""),
    carrier("PUBREL", PacketType::Pubrel, C5, "62 * 0001 00", ""),
    carrier(
        "SUBSCRIBE",
        PacketType::Subscribe,
        S5,
        "82 * 0001",
        "\"a\" 00",
    ),
    carrier("SUBACK", PacketType::Suback, C5, "90 * 0001", "00"),
    carrier(
        "UNSUBSCRIBE",
        PacketType::Unsubscribe,
        S5,
        "A2 * 0001",
        "\"a\"",
    ),
    carrier("UNSUBACK", PacketType::Unsuback, C5, "B0 * 0001", "00"),
    carrier("DISCONNECT", PacketType::Disconnect, S5, "E0 * 00", ""),
    carrier("DISCONNECT", PacketType::Disconnect, C5, "E0 * 00", ""),
    carrier("AUTH", PacketType::Auth, S5, "F0 * 18", ""),
    carrier("AUTH", PacketType::Auth, C5, "F0 * 18", ""),
];

/// A property: identifier, a legal value, and the packets of table 2-4. `ACK` stands for the six acknowledgements.
struct Property {
    id: u32,
    value: &'static str,
    packets: &'static [&'static str],
}

const fn property(id: u32, value: &'static str, packets: &'static [&'static str]) -> Property {
    Property { id, value, packets }
}

const PROPERTIES: [Property; 27] = [
    property(0x01, "00", &["PUBLISH", "will"]),
    property(0x02, "00000000", &["PUBLISH", "will"]),
    property(0x03, "\"c\"", &["PUBLISH", "will"]),
    property(0x08, "\"r\"", &["PUBLISH", "will"]),
    property(0x09, "000100", &["PUBLISH", "will"]),
    property(0x0B, "01", &["PUBLISH", "SUBSCRIBE"]),
    property(0x11, "FFFFFFFF", &["CONNECT", "CONNACK", "DISCONNECT"]),
    property(0x12, "\"id\"", &["CONNACK"]),
    property(0x13, "0000", &["CONNACK"]),
    property(0x15, "\"m\"", &["CONNECT", "CONNACK", "AUTH"]),
    property(0x16, "0000", &["CONNECT", "CONNACK", "AUTH"]),
    property(0x17, "00", &["CONNECT"]),
    property(0x18, "00000000", &["will"]),
    property(0x19, "01", &["CONNECT"]),
    property(0x1A, "\"i\"", &["CONNACK"]),
    property(0x1C, "\"s\"", &["CONNACK", "DISCONNECT"]),
    property(0x1F, "\"r\"", &["CONNACK", "ACK", "DISCONNECT", "AUTH"]),
    property(0x21, "0001", &["CONNECT", "CONNACK"]),
    property(0x22, "0000", &["CONNECT", "CONNACK"]),
    property(0x23, "0001", &["PUBLISH"]),
    property(0x24, "01", &["CONNACK"]),
    property(0x25, "00", &["CONNACK"]),
    property(
        0x26,
        "\"k\" \"v\"",
        &[
            "CONNECT",
            "will",
            "CONNACK",
            "PUBLISH",
            "ACK",
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "DISCONNECT",
            "AUTH",
        ],
    ),
    property(0x27, "00000001", &["CONNECT", "CONNACK"]),
    property(0x28, "01", &["CONNACK"]),
    property(0x29, "00", &["CONNACK"]),
    property(0x2A, "01", &["CONNACK"]),
];

fn takes(carrier: &Carrier, property: &Property) -> bool {
    let ack = matches!(
        carrier.name,
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" | "SUBACK" | "UNSUBACK"
    );
    property
        .packets
        .iter()
        .any(|&name| name == carrier.name || (ack && name == "ACK"))
}

/// The properties that only one side may send.
fn wrong_direction(carrier: &Carrier, id: u32) -> Option<&'static str> {
    match (carrier.packet, carrier.decoder.role, id) {
        (PacketType::Publish, Role::Server, 0x0B) => Some("Subscription Identifier"),
        (PacketType::Disconnect, Role::Client, 0x11) => Some("Session Expiry Interval"),
        (PacketType::Disconnect, Role::Server, 0x1C) => Some("Server Reference"),
        _ => None,
    }
}

#[test]
fn each_packet_takes_its_properties_and_no_others() {
    let mut checked = 0;
    for carrier in &CARRIERS {
        let packet = carrier.packet;
        for property in &PROPERTIES {
            let id = property.id;
            let one = format!("{id:02X} {}", property.value);
            // Authentication data needs a method, and so does AUTH.
            let method = (id == 0x16 || packet == PacketType::Auth)
                && id != 0x15
                && takes(carrier, property);
            let script = carrier.script(&if method {
                format!("15 \"m\" {one}")
            } else {
                one.clone()
            });
            let name = format!("{} {one}", carrier.name);
            if !takes(carrier, property) {
                refused(&[(
                    &name,
                    carrier.decoder,
                    &script,
                    DecodeError::UnexpectedProperty { packet, id },
                    0x81,
                )]);
            } else if let Some(property) = wrong_direction(carrier, id) {
                let error = DecodeError::PropertyDirection { packet, property };
                refused(&[(&name, carrier.decoder, &script, error, 0x82)]);
            } else {
                let bytes = bytes(&script);
                carrier
                    .decoder
                    .decode(&bytes)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 19 * 27);
}

#[test]
fn a_property_comes_once_but_for_user_property_and_subscription_identifier() {
    let mut refusals = 0;
    for carrier in &CARRIERS {
        for property in PROPERTIES
            .iter()
            .filter(|property| takes(carrier, property))
        {
            let one = format!("{:02X} {}", property.id, property.value);
            let between = if takes(carrier, &PROPERTIES[22]) {
                "26 \"k\" \"v\""
            } else {
                ""
            };
            let script = carrier.script(&format!("{one} {between} {one}"));
            let name = format!("{} {one} twice", carrier.name);
            let bytes = bytes(&script);
            let got = carrier.decoder.decode(&bytes);
            let often = property.id == 0x26
                || (property.id == 0x0B && carrier.packet == PacketType::Publish);
            if often {
                let legal = wrong_direction(carrier, property.id).is_none()
                    && carrier.packet != PacketType::Auth;
                assert_eq!(got.is_ok(), legal, "{name}");
            } else {
                let error = got.expect_err(&name);
                assert!(
                    matches!(error, DecodeError::DuplicateProperty { .. }),
                    "{name}: {error}"
                );
                assert_eq!(error.reason_code().code(), 0x82, "{name}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 60, "{refusals}");
}

#[test]
fn identifiers_that_do_not_exist_are_malformed() {
    for carrier in &CARRIERS {
        let packet = carrier.packet;
        for id in 0..=255u32 {
            if PROPERTIES.iter().any(|property| property.id == id) {
                continue;
            }
            // An identifier is a variable byte integer.
            let wire = if id < 128 {
                format!("{id:02X}")
            } else {
                format!("{:02X}01", id | 0x80)
            };
            let script = carrier.script(&format!("{wire} 00000000"));
            refused(&[(
                carrier.name,
                carrier.decoder,
                &script,
                DecodeError::UnexpectedProperty { packet, id },
                0x81,
            )]);
        }
    }
}

#[test]
fn values_out_of_range_are_protocol_errors() {
    let not_flag = |property, got| DecodeError::PropertyValue {
        property,
        expected: "0 or 1",
        got,
    };
    let zero = |property| DecodeError::PropertyValue {
        property,
        expected: "a value above 0",
        got: 0,
    };
    let rows: [(usize, &str, DecodeError); 22] = [
        (0, "17 02", not_flag("Request Problem Information", 2)),
        (0, "17 FF", not_flag("Request Problem Information", 255)),
        (0, "19 02", not_flag("Request Response Information", 2)),
        (0, "19 80", not_flag("Request Response Information", 128)),
        (0, "21 0000", zero("Receive Maximum")),
        (0, "27 00000000", zero("Maximum Packet Size")),
        (1, "01 02", not_flag("Payload Format Indicator", 2)),
        (1, "01 FF", not_flag("Payload Format Indicator", 255)),
        (2, "21 0000", zero("Receive Maximum")),
        (2, "24 02", not_flag("Maximum QoS", 2)),
        (2, "24 03", not_flag("Maximum QoS", 3)),
        (2, "25 02", not_flag("Retain Available", 2)),
        (2, "27 00000000", zero("Maximum Packet Size")),
        (2, "28 02", not_flag("Wildcard Subscription Available", 2)),
        (2, "29 02", not_flag("Subscription Identifier Available", 2)),
        (2, "2A 02", not_flag("Shared Subscription Available", 2)),
        (2, "2A FF", not_flag("Shared Subscription Available", 255)),
        (3, "01 02", not_flag("Payload Format Indicator", 2)),
        (3, "01 10", not_flag("Payload Format Indicator", 16)),
        (4, "01 02", not_flag("Payload Format Indicator", 2)),
        (4, "0B 00", zero("Subscription Identifier")),
        (11, "0B 00", zero("Subscription Identifier")),
    ];
    for (carrier, value, error) in rows {
        let carrier = &CARRIERS[carrier];
        let script = carrier.script(value);
        refused(&[(carrier.name, carrier.decoder, &script, error, 0x82)]);
    }
}

#[test]
fn a_value_that_ends_early_is_malformed() {
    for carrier in &CARRIERS {
        for property in PROPERTIES
            .iter()
            .filter(|property| takes(carrier, property))
        {
            let whole = bytes(&format!("{:02X} {}", property.id, property.value));
            for length in 1..whole.len() {
                let cut: String = whole[..length]
                    .iter()
                    .map(|byte| format!("{byte:02X}"))
                    .collect();
                let bytes = bytes(&carrier.script(&cut));
                let error = carrier.decoder.decode(&bytes).expect_err(carrier.name);
                assert!(
                    matches!(error, DecodeError::Truncated { .. }),
                    "{} {cut}: {error}",
                    carrier.name
                );
                assert_eq!(error.reason_code().code(), 0x81);
            }
        }
    }
}
