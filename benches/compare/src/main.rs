//! Starts Nightjar and the other brokers this machine has, drives all with the same generator in turns, and prints what
//! a delivered message and an idle client cost each of them.
//!
//! CPU is the broker process's own (all threads; all processes where there are several), so that a busy machine moves
//! the figures little; ratios are taken within a round. `README.md` beside this crate says how to read the tables.

#![forbid(unsafe_code)]

mod broker;
mod clients;
mod floor;
mod idle;
mod load;
mod options;
mod packet;
mod picture;
mod process;
mod report;
mod storm;
mod workload;

use broker::{Broker, Kind};
use options::Options;
use report::Report;
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use workload::{Drive, Transport};

/// How long clients drive before the measured time begins.
const WARM: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["echo"] => floor::serve(false),
        ["relay"] => floor::serve(true),
        words => Options::parse(words)
            .map_err(io::Error::other)
            .and_then(|options| run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// All of it: traffic first, then the idle memory of fresh brokers.
fn run(options: &Options) -> io::Result<()> {
    let mut brokers = Vec::new();
    for kind in options.brokers() {
        match Broker::start(&kind, options) {
            Ok(broker) => brokers.push(broker),
            Err(error) if options.named(&kind) => return Err(error),
            Err(error) => eprintln!("{} is left out: {error}", kind.name()),
        }
    }
    let mut report = Report::new(options, &brokers);
    for workload in &workload::all() {
        if !options.wants(&workload.name) {
            continue;
        }
        for round in 0..options.rounds {
            for turn in 0..brokers.len() {
                // Each round begins at another broker: a slow moment of the machine hits them in turn.
                let broker = &brokers[(turn + round) % brokers.len()];
                if !workload.suits(broker) {
                    continue;
                }
                let outcome = match workload.drive {
                    Drive::Connect(transport, count) => {
                        storm::connect(broker, options, transport, count)
                    }
                    Drive::Retained(count) => storm::retained(broker, count, workload.payload),
                    Drive::Saturate { .. } | Drive::Pace { .. } => {
                        load::run(broker, workload, WARM, options.measured)
                    }
                };
                match outcome {
                    Ok(outcome) => report.add(workload, &broker.kind, round, outcome),
                    Err(error) => {
                        eprintln!("{}: {}: {error}", workload.name, broker.kind.name());
                        report.failed(workload, &broker.kind);
                    }
                }
            }
        }
        report.print(workload);
    }
    drop(brokers);
    if options.wants("idle") {
        for kind in options.brokers().into_iter().filter(|kind| {
            !matches!(
                kind,
                Kind::Echo | Kind::Relay | Kind::NightjarOneWorker | Kind::MosquittoKept
            )
        }) {
            let mut broker = match Broker::start(&kind, options) {
                Ok(broker) => broker,
                Err(_) if !options.named(&kind) => continue,
                Err(error) => return Err(error),
            };
            report.idle(kind.name(), idle::measure(&broker, &options.idle)?);
            for (transport, name) in [(Transport::Tls, "TLS"), (Transport::Ws, "WS")] {
                if broker.port(transport).is_none() {
                    continue;
                }
                drop(broker);
                broker = Broker::start(&kind, options)?;
                let idle = idle::measure_by_bench(&broker, options, transport)?;
                report.idle(&format!("{} {name}", kind.name()), idle);
            }
        }
        report.print_idle(&options.idle);
    }
    report.save()
}
