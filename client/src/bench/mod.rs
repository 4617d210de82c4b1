//! The load generator: `bench conn|pub|sub|pair|fanout|sn`, against any broker.
//!
//! - [`args`]: flags; [`plan`]: what they mean, and what clients share; [`limits`]: what the machine
//!   allows;
//! - [`runner`]: threads and phases; [`client`]: one client, with a [`publisher`] and a
//!   [`subscriber`] half;
//! - [`sn`]: sensors that speak MQTT-SN;
//! - [`clock`]: time and the stamp in a payload; [`histogram`], [`stats`], [`report`]: the figures.
//!
//! A run has phases: clients connect and subscribe; publishers publish; what is on its way arrives;
//! clients disconnect. Latency is the time from the stamp in the payload to the read that brought it,
//! and a message held up by a full window or socket counts from when it was due.

pub mod args;
pub mod client;
pub mod clock;
pub mod histogram;
pub mod limits;
pub mod plan;
pub mod publisher;
pub mod report;
pub mod runner;
pub mod sn;
pub mod stats;
pub mod subscriber;

use std::process::ExitCode;

pub use args::{BenchArgs, BenchCommand, BenchKind};
pub use report::Report;

/// Runs a bench and prints its report. Exits with 1 where connections, acknowledgements or QoS 1 and 2
/// messages were lost, and where the run could not begin.
pub fn run_bench(args: &BenchArgs) -> ExitCode {
    match &args.kind {
        BenchKind::Mqtt(command) => finish(
            runner::run(command),
            command.common().json,
            Report::text,
            Report::has_failed,
        ),
        BenchKind::Sn(bench) => finish(
            sn::run(bench),
            bench.json,
            sn::SnReport::text,
            sn::SnReport::has_failed,
        ),
    }
}

/// Prints a report; the exit code.
fn finish<R: serde::Serialize>(
    report: crate::error::Result<R>,
    json: bool,
    text: impl Fn(&R) -> String,
    has_failed: impl Fn(&R) -> bool,
) -> ExitCode {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("Error: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    if json {
        let json = serde_json::to_string_pretty(&report).expect("numbers and strings serialize");
        println!("{json}");
    } else {
        print!("{}", text(&report));
    }
    ExitCode::from(u8::from(has_failed(&report)))
}
