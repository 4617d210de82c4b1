//! Scripts by seed: 30 % of the datagrams lost, some doubled, all of different speed.
//!
//! `NIGHTJAR_SN_SEEDS=100000` runs more of them, `NIGHTJAR_SN_SEED=7` runs one and prints what went over its wire.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::script::Run;
use crate::world::Wire;

const SEEDS: u64 = 1000;
const ACTS: usize = 45;

const BAD: Wire = Wire {
    lost_percent: 30,
    doubled_percent: 15,
    delay: (5, 700),
    fate: None,
};

/// What the runs of some seeds met, added up.
#[derive(Debug, Default)]
struct Met {
    losses: usize,
    repeats: u64,
    wakes: u64,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed; what failed, if something did.
fn run(seed: u64, met: &mut Met) -> Result<(), String> {
    let print = number("NIGHTJAR_SN_SEED").is_some();
    let mut run = Run::new(seed, BAD);
    let done = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..ACTS {
            let act = run.random_act();
            run.world.note_act(&act);
            run.act(act);
            let gap = run.random_gap();
            run.pass(gap);
        }
        run.end();
    }));
    if print {
        println!("{}", run.world.trace.join("\n"));
    }
    match done {
        Ok(()) => {
            met.losses += run.losses();
            met.repeats += run.repeats();
            met.wakes += run.wakes();
            Ok(())
        }
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()),
    }
}

fn run_all(part: u64, of: u64) {
    if let Some(seed) = number("NIGHTJAR_SN_SEED") {
        if seed % of == part {
            run(seed, &mut Met::default()).unwrap();
        }
        return;
    }
    let seeds = number("NIGHTJAR_SN_SEEDS").unwrap_or(SEEDS);
    let mut met = Met::default();
    let mut failed = Vec::new();
    for seed in (0..seeds).filter(|seed| seed % of == part) {
        if let Err(why) = run(seed, &mut met) {
            failed.push(format!("seed {seed}: {why}"));
        }
    }
    println!("{met:?}");
    assert!(
        failed.is_empty(),
        "{} of {} seeds failed (NIGHTJAR_SN_SEED=n prints what went over the wire of one):\n{}",
        failed.len(),
        seeds / of,
        failed[..failed.len().min(30)].join("\n")
    );
    // The wire was bad, clients were lost, and sleepers woke.
    let runs = seeds / of;
    assert!(met.repeats > runs, "{met:?}");
    assert!(met.wakes > runs / 2, "{met:?}");
    assert!(met.losses as u64 > runs / 10, "{met:?}");
}

#[test]
fn even_seeds_lose_no_qos_1_double_no_qos_2_and_fire_each_will_once() {
    run_all(0, 2);
}

#[test]
fn odd_seeds_lose_no_qos_1_double_no_qos_2_and_fire_each_will_once() {
    run_all(1, 2);
}
