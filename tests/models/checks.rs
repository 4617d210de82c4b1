//! Takeover between nodes, leases and the SUBACK barrier in every order of events.
//!
//! Each model runs as shipped, where nothing may be found, and broken in the ways that its mechanism is there to
//! prevent, where something must be found: a model that cannot fail shows nothing.

mod barrier;
mod lease;
mod takeover;

/// As shipped: the nodes as the log knows them.
#[path = "../../cluster/src/member/nodes.rs"]
#[allow(dead_code, reason = "the models need a part of it")]
mod nodes;
/// As shipped: a node's lease, and what the leader knows of all.
#[path = "../../cluster/src/node/lease.rs"]
#[allow(dead_code, reason = "the models need a part of it")]
mod shipped_lease;

use stateright::{Checker, Model};

/// States a check may look into: each takes seconds.
const STATES: usize = 8_000_000;

/// Looks into all states of a model; what it found that must not be, or misses that must.
fn check<M>(model: M) -> Vec<&'static str>
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + Clone + std::hash::Hash + Send + Sync + PartialEq + 'static,
    M::Action: std::fmt::Debug + Clone + PartialEq + 'static,
{
    use stateright::Expectation;
    let properties: Vec<_> = model.properties();
    let begin = std::time::Instant::now();
    let checker = model
        .checker()
        .threads(2)
        .target_state_count(STATES)
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    let found = checker.discoveries();
    let mut wrong = Vec::new();
    for property in properties {
        let seen = found.get(property.name);
        let bad = match property.expectation {
            Expectation::Sometimes => seen.is_none(),
            Expectation::Always | Expectation::Eventually => seen.is_some(),
        };
        if bad {
            wrong.push(property.name);
            if let Some(path) = seen {
                println!("{}:\n{path}", property.name);
            }
        }
    }
    println!("{states} states, {:?}, wrong: {wrong:?}", begin.elapsed());
    assert!(
        checker.state_count() < STATES,
        "the model is not bounded: {states} states"
    );
    wrong
}
