//! Power loss at any moment: what was acknowledged is there after it, in order, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nightjar_broker::shard::{RetainedEntry, SessionEntry};
use nightjar_broker::{Completion, DurableStore, MessageHead, Progress, Ticket, Timestamp};
use nightjar_cluster::{MetaEntry, NodeStore};
use nightjar_mqtt::{QoS, TopicName};
use parking_lot::Mutex;

use crate::disk::{Dice, SimDisk};
use crate::kit::*;

const CLIENTS: usize = 4;

/// What was asked for, and how far it is.
#[derive(Default)]
struct History {
    /// For each client, its publishes in order.
    publishes: Vec<Vec<Ticket>>,
    /// Pairs to two shards at once.
    pairs: Vec<Ticket>,
    retained: Vec<Ticket>,
    meta: Vec<Ticket>,
}

/// How many of each were acknowledged when the power went, and how many asked for.
#[derive(Debug)]
struct Counts {
    publishes: Vec<(Vec<bool>, usize)>,
    pairs: Vec<bool>,
    retained: usize,
    meta: usize,
}

fn acknowledged(tickets: &[Ticket]) -> Vec<bool> {
    tickets
        .iter()
        .map(|ticket| ticket.poll(None) == Progress::Done)
        .collect()
}

fn last(tickets: &[Ticket]) -> usize {
    acknowledged(tickets)
        .iter()
        .rposition(|done| *done)
        .map_or(0, |at| at + 1)
}

fn client(number: usize) -> String {
    format!("client-{number}")
}

fn retained(value: usize) -> RetainedEntry {
    let head = MessageHead {
        topic: TopicName::new("state").unwrap(),
        qos: QoS::AtLeastOnce,
        retain: true,
        publisher: None,
        received_at: Timestamp(1),
        expires_at: None,
        properties: None,
    };
    RetainedEntry::Set(nightjar_broker::Message::new(
        head,
        value.to_string().as_bytes(),
    ))
}

/// Runs a store under load and cuts the power; true result: everything acknowledged was there.
fn run(seed: u64, lies: bool) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let root = Dir::new("crash");
    let after = Dir::new("after");
    let sim = SimDisk::new();
    let mut settings = config(&root);
    settings.log_limit = 20_000 + dice.below(60_000);
    settings.file_size = 8_192 + dice.below(30_000);
    let store = NodeStore::open_on(&settings, &sim.disk()).map_err(|e| e.to_string())?;
    started(&store);
    for number in 0..CLIENTS {
        subscriber(&store, &client(number), &format!("to/{number}/#"));
    }
    assert_eq!(
        [0, 1].map(|shard| (0..CLIENTS).any(|n| store.shard_of(&client(n)) == shard)),
        [true, true],
        "the clients use both groups"
    );
    sim.0.lies.store(lies, Ordering::Relaxed);

    let history = Arc::new(Mutex::new(History {
        publishes: vec![Vec::new(); CLIENTS],
        ..History::default()
    }));
    let stop = AtomicBool::new(false);
    let store = &store;
    let counts = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (history, stop) = (&history, &stop);
            scope.spawn(move || {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A window, so that the log is not one batch.
                    let open = history.lock().publishes[number]
                        .iter()
                        .rev()
                        .take(20)
                        .filter(|ticket| ticket.is_pending())
                        .count();
                    if open >= 20 {
                        std::thread::sleep(Duration::from_micros(100));
                        continue;
                    }
                    let payload = format!("{sent:06}{}", "x".repeat(sent % 300));
                    let mut history = history.lock();
                    let ticket =
                        publish(store, &client(number), &format!("to/{number}/a"), &payload);
                    history.publishes[number].push(ticket);
                    sent += 1;
                }
            });
        }
        {
            let (history, stop) = (&history, &stop);
            scope.spawn(move || {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut entries = nightjar_broker::Batches::new();
                    for number in 0..CLIENTS {
                        let entry = SessionEntry::Publish(message(
                            &format!("to/{number}/pair"),
                            &format!("pair{sent:06}"),
                        ));
                        let shard = store.shard_of(&client(number));
                        match entries.iter_mut().find(|(have, _)| *have == shard) {
                            Some((_, list)) => list.push(entry),
                            None => entries.push((shard, vec![entry])),
                        }
                    }
                    let stall = Completion::new(1);
                    let pair = store.submit_all(entries, &stall, &mut |_| {});
                    let set = store.retain(retained(sent));
                    let put = store.put_meta(MetaEntry::Put {
                        key: "count".to_owned(),
                        value: sent.to_string().into_bytes(),
                    });
                    {
                        let mut history = history.lock();
                        history.pairs.push(pair.clone());
                        history.retained.push(set);
                        history.meta.push(put);
                    }
                    sent += 1;
                    wait(&pair);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(20 + dice.below(120)));
        if dice.below(2) == 0 {
            // Often enough in the middle of a snapshot and what it removes.
            let order = scope.spawn(|| store.snapshot());
            std::thread::sleep(Duration::from_micros(dice.below(20_000)));
            drop(order);
        }
        // First what was acknowledged, then the power goes.
        let counts = {
            let history = history.lock();
            let counts = Counts {
                publishes: history
                    .publishes
                    .iter()
                    .map(|tickets| (acknowledged(tickets), tickets.len()))
                    .collect(),
                pairs: acknowledged(&history.pairs),
                retained: last(&history.retained),
                meta: last(&history.meta),
            };
            sim.crash(&root, &after, &mut dice);
            counts
        };
        stop.store(true, Ordering::Relaxed);
        counts
    });
    store.close();
    let total: usize = counts.publishes.iter().map(|(_, sent)| sent).sum();
    if total < 20 {
        return Err(format!("only {total} publishes: the test proves nothing"));
    }
    verify(&after, &settings, &counts)
}

