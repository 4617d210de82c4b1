//! The commands of this crate as a program of their own, to try them without the broker:
//! `cargo run -p nightjar-client --example tool -- sub -t '#' -v`.

use std::process::ExitCode;

use clap::Parser;
use nightjar_client::{BenchArgs, PubArgs, SubArgs, run_bench, run_pub, run_sub};

/// MQTT commands.
#[derive(Parser)]
enum Tool {
    Pub(Box<PubArgs>),
    Sub(Box<SubArgs>),
    Bench(Box<BenchArgs>),
}

fn main() -> ExitCode {
    match Tool::parse() {
        Tool::Pub(args) => run_pub(&args),
        Tool::Sub(args) => run_sub(&args),
        Tool::Bench(args) => run_bench(&args),
    }
}
