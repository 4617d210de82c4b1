//! A bounded run of each fuzz target: the same assertions as under cargo-fuzz, with inputs that repeat.

use nightjar_mqtt::Role;
use nightjar_mqtt::fuzzing::{self, Mutator, seeds};

/// Inputs per target.
const INPUTS: usize = 1_000_000;

#[test]
fn decode_server_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(1, seeds(Role::Server));
    for _ in 0..INPUTS {
        fuzzing::decode_server(mutator.stream());
    }
}

#[test]
fn decode_client_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(2, seeds(Role::Client));
    for _ in 0..INPUTS {
        fuzzing::decode_client(mutator.stream());
    }
}

#[test]
fn roundtrip_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(3, seeds(Role::Server));
    for _ in 0..INPUTS {
        fuzzing::roundtrip(mutator.bytes(200));
    }
}

#[test]
fn hand_and_nom_publish_decoders_agree_on_a_million_inputs() {
    let mut mutator = Mutator::new(4, publish_seeds());
    for _ in 0..INPUTS {
        fuzzing::publish_oracle(mutator.stream());
    }
}

#[test]
fn topic_holds_for_a_million_inputs() {
    let mut mutator = Mutator::new(5, seeds(Role::Server));
    for _ in 0..INPUTS {
        fuzzing::topic(mutator.text(16));
    }
}

/// PUBLISH packets of both directions, with settings bytes as `publish_oracle` reads them.
fn publish_seeds() -> Vec<fuzzing::Seed> {
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
