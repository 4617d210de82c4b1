//! What fuzzing asserts: one function per target, each of which takes any bytes and panics only if the codec is wrong.
//! Each tells how far it came, so that a run can show that its inputs are not all refused at once.
//!
//! The same functions run under cargo-fuzz (`fuzz/` at the top of the repository) and, with a bounded number of inputs
//! from [`Mutator`], in the normal test command. The feature `fuzzing` turns this module on; no product code uses it.

mod build;
mod mutate;
mod oracle;
mod seeds;

pub use build::{build_packet, roundtrip_packet};
pub use mutate::{Mutator, Rng};
pub use oracle::decode_publish;
pub use seeds::{Seed, seeds};

use crate::topic::{
    self, TopicFilter, TopicName, matches, validate_topic_filter, validate_topic_name,
};
use crate::{Decoded, Decoder, Packet, ProtocolVersion, Role};

/// Target `decode_server`: what a client sends. The first byte chooses the decoder's settings. Returns
/// the number of packets.
pub fn decode_server(data: &[u8]) -> usize {
    let Some((&settings, stream)) = data.split_first() else {
        return 0;
    };
    let version = match settings & 0b11 {
        0 => None,
        1 => Some(ProtocolVersion::V31),
        2 => Some(ProtocolVersion::V311),
        _ => Some(ProtocolVersion::V5),
    };
    let decoder = Decoder {
        version,
        ..settings_of(Role::Server, settings)
    };
    decode_stream(decoder, stream)
}

/// Target `decode_client`: what a server sends. The first byte chooses the decoder's settings. Returns
/// the number of packets.
pub fn decode_client(data: &[u8]) -> usize {
    let Some((&settings, stream)) = data.split_first() else {
        return 0;
    };
    let version = ProtocolVersion::ALL[usize::from(settings & 0b11) % 3];
    let decoder = Decoder {
        version: Some(version),
        ..settings_of(Role::Client, settings)
    };
    decode_stream(decoder, stream)
}

fn settings_of(role: Role, settings: u8) -> Decoder {
    let max_packet_size = if settings & 0b1000 != 0 { 64 } else { 1 << 20 };
    Decoder {
        role,
        version: None,
        max_packet_size,
        lenient: settings & 0b100 != 0,
    }
}

/// Reads packet after packet as a connection does and checks each.
fn decode_stream(mut decoder: Decoder, mut stream: &[u8]) -> usize {
    let mut packets = 0;
    loop {
        match decoder.decode(stream) {
            Err(error) => {
                assert!(error.reason_code().is_error(), "{error}");
                return packets;
            }
            Ok(Decoded::Incomplete { needed }) => {
                assert!(
                    needed > stream.len(),
                    "asks for {needed} of {}",
                    stream.len()
                );
                assert!(
                    needed <= (decoder.max_packet_size as usize).max(5),
                    "asks for {needed}"
                );
                return packets;
            }
            Ok(Decoded::Packet { packet, consumed }) => {
                check_frame(&decoder, stream, &packet, consumed);
                check_again(&decoder, &packet, consumed);
                if let Packet::Connect(connect) = &packet {
                    decoder.version = Some(connect.version);
                }
                stream = &stream[consumed..];
                packets += 1;
            }
        }
    }
}

/// The packet is made of its frame alone: what follows does not matter, and without its last byte it is incomplete.
fn check_frame(decoder: &Decoder, stream: &[u8], packet: &Packet<'_>, consumed: usize) {
    assert!(
        consumed >= 2 && consumed <= stream.len() && consumed <= decoder.max_packet_size as usize
    );
    let alone = Decoded::Packet {
        packet: packet.clone(),
        consumed,
    };
    assert_eq!(decoder.decode(&stream[..consumed]), Ok(alone));
    match decoder.decode(&stream[..consumed - 1]) {
        Ok(Decoded::Incomplete { needed }) => assert!(needed <= consumed),
        other => panic!("without its last byte: {other:?}"),
    }
}

/// What was decoded can be encoded, in no more bytes, and comes back the same.
fn check_again(decoder: &Decoder, packet: &Packet<'_>, consumed: usize) {
    let version = decoder.version.unwrap_or(ProtocolVersion::V5);
    let mut again = Vec::new();
    packet
        .encode(version, &mut again)
        .expect("what was decoded can be encoded");
    assert_eq!(packet.encoded_len(version), Ok(again.len()));
    assert!(
        again.len() <= consumed,
        "{} bytes became {}: {packet:?}",
        consumed,
        again.len()
    );
    let expected = Decoded::Packet {
        packet: packet.clone(),
        consumed: again.len(),
    };
    assert_eq!(decoder.decode(&again), Ok(expected));
}