fn verify(
    dir: &std::path::Path,
    settings: &nightjar_cluster::StoreConfig,
    counts: &Counts,
) -> Result<(), String> {
    let mut settings = settings.clone();
    settings.dir = dir.to_owned();
    let store = NodeStore::open(&settings).map_err(|error| error.to_string())?;
    let mut pairs: BTreeMap<String, usize> = BTreeMap::new();
    for (number, (acked, sent)) in counts.publishes.iter().enumerate() {
        let name = client(number);
        let (pair, own): (Vec<_>, Vec<_>) = queue(&store, &name)
            .into_iter()
            .partition(|payload| payload.starts_with("pair"));
        for payload in pair {
            *pairs.entry(payload).or_default() += 1;
        }
        let numbers: Vec<usize> = own
            .iter()
            .map(|payload| payload[..6].parse().unwrap())
            .collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            return Err(format!("{name}: out of order or twice"));
        }
        if numbers.last().is_some_and(|last| last >= sent) {
            return Err(format!("{name}: never sent"));
        }
        for (at, payload) in numbers.iter().zip(&own) {
            if payload.len() != 6 + at % 300 {
                return Err(format!("{name}: {at} is not what was sent"));
            }
        }
        for (at, done) in acked.iter().enumerate() {
            if *done && numbers.binary_search(&at).is_err() {
                return Err(format!("{name}: {at} was acknowledged and is lost"));
            }
        }
    }
    for (at, done) in counts.pairs.iter().enumerate() {
        match pairs.get(&format!("pair{at:06}")) {
            Some(&CLIENTS) => {}
            None if !done => {}
            found => return Err(format!("pair {at} ({done}): {found:?} of {CLIENTS}")),
        }
    }
    let mut value = None;
    store.read_retained("state", Timestamp(2), &mut |message| {
        value = String::from_utf8(message.payload().to_vec())
            .unwrap()
            .parse::<usize>()
            .ok();
    });
    if value.map_or(0, |value| value + 1) < counts.retained {
        return Err(format!(
            "retained {value:?}, acknowledged {}",
            counts.retained
        ));
    }
    let value = store
        .meta("count")
        .and_then(|value| String::from_utf8(value).ok()?.parse::<usize>().ok());
    if value.map_or(0, |value| value + 1) < counts.meta {
        return Err(format!("meta {value:?}, acknowledged {}", counts.meta));
    }
    let report = nightjar_cluster::check(dir).map_err(|error| error.to_string())?;
    if !report.problems.is_empty() {
        return Err(report.text);
    }
    Ok(())
}

#[test]
fn power_loss_loses_nothing_acknowledged() {
    // More of them on request: NIGHTJAR_CRASH_SEEDS=first-last.
    let asked = std::env::var("NIGHTJAR_CRASH_SEEDS").ok();
    let (first, last) = asked
        .as_deref()
        .and_then(|text| text.split_once('-'))
        .map_or((1, 25), |(first, last)| {
            (first.parse().unwrap(), last.parse().unwrap())
        });
    for seed in first..=last {
        if let Err(what) = run(seed, false) {
            panic!("seed {seed}: {what}");
        }
    }
}

/// The same test with syncs that do nothing must fail: else it proves nothing about them.
#[test]
fn without_syncs_the_same_test_finds_the_loss() {
    for seed in 1..=5 {
        let what = run(seed, true).expect_err("something was lost");
        // Lost and noticed by the store itself, or by the checker.
        let lost = ["acknowledged", "is damaged", "missing"];
        assert!(
            lost.iter().any(|word| what.contains(word)),
            "seed {seed}: {what}"
        );
    }
}
