//! One script that meets every request and every reply in every state; run once for each of its datagrams, with that one
//! lost, doubled or late. Nothing else goes wrong, so nothing may be different at the end.

use nightjar_mqttsn::QoS;

use crate::script::{Act, Run};
use crate::world::{Fate, Wire};

const SCRIPT: &[(Act, u64)] = &[
    (Act::Register, 1_000),
    (Act::Up(QoS::AtMostOnce), 500),
    (Act::Up(QoS::AtLeastOnce), 500),
    (Act::Up(QoS::ExactlyOnce), 500),
    (Act::Down(QoS::AtMostOnce), 500),
    (Act::Down(QoS::AtLeastOnce), 500),
    (Act::Down(QoS::ExactlyOnce), 500),
    (Act::Ping, 15_000),
    (Act::Connect, 3_000),
    (Act::Down(QoS::ExactlyOnce), 100),
    (Act::Sleep(120), 30_000),
    (Act::Down(QoS::AtLeastOnce), 100),
    (Act::Down(QoS::ExactlyOnce), 100),
    (Act::Down(QoS::AtLeastOnce), 1_000),
    (Act::Wake, 40_000),
    (Act::Wake, 40_000),
    (Act::Up(QoS::AtLeastOnce), 20_000),
    (Act::Down(QoS::ExactlyOnce), 1_000),
    (Act::Connect, 20_000),
    (Act::Sleep(60), 20_000),
    (Act::Move, 100),
    (Act::Down(QoS::AtLeastOnce), 100),
    (Act::Wake, 20_000),
    (Act::Connect, 20_000),
    (Act::Leave, 100_000),
    (Act::Up(QoS::ExactlyOnce), 20_000),
];

fn play(seed: u64, fate: Option<(usize, Fate)>) -> Run {
    let mut run = Run::new(seed, Wire { fate, ..Wire::GOOD });
    for (act, gap) in SCRIPT {
        run.act(*act);
        run.pass(*gap);
    }
    run.end();
    run
}

/// Every datagram of the undisturbed run meets this fate in a run of its own.
fn each(fate: Fate) {
    for seed in [1, 2, 5] {
        let count = {
            let mut run = Run::new(seed, Wire::GOOD);
            for (act, gap) in SCRIPT {
                run.act(*act);
                run.pass(*gap);
            }
            run.world.counted
        };
        assert!(count > 60, "{count} datagrams");
        for number in 0..count {
            let done = std::panic::catch_unwind(|| play(seed, Some((number, fate))));
            assert!(
                done.is_ok(),
                "datagram {number} of {count}, {fate:?}, seed {seed}"
            );
            assert_eq!(
                done.unwrap().losses(),
                0,
                "datagram {number}, {fate:?}: a will"
            );
        }
    }
}

#[test]
fn each_datagram_lost_once() {
    each(Fate::Lost);
}

#[test]
fn each_datagram_doubled_once() {
    each(Fate::Doubled);
}

#[test]
fn each_datagram_late_once() {
    each(Fate::Late(900));
}