/// Target `roundtrip`: a packet made from the bytes is encoded and decoded. Returns whether there was one.
pub fn roundtrip(data: &[u8]) -> bool {
    let [kind, version, data @ ..] = data else {
        return false;
    };
    let version = ProtocolVersion::ALL[usize::from(*version) % 3];
    let Some((role, packet)) = build_packet(*kind, version, data) else {
        return false;
    };
    roundtrip_packet(role, version, &packet);
    true
}

/// Target `publish_oracle`: the hand-written decoder of PUBLISH and the one made with nom agree, error by error. The
/// first byte chooses the settings, the second the flags of the first byte of the packet. Returns whether they decoded
/// a packet.
pub fn publish_oracle(data: &[u8]) -> bool {
    let [settings, first, rest @ ..] = data else {
        return false;
    };
    let role = if settings & 0b1_0000 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let version = ProtocolVersion::ALL[usize::from(settings & 0b11) % 3];
    let decoder = Decoder {
        version: Some(version),
        ..settings_of(role, *settings)
    };
    let mut packet = vec![0x30 | first & 0x0F];
    packet.extend_from_slice(rest);
    let by_hand = decoder.decode(&packet);
    assert_eq!(by_hand, decode_publish(&decoder, &packet));
    matches!(by_hand, Ok(Decoded::Packet { .. }))
}

/// Target `topic`: validation and matching against definitions of their own. The first byte splits the rest in two, a
/// filter and a name. Returns whether both are valid and match.
pub fn topic(data: &[u8]) -> bool {
    let Some((&at, rest)) = data.split_first() else {
        return false;
    };
    let (left, right) = rest.split_at(usize::from(at).min(rest.len()));
    let (Ok(filter), Ok(name)) = (str::from_utf8(left), str::from_utf8(right)) else {
        return false;
    };
    assert_eq!(validate_topic_name(name).is_ok(), is_name(name), "{name:?}");
    assert_eq!(
        validate_topic_filter(filter).is_ok(),
        is_filter(filter),
        "{filter:?}"
    );
    assert_eq!(TopicName::new(name).is_ok(), is_name(name));
    assert_eq!(topic::levels(name), name.split('/').count());
    let Ok(filter) = TopicFilter::new(filter) else {
        return false;
    };
    assert_eq!(filter.shared().is_some(), filter.starts_with("$share/"));
    let routing = filter.routing_filter();
    if is_name(routing) {
        assert!(
            filter.matches(routing),
            "a filter without wildcards matches itself"
        );
    }
    if !is_name(name) {
        return false;
    }
    let expected = is_match(routing.as_bytes(), name.as_bytes(), true);
    assert_eq!(matches(routing, name), expected, "{routing:?} {name:?}");
    assert_eq!(filter.matches(name), expected);
    expected
}

/// Topic names, as sections 4.7.1 and 4.7.3 define them.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= topic::MAX_TOPIC_LEN && !text.contains(['\0', '+', '#'])
}

/// Topic filters, as sections 4.7.1, 4.7.3 and 4.8.2 define them.
fn is_filter(text: &str) -> bool {
    if text.is_empty() || text.len() > topic::MAX_TOPIC_LEN || text.contains('\0') {
        return false;
    }
    let mut levels: Vec<_> = text.split('/').collect();
    if levels.len() > 1 && levels[0] == "$share" {
        if levels[1].is_empty()
            || levels[1].contains(['+', '#'])
            || levels[2..].join("/").is_empty()
        {
            return false;
        }
        levels.drain(..2);
    }
    let last = levels.len() - 1;
    levels.iter().enumerate().all(|(at, level)| match *level {
        "+" => true,
        "#" => at == last,
        level => !level.contains(['+', '#']),
    })
}

/// Matching by characters and recursion, where [`matches`] goes by levels.
fn is_match(filter: &[u8], name: &[u8], start: bool) -> bool {
    if start && name.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    match (filter, name) {
        ([b'#'], _) | (b"/#", []) => true,
        ([b'+', filter @ ..], [b'/', ..] | []) => is_match(filter, name, false),
        ([b'+', ..], [_, name @ ..]) => is_match(filter, name, false),
        ([], []) => true,
        ([f, filter @ ..], [n, name @ ..]) if f == n => is_match(filter, name, false),
        _ => false,
    }
}
