//! Clusters of three and five nodes in one thread, on a network, disks and a clock that are simulated: by seed, nodes
//! lose power (and what they had not synced), networks part, lose what goes one way or are slow, nodes stand still. The
//! links, leases, consensus, log and routes are the shipped ones; see [`ground`] for what is in the place of sockets and
//! threads.
//!
//! `NIGHTJAR_SIM_SEED=7` runs that seed alone (`7-99`: those), `NIGHTJAR_SIM_TELL=1` tells what happens meanwhile.
//!
//! From the seed come the faults, what clients do, delays of messages and of writes, and what a crash leaves of the disk.
//! Not from it: the election timeouts of consensus, which branch a `select!` looks at first, and the order of hash
//! tables. So a seed that fails fails often, not always: what is checked never depends on it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test"
)]

mod clients;
#[path = "../it/disk.rs"]
mod disk;
mod faults;
mod ground;
mod history;
mod node;
mod run;
mod world;

use faults::Fault;
use run::{Plan, run};

/// Runs the seeds one after the other, or those that were asked for.
fn seeds(name: &str, fixed: std::ops::RangeInclusive<u64>, plan: impl Fn(u64) -> Plan) {
    let asked = std::env::var("NIGHTJAR_SIM_SEED").ok();
    let seeds = match asked
        .as_deref()
        .map(|text| text.split_once('-').unwrap_or((text, text)))
    {
        Some((first, last)) => first.parse().unwrap()..=last.parse().unwrap(),
        None => fixed,
    };
    let mut failed = Vec::new();
    for seed in seeds {
        if let Err(what) = run(seed, &plan(seed)) {
            eprintln!(
                "{name}, seed {seed}:\n{what}\nagain: NIGHTJAR_SIM_SEED={seed} cargo test -p nightjar-cluster --test simulation {name}\n"
            );
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}

#[test]
fn three_nodes_keep_their_word() {
    seeds("three_nodes_keep_their_word", 1..=4, |_| Plan::of(3, 3));
}

#[test]
fn five_nodes_keep_their_word() {
    seeds("five_nodes_keep_their_word", 1..=2, |seed| {
        Plan::of(5, if seed % 2 == 0 { 5 } else { 3 })
    });
}

/// The entries that followers had from the leader before its own disk had them are not given to others when it comes
/// back at once: it does not lead on in its term.
#[test]
fn a_leader_that_lost_its_last_entries_does_not_lead_on() {
    let crash = [
        (500, 1500, Fault::Disk(0, 900)),
        (1000, 50, Fault::Crash(vec![0])),
        (3000, 1500, Fault::Disk(0, 900)),
        (1000, 50, Fault::Crash(vec![0])),
    ];
    let plan = Plan {
        script: crash.to_vec(),
        ..Plan::of(3, 3)
    };
    for seed in 1..=2 {
        run(seed, &plan).unwrap();
    }
}

/// Wills of a node that dies come within 10 s, also when it led.
#[test]
fn wills_of_a_dead_node_come_within_ten_seconds() {
    let crash = |node| (22_000, 12_000, Fault::Crash(vec![node]));
    let plan = Plan {
        script: vec![crash(0), crash(1), crash(2)],
        mortals: 12,
        ..Plan::of(3, 3)
    };
    let timed = run(1, &plan).unwrap();
    assert!(timed > 0, "no will was looked at");
}

/// A leader that is without a lease itself when it ends the incarnations of others publishes their wills when it is back:
/// the second node dies while the first is down.
#[test]
fn a_leader_that_was_out_does_what_it_owes() {
    let crash = |node| (8000, 12_000, Fault::Crash(vec![node]));
    let plan = Plan {
        script: vec![crash(0), crash(1), crash(2)],
        mortals: 12,
        ..Plan::of(3, 3)
    };
    run(1, &plan).unwrap();
}

/// A node that was put out, its process going on, serves again only when it knows what was subscribed to meanwhile: nobody
/// waited for it.
#[test]
fn a_node_that_comes_back_knows_what_was_subscribed_to_meanwhile() {
    let deaf = |node, other| (2500, 8200, Fault::Deaf(node, vec![other]));
    let plan = Plan {
        script: vec![deaf(2, 0), deaf(1, 2), deaf(0, 1)],
        ..Plan::of(3, 3)
    };
    for seed in 1..=2 {
        run(seed, &plan).unwrap();
    }
}

/// The same simulation on disks that sync nothing must fail: else it proves nothing about them.
#[test]
fn disks_that_do_not_sync_are_found_out() {
    for seed in 1..=2 {
        let plan = Plan {
            lies: true,
            ..Plan::of(3, 3)
        };
        let what = run(seed, &plan).expect_err("something was lost");
        assert!(
            [
                "does not come back",
                "lost",
                "is gone",
                "not all nodes serve"
            ]
            .iter()
            .any(|word| what.contains(word)),
            "{what}"
        );
    }
}
