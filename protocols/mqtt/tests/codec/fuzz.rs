//! A bounded run of each fuzz target: the same assertions as under cargo-fuzz, with inputs that repeat. Each run also shows
//! that enough of its inputs got past the first check.

use nightjar_mqtt::Role;
use nightjar_mqtt::fuzzing::{self, Mutator, Seed, seeds};

/// Inputs per target.
const INPUTS: usize = 1_000_000;

#[test]
fn decode_server_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(1, seeds(Role::Server));
    let packets: usize = (0..INPUTS)
        .map(|_| fuzzing::decode_server(mutator.stream()))
        .sum();
    assert!(packets > INPUTS / 3, "{packets}");
}

#[test]
fn decode_client_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(2, seeds(Role::Client));
    let packets: usize = (0..INPUTS)
        .map(|_| fuzzing::decode_client(mutator.stream()))
        .sum();
    assert!(packets > INPUTS / 3, "{packets}");
}

#[test]
fn roundtrip_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(3, seeds(Role::Server));
    let packets = (0..INPUTS)
        .filter(|_| fuzzing::roundtrip(mutator.bytes(200)))
        .count();
    assert!(packets > INPUTS / 3, "{packets}");
}

#[test]
fn hand_and_nom_publish_decoders_agree_on_a_million_inputs() {
    let mut mutator = Mutator::new(4, publish_seeds());
    let packets = (0..INPUTS)
        .filter(|_| fuzzing::publish_oracle(mutator.stream()))
        .count();
    assert!(packets > INPUTS / 3, "{packets}");
}

#[test]
fn topic_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(5, seeds(Role::Server));
    let matches = (0..INPUTS)
        .filter(|_| fuzzing::topic(mutator.topics()))
        .count();
    assert!(matches > INPUTS / 3, "{matches}");
}

/// PUBLISH packets of both directions, with settings bytes as `publish_oracle` reads them.
fn publish_seeds() -> Vec<Seed> {
    let client = seeds(Role::Server).into_iter().map(|mut seed| {
        seed.settings = seed.settings.saturating_sub(1);
        seed
    });
    let server = seeds(Role::Client).into_iter().map(|mut seed| {
        seed.settings |= 0b1_0000;
        seed
    });
    client
        .chain(server)
        .filter(|seed| seed.bytes[0] >> 4 == 3)
        .collect()
}
