//! The order of things: rounds of all workloads, each with fresh brokers in turns, and the memory of idle clients once.

use crate::broker::{Broker, Kind};
use crate::idle;
use crate::load::{self, Outcome};
use crate::options::Options;
use crate::report::Report;
use crate::storm;
use crate::workload::{self, Drive, Transport, Workload};
use std::io;
use std::time::{Duration, Instant};

/// How long clients drive before the measured time begins.
const WARM: Duration = Duration::from_millis(300);
/// So many times as long as the others are rows measured that keep a pace.
pub const PACED: u32 = 4;

/// All of it. What is done is written after each row, so that a run that is broken off keeps it.
pub fn run(options: &Options) -> io::Result<()> {
    let workloads: Vec<Workload> = workload::all()
        .into_iter()
        .filter(|workload| options.wants(&workload.name))
        .collect();
    let mut report = Report::new(options);
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    for round in 0..options.rounds {
        if workloads.is_empty()
            || options
                .limit
                .is_some_and(|limit| round > 0 && begin.elapsed() + longest > limit)
        {
            break;
        }
        let began = Instant::now();
        one_round(options, &workloads, round, &mut report)?;
        longest = longest.max(began.elapsed());
        report.round_is_done(round);
        report.save()?;
        eprintln!("round {} took {:.0?}", round + 1, began.elapsed());
        if round == 0 && options.wants("idle") {
            measure_idle(options, &mut report)?;
        }
    }
    if workloads.is_empty() && options.wants("idle") {
        measure_idle(options, &mut report)?;
    }
    report.save()?;
    print!("{}", report.text());
    Ok(())
}

/// Each workload once with each broker. Each round has fresh brokers: what one leaves behind is in no other round.
fn one_round(
    options: &Options,
    workloads: &[Workload],
    round: usize,
    report: &mut Report,
) -> io::Result<()> {
    let mut brokers = Vec::new();
    for kind in options.brokers() {
        // Three nodes do not idle beside all other rows.
        if kind != Kind::NightjarCluster {
            brokers.extend(start(&kind, options, report)?);
        }
    }
    for workload in workloads {
        if workload.spread
            && !brokers
                .iter()
                .any(|broker| broker.kind == Kind::NightjarCluster)
        {
            if options.brokers().contains(&Kind::NightjarCluster) {
                brokers.extend(start(&Kind::NightjarCluster, options, report)?);
            }
        } else if !workload.spread {
            brokers.retain(|broker| broker.kind != Kind::NightjarCluster);
        }
        let began = Instant::now();
        let mut times = String::new();
        for turn in 0..brokers.len() {
            // Each round begins at another broker: a slow moment of the machine hits them in turn.
            let at = (turn + round) % brokers.len();
            let kind = brokers[at].kind.clone();
            if let Err(why) = workload.suits(&brokers[at]) {
                report.not_run(workload, &kind, why);
                continue;
            }
            if report.gives_up(workload, &kind) {
                continue;
            }
            let turn_began = Instant::now();
            match drive(&brokers[at], options, workload, round) {
                Ok(outcome) => report.add(workload, &kind, round, outcome),
                Err(error) => {
                    eprintln!("{}: {}: {error}", workload.name, kind.name());
                    report.failed(workload, &kind, &error);
                    // It may be in any state.
                    if let Some(fresh) = start(&kind, options, report)? {
                        brokers[at] = fresh;
                    }
                }
            }
            times.push_str(&format!(
                " {} {:.1}",
                kind.name(),
                turn_began.elapsed().as_secs_f64()
            ));
        }
        report.save()?;
        let name = workload.name.split(':').next().unwrap_or_default();
        eprintln!(
            "round {}: {name} in {:.1?}:{times}",
            round + 1,
            began.elapsed()
        );
    }
    Ok(())
}

/// Starts a broker; one that is not installed is left out unless it was asked for by name.
fn start(kind: &Kind, options: &Options, report: &mut Report) -> io::Result<Option<Broker>> {
    match Broker::start(kind, options) {
        Ok(broker) => {
            report.knows(&broker);
            Ok(Some(broker))
        }
        Err(error) if options.named(kind) => Err(error),
        Err(error) => {
            eprintln!("{} is left out: {error}", kind.name());
            Ok(None)
        }
    }
}

fn drive(
    broker: &Broker,
    options: &Options,
    workload: &Workload,
    round: usize,
) -> io::Result<Outcome> {
    match workload.drive {
        Drive::Connect(transport, count) => storm::connect(broker, options, transport, count),
        Drive::Retained(count) => storm::retained(broker, count, workload.payload),
        Drive::Saturate { .. } | Drive::Pace { .. } => load::run(
            broker,
            workload,
            WARM.min(options.measured),
            measured(workload, options),
            round < options.half,
        ),
    }
}

/// How long a row is measured. A pace is few messages, and a broker that rests between them is at the mercy of who wakes it.
fn measured(workload: &Workload, options: &Options) -> Duration {
    match workload.drive {
        Drive::Pace { .. } => options.measured * PACED,
        _ => options.measured,
    }
}

/// Resident memory of idle clients, a fresh broker for each line.
fn measure_idle(options: &Options, report: &mut Report) -> io::Result<()> {
    for kind in options.brokers() {
        let part = !kind.is_floor()
            && !matches!(
                kind,
                Kind::NightjarOneWorker | Kind::NightjarCluster | Kind::MosquittoKept
            );
        if !part {
            continue;
        }
        let Some(broker) = start(&kind, options, report)? else {
            continue;
        };
        let others = [(Transport::Tls, "tls"), (Transport::Ws, "ws")]
            .map(|(transport, name)| (transport, name, broker.port(transport).is_some()));
        report.idle(kind.name(), idle::measure(&broker, &options.idle));
        drop(broker);
        for (transport, name, there) in others {
            if there && let Some(broker) = start(&kind, options, report)? {
                let idle = idle::measure_by_bench(&broker, options, transport);
                report.idle(&format!("{}-{name}", kind.name()), idle);
            }
        }
        if kind == Kind::Nightjar {
            for (name, in_turn) in [("nightjar-sn-asleep", false), ("nightjar-sn-in-turn", true)] {
                report.idle(name, idle::measure_asleep(options, in_turn));
            }
        }
        report.save()?;
    }
    Ok(())
}
