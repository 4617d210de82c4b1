//! Every packet of every version and direction: encoded and decoded it is the same.

use nightjar_mqtt::fuzzing::{build_packet, roundtrip_packet};
use nightjar_mqtt::{PacketType, ProtocolVersion, Role};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn every_type_is_built_for_every_version_and_side_that_has_it() {
    use PacketType::*;
    let both = [Publish, Puback, Pubrec, Pubrel, Pubcomp];
    for version in ProtocolVersion::ALL {
        let types = |reader| {
            let mut types: Vec<_> = (0..32)
                .filter_map(|kind| build_packet(kind, version, &[]))
                .filter(|(role, _)| *role == reader)
                .map(|(_, packet)| packet.packet_type())
                .collect();
            types.sort();
            types
        };
        let sorted = |mut types: Vec<PacketType>| {
            types.extend(both);
            if version.is_v5() {
                types.extend([Auth, Disconnect]);
            }
            types.sort();
            types.dedup();
            types
        };
        assert_eq!(
            types(Role::Server),
            sorted(vec![Connect, Subscribe, Unsubscribe, Pingreq, Disconnect])
        );
        assert_eq!(
            types(Role::Client),
            sorted(vec![Connack, Suback, Unsuback, Pingresp])
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn packets_come_back_the_same(data in vec(material(), 0..300)) {
        for version in ProtocolVersion::ALL {
            for kind in 0..32 {
                if let Some((role, packet)) = build_packet(kind, version, &data) {
                    roundtrip_packet(role, version, &packet);
                }
            }
        }
    }
}

/// Bytes that make strings and choices alike likely.
fn material() -> impl Strategy<Value = u8> {
    prop_oneof![
        any::<u8>(),
        0..8u8,
        b'a'..=b'z',
        Just(b'/'),
        Just(b'+'),
        Just(b'#')
    ]
}
