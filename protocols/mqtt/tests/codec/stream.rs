//! Packets arrive in pieces: what the decoder says of a part, and that the pieces' borders change nothing.

use nightjar_mqtt::fuzzing::{Mutator, Rng, Seed, seeds};
use nightjar_mqtt::{Decoded, Decoder, ProtocolVersion, Role};

fn decoder_of(role: Role, seed: &Seed) -> Decoder {
    let version = match (role, seed.settings & 0b11) {
        (Role::Server, 0) => None,
        (Role::Server, n) => Some(ProtocolVersion::ALL[usize::from(n) - 1]),
        (Role::Client, n) => Some(ProtocolVersion::ALL[usize::from(n)]),
    };
    Decoder {
        role,
        version,
        max_packet_size: 1 << 20,
        lenient: true,
    }
}

#[test]
fn every_prefix_of_a_packet_is_incomplete() {
    let mut packets = 0;
    for role in [Role::Server, Role::Client] {
        for seed in seeds(role) {
            let decoder = decoder_of(role, &seed);
            let bytes = &seed.bytes;
            for length in 0..bytes.len() {
                match decoder.decode(&bytes[..length]) {
                    Ok(Decoded::Incomplete { needed }) => {
                        assert!(
                            needed > length && needed <= bytes.len(),
                            "{length} of {bytes:02X?}: {needed}"
                        );
                        if length >= 2 && bytes[1] < 0x80 {
                            assert_eq!(needed, bytes.len(), "exact once the fixed header is there");
                        }
                    }
                    other => panic!("{length} of {bytes:02X?}: {other:?}"),
                }
            }
            assert!(
                matches!(decoder.decode(bytes), Ok(Decoded::Packet { consumed, .. }) if consumed == bytes.len())
            );
            packets += 1;
        }
    }
    assert!(packets > 200, "{packets}");
}

#[test]
fn the_borders_of_pieces_change_nothing() {
    let mut rng = Rng::new(11);
    for role in [Role::Server, Role::Client] {
        for settings in 0..3 {
            let mut of_version: Vec<_> = seeds(role)
                .into_iter()
                .filter(|seed| seed.settings == settings)
                .collect();
            if role == Role::Server && settings == 0 {
                // CONNECT packets: one to a stream.
                of_version.truncate(1);
            }
            let decoder = decoder_of(role, &of_version[0]);
            let stream: Vec<u8> = of_version
                .iter()
                .flat_map(|seed| seed.bytes.clone())
                .collect();
            for _ in 0..20 {
                assert_eq!(feed(decoder, &stream, &mut rng), of_version.len());
            }
        }
    }
}

/// Feeds a stream in pieces of random size, as a connection does, and counts the packets.
fn feed(decoder: Decoder, mut stream: &[u8], rng: &mut Rng) -> usize {
    let mut buffer = Vec::new();
    let mut wanted = 0;
    let mut packets = 0;
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(stream.len().min(1 + rng.below(40)));
        buffer.extend_from_slice(piece);
        stream = rest;
        loop {
            match decoder.decode(&buffer).expect("a legal stream") {
                Decoded::Packet { consumed, .. } => {
                    assert!(
                        buffer.len() >= wanted,
                        "a packet in fewer bytes than were asked for"
                    );
                    buffer.drain(..consumed);
                    (packets, wanted) = (packets + 1, 0);
                }
                Decoded::Incomplete { needed } => {
                    wanted = needed;
                    break;
                }
            }
        }
    }
    assert!(buffer.is_empty());
    packets
}

#[test]
fn a_prefix_never_becomes_another_packet() {
    // For any bytes: once a prefix is judged, more bytes do not change the judgement.
    for (role, seed) in [(Role::Server, 21), (Role::Client, 22)] {
        let mut mutator = Mutator::new(seed, seeds(role));
        for _ in 0..5_000 {
            let input = mutator.stream().to_vec();
            let Some((&settings, stream)) = input.split_first() else {
                continue;
            };
            let version = ProtocolVersion::ALL[usize::from(settings & 0b11) % 3];
            let decoder = Decoder {
                role,
                version: Some(version),
                max_packet_size: 1 << 20,
                lenient: true,
            };
            let mut judged = None;
            for length in 0..=stream.len() {
                let got = decoder.decode(&stream[..length]);
                match &judged {
                    Some(before) => assert_eq!(&got, before, "{length} of {stream:02X?}"),
                    None if matches!(got, Ok(Decoded::Incomplete { .. })) => {}
                    None => judged = Some(got),
                }
            }
        }
    }
}
