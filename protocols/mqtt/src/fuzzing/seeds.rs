//! Valid packets to start from: each type in each version and direction that has it, with and without properties.

use super::build::build_packet;
use super::mutate::Rng;
use crate::{PacketType, ProtocolVersion, Role};

/// A valid packet and the settings byte under which a decoding target takes it.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The settings byte of `decode_server` or `decode_client`.
    pub settings: u8,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// The valid packets that this side reads.
pub fn seeds(reader: Role) -> Vec<Seed> {
    let mut rng = Rng::new(7);
    let mut seeds = Vec::new();
    for (index, version) in (0..).zip(ProtocolVersion::ALL) {
        for kind in 0..=31 {
            for _ in 0..6 {
                let material: Vec<u8> = (0..160).map(|_| text_byte(&mut rng)).collect();
                let Some((role, packet)) = build_packet(kind, version, &material) else {
                    continue;
                };
                let mut bytes = Vec::new();
                if role != reader
                    || packet.encode(version, &mut bytes).is_err()
                    || bytes.len() > 400
                {
                    continue;
                }
                let first = packet.packet_type() == PacketType::Connect;
                let settings = match reader {
                    Role::Server if first => 0,
                    Role::Server => index + 1,
                    Role::Client => index,
                };
                seeds.push(Seed { settings, bytes });
            }
        }
    }
    seeds
}

/// Mostly letters, so that strings are strings; enough others for numbers and choices.
fn text_byte(rng: &mut Rng) -> u8 {
    match rng.below(4) {
        0 => rng.byte(),
        1 => rng.below(8) as u8,
        _ => b'a' + rng.below(26) as u8,
    }
}
